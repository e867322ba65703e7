"""Previews: every mail that there is a template of, filled with samples, in every language."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from jinja2 import Environment, meta
from markupsafe import escape
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import set_committed_value

from ..flows.reset import RESET
from ..languages import LANGUAGES, Languages
from ..link_addresses import LinkAddresses
from ..mail.letter import Letter, message_bytes
from ..settings import Settings
from ..store.accounts import SIGNUP
from ..store.links import CHANGE
from ..store.queue import REVERT, Waiting, WaitingLink
from .letters import LetterRenderer

ADDRESS = "vic@example.com"
#: When the samples were sent: always then, so that two previews differ only where the mails do.
MOMENT = datetime(2026, 11, 21, 8, 30, tzinfo=timezone.utc)

# Drawn once. Rows draw theirs, and none has this one: the link looks like any other, and opens nothing.
_NO_ROW = UUID("634bec66-6548-8040-6380-46d45a5bcbd4")
#: What our mails belong to, in the order in which people meet them.
_FLOWS = {
    "Sign-up": ("verify", "already_registered", "already_verified"),
    "Password": ("reset", "no_account", "set_password", "password_changed"),
    "Change of the email": ("email_change", "email_change_notice", "email_changed"),
    "Login": ("refresh_reuse", "login_after_failures"),
    "Operation": ("test",),
}
#: What the mails say beside the address and the link.
_CONTEXT = {"failures": 7, "how": "reset", "new_email": "new@example.com"}
#: Mails to people without an account.
_TO_STRANGERS = frozenset({"no_account", "test"})
#: What a column that must hold something holds, by the type of its values.
_VALUES: dict[type, Any] = {str: "Vic", int: 1, bool: True, datetime: MOMENT, UUID: _NO_ROW}

_SUBJECT = ".subject.txt"
_OURS = Path(__file__).parent.parent / "templates/accountflow/mail"


@dataclass(frozen=True)
class Preview:
    """One mail in one language: its letter unless it cannot be rendered, and what is wrong with it, if anything."""

    name: str
    locale: str
    letter: Letter | None
    fault: str | None


class Previews:
    """The previews of one app. They need no request and no table, send nothing and write nothing."""

    def __init__(
        self,
        environment: Environment,
        settings: Settings,
        addresses: LinkAddresses,
        user_model: type,
        own_words: Path | None = None,
    ) -> None:
        self._environment = environment
        self._settings = settings
        self._addresses = addresses
        self._user_model = user_model
        self._own_words = own_words

    @cached_property
    def _render(self) -> LetterRenderer:
        # Late: most processes never need the catalogs of languages that the site does not speak.
        languages = Languages(LANGUAGES, own=self._own_words)
        return LetterRenderer(self._environment, self._settings, self._addresses, languages)

    def names(self) -> list[str]:
        """Return the names of all mails, ours and the app's: what has a subject under ``accountflow/mail``."""
        try:
            found = self._environment.list_templates()
        except TypeError:  # a loader of the app that cannot say what it has
            found = [f"accountflow/mail/{path.name}" for path in _OURS.iterdir()]
        names = (name.removeprefix("accountflow/mail/") for name in found if name.startswith("accountflow/mail/"))
        return sorted(name.removesuffix(_SUBJECT) for name in names if name.endswith(_SUBJECT) and "/" not in name)

    def by_flow(self) -> dict[str, list[str]]:
        """Return the names of all mails by what they belong to; those of the app come last."""
        ours = {name for names in _FLOWS.values() for name in names}
        own = [name for name in self.names() if name not in ours]
        found = {flow: list(names) for flow, names in _FLOWS.items()}
        return {**found, "This app": own} if own else found

    def show(self, name: str, locale: str) -> Preview:
        """Return the preview of a mail in a language. A template that raises is a fault of the preview."""
        try:
            letter = self._render(self.sample(name, locale))
            return Preview(name, locale, letter, _flaw(letter))
        except Exception as error:  # a template of the app may raise anything
            return Preview(name, locale, None, _sentence(error))

    def sample(self, name: str, locale: str) -> Waiting:
        """Return the mail as the outbox would hand it over for sending."""
        return Waiting(
            id=0,
            lease_id=_NO_ROW,
            template=name,
            to_addr=ADDRESS,
            locale=locale,
            context=_CONTEXT,
            message_id=f"{name}.{locale}@example.com",
            created_at=MOMENT,
            expires_at=MOMENT + timedelta(days=1),
            attempts=1,
            user=None if name in _TO_STRANGERS else self._user(locale),
            link=self._link(name) if self._has_link(name) else None,
        )

    def faults(self) -> Iterator[str]:
        """Yield a sentence for each mail that cannot be sent as it should be, in the first of the site's languages."""
        for name in self.names():
            for locale in self._settings.languages:
                fault = self.show(name, locale).fault
                if fault is not None:
                    yield f"The mail {name} in {locale}: {fault}."
                    break

    def _user(self, locale: str) -> Any:
        """Return an entity of the app with what its columns must hold; its constructor and its checks do not run."""
        mapper: Mapper[Any] = sa.inspect(self._user_model)
        user = mapper.class_manager.new_instance()
        for attribute in mapper.column_attrs:
            set_committed_value(user, attribute.key, _value_of(attribute.columns[0]))
        for name, value in {"email": ADDRESS, "email_key": ADDRESS, "locale": locale}.items():
            set_committed_value(user, name, value)
        return user

    def _link(self, name: str) -> WaitingLink:
        settings = self._settings
        purpose, life = {
            "verify": (SIGNUP, settings.verify_max_age),
            "set_password": (RESET, settings.verify_max_age),
            "email_change": (CHANGE, settings.change_email_max_age),
            "email_changed": (REVERT, settings.revert_max_age),
        }.get(name, (RESET, settings.reset_max_age))
        return WaitingLink(_NO_ROW, purpose, MOMENT, MOMENT + timedelta(seconds=life), live=True)

    def _has_link(self, name: str) -> bool:
        """Tell whether a mail carries a link: by our text where there is one, as an app's own has to have it, too."""
        environment: Any = self._environment
        places = ("accountflow/default/mail", "accountflow/mail")
        template = environment.select_template([f"{place}/{name}.txt" for place in places])
        source, _, _ = environment.loader.get_source(environment, template.name)
        return "link" in meta.find_undeclared_variables(environment.parse(source))


def _value_of(column: Any) -> Any:
    """Return a value for a column; None where that will do, as most people leave empty what they may."""
    if getattr(column, "nullable", True):
        return None
    if column.default is not None and column.default.is_scalar:
        return column.default.arg
    try:
        return _VALUES.get(column.type.python_type)
    except NotImplementedError:  # a type that does not say
        return None


def _flaw(letter: Letter) -> str | None:
    """Return what is wrong with a letter that could be rendered."""
    message_bytes(letter)
    for part, content in (("subject", letter.subject), ("text", letter.text), ("HTML part", letter.html)):
        if not content.strip():
            return f"its {part} is empty"
    if letter.link is not None and letter.link not in letter.text:
        return "its text lacks the link"
    if letter.link is not None and str(escape(letter.link)) not in letter.html:
        return "its HTML part lacks the link"
    return None


def _sentence(error: Exception) -> str:
    """Return an error in one line, with the innermost template that it came through."""
    reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    frames = traceback.extract_tb(error.__traceback__)
    places = [frame for frame in frames if Path(frame.filename).suffix in {".html", ".txt"}]
    return f"{reason} ({places[-1].filename}, line {places[-1].lineno})" if places else reason
