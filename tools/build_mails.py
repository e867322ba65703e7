"""Build the HTML templates of the mails from their MJML sources.

``python tools/build_mails.py`` writes every built template beside its source. With ``--check`` it writes nothing, names
the templates that are not what their sources compile to, and exits with 1 if there are any.

``base.mjml`` is a whole MJML document after its comment. Every other source is a Jinja template in which each
``<mj-column>`` is compiled, with the attributes that ``base.mjml`` sets. The compiler takes Jinja for text, so within
MJML no tag of Jinja may hold a ``<``.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import mrml

MAILS = Path(__file__).resolve().parents[1] / "flask_accountflow" / "templates" / "accountflow" / "mail"

_BASE = "base"
_NOTICE = "{{# Built from {name}.mjml by tools/build_mails.py: change that file, and build again. -#}}\n"
_COLUMN = re.compile(r"<mj-column\b.*?</mj-column>", re.DOTALL)

# A column compiles to a table, within what lets Outlook put columns side by side; a block needs only the table.
_TABLE = re.compile(
    r'<div class="mj-outlook-group-fix [^>]*>(<table\b.*</table>)</div><!--\[if mso \| IE\]></td><!', re.DOTALL
)

# The title once more, as the name of the whole mail: the heading says it, and screen readers would say both.
_LABEL = re.compile(r' aria-label="[^"]*"')

# The compiler writes everything into one line, and a line of a mail holds at most 998 bytes.
_BREAK = re.compile(r"(?<=>)(?=<(?:!--\[|/?(?:body|div|head|meta|style|table|tbody|td|title|tr)\b))")


class SourceError(Exception):
    """A source cannot be compiled."""


def build(folder: Path) -> dict[Path, str]:
    """Return what each template that has a source in the folder should hold.

    Raises :exc:`SourceError`.
    """
    sources = {path: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.mjml"))}
    head = _split(sources[folder / f"{_BASE}.mjml"])[1].partition("<mj-body")[0]
    built = {}
    for path, source in sources.items():
        try:
            built[path.with_suffix(".html")] = _build_one(path.stem, source, head)
        except (OSError, ValueError) as error:
            raise SourceError(f"{path.name}: {error}") from error
    return built


def find_differences(folder: Path) -> list[Path]:
    """Return the templates that are missing, are not what their sources compile to, or have no source."""
    built = build(folder)
    present = {path: path.read_text(encoding="utf-8") for path in folder.glob("*.html")}
    return sorted(path for path in built.keys() | present.keys() if built.get(path) != present.get(path))


def main(arguments: list[str] | None = None) -> int:
    """Build or check, and return the exit code."""
    parser = argparse.ArgumentParser(description="Build the HTML templates of the mails from their MJML sources.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a template would change")
    parser.add_argument("folder", type=Path, nargs="?", default=MAILS, help="where the sources are")
    given = parser.parse_args(arguments)
    try:
        if given.check:
            differences = find_differences(given.folder)
            for path in differences:
                print(f"{path.name} is not what {path.stem}.mjml compiles to. Run: python tools/build_mails.py")
            return 1 if differences else 0
        for path, text in build(given.folder).items():
            path.write_text(text, encoding="utf-8", newline="\n")
    except SourceError as error:
        print(error)
        return 1
    return 0


def _build_one(name: str, source: str, head: str) -> str:
    if name == _BASE:
        comment, document = _split(source)
        text = comment + _LABEL.sub("", _compile(document))
    else:
        text = _COLUMN.sub(lambda column: _compile_column(column[0], head), source)
    if "<mj-" in text:
        raise ValueError("an element is unknown, or is not where MJML takes it")
    return _NOTICE.format(name=name) + _BREAK.sub("\n", text).rstrip() + "\n"


def _split(source: str) -> tuple[str, str]:
    """Return the Jinja comment that a source begins with, and the rest."""
    comment, end, rest = source.partition("#}\n")
    return comment + end, rest


def _compile_column(column: str, head: str) -> str:
    table = _TABLE.search(_compile(f"{head}<mj-body><mj-section>{column}</mj-section></mj-body></mjml>"))
    if table is None:
        raise ValueError("a column did not compile to a table")
    return table[1]


def _compile(document: str) -> str:
    # Without fonts: the compiler knows where Google has some, and would load them from there.
    return mrml.to_html(document, render_options=mrml.RenderOptions(fonts={})).content


if __name__ == "__main__":
    raise SystemExit(main())
