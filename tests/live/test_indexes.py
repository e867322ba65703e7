"""No statement reads a whole table, on any database, but for a few that are named here with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from databases import NAMES, database

from benchmarks.growth import FLOWS, OTHER_PASSWORD, PASSWORD, Action, Site, new_address, run
from example_app.models import accounts

pytestmark = pytest.mark.slow

TABLES = accounts.tables
OURS = tuple(table.name for table in (TABLES.user, TABLES.token, TABLES.session, TABLES.mail))

#: So many rows that no database finds it cheaper to read them all than the 200 of a purge.
ROWS = 10_000

#: Statements that may go over a whole table, by how they begin, and why.
ALLOWED: Mapping[str, str] = {
    r"SELECT users\.id FROM users ORDER BY users\.id LIMIT": "a purge asks where the first accounts end, in "
    "the order of their keys; so it goes over them once, and an index for that would cost each sign-up",
    r"SELECT count\(\*\) AS count_1 FROM \w+ WHERE": "purge --dry-run counts, for an operator",
    r"SELECT accountflow_mail\.state, count\(\*\) AS count_1 FROM accountflow_mail GROUP BY": "'mails' counts, for an "
    "operator",
    r"SELECT accountflow_mail\.id, .* FROM accountflow_mail (WHERE accountflow_mail\.state = \S+ )?"
    r"ORDER BY accountflow_mail\.id( DESC)? LIMIT": "'mails' lists, for an operator, by the key up to the limit",
    r"SELECT accountflow_mail\.id FROM accountflow_mail WHERE accountflow_mail\.state = \S+ ORDER BY": "'retry "
    "--failed' asks for all that have failed, for an operator",
    r"SELECT EXISTS \(SELECT \* FROM users WHERE users\.is_admin": "whether there is an administrator is asked "
    "by 'create-admin', where a deployment starts",
    r"UPDATE accountflow_session SET revoked_at=.* WHERE accountflow_session\.revoked_at IS NULL AND "
    r"accountflow_session\.expires_at > ": "'revoke --all' is about every login",
}

#: What has no plan.
_OTHER = re.compile(r"(SAVEPOINT|RELEASE|ROLLBACK|BEGIN|COMMIT|PRAGMA|INSERT|SHOW|DESCRIBE)\b")
#: Changes nothing: it takes SQLite's lock, or stands for an INSERT.
_NOTHING = re.compile(r"WHERE (0 = 1|false)$")


class Recorder:
    """Asks the database for the plan of each statement of a site when it is run first, with its values."""

    def __init__(self, engine: sa.Engine, beside: sa.Engine) -> None:
        #: Each statement, with where its plan goes over a whole table or index of ours; empty where it does not.
        self.walks: dict[str, str] = {}
        self._beside = beside
        sa.event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        statement = " ".join(statement.split())
        if statement in self.walks or _OTHER.match(statement) or _NOTHING.search(statement):
            return
        with self._beside.connect() as other:
            self.walks[statement] = _walk(other, statement, (values[0] if many else values) or None)


def _sign_up_twice(site: Site) -> Action:
    """Confirm one of two sign-ups of an address: the other one is looked at, and settled."""
    email = site.signed_up()
    run(site.post(202, "/signup", {"email": email, "password": OTHER_PASSWORD}))
    return site.post(200, site.link(email, "signup"), {"password": PASSWORD})


def _take_over(site: Site) -> Action:
    """Move to an address that somebody else has signed up with, and not confirmed."""
    taken, login = site.signed_up(), site.login()
    body = {"current_password": PASSWORD, "new_email": taken}
    run(site.post(202, "/email/change", body, **login.headers))
    return site.post(200, site.link(login.account.email, "change"))


def _reuse(site: Site) -> Action:
    """Use a refresh token twice."""
    body = {"refresh_token": site.login().answer.json["refresh_token"]}
    run(site.post(200, "/refresh", body))
    return site.post(401, "/refresh", body)


def _resend_by_dead_link(site: Site) -> Action:
    """Ask for another link by the one at hand."""
    token = site.link(site.signed_up(), "signup").rpartition("/")[2]
    return site.post(202, "/verify/resend", {"token": token})


def _fail_to_deliver(site: Site) -> Action:
    """Claim mails, and give them back."""
    for _ in range(3):
        site.signed_up()

    def act() -> str:
        queue, at = site.services.store.queue, site.services.clock()
        held = queue.claim(at)
        queue.defer(held[0], "later", at)
        queue.bury(held[1], "never")
        queue.release(held[2:])
        return ""

    return act


def _commands(*words: str) -> Callable[[Site], Action]:
    """Run ``flask accountflow …``."""

    def prepare(site: Site) -> Action:
        given = [site.member().email if word == "EMAIL" else word for word in words]

        def act() -> str:
            # Some end with 1, because there is nothing to be done.
            result = site.app.test_cli_runner().invoke(args=["accountflow", *given])
            return "" if isinstance(result.exception, SystemExit | None) else repr(result.exception)

        return act

    return prepare


#: What else has statements of its own. The purge comes last.
MORE: Mapping[str, Callable[[Site], Action]] = {
    "two sign-ups": _sign_up_twice,
    "an address that is taken over": _take_over,
    "a refresh token twice": _reuse,
    "resend by link": _resend_by_dead_link,
    "mails that fail": _fail_to_deliver,
    "log out everywhere": lambda site: site.post(204, "/logout", {"all": True}, **site.login().headers),
    "create-user": _commands("create-user", new_address(), "--password", PASSWORD),
    "verify-user": _commands("verify-user", "EMAIL"),
    "disable-user": _commands("disable-user", "EMAIL"),
    "revoke": _commands("revoke", "EMAIL"),
    "create-admin": _commands("create-admin", "--if-none"),
    "mails": _commands("mails"),
    "mails of a state": _commands("mails", "--pending"),
    "mails of another": _commands("mails", "--sent"),
    "retry": _commands("retry", "--failed"),
    "revoke all": _commands("revoke", "--all"),
    "purge, counted": _commands("purge", "--dry-run"),
    "purge": _commands("purge"),
}


@pytest.fixture(scope="module", params=NAMES)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """What was found on each database while the example app did everything it can do."""
    folder: Path = tmp_path_factory.mktemp(f"indexes-{request.param}")
    with database(request.param, folder) as beside:
        uri = beside.url.render_as_string(hide_password=False)
        with closing(Site(uri, folder, ACCOUNTFLOW_FIRST_ADMIN_EMAIL="boss@example.com")) as site:
            site.fill(ROWS)
            recorder = Recorder(site.engine, beside)
            for prepare in (*FLOWS.values(), *MORE.values()):
                run(prepare(site))
            yield recorder


def test_every_statement_goes_by_an_index(recorded: Recorder) -> None:
    """No statement of a flow, of delivery, of a purge or of a command reads a whole table, unless that is allowed."""
    assert len(recorded.walks) > 50
    walks = [f"{statement}\n    {walk}" for statement, walk in recorded.walks.items() if walk]
    refused = [one for one in walks if not any(re.match(pattern, one) for pattern in ALLOWED)]

    assert not refused, "\n\n".join(refused)


def test_what_is_allowed_is_there(recorded: Recorder) -> None:
    """Each statement that may go over a whole table is still run."""
    idle = [pattern for pattern in ALLOWED if not any(re.match(pattern, one) for one in recorded.walks)]

    assert idle == []


@pytest.mark.parametrize("table", [TABLES.token, TABLES.session, TABLES.mail], ids=lambda table: table.name)
def test_references_have_an_index(table: sa.Table) -> None:
    """Whoever is deleted takes their rows along by an index: one begins with the column of each foreign key."""
    indexes = {next(iter(index.columns)).name for index in table.indexes}
    uniques = {next(iter(one.columns)).name for one in table.constraints if isinstance(one, sa.UniqueConstraint)}

    assert {key.parent.name for key in table.foreign_keys} <= indexes | uniques


def _walk(connection: sa.Connection, statement: str, values: Any) -> str:
    """Return where the plan of a statement goes over a whole table or index of ours; empty when it does not."""
    find = {"sqlite": _walk_of_sqlite, "postgresql": _walk_of_postgresql}
    return find.get(connection.dialect.name, _walk_of_mariadb)(connection, statement, values)


def _walk_of_sqlite(connection: sa.Connection, statement: str, values: Any) -> str:
    steps = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
    found = [step for step in steps if step.startswith(tuple(f"SCAN {name}" for name in OURS))]
    return "; ".join(found)


def _walk_of_postgresql(connection: sa.Connection, statement: str, values: Any) -> str:
    # Reading all rows is then the last resort.
    connection.exec_driver_sql("SET enable_seqscan = off")
    [[plan]] = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", values)
    first = dict(map(tuple, connection.exec_driver_sql(_FIRST_COLUMNS)))
    found = []
    for node in _nodes(plan[0]["Plan"]):
        kind, index = node["Node Type"], node.get("Index Name")
        # What has no condition on the first column of its index reads all of it.
        if kind == "Seq Scan" or (index is not None and first[index] not in node.get("Index Cond", "")):
            found.append(
                f"{kind} of {node.get('Relation Name')} {index}: {node.get('Index Cond')} {node.get('Filter')}"
            )
    return "; ".join(found)


#: The name of each index of PostgreSQL, and its first column.
_FIRST_COLUMNS = """
    SELECT c.relname, a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
"""


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


def _walk_of_mariadb(connection: sa.Connection, statement: str, values: Any) -> str:
    # The optimizer is to count on no more than one row for each key that it looks up.
    connection.exec_driver_sql("SET SESSION max_seeks_for_key = 1")
    rows = connection.exec_driver_sql(f"EXPLAIN {statement}", values).mappings().all()
    found = [row for row in rows if row["type"] in {"ALL", "index"} and str(row["table"]).startswith(OURS)]
    return "; ".join(f"{row['type']} of {row['table']}, {row['key']}, {row['Extra']}" for row in found)
