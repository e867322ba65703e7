"""The operator's side of the outbox: what is in it, how it does, and another chance for what has failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Mapper
from sqlalchemy.pool import StaticPool

from ..models import Tables, aware
from .queue import DROPPED, FAILED, PENDING, SENT, UNBOUND
from .unit import Units

#: In the order in which a mail gets there.
STATES = (PENDING, SENT, FAILED, DROPPED)

# Why a mail is not tried again.
MISSING, LEASED, NO_ADDRESS, OUTDATED, DEAD_LINK = "missing", "leased", "no_address", "outdated", "dead_link"


@dataclass(frozen=True)
class MailStatus:
    """How the outbox does."""

    #: How many mails wait: those that are due, and those that wait for another try.
    pending: int
    #: How many were given up, and not purged yet.
    failed: int
    #: For how long the oldest of those that wait has been waiting, in whole seconds; None when none waits.
    oldest: int | None


@dataclass(frozen=True)
class Entry:
    """A mail as an operator sees it. No row holds its link."""

    id: int
    template: str
    state: str
    #: The address as its owner typed it; None when it was never kept, or removed with the end of the mail.
    to_addr: str | None
    created_at: datetime
    expires_at: datetime
    next_attempt_at: datetime
    sent_at: datetime | None
    #: How often it was tried.
    attempts: int
    #: Why the last try failed, or why the mail is not sent.
    reason: str | None
    #: Whether a sender holds it right now.
    is_leased: bool
    has_link: bool


class Retry(NamedTuple):
    """What came of trying a mail again. ``obstacle`` is None when it is due now, else a state or a word from above."""

    id: int
    entry: Entry | None
    user_id: str | None
    obstacle: str | None


class Mailbox:
    """Lists the mails of the outbox, counts them, and lets those that have failed be tried again."""

    def __init__(self, units: Units, mapper: Mapper[Any], tables: Tables) -> None:
        mail = tables.mail
        self._units = units
        self._mapper = mapper
        self._mail = mail
        self._counts = sa.select(mail.c.state, sa.func.count()).group_by(mail.c.state)
        # Not those that were sent: of them there are very many, and this is asked every few seconds. Its cost grows
        # with those that wait, and with those that failed, which stay until a purge. These are counted by themselves,
        # which the index does alone; for the age of the oldest each row would be read.
        failed = sa.select(sa.func.count()).where(mail.c.state == FAILED).scalar_subquery()
        counted = (sa.func.count(), sa.func.min(mail.c.created_at), failed)
        self._status = sa.select(*counted).where(mail.c.state == PENDING)
        self._prepare_retry(mail, tables.token, tables.user_key)

    def _prepare_retry(self, mail: sa.Table, token: sa.Table, user_key: sa.Column[Any]) -> None:
        # A column that an UPDATE sets lends its name to a parameter; ours need other names.
        row: Any = sa.bindparam("row")
        now: Any = sa.bindparam("now", type_=mail.c.expires_at.type)
        link_lives = sa.exists().where(
            token.c.id == mail.c.token_id,
            token.c.used_at.is_(None),
            token.c.expires_at > now,
            user_key == token.c.user_id,
            self._mapper.columns["is_active"].is_(True),
            sa.or_(token.c.purpose.in_(UNBOUND), self._mapper.columns["stamp"] == token.c.stamp),
        )
        can_go = sa.or_(mail.c.token_id.is_(None), link_lives)
        self._one = sa.select(mail, can_go.label("can_go")).where(mail.c.id == row)
        self._again = (
            sa.update(mail)
            .where(
                mail.c.id == row,
                mail.c.state.in_((PENDING, FAILED)),
                sa.or_(mail.c.lease_until.is_(None), mail.c.lease_until < now),
                mail.c.to_addr.is_not(None),
                mail.c.expires_at > now,
                can_go,
            )
            .values(state=PENDING, attempts=0, next_attempt_at=now, lease_id=None, lease_until=None)
        )

    def status(self, now: datetime) -> MailStatus:
        """Return how the outbox does, without touching a transaction of the host."""
        with self._look() as connection:
            pending, oldest, failed = connection.execute(self._status).one()
        # Of another machine, whose clock may be ahead of ours.
        age = None if oldest is None else max(0, int((now - aware(oldest)).total_seconds()))
        return MailStatus(pending=pending, failed=failed, oldest=age)

    @contextmanager
    def _look(self) -> Iterator[sa.Connection]:
        """Open a connection for reading. The host's own only where there is no other one."""
        bind = self._units.session().get_bind(self._mapper)
        # With ``sqlite://`` a second connection is the same one, and would commit what the host has written.
        if isinstance(bind, sa.Engine) and not isinstance(bind.pool, StaticPool):
            with bind.connect() as connection:
                yield connection
        else:
            yield self._units.connection()

    def counts(self) -> dict[str, int]:
        """Return how many mails there are in each state."""
        found: dict[str, int] = dict(map(tuple, self._units.read(lambda: self._units.execute(self._counts).all())))
        return {state: found.get(state, 0) for state in STATES}

    def entries(self, state: str | None, limit: int, now: datetime) -> list[Entry]:
        """Return mails, those of one state or of all: what waits oldest first, else newest first."""
        mail = self._mail
        chosen = sa.select(mail).limit(limit)
        if state is not None:
            chosen = chosen.where(mail.c.state == state)
        chosen = chosen.order_by(mail.c.id if state == PENDING else mail.c.id.desc())
        rows = self._units.read(lambda: self._units.execute(chosen).mappings().all())
        return [_entry(row, now) for row in rows]

    def failed_ids(self) -> list[int]:
        """Return the ids of the mails that were given up, the oldest first."""
        mail = self._mail
        chosen = sa.select(mail.c.id).where(mail.c.state == FAILED).order_by(mail.c.id)
        return list(self._units.read(lambda: self._units.execute(chosen).scalars().all(), release=True))

    def retry(self, ids: Iterable[int], now: datetime) -> list[Retry]:
        """Let mails be due now as if they were new, where that makes sense; in the unit of work of the caller."""
        return [self._retry(mail_id, now) for mail_id in ids]

    def _retry(self, mail_id: int, now: datetime) -> Retry:
        # What is asked and what is done is one statement: a sender that takes the mail meanwhile keeps it.
        is_due = self._units.changed(self._again, {"row": mail_id, "now": now})
        row = self._units.execute(self._one, {"row": mail_id, "now": now}).mappings().first()
        if row is None:
            return Retry(mail_id, None, None, MISSING)
        entry = _entry(row, now)
        user_id = None if row["user_id"] is None else str(row["user_id"])
        return Retry(mail_id, entry, user_id, None if is_due else _obstacle(entry, now, can_go=bool(row["can_go"])))


def _obstacle(entry: Entry, now: datetime, *, can_go: bool) -> str:
    if entry.state in {SENT, DROPPED}:
        return entry.state
    if entry.to_addr is None:
        return NO_ADDRESS
    if entry.expires_at <= now:
        return OUTDATED
    # When nothing is wrong with it now, a sender has just had it.
    return LEASED if can_go else DEAD_LINK


def _entry(row: Mapping[Any, Any], now: datetime) -> Entry:
    return Entry(
        id=row["id"],
        template=row["template"],
        state=row["state"],
        to_addr=row["to_addr"],
        created_at=aware(row["created_at"]),
        expires_at=aware(row["expires_at"]),
        next_attempt_at=aware(row["next_attempt_at"]),
        sent_at=None if row["sent_at"] is None else aware(row["sent_at"]),
        attempts=row["attempts"],
        reason=row["last_error"],
        is_leased=row["lease_until"] is not None and aware(row["lease_until"]) >= now,
        has_link=row["token_id"] is not None,
    )
