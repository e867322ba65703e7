"""What no client of ours would send, in every field of every route, on every database."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from answers import FORM, PRODUCTION, rows
from described import Described
from support import OTHER_PASSWORD, PASSWORD, Person, Program, Site, forms_of

from flask_accountflow.flows import ACTIONS

EMAIL, ADMIN, NEW, LOST = "vic@example.com", "root@example.com", "ada@example.com", "otto@example.com"

#: What somebody types into any field, by what it is meant to break. None of it is an address.
TEXTS: dict[str, tuple[str, ...]] = {
    "NUL": ("\0", "a\0b", "vic\0@example.com", "vic@example.com\0", "\0" * 1000),
    "SQL": (
        "' OR 1=1 --",
        "'; DROP TABLE users; --",
        '" OR ""="',
        "vic@example.com' --",
        "') UNION SELECT password_hash FROM users --",
        "\\'; DELETE FROM users; --",
        "/*",
        "$$; SELECT pg_sleep(9); --",
        "%' AND SLEEP(9) AND '%",
        "`users`",
        ":email_key",
        "%(email_key)s",
    ),
    "bidi": ("\u202egro.elpmaxe@cia", "vic\u200d@example.com", "\u2066vic@example.com\u2069", "\ufeffvic@example.com"),
    "invisible": ("\u200b", "\u00ad", "vic\u200b@example.com", "\u2060" * 300, "\u3164", "\U000e0041"),
    "lines": (
        "a\r\nBcc: eve@example.com",
        "a\nb",
        "a\x0bb",
        "a\x85b",
        "a\u2028b",
        "vic@example.com\r\n eve@example.com",
    ),
    "controls": ("\x01\x1b[31m", "\x7f", "\x08" * 80),
    "markup": ('"><svg onload=alert(1)>', "{{7*7}}", "{% raw %}", "${7*7}", "%s%n", "<!--"),
    "lone surrogates": ("\ud800", "a\udfffb@example.com"),
    "long": ("a" * 60_000, "e\u0301" * 5_000, "\ufdfa" * 3000, "a@" + "b." * 20_000, "@" * 50_000),
    "blank": ("", " ", "\t", "\u00a0", "\u3000" * 20),
}
ALL = [text for texts in TEXTS.values() for text in texts]

#: What a member of a body holds while another one is tried; "x" in those that are not named here. Where a body may
#: have an address or a token, the token would count alone.
USUAL = {
    "email": NEW,
    "to": NEW,
    "password": OTHER_PASSWORD,
    "new_password": OTHER_PASSWORD,
    "next": "/",
    "token": None,
}
JSON = {"Accept": "application/json"}
_LONE = re.compile("[\ud800-\udfff]")


@pytest.fixture
def still(make_site: Callable[..., Site], database_uri: str) -> Site:
    """A site on each database in turn, with two members, an administrator and nothing going on."""
    return _still(make_site, uri=database_uri)


def _still(make_site: Callable[..., Site], **parts: Any) -> Site:
    site = make_site({**PRODUCTION, "ACCOUNTFLOW_SEED_ALIASES": True}, **parts)
    site.member(EMAIL)
    site.member(LOST)
    site.member(ADMIN, admin=True)
    return site


def _check(answer: Any, started: float, what: tuple[str, ...]) -> None:
    # The first mail compiles its templates.
    assert time.thread_time() - started < 5, what
    assert answer.status_code < 500, what


def _untouched(site: Site) -> None:
    """Check that nobody was written to or has come in who was not meant, and that members still get in."""
    assert {letter.to for letter in site.letters} <= {NEW, LOST}
    assert {row.email for row in site.rows("user")} <= {EMAIL, ADMIN, NEW, LOST}
    assert site.program().login(EMAIL).status_code == site.program().login(ADMIN).status_code == 200


def _routes(site: Site) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and a body of every route by which a program may change something."""
    described = Described(site)
    for method, path, operation in described.operations():
        if method != "GET":
            content = operation.get("requestBody", {}).get("content", {})
            schema = described.resolved(content["application/json"]["schema"]) if content else {}
            members = schema.get("properties", {}).items()
            address = path.replace("{token}", "a.b.c").replace("{id}", "0" * 32)
            yield method, f"/auth{address}", {name: _usual(name, member) for name, member in members}


def _usual(name: str, member: dict[str, Any]) -> Any:
    return False if "boolean" in str(member) else USUAL.get(name, "x")


@pytest.mark.slow
def test_INP_05_INP_10_INP_11_no_text_from_a_program_is_a_fault(still: Site) -> None:
    """Whatever text stands in any member of any body, the answer comes in a moment and is none of a fault of ours."""
    token = still.program().login(ADMIN).json["access_token"]
    client = still.program().client
    asked = 0

    for method, path, usual in _routes(still):
        # With a bearer token a logout would end the login that the other routes need.
        headers = JSON if path == "/auth/logout" else {**JSON, "Authorization": f"Bearer {token}"}
        for member in (name for name, value in usual.items() if value is not False):
            for text in ALL:
                started = time.thread_time()
                answer: Any = client.open(path, method=method, json={**usual, member: text}, headers=headers)
                _check(answer, started, (path, member, text[:20]))
                if answer.status_code >= 400:
                    assert answer.headers["Content-Type"] == "application/problem+json"
                asked += 1

    assert asked > 1000
    _untouched(still)


#: Every page that GET shows, with what is no token where one belongs.
PAGES = tuple(
    re.sub(r"<\w+:token>", "a.b.c", action.rule)
    for action in ACTIONS
    if action.page is not None and "html" in action.formats
)


def _people(site: Site) -> Iterator[Person]:
    """Yield a stranger and an administrator who is logged in."""
    yield site.person()
    admin = site.person()
    admin.login(ADMIN)
    yield admin


def _forms(site: Site) -> Iterator[tuple[Person, str, dict[str, str]]]:
    """Yield every form that somebody is shown: who, where it goes, and what its fields hold at first."""
    links = []
    for ask in (lambda: site.program().signup(NEW), lambda: site.program().request_reset(email=LOST)):
        site.letters.clear()
        ask()
        links.append(site.last_link)
    site.letters.clear()
    for person in _people(site):
        for path in (*(f"/auth{path}" for path in PAGES), *links):
            page = person.get(f"{path}?next=/secret")
            for form in forms_of(page):
                yield person, form.action or path, form.values


def _posted(person: Person, path: str, fields: dict[str, str]) -> Any:
    """Send a form as browsers do, with U+FFFD for a lone surrogate, which UTF-8 does not have."""
    pairs = (f"{name}={quote(_LONE.sub(chr(0xFFFD), value), safe='')}" for name, value in fields.items())
    return person.client.post(path, data="&".join(pairs).encode(), content_type=FORM, headers=person.headers)


@pytest.mark.slow
def test_INP_05_INP_10_INP_11_no_text_in_a_form_is_a_fault(still: Site) -> None:
    """Whatever text stands in any field of any form that a person is shown, a page or a redirect comes in a moment."""
    seen = set()

    for person, path, values in _forms(still):
        usual = {name: value or USUAL.get(name) or "x" for name, value in values.items()}
        # These two end the login that shows the other forms, and need no text for it.
        fields = [name for name in usual if path not in {"/auth/logout", "/auth/sessions/end-others"}]
        for name in fields:
            seen.add((path, name))
            for text in ALL:
                started = time.thread_time()
                answer = _posted(person, path, {**usual, name: text})
                _check(answer, started, (path, name, text[:20]))
                assert answer.mimetype == "text/html"
                assert answer.status_code != 403 or name == "csrf_token", (path, name, text[:20])

    assert {name for _, name in seen} >= {"email", "password", "next", "name", "csrf_token", "remember", "discard"}
    assert {name for _, name in seen} >= {"new_email", "current_password", "new_password"}
    _untouched(still)


#: Passwords that hold what other fields are refused for.
ODD_PASSWORDS = {
    "INP_05": "correct\0horse battery",
    "INP_10": "\u202ecorrect \u200dhorse\ufeff battery",
    "INP_11": "'; DROP TABLE users; -- \\\" %_",
}


@pytest.mark.parametrize("who", [Program, Person], ids=["json", "html"])
@pytest.mark.parametrize("password", ODD_PASSWORDS.values(), ids=ODD_PASSWORDS)
def test_INP_05_INP_10_INP_11_a_password_may_hold_any_sign(
    make_site: Callable[..., Site], database_uri: str, who: type[Program | Person], password: str
) -> None:
    """A password with NUL, with signs that nobody sees or with SQL in it is taken, kept whole and asked for whole."""
    site = make_site(uri=database_uri)
    visitor: Any = who(site)

    visitor.signup(NEW, password)
    visitor.verify(site.last_link)
    logged_in = who(site).login(NEW, password)  # type: ignore[call-arg]
    others = [password.partition("\0")[0], password.replace("\u200d", ""), password.replace("'", "''"), password[:-1]]

    assert logged_in.status_code in {200, 303}
    for other in others:
        if other != password:
            assert who(site).login(NEW, other).status_code in {401, 422}


@pytest.mark.parametrize(
    "email", ["robert'--@example.com", "a%_b@example.com", "{{7*7}}@example.com", "`x`@example.com"]
)
def test_INP_11_an_address_may_hold_the_signs_of_SQL(
    make_site: Callable[..., Site], database_uri: str, email: str
) -> None:
    """An address with signs that mean something in SQL is an address like any other, and only its own."""
    site = make_site(uri=database_uri)
    site.member(EMAIL)
    site.member("axxb@example.com")
    program = site.program()

    program.signup(email, name="'); DELETE FROM users; --")
    program.verify(site.last_link)
    program.request_reset(email=email)
    changed = program.reset(site.last_link)

    assert {letter.to for letter in site.letters} == {email}
    assert program.me(changed).json["email"] == email
    assert len(site.rows("user")) == 3
    assert site.account(email).name == "'); DELETE FROM users; --"
    assert program.login("axxb@example.com").status_code == 200


@pytest.mark.parametrize("who", [Program, Person], ids=["json", "html"])
def test_INP_05_NUL_is_refused_where_text_is_shown(
    make_site: Callable[..., Site], database_uri: str, who: type[Program | Person]
) -> None:
    """NUL in an address or in a field of the app is a fault of that field: PostgreSQL could not keep it."""
    site = make_site(uri=database_uri)
    visitor: Any = who(site)

    found = [visitor.signup("ada\0@example.com"), visitor.signup(NEW, name="Ada\0")]

    assert [answer.status_code for answer in found] == [422, 422]
    assert site.letters == []
    assert site.rows("user") == []


NESTED = {
    "arrays": lambda depth: "[" * depth + "]" * depth,
    "objects": lambda depth: '{"a":' * depth + "1" + "}" * depth,
    "both": lambda depth: '[{"a":' * (depth // 2) + "1" + "}]" * (depth // 2),
    "unclosed": lambda depth: "[" * depth,
}


DEPTHS = [100, 1000, 10_000, 100_000]
#: Bytes of the largest body that is read.
LARGEST = 64 * 1024


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shape", NESTED)
def test_INP_03_nesting_is_refused(site: Site, shape: str, depth: int) -> None:
    """A body that is nested, as a whole or in one field, however deep, is refused in a moment, and nothing happens."""
    site.member(EMAIL)
    before = rows(site)
    nested = NESTED[shape](depth)

    for path in ("/auth/signup", "/auth/login", "/auth/verify/resend", "/auth/password-reset/request"):
        for body in (nested, f'{{"email": {nested}, "password": "{PASSWORD}"}}'):
            answer = _sent(site, path, body)
            assert answer.status_code in ({413} if len(body) > LARGEST else {400, 422}), (path, body[:40])

    assert rows(site) == before
    assert site.letters == []


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shape", NESTED)
def test_INP_03_nesting_in_what_nobody_reads_is_no_fault(site: Site, shape: str, depth: int) -> None:
    """A member that no form knows is ignored or refused with its body, however it is nested."""
    site.member(EMAIL)

    answer = _sent(site, "/auth/login", f'{{"email": "{EMAIL}", "password": "wrong", "x": {NESTED[shape](depth)}}}')

    assert answer.status_code in {400, 401, 413}


def _sent(site: Site, path: str, body: str) -> Any:
    started = time.thread_time()
    answer = site.program().client.post(path, data=body, content_type="application/json", headers=JSON)
    _check(answer, started, (path, body[:40]))
    return answer


#: What may stand where a token or an id belongs, as it is sent.
PATHS = (
    "..",
    "../..",
    "%2e%2e",
    "a/b",
    "a//b",
    "%2f",
    "..%2f..%2fetc%2fpasswd",
    "..%5c..%5cboot.ini",
    "%252f",
    "%00",
    "a%00.b.c",
    "%0d%0aX-Evil:%201",
    "%ff%fe",
    "%c0%ae%c0%ae",
    "%ed%a0%80",
    "%F0%9F%92%A9",
    "%e2%80%ae",
    "%",
    "%zz",
    ";x=y",
    "a.b.c;jsessionid=1",
    "'%20OR%201=1--",
    "{{7*7}}",
    "x" * 65_536,
    "." * 65_536,
    "a.b." + "c" * 65_536,
    "/" * 10_000,
)


@pytest.mark.parametrize(
    "route",
    [
        "/verify",
        "/activate",
        "/password-reset",
        "/email/confirm",
        "/email/revert",
        "/sessions",
        "/static",
        "/sessions/x/end",
        "",
    ],
    ids=str,
)
def test_INP_12_no_path_is_a_fault(make_site: Callable[..., Site], route: str) -> None:
    """Whatever stands in a path where a token belongs, it is refused in a moment, leads nowhere and changes nothing."""
    still = _still(make_site)
    visitors = [still.program(), *_people(still)]
    before = rows(still)

    for visitor in visitors:
        for text in PATHS:
            for method in ("GET", "HEAD", "POST", "DELETE"):
                started = time.thread_time()
                answer = visitor.client.open(f"/auth{route}/{text}", method=method, headers=visitor.headers)
                what = (method, route, text[:20])
                _check(answer, started, what)
                assert 400 <= answer.status_code < 500 or answer.headers.get("Location", "").startswith("/auth/"), what
                assert "X-Evil" not in answer.headers

    assert rows(still) == before
    _untouched(still)
