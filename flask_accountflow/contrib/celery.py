"""Delivery by Celery: a task that delivers, a kick that asks a worker for it, and a sweep for beat.

The messages carry nothing: what is to be sent stands in the outbox. So one that is lost, late or
repeated does no harm, and a broker learns no address.
"""

from __future__ import annotations

import logging
import mmap
import os
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import sqlalchemy as sa
from flask import Flask

from ..errors import ConfigError
from ..events import line
from ..mail.delivery import Deliverer
from ..mail.kicks import ThreadKick

_log = logging.getLogger("accountflow.mail")

TASK = "flask_accountflow.deliver"

#: How often beat asks for what no message of a commit brought: as often as a worker process of ours polls.
SWEEP = 5.0

# Clocks of two machines may differ by a minute, and a sweep that comes too late by the worker's clock is lost. While
# workers are away, no more than a dozen of them wait.
_SWEEP_EXPIRES = 60.0

# Celery's own default for connecting. A thread waits for it, and no request does.
_PATIENCE = 4.0
_BOUNDS = {
    # One more try: the next broker, where several are named. Without a number, kombu tries for ever.
    "max_retries": 1,
    "interval_start": 0,
    # Redis.
    "socket_timeout": _PATIENCE,
    "socket_connect_timeout": _PATIENCE,
    # RabbitMQ.
    "read_timeout": _PATIENCE,
    "write_timeout": _PATIENCE,
}

# The publisher has nothing to look for between commits; it only must name a time.
_DAY = 86400.0

_NO_CELERY = (
    "ACCOUNTFLOW_MAIL_KICK is 'celery', but the app has no Celery. "
    "Put it into app.extensions['celery'] before AccountFlow.init_app, as Flask's documentation of Celery shows."
)
_TAKEN = (
    "The Celery of app.extensions['celery'] delivers the mails of another Flask app already. "
    "Make one for each app, in the function that makes the app."
)

_connected: WeakSet[Any] = WeakSet()


def connect(app: Flask, deliverer: Deliverer, engine: Callable[[], Any]) -> ThreadKick:
    """Let the workers of the app's Celery deliver, and return the kick that asks them to.

    ``engine`` returns the one that ``deliverer`` works on. Raises :exc:`.ConfigError` when the app
    has no Celery, or one that delivers for another app.
    """
    from celery import signals  # noqa: PLC0415 - optional

    celery = app.extensions.get("celery")
    if celery is None or celery in _connected:
        raise ConfigError([_NO_CELERY if celery is None else _TAKEN])
    _connected.add(celery)
    crew = _Crew(deliverer, engine)

    def deliver() -> int:
        return crew.deliver()

    task = celery.task(deliver, name=TASK, ignore_result=True, shared=False)
    # With a name for each: Celery 5.4 takes the methods of two crews for the same.
    signals.worker_process_init.connect(crew.begin, dispatch_uid=id(crew))
    signals.worker_shutting_down.connect(crew.end, dispatch_uid=id(crew))

    def add_sweep(**_: Any) -> None:
        celery.add_periodic_task(SWEEP, task.s(), name="accountflow-sweep", expires=_SWEEP_EXPIRES)

    # Late, so that a schedule which the app sets meanwhile does not take the place of ours.
    if celery.finalized:
        add_sweep()
    else:
        celery.on_after_finalize.connect(add_sweep, weak=False)
    return ThreadKick(_Publisher(celery, task), poll=_DAY)


class _Publisher:
    """Asks a worker to deliver, where another kick's threads deliver. A :class:`.Work`."""

    senders = 1

    def __init__(self, celery: Any, task: Any) -> None:
        self._celery = celery
        self._task = task

    def deliver_due(self, *, stop: threading.Event, keep: bool = False) -> int:
        """Publish one message, however many mails are due, and return how many were published. Never raises."""
        try:
            # Not one of Celery's pool, whose time-outs are the app's.
            with self._celery.connection_for_write(connect_timeout=_PATIENCE, transport_options=_BOUNDS) as connection:
                self._task.apply_async(connection=connection, retry=False)
        except Exception as error:  # whatever the library of a broker raises
            # Without its text: the address of a broker holds a password. The sweep delivers instead.
            _log.warning("%s", line("mail_kick_failed", reason=type(error.__cause__ or error).__name__))
            return 0
        return 1

    def rest(self) -> None:
        """Do nothing: nothing is kept."""

    def pause(self, longest: float) -> float:
        """Return ``longest``: what falls due later is found by the sweep."""
        return longest


class _Crew:
    """The processes of a worker: all of them deliver, and end together."""

    def __init__(self, deliverer: Deliverer, engine: Callable[[], Any]) -> None:
        self._deliverer = deliverer
        self._engine = engine
        self._pid = os.getpid()
        self._stop = _SharedEvent()

    def deliver(self) -> int:
        """Deliver what is due, and return how many mails were handled."""
        return self._deliverer.deliver_due(stop=self._stop)

    def begin(self, **_: Any) -> None:
        """Begin a pool, in each of its processes: a fork must not use the connections of its parent, nor close them."""
        engine = self._engine()
        if isinstance(engine, sa.Engine):
            engine.dispose(close=os.getpid() == self._pid)

    def end(self, **_: Any) -> None:
        """Let the mails in hand be finished, and the others be given back."""
        self._stop.set()


class _SharedEvent(threading.Event):
    """An event that the forks of this process see: only the parent of a pool hears that the worker ends.

    It takes no lock, so that a signal handler may set it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._page = mmap.mmap(-1, 1)

    def is_set(self) -> bool:
        """Tell whether this process, or the one that it was forked from, has set the event."""
        return self._page[0] != 0

    def set(self) -> None:
        """Set the event. It stays so."""
        self._page[0] = 1
