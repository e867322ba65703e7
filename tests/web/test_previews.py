"""Previews: every mail in every language, with samples that are told from the real thing by nobody but us."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
import sqlalchemy as sa
from answers import heading, links, tags, words
from jinja2 import DictLoader, FileSystemLoader, FunctionLoader, StrictUndefined
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from support import BASE_URL, Person, Program, Site, services
from test_inbox import ELSEWHERE, POLICY
from test_mails import MAILS

from flask_accountflow import UserMixin
from flask_accountflow.languages import LANGUAGES
from flask_accountflow.mail.letter import Letter, message_bytes
from flask_accountflow.web.previews import ADDRESS, MOMENT, Preview, Previews
from flask_accountflow.web.words import when

MakeSite = Callable[..., Site]
INDEX = "/auth/_dev/preview/"


def previews(site: Site) -> Previews:
    """Return the previews of a site."""
    found: Previews = site.app.extensions["accountflow_previews"]
    return found


def letter(preview: Preview) -> Letter:
    """Return the letter of a preview that must be in order."""
    assert preview.fault is None, preview.fault
    assert preview.letter is not None
    return preview.letter


@pytest.fixture
def debug(make_site: MakeSite) -> Site:
    """A site in debug, with two languages."""
    return make_site({"DEBUG": True, "ACCOUNTFLOW_LANGUAGES": ["en", "de"]})


# What is previewed.


def test_every_mail_is_previewed_in_every_language(site: Site) -> None:
    """Every mail that can be sent has a preview in every language, in that language and without a fault."""
    found = previews(site)

    names = found.names()
    shown = {(name, locale): letter(found.show(name, locale)) for name in names for locale in LANGUAGES}

    assert {*MAILS, "test"} <= set(names)
    assert names == sorted(set(names))
    assert {key: one.language for key, one in shown.items()} == {key: key[1] for key in shown}
    for name in names:
        assert len({shown[name, locale].text for locale in LANGUAGES}) == len(LANGUAGES)


def _without_chance(site: Site, sent: Letter, text: str) -> str:
    for value in (sent.link, sent.to, ADDRESS):
        text = text.replace(value, "…") if value else text
    return re.sub(r"\d\d:\d\d UTC", "…", text)


@pytest.mark.parametrize("name", MAILS)
def test_a_preview_is_what_is_sent(site: Site, name: str) -> None:
    """A preview says what the mail says, but for the address, the link and the time."""
    MAILS[name][0](site)
    sent = next(one for one in site.letters if one.template == name)

    shown = letter(previews(site).show(name, "en"))

    assert (shown.link is None) == (sent.link is None)
    assert shown.subject == sent.subject
    assert _without_chance(site, shown, shown.text) == _without_chance(site, sent, sent.text)
    assert _without_chance(site, shown, shown.html) == _without_chance(site, sent, sent.html)


def test_a_sample_link_looks_like_a_link(site: Site) -> None:
    """The link of a preview has the address and the length of one that works."""
    site.program().signup(ADDRESS)
    sent = str(site.letters[0].link)

    shown = str(letter(previews(site).show("verify", "en")).link)

    assert shown.rpartition("/")[0] == sent.rpartition("/")[0] == f"{BASE_URL}/auth/verify"
    assert len(shown) == len(sent)


@pytest.mark.parametrize("name", ["verify", "reset", "set_password"])
def test_a_sample_link_opens_nothing(site: Site, visitor: Program | Person, name: str) -> None:
    """The link of a preview opens nothing, by nobody, also where the address has an account."""
    site.member(ADDRESS, verified=False)
    before = site.account(ADDRESS)
    link = str(letter(previews(site).show(name, "en")).link).removeprefix(BASE_URL)

    opened = visitor.open(link)
    used = visitor.site.program().post(link, {"password": "a password of somebody else"})

    assert (opened.status_code, used.status_code, used.json["code"]) == (410, 410, "token_expired")
    assert site.account(ADDRESS) == before


@pytest.mark.parametrize(
    ("name", "path", "life"),
    [
        ("verify", "/verify/", timedelta(days=1)),
        ("reset", "/password-reset/", timedelta(hours=1)),
        ("set_password", "/password-reset/", timedelta(days=1)),
        ("email_change", "/email/confirm/", timedelta(days=1)),
        ("email_changed", "/email/revert/", timedelta(days=3)),
    ],
)
def test_a_sample_link_is_for_what_its_mail_is_for(site: Site, name: str, path: str, life: timedelta) -> None:
    """The link of a preview leads to the page of its mail, and ends when such a link does."""
    shown = letter(previews(site).show(name, "en"))

    assert str(shown.link).startswith(f"{BASE_URL}/auth{path}")
    assert f"until {when(MOMENT + life)}" in shown.text


def test_a_preview_is_the_same_each_time(site: Site) -> None:
    """Two previews of a mail are the same to the last byte, whatever the time."""
    first = {name: message_bytes(letter(previews(site).show(name, "en"))) for name in previews(site).names()}
    site.clock.tick(1000)

    again = {name: message_bytes(letter(previews(site).show(name, "en"))) for name in first}

    assert again == first
    assert str(message_from_bytes(first["verify"], policy=default)["Date"]) == "Sat, 21 Nov 2026 08:30:00 +0000"


@pytest.mark.usefixtures("own_site")
def test_a_preview_asks_no_database(site: Site) -> None:
    """A preview neither needs a table nor runs a statement, and nothing is sent."""
    with site.app.app_context():
        site.db.drop_all()

    with site.statements() as seen:
        shown = [letter(previews(site).show(name, "en")) for name in previews(site).names()]

    assert len(shown) >= len(MAILS)
    assert seen == []
    assert site.letters == []


# Templates of the app.


def own(site: Site, **templates: str) -> Site:
    """Give the app mail templates of its own: ``verify__txt`` is ``verify.txt``."""
    names = {name.replace("__", "."): text for name, text in templates.items()}
    site.app.jinja_loader = DictLoader({f"accountflow/mail/{name}": text for name, text in names.items()})
    return site


def test_a_mail_of_the_app_is_previewed(own_site: Site) -> None:
    """A mail that the app adds is previewed with ours, with a link where its text asks for one."""
    own(
        own_site,
        welcome__subject__txt="Welcome",
        welcome__txt="Hello {{ email }}\n{{ link }}",
        welcome__html="<a href='{{ link }}'>Hello</a>",
        bye__subject__txt="Bye",
        bye__txt="Bye {{ user.email }}",
        bye__html="Bye",
    )
    found = previews(own_site)

    assert {"welcome", "bye", "verify"} <= set(found.names())
    assert letter(found.show("welcome", "en")).text.startswith(f"Hello {ADDRESS}\n{BASE_URL}/auth/")
    assert letter(found.show("bye", "en")).text == f"Bye {ADDRESS}\n"
    assert letter(found.show("bye", "en")).link is None


def test_an_override_is_previewed(own_site: Site) -> None:
    """What the app overrides is previewed as the app has it."""
    own(own_site, verify__subject__txt="Welcome to {{ site_name }}")

    assert letter(previews(own_site).show("verify", "en")).subject == "Welcome to Shop"


def test_mails_are_grouped_by_their_flow(own_site: Site) -> None:
    """Each of our mails belongs to a flow, and those that the app adds come last."""
    ours = previews(own_site).by_flow()
    own(own_site, welcome__subject__txt="Welcome")

    assert sorted(name for names in ours.values() for name in names) == sorted(
        {*previews(own_site).names()} - {"welcome"}
    )
    assert "This app" not in ours
    assert list(previews(own_site).by_flow().items()) == [*ours.items(), ("This app", ["welcome"])]


def test_only_whole_mails_are_names(own_site: Site) -> None:
    """A template without a subject, and one in a folder further down, is no mail."""
    before = previews(own_site).names()

    own(own_site, **{"part__txt": "", "part__html": "", "old/mail__subject__txt": ""})

    assert previews(own_site).names() == before


def test_a_loader_that_cannot_list(own_site: Site) -> None:
    """Where the app's loader cannot say what it has, our own mails are previewed, as the app has them."""
    before = previews(own_site).names()
    words = {"accountflow/mail/verify.subject.txt": "Welcome"}

    own_site.app.jinja_loader = FunctionLoader(words.get)  # type: ignore[assignment]

    assert previews(own_site).names() == before
    assert letter(previews(own_site).show("verify", "en")).subject == "Welcome"


def test_a_sample_user_fills_what_must_be_filled(site: Site) -> None:
    """The user of a preview has a value in every column that must have one, and nobody's checks run for it."""

    class Base(DeclarativeBase):
        pass

    class Shape(sa.types.UserDefinedType[Any]):
        @property
        def python_type(self) -> type[Any]:
            raise NotImplementedError

    class Member(UserMixin, Base):
        __tablename__ = "members"
        name: Mapped[str]
        points: Mapped[int]
        joined_at: Mapped[datetime]
        level: Mapped[str] = mapped_column(sa.String(10), default="new")
        shape = mapped_column(Shape, nullable=False)
        nickname: Mapped[str | None]
        initial: Mapped[str] = sa.orm.column_property(sa.func.lower("A"))

        def __init__(self) -> None:
            raise AssertionError("only the app makes members")

    parts = services(site)
    found = Previews(site.app.jinja_env, parts.settings, parts.addresses, Member)

    user = found.sample("verify", "de").user

    assert (user.email, user.email_key, user.locale) == (ADDRESS, ADDRESS, "de")
    assert (user.name, user.points, user.joined_at, user.level) == ("Vic", 1, MOMENT, "new")
    assert (user.is_active, user.is_admin, user.email_verified) == (True, False, False)
    assert (user.shape, user.nickname, user.initial) == (None, None, None)


@pytest.mark.parametrize("name", ["test", "no_account"])
def test_some_mails_go_to_strangers(site: Site, name: str) -> None:
    """A mail to an address without an account has no user, so that a template that counts on one is found out."""
    assert previews(site).sample(name, "en").user is None


# Faults.


def test_ours_have_no_faults(make_site: MakeSite) -> None:
    """All our mails are in order in every language, also where what is not defined is an error."""
    site = make_site({"ACCOUNTFLOW_LANGUAGES": list(LANGUAGES)})
    site.app.jinja_env.undefined = StrictUndefined

    assert list(previews(site).faults()) == []


#: What may be wrong with a template, and what is said about it.
FAULTS: dict[str, tuple[Mapping[str, str], str]] = {
    "syntax": ({"verify__txt": "{{ link }}\n{% if %}"}, "TemplateSyntaxError: Expected an expression"),
    "an error": ({"verify__html": "{{ link }}{{ 1 / 0 }}"}, "ZeroDivisionError: division by zero"),
    "an error without words": ({"verify__html": "{{ raise_it() }}"}, "KeyError: "),
    "a name that there is not": ({"verify__txt": "{{ nobody.name }}"}, "UndefinedError: 'nobody' is undefined"),
    "a frame that there is not": (
        {"verify__txt": '{% extends "accountflow/mail/frame.txt" %}{{ link }}'},
        "TemplateNotFound: accountflow/mail/frame.txt",
    ),
    "a subject with a sign that ends texts": (
        {"verify__subject__txt": "Confirm\0 it"},
        "ValueError: the subject of a letter must be one line without control characters",
    ),
    "no subject": ({"verify__subject__txt": " \n"}, "its subject is empty"),
    "no text": ({"verify__txt": "{# later #}"}, "its text is empty"),
    "no HTML": ({"verify__html": "\n"}, "its HTML part is empty"),
    "a text without the link": ({"verify__txt": "Hello"}, "its text lacks the link"),
    "HTML without the link": ({"verify__html": "<p>Hello</p>"}, "its HTML part lacks the link"),
}


def _raise_nothing() -> None:
    raise KeyError


@pytest.mark.parametrize("kind", FAULTS)
def test_F26_a_broken_template_is_named(own_site: Site, kind: str) -> None:
    """One sentence names the mail that is broken, its language, and what is wrong; the others are in order."""
    templates, reason = FAULTS[kind]
    own_site.app.jinja_env.globals["raise_it"] = _raise_nothing

    (fault,) = previews(own(own_site, **templates)).faults()

    assert fault.startswith(f"The mail verify in en: {reason}")
    assert fault.endswith(".")
    assert "\n" not in fault


def test_F26_a_mail_without_a_part_is_named(own_site: Site) -> None:
    """A mail of the app that has a subject and nothing else is a fault."""
    (fault,) = previews(own(own_site, half__subject__txt="Half")).faults()

    assert fault.startswith("The mail half in en: TemplatesNotFound: ")
    assert "accountflow/mail/half.txt" in fault


@pytest.mark.parametrize("text", ["{% if %}", "{{ nobody.name }}"])
def test_F26_the_place_is_named(own_site: Site, tmp_path: Any, text: str) -> None:
    """A fault in a file of the app names the file and the line."""
    file = tmp_path / "accountflow/mail/reset.html"
    file.parent.mkdir(parents=True)
    file.write_text(f"<p>\n{text}")
    own_site.app.jinja_loader = FileSystemLoader(tmp_path)

    (fault,) = previews(own_site).faults()

    assert fault.endswith(f" ({file}, line 2).")


def test_F26_a_link_with_an_ampersand_is_found(make_site: MakeSite) -> None:
    """A link that HTML writes in another way than text is not missed in it."""
    site = make_site({"ACCOUNTFLOW_VERIFY_URL": f"{BASE_URL}/app?a=1&token={{token}}"})

    assert list(previews(site).faults()) == []


def test_F26_only_languages_of_the_site_count(make_site: MakeSite) -> None:
    """A mail that is broken in a language is a fault where the site speaks it, and once in the first of them."""
    broken = {"verify__subject__txt": "{% if lang != 'en' %}{{ 1 / 0 }}{% endif %}Welcome"}
    sites = [make_site({"ACCOUNTFLOW_LANGUAGES": tags}) for tags in (["en"], ["en", "fr", "de"])]

    found = [[fault.partition(": ")[0] for fault in previews(own(site, **broken)).faults()] for site in sites]

    assert found == [[], ["The mail verify in fr"]]


# The pages.


def test_the_list_leads_to_every_mail(debug: Site) -> None:
    """The list names every mail by its subject, and leads to it in each language and back to the inbox."""
    page = debug.person().get(INDEX)

    assert heading(page) == "Every mail"
    assert "links open nothing. Sign-up Confirm your email for Shop verify · en · pt-BR · es · fr · de" in words(page)
    shown = {link.partition("?")[0].removeprefix(INDEX) for link in links(page)}
    assert shown == {*previews(debug).names(), "/auth/_dev/mail"}
    assert f"{INDEX}verify?locale=de" in links(page)


def test_the_address_of_the_list_does_without_its_slash(debug: Site) -> None:
    """The list is found without the slash at its end, too."""
    page = debug.person().client.get(INDEX.rstrip("/"), headers=Person.headers, follow_redirects=True)

    assert heading(page) == "Every mail"


def test_a_mail_is_shown_in_a_language(debug: Site) -> None:
    """The page of a mail shows it in the language that was asked for, a part at a time, and without its link."""
    shown = letter(previews(debug).show("verify", "de"))
    address = f"{INDEX}verify?locale=de"
    page, text, headers, source = (
        debug.person().get(f"{address}{view}") for view in ("", "&view=text", "&view=headers", "&view=source")
    )

    frames = tags(page, "iframe")
    assert heading(page) == shown.subject
    assert [(frame["src"], frame["sandbox"]) for frame in frames] == [
        (f"{address}&format=html&scheme={scheme}", None) for scheme in ("light", "dark")
    ]
    assert shown.text.splitlines()[0] in words(text)
    assert "Content-Language de" in words(headers)
    assert "Content-Language: de" in words(source)
    for one in (page, text, headers, source):
        assert {tag["href"].partition("&")[0] for tag in tags(one, "a") if "aria-current" in tag} == {address}
        assert shown.link not in links(one)


def test_a_preview_keeps_what_was_chosen(debug: Site) -> None:
    """Another language, and the mail before or after, are shown as this one is."""
    page = debug.person().get(f"{INDEX}reset?locale=fr&view=text&scheme=dark")

    assert f"{INDEX}reset?locale=de&view=text&scheme=dark" in links(page)
    assert [link for link in links(page) if "/reset" not in link] == [
        f"{INDEX}already_verified?locale=fr&view=text&scheme=dark",
        f"{INDEX}no_account?locale=fr&view=text&scheme=dark",
        INDEX,
    ]


@pytest.mark.parametrize(("name", "word"), [("verify", "Next"), ("test", "Previous")])
def test_the_first_and_the_last_preview(debug: Site, name: str, word: str) -> None:
    """At an end of the previews there is one way less."""
    page = words(debug.person().get(f"{INDEX}{name}"))

    assert [one for one in ("Previous", "Next") if one in page] == [word]


def test_without_a_wish_the_first_language_is_shown(debug: Site) -> None:
    """A preview without a language is in English."""
    assert heading(debug.person().get(f"{INDEX}reset")) == "Reset your Shop password"


def test_each_form_of_a_preview(debug: Site) -> None:
    """The HTML, the text, the headers and the whole message can be had by themselves, in any language."""
    person, shown = debug.person(), letter(previews(debug).show("verify", "fr"))
    found = {form: person.get(f"{INDEX}verify?locale=fr&format={form}") for form in ("html", "text", "headers", "eml")}

    assert found["html"].text == shown.html
    assert found["html"].headers.getlist("Content-Security-Policy") == [POLICY]
    assert (found["text"].mimetype, found["text"].text) == ("text/plain", shown.text)
    assert "\nContent-Language: fr\n" in found["headers"].text
    assert found["eml"].data == message_bytes(shown)
    assert found["eml"].headers["Content-Disposition"] == "attachment; filename=verify.fr.eml"


def test_a_broken_mail_is_shown_with_its_fault(debug: Site) -> None:
    """A mail that cannot be rendered is listed by its name with what is wrong, and its page says the same."""
    own(debug, verify__txt="{{ nobody.name }}")

    pages = [debug.person().get(path) for path in (INDEX, f"{INDEX}verify", f"{INDEX}verify?format=html")]

    assert [page.status_code for page in pages] == [200] * 3
    for page in pages:
        assert "UndefinedError: 'nobody' is undefined." in words(page)
    assert [heading(page) for page in pages] == ["Every mail", "verify", "verify"]
    assert tags(pages[1], "iframe") == []


PATHS = [INDEX, f"{INDEX}verify", *(f"{INDEX}verify?format={form}" for form in ("html", "text", "headers", "eml"))]


@pytest.mark.parametrize("path", [f"{INDEX}no", f"{INDEX}verify?locale=xx", f"{INDEX}verify?format=pdf", f"{INDEX}a/b"])
def test_a_preview_that_there_is_not(debug: Site, path: str) -> None:
    """A mail, a language or a form that there is not is an address of nothing."""
    page = debug.person().get(path)

    assert (page.status_code, heading(page)) == (404, "There is no such page")


@pytest.mark.parametrize("path", PATHS)
def test_there_are_none_without_debug(site: Site, visitor: Program | Person, path: str) -> None:
    """Outside debug there are no previews, and no routes of them."""
    assert visitor.get(path).status_code == 404
    assert not [rule for rule in site.app.url_map.iter_rules() if "_dev" in rule.rule]


@pytest.mark.parametrize("kind", [Person, Program])
def test_previews_are_for_this_computer(debug: Site, kind: type[Person] | type[Program]) -> None:
    """Whoever is not at this computer, or came here under another name, finds no previews."""
    client = debug.app.test_client()

    for how, (headers, environ) in ELSEWHERE.items():
        for path in PATHS:
            response = client.get(path, headers={**kind.headers, **headers}, environ_overrides=environ)
            assert response.status_code == 404, (how, path)
            assert ADDRESS not in response.text


@pytest.mark.parametrize("path", PATHS)
def test_previews_are_for_people(debug: Site, path: str) -> None:
    """A program is never answered with a preview."""
    problem = debug.program().get(path)

    assert (problem.status_code, problem.json["code"]) == (406, "not_acceptable")
