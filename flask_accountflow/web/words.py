"""Times as people say them."""

from __future__ import annotations

from datetime import datetime, timezone

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def in_words(seconds: int) -> str:
    """Return a duration in its largest fitting unit, rounded up: ``24 hours``, ``5 minutes``."""
    for name, size in _UNITS:
        # A day is said as 24 hours, as links say it; two days and more in days.
        if seconds >= size * (2 if name == "day" else 1):
            number = -(-seconds // size)
            return f"{number} {name}{'' if number == 1 else 's'}"
    return "a moment"


def when(moment: datetime | None) -> str:
    """Return a moment with its zone: ``21 Nov 2026, 08:12 UTC``."""
    if moment is None:
        return ""
    utc = moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    return f"{utc.day} {utc:%b %Y, %H:%M} UTC"
