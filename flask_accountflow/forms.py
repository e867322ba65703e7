"""WTForms forms, fed from a browser's form or from JSON whose types were checked.

A host extends sign-up by subclassing :class:`SignupForm`; a field whose name is a column of the
user model fills that column when the sign-up is confirmed.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, TypeVar

from werkzeug.datastructures import MultiDict
from wtforms import (
    BooleanField,
    DateField,
    DateTimeLocalField,
    DecimalField,
    Field,
    FloatField,
    Form,
    IntegerField,
    PasswordField,
    SelectField,
    SelectMultipleField,
    StringField,
    TimeField,
)
from wtforms.validators import AnyOf

from .errors import FieldFault, Refusal
from .fields import AddressField, Fault, NewPasswordField, OldPasswordField, TokenField, Voluntary
from .messages import noted

F = TypeVar("F", bound=Form)

#: Longest ``next`` and token that are looked at, in characters; longer ones are no address of ours.
TEXT_LIMIT = 2048


class SignupForm(Form):
    """Sign up. Subclass it to ask for more."""

    email = AddressField(noted("Email"))
    password = NewPasswordField(noted("Password"), id="new-password")
    next = StringField()


class LoginForm(Form):
    """Log in."""

    email = AddressField(noted("Email"))
    password = OldPasswordField(noted("Password"), id="current-password")
    remember = BooleanField(noted("Keep me logged in"), default=True)
    next = StringField()


class BearerLoginForm(LoginForm):
    """Log in as a program; ``transport`` says whether it wants a pair of tokens or a cookie."""

    transport = StringField(default="bearer", validators=[AnyOf(["bearer", "cookie"])])


class AskForm(Form):
    """Ask for a link, by address or by a link that has expired."""

    class Meta:
        """What may be sent in the place of a field."""

        stand_ins: Mapping[str, str] = MappingProxyType({"email": "token"})

    email = AddressField(noted("Email"))
    token = TokenField(validators=[Voluntary()])
    next = StringField()

    def validate(self, extra_validators: Any = None) -> bool:
        """Check the address, unless a token stands in for it."""
        if self.token.data:
            self.email.data = None
            return True
        return super().validate(extra_validators)


class VerifyForm(Form):
    """Confirm an address, with a password where two sign-ups compete, or discard the sign-up."""

    token = TokenField()
    password = NewPasswordField(noted("Choose your password"), id="new-password", validators=[Voluntary()])
    discard = BooleanField(noted("I didn't sign up"))


class ResetForm(Form):
    """Set a new password by link."""

    class Meta:
        """What other names the fields have where the tempest SDK's are accepted."""

        other_names: Mapping[str, str] = MappingProxyType({"password": "new_password"})
        #: What its page asks to type again.
        repeats: Mapping[str, str] = MappingProxyType({"password": "confirm_password"})

    token = TokenField()
    password = NewPasswordField(noted("New password"), id="new-password")


class RefreshForm(Form):
    """Exchange a refresh token for a new pair."""

    refresh_token = TokenField()


class LogoutForm(Form):
    """Log out, perhaps on all devices; a program may name its refresh token instead of sending a bearer token."""

    refresh_token = TokenField(validators=[Voluntary()])
    all = BooleanField(noted("Log out on all devices"))


class FreshForm(Form):
    """Type one's password again."""

    password = OldPasswordField(noted("Password"), id="current-password")
    next = StringField()


class PasswordChangeForm(Form):
    """Change one's password."""

    current_password = OldPasswordField(noted("Current password"), id="current-password")
    new_password = NewPasswordField(noted("New password"), id="new-password")


class EmailChangeForm(Form):
    """Ask for another address."""

    new_email = AddressField(noted("New email"), id="new-email")
    current_password = OldPasswordField(noted("Current password"), id="current-password")


class LinkForm(Form):
    """Use a link that asks for nothing more."""

    token = TokenField()


class DeviceForm(Form):
    """Name one of one's logins."""

    id = TokenField()


class TestMailForm(Form):
    """Name whom a test mail goes to."""

    to = AddressField(noted("To"))


class AccountForm(Form):
    """Name an account."""

    email = AddressField(noted("Email"))


class CreateUserForm(AccountForm):
    """Create an account for somebody."""

    password = NewPasswordField(noted("Password"), validators=[Voluntary()])
    email_verified = BooleanField(noted("The address is known to be theirs"))
    is_admin = BooleanField(noted("Administrator"))


def from_browser(form_class: type[F], data: MultiDict[str, str], meta: Mapping[str, Any], **fixed: str) -> F:
    """Return the form that a browser posted; ``fixed`` are values from the URL, which win.

    Raises :exc:`.Refusal` when a field that takes one value was sent twice.
    """
    values: MultiDict[str, str] = MultiDict(data)
    for name, other in _other_names(form_class, meta).items():
        if name not in values and other in values:
            values.setlist(name, values.getlist(other))
    for name, value in fixed.items():
        values.setlist(name, [value])
    form = form_class(values, meta=dict(meta))
    twice = [
        field.name
        for field in form
        if not isinstance(field, SelectMultipleField) and len(values.getlist(field.name)) > 1
    ]
    if twice:
        raise refused(form, [FieldFault(name, "invalid_type", noted("Send this once.")) for name in twice])
    repeats = _repeats(form_class, meta)
    differing = [name for name, again in repeats.items() if again in values and values[again] != form[name].data]
    if differing:
        raise refused(form, [FieldFault(name, "invalid", noted("The two passwords differ.")) for name in differing])
    return form


def from_json(form_class: type[F], data: Mapping[str, Any], meta: Mapping[str, Any], **fixed: str) -> F:
    """Return the form that a JSON object fills. Unknown members are ignored, ``null`` is absent.

    Raises :exc:`.Refusal` with ``invalid_type`` for every member of another type than its field's.
    """
    form = form_class(data=meta.get("defaults"), meta=dict(meta))
    values: MultiDict[str, str] = MultiDict()
    other_names = _other_names(form_class, meta)
    wrong = []
    for field in form:
        value = fixed.get(field.name, data.get(field.name))
        if value is None:
            value = data.get(other_names.get(field.name, field.name))
        if value is None:
            if isinstance(field, (BooleanField, SelectMultipleField)) and field.data:
                values.setlist(field.name, list(_as_text(field.data)))
        elif _fits(field, value):
            values.setlist(field.name, list(_as_text(value)))
        else:
            wrong.append(FieldFault(field.name, "invalid_type", noted("This has the wrong type.")))
    if wrong:
        raise refused(form, wrong)
    form.process(values)  # another form would be bound to its fields anew, for a tenth of the request
    return form


def _other_names(form_class: type[Form], meta: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the other names under which fields may be sent; none unless the settings allow them."""
    names: Mapping[str, str] = getattr(form_class.Meta, "other_names", {})
    return names if meta.get("seed_aliases") else {}


def _repeats(form_class: type[Form], meta: Mapping[str, Any]) -> Mapping[str, str]:
    """Return under which names fields may be sent a second time; none unless the settings allow it."""
    names: Mapping[str, str] = getattr(form_class.Meta, "repeats", {})
    return names if meta.get("seed_aliases") else {}


def in_place_of(form_class: type[Form], meta: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return the names of members that may be sent instead of the field of this name."""
    stand_ins: Mapping[str, str] = getattr(form_class.Meta, "stand_ins", {})
    return tuple(names[name] for names in (_other_names(form_class, meta), stand_ins) if name in names)


def check(form: Form) -> None:
    """Validate the form. Raises :exc:`.Refusal` ``validation_failed`` with every faulty field."""
    form.validate()
    found = list(faults(form))
    if found:
        raise refused(form, found)


def refused(form: Form, found: list[FieldFault]) -> Refusal:
    """Return the refusal that names these faults; they are put on the form for its page, too."""
    for fault in found:
        field = form[fault.field] if fault.field in form else None
        if field is not None and fault.detail not in field.errors:
            field.errors = [*field.errors, Fault(fault.detail, fault.code, fault.params)]
    return Refusal("validation_failed", fields=found)


def faults(form: Form) -> Iterator[FieldFault]:
    """Yield what is wrong with a form that was validated."""
    for field in form:
        if not isinstance(field, (PasswordField, TokenField)) and not _is_clean(field.data):
            yield FieldFault(field.name, "invalid", noted("This holds something that cannot be kept."))
            continue
        was_sent = any(str(raw).strip() for raw in field.raw_data or ())
        for error in field.errors:
            code = getattr(error, "code", "invalid" if was_sent else "required")
            detail = error.detail if isinstance(error, Fault) else str(error)
            yield FieldFault(field.name, code, detail, getattr(error, "params", MappingProxyType({})))


def _is_clean(value: Any) -> bool:
    """Tell whether every database can hold ``value``: NUL, lone surrogates and infinity are refused by some."""
    if isinstance(value, (float, Decimal)):
        return Decimal(value).is_finite()
    return not isinstance(value, str) or not any(sign == "\0" or "\ud800" <= sign <= "\udfff" for sign in value)


def _fits(field: Field, value: Any) -> bool:
    if isinstance(field, BooleanField):
        return isinstance(value, bool)
    if isinstance(field, IntegerField):
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(field, (DecimalField, FloatField)):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(field, SelectMultipleField):
        return isinstance(value, list) and all(_is_scalar(item) for item in value)
    if isinstance(field, SelectField):
        return _is_scalar(value)
    return isinstance(value, str)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _as_text(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        yield from map(str, value)
    elif value is True:
        yield "y"
    elif value is not False:
        yield str(value)


def host_values(form: Form, names: tuple[str, ...]) -> dict[str, Any]:
    """Return what the app's own fields hold, in a form that JSON can keep."""
    return {name: _plain(form[name].data) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def describe(form_class: type[Form], meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the fields of a form as a program needs them to draw one."""
    return [
        {"name": field.name, "label": field.label.text, "type": _kind(field)}
        for field in form_class(meta=dict(meta))
        if field.name not in {"next", "token"}
    ]


def _kind(field: Field) -> str:
    if isinstance(field, AddressField):
        return "email"
    if isinstance(field, PasswordField):
        return "password"
    if isinstance(field, BooleanField):
        return "boolean"
    if isinstance(field, (IntegerField, DecimalField, FloatField)):
        return "number"
    if isinstance(field, (DateField, DateTimeLocalField, TimeField)):
        return "date"
    return "string"
