"""Log out: the login ends on the server, so that a copied cookie is dead."""

from __future__ import annotations

import uuid
from contextlib import suppress
from datetime import datetime, timedelta

from ..errors import InvalidToken
from ..flow import Outcome, Services
from ..forms import LogoutForm
from ..store.accounts import Account
from ..store.sessions import Login


def run(services: Services, form: LogoutForm) -> Outcome:
    """End the login of this visit, or the family of the refresh token. Nothing to end is no error."""
    if services.visit.login_id is not None or form.refresh_token.data:
        services.unit(lambda: _end(services, form))
    return Outcome("logged_out", status=204, go="after_logout", signed_out=True)


def _end(services: Services, form: LogoutForm) -> None:
    sessions, now = services.store.sessions, services.clock()
    for login, account, is_current in _named(services, form):
        # What is over ends nothing else: a copied cookie, a replaced token.
        if form.all.data and is_current and _opens(services, login, account, now):
            if sessions.revoke_all(account.id, now):
                services.announce("sessions_revoked", user_id=str(account.id))
        elif sessions.revoke(login.id, now):
            services.announce("logged_out", user_id=str(account.id))


def _opens(services: Services, login: Login, account: Account, now: datetime) -> bool:
    """Tell whether a request with this login would be let in."""
    idle = timedelta(seconds=services.settings.session_idle_max_age)
    return login.is_alive(now) and not login.is_idle(now, idle) and login.stamp == account.stamp


def _named(services: Services, form: LogoutForm) -> list[tuple[Login, Account, bool]]:
    """Return the logins to end, each with whether what named it is its present credential."""
    shown = [] if services.visit.login_id is None else [_find(services, services.visit.login_id, None)]
    if form.refresh_token.data:
        with suppress(InvalidToken):
            shown.append(_find(services, *services.refresh_tokens.read(form.refresh_token.text)))
    return [named for named in shown if named is not None]


def _find(services: Services, login_id: uuid.UUID, generation: int | None) -> tuple[Login, Account, bool] | None:
    found = services.store.sessions.find(login_id)
    if found is None:
        return None
    login, account = found
    return login, account, generation is None or generation == login.generation
