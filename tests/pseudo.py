"""A language that nobody speaks: every message in Arabic letters, and a third longer.

What is said in other letters went through no catalog.
"""

from __future__ import annotations

import re
from pathlib import Path

from flask_accountflow.languages import DOMAIN, Languages
from tools import build_catalogs

TAG = "ar-XB"

_LETTERS = str.maketrans({letter: chr(0x0627 + ord(letter.lower()) - ord("a")) for letter in map(chr, range(65, 123))})


def mirrored(message: str) -> str:
    """Return a message as this language says it, with its placeholders."""
    pieces = re.split(r"(%\(\w+\)s)", message + " longer" * (len(message) // 21))
    return "".join(one if one.startswith("%(") else one.translate(_LETTERS) for one in pieces)


def languages(folder: Path) -> Languages:
    """Return this language alone, its catalog made of all messages that there are now."""
    catalog = build_catalogs.empty("ar")
    catalog.update(build_catalogs.messages(build_catalogs.PACKAGE))
    for message in catalog:
        if message.pluralizable:
            message.string = (mirrored(message.id[1]),) * catalog.num_plurals
        elif message.id:
            message.string = mirrored(str(message.id))
    path = folder / TAG.replace("-", "_") / "LC_MESSAGES" / f"{DOMAIN}.mo"
    path.parent.mkdir(parents=True)
    path.write_bytes(build_catalogs.compiled(catalog))
    return Languages([TAG], folder)
