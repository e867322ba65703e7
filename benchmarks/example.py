"""The example app as a system that the harness starts, for questions about its settings and about several processes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flask import Flask

from benchmarks.adapters.base import PASSWORD, Answer, Call, Conditions, Login, Mail, System
from benchmarks.servers import Server, free_port
from example_app import create_app
from example_app.models import User, db
from flask_accountflow.identity import canonical
from flask_accountflow.passwords import BcryptHasher
from flask_accountflow.services import now

JSON = {"Accept": "application/json"}


class Example(System):
    """The example app, asked as a program does."""

    name = "example app"
    application = "benchmarks.apps.example:create_app()"
    distribution = "flask-accountflow"

    def signup(self, email: str) -> Call:
        return Call("POST", "/auth/signup", {"email": email, "password": PASSWORD}, headers=JSON, expect=(202,))

    def verify(self, mail: Mail) -> Call:
        return Call("POST", "/auth/verify", {"token": mail.find(r"/auth/verify/(\S+)")}, headers=JSON)

    def resend(self, email: str) -> Call:
        """Ask for another link to confirm the address."""
        return Call("POST", "/auth/verify/resend", {"email": email}, headers=JSON, expect=(202,))

    def login(self, email: str, password: str) -> Call:
        return Call("POST", "/auth/login", {"email": email, "password": password}, headers=JSON)

    def logged_in(self, answer: Answer) -> Login:
        return Login({"Authorization": f"Bearer {answer.json['access_token']}"}, answer.json["refresh_token"])

    def me(self, login: Login) -> Call:
        return Call("GET", "/auth/me", headers={**JSON, **login.headers})

    def refresh(self, login: Login) -> Call:
        return Call("POST", "/auth/refresh", {"refresh_token": login.refresh}, headers=JSON)

    def reset_request(self, email: str) -> Call:
        return Call("POST", "/auth/password-reset/request", {"email": email}, headers=JSON, expect=(202,))

    def login_page(self) -> Call:
        return Call("GET", "/auth/login", headers={"Accept": "text/html"})


SYSTEM = Example()


class Site:
    """A database, and settings that any number of servers and workers share; they stand in ``folder``."""

    def __init__(self, folder: Path, database: str = "", smtp_port: int = 9, **settings: Any) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = {
            "SECRET_KEY": "0123456789abcdef0123456789abcdef",
            "SQLALCHEMY_DATABASE_URI": database or f"sqlite:///{folder / 'site.db'}",
            "MAIL_SERVER": "127.0.0.1",
            "MAIL_PORT": smtp_port,
            "MAIL_DEFAULT_SENDER": "accounts@example.com",
            "ACCOUNTFLOW_BASE_URL": "https://www.example.com",
            # Everybody has the same address here.
            **{f"ACCOUNTFLOW_RATELIMIT_{name}_IP": "1000000/day" for name in ("LOGIN", "MAIL", "TOKEN")},
            **settings,
        }

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that carry the settings."""
        given = {key: one if isinstance(one, str) else json.dumps(one) for key, one in self.settings.items()}
        return {f"FLASK_{key}": one for key, one in given.items()}

    def app(self) -> Flask:
        """Return the app in this process, where it delivers nothing."""
        return create_app({**self.settings, "ACCOUNTFLOW_MAIL_KICK": "worker"})

    def make_tables(self) -> None:
        """Make the tables."""
        app = self.app()
        with app.app_context():
            db.create_all()
            db.engine.dispose()

    def server(self, workers: int = 2, threads: int = 8) -> Server:
        """Return a server, not started yet, for the tables that are there."""
        address = f"http://127.0.0.1:{free_port()}"
        conditions = Conditions(self.settings["SQLALCHEMY_DATABASE_URI"], self.settings["MAIL_PORT"], address)
        return Server(
            SYSTEM,
            conditions,
            sys.executable,
            self.folder,
            workers,
            threads,
            environment=self.environment,
            tables=False,
        )

    def add(self, emails: Sequence[str], rounds: int = 12) -> None:
        """Make accounts that are confirmed, all of them with :data:`PASSWORD`, hashed once."""
        app, at = self.app(), now()
        hashed = BcryptHasher(rounds).hash(PASSWORD)
        with app.app_context():
            for email in emails:
                values = {"password_hash": hashed, "email_verified_at": at, "created_at": at}
                db.session.add(User(email=email, email_key=canonical(email).key, **values))
            db.session.commit()
            db.engine.dispose()
