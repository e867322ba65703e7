"""Fixtures of the store's tests: a host app on each database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import NAMES, database
from shop import Desk, Shop


@pytest.fixture(scope="session", params=NAMES)
def shop_of_session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A host app for each database."""
    with database(request.param, tmp_path_factory.mktemp(f"shop-{request.param}")) as engine:
        shop = Shop(engine.url.render_as_string(hide_password=False))
        yield shop
        shop.close()


@pytest.fixture
def shop(shop_of_session: Shop) -> Shop:
    """A host app for each database, with empty tables."""
    shop_of_session.wipe()
    return shop_of_session


@pytest.fixture
def desk(shop: Shop) -> Desk:
    """The store of a host app, on each database."""
    return Desk(shop)


@pytest.fixture
def make_shop(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Return a function that makes host apps with a configuration of their own, on SQLite unless told otherwise."""
    made: list[Shop] = []

    def make(config: dict[str, Any] | None = None, *, uri: str | None = None, **parts: Any) -> Shop:
        file = tmp_path / f"shop-{len(made)}.db"
        made.append(Shop(uri if uri is not None else f"sqlite:///{file}", config, **parts))
        return made[-1]

    yield make
    for shop in made:
        shop.close()
