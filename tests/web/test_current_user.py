"""Who ``current_user`` is, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from answers import Script, bearer, logged_in, session_cookie, with_cookie
from flask import Response, g
from support import PASSWORD, Person, Program, Site

from flask_accountflow import current_user
from flask_accountflow.sessions import Anonymous

EMAIL = "vic@example.com"


def test_nobody(site: Site) -> None:
    """For nobody, and outside requests, current_user is falsy, has no id and no address, and may do nothing."""

    def look() -> dict[str, Any]:
        names = ("id", "email", "is_authenticated", "is_anonymous", "is_active", "is_admin", "email_verified")
        return {"it": bool(current_user), "get_id": current_user.get_id()} | {
            name: getattr(current_user, name) for name in names
        }

    with site.app.app_context():
        outside = look()
    with site.app.test_request_context("/"):
        inside = look()
        assert isinstance(current_user._get_current_object(), Anonymous)

    assert outside == inside
    assert inside == {
        "it": False,
        "get_id": None,
        "id": None,
        "email": None,
        "is_authenticated": False,
        "is_anonymous": True,
        "is_active": False,
        "is_admin": False,
        "email_verified": False,
    }


@pytest.mark.usefixtures("own_site")
def test_somebody(site: Site) -> None:
    """For somebody, current_user is the app's own user, in the app's own session."""
    found: dict[str, Any] = {}

    @site.app.get("/look")
    def look() -> str:
        user = current_user._get_current_object()
        found.update(
            type=type(user),
            own=user in site.db.session,
            same=user is site.db.session.get(site.User, user.id),
            truth=bool(current_user),
            names=[user.is_authenticated, user.is_anonymous, user.is_active, user.email_verified, user.get_id()],
        )
        return "looked"

    site.member()
    person = site.person()
    person.login(EMAIL)
    person.get("/look")

    assert found == {
        "type": site.User,
        "own": True,
        "same": True,
        "truth": True,
        "names": [True, False, True, True, str(site.account(EMAIL).id)],
    }


@pytest.mark.usefixtures("own_site")
def test_our_own_routes_load_no_entity_unless_the_host_asks(site: Site) -> None:
    """A program is answered without the app's user being loaded; where the host asks for it, it is there."""
    loaded: list[Any] = []
    asked: list[str | None] = []
    asks = {"before": False, "after": False}

    @site.app.before_request
    def before() -> None:
        if asks["before"]:
            asked.append(current_user.email)

    @site.app.after_request
    def after(response: Response) -> Response:
        if asks["after"]:
            asked.append(current_user.email)
        return response

    site.member()
    program = Program(site)
    pair = program.login(EMAIL)
    sa.event.listen(site.User, "load", lambda user, context: loaded.append(user))
    found = []
    for when in ("never", "before", "after"):
        asks.update(before=when == "before", after=when == "after")
        loaded.clear()
        with site.statements() as ran:
            answer = program.me(pair)
        found.append((when, answer.status_code, answer.json["email"], len(loaded), len(ran)))

    assert found == [("never", 200, EMAIL, 0, 1), ("before", 200, EMAIL, 1, 1), ("after", 200, EMAIL, 1, 2)]
    assert asked == [EMAIL, EMAIL]


@pytest.mark.usefixtures("own_site")
def test_a_stranger_is_not_looked_up_twice(site: Site) -> None:
    """After our route has found nobody, current_user is nobody without another question."""
    seen: list[bool] = []

    @site.app.after_request
    def after(response: Response) -> Response:
        seen.append(bool(current_user))
        return response

    site.member()
    program = Program(site)
    pair = program.login(EMAIL)
    program.logout(pair)

    with site.statements() as ran:
        answer = program.me(pair)

    assert (answer.status_code, seen[-1], len(ran)) == (401, False, 1)


@pytest.mark.usefixtures("own_site")
def test_looking_does_not_flush_what_the_host_has_added(site: Site) -> None:
    """Asking for current_user does not write what the host has added and not finished."""

    @site.app.get("/half")
    def half() -> str:
        unfinished = site.User(name="x" * 10)
        site.db.session.add(unfinished)
        email = current_user.email
        pending = unfinished in site.db.session.new
        site.db.session.rollback()
        return f"{email} {pending}"

    site.member()
    person = site.person()
    person.login(EMAIL)

    assert person.get("/half").text == f"{EMAIL} True"


def test_requests_that_share_an_app_context_do_not_share_a_user(site: Site) -> None:
    """Within one app context, as tests push it, every request has its own user."""
    site.member()
    person = site.person()
    person.login(EMAIL)

    with site.app.app_context():
        g.something = 1
        found = [visitor.get("/").text for visitor in (person, site.person(), person)]

    assert found == [f"home of {EMAIL}", "home of None", f"home of {EMAIL}"]


@pytest.mark.parametrize("remember", [True, False])
def test_SES_10_idle(make_site: Callable[..., Site], remember: bool) -> None:
    """A login that is not remembered ends when it was not used for a while; a remembered one does not."""
    site = make_site({"ACCOUNTFLOW_SESSION_IDLE_MAX_AGE": 600})
    site.member()
    person = site.person()
    person.login(EMAIL, remember="y" if remember else None)

    for _ in range(3):
        site.clock.tick(599)
        with person.get("/"):
            pass
        assert logged_in(person)
    site.clock.tick(600)

    assert logged_in(person) is remember


def test_SES_09_the_absolute_limit(make_site: Callable[..., Site]) -> None:
    """However much a login is used, it ends when its time is over."""
    site = make_site({"ACCOUNTFLOW_SESSION_MAX_AGE": 1000})
    site.member()
    person = site.person()
    person.login(EMAIL)

    site.clock.tick(999)
    before = logged_in(person)
    site.clock.tick(1)

    assert (before, logged_in(person)) == (True, False)


def test_a_login_that_is_not_remembered_lasts_a_day_at_most(site: Site) -> None:
    """A login that is not remembered ends after a day, however much it is used."""
    site.member()
    person = site.person()
    person.login(EMAIL, remember=None)
    site.clock.tick(50_000)
    with person.get("/"):
        pass
    site.clock.tick(36_399)

    before = logged_in(person)
    site.clock.tick(1)

    assert (before, logged_in(person)) == (True, False)


def test_use_is_noted_after_the_answer_and_not_too_often(site: Site) -> None:
    """The last use of a login is noted after the response, and at most every five minutes."""
    site.member()
    person = site.person()
    person.login(EMAIL)
    start = site.rows("session")[0].last_seen_at
    seen = []

    for seconds in (300, 1, 200, 101):
        site.clock.tick(seconds)
        response = person.client.get("/", headers=person.headers)
        before = site.rows("session")[0].last_seen_at
        response.close()
        seen.append((int((before - start).total_seconds()), int((_last_seen(site) - start).total_seconds())))

    assert seen == [(0, 0), (0, 301), (301, 301), (301, 602)]


def _last_seen(site: Site) -> Any:
    return site.rows("session")[0].last_seen_at


@pytest.mark.usefixtures("own_site")
def test_a_use_that_cannot_be_noted_harms_nobody(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """When the last use cannot be written, the answer is as always and the log says so."""
    site.member()
    person = site.person()
    person.login(EMAIL)
    site.clock.tick(301)
    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.execute(
            sa.text(
                "CREATE TRIGGER no_note BEFORE UPDATE ON accountflow_session "
                "BEGIN SELECT RAISE(ABORT, 'read only'); END"
            )
        )

    response = person.get("/")
    response.close()

    assert response.text == f"home of {EMAIL}"
    assert "last_seen_at was not written" in caplog.text


def test_use_by_token_is_noted_too(site: Site) -> None:
    """The last use of a program's login is noted as well."""
    site.member()
    program = site.program()
    pair = program.login(EMAIL)
    site.clock.tick(600)

    program.get("/", **bearer(pair)).close()

    assert _last_seen(site).minute == 40


@pytest.mark.parametrize("what", ["password", "disabled", "revoked", "verified"])
def test_LOG_17_TOK_06_a_changed_account_is_out_at_once(site: Site, visitor: Program | Person, what: str) -> None:
    """After a reset, a block or a revocation no cookie and no token opens anything, from the next request on."""
    site.member()
    response = visitor.login(EMAIL)
    headers = bearer(response) if isinstance(visitor, Program) else {}
    before = visitor.get("/", **headers).text
    with site.app.app_context():
        if what == "password":
            site.accounts.request_reset(EMAIL)
            site.accounts.reset(site.last_token, "another horse battery")
        else:
            verb = {"disabled": "disable_user", "revoked": "revoke_sessions", "verified": "verify_user"}[what]
            getattr(site.accounts, verb)(EMAIL)

    assert (before, visitor.get("/", **headers).text) == (f"home of {EMAIL}", "home of None")


def test_a_row_that_was_disabled_by_hand_is_out_at_once(site: Site, visitor: Program | Person) -> None:
    """An account that the host itself blocks in the database is out, although its stamp is the old one."""
    site.member()
    response = visitor.login(EMAIL)
    headers = bearer(response) if isinstance(visitor, Program) else {}

    site.change(EMAIL, is_active=False)

    assert visitor.get("/", **headers).text == "home of None"


def test_an_account_that_is_gone_is_nobody(site: Site, visitor: Program | Person) -> None:
    """The login of an account whose row was removed opens nothing."""
    site.member()
    response = visitor.login(EMAIL)
    headers = bearer(response) if isinstance(visitor, Program) else {}

    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.execute(sa.delete(site.tables.user))

    assert visitor.get("/", **headers).text == "home of None"


def test_a_bearer_token_counts_alone(site: Site) -> None:
    """Beside an Authorization header with a bearer token the cookie is ignored, be the token good or bad."""
    site.member()
    site.member("eve@example.com")
    script = Script(site)
    script.log_in()
    pair = site.program().login("eve@example.com")

    good = script.get("/", **bearer(pair))
    bad = script.get("/", authorization="Bearer x")
    none = script.get("/")

    assert (good.text, bad.text, none.text) == ("home of eve@example.com", "home of None", f"home of {EMAIL}")


JUNK = [
    "Bearer",
    "Bearer ",
    "Bearer  ",
    "bearer x",
    "BEARER a.b.c",
    "Bearer a b",
    "Bearer \t",
    "Bearer " + "x" * 100_000,
    "Bearer \x80\xff",
    "Bearer é.é.é",
    "Bearer ....",
    "Bearer eyJhbGciOiJub25lIn0.e30.",
    "Bearer bnVsbA.bnVsbA.bnVsbA",
    "Bearer W10.W10.W10",
]
#: What is no bearer token does not stand in a cookie's way.
OTHERS = ["", " ", "Basic dmljOng=", "Basic", "Digest x", "Bearerx y", "Token x", "\x80", "Negotiate", "Basic \xff"]


@pytest.mark.parametrize("header", JUNK, ids=lambda text: ascii(text[:20]))
def test_TOK_07_a_junk_token_is_nobody(site: Site, header: str) -> None:
    """A bearer token of any kind that is not ours is refused with 401, beside a good cookie too."""
    site.member()
    script = Script(site)
    script.log_in()

    for visitor in (site.program(), script):
        response = visitor.get("/auth/me", authorization=header)
        assert (response.status_code, response.json["code"]) == (401, "authentication_required")
        assert response.headers["WWW-Authenticate"].endswith('error="invalid_token"')


@pytest.mark.parametrize("header", OTHERS, ids=ascii)
def test_TOK_07_another_scheme_is_the_hosts_own(site: Site, header: str) -> None:
    """Credentials of another scheme are not ours: a stranger stays one, and a cookie counts."""
    site.member()
    script = Script(site)
    script.log_in()

    assert site.program().get("/auth/me", authorization=header).status_code == 401
    assert script.get("/auth/me", authorization=header).status_code == 200


def test_TOK_01_a_token_counts_in_its_header_only(site: Site) -> None:
    """An access token in the query, in a form, in a cookie or in another header opens nothing."""
    site.member()
    token = site.program().login(EMAIL).json["access_token"]
    client = site.app.test_client()
    client.set_cookie("access_token", token)
    client.set_cookie("session", token)

    found = [
        client.get(f"/auth/me?access_token={token}", headers=Program.headers),
        client.get("/auth/me", headers={**Program.headers, "X-Access-Token": token}),
        client.get("/auth/me", headers={**Program.headers, "Authorization": f"Token {token}"}),
    ]

    assert [answer.status_code for answer in found] == [401, 401, 401]


def test_VER_06_a_token_is_good_for_its_own_use_only(site: Site) -> None:
    """A refresh token is no bearer token, and a browser's row is no program's."""
    site.member()
    pair = site.program().login(EMAIL)
    person = site.person()
    person.login(EMAIL)
    with site.app.app_context(), site.db.engine.begin() as connection:
        swapped = sa.case((site.tables.session.c.kind == "api", "browser"), else_="api")
        before = site.program().me(pair).status_code, logged_in(person)
        connection.execute(sa.update(site.tables.session).values(kind=swapped))

    refresh = site.program().get("/auth/me", authorization=f"Bearer {pair.json['refresh_token']}")

    assert before == (200, True)
    assert refresh.status_code == 401
    assert site.program().me(pair).status_code == 401
    assert not logged_in(person)


def test_a_token_whose_login_is_somebody_elses_is_nobody(site: Site) -> None:
    """A token names its user and its login; when they do not belong together it opens nothing."""
    site.member()
    site.member("eve@example.com")
    pair = site.program().login(EMAIL)

    with site.app.app_context(), site.db.engine.begin() as connection:
        eve, stamp = site.account("eve@example.com").id, site.account("eve@example.com").stamp
        connection.execute(sa.update(site.tables.session).values(user_id=eve, stamp=stamp))

    assert site.program().me(pair).status_code == 401


@pytest.mark.parametrize("other", [{"ACCOUNTFLOW_JWT_AUDIENCE": "other"}, {"ACCOUNTFLOW_JWT_ISSUER": "other"}])
def test_TOK_04_the_token_of_another_app_is_nobody(make_site: Callable[..., Site], other: dict[str, str]) -> None:
    """A token for another audience or of another issuer opens nothing, though the key is the same."""
    here = make_site()
    uri = str(here.app.config["SQLALCHEMY_DATABASE_URI"])
    there = make_site(other, uri=uri)
    here.member()

    pair = there.program().login(EMAIL)

    assert there.program().me(pair).status_code == 200
    assert here.program().me(pair).status_code == 401


def test_CFG_02_keys_are_changed_without_logging_out(make_site: Callable[..., Site]) -> None:
    """A session and a token that the former key has signed work while it is a fallback, and not afterwards."""
    old = make_site()
    uri = str(old.app.config["SQLALCHEMY_DATABASE_URI"])
    keys = {"SECRET_KEY": "f" * 32, "SECRET_KEY_FALLBACKS": [old.app.config["SECRET_KEY"]]}
    rotated, dropped = make_site(keys, uri=uri), make_site({"SECRET_KEY": "f" * 32}, uri=uri)
    old.member()
    person = old.person()
    person.login(EMAIL)
    pair = old.program().login(EMAIL)
    cookie = session_cookie(person)

    found = [(logged_in(with_cookie(site, cookie)), site.program().me(pair).status_code) for site in (rotated, dropped)]

    assert found == [(True, 200), (False, 401)]


@pytest.mark.parametrize("value", [None, 7, "x", "", ["a"], {"a": 1}, "0" * 32, "0" * 31 + "g"])
def test_a_session_that_names_no_login_is_nobody(site: Site, value: object) -> None:
    """Whatever stands in the session where our id should, it is nobody, and no fault."""
    person = site.person()
    with person.client.session_transaction() as session:
        session["_accountflow_sid"] = value

    assert person.get("/").text == "home of None"
    assert not logged_in(person)
    assert person.fill("/auth/logout").status_code == 303


def test_SES_03_ids_cannot_be_guessed(site: Site) -> None:
    """The ids of logins are 128 random bits: no two share a prefix or a fixed part."""
    site.member()
    for _ in range(40):
        site.program().login(EMAIL)

    ids = [row.id.int for row in site.rows("session")]

    assert len({number >> 96 for number in ids}) == 40
    for bit in range(128):
        assert len({number >> bit & 1 for number in ids}) == 2


def test_SES_12_nothing_from_before_the_proof_survives(site: Site) -> None:
    """A cookie from before the address was proved is worth nothing after it."""
    stranger, owner = site.person(), site.person()
    stranger.signup("ada@example.com", PASSWORD)
    link = site.last_link
    cookie = session_cookie(stranger)

    owner.verify(link)
    owner.login("ada@example.com")

    assert logged_in(owner)
    assert not logged_in(with_cookie(site, cookie))


@pytest.mark.parametrize("visitor_class", [Program, Person])
def test_VER_05_REF_06_a_respelled_access_token_is_nobody(site: Site, visitor_class: Any) -> None:
    """An access token has one spelling."""
    site.member()
    token = site.program().login(EMAIL).json["access_token"]
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".replace(token[-1], "")
    visitor = visitor_class(site)

    found = {
        visitor.get("/", authorization=f"Bearer {other}").text
        for other in (*(token[:-1] + sign for sign in last), token + "=", token + ".", token + "!!")
    }

    assert found == {"home of None"}
    assert visitor.get("/", authorization=f"Bearer {token}").text == f"home of {EMAIL}"
