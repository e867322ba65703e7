"""Which of the two formats a request wants, and whether a person is behind it."""

from __future__ import annotations

from functools import lru_cache

from flask import Request
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

#: What browsers send forms as.
FORM_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})

_JSON_TYPES = ("application/json", "application/problem+json")
#: Headers of htmx for links and forms that it boosts, and for "Back" to a page that it has forgotten.
_WHOLE_PAGES = ("HX-Boosted", "HX-History-Restore-Request")
#: Headers of browsers that fetch what somebody may open (the Speculation Rules draft, and older ones).
_AHEAD = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")


def wants_json(request: Request) -> bool:
    """Tell whether the caller is a program.

    The better quality in ``Accept`` wins. On a tie (``*/*``, or no header at all) a JSON type named in
    ``Accept``, a bearer token, or a change that is not sent as a form tell a program; browsers do none of these.
    """
    json, html, is_named = _wishes(request.headers.get("Accept", ""))
    if json != html:
        return json > html
    return (
        request.mimetype == "application/json"
        or is_named
        or request.headers.get("Authorization", "").lower().startswith("bearer")
        or (request.method not in {"GET", "HEAD", "OPTIONS"} and not _is_from_page(request))
    )


@lru_cache(maxsize=64)
def _wishes(header: str) -> tuple[float, float, bool]:
    """Return the qualities of JSON and HTML in ``Accept``, and whether a JSON type is named there."""
    accept = parse_accept_header(header, MIMEAccept)
    json = max(accept.quality(kind) for kind in _JSON_TYPES)
    return json, accept.quality("text/html"), any(kind in _JSON_TYPES for kind in accept.values())


def is_fragment(request: Request) -> bool:
    """Tell whether htmx asks for a part of a page, and not for a whole one in the place of the browser."""
    headers = request.headers
    return headers.get("HX-Request") == "true" and not any(headers.get(name) == "true" for name in _WHOLE_PAGES)


def _is_from_page(request: Request) -> bool:
    """Tell whether a change is sent as browsers do: as a form, or by htmx, which deletes without one."""
    return request.mimetype in FORM_TYPES or request.headers.get("HX-Request") == "true"


def looks_ahead(request: Request) -> bool:
    """Tell whether a browser fetches this without anybody having opened it."""
    said = " ".join(request.headers.get(name, "") for name in _AHEAD).lower()
    if request.headers.get("Sec-Fetch-Dest", "document") != "document":
        return True  # a picture or a frame of some page
    return "prefetch" in said or "preview" in said or "prerender" in said
