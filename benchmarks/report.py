"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .rounds import FLOWS

#: How databases and flows are called in tables and pictures.
TITLES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
FLOW_NAMES = {
    "signup": "sign-up",
    "verify": "confirm address",
    "login": "log in",
    "me": "who am I",
    "refresh": "refresh tokens",
    "login_page": "login page",
    "reset_request": "ask for reset",
    "reset_confirm": "set password",
}

_Summary = Mapping[str, Any]


def page(results: Mapping[str, Any], *, pictures: bool = True) -> str:
    """Return everything: conditions, what was left out, the tables of each database, and perhaps its pictures."""
    return "\n".join(_lines(results, pictures=pictures)) + "\n"


def _lines(results: Mapping[str, Any], *, pictures: bool) -> Iterator[str]:
    yield from _conditions(results)
    for kind, reason in results["skipped"].items():
        yield f"\n**{TITLES[kind]} was skipped**: {reason}"
    for where, failed in results["failed"].items():
        for name, reason in failed.items():
            yield f"\n**{name} has failed** ({TITLES.get(where, where)}): {_one_line(reason)}"
    for kind, systems in results["databases"].items():
        yield f"\n## {TITLES[kind]}\n"
        if pictures and systems:
            yield from _pictures(kind)
        yield "CPU milliseconds per request: median, and least to most of all rounds.\n"
        yield from table(systems, _cpu, lambda one: float(one["cpu_ms"]["median"]))
        yield "\nRequests per second, p50 and p99 of the latency in milliseconds, and the statuses answered.\n"
        yield from table(systems, _pace, lambda one: -float(one["rate"]["median"]))
        yield "\nMemory of a worker after the last round, in MB (its proportional set size): " + "; ".join(
            f"{name} {_megabytes(one['memory'])}" for name, one in systems.items()
        )


def _conditions(results: Mapping[str, Any]) -> Iterator[str]:
    machine, plan = results["machine"], results["plan"]
    yield (
        f"Measured {machine['date'][:10]} with Python {machine['python']} on {machine['cores']} cores of "
        f"{machine['cpu']}, {machine['system']}; load average at the start {machine['load_average']}. "
        f"{plan['rounds']} rounds of {plan['users']} new addresses after one to warm up, {plan['connections']} "
        f"connections, bcrypt at cost {plan['bcrypt']}, {plan['workers']} processes of each server."
    )
    versions = (
        f"{name} {one['version']}" if one["version"] not in name else name for name, one in results["systems"].items()
    )
    yield f"\nVersions: {', '.join(versions)}."


def _pictures(kind: str) -> Iterator[str]:
    for scheme in ("light", "dark"):
        yield f"```{{image}} /_static/bench/{kind}-{scheme}.svg"
        yield f":alt: CPU milliseconds per request on {TITLES[kind]}, as in the table below"
        yield f":class: only-{scheme}"
        yield "```\n"


def table(
    systems: Mapping[str, _Summary], cell: Callable[[_Summary], str], rank: Callable[[_Summary], float]
) -> Iterator[str]:
    """Yield the lines of a table: a row for each flow, a column for each system, the best of each row in bold."""
    yield f"| | {' | '.join(systems)} |"
    yield f"|---|{'---|' * len(systems)}"
    for flow in FLOWS:
        found = [one["flows"].get(flow) for one in systems.values()]
        ranks = [rank(one) for one in found if one is not None]
        if not ranks:
            continue
        cells = [_best(cell(one), is_best=rank(one) == min(ranks)) if one is not None else "-" for one in found]
        yield f"| {FLOW_NAMES[flow]} | {' | '.join(cells)} |"


def _best(text: str, *, is_best: bool) -> str:
    first, space, rest = text.partition(" ")
    return f"**{first}**{space}{rest}" if is_best else text


def _cpu(one: _Summary) -> str:
    cpu = one["cpu_ms"]
    return f"{cpu['median']:.2f} ({cpu['low']:.2f}–{cpu['high']:.2f})"


def _pace(one: _Summary) -> str:
    statuses = " ".join(f"{status}" for status in one["statuses"] if status not in one["unexpected"])
    wrong = "".join(f" **not expected: {status}, {times}×**" for status, times in one["unexpected"].items())
    latency = f"{one['p50_ms']['median']:.1f} / {one['p99_ms']['median']:.1f}"
    return f"{one['rate']['median']:.0f}/s {latency}; {statuses}{wrong}"


def _megabytes(sizes: Sequence[int]) -> str:
    return " and ".join(f"{size / 2**20:.0f}" for size in sizes)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
