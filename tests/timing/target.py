"""What is timed: the example app under gunicorn, and the accounts in its database."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from example_app import create_app
from example_app.models import db
from flask_accountflow.flow import Services
from flask_accountflow.flows.verify import queue
from flask_accountflow.identity import canonical
from flask_accountflow.passwords import BcryptHasher

ROOT = Path(__file__).resolve().parents[2]

PASSWORD = "correct horse battery staple"

# Seconds. A start takes two where nothing else runs.
_PATIENCE = 60

#: The first line keeps gunicorn 25 and later from making a socket in the home directory. Then the server keeps to one
#: processor, and the client to another, where there are two. It ends with whoever has started it, however that ends.
_GUNICORN = """
control_socket_disable = True
import os, signal, threading
if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

def post_worker_init(worker):
    def watch():
        os.read(0, 1)
        os.kill(worker.ppid, signal.SIGTERM)
    threading.Thread(target=watch, daemon=True).start()
"""


@dataclass(frozen=True)
class Conditions:
    """How the app is set up. ``rounds`` is the cost of bcrypt, and ``older`` that of older hashes, if there are any."""

    rounds: int
    leak: str
    older: int | None = None
    #: Whether mails are sent meanwhile, by threads of the same process.
    mails: bool = False
    #: Whether logins are limited: the second failure of an address is one too many.
    limited: bool = False


class Target:
    """The app, with one process of two threads, on a SQLite file; a context manager.

    Raises :exc:`TimeoutError` on a machine that is too slow to start it.
    """

    def __init__(self, conditions: Conditions) -> None:
        memory = Path("/dev/shm")  # disks make noise
        self._folder = tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)
        self._conditions = conditions
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        #: The same app in this process, which sends nothing.
        self.app = create_app({**self._settings(), "ACCOUNTFLOW_MAIL_KICK": "worker"})
        with self.app.app_context():
            db.create_all()
        self._hashes = {
            cost: BcryptHasher(cost).hash(PASSWORD) for cost in {conditions.rounds, conditions.older} if cost
        }

    def _settings(self) -> dict[str, Any]:
        conditions, folder = self._conditions, Path(self._folder.name)
        return {
            "SECRET_KEY": "0123456789abcdef0123456789abcdef",
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder / 'app.db'}",
            "MAIL_DEFAULT_SENDER": "accounts@example.com",
            "SESSION_COOKIE_SECURE": False,
            "ACCOUNTFLOW_BASE_URL": f"http://127.0.0.1:{self.port}",
            "ACCOUNTFLOW_ALLOW_INSECURE": True,
            "ACCOUNTFLOW_BCRYPT_ROUNDS": conditions.rounds,
            "ACCOUNTFLOW_MAIL_KICK": "thread" if conditions.mails else "worker",
            "ACCOUNTFLOW_MAIL_TRANSPORT": "file",
            "ACCOUNTFLOW_MAIL_FILE": str(folder / "mails"),
            "ACCOUNTFLOW_RATELIMIT_ENABLED": conditions.limited,
            "ACCOUNTFLOW_RATELIMIT_LOGIN": "1/30 day",
            "ACCOUNTFLOW_RATELIMIT_LOGIN_IP": "1000000/day",
            "TIMING_LEAK": conditions.leak,
        }

    def __enter__(self) -> Target:
        folder = Path(self._folder.name)
        (folder / "gunicorn.conf.py").write_text(_GUNICORN)
        given = {key: one if isinstance(one, str) else json.dumps(one) for key, one in self._settings().items()}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FLASK_", "COV"))}
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        line = ["--config", str(folder / "gunicorn.conf.py"), "--bind", f"127.0.0.1:{self.port}"]
        # Longer than any pause between two requests of one connection.
        line += ["--workers", "1", "--threads", "2", "--keep-alive", "600"]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", *line, "timing.leaky_app:create_app()"],
                cwd=ROOT,
                env={**inherited, "PYTHONPATH": path, **{f"FLASK_{key}": value for key, value in given.items()}},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait(folder / "log")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait(self, log: Path) -> None:
        end = time.monotonic() + _PATIENCE
        while self._process is not None and self._process.poll() is None:
            if time.monotonic() > end:
                raise TimeoutError(f"the server has not started within {_PATIENCE} s")
            connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                connection.request("GET", "/healthz")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                time.sleep(0.1)
            finally:
                connection.close()
        raise RuntimeError(f"The server has ended. Its log ends with\n{log.read_text()[-2000:]}")

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            process.stdin.close()
        with self.app.app_context():
            db.engine.dispose()
        self._folder.cleanup()

    def add(self, emails: Mapping[str, Iterable[str]]) -> None:
        """Make accounts, by kind, as they would be after two hours."""
        with self.app.app_context():
            services: Services = replace(self.app.extensions["accountflow"], own=True)
            now = services.clock() - timedelta(hours=2)
            services = replace(services, clock=lambda: now)
            services.unit(lambda: self._add_all(services, emails))

    def _add_all(self, services: Services, emails: Mapping[str, Iterable[str]]) -> None:
        for kind, some in emails.items():
            for email in some:
                self._add(services, kind, email)

    def _add(self, services: Services, kind: str, email: str) -> None:
        address, now, present = canonical(email), services.clock(), self._hashes[self._conditions.rounds]
        proved: Mapping[str, Any] = {"email_verified_at": now, "password_hash": present}
        values: Mapping[str, Any] = {
            "verified": proved,
            "unverified": {},
            "without a password": {"email_verified_at": now},
            "disabled": {**proved, "is_active": False},
            "older hash": {**proved, "password_hash": self._hashes.get(self._conditions.older or 0)},
        }[kind]
        account = services.store.accounts.create(address, now, values=values)
        if kind == "unverified":
            payload = {"password_hash": present, "fields": {"name": ""}, "next": None, "nonce": "0" * 32}
            queue(services, address, account, payload, holds_link=False, verified_template="already_registered")
