"""Exchange a refresh token for a new pair."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from ..errors import BAD_TOKEN, InvalidToken, Refusal
from ..flow import Outcome, Services, SignIn
from ..forms import RefreshForm
from ..redeem import address_of
from ..store.accounts import Account
from ..store.outbox import Draft
from ..store.sessions import API, Login

#: A replaced token that comes this soon, in seconds, is a race of tabs; later it may be a thief's.
_RACE = 60


def run(services: Services, form: RefreshForm) -> Outcome:
    """Rotate the family of the token. A token that was replaced ends its family."""
    reservation = services.throttle.reserve(token_ip=services.visit.network)
    login, account, generation = _find(services, form.refresh_token.text)
    if login.generation == generation and services.unit(
        lambda: services.store.sessions.rotate(login, services.clock())
    ):
        reservation.succeed()
        return _pair(replace(login, generation=generation + 1), account)
    if login.generation == generation:  # another request was first: look again
        login, account, _ = _find(services, form.refresh_token.text)
    if _within_grace(services, login, generation):
        reservation.succeed()
        return _pair(login, account)
    services.unit(lambda: _end_family(services, login, account))
    raise _refused()


def _find(services: Services, token: str) -> tuple[Login, Account, int]:
    """Return the living family that a token belongs to, its account, and the token's generation."""
    try:
        login_id, generation = services.refresh_tokens.read(token)
    except InvalidToken:
        raise _refused() from None
    sessions, units = services.store.sessions, services.store.units
    found = units.read(lambda: sessions.find(login_id))
    if found is None or found[0].kind != API:
        raise _refused()
    login, account = found
    # Before the stamp, which disabling rotates: a genuine token may learn why.
    if not account.is_active:
        raise Refusal("account_disabled")
    if not account.email_verified:
        raise Refusal("email_unverified")
    if not login.is_alive(services.clock()) or login.stamp != account.stamp:
        raise _refused()
    return login, account, generation


def _within_grace(services: Services, login: Login, generation: int) -> bool:
    """Tell whether the token was replaced just now, by the present one."""
    grace, now = timedelta(seconds=services.settings.refresh_reuse_grace), services.clock()
    if not grace or login.rotated_at is None or generation != login.generation - 1:
        return False
    return now - login.rotated_at <= grace


def _end_family(services: Services, login: Login, account: Account) -> None:
    """Revoke the family of a token that was used twice, and tell the owner unless it was a race."""
    now = services.clock()
    if not services.store.sessions.revoke(login.id, now):
        return
    services.announce("refresh_reused", user_id=str(account.id))
    if login.rotated_at is not None and now - login.rotated_at > timedelta(seconds=_RACE):
        services.notify(
            Draft(
                address_of(account),
                account,
                "refresh_reuse",
                locale=services.locale_of(account),
                context=services.mail_context(),
            )
        )


def _pair(login: Login, account: Account) -> Outcome:
    return Outcome("refreshed", sign_in=SignIn(login, account))


def _refused() -> Refusal:
    """Return the one refusal of every refresh token, whatever is wrong with it."""
    return Refusal("token_invalid", text=BAD_TOKEN)
