"""Log in with a password."""

from __future__ import annotations

from typing import NoReturn

from ..errors import Refusal
from ..flow import Outcome, Services, SignIn
from ..forms import LoginForm
from ..identity import Address
from ..redeem import address_of
from ..store.accounts import Account
from ..store.outbox import Draft
from ..throttle import Reservation
from .verify import queue_again


def run(services: Services, form: LoginForm) -> Outcome:
    """Open a login. Who it is not learns one thing only: that this address and password do not fit."""
    address: Address = form.email.address
    reservation = services.reserve_login(address)
    try:
        account, right, tried = _check(services, address, form.password.text)
    except Exception:  # too busy, or a database that is away: nothing was guessed
        reservation.give_back()
        raise
    if account is not None and right:
        reservation.succeed()
        return _welcome(services, form, account, reservation.failures.get("login", 0))
    if tried:
        _unverified(services, address, reservation)
    services.tell(
        "login_failed",
        user_id=None if account is None else str(account.id),
        reason="password" if account is not None else "unknown",
        address_hash=services.store.outbox.address_key(address.key),
    )
    raise Refusal("invalid_credentials")


def _check(services: Services, address: Address, password: str) -> tuple[Account | None, bool, bool]:
    """Return the account, whether the password is its own, and whether a pending sign-up was made with it."""
    since = services.since(services.settings.unverified_max_age)
    find = services.store.accounts.find_for_login
    account, attempt = services.store.units.read(lambda: find(address.key, since))
    if services.check(password, account.password_hash if account is not None else None):
        return account, True, False
    # A wrong password costs two hashes, whoever owns the address and whether or not somebody signed up with it.
    return account, False, services.check(password, attempt.password_hash if attempt is not None else None)


def _welcome(services: Services, form: LoginForm, account: Account, failures: int) -> Outcome:
    """Log in whoever gave the account's own password, or say what stands in the way."""
    if not account.is_active:
        raise Refusal("account_disabled")
    if not account.email_verified:
        _unverified(services, form.email.address, None)
    new_hash = None
    if account.password_hash is not None and services.hasher.needs_rehash(account.password_hash):
        new_hash = services.hash(form.password.text)

    def work() -> SignIn:
        sign_in = _open(services, account, remember=form.remember.data, new_hash=new_hash)
        _warn(services, account, failures)
        return sign_in

    return Outcome("logged_in", go="after_login", next=form.next.data, sign_in=services.unit(work))


def _open(services: Services, account: Account, *, remember: bool, new_hash: str | None) -> SignIn:
    if not services.store.accounts.note_login(account, services.clock(), new_hash):
        # Between reading and writing, the password or the account changed.
        raise Refusal("invalid_credentials")
    return services.open_login(account, remember=remember)


def _warn(services: Services, account: Account, failures: int) -> None:
    """Tell the owner of a login that came after many wrong passwords: it may have been guessed (ASVS 6.3.5)."""
    limit = services.settings.notice_after_failures
    if not limit or failures < limit:
        return
    services.notify(
        Draft(
            address=address_of(account),
            account=account,
            template="login_after_failures",
            locale=services.locale_of(account),
            context={**services.mail_context(), "failures": failures},
        )
    )


def _unverified(services: Services, address: Address, reservation: Reservation | None) -> NoReturn:
    """Mail a new link, and say so. A stranger's own sign-up ends here too, whoever owns the address."""
    if reservation is not None:
        # Not a success: that would clear the address's failures for whoever has signed up with it.
        reservation.give_back()
    services.unit(lambda: queue_again(services, address, verified_template="already_registered"))
    raise Refusal("email_unverified", data={"email": address.email}, go="signup_sent")
