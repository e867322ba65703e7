"""Change one's password, knowing the present one."""

from __future__ import annotations

from ..errors import FieldFault, Refusal
from ..flow import Outcome, Services, SignIn
from ..forms import PasswordChangeForm, refused
from ..messages import noted
from ..store.accounts import Account
from .fresh import prove, renew_login
from .reset import tell_owner


def run(services: Services, form: PasswordChangeForm) -> Outcome:
    """Set the password, end everything that was issued before, and log this visit in anew."""
    # First what costs no try: who mistypes the new password has not guessed at the old one.
    fault = services.password_fault(form.new_password.text, email=services.person().email, field="new_password")
    if fault is not None:
        raise refused(form, [fault])
    account = prove(services, form, form.current_password)
    if form.new_password.text == form.current_password.text:
        detail = noted("This is the password you have. Choose a new one.")
        raise refused(form, [FieldFault("new_password", "same_as_old", detail)])
    password_hash = services.hash(form.new_password.text)
    sign_in = services.unit(lambda: _change(services, account, password_hash))
    return Outcome("password_changed", go="me", sign_in=sign_in)


def _change(services: Services, account: Account, password_hash: str) -> SignIn:
    values = {"password_hash": password_hash, "password_changed_at": services.clock()}
    changed = services.store.accounts.change(account, values)
    if changed is None:  # while the passwords were being hashed
        raise Refusal("authentication_required")
    sign_in = renew_login(services, changed)
    services.announce("password_changed", user_id=str(changed.id))
    tell_owner(services, changed, "settings")
    return sign_in
