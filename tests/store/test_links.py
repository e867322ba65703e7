"""Links in their table: used once, dead for a reason, and worth nothing by themselves."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from shop import BOB, HOUR, VIC, Desk, Shop, at_once
from support import START, token_in

from flask_accountflow.store.accounts import Account
from flask_accountflow.store.links import DECOY, DISCARDED, DISPLACED, REDEEMED, Link, PendingChange
from flask_accountflow.tokens import random_id

SECOND = timedelta(seconds=1)
STAMP = uuid.UUID(int=7)


def find(desk: Desk, link_id: uuid.UUID, since: timedelta = HOUR) -> Link:
    """Return a link that must be there; sign-ups of the last hour are rivals."""
    link: Link | None = desk.read(lambda: desk.store.links.find(link_id, desk.now - since))
    assert link is not None
    return link


def use(desk: Desk, link: Link, outcome: str = REDEEMED) -> bool:
    """Try to use a link up."""
    return bool(desk.run(lambda: desk.store.links.use(link, desk.now, outcome)))


# Finding


def test_find(desk: Desk) -> None:
    """A link is found with its account and all that its row says, with times in UTC."""
    account = desk.create()
    link_id = desk.link(account, sent_to=VIC.email, payload={"nonce": "n", "fields": {"name": "Vic"}})

    link = find(desk, link_id)

    assert link == Link(
        id=link_id,
        purpose="signup",
        email_key=VIC.key,
        sent_to=VIC.email,
        payload={"nonce": "n", "fields": {"name": "Vic"}},
        stamp=account.stamp,
        created_at=desk.now,
        expires_at=desk.now + HOUR,
        used_at=None,
        outcome=None,
        account=account,
        rivals=0,
    )
    assert {link.created_at.tzinfo, link.expires_at.tzinfo} == {timezone.utc}


def test_find_is_one_statement(desk: Desk) -> None:
    """Link, account and the number of rivals are read at once."""
    link_id = desk.link(desk.create())

    with desk.shop.statements() as seen:
        find(desk, link_id)

    assert len(seen) == 1


def test_find_nothing(desk: Desk) -> None:
    """An id that no row has finds nothing."""
    desk.link(None)

    assert desk.read(lambda: desk.store.links.find(random_id(), desk.now)) is None


def test_link_of_nobody(desk: Desk) -> None:
    """A decoy belongs to no account, and may hold nothing."""
    link = find(desk, desk.link(None, used_at=desk.now, outcome=DECOY))

    assert (link.account, link.stamp, dict(link.payload), link.sent_to) == (None, None, {}, None)
    assert link.used_at == desk.now


# What a link is good for


def _account(**values: Any) -> Account:
    plain = {
        "id": 1,
        "email": VIC.email,
        "email_key": VIC.key,
        "password_hash": None,
        "email_verified_at": None,
        "is_active": True,
        "is_admin": False,
        "stamp": STAMP,
        "locale": None,
        "last_login_at": None,
        "created_at": START,
    }
    return Account(**{**plain, **values})


def _link(**values: Any) -> Link:
    plain: dict[str, Any] = {
        "id": STAMP,
        "purpose": "signup",
        "email_key": VIC.key,
        "sent_to": VIC.email,
        "payload": {},
        "stamp": STAMP,
        "created_at": START,
        "expires_at": START + HOUR,
        "used_at": None,
        "outcome": None,
        "account": _account(),
        "rivals": 0,
    }
    return Link(**{**plain, **values})


@pytest.mark.parametrize(
    ("link", "now", "state"),
    [
        (_link(), START, "live"),
        (_link(), START + HOUR - SECOND, "live"),
        (_link(), START + HOUR, "expired"),
        (_link(), START - HOUR, "live"),
        (_link(used_at=START, outcome=REDEEMED), START, "used"),
        (_link(used_at=START, outcome=REDEEMED), START + HOUR, "used"),
        (_link(used_at=START, outcome=REDEEMED, account=_account(stamp=uuid.UUID(int=8))), START, "used"),
        (_link(used_at=START, outcome=DISCARDED), START, "superseded"),
        (_link(used_at=START, outcome=DISPLACED), START, "superseded"),
        (_link(used_at=START, outcome=DECOY), START, "superseded"),
        (_link(used_at=START), START, "superseded"),
        (_link(account=None), START, "superseded"),
        (_link(account=None), START + HOUR, "superseded"),
        (_link(account=_account(is_active=False)), START, "superseded"),
        (_link(account=_account(stamp=uuid.UUID(int=8))), START, "superseded"),
        (_link(stamp=None), START, "superseded"),
        (_link(purpose="revert", account=_account(stamp=uuid.UUID(int=8))), START, "live"),
        (_link(purpose="revert", account=_account(stamp=uuid.UUID(int=8))), START + HOUR, "expired"),
        (_link(purpose="revert", account=_account(is_active=False)), START, "superseded"),
        (_link(account=_account(stamp=uuid.UUID(int=8))), START + HOUR, "superseded"),
    ],
)
def test_VER_09_state(link: Link, now: datetime, state: str) -> None:
    """A link lives until its expiry, its use, or the first change of its account; and says which came first."""
    assert link.state(now) == state


# Using


def test_VER_03_use_once(desk: Desk) -> None:
    """A link is used up once, and the row says when and how."""
    link = find(desk, desk.link(desk.create()))

    results = [use(desk, link), use(desk, link), use(desk, link, DISCARDED)]

    after = find(desk, link.id)
    assert results == [True, False, False]
    assert (after.used_at, after.outcome) == (desk.now, REDEEMED)


def test_use_touches_one_row(desk: Desk) -> None:
    """No other link is used up with it."""
    account = desk.create()
    link, other = find(desk, desk.link(account)), desk.link(account)

    use(desk, link)

    assert find(desk, other).used_at is None


@pytest.mark.parametrize(("age", "expected"), [(HOUR - SECOND, True), (HOUR, False), (2 * HOUR, False)])
def test_VER_07_use_in_time(desk: Desk, age: timedelta, expected: bool) -> None:
    """A link whose time is over cannot be used, by the clock of the moment and not of the moment it was read."""
    link = find(desk, desk.link(desk.create()))
    desk.shop.clock.tick(age.total_seconds())

    assert use(desk, link) is expected
    assert find(desk, link.id).used_at == (desk.now if expected else None)


def test_VER_04_use_at_once(desk: Desk) -> None:
    """Of many uses at the same moment exactly one is the use."""
    link = find(desk, desk.link(desk.create()))

    results = at_once([lambda: use(desk, link)] * 12)

    assert sorted(results) == [False] * 11 + [True]


def test_use_in_a_unit_that_fails(desk: Desk) -> None:
    """A use whose unit fails afterwards has not happened."""
    link = find(desk, desk.link(desk.create()))

    def work() -> None:
        assert desk.store.links.use(link, desk.now, REDEEMED)
        raise LookupError

    with pytest.raises(LookupError):
        desk.run(work)

    assert use(desk, link) is True


# Rivals: other sign-ups of the same address

OTHERS: dict[str, tuple[dict[str, Any], bool]] = {
    "open": ({}, True),
    "a decoy": ({"used_at": START, "outcome": DECOY}, True),
    "expired": ({"expires_at": START - SECOND}, True),
    "redeemed": ({"used_at": START, "outcome": REDEEMED}, False),
    "discarded": ({"used_at": START, "outcome": DISCARDED}, False),
    "displaced": ({"used_at": START, "outcome": DISPLACED}, False),
    "as old as counts": ({"created_at": START - HOUR + SECOND}, True),
    "too old": ({"created_at": START - HOUR}, False),
    "of another address": ({"email_key": BOB.key}, False),
    "a reset": ({"purpose": "reset"}, False),
}


@pytest.mark.parametrize("name", OTHERS)
def test_SUP_04_rivals(desk: Desk, name: str) -> None:
    """Another sign-up of the address competes with a link until it is redeemed, discarded, displaced or too old."""
    values, expected = OTHERS[name]
    account = desk.create()
    link_id = desk.link(account, payload={"nonce": "mine"})
    other = desk.link(account, payload={"nonce": "theirs"}, **values)

    link = find(desk, link_id)
    rivals = desk.read(lambda: desk.store.links.rivals(link, desk.now - HOUR))
    payloads = desk.read(lambda: desk.store.links.newest_attempts(VIC.key, desk.now - HOUR))

    assert link.rivals == len(rivals) == (1 if expected else 0)
    assert rivals == ({other: "theirs"} if expected else {})
    assert {"nonce": "theirs"} in payloads or not expected
    assert len(payloads) == 1 + expected


def test_reset_has_no_rivals(desk: Desk) -> None:
    """Only sign-ups compete: a reset link has no rivals, whatever else is open."""
    account = desk.create()
    reset = desk.link(account, purpose="reset")
    desk.link(account)

    assert find(desk, reset).rivals == 0


def test_rival_without_a_payload(desk: Desk) -> None:
    """A row that keeps nothing is a rival without a browser."""
    account = desk.create()
    link, other = desk.link(account), desk.link(account)

    assert desk.read(lambda: desk.store.links.rivals(find(desk, link), desk.now - HOUR)) == {other: None}


def test_newest_attempts(desk: Desk) -> None:
    """The payloads of an address's sign-ups come newest first; a row without one counts as empty."""
    account = desk.create()
    for age, payload in ((2, {"nonce": "b"}), (1, {"nonce": "a"}), (3, None)):
        desk.link(account, created_at=desk.now - timedelta(minutes=age), payload=payload)

    found = desk.read(lambda: desk.store.links.newest_attempts(VIC.key, desk.now - HOUR))

    assert found == [{"nonce": "a"}, {"nonce": "b"}, {}]


def test_settle(desk: Desk) -> None:
    """The other mails of a sign-up that was confirmed count as redeemed, and nothing else does."""
    account = desk.create()
    copies, other = [desk.link(account), desk.link(account)], desk.link(account)

    desk.run(lambda: desk.store.links.settle(copies, desk.now))

    assert [find(desk, one).outcome for one in (*copies, other)] == [REDEEMED, REDEEMED, None]
    assert find(desk, copies[0]).used_at == desk.now


def test_SUP_22_displace(desk: Desk) -> None:
    """All open links of an account that loses its address are used up, and nothing else changes."""
    vic, bob = desk.create(VIC), desk.create(BOB)
    mine = [desk.link(vic), desk.link(vic, purpose="reset")]
    used = desk.link(vic, used_at=desk.now, outcome=REDEEMED)
    bobs = desk.link(bob, email_key=BOB.key)
    desk.shop.clock.tick(1)

    desk.run(lambda: desk.store.links.displace(vic.id, desk.now))

    assert [(link.outcome, link.used_at) for link in (find(desk, one) for one in mine)] == [(DISPLACED, desk.now)] * 2
    assert (find(desk, used).outcome, find(desk, used).used_at) == (REDEEMED, START)
    assert find(desk, bobs).outcome is None


def test_displace_keeps_what_it_is_told_to(desk: Desk) -> None:
    """Links that are to be kept stay good, and all others are used up."""
    vic = desk.create()
    kept, other = desk.link(vic, purpose="revert"), desk.link(vic, purpose="revert")

    desk.run(lambda: desk.store.links.displace(vic.id, desk.now, keep=[kept]))

    assert [find(desk, one).outcome for one in (kept, other)] == [None, DISPLACED]


def test_reverts(desk: Desk) -> None:
    """The links that bring an address of an account back have numbers, used or not; those of others do not count."""
    vic, bob = desk.create(VIC), desk.create(BOB)
    first = desk.link(vic, purpose="revert", payload={"number": 1}, used_at=desk.now, outcome=REDEEMED)
    second = desk.link(vic, purpose="revert", payload={"number": 2})
    bare = desk.link(vic, purpose="revert")
    desk.link(vic, purpose="change", payload={"number": 7})
    desk.link(bob, purpose="revert", email_key=BOB.key, payload={"number": 9})

    assert desk.read(lambda: desk.store.links.reverts(vic)) == {first: 1, second: 2, bare: 0}


def test_pending_change(desk: Desk) -> None:
    """What waits is the newest change of address that the account asked for, a decoy as well, until it is withdrawn."""
    vic, bob = desk.create(VIC), desk.create(BOB)
    links = desk.store.links
    old = desk.link(vic, purpose="change", email_key="a@example.com", sent_to="a@example.com")
    desk.link(bob, purpose="change", email_key="b@example.com", sent_to="b@example.com")
    desk.link(vic, purpose="change", email_key="c@example.com", sent_to="c@example.com", stamp=uuid.uuid4())
    desk.link(vic, purpose="change", email_key="d@example.com", sent_to="d@example.com", expires_at=desk.now)
    desk.shop.clock.tick(1)
    decoy = desk.link(vic, purpose="change", email_key="e@example.com", sent_to="e@example.com", outcome=DECOY)

    assert desk.read(lambda: links.pending_change(vic, desk.now)) == PendingChange("e@example.com", desk.now + HOUR)
    desk.run(lambda: links.withdraw_changes(vic, desk.now, but="a@example.com"))
    assert [find(desk, one).outcome for one in (old, decoy)] == [None, DISCARDED]
    assert desk.read(lambda: links.pending_change(vic, desk.now)).email == "a@example.com"
    desk.run(lambda: links.withdraw_changes(vic, desk.now))
    assert desk.read(lambda: links.pending_change(vic, desk.now)) is None
    assert desk.read(lambda: links.pending_change(bob, desk.now)).email == "b@example.com"


# A look into the database


def values_in(shop: Shop) -> set[str]:
    """Return every text and every id that any row holds, also inside JSON."""
    found: set[str] = set()

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            for inner in value.values():
                collect(inner)
        elif isinstance(value, uuid.UUID):
            found.update((str(value), value.hex))
        elif value is not None:
            found.add(str(value))

    for name in ("user", "token", "session", "mail"):
        for row in shop.rows(name):
            for value in row:
                collect(value)
    return found


def test_VER_14_rows_redeem_nothing(shop: Shop) -> None:
    """No value in the database redeems a link, and no part of a mailed token is in it."""
    program = shop.program()
    program.signup("ada@example.com")
    shop.member("vic@example.com")
    program.request_reset(email="vic@example.com")
    tokens = [token_in(letter.link) for letter in shop.letters if letter.link is not None]

    values = values_in(shop)
    answers = {
        program.post(path, {"token": value, "password": "a new horse battery"}).json["code"]
        for value in values
        for path in ("/auth/verify", "/auth/password-reset/confirm")
        if value
    }

    assert len(tokens) == 2
    assert len(values) > 20
    assert not {part for token in tokens for part in token.split(".")} & values
    assert answers == {"token_invalid"}
