"""Filling a database fast: as many accounts, logins, links and mails as are wanted, as months of use leave them.

The database makes the rows itself, in one statement for each table. Rows are inserted in the order of their age.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from flask_accountflow.models import Tables

_DAY = 86400
#: How many days ago the first account was made, and the first of the other rows.
ACCOUNT_DAYS, ROW_DAYS = 400, 120

#: How the databases say what filling needs. MariaDB keeps ids as the letters of a UUID, and so does SQLite.
_WORDS: Mapping[str, Mapping[str, str]] = {
    "sqlite": {
        "numbers": "(WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < {last}) SELECT n FROM c)",
        "id": "lower(hex(randomblob(16)))",
        "hex": "lower(hex(randomblob(32)))",
        "text": "CAST({} AS text)",
        "join": "{} || {}",
        "seconds": "strftime('%Y-%m-%d %H:%M:%S.000000', {}, CAST({} AS integer) || ' seconds')",
        "now": "'now'",
        "analyze": "ANALYZE",
    },
    "postgresql": {
        "numbers": "(SELECT n FROM generate_series(0, {size} - 1) AS c(n))",
        "id": "gen_random_uuid()",
        "hex": "md5(random()::text) || md5(random()::text)",
        "text": "CAST({} AS text)",
        "join": "{} || {}",
        "seconds": "{} + floor({}) * interval '1 second'",
        "now": "date_trunc('second', now())",
        "analyze": "ANALYZE",
    },
    "mysql": {
        "numbers": "(SELECT seq AS n FROM seq_0_to_{last})",
        "id": "md5(concat(rand(), uuid()))",
        "hex": "concat(md5(uuid()), md5(rand()))",
        "text": "CAST({} AS char)",
        "join": "concat({}, {})",
        "seconds": "date_add({}, INTERVAL floor({}) SECOND)",
        "now": "utc_timestamp()",
        "analyze": "ANALYZE TABLE {tables}",
    },
}

_NO = "(1 = 0)"


class Population:
    """Makes the rows of one database, whose tables are there and empty."""

    def __init__(self, engine: sa.Engine, tables: Tables, password_hash: str) -> None:
        self._engine = engine
        self._tables = tables
        self._hash = password_hash
        # MariaDB calls itself either way.
        name = engine.dialect.name
        self._words = _WORDS["mysql" if name == "mariadb" else name]

    def fill(self, size: int) -> None:
        """Insert ``size`` rows into each table, and tell the database to count what it has."""
        if size:
            with self._engine.connect() as connection:
                if connection.dialect.name == "sqlite":
                    # For this connection only. The rows of a random key come to all pages of an index.
                    connection.exec_driver_sql("PRAGMA cache_size=-4000000")
                    connection.exec_driver_sql("PRAGMA synchronous=OFF")
                for statement in (self._accounts(size), self._logins(size), self._links(size), self._mails(size)):
                    connection.execute(sa.text(statement))
                    connection.commit()
                connection.invalidate()
        self.analyze()

    def analyze(self) -> None:
        """Let the database count what it has; PostgreSQL also marks which pages hold nothing that is gone."""
        tables = self._tables
        names = ", ".join(table.name for table in (tables.user, tables.token, tables.session, tables.mail))
        with self._engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("VACUUM")
            connection.exec_driver_sql(self._words["analyze"].format(tables=names))

    def _accounts(self, size: int) -> str:
        """One in twenty was never confirmed, and one in a thousand is disabled."""
        made = self._ago(f"({size} - n) * ({ACCOUNT_DAYS * _DAY}.0 / {size})")
        email = self._join(self._join("'person'", self._words["text"].format("n")), "'@people.example'")
        return self._insert(
            self._tables.user,
            {
                "id": self._words["id"],
                "email": email,
                "email_key": email,
                "password_hash": f"CASE WHEN n % 20 <> 0 THEN '{self._hash}' END",
                "email_verified_at": f"CASE WHEN n % 20 <> 0 THEN {made} END",
                "is_active": "n % 1000 <> 7",
                "is_admin": _NO,
                "stamp": self._words["id"],
                "created_at": made,
            },
            self._words["numbers"].format(size=size, last=size - 1) + " numbered",
        )

    def _logins(self, size: int) -> str:
        """One for each account: half of programs and half of browsers, three in ten ended by their owners."""
        made = self._age(size)
        return self._insert(
            self._tables.session,
            {
                "id": self._words["id"],
                "user_id": "id",
                "kind": "CASE WHEN n % 2 = 0 THEN 'browser' ELSE 'api' END",
                "stamp": "stamp",
                "generation": "n % 7",
                "remember": "n % 2 = 0",
                "created_at": made,
                "last_seen_at": made,
                "authenticated_at": made,
                "expires_at": self._later(made, f"{14 * _DAY} + n % 2 * {16 * _DAY}"),
                "revoked_at": f"CASE WHEN n % 10 < 3 THEN {made} END",
                "ip": "'192.0.2.7'",
                "user_agent": "'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0'",
            },
            self._numbered(self._tables.user, "id"),
        )

    def _links(self, size: int) -> str:
        """One for each account: sign-ups, resets, and decoys of addresses that nobody has; one in five was not used."""
        made, is_decoy = self._age(size), "n % 10 = 9"
        return self._insert(
            self._tables.token,
            {
                "id": self._words["id"],
                "user_id": f"CASE WHEN {is_decoy} THEN NULL ELSE id END",
                "email_key": f"CASE WHEN {is_decoy} THEN {self._words['hex']} ELSE email_key END",
                "purpose": "CASE WHEN n % 10 < 6 THEN 'signup' ELSE 'reset' END",
                "sent_to": f"CASE WHEN {is_decoy} THEN NULL ELSE email END",
                "stamp": f"CASE WHEN {is_decoy} THEN NULL ELSE stamp END",
                "created_at": made,
                "expires_at": self._later(made, str(_DAY)),
                "used_at": f"CASE WHEN n % 5 <> 0 THEN {made} END",
                "outcome": f"CASE WHEN {is_decoy} THEN 'decoy' WHEN n % 5 <> 0 THEN 'redeemed' END",
            },
            self._numbered(self._tables.user, "id"),
        )

    def _mails(self, size: int) -> str:
        """One for each link: one in ten left out, one in 1,000 given up, one in 10,000 waits for another try."""
        made = self._age(size)
        waits = "n % 10000 = 1"
        state = f"CASE WHEN {waits} THEN 'pending' WHEN n % 1000 = 3 THEN 'failed' ELSE 'sent' END"
        is_out = "user_id IS NULL"
        return self._insert(
            self._tables.mail,
            {
                "user_id": "user_id",
                "token_id": "id",
                "template": "CASE WHEN purpose = 'signup' THEN 'verify' ELSE 'reset' END",
                "to_addr": "sent_to",
                "to_key": self._words["hex"],
                "slot": f"CASE WHEN {is_out} THEN NULL ELSE "
                + self._join(f"substr({self._words['hex']}, 1, 16)", r"'\:verify\:0000000001'")
                + " END",
                "state": f"CASE WHEN {is_out} THEN 'dropped' ELSE {state} END",
                "message_id": self._join(f"substr({self._words['hex']}, 1, 32)", "'@example.com'"),
                "created_at": made,
                "expires_at": self._later(made, f"CASE WHEN {waits} THEN {(ROW_DAYS + 1) * _DAY} ELSE {_DAY} END"),
                "attempts": "1",
                "next_attempt_at": f"CASE WHEN {waits} THEN {self._later(self._words['now'], '3600')} ELSE {made} END",
                "sent_at": f"CASE WHEN {is_out} OR n % 1000 IN (1, 3) THEN NULL ELSE {made} END",
            },
            self._numbered(self._tables.token, "created_at"),
        )

    def _insert(self, table: sa.Table, values: Mapping[str, str], source: str) -> str:
        return f"INSERT INTO {table.name} ({', '.join(values)}) SELECT {', '.join(values.values())} FROM {source}"

    @staticmethod
    def _numbered(table: sa.Table, order: str) -> str:
        return f"(SELECT t.*, row_number() OVER (ORDER BY {order}) - 1 AS n FROM {table.name} t) numbered"

    def _join(self, first: str, second: str) -> str:
        return self._words["join"].format(first, second)

    def _later(self, moment: str, seconds: str) -> str:
        return self._words["seconds"].format(moment, f"({seconds})")

    def _ago(self, seconds: str) -> str:
        return self._later(self._words["now"], f"-({seconds})")

    def _age(self, size: int) -> str:
        return self._ago(f"({size} - n) * ({ROW_DAYS * _DAY}.0 / {size})")
