"""Whether a request that changes something may come from where it comes from."""

from __future__ import annotations

import hmac

from flask import request, session

from ..errors import Refusal
from ..sessions import CSRF
from ..settings import Settings
from .redirects import own_origins

FIELD, HEADER = "csrf_token", "X-CSRF-Token"


def check_origin(settings: Settings) -> None:
    """Raise :exc:`.Refusal` ``cross_origin_blocked`` when another site's page sent this request.

    Fetch Metadata first, then ``Origin``; a client that sends neither is no browser that can be abused.
    """
    origin, site = request.headers.get("Origin", "").lower(), request.headers.get("Sec-Fetch-Site")
    if origin in {"", "null"} and site != "cross-site":
        return
    if origin not in own_origins(settings) and origin != request.host_url.rstrip("/").lower():
        raise Refusal("cross_origin_blocked")


def check_token(token: str | None) -> None:
    """Raise :exc:`.Refusal` ``csrf_failed`` unless the token is the one of this browser's session."""
    seed = session.get(CSRF)
    if not isinstance(seed, str):
        raise Refusal("csrf_failed", data={"cookies_missing": True})
    if token is None or not hmac.compare_digest(seed.encode(), token.encode("utf-8", "surrogatepass")):
        raise Refusal("csrf_failed")


def check_cookie_caller() -> None:
    """Check the token of a program that is logged in by the browser's cookie."""
    check_token(request.headers.get(HEADER))
