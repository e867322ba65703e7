"""Type the password again, before something that needs a recent login."""

from __future__ import annotations

from ..errors import FieldFault, Refusal
from ..flow import Outcome, Services, SignIn
from ..forms import FreshForm, refused
from ..redeem import address_of
from ..store.accounts import Account


def run(services: Services, form: FreshForm) -> Outcome:
    """Put a new login in the place of this visit's. A wrong password counts as a failed login."""
    account = services.visit.account
    if account is None:
        raise Refusal("authentication_required")
    _check(services, form, account)
    sign_in = services.unit(lambda: _replace(services, account))
    return Outcome("logged_in", go="after_login", next=form.next.data, sign_in=sign_in)


def _check(services: Services, form: FreshForm, account: Account) -> None:
    address = address_of(account)
    reservation = services.reserve_login(address)
    try:
        (right,) = services.hasher.check(form.password.text, account.password_hash)
    except Exception:  # too busy: nothing was guessed
        reservation.give_back()
        raise
    if not right:
        services.tell(
            "login_failed",
            user_id=str(account.id),
            reason="password",
            address_hash=services.store.outbox.address_key(address.key),
        )
        raise refused(form, [FieldFault("password", "incorrect", "This password isn't right.")])
    reservation.succeed()


def _replace(services: Services, account: Account) -> SignIn:
    """End the old login and open one like it: whoever holds its copy must not become fresh with us (ASVS 7.2.4)."""
    sessions, login_id, now = services.store.sessions, services.visit.login_id, services.clock()
    found = sessions.find(login_id) if login_id is not None else None
    # While the password was being checked, the account may have changed, or this login ended.
    if (
        found is None
        or not services.store.accounts.note_login(account, now, None)
        or not sessions.revoke(found[0].id, now)
    ):
        raise Refusal("authentication_required")
    return services.open_login(account, remember=found[0].remember)
