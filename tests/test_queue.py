"""The delivering side of the outbox, on each database."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from databases import NOW, TABLES, Hat, Rows, User, database_engine, engine, sqlite  # noqa: F401
from sqlalchemy.exc import OperationalError

from flask_accountflow.models import aware
from flask_accountflow.store.queue import LEASE, Queue, Waiting

SECOND = timedelta(seconds=1)


@pytest.fixture
def rows(engine: sa.Engine) -> Rows:  # noqa: F811
    """The rows around an outbox, on each database."""
    return Rows(engine)


@pytest.fixture
def queue(rows: Rows) -> Queue:
    """The outbox, on each database."""
    return rows.queue()


def ids(waiting: list[Waiting]) -> list[int]:
    return [one.id for one in waiting]


def test_claimed_mail(rows: Rows, queue: Queue) -> None:
    """A claimed mail says all that its letter needs, with times in UTC."""
    user = rows.user(locale="de")
    link = rows.link(user)
    mail = rows.mail(user_id=user.id, token_id=link, template="reset", locale="fr", context={"n": 1}, message_id="m@x")

    [waiting] = queue.claim(NOW)

    assert (waiting.id, waiting.template, waiting.to_addr) == (mail, "reset", "ada@example.com")
    assert (waiting.locale, waiting.context, waiting.message_id, waiting.attempts) == ("fr", {"n": 1}, "m@x", 1)
    assert (waiting.created_at, waiting.expires_at) == (NOW, NOW + timedelta(days=1))
    assert waiting.link is not None
    assert (waiting.link.row_id, waiting.link.purpose, waiting.link.live) == (link, "reset", True)
    assert (waiting.link.created_at, waiting.link.expires_at) == (NOW, NOW + timedelta(hours=1))
    assert waiting.created_at.tzinfo is not None
    assert waiting.link.created_at.tzinfo is not None


def test_user_is_an_entity_of_the_app(rows: Rows, queue: Queue) -> None:
    """The user of a mail is the app's own entity, once, with what the app loads eagerly, and outside any session."""
    user = rows.user(locale="de", hats=[Hat(colour="red"), Hat(colour="blue")])
    rows.mail(user_id=user.id)
    rows.mail(user_id=user.id)

    first, second = queue.claim(NOW)

    assert isinstance(first.user, User)
    assert first.user is second.user
    assert sa.inspect(first.user).detached
    assert (first.user.locale, sorted(hat.colour for hat in first.user.hats)) == ("de", ["blue", "red"])


def test_mail_without_account_or_link(rows: Rows, queue: Queue) -> None:
    """A mail may belong to nobody and carry no link."""
    rows.mail(context=None, to_addr=None)

    [waiting] = queue.claim(NOW)

    assert (waiting.user, waiting.link, waiting.context, waiting.to_addr) == (None, None, {}, "")


def test_claims_oldest_first_up_to_the_batch(rows: Rows, queue: Queue) -> None:
    """The mails that have been due for longest are claimed first, no more than asked for."""
    late = rows.mail(next_attempt_at=NOW)
    early = rows.mail(next_attempt_at=NOW - SECOND)
    early_too = rows.mail(next_attempt_at=NOW - SECOND)

    first, second = queue.claim(NOW, batch=2), queue.claim(NOW, batch=2)

    assert (ids(first), ids(second)) == ([early, early_too], [late])
    assert queue.claim(NOW) == []


@pytest.mark.parametrize("values", [{"next_attempt_at": NOW + SECOND}, {"state": "sent"}, {"state": "failed"}])
def test_claims_only_what_is_due(values: dict[str, Any], rows: Rows, queue: Queue) -> None:
    """A mail whose time has not come, or has gone, is not claimed."""
    rows.mail(**values)

    assert queue.claim(NOW) == []


def test_lapsed_lease(rows: Rows, queue: Queue) -> None:
    """The mail of a worker that died is claimed by another one after the lease, not before, and as another attempt."""
    rows.mail()
    [dead] = queue.claim(NOW)

    during = queue.claim(NOW + LEASE)
    [after] = queue.claim(NOW + LEASE + SECOND)

    assert during == []
    assert (after.id, after.attempts) == (dead.id, 2)
    assert after.lease_id != dead.lease_id
    assert (after.message_id, after.created_at) == (dead.message_id, dead.created_at)


def test_two_workers(rows: Rows) -> None:
    """Two workers that claim at once never get the same mail, and leave none."""
    wanted = [rows.mail() for _ in range(60)]
    got: list[int] = []
    gate = threading.Barrier(2)

    def work() -> None:
        queue = rows.queue()
        gate.wait()
        while batch := queue.claim(NOW, batch=7):
            got.extend(ids(batch))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(got) == Counter(wanted)


def test_sent(rows: Rows, queue: Queue) -> None:
    """A mail that was sent says when, and keeps no old error."""
    mail = rows.mail(last_error="421 later")
    [waiting] = queue.claim(NOW)

    marked = queue.sent(waiting, NOW + SECOND)

    row = rows.stored(mail)
    assert marked
    assert (row.state, aware(row.sent_at), row.last_error) == ("sent", NOW + SECOND, None)
    assert (row.lease_id, row.lease_until) == (None, None)


def test_deferred(rows: Rows, queue: Queue) -> None:
    """A deferred mail is free, says why it waits, and is due at its time."""
    mail = rows.mail()
    [waiting] = queue.claim(NOW)

    marked = queue.defer(waiting, "450 <ada@example.com> is busy", NOW + 5 * SECOND)

    row = rows.stored(mail)
    assert marked
    assert (row.state, row.last_error, row.attempts) == ("pending", "450 <address> is busy", 1)
    assert (row.lease_id, row.lease_until) == (None, None)
    assert queue.claim(NOW + 4 * SECOND) == []
    assert ids(queue.claim(NOW + 5 * SECOND)) == [mail]


@pytest.mark.parametrize(("mark", "state"), [("bury", "failed"), ("drop", "dropped")])
def test_given_up(mark: str, state: str, rows: Rows, queue: Queue) -> None:
    """A mail that will not be sent says why, in 255 characters, and is never claimed again."""
    mail = rows.mail()
    [waiting] = queue.claim(NOW)

    marked = getattr(queue, mark)(waiting, "x" * 300)

    row = rows.stored(mail)
    assert marked
    assert (row.state, row.last_error, row.lease_id) == (state, "x" * 255, None)
    assert queue.claim(NOW + timedelta(days=9)) == []


def test_marks_need_the_lease(rows: Rows, queue: Queue) -> None:
    """Whoever slept through the lease can neither mark nor release what another worker holds now."""
    mail = rows.mail()
    [sleeper] = queue.claim(NOW)
    later = NOW + LEASE + SECOND
    queue.claim(later)
    before = rows.stored(mail)

    answers = [
        queue.sent(sleeper, later),
        queue.defer(sleeper, "why", later),
        queue.bury(sleeper, "why"),
        queue.drop(sleeper, "why"),
    ]
    queue.release([sleeper], later)

    assert answers == [False] * 4
    assert rows.stored(mail) == before


def test_released(rows: Rows, queue: Queue) -> None:
    """Released mails are due again at once, and the attempt does not count."""
    mails = [rows.mail(), rows.mail()]

    queue.release(queue.claim(NOW))

    again = queue.claim(NOW)
    assert ids(again) == mails
    assert [waiting.attempts for waiting in again] == [1, 1]


def test_released_for_later(rows: Rows, queue: Queue) -> None:
    """Mails can be released until some time."""
    mail = rows.mail()

    queue.release(queue.claim(NOW), NOW + 5 * SECOND)

    assert queue.claim(NOW + 4 * SECOND) == []
    assert ids(queue.claim(NOW + 5 * SECOND)) == [mail]


def test_released_nothing(rows: Rows, queue: Queue) -> None:
    """Releasing nothing changes nothing."""
    queue.release([])

    assert rows.counts()["pending"] == 0


def test_next_due(rows: Rows, queue: Queue) -> None:
    """The queue knows when the next mail is due that nobody holds."""
    rows.mail(created_at=NOW - timedelta(hours=3), state="sent")
    rows.mail(created_at=NOW - timedelta(hours=2), next_attempt_at=NOW + 7 * SECOND)
    rows.mail(created_at=NOW - timedelta(hours=1), next_attempt_at=NOW - SECOND)
    queue.claim(NOW)

    assert queue.next_due() == NOW + 7 * SECOND


def test_next_due_of_an_empty_queue(queue: Queue) -> None:
    """An empty queue has no mail that will be due."""
    assert queue.next_due() is None


@pytest.mark.parametrize(
    ("table", "values"),
    [
        (TABLES.token, {"used_at": NOW}),
        (TABLES.token, {"expires_at": NOW}),
        (TABLES.token, {"stamp": uuid.uuid4()}),
        (TABLES.token, {"user_id": None}),
        (TABLES.user, {"is_active": False}),
        (TABLES.user, {"stamp": uuid.uuid4()}),
    ],
    ids=["used", "expired", "other stamp", "nobody's", "disabled", "account changed"],
)
def test_dead_link(table: sa.Table, values: dict[str, Any], rows: Rows, queue: Queue) -> None:
    """A link is not live when it was used, has expired, or its account has changed or is disabled."""
    user = rows.user()
    link = rows.link(user)
    rows.mail(user_id=None if "user_id" in values else user.id, token_id=link)
    rows.change(table, link if table is TABLES.token else user.id, **values)

    [waiting] = queue.claim(NOW)

    assert waiting.link is not None
    assert not waiting.link.live


@pytest.mark.parametrize(
    ("values", "live"), [({"stamp": uuid.uuid4()}, True), ({"is_active": False}, False)], ids=["changed", "disabled"]
)
def test_a_link_that_undoes_outlives_changes(rows: Rows, queue: Queue, values: dict[str, Any], live: bool) -> None:
    """The link that brings an old address back is live whatever changes, while its account is enabled."""
    user = rows.user()
    link = rows.link(user)
    rows.mail(user_id=user.id, token_id=link)
    rows.change(TABLES.token, link, purpose="revert")
    rows.change(TABLES.user, user.id, **values)

    [waiting] = queue.claim(NOW)

    assert waiting.link is not None
    assert waiting.link.live is live


def test_purged_link(rows: Rows, queue: Queue) -> None:
    """A mail whose link was purged carries a dead link, not none."""
    link = uuid.uuid4()
    rows.mail(token_id=link)

    [waiting] = queue.claim(NOW)

    assert waiting.link is not None
    assert (waiting.link.row_id, waiting.link.live) == (link, False)


def test_within_an_outer_transaction(rows: Rows) -> None:
    """Within a test's outer transaction the queue works in savepoints, and the test's rollback undoes it."""
    user = rows.user()
    mail = rows.mail(user_id=user.id)

    @contextmanager
    def begin() -> Iterator[sa.Connection]:
        with connection.begin_nested():
            yield connection

    with rows.engine.connect() as connection:
        # A write, because Python's driver for SQLite begins no transaction before one.
        connection.execute(sa.delete(TABLES.token))
        queue = Queue(TABLES, User, begin)
        [waiting] = queue.claim(NOW)
        marked = queue.sent(waiting, NOW)
        connection.rollback()

    assert (waiting.user.id, marked) == (user.id, True)
    assert (rows.stored(mail).state, rows.stored(mail).attempts) == ("pending", 0)


@contextmanager
def faster_worker(engine: sa.Engine, times: int) -> Iterator[list[str]]:  # noqa: F811
    """Let another worker lease the first due mail ``times`` times, each time just before the claim would."""
    taken: list[str] = []

    def before(connection: sa.Connection, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("UPDATE") and "lease_until=" in statement and len(taken) < times:
            taken.append(statement)
            first = sa.select(sa.func.min(TABLES.mail.c.id)).where(TABLES.mail.c.lease_until.is_(None))
            mail = connection.scalar(first)
            cursor.execute(f"UPDATE accountflow_mail SET lease_until = '2099-01-01' WHERE id = {mail}")

    sa.event.listen(engine, "before_cursor_execute", before)
    yield taken
    sa.event.remove(engine, "before_cursor_execute", before)


def test_faster_worker(sqlite: sa.Engine) -> None:  # noqa: F811
    """When another worker was first with all that was found, the claim looks again."""
    rows = Rows(sqlite)
    rows.mail()
    second = rows.mail()

    with faster_worker(sqlite, times=1):
        waiting = rows.queue().claim(NOW, batch=1)

    assert ids(waiting) == [second]


def test_ever_faster_workers(sqlite: sa.Engine) -> None:  # noqa: F811
    """A claim gives up when others are always first: they deliver what is due."""
    rows = Rows(sqlite)
    for _ in range(9):
        rows.mail()

    with faster_worker(sqlite, times=9) as taken:
        waiting = rows.queue().claim(NOW, batch=1)

    assert waiting == []
    assert 1 < len(taken) < 9


def failing(engine: sa.Engine, faults: list[OperationalError]) -> Any:  # noqa: F811
    """Return a ``begin`` whose first transactions end in the ``faults``."""

    @contextmanager
    def begin() -> Iterator[sa.Connection]:
        with engine.begin() as connection:
            yield connection
            if faults:
                raise faults.pop(0)

    return begin


def test_transient_fault(sqlite: sa.Engine) -> None:  # noqa: F811
    """A mark that met a deadlock and then lost its connection is made all the same, so that no mail is sent twice."""
    rows = Rows(sqlite)
    mail = rows.mail()
    [waiting] = rows.queue().claim(NOW)
    deadlock = OperationalError("UPDATE", {}, Exception(1213, "Deadlock found"))
    lost = OperationalError("UPDATE", {}, Exception("gone"), connection_invalidated=True)
    queue = Queue(TABLES, User, failing(sqlite, [deadlock, lost]))

    marked = queue.sent(waiting, NOW)

    assert marked
    assert rows.stored(mail).state == "sent"


def test_locked_database(sqlite: sa.Engine) -> None:  # noqa: F811
    """A database that stays locked is an error of the caller."""
    impatient = sa.create_engine(sqlite.url, connect_args={"timeout": 0.02})
    queue = Rows(impatient).queue()

    with sqlite.connect() as holder:
        holder.exec_driver_sql("BEGIN EXCLUSIVE")
        with pytest.raises(OperationalError, match="locked"):
            queue.claim(NOW)
        holder.rollback()

    impatient.dispose()


def test_lasting_fault(sqlite: sa.Engine) -> None:  # noqa: F811
    """A fault that would come again is not tried again."""
    faults = [OperationalError("UPDATE", {}, Exception("no such table"))] * 2
    queue = Queue(TABLES, User, failing(sqlite, faults))

    with pytest.raises(OperationalError, match="no such table"):
        queue.claim(NOW)

    assert len(faults) == 1


@pytest.mark.parametrize("database_engine", ["postgresql"], indirect=True)
def test_terminated_connections(rows: Rows, queue: Queue) -> None:
    """A mail is marked although the database server has closed our connections in the meantime."""
    mail = rows.mail()
    [waiting] = queue.claim(NOW)
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid != "
    killer = sa.create_engine(rows.engine.url)
    with killer.connect() as connection:
        connection.execute(sa.text(others + "pg_backend_pid()"))
    killer.dispose()

    marked = queue.sent(waiting, NOW)

    assert marked
    assert rows.stored(mail).state == "sent"
