"""``flask accountflow``: what an operator does by hand."""

from __future__ import annotations

from . import mails, outbox, people, previews, site, templates
from .group import accountflow

__all__ = ["accountflow", "mails", "outbox", "people", "previews", "site", "templates"]
