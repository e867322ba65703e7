"""Rendering a mail of the outbox. The link is derived here, when the mail is sent: no row ever holds one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment

from ..mail.letter import Letter
from ..settings import Settings
from ..store.queue import Waiting
from ..tokens import Links
from .words import in_words

#: Where a link's page is, below the prefix, by the purpose of the link.
_PATHS = {"signup": "/verify/", "reset": "/password-reset/"}

# Only in debug can both be unknown: the mail was queued without a request and without BASE_URL.
_NOWHERE = "http://127.0.0.1:5000"


class LetterRenderer:
    """Renders mails by the templates in ``accountflow/mail``, which the app may override by name."""

    def __init__(self, environment: Environment, settings: Settings, links: Links) -> None:
        self._environment = environment
        self._settings = settings
        self._links = links

    def __call__(self, waiting: Waiting) -> Letter:
        """Return the letter of a waiting mail."""
        settings = self._settings
        link = self._link(waiting)
        context = self._context(waiting, link)
        return Letter(
            to=waiting.to_addr,
            subject=" ".join(self._render(f"{waiting.template}.subject.txt", context).split()),
            text=self._render(f"{waiting.template}.txt", context).strip() + "\n",
            html=self._render(f"{waiting.template}.html", context),
            message_id=waiting.message_id,
            sender=settings.mail_sender or "accounts@localhost",
            sender_name=settings.mail_sender_name or settings.site_name,
            date=waiting.created_at,
            language="en",
            template=waiting.template,
            reply_to=settings.support_email,
            link=link,
        )

    def _render(self, name: str, context: Mapping[str, Any]) -> str:
        return self._environment.get_template(f"accountflow/mail/{name}").render(context)

    def _context(self, waiting: Waiting, link: str | None) -> dict[str, Any]:
        settings, row = self._settings, waiting.link
        pages = self._base(waiting) + settings.url_prefix
        return {
            "site_name": settings.site_name,
            "support_email": settings.support_email,
            "support_url": settings.support_url,
            "lang": "en",
            "dir": "ltr",
            "email": waiting.to_addr,
            "user": waiting.user,
            "link": link,
            "expires_at": None if row is None else row.expires_at,
            "life_text": "" if row is None else in_words(int((row.expires_at - row.created_at).total_seconds())),
            "login_url": self._login(waiting, pages),
            "reset_request_url": f"{pages}/password-reset/request",
            "happened_at": waiting.created_at,
        }

    def _base(self, waiting: Waiting) -> str:
        return self._settings.base_url or str(waiting.context.get("origin", _NOWHERE))

    def _login(self, waiting: Waiting, pages: str) -> str:
        address = self._settings.login_url
        if address is None:
            return f"{pages}/login"
        return self._base(waiting) + address if address.startswith("/") else address

    def _link(self, waiting: Waiting) -> str | None:
        row = waiting.link
        if row is None:
            return None
        token = self._links.make(row.purpose, row.row_id, row.created_at)
        template = {"signup": self._settings.verify_url, "reset": self._settings.reset_url}[row.purpose]
        if template is not None:
            return template.replace("{token}", token)
        return self._base(waiting) + self._settings.url_prefix + _PATHS[row.purpose] + token
