"""The user mixin, and the three tables that stand beside the app's user table.

The tables are Core tables, not classes: classes would inherit whatever the host put on its base.
They live in the metadata of the user model, so that ``db.create_all()`` and Flask-Migrate see them.
"""

from __future__ import annotations

import inspect
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any, get_args

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, MappedColumn, Mapper, declared_attr, mapped_column

from .errors import ConfigError
from .tokens import random_id

if sys.version_info >= (3, 14):  # pragma: no cover - one of the two, by the Python that runs
    from annotationlib import Format, get_annotations

    _raw_annotations = partial(get_annotations, format=Format.FORWARDREF)
else:  # pragma: no cover
    _raw_annotations = inspect.get_annotations

#: Longest address in characters: RFC 5321 section 4.5.3.1.3 less its two brackets (RFC 3696 erratum 1690).
EMAIL_LENGTH = 254

#: 128 random bits. MariaDB's own uuid type refuses those that are no UUID by RFC 9562, which fixes 6 of the bits.
ROW_ID = sa.Uuid().with_variant(sa.Uuid(native_uuid=False), "mysql", "mariadb")


class UserMixin:
    """The columns and the words of an account, for the app's own user model.

    A model without a primary key of its own gets ``id``, a random UUID. Override a column by
    declaring the attribute again: ``email = mapped_column("mail", String(254))``.
    """

    #: The address as its owner typed it, for delivery.
    email: Mapped[str] = mapped_column(sa.String(EMAIL_LENGTH))
    #: The canonical address, by which an account is found. Empty when another account proved the address.
    email_key: Mapped[str | None] = mapped_column(sa.String(EMAIL_LENGTH), unique=True)
    #: The hashed password. Empty: nobody can log in with one.
    password_hash: Mapped[str | None] = mapped_column(sa.String(255))
    email_verified_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    is_active: Mapped[bool] = mapped_column(sa.Boolean, insert_default=True)
    is_admin: Mapped[bool] = mapped_column(sa.Boolean, insert_default=False)
    #: Whatever was issued under another stamp is dead: links, sessions, refresh families.
    stamp: Mapped[uuid.UUID] = mapped_column(ROW_ID, insert_default=random_id)
    locale: Mapped[str | None] = mapped_column(sa.String(35))
    last_login_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    password_changed_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True))

    def __init_subclass__(cls, **options: Any) -> None:
        if hasattr(cls, "metadata") and not vars(cls).get("__abstract__") and not _has_key(cls):
            cls.id = mapped_column(ROW_ID, primary_key=True, insert_default=random_id)  # type: ignore[attr-defined]
        super().__init_subclass__(**options)

    @property
    def email_verified(self) -> bool:
        """Whether the address was proved."""
        return self.email_verified_at is not None

    @property
    def is_authenticated(self) -> bool:
        """True: a user is somebody."""
        return True

    @property
    def is_anonymous(self) -> bool:
        """False: a user is somebody."""
        return False

    def get_id(self) -> str:
        """Return the primary key as text."""
        return str(sa.inspect(self).identity[0])


def _has_key(cls: type) -> bool:
    return any(_is_mapped(base) or any(map(_is_key, _declared(cls, base))) for base in cls.__mro__)


def _is_mapped(base: type) -> bool:
    return "__mapper__" in vars(base) or "__table__" in vars(base)


def _declared(cls: type, base: type) -> Iterator[Any]:
    """Yield what ``base`` may declare columns of ``cls`` with: attributes, and the arguments of annotations."""
    for value in vars(base).values():
        yield value.fget(cls) if isinstance(value, declared_attr) else value
    for annotation in _annotations(base):
        for inner in get_args(annotation):
            yield from get_args(inner)


def _annotations(base: type) -> Iterator[Any]:
    # A class that exec() made may say that it is of a module that nobody can import.
    names = {**getattr(sys.modules.get(base.__module__), "__dict__", {}), **vars(base)}
    for annotation in _raw_annotations(base).values():
        try:
            yield eval(annotation, names) if isinstance(annotation, str) else annotation
        except Exception:  # it names what comes later, or what only a type checker imports; the others still count
            continue


def _is_key(value: Any) -> bool:
    column = value.column if isinstance(value, MappedColumn) else value
    return isinstance(column, sa.Column) and column.primary_key


@dataclass(frozen=True)
class Tables:
    """The app's user table and the three that stand beside it."""

    user: sa.Table
    token: sa.Table
    session: sa.Table
    mail: sa.Table
    #: The column of the user table that the others refer to.
    user_key: sa.Column[Any]


def build(user_model: type, prefix: str = "accountflow_") -> Tables:
    """Return the tables beside ``user_model``; the same ones when called again.

    Raises :exc:`.ConfigError` when the model cannot carry accounts.
    """
    mapper = _mapper(user_model)
    user = mapper.local_table
    if not isinstance(user, sa.Table):
        raise ConfigError([f"{user_model.__name__} is not mapped to a table."])
    key: Any = mapper.primary_key[0]
    done: dict[str, tuple[str, Tables]] = user.metadata.info.setdefault("accountflow", {})
    if user.key not in done:
        if prefix in {taken for taken, _ in done.values()}:
            raise ConfigError(
                [f"Another user model has the {prefix}… tables. Give {user_model.__name__} a table_prefix of its own."]
            )
        done[user.key] = prefix, _build(user, key, prefix)
    return done[user.key][1]


def aware(moment: datetime) -> datetime:
    """Return ``moment`` in UTC; SQLite and MariaDB give it back without a zone."""
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


def _mapper(user_model: Any) -> Mapper[Any]:
    name = user_model.__name__
    mapper: Mapper[Any] | None = sa.inspect(user_model, raiseerr=False)
    if mapper is None or not issubclass(user_model, UserMixin):
        raise ConfigError([f"{name} must be a model with the mixin: class {name}(UserMixin, db.Model)."])
    problems = []
    if len(mapper.primary_key) != 1:
        problems.append(f"{name} has a primary key of several columns; accounts need one of a single column.")
    if mapper.local_table is not mapper.persist_selectable:
        problems.append(f"{name} is spread over two tables; give the class whose table has the columns of UserMixin.")
    if is_dataclass(user_model):
        problems.append(f"{name} is a dataclass, which SQLAlchemy 2.1 refuses to mix; use a plain model.")
    missing = sorted(set(UserMixin.__annotations__) - set(mapper.columns.keys()))
    if missing:
        problems.append(f"{name} lacks the columns {', '.join(missing)} of UserMixin.")
    if problems:
        raise ConfigError(problems)
    return mapper


def _moment(name: str, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _owner(key: sa.Column[Any], *, nullable: bool) -> sa.Column[Any]:
    return sa.Column("user_id", key.type, sa.ForeignKey(key, ondelete="CASCADE"), nullable=nullable)


def _build(user: sa.Table, key: sa.Column[Any], prefix: str) -> Tables:
    parts = (_token_columns(key, prefix), _session_columns(key, prefix), _mail_columns(key, prefix))
    token, session, mail = (
        sa.Table(prefix + name, user.metadata, *columns, schema=user.schema)
        for name, columns in zip(("token", "session", "mail"), parts, strict=True)
    )
    return Tables(user, token, session, mail, key)


def _token_columns(key: sa.Column[Any], prefix: str) -> tuple[Any, ...]:
    """Return the columns of mailed links and sign-up attempts. No row holds anything that redeems."""
    return (
        sa.Column("id", ROW_ID, primary_key=True),
        _owner(key, nullable=True),
        sa.Column("email_key", sa.String(EMAIL_LENGTH), nullable=False),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("sent_to", sa.String(EMAIL_LENGTH)),
        sa.Column("payload", sa.JSON),
        sa.Column("stamp", ROW_ID),
        _moment("created_at", nullable=False),
        _moment("expires_at", nullable=False),
        _moment("used_at"),
        sa.Column("outcome", sa.String(32)),
        # Not index=True: the index of a foreign key breaks the generated downgrade on MariaDB (error 1553).
        sa.UniqueConstraint("user_id", "id", name=f"uq_{prefix}token_user"),
        sa.Index(f"ix_{prefix}token_email", "email_key", "created_at"),
        sa.Index(f"ix_{prefix}token_expires", "expires_at"),
    )


def _session_columns(key: sa.Column[Any], prefix: str) -> tuple[Any, ...]:
    """Return the columns of browser logins and refresh families."""
    return (
        sa.Column("id", ROW_ID, primary_key=True),
        _owner(key, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("stamp", ROW_ID, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        _moment("rotated_at"),
        sa.Column("remember", sa.Boolean, nullable=False),
        _moment("created_at", nullable=False),
        _moment("last_seen_at", nullable=False),
        _moment("authenticated_at", nullable=False),
        _moment("expires_at", nullable=False),
        _moment("revoked_at"),
        # The longest text form of an IPv6 address (RFC 4291 section 2.2, with an IPv4 tail).
        sa.Column("ip", sa.String(45)),
        sa.Column("user_agent", sa.String(255)),
        sa.UniqueConstraint("user_id", "id", name=f"uq_{prefix}session_user"),
        sa.Index(f"ix_{prefix}session_expires", "expires_at"),
    )


def _mail_columns(key: sa.Column[Any], prefix: str) -> tuple[Any, ...]:
    """Return the columns of the outbox. A row names its link by ``token_id`` and never holds it."""
    return (
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        _owner(key, nullable=True),
        sa.Column("token_id", ROW_ID),
        sa.Column("template", sa.String(32), nullable=False),
        sa.Column("to_addr", sa.String(EMAIL_LENGTH)),
        sa.Column("to_key", sa.String(64), nullable=False),
        sa.Column("slot", sa.String(100), unique=True),
        sa.Column("locale", sa.String(35)),
        sa.Column("context", sa.JSON),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("message_id", sa.String(255)),
        _moment("created_at", nullable=False),
        _moment("expires_at", nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        _moment("next_attempt_at", nullable=False),
        sa.Column("lease_id", ROW_ID),
        _moment("lease_until"),
        _moment("sent_at"),
        sa.Column("last_error", sa.String(255)),
        sa.UniqueConstraint("user_id", "id", name=f"uq_{prefix}mail_user"),
        sa.Index(f"ix_{prefix}mail_due", "state", "next_attempt_at"),
        sa.Index(f"ix_{prefix}mail_to", "to_key", "created_at"),
        sa.Index(f"ix_{prefix}mail_expires", "expires_at"),
    )
