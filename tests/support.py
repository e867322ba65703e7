"""A small host app with accounts, and the two kinds of visitors that use it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event
from sqlalchemy.orm import Mapped, mapped_column
from wtforms import StringField

from flask_accountflow import (
    AccountFlow,
    UserMixin,
    admin_required,
    current_user,
    fresh_login_required,
    login_required,
    verified_required,
)
from flask_accountflow.forms import SignupForm
from flask_accountflow.mail.letter import Letter
from flask_accountflow.mail.transports import Connection

START = datetime(2026, 11, 21, 8, 30, 0, tzinfo=timezone.utc)
PASSWORD = "correct horse battery"
OTHER_PASSWORD = "another horse battery"
BASE_URL = "https://www.example.com"

CONFIG: Mapping[str, Any] = {
    "SECRET_KEY": "0123456789abcdef0123456789abcdef",
    "TESTING": True,
    "MAIL_DEFAULT_SENDER": ("Shop", "accounts@example.com"),
    "SESSION_COOKIE_SECURE": False,
    "ACCOUNTFLOW_COOKIE_DEFAULTS": False,
    "ACCOUNTFLOW_BASE_URL": BASE_URL,
    "ACCOUNTFLOW_SITE_NAME": "Shop",
    "ACCOUNTFLOW_BCRYPT_ROUNDS": 4,
    "ACCOUNTFLOW_MAIL_KICK": "inline",
    "ACCOUNTFLOW_RATELIMIT_ENABLED": False,
}


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


class MemoryTransport:
    """Keeps the letters that were sent. ``fault`` is raised instead, while it is set."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []
        self.fault: Exception | None = None

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        yield self

    def send(self, letter: Letter) -> None:
        if self.fault is not None:
            raise self.fault
        self.letters.append(letter)

    def abort(self) -> None:
        """Nothing is ever slow here."""


class NameForm(SignupForm):
    """A sign-up form of the host, with one more field."""

    name = StringField("Name")


class Site:
    """A host app with accounts on a database of its own."""

    def __init__(self, uri: str, config: Mapping[str, Any] | None = None, **parts: Any) -> None:
        self.clock = Clock()
        self.transport = MemoryTransport()
        self.app = Flask(__name__)
        self.app.config.update(CONFIG, SQLALCHEMY_DATABASE_URI=uri)
        self.app.config.update(config if config is not None else {})
        for key in [key for key, value in self.app.config.items() if value is _ABSENT]:
            del self.app.config[key]
        self.db = db = SQLAlchemy()
        db.init_app(self.app)

        class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
            __tablename__ = "users"
            name: Mapped[str | None] = mapped_column(sa.String(64))

        self.User = User
        self.accounts = AccountFlow(
            self.app, db, User, **{"clock": self.clock, "transport": self.transport, "signup_form": NameForm, **parts}
        )
        self.tables = self.accounts.tables
        self._add_views()
        with self.app.app_context():
            db.create_all()

    def _add_views(self) -> None:
        @self.app.get("/")
        def home() -> str:
            return f"home of {current_user.email}"

        @self.app.get("/secret")
        @login_required
        def secret() -> str:
            return f"secret of {current_user.email}"

        @self.app.get("/proved")
        @verified_required
        def proved() -> str:
            return "proved"

        @self.app.get("/admin")
        @admin_required
        def admin() -> str:
            return "admin"

        @self.app.route("/vault", methods=["GET", "POST"])
        @fresh_login_required
        def vault() -> str:
            return "vault"

        @self.app.get("/untouched")
        def untouched() -> str:
            return "untouched"

    def close(self) -> None:
        """Give the connections back."""
        with self.app.app_context():
            self.db.session.remove()
            for engine in self.db.engines.values():
                engine.dispose()

    @property
    def letters(self) -> list[Letter]:
        """The mails that were sent."""
        return self.transport.letters

    @property
    def last_link(self) -> str:
        """The path of the link in the newest mail that has one."""
        link = next(letter.link for letter in reversed(self.letters) if letter.link is not None)
        return link.removeprefix(BASE_URL)

    @property
    def last_token(self) -> str:
        """The token of the link in the newest mail that has one."""
        return self.last_link.rpartition("/")[2]

    def program(self) -> Program:
        """Return a JSON client that keeps no cookie."""
        return Program(self)

    def person(self) -> Person:
        """Return a browser with a cookie jar of its own."""
        return Person(self)

    def rows(self, table: str, **where: Any) -> list[Any]:
        """Return the rows of ``user``, ``token``, ``session`` or ``mail``."""
        chosen: sa.Table = getattr(self.tables, table)
        statement = sa.select(chosen)
        for name, value in where.items():
            statement = statement.where(chosen.c[name] == value)
        with self.app.app_context(), self.db.engine.connect() as connection:
            return list(connection.execute(statement))

    def account(self, email: str) -> Any:
        """Return the row of the account that holds an address."""
        found = self.rows("user", email_key=email.lower())
        return found[0] if found else None

    def change(self, email: str, **values: Any) -> None:
        """Change an account behind the back of the extension."""
        with self.app.app_context(), self.db.engine.begin() as connection:
            user = self.tables.user
            connection.execute(sa.update(user).where(user.c.email_key == email.lower()).values(values))

    def member(self, email: str = "vic@example.com", password: str | None = PASSWORD, **flags: bool) -> None:
        """Create an account, verified unless ``verified=False``."""
        with self.app.app_context():
            self.accounts.create_user(email, password, **{"verified": True, **flags})

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """Collect the SQL that runs inside, without what begins and ends transactions and takes SQLite's lock."""
        seen: list[str] = []

        def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
            if not statement.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "COMMIT")) and not re.search(
                r"WHERE (0 = 1|false)$", statement.strip()
            ):
                seen.append(statement)

        with self.app.app_context():
            engine = self.db.engine
        event.listen(engine, "before_cursor_execute", note)
        try:
            yield seen
        finally:
            event.remove(engine, "before_cursor_execute", note)


_ABSENT: Any = object()
#: A value in a test's configuration that removes the key.
ABSENT = _ABSENT


class Program:
    """A JSON client. Each verb returns the response."""

    kind = "json"
    headers: Mapping[str, str] = {"Accept": "application/json"}

    def __init__(self, site: Site) -> None:
        self.site = site
        self.client = site.app.test_client(use_cookies=False)

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers={**self.headers, **_named(headers)})

    def post(self, path: str, data: Any = None, **headers: str) -> Any:
        return self.client.post(path, json={} if data is None else data, headers={**self.headers, **_named(headers)})

    def signup(self, email: str, password: str = PASSWORD, **fields: Any) -> Any:
        return self.post("/auth/signup", {"email": email, "password": password, **fields})

    def open(self, link: str) -> Any:
        return self.get(link)

    def verify(self, link: str, **fields: Any) -> Any:
        return self.post(link, fields)

    def resend(self, **fields: Any) -> Any:
        return self.post("/auth/verify/resend", fields)

    def login(self, email: str, password: str = PASSWORD, **fields: Any) -> Any:
        return self.post("/auth/login", {"email": email, "password": password, **fields})

    def logout(self, response: Any) -> Any:
        return self.post("/auth/logout", {"refresh_token": response.json["refresh_token"]})

    def request_reset(self, **fields: Any) -> Any:
        return self.post("/auth/password-reset/request", fields)

    def reset(self, link: str, password: str = OTHER_PASSWORD) -> Any:
        return self.post(link, {"password": password})

    def me(self, response: Any) -> Any:
        """Ask who is logged in with the pair of a response."""
        return self.get("/auth/me", authorization=f"Bearer {response.json['access_token']}")

    def code(self, response: Any) -> str:
        """Return the code of a problem, or the status word of a success."""
        body = response.json or {}
        return str(body.get("code") or body.get("status"))


class Person:
    """A browser without JavaScript: it fills in the forms that it is shown."""

    kind = "html"
    headers: Mapping[str, str] = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}

    def __init__(self, site: Site) -> None:
        self.site = site
        self.client = site.app.test_client()

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers={**self.headers, **_named(headers)})

    def send(self, path: str, data: Mapping[str, Any], **headers: str) -> Any:
        """Post fields as they are, without looking at a form first."""
        return self.client.post(path, data=dict(data), headers={**self.headers, **_named(headers)})

    def fill(self, path: str, number: int = 0, **fields: Any) -> Any:
        """Open a page, fill in one of its forms and send it."""
        return self.submit(self.get(path), number, **fields)

    def submit(self, page: Any, number: int = 0, **fields: Any) -> Any:
        """Fill in one of the forms of a page and send it."""
        form = forms_of(page)[number]
        values = {**form.values, **{name: value for name, value in fields.items() if value is not None}}
        for name, value in fields.items():
            if value is None:
                values.pop(name, None)
        return self.send(form.action or page.request.path, values)

    def follow(self, response: Any) -> Any:
        """Follow a redirect that must be there."""
        assert response.status_code == 303, response.text
        return self.get(response.headers["Location"])

    def signup(self, email: str, password: str = PASSWORD, **fields: Any) -> Any:
        return self.fill("/auth/signup", email=email, password=password, **fields)

    def open(self, link: str) -> Any:
        return self.get(link)

    def verify(self, link: str, **fields: Any) -> Any:
        page = self.get(link)
        return self.submit(page, **fields) if forms_of(page) and page.status_code == 200 else page

    def resend(self, **fields: Any) -> Any:
        return self.fill("/auth/verify/resend", **fields)

    def login(self, email: str, password: str = PASSWORD, **fields: Any) -> Any:
        return self.fill("/auth/login", email=email, password=password, **fields)

    def logout(self, response: Any = None) -> Any:
        return self.fill("/auth/logout")

    def request_reset(self, **fields: Any) -> Any:
        return self.fill("/auth/password-reset/request", **fields)

    def reset(self, link: str, password: str = OTHER_PASSWORD) -> Any:
        page = self.get(link)
        return self.submit(page, password=password) if page.status_code == 200 else page

    def me(self, response: Any = None) -> Any:
        """Open the account page."""
        return self.get("/auth/me")


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers given as keyword arguments: ``sec_fetch_site`` is ``Sec-Fetch-Site``."""
    return {name.replace("_", "-").title(): value for name, value in headers.items()}


class FormOnPage:
    """A form as a browser without JavaScript sees it."""

    def __init__(self, action: str) -> None:
        self.action = action
        self.values: dict[str, str] = {}
        self.buttons: list[str] = []


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[FormOnPage] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self.found.append(FormOnPage(given.get("action") or ""))
            self._open = True
        elif tag in {"input", "button"} and self._open:
            self._note(tag, given)

    def _note(self, tag: str, given: dict[str, str | None]) -> None:
        name = given.get("name")
        if tag == "button" and given.get("type") == "submit":
            self.found[-1].buttons.append(given.get("value") or "")
            if len(self.found[-1].buttons) > 1:
                return  # only the first is pressed by the return key, and no other one is sent
        if name is None or (given.get("type") == "checkbox" and "checked" not in given):
            return
        self.found[-1].values[name] = given.get("value") or ("on" if given.get("type") == "checkbox" else "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = False


def forms_of(page: Any) -> list[FormOnPage]:
    """Return the forms of a page."""
    parser = _Forms()
    parser.feed(page.text)
    return parser.found


def token_in(link: str) -> str:
    """Return the token at the end of a link."""
    return urlsplit(link).path.rpartition("/")[2]


def services(site: Site) -> Any:
    """Return the services of a site, for looking behind its pages."""
    with site.app.app_context():
        return current_app.extensions["accountflow"]


def some_id() -> uuid.UUID:
    """Return an id that no row has."""
    return uuid.uuid4()
