"""A system under the server that people run it by, and what its processes take. Linux only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from .adapters.base import Conditions, System

ROOT = Path(__file__).resolve().parents[1]

# Seconds. A start takes two where nothing else runs.
_PATIENCE = 60

# Longer than any pause between two requests of one connection.
_KEEP_ALIVE = "600"

#: gunicorn 25 and later would make a socket in the home directory.
_GUNICORN = "control_socket_disable = True\n"

#: For ``sh -c``: the shell becomes the server. What it leaves beside it ends the server when the standard input of the
#: shell does, which is when the harness ends, however that ends.
GUARD = 'exec 3<&0; (read -r _ <&3; kill -TERM $$) & exec "$@" </dev/null 3<&-'


class Server:
    """A running system; a context manager. It listens where ``conditions.base_url`` says.

    ``python`` is the interpreter of the system's environment, and ``folder`` an empty one for its files. ``paths`` are
    further folders that it finds modules in, ``environment`` further variables that it gets, and ``tables`` whether
    those are made first. Raises :exc:`RuntimeError` when the server does not start, with the end of its log.
    """

    def __init__(
        self,
        system: System,
        conditions: Conditions,
        python: str | Path,
        folder: Path,
        workers: int = 2,
        threads: int = 8,
        *,
        paths: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
        tables: bool = True,
    ) -> None:
        self._system, self._python, self._folder = system, str(python), folder
        self._workers, self._threads, self._tables = workers, threads, tables
        self.port = int(urlsplit(conditions.base_url).port or 80)
        self._log = folder / f"server-{self.port}.log"
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("FLASK_", "COV", "PYTHON"))
        }
        path = os.pathsep.join(map(str, [ROOT, *paths]))
        self._environment = {**inherited, **conditions.environment(), "PYTHONPATH": path, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        if sys.platform != "linux":
            raise RuntimeError("Other processes are watched by what only Linux has.")
        with self._log.open("ab") as log:
            if self._tables:
                self._make_tables()
            self._process = subprocess.Popen(
                ["sh", "-c", GUARD, "sh", *self._command()],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        # Whoever has not ended by now, and what watches over the server.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdin.close()

    def _make_tables(self) -> None:
        module = self._system.application.partition(":")[0]
        made = subprocess.run(
            [self._python, "-m", module],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if made.returncode:
            raise RuntimeError(f"{self._system.name} made no tables:\n{made.stdout[-2000:]}")

    def _command(self) -> list[str]:
        application = self._system.application
        if self._system.kind == "asgi":
            factory = ["--factory"] if application.endswith("()") else []
            line = ["uvicorn", "--host", "127.0.0.1", "--port", str(self.port), "--workers", str(self._workers)]
            line += ["--timeout-keep-alive", _KEEP_ALIVE, "--no-access-log", *factory, application.removesuffix("()")]
        else:
            config = self._folder / "gunicorn.conf.py"
            config.write_text(_GUNICORN)
            line = ["gunicorn", "--config", str(config), "--bind", f"127.0.0.1:{self.port}"]
            line += ["--workers", str(self._workers), "--threads", str(self._threads), "--keep-alive", _KEEP_ALIVE]
            line += [application]
        return [self._python, "-m", *line]

    def _wait(self) -> None:
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and self._process is not None and self._process.poll() is None:
            if _answers(self.port):
                self.settle()
                return
            time.sleep(0.1)
        raise RuntimeError(f"{self._system.name} has not started. Its log ends with\n{self.log()[-8000:]}")

    def log(self) -> str:
        """Return what the server has written."""
        return self._log.read_text(errors="replace")

    def processes(self) -> list[int]:
        """Return the ids of the processes of the server that live now."""
        return [self._process.pid, *descendants(self._process.pid)] if self._process is not None else []

    def cpu_seconds(self) -> float:
        """Return how much processor time they have taken, together and since their start."""
        return sum(map(cpu_seconds, self.processes()))

    def memory(self) -> list[int]:
        """Return the proportional set size of each worker, in bytes: pages that are shared count in part."""
        # The other processes only watch over the workers, and are smaller.
        return sorted(map(memory, self.processes()), reverse=True)[: self._workers]

    def settle(self, quiet: float = 0.2, timeout: float = 30.0) -> None:
        """Wait until the server has had nothing to do for ``quiet`` seconds.

        Raises :exc:`TimeoutError` when that does not happen.
        """
        end, before = time.monotonic() + timeout, self.cpu_seconds()
        while time.monotonic() < end:
            time.sleep(quiet)
            now = self.cpu_seconds()
            # What looks around from time to time takes less than a fiftieth.
            if now - before < quiet / 50:
                return
            before = now
        raise TimeoutError(f"{self._system.name} is still busy after {timeout:g} s")


def free_port() -> int:
    """Return a port of the loopback that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(process: int) -> float:
    """Return how much processor time a process has taken, with its threads of the past; 0 when there is none."""
    try:
        # The clock of another process, as Linux numbers them: clock_getcpuclockid(3).
        return time.clock_gettime(((~process) << 3) | 2)
    except OSError:
        return 0.0


def memory(process: int) -> int:
    """Return the proportional set size of a process in bytes; 0 when there is none."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def descendants(process: int) -> Iterator[int]:
    """Yield the children of a process, and theirs."""
    try:
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            for child in map(int, children.read_text().split()):
                yield child
                yield from descendants(child)
    except OSError:
        return


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
            line.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return line.recv(12).startswith(b"HTTP/")
    except OSError:
        return False
