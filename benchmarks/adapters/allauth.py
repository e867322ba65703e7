"""django-allauth by its headless API, for apps that send the token of their session in a header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.adapters.base import GUNICORN, NEW_PASSWORD, PASSWORD, Answer, Call, Login, Mail, System


def _post(path: str, body: Mapping[str, Any], expect: int) -> Call:
    return Call("POST", f"/_allauth/app/v1/auth/{path}", json=body, expect=(expect,))


class Allauth(System):
    """Answers 401 to whatever succeeds but logs nobody in, and 400 to what is refused."""

    name = "django-allauth"
    requirements = ("django-allauth[headless]", "Django", "bcrypt", "psycopg2-binary", *GUNICORN)
    application = "benchmarks.apps.allauth:application"
    distribution = "django-allauth"

    def signup(self, email: str) -> Call:
        """Sign up; who does that is in the middle of a login until the address is confirmed."""
        return _post("signup", {"email": email, "password": PASSWORD}, 401)

    def verify(self, mail: Mail) -> Call:
        """Confirm the address by the key in the link."""
        return _post("email/verify", {"key": mail.find(r"/verify-email/([\w:%-]+)").replace("%3A", ":")}, 401)

    def login(self, email: str, password: str) -> Call:
        """Log in."""
        return _post("login", {"email": email, "password": password}, 200)

    def logged_in(self, answer: Answer) -> Login:
        """Read the token of the session."""
        return Login({"X-Session-Token": answer.json["meta"]["session_token"]})

    def me(self, login: Login) -> Call:
        """Ask whose session it is."""
        return Call("GET", "/_allauth/app/v1/auth/session", headers=login.headers)

    def reset_request(self, email: str) -> Call:
        """Ask for a mail to set a new password."""
        return _post("password/request", {"email": email}, 200)

    def reset_confirm(self, mail: Mail) -> Call:
        """Set a new password by the key in the link."""
        return _post("password/reset", {"key": mail.find(r"/password/reset/([\w-]+)"), "password": NEW_PASSWORD}, 401)

    def login_page(self) -> Call:
        """Get the page to log in at, which browsers without an app of their own use."""
        return Call("GET", "/accounts/login/")


SYSTEM = Allauth()
