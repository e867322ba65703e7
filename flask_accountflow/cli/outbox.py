"""Commands about the outbox: what is in it, and another try for what has failed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import click
from flask.cli import with_appcontext

from ..flow import Services
from ..identity import mask
from ..store.mailbox import DEAD_LINK, LEASED, MISSING, NO_ADDRESS, OUTDATED, Entry, Retry
from ..store.queue import DROPPED, FAILED, PENDING, SENT
from .group import accountflow, services_now

_HEAD = ("ID", "MAIL", "STATE", "QUEUED", "TRIES", "NEXT TRY", "RECIPIENT", "REASON")

# So many mails in one unit of work: no request waits long for the lock.
_PORTION = 100

_ASK_AGAIN = "Whoever waits for it asks for a new one on the site."
_OBSTACLES = {
    MISSING: "is not in the outbox. 'flask accountflow mails' lists what is.",
    SENT: "was sent already.",
    DROPPED: "was left out on purpose.",
    LEASED: "is in the hands of a sender right now.",
    NO_ADDRESS: "has no address any more: it was for somebody without an account, whose address is removed with the "
    "last try. It has to be asked for again.",
    OUTDATED: f"is too old to be sent. {_ASK_AGAIN}",
    DEAD_LINK: f"carries a link that works no more: it was used, or the account has changed since. {_ASK_AGAIN}",
}


@accountflow.command("mails")
@click.option("--failed", "state", flag_value=FAILED, help="Only those that were given up, the newest first.")
@click.option("--pending", "state", flag_value=PENDING, help="Only those that wait, the oldest first.")
@click.option("--sent", "state", flag_value=SENT, help="Only those that the mail server took, the newest first.")
@click.option("--dropped", "state", flag_value=DROPPED, help="Only those that were left out on purpose.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many to list.")
@click.option("--full", is_flag=True, help="Show whole addresses.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_appcontext
def mails(state: str | None, limit: int, full: bool, as_json: bool) -> None:
    """List the mails of the outbox, and say how many there are of each state. Never shows a link."""
    services = services_now()
    now, mailbox = services.clock(), services.store.mailbox
    entries, counts = mailbox.entries(state, limit, now), mailbox.counts()
    more = (sum(counts.values()) if state is None else counts[state]) - len(entries)
    if as_json:
        listed = [_described(entry, full=full) for entry in entries]
        click.echo(json.dumps({"mails": listed, "more": more, "counts": counts}, indent=2, ensure_ascii=False))
        return
    if entries:
        _echo_table([_HEAD, *(_row(entry, now, full=full) for entry in entries)])
    if more > 0:
        click.echo(f"… and {more} more; --limit shows them.")
    click.echo(", ".join(f"{name} {count}" for name, count in counts.items()))


def _echo_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(entry: Entry, now: datetime, *, full: bool) -> tuple[str, ...]:
    next_try = "-"
    if entry.state == PENDING:
        next_try = "now" if entry.is_leased or entry.next_attempt_at <= now else _moment(entry.next_attempt_at)
    return (
        str(entry.id),
        entry.template,
        entry.state,
        _moment(entry.created_at),
        str(entry.attempts),
        next_try,
        _recipient(entry, full=full) or "-",
        entry.reason or "-",
    )


def _described(entry: Entry, *, full: bool) -> dict[str, Any]:
    waits = entry.state == PENDING
    return {
        "id": entry.id,
        "mail": entry.template,
        "state": entry.state,
        "queued_at": _moment(entry.created_at),
        "expires_at": _moment(entry.expires_at),
        "sent_at": None if entry.sent_at is None else _moment(entry.sent_at),
        "next_try_at": _moment(entry.next_attempt_at) if waits else None,
        "tries": entry.attempts,
        "recipient": _recipient(entry, full=full),
        "reason": entry.reason,
    }


def _recipient(entry: Entry, *, full: bool) -> str | None:
    return entry.to_addr if full or entry.to_addr is None else mask(entry.to_addr)


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


@accountflow.command("retry")
@click.argument("ids", metavar="[ID]...", type=click.IntRange(1, 2**63 - 1), nargs=-1)
@click.option("--failed", "all_failed", is_flag=True, help="All that were given up.")
@with_appcontext
def retry(ids: tuple[int, ...], all_failed: bool) -> None:
    """Have mails tried again now: those that were given up, and those that wait."""
    if bool(ids) == all_failed:
        raise click.UsageError("Name mails by their ids, or give --failed.")
    services = replace(services_now(), own=True)
    wanted = services.store.mailbox.failed_ids() if all_failed else list(dict.fromkeys(ids))
    done = 0
    for start in range(0, len(wanted), _PORTION):
        portion = wanted[start : start + _PORTION]
        for result in services.unit(lambda portion=portion: _retry(services, portion)):  # type: ignore[misc]
            click.echo(f"Mail {result.id} {'is due now.' if result.obstacle is None else _OBSTACLES[result.obstacle]}")
            done += result.obstacle is None
    if not wanted:
        click.echo("No mail has failed.")
    elif not done:
        raise click.exceptions.Exit(1)


def _retry(services: Services, ids: Sequence[int]) -> list[Retry]:
    results = services.store.mailbox.retry(ids, services.clock())
    for one in results:
        if one.obstacle is None and one.entry is not None:
            services.announce("mail_queued", user_id=one.user_id, mail_id=one.id, template=one.entry.template)
    if any(one.obstacle is None for one in results):
        services.store.units.after_commit(services.kick)
    return results
