"""Set a new password by a mailed link."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from ..errors import Refusal
from ..flow import Contract, Outcome, Services, SignIn, refusals
from ..forms import AskForm, ResetForm, refused
from ..identity import Address
from ..redeem import address_of, dead, link_to_renew, open_link
from ..settings import Settings
from ..store.accounts import Account
from ..store.links import REDEEMED, Link
from ..store.outbox import Draft
from ..throttle import Reservation
from .verify import accepted

RESET = "reset"


def request(services: Services, form: AskForm) -> Outcome:
    """Mail a link to whom the address belongs. The answer is the same for every address and every link."""
    services.throttle.reserve(mail_ip=services.visit.network)
    if form.token.data:
        link = link_to_renew(services, RESET, form.token.text)
        address = address_of(link.account) if link is not None and link.account is not None else None
    else:
        address = form.email.address
    url = None
    if address is not None:
        wanted = address
        url = services.unit(lambda: queue(services, wanted))
    return accepted(services, form, go="reset_sent", reset_url=url)


def queue(services: Services, address: Address, *, template: str = "reset", max_age: int | None = None) -> str | None:
    """Queue a reset link; the same statements for every address. Returns the link where it is not to be mailed."""
    account, holds_link = services.store.accounts.find_with_link(address.key, RESET, services.clock())
    draft = Draft(
        address=address if account is None else address_of(account),
        account=account,
        template=template,
        purpose=RESET,
        max_age=services.settings.reset_max_age if max_age is None else max_age,
        holds_link=holds_link,
        locale=services.locale_of(account),
        context=services.mail_context(),
    )
    if account is None:
        draft = _to_nobody(services, draft)
    elif not account.is_active:
        draft = replace(draft, refusal="disabled")
    return services.post(draft)


def _to_nobody(services: Services, draft: Draft) -> Draft:
    """Return the draft for an address without an account: nothing, or where the site wants it a mail that says so."""
    if not services.settings.mail_unknown:
        return replace(draft, refusal="unknown")
    # The caps hold: there is no link that a stranger could be kept from.
    return replace(draft, template="no_account", carries_link=False, to_stranger=True, holds_link=True)


def show(services: Services, form: ResetForm) -> Outcome:
    """Show the form for a new password. Nothing changes: mail scanners open every link."""
    link = open_link(services, RESET, form.token.text)
    if link.state(services.clock()) != "live" or link.account is None:
        raise dead(services, link)
    data = {
        "status": "valid",
        "expires_at": link.expires_at,
        "password": {"min_length": services.settings.password_min_length},
    }
    return Outcome("valid", data, page={"email": link.account.email, "user": link.account})


def run(services: Services, form: ResetForm) -> Outcome:
    """Set the password and end everything that was issued before."""
    reservation = services.throttle.reserve(token_ip=services.visit.network)
    link = open_link(services, RESET, form.token.text)
    account = link.account
    if account is None or link.state(services.clock()) != "live":
        raise dead(services, link)
    password_hash = _hash(services, form, account, reservation)
    done = services.unit(lambda: _redeem(services, link, account, password_hash))
    if done is None:
        raise dead(services, open_link(services, RESET, form.token.text))
    reservation.succeed()
    services.throttle.clear(login=address_of(account).key)
    changed, sign_in = done
    data = {} if sign_in is not None else {"status": "password_changed"}
    page = {"user": changed}
    return Outcome("password_changed", data, go="reset_done", sign_in=sign_in, email=changed.email, page=page)


def _hash(services: Services, form: ResetForm, account: Account, reservation: Reservation) -> str:
    """Return the hash of the new password. Whatever is wrong with it, the link stays good."""
    try:
        fault = services.password_fault(form.password.text, email=account.email)
        if fault is not None:
            raise refused(form, [fault])
        return services.hash(form.password.text)
    except Refusal:
        reservation.give_back()
        raise


def _redeem(
    services: Services, link: Link, account: Account, password_hash: str
) -> tuple[Account, SignIn | None] | None:
    """Use the link and set the password; None when another request was first."""
    store, now = services.store, services.clock()
    if not store.links.use(link, now, REDEEMED):
        return None
    values: dict[str, Any] = {"password_hash": password_hash, "password_changed_at": now}
    if not account.email_verified:
        # The mailbox is proved; what an earlier sign-up left was perhaps a stranger's.
        values |= {"email_verified_at": now, **store.accounts.defaults(services.host_fields)}
    logs_in = _logs_in(services)
    if logs_in:
        values["last_login_at"] = now
    changed = store.accounts.change(account, values)
    if changed is None:
        raise Refusal("token_superseded", data={"purpose": RESET, "email_masked": None})
    if not account.email_verified:
        services.announce("email_verified", user_id=str(changed.id))
    services.announce("password_reset", user_id=str(changed.id))
    tell_owner(services, changed, "reset")
    sign_in = services.open_login(changed, remember=services.settings.remember_default) if logs_in else None
    return changed, sign_in


def tell_owner(services: Services, account: Account, how: Literal["reset", "settings"]) -> None:
    """Queue the notice of a new password, with how it was set."""
    context = {**services.mail_context(), "how": how}
    draft = Draft(address_of(account), account, "password_changed", locale=services.locale_of(account), context=context)
    services.notify(draft)


def _logs_in(services: Services) -> bool:
    rule = services.settings.login_on_reset
    return rule == "always" or (rule == "json" and services.visit.kind == "api")


def contract(settings: Settings) -> Contract:
    """Return what setting a password answers a program: a login, unless the settings say never."""
    return Contract(
        shows="ResetState",
        answers={200: "PasswordChanged" if settings.login_on_reset == "never" else "Session"},
        refusals=refusals("token_invalid", "token_expired", "token_used", "token_superseded"),
        throttled=True,
    )
