"""Sign up: the same answer for every address."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from ..errors import HookCommitted, Refusal
from ..flow import Contract, Outcome, Services, SignIn, refusals
from ..forms import TEXT_LIMIT, SignupForm, host_values, refused
from ..settings import Settings
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
    if services.settings.auto_activate:
        return _run_at_once(services, form, fields)
    payload = {
        "password_hash": services.hash(form.password.text),
        "fields": fields,
        "next": form.next.data if form.next.data and len(form.next.data) <= TEXT_LIMIT else None,
        "nonce": services.visit.nonce if services.visit.nonce is not None else secrets.token_hex(16),
    }
    created, link = services.unit(lambda: _keep(services, form, payload))
    return _check_your_mail(services, form, created, link)


def _check_your_mail(services: Services, form: SignupForm, created: Account | None, link: str | None) -> Outcome:
    """Return the one answer to every sign-up; where links stand in answers, a new account has its own."""
    answer, status = _answer(services, form), 202
    shown = link if created is not None else None
    if created is not None and shown is not None:
        answer |= {"user_id": str(created.id), "activation_url": shown}
        status = 201
    page = {"link": shown}
    return Outcome("verification_required", answer, status=status, go="signup_sent", email=form.email.data, page=page)


def _run_at_once(services: Services, form: SignupForm, fields: Mapping[str, Any]) -> Outcome:
    """Confirm and log in without a mail, as AUTO_ACTIVATE wants it. A known address gets what it always gets."""
    password_hash = services.hash(form.password.text)
    sign_in = services.unit(lambda: _open_at_once(services, form, fields, password_hash))
    if sign_in is None:
        return _check_your_mail(services, form, None, None)
    answer = _answer(services, form) | {
        "status": "verified",
        "activation_required": False,
        "user_id": str(sign_in.account.id),
    }
    return Outcome("verified", answer, status=201, go="after_login", next=form.next.data, sign_in=sign_in)


def _open_at_once(services: Services, form: SignupForm, fields: Mapping[str, Any], password_hash: str) -> SignIn | None:
    now = services.clock()
    values = {
        "password_hash": password_hash,
        "password_changed_at": now,
        "email_verified_at": now,
        "last_login_at": now,
    }
    account = _create(services, form, fields, values)
    if account is None:
        return None
    services.announce("email_verified", user_id=str(account.id))
    return services.open_login(account, remember=services.settings.remember_default)


def _checked_fields(services: Services, form: SignupForm) -> dict[str, Any]:
    """Return what the app's own fields hold, once nothing in the form breaks a rule or a column."""
    fields = host_values(form, services.host_fields)
    fault = services.password_fault(form.password.text, email=form.email.data)
    found = [*([] if fault is None else [fault]), *services.store.accounts.misfits(fields)]
    if found:
        raise refused(form, found)
    return fields


def contract(settings: Settings) -> Contract:
    """Return what a sign-up answers: 201 only where nothing is mailed, and nothing at all while it is closed."""
    if not settings.signup_enabled:
        return Contract(shows=None, answers={}, refusals=refusals("signup_closed"))
    answers = {202: "Signup"}
    if settings.auto_activate:
        answers[201] = "SignupSession"
    elif settings.return_token_in_response:
        answers[201] = "Signup"
    return Contract(shows="Form", answers=answers, throttled=True)


def _require_open(services: Services) -> None:
    if not services.settings.signup_enabled:
        raise Refusal("signup_closed")


def _keep(services: Services, form: SignupForm, payload: Mapping[str, Any]) -> tuple[Account | None, str | None]:
    """Keep the attempt. Return the account if it is new, and the link if it is not to be mailed."""
    address, accounts, now = form.email.address, services.store.accounts, services.clock()
    account, holds_link = accounts.find_with_link(address.key, SIGNUP, now)
    created = None
    if account is not None:
        accounts.create_nothing()
    else:
        # It has no password of its own: its attempts have.
        account = created = _create(services, form, payload["fields"], {})
    if account is None:  # another sign-up of this address was first
        account, holds_link = accounts.find_with_link(address.key, SIGNUP, now, lock=True)
    link = queue(services, address, account, payload, holds_link=holds_link, verified_template="already_registered")
    return created, link


def _create(
    services: Services, form: SignupForm, fields: Mapping[str, Any], values: Mapping[str, Any]
) -> Account | None:
    """Insert an account; None when the address has one."""
    store = services.store
    values = {"locale": services.visit.locale, **store.accounts.typed(fields), **values}

    def hook(user: Any) -> None:
        session = store.units.session()
        before = session.get_nested_transaction() or session.get_transaction()
        services.on_signup(user, form)
        if (session.get_nested_transaction() or session.get_transaction()) is not before:
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
