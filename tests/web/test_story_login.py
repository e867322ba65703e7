"""Logging in, as a program and as a person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from answers import (
    ADDRESSES,
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
from support import OTHER_PASSWORD, PASSWORD, Person, Program, Site, forms_of

EMAIL = ADDRESSES["verified"]


def test_logging_in(site: Site, visitor: Program | Person) -> None:
    """The right password opens an account: a program gets a pair, a person a session and his home page."""
    site.member()

    response = visitor.login(EMAIL)

    assert response.status_code == {"json": 200, "html": 303}[visitor.kind]
    assert visitor.me(response).status_code == 200
    if isinstance(visitor, Person):
        assert response.headers["Location"] == "/"
        assert visitor.get("/").text == f"home of {EMAIL}"


def test_LOG_11_the_pair(site: Site) -> None:
    """A program's login is answered with the two tokens, their lives, and the user."""
    site.member()

    response = site.program().login(EMAIL)

    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert cookies(response) == []
    assert response.json == {
        "token_type": "Bearer",
        "access_token": response.json["access_token"],
        "expires_in": 900,
        "refresh_token": response.json["refresh_token"],
        "refresh_expires_in": 2592000,
        "user": {
            "id": str(site.account(EMAIL).id),
            "email": EMAIL,
            "email_verified": True,
            "is_admin": False,
            "created_at": "2026-11-21T08:30:00Z",
        },
    }


@pytest.mark.parametrize("email", ["VIC@EXAMPLE.COM", " vic@example.com\t", "Vic@eXample.com"])
def test_SUP_08_an_address_is_found_however_it_is_written(site: Site, visitor: Program | Person, email: str) -> None:
    """Case and blanks around an address do not matter."""
    site.member()

    assert visitor.me(visitor.login(email)).status_code == 200


@pytest.mark.parametrize(
    "email", ["v\u0131c@example.com", "vic@exampl\u0435.com", "ｖic@example.com", "v%@example.com"]
)
def test_SUP_09_another_spelling_is_another_address(site: Site, visitor: Program | Person, email: str) -> None:
    """Letters that only look alike, and wildcards, never find an account."""
    site.member()

    assert visitor.login(email).status_code in {401, 422}


def test_a_wrong_password_brings_the_form_back(site: Site) -> None:
    """After a wrong password the form comes back with the address and without the password, and says what is wrong."""
    site.member()
    person = site.person()

    page = person.login(EMAIL, OTHER_PASSWORD)

    assert page.status_code == 422
    assert title(page) == "Error: Log in – Shop"
    assert "Email or password isn't right." in words(page)
    assert "#email" in links(page)
    assert field(page, "email")["value"] == EMAIL
    assert "value" not in field(page, "password")
    assert person.submit(page, password=PASSWORD).status_code == 303


def test_LOG_12_a_wrong_password_in_json(site: Site) -> None:
    """A program's wrong password is 401 with a challenge that names no error, since no token was sent."""
    site.member()

    response = site.program().login(EMAIL, OTHER_PASSWORD)

    assert response.status_code == response.json["status"] == 401
    assert response.json["code"] == "invalid_credentials"
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="Shop"'
    assert EMAIL not in response.text


@pytest.mark.parametrize("fields", [{"email": ""}, {"password": ""}, {"email": "", "password": ""}])
def test_empty_fields(site: Site, visitor: Program | Person, fields: dict[str, str]) -> None:
    """An empty field is named, and no password is looked at."""
    response = visitor.login(**{"email": EMAIL, "password": PASSWORD, **fields})

    assert response.status_code == 422
    if isinstance(visitor, Program):
        assert {fault["field"]: fault["code"] for fault in response.json["errors"]} == dict.fromkeys(fields, "required")


@pytest.mark.parametrize("length", [1, 72, 73, 1000, 40_000])
def test_LOG_08_a_password_of_any_length_is_merely_wrong(site: Site, visitor: Program | Person, length: int) -> None:
    """A wrong password of any length is answered as any other."""
    site.member()

    known = visitor.login(EMAIL, "x" * length)
    unknown = visitor.login(ADDRESSES["unknown"], "x" * length)

    assert known.status_code == unknown.status_code == {"json": 401, "html": 422}[visitor.kind]


@pytest.mark.parametrize("wrong", ["a" * 72, "a" * 72 + "b" + "a" * 7, "A" + "a" * 79, "a" * 80 + " "])
def test_LOG_09_the_whole_password_counts(site: Site, visitor: Program | Person, wrong: str) -> None:
    """Every sign of a long password counts."""
    site.member()
    site.program().request_reset(email=EMAIL)
    right = "correct horse " + "a" * 66
    site.program().reset(site.last_link, right)
    tried = wrong.replace("a" * 14, "correct horse ", 1) if wrong.startswith("a") else wrong

    assert visitor.login(EMAIL, tried).status_code != {"json": 200, "html": 303}[visitor.kind]
    assert site.program().login(EMAIL, right).status_code == 200


def test_LOG_10_accents_are_the_same_however_they_are_typed(site: Site, visitor: Program | Person) -> None:
    """A letter with its accent apart is the same letter; a ligature is not its two letters."""
    site.member(password="caf\u00e9 au lait \ufb01ve")

    apart = visitor.login(EMAIL, "cafe\u0301 au lait \ufb01ve")
    ligature = site.program().login(EMAIL, "caf\u00e9 au lait five")

    assert visitor.me(apart).status_code == 200
    assert ligature.status_code == 401


def test_PWD_11_a_nul_does_not_end_a_password(site: Site) -> None:
    """Two passwords that differ after a NUL differ."""
    site.member(password="correct horse\0A")

    found = [site.program().login(EMAIL, f"correct horse\0{sign}").status_code for sign in "AB"]

    assert found == [200, 401]


def test_LOG_13_credentials_count_only_in_the_body(site: Site, visitor: Program | Person) -> None:
    """A login by the address's query is no login."""
    site.member()
    query = f"/auth/login?email={EMAIL}&password={PASSWORD}"

    shown = visitor.get(query)
    if isinstance(visitor, Program):
        posted = visitor.post(query)
    else:
        token = {"csrf_token": forms_of(shown)[0].values["csrf_token"]}
        posted = visitor.send(query, token)

    assert (shown.status_code, posted.status_code) == (200, 422)
    assert PASSWORD not in shown.text
    assert PASSWORD not in posted.text


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_LOG_07_a_program_sends_json(site: Site, kind: str | None) -> None:
    """JSON under another type is refused with 415, whatever is accepted, and logs nobody in."""
    site.member()
    body = f'{{"email": "{EMAIL}", "password": "{PASSWORD}"}}'
    client = site.app.test_client()

    answer: Any = client.post(
        "/auth/login", data=body.encode(), content_type=kind, headers={"Accept": "application/json"}
    )
    plain = client.post("/auth/login", data=body.encode(), content_type=kind)

    assert answer.status_code == 415
    assert answer.json["code"] == "unsupported_media_type"
    assert plain.status_code == (403 if kind in {"multipart/form-data", "application/x-www-form-urlencoded"} else 415)
    assert site.rows("session") == []


def test_LOG_18_not_an_oauth_grant(site: Site) -> None:
    """A password grant of OAuth gets no token here."""
    site.member()

    response = site.app.test_client().post(
        "/auth/login",
        data={"grant_type": "password", "username": EMAIL, "password": PASSWORD},
        headers={"Accept": "application/json"},
    )

    assert response.status_code == 415


def test_a_disabled_account_is_named_after_the_right_password_only(site: Site, visitor: Program | Person) -> None:
    """Whoever knows the password of a disabled account learns that it is disabled; others learn nothing."""
    site.member()
    with site.app.app_context():
        site.accounts.disable_user(EMAIL)

    right, wrong = visitor.login(EMAIL), visitor.login(EMAIL, OTHER_PASSWORD)

    assert right.status_code == 403
    assert wrong.status_code == {"json": 401, "html": 422}[visitor.kind]
    assert site.rows("session") == []
    if isinstance(visitor, Program):
        assert visitor.code(right) == "account_disabled"
    else:
        assert heading(right) == "This account is disabled"


def test_the_login_page(site: Site) -> None:
    """The login page helps password managers, and leads to a new password after the field, and to signing up."""
    page = site.person().get("/auth/login")

    assert heading(page) == "Log in"
    assert field(page, "email")["autocomplete"] == "username"
    assert field(page, "password")["autocomplete"] == "current-password"
    assert field(page, "password")["id"] == "current-password"
    assert not {"maxlength", "minlength"} & set(field(page, "password"))
    assert "checked" in field(page, "remember")
    assert links(page) == ["/auth/password-reset/request", "/auth/signup"]
    assert page.text.index('id="current-password"') < page.text.index("Forgot your password?")


def test_the_address_of_a_failed_login_is_not_typed_again(site: Site) -> None:
    """The page for a new password is filled in with the address of the failed login."""
    person = site.person()
    page = person.login(EMAIL, OTHER_PASSWORD)

    reset = person.get(links(page)[-2])

    assert heading(reset) == "Reset your password"
    assert field(reset, "email")["value"] == EMAIL


def test_next_is_kept_through_failed_attempts(site: Site) -> None:
    """Where somebody wanted to go is kept through wrong passwords, and a visit to the other pages."""
    site.member()
    person = site.person()
    page = person.follow(person.get("/secret?page=2"))

    for _ in range(3):
        page = person.submit(page, email=EMAIL, password=OTHER_PASSWORD)
    signup = person.get(next(link for link in links(page) if "signup" in link))
    reset = person.get(next(link for link in links(page) if "password-reset" in link))
    back = person.get(next(link for link in links(reset) if "login" in link))
    response = person.submit(back, email=EMAIL, password=PASSWORD)

    assert field(signup, "next")["value"] == field(reset, "next")["value"] == "/secret?page=2"
    assert response.headers["Location"] == "/secret?page=2"


def test_next_is_kept_when_the_address_must_be_confirmed_first(site: Site) -> None:
    """Where somebody wanted to go is kept when he has to confirm his address before he can log in."""
    person = site.person()
    site.program().signup("ada@example.com")

    sent = person.follow(person.login("ada@example.com", next="/secret"))

    assert heading(sent) == "Confirm your email first"
    assert "/auth/login?next=/secret" in links(sent)


def test_whoever_is_logged_in_needs_no_login_page(site: Site) -> None:
    """Somebody who is logged in and opens the login page is sent on to where it would lead."""
    site.member()
    person = site.person()
    person.login(EMAIL)

    found = [person.get(f"/auth/login{query}").headers["Location"] for query in ("", "?next=/secret", "?next=///evil")]

    assert found == ["/", "/secret", "/"]


@pytest.mark.parametrize("remember", [True, False])
def test_remember_me(site: Site, remember: bool) -> None:
    """A ticked box makes the cookie stay when the browser is closed; an empty one does not."""
    site.member()
    person = site.person()

    response = person.login(EMAIL, remember="y" if remember else None)

    [cookie] = [one for one in response.headers.getlist("Set-Cookie") if one.startswith("session=")]
    row = site.rows("session")[0]
    assert ("Expires=" in cookie) is remember
    assert row.remember is remember
    assert (row.expires_at - row.created_at).days == (14 if remember else 1)


@pytest.mark.parametrize("default", [True, False])
def test_the_site_chooses_whether_remember_is_ticked(make_site: Callable[..., Site], default: bool) -> None:
    """REMEMBER_DEFAULT ticks the box at first, and stands for a program that says nothing."""
    site = make_site({"ACCOUNTFLOW_REMEMBER_DEFAULT": default})
    site.member()

    Script(site).log_in()

    assert ("checked" in field(site.person().get("/auth/login"), "remember")) is default
    assert site.rows("session")[0].remember is default


def test_an_emptied_box_stays_empty_when_the_form_comes_back(site: Site) -> None:
    """A wrong password does not tick the box again."""
    page = site.person().login(EMAIL, OTHER_PASSWORD, remember=None)

    assert "checked" not in field(page, "remember")


def test_LOG_03_login_changes_the_session(site: Site) -> None:
    """The cookie from before a login is another one, and opens nothing."""
    site.member()
    person = site.person()
    person.get("/auth/login")
    before = session_cookie(person)

    person.login(EMAIL)

    assert session_cookie(person) != before
    assert not logged_in(with_cookie(site, before))


def test_two_logins_are_two_sessions(site: Site) -> None:
    """Each login has a row of its own, also in the same browser."""
    site.member()
    script = Script(site)

    script.log_in()
    script.log_in()

    assert len({row.id for row in site.rows("session")}) == 2


@pytest.mark.parametrize("value", ["made-up", "eyJfYWNjb3VudGZsb3dfc2lkIjoiMDAifQ.aaaa.bbbb", ""])
def test_LOG_04_a_made_up_cookie_is_nothing(site: Site, value: str) -> None:
    """A session cookie that we did not sign is ignored, and a login beside it gets one of ours."""
    site.member()
    person = with_cookie(site, value)

    assert not logged_in(person)
    person.login(EMAIL)
    assert logged_in(person)
    assert session_cookie(person) != value


def test_the_cookie_transport(site: Site) -> None:
    """A program in a browser may ask for a cookie; then the answer holds no token, and the cookie works."""
    site.member()
    script = Script(site)

    response = script.log_in()

    assert response.status_code == 200
    assert {name: response.json[name] for name in ("access_token", "expires_in", "refresh_token")} == {
        "access_token": None,
        "expires_in": None,
        "refresh_token": None,
    }
    assert response.json["refresh_expires_in"] is None
    assert response.json["user"]["email"] == EMAIL
    assert "HttpOnly" in cookies(response)[0]
    assert script.get("/auth/me").json["email"] == EMAIL
    assert site.rows("session")[0].kind == "browser"


def test_a_login_by_cookie_needs_the_token(site: Site) -> None:
    """A login that asks for a cookie is refused without the token of the browser's session."""
    site.member()
    script = Script(site)
    body = {"email": EMAIL, "password": PASSWORD, "transport": "cookie"}

    bare = script.post("/auth/login", body)
    foreign = script.post("/auth/login", body, x_csrf_token=Script(site).token())

    assert [script.code(answer) for answer in (bare, foreign)] == ["csrf_failed", "csrf_failed"]
    assert site.rows("session") == []


@pytest.mark.parametrize("transport", ["carrier pigeon", "", 1, ["cookie"], True])
def test_an_unknown_transport_is_refused(site: Site, transport: object) -> None:
    """There are two transports."""
    site.member()

    response = site.program().login(EMAIL, transport=transport)

    assert (response.status_code, response.json["errors"][0]["field"]) == (422, "transport")


def test_a_bearer_login_beside_a_cookie_sets_none(site: Site) -> None:
    """A program that logs in for tokens neither uses nor changes the browser's session."""
    site.member()
    person = site.person()
    person.login(EMAIL, remember=None)
    script = Script(site, person.client)

    response = script.login(EMAIL)

    assert response.status_code == 200
    assert cookies(response) == []
    assert logged_in(person)
    assert script.get("/auth/me", **bearer(response)).status_code == 200


def test_the_hosts_cart_stays(site: Site) -> None:
    """What the host keeps in the session of a stranger is still there when he logs in, and when he comes back."""
    site.member()
    person = site.person()
    _fill_cart(person, ["hat"])

    person.login(EMAIL)
    first = _cart(person)
    with site.app.app_context():
        site.accounts.revoke_sessions(EMAIL)
    person.login(EMAIL)

    assert first == _cart(person) == ["hat"]


def test_the_cart_of_somebody_else_does_not_stay(site: Site) -> None:
    """Who logs in where somebody else was logged in does not find the other's cart."""
    site.member()
    site.member("eve@example.com")
    script = Script(site)
    script.log_in()
    _fill_cart(script, ["hat"])

    script.log_in("eve@example.com")

    assert _cart(script) is None
    assert script.get("/auth/me").json["email"] == "eve@example.com"


def test_a_token_beside_the_cookie_keeps_no_cart(site: Site) -> None:
    """Whose cart it was is asked of the cookie, whatever token is sent beside it."""
    site.member()
    site.member("eve@example.com")
    script = Script(site)
    script.log_in(EMAIL)
    _fill_cart(script, ["hat"])

    body = {"email": "eve@example.com", "password": PASSWORD, "transport": "cookie"}
    response = script.post("/auth/login", body, x_csrf_token=script.token(), authorization="Bearer x")

    assert response.status_code == 200
    assert _cart(script) is None


def test_the_cart_of_a_session_that_is_gone_does_not_stay(site: Site) -> None:
    """When nobody can tell any more whose session it was, what it held is dropped at login."""
    site.member()
    script = Script(site)
    script.log_in()
    _fill_cart(script, ["hat"])
    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.execute(site.tables.session.delete())

    script.log_in()

    assert _cart(script) is None


def _fill_cart(visitor: Person | Script, cart: list[str]) -> None:
    with visitor.client.session_transaction() as session:
        session["cart"] = cart


def _cart(visitor: Person | Script) -> object:
    with visitor.client.session_transaction() as session:
        return session.get("cart")


def test_SES_02_the_cookie_holds_nothing_about_the_person(site: Site) -> None:
    """After a login the session holds the id of its row and the secret of its forms, and nothing that was typed."""
    person = site.person()
    person.signup("ada@example.com")
    with person.client.session_transaction() as session:
        before = set(session)

    person.verify(site.last_link)

    with person.client.session_transaction() as session:
        after = set(session)
    assert before == {f"_accountflow_{name}" for name in ("csrf", "nonce", "email", "asked")}
    assert after == {"_accountflow_sid", "_accountflow_csrf", "_permanent"}


def test_SES_16_the_cookie_stays_small(site: Site) -> None:
    """The longest address and the longest next page that we keep make no cookie that a browser would drop."""
    person = site.person()
    email = "a" * 64 + "@" + ".".join(["b" * 60] * 3) + ".com"

    response = person.signup(email, next="/" + "n" * 2000)

    assert response.status_code == 303
    assert len(response.headers["Set-Cookie"]) < 4096


def test_SES_01_cookie_attributes(make_site: Callable[..., Site]) -> None:
    """With an https address the session cookie is Secure, HttpOnly and SameSite=Lax, and for this host alone."""
    site = make_site({"ACCOUNTFLOW_COOKIE_DEFAULTS": True, "SESSION_COOKIE_SECURE": False})
    site.member()
    client = site.app.test_client()
    person = site.person()
    person.client = client
    page = client.get("/auth/login", headers=person.headers, base_url="https://localhost")
    values = {**forms_of(page)[0].values, "email": EMAIL, "password": PASSWORD}

    response = client.post("/auth/login", data=values, headers=person.headers, base_url="https://localhost")

    parts = set(response.headers["Set-Cookie"].split("; ")[1:])
    assert response.status_code == 303
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= parts
    assert not any(part.startswith("Domain") for part in parts)


def test_a_login_takes_three_statements(site: Site, visitor: Program | Person) -> None:
    """A login reads once and writes twice."""
    site.member()
    page = visitor.get("/auth/login")

    with site.statements() as statements:
        if isinstance(visitor, Program):
            response = visitor.login(EMAIL)
        else:
            response = visitor.submit(page, email=EMAIL, password=PASSWORD)

    assert response.status_code == {"json": 200, "html": 303}[visitor.kind]
    assert len(statements) == 3


def test_a_host_may_have_a_login_page_of_its_own(make_site: Callable[..., Site]) -> None:
    """LOGIN_URL is where strangers, links and the logout lead, with the page that they wanted."""
    site = make_site({"ACCOUNTFLOW_LOGIN_URL": "/my-login?theme=dark", "ACCOUNTFLOW_AFTER_LOGIN": "/hello"})
    site.member()
    person = site.person()

    stranger = person.get("/secret?page=2")
    signup = person.get("/auth/signup")
    done = person.login(EMAIL)
    out = person.logout()

    assert stranger.headers["Location"] == "/my-login?theme=dark&next=%2Fsecret%3Fpage%3D2"
    assert "/my-login?theme=dark" in links(signup)
    assert done.headers["Location"] == "/hello"
    assert out.headers["Location"] == "/my-login?theme=dark"


def test_the_reset_page_does_not_learn_an_address_that_is_no_address(site: Site) -> None:
    """A text too long for an address is not kept in the session."""
    person = site.person()

    response = person.login("x" * 10_000, OTHER_PASSWORD)

    assert response.status_code == 422
    assert len(session_cookie(person)) < 1000


def test_every_visible_input_has_one_label(site: Site) -> None:
    """Every input that one sees on the login page has a label, and no placeholder stands in for it."""
    page = site.person().get("/auth/login")

    shown = [one for one in tags(page, "input") if one.get("type") != "hidden"]
    assert [one["id"] for one in shown] == [one["for"] for one in tags(page, "label")]
    assert not any("placeholder" in one for one in shown)
    assert all("novalidate" in form for form in tags(page, "form"))
