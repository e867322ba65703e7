"""Fixtures of the flows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flow_bench import Bench
from sqlalchemy import event


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Return a function that makes benches on SQLite files of their own, with these parts and settings."""
    made: list[Bench] = []

    def make(**given: Any) -> Bench:
        engine = sa.create_engine(f"sqlite:///{tmp_path / f'bench-{len(made)}.db'}")
        # No test here pulls the plug.
        event.listen(engine, "connect", lambda connection, record: connection.execute("PRAGMA synchronous=OFF"))
        made.append(Bench(engine, **given))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """Services with the usual settings."""
    return make_bench()
