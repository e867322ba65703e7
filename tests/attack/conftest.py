"""The sites under attack. Each is the example app under gunicorn, with four processes."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from attack.attacker import (
    PROCESSES,
    Aging,
    Mailbox,
    Site,
    ask_reset,
    join,
    sign_up,
    some_email,
)
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
        server.start(*PROCESSES)
        try:
            yield Site(server)
        finally:
            server.kill()  # how servers end gracefully is proved elsewhere


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put last what has to age for a minute."""
    items.sort(key=_ages)


def _ages(item: pytest.Item) -> bool:
    return "aging" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site where everything lasts as short as the settings allow."""
    settings = {
        "ACCOUNTFLOW_ACCESS_TOKEN_MAX_AGE": 2,
        "ACCOUNTFLOW_REFRESH_TOKEN_MAX_AGE": 5,
        "ACCOUNTFLOW_SESSION_MAX_AGE": 4,
        "ACCOUNTFLOW_SESSION_IDLE_MAX_AGE": 2,
        # A minute is the least that a link may have.
        "ACCOUNTFLOW_VERIFY_MAX_AGE": 60,
        "ACCOUNTFLOW_RESET_MAX_AGE": 60,
    }
    with _serving(tmp_path_factory.mktemp("hasty"), settings) as served:
        yield served


@pytest.fixture(scope="session")
def aging(hasty: Site) -> Aging:
    """Links that nobody opens."""
    pending, email = some_email(), join(hasty)
    return Aging(pending, sign_up(hasty, pending), email, ask_reset(hasty, email), time.monotonic())


@pytest.fixture(scope="session", autouse=True)
def _age(request: pytest.FixtureRequest) -> None:
    """Let them age while all other tests run, where a test will ask for them."""
    if any(_ages(item) for item in request.session.items):
        request.getfixturevalue("aging")
