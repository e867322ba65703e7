"""Attacks by pages of other sites, by markup, and by addresses that lead elsewhere."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import pytest
from attack.attacker import (
    FORM,
    HTML,
    JSON,
    PASSWORD,
    Browser,
    Program,
    Site,
    ask_reset,
    forms_of,
    join,
    mails_to,
    sign_up,
    some_email,
)

pytestmark = pytest.mark.slow

FORMS = {
    "signup": ("/auth/signup", {"email": "a@example.com", "password": PASSWORD}),
    "login": ("/auth/login", {"email": "a@example.com", "password": PASSWORD}),
    "reset": ("/auth/password-reset/request", {"email": "a@example.com"}),
    "resend": ("/auth/verify/resend", {"email": "a@example.com"}),
    "logout": ("/auth/logout", {}),
    "fresh": ("/auth/login/fresh", {"password": PASSWORD}),
    "end-others": ("/auth/sessions/end-others", {}),
}


def _form_token(browser: Browser, page: str = "/auth/logout") -> str:
    return forms_of(browser.get(page))[0].values["csrf_token"]


@pytest.fixture
def member(site: Site) -> Browser:
    """A browser that is logged in."""
    browser = Browser(site)
    browser.login(join(site))
    return browser


@pytest.mark.parametrize("token", ["missing", "empty", "other-browsers", "before-login", "made-up", "header", "twice"])
@pytest.mark.parametrize("form", FORMS)
def test_CSR_01_a_form_takes_its_own_token_alone(site: Site, form: str, token: str) -> None:
    """Without the token of this very login every form is refused, and does nothing."""
    path, fields = FORMS[form]
    browser, other, email = Browser(site), Browser(site), some_email()
    before = _form_token(browser, "/auth/login")
    browser.login(join(site))
    other.login(join(site))
    fields = {**fields, "email": email} if "email" in fields else dict(fields)
    given: dict[str, list[tuple[str, str]]] = {
        "missing": [],
        "empty": [("csrf_token", "")],
        "other-browsers": [("csrf_token", _form_token(other))],
        "before-login": [("csrf_token", before)],
        "made-up": [("csrf_token", "0" * 32)],
        "header": [],
        "twice": [("csrf_token", "0" * 32), ("csrf_token", _form_token(browser))],
    }
    headers = {"x_csrf_token": "0" * 32} if token == "header" else {}

    answer = browser.send(path, [*fields.items(), *given[token]], **headers)

    assert answer.status == 403
    assert browser.is_in
    assert mails_to(site, email) == []


ORIGINS = {
    "cross-site": {"sec_fetch_site": "cross-site"},
    "cross-site-null": {"sec_fetch_site": "cross-site", "origin": "null"},
    "foreign": {"origin": "https://evil.example"},
    "foreign-says-same": {"origin": "https://evil.example", "sec_fetch_site": "same-origin"},
    "prefix": {"origin": "{own}.evil.example"},
    "user": {"origin": "http://127.0.0.1@evil.example"},
    "other-port": {"origin": "http://127.0.0.1:1"},
    "suffix": {"origin": "https://evil.example/{own}"},
    "file": {"origin": "file://"},
}


@pytest.mark.parametrize("kind", ORIGINS)
def test_CSR_02_another_sites_page_is_refused_whatever_token_it_has(site: Site, member: Browser, kind: str) -> None:
    """A post that a browser says to come from another site is refused even with the right token."""
    headers = {name: value.replace("{own}", site.base_url) for name, value in ORIGINS[kind].items()}

    answer = member.send("/auth/logout", {"csrf_token": _form_token(member)}, **headers)

    assert answer.status == 403
    assert member.is_in


@pytest.mark.parametrize("kind", ORIGINS)
@pytest.mark.parametrize("purpose", ["verify", "reset"])
def test_CSR_02_another_sites_page_presses_no_links_button(site: Site, purpose: str, kind: str) -> None:
    """Also the pages of links, which have no token, are not posted from elsewhere."""
    email = some_email()
    link = sign_up(site, email)
    if purpose == "reset":
        Program(site).verify(link)
        link = ask_reset(site, email)
    headers = {name: value.replace("{own}", site.base_url) for name, value in ORIGINS[kind].items()}

    answer = Browser(site).send(link, {"password": "the attacker's own horse"}, **headers)

    assert answer.status == 403
    assert Program(site).post(link, {"password": "another horse battery"}).status == 200


def test_CSR_02_a_program_is_not_driven_by_another_site(site: Site, member: Browser) -> None:
    """JSON with a cookie from another site's page is refused, also with the right token."""
    token = member.ask("GET", "/auth/csrf", headers={"Accept": JSON}).json["csrf_token"]
    given = {"Accept": JSON, "Content-Type": JSON, "X-CSRF-Token": token}

    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert member.ask("DELETE", "/auth/sessions", b"", {**given, **headers}).status == 403
    assert member.ask("DELETE", "/auth/sessions", b"", given).status == 204


@pytest.mark.parametrize("name", ["csrf_token", "csrf", "_csrf", "XSRF-TOKEN", "session"])
def test_CSR_03_a_cookie_that_a_neighbour_sets_is_no_token(site: Site, member: Browser, name: str) -> None:
    """A field that matches a cookie is not enough: a neighbour's page can set both."""
    planted = "0" * 32
    own = member.cookies["session"]
    line = f"session={own}; {name}={planted}" if name != "session" else f"session={own}; session={planted}"

    answer = member.ask(
        "POST", "/auth/logout", f"csrf_token={planted}".encode(), {"Accept": HTML, "Content-Type": FORM, "Cookie": line}
    )

    assert answer.status == 403
    assert member.is_in


NEXT = [
    "//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "\\/evil.example",
    "///evil.example",
    "////evil.example",
    "/%2f/evil.example",
    "/%2fevil.example",
    "/%5cevil.example",
    "/%5c%5cevil.example",
    "https:evil.example",
    "https:/evil.example",
    "http:///evil.example",
    "https://evil.example",
    "HTTPS://evil.example",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "data:text/html,x",
    "vbscript:x",
    "\t//evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\r\nLocation: https://evil.example",
    "%0d%0aLocation:https://evil.example",
    "//good@evil.example",
    "//evil.example%23.good",
    "//evil.example#good",
    "//good.evil.example",
    ".evil.example",
    "/../..//evil.example",
    "/..//evil.example",
    "/./%2e%2e//evil.example",
    "//evil。example",
    "/／evil.example",
    "／／evil.example",
    " //evil.example",
    "/ /evil.example",
    "/\x00/evil.example",
    "\x01//evil.example",
    "http://127.0.0.1.evil.example",
    "http://127.0.0.1@evil.example",
    "http://[::1]@evil.example",
    "//[evil.example",
    "/" + "a" * 10_000,
    "?next=//evil.example",
    "@evil.example",
    ":evil.example",
    "//evil.example:80",
    "ftp://evil.example",
    "blob:https://evil.example",
]


def _leads_to(site: Site, location: str) -> str:
    """Return the origin that a browser goes to: it drops control signs and reads a backslash as a slash."""
    text = re.sub(r"[\t\r\n]", "", location.strip("".join(map(chr, range(33))))).replace("\\", "/")
    text = re.sub(r"^(https?:)/*", r"\1//", text, flags=re.IGNORECASE)
    text = re.sub(r"^/{2,}", "//", text)
    parts = urlsplit(urljoin(f"{site.base_url}/auth/login", text))
    return f"{parts.scheme}://{parts.netloc}"


@pytest.mark.parametrize("wanted", NEXT, ids=range(len(NEXT)))
def test_RED_01_nobody_is_sent_elsewhere(site: Site, member: Browser, wanted: str) -> None:
    """Whatever next says, a login leads to this site or is refused, by the form, by the address, and when renewed."""
    email, browser = join(site), Browser(site)

    answers = [
        browser.login(email, next=wanted),
        member.get(f"/auth/login?next={quote(wanted, safe='')}"),
        member.fill("/auth/login/fresh", password=PASSWORD, next=wanted),
    ]

    for answer in answers:
        # What no form may hold (a NUL) is refused, and a line that is too long, by the server.
        assert answer.status in {303, 414, 422}
        assert _leads_to(site, answer.location) == site.base_url, answer.location
        assert len(answer.headers.get_all("Location", ())) == (answer.status == 303)


@pytest.mark.parametrize("wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_RED_02_nor_by_a_link_that_remembers_it(site: Site, wanted: str) -> None:
    """A next that was given at sign-up leads to this site when the link of its mail is opened."""
    email, browser = some_email(), Browser(site)
    browser.signup(email, next=wanted)
    link = site.mail.link(email, "verify").removeprefix(site.base_url)

    answer = browser.verify(link)
    page = browser.get(answer.location)

    assert _leads_to(site, answer.location) == site.base_url
    assert "evil" not in page.text
    assert wanted not in page.text


def test_RED_02_a_program_hears_of_no_other_site(site: Site) -> None:
    """Nor is a program told to go there."""
    email = some_email()
    Program(site).signup(email, next="//evil.example")

    answer = Program(site).verify(site.mail.link(email, "verify").removeprefix(site.base_url))

    assert answer.json["next"] is None


@pytest.mark.parametrize("place", ["query", "path", "name", "email", "agent"])
def test_RED_03_no_line_break_makes_a_header(site: Site, place: str) -> None:
    """No text of a visitor's begins another header in the answer."""
    broken = "x\r\nSet-Cookie: planted=1\r\n\r\n<b>x"
    browser = Browser(site)
    answers = {
        "query": lambda: browser.get(f"/auth/login?next={quote(broken)}"),
        "path": lambda: browser.get(f"/auth/verify/{quote(broken)}"),
        "name": lambda: browser.signup(some_email(), name=broken),
        "email": lambda: browser.login(broken),
        "agent": lambda: browser.get("/auth/me%0d%0aSet-Cookie:%20planted=1"),
    }

    answer = answers[place]()

    assert "planted" not in answer.cookies
    assert answer.status < 500


PAGES = [
    "/auth/login",
    "/auth/signup",
    "/auth/verify/x",
    "/auth/password-reset/x",
    "/auth/password-reset/request",
    "/auth/none",
    "/auth/logout",
]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("accept", [HTML, JSON])
def test_WEB_01_WEB_02_WEB_04_pages_are_shut_in(site: Site, page: str, accept: str) -> None:
    """Every page says once what it is, is framed by nobody, loads nothing foreign, and is not cached."""
    answer = Browser(site).ask("GET", page, headers={"Accept": accept, "Origin": "https://evil.example"})

    assert answer.headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert "no-store" in answer.headers["Cache-Control"]
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
    assert "evil" not in "".join(answer.headers.values())
    if accept == HTML:
        policy = answer.headers["Content-Security-Policy"]
        for rule in ("default-src 'none'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"):
            assert rule in policy
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert "unsafe" not in policy


MARKUP = [
    '"><svg onload=alert(1)>',
    "<script>alert(1)</script>",
    "{{7*7}}${7*7}",
    "'-alert(1)-'",
    "<img src=x onerror=alert(1)>",
]


@pytest.mark.parametrize("text", MARKUP, ids=range(len(MARKUP)))
def test_WEB_07_markup_is_text(site: Site, text: str) -> None:
    """What a visitor types is shown as he typed it, and never read as markup or as a template."""
    email, browser = some_email(), Browser(site)
    browser.signup(email, name=text[:64])
    browser.verify(site.mail.link(email, "verify").removeprefix(site.base_url))

    pages = [
        browser.get("/secret"),
        browser.get("/auth/me"),
        Browser(site).login(f"{text}@example.com"),
        Browser(site).get(f"/auth/login?next=/{quote(text)}"),
        Browser(site).get(f"/auth/verify/{quote(text, safe='')}"),
        Browser(site).get(f"/auth/{quote(text, safe='')}"),
    ]

    for page in pages:
        assert not re.search(r"<svg onload|<script>alert|<img src=x|[^{]49\$49", page.text)
        assert page.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "XYZ"])
def test_WEB_08_no_other_method_does_anything(site: Site, member: Browser, method: str) -> None:
    """A method that a route does not have is refused with those that it has."""
    for path in ("/auth/login", "/auth/logout", "/auth/signup", "/auth/me"):
        answer = member.ask(method, path, b"", {"Accept": JSON, "X-HTTP-Method-Override": "POST"})
        assert answer.status in {400, 404, 405, 501}
        assert answer.status != 405 or answer.headers["Allow"]
    assert member.is_in


def test_WEB_06_no_preflight_is_allowed(site: Site) -> None:
    """No other origin is given leave to send JSON, or to read an answer."""
    asked: dict[str, Any] = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-csrf-token",
    }

    for origin in ("https://evil.example", "null", site.base_url + ".evil.example"):
        answer = Program(site).ask("OPTIONS", "/auth/login", b"", {**asked, "Origin": origin})
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
