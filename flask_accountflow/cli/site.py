"""Commands about the site: tables, configuration, the description of the API, and cleaning up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import click
import sqlalchemy as sa
from flask import current_app
from flask.cli import with_appcontext

from ..configuration import production_faults
from ..flow import Services
from ..settings import PREFIX, declarations, shown
from ..web.openapi import Description
from .group import MIGRATE, accountflow, services_now


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
    services = services_now()
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
            yield f"The table {table.fullname} is missing. {MIGRATE}"
            continue
        there = {column["name"] for column in inspector.get_columns(table.name, schema=table.schema)}
        lacking = sorted(column.name for column in table.columns if column.name not in there)
        if lacking:
            yield f"The table {table.fullname} lacks {', '.join(lacking)}. {MIGRATE}"


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
@with_appcontext
def purge() -> None:
    """Delete dead links, logins and mails, and accounts that were never confirmed."""
    services = services_now()
    for name, count in services.store.purge.run(services.settings, services.clock()).items():
        click.echo(f"{name}: {count}")
