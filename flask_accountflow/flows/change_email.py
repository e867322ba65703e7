"""Change one's address: asked for with the password, confirmed at the new address, undone from the old one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import FieldFault, Refusal
from ..flow import Outcome, Services
from ..forms import EmailChangeForm, LinkForm, refused
from ..identity import Address, mask
from ..messages import noted
from ..redeem import address_of, dead, open_link
from ..store.accounts import Account
from ..store.links import CHANGE, REDEEMED, Link
from ..store.outbox import Draft
from ..store.queue import REVERT
from . import reset
from .fresh import prove
from .me import user
from .verify import displace


def request(services: Services, form: EmailChangeForm) -> Outcome:
    """Mail a link to the new address, and a notice to the present one. The answer is the same for every address."""
    wanted = form.new_email.address
    if wanted.key == services.person().email_key:
        raise refused(form, [FieldFault("new_email", "same_as_old", noted("This is the email you have."))])
    services.throttle.reserve(mail_ip=services.visit.network)
    account = prove(services, form, form.current_password)
    link = services.unit(lambda: _ask(services, account, wanted))
    data = {
        "status": "accepted",
        "email": wanted.email,
        "expires_in": services.settings.change_email_max_age,
        "resend_after": services.settings.resend_after,
        "confirm_url": link,
    }
    return Outcome("email_change_requested", data, status=202, go="email_change_sent", page={"link": link})


def _ask(services: Services, account: Account, wanted: Address) -> str | None:
    """Queue both mails. Returns the link where it is not to be mailed."""
    # An address that was mistyped is a stranger's: the link that went there must not work any more.
    services.store.links.withdraw_changes(account, services.clock(), but=wanted.key)
    holder = services.store.accounts.find(wanted.key)
    link = services.post(
        Draft(
            wanted,
            account,
            "email_change",
            CHANGE,
            services.settings.change_email_max_age,
            refusal="taken" if holder is not None and holder.email_verified else None,
            locale=services.locale_of(account),
            context=services.mail_context(),
        )
    )
    services.announce("email_change_requested", user_id=str(account.id))
    services.notify(_notice(services, account, account, "email_change_notice", wanted.email))
    return link


def show_pending(services: Services, form: Any) -> Outcome:
    """Show which change of address waits for its confirmation."""
    return Outcome("pending", page=pending(services, services.person()))


def pending(services: Services, account: Account) -> dict[str, Any]:
    """Return what the owner may know of the change that was asked for last; it says nothing of other accounts."""
    now = services.clock()
    found = services.store.units.read(lambda: services.store.links.pending_change(account, now), release=True)
    return {
        "new_email": None if found is None else found.email,
        "new_email_expires_at": None if found is None else found.expires_at,
    }


def cancel(services: Services, form: Any) -> Outcome:
    """Let no change of address go on that was asked for. None is no error."""
    account = services.person()
    services.unit(lambda: services.store.links.withdraw_changes(account, services.clock()))
    return Outcome("email_change_canceled", status=204, go="me")


def show_confirm(services: Services, form: LinkForm) -> Outcome:
    """Say what the link would do. Nothing changes: mail scanners open every link."""
    return _show(services, form, CHANGE)


def show_revert(services: Services, form: LinkForm) -> Outcome:
    """Say what the link would undo. Nothing changes: mail scanners open every link."""
    return _show(services, form, REVERT)


def _show(services: Services, form: LinkForm, purpose: str) -> Outcome:
    link = open_link(services, purpose, form.token.text)
    if link.state(services.clock()) != "live" or link.sent_to is None:
        raise dead(services, link)
    data = {"status": "valid", "email_masked": mask(link.sent_to), "expires_at": link.expires_at}
    return Outcome("valid", data, page={"email": link.sent_to})


def confirm(services: Services, form: LinkForm) -> Outcome:
    """Give the account the address that the link was sent to, and end everything that was issued before."""
    changed = _use(services, form, CHANGE)
    return Outcome("email_changed", user(changed), go="email_done", email=changed.email)


def revert(services: Services, form: LinkForm) -> Outcome:
    """Give the account its old address back, and let nobody in before a new password was set from there."""
    changed = _use(services, form, REVERT)
    return Outcome("email_reverted", {"status": "reverted"}, go="email_done", email=changed.email)


def _use(services: Services, form: LinkForm, purpose: str) -> Account:
    reservation = services.throttle.reserve(token_ip=services.visit.network)
    link = open_link(services, purpose, form.token.text)
    account = link.account
    if account is None or link.sent_to is None or link.state(services.clock()) != "live":
        raise dead(services, link)
    address = Address(link.sent_to, link.email_key)
    redeem = _confirm if purpose == CHANGE else _revert
    changed = services.unit(lambda: redeem(services, link, account, address))
    if changed is None:
        raise dead(services, open_link(services, purpose, form.token.text))
    reservation.succeed()
    return changed


def _confirm(services: Services, link: Link, account: Account, address: Address) -> Account | None:
    changed = _redeem(services, link, account, address, {})
    if changed is None:
        return None
    services.announce("email_changed", user_id=str(changed.id))
    number = 1 + max(services.store.links.reverts(changed).values(), default=0)
    notice = _notice(services, changed, account, "email_changed", changed.email)
    max_age = services.settings.revert_max_age
    services.notify(replace(notice, purpose=REVERT, max_age=max_age, payload={"number": number}))
    return changed


def _revert(services: Services, link: Link, account: Account, address: Address) -> Account | None:
    # Whoever changed the address may know the password: there is none until the owner sets one.
    changed = _redeem(services, link, account, address, {"password_hash": None})
    if changed is None:
        return None
    numbers = services.store.links.reverts(changed)
    # Of several addresses the oldest wins: its owner's link outlives those of the addresses that came later.
    older = [row_id for row_id, number in numbers.items() if number < numbers[link.id]]
    services.store.links.displace(changed.id, services.clock(), keep=older)
    services.announce("email_reverted", user_id=str(changed.id))
    reset.queue(services, address)
    return changed


def _redeem(
    services: Services, link: Link, account: Account, address: Address, values: dict[str, Any]
) -> Account | None:
    """Use the link and move the account to the address; None when another request was first."""
    store, now = services.store, services.clock()
    if not store.links.use(link, now, REDEEMED):
        return None
    holder = store.accounts.find(address.key)
    # An account that never proved the address gives way to one that did.
    gives_way = holder is None or holder.id == account.id or (not holder.email_verified and displace(services, holder))
    changed = store.accounts.move(account, address, {"email_verified_at": now, **values}) if gives_way else None
    if changed is None:
        raise Refusal("token_superseded", data={"purpose": link.purpose, "email_masked": mask(address.email)})
    return changed


def _notice(services: Services, account: Account, to: Account, template: str, new_email: str) -> Draft:
    """Return the notice to the address that the account has, or had. Who reads it may be somebody else by now."""
    return Draft(
        address_of(to),
        account,
        template,
        locale=services.locale_of(account),
        context={**services.mail_context(), "new_email": mask(new_email)},
    )
