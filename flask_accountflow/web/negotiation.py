"""Which of the two formats a request wants, and whether a person is behind it."""

from __future__ import annotations

from flask import Request

#: What browsers send forms as.
FORM_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})

_JSON_TYPES = ("application/json", "application/problem+json")
#: Headers of browsers that fetch what somebody may open (the Speculation Rules draft, and older ones).
_AHEAD = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")


def wants_json(request: Request) -> bool:
    """Tell whether the caller is a program.

    The better quality in ``Accept`` wins. On a tie (``*/*``, or no header at all) a JSON type named in
    ``Accept``, a bearer token, or a change that is not sent as a form tell a program; browsers do none of these.
    """
    accept = request.accept_mimetypes
    json = max(accept.quality(kind) for kind in _JSON_TYPES)
    html = accept.quality("text/html")
    if json != html:
        return bool(json > html)
    return (
        request.mimetype == "application/json"
        or any(kind in _JSON_TYPES for kind in accept.values())
        or request.headers.get("Authorization", "").lower().startswith("bearer")
        or (request.method not in {"GET", "HEAD", "OPTIONS"} and request.mimetype not in FORM_TYPES)
    )


def looks_ahead(request: Request) -> bool:
    """Tell whether a browser fetches this without anybody having opened it."""
    said = " ".join(request.headers.get(name, "") for name in _AHEAD).lower()
    if request.headers.get("Sec-Fetch-Dest", "document") != "document":
        return True  # a picture or a frame of some page
    return "prefetch" in said or "preview" in said or "prerender" in said
