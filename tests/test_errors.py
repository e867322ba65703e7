"""The tree of exceptions, and the closed lists of codes."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_accountflow import errors
from flask_accountflow.errors import (
    BAD_TOKEN,
    PROBLEMS,
    AccountFlowError,
    ConfigError,
    FieldFault,
    HookCommitted,
    Problem,
    Refusal,
)

PACKAGE = Path(errors.__file__).parent

#: The HTTP contract.
STATUSES = {
    "validation_failed": 422,
    "malformed_body": 400,
    "unsupported_media_type": 415,
    "not_acceptable": 406,
    "invalid_credentials": 401,
    "authentication_required": 401,
    "fresh_login_required": 401,
    "token_invalid": 400,
    "token_expired": 410,
    "token_used": 410,
    "token_superseded": 410,
    "email_unverified": 403,
    "account_disabled": 403,
    "forbidden": 403,
    "signup_closed": 403,
    "csrf_failed": 403,
    "cross_origin_blocked": 403,
    "email_taken": 409,
    "rate_limited": 429,
    "not_found": 404,
    "method_not_allowed": 405,
    "payload_too_large": 413,
    "busy": 503,
    "internal_error": 500,
}
FIELD_CODES = {
    "required",
    "invalid_type",
    "invalid_email",
    "too_short",
    "too_long",
    "too_common",
    "breached",
    "contains_email",
    "incorrect",
    "same_as_old",
    "invalid",
}


def calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls of ``name`` in the package, each with the place where it stands."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                yield f"{path.name}:{node.lineno}", node


def constant(call: ast.Call, position: int) -> Any:
    """Return the argument at a position, when it is written there as text."""
    argument = call.args[position] if len(call.args) > position else None
    return argument.value if isinstance(argument, ast.Constant) else None


def test_tree() -> None:
    """The module's docstring shows every exception below its base."""
    above: list[tuple[int, str]] = []
    drawn: dict[str, str] = {}
    for line in (errors.__doc__ or "").partition(".. code-block:: text")[2].split("\n"):
        found = re.search(r"[A-Z]\w+", line)
        if found is None:
            continue
        above = [(depth, name) for depth, name in above if depth < found.start()]
        drawn[found[0]] = above[-1][1] if above else "Exception"
        above.append((found.start(), found[0]))

    classes = {name: one for name, one in vars(errors).items() if inspect.isclass(one) and issubclass(one, Exception)}

    assert drawn == {name: one.__bases__[0].__name__ for name, one in classes.items()}


def test_config_error_lists_everything() -> None:
    """A ConfigError says each of its faults on a line of its own, and is a ValueError."""
    error = ConfigError(one for one in ("this is wrong.", "that too."))

    assert error.problems == ("this is wrong.", "that too.")
    assert str(error).splitlines()[1:] == ["  - this is wrong.", "  - that too."]
    assert isinstance(error, (AccountFlowError, ValueError))


def test_hook_committed_says_what_to_do() -> None:
    """A hook that committed is told to stop doing so."""
    assert "Remove the commit" in str(HookCommitted())


def test_statuses() -> None:
    """The list of problem codes is that of the HTTP contract, and nobody can change it."""
    assert {code: problem.status for code, problem in PROBLEMS.items()} == STATUSES
    with pytest.raises(TypeError):
        PROBLEMS["busy"] = BAD_TOKEN  # type: ignore[index]


def test_texts_are_sentences() -> None:
    """Every problem has a title and says what to do, without anybody's data in it."""
    for problem in (*PROBLEMS.values(), BAD_TOKEN):
        assert problem.title
        assert problem.detail.endswith(".")
        assert "{" not in problem.title + problem.detail


def test_refusal_is_what_the_list_says() -> None:
    """A refusal has the status and the text of its code, and carries nothing else."""
    refusal = Refusal("busy")

    assert (refusal.code, refusal.status, refusal.title) == ("busy", 503, "We are busy")
    assert refusal.detail == PROBLEMS["busy"].detail
    assert str(refusal) == "We are busy"
    assert (refusal.fields, dict(refusal.extra), dict(refusal.data), refusal.go) == ((), {}, {}, None)


def test_refusal_carries_what_an_answer_needs() -> None:
    """A refusal keeps its fields, its members, its page's data and its destination as they were given."""
    fault = FieldFault("email", "invalid", "No.")
    extra = {"retry_after": 2}

    refusal = Refusal("validation_failed", fields=iter([fault]), extra=extra, data={"email": "x"}, go="login")
    extra["retry_after"] = 9

    assert refusal.fields == (fault,)
    assert dict(refusal.extra) == {"retry_after": 2}
    assert dict(refusal.data) == {"email": "x"}
    assert refusal.go == "login"
    assert dict(fault.params) == {}


@pytest.mark.parametrize(
    ("more", "status", "title"),
    [
        ({"status": 401}, 401, PROBLEMS["token_invalid"].title),
        ({"text": BAD_TOKEN}, 401, BAD_TOKEN.title),
        ({"text": Problem(400, "Other", "Words."), "status": 418}, 418, "Other"),
    ],
)
def test_refusal_in_other_words(more: dict[str, Any], status: int, title: str) -> None:
    """Where the same code means something else, the caller's status and words are used."""
    refusal = Refusal("token_invalid", **more)

    assert (refusal.code, refusal.status, refusal.title) == ("token_invalid", status, title)


def test_refusal_of_no_listed_code() -> None:
    """A code that is not on the list cannot be used."""
    with pytest.raises(KeyError):
        Refusal("no_such_code")


def test_package_refuses_with_listed_codes() -> None:
    """Every code that a flow refuses with is on the list."""
    used = {place: constant(call, 0) for place, call in calls("Refusal")}

    assert len(used) > 20
    assert {place: code for place, code in used.items() if code is not None and code not in STATUSES} == {}


def test_package_marks_fields_with_listed_codes() -> None:
    """Every code that a field is marked with is on the list of the HTTP contract."""
    used = {f"{place} {name}": constant(call, 1) for name in ("Fault", "FieldFault") for place, call in calls(name)}

    assert len(used) > 8
    assert {place: code for place, code in used.items() if code is not None and code not in FIELD_CODES} == {}
