"""SMTP by Flask-Mail's settings, and with its signal: bounded in time, and checked before anything is told."""

from __future__ import annotations

import base64
import hmac
import ipaddress
import logging
import re
import smtplib
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

import flask_mail
from flask import Flask

from .errors import MailDeferred, MailFault, MailRejected, MailUnsure
from .events import scrub
from .mail.letter import Letter, message_bytes
from .mail.transports import Unreachable

_log = logging.getLogger("accountflow.mail")

# Answers about our login (RFC 4954 section 6), and the one of servers that want it first: the operator's fault,
# not the mail's.
_LOGIN_CODES = frozenset({503, 530, 534, 535, 538})

# RFC 5321 section 4.5.3.1.5 allows a line 512 octets. No server has more than 128 of them to say.
_LONGEST_ANSWER = 128 * 512
_ANSWER = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)

# RFC 5321 section 2.3.5: a domain of at least two labels.
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]*[a-z0-9]", re.IGNORECASE)

# How many times as long as another step the last one may take.
_AT_THE_END = 3

# Seconds that we wait for the answer to our goodbye: it changes nothing any more.
_FAREWELL = 1.0


class SmtpTransport:
    """Sends by the mail server that Flask-Mail is configured for.

    ``timeout`` is for each step of the dialogue, in seconds. ``ca_file`` holds the certificates
    that the server's is checked against; None means those of the system. ``ehlo_name`` is the name
    to greet the server by; None means the full name of this computer, else its address.
    """

    def __init__(self, app: Flask, timeout: float, ca_file: str | None, ehlo_name: str | None = None) -> None:
        self.app = app
        self.timeout = timeout
        self._ca_file = ca_file
        self._given_name = ehlo_name

    @contextmanager
    def connect(self) -> Iterator[SmtpConnection]:
        """Return a connection, which is opened by the first letter."""
        connection = SmtpConnection(self)
        try:
            yield connection
        finally:
            connection.close()

    @cached_property
    def ehlo_name(self) -> str | None:
        """What to greet servers by; None where this computer has no full name. Asked for once: DNS may be slow."""
        name = self._given_name or socket.getfqdn()
        return name if self._given_name or _DOMAIN.fullmatch(name) else None

    def tls_context(self) -> ssl.SSLContext:
        """Return what TLS is spoken by. Made for each connection, so that a renewed file is read."""
        try:
            context = ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:
            raise smtplib.SMTPException(
                f"ACCOUNTFLOW_MAIL_CA_FILE cannot be read: {type(error).__name__}: {error.strerror}"
            ) from None
        # RFC 8996. Some builds of Python leave it to the system, which may demand more, but not less.
        context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
        return context


class SmtpConnection:
    """Letters of one thread, to one server. ``steps`` is the dialogue about the last one; see :func:`.steps`."""

    def __init__(self, transport: SmtpTransport) -> None:
        self.steps: list[str] = []
        self._app = transport.app
        self._mail = transport.app.extensions["mail"]
        self._dialogue = _Dialogue(transport, self._mail, self.steps)

    def send(self, letter: Letter) -> None:
        """Hand the letter over, and send Flask-Mail's signal. Under ``MAIL_SUPPRESS_SEND`` only the latter."""
        self.steps.clear()
        if not letter.sender:
            raise Unreachable("MAIL_DEFAULT_SENDER is missing")
        message = Message(letter)
        if self._mail.suppress:
            self.steps.append("nothing is sent: MAIL_SUPPRESS_SEND is on")
        else:
            self._hand_over(letter, message.as_bytes())
        self._announce(message)

    def _hand_over(self, letter: Letter, content: bytes) -> None:
        try:
            self._dialogue.hand_over(letter, content)
        except (OSError, ValueError) as error:  # smtplib's own are OSErrors
            raise self._fault(error, letter) from None  # its text may hold the address

    def _fault(self, error: Exception, letter: Letter) -> MailFault:
        dialogue = self._dialogue
        code, words = _answer(error)
        if dialogue.is_aborted:
            code, words = 0, "time-out: the server did not finish in time"
        words = scrub(words, letter.to)
        self.steps.append(f"{dialogue.step}: {words}")
        if not code:
            words = f"{words} (at {dialogue.step})"
            dialogue.close()  # without a goodbye: nobody listens
        if dialogue.step == "end of DATA" and (dialogue.is_aborted or isinstance(error, TimeoutError)):
            return MailUnsure(words)
        # A refusal of the sender is about all mails alike.
        if not dialogue.is_reached or (code and dialogue.step == "MAIL FROM"):
            return Unreachable(words)
        return MailRejected(words) if code >= 500 and code not in _LOGIN_CODES else MailDeferred(words)

    def _announce(self, message: Message) -> None:
        # The letter has gone: a fault of a receiver must not have it sent again.
        try:
            with self._app.app_context():
                flask_mail.email_dispatched.send(self._app, message=message)
        except Exception:
            _log.exception("A receiver of email_dispatched failed.")

    def abort(self) -> None:
        """Shut the connection from another thread."""
        self._dialogue.abort()

    def close(self) -> None:
        """Say goodbye to the server."""
        self._dialogue.hang_up()


class Message(flask_mail.Message):
    """A letter as Flask-Mail's receivers know it."""

    def __init__(self, letter: Letter) -> None:
        # All by hand: Flask-Mail's own makes a Message-ID first, for which it asks DNS for the name of this computer.
        self.letter = letter
        self.subject = letter.subject
        self.recipients = [letter.to]
        self.sender = f"{letter.sender_name} <{letter.sender}>" if letter.sender_name else letter.sender
        self.reply_to = letter.reply_to
        self.cc, self.bcc, self.attachments = [], [], []
        self.body = letter.text
        self.alts = {"html": letter.html}
        self.date = letter.date.timestamp()
        self.msgId = f"<{letter.message_id}>"
        self.charset = None
        self.extra_headers = dict(letter.headers())
        self.mail_options, self.rcpt_options = [], []

    def as_bytes(self) -> bytes:
        """Return the letter in its MIME form."""
        return message_bytes(self.letter)

    def as_string(self) -> str:
        """Return the letter in its MIME form."""
        return message_bytes(self.letter).decode("ascii")


class _Dialogue(smtplib.SMTP):
    """A dialogue with the server, and a new one when that has ended. ``step`` is where it is."""

    def __init__(self, transport: SmtpTransport, mail: Any, steps: list[str]) -> None:
        super().__init__(local_hostname="")  # which is known later; without one smtplib asks DNS
        self.step = "connect"
        #: Whether the server is ready for mails, or was until the last fault.
        self.is_reached = False
        self.is_aborted = False
        self._transport = transport
        self._mail = mail
        self._steps = steps
        self._mails = 0
        self._is_clean = True
        self._secrets: list[str] = []
        # Flask-Mail takes app.debug for it, and the protocol holds the password and the links.
        self.set_debuglevel(int(transport.app.config.get("MAIL_DEBUG") or 0))

    def hand_over(self, letter: Letter, content: bytes) -> None:
        """Send to the one recipient. Raises :exc:`OSError`, or :exc:`ValueError` for what cannot be said."""
        self._begin(letter.sender, len(content))
        self._ask("RCPT TO", f"RCPT TO:<{letter.to}>")
        self._ask("DATA", "DATA", good=3)
        # RFC 5321 section 4.5.2: a line with nothing but a dot is the end.
        self.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        # Many servers search it for malware now. RFC 5321 section 4.5.3.2.6 gives them 10 minutes; we give what fits
        # the deadline of a mail, since each try that is broken off here may be another copy.
        self._socket.settimeout(_AT_THE_END * self._transport.timeout)
        self._hear("end of DATA")
        self._socket.settimeout(self._transport.timeout)
        self._is_clean = True

    def _begin(self, sender: str, size: int) -> None:
        """Begin a mail on the connection that is open, or on a new one."""
        is_worn = bool(self._mail.max_emails) and self._mails >= self._mail.max_emails
        if self.is_reached and self.sock is not None and not is_worn:
            try:
                if not self._is_clean:
                    self._ask("RSET", "RSET")
                self._name_sender(sender, size)
                return
            except OSError:
                self._check_time()
                # Servers end connections that were idle, or had their share of mails: no fault of this one.
                self.close()
        self.hang_up()
        self._open()
        self._name_sender(sender, size)

    def _name_sender(self, sender: str, size: int) -> None:
        self._is_clean = False
        self._mails += 1
        self._ask("MAIL FROM", f"MAIL FROM:<{sender}>" + (f" SIZE={size}" if self.has_extn("size") else ""))

    def _open(self) -> None:
        """Connect, secure the connection and log in, as the settings say."""
        self.is_reached = False
        self._mails, self._is_clean = 0, True
        self._check_time()
        self._connect()
        if self._mail.use_ssl:
            self._secure()
        self._hear("greeting")
        self._greet()
        if self._mail.use_tls and not self._mail.use_ssl:
            self._start_tls()
        elif not self._mail.use_ssl:
            self._steps.append("TLS: none, neither MAIL_USE_TLS nor MAIL_USE_SSL is set")
        self._log_in()
        self._check_time()
        self.is_reached = True

    def _connect(self) -> None:
        server, standard = self._mail.server, smtplib.SMTP_SSL_PORT if self._mail.use_ssl else smtplib.SMTP_PORT
        port = self._mail.port or standard
        self.step = f"connect {server}:{port}"
        fault = OSError("the server has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(server, port, type=socket.SOCK_STREAM):
            self._check_time()
            # Kept before it connects, so that another thread can abort that.
            self.sock = socket.socket(family, kind, protocol)
            self.sock.settimeout(self._transport.timeout)
            try:
                self.sock.connect(address)
            except OSError as error:
                fault = error
                self.close()
            else:
                self._check_time()
                self._steps.append(f"{self.step}: {address[0]}")
                return
        raise fault

    def _greet(self) -> None:
        self.local_hostname = self._transport.ehlo_name or _literal(self._socket)
        self.step = f"EHLO {self.local_hostname}"
        code, answer = self.ehlo()
        # RFC 5321 section 3.2: HELO is for servers that do not know EHLO, not for those that have just hung up.
        if code // 100 == 5:
            code, answer = self.helo()
        if code // 100 == 2:
            offers = (f"{name.upper()} {what.strip()}".strip() for name, what in self.esmtp_features.items())
            answer = ", ".join(offers).encode()
        self._accept(code, answer)

    def _start_tls(self) -> None:
        self.step = "STARTTLS"
        if not self.has_extn("starttls"):
            raise smtplib.SMTPNotSupportedError("the server offers no STARTTLS, which MAIL_USE_TLS asks for")
        self._ask("STARTTLS", "STARTTLS")
        self._secure()
        self._greet()

    def _secure(self) -> None:
        self.step = "TLS"
        context = self._transport.tls_context()
        if self.file is not None:
            # Together with what somebody has added in clear: it is no answer within TLS.
            self.file.close()
            self.file = None
        # The handshake apart, so that another thread can abort it.
        self.sock = secure = context.wrap_socket(
            self._socket, server_hostname=self._mail.server, do_handshake_on_connect=False
        )
        self._check_time()
        secure.do_handshake()
        self._steps.append(scrub(f"TLS: {_certificate(secure)}"))

    def _log_in(self) -> None:
        self.step = "AUTH"
        if not (self._mail.username and self._mail.password):
            self._steps.append("AUTH: none, MAIL_USERNAME and MAIL_PASSWORD are not both set")
            return
        is_secret = isinstance(self.sock, ssl.SSLSocket)
        if not is_secret and _is_public(self._socket):
            raise smtplib.SMTPNotSupportedError(
                "MAIL_PASSWORD is not told over the Internet in clear; set MAIL_USE_TLS or MAIL_USE_SSL"
            )
        # In clear the one that does not tell the password; but servers that keep it hashed cannot do that.
        known = ("PLAIN", "LOGIN", "CRAM-MD5") if is_secret else ("CRAM-MD5", "PLAIN", "LOGIN")
        offered = self.esmtp_features.get("auth", "").upper().split()
        method = next((name for name in known if name in offered), None)
        if method is None:
            raise smtplib.SMTPNotSupportedError(
                f"MAIL_USERNAME asks for AUTH by PLAIN, LOGIN or CRAM-MD5; the server offers {offered or 'none'}"
            )
        # One try: servers shut out who fails too often.
        self._authenticate(method, str(self._mail.username), str(self._mail.password))

    def _authenticate(self, method: str, user: str, password: str) -> None:
        self.step = f"AUTH {method}"
        self._secrets = [password]
        self._encode(password)
        responses = _responses(method, user, password)
        command = self.step
        if method == "PLAIN":
            command += f" {self._encode(responses.pop(0)(b''))}"
        self._check_time()
        code, answer = self.docmd(command)
        while code == 334 and responses:
            code, answer = self.docmd(self._encode(responses.pop(0)(answer)))
        self._accept(code, answer)

    def _encode(self, response: str) -> str:
        # RFC 4954 section 4; RFC 4616 section 2 wants UTF-8, where smtplib knows ASCII only.
        text = base64.b64encode(response.encode()).decode()
        self._secrets.insert(0, text)
        return text

    def _ask(self, step: str, command: str, good: int = 2) -> None:
        self.step = step
        self._check_time()
        self.putcmd(command)
        self._hear(step, good)

    def _hear(self, step: str, good: int = 2) -> None:
        self.step = step
        self._accept(*self.getreply(), good=good)

    def _accept(self, code: int, answer: bytes, good: int = 2) -> None:
        """Note an answer; raise it unless it begins with ``good``, the digit that says all (RFC 5321 section 4.2)."""
        text = answer.decode("utf-8", "replace")
        for secret in self._secrets:
            text = text.replace(secret, "<secret>")
        words = f"{code} {text}".strip()
        if code // 100 != good:
            raise smtplib.SMTPResponseException(code, words)
        self._steps.append(f"{self.step}: {scrub(words)}")

    def getreply(self) -> tuple[int, bytes]:
        """Return code and text of an answer. smtplib's own has no end while the server goes on."""
        if self.file is None:
            self.file = self._socket.makefile("rb")
        lines, room = [], _LONGEST_ANSWER
        while True:
            line = self.file.readline(room)
            room -= len(line)
            if self.debuglevel:
                print("reply:", repr(line), file=sys.stderr)
            if not line.endswith(b"\n"):
                if room:
                    raise smtplib.SMTPServerDisconnected("the server has closed the connection")
                raise smtplib.SMTPException("the answer of the server has no end")
            found = _ANSWER.fullmatch(line.rstrip())
            if found is None:
                raise smtplib.SMTPException(f"no answer by SMTP: {line.decode('utf-8', 'replace')}")
            lines.append(found[3] or b"")
            if found[2] != b"-":
                return int(found[1]), b"\n".join(lines)

    @property
    def _socket(self) -> socket.socket:
        if self.sock is None:
            raise AssertionError("only asked for once it is connected")
        return self.sock

    def _check_time(self) -> None:
        """Raise when we were aborted while there was no socket to shut."""
        if self.is_aborted:
            raise TimeoutError

    def abort(self) -> None:
        """Make what goes on in another thread fail soon."""
        self.is_aborted = True
        sock = self.sock
        if sock is not None:
            # Of the TCP connection, not of the TLS one, which the other thread is using.
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def hang_up(self) -> None:
        """Say goodbye if there is somebody, and close."""
        sock = self.sock
        if sock is not None:
            with suppress(OSError):
                self.putcmd("QUIT")
                # RFC 5321 section 4.1.1.10 wants the answer waited for. Read once, so that nobody holds us up.
                sock.settimeout(_FAREWELL)
                sock.recv(1024)
        self.close()


def _answer(error: Exception) -> tuple[int, str]:
    """Return the server's code, or 0, and the reason in words."""
    if isinstance(error, smtplib.SMTPResponseException):
        return error.smtp_code, str(error.smtp_error)
    return 0, f"{type(error).__name__}: {error}"


def _responses(method: str, user: str, password: str) -> list[Callable[[bytes], str]]:
    """Return what is said to one challenge after another (RFC 4616, RFC 2195)."""
    if method == "PLAIN":
        return [lambda _: f"\0{user}\0{password}"]
    if method == "LOGIN":
        return [lambda _: user, lambda _: password]
    return [lambda given: f"{user} {hmac.new(password.encode(), base64.b64decode(given), 'md5').hexdigest()}"]


def _is_public(sock: socket.socket) -> bool:
    """Tell whether what is said goes over the Internet, and not to this computer or within a private network."""
    return ipaddress.ip_address(sock.getpeername()[0]).is_global


def _literal(sock: socket.socket) -> str:
    """Return our address as a name (RFC 5321 section 4.1.3)."""
    address = sock.getsockname()[0].partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _certificate(sock: ssl.SSLSocket) -> str:
    """Return in words how a connection is secured, and by whose certificate."""
    found: Any = sock.getpeercert()
    names = [value for _, value in found.get("subjectAltName", ())] or _names(found["subject"])
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(found["notAfter"]), timezone.utc)
    by = " ".join(_names(found["issuer"]))
    return f"{sock.version()}, certificate of {', '.join(names[:3])} by {by}, until {until:%Y-%m-%d}"


def _names(subject: Any) -> list[str]:
    return [value for part in subject for key, value in part if key in {"organizationName", "commonName"}]
