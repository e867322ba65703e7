"""The Nu HTML Checker, which says of many pages at once what is no HTML or CSS. ``make checker`` fetches it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest

_JAR = Path(__file__).resolve().parents[1] / ".venv" / "vnu.jar"


class Remark(NamedTuple):
    """What the checker says of a file. ``kind`` is ``error``, ``warning`` or ``info``."""

    file: str
    kind: str
    text: str
    extract: str


def _command() -> list[str]:
    """Return how the checker is run; skip the test where it cannot be."""
    jar = Path(os.environ.get("ACCOUNTFLOW_TEST_VNU", _JAR))
    java = shutil.which("java")
    if java is not None and jar.exists():
        return [java, "-jar", str(jar)]
    lacking = (
        "no java" if java is None else f'no {jar}; "make checker" fetches it, or ACCOUNTFLOW_TEST_VNU names another'
    )
    if "vnu" in os.environ.get("ACCOUNTFLOW_TEST_REQUIRE", ""):
        pytest.fail(f"vnu is required, and there is {lacking}")
    pytest.skip(f"there is {lacking}")


def remarks(files: Mapping[str, str], folder: Path) -> list[Remark]:
    """Return what the checker says of these texts, by their names. It starts once, and reads them in that folder."""
    command = _command()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [*command, "--format", "json", "--also-check-css", "--exit-zero-always", *files],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return [_remark(found) for found in json.loads(done.stderr)["messages"]]


def _remark(found: dict[str, Any]) -> Remark:
    file = Path(unquote(urlsplit(found.get("url", "")).path)).name
    extract = " ".join(found.get("extract", "").split())
    return Remark(file, found.get("subType", found["type"]), found["message"], extract)
