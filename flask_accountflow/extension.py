"""The extension: reads the settings, builds the services, mounts the blueprint."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, cast

import sqlalchemy as sa
from flask import Flask, current_app
from flask_mail import Mail
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.pool import StaticPool
from wtforms import Form

from . import cli, events, flows, models, store
from .errors import ConfigError
from .flow import Action, Outcome, Services
from .flows import admin, reset, signup, verify
from .flows.admin import create_user
from .forms import AccountForm, AskForm, CreateUserForm, ResetForm, SignupForm, VerifyForm, check, from_json
from .mail.delivery import Deliverer
from .mail.kicks import InlineKick, Kick, ThreadKick, WorkerKick
from .mail.transports import ConsoleTransport, FileTransport, RecordingTransport, Transport
from .mail_smtp import SmtpTransport
from .passwords import BcryptHasher, Hasher, PasswordPolicy
from .settings import Settings, read
from .throttle import Budget, LimitsThrottle, NoThrottle, Throttle
from .tokens import AccessTokens, Links, RefreshTokens, derive
from .web import blueprint
from .web.letters import LetterRenderer
from .web.pages import Pages
from .web.programs import Programs
from .web.site import Site
from .web.view import Web
from .web.visits import form_meta
from .web.words import when

_log = logging.getLogger("accountflow")

Clock = Callable[[], datetime]


def now() -> datetime:
    """Return the time in UTC, in whole seconds: MariaDB keeps no fraction."""
    return datetime.now(timezone.utc).replace(microsecond=0)


@dataclass(frozen=True)
class Parts:
    """What an app may replace. None stands for ours."""

    hasher: Hasher | None = None
    transport: Transport | None = None
    kick: Callable[[], None] | None = None
    throttle: Throttle | None = None
    actions: Iterable[Action] | None = None
    signup_form: type[SignupForm] = SignupForm
    password_policy: PasswordPolicy | None = None
    on_signup: Callable[[Any, Form], None] | None = None
    clock: Clock = now


class AccountFlow:
    """Accounts for a Flask app: sign-up, confirmation, login, refresh, logout and password reset.

    ``db`` and ``user_model`` are given here or to :meth:`init_app`. ``parts`` are those of
    :class:`Parts`. The same verbs as over HTTP are methods; they need an app context, return an
    :class:`.Outcome` or raise :exc:`.Refusal`, and join a transaction that the app has begun.
    """

    def __init__(
        self,
        app: Flask | None = None,
        db: SQLAlchemy | None = None,
        user_model: type | None = None,
        *,
        table_prefix: str = "accountflow_",
        **parts: Any,
    ) -> None:
        self._db = db
        self._user_model = user_model
        self._prefix = table_prefix
        self._parts = Parts(**parts)
        if user_model is not None:
            # Now, so that db.create_all() and Flask-Migrate see the tables.
            models.build(user_model, table_prefix)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, db: SQLAlchemy | None = None, user_model: type | None = None) -> None:
        """Set up accounts for ``app``. ``db.init_app(app)`` may come before or after.

        Raises :exc:`.ConfigError` with every fault of the configuration, and when called twice for one app.
        """
        db, user_model = self._given(db, user_model)
        if "accountflow" in app.extensions:
            raise ConfigError(["AccountFlow is set up for this app already; call init_app once."])
        settings, warnings = read(app.config, app_name=app.name)
        for warning in warnings:
            _log.warning("%s", warning)
        _set_cookie_defaults(app, settings)
        app.jinja_env.filters["af_when"] = when
        _Mount(app, db, user_model, models.build(user_model, self._prefix), settings, self._parts).mount()

    def _given(self, db: SQLAlchemy | None, user_model: type | None) -> tuple[SQLAlchemy, type]:
        db = db if db is not None else self._db
        user_model = user_model if user_model is not None else self._user_model
        if db is None or user_model is None:
            raise ConfigError(["AccountFlow needs the app's db and user model: AccountFlow(app, db, User)."])
        return db, user_model

    @property
    def tables(self) -> models.Tables:
        """The tables beside the user model, for queries of your own and for classes over them."""
        return models.build(self._given(self._db, self._user_model)[1], self._prefix)

    def signup(self, email: str, password: str, **fields: Any) -> Outcome:
        """Sign an address up, as the page does."""
        return _run(signup.run, self._parts.signup_form, email=email, password=password, **fields)

    def verify(self, token: str, password: str | None = None) -> Outcome:
        """Confirm the address that a link was mailed to."""
        return _run(verify.run, VerifyForm, token=token, password=password)

    def resend(self, email: str) -> Outcome:
        """Mail another link."""
        return _run(verify.resend, AskForm, email=email)

    def request_reset(self, email: str) -> Outcome:
        """Mail a link that sets a new password."""
        return _run(reset.request, AskForm, email=email)

    def reset(self, token: str, password: str) -> Outcome:
        """Set a new password by a mailed link."""
        return _run(reset.run, ResetForm, token=token, password=password)

    def create_user(
        self, email: str, password: str | None = None, *, verified: bool = False, admin: bool = False
    ) -> Outcome:
        """Create an account. Without a password it is mailed a link to set one."""
        form = {"email": email, "password": password, "email_verified": verified, "is_admin": admin}
        return _run(create_user, CreateUserForm, **form)

    def verify_user(self, email: str) -> Outcome:
        """Take an address as proved."""
        return _run(admin.verify_user, AccountForm, email=email)

    def disable_user(self, email: str) -> Outcome:
        """Disable an account; everything of it ends at once."""
        return _run(admin.disable_user, AccountForm, email=email)

    def enable_user(self, email: str) -> Outcome:
        """Enable an account that was disabled."""
        return _run(admin.enable_user, AccountForm, email=email)

    def revoke_sessions(self, email: str) -> Outcome:
        """End every login and link of an account."""
        return _run(admin.revoke_sessions, AccountForm, email=email)


def _run(flow: Callable[[Services, Any], Outcome], form_class: type[Form], **data: Any) -> Outcome:
    """Run a flow for the app itself: nobody's visit, and in the app's own transaction if it has begun one."""
    services: Services = current_app.extensions["accountflow"]
    form = from_json(form_class, data, form_meta(services))
    check(form)
    return flow(services, form)


class _Mount:
    """Sets accounts up for one app."""

    def __init__(
        self, app: Flask, db: SQLAlchemy, user_model: type, tables: models.Tables, settings: Settings, parts: Parts
    ) -> None:
        self._app = app
        self._db = db
        self._user_model = user_model
        self._tables = tables
        self._settings = settings
        self._parts = parts
        self._engines = _Engines(app, db, tables.user.metadata.info.get("bind_key"))

    def mount(self) -> None:
        """Build everything, and hang it on the app."""
        app, settings = self._app, self._settings
        recorded, transport = self._transport()
        services = self._services()
        render = LetterRenderer(app.jinja_env, settings, services.links)
        deliverer = Deliverer(services.store.queue, transport, render, services.clock, services.emit)
        kick = self._kick(deliverer)
        services = replace(services, kick=kick)
        web = Web(services, Pages(Site.build(has_inbox=recorded is not None)), Programs())
        app.extensions["accountflow"] = services
        app.extensions["accountflow_web"] = web
        app.extensions["accountflow_delivery"] = deliverer
        blueprint.mount(app, blueprint.build(web, self._actions(), recorded))
        app.cli.add_command(cli.accountflow)
        if hasattr(kick, "start"):
            app.before_request_funcs.setdefault(None, []).append(_once(kick.start))

    def _services(self) -> Services:
        settings, parts, app = self._settings, self._parts, self._app
        secret = settings.secret_keys[-1]
        issuer = settings.jwt_issuer or settings.base_url or settings.site_name
        return Services(
            settings=settings,
            store=store.build(
                self._user_model,
                self._tables,
                settings,
                registry=lambda: self._db.session,
                begin=self._engines.begin,
                outbox_key=derive(secret, "outbox"),
            ),
            hasher=parts.hasher if parts.hasher is not None else _hasher(settings),
            policy=parts.password_policy if parts.password_policy is not None else _policy(settings),
            links=Links(settings.secret_keys),
            access_tokens=AccessTokens(
                settings.secret_keys,
                issuer=issuer,
                audience=settings.jwt_audience or issuer,
                max_age=settings.access_token_max_age,
            ),
            refresh_tokens=RefreshTokens(settings.secret_keys),
            throttle=parts.throttle if parts.throttle is not None else _throttle(settings, derive(secret, "throttle")),
            clock=parts.clock,
            emit=lambda name, **payload: events.send(name, app, **payload),
            kick=lambda: None,
            on_signup=parts.on_signup if parts.on_signup is not None else lambda user, form: None,
            host_fields=tuple(self._host_fields()),
        )

    def _host_fields(self) -> Iterator[str]:
        """Yield the names of the sign-up fields that are the app's own and fill a column."""
        columns: Any = sa.inspect(self._user_model).columns
        ours = {field.name for field in SignupForm()}
        for field in self._parts.signup_form():
            if field.name not in ours and field.name in columns and field.name not in models.UserMixin.__annotations__:
                yield field.name

    def _actions(self) -> Iterator[Action]:
        for action in self._parts.actions if self._parts.actions is not None else flows.ACTIONS:
            yield replace(action, form=self._parts.signup_form) if action.form is SignupForm else action

    def _transport(self) -> tuple[RecordingTransport | None, Transport]:
        """Return the transport; in debug also what records its letters for the developer's inbox."""
        settings, transport = self._settings, self._parts.transport
        if transport is None:
            transport = self._named_transport()
        if not settings.debug:
            return None, transport
        recorded = RecordingTransport(transport)
        return recorded, recorded

    def _named_transport(self) -> Transport:
        settings = self._settings
        if settings.transport == "file":
            return FileTransport(settings.mail_file)
        if settings.transport == "console":
            return ConsoleTransport()
        if "mail" not in self._app.extensions:
            Mail(self._app)
        return SmtpTransport(self._app, timeout=settings.mail_timeout, ca_file=settings.mail_ca_file)

    def _kick(self, deliverer: Deliverer) -> Callable[[], None]:
        wanted: Any = self._parts.kick if self._parts.kick is not None else self._settings.mail_kick
        if callable(wanted):
            return cast(Callable[[], None], wanted)
        if wanted == "thread":
            return _ThreadOrInline(ThreadKick(deliverer), InlineKick(deliverer), self._engines)
        return InlineKick(deliverer) if wanted == "inline" else WorkerKick()


class _Engines:
    """Connections of our own, beside the host's session."""

    def __init__(self, app: Flask, db: SQLAlchemy, bind_key: str | None) -> None:
        self._app = app
        self._db = db
        self._bind_key = bind_key
        self._found: Any = None

    def current(self) -> sa.Engine | sa.Connection:
        """Return the engine; a connection where a test has put one in its place."""
        if self._found is None:
            # Once, and late: db.init_app may come after ours. The mapping is the live one.
            with self._app.app_context():
                self._found = self._db.engines
        engine: sa.Engine | sa.Connection = self._found[self._bind_key]
        return engine

    def begin(self) -> AbstractContextManager[sa.Connection]:
        """Open a transaction; within a test's outer one, a savepoint."""
        engine = self.current()
        return _nested(engine) if isinstance(engine, sa.Connection) else engine.begin()

    def is_shared(self) -> bool:
        """Tell whether every use of the engine is one and the same connection, so that no thread may use it."""
        engine = self.current()
        return isinstance(engine, sa.Connection) or isinstance(engine.pool, StaticPool)


@contextmanager
def _nested(connection: sa.Connection) -> Iterator[sa.Connection]:
    with connection.begin_nested() if connection.in_transaction() else connection.begin():
        yield connection


class _ThreadOrInline:
    """Delivers by threads, except where the database is one connection that a request may hold."""

    def __init__(self, threads: ThreadKick, inline: InlineKick, engines: _Engines) -> None:
        self._threads = threads
        self._inline = inline
        self._engines = engines

    def _chosen(self) -> Kick:
        return self._inline if self._engines.is_shared() else self._threads

    def __call__(self) -> None:
        self._chosen()()

    def start(self) -> None:
        self._chosen().start()


def _once(start: Callable[[], None]) -> Callable[[], None]:
    """Return a hook that calls ``start`` at the first request of the process."""
    done: list[bool] = []

    def hook() -> None:
        if not done:
            done.append(True)
            start()

    return hook


def _hasher(settings: Settings) -> Hasher:
    return BcryptHasher(
        settings.bcrypt_rounds,
        settings.password_peppers,
        concurrency=settings.hash_concurrency,
        queue=settings.hash_queue,
        wait=settings.hash_wait,
    )


def _policy(settings: Settings) -> PasswordPolicy:
    return PasswordPolicy(settings.password_min_length, settings.password_max_length, words=[settings.site_name])


def _throttle(settings: Settings, key: bytes) -> Throttle:
    if not settings.ratelimit_enabled:
        return NoThrottle()
    budgets = (
        Budget("login", settings.ratelimit_login, "clear"),
        Budget("login_ip", settings.ratelimit_login_ip, "return"),
        Budget("mail_ip", settings.ratelimit_mail_ip, "keep"),
        Budget("token_ip", settings.ratelimit_token_ip, "return"),
    )
    return LimitsThrottle(budgets, settings.ratelimit_storage_uri, key)


def _set_cookie_defaults(app: Flask, settings: Settings) -> None:
    """Give the app's session cookie what Flask leaves open. What the app has chosen stays."""
    if not settings.cookie_defaults:
        return
    if app.config["SESSION_COOKIE_SAMESITE"] is None:
        app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    if settings.secure and not app.config["SESSION_COOKIE_SECURE"]:
        app.config["SESSION_COOKIE_SECURE"] = True
