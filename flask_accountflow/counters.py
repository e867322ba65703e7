"""Counters of tries: in this process, or in a store of the ``limits`` library."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from importlib import import_module
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

_log = logging.getLogger("accountflow.throttle")

#: Returns seconds since 1970.
Clock = Callable[[], float]

# Seconds. A login waits for the store only as long as nobody notices; then this process counts by itself.
_STORE_TIMEOUT = 0.25
_STORE_RETRY_AFTER = 1
# Counters in memory, from which on those that have ended are looked for.
_SWEEP_ABOVE = 1024


class Memory:
    """Counters of this process.

    Not limits' MemoryStorage: that one can lose a count when two threads meet at a new counter, and walks
    over all counters after nearly every count (10 ms at 100 000 of them).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._counts: dict[str, tuple[int, float]] = {}
        self._sweep_above = _SWEEP_ABOVE

    def incr(self, name: str, seconds: int, amount: int = 1) -> int:
        """Add to a counter, which ends ``seconds`` after its first count, and return its value."""
        with self._lock:
            count, end = self._counts.get(name, (0, self._clock() + seconds))
            self._counts[name] = count + amount, end
            if len(self._counts) > self._sweep_above:
                self._sweep()
        return count + amount

    def clear(self, name: str) -> None:
        """Set a counter to zero."""
        with self._lock:
            self._counts.pop(name, None)

    def _sweep(self) -> None:
        # At twice of what is left, so that the sweeps cost no more than the counts between them.
        now = self._clock()
        self._counts = {name: entry for name, entry in self._counts.items() if entry[1] > now}
        self._sweep_above = max(_SWEEP_ABOVE, 2 * len(self._counts))


class StoreDown(Exception):
    """This process has to count by itself for now."""


class Store:
    """Counters in a store of ``limits``. Every fault of the store is a :exc:`StoreDown`."""

    def __init__(self, uri: str, clock: Clock) -> None:
        self._uri = uri
        self._clock = clock
        self._lock = Lock()
        self._down = False
        self._asked_at = 0.0

    def incr(self, name: str, seconds: int, amount: int = 1) -> int:
        """Add to a counter, which ends ``seconds`` after its first count, and return its value."""
        # By name: limits 3 and 4 have another argument before it.
        return int(self._ask(lambda storage: storage.incr(name, seconds, amount=amount)))

    def clear(self, name: str) -> None:
        """Set a counter to zero."""
        self._ask(lambda storage: storage.clear(name))

    @cached_property
    def _storage(self) -> Any:
        from limits.storage import storage_from_string  # noqa: PLC0415 - 53 ms, only for who uses it

        # Before limits looks for it: what another thread is just importing it takes for a version that is too old.
        library = re.match("redis|valkey", self._uri)
        if library is not None:
            with suppress(ImportError):
                import_module(library[0])
        return storage_from_string(self._uri, **_options(self._uri))

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        now = self._clock()
        with self._lock:
            # The first to ask again keeps the others from waiting for the same time-out.
            if self._down and 0 <= now - self._asked_at < _STORE_RETRY_AFTER:
                raise StoreDown
            self._asked_at = now
        try:
            answer = question(self._storage)
        except Exception as error:
            self._note(fault=type(error).__name__)
            raise StoreDown from None
        self._note(fault=None)
        return answer

    def _note(self, fault: str | None) -> None:
        with self._lock:
            was_down, self._down = self._down, fault is not None
        if fault is not None and not was_down:
            # The kind alone: limits' messages may hold the address of the store with its password.
            _log.warning("The rate limit store failed (%s); this process counts alone, to half of each limit.", fault)
        elif fault is None and was_down:
            _log.info("The rate limit store answers again.")


def _options(uri: str) -> dict[str, Any]:
    if not urlsplit(uri).scheme.startswith(("redis", "valkey")):
        return {}
    # Without retry=None redis-py 6 and later tries four times.
    return {"socket_timeout": _STORE_TIMEOUT, "socket_connect_timeout": _STORE_TIMEOUT, "retry": None}
