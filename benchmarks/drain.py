"""How fast waiting mails leave, against a bare smtplib loop to the same server in the same run.

    python -m benchmarks.drain [--mails 10000] [--peer-ms 0 5 20] [--database URI] [--senders 2]

For each peer (an SMTP server of its own process, on the loopback, that takes so many milliseconds for a mail) it
sends the mails twice: by one ``smtplib`` connection in a loop, already rendered, and by delivery from the outbox, which
reads, claims, renders and marks each. It prints mails per second of both, and their ratio. The database is a temporary
SQLite file unless one is named, whose accounts and mails are deleted.
"""

from __future__ import annotations

import argparse
import smtplib
import tempfile
import threading
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.sink import Sink
from example_app import create_app
from example_app.models import User, accounts, db
from flask_accountflow.mail.delivery import Deliverer
from flask_accountflow.mail.kicks import deliver_forever
from flask_accountflow.mail_smtp import Message
from flask_accountflow.services import now


def make_app(port: int, uri: str) -> Any:
    """Return the example app, delivering to ``port``, with its tables."""
    app = create_app(
        {
            "SECRET_KEY": "0123456789abcdef0123456789abcdef",
            "SQLALCHEMY_DATABASE_URI": uri,
            "MAIL_SERVER": "127.0.0.1",
            "MAIL_PORT": port,
            "MAIL_DEFAULT_SENDER": "accounts@example.com",
            "ACCOUNTFLOW_BASE_URL": "https://www.example.com",
            "ACCOUNTFLOW_MAIL_KICK": "worker",
        }
    )
    with app.app_context():
        db.create_all()
        db.session.execute(sa.text("PRAGMA journal_mode=WAL") if uri.startswith("sqlite") else sa.select(1))
    return app


def fill(app: Any, mails: int) -> None:
    """Write the mails of as many sign-ups, with their accounts and links."""
    at, tables = now(), accounts.tables
    ends = at + timedelta(days=1)
    ids = [(number, uuid.uuid4()) for number in range(mails)]
    with app.app_context():
        db.session.execute(sa.delete(tables.mail))
        db.session.execute(sa.delete(tables.token))
        db.session.execute(sa.delete(User))
        people = [User(email=f"person{number}@example.com", created_at=at) for number, _ in ids]
        db.session.add_all(people)
        db.session.flush()
        keys = [(person.id, person.stamp, person.email) for person in people]
        db.session.execute(
            sa.insert(tables.token),
            [
                {"id": link, "user_id": user, "email_key": email, "purpose": "signup", "stamp": stamp}
                | {"created_at": at, "expires_at": ends}
                for (_, link), (user, stamp, email) in zip(ids, keys, strict=True)
            ],
        )
        db.session.execute(
            sa.insert(tables.mail),
            [
                {"user_id": user, "token_id": link, "template": "verify", "to_addr": email, "to_key": f"{number:064x}"}
                | {"context": {}, "state": "pending", "message_id": f"{link.hex}@example.com", "attempts": 0}
                | {"created_at": at, "expires_at": ends, "next_attempt_at": at}
                for (number, link), (user, _, email) in zip(ids, keys, strict=True)
            ],
        )
        db.session.commit()


def drain(app: Any, mails: int, senders: int) -> float:
    """Deliver all that waits as the worker does, and return how many seconds that took."""
    deliverer: Deliverer = app.extensions["accountflow_delivery"]
    deliverer.senders = senders
    stop = threading.Event()
    started = time.perf_counter()
    worker = threading.Thread(target=deliver_forever, args=(deliverer, stop, 0.1, lambda line: None))
    worker.start()
    while _counts(app)["pending"]:
        time.sleep(0.05)
    took = time.perf_counter() - started
    stop.set()
    worker.join()
    assert _counts(app)["sent"] == mails, _counts(app)
    return took


def _counts(app: Any) -> dict[str, int]:
    with app.app_context():
        found: dict[str, int] = app.extensions["accountflow"].store.mailbox.counts()
    return found


def bare(app: Any, port: int, mails: int) -> float:
    """Send a rendered mail so often by one connection, and return how many seconds that took."""
    deliverer: Any = app.extensions["accountflow_delivery"]
    [waiting] = app.extensions["accountflow"].store.queue.claim(now(), 1)
    with app.app_context():
        body = Message(deliverer._render(waiting)).as_bytes()
    app.extensions["accountflow"].store.queue.release([waiting])
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        started = time.perf_counter()
        for _ in range(mails):
            client.sendmail("accounts@example.com", [waiting.to_addr], body)
        return time.perf_counter() - started


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mails", type=int, default=10_000)
    parser.add_argument("--peer-ms", type=float, nargs="+", default=[0, 5, 20])
    parser.add_argument("--senders", type=int, default=2)
    parser.add_argument("--database", help="SQLAlchemy's address of an empty database")
    given = parser.parse_args()
    print("| the server takes | smtplib, one connection | from the outbox | ratio |\n|---|---|---|---|")
    for milliseconds in given.peer_ms:
        with tempfile.TemporaryDirectory() as folder, Sink(milliseconds / 1000) as sink:
            app = make_app(sink.port, given.database or f"sqlite:///{Path(folder) / 'drain.db'}")
            fill(app, given.mails)
            plain = given.mails / bare(app, sink.port, given.mails)
            ours = given.mails / drain(app, given.mails, given.senders)
            print(f"| {milliseconds:g} ms | {plain:.0f} /s | {ours:.0f} /s | {ours / plain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
