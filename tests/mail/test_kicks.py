"""What starts delivery."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from databases import NOW, TABLES, Rows, User, sqlite  # noqa: F401

from flask_accountflow.mail import kicks
from flask_accountflow.mail.delivery import Deliverer
from flask_accountflow.mail.kicks import InlineKick, ThreadKick, WorkerKick, deliver_forever
from flask_accountflow.mail.letter import Letter
from flask_accountflow.mail.transports import Connection
from flask_accountflow.store.queue import Queue, Waiting

TESTS = Path(__file__).parent.parent


class Wire:
    """A transport that notes letters; ``during`` runs while one is sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.during: Callable[[Letter], object] = lambda letter: None
        self.connects = self.closes = 0

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        self.connects += 1
        yield self
        self.closes += 1

    def send(self, letter: Letter) -> None:
        self.during(letter)
        self.sent.append(letter.subject)

    def abort(self) -> None:
        """Not reached: no test takes that long."""


def render(mail: Waiting) -> Letter:
    """Return a letter whose subject is the template."""
    return Letter(mail.to_addr, mail.template, "Hello", "Hello", mail.message_id, "s@x.example", "", NOW, "en", "t")


class World:
    """An outbox, a wire, and the deliverer between them."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.rows = Rows(engine)
        self.wire = Wire()
        self.is_broken = False
        queue = Queue(TABLES, User, self.begin)
        self.deliverer = Deliverer(queue, self.wire, render, lambda: NOW, lambda *event, **payload: None)

    def begin(self) -> AbstractContextManager[sa.Connection]:
        if self.is_broken:
            raise OSError("database is away")
        return self.engine.begin()

    def pending(self) -> int:
        return self.rows.counts()["pending"]


@pytest.fixture
def world(sqlite: sa.Engine) -> World:  # noqa: F811
    """An outbox, a wire, and the deliverer between them."""
    return World(sqlite)


@pytest.fixture
def kick(world: World) -> Iterator[ThreadKick]:
    """A kick with threads that poll rarely."""
    kick = ThreadKick(world.deliverer)
    yield kick
    assert kick.stop(5)


def eventually(condition: Callable[[], bool], seconds: float = 5) -> bool:
    """Wait until the condition holds, and tell whether it came to."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def senders() -> int:
    return sum(thread.name.startswith("accountflow-mail") for thread in threading.enumerate())


def test_inline(world: World) -> None:
    """The inline kick has delivered when it returns."""
    world.rows.mail(template="hello")

    InlineKick(world.deliverer)()

    assert world.wire.sent == ["hello"]


def test_inline_start(world: World) -> None:
    """The first request of a process does not wait for mails of others."""
    world.rows.mail()

    InlineKick(world.deliverer).start()

    assert world.wire.sent == []


def test_inline_swallows(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of delivery is logged and never the fault of a request."""
    world.is_broken = True

    InlineKick(world.deliverer)()

    assert "database is away" in caplog.text


def test_worker(world: World) -> None:
    """The worker's kick leaves mails to the worker."""
    world.rows.mail()
    kick = WorkerKick()

    kick.start()
    kick()

    assert world.pending() == 1


def test_thread_is_lazy(world: World) -> None:
    """Making a kick starts no thread, and there is nothing to stop."""
    kick = ThreadKick(world.deliverer)

    assert senders() == 0
    assert kick.stop(0)


def test_thread_start(world: World, kick: ThreadKick) -> None:
    """The first request starts the threads once, and what was waiting is delivered."""
    world.rows.mail(template="hello")

    kick.start()
    kick.start()

    assert eventually(lambda: world.wire.sent == ["hello"])
    assert senders() == 2


def test_thread_wakes(world: World, kick: ThreadKick) -> None:
    """A kick wakes a thread that has nothing to do."""
    kick.start()
    time.sleep(0.2)
    world.rows.mail(template="hello")

    kick()

    assert eventually(lambda: world.wire.sent == ["hello"], 2)


def test_thread_polls(world: World) -> None:
    """Without a kick mails are found by polling."""
    kick = ThreadKick(world.deliverer, poll=0.1)
    kick.start()
    time.sleep(0.2)

    world.rows.mail(template="hello")

    assert eventually(lambda: world.wire.sent == ["hello"], 2)
    assert kick.stop()


def test_hung_mail(world: World, kick: ThreadKick) -> None:
    """A mail that hangs keeps only its own thread; others go out meanwhile."""
    go_on = threading.Event()
    world.wire.during = lambda letter: letter.subject == "hung" and go_on.wait(5)
    world.rows.mail(template="hung")
    kick.start()
    assert eventually(lambda: world.rows.queue().next_due() is None)

    for number in range(3):
        world.rows.mail(template=str(number))
        kick()

    assert eventually(lambda: len(world.wire.sent) == 3)
    assert "hung" not in world.wire.sent
    go_on.set()
    assert eventually(lambda: "hung" in world.wire.sent)


def test_thread_survives(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The threads outlive a database that is away for a while."""
    kick = ThreadKick(world.deliverer, poll=0.05)
    world.is_broken = True
    kick.start()
    assert eventually(lambda: "could not be looked up" in caplog.text)
    world.is_broken = False
    world.rows.mail(template="hello")

    kick()

    assert eventually(lambda: world.wire.sent == ["hello"])
    assert "Delivery was interrupted" in caplog.text
    assert kick.stop(5)


def test_thread_keeps_its_connection(world: World, kick: ThreadKick, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection of a mail is there for the next one, and closed when none has come for a while."""
    monkeypatch.setattr(world.deliverer, "senders", 1)
    monkeypatch.setattr(kicks, "_LINGER", 1.0)
    for number in (1, 2):
        world.rows.mail()
        kick()
        assert eventually(lambda: len(world.wire.sent) == number)  # noqa: B023 - called at once

    assert (world.wire.connects, world.wire.closes) == (1, 0)
    assert eventually(lambda: world.wire.closes == 1)


def test_thread_closes_at_its_end(world: World, kick: ThreadKick) -> None:
    """A thread that ends says goodbye to the server."""
    world.rows.mail()
    kick()
    assert eventually(lambda: len(world.wire.sent) == 1)

    assert kick.stop(5)

    assert (world.wire.connects, world.wire.closes) == (1, 1)


def test_thread_gathers(world: World, kick: ThreadKick, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is committed within a moment of a call is claimed together."""
    claims: list[int] = []

    def claim(now: Any, batch: int) -> list[Waiting]:
        claimed = real(now, batch)
        claims.append(len(claimed))
        return claimed

    real = world.deliverer._queue.claim
    monkeypatch.setattr(world.deliverer._queue, "claim", claim)
    monkeypatch.setattr(kicks, "_GATHER", 1.0)
    kick.start()
    assert eventually(lambda: claims == [0, 0])
    for _ in range(3):
        world.rows.mail()
        kick()
        assert eventually(lambda: kick._crews[os.getpid()]._gathers)

    assert eventually(lambda: len(world.wire.sent) == 3)
    assert claims == [0, 0, 3]


def test_thread_stops(world: World) -> None:
    """A stopped kick finishes the mail in hand, gives the others back, and starts nothing any more."""
    kick = ThreadKick(world.deliverer)
    is_sending = threading.Event()
    world.wire.during = lambda letter: (is_sending.set(), time.sleep(0.2))
    for _ in range(30):
        world.rows.mail()
    kick.start()
    assert is_sending.wait(5)

    has_stopped = kick.stop(5)
    kick()

    assert has_stopped
    assert 1 <= len(world.wire.sent) <= 2
    assert world.pending() == 30 - len(world.wire.sent)
    with world.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count(TABLES.mail.c.lease_id))) == 0
    assert senders() == 0


def test_thread_stop_gives_up(world: World) -> None:
    """Stopping waits no longer than it is told to."""
    kick = ThreadKick(world.deliverer)
    began, go_on = threading.Event(), threading.Event()

    def dawdle(letter: Letter) -> None:
        began.set()
        go_on.wait(5)

    world.wire.during = dawdle
    world.rows.mail()
    kick.start()
    assert began.wait(5)  # a mail that is only claimed is given back at once

    has_stopped = kick.stop(0.1)

    assert not has_stopped
    go_on.set()
    assert kick.stop(5)


def test_no_thread_to_be_had(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A system that grants no more threads does not fail the request; a later kick tries again."""
    kick = ThreadKick(world.deliverer)
    usual = threading.stack_size(1 << 46)
    try:
        kick()
    finally:
        threading.stack_size(usual)
    assert "No thread for mails" in caplog.text
    world.rows.mail(template="hello")

    kick()

    assert eventually(lambda: world.wire.sent == ["hello"])
    assert kick.stop()


PRELUDE = """
import os, sys, threading, time
sys.path.insert(0, {tests!r})
import sqlalchemy as sa
from databases import Rows
from flask_accountflow.mail.delivery import Deliverer
from flask_accountflow.mail.kicks import ThreadKick
from flask_accountflow.mail.transports import FileTransport
from flask_accountflow.mail.letter import Letter
from flask_accountflow.store.queue import Waiting
from databases import NOW

def render(mail):
    time.sleep({slow})
    text = f"{{mail.id}} by {{os.getpid()}}"
    return Letter(mail.to_addr, mail.template, text, "h", mail.message_id, "s@x", "", NOW, "en", "t")

rows = Rows(sa.create_engine({url!r}, poolclass=sa.NullPool))
deliverer = Deliverer(rows.queue(), FileTransport({log!r}), render, lambda: NOW, lambda *event, **payload: None)
kick = ThreadKick(deliverer)

def wait_for(number):
    end = time.monotonic() + 10
    while rows.counts()["sent"] < number and time.monotonic() < end:
        time.sleep(0.02)
"""


def run(script: str, world: World, folder: Path, slow: float = 0) -> tuple[float, str]:
    """Run a process on the same outbox; return how long its end took, in seconds, and the mails it sent."""
    log = folder / "mail.log"
    values = {"tests": str(TESTS), "url": str(world.engine.url), "log": str(log), "slow": slow}
    code = PRELUDE.format(**values) + script + "\nprint(time.time())\n"
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stderr == ""
    return time.time() - float(done.stdout.split()[-1]), log.read_text()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_fork(world: World, tmp_path: Path) -> None:
    """A forked child starts threads of its own, and both processes end when they are done."""
    first, second = world.rows.mail(), world.rows.mail(next_attempt_at=NOW.replace(year=2030))
    script = f"""
kick.start()
wait_for(1)
time.sleep(0.5)  # until the threads are idle: a fork in the midst of a call leaves SQLite's own locks taken
pid = os.fork()
if not pid:
    from databases import TABLES
    rows.change(TABLES.mail, {second}, next_attempt_at=NOW)
    kick()
    wait_for(2)
    sys.exit()
os.waitpid(pid, 0)
"""

    end, log = run(script, world, tmp_path)

    by = {line.split()[0]: line.split()[2] for line in log.splitlines() if " by " in line}
    assert set(by) == {str(first), str(second)}
    assert by[str(first)] != by[str(second)]
    assert end < 4.5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_fork_in_the_midst(world: World, tmp_path: Path) -> None:
    """A child that is forked while its parent delivers sends nothing of what the parent has claimed."""
    for _ in range(3):
        world.rows.mail()
    script = """
children = []
plain = deliverer._render

def fork(mail):
    if not children:
        children.append(os.fork())
        if not children[0]:
            os._exit(deliverer.deliver_due())
    return plain(mail)

deliverer._render = fork
handled = deliverer.deliver_due()
assert (handled, os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])) == (3, 0)
"""

    _, log = run(script, world, tmp_path)

    assert [line.split()[0] for line in log.splitlines() if " by " in line] == ["1", "2", "3"]


def test_exit(world: World, tmp_path: Path) -> None:
    """A process that ends finishes its mails in hand and gives the others back."""
    for _ in range(60):
        world.rows.mail()

    end, log = run("kick.start()\nwait_for(3)", world, tmp_path, slow=0.05)

    sent = log.count("START EMAIL")
    assert 3 <= sent < 60
    assert world.rows.counts() == {"pending": 60 - sent, "sent": sent, "failed": 0, "dropped": 0}
    with world.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count(TABLES.mail.c.lease_id))) == 0
    assert end < 4.5


def test_exit_of_an_idle_process(world: World, tmp_path: Path) -> None:
    """Idle threads do not keep a process from ending."""
    world.rows.mail()

    end, _ = run("kick.start()\nwait_for(1)", world, tmp_path)

    assert end < 4.5


@contextmanager
def forever(world: World, said: list[str]) -> Iterator[None]:
    """Run a worker, and stop it in the end."""
    stop = threading.Event()
    options = {"poll": 0.05, "report": said.append}
    thread = threading.Thread(target=deliver_forever, args=(world.deliverer, stop), kwargs=options)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()


def test_forever(world: World) -> None:
    """The worker delivers what comes, says so, and ends when it is stopped."""
    said: list[str] = []

    with forever(world, said):
        world.rows.mail(template="first")
        assert eventually(lambda: world.wire.sent == ["first"])
        time.sleep(0.4)  # idle for longer than it looks after its threads
        world.rows.mail(template="second")
        assert eventually(lambda: world.wire.sent == ["first", "second"])

    assert said == ["1 mail handled"] * 2


def test_forever_survives(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The worker outlives a database that is away for a while."""
    world.is_broken = True
    said: list[str] = []

    with forever(world, said):
        assert eventually(lambda: "could not be looked up" in caplog.text)
        world.rows.mail()
        world.rows.mail()
        world.is_broken = False
        assert eventually(lambda: len(world.wire.sent) == 2)

    assert said in (["2 mails handled"], ["1 mail handled"] * 2)


def test_forever_stopped_before(world: World) -> None:
    """A worker that was stopped before it began does nothing."""
    stop = threading.Event()
    stop.set()
    world.rows.mail()

    deliver_forever(world.deliverer, stop)

    assert world.wire.sent == []
