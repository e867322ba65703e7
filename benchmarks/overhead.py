"""What our flows cost beyond the SQL that they run: CPU per request against bare Flask views, in one run.

    python -m benchmarks.overhead [--blocks 12] [--requests 25] [--database URI] [--check | --write] [--served]
                                  [--write-docs]

Both apps get their requests as a server would hand them over, in blocks that take turns, with bcrypt at cost 4; no
mail is sent. The figure of a flow is the median over its blocks of the process's CPU time. ``--check`` compares with
the ratios and the counts of statements in ``committed.json`` and ends with 1 when a ratio is more than 1.3 times as
high, or a count grew, and still is in a second run of twice as many blocks; ``--write`` commits the present ones, and
belongs on a quiet machine. ``--served`` measures both under gunicorn, too, as the other systems are. The database is a
temporary SQLite file unless one is named, whose tables are dropped.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask

from benchmarks.adapters.base import NEW_PASSWORD, PASSWORD, Call, Conditions, System
from benchmarks.apps import bare
from benchmarks.client import Client
from benchmarks.report import TITLES
from benchmarks.servers import Server, free_port
from benchmarks.written import written
from example_app import create_app
from example_app.models import accounts, db

COMMITTED = Path(__file__).with_name("committed.json")
#: How many times the committed ratio is too much.
TOLERANCE = 1.3


@dataclass(frozen=True)
class Request:
    """One request of a program. A missing body is a GET."""

    path: str
    body: dict[str, Any] | None = None
    bearer: str | None = None


@dataclass(frozen=True)
class Figures:
    """What one flow cost: milliseconds of CPU per request, ours and bare, and our statements."""

    ours: float
    bare: float
    statements: int

    @property
    def ratio(self) -> float:
        """How many times the bare view it costs."""
        return self.ours / self.bare


class Site:
    """An app that is asked without a server, and what became of its people."""

    def __init__(self, app: Flask, link: Callable[[str, str], str], refused: Request) -> None:
        self.app = app
        self.statements = 0
        self._link, self._refused = link, refused
        self._logins: dict[str, dict[str, str]] = {}
        with app.app_context():
            sa.event.listen(db.engine, "before_cursor_execute", self._count)

    def _count(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        is_of_savepoint = statement.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK"))
        self.statements += not is_of_savepoint and "WHERE 0 = 1" not in statement and "WHERE false" not in statement

    def ask(self, flow: str, email: str) -> float:
        """Run one flow of one person, count its statements, and return the seconds of CPU that it took.

        Raises :exc:`RuntimeError` for another answer than success, or than 400 for a forged link.
        """
        request, expected = self._request(flow, email), 400 if flow == "forged link" else 202
        self.statements = 0
        status, body, took = self._exchange(request)
        if status not in {200, expected}:
            raise RuntimeError(f"{flow}: {status} {body.decode()}")
        given = json.loads(body)
        if given.get("access_token"):
            self._logins[email] = given
        return took

    def _exchange(self, request: Request) -> tuple[int, bytes, float]:
        environ, answered = self._environ(request), list[str]()
        started = time.process_time()
        answer = self.app.wsgi_app(environ, lambda status, headers, fault=None: _noted(answered, status))
        body = b"".join(answer)
        getattr(answer, "close", lambda: None)()
        return int(answered[0][:3]), body, time.process_time() - started

    def _request(self, flow: str, email: str) -> Request:
        login = self._logins.get(email, {})
        match flow:
            case "signup":
                return Request("/auth/signup", {"email": email, "password": PASSWORD})
            case "verify":
                return Request("/auth/verify", {"token": self._link("signup", email)})
            case "login":
                return Request("/auth/login", {"email": email, "password": PASSWORD})
            case "me":
                return Request("/auth/me", bearer=login["access_token"])
            case "refresh":
                token = login.get("refresh_token") or login["access_token"]
                return Request("/auth/refresh", {"refresh_token": token})
            case "reset request":
                return Request("/auth/password-reset/request", {"email": email})
            case "reset":
                token = self._link("reset", email)
                return Request("/auth/password-reset/confirm", {"token": token, "password": NEW_PASSWORD})
        return self._refused

    @staticmethod
    def _environ(request: Request) -> dict[str, Any]:
        body = b"" if request.body is None else json.dumps(request.body).encode()
        environ = {
            "REQUEST_METHOD": "GET" if request.body is None else "POST",
            "SCRIPT_NAME": "",
            "PATH_INFO": request.path,
            "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "8000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "127.0.0.1:8000",
            "HTTP_ACCEPT": "application/json",
            "CONTENT_TYPE": "application/json" if body else "",
            "CONTENT_LENGTH": str(len(body)) if body else "",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        return environ if request.bearer is None else {**environ, "HTTP_AUTHORIZATION": f"Bearer {request.bearer}"}


class ServedSite(Site):
    """The same under gunicorn, asked by one connection. Statements are not counted there."""

    def __init__(self, site: Site, server: Server, client: Client) -> None:
        super().__init__(site.app, site._link, site._refused)
        self._server, self._client = server, client

    def _exchange(self, request: Request) -> tuple[int, bytes, float]:
        headers = {"Accept": "application/json"}
        if request.bearer is not None:
            headers["Authorization"] = f"Bearer {request.bearer}"
        call = Call("GET" if request.body is None else "POST", request.path, json=request.body, headers=headers)
        started = self._server.cpu_seconds()
        answer = self._client.send(call)
        return answer.status, answer.body, self._server.cpu_seconds() - started


class _Served(System):
    """What gunicorn loads."""

    def __init__(self, application: str) -> None:
        self.application = application


@contextmanager
def served(sites: tuple[Site, Site], uris: tuple[str, str], folder: Path) -> Iterator[tuple[Site, Site]]:
    """Yield both sites under gunicorn, with two processes of eight threads."""
    applications = f"benchmarks.overhead:ours({uris[0]!r})", f"benchmarks.apps.bare:create_app({uris[1]!r})"
    with ExitStack() as stack:
        found = []
        for site, application in zip(sites, applications, strict=True):
            conditions = Conditions("", 0, f"http://127.0.0.1:{free_port()}", bare.ROUNDS)
            server = stack.enter_context(Server(_Served(application), conditions, sys.executable, folder, tables=False))
            found.append(ServedSite(site, server, stack.enter_context(Client(server.port))))
        yield found[0], found[1]


def _noted(answered: list[str], status: str) -> Callable[[bytes], object]:
    answered.append(status)
    return lambda data: None  # what WSGI calls write()


FLOWS = ("signup", "verify", "login", "me", "refresh", "reset request", "reset", "forged link")


def ours(uri: str) -> Flask:
    """Return the example app with the present package, whose limits nobody reaches and whose mails nobody sends."""
    settings = {
        "SECRET_KEY": "0123456789abcdef0123456789abcdef",
        "SQLALCHEMY_DATABASE_URI": uri,
        "MAIL_DEFAULT_SENDER": "accounts@example.com",
        "ACCOUNTFLOW_BASE_URL": "https://www.example.com",
        "ACCOUNTFLOW_ALLOW_INSECURE": True,
        "ACCOUNTFLOW_BCRYPT_ROUNDS": bare.ROUNDS,
        "ACCOUNTFLOW_MAIL_KICK": "worker",
    }
    unlimited = dict.fromkeys(("LOGIN_IP", "MAIL_IP", "TOKEN_IP"), "100000000/day")
    return create_app(settings | {f"ACCOUNTFLOW_RATELIMIT_{name}": limit for name, limit in unlimited.items()})


@contextmanager
def sites(uris: tuple[str, str]) -> Iterator[tuple[Site, Site]]:
    """Yield our site and the bare one, each on a database of its own, with new tables."""
    apps = ours(uris[0]), bare.create_app(uris[1])
    for app in apps:
        with app.app_context():
            db.drop_all()
            db.create_all()
            if db.engine.dialect.name == "sqlite":
                db.session.execute(sa.text("PRAGMA journal_mode=WAL"))
    forged = Request("/auth/password-reset/confirm", {"token": "a.forged.link", "password": NEW_PASSWORD})
    try:
        yield (
            Site(apps[0], lambda purpose, email: _link(apps[0], purpose, email), forged),
            Site(apps[1], lambda purpose, email: _row(apps[1], purpose, email).id.hex, Request("/forged", {})),
        )
    finally:
        for app in apps:
            with app.app_context():
                db.drop_all()
                db.engine.dispose()


def _row(app: Flask, purpose: str, email: str) -> Any:
    links = accounts.tables.token
    found = sa.select(links.c.id, links.c.created_at).where(links.c.email_key == email, links.c.purpose == purpose)
    with app.app_context():
        return db.session.execute(found).one()


def _link(app: Flask, purpose: str, email: str) -> str:
    row = _row(app, purpose, email)
    return str(app.extensions["accountflow"].links.make(purpose, row.id, row.created_at))


def measure(uris: tuple[str, str], blocks: int, requests: int, folder: Path | None = None) -> dict[str, Figures]:
    """Run every flow on both sites in turns, and return its figures. The first block of each warms up.

    With a ``folder`` for their files the sites are served by gunicorn.
    """
    milliseconds: dict[str, tuple[list[float], list[float]]] = {flow: ([], []) for flow in FLOWS}
    statements: dict[str, int] = {}
    with ExitStack() as stack:
        both = stack.enter_context(sites(uris))
        if folder is not None:
            both = stack.enter_context(served(both, uris, folder))
        for block in range(blocks + 1):
            for flow in FLOWS:
                for place, (site, figures) in enumerate(zip(both, milliseconds[flow], strict=True)):
                    # Nobody belongs to both: they may share a database.
                    people = [f"{place}-{block}-{number}@example.com" for number in range(requests)]
                    figures.append(1000 * statistics.mean(site.ask(flow, person) for person in people))
                statements[flow] = both[0].statements
    medians = {flow: [statistics.median(figures[1:]) for figures in milliseconds[flow]] for flow in FLOWS}
    return {flow: Figures(medians[flow][0], medians[flow][1], statements[flow]) for flow in FLOWS}


def faults(found: dict[str, Figures], committed: dict[str, dict[str, float]]) -> list[str]:
    """Return in what the figures are worse than the committed ones."""
    said = []
    for flow, figures in found.items():
        before = committed[flow]
        if figures.statements > before["statements"]:
            said.append(f"{flow} runs {figures.statements} statements; {before['statements']:g} are committed")
        if figures.ratio > before["ratio"] * TOLERANCE:
            said.append(
                f"{flow} costs {figures.ratio:.2f} times the bare view; {before['ratio']:.2f} is committed, and"
                f" {TOLERANCE} times that is too much"
            )
    return said


def _table(found: dict[str, Figures]) -> str:
    lines = ["| flow | ours, ms | bare, ms | ratio | statements |", "|---|---|---|---|---|"]
    lines += [
        f"| {flow} | {one.ours:.2f} | {one.bare:.2f} | {one.ratio:.2f} | {one.statements} |"
        for flow, one in found.items()
    ]
    return "\n".join(lines)


def _read(path: Path) -> dict[str, dict[str, float]]:
    if not path.exists():
        raise SystemExit(
            f"{path} is missing, so there is nothing to compare with. On a quiet machine"
            " `python -m benchmarks.overhead --write` makes it; then commit it."
        )
    committed: dict[str, dict[str, float]] = json.loads(path.read_text())
    return committed


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--requests", type=int, default=25, help="in each block")
    parser.add_argument("--database", help="SQLAlchemy's address of an empty database")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--check", action="store_true", help="compare with what is committed")
    either.add_argument("--write", action="store_true", help="write what is to be committed")
    parser.add_argument("--write-docs", action="store_true", help="write what the documentation includes, too")
    parser.add_argument("--served", action="store_true", help="under gunicorn, too")
    parser.add_argument("--committed", type=Path, default=COMMITTED, help="another file than committed.json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print its table, and compare it where that is asked for."""
    given = _arguments(arguments)
    # Before the minute that measuring takes.
    committed = _read(given.committed) if given.check else None
    dialect = sa.make_url(given.database or "sqlite://").get_backend_name()
    with tempfile.TemporaryDirectory() as folder:
        uris = given.database or f"sqlite:///{folder}/ours.db", given.database or f"sqlite:///{folder}/bare.db"
        conditions = f"{TITLES.get(dialect, dialect)}, medians of {given.blocks} blocks of {given.requests} requests"
        with written("overhead", conditions, wanted=given.write_docs):
            found = measure(uris, given.blocks, given.requests)
            print(_table(found), flush=True)
            if given.served:
                under = measure(uris, given.blocks, given.requests, Path(folder))
                print("\nUnder gunicorn, with two processes of eight threads:\n", _table(under), sep="\n", flush=True)
        worse = faults(found, committed) if committed is not None else []
        if committed is not None and worse:
            print(*worse, "", "Once more, with twice as many blocks:", sep="\n", flush=True)
            found = measure(uris, 2 * given.blocks, given.requests)
            worse = faults(found, committed)
            print(_table(found), *worse, sep="\n")
    if given.write:
        figures = {flow: {"ratio": round(one.ratio, 2), "statements": one.statements} for flow, one in found.items()}
        given.committed.write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
