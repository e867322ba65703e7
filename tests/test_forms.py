"""Forms, filled by a browser and by JSON."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import wtforms
from flow_bench import DEVICE, EMAIL, PASSWORD, Bench
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from werkzeug.datastructures import MultiDict
from wtforms import (
    BooleanField,
    DateField,
    DateTimeLocalField,
    DecimalField,
    FloatField,
    Form,
    HiddenField,
    IntegerField,
    PasswordField,
    RadioField,
    SelectField,
    SelectMultipleField,
    StringField,
    TextAreaField,
    TimeField,
)
from wtforms.validators import DataRequired, InputRequired, Length, NumberRange, Optional

from flask_accountflow import models
from flask_accountflow.errors import FieldFault, Refusal
from flask_accountflow.fields import AddressField, NewPasswordField, Voluntary
from flask_accountflow.forms import (
    AskForm,
    BearerLoginForm,
    CreateUserForm,
    LoginForm,
    LogoutForm,
    RefreshForm,
    ResetForm,
    SignupForm,
    VerifyForm,
    check,
    describe,
    faults,
    from_browser,
    from_json,
    host_values,
    refused,
)
from flask_accountflow.identity import Address
from flask_accountflow.models import UserMixin
from flask_accountflow.passwords import PasswordPolicy
from flask_accountflow.store.accounts import Accounts

META: dict[str, Any] = {"policy": PasswordPolicy(), "allow_special": False, "defaults": {"remember": True}}


def _choices(*values: int) -> list[Any]:
    """Return choices as this version of WTForms wants them: since 3.3 tuples are deprecated."""
    kind = getattr(wtforms.fields, "SelectChoice", lambda value, label: (value, label))
    return [kind(value, str(value)) for value in values]


class EveryField(Form):
    """One field of each class that an app may use."""

    text = StringField()
    secret = PasswordField()
    flag = BooleanField()
    count = IntegerField(validators=[Optional()])
    price = DecimalField(validators=[Optional()])
    ratio = FloatField(validators=[Optional()])
    day = DateField(validators=[Optional()])
    moment = DateTimeLocalField(validators=[Optional()])
    time = TimeField(validators=[Optional()])
    area = TextAreaField()
    number = SelectField(coerce=int, choices=_choices(1, 2), validators=[Optional()])
    letter = RadioField(choices=["a", "b"], validators=[Optional()])
    several = SelectMultipleField(coerce=int, choices=_choices(1, 2, 3))


def _json(form_class: type[Form], data: dict[str, Any], **fixed: str) -> Any:
    """Return the form that a JSON object fills, once it was found valid."""
    form = from_json(form_class, data, META, **fixed)
    check(form)
    return form


def _browser(form_class: type[Form], data: Any, **fixed: str) -> Any:
    """Return the form that a browser posts, once it was found valid."""
    form = from_browser(form_class, MultiDict(data), META, **fixed)
    check(form)
    return form


def _codes(fill: Any, form_class: type[Form], data: Any) -> dict[str, str]:
    """Return the codes of the faulty fields."""
    with pytest.raises(Refusal) as found:
        fill(form_class, data)
    assert (found.value.code, found.value.status) == ("validation_failed", 422)
    return {fault.field: fault.code for fault in found.value.fields}


# JSON: every field takes its own kind of value.


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("text", "abc", "abc"),
        ("text", "", ""),
        ("secret", " x ", " x "),
        ("flag", True, True),
        ("flag", False, False),
        ("count", 7, 7),
        ("count", -7, -7),
        ("count", 0, 0),
        ("price", 7, Decimal(7)),
        ("price", 12.5, Decimal("12.5")),
        ("price", 0.1, Decimal("0.1")),
        ("ratio", 7, 7.0),
        ("ratio", 0.25, 0.25),
        ("ratio", 1e-7, 1e-7),
        ("day", "2026-11-21", datetime.date(2026, 11, 21)),
        ("moment", "2026-11-21T08:30:00", datetime.datetime(2026, 11, 21, 8, 30)),
        ("moment", "2026-11-21 08:30", datetime.datetime(2026, 11, 21, 8, 30)),
        ("time", "08:30", datetime.time(8, 30)),
        ("area", "two\nlines", "two\nlines"),
        ("number", 2, 2),
        ("number", "2", 2),
        ("letter", "b", "b"),
        ("several", [1, 3], [1, 3]),
        ("several", ["1", "3"], [1, 3]),
        ("several", [], []),
    ],
)
def test_a_member_of_the_right_type_is_taken(field: str, value: Any, kept: Any) -> None:
    """Each class of field takes its JSON type and keeps the value as the app's code expects it."""
    form = _json(EveryField, {field: value})

    assert form[field].data == kept
    assert type(form[field].data) is type(kept)


_TEXTS: list[Any] = [1, 1.5, True, ["a"], {"a": 1}]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("text", _TEXTS),
        ("secret", _TEXTS),
        ("area", _TEXTS),
        ("flag", [0, 1, "true", "", "y", ["y"], {}]),
        ("count", ["7", 7.0, True, False, [7], {}]),
        ("price", ["7", True, [7], {}]),
        ("ratio", ["7", False, [7], {}]),
        ("day", [20261121, True, ["2026-11-21"], {}]),
        ("moment", [0, 1.5, True, {}]),
        ("time", [830, True]),
        ("number", [1.0, True, False, [1], {}]),
        ("letter", [1.0, True, ["a"], {}]),
        ("several", [1, "1", True, {"1": 1}, [True], [1.0], [[1]], [None]]),
    ],
)
def test_SUP_07_a_member_of_another_type_is_refused(field: str, values: list[Any]) -> None:
    """Each class of field refuses every other JSON type, with the field's name and ``invalid_type``."""
    found = [_codes(_json, EveryField, {field: value}) for value in values]

    assert found == [{field: "invalid_type"}] * len(values)


def test_every_wrong_type_is_named_at_once() -> None:
    """One refusal names all members of the wrong type."""
    found = _codes(_json, EveryField, {"text": 1, "flag": "yes", "several": 3, "count": 3})

    assert found == {"text": "invalid_type", "flag": "invalid_type", "several": "invalid_type"}


@pytest.mark.parametrize("field", [field.name for field in EveryField()])
def test_null_is_absent(field: str) -> None:
    """A null leaves a field as it is when nothing was sent."""
    absent, null = _json(EveryField, {}), _json(EveryField, {field: None})

    assert null[field].data == absent[field].data


def test_unknown_members_are_ignored() -> None:
    """Members without a field change nothing, whatever they hold."""
    form = _json(EveryField, {"text": "a", "is_admin": True, "__class__": [], "data": {"x": 1}, "\ud800": "\0"})

    assert form.text.data == "a"


class DefaultsForm(Form):
    """Fields that hold something when nothing was sent."""

    flag = BooleanField(default=True)
    text = StringField(default="abc")
    count = IntegerField(default=7)
    day = DateField(default=datetime.date(2026, 11, 21))
    number = SelectField(coerce=int, choices=_choices(1, 2), default=2)
    several = SelectMultipleField(coerce=int, choices=_choices(1, 2), default=[1, 2])


@pytest.mark.parametrize("data", [{}, dict.fromkeys(["flag", "text", "count", "day", "number", "several"])])
def test_what_json_leaves_out_has_its_default(data: dict[str, Any]) -> None:
    """A member that is absent or null leaves its field at the default, also a Boolean and a list."""
    form = _json(DefaultsForm, data)

    assert form.data == {
        "flag": True,
        "text": "abc",
        "count": 7,
        "day": datetime.date(2026, 11, 21),
        "number": 2,
        "several": [1, 2],
    }


def test_what_json_says_wins_over_the_default() -> None:
    """False and an empty list are said, and no absence."""
    form = _json(DefaultsForm, {"flag": False, "several": [], "text": "", "count": 0})

    assert (form.flag.data, form.several.data, form.text.data, form.count.data) == (False, [], "", 0)


@pytest.mark.parametrize("default", [True, False])
def test_remember_has_the_default_of_the_settings(default: bool) -> None:
    """A JSON login that does not say ``remember`` gets what REMEMBER_DEFAULT says."""
    meta = {**META, "defaults": {"remember": default}}
    said = {"email": EMAIL, "password": PASSWORD}

    found = [from_json(LoginForm, {**said, **more}, meta).remember.data for more in ({}, {"remember": not default})]

    assert found == [default, not default]


def test_a_value_of_the_address_wins() -> None:
    """A token in the URL is not replaced by one in the body, in either format."""
    found = [
        _json(VerifyForm, {"token": "body"}, token="url").token.data,
        _browser(VerifyForm, {"token": "body"}, token="url").token.data,
    ]

    assert found == ["url", "url"]


# Values that no field can keep.


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("price", float("inf")),
        ("price", float("nan")),
        ("ratio", float("inf")),
        ("ratio", float("-inf")),
        ("ratio", float("nan")),
        ("day", "2026-13-45"),
        ("day", "21.11.2026"),
        ("moment", "now"),
        ("time", "25:00"),
        ("number", 3),
        ("number", 0),
        ("number", "x"),
        ("letter", "c"),
        ("letter", 1),
        ("several", [1, 4]),
        ("several", ["x"]),
    ],
)
def test_a_value_that_cannot_be_kept_is_invalid(field: str, value: Any) -> None:
    """A value of the right type that is no number, no date or no choice is refused as ``invalid``."""
    assert _codes(_json, EveryField, {field: value}) == {field: "invalid"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", "x"),
        ("count", "1.5"),
        ("price", "x"),
        ("price", "Infinity"),
        ("price", "NaN"),
        ("ratio", "inf"),
        ("ratio", "nan"),
        ("day", "x"),
        ("number", "3"),
    ],
)
def test_a_browsers_text_that_is_no_value_is_invalid(field: str, value: str) -> None:
    """What a person types into a field of another kind is ``invalid``, and not merely missing."""
    assert _codes(_browser, EveryField, {field: value}) == {field: "invalid"}


class StrictForm(Form):
    """Fields that an app requires, with its own bounds."""

    name = StringField(validators=[DataRequired(), Length(max=5)])
    count = IntegerField(validators=[InputRequired(), NumberRange(1, 9)])
    number = SelectField(coerce=int, choices=_choices(1))


@pytest.mark.parametrize("fill", [_json, _browser])
def test_what_is_missing_is_required(fill: Any) -> None:
    """A field that the app requires and that was not sent, or sent empty, is ``required``."""
    empty = {"name": ""} if fill is _json else {"name": "", "count": "", "number": ""}

    assert _codes(fill, StrictForm, {}) == dict.fromkeys(["name", "count", "number"], "required")
    assert _codes(fill, StrictForm, empty) == dict.fromkeys(["name", "count", "number"], "required")


@pytest.mark.parametrize(("fill", "count", "number"), [(_json, 0, 0), (_browser, "0", "0")])
def test_what_breaks_an_apps_rule_is_invalid(fill: Any, count: Any, number: Any) -> None:
    """A value that was sent and breaks a validator of the app is ``invalid``, with the validator's words."""
    with pytest.raises(Refusal) as found:
        fill(StrictForm, {"name": "too long", "count": count, "number": number})

    assert {fault.field: (fault.code, fault.detail) for fault in found.value.fields} == {
        "name": ("invalid", "Field cannot be longer than 5 characters."),
        "count": ("invalid", "Number must be between 1 and 9."),
        "number": ("invalid", "Not a valid choice."),
    }


@pytest.mark.parametrize("field", ["text", "area"])
@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x\udfff"])
@pytest.mark.parametrize("fill", [_json, _browser])
def test_a_character_that_no_database_keeps_is_refused(fill: Any, text: str, field: str) -> None:
    """NUL and lone surrogates in text are ``invalid``, in either format."""
    assert _codes(fill, EveryField, {field: text}) == {field: "invalid"}


def test_an_open_choice_is_text_too() -> None:
    """A select field that takes whatever is sent refuses what no database keeps."""

    class OpenForm(Form):
        city = SelectField(choices=[], validate_choice=False)

    assert _codes(_json, OpenForm, {"city": "a\0b"}) == {"city": "invalid"}


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "👩‍🚀 \u202e", "é"])
def test_a_password_may_hold_any_character(text: str) -> None:
    """A password that is only compared is taken as it is."""
    form = _json(LoginForm, {"email": EMAIL, "password": text})

    assert form.password.data == text


def test_a_new_password_holds_no_lone_surrogate() -> None:
    """A new password with half a character is refused by the rules, and with NUL it is not."""
    found = _codes(_json, SignupForm, {"email": EMAIL, "password": "\ud800" * 12})
    form = _json(SignupForm, {"email": EMAIL, "password": "correct\0horse battery"})

    assert found == {"password": "invalid"}
    assert form.password.data == "correct\0horse battery"


# A browser's form.


def test_SUP_07_a_repeated_field_is_refused() -> None:
    """A field that takes one value and was sent twice is refused, even with the same value."""
    pairs = [("email", EMAIL), ("email", "eve@example.com"), ("password", PASSWORD), ("password", PASSWORD)]

    assert _codes(_browser, SignupForm, pairs) == {"email": "invalid_type", "password": "invalid_type"}


def test_several_values_are_what_a_multiple_choice_takes() -> None:
    """A multiple choice takes as many values as were ticked, and none when none was."""
    found = [_browser(EveryField, pairs).several.data for pairs in ([("several", "1"), ("several", "3")], [])]

    assert found == [[1, 3], []]


def test_a_box_that_is_not_ticked_is_false() -> None:
    """A browser leaves an empty box out: it is False there, whatever its default."""
    assert _browser(DefaultsForm, {}).flag.data is False


def test_unknown_fields_of_a_browser_are_ignored() -> None:
    """Fields that the form does not have, such as the token against forgery, may come, even twice."""
    form = _browser(EveryField, [("text", "a"), ("csrf_token", "x"), ("csrf_token", "y")])

    assert form.text.data == "a"


# Our own fields.


@pytest.mark.parametrize("fill", [_json, _browser])
@pytest.mark.parametrize(
    ("email", "code"),
    [
        ("", "required"),
        ("  ", "required"),
        (None, "required"),
        ("x", "invalid_email"),
        ("a@b@c.de", "invalid_email"),
        ("v\u0131c@example.com", "invalid_email"),
        ("vic@example.com\0", "invalid"),
        ("x" * 300 + "@example.com", "invalid_email"),
    ],
)
def test_an_address_is_checked(fill: Any, email: str | None, code: str) -> None:
    """An address is required and must be one; the refusal says which."""
    data = {"password": PASSWORD} if email is None else {"password": PASSWORD, "email": email}

    assert _codes(fill, SignupForm, data) == {"email": code}


def test_a_checked_address_is_canonical() -> None:
    """After the check the address is there in both forms, and before it there is none."""
    form = from_json(SignupForm, {"email": " Vic@EXAMPLE.com ", "password": PASSWORD}, META)
    with pytest.raises(RuntimeError, match="check the form"):
        _ = form.email.address

    check(form)

    assert form.email.address == Address("Vic@example.com", EMAIL)


def test_addresses_of_development_are_a_setting() -> None:
    """``dev@local`` is an address only where EMAIL_ALLOW_SPECIAL says so."""
    data = {"email": "dev@local", "password": PASSWORD}
    form = from_json(SignupForm, data, {**META, "allow_special": True})
    check(form)

    assert form.email.address.key == "dev@local"
    assert _codes(_json, SignupForm, data) == {"email": "invalid_email"}


@pytest.mark.parametrize(
    ("password", "code", "params"),
    [
        (None, "required", {}),
        ("", "required", {}),
        ("short", "too_short", {"min": 12}),
        ("x" * 300, "too_long", {"max": 256}),
        ("aaaaaaaaaaaaaa", "too_common", {}),
        (EMAIL, "contains_email", {}),
    ],
)
def test_a_new_password_is_checked(password: str | None, code: str, params: dict[str, int]) -> None:
    """A refused password carries the rule's code, words and numbers."""
    with pytest.raises(Refusal) as found:
        _json(SignupForm, {"email": EMAIL, "password": password})

    (fault,) = found.value.fields
    assert (fault.field, fault.code, dict(fault.params)) == ("password", code, params)
    assert fault.detail.endswith(".")


def test_an_old_password_is_only_required() -> None:
    """A password that no rule would allow may still be tried; an empty one is missing."""
    form = _json(LoginForm, {"email": EMAIL, "password": "x"})

    assert form.password.text == "x"
    assert _codes(_json, LoginForm, {"email": EMAIL, "password": ""}) == {"password": "required"}


@pytest.mark.parametrize(
    ("form_class", "field"), [(VerifyForm, "token"), (ResetForm, "token"), (RefreshForm, "refresh_token")]
)
def test_a_token_is_required(form_class: type[Form], field: str) -> None:
    """Whatever is done by a token needs one."""
    assert _codes(_json, form_class, {"password": PASSWORD}) == {field: "required"}


def test_what_is_voluntary_may_be_left_out() -> None:
    """A logout needs no token, a confirmation no password, and an operator's account none either."""
    forms = [
        _json(LogoutForm, {}),
        _json(VerifyForm, {"token": "x"}),
        _json(CreateUserForm, {"email": EMAIL}),
    ]

    assert [forms[0].refresh_token.text, forms[1].password.text, forms[2].password.text] == ["", "", ""]


def test_a_voluntary_password_obeys_the_rules_when_it_is_there() -> None:
    """A password that need not be given is checked once it is."""
    assert _codes(_json, VerifyForm, {"token": "x", "password": "short"}) == {"password": "too_short"}


@pytest.mark.parametrize("fill", [_json, _browser])
def test_a_link_stands_in_for_the_address(fill: Any) -> None:
    """Who asks by a link needs no address, and an address beside it is not looked at."""
    form = fill(AskForm, {"token": "x", "email": "no address"})

    assert (form.token.data, form.email.data) == ("x", None)
    assert _codes(fill, AskForm, {}) == {"email": "required"}


@pytest.mark.parametrize(("transport", "kept"), [(None, "bearer"), ("bearer", "bearer"), ("cookie", "cookie")])
def test_a_program_says_how_it_wants_to_be_logged_in(transport: str | None, kept: str) -> None:
    """A login by JSON is by bearer token unless it asks for a cookie."""
    form = _json(BearerLoginForm, {"email": EMAIL, "password": "x", "transport": transport})

    assert form.transport.data == kept


@pytest.mark.parametrize(("transport", "code"), [("pigeon", "invalid"), (1, "invalid_type"), (True, "invalid_type")])
def test_another_transport_is_refused(transport: Any, code: str) -> None:
    """A login by JSON knows two ways and no third."""
    found = _codes(_json, BearerLoginForm, {"email": EMAIL, "password": "x", "transport": transport})

    assert found == {"transport": code}


# Faults.


def test_every_fault_is_named_at_once() -> None:
    """One refusal names all faulty fields, in the order of the form."""
    found = _codes(_json, SignupForm, {"email": "x", "password": "short", "next": "\0"})

    assert list(found.items()) == [("email", "invalid_email"), ("password", "too_short"), ("next", "invalid")]


def test_a_faultless_form_yields_no_faults() -> None:
    """A form that was found valid has nothing to tell."""
    form = _json(LoginForm, {"email": EMAIL, "password": "x"})

    assert list(faults(form)) == []


def test_a_refusal_puts_its_faults_on_the_form() -> None:
    """A fault that a flow finds is shown at its field, once; one of a field that is not there is only told."""
    form = from_json(LoginForm, {"email": EMAIL, "password": "x"}, META)
    found = [FieldFault("email", "invalid", "Not this one."), FieldFault("seat", "invalid", "Taken.")]

    refused(form, found)
    refusal = refused(form, found)

    assert list(form.email.errors) == ["Not this one."]
    assert [(error.code, dict(error.params)) for error in form.email.errors] == [("invalid", {})]
    assert refusal.fields == tuple(found)


# What a program needs to draw a form.


def test_a_form_describes_its_fields() -> None:
    """Each field is described by name, label and kind; tokens and the wanted page are not."""

    class WideForm(SignupForm):
        age = IntegerField("Age")
        price = DecimalField("Price")
        ratio = FloatField("Ratio")
        born = DateField("Born")
        seen = DateTimeLocalField("Seen")
        newsletter = BooleanField("News")
        name = StringField("Name")
        token = HiddenField()

    assert [(row["name"], row["label"], row["type"]) for row in describe(WideForm, META)] == [
        ("email", "Email", "email"),
        ("password", "Password", "password"),
        ("age", "Age", "number"),
        ("price", "Price", "number"),
        ("ratio", "Ratio", "number"),
        ("born", "Born", "date"),
        ("seen", "Seen", "date"),
        ("newsletter", "News", "boolean"),
        ("name", "Name", "string"),
    ]


def test_an_address_and_a_password_may_stand_in_any_form() -> None:
    """Our fields work in a form of the app's own that has no address beside the password."""

    class OwnForm(Form):
        pin = NewPasswordField(validators=[Voluntary()])
        contact = AddressField()

    form = _json(OwnForm, {"contact": EMAIL, "pin": PASSWORD})

    assert (form.contact.address.key, form.pin.text) == (EMAIL, PASSWORD)


# The fields of the app's own form.


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Services whose app asks for name, age, birthday, funds and newsletter."""
    bench = Bench(sa.create_engine(f"sqlite:///{tmp_path / 'bench.db'}"))
    yield bench
    bench.close()


@pytest.mark.filterwarnings("ignore:Dialect sqlite.pysqlite does .not. support Decimal")
def test_the_apps_fields_fill_its_columns_when_the_address_is_confirmed(bench: Bench) -> None:
    """Text, number, date, decimal and Boolean stand in the attempt as JSON and in the account as what they are."""
    bench.signup(name="Éva", age=44, born="1982-02-28", funds=12.5, newsletter=False)
    kept = bench.rows("token")[0].payload["fields"]

    bench.verify(bench.token)

    account = bench.account()
    assert kept == {"name": "Éva", "age": 44, "born": "1982-02-28", "funds": "12.5", "newsletter": False}
    assert (account.name, account.age, account.born) == ("Éva", 44, datetime.date(1982, 2, 28))
    assert (account.funds, account.newsletter) == (Decimal("12.50"), False)


@pytest.mark.filterwarnings("ignore:Dialect sqlite.pysqlite does .not. support Decimal")
def test_the_fields_are_those_of_the_sign_up_that_is_confirmed(bench: Bench) -> None:
    """Of two sign-ups of one browser the confirmed one fills the columns, also with what it left empty."""
    bench.signup(name="First", age=1, born="1982-02-28", funds=1, newsletter=True)
    bench.clock.tick(61)
    bench.signup(name="Second", newsletter=False)

    bench.verify(bench.token, DEVICE)

    account = bench.account()
    assert (account.name, account.age, account.born, account.funds) == ("Second", None, None, None)
    assert account.newsletter is False


def test_a_sign_up_without_the_apps_fields_has_their_defaults(bench: Bench) -> None:
    """A JSON sign-up that leaves the app's fields out gets the default of the Boolean, and nothing else."""
    bench.signup()

    fields = bench.rows("token")[0].payload["fields"]
    assert fields == {"name": None, "age": None, "born": None, "funds": None, "newsletter": True}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"name": "x" * 65}, "too_long"),
        ({"name": 5}, "invalid_type"),
        ({"name": "\0"}, "invalid"),
        ({"age": 2**31}, "invalid"),
        ({"age": -(10**30)}, "invalid"),
        ({"age": "44"}, "invalid_type"),
        ({"born": "1982-02-30"}, "invalid"),
        ({"funds": float("inf")}, "invalid"),
        ({"funds": float("nan")}, "invalid"),
        ({"funds": 1e30}, "invalid"),
        ({"newsletter": "no"}, "invalid_type"),
    ],
)
def test_a_value_that_does_not_fit_its_column_is_refused(bench: Bench, fields: dict[str, Any], code: str) -> None:
    """What no column of the app can hold is named at its field, before anything is hashed or written."""
    with pytest.raises(Refusal) as found:
        bench.signup(**fields)

    assert {fault.field: fault.code for fault in found.value.fields} == dict.fromkeys(fields, code)
    assert bench.rows("user") == []
    assert bench.hasher.work == 0


def test_host_values_can_be_kept_as_json() -> None:
    """Dates, times and decimals are kept as text, everything else as it is."""
    form = _json(
        EveryField,
        {"day": "2026-11-21", "time": "08:30", "moment": "2026-11-21T08:30", "price": 0.1, "several": [1]},
    )

    assert host_values(form, ("day", "time", "moment", "price", "several", "text")) == {
        "day": "2026-11-21",
        "time": "08:30:00",
        "moment": "2026-11-21T08:30:00",
        "price": "0.1",
        "several": [1],
        "text": None,
    }


def test_a_number_may_have_as_many_digits_as_its_column(bench: Bench) -> None:
    """A column of eight digits before the point and two after takes the largest number of them."""
    bench.signup(funds=99999999.99, age=2**31 - 1)

    assert bench.rows("token")[0].payload["fields"]["funds"] == "99999999.99"


class Shout(sa.TypeDecorator[str]):
    """Text of a kind that only the app knows."""

    impl = sa.String(20)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else value.upper()


class OwnBase(DeclarativeBase):
    """Models of an app with types of its own."""


class OwnUser(UserMixin, OwnBase):
    """An account with columns of types that say little of themselves."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    motto: Mapped[str | None] = mapped_column(Shout())
    wishes: Mapped[Any] = mapped_column(sa.JSON, nullable=True)
    plan: Mapped[str | None] = mapped_column(sa.Enum("free", "paid"))
    invited_by: Mapped[uuid.UUID | None]
    wakes_at: Mapped[datetime.time | None]
    seen_at: Mapped[datetime.datetime | None]
    weight: Mapped[float | None]
    share: Mapped[Decimal | None] = mapped_column(sa.Numeric(2, 2))


@pytest.fixture
def accounts() -> Accounts:
    """What knows the columns of that model; no database is asked."""
    return Accounts(None, OwnUser, sa.inspect(OwnUser), models.build(OwnUser))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "kept", "typed"),
    [
        ("motto", "aloud", "aloud"),
        ("wishes", "a pony", "a pony"),
        ("wishes", ["a", "b"], ["a", "b"]),
        ("plan", "paid", "paid"),
        ("invited_by", "00000000000000000000000000000007", uuid.UUID(int=7)),
        ("wakes_at", "07:30:00", datetime.time(7, 30)),
        ("seen_at", "2026-11-21T08:30:00", datetime.datetime(2026, 11, 21, 8, 30)),
        ("weight", "1.5", 1.5),
        ("weight", None, None),
        ("is_admin", True, None),
        ("no_column", "x", None),
    ],
)
def test_json_becomes_what_the_column_wants(accounts: Accounts, name: str, kept: Any, typed: Any) -> None:
    """Text that JSON kept is parsed for columns of a known kind, and left alone for all others."""
    found = accounts.typed({name: kept})

    assert found == ({} if name in {"is_admin", "no_column"} else {name: typed})
    assert type(found.get(name)) is type(typed)


@pytest.mark.parametrize(
    ("share", "fits"), [("0", True), ("0.5", True), (0.5, True), (None, True), ("1", False), ("-1.5", False)]
)
def test_a_share_has_no_digit_before_its_point(accounts: Accounts, share: Any, fits: bool) -> None:
    """A column without digits before the point takes nothing that has one, and zero has none."""
    assert list(accounts.misfits({"share": share})) == (
        [] if fits else [FieldFault("share", "invalid", "This number is too large.")]
    )
