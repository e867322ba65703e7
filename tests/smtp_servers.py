"""Mail servers on loopback ports that misbehave as told, and certificates for them."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# Seconds. A thread of a server that is still there then has not noticed that its client is gone.
PATIENCE = 10


@dataclass(frozen=True)
class Taken:
    """A mail that a server has read to its end, whatever it answered then."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes

    @property
    def message(self) -> EmailMessage:
        """The mail, parsed."""
        parsed = message_from_bytes(self.content, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed

    @property
    def message_id(self) -> str:
        """The Message-ID, by which two copies of one mail are known."""
        return str(self.message["Message-ID"])

    @property
    def links(self) -> list[str]:
        """Every address in the text."""
        text = self.message.get_body(("plain",))
        assert isinstance(text, EmailMessage)
        return re.findall(r"https?://\S+", text.get_content())


class Peer:
    """One connection of a server."""

    def __init__(self, script: Script, connection: socket.socket) -> None:
        self.script = script
        self.socket = connection
        self.file = connection.makefile("rb")
        self.is_secure = False
        #: What was heard last, and what was said last.
        self.line = ""
        self.said = ""
        #: Of the mail that was begun; None while there is none.
        self.sender: str | None = None
        self.recipients: list[str] = []

    def say(self, *lines: str) -> None:
        """Send lines at once."""
        self.said = lines[-1]
        self.socket.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def hear(self) -> str:
        """Return the next line; empty when the client is gone."""
        self.line = self.file.readline().decode("utf-8", "replace").rstrip("\r\n")
        return self.line

    def secure(self, context: ssl.SSLContext) -> None:
        """Go on within TLS."""
        self.file.close()
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.file = self.socket.makefile("rb")
        self.is_secure = True

    def close(self) -> None:
        """Close the connection."""
        self.file.close()
        self.socket.close()


#: What a server does at a step: say a line or several, or something else. A list is for one time each, then as usual.
Answer = str | tuple[str, ...] | Callable[[Peer], Any]


class Script:
    """A server that answers by the book, but to some steps as told.

    The steps are the commands, ``connect`` (before TLS from the start), ``banner`` and ``dot`` (the end of a mail).
    ``answers`` may be changed while it runs. ``tls`` is its certificate; it is used from the start or by STARTTLS.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        from_the_start: bool = False,
        offers: Iterable[str] = (),
        **answers: Answer | list[Answer],
    ) -> None:
        self.answers = answers
        #: The steps and the lines that were heard, over all connections, and those that were heard within TLS.
        self.heard: list[str] = []
        self.lines: list[str] = []
        self.heard_in_secret: list[str] = []
        self.mails: list[Taken] = []
        #: How many connections there have been, and how many there are.
        self.connections = 0
        self.open = 0
        self.over = threading.Event()
        self._tls = tls
        self._from_the_start = from_the_start
        self._offers = tuple(offers)
        self._arrived = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._peers: list[Peer] = []
        self._threads = [threading.Thread(target=self._accept)]
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> Script:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads), "a client has left its connection open"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(PATIENCE / 2)
                with self._arrived:
                    self.connections += 1
                    self.open += 1
                self._threads.append(threading.Thread(target=self._handle, args=(connection,)))
                self._threads[-1].start()

    def _handle(self, connection: socket.socket) -> None:
        peer = Peer(self, connection)
        try:
            with suppress(OSError):
                self._serve(peer)
        finally:
            with suppress(OSError):
                peer.close()
            connection.close()
            with self._arrived:
                self.open -= 1

    def _serve(self, peer: Peer) -> None:
        if "connect" in self.answers:
            self._reply(peer, "connect", "")
        if self._tls is not None and self._from_the_start:
            peer.secure(self._tls)
        self._reply(peer, "banner", "220 mail.example ESMTP")
        while line := peer.hear():
            step = line.split()[0].upper()
            self.heard.append(step)
            self.lines.append(line)
            if peer.is_secure:
                self.heard_in_secret.append(step)
            self._obey(peer, step, line)

    def _obey(self, peer: Peer, step: str, line: str) -> None:
        if not self._reply(peer, step, self._usual(peer, step)):
            return
        if step == "MAIL":
            peer.sender, peer.recipients = _path(line), []
        elif step == "RCPT":
            peer.recipients.append(_path(line))
        elif step == "RSET":
            peer.sender = None
        elif step == "STARTTLS" and self._tls is not None:
            peer.secure(self._tls)
        elif step == "QUIT":
            cut(peer)
        elif step == "DATA":
            self._take(peer)

    def _usual(self, peer: Peer, step: str) -> Answer:
        if step == "EHLO":
            return self._greeting(peer)
        # RFC 5321 section 4.1.4: one mail at a time, and its sender first.
        if step in {"MAIL", "RCPT", "DATA"} and (peer.sender is None) != (step == "MAIL"):
            return "503 bad sequence"
        return {"DATA": "354 go on", "QUIT": "221 bye", "STARTTLS": "220 go"}.get(step, "250 fine")

    def _greeting(self, peer: Peer) -> Answer:
        offers = self._offers
        if self._tls is not None and not self._from_the_start and not peer.is_secure:
            offers = (*offers, "STARTTLS")
        *lines, last = ("mail.example", *offers)
        return (*(f"250-{line}" for line in lines), f"250 {last}")

    def _take(self, peer: Peer) -> None:
        lines: list[bytes] = []
        while (line := peer.file.readline()) != b".\r\n":
            if not line:
                return  # the client is gone
            lines.append(line)
        content = b"".join(line[1:] if line.startswith(b".") else line for line in lines)
        with self._arrived:
            self.mails.append(Taken(peer.sender or "", tuple(peer.recipients), content))
            self._arrived.notify_all()
        peer.sender = None
        self._reply(peer, "dot", "250 taken")

    def _reply(self, peer: Peer, step: str, usual: Answer) -> bool:
        """Answer, and return whether that was a yes."""
        told = self.answers.get(step)
        if isinstance(told, list):
            told = told.pop(0) if told else None
        answer = usual if told is None else told
        peer.said = ""
        if callable(answer):
            answer(peer)
        else:
            peer.say(*((answer,) if isinstance(answer, str) else answer))
        return peer.said.startswith(("2", "3"))

    def be_well(self) -> None:
        """Answer by the book from now on."""
        self.answers.clear()

    def to(self, recipient: str) -> list[Taken]:
        """Return the mails for an address."""
        with self._arrived:
            return [mail for mail in self.mails if recipient in mail.recipients]

    def wait_for(self, recipient: str, copies: int = 1, patience: float = PATIENCE) -> list[Taken]:
        """Return the mails for an address as soon as there are so many."""
        with self._arrived:
            arrived = self._arrived.wait_for(
                lambda: sum(recipient in mail.recipients for mail in self.mails) >= copies, patience
            )
        assert arrived, f"not within {patience} s: {copies} mails for {recipient}"
        return self.to(recipient)


def _path(line: str) -> str:
    found = re.search(r"<(.*)>", line)
    assert found is not None, f"no path in {line!r}"
    return found[1]


# What a server may do besides saying something.


def silent(peer: Peer) -> None:
    """Answer nothing, for as long as the client waits."""
    while peer.file.read(1):
        pass


def cut(peer: Peer) -> None:
    """Close the connection."""
    # Of the TCP connection: within TLS this is how a network fails.
    socket.socket.shutdown(peer.socket, socket.SHUT_RDWR)


def say_and_cut(*lines: str) -> Callable[[Peer], None]:
    """Answer, and close the connection."""

    def answer(peer: Peer) -> None:
        peer.say(*lines)
        cut(peer)

    return answer


def drip(peer: Peer) -> None:
    """Answer a byte each 50 ms, and never come to an end: no time-out of a socket notices."""
    while not peer.script.over.wait(0.05):
        peer.socket.sendall(b"2")


def flood(peer: Peer) -> None:
    """Answer with one line after another, and never come to an end."""
    while not peer.script.over.is_set():
        peer.socket.sendall(b"250-on and on\r\n" * 1000)


#: Ways to say nothing useful, by name.
HANGS: dict[str, Callable[[Peer], None]] = {"silent": silent, "drip": drip}

# Certificates.

_DAY = timedelta(days=1)


class Authority:
    """Somebody who certifies mail servers. ``file`` holds its own certificate, for the clients that trust it."""

    def __init__(self, folder: Path, name: str = "Test Authority") -> None:
        self.folder = folder
        self.file = folder / "authority.pem"
        #: When the certificate that was made last ends.
        self.until = datetime.now(timezone.utc)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        certificate = (
            self._builder(self._name, self._key, datetime.now(timezone.utc) + 30 * _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, until: datetime) -> Any:
        ours = self._key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(until - 60 * _DAY)
            .not_valid_after(until)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ours), critical=False)
        )

    def certify(self, name: str = "127.0.0.1", *, days: int = 2, is_old_style: bool = False) -> tuple[Path, Path]:
        """Return the files of a certificate and its key. One of ``days=-1`` ended yesterday.

        In one of the old style the name stands where that of a person would.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        self.until = datetime.now(timezone.utc) + days * _DAY
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)] if is_old_style else [])
        builder = self._builder(subject, key, self.until)
        if not is_old_style:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(name)]), critical=True)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        certificate = builder.sign(self._key, hashes.SHA256())
        files = self.folder / f"{name}.{days}.pem", self.folder / f"{name}.{days}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files

    def context(self, name: str = "127.0.0.1", **options: Any) -> ssl.SSLContext:
        """Return what a server with such a certificate speaks TLS by."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certify(name, **options))
        return context


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
