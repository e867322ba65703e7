"""fastapi-users: JSON, except the login, which is an OAuth2 form; a token lives until it ends and is not refreshed."""

from __future__ import annotations

from benchmarks.adapters.base import NEW_PASSWORD, PASSWORD, UVICORN, Answer, Call, Login, Mail, System

_TOKEN = r"token=([\w.-]+)"


class FastAPIUsers(System):
    """fastapi-users under uvicorn."""

    name = "fastapi-users"
    requirements = (
        "fastapi-users[sqlalchemy]",
        "aiosmtplib",
        "aiosqlite",
        "jinja2",
        "asyncpg",
        *UVICORN,
    )
    kind = "asgi"
    application = "benchmarks.apps.fastapi_users:app"
    distribution = "fastapi-users"

    def signup(self, email: str) -> Call:
        """Sign up; the mail is sent before the answer."""
        return Call("POST", "/auth/register", json={"email": email, "password": PASSWORD}, expect=(201,))

    def verify(self, mail: Mail) -> Call:
        """Confirm the address by the token in the link."""
        return Call("POST", "/auth/verify", json={"token": mail.find(_TOKEN)})

    def login(self, email: str, password: str) -> Call:
        """Log in by the form of OAuth2."""
        return Call("POST", "/auth/login", form={"username": email, "password": password})

    def logged_in(self, answer: Answer) -> Login:
        """Read the access token, the only one there is."""
        return Login({"Authorization": f"Bearer {answer.json['access_token']}"})

    def me(self, login: Login) -> Call:
        """Ask who is logged in."""
        return Call("GET", "/users/me", headers=login.headers)

    def reset_request(self, email: str) -> Call:
        """Ask for a mail; the answer is the same where there is no account."""
        return Call("POST", "/auth/forgot-password", json={"email": email}, expect=(202,))

    def reset_confirm(self, mail: Mail) -> Call:
        """Set the new password by the token in the link."""
        return Call("POST", "/auth/reset-password", json={"token": mail.find(_TOKEN), "password": NEW_PASSWORD})


SYSTEM = FastAPIUsers()
