"""The page for people who come from elsewhere: every promise on it has a test, and every such test is on it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent.parent / "docs" / "coming-from.md"

_ROW = re.compile(
    r"^\| (?P<promise>.+?) \| \[(?P<name>test_\w+)\]\(\.\./tests/seeds/(?P<file>test_\w+\.py)\) \|$", re.MULTILINE
)


def promises() -> dict[tuple[str, str], str]:
    """Return the sentence of every test in this folder, by file and name."""
    found = {}
    for path in sorted(FOLDER.glob("test_*.py")):
        if path != Path(__file__):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    found[path.name, node.name] = " ".join((ast.get_docstring(node) or "").replace("``", "`").split())
    return found


def test_every_promise_is_tested_and_every_test_promised() -> None:
    """The tables hold exactly the tests of this folder, each with its own sentence."""
    rows = {(row["file"], row["name"]): row["promise"] for row in _ROW.finditer(PAGE.read_text())}

    assert rows == promises()
