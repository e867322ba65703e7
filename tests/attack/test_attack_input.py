"""Attacks by bodies and addresses that nobody sends by accident."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

import pytest
from attack.attacker import FORM, HTML, JSON, PASSWORD, PATIENCE, Browser, Program, Site, join, raw, some_email, timed

pytestmark = pytest.mark.slow

ROUTES = [
    "/auth/signup",
    "/auth/login",
    "/auth/refresh",
    "/auth/logout",
    "/auth/verify",
    "/auth/verify/resend",
    "/auth/verify/x",
    "/auth/password-reset/request",
    "/auth/password-reset/confirm",
    "/auth/password-reset/x",
    "/auth/email/confirm/x",
    "/auth/email/revert/x",
]

BODIES: dict[str, bytes] = {
    "empty-object": b"{",
    "text": b'"email"',
    "number": b"1",
    "list": b"[]",
    "null": b"null",
    "not-a-number": b'{"email": NaN, "password": Infinity}',
    "long-number": b'{"email": ' + b"9" * 5000 + b"}",
    "deep-lists": b"[" * 20_000,
    "deep-objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "deep-inside": b'{"email": ' + b"[" * 15_000 + b"]" * 15_000 + b"}",
    "not-utf-8": b'{"email": "\xff\xfe"}',
    "utf-16": json.dumps({"email": "a@example.com"}).encode("utf-16"),
    "bom": b"\xef\xbb\xbf" + b'{"email": "a@example.com", "password": "x"}',
    "overlong": b'{"email": "\xc0\xaf@example.com"}',
    "twice": b'{"email": "a@example.com", "email": "b@example.com"}',
    "trailing": b'{"email": "a@example.com"} {"email": "b@example.com"}',
    "comment": b'{/* */"email": "a@example.com"}',
    "control": b'{"email": "a\n@example.com"}',
}


@pytest.mark.parametrize("kind", BODIES)
def test_INP_02_INP_03_INP_04_what_is_no_json_is_refused(site: Site, kind: str) -> None:
    """A body that is not one object of JSON in UTF-8 is refused as such, on every route, and breaks nothing."""
    for path in ROUTES:
        answer = Program(site).post(path, BODIES[kind])
        assert answer.status in {400, 413}, path
        assert answer.headers["Content-Type"].startswith("application/problem+json"), path


VALUES: list[Any] = [
    "\x00",
    "\ud800",
    "\u202e",
    "\ufeff",
    "a" * 60_000,
    [],
    {},
    True,
    1e308,
    -1,
    "' OR 1=1 --",
    "%s%n",
    "${jndi:x}",
    "../../etc/passwd",
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_INP_05_odd_values_are_refused_like_others(site: Site, value: Any) -> None:
    """No value of any field makes a fault, on any route."""
    for path in ROUTES:
        for name in ("email", "password", "token", "refresh_token", "next", "name", "remember", "transport", "discard"):
            data = {"email": some_email(), "password": PASSWORD, name: value}
            assert Program(site).post(path, data).status < 500, (path, name)


def _head(kind: str, length: str) -> bytes:
    lines = ["POST /auth/login HTTP/1.1", "Host: x", f"Content-Type: {kind}", f"Accept: {JSON}", "Connection: close"]
    return "\r\n".join([*lines, length, "", ""]).encode()


@pytest.mark.parametrize("kind", [JSON, FORM])
def test_INP_01_a_huge_body_is_refused_unread(site: Site, kind: str) -> None:
    """A body of a gigabyte is refused by its length, before anything of it is sent."""
    head = _head(kind, "Content-Length: 1000000000")

    started = time.monotonic()
    answer = raw(site, head + b"{")

    assert answer.status == 413
    assert time.monotonic() - started < 5


def test_INP_01_a_body_without_a_length_is_bounded(site: Site) -> None:
    """A body in chunks, whose length nobody told, is refused when it is too long."""
    head = _head(JSON, "Transfer-Encoding: chunked")
    chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"

    assert raw(site, head + chunk * 40 + b"0\r\n\r\n").status == 413


SMUGGLED = {
    "both": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    "two-lengths": b"Content-Length: 2\r\nContent-Length: 40\r\n",
    "odd-length": b"Content-Length: +2\r\n",
    "odd-coding": b"Transfer-Encoding: xchunked\r\n",
}


@pytest.mark.parametrize("kind", SMUGGLED)
def test_INP_01_no_request_hides_in_another(site: Site, kind: str) -> None:
    """A request whose length can be read in two ways carries no second request along."""
    email = join(site)
    hidden = b"0\r\n\r\nGET /secret HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + SMUGGLED[kind] + b"\r\n"

    with socket.create_connection(("127.0.0.1", site.port), timeout=5) as connection:
        connection.sendall(head + hidden)
        connection.shutdown(socket.SHUT_WR)
        answered = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answered.count(b"HTTP/1.1 ") <= 1
    assert Program(site).login(email).status == 200


def test_INP_01_slow_bodies_keep_nobody_waiting(site: Site) -> None:
    """While seven visitors send their bodies a byte at a time, others are served at once."""
    stop = threading.Event()
    # One less than what a process has threads: who sends more of these fills a server that has no proxy before it.
    threads = [threading.Thread(target=_drip, args=(site, stop)) for _ in range(7)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.5)
        waits = [timed(lambda: Program(site).get("/healthz")) for _ in range(5)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert sorted(waits)[2] < 2


def _drip(site: Site, stop: threading.Event) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as connection:
        connection.sendall(
            b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 600\r\n\r\n"
        )
        while not stop.wait(0.2):
            connection.sendall(b" ")


@pytest.mark.parametrize("parts", [2000, 1])
def test_INP_08_forms_in_parts_are_bounded(site: Site, parts: int) -> None:
    """A form of very many parts, or of one long one, is refused."""
    size = 10 if parts > 1 else 200_000
    body = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n%s\r\n' % (number, b"a" * size)
        for number in range(parts)
    )

    answer = Browser(site).ask(
        "POST", "/auth/login", body + b"--x--\r\n", {"Accept": HTML, "Content-Type": "multipart/form-data; boundary=x"}
    )

    assert answer.status in {400, 403, 413}


def test_INP_08_a_file_is_no_field(site: Site) -> None:
    """A file in the place of a field is not read as one."""
    body = b'--x\r\nContent-Disposition: form-data; name="email"; filename="a"\r\n\r\na@example.com\r\n--x--\r\n'

    answer = Browser(site).ask(
        "POST", "/auth/login", body, {"Accept": HTML, "Content-Type": "multipart/form-data; boundary=x"}
    )

    assert answer.status in {400, 403, 422}


NEAR_MISSES = [
    "a" * 60_000,
    "a@" * 20_000,
    "@" * 50_000,
    "a." * 30_000 + "@x",
    "a@" + "b." * 30_000,
    "\u0301" * 30_000,
    "[" * 50_000,
    '"' * 50_000 + "@x.y",
]


@pytest.mark.parametrize("text", NEAR_MISSES, ids=range(len(NEAR_MISSES)))
def test_INP_09_no_text_takes_long_to_be_refused(site: Site, text: str) -> None:
    """Long texts that are nearly an address are refused at once."""
    answers = []
    seconds = timed(
        lambda: answers.append(
            Program(site).post("/auth/password-reset/request", json.dumps({"email": text}, ensure_ascii=False).encode())
        )
    )

    assert answers[0].status in {413, 422}
    assert seconds < 2


SQL = [
    "'",
    "''",
    "' OR '1'='1",
    "1; DROP TABLE users --",
    "x' UNION SELECT 1 --",
    "\\",
    '"',
    "`",
    "x'||pg_sleep(5)||'",
    "%' --",
]


@pytest.mark.parametrize("text", SQL, ids=range(len(SQL)))
def test_INP_11_no_text_is_read_as_sql(site: Site, text: str) -> None:
    """Signs that mean something to a database are text everywhere, take no time, and change nothing."""
    email = join(site)
    program = Program(site)

    def attack() -> None:
        assert program.login(email, text).status == 401
        assert program.login(f"{text}@example.com", text).status in {401, 422}
        assert program.refresh(text).status == 401
        assert program.post("/auth/verify", {"token": text}).status == 400
        assert program.signup(some_email(), name=text, next=text).status == 202
        assert program.get("/auth/sessions", text.encode().hex()).status == 401

    assert timed(attack) < 4
    assert program.login(email).status == 200


PATHS = [
    "%2f",
    "..%2f..%2f",
    "%00",
    "%ff",
    "a/b",
    "..",
    "%2e%2e%2f",
    ";x",
    "%0d%0a",
    "a" * 7000,
    "%c0%ae",
    "?x",
    "//",
    "*",
    "{token}",
]


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_INP_12_no_path_leads_anywhere_else(site: Site, path: str) -> None:
    """Whatever follows a route in the address, it is refused, finds no file, and breaks nothing."""
    bases = ("verify/", "password-reset/", "email/confirm/", "email/revert/", "sessions/", "static/")
    for base in (*(f"/auth/{one}" for one in bases), "/static/"):
        for method in ("GET", "POST", "DELETE"):
            answer = Program(site).ask(method, base + path, b"", {"Accept": JSON})
            assert 300 <= answer.status < 500, base
            assert "root:" not in answer.text
