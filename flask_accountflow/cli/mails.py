"""Commands about mail."""

from __future__ import annotations

import signal
import threading

import click
from flask import current_app
from flask.cli import with_appcontext

from ..configuration import production_faults
from ..forms import TestMailForm
from ..mail.delivery import Deliverer
from ..mail.kicks import deliver_forever
from .group import accountflow, fill, services_now


@accountflow.command("send-test-mail")
@click.argument("email")
@with_appcontext
def send_test_mail(email: str) -> None:
    """Send a test mail at once, and say what the mail server answers."""
    services = services_now()
    address = fill(TestMailForm, services, to=email).to.address.email
    deliverer: Deliverer = current_app.extensions["accountflow_delivery"]
    fault = deliverer.send_now("test", address)
    for hint in production_faults(services.settings):
        if hint.startswith("MAIL_"):
            click.echo(f"hint: {hint}")
    if getattr(current_app.extensions.get("mail"), "suppress", False):
        click.echo("hint: MAIL_SUPPRESS_SEND is on, as it is under TESTING: nothing leaves this computer.")
    if fault is not None:
        raise click.ClickException(f"Not sent by {services.settings.transport}: {fault}")
    click.echo(f"Handed over by {services.settings.transport}.")


@accountflow.command("deliver")
@click.option("--once/--forever", default=True, help="Deliver what is due and end, or go on until SIGTERM.")
@with_appcontext
def deliver(once: bool) -> None:
    """Deliver the mails that are waiting."""
    deliverer: Deliverer = current_app.extensions["accountflow_delivery"]
    if once:
        handled = deliverer.deliver_due()
        click.echo(f"{handled} {'mail' if handled == 1 else 'mails'} handled.")
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    click.echo("Delivering. SIGTERM ends it.")
    deliver_forever(deliverer, stop, report=click.echo)
