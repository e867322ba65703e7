"""What users of DivBase find here. The docstrings are the rows of docs/coming-from.md."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from live_server import MailServer
from support import OTHER_PASSWORD, PASSWORD, Person, Program, Site, forms_of, services

ROOT = Path(__file__).resolve().parents[2]
EMAIL = "ada@example.com"
ADMIN = "root@example.com"
HOUR = 3600

MakeSite = Callable[..., Site]
Visitor = Program | Person


@pytest.fixture(params=[Program, Person], ids=["json", "html"])
def kind(request: pytest.FixtureRequest) -> type[Visitor]:
    """Whether a program or a person comes, for tests that make their own site."""
    found: type[Visitor] = request.param
    return found


def heading(page: Any) -> str:
    """Return the heading of a page."""
    found = re.search(r"<h1\b[^>]*>(.*?)</h1>", page.text, re.DOTALL)
    return "" if found is None else " ".join(found[1].split())


def told(visitor: Visitor, response: Any) -> str:
    """Return what an answer says: ``in`` for who is logged in, else a program's code or a person's heading."""
    if isinstance(visitor, Program):
        return "in" if response.status_code == 200 else visitor.code(response)
    if response.headers.get("Location") == "/":
        return "in"
    return heading(visitor.follow(response) if response.status_code == 303 else response)


#: What a person reads where a program gets a code.
HEADINGS = {
    "in": "in",
    "email_unverified": "Confirm your email first",
    "account_disabled": "This account is disabled",
    "invalid_credentials": "Log in",
    "token_expired": "This link has expired",
}


def expected(visitor: Visitor, code: str) -> str:
    """Return what ``told`` finds where a program gets ``code``."""
    return code if isinstance(visitor, Program) else HEADINGS[code]


def operate(site: Site, path: str, body: dict[str, Any]) -> Any:
    """Send something as an administrator."""
    if site.account(ADMIN) is None:
        site.member(ADMIN, admin=True)
    login = site.program().login(ADMIN)
    return site.program().post(path, body, authorization=f"Bearer {login.json['access_token']}")


def command(site: Site, *words: str) -> str:
    """Run ``flask accountflow …``, which must succeed, and return what it says."""
    result = site.app.test_cli_runner().invoke(args=["accountflow", *words])
    assert result.exit_code == 0, result.output
    return result.output


def smtp(server: MailServer) -> dict[str, Any]:
    """Return the configuration that sends by a mail server, also under testing."""
    return {
        "ACCOUNTFLOW_MAIL_TRANSPORT": "smtp",
        "MAIL_SERVER": "127.0.0.1",
        "MAIL_PORT": server.port,
        "MAIL_SUPPRESS_SEND": False,
    }


# email_verified.


def test_verified_and_active_are_two_facts(site: Site, visitor: Visitor) -> None:
    """`email_verified` and `is_active` are two facts: confirming enables nobody, and enabling confirms nobody."""

    def facts() -> tuple[bool, bool]:
        account = site.account(EMAIL)
        return account.email_verified_at is not None, account.is_active

    visitor.signup(EMAIL)
    found = [facts()]
    link = site.last_link
    command(site, "disable-user", EMAIL)
    visitor.verify(link)
    found.append(facts())
    command(site, "disable-user", EMAIL, "--undo")
    found.append(facts())
    site.clock.tick(61)
    visitor.resend(email=EMAIL)
    visitor.verify(site.last_link)
    found.append(facts())
    command(site, "disable-user", EMAIL)
    found.append(facts())

    assert found == [(False, True), (False, False), (False, True), (True, True), (True, False)]


@pytest.mark.parametrize(
    ("verified", "active", "code"),
    [
        (True, True, "in"),
        (False, True, "email_unverified"),
        (True, False, "account_disabled"),
        (False, False, "account_disabled"),
    ],
)
def test_login_checks_both(site: Site, visitor: Visitor, verified: bool, active: bool, code: str) -> None:
    """A login checks that the address is verified, and that the account is active."""
    site.member(EMAIL, verified=verified)
    site.change(EMAIL, is_active=active)

    response = visitor.login(EMAIL)

    assert told(visitor, response) == expected(visitor, code)
    assert len(site.rows("session")) == (1 if code == "in" else 0)


def test_refresh_checks_both(site: Site) -> None:
    """A refresh checks both again, so a token from before is worth nothing while one of them is missing."""
    site.member(EMAIL)
    program = site.program()
    token = program.login(EMAIL).json["refresh_token"]
    verified_at = site.account(EMAIL).email_verified_at

    def refresh() -> Any:
        return program.post("/auth/refresh", {"refresh_token": token})

    site.change(EMAIL, email_verified_at=None)
    unverified = refresh()
    site.change(EMAIL, email_verified_at=verified_at, is_active=False)
    disabled = refresh()
    site.change(EMAIL, is_active=True)
    again = refresh()

    assert (unverified.status_code, program.code(unverified)) == (403, "email_unverified")
    assert unverified.json["resend_url"] == "/auth/verify/resend"
    assert (disabled.status_code, program.code(disabled)) == (403, "account_disabled")
    assert again.status_code == 200


def test_an_unverified_user_is_told(site: Site, visitor: Visitor) -> None:
    """An unverified user with the right password is told to confirm, and can ask for a new link there."""
    visitor.signup(EMAIL)
    site.clock.tick(61)

    response = visitor.login(EMAIL)
    site.clock.tick(61)
    if isinstance(visitor, Program):
        asked = visitor.post(response.json["resend_url"], {"email": EMAIL})
    else:
        asked = visitor.submit(visitor.follow(response))

    assert told(visitor, response) == expected(visitor, "email_unverified")
    assert asked.status_code == {"json": 202, "html": 303}[visitor.kind]
    assert [letter.template for letter in site.letters] == ["verify"] * 3
    visitor.verify(site.last_link)
    assert site.account(EMAIL).email_verified_at is not None


def test_a_wrong_password_learns_nothing(site: Site, visitor: Visitor) -> None:
    """With a wrong password an unverified user learns what a stranger learns: nothing, and nothing is mailed."""
    site.program().signup(EMAIL)
    site.clock.tick(61)

    unverified = visitor.login(EMAIL, OTHER_PASSWORD)
    unknown = type(visitor)(site).login("una@example.com", OTHER_PASSWORD)

    assert told(visitor, unverified) == expected(visitor, "invalid_credentials")
    assert _body(unverified, EMAIL) == _body(unknown, "una@example.com")
    assert unverified.status_code == unknown.status_code
    assert len(site.letters) == 1


def _body(response: Any, email: str) -> str:
    """Return a body without the address that was typed and without the token of the form."""
    return re.sub(r'(name="csrf_token" value=")\w+', r"\1", response.text).replace(email, "…")


# Links.


@pytest.mark.parametrize(("seconds", "works"), [(24 * HOUR - 1, True), (24 * HOUR, False)])
def test_a_link_works_for_a_day(site: Site, visitor: Visitor, seconds: int, works: bool) -> None:
    """The link in the mail works for 24 hours."""
    visitor.signup(EMAIL)

    site.clock.tick(seconds)
    visitor.verify(site.last_link)

    assert (site.account(EMAIL).email_verified_at is not None) is works
    assert "24 hours" in site.letters[0].html


def test_an_expired_link_leads_to_a_new_one(site: Site, visitor: Visitor) -> None:
    """An expired link says so, and leads to a page that mails a new one: by one button, without an address to type."""
    visitor.signup(EMAIL)
    site.clock.tick(24 * HOUR)

    expired = visitor.open(site.last_link)
    if isinstance(visitor, Program):
        visitor.resend(token=site.last_token)
    else:
        assert [form.buttons for form in forms_of(expired)] == [[""]]
        visitor.submit(expired)

    assert (expired.status_code, told(visitor, expired)) == (410, expected(visitor, "token_expired"))
    assert [letter.to for letter in site.letters] == [EMAIL] * 2
    visitor.verify(site.last_link)
    assert site.account(EMAIL).email_verified_at is not None


def test_a_verified_address_is_told_so(site: Site, visitor: Visitor) -> None:
    """Who asks for a new link with a verified address gets a mail that says so, and the same answer as everybody."""
    site.member(EMAIL)

    known = visitor.resend(email=EMAIL)
    unknown = type(visitor)(site).resend(email="una@example.com")

    [letter] = site.letters
    assert (letter.to, letter.link) == (EMAIL, None)
    assert "already confirmed" in letter.subject
    assert known.status_code == unknown.status_code == {"json": 202, "html": 303}[visitor.kind]
    assert known.text == unknown.text


def test_a_reset_is_noticed(site: Site, visitor: Visitor) -> None:
    """After a reset the owner gets a notice that the password was changed."""
    site.member(EMAIL)
    visitor.request_reset(email=EMAIL)

    visitor.reset(site.last_link)

    notice = site.letters[-1]
    assert (notice.template, notice.to, notice.link) == ("password_changed", EMAIL, None)
    assert "password was changed" in notice.text
    assert site.program().login(EMAIL, OTHER_PASSWORD).status_code == 200


# Creating users.


@pytest.mark.parametrize("verified", [True, False])
def test_administrators_create_users(site: Site, verified: bool) -> None:
    """`POST /auth/admin/users` creates users, verified or not, and is for administrators only."""
    body = {"email": EMAIL, "password": PASSWORD, "email_verified": verified}
    site.member("eve@example.com")
    eve = site.program().login("eve@example.com").json["access_token"]

    refused = [
        site.program().post("/auth/admin/users", body).status_code,
        site.program().post("/auth/admin/users", body, authorization=f"Bearer {eve}").status_code,
    ]
    created = operate(site, "/auth/admin/users", body)

    assert refused == [401, 403]
    assert (created.status_code, created.json["email_verified"]) == (201, verified)
    assert site.program().login(EMAIL).status_code == (200 if verified else 403)


def test_a_user_without_a_password_is_mailed_a_link(site: Site, visitor: Visitor) -> None:
    """A user who is created without a password is mailed a link to set one."""
    operate(site, "/auth/admin/users", {"email": EMAIL})

    assert [(letter.template, letter.to) for letter in site.letters] == [("set_password", EMAIL)]
    visitor.reset(site.last_link)
    assert told(visitor, visitor.login(EMAIL, OTHER_PASSWORD)) == "in"


def test_the_first_administrator_comes_from_settings(make_site: MakeSite) -> None:
    """`flask accountflow create-admin --if-none` makes the first administrator of the settings, if there is none."""
    first = {"ACCOUNTFLOW_FIRST_ADMIN_EMAIL": ADMIN, "ACCOUNTFLOW_FIRST_ADMIN_PASSWORD": PASSWORD}
    site, other = make_site(first), make_site(first)
    other.member("eve@example.com", admin=True)

    for _ in range(2):
        command(site, "create-admin", "--if-none")
        command(other, "create-admin", "--if-none")

    user = site.program().login(ADMIN).json["user"]
    assert (user["is_admin"], user["email_verified"]) == (True, True)
    assert len(site.rows("user")) == 1
    assert [row.email_key for row in other.rows("user")] == ["eve@example.com"]


def test_users_are_seeded_for_development(site: Site, visitor: Visitor) -> None:
    """`flask accountflow seed-users` creates verified users for development, who log in without a mail."""
    said = command(site, "seed-users")

    found = re.findall(r"Created (\S+?),.* with the password '(.+)'", said)
    assert [email for email, _ in found] == [f"{name}@example.com" for name in ("admin", "user1", "user2", "user3")]
    for email, password in found:
        caller = type(visitor)(site)
        assert told(caller, caller.login(email, password)) == "in"
    assert site.letters == []


def test_seeding_is_for_development_only(make_site: MakeSite) -> None:
    """Outside debug and testing `seed-users` refuses, because everybody could read the password."""
    site = make_site({"TESTING": False, "ACCOUNTFLOW_ALLOW_INSECURE": True})

    result = site.app.test_cli_runner().invoke(args=["accountflow", "seed-users"])

    assert result.exit_code == 1
    assert site.rows("user") == []


# Mail.


@pytest.fixture
def post_office() -> Iterator[MailServer]:
    """A mail server of the test's own."""
    with MailServer() as server:
        yield server


def test_a_test_mail_by_command(make_site: MakeSite, post_office: MailServer) -> None:
    """`flask accountflow send-test-mail` sends a mail at once, and says what the mail server answers."""
    site = make_site(smtp(post_office), transport=None)

    said = command(site, "send-test-mail", EMAIL)
    post_office.refusal = "550 5.7.1 We do not know you"
    refused = site.app.test_cli_runner().invoke(args=["accountflow", "send-test-mail", EMAIL])

    assert said.splitlines()[-1] == "Handed over by smtp."
    assert len(post_office.mails(EMAIL)) == 1
    assert refused.exit_code == 1
    assert "550 5.7.1 We do not know you" in refused.output


def test_a_test_mail_by_route(site: Site) -> None:
    """`POST /auth/admin/test-mail` sends a test mail to any address, for administrators only."""
    refused = site.program().post("/auth/admin/test-mail", {"to": EMAIL})

    accepted = operate(site, "/auth/admin/test-mail", {"to": EMAIL})

    assert (refused.status_code, accepted.status_code) == (401, 202)
    assert [(letter.template, letter.to) for letter in site.letters] == [("test", EMAIL)]


def test_mails_are_written_in_mjml(tmp_path: Path) -> None:
    """Mails are written in MJML, beside the Jinja templates built from it; `tools/build_mails.py --check` compares."""
    mails = ROOT / "flask_accountflow" / "templates" / "accountflow" / "mail"
    copy = tmp_path / "mail"
    shutil.copytree(mails, copy)
    source = copy / "reset.mjml"
    source.write_text(source.read_text("utf-8").replace("You asked to reset", "You wanted to reset"), "utf-8")

    same, changed = _check_mails(mails), _check_mails(copy)

    assert {file.stem for file in mails.glob("*.html")} == {file.stem for file in mails.glob("*.mjml")}
    assert (same.returncode, same.stdout) == (0, "")
    assert changed.returncode == 1
    assert [line.split()[0] for line in changed.stdout.splitlines()] == ["reset.html"]


def _check_mails(folder: Path) -> subprocess.CompletedProcess[str]:
    tool = [sys.executable, str(ROOT / "tools" / "build_mails.py"), "--check", str(folder)]
    return subprocess.run(tool, capture_output=True, text=True, timeout=60, check=False)


def test_a_mail_catcher_is_in_the_compose_file() -> None:
    """`deploy/compose.mailpit.yaml` runs a mail catcher: its web page is at port 8025, and it takes SMTP at 1025."""
    compose = yaml.safe_load((ROOT / "deploy" / "compose.mailpit.yaml").read_text("utf-8"))

    published = {tuple(str(port).split(":")[-2:]) for one in compose["services"].values() for port in one["ports"]}

    assert {("8025", "8025"), ("1025", "1025")} <= published


@contextmanager
def _threads(site: Site) -> Iterator[None]:
    """Let no thread of a site outlive the block."""
    try:
        yield
    finally:
        assert services(site).kick._threads.stop(10)


def test_mails_are_sent_in_the_background(make_site: MakeSite, post_office: MailServer, kind: type[Visitor]) -> None:
    """Mails are sent in the background: the answer does not wait for the mail server."""
    site = make_site({**smtp(post_office), "ACCOUNTFLOW_MAIL_KICK": "thread"}, transport=None)
    visitor = kind(site)
    post_office.delay = 2

    with _threads(site):
        began = time.monotonic()
        response = visitor.signup(EMAIL)
        took = time.monotonic() - began
        arrived = len(post_office.mails(EMAIL))
        mail = post_office.wait_for(EMAIL)

    assert response.status_code == {"json": 202, "html": 303}[visitor.kind]
    assert (took < post_office.delay, arrived) == (True, 0)
    assert time.monotonic() - began >= post_office.delay
    assert len(mail.links) == 1


def test_a_mail_is_tried_again(make_site: MakeSite, post_office: MailServer, kind: type[Visitor]) -> None:
    """A mail that the server does not take now is tried again, after 5 s, 30 s, 2 min, 10 min, and then each 30 min."""
    site = make_site(smtp(post_office), transport=None)
    visitor = kind(site)
    post_office.refusal = "451 4.3.0 Try again later"
    response = visitor.signup(EMAIL)

    site.clock.tick(5)
    command(site, "deliver")
    post_office.be_well()
    site.clock.tick(29)
    command(site, "deliver")
    too_soon = len(post_office.mails(EMAIL))
    site.clock.tick(1)
    command(site, "deliver")

    [row] = site.rows("mail")
    [mail] = post_office.mails(EMAIL)
    assert response.status_code == {"json": 202, "html": 303}[visitor.kind]
    assert (post_office.refused, too_soon) == (2, 0)
    assert (row.state, row.attempts) == ("sent", 3)
    visitor.verify(mail.links[0].removeprefix("https://www.example.com"))
    assert site.account(EMAIL).email_verified_at is not None
