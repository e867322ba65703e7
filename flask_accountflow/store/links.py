"""Mailed links and sign-up attempts: one row each, used at most once."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.orm import Mapper

from ..models import Tables, aware
from .accounts import SIGNUP, Account, AccountColumns
from .queue import REVERT, UNBOUND
from .unit import Units

REDEEMED, DISCARDED, DISPLACED, DECOY = "redeemed", "discarded", "displaced", "decoy"

#: The purpose of the link that confirms a new address.
CHANGE = "change"

State = Literal["live", "expired", "used", "superseded"]


@dataclass(frozen=True)
class Link:
    """A row of the token table with the account that it belongs to."""

    id: uuid.UUID
    purpose: str
    email_key: str
    sent_to: str | None
    payload: Mapping[str, Any]
    stamp: uuid.UUID | None
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    outcome: str | None
    account: Account | None
    #: How many other sign-ups of the address were neither redeemed nor discarded.
    rivals: int

    def state(self, now: datetime) -> State:
        """Return what the link is good for now. The row decides, not the signature's clock."""
        if self.outcome == REDEEMED:
            return "used"
        if self.used_at is not None or self.account is None or not self.account.is_active:
            return "superseded"
        if self.purpose not in UNBOUND and self.stamp != self.account.stamp:
            return "superseded"
        return "expired" if self.expires_at <= now else "live"


@dataclass(frozen=True)
class PendingChange:
    """A change of address that waits for its confirmation."""

    email: str
    expires_at: datetime


class Links:
    """All SQL about links."""

    def __init__(self, units: Units, mapper: Mapper[Any], tables: Tables) -> None:
        self._units = units
        self._account = AccountColumns(mapper)
        self._token = token = tables.token
        self._insert = sa.insert(token)
        self._find = self._find_statement(token, tables.user)
        other = self._open_attempt(token)
        self._rivals = sa.select(token.c.id, token.c.payload).where(
            token.c.email_key == sa.bindparam("key"), token.c.id != sa.bindparam("id"), *other
        )
        self._use = (
            sa.update(token)
            .where(
                token.c.id == sa.bindparam("link"),
                token.c.used_at.is_(None),
                token.c.expires_at > sa.bindparam("now"),
            )
            .values(used_at=sa.bindparam("now"), outcome=sa.bindparam("result"))
        )
        self._settle = sa.update(token).values(used_at=sa.bindparam("now"), outcome=REDEEMED)
        self._displace = (
            sa.update(token)
            .where(token.c.user_id == sa.bindparam("owner"), token.c.used_at.is_(None))
            .values(used_at=sa.bindparam("now"), outcome=DISPLACED)
        )
        self._reverts = sa.select(token.c.id, token.c.payload).where(
            token.c.user_id == sa.bindparam("owner"), token.c.purpose == REVERT
        )
        # A decoy stands for what was asked for as well: an owner must not learn by it who has an account.
        is_pending: tuple[sa.ColumnElement[bool], ...] = (
            token.c.user_id == sa.bindparam("owner"),
            token.c.purpose == CHANGE,
            token.c.stamp == sa.bindparam("issued"),
            token.c.expires_at > sa.bindparam("now"),
            sa.or_(token.c.outcome.is_(None), token.c.outcome == DECOY),
        )
        self._pending = (
            sa.select(token.c.sent_to, token.c.expires_at)
            .where(*is_pending)
            .order_by(token.c.created_at.desc(), token.c.id.desc())
            .limit(1)
        )
        self._withdraw = (
            sa.update(token)
            .where(*is_pending, token.c.email_key != sa.bindparam("kept"))
            .values(used_at=sa.bindparam("now"), outcome=DISCARDED)
        )
        self._newest = (
            sa.select(token.c.payload)
            .where(token.c.email_key == sa.bindparam("key"), *other)
            .order_by(token.c.created_at.desc(), token.c.id.desc())
        )

    @staticmethod
    def _open_attempt(token: Any) -> tuple[sa.ColumnElement[bool], ...]:
        return (
            token.c.purpose == SIGNUP,
            token.c.created_at > sa.bindparam("since"),
            sa.or_(token.c.outcome.is_(None), token.c.outcome == DECOY),
        )

    def _find_statement(self, token: sa.Table, user: sa.Table) -> sa.Select[Any]:
        other = token.alias()
        rivals = (
            sa.select(sa.func.count())
            .where(other.c.email_key == token.c.email_key, other.c.id != token.c.id, *self._open_attempt(other))
            .where(token.c.purpose == SIGNUP)
            .scalar_subquery()
        )
        return (
            sa.select(token, *self._account.labelled, rivals.label("rivals"))
            .select_from(token.outerjoin(user, token.c.user_id == self._account.key))
            .where(token.c.id == sa.bindparam("link"))
        )

    def add(self, values: Mapping[str, Any]) -> None:
        """Insert a link."""
        self._units.execute(self._insert, dict(values))

    def find(self, link_id: uuid.UUID, since: datetime) -> Link | None:
        """Return the link; sign-ups since then count as rivals."""
        row = self._units.execute(self._find, {"link": link_id, "since": since}).mappings().first()
        if row is None:
            return None
        return Link(
            id=row["id"],
            purpose=row["purpose"],
            email_key=row["email_key"],
            sent_to=row["sent_to"],
            payload=row["payload"] or {},
            stamp=row["stamp"],
            created_at=aware(row["created_at"]),
            expires_at=aware(row["expires_at"]),
            used_at=None if row["used_at"] is None else aware(row["used_at"]),
            outcome=row["outcome"],
            account=self._account.account(row),
            rivals=row["rivals"],
        )

    def rivals(self, link: Link, since: datetime) -> dict[uuid.UUID, Any]:
        """Return the other sign-ups that :attr:`Link.rivals` counts, each with its browser's nonce."""
        values = {"key": link.email_key, "id": link.id, "since": since}
        return {row.id: (row.payload or {}).get("nonce") for row in self._units.execute(self._rivals, values)}

    def newest_attempts(self, key: str, since: datetime) -> list[Mapping[str, Any]]:
        """Return the payloads of the address's sign-ups since then that were not redeemed, newest first."""
        return [payload or {} for payload in self._units.execute(self._newest, {"key": key, "since": since}).scalars()]

    def use(self, link: Link, now: datetime, outcome: str) -> bool:
        """Use the link up; False when another request was first, or its time is over."""
        return self._units.changed(self._use, {"link": link.id, "now": now, "result": outcome})

    def settle(self, ids: Sequence[uuid.UUID], now: datetime) -> None:
        """Take these rows as redeemed: other mails of the sign-up that was just confirmed."""
        self._units.execute(self._settle.where(self._token.c.id.in_(ids)), {"now": now})

    def reverts(self, account: Account) -> dict[uuid.UUID, int]:
        """Return the links that bring back an address of this account, used or not, each with its number."""
        rows = self._units.execute(self._reverts, {"owner": account.id})
        return {row.id: int((row.payload or {}).get("number", 0)) for row in rows}

    def pending_change(self, account: Account, now: datetime) -> PendingChange | None:
        """Return the change of address that this account asked for last."""
        values = {"owner": account.id, "issued": account.stamp, "now": now}
        row = self._units.execute(self._pending, values).first()
        return None if row is None else PendingChange(row.sent_to, aware(row.expires_at))

    def withdraw_changes(self, account: Account, now: datetime, *, but: str = "") -> None:
        """Use up the links of the changes of address that this account asked for, but for those to one address."""
        self._units.execute(self._withdraw, {"owner": account.id, "issued": account.stamp, "now": now, "kept": but})

    def displace(self, account_id: Any, now: datetime, *, keep: Iterable[uuid.UUID] = ()) -> None:
        """Use up the links of an account that another one takes the address from, or that goes back to an old one."""
        others = self._displace.where(self._token.c.id.not_in(list(keep)))
        self._units.execute(others, {"owner": account_id, "now": now})
