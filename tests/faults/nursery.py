"""A process that has the example app ready, and forks a worker for each line that it is sent.

A worker is ``flask accountflow deliver --forever`` without the second that Python needs to import everything.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from flask import Flask
from flask.cli import ScriptInfo
from live_server import ROOT, AppServer

from example_app import create_app
from flask_accountflow import events


class Nursery:
    """That process, seen from the one that asks. It has one worker at a time."""

    def __init__(self, server: AppServer, log: Path) -> None:
        self._log = log
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "faults.nursery"],
                cwd=ROOT,
                env={**server.environment, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                bufsize=1,
                start_new_session=True,  # so that it can be ended together with its worker
            )
        self._pid = 0

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def start(self, sign: str) -> None:
        """Start a worker, and return when it is ``born``, or ``at work``: it has sent a mail."""
        assert self._process.stdin is not None
        self._process.stdin.write("another\n")
        while (found := re.search(rf"{sign} (\d+)$", self._read())) is None:
            continue
        self._pid = int(found[1])

    def kill(self) -> None:
        """Kill the worker."""
        os.kill(self._pid, signal.SIGKILL)
        while (found := re.search(r"exit (-?\d+)$", self._read())) is None:
            continue
        assert int(found[1]) == -signal.SIGKILL

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._log.read_text()[-4000:]
        return line.rstrip("\n")  # it may begin with what a worker was just printing when it was killed


def main() -> None:
    """Make the app, and workers of it."""
    app = create_app()
    events.mail_sent.connect(_tell_once, app)
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                _tell(f"born {os.getpid()}")
                app.cli.main(["accountflow", "deliver", "--forever"], obj=ScriptInfo(create_app=lambda: app))
            finally:
                os._exit(1)
        _tell(f"exit {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}")


def _tell_once(app: Flask, **payload: Any) -> None:
    events.mail_sent.disconnect(_tell_once, app)
    _tell(f"at work {os.getpid()}")


def _tell(line: str) -> None:
    # At once: print() writes the line and its end apart where nothing is buffered, and a worker writes here, too.
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


if __name__ == "__main__":
    main()
