"""``flask accountflow``: what an operator does by hand."""

from __future__ import annotations

from . import mails, people, site
from .group import accountflow

__all__ = ["accountflow", "mails", "people", "site"]
