"""A mail server that keeps whatever it took, and that can go wrong, or end whoever talks to it, at each step."""

from __future__ import annotations

import asyncio
import email
import email.policy
import random
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from functools import cached_property
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from live_server import Mail, free_port

AFTER_CONNECT, AFTER_RCPT, AFTER_DOT = "after_connect", "after_rcpt", "after_dot_before_250"


@dataclass(frozen=True)
class Copy:
    """A mail as it was taken: one of perhaps several copies."""

    recipient: str
    content: bytes = field(repr=False)

    @cached_property
    def mail(self) -> Mail:
        """The mail for reading. Not while it arrives, which would slow the server down."""
        message = email.message_from_bytes(self.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        return Mail((self.recipient,), message)

    @property
    def message_id(self) -> str:
        """The Message-ID, by which two copies of one mail are known."""
        return self.mail.message_id

    @property
    def link(self) -> str | None:
        """The one-shot link in the text, if there is one: it ends with a token, whose parts are divided by dots."""
        return next((link for link in self.mail.links if "." in link.rpartition("/")[2]), None)


class Sink:
    """A mail server on a loopback port. A mail is kept as soon as its last dot has arrived, whatever is answered."""

    def __init__(self) -> None:
        self.port = free_port()
        #: How long it takes from keeping a mail to the answer, in seconds.
        self.delay = 0.0
        #: How many of all conversations it cuts when it has kept the mail, without an answer: from 0 to 1.
        self.cuts = 0.0
        #: What it answers to a mail instead of keeping it; the mail is given.
        self.refuse: Callable[[str], str] | None = None
        #: Called with the name of a step of the dialogue before that step is answered.
        self.hook: Callable[[str], Awaitable[None]] | None = None
        #: How many conversations we have cut, and how many a client has left without QUIT when a mail had been kept.
        self.cut = 0
        self.broken_off = 0
        self.refused = 0
        self._copies: list[Copy] = []
        self._arrived = threading.Condition()
        self._controller = _Controller(_Keeper(self), hostname="127.0.0.1", port=self.port)

    def __enter__(self) -> Sink:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    def be_well(self) -> None:
        """Have no faults from now on."""
        self.delay, self.cuts, self.refuse, self.hook = 0.0, 0.0, None, None

    def keep(self, copy: Copy) -> None:
        """Take a mail."""
        with self._arrived:
            self._copies.append(copy)
            self._arrived.notify_all()

    @property
    def copies(self) -> list[Copy]:
        """Everything that was taken, in order."""
        with self._arrived:
            return list(self._copies)

    def to(self, recipient: str) -> list[Copy]:
        """Return what was taken for an address."""
        return [copy for copy in self.copies if copy.recipient == recipient]

    def wait_for(self, recipient: str, number: int = 1, patience: float = 20) -> Copy:
        """Return the newest mail for an address, once there are so many."""
        with self._arrived:
            self._arrived.wait_for(lambda: len(self.to(recipient)) >= number, patience)
        found = self.to(recipient)
        assert len(found) >= number, f"only {len(found)} of {number} mails have arrived for {recipient}"
        return found[-1]


class _Keeper:
    """aiosmtpd's view of the server."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    async def _reach(self, step: str) -> None:
        if self.sink.hook is not None:
            await self.sink.hook(step)

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        await self._reach(AFTER_CONNECT)
        return responses

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        await self._reach(AFTER_RCPT)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        sink, content = self.sink, envelope.content
        assert isinstance(content, bytes)
        assert len(envelope.rcpt_tos) == 1, "a mail goes to one recipient"
        if sink.refuse is not None:
            sink.refused += 1
            return sink.refuse(content.decode())
        sink.keep(Copy(envelope.rcpt_tos[0], content))
        assert isinstance(server, _Conversation)
        server.has_kept = True
        await self._reach(AFTER_DOT)
        if random.random() < sink.cuts:
            sink.cut += 1
            server.is_over = True
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
            await asyncio.sleep(60)  # this task ends with its connection
        if sink.delay:
            await asyncio.sleep(sink.delay)
        return "250 OK"

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(server, _Conversation)
        server.is_over = True
        return "221 Bye"


class _Conversation(SMTP):
    """One connection, which its client may break off."""

    def __init__(self, sink: Sink, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._sink = sink
        self.has_kept = False
        self.is_over = False

    def connection_lost(self, error: Exception | None) -> None:
        if self.has_kept and not self.is_over:
            self._sink.broken_off += 1
        super().connection_lost(error)


class _Controller(Controller):
    def factory(self) -> SMTP:
        return _Conversation(self.handler.sink, self.handler, **self.SMTP_kwargs)
