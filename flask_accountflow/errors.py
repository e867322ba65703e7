"""Every deliberate exception.

.. code-block:: text

    AccountFlowError
    ├── ConfigError          for operators: every fault of a configuration at once
    ├── Refusal              for visitors: what a JSON or HTML answer says
    ├── InvalidToken         a link or token that is not ours
    ├── HookCommitted        for programmers: a hook ended our unit of work
    └── MailFault
        ├── MailRejected     the server will never take this mail
        └── MailDeferred     try again later
            └── MailUnsure   it may have arrived
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .messages import noted


class AccountFlowError(Exception):
    """Base of every exception this package raises on purpose."""


class ConfigError(AccountFlowError, ValueError):
    """The configuration cannot be used; the message lists every fault."""

    def __init__(self, problems: Iterable[str]) -> None:
        #: One sentence per fault: what is wrong and what to set.
        self.problems: tuple[str, ...] = tuple(problems)
        listed = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"flask-accountflow cannot start with this configuration:\n{listed}")


class InvalidToken(AccountFlowError):
    """The text is not a link or token that this application signed for this purpose."""


class HookCommitted(AccountFlowError):
    """``on_signup`` ended the unit of work that it runs in."""

    def __init__(self) -> None:
        super().__init__(
            "on_signup committed or rolled back the session. Remove the commit: "
            "the account and what the hook adds are committed together afterwards."
        )


class MailFault(AccountFlowError):
    """A mail was not handed over; the message is the reason, without address or link."""


class MailRejected(MailFault):
    """The server refused the mail for good (an SMTP 5xx answer)."""


class MailDeferred(MailFault):
    """The mail could not be handed over now (SMTP 4xx, time-out, connection or TLS fault)."""


class MailUnsure(MailDeferred):
    """The server has the whole mail and has not said in time what becomes of it: it may arrive."""


@dataclass(frozen=True)
class Problem:
    """One row of the closed list of problem codes."""

    status: int
    title: str
    detail: str


#: What ``token_invalid`` means for a bearer or refresh token.
BAD_TOKEN = Problem(401, noted("This token doesn't work"), noted("Log in again."))

#: The closed list of problem codes: the single source of HTTP status and text (RFC 9457).
PROBLEMS: Mapping[str, Problem] = MappingProxyType(
    {
        "validation_failed": Problem(422, noted("Some fields need attention"), noted("Check the highlighted fields.")),
        "malformed_body": Problem(400, noted("The request could not be read"), noted("Send one JSON object in UTF-8.")),
        "unsupported_media_type": Problem(
            415, noted("This kind of body is not supported"), noted("Send Content-Type: application/json.")
        ),
        "not_acceptable": Problem(
            406, noted("Not available in this format"), noted("Ask for the other format with Accept.")
        ),
        "invalid_credentials": Problem(
            401, noted("Email or password isn't right."), noted("Check both and try again.")
        ),
        "authentication_required": Problem(401, noted("Log in first"), noted("This needs you to be logged in.")),
        "fresh_login_required": Problem(401, noted("Enter your password again"), noted("This needs a recent login.")),
        "token_invalid": Problem(
            400,
            noted("This link doesn't work"),
            noted("It may have been cut off. Copy the whole address, or get a new one."),
        ),
        "token_expired": Problem(410, noted("This link has expired"), noted("Ask for a new one.")),
        "token_used": Problem(410, noted("This link has been used"), noted("Each link works once. Ask for a new one.")),
        "token_superseded": Problem(
            410,
            noted("This link is no longer needed"),
            noted("The account has changed since it was sent. Ask for a new one."),
        ),
        "email_unverified": Problem(
            403, noted("Confirm your email first"), noted("Open the link we mailed you, or ask for a new one.")
        ),
        "account_disabled": Problem(
            403, noted("This account is disabled"), noted("Contact support to have it enabled.")
        ),
        "forbidden": Problem(403, noted("You may not do this"), noted("This needs an account with more rights.")),
        "signup_closed": Problem(403, noted("Sign-up is closed"), noted("New accounts are not being created here.")),
        "csrf_failed": Problem(
            403,
            noted("Please send it again"),
            noted("This page was open for a long time. Nothing was changed – please send it again."),
        ),
        "cross_origin_blocked": Problem(
            403,
            noted("This request came from another site"),
            noted("Nothing was changed. Open the page here and try again."),
        ),
        "email_taken": Problem(409, noted("This email already has an account"), noted("Use another address.")),
        "rate_limited": Problem(429, noted("Too many tries"), noted("Wait a little, then try again.")),
        "not_found": Problem(404, noted("There is no such page"), noted("Check the address.")),
        "method_not_allowed": Problem(405, noted("This method is not allowed here"), noted("See the Allow header.")),
        "payload_too_large": Problem(413, noted("The request is too large"), noted("Send less.")),
        "busy": Problem(503, noted("We are busy"), noted("Nothing was changed. Try again in a moment.")),
        "internal_error": Problem(500, noted("Something went wrong"), noted("It has been noted. Try again later.")),
    }
)


@dataclass(frozen=True)
class FieldFault:
    """What is wrong with one field of a form, for people (``detail``) and for programs (``code``)."""

    field: str
    code: str
    detail: str
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Refusal(AccountFlowError):
    """A flow says no. ``code`` is a key of :data:`PROBLEMS`.

    ``fields`` are the faulty fields of a form; ``extra`` are further members of the JSON answer
    (``retry_after`` in seconds, ``resend_url``); ``data`` is what a page needs to offer a way on;
    ``go`` is the endpoint that a browser is sent to instead.
    ``status`` differs from the list's only where the same code means another HTTP status
    (``token_invalid`` is 401 for bearer and refresh tokens), and ``text`` where it means other words.
    """

    def __init__(
        self,
        code: str,
        *,
        fields: Iterable[FieldFault] = (),
        status: int | None = None,
        extra: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        go: str | None = None,
        text: Problem | None = None,
    ) -> None:
        problem = text if text is not None else PROBLEMS[code]
        super().__init__(problem.title)
        self.code = code
        self.status = problem.status if status is None else status
        self.title = problem.title
        self.detail = problem.detail
        self.fields: tuple[FieldFault, ...] = tuple(fields)
        self.extra: Mapping[str, Any] = MappingProxyType(dict(extra) if extra is not None else {})
        self.data: Mapping[str, Any] = MappingProxyType(dict(data) if data is not None else {})
        self.go = go
