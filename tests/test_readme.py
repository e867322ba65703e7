"""The README tells the truth: its app runs as written, its commands and links exist."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode, urljoin
from urllib.request import HTTPCookieProcessor, ProxyHandler, Request, build_opener

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EMAIL, PASSWORD = "ada@example.com", "correct horse battery staple"


class Form(HTMLParser):
    """The last form of a page that is sent by POST: where it goes, and what it carries unseen."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.hidden: dict[str, str] = {}
        self._open = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take up a form, or a hidden field of the one that is open."""
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._open = values.get("method", "").lower() == "post" and self.action is None
            if self._open:
                self.action = values.get("action", "")
        elif tag == "input" and self._open and values.get("type") == "hidden":
            self.hidden[values["name"]] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        """Close the form."""
        if tag == "form":
            self._open = False


class Browser:
    """As much of a browser as the README needs: cookies, redirects and forms."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.url, self.page = origin, ""
        # No proxy stands between us and this machine.
        self._opener = build_opener(ProxyHandler({}), HTTPCookieProcessor(CookieJar()))

    def open(self, url: str, data: dict[str, str] | None = None) -> str:
        """Return the page that ``url`` leads to."""
        body = urlencode(data).encode() if data is not None else None
        request = Request(urljoin(self.url, url), data=body, headers={"Accept": "text/html"})
        with self._opener.open(request, timeout=20) as answer:
            self.url, self.page = answer.url, answer.read().decode()
        return self.page

    def submit(self, **fields: str) -> str:
        """Fill in the form of the present page, send it, and return the page that it leads to."""
        form = Form(self.page)
        assert form.action is not None, self.page
        return self.open(form.action or self.url, {**form.hidden, **fields})


class Server:
    """The README's app, served as the README says."""

    def __init__(self, process: subprocess.Popen[bytes], origin: str, output: Path) -> None:
        self.process = process
        self.origin = origin
        self._output = output

    def read(self) -> str:
        """Return all that the terminal shows."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def link(self, part: str) -> str:
        """Return the mailed link with ``part`` in its path, once it is on a line of its own in the terminal."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            found = re.search(rf"^\s*({re.escape(self.origin)}\S*{part}\S+)\s*$", self.read(), re.MULTILINE)
            if found:
                return found[1]
            time.sleep(0.05)
        raise AssertionError("no link was printed:\n" + self.read())

    def wait(self) -> None:
        """Return when the app answers."""
        until = time.monotonic() + 30
        while time.monotonic() < until and self.process.poll() is None:
            try:
                Browser(self.origin).open("/auth/login")
            except URLError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError("the app does not answer:\n" + self.read())


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def _app_py() -> str:
    (block,) = (block for block in _blocks("python") if block.startswith("# app.py"))
    return str(block)


def _flask_commands() -> list[list[str]]:
    lines = (line for block in _blocks("console") for line in block.splitlines())
    return [shlex.split(line[2:]) for line in lines if line.startswith("$ flask ")]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """The README's app in a folder of its own, made and served by the README's two commands."""
    (tmp_path / "app.py").write_text(_app_py(), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLASK_")}
    # The package of this checkout, whether it is installed or not; and no line may wait in a buffer.
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    prepare, run = _flask_commands()
    python = [sys.executable, "-m"]
    subprocess.run([*python, *prepare], check=True, cwd=tmp_path, env=environment, timeout=60, capture_output=True)

    port = _free_port()
    output = tmp_path / "terminal.txt"
    # Without the reloader, whose child would outlive this test.
    command = [*python, *run, "--port", str(port), "--no-reload"]
    with (
        output.open("wb") as terminal,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=terminal, stderr=subprocess.STDOUT) as process,
    ):
        try:
            served = Server(process, f"http://127.0.0.1:{port}", output)
            served.wait()
            yield served
        finally:
            process.terminate()


@pytest.mark.slow
def test_the_first_minute(server: Server) -> None:
    """A newcomer signs up, opens the link that the terminal prints, and is greeted; later, logs in and is greeted."""
    browser = Browser(server.origin)
    assert "Create an account" in browser.open("/")
    browser.open("/auth/signup")
    browser.submit(email=EMAIL, password=PASSWORD)

    browser.open(server.link("/verify/"))
    browser.submit()

    assert f"Hello {EMAIL}" in browser.open("/")
    other = Browser(server.origin)
    other.open("/")
    assert f"Hello {EMAIL}" in other.submit(email=EMAIL, password=PASSWORD)


@pytest.mark.slow
def test_forgetting_the_password(server: Server) -> None:
    """Whoever forgot the password chooses a new one by the link that the terminal prints, and logs in with it."""
    browser = Browser(server.origin)
    browser.open("/auth/signup")
    browser.submit(email=EMAIL, password=PASSWORD)
    browser.open(server.link("/verify/"))
    browser.submit()

    other = Browser(server.origin)
    other.open("/auth/password-reset/request")
    other.submit(email=EMAIL)
    other.open(server.link("/password-reset/"))
    other.submit(password="another horse, another battery")

    other.open("/auth/login")
    other.submit(email=EMAIL, password="another horse, another battery")
    assert f"Hello {EMAIL}" in other.open("/")


def test_the_app_is_short() -> None:
    """The README's app has fewer than fifteen lines of code."""
    lines = [line for line in _app_py().splitlines() if line.strip() and not line.startswith("#")]

    assert len(lines) < 15


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_make_has_the_targets(name: str) -> None:
    """Every make command in the texts is a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    text = (ROOT / name).read_text(encoding="utf-8")
    wanted = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", text))

    assert wanted
    assert wanted <= targets


def test_the_links_lead_somewhere() -> None:
    """Every relative link of the README names a file, and a heading in it."""
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        path, _, anchor = target.partition("#")
        text = (ROOT / path).read_text(encoding="utf-8")
        anchors = {re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in _headings(text)}
        assert not anchor or anchor in anchors, target


def _headings(text: str) -> list[str]:
    return [line.lstrip("#").strip() for line in text.splitlines() if line.startswith("#")]
