"""The ids of promises: in the tables of docs/security.md, and in the names of the tests that keep them."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_IN_NAME = re.compile(r"(?<=_)([A-Z]{3})_(\d{2})(?=_|$)|(?<=_)(F)(\d{2})(?=_|$)")
_ROW = re.compile(r"^\| ((?:[A-Z]{3}-|F)\d{2}) \| (.*) \|$", re.MULTILINE)
_ID = re.compile(r"\b(?:[A-Z]{3}-|F)\d{2}\b")
_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_KEY = re.compile(r"`([A-Z_]+)`")


class Row(NamedTuple):
    """A row of a table of the page."""

    id: str
    cells: tuple[str, ...]

    @property
    def severity(self) -> str:
        """C, H, M or L; empty in the tables of faults and of decisions."""
        return self.cells[0] if len(self.cells) == 3 else ""

    @property
    def keys(self) -> set[str]:
        """The settings that weaken the promise."""
        return set(_KEY.findall(self.cells[-1])) if self.severity else set()


class Test(NamedTuple):
    """A test, and its file below the folder of the tests."""

    file: str
    name: str


def rows(text: str) -> list[Row]:
    """Return the rows of all tables in ``text`` that begin with an id."""
    return [Row(found[1], tuple(cell.strip() for cell in found[2].split("|"))) for found in _ROW.finditer(text)]


def named_in(text: str) -> set[str]:
    """Return the ids that a text refers to."""
    return set(_ID.findall(text))


def ids_in(name: str) -> list[str]:
    """Return the ids in the name of a test: ``test_SUP_07_INP_02_…`` has two."""
    return [f"{area}-{number}" if area else f"F{fault}" for area, number, _, fault in _IN_NAME.findall(name)]


def tests_in(folder: Path) -> Iterator[Test]:
    """Yield every test function, and every class of tests, in ``folder`` and below."""
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, _NAMED) and node.name.startswith(("test_", "Test")):
                yield Test(path.relative_to(folder).as_posix(), node.name)


def tests_by_id(folder: Path) -> dict[str, list[Test]]:
    """Return the tests in ``folder`` that keep each promise."""
    found: defaultdict[str, list[Test]] = defaultdict(list)
    for test in tests_in(folder):
        for one in ids_in(test.name):
            found[one].append(test)
    return dict(found)
