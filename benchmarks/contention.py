"""Whether logins use all cores and yet leave the other requests alone.

    python -m benchmarks.contention [--gates default 1+2 none] [--clients 32 128] [--seconds 10] [--turns 3]

A gate is how many passwords one process hashes at once, and how many requests may wait for that. Under gunicorn with
two processes of eight threads and bcrypt at cost 12, clients log in without pause; one that is refused with 503 comes
again after its ``Retry-After`` and up to as long again, or with ``--at-once`` at once. Meanwhile two others ask
``GET /auth/me`` and the login page, 20 times a second each. All open a connection for each request, as proxies do. Raw
bcrypt, by one thread for each core, is timed before and after each load, and that in turns, since a machine's speed
changes while it works.

The limit is raw bcrypt on what is left of the cores: the clients share them with the servers here, and the two others
take what serving them takes without logins. The ratio is of all logins to all limits of the turns.

It passes when 8 clients alone get 0.97 of the limit, and 32 and 128 clients beside the two others 0.9 of it
while the 99th percentile of those stays below 10 times what it is without logins.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import bcrypt

from benchmarks.adapters.base import PASSWORD, Call
from benchmarks.client import LOST, Client
from benchmarks.example import SYSTEM, Site
from benchmarks.servers import Server, cpu_seconds
from benchmarks.written import written

# Seconds between two requests of one of the others, and until a load is even.
_PAUSE, _WARM_UP = 0.05, 3.0

_ROUNDS = 12


class Seen(NamedTuple):
    """One answer: when it came by a clock that all processes share, how long it took, and its status."""

    at: float
    seconds: float
    status: int


def raw(seconds: float) -> float:
    """Return how many passwords all cores check in a second, by a thread for each."""
    stored = bcrypt.hashpw(b"password", bcrypt.gensalt(_ROUNDS))
    rates: list[float] = []

    def check() -> None:
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            bcrypt.checkpw(b"password", stored)
            count += 1
        rates.append(count / (time.perf_counter() - started))

    together([check] * cores())
    return sum(rates)


def cores() -> int:
    """Return how many cores there are for us."""
    return len(os.sched_getaffinity(0))


def together(tasks: Sequence[Callable[[], None]]) -> None:
    """Run all of them at once, each in a thread, until they are done."""
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def ask(port: int, call: Call) -> tuple[Seen, float]:
    """Send a call by a connection of its own, and return also how many seconds it is to wait for the next try.

    No answer, which :class:`.Client` waits a minute for, is status 0.
    """
    started, answer = time.monotonic(), LOST
    with suppress(OSError), Client(port) as client:
        answer = client.send(replace(call, headers={**call.headers, "Connection": "close"}))
    ended = time.monotonic()
    return Seen(ended, ended - started, answer.status), float(answer.headers.get("retry-after", 0))


def _log_in(port: int, emails: Sequence[str], patient: bool, stop: threading.Event, seen: list[Seen]) -> None:
    def client(email: str) -> None:
        call = SYSTEM.login(email, PASSWORD)
        while not stop.is_set():
            answer, wait = ask(port, call)
            seen.append(answer)
            if wait and patient:
                stop.wait(wait * random.uniform(1, 2))

    together([partial(client, email) for email in emails])


def _ping(port: int, call: Call, stop: threading.Event, seen: list[Seen]) -> None:
    while not stop.wait(_PAUSE):
        seen.append(ask(port, call)[0])


def _process(line: Connection, task: Callable[..., None], *args: Any) -> None:
    stop, seen = threading.Event(), list[Seen]()
    thread = threading.Thread(target=task, args=(*args, stop, seen))
    thread.start()
    line.recv()
    stop.set()
    thread.join()
    line.send(seen)


@contextmanager
def running(task: Callable[..., None], *args: Any) -> Iterator[tuple[list[Seen], int]]:
    """Run a task in a process of its own, and yield its id; at the end what it has seen is in the list."""
    context, seen = get_context("spawn"), list[Seen]()
    line, theirs = context.Pipe()
    process = context.Process(target=_process, args=(theirs, task, *args), daemon=True)
    process.start()
    try:
        yield seen, process.pid or 0
        line.send(None)
        seen += line.recv()
    finally:
        process.join(60)
        process.kill()


class Load(NamedTuple):
    """What came of one load: logins in a second, statuses, the latencies of each of the others, and which part of all
    cores those who asked took themselves, and the server."""

    rate: float
    statuses: Counter[int]
    others: Sequence[Sequence[float]]
    askers: float
    server: float


def load(server: Server, emails: Sequence[str], seconds: float, others: Sequence[Call], patient: bool = True) -> Load:
    """Let somebody log in for each address, and the others ask beside them; the time of the warm-up does not count."""
    with ExitStack() as stack:
        logins, *pids = stack.enter_context(running(_log_in, server.port, emails, patient))
        pings = []
        for call in others:
            seen, pid = stack.enter_context(running(_ping, server.port, call))
            pings.append(seen)
            pids.append(pid)
        time.sleep(_WARM_UP)
        begin, took, served = time.monotonic(), -sum(map(cpu_seconds, pids)), -server.cpu_seconds()
        time.sleep(seconds)
        end, took, served = time.monotonic(), took + sum(map(cpu_seconds, pids)), served + server.cpu_seconds()
    counted = [one for one in logins if begin <= one.at <= end]
    times = sorted(one.at for one in counted if one.status == 200)
    # Between the first and the last: whole logins in the time that they took.
    rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
    wrong = Counter(one.status for some in pings for one in some if one.status not in {200, 0})
    assert not wrong, f"the others were answered {dict(wrong)}"
    # Also those that began before or ended after: what waits behind hashes may wait for all of the time.
    kept = [[one.seconds for one in some if one.at >= begin and one.at - one.seconds <= end] for some in pings]
    there_was = (end - begin) * cores()
    return Load(rate, Counter(one.status for one in counted), kept, took / there_was, served / there_was)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of them does not exceed, in milliseconds."""
    return 1000 * sorted(values)[min(len(values) - 1, int(share * len(values)))]


def gate(text: str) -> dict[str, Any]:
    """Return the settings for ``2+1``, for ``none``, which lets everybody in, or for ``default``."""
    if text == "default":
        return {}
    running, _, waiting = "1024+0".partition("+") if text == "none" else text.partition("+")
    return {"ACCOUNTFLOW_HASH_CONCURRENCY": int(running), "ACCOUNTFLOW_HASH_QUEUE": int(waiting)}


class Turn(NamedTuple):
    """One load, and the logins in a second that it could reach."""

    found: Load
    limit: float


class Trial:
    """One gate, under each load. It prints a line for each."""

    def __init__(self, name: str, server: Server, emails: Sequence[str], seconds: float, turns: int) -> None:
        self._name, self._server, self._emails, self._seconds, self._turns = name, server, emails, seconds, turns
        with Client(server.port) as client:
            answer = client.send(SYSTEM.login(emails[0], PASSWORD))
        if answer.status != 200:
            raise RuntimeError(f"the first login was answered {answer.status} {answer.body[:500]!r}")
        login = SYSTEM.logged_in(answer)
        self._others = [SYSTEM.me(login), SYSTEM.login_page()]
        idle = load(server, [], turns * seconds, self._others)
        self._idle, self._beside = [percentile(some, 0.99) for some in idle.others], idle.server
        self._raw = self._time_raw()

    def _time_raw(self) -> float:
        return raw(self._seconds / 2)

    def run(self, clients: int, *, alone: bool = False, patient: bool = True) -> bool:
        """Let so many clients log in, and tell whether that passes."""
        raws = [self._raw]
        turns = []
        for _ in range(self._turns):
            turns.append(self._turn(clients, alone, patient))
            raws.append(self._raw)
        rate, limit = fmean(one.found.rate for one in turns), fmean(one.limit for one in turns)
        shown, worst = [], 0.0
        for number, idle in enumerate(() if alone else self._idle):
            some = [seconds for one in turns for seconds in one.found.others[number]]
            loaded = percentile(some, 0.99)
            worst = max(worst, loaded / idle)
            shown.append(f"{percentile(some, 0.5):.1f} / {loaded:.1f} ({idle:.1f})")
        passes = rate / limit >= (0.97 if alone else 0.9) and worst < 10
        counts = sum((one.found.statuses for one in turns), Counter[int]())
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(counts.items()))
        words = f"{clients}{' alone' if alone else ''}{'' if patient else ', at once'}"
        cells = [self._name, words, f"{rate:.2f}", f"{min(raws):.2f} to {max(raws):.2f}", f"{limit:.2f}"]
        cells += [f"{rate / limit:.3f}", statuses]
        cells += [*shown, *["-"] * (2 - len(shown)), "pass" if passes else "FAIL"]
        print(f"| {' | '.join(cells)} |", flush=True)
        return passes

    def _turn(self, clients: int, alone: bool, patient: bool) -> Turn:
        found = load(self._server, self._emails[:clients], self._seconds, [] if alone else self._others, patient)
        before, self._raw = self._raw, self._time_raw()
        left = 1 - found.askers - (0 if alone else self._beside)
        return Turn(found, (before + self._raw) / 2 * left)


def main() -> None:
    """Run the benchmark and print its table; end with 1 when a gate other than ``none`` does not pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", nargs="+", default=["default", "none"], help="such as 2+1; default; none")
    parser.add_argument("--clients", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--seconds", type=float, default=10, help="of each load")
    parser.add_argument("--turns", type=int, default=3, help="of each load and raw bcrypt")
    parser.add_argument("--at-once", action="store_true", help="also with clients that do not heed Retry-After")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--write-docs", action="store_true", help="write what the documentation includes, too")
    given = parser.parse_args()
    shape = f"{given.workers} processes of {given.threads} threads"
    conditions = f"{shape}, {given.turns} turns of {given.seconds:g} seconds for each load"
    with written("contention", conditions, wanted=given.write_docs):
        passed = try_all(given)
    sys.exit(not passed)


def try_all(given: argparse.Namespace) -> bool:
    """Try each gate, print the table, and tell whether those that are to pass do."""
    emails = [f"person{number}@example.com" for number in range(max(8, *given.clients))]
    heads = ("gate", "clients", "logins/s", "raw bcrypt", "limit", "ratio", "statuses")
    print(f"| {' | '.join(heads)} | me: p50 / p99 (idle p99), ms | page | |")
    print("|---" * 10 + "|")
    passed = True
    for name in given.gates:
        with tempfile.TemporaryDirectory() as folder:
            site = Site(Path(folder), **gate(name))
            site.make_tables()
            site.add(emails)
            with site.server(given.workers, given.threads) as server:
                trial = Trial(name, server, emails, given.seconds, given.turns)
                done = [trial.run(8, alone=True), *[trial.run(clients) for clients in given.clients]]
                if given.at_once:
                    trial.run(max(given.clients), patient=False)
        passed = passed and (name == "none" or all(done))
    return passed


if __name__ == "__main__":
    main()
