"""Delivery, against a real outbox."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from databases import NOW, TABLES, Rows, User, sqlite  # noqa: F401

from flask_accountflow.errors import MailDeferred, MailRejected, MailUnsure
from flask_accountflow.mail.delivery import Deliverer
from flask_accountflow.mail.letter import Letter
from flask_accountflow.mail.transports import Connection, Unreachable
from flask_accountflow.models import aware
from flask_accountflow.store.queue import LEASE, Queue, Waiting

SECOND = timedelta(seconds=1)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class Wire:
    """A transport that notes letters and fails as told, by the letter's subject or at connecting."""

    def __init__(self, **faults: Exception) -> None:
        self.faults = faults
        self.sent: list[str] = []
        self.connects = 0
        self.aborted = threading.Event()
        self.during: Callable[[Letter], None] = lambda letter: None

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        self.connects += 1
        if "connect" in self.faults:
            raise self.faults["connect"]
        yield self

    def send(self, letter: Letter) -> None:
        self.during(letter)
        if letter.subject in self.faults:
            raise self.faults[letter.subject]
        self.sent.append(letter.subject)

    def abort(self) -> None:
        self.aborted.set()


def render(mail: Waiting) -> Letter:
    """Return a letter whose subject is the template."""
    if mail.template == "broken":
        raise LookupError("'name' is undefined for <ada@example.com>")
    return Letter(
        to=mail.to_addr,
        subject=mail.template,
        text="Hello",
        html="<p>Hello</p>",
        message_id=mail.message_id,
        sender="hello@shop.example",
        sender_name="Shop",
        date=mail.created_at,
        language="en",
        template=mail.template,
    )


class World:
    """An outbox, a wire, and the deliverer between them."""

    def __init__(self, engine: sa.Engine) -> None:
        self.rows = Rows(engine)
        self.queue = self.rows.queue()
        self.clock = Clock()
        self.wire = Wire()
        self.events: list[tuple[str, dict[str, Any]]] = []

    def deliverer(self, **options: Any) -> Deliverer:
        return Deliverer(self.queue, self.wire, render, self.clock, self.emit, **options)

    def emit(self, event: str, **payload: Any) -> None:
        self.events.append((event, payload))

    def states(self, *mails: int) -> list[str]:
        return [self.rows.stored(mail).state for mail in mails]

    def steal(self, mail: int) -> None:
        """Let another worker have the mail."""
        self.rows.change(TABLES.mail, mail, lease_id=uuid.UUID(int=1), lease_until=NOW + 9 * LEASE)


@pytest.fixture
def world(sqlite: sa.Engine) -> World:  # noqa: F811
    """An outbox, a wire, and the deliverer between them."""
    return World(sqlite)


def test_sent(world: World) -> None:
    """A mail that is due is sent, marked and told of."""
    user = world.rows.user()
    mail = world.rows.mail(template="verify", user_id=user.id)

    handled = world.deliverer().deliver_due()

    assert handled == 1
    assert world.wire.sent == ["verify"]
    assert world.states(mail) == ["sent"]
    assert world.events == [("mail_sent", {"at": NOW, "user_id": str(user.id), "mail_id": mail, "template": "verify"})]


def test_nothing_is_due(world: World) -> None:
    """Without mails nothing is connected to."""
    assert world.deliverer().deliver_due() == 0
    assert world.wire.connects == 0


def test_many(world: World) -> None:
    """All that is due is sent over one connection, however many claims that takes."""
    for number in range(45):
        world.rows.mail(template=str(number))

    handled = world.deliverer().deliver_due()

    assert handled == 45
    assert world.wire.sent == [str(number) for number in range(45)]
    assert world.wire.connects == 1


def test_connection_that_is_kept(world: World) -> None:
    """A connection that is kept serves the next call; one that is not, or was let go, does not."""
    counts, deliverer = [], world.deliverer()
    for keep in (True, False, True):
        world.rows.mail()
        deliverer.deliver_due(keep=keep)
        counts.append(world.wire.connects)
    deliverer.rest()
    world.rows.mail()
    deliverer.deliver_due()

    assert [*counts, world.wire.connects] == [1, 1, 2, 3]


def test_what_comes_during_delivery(world: World) -> None:
    """A mail that is committed while another one is sent is left to its own kick."""
    world.rows.mail()
    world.wire.during = lambda letter: world.rows.mail(template="later") and None

    handled = world.deliverer().deliver_due()

    assert handled == 1
    assert world.rows.counts()["pending"] == 1


def test_what_comes_while_others_are_in_hand(world: World) -> None:
    """A call sends what was committed before it, also when it first sends what an earlier one has claimed and holds."""
    deliverer, hangs, over = world.deliverer(), threading.Event(), threading.Event()

    def hold(letter: Letter) -> None:
        if letter.subject == "held":
            hangs.set()
            over.wait(5)

    world.wire.during = hold
    world.rows.mail(template="held")
    world.rows.mail(template="in hand")
    other = threading.Thread(target=deliverer.deliver_due)
    other.start()
    assert hangs.wait(5)
    world.rows.mail(template="new")

    handled = deliverer.deliver_due()
    over.set()
    other.join(5)

    assert handled == 2
    assert world.wire.sent == ["in hand", "new", "held"]


def test_limit(world: World) -> None:
    """No more mails are handled than asked for; the others stay as they are."""
    mails = [world.rows.mail() for _ in range(25)]

    handled = world.deliverer().deliver_due(limit=22)

    assert handled == 22
    assert world.states(*mails) == ["sent"] * 22 + ["pending"] * 3
    assert world.rows.stored(mails[-1]).attempts == 0


def test_stopped_before(world: World) -> None:
    """A deliverer that was stopped claims nothing."""
    mail = world.rows.mail()
    stop = threading.Event()
    stop.set()

    assert world.deliverer().deliver_due(stop=stop) == 0
    assert world.rows.stored(mail).lease_id is None


def test_stopped_during(world: World) -> None:
    """A deliverer that is stopped finishes the mail in hand and gives the others back."""
    stop = threading.Event()
    mails = [world.rows.mail() for _ in range(3)]
    world.wire.during = lambda letter: stop.set()

    handled = world.deliverer().deliver_due(stop=stop)

    rest = world.rows.stored(mails[1])
    assert handled == 1
    assert world.states(*mails) == ["sent", "pending", "pending"]
    assert (rest.attempts, rest.lease_id, aware(rest.next_attempt_at)) == (0, None, NOW)


def test_rejected(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A mail that the server will never take is given up, without its address in log or event; the others go on."""
    world.wire.faults["odd"] = MailRejected("550 5.1.1 <ada@example.com>: unknown")
    odd, fine = world.rows.mail(template="odd"), world.rows.mail(template="fine")

    handled = world.deliverer().deliver_due()

    reason = "550 5.1.1 <address>: unknown"
    assert (handled, world.wire.sent, world.wire.connects) == (2, ["fine"], 1)
    assert world.states(odd, fine) == ["failed", "sent"]
    assert world.rows.stored(odd).last_error == reason
    assert world.events[0] == (
        "mail_failed",
        {"at": NOW, "user_id": None, "mail_id": odd, "template": "odd", "reason": reason},
    )
    assert "ada@example.com" not in caplog.text
    assert reason in caplog.text


def test_deferred(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A mail that the server puts off waits; the next one gets a connection of its own."""
    world.wire.faults["odd"] = MailDeferred("450 <ada@example.com> is busy")
    odd, fine = world.rows.mail(template="odd"), world.rows.mail(template="fine")

    handled = world.deliverer().deliver_due()

    row = world.rows.stored(odd)
    assert (handled, world.wire.sent, world.wire.connects) == (2, ["fine"], 2)
    assert world.states(odd, fine) == ["pending", "sent"]
    assert (row.last_error, aware(row.next_attempt_at)) == ("450 <address> is busy", NOW + 5 * SECOND)
    assert [event for event, _ in world.events] == ["mail_sent"]
    assert "ada@example.com" not in caplog.text


def test_backoff(world: World) -> None:
    """A mail is tried after 5 s, 30 s, 2 min, 10 min, each 30 min, and at its end by halves, until it has expired."""
    world.wire.faults["odd"] = MailDeferred("450 busy")
    mail = world.rows.mail(template="odd", expires_at=NOW + timedelta(hours=2))
    deliverer, pauses = world.deliverer(), []

    while world.states(mail) == ["pending"]:
        before = world.clock.now
        world.clock.now = aware(world.rows.stored(mail).next_attempt_at)
        pauses.append((world.clock.now - before).total_seconds())
        deliverer.deliver_due()

    assert pauses == [0, 5, 30, 120, 600, 1800, 1800, 1422, 711, 356, 178, 89, 44, 22, 11, 6]
    assert world.states(mail) == ["failed"]
    assert world.rows.stored(mail).last_error == "expired: 450 busy"
    assert [(event, payload["reason"]) for event, payload in world.events] == [("mail_failed", "expired: 450 busy")]


@pytest.mark.parametrize(
    ("place", "fault", "reason"),
    [
        ("first", Unreachable("421 closing"), "421 closing"),
        ("connect", MailDeferred("421 closing"), "421 closing"),
        ("connect", ConnectionRefusedError("nobody there"), "ConnectionRefusedError: nobody there"),
    ],
)
def test_unreachable(world: World, place: str, fault: Exception, reason: str) -> None:
    """When the server is away, one mail is tried; the others wait a moment, and it does not count as their attempt."""
    world.wire.faults[place] = fault
    first = world.rows.mail(template="first")
    others = [world.rows.mail(), world.rows.mail()]

    handled = world.deliverer().deliver_due()

    tried = world.rows.stored(first)
    assert (handled, world.wire.connects) == (1, 1)
    assert (tried.state, tried.attempts, tried.last_error) == ("pending", 1, reason)
    for other in map(world.rows.stored, others):
        assert (other.state, other.attempts, other.last_error, other.lease_id) == ("pending", 0, None, None)
        assert aware(other.next_attempt_at) == NOW + 5 * SECOND


def test_strange_fault(world: World) -> None:
    """Whatever else a transport raises puts the mail off."""
    world.wire.faults["odd"] = ZeroDivisionError("for ada@example.com")
    mail = world.rows.mail(template="odd")

    world.deliverer().deliver_due()

    assert world.states(mail) == ["pending"]
    assert world.rows.stored(mail).last_error == "ZeroDivisionError: for <address>"


def test_broken_template(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A mail that cannot be rendered waits for its template to be mended; the others go out on the same connection."""
    broken, fine = world.rows.mail(template="broken"), world.rows.mail(template="fine")

    world.deliverer().deliver_due()

    row = world.rows.stored(broken)
    assert world.states(broken, fine) == ["pending", "sent"]
    place = "at tests/mail/test_delivery.py:"
    assert row.last_error.startswith(f"LookupError: 'name' is undefined for <address> {place}")
    assert aware(row.next_attempt_at) == NOW + 5 * SECOND
    assert world.wire.connects == 1
    assert not any(record.exc_info for record in caplog.records)  # what a traceback shows may be a secret
    assert "ada@example.com" not in caplog.text


def test_expired_mail(world: World) -> None:
    """A mail whose time is over is not sent."""
    mail = world.rows.mail(template="broken", expires_at=NOW)

    world.deliverer().deliver_due()

    assert world.wire.sent == []
    assert (world.states(mail), world.rows.stored(mail).last_error) == (["dropped"], "expired")
    assert [(event, payload["reason"]) for event, payload in world.events] == [("mail_failed", "expired")]


@pytest.mark.parametrize(
    ("values", "reason"), [({"expires_at": NOW}, "expired"), ({"used_at": NOW}, "superseded"), ({}, None)]
)
def test_dead_link(world: World, values: dict[str, Any], reason: str | None) -> None:
    """A mail is not sent when its link would not work."""
    user = world.rows.user()
    mail = world.rows.mail(user_id=user.id, token_id=world.rows.link(user, **values))

    world.deliverer().deliver_due()

    assert world.rows.stored(mail).last_error == reason
    assert world.states(mail) == ["sent" if reason is None else "dropped"]


def test_mail_to_nobody(world: World) -> None:
    """A mail without recipient is not sent."""
    mail = world.rows.mail(to_addr=None)

    world.deliverer().deliver_due()

    assert (world.states(mail), world.rows.stored(mail).last_error) == (["dropped"], "unknown")


def test_lease_at_sending(world: World) -> None:
    """Each send begins with a lease of more than 45 s, however long the mails before it took."""
    for _ in range(4):
        world.rows.mail()
    left: list[timedelta] = []

    def during(letter: Letter) -> None:
        with world.rows.engine.connect() as connection:
            until = connection.scalar(
                sa.select(TABLES.mail.c.lease_until).where(TABLES.mail.c.message_id == letter.message_id)
            )
        left.append(aware(until) - world.clock.now)
        world.clock.now += 14 * SECOND

    world.wire.during = during
    world.deliverer().deliver_due()

    assert left == [LEASE, LEASE - 14 * SECOND] * 2


def test_mail_that_may_have_arrived(world: World) -> None:
    """A mail that the server has, without a word of what becomes of it, is tried again only after half an hour."""
    world.wire.faults["odd"] = MailUnsure("time-out")
    mail = world.rows.mail(template="odd")

    world.deliverer().deliver_due()

    row = world.rows.stored(mail)
    assert (row.state, aware(row.next_attempt_at)) == ("pending", NOW + 1800 * SECOND)


def test_claim_that_takes_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the claim itself waited so long that its lease is nearly over, it is given back, and sent by a new one."""
    mail = world.rows.mail()
    claim = world.queue.claim

    def slow(now: datetime, batch: int) -> list[Waiting]:
        found = claim(now, batch)
        world.clock.now += 30 * SECOND
        return found

    monkeypatch.setattr(world.queue, "claim", slow)
    first = world.deliverer().deliver_due()
    row = world.rows.stored(mail)
    monkeypatch.setattr(world.queue, "claim", claim)
    second = world.deliverer().deliver_due()

    assert (first, row.lease_id, row.attempts) == (0, None, 0)
    assert (second, world.states(mail)) == (1, ["sent"])


@pytest.mark.parametrize("seconds", [15, 61, 500, -1])
def test_claimed_too_long_ago(world: World, seconds: int) -> None:
    """A mail that was claimed a while ago, or before the clock went back, is not sent by that claim."""
    first, second = world.rows.mail(template="first"), world.rows.mail(template="second")

    def during(letter: Letter) -> None:
        world.clock.now += seconds * SECOND
        world.steal(second)

    world.wire.during = during
    handled = world.deliverer().deliver_due()

    assert (handled, world.wire.sent) == (1, ["first"])
    assert world.states(first, second) == ["sent", "pending"]
    assert len(world.events) == 1


def test_link_that_dies_while_its_mail_waits(world: World) -> None:
    """A mail that is claimed anew is dropped when its link was used meanwhile."""
    user = world.rows.user()
    link = world.rows.link(user)
    world.rows.mail(template="first")
    second = world.rows.mail(template="second", token_id=link, user_id=user.id)

    def during(letter: Letter) -> None:
        world.clock.now += 15 * SECOND
        world.rows.change(TABLES.token, link, used_at=NOW)

    world.wire.during = during
    world.deliverer().deliver_due()

    assert (world.wire.sent, world.states(second)) == (["first"], ["dropped"])
    assert (world.rows.stored(second).last_error, world.rows.stored(second).attempts) == ("superseded", 1)


def test_one_that_hangs(world: World) -> None:
    """A mail that hangs holds up no other: senders share what was claimed, and the second sends the rest."""
    mails = [world.rows.mail(template=kind) for kind in ("hangs", *"abcdefgh")]
    deliverer = world.deliverer()
    hangs, go_on = threading.Event(), threading.Event()

    def during(letter: Letter) -> None:
        if letter.subject == "hangs":
            hangs.set()
            assert go_on.wait(20)

    world.wire.during = during
    first = threading.Thread(target=deliverer.deliver_due)
    first.start()
    assert hangs.wait(20)

    handled = deliverer.deliver_due()
    states = world.states(*mails)
    go_on.set()
    first.join(20)

    assert (handled, states) == (8, ["pending"] + ["sent"] * 8)
    assert world.states(mails[0]) == ["sent"]


def test_unreachable_for_two(world: World) -> None:
    """When one sender cannot reach the server, what both have claimed waits, but for the mail in the other's hand."""
    mails = [world.rows.mail(template=kind) for kind in ("slow", "odd", "next")]
    world.wire.faults["odd"] = Unreachable("421 closing")
    deliverer = world.deliverer()
    began, go_on = threading.Event(), threading.Event()

    def during(letter: Letter) -> None:
        if letter.subject == "slow":
            began.set()
            assert go_on.wait(20)

    world.wire.during = during
    first = threading.Thread(target=deliverer.deliver_due)
    first.start()
    assert began.wait(20)

    handled = deliverer.deliver_due()
    go_on.set()
    first.join(20)

    assert (handled, world.wire.sent) == (1, ["slow"])
    rest = world.rows.stored(mails[2])
    assert (rest.lease_id, rest.attempts, aware(rest.next_attempt_at)) == (None, 0, NOW + 5 * SECOND)


def test_failing_goodbye(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that cannot be closed is logged, and changes nothing for its letters."""
    mail = world.rows.mail(template="hello")

    @contextmanager
    def connect() -> Iterator[Connection]:
        yield world.wire
        raise OSError("no goodbye")

    world.wire.connect = connect  # type: ignore[method-assign]

    assert (world.deliverer().deliver_due(), world.states(mail)) == (1, ["sent"])
    assert "could not be closed" in caplog.text


@pytest.mark.parametrize("fault", [None, MailRejected("550 no"), MailDeferred("450 later")])
def test_lease_lost_while_sending(world: World, fault: Exception | None, caplog: pytest.LogCaptureFixture) -> None:
    """What became of a mail that another worker has taken over meanwhile is that worker's to say."""
    if fault is not None:
        world.wire.faults["odd"] = fault
    mail = world.rows.mail(template="odd")
    world.wire.during = lambda letter: world.steal(mail)

    world.deliverer().deliver_due()

    assert (world.states(mail), world.events) == (["pending"], [])
    assert world.rows.stored(mail).last_error is None
    assert ("event=mail_sent_late mail_id=1 template=odd" in caplog.text) == (fault is None)


def test_deadline(world: World) -> None:
    """A send that takes longer than its deadline is aborted, and the mail waits."""
    mail = world.rows.mail()

    def hang(letter: Letter) -> None:
        assert world.wire.aborted.wait(5)
        raise MailDeferred("time-out")

    world.wire.during = hang
    started = time.monotonic()
    world.deliverer(deadline=0.1).deliver_due()

    assert 0.1 <= time.monotonic() - started < 2
    assert (world.states(mail), world.rows.stored(mail).last_error) == (["pending"], "time-out")


def test_no_deadline_after_sending(world: World) -> None:
    """A mail that was sent in time leaves nothing behind that would abort the next one."""
    world.rows.mail()

    world.deliverer(deadline=0.1).deliver_due()

    assert not world.wire.aborted.wait(0.2)


def test_lost_database(world: World) -> None:
    """When a mark fails, what is left of the batch is given back, and the caller is told."""
    first, second = world.rows.mail(), world.rows.mail()

    def begin() -> AbstractContextManager[sa.Connection]:
        if world.wire.sent and not failed:
            failed.append(True)
            raise OSError("database is away")
        return world.rows.engine.begin()

    failed: list[bool] = []
    world.queue = Queue(TABLES, User, begin)

    with pytest.raises(OSError, match="away"):
        world.deliverer().deliver_due()

    assert world.states(first, second) == ["pending", "pending"]
    assert world.rows.stored(first).lease_id is not None
    assert world.rows.stored(second).lease_id is None


@pytest.mark.parametrize(
    ("due", "pause"), [(None, 30), (timedelta(minutes=9), 30), (7 * SECOND, 7), (-7 * SECOND, 1), (0 * SECOND, 1)]
)
def test_pause(world: World, due: timedelta | None, pause: float) -> None:
    """Delivery pauses until the next mail is due, within bounds."""
    if due is not None:
        world.rows.mail(next_attempt_at=NOW + due)

    assert world.deliverer().pause(30) == pause


# Sending one mail now, outside the outbox.


def test_now(world: World) -> None:
    """A mail that is sent now is handed over once, is in no outbox, and leaves what waits there alone."""
    waiting = world.rows.mail(template="verify")
    letters: list[Letter] = []
    world.wire.during = letters.append

    fault, steps = world.deliverer().send_now("test", "Una@example.net")

    assert (fault, steps) == (None, ())
    assert [(letter.template, letter.to, letter.date) for letter in letters] == [("test", "Una@example.net", NOW)]
    assert world.states(waiting) == ["pending"]
    assert world.rows.counts() == {"pending": 1, "sent": 0, "failed": 0, "dropped": 0}
    assert world.events == []


@pytest.mark.parametrize("fault", [None, MailRejected("550 no")])
def test_now_step_by_step(world: World, fault: Exception | None) -> None:
    """What the connection tells of its steps comes back with what came of the mail."""
    world.wire.faults = {} if fault is None else {"test": fault}
    world.wire.steps = ["RCPT TO: 250 OK"]  # type: ignore[attr-defined]

    assert world.deliverer().send_now("test", "una@example.net") == (fault, ("RCPT TO: 250 OK",))


def test_now_twice(world: World) -> None:
    """Each mail that is sent now has a Message-ID of its own, from the domain of its sender."""
    letters: list[Letter] = []
    world.wire.during = letters.append

    for _ in range(2):
        world.deliverer().send_now("test", "una@example.net")

    names = [letter.message_id.partition("@") for letter in letters]
    assert {domain for _, _, domain in names} == {"shop.example"}
    assert len({name for name, _, _ in names}) == 2


@pytest.mark.parametrize(
    ("place", "fault", "kind", "reason"),
    [
        ("test", MailRejected("550 no"), MailRejected, "550 no"),
        ("test", MailDeferred("451 later"), MailDeferred, "451 later"),
        ("test", Unreachable("421 closing"), Unreachable, "421 closing"),
        ("test", ZeroDivisionError("strange"), MailDeferred, "ZeroDivisionError: strange"),
        ("connect", Unreachable("421 closing"), MailDeferred, "421 closing"),
        ("connect", ConnectionRefusedError("nobody there"), MailDeferred, "ConnectionRefusedError: nobody there"),
    ],
)
def test_now_fault(world: World, place: str, fault: Exception, kind: type[Exception], reason: str) -> None:
    """Whatever keeps a mail from being handed over now is returned with its reason, and not raised."""
    world.wire.faults[place] = fault

    found = world.deliverer().send_now("test", "una@example.net").fault

    assert isinstance(found, kind)
    assert str(found) == reason
    assert world.wire.sent == []


def test_now_broken_template(world: World) -> None:
    """A template that cannot be rendered is a fault like any other."""
    found = world.deliverer().send_now("broken", "una@example.net").fault

    assert isinstance(found, MailDeferred)
    assert str(found).startswith("LookupError: ")
    assert world.wire.sent == []


def test_now_deadline(world: World) -> None:
    """A mail that is sent now has the deadline of every other."""

    def hang(letter: Letter) -> None:
        assert world.wire.aborted.wait(5)
        raise MailDeferred("time-out")

    world.wire.during = hang
    started = time.monotonic()
    found = world.deliverer(deadline=0.1).send_now("test", "una@example.net").fault

    assert 0.1 <= time.monotonic() - started < 2
    assert str(found) == "time-out"


# Addresses of people without an account.


@pytest.mark.parametrize(
    ("fault", "state"), [(None, "sent"), (MailRejected("550 no"), "failed"), (MailDeferred("450 later"), "pending")]
)
@pytest.mark.parametrize("has_account", [True, False])
def test_address_of_nobody(world: World, fault: Exception | None, state: str, has_account: bool) -> None:
    """The address of somebody without an account is kept until his mail is sent or given up, that of a user longer."""
    if fault is not None:
        world.wire.faults["test"] = fault
    mail = world.rows.mail(template="test", user_id=world.rows.user().id if has_account else None)

    world.deliverer().deliver_due()

    row = world.rows.stored(mail)
    kept = has_account or state == "pending"
    assert (row.state, row.to_addr) == (state, "ada@example.com" if kept else None)


def test_address_of_nobody_in_time(world: World) -> None:
    """A mail to somebody without an account whose time is over loses its address as well."""
    mail = world.rows.mail(template="test", expires_at=NOW)

    world.deliverer().deliver_due()

    row = world.rows.stored(mail)
    assert (row.state, row.to_addr) == ("dropped", None)
