"""What every page has around it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import url_for

from ..flow import Services
from ..languages import Language
from .headers import nonce
from .words import vocabulary

_STATIC = Path(__file__).parent.parent / "static"


@dataclass(frozen=True)
class Site:
    """The frame of the pages of one app."""

    #: Whether the developer's inbox is mounted.
    has_inbox: bool
    #: Whether mails may leave this computer.
    mail_leaves: bool
    #: Changes when a static file does, so that browsers may keep the files for ever.
    version: str

    @classmethod
    def build(cls, *, has_inbox: bool, mail_leaves: bool) -> Site:
        """Return the frame for the static files as they are now."""
        files = sorted(_STATIC.iterdir())
        return cls(has_inbox, mail_leaves, f"{zlib.crc32(b''.join(file.read_bytes() for file in files)):08x}")

    def frame(self, services: Services, language: Language) -> dict[str, Any]:
        """Return the variables that every page has."""
        settings = services.settings
        return {
            **vocabulary(language),
            "site_name": settings.site_name,
            "support_email": settings.support_email,
            "support_url": settings.support_url,
            "stylesheets": settings.stylesheets,
            "nonce": nonce(),
            "stylesheet_url": url_for("accountflow.static", filename="accountflow.css", v=self.version),
            "script_url": url_for("accountflow.static", filename="accountflow.js", v=self.version),
            "dev_mail_url": url_for("accountflow.dev_mail") if self.has_inbox else None,
            "dev_mail_leaves": self.mail_leaves,
        }
