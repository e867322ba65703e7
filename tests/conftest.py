"""Fixtures that many tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import NAMES, database
from support import Person, Program, Site


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Return a function that makes sites on SQLite files of their own, with this configuration and these parts."""
    made: list[Site] = []

    def make(config: dict[str, Any] | None = None, *, uri: str | None = None, **parts: Any) -> Site:
        file = tmp_path / f"site-{len(made)}.db"
        made.append(Site(uri if uri is not None else f"sqlite:///{file}", config, **parts))
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """A site with the usual configuration."""
    return make_site()


@pytest.fixture(params=NAMES)
def database_uri(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URI of an empty database: SQLite, PostgreSQL, MariaDB in turn."""
    with database(request.param, tmp_path) as engine:
        yield engine.url.render_as_string(hide_password=False)


@pytest.fixture(params=[Program, Person], ids=["json", "html"])
def visitor(request: pytest.FixtureRequest, site: Site) -> Program | Person:
    """Somebody who uses the site: a program, then a person."""
    made: Program | Person = request.param(site)
    return made
