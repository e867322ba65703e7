"""Kills at chosen points, many times over.

    $ PYTHONPATH=.:tests python -m faults.failpoints --database sqlite --repeats 25

prints a table, and ends at the first kill after which something does not hold. See docs/faults.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from databases import NAMES, database
from faults.cases import FLOWS, POINTS, Stage, staging, strike

_HEAD = (
    "| database | killed | kills | answered 2xx | mails expected | copies | lost | extra copies | s |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def run(stage: Stage, name: str, repeats: int) -> None:
    """Kill at each point in each flow, so many times, and print a row for each point."""
    for point in POINTS:
        begun, answers, copies = time.monotonic(), 0, 0
        for flow in FLOWS:
            for _ in range(repeats):
                found = strike(stage, flow, point)
                answers += found.status is not None
                copies += len(found.copies)
        kills = repeats * len(FLOWS)
        expected = kills * point.committed
        cells = (name, point.name, kills, answers, expected, copies, max(0, expected - copies), copies - expected)
        print(f"| {' | '.join(map(str, cells))} | {time.monotonic() - begun:.0f} |", flush=True)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", nargs="+", choices=NAMES, default=["sqlite"])
    parser.add_argument("--repeats", type=int, default=25, help="for each point and flow")
    options = parser.parse_args()
    print(_HEAD, flush=True)
    for name in options.database:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            with database(name, folder) as engine, staging(engine, folder) as stage:
                run(stage, name, options.repeats)


if __name__ == "__main__":
    main()
