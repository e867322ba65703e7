"""Times and devices as people say them, and what templates need to speak a language."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone, tzinfo
from typing import Any

from jinja2 import Environment, pass_context, pass_eval_context
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from markupsafe import Markup

from ..languages import ENGLISH, Language
from ..messages import noted, noted_plural
from .spoken import spoken

# Each unit with its seconds, and from how many on it is used: a day is said as 24 hours, as links say it.
_UNITS = (
    (noted_plural("%(number)s day", "%(number)s days"), 86400, 2),
    (noted_plural("%(number)s hour", "%(number)s hours"), 3600, 1),
    (noted_plural("%(number)s minute", "%(number)s minutes"), 60, 1),
    (noted_plural("%(number)s second", "%(number)s seconds"), 1, 1),
)
_MONTHS = (
    noted("Jan"),
    noted("Feb"),
    noted("Mar"),
    noted("Apr"),
    noted("May"),
    noted("Jun"),
    noted("Jul"),
    noted("Aug"),
    noted("Sep"),
    noted("Oct"),
    noted("Nov"),
    noted("Dec"),
)


def vocabulary(language: Language, zone: tzinfo = timezone.utc) -> dict[str, Any]:
    """Return what templates speak a language with: ``_``, ``ngettext``, ``lang``, ``dir``, and a zone for ``af_when``.

    Both functions fill the placeholders of a message, ``%(name)s``, with what they are given by name. In HTML the
    message is safe as it is, and what fills it is escaped.
    """

    @pass_eval_context
    def translate(place: EvalContext, message: str, **values: Any) -> str:
        return _fill(place, language.gettext(message), values)

    @pass_eval_context
    def translate_number(place: EvalContext, singular: str, plural: str, number: int, **values: Any) -> str:
        return _fill(place, language.ngettext(singular, plural, number), {"number": number, **values})

    return {
        "_": translate,
        "ngettext": translate_number,
        "lang": language.tag,
        "dir": language.direction,
        "af_language": language,
        "af_zone": zone,
    }


def _fill(place: EvalContext, message: str, values: Mapping[str, Any]) -> str:
    return (Markup(message) if place.autoescape else message) % values


def in_words(seconds: int, *, exactly: bool = False, language: Language = ENGLISH) -> str:
    """Return a duration in its largest fitting unit, rounded up: ``24 hours``, ``5 minutes``.

    With ``exactly`` in the largest one that needs no rounding: ``90 minutes``.
    """
    for texts, size, least in _UNITS:
        if exactly and seconds % size:
            continue
        if seconds >= size * least:
            number = -(-seconds // size)
            return language.ngettext(*texts, number) % {"number": number}
    return language.gettext("a moment")


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


def device_in_words(user_agent: str | None, language: Language = ENGLISH) -> str:
    """Return what a person calls the device: ``Firefox on Windows``; for others the program's own name."""
    unknown = language.gettext("Unknown device")
    if not user_agent:
        return unknown
    browser, system = (
        next((name for sign, name in names if sign in user_agent), None) for names in (_BROWSERS, _SYSTEMS)
    )
    if browser is None and system is None:
        return user_agent.split("/")[0].split(" ")[0][:40] or unknown
    if browser is None or system is None:
        return str(browser or system)
    return language.gettext("%(browser)s on %(system)s") % {"browser": browser, "system": system}


def when(moment: datetime | None, language: Language = ENGLISH, zone: tzinfo = timezone.utc) -> str:
    """Return a moment with its zone: ``21 Nov 2026, 08:12 UTC``, or ``21 Nov 2026, 09:12 UTC+01:00``."""
    if moment is None:
        return ""
    local = (moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment).astimezone(zone)
    return language.gettext("%(day)s %(month)s %(year)s, %(time)s %(zone)s") % {
        "day": local.day,
        "month": language.gettext(_MONTHS[local.month - 1]),
        "year": local.year,
        "time": f"{local:%H:%M}",
        "zone": _offset(local),
    }


def _offset(moment: datetime) -> str:
    # Not by name: what "CST" or "IST" is depends on the country.
    offset = f"{moment:%z}"
    return f"UTC{offset[:3]}:{offset[3:5]}" if moment.utcoffset() else "UTC"


@pass_context
def when_said(context: Context, moment: datetime | None) -> str:
    """Return a moment in the language and the zone of what is rendered: the filter ``af_when``."""
    return when(moment, context.get("af_language") or spoken(), context.get("af_zone", timezone.utc))


@pass_eval_context
def _translate_spoken(place: EvalContext, message: str, **values: Any) -> str:
    return _fill(place, spoken().gettext(message), values)


def _said(text: Any) -> Any:
    # What knows how to stand in HTML is the app's: a label with a link in it, or one in a language of its own choice.
    return text if hasattr(text, "__html__") else spoken().say(text)


def add_words(environment: Environment) -> None:
    """Give all templates what speaks a language: those of mails, of pages, and the app's own.

    Beside the filter ``af_when`` that is ``af_said``, for what stands in code, such as the label of a field, and
    ``af_gettext``, which is ``_`` for macros: they are imported without the variables of the page.
    """
    environment.filters |= {"af_when": when_said, "af_said": _said}
    environment.globals["af_gettext"] = _translate_spoken
