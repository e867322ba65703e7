"""Passwords that are known from breaches: the question, and what becomes of it when nobody answers."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import HTTPError

import pytest
from support import OTHER_PASSWORD, PASSWORD, Person, Program, Site

from flask_accountflow.breaches import BreachCheck
from flask_accountflow.contrib.pwned import PwnedPasswords

MakeSite = Callable[..., Site]


def digest(password: str) -> str:
    return hashlib.sha1(password.encode()).hexdigest().upper()


# The bound on the question.


@pytest.mark.parametrize(("answer", "found"), [(True, True), (False, False), (1, True), (None, False)])
def test_an_answer_counts(answer: Any, found: bool) -> None:
    """What the app's check says is what comes back."""
    assert BreachCheck(lambda password: answer)("any") is found


def test_PWD_06_a_fault_is_no_breach(caplog: pytest.LogCaptureFixture) -> None:
    """A check that fails refuses nobody, and is logged without the password."""

    def ask(password: str) -> bool:
        raise OSError(f"no route for {password}")

    assert BreachCheck(ask)("a secret horse") is False
    assert "OSError" in caplog.text
    assert "horse" not in caplog.text


def test_PWD_06_silence_is_no_breach(caplog: pytest.LogCaptureFixture) -> None:
    """A check that hangs is waited for as long as a person would wait, and then refuses nobody."""
    go_on = threading.Event()

    found = BreachCheck(lambda password: go_on.wait(30), patience=0.05)("any")
    go_on.set()

    assert found is False
    assert "has not answered within 0.05 s" in caplog.text


def test_PWD_06_questions_that_hang_do_not_pile_up(caplog: pytest.LogCaptureFixture) -> None:
    """While eight questions hang, no ninth is asked; when they have come back, others are."""
    go_on, asked = threading.Event(), []

    def ask(password: str) -> bool:
        asked.append(password)
        return go_on.wait(30)

    check = BreachCheck(ask, patience=0.01)
    for number in range(10):
        check(str(number))
    hung = list(asked)
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "accountflow-breaches":
            thread.join(10)

    assert hung == [str(number) for number in range(8)]
    assert "left out: 8 earlier ones" in caplog.text
    assert BreachCheck(ask, patience=10)("more") is True
    assert check("again") is True


# Pwned Passwords.


@contextmanager
def mirror(answer: Callable[[str], tuple[int, str]]) -> Iterator[tuple[str, list[Any]]]:
    """Run a service that answers the range of a digest; yield its address and the requests it got."""
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers))
            status, text = answer(self.path.rpartition("/")[2])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/range/", seen
        finally:
            server.shutdown()
            thread.join(10)


def rows_for(password: str, count: int) -> str:
    """Return an answer as the service gives it, padding included."""
    return f"{'0' * 34}1:3\r\n{digest(password)[5:]}:{count}\r\n{'F' * 35}:0\r\n"


@pytest.mark.parametrize(
    ("count", "least", "found"), [(1, 1, True), (0, 1, False), (99, 100, False), (100, 100, True), (12345678, 1, True)]
)
def test_a_password_is_as_bad_as_it_was_often(count: int, least: int, found: bool) -> None:
    """A password is refused when it was seen as often as the app minds; padding counts nothing."""
    with mirror(lambda start: (200, rows_for(PASSWORD, count))) as (url, _):
        assert PwnedPasswords(url, least=least)(PASSWORD) is found


def test_another_password_of_the_range_is_none() -> None:
    """That other passwords begin alike says nothing about this one."""
    with mirror(lambda start: (200, rows_for(OTHER_PASSWORD, 7))) as (url, _):
        assert PwnedPasswords(url)(PASSWORD) is False


def test_PWD_06_the_service_learns_five_digits() -> None:
    """The service sees the beginning of a digest, and neither the rest nor the password."""
    with mirror(lambda start: (200, rows_for(PASSWORD, 1))) as (url, seen):
        PwnedPasswords(url)(PASSWORD)

    [(path, headers)] = seen
    assert path == f"/range/{digest(PASSWORD)[:5]}"
    assert headers["Add-Padding"] == "true"
    assert not [value for value in headers.values() if "horse" in value or digest(PASSWORD)[5:] in value]


@pytest.mark.parametrize("text", ["<html>blocked</html>", "no colon", ":::", "é", "A" * 35 + ":many"])
def test_PWD_06_an_odd_answer_is_no_breach(text: str) -> None:
    """Whatever a proxy answers in the place of the service, nobody is refused for it."""
    with mirror(lambda start: (200, text)) as (url, _):
        assert BreachCheck(PwnedPasswords(url))(PASSWORD) is False


@pytest.mark.parametrize("status", [404, 429, 503])
def test_PWD_06_a_refusal_is_no_breach(status: int) -> None:
    """A service that refuses raises, and so refuses nobody."""
    with mirror(lambda start: (status, "")) as (url, _):
        with pytest.raises(HTTPError) as raised:
            PwnedPasswords(url)(PASSWORD)
        raised.value.close()
        assert BreachCheck(PwnedPasswords(url))(PASSWORD) is False


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.com/", "example.com/range/", ""])
def test_only_the_web_is_asked(url: str) -> None:
    """An address of another kind is a mistake of the configuration."""
    with pytest.raises(ValueError, match="https://"):
        PwnedPasswords(url)


# On the site.


@pytest.fixture(params=["program", "person"])
def kind(request: pytest.FixtureRequest) -> str:
    """A program by JSON, and a person by forms."""
    return str(request.param)


def visitor_of(site: Site, kind: str) -> Program | Person:
    visitor: Program | Person = getattr(site, kind)()
    return visitor


def test_PWD_06_a_breached_password_is_refused(make_site: MakeSite, kind: str) -> None:
    """At sign-up and at a reset a password from a breach is refused with the reason; the link stays good."""
    asked: list[str] = []

    def check(password: str) -> bool:
        asked.append(password)
        return password == OTHER_PASSWORD

    site = make_site(breach_check=check)
    site.member("vic@example.com")
    asked.clear()
    visitor = visitor_of(site, kind)
    refused = visitor.signup("una@example.com", OTHER_PASSWORD)
    visitor.request_reset(email="vic@example.com")
    also = visitor.reset(site.last_link, OTHER_PASSWORD)
    again = visitor.reset(site.last_link, "a third horse's battery")

    assert [answer.status_code for answer in (refused, also)] == [422, 422]
    assert [("breach" in answer.text) for answer in (refused, also)] == [True, True]
    assert again.status_code in {200, 303}
    assert asked == [OTHER_PASSWORD, OTHER_PASSWORD, "a third horse's battery"]
    assert {letter.to for letter in site.letters} == {"vic@example.com"}


def test_PWD_06_a_breach_is_asked_for_last(make_site: MakeSite, kind: str) -> None:
    """A password that our own rules refuse is not asked about, and neither is one that somebody has."""
    asked: list[str] = []
    site = make_site(breach_check=lambda password: bool(asked.append(password)))
    site.member("vic@example.com")
    asked.clear()
    visitor = visitor_of(site, kind)

    visitor.signup("una@example.com", "short")
    visitor.signup("una@example.com", "passwordpassword")
    visitor.login("vic@example.com")

    assert asked == []


def test_PWD_06_nobody_is_kept_out_by_a_dead_service(make_site: MakeSite, kind: str) -> None:
    """While the service is away people sign up as ever."""
    site = make_site(breach_check=PwnedPasswords("http://127.0.0.1:9/range/"))

    answer = visitor_of(site, kind).signup("una@example.com")

    assert answer.status_code in {202, 303}
    assert [letter.to for letter in site.letters] == ["una@example.com"]
