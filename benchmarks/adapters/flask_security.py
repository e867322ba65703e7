"""Flask-Security-Too, with SQLAlchemy, for JSON clients that send a token in a header."""

from __future__ import annotations

from benchmarks.adapters.base import GUNICORN, NEW_PASSWORD, PASSWORD, Answer, Call, Login, Mail, System


class FlaskSecurity(System):
    """Confirms by opening the link, as browsers do; all else is JSON. Each login and each refresh stores a row."""

    name = "Flask-Security"
    requirements = ("Flask-Security-Too[common,fsqla]", "psycopg2-binary", *GUNICORN)
    application = "benchmarks.apps.flask_security:create_app()"
    distribution = "Flask-Security-Too"

    def signup(self, email: str) -> Call:
        """Sign up; the password is asked for twice."""
        body = {"email": email, "password": PASSWORD, "password_confirm": PASSWORD}
        return Call("POST", "/register", json=body)

    def verify(self, mail: Mail) -> Call:
        """Open the link of the mail. A dead one is answered 302 too, and only a login tells them apart."""
        return Call("GET", mail.find(r"(/confirm/[\w.-]+)"), expect=(302,))

    def login(self, email: str, password: str) -> Call:
        """Log in, and ask for tokens."""
        return Call("POST", "/login?include_auth_token", json={"email": email, "password": password})

    def logged_in(self, answer: Answer) -> Login:
        """Read both tokens."""
        user = answer.json["response"]["user"]
        return Login({"Authentication-Token": user["authentication_token"]}, user["refresh_token"])

    def me(self, login: Login) -> Call:
        """Ask a view of the app, because Flask-Security has none for that."""
        return Call("GET", "/me", headers={"Accept": "application/json", **login.headers})

    def refresh(self, login: Login) -> Call:
        """Turn the refresh token into new tokens."""
        return Call("POST", "/refresh-token", json={"refresh_token": login.refresh})

    def reset_request(self, email: str) -> Call:
        """Ask for a mail to set a new password."""
        return Call("POST", "/reset", json={"email": email})

    def reset_confirm(self, mail: Mail) -> Call:
        """Set a new password, which is asked for twice; a notice is sent of it."""
        body = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
        return Call("POST", mail.find(r"(/reset/[\w.-]+)"), json=body)

    def login_page(self) -> Call:
        """Get the page to log in at."""
        return Call("GET", "/login")


SYSTEM = FlaskSecurity()
