"""The one spelling under which an email address is stored, found and shown.

PostgreSQL, SQLite and Python fold case differently, and Unicode case folding makes different
mailboxes one (a dotless i becomes an i, the Kelvin sign a k). So only ASCII local parts are accepted,
and the key is computed here, never by a database.
"""

from __future__ import annotations

from dataclasses import dataclass

from email_validator import EmailNotValidError, validate_email

# RFC 5321 section 4.5.3.1.3: a path has at most 256 octets, two of which are angle brackets.
_EMAIL_MAX_LENGTH = 254
# RFC 5321 section 4.5.3.1.1; email-validator 2.4 lets longer ones pass.
_LOCAL_PART_MAX_LENGTH = 64

# Appended to a domain that only exists in development, so that its form can be checked like any other.
_ORDINARY = ".example.com"


class BadAddress(ValueError):
    """The text is not an email address that we can send to."""

    def __init__(self) -> None:
        super().__init__("not an email address")


@dataclass(frozen=True)
class Address:
    """An email address: ``email`` to send to, ``key`` to look up by.

    ``email`` has the local part as it was typed and the domain as A-label (``xn--…``); ``key`` is the
    same in lower case. Both are ASCII, and at most 254 characters long.
    """

    email: str
    key: str


def canonical(text: str, *, allow_special: bool = False) -> Address:
    """Return the address that ``text`` spells. Dots and ``+tags`` stay.

    ``allow_special`` also accepts what cannot be reached from the Internet, such as ``dev@local``
    and ``x@example.test``; it is for debug and testing.
    Raises :exc:`BadAddress` for everything else. No DNS query is made.
    """
    if not isinstance(text, str):
        raise BadAddress
    text = text.strip(" \t")
    # email-validator needs 0.1 to 0.5 seconds for 100 KB, so the length comes first.
    if len(text) > _EMAIL_MAX_LENGTH:
        raise BadAddress
    email = _validated(text + _ORDINARY).removesuffix(_ORDINARY) if allow_special else _validated(text)
    if len(email.rpartition("@")[0]) > _LOCAL_PART_MAX_LENGTH or len(email) > _EMAIL_MAX_LENGTH:
        raise BadAddress
    return Address(email=email, key=email.lower())


def mask(email: str) -> str:
    """Return ``email`` so that its owner recognises it and nobody else learns it: ``a•••@e•••.com``."""
    local_part, _, domain = email.rpartition("@")
    name, dot, top = domain.rpartition(".")
    return f"{local_part[:1]}•••@{(name or domain)[:1]}•••{dot}{top if dot else ''}"


def _validated(text: str) -> str:
    try:
        found = validate_email(
            text,
            allow_smtputf8=False,
            allow_quoted_local=False,
            allow_domain_literal=False,
            allow_display_name=False,
            check_deliverability=False,
        )
    except EmailNotValidError:
        raise BadAddress from None
    # None only where SMTPUTF8 would be needed, which is refused above; the check outlives a change of the library.
    if found.ascii_email is None:  # pragma: no cover
        raise BadAddress
    return found.ascii_email
