"""Delivery by real workers of Celery, on real Redis and RabbitMQ, and what can happen to each of them."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from databases import database
from flask import Flask
from kombu import Connection
from live_celery import Proxy, Running, celery_config, celery_process, forget_messages, messages
from live_server import AppServer, MailServer, wait_until
from live_visitors import LiveProgram
from support import PASSWORD

from example_app import create_app
from example_app.models import accounts, db
from flask_accountflow.store.queue import LEASE

pytestmark = pytest.mark.slow


class Shop:
    """The example app with its mails delivered by Celery, on a database and a broker that are there for it alone."""

    def __init__(self, engine: sa.Engine, celery: dict[str, Any], folder: Path) -> None:
        self.engine = engine
        self.celery = celery
        self.mail = MailServer()
        uri = engine.url.render_as_string(hide_password=False)
        self.server = AppServer(uri, self.mail, folder, CELERY=celery)
        self._folder = folder
        self._apps: list[Flask] = []
        self._running: list[Running] = []

    def open(self) -> None:
        """Make the tables."""
        with self.app().app_context():
            db.create_all()

    def close(self) -> None:
        """End what a test has started, and forget what it has left."""
        self.mail.be_well()
        for running in self._running:
            running.kill()
            assert "Traceback" not in running.log.read_text(), running.log.read_text()[-4000:]
        for app in self._apps:
            kick = app.extensions["accountflow"].kick
            assert not hasattr(kick, "stop") or kick.stop(10)
            with app.app_context():
                db.engine.dispose()
        self._running, self._apps = [], []
        forget_messages(self.celery)
        with self.engine.begin() as connection:
            for table in (accounts.tables.mail, accounts.tables.token, accounts.tables.user):
                connection.execute(sa.delete(table))

    def app(self, **settings: Any) -> Flask:
        """Return the example app in this process."""
        self._apps.append(create_app({**self.server.settings, **settings}))
        return self._apps[-1]

    def leave(self, number: int) -> list[str]:
        """Let this many mails wait of which no worker was told, and return to whom."""
        return sign_up(self.app(ACCOUNTFLOW_MAIL_KICK="worker"), number)

    def tell(self, times: int) -> None:
        """Publish messages."""
        app = self.app()
        for _ in range(times):
            app.extensions["celery"].send_task("flask_accountflow.deliver", ignore_result=True)

    def worker(self, *options: str, **more: str) -> Running:
        """Start a worker with one process, unless the options say otherwise."""
        line = ("worker", self.server.environment, self._folder, "-c", "1", *options)
        self._running.append(celery_process(*line, **more))
        return self._running[-1]

    def ready_worker(self, *options: str) -> Running:
        """Start a worker and wait until it works."""
        worker = self.worker(*options)
        worker.wait_for(" ready.")
        return worker

    def beat(self) -> Running:
        """Start beat."""
        self._running.append(celery_process("beat", self.server.environment, self._folder))
        return self._running[-1]

    def copies(self, emails: list[str]) -> Counter[str]:
        """Return how many mails have arrived for each address."""
        return Counter({email: len(self.mail.mails(email)) for email in emails})

    def wait_for(self, emails: list[str]) -> Counter[str]:
        """Wait until each address has a mail, and return how many each has."""
        wait_until(lambda: all(self.copies(emails).values()), "every mail has arrived")
        return self.copies(emails)

    def leased(self) -> int:
        """Return how many mails a process says that it holds."""
        mail = accounts.tables.mail
        with self.engine.connect() as connection:
            return connection.execute(
                sa.select(sa.func.count()).select_from(mail).where(mail.c.lease_id.is_not(None))
            ).scalar_one()

    def states(self) -> Counter[str]:
        """Return how many mails there are in each state."""
        with self.engine.connect() as connection:
            return Counter(connection.execute(sa.select(accounts.tables.mail.c.state)).scalars())

    def let_leases_end(self) -> None:
        """Move leases into the past, as if the time of one had gone by since the worker was killed."""
        mail = accounts.tables.mail
        with self.engine.begin() as connection:
            for row in connection.execute(sa.select(mail.c.id, mail.c.lease_until).where(mail.c.lease_id.is_not(None))):
                earlier = row.lease_until - LEASE - timedelta(seconds=1)
                connection.execute(sa.update(mail).where(mail.c.id == row.id).values(lease_until=earlier))


def sign_up(app: Flask, number: int) -> list[str]:
    """Sign new addresses up, and return them."""
    client = app.test_client()
    emails = [f"{uuid.uuid4().hex}@example.com" for _ in range(number)]
    for email in emails:
        answer = client.post("/auth/signup", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 202, answer.text
    return emails


@contextmanager
def shops(name: str, broker: str, folder: Path) -> Iterator[Shop]:
    """Yield a shop on that database and that broker."""
    with celery_config(broker) as celery, database(name, folder) as engine:
        shop = Shop(engine, celery, folder)
        with shop.mail:
            shop.open()
            yield shop


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def each_shop_of_all(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop on SQLite, and one on PostgreSQL."""
    with shops(request.param, "redis", tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture
def each_shop(each_shop_of_all: Shop) -> Iterator[Shop]:
    """A shop without any mail, on SQLite and on PostgreSQL."""
    yield each_shop_of_all
    each_shop_of_all.close()


on_sqlite = pytest.mark.parametrize("each_shop_of_all", ["sqlite"], indirect=True)


@pytest.fixture
def shop(each_shop: Shop) -> Shop:
    """The shop of a test that asks for one database."""
    return each_shop


@on_sqlite
def test_a_worker_sends_the_mail_of_a_sign_up(shop: Shop) -> None:
    """Who signs up at the web server gets the mail from a worker, and its link works."""
    worker = shop.worker()
    shop.server.start("--workers", "1")
    try:
        worker.wait_for(" ready.")
        program, email = LiveProgram(shop.server), f"{uuid.uuid4().hex}@example.com"

        assert program.signup(email).status_code == 202
        link = shop.mail.link(email, "verify")
        assert program.verify(link).status_code == 200
    finally:
        shop.server.stop()
    assert worker.said("event=mail_sent")
    assert "event=mail_sent" not in shop.server.log.read_text()


def test_two_workers_send_each_mail_once(each_shop: Shop) -> None:
    """Two workers at one queue of mails both send of them, and every mail goes out exactly once."""
    emails = each_shop.leave(60)
    each_shop.mail.delay = 0.02
    workers = [each_shop.worker("-c", "2") for _ in range(2)]
    for worker in workers:
        worker.wait_for(" ready.")

    each_shop.tell(8)
    copies = each_shop.wait_for(emails)
    wait_until(lambda: each_shop.states() == {"sent": 60}, "every mail is marked")

    assert set(copies.values()) == {1}
    assert all(worker.said("event=mail_sent") for worker in workers)


@on_sqlite
def test_what_a_killed_worker_held_is_sent_by_another(shop: Shop) -> None:
    """After a worker was killed in the middle no mail is lost, and only one that was in its hands may come twice."""
    emails = shop.leave(30)
    shop.mail.delay = 0.3
    worker = shop.worker()
    shop.tell(1)
    wait_until(lambda: shop.mail.in_hand and shop.states()["sent"], "the worker is in the middle")

    worker.kill()
    held = shop.leased()
    shop.mail.delay = 0
    shop.let_leases_end()
    shop.worker()
    shop.tell(1)
    copies = shop.wait_for(emails)

    assert held > 1
    assert sum(copies.values()) <= len(emails) + 1
    wait_until(lambda: shop.states() == {"sent": 30}, "every mail is marked")


@pytest.mark.parametrize("each_shop_of_all", ["postgresql"], indirect=True)
def test_a_worker_whose_first_process_has_used_the_database(shop: Shop) -> None:
    """The processes of a worker do not share the connections of the one that they were forked from."""
    emails = shop.leave(40)
    shop.worker("-c", "2", module="eager_worker").wait_for(" ready.")

    shop.tell(8)

    assert set(shop.wait_for(emails).values()) == {1}
    wait_until(lambda: shop.states() == {"sent": 40}, "every mail is marked")


@on_sqlite
def test_a_message_that_was_lost(shop: Shop) -> None:
    """A mail whose message the broker has lost is found by the sweep of beat."""
    app = shop.app()
    emails = sign_up(app, 1)
    wait_until(lambda: messages(shop.celery), "the message is published")
    assert app.extensions["accountflow"].kick.stop(10)  # no other one follows
    forget_messages(shop.celery)

    shop.worker()
    shop.beat()

    assert shop.wait_for(emails)[emails[0]] == 1


@on_sqlite
def test_a_broker_that_does_not_answer(shop: Shop) -> None:
    """While the broker is stuck sign-ups are answered, and once it is well again its next message brings every mail."""
    target = Connection(shop.celery["broker_url"])
    with Proxy(target.hostname, target.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/{target.virtual_host}"
        app = shop.app(CELERY={**shop.celery, "broker_url": url})
        worker = shop.worker()

        proxy.is_stuck = True
        emails = sign_up(app, 1)
        # The sign-up was answered, and the broker is waited for all the same: so it was not waited for by the request.
        wait_until(proxy.keeps_waiting, "the broker is asked")
        emails += sign_up(app, 1)
        worker.wait_for(" ready.")
        assert shop.states() == {"pending": 2}
        proxy.is_stuck = False
        emails += sign_up(app, 1)

        assert set(shop.wait_for(emails).values()) == {1}


@on_sqlite
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_that_is_told_to_end(shop: Shop, pool: str) -> None:
    """With each kind of pool a worker that is told to end finishes the mail in hand and gives the others back."""
    emails = shop.leave(40)
    shop.mail.delay = 0.5
    worker = shop.ready_worker("--pool", pool)
    shop.tell(1)
    wait_until(lambda: shop.mail.in_hand and shop.states()["sent"], "the worker is in the middle")

    # With each mail sent it would take 20 seconds.
    assert worker.end() < 10

    sent = shop.states()["sent"]
    assert 2 <= sent < 20
    assert shop.copies(emails).total() == sent
    assert shop.states()["pending"] == 40 - sent
    assert shop.leased() == 0


@pytest.fixture
def on_rabbitmq(tmp_path: Path) -> Iterator[Shop]:
    """A shop whose broker is RabbitMQ."""
    with shops("sqlite", "rabbitmq", tmp_path) as shop:
        yield shop
        shop.close()


def test_rabbitmq(on_rabbitmq: Shop) -> None:
    """With RabbitMQ, too, the mail of a sign-up goes out by a worker."""
    on_rabbitmq.worker()

    emails = sign_up(on_rabbitmq.app(), 1)

    assert on_rabbitmq.wait_for(emails)[emails[0]] == 1
