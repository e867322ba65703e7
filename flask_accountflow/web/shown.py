"""What a page shows: a refusal in words, the pages to go on to, and names for templates of the app's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import request, url_for
from werkzeug.local import LocalProxy
from wtforms import Form

from ..errors import FieldFault, Refusal
from ..flow import Services
from ..languages import Language
from ..sessions import current_user
from ..store.accounts import Account
from .redirects import asked, login_address, rooted
from .words import in_words

#: Where a person who was refused asks for another link, by the purpose of the refused one.
_RENEW = {"signup": "resend", "reset": "reset_request", "change": "email_change", "revert": "reset_request"}


@dataclass(frozen=True)
class ShownFault:
    """A faulty field as a page shows it."""

    field: str
    id: str
    detail: str


@dataclass(frozen=True)
class ShownProblem:
    """A refusal as a page shows it."""

    code: str
    title: str
    detail: str
    errors: tuple[ShownFault, ...] = ()


def shown_problem(refusal: Refusal, form: Form | None, language: Language) -> ShownProblem:
    """Return a refusal in words for a page."""
    detail = language.say(refusal.detail)
    if "retry_after" in refusal.extra:
        time = in_words(refusal.extra["retry_after"], language=language)
        detail = language.gettext("Nothing was changed. Try again in %(time)s.") % {"time": time}
    if refusal.data.get("cookies_missing"):
        detail += " " + language.gettext("If you see this again, allow cookies for this site.")
    faults = tuple(_shown_fault(fault, form, language) for fault in refusal.fields)
    return ShownProblem(refusal.code, language.say(refusal.title), detail, faults)


def _shown_fault(fault: FieldFault, form: Form | None, language: Language) -> ShownFault:
    id = form[fault.field].id if form is not None and fault.field in form else ""
    return ShownFault(fault.field, id, language.say(fault.detail))


def way_on(refusal: Refusal, language: Language) -> dict[str, Any]:
    """Return what the page of a refusal needs to offer a way on."""
    data: dict[str, Any] = {"email_masked": None, "expires_at": None, "used_at": None, "verified": False}
    data |= refusal.data
    if "purpose" in refusal.data:
        data["new_link_url"] = url_for(f"accountflow.{_RENEW[refusal.data['purpose']]}")
        data["token"] = (request.view_args or {}).get("token")
    if "retry_after" in refusal.extra:
        data |= {
            "retry_after": refusal.extra["retry_after"],
            "retry_text": in_words(refusal.extra["retry_after"], language=language),
        }
    return data


def plain_names(
    data: Mapping[str, Any],
    links: Mapping[str, str | None],
    refusal: Refusal | None,
    services: Services,
    language: Language,
) -> dict[str, Any]:
    """Return what is at hand under plain names on every page, for templates of the app's own."""
    return {
        "user": _entity(services, data["user"]) if data.get("user") is not None else current_user,
        "expires_at": data.get("expires_at"),
        "login_url": links["login"],
        "form_action": request.script_root + request.path,
        "min_length": services.settings.password_min_length,
        "reason": None if refusal is None else language.say(refusal.title),
        "error": language.say(refusal.fields[0].detail) if refusal is not None and refusal.fields else None,
    }


def _entity(services: Services, account: Account) -> Any:
    """Return the app's own user, who is looked up only where a template asks."""
    return LocalProxy(lambda: services.store.accounts.entity(account))


def links(services: Services, wanted: str | None) -> dict[str, str | None]:
    """Return the addresses of the pages that pages lead to. ``wanted`` is where the visitor wanted to go."""
    settings = services.settings
    return {
        "login": None if settings.login_url == "" else login_address(settings, wanted),
        "signup": url_for("accountflow.signup", next=wanted) if settings.signup_enabled else None,
        "signup_sent": url_for("accountflow.signup_sent"),
        "resend": url_for("accountflow.resend", next=wanted),
        "reset_request": url_for("accountflow.reset_request", next=wanted),
        "logout": url_for("accountflow.logout"),
        "me": url_for("accountflow.me"),
        "after_login": rooted(settings.after_login),
    }


def asked_next(form: Form | None) -> str | None:
    """Return the ``next`` of the form, or of the address. Not ``request.values``: the body may be too large to read."""
    posted = form["next"].data if form is not None and "next" in form else None
    return posted or asked("next")
