"""A process together with all that it starts."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

# Seconds. A killed process is gone once what the kernel was doing for it is done, which may be a write to a slow disk.
_PATIENCE = 30

# Above what a process here has open. The files of a dying process are closed in the order of their numbers, so this
# one comes after the database's, whose locks end with it.
_HIGH = 500


class ProcessGroup(subprocess.Popen[bytes]):
    """A process in a group of its own, which all that it starts belong to."""

    def __init__(self, line: Sequence[str], **options: Any) -> None:
        self._alive, low = os.pipe()
        weakref.finalize(self, os.close, self._alive)
        # Each process of the group inherits this end of the pipe, and holds it as long as it lives.
        held = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _HIGH)
        os.close(low)
        try:
            super().__init__(line, start_new_session=True, pass_fds=[held], **options)
        finally:
            os.close(held)

    def kill_all(self) -> None:
        """End every process of the group at once, as a power cut would, and return when none is left.

        To wait for the first of them is not enough: another may still hold a lock of the database for a moment.
        """
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()
        gone, _, _ = select.select([self._alive], [], [], _PATIENCE)
        assert gone, f"What process {self.pid} has started lives on"
