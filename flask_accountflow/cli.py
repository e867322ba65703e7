"""``flask accountflow``: what an operator does by hand."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

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
from .forms import AccountForm, CreateUserForm, TestMailForm, check, from_json
from .mail.delivery import Deliverer
from .mail.kicks import deliver_forever
from .settings import PREFIX, declarations, shown
from .web.openapi import Description
from .web.visits import form_meta

F = TypeVar("F", bound=Form)
T = TypeVar("T")

#: Who is seeded for development.
_SEEDS = ("admin@example.com", "user1@example.com", "user2@example.com", "user3@example.com")
_MIGRATE = "Run 'flask accountflow init-db', or with Flask-Migrate 'flask db migrate' and 'flask db upgrade'."


class _Commands(AppGroup):
    """Commands that end with a sentence when the database does not do what it is asked."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except Refusal as refusal:
            raise _failed(refusal) from None
        except DBAPIError as error:
            raise click.ClickException(f"The database says: {error.orig}\nAre tables missing? {_MIGRATE}") from None


accountflow = _Commands("accountflow", help="Accounts: tables, configuration, users and mail.")


def _services() -> Services:
    services: Services = current_app.extensions["accountflow"]
    return services


def _run(flow: Callable[[Services, Any], T], form_class: type[Form], **data: Any) -> T:
    """Run a flow; a refusal ends the command with what is wrong."""
    try:
        return _flow(flow, form_class, **data)
    except Refusal as refusal:
        raise _failed(refusal) from None


def _flow(flow: Callable[[Services, Any], T], form_class: type[Form], **data: Any) -> T:
    """Run a flow in a unit of its own."""
    services = replace(_services(), own=True)
    return flow(services, _form(form_class, services, **data))


def _form(form_class: type[F], services: Services, **data: Any) -> F:
    form = from_json(form_class, data, form_meta(services))
    check(form)
    return form


def _failed(refusal: Refusal, name: Callable[[str], str] = str) -> click.ClickException:
    """Return the error that a refusal comes to. ``name`` says what the operator calls a field."""
    faults = "".join(f"\n{name(fault.field)}: {fault.detail}" for fault in refusal.fields)
    return click.ClickException(f"{refusal.title}{faults}")


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
    # What debug puts in the place of a mail server is not there in production.
    deployment = list(production_faults(replace(services.settings, debug=False, testing=False)))
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


@accountflow.command("openapi")
@with_appcontext
def show_openapi() -> None:
    """Print the description of the JSON API (OpenAPI 3.1)."""
    description: Description = current_app.extensions["accountflow_openapi"]
    click.echo(json.dumps(description.document(), indent=2, ensure_ascii=False))


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
    _tell_link(outcome, password)


def _tell_link(outcome: Outcome, password: str | None) -> None:
    """Show the link of a new account where it is not mailed, or say that one to set a password is mailed."""
    link = outcome.data.get("reset_url") or outcome.data.get("activation_url")
    if link is not None:
        click.echo(link)
    elif password is None:
        click.echo("A link to set a password is on its way.")


@accountflow.command("create-admin")
@click.option("--if-none", is_flag=True, required=True, help="Do nothing when there is an administrator.")
@with_appcontext
def create_admin(if_none: bool) -> None:
    """Create the administrator that ACCOUNTFLOW_FIRST_ADMIN_EMAIL names; for the start of a deployment."""
    services = replace(_services(), own=True)
    email, password = services.settings.first_admin_email, services.settings.first_admin_password
    if email is None:
        raise click.ClickException(f"{PREFIX}FIRST_ADMIN_EMAIL is missing. Set it to the administrator's address.")
    form = from_json(CreateUserForm, {"email": email, "password": password}, form_meta(services))
    try:
        outcome = admin.first_admin(services, form)
    except Refusal as refusal:
        raise _failed(refusal, lambda field: f"{PREFIX}FIRST_ADMIN_{field.upper()}") from None
    if outcome is None:
        click.echo("There is an administrator.")
        return
    click.echo(f"{outcome.data['email']} is an administrator.")
    if outcome.code == "user_created":
        _tell_link(outcome, password)


@accountflow.command("seed-users")
@click.argument("emails", nargs=-1)
@click.option("--password", default="users of development", show_default=True, help="The password of all of them.")
@with_appcontext
def seed_users(emails: tuple[str, ...], password: str) -> None:
    """Create verified users for development: admin@, user1@, user2@ and user3@example.com, or EMAILS."""
    if not _services().settings.relaxed:
        raise click.ClickException("Users with a known password are for debug and testing only.")
    for email in emails or _SEEDS:
        is_admin = email.strip().lower().startswith("admin@")
        data = {"email": email, "password": password, "email_verified": True, "is_admin": is_admin}
        try:
            _flow(admin.create_user, CreateUserForm, **data)
        except Refusal as refusal:
            if refusal.code != "email_taken":
                raise _failed(refusal) from None
            click.echo(f"{email} is there.")
            continue
        click.echo(f"Created {email}{', an administrator' if is_admin else ''}, with the password {password!r}.")


@accountflow.command("send-test-mail")
@click.argument("email")
@with_appcontext
def send_test_mail(email: str) -> None:
    """Send a test mail at once, and say what the mail server answers."""
    services = _services()
    address = _form(TestMailForm, services, to=email).to.address.email
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
