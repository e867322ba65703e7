"""The group of the commands, and what they share: flows run as an operator, and errors that end with a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import click
from flask import current_app
from flask.cli import AppGroup
from sqlalchemy.exc import DBAPIError
from wtforms import Form

from ..errors import Refusal
from ..flow import Services
from ..forms import check, from_json
from ..web.visits import form_meta

F = TypeVar("F", bound=Form)
T = TypeVar("T")

MIGRATE = "Run 'flask accountflow init-db', or with Flask-Migrate 'flask db migrate' and 'flask db upgrade'."


class _Commands(AppGroup):
    """Commands that end with a sentence when the database does not do what it is asked."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except Refusal as refusal:
            raise failed(refusal) from None
        except DBAPIError as error:
            raise click.ClickException(f"The database says: {error.orig}\nAre tables missing? {MIGRATE}") from None


accountflow = _Commands("accountflow", help="Accounts: tables, configuration, users and mail.")


def services_now() -> Services:
    """Return what the current app's flows use."""
    services: Services = current_app.extensions["accountflow"]
    return services


def run_flow(flow: Callable[[Services, Any], T], form_class: type[Form], **data: Any) -> T:
    """Run a flow; a refusal ends the command with what is wrong."""
    try:
        return call_flow(flow, form_class, **data)
    except Refusal as refusal:
        raise failed(refusal) from None


def call_flow(flow: Callable[[Services, Any], T], form_class: type[Form], **data: Any) -> T:
    """Run a flow in a unit of its own."""
    services = replace(services_now(), own=True)
    return flow(services, fill(form_class, services, **data))


def fill(form_class: type[F], services: Services, **data: Any) -> F:
    """Return a form with ``data`` in it, checked; a :exc:`.Refusal` says what is wrong."""
    form = from_json(form_class, data, form_meta(services))
    check(form)
    return form


def failed(refusal: Refusal, name: Callable[[str], str] = str) -> click.ClickException:
    """Return the error that a refusal comes to. ``name`` says what the operator calls a field."""
    faults = "".join(f"\n{name(fault.field)}: {fault.detail}" for fault in refusal.fields)
    return click.ClickException(f"{refusal.title}{faults}")
