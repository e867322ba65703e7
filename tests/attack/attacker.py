"""What an attacker has: the address of a site, a network address, sockets, and a mailbox.

And what an operator may do meanwhile. Nothing here knows how the site works inside.
"""

from __future__ import annotations

import base64
import json
import random
import re
import secrets
import socket
import threading
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from html.parser import HTMLParser
from http.client import HTTPConnection, HTTPMessage, HTTPResponse
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode, urlsplit

import sqlalchemy as sa
from live_server import AppServer, Mail, MailServer, wait_until

PASSWORD = "correct horse battery"
OTHER_PASSWORD = "another horse battery"
ATTACKERS_PASSWORD = "the attacker's own horse"

#: How gunicorn serves every site.
PROCESSES = ("--workers", "4", "--preload")

# Seconds. An answer that takes longer is a fault of its own.
PATIENCE = 45

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
HTML = "text/html,application/xhtml+xml,*/*;q=0.8"

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


class Mailbox(MailServer):
    """A mail server that also knows how many mails it took, to whomever."""

    total = 0
    _silent: socket.socket | None = None

    def fall_silent(self) -> None:
        """Let connections come about, and never say a word."""
        self.down()
        self._silent = socket.create_server(("127.0.0.1", self.port))

    def be_well(self) -> None:
        """Have no faults."""
        if self._silent is not None:
            self._silent.close()
            self._silent = None
        super().be_well()

    def keep(self, mail: Mail) -> None:
        """Take a mail."""
        self.total += 1
        super().keep(mail)


class Site:
    """A site to attack, and what its operator can do."""

    def __init__(self, server: AppServer) -> None:
        self._server = server
        self.base_url: str = server.base_url
        self.port: int = server.port
        self.mail: Any = server.mail

    def flask(self, *command: str) -> str:
        """Run a command of the app and return what it printed; a failure of it fails the test."""
        return self._server.flask(*command)

    def configure(self, **settings: Any) -> None:
        """Start anew with other settings; None takes one away."""
        self._server.kill()
        for name, value in settings.items():
            self._server.settings.pop(name, None)
            if value is not None:
                self._server.settings[name] = value
        self._server.start(*PROCESSES)

    def refusal(self, **settings: Any) -> str:
        """Return what the app prints when it refuses to start with these settings; None takes one away."""
        given = {**self._server.settings, **settings}
        kept, self._server.settings = (
            self._server.settings,
            {name: one for name, one in given.items() if one is not None},
        )
        try:
            printed = self.flask("accountflow", "settings")
        except AssertionError as error:
            return str(error)
        finally:
            self._server.settings = kept
        raise AssertionError(f"it starts, and prints:\n{printed}")

    def setting(self, name: str) -> Any:
        """Return what a setting is now."""
        return self._server.settings.get(name)

    def log(self) -> str:
        """Return what the server has printed."""
        return self._server.log.read_text(errors="replace")

    def dump(self) -> list[str]:
        """Return every value in the database as a text, as somebody would read it who has stolen a backup."""
        engine = sa.create_engine(self._server.settings["SQLALCHEMY_DATABASE_URI"])
        tables = sa.MetaData()
        tables.reflect(engine)
        try:
            with engine.connect() as connection:
                rows = [row for table in tables.sorted_tables for row in connection.execute(sa.select(table))]
        finally:
            engine.dispose()
        values = (value for row in rows for value in row if value is not None)
        return [value.hex() if isinstance(value, bytes) else str(value) for value in values]


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: HTTPMessage
    body: bytes
    path: str

    @cached_property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    @cached_property
    def json(self) -> Any:
        """The body as JSON; an empty object where there is none."""
        return json.loads(self.body) if self.body else {}

    @property
    def code(self) -> str:
        """What a program decides by."""
        return str(self.json.get("code") or self.json.get("status"))

    @property
    def location(self) -> str:
        """Where a redirect leads."""
        return self.headers["Location"] or ""

    @cached_property
    def cookies(self) -> dict[str, str]:
        """The cookies that it sets."""
        jar = SimpleCookie()
        for line in self.headers.get_all("Set-Cookie", ()):
            jar.load(line)
        return {name: morsel.coded_value for name, morsel in jar.items()}


@dataclass(frozen=True)
class Aging:
    """Links that were never opened, and when they were made: seconds of the monotonic clock."""

    pending: str
    verify: str
    email: str
    reset: str
    made_at: float


class Visitor:
    """Somebody with a network address of his own, and a jar of cookies."""

    def __init__(self, site: Site, network: str | None = None) -> None:
        self.site = site
        self.network = network if network is not None else some_network()
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, target: str, body: bytes = b"", headers: Headers = ()) -> Answer:
        """Send a request and return its answer. A cookie that is given takes the place of the jar."""
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        if self.cookies and not any(name.lower() == "cookie" for name, _ in pairs):
            pairs.append(("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items())))
        connection = self.connection()
        try:
            _begin(connection, method, target, pairs, len(body))
            connection.endheaders(body)
            answer = read(connection.getresponse(), target)
        finally:
            connection.close()
        self._keep(answer)
        return answer

    def connection(self) -> HTTPConnection:
        """Return a connection from this visitor's address."""
        return HTTPConnection("127.0.0.1", self.site.port, timeout=PATIENCE, source_address=(self.network, 0))

    def _keep(self, answer: Answer) -> None:
        for line in answer.headers.get_all("Set-Cookie", ()):
            for name, morsel in SimpleCookie(line).items():
                self.cookies.pop(name, None)
                if morsel["max-age"] != "0":
                    self.cookies[name] = morsel.coded_value


def _begin(connection: HTTPConnection, method: str, target: str, pairs: list[tuple[str, str]], length: int) -> None:
    names = {name.lower() for name, _ in pairs}
    connection.putrequest(method, target, skip_host="host" in names, skip_accept_encoding=True)
    for name, value in [*pairs, ("Connection", "close")]:
        connection.putheader(name, value)
    if method not in {"GET", "HEAD"} and not names & {"content-length", "transfer-encoding"}:
        connection.putheader("Content-Length", str(length))


def read(response: HTTPResponse, path: str) -> Answer:
    """Return the answer in a response."""
    return Answer(response.status, response.headers, response.read(), path)


def raw(site: Site, request: bytes) -> Answer:
    """Send these bytes as they are."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as connection:
        connection.sendall(request)
        response = HTTPResponse(connection)
        response.begin()
        return read(response, "")


class Program(Visitor):
    """A JSON client."""

    def get(self, path: str, token: str | None = None, **headers: str) -> Answer:
        return self.ask("GET", path, headers={"Accept": JSON, **bearer(token), **named(headers)})

    def post(self, path: str, data: Any = None, token: str | None = None, **headers: str) -> Answer:
        body = data if isinstance(data, bytes) else json.dumps({} if data is None else data).encode()
        given = {"Accept": JSON, "Content-Type": JSON, **bearer(token), **named(headers)}
        return self.ask("POST", path, body, given)

    def signup(self, email: Any, password: Any = PASSWORD, **fields: Any) -> Answer:
        return self.post("/auth/signup", {"email": email, "password": password, **fields})

    def login(self, email: Any, password: Any = PASSWORD, **fields: Any) -> Answer:
        return self.post("/auth/login", {"email": email, "password": password, **fields})

    def verify(self, link: str, **fields: Any) -> Answer:
        return self.post(link, fields)

    def ask_reset(self, email: Any) -> Answer:
        return self.post("/auth/password-reset/request", {"email": email})

    def reset(self, link: str, password: str = OTHER_PASSWORD, **fields: Any) -> Answer:
        return self.post(link, {"password": password, **fields})

    def refresh(self, token: Any) -> Answer:
        return self.post("/auth/refresh", {"refresh_token": token})

    def me(self, token: str) -> Answer:
        return self.get("/auth/me", token)


class Browser(Visitor):
    """A browser without JavaScript."""

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers={"Accept": HTML, **named(headers)})

    def send(self, path: str, fields: Mapping[str, Any] | Sequence[tuple[str, Any]], **headers: str) -> Answer:
        """Post fields as they are, without a form."""
        body = urlencode(fields).encode()
        return self.ask("POST", path, body, {"Accept": HTML, "Content-Type": FORM, **named(headers)})

    def fill(self, path: str, number: int = 0, **fields: Any) -> Answer:
        """Open a page, fill in one of its forms, and send it; None leaves a field out."""
        form = forms_of(self.get(path))[number]
        values = {name: value for name, value in {**form.values, **fields}.items() if value is not None}
        return self.send(form.action or path, values)

    def signup(self, email: str, password: str = PASSWORD, **fields: Any) -> Answer:
        return self.fill("/auth/signup", email=email, password=password, **fields)

    def login(self, email: str, password: str = PASSWORD, **fields: Any) -> Answer:
        return self.fill("/auth/login", email=email, password=password, **fields)

    def verify(self, link: str, **fields: Any) -> Answer:
        return self.fill(link, **fields)

    def ask_reset(self, email: str) -> Answer:
        return self.fill("/auth/password-reset/request", email=email)

    def reset(self, link: str, password: str = OTHER_PASSWORD) -> Answer:
        return self.fill(link, password=password)

    def logout(self) -> Answer:
        return self.fill("/auth/logout")

    @property
    def is_in(self) -> bool:
        """Whether a page for members opens."""
        return self.get("/secret").status == 200


class Form:
    """A form on a page."""

    def __init__(self, action: str) -> None:
        self.action = action
        self.values: dict[str, str] = {}
        self.has_button = False


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self.found.append(Form(given.get("action") or ""))
        if tag not in {"input", "button"} or not self.found:
            return
        form, name = self.found[-1], given.get("name")
        # The first button is what the return key presses; no other is sent.
        is_second, form.has_button = tag == "button" and form.has_button, form.has_button or tag == "button"
        if name is None or is_second or (given.get("type") == "checkbox" and "checked" not in given):
            return
        form.values[name] = given.get("value") or ("on" if given.get("type") == "checkbox" else "")


def forms_of(page: Answer) -> list[Form]:
    """Return the forms of a page."""
    parser = _Forms()
    parser.feed(page.text)
    return parser.found


def named(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers that were given as keyword arguments: ``sec_fetch_site`` is ``Sec-Fetch-Site``."""
    return {name.replace("_", "-").title(): value for name, value in headers.items()}


def bearer(token: str | None) -> dict[str, str]:
    """Return the header that shows an access token."""
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def some_email() -> str:
    """Return an address that nobody has. All have the same length."""
    return f"{secrets.token_hex(8)}@example.com"


def some_network() -> str:
    """Return an address of the loopback network that nobody else uses."""
    return f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}"


def path_of(link: str) -> str:
    """Return the path in a link."""
    return urlsplit(link).path


def token_of(link: str) -> str:
    """Return the token at the end of a link."""
    return path_of(link).rpartition("/")[2]


def sign_up(site: Site, email: str, password: str = PASSWORD, visitor: Any = None) -> str:
    """Sign up and return the path of the link that was mailed."""
    known = len(site.mail.mails(email, "/verify/"))
    answer = (visitor or Program(site)).signup(email, password)
    assert answer.status in {202, 303}, answer.text
    return new_link(site, email, "verify", known)


def new_link(site: Site, email: str, kind: str, known: int) -> str:
    """Return the path of a link as soon as more mails than ``known`` have brought one."""
    wait_until(lambda: len(site.mail.mails(email, f"/auth/{kind}/")) > known, f"a mail with a link to {kind}")
    return path_of(site.mail.link(email, kind))


def join(site: Site, email: str | None = None, password: str = PASSWORD) -> str:
    """Make an account whose address is proved, and return the address."""
    email = email if email is not None else some_email()
    assert Program(site).verify(sign_up(site, email, password)).code == "verified"
    return email


def ask_reset(site: Site, email: str) -> str:
    """Ask for a reset link and return its path."""
    known = len(site.mail.mails(email, "/password-reset/"))
    assert Program(site).ask_reset(email).status == 202
    return new_link(site, email, "password-reset", known)


def settle(site: Site) -> None:
    """Wait until no mail is waiting: what has not arrived by now will not."""
    probe = Program(site)
    wait_until(lambda: probe.get("/healthz").json["mail"]["pending"] == 0, "no mail waits")


def mails_to(site: Site, *addresses: str) -> list[Mail]:
    """Return every mail that one of the addresses got, when all have been sent."""
    settle(site)
    return [mail for address in addresses for mail in site.mail.mails(address)]


def volley(requests: Iterable[tuple[Visitor, str, Any]]) -> list[Answer]:
    """Post all of them as JSON at one moment: each is sent but for its last byte, which all send together."""
    shots = list(requests)
    barrier = threading.Barrier(len(shots), timeout=PATIENCE)

    def shoot(shot: tuple[Visitor, str, Any]) -> Answer:
        visitor, path, data = shot
        body = json.dumps(data).encode()
        connection = visitor.connection()
        try:
            _begin(connection, "POST", path, [("Accept", JSON), ("Content-Type", JSON)], len(body))
            connection.endheaders(body[:-1])
            barrier.wait()
            connection.send(body[-1:])
            return read(connection.getresponse(), path)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(shots)) as pool:
        return list(pool.map(shoot, shots))


_RANDOM = re.compile(r"[0-9a-f]{32}")


def shape(answer: Answer, *own: str) -> tuple[Any, ...]:
    """Return an answer without what is different in any two of them: the time, random numbers, and what was typed."""
    text = _RANDOM.sub("…", answer.text)
    for word in own:
        text = text.replace(word, "…")
    headers = [(name, value) for name, value in answer.headers.items() if name not in {"Date", "Set-Cookie"}]
    attributes = [line.partition(";")[2] for line in answer.headers.get_all("Set-Cookie", ())]
    cookies = {name: members(value) for name, value in answer.cookies.items()}
    return answer.status, sorted(headers), cookies, _without_dates(attributes), text


def decoded(value: str) -> bytes:
    """Return what the owner of a signed cookie can read in it. Its length says nothing: it may be compressed."""
    part = value.lstrip(".").partition(".")[0]
    content = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    return zlib.decompress(content) if value.startswith(".") else content


def members(value: str) -> list[str]:
    """Return the names of what is in a signed cookie; none when it is empty, or no object."""
    found = json.loads(decoded(value)) if value.strip('"') else {}
    return sorted(found) if isinstance(found, dict) else []


def _without_dates(attributes: list[str]) -> list[str]:
    return sorted(re.sub(r"Expires=[^;]*", "Expires=…", line) for line in attributes)


def timed(call: Any) -> float:
    """Return how many seconds a call takes."""
    started = time.monotonic()
    call()
    return time.monotonic() - started
