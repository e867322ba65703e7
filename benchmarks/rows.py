"""What people cost the database: statements and bytes of log for each flow, bytes of table and index for each row.

    python -m benchmarks.rows [--rows 200000] [--times 50] [--server postgresql://postgres@127.0.0.1]

It makes a database on that PostgreSQL server (15 or later, with its contrib modules), and drops it. First each flow
runs some times by itself, in this process: what one writes is the median. Then the rows of one person, as the flows
have left them, are copied with ids and addresses of their own, and the bytes of each table and index are divided by
their number. At last a purge deletes those that are dead in a year.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from flask import Flask
from sqlalchemy import event

from benchmarks.adapters.base import NEW_PASSWORD, PASSWORD
from example_app import create_app
from example_app.models import accounts, db
from flask_accountflow.services import now
from flask_accountflow.testing import link, record_letters

# As browsers name themselves.
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"


@contextmanager
def database(server: str) -> Iterator[str]:
    """Make a database of one's own on a PostgreSQL server, yield its address, and drop it."""
    url = sa.make_url(server).set(drivername="postgresql+psycopg")
    name = f"accountflow_bench_{secrets.token_hex(6)}"
    # A database to be connected with while another is made.
    there = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with there.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        with there.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        there.dispose()


def make_app(uri: str, folder: str) -> Flask:
    """Return the example app with its tables, whose mails leave when they are told to."""
    app = create_app(
        {
            "SECRET_KEY": secrets.token_hex(),
            "SQLALCHEMY_DATABASE_URI": uri,
            "MAIL_DEFAULT_SENDER": "accounts@example.com",
            "ACCOUNTFLOW_BASE_URL": "https://www.example.com",
            # What is hashed is not looked at here, only what is stored.
            "ACCOUNTFLOW_BCRYPT_ROUNDS": 4,
            "ACCOUNTFLOW_ALLOW_INSECURE": True,
            "ACCOUNTFLOW_MAIL_KICK": "worker",
            "ACCOUNTFLOW_MAIL_TRANSPORT": "file",
            "ACCOUNTFLOW_MAIL_FILE": str(Path(folder) / "mails"),
            "ACCOUNTFLOW_RATELIMIT_LOGIN_IP": "1000000/day",
            "ACCOUNTFLOW_RATELIMIT_MAIL_IP": "1000000/day",
        }
    )
    with app.app_context():
        db.create_all()
    return app


class Written(NamedTuple):
    """What one run of a flow has done in the database. ``rows`` counts those inserted, updated and deleted."""

    statements: int
    transactions: int
    rows: int
    log: int


class Ledger:
    """Keeps what each flow writes. A context manager."""

    def __init__(self, uri: str) -> None:
        self.flows: dict[str, list[Written]] = {}
        self._statements = self._transactions = self._rows = 0
        self._engine = sa.create_engine(uri, isolation_level="AUTOCOMMIT")
        self._beside = self._engine.connect()
        self._beside.execute(sa.text("CREATE EXTENSION pg_walinspect"))
        self._listeners: list[tuple[str, Callable[..., None]]] = [
            ("after_cursor_execute", self._note),
            ("commit", self._note_commit),
        ]

    def __enter__(self) -> Ledger:
        for name, listener in self._listeners:
            event.listen(sa.Engine, name, listener)
        return self

    def __exit__(self, *_: object) -> None:
        for name, listener in self._listeners:
            event.remove(sa.Engine, name, listener)
        self._beside.close()
        self._engine.dispose()

    def run(self, name: str, flow: Callable[[], Any]) -> Any:
        """Run a flow, note what it writes, and return what it returns."""
        begin = self._ask("SELECT pg_current_wal_flush_lsn()::text")
        self._statements = self._transactions = self._rows = 0
        result = flow()
        counts = self._statements, self._transactions, self._rows
        self.flows.setdefault(name, []).append(Written(*counts, self._log(begin)))
        return result

    def _ask(self, statement: str, **values: str) -> Any:
        return self._beside.execute(sa.text(statement), values).scalar_one()

    def _log(self, begin: str) -> int:
        """Return the bytes of the log that are about this database, without the whole pages after a checkpoint."""
        end = self._ask("SELECT pg_current_wal_flush_lsn()::text")
        if begin == end:
            return 0
        return int(
            self._ask(
                "SELECT coalesce(sum(record_length - fpi_length), 0) "
                "FROM pg_get_wal_records_info(CAST(:begin AS pg_lsn), CAST(:end AS pg_lsn)), pg_database "
                "WHERE datname = current_database() AND block_ref LIKE '%/' || oid || '/%'",
                begin=begin,
                end=end,
            )
        )

    def _note(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        self._statements += 1
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            self._rows += max(0, cursor.rowcount)

    def _note_commit(self, connection: sa.Connection) -> None:
        self._transactions += 1


class Person:
    """Somebody who goes through every flow, as a program."""

    def __init__(self, app: Flask, ledger: Ledger, number: int) -> None:
        self.email = f"person{number:08}@example.com"
        self._app = app
        self._ledger = ledger
        self._client = app.test_client()

    def go(self) -> None:
        """Go through every flow, and be logged in at the end."""
        self._post("sign-up", "signup", 202, password=PASSWORD)
        self._post("confirm", "verify", 200, token=self._deliver("mail: confirm"))
        self._post("wrong password", "login", 401, password=NEW_PASSWORD)
        tokens = self._post("login", "login", 200, password=PASSWORD)
        self._get_me("me, within 5 minutes", tokens)
        self._let_time_pass()
        self._get_me("me, later", tokens)
        tokens = self._post("refresh", "refresh", 200, refresh_token=tokens["refresh_token"])
        self._post("reset request", "password-reset/request", 202)
        tokens = self._post(
            "reset", "password-reset/confirm", 200, token=self._deliver("mail: reset"), password=NEW_PASSWORD
        )
        self._post("logout", "logout", 204, refresh_token=tokens["refresh_token"])
        self._deliver("mail: password changed")
        self._post("login", "login", 200, password=NEW_PASSWORD)

    def _post(self, name: str, path: str, status: int, **body: str) -> Any:
        body, headers = {"email": self.email, **body}, {"User-Agent": _BROWSER}
        answer = self._ledger.run(name, lambda: self._client.post(f"/auth/{path}", json=body, headers=headers))
        assert answer.status_code == status, (name, answer.text)
        return answer.json

    def _get_me(self, name: str, tokens: Mapping[str, str]) -> None:
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        # Buffered, so that what is left for after the answer is done, too.
        answer = self._ledger.run(name, lambda: self._client.get("/auth/me", headers=headers, buffered=True))
        assert answer.status_code == 200, answer.text

    def _let_time_pass(self) -> None:
        """Move the use of every login into the past, so that the next one is noted."""
        login = accounts.tables.session
        with self._app.app_context(), db.engine.begin() as connection:
            connection.execute(sa.update(login).values(last_seen_at=login.c.last_seen_at - timedelta(minutes=10)))

    def _deliver(self, name: str) -> str:
        """Send the one mail that waits, and return the token of its link, if it has one."""
        with record_letters(self._app) as letters:
            self._ledger.run(name, self._app.extensions["accountflow_delivery"].deliver_due)
        [letter] = letters
        return "" if letter.link is None else link(letter).rpartition("/")[2]


def copy(connection: sa.Connection, people: int) -> None:
    """Copy the rows of one person so often, each with ids and addresses of its own, and times in a row."""
    tables = accounts.tables
    owner = connection.execute(sa.select(tables.user_key).limit(1)).scalar_one()
    connection.execute(
        sa.text("CREATE TEMP TABLE people AS SELECT n, gen_random_uuid() AS id FROM generate_series(1, :people) n"),
        {"people": people},
    )
    # 26 characters, as the first has. What is random in a row is random in its copy.
    address = "'copied' || lpad(n::text, 8, '0') || '@example.com'"
    random = "md5(random()::text)"
    own = {
        tables.user.name: {"id": "people.id", "email": address, "email_key": address, "stamp": "gen_random_uuid()"},
        tables.token.name: {"id": "gen_random_uuid()", "email_key": address, "sent_to": address},
        tables.session.name: {"id": "gen_random_uuid()"},
        tables.mail.name: {
            "id": f"nextval(pg_get_serial_sequence('{tables.mail.name}', 'id'))",
            "token_id": "CASE WHEN source.token_id IS NULL THEN NULL ELSE gen_random_uuid() END",
            "to_key": f"{random} || {random}",
            # It begins with 16 signs of the address's key.
            "slot": f"overlay(source.slot placing substr({random}, 1, 16) from 1)",
            "message_id": f"overlay(source.message_id placing {random} from 1)",
        },
    }
    for table in (tables.user, tables.token, tables.session, tables.mail):
        columns = {one.name: f"source.{one.name}" for one in table.columns}
        for column in table.columns:
            if isinstance(column.type, sa.DateTime):
                columns[column.name] = f"source.{column.name} + n * interval '1 second'"
        if table is not tables.user:
            columns["user_id"] = "people.id"
        columns |= own[table.name]
        is_theirs = f"source.{'id' if table is tables.user else 'user_id'} = :owner"
        connection.execute(
            sa.text(
                f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT {', '.join(columns.values())} "
                f"FROM people, {table.name} source WHERE {is_theirs} ORDER BY n"
            ),
            {"owner": owner},
        )


def sizes(engine: sa.Engine) -> Iterator[tuple[str, int, float, Mapping[str, float]]]:
    """Yield for each table its name, its rows, and the bytes per row of the table and of each index."""
    tables = accounts.tables
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))
        for table in (tables.user, tables.token, tables.session, tables.mail):
            rows = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            indexes = connection.execute(
                sa.text(
                    "SELECT indexrelid::regclass::text, pg_relation_size(indexrelid) FROM pg_index "
                    "WHERE indrelid = CAST(:name AS regclass) ORDER BY 1"
                ),
                {"name": table.name},
            )
            found = {name: size / rows for name, size in indexes}
            heap = connection.execute(sa.text("SELECT pg_table_size(:name)"), {"name": table.name}).scalar_one()
            yield table.name, rows, heap / rows, found


def purge(app: Flask) -> tuple[int, float]:
    """Delete everything that will be dead in a year, and return how many rows that were and the seconds it took."""
    tools = app.extensions["accountflow"]
    started = time.perf_counter()
    with app.app_context():
        removed = tools.store.purge.run(tools.settings, now() + timedelta(days=365))
    return sum(removed.values()), time.perf_counter() - started


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="people whose rows are written")
    parser.add_argument("--times", type=int, default=50, help="how often each flow runs")
    parser.add_argument("--server", default="postgresql://postgres@127.0.0.1:5432")
    given = parser.parse_args()
    with database(given.server) as uri, tempfile.TemporaryDirectory() as folder:
        app = make_app(uri, folder)
        with Ledger(uri) as ledger:
            for number in range(given.times):
                Person(app, ledger, number).go()
        print("| flow | statements | transactions | rows written | bytes of log |\n|---|---|---|---|---|")
        for name, runs in ledger.flows.items():
            print(
                f"| {name} | " + " | ".join(f"{statistics.median(part):g}" for part in zip(*runs, strict=True)) + " |"
            )
        with app.app_context():
            with db.engine.begin() as connection:
                copy(connection, given.rows)
            print("\n| table | rows | bytes a row | of them indexes | each index |\n|---|---|---|---|---|")
            for name, rows, heap, indexes in sizes(db.engine):
                each = ", ".join(f"{index} {size:.0f}" for index, size in indexes.items())
                print(
                    f"| {name} | {rows} | {heap + sum(indexes.values()):.0f} | {sum(indexes.values()):.0f} | {each} |"
                )
        removed, took = purge(app)
        print(f"\npurge: {removed} rows in {took:.1f} s, {removed / took:.0f} /s")
        with app.app_context():
            db.engine.dispose()


if __name__ == "__main__":
    main()
