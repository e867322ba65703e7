"""Commands about the site: tables, configuration, the description of the API, and cleaning up."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import click
import sqlalchemy as sa
from flask import current_app
from flask.cli import with_appcontext

from ..configuration import production_faults
from ..contract import promises
from ..counters import Store, StoreDown
from ..flow import Services
from ..settings import PREFIX, Settings, declarations, is_loopback, shown
from ..throttle import LimitsThrottle
from ..web.blueprint import WELL_KNOWN
from ..web.openapi import Description
from ..web.previews import Previews
from ..web.words import in_words
from .group import MIGRATE, accountflow, services_now


@accountflow.command("init-db")
@with_appcontext
def init_db() -> None:
    """Create the tables that are missing. For a real site use Flask-Migrate."""
    current_app.extensions["sqlalchemy"].create_all()
    click.echo("The tables are there.")


@accountflow.command("check")
@click.option("--production", is_flag=True, help="Judge as if debug and testing were off.")
@click.option("--contract", is_flag=True, help="Only tell which promises about security the settings keep.")
@with_appcontext
def check_all(production: bool, contract: bool) -> None:
    """Tell what is wrong with this configuration and database; exit 1 when it is not fit."""
    services = services_now()
    if contract:
        _tell_promises(services.settings, production)
        return
    previews: Previews = current_app.extensions["accountflow_previews"]
    faults = [*_missing_tables(services), *_uncounted_limits(services), *previews.faults()]
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


def _tell_promises(settings: Settings, production: bool) -> None:
    judged = replace(settings, debug=False, testing=False) if production else settings
    for promise in promises(judged):
        click.echo(str(promise))


def _missing_tables(services: Services) -> Iterator[str]:
    inspector: sa.Inspector = sa.inspect(services.store.units.connection())
    tables = services.store.tables
    for table in (tables.user, tables.token, tables.session, tables.mail):
        if not inspector.has_table(table.name, schema=table.schema):
            yield f"The table {table.fullname} is missing. {MIGRATE}"
            continue
        there = {column["name"] for column in inspector.get_columns(table.name, schema=table.schema)}
        lacking = sorted(column.name for column in table.columns if column.name not in there)
        if lacking:
            yield f"The table {table.fullname} lacks {', '.join(lacking)}. {MIGRATE}"


def _uncounted_limits(services: Services) -> Iterator[str]:
    """Try the store of the limits once. An app that counts by itself has none of ours."""
    uri = services.settings.ratelimit_storage_uri
    if not isinstance(services.throttle, LimitsThrottle) or urlsplit(uri).scheme == "memory":
        return
    try:
        Store(uri, time.time).clear("check")
    except StoreDown:
        # Its log says which fault it was; the address may hold a password.
        yield (
            f"The store of the limits does not answer: each process counts alone. Check {PREFIX}RATELIMIT_STORAGE_URI, "
            "that the library for it is installed, and that it runs."
        )


def _hints(services: Services, deployment: list[str]) -> Iterator[str]:
    yield from (f"refused in production: {fault}" for fault in deployment if services.settings.relaxed)
    if services.settings.ratelimit_enabled and services.settings.ratelimit_storage_uri == "memory://":
        yield f"Limits are counted in each process alone; set {PREFIX}RATELIMIT_STORAGE_URI when there are several."
    yield from _open_password(services.settings)
    mounted = urlsplit(services.settings.base_url or "").path.rstrip("/")
    if mounted and WELL_KNOWN in current_app.view_functions:
        address = "/.well-known/change-password"
        yield f"Password managers look for {address} of the host: let the web server send it to {mounted}{address}."
    connection = services.store.units.connection()
    if connection.dialect.name == "sqlite":
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        if mode not in {"wal", "memory"}:
            yield "SQLite writes about twice as much in WAL mode: run 'PRAGMA journal_mode=WAL' once."


def _open_password(settings: Settings) -> Iterator[str]:
    mail = current_app.extensions.get("mail")
    if settings.transport != "smtp" or mail is None or not (mail.username and mail.password):
        return
    if not (mail.use_tls or mail.use_ssl or is_loopback(mail.server)):
        yield "MAIL_PASSWORD is told in clear in your network, and not at all beyond. Set MAIL_USE_TLS or MAIL_USE_SSL."


@accountflow.command("settings")
@with_appcontext
def show_settings() -> None:
    """List every setting with its value; secrets are not shown."""
    settings = services_now().settings
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


@accountflow.command("purge")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@with_appcontext
def purge(dry_run: bool) -> None:
    """Delete dead links, logins and mails, and accounts that were never confirmed. Mails that wait stay."""
    services = services_now()
    settings, now, store = services.settings, services.clock(), services.store
    found = store.purge.count(settings, now) if dry_run else store.purge.run(settings, now)
    tables = store.tables
    kept, unconfirmed = in_words(settings.link_keep_age), in_words(settings.unverified_max_age)
    reasons = {
        tables.mail.name: f"sent, given up or left out, and over for {kept}",
        tables.token.name: f"links, over for {kept}",
        tables.session.name: f"logins, over for {kept}",
        tables.user.name: f"accounts, not confirmed for {unconfirmed}",
    }
    click.echo("To be deleted:" if dry_run else "Deleted:")
    for name, reason in reasons.items():
        click.echo(f"{name}: {found[name]} ({reason})")
