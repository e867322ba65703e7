"""Real servers on loopback ports: the example app under gunicorn, and the mail server that it sends to."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from html.parser import HTMLParser
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from process_group import ProcessGroup

ROOT = Path(__file__).resolve().parents[1]

# Seconds. Nothing here takes as long unless it is broken: a mail that was refused is tried again after 5.
PATIENCE = 45

#: What gunicorn 25 and later would make in the home directory, and earlier ones do not know.
_GUNICORN = "control_socket_disable = True\n"


def free_port() -> int:
    """Return a loopback port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Return what ``condition`` returns, once that is true; fail with ``what`` when it never is."""
    end = time.monotonic() + patience
    while not (found := condition()):
        if time.monotonic() > end:
            pytest.fail(f"Not within {patience} s: {what}")
        time.sleep(0.02)
    return found


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get("href")
        if tag == "a" and address is not None:
            self.addresses.append(address)


@dataclass(frozen=True)
class Mail:
    """A mail that arrived."""

    recipients: tuple[str, ...]
    message: EmailMessage

    @property
    def message_id(self) -> str:
        """The Message-ID, by which two copies of one mail are known."""
        return str(self.message["Message-ID"])

    def part(self, kind: str) -> str:
        """Return the ``plain`` or the ``html`` part as its reader sees it, with its transfer encoding undone."""
        found = self.message.get_body((kind,))
        assert isinstance(found, EmailMessage)
        return str(found.get_content())

    @property
    def links(self) -> list[str]:
        """Every address in the text."""
        return re.findall(r"https?://\S+", self.part("plain"))

    @property
    def html_links(self) -> list[str]:
        """Every address that the HTML part leads to."""
        anchors = _Anchors()
        anchors.feed(self.part("html"))
        return anchors.addresses


class MailServer:
    """An SMTP server that keeps what it takes. Its faults are switched on and off while it runs."""

    def __init__(self) -> None:
        self.port = free_port()
        #: How long it takes to accept a mail, in seconds.
        self.delay = 0.0
        #: What it answers to every recipient instead of taking the mail, such as ``550 5.1.1 No``.
        self.refusal: str | None = None
        #: How many mails it is being handed right now, and how many recipients it has refused.
        self.in_hand = 0
        self.refused = 0
        self._mails: list[Mail] = []
        self._arrived = threading.Condition()
        self._controller: Controller | None = None

    def __enter__(self) -> MailServer:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def up(self) -> None:
        """Listen. Does nothing when it does already."""
        if self._controller is None:
            self._controller = Controller(_Keeper(self), hostname="127.0.0.1", port=self.port)
            self._controller.start()

    def down(self) -> None:
        """Refuse connections."""
        controller, self._controller = self._controller, None
        if controller is not None:
            controller.stop()

    def be_well(self) -> None:
        """Have no faults."""
        self.delay, self.refusal = 0.0, None
        self.up()

    def keep(self, mail: Mail) -> None:
        """Take a mail."""
        with self._arrived:
            self._mails.append(mail)
            self._arrived.notify_all()

    def mails(self, to: str, holding: str = "") -> list[Mail]:
        """Return the mails that arrived for an address and have a link with ``holding`` in it."""
        with self._arrived:
            return [mail for mail in self._mails if to in mail.recipients and holding in " ".join(mail.links)]

    def wait_for(self, to: str, holding: str = "", patience: float = PATIENCE) -> Mail:
        """Return the newest mail for an address that has a link with ``holding`` in it, as soon as there is one."""
        with self._arrived:
            self._arrived.wait_for(lambda: self.mails(to, holding), patience)
        found = self.mails(to, holding)
        assert found, f"no mail with a link to …{holding}… has arrived for {to}"
        return found[-1]

    def link(self, to: str, kind: str) -> str:
        """Return the link of the newest mail with one to ``verify`` or ``password-reset``."""
        # With a token: notices lead to the page that asks for a link.
        pattern = re.compile(rf"/auth/{kind}/[\w.-]{{40,}}")

        def links() -> list[str]:
            return [link for mail in self.mails(to) for link in mail.links if pattern.search(link)]

        with self._arrived:
            assert self._arrived.wait_for(links, PATIENCE), f"no link to {kind} has arrived for {to}"
            return links()[-1]


class _Keeper:
    """aiosmtpd's view of a mail server."""

    def __init__(self, server: MailServer) -> None:
        self._server = server

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._server.refusal is not None:
            self._server.refused += 1
            return self._server.refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self._server.in_hand += 1
        try:
            # When the sender is killed meanwhile, the mail is lost with this coroutine.
            await asyncio.sleep(self._server.delay)
        finally:
            self._server.in_hand -= 1
        content = envelope.content
        assert isinstance(content, bytes)
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self._server.keep(Mail(tuple(envelope.rcpt_tos), message))
        return "250 OK"


class AppServer:
    """The example app under gunicorn, with three processes of eight threads unless ``options`` say otherwise."""

    def __init__(self, uri: str, mail: MailServer, folder: Path, **settings: Any) -> None:
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.mail = mail
        self.log = folder / "gunicorn.log"
        self._conf = folder / "gunicorn.conf.py"
        self._conf.write_text(_GUNICORN)
        self.settings: dict[str, Any] = {
            "SQLALCHEMY_DATABASE_URI": uri,
            "SECRET_KEY": "0123456789abcdef0123456789abcdef",
            "MAIL_SERVER": "127.0.0.1",
            "MAIL_PORT": mail.port,
            "MAIL_DEFAULT_SENDER": "accounts@example.com",
            "ACCOUNTFLOW_BASE_URL": self.base_url,
            "ACCOUNTFLOW_RATELIMIT_ENABLED": False,
            "ACCOUNTFLOW_BCRYPT_ROUNDS": 4,
            "ACCOUNTFLOW_ALLOW_INSECURE": True,
            # Volleys are what these tests are about; how many of them are refused is proved elsewhere.
            "ACCOUNTFLOW_HASH_QUEUE": 1000,
            "ACCOUNTFLOW_HASH_WAIT": 60,
            **settings,
        }
        self._process: ProcessGroup | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of the server and of its commands."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLASK_")}
        given = {key: value if isinstance(value, str) else json.dumps(value) for key, value in self.settings.items()}
        return {**inherited, **{f"FLASK_{key}": value for key, value in given.items()}}

    def flask(self, *command: str) -> str:
        """Run a command of the app and return what it printed."""
        line = [sys.executable, "-m", "flask", "--app", "example_app", *command]
        done = subprocess.run(
            line, cwd=ROOT, env=dict(self.environment), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def runs(self) -> bool:
        """Whether it was started and not ended."""
        return self._process is not None

    def start(self, *options: str) -> None:
        """Start, and return when it serves. What an earlier process left behind is found there again."""
        line = [sys.executable, "-m", "gunicorn", "--config", str(self._conf), "--bind", f"127.0.0.1:{self.port}"]
        line += ["--workers", "3", "--threads", "8", "--worker-class", "gthread", "--graceful-timeout", "10", *options]
        with self.log.open("ab") as log:
            self._process = ProcessGroup(
                [*line, "example_app:create_app()"],
                cwd=ROOT,
                env=dict(self.environment),
                stdout=log,
                stderr=log,
            )
        try:
            wait_until(self._serves, f"the server answers; its log is {self.log}")
        except BaseException:
            self.kill()
            raise

    def _serves(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"The server has ended:\n{self.log.read_text()[-4000:]}")
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz", headers={"Connection": "close"})
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def stop(self) -> float:
        """End by SIGTERM, and return how many seconds that took."""
        process, self._process = self._process, None
        if process is None:
            return 0.0
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill_all()
            raise
        return time.monotonic() - started

    def kill(self) -> None:
        """End all processes at once, as a power cut would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill_all()


@contextmanager
def serving(uri: str, folder: Path, **settings: Any) -> Iterator[AppServer]:
    """Yield the example app, on an empty database that its migrations fill, with a mail server of its own."""
    with MailServer() as mail:
        server = AppServer(uri, mail, folder, **settings)
        server.flask("db", "upgrade")
        server.start()
        try:
            yield server
        finally:
            server.stop()
