"""What starting costs: the time of imports, and the memory of a worker.

    python -m benchmarks.startup [--times 15] [--starts 3] [--only NAME] [--adapter FILE] [--imports]
        [--json FILE] [--write-docs]

The first table is of fresh interpreters, which take turns: Flask with Flask-SQLAlchemy, the same with this package
imported, an app without and with accounts after a page, and the small app of each system. The second is of the worker
of a real server that has just started, after 60 requests for its login page, or for a login where there is none: calm
is one connection, a burst is six at once, whose threads all meet what is done only the first time. ``--imports`` lists
the longest imports of this package.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import environments
from .adapters.base import Call, Conditions, System
from .client import many
from .run import Entry, entries, load
from .servers import ROOT, Server, free_port
from .sink import Sink
from .written import written

_BASE = "import flask, flask_sqlalchemy"
_APP = """
import benchmarks.apps.{name} as site
app = site.create_app()
with app.app_context():
    site.db.create_all()
assert app.test_client().get("{path}").status_code == 200
"""
_IMPORTED, _MOUNTED = "… and flask_accountflow", "an app with accounts, after a page"
_FLASK, _ONE_TABLE = "Flask and Flask-SQLAlchemy", "an app with one table, after a page"
CASES: Mapping[str, str] = {
    _FLASK: _BASE,
    _IMPORTED: f"{_BASE}, flask_accountflow",
    _ONE_TABLE: _APP.format(name="one_table", path="/"),
    _MOUNTED: _APP.format(name="accountflow", path="/auth/login"),
}

#: How many connections ask at once.
LOADS: Mapping[str, int] = {"calm": 1, "burst": 6}


class OneTable(System):
    """What every worker is compared with: a page that reads one table, in the environment of this project."""

    name = "Flask with one table"
    application = "benchmarks.apps.one_table:create_app()"
    distribution = "flask"

    def login_page(self) -> Call:
        return Call("GET", "/")


# Private pages are what one more process takes; shared ones count by who else happens to run. The time is that of the
# processor, which other load changes little, and which nothing here waits longer than.
_ASK = """
import json, sys, time
begin = time.process_time()
exec(compile(sys.argv[1], "case", "exec"), {"__name__": "__main__"})
seconds = time.process_time() - begin
with open("/proc/self/smaps_rollup") as rows:
    private = sum(int(row.split()[1]) for row in rows if row.startswith("Private_"))
print(json.dumps([seconds, private / 1024]))
"""


def ask(python: Path, code: str, environment: Mapping[str, str]) -> tuple[float, float]:
    """Run ``code`` in a fresh interpreter, and return its seconds of CPU and the MB that are the process's own."""
    command = [str(python), "-c", _ASK, code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{code}\nfailed:\n{done.stderr[-2000:]}")
    seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, megabytes


def take_turns(cases: Mapping[str, tuple[Path, str]], times: int, given: Conditions) -> dict[str, list[float]]:
    """Return the median seconds and MB of each case; each has its turn once in each round, the first does not count."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FLASK_", "COV", "PYTHON"))}
    environment = {**inherited, **given.environment(), "PYTHONPATH": str(ROOT)}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for number in range(times + 1):
        for name, (python, code) in cases.items():
            found = ask(python, code, environment)
            if number:
                taken[name].append(found)
    return {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in taken.items()}


def loading(application: str) -> str:
    """Return code that loads what a server would load."""
    module, _, name = application.partition(":")
    return f"import {module}\n{module}.{name}"


def worker(entry: Entry, python: Path, smtp_port: int, connections: int) -> float:
    """Return the MB of the only worker of a fresh server, after some requests."""
    with tempfile.TemporaryDirectory(prefix="accountflow-bench-") as name:
        folder = Path(name)
        given = Conditions(f"sqlite:///{folder / 'bench.db'}", smtp_port, f"http://127.0.0.1:{free_port()}")
        with Server(entry.system, given, python, folder, workers=1, paths=entry.paths) as server:
            asked = entry.system.login_page() or entry.system.login("nobody@example.com", "not-a-password-7")
            many(server.port, [asked] * 60, connections)
            server.settle()
            return server.memory()[0] / 2**20


def workers(systems: Mapping[str, tuple[Entry, Path]], starts: int, smtp_port: int) -> dict[str, dict[str, float]]:
    """Return the median MB of a worker of each system, calm and after a burst; they take turns."""
    sizes: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in LOADS} for name in systems}
    for _ in range(starts):
        for name, (entry, python) in systems.items():
            for kind, connections in LOADS.items():
                sizes[name][kind].append(worker(entry, python, smtp_port, connections))
    return {name: {kind: statistics.median(found) for kind, found in kinds.items()} for name, kinds in sizes.items()}


def longest_imports(python: Path, number: int = 25) -> list[tuple[float, float, str]]:
    """Return what takes longest to import beyond Flask and Flask-SQLAlchemy: own and total ms, and the name."""
    command = [str(python), "-X", "importtime", "-c", _BASE + "; import flask_accountflow"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    rows = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines()]
    parsed = [(int(own) / 1000, int(total) / 1000, name) for own, total, name in rows if own.strip().isdigit()]
    end_of_base = max(place for place, row in enumerate(parsed) if row[2].strip() == "flask_sqlalchemy")
    return sorted(parsed[end_of_base + 1 :], key=lambda row: -row[1])[:number]


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.startup", description="Time of imports, memory of workers."
    )
    made.add_argument("--times", type=int, default=15, help="interpreters of each kind that count (15)")
    made.add_argument("--starts", type=int, default=3, help="servers of each kind and load (3)")
    made.add_argument("--only", action="append", metavar="NAME", help="only this system; may be repeated")
    made.add_argument("--adapter", action="append", type=Path, default=[], metavar="FILE", help="one more system")
    made.add_argument("--cache", type=Path, default=environments.default_cache(), help="where the environments are")
    made.add_argument("--imports", action="store_true", help="list the longest imports of this package")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    made.add_argument("--write-docs", action="store_true", help="write what the documentation includes, too")
    return made.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    given = _arguments(arguments)
    known = [*entries(), *map(load, given.adapter)]
    pythons = {
        entry.system.name: (entry, environments.environment(entry.system, given.cache))
        for entry in known
        if not given.only or entry.system.name in given.only or entry.system.name == "flask-accountflow"
    }
    ours = pythons["flask-accountflow"][1]
    cases = {name: (ours, code) for name, code in CASES.items()}
    cases |= {
        f"{name}: its small app": (python, loading(entry.system.application))
        for name, (entry, python) in pythons.items()
    }
    said = f"Medians of {given.times} interpreters, and of {given.starts} servers, of each kind"
    with written("startup", said, wanted=given.write_docs):
        with tempfile.TemporaryDirectory() as folder, Sink() as sink:
            conditions = Conditions(f"sqlite:///{Path(folder) / 'bench.db'}", sink.port, "http://127.0.0.1:8000")
            alone = take_turns(cases, given.times, conditions)
            pythons = {OneTable.name: (Entry(OneTable()), ours), **pythons}
            sizes = workers(pythons, given.starts, sink.port)
        _print(alone, sizes)
        if given.imports:
            print("\n| own ms | total ms | import |\n|---|---|---|")
            for own, total, name in longest_imports(ours):
                print(f"| {own:.1f} | {total:.1f} | {name.strip()} |")
    if given.json is not None:
        given.json.write_text(json.dumps({"alone": alone, "workers": sizes}, indent=1) + "\n")


def _print(alone: Mapping[str, Sequence[float]], sizes: Mapping[str, Mapping[str, float]]) -> None:
    print("| a fresh interpreter that loads | CPU ms | MB of its own |\n|---|---|---|")
    for name, (seconds, megabytes) in alone.items():
        print(f"| {name} | {seconds * 1000:.0f} | {megabytes:.1f} |")
    added = alone[_IMPORTED][0] - alone[_FLASK][0]
    print(f"\nImporting flask_accountflow adds {added * 1000:.0f} ms: {_verdict(added < 0.15)} (less than 150).")
    print("\n| a worker of | calm, MB, proportional | after a burst |\n|---|---|---|")
    for name, found in sizes.items():
        print(f"| {name} | {found['calm']:.1f} | {found['burst']:.1f} |")
    print()
    for kind in LOADS:
        grown = sizes["flask-accountflow"][kind] - sizes[OneTable.name][kind]
        print(f"Accounts add {grown:.1f} MB to a worker ({kind}): {_verdict(grown < 10)} (less than 10).")


def _verdict(is_kept: bool) -> str:
    return "PASS" if is_kept else "FAIL"


if __name__ == "__main__":
    main()
