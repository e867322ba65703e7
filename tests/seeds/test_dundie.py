"""What users of Dundie find here. The docstrings are the rows of docs/coming-from.md."""

from __future__ import annotations

import base64
import re
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from jinja2 import FileSystemLoader
from live_server import MailServer
from support import BASE_URL, OTHER_PASSWORD, PASSWORD, Person, Program, Site, services

EMAIL = "vic@example.com"
UNCONFIRMED, DISABLED, UNKNOWN = "pia@example.com", "lee@example.com", "una@example.com"

MakeSite = Callable[..., Site]
Visitor = Program | Person


@pytest.fixture(params=[Program, Person], ids=["json", "html"])
def kind(request: pytest.FixtureRequest) -> type[Visitor]:
    """Whether a program or a person comes, for tests that make their own site."""
    found: type[Visitor] = request.param
    return found


@pytest.fixture
def post_office() -> Iterator[MailServer]:
    """A mail server of the test's own."""
    with MailServer() as server:
        yield server


def smtp(server: MailServer) -> dict[str, Any]:
    """Return the configuration of a mail server; what sends is not chosen by it."""
    return {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": server.port, "MAIL_SUPPRESS_SEND": False}


def path_of(link: str) -> str:
    """Return a mailed link without the address of the site."""
    return link.removeprefix(BASE_URL)


# Asking for a new password.


def test_the_answer_is_always_the_same(site: Site, visitor: Visitor) -> None:
    """One endpoint takes any address and always gives the same answer; only a mailbox learns who has an account."""
    site.member(EMAIL)
    site.member(DISABLED)
    site.program().signup(UNCONFIRMED)
    with site.app.app_context():
        site.accounts.disable_user(DISABLED)
    site.letters.clear()

    answers = set()
    for email in (EMAIL, UNCONFIRMED, DISABLED, UNKNOWN):
        response = type(visitor)(site).request_reset(email=email)
        headers = sorted((name, text) for name, text in response.headers if name not in {"Date", "Set-Cookie"})
        answers.add((response.status_code, str(headers), response.text.replace(email, "…")))

    assert len(answers) == 1
    assert {status for status, _, _ in answers} == {202 if visitor.kind == "json" else 303}
    assert sorted(letter.to for letter in site.letters) == [UNCONFIRMED, EMAIL]


@pytest.mark.parametrize("minutes", [10, 90])
def test_the_life_is_short_and_named(make_site: MakeSite, kind: type[Visitor], minutes: int) -> None:
    """`ACCOUNTFLOW_RESET_MAX_AGE` says how long the link works, and the mail names that in minutes."""
    site = make_site({"ACCOUNTFLOW_RESET_MAX_AGE": minutes * 60, "ACCOUNTFLOW_RESEND_AFTER": 1})
    visitor = kind(site)
    site.member(EMAIL)

    visitor.request_reset(email=EMAIL)
    early = site.last_link
    site.clock.tick(minutes * 60)
    late = visitor.open(early)
    visitor.request_reset(email=EMAIL)
    site.clock.tick(minutes * 60 - 1)
    in_time = visitor.open(site.last_link)
    visitor.reset(site.last_link)

    for part in (site.letters[0].text, site.letters[0].html):
        assert f"within {minutes} minutes" in part
    assert (late.status_code, in_time.status_code) == (410, 200)
    assert site.program().login(EMAIL, OTHER_PASSWORD).status_code == 200


@pytest.mark.parametrize("kind_of_part", ["text", "html"])
def test_the_message_is_a_jinja_file(site: Site, visitor: Visitor, tmp_path: Path, kind_of_part: str) -> None:
    """The message is a Jinja file, `accountflow/mail/reset.txt` (and `.html`); a file of the app's takes its place."""
    folder = tmp_path / "accountflow" / "mail"
    folder.mkdir(parents=True)
    suffix = {"text": "txt", "html": "html"}[kind_of_part]
    (folder / f"reset.{suffix}").write_text(
        "Para {{ email }}: {{ link }} ({{ life_text }}, {{ site_name }})\n", "utf-8"
    )
    site.app.jinja_loader = FileSystemLoader(tmp_path)
    site.member(EMAIL)

    visitor.request_reset(email=EMAIL)

    [letter] = site.letters
    written = {"text": letter.text, "html": letter.html}
    assert written.pop(kind_of_part).strip() == f"Para {EMAIL}: {letter.link} (1 hour, Shop)"
    assert "Para" not in str(written)
    assert visitor.open(path_of(str(letter.link))).status_code == 200


# Sending.


@pytest.mark.parametrize("transport", ["file", "smtp"])
def test_one_setting_switches_the_sender(
    make_site: MakeSite, post_office: MailServer, tmp_path: Path, kind: type[Visitor], transport: str
) -> None:
    """`ACCOUNTFLOW_MAIL_TRANSPORT` alone switches between a log file and SMTP; nothing else of the app changes."""
    log = tmp_path / "mail.log"
    config = {**smtp(post_office), "ACCOUNTFLOW_MAIL_FILE": str(log), "ACCOUNTFLOW_MAIL_TRANSPORT": transport}
    site = make_site(config, transport=None)
    site.member(EMAIL)

    kind(site).request_reset(email=EMAIL)

    logged = log.read_text("utf-8") if log.exists() else ""
    sent = [link for mail in post_office.mails(EMAIL) for link in mail.links]
    written = re.findall(rf"^{BASE_URL}\S+$", logged, re.MULTILINE)
    assert (len(written), len(sent)) == ((1, 0) if transport == "file" else (0, 1))
    assert (f"--- START EMAIL {EMAIL} ---" in logged) is (transport == "file")
    assert kind(site).open(path_of([*written, *sent][0])).status_code == 200


@pytest.mark.parametrize("email", [EMAIL, UNKNOWN])
def test_the_request_does_not_wait(
    make_site: MakeSite, post_office: MailServer, kind: type[Visitor], email: str
) -> None:
    """The request does not wait for the sender: however slow that is, the answer comes at once, to everybody."""
    config = {**smtp(post_office), "ACCOUNTFLOW_MAIL_TRANSPORT": "smtp", "ACCOUNTFLOW_MAIL_KICK": "thread"}
    site = make_site(config, transport=None)
    site.member(EMAIL)
    visitor = kind(site)
    post_office.delay = 2

    try:
        began = time.monotonic()
        response = visitor.request_reset(email=email)
        took = time.monotonic() - began
        arrived = len(post_office.mails(email))
        if email == EMAIL:
            post_office.wait_for(email)
            assert time.monotonic() - began >= post_office.delay
    finally:
        assert services(site).kick._threads.stop(10)

    assert response.status_code == {"json": 202, "html": 303}[visitor.kind]
    assert (took < post_office.delay, arrived) == (True, 0)


# Tokens.


class Holder:
    """Somebody who holds one token of every kind on a site, all of them good."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.program = site.program()
        self.browser = site.app.test_client()
        self.tokens = self._collect()

    def _collect(self) -> dict[str, list[str]]:
        site, program = self.site, self.program
        program.signup(UNCONFIRMED)
        verify = site.last_token
        site.member(EMAIL)
        program.request_reset(email=EMAIL)
        pair = program.login(EMAIL).json
        self.access = pair["access_token"]
        csrf = self.in_browser("GET", "/auth/csrf").json["csrf_token"]
        body = {"email": EMAIL, "password": PASSWORD, "transport": "cookie"}
        self.in_browser("POST", "/auth/login", json=body, headers={"X-CSRF-Token": csrf})
        csrf = self.in_browser("GET", "/auth/csrf").json["csrf_token"]
        cookie = self.browser.get_cookie("session")
        assert cookie is not None
        return {
            "verify link": [verify],
            "reset link": [site.last_token],
            "access token": [self.access],
            "refresh token": [pair["refresh_token"]],
            "session cookie": [cookie.value],
            "csrf token": [csrf],
            "row id": list(self._row_ids()),
        }

    def _row_ids(self) -> Iterator[str]:
        """Yield the id of every row there is, in every spelling that somebody might try; a login's first."""
        for table in ("session", "token", "user", "mail"):
            for row in self.site.rows(table):
                yield str(row.id)
                if isinstance(row.id, uuid.UUID):
                    yield row.id.hex
                    yield base64.urlsafe_b64encode(row.id.bytes).rstrip(b"=").decode()

    def in_browser(self, method: str, path: str, **given: Any) -> Any:
        """Send a request as JSON, with the cookies of the browser."""
        given["headers"] = {"Accept": "application/json", **given.get("headers", {})}
        return self.browser.open(path, method=method, **given)

    def with_cookie(self, value: str) -> Person:
        """Return a person whose browser holds this session cookie."""
        person = self.site.person()
        person.client.set_cookie("session", value)
        return person

    def rows(self) -> list[Any]:
        """Return everything that is stored."""
        return [self.site.rows(table) for table in ("user", "token", "session", "mail")]


def _as_link(holder: Holder, path: str, body: dict[str, Any], value: str) -> Iterator[int]:
    """Try a text as the token of a link, in every format and method that there is."""
    link = f"{path}/{value}"
    yield holder.program.get(link).status_code
    yield holder.site.person().get(link).status_code
    yield holder.site.person().send(link, body).status_code
    yield holder.program.post(link, body).status_code


def as_verify_link(holder: Holder, value: str) -> Iterator[int]:
    yield from _as_link(holder, "/auth/verify", {}, value)
    yield holder.program.post("/auth/verify", {"token": value}).status_code
    # Answers everybody alike; what it does not do is seen in the rows.
    holder.program.resend(token=value)


def as_reset_link(holder: Holder, value: str) -> Iterator[int]:
    body = {"password": OTHER_PASSWORD}
    yield from _as_link(holder, "/auth/password-reset", body, value)
    yield holder.program.post("/auth/password-reset/confirm", {**body, "token": value}).status_code
    holder.program.request_reset(token=value)


def as_access_token(holder: Holder, value: str) -> Iterator[int]:
    for path in ("/auth/me", "/secret"):
        yield holder.program.get(path, authorization=f"Bearer {value}").status_code


def as_refresh_token(holder: Holder, value: str) -> Iterator[int]:
    yield holder.program.post("/auth/refresh", {"refresh_token": value}).status_code
    holder.program.post("/auth/logout", {"refresh_token": value})


def as_session_cookie(holder: Holder, value: str) -> Iterator[int]:
    yield holder.with_cookie(value).get("/auth/me").status_code
    yield holder.with_cookie(value).get("/auth/me", accept="application/json").status_code
    yield holder.with_cookie(value).get("/secret").status_code


def as_csrf_token(holder: Holder, value: str) -> Iterator[int]:
    person = holder.site.person()
    person.client = holder.browser
    yield person.send("/auth/logout", {"csrf_token": value}).status_code
    headers = {"X-CSRF-Token": value}
    yield holder.in_browser("POST", "/auth/logout", json={}, headers=headers).status_code


def as_row_id(holder: Holder, value: str) -> Iterator[int]:
    """Try a text as the id of a login of one's own, which is to be ended."""
    headers = {"Accept": "application/json", "Authorization": f"Bearer {holder.access}"}
    client: Any = holder.program.client
    yield client.delete(f"/auth/sessions/{value}", headers=headers).status_code


#: How each kind of token is used, and what answers a text that is none of its kind.
PLACES: dict[str, tuple[Callable[[Holder, str], Iterator[int]], set[int]]] = {
    "verify link": (as_verify_link, {400}),
    "reset link": (as_reset_link, {400}),
    "access token": (as_access_token, {401}),
    "refresh token": (as_refresh_token, {401}),
    # A person is led to the login page.
    "session cookie": (as_session_cookie, {401, 303}),
    "csrf token": (as_csrf_token, {403}),
    "row id": (as_row_id, {404}),
}


@pytest.mark.parametrize(
    ("token", "place"), list(permutations(PLACES, 2)), ids=lambda name: str(name).replace(" ", "-")
)
def test_no_token_stands_in_for_another(site: Site, token: str, place: str) -> None:
    """A token has one purpose: a good one of another kind is refused, and changes nothing."""
    holder = Holder(site)
    use, refused = PLACES[place]
    before = holder.rows()

    answers = {value: set(use(holder, value)) for value in holder.tokens[token]}

    assert answers
    assert {value: found for value, found in answers.items() if not found <= refused} == {}
    assert holder.rows() == before


@pytest.mark.parametrize("place", PLACES, ids=lambda name: str(name).replace(" ", "-"))
def test_every_token_works_at_its_own_place(site: Site, place: str) -> None:
    """Each kind of token does what it is for, also after it was tried at every other place."""
    holder = Holder(site)
    for other, (use_elsewhere, _) in PLACES.items():
        for value in holder.tokens[place] if other != place else ():
            list(use_elsewhere(holder, value))

    use, refused = PLACES[place]
    answers = list(use(holder, holder.tokens[place][0]))

    assert answers[0] not in refused
    assert answers[0] < 400
