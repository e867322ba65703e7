"""Templates of an app's own, and what they show."""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import FileSystemLoader
from support import Site

#: What every page of the SDK's may show, so that each test sees all of it.
ALL = (
    "user={{ user.email }}/{{ user.name }} login_url={{ login_url }} min_length={{ min_length }} "
    "form_action={{ form_action }} reason={{ reason }} error={{ error }}"
)
MAIL = (
    "user={{ user.email }}/{{ user.name }} link={{ link }} "
    "activation_url={{ activation_url }} reset_url={{ reset_url }} "
    "expires_at={{ expires_at.isoformat() }} aware={{ expires_at.tzinfo is not none }} "
    '{{ expires_at.strftime("%Y-%m-%d %H:%M UTC") }} login_url={{ login_url }} min_length={{ min_length }}'
)
#: A configuration in which links log nobody in, so that every page is shown.
NOBODY_IN = {"ACCOUNTFLOW_LOGIN_ON_VERIFY": "never", "ACCOUNTFLOW_LOGIN_ON_RESET": "never"}


class Templates:
    """The folder of an app's own templates."""

    def __init__(self, site: Site, folder: Path) -> None:
        self._folder = folder
        site.app.jinja_loader = FileSystemLoader(folder)

    def add(self, name: str, text: str) -> None:
        """Write a template below ``accountflow``."""
        path = self._folder / "accountflow" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def shown(text: str, name: str) -> str:
    """Return what a template showed under a name."""
    found = re.search(rf"\b{name}=(.*?)(?= \w+=|$)", text, re.DOTALL)
    assert found is not None, text
    return found[1]
