"""The wheel and the source distribution carry what they must, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "flask_accountflow"

pytestmark = pytest.mark.slow

# Run where only the unpacked wheel is to be found.
USES_EVERYTHING = """
import sys
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
import flask_accountflow
from flask_accountflow import AccountFlow, UserMixin

assert flask_accountflow.__file__.startswith(sys.argv[1]), flask_accountflow.__file__
app = Flask("packaged")
app.config.update(
    TESTING=True, SECRET_KEY="a key for this test only", SQLALCHEMY_DATABASE_URI="sqlite://",
    ACCOUNTFLOW_BASE_URL="http://localhost", MAIL_DEFAULT_SENDER="accounts@example.com",
)
db = SQLAlchemy(app)
class User(UserMixin, db.Model): __tablename__ = "users"
AccountFlow(app, db, User)
with app.app_context():
    db.create_all()
page = app.test_client().get("/auth/signup", headers={"Accept": "text/html"})
assert page.status_code == 200, page.status
"""


def _outside() -> dict[str, str]:
    """Return an environment in which neither coverage nor the checkout follows into a subprocess."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("COV", "FLASK_", "PYTHONPATH"))}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with wheel and source distribution, built from a copy so that the checkout stays clean."""
    source = tmp_path_factory.mktemp("build") / "source"
    leave = shutil.ignore_patterns(
        ".git", ".tox", ".venv*", ".cache", ".*_cache", "build", "dist", "_build", "instance", "node_modules",
        "*.egg-info", "__pycache__",
    )  # fmt: skip
    shutil.copytree(ROOT, source, ignore=leave)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(source / "dist"), str(source)],
        check=False,
        capture_output=True,
        text=True,
        env=_outside(),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return source / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    """The wheel, of which there is one."""
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def in_wheel(wheel: Path) -> set[str]:
    """The names of the files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def in_sdist(dist: Path) -> set[str]:
    """The names of the files in the source distribution, without its top folder."""
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """The core metadata of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode())


def _files(folder: Path, *but: str) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in found if not path.name.endswith((*but, ".pyc"))}


def test_the_wheel_carries_the_whole_package(in_wheel: set[str]) -> None:
    """Every module, template and static file of the package is in the wheel, and the mark that it is typed."""
    data = {
        name
        for folder in ("templates", "static", "translations")
        for name in _files(PACKAGE / folder, ".mjml", ".po", ".pot")
    }
    modules = {name for name in _files(PACKAGE) if name.endswith(".py")}

    assert data
    assert in_wheel >= data | modules | {"flask_accountflow/py.typed"}


def test_the_wheel_carries_nothing_else(in_wheel: set[str]) -> None:
    """Tests, documentation, the example app and its migrations stay out of the wheel."""
    tops = {name.partition("/")[0] for name in in_wheel}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"flask_accountflow"}
    assert not [name for name in in_wheel if "migrations" in name or "/tests/" in name or "__pycache__" in name]


def test_the_wheel_is_enough(wheel: Path, tmp_path: Path) -> None:
    """An app with nothing but the wheel's files serves its pages."""
    unpacked, elsewhere = tmp_path / "unpacked", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)

    done = subprocess.run(
        [sys.executable, "-c", USES_EVERYTHING, str(unpacked)],
        check=False,
        capture_output=True,
        text=True,
        cwd=elsewhere,
        env={**_outside(), "PYTHONPATH": str(unpacked)},
    )

    assert done.returncode == 0, done.stderr


def test_the_sdist_carries_all_that_a_contributor_needs(in_sdist: set[str]) -> None:
    """The source distribution can be tested and documented: nothing of the checkout is left behind."""
    alone = {
        ".ci/run", "CHANGES.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "pyproject.toml", "setup.cfg",
        "tox.ini",
    }  # fmt: skip
    folders = (
        _files(PACKAGE)
        | {name for name in _files(ROOT / "docs") if not name.startswith("docs/_build/")}
        | _files(ROOT / "example_app", ".db")
        | _files(ROOT / "tests")
        | _files(ROOT / "tools")
        | _files(ROOT / "deploy")
    )

    assert in_sdist >= alone | folders


def test_the_metadata_say_what_is_needed(metadata: Message) -> None:
    """The metadata name version, licence, Pythons and extras."""
    extras = set(metadata.get_all("Provides-Extra", []))

    assert metadata["Name"] == "flask-accountflow"
    assert metadata["Version"] == "0.1.0"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.10"
    assert extras >= {"dev", "postgresql", "redis", "celery", "i18n", "jwt", "flask-login"}


def test_every_requirement_has_a_floor(metadata: Message) -> None:
    """Every requirement names the lowest version that it was run with, and none a highest."""
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]

    assert required
    assert all(">=" in line and "<" not in line for line in required)
