"""For the tests of an app: letters, users, logged-in clients, and a proof that it tells nobody who has an account.

``pytest_plugins = ["flask_accountflow.testing"]`` in a ``conftest.py`` brings the fixture :func:`outbox`; all else is
plain functions. They write to the app's database, which must be one for tests.

PYTEST_DONT_REWRITE: else a ``conftest.py`` that also imports from here is warned that it did so too early.
"""

from __future__ import annotations

import difflib
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from html.parser import HTMLParser
from itertools import islice, product
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import bcrypt
import pytest
import sqlalchemy as sa
from flask import Flask, current_app, has_app_context, url_for
from flask.testing import FlaskClient
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from werkzeug.test import TestResponse

from . import services, sessions
from .errors import Refusal
from .flow import Services
from .flows.admin import create_user, disable_user
from .forms import AccountForm, CreateUserForm, check, from_json
from .identity import canonical
from .mail.letter import Letter
from .mail.transports import Connection, RecordingTransport, Transport
from .passwords import BcryptHasher
from .store.accounts import Account
from .web.visits import form_meta

EMAIL = "user@example.com"
PASSWORD = "correct horse battery staple"

#: What :func:`assert_indistinguishable` can ask for, and the endpoint that is asked.
ACTIONS: Mapping[str, str] = {
    "signup": "signup",
    "resend": "resend",
    "reset": "reset_request",
    "login": "login",
    "email change": "email_change",
}


class Clock:
    """A clock that goes when it is told to, for an app that passes it on: ``AccountFlow(…, clock=clock)``.

    It starts at ``start``, which has a time zone, or at the present second. Limits of tries have a clock of their own.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self.now = start if start is not None else services.now()

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def outbox(app: Flask) -> Iterator[list[Letter]]:
    """The letters that the fixture ``app`` hands to its transport during the test, newest last."""
    with record_letters(app) as letters:
        yield letters


@contextmanager
def record_letters(app: Flask) -> Iterator[list[Letter]]:
    """Yield the letters that ``app`` hands to its transport meanwhile, newest last. The transport gets them, too.

    Raises :exc:`ValueError` for an app whose letters leave by threads, some time later.
    """
    tools: Services = app.extensions["accountflow"]
    if tools.settings.mail_kick == "thread" and hasattr(tools.kick, "start"):
        raise ValueError("The letters of this app leave later. Set ACCOUNTFLOW_MAIL_KICK = 'inline' for its tests.")
    letters: list[Letter] = []
    with _around_transport(app, lambda inner: _Tap(inner, letters)):
        yield letters


def link(letter: Letter) -> str:
    """Return the link in a letter as a test client takes it: without scheme and host.

    Raises :exc:`AssertionError` when the letter has none.
    """
    if letter.link is None:
        raise AssertionError(f"The letter {letter.template!r} to {letter.to} has no link.")
    return urlsplit(letter.link)._replace(scheme="", netloc="").geturl()


def make_user(
    app: Flask, email: str = EMAIL, password: str | None = PASSWORD, *, verified: bool = True, admin: bool = False
) -> Any:
    """Create an account as an operator does, commit it, and return the app's user.

    Within an app context of the test the user belongs to its database session. Who is not verified is mailed a link
    to confirm the address, and who has no password one to set it. Raises :exc:`.Refusal` as for an operator.
    """
    with _inside(app) as tools:
        data = {"email": email, "password": password, "email_verified": verified, "is_admin": admin}
        form = from_json(CreateUserForm, data, form_meta(tools))
        check(form)
        create_user(tools, form)
        return tools.store.accounts.entity(_held(tools, form.email.address.key))


def signed_in_client(app: Flask, email: str = EMAIL, password: str = PASSWORD, *, bearer: bool = False) -> FlaskClient:
    """Log in, and return the client: a browser that has filled in the login page.

    With ``bearer`` it is a program without cookies: it logs in by JSON, and sends its access token with every request.
    The account is made, verified, unless the address has one. Raises :exc:`AssertionError` with the answer of a login
    that was refused.
    """
    with _inside(app) as tools:
        is_known = _account(tools, _key(tools, email)) is not None
    if not is_known:
        make_user(app, email, password)
    client = app.test_client(use_cookies=not bearer)
    answer = _send(client, "login", {"email": email, "password": password}, "json" if bearer else "html")
    token = answer.get_json().get("access_token") if bearer else _login_of(client)
    if token is None:
        raise AssertionError(f"{email} was not logged in; the answer was {_said(answer)}")
    if bearer:
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return client


def assert_indistinguishable(
    app: Flask | FlaskClient,
    *,
    actions: Iterable[str] = tuple(ACTIONS),
    fields: Mapping[str, Any] | None = None,
    ignore: Iterable[str] = (),
) -> None:
    """Assert that an app, with its own templates, forms, hooks and receivers, tells nobody who has an account.

    Asked in JSON and in HTML, it must answer alike for an address that nobody has and for accounts that are
    verified, unverified, disabled, without a password, or with a hash of an older cost: with equal status, headers,
    cookies and body, by the same SQL with as many commits (``END``), and by as many rounds of bcrypt. So it must be on
    the page that a browser is sent on to, too, for sign-up and login after one another, while no mail can be sent, and,
    where logins are limited, over the limit; and to somebody who is logged in and asks for such an address instead of
    his own. Only a sign-up may differ, by one statement: an ``INSERT`` where the account is new, else one that changes
    nothing.

    A client stands for its app and lends its ``environ_base``. ``fields`` are what the app's own sign-up form
    asks for, and perhaps a ``password`` for its policy. What two answers for unknown addresses differ in, word for
    word as long, is random and does not count; nor does what matches one of ``ignore``, regular expressions that
    are tried on each header, each line and each statement. Accounts, links and mails are made under a domain of their
    own, and removed afterwards; what the app's own rows point at stays. Nothing is mailed.

    Raises :exc:`AssertionError` with the first difference, and the names of all.
    """
    client = app if isinstance(app, FlaskClient) else app.test_client()
    given = fields if fields is not None else {}
    # Without the contexts of the test: its app context, and so its database session, would be that of every request.
    Context().run(lambda: _Probe(client, given, ignore).run(tuple(actions)))


class _Tap(RecordingTransport):
    """Keeps every letter, in a list."""

    def __init__(self, inner: Transport, letters: list[Letter]) -> None:
        super().__init__(inner)
        self._letters = letters

    def record(self, letter: Letter) -> None:
        self._letters.append(letter)


class _Nowhere:
    """Takes letters and sends none. ``fault`` is raised instead, if there is one."""

    def __init__(self, fault: Exception | None = None) -> None:
        self._fault = fault

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        yield self

    def send(self, letter: Letter) -> None:
        if self._fault is not None:
            raise self._fault

    def abort(self) -> None:
        """Nothing is ever slow here."""


def _around_transport(app: Flask, wrap: Callable[[Transport], Transport]) -> AbstractContextManager[Any]:
    """Put a transport around the app's own. All letters of an app pass here, whoever made the transport."""
    deliverer = app.extensions["accountflow_delivery"]
    return patch.object(deliverer, "_transport", wrap(deliverer._transport))


@contextmanager
def _inside(app: Flask) -> Iterator[Services]:
    """Yield the services as routes have them, in the app context of the test or in one of their own."""
    is_inside = has_app_context() and current_app == app
    with nullcontext() if is_inside else app.app_context():
        yield replace(app.extensions["accountflow"], own=True)


def _key(tools: Services, email: str) -> str:
    return canonical(email, allow_special=tools.settings.email_allow_special).key


def _account(tools: Services, key: str) -> Account | None:
    return tools.store.units.read(lambda: tools.store.accounts.find(key), release=True)


def _login_of(client: FlaskClient) -> str | None:
    with client.session_transaction() as session:
        login: str | None = session.get(sessions.SID)
    return login


_ACCEPT = {"json": {"Accept": "application/json"}, "html": {"Accept": "text/html"}}


def _send(client: FlaskClient, action: str, data: Mapping[str, Any], format: str) -> TestResponse:
    """Post a form: as a program does, or as a person who opens its page and fills it in."""
    with client.application.test_request_context():
        address = url_for(f"accountflow.{ACTIONS[action]}")
    if format == "json":
        return client.post(address, json=dict(data), headers=_ACCEPT[format])
    page = client.get(address, headers=_ACCEPT[format])
    # What identifies the form; the app may draw some of its own fields by scripts.
    name = next(name for name in data if "email" in name)
    found = (form for form in _Forms(page.text).found if form.leads_to in {"", address} and name in form.values)
    form = next(found, None)
    if form is None:
        raise AssertionError(f"There is no form with an email on {address}; the page was {_said(page)}")
    return client.post(address, data={**form.values, **data}, headers=_ACCEPT[format])


def _said(response: TestResponse) -> str:
    """Return the gist of an answer: its status, where it leads, and the begin of its words."""
    text = " ".join(re.sub(r"<(style|script|head)\b.*?</\1>|<[^>]*>", " ", response.text, flags=re.DOTALL).split())
    return f"{response.status} {response.headers.get('Location', '')} {text[:300]}"


@dataclass
class _FormOnPage:
    leads_to: str
    #: What the form holds before anybody types.
    values: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    """The forms of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[_FormOnPage] = []
        self._is_open = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append(_FormOnPage(urlsplit(given.get("action", "")).path))
            self._is_open = True
        elif tag == "input" and self._is_open and "name" in given:
            is_choice = given.get("type") in {"checkbox", "radio"}
            if not is_choice or "checked" in given:
                self.found[-1].values[given["name"]] = given.get("value", "on" if is_choice else "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._is_open = False


#: Two kinds are the same, and tell what is random. One is asked first, and one last.
_UNKNOWN, _TWIN = "unknown", "another unknown"
_KINDS = ("verified", "unverified", "disabled", "without a password", "with an older hash")

# What an answer has by chance, the end of a second or a connection that is opened, it does not have three times.
_TRIES = 3
# How much of a difference is shown.
_LINES = 12

_WORD = re.compile(r"([A-Za-z0-9_-]+)")
_TIME_OF_DAY = re.compile(r"\b\d\d:\d\d(:\d\d(\.\d+)?)?\b")
_TRANSACTION = re.compile(r"(SAVEPOINT|RELEASE|ROLLBACK|BEGIN|COMMIT)\b")
_COST = re.compile(r"\$2[aby]\$(\d\d)\$")
# bcrypt takes no less.
_LEAST_COST = 4

_ADVICE = "Name in fields= what your sign-up form asks for, or leave an action that is switched off out of actions="
_RANDOM = "Name in ignore= what may"

#: What was seen of one visitor: texts, by what they are.
_Trace = dict[str, str]


@dataclass(frozen=True)
class _Scenario:
    """What is asked, one after the other, and the statuses with which an unknown address may be answered first."""

    name: str
    actions: tuple[str, ...]
    statuses: frozenset[int] = frozenset({200, 201, 202, 302, 303})
    breaks_mail: bool = False
    is_throttled: bool = False
    #: Whether it takes somebody who is logged in.
    needs_login: bool = False


_REFUSED = frozenset({401, 422})
_SCENARIOS = (
    _Scenario("signup", ("signup",)),
    _Scenario("resend", ("resend",)),
    _Scenario("reset", ("reset",)),
    _Scenario("login", ("login",), _REFUSED),
    _Scenario("signup, then login", ("signup", "login")),
    _Scenario("signup without a mail server", ("signup",), breaks_mail=True),
    _Scenario("resend without a mail server", ("resend",), breaks_mail=True),
    _Scenario("reset without a mail server", ("reset",), breaks_mail=True),
    _Scenario("login over the limit", ("login",), _REFUSED | {429}, is_throttled=True),
    _Scenario("email change", ("email change",), needs_login=True),
    _Scenario("email change without a mail server", ("email change",), breaks_mail=True, needs_login=True),
)


class _Watch:
    """Notes what this thread does meanwhile: SQL statements, commits, and rounds of bcrypt.

    Delivering mails does not count: in production a thread or a process of its own does that.
    """

    def __init__(self, app: Flask) -> None:
        self.statements: list[str] = []
        self.rounds = 0
        self._deliverer = app.extensions["accountflow_delivery"]
        self._thread = threading.get_ident()
        self._is_paused = False
        self._stack = ExitStack()

    def __enter__(self) -> _Watch:
        for name, note in (("before_cursor_execute", self._note), ("commit", self._note_commit)):
            event.listen(sa.Engine, name, note)
            self._stack.callback(event.remove, sa.Engine, name, note)
        for name in ("hashpw", "checkpw"):
            self._stack.enter_context(patch.object(bcrypt, name, partial(self._hash, getattr(bcrypt, name))))
        deliver = partial(self._pause, self._deliverer.deliver_due)
        self._stack.enter_context(patch.object(self._deliverer, "deliver_due", deliver))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _note(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if self._is_mine() and not self._is_paused and not _TRANSACTION.match(statement):
            self.statements.append(" ".join(statement.split()))

    def _note_commit(self, connection: Any) -> None:
        # Which waits for the disk, unlike what else begins and ends transactions.
        self._note(connection, None, "END")

    def _is_mine(self) -> bool:
        return threading.get_ident() == self._thread

    def _hash(self, original: Callable[..., Any], *args: Any, **more: Any) -> Any:
        made = original(*args, **more)
        _, salt = (*args, *more.values())
        self.rounds += 2 ** int(salt.split(b"$")[2]) if self._is_mine() else 0
        return made

    def _pause(self, original: Callable[..., int], *args: Any, **more: Any) -> int:
        if not self._is_mine():
            return original(*args, **more)
        self._is_paused = True
        try:
            return original(*args, **more)
        finally:
            self._is_paused = False


class _Probe:
    """Asks one app, in every scenario, for an address of every kind."""

    def __init__(self, client: FlaskClient, fields: Mapping[str, Any], ignore: Iterable[str]) -> None:
        self._app = client.application
        self._environ = client.environ_base
        self._fields = fields
        self._ignore = (*map(re.compile, ignore), _TIME_OF_DAY)
        self._settings = self._app.extensions["accountflow"].settings
        # What is typed at sign-up. The accounts' own, and that of a login by itself, are others.
        self._password = str(fields.get("password", secrets.token_hex(max(16, self._settings.password_min_length))))
        self._own_password, self._wrong_password = f"{self._password}1", f"{self._password}2"
        with _inside(self._app) as tools:
            quoted = tools.store.units.connection().dialect.identifier_preparer.format_table(tools.store.tables.user)
        # A sign-up inserts an account, or does something that takes about as long, and touches no row.
        self._steps_of_signup = (f"INSERT INTO {quoted} ", f"DELETE FROM {quoted} WHERE ")
        self._askers: list[str] = []

    def run(self, actions: tuple[str, ...]) -> None:
        """Raise :exc:`AssertionError` for the first scenario in which the answers differ."""
        if not actions or not set(actions) <= set(ACTIONS):
            raise ValueError(f"actions must be some of {', '.join(ACTIONS)}; these are {actions}.")
        with _around_transport(self._app, lambda inner: _Nowhere()):
            for scenario, format in product(_SCENARIOS, _ACCEPT):
                if set(scenario.actions) <= set(actions):
                    self._check(scenario, format)

    def _check(self, scenario: _Scenario, format: str) -> None:
        difference = None
        for _ in range(_TRIES):
            difference = _difference(self._traces(scenario, format))
            if difference is None:
                return
        raise AssertionError(f"{scenario.name} ({format}): {difference}")

    def _traces(self, scenario: _Scenario, format: str) -> dict[str, _Trace]:
        domain = f"{secrets.token_hex(4)}.example.com"
        # As long as each other, and with the same first letter, which a masked address shows.
        emails = {kind: f"a{secrets.token_hex(8)}@{domain}" for kind in (_UNKNOWN, *_KINDS, _TWIN)}
        try:
            kinds = self._make_accounts(emails, format)
            return {kind: self._trace(scenario, format, kind, emails[kind]) for kind in (_UNKNOWN, *kinds, _TWIN)}
        finally:
            self._remove([*emails.values(), *self._askers])
            self._askers.clear()

    def _make_accounts(self, emails: Mapping[str, str], format: str) -> tuple[str, ...]:
        """Return the kinds that there are: there is no older hash than one of the least cost."""
        verified, unverified, disabled, without, older = (emails[kind] for kind in _KINDS)
        make_user(self._app, verified, self._own_password)
        make_user(self._app, disabled, self._own_password)
        make_user(self._app, without, None)
        make_user(self._app, older, self._own_password)
        self._sign_up(unverified, format)
        with _inside(self._app) as tools:
            form = from_json(AccountForm, {"email": disabled}, form_meta(tools))
            check(form)
            disable_user(tools, form)
            has_older = self._age_hash(tools, _held(tools, older))
            _delete_mails(tools, emails.values())  # or the caps would hold back the next ones
        return _KINDS if has_older else _KINDS[:-1]

    def _sign_up(self, email: str, format: str) -> None:
        if not self._settings.signup_enabled:
            make_user(self._app, email, self._own_password, verified=False)
            return
        answer = _send(self._client(format), "signup", self._typed("signup", email, self._password), format)
        if answer.status_code >= 400:
            raise AssertionError(f"Nobody can sign up ({format}): {_said(answer)}. {_ADVICE}.")

    def _age_hash(self, tools: Services, account: Account) -> bool:
        """Give an account a hash of half its cost, and tell whether there is one."""
        cost = _COST.search(account.password_hash or "")
        if cost is None or int(cost[1]) <= _LEAST_COST:
            return False
        older = BcryptHasher(int(cost[1]) - 1).hash(self._own_password)
        tools.unit(lambda: tools.store.accounts.change(account, {"password_hash": older}))
        return True

    def _remove(self, emails: Iterable[str]) -> None:
        with _inside(self._app) as tools:
            _delete_mails(tools, emails)
            for email in emails:
                _delete_account(tools, email)

    def _client(self, format: str) -> FlaskClient:
        """Return a client in a network of its own, as limits count them."""
        client = self._app.test_client(use_cookies=format == "html")
        # 2001:db8::/32 is for documentation (RFC 3849).
        network = f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}::1"
        client.environ_base = {**self._environ, "REMOTE_ADDR": network}
        return client

    def _typed(self, action: str, email: str, password: str) -> Mapping[str, Any]:
        if action == "signup":
            return {**self._fields, "email": email, "password": password}
        if action == "email change":
            return {"new_email": email, "current_password": self._own_password}
        return {"email": email, "password": password} if action == "login" else {"email": email}

    def _trace(self, scenario: _Scenario, format: str, kind: str, email: str) -> _Trace:
        """Ask, and return what was seen."""
        if scenario.is_throttled:
            self._use_up(email)
        client = self._asker(format) if scenario.needs_login else self._client(format)
        trace: _Trace = {}
        transport = _Nowhere(ConnectionError("no mail server") if scenario.breaks_mail else None)
        with _around_transport(self._app, lambda inner: transport), _Watch(self._app) as watch:
            for title, answer in self._answers(client, scenario, format, email):
                if kind == _UNKNOWN and not trace and answer.status_code not in scenario.statuses:
                    raise AssertionError(f"{scenario.name} ({format}): {_said(answer)}. {_ADVICE}.")
                trace.update((f"{name} of {title}", self._plain(lines)) for name, lines in self._parts(answer))
                answer.close()
        statements = watch.statements
        if "signup" in scenario.actions:
            statements = _without_first(statements, self._steps_of_signup)
        return {**trace, "the SQL": self._plain(statements), "the hashing": f"{watch.rounds} rounds of bcrypt"}

    def _asker(self, format: str) -> FlaskClient:
        """Return a client that has logged in, with an account of its own."""
        email = f"a{secrets.token_hex(8)}@{secrets.token_hex(4)}.example.com"
        self._askers.append(email)
        make_user(self._app, email, self._own_password)
        client = self._client(format)
        answer = _send(client, "login", {"email": email, "password": self._own_password}, format)
        if format == "json" and answer.status_code == 200:
            client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {answer.get_json()['access_token']}"
        return client

    def _answers(
        self, client: FlaskClient, scenario: _Scenario, format: str, email: str
    ) -> Iterator[tuple[str, TestResponse]]:
        """Yield each answer and each page that one leads to, with its name."""
        password = self._wrong_password if scenario.actions == ("login",) else self._password
        for action in scenario.actions:
            answer = _send(client, action, self._typed(action, email, password), format)
            yield f"the {action}", answer
            onward = answer.headers.get("Location", "")
            if onward.startswith("/"):
                yield f"the page after the {action}", client.get(onward, headers=_ACCEPT[format])

    def _use_up(self, email: str) -> None:
        """Try as often as the app allows, from another network each time."""
        with _inside(self._app) as tools, suppress(Refusal):
            for _ in range(1 + max(rate.count for rate in self._settings.ratelimit_login)):
                tools.throttle.reserve(login=email, login_ip=secrets.token_hex(8))

    def _parts(self, answer: TestResponse) -> Iterator[tuple[str, Iterable[str]]]:
        """Yield what there is to see of an answer, the most telling first."""
        # How long to wait gets less while we ask; its first digit hardly does.
        wait = answer.headers.get("Retry-After", "")
        around = f"{int(wait):.0e}" if wait.isdigit() else wait
        hidden = {"Date", "Retry-After", "Set-Cookie"}
        headers = [f"{name}: {value}" for name, value in answer.headers if name.title() not in hidden]
        session = re.escape(self._app.config["SESSION_COOKIE_NAME"])
        cookies = (re.sub(rf"^{session}=[^;]*", "the session", one) for one in answer.headers.getlist("Set-Cookie"))
        yield "the status", [answer.status]
        yield "the cookies", cookies
        yield "the body", (re.sub(rf"\b{re.escape(wait)}\b", "", answer.text) if wait else answer.text).split("\n")
        yield "the headers", sorted([*headers, f"Retry-After: {around}"] if wait else headers)

    def _plain(self, lines: Iterable[str]) -> str:
        """Return lines without what is to be ignored; a line that is ignored as a whole is none."""
        left = []
        for line in lines:
            text = line
            for pattern in self._ignore:
                text = pattern.sub("", text)
            if text or not line:
                left.append(text)
        return "\n".join(left)


def _held(tools: Services, key: str) -> Account:
    account = _account(tools, key)
    if account is None:
        raise AssertionError("the account was created just now")
    return account


def _delete_mails(tools: Services, emails: Iterable[str]) -> None:
    mail = tools.store.tables.mail
    theirs = mail.c.to_key.in_([tools.store.outbox.address_key(email) for email in emails])
    tools.unit(lambda: tools.store.units.execute(sa.delete(mail).where(theirs)))


def _delete_account(tools: Services, email: str) -> None:
    """Delete what there is of an address: links, which for unknown ones are decoys under a digest, logins, account."""
    tables, execute = tools.store.tables, tools.store.units.execute
    keys = (email, tools.store.outbox.address_key(email))
    tools.unit(lambda: execute(sa.delete(tables.token).where(tables.token.c.email_key.in_(keys))))
    account = _account(tools, email)
    if account is not None:
        tools.unit(lambda: execute(sa.delete(tables.session).where(tables.session.c.user_id == account.id)))
        with suppress(IntegrityError):  # rows of the app point at it
            tools.unit(lambda: execute(sa.delete(tables.user).where(tables.user_key == account.id)))


def _without_first(statements: list[str], begins: tuple[str, ...]) -> list[str]:
    found = next((number for number, one in enumerate(statements) if one.startswith(begins)), None)
    return statements if found is None else statements[:found] + statements[found + 1 :]


def _difference(traces: Mapping[str, _Trace]) -> str | None:
    """Return in words how some answers differ from those for an unknown address; None when none does."""
    unknown, twin = traces[_UNKNOWN], traces[_TWIN]
    random = {title: _random_words(text, twin.get(title, "")) for title, text in unknown.items()}
    # The twin first: what it differs in is not about accounts.
    seen = {kind: _differing(unknown, traces[kind], random) for kind in (_TWIN, *traces)}
    found = {kind: titles for kind, titles in seen.items() if titles}
    if not found:
        return None
    kind, titles = next(iter(found.items()))
    one, other = (_masked(trace.get(titles[0], ""), random.get(titles[0], {})) for trace in (unknown, traces[kind]))
    lines = difflib.unified_diff(one.split("\n"), other.split("\n"), _UNKNOWN, kind, lineterm="", n=1)
    said = f"tells that an address is {kind}" if kind != _TWIN else f"differs between unknown addresses, too. {_RANDOM}"
    listed = [f"  {kind}: {', '.join(titles)}" for kind, titles in found.items()]
    return "\n".join([f"{titles[0]} {said}.", *islice(lines, _LINES), "Different from an unknown one:", *listed])


def _random_words(one: str, other: str) -> Mapping[int, int]:
    """Return which words differ though they are as long, and how long: addresses, tokens, request ids."""
    words, others = _WORD.split(one), _WORD.split(other)
    if len(words) != len(others):
        return {}
    pairs = enumerate(zip(words, others, strict=True))
    return {number: len(a) for number, (a, b) in pairs if a != b and len(a) == len(b) and number % 2}


def _masked(text: str, random: Mapping[int, int]) -> str:
    words = _WORD.split(text)
    return "".join("…" if random.get(number) == len(word) else word for number, word in enumerate(words))


def _differing(unknown: _Trace, trace: _Trace, random: Mapping[str, Mapping[int, int]]) -> list[str]:
    """Return the titles of what differs."""
    return [
        title
        for title in {**unknown, **trace}
        if _masked(unknown.get(title, ""), random.get(title, {}))
        != _masked(trace.get(title, ""), random.get(title, {}))
    ]
