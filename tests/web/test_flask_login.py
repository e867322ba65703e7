"""A host that speaks Flask-Login: its ``current_user`` and its decorators know our logins."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import flask_login
import pytest
from answers import bearer, cookies, logged_in, session_cookie, with_cookie
from flask import Blueprint, Flask, flash, get_flashed_messages, render_template_string, session
from flask_sqlalchemy import SQLAlchemy
from support import CONFIG, PASSWORD, Clock, MemoryTransport, Person, Program, Site

import flask_accountflow
from flask_accountflow import AccountFlow, ConfigError, UserMixin, login_required
from flask_accountflow.events import logged_out

EMAIL = "vic@example.com"
MANAGERS = ("before", "after", "none")
GREETING = "{% if current_user.is_authenticated %}Hello {{ current_user.email }}{% else %}Hello stranger{% endif %}"
STRANGER = "Hello stranger"


class Host(Site):
    """A host with pages as Flask-Login's documentation writes them; its manager is before us, after us or ours."""

    def __init__(self, uri: str, order: str, config: dict[str, Any]) -> None:
        self.clock, self.transport = Clock(), MemoryTransport()
        self.app = Flask(__name__)
        self.app.config.update(CONFIG, SQLALCHEMY_DATABASE_URI=uri, ACCOUNTFLOW_FLASK_LOGIN=True)
        self.app.config.update({"ACCOUNTFLOW_FRESH_MAX_AGE": 300, **config})
        self.db = db = SQLAlchemy(self.app)

        class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
            __tablename__ = "users"

        self.User = User
        #: The host's own manager, which may be set up later than it is made.
        self.manager: Any = flask_login.LoginManager()
        if order == "before":
            self.manager.init_app(self.app)
        self.accounts = AccountFlow(self.app, db, User, clock=self.clock, transport=self.transport)
        if order == "after":
            self.manager.init_app(self.app)
        self.tables = self.accounts.tables
        self._add_views()
        with self.app.app_context():
            db.create_all()

    def _add_views(self) -> None:
        app, club = self.app, Blueprint("club", __name__)

        @app.get("/")
        def home() -> str:
            return render_template_string(GREETING)

        @app.get("/insider")
        @login_required
        def insider() -> str:
            return "ours"

        @app.get("/members")
        @club.get("/club/members")
        @flask_login.login_required  # type: ignore[untyped-decorator]
        def members() -> str:
            return f"members like {flask_login.current_user.email}"

        @app.get("/safe")
        @flask_login.fresh_login_required  # type: ignore[untyped-decorator]
        def safe() -> str:
            return "safe"

        @app.get("/twice")
        @login_required
        @flask_login.login_required  # type: ignore[untyped-decorator]
        def twice() -> str:
            return render_template_string(GREETING) + f" {flask_accountflow.current_user.email}"

        @app.get("/plain")
        def plain() -> str:
            return render_template_string("plain")

        @app.post("/leave")
        def leave() -> str:
            flask_login.logout_user()
            flash("Goodbye")
            return render_template_string(GREETING)

        @app.post("/look-back")
        def look_back() -> str:
            flask_login.logout_user()
            return f"{bool(flask_accountflow.current_user)} {flask_login.current_user.is_authenticated}"

        @app.post("/leave/<end>")
        def leave_within(end: str) -> str:
            flask_login.current_user.locale = "de"
            flask_login.logout_user()
            getattr(self.db.session, end)()
            return "goodbye"

        app.register_blueprint(club)

    def ask(self, question: Callable[[], Any], visitor: Any, **headers: str) -> Any:
        """Return what ``question`` finds in a request of a visitor."""
        found: list[Any] = []

        def answer() -> str:
            found.append(question())
            return ""

        self.app.view_functions["home"] = answer
        visitor.get("/", **headers)
        return found[0]


@pytest.fixture
def make_host(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Return a function that makes hosts."""
    made: list[Host] = []

    def make(order: str = "before", config: dict[str, Any] | None = None) -> Host:
        made.append(Host(f"sqlite:///{tmp_path / f'host-{len(made)}.db'}", order, config if config is not None else {}))
        return made[-1]

    yield make
    for host in made:
        host.close()


@pytest.fixture(params=MANAGERS)
def any_host(request: pytest.FixtureRequest, make_host: Callable[..., Host]) -> Host:
    """A host whose login manager comes before us, after us, or from us."""
    return make_host(request.param)


@pytest.fixture
def host(make_host: Callable[..., Host]) -> Host:
    """A host with a login manager of its own."""
    return make_host()


@pytest.fixture(params=[Program, Person], ids=["json", "html"])
def kind(request: pytest.FixtureRequest) -> Any:
    """A kind of visitor: a program, then a person."""
    return request.param


def enter(visitor: Any) -> dict[str, str]:
    """Log in, and return the headers that show it."""
    response = visitor.login(EMAIL)
    return bearer(response) if isinstance(visitor, Program) else {}


def member(host: Host, kind: Any) -> tuple[Any, dict[str, str]]:
    """Return a visitor who is logged in, and the headers that show it."""
    host.member()
    visitor = kind(host)
    return visitor, enter(visitor)


def kept_by(visitor: Any) -> dict[str, Any]:
    """Return what a browser's session holds; nothing for a program."""
    if isinstance(visitor, Program):
        return {}
    with visitor.client.session_transaction() as kept:
        return dict(kept)


def note(seen: list[tuple[str, Any]], name: str, sender: Any) -> None:
    """Keep what a signal brought, and from whom."""
    seen.append((name, sender))


def is_somebody() -> bool:
    """Tell whether Flask-Login sees somebody."""
    return bool(flask_login.current_user.is_authenticated)


def test_who_is_logged_in(any_host: Host, kind: Any) -> None:
    """Flask-Login's current_user is the very user that ours is, by cookie and by bearer token."""
    visitor, headers = member(any_host, kind)

    def question() -> list[Any]:
        return [one._get_current_object() for one in (flask_login.current_user, flask_accountflow.current_user)]

    theirs, ours = any_host.ask(question, visitor, **headers)

    assert isinstance(theirs, any_host.User)
    assert theirs is ours


def test_templates_of_the_host(any_host: Host, kind: Any) -> None:
    """A template that greets current_user greets who is logged in, and strangers as such."""
    visitor, headers = member(any_host, kind)

    assert visitor.get("/", **headers).text == f"Hello {EMAIL}"
    assert kind(any_host).get("/").text == STRANGER


@pytest.mark.parametrize("path", ["/members", "/club/members"])
def test_a_member_enters(any_host: Host, kind: Any, path: str) -> None:
    """Flask-Login's login_required lets in who is logged in with us."""
    visitor, headers = member(any_host, kind)

    response = visitor.get(path, **headers)

    assert (response.status_code, response.text) == (200, f"members like {EMAIL}")


@pytest.mark.parametrize("path", ["/members", "/club/members"])
def test_a_stranger_is_asked_to_log_in(any_host: Host, kind: Any, path: str) -> None:
    """Flask-Login's login_required sends a stranger to our login page and back, and says 401 to a program."""
    any_host.member()
    visitor = kind(any_host)

    response = visitor.get(path)

    if kind is Program:
        assert (response.status_code, visitor.code(response)) == (401, "authentication_required")
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="Shop"'
    else:
        assert (response.status_code, response.headers["Location"]) == (303, f"/auth/login?next={path}")
        back = visitor.submit(visitor.follow(response), email=EMAIL, password=PASSWORD)
        assert visitor.follow(back).text == f"members like {EMAIL}"


def test_both_decorators_say_the_same(host: Host, kind: Any) -> None:
    """To a stranger Flask-Login's login_required answers as our own does, header by header."""
    ours, theirs = (
        (
            one.status_code,
            [(name, value.replace(path, "…")) for name, value in one.headers],
            one.text.replace(path, "…"),
        )
        for path in ("/insider", "/members")
        for one in [kind(host).get(path)]
    )

    assert theirs == ours


def test_calling_unauthorized(host: Host, kind: Any) -> None:
    """A view that calls the manager's unauthorized() itself gives the same answer."""

    @host.app.get("/roles")
    def roles() -> Any:
        return host.app.login_manager.unauthorized()  # type: ignore[attr-defined]

    assert kind(host).get("/roles").status_code == {Program: 401, Person: 303}[kind]


@pytest.mark.parametrize("what", ["disabled", "revoked", "logout", "password"])
def test_a_login_that_has_ended(host: Host, kind: Any, what: str) -> None:
    """After a logout, a block, a revocation and a reset the next request is anonymous there too."""
    host.member()
    visitor = kind(host)
    response = visitor.login(EMAIL)
    headers = bearer(response) if kind is Program else {}
    before = visitor.get("/", **headers).text

    if what == "logout":
        visitor.logout(response)
    else:
        with host.app.app_context():
            if what == "password":
                host.accounts.request_reset(EMAIL)
                host.accounts.reset(host.last_token, "another horse battery")
            else:
                {"disabled": host.accounts.disable_user, "revoked": host.accounts.revoke_sessions}[what](EMAIL)

    assert (before, visitor.get("/", **headers).text) == (f"Hello {EMAIL}", STRANGER)
    assert visitor.get("/members", **headers).status_code == {Program: 401, Person: 303}[kind]


def test_one_statement(host: Host, kind: Any) -> None:
    """A page that asks both current_users and both decorators takes one statement."""
    visitor, headers = member(host, kind)

    with host.statements() as statements:
        response = visitor.get("/twice", **headers)

    assert response.text == f"Hello {EMAIL} {EMAIL}"
    assert len(statements) == 1


def test_a_page_that_does_not_show_the_user(any_host: Host, kind: Any) -> None:
    """A template that does not name current_user runs no statement, for whoever is logged in."""
    visitor, headers = member(any_host, kind)

    with any_host.statements() as statements:
        response = visitor.get("/plain", **headers)

    assert response.text == "plain"
    assert statements == []


def test_a_stranger_costs_no_statement(host: Host, kind: Any) -> None:
    """Asking Flask-Login who a stranger is runs no statement."""
    with host.statements() as statements:
        found = [kind(host).get(path).text for path in ("/", "/members")]

    assert found[0] == STRANGER
    assert statements == []


def test_a_template_outside_requests(host: Host) -> None:
    """In a template that no request asked for, current_user is None, as with Flask-Login alone."""
    host.person().get("/")

    with host.app.app_context():
        assert render_template_string("{{ current_user is none }}") == "True"


@pytest.mark.parametrize("order", ["before", "none"])
def test_a_request_of_a_test(make_host: Callable[..., Host], order: str) -> None:
    """In a request context that a test made, before any request, a stranger is anonymous."""
    with make_host(order).app.test_request_context("/"):
        assert not is_somebody()


def test_no_context_processor(make_host: Callable[..., Host]) -> None:
    """A host that gives current_user to its templates by itself keeps its own."""
    host = make_host("none")
    host.app.context_processor(lambda: {"current_user": {"is_authenticated": True, "email": "mine"}})

    assert host.person().get("/").text == "Hello mine"


def test_one_app_context_around_several_requests(any_host: Host) -> None:
    """A test that keeps an app context open sees who each request is from, not who the first was from."""
    any_host.member()
    person = any_host.person()
    person.login(EMAIL)

    with any_host.app.app_context():
        found = [visitor.get("/").text for visitor in (any_host.person(), person, any_host.person())]

    assert found == [STRANGER, f"Hello {EMAIL}", STRANGER]


def test_an_unauthorized_handler_of_the_host(any_host: Host, kind: Any) -> None:
    """A host's own unauthorized_handler answers strangers."""
    any_host.app.login_manager.unauthorized_handler(lambda: ("members only", 418))  # type: ignore[attr-defined]

    assert kind(any_host).get("/members").text == "members only"


@pytest.mark.parametrize(
    ("path", "views", "location"),
    [
        ("/members", ("/enter", {}), "/enter?next=%2Fmembers"),
        ("/members", ("/enter", {"club": "accountflow.login"}), "/enter?next=%2Fmembers"),
        ("/club/members", (None, {"club": "/door"}), "/door?next=%2Fclub%2Fmembers"),
    ],
)
def test_a_login_view_of_the_host(any_host: Host, kind: Any, path: str, views: Any, location: str) -> None:
    """A host's own login_view, also one of a blueprint, is where strangers are sent."""
    manager: Any = any_host.app.login_manager  # type: ignore[attr-defined]
    manager.login_view, manager.blueprint_login_views = views

    response = kind(any_host).get(path)

    assert (response.status_code, response.headers["Location"]) == (302, location)


@pytest.mark.parametrize(
    ("path", "views"),
    [
        ("/members", ("accountflow.login", {})),
        ("/members", (None, {"club": "/door"})),
        ("/club/members", ("/enter", {"club": "accountflow.login"})),
    ],
)
def test_our_page_as_the_login_view(host: Host, kind: Any, path: str, views: Any) -> None:
    """A login_view that names our page means our answer, so that programs get theirs and nothing is flashed."""
    host.manager.login_view, host.manager.blueprint_login_views = views
    visitor = kind(host)

    response = visitor.get(path)

    assert response.status_code == {Program: 401, Person: 303}[kind]
    assert host.ask(get_flashed_messages, visitor) == []


def test_our_page_as_the_refresh_view(host: Host, kind: Any) -> None:
    """A refresh_view that names our page means our answer, too."""
    host.manager.refresh_view = "accountflow.login_fresh"
    visitor, headers = member(host, kind)
    host.clock.tick(300)

    assert visitor.get("/safe", **headers).status_code == {Program: 401, Person: 303}[kind]


def test_anonymous_users_of_the_host(host: Host, kind: Any) -> None:
    """A host's own class of anonymous users is what strangers are."""

    class Guest(flask_login.AnonymousUserMixin):  # type: ignore[misc]
        email = "guest"

    host.manager.anonymous_user = Guest

    assert host.ask(lambda: flask_login.current_user.email, kind(host)) == "guest"


def test_loaders_of_the_host_are_not_asked(host: Host, kind: Any) -> None:
    """Neither a user id of Flask-Login's in the session nor its remember cookie nor a loader lets anybody in."""
    host.member()
    asked = []

    def load(key: Any) -> Any:
        asked.append(key)
        return host.db.session.scalars(host.db.select(host.User)).first()

    host.manager.user_loader(load)
    host.manager.request_loader(load)
    visitor = kind(host)
    visitor.client = host.app.test_client()
    key = str(host.account(EMAIL).id)
    with visitor.client.session_transaction() as kept:
        kept.update({"_user_id": key, "_fresh": True})
    with host.app.app_context():
        visitor.client.set_cookie("remember_token", flask_login.encode_cookie(key))

    responses = [visitor.get(path) for path in ("/", "/members")]

    assert [one.status_code for one in responses] == [200, {Program: 401, Person: 303}[kind]]
    assert responses[0].text == STRANGER
    assert asked == []


def test_strong_session_protection(host: Host) -> None:
    """Flask-Login's session protection has no say over a login of ours."""
    host.app.config["SESSION_PROTECTION"] = "strong"
    host.member()
    person = host.person()
    person.login(EMAIL, remember=None)

    assert person.get("/").text == f"Hello {EMAIL}"


def test_a_manager_that_apps_share(make_host: Callable[..., Host]) -> None:
    """A manager that is shared with an app without the bridge answers there as ever."""
    host, other = make_host("before"), make_host("none", {"ACCOUNTFLOW_FLASK_LOGIN": False})
    plain = Flask("plain")
    plain.config.update(SECRET_KEY="k" * 32)
    plain.add_url_rule("/members", "members", flask_login.login_required(lambda: "members"))
    plain.add_url_rule("/safe", "safe", flask_login.fresh_login_required(lambda: "safe"))
    host.manager.user_loader(lambda key: flask_login.UserMixin())
    for app in (other.app, plain):
        host.manager.init_app(app)
    client = plain.test_client()

    ours = host.person().get("/members").status_code
    strangers = [client.get("/members").status_code, other.person().get("/members").status_code]
    with client.session_transaction() as kept:
        kept["_user_id"] = "7"
    members = client.get("/members").text, client.get("/safe").status_code

    assert (ours, strangers, members) == (303, [401, 401], ("members", 401))


def test_a_manager_is_connected_once(host: Host) -> None:
    """A manager that apps share is not wrapped again by each of them."""
    before = host.manager.unauthorized

    host.person().get("/")

    assert host.manager.unauthorized is before


def test_logout_user(any_host: Host, kind: Any) -> None:
    """logout_user() ends our login on the server; the rest of that request and the next are a stranger's."""
    visitor, headers = member(any_host, kind)
    seen: list[dict[str, Any]] = []

    def keep(sender: Any, **payload: Any) -> None:
        seen.append(payload)

    with logged_out.connected_to(keep, any_host.app):
        response = visitor.post("/leave", **headers) if kind is Program else visitor.send("/leave", {})

    assert response.text == STRANGER
    assert any_host.rows("session")[0].revoked_at is not None
    assert [(one["user_id"], one["ip"]) for one in seen] == [(str(any_host.account(EMAIL).id), "127.0.0.1")]
    assert visitor.get("/members", **headers).status_code == {Program: 401, Person: 303}[kind]


def test_logout_user_is_known_at_once(any_host: Host, kind: Any) -> None:
    """After logout_user() both current_users are nobody for the rest of the request, by cookie and by token."""
    visitor, headers = member(any_host, kind)

    response = visitor.post("/look-back", **headers) if kind is Program else visitor.send("/look-back", {})

    assert response.text == "False False"


def test_logout_user_in_a_browser(host: Host) -> None:
    """logout_user() empties the browser's session, kills its copies, and leaves what the host says afterwards."""
    person, _ = member(host, Person)
    with person.client.session_transaction() as kept:
        kept["cart"] = ["book"]
    copy = with_cookie(host, session_cookie(person))

    person.send("/leave", {})

    assert kept_by(person) == {"_flashes": [("message", "Goodbye")]}
    assert not logged_in(copy)


def test_logout_user_by_a_program_with_a_cookie(host: Host) -> None:
    """logout_user() ends the login of the bearer token that was sent, not that of the cookie beside it."""
    person, _ = member(host, Person)
    pair = host.program().login(EMAIL)

    person.send("/leave", {}, **bearer(pair))

    assert host.program().me(pair).status_code == 401
    assert logged_in(person)


def test_logout_user_of_a_stranger(host: Host, kind: Any) -> None:
    """logout_user() of a stranger leaves the session of the host alone."""
    visitor = kind(host)
    visitor.client = host.app.test_client()
    with visitor.client.session_transaction() as kept:
        kept["cart"] = ["book"]

    response = visitor.client.post("/leave", headers=visitor.headers)

    assert response.text == STRANGER
    with visitor.client.session_transaction() as kept:
        assert kept["cart"] == ["book"]


def test_logout_user_forgets_the_remember_cookie(host: Host) -> None:
    """logout_user() still deletes a remember cookie from before our time."""
    person, _ = member(host, Person)
    person.client.set_cookie("remember_token", "x|y")

    response = person.send("/leave", {})

    assert any(cookie.startswith("remember_token=…; Expires=Thu, 01 Jan 1970") for cookie in cookies(response)), (
        cookies(response)
    )


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_logout_user_within_work_of_the_host(host: Host, end: str) -> None:
    """In the middle of the host's own work, logout_user() becomes durable with the host's commit."""
    person, _ = member(host, Person)

    person.send(f"/leave/{end}", {})

    assert (host.rows("session")[0].revoked_at is not None, host.account(EMAIL).locale) == {
        "commit": (True, "de"),
        "rollback": (False, None),
    }[end]


@pytest.mark.parametrize("verb", ["login_user", "confirm_login"])
def test_login_user_says_what_to_do(host: Host, kind: Any, verb: str) -> None:
    """login_user() and confirm_login() raise and log nobody in, as they could only open what nothing could end."""
    host.member()
    visitor = kind(host)

    def question() -> tuple[bool, set[str]]:
        user = host.db.session.scalars(host.db.select(host.User)).one()
        arguments = {
            "login_user": {"user": user, "remember": True, "duration": timedelta(days=1)},
            "confirm_login": {},
        }[verb]
        with pytest.raises(RuntimeError, match=r"open no login here.*accountflow\.login'.*accountflow\.login_fresh'"):
            getattr(flask_login, verb)(**arguments)
        return is_somebody(), set(session) - {"_fresh"}

    found = host.ask(question, visitor)

    assert found == (False, set())
    assert not host.ask(is_somebody, visitor)


def test_login_user_leaves_a_login_alone(host: Host) -> None:
    """Who is logged in when login_user() is called for another account stays who he is."""
    host.member("eve@example.com")
    person, _ = member(host, Person)

    def question() -> str:
        eve = host.db.session.scalars(host.db.select(host.User).filter_by(email="eve@example.com")).one()
        with pytest.raises(RuntimeError):
            flask_login.login_user(eve)
        return str(flask_login.current_user.email)

    assert host.ask(question, person) == EMAIL
    assert logged_in(person)


def test_a_fresh_login(host: Host, kind: Any) -> None:
    """Flask-Login's fresh_login_required lets in who typed the password lately, and sets no cookie for it."""
    visitor, headers = member(host, kind)

    response = visitor.get("/safe", **headers)

    assert response.text == "safe"
    assert "_fresh" not in kept_by(visitor)
    assert kind is Person or cookies(response) == []


def test_a_login_that_is_not_fresh(any_host: Host, kind: Any) -> None:
    """Past FRESH_MAX_AGE Flask-Login's fresh_login_required asks for the password again and leads back."""
    visitor, headers = member(any_host, kind)
    any_host.clock.tick(299)
    before = visitor.get("/safe", **headers).text
    any_host.clock.tick(1)

    response = visitor.get("/safe", **headers)

    assert before == "safe"
    if kind is Program:
        assert (response.status_code, visitor.code(response)) == (401, "fresh_login_required")
        assert 'error="insufficient_user_authentication", max_age=300' in response.headers["WWW-Authenticate"]
    else:
        assert (response.status_code, response.headers["Location"]) == (303, "/auth/login/fresh?next=/safe")
        back = visitor.submit(visitor.follow(response), password=PASSWORD)
        assert visitor.follow(back).text == "safe"


def test_a_stranger_is_not_fresh(host: Host, kind: Any) -> None:
    """Flask-Login's fresh_login_required asks a stranger to log in."""
    response = kind(host).get("/safe")

    if kind is Program:
        assert response.json["code"] == "authentication_required"
    else:
        assert response.headers["Location"] == "/auth/login?next=/safe"


def test_freshness_that_was_kept_is_not_believed(host: Host) -> None:
    """A mark of freshness in the session does not outlive the request, and one from before our time counts nothing."""
    person, _ = member(host, Person)
    with person.client.session_transaction() as kept:
        kept["_fresh"] = True
    host.clock.tick(300)

    first = person.get("/safe").status_code

    assert first == 303
    assert "_fresh" not in kept_by(person)


@pytest.mark.parametrize("how", ["handler", "view"])
def test_asking_again_by_the_host(host: Host, kind: Any, how: str) -> None:
    """A host's own needs_refresh_handler or refresh_view is what answers a login that is not fresh."""
    visitor, headers = member(host, kind)
    manager: Any = host.app.login_manager  # type: ignore[attr-defined]
    if how == "handler":
        manager.needs_refresh_handler(lambda: ("again", 302, {"Location": "/again?next=%2Fsafe"}))
    else:
        manager.refresh_view = "/again"
    host.clock.tick(300)

    response = visitor.get("/safe", **headers)

    assert (response.status_code, response.headers["Location"]) == (302, "/again?next=%2Fsafe")


def test_signals_of_Flask_Login(host: Host, kind: Any) -> None:
    """Flask-Login's signals of use are sent by the app itself."""
    visitor, headers = member(host, kind)
    seen: list[tuple[str, Any]] = []
    names = ("user_accessed", "user_unauthorized", "user_needs_refresh")
    receivers = [partial(note, seen, name) for name in names]
    for name, receiver in zip(names, receivers, strict=True):
        getattr(flask_login, name).connect(receiver, host.app)
    host.clock.tick(300)

    kind(host).get("/members")
    visitor.get("/safe", **headers)

    app = host.app
    assert seen == [
        ("user_accessed", app),
        ("user_unauthorized", app),
        ("user_accessed", app),
        ("user_needs_refresh", app),
    ]
    assert all(sender is app for _, sender in seen)


def test_a_setting_that_is_off(make_host: Callable[..., Host], kind: Any) -> None:
    """Without the setting a Flask-Login of the host's own knows nothing of us."""
    host = make_host("before", {"ACCOUNTFLOW_FLASK_LOGIN": False})
    host.manager.user_loader(lambda key: None)
    visitor, headers = member(host, kind)

    assert visitor.get("/", **headers).text == STRANGER
    assert visitor.get("/members", **headers).status_code == 401


def test_without_the_package(make_host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Flask-Login is missing the app does not start, and the error says how to get it."""
    monkeypatch.setitem(sys.modules, "flask_login", None)
    app = Flask("app")
    app.config.update(CONFIG, SQLALCHEMY_DATABASE_URI="sqlite://", ACCOUNTFLOW_FLASK_LOGIN=True)
    db = SQLAlchemy(app)

    class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "users"

    with pytest.raises(ConfigError) as caught:
        AccountFlow(app, db, User)

    sentence = (
        "ACCOUNTFLOW_FLASK_LOGIN is True, but Flask-Login is not installed. Install flask-accountflow[flask-login]."
    )
    assert sentence in str(caught.value)


def test_it_is_not_imported_unless_it_is_asked_for() -> None:
    """An app without the setting never imports Flask-Login."""
    source = """
import sys
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_accountflow import AccountFlow, UserMixin
app = Flask("app")
app.config.update(
    SECRET_KEY="k" * 32, TESTING=True, SQLALCHEMY_DATABASE_URI="sqlite://", ACCOUNTFLOW_FLASK_LOGIN=eval(sys.argv[1])
)
db = SQLAlchemy(app)
class User(UserMixin, db.Model):
    __tablename__ = "users"
AccountFlow(app, db, User)
app.test_client().get("/auth/login")
print("flask_login" in sys.modules)
"""

    found = [
        subprocess.run([sys.executable, "-W", "error", "-c", source, flag], capture_output=True, text=True, check=False)
        for flag in ("False", "True")
    ]

    assert [(one.stdout, one.stderr) for one in found] == [("False\n", ""), ("True\n", "")]


def test_both_mixins() -> None:
    """A model may keep Flask-Login's UserMixin behind ours."""
    app = Flask("app")
    app.config.update(CONFIG, SQLALCHEMY_DATABASE_URI="sqlite://", ACCOUNTFLOW_FLASK_LOGIN=True)
    db = SQLAlchemy(app)

    class User(UserMixin, flask_login.UserMixin, db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "users"

    AccountFlow(app, db, User)

    assert "is_active" in User.__table__.c
