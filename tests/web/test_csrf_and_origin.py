"""Posts that another site's page made a browser send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from answers import ADDRESSES, Script, bearer, cookies, field, heading, logged_in, rows, words
from support import OTHER_PASSWORD, PASSWORD, Person, Site, forms_of

EMAIL = ADDRESSES["verified"]
FIELDS = {"email": EMAIL, "password": PASSWORD, "name": "Ada"}
FORMS = {
    "/auth/signup": "Create your account",
    "/auth/login": "Log in",
    "/auth/logout": "Log out",
    "/auth/verify/resend": "Get a new link",
    "/auth/password-reset/request": "Reset your password",
}


def foreign_token(site: Site) -> str:
    """Return a token that belongs to another browser."""
    return forms_of(site.person().get("/auth/login"))[0].values["csrf_token"]


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("token", [None, "", "x", "\0", "é", "foreign"])
def test_CSR_01_every_form_needs_its_token(site: Site, path: str, token: str | None) -> None:
    """Without the token of this browser's session a form does nothing: it comes back with its input, and then works."""
    site.member()
    person = site.person()
    person.get(path)
    sent = foreign_token(site) if token == "foreign" else token
    before = rows(site)

    page = person.send(path, {**FIELDS, **({} if sent is None else {"csrf_token": sent})})

    assert (page.status_code, heading(page)) == (403, FORMS[path])
    assert "This page was open for a long time. Nothing was changed – please send it again." in words(page)
    assert rows(site) == before
    assert PASSWORD not in page.text
    if path != "/auth/logout":
        assert field(page, "email")["value"] == EMAIL
    assert person.submit(page, password=PASSWORD).status_code == 303


def test_P_19_a_browser_without_its_cookie_is_told_about_cookies(site: Site) -> None:
    """Whoever sends a form without any cookie is told that cookies may be blocked."""
    site.member()
    page = site.person().get("/auth/login")
    person = site.person()

    answer = person.submit(page, email=EMAIL, password=PASSWORD)

    assert answer.status_code == 403
    assert "allow cookies for this site" in words(answer)
    assert field(answer, "email")["value"] == EMAIL
    assert person.submit(answer, password=PASSWORD).status_code == 303


def test_CSR_03_a_cookie_that_an_attacker_set_is_no_session(site: Site) -> None:
    """A cookie and a field that hold the same made-up value do not pass."""
    site.member()
    person = site.person()
    for name in ("session", "csrf_token", "_accountflow_csrf"):
        person.client.set_cookie(name, "attack")

    response = person.send("/auth/login", {**FIELDS, "csrf_token": "attack"})

    assert response.status_code == 403
    assert not logged_in(person)


def test_LOG_06_an_attackers_own_login_cannot_be_forced(site: Site) -> None:
    """A page elsewhere cannot log a visitor in as its owner, not even with a token of the owner's browser."""
    site.member("eve@example.com")
    victim = site.person()
    victim.get("/auth/login")

    answer = victim.send(
        "/auth/login", {"email": "eve@example.com", "password": PASSWORD, "csrf_token": foreign_token(site)}
    )

    assert answer.status_code == 403
    assert not logged_in(victim)
    assert site.rows("session") == []


def test_LOG_05_the_token_changes_at_login_and_logout(site: Site) -> None:
    """A form from before a login cannot be sent after it, nor one from before a logout."""
    site.member()
    person = site.person()
    strange = person.get("/auth/password-reset/request")
    person.login(EMAIL)
    inside = person.get("/auth/password-reset/request")

    late = person.submit(strange, email=EMAIL)
    person.logout()
    later = person.submit(inside, email=EMAIL)

    assert (late.status_code, later.status_code) == (403, 403)
    assert person.submit(later).status_code == 303


def test_a_token_does_not_age(site: Site) -> None:
    """A form that was open for a year is sent like a fresh one."""
    site.member()
    person = site.person()
    page = person.get("/auth/login")
    site.clock.tick(365 * 86400)

    assert person.submit(page, email=EMAIL, password=PASSWORD).status_code == 303


def test_two_tabs_share_the_token(site: Site) -> None:
    """Opening a second page does not spoil the first."""
    site.member()
    person = site.person()
    first, second = person.get("/auth/login"), person.get("/auth/signup")

    assert person.submit(second, email="ada@example.com", password=PASSWORD).status_code == 303
    assert person.submit(first, email=EMAIL, password=PASSWORD).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "cross-site", "origin": "null"},
        {"origin": "https://evil.example"},
        {"origin": "https://evil.example", "sec_fetch_site": "same-origin"},
        {"origin": "https://www.example.com.evil.example"},
        {"origin": "http://www.example.com"},
        {"origin": "https://blog.example.com", "sec_fetch_site": "same-site"},
        {"origin": "https://www.example.com:8443"},
        {"origin": "junk"},
    ],
    ids=str,
)
def test_CSR_02_a_post_from_elsewhere_is_refused_even_with_the_token(site: Site, headers: dict[str, str]) -> None:
    """A form, a link's page and a program's request that another site's page sent are refused, whatever they hold."""
    site.member()
    site.program().request_reset(email=EMAIL)
    link = site.last_link
    person = site.person()
    token = forms_of(person.get("/auth/login"))[0].values["csrf_token"]
    before = rows(site)

    found: list[Any] = [
        person.send("/auth/login", {**FIELDS, "csrf_token": token}, **headers),
        person.send(link, {"password": OTHER_PASSWORD}, **headers),
        site.program().post("/auth/login", FIELDS, **headers),
        site.program().post(link, {"password": OTHER_PASSWORD}, **headers),
        site.program().post("/auth/signup", {"email": "ada@example.com", "password": PASSWORD}, **headers),
    ]

    assert [answer.status_code for answer in found] == [403] * 5
    assert [heading(answer) for answer in found[:2]] == ["This request came from another site"] * 2
    assert [answer.json["code"] for answer in found[2:]] == ["cross_origin_blocked"] * 3
    assert rows(site) == before


@pytest.mark.parametrize("path", ["/auth/login", "/auth/signup", "/auth/logout", "/auth/nothing", "/auth/verify/a.b.c"])
def test_a_refused_post_from_elsewhere_does_not_replace_the_session(site: Site, path: str) -> None:
    """The answer to another site's post sets no cookie: it would replace the one that the browser kept back."""
    person = site.person()

    answer = person.send(path, FIELDS, sec_fetch_site="cross-site", origin="https://evil.example")

    assert answer.status_code in {403, 404}
    assert cookies(answer) == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
        {"origin": "null"},
        {"origin": "http://localhost"},
        {"origin": "https://www.example.com"},
        {"origin": "HTTPS://WWW.EXAMPLE.COM", "sec_fetch_site": "same-origin"},
    ],
    ids=str,
)
def test_a_post_from_here_passes(site: Site, headers: dict[str, str]) -> None:
    """A post from our own page, under the configured address or the one that is asked, passes."""
    site.member()
    person = site.person()
    token = forms_of(person.get("/auth/login"))[0].values["csrf_token"]

    found = [
        person.send("/auth/login", {**FIELDS, "csrf_token": token}, **headers),
        site.program().post("/auth/login", FIELDS, **headers),
    ]

    assert [answer.status_code for answer in found] == [303, 200]


@pytest.mark.parametrize("headers", [{"sec_fetch_site": "cross-site"}, {}], ids=str)
def test_a_trusted_origin_may_post(make_site: Callable[..., Site], headers: dict[str, str]) -> None:
    """A front end in TRUSTED_ORIGINS may send what our own pages may, and no other origin."""
    site = make_site({"ACCOUNTFLOW_TRUSTED_ORIGINS": ["https://app.example.org"]})
    site.member()

    trusted = site.program().post("/auth/login", FIELDS, origin="https://app.example.org", **headers)
    other = site.program().post("/auth/login", FIELDS, origin="https://app2.example.org", **headers)

    assert (trusted.status_code, other.status_code) == (200, 403)


def test_a_links_page_needs_no_cookie(site: Site) -> None:
    """The page of a link works in a browser that keeps no cookies."""
    site.member()
    site.program().request_reset(email=EMAIL)
    person = site.person()
    person.client = site.app.test_client(use_cookies=False)

    response = person.reset(site.last_link)

    assert response.status_code == 303
    assert site.program().login(EMAIL, OTHER_PASSWORD).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_foreign_form_can_send_is_not_json(site: Site, kind: str) -> None:
    """The types that a form elsewhere can send without being asked are no JSON, and change nothing."""
    site.member()
    script = Script(site)
    script.log_in()
    before = rows(site)

    for path in ("/auth/logout", "/auth/login", "/auth/signup", "/auth/refresh", "/auth/password-reset/request"):
        response: Any = script.client.post(
            path, data=b'{"email": "vic@example.com"}', content_type=kind, headers=script.headers
        )
        assert (response.status_code, response.json["code"]) == (415, "unsupported_media_type")

    assert rows(site) == before
    assert logged_in(script)


def test_a_bearer_token_needs_no_other(site: Site) -> None:
    """A request that shows a bearer token needs no CSRF token, and does not use the cookie beside it."""
    site.member()
    script = Script(site)
    script.log_in()
    pair = script.login(EMAIL)

    done = script.post("/auth/logout", **bearer(pair))

    assert done.status_code == 204
    assert logged_in(script)
    assert [row.revoked_at is None for row in site.rows("session")] == [True, False]


def test_a_bearer_token_comes_from_anywhere(site: Site) -> None:
    """A page of another origin may send a bearer token, if the app's CORS headers let it; no cookie counts then."""
    site.member()
    pair = site.program().login(EMAIL)

    done = site.program().post(
        "/auth/logout", origin="https://app.example.net", sec_fetch_site="cross-site", **bearer(pair)
    )

    assert done.status_code == 204
    assert site.program().me(pair).status_code == 401


def test_the_token_of_a_program_is_the_token_of_the_page(site: Site) -> None:
    """A browser has one token, for its forms and for its scripts."""
    person = site.person()
    page = person.get("/auth/login")

    assert Script(site, person.client).token() == forms_of(page)[0].values["csrf_token"]


def test_a_session_that_holds_junk_gets_a_new_token(site: Site) -> None:
    """A session key of ours that something else has overwritten is made anew, not used."""
    site.member()
    person = site.person()
    with person.client.session_transaction() as session:
        session["_accountflow_csrf"] = 7
        session["_accountflow_nonce"] = ["x"]
        session["_accountflow_sid"] = {"a": 1}
        session["_accountflow_email"] = 1

    page = person.get("/auth/login")

    assert page.status_code == 200
    assert person.submit(page, email=EMAIL, password=PASSWORD).status_code == 303


@pytest.mark.parametrize("made", [Person, Script])
def test_TOK_08_a_cookie_alone_changes_nothing(site: Site, made: Callable[[Site], Any]) -> None:
    """The session cookie without its token ends no login, in either format."""
    site.member()
    visitor = made(site)
    if isinstance(visitor, Script):
        visitor.log_in()
        response = visitor.post("/auth/logout")
    else:
        visitor.login(EMAIL)
        response = visitor.send("/auth/logout", {})

    assert response.status_code == 403
    assert logged_in(visitor)
