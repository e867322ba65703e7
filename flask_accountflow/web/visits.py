"""Who calls: what flows may know of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import current_app, request

from .. import sessions
from ..flow import Services, Visit
from ..languages import nearest
from ..settings import Settings, is_loopback
from ..store.accounts import Account
from ..store.sessions import BROWSER
from ..throttle import network


def form_meta(services: Services) -> Mapping[str, Any]:
    """Return what the fields of our forms need to know."""
    settings = services.settings
    return {
        "policy": services.policy,
        "allow_special": settings.email_allow_special,
        "seed_aliases": settings.seed_aliases,
        "defaults": {"remember": settings.remember_default},
    }


def plain_visit(services: Services, *, kind: str, nonce: str | None = None, account: Account | None = None) -> Visit:
    """Return the visit of this request. The client's address is what the app sees: set up ProxyFix for a proxy."""
    shown = sessions.shown_login()
    agent = request.headers.get("User-Agent")
    return Visit(
        ip=request.remote_addr,
        network=network(request.remote_addr),
        user_agent=None if agent is None else _printable(agent)[:255],
        locale=_locale(services.settings),
        nonce=nonce,
        device=request.cookies.get(sessions.DEVICE) if kind == BROWSER else None,
        login_id=None if shown is None else shown[1],
        account=account,
        kind=kind,
        origin=_debug_origin(services),
    )


def _locale(settings: Settings) -> str | None:
    """Return the language of this visit as a tag: the app's by Flask-Babel, else the one the browser likes best."""
    if "babel" in current_app.extensions:
        import flask_babel  # noqa: PLC0415 - optional

        return str(flask_babel.get_locale()).replace("_", "-")
    if len(settings.languages) == 1:
        return None  # there was no choice, and a language that is added later finds nobody bound to this one
    liked = (nearest(tag, settings.languages) for tag, quality in request.accept_languages if quality > 0)
    return next((tag for tag in liked if tag is not None), None)


def _debug_origin(services: Services) -> str | None:
    """Return the origin of mailed links while there is no BASE_URL: only ever this machine's."""
    if services.settings.base_url is not None:
        return None
    origin = request.root_url.rstrip("/")  # with where the app is mounted
    host = request.host.rpartition(":")[0] if request.host.rpartition(":")[2].isdigit() else request.host
    return origin if is_loopback(host) else "http://127.0.0.1:5000"


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)
