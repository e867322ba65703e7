"""The blueprint: a rule for every action, and an answer of ours for everything else below the prefix."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, jsonify, request
from flask.globals import request_ctx
from jinja2 import ChoiceLoader, FileSystemLoader, PrefixLoader
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter, PathConverter

from ..errors import Refusal
from ..flow import Action
from ..mail.transports import RecordingTransport
from . import inbox, origin
from .headers import protect, publish
from .openapi import Description
from .previews import Previews
from .redirects import asked
from .view import ActionView, Web

NAME = "accountflow"

_TEMPLATES = Path(__file__).parent.parent / "templates"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS")
#: What a static file is kept for, in seconds; its address changes with its content.
_STATIC_AGE = 31536000


def build(
    web: Web,
    actions: Iterable[Action],
    description: Description,
    recorded: RecordingTransport | None,
    previews: Previews,
) -> Blueprint:
    """Return the blueprint of one app."""
    prefix = web.services.settings.url_prefix
    blueprint = Blueprint(
        NAME,
        "flask_accountflow",
        url_prefix=prefix or None,
        static_folder="static",
        static_url_path="/static" if prefix else "/accountflow-static",
    )
    # What extends "accountflow/default/login.html" may itself be the app's "accountflow/login.html".
    default = PrefixLoader({"accountflow": PrefixLoader({"default": FileSystemLoader(_TEMPLATES / "accountflow")})})
    blueprint.jinja_loader = ChoiceLoader([FileSystemLoader(_TEMPLATES), default])
    for action in actions:
        is_shown = action.page is not None or action.show is not None
        methods = [*(["GET"] if is_shown else []), *([action.method] if action.run is not None else [])]
        view = ActionView.as_view(action.name, web, action)
        blueprint.add_url_rule(action.rule, view_func=view, methods=methods)
    blueprint.add_url_rule("/csrf", endpoint="csrf", view_func=_csrf_view(web))
    blueprint.add_url_rule("/openapi.json", endpoint="openapi", view_func=_openapi_view(web, description))
    if web.services.access_tokens.public_keys:
        blueprint.add_url_rule("/jwks.json", endpoint="jwks", view_func=_jwks_view(web))
    if recorded is not None:
        inbox.mount(blueprint, web, recorded, previews)
    if prefix:
        rest = _rest_view(web)
        blueprint.add_url_rule("", endpoint="rest_root", view_func=rest, methods=_METHODS)
        blueprint.add_url_rule("/<accountflow_rest:rest>", endpoint="rest", view_func=rest, methods=_METHODS)
    # What static files and the inbox do not find, and the inbox does not say to programs.
    blueprint.register_error_handler(404, lambda error: web.refuse(Refusal("not_found")))
    blueprint.register_error_handler(406, lambda error: web.refuse(Refusal("not_acceptable")))
    blueprint.after_request(lambda response: _finish(response, web))
    return blueprint


def _finish(response: Response, web: Web) -> Response:
    if request.method == "OPTIONS" and response.status_code == 200:
        # Flask's own answer also names the methods that are only served to say 405.
        response.headers["Allow"] = ", ".join(_allowed_methods())
    if request.endpoint == f"{NAME}.static":
        response.headers["X-Content-Type-Options"] = "nosniff"
        if response.status_code == 200 and asked("v") is not None:
            # Flask may renew the session cookie with any answer, and a shared cache would hand it to others.
            scope = "private" if request.cookies else "public"
            response.headers["Cache-Control"] = f"{scope}, max-age={_STATIC_AGE}, immutable"
        return response
    return protect(response, web.services.settings)


class _Token(PathConverter):
    """Matches what may once have been a token, also with slashes and line breaks in it: the flow says what is wrong."""

    regex = "(?s:.+?)"
    part_isolating = False


class _Rest(BaseConverter):
    """Matches whatever follows the prefix, also nothing, slashes and line breaks: "path" leaves those to the host."""

    regex = "(?s:.*?)"
    weight = 1000
    part_isolating = False


def _csrf_view(web: Web) -> Callable[[], Any]:
    def csrf() -> Response | dict[str, str]:
        """Return the token that a program in a browser sends with the session cookie."""
        if _is_ruled_out("application/json"):
            return web.refuse(Refusal("not_acceptable"))
        return {"csrf_token": web.pages.form_token(), "header": origin.HEADER}

    return csrf


def _jwks_view(web: Web) -> Callable[[], Response]:
    def jwks() -> Response:
        """Return the keys that other services check access tokens with (RFC 7517 section 5)."""
        if _is_ruled_out("application/json", "application/jwk-set+json"):
            return web.refuse(Refusal("not_acceptable"))
        return publish(jsonify(keys=web.services.access_tokens.public_keys))

    return jwks


def _openapi_view(web: Web, description: Description) -> Callable[[], Any]:
    def openapi() -> Response:
        """Return the description of the API."""
        if _is_ruled_out("application/json"):
            return web.refuse(Refusal("not_acceptable"))
        # Not jsonify, which sorts: the order is that of the routes.
        return Response(json.dumps(description.document(request.script_root)), mimetype="application/json")

    return openapi


def _is_ruled_out(*kinds: str) -> bool:
    """Tell whether the caller takes none of these media types."""
    accept = request.accept_mimetypes
    return accept.provided and not any(accept.quality(kind) for kind in kinds)


def _rest_view(web: Web) -> Callable[..., Response]:
    def rest(rest: str = "") -> Response:
        """Answer what no rule serves: 405 with ``Allow`` where another method would do, else 404."""
        allowed = _allowed_methods()
        if allowed:
            return web.refuse(Refusal("method_not_allowed", data={"allow": allowed}))
        return web.refuse(Refusal("not_found"))

    return rest


def _allowed_methods() -> list[str]:
    """Return the methods that some other rule has for the path of this request."""
    adapter: Any = request_ctx.url_adapter
    found = []
    for method in _METHODS:
        try:
            rule, _ = adapter.match(method=method, return_rule=True)
        except HTTPException:
            continue
        if rule.endpoint not in {f"{NAME}.rest", f"{NAME}.rest_root"}:
            found.append(method)
    return found


def mount(app: Flask, blueprint: Blueprint) -> None:
    """Register the blueprint, and exempt it from a host's CSRFProtect."""
    app.url_map.converters |= {"accountflow_token": _Token, "accountflow_rest": _Rest}
    app.register_blueprint(blueprint)
    app.before_request_funcs.setdefault(None, []).insert(0, _exempt_once(app, blueprint))


def _exempt_once(app: Flask, blueprint: Blueprint) -> Callable[[], None]:
    done: list[bool] = []

    def exempt() -> None:
        # Here, and not at once: the host may set up CSRFProtect after us. Ours is checked by the view.
        if not done:
            done.append(True)
            protect = app.extensions.get("csrf")
            if protect is not None and hasattr(protect, "exempt"):
                protect.exempt(blueprint)

    return exempt
