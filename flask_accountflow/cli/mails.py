"""Commands about sending: a test mail, and delivery."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import click
from flask import Flask, current_app
from flask.cli import with_appcontext
from sqlalchemy.exc import SQLAlchemyError

from .. import events
from ..configuration import production_faults
from ..forms import TestMailForm
from ..mail.delivery import Deliverer
from ..mail.kicks import deliver_forever
from ..settings import Settings
from .group import accountflow, fill, services_now

# What to do about the step at which a mail was not handed over. The first pattern that is found counts.
_ADVICE = {
    "MAIL_SUPPRESS_SEND": "It is on by itself under TESTING. Set MAIL_SUPPRESS_SEND to False.",
    "ConnectionRefused": "Nobody listens there. Check MAIL_SERVER, MAIL_PORT, and that the mail server runs.",
    "gaierror": "There is no computer of that name. Check MAIL_SERVER.",
    "CERTIFICATE_VERIFY_FAILED": "Set MAIL_SERVER to the name in the certificate, or ACCOUNTFLOW_MAIL_CA_FILE to the "
    "certificates that it is to be checked against.",
    "WRONG_VERSION_NUMBER|SMTPNotSupported|SMTPServerDisconnected": "Perhaps the port wants another kind of "
    "encryption: 587 goes with MAIL_USE_TLS, 465 with MAIL_USE_SSL.",
    r"^AUTH|: 5(03|3[0458]) ": "Check MAIL_USERNAME and MAIL_PASSWORD. Some providers want an app password.",
    r"^MAIL FROM: [45]": "The server does not let you send as MAIL_DEFAULT_SENDER. Set it to your address there.",
    r"^RCPT TO: [45]": "The server does not take mail for this address. Where it says 'relay', log in: set "
    "MAIL_USERNAME and MAIL_PASSWORD.",
    "(?i)time-?out|timed out": "No answer in time. Check MAIL_SERVER and MAIL_PORT, and that no firewall is between.",
}


@accountflow.command("send-test-mail")
@click.argument("email")
@with_appcontext
def send_test_mail(email: str) -> None:
    """Send a test mail at once, and say what the mail server answers."""
    services = services_now()
    address = fill(TestMailForm, services, to=email).to.address.email
    deliverer: Deliverer = current_app.extensions["accountflow_delivery"]
    for hint in _missing(services.settings):
        click.echo(f"hint: {hint}")
    fault, steps = deliverer.send_now("test", address)
    for step in steps:
        click.echo(step)
    end = steps[-1] if steps else ""
    if fault is None and "MAIL_SUPPRESS_SEND" not in end:
        click.echo(f"Handed over by {services.settings.transport}.")
        return
    advice = next((advice for pattern, advice in _ADVICE.items() if re.search(pattern, end or str(fault))), "")
    raise click.ClickException(f"Not sent by {services.settings.transport}: {fault or end}\n{advice}".rstrip())


def _missing(settings: Settings) -> Iterator[str]:
    """Yield what the configuration lacks for sending mail."""
    yield from (fault for fault in production_faults(settings) if fault.startswith("MAIL_"))
    if "mail" in current_app.extensions and settings.transport == "smtp" and not settings.mail_server:
        yield "MAIL_SERVER is missing, so the mail server of this computer is tried. Set it to the name of yours."


@accountflow.command("deliver")
@click.option("--once/--forever", default=True, help="Deliver what is due and end, or go on until SIGTERM.")
@with_appcontext
def deliver(once: bool) -> None:
    """Deliver the mails that are waiting. Going on, it says each minute how many wait."""
    deliverer: Deliverer = current_app.extensions["accountflow_delivery"]
    if once:
        handled = deliverer.deliver_due()
        click.echo(f"{handled} {'mail' if handled == 1 else 'mails'} handled.")
        return
    _deliver_forever(current_app._get_current_object(), deliverer)  # type: ignore[attr-defined]


def _deliver_forever(app: Flask, deliverer: Deliverer) -> None:
    health = _Health(app)
    # A database that does not answer now ends the command; one that goes away later does not.
    line = f"Delivering with {deliverer.senders} senders by {_means(app)}. {health.read()}"
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    click.echo(line)
    threading.Thread(target=health.tell, args=(stop, click.echo), daemon=True).start()
    deliver_forever(deliverer, stop, report=click.echo)
    click.echo(f"Ended. {health}")


def _means(app: Flask) -> str:
    """Return by what mails go out, and to which server."""
    transport = app.extensions["accountflow"].settings.transport
    mail = app.extensions.get("mail")
    return f"{transport} ({mail.server}:{mail.port})" if transport == "smtp" and mail is not None else transport


class _Health:
    """How delivery does: what waits and what was given up, by the outbox; what was sent, by this process."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._sent = 0
        self._lock = threading.Lock()
        events.mail_sent.connect(self._count, sender=app)

    def _count(self, sender: Any, **payload: Any) -> None:
        with self._lock:
            self._sent += 1

    def read(self) -> str:
        """Return the line. Raises what the database raises."""
        with self._app.app_context():
            services = services_now()
            status = services.store.mailbox.status(services.clock())
        age = "" if status.oldest is None else f", oldest {status.oldest} s"
        return f"pending {status.pending}{age}, failed {status.failed}, sent {self._sent}"

    def __str__(self) -> str:
        """Return the line, or that the database does not answer."""
        try:
            return self.read()
        except SQLAlchemyError as error:
            return f"The database does not answer ({type(error).__name__}), sent {self._sent}"

    def tell(self, stop: threading.Event, say: Callable[[str], Any], every: float = 60) -> None:
        """Say the line after each so many seconds, until it is stopped."""
        while not stop.wait(every):
            say(f"Delivering. {self}")
