"""JSON schemas of request bodies, read from the forms that the bodies fill."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from wtforms import (
    BooleanField,
    DateField,
    DecimalField,
    Field,
    FloatField,
    Form,
    IntegerField,
    PasswordField,
    SelectField,
    SelectMultipleField,
    StringField,
)
from wtforms.validators import AnyOf, Email, Length, NumberRange, StopValidation, ValidationError

from ..fields import AddressField, NewPasswordField, OldPasswordField, TokenField
from ..forms import from_json, host_values, in_place_of
from ..models import EMAIL_LENGTH

_DATE = "%Y-%m-%d"
#: Long enough for the longest password that can be asked for, and not what anybody guesses first.
_PHRASE = (
    "correct horse battery staple, and then a lantern by the quiet harbour where eleven kites rest; "
    "plums, chalk, seven bells and an owl"
)
_EXAMPLES: Mapping[str, Any] = {"email": "ada@example.com", "date": "2026-11-21", "boolean": True}
#: What is sent for the fields of these classes.
_KINDS: tuple[tuple[Any, Mapping[str, Any]], ...] = (
    (BooleanField, {"type": "boolean"}),
    (AddressField, {"type": "string", "format": "email"}),
    (PasswordField, {"type": "string", "format": "password"}),
    (IntegerField, {"type": "integer"}),
    ((DecimalField, FloatField), {"type": "number"}),
)


class FormSchema:
    """What a JSON body may hold that fills a form.

    ``longest`` returns how many characters the column of a host's field holds. ``fixed`` are the fields that
    the address fills.
    """

    def __init__(
        self,
        form_class: type[Form],
        meta: Mapping[str, Any],
        *,
        fixed: Collection[str] = (),
        longest: Callable[[str], int | None] = lambda name: None,
    ) -> None:
        self._form = from_json(form_class, {}, meta)
        self._longest = longest
        self._fields = [field for field in self._form if field.name not in fixed]
        self._required = {field.name for field in self._fields if _is_required(field, self._form)}
        self._others = {field.name: in_place_of(form_class, meta, field.name) for field in self._fields}
        self._properties = {field.name: self._property(field) for field in self._fields}

    @property
    def has_members(self) -> bool:
        """Whether there is anything to send."""
        return bool(self._fields)

    def has(self, name: str) -> bool:
        """Tell whether there is a member of this name."""
        return name in self._properties

    @property
    def is_required(self) -> bool:
        """Whether something must be sent."""
        return bool(self._required)

    def schema(self) -> dict[str, Any]:
        """Return the schema of the body. Unknown members are ignored, so it forbids none."""
        properties = dict(self._properties)
        for name, others in self._others.items():
            properties |= {other: properties[name] for other in others if other not in properties}
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        alone = [name for name in properties if name in self._required and not self._others[name]]
        choices = [
            {"anyOf": [{"required": [one]} for one in (name, *self._others[name])]}
            for name in properties
            if name in self._required and self._others[name]
        ]
        if alone:
            schema["required"] = alone
        if choices:
            schema["allOf"] = choices
        return schema

    def example(self) -> dict[str, Any]:
        """Return a body with what must be sent, and what else has a default."""
        body = {}
        for field in self._fields:
            schema = self._properties[field.name]
            if field.name in self._required:
                body[field.name] = _example(field, schema)
            elif "default" in schema:
                body[field.name] = schema["default"]
        return body

    def _property(self, field: Field) -> dict[str, Any]:
        schema = {**_kind(field), **dict(self._bounds(field))}
        if field.description:
            schema["description"] = str(field.description)
        if field.name in self._required:
            if isinstance(field, BooleanField):
                schema["const"] = True  # such as terms that must be accepted
            return _or_null(schema) if self._others[field.name] else schema
        default = host_values(self._form, (field.name,))[field.name]
        if default not in (None, "", []) and not isinstance(field, PasswordField):
            schema["default"] = default
        return _or_null(schema)

    def _bounds(self, field: Field) -> Iterator[tuple[str, Any]]:
        """Yield what the validation of a field holds against."""
        if isinstance(field, NewPasswordField):
            policy = self._form.meta.policy
            yield from (("minLength", policy.min_length), ("maxLength", policy.max_length))
        elif isinstance(field, AddressField):
            yield "maxLength", EMAIL_LENGTH
        elif isinstance(field, (OldPasswordField, TokenField)) and field.name in self._required:
            yield "minLength", 1
        elif isinstance(field, (StringField, IntegerField, DecimalField, FloatField)):
            limits = dict(_limits(field.validators))
            longest = self._longest(field.name) if isinstance(field, StringField) else None
            if longest is not None:
                limits["maxLength"] = min(longest, limits.get("maxLength", longest))
            yield from limits.items()


def _is_required(field: Field, form: Form) -> bool:
    """Tell whether it is a fault to leave a field out. What a host has written is not run: it may ask the database."""
    checks: list[Any] = [lambda form, field: field.pre_validate(form)] if _is_known(type(field).pre_validate) else []
    is_faulty, field.errors = False, []  # which some of them empty
    for check in [*checks, *(one for one in field.validators if _is_known(type(one)))]:
        try:
            check(form, field)
        except StopValidation as stop:
            return bool(stop.args and stop.args[0])  # "optional" stops without a word
        except ValidationError:
            is_faulty = True
    return is_faulty


def _is_known(code: Any) -> bool:
    return str(code.__module__).partition(".")[0] in {"wtforms", "flask_accountflow"}


def _kind(field: Field) -> dict[str, Any]:
    if isinstance(field, SelectMultipleField):
        return {"type": "array", "items": _choice(field)}
    if isinstance(field, SelectField):
        return _choice(field)
    if isinstance(field, DateField) and _DATE in field.strptime_format:
        return {"type": "string", "format": "date"}
    return next((dict(schema) for kinds, schema in _KINDS if isinstance(field, kinds)), {"type": "string"})


def _choice(field: Any) -> dict[str, Any]:
    values = [choice[0] for choice in field.iter_choices()] if field.choices and field.validate_choice else []
    values = [value if isinstance(value, int) else str(value) for value in values]
    kinds = sorted({"integer" if isinstance(value, int) else "string" for value in values})
    if not values:
        return {"type": "string"}
    return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": values}


def _limits(validators: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield what WTForms' own validators ask of a value."""
    for one in validators:
        if isinstance(one, (Length, NumberRange)):
            names = ("minLength", "maxLength") if isinstance(one, Length) else ("minimum", "maximum")
            # A length that is not limited is -1, and a number None.
            none = -1 if isinstance(one, Length) else None
            yield from ((name, limit) for name, limit in zip(names, (one.min, one.max), strict=True) if limit != none)
        elif isinstance(one, AnyOf):
            yield "enum", list(one.values)
        elif isinstance(one, Email):
            yield "format", "email"


def _or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a member that may be absent, and ``null`` is absent."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    found = {**schema, "type": [*kinds, "null"]}
    return {**found, "enum": [*schema["enum"], None]} if "enum" in schema else found


def _example(field: Field, schema: Mapping[str, Any]) -> Any:
    """Return a value that the schema allows."""
    kind = schema.get("format", schema["type"])
    if "enum" in schema:
        return schema["enum"][0]
    if kind == "array":
        return [_example(field, schema["items"])]
    if kind in {"integer", "number"}:
        return schema.get("minimum", min(1, schema.get("maximum", 1)))
    if isinstance(field, TokenField):
        return f"the-{field.name.replace('_', '-')}"
    shortest = schema.get("minLength", 0)
    if kind == "password":
        return _PHRASE[: max(shortest, len("correct horse battery staple"))]
    example = _EXAMPLES.get(kind, "Ada")
    return example.ljust(shortest, "a")[: schema.get("maxLength")] if isinstance(example, str) else example
