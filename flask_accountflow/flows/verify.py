"""Confirm an address by the mailed link, and ask for another link."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import FieldFault, Refusal
from ..flow import Outcome, Services, SignIn
from ..forms import AskForm, VerifyForm, refused
from ..identity import Address, mask
from ..messages import noted
from ..redeem import address_of, dead, link_to_renew, open_link
from ..store.accounts import SIGNUP, Account
from ..store.links import DISCARDED, REDEEMED, Link
from ..store.outbox import Draft


def show(services: Services, form: VerifyForm) -> Outcome:
    """Say what the link would do. Nothing changes: mail scanners open every link."""
    link = open_link(services, SIGNUP, form.token.text)
    state = link.state(services.clock())
    if state == "used":
        return _already(link)
    if state != "live":
        raise dead(services, link)
    data = {
        "status": "pending",
        "email_masked": mask(link.sent_to or ""),
        "expires_at": link.expires_at,
        "password_required": _needs_password(services, link),
    }
    # A password manager must see whose password is being chosen.
    return Outcome("pending", data, page={"email": link.sent_to})


def run(services: Services, form: VerifyForm) -> Outcome:
    """Confirm the address that the link was sent to."""
    reservation = services.throttle.reserve(token_ip=services.visit.network)
    link = open_link(services, SIGNUP, form.token.text)
    try:
        outcome = _run(services, form, link)
    except Refusal as refusal:
        if refusal.code in {"validation_failed", "busy"}:
            reservation.give_back()
        raise
    reservation.succeed()
    return outcome


def show_once(services: Services, form: VerifyForm) -> Outcome:
    """Say what the link would do, but refuse one that was used, as the tempest SDK does."""
    return _once(services, form, show(services, form))


def run_once(services: Services, form: VerifyForm) -> Outcome:
    """Confirm the address, but refuse a link that was used, as the tempest SDK does."""
    return _once(services, form, run(services, form))


def _once(services: Services, form: VerifyForm, outcome: Outcome) -> Outcome:
    if outcome.code == "already_verified":
        raise dead(services, open_link(services, SIGNUP, form.token.text))
    return outcome


def _run(services: Services, form: VerifyForm, link: Link) -> Outcome:
    state = link.state(services.clock())
    if state == "used":
        return _already(link)
    if state != "live" or link.account is None:
        raise dead(services, link)
    if form.discard.data:
        services.unit(lambda: services.store.links.use(link, services.clock(), DISCARDED))
        return Outcome("discarded", _verified("discarded"), go="verify_done", template="verify_done")
    password_hash = _chosen_password(services, form, link)
    account = link.account
    done = services.unit(lambda: _redeem(services, link, account, password_hash))
    if done is None:
        link = open_link(services, SIGNUP, form.token.text)
        if link.state(services.clock()) == "used":
            return _already(link)
        raise dead(services, link)
    proved, sign_in = done
    return Outcome(
        "verified",
        _verified("verified", next_page=link.payload.get("next")),
        go="after_login" if sign_in is not None else "verify_done",
        template="verify_done",
        next=link.payload.get("next"),
        sign_in=sign_in,
        email=proved.email,
        page={"user": proved},
    )


def _redeem(
    services: Services, link: Link, account: Account, password_hash: str | None
) -> tuple[Account, SignIn | None] | None:
    """Use the link and make its sign-up the account's; None when another request was first."""
    store, now = services.store, services.clock()
    if not store.links.use(link, now, REDEEMED):
        return None
    values: dict[str, Any] = {"email_verified_at": now, **store.accounts.typed(link.payload.get("fields") or {})}
    kept = password_hash if password_hash is not None else link.payload.get("password_hash")
    if kept is not None:
        values |= {"password_hash": kept, "password_changed_at": now}
    logs_in = _may_log_in(services, link, chose_password=password_hash is not None)
    if logs_in:
        values["last_login_at"] = now
    proved = store.accounts.change(account, values)
    if proved is None:
        raise dead(services, replace(link, stamp=None))
    if link.rivals:
        _settle_copies(services, link)
    services.announce("email_verified", user_id=str(proved.id))
    sign_in = services.open_login(proved, remember=services.settings.remember_default) if logs_in else None
    return proved, sign_in


def displace(services: Services, holder: Account) -> bool:
    """Take the address from an account that never proved it. False when it has just been changed."""
    services.store.links.displace(holder.id, services.clock())
    return services.store.accounts.change(holder, {"email_key": None, "is_admin": False}) is not None


def _settle_copies(services: Services, link: Link) -> None:
    """Take the other mails of this sign-up as redeemed, so that none of them is a pending sign-up any more."""
    rivals = services.store.links.rivals(link, services.since(services.settings.unverified_max_age))
    copies = [row_id for row_id, nonce in rivals.items() if nonce == link.payload.get("nonce")]
    if copies:
        services.store.links.settle(copies, services.clock())


def _may_log_in(services: Services, link: Link, *, chose_password: bool) -> bool:
    """Tell whether confirming also logs in: never in a browser that somebody else may have sent here."""
    rule, visit = services.settings.login_on_verify, services.visit
    if rule == "never" or visit.login_id is not None:
        return False
    return rule == "always" or _same_browser(services, link) or (chose_password and visit.kind == "api")


def _same_browser(services: Services, link: Link) -> bool:
    nonce = services.visit.nonce
    return nonce is not None and secrets.compare_digest(nonce, str(link.payload.get("nonce")))


def _needs_password(services: Services, link: Link) -> bool:
    """Tell whether the sign-up may be a stranger's: others compete with it, and this is not its own browser."""
    if _same_browser(services, link):
        return False
    if _replaces_an_operators(link):
        return True
    if not link.rivals:
        return False
    since = services.since(services.settings.unverified_max_age)
    rivals = services.store.units.read(lambda: services.store.links.rivals(link, since))
    return set(rivals.values()) != {link.payload.get("nonce")}


def _replaces_an_operators(link: Link) -> bool:
    """Tell whether the account has a password or rights that no sign-up gives; they must not fall to one."""
    account = link.account
    is_given = account is not None and (account.is_admin or account.password_hash is not None)
    return is_given and link.payload.get("password_hash") is not None


def _chosen_password(services: Services, form: VerifyForm, link: Link) -> str | None:
    """Return the hash of the password in the form; None when there is none and none is needed."""
    password = form.password.text
    if not password:
        if _needs_password(services, link):
            raise refused(form, [FieldFault("password", "required", noted("Choose your password."))])
        return None
    fault = services.password_fault(password, email=link.sent_to)
    if fault is not None:
        raise refused(form, [fault])
    return services.hash(password)


def _already(link: Link) -> Outcome:
    """Return the answer to a link that did its work: opening it again is no error."""
    data = {**_verified("already_verified"), "email_masked": mask(link.sent_to or ""), "expires_at": link.expires_at}
    return Outcome("already_verified", data, go="verify_done", template="verify_done")


def _verified(status: str, *, next_page: str | None = None) -> dict[str, Any]:
    return {"status": status, "user": None, "next": next_page, "access_token": None, "refresh_token": None}


def resend(services: Services, form: AskForm) -> Outcome:
    """Mail another link. The answer is the same for every address and every link."""
    services.throttle.reserve(mail_ip=services.visit.network)
    address, payload = None, None
    if form.token.data:
        link = link_to_renew(services, SIGNUP, form.token.text)
        if link is not None and link.account is not None:
            address, payload = address_of(link.account), link.payload
    else:
        address = form.email.address
    url = None
    if address is not None:
        wanted = address
        url = services.unit(lambda: queue_again(services, wanted, copy=payload))
    return accepted(services, form, go="signup_sent", activation_url=url)


def accepted(
    services: Services, form: AskForm, *, go: str, activation_url: str | None = None, reset_url: str | None = None
) -> Outcome:
    """Return the answer to every request for a mail. The addresses are there where nothing is mailed."""
    data = {
        "status": "accepted",
        "resend_after": services.settings.resend_after,
        "detail": noted("If an account matches, an email is on its way."),
        "activation_url": activation_url,
        "reset_url": reset_url,
    }
    link = activation_url if activation_url is not None else reset_url
    return Outcome("accepted", data, status=202, go=go, email=form.email.data, page={"link": link})


def queue_again(
    services: Services,
    address: Address,
    *,
    verified_template: str = "already_verified",
    copy: Mapping[str, Any] | None = None,
) -> str | None:
    """Queue a link for the address's newest sign-up, or for the one that ``copy`` is the payload of.

    A sign-up from this very browser comes before a newer one from elsewhere. Returns what :func:`queue` does.
    """
    account, holds_link = services.store.accounts.find_with_link(address.key, SIGNUP, services.clock())
    since = services.since(services.settings.unverified_max_age)
    attempts = services.store.links.newest_attempts(address.key, since)
    own = [payload for payload in attempts if payload.get("nonce") == services.visit.nonce is not None]
    payload = copy if copy is not None else next(iter([*own, *attempts]), None)
    return queue(services, address, account, payload, holds_link=holds_link, verified_template=verified_template)


def queue(
    services: Services,
    address: Address,
    account: Account | None,
    payload: Mapping[str, Any] | None,
    *,
    holds_link: bool,
    verified_template: str,
) -> str | None:
    """Queue what an address gets that wants to be confirmed; the same statements for every address.

    Returns the link where it is not to be mailed.
    """
    verified = account is not None and account.email_verified
    refusal = None
    if account is None:
        refusal = "unknown"
    elif not account.is_active:
        refusal = "disabled"
    draft = Draft(
        address=address if account is None else address_of(account),
        account=account,
        template=verified_template if verified else "verify",
        purpose=SIGNUP,
        max_age=services.settings.verify_max_age,
        payload=payload if payload is not None or account is None else {"nonce": secrets.token_hex(16)},
        refusal=refusal,
        carries_link=not verified,
        # A notice holds no link that a cap would spare; it is capped like any mail a stranger can cause.
        holds_link=holds_link or verified,
        locale=services.locale_of(account),
        context=services.mail_context(),
    )
    return services.post(draft)
