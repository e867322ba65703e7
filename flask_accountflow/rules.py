"""What the value of a setting may be: rules that return it, or say what it must be.

A rule takes what the configuration holds and returns the value that is used. It raises
:exc:`ValueError` with the end of a sentence that begins with the setting's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

MINUTE, HOUR, DAY = 60, 3600, 86400

_SECONDS = {"second": 1, "minute": MINUTE, "hour": HOUR, "day": DAY}
_RATE = re.compile(r"\s*(\d+)\s*/\s*(\d*)\s*(second|minute|hour|day)s?\s*")
_MAILBOX = re.compile(r"[^@\s<>]+@[^@\s<>]+")
_PEPPER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,15}")


@dataclass(frozen=True)
class Rate:
    """So many within so many seconds."""

    count: int
    seconds: int

    def __str__(self) -> str:
        for name, unit in reversed(_SECONDS.items()):
            if self.seconds % unit == 0:
                times = self.seconds // unit
                return f"{self.count}/{'' if times == 1 else f'{times} '}{name}"
        raise AssertionError("every number of seconds is divisible by one")  # pragma: no cover


#: Returns the value to use, or raises ValueError.
Rule = Callable[[Any], Any]


def parse_rates(text: str) -> tuple[Rate, ...]:
    """Return the limits that ``text`` names, such as ``10/5 minute;30/hour``.

    Raises :exc:`ValueError` with a sentence for the operator.
    """
    rates = []
    for part in text.split(";"):
        found = _RATE.fullmatch(part)
        if found is None or 0 in (int(found[1]), int(found[2] or 1)):
            raise ValueError("must be limits such as '10/5 minute;30/hour'")
        rates.append(Rate(int(found[1]), int(found[2] or 1) * _SECONDS[found[3]]))
    return tuple(rates)


def flag(value: Any) -> bool:
    """A switch."""
    if not isinstance(value, bool):
        raise ValueError("must be True or False")
    return value


def whole(least: int, most: int) -> Rule:
    """A whole number within these bounds."""

    def rule(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return rule


def line(value: Any) -> str:
    """One line of text."""
    if not isinstance(value, str) or not value.strip() or any(ord(sign) < 32 for sign in value):
        raise ValueError("must be a line of text")
    return value


def choice(*names: str) -> Rule:
    """One of these words."""

    def rule(value: Any) -> str:
        if value not in names:
            raise ValueError("must be one of " + ", ".join(repr(name) for name in names))
        return str(value)

    return rule


def choice_or_callable(*names: str) -> Rule:
    """One of these words, or a function of the app."""
    named = choice(*names)

    def rule(value: Any) -> Any:
        return value if callable(value) else named(value)

    return rule


def optional(rule: Rule) -> Rule:
    """What ``rule`` says, or None."""
    return lambda value: None if value is None else rule(value)


def empty_or(rule: Rule) -> Rule:
    """What ``rule`` says, or an empty text."""
    return lambda value: "" if value == "" else rule(value)


def pem(value: Any) -> str:
    """A private key as text."""
    if not isinstance(value, str) or "-----BEGIN " not in value or "PRIVATE KEY-----" not in value:
        raise ValueError("must be a list of private keys in PEM form, each beginning with '-----BEGIN'")
    return value


def web_address(value: Any) -> str:
    """The address of a site, perhaps with a path; without the slash at its end."""
    text = line(value)
    parts = _split(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or re.search(r"[?#\s]", text):
        raise ValueError("must be an address such as 'https://www.example.com', without query or fragment")
    return text.rstrip("/")


def _split(text: str) -> SplitResult:
    """Return the parts of an address; empty ones where it has none."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # which raises for what is no port
    except ValueError:
        return urlsplit("")
    return parts


def mailbox(value: Any) -> str:
    """A mail address, without a name before it."""
    text = line(value)
    if not _MAILBOX.fullmatch(text):
        raise ValueError("must be an address such as 'help@example.com'")
    return text


def origin(value: Any) -> str:
    """Scheme, host and port of a site."""
    text = web_address(value)
    if urlsplit(text).path:
        raise ValueError("must be origins such as 'https://app.example.com', without a path")
    return text.lower()


def link_template(value: Any) -> str:
    """An address with a place for a token."""
    text = line(value)
    parts = _split(text)
    if text.count("{token}") != 1 or not parts.scheme or not parts.hostname:
        raise ValueError("must be an address with {token} once, such as 'https://app.example.com/verify?token={token}'")
    return text


def prefix(value: Any) -> str:
    """A path to mount at; "" for none."""
    if value in ("", None):
        return ""
    text = line(value)
    if not text.startswith("/") or text.endswith("/") or "<" in text:
        raise ValueError("must start with a slash and not end with one, such as '/auth'")
    return text


def destination(value: Any) -> str:
    """A page: a path here, or a whole address."""
    text = line(value)
    parts = _split(text)
    if (text.startswith("/") and not text.startswith("//")) or (parts.scheme in {"http", "https"} and parts.hostname):
        return text
    raise ValueError("must be a path such as '/home', or a whole address")


def several(rule: Rule, *, ordered: bool = True) -> Rule:
    """A list of what ``rule`` says; a set only where the order says nothing."""
    kinds = (list, tuple) if ordered else (list, tuple, set, frozenset)

    def checked(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, kinds):
            raise ValueError("must be a list")
        return tuple(rule(item) for item in value)

    return checked


def rates(value: Any) -> tuple[Rate, ...]:
    """Limits, as text."""
    return parse_rates(line(value))


def peppers(value: Any) -> tuple[tuple[str, str], ...]:
    """Keys for passwords, each with its id; the newest first."""
    sentence = "must be a list of (id, key) pairs, newest first: ids of up to 16 letters or digits, keys of 32 or more"
    if isinstance(value, (str, bytes)) or not isinstance(value, (list, tuple)):
        raise ValueError(sentence)
    rows = []
    for row in value:
        if not isinstance(row, (list, tuple)) or len(row) != 2:
            raise ValueError(sentence)
        name, key = row
        if not isinstance(name, str) or not isinstance(key, str) or not _PEPPER_ID.fullmatch(name) or len(key) < 32:
            raise ValueError(sentence)
        rows.append((name, key))
    if len({name for name, _ in rows}) < len(rows):
        raise ValueError("names an id twice; every pepper needs an id of its own")
    return tuple(rows)
