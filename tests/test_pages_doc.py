"""Blocks and variables are a contract: what docs/pages.md says is what the templates have.

With ``ACCOUNTFLOW_WRITE_GOLDEN=1`` the tables of that page are written anew, for who changes the contract on purpose.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import jinja2
import pytest
from jinja2 import nodes

from flask_accountflow.web.templates import FOLDER, blocks_of

OURS = FOLDER / "accountflow"
DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "pages.md"

#: Every page that people see; those of development may change at any time.
PAGES = sorted(
    path.stem for path in OURS.glob("*.html") if not path.stem.startswith(("_", "dev_")) and path.stem != "base"
)
#: What pages are made of.
PARTS = sorted(path.stem for path in OURS.glob("_*.html"))


def head(name: str) -> tuple[str, str, str]:
    """Return what the head of a template says: what it is for, its variables, its blocks."""
    text = (OURS / f"{name}.html").read_text("utf-8").partition("-#}")[0].removeprefix("{#")
    found = re.fullmatch(r"\s*(.+?)\s+Context: (.+?)\s+Blocks:\s+(.+?)\s*", text.partition("\n\n  The text")[0], re.S)
    assert found is not None, name
    purpose, variables, blocks = (" ".join(part.split()) for part in found.groups())
    return purpose, variables, blocks


def own_blocks(name: str) -> list[str]:
    """Return the blocks that stand in a template itself."""
    tree = jinja2.Environment().parse((OURS / f"{name}.html").read_text("utf-8"))
    return [block.name for block in tree.find_all(nodes.Block)]


def code(names: list[str]) -> str:
    """Return names as Markdown shows code."""
    return ", ".join(f"`{name}`" for name in names)


def pages_table() -> Iterator[str]:
    """Yield the lines of the table of all pages."""
    yield "| template | what it is | blocks that it fills | variables |"
    yield "|---|---|---|---|"
    for name in PAGES:
        purpose, variables, _ = head(name)
        extra = re.sub(r"^base\.html's( \(.*?\))?, and ", "", variables).rstrip(".")
        yield f"| `{name}` | {purpose} | {code(own_blocks(name))} | {extra} |"


def frame_table() -> Iterator[str]:
    """Yield the lines of the table of the frame."""
    _, variables, _ = head("base")
    yield "| | |"
    yield "|---|---|"
    yield f"| blocks | {code(own_blocks('base'))} |"
    yield f"| variables | {variables.rstrip('.')} |"


TABLES = {"frame": frame_table, "pages": pages_table}


def part(text: str, name: str) -> str:
    """Return what stands between the marks of a part of the page."""
    return text.partition(f"<!-- {name} -->\n")[2].partition("<!-- end -->")[0]


@pytest.mark.parametrize("name", TABLES)
def test_DX_08_the_page_lists_every_block_and_variable(name: str) -> None:
    """The table names each template with the blocks that Jinja finds in it, and the variables of its head."""
    table = "".join(f"{line}\n" for line in TABLES[name]())
    text = PAGE.read_text("utf-8")
    if os.environ.get("ACCOUNTFLOW_WRITE_GOLDEN"):
        text = text.replace(f"<!-- {name} -->\n{part(text, name)}", f"<!-- {name} -->\n{table}")
        PAGE.write_text(text, "utf-8")

    assert part(text, name) == table


@pytest.mark.parametrize("name", PAGES)
def test_the_head_of_a_page_names_its_blocks(name: str) -> None:
    """The head of a page names the blocks that it fills, all of them blocks of the frame."""
    _, _, blocks = head(name)

    assert blocks.startswith("base.html's; this page fills ")
    assert sorted(re.findall(r"\w+", blocks.partition("fills ")[2])) == sorted(own_blocks(name))
    assert set(own_blocks(name)) <= set(own_blocks("base"))


def test_the_head_of_the_frame_names_its_blocks() -> None:
    """The head of the frame names each block that Jinja finds in it."""
    assert sorted(re.findall(r"\w+", head("base")[2])) == sorted(own_blocks("base"))


@pytest.mark.parametrize("file", ["base.html", "base.txt"])
def test_the_page_of_mails_lists_the_blocks_of_their_frames(file: str) -> None:
    """The blocks of both frames of mails are those that the documentation of mails lists."""
    text = (DOCS / "mails.md").read_text("utf-8")
    row = re.search(rf"^\| `{re.escape(file)}` \| (.+) \|$", text, re.M)

    assert row is not None
    assert re.findall(r"`(\w+)`", row[1]) == blocks_of(f"mail/{file}")


def test_the_page_lists_every_custom_property() -> None:
    """The custom properties of the style sheet are those that the documentation lists."""
    sheet = (FOLDER.parent / "static/accountflow.css").read_text("utf-8")

    listed = re.findall(r"`(--af-[\w-]+)`", part(PAGE.read_text("utf-8"), "properties"))

    assert sorted(listed) == sorted(set(re.findall(r"^\s*(--af-[\w-]+):", sheet, re.M)))


#: A selector of ours begins with a class of ours. Only the custom properties stand on the root.
_OWN = re.compile(r"\.af-[\w-]+")
_ROOT = re.compile(r':root(:not\(\[data-af-theme="light"\]\)|\[data-af-theme="dark"\])?')


def test_no_rule_of_the_style_sheet_reaches_the_app() -> None:
    """Every rule is in our layer and of a class of ours; on the root there are custom properties of ours only."""
    sheet = re.sub(r"/\*.*?\*/", "", (FOLDER.parent / "static/accountflow.css").read_text("utf-8"), flags=re.S).strip()

    assert re.fullmatch(r"@layer accountflow \{.*\}", sheet, re.S)
    assert sheet.count("@layer") == 1
    depths = list(accumulate({"{": 1, "}": -1}.get(sign, 0) for sign in sheet))
    assert depths.index(0, sheet.index("{")) == len(sheet) - 1, "a rule stands behind the layer"
    rules = re.findall(r"([^{};]+)\{([^{}]*)\}", sheet)
    assert len(rules) > 50
    for selectors, declarations in rules:
        for selector in re.split(r",\s*", selectors.strip()):
            if _ROOT.fullmatch(selector):
                assert re.fullmatch(r"(\s*--af-[\w-]+:[^;]+;)+\s*", declarations), selector
            else:
                assert _OWN.match(selector), selector


def test_every_class_on_a_page_is_ours() -> None:
    """Every class that stands in a page begins with af-, so that no rule of an app meets it by chance."""
    for name in [*PAGES, *PARTS, "base"]:
        for value in re.findall(
            r'class="([^"]*)"', re.sub(r"\{[{%#].*?[}%#]\}", " ", (OURS / f"{name}.html").read_text("utf-8"))
        ):
            assert all(one.startswith("af-") for one in value.split()), (name, value)
