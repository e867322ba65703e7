"""The headers of every answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from answers import PRODUCTION, Script, tags
from support import OTHER_PASSWORD, PASSWORD, Person, Program, Site

EMAIL = "vic@example.com"
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def every_answer(site: Site) -> dict[str, Any]:
    """Return an answer of every kind: pages, redirects, JSON, refusals, faults."""
    site.member()
    person, program = site.person(), site.program()
    found = {f"page {path}": person.get(f"/auth{path}") for path in _PAGES}
    found |= {f"json {path}": program.get(f"/auth{path}") for path in _PAGES}
    site.program().request_reset(email=EMAIL)
    found["reset form"] = person.get(site.last_link)
    found["reset json"] = program.get(site.last_link)
    program.signup("ada@example.com")
    found["verify form"] = person.get(site.last_link)
    found["verify json"] = program.get(site.last_link)
    found["bad login"] = person.login(EMAIL, OTHER_PASSWORD)
    found["bad json login"] = program.login(EMAIL, OTHER_PASSWORD)
    found["no token"] = person.send("/auth/login", {})
    found["cross-site"] = person.send("/auth/login", {}, sec_fetch_site="cross-site")
    found["too large"] = person.send("/auth/login", {"email": "x" * 70_000})
    found["too large json"] = program.post("/auth/login", {"email": "x" * 70_000})
    found["login"] = person.login(EMAIL)
    found["json login"] = program.login(EMAIL)
    found["account"] = person.me()
    found["to login"] = site.person().get("/auth/me")
    found["not acceptable"] = person.send("/auth/refresh", {})
    found["method"] = person.client.put("/auth/login", headers=person.headers)
    found["options"] = program.client.options("/auth/login")
    found["json logout"] = program.logout(found["json login"])
    found["logout"] = person.logout()
    found["csrf"] = program.get("/auth/csrf")
    return found


_PAGES = [
    "/login",
    "/signup",
    "/signup/sent",
    "/verify/resend",
    "/verify/done",
    "/verify/a.b.c",
    "/password-reset/request",
    "/password-reset/sent",
    "/password-reset/done",
    "/password-reset/a.b.c",
    "/logout",
    "/me",
    "/nothing",
    "/",
    "",
]


def test_SES_13_WEB_02_every_answer_is_private(site: Site) -> None:
    """No answer is kept by a cache, all depend on Accept and Cookie, and none may be sniffed."""
    for name, answer in every_answer(site).items():
        assert answer.headers["Cache-Control"] == "no-store", name
        assert {"Accept", "Cookie"} <= set(answer.vary), name
        assert answer.headers.getlist("X-Content-Type-Options") == ["nosniff"], name


def test_WEB_01_WEB_04_every_page_has_its_policy(site: Site) -> None:
    """Every page loads from here only, runs nothing inline, is framed nowhere, and shares no window."""
    found = {name: answer for name, answer in every_answer(site).items() if answer.mimetype == "text/html"}

    assert len(found) > 20
    for name, answer in found.items():
        assert answer.headers.getlist("Content-Security-Policy") == [POLICY], name
        assert answer.headers.getlist("Cross-Origin-Opener-Policy") == ["same-origin"], name
        for tag in ("style", "iframe", "object", "embed", "base"):
            assert tags(answer, tag) == [], name
        assert not any("style" in one for tag in ("div", "p", "form", "input", "body") for one in tags(answer, tag)), (
            name
        )
        loaded = [one.get("src") or one.get("href") for tag in ("script", "link", "img") for one in tags(answer, tag)]
        assert [url for url in loaded if url != "data:," and not str(url).startswith("/auth/static/")] == [], name


def test_WEB_03_VER_11_a_token_is_not_passed_on(site: Site) -> None:
    """Pages of links send no path to the next page, and pages without a token send it here only."""
    found = {name: answer for name, answer in every_answer(site).items() if answer.mimetype == "text/html"}

    policies = {name: answer.headers["Referrer-Policy"] for name, answer in found.items()}

    with_token = {"reset form", "verify form", "page /verify/a.b.c", "page /password-reset/a.b.c"}
    assert {name for name, policy in policies.items() if policy == "strict-origin"} == with_token
    assert {policies[name] for name in policies if name not in with_token} == {"same-origin"}


def test_VER_11_after_a_link_was_used_the_address_holds_no_token(site: Site) -> None:
    """Where a used link leads, its token is in neither the address nor the page."""
    site.program().signup("ada@example.com")
    person = site.person()

    response = person.verify(site.last_link)
    page = person.follow(response)

    assert site.last_token not in response.headers["Location"]
    assert site.last_token not in page.text


def test_WEB_09_the_type_fits_the_bytes(site: Site) -> None:
    """Pages are HTML in UTF-8, answers to programs are JSON, problems say so, and nothing has no type."""
    for name, answer in every_answer(site).items():
        if answer.status_code == 204:
            assert "Content-Type" not in answer.headers
            assert answer.data == b""
        elif answer.text.startswith("<!doctype html>"):
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8", name
        elif answer.data:
            kind = "application/problem+json" if answer.status_code >= 400 else "application/json"
            assert answer.headers["Content-Type"] == kind, name


def test_WEB_06_no_origin_is_let_in(site: Site) -> None:
    """No answer carries a header that lets another origin read it."""
    site.member()
    program = site.program()

    for origin in ("https://evil.example", "null", "https://www.example.com"):
        found = [
            program.get("/auth/login", origin=origin),
            program.post("/auth/login", {"email": EMAIL, "password": PASSWORD}, origin=origin),
            program.client.options("/auth/login", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}),
        ]
        for answer in found:
            assert [name for name, _ in answer.headers if name.startswith("Access-Control-")] == []


def test_TOK_02_a_challenge_names_an_error_only_for_a_token(site: Site) -> None:
    """Every 401 carries a challenge; it says invalid_token when a token was sent, and nothing when none was."""
    site.member()
    program = site.program()

    found = {
        "nobody": program.get("/auth/me"),
        "wrong password": program.login(EMAIL, OTHER_PASSWORD),
        "bad bearer": program.get("/auth/me", authorization="Bearer x"),
        "bad refresh": program.post("/auth/refresh", {"refresh_token": "x"}),
    }

    assert {answer.status_code for answer in found.values()} == {401}
    assert {name: answer.headers["WWW-Authenticate"] for name, answer in found.items()} == {
        "nobody": 'Bearer realm="Shop"',
        "wrong password": 'Bearer realm="Shop"',
        "bad bearer": 'Bearer realm="Shop", error="invalid_token"',
        "bad refresh": 'Bearer realm="Shop", error="invalid_token"',
    }


def test_a_name_with_quotes_makes_no_broken_challenge(make_site: Callable[..., Site]) -> None:
    """A site's name that does not fit into a header is made to fit."""
    site = make_site({"ACCOUNTFLOW_SITE_NAME": 'Café "Zur\\Post" ☕'})

    response = site.program().get("/auth/me")

    assert response.headers["WWW-Authenticate"] == 'Bearer realm="Caf ZurPost "'


@pytest.mark.parametrize(
    ("hsts", "scheme", "expected"), [(True, "https", True), (True, "http", False), (False, "https", False)]
)
def test_WEB_05_HSTS(make_site: Callable[..., Site], hsts: bool, scheme: str, expected: bool) -> None:
    """Strict-Transport-Security is sent where it was asked for, and only over https."""
    site = make_site({"ACCOUNTFLOW_HSTS": hsts})

    response = site.app.test_client().get("/auth/login", base_url=f"{scheme}://localhost")

    assert ("Strict-Transport-Security" in response.headers) is expected
    if expected:
        assert response.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_the_headers_can_be_left_to_the_host(make_site: Callable[..., Site]) -> None:
    """SECURITY_HEADERS off leaves the policies to the host; what keeps answers private stays."""
    site = make_site({"ACCOUNTFLOW_SECURITY_HEADERS": False})

    response = site.person().get("/auth/login")

    assert not {"Content-Security-Policy", "Cross-Origin-Opener-Policy", "Referrer-Policy"} & set(
        response.headers.keys()
    )
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.usefixtures("own_site")
def test_a_host_with_a_policy_of_its_own(site: Site) -> None:
    """Each page has one policy: ours our own, and the host's that of the host."""

    @site.app.after_request
    def host(response: Any) -> Any:
        response.headers.setdefault("Content-Security-Policy", "default-src 'self'")
        return response

    ours, theirs = site.person().get("/auth/login"), site.person().get("/untouched")

    assert ours.headers.getlist("Content-Security-Policy") == [POLICY]
    assert theirs.headers.getlist("Content-Security-Policy") == ["default-src 'self'"]


def test_the_hosts_own_pages_are_left_alone(site: Site) -> None:
    """None of our headers is on a page of the host."""
    response = site.person().get("/untouched")

    names = {"Content-Security-Policy", "Cache-Control", "X-Content-Type-Options", "Referrer-Policy"}
    assert not names & set(response.headers.keys())


def test_static_files_are_kept_for_ever_under_their_version(site: Site) -> None:
    """The style sheet and the script have an address that changes with them, and are kept for a year under it."""
    page = site.person().get("/auth/login")
    urls = [str(one["href"]) for one in tags(page, "link") if one["rel"] == "stylesheet"]
    urls += [str(one["src"]) for one in tags(page, "script")]

    found = [site.person().get(url) for url in urls]

    assert [answer.mimetype for answer in found] == ["text/css", "text/javascript"]
    for url, answer in zip(urls, found, strict=True):
        assert "?v=" in url
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in answer.headers
        bare = site.person().get(url.partition("?")[0])
        assert "immutable" not in bare.headers["Cache-Control"]
        answer.close()
        bare.close()


def test_RED_03_nothing_that_was_sent_makes_a_header(site: Site) -> None:
    """Line breaks in an address, a form or a path add no header to the answer."""
    person = site.person()
    evil = "x\r\nX-Evil: 1"

    found = [
        person.get("/auth/login", user_agent="x"),
        person.client.get("/auth/login?next=%0d%0aX-Evil:%201", headers=person.headers),
        person.client.get("/auth/verify/%0d%0aX-Evil:%201", headers=person.headers),
        person.login(evil, evil, next=evil),
        person.signup(evil, next=evil),
        site.program().signup(evil, next=evil),
    ]

    assert [answer for answer in found if "X-Evil" in answer.headers] == []


def test_PWD_12_no_answer_holds_a_secret(site: Site) -> None:
    """No password, hash, stamp or link is in any answer that shows an account."""
    site.member()
    person, program, script = site.person(), site.program(), Script(site)
    pair = program.login(EMAIL)
    script.log_in()
    person.login(EMAIL)
    account = site.account(EMAIL)
    secrets = [PASSWORD, account.password_hash, account.stamp.hex, str(account.stamp), "password_hash", "stamp"]

    found = [
        program.me(pair),
        person.me(),
        script.get("/auth/me"),
        person.get("/auth/logout"),
        person.get("/auth/login"),
    ]
    found += [program.login(EMAIL, "the wrong horse battery"), site.person().login(EMAIL, "the wrong horse battery")]

    for answer in found:
        assert [secret for secret in (*secrets, "the wrong horse battery") if secret in answer.text] == []


def test_a_fault_keeps_the_headers(make_site: Callable[..., Site]) -> None:
    """The answer to a fault of ours is as private and as safe as any other."""
    site = make_site(PRODUCTION, on_signup=_fail)

    found: list[Any] = [made(site).signup("ada@example.com") for made in (Program, Person)]

    for answer in found:
        assert answer.status_code == 500
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert found[1].headers["Content-Security-Policy"] == POLICY


def _fail(user: Any, form: Any) -> None:
    raise RuntimeError("the canary of the host")


def test_a_static_file_for_a_visitor_with_a_cookie_is_for_him_alone(site: Site) -> None:
    """No shared cache may keep a static file that is answered with a renewed session cookie."""
    site.member()
    person = site.person()
    person.login("vic@example.com")

    answer = person.get("/auth/static/accountflow.css?v=1")

    assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    answer.close()
