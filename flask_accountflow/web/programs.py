"""The JSON format: how a program's request is read and answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from flask import Request, Response, request, session, url_for
from wtforms import Form

from .. import sessions
from ..errors import FieldFault, Refusal
from ..flow import Action, Outcome, Services, SignIn, Visit
from ..flows.me import user
from ..forms import check, describe, from_json
from ..languages import Language
from ..sessions import Member
from ..store.sessions import API, BROWSER
from . import origin
from .body import read_json
from .redirects import safe_next
from .seed_names import with_other_names
from .spoken import signed, spoken
from .visits import form_meta, plain_visit, spoken_meta

#: Members of an answer that hold a sentence.
_FOR_PEOPLE = ("detail", "message")


class Programs:
    """Requests and answers of programs, in JSON."""

    name = "json"

    def member(self) -> Member | None:
        """Return who calls."""
        return sessions.member()

    def show(self, services: Services, action: Action, form: Form) -> Outcome:
        """Run what GET shows. A page that is only a form is described by its fields."""
        outcome = action.show(services, form) if action.show is not None else Outcome("form")
        if outcome.code != "form" or action.form is None:
            return outcome
        password = {"min_length": services.settings.password_min_length}
        return Outcome("form", {"fields": _described(action.form, form_meta(services)), "password": password})

    def read(self, services: Services, action: Action, fixed: Mapping[str, str]) -> Form | None:
        """Return the form that the body fills."""
        form_class = action.json_form if action.json_form is not None else action.form
        data = read_json(request)
        return None if form_class is None else from_json(form_class, data, spoken_meta(services), **fixed)

    def protect(self, services: Services, action: Action, form: Form | None) -> None:
        """Refuse what another site's page sent, and a cookie without the token that goes with it."""
        if sessions.bearer_token() is not None and not _wants_cookie(form):
            return  # which no page can send for another site without being asked for it (CORS)
        origin.check_origin(services.settings)
        if _wants_cookie(form) or (action.uses_cookie and sessions.SID in session):
            origin.check_cookie_caller()

    def check(self, form: Form) -> None:
        """Validate the form."""
        check(form)

    def visit(self, services: Services, form: Form | None) -> Visit:
        """Return who calls. Nothing of the browser's session is used, unless the program asks for a cookie."""
        return plain_visit(services, kind=BROWSER if _wants_cookie(form) else API)

    def answer(self, services: Services, action: Action, outcome: Outcome, form: Form | None) -> Response:
        """Return the JSON answer to what a flow did."""
        if outcome.signed_out and sessions.SID in session and sessions.bearer_token() is None:
            sessions.end()
        if outcome.status == 204:
            response = Response(status=204)
            del response.headers["Content-Type"]  # of nothing
            return response
        data = dict(outcome.data)
        if data.get("next") is not None:
            data["next"] = safe_next(data["next"], services.settings)
        if outcome.sign_in is not None:
            data |= _session(services, outcome.sign_in)
        if services.settings.seed_aliases:
            data = with_other_names(data)
        words = {name: spoken().say(data[name]) for name in _FOR_PEOPLE if isinstance(data.get(name), str)}
        response = _json(data | words, outcome.status)
        return signed(response) if words or outcome.code == "form" else response

    def refuse(self, services: Services, action: Action | None, refusal: Refusal, form: Form | None) -> Response:
        """Return the problem document of a refusal (RFC 9457)."""
        return problem(services, refusal)


def _described(form_class: type[Form], meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{**one, "label": spoken().say(one["label"])} for one in describe(form_class, meta)]


def _wants_cookie(form: Form | None) -> bool:
    return form is not None and "transport" in form and form["transport"].data == "cookie"


def _session(services: Services, sign_in: SignIn) -> dict[str, Any]:
    """Return the members of a Session: the pair, or nulls where the cookie is set instead."""
    login, account = sign_in.login, sign_in.account
    members: dict[str, Any] = {"token_type": "Bearer", "user": user(account)}
    if login.kind == BROWSER:
        sessions.begin(sign_in)
        return {
            **members,
            "access_token": None,
            "expires_in": None,
            "refresh_token": None,
            "refresh_expires_in": None,
        }
    now = services.clock()
    return {
        **members,
        "access_token": services.access_tokens.make(str(account.id), login.id, now),
        "expires_in": services.settings.access_token_max_age,
        "refresh_token": services.refresh_tokens.make(login.id, login.generation),
        "refresh_expires_in": int((login.expires_at - now).total_seconds()),
    }


def problem(services: Services, refusal: Refusal) -> Response:
    """Return ``refusal`` as a problem document, with the headers that its status asks for."""
    language = spoken()
    body: dict[str, Any] = {
        "type": f"about:blank#{refusal.code}",
        "title": language.say(refusal.title),
        "status": refusal.status,
        "code": refusal.code,
        "detail": language.say(refusal.detail),
        "instance": request.path,
        **refusal.extra,
    }
    if refusal.fields:
        body["errors"] = [_field(fault, language) for fault in refusal.fields]
    if refusal.code == "email_unverified":
        body["resend_url"] = url_for("accountflow.resend")
    response = _json(body, refusal.status, "application/problem+json")
    return signed(add_headers(services, response, refusal))


def add_headers(services: Services, response: Response, refusal: Refusal) -> Response:
    """Add ``Retry-After`` and ``Allow`` where the refusal knows them."""
    if "retry_after" in refusal.extra:
        response.headers["Retry-After"] = str(refusal.extra["retry_after"])
    if "allow" in refusal.data:
        response.headers["Allow"] = ", ".join(refusal.data["allow"])
    if response.status_code == 401:
        response.headers["WWW-Authenticate"] = _challenge(services, request, refusal)
    return response


def _challenge(services: Services, request: Request, refusal: Refusal) -> str:
    """Return the challenge of RFC 6750 section 3: an error only for a token that was sent."""
    realm = services.settings.site_name.encode("ascii", "ignore").decode().replace("\\", "").replace('"', "")
    if refusal.code == "fresh_login_required":
        # RFC 9470 section 3: how old a login may be, in seconds.
        max_age = services.settings.fresh_max_age
        return f'Bearer realm="{realm}", error="insufficient_user_authentication", max_age={max_age}'
    sent = sessions.bearer_token() is not None or refusal.code == "token_invalid"
    return f'Bearer realm="{realm}"' + (', error="invalid_token"' if sent else "")


def _field(fault: FieldFault, language: Language) -> dict[str, Any]:
    return {
        "pointer": f"#/{fault.field}",
        "field": fault.field,
        "code": fault.code,
        "detail": language.say(fault.detail),
        "params": dict(fault.params),
    }


def _json(data: Mapping[str, Any], status: int, mimetype: str = "application/json") -> Response:
    return Response(_ENCODER.encode(data), status, mimetype=mimetype)


def _moment(value: datetime) -> str:
    """Return a moment as RFC 3339 says, in UTC."""
    return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


# json.dumps() makes one for each answer.
_ENCODER = json.JSONEncoder(default=_moment)
