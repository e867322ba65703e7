"""Typing the password again, before something that needs a recent login."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from answers import (
    Script,
    bearer,
    code,
    cookies,
    field,
    heading,
    links,
    logged_in,
    rows,
    session_cookie,
    tags,
    title,
    with_cookie,
    words,
)
from support import OTHER_PASSWORD, PASSWORD, Person, Program, Site, forms_of

from flask_accountflow.passwords import BcryptHasher

EMAIL = "vic@example.com"
PATH = "/auth/login/fresh"
#: What FRESH_MAX_AGE is unless the site says otherwise, in seconds.
MAX_AGE = 900


def refresh(site: Site, pair: Any) -> Any:
    """Exchange the refresh token of a pair."""
    return site.program().post("/auth/refresh", {"refresh_token": pair.json["refresh_token"]})


def stale_person(site: Site, **fields: Any) -> Person:
    """Return a browser whose login is no longer fresh."""
    site.member()
    person = site.person()
    person.login(EMAIL, **fields)
    site.clock.tick(MAX_AGE)
    return person


def stale_script(site: Site) -> Script:
    """Return a program in a browser whose login is no longer fresh; Flask does not renew its cookie."""
    site.member()
    script = Script(site)
    script.log_in(remember=False)
    site.clock.tick(MAX_AGE)
    return script


def stale_pair(site: Site) -> Any:
    """Return a program's pair that is no longer fresh, and whose access token still works."""
    site.member()
    pair = site.program().login(EMAIL)
    site.clock.tick(MAX_AGE - 1)
    pair = refresh(site, pair)
    site.clock.tick(1)
    return pair


@pytest.mark.parametrize(("age", "is_fresh"), [(0, True), (MAX_AGE - 1, True), (MAX_AGE, False), (10_000, False)])
@pytest.mark.parametrize("kind", ["cookie", "bearer", "page"])
def test_a_login_is_fresh_for_a_while(make_site: Callable[..., Site], kind: str, age: int, is_fresh: bool) -> None:
    """A view that needs a recent login lets in until FRESH_MAX_AGE after the password was typed, and then no more."""
    site = make_site({"ACCOUNTFLOW_ACCESS_TOKEN_MAX_AGE": 86400})
    site.member()
    visitor: Any = {"cookie": Script, "bearer": Program, "page": Person}[kind](site)
    response = visitor.log_in() if kind == "cookie" else visitor.login(EMAIL)
    headers = bearer(response) if kind == "bearer" else {}
    site.clock.tick(age)

    answer = visitor.get("/vault", **headers)

    assert answer.status_code == (200 if is_fresh else {"page": 303}.get(kind, 401))
    assert (answer.text == "vault") is is_fresh


def test_the_site_says_how_long(make_site: Callable[..., Site]) -> None:
    """FRESH_MAX_AGE is how long, for pages and in the challenge."""
    site = make_site({"ACCOUNTFLOW_FRESH_MAX_AGE": 60})
    site.member()
    pair = site.program().login(EMAIL)
    site.clock.tick(60)

    answer = site.program().get("/vault", **bearer(pair))

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].endswith("max_age=60")


# A person


def test_a_person_types_the_password_again(site: Site) -> None:
    """A browser is led to a page that names the person, and with the right password back to where it was."""
    person = stale_person(site)

    sent = person.get("/vault?page=2&q=a%20b")
    page = person.follow(sent)
    back = person.submit(page, password=PASSWORD)

    assert sent.headers["Location"] == f"{PATH}?next=/vault?page%3D2%26q%3Da%2520b"
    assert (page.status_code, heading(page)) == (200, "Enter your password again")
    assert f"You're logged in as {EMAIL}." in words(page)
    assert back.headers["Location"] == "/vault?page=2&q=a%20b"
    assert person.follow(back).text == "vault"


def test_the_page(site: Site) -> None:
    """The page helps password managers, and leads to a new password and to a logout."""
    page = stale_person(site).get(PATH)

    password, name = field(page, "password"), next(one for one in tags(page, "input") if one.get("id") == "username")
    assert (password["autocomplete"], password["id"]) == ("current-password", "current-password")
    assert not {"maxlength", "minlength"} & set(password)
    assert (name["value"], name["autocomplete"]) == (EMAIL, "username")
    assert links(page) == ["/auth/password-reset/request", "/auth/logout"]


def test_a_wrong_password_brings_the_form_back(site: Site) -> None:
    """A wrong password is named at its field, with a way to a new one, and lets nobody in; the form then works."""
    person = stale_person(site)
    page = person.follow(person.get("/vault"))

    wrong = person.submit(page, password=OTHER_PASSWORD)
    still = person.get("/vault")
    right = person.submit(wrong, password=PASSWORD)

    assert (wrong.status_code, title(wrong)) == (422, "Error: Enter your password again – Shop")
    assert "This password isn't right." in words(wrong)
    assert links(wrong) == ["#current-password", "/auth/password-reset/request?next=/vault", "/auth/logout"]
    assert f"You're logged in as {EMAIL}." in words(wrong)
    assert OTHER_PASSWORD not in wrong.text
    assert field(wrong, "password")["aria-invalid"] == "true"
    assert still.status_code == 303
    assert right.headers["Location"] == "/vault"


def test_nothing_typed(site: Site) -> None:
    """An empty field is named, in both formats, and costs no try."""
    person = stale_person(site)
    script = Script(site, person.client)

    page = person.fill(PATH, password="")
    answer = script.post(PATH, x_csrf_token=script.token())

    assert (page.status_code, answer.status_code) == (422, 422)
    assert "Enter your password." in words(page)
    assert [(fault["field"], fault["code"]) for fault in answer.json["errors"]] == [("password", "required")]


@pytest.mark.parametrize("remember", ["y", None])
def test_the_new_login_is_kept_as_the_old_one(site: Site, remember: str | None) -> None:
    """Whether the cookie stays when the browser is closed was said at the login, and is not asked again."""
    person = stale_person(site, remember=remember)

    answer = person.fill(PATH, password=PASSWORD)

    old, new = sorted(site.rows("session"), key=lambda row: row.created_at)
    [cookie] = [one for one in answer.headers.getlist("Set-Cookie") if one.startswith("session=")]
    assert ("Expires=" in cookie) is (remember is not None)
    assert old.remember is new.remember is (remember is not None)
    assert (old.revoked_at is None, new.revoked_at is None) == (False, True)


def test_the_old_cookie_is_dead(site: Site) -> None:
    """A copy of the cookie from before is no login any more: who holds one does not become fresh with its owner."""
    person = stale_person(site)
    copy = with_cookie(site, session_cookie(person))
    was_in = logged_in(copy)

    person.fill(PATH, password=PASSWORD)

    assert (was_in, logged_in(copy), logged_in(person)) == (True, False, True)
    assert copy.get("/vault").headers["Location"] == "/auth/login?next=/vault"


def test_a_form_from_before_is_dead(site: Site) -> None:
    """The token of the forms changes with the login; what was open in another tab has to be sent again."""
    person = stale_person(site)
    account = person.me()

    person.fill(PATH, password=PASSWORD)
    late = person.submit(account)

    assert late.status_code == 403
    assert logged_in(person)


def test_the_hosts_cart_stays(site: Site) -> None:
    """What the host keeps in the session is still there."""
    person = stale_person(site)
    with person.client.session_transaction() as session:
        session["cart"] = ["hat"]

    person.fill(PATH, password=PASSWORD)

    with person.client.session_transaction() as session:
        assert session["cart"] == ["hat"]


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_what_was_sent_is_not_sent_again(site: Site, method: str) -> None:
    """A post that was not fresh is not repeated: after the password one is where a login leads."""
    person = stale_person(site)

    sent = person.client.open("/vault", method=method, headers=person.headers)
    done = person.submit(person.follow(sent), password=PASSWORD)

    assert sent.headers["Location"] == {"POST": PATH, "GET": f"{PATH}?next=/vault"}[method]
    assert done.headers["Location"] == {"POST": "/", "GET": "/vault"}[method]
    assert person.client.open("/vault", method=method, headers=person.headers).text == "vault"


@pytest.mark.parametrize(
    "value",
    [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "https://evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "/x\r\nSet-Cookie: a=b",
        "/a/../..//evil.example",
        "evil.example",
        "/" + "x" * 10_000,
    ],
    ids=lambda value: ascii(value[:20]),
)
def test_LOG_14_next_cannot_leave_the_site(site: Site, value: str) -> None:
    """A hostile next, in the address or in the form, leads where a login leads."""
    person = stale_person(site)

    page = person.client.get(PATH, query_string={"next": value}, headers=person.headers)
    first = person.submit(page, password=PASSWORD)
    second = person.fill(PATH, password=PASSWORD, next=value)

    assert value not in page.text
    assert [answer.headers["Location"] for answer in (first, second)] == ["/", "/"]


def test_the_page_of_a_fresh_login_works_too(site: Site) -> None:
    """Who opens the page while his login is fresh may type the password, and is sent on."""
    site.member()
    person = site.person()
    person.login(EMAIL)

    answer = person.submit(person.get(f"{PATH}?next=/vault"), password=PASSWORD)

    assert answer.headers["Location"] == "/vault"


@pytest.mark.parametrize("token", [None, "x", "foreign"])
def test_CSR_01_the_form_needs_its_token(site: Site, token: str | None) -> None:
    """Without the token of this browser's session nothing is checked; the form comes back, and then works."""
    person = stale_person(site)
    if token == "foreign":
        token = forms_of(site.person().get("/auth/login"))[0].values["csrf_token"]
    before = rows(site)

    page = person.send(PATH, {"password": PASSWORD, **({} if token is None else {"csrf_token": token})})

    assert (page.status_code, heading(page)) == (403, "Enter your password again")
    assert rows(site) == before
    assert PASSWORD not in page.text
    assert person.submit(page, password=PASSWORD).status_code == 303


@pytest.mark.parametrize("headers", [{"sec_fetch_site": "cross-site"}, {"origin": "https://evil.example"}], ids=str)
def test_CSR_02_nobody_is_renewed_from_elsewhere(site: Site, headers: dict[str, str]) -> None:
    """A post that another site's page sent is refused in both formats, even with the token."""
    person = stale_person(site)
    token = forms_of(person.get(PATH))[0].values["csrf_token"]
    before = rows(site)

    page = person.send(PATH, {"password": PASSWORD, "csrf_token": token}, **headers)
    answer = Script(site, person.client).post(PATH, {"password": PASSWORD}, x_csrf_token=token, **headers)

    assert (page.status_code, answer.status_code) == (403, 403)
    assert answer.json["code"] == "cross_origin_blocked"
    assert rows(site) == before


# A program


def test_a_program_is_challenged(site: Site) -> None:
    """A program hears which login it lacks, as a problem and by the challenge of RFC 9470."""
    answer = site.program().get("/vault", **bearer(stale_pair(site)))

    assert answer.status_code == 401
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["WWW-Authenticate"] == (
        'Bearer realm="Shop", error="insufficient_user_authentication", max_age=900'
    )
    assert (answer.json["code"], answer.json["instance"]) == ("fresh_login_required", "/vault")
    assert "Location" not in answer.headers


def test_a_program_with_tokens_gets_a_new_pair(site: Site) -> None:
    """The right password is answered with a Session; the new pair is fresh, and the old one is dead."""
    pair = stale_pair(site)
    program = site.program()

    answer = program.post(PATH, {"password": PASSWORD}, **bearer(pair))

    assert answer.status_code == 200
    assert answer.json.keys() == pair.json.keys()
    assert (answer.json["user"]["email"], answer.json["expires_in"]) == (EMAIL, 900)
    assert answer.json["refresh_expires_in"] == 2592000
    assert cookies(answer) == []
    assert program.get("/vault", **bearer(answer)).text == "vault"
    assert [program.me(one).status_code for one in (pair, answer)] == [401, 200]
    assert [refresh(site, one).status_code for one in (pair, answer)] == [401, 200]
    assert site.letters == []


def test_a_program_with_the_cookie_gets_a_new_one(site: Site) -> None:
    """By cookie the answer holds no token; the new cookie is fresh, and the old one and its CSRF token are dead."""
    script = stale_script(site)
    copy, token = with_cookie(site, session_cookie(script)), script.token()

    answer = script.post(PATH, {"password": PASSWORD}, x_csrf_token=token)

    assert answer.status_code == 200
    assert {answer.json[name] for name in ("access_token", "expires_in", "refresh_token", "refresh_expires_in")} == {
        None
    }
    assert answer.json["user"]["email"] == EMAIL
    assert script.get("/vault").text == "vault"
    assert not logged_in(copy)
    assert script.token() != token
    assert script.post("/auth/logout", x_csrf_token=token).status_code == 403
    assert script.post("/auth/logout", x_csrf_token=script.token()).status_code == 204


@pytest.mark.parametrize("token", [None, "", "x"])
def test_TOK_08_a_cookie_needs_its_token(site: Site, token: str | None) -> None:
    """By cookie the password alone renews nothing: the header with the token must be there."""
    script = stale_script(site)
    before = rows(site)

    answer = script.post(PATH, {"password": PASSWORD}, **({} if token is None else {"x_csrf_token": token}))

    assert (answer.status_code, answer.json["code"], cookies(answer)) == (403, "csrf_failed", [])
    assert rows(site) == before


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_foreign_form_can_send_is_not_json(site: Site, kind: str) -> None:
    """The types that a form elsewhere can send without being asked are no JSON, be it with the token."""
    script = stale_script(site)
    token, before = script.token(), rows(site)

    answer: Any = script.client.post(
        PATH,
        data=f'{{"password": "{PASSWORD}"}}'.encode(),
        content_type=kind,
        headers={**script.headers, "X-CSRF-Token": token},
    )

    assert (answer.status_code, answer.json["code"]) == (415, "unsupported_media_type")
    assert rows(site) == before


def test_TOK_08_a_bearer_call_leaves_the_cookie_beside_it_alone(site: Site) -> None:
    """A program that shows a token renews that login, and neither uses nor changes the cookie beside it."""
    script = stale_script(site)
    pair = script.login(EMAIL)
    before = session_cookie(script)

    answer = script.post(PATH, {"password": PASSWORD}, **bearer(pair))

    assert (answer.status_code, cookies(answer)) == (200, [])
    assert answer.json["access_token"] is not None
    assert session_cookie(script) == before
    assert logged_in(script)
    assert script.get("/vault").status_code == 401


def test_a_transport_is_not_chosen_here(site: Site) -> None:
    """A login is renewed as the kind that it is, whatever the body asks for."""
    answer = site.program().post(PATH, {"password": PASSWORD, "transport": "cookie"}, **bearer(stale_pair(site)))

    assert answer.json["access_token"] is not None
    assert cookies(answer) == []


def test_a_wrong_password_in_json(site: Site) -> None:
    """A program's wrong password is a fault of its field, 422 and no challenge, and the old pair goes on."""
    pair = stale_pair(site)
    program = site.program()

    answer = program.post(PATH, {"password": OTHER_PASSWORD}, **bearer(pair))

    assert (answer.status_code, answer.json["code"]) == (422, "validation_failed")
    assert answer.json["errors"] == [
        {
            "pointer": "#/password",
            "field": "password",
            "code": "incorrect",
            "detail": "This password isn't right.",
            "params": {},
        }
    ]
    assert "WWW-Authenticate" not in answer.headers
    assert program.me(pair).status_code == 200
    assert program.get("/vault", **bearer(pair)).status_code == 401


@pytest.mark.parametrize("password", [1, None, ["x"], {"a": 1}, True, ""])
def test_what_is_no_password_is_a_fault_of_the_body(site: Site, password: object) -> None:
    """A body without a password, or with one of another type, is faulty."""
    answer = site.program().post(PATH, {"password": password}, **bearer(stale_pair(site)))

    assert answer.status_code == 422
    assert answer.json["errors"][0]["field"] == "password"
    assert answer.json["errors"][0]["code"] != "incorrect"


def test_a_program_may_ask_for_the_field(site: Site) -> None:
    """GET tells a program that is logged in what to send."""
    answer = site.program().get(PATH, **bearer(stale_pair(site)))

    assert answer.status_code == 200
    assert answer.json["fields"] == [{"name": "password", "label": "Password", "type": "password"}]


def test_a_refresh_does_not_make_fresh(site: Site) -> None:
    """A pair that was refreshed is as old as its login."""
    pair = stale_pair(site)

    assert site.program().get("/vault", **bearer(refresh(site, pair))).status_code == 401


def test_use_does_not_make_fresh(site: Site) -> None:
    """A login that is used all the time is as old as its password."""
    site.member()
    person = site.person()
    person.login(EMAIL)

    for _ in range(3):
        site.clock.tick(301)
        with person.get("/secret"):
            pass

    assert person.get("/vault").status_code == 303


# Both


def _stale(site: Site, kind: str) -> Callable[..., Any]:
    """Return how a stale login of this kind sends a password."""
    if kind == "page":
        person = stale_person(site)
        return lambda password=PASSWORD: person.fill(PATH, password=password)
    if kind == "cookie":
        script = stale_script(site)
        return lambda password=PASSWORD: script.post(PATH, {"password": password}, x_csrf_token=script.token())
    pair = stale_pair(site)
    return lambda password=PASSWORD: site.program().post(PATH, {"password": password}, **bearer(pair))


KINDS = pytest.mark.parametrize("kind", ["page", "cookie", "bearer"])


@KINDS
def test_RAT_01_guesses_are_bounded(make_site: Callable[..., Site], kind: str) -> None:
    """Guesses use up the failures of the address: the right password is then refused here, and at the login, too.

    A browser that is known has as many tries of its own before.
    """
    site = make_site({"ACCOUNTFLOW_RATELIMIT_ENABLED": True, "ACCOUNTFLOW_RATELIMIT_LOGIN": "3/30 day"})
    send = _stale(site, kind)

    tries = 6 if kind == "page" else 3
    found = [send(OTHER_PASSWORD) for _ in range(tries)]
    late = send()
    login = site.program().login(EMAIL)

    assert [answer.status_code for answer in found] == [422] * tries
    assert (late.status_code, login.status_code) == (429, 429)
    assert int(late.headers["Retry-After"]) > 0
    if kind == "page":
        assert heading(late) == "Enter your password again"
    else:
        assert late.json["code"] == "rate_limited"


@KINDS
def test_RAT_01_failed_logins_count_here(make_site: Callable[..., Site], kind: str) -> None:
    """Failed logins of the address use up the tries of those who are logged in, but for a browser that is known."""
    site = make_site({"ACCOUNTFLOW_RATELIMIT_ENABLED": True, "ACCOUNTFLOW_RATELIMIT_LOGIN": "3/30 day"})
    send = _stale(site, kind)
    for _ in range(3):
        site.program().login(EMAIL, OTHER_PASSWORD)

    assert send().status_code == (303 if kind == "page" else 429)


@KINDS
def test_an_account_without_a_password_has_no_right_one(site: Site, kind: str) -> None:
    """Where there is no password every one is wrong, and the page leads to setting one."""
    send = _stale(site, kind)
    site.change(EMAIL, password_hash=None)

    answer = send()

    assert answer.status_code == 422
    if kind == "page":
        assert "/auth/password-reset/request" in links(answer)
    else:
        assert answer.json["errors"][0]["code"] == "incorrect"


@KINDS
@pytest.mark.parametrize("what", ["disabled", "reset", "ended"])
def test_LOG_17_who_is_out_is_not_renewed(site: Site, kind: str, what: str) -> None:
    """After the account was disabled, its password reset or the login ended, the right password renews nothing."""
    send = _stale(site, kind)
    with site.app.app_context():
        if what == "disabled":
            site.accounts.disable_user(EMAIL)
        elif what == "reset":
            site.accounts.request_reset(EMAIL)
            site.accounts.reset(site.last_token, OTHER_PASSWORD)
        else:
            site.accounts.revoke_sessions(EMAIL)
    before = site.rows("session")

    if kind == "page":
        person = site.person()
        answer = person.get(PATH)
        assert answer.headers["Location"] == f"/auth/login?next={PATH}"
    else:
        answer = send()
        assert (answer.status_code, answer.json["code"]) == (401, "authentication_required")
    assert site.rows("session") == before


def test_a_page_that_is_sent_too_late(site: Site) -> None:
    """Who was logged out while the page was open is asked to log in, and nothing is opened."""
    person = stale_person(site)
    page = person.get(PATH)
    with site.app.app_context():
        site.accounts.revoke_sessions(EMAIL)

    answer = person.submit(page, password=PASSWORD)

    assert answer.headers["Location"] == "/auth/login"
    assert len(site.rows("session")) == 1
    assert not logged_in(person)


class SlowHasher(BcryptHasher):
    """A hasher during whose work something else happens, once."""

    meanwhile: Callable[[], Any] | None = None

    def check(self, password: str, *stored: str | None) -> tuple[bool, ...]:
        found = super().check(password, *stored)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return found


@KINDS
@pytest.mark.parametrize("what", ["disabled", "ended"])
def test_what_ends_meanwhile_is_not_renewed(make_site: Callable[..., Site], kind: str, what: str) -> None:
    """When the login ends while its password is being checked, the answer is that of a stranger, and no login opens."""
    hasher = SlowHasher(rounds=4)
    site = make_site(hasher=hasher)
    send = _stale(site, kind)
    hasher.meanwhile = {"disabled": lambda: _disable(site), "ended": lambda: _end_logins(site)}[what]

    answer = send()

    assert len(site.rows("session")) == 1
    if kind == "page":
        assert answer.headers["Location"] == "/auth/login"
    else:
        assert (answer.status_code, answer.json["code"]) == (401, "authentication_required")


def _disable(site: Site) -> None:
    with site.app.app_context():
        site.accounts.disable_user(EMAIL)


def _end_logins(site: Site) -> None:
    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.execute(site.tables.session.update().values(revoked_at=site.clock.now))


@pytest.mark.parametrize("path", [PATH, f"{PATH}?next=/vault"])
def test_strangers(site: Site, visitor: Program | Person, path: str) -> None:
    """A stranger is asked to log in, on the page and in a post: a program by 401, a person by the login page."""
    opened = visitor.get(path)
    sent = visitor.post(PATH, {"password": PASSWORD}) if isinstance(visitor, Program) else visitor.send(PATH, {})

    if isinstance(visitor, Program):
        assert [(answer.status_code, code(visitor, answer)) for answer in (opened, sent)] == [
            (401, "authentication_required")
        ] * 2
        assert opened.headers["WWW-Authenticate"] == 'Bearer realm="Shop"'
    else:
        assert heading(visitor.follow(opened)) == heading(visitor.follow(sent)) == "Log in"


@pytest.mark.parametrize("method", ["put", "delete", "patch"])
def test_other_methods_are_named(site: Site, visitor: Program | Person, method: str) -> None:
    """Another method is answered with those that there are."""
    response = getattr(visitor.client, method)(PATH, headers=visitor.headers)

    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD, POST, OPTIONS")


def test_LOG_08_a_password_of_any_length_is_merely_wrong(site: Site) -> None:
    """A password that no rule would allow is answered as any wrong one."""
    pair = stale_pair(site)

    found = [site.program().post(PATH, {"password": "x" * length}, **bearer(pair)) for length in (1, 73, 40_000)]

    assert [answer.json["errors"][0]["code"] for answer in found] == ["incorrect"] * 3
