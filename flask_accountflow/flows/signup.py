"""Sign up: the same answer for every address."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from ..errors import HookCommitted, Refusal
from ..flow import Outcome, Services
from ..forms import TEXT_LIMIT, SignupForm, host_values, refused
from ..store.accounts import SIGNUP, Account
from .verify import queue


def show(services: Services, form: SignupForm) -> Outcome:
    """Show the form."""
    _require_open(services)
    return Outcome("form")


def run(services: Services, form: SignupForm) -> Outcome:
    """Keep the sign-up as an attempt, and mail the address how to confirm it, or that it has an account."""
    _require_open(services)
    services.throttle.reserve(mail_ip=services.visit.network)
    fields = _checked_fields(services, form)
    payload = {
        "password_hash": services.hasher.hash(form.password.text),
        "fields": fields,
        "next": form.next.data if form.next.data and len(form.next.data) <= TEXT_LIMIT else None,
        "nonce": services.visit.nonce if services.visit.nonce is not None else secrets.token_hex(16),
    }
    services.unit(lambda: _keep(services, form, payload))
    return Outcome(
        "verification_required", _answer(services, form), status=202, go="signup_sent", email=form.email.data
    )


def _checked_fields(services: Services, form: SignupForm) -> dict[str, Any]:
    """Return what the app's own fields hold, once nothing in the form breaks a rule or a column."""
    fields = host_values(form, services.host_fields)
    fault = services.policy.fault(form.password.text, email=form.email.data)
    found = [*([] if fault is None else [fault]), *services.store.accounts.misfits(fields)]
    if found:
        raise refused(form, found)
    return fields


def _require_open(services: Services) -> None:
    if not services.settings.signup_enabled:
        raise Refusal("signup_closed")


def _keep(services: Services, form: SignupForm, payload: Mapping[str, Any]) -> None:
    address, accounts, now = form.email.address, services.store.accounts, services.clock()
    account, holds_link = accounts.find_with_link(address.key, SIGNUP, now)
    if account is None:
        account = _create(services, form, payload)
    if account is None:  # another sign-up of this address was first
        account, holds_link = accounts.find_with_link(address.key, SIGNUP, now, lock=True)
    queue(services, address, account, payload, holds_link=holds_link, verified_template="already_registered")


def _create(services: Services, form: SignupForm, payload: Mapping[str, Any]) -> Account | None:
    """Insert an unverified account. It has no password of its own: its attempts have."""
    store = services.store
    values = {"locale": services.visit.locale, **store.accounts.typed(payload["fields"])}

    def hook(user: Any) -> None:
        session = store.units.session()
        before = session.get_nested_transaction()
        services.on_signup(user, form)
        if session.get_nested_transaction() is not before:
            raise HookCommitted

    account = store.accounts.create(form.email.address, services.clock(), values=values, hook=hook)
    if account is not None:
        services.announce("user_signed_up", user_id=str(account.id))
    return account


def _answer(services: Services, form: SignupForm) -> dict[str, Any]:
    return {
        "status": "verification_required",
        "activation_required": True,
        "email": form.email.address.email,
        "expires_in": services.settings.verify_max_age,
        "resend_after": services.settings.resend_after,
        "user_id": None,
        "activation_url": None,
        "access_token": None,
        "refresh_token": None,
    }
