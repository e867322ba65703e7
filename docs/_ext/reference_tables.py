"""Directives that write the reference tables from the declarations in the package.

``{settings-table}`` lists every setting, ``{problems-table}`` every problem code, so that neither
page can say anything else than the code does.
"""

from __future__ import annotations

from collections.abc import Iterable

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from flask_accountflow import errors, settings


class SettingsTable(Directive):
    """The table of all settings."""

    def run(self) -> list[nodes.Node]:
        """Return one row for each declaration."""
        rows = (
            (
                nodes.literal(text=one.key),
                nodes.literal(text=settings.shown(one.default)),
                nodes.Text(f"{one.sentence} In {one.unit}." if one.unit else one.sentence),
            )
            for one in settings.declarations()
        )
        return [table(("Key", "Default", "Meaning"), (34, 20, 46), rows)]


class ProblemsTable(Directive):
    """The table of all problem codes."""

    def run(self) -> list[nodes.Node]:
        """Return one row for each code of the closed list."""
        rows = (
            (nodes.literal(text=code), nodes.Text(str(problem.status)), nodes.Text(problem.title))
            for code, problem in errors.PROBLEMS.items()
        )
        return [table(("Code", "Status", "Title"), (30, 10, 60), rows)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("settings-table", SettingsTable)
    app.add_directive("problems-table", ProblemsTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def table(heads: tuple[str, ...], widths: tuple[int, ...], rows: Iterable[tuple[nodes.Node, ...]]) -> nodes.table:
    """Return a table with these heads, widths in percent, and rows."""
    group = nodes.tgroup(cols=len(heads))
    group += [nodes.colspec(colwidth=width) for width in widths]
    group += nodes.thead("", _row(tuple(nodes.Text(head) for head in heads)))
    group += nodes.tbody("", *(_row(row) for row in rows))
    return nodes.table("", group)


def _row(cells: tuple[nodes.Node, ...]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))
