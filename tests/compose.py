"""What the compose files say: their services, with the variables filled in as Compose fills them in."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"

#: Whatever an operator would write into the environment file.
GIVEN = {
    "SECRET_KEY": "5f0c7a5d2a0b4d0f8f3e1b7a9c6d4e21",
    "POSTGRES_PASSWORD": "a1",
    "REDIS_PASSWORD": "b2",
    "MAIL_PASSWORD": "c3",
    "BASE_URL": "https://www.example.com",
    "MAIL_SENDER": "accounts@example.com",
}

#: ``${NAME}``, ``${NAME:?what to do when it is missing}`` and ``${NAME:-default}``.
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[?-])(?P<text>[^}]*))?\}")


@dataclass(frozen=True)
class Service:
    """One service of a compose file."""

    name: str
    data: Mapping[str, Any]

    @property
    def is_ours(self) -> bool:
        """Whether it runs the example app's image."""
        return "build" in self.data

    @property
    def command(self) -> list[str]:
        """The words of the command, which begin with a program."""
        command = self.data["command"]
        return shlex.split(command) if isinstance(command, str) else list(command)

    @property
    def environment(self) -> dict[str, str]:
        """The environment that is added to that of the image."""
        return dict(self.data.get("environment") or {})

    @property
    def needs(self) -> dict[str, str]:
        """The services that must be there first, with the condition for each."""
        needed = self.data.get("depends_on") or {}
        if isinstance(needed, list):
            return dict.fromkeys(needed, "service_started")
        return {name: more["condition"] for name, more in needed.items()}


def files() -> list[Path]:
    """Return all compose files."""
    return sorted(DEPLOY.glob("compose.*.yaml"))


def read(path: Path) -> dict[str, Any]:
    """Return a compose file as it is written."""
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def variables(value: Any) -> set[tuple[str, str]]:
    """Return the variables in a part of a file, each with ``?``, ``-`` or nothing after its name."""
    if isinstance(value, str):
        return {(found["name"], found["kind"] or "") for found in _VARIABLE.finditer(value)}
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {one for part in parts for one in variables(part)}


def filled_in(value: Any, given: Mapping[str, str]) -> Any:
    """Return a part of a file with its variables filled in. Raises KeyError for one that is required and not given."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: _value(found, given), value)
    if isinstance(value, dict):
        return {key: filled_in(part, given) for key, part in value.items()}
    return [filled_in(part, given) for part in value] if isinstance(value, list) else value


def _value(found: re.Match[str], given: Mapping[str, str]) -> str:
    name, kind, text = found["name"], found["kind"], found["text"]
    if given.get(name):
        return given[name]
    if kind == "?":
        raise KeyError(f"{name} {text}")
    return text or ""


def services(path: Path, given: Mapping[str, str] | None = None) -> dict[str, Service]:
    """Return the services of a file by name; with their variables filled in when some are given."""
    data = read(path)["services"]
    if given is not None:
        data = filled_in(data, given)
    return {name: Service(name, one) for name, one in data.items()}


def example_variables() -> dict[str, str]:
    """Return what the example of an environment file says."""
    lines = (DEPLOY / "production.env.example").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}
