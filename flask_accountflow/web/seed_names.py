"""The names that the tempest SDK's templates and answers have: what was written for them goes on working."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..messages import noted

#: Mails, by our names.
MAILS: Mapping[str, str] = MappingProxyType({"verify.html": "activation.html", "reset.html": "password_reset.html"})

_LINK_PAGES = ("link_invalid", "link_expired", "link_used", "link_superseded")
_DONE = {
    "verify_done": "activation_success",
    "reset_form": "password_reset_form",
    "reset_done": "password_reset_success",
}
_FAILED = {"signup": "activation_error", "reset": "password_reset_error"}


def page_names(page: str, data: Mapping[str, Any]) -> list[str]:
    """Return the template names of a page with this ``data``, the SDK's before ours."""
    other = _FAILED.get(str(data.get("purpose"))) if page in _LINK_PAGES else _DONE.get(page)
    # The SDK has no page for a sign-up that was disowned, and its page of success would be untrue.
    return [page] if other is None or data.get("discarded") else [other, page]


def with_other_names(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of an answer, and the SDK's: ``user_id`` for a login, ``message`` for people."""
    others: dict[str, Any] = {}
    if data.get("user") is not None:
        others["user_id"] = data["user"]["id"]
    if "detail" in data:
        others["message"] = data["detail"]
    elif data.get("status") == "verification_required" and data.get("activation_url") is None:
        others["message"] = noted("Check your email.")
    return {**data, **others}
