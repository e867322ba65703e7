"""SQLite for the apps that use SQLAlchemy."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from benchmarks.apps.sqlite_pragmas import PRAGMAS


def tune(engine: sa.Engine) -> None:
    """Prepare each connection of an engine, if its database is SQLite."""
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare)


def _prepare(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
