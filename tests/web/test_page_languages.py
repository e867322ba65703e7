"""Pages and problems in every language: that all they say is translated, and whose language it is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pages
import pseudo
import pytest
import support
from answers import heading, tags, words
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from flask import Flask, render_template_string
from flask_babel import Babel, lazy_gettext
from jinja2 import DictLoader
from markupsafe import Markup
from pages import STATES
from places import Reader, places
from support import OTHER_PASSWORD, PASSWORD, Person, Program, Site
from wtforms import BooleanField, IntegerField, StringField
from wtforms.i18n import get_translations
from wtforms.validators import DataRequired

import flask_accountflow
from flask_accountflow.fields import NewPasswordField
from flask_accountflow.forms import SignupForm
from flask_accountflow.languages import LANGUAGES, Languages

PACKAGE = Path(flask_accountflow.__file__).parent
EMAIL = "vic@example.com"
MULTILINGUAL = {"ACCOUNTFLOW_LANGUAGES": ["en", "de", "fr", "pt-BR"]}

# Every text, in a language that nobody speaks.

#: What is to be seen as it is: in HTML it would be a tag and the sign "<".
SITE_NAME, ADDRESS, MEMBER = "<b>R&amp;D</b>", "ada&lt@example.com", "vic&lt@example.com"

#: What is filled into messages: names, addresses, devices and numbers, and what an app's own form says.
_FILLED = re.compile(
    r"""<b>R&amp;D</b> | \S+@\S+ | \b(UTC|Shop|Werkzeug|Chrome|Safari|iPhone|curl|Long\w+)\b |
    \b(Name|Seats|Country|Plan|About\ you|Germany|France|Small|Large|This\ will\ not\ do\.) | I\ accept\ the\ terms |
    As\ it\ shall\ stand\ on\ a\ parcel\. | Can\ be\ changed\ at\ any\ time\.""",
    re.VERBOSE,
)
#: Attributes that are read to people.
_READ = ("alt", "aria-label", "data-af-label", "data-af-text", "placeholder", "title")


class _Texts(HTMLParser):
    """Every text that somebody sees or hears of a page."""

    def __init__(self, page: Any) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.names: set[str] = set()
        self.feed(page.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.texts += [value for name, value in attrs if name in _READ and value]

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(" ".join(data.split()))


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The language that nobody speaks."""
    return pseudo.languages(tmp_path_factory.mktemp("pseudo"))


@pytest.fixture(scope="module")
def shown(speech: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every page in every state, in that language, of a site and of people with odd names."""
    found = {}
    with pytest.MonkeyPatch.context() as patch, places(tmp_path_factory.mktemp("places")) as made:
        patch.setattr(pages, "EMAIL", ADDRESS)
        patch.setattr(pages, "OWNER", MEMBER)
        for state in STATES:
            place = made.of(replace(state, config={**state.config, "ACCOUNTFLOW_SITE_NAME": SITE_NAME}))
            place.site.app.extensions["accountflow_languages"] = speech
            reader = Reader(place.site)
            state.bring(place.site, reader)
            found[state.name] = reader.page
    return found


def test_every_text_of_every_page_is_translated(shown: dict[str, Any]) -> None:
    """Every text of every page in every state, be it seen or read aloud, comes from a catalog."""
    plain = {
        (name, text)
        for name, page in shown.items()
        for text in _Texts(page).texts
        if re.search("[A-Za-z]", _FILLED.sub("", text))
    }

    assert len(shown) == len(STATES)
    assert plain == set()


def test_every_page_says_its_language(shown: dict[str, Any]) -> None:
    """Every page names its language and its direction in its markup, and its language in a header."""
    said = {
        (page.headers["Content-Language"], *(tags(page, "html")[0][name] for name in ("lang", "dir")))
        for page in shown.values()
    }

    assert said == {(pseudo.TAG, pseudo.TAG, "rtl")}


def test_names_and_addresses_are_no_markup(shown: dict[str, Any]) -> None:
    """What is filled into the words of a page stands there as it is, whatever it would mean in HTML."""
    for name, page in shown.items():
        found = _Texts(page)
        said = " ".join(found.texts)
        assert "b" not in found.names, name
        assert said.count(SITE_NAME) >= 2, name  # in the title, and above the page
        assert "R&D" not in said, name
        assert not re.search(r"(ada|vic)<", said), name

    assert any(ADDRESS in " ".join(_Texts(page).texts) for page in shown.values())
    assert any(MEMBER in " ".join(_Texts(page).texts) for page in shown.values())


@pytest.fixture
def spoken_site(make_site: Callable[..., Site], speech: Any) -> Site:
    """A site that speaks it, too."""
    site = make_site(
        {"ACCOUNTFLOW_RATELIMIT_ENABLED": True, "ACCOUNTFLOW_RATELIMIT_LOGIN": "1/hour"},
        breach_check=lambda password: password == "known from a breach",
    )
    site.app.extensions["accountflow_languages"] = speech
    return site


def _problems(site: Site) -> Iterator[Any]:
    """Ask for everything that is refused in JSON, each in a way of its own."""
    program = site.program()
    site.member()
    pair = program.login(EMAIL)
    bearer = {"authorization": f"Bearer {pair.json['access_token']}"}
    yield program.signup("vic", "short")
    yield program.signup("ada@example.com", "x" * 300)
    yield program.signup("ada@example.com", "passwordpassword")
    yield program.signup("ada@example.com", "ada@example.com")
    yield program.signup("ada@example.com", "an odd \ud800 password")
    yield program.signup("ada@example.com", "known from a breach")
    yield program.signup("ada@example.com", name="x" * 65)
    yield program.signup("ada@example.com", name="x\0")
    yield program.post("/auth/signup", {"email": ["a"], "password": None})
    yield program.post("/auth/login", {})
    yield program.login("ida@example.com")
    yield program.login("ida@example.com")
    yield program.post("/auth/refresh", {"refresh_token": "a.b"})
    yield program.open("/auth/verify/a.b.c")
    yield program.get("/auth/nowhere")
    yield program.get("/auth/signup/sent")
    yield program.client.put("/auth/login", headers=program.headers)
    yield program.client.post("/auth/login", data="x", headers=program.headers)
    yield program.client.post("/auth/login", data="{", headers=program.headers, content_type="application/json")
    yield program.get("/auth/me")
    yield program.get("/admin", **bearer)
    yield program.post("/auth/login/fresh", {"password": OTHER_PASSWORD}, **bearer)


def test_every_problem_detail_is_translated(spoken_site: Site) -> None:
    """Title and detail of a problem in JSON, and what is said of each field, come from a catalog; codes do not."""
    found = list(_problems(spoken_site))

    for answer in found:
        body = answer.json
        assert answer.mimetype == "application/problem+json", body
        texts = [body["title"], body["detail"], *(error["detail"] for error in body.get("errors", []))]
        assert [text for text in texts if re.search("[A-Za-z]", text)] == []
        assert answer.headers["Content-Language"] == pseudo.TAG
    assert {answer.json["code"] for answer in found} >= {"validation_failed", "rate_limited", "not_found", "forbidden"}
    fields = {error["code"] for answer in found for error in answer.json.get("errors", [])}
    assert fields == {
        "required", "invalid_type", "invalid_email", "too_short", "too_long", "too_common", "breached",
        "contains_email", "incorrect", "invalid",
    }  # fmt: skip


class _Unnoted(ast.NodeVisitor):
    """Sentences for people that no catalog can find."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name in {"noted", "noted_plural"}:
            return
        if name in {"Problem", "FieldFault", "Fault", "Filled"} or (name or "").endswith("Field"):
            given = [*node.args, *(one.value for one in node.keywords if one.arg in {"label", "description", "detail"})]
            self.found += [ast.unparse(one) for one in given if _is_sentence(one)]
        self.generic_visit(node)


def _is_sentence(node: ast.expr) -> bool:
    if isinstance(node, ast.JoinedStr):
        return True
    # A code or the name of a field has neither capitals nor blanks.
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and not re.fullmatch(r"[a-z_]*", node.value)


def test_every_sentence_in_code_is_noted() -> None:
    """Titles, details, labels and descriptions that stand in code are noted, so that the catalogs have them."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        visitor = _Unnoted()
        visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
        found[path.name] = visitor.found

    assert {name: sentences for name, sentences in found.items() if sentences} == {}


# Which language.


class Asker:
    """Somebody who opens one page and is refused one request, with these headers."""

    def __init__(self, site: Site, kind: type[Person | Program], **headers: str) -> None:
        self.visitor: Any = kind(site)
        self.headers = headers

    def log_in(self) -> Any:
        """Log in, and from now on be known."""
        answer = self.visitor.login(EMAIL)
        if self.visitor.kind == "json":
            self.headers["authorization"] = f"Bearer {answer.json['access_token']}"
        return self

    def ask(self, path: str = "/auth/nowhere") -> Any:
        """Return a page or a problem."""
        return self.visitor.get(path, **self.headers)


NOT_FOUND = {
    "en": "There is no such page",
    "pt-BR": "Esta página não existe",
    "es": "Esta página no existe",
    "fr": "Cette page n’existe pas",
    "de": "Diese Seite gibt es nicht",
}


def _title(answer: Any) -> str:
    return answer.json["title"] if answer.is_json else heading(answer)


def _language(answer: Any) -> str:
    """Return the language of a page or a problem, which all of it agrees on."""
    tag = str(answer.headers["Content-Language"])
    if not answer.is_json:
        assert (tags(answer, "html")[0]["lang"], tags(answer, "html")[0]["dir"]) == (tag, "ltr")
    return tag


both = pytest.mark.parametrize("kind", [Program, Person], ids=["json", "html"])


@both
@pytest.mark.parametrize("tag", LANGUAGES)
def test_each_language(make_site: Callable[..., Site], kind: Any, tag: str) -> None:
    """A site that names one language speaks it to everybody."""
    site = make_site({"ACCOUNTFLOW_LANGUAGES": [tag]})

    answer = Asker(site, kind, accept_language="ja, it").ask()

    assert (_language(answer), _title(answer)) == (tag, NOT_FOUND[tag])


@both
@pytest.mark.parametrize(
    ("accepted", "tag"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr-CH, en;q=0.9", "fr"),
        ("pt-PT,en;q=0.5", "pt-BR"),
        ("it,fr;q=0.3,de;q=0.4", "de"),
        ("it, ja;q=0.5", "en"),
        ("de;q=0", "en"),
        ("%;;q=x,,-", "en"),
        (None, "en"),
    ],
)
def test_what_the_browser_likes_best(make_site: Callable[..., Site], kind: Any, accepted: str | None, tag: str) -> None:
    """A stranger is answered in the language of the site that he likes best, else in its first, and caches know it."""
    site = make_site(MULTILINGUAL)

    answer = Asker(site, kind, **({} if accepted is None else {"accept_language": accepted})).ask()

    assert (_language(answer), _title(answer)) == (tag, NOT_FOUND[tag])
    assert "Accept-Language" in answer.vary


@both
def test_a_site_in_one_language_varies_in_nothing(site: Site, kind: Any) -> None:
    """A site that names no languages answers all alike, whatever they like, and no cache keeps them apart."""
    found = [Asker(site, kind, accept_language=accepted).ask() for accepted in ("de", "en;q=0.5", "%;;q=x")]

    assert [(_language(answer), answer.headers["Vary"]) for answer in found] == [("en", "Accept, Cookie")] * 3
    assert len({re.sub(r'csrf_token" value="\w+', "", answer.text) for answer in found}) == 1


@both
@pytest.mark.parametrize(("locale", "tag"), [("fr", "fr"), ("pt_PT", "pt-BR"), ("it", "de"), (None, "de")])
def test_a_members_own_language(make_site: Callable[..., Site], kind: Any, locale: str | None, tag: str) -> None:
    """Where it is known who asks, his own language comes before that of his browser, if the site has it."""
    site = make_site(MULTILINGUAL)
    site.member()
    site.change(EMAIL, locale=locale)
    asker = Asker(site, kind, accept_language="de").log_in()

    answer = asker.ask("/admin")

    assert (_language(answer), answer.status_code) == (tag, 403)
    assert ("Accept-Language" in answer.vary) is (tag == "de")


@both
def test_the_language_of_a_member_costs_no_statement(make_site: Callable[..., Site], kind: Any) -> None:
    """A site in many languages asks the database the same as one in English: nobody is looked up for his language."""
    found = []

    for config in (MULTILINGUAL, {}):
        site = make_site(config)
        site.member()
        site.change(EMAIL, locale="fr")
        asker = Asker(site, kind, accept_language="de").log_in()
        with site.statements() as statements:
            answers = [asker.ask(path) for path in ("/auth/nowhere", "/auth/login/fresh", "/auth/me")]
        found.append((statements, [answer.headers.get("Content-Language") for answer in answers]))

    assert found[0][0] == found[1][0]
    # Only the second and the third ask who it is; what is no text has no language.
    assert found[0][1] == (["de", "fr", None] if kind is Program else ["de", "fr", "fr"])


def test_a_page_is_in_one_language(make_site: Callable[..., Site]) -> None:
    """A page that finds out only while it is made who is logged in stays in the language that it began in."""
    site = make_site(MULTILINGUAL)
    site.member()
    site.change(EMAIL, locale="fr")
    person = site.person()
    person.login(EMAIL)
    for _ in range(2):
        site.program().signup("ada@example.com")
        site.clock.tick(61)

    page = person.get(site.last_link, accept_language="de")

    assert "Sie sind hier als vic@example.com angemeldet." in words(page)
    assert _language(page) == "de"
    assert "Mindestens 12 Zeichen." in words(page)


@both
@pytest.mark.parametrize(
    ("selected", "tag", "varies"),
    [("fr", "fr", False), ("de_AT", "de", False), ("pt", "pt-BR", False), ("it", "de", True), (None, "fr", False)],
)
def test_with_flask_babel_pages_speak_as_the_app_does(
    make_site: Callable[..., Site], kind: Any, selected: str | None, tag: str, varies: bool
) -> None:
    """In an app with Flask-Babel its locale comes first, if the site has it."""
    site = make_site(MULTILINGUAL)
    Babel(site.app, default_locale="fr", locale_selector=lambda: selected)

    answer = Asker(site, kind, accept_language="de").ask()

    assert (_language(answer), "Accept-Language" in answer.vary) == (tag, varies)


@both
def test_a_selector_that_fails_does_not_hide_what_went_wrong(
    make_site: Callable[..., Site], kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """When the app's own selector raises, the answer is in the browser's language, and the log says what was raised."""
    site = make_site(MULTILINGUAL)
    Babel(site.app, locale_selector=lambda: {}["locale"])

    answer = Asker(site, kind, accept_language="de").ask()

    assert (_language(answer), answer.status_code) == ("de", 404)
    assert "the app's locale_selector failed: KeyError" in caplog.text


@pytest.mark.parametrize(
    ("selected", "accepted", "locale"), [("it", "de", "de"), ("fr", "de", "fr"), ("it", "ja", None)]
)
def test_who_signs_up_is_remembered_in_the_language_of_the_page(
    make_site: Callable[..., Site], selected: str, accepted: str, locale: str | None
) -> None:
    """What a sign-up stores as somebody's language is that of the pages that he saw, and his mail is in it."""
    site = make_site(MULTILINGUAL)
    Babel(site.app, locale_selector=lambda: selected)
    person = site.person()
    person.headers = {**person.headers, "Accept-Language": accepted}

    page = person.follow(person.signup("ada@example.com"))

    assert site.account("ada@example.com").locale == locale
    assert _language(page) == site.letters[0].language == (locale or "en")


_WITHOUT_BABEL = """
import sys
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_accountflow import AccountFlow, UserMixin

app = Flask("shop")
app.config.update(
    SECRET_KEY="x" * 32, TESTING=True, SQLALCHEMY_DATABASE_URI="sqlite://", ACCOUNTFLOW_LANGUAGES=["en", "de"]
)
db = SQLAlchemy(app)

class User(UserMixin, db.Model):
    pass

AccountFlow(app, db, User)
answer = app.test_client().get("/auth/login", headers={"Accept": "text/html", "Accept-Language": "de"})
assert "Anmelden" in answer.text
assert not {"babel", "flask_babel"} & sys.modules.keys()
"""


@pytest.mark.slow
def test_without_flask_babel_nothing_of_it_is_loaded() -> None:
    """An app that has not set Flask-Babel up speaks its languages without it, though it is installed."""
    subprocess.run([sys.executable, "-c", _WITHOUT_BABEL], check=True, timeout=60)


# What else is said in it.


def test_times_durations_and_devices(make_site: Callable[..., Site]) -> None:
    """Moments, durations and devices are said in the language of the page."""
    site = make_site(MULTILINGUAL)
    person = site.person()
    person.headers = {**person.headers, "Accept-Language": "de", "User-Agent": "Mozilla/5.0 (Windows) Firefox/145.0"}

    sent = person.follow(person.signup("ada@example.com"))
    person.verify(site.last_link)
    site.program().post("/auth/login", {"email": "ada@example.com", "password": PASSWORD}, user_agent="")
    account = person.get("/auth/me")

    assert "er gilt 24 Stunden." in words(sent)
    assert "Firefox auf Windows" in words(account)
    assert "Unbekanntes Gerät" in words(account)
    assert "Konto seit 21. November 2026 um 08:30 Uhr (UTC)" in words(account)


@pytest.mark.parametrize("path", ["/auth/signup", "/auth/login", "/auth/password-reset/request"])
def test_programs_are_told_labels_in_it(make_site: Callable[..., Site], path: str) -> None:
    """A program that asks for a form gets its labels in the language that it asks for."""
    site = make_site({**MULTILINGUAL, "ACCOUNTFLOW_SEED_ALIASES": True})

    answer = site.program().get(path, accept_language="de")

    assert answer.json["fields"][0] == {"name": "email", "label": "E-Mail-Adresse", "type": "email"}
    assert answer.headers["Content-Language"] == "de"


def test_programs_are_told_in_it_what_to_tell_people(make_site: Callable[..., Site]) -> None:
    """A sentence in a success is in the caller's language, also under the name that the tempest SDK has for it."""
    site = make_site({**MULTILINGUAL, "ACCOUNTFLOW_SEED_ALIASES": True})
    body = {"email": "ada@example.com", "password": PASSWORD}

    asked = site.program().post("/auth/password-reset/request", body, accept_language="fr")
    joined = site.program().post("/auth/signup", body, accept_language="fr")
    silent = site.program().post("/auth/login", body, accept_language="fr")

    assert asked.json["detail"] == asked.json["message"] == "Si un compte correspond, un e-mail est en route."
    assert joined.json["message"] == "Consultez vos e-mails."
    assert [answer.headers["Content-Language"] for answer in (asked, joined, silent)] == ["fr"] * 3


def test_a_json_answer_without_words_has_no_language(make_site: Callable[..., Site]) -> None:
    """JSON that says nothing to people names no language."""
    site = make_site(MULTILINGUAL)
    site.member()

    assert "Content-Language" not in site.program().login(EMAIL).headers


def test_the_description_stays_english(make_site: Callable[..., Site]) -> None:
    """The OpenAPI document is in English for everybody, whoever asks first."""
    site = make_site(MULTILINGUAL)

    german = site.program().get("/auth/openapi.json", accept_language="de")
    example = german.json["paths"]["/signup"]["get"]["responses"]["200"]["content"]["application/json"]["example"]

    assert example["fields"][0]["label"] == "Email"
    assert german.json == site.program().get("/auth/openapi.json").json


def test_pages_of_development_stay_english(make_site: Callable[..., Site]) -> None:
    """The developer's inbox is in English, whatever the site speaks."""
    site = make_site({"DEBUG": True, "ACCOUNTFLOW_LANGUAGES": ["de"], "ACCOUNTFLOW_SUPPORT_EMAIL": "help@example.com"})

    page = site.person().get("/auth/_dev/mail")

    assert tags(page, "html")[0]["lang"] == "en"
    assert "Need help? Write to help@example.com" in words(page)


# The app's own words.


class _OwnForm(SignupForm):
    """A form with words of the app's."""

    email2 = StringField("Email", description="100 % sure & <b>bold</b>")
    terms = BooleanField(Markup('I accept the <a href="/terms">terms</a>'))
    greeting = StringField(lazy_gettext("Hello"))
    blank = StringField("", [DataRequired("Say %(it)s <b>")])
    seats = IntegerField("Seats")
    pin = NewPasswordField("R&D <pin>")


@pytest.mark.parametrize("tag", LANGUAGES)
def test_the_words_of_the_apps_own_form(make_site: Callable[..., Site], tag: str) -> None:
    """An app's labels and messages are as it says them, unless they are ours, or WTForms' own; markup stays markup."""
    site = make_site({"ACCOUNTFLOW_LANGUAGES": [tag]}, signup_form=_OwnForm)
    Babel(site.app)

    page = site.person().fill("/auth/signup", email="ada", seats="many", pin="")

    found, english = words(page), "Not a valid integer value."
    said = get_translations([tag.replace("-", "_")]).gettext(english)
    assert (said == english) is (tag == "en")
    assert found.count(Languages([tag]).choose().gettext("Email")) >= 2
    assert "100 % sure & <b>bold</b>" in found
    assert '<a href="/terms">terms</a>' in page.text
    assert "Hello" in found
    assert "Say %(it)s <b>" in found
    assert "R&D <pin>" in found
    assert said in found
    assert "Plural-Forms" not in page.text


def test_macros_in_a_page_of_the_app(make_site: Callable[..., Site]) -> None:
    """Our macros and filters speak by the same rule in pages of the app, and English where there is no request."""
    site = make_site(MULTILINGUAL)
    source = '{% import "accountflow/_macros.html" as af %}{{ af.email_field() }}{{ moment|af_when }}'
    moment = site.clock()
    site.app.add_url_rule("/own", view_func=lambda: render_template_string(source, moment=moment))

    page = site.person().get("/own", accept_language="de")
    with site.app.app_context():
        alone = site.app.jinja_env.from_string(source).render(moment=moment)

    assert words(page) == "E-Mail-Adresse 21. November 2026 um 08:30 Uhr (UTC)"
    assert "Email" in alone
    assert "21 Nov 2026, 08:30 UTC" in alone


def test_a_template_of_the_app_in_the_place_of_ours(make_site: Callable[..., Site]) -> None:
    """In an app's version of a page ``_`` says our messages, and Flask-Babel's ``gettext`` the app's."""
    site = make_site(MULTILINGUAL)
    Babel(site.app, default_locale="de")
    site.app.jinja_loader = DictLoader(
        {
            "accountflow/login.html": '{% extends "accountflow/default/login.html" %}'
            '{% block heading %}{{ _("Log in") }} {{ gettext("Log in") }} {{ dir }}{% endblock %}'
        }
    )

    page = site.person().get("/auth/login")

    assert heading(page) == "Anmelden Log in ltr"
    assert "Passwort vergessen?" in words(page)


def test_words_of_the_app_in_the_place_of_ours(
    make_site: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a catalog of the app says comes before what ours says, in English too: in pages, problems and mails."""
    for locale, text in (("en", "Sign in"), ("de", "Einloggen")):
        catalog = Catalog(locale=locale)
        catalog.add("Log in", text)
        catalog.add("There is no such page", text)
        catalog.add("Confirm email", text)
        file = tmp_path / "translations" / locale / "LC_MESSAGES" / "accountflow.mo"
        file.parent.mkdir(parents=True)
        with file.open("wb") as target:
            write_mo(target, catalog)
    monkeypatch.setattr(support, "Flask", partial(Flask, root_path=str(tmp_path)))
    site = make_site(MULTILINGUAL)

    for tag, text, kept in (("en", "Sign in", "Forgot your password?"), ("de", "Einloggen", "Passwort vergessen?")):
        page = site.person().get("/auth/login", accept_language=tag)
        problem = site.program().get("/auth/nowhere", accept_language=tag)
        site.program().post("/auth/signup", {"email": f"{tag}@example.com", "password": PASSWORD}, accept_language=tag)
        preview = site.app.extensions["accountflow_previews"].show("verify", tag)
        assert (heading(page), problem.json["title"]) == (text, text)
        assert kept in words(page)
        assert text in site.letters[-1].html
        assert text in preview.letter.html
