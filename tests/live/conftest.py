"""A real server for each database, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from databases import NAMES, database
from live_server import AppServer, serving


@pytest.fixture(scope="session", params=NAMES)
def live_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.Engine]:
    """An engine on the database of the server, for looking behind it: SQLite, PostgreSQL, MariaDB in turn."""
    with database(request.param, tmp_path_factory.mktemp(request.param)) as engine:
        yield engine


@pytest.fixture(scope="session")
def live(live_engine: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """The example app on that database, with a mail server of its own."""
    uri = live_engine.url.render_as_string(hide_password=False)
    with serving(uri, tmp_path_factory.mktemp("live")) as server:
        yield server
        log = server.log.read_text()
    assert "Traceback" not in log, log[-4000:]
