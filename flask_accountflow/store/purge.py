"""Removal of rows that have no use any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapper

from ..models import Tables
from ..settings import Settings
from .accounts import SIGNUP
from .queue import PENDING
from .unit import Units

# So few rows that no login waits for long, even where each is on pages of its own; and so few accounts are looked at in
# one statement that MariaDB goes to the links of each by their index.
_BATCH = 200
# Seconds. Who waits for SQLite's lock looks again after 25 ms at most, while the wait is short: a rest is longer than
# that. Work, one step more and 25 ms come to less than 100 ms.
_WORK, _REST = 0.03, 0.04


class Pace:
    """Rests after some work, for those who wait for SQLite's only lock."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._began = clock()

    def step(self) -> None:
        """Rest if there has been enough work since the last rest. Between two transactions."""
        if self._clock() - self._began >= _WORK:
            self._sleep(_REST)
            self._began = self._clock()


class Purge:
    """Deletes dead links, logins, mails and accounts that were never confirmed, in small units."""

    def __init__(self, units: Units, mapper: Mapper[Any], tables: Tables, make_pace: Callable[[], Pace] = Pace) -> None:
        self._units = units
        self._make_pace = make_pace
        self._tables = tables
        self._dependent = (tables.mail, tables.token, tables.session)
        self._key: Any = mapper.primary_key[0]
        self._verified: Any = mapper.columns["email_verified_at"]
        self._created: Any = mapper.columns["created_at"]
        self._hash: Any = mapper.columns["password_hash"]

    def run(self, settings: Settings, now: datetime) -> dict[str, int]:
        """Delete what is dead and return how many rows of each table went."""
        rest = self._rest()
        removed = {table.name: self._rows(table, dead, rest) for table, dead in self._dead(settings, now)}
        return {**removed, self._tables.user.name: self._accounts(_unverified_since(settings, now), rest)}

    def count(self, settings: Settings, now: datetime) -> dict[str, int]:
        """Return how many rows of each table a run would delete. Accounts that the app's rows point at are counted."""
        found = {table.name: self._count(table, dead) for table, dead in self._dead(settings, now)}
        user = self._tables.user
        return {**found, user.name: self._count(user, sa.and_(*self._stale(_unverified_since(settings, now))))}

    def _dead(self, settings: Settings, now: datetime) -> Iterator[tuple[sa.Table, sa.ColumnElement[bool]]]:
        keep = now - timedelta(seconds=settings.link_keep_age)
        token, session, mail = self._tables.token, self._tables.session, self._tables.mail
        # A mail that waits is delivered or given up first; one that the caps still count is needed by them.
        is_over = sa.and_(mail.c.state != PENDING, mail.c.created_at < now - timedelta(seconds=_longest_cap(settings)))
        # A sign-up competes with others of its address for as long as an account may stay unconfirmed.
        is_no_rival = sa.or_(token.c.purpose != SIGNUP, token.c.created_at < _unverified_since(settings, now))
        yield mail, sa.and_(mail.c.expires_at < keep, is_over)
        yield token, sa.and_(token.c.expires_at < keep, is_no_rival)
        yield session, session.c.expires_at < keep

    def _count(self, table: sa.Table, dead: sa.ColumnElement[bool]) -> int:
        statement = sa.select(sa.func.count()).select_from(table).where(dead)
        return int(self._units.read(lambda: self._units.execute(statement).scalar_one(), release=True))

    def _rest(self) -> Callable[[], None]:
        """Return what is called between two transactions."""
        # The others lock rows, and let those who wait go on at once.
        return self._make_pace().step if self._is_sqlite() else lambda: None

    def _rows(self, table: sa.Table, dead: sa.ColumnElement[bool], rest: Callable[[], None]) -> int:
        removed = 0
        # In the order of the index: PostgreSQL would go over the rows that are gone already.
        chosen = sa.select(table.c.id).where(dead).order_by(table.c.expires_at).limit(_BATCH)
        while ids := self._ids(chosen):
            delete = sa.delete(table).where(table.c.id.in_(ids))
            self._units.run(lambda delete=delete: self._units.execute(delete), own=True)  # type: ignore[misc]
            removed += len(ids)
            rest()
        return removed

    def _accounts(self, before: datetime, rest: Callable[[], None]) -> int:
        """Delete accounts that were never confirmed, one by one; those that host tables point at stay."""
        stale = self._stale(before)
        chosen = sa.select(self._key).where(*stale).order_by(self._key)
        if not self._enforces_references():
            chosen = chosen.where(*self._has_no_references())
        # The same conditions again: it may have been confirmed meanwhile.
        delete = sa.delete(self._tables.user).where(self._key == sa.bindparam("account"), *stale)
        removed = 0
        for window in self._windows():
            for account_id in self._ids(chosen.where(*window)):
                removed += self._account(delete, account_id)
                rest()
        return removed

    def _windows(self) -> Iterator[list[sa.ColumnElement[bool]]]:
        """Yield the conditions of one range of accounts after the other, so that each is read once."""
        ends = sa.select(self._key).order_by(self._key).offset(_BATCH - 1).limit(1)
        after: list[sa.ColumnElement[bool]] = []
        while last := self._ids(ends.where(*after)):
            yield [*after, self._key <= last[0]]
            after = [self._key > last[0]]
        yield after

    def _ids(self, chosen: sa.Select[Any]) -> Sequence[Any]:
        return self._units.read(lambda: self._units.execute(chosen).scalars().all(), release=True)

    def _stale(self, before: datetime) -> list[sa.ColumnElement[bool]]:
        return [self._verified.is_(None), self._hash.is_(None), self._created < before, self._has_no_attempt(before)]

    def _has_no_attempt(self, before: datetime) -> sa.ColumnElement[bool]:
        token = self._tables.token
        return ~sa.exists().where(token.c.user_id == self._key, token.c.created_at >= before)

    def _enforces_references(self) -> bool:
        pragma = "PRAGMA foreign_keys"
        return not self._is_sqlite() or bool(self._units.connection().exec_driver_sql(pragma).scalar())

    def _is_sqlite(self) -> bool:
        return self._units.connection().dialect.name == "sqlite"

    def _has_no_references(self) -> Iterator[sa.ColumnElement[bool]]:
        user = self._tables.user
        for table in user.metadata.tables.values():
            for foreign in () if table in self._dependent else table.foreign_keys:
                if foreign.target_fullname == f"{user.fullname}.{self._key.name}":
                    yield ~sa.exists().where(table.alias().c[foreign.parent.key] == self._key)

    def _account(self, delete: sa.Delete, account_id: Any) -> bool:
        def work() -> bool:
            if not self._units.changed(delete, {"account": account_id}):
                return False
            # SQLite does not enforce ON DELETE CASCADE unless it is told to.
            for table in self._dependent:
                self._units.execute(sa.delete(table).where(table.c.user_id == account_id))
            return True

        try:
            return self._units.run(work, own=True)
        except IntegrityError:
            return False


def _unverified_since(settings: Settings, now: datetime) -> datetime:
    """Return before which a sign-up was made that nobody waits for any more."""
    return now - timedelta(seconds=settings.unverified_max_age)


def _longest_cap(settings: Settings) -> int:
    return max(settings.resend_after, *(rate.seconds for rate in settings.mail_per_address))
