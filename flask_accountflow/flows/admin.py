"""What an operator does to accounts."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from ..errors import FieldFault, Problem, Refusal
from ..flow import Outcome, Services
from ..forms import AccountForm, CreateUserForm, TestMailForm, check, refused
from ..identity import Address
from ..messages import noted
from ..redeem import address_of
from ..store.accounts import SIGNUP, Account
from ..store.outbox import Draft
from . import reset, verify
from .me import user

_NO_ACCOUNT = Problem(404, noted("No account has this address"), noted("Check the address."))


def create_user(services: Services, form: CreateUserForm) -> Outcome:
    """Create an account, verified or not. Without a password it is mailed a link to set one."""
    password = form.password.text
    if password:
        fault = services.password_fault(password, email=form.email.data)
        if fault is not None:
            raise refused(form, [fault])
    password_hash = services.hash(password) if password else None
    account, links = services.unit(lambda: _create(services, form, password_hash))
    return Outcome("user_created", {**user(account), **links}, status=201)


def _create(
    services: Services, form: CreateUserForm, password_hash: str | None
) -> tuple[Account, dict[str, str | None]]:
    """Return the account, and its links where they are not to be mailed."""
    address, now, store = form.email.address, services.clock(), services.store
    holder = store.accounts.find(address.key)
    # An account that never proved the address gives way to one that did.
    gives_way = holder is None or (
        not holder.email_verified and form.email_verified.data and verify.displace(services, holder)
    )
    if not gives_way:
        raise Refusal(
            "email_taken", fields=[FieldFault("email", "invalid", noted("This email already has an account."))]
        )
    values: dict[str, Any] = {"password_hash": password_hash, "is_admin": form.is_admin.data}
    if form.email_verified.data:
        values["email_verified_at"] = now
    account = store.accounts.create(address, now, values=values)
    if account is None:
        raise Refusal("email_taken")
    services.announce("user_signed_up", user_id=str(account.id))
    links = {}
    if password_hash is None:
        if not account.email_verified:
            _keep_invitation(services, account)
        max_age = services.settings.verify_max_age
        links["reset_url"] = reset.queue(services, address, template="set_password", max_age=max_age)
    elif not account.email_verified:
        links["activation_url"] = verify.queue_again(services, address)
    return account, links if services.settings.return_token_in_response else {}


def first_admin(services: Services, form: CreateUserForm) -> Outcome | None:
    """Create an administrator unless there is one; None when there is, and then nobody looks at the form.

    An account whose address is proved is made one, and keeps its password.
    """
    if _has_admin(services):
        return None
    check(form)
    form.is_admin.data = form.email_verified.data = True
    try:
        return create_user(services, form)
    except Refusal as refusal:
        if refusal.code != "email_taken":
            raise
    # Perhaps by another process that starts now. A change would end the link that it has mailed.
    return None if _has_admin(services) else _change(services, form.email.address, _promoted)


def _has_admin(services: Services) -> bool:
    return services.store.units.read(services.store.accounts.any_admin, release=True)


def _promoted(account: Account) -> dict[str, Any]:
    if not account.is_active:
        raise Refusal("account_disabled")
    return {"is_admin": True}


def send_test_mail(services: Services, form: TestMailForm) -> Outcome:
    """Mail anybody a line that says that mail works. Only operators get here."""
    services.throttle.reserve(mail_ip=services.visit.network)
    draft = Draft(form.to.address, None, "test", by_operator=True, context=services.mail_context())
    services.unit(lambda: services.notify(draft))
    return Outcome("accepted", {"status": "accepted", "to": form.to.address.email}, status=202)


def _keep_invitation(services: Services, account: Account) -> None:
    """Write a sign-up without a password, so that a stranger's later one competes and asks for the owner's."""
    address, max_age = address_of(account), services.settings.verify_max_age
    payload = {"nonce": secrets.token_hex(16)}
    # Not mailed: the link that sets a password is the invitation.
    services.post(Draft(address, account, "verify", SIGNUP, max_age, payload, refusal="duplicate"))


def verify_user(services: Services, form: AccountForm) -> Outcome:
    """Take an address as proved."""
    return _change(services, form.email.address, lambda account: {"email_verified_at": services.clock()})


def disable_user(services: Services, form: AccountForm) -> Outcome:
    """Disable an account: all its logins and links end at once."""
    return _change(services, form.email.address, lambda account: {"is_active": False})


def enable_user(services: Services, form: AccountForm) -> Outcome:
    """Enable an account that was disabled; what ended then stays ended."""
    return _change(services, form.email.address, lambda account: {"is_active": True})


def _change(services: Services, address: Address, values: Callable[[Account], dict[str, Any]]) -> Outcome:
    """Change an account. What changed it meanwhile does not win: the operator's word is read and tried again."""
    for _ in range(10):
        changed = services.unit(lambda: _change_once(services, address, values))
        if changed is not None:
            return Outcome("changed", user(changed))
    raise Refusal("busy", extra={"retry_after": 1})


def _change_once(services: Services, address: Address, values: Callable[[Account], dict[str, Any]]) -> Account | None:
    account = services.store.accounts.find(address.key)
    if account is None:
        raise Refusal("not_found", text=_NO_ACCOUNT)
    changed = services.store.accounts.change(account, values(account))
    if changed is not None:
        if changed.email_verified and not account.email_verified:
            services.announce("email_verified", user_id=str(changed.id))
        services.announce("sessions_revoked", user_id=str(changed.id))
    return changed


def revoke_sessions(services: Services, form: AccountForm) -> Outcome:
    """End every login and link of an account."""
    return _change(services, form.email.address, lambda account: {})


def revoke_everybody(services: Services) -> Outcome:
    """End every login of the site. Links in mails stay good: nobody holds them but the owners of the mailboxes."""
    count = services.unit(lambda: services.store.sessions.revoke_everybody(services.clock()))
    services.tell("sessions_revoked", user_id=None)
    return Outcome("sessions_revoked", {"count": count})
