"""Changing one's password, in both formats."""

from __future__ import annotations

from typing import Any

import pytest
from answers import (
    Script,
    bearer,
    cookies,
    field,
    heading,
    links,
    logged_in,
    session_cookie,
    tags,
    title,
    with_cookie,
    words,
)
from support import OTHER_PASSWORD, PASSWORD, Person, Program, Site

EMAIL = "vic@example.com"
PATH = "/auth/password/change"
CHANGE = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}


@pytest.fixture
def person(site: Site) -> Person:
    """A browser that has logged in."""
    site.member()
    found = site.person()
    found.login(EMAIL)
    return found


@pytest.fixture
def pair(site: Site) -> Any:
    """What a program has logged in with."""
    site.member()
    return site.program().login(EMAIL)


def log_in(visitor: Person | Program, password: str) -> bool:
    """Tell whether somebody can log in with a password."""
    return bool(visitor.login(EMAIL, password).status_code in {200, 303})


def test_a_person_changes_the_password(site: Site, person: Person) -> None:
    """From the account page to the form and back: the page says what was done, and the new password is the password."""
    account = person.me()
    assert PATH in links(account)

    sent = person.fill(PATH, **CHANGE)
    page = person.follow(sent)

    assert (sent.status_code, sent.headers["Location"]) == (303, "/auth/me")
    assert "Your password was changed, and you were logged out everywhere else." in words(page)
    assert "Your password was changed" not in words(person.me())
    assert [log_in(site.person(), password) for password in (PASSWORD, OTHER_PASSWORD)] == [False, True]


def test_a_program_changes_the_password(site: Site, pair: Any) -> None:
    """A program gets a new pair for its old one, which is dead."""
    program = site.program()

    answer = program.post(PATH, CHANGE, **bearer(pair))

    assert answer.status_code == 200
    assert answer.json["user"]["email"] == EMAIL
    assert [program.me(one).status_code for one in (pair, answer)] == [401, 200]
    assert [log_in(program, password) for password in (PASSWORD, OTHER_PASSWORD)] == [False, True]


def test_a_script_changes_the_password_by_cookie(site: Site) -> None:
    """A page's script needs the token of the session; the answer holds no tokens, and the cookie goes on."""
    site.member()
    script = Script(site)
    script.log_in()

    without = script.post(PATH, CHANGE)
    answer = script.post(PATH, CHANGE, x_csrf_token=script.token())

    assert (without.status_code, script.code(without)) == (403, "csrf_failed")
    assert (answer.status_code, answer.json["access_token"]) == (200, None)
    assert logged_in(script)


def test_SES_11_other_browsers_are_logged_out(site: Site, person: Person) -> None:
    """Another browser, a program and a copy of this browser's cookie are logged out; this browser is not."""
    other, pair, copy = site.person(), site.program().login(EMAIL), with_cookie(site, session_cookie(person))
    other.login(EMAIL)
    before = [logged_in(other), logged_in(copy), site.program().me(pair).status_code]

    answer = person.fill(PATH, **CHANGE)

    assert before == [True, True, 200]
    assert [logged_in(other), logged_in(copy), site.program().me(pair).status_code] == [False, False, 401]
    assert logged_in(person)
    assert any(cookie.startswith("accountflow_device") or "device" in cookie for cookie in cookies(answer))


def test_the_page(site: Site, person: Person) -> None:
    """The page names the account to password managers, asks for two passwords, and leads on without the old one."""
    page = person.get(PATH)

    current, new = field(page, "current_password"), field(page, "new_password")
    name = next(one for one in tags(page, "input") if one.get("id") == "username")
    assert heading(page) == "Change your password"
    assert (current["id"], current["autocomplete"]) == ("current-password", "current-password")
    assert (new["id"], new["autocomplete"], new["passwordrules"]) == ("new-password", "new-password", "minlength: 12;")
    assert not {"maxlength", "minlength"} & {*current, *new}
    assert (name["value"], name["autocomplete"]) == (EMAIL, "username")
    assert page.text.index('id="username"') < page.text.index('id="current-password"')
    assert links(page) == ["/auth/password-reset/request", "/auth/me"]


@pytest.mark.parametrize(
    ("fields", "where", "sentence"),
    [
        ({"current_password": "not the right horse"}, "current_password", "This password isn't right."),
        ({"current_password": ""}, "current_password", "Enter your password."),
        ({"new_password": "short"}, "new_password", "Use at least 12 characters."),
        ({"new_password": PASSWORD}, "new_password", "This is the password you have. Choose a new one."),
    ],
)
def test_P_04_a_fault_is_named_at_its_field(
    site: Site, person: Person, fields: dict[str, str], where: str, sentence: str
) -> None:
    """Each fault is said at its field in both formats; no password comes back, and nothing is changed."""
    page = person.fill(PATH, **{**CHANGE, **fields})
    answer = site.program().post(PATH, {**CHANGE, **fields}, **bearer(site.program().login(EMAIL)))

    assert (page.status_code, title(page)) == (422, "Error: Change your password – Shop")
    assert sentence in words(page)
    assert field(page, where)["aria-invalid"] == "true"
    assert not field(page, "current_password").get("value")
    assert not field(page, "new_password").get("value")
    assert (answer.status_code, [(fault["field"], fault["detail"]) for fault in answer.json["errors"]]) == (
        422,
        [(where, sentence)],
    )
    assert log_in(site.program(), PASSWORD)


def test_a_stranger_is_asked_to_log_in(site: Site) -> None:
    """A stranger's browser is led to the login page and back; a program gets 401; nobody's password changes."""
    site.member()
    stranger = site.person()

    led = stranger.get(PATH)
    back = stranger.submit(stranger.follow(led), email=EMAIL, password=PASSWORD)
    answer = site.program().post(PATH, CHANGE)

    assert led.headers["Location"] == f"/auth/login?next={PATH}"
    assert back.headers["Location"] == PATH
    assert (answer.status_code, site.program().code(answer)) == (401, "authentication_required")
    assert log_in(site.program(), PASSWORD)


def test_CSR_01_another_sites_form_changes_nothing(site: Site, person: Person) -> None:
    """A form without the token of this browser, or from another site, is refused."""
    assert person.send(PATH, CHANGE).status_code == 403
    assert person.send(PATH, CHANGE, sec_fetch_site="cross-site").status_code == 403
    assert log_in(site.program(), PASSWORD)


def test_RAT_01_guesses_are_limited(make_site: Any) -> None:
    """Over the limit of failed logins both formats say when to try again, and the form stays."""
    site = make_site({"ACCOUNTFLOW_RATELIMIT_ENABLED": True})
    site.member()
    person, program = site.person(), site.program()
    person.login(EMAIL)
    pair = program.login(EMAIL)
    wrong = {**CHANGE, "current_password": "not the right horse"}
    for _ in range(10):
        program.post(PATH, wrong, **bearer(pair))
    for _ in range(10):  # a browser that is known has tries of its own
        assert person.fill(PATH, **wrong).status_code == 422

    answer = program.post(PATH, CHANGE, **bearer(pair))

    page = person.fill(PATH, **CHANGE)
    assert (page.status_code, heading(page)) == (429, "Change your password")
    assert "Try again in" in words(page)
    assert (answer.status_code, program.code(answer)) == (429, "rate_limited")
    assert int(answer.headers["Retry-After"]) > 0


def test_the_owner_is_told(site: Site, person: Person) -> None:
    """The notice says that the password was changed in the settings."""
    person.fill(PATH, **CHANGE)

    assert [(letter.to, letter.template) for letter in site.letters] == [(EMAIL, "password_changed")]
    assert "in your settings" in site.letters[0].text
