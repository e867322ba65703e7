"""The mail server of the benchmarks takes, keeps and delays mails."""

from __future__ import annotations

import smtplib
import threading
import time
from collections.abc import Iterator
from email.message import EmailMessage

import pytest

from benchmarks.sink import Sink


@pytest.fixture(scope="module")
def running() -> Iterator[Sink]:
    """One server for all tests here."""
    with Sink() as sink:
        yield sink


@pytest.fixture
def sink(running: Sink) -> Sink:
    """The server, without mails and without a delay."""
    running.clear()
    running.delay = 0
    return running


def send(port: int, to: str, text: str, html: str | None = None) -> None:
    """Send one mail, as an app does."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "site@example.com", to, "Hello"
    message.set_content(text)
    if html is not None:
        message.add_alternative(html, subtype="html")
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        client.send_message(message)


def test_a_mail_is_found_by_its_recipient_with_all_its_text_decoded(sink: Sink) -> None:
    """A long line, an umlaut, a line that is a dot, and both parts come back as they were written."""
    link = "https://www.example.com/" + "x" * 200
    send(sink.port, "ada@example.com", f"Grüße\n.\n{link}\n", f"<a href='{link}'>{link}</a>")
    send(sink.port, "bob@example.com", "another")
    mail = sink.mail_to("ada@example.com")
    assert "Grüße\n.\n" in mail.text
    assert mail.find(r"(https://www\.example\.com/x+)\n") == link
    assert f"<a href='{link}'>" in mail.text
    assert sink.count() == 2


def test_only_mails_after_a_count_are_waited_for(sink: Sink) -> None:
    """An older mail to the same address does not stand for the one that is to come."""
    send(sink.port, "ada@example.com", "first")
    since = sink.count()
    with pytest.raises(TimeoutError, match=r"1 of 1 mails are missing, such as to ada@example\.com"):
        sink.wait_for(["ada@example.com"], since, timeout=0.1)
    send(sink.port, "ada@example.com", "second")
    assert sink.wait_for(["ada@example.com"], since)["ada@example.com"].text.strip() == "second"
    assert [mail.text.strip() for mail in sink.mails_to("ada@example.com")] == ["first", "second"]


def test_a_mail_that_never_came_is_said_to_be_missing(sink: Sink) -> None:
    """There is no mail for an address that got none, also where others got some."""
    send(sink.port, "ada@example.com", "hello")
    with pytest.raises(LookupError):
        sink.mail_to("bob@example.com")


def test_a_delay_may_be_set_while_it_runs_and_holds_up_no_other_mail(sink: Sink) -> None:
    """Four mails at once wait side by side, and the next one after the delay was taken back does not wait."""
    sink.delay = 0.4
    threads = [threading.Thread(target=send, args=(sink.port, f"p{n}@example.com", "slow")) for n in range(4)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begun
    assert 0.4 <= took < 1.6
    assert sink.count() == 4
    sink.delay = 0
    begun = time.monotonic()
    send(sink.port, "p5@example.com", "fast")
    assert time.monotonic() - begun < 0.4


def test_what_was_cleared_is_gone(sink: Sink) -> None:
    """After clearing there are no mails, and counting begins anew."""
    send(sink.port, "ada@example.com", "old")
    sink.mail_to("ada@example.com")
    sink.clear()
    assert sink.count() == 0
    send(sink.port, "bob@example.com", "new")
    assert sink.mails_to("ada@example.com") == []
    assert len(sink.mails_to("bob@example.com")) == 1
