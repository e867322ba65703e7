"""What a purge removes, what it leaves, and in what portions."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from shop import BOB, VIC, Desk, Shop
from sqlalchemy import orm
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from support import START, services

from flask_accountflow import UserMixin, models
from flask_accountflow.configuration import read
from flask_accountflow.identity import Address
from flask_accountflow.store.accounts import Account
from flask_accountflow.store.purge import Pace, Purge
from flask_accountflow.store.unit import Units
from flask_accountflow.tokens import random_id

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
#: The defaults of LINK_KEEP_AGE and UNVERIFIED_MAX_AGE.
KEPT, UNVERIFIED = 30 * DAY, 7 * DAY


def purge(desk: Desk) -> dict[str, int]:
    """Run a purge and return how many rows of each table went, by the table's last word."""
    with desk.shop.app.app_context():
        found = desk.store.purge.run(services(desk.shop).settings, desk.now)
    return {name.rpartition("_")[2]: count for name, count in found.items()}


def mail(desk: Desk, **values: Any) -> dict[str, Any]:
    """Return the row of a mail that was sent and is no longer needed."""
    return {
        "template": "reset",
        "to_key": "key",
        "state": "sent",
        "message_id": "m@x",
        "created_at": START - 40 * DAY,
        "expires_at": START - KEPT - SECOND,
        "attempts": 1,
        "next_attempt_at": START,
        **values,
    }


def insert(desk: Desk, table: str, *rows: dict[str, Any]) -> None:
    """Insert rows."""
    with desk.shop.engine.begin() as connection:
        connection.execute(sa.insert(getattr(desk.shop.tables, table)), list(rows))


def session(account: Account, **values: Any) -> dict[str, Any]:
    """Return the row of a login that was over long ago."""
    moments = dict.fromkeys(("created_at", "last_seen_at", "authenticated_at"), START - 60 * DAY)
    plain = {"kind": "browser", "generation": 0, "remember": False, "expires_at": START - KEPT - SECOND}
    return {"id": random_id(), "user_id": account.id, "stamp": account.stamp, **moments, **plain, **values}


def stale(desk: Desk, address: Address = VIC, **values: Any) -> Account:
    """Insert an account that was never confirmed and is older than such accounts get."""
    account = desk.create(address, **values)
    desk.shop.change(address.key, created_at=START - UNVERIFIED - SECOND)
    return account


class ClubBase(DeclarativeBase):
    """The models of an app without Flask."""


class Town(ClubBase):
    """Where members live."""

    __tablename__ = "towns"

    id: Mapped[int] = mapped_column(primary_key=True)


class Member(UserMixin, ClubBase):
    """An account that knows who invited it."""

    __tablename__ = "members"

    id: Mapped[int] = mapped_column(primary_key=True)
    invited_by: Mapped[int | None] = mapped_column(sa.ForeignKey("members.id"))
    town: Mapped[int | None] = mapped_column(sa.ForeignKey("towns.id"))


# Dead rows


@pytest.mark.parametrize(("expired", "gone"), [(KEPT + SECOND, 1), (KEPT, 0), (DAY, 0)])
def test_rows_go_when_nobody_asks_any_more(desk: Desk, expired: timedelta, gone: int) -> None:
    """Links, logins and mails are kept for a month after their end, to say why they are dead; then they go."""
    account = desk.create(email_verified_at=START)
    long_ago = START - 40 * DAY
    desk.link(account, created_at=long_ago, expires_at=START - expired)
    desk.link(None, created_at=long_ago, expires_at=START - expired, used_at=long_ago, outcome="decoy")
    insert(desk, "session", session(account, expires_at=START - expired))
    insert(desk, "mail", mail(desk, expires_at=START - expired))

    assert purge(desk) == {"mail": gone, "token": 2 * gone, "session": gone, "users": 0}
    assert len(desk.shop.rows("token")) == 2 - 2 * gone
    assert len(desk.shop.rows("session")) == len(desk.shop.rows("mail")) == 1 - gone


@pytest.mark.parametrize(("state", "gone"), [("pending", 0), ("sent", 1), ("failed", 1), ("dropped", 1)])
def test_mails_that_wait_stay(desk: Desk, state: str, gone: int) -> None:
    """A mail that was never tried to its end stays for whoever delivers it, or gives it up."""
    insert(desk, "mail", mail(desk, state=state))

    assert purge(desk)["mail"] == gone


def test_keeping_is_a_setting(make_shop: Callable[..., Shop]) -> None:
    """How long dead rows are kept is a setting."""
    desk = Desk(make_shop({"ACCOUNTFLOW_LINK_KEEP_AGE": 0}))
    desk.link(None, purpose="reset", expires_at=START - SECOND)
    desk.link(None, purpose="reset", expires_at=START)

    assert purge(desk)["token"] == 1


@pytest.mark.parametrize(("age", "gone"), [(UNVERIFIED, 0), (UNVERIFIED + SECOND, 1)])
def test_sign_ups_stay_while_they_compete(make_shop: Callable[..., Shop], age: timedelta, gone: int) -> None:
    """However short dead rows are kept: a sign-up that may still be a rival of another one stays, expired or not."""
    desk = Desk(make_shop({"ACCOUNTFLOW_LINK_KEEP_AGE": 0}))
    desk.link(desk.create(email_verified_at=START), created_at=START - age, expires_at=START - DAY)

    assert purge(desk)["token"] == gone


def test_SUP_06_a_purge_hands_no_sign_up_to_a_stranger(make_shop: Callable[..., Shop]) -> None:
    """An owner who let his link expire is asked for a password by a stranger's later one, purged or not."""
    shop = make_shop({"ACCOUNTFLOW_LINK_KEEP_AGE": 0})
    shop.program().signup("ada@example.com")
    shop.clock.tick(2 * DAY.total_seconds())
    shop.program().signup("ada@example.com", "the password of a stranger")
    purge(Desk(shop))

    answer = shop.program().verify(shop.last_link)

    assert answer.status_code == 422
    assert answer.json["errors"][0]["field"] == "password"


@pytest.mark.parametrize(("age", "gone"), [(DAY, 0), (DAY + SECOND, 1)])
def test_mails_stay_while_they_are_counted(make_shop: Callable[..., Shop], age: timedelta, gone: int) -> None:
    """However short dead rows are kept: a mail stays while the longest of the caps counts it."""
    desk = Desk(make_shop({"ACCOUNTFLOW_LINK_KEEP_AGE": 0}))
    insert(desk, "mail", mail(desk, created_at=START - age, expires_at=START - age + SECOND))

    assert purge(desk)["mail"] == gone


def test_SUP_15_a_purge_lifts_no_cap(make_shop: Callable[..., Shop]) -> None:
    """Who has used up the ten mails of a day gets no more of them by a purge."""
    shop = make_shop({"ACCOUNTFLOW_LINK_KEEP_AGE": 0, "ACCOUNTFLOW_VERIFY_MAX_AGE": 3600})
    shop.member("vic@example.com")
    for _ in range(12):
        shop.program().signup("vic@example.com")  # what he is told holds no link, so nothing spares him from the cap
        shop.clock.tick(1800)
        purge(Desk(shop))

    assert len(shop.letters) == 10


def test_purge_goes_in_portions(desk: Desk) -> None:
    """Many rows go in portions of two hundred, so that nobody waits long for the lock."""
    insert(desk, "mail", *[mail(desk, to_key=str(number)) for number in range(1100)])
    insert(desk, "mail", mail(desk, expires_at=START))

    with desk.shop.statements() as seen:
        gone = purge(desk)["mail"]

    deletes = [one for one in seen if one.startswith("DELETE FROM accountflow_mail")]
    assert (gone, len(deletes)) == (1100, 6)
    assert len(desk.shop.rows("mail")) == 1


def test_portions_begin_with_the_oldest(desk: Desk) -> None:
    """What has been dead for longest goes first."""
    table = desk.shop.tables.mail
    # The youngest first, as nothing but their age is to tell.
    insert(desk, "mail", *[mail(desk, expires_at=START - KEPT - number * SECOND) for number in range(1, 301)])
    young = sa.select(sa.func.count()).where(table.c.expires_at >= START - KEPT - 100 * SECOND)
    left = []

    def look(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE FROM accountflow_mail") and " IN " in statement:
            left.append(connection.execute(young).scalar_one())

    sa.event.listen(desk.shop.engine, "after_cursor_execute", look)
    purge(desk)
    sa.event.remove(desk.shop.engine, "after_cursor_execute", look)

    assert left == [100, 0]


def test_work_and_rest() -> None:
    """After 30 ms of work a purge rests for 40 ms, and begins to count again when it is awake."""
    time, rests = 0.0, []

    def sleep(seconds: float) -> None:
        nonlocal time
        rests.append((round(time, 3), seconds))
        time += seconds

    pace = Pace(lambda: time, sleep)
    for _ in range(10):
        time += 0.011
        pace.step()

    assert rests == [(0.033, 0.04), (0.106, 0.04), (0.179, 0.04)]


def test_rests_are_between_transactions(desk: Desk) -> None:
    """On SQLite a purge rests after each portion and each account, when others can write; elsewhere it never rests."""
    is_sqlite = desk.shop.engine.dialect.name == "sqlite"
    insert(desk, "mail", *[mail(desk) for _ in range(450)])
    stale(desk, VIC)
    stale(desk, BOB)
    rests = []

    def sleep(seconds: float) -> None:
        with closing(sqlite3.connect(str(desk.shop.engine.url.database), timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")
        rests.append(seconds)

    tables, mapper = desk.store.tables, sa.inspect(desk.shop.User)
    # By this clock there is never time for a second step.
    slow = Purge(desk.store.units, mapper, tables, lambda: Pace(itertools.count().__next__, sleep))
    with desk.shop.app.app_context():
        removed = slow.run(services(desk.shop).settings, desk.now)

    assert sorted(removed.values()) == [0, 0, 2, 450]
    assert len(rests) == (3 + 2 if is_sqlite else 0)


def test_nothing_to_purge(desk: Desk) -> None:
    """An empty database is purged of nothing."""
    assert purge(desk) == {"mail": 0, "token": 0, "session": 0, "users": 0}


def test_counting_deletes_nothing(desk: Desk) -> None:
    """What a purge would delete can be counted before, on every database, and the purge then deletes just that."""
    account = desk.create(email_verified_at=START)
    stale(desk, BOB)
    insert(desk, "session", *[session(account) for _ in range(3)], session(account, expires_at=START))
    insert(desk, "mail", *[mail(desk) for _ in range(4)], mail(desk, state="pending"))
    desk.link(account, created_at=START - 40 * DAY, expires_at=START - KEPT - SECOND)

    with desk.shop.app.app_context():
        counted = desk.store.purge.count(services(desk.shop).settings, desk.now)
    left = [len(desk.shop.rows(name)) for name in ("mail", "token", "session", "user")]

    assert {name.rpartition("_")[2]: count for name, count in counted.items()} == purge(desk)
    assert list(counted.values()) == [4, 1, 3, 1]
    assert left == [5, 1, 4, 2]


def test_many_accounts_go_in_portions(desk: Desk) -> None:
    """More stale accounts than one portion go, and those in between that the app's rows point at stay."""
    moment = START - UNVERIFIED - SECOND
    plain = {"is_active": True, "is_admin": False, "created_at": moment}
    rows = [
        {"id": random_id(), "stamp": random_id(), "email": f"{number}@x", "email_key": f"{number}@x", **plain}
        for number in range(1040)
    ]
    kept = sorted(row["id"] for row in rows)[::100]
    with desk.shop.engine.begin() as connection:
        connection.execute(sa.insert(desk.shop.tables.user), rows)
        connection.execute(sa.insert(desk.shop.Profile), [{"user_id": user_id} for user_id in kept])

    assert purge(desk)["users"] == 1029
    assert sorted(row.id for row in desk.shop.rows("user")) == kept


# Accounts that were never confirmed


def test_SUP_19_stale_account_goes_with_all_its_rows(desk: Desk) -> None:
    """An account that was never confirmed goes in time, with its links, logins and mails on every database."""
    account = stale(desk)
    bob = desk.create(BOB, email_verified_at=START)
    desk.link(account, created_at=START - UNVERIFIED - SECOND)
    desk.link(bob, email_key=BOB.key)
    insert(desk, "session", session(account, expires_at=START), session(bob, expires_at=START))
    insert(desk, "mail", mail(desk, user_id=account.id, expires_at=START), mail(desk, user_id=bob.id, expires_at=START))

    assert purge(desk)["users"] == 1

    assert [row.id for row in desk.shop.rows("user")] == [bob.id]
    for name in ("token", "session", "mail"):
        assert [row.user_id for row in desk.shop.rows(name)] == [bob.id]


def test_SUP_19_address_is_free_again(shop: Shop) -> None:
    """Somebody who did not confirm in time can sign up again, and confirm."""
    program = shop.program()
    program.signup("ada@example.com")
    first = shop.account("ada@example.com").id
    shop.clock.tick(timedelta(days=8).total_seconds())

    counts = purge(Desk(shop))
    program.signup("ada@example.com")
    answer = program.verify(shop.last_link)

    assert counts["users"] == 1
    assert answer.json["status"] == "verified"
    assert shop.account("ada@example.com").id != first


def test_account_stays_while_it_may_be_confirmed(desk: Desk) -> None:
    """An account that is young, confirmed or has a password of its own stays."""
    desk.create(VIC)
    desk.shop.change(VIC.key, created_at=START - UNVERIFIED)
    stale(desk, BOB, email_verified_at=START)
    stale(desk, Address("by@example.com", "by@example.com"), password_hash="af1$set by an administrator")

    assert purge(desk)["users"] == 0
    assert len(desk.shop.rows("user")) == 3


def test_account_stays_while_a_sign_up_is_open(desk: Desk) -> None:
    """An old account that somebody has signed up for again lately stays until that sign-up is old, too."""
    account = stale(desk)
    desk.link(account, created_at=START - UNVERIFIED)

    first = purge(desk)["users"]
    desk.shop.clock.tick(1)

    assert (first, purge(desk)["users"]) == (0, 1)


def test_displaced_account_goes(desk: Desk) -> None:
    """An account that lost its address to the owner goes like any other that was never confirmed."""
    account = stale(desk)
    desk.run(lambda: desk.accounts.change(account, {"email_key": None}))

    assert purge(desk)["users"] == 1


def test_account_that_the_app_refers_to_stays(desk: Desk) -> None:
    """An account that a row of the app points at stays, on SQLite too, and the others go."""
    kept = stale(desk, VIC)
    stale(desk, BOB)
    with desk.shop.engine.begin() as connection:
        connection.execute(sa.insert(desk.shop.Profile).values(user_id=kept.id))
    desk.link(kept, created_at=START - UNVERIFIED - SECOND)

    first, second = purge(desk)["users"], purge(desk)["users"]

    assert (first, second) == (1, 0)
    assert [row.id for row in desk.shop.rows("user")] == [kept.id]
    assert len(desk.shop.rows("token")) == 1


@pytest.mark.parametrize("enforced", [False, True])
def test_account_that_another_account_refers_to_stays(tmp_path: Path, enforced: bool) -> None:
    """An account that another account points at stays, whether SQLite was told to enforce that or not."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'club.db'}")
    if enforced:
        sa.event.listen(engine, "connect", lambda connection, record: connection.execute("PRAGMA foreign_keys=1"))
    tables = models.build(Member)
    ClubBase.metadata.create_all(engine)
    with engine.begin() as connection:
        plain = {"stamp": random_id(), "is_active": True, "is_admin": False, "created_at": START - 8 * DAY}
        members = [{"id": 1, "email": "a@x", "invited_by": None}, {"id": 2, "email": "b@x", "invited_by": 1}]
        connection.execute(sa.insert(Member), [{**plain, **member} for member in members])
        link = {"email_key": "a@x", "purpose": "signup", "created_at": START - 8 * DAY, "expires_at": START}
        connection.execute(sa.insert(tables.token), [{"id": random_id(), "user_id": key, **link} for key in (1, 2)])
    registry = orm.scoped_session(orm.sessionmaker(engine))
    mapper = sa.inspect(Member)
    settings, _ = read({"SECRET_KEY": "0123456789abcdef", "TESTING": True})
    purge_all = Purge(Units(lambda: registry, mapper, tables.mail), mapper, tables)

    first = purge_all.run(settings, START)["members"]
    left = registry.scalars(sa.select(tables.token.c.user_id)).all()
    second = purge_all.run(settings, START)["members"]

    registry.remove()
    engine.dispose()
    assert (first, left, second) == (1, [1], 1)


def test_account_that_is_confirmed_meanwhile(desk: Desk) -> None:
    """An account that is confirmed while the purge runs stays, with its links and logins."""
    account = stale(desk)
    insert(desk, "session", session(account, expires_at=START))

    with meanwhile(desk, lambda: desk.shop.change(VIC.key, email_verified_at=START)):
        counts = purge(desk)

    assert counts["users"] == 0
    assert desk.shop.account(VIC.key).email_verified_at is not None
    assert len(desk.shop.rows("session")) == 1


def test_account_that_is_signed_up_for_meanwhile(desk: Desk) -> None:
    """An account that somebody signs up for again while the purge runs stays, with the new link."""
    account = stale(desk)
    link = {"id": random_id(), "user_id": account.id, "email_key": VIC.key, "purpose": "signup", "stamp": account.stamp}

    with meanwhile(desk, lambda: insert(desk, "token", {**link, "created_at": START, "expires_at": START + DAY})):
        counts = purge(desk)

    assert counts["users"] == 0
    assert len(desk.shop.rows("user")) == len(desk.shop.rows("token")) == 1


@contextmanager
def meanwhile(desk: Desk, call: Callable[[], Any]) -> Iterator[None]:
    """Let something happen between the moment the purge reads the stale accounts and its next statement."""
    seen: list[str] = []

    def act(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        is_next = bool(seen) and _chooses(seen[-1])
        seen.append(statement)
        if is_next:
            call()

    sa.event.listen(desk.shop.engine, "before_cursor_execute", act)
    yield
    sa.event.remove(desk.shop.engine, "before_cursor_execute", act)
    assert any(map(_chooses, seen))


def _chooses(statement: str) -> bool:
    """Tell whether a purge asks for stale accounts."""
    return statement.startswith("SELECT users.") and "email_verified_at IS NULL" in statement
