"""Whether a site slows down as it grows: each flow with 0, 100,000 and 1 million accounts, sessions, links and mails.

    python -m benchmarks.growth                                     # SQLite, in a temporary folder
    python -m benchmarks.growth --database postgresql://postgres@127.0.0.1/postgres
    python -m benchmarks.growth --sizes 0 10000000                  # some tens of gigabytes; fills for long
    python -m benchmarks.growth --purge 500000                      # logins beside a purge of a million dead rows

There is a database for each size, made for the run and dropped afterwards; on PostgreSQL the one that is named is only
for getting there. The flows go to the example app in this process, each in turn on each database, and what they need is
made before the clock runs. A flow passes when no median is 1.3 times that of the empty database or more, or no first
quartile is, which other programs on the machine move less; and when it takes as many statements everywhere. Of one that
fails, the statement is printed that has grown most.

With ``--purge`` a second process logs in again and again, before and while this one purges. Its connections wait for a
lock for 100 ms at most: a purge passes when that was always enough. How long the logins took tells of the disk, too.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import random
import secrets
import statistics
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import sqlalchemy as sa
from werkzeug.test import EnvironBuilder, run_wsgi_app

from benchmarks.population import Population
from benchmarks.report import TITLES
from benchmarks.written import written
from example_app import create_app
from example_app.models import accounts, db
from flask_accountflow.flow import Services
from flask_accountflow.identity import canonical
from flask_accountflow.passwords import BcryptHasher
from flask_accountflow.services import now
from flask_accountflow.store.accounts import Account

PASSWORD = "correct horse battery staple"
OTHER_PASSWORD = "another horse battery staple"
BASE_URL = "https://www.example.com"
#: The least that bcrypt takes: what surrounds a hash shows best.
ROUNDS_OF_BCRYPT = 4

#: What a flow may grow by, and how many seconds a purge may keep a login waiting.
GROWTH, WAIT = 1.3, 0.1


@contextmanager
def database(address: str | None, folder: Path) -> Iterator[str]:
    """Yield the address of an empty database of its own: on that server, else a file in that folder."""
    name = f"growth_{secrets.token_hex(6)}"
    if address is None:
        file = folder / f"{name}.db"
        yield f"sqlite:///{file}"
        for end in ("", "-wal", "-shm"):
            file.with_name(file.name + end).unlink(missing_ok=True)
        return
    url = sa.make_url(address)
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    server = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@dataclass(frozen=True)
class Answer:
    """What a site answered."""

    status: int
    cookie: str
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


#: What is timed. It returns what is wrong with what came out, if anything.
Action = Callable[[], str]


@dataclass
class Login:
    """Somebody who has logged in."""

    account: Account
    headers: Mapping[str, str]
    answer: Answer


class Site:
    """The example app on one database, with what the flows need."""

    def __init__(self, uri: str, folder: Path, journal: str | None = "WAL", **config: Any) -> None:
        self.app = create_app(
            {
                "SECRET_KEY": "0123456789abcdef0123456789abcdef",
                "SQLALCHEMY_DATABASE_URI": uri,
                "MAIL_DEFAULT_SENDER": "accounts@example.com",
                "ACCOUNTFLOW_BASE_URL": BASE_URL,
                "ACCOUNTFLOW_BCRYPT_ROUNDS": ROUNDS_OF_BCRYPT,
                "ACCOUNTFLOW_ALLOW_INSECURE": True,
                "ACCOUNTFLOW_RATELIMIT_ENABLED": False,
                "ACCOUNTFLOW_MAIL_KICK": "worker",
                "ACCOUNTFLOW_MAIL_TRANSPORT": "file",
                "ACCOUNTFLOW_MAIL_FILE": str(folder / "mails"),
                **config,
            }
        )
        self.services: Services = replace(self.app.extensions["accountflow"], own=True)
        self.deliverer = self.app.extensions["accountflow_delivery"]
        self.password_hash = BcryptHasher(ROUNDS_OF_BCRYPT).hash(PASSWORD)
        with self.app.app_context():
            self.engine = db.engine
            db.create_all()
        if self.engine.dialect.name == "sqlite" and journal is not None:
            with self.engine.connect() as connection:
                connection.exec_driver_sql(f"PRAGMA journal_mode={journal}")

    def fill(self, size: int) -> float:
        """Make as many rows in each table, and return how many seconds that took."""
        started = time.perf_counter()
        Population(self.engine, accounts.tables, self.password_hash).fill(size)
        return time.perf_counter() - started

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    def asking(self, method: str, path: str, body: Any = None, **headers: str) -> Callable[[], Answer]:
        """Return a request that is ready to be sent."""
        sent = {"Accept": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        builder = EnvironBuilder(path, BASE_URL, method=method, json=body, headers=list(sent.items()))
        environ = builder.get_environ()

        def ask() -> Answer:
            parts, status, found = run_wsgi_app(self.app, environ, buffered=True)
            cookies = (line.partition(";")[0] for line in found.getlist("Set-Cookie"))
            return Answer(int(status[:3]), "; ".join(cookies), b"".join(parts))

        return ask

    def post(self, status: int, path: str, body: Any = None, **headers: str) -> Action:
        """Return a request whose answer must have this status."""
        return expecting(status, self.asking("POST", f"/auth{path}", {} if body is None else body, **headers))

    def get(self, status: int, path: str, **headers: str) -> Action:
        """Return a request whose answer must have this status."""
        return expecting(status, self.asking("GET", f"/auth{path}", **headers))

    def member(self, **values: Any) -> Account:
        """Make an account with a password, an hour old."""
        at, store = self.services.clock() - timedelta(hours=1), self.services.store
        given = {"password_hash": self.password_hash, "email_verified_at": at, **values}
        with self.app.app_context():
            made = self.services.unit(lambda: store.accounts.create(canonical(new_address()), at, values=given))
        assert made is not None
        return made

    def login(self) -> Login:
        """Make an account and log in, as a program does."""
        account = self.member()
        answer = self.asking("POST", "/auth/login", {"email": account.email, "password": PASSWORD})()
        return Login(account, {"Authorization": f"Bearer {answer.json['access_token']}"}, answer)

    def asking_for_cookie(self) -> Callable[[], Answer]:
        """Make an account, and return its login by the session cookie, ready to be sent."""
        csrf = self.asking("GET", "/auth/csrf")()
        headers = {csrf.json["header"]: csrf.json["csrf_token"], "Cookie": csrf.cookie}
        body = {"email": self.member().email, "password": PASSWORD, "transport": "cookie"}
        return self.asking("POST", "/auth/login", body, **headers)

    def signed_up(self) -> str:
        """Sign up, and return the address."""
        email = new_address()
        run(self.post(202, "/signup", {"email": email, "password": PASSWORD}))
        return email

    def link(self, email: str, purpose: str) -> str:
        """Return the path below the prefix of the newest link that an account has and has not used."""
        token, user = accounts.tables.token, accounts.tables.user
        newest = (
            sa.select(token.c.id, token.c.created_at)
            .join(user, token.c.user_id == accounts.tables.user_key)
            .where(user.c.email_key == email, token.c.purpose == purpose, token.c.used_at.is_(None))
            .order_by(token.c.created_at.desc())
        )
        with self.engine.connect() as connection:
            row = connection.execute(newest).first()
        assert row is not None
        path = urlsplit(self.services.addresses.link(purpose, row.id, _aware(row.created_at), None)).path
        return path.removeprefix("/auth")


def expecting(status: int, ask: Callable[[], Answer]) -> Action:
    """Return a request whose answer must have this status."""

    def act() -> str:
        answer = ask()
        return "" if answer.status == status else f"{answer.status} instead of {status}: {answer.body.decode()[:500]}"

    return act


def run(action: Action) -> None:
    """Do what another flow needs. Raises :exc:`RuntimeError` when that goes wrong."""
    fault = action()
    if fault:
        raise RuntimeError(fault)


def new_address() -> str:
    """Return an address that nobody has."""
    return f"{uuid.uuid4().hex}@example.com"


def _aware(moment: Any) -> Any:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=now().tzinfo)


def _sign_up_known(site: Site) -> Action:
    return site.post(202, "/signup", {"email": site.member().email, "password": PASSWORD})


def _resend(site: Site) -> Action:
    return site.post(202, "/verify/resend", {"email": site.member(email_verified_at=None).email})


def _log_in(site: Site, password: str, status: int) -> Action:
    return site.post(status, "/login", {"email": site.member().email, "password": password})


def _unknown_link(site: Site) -> str:
    """Return the path of a link that we have signed and that has no row."""
    link = site.services.addresses.link("signup", uuid.uuid4(), site.services.clock(), None)
    return urlsplit(link).path.removeprefix("/auth")


def _refresh(site: Site) -> Action:
    return site.post(200, "/refresh", {"refresh_token": site.login().answer.json["refresh_token"]})


def _log_out(site: Site) -> Action:
    return site.post(204, "/logout", {"refresh_token": site.login().answer.json["refresh_token"]})


def _end_others(site: Site) -> Action:
    return expecting(204, site.asking("DELETE", "/auth/sessions", {}, **site.login().headers))


def _end_one(site: Site) -> Action:
    login = site.login()
    [device] = site.asking("GET", "/auth/sessions", **login.headers)().json["sessions"]
    return expecting(204, site.asking("DELETE", f"/auth/sessions/{device['id']}", {}, **login.headers))


def _reset_confirm(site: Site) -> Action:
    email = site.member().email
    run(site.post(202, "/password-reset/request", {"email": email}))
    return site.post(200, site.link(email, "reset"), {"password": OTHER_PASSWORD})


def _change_password(site: Site) -> Action:
    body = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
    return site.post(200, "/password/change", body, **site.login().headers)


def _change_email(site: Site, wanted: str) -> tuple[str, Action]:
    """Return the address of somebody who has logged in, and how they ask for another one."""
    login = site.login()
    body = {"current_password": PASSWORD, "new_email": wanted}
    return login.account.email, site.post(202, "/email/change", body, **login.headers)


def _confirm_email(site: Site, wanted: str) -> Action:
    email, ask = _change_email(site, wanted)
    run(ask)
    return site.post(200, site.link(email, "change"))


def _revert_email(site: Site) -> Action:
    wanted = new_address()
    run(_confirm_email(site, wanted))
    return site.post(200, site.link(wanted, "revert"))


def _deliver(site: Site) -> Action:
    _drain(site)
    site.signed_up()
    return lambda: "" if site.deliverer.deliver_due() == 1 else "another number of mails was sent"


def _drain(site: Site) -> Action:
    while site.deliverer.deliver_due():
        pass

    def look() -> str:
        handled = site.deliverer.deliver_due()
        site.deliverer.pause(60)
        return "a mail was sent" if handled else ""

    return look


def _status(site: Site) -> Action:
    def ask() -> str:
        with site.app.app_context():
            accounts.mail_status()
        return ""

    return ask


#: What counts the mails that wait or have failed takes as long as there are some: one in a thousand here.
AS_WHAT_WAITS = frozenset({"how mails do"})

#: Each flow, by what it needs: it makes that and returns what is timed.
FLOWS: Mapping[str, Callable[[Site], Action]] = {
    "sign-up of a new address": lambda site: site.post(202, "/signup", {"email": new_address(), "password": PASSWORD}),
    "sign-up of a known address": _sign_up_known,
    "look at a link": lambda site: site.get(200, site.link(site.signed_up(), "signup")),
    "confirm an address": lambda site: site.post(200, site.link(site.signed_up(), "signup")),
    "forged link": lambda site: site.post(400, _unknown_link(site)[:-8] + "AAAAAAAA"),
    "link without a row": lambda site: site.post(410, _unknown_link(site)),
    "mail another link": _resend,
    "login": lambda site: _log_in(site, PASSWORD, 200),
    "login by cookie": lambda site: expecting(200, site.asking_for_cookie()),
    "wrong password": lambda site: _log_in(site, OTHER_PASSWORD, 401),
    "login of a stranger": lambda site: site.post(401, "/login", {"email": new_address(), "password": PASSWORD}),
    "login page": lambda site: site.get(200, "/login", Accept="text/html"),
    "who am I, by token": lambda site: site.get(200, "/me", **site.login().headers),
    "who am I, by cookie": lambda site: site.get(200, "/me", Cookie=site.asking_for_cookie()().cookie),
    "account page": lambda site: site.get(200, "/me", Accept="text/html", Cookie=site.asking_for_cookie()().cookie),
    "refresh": _refresh,
    "logout": _log_out,
    "list of logins": lambda site: site.get(200, "/sessions", **site.login().headers),
    "end one login": _end_one,
    "end the other logins": _end_others,
    "password once more": lambda site: site.post(200, "/login/fresh", {"password": PASSWORD}, **site.login().headers),
    "ask for a reset": lambda site: site.post(202, "/password-reset/request", {"email": site.member().email}),
    "ask for a reset, a stranger": lambda site: site.post(202, "/password-reset/request", {"email": new_address()}),
    "reset a password": _reset_confirm,
    "change a password": _change_password,
    "ask for another address": lambda site: _change_email(site, new_address())[1],
    "ask for no other address": lambda site: site.post(204, "/email/change/cancel", **site.login().headers),
    "confirm another address": lambda site: _confirm_email(site, new_address()),
    "go back to the old address": _revert_email,
    "deliver a mail": _deliver,
    "look for mails": _drain,
    "how mails do": _status,
}


@dataclass
class Sample:
    """One run of a flow: how many seconds it took, and each of its statements."""

    seconds: float
    statements: list[tuple[str, float]] = field(default_factory=list)


class Meter:
    """Times what a site does, with its statements."""

    def __init__(self, site: Site) -> None:
        self._running: list[tuple[str, float]] | None = None
        self._started = 0.0
        sa.event.listen(site.engine, "before_cursor_execute", self._before)
        sa.event.listen(site.engine, "after_cursor_execute", self._after)

    def _before(self, *_: Any) -> None:
        self._started = time.perf_counter()

    def _after(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if self._running is not None:
            self._running.append((statement, time.perf_counter() - self._started))

    def measure(self, action: Action) -> Sample:
        """Run what is timed. Raises :exc:`RuntimeError` when it does not come out as it should."""
        found: list[tuple[str, float]] = []
        self._running = found
        started = time.perf_counter()
        fault = action()
        took = time.perf_counter() - started
        self._running = None
        if fault:
            raise RuntimeError(fault)
        return Sample(took, found)


@dataclass
class Row:
    """What was found of one flow. Lists go by the sizes; times are in milliseconds."""

    flow: str
    medians: list[float]
    quartiles: list[float]
    #: How long the statements took, of the medians.
    database: list[float]
    #: Each number of statements that was seen.
    statements: list[list[int]]
    #: The statement that has grown most, and its medians.
    grown: str = ""
    grown_medians: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times the median of the empty database the slowest one is."""
        return growth(self.medians)

    @property
    def quartile_ratio(self) -> float:
        """The same of the first quartile."""
        return growth(self.quartiles)

    @property
    def database_ratio(self) -> float:
        """The same of the time in statements."""
        return growth(self.database)

    @property
    def passes(self) -> bool:
        """Whether it grows by less than is allowed, in time and in statements."""
        counts = {tuple(some) for some in self.statements}
        is_steady = self.flow in AS_WHAT_WAITS or min(self.ratio, self.quartile_ratio) < GROWTH
        return is_steady and len(counts) == 1


def growth(times: Sequence[float]) -> float:
    """Return how many times the first one the largest of the others is."""
    return max(times[1:]) / times[0] if len(times) > 1 and times[0] else 1.0


def judge(flow: str, samples: Sequence[Sequence[Sample]]) -> Row:
    """Return what the samples of one flow come to; there is a list of them for each size."""
    by_statement: list[dict[str, list[float]]] = []
    for some in samples:
        found: dict[str, list[float]] = defaultdict(list)
        for sample in some:
            for statement, seconds in sample.statements:
                found[statement].append(1000 * seconds)
        by_statement.append(found)
    medians = {
        statement: [statistics.median(found.get(statement, [0.0])) for found in by_statement]
        for statement in by_statement[0]
    }
    grown = max(medians, key=lambda statement: max(medians[statement]) - medians[statement][0], default="")
    return Row(
        flow,
        [1000 * statistics.median(sample.seconds for sample in some) for some in samples],
        [1000 * statistics.quantiles((sample.seconds for sample in some), n=4)[0] for some in samples],
        [1000 * statistics.median(sum(took for _, took in sample.statements) for sample in some) for some in samples],
        [sorted({len(sample.statements) for sample in some}) for some in samples],
        grown,
        medians.get(grown, []),
    )


def measure(sites: Sequence[Site], rounds: int, flows: Sequence[str]) -> list[Row]:
    """Run each flow so often on each site, all in turn."""
    meters = [Meter(site) for site in sites]
    samples: dict[str, list[list[Sample]]] = {flow: [[] for _ in sites] for flow in flows}
    order = list(enumerate(zip(sites, meters, strict=True)))
    # The first two rounds fill what is kept between requests: templates, compiled statements, connections.
    for number in range(-2, rounds):
        for flow in flows:
            random.shuffle(order)
            for index, (site, meter) in order:
                sample = meter.measure(FLOWS[flow](site))
                if number >= 0:
                    samples[flow][index].append(sample)
        print(f"round {number + 1} of {rounds}", end="\r", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return [judge(flow, found) for flow, found in samples.items()]


def table(rows: Sequence[Row], sizes: Sequence[int]) -> str:
    """Return the rows as Markdown."""
    heads = [f"{size:,} rows, ms" for size in sizes]
    lines = [
        f"| flow | statements | {' | '.join(heads)} | median grows by | first quartile | in the database | verdict |"
    ]
    lines.append("|---" * (len(sizes) + 6) + "|")
    for row in rows:
        counts = sorted({count for some in row.statements for count in some})
        cells = [row.flow, "–".join(map(str, counts)), *(f"{median:.2f}" for median in row.medians)]
        cells += [f"{row.ratio:.2f}", f"{row.quartile_ratio:.2f}", f"{row.database_ratio:.2f}"]
        cells.append("as what waits" if row.flow in AS_WHAT_WAITS else "PASS" if row.passes else "FAIL")
        lines.append(f"| {' | '.join(cells)} |")
    for row in rows:
        if not row.passes:
            times = ", ".join(f"{median:.2f}" for median in row.grown_medians)
            lines.append(f"\n{row.flow}: {times} ms for\n\n    {' '.join(row.grown.split())}")
    return "\n".join(lines)


def grow(given: argparse.Namespace, folder: Path) -> tuple[bool, dict[str, Any]]:
    """Measure how the flows grow, and print it."""
    with ExitStack() as stack:
        sites = []
        for size in given.sizes:
            site = Site(stack.enter_context(database(given.database, folder)), folder)
            stack.callback(site.close)
            print(f"{size:,} rows in each table took {site.fill(size):.0f} s.", file=sys.stderr, flush=True)
            sites.append(site)
        rows = measure(sites, given.rounds, given.flows or list(FLOWS))
    print(table(rows, given.sizes))
    found = {
        "sizes": given.sizes,
        "rounds": given.rounds,
        "flows": [asdict(row) | {"ratio": row.ratio, "passes": row.passes} for row in rows],
    }
    return all(row.passes for row in rows), found


class Attempt(NamedTuple):
    """A login beside a purge: when it began, and how many seconds it took."""

    began: float
    took: float


def log_in_forever(uri: str, folder: str, speaker: Any, stop: Any) -> None:
    """Log in again and again, in a process of its own; tell each login, and how many gave up waiting for a lock."""
    waits = []
    # What is locked for too long is counted below; the site answers it with "busy".
    logging.disable(logging.CRITICAL)
    patience: Mapping[str, Any] = {"timeout": WAIT}
    if not uri.startswith("sqlite"):
        patience = {"options": f"-c lock_timeout={1000 * WAIT:.0f}"}
    # A journal that is there stays as it is.
    site = Site(uri, Path(folder), journal=None, SQLALCHEMY_ENGINE_OPTIONS={"connect_args": patience})
    sa.event.listen(site.engine, "handle_error", lambda context: waits.append(str(context.original_exception)))
    email, done = site.member().email, []
    while not stop.is_set():
        ask = site.asking("POST", "/auth/login", {"email": email, "password": PASSWORD})
        began = time.monotonic()
        ask()
        done.append(Attempt(began, time.monotonic() - began))
    speaker.send((done, waits))
    site.close()


@dataclass
class Purged:
    """How a purge went, and the logins beside it; times are in milliseconds."""

    journal: str
    removed: Mapping[str, int]
    seconds: float
    #: When it came to each table, in seconds.
    phases: Mapping[str, float]
    transactions: int
    #: The longest transaction that deleted, and the longest statement, without what the purge itself waited for a lock.
    transaction: float
    statement: float
    logins: int
    #: What the database said when a login had waited 100 ms for a lock.
    waits: Sequence[str]
    #: Median, 99 % and longest, before the purge and beside it.
    usual: Sequence[float]
    beside: Sequence[float]
    #: The slowest beside it: when in seconds, and how long.
    slowest: Sequence[tuple[float, float]]

    @property
    def passes(self) -> bool:
        """Whether no login waited too long for a lock."""
        return not self.waits


class PurgeClock:
    """Times each transaction of a purge, from its lock or first change until its connection is given back.

    With SQLite's WAL that is after the checkpoint, if there is one, which locks nobody out.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.longest = self.statement = 0.0
        self.count = 0
        self.phases: dict[str, float] = {}
        self._created = self._started = time.perf_counter()
        self._began: float | None = None
        sa.event.listen(engine, "before_cursor_execute", self._before)
        sa.event.listen(engine, "after_cursor_execute", self._after)
        sa.event.listen(engine.pool, "checkin", self._end)

    def _before(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        self._started = time.perf_counter()
        if statement.startswith("DELETE") and not _takes_lock(statement):
            self._began = self._started if self._began is None else self._began
            self.phases.setdefault(statement.split()[2], self._started - self._created)

    def _after(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        ended = time.perf_counter()
        if _takes_lock(statement):
            self._began = ended
        else:
            self.statement = max(self.statement, ended - self._started)

    def _end(self, *_: Any) -> None:
        if self._began is not None:
            self.count += 1
            self.longest = max(self.longest, time.perf_counter() - self._began)
        self._began = None


def _takes_lock(statement: str) -> bool:
    """Tell whether it takes SQLite's lock, by deleting nothing."""
    return statement.endswith("WHERE 0 = 1")


def purge(given: argparse.Namespace, folder: Path, journal: str | None) -> Purged:
    """Fill a database, and purge it while another process logs in."""
    with database(given.database, folder) as uri:
        site = Site(uri, folder, journal)
        print(f"{given.purge:,} rows in each table took {site.fill(given.purge):.0f} s.", file=sys.stderr, flush=True)
        context = get_context("spawn")
        stop, (listener, speaker) = context.Event(), context.Pipe()
        process = context.Process(target=log_in_forever, args=(uri, str(folder), speaker, stop), daemon=True)
        process.start()
        # It starts, and then has that long to show what is usual.
        time.sleep(5)
        calm = time.monotonic()
        time.sleep(given.calm)
        clock, began = PurgeClock(site.engine), time.monotonic()
        with site.app.app_context():
            removed = site.services.store.purge.run(site.services.settings, site.services.clock())
        ended = time.monotonic()
        stop.set()
        done, waits = listener.recv()
        process.join()
        site.close()
    beside = [one for one in done if began <= one.began + one.took and one.began < ended]
    slowest = sorted(beside, key=lambda one: -one.took)[:20]
    return Purged(
        journal or "",
        removed,
        ended - began,
        clock.phases,
        clock.count,
        1000 * clock.longest,
        1000 * clock.statement,
        len(beside),
        waits,
        spread([one.took for one in done if calm <= one.began and one.began + one.took < began]),
        spread([one.took for one in beside]),
        [(one.began - began, 1000 * one.took) for one in slowest],
    )


def spread(times: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, 99 % and the longest of some seconds, in milliseconds."""
    return 1000 * statistics.median(times), 1000 * sorted(times)[int(0.99 * len(times))], 1000 * max(times)


def purge_all(given: argparse.Namespace, folder: Path) -> tuple[bool, dict[str, Any]]:
    """Purge beside logins, on SQLite with each kind of journal, and print how it went."""
    print(
        "| database | rows | seconds | transactions | longest | logins | usual: median, 99 %, longest "
        "| beside it | locked out for 100 ms | verdict |"
    )
    print("|---" * 10 + "|")
    found = []
    for journal in given.journals if given.database is None else [None]:
        one = purge(given, folder, journal)
        cells = [
            f"SQLite, {journal}" if journal else sa.make_url(given.database).get_backend_name(),
            f"{sum(one.removed.values()):,}",
            f"{one.seconds:.0f}",
            f"{one.transactions:,}",
            f"{one.transaction:.0f} ms",
            f"{one.logins:,}",
            ", ".join(f"{milliseconds:.0f}" for milliseconds in one.usual) + " ms",
            ", ".join(f"{milliseconds:.0f}" for milliseconds in one.beside) + " ms",
            f"{len(one.waits)} times",
            "PASS" if one.passes else "FAIL",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)
        found.append(one)
    return all(one.passes for one in found), {"size": given.purge, "purges": [asdict(one) for one in found]}


def main() -> None:
    """Run what was asked for, and end with 1 when something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", help="SQLAlchemy's address of a database on a PostgreSQL server; default: SQLite")
    parser.add_argument("--sizes", type=int, nargs="+", default=[0, 100_000, 1_000_000], help="the first is the base")
    parser.add_argument("--rounds", type=int, default=40, help="how often each flow runs at each size")
    parser.add_argument("--flows", nargs="+", choices=list(FLOWS), metavar="FLOW", help="only these")
    parser.add_argument("--purge", type=int, metavar="SIZE", help="purge a database of this size instead")
    parser.add_argument("--calm", type=float, default=10, help="for how many seconds logins run before the purge")
    parser.add_argument("--journals", nargs="+", default=["WAL", "DELETE"], help="SQLite's, for --purge")
    parser.add_argument("--folder", help="where temporary files go, such as /dev/shm")
    parser.add_argument("--json", type=Path, help="write what was found to this file")
    parser.add_argument("--write-docs", action="store_true", help="write what the documentation includes, too")
    given = parser.parse_args()
    if given.purge and given.write_docs:
        parser.error("the documentation includes no table of a purge")
    backend = "sqlite" if given.database is None else sa.make_url(given.database).get_backend_name()
    # That a mail was overtaken by what its recipient did next is no news here.
    logging.getLogger("accountflow.mail").setLevel(logging.ERROR)
    with (
        tempfile.TemporaryDirectory(dir=given.folder) as name,
        written("growth", f"{TITLES[backend]}, {given.rounds} rounds", wanted=given.write_docs),
    ):
        passes, found = (purge_all if given.purge else grow)(given, Path(name))
    if given.json is not None:
        conditions = {
            "database": backend,
            "python": platform.python_version(),
            "processors": os.cpu_count(),
            "load": os.getloadavg()[0],
            "version": version("flask-accountflow"),
        }
        given.json.write_text(json.dumps(conditions | found, indent=1) + "\n")
    sys.exit(0 if passes else 1)


if __name__ == "__main__":
    main()
