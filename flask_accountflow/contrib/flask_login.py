"""Flask-Login in an app with our logins: its ``current_user``, its two decorators and its ``logout_user``.

There is one truth about who is logged in, and it is ours. What Flask-Login keeps by itself is not asked:
its key in Flask's session, its remember cookie, and the app's loaders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

from flask import Flask, Response, after_this_request, current_app, g, has_request_context, request, session

from .. import sessions
from ..errors import Refusal
from ..flow import Services
from ..flows import logout
from ..forms import LogoutForm, from_json
from ..store.sessions import BROWSER
from ..web.blueprint import NAME
from ..web.guards import keep_out
from ..web.visits import form_meta, plain_visit

# Flask-Login's keys in Flask's session: what it reads freshness from, its wish for a cookie, and its own login.
_FRESH, _REMEMBER = "_fresh", "_remember"
_LOGIN = ("_user_id", "_id", _REMEMBER, "_remember_seconds")

# An attribute of a login manager.
_CONNECTED = "accountflow_connected"

_NO_LOGIN = (
    "flask_login.login_user() and confirm_login() open no login here. Send the visitor to the page of "
    "'accountflow.login', or to that of 'accountflow.login_fresh' to have the password typed again."
)


def bridge(app: Flask) -> None:
    """Let Flask-Login answer by our logins in ``app``, whose login manager may come before or after us, or never."""
    import flask_login  # noqa: PLC0415 - optional

    if not hasattr(app, "login_manager"):
        flask_login.LoginManager(app)
    _join(app, flask_login)
    app.before_request_funcs.setdefault(None, []).insert(0, _begin(app, flask_login))
    flask_login.user_logged_out.connect(_log_out, app)
    flask_login.user_logged_in.connect(_refuse_login, app)
    flask_login.user_login_confirmed.connect(_refuse_login, app)


def _begin(app: Flask, flask_login: Any) -> Callable[[], None]:
    done: list[bool] = []

    def begin() -> None:
        # Flask-Login keeps its user here, and an app context around several requests of a test would share it.
        g.pop("_login_user", None)
        if not done:  # again, because the host may have set up its own manager after us
            done.append(True)
            _join(app, flask_login)

    return begin


def _join(app: Flask, flask_login: Any) -> None:
    """Connect the manager that the app has by now, and let templates look the user up only where they show it."""

    def user() -> dict[str, Any]:
        return {"current_user": flask_login.current_user if has_request_context() else None}

    _connect(cast(Any, app).login_manager, flask_login)
    # Theirs looks the user up for every template, also for one that does not show it.
    eager, processors = flask_login.utils._user_context_processor, app.template_context_processors[None]
    processors[:] = [user if one is eager else one for one in processors]


def _connect(manager: Any, flask_login: Any) -> None:
    """Let ``manager`` answer by our logins, in every app with this bridge: apps may share a manager."""
    if vars(manager).get(_CONNECTED):
        return
    load_theirs, unauthorized, needs_refresh = manager._load_user, manager.unauthorized, manager.needs_refresh

    def load() -> None:
        if not _has_bridge():
            load_theirs()
            return
        flask_login.user_accessed.send(_app())
        found = sessions.current()
        manager._update_request_context_with_user(None if found is None else found.user)
        _tell_freshness(found)

    def ask_to_log_in() -> Any:
        view = manager.blueprint_login_views.get(request.blueprint, manager.login_view)
        if not _has_bridge() or manager.unauthorized_callback or view not in {None, "", f"{NAME}.login"}:
            return unauthorized()
        flask_login.user_unauthorized.send(_app())
        return _refuse("authentication_required")

    def ask_again() -> Any:
        view = manager.refresh_view
        if not _has_bridge() or manager.needs_refresh_callback or view not in {None, "", f"{NAME}.login_fresh"}:
            return needs_refresh()
        flask_login.user_needs_refresh.send(_app())
        return _refuse("fresh_login_required")

    manager._load_user, manager.unauthorized, manager.needs_refresh = load, ask_to_log_in, ask_again
    vars(manager)[_CONNECTED] = True


def _has_bridge() -> bool:
    tools: Services | None = current_app.extensions.get("accountflow")
    return tools is not None and tools.settings.flask_login


def _app() -> Flask:
    return current_app._get_current_object()  # type: ignore[attr-defined, no-any-return]  # receivers know no proxy


def _refuse(code: str) -> Response:
    return keep_out(Refusal(code))


def _tell_freshness(found: sessions.Current | None) -> None:
    """Tell ``fresh_login_required``, which reads Flask's session, for this request alone."""
    tools = sessions.services()
    max_age = timedelta(seconds=tools.settings.fresh_max_age)
    is_fresh = found is not None and found.login.authenticated_at + max_age > tools.clock()
    _keep_quietly(is_fresh)

    @after_this_request
    def forget(response: Response) -> Response:
        _keep_quietly(None)
        return response


def _keep_quietly(is_fresh: bool | None) -> None:
    """Put a value into the session, or take it out, and set no cookie because of it."""
    is_modified = session.modified
    session.pop(_FRESH, None)
    if is_fresh is not None:
        session[_FRESH] = is_fresh
    session.modified = is_modified


def _log_out(sender: Flask, **payload: Any) -> None:
    """End our login where the host calls ``logout_user``. In the middle of the host's own work it is part of that."""
    shown, tools = sessions.shown_login(), sessions.services()
    if shown is None:
        return
    visit = plain_visit(tools, kind=shown[0])
    logout.run(replace(tools, visit=visit), from_json(LogoutForm, {}, form_meta(tools)))
    if shown[0] != BROWSER:
        sessions.forget()
    else:
        wish = session.get(_REMEMBER)
        sessions.end()
        if wish is not None:
            session[_REMEMBER] = wish  # that Flask-Login deletes a cookie of its own, from before our time


def _refuse_login(sender: Flask, **payload: Any) -> None:
    """Undo a login that nothing of ours knows and could end, and say what to do instead."""
    for key in _LOGIN:
        session.pop(key, None)
    cast(Any, sender).login_manager._load_user()
    raise RuntimeError(_NO_LOGIN)
