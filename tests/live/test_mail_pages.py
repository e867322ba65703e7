"""The developer's pages and every mail in a real Chromium, on phones and on desks, by day and by night.

With ``ACCOUNTFLOW_TEST_SCREENSHOTS`` set, a picture of every page is saved in that folder.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import test_browser
from support import Site
from test_browser import LOOKS, Look, Window
from werkzeug.serving import make_server

from flask_accountflow.languages import LANGUAGES

pytestmark = [pytest.mark.browser, pytest.mark.slow]

chromium = test_browser.chromium

OpenWindow = Callable[[Look], Window]


class Developer:
    """A site in debug that mails have been sent from, and its address."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(f"sqlite:///{folder / 'site.db'}", {"DEBUG": True, "ACCOUNTFLOW_LANGUAGES": ["en", "de"]})
        self.site.program().signup("ada@example.com")
        self.site.program().signup(f"{'a-long-address-' * 4}a@{'a-long-domain-' * 4}a.example")
        self._server = make_server("127.0.0.1", 0, self.site.app, threaded=True)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def names(self) -> list[str]:
        """The names of all mails."""
        found: list[str] = self.site.app.extensions["accountflow_previews"].names()
        return found

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.site.close()


@pytest.fixture(scope="module")
def developer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Developer]:
    """A developer's own site, served on this computer."""
    made = Developer(tmp_path_factory.mktemp("developer"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def open_window(chromium: Any, developer: Developer, request: pytest.FixtureRequest) -> Iterator[OpenWindow]:
    """Return a function that opens windows. None of them may have had anything to complain about."""
    opened: list[Window] = []

    def open_one(look: Look) -> Window:
        story = str(request.node.originalname).removeprefix("test_")
        opened.append(Window(chromium, developer, look, f"{story}-{len(opened) + 1}"))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for window in opened:
        window.context.close()
    assert [window.complaints for window in opened if window.complaints] == []


def framed(window: Window, number: int) -> str:
    """Return the heading of the mail in a frame, once it is there."""
    return str(window.page.frame_locator("iframe").nth(number).locator("h1").inner_text())


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_the_inbox_fits(open_window: OpenWindow, look: Look) -> None:
    """The inbox and its mails fit into every window, and nothing of them is blocked."""
    window = open_window(look)

    window.go("/auth/_dev/mail")
    window.sees("Inbox of this computer")
    for number in (0, 1):
        window.page.locator(".af-mail a").nth(number).click()
        window.sees("Confirm your email for Shop")
        assert [framed(window, frame) for frame in (0, 1)] == ["Confirm your email"] * 2
        window.follows("Back to the inbox")
    window.follows("See every mail with samples")
    window.sees("Every mail")


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_previews_fit(open_window: OpenWindow, developer: Developer, look: Look) -> None:
    """The page of every mail fits into every window, and nothing of it is blocked."""
    window = open_window(look)
    window.go("/auth/_dev/preview/")
    window.sees("Every mail")

    for name in developer.names:
        window.go(f"/auth/_dev/preview/{name}?locale=de")
        window.sees(str(developer.site.app.extensions["accountflow_previews"].show(name, "de").letter.subject))
        assert framed(window, 0) == framed(window, 1) != ""


def _measure(window: Window, width: int, scheme: str) -> tuple[int, bool]:
    """Return how wide a mail becomes in a window, in pixels, and whether its text stands out from its ground."""
    window.page.set_viewport_size({"width": width, "height": 800})
    window.page.emulate_media(color_scheme=scheme)
    wide = window.page.evaluate("document.documentElement.scrollWidth")
    light = [
        sum(map(int, re.findall(r"\d+", window.page.locator(where).first.evaluate(f"e => getComputedStyle(e).{what}"))))
        for where, what in (("body", "backgroundColor"), ("h1", "color"))
    ]
    return wide, light[0] - light[1] > 300 if scheme == "light" else light[1] - light[0] > 300


def test_every_mail_fits(open_window: OpenWindow, developer: Developer) -> None:
    """Every mail in every language is as wide as its window and no wider, dark on light by day, else by night."""
    window = open_window(Look(scripts=False, scheme="light", width=320))
    found = {}

    for name in developer.names:
        for locale in LANGUAGES:
            window.go(f"/auth/_dev/preview/{name}?locale={locale}&format=html")
            assert window.page.evaluate("document.documentElement.lang") == locale
            for width in (320, 800):
                for scheme in ("light", "dark"):
                    found[name, locale, width, scheme] = _measure(window, width, scheme)

    assert {key: seen for key, seen in found.items() if seen != (key[2], True)} == {}
    assert len(found) >= 8 * len(LANGUAGES) * 4


#: The scheme of the reader is not set, as Playwright would set it in frames, too.
_DESK = Look(scripts=False, scheme="null", width=1280)


def _grounds(window: Window) -> list[str]:
    """Return the colours of the ground in both frames."""
    frames = [window.page.frame_locator("iframe").nth(number).locator("body") for number in (0, 1)]
    return [str(body.evaluate("element => getComputedStyle(element).backgroundColor")) for body in frames]


def test_day_and_night_stand_side_by_side(open_window: OpenWindow) -> None:
    """One look at a preview compares the mail by day and by night, without JavaScript, at the same height."""
    window = open_window(_DESK)
    window.go("/auth/_dev/preview/verify")
    window.sees("Confirm your email for Shop")

    boxes = [window.page.locator("iframe").nth(number).bounding_box() for number in (0, 1)]

    assert _grounds(window) == ["rgb(246, 247, 249)", "rgb(15, 18, 22)"]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]


@pytest.mark.parametrize("look", [*LOOKS, _DESK], ids=str)
def test_files_show_every_mail(open_window: OpenWindow, developer: Developer, tmp_path: Path, look: Look) -> None:
    """The index that ``preview-mails`` writes works from a disk: it fits, and its frames hold the mails."""
    runner = developer.site.app.test_cli_runner()
    assert runner.invoke(args=["accountflow", "preview-mails", str(tmp_path), "--locale", "de"]).exit_code == 0
    window = open_window(look)

    window.go((tmp_path / "index.html").as_uri())
    window.sees("Every mail of Shop")

    assert framed(window, 0) == framed(window, 1) != ""
    if look is _DESK:
        assert _grounds(window) == ["rgb(246, 247, 249)", "rgb(15, 18, 22)"]
