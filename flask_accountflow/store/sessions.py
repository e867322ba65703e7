"""Logins: browser sessions and families of refresh tokens, one row each."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapper

from ..models import Tables, aware
from ..tokens import random_id
from .accounts import Account, AccountColumns
from .unit import Units

BROWSER, API = "browser", "api"

#: So many logins are listed; a program that never logs out may have thousands.
_LISTED = 100


@dataclass(frozen=True)
class Login:
    """A row of the session table."""

    id: uuid.UUID
    user_id: Any
    kind: str
    stamp: uuid.UUID
    generation: int
    rotated_at: datetime | None
    remember: bool
    created_at: datetime
    last_seen_at: datetime
    authenticated_at: datetime
    expires_at: datetime
    revoked_at: datetime | None

    @classmethod
    def from_row(cls, row: Mapping[Any, Any]) -> Login:
        """Return the login in a row whose columns are labelled ``login_…``."""
        values: dict[str, Any] = {name: row[f"login_{name}"] for name in cls.__dataclass_fields__}
        moments = {name: aware(value) for name, value in values.items() if isinstance(value, datetime)}
        return cls(**{**values, **moments})

    def is_alive(self, now: datetime) -> bool:
        """Tell whether it was neither revoked nor outlived."""
        return self.revoked_at is None and self.expires_at > now

    def is_idle(self, now: datetime, limit: timedelta) -> bool:
        """Tell whether it ended by itself: a browser's that was not to be remembered, after ``limit`` without a use."""
        return self.kind == BROWSER and not self.remember and self.last_seen_at + limit <= now


@dataclass(frozen=True)
class Device:
    """A login with what is known of where it is used."""

    login: Login
    ip: str | None
    user_agent: str | None


class Sessions:
    """All SQL about logins."""

    def __init__(
        self,
        units: Units,
        user_model: type,
        mapper: Mapper[Any],
        tables: Tables,
        begin: Callable[[], AbstractContextManager[sa.Connection]],
    ) -> None:
        self._units = units
        self._begin = begin
        self._account = AccountColumns(mapper)
        login = tables.session
        self._login_id = login.c.id
        self._labelled = [login.c[name].label(f"login_{name}") for name in Login.__dataclass_fields__]
        self._prepare_questions(user_model, tables)
        self._prepare_changes(login)

    def _prepare_questions(self, user_model: type, tables: Tables) -> None:
        login = tables.session
        by_id, is_owner = login.c.id == sa.bindparam("login"), self._account.key == login.c.user_id
        state = [self._account.by_name[name].label(name) for name in ("stamp", "is_active")]
        self._load = sa.select(user_model, *self._labelled, *state).join(login, is_owner).where(by_id)
        joined = login.join(tables.user, is_owner)
        self._find = sa.select(*self._labelled, *self._account.labelled).select_from(joined).where(by_id)
        self._list = (
            sa.select(*self._labelled, login.c.ip, login.c.user_agent)
            .where(*_theirs(login), login.c.stamp == sa.bindparam("stamp"), login.c.expires_at > sa.bindparam("now"))
            .order_by(login.c.last_seen_at.desc(), login.c.created_at.desc(), login.c.id)
            .limit(_LISTED)
        )

    def _prepare_changes(self, login: sa.Table) -> None:
        now: Any = sa.bindparam("now")
        by_id = login.c.id == sa.bindparam("login")
        alive = (by_id, login.c.revoked_at.is_(None))
        self._insert = sa.insert(login)
        self._rotate = (
            sa.update(login)
            .where(*alive, login.c.generation == sa.bindparam("known"), login.c.expires_at > now)
            .values(generation=login.c.generation + 1, rotated_at=now, last_seen_at=now)
        )
        revoke = sa.update(login).values(revoked_at=now)
        self._revoke = revoke.where(*alive)
        self._revoke_one = revoke.where(by_id, *_theirs(login))
        self._revoke_all = revoke.where(*_theirs(login))
        self._revoke_everybody = revoke.where(login.c.revoked_at.is_(None), login.c.expires_at > now)
        unused = login.c.last_seen_at < sa.bindparam("before")
        self._touch = sa.update(login).where(by_id, unused).values(last_seen_at=now)

    def open(
        self,
        account_id: Any,
        stamp: uuid.UUID,
        *,
        kind: str,
        remember: bool,
        now: datetime,
        expires_at: datetime,
        ip: str | None,
        user_agent: str | None,
    ) -> Login:
        """Insert a login and return it."""
        login = Login(
            id=random_id(),
            user_id=account_id,
            kind=kind,
            stamp=stamp,
            generation=0,
            rotated_at=None,
            remember=remember,
            created_at=now,
            last_seen_at=now,
            authenticated_at=now,
            expires_at=expires_at,
            revoked_at=None,
        )
        self._units.execute(self._insert, {**vars(login), "ip": ip, "user_agent": user_agent})
        return login

    def load(self, login_id: uuid.UUID) -> tuple[Any, Login] | None:
        """Return the app's entity and its login, in one statement; None when the account ended it.

        The stamp and the state are compared as the row says, not as an entity in memory does.
        """
        row = self._units.entities(self._load, {"login": login_id}).first()
        if row is None:
            return None
        login = Login.from_row(row._mapping)
        if row.stamp != login.stamp or not row.is_active:
            return None
        return row[0], login

    def member(self, login_id: uuid.UUID) -> tuple[Account, Login] | None:
        """Return what :meth:`load` does, but the account in the place of the app's entity."""
        found = self.find(login_id)
        if found is None:
            return None
        login, account = found
        return (account, login) if account.stamp == login.stamp and account.is_active else None

    def find(self, login_id: uuid.UUID) -> tuple[Login, Account] | None:
        """Return a login, dead or alive, and its account."""
        row = self._units.execute(self._find, {"login": login_id}).mappings().first()
        if row is None:
            return None
        account = self._account.account(row)
        return None if account is None else (Login.from_row(row), account)

    def rotate(self, login: Login, now: datetime) -> bool:
        """Step to the next generation; False when another request was first."""
        return self._units.changed(self._rotate, {"login": login.id, "known": login.generation, "now": now})

    def revoke(self, login_id: uuid.UUID, now: datetime) -> bool:
        """End a login; False when it was over."""
        return self._units.changed(self._revoke, {"login": login_id, "now": now})

    def revoke_of(self, account_id: Any, login_id: uuid.UUID, now: datetime) -> bool:
        """End a login of this account; False when it was over, or is another's."""
        return self._units.changed(self._revoke_one, {"login": login_id, "owner": account_id, "now": now})

    def revoke_all(self, account_id: Any, now: datetime, *, keep: uuid.UUID | None = None) -> bool:
        """End every login of an account but the one to ``keep``; False when there was none."""
        statement = self._revoke_all if keep is None else self._revoke_all.where(self._login_id != keep)
        result = self._units.execute(statement, {"owner": account_id, "now": now})
        return result.rowcount > 0

    def revoke_everybody(self, now: datetime) -> int:
        """End every login of the site, and return how many there were."""
        return self._units.execute(self._revoke_everybody, {"now": now}).rowcount

    def living(self, account: Account, now: datetime) -> list[Device]:
        """Return where the account is logged in, the one used last first."""
        rows = self._units.execute(self._list, {"owner": account.id, "stamp": account.stamp, "now": now})
        return [Device(Login.from_row(row), row["ip"], row["user_agent"]) for row in rows.mappings()]

    def touch(self, login_id: uuid.UUID, now: datetime, before: datetime) -> None:
        """Note that the login was used, on a connection of its own, when the note is older than ``before``.

        Never on the host's connection: on SQLite that would wait for the host's own write lock.
        """
        with self._begin() as connection:
            connection.execute(self._touch, {"login": login_id, "now": now, "before": before})


def _theirs(login: sa.Table) -> tuple[sa.ColumnElement[bool], ...]:
    """Return what picks the logins of an account that nobody ended."""
    return login.c.user_id == sa.bindparam("owner"), login.c.revoked_at.is_(None)
