"""Letters and their MIME form."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_accountflow.mail.letter import Letter, message_bytes, render_message

LINK = "https://shop.example/auth/verify/" + "a.b-_" * 16 + "abc"


def letter(**values: Any) -> Letter:
    """Return a letter."""
    return Letter(
        **{
            "to": "ada@example.com",
            "subject": "Confirm your email for Shop",
            "text": f"Hello,\n\n{LINK}\n\nIt works once.\n",
            "html": f'<p>Hello, <a href="{LINK}">Confirm email</a></p>',
            "message_id": "0123456789abcdef@shop.example",
            "sender": "hello@shop.example",
            "sender_name": "Shop",
            "date": datetime(2026, 3, 29, 0, 59, 30, tzinfo=timezone.utc),
            "language": "en",
            "template": "verify",
            "link": LINK,
            **values,
        }
    )


def sent(one: Letter) -> EmailMessage:
    """Return what a recipient's program reads."""
    return message_from_bytes(message_bytes(one), policy=policy.default)  # type: ignore[return-value]


def bodies(message: EmailMessage) -> list[tuple[str, str]]:
    return [(part.get_content_type(), part.get_content().replace("\r\n", "\n")) for part in message.iter_parts()]


def test_two_parts() -> None:
    """A letter is one text and one HTML part, in that order, with nothing around them."""
    one = letter()

    message = sent(one)

    assert message.get_content_type() == "multipart/alternative"
    assert bodies(message) == [("text/plain", one.text), ("text/html", one.html + "\n")]


def test_headers() -> None:
    """The headers say who wrote it, that a machine did, and which mail it is."""
    message = sent(letter(reply_to="help@shop.example"))

    assert dict(message.items()) | {"Content-Type": None} == {
        "From": "Shop <hello@shop.example>",
        "To": "ada@example.com",
        "Reply-To": "help@shop.example",
        "Subject": "Confirm your email for Shop",
        "Date": "Sun, 29 Mar 2026 00:59:30 +0000",
        "Message-ID": "<0123456789abcdef@shop.example>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
        "X-Entity-Ref-ID": "0123456789abcdef@shop.example",
        "Content-Language": "en",
        "MIME-Version": "1.0",
        "Content-Type": None,
    }


def test_no_reply_to() -> None:
    """Without a mailbox for replies there is no such header."""
    assert sent(letter())["Reply-To"] is None


@pytest.mark.parametrize("name", ["Ädas Käsehaus", 'Shop, "the" <best>', "店", "x" * 120])
def test_sender_name(name: str) -> None:
    """Any name of a site arrives, and never changes the address."""
    message = sent(letter(sender_name=name))

    [address] = message["From"].addresses
    assert (address.display_name, address.addr_spec) == (name, "hello@shop.example")


@pytest.mark.parametrize("to", ['"a b"@example.com', "o'hara+x@example.com", "a@xn--bcher-kva.example"])
def test_recipient(to: str) -> None:
    """Any valid address arrives as it is stored."""
    message = sent(letter(to=to))

    [address] = message["To"].addresses
    assert address.addr_spec == to


@given(st.from_regex(r"[a-z0-9_+-]{1,40}(\.[A-Z0-9]{1,9}){0,3}@[a-z0-9]{1,30}(\.[a-z0-9-]{1,9}){1,3}", fullmatch=True))
def test_recipient_as_python_writes_it(to: str) -> None:
    """What is not left to Python's own writer of headers is the same to the byte, however long the address is."""
    headers = message_bytes(letter(to=to, message_id=f"0123@{to.partition('@')[2]}")).partition(b"\r\n\r\n")[0]

    message = EmailMessage(policy=policy.SMTP)
    message["To"], message["Message-ID"] = to, f"<0123@{to.partition('@')[2]}>"
    expected = [line for name in ("To", "Message-ID") for line in _lines(bytes(message), name)]

    assert [line for name in ("To", "Message-ID") for line in _lines(headers, name)] == expected


def _lines(headers: bytes, name: str) -> list[bytes]:
    """Return the lines of one header."""
    folded = re.search(rb"(?m)^" + name.encode() + rb":.*(?:\r\n[ \t].*)*", headers)
    assert folded is not None
    return folded[0].strip().split(b"\r\n")


def test_other_languages() -> None:
    """Subject and text arrive in any script."""
    one = letter(subject="Подтвердите адрес – Käse" * 4, text="Grüße – 你好\n" * 9, html="<p>Grüße – 你好</p>\n")

    message = sent(one)

    assert message["Subject"] == one.subject
    assert bodies(message) == [("text/plain", one.text), ("text/html", one.html)]


@pytest.mark.parametrize("text", ["Bye.", "Tschüß!", "再见" * 300, "long line " * 200])
def test_lines_on_the_wire(text: str) -> None:
    """No line is longer than mail servers take, everything is ASCII, and the link arrives whole."""
    one = letter(text=f"{LINK}\n{text}\n", html=f"<p>{LINK}</p>{text}")

    wire = message_bytes(one)

    assert max(len(line) for line in wire.split(b"\r\n")) <= 998
    assert wire.isascii()
    assert wire.count(b"\r") == wire.count(b"\n") == wire.count(b"\r\n")
    assert LINK in bodies(sent(one))[0][1].splitlines()


@pytest.mark.parametrize("sign", ["", "ü"])
def test_any_text_arrives(sign: str) -> None:
    """A text arrives sign by sign, encoded or not, but for the ways to end a line, which are one on the wire."""
    one = letter(text=f"{sign}a \t\r\nb\rc\n\n.\n..\nFrom me\n--d=3D\n{'e' * 80} ")

    assert bodies(sent(one))[0][1] == f"{sign}a \t\nb\nc\n\n.\n..\nFrom me\n--d=3D\n{'e' * 80} \n"


def test_the_same_bytes_each_time() -> None:
    """Another try of a letter sends the same bytes; another letter has parts that begin with another line."""
    first, again, other = (message_bytes(letter(message_id=f"{name}@shop.example")) for name in ("1", "1", "2"))

    boundaries = [str(message_from_bytes(wire).get_boundary()) for wire in (first, other)]
    assert first == again
    assert boundaries[0] != boundaries[1]
    assert [wire.count(f"--{one}".encode()) for wire, one in zip((first, other), boundaries, strict=True)] == [3, 3]


def test_what_a_program_reads() -> None:
    """The message can be had as an object, too, which says the same."""
    message = render_message(letter(subject="Grüße"))

    assert (message["Subject"], message["To"]) == ("Grüße", "ada@example.com")
    assert bodies(message) == bodies(sent(letter()))


def test_readable_link() -> None:
    """An English letter holds its link in one piece even before decoding."""
    assert LINK.encode() in message_bytes(letter()).split(b"\r\n")


@pytest.mark.parametrize("sign", ["\r", "\n", "\r\n", "\r\n ", "\x00", "\x85", "\u2028", "\u2029"])
@pytest.mark.parametrize("name", ["to", "subject", "sender", "sender_name", "message_id", "language", "reply_to"])
def test_header_injection(name: str, sign: str) -> None:
    """Nothing that goes into a header may hold what could end it, and the refusal does not repeat it."""
    with pytest.raises(ValueError, match=f"the {name} of a letter") as caught:
        letter(**{name: f"secret{sign}Bcc: eve@example.com"})

    assert "secret" not in str(caught.value)
