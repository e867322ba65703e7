"""The directive ``{kept-by}``: every promise of docs/security.md, with the names of the tests that keep it."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from reference_tables import table
from sphinx.application import Sphinx

from tools import promise_ids

TESTS = Path(__file__).parents[2] / "tests"


class KeptBy(Directive):
    """The table of all ids and their tests."""

    def run(self) -> list[nodes.Node]:
        """Return one row for each id that is in the name of a test."""
        found = promise_ids.tests_by_id(TESTS)
        rows = ((nodes.Text(one), _names(found[one])) for one in sorted(found))
        return [table(("Id", "Tests"), (12, 88), rows)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("kept-by", KeptBy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _names(tests: list[promise_ids.Test]) -> nodes.inline:
    names = nodes.inline()
    for test in tests:
        names += [nodes.literal(text=f"{test.file}::{test.name}"), nodes.Text(" ")]
    return names
