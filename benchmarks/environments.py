"""An environment for each system, so that none decides which versions another gets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .adapters.base import System

_VERSIONS = (
    "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions() if d.name}))"
)


def default_cache() -> Path:
    """Return the folder that environments are kept in, unless another is named."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flask-accountflow-bench"


def environment(system: System, cache: Path, *, upgrade: bool = False) -> Path:
    """Return the interpreter of a system's environment, which is made when it is not there.

    It is used again while what the system requires, and the interpreter that runs this, stay the same; ``upgrade``
    makes it anew with the newest versions. Raises :exc:`RuntimeError` when pip fails, with the end of what it said.
    """
    if not system.requirements:
        return Path(sys.executable)
    folder = cache / system.name
    python, note = folder / "bin" / "python", folder / "made-for.json"
    wanted = json.dumps({"python": sys.version, "requirements": list(system.requirements)})
    if not upgrade and note.exists() and note.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *system.requirements])
    # Last, so that one that was not finished is made again.
    note.write_text(wanted)
    return python


def versions(python: Path) -> dict[str, str]:
    """Return the version of each distribution in an environment."""
    found: dict[str, str] = json.loads(_run([str(python), "-c", _VERSIONS]))
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _run(command: list[str]) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout
