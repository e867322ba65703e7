"""Flask-Migrate makes migrations that go up and down, for every shape of user table and on every database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from live_server import ROOT

pytestmark = pytest.mark.slow

#: The env.py that Flask-Migrate writes asks Flask-SQLAlchemy in its old way first.
FOREIGN = "ignore:'get_engine' is deprecated:DeprecationWarning"

#: Runs ``flask`` commands one after another, and says after each which tables there are.
WALK = """
import json
import os
import sys

import sqlalchemy as sa
from flask.cli import cli

engine = sa.create_engine(os.environ["FLASK_SQLALCHEMY_DATABASE_URI"])
for command in sys.argv[2:]:
    if cli.main(["--app", sys.argv[1], *command.split()], standalone_mode=False):
        sys.exit(f"{command} failed")
    print("TABLES", json.dumps(sa.inspect(engine).get_table_names()))
    engine.dispose()
"""

#: A factory, since what Flask-Migrate remembers of a "migrate" would break a "check" of the same app.
HOST = """
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData, String
from sqlalchemy.orm import Mapped, mapped_column

from flask_accountflow import AccountFlow, UserMixin

{models}

def create_app():
    app = Flask(__name__)
    app.config.from_prefixed_env()
    db.init_app(app)
    Migrate(app, db, render_as_batch={batch})
    accounts.init_app(app)
    return app
"""

PLAIN = """
db = SQLAlchemy()


class User(UserMixin, db.Model):
    __tablename__ = "users"


accounts = AccountFlow(db=db, user_model=User)
"""

INTEGERS = """
db = SQLAlchemy()


class Member(UserMixin, db.Model):
    __tablename__ = "shop_members"
    number: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column("mail", String(254))
    name: Mapped[str | None] = mapped_column(String(64))


accounts = AccountFlow(db=db, user_model=Member, table_prefix="shop_")
"""

NAMED = """
convention = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
db = SQLAlchemy(metadata=MetaData(naming_convention=convention))


class User(UserMixin, db.Model):
    __tablename__ = "users"


accounts = AccountFlow(db=db, user_model=User)
"""

OURS = {"accountflow_token", "accountflow_session", "accountflow_mail"}

#: The models of a host, whether it alters tables by making them anew, and the tables that it has.
HOSTS = {
    "plain": (PLAIN, False, {"users", *OURS}),
    "integers": (INTEGERS, False, {"shop_members", "shop_token", "shop_session", "shop_mail"}),
    "named": (NAMED, True, {"users", *OURS}),
}

#: Each "check" ends with an error when something is left to do.
UP_AND_DOWN = ("db upgrade", "db check", "accountflow check", "db downgrade base", "db upgrade", "db check")


def _walk(app: str, uri: str, folder: Path, *commands: str) -> dict[str, set[str]]:
    """Run commands in one process in which warnings are errors; return the tables after the last of each."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLASK_")}
    settings = {"FLASK_SQLALCHEMY_DATABASE_URI": uri, "FLASK_SECRET_KEY": "0123456789abcdef", "FLASK_DEBUG": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", FOREIGN, "-c", WALK, app, *commands],
        cwd=folder,
        env={**environment, **settings, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("No new upgrade operations detected") == commands.count("db check")
    lines = [line.removeprefix("TABLES ") for line in done.stdout.splitlines() if line.startswith("TABLES ")]
    return {command: set(json.loads(line)) for command, line in zip(commands, lines, strict=True)}


@pytest.mark.parametrize(("models", "batch", "expected"), HOSTS.values(), ids=HOSTS)
def test_an_app_makes_its_migrations(
    database_uri: str, tmp_path: Path, models: str, batch: bool, expected: set[str]
) -> None:
    """What ``flask db migrate`` writes goes up, leaves nothing to add, and goes down to nothing, and up again."""
    (tmp_path / "host.py").write_text(HOST.replace("{models}", models).replace("{batch}", str(batch)))

    tables = _walk("host", database_uri, tmp_path, "db init", "db migrate", *UP_AND_DOWN)

    assert len(list((tmp_path / "migrations" / "versions").glob("*.py"))) == 1
    assert tables["db downgrade base"] == {"alembic_version"}
    assert tables["db upgrade"] == {*expected, "alembic_version"}


def test_the_migrations_of_the_example(database_uri: str) -> None:
    """The example's migrations go up, leave nothing to add, and go down to nothing, and up again."""
    tables = _walk("example_app", database_uri, ROOT, *UP_AND_DOWN)

    assert tables["db downgrade base"] == {"alembic_version"}
    assert tables["db upgrade"] == {"users", *OURS, "alembic_version"}
