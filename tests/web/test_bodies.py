"""Bodies that no client of ours would send: always an answer that says no, never a fault, never a mail."""

from __future__ import annotations

import io
import json
import time
from typing import Any
from urllib.parse import quote

import pytest
from answers import FORM, Script, field, heading, rows, session_cookie
from support import OTHER_PASSWORD, PASSWORD, Site, forms_of

EMAIL = "vic@example.com"
SURROGATE = "\ud800"

#: The routes that take a body, with one that would be accepted.
ROUTES: dict[str, dict[str, Any]] = {
    "/auth/signup": {"email": "ada@example.com", "password": PASSWORD, "name": "Ada", "next": "/"},
    "/auth/verify": {"token": "a.b.c", "password": PASSWORD, "discard": False},
    "/auth/verify/a.b.c": {"password": PASSWORD, "discard": False},
    "/auth/verify/resend": {"email": EMAIL, "token": "a.b.c", "next": "/"},
    "/auth/login": {"email": EMAIL, "password": PASSWORD, "remember": True, "transport": "bearer", "next": "/"},
    "/auth/refresh": {"refresh_token": "a.b"},
    "/auth/logout": {"refresh_token": "a.b"},
    "/auth/password-reset/request": {"email": EMAIL, "token": "a.b.c", "next": "/"},
    "/auth/password-reset/confirm": {"token": "a.b.c", "password": OTHER_PASSWORD},
    "/auth/password-reset/a.b.c": {"password": OTHER_PASSWORD},
}

WRONG_TYPES: list[Any] = [1, 0, -1, 1.5, 10**400, True, False, [], ["a@x.org", "b@x.org"], {}, {"a": 1}, [[]], [None]]

TEXTS = [
    "\0",
    "a\0b",
    SURROGATE,
    f"a{SURROGATE}@example.com",
    "\u202egro.elpmaxe@cia",
    "zero\u200dwidth@example.com",
    "vic@example.com\r\nBcc: eve@example.com",
    "vic@example.com,eve@example.com",
    "Vic <vic@example.com>",
    "vic@example.com%0aeve@example.com",
    '"vic"@example.com',
    "vic@localhost",
    "vic@[127.0.0.1]",
    "a" * 65 + "@example.com",
    "a" * 300 + "@example.com",
    "a" * 20_000 + "@" + "b." * 5_000,
    "' OR 1=1 --",
    "'; DROP TABLE users; --",
    "{{7*7}}${7*7}<%=7*7%>",
    "../../etc/passwd",
    "%s%n",
    "\N{PILE OF POO}" * 100,
    " ",
]

MALFORMED = {
    "not json": b"{",
    "two objects": b"{}{}",
    "a text": b'"x"',
    "a number": b"7",
    "null": b"null",
    "true": b"true",
    "a list": b"[]",
    "a list of objects": b'[{"email": "a"}]',
    "NaN": b'{"email": NaN}',
    "Infinity": b'{"email": -Infinity}',
    "5000 digits": b'{"email": ' + b"9" * 5000 + b"}",
    "a name twice": b'{"email": "a@x.org", "email": "b@x.org"}',
    "100 lists": b"[" * 100 + b"]" * 100,
    "1000 lists": b"[" * 1000 + b"]" * 1000,
    "30000 lists": b"[" * 30_000 + b"]" * 30_000,
    "10000 objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "unclosed": b'{"a":[' * 10_000,
    "UTF-16": '{"email": "a@x.org"}'.encode("utf-16"),
    "UTF-32": '{"email": "a@x.org"}'.encode("utf-32"),
    "BOM": b"\xef\xbb\xbf{}",
    "latin-1": b'{"email": "\xe9@x.org"}',
    "overlong": b'{"email": "\xc0\xaf"}',
    "surrogate bytes": b'{"email": "\xed\xa0\x80"}',
    "NUL": b'{"email": "a\0b"}',
    "a comment": b'{"email": "a" /* x */}',
    "single quotes": b"{'email': 'a'}",
    "a blank": b" ",
    "a form": b"email=a&password=b",
}

TYPES = [
    "text/plain",
    "text/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/vnd.api+json",
    "application/json; charset=utf-7",
    "application/json; charset=utf-16",
    "application/json;charset=latin-1",
    "application/xml",
    "junk",
    "",
    None,
]


@pytest.fixture
def still(site: Site) -> Site:
    """A site with a member and nothing going on."""
    site.member()
    return site


def _ask(site: Site, route: str, body: Any) -> Any:
    """Post a body that may hold what no encoder of JSON would send."""
    raw = json.dumps(body).encode("utf-8", "surrogatepass") if not isinstance(body, bytes) else body
    return site.program().client.post(
        route, data=raw, content_type="application/json", headers={"Accept": "application/json"}
    )


@pytest.mark.parametrize("route", ROUTES)
def test_SUP_07_a_value_of_another_type_is_refused(still: Site, route: str) -> None:
    """Each field takes one value of its own type; any other is a fault of that field, and nothing happens."""
    before = rows(still)

    for name, usual in ROUTES[route].items():
        for value in (value for value in WRONG_TYPES if type(value) is not type(usual)):
            response = _ask(still, route, {**ROUTES[route], name: value})
            assert response.status_code == 422, (name, value)
            assert [(fault["field"], fault["code"]) for fault in response.json["errors"]] == [(name, "invalid_type")]

    assert rows(still) == before
    assert still.letters == []


@pytest.mark.parametrize("route", ROUTES)
def test_INP_04_INP_05_SUP_12_hostile_texts(still: Site, route: str) -> None:
    """Whatever a field's text holds, there is an answer in a moment, and nobody but the owner gets a mail."""
    for name in (name for name, usual in ROUTES[route].items() if isinstance(usual, str)):
        for text in TEXTS:
            started = time.thread_time()
            response = _ask(still, route, {**ROUTES[route], name: text})
            assert time.thread_time() - started < 1, (name, text[:20])
            assert response.status_code < 500, (name, text[:20])
            if name == "email" and "token" not in ROUTES[route]:
                assert response.status_code == 422, text[:20]

    assert {letter.to for letter in still.letters} <= {"ada@example.com", EMAIL}
    assert len(still.rows("user")) <= 2


def test_INP_02_INP_03_bodies_that_are_no_json_object(still: Site) -> None:
    """A body that is not one JSON object with each name once is refused with 400 in a moment, and nothing happens."""
    before = rows(still)

    for route in ROUTES:
        for name, body in MALFORMED.items():
            started = time.thread_time()
            response = _ask(still, route, body)
            assert time.thread_time() - started < 1, (route, name)
            assert (response.status_code, response.json["code"]) == (400, "malformed_body"), (route, name)
            assert response.headers["Content-Type"] == "application/problem+json"

    assert rows(still) == before
    assert still.letters == []


def test_INP_02_a_body_twice_nested_is_a_body_all_the_same(still: Site) -> None:
    """Members that no form knows are ignored, however they are nested."""
    body = {"email": EMAIL, "password": PASSWORD, "more": {"a": [[{"b": None}]]}, "grant_type": "password"}

    assert _ask(still, "/auth/login", body).status_code == 200


def test_INP_07_other_types_are_refused(still: Site) -> None:
    """A program's body of any other type than application/json in UTF-8 is refused with 415."""
    before = rows(still)
    headers = {"Accept": "application/json"}

    for route, fields in ROUTES.items():
        for kind in TYPES:
            body = json.dumps(fields).encode()
            response: Any = still.program().client.post(route, data=body, content_type=kind, headers=headers)
            assert (response.status_code, response.json["code"]) == (415, "unsupported_media_type"), (route, kind)

    assert rows(still) == before


@pytest.mark.parametrize(
    "kind", ["application/json; charset=UTF-8", "application/json;charset=utf8", "APPLICATION/JSON"]
)
def test_json_is_json(still: Site, kind: str) -> None:
    """The type of JSON may be written in several ways."""
    body = json.dumps({"email": EMAIL, "password": PASSWORD}).encode()

    response = still.program().client.post("/auth/login", data=body, content_type=kind)

    assert response.status_code == 200


@pytest.mark.parametrize("route", ["/auth/login", "/auth/signup", "/auth/refresh", "/auth/password-reset/confirm"])
def test_no_body_at_all(still: Site, route: str) -> None:
    """A program that sends no body is told what is missing."""
    response: Any = still.program().client.post(route, headers={"Accept": "application/json"})

    assert (response.status_code, response.json["code"]) == (422, "validation_failed")
    assert {fault["code"] for fault in response.json["errors"]} == {"required"}


@pytest.mark.parametrize("route", ROUTES)
def test_null_is_absent(still: Site, route: str) -> None:
    """A member that is null counts as one that is not there."""
    nulls = _ask(still, route, dict.fromkeys(ROUTES[route]))
    nothing = _ask(still, route, {})

    assert (nulls.status_code, nulls.json) == (nothing.status_code, nothing.json)


HTML_ROUTES = {
    route: body
    for route, body in ROUTES.items()
    if route not in {"/auth/refresh", "/auth/verify", "/auth/password-reset/confirm"}
}


def _csrf(person: Any) -> str:
    return forms_of(person.get("/auth/login"))[0].values["csrf_token"]


@pytest.mark.parametrize("route", HTML_ROUTES)
def test_hostile_forms(still: Site, route: str) -> None:
    """Whatever the fields of a form hold, a person gets a page, in a moment, and nobody but the owner gets a mail."""
    person = still.person()
    token = _csrf(person)

    for name in HTML_ROUTES[route]:
        for text in TEXTS:
            fields = {**{key: str(value) for key, value in HTML_ROUTES[route].items()}, "csrf_token": token, name: text}
            if route == "/auth/login":
                fields["password"] = OTHER_PASSWORD if name != "password" else text
            body = "&".join(f"{key}={quote(value.encode('utf-8', 'surrogatepass'))}" for key, value in fields.items())
            started = time.thread_time()
            response = person.client.post(route, data=body.encode(), content_type=FORM, headers=person.headers)
            assert time.thread_time() - started < 1
            assert response.status_code < 500
            assert response.mimetype == "text/html"
            if route == "/auth/logout":
                token = _csrf(person)

    # werkzeug keeps bytes that are not UTF-8 in percent, and an address may hold percent signs.
    assert {letter.to for letter in still.letters} <= {"ada@example.com", EMAIL, "a%ED%A0%80@example.com"}


@pytest.mark.parametrize(
    "route", ["/auth/signup", "/auth/login", "/auth/verify/resend", "/auth/password-reset/request"]
)
def test_INP_06_a_field_twice(still: Site, route: str) -> None:
    """A form with a field twice is refused, whatever the second value is, and nothing happens."""
    person = still.person()
    token = _csrf(person)
    before = rows(still)
    body = f"email={EMAIL}&email=eve@example.com&password={quote(PASSWORD)}&csrf_token={token}"

    response = person.client.post(route, data=body.encode(), content_type=FORM, headers=person.headers)

    assert response.status_code == 422
    assert "Send this once." in response.text
    assert PASSWORD not in response.text
    assert rows(still) == before
    assert still.letters == []


def test_INP_06_the_query_is_not_the_body(still: Site) -> None:
    """A field in the address stands for none in the body."""
    person, program = still.person(), still.program()

    page = person.send(f"/auth/password-reset/request?email={EMAIL}", {"csrf_token": _csrf(person)})
    problem = program.post(f"/auth/password-reset/request?email={EMAIL}")

    assert (page.status_code, problem.status_code) == (422, 422)
    assert still.letters == []


MULTIPART: dict[str, dict[str, Any]] = {
    "files": {"email": (io.BytesIO(b"vic@example.com"), "vic.txt"), "password": (io.BytesIO(b"x"), "x.txt")},
    "1100 fields": {f"field{number}": "x" for number in range(1100)},
    "a field of 100 KB": {"email": "x" * 100_000},
    "a file of 100 KB": {"file": (io.BytesIO(b"x" * 100_000), "x.bin")},
}


@pytest.mark.parametrize("name", MULTIPART)
@pytest.mark.parametrize("route", ["/auth/login", "/auth/signup", "/auth/verify/a.b.c", "/auth/password-reset/a.b.c"])
def test_INP_08_multipart(still: Site, route: str, name: str) -> None:
    """Forms in parts are read like any other: files count for nothing, too much is refused."""
    person = still.person()
    fields = {
        key: (io.BytesIO(value[0].getvalue()), value[1]) if isinstance(value, tuple) else value
        for key, value in MULTIPART[name].items()
    }
    before = rows(still)

    response = person.client.post(
        route, data={**fields, "csrf_token": _csrf(person)}, content_type="multipart/form-data", headers=person.headers
    )

    assert response.status_code in {400, 403, 413, 422}
    assert response.mimetype == "text/html"
    assert rows(still) == before


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=" + "x" * 300, b"x"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n" * 2000),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=email\r\n\r\n"),
        ("multipart/form-data; boundary=x", b"\r\r\n" * 20_000),
        (
            "multipart/form-data; boundary=x; charset=utf-16",
            b'--x\r\nContent-Disposition: form-data; name="email"\r\n\r\na\r\n--x--',
        ),
        (FORM + "; charset=utf-16", "email=a".encode("utf-16")),
        (FORM, b"\xff\xfe=\xff&%=%&&&==;" * 1000),
        (FORM, b"&".join(b"f%d=x" % number for number in range(9000))),
        (FORM, b"email=%00&password=%00"),
    ],
    ids=range(10),
)
def test_broken_forms(still: Site, kind: str, body: bytes) -> None:
    """A form that cannot be read is one without a token."""
    person = still.person()
    _csrf(person)
    started = time.thread_time()

    response = person.client.post("/auth/login", data=body, content_type=kind, headers=person.headers)

    assert response.status_code in {400, 403, 413}
    assert response.mimetype == "text/html"
    assert time.thread_time() - started < 1


def test_a_token_of_a_megabyte(still: Site) -> None:
    """A token of a megabyte is no token: in the address, in a header, in a body."""
    long = "x" * 1_000_000
    person, program = still.person(), still.program()
    started = time.thread_time()

    found = [
        program.get(f"/auth/verify/{long}"),
        person.get(f"/auth/password-reset/{long}"),
        program.get("/auth/me", authorization=f"Bearer {long}"),
        program.post("/auth/refresh", {"refresh_token": long}),
        person.get("/auth/login", cookie=f"session={long}"),
    ]

    assert [answer.status_code for answer in found] == [400, 400, 401, 413, 200]
    assert time.thread_time() - started < 2


def test_INP_09_an_address_that_is_nearly_one_is_refused_in_a_moment(still: Site) -> None:
    """A near miss of an address takes no longer for being long."""
    slow = ["a" * 60_000 + "@", "a." * 30_000 + "@example.com", "a@" + "b" * 60_000, "a@" + "b." * 30_000, "@" * 60_000]
    _ask(still, "/auth/login", {"email": "x", "password": "x"})
    started = time.thread_time()

    found = {_ask(still, "/auth/login", {"email": email, "password": "x"}).status_code for email in slow}

    assert found == {422}
    assert time.thread_time() - started < 1


def test_SUP_11_no_wildcards(still: Site) -> None:
    """Signs that a database takes for wildcards find nobody."""
    for email in ("v_c@example.com", "v%@example.com", "%@example.com"):
        still.program().request_reset(email=email)
        still.person().request_reset(email=email)

    assert still.letters == []


@pytest.mark.parametrize("cookie", ["=session=evil", "session", "session=;session=", "session=\x80\xff", "a=b;" * 500])
def test_SES_15_odd_cookies(still: Site, cookie: str) -> None:
    """A cookie header of any kind is no session, and no fault."""
    response = still.app.test_client(use_cookies=False).get(
        "/auth/me", headers={"Cookie": cookie, "Accept": "application/json"}
    )

    assert response.status_code == 401


def test_SES_17_two_session_cookies(still: Site) -> None:
    """Of two session cookies one counts, always the same; two logins are never mixed."""
    still.member("eve@example.com")
    cookies = []
    for email in (EMAIL, "eve@example.com"):
        person = still.person()
        person.login(email)
        cookies.append(session_cookie(person))
    client = still.app.test_client(use_cookies=False)
    header = "; ".join(f"session={cookie}" for cookie in cookies)

    found: list[Any] = [
        client.get("/auth/me", headers={"Cookie": header, "Accept": "application/json"}) for _ in range(3)
    ]

    assert len({answer.json["email"] for answer in found}) == 1


@pytest.mark.parametrize(
    "agent",
    ["\r\nX: y".replace("\r\n", " "), "\x1b[31mred", "x" * 5000, "\xff\xfe", "\u202eevil".encode().decode("latin-1")],
)
def test_AUD_02_odd_user_agents(still: Site, agent: str) -> None:
    """The name of a browser is kept short and printable."""
    response = still.program().client.post(
        "/auth/login", json={"email": EMAIL, "password": PASSWORD}, environ_overrides={"HTTP_USER_AGENT": agent}
    )

    kept = still.rows("session")[0].user_agent
    assert response.status_code == 200
    assert len(kept) <= 255
    assert kept.isprintable()


@pytest.mark.parametrize("address", [None, "", "junk", "::ffff:192.0.2.1", "unix:"])
def test_odd_client_addresses(still: Site, address: str | None) -> None:
    """Whatever the server says about the client's address, a login works."""
    response = still.program().client.post(
        "/auth/login", json={"email": EMAIL, "password": PASSWORD}, environ_overrides={"REMOTE_ADDR": address}
    )

    assert response.status_code == 200


def test_a_refused_form_keeps_its_input_and_drops_the_password(still: Site) -> None:
    """What was typed comes back in the form, except the password."""
    person = still.person()

    page = person.signup("nobody@", "short", name="\u202eAda", remember=None)

    assert (page.status_code, heading(page)) == (422, "Create your account")
    assert field(page, "email")["value"] == "nobody@"
    assert field(page, "name")["value"] == "\u202eAda"
    assert "value" not in field(page, "password")


def test_a_script_that_sends_junk_as_its_token(still: Site) -> None:
    """A CSRF token of junk is a wrong one."""
    script = Script(still)
    script.log_in()

    for token in ("", "x" * 10_000, "é", "\x80"):
        assert script.post("/auth/logout", x_csrf_token=token).status_code == 403
