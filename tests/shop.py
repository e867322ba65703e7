"""A host app with tables and habits of its own, and what it takes to see what is durable."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column
from support import Clock, Site, services

from flask_accountflow import events
from flask_accountflow.identity import Address
from flask_accountflow.store.accounts import Account, Accounts
from flask_accountflow.tokens import random_id

VIC = Address("Vic@Example.com", "vic@example.com")
BOB = Address("bob@example.com", "bob@example.com")
HOUR = timedelta(hours=1)

SIGNALS = ("user_signed_up", "email_verified", "logged_in", "password_reset", "sessions_revoked", "mail_queued")


class Shop(Site):
    """A site whose app has two tables of its own. ``hook`` is its ``on_signup``, and may be changed."""

    def __init__(self, uri: str, config: Mapping[str, Any] | None = None, **parts: Any) -> None:
        self.hook: Callable[[Any, Any], None] = _do_nothing
        self.told: list[str] = []
        super().__init__(uri, config, on_signup=self._call_hook, **parts)
        db = self.db

        class Note(db.Model):  # type: ignore[name-defined, misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            text: Mapped[str] = mapped_column(sa.String(50), unique=True)

        class Profile(db.Model):  # type: ignore[name-defined, misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            user_id: Mapped[Any] = mapped_column(sa.ForeignKey("users.id"))

        self.Note, self.Profile = Note, Profile
        for name in SIGNALS:
            getattr(events, name).connect(self._note_signal(name), sender=self.app, weak=False)
        with self.app.app_context():
            db.create_all()
            self.engine: sa.Engine = db.engine

    def _call_hook(self, user: Any, form: Any) -> None:
        self.hook(user, form)

    def _note_signal(self, name: str) -> Callable[..., None]:
        def receiver(sender: Any, **payload: Any) -> None:
            self.told.append(name)

        return receiver

    def wipe(self) -> None:
        """Go back to the beginning: no rows, no letters, nothing told."""
        with self.app.app_context():
            self.db.session.remove()
        with self.engine.begin() as connection:
            for table in reversed(self.db.metadata.sorted_tables):
                connection.execute(sa.delete(table))
        self.letters.clear()
        self.told.clear()
        self.hook = _do_nothing
        self.transport.fault = None
        self.clock.now = Clock().now

    def notes(self) -> list[str]:
        """Return the durable notes of the app."""
        with self.engine.connect() as connection:
            return list(connection.execute(sa.select(self.Note.text).order_by(self.Note.id)).scalars())

    def count(self, model: Any) -> int:
        """Return how many durable rows a table has."""
        with self.engine.connect() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(model)).scalar_one())

    def state(self) -> tuple[int, int, int, list[str]]:
        """Return what there is durably of accounts, links and mails, and what was told of it."""
        return self.count(self.tables.user), self.count(self.tables.token), len(self.letters), sorted(set(self.told))

    @contextmanager
    def outer_transaction(self) -> Iterator[sa.Connection]:
        """Do what a host's test fixture does: everything inside happens in one transaction that is rolled back."""
        with self.app.app_context():
            engines: Any = self.db.engines
        with self.engine.connect() as connection:
            outer = connection.begin()
            engines[None] = connection
            try:
                yield connection
            finally:
                with self.app.app_context():
                    self.db.session.remove()
                engines[None] = self.engine
                outer.rollback()


def _do_nothing(user: Any, form: Any) -> None:
    """Do nothing at a sign-up."""


class Desk:
    """The accounts of a host app, and the rows that stand beside them."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.store = services(shop).store
        self.accounts: Accounts = self.store.accounts

    @property
    def now(self) -> datetime:
        return self.shop.clock.now

    def run(self, work: Callable[[], Any]) -> Any:
        """Run one unit of work of our own."""
        with self.shop.app.app_context():
            return self.store.units.run(work, own=True)

    def create(self, address: Address = VIC, **values: Any) -> Account:
        """Insert an account that must be new."""
        account: Account | None = self.run(lambda: self.accounts.create(address, self.now, values=values))
        assert account is not None
        return account

    def read(self, work: Callable[[], Any]) -> Any:
        """Return what is read in a session of its own."""
        with self.shop.app.app_context():
            return self.store.units.read(work)

    def link(self, account: Account | None, **values: Any) -> uuid.UUID:
        """Insert a row of the token table."""
        row = {
            "id": random_id(),
            "user_id": None if account is None else account.id,
            "email_key": VIC.key,
            "purpose": "signup",
            "stamp": None if account is None else account.stamp,
            "created_at": self.now,
            "expires_at": self.now + HOUR,
            **values,
        }
        self.run(lambda: self.store.links.add(row))
        return row["id"]  # type: ignore[no-any-return]


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Run calls in threads that start together, and return what each returned or raised."""
    barrier = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)

    def run(number: int) -> None:
        barrier.wait(10)
        try:
            results[number] = calls[number]()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a thread has not finished"
    return results
