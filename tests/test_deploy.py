"""The files for deployment: valid by the specification, complete, closed to strangers, and without secrets."""

from __future__ import annotations

import copy
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from compose import DEPLOY, GIVEN, example_variables, files, filled_in, read, services, variables

from example_app import create_app
from example_app.models import db
from flask_accountflow.settings import declarations

ROOT = DEPLOY.parent
PRODUCTION, DEVELOPMENT = DEPLOY / "compose.production.yaml", DEPLOY / "compose.development.yaml"
#: What the example app reads beside ACCOUNTFLOW_ keys: Flask's, Flask-SQLAlchemy's, Flask-Mail's and its own.
OTHER_KEYS = {
    "DEBUG",
    "SECRET_KEY",
    "SQLALCHEMY_DATABASE_URI",
    "CELERY",
    "TRUSTED_PROXIES",
    "MAIL_SERVER",
    "MAIL_PORT",
    "MAIL_USE_TLS",
    "MAIL_USERNAME",
    "MAIL_PASSWORD",
    "MAIL_DEFAULT_SENDER",
}

each_file = pytest.mark.parametrize("path", files(), ids=lambda path: path.name.split(".")[1])
each_of_ours = pytest.mark.parametrize("path", [PRODUCTION, DEVELOPMENT], ids=["production", "development"])


def faults(data: Any) -> list[str]:
    """Return what the Compose specification says against a file."""
    schema = json.loads((ROOT / "tests" / "schemas" / "compose-spec.json").read_text(encoding="utf-8"))
    # The project's name is younger than this copy of the schema, which is closed; everything else must be in it.
    checked = {key: value for key, value in data.items() if key != "name"}
    return [error.message for error in jsonschema.Draft201909Validator(schema).iter_errors(checked)]


@each_file
def test_a_compose_file_is_valid(path: Path) -> None:
    """Every compose file is one by the specification."""
    assert faults(read(path)) == []


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        (("services", "web", "comand"), "gunicorn"),
        (("services", "web", "ports"), "8000"),
        (("services", "web", "depends_on", "redis", "condition"), "service_well"),
        (("services", "web", "healthcheck", "retry"), 3),
        (("service",), {}),
    ],
)
def test_a_planted_fault_is_found(where: tuple[str, ...], wrong: Any) -> None:
    """The check of compose files finds a misspelt key and a wrong value."""
    data = copy.deepcopy(read(PRODUCTION))
    part = data
    for name in where[:-1]:
        part = part[name]
    part[where[-1]] = wrong

    assert faults(data)


@each_file
def test_what_a_file_names_is_there(path: Path) -> None:
    """Every file, folder, volume and service that a compose file names exists."""
    data = read(path)
    for service in services(path).values():
        if service.is_ours:
            assert (DEPLOY / service.data["build"]["context"] / service.data["build"]["dockerfile"]).is_file()
        for volume in service.data.get("volumes", ()):
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in data["volumes"]
        assert set(service.needs) <= set(data["services"])


@each_file
def test_who_is_waited_for_can_tell(path: Path) -> None:
    """A service that others wait for until it is healthy has a health check, and one that must complete ends."""
    found = services(path)
    for service in found.values():
        for name, condition in service.needs.items():
            if condition == "service_healthy":
                assert "healthcheck" in found[name].data
            elif condition == "service_completed_successfully":
                assert found[name].data["restart"] == "no"


@each_file
def test_strangers_reach_nothing_but_the_front(path: Path) -> None:
    """Every port is bound to the loopback address, except that of the server that is meant for the public."""
    for service in services(path).values():
        for port in service.data.get("ports", ()):
            assert port.startswith("127.0.0.1:") or service.name == "front"


@each_of_ours
def test_every_key_is_a_setting(path: Path) -> None:
    """Every ``FLASK_`` variable of the example app is a key that something reads."""
    known = {one.key for one in declarations()} | OTHER_KEYS

    given = {key for service in services(path).values() if service.is_ours for key in service.environment}

    assert {key.removeprefix("FLASK_") for key in given} <= known
    assert all(key.startswith("FLASK_") for key in given)


APPS = [
    (path, service.name)
    for path in (PRODUCTION, DEVELOPMENT)
    for service in services(path, GIVEN).values()
    if service.is_ours and service.environment
]


@pytest.fixture
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FLASK_")]:
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("_clean_environment")
@pytest.mark.parametrize(("path", "name"), APPS, ids=[f"{path.name.split('.')[1]}-{name}" for path, name in APPS])
def test_the_environment_is_a_configuration(path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the environment of each of its services the example app starts, and outside debug that means fit for use."""
    for key, value in services(path, GIVEN)[name].environment.items():
        monkeypatch.setenv(key, value)

    app = create_app()

    assert app.debug is (path == DEVELOPMENT)
    assert app.config["MAIL_SERVER"] == "mail"
    with app.app_context():
        db.engine.dispose()


def test_secrets_come_from_outside() -> None:
    """A secret is required, has no default, and is empty in the example of an environment file."""
    found = variables(read(PRODUCTION)["services"])
    example = example_variables()

    assert {kind for _, kind in found} == {"?"}
    assert {name for name, _ in found} == set(example)
    assert {name for name, value in example.items() if not value} == {
        name for name in example if name.endswith(("_KEY", "_PASSWORD"))
    }


@pytest.mark.parametrize("name", GIVEN)
def test_without_a_variable_nothing_starts(name: str) -> None:
    """Each variable that is missing stops Compose before it starts anything."""
    given = {key: value for key, value in GIVEN.items() if key != name}

    with pytest.raises(KeyError, match=name):
        filled_in(read(PRODUCTION)["services"], given)


def test_the_two_web_servers_and_their_helpers() -> None:
    """Production has two web servers, a worker, one beat, and a migration that comes before them."""
    found = services(PRODUCTION)

    assert found["web"].data["deploy"]["replicas"] == 2
    assert "replicas" not in str(found["beat"].data)
    for name in ("web", "worker", "beat"):
        assert found[name].needs["migrate"] == "service_completed_successfully"


def test_a_worker_may_finish_the_mail_in_hand() -> None:
    """Compose lets a worker take longer to end than one mail may take."""
    grace: str = services(PRODUCTION)["worker"].data["stop_grace_period"]

    assert int(grace.removesuffix("s")) > 30


# The image.


def _instructions() -> Iterator[tuple[str, str]]:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            yield word, rest


def _copied() -> list[tuple[str, str]]:
    """Return each source that the Dockerfile copies, with where it goes."""
    return [
        (source, words[-1])
        for word, rest in _instructions()
        if word == "COPY"
        for words in [rest.split()]
        for source in words[:-1]
    ]


def test_the_image_does_not_run_as_root() -> None:
    """The image's processes run as a user who is not root."""
    users = [rest for word, rest in _instructions() if word == "USER"]

    assert users == ["app"]
    assert any("useradd" in rest and "--uid 10001" in rest for word, rest in _instructions() if word == "RUN")


def test_the_context_has_what_is_copied_and_no_more() -> None:
    """What the Dockerfile copies is let through to it; tests, databases and a filled in environment file are not."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    let_through = {rule[1:] for rule in rules if rule.startswith("!")}
    ignored = [rule for rule in rules if not rule.startswith("!")]

    assert rules[0] == "*"
    assert let_through == {source for source, _ in _copied()}
    assert all((ROOT / source).exists() for source in let_through)
    assert any(fnmatch.fnmatch("example_app/instance/example.db", rule) for rule in ignored[1:])


@pytest.mark.slow
def test_the_image_is_built_from_what_is_copied(tmp_path: Path) -> None:
    """What the Dockerfile copies is enough to build the package with all its files."""
    for source, target in _copied():
        if target.startswith("/tmp/source"):
            place = tmp_path / "source" / target.removeprefix("/tmp/source").strip("/")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.mkdir(exist_ok=True)
                shutil.copy(ROOT / source, place)

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            str(tmp_path),
            str(tmp_path / "source"),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "flask_accountflow/templates/accountflow/login.html" in done.stdout
    assert list(tmp_path.glob("*.whl"))


def test_the_image_has_the_extras_that_the_services_need() -> None:
    """The image has the drivers and clients that the environment of its services asks for."""
    [extras] = [re.search(r"\[([a-z,]+)\]", rest) for _, rest in _instructions() if "pip install" in rest]
    environment = services(PRODUCTION)["web"].environment

    assert extras is not None
    assert environment["FLASK_SQLALCHEMY_DATABASE_URI"].startswith("postgresql+psycopg:")
    assert "redis://" in environment["FLASK_CELERY"]
    assert set(extras[1].split(",")) == {"postgresql", "redis", "celery"}


def test_the_commands_are_of_the_image() -> None:
    """Every service of ours starts a program that the image has."""
    found = [one for path in (PRODUCTION, DEVELOPMENT) for one in services(path, GIVEN).values() if one.is_ours]

    assert {one.command[0] for one in found} == {"gunicorn", "celery", "flask", "certificates.sh", "sh"}
