"""Opening a mailed link: from the text in the address to its row, or to the reason why not."""

from __future__ import annotations

from .errors import InvalidToken, Refusal
from .flow import Services
from .identity import Address, mask
from .store.accounts import SIGNUP, Account
from .store.links import Link

#: What a dead link answers, by its state.
_CODES = {"expired": "token_expired", "used": "token_used", "superseded": "token_superseded"}


def open_link(services: Services, purpose: str, token: str) -> Link:
    """Return the row of a link, in whatever state.

    Raises :exc:`.Refusal` ``token_invalid`` for a text that is no link of ours, without any SQL,
    and ``token_expired`` for a link whose row was removed.
    """
    try:
        row_id = services.links.read(purpose, token)
    except InvalidToken:
        raise Refusal("token_invalid", data={"purpose": purpose}) from None
    units, since = services.store.units, services.since(services.settings.unverified_max_age)
    link = units.read(lambda: services.store.links.find(row_id, since))
    if link is None or link.purpose != purpose:
        raise Refusal("token_expired", data={"purpose": purpose, "email_masked": None})
    return link


def dead(services: Services, link: Link) -> Refusal:
    """Return the refusal of a link that cannot be used, with what its page needs to offer a way on."""
    state = link.state(services.clock())
    account = link.account
    return Refusal(
        # A link that looks alive and could not be used lost against another request.
        _CODES.get(state, "token_used"),
        data={
            "purpose": link.purpose,
            "email_masked": mask(link.sent_to) if link.sent_to is not None else None,
            "expires_at": link.expires_at,
            "used_at": link.used_at,
            "verified": link.purpose == SIGNUP and account is not None and account.email_verified,
        },
    )


def link_to_renew(services: Services, purpose: str, token: str) -> Link | None:
    """Return the link that somebody asks to have renewed; None when nothing is to be mailed.

    A link names an account, never a recipient: it counts only while the account has the address it was sent to.
    """
    try:
        link = open_link(services, purpose, token)
    except Refusal:
        return None
    return link if link.account is not None and link.account.email == link.sent_to else None


def address_of(account: Account) -> Address:
    """Return the stored address of an account: the only one that mails go to."""
    return Address(account.email, account.email_key if account.email_key is not None else account.email.lower())
