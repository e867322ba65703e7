"""Whether the time of an answer tells who has an account.

    $ python tests/timing/run.py --layer A --endpoint login reset --format json html --blocks 800

asks the example app, under gunicorn with one process of two threads on SQLite, for addresses of every kind, in blocks:
each block holds every kind once, in a random order, over connections that are kept open and change hands at random. It
prints a table of all pairs of kinds, and ends with 0 when all passed, 1 when one failed, and failed again in a fresh
run, 3 when that stayed open, and 4 when the run was void. See docs/testing.md.

Layer A (the path): bcrypt at its least cost, so that a statement or an early return shows; 0.25 ms may differ. Layer B
(the hashes): the cost of production; 3 % of the median may differ. In each run one kind stands twice, which
must pass, and one has a leak, which must fail: a millisecond in layer A, no hash in layer B; or the run is void.
``--smoke`` is short enough for every commit, and fails for what is as large as a missing hash.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# In the place of this folder, which Python has put there.
sys.path[:1] = [str(ROOT), str(ROOT / "tests")]

from timing.client import PATHS, Line, an_email  # noqa: E402
from timing.target import Conditions, Target  # noqa: E402
from timing.verdicts import (  # noqa: E402
    AGAIN,
    FAIL,
    INCONCLUSIVE,
    LEAK,
    PASS,
    UNKNOWN,
    VOID,
    Findings,
    Margin,
    Pair,
    Sample,
)

CODES = {PASS: 0, FAIL: 1, INCONCLUSIVE: 3, VOID: 4}

OLDER = "older hash"
KINDS = {
    "login": (UNKNOWN, "verified", "unverified", "without a password", "disabled", OLDER),
    "reset": (UNKNOWN, "verified", "unverified", "disabled"),
    "signup": (UNKNOWN, "verified", "unverified"),
    "resend": (UNKNOWN, "verified", "unverified"),
}

#: By how much answers may differ. 0.25 ms takes 173 questions to see through noise of 1 ms, which is that of a good
#: network, and 100 wrong passwords is all that an address is allowed. The last is for the short run: at a cost of 10
#: a hash takes 35 ms and more.
MARGINS = {
    "A": Margin(shift=250_000),
    "B": Margin(share=0.03, auc=0.05),
    "smoke": Margin(shift=25_000_000, only_fails=True),
}
#: A sign-up makes an unknown address a known one, so nobody can ask twice, and from one answer nobody tells half of the
#: noise of a good network: for an error of 5 % in each direction a difference takes 3.3 times that noise.
ASKED_ONCE = {"signup": 500_000}
BLOCKS = {"A": 800, "B": 200}

# Blocks in which caches and connections get warm.
_DISCARDED = 50
# How often a run that stays open asks twice as much.
_DOUBLINGS = 3
_MS = 1_000_000


@dataclass(frozen=True)
class Plan:
    """One run: what is asked, how often, and how much it may differ."""

    layer: str
    endpoint: str
    format: str
    blocks: int
    seed: int
    margin: Margin
    conditions: Conditions
    kinds: tuple[str, ...]
    discarded: int = _DISCARDED
    doublings: int = _DOUBLINGS
    #: A kind that has the leak, too, so that the run must fail.
    leaking: str | None = None
    #: Seconds after which no block begins. A run that has less than two thirds of its first blocks is void.
    patience: float = float("inf")


@dataclass(frozen=True)
class Result:
    """What became of a run."""

    plan: Plan
    answers: Findings
    #: Of what was asked next, while mails may be on their way.
    afterwards: Findings | None
    load: tuple[float, float]

    @property
    def findings(self) -> list[Findings]:
        """All findings, of one or of two requests."""
        return [self.answers] if self.afterwards is None else [self.answers, self.afterwards]

    @property
    def reason(self) -> str | None:
        """Why the run is void; None when it is not."""
        return next((one.fault for one in self.findings if one.fault is not None), None)

    @property
    def verdict(self) -> str:
        """The worst of the verdicts."""
        found = {one.verdict for one in self.findings}
        if self.reason is not None:
            return VOID
        return next((verdict for verdict in (FAIL, INCONCLUSIVE) if verdict in found), PASS)

    def confirmed_by(self, other: Result) -> bool:
        """Tell whether what failed fails in another run, too."""
        pairs = zip(self.findings, other.findings, strict=True)
        return other.reason is None and any(one.confirmed_by(again) for one, again in pairs)


class Asker:
    """Asks in blocks, and keeps the times."""

    def __init__(self, plan: Plan, target: Target) -> None:
        self.answers: list[dict[str, int]] = []
        self.afterwards: list[dict[str, int]] = []
        self._plan = plan
        self._target = target
        self._dice = random.Random(plan.seed)
        self._kinds = (*plan.kinds, AGAIN, LEAK)
        self._stack = ExitStack()
        self._lines: list[Line] = []

    def __enter__(self) -> Asker:
        for _ in self._kinds:
            self._lines.append(Line(self._target.port, self._plan.endpoint, self._plan.format))
            self._stack.callback(self._lines[-1].close)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(self, blocks: int, end: float) -> None:
        """Ask for so many blocks, each for addresses of its own, until a time of :func:`time.monotonic`."""
        emails = {kind: [an_email(self._dice) for _ in range(blocks)] for kind in self._kinds}
        self._target.add({kind: some for kind, some in emails.items() if kind not in {UNKNOWN, AGAIN, LEAK}})
        gc.collect()
        for number in range(blocks):
            if time.monotonic() > end:
                return
            self._ask_block({kind: some[number] for kind, some in emails.items()})

    def _ask_block(self, emails: dict[str, str]) -> None:
        answers, afterwards = {}, {}
        self._dice.shuffle(self._lines)
        for kind, line in zip(self._dice.sample(self._kinds, len(self._kinds)), self._lines, strict=True):
            limited = self._plan.conditions.limited
            if limited:
                line.ask(emails[kind], leaks=False)
            answers[kind] = line.ask(emails[kind], leaks=kind in {LEAK, self._plan.leaking}, limited=limited)
            if self._plan.conditions.mails:
                afterwards[kind] = line.look()
        self.answers.append({kind: answers[kind] for kind in self._kinds})
        if afterwards:
            self.afterwards.append({kind: afterwards[kind] for kind in self._kinds if kind != LEAK})

    def forget(self) -> None:
        """Keep nothing of what was asked so far."""
        self.answers.clear()
        self.afterwards.clear()


def run(plan: Plan) -> Result:
    """Ask until something is found, twice as much each time.

    Raises :exc:`TimeoutError` on a machine that is too slow for it.
    """
    end = time.monotonic() + plan.patience
    before = os.getloadavg()[0]
    with Target(plan.conditions) as target, Asker(plan, target) as asker:
        asker.ask(plan.discarded, end)
        asker.forget()
        wanted, most = plan.blocks, plan.blocks * 2**plan.doublings
        while True:
            asker.ask(wanted - len(asker.answers), end)
            if len(asker.answers) < plan.blocks * 2 / 3:
                raise TimeoutError(f"{len(asker.answers)} of {plan.blocks} blocks took {plan.patience} s")
            result = Result(
                plan,
                Findings.of(asker.answers, plan.margin, plan.seed),
                Findings.of(asker.afterwards, plan.margin, plan.seed) if asker.afterwards else None,
                (before, os.getloadavg()[0]),
            )
            if result.verdict in {PASS, FAIL} or wanted == most or time.monotonic() > end:
                return result
            wanted *= 2


def decide(plan: Plan, tell: Callable[[Result], None] = lambda result: None) -> tuple[str, list[Result]]:
    """Return the verdict, and the runs that led to it: a failure takes a fresh run that fails, too.

    ``tell`` is called with each run when it is over.
    """
    result = run(plan)
    tell(result)
    if result.verdict != FAIL:
        return result.verdict, [result]
    fresh = run(replace(plan, seed=plan.seed + 1, kinds=tuple(reversed(plan.kinds)), blocks=result.answers.blocks))
    tell(fresh)
    return FAIL if result.confirmed_by(fresh) else INCONCLUSIVE, [result, fresh]


def report(result: Result) -> Iterator[str]:
    """Yield a run as Markdown."""
    plan, conditions = result.plan, result.plan.conditions
    yield f"### {plan.endpoint}, {plan.format}, layer {plan.layer}"
    yield ""
    yield (
        f"Python {platform.python_version()}, gunicorn {version('gunicorn')}, {os.cpu_count()} processors, load "
        f"{result.load[0]:.1f} before and {result.load[1]:.1f} after; bcrypt at a cost of {conditions.rounds}; "
        f"{result.answers.blocks} blocks after {plan.discarded}; seed {plan.seed}; mails "
        f"{'sent meanwhile' if conditions.mails else 'not sent'}{'; over the limit' if conditions.limited else ''}."
    )
    for findings in result.findings:
        yield ""
        yield from _table(findings, "" if findings is result.answers else " (the next request)")
    yield ""
    yield f"**{result.verdict}**" + (f": {result.reason}." if result.reason is not None else "")


def _once(findings: Findings) -> str:
    once = findings.allowed.once
    return "" if once is None else f", and of {once / _MS:.2f} ms to an unknown address, which is asked only once"


def _table(findings: Findings, what: str) -> Iterator[str]:
    same = findings.same
    yield (
        f"Allowed is a shift of {findings.margin / _MS:.2f} ms{_once(findings)}. What is the same differs by "
        f"{same.deviation / _MS:.2f} ms (robust σ), and its shift is known to ±{same.all.half_width / _MS:.2f} ms."
    )
    yield ""
    yield f"| pair{what} | medians, ms | shift, ms (99 %) | of the faster half | AUC | p (Holm) | verdict |"
    yield "|---|---|---|---|---|---|---|"
    for pair in findings.pairs:
        yield _row(pair, findings.verdict_of(pair))
    yield _row(same, f"{findings.verdict_of(same)}, must pass")
    if findings.planted is not None:
        yield _row(findings.planted, f"{findings.verdict_of(findings.planted)}, must fail")


def _row(pair: Pair, verdict: str) -> str:
    low, high = pair.auc_interval if pair.auc_interval is not None else (pair.auc, pair.auc)
    interval = f" ({low:.3f} … {high:.3f})" if pair.auc_interval is not None else ""
    cells = (
        f"{pair.one} – {pair.other}",
        f"{pair.medians[0] / _MS:.2f}, {pair.medians[1] / _MS:.2f}",
        _shift(pair.all),
        _shift(pair.fastest),
        f"{pair.auc:.3f}{interval}",
        f"{pair.all.chance:.2g}",
        verdict,
    )
    return f"| {' | '.join(cells)} |"


def _shift(sample: Sample) -> str:
    return f"{sample.shift / _MS:+.3f} ({sample.low / _MS:+.3f} … {sample.high / _MS:+.3f})"


def plans(arguments: argparse.Namespace) -> Iterator[Plan]:
    """Yield the runs that were asked for."""
    if arguments.smoke:
        yield replace(smoke(arguments.seed), leaking=arguments.leaking)
        return
    layer = arguments.layer
    for endpoint, format in product(arguments.endpoint, arguments.format):
        conditions = Conditions(mails=arguments.mails, limited=arguments.limited, **_costs(layer))
        yield Plan(
            layer,
            endpoint,
            format,
            arguments.blocks or BLOCKS[layer],
            arguments.seed,
            replace(MARGINS[layer], once=ASKED_ONCE.get(endpoint) if layer == "A" else None),
            conditions,
            tuple(kind for kind in KINDS[endpoint] if kind != OLDER or conditions.older is not None),
            leaking=arguments.leaking,
        )


def _costs(layer: str) -> dict[str, Any]:
    # Under the least cost of bcrypt there is no older one.
    return {"rounds": 4, "leak": "pause"} if layer == "A" else {"rounds": 12, "older": 10, "leak": "hash"}


def smoke(seed: int) -> Plan:
    """Return the short run: the kinds whose hashes may be missing or of another cost."""
    return Plan(
        "B (smoke)",
        "login",
        "json",
        30,
        seed,
        MARGINS["smoke"],
        Conditions(rounds=10, older=9, leak="hash"),
        (UNKNOWN, "verified", OLDER),
        discarded=3,
        doublings=1,
        patience=45,
    )


def main(line: Sequence[str]) -> int:
    """Run what the command line says, and return the status to end with."""
    verdicts = [_run_and_report(plan) for plan in plans(_arguments(line))]
    # A failure is worse than what is not known.
    return CODES[max(verdicts, key=[PASS, VOID, INCONCLUSIVE, FAIL].index)]


def _run_and_report(plan: Plan) -> str:
    try:
        verdict, results = decide(plan, lambda result: print(*report(result), "", sep="\n", flush=True))
    except TimeoutError as error:
        print(f"**{VOID}**: the machine is too slow: {error}.", flush=True)
        return VOID
    if len(results) > 1:
        print(f"**{verdict}**: a fresh run {'confirms' if verdict == FAIL else 'does not confirm'} it.", flush=True)
    return verdict


def _arguments(line: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layer", choices=["A", "B"], default="A")
    parser.add_argument("--endpoint", choices=list(PATHS), nargs="+", default=["login"])
    parser.add_argument("--format", choices=["json", "html"], nargs="+", default=["json"])
    parser.add_argument("--blocks", type=int, help="at first; 800 in layer A, 200 in layer B")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--mails", action="store_true", help="send mails meanwhile, and time the next request, too")
    parser.add_argument("--limited", action="store_true", help="time logins that are refused because of the limit")
    parser.add_argument("--leaking", help="a kind to plant the leak in, to see the run fail")
    parser.add_argument("--smoke", action="store_true", help="30 blocks of logins at a cost of 10")
    arguments = parser.parse_args(line)
    if arguments.layer == "B" and not {"login", "signup"}.issuperset(arguments.endpoint):
        parser.error("only login and signup hash a password: layer B is for them")
    if arguments.limited and (arguments.layer, arguments.endpoint) != ("A", ["login"]):
        parser.error("--limited is for logins, in layer A: over the limit nothing is hashed")
    if arguments.blocks is not None and arguments.blocks < 8:
        parser.error("--blocks must be 8 or more: fewer have no interval of 99 %")
    return arguments


def _be_quiet() -> None:
    """Let nothing of this process be in the way of the times, nor of the server."""
    gc.disable()
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # the server keeps to another


if __name__ == "__main__":
    # So that the server and its folder are cleared away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    _be_quiet()
    sys.exit(main(sys.argv[1:]))
