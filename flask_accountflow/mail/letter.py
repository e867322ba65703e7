"""One letter, rendered: what transports send."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

from ..identity import canonical
from ..store.queue import Waiting

# Besides CR and LF whatever else some program takes for the end of a line (NEL, U+2028, U+2029) or of a text (NUL).
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_IN_HEADERS = ("to", "subject", "sender", "sender_name", "message_id", "language", "reply_to")
_ADDRESSES = ("to", "sender", "message_id", "reply_to")

# RFC 5322 section 2.1.1: text of such lines can go out as it is, with its links in one piece.
_PLAIN = re.compile(r"[\t\x20-\x7e]{0,998}")
_NEW_LINE = re.compile(r"\r\n|\r|\n")
# RFC 2045 section 6.7: where it is encoded, lines are shorter.
_ENCODED = SMTP.clone(max_line_length=76)


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


def render_message(letter: Letter) -> EmailMessage:
    """Return the MIME form of a letter: its text, then the same as HTML. It is ASCII."""
    message = EmailMessage(policy=_ENCODED)
    # First, because they take every Content-… header into the first part.
    message.set_content(letter.text, cte=_encoding(letter.text))
    message.add_alternative(letter.html, subtype="html", cte=_encoding(letter.html))
    message["From"] = Address(letter.sender_name, addr_spec=letter.sender)
    message["To"] = Address(addr_spec=letter.to)
    if letter.reply_to is not None:
        message["Reply-To"] = Address(addr_spec=letter.reply_to)
    message["Subject"] = letter.subject
    message["Date"] = letter.date
    message["Message-ID"] = f"<{letter.message_id}>"
    for name, value in letter.headers():
        message[name] = value
    message.policy = SMTP  # which folds the headers
    return message


def _encoding(text: str) -> str:
    is_plain = all(_PLAIN.fullmatch(line) for line in _NEW_LINE.split(text))
    return "7bit" if is_plain else "quoted-printable"


def _ascii_address(name: str, address: str) -> str:
    try:
        return canonical(address, allow_special=True).email
    except ValueError:
        raise ValueError(f"the {name} of a letter must be an address that is ASCII before its @") from None
