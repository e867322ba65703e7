"""The writing side of the outbox: a link and its mail, in the transaction of the change.

Whatever the address, the same statements run: count its mails, write one mail, write one link.
Where nothing is to be mailed the mail is born ``dropped`` and the link a decoy.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ..identity import Address
from ..models import Tables
from ..rules import DAY, Rate
from ..tokens import random_id
from .accounts import Account
from .links import DECOY, Links
from .queue import DROPPED, PENDING
from .unit import Units

#: Why a mail was not written to anybody: its link stands in the answer (ACCOUNTFLOW_RETURN_TOKEN_IN_RESPONSE).
RETURNED = "returned"

# Between machines that count the same mails.
_CLOCK_DIFFERENCE = timedelta(minutes=1)

# Databases that can skip a row that is there, in one statement. MariaDB's INSERT IGNORE skips every other fault,
# too, so there a savepoint does it: two more round trips, a seventh of a request for a reset.
_SKIPPING = frozenset({"postgresql", "sqlite"})

# Ten digits: a mail a minute fills them in 19,000 years.
_LAST_SLOT = 9_999_999_999

#: A notice that could not be delivered for this long, in seconds, is old news.
NOTICE_MAX_AGE = 3 * DAY


@dataclass(frozen=True)
class Draft:
    """What is to be mailed, to whom, and the link that goes with it."""

    address: Address
    account: Account | None
    template: str
    #: The purpose of the link's row; None for a notice without a link, which has no row.
    purpose: str | None = None
    #: Life of the link, in seconds.
    max_age: int = NOTICE_MAX_AGE
    payload: Mapping[str, Any] | None = None
    #: Why nothing may be mailed, known beforehand: ``unknown``, ``disabled`` or ``taken``.
    refusal: str | None = None
    #: Whether the mail carries the link. A notice with a row only balances the statements.
    carries_link: bool = True
    #: Whether the answer holds the link, so that nothing is mailed.
    is_returned: bool = False
    #: Whether an operator has named the recipient. Others only ever cause mails to the address of an account.
    by_operator: bool = False
    #: Whether the address may be written to although it has no account (ACCOUNTFLOW_MAIL_UNKNOWN).
    to_stranger: bool = False
    #: Whether the address holds a live link of this purpose, so that a cap harms nobody.
    holds_link: bool = True
    locale: str | None = None
    context: Mapping[str, Any] | None = None

    @property
    def is_addressed(self) -> bool:
        """Whether the address may be kept, to write to it."""
        return self.account is not None or self.by_operator or self.to_stranger


@dataclass(frozen=True)
class Posted:
    """What became of a draft."""

    mail_id: int
    link_id: uuid.UUID | None
    #: None when the mail is on its way; else a word that says why not, of the draft or from here.
    dropped: str | None


class Outbox:
    """Writes mails and their links in the host's session."""

    def __init__(
        self,
        units: Units,
        links: Links,
        tables: Tables,
        *,
        key: bytes,
        rates: Sequence[Rate],
        pause: int,
        sender_domain: str,
    ) -> None:
        self._units = units
        self._links = links
        self._key = key
        self._rates = rates
        self._pause = pause
        self._domain = sender_domain
        mail = tables.mail
        self._insert = sa.insert(mail)
        self._mail = mail
        self._skipping: dict[str, Any] = {}
        windows = [Rate(1, pause), *rates]
        counts = [
            sa.func.count(sa.case((mail.c.created_at > sa.bindparam(f"since_{number}"), 1))).label(f"count_{number}")
            for number in range(len(windows))
        ]
        others = mail.alias()
        newest = sa.select(sa.func.max(others.c.slot)).where(
            # By the unique index, whatever else the address was sent; what follows is for collations that skip signs.
            others.c.slot.between(sa.bindparam("first_slot"), sa.bindparam("last_slot")),
            others.c.to_key == sa.bindparam("to_key"),
            others.c.template == sa.bindparam("template"),
        )
        self._count = sa.select(newest.scalar_subquery().label("newest_slot"), *counts).where(
            mail.c.to_key == sa.bindparam("to_key"),
            mail.c.template == sa.bindparam("template"),
            mail.c.created_at > sa.bindparam("oldest"),
            mail.c.created_at < sa.bindparam("latest"),
            mail.c.state != DROPPED,
        )
        self._windows = windows

    def address_key(self, key: str) -> str:
        """Return the keyed hash under which the mails of an address are counted."""
        return hmac.new(self._key, key.encode(), hashlib.sha256).hexdigest()

    def post(self, draft: Draft, now: datetime) -> Posted:
        """Write the mail and the link of ``draft``, or what looks like them from outside."""
        to_key = self.address_key(draft.address.key)
        capped, slot = self._count_mails(draft, to_key, now)  # for every address, needed or not
        dropped = draft.refusal if draft.refusal is not None else capped
        if dropped is None and draft.is_returned:
            dropped = RETURNED
        link_id = None if draft.purpose is None else random_id()
        values = self._mail_values(draft, to_key, link_id, dropped, now)
        if dropped is None:
            values["slot"] = slot
        mail_id, dropped = self._add_mail(values)
        if link_id is not None:
            self._add_link(draft, to_key, link_id, now, is_decoy=dropped not in {None, RETURNED})
        return Posted(mail_id, link_id, dropped)

    def notify(self, draft: Draft, now: datetime) -> Posted:
        """Write a notice, which no cap holds back; with a link where it has a purpose."""
        to_key = self.address_key(draft.address.key)
        dropped = RETURNED if draft.is_returned else None
        link_id = None if draft.purpose is None else random_id()
        mail_id = self._insert_mail(self._mail_values(draft, to_key, link_id, dropped, now))
        if link_id is not None:
            self._add_link(draft, to_key, link_id, now, is_decoy=False)
        return Posted(mail_id, link_id, dropped)

    def _count_mails(self, draft: Draft, to_key: str, now: datetime) -> tuple[str | None, str]:
        """Return ``duplicate`` or ``capped`` when this address has had enough of this kind; and the next slot.

        Slots of one kind and address are numbered, and unique. Of requests that count at the same time, and
        so do not see each other's mail, each takes the same number, and one gets it.
        """
        since = [now - timedelta(seconds=window.seconds) for window in self._windows]
        values: dict[str, Any] = {f"since_{number}": moment for number, moment in enumerate(since)}
        values |= {"to_key": to_key, "template": draft.template, "oldest": min(since)}
        # What a clock that was wrong has written counts no longer once it is right.
        values["latest"] = now + _CLOCK_DIFFERENCE
        values |= {"first_slot": _slot(draft, to_key, 0), "last_slot": _slot(draft, to_key, _LAST_SLOT)}
        newest, recent, *counts = tuple(self._units.execute(self._count, values).one())
        slot = _slot(draft, to_key, 1 if newest is None else int(newest.rpartition(":")[2]) + 1)
        if recent:
            return "duplicate", slot
        full = any(count >= rate.count for count, rate in zip(counts, self._rates, strict=True))
        return "capped" if full and draft.holds_link else None, slot

    def _add_mail(self, values: Mapping[str, Any]) -> tuple[int, str | None]:
        """Write a mail. One whose slot has just been taken becomes a duplicate."""
        mail_id = self._insert_if_free(values)
        if mail_id is not None:
            return mail_id, values["last_error"]
        lost = {"slot": None, "state": DROPPED, "to_addr": None, "last_error": "duplicate"}
        return self._insert_mail({**values, **lost}), "duplicate"

    def _insert_if_free(self, values: Mapping[str, Any]) -> int | None:
        """Write a mail; None, and nothing is written, when its slot has just been taken."""
        dialect = self._units.dialect()
        if dialect in _SKIPPING:
            result: Any = self._units.execute(self._insert_or_skip(dialect), dict(values))
            # SQLite would tell the key of an earlier row, and psycopg tells no count.
            key = result.inserted_primary_key if result.rowcount else None
            return None if key is None else int(key[0])
        try:
            with self._units.session().begin_nested():
                return self._insert_mail(values)
        except IntegrityError:
            if values["slot"] is None:
                raise
            return None

    def _insert_or_skip(self, dialect: str) -> Any:
        if dialect not in self._skipping:
            # By name: a database that is in use has loaded its own, and the others are slow to import.
            insert = import_module(f"sqlalchemy.dialects.{dialect}").insert
            self._skipping[dialect] = insert(self._mail).on_conflict_do_nothing(index_elements=[self._mail.c.slot])
        return self._skipping[dialect]

    def _insert_mail(self, values: Mapping[str, Any]) -> int:
        result = self._units.execute(self._insert, dict(values))
        keys = getattr(result, "inserted_primary_key", (0,))
        return int(keys[0])

    def _mail_values(
        self, draft: Draft, to_key: str, link_id: uuid.UUID | None, dropped: str | None, now: datetime
    ) -> dict[str, Any]:
        account = draft.account
        return {
            "user_id": None if account is None else account.id,
            "token_id": link_id if draft.carries_link else None,
            "template": draft.template,
            # Only what is to be mailed holds an address: one of the account's own, or one that an operator named.
            "to_addr": draft.address.email if dropped is None and draft.is_addressed else None,
            "to_key": to_key,
            "slot": None,
            "locale": draft.locale,
            "context": dict(draft.context) if draft.context is not None else {},
            "state": PENDING if dropped is None else DROPPED,
            "message_id": f"{secrets.token_hex(16)}@{self._domain}",
            "created_at": now,
            "expires_at": now + timedelta(seconds=draft.max_age),
            "attempts": 0,
            "next_attempt_at": now,
            "last_error": dropped,
        }

    def _add_link(self, draft: Draft, to_key: str, link_id: uuid.UUID, now: datetime, *, is_decoy: bool) -> None:
        account = draft.account
        is_decoy = is_decoy or not draft.carries_link
        self._links.add(
            {
                "id": link_id,
                "user_id": None if account is None else account.id,
                "email_key": to_key if account is None else draft.address.key,
                "purpose": draft.purpose,
                "sent_to": None if account is None else draft.address.email,
                "payload": None if draft.payload is None else dict(draft.payload),
                "stamp": None if account is None else account.stamp,
                "created_at": now,
                "expires_at": now + timedelta(seconds=draft.max_age),
                "used_at": now if is_decoy else None,
                "outcome": DECOY if is_decoy else None,
            }
        )


def _slot(draft: Draft, to_key: str, number: int) -> str:
    return f"{to_key[:16]}:{draft.template}:{number:010}"
