"""Which language an answer is in: the one place where that is decided."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import cast

from flask import Response, current_app, has_request_context, request

from .. import sessions
from ..languages import ENGLISH, Language, Languages, nearest

_log = logging.getLogger("accountflow.web")

_CACHE = "accountflow.spoken"


@dataclass(frozen=True)
class _Wish:
    """The language that somebody wants of those of the site: its tag, or None where he wants none of them."""

    tag: str | None
    by_header: bool = False


def _languages() -> Languages:
    return cast(Languages, current_app.extensions["accountflow_languages"])


def spoken() -> Language:
    """Return the language of the answer to this request; outside of one, English."""
    return _languages().choose(_wish().tag) if has_request_context() else ENGLISH


def wished() -> str | None:
    """Return what to remember as the visitor's language; None where he wants none of the site's, or has no choice."""
    return _wish().tag


def signed(response: Response) -> Response:
    """Add the headers that say which language the answer is in, and whether the browser's wishes had a part in it."""
    response.headers["Content-Language"] = spoken().tag
    if _wish().by_header:
        response.vary.add("Accept-Language")
    return response


def _wish() -> _Wish:
    tags = _languages().tags
    if len(tags) == 1:
        return _Wish(None)  # no choice; a language that is added later finds nobody bound to this one
    asked = _of_the_app()
    if nearest(asked, tags) is not None:
        return _Wish(asked)
    # Once, so that an answer is in one language: whom a login is looked up for meanwhile may have another.
    if _CACHE not in request.environ:
        request.environ[_CACHE] = _of_the_visitor(tags)
    return cast(_Wish, request.environ[_CACHE])


def _of_the_app() -> str | None:
    """Return the locale that Flask-Babel has chosen as a tag, in an app that has set it up."""
    if "babel" not in current_app.extensions:
        return None
    import flask_babel  # noqa: PLC0415 - optional

    try:
        return str(flask_babel.get_locale()).replace("_", "-")
    except Exception as error:  # the app's selector may raise anything, and an error must still be told
        _log.warning("the app's locale_selector failed: %s", type(error).__name__)
        return None


def _of_the_visitor(tags: tuple[str, ...]) -> _Wish:
    member = sessions.known()
    if member is not None and nearest(member.locale, tags) is not None:
        return _Wish(member.locale)
    liked = (nearest(tag, tags) for tag, quality in request.accept_languages if quality > 0)
    return _Wish(next((tag for tag in liked if tag is not None), None), by_header=True)
