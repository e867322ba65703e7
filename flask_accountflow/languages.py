"""The languages that pages and mails are written in: their tags, their catalogs, and the choice among them."""

from __future__ import annotations

import difflib
import gettext
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import rules
from .messages import Filled

#: The tags (BCP 47) of what ships. All texts are written in the first; the others have a catalog.
LANGUAGES = ("en", "pt-BR", "es", "fr", "de")

#: Where the catalogs are, as gettext and Babel lay them out: ``pt_BR/LC_MESSAGES/accountflow.mo``.
FOLDER = Path(__file__).with_name("translations")
DOMAIN = "accountflow"

# Unicode CLDR, characterOrder: the languages that are usually written from right to left.
_RIGHT_TO_LEFT = frozenset({"ar", "ckb", "dv", "fa", "he", "ps", "sd", "ug", "ur", "yi"})


@dataclass(frozen=True)
class Language:
    """A language by its tag. Without a catalog it says every message as it is written."""

    tag: str
    catalog: gettext.NullTranslations = field(default_factory=gettext.NullTranslations, repr=False, compare=False)

    @property
    def direction(self) -> str:
        """``ltr`` or ``rtl``, as in HTML."""
        return "rtl" if _primary(self.tag) in _RIGHT_TO_LEFT else "ltr"

    def gettext(self, message: str) -> str:
        """Return a message in this language; its placeholders are still to be filled."""
        # Under "" a catalog has its header.
        return self.catalog.gettext(message) if message else ""

    def ngettext(self, singular: str, plural: str, number: int) -> str:
        """Return the form of a message that goes with ``number``; its placeholders are still to be filled."""
        return self.catalog.ngettext(singular, plural, number)

    def say(self, text: object) -> str:
        """Return a text in this language if it is a message of ours, and any other, such as an app's, as it is."""
        if isinstance(text, Filled):
            return self.gettext(text.message) % text.values
        return self.gettext(str(text))


ENGLISH = Language(LANGUAGES[0])


class Languages:
    """The languages of one site, by tag. The first speaks to everybody who has none of them.

    ``own`` is a folder of the app, laid out as ours is; what its catalogs say comes before what ours say.
    Raises :exc:`OSError` for a language without a catalog of ours.
    """

    def __init__(self, tags: Iterable[str], folder: Path = FOLDER, own: Path | None = None) -> None:
        self._found = {tag: _load(tag, folder, own) for tag in tags}
        #: Their tags, in the order of the site.
        self.tags = tuple(self._found)

    def choose(self, *wishes: object) -> Language:
        """Return the language of the first wish that can be granted. What is not a tag is no wish."""
        granted = (nearest(wish, self._found) for wish in wishes)
        tag = next((tag for tag in granted if tag is not None), None)
        return self._found[tag] if tag is not None else next(iter(self._found.values()))


def nearest(tag: object, among: Iterable[str]) -> str | None:
    """Return the language of a tag, or else the first that is a variety of the same: ``pt-BR`` for ``pt_PT``."""
    if not isinstance(tag, str):
        return None
    same = [one for one in among if _primary(one) == _primary(tag)]
    return next((one for one in same if _plain(one) == _plain(tag)), same[0] if same else None)


def chosen(value: Any) -> tuple[str, ...]:
    """The languages of a site, each once: the rule of a setting. ``pt_br`` will do for ``pt-BR``."""
    tags = dict.fromkeys(rules.several(_shipped)(value))
    if not tags:
        raise ValueError("must be a list of languages, with at least one")
    return tuple(tags)


def _load(tag: str, folder: Path, own: Path | None) -> Language:
    locale = [tag.replace("-", "_")]
    ours = ENGLISH.catalog if tag == ENGLISH.tag else gettext.translation(DOMAIN, folder, locale)
    if own is None:
        return Language(tag, ours)
    catalog = gettext.translation(DOMAIN, own, locale, fallback=True)
    catalog.add_fallback(ours)
    return Language(tag, catalog)


def _shipped(value: Any) -> str:
    near = nearest(value, LANGUAGES)
    if near is not None and _plain(near) == _plain(value):
        return near
    names = ", ".join(repr(tag) for tag in LANGUAGES)
    near = near or next(iter(difflib.get_close_matches(str(value), LANGUAGES, n=1)), None)
    hint = "" if near is None else f", and the nearest is {near!r}"
    raise ValueError(f"must be languages among {names}; {value!r} is none of them{hint}")


def _primary(tag: str) -> str:
    return _plain(tag).partition("-")[0]


def _plain(tag: str) -> str:
    return tag.replace("_", "-").lower()
