"""SMTP through Flask-Mail: its settings and signal, with time-outs and checked certificates."""

from __future__ import annotations

import logging
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.policy import SMTP
from typing import Any

import flask_mail
from flask import Flask

from .errors import MailDeferred, MailFault, MailRejected
from .mail.letter import Letter, render_message
from .mail.transports import Unreachable
from .store.queue import scrub

_log = logging.getLogger("accountflow.mail")

# Answers about our log-in, whatever command they follow (RFC 4954 section 6): the operator's fault, not the mail's.
_LOGIN_CODES = frozenset({530, 534, 535, 538})


class SmtpTransport:
    """Sends by the mail server that Flask-Mail is configured for.

    ``timeout`` is for each step of the dialogue, in seconds. ``ca_file`` holds the certificates
    that the server's is checked against; None means those of the system.
    """

    def __init__(self, app: Flask, timeout: float, ca_file: str | None) -> None:
        self._app = app
        self._timeout = timeout
        self._ca_file = ca_file

    @contextmanager
    def connect(self) -> Iterator[SmtpConnection]:
        """Return a connection, which is opened by the first letter."""
        connection = SmtpConnection(self._app, _Line(self._app, self._timeout, self._ca_file))
        try:
            yield connection
        finally:
            connection.close()


class SmtpConnection:
    """Letters of one thread, to one server."""

    def __init__(self, app: Flask, line: _Line) -> None:
        self._app = app
        self._line = line
        self._is_open = False

    def send(self, letter: Letter) -> None:
        """Hand the letter over, and send Flask-Mail's signal. Under ``MAIL_SUPPRESS_SEND`` only the latter."""
        if not letter.sender:
            raise Unreachable("MAIL_DEFAULT_SENDER is missing")
        message = Message(letter)
        self._open(letter)
        try:
            self._line.hand_over(message)
        except (smtplib.SMTPException, OSError) as error:
            raise self._fault(error, letter) from None  # its text may hold the address
        self._announce(message)

    def _open(self, letter: Letter) -> None:
        if self._is_open and not self._line.is_worn:
            return
        self.close()
        try:
            self._line.__enter__()
        except (smtplib.SMTPException, OSError) as error:
            # Whatever it answered: it did so before it saw the letter.
            raise Unreachable(str(self._fault(error, letter))) from None
        self._is_open = True

    def _fault(self, error: Exception, letter: Letter) -> MailFault:
        if self._line.is_aborted:
            return MailDeferred("time-out: the server did not finish in time")
        code, answer = _answer(error)
        reason = scrub(answer, letter.to)
        if code >= 500 and code not in _LOGIN_CODES:
            return MailRejected(reason)
        return MailDeferred(reason)

    def _announce(self, message: Message) -> None:
        # The letter has gone: a fault of a receiver must not have it sent again.
        try:
            with self._app.app_context():
                flask_mail.email_dispatched.send(self._app, message=message)
        except Exception:
            _log.exception("A receiver of email_dispatched failed.")

    def abort(self) -> None:
        """Shut the connection from another thread."""
        self._line.abort()

    def close(self) -> None:
        """Say goodbye to the server."""
        self._is_open = False
        self._line.hang_up()


class Message(flask_mail.Message):
    """A letter as Flask-Mail's receivers know it."""

    def __init__(self, letter: Letter) -> None:
        sender = (letter.sender_name, letter.sender) if letter.sender_name else letter.sender
        super().__init__(
            subject=letter.subject,
            recipients=[letter.to],
            body=letter.text,
            html=letter.html,
            sender=sender,
            reply_to=letter.reply_to,
            date=letter.date.timestamp(),
            extra_headers=dict(letter.headers()),
        )
        self.msgId = f"<{letter.message_id}>"
        self.letter = letter

    def as_bytes(self) -> bytes:
        """Return the letter in its MIME form."""
        return render_message(self.letter).as_bytes(policy=SMTP)

    def as_string(self) -> str:
        """Return the letter in its MIME form."""
        return render_message(self.letter).as_string(policy=SMTP)


class _Line(flask_mail.Connection):
    """Flask-Mail's connection, with time-outs and checked certificates."""

    def __init__(self, app: Flask, timeout: float, ca_file: str | None) -> None:
        super().__init__(app.extensions["mail"])
        self._timeout = timeout
        self._ca_file = ca_file
        # Flask-Mail takes app.debug for it, and the protocol holds the password and the links.
        self._debug_level = int(app.config.get("MAIL_DEBUG") or 0)
        self.is_aborted = False

    @property
    def is_worn(self) -> bool:
        """Whether ``MAIL_MAX_EMAILS`` went through this connection."""
        return bool(self.mail.max_emails) and self.num_emails >= self.mail.max_emails

    def configure_host(self) -> smtplib.SMTP | smtplib.SMTP_SSL:
        """Connect, secure the connection and log in, as the settings say."""
        address = (self.mail.server, self.mail.port)
        context = ssl.create_default_context(cafile=self._ca_file)
        if self.mail.use_ssl:
            host: _Host | _SecureHost = _SecureHost(self._keep, *address, timeout=self._timeout, context=context)
        else:
            host = _Host(self._keep, *address, timeout=self._timeout)
        host.set_debuglevel(self._debug_level)
        if self.mail.use_tls:
            self._check_time()
            host.starttls(context=context)
        if self.mail.username and self.mail.password:
            self._check_time()
            host.login(self.mail.username, self.mail.password)
        # Not left to the first letter, which is not to blame if the server turns us away here.
        host.ehlo_or_helo_if_needed()
        self._check_time()
        return host

    def _keep(self, host: smtplib.SMTP) -> None:
        self.host = host

    def _check_time(self) -> None:
        """Raise when we were aborted while there was no socket to shut."""
        if self.is_aborted:
            raise TimeoutError

    def hand_over(self, message: Message) -> None:
        """Send to the one recipient. Flask-Mail's ``send`` reports faults of its signal as faults of sending."""
        if self.host is not None:
            letter = message.letter
            self.host.sendmail(letter.sender, [letter.to], message.as_bytes())
        self.num_emails += 1

    def abort(self) -> None:
        self.is_aborted = True
        sock = getattr(self.host, "sock", None)
        if sock is not None:
            # Of the TCP connection, not of the TLS one, which the other thread is using.
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def hang_up(self) -> None:
        host, self.host = self.host, None
        if host is not None and host.sock is not None:
            # Without waiting for the answer, for which there is no deadline any more.
            with suppress(smtplib.SMTPException, OSError):
                host.putcmd("quit")
            host.close()


class _Host(smtplib.SMTP):
    """Hands itself over before it connects, so that another thread can abort that."""

    def __init__(self, keep: Callable[[smtplib.SMTP], None], *address: Any, **options: Any) -> None:
        keep(self)
        super().__init__(*address, **options)


class _SecureHost(smtplib.SMTP_SSL):
    def __init__(self, keep: Callable[[smtplib.SMTP], None], *address: Any, **options: Any) -> None:
        keep(self)
        super().__init__(*address, **options)


def _answer(error: Exception) -> tuple[int, str]:
    """Return the server's code, or 0, and the reason in words."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, text = next(iter(error.recipients.values()))
        return code, _words(code, text)
    if isinstance(error, smtplib.SMTPResponseException):
        return error.smtp_code, _words(error.smtp_code, error.smtp_error)
    return 0, f"{type(error).__name__}: {error}"


def _words(code: int, text: bytes | str) -> str:
    return f"{code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}"
