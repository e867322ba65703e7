"""Visitors of a real server, and volleys of requests that meet in it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPConnection, HTTPMessage
from http.cookies import SimpleCookie
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from live_server import PATIENCE, AppServer
from support import PASSWORD, Person, Program

T = TypeVar("T")

JSON = {"Accept": "application/json", "Content-Type": "application/json"}

#: A part of a volley: it prepares itself, calls what it is given, and goes on together with all others.
Shot = Callable[[Callable[[], Any]], T]


@dataclass(frozen=True)
class Asked:
    """What was asked."""

    path: str


@dataclass(frozen=True)
class Answer:
    """What a server answered, with the names that the test client of Flask has for it."""

    status_code: int
    headers: HTTPMessage
    data: bytes
    request: Asked

    @cached_property
    def text(self) -> str:
        """The body as text."""
        return self.data.decode()

    @cached_property
    def json(self) -> Any:
        """The body as JSON, or None when there is none."""
        return json.loads(self.data) if self.data else None


class HttpClient:
    """Does over TCP what the test client of Flask does in the process."""

    def __init__(self, server: AppServer, *, use_cookies: bool) -> None:
        self._server = server
        self._use_cookies = use_cookies
        self.cookies: dict[str, str] = {}

    def get(self, path: str, headers: Mapping[str, str]) -> Answer:
        """Open an address."""
        return self._ask("GET", path, None, headers)

    def post(self, path: str, headers: Mapping[str, str], json: Any = None, data: Any = None) -> Answer:
        """Send JSON or a form."""
        if data is not None:
            body, kind = urlencode(data), "application/x-www-form-urlencoded"
        else:
            body, kind = _json(json), "application/json"
        return self._ask("POST", path, body.encode(), {**headers, "Content-Type": kind})

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        parts = urlsplit(path)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        sent = {**headers, "Connection": "close"}
        if self._use_cookies and self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection = HTTPConnection("127.0.0.1", self._server.port, timeout=PATIENCE)
        try:
            connection.request(method, target, body, sent)
            answer = _read(connection, parts.path)
        finally:
            connection.close()
        for line in answer.headers.get_all("Set-Cookie", ()):
            self._keep(SimpleCookie(line))
        return answer

    def _keep(self, cookies: SimpleCookie) -> None:
        for name, morsel in cookies.items():
            self.cookies.pop(name, None)
            if morsel["max-age"] != "0":
                self.cookies[name] = morsel.coded_value


def _json(value: Any) -> str:
    return json.dumps({} if value is None else value)


def _read(connection: HTTPConnection, path: str) -> Answer:
    response = connection.getresponse()
    return Answer(response.status, response.headers, response.read(), Asked(path))


class LiveProgram(Program):
    """A JSON client of a real server."""

    def __init__(self, server: AppServer) -> None:
        self.client: Any = HttpClient(server, use_cookies=False)


class LivePerson(Person):
    """A browser without JavaScript, at a real server."""

    def __init__(self, server: AppServer) -> None:
        self.client: Any = HttpClient(server, use_cookies=True)


def sign_up(server: AppServer, email: str, password: str = PASSWORD) -> str:
    """Sign up and return the path of the link that was mailed."""
    answer = LiveProgram(server).signup(email, password)
    assert answer.status_code == 202, answer.text
    return urlsplit(server.mail.link(email, "verify")).path


def join(server: AppServer, email: str, password: str = PASSWORD) -> None:
    """Sign up and confirm the address."""
    answer = LiveProgram(server).verify(sign_up(server, email, password))
    assert answer.status_code == 200, answer.text


def ask_for_reset(server: AppServer, email: str) -> str:
    """Ask for a reset link and return its path."""
    answer = LiveProgram(server).request_reset(email=email)
    assert answer.status_code == 202, answer.text
    return urlsplit(server.mail.link(email, "password-reset")).path


def posting(
    server: AppServer, path: str, data: Mapping[str, Any], *, method: str = "POST", token: str | None = None
) -> Shot[Answer]:
    """Return a shot that posts JSON, perhaps with an access token. When the volley begins, all but a byte is sent."""

    def shoot(go: Callable[[], Any]) -> Answer:
        body = _json(data).encode()
        connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        try:
            connection.putrequest(method, path)
            shown = {} if token is None else {"Authorization": f"Bearer {token}"}
            for name, value in {**JSON, **shown, "Content-Length": str(len(body)), "Connection": "close"}.items():
                connection.putheader(name, value)
            connection.endheaders(body[:-1])
            go()
            connection.send(body[-1:])
            return _read(connection, path)
        finally:
            connection.close()

    return shoot


def volley(shots: Sequence[Shot[T]]) -> list[T]:
    """Run all shots at once and return what each returned."""
    barrier = threading.Barrier(len(shots), timeout=PATIENCE)
    with ThreadPoolExecutor(len(shots)) as pool:
        running = [pool.submit(shot, barrier.wait) for shot in shots]
        return [one.result() for one in running]
