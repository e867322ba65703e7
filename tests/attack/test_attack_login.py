"""Attacks on the login: who learns what by trying, and what else might let one in."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from attack.attacker import (
    FORM,
    HTML,
    JSON,
    OTHER_PASSWORD,
    PASSWORD,
    Browser,
    Program,
    Site,
    ask_reset,
    forms_of,
    join,
    shape,
    sign_up,
    some_email,
    timed,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def disabled(site: Site) -> str:
    """An address whose account was disabled."""
    email = join(site)
    site.flask("accountflow", "disable-user", email)
    return email


@pytest.mark.parametrize("visitor", [Program, Browser])
def test_LOG_01_a_wrong_password_is_answered_alike(site: Site, disabled: str, visitor: Any) -> None:
    """A wrong password gets one answer, be the account proved, pending, disabled, without a password, or none."""
    pending, invited = some_email(), some_email()
    sign_up(site, pending)
    site.flask("accountflow", "create-user", invited)
    emails = [join(site), pending, disabled, invited, some_email()]

    shapes = [shape(visitor(site).login(email, OTHER_PASSWORD), email) for email in emails]

    assert shapes.count(shapes[0]) == len(emails)
    assert shapes[0][0] in {401, 422}


@pytest.mark.parametrize("visitor", [Program, Browser])
def test_RST_01_asking_for_a_reset_says_nothing(site: Site, disabled: str, visitor: Any) -> None:
    """A reset request is answered alike for an account that is proved, pending, disabled or none."""
    pending = some_email()
    sign_up(site, pending)
    emails = [join(site), pending, disabled, some_email()]

    shapes = [shape(visitor(site).ask_reset(email), email) for email in emails]

    assert shapes.count(shapes[0]) == len(emails)


def test_LOG_03_a_login_is_a_new_session(site: Site) -> None:
    """The cookie from before a login opens nothing after it."""
    email, victim = join(site), Browser(site)
    victim.get("/auth/login")
    planted = dict(victim.cookies)

    victim.login(email)

    assert victim.is_in
    assert victim.cookies["session"] != planted["session"]
    thief = Browser(site)
    thief.cookies = planted
    assert not thief.is_in


def test_LOG_03_a_second_login_does_not_go_on_with_the_first(site: Site) -> None:
    """Who has a copy of a browser's cookie is not let in by the next login there, nor keeps what ended."""
    email, browser = join(site), Browser(site)
    browser.login(email)
    copied = dict(browser.cookies)
    browser.logout()
    browser.login(email)

    thief = Browser(site)
    thief.cookies = copied

    assert browser.is_in
    assert not thief.is_in


@pytest.mark.parametrize(
    "value", ["x", "eyJfYWNjb3VudGZsb3dfc2lkIjoiMSJ9.aaaa.bbbb", "0" * 32, "a" * 3000, '""', "%00"]
)
def test_LOG_04_a_made_up_cookie_is_nobody(site: Site, value: str) -> None:
    """A session cookie of somebody's own making opens nothing, and the login makes another one."""
    email, browser = join(site), Browser(site)
    browser.cookies = {"session": value}

    assert not browser.is_in
    browser.login(email)

    assert browser.is_in
    assert browser.cookies["session"] != value


def test_LOG_05_the_token_of_a_form_from_before_a_login_is_dead(site: Site) -> None:
    """A form that was opened before the login is refused after it."""
    email, browser = join(site), Browser(site)
    form = forms_of(browser.get("/auth/login"))[0]
    browser.login(email)

    answer = browser.send("/auth/logout", {"csrf_token": form.values["csrf_token"]})

    assert answer.status == 403
    assert browser.is_in


@pytest.mark.parametrize("token", ["missing", "empty", "attackers", "made-up"])
def test_LOG_06_nobody_is_logged_in_by_another_site(site: Site, token: str) -> None:
    """A login form that another site posts, with whatever token it could have, logs nobody in."""
    email, victim, attacker = join(site), Browser(site), Browser(site)
    victim.get("/auth/login")
    own = forms_of(attacker.get("/auth/login"))[0].values["csrf_token"]
    given = {
        "missing": {},
        "empty": {"csrf_token": ""},
        "attackers": {"csrf_token": own},
        "made-up": {"csrf_token": "0" * 32},
    }

    answer = victim.send("/auth/login", {"email": email, "password": PASSWORD, **given[token]})

    assert answer.status == 403
    assert not victim.is_in


@pytest.mark.parametrize(
    "kind", ["text/plain", FORM, "", "multipart/form-data; boundary=x", "application/json; charset=utf-7"]
)
def test_LOG_07_a_program_logs_in_by_json_alone(site: Site, kind: str) -> None:
    """What a page of another site could post without being asked for leave is no login."""
    email = join(site)
    body = json.dumps({"email": email, "password": PASSWORD}).encode()

    answer = Program(site).ask(
        "POST", "/auth/login", body, {"Accept": JSON, **({"Content-Type": kind} if kind else {})}
    )

    assert answer.status in {400, 415}
    assert "access_token" not in answer.text


@pytest.mark.parametrize("length", [1, 72, 73, 1000, 60_000])
def test_LOG_08_passwords_of_any_length_are_wrong_alike(site: Site, length: int) -> None:
    """A password that no rule would allow is merely wrong, for an account and for none, and at once."""
    emails = [join(site), some_email()]

    shapes = [shape(Program(site).login(email, "x" * length), email) for email in emails]

    assert shapes[0] == shapes[1]
    assert shapes[0][0] == 401
    assert timed(lambda: Program(site).login(emails[0], "\u0301" * (length // 2))) < 3


LONG = "correct horse battery staple, " * 5


@pytest.mark.parametrize(
    "wrong",
    [
        LONG[:72],
        LONG[:72] + "?" + LONG[73:],
        LONG[:-1],
        LONG + "x",
        LONG.upper(),
        LONG + " ",
        LONG + "\x00",
        " " + LONG,
    ],
    ids=range(8),
)
def test_LOG_09_every_sign_of_a_password_counts(site: Site, wrong: str) -> None:
    """A password is wrong when any sign of it is, also behind the seventy-second byte."""
    email = join(site, password=LONG)

    assert Program(site).login(email, wrong).status == 401
    assert Program(site).login(email, LONG).status == 200


def test_PWD_11_a_password_does_not_end_at_nul(site: Site) -> None:
    """Two passwords that differ behind a NUL are two passwords."""
    email = join(site, password="a good horse\x00 and a battery")

    assert Program(site).login(email, "a good horse\x00 and a staple").status == 401
    assert Program(site).login(email, "a good horse").status == 401
    assert Program(site).login(email, "a good horse\x00 and a battery").status == 200


def test_LOG_10_a_password_is_the_same_from_every_keyboard(site: Site) -> None:
    """Composed and decomposed letters are the same password; what only looks like it is another."""
    email = join(site, password="caf\u00e9 horse battery \ufb01ne")

    assert Program(site).login(email, "cafe\u0301 horse battery \ufb01ne").status == 200
    assert Program(site).login(email, "caf\u00e9 horse battery fine").status == 401


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_LOG_13_credentials_in_an_address_are_not_read(site: Site, method: str) -> None:
    """A password in the address logs nobody in."""
    email, browser = join(site), Browser(site)
    target = f"/auth/login?email={email}&password={PASSWORD.replace(' ', '+')}"

    for kind, accept in ((JSON, JSON), (FORM, HTML)):
        answer = browser.ask(method, target, b"", {"Content-Type": kind, "Accept": accept})
        assert answer.status in {200, 400, 403, 422}
        assert "access_token" not in answer.text
        assert not browser.is_in


NO_ANSWERS: list[Any] = [None, True, 0, [], {}, ["x"], {"$ne": ""}, {"$gt": ""}, "' OR '1'='1", "\x00", "\ud800"]


@pytest.mark.parametrize("value", NO_ANSWERS, ids=range(len(NO_ANSWERS)))
def test_INP_11_no_value_is_a_password_or_an_address(site: Site, value: Any) -> None:
    """Values of other types, and those that databases would read, log nobody in and break nothing."""
    email = join(site)

    answers = [
        Program(site).login(email, value),
        Program(site).login(value, PASSWORD),
        Program(site).login(value, value),
    ]

    assert {answer.status for answer in answers} <= {400, 401, 422}


def test_LOG_18_a_role_that_is_only_claimed_is_none(site: Site) -> None:
    """A member is no administrator, whatever the request claims, and a stranger learns not even what was wrong."""
    token = Program(site).login(join(site)).json["access_token"]
    body = {"email": some_email(), "is_admin": True}

    assert Program(site).post("/auth/admin/users", body, token, x_user="admin", x_role="admin").status == 403
    assert Program(site).post("/auth/admin/users", b"{", None).status == 401
    assert Program(site).post("/auth/admin/test-mail", {"to": some_email()}, token).status == 403


def test_LOG_12_a_refusal_repeats_nothing(site: Site) -> None:
    """A refused login names its challenge and its code; neither the address nor the password stand in it."""
    email = join(site)

    answer = Program(site).login(email, OTHER_PASSWORD)

    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json["status"] == answer.status == 401
    assert email not in answer.text
    assert OTHER_PASSWORD not in answer.text


def test_PWD_09_equal_passwords_are_stored_differently(site: Site) -> None:
    """No two stored hashes are the same, none is of a fast kind, and the password stands nowhere."""
    for _ in range(2):
        Program(site).reset(ask_reset(site, join(site)), OTHER_PASSWORD)

    values = site.dump()

    hashes = [value for value in values if value.startswith("af1$")]
    assert len(hashes) == len(set(hashes)) >= 2
    assert all("$2b$" in value for value in hashes)
    text = "\n".join(values)
    plain = [PASSWORD, OTHER_PASSWORD, base64.b64encode(PASSWORD.encode()).decode()]
    assert [word for word in plain if word in text] == []
