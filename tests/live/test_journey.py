"""The whole way of an account over real HTTP and with real mails, and what a mail server can do to it."""

from __future__ import annotations

import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from http.client import HTTPConnection
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from databases import database
from live_server import AppServer, Mail, MailServer, serving, wait_until
from live_visitors import Answer, LivePerson, LiveProgram, ask_for_reset, join, posting, sign_up, volley
from support import OTHER_PASSWORD, PASSWORD

from example_app.models import accounts
from flask_accountflow.store.queue import LEASE

pytestmark = pytest.mark.slow

on_sqlite = pytest.mark.parametrize("live_engine", ["sqlite"], indirect=True)


@pytest.fixture
def email() -> str:
    """An address that nobody has."""
    return f"{uuid.uuid4().hex}@example.com"


def _link(mail: Mail, kind: str) -> str:
    """Return the path of the link in a mail, whose two parts must agree about it."""
    [link] = [link for link in mail.links if f"/auth/{kind}/" in link]
    assert mail.html_links.count(link) >= 1
    assert {address for address in mail.html_links if f"/auth/{kind}/" in address} == {link}
    return urlsplit(link).path


def test_a_program_goes_the_whole_way(live: AppServer, email: str) -> None:
    """A program signs up, confirms, logs in, refreshes, logs out, resets its password and logs in with the new one."""
    program = LiveProgram(live)

    assert program.signup(email).status_code == 202
    assert program.code(program.login(email)) == "email_unverified"
    verify = _link(live.mail.wait_for(email, "/verify/"), "verify")
    assert program.code(program.open(verify)) == "pending"
    assert program.code(program.verify(verify)) == "verified"
    pair = program.login(email)
    assert program.me(pair).json["email"] == email
    refreshed = program.post("/auth/refresh", {"refresh_token": pair.json["refresh_token"]})
    assert program.me(refreshed).json["email"] == email
    assert program.logout(refreshed).status_code == 204
    assert program.me(refreshed).status_code == 401
    assert program.request_reset(email=email).status_code == 202
    reset = _link(live.mail.wait_for(email, "/password-reset/"), "password-reset")
    assert program.code(program.open(reset)) == "valid"
    assert program.me(program.reset(reset)).status_code == 200
    assert program.login(email, PASSWORD).status_code == 401
    assert program.me(program.login(email, OTHER_PASSWORD)).json["email"] == email


def test_a_person_goes_the_whole_way(live: AppServer, email: str) -> None:
    """A person does the same with forms and a cookie."""
    person = LivePerson(live)

    assert email in person.follow(person.signup(email, name="Ada")).text
    verify = _link(live.mail.wait_for(email, "/verify/"), "verify")
    assert person.open(verify).status_code == 200
    assert "Hello Ada" in person.follow(person.verify(verify)).text
    assert email in person.me().text
    assert person.follow(person.logout()).status_code == 200
    assert person.get("/secret").status_code == 303
    assert person.follow(person.login(email)).status_code == 200
    assert "Hello Ada" in person.get("/secret").text
    person.logout()
    assert email in person.follow(person.request_reset(email=email)).text
    reset = _link(live.mail.wait_for(email, "/password-reset/"), "password-reset")
    assert email in person.follow(person.reset(reset)).text
    assert person.get("/secret").status_code == 303
    assert person.login(email, PASSWORD).status_code == 422
    person.follow(person.login(email, OTHER_PASSWORD))
    assert "Hello Ada" in person.get("/secret").text


def test_MAI_04_MAI_05_a_mail_is_two_readable_parts(live: AppServer, email: str) -> None:
    """A mail has a text and an HTML part, says what it is, and no line of it is longer than mail may have."""
    sign_up(live, email)

    mail = live.mail.wait_for(email, "/verify/")

    message = mail.message
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert mail.recipients == (email,)
    assert message["To"] == email
    assert message["From"].addresses[0].addr_spec == "accounts@example.com"
    assert message["Subject"] == "Confirm your email for Example"
    assert message["Auto-Submitted"] == "auto-generated"
    assert mail.message_id.endswith("@example.com>")
    # RFC 5322 section 2.1.1.
    assert max(map(len, message.as_bytes().splitlines())) <= 998


HEADERS: dict[str, list[tuple[str, str]]] = {
    "host": [("Host", "evil.example")],
    "forwarded-host": [("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Server", "evil.example")],
    "forwarded-rest": [("X-Forwarded-Proto", "https"), ("X-Forwarded-Port", "1"), ("X-Forwarded-Prefix", "/evil")],
    "forwarded": [("Forwarded", "for=1.2.3.4;host=evil.example;proto=https"), ("X-Host", "evil.example")],
    "original-url": [("X-Original-URL", "//evil.example/"), ("X-Rewrite-URL", "//evil.example/")],
    "markup": [("Host", "127.0.0.1:'<a href=//evil.example/?")],
    "user": [("Host", "127.0.0.1@evil.example")],
    "two": [("Host", "127.0.0.1"), ("Host", "evil.example")],
    "target": [],
}


@on_sqlite
@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
def test_RST_04_the_host_of_a_link_is_configured(
    live: AppServer, email: str, headers: list[tuple[str, str]], request: pytest.FixtureRequest
) -> None:
    """The links of a mail begin with the configured address, whatever the request says about its host."""
    join(live, email)
    origin = "http://evil.example" if not headers else ""

    status = _ask_raw(live, f"{origin}/auth/password-reset/request", email, headers)

    if status == 202:
        mail = live.mail.wait_for(email, "/password-reset/")
        assert all(link.startswith(f"{live.base_url}/") for link in [*mail.links, *mail.html_links])
        assert b"evil" not in mail.message.as_bytes()
    else:
        # A host that no server could have is refused by one before us.
        assert status == 400
        assert headers in [HEADERS[name] for name in ("markup", "user", "two")]


def _ask_raw(server: AppServer, target: str, email: str, headers: list[tuple[str, str]]) -> int:
    body = f'{{"email": "{email}"}}'.encode()
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        names_host = any(name == "Host" for name, _ in headers)
        connection.putrequest("POST", target, skip_host=names_host)
        usual = [("Content-Type", "application/json"), ("Accept", "application/json"), ("Connection", "close")]
        for name, value in [*headers, *usual, ("Content-Length", str(len(body)))]:
            connection.putheader(name, value)
        connection.endheaders(body)
        return connection.getresponse().status
    finally:
        connection.close()


class Timed(NamedTuple):
    """An answer to a sign-up or a reset request, and how long it took in seconds."""

    answer: Answer
    seconds: float


class Sample(NamedTuple):
    """What was asked for addresses with an account and for addresses without."""

    known: list[Timed]
    unknown: list[Timed]
    #: How many mails each address must get.
    mails: dict[str, int]


def _timed(call: Callable[[], Any]) -> Timed:
    started = time.monotonic()
    answer = call()
    return Timed(answer, time.monotonic() - started)


def _members(server: AppServer, number: int) -> list[str]:
    emails = [f"{uuid.uuid4().hex}@example.com" for _ in range(number)]
    for email in emails:
        join(server, email)
    return emails


def _sample(server: AppServer, known: list[str]) -> Sample:
    """Sign up and ask for a reset: for each known address, and for as many of the same length that are not."""
    program, sample = LiveProgram(server), Sample([], [], {})
    for email in known:
        stranger, nobody = (f"{uuid.uuid4().hex}@example.com" for _ in range(2))
        for group, to_sign_up, to_reset in ((sample.known, email, email), (sample.unknown, stranger, nobody)):
            group.append(_timed(partial(program.signup, to_sign_up)))
            group.append(_timed(partial(program.request_reset, email=to_reset)))
        sample.mails[email] = 2
        sample.mails[stranger] = 1
    return sample


def _median(times: list[Timed]) -> float:
    return statistics.median(one.seconds for one in times)


def _shapes(times: list[Timed]) -> list[tuple[Any, ...]]:
    """Return the answers without what each address alone can know: when, and what it is."""
    shapes = []
    for answer, _ in times:
        headers = sorted((name, value) for name, value in answer.headers.items() if name != "Date")
        body = {name: value for name, value in answer.json.items() if name != "email"}
        shapes.append((answer.status_code, headers, body))
    return shapes


def _calm(server: AppServer, known: list[str]) -> Sample:
    """Take a sample while the mail server is well, and let its mails arrive."""
    sample = _sample(server, known)
    # The members have had one mail before: the link that made them members.
    wanted = {email: number + (email in known) for email, number in sample.mails.items()}
    wait_until(lambda: all(len(server.mail.mails(email)) >= wanted[email] for email in wanted), "all is quiet")
    return sample


TROUBLES: dict[str, Callable[[MailServer], None]] = {
    "slow": lambda mail: setattr(mail, "delay", 3.0),
    "refuses-for-now": lambda mail: setattr(mail, "refusal", "451 4.3.0 Try again later"),
    "down": lambda mail: mail.down(),
}


@on_sqlite
@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_RST_02_MAI_03_a_mail_server_in_trouble_changes_no_answer(
    live: AppServer, trouble: Callable[[MailServer], None]
) -> None:
    """Answers are the same and as fast while the mail server is in trouble, and what they promised arrives once."""
    members = _members(live, 6)
    calm = _calm(live, members[:3])

    trouble(live.mail)
    try:
        troubled = _sample(live, members[3:])
    finally:
        live.mail.be_well()

    assert _shapes(troubled.known) == _shapes(troubled.unknown) == _shapes(calm.known) == _shapes(calm.unknown)
    for group, usual in ((troubled.known, calm.known), (troubled.unknown, calm.unknown)):
        assert _median(group) < 1
        assert _median(group) < _median(usual) + 0.5
    assert abs(_median(troubled.known) - _median(troubled.unknown)) < 0.5
    wanted = {email: number + (email in members) for email, number in troubled.mails.items()}
    wait_until(lambda: all(len(live.mail.mails(email)) >= wanted[email] for email in wanted), "every mail has arrived")
    assert {email: len(live.mail.mails(email)) for email in wanted} == wanted


@on_sqlite
def test_RST_02_a_mail_server_that_refuses_for_good_changes_no_answer(live: AppServer, live_engine: sa.Engine) -> None:
    """Answers are the same and as fast while the mail server refuses for good; its refusal is noted, once."""
    members = _members(live, 6)
    calm = _calm(live, members[:3])
    refused = live.mail.refused

    live.mail.refusal = "550 5.1.1 No such user"
    try:
        troubled = _sample(live, members[3:])
        states = wait_until(lambda: _settled_states(live_engine, troubled.mails), "no mail is pending")
    finally:
        live.mail.be_well()

    assert _shapes(troubled.known) == _shapes(troubled.unknown) == _shapes(calm.known) == _shapes(calm.unknown)
    for group, usual in ((troubled.known, calm.known), (troubled.unknown, calm.unknown)):
        assert _median(group) < 1
        assert _median(group) < _median(usual) + 0.5
    expected = sum(troubled.mails.values())
    assert states.count("failed") == expected == live.mail.refused - refused


def _settled_states(engine: sa.Engine, emails: dict[str, int]) -> list[str] | None:
    """Return the states of the mails to these addresses; None while some are pending."""
    mail = accounts.tables.mail
    with engine.connect() as connection:
        states = connection.execute(sa.select(mail.c.state).where(mail.c.to_addr.in_(emails))).scalars().all()
    return None if "pending" in states else list(states)


@pytest.fixture(scope="module")
def mortal_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.Engine]:
    """An engine on the database of the mortal server."""
    with database("sqlite", tmp_path_factory.mktemp("sqlite")) as engine:
        yield engine


@pytest.fixture(scope="module")
def mortal_server(mortal_engine: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """A server that tests may end."""
    uri = mortal_engine.url.render_as_string(hide_password=False)
    with serving(uri, tmp_path_factory.mktemp("mortal")) as server:
        yield server


@pytest.fixture
def mortal(mortal_server: AppServer) -> AppServer:
    """A server that tests may end. It runs, and its mail server is well."""
    mortal_server.mail.be_well()
    if not mortal_server.runs:
        mortal_server.start()
    return mortal_server


def _let_leases_end(engine: sa.Engine) -> None:
    """Move leases into the past, as if the time of one had gone by since the server was killed."""
    mail = accounts.tables.mail
    with engine.begin() as connection:
        held = connection.execute(sa.select(mail.c.id, mail.c.lease_until).where(mail.c.lease_id.is_not(None))).all()
        for row in held:
            earlier = row.lease_until - LEASE - timedelta(seconds=1)
            connection.execute(sa.update(mail).where(mail.c.id == row.id).values(lease_until=earlier))


def _signup(server: AppServer, email: str) -> Callable[[Callable[[], Any]], Answer]:
    return posting(server, "/auth/signup", {"email": email, "password": PASSWORD})


def test_F09_mails_survive_a_kill(mortal: AppServer, mortal_engine: sa.Engine) -> None:
    """What was answered with 202 is mailed after all processes were killed at once, and only ever the same mail."""
    emails = [f"{uuid.uuid4().hex}@example.com" for _ in range(12)]

    answers = volley([_signup(mortal, email) for email in emails])
    mortal.kill()
    _let_leases_end(mortal_engine)
    mortal.start()

    assert {answer.status_code for answer in answers} == {202}
    wait_until(lambda: all(mortal.mail.mails(email) for email in emails), "every mail has arrived")
    assert all(len({mail.message_id for mail in mortal.mail.mails(email)}) == 1 for email in emails)
    assert LiveProgram(mortal).verify(urlsplit(mortal.mail.link(emails[0], "verify")).path).status_code == 200


def test_F09_a_mail_in_hand_survives_a_kill(mortal: AppServer, mortal_engine: sa.Engine, email: str) -> None:
    """A mail whose sender was killed before the mail server had taken it is sent by another process, once."""
    mortal.mail.delay = 60

    LiveProgram(mortal).signup(email)
    wait_until(lambda: mortal.mail.in_hand, "the mail is being sent")
    mortal.kill()
    wait_until(lambda: not mortal.mail.in_hand, "the mail server has noticed")
    mortal.mail.be_well()
    _let_leases_end(mortal_engine)
    mortal.start()

    mortal.mail.wait_for(email, "/verify/")
    assert len(mortal.mail.mails(email)) == 1


def test_F12_nothing_is_lost_by_a_termination_under_load(mortal: AppServer) -> None:
    """SIGTERM under load ends the server soon, and each sign-up that was answered is mailed once."""
    accepted: list[str] = []
    others: list[int] = []
    numbers = count()
    over = threading.Event()

    def visit() -> None:
        while not over.is_set():
            email = f"{uuid.uuid4().hex}-{next(numbers)}@example.com"
            try:
                status = LiveProgram(mortal).signup(email).status_code
            except OSError:  # the server is gone
                return
            accepted.append(email) if status == 202 else others.append(status)

    threads = [threading.Thread(target=visit) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(accepted) >= 40, "the server is busy")
        seconds = mortal.stop()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    mortal.start()

    assert seconds < 10
    assert others == []
    wait_until(lambda: all(mortal.mail.mails(email) for email in accepted), "every mail has arrived")
    assert {len(mortal.mail.mails(email)) for email in accepted} == {1}


def test_F30_an_app_that_was_made_before_the_fork(mortal: AppServer) -> None:
    """Processes that were forked from a ready app serve, deliver and agree about tokens."""
    emails = [f"{uuid.uuid4().hex}@example.com" for _ in range(12)]
    mortal.stop()

    mortal.start("--preload")
    answers = volley([_signup(mortal, email) for email in emails])

    assert {answer.status_code for answer in answers} == {202}
    links = [urlsplit(mortal.mail.link(email, "verify")).path for email in emails]
    confirmed = volley([posting(mortal, link, {}) for link in links])
    assert {answer.json["status"] for answer in confirmed} == {"verified"}
    assert {len(mortal.mail.mails(email)) for email in emails} == {1}
    reset = ask_for_reset(mortal, emails[0])
    assert LiveProgram(mortal).reset(reset).status_code == 200
