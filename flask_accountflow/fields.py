"""The fields of our forms: addresses, passwords, tokens. Each error carries its code."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from wtforms import PasswordField, StringField, ValidationError

from .identity import Address, BadAddress, canonical
from .messages import noted


class Fault(str):
    """A field's error message that carries its code and parameters, and how it is said in other languages."""

    detail: str
    code: str
    params: Mapping[str, Any]

    def __new__(cls, detail: str, code: str, params: Mapping[str, Any] = MappingProxyType({})) -> Fault:
        fault = super().__new__(cls, detail)
        fault.detail, fault.code, fault.params = detail, code, params
        return fault


class _Typed:
    """A field whose value is text; "" where nothing was sent."""

    data: str | None

    @property
    def text(self) -> str:
        """What was sent."""
        return self.data if self.data is not None else ""


class AddressField(_Typed, StringField):
    """An email address."""

    _address: Address | None = None

    @property
    def address(self) -> Address:
        """The canonical address. Raises :exc:`RuntimeError` before the form was found valid."""
        if self._address is None:
            raise RuntimeError("check the form before its address is used")
        return self._address

    def pre_validate(self, form: Any) -> None:
        """Raise ``ValidationError`` with ``required`` or ``invalid_email``."""
        if not self.text.strip():
            raise ValidationError(Fault(noted("Enter your email."), "required"))
        try:
            self._address = canonical(self.text, allow_special=form.meta.allow_special)
        except BadAddress:
            raise ValidationError(Fault(noted("Enter an email like name@example.com."), "invalid_email")) from None


class NewPasswordField(_Typed, PasswordField):
    """A password that somebody wants to have."""

    def pre_validate(self, form: Any) -> None:
        """Raise ``ValidationError`` with the code of the rule that the password breaks."""
        if not self.data:
            if self.flags.voluntary:
                return
            raise ValidationError(Fault(noted("Enter a password."), "required"))
        fault = form.meta.policy.fault(self.data, email=_typed_email(form))
        if fault is not None:
            raise ValidationError(Fault(fault.detail, fault.code, fault.params))


class OldPasswordField(_Typed, PasswordField):
    """A password that somebody has. One that no rule would allow is merely wrong."""

    def pre_validate(self, form: Any) -> None:
        """Raise ``ValidationError`` with ``required`` when it is empty."""
        if not self.data:
            raise ValidationError(Fault(noted("Enter your password."), "required"))


class Voluntary:
    """A validator that marks a field which may stay empty."""

    field_flags: Mapping[str, Any] = MappingProxyType({"voluntary": True})

    def __call__(self, form: Any, field: Any) -> None:
        """Accept everything."""


class TokenField(_Typed, StringField):
    """A link's token, or a refresh token."""

    def pre_validate(self, form: Any) -> None:
        """Raise ``ValidationError`` with ``required`` when it is empty."""
        if not self.data and not self.flags.voluntary:
            raise ValidationError(Fault(noted("This is missing."), "required"))


def _typed_email(form: Any) -> str | None:
    field = form["email"] if "email" in form else None
    return None if field is None else field.data
