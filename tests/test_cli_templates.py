"""The command that copies templates into the app."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest
from support import PASSWORD, Person, Site

from flask_accountflow.web.templates import FOLDER

OURS = FOLDER / "accountflow"
MakeSite = Callable[..., Site]


@pytest.fixture
def site(site: Site, tmp_path: Path) -> Site:
    """A site with a folder of its own, in which templates may be written."""
    site.app.root_path = str(tmp_path)
    return site


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the templates of the site stand in the place of ours."""
    return tmp_path / "templates/accountflow"


def run(site: Site, *words: str | Path) -> Any:
    """Run ``flask accountflow copy-templates …``."""
    result = site.app.test_cli_runner().invoke(args=["accountflow", "copy-templates", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


def files(folder: Path) -> set[str]:
    """Return the files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def page(site: Site, path: str = "/auth/login") -> str:
    """Return a page of the site as its templates are now, without its token."""
    site.app.jinja_env.cache.clear()
    text = site.app.test_client().get(path, headers=Person.headers).text
    return re.sub(r'name="csrf_token" value="\w+"', "", text)


def test_a_page_is_copied(site: Site, folder: Path) -> None:
    """A page is copied by its name, the command says where, and what is changed there is shown."""
    before = page(site)

    result = run(site, "login")

    copy = folder / "login.html"
    assert (result.exit_code, result.output) == (0, f"Wrote {copy}\n")
    assert copy.read_bytes() == (OURS / "login.html").read_bytes()
    copy.write_text(copy.read_text().replace("Forgot your", "Lost your"))
    assert ("Lost your" in before, "Lost your" in page(site)) == (False, True)


def test_a_mail_is_copied_with_all_its_parts(site: Site, folder: Path) -> None:
    """Of a mail both parts and the subject are copied, as they are built, without the way in which we build them."""
    result = run(site, "mail/verify")

    assert result.exit_code == 0
    assert files(folder) == {"mail/verify.html", "mail/verify.txt", "mail/verify.subject.txt"}
    assert "mjml" not in (folder / "mail/verify.html").read_text()
    assert (folder / "mail/verify.html").read_text().startswith("{#\n  Confirm an address")
    site.program().signup("ada@example.com")
    assert site.letters[-1].link in site.letters[-1].html


def test_every_template_is_copied_unless_some_are_named(site: Site, folder: Path) -> None:
    """Without a name all templates are copied, but those of development, and the site is as it was."""
    before = page(site), page(site, "/auth/signup")

    result = run(site)

    ours = {name for name in files(OURS) if not name.endswith(".mjml") and not name.startswith("dev_")}
    assert result.exit_code == 0
    assert files(folder) == ours
    assert len(result.output.splitlines()) == len(ours)
    assert (page(site), page(site, "/auth/signup")) == before


@pytest.mark.parametrize("name", ["login.html", "accountflow/login", "accountflow/login.html"])
def test_a_template_goes_by_the_name_of_its_file_too(site: Site, folder: Path, name: str) -> None:
    """A template may be named as a file, and twice: it is copied once."""
    result = run(site, name, "login")

    assert result.output == f"Wrote {folder / 'login.html'}\n"


@pytest.mark.parametrize(
    ("name", "near"),
    [("lgoin", "login"), ("verfy", "verify"), ("mail/verfy", "mail/verify"), ("../login", "login"), ("dev_mail", "")],
)
def test_an_unknown_name_is_answered_with_the_nearest(site: Site, folder: Path, name: str, near: str) -> None:
    """A name that there is not ends the command with the one that is meant, and nothing is written."""
    result = run(site, "signup", name)

    assert result.exit_code == 2
    assert f"There is no template {name}. Did you mean {near}" in " ".join(result.output.split())
    assert not folder.exists()


def test_nothing_is_overwritten(site: Site, folder: Path) -> None:
    """A file that is there stays, the others are written, and the command says so and ends with 1."""
    folder.mkdir(parents=True)
    (folder / "login.html").write_text("mine")

    result = run(site, "login", "logout")

    assert result.exit_code == 1
    assert result.output.splitlines() == [
        f"There already: {folder / 'login.html'}. Give --force to overwrite it.",
        f"Wrote {folder / 'logout.html'}",
    ]
    assert (folder / "login.html").read_text() == "mine"


def test_force_overwrites(site: Site, folder: Path) -> None:
    """With ``--force`` ours is written over what is there."""
    folder.mkdir(parents=True)
    (folder / "login.html").write_text("mine")

    result = run(site, "login", "--force")

    assert (result.exit_code, result.output) == (0, f"Wrote {folder / 'login.html'}\n")
    assert (folder / "login.html").read_bytes() == (OURS / "login.html").read_bytes()


def test_another_folder_is_written(site: Site, tmp_path: Path) -> None:
    """``--to`` names another folder, which is made; that the app does not look there is said."""
    result = run(site, "login", "--to", tmp_path / "a/b")

    assert result.exit_code == 0
    assert result.output.splitlines() == [
        f"Wrote {tmp_path / 'a/b/accountflow/login.html'}",
        f"hint: The app takes its templates from elsewhere. Let it look in {tmp_path / 'a/b'} first.",
    ]


def test_an_app_that_does_not_look_in_its_folder(site: Site, folder: Path) -> None:
    """An app whose templates come from elsewhere is told that what was written is not shown."""
    site.app.jinja_loader = jinja2.DictLoader({"accountflow/login.html": "from elsewhere"})

    result = run(site, "login")

    assert result.output.splitlines()[0] == f"Wrote {folder / 'login.html'}"
    assert result.output.splitlines()[1].startswith("hint: The app takes its templates from elsewhere.")


def test_an_app_without_a_template_folder(site: Site, tmp_path: Path) -> None:
    """An app that has no template folder is asked for one."""
    site.app.template_folder = None

    refused, done = run(site, "login"), run(site, "login", "--to", tmp_path / "there")

    assert (refused.exit_code, done.exit_code) == (2, 0)
    assert "This app has no template folder. Name one with --to." in refused.output


def test_a_folder_that_cannot_be_written(site: Site, tmp_path: Path) -> None:
    """Where nothing can be written the command says so in a sentence."""
    (tmp_path / "file").write_text("mine")

    result = run(site, "login", "--to", tmp_path / "file/below")

    assert result.exit_code == 1
    assert "cannot be written: Not a directory." in result.output


def test_a_small_file_extends_ours(site: Site, folder: Path) -> None:
    """``--extend`` writes a file that extends ours and lists its blocks; the page stays as it is until one is there."""
    before = page(site)

    result = run(site, "login", "--extend")

    text = (folder / "login.html").read_text()
    assert result.exit_code == 0
    assert text.endswith('\n-#}\n{% extends "accountflow/default/login.html" %}\n')
    assert "Blocks: heading, form, after_form, lang, dir," in text
    assert page(site) == before
    (folder / "login.html").write_text(text + "{% block heading %}Enter{% endblock %}")
    assert ">Enter</h1>" in page(site)


def test_a_mail_is_extended_in_both_parts(site: Site, folder: Path) -> None:
    """Of a mail both parts are extended; the subject, which has no block, is named."""
    result = run(site, "mail/verify", "--extend")

    assert result.exit_code == 0
    assert files(folder) == {"mail/verify.html", "mail/verify.txt"}
    assert result.output.splitlines()[0] == "mail/verify.subject.txt has no block to change. Copy it whole."
    site.program().signup("ada@example.com", PASSWORD)
    assert site.letters[-1].text.startswith("Confirm your email\n")
    assert site.letters[-1].link in site.letters[-1].html


def test_what_has_no_block_cannot_be_extended(site: Site, folder: Path) -> None:
    """Where nothing can be extended nothing is written, and the command ends with 1."""
    result = run(site, "_macros", "--extend")

    assert (result.exit_code, result.output) == (1, "_macros.html has no block to change. Copy it whole.\n")
    assert not folder.exists()


def test_all_templates_can_be_extended(site: Site, folder: Path) -> None:
    """Every template with blocks is extended at once, and the site is as it was."""
    before = page(site), page(site, "/auth/signup")

    assert run(site, "--extend").exit_code == 0

    assert (page(site), page(site, "/auth/signup")) == before
    assert {"base.html", "mail/base.txt", "account.html"} <= files(folder)


def test_it_is_extended_in_the_signs_of_the_app(site: Site, folder: Path) -> None:
    """Where an app writes its templates in other signs, so is the file that extends ours."""
    for sign, text in {"block_start_string": "<%", "block_end_string": "%>", "comment_start_string": "<#"}.items():
        setattr(site.app.jinja_env, sign, text)

    run(site, "login", "--extend")

    text = (folder / "login.html").read_text()
    assert text.startswith("<#\n")
    assert text.endswith('<% extends "accountflow/default/login.html" %>\n')


def test_it_needs_no_tables(site: Site) -> None:
    """Nothing is asked of the database."""
    with site.app.app_context():
        site.db.drop_all()

    with site.statements() as seen:
        result = run(site, "login")

    assert (result.exit_code, seen) == (0, [])
