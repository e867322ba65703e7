"""Who asks, and how long the answers take: from the first byte of the request to the last one of the answer."""

from __future__ import annotations

import json
import random
import re
import socket
from html.parser import HTMLParser
from time import perf_counter_ns
from urllib.parse import urlencode

PATHS = {
    "login": "/auth/login",
    "reset": "/auth/password-reset/request",
    "signup": "/auth/signup",
    "resend": "/auth/verify/resend",
}
#: What an answer must be: in JSON, in HTML, and over the limit.
_STATUSES = {"login": (401, 422), "reset": (202, 303), "signup": (202, 303), "resend": (202, 303)}
_ACCEPT = {"json": "application/json", "html": "text/html"}
_WRONG_PASSWORD = "the wrong horse battery"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class _Token(HTMLParser):
    """The token of the form of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.value = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "input" and given.get("name") == "csrf_token":
            self.value = given.get("value") or ""


class Line:
    """One connection that is kept open, with the cookie and the token of a browser where it is one."""

    def __init__(self, port: int, endpoint: str, format: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._host = f"127.0.0.1:{port}"
        self._endpoint, self._format = endpoint, format
        self._cookie = self._token = ""
        if format == "html":
            self._open_page()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def ask(self, email: str, *, leaks: bool, limited: bool = False) -> int:
        """Return in how many nanoseconds it was answered.

        Raises :exc:`RuntimeError` for another answer than usual, and :exc:`TimeoutError` for none in a minute.
        """
        request = self._post(email, leaks=leaks)
        status, nanoseconds, answer = self._exchange(request)
        usual = 429 if limited else _STATUSES[self._endpoint][self._format == "html"]
        if status != usual:
            raise RuntimeError(f"{status} instead of {usual}: {answer[-500:].decode()}")
        return nanoseconds

    def look(self) -> int:
        """Return in how many nanoseconds an address was answered that has nothing to do with accounts."""
        return self._exchange(self._get("/healthz"))[1]

    def _open_page(self) -> None:
        _, _, answer = self._exchange(self._get(PATHS[self._endpoint]))
        head, _, page = answer.decode().partition("\r\n\r\n")
        found = re.search(r"\r\nset-cookie: ([^;]*)", head, re.IGNORECASE)
        self._cookie = f"Cookie: {found[1]}\r\n" if found is not None else ""
        self._token = _Token(page).value

    def _get(self, path: str) -> bytes:
        head = f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\nAccept: {_ACCEPT[self._format]}\r\n\r\n"
        return head.encode()

    def _post(self, email: str, *, leaks: bool) -> bytes:
        fields = {"email": email}
        if self._endpoint in {"login", "signup"}:
            fields["password"] = _WRONG_PASSWORD
        if self._format == "html":
            kind, body = "application/x-www-form-urlencoded", urlencode({**fields, "csrf_token": self._token})
        else:
            kind, body = "application/json", json.dumps(fields)
        head = f"POST {PATHS[self._endpoint]} HTTP/1.1\r\nHost: {self._host}\r\nAccept: {_ACCEPT[self._format]}\r\n"
        head += f"X-Leak: {int(leaks)}\r\n{self._cookie}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        return (head + body).encode()

    def _exchange(self, request: bytes) -> tuple[int, int, bytes]:
        begin = perf_counter_ns()
        self._socket.sendall(request)
        answer = self._socket.recv(65536)
        while not _is_whole(answer):
            more = self._socket.recv(65536)
            if not more:
                raise RuntimeError(f"The connection was closed after {answer!r}")
            answer += more
        return int(answer[9:12]), perf_counter_ns() - begin, answer


def _is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return length is not None and len(body) >= int(length[1])


def an_email(dice: random.Random) -> str:
    """Return an address that nobody has, as long as every other."""
    return f"{dice.getrandbits(64):016x}@example.com"
