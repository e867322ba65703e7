"""An empty database for each system that is measured."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

KINDS = ("sqlite", "postgresql")


def why_not(kind: str, server: str) -> str | None:
    """Return why there is no such database, or nothing when there is one."""
    if kind == "sqlite":
        return None
    try:
        psycopg.connect(server, connect_timeout=2).close()
    except psycopg.OperationalError as error:
        return f"it does not answer: {str(error).strip()}"
    return None


@contextmanager
def database(kind: str, server: str, folder: Path) -> Iterator[str]:
    """Make an empty database and yield its address, as SQLAlchemy writes it without a driver; then remove it.

    ``server`` is the address of a PostgreSQL server, without the name of a database; a SQLite file is put into
    ``folder``.
    """
    if kind == "sqlite":
        yield f"sqlite:///{folder.resolve() / 'bench.db'}"
        return
    name = f"accountflow_bench_{secrets.token_hex(6)}"
    _execute(server, "CREATE DATABASE {}", name)
    try:
        yield f"{server.rstrip('/')}/{name}"
    finally:
        _execute(server, "DROP DATABASE {} WITH (FORCE)", name)


def _execute(server: str, command: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True, connect_timeout=10) as connection:
        connection.execute(sql.SQL(command).format(sql.Identifier(name)))
