"""Languages: which one a tag means, what they say, and how their catalogs are kept."""

from __future__ import annotations

import gettext
from io import BytesIO
from pathlib import Path

import pytest
from babel.messages.mofile import read_mo

from flask_accountflow.configuration import read
from flask_accountflow.errors import ConfigError
from flask_accountflow.languages import DOMAIN, ENGLISH, FOLDER, LANGUAGES, Language, Languages, chosen, nearest
from flask_accountflow.messages import Filled
from tools import build_catalogs


@pytest.mark.parametrize(
    ("tag", "found"),
    [
        ("en", "en"),
        ("en-GB", "en"),
        ("pt-BR", "pt-BR"),
        ("pt_BR", "pt-BR"),
        ("PT-br", "pt-BR"),
        ("pt", "pt-BR"),
        ("pt-PT", "pt-BR"),
        ("DE", "de"),
        ("de-AT", "de"),
        ("de_CH_1996", "de"),
        ("de-u-co-phonebk", "de"),
        ("es-419", "es"),
        ("zh-Hant-TW", None),
        ("d", None),
        ("deutsch", None),
        ("", None),
        ("-", None),
        ("*", None),
        ("../de", None),
        ("de\x00", None),
        (" de", None),
        ("é" * 1000, None),
        (None, None),
        (5, None),
        (b"de", None),
        (["de"], None),
    ],
)
def test_what_a_tag_means(tag: object, found: str | None) -> None:
    """A tag means the language that ships, whatever its spelling or country; what is none means no language."""
    assert nearest(tag, LANGUAGES) == found


def test_a_variety_comes_before_its_sisters() -> None:
    """Of two varieties of a language a tag means its own, and the first when it names neither."""
    among = ("pt-BR", "pt-PT")

    assert [nearest(tag, among) for tag in ("pt-PT", "pt_pt", "pt-BR", "pt-AO", "pt")] == [
        "pt-PT", "pt-PT", "pt-BR", "pt-BR", "pt-BR",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wishes", "tag"),
    [
        (("fr", "de"), "fr"),
        ((None, "de-AT"), "de"),
        (("it", "fr"), "fr"),
        (("es", None), "de"),
        ((object(), "☃"), "de"),
        ((), "de"),
    ],
)
def test_the_first_wish_that_can_be_granted(wishes: tuple[object, ...], tag: str) -> None:
    """A site speaks the first language wished for that it has, and else its own first."""
    assert Languages(["de", "fr"]).choose(*wishes).tag == tag


@pytest.mark.parametrize(
    ("tag", "direction"), [*((tag, "ltr") for tag in LANGUAGES), ("ar", "rtl"), ("he-IL", "rtl"), ("ar-XB", "rtl")]
)
def test_direction(tag: str, direction: str) -> None:
    """A language has the direction in which it is usually written."""
    assert Language(tag).direction == direction


def test_english_needs_no_catalog(tmp_path: Path) -> None:
    """English says every message as it is written."""
    language = Languages(["en"], tmp_path).choose()

    assert language == ENGLISH
    assert language.gettext("Log in") == "Log in"
    assert [language.ngettext("a day", "days", number) for number in (0, 1, 2)] == ["days", "a day", "days"]


def test_what_is_said_in_a_language() -> None:
    """A sentence of ours is said in the language with what fills it, and any other text, such as an app's, as it is."""
    language = Languages(["de"]).choose()
    filled = Filled("Use at least %(min)s characters.", min=12)

    assert filled == "Use at least 12 characters."
    assert language.say(filled) == "Verwenden Sie mindestens 12 Zeichen."
    assert ENGLISH.say(filled) == filled
    assert language.say("Log in") == "Anmelden"
    assert [language.say(text) for text in ("Our shop", "100 % sure %(x)s", "", 5)] == [
        "Our shop", "100 % sure %(x)s", "", "5",
    ]  # fmt: skip


def test_a_language_without_a_catalog_is_found_at_once(tmp_path: Path) -> None:
    """A language whose catalog is missing is an error where the site is set up, not where a mail is sent."""
    with pytest.raises(FileNotFoundError):
        Languages(["en", "de"], tmp_path)


@pytest.mark.parametrize(
    ("tag", "one", "many", "none"),
    [
        ("pt-BR", "1 hora", "2 horas", "0 hora"),
        ("es", "1 hora", "2 horas", "0 horas"),
        ("fr", "1 heure", "2 heures", "0 heure"),
        ("de", "1 Stunde", "2 Stunden", "0 Stunden"),
    ],
)
def test_plural_forms(tag: str, one: str, many: str, none: str) -> None:
    """A number goes with the form that its language has for it."""
    language = Languages([tag]).choose()

    said = [language.ngettext("%(number)s hour", "%(number)s hours", n) % {"number": n} for n in (1, 2, 0)]

    assert said == [one, many, none]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([], "must be a list of languages, with at least one"),
        (
            ["en", "pt"],
            "must be languages among 'en', 'pt-BR', 'es', 'fr', 'de'; 'pt' is none of them, and the nearest is 'pt-BR'",
        ),
        (
            ["eng"],
            "must be languages among 'en', 'pt-BR', 'es', 'fr', 'de'; 'eng' is none of them, and the nearest is 'en'",
        ),
        (["it"], "must be languages among 'en', 'pt-BR', 'es', 'fr', 'de'; 'it' is none of them"),
        ([5], "must be languages among 'en', 'pt-BR', 'es', 'fr', 'de'; 5 is none of them"),
    ],
)
def test_the_languages_of_a_site_are_checked(value: list[object], sentence: str) -> None:
    """A language that does not ship is refused, with the nearest that does."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole sentence is compared
        chosen(value)

    assert str(caught.value) == sentence


def test_a_wrong_language_is_a_fault_of_the_configuration() -> None:
    """The fault of a configuration names the key, the nearest language and what was found."""
    with pytest.raises(ConfigError) as caught:
        read({"SECRET_KEY": "x" * 32, "TESTING": True, "ACCOUNTFLOW_LANGUAGES": ("en", "pt")})

    assert caught.value.problems == (
        "ACCOUNTFLOW_LANGUAGES must be languages among 'en', 'pt-BR', 'es', 'fr', 'de'; 'pt' is none of them, "
        "and the nearest is 'pt-BR' (found ('en', 'pt')).",
    )


# The catalogs, and the tool that keeps them.


def test_every_catalog_is_complete_and_compiled(capsys: pytest.CaptureFixture[str]) -> None:
    """Every message is translated into every language, with its placeholders, and compiled as it stands."""
    assert build_catalogs.main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_a_catalog_has_the_plural_forms_of_its_language() -> None:
    """The header of a compiled catalog names its language and its plural forms, and no time of its making."""
    for tag in LANGUAGES[1:]:
        locale = tag.replace("-", "_")
        content = (FOLDER / locale / "LC_MESSAGES" / f"{DOMAIN}.mo").read_bytes()

        header = gettext.GNUTranslations(BytesIO(content)).gettext("")
        assert f"Language: {locale}\nPlural-Forms: nplurals=2;" in header
        assert "Date" not in header
        assert len(read_mo(BytesIO(content))) > 90


PAGE = '<h1>{{ _("A page") }}</h1>{{ ngettext("%(number)s cat", "%(number)s cats", n) }}'
SOURCE = '<mj-column><mj-text>{{ _("Dear %(name)s, hello", name=name) }}</mj-text></mj-column>'
CODE = """from .languages import noted, noted_plural
SOME = (noted("Jan"), noted_plural("%(number)s dog", "%(number)s dogs"))
def say(language): return language.gettext("said"), language.gettext(SOME)
"""
FRENCH = {
    "A page": "Une page",
    "%(number)s cat": ("%(number)s chat", "%(number)s chats"),
    "Dear %(name)s, hello": "Bonjour %(name)s",
    "Only here": "Seulement ici",
    "Jan": "janvier",
    "%(number)s dog": ("%(number)s chien", "%(number)s chiens"),
    "said": "dit",
}


@pytest.fixture
def package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A small package whose catalogs are complete."""
    folder = tmp_path / "package"
    mails = folder / "templates" / "mail"
    mails.mkdir(parents=True)
    (folder / "templates" / "page.html").write_text(PAGE)
    (mails / "hello.mjml").write_text(SOURCE)
    (mails / "hello.html").write_text(SOURCE.replace("hello", "built"))
    (mails / "hello.txt").write_text('{% if x %}{{ _("Only here") }}{% endif %}')
    (folder / "code.py").write_text(CODE)
    build_catalogs.main([str(folder)])
    for path in folder.rglob("*.po"):
        translate(path)
    assert build_catalogs.main([str(folder)]) == 0
    capsys.readouterr()
    return folder


def translate(path: Path) -> None:
    """Fill a new catalog in, as somebody with an editor does."""
    lines = path.read_text(encoding="utf-8").split("\n")
    message: str | tuple[str, str] = ""
    for number, line in enumerate(lines):
        if line.startswith("msgid "):
            message = FRENCH.get(line[7:-1], "")
        elif line == 'msgstr ""' and message:
            lines[number] = f'msgstr "{message}"'
        elif line.startswith("msgstr["):
            lines[number] = f'{line[:9]} "{message[int(line[7])]}"'
    path.write_text("\n".join(lines), encoding="utf-8")


def catalog(package: Path, locale: str = "fr", suffix: str = "po") -> Path:
    """Return the path of a catalog."""
    return package / "translations" / locale / "LC_MESSAGES" / f"accountflow.{suffix}"


def change(path: Path, old: str, new: str) -> None:
    """Change a file, as somebody with an editor does."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_messages_are_found_wherever_they_stand(package: Path) -> None:
    """Messages are found in pages, in the sources of mails, in texts and in code, and not in what is built."""
    found = build_catalogs.messages(package)

    ids = {message.id if isinstance(message.id, str) else message.id[0] for message in found if message.id}
    assert ids == set(FRENCH)


def test_what_is_complete_stays_as_it_is(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Building again what is complete changes no byte, and the check has nothing to say."""
    before = {path: path.read_bytes() for path in package.rglob("*.?o")}

    codes = build_catalogs.main([str(package)]), build_catalogs.main(["--check", str(package)])

    assert codes == (0, 0)
    assert len(before) == 2 * (len(LANGUAGES) - 1)
    assert {path: path.read_bytes() for path in package.rglob("*.?o")} == before
    assert capsys.readouterr().out == ""


def test_a_new_message_is_asked_for(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A message that is new is missed by the check, and goes into every catalog when they are built."""
    change(package / "code.py", '"said"', '"said twice"')

    assert build_catalogs.main(["--check", str(package)]) == 1
    assert "translations/fr/LC_MESSAGES/accountflow.po is not up to date. Run: " in capsys.readouterr().out
    assert build_catalogs.main([str(package)]) == 1
    assert "translations/fr/LC_MESSAGES/accountflow.po: 'said twice' is" in capsys.readouterr().out
    assert all('msgid "said twice"' in path.read_text(encoding="utf-8") for path in package.rglob("*.po"))
    assert not any('msgid "said"' in path.read_text(encoding="utf-8") for path in package.rglob("*.po"))


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('msgstr "Une page"', 'msgstr ""', "'A page' is not translated."),
        ('"%(number)s chats"', '""', "'%(number)s cat' is not translated."),
        (
            "#: package/templates/page.html\nmsgid",
            "#: package/templates/page.html\n#, fuzzy\nmsgid",
            "'A page' is fuzzy: correct its translation, and remove the mark.",
        ),
        (
            "Bonjour %(name)s",
            "Bonjour %(nom)s",
            "'Dear %(name)s, hello' has other placeholders than 'Bonjour %(nom)s'.",
        ),
        ("Bonjour %(name)s", "Bonjour", "'Dear %(name)s, hello' has other placeholders than 'Bonjour'."),
        ("%(number)s chiens", "des chiens", "'%(number)s dog' has other placeholders than 'des chiens'."),
        (
            "Bonjour %(name)s",
            "Bonjour %(name)s %",
            "'Dear %(name)s, hello' is translated with a stray percent sign: 'Bonjour %(name)s %'.",
        ),
        ("Une page", "Une <b>page</b>", "'A page' is translated with markup: 'Une <b>page</b>'."),
        ("Une page", "Une page &amp;", "'A page' is translated with markup: 'Une page &amp;'."),
        ("Une page", 'Une \\"page\\"', "'A page' is translated with markup: 'Une \"page\"'."),
    ],
)
def test_a_wrong_translation_is_found(
    package: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, fault: str
) -> None:
    """A translation that is missing, in doubt, or would not do as text and as HTML is named by build and check."""
    change(catalog(package), old, new)

    assert build_catalogs.main([str(package)]) == 1
    assert capsys.readouterr().out == f"translations/fr/LC_MESSAGES/accountflow.po: {fault}\n"
    assert build_catalogs.main(["--check", str(package)]) == 1
    assert capsys.readouterr().out == f"translations/fr/LC_MESSAGES/accountflow.po: {fault}\n"


def test_a_catalog_that_is_not_compiled_is_found(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A changed translation works only when it is compiled, and the check says so."""
    change(catalog(package), "Une page", "La page")

    assert build_catalogs.main(["--check", str(package)]) == 1
    assert capsys.readouterr().out == (
        "translations/fr/LC_MESSAGES/accountflow.mo is not up to date. Run: python tools/build_catalogs.py\n"
    )
    assert build_catalogs.main([str(package)]) == 0
    assert Languages(["fr"], package / "translations").choose().gettext("A page") == "La page"


def test_a_missing_catalog_is_found(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A language that ships without its files fails the check."""
    catalog(package).unlink()
    catalog(package, suffix="mo").unlink()

    assert build_catalogs.main(["--check", str(package)]) == 1
    assert "accountflow.mo is not up to date." in capsys.readouterr().out


def test_the_catalog_of_no_language_is_found(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder beside those of the languages that ship fails the check."""
    (package / "translations" / "xx").mkdir()

    assert build_catalogs.main(["--check", str(package)]) == 1
    assert capsys.readouterr().out == (
        "translations/xx is not the folder of a language that ships. Add it to LANGUAGES, or remove it.\n"
    )


def test_a_template_that_cannot_be_read_stops_the_tool(package: Path) -> None:
    """A template with a mistake is an error, and no file with fewer messages."""
    change(package / "templates" / "page.html", "{{ _(", "{{ _((")

    with pytest.raises(Exception, match="unexpected"):
        build_catalogs.main(["--check", str(package)])
