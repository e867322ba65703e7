"""Real brokers, and the processes of Celery that deliver the example app's mails."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import kombu
import pytest
from live_server import PATIENCE, ROOT, wait_until
from process_group import ProcessGroup

_URLS = {
    "redis": "redis://127.0.0.1:6379/0",
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672//",
}

#: Warnings are errors in these processes, too, but for two: tests in a container run as root, and the file that
#: Flask-Migrate has written asks Flask-SQLAlchemy in its old way first.
_WARNINGS = "error,ignore:You're running the worker with superuser privileges,ignore:'get_engine' is deprecated"


def broker_url(name: str) -> str:
    """Return the address of Redis or RabbitMQ; skip the test where it does not answer."""
    url = os.environ.get(f"ACCOUNTFLOW_TEST_{name.upper()}_URL", _URLS[name])
    try:
        with kombu.Connection(url, connect_timeout=2, transport_options={"max_retries": 0}) as connection:
            connection.default_channel.close()
    except Exception as error:  # each library has its own
        if name in os.environ.get("ACCOUNTFLOW_TEST_REQUIRE", ""):
            pytest.fail(f"{name} is required and does not answer: {error}")
        pytest.skip(f"{name} does not answer: {error}")
    return url


@contextmanager
def celery_config(name: str) -> Iterator[dict[str, Any]]:
    """Yield a configuration with keys or queues of its own in that broker, which are removed afterwards."""
    url, own_name = broker_url(name), f"accountflow-test-{secrets.token_hex(6)}"
    config = {
        "broker_url": url,
        "task_default_queue": own_name,
        "broker_connection_retry_on_startup": True,
        "worker_enable_remote_control": False,
    }
    if name == "redis":
        config["broker_transport_options"] = {"global_keyprefix": f"{own_name}:"}
    try:
        yield config
    finally:
        forget_messages(config)


def forget_messages(config: Mapping[str, Any]) -> None:
    """Lose everything that waits in the broker, as one does that keeps nothing over a restart."""
    options = config.get("broker_transport_options", {})
    with kombu.Connection(config["broker_url"], transport_options=options) as connection:
        channel: Any = connection.default_channel
        if options:
            keys = channel.client.keys("*")  # those with our prefix, which the answer begins with
            for key in keys:
                channel.client.delete(key.decode().removeprefix(options["global_keyprefix"]))
        else:
            channel.queue_delete(config["task_default_queue"])
            channel.exchange_delete(config["task_default_queue"])


def messages(config: Mapping[str, Any]) -> int:
    """Return how many messages wait in Redis."""
    options = config["broker_transport_options"]
    with kombu.Connection(config["broker_url"], transport_options=options) as connection:
        channel: Any = connection.default_channel
        return int(channel.client.llen(config["task_default_queue"]))


class Running:
    """A process in a group of its own, and its log. What it warns of is an error."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}-{secrets.token_hex(4)}.log"
        with self.log.open("wb") as log:
            self._process = ProcessGroup(
                command,
                cwd=ROOT,
                env={**environment, "PYTHONWARNINGS": _WARNINGS},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def check(self) -> None:
        """Fail when the process has ended."""
        if self._process.poll() is not None:
            pytest.fail(f"The {self.name} has ended:\n{self.log.read_text()[-4000:]}")

    def said(self, words: str) -> bool:
        """Tell whether the log has these words."""
        return words in self.log.read_text()

    def wait_for(self, words: str) -> None:
        """Wait until the log has these words; fail when the process ends without them."""

        def has_said() -> bool:
            if self.said(words):
                return True
            self.check()
            return False

        wait_until(has_said, f"the {self.name} says {words!r}; its log is {self.log}")

    def end(self) -> float:
        """End by SIGTERM, as a deployment does, and return how many seconds that took."""
        started = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(PATIENCE)
        finally:
            self.kill()
        assert code in {0, -signal.SIGTERM}, self.log.read_text()[-4000:]
        return time.monotonic() - started

    def kill(self) -> None:
        """End it and its children at once, as a power cut would."""
        self._process.kill_all()


def celery_process(
    kind: str, environment: Mapping[str, str], folder: Path, *options: str, module: str = "example_app.worker"
) -> Running:
    """Start a ``worker`` or ``beat`` of the app in ``module``, which may be one of the tests' own."""
    environment = {**environment, "PYTHONPATH": str(ROOT / "tests")}
    line = [sys.executable, "-m", "celery", "--app", module, kind, "--loglevel", "INFO", *options]
    if kind == "worker":
        # Names that nobody else has; and nothing that workers tell each other, which takes a second at the start.
        line += ["--hostname", f"{secrets.token_hex(4)}@%h"]
        line += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    else:
        line += ["--schedule", str(folder / f"beat-{secrets.token_hex(4)}")]
    return Running(kind, line, environment, folder)


class Proxy:
    """A port before a broker. While it is ``stuck`` it takes connections and answers nothing."""

    def __init__(self, host: str, port: int) -> None:
        self.is_stuck = False
        #: The connections that it took while it was stuck.
        self.stuck: list[socket.socket] = []
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A thread in accept() does not notice that its socket is closed; shutting it down wakes it.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        for one in [self._listener, *self._open]:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def keeps_waiting(self) -> bool:
        """Tell whether it has taken connections, and somebody waits for an answer on the last one."""
        return bool(self.stuck) and not _is_over(self.stuck[-1])

    def _serve(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(here)
            if self.is_stuck:
                self.stuck.append(here)
                continue
            there = socket.create_connection(self._target)
            self._open.append(there)
            for source, target in ((here, there), (there, here)):
                threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _is_over(connection: socket.socket) -> bool:
    """Tell whether the other side has closed a connection."""
    try:
        while connection.recv(65536, socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
