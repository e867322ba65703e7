"""SMTP: against a real server, and against servers that misbehave."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import flask_mail
import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword
from databases import NOW, Rows, sqlite  # noqa: F401
from flask import Flask

from flask_accountflow.errors import MailDeferred, MailFault, MailRejected
from flask_accountflow.mail.delivery import Deliverer
from flask_accountflow.mail.letter import Letter
from flask_accountflow.mail.transports import Unreachable
from flask_accountflow.mail_smtp import SmtpTransport
from flask_accountflow.store.queue import Waiting

LETTER = Letter(
    to="ada@example.com",
    subject="Grüße von Shop",
    text="Hello,\n\nhttps://shop.example/auth/verify/abc\n",
    html="<p>Hello</p>\n",
    message_id="0123@shop.example",
    sender="hello@shop.example",
    sender_name="Shop, Ltd",
    date=NOW,
    language="de",
    template="verify",
    reply_to="help@shop.example",
)


def make_app(port: int, **config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update({"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": port, **config})
    flask_mail.Mail(app)
    return app


def transport(port: int, *, timeout: float = 0.5, ca_file: Path | None = None, **config: Any) -> SmtpTransport:
    return SmtpTransport(make_app(port, **config), timeout, None if ca_file is None else str(ca_file))


def send(to: SmtpTransport, *letters: Letter) -> None:
    with to.connect() as connection:
        for letter in letters or (LETTER,):
            connection.send(letter)


def refusal(to: SmtpTransport) -> MailFault:
    with pytest.raises(MailFault) as caught:
        send(to)
    return caught.value


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


# A real server.


class Mailbox:
    """Takes every mail, and notes what happened."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.greetings = 0
        self.logins: list[bool] = []
        self.said_goodbye = threading.Event()

    async def handle_EHLO(self, server: Any, session: Any, envelope: Any, hostname: str, answers: list[str]) -> Any:
        session.host_name = hostname
        self.greetings += 1
        return answers

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        self.envelopes.append(envelope)
        self.logins.append(session.authenticated)
        return "250 taken"

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:
        self.said_goodbye.set()
        return "221 bye"


@contextmanager
def smtp_server(**options: Any) -> Iterator[tuple[int, Mailbox]]:
    """Run a mail server in this process and yield its port and what it gets."""
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port(), ready_timeout=10, **options)
    controller.start()
    try:
        yield controller.port, mailbox
    finally:
        controller.stop()


def test_letter_arrives() -> None:
    """A letter arrives with both parts, our headers and exactly one recipient."""
    with smtp_server() as (port, mailbox):
        send(transport(port))

    [envelope] = mailbox.envelopes
    message: Any = message_from_bytes(envelope.content, policy=policy.default)
    assert (envelope.mail_from, envelope.rcpt_tos) == ("hello@shop.example", ["ada@example.com"])
    assert (message["To"], message["Subject"]) == ("ada@example.com", "Grüße von Shop")
    assert message["From"].addresses[0].display_name == "Shop, Ltd"
    assert (message["Message-ID"], message["Date"].datetime) == ("<0123@shop.example>", NOW)
    assert (message["Auto-Submitted"], message["Content-Language"]) == ("auto-generated", "de")
    assert message["Reply-To"] == "help@shop.example"
    assert message.get_content_type() == "multipart/alternative"
    text, html = (part.get_content().replace("\r\n", "\n") for part in message.iter_parts())
    assert (text, html) == (LETTER.text, LETTER.html)


def test_one_connection() -> None:
    """Several letters go through one connection, which ends with a goodbye."""
    with smtp_server() as (port, mailbox):
        send(transport(port), LETTER, LETTER, LETTER)
        assert mailbox.said_goodbye.wait(5)

    assert (len(mailbox.envelopes), mailbox.greetings) == (3, 1)


def test_max_emails() -> None:
    """MAIL_MAX_EMAILS is how many letters go through one connection."""
    with smtp_server() as (port, mailbox):
        send(transport(port, MAIL_MAX_EMAILS=2), LETTER, LETTER, LETTER)

    assert (len(mailbox.envelopes), mailbox.greetings) == (3, 2)


def test_unused_connection() -> None:
    """A connection without letters opens nothing."""
    with smtp_server() as (port, mailbox), transport(port).connect() as connection:
        connection.abort()

    assert mailbox.greetings == 0


@pytest.mark.parametrize("is_suppressed", [True, False])
def test_signal(is_suppressed: bool) -> None:
    """Flask-Mail's signal tells of each letter, also when MAIL_SUPPRESS_SEND keeps it from being sent."""
    with smtp_server() as (port, mailbox):
        app = make_app(port, MAIL_SUPPRESS_SEND=is_suppressed)
        mail = flask_mail.Mail(app)
        with mail.record_messages() as messages:
            send(SmtpTransport(app, 0.5, None))

    [message] = messages
    assert len(mailbox.envelopes) == (0 if is_suppressed else 1)
    assert (message.recipients, message.subject) == (["ada@example.com"], "Grüße von Shop")
    assert (message.body, message.html) == (LETTER.text, LETTER.html)
    assert (message.sender, message.reply_to) == ("Shop, Ltd <hello@shop.example>", "help@shop.example")
    assert (message.msgId, message.date) == ("<0123@shop.example>", NOW.timestamp())
    assert message.extra_headers["Auto-Submitted"] == "auto-generated"
    assert "multipart/mixed" not in message.as_string()
    assert b"Message-ID: <0123@shop.example>\r\n" in message.as_bytes()


def test_failing_receiver(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that fails does not make a letter that was sent look unsent."""

    def receiver(sender: Any, message: Any) -> None:
        raise ZeroDivisionError("in a receiver")

    with smtp_server() as (port, mailbox), flask_mail.email_dispatched.connected_to(receiver):
        send(transport(port), replace(LETTER, sender_name=""))

    assert len(mailbox.envelopes) == 1
    assert "in a receiver" in caplog.text


def test_no_sender() -> None:
    """Without a sender nothing is sent, and the operator reads why."""
    with smtp_server() as (port, mailbox), pytest.raises(Unreachable, match="MAIL_DEFAULT_SENDER"):
        send(transport(port), replace(LETTER, sender=""))

    assert mailbox.greetings == 0


@pytest.mark.parametrize(("config", "is_shown"), [({}, False), ({"MAIL_DEBUG": 1}, True), ({"DEBUG": True}, False)])
def test_dialogue_is_private(config: dict[str, Any], is_shown: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """The dialogue, which holds links, is shown only when MAIL_DEBUG asks for it; debug mode is not enough."""
    with smtp_server() as (port, _):
        send(transport(port, **config))

    assert ("auth/verify/abc" in capfd.readouterr().err) == is_shown


def log_in(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    is_right = isinstance(data, LoginPassword) and data.password == b"right"
    return AuthResult(success=is_right, handled=False)


def test_login() -> None:
    """User name and password are used."""
    with smtp_server(authenticator=log_in, auth_require_tls=False) as (port, mailbox):
        send(transport(port, MAIL_USERNAME="shop", MAIL_PASSWORD="right"))

    assert mailbox.logins == [True]


def test_wrong_password() -> None:
    """A wrong password is the operator's fault: the mail waits."""
    with smtp_server(authenticator=log_in, auth_require_tls=False) as (port, mailbox):
        fault = refusal(transport(port, MAIL_USERNAME="shop", MAIL_PASSWORD="wrong"))

    assert isinstance(fault, Unreachable)
    assert str(fault).startswith("535 ")
    assert mailbox.envelopes == []


# TLS.


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """Make a certificate that signed itself; return it and the server's context."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("the program openssl makes the certificates of this test")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    command += ["-addext", f"subjectAltName={name}", "-addext", "keyUsage=digitalSignature,keyCertSign"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for the test server, and the server's context."""
    return certificate(tmp_path_factory.mktemp("trusted"), "IP:127.0.0.1")


@pytest.fixture(scope="module")
def misnamed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for another server."""
    return certificate(tmp_path_factory.mktemp("misnamed"), "DNS:mx.example")


TLS = pytest.mark.parametrize(
    ("config", "option"), [({"MAIL_USE_TLS": True}, "tls_context"), ({"MAIL_USE_SSL": True}, "ssl_context")]
)


@contextmanager
def tls_server(option: str, context: ssl.SSLContext) -> Iterator[tuple[int, list[bytes]]]:
    """Run a server whose certificate is not trusted; yield its port and what it was told inside TLS."""
    told: list[bytes] = []

    def serve(peer: Peer) -> None:
        if option == "tls_context":
            peer.say("220 hi")
            peer.hear()
            peer.say("250-me", "250 STARTTLS")
            peer.hear()
            peer.say("220 go")
        with suppress(OSError), context.wrap_socket(peer.socket, server_side=True) as secure:
            secure.sendall(b"220 hi\r\n" if option == "ssl_context" else b"")
            told.append(secure.recv(1000))

    with server(serve) as port:
        yield port, told


@TLS
def test_trusted_server(config: dict[str, Any], option: str, trusted: tuple[Path, ssl.SSLContext]) -> None:
    """A server with a trusted certificate gets the letter, by STARTTLS and by TLS from the start."""
    ca_file, context = trusted

    with server_with_tls(option, context) as (port, mailbox):
        send(transport(port, ca_file=ca_file, **config))

    assert len(mailbox.envelopes) == 1


@contextmanager
def server_with_tls(option: str, context: ssl.SSLContext) -> Iterator[tuple[int, Mailbox]]:
    if option == "tls_context":
        with smtp_server(tls_context=context, require_starttls=True) as running:
            yield running
        return
    # The controller of aiosmtpd looks whether it runs by a plain connection; this one goes in between.
    with smtp_server() as (inner, mailbox):

        def serve(peer: Peer) -> None:
            secure = context.wrap_socket(peer.socket, server_side=True)
            with secure, socket.create_connection(("127.0.0.1", inner), 5) as plain:
                back = threading.Thread(target=copy, args=(plain, secure), daemon=True)
                back.start()
                copy(secure, plain)
                back.join(5)

        with server(serve) as port:
            yield port, mailbox


def copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@TLS
def test_untrusted_server(config: dict[str, Any], option: str, trusted: tuple[Path, ssl.SSLContext]) -> None:
    """A server whose certificate nobody vouches for is told nothing."""
    with tls_server(option, trusted[1]) as (port, told):
        fault = refusal(transport(port, **config))

    assert isinstance(fault, Unreachable)
    assert "CERTIFICATE_VERIFY_FAILED" in str(fault)
    assert told in ([], [b""])


@TLS
def test_misnamed_server(config: dict[str, Any], option: str, misnamed: tuple[Path, ssl.SSLContext]) -> None:
    """A server with the certificate of another one is told nothing."""
    with tls_server(option, misnamed[1]) as (port, told):
        fault = refusal(transport(port, ca_file=misnamed[0], **config))

    assert isinstance(fault, Unreachable)
    assert "CERTIFICATE_VERIFY_FAILED" in str(fault)
    assert told in ([], [b""])


def test_no_starttls() -> None:
    """A server that does not offer STARTTLS where it is required gets neither password nor letter."""
    with smtp_server(authenticator=log_in, auth_require_tls=False) as (port, mailbox):
        fault = refusal(transport(port, MAIL_USE_TLS=True, MAIL_USERNAME="shop", MAIL_PASSWORD="right"))

    assert isinstance(fault, Unreachable)
    assert "STARTTLS" in str(fault)
    assert mailbox.envelopes == []


def test_missing_ca_file(tmp_path: Path) -> None:
    """A missing file of certificates is the operator's fault: the mail waits."""
    with smtp_server() as (port, mailbox):
        fault = refusal(transport(port, ca_file=tmp_path / "none.pem"))

    assert isinstance(fault, Unreachable)
    assert mailbox.greetings == 0


# Servers that misbehave.


class Peer:
    """One connection of a hand-written server."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.file = connection.makefile("rb")

    def say(self, *lines: str) -> None:
        self.socket.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def hear(self) -> str:
        return self.file.readline().decode().rstrip()

    def drip(self) -> None:
        """Begin an answer and never end it."""
        while True:
            self.socket.sendall(b"2")
            time.sleep(0.05)


@contextmanager
def server(serve: Callable[[Peer], None]) -> Iterator[int]:
    """Run ``serve`` for each connection to the port that is yielded."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def handle(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            peer = Peer(connection)
            with peer.file:
                serve(peer)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.settimeout(5)
                threads.append(threading.Thread(target=handle, args=(connection,)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (accepting, *threads):
            thread.join(10)


Answer = str | Callable[[Peer], None]


class Script:
    """A server that answers 250, but to some steps as told. The steps are the commands, ``banner`` and ``dot``."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.heard: list[str] = []
        self.mails: list[bytes] = []

    def __call__(self, peer: Peer) -> None:
        self.reply(peer, "banner", "220 hi")
        while line := peer.hear():
            step = line.split()[0].upper()
            self.heard.append(step)
            self.reply(peer, step, {"DATA": "354 go on", "QUIT": "221 bye"}.get(step, "250 fine"))
            if step == "DATA" and "DATA" not in self.answers:
                lines = iter(peer.file.readline, b".\r\n")
                self.mails.append(b"".join(lines))
                self.reply(peer, "dot", "250 taken")

    def reply(self, peer: Peer, step: str, usual: str) -> None:
        answer = self.answers.get(step, usual)
        if isinstance(answer, str):
            peer.say(answer)
        else:
            answer(peer)


def cut(peer: Peer) -> None:
    """Close the connection."""
    peer.socket.shutdown(socket.SHUT_RDWR)


def fall_silent(peer: Peer) -> None:
    """Answer nothing, for as long as the client waits."""
    peer.hear()


@pytest.mark.parametrize(
    ("answers", "kind", "reason"),
    [
        ({"banner": "421 full"}, Unreachable, "421 full"),
        ({"banner": "554 no service for you"}, Unreachable, "554 no service for you"),
        ({"banner": fall_silent}, Unreachable, "timed out"),
        ({"banner": cut}, Unreachable, "SMTPServerDisconnected: Connection unexpectedly closed"),
        ({"EHLO": "550 go away", "HELO": "550 go away"}, Unreachable, "550 go away"),
        ({"MAIL": fall_silent}, MailDeferred, "timed out"),
        ({"MAIL": "421 closing"}, MailDeferred, "421 closing"),
        ({"MAIL": "451 error"}, MailDeferred, "451 error"),
        ({"MAIL": "530 5.7.0 log in first"}, MailDeferred, "530 5.7.0 log in first"),
        ({"MAIL": "552 too large"}, MailRejected, "552 too large"),
        ({"RCPT": "421 closing"}, MailDeferred, "421 closing"),
        ({"RCPT": "450 <ada@example.com> is busy"}, MailDeferred, "450 <address> is busy"),
        ({"RCPT": "452 disk full"}, MailDeferred, "452 disk full"),
        ({"RCPT": "550 <ada@example.com> is unknown"}, MailRejected, "550 <address> is unknown"),
        ({"RCPT": "553 not you"}, MailRejected, "553 not you"),
        ({"DATA": "554 nothing valid"}, MailRejected, "554 nothing valid"),
        ({"DATA": fall_silent}, MailDeferred, "timed out"),
        ({"dot": "554 spam"}, MailRejected, "554 spam"),
        ({"dot": "451 scanner is down"}, MailDeferred, "451 scanner is down"),
        ({"dot": fall_silent}, MailDeferred, "timed out"),
        ({"dot": cut}, MailDeferred, "SMTPServerDisconnected: Connection unexpectedly closed"),
    ],
)
def test_answers(answers: dict[str, Answer], kind: type[MailFault], reason: str) -> None:
    """What a server answers decides whether the mail waits or is given up, and the reason names no address."""
    started = time.monotonic()

    with server(Script(**answers)) as port:
        fault = refusal(transport(port, timeout=0.2))

    assert type(fault) is kind
    assert reason in str(fault)
    assert time.monotonic() - started < 2


def test_closed_port() -> None:
    """Where nothing listens the mail waits."""
    fault = refusal(transport(free_port()))

    assert type(fault) is Unreachable
    assert "ConnectionRefusedError" in str(fault)


@pytest.mark.parametrize(
    ("step", "kind"),
    [("banner", Unreachable), ("EHLO", Unreachable), ("MAIL", MailDeferred), ("dot", MailDeferred)],
)
def test_dripping_server(step: str, kind: type[MailFault]) -> None:
    """A server that answers a byte at a time, which no time-out notices, is left when another thread says so."""
    with server(Script(**{step: Peer.drip})) as port, transport(port).connect() as connection:
        watchdog = threading.Timer(0.7, connection.abort)
        watchdog.start()
        started = time.monotonic()

        with pytest.raises(MailDeferred, match="time-out") as caught:
            connection.send(LETTER)

        assert type(caught.value) is kind
        assert 0.6 < time.monotonic() - started < 2
        watchdog.join()


@pytest.mark.parametrize("config", [{}, {"MAIL_USE_TLS": True}, {"MAIL_USERNAME": "shop", "MAIL_PASSWORD": "right"}])
def test_abort_while_connecting(config: dict[str, Any]) -> None:
    """A send that is aborted before there is anything to shut goes no further than connecting."""
    script = Script()

    with server(script) as port, transport(port, **config).connect() as connection:
        connection.abort()
        with pytest.raises(Unreachable, match="time-out"):
            connection.send(LETTER)

    assert {"MAIL", "STARTTLS", "AUTH"}.isdisjoint(script.heard)


def test_abort_after_the_end() -> None:
    """An abort that comes late does no harm."""
    with server(Script()) as port, transport(port).connect() as connection:
        connection.send(LETTER)
        connection.close()  # type: ignore[attr-defined]

        connection.abort()


def test_rude_server() -> None:
    """A server that is gone before our goodbye has the letter nevertheless."""
    script = Script(dot=lambda peer: (peer.say("250 taken"), cut(peer)))

    with server(script) as port:
        send(transport(port))

    assert len(script.mails) == 1


# Together with the outbox.


def render(mail: Waiting) -> Letter:
    """Return the letter of a mail."""
    return replace(LETTER, to=mail.to_addr, message_id=mail.message_id)


def deliverer(rows: Rows, to: SmtpTransport, now: list[Any], **options: Any) -> Deliverer:
    return Deliverer(rows.queue(), to, render, lambda: now[0], lambda *event, **payload: None, **options)


def test_connection_cut_after_the_dot(sqlite: sa.Engine) -> None:  # noqa: F811
    """A letter of unknown fate is sent again under the same Message-ID, and that is all."""
    rows, now = Rows(sqlite), [NOW]
    mail = rows.mail(message_id="stable@shop.example")
    script = Script(dot=cut)

    with server(script) as port:
        worker = deliverer(rows, transport(port), now)
        worker.deliver_due()
        script.answers.clear()
        now[0] = NOW + timedelta(seconds=5)
        worker.deliver_due()
        worker.deliver_due()

    ids = [message_from_bytes(raw)["Message-ID"] for raw in script.mails]
    assert ids == ["<stable@shop.example>"] * 2
    assert rows.stored(mail).state == "sent"


def test_deadline(sqlite: sa.Engine) -> None:  # noqa: F811
    """A dripping server costs one mail its deadline; the others go to a connection of their own."""
    rows = Rows(sqlite)
    hung, fine = rows.mail(), rows.mail()
    script = Script(RCPT=Peer.drip)

    def drip_once(peer: Peer) -> None:
        script.answers.clear()
        peer.drip()

    script.answers["RCPT"] = drip_once
    started = time.monotonic()
    with server(script) as port:
        deliverer(rows, transport(port), [NOW], deadline=0.5).deliver_due()

    assert time.monotonic() - started < 3
    assert (rows.stored(hung).state, rows.stored(fine).state) == ("pending", "sent")
    assert rows.stored(hung).last_error == "time-out: the server did not finish in time"
