"""The writing side of the outbox: caps, decoys, and the same statements for every address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from shop import BOB, VIC, Desk, Shop, at_once
from sqlalchemy import event
from support import PASSWORD, START

from flask_accountflow.identity import Address
from flask_accountflow.store.accounts import Account
from flask_accountflow.store.outbox import NOTICE_MAX_AGE, Draft, Posted

NOBODY = Address("Nobody@Example.com", "nobody@example.com")
MINUTE = 60
HOUR, DAY = 3600, 86400


def draft(account: Account | None, **values: Any) -> Draft:
    """Return a draft of a reset link, to the address of an account or to nobody's."""
    plain: dict[str, Any] = {
        "address": NOBODY if account is None else Address(account.email, str(account.email_key)),
        "account": account,
        "template": "reset",
        "purpose": "reset",
        "max_age": HOUR,
        "refusal": "unknown" if account is None else None,
    }
    return Draft(**{**plain, **values})


def post(desk: Desk, one: Draft) -> Posted:
    """Write a draft in a unit of its own."""
    posted = desk.run(lambda: desk.store.outbox.post(one, desk.now))
    assert isinstance(posted, Posted)
    return posted


def mail(desk: Desk, posted: Posted) -> Any:
    """Return the row of a mail."""
    return desk.shop.rows("mail", id=posted.mail_id)[0]


def token(desk: Desk, posted: Posted) -> Any:
    """Return the row of a link."""
    return desk.shop.rows("token", id=posted.link_id)[0]


# What is written


def test_post(desk: Desk) -> None:
    """A draft becomes a mail that is due at once and a live link that the mail names by its id."""
    account = desk.create()

    posted = post(desk, draft(account, locale="de", context={"origin": "http://localhost"}, payload={"nonce": "n"}))

    row, link = mail(desk, posted), token(desk, posted)
    assert posted.dropped is None
    assert (row.state, row.template, row.to_addr, row.user_id) == ("pending", "reset", VIC.email, account.id)
    assert (row.token_id, row.locale, row.context) == (posted.link_id, "de", {"origin": "http://localhost"})
    assert (row.attempts, row.lease_id, row.sent_at, row.last_error) == (0, None, None, None)
    assert row.created_at == row.next_attempt_at
    assert row.expires_at - row.created_at == link.expires_at - link.created_at == timedelta(hours=1)
    assert (link.purpose, link.user_id, link.email_key, link.sent_to) == ("reset", account.id, VIC.key, VIC.email)
    assert (link.payload, link.stamp, link.used_at, link.outcome) == ({"nonce": "n"}, account.stamp, None, None)


def test_MAI_06_recipient_is_the_stored_address(desk: Desk) -> None:
    """The mail goes to the address of the draft, in its spelling, and is counted under its canonical form."""
    account = desk.create()

    posted = post(desk, draft(account))

    assert mail(desk, posted).to_addr == "Vic@Example.com"
    assert mail(desk, posted).to_key == desk.store.outbox.address_key("vic@example.com")


def test_notice(desk: Desk) -> None:
    """A notice has no link and no slot, and is old news after three days."""
    account = desk.create()

    posted = desk.run(lambda: desk.store.outbox.notify(draft(account, purpose=None, max_age=NOTICE_MAX_AGE), desk.now))

    row = mail(desk, posted)
    assert (posted.link_id, posted.dropped, row.token_id, row.slot) == (None, None, None, None)
    assert (row.state, row.to_addr) == ("pending", VIC.email)
    assert row.expires_at - row.created_at == timedelta(days=3)
    assert desk.shop.rows("token") == []


def test_mail_without_its_link(desk: Desk) -> None:
    """A notice that balances a link has a decoy beside it, which the mail does not name."""
    account = desk.create()

    posted = post(desk, draft(account, template="already_registered", carries_link=False))

    link = token(desk, posted)
    assert (mail(desk, posted).state, mail(desk, posted).token_id) == ("pending", None)
    assert (link.outcome, link.used_at is not None) == ("decoy", True)


def test_mail_that_is_only_counted(desk: Desk) -> None:
    """A mail without a purpose is counted like any other, and has no row beside it."""
    account = desk.create()

    posted = [post(desk, draft(account, purpose=None)) for _ in range(2)]

    assert [(one.link_id, one.dropped) for one in posted] == [(None, None), (None, "duplicate")]
    assert desk.shop.rows("token") == []


def test_message_ids(desk: Desk) -> None:
    """Every mail has a random Message-ID at the sender's domain."""
    account = desk.create()
    posted = [post(desk, draft(account, template=f"kind {number}")) for number in range(3)]

    ids = [mail(desk, one).message_id for one in posted]

    assert len(set(ids)) == 3
    assert {one.partition("@")[2] for one in ids} == {"example.com"}
    assert {len(one.partition("@")[0]) for one in ids} == {32}


def test_message_ids_without_a_sender(make_shop: Callable[..., Shop]) -> None:
    """Where no sender is set, as in debug, the Message-ID is of a domain that cannot exist."""
    shop = make_shop({"MAIL_DEFAULT_SENDER": None})
    desk = Desk(shop)

    posted = post(desk, draft(desk.create()))

    assert mail(desk, posted).message_id.endswith("@localhost.invalid")


def test_MAI_07_rolled_back_with_its_unit(desk: Desk) -> None:
    """A mail and its link are gone with the unit that wrote them."""
    account = desk.create()

    def work() -> None:
        desk.store.outbox.post(draft(account), desk.now)
        raise LookupError

    with pytest.raises(LookupError):
        desk.run(work)

    assert desk.shop.rows("mail") == desk.shop.rows("token") == []


def test_MAI_08_no_secret_in_a_mail(desk: Desk) -> None:
    """Before and after it is sent, the row of a mail holds no part of the link that it becomes."""
    shop = desk.shop
    shop.member("vic@example.com")
    with shop.app.app_context():
        shop.db.session.add(shop.Note(text="so that the verb waits"))
        shop.accounts.request_reset("vic@example.com")
        [pending] = shop.db.session.execute(sa.select(shop.tables.mail)).all()
        shop.db.session.commit()

    [sent] = shop.rows("mail")

    parts = shop.last_token.split(".")
    assert (pending.state, sent.state) == ("pending", "sent")
    assert not [part for part in parts for row in (pending, sent) if part in repr(row)]


# Decoys: what looks the same from outside


def test_RAT_12_nobodys_address_is_not_kept(desk: Desk) -> None:
    """A mail to nobody is born dropped beside a decoy, and no row holds the address in any spelling."""
    posted = post(desk, draft(None))

    row, link = mail(desk, posted), token(desk, posted)
    assert posted.dropped == "unknown"
    assert (row.state, row.last_error, row.to_addr, row.user_id, row.slot) == ("dropped", "unknown", None, None, None)
    assert (link.outcome, link.sent_to, link.user_id, link.stamp) == ("decoy", None, None, None)
    assert link.used_at == link.created_at
    assert link.email_key == row.to_key
    assert "nobody" not in (repr(row) + repr(link)).lower()


@pytest.mark.parametrize("reason", ["disabled", "duplicate", "capped"])
def test_dropped_mail_has_no_recipient(desk: Desk, reason: str) -> None:
    """A mail that is not to be sent has no recipient, whatever the reason, and its link is a decoy."""
    account = desk.create()
    if reason == "duplicate":
        post(desk, draft(account))
    if reason == "capped":
        fill(desk, account, 3)

    posted = post(desk, draft(account, refusal=reason if reason == "disabled" else None))

    row = mail(desk, posted)
    assert (posted.dropped, row.state, row.last_error, row.to_addr) == (reason, "dropped", reason, None)
    assert token(desk, posted).outcome == "decoy"


def test_address_key_is_keyed(make_shop: Callable[..., Shop]) -> None:
    """The hash under which an address is counted is no plain digest: another SECRET_KEY gives another one."""
    one, same, other = (
        Desk(make_shop({"SECRET_KEY": key})).store.outbox.address_key("vic@example.com")
        for key in ("0123456789abcdef0", "0123456789abcdef0", "another key of 17")
    )

    assert one == same != other
    assert len(one) == 64


def test_SUP_01_same_statements_for_every_address(desk: Desk) -> None:
    """Known, unknown, disabled, capped, repeated or only noticed: the same statements run."""
    vic, bob = desk.create(VIC), desk.create(BOB)
    fill(desk, bob, 3)
    drafts = {
        "sent": draft(vic),
        "unknown": draft(None),
        "duplicate": draft(vic),
        "disabled": draft(vic, refusal="disabled"),
        "capped": draft(bob),
        "notice": draft(vic, template="already_registered", carries_link=False),
    }

    seen = {}
    for name, one in drafts.items():
        with desk.shop.statements() as statements:
            posted = post(desk, one)
        seen[name] = list(statements)
        assert (posted.dropped or "sent") == ("sent" if name == "notice" else name)

    assert len(set(map(tuple, seen.values()))) == 1
    assert [statement.split()[0] for statement in seen["sent"]] == ["SELECT", "INSERT", "INSERT"]


# Caps


def fill(desk: Desk, account: Account, count: int, every: float = MINUTE, template: str = "reset") -> None:
    """Send so many mails of one kind, one each so many seconds."""
    for _ in range(count):
        posted = post(desk, draft(account, template=template))
        assert posted.dropped is None
        desk.shop.clock.tick(every)


@pytest.mark.parametrize(("seconds", "dropped"), [(0, "duplicate"), (59, "duplicate"), (60, None), (61, None)])
def test_F19_one_of_a_kind_a_minute(desk: Desk, seconds: int, dropped: str | None) -> None:
    """A second mail of one kind within a minute is a duplicate; from then on it is not."""
    account = desk.create()
    desk.shop.clock.tick(37)
    post(desk, draft(account))
    desk.shop.clock.tick(seconds)

    assert post(desk, draft(account)).dropped == dropped


def test_pause_is_a_setting(make_shop: Callable[..., Shop]) -> None:
    """How long the second mail waits is a setting."""
    desk = Desk(make_shop({"ACCOUNTFLOW_RESEND_AFTER": 5}))
    account = desk.create()
    post(desk, draft(account))
    desk.shop.clock.tick(4)
    first = post(desk, draft(account)).dropped
    desk.shop.clock.tick(1)

    assert (first, post(desk, draft(account)).dropped) == ("duplicate", None)


def test_SUP_15_three_an_hour(desk: Desk) -> None:
    """The fourth mail of one kind in an hour is capped, until the first of them is an hour old."""
    account = desk.create()
    fill(desk, account, 3)
    fourth = post(desk, draft(account)).dropped
    desk.shop.clock.tick(HOUR - 3 * MINUTE - 1)
    before = post(desk, draft(account)).dropped
    desk.shop.clock.tick(1)

    assert (fourth, before, post(desk, draft(account)).dropped) == ("capped", "capped", None)


def test_SUP_15_ten_a_day(desk: Desk) -> None:
    """The eleventh mail of one kind in a day is capped."""
    account = desk.create()
    fill(desk, account, 10, every=HOUR)
    eleventh = post(desk, draft(account)).dropped
    desk.shop.clock.tick(DAY - 10 * HOUR)

    assert (eleventh, post(desk, draft(account)).dropped) == ("capped", None)


def test_caps_are_a_setting(make_shop: Callable[..., Shop]) -> None:
    """The caps are those of the configuration."""
    desk = Desk(make_shop({"ACCOUNTFLOW_MAIL_PER_ADDRESS": "1/2 minute"}))
    account = desk.create()
    fill(desk, account, 1)
    second = post(desk, draft(account)).dropped
    desk.shop.clock.tick(MINUTE)

    assert (second, post(desk, draft(account)).dropped) == ("capped", None)


def test_cap_counts_by_kind_and_address(desk: Desk) -> None:
    """Another kind of mail, and another address, are not held back."""
    vic, bob = desk.create(VIC), desk.create(BOB)
    fill(desk, vic, 3)

    assert post(desk, draft(vic)).dropped == "capped"
    assert post(desk, draft(vic, template="verify")).dropped is None
    assert post(desk, draft(bob)).dropped is None


def test_cap_counts_every_spelling(desk: Desk) -> None:
    """Two spellings of one address are one address."""
    account = desk.create()
    post(desk, draft(account))

    assert post(desk, draft(account, address=Address("VIC@example.com", VIC.key))).dropped == "duplicate"


def test_a_clock_that_was_wrong_caps_nobody(desk: Desk) -> None:
    """What was written by a clock that was ahead counts no longer once the clock is right."""
    account = desk.create()
    desk.shop.clock.tick(30 * DAY)
    fill(desk, account, 3)
    desk.shop.clock.tick(-30 * DAY)

    assert post(desk, draft(account)).dropped is None


def test_RST_09_cap_spares_an_address_without_a_link(desk: Desk) -> None:
    """An address that holds no live link gets one in spite of the cap, but not twice a minute."""
    account = desk.create()
    fill(desk, account, 3)

    spared = post(desk, draft(account, holds_link=False))
    again = post(desk, draft(account, holds_link=False))

    assert (spared.dropped, again.dropped) == (None, "duplicate")


def test_SUP_15_nobody_locks_an_owner_out(shop: Shop) -> None:
    """After many requests by a stranger few were mailed, and the owner's reset still comes, and works."""
    shop.member("vic@example.com")
    with shop.app.app_context():
        for _ in range(20):
            shop.accounts.signup("vic@example.com", PASSWORD)
            shop.accounts.request_reset("vic@example.com")
            shop.clock.tick(100)
        mailed = Counter(letter.template for letter in shop.letters)
        shop.clock.tick(HOUR)
        shop.accounts.request_reset("vic@example.com")

    assert mailed == {"already_registered": 3, "reset": 3}
    assert shop.program().reset(shop.last_link).status_code == 200


def test_dropped_mails_do_not_count(desk: Desk) -> None:
    """What was not mailed does not prolong a cap."""
    account = desk.create()
    fill(desk, account, 3)
    for _ in range(5):
        assert post(desk, draft(account)).dropped == "capped"
        desk.shop.clock.tick(MINUTE)
    desk.shop.clock.tick(HOUR - 8 * MINUTE)

    assert post(desk, draft(account)).dropped is None


def test_failed_mails_count(desk: Desk) -> None:
    """A mail that could not be delivered counts: somebody asked for it."""
    account = desk.create()
    fill(desk, account, 3)
    with desk.shop.engine.begin() as connection:
        connection.execute(sa.update(desk.shop.tables.mail).values(state="failed"))

    assert post(desk, draft(account)).dropped == "capped"


def test_notices_are_never_capped(desk: Desk) -> None:
    """A notice of what has happened to an account is sent however many there were, and slows nothing down."""
    account = desk.create()
    notice = draft(account, template="reset", purpose=None)
    posted = [desk.run(lambda: desk.store.outbox.notify(notice, desk.now)) for _ in range(12)]

    assert [one.dropped for one in posted] == [None] * 12
    assert len(desk.shop.rows("mail", state="pending")) == 12


# At once


def test_F19_posts_at_once(desk: Desk) -> None:
    """Of many requests at the same moment exactly one is mailed, and exactly one link lives."""
    account = desk.create()

    results = at_once([lambda: post(desk, draft(account)).dropped] * 12)

    assert Counter(results) == {None: 1, "duplicate": 11}
    assert Counter(row.state for row in desk.shop.rows("mail")) == {"pending": 1, "dropped": 11}
    assert Counter(row.outcome for row in desk.shop.rows("token")) == {None: 1, "decoy": 11}


def test_SUP_15_cap_at_once(desk: Desk) -> None:
    """The cap is exact when many ask at the same moment: what is left of it is given once."""
    account = desk.create()
    fill(desk, account, 2)

    results = at_once([lambda: post(desk, draft(account)).dropped] * 12)

    assert Counter(results)[None] == 1
    assert len(desk.shop.rows("mail", state="pending")) == 3


def test_spared_address_at_once(desk: Desk) -> None:
    """An address that the cap spares is spared once when many ask at the same moment."""
    account = desk.create()
    fill(desk, account, 3)

    results = at_once([lambda: post(desk, draft(account, holds_link=False)).dropped] * 12)

    assert Counter(results)[None] == 1


def test_taken_slot(desk: Desk) -> None:
    """A slot that another request has just taken makes a duplicate, and leaves the unit as it was."""
    account = desk.create()
    table = desk.shop.tables.mail
    # The mail of the other request: the count does not see it, and when it has counted the slot is taken.
    post(desk, draft(account))
    with desk.shop.engine.begin() as connection:
        connection.execute(sa.update(table).values(created_at=START - timedelta(days=30), slot=None))
    slot = f"{desk.store.outbox.address_key(VIC.key)[:16]}:reset:0000000001"
    taken: list[str] = []

    def take(connection: sa.Connection, cursor: Any, statement: str, *rest: Any) -> None:
        if "max(" in statement.lower() and not taken:
            taken.append(slot)
            connection.execute(sa.update(table).values(slot=slot))

    def work() -> Any:
        desk.shop.db.session.add(desk.shop.Note(text="mine"))
        return desk.store.outbox.post(draft(account), desk.now)

    event.listen(desk.shop.engine, "after_cursor_execute", take)
    posted = desk.run(work)
    event.remove(desk.shop.engine, "after_cursor_execute", take)

    row = mail(desk, posted)
    assert (taken, posted.dropped) == ([slot], "duplicate")
    assert (row.state, row.slot, row.to_addr, token(desk, posted).outcome) == ("dropped", None, None, "decoy")
    assert desk.shop.notes() == ["mine"]


def test_slots_are_numbered(desk: Desk) -> None:
    """Mails of one kind to one address have slots in a row, whatever became of them; what is not sent has none."""
    vic, bob = desk.create(VIC), desk.create(BOB)
    posted = [post(desk, draft(vic)), post(desk, draft(vic))]
    with desk.shop.engine.begin() as connection:
        connection.execute(sa.update(desk.shop.tables.mail).values(state="dropped"))
    # Not the kinds whose names begin alike.
    posted += [post(desk, draft(vic, template=kind)) for kind in ("reset_2", "reset 0", "rese")]
    posted += [post(desk, draft(bob)), post(desk, draft(vic))]

    slots = [mail(desk, one).slot for one in posted]

    numbers = [None if slot is None else int(slot.rpartition(":")[2]) for slot in slots]
    assert numbers == [1, None, 1, 1, 1, 1, 2]


def test_slots_after_a_purge(desk: Desk) -> None:
    """When the newest slot was purged and an older one was not, the next mail still finds a free one."""
    account = desk.create()
    first = post(desk, draft(account))
    desk.shop.clock.tick(MINUTE)
    second = post(desk, draft(account))
    with desk.shop.engine.begin() as connection:
        table = desk.shop.tables.mail
        connection.execute(sa.delete(table).where(table.c.id == second.mail_id))
    desk.shop.clock.tick(MINUTE)

    third = post(desk, draft(account))

    assert [posted.dropped for posted in (first, second, third)] == [None, None, None]


def test_fault_that_is_no_slot(desk: Desk) -> None:
    """A constraint that a mail breaks for another reason is no duplicate."""
    account = desk.create()

    with pytest.raises(sa.exc.IntegrityError):
        post(desk, draft(account, template=None))
    with pytest.raises(sa.exc.IntegrityError):
        post(desk, draft(account, template=None, refusal="disabled"))

    assert desk.shop.rows("mail") == desk.shop.rows("token") == []
