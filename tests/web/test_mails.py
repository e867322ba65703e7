"""The mails that people get: what they say, and how they are made."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from html.parser import HTMLParser
from typing import Any

import pytest
from answers import Script, bearer
from flask_mail import Mail
from jinja2 import DictLoader
from support import ABSENT, BASE_URL, OTHER_PASSWORD, PASSWORD, Person, Program, Site
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_accountflow.mail.letter import Letter, message_bytes
from flask_accountflow.web.words import in_words, when

EMAIL = "vic@example.com"


def verify(site: Site) -> None:
    """Cause the mail that confirms an address."""
    site.program().signup("ada@example.com")


def already_registered(site: Site) -> None:
    """Cause the mail about a second sign-up."""
    site.member()
    site.program().signup(EMAIL)


def already_verified(site: Site) -> None:
    """Cause the mail that says that there is nothing to confirm."""
    site.member()
    site.program().resend(email=EMAIL)


def reset(site: Site) -> None:
    """Cause the mail with a reset link."""
    site.member()
    site.program().request_reset(email=EMAIL)


def password_changed(site: Site) -> None:
    """Cause the notice about a new password."""
    reset(site)
    site.program().reset(site.last_link)


def set_password(site: Site) -> None:
    """Cause the mail to somebody for whom an account was made."""
    site.member(EMAIL, None)


def refresh_reuse(site: Site) -> None:
    """Cause the notice about a stolen token."""
    site.member()
    program = site.program()
    token = program.login(EMAIL).json["refresh_token"]
    program.post("/auth/refresh", {"refresh_token": token})
    site.clock.tick(61)
    program.post("/auth/refresh", {"refresh_token": token})


def email_change(site: Site) -> None:
    """Cause the mail to the address that an account is to have."""
    site.member()
    program = site.program()
    body = {"new_email": "new@example.com", "current_password": PASSWORD}
    program.post("/auth/email/change", body, **bearer(program.login(EMAIL)))


def email_changed(site: Site) -> None:
    """Cause the notice to the address that an account had."""
    email_change(site)
    site.program().post(site.last_link)


#: Every mail: what causes it, its subject, the text of its button, and whether it carries a link that works.
MAILS: dict[str, tuple[Callable[[Site], None], str, str, bool]] = {
    "verify": (verify, "Confirm your email for Shop", "Confirm email", True),
    "reset": (reset, "Reset your Shop password", "Set a new password", True),
    "set_password": (set_password, "Choose a password for Shop", "Choose a password", True),
    "already_registered": (already_registered, "You already have an account at Shop", "Log in", False),
    "already_verified": (already_verified, "Your Shop email is already confirmed", "Log in", False),
    "password_changed": (password_changed, "Your Shop password was changed", "Reset my password", False),
    "email_change": (email_change, "Confirm your new email for Shop", "Confirm email", True),
    "email_change_notice": (email_change, "Your Shop email is about to change", "Reset my password", False),
    "email_changed": (email_changed, "Your Shop email was changed", "Undo the change", True),
    "refresh_reuse": (refresh_reuse, "A login to Shop was ended", "Reset my password", False),
}


class _Body(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: dict[str, str] = {}
        self.names: set[str] = set()
        self.lines: list[str] = []
        self.lang: str | None = None
        self._href = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.names |= {tag, *given}
        self.lang = given.get("lang") if tag == "html" else self.lang
        self._href = str(given["href"]) if tag == "a" else ""

    def handle_data(self, data: str) -> None:
        self.lines.append(" ".join(data.split()))
        if self._href:
            self.links[data.strip()] = self._href
            self._href = ""


def parts(letter: Letter) -> tuple[EmailMessage, str, str]:
    """Return a letter as its recipient's program reads it: the message, its text, its HTML."""
    message: Any = BytesParser(policy=default).parsebytes(message_bytes(letter))
    text, html = message.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    return message, text.get_content(), html.get_content()


@pytest.fixture(params=MAILS)
def sent(request: pytest.FixtureRequest, site: Site) -> tuple[str, Letter]:
    """The name of a mail, and the mail as it was sent."""
    MAILS[request.param][0](site)
    return request.param, next(letter for letter in site.letters if letter.template == request.param)


def test_ML_01_both_parts_say_the_same(sent: tuple[str, Letter]) -> None:
    """A mail has a text and an HTML part, both with its heading, its facts and every address of the other."""
    _, letter = sent
    message, text, html = parts(letter)

    body = _Body(html)
    shown = " ".join(body.lines)
    assert message.get_content_type() == "multipart/alternative"
    assert set(re.findall(r"https?://\S+", text)) == {href for href in body.links.values() if href.startswith("http")}
    assert "<" not in text
    assert text.splitlines()[0] in shown
    for fact in re.findall(r"\d+ \w{3} \d{4}, \d\d:\d\d UTC", text):
        assert fact in shown
    assert letter.to in text
    assert letter.to in html


def test_ML_02_an_address_stands_alone_on_its_line(sent: tuple[str, Letter]) -> None:
    """Every address in the text stands alone on its line, unbroken, and leads to the configured site."""
    _, letter = sent
    text = parts(letter)[1]

    lines = text.splitlines()
    addresses = re.findall(r"https?://\S+", text)
    assert addresses
    for address in addresses:
        assert address in lines
        assert address.startswith(BASE_URL + "/auth/")
        assert len(address) <= 200
    assert all(len(line.encode()) < 998 for line in lines)


def test_ML_03_ML_04_headers(sent: tuple[str, Letter]) -> None:
    """A mail says who sends it, by what domain, in which language, and that a machine wrote it."""
    _, letter = sent
    message = parts(letter)[0]

    assert message["From"] == "Shop <accounts@example.com>"
    assert message["To"] == letter.to
    assert message["Cc"] is message["Bcc"] is message["Precedence"] is message["List-Unsubscribe"] is None
    assert re.fullmatch(r"<[0-9a-f]{32}@example\.com>", message["Message-ID"])
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "All"
    assert message["X-Entity-Ref-ID"] == message["Message-ID"].strip("<>")
    assert message["Content-Language"] == "en"
    assert message["Date"].datetime == letter.date


def test_ML_05_the_subject_says_what_and_where(sent: tuple[str, Letter]) -> None:
    """A subject names the action and the site in one short line, without noise or secret."""
    name, letter = sent

    subject = parts(letter)[0]["Subject"]

    assert subject == MAILS[name][1]
    assert len(subject) <= 60
    assert "!" not in subject


def test_ML_06_ML_08_ML_10_the_html_part(sent: tuple[str, Letter]) -> None:
    """The HTML part loads nothing, has one button that says what it does, a language, and a first line of its own."""
    name, letter = sent
    html = parts(letter)[2]

    body = _Body(html)
    button = MAILS[name][2]
    first = next(line for line in body.lines if line and line not in {letter.subject, "Shop"} and "{" not in line)
    assert body.links[button].startswith(BASE_URL + "/auth/")
    assert body.lang == "en"
    assert not {"img", "script", "form", "iframe", "src", "background", "onclick"} & body.names
    assert not re.search(r"url\(|@import|@font-face", html)
    assert len(html.encode()) < 15_000
    assert max(map(len, html.encode().splitlines())) < 998
    assert first


def test_RST_12_SUP_18_only_some_mails_carry_a_link(sent: tuple[str, Letter]) -> None:
    """A mail carries a link that works only where it is the answer to a request for one; never a password."""
    name, letter = sent
    _, text, html = parts(letter)

    assert (letter.link is not None) is MAILS[name][3]
    live = re.findall(r"/(?:verify|password-reset|email/confirm|email/revert)/[^\s\"<]*\.[^\s\"<]*", text + html)
    assert bool(live) is MAILS[name][3]
    assert PASSWORD not in text + html
    assert OTHER_PASSWORD not in text + html


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("verify", "22 Nov 2026, 08:30 UTC"),
        ("reset", "21 Nov 2026, 09:30 UTC"),
        ("set_password", "22 Nov 2026, 08:30 UTC"),
    ],
)
def test_ML_07_when_a_link_ends(site: Site, name: str, moment: str) -> None:
    """A mail with a link says until when it works, with the zone, and that it works once."""
    MAILS[name][0](site)

    for part in parts(site.letters[-1])[1:]:
        assert f"The link works once, until {moment}." in " ".join(part.split())


@pytest.mark.parametrize(
    ("name", "moment"), [("password_changed", "08:30"), ("email_change_notice", "08:30"), ("refresh_reuse", "08:31")]
)
def test_a_notice_says_when(site: Site, name: str, moment: str) -> None:
    """A notice says when what it tells of happened, with the zone."""
    MAILS[name][0](site)

    sent = next(letter for letter in reversed(site.letters) if letter.template == name)
    for part in parts(sent)[1:]:
        assert f"on 21 Nov 2026, {moment} UTC" in " ".join(part.split()).replace("On 21", "on 21")


HOSTS = {
    "host": {"Host": "evil.example"},
    "host with port": {"Host": "evil.example:8443"},
    "credentials": {"Host": "www.example.com@evil.example"},
    "markup": {"Host": "www.example.com:'<a href=//evil.example/?"},
    "forwarded host": {"X-Forwarded-Host": "evil.example"},
    "forwarded": {"Forwarded": "host=evil.example;proto=http"},
    "forwarded rest": {"X-Forwarded-Proto": "http", "X-Forwarded-Port": "1", "X-Forwarded-Prefix": "/evil"},
    "others": {"X-Host": "evil.example", "X-Original-URL": "/evil", "X-Forwarded-Server": "evil.example"},
}


@pytest.mark.usefixtures("own_site")
@pytest.mark.parametrize("behind_proxy", [False, True])
def test_RST_04_RST_05_links_lead_to_the_configured_site(site: Site, behind_proxy: bool) -> None:
    """Whatever host a request names, the addresses in its mails begin with BASE_URL, byte for byte."""
    if behind_proxy:
        site.app.wsgi_app = ProxyFix(site.app.wsgi_app, 1, 1, 1, 1, 1)  # type: ignore[method-assign]
    site.member()
    program = site.program()

    for name, headers in HOSTS.items():
        named = {key.replace("-", "_").lower(): value for key, value in headers.items()}
        site.letters.clear()
        site.clock.tick(86400)
        found = {
            program.post("/auth/password-reset/request", {"email": EMAIL}, **named).status_code,
            program.post("/auth/signup", {"email": EMAIL, "password": PASSWORD}, **named).status_code,
            program.post("/auth/signup", {"email": "ada@example.com", "password": PASSWORD}, **named).status_code,
        }
        assert found == {202}, name
        written = "".join(letter.text + letter.html for letter in site.letters)
        # The name of a namespace is no address.
        addresses = re.findall(r"(?<!xmlns=\")https?:/[^\s\"<]+", written)
        assert len(addresses) > 5, name
        assert [address for address in addresses if not address.startswith(BASE_URL + "/auth/")] == [], name
        assert "evil" not in written


def test_a_site_below_a_path(make_site: Callable[..., Site]) -> None:
    """BASE_URL may have a path, and it is in every link."""
    site = make_site({"ACCOUNTFLOW_BASE_URL": "https://example.com/shop/"})
    site.member()

    site.program().request_reset(email=EMAIL)

    assert str(site.letters[0].link).startswith("https://example.com/shop/auth/password-reset/")


def test_links_may_lead_to_a_front_end(make_site: Callable[..., Site]) -> None:
    """VERIFY_URL, RESET_URL and LOGIN_URL put a front end's pages into mails; their tokens work here."""
    site = make_site(
        {
            "ACCOUNTFLOW_VERIFY_URL": "https://app.example.org/#/verify?token={token}",
            "ACCOUNTFLOW_RESET_URL": "https://app.example.org/reset/{token}",
            "ACCOUNTFLOW_LOGIN_URL": "https://app.example.org/login",
        }
    )
    site.member()
    program = site.program()
    program.signup("ada@example.com")
    program.signup(EMAIL)
    program.request_reset(email=EMAIL)
    verify_letter, known_letter, reset_letter = site.letters

    token = str(verify_letter.link).removeprefix("https://app.example.org/#/verify?token=")
    reset_token = str(reset_letter.link).removeprefix("https://app.example.org/reset/")

    assert "https://app.example.org/login" in known_letter.text.splitlines()
    assert program.post("/auth/verify", {"token": token}).json["status"] == "verified"
    body = {"token": reset_token, "password": OTHER_PASSWORD}
    assert program.post("/auth/password-reset/confirm", body).status_code == 200


def test_a_login_page_here_is_below_the_base_url(make_site: Callable[..., Site]) -> None:
    """A LOGIN_URL without a host is completed by BASE_URL in mails."""
    site = make_site({"ACCOUNTFLOW_LOGIN_URL": "/enter"})
    already_registered(site)

    assert f"{BASE_URL}/enter" in site.letters[0].text.splitlines()


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("localhost:5001", "http://localhost:5001"),
        ("[::1]:5001", "http://[::1]:5001"),
        ("localhost", "http://localhost"),
        ("evil.example", "http://127.0.0.1:5000"),
        ("evil.example:80", "http://127.0.0.1:5000"),
    ],
)
def test_without_a_base_url_links_lead_to_this_computer(make_site: Callable[..., Site], host: str, origin: str) -> None:
    """In development, while there is no BASE_URL, links lead to where the request came in, if that is this computer."""
    site = make_site({"ACCOUNTFLOW_BASE_URL": ABSENT})

    site.program().post("/auth/signup", {"email": "ada@example.com", "password": PASSWORD}, host=host)

    assert str(site.letters[0].link).startswith(f"{origin}/auth/verify/")


def test_a_verb_without_request_and_base_url_makes_a_link_all_the_same(make_site: Callable[..., Site]) -> None:
    """In development a mail that no request caused leads to the address that Flask serves at."""
    site = make_site({"ACCOUNTFLOW_BASE_URL": ABSENT})

    site.member(EMAIL, None)

    assert str(site.letters[0].link).startswith("http://127.0.0.1:5000/auth/password-reset/")


@pytest.mark.parametrize("name", ["Ada <b>x</b>", "http://evil.example Claim prize", "x\r\nBcc: eve@example.com"])
def test_SUP_16_MAI_01_what_was_typed_is_in_no_mail(site: Site, visitor: Program | Person, name: str) -> None:
    """What a stranger typed beside his address is in no mail, neither as text nor as a header."""
    visitor.signup("ada@example.com", name=name)

    message, text, html = parts(site.letters[0])

    assert "evil" not in text + html
    assert "<b>x" not in html
    assert message["Bcc"] is None
    assert message["Subject"] == "Confirm your email for Shop"


@pytest.mark.usefixtures("own_site")
def test_SUP_16_a_host_that_greets_by_name_is_escaped(site: Site) -> None:
    """A name that a host's template puts into a mail is escaped in HTML and as it is in text."""
    site.app.jinja_loader = DictLoader(
        {
            "accountflow/mail/password_changed.html": "<p>Dear {{ user.name }}</p>",
            "accountflow/mail/password_changed.txt": "Dear {{ user.name }}",
        }
    )
    site.member()
    site.change(EMAIL, name="<b>Ada</b> & Co")

    site.program().request_reset(email=EMAIL)
    site.program().reset(site.last_link)

    assert site.letters[-1].html == "<p>Dear &lt;b&gt;Ada&lt;/b&gt; &amp; Co</p>"
    assert site.letters[-1].text == "Dear <b>Ada</b> & Co\n"


def test_MAI_06_mails_go_to_the_stored_spelling(site: Site) -> None:
    """However an address is typed, mails go to the spelling that the account has stored."""
    site.member("Vic@Example.com")

    for email in ("vic@example.com", "VIC@EXAMPLE.COM", " Vic@example.com "):
        site.program().request_reset(email=email)
        site.clock.tick(61)

    assert {letter.to for letter in site.letters} == {"Vic@example.com"}


def test_SUP_10_a_domain_in_another_script_is_written_in_ascii(site: Site) -> None:
    """One mailbox at a domain in another script is one account, and its mail goes to the domain in ASCII."""
    for email in ("mike@münchen.de", "mike@xn--mnchen-3ya.de", "mike@MÜNCHEN.de"):
        site.program().signup(email)

    assert len(site.rows("user")) == 1
    assert {letter.to for letter in site.letters} == {"mike@xn--mnchen-3ya.de"}


def test_SUP_13_plus_and_dots_make_another_mailbox(site: Site) -> None:
    """A plus or a dot in an address makes it another one, and its mail goes there."""
    site.member()

    for email in ("vic+x@example.com", "v.ic@example.com"):
        site.program().signup(email)

    assert [letter.to for letter in site.letters] == ["vic+x@example.com", "v.ic@example.com"]


@pytest.mark.parametrize(
    "config",
    [{"ACCOUNTFLOW_SUPPORT_EMAIL": "help@example.com"}, {"ACCOUNTFLOW_SUPPORT_URL": "https://example.com/help"}],
)
def test_support_is_named(make_site: Callable[..., Site], config: dict[str, str]) -> None:
    """Where help is to be had is in both parts of a mail, and on every page; replies go there."""
    site = make_site(config)
    reset(site)
    (value,) = config.values()

    message, text, html = parts(site.letters[0])

    assert value in text
    assert value in html
    assert value in site.person().get("/auth/login").text
    assert message["Reply-To"] == (value if "@" in value else None)


def test_MAI_08_no_row_holds_a_link(site: Site) -> None:
    """Neither before nor after sending is a link, a token or an address of a stranger in the outbox."""
    site.transport.fault = ConnectionError("not now")
    site.member()
    site.program().request_reset(email=EMAIL)
    site.program().request_reset(email="stranger@example.com")
    waiting = str(site.rows("mail")) + str(site.rows("token"))
    site.transport.fault = None
    site.clock.tick(61)
    site.program().request_reset(email=EMAIL)
    done = str(site.rows("mail")) + str(site.rows("token"))

    for text in (waiting, done):
        assert site.last_token not in text
        assert "password-reset" not in text
        assert "stranger@" not in text


def test_ML_13_a_retry_carries_the_same_link(site: Site) -> None:
    """A mail that could not be sent is sent later, with the link and the id that it would have had."""
    site.transport.fault = ConnectionError("not now")
    site.member()
    site.program().request_reset(email=EMAIL)
    (row,) = site.rows("mail", state="pending")
    site.transport.fault = None
    site.clock.tick(1800)

    site.app.extensions["accountflow_delivery"].deliver_due()

    (letter,) = site.letters
    assert letter.message_id == row.message_id
    assert site.program().reset(site.last_link).status_code == 200


def test_flask_mail_records_what_would_be_sent(make_site: Callable[..., Site]) -> None:
    """A host that tests with Flask-Mail's record_messages() sees our mails, and nothing is sent."""
    site = make_site({"MAIL_SUPPRESS_SEND": True, "ACCOUNTFLOW_MAIL_TRANSPORT": "smtp"}, transport=None)
    mail = Mail(site.app)

    with site.app.app_context(), mail.record_messages() as outbox:
        site.program().signup("ada@example.com")

    message: Any
    (message,) = outbox
    assert message.subject == "Confirm your email for Shop"
    assert message.recipients == ["ada@example.com"]
    assert message.body.splitlines()[0] == "Confirm your email"
    assert "<h1" in message.html
    assert re.search(rf"^{re.escape(BASE_URL)}/auth/verify/\S+$", message.body, re.MULTILINE)
    assert b"Auto-Submitted: auto-generated" in message.as_bytes()


def test_a_resend_has_another_id_and_another_link(site: Site) -> None:
    """Mail programs can tell two mails about one thing apart."""
    verify(site)
    site.clock.tick(61)
    Script(site).resend(email="ada@example.com")

    first, second = site.letters

    assert first.link != second.link
    assert first.message_id != second.message_id


@pytest.mark.usefixtures("own_site")
def test_a_mail_in_words_of_the_site(site: Site) -> None:
    """A mail's part or its subject is overridden by a template of the same name in the app."""
    site.app.jinja_loader = DictLoader(
        {
            "accountflow/mail/verify.subject.txt": "Welcome\n to  {{ site_name }}",
            "accountflow/mail/verify.txt": "Hello {{ email }}\n{{ link }}",
        }
    )

    verify(site)

    (letter,) = site.letters
    assert letter.subject == "Welcome to Shop"
    assert letter.text == f"Hello ada@example.com\n{letter.link}\n"
    assert "Confirm email" in letter.html


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "a moment"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (61, "2 minutes"),
        (3600, "1 hour"),
        (86400, "24 hours"),
        (172800, "2 days"),
        (172801, "3 days"),
    ],
)
def test_a_time_in_words(seconds: int, text: str) -> None:
    """A duration is said in its largest fitting unit, rounded up."""
    assert in_words(seconds) == text


def test_a_moment_in_words() -> None:
    """A moment is said with its zone, whatever zone it was written in, and no moment is said as nothing."""
    berlin = timezone(timedelta(hours=1))

    assert when(datetime(2026, 11, 2, 9, 5, tzinfo=berlin)) == "2 Nov 2026, 08:05 UTC"
    assert when(datetime(2026, 11, 2, 8, 5)) == "2 Nov 2026, 08:05 UTC"
    assert when(None) == ""
