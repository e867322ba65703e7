"""Which of the two formats a request wants."""

from __future__ import annotations

from flask import Request

_JSON_TYPES = ("application/json", "application/problem+json")


def wants_json(request: Request) -> bool:
    """Tell whether the caller is a program.

    The better quality in ``Accept`` wins. On a tie (``*/*``, or no header at all) a JSON body, a JSON
    type named in ``Accept`` or a bearer token tell a program; browsers send none of them.
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
    )
