"""The fields for passwords: what browsers and password managers need of them, and what is never asked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from answers import tags
from support import OTHER_PASSWORD, PASSWORD, Person, Program, Site, forms_of

import flask_accountflow

EMAIL = "vic@example.com"
NEW, PRESENT = "new-password", "current-password"
PACKAGE = Path(flask_accountflow.__file__).parent


def signup(person: Person) -> Any:
    """Open the form of a sign-up."""
    return person.get("/auth/signup")


def login(person: Person) -> Any:
    """Open the form of a login."""
    return person.get("/auth/login")


def failed_login(person: Person) -> Any:
    """Open the form of a login that failed."""
    return person.login(EMAIL, OTHER_PASSWORD)


def fresh(person: Person) -> Any:
    """Open the form that asks again."""
    person.login(EMAIL)
    return person.get("/auth/login/fresh")


def reset(person: Person) -> Any:
    """Open the form behind a reset link."""
    person.request_reset(email=EMAIL)
    return person.get(person.site.last_link)


def competing(person: Person) -> Any:
    """Open a confirmation that asks for a password."""
    for _ in range(2):
        person.site.program().signup("ada@example.com")
        person.site.clock.tick(61)
    return person.get(person.site.last_link)


#: Every page with a password, and what its field is for.
PAGES: dict[Callable[[Person], Any], str] = {
    signup: NEW,
    login: PRESENT,
    failed_login: PRESENT,
    fresh: PRESENT,
    reset: NEW,
    competing: NEW,
}


@pytest.fixture(params=PAGES, ids=lambda opened: str(opened.__name__))
def page(request: pytest.FixtureRequest, site: Site) -> tuple[Any, str]:
    """A page that asks for a password, and what for."""
    site.member()
    return request.param(site.person()), PAGES[request.param]


def test_PWD_07_a_password_can_be_pasted_and_filled_in(page: tuple[Any, str]) -> None:
    """A password is masked, named for managers together with its address, cut by nothing, and never sent back."""
    shown, purpose = page
    inputs = tags(shown, "input")

    [password] = [one for one in inputs if one.get("name") == "password"]

    assert (password["type"], password["autocomplete"]) == ("password", purpose)
    assert not {"maxlength", "minlength", "pattern", "readonly", "disabled", "value"} & set(password)
    assert [one.get("autocomplete") for one in inputs].count("username") == 1
    assert not [name for _, one in _elements(shown) for name in one if name.startswith("on")]
    assert not [form for form in tags(shown, "form") if form.get("autocomplete") == "off"]


def test_PWD_07_the_script_leaves_typing_alone() -> None:
    """Our script listens for clicks and for forms that are sent, and for nothing that is typed or pasted."""
    script = (PACKAGE / "static" / "accountflow.js").read_text(encoding="utf-8")

    assert set(re.findall(r"addEventListener\(\s*[\"'](\w+)", script)) == {"click", "submit"}
    assert not re.search(r"\.on[a-z]+\s*=", script)


def test_PWD_08_nothing_but_address_and_password_is_asked(page: tuple[Any, str]) -> None:
    """No form asks for a hint or for the answer to a question, and none shows one."""
    shown, _ = page

    names = {name for form in forms_of(shown) for name in form.values}

    assert names <= {"email", "password", "remember", "next", "csrf_token", "name", "discard"}
    assert not re.search(r"secret question|security question|password hint|mother", shown.text, re.IGNORECASE)


def test_PWD_08_no_column_for_a_hint(site: Site) -> None:
    """No table of ours has a place for a hint or for the answer to a question."""
    tables = (site.tables.user, site.tables.token, site.tables.session, site.tables.mail)

    columns = {column.name for table in tables for column in table.columns}

    assert not [name for name in columns if re.search(r"hint|question|answer", name)]


@pytest.mark.parametrize("days", [400, 4000])
def test_PWD_13_a_password_does_not_age(site: Site, visitor: Program | Person, days: int) -> None:
    """A password that nobody has touched for years logs in, and nothing asks to change it."""
    site.member()
    site.clock.tick(days * 86400)

    answer = visitor.login(EMAIL, PASSWORD)

    assert answer.status_code in {200, 303}
    assert visitor.me(answer).status_code == 200
    assert site.letters == []


def _elements(shown: Any) -> list[tuple[str, dict[str, str | None]]]:
    names = set(re.findall(r"<([a-z][a-z0-9]*)", shown.text))
    return [(name, one) for name in names for one in tags(shown, name)]
