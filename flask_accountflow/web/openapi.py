"""The description of an app's JSON API (OpenAPI 3.1), made from its actions, their forms and the problem codes."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Any

from flask import current_app

from ..errors import PROBLEMS, Problem
from ..flow import Action, Contract, Schema, Services, refusals
from ..forms import describe
from .form_schemas import FormSchema
from .origin import HEADER
from .schemas import SCHEMAS, problem_example, problem_schema
from .visits import form_meta

#: The version of the API, not that of the package: a stranger need not know which one runs.
_VERSION = "1"
_JSON, _PROBLEM, _HTML = "application/json", "application/problem+json", "text/html"
_ARGUMENT = re.compile(r"<(?:(?P<kind>[^:<>]+):)?(?P<name>[^<>]+)>")
_SCHEMA_NAME = re.compile(r'"#/components/schemas/(\w+)"')

_ABOUT = """\
Every address speaks HTML and JSON, and `Accept` decides between them. This describes the JSON. Send \
`Accept: application/json`: a `GET` that leaves the format open is answered with a page.

A body is one JSON object of at most 64 KiB. Unknown members are ignored, and `null` means absent. \
Decide by `code` and never by text, and ignore members that you do not know."""

#: What any operation may answer, and any that reads a body.
_ANYWHERE = refusals("busy", "internal_error")
_READING = refusals("malformed_body", "unsupported_media_type", "payload_too_large", "cross_origin_blocked")

_HEADERS: Mapping[str, Mapping[str, Any]] = {
    "Cache-Control": {"description": "`no-store`, but for what is public.", "schema": {"type": "string"}},
    "Retry-After": {"description": "When to try again, in seconds.", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "The challenge of RFC 6750.", "schema": {"type": "string"}},
    "Allow": {"description": "The methods that would do.", "schema": {"type": "string"}},
    "Location": {"description": "Where a browser is sent.", "schema": {"type": "string"}},
}
_HEADER_OF = {303: "Location", 401: "WWW-Authenticate", 405: "Allow", 429: "Retry-After", 503: "Retry-After"}


@dataclass(frozen=True)
class Description:
    """The description of one app's API. It is made when somebody asks for it, and kept."""

    services: Services
    actions: tuple[Action, ...]

    def document(self, script_root: str = "") -> dict[str, Any]:
        """Return the document. ``script_root`` is where an app without BASE_URL is mounted."""
        settings = self.services.settings
        base = settings.base_url if settings.base_url is not None else script_root
        return {**self._document, "servers": [{"url": base.rstrip("/") + settings.url_prefix or "/"}]}

    @cached_property
    def _document(self) -> dict[str, Any]:
        return _Writer(self.services).write(self.actions)


@dataclass(frozen=True)
class _Said:
    """What one operation may answer."""

    #: What it succeeds with, by HTTP status.
    answers: Mapping[int, Mapping[str, Any]]
    #: Its refusals in JSON, by code.
    problems: Mapping[str, Problem]
    #: Its refusals by a page.
    pages: Mapping[str, Problem] = field(default_factory=dict)


class _Writer:
    """Writes the document of one app."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._meta = form_meta(services)
        self._responses: dict[str, Any] = {}
        self._spoken: set[str] = set()

    def write(self, actions: tuple[Action, ...]) -> dict[str, Any]:
        paths: dict[str, Any] = {}
        for action in actions:
            if "json" in action.formats:
                path = paths.setdefault(_ARGUMENT.sub(r"{\g<name>}", action.rule), {})
                path.update(self._operations(action))
        for name, schema, summary in _endpoints(self._services):
            paths[f"/{name}"] = {"get": self._endpoint(name, schema, summary)}
        # What no operation answers by itself: the host's own views may, and addresses that do not exist.
        for code in PROBLEMS.keys() - self._spoken:
            self._refusal(PROBLEMS[code].status, refusals(code), {})
        return {
            "openapi": "3.1.0",
            "info": {"title": f"{self._settings.site_name}: accounts", "version": _VERSION, "description": _ABOUT},
            "paths": paths,
            "components": {
                "schemas": _used(paths, self._responses),
                "responses": dict(sorted(self._responses.items())),
                "headers": {name: {**header, "required": True} for name, header in _HEADERS.items()},
                "securitySchemes": _security_schemes(),
            },
        }

    def _operations(self, action: Action) -> Iterator[tuple[str, dict[str, Any]]]:
        contract = action.promises(self._settings)
        if action.page is not None or action.show is not None:
            yield "get", self._show(action, contract)
        if action.run is not None:
            yield action.method.lower(), self._run(action, contract)

    def _show(self, action: Action, contract: Contract) -> dict[str, Any]:
        said = self._said_by_show(action, contract)
        summary = _summary(action.show) if action.show is not None else "Describe the form."
        return self._operation(action, f"{action.name}_show", summary, said, _security(action, changes=False))

    def _said_by_show(self, action: Action, contract: Contract) -> _Said:
        has_page = "html" in action.formats
        problems = {**_admission(action), **(contract.refusals if action.show is not None else {}), **_ANYWHERE}
        answers: dict[int, Any] = {}
        if contract.shows is not None:
            content = {_JSON: self._shown(action, contract.shows)}
            answers[200] = _response(200, {**content, **(_page() if has_page else {})})
        if not has_page:
            return _Said(answers, problems, refusals("not_acceptable"))
        if action.needs_login or action.for_strangers:
            answers[303] = _response(303, _page(), "A browser is sent to the login page, or on from it.")
        pages = {code: problem for code, problem in problems.items() if code != "authentication_required"}
        if action.opening_runs is not None and getattr(self._settings, action.opening_runs) and contract.throttled:
            pages |= refusals("rate_limited")
        return _Said(answers, problems, pages)

    def _shown(self, action: Action, shows: Schema) -> dict[str, Any]:
        if action.show is None:
            shows = "Form" if action.form is not None else {}
        if shows != "Form" or action.form is None:
            return _media(shows)
        password = {"min_length": self._settings.password_min_length}
        return {**_media("Form"), "example": {"fields": describe(action.form, self._meta), "password": password}}

    def _run(self, action: Action, contract: Contract) -> dict[str, Any]:
        body = self._body(action)
        security = _security(action, changes=True, may_want_cookie=body is not None and body.has("transport"))
        problems = {**_admission(action), **_READING}
        if any("csrf" in way for way in security):
            problems |= refusals("csrf_failed")
        if body is not None and body.has_members:
            problems |= refusals("validation_failed")
        if contract.throttled:
            problems |= refusals("rate_limited")
        problems |= {**contract.refusals, **_ANYWHERE}
        answers = {
            status: _response(status, {} if schema is None else {_JSON: _media(schema)})
            for status, schema in contract.answers.items()
        }
        said = _Said(answers, problems, {} if "html" in action.formats else refusals("not_acceptable"))
        operation = self._operation(action, action.name, _summary(action.run), said, security)
        if body is not None and body.has_members:
            content = {_JSON: {"schema": body.schema(), "example": body.example()}}
            operation["requestBody"] = {"required": body.is_required, "content": content}
        return operation

    def _body(self, action: Action) -> FormSchema | None:
        form_class = action.json_form if action.json_form is not None else action.form
        if form_class is None:
            return None
        fixed = [found["name"] for found in _ARGUMENT.finditer(action.rule)]
        return FormSchema(form_class, self._meta, fixed=fixed, longest=self._longest)

    def _longest(self, name: str) -> int | None:
        return self._services.store.accounts.longest(name) if name in self._services.host_fields else None

    def _operation(
        self, action: Action, name: str, summary: str, said: _Said, security: list[dict[str, list[str]]]
    ) -> dict[str, Any]:
        operation: dict[str, Any] = {
            "operationId": name,
            "summary": summary or name,
            "tags": [action.rule.split("/")[1]],
            "responses": self._all_responses(said),
        }
        parameters = [_parameter(found["name"], found["kind"]) for found in _ARGUMENT.finditer(action.rule)]
        if parameters:
            operation["parameters"] = parameters
        if security:
            operation["security"] = security
        return operation

    def _endpoint(self, name: str, schema: str, summary: str) -> dict[str, Any]:
        refused = refusals("not_acceptable")
        said = _Said({200: _response(200, {_JSON: _media(schema)})}, refused, refused)
        name = name.partition(".")[0]
        return {
            "operationId": f"{name}_show",
            "summary": summary,
            "tags": [name],
            "responses": self._all_responses(said),
        }

    def _all_responses(self, said: _Said) -> dict[str, Any]:
        found: dict[int, Any] = dict(said.answers)
        for status in {problem.status for problem in (*said.problems.values(), *said.pages.values())}:
            found[status] = self._refusal(status, _of(said.problems, status), _of(said.pages, status))
        return {str(status): found[status] for status in sorted(found)}

    def _refusal(self, status: int, problems: Mapping[str, Problem], pages: Mapping[str, Problem]) -> dict[str, str]:
        """Return a reference to the response that says no in these ways."""
        self._spoken |= problems.keys()
        name = ".".join([*problems, *(["page"] if pages else [])]) if problems else f"page.{'.'.join(pages)}"
        titles = {**problems, **pages}
        instance = f"{self._settings.url_prefix}/login"
        content: dict[str, Any] = {}
        if problems:
            examples = {code: {"value": problem_example(code, one, instance)} for code, one in problems.items()}
            content[_PROBLEM] = {"schema": problem_schema(problems, status), "examples": examples}
        if pages:
            content |= _page()
        description = ". ".join(f"`{code}`: {problem.title}".rstrip(".") for code, problem in titles.items())
        self._responses[name] = _response(status, content, f"{description}.")
        return {"$ref": f"#/components/responses/{name}"}


def _endpoints(services: Services) -> Iterator[tuple[str, str, str]]:
    """Yield the name, schema and summary of what is no action and answers everybody with one JSON document."""
    yield "csrf", "Csrf", "Return the token that goes with the session cookie."
    if services.access_tokens.public_keys:
        yield "jwks.json", "Jwks", "Return the keys that other services check access tokens with."
    yield "openapi.json", "OpenApi", "Return this description."


def _admission(action: Action) -> dict[str, Problem]:
    """Return how those are refused who may not use an action."""
    codes = [
        *(["authentication_required"] if action.needs_login else []),
        *(["forbidden"] if action.needs_admin else []),
    ]
    return dict(refusals(*codes))


def _security(action: Action, *, changes: bool, may_want_cookie: bool = False) -> list[dict[str, list[str]]]:
    """Return the ways to say who calls, each enough by itself; none where it does not matter."""
    bearer: dict[str, list[str]] = {"bearer": []}
    with_token: dict[str, list[str]] = {"cookie": [], "csrf": []}
    by_cookie = with_token if changes and action.uses_cookie else {"cookie": []}
    if action.needs_login:
        return [bearer, by_cookie]
    if changes and action.uses_cookie:
        return [{}, bearer, with_token]
    return [{}, with_token] if may_want_cookie else []


def _security_schemes() -> dict[str, Any]:
    return {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": current_app.config["SESSION_COOKIE_NAME"]},
        "csrf": {"type": "apiKey", "in": "header", "name": HEADER, "description": "The token of `GET /csrf`."},
    }


def _summary(flow: Any) -> str:
    """Return the first line of what a flow says about itself."""
    return (inspect.getdoc(flow) or "").partition("\n")[0]


def _parameter(name: str, kind: str | None) -> dict[str, Any]:
    schema = {"type": "integer"} if kind == "int" else {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _media(schema: Schema) -> dict[str, Any]:
    if not isinstance(schema, str):
        return {"schema": schema}
    if schema not in SCHEMAS:
        raise ValueError(
            f"There is no body called {schema!r}. Take one of {', '.join(sorted(SCHEMAS))}, or a JSON schema."
        )
    examples = SCHEMAS[schema].get("examples", [])
    media: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    if len(examples) == 1:
        return {**media, "example": examples[0]}
    return {**media, "examples": {one["status"]: {"value": one} for one in examples}} if examples else media


def _page() -> dict[str, Any]:
    return {_HTML: {"schema": {"type": "string"}}}


def _response(status: int, content: Mapping[str, Any], description: str | None = None) -> dict[str, Any]:
    names = ["Cache-Control", *([_HEADER_OF[status]] if status in _HEADER_OF else [])]
    response: dict[str, Any] = {
        "description": HTTPStatus(status).phrase if description is None else description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
    }
    return {**response, "content": content} if content else response


def _of(problems: Mapping[str, Problem], status: int) -> dict[str, Problem]:
    return {code: problem for code, problem in problems.items() if problem.status == status}


def _used(*parts: Any) -> dict[str, Any]:
    """Return the schemas that these parts of the document name, and those that they name in turn."""
    found: dict[str, Any] = {}
    waiting: Collection[str] = _SCHEMA_NAME.findall(json.dumps(parts))
    while waiting:
        new = {name: SCHEMAS[name] for name in waiting if name not in found}
        found |= new
        waiting = _SCHEMA_NAME.findall(json.dumps(new))
    return dict(sorted(found.items()))
