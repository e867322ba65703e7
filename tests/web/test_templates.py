"""Where templates are found: the app's come first, and ``accountflow/default/…`` is always the package's own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flask.templating
import jinja2
import pytest
from answers import heading, words
from flask import Blueprint, Flask, render_template
from flask_sqlalchemy import SQLAlchemy
from support import CONFIG, PASSWORD, MemoryTransport, Person

from flask_accountflow import AccountFlow, UserMixin
from flask_accountflow.web.templates import FOLDER

EMAIL = "ada@example.com"
Change = Callable[[Flask], None]


class Host:
    """An app of somebody else, who changes it before and after it gets accounts."""

    def __init__(self, folder: Path, before: Change | None = None, after: Change | None = None, **config: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder / "templates"
        self.app = Flask(__name__, root_path=str(folder))
        self.app.config.update(CONFIG, SQLALCHEMY_DATABASE_URI=f"sqlite:///{folder / 'host.db'}", **config)
        self.db = db = SQLAlchemy(self.app)
        self.transport = MemoryTransport()

        class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
            __tablename__ = "users"

        if before is not None:
            before(self.app)
        AccountFlow(self.app, db, User, transport=self.transport)
        if after is not None:
            after(self.app)
        with self.app.app_context():
            db.create_all()

    def write(self, name: str, text: str) -> None:
        """Write a template into the app's folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def get(self, path: str) -> Any:
        """Open a page."""
        return self.app.test_client().get(path, headers=Person.headers)

    def mail(self, email: str = EMAIL) -> Any:
        """Sign somebody up, and return the letter."""
        self.app.test_client().post("/auth/signup", json={"email": email, "password": PASSWORD})
        return self.transport.letters[-1]

    def render(self, name: str) -> str:
        """Render a template of any name."""
        with self.app.test_request_context():
            return render_template(name, site_name="Shop", support_url=None, support_email=None, email=EMAIL)


MakeHost = Callable[..., Host]


@pytest.fixture
def make_host(tmp_path: Path) -> Iterator[MakeHost]:
    """Return a function that makes hosts."""
    made: list[Host] = []

    def make(before: Change | None = None, after: Change | None = None, **config: Any) -> Host:
        made.append(Host(tmp_path / f"host-{len(made)}", before, after, **config))
        return made[-1]

    yield make
    for host in made:
        with host.app.app_context():
            host.db.engine.dispose()


def changed(name: str, block: str = "heading") -> str:
    """Return a template that changes one block of ours, and says so."""
    return f'{{% extends "accountflow/default/{name}" %}}{{% block {block} %}}Changed{{% endblock %}}'


LOGIN = {"accountflow/login.html": changed("login.html")}


# One block of ours is changed, and the rest stays.


def test_DX_08_one_block_of_a_page_is_changed(make_host: MakeHost) -> None:
    """A page of the app's that extends ours of the same name changes one block, and has all others."""
    host = make_host()
    host.write("accountflow/login.html", changed("login.html"))

    page = host.get("/auth/login")

    assert heading(page) == "Changed"
    assert "Forgot your password?" in words(page)
    assert heading(host.get("/auth/signup")) == "Create your account"


def test_the_frame_of_all_pages_is_extended(make_host: MakeHost) -> None:
    """A block that the app changes in the frame is changed on every page of ours."""
    host = make_host()
    host.write("accountflow/base.html", changed("base.html", "brand"))

    for path, title in (("/auth/login", "Log in"), ("/auth/signup", "Create your account")):
        page = host.get(path)
        assert (heading(page), "Changed" in words(page)) == (title, True)


def test_one_block_of_a_mail_is_changed(make_host: MakeHost) -> None:
    """Both parts of a mail, and its subject, are changed alike."""
    host = make_host()
    for ending in ("html", "txt"):
        host.write(f"accountflow/mail/verify.{ending}", changed(f"mail/verify.{ending}"))
    host.write(
        "accountflow/mail/verify.subject.txt", 'New: {% include "accountflow/default/mail/verify.subject.txt" %}'
    )

    letter = host.mail()

    assert letter.subject == "New: Confirm your email for Shop"
    assert letter.text.startswith("Changed\n")
    assert letter.link in letter.text
    assert ">Changed</h1>" in letter.html
    assert letter.link in letter.html


def test_the_macros_can_be_imported(make_host: MakeHost) -> None:
    """A page of the app's imports our macros by either name, and with it the app's own in their place."""
    host = make_host()
    own = '{{% import "accountflow/{}_macros.html" as af %}}{{{{ af.button("Go") }}}}'
    host.write("one.html", own.format("default/"))
    host.write("two.html", own.format(""))
    before = host.render("one.html"), host.render("two.html")

    other = make_host()
    other.write("one.html", own.format("default/"))
    other.write("two.html", own.format(""))
    other.write("accountflow/_macros.html", "{% macro button(text) %}<b>{{ text }}</b>{% endmacro %}")

    assert before == ('<button class="af-button af-primary" type="submit">Go</button>',) * 2
    assert (other.render("one.html"), other.render("two.html")) == (before[0], "<b>Go</b>")


# However the app finds its templates.


def _dict(app: Flask) -> None:
    app.jinja_loader = jinja2.DictLoader(LOGIN)


def _blueprint(app: Flask) -> None:
    folder = Path(app.root_path) / "shop"
    (folder / "accountflow").mkdir(parents=True)
    (folder / "accountflow/login.html").write_text(LOGIN["accountflow/login.html"])
    app.register_blueprint(Blueprint("shop", __name__, template_folder=str(folder)))


def _functions(app: Flask) -> None:
    app.jinja_loader = jinja2.FunctionLoader(LOGIN.get)  # type: ignore[assignment]


def _options(app: Flask) -> None:
    app.jinja_options = {"loader": jinja2.DictLoader(LOGIN)}


def _environment(app: Flask) -> None:
    app.jinja_env.loader = jinja2.ChoiceLoader([jinja2.DictLoader(LOGIN), app.jinja_env.loader])  # type: ignore[list-item]


def _whole_environment(app: Flask) -> None:
    app.jinja_env.loader = jinja2.DictLoader(LOGIN)


def _compiled(app: Flask) -> None:
    target = Path(app.root_path) / "compiled"
    jinja2.Environment(loader=jinja2.DictLoader(LOGIN)).compile_templates(target, zip=None)
    app.jinja_env.loader = jinja2.ModuleLoader(target)


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize(
    "change", [_dict, _functions, _blueprint, _environment], ids=lambda change: change.__name__[1:]
)
def test_however_the_app_finds_its_templates(make_host: MakeHost, change: Change, order: str) -> None:
    """The app's page is shown whether it comes from a loader or a blueprint, set up before us or after."""
    host = make_host(**{order: change})

    page = host.get("/auth/login")

    assert heading(page) == "Changed"
    assert "Forgot your password?" in words(page)


@pytest.mark.parametrize("change", [_options, _whole_environment, _compiled], ids=lambda change: change.__name__[1:])
def test_an_app_that_replaced_every_loader(make_host: MakeHost, change: Change) -> None:
    """An app without Flask's own loader has its pages and ours, too."""
    host = make_host(change)

    assert heading(host.get("/auth/login")) == "Changed"
    assert heading(host.get("/auth/signup")) == "Create your account"
    assert host.mail().subject == "Confirm your email for Shop"


def test_two_apps_have_templates_of_their_own(make_host: MakeHost) -> None:
    """What one app changes is not changed in another app of the process."""
    one, two = make_host(), make_host()
    one.write("accountflow/login.html", changed("login.html"))

    assert [heading(host.get("/auth/login")) for host in (one, two, one)] == ["Changed", "Log in", "Changed"]


def test_a_page_that_appears_while_the_app_runs(make_host: MakeHost) -> None:
    """With TEMPLATES_AUTO_RELOAD a page that is put in the place of ours, changed, or taken away is seen at once."""
    host = make_host(TEMPLATES_AUTO_RELOAD=True)
    seen = [heading(host.get("/auth/login"))]

    host.write("accountflow/login.html", changed("login.html"))
    seen.append(heading(host.get("/auth/login")))
    host.write("accountflow/login.html", changed("login.html").replace("Changed", "Again"))
    os.utime(host.folder / "accountflow/login.html", (1, 1))
    seen.append(heading(host.get("/auth/login")))
    (host.folder / "accountflow/login.html").unlink()
    seen.append(heading(host.get("/auth/login")))

    assert seen == ["Log in", "Changed", "Again", "Log in"]


class _Counting(flask.templating.Environment):
    """Notes what it compiles."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.compiled: list[str | None] = []

    def compile(self, source: Any, name: str | None = None, *rest: Any, **options: Any) -> Any:
        self.compiled.append(name)
        return super().compile(source, name, *rest, **options)


def _counting(app: Flask) -> None:
    app.jinja_environment = _Counting


def test_threads_that_want_a_template_at_once_have_it_compiled_once(make_host: MakeHost) -> None:
    """Six threads that ask for the same template of ours at the same moment get it, and one of them compiled it."""
    environment = make_host(before=_counting).app.jinja_env
    assert isinstance(environment, _Counting)
    ready = threading.Barrier(6)

    def ask(_: int) -> str | None:
        ready.wait(10)
        return environment.get_template("accountflow/_macros.html").name

    with ThreadPoolExecutor(6) as threads:
        asked = list(threads.map(ask, range(6)))

    assert asked == ["accountflow/_macros.html"] * 6
    assert environment.compiled == ["accountflow/_macros.html"]


def test_the_login_page_compiles_no_more_than_it_shows(make_host: MakeHost) -> None:
    """What only other pages need is in files that only they import: a template takes memory when it is compiled."""
    host = make_host(before=_counting)
    environment = host.app.jinja_env
    assert isinstance(environment, _Counting)

    host.get("/auth/login")

    assert environment.compiled == [f"accountflow/{name}.html" for name in ("login", "base", "_macros")]


def test_an_overlay_of_the_environment_has_templates_of_its_own(make_host: MakeHost) -> None:
    """What is compiled for the app's environment is not taken for one with other options."""
    environment = make_host().app.jinja_env
    name = "accountflow/mail/verify.subject.txt"
    usual = environment.get_template(name)
    other = environment.overlay(finalize=lambda value: "?").get_template(name)

    words = {"_": lambda text, **values: text % values, "site_name": "Shop"}
    assert "?" not in usual.render(words)
    assert "?" in other.render(words)


def test_every_template_is_listed_once(make_host: MakeHost) -> None:
    """The names of all templates are those of the app and ours."""
    host = make_host()
    host.write("accountflow/login.html", changed("login.html"))
    host.write("shop.html", "")

    names = host.app.jinja_env.list_templates()

    assert {"shop.html", "accountflow/login.html", "accountflow/mail/verify.txt"} <= set(names)
    assert len(names) == len(set(names))


# Names that lead astray.


def test_default_is_always_ours(make_host: MakeHost) -> None:
    """What the app has below accountflow/default is never used, so that ours can always be extended."""
    host = make_host()
    host.write("accountflow/default/login.html", "theirs")
    host.write("accountflow/login.html", changed("login.html"))

    page = host.get("/auth/login")

    assert (heading(page), "theirs" in page.text) == ("Changed", False)


@pytest.mark.parametrize(
    "name",
    [
        "accountflow/default/../../x.html",
        "accountflow/default/../../../settings.py",
        "accountflow/default/..\\..\\..\\settings.py",
        "accountflow/default//etc/hostname",
        "accountflow/default/",
        "accountflow/default/mail",
        "accountflow/default/default/login.html",
        "accountflow/default/nothing.html",
        "accountflow/../../settings.py",
    ],
)
def test_no_other_file_can_be_read(make_host: MakeHost, name: str) -> None:
    """No name leads out of the folder of our templates, and the error names no folder."""
    host = make_host()
    host.write("x.html", "secret")

    with pytest.raises(jinja2.TemplateNotFound) as raised:
        host.render(name)

    assert str(FOLDER) not in str(raised.value)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("login.html", '{% block heading %}{% endblock %}\n{% extends "accountflow/login.html" %}'),
        ("base.html", '\n{%- extends "accountflow/base.html" %}'),
        ("_macros.html", '\n{% import "accountflow/_macros.html" as af %}'),
        ("_macros.html", '\n{% from "accountflow/_macros.html" import button %}'),
    ],
)
def test_a_template_that_extends_itself_is_told_what_to_write(make_host: MakeHost, file: str, text: str) -> None:
    """A template that is built on itself ends with its line and the name to write, not with a RecursionError."""
    host = make_host()
    host.write(f"accountflow/{file}", text)

    with pytest.raises(jinja2.TemplateSyntaxError) as raised:
        host.get("/auth/login")

    assert raised.value.message == (
        f'"accountflow/{file}" asks for itself. For the one that it replaces, write "accountflow/default/{file}".'
    )
    assert (raised.value.lineno, raised.value.filename) == (2, str(host.folder / "accountflow" / file))


def test_names_that_are_computed_are_left_alone(make_host: MakeHost) -> None:
    """A template of the app's may choose what it extends while it runs."""
    host = make_host()
    text = changed("login.html").replace('"accountflow/default/login.html"', '"accountflow/default/" ~ "login.html"')
    host.write("accountflow/login.html", text)

    assert heading(host.get("/auth/login")) == "Changed"


# Apps that write their templates otherwise.

_SIGNS: Mapping[str, Any] = {
    "block_start_string": "<%",
    "block_end_string": "%>",
    "variable_start_string": "[[",
    "variable_end_string": "]]",
    "comment_start_string": "<#",
    "comment_end_string": "#>",
    "line_statement_prefix": "#",
}


def _signs(app: Flask) -> None:
    app.jinja_options = dict(_SIGNS)


def test_an_app_with_other_signs(make_host: MakeHost) -> None:
    """Where an app writes [[ ]] and <% %>, as beside Vue, ours are as ever, and its own extend them."""
    host = make_host(_signs)
    host.write(
        "accountflow/login.html",
        '<% extends "accountflow/default/login.html" %><% block heading %>[[ 6 * 7 ]]<% endblock %>',
    )

    assert heading(host.get("/auth/login")) == "42"
    assert "{{" not in host.get("/auth/signup").text
    assert host.mail().subject == "Confirm your email for Shop"


@pytest.mark.parametrize(
    "options",
    [
        {"trim_blocks": True, "lstrip_blocks": True},
        {"keep_trailing_newline": True},
        {"newline_sequence": "\r\n"},
        _SIGNS,
    ],
    ids=["trimmed", "kept", "crlf", "signs"],
)
def test_no_option_changes_a_mail(make_host: MakeHost, options: dict[str, Any]) -> None:
    """However an app has Jinja treat white space, our mails have the same lines."""

    def change(app: Flask) -> None:
        app.jinja_options = dict(options)

    usual, other = make_host().mail(), make_host(change).mail()

    assert other.text.replace(other.link, "LINK") == usual.text.replace(usual.link, "LINK")
    assert other.html.replace(other.link, "LINK") == usual.html.replace(usual.link, "LINK")


@pytest.mark.parametrize("chosen", [False, True, lambda name: False])
def test_no_option_changes_what_is_escaped(make_host: MakeHost, chosen: Any) -> None:
    """Our pages escape what people typed and our text does not, whatever the app has chosen for its own."""

    def change(app: Flask) -> None:
        app.jinja_options = {"autoescape": chosen}

    host = make_host(change, ACCOUNTFLOW_SITE_NAME="<Shop & Co>")
    host.write("own.html", "{{ '<b>' }}")

    page, letter = host.get("/auth/login"), host.mail()

    assert "&lt;Shop &amp; Co&gt;" in page.text
    assert "<Shop & Co>" not in page.text
    assert 'class="af-button af-primary"' in page.text
    assert letter.subject == "Confirm your email for <Shop & Co>"
    assert "<Shop & Co>" in letter.text
    assert "<Shop & Co>" not in letter.html
    assert host.render("own.html") == ("&lt;b&gt;" if chosen is True else "<b>")


def test_an_app_that_forbids_undefined_names(make_host: MakeHost) -> None:
    """With StrictUndefined our pages and mails lack no name."""

    def change(app: Flask) -> None:
        app.jinja_options = {"undefined": jinja2.StrictUndefined}

    host = make_host(change)
    person = host.app.test_client()
    link = host.mail().link.removeprefix("https://www.example.com")
    paths = [
        "login",
        "signup",
        "signup/sent",
        "verify/resend",
        "verify/done",
        "password-reset/request",
        "password-reset/sent",
    ]

    for path in [*(f"/auth/{path}" for path in paths), link]:
        assert person.get(path, headers=Person.headers).status_code == 200, path
    assert person.get("/auth/nothing", headers=Person.headers).status_code == 404
    assert person.post("/auth/login", data={}, headers=Person.headers).status_code == 403
