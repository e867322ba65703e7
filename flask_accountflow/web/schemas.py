"""JSON schemas of the bodies that we answer with, each with an example.

``required`` is what is always there. Clients ignore what they do not know, so nothing is forbidden.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from ..errors import PROBLEMS, Problem
from ..store.sessions import API, BROWSER

_TEXT, _NUMBER, _FLAG = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
_TEXT_OR_NULL, _NUMBER_OR_NULL = {"type": ["string", "null"]}, {"type": ["integer", "null"]}
_MOMENT = {"type": "string", "format": "date-time"}
_ADDRESS = {"type": "string", "format": "email"}
_LINK = {"type": ["string", "null"], "format": "uri"}

_ID = "2f1c3c1e-8a64-4c55-9b0e-5d7a3e9c1b42"
_AT = "2026-11-21T08:30:00Z"
_EMAIL = "ada@example.com"


def _one_of(*values: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


def _object(example: Mapping[str, Any] | None, /, optional: Collection[str] = (), **properties: Any) -> dict[str, Any]:
    """Return the schema of an object. All its members are always there, but those of ``optional``."""
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    schema["required"] = [name for name in properties if name not in optional]
    return schema if example is None else {**schema, "examples": [example]}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


_USER = {"id": _ID, "email": _EMAIL, "email_verified": True, "is_admin": False, "created_at": _AT}
_PAIR = {
    "access_token": "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.c2lnbmF0dXJl",
    "token_type": "Bearer",
    "expires_in": 900,
    "refresh_token": "a-refresh-token.of-one-login",
    "refresh_expires_in": 2592000,
}
_SESSION = {**_PAIR, "user": _USER}
_SIGNUP = {
    "status": "verification_required",
    "activation_required": True,
    "email": _EMAIL,
    "expires_in": 86400,
    "resend_after": 60,
    "user_id": None,
    "activation_url": None,
    "access_token": None,
    "refresh_token": None,
}
_VERIFIED = {"status": "verified", "user": None, "next": None, "access_token": None, "refresh_token": None}
_PASSWORD = _object(None, min_length=_NUMBER)

#: What is there beside the members of every problem, by code.
_MORE: Mapping[str, tuple[str, Any]] = MappingProxyType(
    {
        "validation_failed": (
            "errors",
            [
                {
                    "pointer": "#/password",
                    "field": "password",
                    "code": "too_short",
                    "detail": "Use at least 12 characters.",
                    "params": {"min": 12},
                }
            ],
        ),
        "rate_limited": ("retry_after", 60),
        "busy": ("retry_after", 2),
        "email_unverified": ("resend_url", "/auth/verify/resend"),
    }
)

#: By name.
SCHEMAS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "Signup": _object(
            _SIGNUP,
            status=_one_of("verification_required", "verified"),
            activation_required=_FLAG,
            email=_ADDRESS,
            expires_in=_NUMBER,
            resend_after=_NUMBER,
            user_id=_TEXT_OR_NULL,
            activation_url=_LINK,
            access_token=_TEXT_OR_NULL,
            refresh_token=_TEXT_OR_NULL,
        ),
        "SignupSession": {
            "allOf": [_ref("Signup"), _ref("Session")],
            "examples": [{**_SIGNUP, **_SESSION, "status": "verified", "activation_required": False, "user_id": _ID}],
        },
        "Accepted": _object(
            {
                "status": "accepted",
                "resend_after": 60,
                "detail": "If an account matches, an email is on its way.",
                "activation_url": None,
                "reset_url": None,
            },
            status=_one_of("accepted"),
            resend_after=_NUMBER,
            detail=_TEXT,
            activation_url=_LINK,
            reset_url=_LINK,
        ),
        "Session": _object(
            _SESSION,
            access_token=_TEXT_OR_NULL,
            token_type=_one_of("Bearer"),
            expires_in=_NUMBER_OR_NULL,
            refresh_token=_TEXT_OR_NULL,
            refresh_expires_in=_NUMBER_OR_NULL,
            user=_ref("User"),
        ),
        "Verified": _object(
            _VERIFIED,
            optional=("token_type", "expires_in", "refresh_expires_in", "email_masked", "expires_at"),
            status=_one_of("verified", "already_verified", "discarded"),
            user=_or_null(_ref("User")),
            next=_TEXT_OR_NULL,
            access_token=_TEXT_OR_NULL,
            refresh_token=_TEXT_OR_NULL,
            token_type=_one_of("Bearer"),
            expires_in=_NUMBER_OR_NULL,
            refresh_expires_in=_NUMBER_OR_NULL,
            email_masked=_TEXT,
            expires_at=_MOMENT,
        ),
        "User": _object(_USER, id=_TEXT, email=_ADDRESS, email_verified=_FLAG, is_admin=_FLAG, created_at=_MOMENT),
        "NewUser": {
            "allOf": [_ref("User"), {"properties": {"activation_url": _LINK, "reset_url": _LINK}}],
            "examples": [{**_USER, "email_verified": False}],
        },
        "Sessions": _object(
            {
                "sessions": [
                    {
                        "id": _ID,
                        "kind": API,
                        "user_agent": "curl/8.5.0",
                        "ip": "192.0.2.7",
                        "created_at": _AT,
                        "last_seen_at": _AT,
                        "current": True,
                    }
                ]
            },
            sessions={
                "type": "array",
                "items": _object(
                    None,
                    id={"type": "string", "format": "uuid"},
                    kind=_one_of(BROWSER, API),
                    user_agent=_TEXT_OR_NULL,
                    ip=_TEXT_OR_NULL,
                    created_at=_MOMENT,
                    last_seen_at=_MOMENT,
                    current=_FLAG,
                ),
            },
        ),
        "Form": _object(
            {
                "fields": [
                    {"name": "email", "label": "Email", "type": "email"},
                    {"name": "password", "label": "Password", "type": "password"},
                ],
                "password": {"min_length": 12},
            },
            fields={
                "type": "array",
                "items": _object(
                    None,
                    name=_TEXT,
                    label=_TEXT,
                    type=_one_of("email", "password", "boolean", "number", "date", "string"),
                ),
            },
            password=_PASSWORD,
        ),
        "LinkState": {
            "anyOf": [
                _object(
                    None,
                    status=_one_of("pending"),
                    email_masked=_TEXT,
                    expires_at=_MOMENT,
                    password_required=_FLAG,
                ),
                {
                    "allOf": [_ref("Verified")],
                    "properties": {
                        "status": _one_of("already_verified"),
                        "email_masked": _TEXT,
                        "expires_at": _MOMENT,
                    },
                    "required": ["email_masked", "expires_at"],
                },
            ],
            "examples": [
                {"status": "pending", "email_masked": "a•••@e•••.com", "expires_at": _AT, "password_required": False},
                {**_VERIFIED, "status": "already_verified", "email_masked": "a•••@e•••.com", "expires_at": _AT},
            ],
        },
        "ResetState": _object(
            {"status": "valid", "expires_at": _AT, "password": {"min_length": 12}},
            status=_one_of("valid"),
            expires_at=_MOMENT,
            password=_PASSWORD,
        ),
        "EmailChange": _object(
            {
                "status": "accepted",
                "email": "ada@new.example",
                "expires_in": 86400,
                "resend_after": 60,
                "confirm_url": None,
            },
            status=_one_of("accepted"),
            email=_ADDRESS,
            expires_in=_NUMBER,
            resend_after=_NUMBER,
            confirm_url=_LINK,
        ),
        "EmailLinkState": _object(
            {"status": "valid", "email_masked": "a•••@n•••.example", "expires_at": _AT},
            status=_one_of("valid"),
            email_masked=_TEXT,
            expires_at=_MOMENT,
        ),
        "Reverted": _object({"status": "reverted"}, status=_one_of("reverted")),
        "PasswordChanged": _object({"status": "password_changed"}, status=_one_of("password_changed")),
        "TestMail": _object({"status": "accepted", "to": _EMAIL}, status=_one_of("accepted"), to=_ADDRESS),
        "Csrf": _object(
            {"csrf_token": "0f8e6d4c2b1a09f8e7d6c5b4a3928170", "header": "X-CSRF-Token"}, csrf_token=_TEXT, header=_TEXT
        ),
        "Jwks": _object(
            {
                "keys": [
                    {
                        "kty": "OKP",
                        "crv": "Ed25519",
                        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                        "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
                        "use": "sig",
                        "alg": "EdDSA",
                    }
                ]
            },
            keys={
                "type": "array",
                "items": {"type": "object", "properties": {"kty": _TEXT, "kid": _TEXT}, "required": ["kty", "kid"]},
            },
        ),
        "OpenApi": _object(None, openapi=_TEXT, info={"type": "object"}, paths={"type": "object"}),
        "Problem": _object(
            None,
            optional=("errors", "retry_after", "resend_url"),
            type=_TEXT,
            title=_TEXT,
            status=_NUMBER,
            code=_one_of(*PROBLEMS),
            detail=_TEXT,
            instance=_TEXT,
            errors={
                "type": "array",
                "items": _object(None, pointer=_TEXT, field=_TEXT, code=_TEXT, detail=_TEXT, params={"type": "object"}),
            },
            retry_after={"type": "integer", "minimum": 1},
            resend_url=_TEXT,
        ),
    }
)


def problem_schema(problems: Mapping[str, Problem], status: int) -> dict[str, Any]:
    """Return the schema of a problem with one of these codes."""
    always = {_MORE[code][0] if code in _MORE else "" for code in problems}
    schema: dict[str, Any] = {"properties": {"code": _one_of(*problems), "status": {"const": status}}}
    if len(always) == 1 and "" not in always:
        schema["required"] = [*always]
    return {"allOf": [_ref("Problem"), schema]}


def problem_example(code: str, problem: Problem, instance: str) -> dict[str, Any]:
    """Return a body that says no with this code."""
    body: dict[str, Any] = {
        "type": f"about:blank#{code}",
        "title": problem.title,
        "status": problem.status,
        "code": code,
        "detail": problem.detail,
        "instance": instance,
    }
    return body | dict([_MORE[code]] if code in _MORE else [])
