"""``flask accountflow``: what an operator does by hand."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import click
import sqlalchemy as sa
from flask import current_app
from flask.cli import AppGroup, with_appcontext
from sqlalchemy.exc import DBAPIError
from wtforms import Form

from .configuration import production_faults
from .errors import Refusal
from .flow import Outcome, Services
from .flows import admin
from .forms import AccountForm, CreateUserForm, check, from_json
from .mail.delivery import Deliverer
from .mail.kicks import deliver_forever
from .settings import PREFIX, declarations, shown
from .web.visits import form_meta

_MIGRATE = "Run 'flask db migrate' and 'flask db upgrade'."


class _Commands(AppGroup):
    """Commands that end with a sentence when the database does not do what it is asked."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except Refusal as refusal:
            raise click.ClickException(refusal.title) from None
        except DBAPIError as error:
            raise click.ClickException(f"The database says: {error.orig}\nAre tables missing? {_MIGRATE}") from None


accountflow = _Commands("accountflow", help="Accounts: tables, configuration, users and mail.")


def _services() -> Services:
    services: Services = current_app.extensions["accountflow"]
    return services


def _run(flow: Callable[[Services, Any], Outcome], form_class: type[Form], **data: Any) -> Outcome:
    """Run a flow in a unit of its own; a refusal ends the command with what is wrong."""
    services = replace(_services(), own=True)
    try:
        form = from_json(form_class, data, form_meta(services))
        check(form)
        return flow(services, form)
    except Refusal as refusal:
        faults = "".join(f"\n{fault.field}: {fault.detail}" for fault in refusal.fields)
        raise click.ClickException(f"{refusal.title}{faults}") from None


@accountflow.command("init-db")
@with_appcontext
def init_db() -> None:
    """Create the tables that are missing. For a real site use Flask-Migrate."""
    current_app.extensions["sqlalchemy"].create_all()
    click.echo("The tables are there.")


@accountflow.command("check")
@click.option("--production", is_flag=True, help="Judge as if debug and testing were off.")
@with_appcontext
def check_all(production: bool) -> None:
    """Tell what is wrong with this configuration and database; exit 1 when it is not fit."""
    services = _services()
    faults = [*_missing_tables(services)]
    deployment = list(production_faults(services.settings))
    if production or not services.settings.relaxed:
        faults += deployment
    for fault in faults:
        click.echo(f"fault: {fault}")
    for hint in _hints(services, deployment if not production else []):
        click.echo(f"hint: {hint}")
    if faults:
        raise click.exceptions.Exit(1)
    click.echo("No faults.")


def _missing_tables(services: Services) -> Iterator[str]:
    inspector: sa.Inspector = sa.inspect(services.store.units.connection())
    tables = services.store.tables
    for table in (tables.user, tables.token, tables.session, tables.mail):
        if not inspector.has_table(table.name, schema=table.schema):
            yield f"The table {table.fullname} is missing. {_MIGRATE}"
            continue
        there = {column["name"] for column in inspector.get_columns(table.name, schema=table.schema)}
        lacking = sorted(column.name for column in table.columns if column.name not in there)
        if lacking:
            yield f"The table {table.fullname} lacks {', '.join(lacking)}. {_MIGRATE}"


def _hints(services: Services, deployment: list[str]) -> Iterator[str]:
    yield from (f"refused in production: {fault}" for fault in deployment if services.settings.relaxed)
    if services.settings.ratelimit_enabled and services.settings.ratelimit_storage_uri == "memory://":
        yield f"Limits are counted in each process alone; set {PREFIX}RATELIMIT_STORAGE_URI when there are several."
    connection = services.store.units.connection()
    if connection.dialect.name == "sqlite":
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        if mode not in {"wal", "memory"}:
            yield "SQLite writes about twice as much in WAL mode: run 'PRAGMA journal_mode=WAL' once."


@accountflow.command("settings")
@with_appcontext
def show_settings() -> None:
    """List every setting with its value; secrets are not shown."""
    settings = _services().settings
    for one in declarations():
        value = getattr(settings, one.key.removeprefix(PREFIX).lower())
        mark = " " if value == one.default else "*"
        text = "(hidden)" if one.secret and value != one.default else shown(value)
        click.echo(f"{mark} {one.key} = {text}")


@accountflow.command("create-user")
@click.argument("email")
@click.option("--password", help="Without one, a link to set it is mailed. '-' asks for it.")
@click.option("--verified", is_flag=True, help="Take the address as proved.")
@click.option("--admin", "is_admin", is_flag=True, help="Make an administrator.")
@with_appcontext
def create_user(email: str, password: str | None, verified: bool, is_admin: bool) -> None:
    """Create an account."""
    if password == "-":
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    data = {"email": email, "password": password, "email_verified": verified, "is_admin": is_admin}
    outcome = _run(admin.create_user, CreateUserForm, **data)
    click.echo(f"Created {outcome.data['email']} ({outcome.data['id']}).")
    if password is None:
        click.echo("A link to set a password is on its way.")


@accountflow.command("verify-user")
@click.argument("email")
@with_appcontext
def verify_user(email: str) -> None:
    """Take an address as proved."""
    outcome = _run(admin.verify_user, AccountForm, email=email)
    click.echo(f"{outcome.data['email']} is verified.")


@accountflow.command("disable-user")
@click.argument("email")
@click.option("--undo", is_flag=True, help="Enable the account again.")
@with_appcontext
def disable_user(email: str, undo: bool) -> None:
    """Disable an account; all its logins and links end at once."""
    outcome = _run(admin.enable_user if undo else admin.disable_user, AccountForm, email=email)
    click.echo(f"{outcome.data['email']} is {'enabled' if undo else 'disabled'}.")


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


@accountflow.command("purge")
@with_appcontext
def purge() -> None:
    """Delete dead links, logins and mails, and accounts that were never confirmed."""
    services = _services()
    for name, count in services.store.purge.run(services.settings, services.clock()).items():
        click.echo(f"{name}: {count}")
