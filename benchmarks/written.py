"""What a benchmark prints, for the documentation, too."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TextIO

from .run import DOCS, machine


class _Both(io.TextIOBase):
    """Shows what it keeps."""

    def __init__(self, shown: TextIO) -> None:
        self._shown = shown
        self.kept = io.StringIO()

    def write(self, text: str) -> int:
        self.kept.write(text)
        return self._shown.write(text)

    def flush(self) -> None:
        self._shown.flush()


@contextmanager
def written(name: str, conditions: str, *, wanted: bool) -> Iterator[None]:
    """Write what is printed inside to ``docs/_static/bench/<name>.inc``, too, below when, where and how that was.

    Nothing is written unless it is ``wanted``, and inside all goes well.
    """
    if not wanted:
        yield
        return
    at = machine()
    with redirect_stdout(_Both(sys.stdout)) as both:
        yield
    first = (
        f"Measured {at['date'][:10]} with Python {at['python']} on {at['cores']} cores of {at['cpu']}, {at['system']};"
        f" load average at the start {at['load_average']}. {conditions}."
    )
    DOCS.mkdir(parents=True, exist_ok=True)
    (DOCS / f"{name}.inc").write_text(f"{first}\n\n{both.kept.getvalue()}")
