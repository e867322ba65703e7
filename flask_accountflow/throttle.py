"""How often something may be tried: budgets, counted per subject in fixed windows.

A try is counted before it is compared with its limit, so a volley of concurrent requests cannot pass.
Windows begin at multiples of their length since 1970 and the counter's name says which one it is:
all processes agree on them, and what is given back late never reaches the next window.
"""

from __future__ import annotations

import hmac
import ipaddress
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

from .counters import Clock, Memory, Store, StoreDown
from .errors import Refusal
from .rules import Rate


@lru_cache(maxsize=256)
def network(ip: str | None) -> str:
    """Return what stands for the client at ``ip``: the IPv4 address, the IPv6 /64, or ``unknown``."""
    try:
        address = ipaddress.ip_address(ip or "")
    except ValueError:
        return "unknown"
    address = getattr(address, "ipv4_mapped", None) or address
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    # One customer has at least a /64, and as many addresses as he likes (RFC 6177 section 2).
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))


@dataclass(frozen=True)
class Budget:
    """How often one kind of try is allowed per subject, and what a success does.

    ``clear`` empties the subject's windows, ``return`` gives this one try back, ``keep`` counts it.
    """

    name: str
    rates: tuple[Rate, ...]
    on_success: Literal["clear", "return", "keep"]


class Reservation:
    """Tries that are counted already. As failures they stay counted; the first call of a method settles them.

    ``settle`` is called with what to do to every budget, or None for what each does on success.
    ``failures`` says for each budget how many tries its longest window had counted before.
    """

    def __init__(
        self, settle: Callable[[str | None], None] | None = None, failures: Mapping[str, int] | None = None
    ) -> None:
        self.failures: Mapping[str, int] = failures if failures is not None else {}
        self._settle = settle

    def succeed(self) -> None:
        """Do for each budget what it does on success."""
        self._once(None)

    def give_back(self) -> None:
        """Count nothing, since the request was refused for another reason."""
        self._once("return")

    def _once(self, how: str | None) -> None:
        settle, self._settle = self._settle, None
        if settle is not None:
            settle(how)


class Throttle(Protocol):
    """Counts tries and refuses too many of them."""

    def reserve(self, **subjects: str) -> Reservation:
        """Count one try for each budget, as in ``reserve(login=address.key, login_ip=network(ip))``.

        Raises a ``rate_limited`` :exc:`.Refusal` with ``retry_after`` in seconds when one of them is
        used up; then nothing of this call is counted.
        """

    def clear(self, **subjects: str) -> None:
        """Forget all tries of these subjects, as after a reset by mail."""


class NoThrottle:
    """Allows everything."""

    def reserve(self, **subjects: str) -> Reservation:
        """Count nothing."""
        return Reservation()

    def clear(self, **subjects: str) -> None:
        """Forget nothing, since nothing is known."""


class LimitsThrottle:
    """Counts in this process (``memory://``) or in a store of the ``limits`` library (``redis://…``).

    While the store does not answer, this process counts alone, against half of each limit; the store is
    tried again once a second. ``key`` keeps addresses out of the store: it sees their HMAC only.
    ``clock`` returns seconds since 1970.
    """

    def __init__(
        self, budgets: Iterable[Budget], storage_uri: str = "memory://", key: bytes = b"", *, clock: Clock = time.time
    ) -> None:
        self._budgets = {budget.name: budget for budget in budgets}
        self._key = key
        self._clock = clock
        memory = Memory(clock)
        # What counts, in order of preference, and by how much it divides each limit.
        self._counters: tuple[tuple[Memory | Store, int], ...] = ((memory, 1),)
        if urlsplit(storage_uri).scheme != "memory":
            self._counters = (Store(storage_uri, clock), 1), (memory, 2)

    def reserve(self, **subjects: str) -> Reservation:
        """Count one try for each budget. Raises a ``rate_limited`` :exc:`.Refusal` when one is used up."""
        now = self._clock()
        windows = self._windows(subjects, now)
        for counters, share in self._counters:
            with suppress(StoreDown):
                return _reserve(counters, windows, share, now)
        raise AssertionError("the counters of this process always answer")

    def clear(self, **subjects: str) -> None:
        """Forget all tries of these subjects."""
        windows = self._windows(subjects, self._clock())
        for counters, _ in self._counters:
            _settle(counters, windows, "clear")

    def _windows(self, subjects: Mapping[str, str], now: float) -> list[_Window]:
        """Return the present windows of these subjects, the longest first: its end is what retry_after says."""
        windows = []
        for name, subject in subjects.items():
            budget = self._budgets[name]
            known = hmac.digest(self._key, f"{name}:{subject}".encode("utf-8", "surrogatepass"), "sha256").hex()
            for rate in budget.rates:
                end = (int(now // rate.seconds) + 1) * rate.seconds
                windows.append(_Window(name, f"{known}:{rate.seconds}:{end}", rate, end, budget.on_success))
        return sorted(windows, key=lambda window: -window.rate.seconds)


class _Window(NamedTuple):
    """One counter: its budget, its name, its limit, and when it ends, in seconds since 1970."""

    budget: str
    name: str
    rate: Rate
    end: int
    on_success: str


def _reserve(counters: Memory | Store, windows: list[_Window], share: int, now: float) -> Reservation:
    # Each is counted before it is compared: that is what holds against a volley. What is refused at one window
    # counts at no later one, or a volley would refuse itself.
    failures: dict[str, int] = {}
    for number, window in enumerate(windows, 1):
        tries = counters.incr(window.name, window.rate.seconds)
        failures.setdefault(window.budget, tries - 1)  # of the longest window, which comes first
        if tries > max(1, window.rate.count // share):
            _settle(counters, windows[:number], "return")
            raise Refusal("rate_limited", extra={"retry_after": max(1, math.ceil(window.end - now))})
    return Reservation(lambda how: _settle(counters, windows, how), failures)


def _settle(counters: Memory | Store, windows: list[_Window], how: str | None) -> None:
    """Do ``how`` to the windows; None means what each does on success."""
    with suppress(StoreDown):
        for window in windows:
            wanted = how or window.on_success
            if wanted == "clear":
                counters.clear(window.name)
            elif wanted == "return" and counters.incr(window.name, window.rate.seconds, -1) < 0:
                # It was cleared in between; below zero it would allow more than its limit.
                counters.incr(window.name, window.rate.seconds, 1)
