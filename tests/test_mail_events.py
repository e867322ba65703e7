"""What is told of mails: a signal for each thing that happens to one, and log lines that hold no secret."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from jinja2 import DictLoader
from support import OTHER_PASSWORD, PASSWORD, Person, Program, Site

from flask_accountflow import events
from flask_accountflow.errors import MailDeferred, MailRejected
from flask_accountflow.mail.transports import Unreachable
from flask_accountflow.models import aware

MakeSite = Callable[..., Site]
NAMES = ("mail_queued", "mail_sent", "mail_failed")

VIC, ADA, EVE, NOBODY = (f"canary-{name}@canary.example" for name in ("vic", "ada", "eve", "nobody"))
OPERATOR = "canary-root@canary.example"


@dataclass(frozen=True)
class Told:
    """A signal, and the row of its mail as another connection saw it then."""

    name: str
    payload: dict[str, Any]
    row: Any


@contextmanager
def listening(site: Site) -> Iterator[list[Told]]:
    """Collect the signals about mails."""
    told: list[Told] = []

    def receiver(name: str) -> Callable[..., None]:
        def receive(sender: Any, **payload: Any) -> None:
            [row] = site.rows("mail", id=payload["mail_id"])
            told.append(Told(name, payload, row))

        return receive

    with ExitStack() as stack:
        receivers = {name: receiver(name) for name in NAMES}
        for name, one in receivers.items():
            stack.enter_context(getattr(events, name).connected_to(one, sender=site.app))
        yield told


def journey(site: Site, visitor: Program | Person) -> None:
    """Do everything that may cause a mail, and what only looks like it, as this kind of visitor."""
    visitor.signup(ADA)
    confirmation = site.last_link
    visitor.signup(ADA)  # within a minute: a duplicate
    visitor.resend(email=NOBODY)
    visitor.request_reset(email=NOBODY)
    site.clock.tick(61)
    visitor.resend(email=ADA)
    site.clock.tick(61)
    visitor.login(ADA)  # not confirmed: another link
    # Two sign-ups compete, and a program has no browser that made one of them.
    chosen = {"password": PASSWORD} if visitor.kind == "json" else {}
    for _ in range(2):
        visitor.verify(confirmation, **chosen)
    site.clock.tick(61)
    stranger = type(visitor)(site)
    stranger.signup(ADA, OTHER_PASSWORD)
    stranger.resend(email=ADA)
    stranger.login(ADA, "canary and wrong")
    stranger.request_reset(email=ADA)
    link = site.last_link
    stranger.reset(link)
    stranger.reset(link)
    type(visitor)(site).login(ADA, OTHER_PASSWORD)
    for _ in range(4):
        site.clock.tick(61)
        stranger.request_reset(email=ADA)  # the last of them is one too many
    operate(site)


def operate(site: Site) -> None:
    """Do what operators do: create and disable accounts, and send a test mail."""
    site.member(OPERATOR, admin=True)
    with site.app.app_context():
        site.accounts.create_user(VIC)
        site.accounts.create_user(EVE, PASSWORD)
        site.accounts.disable_user(EVE)
        site.accounts.request_reset(EVE)
    program = site.program()
    token = program.login(OPERATOR).json["access_token"]
    sent = program.post("/auth/admin/test-mail", {"to": NOBODY}, authorization=f"Bearer {token}")
    assert sent.status_code == 202


#: What the journey mails, in its order.
MAILED = ["verify", "verify", "verify", "already_registered", "already_verified", "reset", "password_changed"]
MAILED += ["reset", "reset", "set_password", "verify", "test"]


def was_mailed(row: Any) -> bool:
    """Tell whether a mail was ever to be sent."""
    return row.last_error not in {"unknown", "duplicate", "capped", "disabled"}


# Signals.


def test_every_mail_is_told_of_once(site: Site, visitor: Program | Person) -> None:
    """In all flows each mail is told of when it waits and when it is sent, and of what only looks like one nothing."""
    with listening(site) as told:
        journey(site, visitor)

    mailed = [row for row in site.rows("mail") if was_mailed(row)]
    left_out = [row.last_error for row in site.rows("mail") if not was_mailed(row)]
    assert [row.template for row in mailed] == MAILED
    assert set(left_out) == {"unknown", "duplicate", "capped", "disabled"}
    for name in ("mail_queued", "mail_sent"):
        found = [(one.payload["mail_id"], one.payload["template"]) for one in told if one.name == name]
        assert found == [(row.id, row.template) for row in mailed]
    assert {one.name for one in told} == {"mail_queued", "mail_sent"}


def test_payloads_are_stable(site: Site, visitor: Program | Person) -> None:
    """Each signal has its members and no others, with the account's id as text where there is an account."""
    with listening(site) as told:
        journey(site, visitor)
        site.transport.fault = MailRejected("550 No")
        site.clock.tick(61)
        visitor.signup(NOBODY)

    common = {"at", "user_id", "mail_id", "template"}
    members = {"mail_queued": {*common, "ip", "user_agent"}, "mail_sent": common, "mail_failed": {*common, "reason"}}
    assert {one.name for one in told} == set(members)
    for one in told:
        assert set(one.payload) == members[one.name]
        assert isinstance(one.payload["at"], datetime)
        assert one.payload["at"].tzinfo is not None
        assert one.payload["user_id"] == (None if one.row.user_id is None else str(one.row.user_id))
        assert one.payload["mail_id"] == one.row.id
    assert {one.payload["template"] for one in told if one.payload["user_id"] is None} == {"test"}


def test_signals_say_what_is_so(make_site: MakeSite) -> None:
    """When a signal is sent, what it says is committed: another connection sees it."""
    site = make_site()
    with listening(site) as told:
        site.program().signup(ADA)
        site.transport.fault = MailRejected("550 No")
        site.program().signup(EVE)

    assert [(one.name, one.row.state) for one in told] == [
        ("mail_queued", "pending"),
        ("mail_sent", "sent"),
        ("mail_queued", "pending"),
        ("mail_failed", "failed"),
    ]


@pytest.mark.parametrize(("commits", "names"), [(True, ["mail_queued", "mail_sent"]), (False, [])])
def test_signals_wait_for_the_host(site: Site, commits: bool, names: list[str]) -> None:
    """A mail that was caused within the host's work is told of with the host's commit, and not at all without."""
    site.member(ADA)
    with listening(site) as told, site.app.app_context():
        site.db.session.add(site.User(email=EVE, email_key=EVE, created_at=site.clock.now))
        site.accounts.request_reset(ADA)
        before = list(told)
        if commits:
            site.db.session.commit()
        else:
            site.db.session.rollback()

    assert before == []
    assert [one.name for one in told] == names


@pytest.mark.parametrize(
    ("fault", "names", "reason"),
    [
        (MailRejected("550 5.1.1 No mailbox"), ["mail_queued", "mail_failed"], "550 5.1.1 No mailbox"),
        (MailDeferred("451 Later"), ["mail_queued"], None),
        (Unreachable("421 Away"), ["mail_queued"], None),
    ],
)
def test_F05_a_mail_that_is_given_up_is_told_of(
    site: Site, fault: Exception, names: list[str], reason: str | None
) -> None:
    """A mail that the server refuses for good is told of with its reason; one that is tried again is not, yet."""
    site.transport.fault = fault
    with listening(site) as told:
        site.program().signup(ADA)

    assert [one.name for one in told] == names
    assert told[-1].payload.get("reason") == reason


def test_a_mail_that_expires_is_told_of(site: Site) -> None:
    """A mail that could not be handed over before it expired is told of once, as failed."""
    site.transport.fault = Unreachable("421 Away")
    with listening(site) as told:
        site.program().signup(ADA)
        while (row := site.rows("mail")[0]).state == "pending":
            site.clock.now = aware(row.next_attempt_at)
            site.app.extensions["accountflow_delivery"].deliver_due()

    assert [one.name for one in told] == ["mail_queued", "mail_failed"]
    assert (told[-1].payload["reason"], told[-1].row.state) == ("expired: 421 Away", "failed")


def test_a_mail_that_came_too_late_is_told_of(make_site: MakeSite) -> None:
    """A mail whose link has died before it was sent is told of as failed, with the reason why it was left out."""
    site = make_site({"ACCOUNTFLOW_MAIL_KICK": "worker"})
    site.member(ADA)
    with listening(site) as told:
        site.program().request_reset(email=ADA)
        with site.app.app_context():
            site.accounts.disable_user(ADA)
        site.app.extensions["accountflow_delivery"].deliver_due()

    assert [one.name for one in told] == ["mail_queued", "mail_failed"]
    assert (told[-1].payload["reason"], told[-1].row.state) == ("superseded", "dropped")


# Log lines.


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that is logged, by us and by others."""
    caplog.set_level(logging.DEBUG)
    return caplog


def text_of(logs: pytest.LogCaptureFixture) -> str:
    """Return all lines as they would stand in a file, tracebacks included."""
    formatter = logging.Formatter("%(name)s %(message)s")
    return "\n".join(formatter.format(record) for record in logs.records)


def secrets_of(site: Site) -> list[str]:
    """Return what no line may hold: addresses, passwords, links, and the parts of their tokens."""
    tokens = [str(letter.link).rpartition("/")[2] for letter in site.letters if letter.link is not None]
    parts = [part for token in tokens for part in (token, token.partition(".")[0], token.rpartition(".")[2])]
    assert len(parts) > 10
    return ["@canary.example", PASSWORD, OTHER_PASSWORD, "canary and wrong", "/auth/verify/", *parts]


def test_AUD_03_no_line_holds_a_secret(site: Site, visitor: Program | Person, logs: pytest.LogCaptureFixture) -> None:
    """In all flows, no line of any log holds an address, a password, a link or a token."""
    journey(site, visitor)

    text = text_of(logs)
    assert "event=mail_sent" in text
    assert [secret for secret in secrets_of(site) if secret in text] == []


@pytest.fixture(params=[MailRejected, MailDeferred, Unreachable, RuntimeError])
def talkative(request: pytest.FixtureRequest, site: Site) -> Site:
    """A site whose mail server repeats the recipient, a link and its token whenever it refuses."""
    site.program().signup(EVE)
    site.transport.fault = request.param(f"550 <{ADA}> says {site.letters[0].link} is {site.last_token}")
    return site


def test_AUD_03_no_line_holds_what_a_mail_server_repeats(talkative: Site, logs: pytest.LogCaptureFixture) -> None:
    """Whatever a mail server or a transport says of the recipient and of a link stays out of the logs."""
    for _ in range(3):
        talkative.program().signup(ADA)
        talkative.clock.tick(61)

    text = text_of(logs)
    assert "550" in text
    assert [secret for secret in ("@canary.example", talkative.last_token, "://") if secret in text] == []


def test_MAI_08_no_row_keeps_what_a_mail_server_repeats(talkative: Site) -> None:
    """Whatever a mail server or a transport says of the recipient and of a link stays out of the outbox."""
    talkative.program().signup(ADA)

    kept = "".join(str(row.last_error) for row in talkative.rows("mail"))
    assert "550" in kept
    assert [secret for secret in ("@canary.example", talkative.last_token, "://") if secret in kept] == []


def test_AUD_01_each_event_is_one_line(site: Site, visitor: Program | Person, logs: pytest.LogCaptureFixture) -> None:
    """What is told by a signal stands on one line of the audit log, as key=value."""
    with listening(site) as told:
        journey(site, visitor)

    lines = [record.getMessage() for record in logs.records if record.name == "accountflow.audit"]
    about_mails = [line for line in lines if line.startswith("event=mail_")]
    assert len(about_mails) == len(told)
    for line, one in zip(about_mails, told, strict=True):
        user_id = one.payload["user_id"] or "-"
        start = f"event={one.name} at={one.payload['at'].isoformat()} user_id={user_id} mail_id={one.row.id} "
        assert line.startswith(f"{start}template={one.row.template}")
    assert all(re.fullmatch(r"(\w+=(\S+|\"[^\"]*\")( |$))+", line) for line in lines)


def test_F26_a_mail_that_waits_is_one_line(site: Site, logs: pytest.LogCaptureFixture) -> None:
    """Each try that came to nothing is one line, which says why and when the next one is, and names nobody."""
    site.app.jinja_loader = DictLoader({"accountflow/mail/verify.txt": "{{ 1 / 0 }}"})
    site.program().signup(ADA)

    [line] = [record.getMessage() for record in logs.records if record.name == "accountflow.mail"]
    assert line.startswith('event=mail_deferred reason="ZeroDivisionError: division by zero')
    assert line.endswith("mail_id=1 template=verify retry_in=5")
    assert "@canary.example" not in text_of(logs)
