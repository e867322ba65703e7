"""Rendering a mail of the outbox. The link is derived here, when the mail is sent: no row ever holds one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from flask import current_app, has_app_context
from jinja2 import Environment

from ..identity import mask
from ..languages import Language, Languages
from ..link_addresses import LinkAddresses
from ..mail.letter import Letter
from ..settings import Settings
from ..store.queue import Waiting, WaitingLink
from .seed_names import MAILS
from .words import in_words, vocabulary


class LetterRenderer:
    """Renders mails by the templates in ``accountflow/mail``, which the app may override by name.

    ``languages`` are those of the settings unless others are given. It needs no request: the language is the
    recipient's.
    """

    def __init__(
        self,
        environment: Environment,
        settings: Settings,
        addresses: LinkAddresses,
        languages: Languages | None = None,
    ) -> None:
        self._environment = environment
        self._settings = settings
        self._addresses = addresses
        self._languages = languages if languages is not None else Languages(settings.languages)
        self._other_names = MAILS if settings.seed_aliases else {}

    def __call__(self, waiting: Waiting) -> Letter:
        """Return the letter of a waiting mail, in the language that its recipient has now, or else had then."""
        language = self._languages.choose(_told(waiting.user, "locale"), waiting.locale)
        with _speaking(language):
            return self._letter(waiting, language)

    def _letter(self, waiting: Waiting, language: Language) -> Letter:
        settings, link = self._settings, self._link(waiting)
        context = self._context(waiting, link, language)
        return Letter(
            to=waiting.to_addr,
            subject=" ".join(self._render(f"{waiting.template}.subject.txt", context).split()),
            text=self._render(f"{waiting.template}.txt", context).strip() + "\n",
            html=self._render(f"{waiting.template}.html", context),
            message_id=waiting.message_id,
            sender=settings.mail_sender or "accounts@localhost",
            sender_name=settings.mail_sender_name or settings.site_name,
            date=waiting.created_at,
            language=language.tag,
            template=waiting.template,
            reply_to=settings.support_email,
            link=link,
        )

    def _render(self, name: str, context: Mapping[str, Any]) -> str:
        names = [self._other_names[name], name] if name in self._other_names else [name]
        return self._environment.select_template([f"accountflow/mail/{name}" for name in names]).render(context)

    def _context(self, waiting: Waiting, link: str | None, language: Language) -> dict[str, Any]:
        settings, row, origin = self._settings, waiting.link, _origin(waiting)
        return {
            **vocabulary(language, _zone_of(waiting.user)),
            "site_name": settings.site_name,
            "support_email": settings.support_email,
            "support_url": settings.support_url,
            "email": waiting.to_addr,
            "user": waiting.user,
            "link": link,
            # The names that the link has by its purpose, and in the tempest SDK's templates.
            "activation_url": link if row is not None and row.purpose == "signup" else None,
            "reset_url": link if row is not None and row.purpose == "reset" else None,
            "min_length": settings.password_min_length,
            "expires_at": None if row is None else row.expires_at,
            "life_text": "" if row is None else _life(row, language),
            "login_url": self._addresses.login(origin),
            "signup_url": self._addresses.page("/signup", origin) if settings.signup_enabled else None,
            "reset_request_url": self._addresses.page("/password-reset/request", origin),
            "happened_at": waiting.created_at,
            "how": waiting.context.get("how"),
            "failures": waiting.context.get("failures", 0),
            # Masked here, whatever the row holds: who reads the old address's mail may be somebody else.
            "new_email": mask(waiting.context.get("new_email", "")),
        }

    def _link(self, waiting: Waiting) -> str | None:
        row = waiting.link
        if row is None:
            return None
        return self._addresses.link(row.purpose, row.row_id, row.created_at, _origin(waiting))


def _life(row: WaitingLink, language: Language) -> str:
    # Rounded up it would promise more than the link holds.
    return in_words(int((row.expires_at - row.created_at).total_seconds()), exactly=True, language=language)


def _zone_of(user: Any) -> tzinfo:
    """Return the time zone of an app's user that names one (``Europe/Berlin``) as ``timezone``, else UTC."""
    try:
        return ZoneInfo(_told(user, "timezone") or "UTC")
    except (KeyError, ValueError, OSError, TypeError):  # whatever a column may hold
        return timezone.utc


def _told(user: Any, name: str) -> Any:
    """Return an attribute of the app's user, None where it has none or cannot say: the entity is detached."""
    try:
        return getattr(user, name, None)
    except Exception:  # a relationship, or a property of the app, may raise anything
        return None


@contextmanager
def _speaking(language: Language) -> Iterator[None]:
    """Let Flask-Babel speak the language of the mail, too, where an app's own template asks it."""
    if has_app_context() and "babel" in current_app.extensions:
        import flask_babel  # noqa: PLC0415 - optional

        with flask_babel.force_locale(language.tag.replace("-", "_")):
            yield
    else:
        yield


def _origin(waiting: Waiting) -> str | None:
    return waiting.context.get("origin")
