"""tempest-fastapi-sdk: JSON with bearer tokens; refresh tokens are kept in the database, and rotate."""

from __future__ import annotations

import sys

from benchmarks.adapters.base import NEW_PASSWORD, PASSWORD, UVICORN, Answer, Call, Login, Mail, System

_TOKEN = r"token=([\w-]+)"


class Tempest(System):
    """tempest-fastapi-sdk under uvicorn."""

    name = "tempest-fastapi-sdk"
    requirements = ("tempest-fastapi-sdk[auth,email,postgres,sqlite]", *UVICORN)
    kind = "asgi"
    application = "benchmarks.apps.tempest:app"
    distribution = "tempest-fastapi-sdk"

    def signup(self, email: str) -> Call:
        """Sign up; the mail is sent before the answer."""
        return Call("POST", "/auth/signup", json={"email": email, "password": PASSWORD}, expect=(201,))

    def verify(self, mail: Mail) -> Call:
        """Activate the account by the token in the link, which logs in too."""
        return Call("POST", f"/auth/activate/{mail.find(_TOKEN)}")

    def login(self, email: str, password: str) -> Call:
        """Log in."""
        return Call("POST", "/auth/login", json={"email": email, "password": password})

    def logged_in(self, answer: Answer) -> Login:
        """Read the pair of tokens."""
        tokens = answer.json
        return Login({"Authorization": f"Bearer {tokens['access_token']}"}, tokens["refresh_token"])

    def me(self, login: Login) -> Call:
        """Ask who is logged in."""
        return Call("GET", "/auth/me", headers=login.headers)

    def refresh(self, login: Login) -> Call:
        """Get a new pair of tokens, which ends the old refresh token."""
        return Call("POST", "/auth/refresh", json={"refresh_token": login.refresh})

    def reset_request(self, email: str) -> Call:
        """Ask for a mail; the answer is the same where there is no account."""
        return Call("POST", "/auth/password-reset/request", json={"email": email}, expect=(202,))

    def reset_confirm(self, mail: Mail) -> Call:
        """Set the new password by the token in the link, which logs in too."""
        body = {"token": mail.find(_TOKEN), "new_password": NEW_PASSWORD}
        return Call("POST", "/auth/password-reset/confirm", json=body)

    def login_page(self) -> Call | None:
        """Get its page to log in at, which no version for Python before 3.12 has."""
        return Call("GET", "/login") if sys.version_info >= (3, 12) else None


SYSTEM = Tempest()
