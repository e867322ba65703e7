"""Accounts in their table: found by one address, changed by compare-and-set."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from shop import BOB, VIC, Desk, at_once
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flask_accountflow import UserMixin, models
from flask_accountflow.identity import Address
from flask_accountflow.store.accounts import Accounts
from flask_accountflow.tokens import random_id

HOUR = timedelta(hours=1)


# Finding


def test_find(desk: Desk) -> None:
    """An account is found by its canonical address and by its key, with all that flows know of it, in UTC."""
    made = desk.create(password_hash="af1$x", locale="de", email_verified_at=desk.now, is_admin=True)

    found = desk.read(lambda: desk.accounts.find(VIC.key))

    assert found == made == desk.read(lambda: desk.accounts.get(made.id))
    assert (found.email, found.email_key, found.password_hash) == ("Vic@Example.com", "vic@example.com", "af1$x")
    assert (found.locale, found.is_active, found.is_admin, found.last_login_at) == ("de", True, True, None)
    assert found.email_verified
    assert found.created_at == desk.now
    assert found.created_at.tzinfo is timezone.utc


def test_find_nobody(desk: Desk) -> None:
    """An address that nobody holds, and a key that no row has, find nothing."""
    desk.create()

    assert desk.read(lambda: desk.accounts.find(BOB.key)) is None
    assert desk.read(lambda: desk.accounts.get(uuid.uuid4())) is None


@pytest.mark.parametrize("key", ["v_c@example.com", "v%@example.com", "%", "vic@example.com%", "'vic@example.com'"])
def test_SUP_11_find_has_no_wildcards(desk: Desk, key: str) -> None:
    """What means something to LIKE means itself."""
    desk.create()

    assert desk.read(lambda: desk.accounts.find(key)) is None


def test_address_that_was_taken_away(desk: Desk) -> None:
    """An account that lost its address to its owner is not found by it, and several may be in that state."""
    for address in (VIC, BOB):
        account = desk.create(address)
        desk.run(partial(desk.accounts.change, account, {"email_key": None}))

    assert desk.read(lambda: desk.accounts.find(VIC.key)) is None
    assert [row.email_key for row in desk.shop.rows("user")] == [None, None]


LINKS: dict[str, tuple[dict[str, Any], bool]] = {
    "live": ({}, True),
    "of another purpose": ({"purpose": "reset"}, False),
    "of an older stamp": ({"stamp": uuid.UUID(int=1)}, False),
    "expired": ({"expires_at": timedelta(0)}, False),
    "about to expire": ({"expires_at": timedelta(seconds=1)}, True),
    "used": ({"used_at": timedelta(0), "outcome": "redeemed"}, False),
    "a decoy": ({"used_at": timedelta(0), "outcome": "decoy"}, False),
}


@pytest.mark.parametrize("name", LINKS)
def test_find_with_link(desk: Desk, name: str) -> None:
    """An account holds a link of a purpose when one is unused, not expired and under its present stamp."""
    values, expected = LINKS[name]
    account = desk.create()
    moments = {key: desk.now + value for key, value in values.items() if isinstance(value, timedelta)}
    desk.link(account, **{**values, **moments})

    assert desk.read(lambda: desk.accounts.find_with_link(VIC.key, "signup", desk.now)) == (account, expected)
    assert desk.read(lambda: desk.accounts.find_with_link(VIC.key, "signup", desk.now, lock=True))[1] == expected


def test_find_with_link_of_somebody_else(desk: Desk) -> None:
    """Only links of the account itself count, and an address without an account holds none."""
    vic, bob = desk.create(VIC), desk.create(BOB)
    desk.link(bob, email_key=VIC.key, stamp=vic.stamp)

    assert desk.read(lambda: desk.accounts.find_with_link(VIC.key, "signup", desk.now)) == (vic, False)
    assert desk.read(lambda: desk.accounts.find_with_link("x@example.com", "signup", desk.now)) == (None, False)


def test_locking_read_sees_what_was_committed_last(desk: Desk) -> None:
    """A locking read sees an account that another connection committed since the transaction began to read."""
    shop = desk.shop

    def work() -> tuple[Any, bool]:
        before = desk.accounts.find(VIC.key)
        # On SQLite nobody else can write now.
        if shop.engine.dialect.name != "sqlite":
            values = {"id": random_id(), "stamp": random_id(), "is_active": True, "is_admin": False}
            with shop.engine.begin() as other:
                other.execute(
                    sa.insert(shop.tables.user).values(
                        email=VIC.email, email_key=VIC.key, created_at=desk.now, **values
                    )
                )
        return before, desk.accounts.find_with_link(VIC.key, "signup", desk.now, lock=True)[0] is not None

    assert desk.run(work) == (None, shop.engine.dialect.name != "sqlite")


# Creating


def test_create(desk: Desk) -> None:
    """A new account has the defaults of its columns and a stamp of its own; the hook gets the entity with its key."""
    seen: list[Any] = []

    account = desk.run(lambda: desk.accounts.create(VIC, desk.now, values={"name": "Vic"}, hook=seen.append))

    [row] = desk.shop.rows("user")
    assert (row.id, row.email, row.email_key, row.name) == (account.id, "Vic@Example.com", "vic@example.com", "Vic")
    assert (account.is_active, account.is_admin, account.email_verified, account.password_hash) == (
        True,
        False,
        False,
        None,
    )
    assert row.stamp == account.stamp
    assert [type(user) for user in seen] == [desk.shop.User]


def test_create_runs_the_hosts_events(desk: Desk) -> None:
    """The account is inserted by the app's model, so that the app's own events run."""

    def shout(mapper: Any, connection: Any, user: Any) -> None:
        user.name = "from an event"

    sa.event.listen(desk.shop.User, "before_insert", shout)
    try:
        desk.create()
    finally:
        sa.event.remove(desk.shop.User, "before_insert", shout)

    assert desk.shop.rows("user")[0].name == "from an event"


def test_SUP_08_create_a_taken_address(desk: Desk) -> None:
    """An address that is held in any spelling creates nothing, calls no hook and leaves the unit as it was."""
    desk.create()
    calls: list[Any] = []

    def work() -> Any:
        desk.shop.db.session.add(desk.shop.Note(text="mine"))
        return desk.accounts.create(Address("VIC@example.com", VIC.key), desk.now, values={}, hook=calls.append)

    assert desk.run(work) is None
    assert calls == []
    assert desk.shop.notes() == ["mine"]
    assert [row.email for row in desk.shop.rows("user")] == ["Vic@Example.com"]


def test_create_against_a_constraint_of_the_host(desk: Desk) -> None:
    """A constraint of the host is the host's IntegrityError, and no taken address."""
    first = desk.create()

    with pytest.raises(IntegrityError):
        desk.run(lambda: desk.accounts.create(BOB, desk.now, values={"id": first.id}))

    assert len(desk.shop.rows("user")) == 1


def test_SUP_14_create_at_once(desk: Desk) -> None:
    """Of many sign-ups of one address at once exactly one makes the account, and the others find it."""

    def work() -> Any:
        desk.accounts.find(VIC.key)  # from now on a plain read on MariaDB goes on seeing nobody
        made = desk.accounts.create(VIC, desk.now, values={})
        return made is not None, desk.accounts.find_with_link(VIC.key, "signup", desk.now, lock=True)[0]

    results = at_once([lambda: desk.run(work)] * 8)

    [row] = desk.shop.rows("user")
    assert sorted(won for won, _ in results) == [False] * 7 + [True]
    assert {account.id for _, account in results} == {row.id}


# Changing


def test_change_rotates_the_stamp(desk: Desk) -> None:
    """A change and a new random stamp are one UPDATE, and the account that is returned is the one that is stored."""
    account = desk.create()

    with desk.shop.statements() as seen:
        changed = desk.run(lambda: desk.accounts.change(account, {"password_hash": "af1$new", "name": "Vic"}))

    assert len(seen) == 1
    assert changed.stamp != account.stamp
    assert changed == desk.read(lambda: desk.accounts.get(account.id))
    assert (changed.password_hash, desk.shop.rows("user")[0].name) == ("af1$new", "Vic")


def test_change_by_an_expression(desk: Desk) -> None:
    """A column may be changed to what the database works out, such as its default, beside one that is given."""
    account = desk.create()

    desk.run(lambda: desk.accounts.change(account, {"name": sa.func.upper("vic"), "password_hash": "af1$new"}))

    [row] = desk.shop.rows("user")
    assert (row.name, row.password_hash) == ("VIC", "af1$new")


def test_change_by_nothing_rotates_too(desk: Desk) -> None:
    """Ending everything that was issued is a change without values."""
    account = desk.create()

    changed = desk.run(lambda: desk.accounts.change(account, {}))

    assert changed.stamp not in {None, account.stamp}


def test_move(desk: Desk) -> None:
    """An account moves to an address in one UPDATE, with a new stamp and whatever else is changed."""
    account = desk.create()

    with desk.shop.statements() as seen:
        moved = desk.run(lambda: desk.accounts.move(account, BOB, {"password_hash": None}))

    assert len(seen) == 1
    assert (moved.email, moved.email_key, moved.stamp != account.stamp) == (BOB.email, BOB.key, True)
    assert moved == desk.read(lambda: desk.accounts.find(BOB.key))
    assert desk.read(lambda: desk.accounts.find(VIC.key)) is None


def test_move_to_a_taken_address(desk: Desk) -> None:
    """An address that another holds is not taken from it, and the unit goes on."""
    account, other = desk.create(VIC), desk.create(BOB)

    def work() -> Any:
        desk.shop.db.session.add(desk.shop.Note(text="mine"))
        return desk.accounts.move(account, BOB, {})

    assert desk.run(work) is None
    assert desk.shop.notes() == ["mine"]
    assert desk.read(lambda: desk.accounts.find(VIC.key)) == account
    assert desk.read(lambda: desk.accounts.find(BOB.key)) == other


def test_create_nothing(desk: Desk) -> None:
    """What takes the steps of a new account runs one statement, and touches no row."""
    desk.create()
    before = desk.shop.rows("user")
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement.split(maxsplit=1)[0])

    sa.event.listen(desk.shop.engine, "before_cursor_execute", note)
    try:
        desk.run(desk.accounts.create_nothing)
    finally:
        sa.event.remove(desk.shop.engine, "before_cursor_execute", note)

    last = max(number for number, verb in enumerate(seen) if verb == "DELETE")
    assert seen[last - 1 : last + 2] == ["SAVEPOINT", "DELETE", "RELEASE"]
    assert desk.shop.rows("user") == before


def test_change_of_an_account_that_has_changed(desk: Desk) -> None:
    """An account whose stamp is no longer the known one is not changed."""
    account = desk.create()
    first = desk.run(lambda: desk.accounts.change(account, {"password_hash": "first"}))

    second = desk.run(lambda: desk.accounts.change(account, {"password_hash": "second", "is_active": False}))

    assert second is None
    assert desk.read(lambda: desk.accounts.get(account.id)) == first


def test_change_touches_one_account(desk: Desk) -> None:
    """Nobody else's account changes, even under the same stamp."""
    vic = desk.create(VIC)
    bob = desk.create(BOB, stamp=vic.stamp)

    desk.run(lambda: desk.accounts.change(vic, {"is_active": False}))

    assert desk.read(lambda: desk.accounts.get(bob.id)) == bob


def test_RST_19_changes_at_once(desk: Desk) -> None:
    """Of many changes that know the same stamp exactly one is made."""
    account = desk.create()

    works = [partial(desk.accounts.change, account, {"password_hash": f"by {number}"}) for number in range(8)]
    results = at_once([partial(desk.run, work) for work in works])

    winners = [changed for changed in results if changed is not None]
    assert len(winners) == 1
    assert desk.read(lambda: desk.accounts.get(account.id)) == winners[0]


def test_note_login(desk: Desk) -> None:
    """A login notes its time, and a hash only when there is a new one; nothing ends by it."""
    account = desk.create(password_hash="af1$old")
    desk.shop.clock.tick(60)

    plain = desk.run(lambda: desk.accounts.note_login(account, desk.now, None))
    after_plain = desk.read(lambda: desk.accounts.get(account.id))
    rehashed = desk.run(lambda: desk.accounts.note_login(account, desk.now, "af1$new"))
    after_rehash = desk.read(lambda: desk.accounts.get(account.id))

    assert (plain, rehashed) == (True, True)
    assert (after_plain.password_hash, after_plain.last_login_at) == ("af1$old", desk.now)
    assert after_rehash.password_hash == "af1$new"
    assert after_plain.stamp == after_rehash.stamp == account.stamp


def test_F22_login_against_a_change(desk: Desk) -> None:
    """A login whose account has changed since its password was checked is not noted."""
    account = desk.create(password_hash="af1$old")
    desk.run(lambda: desk.accounts.change(account, {"password_hash": "af1$reset"}))

    noted = desk.run(lambda: desk.accounts.note_login(account, desk.now, "af1$old rehashed"))

    assert noted is False
    assert desk.read(lambda: desk.accounts.get(account.id)).password_hash == "af1$reset"


def test_account_of_an_entity(desk: Desk) -> None:
    """The account of the app's entity is the one that its row says."""
    account = desk.create(email_verified_at=desk.now)

    with desk.shop.app.app_context():
        user = desk.shop.db.session.scalars(sa.select(desk.shop.User)).one()

        assert desk.accounts.from_entity(user) == account


# For a login


def hashes(desk: Desk, since: timedelta = HOUR) -> tuple[str | None, str | None]:
    """Return the hash of the account, and that of the attempt, that a login looks at; "" for no attempt."""
    account, attempt = desk.read(lambda: desk.accounts.find_for_login(VIC.key, desk.now - since))
    return None if account is None else account.password_hash, "" if attempt is None else attempt.password_hash


def test_login_of_nobody(desk: Desk) -> None:
    """An address that nobody holds or signed up with has neither account nor attempt."""
    desk.create(BOB)

    assert desk.read(lambda: desk.accounts.find_for_login(VIC.key, desk.now - HOUR)) == (None, None)


def test_LOG_02_login_reads_once(desk: Desk) -> None:
    """Whoever owns the address, a login reads one statement, and the same one."""
    desk.create(VIC, password_hash="af1$own")
    desk.link(None, payload={"password_hash": "af1$tried"})

    with desk.shop.statements() as known:
        hashes(desk)
    with desk.shop.statements() as unknown:
        desk.read(lambda: desk.accounts.find_for_login("x@example.com", desk.now))

    assert known == unknown
    assert len(known) == 1


ATTEMPTS: dict[str, tuple[dict[str, Any], str | None]] = {
    "open": ({}, "af1$tried"),
    "a decoy": ({"used_at": timedelta(0), "outcome": "decoy"}, "af1$tried"),
    "expired": ({"expires_at": timedelta(seconds=-1)}, "af1$tried"),
    "redeemed": ({"used_at": timedelta(0), "outcome": "redeemed"}, ""),
    "discarded": ({"used_at": timedelta(0), "outcome": "discarded"}, ""),
    "displaced": ({"used_at": timedelta(0), "outcome": "displaced"}, ""),
    "too old": ({"created_at": -HOUR}, ""),
    "old": ({"created_at": -HOUR + timedelta(seconds=1)}, "af1$tried"),
    "of another address": ({"email_key": BOB.key}, ""),
    "a reset": ({"purpose": "reset"}, ""),
    "without a password": ({"payload": {"nonce": "n"}}, None),
    "without a payload": ({"payload": None}, None),
}


@pytest.mark.parametrize("has_account", [True, False], ids=["account", "stranger"])
@pytest.mark.parametrize("name", ATTEMPTS)
def test_SUP_21_attempt_of_a_login(desk: Desk, name: str, has_account: bool) -> None:
    """A sign-up that was not redeemed, discarded or displaced counts for a login, whoever owns the address."""
    values, expected = ATTEMPTS[name]
    account = desk.create(password_hash="af1$own") if has_account else None
    moments = {key: desk.now + value for key, value in values.items() if isinstance(value, timedelta)}
    desk.link(account, **{"payload": {"password_hash": "af1$tried"}, **values, **moments})

    assert hashes(desk) == ("af1$own" if has_account else None, expected)


def test_newest_attempt_of_a_login(desk: Desk) -> None:
    """Of several sign-ups the newest one counts."""
    for age, text in ((2, "older"), (1, "newest"), (3, "oldest")):
        desk.link(None, created_at=desk.now - timedelta(minutes=age), payload={"password_hash": text})

    assert hashes(desk) == (None, "newest")


# What a column holds when nobody fills it


class OwnBase(DeclarativeBase):
    """The models of an app with defaults of every kind."""


class OwnUser(UserMixin, OwnBase):
    """An account of that app."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    nick: Mapped[str | None] = mapped_column(sa.String(9))
    plan: Mapped[str] = mapped_column(sa.String(9), insert_default="free")
    invites: Mapped[int] = mapped_column(default=3)
    note: Mapped[str | None] = mapped_column(sa.String(9), default="none yet")
    level: Mapped[int] = mapped_column(server_default="1")
    quote: Mapped[str | None] = mapped_column(sa.String(9), server_default="it's")
    score: Mapped[int] = mapped_column(server_default=sa.text("(2 + 3)"))
    made_by: Mapped[str] = mapped_column(sa.String(9), default=lambda: "code")
    title: Mapped[str] = mapped_column(sa.String(9))


def test_RST_18_defaults(database_uri: str) -> None:
    """The app's columns fall back to their default, or to nothing; those that say neither are left as they are."""
    accounts = Accounts(None, OwnUser, sa.inspect(OwnUser), models.build(OwnUser))  # type: ignore[arg-type]
    texts, numbers = ("nick", "plan", "note", "quote", "made_by", "title"), ("invites", "level", "score")
    engine = sa.create_engine(database_uri)
    OwnBase.metadata.create_all(engine)
    filled = {**dict.fromkeys(texts, "old"), **dict.fromkeys(numbers, 9)}

    found = accounts.defaults([*texts, *numbers, "no_column"])
    with engine.begin() as connection:
        ours = {"email": "x", "created_at": datetime(2026, 1, 1), "is_active": True, "is_admin": False}
        connection.execute(sa.insert(OwnUser).values(**ours, **filled))
        connection.execute(sa.update(OwnUser).values(found))
        row = connection.execute(sa.select(OwnUser)).mappings().one()
    engine.dispose()

    assert {name: row[name] for name in filled} == {
        "nick": None,
        "plan": "free",
        "note": "none yet",
        "quote": "it's",
        "made_by": "old",
        "title": "old",
        "invites": 3,
        "level": 1,
        "score": 5,
    }
    assert "no_column" not in found


# What a column can hold


class Point(sa.types.UserDefinedType[Any]):
    """A type of the app's own, which does not say what its values are."""

    cache_ok = True

    def get_col_spec(self, **options: Any) -> str:
        return "VARCHAR(20)"

    @property
    def python_type(self) -> type[Any]:
        raise NotImplementedError  # as SQLAlchemy 2.0 does


class Counter(UserMixin, OwnBase):
    """An account with numbers of every size."""

    __tablename__ = "counters"

    id: Mapped[int] = mapped_column(primary_key=True)
    small: Mapped[int | None] = mapped_column(sa.SmallInteger)
    plain: Mapped[int | None]
    big: Mapped[int | None] = mapped_column(sa.BigInteger)
    place: Mapped[Any] = mapped_column(Point, nullable=True)


@pytest.fixture
def counters() -> Accounts:
    """The accounts with numbers; no database is asked."""
    tables = models.build(Counter, "counter_")
    return Accounts(None, Counter, sa.inspect(Counter), tables)  # type: ignore[arg-type]


def test_largest_numbers(counters: Accounts, database_uri: str) -> None:
    """The largest and smallest numbers that fit a column are kept by every database, and the next ones are refused."""
    bounds = {"small": 2**15, "plain": 2**31, "big": 2**63}
    largest = {name: bound - 1 for name, bound in bounds.items()}
    smallest = {name: -bound + 1 for name, bound in bounds.items()}
    engine = sa.create_engine(database_uri)
    OwnBase.metadata.create_all(engine)

    with engine.begin() as connection:
        ours = {"email": "x", "created_at": datetime(2026, 1, 1), "is_active": True, "is_admin": False}
        connection.execute(sa.insert(Counter), [{**ours, **largest}, {**ours, **smallest}])
        kept = [dict(row) for row in connection.execute(sa.select(*(getattr(Counter, n) for n in bounds))).mappings()]
    engine.dispose()

    assert kept == [largest, smallest]
    assert [*counters.misfits(largest), *counters.misfits(smallest)] == []
    for values in (bounds, {name: -bound for name, bound in bounds.items()}):
        assert [fault.field for fault in counters.misfits(values)] == list(bounds)
        assert {fault.code for fault in counters.misfits(values)} == {"invalid"}


def test_column_of_a_type_of_the_app(counters: Accounts) -> None:
    """A column of a type that says nothing of its values takes what the form holds."""
    assert counters.typed({"place": "52,13"}) == {"place": "52,13"}
    assert list(counters.misfits({"place": "52,13"})) == []
