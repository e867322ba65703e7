"""SMTP: against a real server, and against servers that misbehave."""

from __future__ import annotations

import base64
import hmac
import re
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import flask_mail
import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword
from databases import NOW, Rows, sqlite  # noqa: F401
from flask import Flask
from hypothesis import example, given, settings
from hypothesis import strategies as st
from smtp_servers import Answer, Authority, Peer, Script, cut, drip, flood, say_and_cut, silent

from flask_accountflow.errors import MailDeferred, MailFault, MailRejected, MailUnsure
from flask_accountflow.mail.delivery import Deliverer
from flask_accountflow.mail.letter import Letter, render_message
from flask_accountflow.mail.transports import Unreachable, steps
from flask_accountflow.mail_smtp import Message, SmtpTransport
from flask_accountflow.store.queue import Waiting

LINK = "https://shop.example/auth/verify/abc"

LETTER = Letter(
    to="ada@example.com",
    subject="Grüße von Shop",
    text=f"Hello,\n\n{LINK}\n",
    html="<p>Hello</p>\n",
    message_id="0123@shop.example",
    sender="hello@shop.example",
    sender_name="Shop, Ltd",
    date=NOW,
    language="de",
    template="verify",
    reply_to="help@shop.example",
    link=LINK,
)

ACCOUNT = {"MAIL_USERNAME": "shop", "MAIL_PASSWORD": "right"}


def make_app(port: int, **config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update({"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": port, **config})
    flask_mail.Mail(app)
    return app


def transport(
    port: int, *, timeout: float = 0.5, ca_file: Path | None = None, ehlo_name: str | None = None, **config: Any
) -> SmtpTransport:
    return SmtpTransport(make_app(port, **config), timeout, None if ca_file is None else str(ca_file), ehlo_name)


def send(to: SmtpTransport, *letters: Letter) -> None:
    with to.connect() as connection:
        for letter in letters or (LETTER,):
            connection.send(letter)


def refusal(to: SmtpTransport, letter: Letter = LETTER) -> MailFault:
    with pytest.raises(MailFault) as caught:
        send(to, letter)
    return caught.value


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


# A real server.


class Mailbox:
    """Takes every mail, and notes what happened."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.greetings = 0
        self.logins: list[bool] = []
        self.said_goodbye = threading.Event()

    async def handle_EHLO(self, server: Any, session: Any, envelope: Any, hostname: str, answers: list[str]) -> Any:
        session.host_name = hostname
        self.greetings += 1
        return answers

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        self.envelopes.append(envelope)
        self.logins.append(session.authenticated)
        return "250 taken"

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:
        self.said_goodbye.set()
        return "221 bye"


@contextmanager
def smtp_server(**options: Any) -> Iterator[tuple[int, Mailbox]]:
    """Run a mail server in this process and yield its port and what it gets."""
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port(), ready_timeout=10, **options)
    controller.start()
    try:
        yield controller.port, mailbox
    finally:
        controller.stop()


def test_letter_arrives() -> None:
    """A letter arrives with both parts, our headers and exactly one recipient."""
    with smtp_server() as (port, mailbox):
        send(transport(port))

    [envelope] = mailbox.envelopes
    message: Any = message_from_bytes(envelope.content, policy=policy.default)
    assert (envelope.mail_from, envelope.rcpt_tos) == ("hello@shop.example", ["ada@example.com"])
    assert (message["To"], message["Subject"]) == ("ada@example.com", "Grüße von Shop")
    assert message["From"].addresses[0].display_name == "Shop, Ltd"
    assert (message["Message-ID"], message["Date"].datetime) == ("<0123@shop.example>", NOW)
    assert (message["Auto-Submitted"], message["Content-Language"]) == ("auto-generated", "de")
    assert message["Reply-To"] == "help@shop.example"
    assert message.get_content_type() == "multipart/alternative"
    text, html = (part.get_content().replace("\r\n", "\n") for part in message.iter_parts())
    assert (text, html) == (LETTER.text, LETTER.html)


def test_one_connection() -> None:
    """Several letters go through one connection, which ends with a goodbye."""
    with smtp_server() as (port, mailbox):
        send(transport(port), LETTER, LETTER, LETTER)
        assert mailbox.said_goodbye.wait(5)

    assert (len(mailbox.envelopes), mailbox.greetings) == (3, 1)


def test_max_emails() -> None:
    """MAIL_MAX_EMAILS is how many letters go through one connection."""
    with smtp_server() as (port, mailbox):
        send(transport(port, MAIL_MAX_EMAILS=2), LETTER, LETTER, LETTER)

    assert (len(mailbox.envelopes), mailbox.greetings) == (3, 2)


def test_unused_connection() -> None:
    """A connection without letters opens nothing."""
    with smtp_server() as (port, mailbox), transport(port).connect() as connection:
        connection.abort()

    assert mailbox.greetings == 0


@pytest.mark.parametrize("is_suppressed", [True, False])
def test_signal(is_suppressed: bool) -> None:
    """Flask-Mail's signal tells of each letter, also when MAIL_SUPPRESS_SEND keeps it from being sent."""
    with smtp_server() as (port, mailbox):
        app = make_app(port, MAIL_SUPPRESS_SEND=is_suppressed)
        mail = flask_mail.Mail(app)
        with mail.record_messages() as messages:
            send(SmtpTransport(app, 0.5, None))

    [message] = messages
    assert len(mailbox.envelopes) == (0 if is_suppressed else 1)
    assert (message.recipients, message.subject) == (["ada@example.com"], "Grüße von Shop")
    assert (message.body, message.html) == (LETTER.text, LETTER.html)
    assert (message.sender, message.reply_to) == ("Shop, Ltd <hello@shop.example>", "help@shop.example")
    assert (message.msgId, message.date) == ("<0123@shop.example>", NOW.timestamp())
    assert message.extra_headers["Auto-Submitted"] == "auto-generated"
    assert "multipart/mixed" not in message.as_string()
    assert b"Message-ID: <0123@shop.example>\r\n" in message.as_bytes()


def test_message_of_flask_mail() -> None:
    """Receivers of the signal find every attribute of Flask-Mail's messages, and none of them took a look-up in DNS."""
    app = make_app(25, MAIL_DEFAULT_SENDER="hello@shop.example")
    with app.app_context():
        usual = flask_mail.Message("subject", ["ada@example.com"], "text", "<p>html</p>")

    assert set(vars(usual)) <= set(vars(Message(LETTER)))


def test_failing_receiver(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that fails does not make a letter that was sent look unsent."""

    def receiver(sender: Any, message: Any) -> None:
        raise ZeroDivisionError("in a receiver")

    with smtp_server() as (port, mailbox), flask_mail.email_dispatched.connected_to(receiver):
        send(transport(port), replace(LETTER, sender_name=""))

    assert len(mailbox.envelopes) == 1
    assert "in a receiver" in caplog.text


def test_no_sender() -> None:
    """Without a sender nothing is sent, and the operator reads why."""
    with smtp_server() as (port, mailbox), pytest.raises(Unreachable, match="MAIL_DEFAULT_SENDER"):
        send(transport(port), replace(LETTER, sender=""))

    assert mailbox.greetings == 0


@pytest.mark.parametrize(("config", "is_shown"), [({}, False), ({"MAIL_DEBUG": 1}, True), ({"DEBUG": True}, False)])
def test_dialogue_is_private(config: dict[str, Any], is_shown: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """The dialogue, which holds links, is shown only when MAIL_DEBUG asks for it; debug mode is not enough."""
    with smtp_server() as (port, _):
        send(transport(port, **config))

    shown = capfd.readouterr().err
    assert ("auth/verify/abc" in shown) == ("250 taken" in shown) == is_shown


def log_in(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    is_right = isinstance(data, LoginPassword) and data.password == b"right"
    return AuthResult(success=is_right, handled=False)


def test_login() -> None:
    """User name and password are used."""
    with smtp_server(authenticator=log_in, auth_require_tls=False) as (port, mailbox):
        send(transport(port, **ACCOUNT))

    assert mailbox.logins == [True]


def test_wrong_password() -> None:
    """A wrong password is the operator's fault: the mail waits."""
    with smtp_server(authenticator=log_in, auth_require_tls=False) as (port, mailbox):
        fault = refusal(transport(port, MAIL_USERNAME="shop", MAIL_PASSWORD="wrong"))

    assert isinstance(fault, Unreachable)
    assert str(fault).startswith("535 ")
    assert mailbox.envelopes == []


# What goes over the wire.


def test_F06_MAI_06_one_recipient() -> None:
    """Each letter has a MAIL and a RCPT of its own, with the addresses as they are and the size where it is asked."""
    letters = [
        replace(LETTER, to=to) for to in ("Ada.L+x@example.com", "o'hara@example.com", "!#$%&*=?^`{|}~@x.example")
    ]

    with Script(offers=["SIZE 99999"]) as server:
        send(transport(server.port), *letters)

    envelopes = [line for line in server.lines if line.upper().startswith(("MAIL", "RCPT"))]
    sizes = [len(mail.content) for mail in server.mails]
    assert [line.casefold() for line in envelopes] == [
        line
        for letter, size in zip(letters, sizes, strict=True)
        for line in (f"mail from:<hello@shop.example> size={size}", f"rcpt to:<{letter.to.casefold()}>")
    ]
    assert [mail.recipients for mail in server.mails] == [(letter.to,) for letter in letters]
    assert [mail.message["To"] for mail in server.mails] == [letter.to for letter in letters]


def test_international_domains() -> None:
    """Addresses with a domain in any script go out with its ASCII form, in the envelope and in the headers."""
    domain, ascii_form = "bücher.example", "xn--bcher-kva.example"
    letter = replace(
        LETTER, to=f"Ada@{domain}", sender=f"hello@{domain}", reply_to=f"help@{domain}", message_id=f"0123@{domain}"
    )

    with Script() as server:
        send(transport(server.port), letter)

    [mail] = server.mails
    assert (mail.sender, mail.recipients) == (f"hello@{ascii_form}", (f"Ada@{ascii_form}",))
    assert mail.content.isascii()
    for name, local_part in (("From", "hello"), ("To", "Ada"), ("Reply-To", "help")):
        assert mail.message[name].addresses[0].addr_spec == f"{local_part}@{ascii_form}"
    assert mail.message_id == f"<0123@{ascii_form}>"
    assert mail.message["X-Entity-Ref-ID"] == f"0123@{ascii_form}"


@pytest.mark.parametrize("name", ["to", "sender", "reply_to"])
def test_international_local_parts(name: str) -> None:
    """A letter with an address that only some servers could write is refused, without the address."""
    with pytest.raises(ValueError, match=f"the {name} of a letter must be") as caught:
        replace(LETTER, **{name: "jürgen@example.com"})

    assert "rgen" not in str(caught.value)


TEXTS = st.lists(
    st.sampled_from(
        ["\n", "\r", "\r\n", ".", "..", "From ", " ", "\t", "\x00", "\x0b", "ä", "你", LINK, "=", "x" * 999]
    )
    | st.text(st.characters(codec="utf-8"), max_size=9)
).map("".join)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, html=TEXTS)
@example(text=f"ä{'x' * 68} \n", html=f"ä{'x' * 68}\t\nnext")
def test_MAI_05_every_text_arrives(text: str, html: str) -> None:
    """Whatever the text, only CRLF ends a line, no line is too long for its encoding, and the reader sees the text."""
    letter = replace(LETTER, text=text, html=html)

    wire = render_message(letter).as_bytes()

    assert wire.isascii()
    lines = wire.split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line or b"\x00" in line for line in lines)
    # RFC 5322 section 2.1.1.
    assert max(map(len, lines)) <= 998
    message: Any = message_from_bytes(wire, policy=policy.default)
    for part, sent in zip(message.iter_parts(), (text, html), strict=True):
        if part["Content-Transfer-Encoding"] != "7bit":
            # RFC 2045 sections 6.7 and 6.8.
            assert max(map(len, part.get_payload().splitlines())) <= 76
        assert _lines(part.get_content()) == _lines(sent)


def _lines(text: str) -> list[str]:
    """Return the lines of a text, whatever ended them and whether the last one is."""
    return re.split(r"\r\n|\r|\n", text if text.endswith(("\r", "\n")) else f"{text}\n")


def test_dots() -> None:
    """Lines that begin with a dot arrive, and none of them ends the mail."""
    letter = replace(LETTER, text=".\n..\n.x\n\n.\nend\n")

    with Script() as server:
        send(transport(server.port), letter, LETTER)

    assert len(server.mails) == 2
    assert f"\n\n{letter.text}".replace("\n", "\r\n").encode() in server.mails[0].content


def test_a_given_name() -> None:
    """The server is greeted by the name that the operator has set."""
    with Script() as server:
        send(transport(server.port, ehlo_name="app.shop.example"))

    assert server.lines[0].upper() == "EHLO APP.SHOP.EXAMPLE"


@pytest.mark.parametrize(
    ("name", "greeting"),
    [("app.shop.example", "app.shop.example"), ("localhost", "[127.0.0.1]"), ("my_app.local", "[127.0.0.1]")],
)
def test_own_name(name: str, greeting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is greeted by the full name of this computer, which is asked for once, else by its address."""
    asked: list[int] = []
    monkeypatch.setattr(socket, "getfqdn", lambda: asked.append(1) or name)

    with Script() as server:
        to = transport(server.port)
        send(to)
        send(to)

    assert [line.split()[1] for line in server.lines if line.upper().startswith("EHLO")] == [greeting] * 2
    assert asked == [1]


@pytest.mark.parametrize(
    ("address", "greeting"),
    [("10.0.0.9", "[10.0.0.9]"), ("fd00::9", "[IPv6:fd00::9]"), ("fe80::9%eth0", "[IPv6:fe80::9]")],
)
def test_own_address(address: str, greeting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address stands for a name in the way that servers know (RFC 5321 section 4.1.3)."""
    with Script() as server:
        monkeypatch.setattr(socket, "getfqdn", lambda: "localhost")
        monkeypatch.setattr(socket.socket, "getsockname", lambda self: (address, 25))
        send(transport(server.port))

    assert server.lines[0].split()[1] == greeting


# Logging in.


def decoded(text: str) -> str:
    return base64.b64decode(text).decode()


def plain(peer: Peer) -> str:
    _, user, password = decoded(peer.line.split()[2]).split("\0")
    return f"{user}:{password}"


def login(peer: Peer) -> str:
    answers = peer.line.split()[2:]
    for question in ("Username:", "Password:")[len(answers) :]:
        peer.say("334 " + base64.b64encode(question.encode()).decode())
        answers.append(peer.hear())
    return ":".join(map(decoded, answers))


def cram(peer: Peer) -> str:
    peer.say("334 " + base64.b64encode(b"<1.2@mail.example>").decode())
    user, digest = decoded(peer.hear()).split()
    password = next(
        one for one in PASSWORDS if hmac.new(one.encode(), b"<1.2@mail.example>", "md5").hexdigest() == digest
    )
    return f"{user}:{password}"


PASSWORDS = ("right", "pässwörd 你", "123456", "2")
METHODS: dict[str, Callable[[Peer], str]] = {"PLAIN": plain, "LOGIN": login, "CRAM-MD5": cram}


class Doorman:
    """Notes who logs in, by which method, and lets them in or not."""

    def __init__(self, answer: str = "235 come in") -> None:
        self.answer = answer
        self.seen: list[tuple[str, str]] = []

    def __call__(self, peer: Peer) -> None:
        method = peer.line.split()[1].upper()
        self.seen.append((method, METHODS[method](peer)))
        peer.say(self.answer)


@pytest.mark.parametrize("password", [*PASSWORDS, 123456])
@pytest.mark.parametrize("method", METHODS)
def test_methods(method: str, password: str | int) -> None:
    """Each method logs in, with a password of any signs, and with digits that the environment made a number of."""
    doorman = Doorman()

    with Script(offers=[f"AUTH GSSAPI {method}"], AUTH=doorman) as server:
        found = told(transport(server.port, MAIL_USERNAME="jürgen", MAIL_PASSWORD=password))

    assert doorman.seen == [(method, f"jürgen:{password}")]
    assert len(server.mails) == 1
    assert f"AUTH {method}: 235 come in" in found


def test_method_in_clear() -> None:
    """Without TLS the method is chosen that does not tell the password."""
    doorman = Doorman()

    with Script(offers=["AUTH PLAIN LOGIN CRAM-MD5"], AUTH=doorman) as server:
        send(transport(server.port, **ACCOUNT))

    assert doorman.seen == [("CRAM-MD5", "shop:right")]


def test_method_in_secret(authority: Authority) -> None:
    """Within TLS the method is chosen that every server knows: one that keeps hashed passwords cannot do CRAM-MD5."""
    doorman = Doorman()

    with Script(tls=authority.context(), offers=["AUTH CRAM-MD5 LOGIN PLAIN"], AUTH=doorman) as server:
        send(transport(server.port, ca_file=authority.file, MAIL_USE_TLS=True, **ACCOUNT))

    assert doorman.seen == [("PLAIN", "shop:right")]


def test_one_try() -> None:
    """A password that is refused is not tried again by another method: servers shut out who fails too often."""
    doorman = Doorman("535 5.7.8 wrong")

    with Script(offers=["AUTH CRAM-MD5 PLAIN LOGIN"], AUTH=doorman) as server:
        fault = refusal(transport(server.port, **ACCOUNT))

    assert (type(fault), str(fault)) == (Unreachable, "535 5.7.8 wrong")
    assert len(doorman.seen) == 1
    assert "MAIL" not in server.heard


@pytest.mark.parametrize("offers", [[], ["AUTH GSSAPI"]])
def test_no_method(offers: list[str]) -> None:
    """Where we are to log in and cannot, nothing is sent, and the operator reads why."""
    with Script(offers=offers) as server:
        fault = refusal(transport(server.port, **ACCOUNT))

    assert isinstance(fault, Unreachable)
    assert "MAIL_USERNAME" in str(fault)
    assert {"AUTH", "MAIL"}.isdisjoint(server.heard)


@pytest.mark.parametrize("missing", ["MAIL_USERNAME", "MAIL_PASSWORD"])
def test_half_an_account(missing: str) -> None:
    """Without user name or password nobody logs in."""
    with Script(offers=["AUTH PLAIN"]) as server:
        send(transport(server.port, **{**ACCOUNT, missing: None}))

    assert "AUTH" not in server.heard
    assert len(server.mails) == 1


@pytest.mark.parametrize(
    ("address", "is_told"),
    [
        *((near, True) for near in ("127.0.0.1", "10.0.0.9", "172.18.0.2", "100.64.0.9", "fd00::9", "fe80::9%eth0")),
        *((far, False) for far in ("8.8.8.8", "2001:4860:4860::8888")),
    ],
)
def test_password_in_clear(address: str, is_told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TLS the password is told on this computer and in private networks, and not over the Internet."""
    monkeypatch.setattr(socket.socket, "getpeername", lambda self: (address, 25))

    with Script(offers=["AUTH PLAIN"], AUTH="235 come in") as server, ExitStack() as stack:
        if not is_told:
            stack.enter_context(pytest.raises(Unreachable, match="MAIL_USE_TLS"))
        send(transport(server.port, **ACCOUNT))

    assert ("AUTH" in server.heard, len(server.mails)) == (is_told, int(is_told))


@pytest.mark.parametrize("method", METHODS)
def test_repeated_password(method: str, authority: Authority) -> None:
    """A server that repeats what it was told makes no log of ours hold the password."""

    def repeat(peer: Peer) -> None:
        METHODS[method](peer)
        peer.say(f"500 what is '{peer.line}', {base64.b64encode(b'right').decode()}, right?")

    with Script(tls=authority.context(), offers=[f"AUTH {method}"], AUTH=repeat) as server:
        sending = transport(server.port, ca_file=authority.file, MAIL_USE_TLS=True, **ACCOUNT)
        with sending.connect() as connection, pytest.raises(Unreachable) as caught:
            connection.send(LETTER)

    for told in (str(caught.value), " ".join(steps(connection))):
        assert "what is" in told
        words = re.findall(r"[\w+/=]+", told)
        assert "right" not in words
        assert not any("right" in _undone(word) for word in words)


def _undone(word: str) -> str:
    try:
        return base64.b64decode(word).decode()
    except ValueError:
        return ""


@pytest.mark.parametrize("challenge", ["334 no base64!", "334 ä", "334"])
def test_odd_challenge(challenge: str) -> None:
    """A challenge that makes no sense ends the dialogue, and the mail waits."""

    def ask(peer: Peer) -> None:
        peer.say(challenge)
        if peer.hear():
            peer.say("535 wrong")

    with Script(offers=["AUTH CRAM-MD5"], AUTH=ask) as server:
        fault = refusal(transport(server.port, **ACCOUNT))

    assert isinstance(fault, Unreachable)
    assert server.mails == []


# TLS.


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Somebody whom we trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


STARTTLS: tuple[dict[str, Any], bool] = ({"MAIL_USE_TLS": True}, False)
FROM_THE_START: tuple[dict[str, Any], bool] = ({"MAIL_USE_SSL": True}, True)
TLS = pytest.mark.parametrize(("config", "from_the_start"), [STARTTLS, FROM_THE_START])


@TLS
def test_trusted_server(config: dict[str, Any], from_the_start: bool, authority: Authority) -> None:
    """A server with a trusted certificate gets letters and password, both within TLS, over one connection."""
    with Script(
        tls=authority.context(), from_the_start=from_the_start, offers=["AUTH PLAIN"], AUTH="235 come in"
    ) as server:
        send(transport(server.port, ca_file=authority.file, **config, **ACCOUNT), LETTER, LETTER)

    in_clear = [] if from_the_start else ["EHLO", "STARTTLS"]
    assert server.heard == in_clear + server.heard_in_secret
    mail = ["MAIL", "RCPT", "DATA"]
    assert server.heard_in_secret == ["EHLO", "AUTH", *mail, *mail, "QUIT"]
    assert (len(server.mails), server.connections) == (2, 1)


def test_a_real_server_by_starttls(authority: Authority) -> None:
    """A server that insists on STARTTLS gets the letter."""
    with smtp_server(tls_context=authority.context(), require_starttls=True) as (port, mailbox):
        send(transport(port, ca_file=authority.file, MAIL_USE_TLS=True))

    assert len(mailbox.envelopes) == 1


def test_old_certificate(authority: Authority) -> None:
    """A certificate of the old style, with the name of the server where that of a person would be, is good, too."""
    context = authority.context("localhost", is_old_style=True)
    with Script(tls=context) as server:
        found = told(transport(server.port, ca_file=authority.file, MAIL_SERVER="localhost", MAIL_USE_TLS=True))

    assert len(server.mails) == 1
    assert any("certificate of localhost by Test Authority" in step for step in found)


def test_both_kinds_of_tls(authority: Authority) -> None:
    """With MAIL_USE_SSL there is nothing left for MAIL_USE_TLS to do."""
    with Script(tls=authority.context(), from_the_start=True) as server:
        send(transport(server.port, ca_file=authority.file, MAIL_USE_TLS=True, MAIL_USE_SSL=True))

    assert len(server.mails) == 1


@TLS
@pytest.mark.parametrize("fault", ["unknown", "expired", "misnamed"])
def test_F08_MAI_02_untrusted_server(
    fault: str, config: dict[str, Any], from_the_start: bool, authority: Authority, tmp_path: Path
) -> None:
    """A server whose certificate is not good for its name and for today is told nothing but our greeting."""
    context, reason = {
        "unknown": lambda: (Authority(tmp_path, "Impostor").context(), "unable to get local issuer certificate"),
        "expired": lambda: (authority.context(days=-1), "certificate has expired"),
        "misnamed": lambda: (authority.context("mx.example"), "not valid for '127.0.0.1'"),
    }[fault]()

    with Script(tls=context, from_the_start=from_the_start, offers=["AUTH PLAIN"]) as server:
        found = refusal(transport(server.port, ca_file=authority.file, **config, **ACCOUNT))

    assert isinstance(found, Unreachable)
    assert "CERTIFICATE_VERIFY_FAILED" in str(found)
    assert reason in str(found)
    assert server.heard == ([] if from_the_start else ["EHLO", "STARTTLS"])
    assert server.mails == []


def test_unknown_to_the_system(authority: Authority) -> None:
    """Without a file of certificates those of the system are trusted, and no others."""
    with Script(tls=authority.context()) as server:
        fault = refusal(transport(server.port, MAIL_USE_TLS=True))

    assert "CERTIFICATE_VERIFY_FAILED" in str(fault)
    assert server.heard == ["EHLO", "STARTTLS"]


@TLS
def test_MAI_02_old_tls(config: dict[str, Any], from_the_start: bool, authority: Authority) -> None:
    """A server that speaks nothing newer than TLS 1.1 is told nothing (RFC 8996)."""
    context = authority.context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python knows that this is old
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")  # OpenSSL has given that up by itself

    with Script(tls=context, from_the_start=from_the_start) as server:
        fault = refusal(transport(server.port, ca_file=authority.file, **config))

    assert isinstance(fault, Unreachable)
    assert "SSL" in str(fault)
    assert {"MAIL", "AUTH"}.isdisjoint(server.heard)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({}, "STARTTLS, which MAIL_USE_TLS"),
        ({"EHLO": "502 what?"}, "STARTTLS, which MAIL_USE_TLS"),
        ({"EHLO": ("250-mail.example", "250 STARTTLS"), "STARTTLS": "454 not now"}, "454 not now"),
        ({"EHLO": ("250-mail.example", "250 STARTTLS"), "STARTTLS": "554 never"}, "554 never"),
    ],
)
def test_F08_MAI_02_no_starttls(answers: dict[str, Answer], reason: str) -> None:
    """A server that does not do STARTTLS where it is required gets neither password nor letter."""
    with Script(offers=["AUTH PLAIN"], AUTH="235 come in", **answers) as server:
        fault = refusal(transport(server.port, MAIL_USE_TLS=True, **ACCOUNT))

    assert isinstance(fault, Unreachable)
    assert reason in str(fault)
    assert {"AUTH", "MAIL"}.isdisjoint(server.heard)


def test_MAI_02_answers_ahead_of_tls(authority: Authority) -> None:
    """What somebody adds in clear to the answer to STARTTLS is never taken for an answer within TLS."""
    added = ("220 go", "250-mail.example", "250 AUTH PLAIN", "235 come in", "250 ok", "250 ok", "354 go on", "250 ok")

    with Script(tls=authority.context(), STARTTLS=added, RCPT="550 unknown") as server:
        fault = refusal(transport(server.port, ca_file=authority.file, MAIL_USE_TLS=True))

    assert isinstance(fault, MailRejected)
    assert server.heard_in_secret == ["EHLO", "MAIL", "RCPT", "QUIT"]
    assert server.mails == []


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_useless_ca_file(content: str | None, authority: Authority, tmp_path: Path) -> None:
    """A file of certificates that is missing or holds none makes the mail wait, and the reason names the setting."""
    ca_file = tmp_path / "own.pem"
    if content is not None:
        ca_file.write_text(content)

    with Script(tls=authority.context()) as server:
        fault = refusal(transport(server.port, ca_file=ca_file, MAIL_USE_TLS=True))

    assert isinstance(fault, Unreachable)
    assert "ACCOUNTFLOW_MAIL_CA_FILE" in str(fault)
    assert server.mails == []


# Servers that misbehave.


def fault_of(answers: dict[str, Answer], **options: Any) -> MailFault:
    """Return how a letter fares at a server; within two seconds."""
    started = time.monotonic()
    with Script(**answers) as server:
        fault = refusal(transport(server.port, **{"timeout": 0.2, **options}))
    assert time.monotonic() - started < 2
    return fault


@pytest.mark.parametrize(
    ("answers", "kind", "reason"),
    [
        ({"banner": "421 full"}, Unreachable, "421 full"),
        ({"banner": "554 no service for you"}, Unreachable, "554 no service for you"),
        ({"banner": silent}, Unreachable, "timed out"),
        ({"banner": cut}, Unreachable, "closed"),
        ({"EHLO": "550 go away", "HELO": "550 go away"}, Unreachable, "550 go away"),
        ({"EHLO": say_and_cut("421 not by that name")}, Unreachable, "421 not by that name"),
        ({"EHLO": silent}, Unreachable, "timed out"),
        ({"MAIL": silent}, MailDeferred, "timed out"),
        ({"MAIL": cut}, MailDeferred, "closed"),
        ({"MAIL": "421 closing"}, Unreachable, "421 closing"),
        ({"MAIL": "451 error"}, Unreachable, "451 error"),
        ({"MAIL": "530 5.7.0 log in first"}, Unreachable, "530 5.7.0 log in first"),
        ({"RCPT": "421 closing"}, MailDeferred, "421 closing"),
        ({"RCPT": "450 <ada@example.com> is busy"}, MailDeferred, "450 <address> is busy"),
        ({"RCPT": "451 ADA@EXAMPLE.COM is greylisted"}, MailDeferred, "451 <address> is greylisted"),
        ({"RCPT": "452 disk full"}, MailDeferred, "452 disk full"),
        ({"RCPT": "530 log in first"}, MailDeferred, "530 log in first"),
        ({"RCPT": "503 log in first"}, MailDeferred, "503 log in first"),
        ({"RCPT": silent}, MailDeferred, "timed out"),
        ({"RCPT": cut}, MailDeferred, "closed"),
        ({"RCPT": "550 <ada@example.com> is unknown"}, MailRejected, "550 <address> is unknown"),
        ({"RCPT": "553 not you"}, MailRejected, "553 not you"),
        ({"DATA": "554 nothing valid"}, MailRejected, "554 nothing valid"),
        ({"DATA": "451 later"}, MailDeferred, "451 later"),
        ({"DATA": silent}, MailDeferred, "timed out"),
        ({"DATA": cut}, MailDeferred, "closed"),
        ({"dot": "554 spam"}, MailRejected, "554 spam"),
        ({"dot": "552 too large"}, MailRejected, "552 too large"),
        ({"dot": f"554 spam: {LINK} is listed"}, MailRejected, "554 spam: <link> is listed"),
        ({"dot": "451 scanner is down"}, MailDeferred, "451 scanner is down"),
        ({"dot": "421 closing"}, MailDeferred, "421 closing"),
        ({"dot": silent}, MailUnsure, "timed out"),
        ({"dot": cut}, MailDeferred, "closed"),
    ],
)
def test_answers(answers: dict[str, Answer], kind: type[MailFault], reason: str) -> None:
    """What a server answers decides whether the mail waits or is given up, and the reason names no address."""
    fault = fault_of(answers)

    assert type(fault) is kind
    assert reason in str(fault)


@pytest.mark.parametrize("answer", ["550 5.7.1 you do not own this sender", "553 no such sender", "552 not yours"])
def test_refused_sender(answer: str) -> None:
    """A refusal of the sender is the operator's fault, whatever its code: no mail is given up for it."""
    fault = fault_of({"MAIL": answer})

    assert (type(fault), str(fault)) == (Unreachable, answer)


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "dot"])
@pytest.mark.parametrize("answer", ["250 fine", "251 will forward", "200 ok"])
def test_kinds_of_yes(step: str, answer: str) -> None:
    """Every answer that begins with 2 is a yes (RFC 5321 section 4.2): what was taken is not sent again."""
    with Script(**{step: answer}) as server:
        send(transport(server.port))

    assert len(server.mails) == 1


@pytest.mark.parametrize("step", ["banner", "EHLO", "MAIL", "RCPT", "DATA", "dot"])
@pytest.mark.parametrize(
    "answer",
    ["hello", "", "25", "999 odd", "-50 odd", "550" + "x" * 100_000, flood, "HTTP/1.1 400 Bad Request", "55\u0660 odd"],
    ids=["word", "empty", "short", "999", "negative", "long", "flood", "http", "digits"],
)
def test_no_smtp(step: str, answer: Answer) -> None:
    """What is no answer by SMTP makes a mail wait, soon, and never gives it up."""
    fault = fault_of({step: answer})

    assert isinstance(fault, MailDeferred)
    assert 0 < len(str(fault)) <= 255
    assert str(fault).isprintable()


def test_several_lines() -> None:
    """An answer of several lines is read to its end, and its reason is one line in any script."""
    answer = (
        "550-5.1.1 Der Empfänger <ada@example.com>",
        "550-5.1.1 ist unbekannt.",
        "550 5.1.1 你好 https://help.example/550",
    )

    fault = fault_of({"RCPT": answer})

    assert isinstance(fault, MailRejected)
    assert str(fault) == "550 5.1.1 Der Empfänger <address> 5.1.1 ist unbekannt. 5.1.1 你好 <link>"


def test_closed_port() -> None:
    """Where nothing listens the mail waits."""
    fault = refusal(transport(free_port()))

    assert type(fault) is Unreachable
    assert "ConnectionRefusedError" in str(fault)


def test_unknown_server() -> None:
    """A server whose name nobody knows makes the mail wait."""
    fault = refusal(transport(25, MAIL_SERVER="mail.invalid"))

    assert type(fault) is Unreachable
    assert "gaierror" in str(fault)


def test_several_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with several addresses is reached by the first one that answers."""
    closed = free_port()
    with Script() as server:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (closed, server.port)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        send(transport(25, MAIL_SERVER="mail.shop.example"))

    assert len(server.mails) == 1


@pytest.mark.parametrize("step", ["RCPT", "DATA", "dot"])
@pytest.mark.parametrize("answer", ["550 no", "554 no"])
def test_after_a_refusal(step: str, answer: str) -> None:
    """After a mail that is refused for good the next one goes out over the same connection."""
    with Script(**{step: [answer]}) as server, transport(server.port).connect() as connection:
        with pytest.raises(MailRejected):
            connection.send(LETTER)
        connection.send(LETTER)

    assert server.connections == 1
    assert len(server.mails) == (2 if step == "dot" else 1)
    assert server.heard[-1] == "QUIT"


@pytest.mark.parametrize("answer", ["421 closing", "500 what?", say_and_cut("421 bye"), cut, silent])
def test_no_reset(answer: Answer) -> None:
    """A server that does not forget the mail it has refused gets the next one over a new connection."""
    with Script(RCPT=["550 no"], RSET=answer) as server, transport(server.port).connect() as connection:
        with pytest.raises(MailRejected):
            connection.send(LETTER)
        connection.send(LETTER)

    assert (server.connections, len(server.mails)) == (2, 1)


def idle(peer: Peer) -> None:
    """Take the mail, and end the connection as one that nobody uses."""
    say_and_cut("250 taken", "421 idle for too long")(peer)


@pytest.mark.parametrize(
    "answers",
    [
        {"MAIL": ["250 fine", "421 too many mails"]},
        {"MAIL": ["250 fine", "452 too many mails"]},
        {"MAIL": ["250 fine", cut]},
        {"dot": [idle]},
        {"dot": [say_and_cut("250 taken")]},
    ],
    ids=["421", "452", "cut", "idle", "closed"],
)
def test_worn_connection(answers: dict[str, Any]) -> None:
    """A connection that the server ends between two mails is no fault of the second, which goes over a new one."""
    with Script(**answers) as server:
        send(transport(server.port), LETTER, LETTER)

    assert (server.connections, len(server.mails)) == (2, 2)


def test_a_server_that_has_ended() -> None:
    """A new connection is tried once: a server that is down by then is as unreachable as any."""
    with Script() as server, transport(server.port).connect() as connection:
        connection.send(LETTER)
        server.answers["MAIL"] = "421 going down"

        with pytest.raises(Unreachable, match="421 going down"):
            connection.send(LETTER)

    assert server.connections == 2


# Time.


@contextmanager
def aborted(connection: Any, after: float) -> Iterator[None]:
    """Abort what goes on inside from another thread; it must end soon then."""
    watchdog = threading.Timer(after, connection.abort)
    watchdog.start()
    started = time.monotonic()
    yield
    assert after - 0.1 < time.monotonic() - started < after + 2
    watchdog.join()


def test_server_that_takes_its_time_at_the_end() -> None:
    """A server that searches a mail before it takes it has longer for that than for other answers."""

    def slow(peer: Peer) -> None:
        time.sleep(1)
        peer.say("250 clean")

    with Script(dot=slow) as server:
        send(transport(server.port, timeout=0.5), LETTER, LETTER)

        assert len(server.mails) == 2


@pytest.mark.parametrize("timeout", [0.5, 30])
@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ("banner", Unreachable),
        ("EHLO", Unreachable),
        ("MAIL", MailDeferred),
        ("DATA", MailDeferred),
        ("dot", MailUnsure),
    ],
)
def test_dripping_server(step: str, kind: type[MailFault], timeout: float) -> None:
    """A server that answers a byte at a time, which no time-out notices, is left when another thread says so."""
    with (
        Script(**{step: drip}) as server,
        transport(server.port, timeout=timeout).connect() as connection,
        aborted(connection, 0.7),
        pytest.raises(MailDeferred, match="time-out") as caught,
    ):
        connection.send(LETTER)

    assert type(caught.value) is kind


@TLS
def test_dripping_handshake(config: dict[str, Any], from_the_start: bool, authority: Authority) -> None:
    """A server that never finishes the handshake of TLS is left when another thread says so."""

    def shake(peer: Peer) -> None:
        if not from_the_start:
            peer.say("220 go")
        # The head of a record of 16 KiB (RFC 8446 section 5.1), and then of its content a byte at a time.
        peer.socket.sendall(bytes([22, 3, 3, 64, 0]))
        drip(peer)

    answers: dict[str, Answer] = {"connect" if from_the_start else "STARTTLS": shake}
    with (
        Script(tls=authority.context(), from_the_start=from_the_start, **answers) as server,
        transport(server.port, timeout=30, ca_file=authority.file, **config).connect() as connection,
        aborted(connection, 0.5),
        pytest.raises(Unreachable, match="time-out"),
    ):
        connection.send(LETTER)


def test_silent_handshake(authority: Authority) -> None:
    """A server that says nothing in the handshake is left after the time-out."""
    fault = fault_of({"connect": silent}, MAIL_USE_SSL=True)

    assert isinstance(fault, Unreachable)
    assert "timed out" in str(fault)


def test_abort_of_a_connect() -> None:
    """A server that does not even take the connection is left when another thread says so."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
        # Linux keeps one connection more than it is told to, and answers none after that.
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        with (
            transport(full.getsockname()[1], timeout=30).connect() as connection,
            aborted(connection, 0.5),
            pytest.raises(Unreachable, match="time-out"),
        ):
            connection.send(LETTER)


@pytest.mark.parametrize("config", [{}, {"MAIL_USE_TLS": True}, {"MAIL_USE_SSL": True}, ACCOUNT])
def test_abort_while_connecting(config: dict[str, Any]) -> None:
    """A send that is aborted before there is anything to shut goes no further than connecting."""
    with Script() as server, transport(server.port, **config).connect() as connection:
        connection.abort()
        with pytest.raises(Unreachable, match="time-out"):
            connection.send(LETTER)

    assert {"MAIL", "STARTTLS", "AUTH"}.isdisjoint(server.heard)


def test_abort_in_the_last_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An abort just before the connection is made, when there is nothing to shut yet, counts once it is made."""
    with Script(banner=silent) as server, transport(server.port, timeout=4).connect() as connection:

        def connect(self: socket.socket, address: Any) -> None:
            connection.abort()
            super(socket.socket, self).connect(address)

        monkeypatch.setattr(socket.socket, "connect", connect, raising=False)
        started = time.monotonic()
        with pytest.raises(Unreachable, match="time-out"):
            connection.send(LETTER)

    assert time.monotonic() - started < 3


def test_abort_on_a_used_connection() -> None:
    """A mail that hangs on a connection that was used before is left, too, and is not begun on another one."""
    with (
        Script(MAIL=["250 fine", drip]) as server,
        transport(server.port).connect() as connection,
    ):
        connection.send(LETTER)
        with aborted(connection, 0.5), pytest.raises(MailDeferred, match="time-out") as caught:
            connection.send(LETTER)

    assert type(caught.value) is MailDeferred
    assert server.connections == 1


def test_abort_after_the_end() -> None:
    """An abort that comes late does no harm."""
    with Script() as server:
        with transport(server.port).connect() as connection:
            connection.send(LETTER)

        connection.abort()

    assert len(server.mails) == 1


@pytest.mark.parametrize("answer", ["221 bye", silent, drip, cut, "500 what?"])
def test_goodbye(answer: Answer) -> None:
    """We say goodbye before we go, also after a refusal, and do not wait long for the answer."""
    started = time.monotonic()
    with Script(RCPT="550 no", QUIT=answer) as server:
        fault = refusal(transport(server.port, timeout=30))

    assert isinstance(fault, MailRejected)
    assert server.heard[-1] == "QUIT"
    assert time.monotonic() - started < 2


def test_rude_server() -> None:
    """A server that is gone before our goodbye has the letter nevertheless."""
    with Script(dot=say_and_cut("250 taken")) as server:
        send(transport(server.port))

    assert len(server.mails) == 1


# The dialogue, told step by step.


def told(to: SmtpTransport, letter: Letter = LETTER) -> tuple[str, ...]:
    """Return the steps of a dialogue, without what differs from time to time."""
    with to.connect() as connection, suppress(MailFault):
        connection.send(letter)
    return tuple(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:25", step) for step in steps(connection))


def test_steps(authority: Authority) -> None:
    """Each step is told with its answer: where to, by whose certificate until when, and who lets us in."""
    with Script(
        tls=authority.context(), offers=["AUTH PLAIN", "SIZE 9999"], AUTH="235 come in, shop@x.example"
    ) as server:
        found = told(
            transport(server.port, ca_file=authority.file, ehlo_name="app.example", MAIL_USE_TLS=True, **ACCOUNT)
        )

    assert found == (
        "connect 127.0.0.1:25: 127.0.0.1",
        "greeting: 220 mail.example ESMTP",
        "EHLO app.example: 250 AUTH PLAIN, SIZE 9999, STARTTLS",
        "STARTTLS: 220 go",
        f"TLS: TLSv1.3, certificate of 127.0.0.1 by Test Authority, until {authority.until:%Y-%m-%d}",
        "EHLO app.example: 250 AUTH PLAIN, SIZE 9999",
        "AUTH PLAIN: 235 come in, <address>",
        "MAIL FROM: 250 fine",
        "RCPT TO: 250 fine",
        "DATA: 354 go on",
        "end of DATA: 250 taken",
    )


def test_steps_of_a_plain_dialogue() -> None:
    """Without TLS and without an account that is told, too."""
    with Script() as server:
        found = told(transport(server.port, ehlo_name="app.example"))

    assert found[2:5] == (
        "EHLO app.example: 250",
        "TLS: none, neither MAIL_USE_TLS nor MAIL_USE_SSL is set",
        "AUTH: none, MAIL_USERNAME and MAIL_PASSWORD are not both set",
    )


@pytest.mark.parametrize(
    ("answers", "config", "last"),
    [
        ({"banner": "421 full"}, {}, "greeting: 421 full"),
        ({"EHLO": silent}, {}, "EHLO app.example: TimeoutError: timed out"),
        (
            {},
            {"MAIL_USE_TLS": True},
            "STARTTLS: SMTPNotSupportedError: the server offers no STARTTLS, which MAIL_USE_TLS",
        ),
        ({"MAIL": cut}, {}, "MAIL FROM: SMTPServerDisconnected: the server has closed the connection"),
        ({"RCPT": "550 <ada@example.com>?"}, {}, "RCPT TO: 550 <address>?"),
        ({"DATA": "451 later"}, {}, "DATA: 451 later"),
        ({"dot": f"554 {LINK}"}, {}, "end of DATA: 554 <link>"),
    ],
)
def test_last_step(answers: dict[str, Answer], config: dict[str, Any], last: str) -> None:
    """The last step of a letter that failed is where it failed, and why."""
    with Script(**answers) as server:
        found = told(transport(server.port, ehlo_name="app.example", timeout=0.2, **config))

    assert found[-1].startswith(last)


def test_steps_of_a_closed_port() -> None:
    """Where nothing listens, that is the only step."""
    [found] = told(transport(free_port()))

    assert re.fullmatch(r"connect 127\.0\.0\.1:25: ConnectionRefusedError: .*", found)


def test_steps_of_a_refused_certificate(authority: Authority) -> None:
    """Of a certificate that is not trusted it is told why."""
    with Script(tls=authority.context()) as server:
        found = told(transport(server.port, MAIL_USE_TLS=True))

    assert re.fullmatch(r"TLS: SSLCertVerificationError: .*certificate verify failed: .*", found[-1])


def test_steps_are_of_the_last_letter() -> None:
    """The steps are those of the last letter; where it went over an open connection they begin with MAIL."""
    with Script() as server, transport(server.port).connect() as connection:
        connection.send(LETTER)
        connection.send(LETTER)

        assert steps(connection)[0] == "MAIL FROM: 250 fine"
        assert len(steps(connection)) == 4


def test_steps_hold_no_secret() -> None:
    """No step holds address, link, text or password, whatever the server repeats."""

    def repeat(peer: Peer) -> None:
        content = peer.script.mails[-1].content.decode()
        peer.say("554-" + " ".join(content.split())[:5000], f"554 {LINK} ada@example.com right")

    with Script(dot=repeat, offers=["AUTH LOGIN"], AUTH=Doorman()) as server:
        found = " ".join(told(transport(server.port, **ACCOUNT)))

    assert "end of DATA: 554" in found
    assert not any(secret in found for secret in ("ada@", "auth/verify", "Hello", "right"))


def test_steps_of_nothing() -> None:
    """Where MAIL_SUPPRESS_SEND keeps letters here, that is told."""
    with Script() as server:
        found = told(transport(server.port, MAIL_SUPPRESS_SEND=True))

    assert found == ("nothing is sent: MAIL_SUPPRESS_SEND is on",)


# Together with the outbox.


def render(mail: Waiting) -> Letter:
    """Return the letter of a mail."""
    return replace(LETTER, to=mail.to_addr, message_id=mail.message_id)


def deliverer(rows: Rows, to: SmtpTransport, now: list[Any], **options: Any) -> Deliverer:
    return Deliverer(rows.queue(), to, render, lambda: now[0], lambda *event, **payload: None, **options)


def test_F07_connection_cut_after_the_dot(sqlite: sa.Engine) -> None:  # noqa: F811
    """A letter of unknown fate is sent again under the same Message-ID, and that is all."""
    rows, now = Rows(sqlite), [NOW]
    mail = rows.mail(message_id="stable@shop.example")

    with Script(dot=cut) as server:
        worker = deliverer(rows, transport(server.port), now)
        worker.deliver_due()
        server.be_well()
        now[0] = NOW + timedelta(seconds=5)
        worker.deliver_due()
        worker.deliver_due()

    assert [taken.message_id for taken in server.mails] == ["<stable@shop.example>"] * 2
    assert rows.stored(mail).state == "sent"


def test_deadline(sqlite: sa.Engine) -> None:  # noqa: F811
    """A dripping server costs one mail its deadline; the others go to a connection of their own."""
    rows = Rows(sqlite)
    hung, fine = rows.mail(), rows.mail()
    started = time.monotonic()

    with Script(RCPT=[drip]) as server:
        deliverer(rows, transport(server.port), [NOW], deadline=0.5).deliver_due()

    assert time.monotonic() - started < 3
    assert (rows.stored(hung).state, rows.stored(fine).state) == ("pending", "sent")
    assert rows.stored(hung).last_error == "time-out: the server did not finish in time (at RCPT TO)"
