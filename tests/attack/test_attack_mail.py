"""Attacks by mails, on mails, and on what logs tell of them."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import pytest
from attack.attacker import (
    OTHER_PASSWORD,
    PASSWORD,
    Browser,
    Program,
    Site,
    ask_reset,
    join,
    mails_to,
    settle,
    shape,
    sign_up,
    some_email,
    timed,
    token_of,
)

pytestmark = pytest.mark.slow

INJECTIONS = {
    "crlf": "Ada\r\nBcc: evil@example.net\r\nSubject: evil",
    "lf": "Ada\nBcc: evil@example.net",
    "cr": "Ada\rBcc: evil@example.net",
    "folded": "Ada\r\n Bcc: evil@example.net",
    "nel": "Ada\x85Bcc: evil@example.net",
    "separator": "Ada\u2028Bcc: evil@example.net",
    "end": "Ada\r\n\r\n.\r\nMAIL FROM:<evil@example.net>",
    "address": "Click http://evil.example/prize now",
    "markup": '<a href="//evil.example">prize</a>',
    "encoded": "=?utf-8?q?=0d=0aBcc:_evil@example.net?=",
}


@pytest.mark.parametrize("kind", INJECTIONS)
def test_MAI_01_SUP_16_no_text_of_a_visitor_steers_a_mail(site: Site, kind: str) -> None:
    """Whatever a visitor types, the mail goes to one address, under our subject, with our links and no text of his."""
    email, text = some_email(), INJECTIONS[kind]
    body = {"email": email, "password": PASSWORD, "name": text, "next": text}

    Program(site).post("/auth/signup", body, user_agent=re.sub(r"[^\x20-\x7e]", " ", text), accept_language="x")
    Program(site).ask_reset(f"{email}{text}")
    Program(site).ask_reset(f"{text}{email}")

    for mail in mails_to(site, email):
        message = mail.message
        assert mail.recipients == (email,)
        assert message.get_all("To") == [email]
        assert (message["Cc"], message["Bcc"]) == (None, None)
        assert message["Subject"] == "Confirm your email for Example"
        assert all(link.startswith(site.base_url) for link in [*mail.links, *mail.html_links])
        assert b"evil" not in message.as_bytes()
    assert mails_to(site, "evil@example.net") == []


def test_MAI_06_a_mail_goes_to_the_stored_address(site: Site) -> None:
    """Whoever asks in another spelling has the mail sent to the address as its owner once wrote it."""
    email = join(site, some_email().replace("@", "Ab@"))

    assert Program(site).ask_reset(email.upper()).status == 202
    assert mails_to(site, email.upper(), email.lower()) == []

    found = [mail for mail in mails_to(site, email) if any("/password-reset/" in link for link in mail.links)]
    assert [mail.recipients for mail in found] == [(email,)]
    assert found[0].message["To"] == email


def test_MAI_08_the_outbox_holds_no_link(site: Site) -> None:
    """Neither before a mail has left nor after it do its link or its token stand in the database."""
    email = join(site)
    site.mail.delay = 1.0
    try:
        Program(site).ask_reset(email)
        waiting = site.dump()
    finally:
        site.mail.be_well()
    token = token_of(site.mail.link(email, "password-reset"))
    settle(site)

    for values in (waiting, site.dump()):
        text = "\n".join(values)
        assert "/password-reset/" not in text
        assert token not in text
        assert token.partition(".")[0] not in text


@pytest.fixture
def sickly(site: Site) -> Iterator[Site]:
    """The site, whose mail server a test may trouble."""
    yield site
    site.mail.be_well()
    settle(site)


TROUBLES: dict[str, Callable[[Any], None]] = {
    "down": lambda mail: mail.down(),
    "silent": lambda mail: mail.fall_silent(),
    "slow": lambda mail: setattr(mail, "delay", 3.0),
    "refuses-for-now": lambda mail: setattr(mail, "refusal", "451 4.3.0 Later"),
    "refuses": lambda mail: setattr(mail, "refusal", "550 5.1.1 No such user"),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_RST_02_MAI_03_a_sick_mail_server_tells_nobody_who_has_an_account(
    sickly: Site, trouble: Callable[[Any], None]
) -> None:
    """While the mail server is in trouble, known and unknown addresses are answered alike and at once."""
    known, unknown = [join(sickly) for _ in range(5)], [some_email() for _ in range(5)]
    trouble(sickly.mail)
    shapes, seconds = [], {True: [], False: []}  # type: ignore[var-annotated]

    for pair in zip(known, unknown, strict=True):
        for email in pair:
            answers = []
            seconds[email in known].append(
                timed(lambda email=email, answers=answers: answers.append(Program(sickly).ask_reset(email)))
            )
            shapes.append(shape(answers[0], email))

    assert shapes.count(shapes[0]) == len(shapes)
    assert max(median(seconds[True]), median(seconds[False])) < 1
    assert abs(median(seconds[True]) - median(seconds[False])) < 0.25


def test_F04_a_mail_that_was_refused_for_now_arrives(sickly: Site) -> None:
    """What was promised while the mail server refused, or was away, arrives when it is well again, once."""
    email = join(sickly)
    sickly.mail.refusal = "451 4.3.0 Later"
    refused = sickly.mail.refused
    assert Program(sickly).ask_reset(email).status == 202
    end = time.monotonic() + 20
    while sickly.mail.refused == refused and time.monotonic() < end:
        time.sleep(0.05)

    sickly.mail.be_well()

    link = sickly.mail.link(email, "password-reset")
    assert sum(link in mail.links for mail in mails_to(sickly, email)) == 1
    assert Program(sickly).reset(link.removeprefix(sickly.base_url)).status == 200


def test_F02_a_mail_server_that_hangs_is_given_up(make_attacked: Callable[..., Site]) -> None:
    """A mail server that never says a word is given up after the time that is set, and the mail is tried again."""
    site = make_attacked(ACCOUNTFLOW_MAIL_TIMEOUT=1)
    email = some_email()
    site.mail.down()
    with socket.create_server(("127.0.0.1", site.mail.port)) as silent:
        silent.settimeout(20)
        Program(site).signup(email)
        held, _ = silent.accept()

    with held:
        site.mail.up()

        # One second until it is given up, five until it is tried again.
        assert site.mail.wait_for(email, "/verify/", patience=20)


def test_MAI_02_a_mail_is_told_to_no_stranger(make_attacked: Callable[..., Site]) -> None:
    """Where TLS is asked for, a mail server that does not speak it is told no link."""
    site = make_attacked(MAIL_USE_TLS=True)
    email = some_email()

    assert Program(site).signup(email).status == 202

    end = time.monotonic() + 20
    while "tls" not in site.log().lower() and "retry" not in site.log().lower() and time.monotonic() < end:
        time.sleep(0.1)
    assert site.mail.mails(email) == []
    assert Program(site).get("/healthz").json["mail"]["pending"] == 1


def test_PWD_12_AUD_03_no_log_and_no_mail_holds_a_secret(sickly: Site) -> None:
    """After an account's whole life, faults included, no password, token or cookie stands in log, mails or database."""
    email, canary, next_canary = some_email(), "the canary sings one", "the canary sings two"
    browser = Browser(sickly)
    verify = sign_up(sickly, email, canary, browser)
    browser.verify(verify)
    browser.get("/secret")
    pair = Program(sickly).login(email, canary).json
    for answer in (Program(sickly).login(email, canary + "x"), Program(sickly).refresh(pair["refresh_token"] + "x")):
        assert answer.status == 401
    second = Program(sickly).refresh(pair["refresh_token"]).json
    Program(sickly).refresh(pair["refresh_token"])
    reset = ask_reset(sickly, email)
    Program(sickly).reset(reset + "x", next_canary)
    Program(sickly).reset(reset, next_canary)
    Program(sickly).reset(reset, next_canary)
    sickly.mail.refusal = "550 5.1.1 No such user"
    Program(sickly).signup(some_email(), canary)
    settle(sickly)

    secrets = [canary, next_canary, token_of(verify), token_of(reset), *browser.cookies.values()]
    secrets += [one[name] for one in (pair, second) for name in ("access_token", "refresh_token")]
    log, stored = sickly.log(), "\n".join(sickly.dump())
    assert [secret for secret in secrets if secret in log] == []
    assert [secret for secret in secrets if secret in stored] == []
    assert email not in log
    for mail in mails_to(sickly, email):
        assert canary not in mail.part("plain") + mail.part("html")
        assert next_canary not in mail.part("plain") + mail.part("html")


def test_AUD_02_no_text_makes_a_line_in_the_log(site: Site) -> None:
    """Line breaks and control signs of a visitor begin no line in the log."""
    forged = "\r\n2026-01-01 [CRITICAL] forged\x1b[31m"

    for value in (forged, f"a{forged}@example.com"):
        Program(site).login(value, value)
        Program(site).signup(value, value, name=value)
        Program(site).refresh(value)
    with socket.create_connection(("127.0.0.1", site.port), timeout=5) as connection:
        connection.sendall(
            b"GET /auth/me HTTP/1.1\r\nHost: x\r\nUser-Agent: a\x1b[31m forged\r\nConnection: close\r\n\r\n"
        )
        connection.recv(100)

    assert not re.search(r"^2026-01-01 \[CRITICAL\]|\x1b\[31m", site.log(), re.MULTILINE)
    assert OTHER_PASSWORD not in site.log()
