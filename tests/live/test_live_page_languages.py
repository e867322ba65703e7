"""Every page in every state on a phone, in German and in a language that is written from right to left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pseudo
import pytest
import test_browser
from pages import STATES
from places import Reader, places

import flask_accountflow
from flask_accountflow.languages import Languages

pytestmark = [pytest.mark.browser, pytest.mark.slow]

chromium = test_browser.chromium

#: The narrowest window that WCAG 2.2 asks about (1.4.10), in pixels.
WIDTH = 320
_STATIC = Path(flask_accountflow.__file__).parent / "static"

#: How far a page can be scrolled sideways, its language, and the direction and the edge at which its heading begins.
_LOOK = """() => {
    const range = document.createRange()
    range.selectNodeContents(document.querySelector("h1"))
    const box = range.getClientRects()[0]
    return [
        document.documentElement.scrollWidth - innerWidth,
        document.documentElement.lang,
        getComputedStyle(document.querySelector("h1")).direction,
        box.left < innerWidth - box.right ? "left" : "right",
    ]
}"""


def _written(folder: Path, spoken: Languages) -> Mapping[str, str]:
    """Return every page in every state as it is sent in a language."""
    found = {}
    with places(folder) as made:
        for state in STATES:
            place = made.of(state)
            place.site.app.extensions["accountflow_languages"] = spoken
            reader = Reader(place.site)
            state.bring(place.site, reader)
            found[state.name] = reader.page.text
    return found


@pytest.mark.parametrize(("tag", "direction", "edge"), [("de", "ltr", "left"), (pseudo.TAG, "rtl", "right")])
def test_every_page_fits_in_every_language(chromium: Any, tmp_path: Path, tag: str, direction: str, edge: str) -> None:
    """No page has to be scrolled sideways on a phone, be its words long or written from right to left."""
    pages = _written(tmp_path, pseudo.languages(tmp_path) if tag == pseudo.TAG else Languages([tag]))
    context = chromium.new_context(viewport={"width": WIDTH, "height": 800})
    page = context.new_page()

    def answer(route: Any) -> None:
        name = urlsplit(route.request.url).path.rpartition("/")[2]
        if name in pages:
            route.fulfill(body=pages[name], content_type="text/html; charset=utf-8")
        else:
            route.fulfill(path=_STATIC / name)

    page.route("**/*", answer)
    found = {}
    for name in pages:
        page.goto(f"https://www.example.com/{name}")
        found[name] = page.evaluate(_LOOK)
    context.close()

    assert {name: look for name, look in found.items() if look != [0, tag, direction, edge]} == {}
