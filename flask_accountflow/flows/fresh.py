"""Type the password again, before something that needs a recent login."""

from __future__ import annotations

from wtforms import Form

from ..errors import FieldFault, Refusal
from ..fields import OldPasswordField
from ..flow import Outcome, Services, SignIn
from ..forms import FreshForm, refused
from ..messages import noted
from ..redeem import address_of
from ..store.accounts import Account


def run(services: Services, form: FreshForm) -> Outcome:
    """Put a new login in the place of this visit's. A wrong password counts as a failed login."""
    account = prove(services, form, form.password)
    sign_in = services.unit(lambda: _replace(services, account))
    return Outcome("logged_in", go="after_login", next=form.next.data, sign_in=sign_in)


def prove(services: Services, form: Form, field: OldPasswordField) -> Account:
    """Return whose login this is, once the field of the form holds the password. A wrong one is a failed login."""
    account = services.person()
    address = address_of(account)
    reservation = services.reserve_login(address)
    try:
        right = services.check(field.text, account.password_hash)
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
        raise refused(form, [FieldFault(field.name, "incorrect", noted("This password isn't right."))])
    reservation.succeed()
    return account


def _replace(services: Services, account: Account) -> SignIn:
    # While the password was being checked, the account may have changed.
    if not services.store.accounts.note_login(account, services.clock(), None):
        raise Refusal("authentication_required")
    return renew_login(services, account)


def renew_login(services: Services, account: Account) -> SignIn:
    """End the login of this visit and open one like it: whoever holds its copy must not gain by it (ASVS 7.2.4).

    Raises ``authentication_required`` when it has ended meanwhile.
    """
    sessions, login_id = services.store.sessions, services.visit.login_id
    found = sessions.find(login_id) if login_id is not None else None
    if found is None or not sessions.revoke(found[0].id, services.clock()):
        raise Refusal("authentication_required")
    return services.open_login(account, remember=found[0].remember)
