"""Accounts: the rows of the app's user table, found by their canonical address."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapper

from ..errors import FieldFault
from ..identity import Address
from ..messages import Filled, noted
from ..models import Tables, aware
from ..tokens import random_id
from .queue import FAILED
from .unit import Units

SIGNUP = "signup"

_COLUMNS = (
    "email",
    "email_key",
    "password_hash",
    "email_verified_at",
    "is_active",
    "is_admin",
    "stamp",
    "locale",
    "last_login_at",
    "created_at",
)


@dataclass(frozen=True)
class Account:
    """What the flows know of an account; the app's entity is only for the app."""

    id: Any
    email: str
    email_key: str | None
    password_hash: str | None
    email_verified_at: datetime | None
    is_active: bool
    is_admin: bool
    stamp: uuid.UUID
    locale: str | None
    last_login_at: datetime | None
    created_at: datetime

    @property
    def email_verified(self) -> bool:
        """Whether the address was proved."""
        return self.email_verified_at is not None


@dataclass(frozen=True)
class Attempt:
    """The newest sign-up of an address that was not redeemed."""

    id: uuid.UUID
    password_hash: str | None


class AccountColumns:
    """The columns of an account under fixed labels, whatever the app named them."""

    def __init__(self, mapper: Mapper[Any]) -> None:
        self.key: Any = mapper.primary_key[0]
        self.by_name: Mapping[str, Any] = {name: mapper.columns[name] for name in _COLUMNS}
        self.labelled = [self.key.label("account_id")]
        self.labelled += [column.label(f"account_{name}") for name, column in self.by_name.items()]

    @staticmethod
    def account(row: Mapping[Any, Any]) -> Account | None:
        """Return the account in ``row``, or None where an outer join found none."""
        if row["account_id"] is None:
            return None
        values = {name: row[f"account_{name}"] for name in ("id", *_COLUMNS)}
        moments = {key: aware(value) for key, value in values.items() if isinstance(value, datetime)}
        return Account(**{**values, **moments})


def _most(kind: sa.Integer) -> int:
    """Return the largest number that a column of this kind holds on every database."""
    if isinstance(kind, sa.BigInteger):
        return 2**63 - 1
    return 2**15 - 1 if isinstance(kind, sa.SmallInteger) else 2**31 - 1


def _digits(value: Any) -> int:
    """Return how many digits a number has before the point."""
    number = Decimal(value or 0)
    return number.adjusted() + 1 if number else 0


def _python_type(kind: sa.types.TypeEngine[Any]) -> type[Any]:
    """Return the class of a column's values; ``object`` where the type does not say."""
    try:
        return kind.python_type
    except NotImplementedError:  # what SQLAlchemy 2.0 does for types of the app's own
        return object


#: How text that JSON kept becomes what a column wants; all other columns take the text.
_PARSERS: Mapping[type[Any], Callable[[str], Any]] = MappingProxyType(
    {
        date: date.fromisoformat,
        time: time.fromisoformat,
        datetime: datetime.fromisoformat,
        Decimal: Decimal,
        int: int,
        float: float,
        uuid.UUID: uuid.UUID,
    }
)


class Accounts:
    """All SQL about accounts."""

    def __init__(self, units: Units, user_model: type, mapper: Mapper[Any], tables: Tables) -> None:
        self._units = units
        self._model = user_model
        self._columns = AccountColumns(mapper)
        self._mapper = mapper
        column = self._columns.by_name
        token = tables.token
        by_key = column["email_key"] == sa.bindparam("key")
        self._find = sa.select(*self._columns.labelled).where(by_key)
        self._get = sa.select(*self._columns.labelled).where(self._columns.key == sa.bindparam("id"))
        live = sa.exists().where(
            token.c.user_id == self._columns.key,
            token.c.purpose == sa.bindparam("purpose"),
            token.c.stamp == column["stamp"],
            token.c.used_at.is_(None),
            token.c.expires_at > sa.bindparam("now"),
            # A link that never arrived is none: the caps must not keep its owner from another.
            ~sa.exists().where(
                tables.mail.c.user_id == token.c.user_id,
                tables.mail.c.token_id == token.c.id,
                tables.mail.c.state == FAILED,
            ),
        )
        self._find_with_link = self._find.add_columns(live.label("holds_link"))
        self._find_for_login = self._login_statement(token, by_key)
        self._any_admin = sa.select(sa.exists().where(column["is_admin"]))
        self._touch_nothing = sa.delete(tables.user).where(sa.false())
        self._change = sa.update(tables.user).where(
            self._columns.key == sa.bindparam("af_account"), column["stamp"] == sa.bindparam("af_stamp")
        )
        self._changes: dict[frozenset[str], sa.Update] = {}

    def _login_statement(self, token: sa.Table, by_key: sa.ColumnElement[bool]) -> sa.Select[Any]:
        other = token.alias()  # a name of its own, or SQLAlchemy would take it for the outer one
        newest = (
            sa.select(other.c.id)
            .where(
                other.c.email_key == sa.bindparam("key"),
                other.c.purpose == SIGNUP,
                other.c.created_at > sa.bindparam("since"),
                sa.or_(other.c.outcome.is_(None), other.c.outcome == "decoy"),
            )
            .order_by(other.c.created_at.desc(), other.c.id.desc())
            .limit(1)
            .scalar_subquery()
        )
        # A row of its own, so that an address without an account still finds its sign-ups.
        moment = sa.DateTime(timezone=True)
        asked = sa.select(sa.bindparam("since", type_=moment).label("since")).subquery()
        is_newest = sa.and_(token.c.id == newest, token.c.created_at > asked.c.since)
        source = asked.outerjoin(self._mapper.local_table, by_key).outerjoin(token, is_newest)
        columns = (*self._columns.labelled, token.c.id.label("attempt_id"), token.c.payload.label("attempt_payload"))
        return sa.select(*columns).select_from(source)

    def find(self, key: str) -> Account | None:
        """Return the account that holds the address."""
        row = self._units.execute(self._find, {"key": key}).mappings().first()
        return None if row is None else self._columns.account(row)

    def get(self, account_id: Any) -> Account | None:
        """Return the account with this primary key."""
        row = self._units.execute(self._get, {"id": account_id}).mappings().first()
        return None if row is None else self._columns.account(row)

    def any_admin(self) -> bool:
        """Tell whether there is an administrator."""
        return bool(self._units.execute(self._any_admin, {}).scalar())

    def find_with_link(
        self, key: str, purpose: str, now: datetime, *, lock: bool = False
    ) -> tuple[Account | None, bool]:
        """Return the account that holds the address, and whether it holds a live link of that purpose.

        ``lock`` reads what was committed last, which a plain read on MariaDB does not.
        """
        statement = self._find_with_link.with_for_update(read=True) if lock else self._find_with_link
        row = self._units.execute(statement, {"key": key, "purpose": purpose, "now": now}).mappings().first()
        if row is None:
            return None, False
        return self._columns.account(row), bool(row["holds_link"])

    def find_for_login(self, key: str, since: datetime) -> tuple[Account | None, Attempt | None]:
        """Return the account that holds the address, and its newest sign-up since then that was not redeemed."""
        row = self._units.execute(self._find_for_login, {"key": key, "since": since}).mappings().one()
        attempt = None
        if row["attempt_id"] is not None:
            attempt = Attempt(row["attempt_id"], (row["attempt_payload"] or {}).get("password_hash"))
        return self._columns.account(row), attempt

    def create(
        self,
        address: Address,
        now: datetime,
        *,
        values: Mapping[str, Any],
        hook: Callable[[Any], None] = lambda user: None,
    ) -> Account | None:
        """Insert an account by the app's model; None when the address is held by another.

        ``hook`` gets the entity before the unit ends.
        """
        user = self._model(email=address.email, email_key=address.key, created_at=now, **values)
        session = self._units.session()
        try:
            with session.begin_nested():
                session.add(user)
                session.flush()
        except IntegrityError:
            if self.find_with_link(address.key, "", now, lock=True)[0] is None:
                raise  # a constraint of the host, not the address
            return None
        hook(user)
        session.flush()  # here a fault of what the hook has added is not taken for one of ours
        return self.from_entity(user)

    def create_nothing(self) -> None:
        """Do what :meth:`create` does around its ``INSERT``, and change nothing: a stranger must not see the difference
        by the time of an answer."""
        with self._units.session().begin_nested():
            self._units.execute(self._touch_nothing, {})

    def entity(self, account: Account) -> Any:
        """Return the app's entity of an account."""
        return self._units.read(lambda: self._units.session().get(self._model, account.id))

    def from_entity(self, user: Any) -> Account:
        """Return the account that ``user`` is the entity of."""
        values = {name: getattr(user, name) for name in _COLUMNS}
        moments = {key: aware(value) for key, value in values.items() if isinstance(value, datetime)}
        return Account(id=sa.inspect(user).identity[0], **{**values, **moments})

    def change(self, account: Account, values: Mapping[str, Any]) -> Account | None:
        """Change an account and rotate its stamp, which ends all that was issued before.

        None, and nothing is changed, when its stamp is no longer the one that ``account`` says.
        """
        stamp = random_id()
        if not self._write(account, {**values, "stamp": stamp}):
            return None
        known = {name: value for name, value in values.items() if name in _COLUMNS}
        return replace(account, **known, stamp=stamp)

    def move(self, account: Account, address: Address, values: Mapping[str, Any]) -> Account | None:
        """Give an account another address, and change it as :meth:`change` does. None also when another holds it."""
        try:
            with self._units.session().begin_nested():
                return self.change(account, {**values, "email": address.email, "email_key": address.key})
        except IntegrityError:
            return None

    def note_login(self, account: Account, now: datetime, password_hash: str | None) -> bool:
        """Note a login, and a hash made anew; nothing ends by it. False as in :meth:`change`."""
        values: dict[str, Any] = {"last_login_at": now}
        if password_hash is not None:
            values["password_hash"] = password_hash
        return self._write(account, values)

    def _write(self, account: Account, values: Mapping[str, Any]) -> bool:
        expressions = {name for name, value in values.items() if isinstance(value, sa.ClauseElement)}
        statement = self._change_of(frozenset(values) - expressions)
        if expressions:
            statement = statement.values({self._mapper.columns[name]: values[name] for name in expressions})
        given = {f"af_to_{name}": value for name, value in values.items() if name not in expressions}
        return self._units.changed(statement, {"af_account": account.id, "af_stamp": account.stamp, **given})

    def _change_of(self, names: frozenset[str]) -> sa.Update:
        """Return the statement that writes these columns, made once: each flow writes its own few."""
        if names not in self._changes:
            given: dict[Any, Any] = {self._mapper.columns[name]: sa.bindparam(f"af_to_{name}") for name in names}
            self._changes[names] = self._change.values(given)
        return self._changes[names]

    def typed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that JSON kept as the columns of these names want them."""
        found = {}
        for name, value in values.items():
            if name in self._mapper.columns and name not in _COLUMNS:
                parse = _PARSERS.get(_python_type(self._mapper.columns[name].type))
                found[name] = parse(value) if parse is not None and isinstance(value, str) else value
        return found

    def longest(self, name: str) -> int | None:
        """Return how many characters the column of this name holds; None where that is not said."""
        kind = self._mapper.columns[name].type
        return kind.length if isinstance(kind, sa.String) else None

    def misfits(self, values: Mapping[str, Any]) -> Iterator[FieldFault]:
        """Yield which values the columns of these names cannot hold; databases differ in how they say so."""
        for name, value in values.items():
            kind, longest = self._mapper.columns[name].type, self.longest(name)
            if longest is not None and len(str(value or "")) > longest:
                sentence = Filled(noted("Use at most %(max)s characters."), max=longest)
                yield FieldFault(name, "too_long", sentence, {"max": longest})
            if isinstance(kind, sa.Numeric) and kind.precision and _digits(value) > kind.precision - (kind.scale or 0):
                yield FieldFault(name, "invalid", noted("This number is too large."))
            if isinstance(kind, sa.Integer) and isinstance(value, int) and not -_most(kind) <= value <= _most(kind):
                yield FieldFault(name, "invalid", noted("This number is too large."))

    def defaults(self, names: Iterable[str]) -> dict[str, Any]:
        """Return what the columns of these names hold when nobody fills them, for those that say so."""
        found: dict[str, Any] = {}
        for name in names:
            column: Any = self._mapper.columns.get(name)
            if column is None:
                continue
            if column.default is not None and column.default.is_scalar:
                found[name] = column.default.arg
            elif hasattr(column.server_default, "arg"):
                said = column.server_default.arg
                found[name] = sa.literal(said, literal_execute=True) if isinstance(said, str) else said
            elif column.nullable:
                found[name] = None
        return found
