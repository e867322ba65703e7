"""Kills at random: servers and workers are killed under load, and every mail is counted.

    $ PYTHONPATH=.:tests python -m faults.kills --target web worker --database sqlite postgresql --kills 300

prints a table, and ends with 1 when something does not hold. See docs/faults.md.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import sqlalchemy as sa
from databases import NAMES, database
from faults.load import Load, Tally
from faults.nursery import Nursery
from faults.processes import Worker, end_leases, waiting
from faults.sink import Copy, Sink
from live_server import AppServer, wait_until
from live_visitors import LiveProgram
from sqlalchemy.orm import Session

from example_app.models import User
from flask_accountflow.store.queue import LEASE

TARGETS = ("web", "worker", "both", "asleep")
# Seconds to the end from the first answer of a server's process, or the first mail of a worker.
_LIFE = (0.15, 0.35)
# Mails that one process may have in hand at once.
_SENDERS = 2

#: By this gunicorn tells which of its processes have begun to serve: those that have answered a request.
_BIRTHS = """
control_socket_disable = True

def post_request(worker, request, environ, response):
    if not vars(worker).setdefault("has_served", False):
        worker.has_served = True
        with open({path!r}, "a") as births:
            births.write(f"{{worker.pid}}\\n")
"""


@dataclass(frozen=True)
class Plan:
    """One run. ``rate`` is in requests per second."""

    target: str
    database: str
    kills: int
    sink: str = "normal"
    rate: float = 75
    #: How many workers run at a time, where workers are killed.
    workers: int = 2
    #: Whether leases of killed processes are waited for, or ended by hand when all of those are dead.
    waits: bool = True
    #: How many links are opened at least, over HTTP.
    links: int = 200

    @property
    def kills_web(self) -> bool:
        """Whether processes of the server are killed."""
        return self.target in {"web", "both"}

    @property
    def kills_workers(self) -> bool:
        """Whether workers are killed."""
        return self.target in {"worker", "both"}


@dataclass
class Report:
    """What came of a run."""

    plan: Plan
    tally: Tally
    accepted: int
    refused: int
    unanswered: int
    kills: int
    #: SMTP conversations that a killed process has left when the mail server had taken a mail from it, or that
    #: the mail server has cut: each of them can be one copy that nobody needs.
    doubtful: int
    opened: int
    #: Links that did not work exactly once.
    broken: list[str]
    seconds: float
    rate: float

    def faults(self) -> Iterator[str]:
        """Yield what does not hold."""
        tally = self.tally
        if tally.lost:
            yield f"lost: {tally.lost}"
        if tally.unfounded:
            yield f"mailed after an error: {tally.unfounded}"
        if tally.different:
            yield f"copies differ: {tally.different}"
        if tally.extra > self.doubtful:
            yield f"{tally.extra} copies too many, for {self.doubtful} conversations in doubt"
        if self.broken:
            yield f"links: {self.broken}"

    def row(self) -> str:
        """Return the run as a row of the table."""
        plan, tally = self.plan, self.tally
        # No loss in N tries: with 95 % confidence at most 3 in N (the rule of three).
        bound = f"{3 / self.kills:.1%}" if not tally.lost else "none"
        cells = (
            plan.database,
            plan.target,
            plan.sink,
            self.kills,
            f"{self.rate:.0f}",
            self.accepted,
            self.refused,
            self.unanswered,
            len(tally.lost),
            bound,
            tally.extra,
            self.doubtful,
            tally.most,
            f"{self.opened - len(self.broken)}/{self.opened}",
            f"{self.seconds:.0f}",
        )
        return f"| {' | '.join(map(str, cells))} |"


HEAD = (
    "| database | killed | mail server | kills | requests/s | answered 2xx | answered otherwise | unanswered "
    "| lost | 95 % bound per kill | extra copies | in doubt | most copies of one | links that worked once | s |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


class _Slaughter:
    """Kills the processes of one server, and workers beside it."""

    def __init__(self, plan: Plan, server: AppServer, folder: Path) -> None:
        self.kills = 0
        self._plan = plan
        self._server = server
        self._births = folder / "births"
        self._log = folder / "worker.log"
        self._conf = folder / "births.conf.py"
        self._conf.write_text(_BIRTHS.format(path=str(self._births)))
        self._lock = threading.Lock()
        self._faults: list[BaseException] = []

    def start_server(self) -> None:
        """Start the server, whose processes are forked from one that has the app ready."""
        self._births.write_text("")
        options = ["--config", str(self._conf), "--preload", "--workers", "3", "--threads", "4"]
        self._server.start(*options)

    def worker(self) -> Worker:
        """Start a worker."""
        return Worker(self._server, self._log)

    def run(self) -> None:
        """Kill, and return when all is done."""
        jobs: list[Callable[[], None]] = []
        if self._plan.kills_web:
            jobs.append(self._kill_web)
        if self._plan.kills_workers:
            share, rest = divmod(self._plan.kills, self._plan.workers)
            shares = [share + (number < rest) for number in range(self._plan.workers)]
            jobs += [lambda kills=kills: self._kill_workers(kills) for kills in shares]
        if self._plan.target == "asleep":
            jobs.append(self._put_to_sleep)
        threads = [threading.Thread(target=self._guarded, args=(job,)) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._faults:
            raise self._faults[0]

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            self._faults.append(error)

    def _kill_web(self) -> None:
        seen, kills = 0, 0
        due: list[tuple[float, int]] = []
        while kills < self._plan.kills:
            pids = self._births.read_text().splitlines()
            for pid in pids[seen:]:
                heapq.heappush(due, (time.monotonic() + random.uniform(*_LIFE), int(pid)))
            seen = len(pids)
            while due and due[0][0] <= time.monotonic() and kills < self._plan.kills:
                os.kill(heapq.heappop(due)[1], signal.SIGKILL)
                kills += 1
            time.sleep(0.005)
        self._count(kills)

    def _kill_workers(self, kills: int) -> None:
        with Nursery(self._server, self._log) as nursery:
            for _ in range(kills):
                # Where servers send as well, a worker may find nothing to do.
                nursery.start("born" if self._plan.kills_web else "at work")
                time.sleep(random.uniform(*_LIFE))
                nursery.kill()
        self._count(kills)

    def _put_to_sleep(self) -> None:
        """Stop workers at random for longer than their leases, while one goes on; then let them go on."""
        with ExitStack() as stack:
            sleepers = [stack.enter_context(self.worker()) for _ in range(self._plan.kills)]
            stack.enter_context(self.worker())
            for sleeper in sleepers:
                time.sleep(random.uniform(*_LIFE))
                sleeper.process.send_signal(signal.SIGSTOP)
            time.sleep(LEASE.total_seconds() + 5)
            for sleeper in sleepers:
                sleeper.process.send_signal(signal.SIGCONT)
            time.sleep(5)
        self._count(len(sleepers))

    def _count(self, kills: int) -> None:
        with self._lock:
            self.kills += kills


def add_members(engine: sa.Engine, number: int) -> list[str]:
    """Insert accounts that have proved their address, and return their addresses."""
    now = datetime.now(timezone.utc).replace(microsecond=0)
    emails = [f"member-{uuid.uuid4().hex}@example.com" for _ in range(number)]
    rows = [{"email": email, "email_key": email, "email_verified_at": now, "created_at": now} for email in emails]
    with Session(engine) as session, session.begin():
        session.execute(sa.insert(User), rows)
    return emails


def _drain(plan: Plan, engine: sa.Engine, server: AppServer, slaughter: _Slaughter) -> None:
    """Wait until no mail waits any more."""
    if not plan.waits:
        server.kill()
        end_leases(engine)
        slaughter.start_server()

    def is_dry() -> bool:
        # As a load balancer does. A process starts its senders when it is first asked for anything.
        LiveProgram(server).get("/healthz")
        time.sleep(0.2)
        return waiting(engine) == 0

    with ExitStack() as stack:
        if not plan.kills_web:
            stack.enter_context(slaughter.worker())
        wait_until(is_dry, "no mail waits", patience=3 * LEASE.total_seconds())


def _sample(copies: Sequence[Copy], number: int) -> list[Copy]:
    """Return one copy for each link that is tried: of all mails with several copies, and of others."""
    by_address: dict[str, list[Copy]] = {}
    for copy in copies:
        by_address.setdefault(copy.recipient, []).append(copy)
    doubled = [found[-1] for found in by_address.values() if len(found) > 1]
    single = [found[-1] for found in by_address.values() if len(found) == 1]
    return doubled + random.sample(single, min(len(single), max(number - len(doubled), number // 2)))


def works_once(server: AppServer, copy: Copy) -> bool:
    """Open a link twice and tell whether the first time was the only one that did something."""
    assert copy.link is not None
    program, path = LiveProgram(server), urlsplit(copy.link).path
    if "/verify/" in path:
        return [program.code(program.verify(path)) for _ in range(2)] == ["verified", "already_verified"]
    answers = [program.reset(path) for _ in range(2)]
    return [answer.status_code for answer in answers] == [200, 410] and program.code(answers[1]) == "token_used"


@contextmanager
def _troubled(sink: Sink, kind: str) -> Iterator[None]:
    sink.delay = 0.2 if kind == "slow" else 0.0
    sink.cuts = 0.1 if kind == "cut" else 0.0
    try:
        yield
    finally:
        sink.be_well()


def run(plan: Plan, engine: sa.Engine, folder: Path) -> Report:
    """Kill, wait, and count."""
    begun = time.monotonic()
    with Sink() as sink:
        uri = engine.url.render_as_string(hide_password=False)
        kick = "thread" if plan.kills_web else "worker"
        server = AppServer(uri, sink, folder, ACCOUNTFLOW_MAIL_KICK=kick)  # type: ignore[arg-type]
        server.flask("db", "upgrade")
        members = add_members(engine, 200 + 25 * plan.kills)
        slaughter = _Slaughter(plan, server, folder)
        slaughter.start_server()
        try:
            with _troubled(sink, plan.sink):
                loaded = time.monotonic()
                with Load(server.port, plan.rate, members) as load:
                    slaughter.run()
                loaded = time.monotonic() - loaded
            _drain(plan, engine, server, slaughter)
            ledger, copies = load.ledger, sink.copies
            sample = _sample(copies, plan.links)
            broken = [copy.recipient for copy in sample if not works_once(server, copy)]
        finally:
            server.stop()
        asked = len(ledger.accepted) + len(ledger.refused) + len(ledger.unanswered)
        return Report(
            plan=plan,
            tally=Tally.of(ledger, copies),
            accepted=len(ledger.accepted),
            refused=len(ledger.refused),
            unanswered=len(ledger.unanswered),
            kills=slaughter.kills,
            doubtful=sink.broken_off + sink.cut + (_SENDERS * slaughter.kills if plan.target == "asleep" else 0),
            opened=len(sample),
            broken=broken,
            seconds=time.monotonic() - begun,
            rate=asked / loaded,
        )


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", nargs="+", choices=TARGETS, default=["web", "worker"])
    parser.add_argument("--database", nargs="+", choices=NAMES, default=["sqlite", "postgresql"])
    parser.add_argument("--sink", nargs="+", choices=["normal", "slow", "cut"], default=["normal"])
    parser.add_argument("--kills", type=int, default=300, help="for each target")
    parser.add_argument("--rate", type=float, default=75, help="requests per second")
    parser.add_argument("--workers", type=int, default=2, help="at a time, where workers are killed")
    options = parser.parse_args()
    print(HEAD, flush=True)
    is_well = True
    for name, target, kind in product(options.database, options.target, options.sink):
        plan = Plan(target, name, options.kills, kind, options.rate, options.workers)
        with tempfile.TemporaryDirectory() as folder, database(name, Path(folder)) as engine:
            report = run(plan, engine, Path(folder))
        print(report.row(), flush=True)
        for fault in report.faults():
            is_well = False
            print(fault, file=sys.stderr, flush=True)
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
