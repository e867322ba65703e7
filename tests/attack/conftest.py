"""The sites under attack. Each is the example app under gunicorn, with four processes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from attack.attacker import Mailbox, Site
from live_server import AppServer

#: A database server that every site gets an empty database of, such as
#: ``postgresql+psycopg://postgres@127.0.0.1:5432/postgres``. Without it each has a SQLite file.
DATABASE = os.environ.get("ACCOUNTFLOW_TEST_ATTACKED_DATABASE")


@contextmanager
def _empty_database(folder: Path) -> Iterator[str]:
    if DATABASE is None:
        yield f"sqlite:///{folder / 'site.db'}"
        return
    url, name = sa.make_url(DATABASE), f"accountflow_attack_{secrets.token_hex(6)}"
    server = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with server.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        yield url.set(database=name).render_as_string(hide_password=False)
        with server.connect() as connection:
            forced = " WITH (FORCE)" if url.get_backend_name() == "postgresql" else ""
            connection.execute(sa.text(f"DROP DATABASE {name}{forced}"))
    finally:
        server.dispose()


@contextmanager
def _serving(folder: Path, settings: dict[str, Any]) -> Iterator[Site]:
    with _empty_database(folder) as uri, Mailbox() as mail:
        server = AppServer(uri, mail, folder, **{"ACCOUNTFLOW_RESEND_AFTER": 1, **settings})
        server.flask("db", "upgrade")
        server.start("--workers", "4")
        try:
            yield Site(server)
        finally:
            server.stop()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that counts no tries, for all attacks that are not about limits. Nothing of it fails, whatever comes."""
    with _serving(tmp_path_factory.mktemp("site"), {}) as served:
        yield served
        assert "Traceback" not in served.log(), served.log()[-4000:]


@pytest.fixture(scope="module")
def make_attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    """Return a function that makes further sites, with these settings."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(_serving(tmp_path_factory.mktemp("own"), settings))
