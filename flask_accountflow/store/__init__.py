"""All SQL of the package, by noun: accounts, links, logins, the outbox."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..models import Tables
from ..settings import Settings
from .accounts import Accounts
from .links import Links
from .mailbox import Mailbox
from .outbox import Outbox
from .purge import Purge
from .queue import Queue
from .sessions import Sessions
from .unit import SessionRegistry, Units


@dataclass(frozen=True)
class Store:
    """The SQL of one app."""

    tables: Tables
    units: Units
    accounts: Accounts
    links: Links
    sessions: Sessions
    outbox: Outbox
    queue: Queue
    mailbox: Mailbox
    purge: Purge


def build(
    user_model: type,
    tables: Tables,
    settings: Settings,
    *,
    registry: Callable[[], SessionRegistry],
    begin: Callable[[], AbstractContextManager[sa.Connection]],
    outbox_key: bytes,
) -> Store:
    """Return the store of one app.

    ``registry`` returns the app's ``db.session``; ``begin`` opens a transaction on a connection of
    its own, for what runs beside requests.
    """
    mapper: Any = sa.inspect(user_model)
    units = Units(registry, mapper, tables.mail)
    links = Links(units, mapper, tables)
    outbox = Outbox(
        units,
        links,
        tables,
        key=outbox_key,
        rates=settings.mail_per_address,
        pause=settings.resend_after,
        sender_domain=settings.mail_sender.rpartition("@")[2] or "localhost.invalid",
    )
    return Store(
        tables=tables,
        units=units,
        accounts=Accounts(units, user_model, mapper, tables),
        links=links,
        sessions=Sessions(units, user_model, mapper, tables, begin),
        outbox=outbox,
        queue=Queue(tables, user_model, begin),
        mailbox=Mailbox(units, mapper, tables),
        purge=Purge(units, mapper, tables),
    )
