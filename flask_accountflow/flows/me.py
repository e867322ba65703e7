"""Who is logged in."""

from __future__ import annotations

from typing import Any

from ..flow import Outcome, Services
from ..store.accounts import Account


def show(services: Services, form: Any) -> Outcome:
    """Return the account of this visit."""
    account = services.person()
    return Outcome("me", user(account), page={"last_login_at": account.last_login_at})


def user(account: Account) -> dict[str, Any]:
    """Return what a program may know of an account."""
    return {
        "id": str(account.id),
        "email": account.email,
        "email_verified": account.email_verified,
        "is_admin": account.is_admin,
        "created_at": account.created_at,
    }
