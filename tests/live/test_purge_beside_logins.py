"""A purge goes in small steps, between which people log in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from databases import NAMES, database

from benchmarks.growth import PASSWORD, Site, run

pytestmark = pytest.mark.slow

#: So many rows in each table that a purge takes several steps for each.
ROWS = 2000
#: The most that one step may delete.
STEP = 200


@dataclass
class Steps:
    """The transactions of a purge, each with how many rows it deleted of which table."""

    engine: sa.Engine
    done: list[dict[str, int]] = field(default_factory=list)
    now: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sa.event.listen(self.engine, "after_cursor_execute", self._note)
        sa.event.listen(self.engine, "commit", self._end)

    def _note(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE") and cursor.rowcount > 0:
            table = statement.split()[2]
            self.now[table] = self.now.get(table, 0) + cursor.rowcount

    def _end(self, connection: Any) -> None:
        if self.now:
            self.done.append(self.now)
        self.now = {}


@pytest.fixture(params=NAMES)
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database: SQLite, PostgreSQL, MariaDB in turn."""
    with database(request.param, tmp_path) as engine:
        yield engine.url.render_as_string(hide_password=False)


@pytest.fixture
def site(uri: str, tmp_path: Path) -> Iterator[Site]:
    """The example app, with rows of months that nobody has purged."""
    with closing(Site(uri, tmp_path)) as made:
        made.fill(ROWS)
        yield made


def _purge(site: Site) -> dict[str, int]:
    with site.app.app_context():
        return site.services.store.purge.run(site.services.settings, site.services.clock())


def test_steps_are_small_transactions(site: Site) -> None:
    """Each step of a purge is a transaction of its own: up to 200 rows of one table, or one account with its rows."""
    steps = Steps(site.engine)

    removed = _purge(site)

    accounts = [step for step in steps.done if "users" in step]
    rows = [step for step in steps.done if "users" not in step]
    assert [step["users"] for step in accounts] == [1] * removed.pop("users")
    assert all(len(step) == 1 and sum(step.values()) <= STEP for step in rows)
    for table, count in removed.items():
        assert sum(step.get(table, 0) for step in rows) == count > STEP
        assert len([step for step in rows if table in step]) == -(-count // STEP)


def test_logins_between_the_steps(site: Site, uri: str, tmp_path: Path) -> None:
    """Before each step that a purge takes somebody can log in who would not wait for any lock."""
    impatient = {"connect_args": {"timeout": 0}} if uri.startswith("sqlite") else {}
    came_in = 0

    with closing(Site(uri, tmp_path, SQLALCHEMY_ENGINE_OPTIONS=impatient)) as same:
        email = same.member().email

        def log_in(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
            nonlocal came_in
            if statement.startswith("SELECT") and " LIMIT " in " ".join(statement.split()):
                run(same.post(200, "/login", {"email": email, "password": PASSWORD}))
                came_in += 1

        sa.event.listen(site.engine, "before_cursor_execute", log_in)
        removed = _purge(site)

    assert came_in >= sum(-(-count // STEP) for count in removed.values()) > 6
