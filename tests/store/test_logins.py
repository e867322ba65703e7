"""Logins in their table: opened, looked up, rotated once, and ended for good."""

from __future__ import annotations

import uuid
from datetime import timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa
from shop import BOB, HOUR, Desk, Shop, at_once
from support import START

from flask_accountflow.store.accounts import Account
from flask_accountflow.store.sessions import API, BROWSER, Login
from flask_accountflow.tokens import random_id

SECOND = timedelta(seconds=1)


def login(desk: Desk, account: Account, **values: Any) -> Login:
    """Open a login of an account for an hour."""
    plain: dict[str, Any] = {
        "kind": BROWSER,
        "remember": False,
        "now": desk.now,
        "expires_at": desk.now + HOUR,
        "ip": "203.0.113.9",
        "user_agent": "A browser",
    }
    opened = desk.run(lambda: desk.store.sessions.open(account.id, account.stamp, **{**plain, **values}))
    assert isinstance(opened, Login)
    return opened


def load(desk: Desk, login_id: uuid.UUID) -> Any:
    """Return entity and login of a session that is looked up."""
    return desk.read(lambda: desk.store.sessions.load(login_id))


def member(desk: Desk, login_id: uuid.UUID) -> Any:
    """Return what a request of our own routes finds."""
    return desk.read(lambda: desk.store.sessions.member(login_id))


def find(desk: Desk, login_id: uuid.UUID) -> tuple[Login, Account]:
    """Return a login that must be there, and its account."""
    found = desk.read(lambda: desk.store.sessions.find(login_id))
    assert found is not None
    return found  # type: ignore[no-any-return]


# Opening and finding


def test_open(desk: Desk) -> None:
    """A login is stored as it was opened, under the account's stamp, with times in UTC."""
    account = desk.create()

    opened = login(desk, account, kind=API, remember=True)

    stored, owner = find(desk, opened.id)
    assert stored == opened
    assert owner == account
    assert (stored.kind, stored.remember, stored.generation, stored.stamp) == (API, True, 0, account.stamp)
    assert {stored.created_at, stored.last_seen_at, stored.authenticated_at} == {START}
    assert stored.expires_at == START + HOUR
    assert stored.created_at.tzinfo is timezone.utc
    [row] = desk.shop.rows("session")
    assert (row.ip, row.user_agent, row.revoked_at) == ("203.0.113.9", "A browser", None)


def test_SES_03_ids_are_random(desk: Desk) -> None:
    """The ids of logins have 128 random bits: every bit of them is 0 in some and 1 in others."""
    account = desk.create()

    def work() -> list[int]:
        plain: dict[str, Any] = {"kind": API, "remember": False, "ip": None, "user_agent": None}
        moments = {"now": desk.now, "expires_at": desk.now}
        return [desk.store.sessions.open(account.id, account.stamp, **plain, **moments).id.int for _ in range(60)]

    ids = desk.run(work)

    ones = ids[0]
    zeros = ids[0]
    for number in ids:
        ones |= number
        zeros &= number
    assert len(set(ids)) == 60
    assert (ones, zeros) == (2**128 - 1, 0)


def test_load(desk: Desk) -> None:
    """A login is looked up in one statement, with the app's own entity."""
    account = desk.create(name="Vic")
    opened = login(desk, account)
    login(desk, desk.create(BOB))

    with desk.shop.statements() as seen, desk.shop.app.app_context():
        user, found = desk.store.sessions.load(opened.id)
        name = user.name

    assert (type(user), name, found) == (desk.shop.User, "Vic", opened)
    assert len(seen) == 1


def test_load_nothing(desk: Desk) -> None:
    """An id that no row has finds nobody."""
    login(desk, desk.create())

    assert load(desk, random_id()) is member(desk, random_id()) is None
    assert desk.read(lambda: desk.store.sessions.find(random_id())) is None


def test_LOG_17_disabled_account(desk: Desk) -> None:
    """The login of a disabled account finds nobody, even under the same stamp."""
    opened = login(desk, desk.create())
    desk.shop.change("vic@example.com", is_active=False)

    assert load(desk, opened.id) is member(desk, opened.id) is None


def test_SES_11_other_stamp(desk: Desk) -> None:
    """A login from before a change of its account finds nobody; one from after it does."""
    account = desk.create()
    before = login(desk, account)
    changed = desk.run(lambda: desk.accounts.change(account, {"password_hash": "af1$new"}))
    after = login(desk, changed)

    assert load(desk, before.id) is member(desk, before.id) is None
    assert load(desk, after.id)[1] == member(desk, after.id)[1] == after


@pytest.mark.parametrize("shop_of_session", ["sqlite", "postgresql"], indirect=True)
def test_row_decides_and_not_the_entity(desk: Desk) -> None:
    """What the host has in memory of a user does not keep a login alive that the table has ended.

    Not on MariaDB, where a transaction that has read goes on reading the same.
    """
    account = desk.create()
    opened = login(desk, account)

    with desk.shop.app.app_context():
        user = desk.shop.db.session.scalars(sa.select(desk.shop.User)).one()
        desk.shop.change("vic@example.com", stamp=random_id())
        found = desk.store.sessions.load(opened.id)
        remembered = user.stamp

    assert (found, remembered) == (None, account.stamp)


def test_dead_logins_are_found(desk: Desk) -> None:
    """``find`` and ``load`` tell of a login that was revoked or outlived; whether it is alive says the login."""
    account = desk.create()
    opened = login(desk, account)
    desk.run(lambda: desk.store.sessions.revoke(opened.id, desk.now))

    assert find(desk, opened.id)[0].revoked_at == desk.now
    assert load(desk, opened.id)[1].is_alive(desk.now) is False


@pytest.mark.parametrize(
    ("revoked", "age", "alive"),
    [(False, timedelta(0), True), (False, HOUR - SECOND, True), (False, HOUR, False), (True, timedelta(0), False)],
)
def test_is_alive(desk: Desk, revoked: bool, age: timedelta, alive: bool) -> None:
    """A login is alive until it is revoked or its time is over."""
    opened = login(desk, desk.create())
    if revoked:
        desk.run(lambda: desk.store.sessions.revoke(opened.id, desk.now))

    assert find(desk, opened.id)[0].is_alive(START + age) is alive


# Rotating


def rotate(desk: Desk, known: Login) -> bool:
    """Try to step from a known generation to the next."""
    return bool(desk.run(lambda: desk.store.sessions.rotate(known, desk.now)))


def test_REF_01_rotate(desk: Desk) -> None:
    """A family steps from a generation to the next once, and notes when."""
    opened = login(desk, desk.create(), kind=API)
    desk.shop.clock.tick(60)

    results = [rotate(desk, opened), rotate(desk, opened)]

    family = find(desk, opened.id)[0]
    assert results == [True, False]
    assert (family.generation, family.rotated_at, family.last_seen_at) == (1, desk.now, desk.now)
    assert (family.created_at, family.expires_at) == (START, START + HOUR)


def test_REF_01_rotate_again(desk: Desk) -> None:
    """The next generation rotates to the one after it."""
    opened = login(desk, desk.create(), kind=API)
    rotate(desk, opened)

    assert rotate(desk, find(desk, opened.id)[0]) is True
    assert find(desk, opened.id)[0].generation == 2


def test_REF_03_rotate_at_once(desk: Desk) -> None:
    """Of many rotations of one generation at the same moment exactly one is made."""
    opened = login(desk, desk.create(), kind=API)

    results = at_once([lambda: rotate(desk, opened)] * 12)

    assert sorted(results) == [False] * 11 + [True]
    assert find(desk, opened.id)[0].generation == 1


@pytest.mark.parametrize(("age", "expected"), [(HOUR - SECOND, True), (HOUR, False)])
def test_REF_05_rotate_in_time(desk: Desk, age: timedelta, expected: bool) -> None:
    """A family rotates until its time is over, and rotating does not prolong it."""
    opened = login(desk, desk.create(), kind=API)
    desk.shop.clock.tick(age.total_seconds())

    assert rotate(desk, opened) is expected
    assert find(desk, opened.id)[0].expires_at == START + HOUR


def test_REF_02_revoked_family_does_not_rotate(desk: Desk) -> None:
    """A family that was ended does not rotate any more."""
    opened = login(desk, desk.create(), kind=API)
    desk.run(lambda: desk.store.sessions.revoke(opened.id, desk.now))

    assert rotate(desk, opened) is False


def test_rotation_touches_one_family(desk: Desk) -> None:
    """Another family of the same account stays in its generation."""
    account = desk.create()
    first, second = login(desk, account, kind=API), login(desk, account, kind=API)

    rotate(desk, first)

    assert find(desk, second.id)[0] == second


# Ending


def test_SES_04_revoke(desk: Desk) -> None:
    """A login is ended once, at a time that stays, and no other one with it."""
    account = desk.create()
    opened, other = login(desk, account), login(desk, account)
    desk.shop.clock.tick(60)
    first = desk.run(lambda: desk.store.sessions.revoke(opened.id, desk.now))
    desk.shop.clock.tick(60)
    second = desk.run(lambda: desk.store.sessions.revoke(opened.id, desk.now))

    assert (first, second) == (True, False)
    assert find(desk, opened.id)[0].revoked_at == START + timedelta(seconds=60)
    assert find(desk, other.id)[0].revoked_at is None
    assert desk.run(lambda: desk.store.sessions.revoke(random_id(), desk.now)) is False


def ids(logins: list[Login]) -> set[uuid.UUID]:
    """Return the ids of logins."""
    return {one.id for one in logins}


def alive(desk: Desk) -> set[uuid.UUID]:
    """Return the ids of the logins that were not ended."""
    return {row.id for row in desk.shop.rows("session") if row.revoked_at is None}


def test_SES_14_revoke_of(desk: Desk) -> None:
    """An owner ends a login of his own once, and no other one with it."""
    account = desk.create()
    opened, other = login(desk, account), login(desk, account)
    desk.shop.clock.tick(60)

    results = [desk.run(lambda: desk.store.sessions.revoke_of(account.id, opened.id, desk.now)) for _ in range(2)]

    assert results == [True, False]
    assert find(desk, opened.id)[0].revoked_at == desk.now
    assert alive(desk) == {other.id}


def test_SES_14_revoke_of_somebody_else(desk: Desk) -> None:
    """An id of somebody else's login, or of none, ends nothing."""
    account, other = desk.create(), desk.create(BOB)
    opened = login(desk, other)

    results = [
        desk.run(lambda login_id=login_id: desk.store.sessions.revoke_of(account.id, login_id, desk.now))
        for login_id in (opened.id, random_id())
    ]

    assert results == [False, False]
    assert alive(desk) == {opened.id}


@pytest.mark.parametrize("kept", [True, False])
def test_revoke_all(desk: Desk, kept: bool) -> None:
    """Every login of an account ends but the one to keep; other people's go on, and what was over stays as it was."""
    account, other = desk.create(), desk.create(BOB)
    ended, here, *rest = [login(desk, account, kind=kind) for kind in (API, BROWSER, API, BROWSER)]
    theirs = login(desk, other)
    desk.run(lambda: desk.store.sessions.revoke(ended.id, desk.now))
    desk.shop.clock.tick(60)
    keep = here.id if kept else None

    results = [desk.run(lambda: desk.store.sessions.revoke_all(account.id, desk.now, keep=keep)) for _ in range(2)]

    assert results == [True, False]
    assert alive(desk) == ({theirs.id, here.id} if kept else {theirs.id})
    assert {find(desk, login_id)[0].revoked_at for login_id in ids(rest)} == {desk.now}
    assert find(desk, ended.id)[0].revoked_at == START


def test_revoke_all_of_an_account_without_logins(desk: Desk) -> None:
    """Where there is nothing to end, nothing ends, whoever else is logged in."""
    account, theirs = desk.create(), login(desk, desk.create(BOB))

    assert desk.run(lambda: desk.store.sessions.revoke_all(account.id, desk.now)) is False
    assert alive(desk) == {theirs.id}


# Listing


def living(desk: Desk, account: Account) -> Any:
    """Return the devices of an account."""
    return desk.read(lambda: desk.store.sessions.living(account, desk.now))


def test_SES_14_living(desk: Desk) -> None:
    """An account's logins are listed as they are stored, with device and address, the one used last first."""
    account = desk.create()
    first, second = login(desk, account), login(desk, account, kind=API, ip=None, user_agent=None)
    third = login(desk, account, now=START + SECOND)
    with desk.shop.app.app_context():
        desk.store.sessions.touch(first.id, START + 2 * SECOND, START + SECOND)

    with desk.shop.statements() as seen:
        found = living(desk, account)

    assert [device.login.id for device in found] == [first.id, third.id, second.id]
    assert found[1].login == third
    assert found[0].login.last_seen_at == START + 2 * SECOND
    assert [(device.ip, device.user_agent) for device in found] == [("203.0.113.9", "A browser")] * 2 + [(None, None)]
    assert len(seen) == 1


def test_living_of_one_moment_has_an_order(desk: Desk) -> None:
    """Logins of the same moment come in the order of their ids, so in the same one each time."""
    account = desk.create()
    opened = [login(desk, account).id for _ in range(12)]

    found = [device.login.id for device in living(desk, account)]

    assert found == sorted(opened, key=lambda login_id: login_id.hex)


def test_a_hundred_logins_are_listed(desk: Desk) -> None:
    """However many logins an account has, the hundred used last are listed."""
    account = desk.create()
    opened = [login(desk, account, now=START + number * SECOND) for number in range(102)]

    assert [device.login for device in living(desk, account)] == opened[:1:-1]


@pytest.mark.parametrize(("age", "listed"), [(HOUR - SECOND, 1), (HOUR, 0)])
def test_living_ends_in_time(desk: Desk, age: timedelta, listed: int) -> None:
    """A login is listed until its time is over."""
    account = desk.create()
    login(desk, account)
    desk.shop.clock.tick(age.total_seconds())

    assert len(living(desk, account)) == listed


def test_living_leaves_out_what_opens_nothing(desk: Desk) -> None:
    """What was ended, is somebody else's, or is from before a change of the account is not listed."""
    account = desk.create()
    login(desk, account)
    changed = desk.run(lambda: desk.accounts.change(account, {"password_hash": "af1$new"}))
    ended, present = login(desk, changed), login(desk, changed)
    desk.run(lambda: desk.store.sessions.revoke(ended.id, desk.now))
    login(desk, desk.create(BOB))

    assert [device.login for device in living(desk, changed)] == [present]


@pytest.mark.parametrize(
    ("kind", "remember", "unused", "idle"),
    [
        (BROWSER, False, HOUR - SECOND, False),
        (BROWSER, False, HOUR, True),
        (BROWSER, True, HOUR, False),
        (API, False, HOUR, False),
        (API, True, HOUR, False),
    ],
)
def test_SES_10_is_idle(desk: Desk, kind: str, remember: bool, unused: timedelta, idle: bool) -> None:
    """Only a browser's login that is not remembered lies idle, from the end of the limit on."""
    opened = login(desk, desk.create(), kind=kind, remember=remember)

    assert find(desk, opened.id)[0].is_idle(START + unused, HOUR) is idle


# Noting the use


@pytest.mark.parametrize(("before", "expected"), [(START, START), (START + SECOND, START + HOUR)])
def test_touch(desk: Desk, before: Any, expected: Any) -> None:
    """The last use is noted when the note is older than asked for, and only for this login."""
    account = desk.create()
    opened, other = login(desk, account), login(desk, account)

    with desk.shop.app.app_context():
        desk.store.sessions.touch(opened.id, START + HOUR, before)

    assert find(desk, opened.id)[0].last_seen_at == expected
    assert find(desk, other.id)[0].last_seen_at == START


@pytest.mark.parametrize("shop_of_session", ["postgresql", "mariadb"], indirect=True)
def test_touch_has_a_connection_of_its_own(desk: Desk) -> None:
    """The note is durable at once, whatever becomes of the host's transaction."""
    opened = login(desk, desk.create())
    with desk.shop.app.app_context():
        desk.shop.db.session.add(desk.shop.Note(text="mine"))
        desk.shop.db.session.flush()
        desk.store.sessions.touch(opened.id, START + HOUR, START + SECOND)

        desk.shop.db.session.rollback()

    assert find(desk, opened.id)[0].last_seen_at == START + HOUR
    assert desk.shop.notes() == []


# A look into the database


def test_REF_09_rows_refresh_nothing(shop: Shop) -> None:
    """No value in a row of a login, or made of two of them, is a refresh or an access token."""
    shop.member()
    program = shop.program()
    pair = program.login("vic@example.com").json
    [row] = shop.rows("session")
    values = {str(value) for value in row} | {
        row.id.hex,
        f"{row.id}.{row.generation}",
        f"{row.id.hex}.{row.generation}",
    }

    refused = {program.post("/auth/refresh", {"refresh_token": value}).status_code for value in values}
    strangers = {program.get("/auth/me", authorization=f"Bearer {value}").status_code for value in values}

    assert refused == strangers == {401}
    assert not {part for token in (pair["access_token"], pair["refresh_token"]) for part in token.split(".")} & values
    assert program.post("/auth/refresh", {"refresh_token": pair["refresh_token"]}).status_code == 200
