"""Commands about accounts."""

from __future__ import annotations

from dataclasses import replace

import click
from flask.cli import with_appcontext

from ..errors import Refusal
from ..flow import Outcome
from ..flows import admin
from ..forms import AccountForm, CreateUserForm, from_json
from ..settings import PREFIX
from ..web.visits import form_meta
from .group import accountflow, call_flow, failed, run_flow, services_now

#: Who is seeded for development.
_SEEDS = ("admin@example.com", "user1@example.com", "user2@example.com", "user3@example.com")


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
    outcome = run_flow(admin.create_user, CreateUserForm, **data)
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
    services = replace(services_now(), own=True)
    email, password = services.settings.first_admin_email, services.settings.first_admin_password
    if email is None:
        raise click.ClickException(f"{PREFIX}FIRST_ADMIN_EMAIL is missing. Set it to the administrator's address.")
    form = from_json(CreateUserForm, {"email": email, "password": password}, form_meta(services))
    try:
        outcome = admin.first_admin(services, form)
    except Refusal as refusal:
        raise failed(refusal, lambda field: f"{PREFIX}FIRST_ADMIN_{field.upper()}") from None
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
    if not services_now().settings.relaxed:
        raise click.ClickException("Users with a known password are for debug and testing only.")
    for email in emails or _SEEDS:
        is_admin = email.strip().lower().startswith("admin@")
        data = {"email": email, "password": password, "email_verified": True, "is_admin": is_admin}
        try:
            call_flow(admin.create_user, CreateUserForm, **data)
        except Refusal as refusal:
            if refusal.code != "email_taken":
                raise failed(refusal) from None
            click.echo(f"{email} is there.")
            continue
        click.echo(f"Created {email}{', an administrator' if is_admin else ''}, with the password {password!r}.")


@accountflow.command("verify-user")
@click.argument("email")
@with_appcontext
def verify_user(email: str) -> None:
    """Take an address as proved."""
    outcome = run_flow(admin.verify_user, AccountForm, email=email)
    click.echo(f"{outcome.data['email']} is verified.")


@accountflow.command("disable-user")
@click.argument("email")
@click.option("--undo", is_flag=True, help="Enable the account again.")
@with_appcontext
def disable_user(email: str, undo: bool) -> None:
    """Disable an account; all its logins and links end at once."""
    outcome = run_flow(admin.enable_user if undo else admin.disable_user, AccountForm, email=email)
    click.echo(f"{outcome.data['email']} is {'enabled' if undo else 'disabled'}.")


@accountflow.command("revoke")
@click.argument("email", required=False)
@click.option("--all", "everybody", is_flag=True, help="End every login of the site.")
@with_appcontext
def revoke(email: str | None, everybody: bool) -> None:
    """End every login and link of an account, or every login of the site. Passwords stay as they are."""
    if (email is None) is not everybody:
        raise click.UsageError("Name an address, or give --all.")
    if email is not None:
        outcome = run_flow(admin.revoke_sessions, AccountForm, email=email)
        click.echo(f"{outcome.data['email']} is logged out everywhere.")
        return
    count = admin.revoke_everybody(replace(services_now(), own=True)).data["count"]
    click.echo(f"{count} {'login' if count == 1 else 'logins'} ended.")
