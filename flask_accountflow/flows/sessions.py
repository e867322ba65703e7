"""Where one is logged in: look at it, and end it."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from ..errors import Problem, Refusal
from ..flow import Outcome, Services
from ..forms import DeviceForm
from ..messages import noted
from ..store.accounts import Account

#: What naming a login that is not one's own comes to.
NO_LOGIN = Problem(404, noted("There is no such login"), noted("It may have ended already."))


def show(services: Services, form: Any) -> Outcome:
    """Return the living logins of this account, the one used last first."""
    return Outcome("sessions", {"sessions": devices(services, services.person())})


def devices(services: Services, account: Account) -> list[dict[str, Any]]:
    """Return what an owner may know of his logins."""
    now, idle = services.clock(), timedelta(seconds=services.settings.session_idle_max_age)
    found = services.store.units.read(lambda: services.store.sessions.living(account, now), release=True)
    return [
        {
            "id": str(device.login.id),
            "kind": device.login.kind,
            "user_agent": device.user_agent,
            "ip": device.ip,
            "created_at": device.login.created_at,
            "last_seen_at": device.login.last_seen_at,
            "current": device.login.id == services.visit.login_id,
        }
        for device in found
        if not device.login.is_idle(now, idle)
    ]


def end(services: Services, form: DeviceForm) -> Outcome:
    """End one login, be it the one of this visit."""
    account, login_id = services.person(), _id(form)
    if not services.unit(lambda: _end(services, account, login_id)):
        raise Refusal("not_found", text=NO_LOGIN)
    is_own = login_id == services.visit.login_id
    return Outcome("session_ended", status=204, go="after_logout" if is_own else "me", signed_out=is_own)


def end_listed(services: Services, form: DeviceForm) -> Outcome:
    """End one login by its button. One that is over, as at the second click, was to be over."""
    try:
        return end(services, form)
    except Refusal as refusal:
        if refusal.code != "not_found":
            raise
        return Outcome("session_ended", go="me")


def end_others(services: Services, form: Any) -> Outcome:
    """End every login but the one of this visit."""
    account = services.person()
    services.unit(lambda: _end_others(services, account))
    return Outcome("sessions_ended", status=204, go="me")


def _end(services: Services, account: Account, login_id: uuid.UUID) -> bool:
    ended = services.store.sessions.revoke_of(account.id, login_id, services.clock())
    if ended:
        services.announce("sessions_revoked", user_id=str(account.id))
    return ended


def _end_others(services: Services, account: Account) -> None:
    if services.store.sessions.revoke_all(account.id, services.clock(), keep=services.visit.login_id):
        services.announce("sessions_revoked", user_id=str(account.id))


def _id(form: DeviceForm) -> uuid.UUID:
    try:
        return uuid.UUID(form.id.text)
    except ValueError:
        raise Refusal("not_found", text=NO_LOGIN) from None
