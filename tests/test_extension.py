"""Setting accounts up, what an app may replace, and the verbs without HTTP."""

from __future__ import annotations

import dataclasses
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import flask_mail
import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event
from support import ABSENT, BASE_URL, CONFIG, OTHER_PASSWORD, PASSWORD, MemoryTransport, NameForm, Site, services
from wtforms import BooleanField, StringField

from flask_accountflow import AccountFlow, ConfigError, UserMixin
from flask_accountflow.errors import MailRejected, Refusal
from flask_accountflow.flow import Action, Outcome, Services
from flask_accountflow.flows import ACTIONS
from flask_accountflow.mail.kicks import InlineKick, WorkerKick
from flask_accountflow.mail.transports import Unreachable
from flask_accountflow.passwords import BcryptHasher, PasswordPolicy
from flask_accountflow.services import Parts, now
from flask_accountflow.store.mailbox import MailStatus
from flask_accountflow.throttle import NoThrottle, Reservation

MakeSite = Callable[..., Site]
EMAIL = "vic@example.com"
#: How long a test waits for a thread, in seconds; it goes on as soon as there is something to see.
PATIENCE = 10


@pytest.fixture(autouse=True)
def _no_syncing() -> Iterator[None]:
    """Let SQLite not wait for the disk: no test here pulls the plug."""

    def relax(connection: Any, record: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")

    event.listen(sa.Engine, "connect", relax)
    yield
    event.remove(sa.Engine, "connect", relax)


class Host:
    """An app that is put together step by step."""

    def __init__(self, folder: Path, name: str = "host", db: SQLAlchemy | None = None, **config: Any) -> None:
        self.app = Flask(name)
        uri = f"sqlite:///{folder / name}.db"
        self.app.config.update(CONFIG, SQLALCHEMY_DATABASE_URI=uri)
        self.app.config.update(config)
        self.db = db if db is not None else SQLAlchemy()

    def user_model(self) -> Any:
        """Declare the app's user model."""

        class User(UserMixin, self.db.Model):  # type: ignore[name-defined, misc]
            __tablename__ = "users"

        return User

    def works(self, transport: MemoryTransport) -> bool:
        """Tell whether somebody can sign up, confirm and log in."""
        with self.app.app_context():
            self.db.create_all()
        client = self.app.test_client()
        client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
        link = transport.letters[-1].link
        assert link is not None
        client.post(link.removeprefix(BASE_URL), json={})
        return client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD}).status_code == 200

    def count(self) -> int:
        """Return how many accounts there are."""
        with self.app.app_context():
            return int(self.db.session.execute(sa.text("SELECT count(*) FROM users")).scalar_one())


@pytest.fixture
def make_host(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Return a function that makes hosts, whose connections are closed afterwards."""
    made: list[Host] = []

    def make(name: str = "host", db: SQLAlchemy | None = None, **config: Any) -> Host:
        made.append(Host(tmp_path, name, db, **config))
        return made[-1]

    yield make
    for host in made:
        if "sqlalchemy" in host.app.extensions:
            with host.app.app_context():
                for engine in host.db.engines.values():
                    engine.dispose()


# Setting up.


@pytest.mark.parametrize("db_first", [True, False])
@pytest.mark.parametrize("way", ["at once", "later", "with the model later"])
def test_every_order_of_setting_up_works(make_host: Callable[..., Host], way: str, db_first: bool) -> None:
    """The extension takes app, db and model at once or later, and ``db.init_app`` may come before or after."""
    host, transport = make_host(), MemoryTransport()
    user_model = host.user_model()
    if db_first:
        host.db.init_app(host.app)

    if way == "at once":
        AccountFlow(host.app, host.db, user_model, transport=transport)
    elif way == "later":
        AccountFlow(db=host.db, user_model=user_model, transport=transport).init_app(host.app)
    else:
        AccountFlow(transport=transport).init_app(host.app, host.db, user_model)
    if not db_first:
        host.db.init_app(host.app)

    assert host.works(transport)


def test_one_extension_serves_many_apps(make_host: Callable[..., Host]) -> None:
    """A factory that is called ten times makes ten apps that work, each on its own database, on the same tables."""
    first, transport = make_host(), MemoryTransport()
    accounts = AccountFlow(db=first.db, user_model=first.user_model(), transport=transport)
    tables = accounts.tables

    hosts = [make_host(f"host{number}", first.db) for number in range(10)]
    for host in hosts:
        host.db.init_app(host.app)
        accounts.init_app(host.app)

    assert all(host.works(transport) for host in (hosts[0], hosts[4], hosts[9]))
    assert [host.count() for host in (hosts[0], hosts[4], hosts[9])] == [1, 1, 1]
    assert accounts.tables is tables


def test_one_model_serves_many_extensions(make_host: Callable[..., Host]) -> None:
    """A factory that makes the extension anew each time gets the same tables each time."""
    first, transport = make_host(), MemoryTransport()
    user_model, made = first.user_model(), []

    for number in range(10):
        host = make_host(f"host{number}", first.db)
        host.db.init_app(host.app)
        made.append(AccountFlow(host.app, host.db, user_model, transport=transport))

    assert host.works(transport)
    assert {id(accounts.tables) for accounts in made} == {id(made[0].tables)}


def test_two_apps_of_one_process_do_not_mix(make_host: Callable[..., Host]) -> None:
    """Two apps with a db object and a model each have accounts of their own, also while both are in use."""
    transports = [MemoryTransport(), MemoryTransport()]
    hosts = [make_host("one"), make_host("two", ACCOUNTFLOW_URL_PREFIX="/accounts")]
    for host, transport in zip(hosts, transports, strict=True):
        host.db.init_app(host.app)
        AccountFlow(host.app, host.db, host.user_model(), transport=transport)
        with host.app.app_context():
            host.db.create_all()
    one, two = (host.app.test_client() for host in hosts)
    body = {"email": EMAIL, "password": PASSWORD}

    answers = [one.post("/auth/signup", json=body), two.post("/accounts/signup", json=body)]
    answers += [one.post("/accounts/signup", json=body), two.post("/auth/signup", json=body)]

    assert [answer.status_code for answer in answers] == [202, 202, 404, 404]
    assert [len(transport.letters) for transport in transports] == [1, 1]
    token = str(transports[0].letters[0].link).rpartition("/")[2]
    with hosts[0].app.app_context():
        nested = two.post(f"/accounts/verify/{token}", json={})
    assert nested.json["code"] == "token_expired"


def test_setting_up_twice_is_refused(make_host: Callable[..., Host]) -> None:
    """A second set-up of the same app is an error, be it by the same extension or by another."""
    host = make_host()
    host.db.init_app(host.app)
    user_model = host.user_model()
    accounts = AccountFlow(host.app, host.db, user_model)

    for twice in (lambda: accounts.init_app(host.app), lambda: AccountFlow(host.app, host.db, user_model)):
        with pytest.raises(ConfigError, match="set up for this app already"):
            twice()


@pytest.mark.parametrize("given", ["nothing", "db", "model"])
def test_what_is_missing_is_said(make_host: Callable[..., Host], given: str) -> None:
    """Without db or without a user model nothing is set up, and the error shows what to write."""
    host = make_host()
    parts: dict[str, Any] = {"db": {"db": host.db}, "model": {"user_model": host.user_model()}}.get(given, {})
    accounts = AccountFlow(**parts)

    with pytest.raises(ConfigError, match=r"AccountFlow\(app, db, User\)"):
        accounts.init_app(host.app)
    with pytest.raises(ConfigError, match=r"AccountFlow\(app, db, User\)"):
        assert accounts.tables

    assert "accountflow" not in host.app.extensions


def test_none_stands_for_our_part(make_host: Callable[..., Host]) -> None:
    """A part that is given as None is ours, so that an app may pass on what it was not given itself."""
    host = make_host(ACCOUNTFLOW_MAIL_TRANSPORT="console")
    host.db.init_app(host.app)
    parts = dict.fromkeys(field.name for field in dataclasses.fields(Parts))

    AccountFlow(host.app, host.db, host.user_model(), **parts)

    tools = host.app.extensions["accountflow"]
    assert (type(tools.hasher), type(tools.throttle), tools.clock) == (BcryptHasher, NoThrottle, now)


def test_an_unknown_part_is_refused() -> None:
    """A misspelled part is a TypeError, and not silently ours."""
    with pytest.raises(TypeError, match="hashr"):
        AccountFlow(hashr=BcryptHasher(4))


def test_a_refused_configuration_leaves_the_app_alone(make_host: Callable[..., Host]) -> None:
    """When the settings are refused, all faults are listed and the app is as it was, so that it may be tried again."""
    host = make_host(ACCOUNTFLOW_RESET_MAX_AGE=1, ACCOUNTFLOW_VERIFY_MAXAGE=60, ACCOUNTFLOW_COOKIE_DEFAULTS=True)
    host.db.init_app(host.app)
    accounts = AccountFlow(db=host.db, user_model=host.user_model(), transport=MemoryTransport())
    before = dict(host.app.config), dict(host.app.extensions), dict(host.app.blueprints)

    with pytest.raises(ConfigError) as refused:
        accounts.init_app(host.app)

    assert len(refused.value.problems) == 2
    assert (dict(host.app.config), dict(host.app.extensions), dict(host.app.blueprints)) == before
    del host.app.config["ACCOUNTFLOW_RESET_MAX_AGE"], host.app.config["ACCOUNTFLOW_VERIFY_MAXAGE"]
    accounts.init_app(host.app)
    assert "accountflow" in host.app.extensions


def test_tables_are_there_before_the_app_is(make_host: Callable[..., Host]) -> None:
    """Given to the constructor, the model has its tables at once, so that migrations and ``create_all`` see them."""
    host = make_host()
    user_model = host.user_model()

    accounts = AccountFlow(db=host.db, user_model=user_model, table_prefix="people_")

    assert {"people_token", "people_session", "people_mail"} <= set(host.db.metadata.tables)
    assert accounts.tables.mail.name == "people_mail"


def test_warnings_are_logged_by_their_weight(make_host: Callable[..., Host], caplog: pytest.LogCaptureFixture) -> None:
    """A well-known key is a warning under testing, too; what only production refuses is a line of information."""
    host = make_host(SECRET_KEY="change-me")
    host.db.init_app(host.app)

    with caplog.at_level(logging.INFO, "accountflow"):
        AccountFlow(host.app, host.db, host.user_model())

    levels = {record.levelname: record.getMessage() for record in caplog.records if record.name == "accountflow"}
    assert "SECRET_KEY" in levels["WARNING"]
    assert "BCRYPT_ROUNDS" in levels["INFO"]


@pytest.mark.parametrize(("base_url", "said"), [(BASE_URL, BASE_URL), (ABSENT, "wherever")])
def test_a_developer_is_told_where_things_are(
    make_site: MakeSite, caplog: pytest.LogCaptureFixture, base_url: Any, said: str
) -> None:
    """In debug one line says where the pages are, how mail goes and where links lead."""
    with caplog.at_level(logging.INFO):
        make_site({"DEBUG": True, "ACCOUNTFLOW_BASE_URL": base_url, "ACCOUNTFLOW_URL_PREFIX": ""})

    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("accountflow: ")]
    assert line.startswith("accountflow: pages at /, mail by console, links to ")
    assert said in line


# What an app may replace.


class ReversingHasher(BcryptHasher):
    """A scheme of the app's own: no better, but its own."""

    def hash(self, password: str) -> str:
        return super().hash(password[::-1])

    def check(self, password: str, *stored: str | None) -> tuple[bool, ...]:
        return super().check(password[::-1], *stored)


def test_the_hasher_can_be_replaced(make_site: MakeSite) -> None:
    """Passwords are hashed and checked by the app's hasher."""
    site = make_site(hasher=ReversingHasher(4))
    site.member()

    assert site.program().login(EMAIL).status_code == 200
    assert BcryptHasher(4).check(PASSWORD[::-1], site.account(EMAIL).password_hash) == (True,)


def test_the_transport_can_be_replaced(make_site: MakeSite) -> None:
    """Mail goes through the app's transport."""
    transport = MemoryTransport()
    site = make_site(transport=transport)

    site.program().signup(EMAIL)

    assert [letter.to for letter in transport.letters] == [EMAIL]


@pytest.mark.parametrize("where", ["part", "setting"])
def test_the_kick_can_be_replaced(make_site: MakeSite, where: str) -> None:
    """The app's function is called after each commit that queued a mail, and delivery is its business."""
    calls: list[int] = []

    def kick() -> None:
        calls.append(1)

    site = make_site(kick=kick) if where == "part" else make_site({"ACCOUNTFLOW_MAIL_KICK": kick})

    site.program().signup(EMAIL)
    site.program().login(EMAIL, "wrong password")

    assert (len(calls), site.letters) == (1, [])


class ClosedThrottle(NoThrottle):
    """Allows nothing."""

    def reserve(self, **subjects: str) -> Reservation:
        raise Refusal("rate_limited", extra={"retry_after": 7})


def test_the_throttle_can_be_replaced(make_site: MakeSite) -> None:
    """The app's throttle decides what is too much."""
    response = make_site(throttle=ClosedThrottle()).program().login(EMAIL)

    assert (response.status_code, response.headers["Retry-After"]) == (429, "7")


def test_the_password_policy_can_be_replaced(make_site: MakeSite) -> None:
    """New passwords are judged by the app's policy."""
    site = make_site(password_policy=PasswordPolicy(min_length=30))

    response = site.program().signup(EMAIL)

    assert response.json["errors"][0]["params"] == {"min": 30}


def test_on_signup_works_in_the_same_unit(make_site: MakeSite) -> None:
    """The app's hook sees the new account, and what it changes is committed with it."""
    seen: list[Any] = []

    def on_signup(user: Any, form: Any) -> None:
        seen.append(form.email.data)
        user.name = "set by the hook"

    site = make_site(on_signup=on_signup)

    site.program().signup(EMAIL)

    assert seen == [EMAIL]
    assert site.account(EMAIL).name == "set by the hook"


def test_the_clock_can_be_replaced(make_site: MakeSite) -> None:
    """All times are those of the app's clock; ours is UTC in whole seconds."""
    site = make_site()
    site.clock.now = datetime(2030, 1, 1, tzinfo=timezone.utc)

    site.program().signup(EMAIL)

    assert site.rows("token")[0].created_at.year == 2030
    assert (now().tzinfo, now().microsecond) == (timezone.utc, 0)


class GreedyForm(NameForm):
    """A sign-up form whose fields bear the names of columns that are ours, and of no column at all."""

    is_admin = BooleanField()
    is_active = BooleanField()
    email_verified_at = StringField()
    captcha = StringField()


def test_SUP_06_a_field_of_the_app_fills_no_column_of_ours(make_site: MakeSite) -> None:
    """A host form fills the app's own columns, and none that says what an account may do."""
    site = make_site(signup_form=GreedyForm)
    greedy = {"is_admin": True, "is_active": True, "email_verified_at": "2020-01-01", "captcha": "x"}

    site.program().signup(EMAIL, name="Vic", **greedy)

    account = site.account(EMAIL)
    assert (account.name, account.is_admin, account.email_verified_at) == ("Vic", False, None)
    assert services(site).host_fields == ("name",)


def test_an_action_can_be_added(make_site: MakeSite) -> None:
    """An app's own flow is served under the prefix, in the same ways as ours."""

    def greet(services: Services, form: Any) -> Outcome:
        return Outcome("greeted", {"greeting": f"hello from {services.settings.site_name}"})

    site = make_site(actions=[*ACTIONS, Action("greet", "/greet", run=greet, formats=("json",))])

    response = site.program().post("/auth/greet")

    assert (response.status_code, response.json) == (200, {"greeting": "hello from Shop"})
    assert response.headers["Cache-Control"] == "no-store"
    assert site.person().get("/auth/greet").status_code == 405


# Cookies.


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ("Lax", True)),
        ({"SESSION_COOKIE_SAMESITE": "Strict"}, ("Strict", True)),
        ({"SESSION_COOKIE_SECURE": True}, ("Lax", True)),
        ({"ACCOUNTFLOW_BASE_URL": "http://localhost:5000"}, ("Lax", False)),
        ({"ACCOUNTFLOW_BASE_URL": "http://localhost:5000", "SESSION_COOKIE_SECURE": True}, ("Lax", True)),
        ({"ACCOUNTFLOW_COOKIE_DEFAULTS": False}, (None, False)),
    ],
)
def test_the_session_cookie_gets_what_was_left_open(
    make_site: MakeSite, config: dict[str, Any], expected: tuple[str | None, bool]
) -> None:
    """SameSite and Secure are set where the app has not chosen, and not at all when it says so."""
    site = make_site({"ACCOUNTFLOW_COOKIE_DEFAULTS": True, **config})

    found = site.app.config["SESSION_COOKIE_SAMESITE"], site.app.config["SESSION_COOKIE_SECURE"]

    assert found == expected


# Flask-Mail.


@pytest.mark.parametrize("order", ["ours", "before", "after"])
def test_flask_mail_is_set_up_by_whoever_is_first(make_host: Callable[..., Host], order: str) -> None:
    """Mail goes through the app's Flask-Mail, set up before or after, or else through one of ours."""
    host = make_host(ACCOUNTFLOW_MAIL_TRANSPORT="smtp")
    host.db.init_app(host.app)
    mail, state = flask_mail.Mail(), None
    if order == "before":
        state = mail.init_app(host.app)
    AccountFlow(host.app, host.db, host.user_model())
    if order == "after":
        state = mail.init_app(host.app)
    with host.app.app_context():
        host.db.create_all()
    sent: list[Any] = []

    def receive(app: Flask, message: Any, **more: Any) -> None:
        sent.append(message)

    with flask_mail.email_dispatched.connected_to(receive):
        host.app.test_client().post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})

    assert [message.recipients for message in sent] == [[EMAIL]]
    assert (host.app.extensions["mail"] is state) is (order != "ours")


@pytest.mark.parametrize(("transport", "words"), [("file", "START EMAIL"), ("console", "START EMAIL")])
def test_transports_are_chosen_by_a_setting(
    make_host: Callable[..., Host],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    transport: str,
    words: str,
) -> None:
    """``file`` appends to MAIL_FILE and ``console`` prints; neither sets Flask-Mail up."""
    file = tmp_path / "mail.txt"
    host = make_host(ACCOUNTFLOW_MAIL_TRANSPORT=transport, ACCOUNTFLOW_MAIL_FILE=str(file))
    host.db.init_app(host.app)
    AccountFlow(host.app, host.db, host.user_model())
    with host.app.app_context():
        host.db.create_all()

    host.app.test_client().post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})

    assert words in (file.read_text() if transport == "file" else capsys.readouterr().out)
    assert "mail" not in host.app.extensions


# Kicks.


def _wait_for(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def _stop_threads(site: Site) -> None:
    """End the threads of a site, so that none of them outlives its test."""
    assert services(site).kick._threads.stop(PATIENCE)


def test_a_thread_delivers_what_a_request_queued(make_site: MakeSite) -> None:
    """With the thread kick a mail goes out beside the answer."""
    site = make_site({"ACCOUNTFLOW_MAIL_KICK": "thread"})

    site.program().signup(EMAIL)

    assert _wait_for(lambda: len(site.letters) == 1)
    _stop_threads(site)


def test_a_thread_delivers_what_an_earlier_process_left(make_site: MakeSite, tmp_path: Path) -> None:
    """A mail that was left waiting goes out at the first request of the next process, whatever is asked for."""
    uri = f"sqlite:///{tmp_path / 'both.db'}"
    make_site({"ACCOUNTFLOW_MAIL_KICK": "worker"}, uri=uri).program().signup(EMAIL)
    site = make_site({"ACCOUNTFLOW_MAIL_KICK": "thread"}, uri=uri)
    before = len(site.letters)

    site.program().get("/untouched")

    assert before == 0
    assert _wait_for(lambda: len(site.letters) == 1)
    _stop_threads(site)


def test_on_one_connection_there_is_no_thread(make_site: MakeSite) -> None:
    """On ``sqlite://`` the thread kick delivers in the request, which holds the only connection."""
    site = make_site({"ACCOUNTFLOW_MAIL_KICK": "thread"}, uri="sqlite://")

    site.program().signup(EMAIL)

    assert len(site.letters) == 1
    assert site.program().verify(site.last_link).status_code == 200


def test_in_the_outer_transaction_of_a_test_there_is_no_thread(make_site: MakeSite) -> None:
    """Where a test has put a connection in place of the engine, delivery joins it and all is undone with it."""
    site = make_site({"ACCOUNTFLOW_MAIL_KICK": "thread"})
    with site.app.app_context():
        engine = site.db.engine
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            site.db.engines[None] = connection

            site.program().signup(EMAIL)

            sent = len(site.letters)
            site.db.session.remove()
            connection.rollback()
        site.db.engines[None] = engine

    assert sent == 1
    assert site.rows("user") == []


@pytest.mark.parametrize(("name", "kind"), [("worker", WorkerKick), ("inline", InlineKick)])
def test_kicks_are_chosen_by_a_setting(make_site: MakeSite, name: str, kind: type) -> None:
    """``inline`` and ``worker`` are what they say."""
    site = make_site({"ACCOUNTFLOW_MAIL_KICK": name})

    site.program().signup(EMAIL)

    assert isinstance(services(site).kick, kind)
    assert len(site.letters) == (1 if name == "inline" else 0)


# Addresses.


@pytest.mark.parametrize("prefix", ["/auth", "/members/area", ""])
def test_the_prefix_is_free(make_site: MakeSite, prefix: str) -> None:
    """Pages and links stand below the prefix, also without one."""
    site = make_site({"ACCOUNTFLOW_URL_PREFIX": prefix})
    program = site.program()

    answers = [program.post(f"{prefix}/signup", {"email": EMAIL, "password": PASSWORD})]
    link = str(site.letters[-1].link)
    answers.append(program.post(link.removeprefix(BASE_URL)))
    answers.append(program.post(f"{prefix}/login", {"email": EMAIL, "password": PASSWORD}))

    assert [answer.status_code for answer in answers] == [202, 200, 200]
    assert link.startswith(f"{BASE_URL}{prefix}/verify/")
    assert site.person().get(f"{prefix}/login").status_code == 200


def test_without_a_prefix_the_apps_own_pages_stand(make_site: MakeSite) -> None:
    """An empty prefix leaves the app's home, its static files and its 404 to the app."""
    site = make_site({"ACCOUNTFLOW_URL_PREFIX": ""})

    @site.app.errorhandler(404)
    def not_found(error: Exception) -> tuple[str, int]:
        return "the app's own 404", 404

    person = site.person()

    assert person.get("/").text == "home of None"
    assert person.get("/no/such/page").text == "the app's own 404"
    with person.get("/accountflow-static/accountflow.css") as style_sheet:
        assert style_sheet.status_code == 200


@pytest.mark.parametrize("base_url", ["https://www.example.com/shop", "https://www.example.com/shop/"])
def test_RST_04_the_base_url_may_have_a_path(make_site: MakeSite, base_url: str) -> None:
    """A site below a path of its host has its links there, whatever the request says."""
    site = make_site({"ACCOUNTFLOW_BASE_URL": base_url})

    site.program().post("/auth/signup", {"email": EMAIL, "password": PASSWORD}, host="evil.example")

    assert str(site.letters[0].link).startswith("https://www.example.com/shop/auth/verify/")


def test_links_may_lead_to_a_front_end(make_site: MakeSite) -> None:
    """VERIFY_URL and RESET_URL are filled with the token, and the token works here."""
    front = {
        "ACCOUNTFLOW_VERIFY_URL": "https://app.example.com/#/verify?token={token}&from=mail",
        "ACCOUNTFLOW_RESET_URL": "myapp://reset/{token}",
    }
    site, links = make_site(front), []
    program = site.program()

    program.signup(EMAIL)
    links.append(str(site.letters[-1].link))
    token = links[0].partition("token=")[2].removesuffix("&from=mail")
    verified = program.post("/auth/verify", {"token": token})
    program.request_reset(email=EMAIL)
    links.append(str(site.letters[-1].link))
    reset = program.post("/auth/password-reset/confirm", {"token": links[1][14:], "password": OTHER_PASSWORD})

    assert links[0].startswith("https://app.example.com/#/verify?token=")
    assert links[1].startswith("myapp://reset/")
    assert (verified.status_code, reset.status_code) == (200, 200)


@pytest.mark.parametrize(
    ("asked", "origin"),
    [
        ("http://localhost:5000", "http://localhost:5000"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("https://[::1]:5000", "https://[::1]:5000"),
        ("http://shop.localhost:5000", "http://shop.localhost:5000"),
        ("http://evil.example", "http://127.0.0.1:5000"),
        ("http://evil.example:5000", "http://127.0.0.1:5000"),
        ("http://192.168.1.20:5000", "http://127.0.0.1:5000"),
        ("http://localhost.evil.example", "http://127.0.0.1:5000"),
        ("http://127.0.0.1.evil.example:5000", "http://127.0.0.1:5000"),
    ],
)
def test_RST_04_in_debug_links_lead_to_this_computer(make_site: MakeSite, asked: str, origin: str) -> None:
    """Without BASE_URL, in debug, links have the loopback origin of the request, and never a foreign host."""
    site = make_site({"DEBUG": True, "ACCOUNTFLOW_BASE_URL": ABSENT})
    site.member()
    client = site.app.test_client()

    client.post(
        "/auth/password-reset/request",
        json={"email": EMAIL},
        base_url=asked,
        headers={"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"},
    )

    assert str(site.letters[-1].link).startswith(f"{origin}/auth/password-reset/")
    assert "evil" not in site.letters[-1].text + site.letters[-1].html


def test_RST_04_with_a_base_url_debug_makes_no_difference(make_site: MakeSite) -> None:
    """A configured BASE_URL is used in debug, too, and nothing of the request is kept with the mail."""
    site = make_site({"DEBUG": True})

    site.app.test_client().post(
        "/auth/signup", json={"email": EMAIL, "password": PASSWORD}, base_url="http://localhost:5000"
    )

    assert str(site.letters[-1].link).startswith(f"{BASE_URL}/auth/verify/")
    assert site.rows("mail")[0].context == {}


def test_in_debug_a_verb_without_a_request_has_a_link_too(make_site: MakeSite) -> None:
    """Without BASE_URL and without a request, links lead to where Flask serves by default."""
    site = make_site({"DEBUG": True, "ACCOUNTFLOW_BASE_URL": ABSENT})

    with site.app.app_context():
        site.accounts.signup(EMAIL, PASSWORD)

    assert str(site.letters[-1].link).startswith("http://127.0.0.1:5000/auth/verify/")


# The verbs.


@pytest.fixture
def accounts(site: Site) -> Iterator[AccountFlow]:
    """The extension of a site, inside an app context."""
    with site.app.app_context():
        yield site.accounts


def test_a_lifecycle_without_http(accounts: AccountFlow, site: Site) -> None:
    """Signing up, resending, confirming, asking for a reset and resetting work by verbs as by pages."""
    codes = [accounts.signup(EMAIL, PASSWORD, name="Vic").code]
    site.clock.tick(61)
    codes.append(accounts.resend(EMAIL).code)
    codes.append(accounts.verify(site.last_token).code)
    first_login = site.program().login(EMAIL).status_code
    codes.append(accounts.request_reset(EMAIL).code)
    codes.append(accounts.reset(site.last_token, OTHER_PASSWORD).code)

    assert codes == ["verification_required", "accepted", "verified", "accepted", "password_changed"]
    assert [letter.template for letter in site.letters] == ["verify", "verify", "reset", "password_changed"]
    assert (first_login, site.program().login(EMAIL, OTHER_PASSWORD).status_code) == (200, 200)
    assert site.account(EMAIL).name == "Vic"


def test_a_verb_opens_no_login(accounts: AccountFlow, site: Site) -> None:
    """Confirming and resetting by verb log nobody in: there is no visit that could be."""
    accounts.signup(EMAIL, PASSWORD)
    verified = accounts.verify(site.last_token, OTHER_PASSWORD)
    accounts.request_reset(EMAIL)
    reset = accounts.reset(site.last_token, PASSWORD)

    assert (verified.sign_in, reset.sign_in) == (None, None)
    assert site.rows("session") == []


def test_verbs_for_operators(accounts: AccountFlow, site: Site) -> None:
    """Accounts are created, verified, disabled, enabled and thrown out by verbs."""
    created = accounts.create_user(EMAIL, PASSWORD)
    found = [(created.status, site.account(EMAIL).email_verified_at is not None)]
    accounts.verify_user(EMAIL)
    found.append((200, site.account(EMAIL).email_verified_at is not None))
    program = site.program()
    login = program.login(EMAIL)

    accounts.revoke_sessions(EMAIL)
    thrown_out = program.me(login).status_code
    accounts.disable_user(EMAIL)
    disabled = program.code(program.login(EMAIL))
    accounts.enable_user(EMAIL)

    assert found == [(201, False), (200, True)]
    assert (thrown_out, disabled, program.login(EMAIL).status_code) == (401, "account_disabled", 200)


def test_create_user_has_its_flags(accounts: AccountFlow, site: Site) -> None:
    """``verified`` and ``admin`` do what they say; without a password a link to set one is mailed."""
    accounts.create_user("ada@example.com", PASSWORD, verified=True, admin=True)
    accounts.create_user("eve@example.com")

    ada, eve = site.account("ada@example.com"), site.account("eve@example.com")
    assert (ada.email_verified_at is not None, ada.is_admin) == (True, True)
    assert (eve.email_verified_at, eve.is_admin, eve.password_hash) == (None, False, None)
    assert [(letter.template, letter.to) for letter in site.letters] == [("set_password", "eve@example.com")]


@pytest.mark.parametrize(
    ("verb", "words", "code", "fields"),
    [
        ("signup", ("x", PASSWORD), "validation_failed", ["email"]),
        ("signup", (EMAIL, "short"), "validation_failed", ["password"]),
        ("signup", (EMAIL, 12345678901234), "validation_failed", ["password"]),
        ("verify", ("junk",), "token_invalid", []),
        ("verify", ("",), "validation_failed", ["token"]),
        ("resend", (["a@example.com"],), "validation_failed", ["email"]),
        ("request_reset", ("",), "validation_failed", ["email"]),
        ("reset", ("junk", PASSWORD), "token_invalid", []),
        ("create_user", (EMAIL, "short"), "validation_failed", ["password"]),
        ("verify_user", (EMAIL,), "not_found", []),
        ("disable_user", (EMAIL,), "not_found", []),
        ("enable_user", ("x",), "validation_failed", ["email"]),
        ("revoke_sessions", (EMAIL,), "not_found", []),
    ],
)
def test_a_verb_checks_what_a_page_checks(
    accounts: AccountFlow, site: Site, verb: str, words: tuple[Any, ...], code: str, fields: list[str]
) -> None:
    """What a page would refuse, a verb refuses with the same code and the same fields."""
    with pytest.raises(Refusal) as refused:
        getattr(accounts, verb)(*words)

    assert refused.value.code == code
    assert [fault.field for fault in refused.value.fields] == fields
    assert site.rows("user") == []


def test_a_verb_joins_what_the_app_has_begun(accounts: AccountFlow, site: Site) -> None:
    """A verb amid the app's own writes is durable, and its mail goes out, with the app's commit and not before."""
    site.db.session.add(site.User(email="ada@example.com", created_at=site.clock.now, name="by the app"))

    accounts.signup(EMAIL, PASSWORD)
    before = len(site.letters), len(site.rows("user"))
    site.db.session.commit()

    assert before == (0, 0)
    assert (len(site.letters), len(site.rows("user"))) == (1, 2)


def test_a_verb_is_taken_back_with_what_the_app_has_begun(accounts: AccountFlow, site: Site) -> None:
    """When the app rolls back, the verb has not happened: no account, no mail, no signal."""
    site.db.session.add(site.User(email="ada@example.com", created_at=site.clock.now))

    accounts.signup(EMAIL, PASSWORD)
    site.db.session.rollback()

    assert (site.letters, site.rows("user"), site.rows("mail")) == ([], [], [])


def test_a_refused_verb_leaves_the_apps_writes_alone(accounts: AccountFlow, site: Site) -> None:
    """A refusal undoes only what the verb has done; the app goes on and commits."""
    site.member("eve@example.com")
    site.db.session.add(site.User(email="ada@example.com", created_at=site.clock.now))

    with pytest.raises(Refusal):
        accounts.create_user("eve@example.com", PASSWORD)
    site.db.session.commit()

    assert {row.email for row in site.rows("user")} == {"eve@example.com", "ada@example.com"}


def test_a_verb_says_how_mail_does(accounts: AccountFlow, site: Site) -> None:
    """An app can ask how many mails wait, since when, and how many were given up."""
    site.transport.fault = Unreachable("nobody at home")
    site.program().signup("ada@example.com")
    site.transport.fault = MailRejected("550 No")
    site.program().signup("eve@example.com")
    site.clock.tick(90)

    assert accounts.mail_status() == MailStatus(pending=1, failed=1, oldest=90)
