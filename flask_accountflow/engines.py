"""Connections of our own, beside the host's session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.pool import StaticPool


class Engines:
    """The engine of the user model's database, as it is now."""

    def __init__(self, app: Flask, db: SQLAlchemy, bind_key: str | None) -> None:
        self._app = app
        self._db = db
        self._bind_key = bind_key
        self._found: Any = None

    def current(self) -> sa.Engine | sa.Connection:
        """Return the engine; a connection where a test has put one in its place."""
        if self._found is None:
            # Once, and late: db.init_app may come after ours. The mapping is the live one.
            with self._app.app_context():
                self._found = self._db.engines
        engine: sa.Engine | sa.Connection = self._found[self._bind_key]
        return engine

    def begin(self) -> AbstractContextManager[sa.Connection]:
        """Open a transaction; within a test's outer one, a savepoint."""
        engine = self.current()
        return _nested(engine) if isinstance(engine, sa.Connection) else engine.begin()

    def is_shared(self) -> bool:
        """Tell whether every use of the engine is one and the same connection, so that no thread may use it."""
        engine = self.current()
        return isinstance(engine, sa.Connection) or isinstance(engine.pool, StaticPool)


@contextmanager
def _nested(connection: sa.Connection) -> Iterator[sa.Connection]:
    if connection.dialect.name == "sqlite" and not connection.connection.in_transaction:
        # pysqlite sends BEGIN only before a write; a savepoint without one would commit.
        connection.exec_driver_sql("BEGIN")
    with connection.begin_nested() if connection.in_transaction() else connection.begin():
        yield connection
