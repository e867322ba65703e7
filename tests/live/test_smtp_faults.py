"""What mail servers do to a site: every fault of theirs against the whole app, its outbox and its senders."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from databases import database
from live_server import AppServer, wait_until
from live_visitors import LiveProgram
from smtp_servers import HANGS, Answer, Authority, Peer, Script, Taken, cut, flood, say_and_cut
from support import Site

from example_app.models import accounts
from flask_accountflow.events import mail_failed
from flask_accountflow.mail.watchdog import Watchdog
from flask_accountflow.models import aware

pytestmark = pytest.mark.slow

MakeSite = Callable[..., Site]

# Where a server can fall silent.
STEPS = ("banner", "EHLO", "MAIL", "RCPT", "DATA", "dot")

PASSWORD_OF_OURS = "let-me-in-6174"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Somebody whom the site trusts."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def make_mailing(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Site]:
    """Return a function that makes sites that send by SMTP to a port when they are told to, each mail in a second."""

    def make(port: int, **config: Any) -> Site:
        settings = {
            "MAIL_SERVER": "127.0.0.1",
            "MAIL_PORT": port,
            "MAIL_SUPPRESS_SEND": False,
            "ACCOUNTFLOW_MAIL_TIMEOUT": 1,
            "ACCOUNTFLOW_MAIL_KICK": "worker",
            **config,
        }
        site = make_site(settings, transport=None)
        monkeypatch.setattr(site.app.extensions["accountflow_delivery"], "_watchdog", Watchdog(1.5))
        return site

    return make


def sign_up(site: Site) -> str:
    """Sign up, and return the address."""
    email = f"{uuid.uuid4().hex}@example.com"
    assert site.program().signup(email).status_code == 202
    return email


def deliver(site: Site) -> None:
    """Do what a worker does once."""
    with site.app.app_context():
        site.app.extensions["accountflow_delivery"].deliver_due()


def row(site: Site, email: str) -> Any:
    """Return the mail for an address."""
    [found] = site.rows("mail", to_addr=email)
    return found


def link_in(mail: Taken) -> str:
    """Return the path of the link in a mail."""
    [link] = {link for link in mail.links if "/auth/verify/" in link}
    return urlsplit(link).path


def half(peer: Peer) -> None:
    """Read the beginning of a mail, and close the connection."""
    peer.say("354 go on")
    peer.file.read(100)
    cut(peer)
    raise ConnectionAbortedError  # nor is read what has arrived by then


#: What a server may do for a while: its answers, and what the operator reads of them.
PASSING: dict[str, tuple[dict[str, Answer], str]] = {
    **{f"F02 silent at {step}": ({step: HANGS["silent"]}, "timed out") for step in STEPS[:-1]},
    "F02 silent at dot": ({"dot": HANGS["silent"]}, "time-out"),
    **{f"F03 dripping at {step}": ({step: HANGS["drip"]}, "time-out") for step in STEPS},
    "F04 421 at connect": ({"banner": say_and_cut("421 too busy")}, "421 too busy"),
    "F04 421 at EHLO": ({"EHLO": say_and_cut("421 too busy")}, "421 too busy"),
    "F04 421 at MAIL": ({"MAIL": say_and_cut("421 too busy")}, "421 too busy"),
    "F04 450": ({"RCPT": "450 4.2.1 mailbox is busy"}, "450 4.2.1 mailbox is busy"),
    "F04 451": ({"RCPT": "451 4.7.1 greylisted"}, "451 4.7.1 greylisted"),
    "F04 452": ({"RCPT": "452 4.2.2 disk full"}, "452 4.2.2 disk full"),
    "F04 451 at DATA": ({"DATA": "451 later"}, "451 later"),
    "F04 452 after the dot": ({"dot": "452 disk full"}, "452 disk full"),
    "F07 cut after the dot": ({"dot": cut}, "closed the connection"),
    "F07 cut in the middle": ({"DATA": half}, "(at end of DATA)"),
    **{f"F07 cut at {step}": ({step: cut}, "closed the connection") for step in STEPS[:-1]},
    "login refused": ({"AUTH": "535 5.7.8 no"}, "535 5.7.8 no"),
    "sender refused": ({"MAIL": "553 5.7.1 not your address"}, "553 5.7.1 not your address"),
    "no SMTP": ({"banner": "HTTP/1.1 400 Bad Request"}, "no answer by SMTP"),
    "no end": ({"MAIL": flood}, "has no end"),
}


@pytest.mark.parametrize(("answers", "reason"), PASSING.values(), ids=PASSING)
def test_F02_F03_F04_F07_a_passing_fault(
    answers: dict[str, Answer], reason: str, make_mailing: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    """While a server fails its mail waits, for 5 s at first, and then it arrives once, and its link works.

    The exception is a server that took a mail and did not say so: of that there is one more copy, which is the same,
    and after half an hour where the server was only slow to say it.
    """
    once = {step: [answer] for step, answer in answers.items()}
    with Script(offers=["AUTH LOGIN"], **once) as server:
        site = make_mailing(server.port, MAIL_USERNAME="shop", MAIL_PASSWORD=PASSWORD_OF_OURS)
        server.answers.setdefault("AUTH", take_password)
        emails = sign_up(site), sign_up(site)

        deliver(site)

        waiting = row(site, emails[0])
        taken_in_vain = len(server.to(emails[0]))
        assert (waiting.state, waiting.attempts, waiting.lease_id) == ("pending", 1, None)
        pause = 1800 if answers.get("dot") in HANGS.values() else 5
        assert aware(waiting.next_attempt_at) == site.clock() + timedelta(seconds=pause)
        assert reason in waiting.last_error
        assert reason in caplog.text

        server.be_well()
        server.answers["AUTH"] = take_password
        heard = len(server.lines)
        site.clock.tick(pause - 1)
        deliver(site)
        assert not any(emails[0] in line for line in server.lines[heard:])
        site.clock.tick(1)
        deliver(site)
        site.clock.tick(3600)
        deliver(site)

    assert [row(site, email).state for email in emails] == ["sent", "sent"]
    assert row(site, emails[0]).last_error is None
    copies = server.to(emails[0])
    assert len(copies) == 1 + taken_in_vain
    assert taken_in_vain == (1 if "dot" in answers else 0)
    assert len({(copy.message_id, link_in(copy)) for copy in copies}) == 1
    assert all(copy.recipients == (emails[0],) for copy in copies)
    assert site.program().verify(link_in(copies[0])).json["status"] == "verified"
    tell_nothing(f"{waiting.last_error} {caplog.text}", emails, copies)


def take_password(peer: Peer) -> None:
    """Let in who has the password, whichever it is."""
    for _ in range(2):
        peer.say("334 ")
        peer.hear()
    peer.say("235 come in")


def tell_nothing(told: str, emails: tuple[str, ...], copies: list[Taken]) -> None:
    """Fail when what an operator reads holds something that is none of his business."""
    for secret in (*emails, PASSWORD_OF_OURS, *(link_in(copy).rpartition("/")[2] for copy in copies)):
        assert secret not in told


FINAL: dict[str, tuple[dict[str, Answer], str]] = {
    "550": ({"RCPT": "550 5.1.1 no such user"}, "550 5.1.1 no such user"),
    "553": ({"RCPT": "553 5.1.3 bad address"}, "553 5.1.3 bad address"),
    "554 at DATA": ({"DATA": "554 no valid recipient"}, "554 no valid recipient"),
    "554 after the dot": ({"dot": "554 5.7.1 spam"}, "554 5.7.1 spam"),
    "552 after the dot": ({"dot": "552 5.2.2 mailbox full"}, "552 5.2.2 mailbox full"),
}


@pytest.mark.parametrize(("answers", "reason"), FINAL.values(), ids=FINAL)
def test_F05_a_final_refusal(
    answers: dict[str, Answer], reason: str, make_mailing: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    """A mail that is refused for good is given up at once and told of; the next one goes over the same connection."""
    reasons: list[str] = []
    [(step, answer)] = answers.items()

    with Script(**{step: [answer]}) as server:
        site = make_mailing(server.port)
        refused, fine = sign_up(site), sign_up(site)
        with mail_failed.connected_to(lambda sender, **payload: reasons.append(payload["reason"]), sender=site.app):
            deliver(site)
        site.clock.tick(7200)
        deliver(site)

    assert (row(site, refused).state, row(site, refused).last_error) == ("failed", reason)
    assert reasons == [reason]
    assert row(site, fine).state == "sent"
    assert (server.connections, server.heard.count("MAIL"), server.heard.count("RCPT")) == (1, 2, 2)
    tell_nothing(caplog.text, (refused, fine), server.to(fine))


def test_F01_the_times_between_tries(make_mailing: Callable[..., Site]) -> None:
    """Where nobody listens a mail is tried after 5 s, 30 s, 2 min, 10 min, each 30 min, and lastly before its end."""
    with Script() as server:
        site = make_mailing(server.port)
    email = sign_up(site)
    began = site.clock.now

    pauses = []
    while row(site, email).state == "pending":
        deliver(site)
        pauses.append((aware(row(site, email).next_attempt_at) - site.clock()).total_seconds())
        site.clock.tick(pauses[-1])

    assert pauses[:6] == [5, 30, 120, 600, 1800, 1800]
    assert max(pauses) == 1800
    assert row(site, email).state == "failed"
    assert row(site, email).last_error.startswith("expired: ConnectionRefusedError")
    # The link works for a day.
    assert timedelta(days=1, seconds=-10) <= site.clock.now - began < timedelta(days=1)


IMPOSTORS = ("unknown", "expired", "misnamed", "stripped")


@pytest.mark.parametrize("impostor", IMPOSTORS)
@pytest.mark.parametrize("is_implicit", [False, True], ids=["starttls", "implicit"])
def test_F08_MAI_02_an_impostor(
    impostor: str,
    is_implicit: bool,
    authority: Authority,
    tmp_path: Path,
    make_mailing: Callable[..., Site],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that is not the one it should be learns our greeting alone; the mail waits, loudly, for the real one."""
    certificates = {
        "unknown": lambda: Authority(tmp_path).context(),
        "expired": lambda: authority.context(days=-1),
        "misnamed": lambda: authority.context("mx.example"),
        "stripped": lambda: None,
    }
    fake = Script(tls=certificates[impostor](), from_the_start=is_implicit, offers=["AUTH PLAIN"])
    with fake, Script(tls=authority.context(), from_the_start=is_implicit, offers=["AUTH PLAIN"]) as real:
        site = make_mailing(
            fake.port,
            MAIL_USE_TLS=not is_implicit,
            MAIL_USE_SSL=is_implicit,
            MAIL_USERNAME="shop",
            MAIL_PASSWORD=PASSWORD_OF_OURS,
            ACCOUNTFLOW_MAIL_CA_FILE=str(authority.file),
        )
        real.answers["AUTH"] = "235 come in"
        email = sign_up(site)

        deliver(site)

        waiting = row(site, email)
        assert (waiting.state, waiting.attempts) == ("pending", 1)
        assert "SSL" in waiting.last_error or "STARTTLS" in waiting.last_error
        assert [record.levelno for record in caplog.records if record.name == "accountflow.mail"] == [logging.WARNING]

        site.app.extensions["mail"].port = real.port
        site.clock.tick(5)
        deliver(site)

    if is_implicit:
        assert {"EHLO", "AUTH", "MAIL"}.isdisjoint(fake.heard)  # at most a handshake that was read as text
    else:
        assert fake.heard == ["EHLO"] if impostor == "stripped" else ["EHLO", "STARTTLS"]
    assert fake.mails == []
    assert row(site, email).state == "sent"
    [mail] = real.to(email)
    assert "AUTH" in real.heard_in_secret
    tell_nothing(waiting.last_error + caplog.text, (email,), [mail])


# The same server, with its processes and its clock.


@pytest.fixture(scope="module")
def script() -> Iterator[Script]:
    """The mail server of the app server below."""
    with Script() as server:
        yield server


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.Engine]:
    """An engine on its database."""
    with database("sqlite", tmp_path_factory.mktemp("sqlite")) as found:
        yield found


@pytest.fixture(scope="module")
def live(script: Script, engine: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """The example app in one process, which has two senders. One step of theirs may take 20 s."""
    uri = engine.url.render_as_string(hide_password=False)
    settings = {"ACCOUNTFLOW_MAIL_TIMEOUT": 20}
    server = AppServer(uri, script, tmp_path_factory.mktemp("app"), **settings)  # type: ignore[arg-type]
    server.flask("db", "upgrade")
    server.start("--workers", "1")
    try:
        yield server
    finally:
        server.kill()
    assert "Traceback" not in server.log.read_text()


def visit(server: AppServer) -> tuple[str, Any, float]:
    """Sign up; return the address, what the answer says of no address, and how long it took in seconds."""
    email = f"{uuid.uuid4().hex}@example.com"
    started = time.monotonic()
    answer = LiveProgram(server).signup(email)
    seconds = time.monotonic() - started
    body = {name: value for name, value in answer.json.items() if name != "email"}
    headers = sorted((name, value) for name, value in answer.headers.items() if name != "Date")
    return email, (answer.status_code, headers, body), seconds


def test_F02_F03_one_hung_mail_holds_up_no_other(live: AppServer, script: Script, engine: sa.Engine) -> None:
    """While a server hangs on one mail, wherever it does, answers are the same and as fast, and other mails arrive."""
    email, usual, _ = visit(live)
    script.wait_for(email)

    for step in STEPS:
        for hang in HANGS.values():
            hangs, over = threading.Event(), threading.Event()

            def hold(peer: Peer, hang: Any = hang, hangs: Any = hangs, over: Any = over) -> None:
                hangs.set()
                if hang is HANGS["drip"]:
                    while not over.wait(0.05):
                        peer.socket.sendall(b"2")
                over.wait(20)
                cut(peer)

            # A sender that is still there would take the mail over the connection that it has.
            wait_until(lambda: script.open == 0, "the senders have hung up")
            script.answers[step] = [hold]
            try:
                first, answer, seconds = visit(live)
                assert hangs.wait(10), f"nothing hangs at {step}"
                second, *again = visit(live)
                script.wait_for(second, patience=5)
                assert not over.is_set()
            finally:
                over.set()
            assert answer == again[0] == usual
            assert seconds < 2  # of the 20 that a hang takes
            assert again[1] < 2

            wait_until(lambda email=first: mail_for(engine, email).lease_id is None, "the mail waits")
            hurry(engine)
            visit(live)  # which wakes a sender
            wait_until(lambda email=first: mail_for(engine, email).state == "sent", "the mail has arrived")
            copies = script.to(first)
            # After the dot it was taken by a server that did not say so.
            assert len(copies) == (2 if step == "dot" else 1)
            assert len({(mail.message_id, link_in(mail)) for mail in copies}) == 1
            assert LiveProgram(live).verify(link_in(copies[0])).json["status"] == "verified"


def test_F10_a_sender_that_is_killed_before_it_hears_the_answer(
    live: AppServer, script: Script, engine: sa.Engine
) -> None:
    """A mail that was taken, and whose sender was killed before it could note that, comes once more and is the same."""
    killed = threading.Event()

    def kill(peer: Peer) -> None:
        live.kill()
        killed.set()
        cut(peer)

    script.answers["dot"] = [kill]
    email, *_ = visit(live)
    assert killed.wait(10)
    end_leases(engine)
    live.start("--workers", "1")

    script.wait_for(email, copies=2)
    wait_until(lambda: mail_for(engine, email).state == "sent", "the mail is marked")
    copies = script.to(email)
    assert len(copies) == 2
    assert len({(mail.message_id, link_in(mail)) for mail in copies}) == 1
    assert LiveProgram(live).verify(link_in(copies[0])).json["status"] == "verified"


def hurry(engine: sa.Engine) -> None:
    """Let the time until the next tries be over."""
    mail = accounts.tables.mail
    with engine.begin() as connection:
        connection.execute(sa.update(mail).where(mail.c.state == "pending").values(next_attempt_at=mail.c.created_at))


def end_leases(engine: sa.Engine) -> None:
    """Let the time of all leases be over."""
    mail = accounts.tables.mail
    long_ago = datetime(2020, 1, 1, tzinfo=timezone.utc)
    with engine.begin() as connection:
        connection.execute(sa.update(mail).where(mail.c.lease_id.is_not(None)).values(lease_until=long_ago))


def mail_for(engine: sa.Engine, email: str) -> Any:
    """Return the row of the mail for an address."""
    mail = accounts.tables.mail
    with engine.connect() as connection:
        return connection.execute(sa.select(mail).where(mail.c.to_addr == email)).one()
