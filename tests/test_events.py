"""Signals and the audit log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

import pytest
from blinker import NamedSignal
from hypothesis import given
from hypothesis import strategies as st

from flask_accountflow import events
from flask_accountflow.tokens import Devices, Links, RefreshTokens

NAMES = ["user_signed_up", "email_verified", "logged_in", "login_failed", "logged_out", "password_reset"]
NAMES += ["sessions_revoked", "refresh_reused", "mail_queued", "mail_sent", "mail_failed"]
NAMES += ["password_changed", "email_change_requested", "email_changed", "email_reverted"]
SENDER = object()


class Receiver:
    """Remembers what it was sent."""

    def __init__(self) -> None:
        self.got: list[tuple[object, dict[str, Any]]] = []

    def __call__(self, sender: object, **payload: Any) -> None:
        self.got.append((sender, payload))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    with events.logged_in.connected_to(one):
        yield one


@pytest.fixture
def audit(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "accountflow.audit")
    return caplog


def lines(audit: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in audit.records if record.name == "accountflow.audit"]


def test_every_signal_is_tried() -> None:
    """The tests below know every signal that there is."""
    assert set(NAMES) == set(events._signals)


@pytest.mark.parametrize("name", NAMES)
def test_every_signal_says_what_it_carries(name: str) -> None:
    """Each event is a signal of its own name whose docstring lists its payload."""
    signal = getattr(events, name)

    assert isinstance(signal, NamedSignal)
    assert signal.name == name
    assert "Payload: ``user_id``" in (signal.__doc__ or "")


def test_a_receiver_gets_sender_and_payload(receiver: Receiver) -> None:
    """send() hands everything on, also what is not logged."""
    events.send("logged_in", SENDER, user_id="42", more=[1])

    assert receiver.got == [(SENDER, {"user_id": "42", "more": [1]})]


def test_receivers_of_another_sender_hear_nothing() -> None:
    """A receiver for one application is not called for another."""
    one = Receiver()

    with events.logged_in.connected_to(one, sender=SENDER):
        events.send("logged_in", object(), user_id="42")

    assert one.got == []


def test_a_muted_signal_is_logged_and_not_sent(receiver: Receiver, audit: pytest.LogCaptureFixture) -> None:
    """blinker's muted() keeps receivers from running."""
    with events.logged_in.muted():
        events.send("logged_in", SENDER, user_id="42")

    assert receiver.got == []
    assert lines(audit) == ["event=logged_in user_id=42"]


def test_F31_a_failing_receiver_is_logged_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """An exception of one receiver is logged with its traceback; the others run and send() returns."""
    before, after = Receiver(), Receiver()

    def fail(sender: object, **payload: Any) -> None:
        raise ZeroDivisionError("of a receiver")

    with (
        events.logged_in.connected_to(before),
        events.logged_in.connected_to(fail),
        events.logged_in.connected_to(after),
    ):
        events.send("logged_in", SENDER, user_id="42")

    assert len(before.got) == len(after.got) == 1
    (record,) = [record for record in caplog.records if record.name == "accountflow.events"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)
    assert "logged_in" in record.getMessage()


def test_F31_a_coroutine_function_is_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    """An async receiver, which nobody would await, is logged as a fault."""

    async def receive(sender: object, **payload: Any) -> None: ...

    with events.logged_in.connected_to(receive):
        events.send("logged_in", SENDER, user_id="42")

    assert "cannot be coroutine functions" in caplog.text


def test_an_unknown_event_is_an_error_of_the_programmer() -> None:
    """A name that is not declared is a KeyError."""
    with pytest.raises(KeyError):
        events.send("loged_in", SENDER)


def test_AUD_01_an_event_is_one_line(audit: pytest.LogCaptureFixture) -> None:
    """The line says what, when, who and from where, in a fixed order."""
    events.send(
        "login_failed",
        SENDER,
        user_agent="Mozilla/5.0 (X11)",
        ip="2001:db8::1",
        address_hash="a" * 64,
        reason="wrong_password",
        user_id=None,
        at=datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc),
    )

    (record,) = audit.records
    assert (record.name, record.levelno) == ("accountflow.audit", logging.INFO)
    assert record.getMessage() == (
        "event=login_failed at=2026-11-21T12:00:00+00:00 user_id=- reason=wrong_password "
        f'address_hash={"a" * 64} ip=2001:db8::1 user_agent="Mozilla/5.0 (X11)"'
    )


@pytest.mark.parametrize(
    "forgery",
    [
        "x\r\nevent=logged_in user_id=1",
        "x\nevent=logged_in",
        "\x1b[2K\x1b[1Aevent=logged_in",
        "\x9b2K",
        "x\x7f",
        "\u2028event=logged_in",
        "\u202egol",
        '" event=logged_in user_id=1 x="',
        "a event=logged_in",
        "\ud800",
        "\0",
        "",
        "-",
    ],
)
def test_AUD_02_no_value_forges_a_line(audit: pytest.LogCaptureFixture, forgery: str) -> None:
    """Line ends, terminal codes and quotes come out escaped, on one line of printable ASCII."""
    events.send("login_failed", SENDER, reason=forgery, user_agent=forgery)

    (line,) = lines(audit)
    assert line.isascii()
    assert line.isprintable()
    assert line.startswith("event=login_failed reason=")
    assert " user_id=" not in unquoted(line)
    assert unquoted(line).count("event=") == 1


def unquoted(line: str) -> str:
    """Return the line without what stands in quotes."""
    kept, quoted, escaped = "", False, False
    for sign in line:
        if sign == '"' and not escaped:
            quoted = not quoted
        elif not quoted:
            kept += sign
        escaped = sign == "\\" and not escaped
    assert not quoted
    return kept


@given(st.text())
def test_AUD_02_any_text_stays_on_its_line(text: str) -> None:
    """A value of any text is printable ASCII, in quotes unless it is plain."""
    shown = events._escaped(text)

    assert shown.isascii()
    assert shown.isprintable()
    assert shown.startswith('"') or not set(shown) & set(' "=')


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("vic@example.com", "<address>"),
        ("<vic@example.com>", "<address>"),
        (Links(["k" * 32]).make("signup", UUID(int=7), datetime(2026, 11, 21, tzinfo=timezone.utc)), "<token>"),
        (RefreshTokens(["k" * 32]).make(UUID(int=7), 7), "<token>"),
        (Devices(["k" * 32]).make("vic@example.com", datetime(2026, 11, 21, tzinfo=timezone.utc)), "<token>"),
    ],
    ids=["address", "bracketed address", "link", "refresh token", "device"],
)
def test_AUD_03_addresses_and_tokens_are_removed(audit: pytest.LogCaptureFixture, secret: str, shown: str) -> None:
    """What a mail server or a visitor says is written without addresses and tokens."""
    events.send("mail_failed", SENDER, reason=f"550 {secret} unknown", user_agent=secret)

    assert lines(audit) == [f'event=mail_failed reason="550 {shown} unknown" user_agent="{shown}"']
    assert events.scrub(f"550 {secret} unknown") == f"550 {shown} unknown"


def test_AUD_03_only_known_members_are_written(audit: pytest.LogCaptureFixture) -> None:
    """Whatever else is in the payload stays out of the log."""
    events.send("logged_in", SENDER, user_id="42", token="canary", account=object(), password="canary")

    assert lines(audit) == ["event=logged_in user_id=42"]


def test_a_line_that_nobody_keeps_is_not_made(audit: pytest.LogCaptureFixture) -> None:
    """Where the audit log is off, nothing is formatted, and signals are sent all the same."""
    told = Receiver()
    asked: list[str] = []

    class Reason:
        def __str__(self) -> str:
            asked.append("asked")
            return "no"

    with events.login_failed.connected_to(told):
        events.send("login_failed", SENDER, reason=Reason())
        with audit.at_level(logging.WARNING, "accountflow.audit"):
            events.send("login_failed", SENDER, reason=Reason())

    assert (len(told.got), asked, len(lines(audit))) == (2, ["asked"], 1)


def test_a_value_is_cut(audit: pytest.LogCaptureFixture) -> None:
    """A header of 100 KB does not fill the log."""
    events.send("logged_in", SENDER, user_agent="x " * 50_000)

    assert len(lines(audit)[0]) < 300


@pytest.mark.parametrize(
    ("reason", "clean"),
    [
        ("550 5.1.1 <ada@example.com>: unknown", "550 5.1.1 <address>: unknown"),
        ("550 ADA@EXAMPLE.COM is unknown", "550 <address> is unknown"),
        ("550 ask postmaster@mx.example", "550 ask <address>"),
        ("554 see https://mx.example/why?id=1 please", "554 see <link> please"),
        ("two\r\nlines\x00 and\u2028three", "two lines and three"),
        ("a" * 254 + " ada@example.com", "a" * 254),
        ("", ""),
    ],
)
def test_scrubbed_reason(reason: str, clean: str) -> None:
    """A reason is one line of at most 255 characters, without addresses and links."""
    assert events.scrub(reason, "ada@example.com") == clean


@pytest.mark.parametrize(
    ("reason", "clean"),
    [
        ("a" * 65_536, "(an answer without end)"),
        ("550 " + "a-" * 32_768, "550"),
        ("550 no " + "x " * 30_000, ("550 no " + "x " * 200)[:255].rstrip()),
        ("y" * 990 + " ada@example.com", "y" * 255),
    ],
)
def test_scrubbed_endless_reason(reason: str, clean: str) -> None:
    """However much a server says, what is looked at is short, and no half of an address or a token is left."""
    start = time.thread_time()

    found = events.scrub(reason, "bob@example.com")

    assert found == clean
    assert time.thread_time() - start < 0.5  # the patterns need 40 s for 64 KB


def test_scrubbed_quoted_address() -> None:
    """The recipient is found whatever its form."""
    assert events.scrub('550 <"a b"@example.com>', '"a b"@example.com') == "550 <address>"
