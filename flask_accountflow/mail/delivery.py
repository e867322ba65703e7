"""Delivery: mails that are due are claimed, rendered, handed over and marked."""

from __future__ import annotations

import logging
import os
import threading
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from ..errors import MailDeferred, MailFault, MailRejected, MailUnsure
from ..events import line, scrub
from ..store.queue import Queue, Waiting
from .letter import Letter, Renderer
from .transports import Connection, Transport, Unreachable, steps
from .watchdog import Watchdog

_log = logging.getLogger("accountflow.mail")

_BATCH = 20

# A mail is only begun while its lease has 45 of its 60 seconds: enough for the longest send, with 15 to spare for
# machines whose clocks differ. What was claimed earlier is claimed anew, and its link looked at again.
_FRESH = timedelta(seconds=15)

# Seconds until the next try; the last one repeats until the mail expires.
_BACKOFF = (5, 30, 120, 600, 1800)


# Seconds until a mail is tried again that may have arrived: a server that is slow now would make a copy of each try.
_UNSURE = 1800


class Handover(NamedTuple):
    """What came of a mail: why it was not handed over, or None, and what the transport tells of each step."""

    fault: MailFault | None
    steps: tuple[str, ...]


class _Ending(Exception):
    """The process ends: what is not sent yet is given back."""


class Deliverer:
    """Delivers what is due: at least once, and a second time only with the same Message-ID and link.

    ``senders`` is for whoever runs it in threads, which share what they have claimed: one that hangs holds up
    no other mail. ``deadline`` is how long one mail may take in seconds, whatever the server does. It must be
    well below the lease of the queue.
    """

    def __init__(
        self,
        queue: Queue,
        transport: Transport,
        render: Renderer,
        clock: Callable[[], datetime],
        emit: Callable[..., None],
        senders: int = 2,
        deadline: float = 30,
    ) -> None:
        self.senders = senders
        self._queue = queue
        self._transport = transport
        self._render = render
        self._clock = clock
        self._emit = emit
        self._watchdog = Watchdog(deadline)
        # By process id: a forked child must not send what its parent has claimed. setdefault() needs no lock,
        # which a thread of the parent might have held.
        self._hands: dict[int, _Hand] = {}
        self._kept = threading.local()

    def deliver_due(self, limit: int | None = None, stop: threading.Event | None = None, *, keep: bool = False) -> int:
        """Deliver what is due, and return how many mails were handled.

        Ends early when ``limit`` mails were handled, when ``stop`` is set (the mail in hand is
        finished, the others are given back), and when the server cannot be reached. ``keep`` leaves the
        connection open for the next call of this thread, or until :meth:`rest`.
        """
        halt = stop if stop is not None else threading.Event()
        hand = self._hands.setdefault(os.getpid(), _Hand(self._queue, self._clock))
        handled, later, claims = 0, None, hand.claims
        try:
            while not halt.is_set() and (limit is None or handled < limit):
                batch = _BATCH if limit is None else min(_BATCH, limit - handled)
                mail = hand.take(batch, claims)
                if mail is None:
                    break
                try:
                    fault = self._deliver(self._wire(), mail)
                except _Ending:  # pragma: no cover - only seen by a process that ends, and not in each of its ends
                    hand.put_back(mail)
                    break
                handled += 1
                if isinstance(fault, Unreachable):
                    later = self._clock() + timedelta(seconds=_BACKOFF[0])
                    break
        finally:
            if not keep:
                self.rest()
            # Those were not tried: their own count of attempts has not begun.
            hand.give_back(later)
        return handled

    def rest(self) -> None:
        """Close the connection that this thread has kept, if any."""
        wire: _Wire | None = getattr(self._kept, "wire", None)
        if wire is not None:
            wire.close()

    def _wire(self) -> _Wire:
        """Return the connection of this thread, which may have to be opened."""
        wire: _Wire | None = getattr(self._kept, "wire", None)
        if wire is None or wire.transport is not self._transport:  # a test may have put another in its place
            self.rest()
            wire = self._kept.wire = _Wire(self._transport, self._watchdog)
        return wire

    def send_now(self, template: str, to_addr: str) -> Handover:
        """Send a mail without a link that is in no outbox, and return what came of it."""
        now, lease_id = self._clock(), uuid4()
        mail = Waiting(
            id=0,
            lease_id=lease_id,
            template=template,
            to_addr=to_addr,
            locale=None,
            context={},
            message_id=lease_id.hex,
            created_at=now,
            expires_at=now,
            attempts=1,
            user=None,
            link=None,
        )
        try:
            letter = self._render(mail)
        except Exception as error:  # a template of the app may raise anything
            return Handover(MailDeferred(_reason(error)), ())
        # As a mail of the outbox has it, and not of the recipient's domain, which looks forged.
        message_id = f"{letter.message_id}@{letter.sender.rpartition('@')[2]}"
        with _Wire(self._transport, self._watchdog) as wire:
            fault = wire.send(replace(letter, message_id=message_id))
        return Handover(fault, wire.steps)

    def pause(self, longest: float) -> float:
        """Return for how many seconds nothing will be due: at least 1, at most ``longest``."""
        due = self._queue.next_due()
        if due is None:
            return longest
        return max(1.0, min(longest, (due - self._clock()).total_seconds()))

    def _deliver(self, wire: _Wire, mail: Waiting) -> MailFault | None:
        """Handle one mail and return why it was not handed over, if the transport is why."""
        letter = self._prepare(mail)
        if letter is None:
            return None
        fault = wire.send(letter)
        if fault is None:
            self._note_sent(mail)
        elif isinstance(fault, MailRejected):
            self._end(self._queue.bury, mail, str(fault))
        else:
            self._defer(mail, str(fault), least=_UNSURE if isinstance(fault, MailUnsure) else 0)
        return fault

    def _prepare(self, mail: Waiting) -> Letter | None:
        """Return the letter, or None when there is nothing to be sent now."""
        obstacle = _obstacle(mail, self._clock())
        if obstacle is not None:
            self._end(self._queue.drop, mail, obstacle)
            return None
        try:
            return self._render(mail)
        except Exception as error:  # a template of the app may raise anything
            self._defer(mail, f"{_reason(error)} at {_place(error)}")
            return None

    def _note_sent(self, mail: Waiting) -> None:
        if self._queue.sent(mail, self._clock()):
            self._tell("mail_sent", mail)
        else:
            # Another worker may have taken it over, and sent it again.
            _log.warning("%s", line("mail_sent_late", mail_id=mail.id, template=mail.template))

    def _defer(self, mail: Waiting, reason: str, least: int = 0) -> None:
        """Let the mail wait for its next try, or give it up when its time is over."""
        now = self._clock()
        # Near its end it is tried more often, so that none is given up while its link would still be of use.
        left = int((mail.expires_at - now).total_seconds())
        pause = min(max(least, _BACKOFF[min(mail.attempts, len(_BACKOFF)) - 1]), left // 2)
        if pause < _BACKOFF[0]:
            self._end(self._queue.bury, mail, f"expired: {reason}")
        elif self._queue.defer(mail, reason, now + timedelta(seconds=pause)):
            known = {"mail_id": mail.id, "template": mail.template, "reason": scrub(reason, mail.to_addr)}
            _log.warning("%s", line("mail_deferred", **known, retry_in=pause))

    def _end(self, mark: Callable[[Waiting, str], bool], mail: Waiting, reason: str) -> None:
        """Drop or bury a mail."""
        reason = scrub(reason, mail.to_addr)
        if mark(mail, reason):
            _log.warning("%s", line("mail_failed", mail_id=mail.id, template=mail.template, reason=reason))
            self._tell("mail_failed", mail, reason=reason)

    def _tell(self, event: str, mail: Waiting, **more: str) -> None:
        user_id = None if mail.user is None else mail.user.get_id()
        self._emit(event, at=self._clock(), user_id=user_id, mail_id=mail.id, template=mail.template, **more)


class _Hand:
    """The mails that the senders of one process have claimed and not begun."""

    def __init__(self, queue: Queue, clock: Callable[[], datetime]) -> None:
        self._queue = queue
        self._clock = clock
        self._mails: deque[Waiting] = deque()
        self._claimed_at = clock()
        #: How many claims have begun.
        self.claims = 0
        self._has_all = False
        self._lock = threading.Lock()

    def take(self, size: int, claims: int) -> Waiting | None:
        """Return the next mail, of a new claim of up to ``size`` mails where it must be; None when nothing is due.

        ``claims`` is how many there had been when the caller was called. One that began since then and got all that was
        due need not be followed by another: what is committed later has a call of its own.
        """
        with self._lock:
            self._drop_stale()
            if not self._mails and (self.claims == claims or not self._has_all):
                self._claim(size)
            return self._mails.popleft() if self._mails else None

    def _claim(self, size: int) -> None:
        self.claims += 1
        self._claimed_at = self._clock()
        claimed = self._queue.claim(self._claimed_at, size)
        self._has_all = len(claimed) < size
        self._mails.extend(claimed)
        self._drop_stale()  # the claim itself may have waited long

    def _drop_stale(self) -> None:
        """Give back what a send that begins now might outlive the lease of. After a clock went back, too."""
        if self._mails and not timedelta(0) <= self._clock() - self._claimed_at < _FRESH:
            self._release(None)
            self._has_all = False

    def put_back(self, mail: Waiting) -> None:  # pragma: no cover - see _Ending
        """Take back a mail that was taken and not begun."""
        with self._lock:
            self._mails.appendleft(mail)

    def give_back(self, later: datetime | None) -> None:
        """Leave the mails to whoever claims them next, at once or from ``later`` on."""
        with self._lock:
            self._release(later)

    def _release(self, later: datetime | None) -> None:
        mails = list(self._mails)
        self._mails.clear()
        self._queue.release(mails, later)


class _Wire:
    """The connection of one sender: opened by its first letter, and anew after a fault."""

    def __init__(self, transport: Transport, watchdog: Watchdog) -> None:
        self.transport = transport
        self._watchdog = watchdog
        self._stack = ExitStack()
        self._connection: Connection | None = None
        self._last: Connection | None = None

    @property
    def steps(self) -> tuple[str, ...]:
        """What the transport tells of the last letter, step by step. Empty when it tells nothing."""
        return () if self._last is None else steps(self._last)

    def __enter__(self) -> _Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, letter: Letter) -> MailFault | None:
        """Hand a letter over and return why it was not, if it was not."""
        try:
            if self._connection is None:
                self._last = self._connection = self._stack.enter_context(self.transport.connect())
        except Exception as error:  # whatever a transport of the app raises
            return Unreachable(_reason(error))
        fault = self._send(self._connection, letter)
        if isinstance(fault, MailDeferred):
            self.close()
        return fault

    def _send(self, connection: Connection, letter: Letter) -> MailFault | None:
        # Time-outs of a socket are no bound: each byte of a server that drips starts them anew.
        with ExitStack() as watched:
            try:
                watched.enter_context(self._watchdog.over(connection.abort))
            except RuntimeError:  # pragma: no cover - Python 3.12 and later start no thread while they end
                raise _Ending from None
            try:
                connection.send(letter)
            except MailFault as fault:
                return fault
            except Exception as error:  # a transport of the app may raise anything
                return MailDeferred(_reason(error))
        return None

    def close(self) -> None:
        """Close the connection; the next letter opens another."""
        self._connection = None
        try:
            self._stack.close()
        except Exception:  # a transport of the app may raise anything; what became of its letters is known by now
            _log.exception("The connection for mails could not be closed.")


def _obstacle(mail: Waiting, now: datetime) -> str | None:
    """Return why a mail must not be sent any more."""
    if not mail.to_addr:
        return "unknown"
    if mail.expires_at <= now or (mail.link is not None and mail.link.expires_at <= now):
        return "expired"
    return "superseded" if mail.link is not None and not mail.link.live else None


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, MailFault) else f"{type(error).__name__}: {error}"


def _place(error: Exception) -> str:
    """Return where it was raised. The traceback itself is not logged: what it shows may be a link or an address."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{'/'.join(Path(last.filename).parts[-3:])}:{last.lineno}"
