"""The address of a link: built from the settings and a row, the same one each time, never from a request."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from .settings import Settings
from .tokens import Links

#: Where a link's page is, below the prefix, by the purpose of the link.
_PATHS = {
    "signup": "/verify/",
    "reset": "/password-reset/",
    "change": "/email/confirm/",
    "revert": "/email/revert/",
}

# Only in debug can both be unknown: the mail was queued without a request and without BASE_URL.
_NOWHERE = "http://127.0.0.1:5000"


class LinkAddresses:
    """Makes the addresses of one app's links and pages, for mails and answers.

    ``origin`` is where the visitor came in while there is no BASE_URL, in debug and testing; None otherwise.
    """

    def __init__(self, links: Links, settings: Settings) -> None:
        self._links = links
        self._settings = settings
        self._templates = {
            "signup": settings.verify_url,
            "reset": settings.reset_url,
            "change": settings.change_email_url,
        }

    def link(self, purpose: str, row_id: UUID, created_at: datetime, origin: str | None) -> str:
        """Return the address of a row's link: at the app's own front end where the settings name one."""
        token = self._links.make(purpose, row_id, created_at)
        template = self._templates.get(purpose)
        if template is not None:
            return template.replace("{token}", token)
        return self.page(_PATHS[purpose] + token, origin)

    def page(self, path: str, origin: str | None) -> str:
        """Return the address of one of our pages, by its path below the prefix."""
        return self._base(origin) + self._settings.url_prefix + path

    def login(self, origin: str | None) -> str | None:
        """Return the address of the login page; None where the settings want none shown."""
        address = self._settings.login_url
        if address is None:
            return self.page("/login", origin)
        return (self._base(origin) + address if address.startswith("/") else address) or None

    def _base(self, origin: str | None) -> str:
        return self._settings.base_url or origin or _NOWHERE
