"""What axe-core finds at fault on a page in a browser: accessibility, by the rules of others."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Any

#: WCAG 2.2 AA with all that it stands on, and what axe's authors recommend beyond.
TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")

_RUN = """async tags => {
    const found = await axe.run(document, {runOnly: tags, resultTypes: ["violations"]})
    return found.violations.flatMap(rule => rule.nodes.map(node => ({...node, rule: rule.id, help: rule.help})))
}"""


@functools.cache
def _source() -> str:
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def violations(page: Any) -> list[str]:
    """Return a line for each element of a Playwright page that breaks a rule, and what is wrong with it.

    The page's own CSP may stay: what a debugger runs is not bound by it.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(_source())
    return [_line(node) for node in page.evaluate(_RUN, list(TAGS))]


def _line(node: dict[str, Any]) -> str:
    where = " ".join(str(step) for step in node["target"])
    why = " ".join(str(node.get("failureSummary", "")).split())
    return f"{node['rule']} ({node['help']}) at {where}: {why} {node['html'][:200]}"
