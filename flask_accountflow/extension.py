"""The extension: what an app writes, and the verbs without HTTP."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from wtforms import Form

from . import models
from .configuration import read
from .errors import ConfigError
from .flow import Outcome, Services
from .flows import admin, reset, signup, verify
from .flows.admin import create_user
from .forms import AccountForm, AskForm, CreateUserForm, ResetForm, VerifyForm, check, from_json
from .mount import mount
from .services import Parts
from .store.mailbox import MailStatus
from .web.visits import form_meta

_log = logging.getLogger("accountflow")


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
        self._parts = Parts(**{name: part for name, part in parts.items() if part is not None})
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
            # Anybody can use a well-known key today; the rest only matters in production.
            _log.log(logging.WARNING if "SECRET_KEY" in warning else logging.INFO, "%s", warning)
        mount(app, db, user_model, models.build(user_model, self._prefix), settings, self._parts)

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

    def mail_status(self) -> MailStatus:
        """Return how many mails wait, and for how long, for a health check; one statement, by an index.

        It uses no transaction that the app has begun, except on a database in memory, where there is
        but one connection. Raises what the database raises.
        """
        services: Services = current_app.extensions["accountflow"]
        return services.store.mailbox.status(services.clock())


def _run(flow: Callable[[Services, Any], Outcome], form_class: type[Form], **data: Any) -> Outcome:
    """Run a flow for the app itself: nobody's visit, and in the app's own transaction if it has begun one."""
    services: Services = current_app.extensions["accountflow"]
    form = from_json(form_class, data, form_meta(services))
    check(form)
    return flow(services, form)
