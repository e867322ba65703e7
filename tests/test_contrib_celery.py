"""Delivery by Celery, as far as one process goes: the task, the kick, the sweep, and what is refused."""

from __future__ import annotations

import logging
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from celery import Celery, Task, signals
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from live_server import wait_until
from support import CONFIG, PASSWORD, MemoryTransport

from flask_accountflow import AccountFlow, ConfigError, UserMixin
from flask_accountflow.contrib.celery import SWEEP, TASK

EMAIL = "ada@example.com"
CELERY_FIRST = "app.extensions['celery'] before AccountFlow.init_app"
SECRET = "hunter2"


class Shop:
    """An app whose mails Celery delivers, on a broker in this process."""

    def __init__(self, uri: str, celery: Celery | None, **config: Any) -> None:
        self.celery: Any = celery
        self.transport = MemoryTransport()
        self.app = Flask("shop")
        self.app.config.update(CONFIG, SQLALCHEMY_DATABASE_URI=uri, ACCOUNTFLOW_MAIL_KICK="celery", **config)
        if celery is not None:
            self.app.extensions["celery"] = celery
        self.db = db = SQLAlchemy(self.app)

        class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
            __tablename__ = "users"

        AccountFlow(self.app, db, User, transport=self.transport)
        with self.app.app_context():
            db.create_all()

    @property
    def kick(self) -> Any:
        return self.app.extensions["accountflow"].kick

    def sign_up(self, email: str = EMAIL) -> None:
        answer = self.app.test_client().post("/auth/signup", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 202, answer.text

    def messages(self) -> list[Any]:
        """Take the messages that wait in the broker."""
        with self.celery.connection_for_read() as connection, connection.channel() as channel:
            taken = iter(lambda: channel.basic_get(self.celery.conf.task_default_queue, no_ack=True), None)
            return list(taken)

    def deliver(self) -> None:
        """Do what a worker does with a message."""
        self.celery.tasks[TASK].apply(throw=True)

    def close(self) -> None:
        assert self.kick.stop(10)
        with self.app.app_context():
            self.db.session.remove()
            self.db.engine.dispose()


MakeShop = Callable[..., Shop]


def make_celery(broker_url: str = "memory://", task_cls: Any = None, **config: Any) -> Celery:
    """Return a Celery of its own, with a queue of its own."""
    celery = Celery("shop", task_cls=task_cls, set_as_current=False)
    celery.config_from_object({"broker_url": broker_url, "task_default_queue": secrets.token_hex(8), **config})
    return celery


@pytest.fixture
def make_shop(tmp_path: Path) -> Iterator[MakeShop]:
    """Return a function that makes shops, on SQLite files of their own."""
    made: list[Shop] = []

    def make(celery: Celery | None = None, **config: Any) -> Shop:
        uri = f"sqlite:///{tmp_path / f'shop-{len(made)}.db'}"
        made.append(Shop(uri, celery if celery is not None else make_celery(), **config))
        return made[-1]

    yield make
    for shop in made:
        shop.close()


@pytest.fixture
def shop(make_shop: MakeShop) -> Shop:
    """A shop with the usual Celery."""
    return make_shop()


@contextmanager
def publishing(hook: Callable[..., None]) -> Iterator[None]:
    """Call ``hook`` in the thread that publishes, before each of our messages leaves it."""
    signals.before_task_publish.connect(hook, sender=TASK)
    try:
        yield
    finally:
        signals.before_task_publish.disconnect(hook, sender=TASK)


def counter(counts: list[float]) -> Callable[..., None]:
    """Return a hook that notes when it was called."""

    def note(**_: Any) -> None:
        counts.append(time.monotonic())

    return note


class ContextTask(Task):  # type: ignore[misc]  # Celery has no annotations
    """A task as Flask's documentation makes it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self.flask_app.app_context():
            return self.run(*args, **kwargs)


# Messages.


def test_a_commit_tells_the_broker(shop: Shop) -> None:
    """A commit that queued a mail publishes a message, and sends nothing itself."""
    shop.sign_up()

    messages = wait_until(shop.messages, "a message")

    assert {message.headers["task"] for message in messages} == {TASK}
    assert shop.transport.letters == []


def test_a_message_carries_nothing(shop: Shop) -> None:
    """A message names the task and nothing else: no address, no link, no row, and no result is kept."""
    shop.sign_up()

    message = wait_until(shop.messages, "a message")[0]

    args, kwargs, _ = message.payload
    assert (args, kwargs) == ([], {})
    assert message.headers["ignore_result"] is True
    assert EMAIL not in f"{message.headers} {message.properties} {message.body}"


def test_a_message_does_not_expire(shop: Shop) -> None:
    """The message of a commit waits for a worker as long as it takes."""
    shop.sign_up()

    assert wait_until(shop.messages, "a message")[0].headers["expires"] is None


def test_commits_share_messages(shop: Shop) -> None:
    """Many commits while a message is on its way cause no more than two further messages."""
    begun, go, counts = threading.Event(), threading.Event(), []

    def hold(**_: Any) -> None:
        counts.append(1)
        begun.set()
        go.wait(10)

    with publishing(hold):
        shop.kick()
        assert begun.wait(10)
        for _ in range(100):
            shop.kick()
        go.set()
        assert shop.kick.stop(10)

    assert 1 <= len(counts) <= 3


def test_nobody_waits_for_the_broker(shop: Shop) -> None:
    """Sign-ups are answered while the first of their messages has not left the process."""
    begun, go, was_answered = threading.Event(), threading.Event(), []

    def hold(**_: Any) -> None:
        begun.set()
        was_answered.append(go.wait(10))

    with publishing(hold):
        shop.sign_up()
        assert begun.wait(10)
        shop.sign_up("bob@example.com")
        go.set()
        assert shop.kick.stop(10)

    assert was_answered
    assert all(was_answered)


def test_between_commits_nothing_is_published(shop: Shop) -> None:
    """A process publishes when it begins to serve and for its commits, and is silent otherwise."""
    counts: list[float] = []
    with publishing(counter(counts)):
        shop.sign_up()
        wait_until(lambda: counts, "a message")
        time.sleep(0.5)
        count = len(counts)
        # The shortest pause of a thread that looks for mails is a second.
        time.sleep(1.5)

    assert len(counts) == count
    assert shop.kick._poll >= 24 * 60 * 60


def test_a_broker_that_is_down(make_shop: MakeShop, caplog: pytest.LogCaptureFixture) -> None:
    """Without its broker a sign-up is answered as ever; the log says so, once per message, and keeps the password."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        nobody = f"redis://shop:{SECRET}@127.0.0.1:{listener.getsockname()[1]}/0"
    shop = make_shop(make_celery(nobody))

    with caplog.at_level(logging.DEBUG):
        shop.sign_up()
        found = wait_until(lambda: _warnings(caplog), "a warning")

    assert found[0].getMessage() == "event=mail_kick_failed reason=ConnectionError"
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "address",
    [
        f"amqp://shop:{SECRET}@127.0.0.1:1//",
        f"redis://shop:{SECRET}@127.0.0.1:1/no-number",
        f"redis://shop:{SECRET}@127.0.0.1:{SECRET}/0",
        f"carrier-pigeon://shop:{SECRET}@127.0.0.1//",
    ],
)
def test_whatever_is_wrong_with_a_broker(make_shop: MakeShop, caplog: pytest.LogCaptureFixture, address: str) -> None:
    """No fault of a broker or of its address reaches a request, or takes the password into the log."""
    shop = make_shop(make_celery(address))

    with caplog.at_level(logging.DEBUG):
        shop.sign_up()
        wait_until(lambda: _warnings(caplog), "a warning")

    assert SECRET not in caplog.text


def _warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [one for one in caplog.records if "mail_kick_failed" in one.getMessage()]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_never_answers(make_shop: MakeShop, caplog: pytest.LogCaptureFixture, scheme: str) -> None:
    """A broker that takes connections and never answers holds the thread that publishes for seconds, not for ever."""
    with socket.create_server(("127.0.0.1", 0)) as hole:
        shop = make_shop(make_celery(f"{scheme}://127.0.0.1:{hole.getsockname()[1]}//"))
        with caplog.at_level(logging.WARNING):
            shop.sign_up()
            connection, _ = hole.accept()
            with connection:
                assert _warnings(caplog) == []
                # Two tries, each of which may take twice the time-out: for connecting, and for the first answer.
                wait_until(lambda: _warnings(caplog), "a warning", patience=20)


def test_eager_tasks(make_shop: MakeShop) -> None:
    """With ``task_always_eager`` the mail goes out without any worker."""
    shop = make_shop(make_celery(task_always_eager=True))

    shop.sign_up()

    wait_until(lambda: shop.transport.letters, "a mail")
    assert shop.messages() == []


# The task.


@pytest.mark.parametrize("task_cls", [Task, ContextTask])
def test_the_task_delivers(make_shop: MakeShop, task_cls: type[Any]) -> None:
    """The task delivers what is due, in an app context and without one."""
    celery = make_celery(task_cls=task_cls)
    shop = make_shop(celery)
    celery.Task.flask_app = shop.app
    shop.sign_up()

    shop.deliver()

    assert [letter.to for letter in shop.transport.letters] == [EMAIL]


def test_a_fault_of_the_database_is_a_failed_task(shop: Shop) -> None:
    """A task that cannot reach the database fails, so that Celery's log and its monitors show it."""
    with shop.app.app_context():
        shop.db.drop_all()

    with pytest.raises(sa.exc.OperationalError):
        shop.deliver()


def test_a_worker_that_ends_begins_no_mail(make_shop: MakeShop) -> None:
    """Once its worker is told to end, a task sends no further mail, of whichever app, and leaves it to others."""
    _, shop = make_shop(), make_shop()
    shop.sign_up()
    signals.worker_shutting_down.send(sender="worker", sig="SIGTERM", how="Warm", exitcode=0)

    shop.deliver()

    with shop.app.app_context():
        row = shop.db.session.execute(sa.text("SELECT state, lease_id FROM accountflow_mail")).one()
    assert tuple(row) == ("pending", None)
    assert shop.transport.letters == []


def test_a_process_that_is_no_fork_uses_its_database_on(shop: Shop) -> None:
    """A pool without forks begins in a process that has used its database, and goes on using it."""
    shop.sign_up()
    signals.worker_process_init.send(sender="worker")

    shop.deliver()

    assert len(shop.transport.letters) == 1


def test_a_connection_in_the_place_of_the_engine_is_kept(shop: Shop) -> None:
    """Where a test has put a connection in place of the engine, a pool that begins leaves it open."""
    with shop.app.app_context():
        engine = shop.db.engine
        with engine.connect() as connection:
            shop.db.engines[None] = connection
            failures = signals.worker_process_init.send(sender="worker")
            shop.db.engines[None] = engine

            assert connection.execute(sa.text("SELECT 1")).scalar() == 1
    assert [result for _, result in failures if isinstance(result, Exception)] == []


# The sweep.


def test_beat_sweeps(shop: Shop) -> None:
    """Beat asks every five seconds; what no worker takes within a minute does not pile up."""
    shop.celery.finalize()

    entry = shop.celery.conf.beat_schedule["accountflow-sweep"]

    assert (entry["task"], entry["args"], entry["schedule"]) == (TASK, (), SWEEP)
    assert SWEEP == 5
    assert entry["options"]["expires"] == 60


def test_a_schedule_of_the_app_keeps_the_sweep(shop: Shop) -> None:
    """A schedule that the app sets after us has its own entries and ours."""
    shop.celery.conf.beat_schedule = {"theirs": {"task": "theirs", "schedule": 60}}

    shop.celery.finalize()

    assert set(shop.celery.conf.beat_schedule) == {"theirs", "accountflow-sweep"}


def test_a_celery_that_is_finalized_early(make_shop: MakeShop) -> None:
    """A Celery that is finalized before us delivers and sweeps as any other."""
    celery = make_celery()
    celery.finalize()
    shop = make_shop(celery)
    shop.sign_up()

    shop.deliver()

    assert "accountflow-sweep" in celery.conf.beat_schedule
    assert len(shop.transport.letters) == 1


# Apps.


def test_two_apps_have_two_tasks(make_shop: MakeShop) -> None:
    """Of two apps in a process, each one's Celery delivers its own mails."""
    one, other = make_shop(), make_shop()
    one.sign_up("one@example.com")
    other.sign_up("other@example.com")

    one.deliver()

    assert [letter.to for letter in one.transport.letters] == ["one@example.com"]
    assert other.transport.letters == []


def test_a_celery_of_two_apps_is_refused(make_shop: MakeShop, tmp_path: Path) -> None:
    """Two apps cannot share a Celery, whose task would deliver for one of them only."""
    celery = make_celery()
    make_shop(celery)

    with pytest.raises(ConfigError) as caught:
        Shop(f"sqlite:///{tmp_path / 'second.db'}", celery)

    [problem] = caught.value.problems
    assert "delivers the mails of another Flask app already" in problem


def test_without_celery_on_the_app(tmp_path: Path) -> None:
    """An app that has no Celery by then does not start, and the error says what to do."""
    with pytest.raises(ConfigError) as caught:
        Shop(f"sqlite:///{tmp_path / 'shop.db'}", None)

    [problem] = caught.value.problems
    assert CELERY_FIRST in problem


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where Celery is missing the app does not start, and the error says how to get it, beside every other fault."""
    monkeypatch.setitem(sys.modules, "celery", None)

    with pytest.raises(ConfigError) as caught:
        Shop(f"sqlite:///{tmp_path / 'shop.db'}", None, ACCOUNTFLOW_URL_PREFIX="auth")

    assert caught.value.problems[-1] == (
        "ACCOUNTFLOW_MAIL_KICK is 'celery', but Celery is not installed. Install flask-accountflow[celery]."
    )
    assert len(caught.value.problems) == 2
