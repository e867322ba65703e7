"""Every mail in every language: what is promised of all of them, and whose language it is.

``ACCOUNTFLOW_WRITE_GOLDEN=1 pytest tests/web/test_mail_languages.py`` writes the texts anew that are compared here.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import flask
import pseudo
import pytest
import sqlalchemy as sa
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from flask import current_app
from flask_babel import Babel
from jinja2 import DictLoader, Environment
from markupsafe import Markup
from sqlalchemy.orm.exc import DetachedInstanceError
from support import BASE_URL, START, Site, services

from flask_accountflow.languages import ENGLISH, LANGUAGES, Languages
from flask_accountflow.mail.letter import Letter, message_bytes
from flask_accountflow.store.queue import Waiting, WaitingLink
from flask_accountflow.web.letters import LetterRenderer
from flask_accountflow.web.words import in_words, vocabulary, when
from tools import build_mails

GOLDEN = Path(__file__).parents[1] / "mail" / "golden"
NAMES = sorted(path.name.removesuffix(".subject.txt") for path in build_mails.MAILS.glob("*.subject.txt"))
EMAIL, NEW = "vic@example.com", "victoria@new.example.org"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

#: The mails with a link of their own: what it is for, and how long it works.
LINKS = {
    "verify": ("signup", DAY),
    "reset": ("reset", HOUR),
    "set_password": ("reset", DAY),
    "email_change": ("change", DAY),
    "email_changed": ("revert", 3 * DAY),
}
# Drawn once, so that a link is as long as links are, and the same in every run.
_ROW = UUID("5b0f3c1e-9a47-4d26-b8e1-72c4f06d9a35")

#: Of twenty signs, the longest name for which subjects are promised to be short.
LONG_NAME = "Antiquariat am Markt"

Render = Callable[..., Letter]


def waiting(name: str, tag: str | None = None, **values: Any) -> Waiting:
    """Return a mail as the outbox hands it over for sending; the same one each time."""
    purpose, life = LINKS.get(name, ("", DAY))
    moment, life = values.get("created_at", START), values.pop("life", life)
    link = WaitingLink(_ROW, purpose, moment, moment + life, live=True) if purpose else None
    given = {
        "id": 1,
        "lease_id": UUID(int=8),
        "template": name,
        "to_addr": EMAIL,
        "locale": tag,
        "context": {"new_email": NEW, "failures": 12},
        "message_id": f"{name}@example.com",
        "created_at": moment,
        "expires_at": moment + DAY,
        "attempts": 1,
        "user": None,
        "link": link,
    }
    return Waiting(**{**given, **values})


def renderer_of(site: Site, speaking: Languages | None = None, **changes: Any) -> LetterRenderer:
    """Return a renderer of a site's templates with these settings, in every language that ships."""
    built = services(site)
    settings = replace(built.settings, **{"languages": LANGUAGES, **changes})
    return LetterRenderer(site.app.jinja_env, settings, built.addresses, speaking)


@pytest.fixture(scope="module")
def renderer(shared_site: Site) -> Callable[..., LetterRenderer]:
    """Return a function that makes renderers of our templates with these settings, in every language that ships."""
    return partial(renderer_of, shared_site)


_VOID = {"meta", "br", "hr"}


class _Html(HTMLParser):
    """What a mail program finds in the HTML part."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.html: dict[str, str | None] = {}
        self.tags: list[str] = []
        self.names: set[str] = set()
        self.links: list[str] = []
        self.buttons: list[str] = []
        #: The texts, in their order, each with whether it is shown.
        self.texts: list[tuple[str, bool]] = []
        self._open: list[str] = []
        self._hidden = 0
        self._in_button = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.names |= given.keys()
        if tag == "html":
            self.html = given
        if tag not in _VOID:
            self._open.append(tag)
            if "display:none" in str(given.get("style")):
                self._hidden = len(self._open)
        if given.get("class") == "af-button":
            self._in_button = True
        if tag == "a":
            self.links.append(str(given["href"]))
            if self._in_button:
                self.buttons.append(str(given["href"]))
            self._in_button = False

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID:
            return
        if len(self._open) == self._hidden:
            self._hidden = 0
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and not {"style", "title"} & set(self._open):
            self.texts.append((" ".join(data.split()), not self._hidden))

    @property
    def preheader(self) -> str:
        """The text before all others, which lists of mails show beside the subject."""
        return next(text for text, is_shown in self.texts if not is_shown)

    @property
    def shown(self) -> str:
        """What a person reads."""
        return " ".join(text for text, is_shown in self.texts if is_shown)


class Mail:
    """One mail in one language, as its recipient's program reads it."""

    def __init__(self, letter: Letter) -> None:
        self.letter = letter
        self.wire = message_bytes(letter)
        self.message: Any = BytesParser(policy=default).parsebytes(self.wire)
        self.parts: list[EmailMessage] = list(self.message.iter_parts())
        self.text, self.html = (part.get_content() for part in self.parts)
        self.page = _Html(self.html)

    @property
    def addresses(self) -> list[str]:
        """The web addresses in the text."""
        return re.findall(r"https?://\S+", self.text)


@pytest.fixture(scope="module", params=LANGUAGES)
def tag(request: pytest.FixtureRequest) -> str:
    """A language that ships."""
    return str(request.param)


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """The name of a mail."""
    return str(request.param)


@pytest.fixture
def mail(name: str, tag: str, renderer: Callable[..., LetterRenderer]) -> Mail:
    """A mail in a language."""
    return Mail(renderer(support_email="help@example.com")(waiting(name, tag)))


def test_ML_01_two_parts_with_the_same_facts(mail: Mail) -> None:
    """A mail is a text and then an HTML part, and each address, date and mailbox of the text is in the HTML."""
    language = Languages([mail.letter.language]).choose()
    facts = [*mail.addresses, *re.findall(r"[^\s(]+@\S+\w", mail.text), "Shop"]
    dates = [when(START + days * DAY, language) for days in range(4)]

    assert mail.message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.parts] == ["text/plain", "text/html"]
    assert mail.text.strip()
    assert "<" not in mail.text
    assert [fact for fact in facts if fact not in mail.page.shown and fact not in mail.page.links] == []
    assert [date for date in dates if date in mail.text and date not in mail.page.shown] == []


def test_ML_02_an_address_stands_alone_on_its_line(mail: Mail, name: str) -> None:
    """An address stands alone on its line, is no longer than 200 signs and leads to the site; only some are links."""
    assert [address for address in mail.addresses if address not in mail.text.splitlines()] == []
    assert all(len(address) <= 200 and address.startswith(f"{BASE_URL}/auth/") for address in mail.addresses)
    assert (mail.letter.link in mail.addresses) is (name in LINKS)


def test_ML_03_ML_04_headers(mail: Mail, tag: str) -> None:
    """The headers name the site, its mailbox, the language and the mail, and have nothing that mass mail has."""
    message = mail.message

    assert message["From"] == "Shop <accounts@example.com>"
    assert message["Reply-To"] == "help@example.com"
    assert message["To"] == EMAIL
    assert message["Cc"] is message["Bcc"] is None
    assert message["Content-Language"] == tag
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "All"
    assert message["Message-ID"] == f"<{message['X-Entity-Ref-ID']}>"
    assert message["Message-ID"].endswith("@example.com>")
    assert message["Date"].datetime == START
    assert message["Precedence"] is message["List-Unsubscribe"] is None


def test_ML_05_the_subject(name: str, tag: str, renderer: Callable[..., LetterRenderer]) -> None:
    """A subject names the site within 60 signs, without noise, and is the same for everybody."""
    render = renderer(site_name=LONG_NAME)
    somebody = SimpleNamespace(name="Ada", locale=tag)

    subjects = {
        render(waiting(name, tag)).subject,
        render(waiting(name, None, user=somebody, to_addr="a@b.example", context={"how": "reset"})).subject,
    }

    (subject,) = subjects
    assert LONG_NAME in subject
    assert len(subject) <= 60
    assert not re.search(r"[!\d@]|https?:", subject)


@pytest.mark.parametrize("site_name", ["Shop", LONG_NAME])
def test_ML_06_the_preheader(name: str, tag: str, site_name: str, renderer: Callable[..., LetterRenderer]) -> None:
    """The first words of a mail are 40 to 90 signs that are not its subject, also where a date is long."""
    far = SimpleNamespace(timezone="Asia/Kathmandu", locale=tag)
    render = renderer(site_name=site_name)

    for one in (
        waiting(name, tag, life=2 * HOUR),
        waiting(name, tag, life=HOUR * 1.5, created_at=datetime(2026, 9, 30, 20, 0, tzinfo=timezone.utc), user=far),
    ):
        mail = Mail(render(one))
        assert 40 <= len(mail.page.preheader) <= 90, mail.page.preheader
        assert mail.page.preheader not in {mail.letter.subject, mail.page.shown}
        assert mail.page.texts[0] == (mail.page.preheader, False)


@pytest.mark.parametrize("name", LINKS, scope="module")
def test_ML_07_until_when_the_link_works(mail: Mail, name: str, tag: str) -> None:
    """A mail with a link says in both parts, and before them, until when it works, with the zone."""
    language = Languages([tag]).choose()
    moment = when(START + LINKS[name][1], language)

    assert "UTC" in moment
    assert moment in mail.text
    assert moment in mail.page.shown
    # What that one is for is said before when it ends.
    assert name == "email_changed" or moment in mail.page.preheader


def test_ML_08_the_html_part_loads_nothing_and_is_small(mail: Mail, name: str) -> None:
    """The HTML has one button that is also written out, loads nothing, and makes a mail below 15 KB of short lines."""
    page = mail.page

    assert len(page.buttons) == (0 if name == "test" else 1)
    assert [button for button in page.buttons if page.links.count(button) < 2 or button not in page.shown] == []
    assert [button for button in page.buttons if button not in mail.addresses] == []
    assert not {"img", "link", "script", "iframe", "form", "svg", "video", "object"} & set(page.tags)
    assert not {"src", "srcset", "background", "onclick"} & page.names
    assert not re.search(r"src=|url\(|@import|@font-face", mail.html)
    assert [link for link in page.links if not link.startswith((BASE_URL, "mailto:help@example.com"))] == []
    assert len(mail.wire) < 15_000
    assert max(map(len, mail.wire.splitlines())) < 998
    assert max(len(line.encode()) for part in (mail.text, mail.html) for line in part.splitlines()) < 998


def test_ML_09_light_and_dark(mail: Mail) -> None:
    """The HTML says that it has both schemes, and has rules of its own for the dark one."""
    metas = re.findall(r'<meta name="((?:supported-)?color-schemes?)" content="([^"]*)"', mail.html)

    assert sorted(metas) == [("color-scheme", "light dark"), ("supported-color-schemes", "light dark")]
    assert mail.html.count("@media (prefers-color-scheme: dark) {") == 1


def test_ML_10_language_direction_and_heading(mail: Mail, tag: str) -> None:
    """The HTML names its language and its direction, and has one heading, which is the first line of the text."""
    assert mail.page.html.items() >= {"lang": tag, "dir": "ltr"}.items()
    assert mail.page.tags.count("h1") == mail.page.tags.count("title") == 1
    assert f">{mail.text.splitlines()[0]}</h1>".replace("'", "&#39;") in mail.html.replace("'", "&#39;")


HOSTILE = SimpleNamespace(name="<b>x</b>\r\nBcc: v@example.org", locale=None)


def test_ML_12_text_of_others_is_inert(name: str, tag: str, renderer: Callable[..., LetterRenderer]) -> None:
    """A site's name with markup is text in both parts, an odd address as well, and a user's name is in no header."""
    render = renderer(site_name='<i title="x">Shop</i> & %(email)s', support_email="o'hara&co@example.com")

    mail = Mail(render(waiting(name, tag, to_addr="o'hara&b@example.com", user=HOSTILE)))

    assert "i" not in mail.page.tags
    assert "&lt;i title=&#34;x&#34;&gt;Shop&lt;/i&gt; &amp; %(email)s" in mail.html
    assert "o&#39;hara&amp;b@example.com" in mail.html
    assert '<i title="x">Shop</i> & %(email)s' in mail.text
    assert '<i title="x">Shop</i> & %(email)s' in mail.letter.subject
    assert "v@example.org" not in mail.text + mail.html
    assert mail.message["Bcc"] is None
    assert [line for line in mail.wire.split(b"\r\n") if line.startswith(b"Bcc")] == []


def test_golden_texts(tag: str, renderer: Callable[..., LetterRenderer]) -> None:
    """Subject and text of every mail are, in every language, what somebody has read and found good."""
    render = renderer(support_email="help@example.com")
    letters = {name: render(waiting(name, tag)) for name in NAMES}
    letters |= {
        f"password_changed ({how})": render(waiting("password_changed", tag, context={"how": how}))
        for how in ("reset", "settings")
    }
    found = "".join(f"##### {name}\n{one.subject}\n\n{one.text}\n" for name, one in letters.items())

    path = GOLDEN / f"{tag}.txt"
    if os.environ.get("ACCOUNTFLOW_WRITE_GOLDEN"):
        path.write_text(found, encoding="utf-8")

    assert found == path.read_text(encoding="utf-8")


# A language that nobody speaks, from right to left, for what has no translation that could be compared.


@pytest.fixture(scope="module")
def nobodys(tmp_path_factory: pytest.TempPathFactory) -> Languages:
    """A right-to-left language that does not ship, in which every message is translated."""
    return pseudo.languages(tmp_path_factory.mktemp("translations"))


def test_no_text_goes_round_the_catalogs(
    name: str, nobodys: Languages, renderer: Callable[..., LetterRenderer]
) -> None:
    """Every word of a mail is translated but for names, addresses and the zone, and its HTML runs as its language."""
    mail = Mail(renderer(nobodys, support_url="https://example.com/help")(waiting(name, "ar")))
    said = f"{mail.letter.subject} {mail.text} {mail.page.shown} {mail.page.preheader}"

    rest = re.sub(r"https?://\S+|\S+@\S+|\bShop\b|\bUTC\b", "", said)
    assert re.findall(r"[A-Za-z]+", rest) == []
    assert mail.page.html.items() >= {"lang": "ar-XB", "dir": "rtl"}.items()
    assert mail.message["Content-Language"] == "ar-XB"
    assert "direction:rtl" in mail.html
    assert "direction:ltr" not in mail.html


# What single mails must say, and must not.


def test_a_mail_to_nobody_offers_another_address(tag: str, renderer: Callable[..., LetterRenderer]) -> None:
    """Who asked with an address that has no account is offered to try another, and to sign up where one can."""
    asked, signup = f"{BASE_URL}/auth/password-reset/request", f"{BASE_URL}/auth/signup"

    is_open = Mail(renderer()(waiting("no_account", tag)))
    is_closed = Mail(renderer(signup_enabled=False)(waiting("no_account", tag)))

    assert is_open.addresses == [asked, signup]
    assert is_closed.addresses == [asked]
    assert is_open.page.buttons == is_closed.page.buttons == [asked]
    assert signup in is_open.page.links
    assert signup not in is_closed.html


def test_the_mail_to_a_new_address_names_no_other(tag: str, renderer: Callable[..., LetterRenderer]) -> None:
    """The mail that confirms a new address names that address, and not the old one of the account."""
    owner = SimpleNamespace(email="old@example.com", name="Vic", locale=tag)

    mail = Mail(renderer()(waiting("email_change", tag, to_addr=NEW, user=owner)))

    assert NEW in mail.text
    assert NEW in mail.page.shown
    assert "old@" not in mail.text + mail.html
    assert mail.letter.link in mail.page.buttons


@pytest.mark.parametrize("given", [NEW, "v•••@n•••.org"])
@pytest.mark.parametrize("name", ["email_change_notice", "email_changed"], scope="module")
def test_a_mail_to_an_old_address_masks_the_new_one(
    tag: str, name: str, given: str, renderer: Callable[..., LetterRenderer]
) -> None:
    """The mails to the old address show of the new one what its owner recognises, whatever the row holds."""
    mail = Mail(renderer()(waiting(name, tag, context={"new_email": given})))

    for said in (mail.text, mail.page.shown):
        assert "v•••@n•••.org" in said
        assert when(START, Languages([tag]).choose()) in said
    assert "victoria" not in mail.text + mail.html
    assert "new.example" not in mail.text + mail.html
    assert mail.page.buttons == [mail.letter.link or f"{BASE_URL}/auth/password-reset/request"]


def test_the_notice_of_a_change_opens_nothing(tag: str, renderer: Callable[..., LetterRenderer]) -> None:
    """The mail that announces a change leads to the form for a new password and nowhere else: no link of it works."""
    asked = f"{BASE_URL}/auth/password-reset/request"

    mail = Mail(renderer()(waiting("email_change_notice", tag)))

    assert mail.addresses == [asked]
    assert set(mail.page.links) == {asked}
    assert mail.letter.link is None


def test_each_link_has_a_page_of_its_own(renderer: Callable[..., LetterRenderer]) -> None:
    """A link leads to the page for what it is for."""
    links = {name: str(renderer()(waiting(name)).link).removeprefix(f"{BASE_URL}/auth") for name in LINKS}

    assert {name: link.rpartition("/")[0] for name, link in links.items()} == {
        "verify": "/verify",
        "reset": "/password-reset",
        "set_password": "/password-reset",
        "email_change": "/email/confirm",
        "email_changed": "/email/revert",
    }


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("reset", "was changed with a reset link on 21 Nov"),
        ("settings", "was changed in your settings on 21 Nov"),
        ("x", "was changed on 21 Nov"),
        (None, "was changed on 21 Nov"),
    ],
)
def test_how_a_password_was_changed(how: str | None, text: str, renderer: Callable[..., LetterRenderer]) -> None:
    """The notice of a new password says how it was changed, where that is known."""
    mail = Mail(renderer()(waiting("password_changed", context={"how": how})))

    assert text in mail.text
    assert text in mail.page.shown


# Whose language it is.


@pytest.mark.parametrize(
    ("now", "then", "tag"),
    [
        ("de", "fr", "de"),
        ("de_AT", "fr", "de"),
        (None, "fr", "fr"),
        ("", "fr", "fr"),
        ("it", "fr-CA", "fr"),
        (5, "fr", "fr"),
        (None, None, "es"),
        ("\x00" * 35, "☃", "es"),
    ],
)
def test_the_language_of_a_mail(
    now: object, then: str | None, tag: str, renderer: Callable[..., LetterRenderer]
) -> None:
    """A mail is in the language its recipient has now, else in the one of its row, else in the site's first."""
    render = renderer(languages=("es", "de", "fr"))

    letter = render(waiting("reset", then, user=SimpleNamespace(locale=now)))

    assert letter.language == tag


def test_a_recipient_without_a_language(renderer: Callable[..., LetterRenderer]) -> None:
    """A mail to somebody whose account knows no language is in that of its row."""
    assert renderer()(waiting("reset", "fr", user=object())).language == "fr"


MULTILINGUAL = {"ACCOUNTFLOW_LANGUAGES": ["en", "pt-BR", "fr", "de"]}


def test_ML_11_a_french_request_for_a_german(make_site: Callable[..., Site]) -> None:
    """A reset that somebody asks for in French is mailed to a German in German, and to a stranger to us in French."""
    site = make_site(MULTILINGUAL)
    site.member()
    site.member("ida@example.com")
    site.change(EMAIL, locale="de")

    for email in (EMAIL, "ida@example.com"):
        site.program().post("/auth/password-reset/request", {"email": email}, accept_language="fr-CH, fr;q=0.9")

    assert [letter.subject for letter in site.letters] == [
        "Setzen Sie Ihr Passwort bei Shop zurück",
        "Réinitialisez votre mot de passe Shop",
    ]
    assert [row.locale for row in site.rows("mail")] == ["de", "fr"]


def test_ML_11_from_a_worker(make_site: Callable[..., Site]) -> None:
    """A worker without request and app context writes to each in the language of now, and else in that of then."""
    site = make_site({**MULTILINGUAL, "ACCOUNTFLOW_MAIL_KICK": "worker"})
    french = {"accept_language": "fr"}
    site.program().post("/auth/signup", {"email": "ada@example.com", "password": "correct horse battery"}, **french)
    site.program().post("/auth/signup", {"email": "ida@example.com", "password": "correct horse battery"}, **french)
    site.change("ida@example.com", locale="pt-BR")
    assert site.letters == []

    contexts: list[bool] = []

    def work() -> None:
        contexts.extend([flask.has_request_context(), flask.has_app_context()])
        site.app.extensions["accountflow_delivery"].deliver_due()

    worker = threading.Thread(target=work)
    worker.start()
    worker.join(30)

    assert contexts == [False, False]
    assert {letter.to: letter.subject for letter in site.letters} == {
        "ada@example.com": "Confirmez votre adresse e-mail pour Shop",
        "ida@example.com": "Confirme seu e-mail em Shop",
    }


@pytest.mark.parametrize(
    ("accepted", "locale"),
    [
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr-CH, en;q=0.9, de;q=0.7", "fr"),
        ("pt-PT,en;q=0.5", "pt-BR"),
        ("it,fr;q=0.3,de;q=0.4", "de"),
        ("de;q=0,fr;q=0.1", "fr"),
        ("it, ja;q=0.5", None),
        ("*", None),
        ("de;q=0", None),
        ("", None),
        ("%;;q=x,,-", None),
        ("d" * 5000, None),
    ],
)
def test_the_language_of_a_visit(make_site: Callable[..., Site], accepted: str, locale: str | None) -> None:
    """A sign-up remembers the language that the browser likes best among those of the site, and else none."""
    site = make_site(MULTILINGUAL)
    body = {"email": EMAIL, "password": "correct horse battery"}

    answer = site.program().post("/auth/signup", body, accept_language=accepted)

    assert answer.status_code == 202
    assert site.account(EMAIL).locale == locale
    assert site.letters[0].language == (locale or "en")


def test_a_site_in_one_language_stays_in_it(make_site: Callable[..., Site]) -> None:
    """A site that names no languages writes in English to everybody, and remembers nobody's as English."""
    site = make_site()

    for number, accepted in enumerate(("de", "en-US,en;q=0.5", "fr")):
        body = {"email": f"x{number}@example.com", "password": "correct horse battery"}
        site.program().post("/auth/signup", body, accept_language=accepted)
    site.change("x0@example.com", locale="de")
    site.clock.tick(61)
    site.program().request_reset(email="x0@example.com")

    assert {letter.language for letter in site.letters} == {"en"}
    assert [row.locale for row in site.rows("user")] == ["de", None, None]


def test_a_site_in_german(make_site: Callable[..., Site]) -> None:
    """A site whose only language is another than English has all its mails in that."""
    site = make_site({"ACCOUNTFLOW_LANGUAGES": ["de"]})

    site.program().post("/auth/signup", {"email": EMAIL, "password": "correct horse battery"}, accept_language="en")

    assert site.letters[0].subject == "Bestätigen Sie Ihre E-Mail-Adresse bei Shop"


@pytest.mark.parametrize(
    ("selected", "locale", "language"),
    [("de_AT", "de-AT", "de"), ("pt", "pt", "pt-BR"), ("it", "en", "en"), (None, "fr", "fr")],
)
def test_with_flask_babel_the_app_says_which_language(
    make_site: Callable[..., Site], selected: str | None, locale: str, language: str
) -> None:
    """In an app with Flask-Babel its locale is that of the visit, whatever the browser likes, if the site has it."""
    site = make_site(MULTILINGUAL)
    Babel(site.app, default_locale="fr", locale_selector=lambda: selected)

    site.program().post("/auth/signup", {"email": EMAIL, "password": "correct horse battery"}, accept_language="en")

    assert site.account(EMAIL).locale == locale
    assert site.letters[0].language == language


def test_flask_babels_own_words_in_a_mail_of_the_app(make_site: Callable[..., Site]) -> None:
    """In an app with Flask-Babel ``_`` of a mail's template speaks our language, and ``gettext`` is still the app's."""
    site = make_site(MULTILINGUAL)
    Babel(site.app, default_locale="de")
    site.app.jinja_loader = DictLoader(
        {"accountflow/mail/verify.txt": '{{ _("Log in") }} {{ gettext("Log in") }} {% trans %}Log in{% endtrans %}'}
    )

    site.program().signup(EMAIL)

    assert site.letters[0].text == "Anmelden Log in Log in\n"


def test_a_worker_renders_what_asks_for_the_app(make_site: Callable[..., Site], tmp_path: Path) -> None:
    """Without a request, too, an app's own words in a mail are in its recipient's language, by the app's catalog."""
    folder = tmp_path / "de" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    catalog = Catalog(locale="de")
    catalog.add("We ship", "Wir liefern")
    with (folder / "messages.mo").open("wb") as file:
        write_mo(file, catalog)
    site = make_site({**MULTILINGUAL, "ACCOUNTFLOW_MAIL_KICK": "worker"})
    Babel(site.app, default_locale="en", default_translation_directories=str(tmp_path))
    site.app.jinja_loader = DictLoader({"accountflow/mail/verify.txt": '{{ gettext("We ship") }} {{ our_name() }}'})
    site.app.jinja_env.globals["our_name"] = lambda: current_app.name
    site.program().signup(EMAIL)
    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.execute(sa.update(site.tables.user).values(locale="de"))

    worker = threading.Thread(target=site.app.extensions["accountflow_delivery"].deliver_due)
    worker.start()
    worker.join()

    assert site.letters[0].text == f"Wir liefern {site.app.name}\n"


class _Detached(SimpleNamespace):
    """A user whose columns cannot be read any more."""

    @property
    def timezone(self) -> str:
        raise DetachedInstanceError("lazy load operation of attribute 'zone' cannot proceed")

    locale = timezone


def test_a_user_who_says_nothing_is_still_written_to(renderer: Callable[..., LetterRenderer]) -> None:
    """When the app's user cannot say its zone or language, the mail goes out in UTC and the row's language."""
    mail = Mail(renderer()(waiting("reset", "de", user=_Detached())))

    assert "Uhr (UTC)" in mail.text


# Times.


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("en", "22 Mar 2026, 08:05 UTC"),
        ("pt-BR", "22 de março de 2026, 08:05 UTC"),
        ("es", "22 de marzo de 2026, 08:05 UTC"),
        ("fr", "22 mars 2026 à 08:05 UTC"),
        ("de", "22. März 2026 um 08:05 Uhr (UTC)"),
    ],
)
def test_a_moment_in_every_language(tag: str, said: str) -> None:
    """A moment is said with day, month by its name, year, time and zone, in the order of the language."""
    assert when(datetime(2026, 3, 22, 8, 5, tzinfo=timezone.utc), Languages([tag]).choose()) == said


def test_every_month_has_its_own_name(tag: str) -> None:
    """The twelve months have twelve names."""
    language = Languages([tag]).choose()

    assert len({when(datetime(2026, month, 1), language) for month in range(1, 13)}) == 12


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(1, "1 Sekunde"), (90, "90 Sekunden"), (60, "1 Minute"), (5400, "90 Minuten"), (86400, "24 Stunden")],
)
def test_a_duration_in_another_language(seconds: int, said: str) -> None:
    """A duration is said in the words of the language, with the form that goes with the number."""
    assert in_words(seconds, exactly=True, language=Languages(["de"]).choose()) == said


def test_no_duration_in_another_language() -> None:
    """No time at all has a name in every language."""
    assert [in_words(0, language=Languages([tag]).choose()) for tag in LANGUAGES] == [
        "a moment", "um instante", "un momento", "un instant", "einen Moment",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ("Europe/Berlin", "21 Nov 2026, 10:30 UTC+01:00"),
        ("America/Sao_Paulo", "21 Nov 2026, 06:30 UTC-03:00"),
        ("Asia/Kathmandu", "21 Nov 2026, 15:15 UTC+05:45"),
        ("Pacific/Kiritimati", "21 Nov 2026, 23:30 UTC+14:00"),
        ("Europe/London", "21 Nov 2026, 09:30 UTC"),
        ("UTC", "21 Nov 2026, 09:30 UTC"),
        (None, "21 Nov 2026, 09:30 UTC"),
        ("", "21 Nov 2026, 09:30 UTC"),
        ("Mars/Olympus", "21 Nov 2026, 09:30 UTC"),
        ("Europe", "21 Nov 2026, 09:30 UTC"),
        ("../../etc/passwd", "21 Nov 2026, 09:30 UTC"),
        ("tzdata.zi", "21 Nov 2026, 09:30 UTC"),
        ("x\x00y", "21 Nov 2026, 09:30 UTC"),
        (7, "21 Nov 2026, 09:30 UTC"),
        (["UTC"], "21 Nov 2026, 09:30 UTC"),
    ],
)
def test_ML_07_the_zone_of_the_recipient(zone: object, said: str, renderer: Callable[..., LetterRenderer]) -> None:
    """Times are those of the recipient's zone where the app's user names one, else UTC; the zone is always said."""
    mail = Mail(renderer()(waiting("reset", user=SimpleNamespace(timezone=zone))))

    for part in (mail.text, mail.page.shown):
        assert f"The link works once, until {said}." in part


# Templates.


def render(source: str, name: str, **values: Any) -> str:
    """Return a template in English, rendered as Flask renders it: escaped when it is HTML."""
    environment = Environment(loader=DictLoader({name: source}), autoescape=lambda one: str(one).endswith(".html"))
    return environment.get_template(name).render({**vocabulary(ENGLISH), **values})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x.html", "Don't ask &lt;b&gt; & <i>y</i>; 2 cats of &lt;b&gt;"),
        ("x.txt", "Don't ask <b> & <i>y</i>; 2 cats of <b>"),
    ],
)
def test_messages_in_templates(name: str, said: str) -> None:
    """What fills a message is escaped in HTML unless it is markup, and never in a text; the message is as it is."""
    source = (
        """{{ _("Don't ask %(a)s & %(b)s", a=a, b=b) }}; """
        """{{ ngettext("%(number)s cat of %(a)s", "%(number)s cats of %(a)s", 2, a=a) }}"""
    )

    assert render(source, name, a="<b>", b=Markup("<i>y</i>")) == said


def test_a_message_without_placeholders_is_markup_in_html() -> None:
    """A message that is put into a variable is not escaped a second time."""
    assert render("""{% set text = _("Didn't ask?") %}{{ text }}""", "x.html") == "Didn't ask?"


def test_a_template_of_the_app_that_knows_no_languages(make_site: Callable[..., Site]) -> None:
    """A template of the app needs nothing of this: what it says it says in every language, beside what is ours."""
    site = make_site()
    site.app.jinja_loader = DictLoader(
        {
            "accountflow/mail/reset.subject.txt": "Hello from {{ site_name }}",
            "accountflow/mail/reset.html": '{% extends "accountflow/default/mail/reset.html" %}'
            "{% block lead %}<p>Hello, {{ life_text }}, {{ expires_at|af_when }}</p>{% endblock %}",
        }
    )

    mail = Mail(renderer_of(site)(waiting("reset", "de")))

    assert mail.letter.subject == "Hello from Shop"
    assert "Hello, 1 Stunde, 21. November 2026 um 09:30 Uhr (UTC)" in mail.page.shown
    assert "Neues Passwort festlegen" in mail.page.shown


def test_a_mail_of_the_apps_own(make_site: Callable[..., Site]) -> None:
    """A mail of the app's own is three templates under its name."""
    site = make_site()
    site.app.jinja_loader = DictLoader(
        {
            "accountflow/mail/welcome.subject.txt": "Welcome to {{ site_name }}",
            "accountflow/mail/welcome.txt": '{% extends "accountflow/mail/base.txt" %}'
            "{% block lead %}\nHello.\n{% endblock %}",
            "accountflow/mail/welcome.html": '{% extends "accountflow/mail/base.html" %}',
        }
    )

    mail = Mail(renderer_of(site)(waiting("welcome", "fr")))

    assert mail.letter.subject == "Welcome to Shop"
    assert mail.letter.text == f"Shop\n\nHello.\n\nEnvoyé par Shop à {EMAIL}\n"
    assert f"Envoyé par Shop à {EMAIL}" in mail.page.shown


def test_every_mail_is_documented(name: str, renderer: Callable[..., LetterRenderer]) -> None:
    """The page about mails has a row for every mail, with its subject."""
    page = (Path(__file__).parents[2] / "docs" / "mails.md").read_text(encoding="utf-8")

    subject = renderer(site_name="{site}")(waiting(name)).subject

    assert re.search(rf"^\| `{name}` \|[^|]+\| {re.escape(subject)} \|", page, re.MULTILINE)
