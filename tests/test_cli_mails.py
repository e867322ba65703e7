"""The command line about mail: the outbox, another try, a test mail, and the worker."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from databases import database
from jinja2 import DictLoader
from live_server import MailServer, wait_until
from smtp_servers import Authority, Script, cut, silent
from sqlalchemy import event
from support import ABSENT, START, Site

from flask_accountflow import events
from flask_accountflow.cli.mails import _Health
from flask_accountflow.errors import MailRejected
from flask_accountflow.mail.transports import Unreachable

ROOT = Path(__file__).parents[1]
MakeSite = Callable[..., Site]
EMAIL = "vic@example.com"


@pytest.fixture(autouse=True)
def _no_syncing() -> Iterator[None]:
    """Let SQLite not wait for the disk: no test here pulls the plug."""

    def relax(connection: Any, record: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")

    event.listen(sa.Engine, "connect", relax)
    yield
    event.remove(sa.Engine, "connect", relax)


def run(site: Site, *words: str) -> Any:
    """Run ``flask accountflow …``. Whatever comes of it, it ends with an exit code and not with a traceback."""
    result = site.app.test_cli_runner().invoke(args=["accountflow", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


@pytest.fixture
def waiting(make_site: MakeSite) -> Site:
    """A site whose mail is delivered by a worker."""
    return make_site({"ACCOUNTFLOW_MAIL_KICK": "worker"})


def deliver(site: Site) -> None:
    """Deliver what is due."""
    site.app.extensions["accountflow_delivery"].deliver_due()


def alter(site: Site, **values: Any) -> None:
    """Change all mails behind the back of the extension."""
    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.execute(sa.update(site.tables.mail).values(values))


def add(site: Site, count: int, **values: Any) -> None:
    """Insert mails."""
    row = {"template": "reset", "to_addr": EMAIL, "to_key": "key", "state": "failed", "created_at": START}
    row |= {"expires_at": START, "attempts": 1, "next_attempt_at": START, **values}
    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.execute(sa.insert(site.tables.mail), [row] * count)


# What is in the outbox.


@pytest.fixture
def mixed(waiting: Site) -> Site:
    """A site with a mail in each state: sent, failed, pending and due, pending for later, dropped."""
    site = waiting
    site.member(EMAIL)
    site.program().signup("ada@example.com")
    deliver(site)
    site.transport.fault = MailRejected("550 5.1.1 No mailbox")
    site.program().signup("eve@example.net")
    deliver(site)
    site.transport.fault = Unreachable("421 Come back later")
    site.program().signup("bob@example.com")
    deliver(site)
    site.transport.fault = None
    site.clock.tick(1)
    site.program().request_reset(email=EMAIL)
    site.program().request_reset(email="nobody@example.com")
    return site


def test_F05_mails_lists_the_outbox(mixed: Site) -> None:
    """``mails`` shows each mail on a line, newest first, with the recipient masked, and ends with the counts."""
    result = run(mixed, "mails")

    assert (result.exit_code, result.output) == (
        0,
        "ID  MAIL    STATE    QUEUED                TRIES  NEXT TRY              RECIPIENT      REASON\n"
        "5   reset   dropped  2026-11-21T08:30:01Z  0      -                     -              unknown\n"
        "4   reset   pending  2026-11-21T08:30:01Z  0      now                   v•••@e•••.com  -\n"
        "3   verify  pending  2026-11-21T08:30:00Z  1      2026-11-21T08:30:05Z  b•••@e•••.com  421 Come back later\n"
        "2   verify  failed   2026-11-21T08:30:00Z  1      -                     e•••@e•••.net  550 5.1.1 No mailbox\n"
        "1   verify  sent     2026-11-21T08:30:00Z  1      -                     a•••@e•••.com  -\n"
        "pending 2, sent 1, failed 1, dropped 1\n",
    )


@pytest.mark.parametrize(
    ("flag", "ids"), [("--failed", ["2"]), ("--pending", ["3", "4"]), ("--sent", ["1"]), ("--dropped", ["5"])]
)
def test_mails_of_one_state(mixed: Site, flag: str, ids: list[str]) -> None:
    """A flag picks one state: what waits comes oldest first. The counts are those of all."""
    lines = run(mixed, "mails", flag).output.splitlines()

    assert [line.split()[0] for line in lines[1:-1]] == ids
    assert lines[-1] == "pending 2, sent 1, failed 1, dropped 1"


def test_mails_in_full(mixed: Site) -> None:
    """``--full`` shows whole addresses; without it no line has one."""
    masked, full = run(mixed, "mails").output, run(mixed, "mails", "--full").output

    addresses = ("ada@example.com", "bob@example.com", "eve@example.net", EMAIL)
    assert [address in full for address in addresses] == [True] * 4
    assert [address in masked for address in addresses] == [False] * 4


def test_mails_as_json(mixed: Site) -> None:
    """``--json`` says the same for programs: times in UTC, null where there is nothing to say."""
    result = run(mixed, "mails", "--json", "--limit", "4")

    told = json.loads(result.output)
    assert told["counts"] == {"pending": 2, "sent": 1, "failed": 1, "dropped": 1}
    assert told["more"] == 1
    assert [mail["id"] for mail in told["mails"]] == [5, 4, 3, 2]
    assert told["mails"][2] == {
        "id": 3,
        "mail": "verify",
        "state": "pending",
        "queued_at": "2026-11-21T08:30:00Z",
        "expires_at": "2026-11-22T08:30:00Z",
        "sent_at": None,
        "next_try_at": "2026-11-21T08:30:05Z",
        "tries": 1,
        "recipient": "b•••@e•••.com",
        "reason": "421 Come back later",
    }
    assert (told["mails"][0]["recipient"], told["mails"][3]["next_try_at"]) == (None, None)
    assert (
        json.loads(run(mixed, "mails", "--json", "--full", "--sent").output)["mails"][0]["recipient"]
        == "ada@example.com"
    )
    assert json.loads(run(mixed, "mails", "--json", "--sent").output)["mails"][0]["sent_at"] == "2026-11-21T08:30:00Z"


def test_MAI_08_mails_shows_no_link(mixed: Site) -> None:
    """No listing holds a link or a part of its token, whole addresses or not."""
    deliver(mixed)
    shown = run(mixed, "mails", "--full").output + run(mixed, "mails", "--full", "--json").output

    parts = [part for letter in mixed.letters for part in str(letter.link).rpartition("/")[2].split(".")]
    assert len(parts) >= 6
    assert not [part for part in parts if part in shown]
    assert "http" not in shown


def test_mails_of_an_empty_outbox(waiting: Site) -> None:
    """Where there is no mail there are only the counts."""
    assert run(waiting, "mails").output == "pending 0, sent 0, failed 0, dropped 0\n"


@pytest.mark.parametrize(
    ("words", "listed", "more"), [([], 50, 4950), (["--limit", "2"], 2, 4998), (["--limit", "6000"], 5000, 0)]
)
def test_mails_of_a_large_outbox(waiting: Site, words: list[str], listed: int, more: int) -> None:
    """Of thousands of mails fifty are listed, or as many as are asked for, and how many more there are is said."""
    add(waiting, 5000)
    add(waiting, 10, state="sent")

    lines = run(waiting, "mails", "--failed", *words).output.splitlines()

    assert len([line for line in lines if "  failed  " in line]) == listed
    assert (f"… and {more} more; --limit shows them." in lines) is (more > 0)
    assert lines[-1] == "pending 0, sent 10, failed 5000, dropped 0"


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_mails_needs_a_limit_above_zero(waiting: Site, limit: str) -> None:
    """A limit that is none ends the command with 2 and the usage."""
    assert run(waiting, "mails", "--limit", limit).exit_code == 2


# Another try.


@pytest.fixture
def failed(waiting: Site) -> Site:
    """A site with the failed mail of a reset, which has the id 1."""
    waiting.member(EMAIL)
    waiting.program().request_reset(email=EMAIL)
    waiting.transport.fault = MailRejected("550 No")
    deliver(waiting)
    waiting.transport.fault = None
    return waiting


def test_F05_retry_sends_what_has_failed(failed: Site) -> None:
    """``retry`` has a failed mail sent after all, with a link that works."""
    result = run(failed, "retry", "1")
    deliver(failed)

    assert (result.exit_code, result.output) == (0, "Mail 1 is due now.\n")
    assert failed.program().reset(failed.last_link).status_code == 200
    assert failed.rows("mail")[0].state == "sent"


def test_retry_starts_delivery(make_site: MakeSite) -> None:
    """Where mails are delivered at once, so is one that is retried."""
    site = make_site()
    site.member(EMAIL)
    site.transport.fault = MailRejected("550 No")
    site.program().request_reset(email=EMAIL)
    site.transport.fault = None

    run(site, "retry", "1")

    assert [letter.template for letter in site.letters] == ["reset"]


def test_retry_is_told(failed: Site) -> None:
    """A mail that waits again is told like a new one, once it does; one that cannot be retried is not."""
    told: list[tuple[str, dict[str, Any]]] = []

    def note(sender: Any, **payload: Any) -> None:
        told.append((failed.rows("mail")[0].state, payload))

    with events.mail_queued.connected_to(note, sender=failed.app):
        run(failed, "retry", "1", "2")

    [(state, payload)] = told
    assert state == "pending"
    assert payload["user_id"] == str(failed.account(EMAIL).id)
    assert (payload["mail_id"], payload["template"]) == (1, "reset")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"state": "sent"}, "Mail 1 was sent already."),
        ({"state": "dropped"}, "Mail 1 was left out on purpose."),
        ({"state": "pending", "lease_until": START}, "Mail 1 is in the hands of a sender right now."),
        ({"to_addr": None}, "Mail 1 has no address any more: it was for somebody without an account"),
        ({"expires_at": START}, "Mail 1 is too old to be sent. Whoever waits for it asks for a new one on the site."),
        ({"token_id": uuid4()}, "Mail 1 carries a link that works no more: it was used, or the account has changed"),
    ],
)
def test_retry_says_why_not(failed: Site, values: dict[str, Any], sentence: str) -> None:
    """What cannot be retried is said in a sentence, with what to do; the command ends with 1 and changes nothing."""
    alter(failed, **values)
    before = failed.rows("mail")

    result = run(failed, "retry", "1")

    assert result.exit_code == 1
    assert result.output.startswith(sentence)
    assert failed.rows("mail") == before


def test_retry_of_what_is_not_there(failed: Site) -> None:
    """An id that no mail has is said, and ends the command with 1."""
    result = run(failed, "retry", "4711")

    assert (result.exit_code, result.output) == (
        1,
        "Mail 4711 is not in the outbox. 'flask accountflow mails' lists what is.\n",
    )


def test_retry_of_a_mail_to_nobody(waiting: Site) -> None:
    """A mail to somebody without an account has lost its address with its last try, and that is said."""
    add(waiting, 1, state="pending", template="test", expires_at=START.replace(year=2027))
    waiting.transport.fault = MailRejected("550 No")
    deliver(waiting)

    result = run(waiting, "retry", "--failed")

    assert result.exit_code == 1
    assert result.output.startswith("Mail 1 has no address any more: it was for somebody without an account")
    assert waiting.rows("mail")[0].state == "failed"


def test_retry_of_some_that_can(failed: Site) -> None:
    """When one of several can be retried the command ends with 0; each is judged, and none twice."""
    add(failed, 1, state="sent")

    result = run(failed, "retry", "2", "1", "2")

    assert (result.exit_code, result.output) == (0, "Mail 2 was sent already.\nMail 1 is due now.\n")


def test_retry_of_all_that_failed(failed: Site) -> None:
    """``retry --failed`` tries every failed mail again, however many, and leaves the others alone."""
    add(failed, 250, expires_at=START.replace(year=2027))
    add(failed, 1, state="sent", expires_at=START.replace(year=2027))

    result = run(failed, "retry", "--failed")

    assert result.exit_code == 0
    assert result.output.count("is due now.") == 251
    assert sorted({row.state for row in failed.rows("mail")}) == ["pending", "sent"]


def test_retry_when_nothing_has_failed(waiting: Site) -> None:
    """Where no mail has failed there is nothing to do, which is no error."""
    result = run(waiting, "retry", "--failed")

    assert (result.exit_code, result.output) == (0, "No mail has failed.\n")


@pytest.mark.parametrize("words", [[], ["1", "--failed"], ["0"], ["x"], ["9" * 30]])
def test_retry_needs_ids_or_all(waiting: Site, words: list[str]) -> None:
    """Without ids, with both, or with what is no id, the command ends with 2 and the usage."""
    assert run(waiting, "retry", *words).exit_code == 2


# Delivery.


def test_deliver_once_sends_what_waits(waiting: Site) -> None:
    """``deliver`` sends what is due, says how much, and ends."""
    for name in ("ada", "eve"):
        waiting.program().signup(f"{name}@example.com")
    before = len(waiting.letters)

    results = [run(waiting, "deliver"), run(waiting, "deliver", "--once")]

    assert [(result.exit_code, result.output) for result in results] == [
        (0, "2 mails handled.\n"),
        (0, "0 mails handled.\n"),
    ]
    assert (before, len(waiting.letters)) == (0, 2)


def test_deliver_counts_one_mail_as_one(waiting: Site) -> None:
    """A single mail is said in the singular."""
    waiting.program().signup(EMAIL)

    assert run(waiting, "deliver").output == "1 mail handled.\n"


def test_deliver_survives_a_server_that_is_away(waiting: Site) -> None:
    """Mail that cannot be handed over waits; the command ends as usual."""
    waiting.program().signup(EMAIL)
    waiting.transport.fault = Unreachable("nobody at home")

    result = run(waiting, "deliver")

    assert result.exit_code == 0
    assert [row.state for row in waiting.rows("mail")] == ["pending"]


HOST = """
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_accountflow import AccountFlow, UserMixin

app = Flask(__name__)
app.config.update(
    SECRET_KEY="0123456789abcdef0123456789abcdef",
    TESTING=True,
    SQLALCHEMY_DATABASE_URI="{uri}",
    MAIL_DEFAULT_SENDER="accounts@example.com",
    ACCOUNTFLOW_BASE_URL="https://www.example.com",
    ACCOUNTFLOW_BCRYPT_ROUNDS=4,
    ACCOUNTFLOW_MAIL_KICK="worker",
    ACCOUNTFLOW_MAIL_TRANSPORT="{transport}",
    ACCOUNTFLOW_MAIL_FILE="{folder}/mail.txt",
    MAIL_SERVER="127.0.0.1",
    MAIL_PORT={port},
    MAIL_SUPPRESS_SEND=False,
)
db = SQLAlchemy(app)

class User(UserMixin, db.Model):
    __tablename__ = "users"

accounts = AccountFlow(app, db, User)
with app.app_context():
    db.create_all()
    if db.session.execute(db.select(User)).first() is None:
        for number in range({mails}):
            accounts.create_user("vic%d@example.com" % number)
"""


class Worker:
    """A process that delivers for the app in ``host.py``."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        given = {
            "folder": folder,
            "uri": f"sqlite:///{folder}/host.db",
            "transport": "file",
            "port": 0,
            "mails": 1,
            **settings,
        }
        (folder / "host.py").write_text(HOST.format(**given))
        self._files = [folder / "worker.out", folder / "worker.err"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "flask", "--app", "host", "accountflow", "deliver", "--forever"]
        with self._files[0].open("wb") as out, self._files[1].open("wb") as err:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=err)

    @property
    def said(self) -> list[str]:
        """What it has printed, in lines."""
        return self._files[0].read_text().splitlines()

    @property
    def errors(self) -> str:
        """What it has logged."""
        return self._files[1].read_text()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(40)


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Return a function that starts a worker, which has ended after the test."""
    started: list[Worker] = []

    def start(**settings: Any) -> Worker:
        started.append(Worker(tmp_path, **settings))
        return started[-1]

    yield start
    for worker in started:
        worker.process.kill()
        worker.process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_deliver_forever_goes_on_until_it_is_told_to_end(
    start_worker: Callable[..., Worker], tmp_path: Path, number: signal.Signals
) -> None:
    """The worker says how it does, sends what was waiting, goes on, and ends by a signal in a moment, with 0."""
    worker = start_worker()
    wait_until(lambda: len(worker.said) == 2, "the mail is handled")

    began = time.monotonic()
    code = worker.end(number)

    assert re.fullmatch(
        r"Delivering with 2 senders by file\. pending 1, oldest \d+ s, failed 0, sent 0", worker.said[0]
    )
    assert worker.said[1:] == ["1 mail handled", "Ended. pending 0, failed 0, sent 1"]
    assert (code, worker.errors) == (0, "")
    assert time.monotonic() - began < 5
    assert "START EMAIL vic0@example.com" in (tmp_path / "mail.txt").read_text()


@pytest.mark.slow
def test_F12_deliver_forever_finishes_what_it_has_begun(
    start_worker: Callable[..., Worker], post_office: MailServer, tmp_path: Path
) -> None:
    """A worker that is told to end while the mail server is slow finishes the mails in hand and frees the others."""
    post_office.delay = 3
    worker = start_worker(transport="smtp", port=post_office.port, mails=6)
    wait_until(lambda: post_office.in_hand == 2, "two senders are at work")

    code = worker.end()

    engine = sa.create_engine(f"sqlite:///{tmp_path}/host.db")
    with engine.connect() as connection:
        text = (
            "SELECT state, attempts, lease_id, lease_until FROM accountflow_mail WHERE state <> 'dropped' ORDER BY id"
        )
        rows = [tuple(row) for row in connection.execute(sa.text(text))]
    engine.dispose()
    assert (code, worker.errors) == (0, "")
    assert worker.said[0].startswith(f"Delivering with 2 senders by smtp (127.0.0.1:{post_office.port}). pending 6, ")
    assert rows == [("sent", 1, None, None)] * 2 + [("pending", 0, None, None)] * 4
    assert re.fullmatch(r"Ended\. pending 4, oldest \d+ s, failed 0, sent 2", worker.said[-1])
    assert [len(post_office.mails(f"vic{number}@example.com")) for number in range(6)] == [1, 1, 0, 0, 0, 0]


@pytest.mark.slow
def test_F14_deliver_forever_waits_for_a_database_that_is_away(
    start_worker: Callable[..., Worker], tmp_path: Path
) -> None:
    """A worker whose database goes away keeps trying, delivers when it is back, and ends with 0 as ever."""
    with database("postgresql", tmp_path) as engine:
        worker = start_worker(uri=engine.url.render_as_string(hide_password=False))
        wait_until(lambda: len(worker.said) == 2, "the first mail is handled")
        with _taken_away(engine):
            wait_until(lambda: "Delivery was interrupted." in worker.errors, "the worker misses its database")
            is_running = worker.process.poll() is None
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE accountflow_mail SET state = 'pending' WHERE state = 'sent'"))
        wait_until(lambda: worker.said[2:] == ["1 mail handled"], "the worker delivers again")
        code = worker.end()

    assert is_running
    assert (code, worker.said[-1]) == (0, "Ended. pending 0, failed 0, sent 2")


@contextmanager
def _taken_away(engine: sa.Engine) -> Iterator[None]:
    """Rename a database, so that nobody finds it, and end all connections to it."""
    name = engine.url.database
    engine.dispose()
    server = sa.create_engine(engine.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(sa.text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        connection.execute(sa.text(end), {"name": name})
        yield
        connection.execute(sa.text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    server.dispose()


@pytest.mark.slow
def test_deliver_forever_that_cannot_begin(start_worker: Callable[..., Worker]) -> None:
    """A worker whose database does not answer at its start ends with 1 and a sentence, for its supervisor to see."""
    worker = start_worker(uri="sqlite:////no/such/folder/host.db")

    assert worker.process.wait(30) == 1
    assert "unable to open database file" in worker.errors


def test_deliver_forever_tells_each_minute(make_site: MakeSite) -> None:
    """The worker goes on saying how it does, also while the database does not answer, until it is stopped."""
    site = make_site()
    health, stop, said = _Health(site.app), threading.Event(), []

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 1:
            site.program().signup(EMAIL)
        elif len(said) == 2:
            with site.app.app_context():
                site.tables.mail.drop(site.db.engine)
        else:
            stop.set()

    health.tell(stop, say, every=0.01)

    assert said == [
        "Delivering. pending 0, failed 0, sent 0",
        "Delivering. pending 0, failed 0, sent 1",
        "Delivering. The database does not answer (OperationalError), sent 1",
    ]


# A test mail.


@pytest.fixture
def post_office() -> Iterator[MailServer]:
    """A mail server of the test's own."""
    with MailServer() as server:
        yield server


def smtp(server: MailServer | Script, **config: Any) -> dict[str, Any]:
    """Return the configuration that sends by a mail server, also under testing."""
    given = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": server.port, "MAIL_SUPPRESS_SEND": False}
    return {**given, "ACCOUNTFLOW_MAIL_TRANSPORT": "smtp", **config}


def test_send_test_mail_by_smtp(make_site: MakeSite, post_office: MailServer) -> None:
    """``send-test-mail`` hands one mail over at once, as the site's own would be, and leaves nothing in the outbox."""
    site = make_site(smtp(post_office, ACCOUNTFLOW_MAIL_KICK="worker"), transport=None)

    result = run(site, "send-test-mail", "Una@EXAMPLE.com")

    [mail] = post_office.mails("Una@example.com")
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "Handed over by smtp.")
    assert mail.recipients == ("Una@example.com",)
    assert mail.message["From"] == "Shop <accounts@example.com>"
    assert mail.message_id.endswith("@example.com>")
    assert mail.links == []
    assert site.rows("mail") == []


def test_send_test_mail_tells_the_dialogue(make_site: MakeSite, post_office: MailServer) -> None:
    """Each step of the dialogue with the mail server is a line, in its order and without an address."""
    site = make_site(smtp(post_office), transport=None)

    lines = run(site, "send-test-mail", EMAIL).output.splitlines()

    told = [line.partition(":")[0].split()[0] for line in lines]
    assert told == ["connect", "greeting", "EHLO", "TLS", "AUTH", "MAIL", "RCPT", "DATA", "end", "Handed"]
    assert lines[0].startswith(f"connect 127.0.0.1:{post_office.port}")
    assert lines[8].startswith("end of DATA: 250 ")
    assert "@" not in "".join(lines)


def test_send_test_mail_is_a_new_mail_each_time(make_site: MakeSite, post_office: MailServer) -> None:
    """Two test mails are two mails to a mail program, from the domain of the sender and not of the recipient."""
    site = make_site(smtp(post_office), transport=None)

    for _ in range(2):
        run(site, "send-test-mail", "una@mail.example.net")

    ids = {mail.message_id for mail in post_office.mails("una@mail.example.net")}
    assert len(ids) == 2
    assert {found.partition("@")[2] for found in ids} == {"example.com>"}


def test_send_test_mail_to_the_console(make_site: MakeSite) -> None:
    """Without a mail server the mail itself is printed."""
    site = make_site({"ACCOUNTFLOW_MAIL_TRANSPORT": "console"}, transport=None)

    result = run(site, "send-test-mail", EMAIL)

    assert result.exit_code == 0
    assert f"--- START EMAIL {EMAIL} ---" in result.output
    assert result.output.splitlines()[-1] == "Handed over by console."


def test_send_test_mail_to_a_file(make_site: MakeSite, tmp_path: Path) -> None:
    """With the file transport the mail is in the file, which is named."""
    file = tmp_path / "mail.log"
    site = make_site({"ACCOUNTFLOW_MAIL_TRANSPORT": "file", "ACCOUNTFLOW_MAIL_FILE": str(file)}, transport=None)

    result = run(site, "send-test-mail", EMAIL)

    assert (result.exit_code, result.output) == (0, f"append to {file}: done\nHanded over by file.\n")
    assert f"--- START EMAIL {EMAIL} ---" in file.read_text()


LOGIN = {"MAIL_USERNAME": "shop", "MAIL_PASSWORD": "hunter2"}

#: What goes wrong: what the server answers, what the site has set, and what the command says about it.
FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "no name": ({}, {"MAIL_SERVER": "mail.invalid"}, "connect mail.invalid", "no computer of that name"),
    "no encryption": ({}, {"MAIL_USE_TLS": True}, "STARTTLS: SMTPNotSupported", "587 goes with MAIL_USE_TLS"),
    "no TLS": ({}, {"MAIL_USE_SSL": True}, "TLS: SSLError", "465 with MAIL_USE_SSL"),
    "hangs up": ({"banner": cut}, {}, "greeting: SMTPServerDisconnected", "465 with MAIL_USE_SSL"),
    "silent": ({"banner": silent}, {"ACCOUNTFLOW_MAIL_TIMEOUT": 1}, "greeting: TimeoutError", "that no firewall is"),
    "no AUTH": ({}, LOGIN, "AUTH: SMTPNotSupported", "587 goes with MAIL_USE_TLS"),
    "password": ({"offers": ["AUTH PLAIN"], "AUTH": "535 5.7.8 No"}, LOGIN, "AUTH PLAIN: 535", "Check MAIL_USERNAME"),
    "stranger": ({"MAIL": "530 5.7.0 Log in"}, {}, "MAIL FROM: 530", "Check MAIL_USERNAME"),
    "log in first": ({"MAIL": "503 AUTH first"}, {}, "MAIL FROM: 503", "Check MAIL_USERNAME"),
    "sender": ({"MAIL": "553 5.7.1 Not yours"}, {}, "MAIL FROM: 553", "does not let you send as MAIL_DEFAULT_SENDER"),
    "relay": ({"RCPT": "554 5.7.1 Relay denied"}, {}, "RCPT TO: 554", "Where it says 'relay', log in"),
    "content": ({"dot": "554 5.7.1 Spam"}, {}, "end of DATA: 554", ""),
}


@pytest.mark.parametrize("name", FAULTS)
def test_send_test_mail_says_what_to_do(make_site: MakeSite, name: str) -> None:
    """What keeps the mail from being handed over ends with 1, the step at which it was, and what to do about it."""
    answers, config, step, advice = FAULTS[name]
    with Script(**answers) as server:
        site = make_site(smtp(server, **config), transport=None)
        result = run(site, "send-test-mail", EMAIL)

    steps, _, error = result.output.partition("\nError: ")
    assert result.exit_code == 1
    assert steps.splitlines()[-1].startswith(step)
    assert error.startswith("Not sent by smtp: ")
    assert advice in error
    assert len(error.splitlines()) == (2 if advice else 1)
    assert "hunter2" not in result.output


def test_MAI_02_send_test_mail_says_what_is_wrong_with_a_certificate(make_site: MakeSite, tmp_path: Path) -> None:
    """A certificate that nobody vouches for ends with 1 and what to set; with that set the mail is handed over."""
    authority = Authority(tmp_path)
    with Script(tls=authority.context()) as server:
        config = smtp(server, MAIL_USE_TLS=True)
        refused = run(make_site(config, transport=None), "send-test-mail", EMAIL)
        trusting = {**config, "ACCOUNTFLOW_MAIL_CA_FILE": str(authority.file)}
        taken = run(make_site(trusting, transport=None), "send-test-mail", EMAIL)

    assert refused.exit_code == 1
    assert "CERTIFICATE_VERIFY_FAILED" in refused.output
    assert "ACCOUNTFLOW_MAIL_CA_FILE to the certificates that it is to be checked against" in refused.output
    assert (taken.exit_code, taken.output.splitlines()[-1]) == (0, "Handed over by smtp.")
    assert len(server.mails) == 1


@pytest.mark.parametrize("answer", ["550 5.1.1 <vic@example.com>: no such mailbox", "451 4.7.1 Greylisted"])
def test_send_test_mail_says_what_the_server_answers(make_site: MakeSite, post_office: MailServer, answer: str) -> None:
    """What the mail server refuses ends with 1 and its answer, without an address."""
    site = make_site(smtp(post_office), transport=None)
    post_office.refusal = answer

    result = run(site, "send-test-mail", EMAIL)

    said = answer.replace(f"<{EMAIL}>", "<address>")
    assert result.exit_code == 1
    assert f"RCPT TO: {said}\nError: Not sent by smtp: {said}\n" in result.output


def test_send_test_mail_says_that_the_server_is_away(make_site: MakeSite, post_office: MailServer) -> None:
    """Where no mail server answers, the command ends with 1, why, and what to do."""
    site = make_site(smtp(post_office), transport=None)
    post_office.down()

    result = run(site, "send-test-mail", EMAIL)

    assert result.exit_code == 1
    assert "Error: Not sent by smtp: ConnectionRefusedError: " in result.output
    assert result.output.endswith(
        "Nobody listens there. Check MAIL_SERVER, MAIL_PORT, and that the mail server runs.\n"
    )


def test_send_test_mail_says_that_there_is_no_server(make_site: MakeSite, post_office: MailServer) -> None:
    """Without MAIL_SERVER the command says that it is missing, and what is tried instead."""
    site = make_site(smtp(post_office, MAIL_SERVER=ABSENT), transport=None)
    post_office.down()

    result = run(site, "send-test-mail", EMAIL)

    assert result.exit_code == 1
    assert result.output.startswith("hint: MAIL_SERVER is missing, so the mail server of this computer is tried.")


def test_send_test_mail_to_a_file_that_cannot_be_written(make_site: MakeSite, tmp_path: Path) -> None:
    """Where the file cannot be written, the command ends with 1 and why."""
    file = tmp_path / "no" / "such" / "folder"
    site = make_site({"ACCOUNTFLOW_MAIL_TRANSPORT": "file", "ACCOUNTFLOW_MAIL_FILE": str(file)}, transport=None)

    result = run(site, "send-test-mail", EMAIL)

    assert result.exit_code == 1
    assert "Error: Not sent by file: FileNotFoundError: " in result.output


def test_send_test_mail_shows_a_broken_template(site: Site) -> None:
    """A fault in the app's own template of the mail is said like one of the mail server's."""
    site.app.jinja_loader = DictLoader({"accountflow/mail/test.txt": "{{ 1 / 0 }}"})

    result = run(site, "send-test-mail", EMAIL)

    assert result.exit_code == 1
    assert result.output.startswith("Error: Not sent by smtp: ZeroDivisionError: ")
    assert site.letters == []


def test_send_test_mail_hints_at_a_missing_sender(make_site: MakeSite) -> None:
    """Without MAIL_DEFAULT_SENDER the command says what production will miss."""
    site = make_site({"MAIL_DEFAULT_SENDER": ABSENT})

    result = run(site, "send-test-mail", EMAIL)

    assert result.exit_code == 0
    assert "hint: MAIL_DEFAULT_SENDER is missing. " in result.output
    assert result.output.count("hint:") == 1


def test_send_test_mail_says_that_mails_are_held_back(make_site: MakeSite, post_office: MailServer) -> None:
    """Where Flask-Mail holds mails back, as it does under testing, the command ends with 1 and says so."""
    site = make_site(smtp(post_office, MAIL_SUPPRESS_SEND=ABSENT), transport=None)

    result = run(site, "send-test-mail", EMAIL)

    assert result.exit_code == 1
    assert "Error: Not sent by smtp: nothing is sent: MAIL_SUPPRESS_SEND is on\nIt is on by itself" in result.output
    assert post_office.mails(EMAIL) == []


@pytest.mark.parametrize(("address", "said"), [("una", "to: Enter an email like"), ("", "to: Enter your email.")])
def test_send_test_mail_needs_an_address(site: Site, address: str, said: str) -> None:
    """What is no address ends with 1 and a sentence; nothing is sent."""
    result = run(site, "send-test-mail", address)

    assert result.exit_code == 1
    assert said in result.output
    assert site.letters == []


def test_send_test_mail_needs_no_database(site: Site) -> None:
    """A mail server can be tried before there are tables."""
    with site.app.app_context():
        site.db.drop_all()

    result = run(site, "send-test-mail", EMAIL)

    assert result.exit_code == 0
    assert [letter.to for letter in site.letters] == [EMAIL]
