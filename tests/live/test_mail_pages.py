"""The developer's pages in a real Chromium, on phones and on desks, by day and by night.

With ``ACCOUNTFLOW_TEST_SCREENSHOTS`` set, a picture of every page is saved in that folder.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import test_browser
from axe import violations
from support import Site
from test_browser import LOOKS, Look, Window
from werkzeug.serving import make_server

pytestmark = [pytest.mark.browser, pytest.mark.slow]

chromium = test_browser.chromium

OpenWindow = Callable[[Look], Window]


class Developer:
    """A site in debug, and its address."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(f"sqlite:///{folder / 'site.db'}", {"DEBUG": True, "ACCOUNTFLOW_LANGUAGES": ["en", "de"]})
        self._filled = 0
        self._server = make_server("127.0.0.1", 0, self.site.app, threaded=True)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def fill(self) -> None:
        """Send two mails, one of them to an address that is as long as addresses get."""
        self._filled += 1
        self.site.program().signup(f"ada{self._filled}@example.com")
        self.site.program().signup(f"{'a-long-address-' * 4}{self._filled}@{'a-long-domain-' * 4}a.example")

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


def _is_fine(window: Window, look: Look, heading: str) -> None:
    """Check that the page has this heading, fits into the window, and breaks no rule of axe."""
    window.page.wait_for_load_state()  # else it may be measured before its styles are there
    window.sees(heading)
    if look.scripts:  # else axe waits for ever
        assert violations(window.page) == []


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_the_inbox_fits(open_window: OpenWindow, developer: Developer, look: Look) -> None:
    """The inbox and its mails fit into every window, break no rule of axe, and nothing of them is blocked."""
    developer.fill()
    window = open_window(look)

    window.go("/auth/_dev/mail")
    _is_fine(window, look, "Inbox of this computer")
    for number in (0, 1):
        window.page.locator(".af-mail a").nth(number).click()
        _is_fine(window, look, "Confirm your email for Shop")
        assert [framed(window, frame) for frame in (0, 1)] == ["Confirm your email"] * 2
        for part in ("Text", "Headers", "Source"):
            window.follows(part)
            _is_fine(window, look, "Confirm your email for Shop")
            assert window.page.locator("[aria-current]").inner_text() == part
        window.follows("Back to the inbox")
    window.presses("Empty the inbox")
    _is_fine(window, look, "Inbox of this computer")
    assert "Nothing here yet." in window.text
    window.follows("See every mail with samples")
    _is_fine(window, look, "Every mail")


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_previews_fit(open_window: OpenWindow, developer: Developer, look: Look) -> None:
    """The page of every mail fits into every window, breaks no rule of axe, and nothing of it is blocked."""
    window = open_window(look)

    for name in developer.names:
        window.go(f"/auth/_dev/preview/{name}?locale=de")
        _is_fine(
            window, look, str(developer.site.app.extensions["accountflow_previews"].show(name, "de").letter.subject)
        )
        assert framed(window, 0) == framed(window, 1) != ""


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
