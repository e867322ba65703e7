"""Run systems side by side: ``python -m benchmarks.run --help``."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import secrets
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from . import databases, environments, plots, report
from .adapters.base import Conditions, System
from .rounds import Load, Measured, Round, RoundError, rotated, summary
from .servers import ROOT, Server, free_port
from .sink import Sink

#: Where the documentation includes them from.
DOCS = ROOT / "docs" / "_static" / "bench"

_FAULTS = (RoundError, RuntimeError, OSError, LookupError, ValueError)


@dataclass(frozen=True)
class Entry:
    """A system, and the folder beside its adapter in which its app is looked for, if it is not one of ours."""

    system: System
    paths: Sequence[Path] = ()


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    rounds: int = 5
    users: int = 40
    load: Load = field(default_factory=Load)
    bcrypt: int = 4
    workers: int = 2
    threads: int = 8


def entries() -> list[Entry]:
    """Return the systems that have an adapter here: ours first, then by name."""
    folder = Path(__file__).with_name("adapters")
    names = sorted(path.stem for path in folder.glob("*.py") if path.stem not in {"__init__", "base"})
    found = (importlib.import_module(f"benchmarks.adapters.{name}") for name in names)
    systems = [module.SYSTEM for module in found if hasattr(module, "SYSTEM")]
    return [Entry(one) for one in sorted(systems, key=lambda one: (one.name != "flask-accountflow", one.name))]


def load(path: Path) -> Entry:
    """Return the system of an adapter anywhere. Raises :exc:`ValueError` when the file has none."""
    spec = importlib.util.spec_from_file_location(f"adapter_{path.stem}", path)
    if spec is None or spec.loader is None or not path.exists():
        raise ValueError(f"{path} is no file of Python")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not isinstance(getattr(module, "SYSTEM", None), System):
        raise ValueError(f"{path} has no SYSTEM, an instance of benchmarks.adapters.base.System")
    return Entry(module.SYSTEM, (path.resolve().parent,))


def compare(
    kind: str, server: str, chosen: Mapping[str, tuple[Entry, Path]], plan: Plan
) -> tuple[dict[str, Any], dict[str, str]]:
    """Measure systems on one kind of database, with an interpreter for each.

    Returns the summary of each flow by system, and why a system has none.
    """
    taken: dict[str, list[Mapping[str, Measured]]] = {name: [] for name in chosen}
    memory: dict[str, list[int]] = {}
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        sink = stack.enter_context(Sink())
        running: dict[str, Server] = {}
        for name, (entry, python) in chosen.items():
            try:
                running[name] = _start(stack, kind, server, entry, python, sink, plan)
            except _FAULTS as error:
                failed[name] = _told(name, error)
        for number in range(plan.rounds + 1):
            for name in rotated([one for one in chosen if one in running], number):
                _say(f"{kind}, {f'round {number} of {plan.rounds}' if number else 'warming up'}: {name}")
                try:
                    measured = _round(chosen[name][0].system, running[name], sink, plan)
                except _FAULTS as error:
                    failed[name] = _told(name, error, running.pop(name))
                    taken.pop(name)
                    continue
                if number:
                    taken[name].append(measured)
        memory = {name: one.memory() for name, one in running.items()}
    results = {name: {"flows": summary(taken[name]), "memory": memory[name]} for name in running}
    return results, failed


def _start(stack: ExitStack, kind: str, server: str, entry: Entry, python: Path, sink: Sink, plan: Plan) -> Server:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="accountflow-bench-")))
    address = stack.enter_context(databases.database(kind, server, folder))
    given = Conditions(address, sink.port, f"http://127.0.0.1:{free_port()}", plan.bcrypt)
    made = Server(entry.system, given, python, folder, plan.workers, plan.threads, paths=entry.paths)
    return stack.enter_context(made)


def _round(system: System, server: Server, sink: Sink, plan: Plan) -> dict[str, Measured]:
    cohort = secrets.token_hex(6)
    emails = [f"person-{cohort}-{number}@example.com" for number in range(plan.users)]
    return Round(system, server, sink, plan.load).run(emails)


def _told(name: str, error: BaseException, server: Server | None = None) -> str:
    reason = f"{type(error).__name__}: {error}"
    log = f"\nIts log ends with\n{server.log()[-3000:]}" if server is not None else ""
    _say(f"{name} has failed. {reason}{log}")
    return reason


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """Return where and when this runs."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
    }


def _prepare(
    chosen: Sequence[Entry], cache: Path, *, upgrade: bool
) -> tuple[dict[str, tuple[Entry, Path]], dict[str, Any], dict[str, str]]:
    """Make the environments. Returns the systems that have one, with their versions, and why the others have none."""
    ready: dict[str, tuple[Entry, Path]] = {}
    about: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for entry in chosen:
        system = entry.system
        _say(f"environment: {system.name}")
        try:
            python = environments.environment(system, cache, upgrade=upgrade)
            found = environments.versions(python)
        except _FAULTS as error:
            failed[system.name] = _told(system.name, error)
            continue
        ready[system.name] = entry, python
        about[system.name] = {"kind": system.kind, "version": _version(found, system.distribution), "versions": found}
    return ready, about, failed


def _version(versions: Mapping[str, str], distribution: str) -> str:
    plain = {name.lower().replace("_", "-"): version for name, version in versions.items()}
    return plain.get(distribution.lower().replace("_", "-"), "unknown")


def run(given: argparse.Namespace, chosen: Sequence[Entry]) -> dict[str, Any]:
    """Measure what the command line asks for, and return all that is known about it."""
    plan = Plan(
        given.rounds, given.users, Load(given.connections, given.asks), given.bcrypt, given.workers, given.threads
    )
    results: dict[str, Any] = {"machine": machine(), "plan": _as_data(plan), "databases": {}, "skipped": {}}
    begun = time.monotonic()
    ready, results["systems"], unfit = _prepare(chosen, given.cache, upgrade=given.upgrade)
    results["failed"] = {"environment": unfit} if unfit else {}
    for kind in given.databases:
        reason = databases.why_not(kind, given.postgresql)
        if reason is not None:
            results["skipped"][kind] = reason
            _say(f"SKIPPED {kind}: {reason}")
            continue
        results["databases"][kind], failed = compare(kind, given.postgresql, ready, plan)
        if failed:
            results["failed"][kind] = failed
    results["seconds"] = round(time.monotonic() - begun)
    return results


def _as_data(plan: Plan) -> dict[str, Any]:
    return {
        "rounds": plan.rounds,
        "users": plan.users,
        "connections": plan.load.connections,
        "asks": plan.load.asks,
        "bcrypt": plan.bcrypt,
        "workers": plan.workers,
        "threads": plan.threads,
    }


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Write the results, their table and their pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    (folder / "table.inc").write_text(report.page(results))
    for name, picture in plots.pictures(results).items():
        (folder / name).write_text(picture)
    _say(f"written to {folder}")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Run systems side by side.")
    made.add_argument("--only", action="append", metavar="NAME", help="only this system; may be repeated")
    made.add_argument("--adapter", action="append", type=Path, default=[], metavar="FILE", help="one more system")
    made.add_argument("--list", action="store_true", help="say which systems there are, and end")
    made.add_argument("--rounds", type=int, default=5, help="rounds that count, after one that does not (5)")
    made.add_argument("--users", type=int, default=40, help="new addresses in each round of each system (40)")
    made.add_argument("--asks", type=int, default=5, help="how often each login asks who it is (5)")
    made.add_argument("--connections", type=int, default=3, help="connections that ask at once (3)")
    made.add_argument("--databases", nargs="+", choices=databases.KINDS, default=list(databases.KINDS))
    made.add_argument("--postgresql", default="postgresql://postgres@127.0.0.1:5432", metavar="URL", help="the server")
    made.add_argument("--bcrypt", type=int, default=4, help="cost of password hashes (4)")
    made.add_argument("--workers", type=int, default=2, help="processes of each server (2)")
    made.add_argument("--threads", type=int, default=8, help="threads of each process under gunicorn (8)")
    made.add_argument("--cache", type=Path, default=environments.default_cache(), help="where the environments are")
    made.add_argument("--upgrade", action="store_true", help="make the environments anew, of the newest versions")
    made.add_argument("--output", type=Path, default=ROOT / "build" / "bench", help="where to write (build/bench)")
    made.add_argument("--write-docs", action="store_true", help="write what the documentation includes, too")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns 1 when a system failed."""
    made = parser()
    given = made.parse_args(arguments)
    try:
        known = [*entries(), *map(load, given.adapter)]
    except ValueError as error:
        made.error(str(error))
    names = [entry.system.name for entry in known]
    if given.list:
        print("\n".join(names))
        return 0
    unknown = sorted(set(given.only or ()) - set(names))
    if unknown:
        made.error(f"no system is called {', '.join(unknown)}; there are {', '.join(names)}")
    results = run(given, [entry for entry in known if not given.only or entry.system.name in given.only])
    print(report.page(results, pictures=False))
    write(results, given.output)
    if given.write_docs:
        write(results, DOCS)
    return 1 if results["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
