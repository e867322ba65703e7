"""One site for the tests of this folder, emptied for each; a test that changes its site asks for ``own_site``."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from jinja2.bccache import Bucket, BytecodeCache
from sqlalchemy import event
from support import START, Site


class _Compiled(BytecodeCache):
    """Templates that some site has compiled already."""

    def __init__(self) -> None:
        self._found: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._found:
            bucket.bytecode_from_string(self._found[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._found[bucket.key] = bucket.bytecode_to_string()


_compiled = _Compiled()


def _without_waiting(connection: Any, record: Any) -> None:
    """Do not wait for the disk: no test here pulls the plug."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture(scope="package", autouse=True)
def _fast_sqlite() -> Iterator[None]:
    event.listen(sa.Engine, "connect", _without_waiting)
    yield
    event.remove(sa.Engine, "connect", _without_waiting)


@pytest.fixture
def make_site(make_site: Callable[..., Site]) -> Callable[..., Site]:
    """Return a function that makes sites as the one does that it stands before, with templates compiled once."""

    def make(*given: Any, **parts: Any) -> Site:
        site = make_site(*given, **parts)
        site.app.jinja_env.bytecode_cache = _compiled
        return site

    return make


@pytest.fixture(scope="package")
def shared_site(_fast_sqlite: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that many tests use, one after another."""
    site = Site(f"sqlite:///{tmp_path_factory.mktemp('web') / 'site.db'}")
    yield site
    site.close()


@pytest.fixture
def own_site(make_site: Callable[..., Site]) -> Site:
    """A site for one test, which may change it."""
    return make_site()


@pytest.fixture
def site(request: pytest.FixtureRequest, shared_site: Site) -> Site:
    """A site with the usual configuration, and nobody in it. It is ``own_site`` where a test asks for that."""
    if "own_site" in request.fixturenames:
        own: Site = request.getfixturevalue("own_site")
        return own
    with shared_site.app.app_context():
        shared_site.db.session.remove()
        with shared_site.db.engine.begin() as connection:
            for table in reversed(shared_site.db.metadata.sorted_tables):
                connection.execute(sa.delete(table))
    shared_site.letters.clear()
    shared_site.transport.fault = None
    shared_site.clock.now = START
    return shared_site
