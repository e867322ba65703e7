"""What the harness must know of a system: how it is started, and how a program speaks with it.

An adapter is a module that has ``SYSTEM``, an instance of a subclass of :class:`System`. It runs in the environment of
the harness and imports nothing of the system; the app that it names runs in an environment of its own.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: What a person types. Twelve code points and more, letters and digits: every system takes it.
PASSWORD = "correct-horse-7-battery"
NEW_PASSWORD = "another-horse-8-battery"

#: The servers, each with its parser of HTTP in C.
GUNICORN = ("gunicorn", "gunicorn_h1c")
UVICORN = ("uvicorn[standard]",)


@dataclass(frozen=True)
class Conditions:
    """Under which conditions an app is started; it reads them by :func:`conditions`."""

    #: As SQLAlchemy writes it: ``sqlite:////path`` or ``postgresql://…`` without the name of a driver.
    database: str
    smtp_port: int
    #: Where the app is reached: ``http://127.0.0.1:8000``.
    base_url: str
    #: The cost of bcrypt: 4 shows what surrounds a hash, 12 is what people run.
    rounds: int = 4

    def environment(self) -> dict[str, str]:
        """Return the variables that carry these conditions to the app."""
        return {
            "BENCH_DATABASE": self.database,
            "BENCH_SMTP_PORT": str(self.smtp_port),
            "BENCH_BASE_URL": self.base_url,
            "BENCH_ROUNDS": str(self.rounds),
        }


def conditions() -> Conditions:
    """Return the conditions that this process was started under. Raises :exc:`KeyError` where there are none."""
    environ = os.environ
    return Conditions(
        environ["BENCH_DATABASE"],
        int(environ["BENCH_SMTP_PORT"]),
        environ["BENCH_BASE_URL"],
        int(environ["BENCH_ROUNDS"]),
    )


@dataclass(frozen=True)
class Call:
    """One request, and which statuses are a success. ``json`` or ``form`` is its body, if any."""

    method: str
    path: str
    json: Mapping[str, Any] | None = None
    form: Mapping[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    expect: Sequence[int] = (200,)


@dataclass(frozen=True)
class Answer:
    """What was answered. The names of headers are in lower case; ``cookies`` are those that it set."""

    status: int
    headers: Mapping[str, str]
    cookies: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON. Raises :exc:`ValueError` when it is none."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Mail:
    """What the sink took for one address: the text of the mail, decoded, with each part after the other."""

    to: str
    text: str

    def find(self, pattern: str) -> str:
        """Return the first group of ``pattern`` in the text. Raises :exc:`LookupError` when it is not there."""
        found = re.search(pattern, self.text)
        if found is None:
            raise LookupError(f"nothing in the mail is like {pattern}:\n{self.text}")
        return found[1]


@dataclass(frozen=True)
class Login:
    """Who is logged in: the headers that say so, and what a refresh takes."""

    headers: Mapping[str, str]
    refresh: str = ""


class System:
    """One way to have accounts. Its methods say which request a flow is; the harness sends it and checks the answer."""

    #: As the tables name it.
    name: str
    #: What pip installs in an environment of its own; nothing means the environment of the harness.
    requirements: Sequence[str] = ()
    #: ``wsgi`` (gunicorn, 2 processes of 8 threads) or ``asgi`` (uvicorn, 2 processes).
    kind: str = "wsgi"
    #: What the server loads, such as ``benchmarks.apps.accountflow:create_app()``. Its module, run by ``python -m``,
    #: makes the tables.
    application: str
    #: The distribution whose version the tables name.
    distribution: str

    def signup(self, email: str) -> Call:
        """Sign up with :data:`PASSWORD`; the answer does not wait for the address to be confirmed."""
        raise NotImplementedError

    def verify(self, mail: Mail) -> Call:
        """Confirm the address by the mail of a sign-up."""
        raise NotImplementedError

    def login(self, email: str, password: str) -> Call:
        """Log in, as a program does."""
        raise NotImplementedError

    def logged_in(self, answer: Answer) -> Login:
        """Read the answer to a login, or to a refresh."""
        raise NotImplementedError

    def me(self, login: Login) -> Call:
        """Ask who is logged in; the answer has the address."""
        raise NotImplementedError

    def refresh(self, login: Login) -> Call | None:
        """Get new tokens, where the system has that."""
        return None

    def reset_request(self, email: str) -> Call:
        """Ask for a mail to set a new password."""
        raise NotImplementedError

    def reset_confirm(self, mail: Mail) -> Call:
        """Set :data:`NEW_PASSWORD` by that mail."""
        raise NotImplementedError

    def login_page(self) -> Call | None:
        """Get the page to log in at, where the system has pages."""
        return None
