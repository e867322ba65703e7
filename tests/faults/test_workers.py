"""Workers that share a queue, and the end of servers and workers by SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from databases import NAMES, database
from faults.load import Load
from faults.processes import Worker, leased, waiting
from faults.sink import AFTER_CONNECT, Sink
from live_server import AppServer, wait_until
from support import PASSWORD

from example_app import create_app
from example_app.models import accounts, db

pytestmark = pytest.mark.slow

# Seconds: what AppServer gives gunicorn to end gracefully.
GRACE = 10


class Scene:
    """A server of the example app that does not run yet, its mail server, and the app in this process."""

    def __init__(self, engine: sa.Engine, sink: Sink, folder: Path, kick: str) -> None:
        uri = engine.url.render_as_string(hide_password=False)
        self.engine = engine
        self.sink = sink
        self.server = AppServer(  # type: ignore[arg-type]
            uri,
            sink,
            folder,
            ACCOUNTFLOW_MAIL_KICK=kick,
            ACCOUNTFLOW_MAIL_TIMEOUT=30,  # the mail server lets a worker wait for another one to start
        )
        self._app = create_app(self.server.settings)
        with self._app.app_context():
            db.create_all()

    def sign_up(self, number: int) -> list[str]:
        """Sign addresses up, whose mails then wait."""
        emails = [f"{uuid.uuid4().hex}@example.com" for _ in range(number)]
        with self._app.app_context():
            for email in emails:
                accounts.signup(email, PASSWORD)
        return emails

    def deliver(self) -> Counter[str]:
        """Deliver what is due, by a mail server without faults, and return how many copies each address got."""
        self.sink.be_well()
        done = self._app.test_cli_runner().invoke(args=["accountflow", "deliver", "--once"])
        assert done.exit_code == 0, done.output
        return Counter(copy.recipient for copy in self.sink.copies)

    def close(self) -> None:
        """End everything."""
        self.server.stop()
        with self._app.app_context():
            db.engine.dispose()


@contextmanager
def scene(name: str, folder: Path, kick: str) -> Iterator[Scene]:
    """Yield a scene on an empty database."""
    with database(name, folder) as engine, Sink() as sink:
        made = Scene(engine, sink, folder, kick)
        try:
            yield made
        finally:
            made.close()


def _gather(number: int) -> Callable[[str], Awaitable[None]]:
    """Return a hook by which the mail server lets conversations wait until there are so many: two of each worker."""
    arrived: list[str] = []

    async def hook(step: str) -> None:
        if step == AFTER_CONNECT:
            arrived.append(step)
            while len(arrived) < number:
                await asyncio.sleep(0.01)

    return hook


@pytest.mark.parametrize("name", NAMES)
def test_F29_two_workers_send_each_mail_once(name: str, tmp_path: Path) -> None:
    """Two workers on one queue share its mails and send each of them once."""
    with scene(name, tmp_path, "worker") as site:
        emails = site.sign_up(200)
        site.sink.hook = _gather(4)

        with Worker(site.server, tmp_path / "one.log") as one, Worker(site.server, tmp_path / "two.log") as two:
            wait_until(lambda: waiting(site.engine) == 0, "no mail waits")
            wait_until(lambda: one.handled + two.handled == 200, "the workers say that they have handled all")

        assert Counter(copy.recipient for copy in site.sink.copies) == Counter(emails)
        assert min(one.handled, two.handled) >= 2


@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
def test_F12_a_server_ends_under_load(name: str, tmp_path: Path) -> None:
    """SIGTERM under load ends a server in time; it holds no mail, and whatever it has accepted is sent once."""
    with scene(name, tmp_path, "thread") as site:
        site.server.start()
        site.sink.delay = 0.2  # so that mails wait, and some are in hand
        with Load(site.server.port, 40, []) as load:
            wait_until(lambda: len(load.ledger.accepted) >= 40 and waiting(site.engine) >= 20, "mails wait")
            seconds = site.server.stop()

        assert seconds < GRACE
        assert load.ledger.refused == {}
        assert leased(site.engine) == 0
        assert waiting(site.engine) >= 1
        sent = site.deliver()
        assert set(load.ledger.accepted) <= set(sent) <= set(load.ledger.accepted) | load.ledger.unanswered
        assert set(sent.values()) == {1}


@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
def test_F12_a_worker_ends_while_mails_wait(name: str, tmp_path: Path) -> None:
    """SIGTERM ends a worker in time with status 0: the mails in hand are sent, and it holds none of the others."""
    with scene(name, tmp_path, "worker") as site:
        emails = site.sign_up(60)
        site.sink.delay = 0.2
        with Worker(site.server, tmp_path / "worker.log") as worker:
            wait_until(lambda: site.sink.copies, "mails are being sent")
            begun = time.monotonic()
            assert worker.end(signal.SIGTERM) == 0

        assert time.monotonic() - begun < GRACE
        assert leased(site.engine) == 0
        assert waiting(site.engine) == 60 - len(site.sink.copies) >= 1
        assert site.deliver() == Counter(emails)
