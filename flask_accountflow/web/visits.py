"""Who calls: what flows may know of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import request

from .. import sessions
from ..flow import Services, Visit
from ..languages import ENGLISH
from ..settings import is_loopback
from ..store.accounts import Account
from ..store.sessions import BROWSER
from ..throttle import network
from .spoken import spoken, wished


def form_meta(services: Services) -> Mapping[str, Any]:
    """Return what the fields of our forms need to know."""
    settings = services.settings
    return {
        "policy": services.policy,
        "allow_special": settings.email_allow_special,
        "seed_aliases": settings.seed_aliases,
        "defaults": {"remember": settings.remember_default},
    }


def spoken_meta(services: Services) -> Mapping[str, Any]:
    """Return what fields need to know that are filled by a visitor: also the language of WTForms' own messages."""
    meta, language = form_meta(services), spoken()
    return meta if language == ENGLISH else {**meta, "locales": [language.tag.replace("-", "_")]}


def plain_visit(services: Services, *, kind: str, nonce: str | None = None, account: Account | None = None) -> Visit:
    """Return the visit of this request. The client's address is what the app sees: set up ProxyFix for a proxy."""
    shown = sessions.shown_login()
    agent = request.headers.get("User-Agent")
    return Visit(
        ip=request.remote_addr,
        network=network(request.remote_addr),
        user_agent=None if agent is None else _printable(agent)[:255],
        locale=wished(),
        nonce=nonce,
        device=sessions.device() if kind == BROWSER else None,
        login_id=None if shown is None else shown[1],
        account=account,
        kind=kind,
        origin=_debug_origin(services),
    )


def _debug_origin(services: Services) -> str | None:
    """Return the origin of mailed links while there is no BASE_URL: only ever this machine's."""
    if services.settings.base_url is not None:
        return None
    origin = request.root_url.rstrip("/")  # with where the app is mounted
    host = request.host.rpartition(":")[0] if request.host.rpartition(":")[2].isdigit() else request.host
    return origin if is_loopback(host) else "http://127.0.0.1:5000"


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "?" for sign in text)
