"""The smallest Flask-Security-Too app whose JSON clients sign up, confirm, log in by tokens and reset their password.

It follows the documentation of Flask-Security for clients that have no cookies. What is not as delivered:

- Passwords are hashed by bcrypt, at the cost of the conditions; as delivered it is Argon2.
- Access tokens last a quarter of an hour, as delivered, so refresh tokens are on, and in the answer, not in a cookie.
- Answers do not tell who has an account (``RETURN_GENERIC_RESPONSES``).
- Addresses have an index in lower case, because they are looked for in that way.
- A sign-up asks no DNS server about the domain of the address, because the benchmark has none.

Mailed links hold a hash, of the address or of the password's hash. ``SECURITY_HASHING_SCHEMES`` says by what: as
delivered it is sha256_crypt, with as many rounds as passlib finds right for a password and no setting for fewer. So a
link costs some hundred milliseconds when it is made, and one that confirms an address as much again when it is
opened. Any setting can be given in the environment; to see what is left without that, start the app with
``BENCH_FLASK_SECURITY_HASHING_SCHEMES='["hex_sha256"]'`` and
``BENCH_FLASK_SECURITY_DEPRECATED_HASHING_SCHEMES='[]'``.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Flask
from flask_mail import Mail
from flask_security import Security, SQLAlchemyUserDatastore, auth_required, current_user
from flask_security.models import fsqla_v4 as fsqla
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect
from sqlalchemy import Index, text

from benchmarks.adapters.base import conditions
from benchmarks.apps.sqlite_engine import tune

db = SQLAlchemy()
fsqla.FsModels.set_db_info(db)


class Role(db.Model, fsqla.FsRoleMixin):
    """What a user may do: the model needs it, and nobody has one."""


class User(db.Model, fsqla.FsUserMixin):
    """An account."""

    # What a login looks for.
    __table_args__ = (Index("ix_user_email_lower", text("lower(email)"), unique=True),)


class FsRefreshTracker(db.Model, fsqla.FsRefreshTrackerMixin):
    """A refresh token; the mixin of users looks for this name."""


def _settings() -> dict:
    given = conditions()
    sqlite = given.database.startswith("sqlite")
    return {
        "SECRET_KEY": "0123456789abcdef0123456789abcdef",
        "SECURITY_PASSWORD_SALT": "146585145368132386173505678016728509634",
        "SQLALCHEMY_DATABASE_URI": given.database.replace("postgresql://", "postgresql+psycopg2://"),
        # A connection for each thread.
        "SQLALCHEMY_ENGINE_OPTIONS": {"pool_size": 8, "connect_args": {"timeout": 30} if sqlite else {}},
        "MAIL_SERVER": "127.0.0.1",
        "MAIL_PORT": given.smtp_port,
        "MAIL_DEFAULT_SENDER": "accounts@example.com",
        "SECURITY_PASSWORD_HASH": "bcrypt",
        "SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS": {"bcrypt__rounds": given.rounds},
        "SECURITY_REGISTERABLE": True,
        "SECURITY_CONFIRMABLE": True,
        "SECURITY_RECOVERABLE": True,
        "SECURITY_RETURN_GENERIC_RESPONSES": True,
        "SECURITY_EMAIL_VALIDATOR_ARGS": {"check_deliverability": False},
        "SECURITY_REFRESH_TOKEN": True,
        "SECURITY_REFRESH_TOKEN_COOKIE_NAME": None,
        # CSRF is checked where a cookie says who asks, and not where a token does.
        "WTF_CSRF_CHECK_DEFAULT": False,
        "SECURITY_CSRF_PROTECT_MECHANISMS": ["session", "basic"],
        "SECURITY_CSRF_IGNORE_UNAUTH_ENDPOINTS": True,
        "TRUSTED_HOSTS": [urlsplit(given.base_url).hostname],
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_SAMESITE": "Strict",
        "REMEMBER_COOKIE_SAMESITE": "Strict",
    }


def create_app() -> Flask:
    """Return the app."""
    app = Flask(__name__)
    app.config.update(_settings())
    app.config.from_prefixed_env("BENCH_FLASK")
    db.init_app(app)
    with app.app_context():
        tune(db.engine)
    Mail(app)
    CSRFProtect(app)
    Security(app, SQLAlchemyUserDatastore(db, User, Role, refresh_tracker_model=FsRefreshTracker))

    @app.get("/me")
    @auth_required("token")
    def me() -> dict:
        return {"email": current_user.email}

    return app


if __name__ == "__main__":
    with create_app().app_context():
        db.create_all()
