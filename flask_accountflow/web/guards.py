"""The decorators of the host's views. Each client is answered in its own format."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import ParamSpec, TypeVar, cast

from flask import Response, abort, after_this_request, current_app

from ..errors import Refusal
from ..sessions import current, current_user, services
from .view import Web

P = ParamSpec("P")
R = TypeVar("R")


def login_required(view: Callable[P, R]) -> Callable[P, R]:
    """Let only people in who are logged in. A browser is sent to the login page and back; a program gets 401.

    The page is sent with ``Cache-Control: no-store`` unless the view sets that header.
    """

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if not current_user:
            _stop(Refusal("authentication_required"))
        after_this_request(_keep_private)
        return cast(R, current_app.ensure_sync(view)(*args, **kwargs))

    return guarded


def verified_required(view: Callable[P, R]) -> Callable[P, R]:
    """Let only people in whose address is proved; 403 ``email_unverified`` for others."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if not current_user.email_verified:
            _stop(Refusal("email_unverified"))
        return cast(R, current_app.ensure_sync(view)(*args, **kwargs))

    return login_required(guarded)


def admin_required(view: Callable[P, R]) -> Callable[P, R]:
    """Let only administrators in; 403 ``forbidden`` for others."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if not current_user.is_admin:
            _stop(Refusal("forbidden"))
        return cast(R, current_app.ensure_sync(view)(*args, **kwargs))

    return login_required(guarded)


def fresh_login_required(view: Callable[P, R]) -> Callable[P, R]:
    """Let only people in who typed their password within ``ACCOUNTFLOW_FRESH_MAX_AGE`` seconds.

    Others are asked for it: a browser at ``/login/fresh``, and sent back after that; a program by 401
    ``fresh_login_required``, with the challenge of RFC 9470.
    """

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        found, tools = current(), services()
        max_age = timedelta(seconds=tools.settings.fresh_max_age)
        if found is None or found.login.authenticated_at + max_age <= tools.clock():
            _stop(Refusal("fresh_login_required"))
        return cast(R, current_app.ensure_sync(view)(*args, **kwargs))

    return login_required(guarded)


def _keep_private(response: Response) -> Response:
    """Keep a member's page out of the cache from which "Back" shows it after a logout; the app may say otherwise."""
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def keep_out(refusal: Refusal) -> Response:
    """Return the answer to who may not enter a view of the host, which no cache keeps for another."""
    web = cast(Web, current_app.extensions["accountflow_web"])
    response = _keep_private(web.refuse(refusal))
    response.vary.update(("Accept", "Cookie"))
    return response


def _stop(refusal: Refusal) -> None:
    """End the request with an answer that no error handler of the host takes for an error."""
    abort(keep_out(refusal))
