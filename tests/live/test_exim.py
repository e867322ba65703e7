"""Exim, a mail server that many sites have: what a mail is when it has been through one."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import flask_mail
import pytest
from live_server import free_port, wait_until
from smtp_servers import Authority
from support import Site

pytestmark = pytest.mark.slow

PASSWORD = "exim-password-6174"

ACCOUNT = {"MAIL_USERNAME": "shop", "MAIL_PASSWORD": PASSWORD}

# PLAIN and LOGIN at one port, after STARTTLS; at the other one, where TLS is spoken from the start, LOGIN alone.
_CONFIGURATION = """\
exim_user = {user}
spool_directory = {folder}/spool
log_file_path = {folder}/log.%s
pid_file_path = {folder}/exim.pid
log_selector = +smtp_connection +received_recipients
primary_hostname = mail.example
keep_environment =
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port} : {tls_port}
tls_on_connect_ports = {tls_port}
tls_advertise_hosts = *
tls_certificate = {certificate}
tls_privatekey = {key}
smtp_accept_queue_per_connection = 0
acl_smtp_mail = from
acl_smtp_rcpt = to

begin acl
from:
  deny  !encrypted = *
        message = 530 5.7.0 Must issue STARTTLS first
  deny  !authenticated = *
        message = 530 5.7.0 Authentication required
  accept
to:
  deny  local_parts = nobody
        message = 550 5.1.1 No such user
  accept

begin routers
everybody:
  driver = accept
  transport = folder

begin transports
folder:
  driver = appendfile
  directory = {folder}/mails
  maildir_format
  envelope_to_add
  return_path_add
  user = {user}

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{shop}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
  server_advertise_condition = ${{if and{{{{def:tls_in_cipher}}{{eq{{$received_port}}{{{port}}}}}}}}}
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and{{{{eq{{$auth1}}{{shop}}}}{{eq{{$auth2}}{{{password}}}}}}}}}
  server_set_id = $auth1
  server_advertise_condition = ${{if def:tls_in_cipher}}
"""


class Exim:
    """A running Exim. ``authority`` has signed its certificate."""

    def __init__(self, program: str, folder: Path, authority: Authority) -> None:
        self.authority = authority
        self.port, self.tls_port = free_port(), free_port()
        self._program = program
        self._folder = folder
        self._start()

    def _start(self) -> None:
        shown = subprocess.run([self._program, "-bP", "exim_user"], capture_output=True, text=True, check=True)
        user = pwd.getpwnam(shown.stdout.split()[-1])
        certificate, key = self.authority.certify("localhost")
        text = _CONFIGURATION.format(
            user=user.pw_name,
            folder=self._folder,
            port=self.port,
            tls_port=self.tls_port,
            certificate=certificate,
            key=key,
            password=PASSWORD,
        )
        configuration = self._folder / "exim.conf"
        configuration.write_text(text)
        # It gives up being root before it reads the key and writes mails.
        for path in (self._folder, certificate, key):
            os.chown(path, user.pw_uid, user.pw_gid)
        # Read by it, and changed by nobody but root: Exim insists.
        configuration.chmod(0o644)
        command = [self._program, "-C", str(configuration), "-bdf"]
        # A group of its own, so that what serves a connection can be ended together with it.
        self._process = subprocess.Popen(command, cwd="/", start_new_session=True)

    def stop(self) -> None:
        """End it, once its deliveries have written the last line of their logs."""
        wait_until(lambda: sum(line.endswith(" Completed") for line in self.log) == self.taken(), "all is delivered")
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    @property
    def log(self) -> list[str]:
        """The lines of its log."""
        path = self._folder / "log.main"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def runs(self) -> bool:
        """Whether it listens; fails when it has ended instead."""
        assert self._process.poll() is None, self.log
        return any("daemon started" in line for line in self.log)

    def taken(self) -> int:
        """Return how many mails it has taken."""
        return sum(" <= " in line for line in self.log)

    def connections(self) -> int:
        """Return how many connections there have been."""
        return sum("SMTP connection from " in line and "TCP/IP connection count" in line for line in self.log)

    def mails(self, to: str) -> list[bytes]:
        """Return the mails that it has delivered to an address."""
        found = [path.read_bytes() for path in sorted((self._folder / "mails" / "new").glob("*"))]
        return [mail for mail in found if f"Envelope-to: {to}\n".encode() in mail]

    def mail(self, to: str) -> bytes:
        """Return the one mail for an address, as soon as it is delivered."""
        [found] = wait_until(lambda: self.mails(to), f"Exim has delivered the mail for {to}", 20)
        return bytes(found)


@pytest.fixture(scope="module")
def exim() -> Iterator[Exim]:
    """An Exim of the system, with a configuration, a spool and a log of its own."""
    program = shutil.which("exim4") or shutil.which("exim4", path="/usr/sbin")
    if program is None or os.geteuid() != 0:
        lacking = "no exim4" if program is None else "no right to run exim4 with a configuration of our own but root's"
        if "exim4" in os.environ.get("ACCOUNTFLOW_TEST_REQUIRE", ""):
            pytest.fail(f"exim4 is required, and there is {lacking}")
        pytest.skip(f"there is {lacking}")
    # Not tmp_path, which only root may enter.
    with tempfile.TemporaryDirectory(prefix="accountflow-exim-") as name:
        folder = Path(name)
        running = Exim(program, folder, Authority(folder))
        try:
            wait_until(lambda: running.runs, "Exim listens", 20)
            yield running
        finally:
            running.stop()


@pytest.fixture
def make_mailing(exim: Exim, make_site: Callable[..., Site]) -> Callable[..., Site]:
    """Return a function that makes sites that send by Exim when they are told to."""

    def make(**config: Any) -> Site:
        settings = {
            "MAIL_SERVER": "localhost",
            "MAIL_PORT": exim.port,
            "MAIL_USE_TLS": True,
            "MAIL_SUPPRESS_SEND": False,
            "ACCOUNTFLOW_MAIL_CA_FILE": str(exim.authority.file),
            "ACCOUNTFLOW_MAIL_KICK": "worker",
            **ACCOUNT,
            **config,
        }
        return make_site(settings, transport=None)

    return make


def sign_up(site: Site, email: str) -> None:
    """Sign up."""
    assert site.program().signup(email).status_code == 202


def deliver(site: Site) -> None:
    """Do what a worker does once."""
    with site.app.app_context():
        site.app.extensions["accountflow_delivery"].deliver_due()


def row(site: Site) -> Any:
    """Return the only mail of a site."""
    [found] = site.rows("mail")
    return found


def read(mail: bytes) -> EmailMessage:
    """Return a mail as its reader's program sees it."""
    message = message_from_bytes(mail, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def link_in(message: EmailMessage) -> str:
    """Return the path of the link in a mail."""
    text = message.get_body(("plain",))
    assert isinstance(text, EmailMessage)
    [link] = re.findall(r"^https?://\S+/auth/verify/\S+$", text.get_content(), re.MULTILINE)
    return urlsplit(link).path


def test_MAI_05_a_mail_arrives_as_it_was_sent(exim: Exim, make_mailing: Callable[..., Site]) -> None:
    """The mail of a sign-up is delivered byte for byte, by STARTTLS and a password, and its link works."""
    site = make_mailing()
    sent: list[Any] = []

    sign_up(site, "Ada.L+x@example.com")
    with flask_mail.email_dispatched.connected_to(lambda app, message: sent.append(message), sender=site.app):
        deliver(site)

    mail = exim.mail("Ada.L+x@example.com")
    [message] = sent
    # Each rendering has a boundary of its own between its parts.
    rendered = message.as_bytes().replace(b"\r\n", b"\n")
    ours = rendered.replace(read(rendered).get_boundary().encode(), read(mail).get_boundary().encode())
    assert mail.endswith(ours)
    added = read(mail.removesuffix(ours) + b"\n")
    assert set(added.keys()) == {"Return-path", "Envelope-to", "Received"}
    assert added["Return-path"] == "<accounts@example.com>"
    assert "esmtpsa" in added["Received"]
    found = read(mail)
    assert not found.defects
    assert (found["To"], found["Subject"]) == ("Ada.L+x@example.com", "Confirm your email for Shop")
    assert site.program().verify(link_in(found)).json["status"] == "verified"


def test_twenty_mails_over_one_connection(exim: Exim, make_mailing: Callable[..., Site]) -> None:
    """Twenty mails that are due together go over one connection, each to its recipient; it ends with a goodbye."""
    site = make_mailing()
    emails = [f"twenty-{number}@example.com" for number in range(20)]
    for email in emails:
        sign_up(site, email)
    before, taken, lines = exim.connections(), exim.taken(), len(exim.log)

    deliver(site)

    for email in emails:
        exim.mail(email)
    assert exim.connections() - before == 1
    assert exim.taken() - taken == 20
    assert [line.rpartition(" for ")[2] for line in exim.log if " <= " in line][-20:] == emails
    wait_until(lambda: any("closed by QUIT" in line for line in exim.log[lines:]), "the connection has ended", 20)


def test_implicit_tls(exim: Exim, make_mailing: Callable[..., Site]) -> None:
    """A mail goes out where TLS is spoken from the start, with a password by LOGIN, which is all that is offered."""
    site = make_mailing(MAIL_PORT=exim.tls_port, MAIL_USE_TLS=False, MAIL_USE_SSL=True)

    sign_up(site, "implicit@example.com")
    deliver(site)

    assert read(exim.mail("implicit@example.com"))["To"] == "implicit@example.com"
    assert any("implicit@example.com" in line and "A=login:shop" in line for line in exim.log)


def test_an_international_domain(exim: Exim, make_mailing: Callable[..., Site]) -> None:
    """A recipient and a sender with domains in any script go out with their ASCII forms."""
    site = make_mailing(MAIL_DEFAULT_SENDER=("Bücher", "accounts@bücher.example"))

    sign_up(site, "ada@bücher.example")
    deliver(site)

    found = read(exim.mail("ada@xn--bcher-kva.example"))
    assert (found["To"], found["Return-path"]) == ("ada@xn--bcher-kva.example", "<accounts@xn--bcher-kva.example>")
    [sender] = found["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ("Bücher", "accounts@xn--bcher-kva.example")
    assert found["Message-ID"].endswith("@xn--bcher-kva.example>")


def test_a_refused_recipient(exim: Exim, make_mailing: Callable[..., Site]) -> None:
    """A recipient whom Exim does not know ends that mail alone; the next one goes over the same connection."""
    site = make_mailing()
    before = exim.connections()

    for email in ("nobody@example.com", "somebody@example.com"):
        sign_up(site, email)
    deliver(site)

    exim.mail("somebody@example.com")
    assert [(mail.state, mail.last_error) for mail in site.rows("mail")] == [
        ("failed", "550 5.1.1 No such user"),
        ("sent", None),
    ]
    assert exim.connections() - before == 1


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"MAIL_PASSWORD": "wrong-1729"}, "535 Incorrect authentication data"),
        ({"MAIL_USERNAME": None}, "530 5.7.0 Authentication required"),
        ({"MAIL_USE_TLS": False, "MAIL_USERNAME": None}, "530 5.7.0 Must issue STARTTLS first"),
        ({"MAIL_USE_TLS": False}, "the server offers none"),
    ],
    ids=["wrong-password", "no-account", "no-tls", "no-tls-for-the-password"],
)
def test_a_wrong_configuration(
    config: dict[str, Any],
    reason: str,
    exim: Exim,
    make_mailing: Callable[..., Site],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What Exim has against the configuration is told to the operator without secrets, and costs no mail: it waits."""
    site = make_mailing(**config)
    taken = exim.taken()
    sign_up(site, "waiting@example.com")

    deliver(site)

    assert (row(site).state, row(site).attempts) == ("pending", 1)
    assert reason in row(site).last_error
    told = row(site).last_error + caplog.text
    assert not any(secret in told for secret in (PASSWORD, "wrong-1729", "waiting@example.com"))
    assert exim.taken() == taken

    state = site.app.extensions["mail"]
    state.use_tls, state.username, state.password = True, *ACCOUNT.values()
    site.clock.tick(5)
    deliver(site)
    assert row(site).state == "sent"
    assert exim.taken() == taken + 1


@pytest.mark.parametrize("config", [{}, {"MAIL_USE_TLS": False, "MAIL_USE_SSL": True}], ids=["starttls", "implicit"])
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"], ids=["unknown", "misnamed"])
def test_MAI_02_an_unknown_server(
    name: str, config: dict[str, Any], exim: Exim, make_mailing: Callable[..., Site], tmp_path: Path
) -> None:
    """An Exim whose certificate is not by our authority, or is not for its name, takes nothing and nobody logs in."""
    authority = Authority(tmp_path) if name == "localhost" else exim.authority
    port = exim.tls_port if config else exim.port
    site = make_mailing(MAIL_SERVER=name, MAIL_PORT=port, ACCOUNTFLOW_MAIL_CA_FILE=str(authority.file), **config)
    taken, before, lines = exim.taken(), exim.connections(), len(exim.log)
    sign_up(site, "waiting@example.com")

    deliver(site)

    assert row(site).state == "pending"
    assert "CERTIFICATE_VERIFY_FAILED" in row(site).last_error
    wait_until(lambda: exim.connections() == before + 1, "Exim has noticed", 20)
    wait_until(lambda: "TLS error" in "".join(exim.log[lines:]), "Exim has noticed why", 20)
    assert exim.taken() == taken


def test_the_dialogue_is_told(exim: Exim, make_mailing: Callable[..., Site]) -> None:
    """A test mail tells the dialogue step by step: who the server is, by whose word, and what it answers."""
    site = make_mailing(ACCOUNTFLOW_MAIL_EHLO_NAME="app.shop.example")

    with site.app.app_context():
        fault, steps = site.app.extensions["accountflow_delivery"].send_now("test", "test@example.com")

    assert fault is None
    patterns = (
        rf"connect localhost:{exim.port}: 127\.0\.0\.1",
        r"greeting: 220 mail\.example ESMTP Exim .*",
        r"EHLO app\.shop\.example: 250 .*STARTTLS.*",
        r"STARTTLS: 220 TLS go ahead",
        r"TLS: TLSv1\.[23], certificate of localhost by Test Authority, until \d{4}-\d\d-\d\d",
        r"EHLO app\.shop\.example: 250 .*AUTH PLAIN LOGIN.*",
        r"AUTH PLAIN: 235 Authentication succeeded",
        r"MAIL FROM: 250 OK",
        r"RCPT TO: 250 Accepted",
        r"DATA: 354 .*",
        r"end of DATA: 250 OK id=.*",
    )
    assert len(steps) == len(patterns)
    for step, pattern in zip(steps, patterns, strict=True):
        assert re.fullmatch(pattern, step)
    assert read(exim.mail("test@example.com"))["To"] == "test@example.com"
