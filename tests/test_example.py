"""The example app can be made often, is configured by its environment, and refuses what is unfit for production."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request

from example_app import create_app
from example_app.models import User, accounts, db
from flask_accountflow import ConfigError, configuration, settings

ROOT = Path(__file__).resolve().parents[1]
MakeApp = Callable[..., Flask]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FLASK_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def production(tmp_path: Path) -> dict[str, Any]:
    """The least configuration that is fit for production."""
    return {
        "SECRET_KEY": "5f0c7a5d2a0b4d0f8f3e1b7a9c6d4e21",
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'example.db'}",
        "MAIL_DEFAULT_SENDER": "accounts@example.com",
        "ACCOUNTFLOW_BASE_URL": "https://www.example.com",
        "ACCOUNTFLOW_MAIL_KICK": "inline",
        "ACCOUNTFLOW_MAIL_TRANSPORT": "file",
        "ACCOUNTFLOW_MAIL_FILE": str(tmp_path / "mail.txt"),
    }


@pytest.fixture
def make_app() -> Iterator[MakeApp]:
    """``create_app``, whose database connections are closed afterwards."""
    made = []

    def make(config: dict[str, Any] | None = None) -> Flask:
        app = create_app(config)
        made.append(app)
        return app

    yield make
    for app in made:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def app(make_app: MakeApp, production: dict[str, Any]) -> Flask:
    """An app with an empty database."""
    app = make_app(production)
    with app.app_context():
        db.create_all()
    return app


def _flask(*command: str, database_uri: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the example app as a developer would, in debug."""
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "example_app", *command],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "FLASK_DEBUG": "1", "FLASK_SQLALCHEMY_DATABASE_URI": database_uri},
    )


def test_the_factory_runs_often(make_app: MakeApp, production: dict[str, Any]) -> None:
    """Ten apps of one process are ten apps, and each serves its pages."""
    apps = [make_app(production) for _ in range(10)]

    assert len({id(app) for app in apps}) == 10
    assert {app.test_client().get("/auth/login").status_code for app in apps} == {200}


def test_production_is_refused_without_what_it_needs(make_app: MakeApp) -> None:
    """Outside debug, one error names the missing key, base address and sender."""
    with pytest.raises(ConfigError) as caught:
        make_app({"SQLALCHEMY_DATABASE_URI": "sqlite://"})

    for key in ("SECRET_KEY", "ACCOUNTFLOW_BASE_URL", "MAIL_DEFAULT_SENDER"):
        assert any(key in problem for problem in caught.value.problems)


def test_debug_needs_nothing(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """In debug the app starts without any configuration."""
    monkeypatch.setenv("FLASK_DEBUG", "1")

    assert make_app({"SQLALCHEMY_DATABASE_URI": "sqlite://"}).debug


@pytest.mark.parametrize("value", ["no", "false", "0"])
def test_debug_is_off_when_flask_says_so(value: str, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every spelling that Flask takes for "no debug" leaves the example's own key unused."""
    monkeypatch.setenv("FLASK_DEBUG", value)

    with pytest.raises(ConfigError):
        make_app({"SQLALCHEMY_DATABASE_URI": "sqlite://"})


def test_health(app: Flask) -> None:
    """A load balancer hears that all is well."""
    answer = app.test_client().get("/healthz")

    assert answer.status_code == 200
    assert answer.json == {
        "status": "ok",
        "database": "ok",
        "mail": {"pending": 0, "oldest_seconds": None, "failed": 0},
    }


@pytest.mark.parametrize(("seconds", "status"), [(50, "ok"), (61, "degraded")])
def test_F28_health_with_mails_that_wait(
    make_app: MakeApp, production: dict[str, Any], seconds: int, status: str
) -> None:
    """A mail that has waited for more than a minute degrades the site, which the load balancer leaves in service."""
    app = make_app({**production, "ACCOUNTFLOW_MAIL_KICK": "worker"})
    with app.app_context():
        db.create_all()
        accounts.create_user("vic@example.com")
        mail = accounts.tables.mail
        began = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(seconds=seconds)
        db.session.execute(db.update(mail).where(mail.c.state == "pending").values(created_at=began))
        db.session.commit()

    answer = app.test_client().get("/healthz")

    assert answer.status_code == 200
    assert (answer.json["status"], answer.json["database"]) == (status, "ok")
    assert (answer.json["mail"]["pending"], answer.json["mail"]["failed"]) == (1, 0)
    assert seconds <= answer.json["mail"]["oldest_seconds"] < seconds + 10


def test_health_without_database(make_app: MakeApp, production: dict[str, Any], tmp_path: Path) -> None:
    """A load balancer hears that the database is out of reach."""
    nowhere = f"sqlite:///{tmp_path / 'missing' / 'example.db'}"
    answer = make_app({**production, "SQLALCHEMY_DATABASE_URI": nowhere}).test_client().get("/healthz")

    assert answer.status_code == 503
    assert answer.json == {"status": "failing", "database": "unusable"}


def test_health_without_tables(make_app: MakeApp, production: dict[str, Any]) -> None:
    """A load balancer hears that the migrations have not run."""
    answer = make_app(production).test_client().get("/healthz")

    assert answer.status_code == 503
    assert answer.json == {"status": "failing", "database": "unusable"}


def test_everybody_sees_the_home_page(app: Flask) -> None:
    """The home page leads a stranger to sign-up and login."""
    page = app.test_client().get("/").text

    assert 'href="/auth/signup"' in page
    assert 'href="/auth/login"' in page


def test_strangers_are_sent_to_the_login(app: Flask) -> None:
    """The members' page sends a stranger to the login, and remembers where they wanted to go."""
    answer = app.test_client().get("/secret", headers={"Accept": "text/html"})

    assert answer.status_code in {302, 303}
    assert answer.location.startswith("/auth/login")
    assert "next=" in answer.location
    assert "secret" in answer.location


def test_a_member_has_a_name(app: Flask, production: dict[str, Any]) -> None:
    """The name that was given at sign-up is stored and shown once the address is confirmed."""
    client = app.test_client()
    account = {"email": "ada@example.com", "password": "correct horse battery staple"}
    assert client.post("/auth/signup", json={**account, "name": "Ada"}).status_code == 202
    mail = Path(production["ACCOUNTFLOW_MAIL_FILE"]).read_text(encoding="utf-8")
    link = re.search(r"https://www\.example\.com(/auth/verify/\S+)", mail)
    assert link is not None

    assert client.post(link[1], json={}).status_code == 200
    login = client.post("/auth/login", json=account)

    with app.app_context():
        assert db.session.scalars(db.select(User)).one().name == "Ada"
    assert login.status_code == 200, login.text
    headers = {"Authorization": f"Bearer {login.json['access_token']}"}
    assert "Hello Ada." in client.get("/secret", headers=headers).text


def test_every_setting_comes_from_the_environment(
    make_app: MakeApp, production: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every setting can be given by an environment variable with FLASK_ before its name."""
    given = {one.key: _as_text(one.default) for one in settings.declarations()}
    given |= {key: _as_text(value) for key, value in production.items()}
    given["ACCOUNTFLOW_SITE_NAME"] = "Ours"
    for key, text in given.items():
        monkeypatch.setenv(f"FLASK_{key}", text)

    app = make_app()

    assert {key: _as_text(app.config[key]) for key in given} == given


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("SIGNUP_ENABLED", "false", False),
        ("VERIFY_MAX_AGE", "7200", 7200),
        ("TRUSTED_ORIGINS", '["https://app.example.com"]', ("https://app.example.com",)),
        ("MAIL_PER_ADDRESS", "2/hour", (settings.Rate(2, 3600),)),
        ("RATELIMIT_STORAGE_URI", "memory://", "memory://"),
    ],
)
def test_the_environment_is_understood(
    key: str, text: str, value: object, make_app: MakeApp, production: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Switches, numbers, lists, rates and texts keep their meaning on their way through the environment."""
    monkeypatch.setenv(f"FLASK_ACCOUNTFLOW_{key}", text)

    found, _ = configuration.read(make_app(production).config)

    assert getattr(found, key.lower()) == value


@pytest.mark.parametrize(("proxies", "address"), [(None, "127.0.0.1"), ("1", "203.0.113.2"), ("2", "203.0.113.1")])
def test_the_visitor_behind_proxies(
    make_app: MakeApp, production: dict[str, Any], monkeypatch: pytest.MonkeyPatch, proxies: str | None, address: str
) -> None:
    """The visitor's address is what the outermost trusted proxy has seen, and without proxies nobody's word counts."""
    if proxies is not None:
        monkeypatch.setenv("FLASK_TRUSTED_PROXIES", proxies)
    app = make_app(production)
    app.add_url_rule("/who", view_func=lambda: str(request.remote_addr))

    answer = app.test_client().get("/who", headers={"X-Forwarded-For": "203.0.113.1, 203.0.113.2"})

    assert answer.text == address


def test_celery_comes_from_the_environment(
    make_app: MakeApp, production: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``FLASK_CELERY`` the app has a Celery that delivers, and without it none."""
    del production["ACCOUNTFLOW_MAIL_KICK"]
    plain = make_app(production)
    monkeypatch.setenv("FLASK_CELERY", '{"broker_url": "memory://"}')

    app = make_app(production)

    assert "celery" not in plain.extensions
    celery = app.extensions["celery"]
    assert celery.conf.broker_url == "memory://"
    assert "flask_accountflow.deliver" in celery.tasks


def test_a_worker_finds_the_app() -> None:
    """``celery --app example_app.worker`` has the task that delivers, and beat the sweep."""
    show = "from example_app.worker import celery; print(sorted(celery.tasks), list(celery.conf.beat_schedule))"
    given = {
        "FLASK_DEBUG": "1",
        "FLASK_SQLALCHEMY_DATABASE_URI": "sqlite://",
        "FLASK_CELERY": '{"broker_url": "memory://"}',
    }

    done = subprocess.run(
        [sys.executable, "-c", show], check=False, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **given}
    )

    assert done.returncode == 0, done.stderr
    assert "'flask_accountflow.deliver'" in done.stdout
    assert "'accountflow-sweep'" in done.stdout


def _as_text(value: Any) -> str:
    """Return ``value`` as an operator would write it into the environment."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple) and value and isinstance(value[0], settings.Rate):
        return ";".join(str(rate) for rate in value)
    return json.dumps(value)


@pytest.mark.slow
def test_the_migrations_are_complete(database_uri: str) -> None:
    """On every database the migrations make the tables of the models, all of them, and can be undone."""
    for command in ("upgrade", "check", "downgrade base", "upgrade"):
        done = _flask("db", *command.split(), database_uri=database_uri)
        assert done.returncode == 0, done.stdout + done.stderr
