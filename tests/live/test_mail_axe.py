"""Every mail in every language in a real Chromium, judged by axe-core: narrow and wide, by day and by night."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import test_browser
from axe import violations
from support import Site

from flask_accountflow.languages import LANGUAGES
from flask_accountflow.web.previews import Previews

pytestmark = [pytest.mark.browser, pytest.mark.slow]

chromium = test_browser.chromium

WIDTHS = (320, 600, 800)
#: How light the ground of a mail and its heading are: the sums of red, green and blue.
LIGHTNESS = """[["body", "backgroundColor"], ["h1", "color"]].map(([where, what]) =>
    getComputedStyle(document.querySelector(where))[what].match(/\\d+/g).reduce((sum, one) => sum + Number(one), 0))"""
#: Text whose contrast axe cannot tell is no violation to it.
UNSURE = "async () => (await axe.run(document, {runOnly: ['color-contrast']})).incomplete.length"


@pytest.fixture(scope="module")
def previews(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Previews]:
    """The previews of a site with a mailbox for questions, which mails name."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('site') / 'site.db'}"
    site = Site(uri, {"ACCOUNTFLOW_LANGUAGES": list(LANGUAGES), "ACCOUNTFLOW_SUPPORT_EMAIL": "help@example.com"})
    yield site.app.extensions["accountflow_previews"]
    site.close()


@pytest.fixture(scope="module")
def page(chromium: Any) -> Iterator[Any]:
    """A page of a browser."""
    context = chromium.new_context()
    context.set_default_timeout(10_000)
    made = context.new_page()
    yield made
    context.close()


def faults(page: Any, html: str) -> list[str]:
    """Return what is wrong with a mail, in each scheme and width."""
    asked: list[str] = []

    def answer(route: Any) -> None:
        asked.append(route.request.url)
        route.fulfill(body=html, content_type="text/html; charset=utf-8")

    page.route("**/*", answer)
    page.goto("https://mail.example/")
    page.unroute("**/*")
    found = [f"it loads {url}" for url in asked[1:]]
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                found.append(f"{scheme}: it is {wide} pixels wide in a window of {width}")
        ground, heading = page.evaluate(LIGHTNESS)
        if abs(ground - heading) < 300 or (ground > heading) is not (scheme == "light"):
            found.append(f"{scheme}: it looks otherwise")
        found += [f"{scheme}: {line}" for line in violations(page)]
        if page.evaluate(UNSURE):
            found.append(f"{scheme}: the contrast of some text cannot be told")
    return found


@pytest.mark.parametrize("locale", LANGUAGES)
def test_ML_09_ML_10_axe_finds_nothing(page: Any, previews: Previews, locale: str) -> None:
    """Every mail breaks no rule of axe by day and by night, looks like either, and scrolls in no window sideways."""
    found = {}

    for name in previews.names():
        letter = previews.show(name, locale).letter
        assert letter is not None
        found[name] = faults(page, letter.html)

    assert {name: lines for name, lines in found.items() if lines} == {}
    assert len(found) >= 13


#: Too wide, too pale, in no language, with a ground of neither scheme, and with a picture.
BAD = """<html><head><title>Bad</title><style>
body { background: #888 } h1 { color: #ddd } p { width: 900px; background: #fff; color: #ccc }
@media (prefers-color-scheme: dark) { p { background: #222; color: #444 } }
</style></head><body><main><h1>Bad</h1><p>Pale</p><img src="picture.png" alt="A picture"></main></body></html>"""


def test_axe_sees_what_is_wrong(page: Any) -> None:
    """The same eyes find a mail at fault that loads a picture, and is too wide, too pale and in no language."""
    wide = [f"it is 908 pixels wide in a window of {width}" for width in WIDTHS]

    found = {line.partition(" (")[0] for line in faults(page, BAD)}

    assert found == {
        "it loads https://mail.example/picture.png",
        *(f"light: {fault}" for fault in (*wide, "it looks otherwise", "color-contrast", "html-has-lang")),
        *(f"dark: {fault}" for fault in (*wide, "it looks otherwise", "color-contrast", "html-has-lang")),
    }
