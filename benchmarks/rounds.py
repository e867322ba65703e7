"""What one round of one system is, and what many rounds come to."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .adapters.base import NEW_PASSWORD, PASSWORD, Answer, Call, Login, Mail, System
from .client import Client, Result, many
from .servers import Server
from .sink import Sink

#: In the order in which an account goes through them.
FLOWS = ("signup", "verify", "login", "me", "refresh", "login_page", "reset_request", "reset_confirm")

_T = TypeVar("_T")


class RoundError(Exception):
    """A system did not do what it says, so that its times say nothing."""


@dataclass(frozen=True)
class Load:
    """How a server is asked: by how many connections, and how often who is logged in asks who that is."""

    connections: int = 3
    asks: int = 5


@dataclass(frozen=True)
class Measured:
    """One flow in one round. CPU is that of all processes of the server, until its mails were delivered, by request."""

    requests: int
    cpu_ms: float
    rate: float
    p50_ms: float
    p99_ms: float
    statuses: Mapping[int, int]
    unexpected: Mapping[int, int]


def rotated(names: Sequence[_T], number: int) -> list[_T]:
    """Return the order of the systems in a round: each is first, second and last equally often."""
    shift = number % len(names) if names else 0
    return [*names[shift:], *names[:shift]]


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so great a share of them does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


class Round:
    """One cohort of new addresses on its way through all flows of a system."""

    def __init__(self, system: System, server: Server, sink: Sink, load: Load) -> None:
        self._system, self._server, self._sink, self._load = system, server, sink, load
        self.measured: dict[str, Measured] = {}

    def run(self, emails: Sequence[str]) -> dict[str, Measured]:
        """Send every address through every flow, and return what each took.

        Raises :exc:`RoundError` when a flow does not do its work.
        """
        system = self._system
        self._sink.clear()
        mails = self._mailed("signup", {email: system.signup(email) for email in emails})
        self._asked("verify", {email: system.verify(mail) for email, mail in mails.items()})
        answers = self._asked("login", {email: system.login(email, PASSWORD) for email in mails})
        logins = {email: system.logged_in(answer) for email, answer in answers.items()}
        self._ask_who(logins)
        self._refresh(logins)
        self._look_at_page(len(emails))
        mails = self._mailed("reset_request", {email: system.reset_request(email) for email in logins})
        changed = self._asked("reset_confirm", {email: system.reset_confirm(mail) for email, mail in mails.items()})
        self._prove(min(changed))
        return self.measured

    def _ask_who(self, logins: Mapping[str, Login]) -> None:
        calls = {
            (email, number): self._system.me(login)
            for number in range(self._load.asks)
            for email, login in logins.items()
        }
        for (email, _), answer in self._asked("me", calls).items():
            if email.encode() not in answer.body:
                raise RoundError(f"me: the answer does not name {email}: {answer.body[:500]!r}")

    def _refresh(self, logins: Mapping[str, Login]) -> None:
        calls = {email: self._system.refresh(login) for email, login in logins.items()}
        present = {email: call for email, call in calls.items() if call is not None}
        if present:
            self._asked("refresh", present)

    def _look_at_page(self, times: int) -> None:
        page = self._system.login_page()
        if page is not None:
            self._asked("login_page", dict.fromkeys(range(times), page))

    def _prove(self, email: str) -> None:
        """See that the reset was one: the new password lets in, and the old one does not."""
        with Client(self._server.port) as client:
            for password, lets_in in ((NEW_PASSWORD, True), (PASSWORD, False)):
                call = self._system.login(email, password)
                if (client.send(call).status in call.expect) != lets_in:
                    raise RoundError(f"after the reset {password} {'does not let' if lets_in else 'still lets'} in")

    def _mailed(self, flow: str, calls: Mapping[str, Call]) -> dict[str, Mail]:
        since = self._sink.count()
        found: dict[str, Mail] = {}

        def wait(answered: Iterable[str]) -> None:
            found.update(self._sink.wait_for(answered, since))

        self._measure(flow, calls, wait)
        return found

    def _asked(self, flow: str, calls: Mapping[_T, Call]) -> dict[_T, Answer]:
        return self._measure(flow, calls, lambda answered: None)

    def _measure(self, flow: str, calls: Mapping[_T, Call], wait: Callable[[Iterable[_T]], None]) -> dict[_T, Answer]:
        """Send the calls, and return the answers that were as expected."""
        before = self._server.cpu_seconds()
        result = many(self._server.port, list(calls.values()), self._load.connections)
        pairs = zip(calls.items(), result.answers, strict=True)
        good = {key: answer for (key, call), answer in pairs if answer.status in call.expect}
        if not good:
            first = result.answers[0]
            raise RoundError(f"{flow}: {dict(result.statuses)} and nothing else; the first said {first.body[:500]!r}")
        try:
            wait(good)
        except TimeoutError as error:
            raise RoundError(f"{flow}: {error}") from error
        # Mails that nobody waits for, such as the notice of a new password, belong to their flow, too.
        self._server.settle()
        self.measured[flow] = _measured(result, self._server.cpu_seconds() - before)
        return good


def _measured(result: Result, cpu_seconds: float) -> Measured:
    number = len(result.answers)
    return Measured(
        requests=number,
        cpu_ms=1000 * cpu_seconds / number,
        rate=number / result.seconds,
        p50_ms=1000 * quantile(result.latencies, 0.5),
        p99_ms=1000 * quantile(result.latencies, 0.99),
        statuses=result.statuses,
        unexpected=result.unexpected,
    )


def summary(rounds: Sequence[Mapping[str, Measured]]) -> dict[str, dict[str, Any]]:
    """Return the median, the least and the most of each figure of each flow, and all statuses together."""
    flows = [flow for flow in FLOWS if any(flow in one for one in rounds)]
    return {flow: _summary([one[flow] for one in rounds if flow in one]) for flow in flows}


def _summary(measured: Sequence[Measured]) -> dict[str, Any]:
    found: dict[str, Any] = {
        figure: _spread([getattr(one, figure) for one in measured]) for figure in ("cpu_ms", "rate", "p50_ms", "p99_ms")
    }
    found["requests"] = sum(one.requests for one in measured)
    for name in ("statuses", "unexpected"):
        together: Counter[int] = sum((Counter(getattr(one, name)) for one in measured), Counter())
        # As text, as in JSON.
        found[name] = {str(status): times for status, times in sorted(together.items())}
    return found


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "low": round(min(values), 3),
        "high": round(max(values), 3),
    }
