"""The blueprint: a rule for every action, and an answer of ours for everything else below the prefix."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Flask, Response, jsonify, redirect, request, url_for
from flask.globals import request_ctx
from flask.sansio.app import App
from flask.sansio.blueprints import BlueprintSetupState
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
#: Not of the blueprint: it stands above its prefix, and answers nobody in JSON.
WELL_KNOWN = "accountflow_well_known"

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
    blueprint = _PlacedBlueprint(
        NAME,
        "flask_accountflow",
        url_prefix=prefix or None,
        static_folder="static",
        static_url_path="/static" if prefix else "/accountflow-static",
    )
    for action in actions:
        is_shown = action.page is not None or action.show is not None
        methods = [*(["GET"] if is_shown else []), *([action.method] if action.run is not None else [])]
        view = ActionView.as_view(action.name, web, action)
        blueprint.add_url_rule(action.rule, view_func=view, methods=methods)
        if action.name == "password_change":
            blueprint.record(_add_well_known)
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


class _WellKnown(BaseConverter):
    """Matches one name, after any rule that an app has for the same address: that one is the app's."""

    regex = "change-password"
    weight = 1000


def _add_well_known(state: BlueprintSetupState) -> None:
    """Serve the address where password managers look for the page that changes a password, above the prefix (W3C)."""

    def well_known(name: str) -> Any:
        return redirect(url_for(f"{NAME}.password_change"))

    rule = "/.well-known/<accountflow_well_known:name>"
    place = {"host": state.options.get("host"), "subdomain": state.subdomain}
    state.app.add_url_rule(rule, endpoint=WELL_KNOWN, view_func=well_known, **place)


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


class _Placed(BlueprintSetupState):
    """Gives every rule the host that was named when the blueprint was registered, as Flask does with a subdomain."""

    def add_url_rule(self, rule: str, *rest: Any, **options: Any) -> None:
        super().add_url_rule(rule, *rest, host=self.options.get("host"), **options)


class _PlacedBlueprint(Blueprint):
    def make_setup_state(self, app: App, options: dict[str, Any], first_registration: bool = False) -> _Placed:
        return _Placed(self, app, options, first_registration)


def _place(app: Flask, base_url: str | None) -> dict[str, str]:
    """Return at which of the app's names the rules are: where mailed links lead."""
    netloc = urlsplit(base_url or "").netloc
    if app.url_map.host_matching:
        return {"host": netloc}
    domain = f".{app.config['SERVER_NAME']}"
    if app.subdomain_matching and netloc.endswith(domain):
        return {"subdomain": netloc.removesuffix(domain)}
    return {}


def mount(app: Flask, blueprint: Blueprint, base_url: str | None) -> None:
    """Register the blueprint, and exempt it from a host's CSRFProtect."""
    app.url_map.converters |= {
        "accountflow_token": _Token,
        "accountflow_rest": _Rest,
        "accountflow_well_known": _WellKnown,
    }
    app.register_blueprint(blueprint, **_place(app, base_url))
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
