"""Canaries: secrets that are told from everything else are sent through everything, and then looked for everywhere."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

import pytest
import sqlalchemy as sa
from databases import database
from faults.processes import Worker, waiting
from faults.sink import Copy, Sink
from live_server import AppServer, wait_until
from live_visitors import Answer, HttpClient, LivePerson, LiveProgram

from example_app import create_app
from example_app.models import accounts, db

pytestmark = pytest.mark.slow

#: Runs first in every process of the app, and writes down whatever anybody logs, at the lowest level that there is.
#: What SQLAlchemy says has a file of its own.
LISTEN = """
import logging, os
from pathlib import Path

def listen(name, file):
    handler = logging.FileHandler(Path(os.environ["CANARY_LOGS"]) / file)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    return logger

listen(None, "app.log")
listen("sqlalchemy", "sql.log").propagate = False
"""

#: Where an address is stored on purpose.
ADDRESSES_IN = {
    "users.email": "the account's, for delivery",
    "users.email_key": "the account is found by it",
    "accountflow_token.email_key": "the sign-ups of an address are found by it",
    "accountflow_token.sent_to": "a dead link's page says where it was sent, masked",
    "accountflow_mail.to_addr": "the mail is sent to it",
    "sql.log": "who turns on the log of all SQL reads what the rows hold",
}
#: Where the hash of a password is stored on purpose.
HASHES_IN = {
    "users.password_hash": "the password is checked against it",
    "accountflow_token.payload": "the password of a sign-up, until it is confirmed",
    "sql.log": ADDRESSES_IN["sql.log"],
}
#: Where the token of a link is seen on purpose.
LINKS_IN = {
    "access.log": "it stands in the address of its page, and works once",
    "mails": "that is how its owner gets it",
    "responses": "the page of a link has it in the address that its form is sent to",
}
#: Where a session's tokens are seen on purpose.
TOKENS_IN = {"responses": "their owner gets them"}

#: An app that can be made, and sends nothing.
PLAIN = {
    "SECRET_KEY": "0123456789abcdef0123456789abcdef",
    "MAIL_SERVER": "127.0.0.1",
    "MAIL_DEFAULT_SENDER": "accounts@example.com",
    "ACCOUNTFLOW_BASE_URL": "http://127.0.0.1:5000",
    "ACCOUNTFLOW_BCRYPT_ROUNDS": 4,
    "ACCOUNTFLOW_ALLOW_INSECURE": True,
    "ACCOUNTFLOW_MAIL_KICK": "worker",
}


def spellings(secret: str) -> set[str]:
    """Return what a secret may look like, plain or encoded, or as a hash that anybody can compute."""
    data = secret.encode()
    found = {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], html.escape(secret)}
    found |= {quote(secret), quote(secret, safe=""), quote_plus(secret), data.hex(), repr(data)[2:-1]}
    found |= {base64.b64encode(data).decode().rstrip("="), base64.urlsafe_b64encode(data).decode().rstrip("=")}
    return found | {hashlib.new(name, data).hexdigest() for name in ("md5", "sha1", "sha256", "sha512")}


def found_in(places: Mapping[str, str], sought: Iterable[str]) -> set[str]:
    """Return the places that hold one of the secrets, in any spelling."""
    signs = [sign for secret in sought for sign in spellings(secret)]
    return {place for place, text in places.items() if any(sign in text for sign in signs)}


def dump(engine: sa.Engine) -> dict[str, str]:
    """Return what each column of the database holds, as text and as JSON."""
    metadata = sa.MetaData()
    metadata.reflect(engine)
    columns: dict[str, str] = {}
    with engine.connect() as connection:
        for table in metadata.sorted_tables:
            rows = connection.execute(sa.select(table)).all()
            for number, column in enumerate(table.columns):
                texts = [text for row in rows for text in (*_leaves(row[number]), json.dumps(row[number], default=str))]
                columns[f"{table.name}.{column.name}"] = "\n".join(texts)
    return columns


def _leaves(value: Any) -> Iterator[str]:
    """Yield the text of a value, and of all that is in it."""
    if isinstance(value, Mapping):
        yield from (text for pair in value.items() for part in pair for text in _leaves(part))
    elif isinstance(value, list):
        yield from (text for part in value for text in _leaves(part))
    else:
        yield f"{value.decode('latin-1')} {value.hex()}" if isinstance(value, bytes) else str(value)


@dataclass
class Canaries:
    """The secrets of one journey."""

    passwords: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    emails: list[str] = field(default_factory=list)

    def password(self) -> str:
        """Return a new password, with signs that most encodings change."""
        self.passwords.append(f'canary "{secrets.token_hex(8)}" & über/ö+?')
        return self.passwords[-1]

    def email(self) -> str:
        """Return a new address."""
        self.emails.append(f"canary-{secrets.token_hex(8)}@example.com")
        return self.emails[-1]

    def note_link(self, link: str) -> str:
        """Note the token of a link, and its parts; return the link's path."""
        path = urlsplit(link).path
        self.links += _parts(path.rpartition("/")[2])
        return path

    def note_pair(self, answer: Any) -> Any:
        """Note both tokens of a pair, and their parts; return the answer."""
        for token in (answer.json["access_token"], answer.json["refresh_token"]):
            self.tokens += _parts(token)
        return answer

    def note_cookies(self, cookies: Mapping[str, str]) -> None:
        """Note the values of cookies, which are signed data."""
        for value in cookies.values():
            self.tokens += [value, value.rpartition(".")[2]]


def _parts(token: str) -> list[str]:
    """Return a token and its parts; not a part that all tokens have, nor a mere time."""
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    return [token, *(part for part in token.split(".") if len(part) >= 16 and part != head)]


class _Listening(HttpClient):
    """A client that keeps every answer."""

    def __init__(self, server: AppServer, heard: list[str], *, use_cookies: bool) -> None:
        super().__init__(server, use_cookies=use_cookies)
        self._heard = heard

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        answer = super()._ask(method, path, body, headers)
        self._heard.append(f"{answer.headers}\n{answer.text}")
        return answer

    def send(self, path: str, body: str, kind: str) -> Answer:
        """Post something that may be no JSON and no form."""
        return self._ask("POST", path, body.encode(), {"Accept": "application/json", "Content-Type": kind})


def echo(code: int, letters: list[Copy]) -> Callable[[str], str]:
    """Return a refusal that repeats the whole letter, as some mail servers do; the letters are kept in a list."""

    def refuse(content: str) -> str:
        [to] = [line.partition(" ")[2] for line in content.splitlines() if line.startswith("To: ")]
        letters.append(Copy(to, content.encode()))
        lines = [f"5.7.1 <{to}> refused, and here is your letter to {to.upper()}", *content.splitlines()]
        return "\r\n".join([*(f"{code}-{line}" for line in lines), f"{code} That was it"])

    return refuse


class Journey:
    """Everything that people do, while the mail server fails now and then."""

    def __init__(self, server: AppServer, sink: Sink) -> None:
        self.canaries = Canaries()
        self.responses: list[str] = []
        self._sink = sink
        self._program = LiveProgram(server)
        self._person = LivePerson(server)
        self._program.client = _Listening(server, self.responses, use_cookies=False)
        self._person.client = _Listening(server, self.responses, use_cookies=True)

    def _link(self, email: str, number: int) -> str:
        """Return the path of the link in an address's mail with this number, as soon as it is there."""
        link = self._sink.wait_for(email, number).link
        assert link is not None
        return self.canaries.note_link(link)

    def go_as_program(self) -> None:
        """Sign up, have another link sent, confirm, log in, refresh, be wrong, forget the password and set another."""
        program, canaries = self._program, self.canaries
        email, password = canaries.email(), canaries.password()
        assert program.signup(email, password, name="Ada").status_code == 202
        self._link(email, 1)
        assert program.code(program.login(email, password)) == "email_unverified"
        time.sleep(1.1)  # RESEND_AFTER, which that login has begun anew
        assert program.resend(email=email).status_code == 202
        link = self._link(email, 2)
        assert program.open(link).status_code == 200
        assert [program.code(program.verify(link)) for _ in range(2)] == ["verified", "already_verified"]
        pair = canaries.note_pair(program.login(email, password))
        assert program.me(pair).status_code == 200
        canaries.note_pair(program.post("/auth/refresh", {"refresh_token": pair.json["refresh_token"]}))
        assert program.post("/auth/refresh", {"refresh_token": pair.json["refresh_token"]}).status_code == 401
        self._type_wrong_passwords(email)
        number = len(self._sink.to(email))
        letters: list[Copy] = []
        self._sink.refuse = echo(451, letters)
        assert program.request_reset(email=email).status_code == 202
        wait_until(lambda: letters, "the mail server has refused a letter for now")
        self._sink.be_well()
        link = self._link(email, number + 1)
        new = canaries.password()
        canaries.note_pair(program.reset(link, new))
        assert program.code(program.reset(link, new)) == "token_used"
        canaries.note_pair(program.login(email, new))

    def _type_wrong_passwords(self, email: str) -> None:
        program, wrong = self._program, self.canaries.password()
        assert program.login(email, wrong).status_code == 401
        assert program.login(self.canaries.email(), wrong).status_code == 401
        assert program.post("/auth/login", {"email": email, "password": [wrong]}).status_code == 422
        assert program.post("/auth/login", {"email": email, wrong: wrong}).status_code == 422
        torn = json.dumps({"email": email, "password": wrong})[:-1]
        for kind, status in (("application/json", 400), ("text/plain", 415)):
            assert program.client.send("/auth/login", torn, kind).status_code == status

    def go_as_person(self) -> None:
        """Do much of that in a browser."""
        person, canaries = self._person, self.canaries
        email, password = canaries.email(), canaries.password()
        canaries.passwords.append(f"{email} {email}")  # which is refused, and the form shown again
        assert person.signup(email, canaries.passwords[-1]).status_code == 422
        person.follow(person.signup(email, password, name="Ada"))
        person.follow(person.verify(self._link(email, 1)))
        canaries.note_cookies(person.client.cookies)
        person.follow(person.logout())
        assert person.login(email, canaries.password()).status_code == 422
        person.follow(person.login(email, password))
        canaries.note_cookies(person.client.cookies)
        assert email in person.me().text
        person.follow(person.request_reset(email=email))
        person.follow(person.reset(self._link(email, 2), canaries.password()))

    @contextmanager
    def be_refused(self, server: AppServer) -> Iterator[None]:
        """Sign up while the server is down; inside, a worker is told that the mail will never be taken."""
        letters: list[Copy] = []
        app = create_app({**server.settings, "ACCOUNTFLOW_MAIL_KICK": "worker"})
        with app.app_context():
            accounts.signup(self.canaries.email(), self.canaries.password())
            db.session.remove()
            db.engine.dispose()
        self._sink.refuse = echo(554, letters)
        yield
        [letter] = letters
        assert letter.link is not None
        self.canaries.note_link(letter.link)


@dataclass(frozen=True)
class Evidence:
    """What a journey has left behind."""

    canaries: Canaries
    engine: sa.Engine
    folder: Path
    #: What is no row and no file: the mails, and the answers of the server.
    others: Mapping[str, str]

    def logs(self) -> dict[str, str]:
        """Return what was logged and printed."""
        return {path.name: path.read_text() for path in self.folder.glob("*.log")}

    def places(self) -> dict[str, str]:
        """Return everything that can be searched."""
        return {**dump(self.engine), **self.logs(), **self.others}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def evidence(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    """What is left of a journey through a server and a worker."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "sitecustomize.py").write_text(LISTEN)
    with database(request.param, folder) as engine, Sink() as sink, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CANARY_LOGS", str(folder))
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        uri = engine.url.render_as_string(hide_password=False)
        server = AppServer(uri, sink, folder, ACCOUNTFLOW_RESEND_AFTER=1)  # type: ignore[arg-type]
        server.flask("db", "upgrade")
        server.start("--access-logfile", str(folder / "access.log"))
        journey = Journey(server, sink)
        try:
            journey.go_as_program()
            journey.go_as_person()
            wait_until(lambda: waiting(engine) == 0, "no mail waits")  # for a worker, who is not to send it
        finally:
            server.stop()
        with journey.be_refused(server), Worker(server, folder / "worker.log") as worker:
            wait_until(lambda: waiting(engine) == 0, "no mail waits")
        (folder / "printed.log").write_text("".join(worker.printed))
        others = {
            "mails": "\n".join(f"{copy.mail.part('plain')}\n{copy.content.decode()}" for copy in sink.copies),
            "responses": "\n".join(journey.responses),
        }
        yield Evidence(journey.canaries, engine, folder, others)


def test_PWD_12_passwords_are_nowhere(evidence: Evidence) -> None:
    """No password that was ever typed, right or wrong, is stored, logged, printed, mailed or shown."""
    assert found_in(evidence.places(), evidence.canaries.passwords) == set()


def test_AUD_03_hashes_are_where_they_belong(evidence: Evidence) -> None:
    """The hash of a password is in the columns that are made for it, and nowhere else."""
    user, token = accounts.tables.user, accounts.tables.token
    with evidence.engine.connect() as connection:
        kept = [row.password_hash for row in connection.execute(sa.select(user))]
        waiting = [(row.payload or {}).get("password_hash") for row in connection.execute(sa.select(token))]
    hashes = {one for one in [*kept, *waiting] if one is not None}
    assert len(hashes) == 5
    assert found_in(evidence.places(), hashes) == set(HASHES_IN)


def test_AUD_03_links_are_where_they_belong(evidence: Evidence) -> None:
    """No token of a mailed link, and no part of one, is stored or in a log of ours."""
    assert len(evidence.canaries.links) == 3 * 6
    assert found_in(evidence.places(), evidence.canaries.links) == set(LINKS_IN)


def test_AUD_03_tokens_are_where_they_belong(evidence: Evidence) -> None:
    """No access token, refresh token or cookie, and no part of one, is stored or in any log."""
    assert found_in(evidence.places(), evidence.canaries.tokens) == set(TOKENS_IN)


def test_AUD_03_addresses_are_where_they_belong(evidence: Evidence) -> None:
    """An address is in the columns that are made for it, and in no log of ours, whatever a mail server answers."""
    places = {**dump(evidence.engine), **evidence.logs()}
    assert found_in(places, evidence.canaries.emails) == set(ADDRESSES_IN)


def test_AUD_03_a_database_that_fails(evidence: Evidence, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of the database is logged without what was to be stored."""
    email, password = Canaries().email(), Canaries().password()
    uri = evidence.engine.url.render_as_string(hide_password=False)
    app = create_app({**PLAIN, "SQLALCHEMY_DATABASE_URI": uri})
    with evidence.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE accountflow_token RENAME TO elsewhere"))

    answer = app.test_client().post("/auth/signup", json={"email": email, "password": password})

    with evidence.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE elsewhere RENAME TO accountflow_token"))
    with app.app_context():
        db.engine.dispose()
    assert answer.status_code in {500, 503}
    assert "accountflow_token" in caplog.text
    assert found_in({"log": caplog.text}, [email, password]) == set()


def test_the_mail_server_was_heard(evidence: Evidence) -> None:
    """What the mail server said to a refused letter is kept and logged, without the address and the link in it."""
    places = evidence.places()
    for place in ("accountflow_mail.last_error", "app.log"):
        assert "5.7.1 <address> refused, and here is your letter" in places[place]


@pytest.mark.parametrize("disguise", [str, json.dumps, quote_plus, html.escape])
def test_a_planted_canary_is_found(evidence: Evidence, disguise: Callable[[str], str]) -> None:
    """The search finds a secret in any column and any log, plain or encoded."""
    secret = Canaries().password()
    assert found_in(evidence.places(), [secret]) == set()

    mail, session = accounts.tables.mail, accounts.tables.session
    with (evidence.folder / "app.log").open("a") as log:
        log.write(f"something {disguise(secret)} happened\n")
    with evidence.engine.begin() as connection:
        before = connection.execute(sa.select(mail.c.id, mail.c.context)).first()
        assert before is not None
        connection.execute(sa.update(mail).where(mail.c.id == before.id).values(context={"next": [disguise(secret)]}))
        connection.execute(sa.update(session).values(user_agent=disguise(secret)))

    found = found_in(evidence.places(), [secret])

    assert found == {"accountflow_mail.context", "accountflow_session.user_agent", "app.log"}
