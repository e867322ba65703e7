"""Replaying the recorded script: each step is a request of the SDK's document, and what its answer must be like."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

Step = Mapping[str, Any]

#: The flows of the script, by their mode.
SCRIPT: Mapping[str, tuple[Step, ...]] = {
    flow["mode"]: tuple(flow["steps"])
    for flow in json.loads(Path(__file__).with_name("tempest_script.json").read_text(encoding="utf-8"))
}


class Request(NamedTuple):
    """What a step sends."""

    method: str
    path: str
    #: What stands in the body: JSON, a form, or nothing.
    json: Any = None
    form: Mapping[str, str] | None = None
    #: Whether a person's browser sends it, which follows redirects.
    page: bool = False


class Answer(NamedTuple):
    """What came back, redirects followed."""

    status: int
    #: The JSON object; None for a page.
    body: Mapping[str, Any] | None


class Replay:
    """One run of the script. ``send`` makes a request, ``mailed_link`` is the link in the newest mail."""

    def __init__(self, send: Callable[[Request], Answer], mailed_link: Callable[[], str]) -> None:
        self._send = send
        self._mailed_link = mailed_link
        self._kept: dict[str, str] = {}
        self._answers: dict[str, Answer] = {}

    def run(self, mode: str) -> list[str]:
        """Run the steps of a mode; return what was not as the document says."""
        return [f"{step['name']}: {fault}" for step in SCRIPT[mode] for fault in self.step(step)]

    def step(self, step: Step) -> list[str]:
        """Send one request, keep what later ones need, and return what is wrong with its answer."""
        answer = self._answers[step["name"]] = self._send(self._request(step))
        for name, source in step.get("keep", {}).items():
            link = self._mailed_link() if source == "mail" else (answer.body or {}).get(source)
            self._kept[name] = token_in(str(link))
        return self._faults(step, answer)

    def _request(self, step: Step) -> Request:
        if "curl" in step:
            return parse_curl(step["curl"])
        filled = {name: self._filled(step.get(name)) for name in ("path", "json", "form")}
        return Request(step["method"], filled["path"], filled["json"], filled["form"], step.get("page", False))

    def _filled(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._filled(one) for name, one in value.items()}
        return re.sub(r"\{(\w+)\}", lambda found: self._kept[found[1]], value) if isinstance(value, str) else value

    def _faults(self, step: Step, answer: Answer) -> list[str]:
        body = answer.body or {}
        wanted = step["status"].replace("x", r"\d").replace(" or ", "|")
        found = [] if re.fullmatch(wanted, str(answer.status)) else [f"{answer.status} is not {step['status']}"]
        found += [f"{name} is missing" for name in step.get("fields", ()) if name not in body]
        found += [f"{name} is empty" for name in step.get("filled", ()) if not body.get(name)]
        found += [
            f"{name} is {body.get(name)!r}"
            for name, value in step.get("holds", {}).items()
            if name not in body or body[name] != value
        ]
        if "like" in step and answer != self._answers[step["like"]]:
            found.append(f"{answer} differs from the answer to: {step['like']}")
        return found


def token_in(link: str) -> str:
    """Return the token in a link, be it at its end or in ``?token=``."""
    parts = urlsplit(link)
    return parse_qs(parts.query).get("token", [parts.path.rpartition("/")[2]])[0]


def parse_curl(command: str) -> Request:
    """Return what a command of the document would send."""
    words = iter(shlex.split(command.replace("\\\n", " ")))
    method, address, body = "GET", "", None
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-d":
            body = json.loads(next(words))
        elif word == "-H":
            assert next(words) == "content-type: application/json"
        elif word != "curl":
            address = word
    return Request(method, "/" + address.partition("/")[2], body)
