"""A process that has the app ready and forks a child for each job, which may be killed while it does it.

It is asked over a loopback socket: one job for each connection, one JSON object for each line.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from faults.mortal_app import MortalApp

_TESTS = Path(__file__).resolve().parents[1]
# Seconds. A job takes tenths of one.
_PATIENCE = 40


class _Server(socketserver.ForkingTCPServer):
    """Forks once for each connection; that process forks again, waits for its child, and tells how it ended."""

    allow_reuse_address = True

    def __init__(self, app: MortalApp) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.app = app
        self._parent = os.getppid()

    def service_actions(self) -> None:
        super().service_actions()
        if os.getppid() != self._parent:  # whoever asked is gone
            os._exit(1)


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        job = json.loads(self.rfile.readline())
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                self._work(job)
                code = 0
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(code)
        while os.WIFSTOPPED(status := os.waitpid(pid, os.WUNTRACED)[1]):
            self._tell({"stopped": True})
        self._tell({"exit": os.waitstatus_to_exitcode(status)})

    def _work(self, job: dict[str, Any]) -> None:
        self._tell({"pid": os.getpid()})
        self.rfile.readline()
        app = self.server.app
        app.clock.set(job["at"])
        app.clock.ahead = job["ahead"]
        app.fuse.set(job["point"], job["signal"], self._tell)
        if job["bug"] is not None:
            app.plant(job["bug"])
        for step, values in job["steps"]:
            self._tell(app.perform(step, values))

    def _tell(self, message: dict[str, Any]) -> None:
        self.wfile.write(json.dumps(message).encode() + b"\n")


class Child:
    """A forked process. It does nothing before its first message is asked for."""

    def __init__(self, port: int, job: dict[str, Any]) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        self._lines = self._socket.makefile("r")
        self._say(json.dumps(job))
        self.pid = int(json.loads(self._lines.readline())["pid"])

    def _say(self, line: str) -> None:
        self._socket.sendall(f"{line}\n".encode())

    def messages(self) -> Iterator[dict[str, Any]]:
        """Let it go, and yield what it tells: each step's outcome, ``reached``, ``stopped``, and at last ``exit``."""
        self._say("go")
        with self._socket, self._lines:
            for line in self._lines:
                yield json.loads(line)


class Zygote:
    """The process that forks, seen from the one that asks."""

    def __init__(self, uri: str, mail_port: int, log: Path) -> None:
        self.log = log
        path = os.pathsep.join([str(_TESTS.parent), str(_TESTS)])
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "faults.zygote", uri, str(mail_port)],
                cwd=_TESTS,
                env={**os.environ, "PYTHONPATH": path},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # so that everything that was forked can be ended together
            )

    def __enter__(self) -> Zygote:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"The app has not started:\n{self.log.read_text()[-4000:]}"
        self._port = int(line)
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def fork(
        self,
        *steps: tuple[str, dict[str, Any]],
        at: float,
        point: str | None = None,
        number: int = signal.SIGKILL,
        bug: str | None = None,
        ahead: float = 0,
    ) -> Child:
        """Return a child that will do these steps at a time, and be sent a signal at a point.

        Its own clock is ``ahead`` by so many seconds.
        """
        job = {"steps": steps, "at": at, "point": point, "signal": int(number), "bug": bug, "ahead": ahead}
        return Child(self._port, job)

    def do(self, *steps: tuple[str, dict[str, Any]], at: float, ahead: float = 0) -> list[dict[str, Any]]:
        """Let a child do these steps, which must end well, and return the outcome of each."""
        *outcomes, last = self.fork(*steps, at=at, ahead=ahead).messages()
        assert last == {"exit": 0}, f"{[*outcomes, last]}\n{self.log.read_text()[-4000:]}"
        return outcomes


def main() -> None:
    """Make the app, say at which port it waits for jobs, and wait for them."""
    uri, mail_port = sys.argv[1:]
    app = MortalApp(uri, int(mail_port))
    app.warm_up()
    with _Server(app) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
