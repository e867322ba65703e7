"""What single pages show beside their flow's data: what this browser typed before, and words for times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import current_app, session, url_for

from .. import sessions
from ..flow import Services
from ..flows import change_email
from ..flows.sessions import devices
from .redirects import asked
from .spoken import spoken
from .words import device_in_words, in_words

Extra = Callable[[Services, Mapping[str, Any]], dict[str, Any]]


def _typed_email() -> str | None:
    return session.get(sessions.EMAIL)


def _link() -> str | None:
    """Return the link that was not mailed, once."""
    link: str | None = session.pop(sessions.LINK, None)
    return link


def _owner(services: Services, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return whose link this browser has just used, once; nothing where the page knows it, or nobody's was."""
    key = session.pop(sessions.OWNER, None)
    if key is None or data.get("user") is not None:
        return {}
    account = services.store.units.read(lambda: services.store.accounts.find(key), release=True)
    return {} if account is None else {"user": account}


def _signup_sent(services: Services, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "email": _typed_email(),
        "expires_in_text": in_words(services.settings.verify_max_age, exactly=True, language=spoken()),
        "sender": services.settings.mail_sender_name or services.settings.mail_sender or None,
        "unverified": asked("unverified") is not None,
        "uncertain": session.get(sessions.ASKED, False),
        "link": _link(),
    }


def _reset_sent(services: Services, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "email": _typed_email(),
        "new_link_url": url_for("accountflow.reset_request"),
        "link": _link(),
        "tells_strangers": services.settings.mail_unknown,
    }


def _reset_done(services: Services, data: Mapping[str, Any]) -> dict[str, Any]:
    return {"email": _typed_email(), **_owner(services, data)}


def _confirmed_email(data: Mapping[str, Any], status: str | None) -> str | None:
    """Return whose address the link was for; after a post that confirmed it stands where typed ones do."""
    if data.get("user") is not None:
        return str(data["user"].email)
    return _typed_email() if status == "verified" else data.get("email_masked")


def _verify_done(services: Services, data: Mapping[str, Any]) -> dict[str, Any]:
    status = data.get("status", asked("status"))
    return {
        "already": status == "already_verified",
        "discarded": status == "discarded",
        "email": _confirmed_email(data, status),
        **_owner(services, data),
    }


def _verify(services: Services, data: Mapping[str, Any]) -> dict[str, Any]:
    """Say who else is logged in here, since confirming will not switch."""
    found = sessions.current() if sessions.SID in session else None
    return {"other_user": None if found is None else found.user.email}


def _account(services: Services, data: Mapping[str, Any]) -> dict[str, Any]:
    """Say where the person is logged in, in words."""
    account = services.visit.account
    found = [] if account is None else devices(services, account)
    waiting = {} if account is None else change_email.pending(services, account)
    return {
        **waiting,
        "done": session.pop(sessions.DONE, None),
        "password_change_url": _address("password_change"),
        "email_change_url": _address("email_change"),
        "cancel_url": _address("email_change_cancel"),
        "end_others_url": url_for("accountflow.end_other_sessions"),
        "sessions": [
            {
                **one,
                "device": device_in_words(one["user_agent"], spoken()),
                "end_url": url_for("accountflow.end_session", id=one["id"]),
            }
            for one in found
        ],
    }


def _address(name: str) -> str | None:
    """Return the address of an action; None where the app has chosen its actions and left this one out."""
    return url_for(f"accountflow.{name}") if f"accountflow.{name}" in current_app.view_functions else None


def _email_change_sent(services: Services, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "change_url": url_for("accountflow.email_change"),
        "cancel_url": _address("email_change_cancel"),
        "sender": services.settings.mail_sender_name or services.settings.mail_sender or None,
        "link": _link(),
    }


def _email_done(services: Services, data: Mapping[str, Any]) -> dict[str, Any]:
    return {"reverted": asked("status") == "email_reverted", "email": _typed_email()}


#: By the name of the page.
EXTRAS: Mapping[str, Extra] = {
    "signup_sent": _signup_sent,
    "reset_sent": _reset_sent,
    "reset_done": _reset_done,
    "verify_done": _verify_done,
    "verify": _verify,
    "account": _account,
    "email_change_sent": _email_change_sent,
    "email_done": _email_done,
}
