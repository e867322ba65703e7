"""Workers as real processes, and the outbox that they share, seen from outside."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from datetime import datetime, timezone
from pathlib import Path

import sqlalchemy as sa
from live_server import ROOT, AppServer

from example_app.models import accounts
from flask_accountflow.store.queue import LEASE, PENDING

# Seconds. A worker that is told to end finishes the mail in hand.
_PATIENCE = 30


class Worker:
    """``flask accountflow deliver --forever``, which is ready."""

    def __init__(self, server: AppServer, log: Path) -> None:
        line = [sys.executable, "-m", "flask", "--app", "example_app", "accountflow", "deliver", "--forever"]
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                line, cwd=ROOT, env=dict(server.environment), stdout=subprocess.PIPE, stderr=errors, text=True
            )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        if not first.startswith("Delivering"):
            self.process.kill()
            self.process.communicate()
            raise AssertionError(f"The worker has not started: {first}\n{log.read_text()[-4000:]}")
        #: What it has printed since.
        self.printed: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.printed.extend(self.process.stdout)

    @property
    def handled(self) -> int:
        """How many mails it says to have handled."""
        return sum(int(line.split()[0]) for line in self.printed if line.rstrip().endswith("handled"))

    def end(self, number: int) -> int:
        """End it by a signal, and return its exit status: negative where that has killed it."""
        self.process.send_signal(number)
        try:
            status = self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        self._reader.join(_PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGTERM)


def waiting(engine: sa.Engine) -> int:
    """Return how many mails wait."""
    return _count(engine, accounts.tables.mail.c.state == PENDING)


def leased(engine: sa.Engine) -> int:
    """Return how many mails somebody holds."""
    return _count(engine, accounts.tables.mail.c.lease_id.is_not(None))


def _count(engine: sa.Engine, where: sa.ColumnElement[bool]) -> int:
    with engine.connect() as connection:
        return int(connection.execute(sa.select(sa.func.count()).where(where)).scalar_one())


def end_leases(engine: sa.Engine) -> None:
    """Move all leases into the past. Only when whoever held them is dead."""
    mail = accounts.tables.mail
    past = datetime.now(timezone.utc).replace(microsecond=0) - LEASE
    with engine.begin() as connection:
        connection.execute(sa.update(mail).where(mail.c.lease_id.is_not(None)).values(lease_until=past))
