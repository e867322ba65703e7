"""The one view class: it runs an action's flow and answers in the format that was asked for."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from flask import Response, current_app, got_request_exception, request
from flask.views import View
from sqlalchemy.exc import DBAPIError, OperationalError
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException
from wtforms import Form

from .. import sessions
from ..errors import Refusal
from ..events import scrub
from ..flow import Action, Outcome, Services, Visit
from ..sessions import Member
from .body import MAX_BYTES
from .negotiation import looks_ahead, wants_json
from .pages import Pages
from .programs import Programs
from .redirects import asked, destination, safe_next, send_on
from .visits import form_meta

_log = logging.getLogger("accountflow.web")

_HTTP_CODES = {
    400: "malformed_body",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "payload_too_large",
    415: "unsupported_media_type",
}


class Format(Protocol):
    """What HTML and JSON have in common."""

    name: str

    def member(self) -> Member | None: ...
    def show(self, services: Services, action: Action, form: Form) -> Outcome: ...
    def read(self, services: Services, action: Action, fixed: Mapping[str, str]) -> Form | None: ...
    def protect(self, services: Services, action: Action, form: Form | None) -> None: ...
    def check(self, form: Form) -> None: ...
    def visit(self, services: Services, form: Form | None) -> Visit: ...
    def answer(self, services: Services, action: Action, outcome: Outcome, form: Form | None) -> Response: ...
    def refuse(self, services: Services, action: Action | None, refusal: Refusal, form: Form | None) -> Response: ...


@dataclass(frozen=True)
class Web:
    """The two formats of one app."""

    services: Services
    pages: Pages
    programs: Programs

    def format(self) -> Format:
        """Return the format that this request wants."""
        return self.programs if wants_json(request) else self.pages

    def refuse(self, refusal: Refusal) -> Response:
        """Return the answer to a request that no action serves."""
        return self.format().refuse(self.services, None, refusal, None)


class ActionView(View):
    """Serves one action, whatever the format."""

    init_every_request = False

    def __init__(self, web: Web, action: Action) -> None:
        self._web = web
        self._action = action

    def dispatch_request(self, **fixed: str) -> Response:
        """Run the flow and return the answer; nothing but an answer leaves here."""
        limit = request.max_content_length
        request.max_content_length = MAX_BYTES if limit is None else min(limit, MAX_BYTES)
        wanted = self._web.format()
        call = _Call(self._web.services, self._action, wanted, {name: str(value) for name, value in fixed.items()})
        try:
            return call.answer()
        except Refusal as refusal:
            return call.refuse(refusal)
        except HTTPException as error:
            return call.refuse(Refusal(_HTTP_CODES.get(error.code or 500, "malformed_body")))
        except OperationalError as error:
            error.hide_parameters = True  # which hold addresses and hashes
            _log.warning("the database did not answer", exc_info=True)
            busy = Refusal("busy", extra={"retry_after": 2})
            # The page of a member's action would ask the database again who that is.
            return self._web.refuse(busy) if self._action.needs_login else call.refuse(busy)
        except Exception as error:
            if current_app.debug or current_app.testing:
                raise
            _note(error)
            app = current_app._get_current_object()  # type: ignore[attr-defined]  # receivers know the app, not its proxy
            got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=error)
            return self._web.refuse(Refusal("internal_error"))


class _Call:
    """One request to one action."""

    def __init__(self, services: Services, action: Action, format: Format, fixed: Mapping[str, str]) -> None:
        self._services = services
        self._action = action
        self._format = format
        self._fixed = fixed
        self._form: Form | None = None

    def answer(self) -> Response:
        if self._format.name not in self._action.formats:
            raise Refusal("not_acceptable")
        self._admit()
        if request.method not in {"GET", "HEAD"}:
            return self._post()
        return self._open() if self._opening_runs() else self._get()

    def _admit(self) -> None:
        """Refuse who may not use this action, before anything of the request is looked at."""
        if not self._action.needs_login:
            return
        found = self._format.member()
        if found is None:
            raise Refusal("authentication_required")
        if self._action.needs_admin and not found.account.is_admin:
            raise Refusal("forbidden")

    def _opening_runs(self) -> bool:
        """Tell whether this GET is to do what the page's button does: never for a program, or what looks ahead."""
        switch = self._action.opening_runs
        is_wanted = switch is not None and getattr(self._services.settings, switch)
        return is_wanted and self._format.name == "html" and request.method == "GET" and not looks_ahead(request)

    def _open(self) -> Response:
        """Do what the button does. Who opens a link may have been sent here: the browser's nonce does not count."""
        self._form = self._format.read(self._services, self._action, self._fixed)
        services = self._serve(self._form)
        services = replace(services, visit=replace(services.visit, nonce=None))
        try:
            outcome = self._run(services)
        except Refusal as refusal:
            if refusal.code != "validation_failed":
                raise
            return self._get()  # it takes a password to go on
        return self._format.answer(services, self._action, outcome, self._form)

    def refuse(self, refusal: Refusal) -> Response:
        form = self._form if self._form is not None else self._blank()
        services = replace(self._services, visit=self._format.visit(self._services, form), own=True)
        return self._format.refuse(services, self._action, refusal, form)

    def _get(self) -> Response:
        if self._action.for_strangers and self._format.name == "html" and sessions.member() is not None:
            settings = self._services.settings
            return send_on(destination("after_login", settings, safe_next(asked("next"), settings)))
        self._form = self._blank()
        services = self._serve(self._form)
        outcome = self._format.show(services, self._action, self._form or Form())
        return self._format.answer(services, self._action, outcome, self._form)

    def _post(self) -> Response:
        self._form = self._format.read(self._services, self._action, self._fixed)
        self._format.protect(self._services, self._action, self._form)
        if self._form is not None:
            self._format.check(self._form)
        services = self._serve(self._form)
        return self._format.answer(services, self._action, self._run(services), self._form)

    def _run(self, services: Services) -> Outcome:
        if self._action.run is None:
            raise AssertionError("the rule of an action that runs nothing only serves GET")
        return self._action.run(services, self._form)

    def _serve(self, form: Form | None) -> Services:
        """Return the services as this visitor may use them. What is opened in the place of a login is of its kind."""
        visit = self._format.visit(self._services, form)
        found = self._format.member() if self._action.needs_login else None
        if found is not None:
            visit = replace(visit, account=found.account, kind=found.login.kind)
        return replace(self._services, visit=visit, own=True)

    def _blank(self) -> Form | None:
        if self._action.form is None:
            return None
        meta = form_meta(self._services)
        given: Any = MultiDict(self._fixed) if self._fixed else None
        return self._action.form(given, data=meta["defaults"], meta=dict(meta))


def _note(error: Exception) -> None:
    """Log a fault as Flask does, but for the token in the address, and the values that a database repeats."""
    place: tuple[Any, ...] = (request.url_rule, request.method)
    if not isinstance(error, DBAPIError):
        current_app.logger.error("Exception on %s [%s]", *place, exc_info=error)
        return
    # The first line says what was broken; psycopg's next ones show the row.
    said = f"{type(error.orig).__name__}: {scrub(str(error.orig).partition(chr(10))[0])}"
    calls = "".join(traceback.format_tb(error.__traceback__))
    current_app.logger.error("Exception on %s [%s]\n%s%s\n%s", *place, calls, said, error.statement)
