"""The names that the tempest SDK's templates have: an app's own ones go on working under them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: Mails, by our names.
MAILS: Mapping[str, str] = MappingProxyType({"verify.html": "activation.html", "reset.html": "password_reset.html"})

_LINK_PAGES = ("link_invalid", "link_expired", "link_used", "link_superseded")
_DONE = {
    "verify_done": "activation_success",
    "reset_form": "password_reset_form",
    "reset_done": "password_reset_success",
}
_FAILED = {"signup": "activation_error", "reset": "password_reset_error"}


def page_names(page: str, purpose: str | None) -> list[str]:
    """Return the template names of a page, the SDK's before ours. ``purpose`` is that of a link that cannot be used."""
    other = _FAILED.get(str(purpose)) if page in _LINK_PAGES else _DONE.get(page)
    return [page] if other is None else [other, page]
