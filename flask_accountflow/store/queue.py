"""The delivering side of the outbox: claims, leases and marks, on connections of its own.

A mail belongs to whoever holds its lease. Every mark is conditional on the lease, so that a process
that slept through its own lease changes nothing that another one has taken over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from ..events import scrub
from ..models import Tables, aware
from .unit import is_transient

PENDING, SENT, FAILED, DROPPED = "pending", "sent", "failed", "dropped"

#: The purpose of the link that brings an old address back.
REVERT = "revert"
#: Links of these purposes outlive every change of their account: they are there to undo one.
UNBOUND = (REVERT,)

#: Twice the time that a send may take: whoever begins one in the lease's first half cannot be overtaken.
LEASE = timedelta(seconds=60)

_TRIES = 4  # to claim: several workers may reach for the same mails at once

Begin = Callable[[], AbstractContextManager[sa.Connection]]
T = TypeVar("T")


@dataclass(frozen=True)
class WaitingLink:
    """The link that a mail carries, by its row. ``live``: it would work if it were opened now."""

    row_id: UUID
    purpose: str
    created_at: datetime
    expires_at: datetime
    live: bool


@dataclass(frozen=True)
class Waiting:
    """A mail that was claimed for sending. ``user`` is an entity of the app, detached, or None."""

    id: int
    lease_id: UUID
    template: str
    to_addr: str
    locale: str | None
    context: Mapping[str, Any]
    message_id: str
    created_at: datetime
    expires_at: datetime
    #: How often it was claimed, this time included.
    attempts: int
    user: Any
    link: WaitingLink | None


class Queue:
    """The mails that wait. ``begin`` opens a transaction on a connection of its own."""

    def __init__(self, tables: Tables, user_model: type, begin: Begin) -> None:
        self._begin = begin
        self._lock = sa.delete(tables.mail).where(sa.false())
        users = tables.user_key.in_(sa.bindparam("users", expanding=True))
        self._users: sa.Select[Any] = sa.select(user_model).where(users)
        self._prepare_claim(tables.mail, tables.token)
        self._prepare_marks(tables.mail)
        is_waiting = (tables.mail.c.state == PENDING, tables.mail.c.lease_id.is_(None))
        self._next = sa.select(sa.func.min(tables.mail.c.next_attempt_at)).where(*is_waiting)

    def _prepare_claim(self, mail: sa.Table, token: sa.Table) -> None:
        now: Any = sa.bindparam("now")
        mine: Any = sa.bindparam("mine")
        is_free = sa.or_(mail.c.lease_until.is_(None), mail.c.lease_until < now)
        is_due = (mail.c.state == PENDING, mail.c.next_attempt_at <= now, is_free)
        order = (mail.c.next_attempt_at, mail.c.id)
        self._due = sa.select(mail.c.id).where(*is_due).order_by(*order).limit(sa.bindparam("batch", type_=sa.Integer))
        self._take = (
            sa.update(mail)
            .where(mail.c.id.in_(sa.bindparam("rows", expanding=True)), *is_due)
            .values(lease_id=mine, lease_until=sa.bindparam("until"), attempts=mail.c.attempts + 1)
        )
        self._taken = (
            sa.select(mail, *(column.label(f"link_{column.key}") for column in token.c))
            .select_from(mail.outerjoin(token, token.c.id == mail.c.token_id))
            # By their ids: the lease has no index.
            .where(mail.c.id.in_(sa.bindparam("rows", expanding=True)), mail.c.lease_id == mine)
            .order_by(*order)
        )

    def _prepare_marks(self, mail: sa.Table) -> None:
        # A column that an UPDATE sets lends its name to a parameter; ours need other names.
        is_mine = (mail.c.id == sa.bindparam("row"), mail.c.lease_id == sa.bindparam("mine"), mail.c.state == PENDING)
        update = sa.update(mail).where(*is_mine)
        reason: Any = sa.bindparam("reason")
        at: Any = sa.bindparam("at", type_=mail.c.next_attempt_at.type)
        free = update.values(lease_id=None, lease_until=None)
        # The address of somebody without an account goes with the mail: no deletion of an account would take it.
        over = free.values(to_addr=sa.case((mail.c.user_id.is_not(None), mail.c.to_addr)))
        self._sent = over.values(state=SENT, sent_at=sa.bindparam("now"), last_error=None)
        self._defer = free.values(last_error=reason, next_attempt_at=at)
        self._end = over.values(last_error=reason, state=sa.bindparam("end"))
        self._release = free.values(
            attempts=mail.c.attempts - 1, next_attempt_at=sa.func.coalesce(at, mail.c.next_attempt_at)
        )

    def claim(self, now: datetime, batch: int = 20) -> list[Waiting]:
        """Lease up to ``batch`` mails that are due, and return them. Empty: nothing is due."""
        for _ in range(_TRIES):
            found, waiting = self._run(lambda connection: self._claim(connection, now, batch))
            if waiting or not found:
                return waiting
        return []

    def _claim(self, connection: sa.Connection, now: datetime, batch: int) -> tuple[bool, list[Waiting]]:
        """Return whether something was due, and what of it became ours: another worker may have been first."""
        if connection.dialect.name == "sqlite":
            # The write lock before what reads: an upgrade from reading does not honour the busy timeout.
            connection.execute(self._lock)
        rows = connection.execute(self._due, {"now": now, "batch": batch}).scalars().all()
        if not rows:
            return False, []
        lease_id = uuid4()
        values = {"rows": rows, "now": now, "mine": lease_id, "until": now + LEASE}
        if connection.execute(self._take, values).rowcount == 0:
            return True, []
        taken = connection.execute(self._taken, {"rows": rows, "mine": lease_id}).mappings().all()
        users = self._load_users(connection, {row["user_id"] for row in taken if row["user_id"] is not None})
        return True, [_waiting(row, users.get(row["user_id"]), now) for row in taken]

    def _load_users(self, connection: sa.Connection, keys: set[Any]) -> dict[Any, Any]:
        if not keys:
            return {}
        with Session(connection) as session:
            users = session.scalars(self._users, {"users": list(keys)}).unique().all()
            session.expunge_all()
        return {sa.inspect(user).identity[0]: user for user in users}

    def sent(self, waiting: Waiting, now: datetime) -> bool:
        """Note that the mail was handed over."""
        return self._mark(self._sent, waiting, now=now)

    def defer(self, waiting: Waiting, reason: str, at: datetime) -> bool:
        """Let the mail wait until ``at``."""
        return self._mark(self._defer, waiting, reason=scrub(reason, waiting.to_addr), at=at)

    def bury(self, waiting: Waiting, reason: str) -> bool:
        """Give the mail up."""
        return self._mark(self._end, waiting, reason=scrub(reason, waiting.to_addr), end=FAILED)

    def drop(self, waiting: Waiting, reason: str) -> bool:
        """Do not send the mail, on purpose."""
        return self._mark(self._end, waiting, reason=scrub(reason, waiting.to_addr), end=DROPPED)

    def release(self, waitings: Sequence[Waiting], at: datetime | None = None) -> None:
        """Give back mails that were not tried; they are due at once, or from ``at`` on."""
        if waitings:
            values = [{"row": waiting.id, "mine": waiting.lease_id, "at": at} for waiting in waitings]
            self._run(lambda connection: connection.execute(self._release, values))

    def next_due(self) -> datetime | None:
        """Return when the next mail that nobody holds is due; None when there is none."""
        with self._begin() as connection:
            moment = connection.execute(self._next).scalar()
        return None if moment is None else aware(moment)

    def _mark(self, statement: sa.Update, waiting: Waiting, **values: Any) -> bool:
        values |= {"row": waiting.id, "mine": waiting.lease_id}
        return self._run(lambda connection: connection.execute(statement, values).rowcount) == 1

    def _run(self, work: Callable[[sa.Connection], T]) -> T:
        """Run ``work`` in a transaction, and again after a deadlock or a lost connection."""
        for last in (False, False, True):
            try:
                with self._begin() as connection:
                    return work(connection)
            except DBAPIError as error:
                if last or not (is_transient(error) or error.connection_invalidated):
                    raise
        raise AssertionError("the last try raises")  # pragma: no cover


def _waiting(row: Mapping[Any, Any], user: Any, now: datetime) -> Waiting:
    return Waiting(
        id=row["id"],
        lease_id=row["lease_id"],
        template=row["template"],
        to_addr=row["to_addr"] or "",
        locale=row["locale"],
        context=row["context"] or {},
        message_id=row["message_id"],
        created_at=aware(row["created_at"]),
        expires_at=aware(row["expires_at"]),
        attempts=row["attempts"],
        user=user,
        link=None if row["token_id"] is None else _link(row, user, now),
    )


def _link(row: Mapping[Any, Any], user: Any, now: datetime) -> WaitingLink:
    if row["link_id"] is None:  # purged, or its account was: there is nothing left to link to
        return WaitingLink(row["token_id"], "", aware(row["created_at"]), aware(row["expires_at"]), live=False)
    expires_at = aware(row["link_expires_at"])
    is_theirs = user is not None and bool(user.is_active)
    is_bound = row["link_purpose"] in UNBOUND or (is_theirs and row["link_stamp"] == user.stamp)
    is_live = is_theirs and is_bound and row["link_used_at"] is None and expires_at > now
    return WaitingLink(row["link_id"], row["link_purpose"], aware(row["link_created_at"]), expires_at, is_live)
