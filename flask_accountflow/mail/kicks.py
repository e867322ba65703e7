"""Kicks: what starts delivery after a commit."""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol

_log = logging.getLogger("accountflow.mail")

# How long a thread keeps the connection of the last mail for the next one, in seconds: another one costs a sixth of a
# mail's CPU, and with TLS several answers of the server. Servers leave a client several minutes (RFC 5321 section
# 4.5.3.2.7), but count its connections.
_LINGER = 5.0
# What is committed within this time after a call is claimed together, in seconds. Under load a claim for each mail,
# and many in vain, was half of what it cost.
_GATHER = 0.1
# A mail in hand may be finished; a process that is told to end soon must.
_PATIENCE = 5.0


class Kick(Protocol):
    """Starts delivery. Never raises."""

    def __call__(self) -> None:
        """Say that mails were committed."""

    def start(self) -> None:
        """Say that this process serves its first request: mails of an earlier process may be waiting."""


class Work(Protocol):
    """What the threads of a kick do, a :class:`.Deliverer` or what stands for one."""

    senders: int

    def deliver_due(self, *, stop: threading.Event, keep: bool = False) -> int:
        """Do what is to be done now, until ``stop`` is set, and return how many mails were handled.

        ``keep`` leaves open what the next call of this thread can use.
        """

    def rest(self) -> None:
        """Close what this thread has kept."""

    def pause(self, longest: float) -> float:
        """Return for how many seconds there will be nothing to do: at most ``longest``."""


class InlineKick:
    """Delivers in the caller's thread, which waits for it. For tests and scripts."""

    def __init__(self, deliverer: Work) -> None:
        self._deliverer = deliverer

    def __call__(self) -> None:
        """Deliver what is due."""
        _deliver(self._deliverer, threading.Event())

    def start(self) -> None:
        """Do nothing: the first commit delivers what is waiting, too."""


class WorkerKick:
    """Leaves delivery to a worker process."""

    def __call__(self) -> None:
        """Do nothing: the worker polls."""

    def start(self) -> None:
        """Do nothing: the worker polls."""


class ThreadKick:
    """Delivers in threads of this process, which start at the first call in each process.

    ``poll`` is how long they sleep at most, in seconds. They never keep the process from ending.
    """

    def __init__(self, deliverer: Work, poll: float = 30) -> None:
        self._deliverer = deliverer
        self._poll = poll
        # By process id: the threads of a parent do not live on in its forked child, which starts its own. A lock
        # here could have been held by one of them for ever; setdefault() needs none.
        self._crews: dict[int, _Crew] = {}

    def __call__(self) -> None:
        """Wake a thread."""
        pid = os.getpid()
        crew = self._crews.get(pid)
        if crew is None:
            crew = self._crews.setdefault(pid, _Crew(self._deliverer, self._poll))
        crew.wake()

    def start(self) -> None:
        """Start the threads, which look for mails at once."""
        self()

    def stop(self, timeout: float = _PATIENCE) -> bool:
        """Let the threads finish the mail in hand and end; return whether they all did within ``timeout`` seconds."""
        crew = self._crews.get(os.getpid())
        return crew is None or crew.stop(timeout)


class _Crew:
    """The threads of one process."""

    def __init__(self, deliverer: Work, poll: float) -> None:
        self._deliverer = deliverer
        self._poll = poll
        self._pid = os.getpid()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        #: Whether a thread is about to claim: it will find whatever is committed by now.
        self._gathers = False
        # Each item wakes one thread. More than there are threads would only make them look in vain.
        self._calls: queue.Queue[None] = queue.Queue(deliverer.senders)

    def wake(self) -> None:
        if not self._gathers:
            self._call()
        with self._lock:
            if self._threads or self._stop.is_set():
                return
            try:
                self._start()
            except RuntimeError:  # no more threads: at the end of the process, or at a limit of the system
                _log.exception("No thread for mails could be started.")

    def _start(self) -> None:
        atexit.register(self._at_exit)
        for number in range(self._deliverer.senders):
            thread = threading.Thread(target=self._work, name=f"accountflow-mail-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _call(self) -> bool:
        """Wake one thread; False when as many as there are have been called already."""
        try:
            self._calls.put_nowait(None)
        except queue.Full:
            return False
        return True

    def _work(self) -> None:
        linger = min(_LINGER, self._poll)
        while not self._stop.is_set():
            _deliver(self._deliverer, self._stop, keep=True)
            if not self._is_called(linger):
                self._deliverer.rest()
                self._is_called(_pause(self._deliverer, self._poll - linger))
        self._deliverer.rest()

    def _is_called(self, within: float) -> bool:
        """Wait for a call, ``within`` seconds at most, and tell whether there was one."""
        try:
            self._calls.get(timeout=within)
        except queue.Empty:
            return False
        self._gathers = True
        self._stop.wait(_GATHER)
        self._gathers = False  # before the claim: what is committed from now on needs a call of its own
        return True

    def _at_exit(self) -> None:
        # A forked child inherits this call, but not the threads; locks that they held stay taken there.
        if os.getpid() == self._pid:
            self.stop(_PATIENCE)

    def stop(self, timeout: float) -> bool:
        atexit.unregister(self._at_exit)
        self._stop.set()
        while self._call():
            pass
        return _join(self._threads, timeout)


def deliver_forever(
    deliverer: Work,
    stop: threading.Event,
    poll: float = 5,
    report: Callable[[str], None] = print,
) -> None:
    """Deliver until ``stop`` is set, then finish the mails in hand. ``poll`` is in seconds."""

    def work() -> None:
        while not stop.is_set():
            handled = _deliver(deliverer, stop, keep=True)
            if handled:
                report(f"{handled} {'mail' if handled == 1 else 'mails'} handled")
                continue
            deliverer.rest()
            stop.wait(_pause(deliverer, poll))
        deliverer.rest()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(deliverer.senders)]
    try:
        for thread in threads:
            thread.start()
        # Not stop.wait(): a signal handler that sets the event from within would find its lock taken.
        while not _join(threads, 0.2):
            pass
    finally:
        stop.set()
        _join(threads, _PATIENCE)


def _deliver(deliverer: Work, stop: threading.Event, *, keep: bool = False) -> int:
    try:
        return deliverer.deliver_due(stop=stop, keep=keep)
    except Exception:  # a database that is away for a while; the mails are still there afterwards
        _log.exception("Delivery was interrupted.")
        return 0


def _pause(deliverer: Work, longest: float) -> float:
    try:
        return deliverer.pause(longest)
    except Exception:
        _log.exception("The next mail could not be looked up.")
        return longest


def _join(threads: list[threading.Thread], timeout: float) -> bool:
    """Wait for threads, ``timeout`` seconds for all of them together."""
    end = time.monotonic() + timeout
    for thread in threads:
        if thread.is_alive():
            thread.join(max(0.0, end - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
