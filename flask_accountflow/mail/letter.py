"""One letter, rendered: what transports send."""

from __future__ import annotations

import quopri
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, cast

from ..identity import canonical
from ..store.queue import Waiting

# Besides CR and LF whatever else some program takes for the end of a line (NEL, U+2028, U+2029) or of a text (NUL).
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_IN_HEADERS = ("to", "subject", "sender", "sender_name", "message_id", "language", "reply_to")
_ADDRESSES = ("to", "sender", "message_id", "reply_to")

# RFC 5322 section 2.1.1: text of such lines can go out as it is, with its links in one piece.
_PLAIN = re.compile(rb"(?:[\t\x20-\x7e]{0,998}\r\n)*")

# RFC 5322 section 2.1.1: such a line is not folded. Few addresses are another kind of line.
_LINE = 78
_SIMPLE_ADDRESS = re.compile(r"[a-z0-9._+-]+@[a-z0-9.-]+", re.IGNORECASE | re.ASCII)

# Python's quopri encodes a blank at the end of a line without asking whether the line is still short enough:
# 77 characters, where RFC 2045 section 6.7 allows 76.
_OVERLONG = re.compile(rb"(?m)^(.{74})(=20|=09)(?=\r$)")


@dataclass(frozen=True)
class Letter:
    """A mail to one recipient. ``message_id`` has no brackets; ``link`` is the one in the text, if any.

    Domains in any script become what mail servers know them by (``xn--…``).
    Raises :exc:`ValueError` when something that goes into a header is not one line, and for an address
    that is not ASCII before its @.
    """

    to: str
    subject: str
    text: str
    html: str
    message_id: str
    sender: str
    sender_name: str
    date: datetime
    language: str
    template: str
    reply_to: str | None = None
    link: str | None = None

    def __post_init__(self) -> None:
        for name in _IN_HEADERS:
            value = getattr(self, name)
            if value is not None and _CONTROL.search(value):
                # Without the value, which would end up in a log.
                raise ValueError(f"the {name} of a letter must be one line without control characters")
        for name in _ADDRESSES:
            value = getattr(self, name)
            if value is not None and not value.isascii():
                object.__setattr__(self, name, _ascii_address(name, value))

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers that say what kind of mail this is."""
        return [
            # RFC 3834 section 5: no out-of-office answers; the second is for Exchange.
            ("Auto-Submitted", "auto-generated"),
            ("X-Auto-Response-Suppress", "All"),
            # Keeps Gmail from folding a new link under an old one.
            ("X-Entity-Ref-ID", self.message_id),
            ("Content-Language", self.language),
        ]


#: Renders a mail of the outbox.
Renderer = Callable[[Waiting], Letter]


def message_bytes(letter: Letter) -> bytes:
    """Return the MIME form of a letter: its text, then the same as HTML.

    It is ASCII, ends its lines with CRLF, and is the same each time. Python's own writer takes several times as
    long, most of it for reading back the headers that it has just made.
    """
    # Of an id that nobody knows before the mail is there, so no text can hold it.
    boundary = sha256(letter.message_id.encode()).hexdigest()[:24]
    head = b"".join(_head(letter, boundary))
    parts = (f"--{boundary}\r\n".encode() + part for part in (_part("plain", letter.text), _part("html", letter.html)))
    return b"\r\n".join([head, *parts, f"--{boundary}--\r\n".encode()])


def render_message(letter: Letter) -> EmailMessage:
    """Return the MIME form of a letter as a recipient's program reads it."""
    message: Any = message_from_bytes(message_bytes(letter), policy=SMTP)
    return cast(EmailMessage, message)


def _head(letter: Letter, boundary: str) -> Iterator[bytes]:
    """Yield the headers of a message: what may need encoding as what the policy of Python's email makes of it."""
    yield _own_mailbox("From", letter.sender, letter.sender_name)
    yield _mailbox("To", letter.to)
    if letter.reply_to is not None:
        yield _own_mailbox("Reply-To", letter.reply_to)
    yield _sentence("Subject", letter.subject)
    rest = [
        ("Date", format_datetime(letter.date)),
        ("Message-ID", f"<{letter.message_id}>"),
        *letter.headers(),
        ("MIME-Version", "1.0"),
        ("Content-Type", f'multipart/alternative; boundary="{boundary}"'),
    ]
    for name, value in rest:
        yield _plain(name, value) or SMTP.fold_binary(name, value)


def _plain(name: str, value: str) -> bytes | None:
    """Return the header of an ASCII value that fits on one line; None for another."""
    line = f"{name}: {value}"
    return f"{line}\r\n".encode() if len(line) <= _LINE and value.isascii() else None


def _mailbox(name: str, address: str, display_name: str = "") -> bytes:
    if not display_name and _SIMPLE_ADDRESS.fullmatch(address):
        made = _plain(name, address)
        if made is not None:  # Python's parser of addresses would take a seventh of what a mail costs
            return made
    return _encoded(name, Address(display_name, addr_spec=address))


# What a site says in all its mails, of a few kinds and languages, is made once. No recipient is kept.
_own_mailbox = lru_cache(maxsize=16)(_mailbox)


@lru_cache(maxsize=256)
def _sentence(name: str, value: str) -> bytes:
    return _encoded(name, value)


def _encoded(name: str, value: Any) -> bytes:
    made: bytes = SMTP.fold_binary(name, SMTP.header_factory(name, value))
    return made


def _part(subtype: str, text: str) -> bytes:
    """Return a part of a message with its headers."""
    lines = text.encode().splitlines()
    body = b"\r\n".join([*lines, b""])
    is_plain = _PLAIN.fullmatch(body) is not None
    encoding = "7bit" if is_plain else "quoted-printable"
    head = f'Content-Type: text/{subtype}; charset="utf-8"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n'
    return head.encode() + (body if is_plain else _quoted_printable(body))


def _quoted_printable(body: bytes) -> bytes:
    return _OVERLONG.sub(rb"\1=\r\n\2", quopri.encodestring(body))


def _ascii_address(name: str, address: str) -> str:
    try:
        return canonical(address, allow_special=True).email
    except ValueError:
        raise ValueError(f"the {name} of a letter must be an address that is ASCII before its @") from None
