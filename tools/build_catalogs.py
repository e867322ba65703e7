"""Bring the catalogs of the languages up to date, and compile them.

``python tools/build_catalogs.py`` reads the messages out of templates and code, updates every ``accountflow.po`` and
writes the ``accountflow.mo`` beside it. Then it names what is left to translate, and exits with 1 if there is anything.
With ``--check`` it writes nothing, and also names the files that would change.

A message is what stands as a plain string in ``_(…)``, ``gettext(…)``, ``ngettext(…)``, ``noted(…)`` or
``noted_plural(…)``. A translation holds the placeholders of its message, ``%(name)s``, no markup, and no straight
double quotes, at which an attribute would end.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract, extract_python
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from jinja2.ext import babel_extract

from flask_accountflow.languages import DOMAIN, LANGUAGES

PACKAGE = Path(__file__).resolve().parents[1] / "flask_accountflow"

_KEYWORDS: dict[str, Any] = {"_": None, "gettext": None, "noted": None, "ngettext": (1, 2), "noted_plural": (1, 2)}
_PLACEHOLDER = re.compile(r"%\(\w+\)s")
_BUILD = "Run: python tools/build_catalogs.py"


class _Plain(Catalog):
    """A catalog whose header says what gettext needs, and nothing that differs from one run to the next."""

    @property
    def mime_headers(self) -> list[tuple[str, str]]:
        return [
            ("Language", str(self.locale_identifier)),
            ("Plural-Forms", self.plural_forms),
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Transfer-Encoding", "8bit"),
        ]


def messages(package: Path) -> Catalog:
    """Return the messages in templates and code, in the order of the files, without translations."""
    found = Catalog()
    for path in sorted(package.rglob("*")):
        method = _method(path)
        if method is None:
            continue
        with path.open("rb") as file:
            for _, message, _, _ in extract(method, file, _KEYWORDS, options={"silent": "false"}):
                found.add(message, locations=[(path.relative_to(package.parent).as_posix(), 1)])
    return found


def empty(locale: str) -> Catalog:
    """Return a catalog without messages. ``locale`` is spelled as Babel does: ``pt_BR``."""
    return _Plain(locale, header_comment=f"# flask-accountflow in {locale}.", fuzzy=False)


def compiled(catalog: Catalog) -> bytes:
    """Return the ``.mo`` file of a catalog, in which what is fuzzy is left out."""
    file = BytesIO()
    write_mo(file, catalog)
    return file.getvalue()


def main(arguments: list[str] | None = None) -> int:
    """Build or check, and return the exit code."""
    parser = argparse.ArgumentParser(description="Bring the catalogs of the languages up to date, and compile them.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file would change, too")
    parser.add_argument("package", type=Path, nargs="?", default=PACKAGE, help="where templates and code are")
    given = parser.parse_args(arguments)
    found = False
    for path, catalog in _updated(given.package).items():
        for target, content in ((path, _written(catalog)), (path.with_suffix(".mo"), compiled(catalog))):
            if given.check and (not target.is_file() or target.read_bytes() != content):
                found = True
                print(f"{_name(target)} is not up to date. {_BUILD}")
            elif not given.check:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        for fault in _faults(catalog):
            found = True
            print(f"{_name(path)}: {fault}")
    for name in _strangers(given.package):
        found = True
        print(f"translations/{name} is not the folder of a language that ships. Add it to LANGUAGES, or remove it.")
    return 1 if found else 0


def _method(path: Path) -> Any:
    """Return what finds the messages of a file; None where there are none, or where they are in its source as well."""
    if path.suffix == ".py":
        return extract_python
    if path.suffix in {".mjml", ".txt"} or (path.suffix == ".html" and not path.with_suffix(".mjml").exists()):
        return babel_extract
    return None


def _updated(package: Path) -> dict[Path, Catalog]:
    """Return the catalog that each ``.po`` file should hold."""
    template = messages(package)
    found = {}
    for locale in _locales():
        path = package / "translations" / locale / "LC_MESSAGES" / f"{DOMAIN}.po"
        found[path] = _read(path, locale)
        found[path].update(template, update_creation_date=False)
    return found


def _read(path: Path, locale: str) -> Catalog:
    catalog = empty(locale)
    if path.exists():
        with path.open("rb") as file:
            old = read_po(file, locale)
        catalog.header_comment = old.header_comment
        for message in old:
            if message.id:
                catalog[message.id] = message
    return catalog


def _written(catalog: Catalog) -> bytes:
    file = BytesIO()
    write_po(file, catalog, width=0, ignore_obsolete=True, include_lineno=False)
    return file.getvalue()


def _faults(catalog: Catalog) -> Iterator[str]:
    for message in catalog:
        if message.id:
            yield from (f"{_list(message.id)[0]!r} {fault}." for fault in _message_faults(message, catalog.num_plurals))


def _message_faults(message: Message, plurals: int) -> Iterator[str]:
    originals, texts = _list(message.id), _list(message.string)
    if message.fuzzy:
        yield "is fuzzy: correct its translation, and remove the mark"
    if not all(texts) or len(texts) != (plurals if message.pluralizable else 1):
        yield "is not translated"
        return
    for text in texts:
        if set(_PLACEHOLDER.findall(text)) != set(_PLACEHOLDER.findall(originals[-1])):
            yield f"has other placeholders than {text!r}"
        if "%" in _PLACEHOLDER.sub("", text):
            yield f"is translated with a stray percent sign: {text!r}"
        # In HTML a translation is safe as it is, also between the quotes of an attribute.
        if re.search('[<>&"]', text):
            yield f"is translated with markup: {text!r}"


def _list(text: Any) -> list[str]:
    return list(text) if isinstance(text, (list, tuple)) else [text]


def _locales() -> list[str]:
    return [tag.replace("-", "_") for tag in LANGUAGES[1:]]


def _strangers(package: Path) -> list[str]:
    folders = (package / "translations").glob("*")
    return sorted(path.name for path in folders if path.name not in _locales())


def _name(path: Path) -> str:
    return path.relative_to(path.parents[3]).as_posix()


if __name__ == "__main__":
    raise SystemExit(main())
