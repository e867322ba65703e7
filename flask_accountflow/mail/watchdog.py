"""A bound on how long one mail may take, whatever its server does."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_log = logging.getLogger("accountflow.mail")


class Watchdog:
    """Calls what ends a send that takes longer than ``deadline`` seconds.

    One thread watches all sends of a process, sleeps until the first of them would be late, and ends without any.
    A ``threading.Timer`` for each was a fifth of what a mail cost.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        # By process id: a forked child has no thread of its parent's, and perhaps a lock that one of them held.
        self._guards: dict[int, _Guard] = {}

    @contextmanager
    def over(self, abort: Callable[[], None]) -> Iterator[None]:
        """Call ``abort`` in another thread when this block takes too long.

        Raises :exc:`RuntimeError` where there are no more threads, as at the end of a process.
        """
        guard = self._guards.setdefault(os.getpid(), _Guard(self._deadline))
        send = guard.begin(abort)
        try:
            yield
        finally:
            guard.end(send)


class _Guard:
    """The sends of one process."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._lock = threading.Lock()
        self._sends: dict[object, tuple[float, Callable[[], None]]] = {}
        self._is_awake = False

    def begin(self, abort: Callable[[], None]) -> object:
        with self._lock:
            if not self._is_awake:
                threading.Thread(target=self._watch, name="accountflow-watchdog", daemon=True).start()
                self._is_awake = True
            send = object()
            self._sends[send] = time.monotonic() + self._deadline, abort
        return send

    def end(self, send: object) -> None:
        with self._lock:
            self._sends.pop(send, None)

    def _watch(self) -> None:
        pause: float | None = 0.0
        while pause is not None:
            # Whatever begins meanwhile ends later: each has the same time.
            time.sleep(pause)
            late, pause = self._late()
            for abort in late:
                _call(abort)

    def _late(self) -> tuple[list[Callable[[], None]], float | None]:
        """Return how to end what is late, and after how many seconds to look again; None when nothing is being sent."""
        with self._lock:
            now = time.monotonic()
            late = [send for send, (end, _) in self._sends.items() if end <= now]
            aborts = [self._sends.pop(send)[1] for send in late]
            ends = [end for end, _ in self._sends.values()]
            self._is_awake = bool(ends)
            return aborts, min(ends) - now if ends else None


def _call(abort: Callable[[], None]) -> None:
    try:
        abort()
    except Exception:  # a transport of the app may raise anything; the next mails need the thread
        _log.exception("The connection for mails could not be shut.")
