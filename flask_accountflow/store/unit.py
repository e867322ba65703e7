"""One unit of work, in the host's session.

The outermost owner commits, as with Django's ``atomic``: our routes, the command line and the
worker own their units; a verb called while the host has uncommitted writes joins the host's
transaction and becomes durable with the host's commit.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import (
    Mapper,
    ORMExecuteState,
    Session,
    SessionTransaction,
    SessionTransactionOrigin,
    sessionmaker,
)

from ..errors import Refusal

T = TypeVar("T")

_log = logging.getLogger("accountflow.store")

# Keys in Session.info.
_WROTE = "accountflow.wrote"
_COMMITTED = "accountflow.committed"
_LATER = "accountflow.later"
# The transaction that a read of ours began, while nobody else has used it for more than reading.
_READ = "accountflow.read"
# An attribute of a session factory.
_WATCHED = "accountflow.watched"

# Three more tries; 20 ms doubled each time, with jitter, were enough for 50 redemptions at once.
_PAUSES = (0.02, 0.04, 0.08)
# PostgreSQL: serialization failure, deadlock.
_TRANSIENT_STATES = frozenset({"40001", "40P01"})
# MySQL and MariaDB: record changed, lock wait time-out, deadlock, and the savepoint that a deadlock took along.
_TRANSIENT_NUMBERS = frozenset({1020, 1205, 1213, 1305})
# A lock wait longer than this has used up the busy timeout; waiting again would only double it.
_LOCK_PATIENCE = 1.0


class SessionRegistry(Protocol):
    """What ``db.session`` is: a ``scoped_session``."""

    session_factory: sessionmaker[Any]

    def __call__(self) -> Session: ...


class Units:
    """Runs units of work, and statements inside them, on the session that is current."""

    def __init__(self, registry: Callable[[], SessionRegistry], mapper: Mapper[Any], lock_table: sa.Table) -> None:
        self._registry = registry
        self._bind: dict[str, Any] = {"mapper": mapper}
        self._lock = sa.delete(lock_table).where(sa.false())
        watch(registry().session_factory)

    def session(self) -> Session:
        """Return the current session, watched for writes of the host."""
        registry = self._registry()
        watch(registry.session_factory)
        return registry()

    def connection(self) -> sa.Connection:
        """Return the connection of the current session to the database of the user model."""
        return self.session().connection(bind_arguments=self._bind)

    def dialect(self) -> str:
        """Return the name of the kind of database: ``postgresql``, ``sqlite``, …"""
        return self.session().get_bind(**self._bind).dialect.name

    def execute(self, statement: Any, values: Any = None) -> sa.CursorResult[Any]:
        """Run one statement over tables in the transaction of the session, on the database of the user model.

        Not by ``Session.execute()``, which asks first whether the ORM has a part in it: a quarter of a small read.
        """
        session = self._registry()()  # what runs units or reads has seen to the watch
        if not statement.is_select:
            session.info[_WROTE] = True
        connection = session.connection(bind_arguments={**self._bind, "clause": statement})
        return connection.execute(statement, values)

    def entities(self, statement: Any, values: Any) -> sa.Result[Any]:
        """Run one SELECT of the app's entities."""
        return self._registry()().execute(statement, values, bind_arguments=self._bind)

    def changed(self, statement: Any, values: Any) -> bool:
        """Run a guarded UPDATE or DELETE and tell whether it found its row."""
        result = self.execute(statement, values)
        return result.rowcount == 1

    def read(self, work: Callable[[], T], *, release: bool = False) -> T:
        """Return what ``work`` reads. ``release`` gives the connection back; without it, a unit may go on in it."""
        session = self.session()
        is_first = not session.in_transaction()
        with session.no_autoflush:
            result = work()
        if release:
            self.release()
        elif is_first:
            session.info[_READ] = session.get_transaction()
        return result

    def release(self) -> None:
        """Give the connection back before a slow step, unless the host has begun what it will commit."""
        session = self.session()
        if session.in_transaction() and not _is_begun(session):
            session.commit()

    def run(self, work: Callable[[], T], *, own: bool) -> T:
        """Run ``work`` and return what it returns; if it raises, only its writes are undone.

        ``own`` commits even when the host had uncommitted writes. A unit that is ours alone is
        tried again on transient faults, at most three times; then :exc:`.Refusal` ``busy``.
        """
        session = self.session()
        if _is_begun(session):
            self._lock_first(session)
            return self._savepoint(session, work, commit=own)
        for pause in (*_PAUSES, None):
            started = time.monotonic()
            try:
                self._begin(session)
                return self._alone(session, work)
            except DBAPIError as error:
                self._undo(session, error)
                if not is_transient(error):
                    raise
                if pause is None or (_is_lock(error) and time.monotonic() - started > _LOCK_PATIENCE):
                    raise Refusal("busy", extra={"retry_after": random.randint(1, 3)}) from error
                time.sleep(pause * random.uniform(0.5, 1.5))
            except BaseException as error:
                self._undo(session, error)
                raise
        raise AssertionError("the last pause is None")  # pragma: no cover

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call ``call`` when the writes made so far are durable; never, if they are undone."""
        session = self.session()
        session.info.setdefault(_LATER, []).append((_chain(session.get_nested_transaction()), call))

    def _begin(self, session: Session) -> None:
        if session.in_transaction():
            if self._reads_afresh(session):
                session.expire_all()  # as a commit does; two round trips are saved
            else:
                session.commit()  # the end of the host's reads: a fresh snapshot, and no lock to upgrade
        self._lock_first(session)

    def _reads_afresh(self, session: Session) -> bool:
        """Tell whether a read of ours began the transaction, and left neither a snapshot in it nor a lock."""
        if session.info.get(_READ) is not session.get_transaction():
            return False
        connection = session.connection(bind_arguments=self._bind)
        match connection.dialect.name:
            case "postgresql":  # at this level each statement has a snapshot of its own
                level = connection.get_execution_options().get("isolation_level", connection.default_isolation_level)
                return level == "READ COMMITTED"
            case "sqlite":  # whose driver begins nothing for a SELECT, unless the host makes it
                return not getattr(connection.connection.dbapi_connection, "in_transaction", True)
        return False

    def _lock_first(self, session: Session) -> None:
        if self.dialect() == "sqlite":
            # The write lock first: it honours the busy timeout, an upgrade from reading does not, and
            # pysqlite sends BEGIN only before a write, so that a savepoint without one would commit.
            with session.no_autoflush:  # what the host has added is flushed by the savepoint
                self.execute(self._lock)

    def _alone(self, session: Session, work: Callable[[], T]) -> T:
        """Run ``work`` where nobody else writes. A savepoint would cost two round trips and a tenth of a login."""
        if self._is_lent(session):
            return self._savepoint(session, work, commit=True)
        result = work()
        session.commit()
        return result

    def _is_lent(self, session: Session) -> bool:
        """Tell whether the session works in a transaction that somebody lends it, as a test fixture does."""
        return isinstance(session.get_bind(**self._bind), sa.Connection)

    def _savepoint(self, session: Session, work: Callable[[], T], *, commit: bool) -> T:
        with session.begin_nested():
            result = work()
        if commit:
            session.commit()
        else:
            session.expire_all()  # as a commit does: what the host has loaded may have changed
        return result

    def _undo(self, session: Session, error: BaseException) -> None:
        is_broken = isinstance(error, DBAPIError) and (is_transient(error) or error.connection_invalidated)
        if is_broken or not session.is_active or not self._is_lent(session):
            session.rollback()
        else:
            session.commit()  # a savepoint has undone it; rollback() would undo what the lender wrote, too


def is_transient(error: DBAPIError) -> bool:
    """Tell whether the same unit may succeed when it is run again."""
    original = error.orig
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    number = original.args[0] if original is not None and original.args else None
    return state in _TRANSIENT_STATES or number in _TRANSIENT_NUMBERS or _is_lock(error)


def _is_lock(error: DBAPIError) -> bool:
    return "database is locked" in str(error.orig) or "database table is locked" in str(error.orig)


def _is_begun(session: Session) -> bool:
    """Tell whether the host has begun what it will commit: by a block of its own, or because it writes."""
    root = session.get_transaction()
    if session.in_nested_transaction() or (root is not None and root.origin is SessionTransactionOrigin.BEGIN):
        return True
    return bool(
        session.new or session.deleted or session.info.get(_WROTE) or any(map(session.is_modified, session.dirty))
    )


def watch(factory: sessionmaker[Any]) -> None:
    """Follow the writes and commits of the sessions of ``factory``. Once is enough; twice does no harm."""
    # Not event.contains(): it goes by id(), which a new factory may have from one that is gone.
    if vars(factory).get(_WATCHED):
        return
    vars(factory)[_WATCHED] = True
    event.listen(factory, "after_flush", _after_flush)
    event.listen(factory, "do_orm_execute", _on_execute)
    event.listen(factory, "after_commit", _after_commit)
    event.listen(factory, "after_soft_rollback", _after_soft_rollback)
    event.listen(factory, "after_transaction_end", _after_transaction_end)


def _after_flush(session: Session, context: Any) -> None:
    session.info[_WROTE] = True


def _on_execute(state: ORMExecuteState) -> None:
    if not state.is_select:
        state.session.info[_WROTE] = True


def _after_commit(session: Session) -> None:
    if not session.in_nested_transaction():  # the event is also sent when a savepoint is released
        session.info[_COMMITTED] = True


def _after_soft_rollback(session: Session, undone: SessionTransaction) -> None:
    while undone.parent is not None and not undone.nested:
        undone = undone.parent  # a flush that fails takes its savepoint along
    waiting = session.info.get(_LATER)
    if waiting:
        session.info[_LATER] = [(chain, call) for chain, call in waiting if undone not in chain]


def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is not None:
        return
    session.info.pop(_WROTE, None)
    session.info.pop(_READ, None)
    waiting = session.info.pop(_LATER, ())
    if session.info.pop(_COMMITTED, False):
        for _, call in waiting:
            try:
                call()
            except Exception:  # what was committed stays committed, whatever a broker or a receiver says
                _log.exception("A call after the commit failed.")


def _chain(transaction: SessionTransaction | None) -> tuple[SessionTransaction, ...]:
    chain = []
    while transaction is not None:
        chain.append(transaction)
        transaction = transaction.parent
    return tuple(chain)
