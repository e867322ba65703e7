"""Log out: the login ends on the server, so that a copied cookie is dead."""

from __future__ import annotations

import uuid

from ..errors import InvalidToken
from ..flow import Outcome, Services
from ..forms import LogoutForm


def run(services: Services, form: LogoutForm) -> Outcome:
    """End the login of this visit, or the family of the refresh token. Nothing to end is no error."""
    shown, named = services.visit.login_id, _named(services, form)
    if shown is not None or named is not None:
        services.unit(lambda: _end(services, {shown, named}))
    return Outcome("logged_out", status=204, go="after_logout", signed_out=True)


def _end(services: Services, ids: set[uuid.UUID | None]) -> None:
    sessions = services.store.sessions
    for login_id in ids:
        found = sessions.find(login_id) if login_id is not None else None
        if found is not None and sessions.revoke(found[0].id, services.clock()):
            services.announce("logged_out", user_id=str(found[0].user_id))


def _named(services: Services, form: LogoutForm) -> uuid.UUID | None:
    if not form.refresh_token.data:
        return None
    try:
        return services.refresh_tokens.read(form.refresh_token.text)[0]
    except InvalidToken:
        return None
