"""``flask accountflow preview-mails``: every mail in every language, as files to look at and to compare."""

from __future__ import annotations

import re
from collections.abc import Callable
from email import message_from_bytes
from email.policy import default
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jinja2 import DictLoader
from support import Site

from flask_accountflow.languages import LANGUAGES
from flask_accountflow.web.previews import ADDRESS

MakeSite = Callable[..., Site]
#: What has no end tag (HTML Living Standard, section 13.1.2), of what the index uses.
_VOID = {"link", "meta"}


def run(site: Site, folder: Path, *options: str) -> Any:
    """Run the command. Whatever comes of it, it ends with an exit code and not with a traceback."""
    result = site.app.test_cli_runner().invoke(args=["accountflow", "preview-mails", str(folder), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


def names(site: Site) -> list[str]:
    """Return the names of all mails."""
    found: list[str] = site.app.extensions["accountflow_previews"].names()
    return found


def files(folder: Path) -> dict[str, bytes]:
    """Return what is in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class _Index(HTMLParser):
    """The index as a browser reads it; elements that are not closed in order are a failure."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.frames: list[dict[str, str | None]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [str(given["id"])] if "id" in given else []
        self.addresses += [str(given[name]) for name in ("href", "src") if name in given]
        self.frames += [given] if tag == "iframe" else []
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def test_DX_07_every_mail_becomes_files(site: Site, tmp_path: Path) -> None:
    """Every mail is written in every language as HTML, as text and as a message, in a folder that is made for it."""
    folder = tmp_path / "some/mails"

    result = run(site, folder)

    count = len(names(site)) * len(LANGUAGES)
    assert result.exit_code == 0
    assert result.output == f"{count} of {count} mails are in order. See {folder / 'index.html'}.\n"
    assert files(folder).keys() == {
        "index.html",
        *(f"{name}.{tag}.{end}" for name in names(site) for tag in LANGUAGES for end in ("html", "txt", "eml")),
    }
    for name in names(site):
        message: Any = message_from_bytes((folder / f"{name}.de.eml").read_bytes(), policy=default)
        text, html = message.iter_parts()
        assert (message["To"], message["Content-Language"]) == (ADDRESS, "de")
        assert text.get_content().splitlines() == (folder / f"{name}.de.txt").read_text("utf-8").splitlines()
        assert html.get_content().splitlines() == (folder / f"{name}.de.html").read_text("utf-8").splitlines()


def test_the_index_shows_every_mail(site: Site, tmp_path: Path) -> None:
    """The index is whole HTML that shows each mail by day and by night, with its subject, sender and size."""
    run(site, tmp_path)
    text = (tmp_path / "index.html").read_text("utf-8")

    index = _Index(text)
    size = (tmp_path / "verify.en.eml").stat().st_size
    assert text.startswith("<!doctype html>\n<html lang=")
    assert index.ids == names(site)
    assert '<h3 lang="en">Confirm your email for Shop</h3>' in text
    assert f"en · from Shop &lt;accounts@example.com&gt; · {size} bytes" in text
    assert [frame["src"] for frame in index.frames] == [
        f"{name}.{tag}.html" for name in names(site) for tag in LANGUAGES for _ in ("light", "dark")
    ]
    assert {frame["class"] for frame in index.frames} == {"light", "dark"}
    assert all("sandbox" in frame and frame["sandbox"] is None and frame["title"] for frame in index.frames)


def test_the_index_loads_nothing_from_elsewhere(site: Site, tmp_path: Path) -> None:
    """Every address in the index is one of the files, or a place in it, so that it works from a disk."""
    run(site, tmp_path)

    text = (tmp_path / "index.html").read_text("utf-8")
    assert "url(" not in text
    assert "@import" not in text
    for address in _Index(text).addresses:
        assert address == "data:," or address.removeprefix("#") in names(site) or (tmp_path / address).is_file()


def test_two_runs_write_the_same(site: Site, tmp_path: Path) -> None:
    """Two runs write the same to the last byte, whatever the time, so that they can be compared."""
    run(site, tmp_path)
    first = files(tmp_path)
    site.clock.tick(100_000)

    run(site, tmp_path)

    assert files(tmp_path) == first


def test_other_files_stay(site: Site, tmp_path: Path) -> None:
    """Files of an earlier run are replaced; whatever else is in the folder stays as it is."""
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "verify.en.html").write_text("of an earlier run")

    run(site, tmp_path)

    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert "Confirm your email" in (tmp_path / "verify.en.html").read_text("utf-8")


def test_it_works_without_tables(site: Site, tmp_path: Path) -> None:
    """Nothing is asked of the database, and nothing is sent."""
    with site.app.app_context():
        site.db.drop_all()

    with site.statements() as seen:
        result = run(site, tmp_path)

    assert (result.exit_code, seen, site.letters) == (0, [], [])


def test_it_works_in_production(make_site: MakeSite, tmp_path: Path) -> None:
    """It works outside debug, too: nothing is served."""
    site = make_site({"TESTING": False, "ACCOUNTFLOW_ALLOW_INSECURE": True, "ACCOUNTFLOW_SITE_NAME": "Bücher & Co"})

    assert run(site, tmp_path).exit_code == 0

    assert "<h1>Every mail of Bücher &amp; Co</h1>" in (tmp_path / "index.html").read_text("utf-8")


def test_it_can_be_narrowed_down(site: Site, tmp_path: Path) -> None:
    """``--mail`` and ``--locale`` choose, and may be given more than once."""
    options = ("--mail", "reset", "--mail", "verify", "--locale", "fr", "--locale", "en", "--mail", "reset")

    result = run(site, tmp_path, *options)

    assert result.output.startswith("4 of 4 mails are in order.")
    assert sorted(path.stem for path in tmp_path.glob("*.eml")) == ["reset.en", "reset.fr", "verify.en", "verify.fr"]
    assert _Index((tmp_path / "index.html").read_text("utf-8")).ids == ["reset", "verify"]


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (("--mail", "verfy"), "There is no mail verfy. There are already_registered, "),
        (("--locale", "xx"), "'xx' is not one of 'en'"),
    ],
)
def test_what_there_is_not_is_refused(site: Site, tmp_path: Path, options: tuple[str, str], hint: str) -> None:
    """A mail or a language that there is not ends the command with those that there are, and nothing is written."""
    result = run(site, tmp_path / "new", *options)

    assert result.exit_code == 2
    assert hint in " ".join(result.output.split())
    assert not (tmp_path / "new").exists()


def test_F26_a_broken_mail_does_not_keep_the_others(site: Site, tmp_path: Path) -> None:
    """A mail that cannot be rendered is named with its error, the others are written, and the command ends with 1."""
    site.app.jinja_loader = DictLoader(
        {
            "accountflow/mail/verify.txt": "{{ 1 / 0 }}",
            "accountflow/mail/reset.txt": "Hello",
            "accountflow/mail/test.txt": "{% if lang == 'es' %}{{ nobody.name }}{% endif %}Hello",
        }
    )

    result = run(site, tmp_path)

    *faults, summary = result.output.splitlines()
    count = len(names(site)) * len(LANGUAGES)
    assert result.exit_code == 1
    assert faults == [
        *(f"fault: The mail reset in {tag}: its text lacks the link." for tag in LANGUAGES),
        "fault: The mail test in es: UndefinedError: 'nobody' is undefined.",
        *(f"fault: The mail verify in {tag}: ZeroDivisionError: division by zero." for tag in LANGUAGES),
    ]
    assert summary.startswith(f"{count - 11} of {count} mails are in order.")
    assert len(list(tmp_path.glob("*.eml"))) == count - 6
    text = (tmp_path / "index.html").read_text("utf-8")
    assert _Index(text).ids == names(site)
    assert len(re.findall(r'<p class="fault">es: ', text)) == 3


@pytest.mark.parametrize("place", ["a file", "below a file", "where an index is no file"])
def test_a_folder_that_cannot_be_written(site: Site, tmp_path: Path, place: str) -> None:
    """Where the files cannot be written, the command says so in a sentence."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "index.html").mkdir()
    folder = {"a file": tmp_path / "file", "below a file": tmp_path / "file/mails"}.get(place, tmp_path)

    result = run(site, folder)

    assert result.exit_code in {1, 2}
    assert re.search(r"is a file\.|cannot be written: (Not a directory|Is a directory)\.", result.output)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_name_of_the_app_is_no_markup(site: Site, tmp_path: Path) -> None:
    """A mail that the app named oddly is shown and linked all the same."""
    own = {"subject.txt": "<b>Hi</b>", "txt": "Hi", "html": "Hi"}
    site.app.jinja_loader = DictLoader({f"accountflow/mail/a&b 1%.{end}": text for end, text in own.items()})

    assert run(site, tmp_path, "--mail", "a&b 1%", "--locale", "en").exit_code == 0

    text = (tmp_path / "index.html").read_text("utf-8")
    assert _Index(text).frames[0]["src"] == "a%26b%201%25.en.html"
    assert (tmp_path / "a&b 1%.en.html").is_file()
    assert "&lt;b&gt;Hi&lt;/b&gt;" in text
