"""Databases for tests, and the rows of an outbox in them.

SQLite is always there; PostgreSQL and MariaDB are used when they answer. A test module imports the
fixture ``engine`` from here.
"""

from __future__ import annotations

import os
import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from flask_accountflow import models
from flask_accountflow.models import UserMixin
from flask_accountflow.store.mailbox import STATES
from flask_accountflow.store.queue import Queue

NAMES = ("sqlite", "postgresql", "mariadb")

NOW = datetime(2026, 3, 29, 0, 59, 30, tzinfo=timezone.utc)

_URLS = {
    "postgresql": "postgresql+psycopg://postgres@127.0.0.1:5432/postgres",
    "mariadb": "mysql+pymysql://root@127.0.0.1:3306/mysql",
}


class Base(DeclarativeBase):
    """The app's models."""


class User(UserMixin, Base):
    """An account."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    hats: Mapped[list[Hat]] = relationship(lazy="joined")


class Hat(Base):
    """Something of the app that it always loads together with the user."""

    __tablename__ = "hats"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    colour: Mapped[str] = mapped_column(sa.String(20))


TABLES = models.build(User)


@contextmanager
def database(name: str, folder: Path) -> Iterator[sa.Engine]:
    """Yield an engine on an empty database of its own, which is removed afterwards."""
    if name == "sqlite":
        engine = sa.create_engine(f"sqlite:///{folder / 'test.db'}")
        yield engine
        engine.dispose()
        return
    url = sa.make_url(os.environ.get(f"ACCOUNTFLOW_TEST_{name.upper()}_URL", _URLS[name]))
    own_name = f"accountflow_test_{secrets.token_hex(6)}"
    server = sa.create_engine(url, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 2})
    _execute(server, name, f"CREATE DATABASE {own_name}")
    engine = sa.create_engine(url.set(database=own_name), connect_args={"connect_timeout": 2})
    try:
        yield engine
    finally:
        engine.dispose()
        # PostgreSQL refuses while a site that is closed later still holds a connection.
        _execute(server, name, f"DROP DATABASE {own_name}" + (" WITH (FORCE)" if name == "postgresql" else ""))
        server.dispose()


def _execute(server: sa.Engine, name: str, command: str) -> None:
    try:
        with server.connect() as connection:
            connection.execute(sa.text(command))
    except sa.exc.OperationalError as error:
        server.dispose()
        if name in os.environ.get("ACCOUNTFLOW_TEST_REQUIRE", ""):
            pytest.fail(f"{name} is required and does not answer: {error.orig}")
        pytest.skip(f"{name} does not answer: {error.orig}")


@pytest.fixture(scope="session", params=NAMES)
def database_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.Engine]:
    """An engine for each database, with all tables."""
    with database(request.param, tmp_path_factory.mktemp(request.param)) as engine:
        Base.metadata.create_all(engine)
        yield engine


@pytest.fixture
def engine(database_engine: sa.Engine) -> sa.Engine:
    """An engine for each database, with empty tables."""
    with database_engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(sa.delete(table))
    return database_engine


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[sa.Engine]:
    """An engine on a SQLite file of the test's own, with empty tables."""
    with database("sqlite", tmp_path) as engine:
        Base.metadata.create_all(engine)
        yield engine


class Rows:
    """Writes and reads the rows around an outbox."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    def queue(self) -> Queue:
        """Return the queue on these rows."""
        return Queue(TABLES, User, self.engine.begin)

    def user(self, **values: Any) -> User:
        """Insert an account."""
        with Session(self.engine, expire_on_commit=False) as session:
            user = User(**{"email": "ada@example.com", "created_at": NOW, **values})
            session.add(user)
            session.commit()
            session.refresh(user)
            session.expunge_all()
        return user

    def link(self, user: User, **values: Any) -> uuid.UUID:
        """Insert a link that works and return its id."""
        row = {
            "id": uuid.uuid4(),
            "user_id": user.id,
            "email_key": "ada@example.com",
            "purpose": "reset",
            "stamp": user.stamp,
            "created_at": NOW,
            "expires_at": NOW + timedelta(hours=1),
            **values,
        }
        with self.engine.begin() as connection:
            connection.execute(sa.insert(TABLES.token).values(row))
        return row["id"]

    def mail(self, **values: Any) -> int:
        """Insert a mail that is due and return its id."""
        row = {
            "template": "notice",
            "to_addr": "ada@example.com",
            "to_key": "key",
            "state": "pending",
            "message_id": f"{secrets.token_hex(8)}@shop.example",
            "created_at": NOW,
            "expires_at": NOW + timedelta(days=1),
            "attempts": 0,
            "next_attempt_at": NOW,
            **values,
        }
        with self.engine.begin() as connection:
            return int(connection.execute(sa.insert(TABLES.mail).values(row)).inserted_primary_key[0])

    def counts(self) -> dict[str, int]:
        """Return how many mails there are in each state."""
        mail = TABLES.mail
        counted = sa.select(mail.c.state, sa.func.count()).group_by(mail.c.state)
        with self.engine.connect() as connection:
            found: dict[str, int] = dict(map(tuple, connection.execute(counted)))
        return {state: found.get(state, 0) for state in STATES}

    def stored(self, mail_id: int) -> sa.Row[Any]:
        """Return a mail as it is in its table."""
        with self.engine.connect() as connection:
            return connection.execute(sa.select(TABLES.mail).where(TABLES.mail.c.id == mail_id)).one()

    def change(self, table: sa.Table, row_id: Any, **values: Any) -> None:
        """Change one row."""
        with self.engine.begin() as connection:
            connection.execute(sa.update(table).where(table.c.id == row_id).values(values))
