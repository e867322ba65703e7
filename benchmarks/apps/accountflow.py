"""This project: the app of its README, with mails by SMTP and with limits that a benchmark does not meet.

Every other setting is the default, as in production. Any can be given by the environment, with ``FLASK_`` before its
name.
"""

from __future__ import annotations

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from benchmarks.adapters.base import conditions
from benchmarks.apps.sqlite_engine import tune
from flask_accountflow import AccountFlow, UserMixin

db = SQLAlchemy()


class User(UserMixin, db.Model):
    """An account."""

    __tablename__ = "users"


accounts = AccountFlow(db=db, user_model=User)


def create_app() -> Flask:
    """Return the app under the conditions of this process."""
    given = conditions()
    app = Flask(__name__)
    plenty = "1000000/second"
    app.config.update(
        SECRET_KEY="0123456789abcdef0123456789abcdef",
        SQLALCHEMY_DATABASE_URI=given.database.replace("postgresql:", "postgresql+psycopg2:"),
        # A connection for each thread, and for those that deliver.
        SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 10},
        MAIL_SERVER="127.0.0.1",
        MAIL_PORT=given.smtp_port,
        MAIL_DEFAULT_SENDER="accounts@example.com",
        # The servers are reached by plain http on the loopback.
        SESSION_COOKIE_SECURE=False,
        ACCOUNTFLOW_BASE_URL=given.base_url,
        ACCOUNTFLOW_BCRYPT_ROUNDS=given.rounds,
        # A cost below 10 is refused otherwise.
        ACCOUNTFLOW_ALLOW_INSECURE=True,
        ACCOUNTFLOW_RATELIMIT_LOGIN=plenty,
        ACCOUNTFLOW_RATELIMIT_LOGIN_IP=plenty,
        ACCOUNTFLOW_RATELIMIT_MAIL_IP=plenty,
        ACCOUNTFLOW_RATELIMIT_TOKEN_IP=plenty,
        ACCOUNTFLOW_MAIL_PER_ADDRESS=plenty,
        ACCOUNTFLOW_RESEND_AFTER=1,
    )
    app.config.from_prefixed_env()
    db.init_app(app)
    with app.app_context():
        tune(db.engine)
    accounts.init_app(app)
    return app


if __name__ == "__main__":
    with create_app().app_context():
        db.create_all()
