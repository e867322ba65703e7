"""Two groups of servers as if on two machines: PostgreSQL, limits on Redis, mail by Celery, nginx in front.

    python -m benchmarks.scaling [throughput] [costs] [limits] [mails] [redis]    # all, unless some are named

The groups are two gunicorns of the example app with two processes of eight threads each. nginx (by deploy/nginx.conf),
a Redis, two workers of Celery and beat are started for the run, and so is a database on ``--server``.

throughput  GET /auth/me with a bearer token, from one process to two groups: requests a second, and the milliseconds of
            processor time that each part takes for one. The client shares the cores, so the second counts.
costs       The same milliseconds for other requests, one process.
limits      Wrong logins for one address, all at once and through nginx: exactly as many as the limit may be tried. As a
            control the same with limits in the memory of each process.
mails       Sign-ups through nginx: each mail arrives, and once.
redis       Keys and bytes that one address takes at which somebody has guessed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
import sqlalchemy as sa

from benchmarks.adapters.base import NEW_PASSWORD, PASSWORD, Answer, Call
from benchmarks.client import Client, many
from benchmarks.example import SYSTEM, Site
from benchmarks.rows import database
from benchmarks.servers import GUARD, ROOT, Server, cpu_seconds, descendants, free_port
from benchmarks.sink import Sink

# The shortest window of failed logins per address, and how many it takes (ACCOUNTFLOW_RATELIMIT_LOGIN).
_WINDOW, _LIMIT = 300, 10
# How many tries are made at once.
_TRIES = 200


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Iterator[int]:
    """Run a program, and yield the id of its process; it ends when this process does."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLASK_")}
    with (folder / f"{Path(command[0]).name}-{time.monotonic_ns()}.log").open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", GUARD, "sh", *command],
            cwd=folder,
            env={**inherited, **environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
    try:
        yield process.pid
    finally:
        process.communicate()


def _wait_for(port: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"nobody listens at port {port}")


def _installed(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        sys.exit(f"{name} is not installed")
    return found


class Machines:
    """What runs beside the groups, and what they share."""

    def __init__(self, stack: ExitStack, server: str, **settings: Any) -> None:
        self._stack = stack
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.redis_port = free_port()
        line = [_installed("redis-server"), "--port", str(self.redis_port), "--save", "", "--dir", str(self.folder)]
        self._enter(line)
        _wait_for(self.redis_port)
        self.sink = stack.enter_context(Sink())
        address = f"redis://127.0.0.1:{self.redis_port}"
        self.site = Site(
            self.folder,
            stack.enter_context(database(server)),
            self.sink.port,
            CELERY={"broker_url": f"{address}/1", "broker_connection_retry_on_startup": True},
            TRUSTED_PROXIES=1,
            # As many as threads and senders: a connection beyond them ends with its request, and nobody could say
            # afterwards what it took of the processors.
            SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 10, "max_overflow": 0},
            **{
                # What hashes cost is measured elsewhere. None may be refused as busy, which is no try.
                "ACCOUNTFLOW_BCRYPT_ROUNDS": 4,
                "ACCOUNTFLOW_ALLOW_INSECURE": True,
                "ACCOUNTFLOW_HASH_QUEUE": 1000,
                "ACCOUNTFLOW_HASH_WAIT": 60,
                "ACCOUNTFLOW_RATELIMIT_STORAGE_URI": f"{address}/0",
                **settings,
            },
        )
        self.site.make_tables()

    def _enter(self, command: Sequence[str], **environment: str) -> int:
        return self._stack.enter_context(running(command, environment, self.folder))

    def group(self, workers: int) -> Server:
        """Start a group of servers."""
        return self._stack.enter_context(self.site.server(workers))

    def front(self, groups: Sequence[Server]) -> tuple[int, int]:
        """Start nginx before the groups, and return its port and the id of its process."""
        port = free_port()
        conf = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
        servers = " ".join(f"server 127.0.0.1:{one.port};" for one in groups)
        conf = conf.replace("server web:8000;", servers).replace("listen 8080;", f"listen 127.0.0.1:{port};")
        # What the image of nginx has around the file.
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = " ".join(f"{kind}_temp_path {self.folder};" for kind in kinds)
        file = self.folder / f"nginx-{port}.conf"
        pid = f"pid {self.folder}/nginx-{port}.pid;"
        file.write_text(f"daemon off; {pid} events {{}} http {{ access_log off; {paths} {conf} }}", encoding="utf-8")
        line = [_installed("nginx"), "-p", str(self.folder), "-c", str(file), "-e", str(self.folder / "nginx.log")]
        process = self._enter(line)
        _wait_for(port)
        return port, process

    def celery(self, *command: str) -> None:
        """Start a process of Celery."""
        self._enter([sys.executable, "-m", "celery", "--app", "example_app.worker", *command], **self.site.environment)


class Meter:
    """Reads what parts of the whole have taken of the processors."""

    def __init__(self, machines: Machines, groups: Sequence[Server], front: int | None) -> None:
        self._engine = sa.create_engine(machines.site.settings["SQLALCHEMY_DATABASE_URI"])
        self._groups, self._front = groups, front

    def read(self) -> Mapping[str, float]:
        """Return the seconds of each part until now."""
        with self._engine.connect() as connection:
            mine = sa.text(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            behind = list(connection.execute(mine).scalars())
        self._engine.dispose()
        return {
            "processes": sum(group.cpu_seconds() for group in self._groups),
            "database": sum(map(cpu_seconds, behind)),
            "nginx": 0.0 if self._front is None else sum(map(cpu_seconds, descendants(self._front))),
            "client": time.process_time(),
        }


def throughput(machines: Machines, requests: int, rounds: int) -> bool:
    """Print what cheap requests take, by one process and by more."""
    machines.site.add(["member@example.com"], rounds=4)
    one, two = machines.group(1), machines.group(2)
    groups = [machines.group(2), machines.group(2)]
    port, front = machines.front(groups)
    two_port, two_front = machines.front([two])
    shapes = {
        "1 process": (one.port, Meter(machines, [one], None)),
        "2 processes": (two.port, Meter(machines, [two], None)),
        # What nginx takes, apart from what more processes do.
        "2 processes, nginx": (two_port, Meter(machines, [two], two_front)),
        "2 groups of 2, nginx": (port, Meter(machines, groups, front)),
    }
    with Client(port) as client:
        call = SYSTEM.me(SYSTEM.logged_in(client.send(SYSTEM.login("member@example.com", PASSWORD))))
    found: dict[str, list[tuple[float, Mapping[str, float]]]] = {name: [] for name in shapes}
    for _ in range(rounds):
        for name, (where, meter) in shapes.items():
            many(where, [call] * 300, connections=16)
            before = meter.read()
            result = many(where, [call] * requests, connections=16)
            after = meter.read()
            assert not result.unexpected, result.unexpected
            spent = {part: 1000 * (after[part] - before[part]) / requests for part in after}
            found[name].append((requests / result.seconds, spent))
    print("| GET /auth/me | requests/s | ms of processor for one: processes | database | nginx | client | sum |")
    print("|---|---|---|---|---|---|---|")
    for name, runs in found.items():
        rate = statistics.median(rate for rate, _ in runs)
        spent = {part: statistics.median(one[part] for _, one in runs) for part in runs[0][1]}
        cells = " | ".join(f"{value:.2f}" for value in [*spent.values(), sum(spent.values())])
        print(f"| {name} | {rate:.0f} | {cells} |", flush=True)
    return True


def costs(machines: Machines, requests: int) -> bool:
    """Print what one request of each kind takes of the processors, in one process; mails leave by none."""
    emails = [f"member{number}@example.com" for number in range(requests)]
    machines.site.add(emails, rounds=4)
    server = machines.group(1)
    meter = Meter(machines, [server], None)
    print("| request | ms of processor: process | database |\n|---|---|---|")

    def count(name: str, calls: Sequence[Call]) -> Sequence[Answer]:
        before = meter.read()
        result = many(server.port, calls, connections=2)
        server.settle()
        after = meter.read()
        assert not result.unexpected, (name, result.unexpected)
        spent = (1000 * (after[part] - before[part]) / len(calls) for part in ("processes", "database"))
        print(f"| {name} | {' | '.join(f'{one:.2f}' for one in spent)} |", flush=True)
        return result.answers

    many(server.port, [SYSTEM.login_page()] * 50, connections=2)
    answers = count("login, bcrypt at cost 4", [SYSTEM.login(email, PASSWORD) for email in emails])
    logins = [SYSTEM.logged_in(answer) for answer in answers]
    count("me", [SYSTEM.me(login) for login in logins])
    count("refresh", [SYSTEM.refresh(login) for login in logins])
    count("login page", [SYSTEM.login_page()] * requests)
    count("sign-up, bcrypt at cost 4", [SYSTEM.signup(f"new{number}@example.com") for number in range(requests)])
    count("reset request", [SYSTEM.reset_request(email) for email in emails])
    return True


def _volley(machines: Machines, port: int, number: int) -> Counter[int]:
    """Try wrong passwords at one address, and return how often each status was answered."""
    email = f"member{number}@example.com"
    machines.site.add([email], rounds=4)
    left = _WINDOW - time.time() % _WINDOW
    if left < 10:  # a limit counts anew in the next window
        time.sleep(left)
    result = many(port, [SYSTEM.login(email, NEW_PASSWORD)] * _TRIES, connections=64)
    return Counter(result.statuses)


def limits(machines: Machines, times: int) -> bool:
    """Print how many wrong passwords may be tried over all processes, and whether that is the limit on Redis."""
    passed = True
    on_redis = machines.site.settings["ACCOUNTFLOW_RATELIMIT_STORAGE_URI"]
    for number, (where, uri) in enumerate({"on Redis": on_redis, "in each process": "memory://"}.items()):
        machines.site.settings["ACCOUNTFLOW_RATELIMIT_STORAGE_URI"] = uri
        port, _ = machines.front([machines.group(2), machines.group(2)])
        for volley in range(times):
            answers = _volley(machines, port, number * times + volley)
            passed = passed and (uri != on_redis or answers == {401: _LIMIT, 429: _TRIES - _LIMIT})
            print(f"limits {where}: {_TRIES} wrong passwords at once: {dict(sorted(answers.items()))}", flush=True)
    return passed


def mails(machines: Machines, number: int) -> bool:
    """Print how many mails have arrived of so many sign-ups, and whether any has come twice."""
    port, _ = machines.front([machines.group(2), machines.group(2)])
    for _ in range(2):
        machines.celery("worker", "--concurrency", "1", "--without-gossip", "--without-mingle")
    machines.celery("beat", "--schedule", str(machines.folder / "beat"))
    emails = [f"new{number}@example.com" for number in range(number)]
    started = time.monotonic()
    result = many(port, [SYSTEM.signup(email) for email in emails], connections=16)
    answered = time.monotonic()
    assert not result.unexpected, result.unexpected
    machines.sink.wait_for(emails, timeout=120)
    arrived = time.monotonic()
    time.sleep(12)  # two sweeps of beat
    copies = Counter(len(machines.sink.mails_to(email)) for email in emails)
    print(
        f"mails: {number} sign-ups in {answered - started:.1f} s; the last mail {arrived - answered:.1f} s after; "
        f"copies of each {dict(copies)}, {machines.sink.count()} in all",
        flush=True,
    )
    return copies == {1: number} and machines.sink.count() == number


def memory(machines: Machines, addresses: int) -> bool:
    """Print what Redis keeps of an address at which somebody has guessed."""
    store = redis.Redis(port=machines.redis_port)
    throttle = machines.site.app().extensions["accountflow"].throttle
    throttle.reserve(login="first@example.com", login_ip="192.0.2.1")
    before, keys = store.info("memory")["used_memory"], store.dbsize()
    for number in range(addresses):
        throttle.reserve(login=f"guessed{number}@example.com", login_ip="192.0.2.1")
    took, more = store.info("memory")["used_memory"] - before, store.dbsize() - keys
    lives = [store.ttl(key) for key in store.scan_iter(count=1000)]
    print(f"redis: {more / addresses:.1f} keys and {took / addresses:.0f} bytes for each of {addresses} addresses")
    print(f"redis: keys live up to {max(lives) / 86400:.1f} days")
    for name, settle in (("wrong", False), ("right", True)):
        trips = _trips(store)
        reservation = throttle.reserve(login=f"{name}@example.com", login_ip="192.0.2.1")
        if settle:
            reservation.succeed()
        print(f"redis: {_trips(store) - trips} commands for a {name} password")
    store.close()
    return True


def _trips(store: redis.Redis) -> int:
    """Return how many commands clients have sent; those that a script runs by itself are not among them."""
    stats = store.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval", "unlink", "del"))


def main() -> None:
    """Run what is asked for; end with 1 when something does not pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="throughput, costs, limits, mails, redis")
    parser.add_argument("--server", default="postgresql://postgres@127.0.0.1:5432")
    parser.add_argument("--requests", type=int, default=2000, help="of each shape in a round of throughput")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--volleys", type=int, default=5)
    parser.add_argument("--mails", type=int, default=300)
    parser.add_argument("--addresses", type=int, default=20_000)
    given = parser.parse_args()
    parts: Mapping[str, Callable[[Machines], bool]] = {
        "throughput": lambda machines: throughput(machines, given.requests, given.rounds),
        "costs": lambda machines: costs(machines, given.requests // 4),
        "limits": lambda machines: limits(machines, given.volleys),
        "mails": lambda machines: mails(machines, given.mails),
        "redis": lambda machines: memory(machines, given.addresses),
    }
    if unknown := set(given.parts) - set(parts):
        parser.error(f"there is no part {min(unknown)}")
    passed = True
    for name, part in parts.items():
        if not given.parts or name in given.parts:
            with ExitStack() as stack:
                passed = part(Machines(stack, given.server)) and passed
    sys.exit(not passed)


if __name__ == "__main__":
    main()
