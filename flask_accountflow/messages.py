"""Messages that are written where no language is known, and said in one later."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


def noted(message: str) -> str:
    """Return a message that is translated elsewhere; here the catalogs find it."""
    return message


def noted_plural(singular: str, plural: str) -> tuple[str, str]:
    """Return both forms of a message that is translated elsewhere; here the catalogs find it."""
    return singular, plural


class Filled(str):
    """A sentence in English that can be said in other languages: it knows its message, and what fills it."""

    message: str
    values: Mapping[str, Any]

    def __new__(cls, message: str, **values: Any) -> Filled:
        """Fill the placeholders of ``message``, ``%(name)s``."""
        filled = super().__new__(cls, message % values)
        filled.message, filled.values = message, MappingProxyType(values)
        return filled
