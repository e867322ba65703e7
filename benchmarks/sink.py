"""A mail server in a process of its own that keeps what it is given, by recipient.

It announces neither TLS nor logins, takes many connections at a time, and costs little: what it needs is not
charged to the servers that are measured, but shares their processors.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterable
from email import message_from_bytes
from email.policy import default
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, cast

from .adapters.base import Mail

#: A recipient, and the mail as it came.
_Taken = tuple[str, bytes]


class _Dialogue(asyncio.Protocol):
    """As little of RFC 5321 as a client needs."""

    def __init__(self, shelf: _Shelf) -> None:
        self._shelf = shelf
        self._waiting = b""
        self._recipients: list[str] = []
        self._in_data = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._say("220 sink")

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        while self._take_data() if self._in_data else self._take_line():
            pass

    def _take_line(self) -> bool:
        line, end, rest = self._waiting.partition(b"\r\n")
        if not end:
            return False
        self._waiting = rest
        verb = line[:4].upper()
        if verb == b"RCPT":
            self._recipients.append(line.partition(b"<")[2].partition(b">")[0].decode())
        elif verb in {b"MAIL", b"RSET"}:
            self._recipients = []
        if verb == b"EHLO":
            self._say("250-sink\r\n250-8BITMIME\r\n250 SMTPUTF8")
        elif verb == b"DATA":
            self._in_data = True
            self._say("354 go on")
        elif verb == b"QUIT":
            self._say("221 bye")
            self._transport.close()
        else:
            self._say("250 OK")
        return True

    def _take_data(self) -> bool:
        # The line before the first of the body counts, too: a body may be empty.
        body, end, rest = (b"\r\n" + self._waiting).partition(b"\r\n.\r\n")
        if not end:
            return False
        self._waiting, self._in_data = rest, False
        mail = body[2:].replace(b"\r\n..", b"\r\n.")
        taken = [(one, mail) for one in self._recipients]
        self._recipients = []
        if self._shelf.delay:
            asyncio.get_running_loop().call_later(self._shelf.delay, self._keep, taken)
        else:
            self._keep(taken)
        return True

    def _keep(self, taken: list[_Taken]) -> None:
        self._shelf.mails += taken
        self._say("250 OK")

    def _say(self, line: str) -> None:
        if not self._transport.is_closing():
            self._transport.write(line.encode() + b"\r\n")


class _Shelf:
    """What the process of the sink knows: its mails in the order in which they came."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.mails: list[_Taken] = []

    def obey(self, line: Connection) -> None:
        """Answer whoever started this process, until that has gone; then end it."""
        try:
            while True:
                order, value = line.recv()
                line.send(self._answer(order, value))
        except (EOFError, OSError):
            os._exit(0)

    def _answer(self, order: str, value: Any) -> Any:
        if order == "since":
            return self.mails[value:]
        if order == "clear":
            self.mails = []
        elif order == "delay":
            self.delay = value
        return len(self.mails)


def _serve(delay: float, line: Connection) -> None:
    async def serve() -> None:
        shelf = _Shelf(delay)
        server = await asyncio.get_running_loop().create_server(lambda: _Dialogue(shelf), "127.0.0.1", 0, backlog=1024)
        line.send(server.sockets[0].getsockname()[1])
        threading.Thread(target=shelf.obey, args=(line,), daemon=True).start()
        await server.serve_forever()

    asyncio.run(serve())


class Sink:
    """The mail server; a context manager. ``delay`` is how many seconds it takes to accept a mail."""

    def __init__(self, delay: float = 0.0) -> None:
        self._delay = delay
        self._lock = threading.Lock()
        self._mails: list[_Taken] = []

    def __enter__(self) -> Sink:
        context = get_context("spawn")
        self._line, theirs = context.Pipe()
        # It also ends when this process is killed: the line breaks then.
        self._process = context.Process(target=_serve, args=(self._delay, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.port: int = self._line.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()
        self._line.close()

    def _ask(self, order: str, value: Any = None) -> Any:
        self._line.send((order, value))
        return self._line.recv()

    @property
    def delay(self) -> float:
        """How many seconds it takes to accept a mail; may be set at any time."""
        return self._delay

    @delay.setter
    def delay(self, seconds: float) -> None:
        with self._lock:
            self._ask("delay", seconds)
        self._delay = seconds

    def count(self) -> int:
        """Return how many mails have come: one for each recipient."""
        with self._lock:
            return int(self._ask("count"))

    def clear(self) -> None:
        """Forget all mails."""
        with self._lock:
            self._ask("clear")
            self._mails = []

    def _all(self) -> list[_Taken]:
        with self._lock:
            self._mails += self._ask("since", len(self._mails))
            return self._mails

    def mails_to(self, email: str) -> list[Mail]:
        """Return all mails to one address, the oldest first."""
        return [_read(one) for one in self._all() if one[0] == email]

    def mail_to(self, email: str) -> Mail:
        """Return the newest mail to one address. Raises :exc:`LookupError` when there is none."""
        for one in reversed(self._all()):
            if one[0] == email:
                return _read(one)
        raise LookupError(f"no mail to {email} has come")

    def wait_for(self, emails: Iterable[str], since: int = 0, timeout: float = 30.0) -> dict[str, Mail]:
        """Wait until each address has a mail, and return the newest of each.

        Only those count that came after the first ``since``, which is what :meth:`count` said before the request.
        Raises :exc:`TimeoutError`, which says how many are missing.
        """
        wanted, end = set(emails), time.monotonic() + timeout
        while True:
            # Nothing is handed over before there can be enough of it.
            if self.count() - since >= len(wanted):
                newest = {one[0]: one for one in self._all()[since:] if one[0] in wanted}
                if len(newest) == len(wanted):
                    return {email: _read(one) for email, one in newest.items()}
            if time.monotonic() > end:
                missing = wanted - {one[0] for one in self._all()[since:]}
                raise TimeoutError(f"{len(missing)} of {len(wanted)} mails are missing, such as to {min(missing)}")
            time.sleep(0.01)


def _read(taken: _Taken) -> Mail:
    message = message_from_bytes(taken[1].replace(b"\r\n", b"\n"), policy=default)
    parts = [part for part in message.walk() if part.get_content_maintype() == "text"]
    return Mail(taken[0], "\n".join(part.get_content() for part in parts))
