"""Holding real answers against the description of the API."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from support import Site

JSON = {"application/json", "application/problem+json"}


class Described:
    """The description of a site's API, as a client fetches it."""

    def __init__(self, site: Site) -> None:
        prefix = site.app.config.get("ACCOUNTFLOW_URL_PREFIX", "/auth")
        self.document: dict[str, Any] = site.program().get(f"{prefix}/openapi.json").json
        self._prefix = prefix
        self._components = self.document["components"]

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield method, path and operation."""
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                yield method.upper(), path, operation

    def by_id(self, name: str) -> tuple[str, str, dict[str, Any]]:
        """Return method, path and operation of this ``operationId``."""
        return next(found for found in self.operations() if found[2]["operationId"] == name)

    def response(self, operation: Mapping[str, Any], status: int) -> dict[str, Any] | None:
        """Return what an operation may answer with this status."""
        found = operation["responses"].get(str(status))
        return None if found is None else self.resolved(found)

    def resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        """Return what a reference refers to."""
        while "$ref" in node:
            _, kind, name = node["$ref"].removeprefix("#/").split("/")
            node = self._components[kind][name]
        return node

    def codes(self, operation: Mapping[str, Any]) -> dict[str, int]:
        """Return the problem codes that an operation may answer, with their HTTP statuses."""
        return {
            code: int(status)
            for status in operation["responses"]
            for code in self._codes(self.response(operation, int(status)) or {})
        }

    def general_codes(self) -> set[str]:
        """Return the codes of all responses that are described, also of those that belong to no operation."""
        return {code for response in self._components["responses"].values() for code in self._codes(response)}

    @staticmethod
    def _codes(response: Mapping[str, Any]) -> list[str]:
        content = response.get("content", {}).get("application/problem+json")
        return [] if content is None else list(content["schema"]["allOf"][1]["properties"]["code"]["enum"])

    def faults(self, schema: Mapping[str, Any], value: Any) -> list[str]:
        """Return what is wrong with a value by a schema of the document."""
        validator = Draft202012Validator({**schema, "components": self._components}, format_checker=FormatChecker())
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]

    def check(self, answer: Any) -> Any:
        """Return an answer that is as described; its status, type, headers and body."""
        method, path = answer.request.method, answer.request.path.removeprefix(self._prefix)
        operation = self._find("GET" if method == "HEAD" else method, path)
        assert operation is not None, f"{method} {path} is not described"
        response = self.response(operation, answer.status_code)
        said = f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        assert response is not None, f"undocumented status: {said}"
        assert set(response["headers"]) <= set(answer.headers.keys()), said
        if "content" not in response:
            assert answer.data == b"", said
        else:
            assert answer.mimetype in response["content"], f"undocumented type {answer.mimetype}: {said}"
            if answer.mimetype in JSON and method != "HEAD":
                assert self.faults(response["content"][answer.mimetype]["schema"], answer.json) == [], said
        return answer

    def _find(self, method: str, path: str) -> dict[str, Any] | None:
        """Return the operation that a path belongs to; one without arguments goes before one with."""
        found = [
            (template.count("{"), operation)
            for verb, template, operation in self.operations()
            if verb == method and re.fullmatch(re.sub(r"\{\w+\}", "(?s:.+)", template), path)
        ]
        return min(found, key=lambda one: one[0])[1] if found else None
