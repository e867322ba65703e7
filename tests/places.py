"""The sites that pages are looked at on, and who looks: a reader of HTML, and a tab of a real Chromium."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import template_rendered
from live_server import free_port
from pages import State
from support import START, Person, Site
from werkzeug.serving import WSGIRequestHandler, make_server

from flask_accountflow.errors import Refusal
from flask_accountflow.passwords import BcryptHasher


class _Hasher(BcryptHasher):
    """A hasher that has no room when told so."""

    is_full = False

    def check(self, password: str, *stored: str | None) -> tuple[bool, ...]:
        self._make_room()
        return super().check(password, *stored)

    def hash(self, password: str) -> str:
        self._make_room()
        return super().hash(password)

    def _make_room(self) -> None:
        if self.is_full:
            raise Refusal("busy", extra={"retry_after": 3})


class _Quiet(WSGIRequestHandler):
    """A server that does not log."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing."""


class Place:
    """A site at an address of its own, where one visitor after another finds it as on the first day."""

    def __init__(self, folder: Path, state: State) -> None:
        port = free_port()
        self.base_url = f"http://127.0.0.1:{port}"
        settings = {"ACCOUNTFLOW_BASE_URL": self.base_url, "ACCOUNTFLOW_SUPPORT_EMAIL": "help@example.com"}
        uri = f"sqlite:///{folder / f'{port}.db'}"
        self._hasher = _Hasher(4)
        self.site = Site(uri, {**settings, **state.config}, signup_form=state.form, hasher=self._hasher)
        #: The template of the page that was shown last.
        self.template: str | None = None
        template_rendered.connect(self._note, self.site.app)
        self._server = make_server("127.0.0.1", port, self.site.app, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def _note(self, sender: Any, template: Any, **more: Any) -> None:
        if "/mail/" not in template.name:
            self.template = template.name.removeprefix("accountflow/").removesuffix(".html")

    def clear(self) -> None:
        """Let everything be as on the first day."""
        with self.site.app.app_context():
            self.site.db.session.remove()
            with self.site.db.engine.begin() as connection:
                for table in reversed(self.site.db.metadata.sorted_tables):
                    connection.execute(sa.delete(table))
        self.site.letters.clear()
        self.site.clock.now = START
        self._hasher.is_full = False

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.site.close()


class Places:
    """A place for each state."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._made: dict[str, Place] = {}

    def of(self, state: State) -> Place:
        """Return the place of a state, as on the first day."""
        key = f"{state.form.__name__} {sorted(state.config.items())}"
        if key not in self._made:
            self._made[key] = Place(self._folder, state)
            self._stack.callback(self._made[key].close)
        self._made[key].clear()
        return self._made[key]


@contextmanager
def places(folder: Path) -> Iterator[Places]:
    """Yield the places of all states; their databases are in that folder."""
    with ExitStack() as stack:
        yield Places(folder, stack)


class Reader:
    """A visitor without a browser, who reads the HTML as it was sent."""

    def __init__(self, site: Site) -> None:
        self.person = Person(site)
        self.page: Any = None

    def open(self, path: str) -> None:
        self._go(self.person.get(path))

    def send(self, number: int = 0, **fields: str) -> None:
        self._go(self.person.submit(self.page, number, **fields))

    def forget(self) -> None:
        self.person.client = self.person.site.app.test_client()

    def _go(self, answer: Any) -> None:
        while answer.status_code == 303:
            answer = self.person.follow(answer)
        self.page = answer


class Tab:
    """A visitor with a tab of a real Chromium, with JavaScript or without."""

    def __init__(self, context: Any, *, scripts: bool) -> None:
        self._context = context
        self._scripts = scripts
        self.page = context.new_page()
        self._debugger = context.new_cdp_session(self.page)
        self._base_url = ""

    def visit(self, state: State, place: Place) -> None:
        """Come anew, and go to where a state is. Scripts of the page have then run or not; those of tools can."""
        self.forget()
        self._base_url = place.base_url
        # Not Playwright's own switch: without scripts, no tool could look at the page either.
        self._debugger.send("Emulation.setScriptExecutionDisabled", {"value": not self._scripts})
        state.bring(place.site, self)
        self._debugger.send("Emulation.setScriptExecutionDisabled", {"value": False})

    def open(self, path: str) -> None:
        self.page.goto(f"{self._base_url}{path}")

    def send(self, number: int = 0, **fields: str) -> None:
        form = self.page.locator("form").nth(number)
        button = form.locator("button[type=submit]").first
        for name, value in fields.items():
            named = form.locator(f"[name={name}]")
            if named.evaluate("element => element.type") == "submit":
                button = named
            else:
                named.fill(value)
        with self.page.expect_navigation():
            button.click()

    def forget(self) -> None:
        self._context.clear_cookies()
