"""Every page in every state, as it is sent: valid HTML, from which there is a way on that leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from answers import links, tags
from pages import STATES
from places import Place, Reader, places
from support import forms_of
from vnu import remarks

import flask_accountflow

PACKAGE = Path(flask_accountflow.__file__).parent
STATIC, TEMPLATES = PACKAGE / "static", PACKAGE / "templates" / "accountflow"

#: Pages of the developer, which tests/live/test_mail_pages.py looks at, and the frame of all.
ELSEWHERE = {"base", "dev_files", "dev_mail", "dev_mail_show", "dev_preview"}
#: What others read in a page although no standard has it.
KNOWN = {
    # Safari and password managers make passwords by it: https://developer.apple.com/password-rules/
    "Attribute “passwordrules” not allowed on element “input” at this point.",
}


class Shown(NamedTuple):
    """A page, and where nothing is although it leads there."""

    template: str | None
    page: Any
    lost: list[str]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Shown]]:
    """Every page in every state."""
    found = {}
    with places(tmp_path_factory.mktemp("places")) as made:
        for state in STATES:
            place = made.of(state)
            reader = Reader(place.site)
            state.bring(place.site, reader)
            template, page = place.template, reader.page
            found[state.name] = Shown(template, page, _lost(place, reader))
        yield found


def _lost(place: Place, reader: Reader) -> list[str]:
    """Return the links and forms of the page that lead nowhere."""
    page = reader.page
    ids = {one.get("id") for name in ("input", "fieldset", "select", "textarea") for one in tags(page, name)}
    doors = place.site.app.url_map.bind("127.0.0.1")
    lost = [
        form.action
        for form in forms_of(page)
        if doors.match(form.action or page.request.path, "POST")[0] in {"accountflow.rest", "accountflow.rest_root"}
    ]
    for link in links(page):
        if link.startswith("#"):
            lost += [link] if link[1:] not in ids else []
        else:
            reader.open(link.removeprefix(place.base_url))
            lost += [link] if reader.page.status_code != 200 else []
    return lost


def test_every_state_is_what_it_says(shown: dict[str, Shown]) -> None:
    """Every state shows the page that it is for, and a list of faults where something is refused."""
    found = {name: (one.template, "There is a problem" in one.page.text) for name, one in shown.items()}

    assert found == {state.name: (state.template, state.refuses) for state in STATES}


def test_every_page_is_looked_at() -> None:
    """Every page of the package is shown by some state."""
    assert {path.stem for path in TEMPLATES.glob("[!_]*.html")} - ELSEWHERE == {state.template for state in STATES}


def _main(page: Any) -> str:
    found = re.search(r"<main.*</main>", page.text, re.DOTALL)
    assert found is not None
    return found[0]


def test_no_page_leads_nowhere(shown: dict[str, Shown]) -> None:
    """Every page has in its main part a link or a form to go on with, and what these lead to is there."""
    stuck = [name for name, one in shown.items() if not links(one.page) and "<form" not in _main(one.page)]

    assert stuck == []
    assert {name: one.lost for name, one in shown.items() if one.lost} == {}


@pytest.mark.slow
def test_every_page_is_valid(shown: dict[str, Shown], tmp_path: Path) -> None:
    """The Nu HTML Checker has neither an error nor a warning for any page or style sheet, but for what is known."""
    sheets = {path.name: path.read_text(encoding="utf-8") for path in STATIC.glob("*.css")}

    found = remarks({**sheets, **{f"{name}.html": one.page.text for name, one in shown.items()}}, tmp_path)

    assert [one for one in found if one.text not in KNOWN] == []
    assert {one.text for one in found} == KNOWN
