"""The operator's side of the outbox, on each database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from shop import VIC, Desk, Shop
from sqlalchemy import event
from support import START

from flask_accountflow.store.mailbox import (
    DEAD_LINK,
    LEASED,
    MISSING,
    NO_ADDRESS,
    OUTDATED,
    Entry,
    Mailbox,
    MailStatus,
    Retry,
)

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def box(desk: Desk) -> Mailbox:
    """Return the mailbox of a host app."""
    return desk.store.mailbox


def put(desk: Desk, **values: Any) -> int:
    """Insert a mail that was given up, and return its id."""
    row = {
        "template": "reset",
        "to_addr": VIC.email,
        "to_key": "key",
        "state": "failed",
        "message_id": "m@example.com",
        "created_at": desk.now,
        "expires_at": desk.now + HOUR,
        "attempts": 5,
        "next_attempt_at": desk.now,
        "last_error": "550 No",
        **values,
    }
    with desk.shop.engine.begin() as connection:
        return int(connection.execute(sa.insert(desk.shop.tables.mail).values(row)).inserted_primary_key[0])


def stored(desk: Desk, mail_id: int) -> Any:
    """Return the row of a mail."""
    return desk.shop.rows("mail", id=mail_id)[0]


def status(desk: Desk) -> MailStatus:
    """Ask how the outbox does."""
    with desk.shop.app.app_context():
        return box(desk).status(desk.now)


def retry(desk: Desk, *ids: int) -> list[Retry]:
    """Try mails again, in a unit of work."""
    done: list[Retry] = desk.run(lambda: box(desk).retry(ids, desk.now))
    return done


def obstacle(desk: Desk, mail_id: int) -> str | None:
    """Try a mail again, and return why it is not tried."""
    [one] = retry(desk, mail_id)
    assert one.id == mail_id
    return one.obstacle


# How it does


def test_status(desk: Desk) -> None:
    """The status counts what waits and what was given up, and says for how many seconds the oldest has waited."""
    for state in ("failed", "failed", "sent", "dropped"):
        put(desk, state=state, created_at=START - HOUR)
    put(desk, state="pending", created_at=START - MINUTE, next_attempt_at=START + HOUR)
    put(desk, state="pending", created_at=START)
    desk.shop.clock.tick(30)

    assert status(desk) == MailStatus(pending=2, failed=2, oldest=90)


def test_status_of_an_empty_outbox(desk: Desk) -> None:
    """Where nothing waits there is no oldest mail."""
    assert status(desk) == MailStatus(pending=0, failed=0, oldest=None)


def test_status_by_a_clock_that_is_behind(desk: Desk) -> None:
    """A mail that was queued by a machine whose clock is ahead waits for no time, and not for less."""
    put(desk, state="pending", created_at=START + MINUTE)

    assert status(desk).oldest == 0


def test_status_is_one_statement(desk: Desk) -> None:
    """A health check costs one statement."""
    with desk.shop.statements() as seen:
        status(desk)

    assert len(seen) == 1


def test_status_reads_by_an_index(desk: Desk) -> None:
    """However many mails were sent, the status reads only those that wait, and counts those that were given up."""
    with desk.shop.engine.begin() as connection:
        row = {"template": "reset", "to_key": "key", "created_at": START, "expires_at": START, "attempts": 1}
        row |= {"next_attempt_at": START, "state": "sent"}
        connection.execute(sa.insert(desk.shop.tables.mail), [row] * 5000)
        connection.execute(sa.insert(desk.shop.tables.mail), [{**row, "state": "pending"}] * 3)

    assert plan(desk, box(desk)._status).count("accountflow_mail_due") >= 2


def plan(desk: Desk, statement: sa.Select[Any]) -> str:
    """Return how the database would run a statement about mails."""
    engine = desk.shop.engine
    text = str(statement.compile(engine, compile_kwargs={"literal_binds": True}))
    is_sqlite, is_mariadb = engine.dialect.name == "sqlite", engine.dialect.name == "mysql"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE TABLE accountflow_mail" if is_mariadb else "ANALYZE")
        return repr(connection.exec_driver_sql(f"EXPLAIN {'QUERY PLAN' if is_sqlite else ''} {text}").all())


def test_status_leaves_the_host_alone(desk: Desk) -> None:
    """In the middle of the host's work the status neither writes, commits nor ends anything of it."""
    shop = desk.shop
    put(desk, state="pending", created_at=START)
    with shop.app.app_context():
        shop.db.session.add(shop.Note(text="mine"))
        shop.db.session.flush()
        before = shop.db.session().get_transaction()
        found = box(desk).status(desk.now)
        after = shop.db.session().get_transaction()
        seen = shop.notes()
        shop.db.session.rollback()

    assert (found.pending, seen, shop.notes()) == (1, [], [])
    assert before is after


@pytest.mark.parametrize("ends", [True, False])
def test_status_on_the_only_connection(make_shop: Callable[..., Shop], ends: bool) -> None:
    """On a database in memory, too, what the host has written is the host's to commit or to undo."""
    shop = make_shop(uri="sqlite://")
    desk = Desk(shop)
    with shop.app.app_context():
        shop.db.session.add(shop.Note(text="mine"))
        shop.db.session.flush()
        found = box(desk).status(desk.now)
        if ends:
            shop.db.session.commit()
        else:
            shop.db.session.rollback()

    assert found.pending == 0
    assert shop.notes() == (["mine"] if ends else [])


def test_status_within_an_outer_transaction(desk: Desk) -> None:
    """Within a host's test fixture the status sees what the test has written, and the fixture's rollback undoes it."""
    with desk.shop.outer_transaction() as connection, desk.shop.app.app_context():
        connection.execute(sa.insert(desk.shop.tables.mail).values(_plain(desk)))
        inside = box(desk).status(desk.now).pending

    assert (inside, status(desk).pending) == (1, 0)


def _plain(desk: Desk) -> dict[str, Any]:
    moments = dict.fromkeys(("created_at", "expires_at", "next_attempt_at"), desk.now)
    return {"template": "reset", "to_key": "key", "state": "pending", "attempts": 0, **moments}


def test_status_without_a_table(desk: Desk) -> None:
    """A fault of the database is the caller's to hear, and the host's transaction goes on."""
    shop = desk.shop
    shop.tables.mail.drop(shop.engine)
    try:
        with shop.app.app_context():
            shop.db.session.add(shop.Note(text="mine"))
            with pytest.raises(sa.exc.DBAPIError):
                box(desk).status(desk.now)
            shop.db.session.commit()
    finally:
        shop.tables.mail.create(shop.engine)

    assert shop.notes() == ["mine"]


# What is in it


def test_entry(desk: Desk) -> None:
    """An entry says all that an operator asks, in UTC, and nothing that opens anything."""
    link = uuid4()
    number = put(
        desk, state="sent", token_id=link, sent_at=START + MINUTE, last_error=None, context={"origin": "http://x"}
    )

    with desk.shop.app.app_context():
        [entry] = box(desk).entries(None, 10, desk.now)

    assert entry == Entry(
        id=number,
        template="reset",
        state="sent",
        to_addr=VIC.email,
        created_at=START,
        expires_at=START + HOUR,
        next_attempt_at=START,
        sent_at=START + MINUTE,
        attempts=5,
        reason=None,
        is_leased=False,
        has_link=True,
    )
    assert link.hex not in repr(entry).replace("-", "")


@pytest.mark.parametrize(
    ("state", "order"), [("pending", 1), ("failed", -1), ("sent", -1), ("dropped", -1), (None, -1)]
)
def test_entries_in_their_order(desk: Desk, state: str | None, order: int) -> None:
    """What waits comes oldest first, everything else newest first, and no more than were asked for."""
    numbers = [put(desk, state=state or "sent") for _ in range(5)]
    if state is not None:
        put(desk, state="sent" if state != "sent" else "failed")

    with desk.shop.app.app_context():
        found = [entry.id for entry in box(desk).entries(state, 3, desk.now)]

    assert found == numbers[::order][:3]


@pytest.mark.parametrize(("until", "is_leased"), [(None, False), (-1, False), (0, True), (59, True)])
def test_entry_in_somebodys_hands(desk: Desk, until: int | None, is_leased: bool) -> None:
    """An entry says whether a sender holds the mail, which ends with the lease."""
    put(desk, state="pending", lease_until=None if until is None else START + timedelta(seconds=until))

    with desk.shop.app.app_context():
        assert box(desk).entries("pending", 1, desk.now)[0].is_leased is is_leased


def test_counts(desk: Desk) -> None:
    """The mails are counted by their state, also where there are none."""
    for state in ("failed", "failed", "sent"):
        put(desk, state=state)

    with desk.shop.app.app_context():
        assert box(desk).counts() == {"pending": 0, "sent": 1, "failed": 2, "dropped": 0}


def test_failed_ids(desk: Desk) -> None:
    """The mails that were given up are known by their ids, the oldest first."""
    numbers = [put(desk) for _ in range(3)]
    put(desk, state="sent")

    with desk.shop.app.app_context():
        assert box(desk).failed_ids() == numbers


# Another chance


def test_F05_retry(desk: Desk) -> None:
    """A mail that was given up waits again, due now, as if it had never been tried; why it failed stays to be read."""
    account = desk.create()
    number = put(desk, user_id=account.id, next_attempt_at=START - HOUR)

    [done] = retry(desk, number)

    row = stored(desk, number)
    assert (done.obstacle, done.user_id) == (None, str(account.id))
    assert done.entry is not None
    assert (done.entry.template, done.entry.state) == ("reset", "pending")
    assert (row.state, row.attempts, row.lease_id, row.lease_until, row.last_error) == (
        "pending",
        0,
        None,
        None,
        "550 No",
    )
    assert row.next_attempt_at.replace(tzinfo=None) == START.replace(tzinfo=None)


def test_retry_of_a_mail_that_waits(desk: Desk) -> None:
    """A mail that waits for its next try is due now."""
    number = put(desk, state="pending", next_attempt_at=START + HOUR)

    assert obstacle(desk, number) is None
    assert stored(desk, number).next_attempt_at.replace(tzinfo=None) == START.replace(tzinfo=None)


def test_retry_with_a_link_that_works(desk: Desk) -> None:
    """A mail whose link works is tried again."""
    link = desk.link(desk.create())

    assert obstacle(desk, put(desk, token_id=link)) is None


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"state": "sent"}, "sent"),
        ({"state": "dropped", "last_error": "capped"}, "dropped"),
        ({"state": "pending", "lease_id": uuid4(), "lease_until": START}, LEASED),
        ({"to_addr": None}, NO_ADDRESS),
        ({"expires_at": START}, OUTDATED),
        ({"token_id": uuid4()}, DEAD_LINK),
    ],
)
def test_retry_that_makes_no_sense(desk: Desk, values: dict[str, Any], why: str) -> None:
    """What is done, held by a sender, without an address, too old or without its link stays as it is."""
    number = put(desk, **values)
    before = stored(desk, number)

    assert obstacle(desk, number) == why
    assert stored(desk, number) == before


def use(desk: Desk, link: UUID) -> None:
    _change(desk, "token", link, used_at=START)


def expire(desk: Desk, link: UUID) -> None:
    _change(desk, "token", link, expires_at=START)


def disable(desk: Desk, link: UUID) -> None:
    desk.shop.change(VIC.key, is_active=False)


def reset(desk: Desk, link: UUID) -> None:
    desk.shop.change(VIC.key, stamp=uuid4())


def _change(desk: Desk, table: str, row: UUID, **values: Any) -> None:
    chosen = getattr(desk.shop.tables, table)
    with desk.shop.engine.begin() as connection:
        connection.execute(sa.update(chosen).where(chosen.c.id == row).values(values))


@pytest.mark.parametrize("end", [use, expire, disable, reset])
def test_retry_with_a_dead_link(desk: Desk, end: Callable[[Desk, UUID], None]) -> None:
    """A mail is not sent again with a link that was used, has expired, or whose account has changed."""
    link = desk.link(desk.create())
    number = put(desk, token_id=link)
    end(desk, link)

    assert obstacle(desk, number) == DEAD_LINK
    assert stored(desk, number).state == "failed"


def test_retry_with_a_link_that_undoes(desk: Desk) -> None:
    """A mail whose link brings an old address back is tried again, although its account has changed since."""
    link = desk.link(desk.create(), purpose="revert")
    number = put(desk, token_id=link)
    reset(desk, link)

    assert obstacle(desk, number) is None


def test_retry_of_what_is_not_there(desk: Desk) -> None:
    """An id that no mail has is said to be missing."""
    assert retry(desk, 4711) == [Retry(4711, None, None, MISSING)]


def test_retry_of_several(desk: Desk) -> None:
    """Of several mails each is judged for itself."""
    numbers = [put(desk), put(desk, state="sent"), put(desk)]

    assert [one.obstacle for one in retry(desk, *numbers)] == [None, "sent", None]


def test_retry_while_a_sender_takes_the_mail(desk: Desk) -> None:
    """A mail that a sender takes in the moment before stays the sender's, and is not sent twice."""
    number = put(desk, state="pending")
    with Claiming(desk, "UPDATE accountflow_mail"):
        assert obstacle(desk, number) == LEASED

    row = stored(desk, number)
    assert (row.lease_id is None, row.attempts) == (False, 6)


def test_retry_while_a_sender_gives_the_mail_back(desk: Desk) -> None:
    """When nothing is wrong with a mail any more after it could not be retried, a sender has just had it."""
    link = desk.link(desk.create())
    number = put(desk, state="pending", token_id=link, lease_id=uuid4(), lease_until=START + MINUTE)
    engine, done = desk.shop.engine, []

    def release(connection: sa.Connection, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("UPDATE accountflow_mail") and not done:
            done.append(statement)
            table = desk.shop.tables.mail
            connection.execute(sa.update(table).where(table.c.id == number).values(lease_id=None, lease_until=None))

    event.listen(engine, "after_cursor_execute", release)
    try:
        assert obstacle(desk, number) == LEASED
    finally:
        event.remove(engine, "after_cursor_execute", release)
    assert done


class Claiming:
    """Lets a sender claim every mail just before a statement runs."""

    def __init__(self, desk: Desk, start: str) -> None:
        self._desk = desk
        self._start = start
        self._done = False

    def __enter__(self) -> None:
        event.listen(self._desk.shop.engine, "before_cursor_execute", self._act)

    def __exit__(self, *_: object) -> None:
        event.remove(self._desk.shop.engine, "before_cursor_execute", self._act)
        assert self._done

    def _act(self, connection: sa.Connection, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith(self._start) and not self._done:
            self._done = True
            table = self._desk.shop.tables.mail
            lease = {"lease_id": uuid4(), "lease_until": START + MINUTE, "attempts": table.c.attempts + 1}
            connection.execute(sa.update(table).values(lease))


def test_retried_mail_is_delivered(make_shop: Callable[..., Shop]) -> None:
    """A mail that was given up and is retried arrives, with the link that it would have had at first."""
    shop = make_shop({"ACCOUNTFLOW_MAIL_KICK": "worker"})
    desk = Desk(shop)
    shop.member(VIC.key)
    shop.program().request_reset(email=VIC.key)
    [mail] = shop.rows("mail")
    with shop.engine.begin() as connection:
        connection.execute(sa.update(shop.tables.mail).values(state="failed"))

    assert obstacle(desk, mail.id) is None
    shop.app.extensions["accountflow_delivery"].deliver_due()

    assert shop.program().reset(shop.last_link).status_code == 200
