"""This project, by its JSON with bearer tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..servers import ROOT
from .base import GUNICORN, NEW_PASSWORD, PASSWORD, Answer, Call, Login, Mail, System


def _post(path: str, *expect: int, **fields: str) -> Call:
    return Call("POST", f"/auth/{path}", json=fields, expect=expect or (200,))


class AccountFlow(System):
    """flask-accountflow, as it is in this checkout."""

    name = "flask-accountflow"
    requirements = ("--editable", str(ROOT), "psycopg2-binary", *GUNICORN)
    application = "benchmarks.apps.accountflow:create_app()"
    distribution = "flask-accountflow"

    def signup(self, email: str) -> Call:
        return _post("signup", 202, email=email, password=PASSWORD)

    def verify(self, mail: Mail) -> Call:
        return _post("verify", token=mail.find(r"/auth/verify/([\w.~-]+)"))

    def login(self, email: str, password: str) -> Call:
        return _post("login", email=email, password=password)

    def logged_in(self, answer: Answer) -> Login:
        found: Mapping[str, Any] = answer.json
        return Login({"Authorization": f"Bearer {found['access_token']}"}, found["refresh_token"])

    def me(self, login: Login) -> Call:
        return Call("GET", "/auth/me", headers={"Accept": "application/json", **login.headers})

    def refresh(self, login: Login) -> Call:
        return _post("refresh", refresh_token=login.refresh)

    def reset_request(self, email: str) -> Call:
        return _post("password-reset/request", 202, email=email)

    def reset_confirm(self, mail: Mail) -> Call:
        token = mail.find(r"/auth/password-reset/([\w.~-]+)")
        return _post("password-reset/confirm", token=token, password=NEW_PASSWORD)

    def login_page(self) -> Call:
        return Call("GET", "/auth/login", headers={"Accept": "text/html"})


SYSTEM = AccountFlow()
