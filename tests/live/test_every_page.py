"""Every page in every state in a real Chromium, by day and by night, on phones and on desks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import axe
import pytest
import test_browser
from live_server import ROOT
from pages import STATES, State
from places import Place, Tab, places

pytestmark = [pytest.mark.browser, pytest.mark.slow]

chromium = test_browser.chromium

WINDOWS = [(width, scheme) for width in (320, 1280) for scheme in ("light", "dark")]
#: Pages that are themselves about what went wrong.
PROBLEMS = {"busy", "error", "too_many"}

# What can be pressed or typed in and is seen, with its height and width, and the size of its text.
_CONTROLS = """() => [...document.querySelectorAll("a, button, input, select, textarea")]
    .filter(one => one.checkVisibility() && !one.closest(".af-hidden"))
    .map(one => {
        const boxes = [...one.getClientRects()]
        return {
            what: one.outerHTML.slice(0, 120),
            kind: one.matches("input:not([type=checkbox], [type=radio]), select, textarea") ? "field"
                : one.matches("button, .af-button") ? "button" : "other",
            height: Math.min(...boxes.map(box => box.height)),
            width: Math.max(...boxes.map(box => box.width)),
            font: parseFloat(getComputedStyle(one).fontSize),
        }
    })"""


@dataclass
class Sight:
    """What was seen of a page in a state."""

    state: State
    #: What the browser said of it, and what was asked for in vain or elsewhere.
    complaints: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    title: str = ""
    focused: str = ""
    #: By window.
    violations: dict[tuple[int, str], list[str]] = field(default_factory=dict)
    overflow: dict[tuple[int, str], int] = field(default_factory=dict)
    controls: dict[tuple[int, str], list[dict[str, Any]]] = field(default_factory=dict)


class Watcher:
    """A tab of somebody who looks at every page, at the console, and at what is loaded."""

    def __init__(self, context: Any, *, scripts: bool) -> None:
        self._tab = Tab(context, scripts=scripts)
        self._page = self._tab.page
        self._base_url = ""
        self._complaints: list[str] = []
        self._page.on("console", self._hear)
        self._page.on("pageerror", lambda error: self._complaints.append(str(error)))
        self._page.on("requestfailed", lambda request: self._complaints.append(f"failed: {request.url}"))
        self._page.on("request", self._see_request)

    def _hear(self, message: Any) -> None:
        # Chromium mentions every page with a status of 4xx; these are meant.
        if "Failed to load resource" not in message.text or message.location["url"] != self._page.url:
            self._complaints.append(message.text)

    def _see_request(self, request: Any) -> None:
        if not request.url.startswith((f"{self._base_url}/", "data:")):
            self._complaints.append(f"loaded from elsewhere: {request.url}")

    def look(self, state: State, place: Place) -> Sight:
        """Go to a state, and look at it through all windows."""
        self._complaints, self._base_url = [], place.base_url
        self._tab.visit(state, place)
        sight = Sight(state)
        sight.headings = self._page.locator("h1").all_inner_texts()
        sight.title = self._page.title()
        sight.focused = self._page.evaluate("document.activeElement.getAttribute('role') ?? ''")
        for width, scheme in WINDOWS:
            self._page.set_viewport_size({"width": width, "height": 800})
            self._page.emulate_media(color_scheme=scheme)
            sight.overflow[width, scheme] = self._page.evaluate("document.documentElement.scrollWidth") - width
            sight.controls[width, scheme] = self._page.evaluate(_CONTROLS)
            sight.violations[width, scheme] = axe.violations(self._page)
        sight.complaints = self._complaints
        return sight


@pytest.fixture(scope="module", params=[True, False], ids=["scripts", "plain"])
def sights(request: pytest.FixtureRequest, chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What was seen of every page in every state, with JavaScript and without."""
    # A colour that changes slowly would be measured on its way.
    context = chromium.new_context(reduced_motion="reduce")
    context.set_default_timeout(10_000)
    watcher = Watcher(context, scripts=request.param)
    with places(tmp_path_factory.mktemp("places")) as found:
        yield [watcher.look(state, found.of(state)) for state in STATES]
    context.close()


def test_axe_finds_nothing(sights: list[Sight]) -> None:
    """axe-core finds no page that breaks a rule of WCAG 2.2 AA or of its own, in any window."""
    found = {(one.state.name, *window): lines for one in sights for window, lines in one.violations.items()}

    assert len(found) == len(STATES) * len(WINDOWS)
    assert {where: lines for where, lines in found.items() if lines} == {}


def test_browsers_have_nothing_to_complain_about(sights: list[Sight]) -> None:
    """No page says anything on the console, breaks its CSP, or loads something in vain or from elsewhere."""
    assert {one.state.name: one.complaints for one in sights if one.complaints} == {}


def test_every_page_fits(sights: list[Sight]) -> None:
    """No page has to be scrolled sideways, on no phone and on no desk."""
    found = {(one.state.name, *window): more for one in sights for window, more in one.overflow.items()}

    assert {where: more for where, more in found.items() if more > 0} == {}


def test_a_thumb_finds_every_control(sights: list[Sight]) -> None:
    """Buttons and fields are 48 pixels high, and whatever else is pressed has 24 pixels both ways."""
    small = [
        (one.state.name, window, control)
        for one in sights
        for window, controls in one.controls.items()
        for control in controls
        if control["height"] < (24 if control["kind"] == "other" else 48) or control["width"] < 24
    ]

    assert small == []


def test_phones_do_not_zoom_into_fields(sights: list[Sight]) -> None:
    """What is typed stands in letters of 16 pixels at least, below which iPhones zoom into the field."""
    controls = [one for sight in sights for found in sight.controls.values() for one in found]

    assert len([one for one in controls if one["kind"] == "field"]) > len(STATES)
    assert [one for one in controls if one["kind"] == "field" and one["font"] < 16] == []


def test_the_title_says_the_heading(sights: list[Sight]) -> None:
    """Every page has one heading of the first rank, and its title says it, the site, and whether something is wrong."""
    for one in sights:
        says = "Error: " if one.state.refuses or one.state.template in PROBLEMS else ""
        assert [f"{says}{heading} – Shop" for heading in one.headings] == [one.title], one.state.name


def test_faults_are_read_out_first(sights: list[Sight]) -> None:
    """Where fields are refused the list of faults has the focus, also without JavaScript; nothing else ever has."""
    found = {one.state.name: one.focused for one in sights}

    assert found == {state.name: "alert" if state.refuses else "" for state in STATES}


def test_the_contact_sheet_shows_pages_and_mails(chromium: Any, tmp_path: Path) -> None:
    """The tool for the contact sheet writes a picture of the pages and mails that it is asked for."""
    file = tmp_path / "sheet.png"

    tool = [sys.executable, "-W", "error", "tools/contact_sheet.py", str(file), "signup", "no_account"]
    done = subprocess.run(tool, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    page = chromium.new_page()
    page.goto(file.as_uri())
    width, height = page.evaluate("[document.images[0].naturalWidth, document.images[0].naturalHeight]")
    page.close()
    assert width > 3000
    assert height >= 600
