"""The mails' HTML templates: what their MJML sources compile to, and nothing else."""

from __future__ import annotations

import re
import shutil
from datetime import datetime, timezone
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import DictLoader, Environment
from support import Site

from flask_accountflow.languages import Language
from flask_accountflow.web.words import vocabulary
from tools import build_mails

FOLDER = build_mails.MAILS
NAMES = sorted(path.name.removesuffix(".subject.txt") for path in FOLDER.glob("*.subject.txt"))

LINK = "https://shop.example/auth/verify/" + "a.b-_" * 25 + "abc"
MOMENT = datetime(2026, 11, 22, 8, 30, tzinfo=timezone.utc)
CONTEXT = {
    **vocabulary(Language("ar")),
    "site_name": "Shop",
    "support_email": "help@shop.example",
    "email": "ada@example.com",
    "link": LINK,
    "expires_at": MOMENT,
    "happened_at": MOMENT,
    "life_text": "24 hours",
    "login_url": "https://shop.example/auth/login",
    "reset_request_url": "https://shop.example/auth/password-reset/request",
    "signup_url": "https://shop.example/auth/signup",
    "new_email": "a•••@e•••.com",
    "failures": 12,
}

_VOID = {"br", "hr", "meta"}


class _Page(HTMLParser):
    """What a mail program finds in a mail."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: set[str] = set()
        self.html: dict[str, str | None] = {}
        self.buttons: list[str | None] = []
        self.links: list[str | None] = []
        self.parent_of: dict[str | None, str] = {}
        self._open: list[str] = []
        self._in_button = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.names |= given.keys()
        if "id" in given:
            self.parent_of[given["id"]] = self._open[-1]
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "html":
            self.html = given
        if given.get("class") == "af-button":
            self._in_button = True
        if tag == "a":
            (self.buttons if self._in_button else self.links).append(given["href"])
            self._in_button = False

    def handle_endtag(self, tag: str) -> None:
        assert tag in _VOID or self._open.pop() == tag


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the folder, to be changed."""
    return Path(shutil.copytree(FOLDER, tmp_path / "mail"))


@pytest.fixture
def environment(site: Site) -> Environment:
    """What renders mails."""
    found: Environment = site.app.jinja_env
    return found


def render(environment: Environment, name: str) -> str:
    """Return the HTML part of a mail."""
    return environment.get_template(name).render(CONTEXT)


def change(path: Path, old: str, new: str) -> None:
    """Change a file, as somebody with an editor does."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_every_template_is_what_its_source_compiles_to(capsys: pytest.CaptureFixture[str]) -> None:
    """The built templates are up to date."""
    assert build_mails.main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_every_mail_has_one_source() -> None:
    """A mail has one source, one HTML template, one text and one subject; a template without a source is none."""
    parts = {"base", "_button"}

    assert NAMES
    assert {path.stem for path in FOLDER.glob("*.mjml")} == {*NAMES, *parts}
    assert {path.stem for path in FOLDER.glob("*.html")} == {*NAMES, *parts}
    assert {path.stem for path in FOLDER.glob("*.txt")} == {"base", *NAMES, *(f"{name}.subject" for name in NAMES)}


def test_a_template_says_what_it_is_built_from() -> None:
    """A built template begins with the name of its source, and with what builds it."""
    for path in FOLDER.glob("*.html"):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        assert first.startswith(f"{{# Built from {path.stem}.mjml by tools/build_mails.py")


def test_a_changed_source_is_found(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a change of a source the check names its template, until that is built again."""
    change(copy / "verify.mjml", "You signed up", "You have signed up")

    assert build_mails.main(["--check", str(copy)]) == 1
    assert capsys.readouterr().out.startswith("verify.html is not what verify.mjml compiles to.")
    assert build_mails.main([str(copy)]) == 0
    assert build_mails.main(["--check", str(copy)]) == 0
    assert "You have signed up" in (copy / "verify.html").read_text(encoding="utf-8")


def test_a_changed_style_is_found_everywhere(copy: Path) -> None:
    """The styles of the frame are in all mails, so a change of them changes all."""
    change(copy / "base.mjml", 'line-height="1.5"', 'line-height="1.6"')

    assert {path.stem for path in build_mails.find_differences(copy)} == {"base", *NAMES}


def test_a_template_changed_by_hand_is_found(copy: Path) -> None:
    """A template that somebody has edited, removed or added by hand is found."""
    change(copy / "reset.html", "You asked", "Somebody asked")
    (copy / "test.html").unlink()
    (copy / "welcome.html").write_text("<p>Welcome</p>", encoding="utf-8")

    assert [path.name for path in build_mails.find_differences(copy)] == ["reset.html", "test.html", "welcome.html"]


@pytest.mark.parametrize(
    "wrong",
    [
        "<mj-column><mj-text>You</mj-column>",
        "<mj-column><mj-txt>You</mj-txt></mj-column>",
        "<mj-text>You</mj-text>",
        "<mj-column><mj-text>{% if 1 < 2 %}You{% endif %}</mj-text></mj-column>",
    ],
    ids=["not closed", "unknown", "not in a column", "less than"],
)
def test_a_source_that_is_no_mjml_is_refused(copy: Path, capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    """A source that the compiler cannot read, or would pass on as it is, is named and nothing is written."""
    change(copy / "verify.mjml", "{% block lead %}", "{% block lead %}" + wrong)

    assert build_mails.main([str(copy)]) == 1
    assert capsys.readouterr().out.startswith("verify.mjml: ")
    assert (copy / "verify.html").read_bytes() == (FOLDER / "verify.html").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_built_mail(environment: Environment, name: str) -> None:
    """A mail loads nothing, is small in short lines, and has a language, one heading and at most one button."""
    html = render(environment, f"accountflow/mail/{name}.html")

    page = _Page(html)
    assert page.html.items() >= {"lang": "ar", "dir": "rtl"}.items()
    assert page.tags.count("h1") == 1
    assert page.tags.count("title") == 1
    assert not {"link", "img", "script", "iframe", "form", "svg", "video"} & set(page.tags)
    assert not {"src", "srcset", "background"} & page.names
    assert not re.search(r"url\(|@import|@font-face|googleapis", html)
    assert "prefers-color-scheme: dark" in html
    assert not re.search(r"mj-(?!outlook-group-fix|column-per-100)|\{[{%#]", html)
    assert len(html.encode()) < 15_000
    assert max(map(len, html.encode().splitlines())) < 998
    # What the button leads to is written out below it.
    wanted = 1 if "set action_url" in (FOLDER / f"{name}.mjml").read_text(encoding="utf-8") else 0
    assert len(page.buttons) == wanted
    assert set(page.buttons) <= set(page.links)


@pytest.mark.parametrize("block", ["brand", "lead", "action", "fallback_url", "note", "signature"])
def test_a_host_changes_one_block(site: Site, block: str) -> None:
    """A template of the host replaces one block of a mail with a paragraph, which stands where paragraphs may."""
    own = f'{{% block {block} %}}<p id="own">Hello</p>{{% endblock %}}'
    extends = '{% extends "accountflow/default/mail/verify.html" %}'
    site.app.jinja_loader = DictLoader({"accountflow/mail/verify.html": extends + own})

    html = render(site.app.jinja_env, "accountflow/mail/verify.html")

    assert html.count('<p id="own">Hello</p>') == 1
    assert _Page(html).parent_of["own"] == "div"


def test_a_host_changes_the_frame(site: Site) -> None:
    """A frame of the host is that of all our mails."""
    extends = '{% extends "accountflow/default/mail/base.html" %}'
    site.app.jinja_loader = DictLoader({"accountflow/mail/base.html": extends + "{% block brand %}OWN{% endblock %}"})

    for name in NAMES:
        assert ">OWN</div>" in render(site.app.jinja_env, f"accountflow/mail/{name}.html")
