"""The app whose processes are killed: a small host with real mail, and points at which a process of it ends.

The points hang on what any host may use: the extension's kick, the signals, the events of SQLAlchemy, and the
mail server (see ``sink.py``). Only for claims there is nothing of that kind, and a method of the queue is wrapped.
"""

from __future__ import annotations

import mmap
import os
import re
import signal
import struct
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import flask_mail
import sqlalchemy as sa
from flask import has_request_context
from sqlalchemy import event
from support import START, Program, Site, services

from flask_accountflow import events
from flask_accountflow.mail.kicks import ThreadKick

AFTER_WRITE = "after_write"
BEFORE_COMMIT = "before_commit"
AFTER_COMMIT = "after_commit_before_answer"
AFTER_CLAIM = "after_claim"
AFTER_250 = "after_250_before_mark"
AFTER_MARK = "after_mark"

_CONFIG = {
    "TESTING": False,
    "MAIL_SERVER": "127.0.0.1",
    "ACCOUNTFLOW_ALLOW_INSECURE": True,  # four rounds of bcrypt, and a mail server without TLS
}
# Seconds. A mail is handed over in a few hundredths of one.
_PATIENCE = 15

# A sign-up inserts an account, a reset changes one, and the other requests insert a mail.
_WRITES = re.compile("(INSERT INTO|UPDATE) (users|accountflow_mail) ")

Tell = Callable[[dict[str, Any]], None]


class WallClock:
    """A clock that all processes see, and that goes when one of them sets it. A process may read it wrongly."""

    def __init__(self) -> None:
        #: By how many seconds this process is ahead of the others.
        self.ahead = 0.0
        self._seconds = mmap.mmap(-1, 8)  # anonymous memory that forked processes share

    def set(self, seconds: float) -> None:
        """Set the time, in seconds after the start."""
        self._seconds[:] = struct.pack("d", seconds)

    def __call__(self) -> datetime:
        return START + timedelta(seconds=struct.unpack("d", self._seconds[:])[0] + self.ahead)


class Fuse:
    """Sends this process a signal when it reaches the point that was chosen."""

    def __init__(self) -> None:
        self._point: str | None = None
        self._number = signal.SIGKILL
        self._tell: Tell = lambda message: None

    def set(self, point: str | None, number: int, tell: Tell) -> None:
        """Choose a point."""
        self._point, self._number, self._tell = point, signal.Signals(number), tell

    def reach(self, point: str) -> None:
        """Say that this point is reached."""
        if point == self._point:
            self._point = None
            self._tell({"reached": point})
            os.kill(os.getpid(), self._number)


class MortalApp:
    """The app, made once; the processes that are forked from it may be killed at a point."""

    def __init__(self, uri: str, mail_port: int) -> None:
        self.clock = WallClock()
        self.fuse = Fuse()
        self._sent = threading.Event()
        config = {**_CONFIG, "MAIL_PORT": mail_port}
        # It delivers nothing: a client has its answer before its mail is sent, so that each point has one outcome.
        kick = partial(self.fuse.reach, AFTER_COMMIT)
        self._site = Site(uri, config, transport=None, kick=kick, clock=self.clock)
        app = self._site.app
        with app.app_context():
            engine = self._site.db.engine
        event.listen(engine, "after_cursor_execute", self._after_statement)
        event.listen(engine, "commit", self._before_commit)
        flask_mail.email_dispatched.connect(self._after_answer_of_mail_server, app)
        events.mail_sent.connect(self._after_mark, app)
        self._watch_claims()

    def _after_statement(self, connection: sa.Connection, cursor: Any, statement: str, *rest: Any) -> None:
        if has_request_context() and statement.startswith(("INSERT", "UPDATE")):
            connection.info["wrote"] = True
            if _WRITES.match(statement):
                self.fuse.reach(AFTER_WRITE)

    def _before_commit(self, connection: sa.Connection) -> None:
        if has_request_context() and connection.info.pop("wrote", False):
            self.fuse.reach(BEFORE_COMMIT)

    def _after_answer_of_mail_server(self, app: Any, message: Any) -> None:
        self.fuse.reach(AFTER_250)

    def _after_mark(self, app: Any, **payload: Any) -> None:
        self.fuse.reach(AFTER_MARK)
        self._sent.set()

    def _watch_claims(self) -> None:
        queue = services(self._site).store.queue
        claim = queue.claim

        def watched(now: datetime, *rest: Any) -> Any:
            claimed = claim(now, *rest)
            if claimed:
                self.fuse.reach(AFTER_CLAIM)
            return claimed

        queue.claim = watched

    def plant(self, bug: str) -> None:
        """Break delivery, so that a test can show that it would notice."""
        queue = services(self._site).store.queue
        claim, sent = queue.claim, queue.sent

        def claim_and_mark(now: datetime, *rest: Any) -> Any:
            return [mail for mail in claim(now, *rest) if sent(mail, now)]

        if bug == "mark_then_send":
            queue.claim = claim_and_mark
        elif bug == "never_mark":
            queue.sent = lambda waiting, now: True
        else:
            raise ValueError(bug)

    def warm_up(self) -> None:
        """Compile templates and statements once, for all forked processes, and keep no connection."""
        self.clock.set(-3600)
        for step in ("member", "request_reset", "signup", "deliver"):
            self.perform(step, {} if step == "deliver" else {"email": f"warm-{step}@example.com"})
        self._site.close()
        self._sent.clear()

    def perform(self, step: str, values: dict[str, Any]) -> dict[str, Any]:
        """Do one step and return what came of it: a request, or something that the app does by itself."""
        if step == "member":
            self._site.member(**values)
            return {}
        if step == "deliver":
            done = self._site.app.test_cli_runner().invoke(args=["accountflow", "deliver", "--once"])
            assert done.exit_code == 0, done.output
            return {"output": done.output}
        if step == "deliver_in_threads":
            return self._deliver_in_threads()
        answer = getattr(Program(self._site), step)(**values)
        return {"status": answer.status_code, "json": answer.json}

    def _deliver_in_threads(self) -> dict[str, Any]:
        """Deliver as a web process does after an answer, and wait for the mail."""
        ThreadKick(self._site.app.extensions["accountflow_delivery"])()
        return {"sent": self._sent.wait(_PATIENCE)}
