"""The layers: a file imports only from the rows above it, and Flask begins where HTTP does."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import flask_accountflow

PACKAGE = Path(flask_accountflow.__file__).parent
ROOT = PACKAGE.name

#: The rows from top to bottom. A folder stands for the files in it.
ROWS: tuple[tuple[str, ...], ...] = (
    ("messages", "errors"),
    ("rules", "jwt_keys", "languages", "breaches", "settings", "configuration", "contract"),
    ("identity", "passwords", "tokens", "access_tokens", "link_addresses", "models", "counters", "throttle", "events"),
    ("store",),
    ("mail",),
    ("fields", "forms"),
    ("flow", "redeem"),
    ("flows",),
    ("sessions",),
    ("web", "mail_smtp"),
    ("cli", "contrib"),
    ("engines", "services", "mount", "extension"),
    ("__init__",),
    # For the tests of apps: it needs pytest, which nothing above may.
    ("testing",),
)
#: Flask and what belongs to it may be imported from this row on.
FLASK_FROM = ROWS.index(("sessions",))
FRAMEWORK = {"flask", "flask_mail", "flask_sqlalchemy", "flask_migrate", "flask_login", "flask_wtf"}

#: What a file may import of its own row. The files of these folders may import each other, though not in circles.
FOLDERS = {"store", "mail", "web", "cli"}
NEIGHBOURS: Mapping[str, set[str]] = {
    "errors": {"messages"},
    "languages": {"rules"},
    "settings": {"rules", "jwt_keys", "languages"},
    "configuration": {"settings", "jwt_keys"},
    "contract": {"rules", "settings"},
    "access_tokens": {"tokens"},
    "link_addresses": {"tokens"},
    "models": {"tokens"},
    "throttle": {"counters"},
    "forms": {"fields"},
    "redeem": {"flow"},
    "flows.signup": {"flows.verify"},
    "flows.login": {"flows.verify"},
    "flows.reset": {"flows.verify"},
    "flows.change_password": {"flows.fresh", "flows.reset"},
    "flows.change_email": {"flows.fresh", "flows.verify", "flows.reset", "flows.me"},
    "flows.admin": {"flows.verify", "flows.reset", "flows.me"},
    "services": {"engines"},
    "mount": {"engines", "services"},
    "extension": {"mount", "services"},
}


def sources() -> dict[str, str]:
    """Return the source of every file of the package, by its name within it: ``store.unit``, ``flows``."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = path.read_text()
    return found


def row_of(name: str) -> int | None:
    """Return the row of a file, counted from 0."""
    return next((number for number, row in enumerate(ROWS) if name.partition(".")[0] in row), None)


class Imports(ast.NodeVisitor):
    """What one file imports: of the package, and of others."""

    def __init__(self, name: str, known: Mapping[str, str]) -> None:
        self.own: list[str] = []
        self.others: set[str] = set()
        self.late: list[str] = []
        self._known = known
        self._depth = 0
        is_folder = name == "__init__" or any(other.startswith(f"{name}.") for other in known)
        self._here = [part for part in name.split(".") if part != "__init__"]
        if not is_folder:
            self._here.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._note(alias.name.split("."))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module.split(".") if node.module else []
        if node.level:
            module = [ROOT, *self._here[: len(self._here) - node.level + 1], *module]
        for alias in node.names:
            self._note([*module, alias.name])

    def _note(self, parts: list[str]) -> None:
        if parts[0] != ROOT:
            self.others.add(parts[0])
            return
        # The longest name that is a file; what is left is a name within it.
        names = [".".join(parts[1:end]) for end in range(len(parts), 1, -1)]
        target = next((name for name in names if name in self._known), "__init__")
        self.own.append(target)
        if self._depth:
            self.late.append(target)


def read(files: Mapping[str, str]) -> dict[str, Imports]:
    """Return the imports of all files."""
    found = {}
    for name, source in files.items():
        found[name] = Imports(name, files)
        found[name].visit(ast.parse(source))
    return found


def faults(files: Mapping[str, str]) -> list[str]:
    """Return every import that the table does not allow."""
    imports = read(files)
    return [*(fault for name in files for fault in _faults(name, imports[name])), *_circles(imports)]


def _faults(name: str, imports: Imports) -> Iterator[str]:
    row = row_of(name)
    if row is None:
        yield f"{name} has no row"
        return
    yield from (f"{name} imports {target} inside a function" for target in imports.late)
    for target in imports.own:
        if target == "__init__":
            yield f"{name} imports the root package"
        elif not _may_import(name, target):
            yield f"{name} imports {target}"
    if row < FLASK_FROM:
        yield from (f"{name} imports {other}" for other in sorted(imports.others & FRAMEWORK))


def _may_import(name: str, target: str) -> bool:
    row, other = row_of(name), row_of(target)
    if row is None or other is None or row != other:
        return row is not None and other is not None and other < row
    folder = name.partition(".")[0]
    is_index = name == folder and target.startswith(f"{folder}.")
    same_folder = folder in FOLDERS and target.partition(".")[0] == folder
    # A file of a folder runs the folder's own __init__ first; naming it would be a circle.
    return is_index or (same_folder and target != folder) or target in NEIGHBOURS.get(name, set())


def _circles(imports: Mapping[str, Imports]) -> Iterator[str]:
    state: dict[str, str] = {}

    def walk(name: str, path: tuple[str, ...]) -> Iterator[str]:
        state[name] = "open"
        for target in imports[name].own:
            if state.get(target) == "open":
                yield " -> ".join((*path[path.index(target) :], target))
            elif target not in state and target in imports:
                yield from walk(target, (*path, target))
        state[name] = "done"

    for name in imports:
        if name not in state:
            yield from walk(name, (name,))


def test_layers() -> None:
    """Every file of the package imports only what its row allows, at its top, and in no circle."""
    files = sources()

    assert len(files) > 40
    assert faults(files) == []


def test_rows_name_files() -> None:
    """Every name in the table is a file or a folder of the package."""
    files = sources()
    imports = read(files)
    named = (
        {name for row in ROWS for name in row} | set(NEIGHBOURS) | {one for some in NEIGHBOURS.values() for one in some}
    )

    assert named - set(files) == set()
    assert {name for name, allowed in NEIGHBOURS.items() if not allowed <= set(imports[name].own)} == set()


def test_http_is_only_where_it_belongs() -> None:
    """The rows from the sessions on do use Flask, so that the check above is not empty."""
    users = {name for name, imports in read(sources()).items() if "flask" in imports.others}

    assert users >= {"sessions", "web.view", "web.pages", "cli.group", "extension"}


#: What gives the connection back before it hashes, and what does not.
_HASHING, _HOLDING = "services.hash(password)", "services.hasher.check(password, stored)"


def bare_hashing(text: str) -> list[str]:
    """Return the calls by which a source hashes, or checks, without giving the connection back first."""
    calls = (ast.unparse(node.func) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return [call for call in calls if call.endswith((".hasher.hash", ".hasher.check"))]


def test_flows_hold_no_connection_while_they_hash() -> None:
    """What the flows know of hashing goes by :class:`.Services`, which releases the connection."""
    found = {name: calls for name, text in sources().items() if (calls := bare_hashing(text))}

    assert found == {"flow": ["self.hasher.hash", "self.hasher.check"]}
    assert bare_hashing(_HASHING) == []
    assert bare_hashing(_HOLDING) == ["services.hasher.check"]


PLANTED = {
    "errors": "",
    "settings": "from .errors import ConfigError",
    "identity": "",
    "tokens": "",
    "models": "from .tokens import random_id",
    "store": "from .accounts import Accounts\nfrom ..models import Tables",
    "store.accounts": "from ..tokens import random_id\nfrom .unit import Units",
    "store.unit": "",
    "flow": "from .store import Store",
    "flows": "from ..flow import Action\nfrom . import verify, reset",
    "flows.verify": "from ..flow import Outcome",
    "flows.reset": "from .verify import accepted",
    "flows.login": "",
    "sessions": "from flask import session",
    "__init__": "from .sessions import current_user",
    "testing": "import pytest\nfrom .sessions import current_user",
}


def test_sound_sources_pass() -> None:
    """The small package that violations are planted in is itself in order."""
    assert faults(PLANTED) == []


@pytest.mark.parametrize(
    ("name", "line", "fault"),
    [
        ("errors", "from .settings import read", "errors imports settings"),
        ("errors", "from . import settings", "errors imports settings"),
        ("errors", "import flask_accountflow.settings", "errors imports settings"),
        ("errors", "from flask_accountflow.settings import read", "errors imports settings"),
        ("identity", "from .tokens import random_id", "identity imports tokens"),
        ("tokens", "from .models import Tables", "tokens imports models"),
        ("store.unit", "from ..flow import Services", "store.unit imports flow"),
        ("store.unit", "from . import Store", "store.unit imports store"),
        ("store.unit", "import flask", "store.unit imports flask"),
        ("store.unit", "from flask.globals import g", "store.unit imports flask"),
        ("flows.verify", "from flask_sqlalchemy import SQLAlchemy", "flows.verify imports flask_sqlalchemy"),
        ("flows.verify", "def run():\n    import flask_mail", "flows.verify imports flask_mail"),
        ("flows.login", "from .reset import queue", "flows.login imports flows.reset"),
        ("flows.login", "from . import reset", "flows.login imports flows.reset"),
        ("flows.login", "from .. import sessions", "flows.login imports sessions"),
        ("sessions", "from . import AccountFlow", "sessions imports the root package"),
        ("sessions", "import flask_accountflow", "sessions imports the root package"),
        ("sessions", "from flask_accountflow import AccountFlow", "sessions imports the root package"),
        ("sessions", "def late():\n    from .errors import Refusal", "sessions imports errors inside a function"),
        ("sessions", "async def late():\n    from . import errors", "sessions imports errors inside a function"),
        ("sessions", "if True:\n    from .extension import x", "sessions imports the root package"),
        ("sessions", "from .testing import outbox", "sessions imports testing"),
        ("__init__", "from .testing import outbox", "__init__ imports testing"),
        ("testing", "from . import current_user", "testing imports the root package"),
        ("helpers", "", "helpers has no row"),
        ("store.unit", "from .accounts import Account", "store.accounts -> store.unit -> store.accounts"),
    ],
)
def test_planted_violation(name: str, line: str, fault: str) -> None:
    """The check finds what does not belong, however it is written."""
    assert fault in faults({**PLANTED, name: f"{PLANTED.get(name, '')}\n{line}"})
