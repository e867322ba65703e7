"""How letters are handed over: the two protocols, and transports for development."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, Protocol, TextIO

from ..errors import MailDeferred
from .letter import Letter


class Unreachable(MailDeferred):
    """There is no getting through to the server now: other mails need not be tried either."""


class Connection(Protocol):
    """What several letters are sent through, one after another, by one thread."""

    def send(self, letter: Letter) -> None:
        """Hand the letter over, or raise :exc:`.MailRejected`, :exc:`.MailDeferred` or :exc:`.Unreachable`.

        After another fault than :exc:`.MailRejected` the connection is not used again.
        """

    def abort(self) -> None:
        """Make a :meth:`send` that is going on in another thread fail soon, also while it is connecting."""


class Transport(Protocol):
    """Where letters go. Used by several threads at once."""

    def connect(self) -> AbstractContextManager[Connection]:
        """Return a connection for one thread. Best opened by its first letter, whose deadline then covers it."""


def steps(connection: Connection) -> tuple[str, ...]:
    """Return what happened to the last letter, one line for each step; the last one is where it ended.

    No line holds an address, a link, a password or the text of the letter. A connection tells this by an
    attribute ``steps``, and has none if it has nothing to tell.
    """
    return tuple(getattr(connection, "steps", ()))


class FileTransport:
    """Appends letters to a file, which holds working links. Several processes may share it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Return a connection. The file is opened for each letter, so that it may be moved away."""
        yield _Writing(f"append to {os.path.abspath(self._path)}", self._append)

    def _append(self, letter: Letter) -> None:
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # One call: with O_APPEND blocks of several processes do not mix.
            os.write(handle, block(letter).encode("utf-8", "backslashreplace"))
        finally:
            os.close(handle)


class ConsoleTransport:
    """Prints letters, to ``stream`` or to what is standard output at that time."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Return a connection."""
        yield _Writing("print", self._print)

    def _print(self, letter: Letter) -> None:
        stream = self._stream if self._stream is not None else sys.stdout
        encoding = getattr(stream, "encoding", None) or "utf-8"
        # A terminal that lacks a sign must not keep a developer from his link.
        stream.write(block(letter).encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()


class _Writing:
    """A connection that is one step, which is never slow for long."""

    def __init__(self, step: str, write: Callable[[Letter], None]) -> None:
        self.steps: list[str] = []
        self._step = step
        self._write = write

    def send(self, letter: Letter) -> None:
        self.steps[:] = [f"{self._step}: failed"]
        self._write(letter)
        self.steps[:] = [f"{self._step}: done"]

    def abort(self) -> None:
        """Do nothing."""


class Recorded(NamedTuple):
    """A letter, and why it was not handed over when it was last tried, if it was not. ``number`` counts from 1."""

    number: int
    letter: Letter
    fault: Exception | None = None


class RecordingTransport:
    """Hands letters to another transport and keeps the last ``keep`` of them, for looking at."""

    def __init__(self, inner: Transport, keep: int = 50) -> None:
        self._inner = inner
        self._keep = keep
        # By Message-ID: each try of a mail has the same.
        self._kept: dict[str, Recorded] = {}
        self._count = 0
        self._lock = threading.Lock()

    @property
    def leaves(self) -> bool:
        """Whether letters may leave this computer."""
        return not isinstance(self._inner, (ConsoleTransport, FileTransport))

    @property
    def letters(self) -> list[Recorded]:
        """The letters, newest first."""
        with self._lock:
            return list(reversed(self._kept.values()))

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Return a connection of the other transport that also records."""
        with self._inner.connect() as connection:
            yield _RecordingConnection(connection, self)

    def record(self, letter: Letter) -> None:
        """Keep a letter that was handed over."""
        self._note(letter, None)

    def record_fault(self, letter: Letter, fault: Exception) -> None:
        """Keep a letter that was not handed over."""
        self._note(letter, fault)

    def clear(self) -> None:
        """Forget the letters."""
        with self._lock:
            self._kept.clear()

    def _note(self, letter: Letter, fault: Exception | None) -> None:
        with self._lock:
            known = self._kept.get(letter.message_id)
            self._count += known is None
            number = self._count if known is None else known.number
            self._kept[letter.message_id] = Recorded(number, letter, fault)
            if len(self._kept) > self._keep:
                del self._kept[next(iter(self._kept))]


class _RecordingConnection:
    def __init__(self, inner: Connection, transport: RecordingTransport) -> None:
        self._inner = inner
        self._transport = transport

    @property
    def steps(self) -> tuple[str, ...]:
        return steps(self._inner)

    def send(self, letter: Letter) -> None:
        try:
            self._inner.send(letter)
        except Exception as fault:
            self._transport.record_fault(letter, fault)
            raise
        self._transport.record(letter)

    def abort(self) -> None:
        self._inner.abort()


def block(letter: Letter) -> str:
    """Return a letter for reading, with its link alone on a line."""
    lines = [
        f"--- START EMAIL {letter.to} ---",
        f"From: {letter.sender_name} <{letter.sender}>",
        f"To: {letter.to}",
        f"Subject: {letter.subject}",
        f"Date: {letter.date.isoformat()}",
        f"Message-ID: <{letter.message_id}>",
        *(f"{name}: {value}" for name, value in letter.headers()),
        "",
        *letter.text.strip().splitlines(),
    ]
    if letter.link is not None and letter.link not in lines:
        lines += ["", letter.link]
    return "\n".join([*lines, f"--- END EMAIL {letter.to} ---", "", ""])
