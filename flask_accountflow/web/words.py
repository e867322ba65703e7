"""Times and devices as people say them."""

from __future__ import annotations

from datetime import datetime, timezone

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def in_words(seconds: int, *, exactly: bool = False) -> str:
    """Return a duration in its largest fitting unit, rounded up: ``24 hours``, ``5 minutes``.

    With ``exactly`` in the largest one that needs no rounding: ``90 minutes``.
    """
    for name, size in _UNITS:
        if exactly and seconds % size:
            continue
        # A day is said as 24 hours, as links say it; two days and more in days.
        if seconds >= size * (2 if name == "day" else 1):
            number = -(-seconds // size)
            return f"{number} {name}{'' if number == 1 else 's'}"
    return "a moment"


# The first that fits; browsers carry the names of others beside their own.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS", "Firefox"),
    ("Chrome/", "Chrome"),
    ("CriOS", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "Mac"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def device_in_words(user_agent: str | None) -> str:
    """Return what a person calls the device: ``Firefox on Windows``; for others the program's own name."""
    if not user_agent:
        return "Unknown device"
    browser, system = (
        next((name for sign, name in names if sign in user_agent), None) for names in (_BROWSERS, _SYSTEMS)
    )
    if browser is None and system is None:
        return user_agent.split("/")[0].split(" ")[0][:40] or "Unknown device"
    return " on ".join(name for name in (browser, system) if name is not None)


def when(moment: datetime | None) -> str:
    """Return a moment with its zone: ``21 Nov 2026, 08:12 UTC``."""
    if moment is None:
        return ""
    utc = moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    return f"{utc.day} {utc:%b %Y, %H:%M} UTC"
