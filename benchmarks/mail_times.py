"""Whether an answer waits for the mail server: sign-up, resend and reset request beside four kinds of it.

    python -m benchmarks.mail_times [--rounds 100] [--server postgresql://postgres@127.0.0.1] [--write-docs]

The example app runs four times at once, each under gunicorn with two processes of eight threads that send their own
mails: to a server that takes each at once, to one that takes 3 seconds for each, to a port where nobody listens, and to
one that takes connections and never says a word. In every round each of them is asked each thing once, by one
connection, in an order that changes and right after a look at its health; a short pause follows. bcrypt is at cost 4,
because at 12 the hash of a sign-up would hide everything else. It passes when no median is 1.1 times that beside the
instant server.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.adapters.base import Call
from benchmarks.client import Client
from benchmarks.example import SYSTEM, Site
from benchmarks.rows import database
from benchmarks.servers import free_port
from benchmarks.sink import Sink
from benchmarks.written import written

INSTANT = "instant"

# Seconds for the threads that send, so that they do not compete with the next request: they begin 0.1 after a commit.
_PAUSE = 0.13
# Right before what is timed: a process that has just sent a mail is quicker than one that has slept.
_WARM = Call("GET", "/healthz")
# Rounds until an address that has signed up asks for another link: more than a second, which RESEND_AFTER is.
_LATER = 10


@contextmanager
def silent() -> Iterator[int]:
    """Yield a port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        yield int(listener.getsockname()[1])


@contextmanager
def ports() -> Iterator[Mapping[str, int]]:
    """Yield the port of each kind of mail server."""
    with Sink() as instant, Sink(delay=3.0) as slow, silent() as mute:
        yield {INSTANT: instant.port, "3 s": slow.port, "none": free_port(), "silent": mute}


def calls(number: int) -> Mapping[str, Call]:
    """Return what is asked in a round."""
    return {
        "sign-up": SYSTEM.signup(f"new{number}@example.com"),
        "resend": SYSTEM.resend(f"new{number - _LATER}@example.com"),
        "reset request": SYSTEM.reset_request(f"member{number}@example.com"),
    }


def measure(clients: Mapping[str, Client], rounds: int) -> Mapping[tuple[str, str], Sequence[float]]:
    """Return the seconds of each flow beside each mail server. The first rounds do not count."""
    names = list(clients)
    found: dict[tuple[str, str], list[float]] = {(flow, name): [] for flow in calls(0) for name in names}
    for number in range(rounds + _LATER):
        turn = number % len(names)
        for flow, call in calls(number).items():
            for name in names[turn:] + names[:turn]:
                clients[name].send(_WARM)
                answer, seconds = clients[name].timed(call)
                if answer.status not in call.expect:
                    raise RuntimeError(f"{flow} beside {name}: {answer.status} {answer.body[:500]!r}")
                if number >= _LATER:
                    found[flow, name].append(seconds)
                time.sleep(_PAUSE)
    return found


def report(found: Mapping[tuple[str, str], Sequence[float]]) -> bool:
    """Print the table, and tell whether all of it passes."""
    passed = True
    print("| flow | mail server | median, ms | p99, ms | ratio of medians | of p99 | |\n|---|---|---|---|---|---|---|")
    for (flow, name), seconds in found.items():
        middle, late = _figures(seconds)
        usual, usual_late = _figures(found[flow, INSTANT])
        passes = middle / usual < 1.1
        passed = passed and passes
        ratios = f"{middle / usual:.2f} | {late / usual_late:.2f} | {'pass' if passes else 'FAIL'}"
        print(f"| {flow} | {name} | {middle:.2f} | {late:.2f} | {ratios} |")
    return passed


def _figures(seconds: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(seconds)
    return 1000 * statistics.median(ordered), 1000 * ordered[int(0.99 * (len(ordered) - 1))]


def main() -> None:
    """Run the benchmark and print its table; end with 1 when something does not pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument(
        "--server", help="a PostgreSQL server instead of SQLite, such as postgresql://postgres@127.0.0.1"
    )
    parser.add_argument("--write-docs", action="store_true", help="write what the documentation includes, too")
    given = parser.parse_args()
    conditions = f"{'PostgreSQL' if given.server else 'SQLite'}, {given.rounds} rounds"
    with ExitStack() as stack:
        clients = {}
        for name, port in stack.enter_context(ports()).items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            uri = stack.enter_context(database(given.server)) if given.server else ""
            site = Site(
                folder,
                uri,
                port,
                ACCOUNTFLOW_BCRYPT_ROUNDS=4,
                ACCOUNTFLOW_ALLOW_INSECURE=True,
                ACCOUNTFLOW_RESEND_AFTER=1,
            )
            site.make_tables()
            site.add([f"member{number}@example.com" for number in range(given.rounds + _LATER)], rounds=4)
            server = stack.enter_context(site.server())
            clients[name] = stack.enter_context(Client(server.port))
        with written("mail_times", conditions, wanted=given.write_docs):
            passed = report(measure(clients, given.rounds))
    sys.exit(not passed)


if __name__ == "__main__":
    main()
