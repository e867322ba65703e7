"""The command line: what an operator does by hand."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from jinja2 import DictLoader
from sqlalchemy import event
from support import ABSENT, OTHER_PASSWORD, PASSWORD, Site

from flask_accountflow import AccountFlow, UserMixin, events
from flask_accountflow.throttle import NoThrottle

ROOT = Path(__file__).parents[1]
MakeSite = Callable[..., Site]
EMAIL = "vic@example.com"


@pytest.fixture(autouse=True)
def _no_syncing() -> Iterator[None]:
    """Let SQLite not wait for the disk: no test here pulls the plug."""

    def relax(connection: Any, record: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")

    event.listen(sa.Engine, "connect", relax)
    yield
    event.remove(sa.Engine, "connect", relax)


#: What a site needs to be fit for production, beside what tests are given anyway.
FIT = {
    "TESTING": False,
    "ACCOUNTFLOW_BCRYPT_ROUNDS": 10,
    "ACCOUNTFLOW_RATELIMIT_ENABLED": True,
}


def run(site: Site, *words: str, typed: str | None = None) -> Any:
    """Run ``flask accountflow …``. Whatever comes of it, it ends with an exit code and not with a traceback."""
    result = site.app.test_cli_runner().invoke(args=["accountflow", *words], input=typed)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


def test_every_command_has_a_sentence(site: Site) -> None:
    """The help lists every command with what it does."""
    result = run(site, "--help")

    listed = result.output.partition("Commands:")[2].strip().splitlines()
    assert [line.split()[0] for line in listed] == [
        "check",
        "copy-templates",
        "create-admin",
        "create-user",
        "deliver",
        "disable-user",
        "init-db",
        "mails",
        "openapi",
        "preview-mails",
        "purge",
        "retry",
        "revoke",
        "seed-users",
        "send-test-mail",
        "settings",
        "verify-user",
    ]
    assert all(len(line.split()) > 3 for line in listed)


# Tables.


def test_init_db_creates_the_tables(site: Site) -> None:
    """``init-db`` creates what is missing, and does no harm when nothing is."""
    with site.app.app_context():
        site.db.drop_all()

    results = [run(site, "init-db"), run(site, "init-db")]

    assert [(result.exit_code, result.output) for result in results] == [(0, "The tables are there.\n")] * 2
    with site.app.app_context():
        names = set(sa.inspect(site.db.engine).get_table_names())
    assert names == {"users", "accountflow_token", "accountflow_session", "accountflow_mail"}


# The doctor.


def test_a_fit_site_has_no_faults(make_site: MakeSite) -> None:
    """A site that is fit for production passes, with a hint about its SQLite and one about several processes."""
    site = make_site(FIT)

    result = run(site, "check")

    assert result.exit_code == 0
    assert result.output.splitlines()[-1] == "No faults."
    assert "fault:" not in result.output
    assert [line for line in result.output.splitlines() if line.startswith("hint:")] == [
        "hint: Limits are counted in each process alone; set ACCOUNTFLOW_RATELIMIT_STORAGE_URI when there are several.",
        "hint: SQLite writes about twice as much in WAL mode: run 'PRAGMA journal_mode=WAL' once.",
    ]


def test_a_relaxed_site_is_told_what_production_refuses(site: Site) -> None:
    """Under testing, what production would refuse is a hint, and the site is fit."""
    result = run(site, "check")

    assert result.exit_code == 0
    assert "hint: refused in production: ACCOUNTFLOW_BCRYPT_ROUNDS must be 10 or more (found 4)." in result.output
    assert "fault:" not in result.output


def test_production_can_be_judged_beforehand(site: Site) -> None:
    """``check --production`` takes the same as a fault, ends with 1 and says it once."""
    result = run(site, "check", "--production")

    assert result.exit_code == 1
    assert "fault: ACCOUNTFLOW_BCRYPT_ROUNDS must be 10 or more (found 4)." in result.output
    assert result.output.count("BCRYPT_ROUNDS") == 1
    assert "No faults." not in result.output


def test_every_fault_is_listed(make_site: MakeSite) -> None:
    """All that is wrong is said at once, and no secret with it."""
    secret = "short-secret"
    config = {"SECRET_KEY": secret, "ACCOUNTFLOW_BASE_URL": ABSENT, "MAIL_DEFAULT_SENDER": ABSENT}
    site = make_site({**config, "ACCOUNTFLOW_EMAIL_ALLOW_SPECIAL": True})
    with site.app.app_context():
        site.db.drop_all()

    result = run(site, "check", "--production")

    faults = [line for line in result.output.splitlines() if line.startswith("fault:")]
    for word in ("SECRET_KEY", "BASE_URL", "MAIL_DEFAULT_SENDER", "BCRYPT_ROUNDS", "EMAIL_ALLOW_SPECIAL", "users"):
        assert any(word in fault for fault in faults), word
    assert secret not in result.output
    assert result.exit_code == 1


@pytest.mark.parametrize("name", ["users", "accountflow_token", "accountflow_session", "accountflow_mail"])
def test_a_missing_table_is_a_fault(site: Site, name: str) -> None:
    """A table that is not there is named with what to do about it."""
    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.execute(sa.text(f"DROP TABLE {name}"))

    result = run(site, "check")

    assert result.exit_code == 1
    assert f"fault: The table {name} is missing. Run 'flask accountflow init-db', or with" in result.output
    assert result.output.count("fault:") == 1


def test_missing_columns_are_a_fault(site: Site) -> None:
    """Columns that are not there, as after an update of the package, are named."""
    with site.app.app_context(), site.db.engine.begin() as connection:
        for column in ("locale", "last_error"):
            connection.execute(sa.text(f"ALTER TABLE accountflow_mail DROP COLUMN {column}"))

    result = run(site, "check")

    assert result.exit_code == 1
    assert "fault: The table accountflow_mail lacks last_error, locale. Run 'flask" in result.output


def test_further_columns_are_no_fault(site: Site) -> None:
    """A column that the app has added to a table of ours is its own business."""
    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE accountflow_mail ADD COLUMN note TEXT"))

    assert run(site, "check").exit_code == 0


@pytest.mark.parametrize(("mode", "hints"), [("wal", 0), ("delete", 1)])
def test_wal_is_recommended_once(site: Site, mode: str, hints: int) -> None:
    """The hint about WAL goes away where it was followed."""
    with site.app.app_context(), site.db.engine.connect() as connection:
        connection.execute(sa.text(f"PRAGMA journal_mode={mode}"))

    assert run(site, "check").output.count("in WAL mode") == hints


def test_a_database_in_memory_needs_no_wal(make_site: MakeSite) -> None:
    """``sqlite://`` is not told about WAL, which it does not have."""
    assert "WAL" not in run(make_site(uri="sqlite://"), "check").output


def test_limits_in_memory_are_a_hint(make_site: MakeSite) -> None:
    """Limits that each process counts alone are mentioned while limits are on."""
    on = {"ACCOUNTFLOW_RATELIMIT_ENABLED": True}

    assert run(make_site(on), "check").output.count("RATELIMIT_STORAGE_URI") == 1
    assert "RATELIMIT" not in run(make_site(), "check").output


REDIS = os.environ.get("ACCOUNTFLOW_TEST_REDIS_URL", "redis://127.0.0.1:6379/15")


def test_a_store_of_limits_that_answers_is_fit(make_site: MakeSite) -> None:
    """Limits that are counted in a store which answers are neither a fault nor a hint."""
    with socket.socket() as probe:
        if probe.connect_ex((urlsplit(REDIS).hostname or "", urlsplit(REDIS).port or 6379)) != 0:
            stop = pytest.fail if "redis" in os.environ.get("ACCOUNTFLOW_TEST_REQUIRE", "") else pytest.skip
            stop(f"no Redis answers at {REDIS}")
    site = make_site({"ACCOUNTFLOW_RATELIMIT_ENABLED": True, "ACCOUNTFLOW_RATELIMIT_STORAGE_URI": REDIS})

    result = run(site, "check")

    assert result.exit_code == 0
    assert "limits" not in result.output.lower()


@pytest.mark.parametrize("uri", ["redis://:hunter2@127.0.0.1:1/0", "rediss:/typo", "no-such-store://:hunter2@x", "no"])
def test_a_store_of_limits_that_does_not_answer_is_a_fault(
    make_site: MakeSite, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A store of limits that is away, misspelt or unknown is told, without its password."""
    site = make_site({"ACCOUNTFLOW_RATELIMIT_ENABLED": True, "ACCOUNTFLOW_RATELIMIT_STORAGE_URI": uri})

    result = run(site, "check")

    assert result.exit_code == 1
    assert "fault: The store of the limits does not answer" in result.output
    assert "ACCOUNTFLOW_RATELIMIT_STORAGE_URI" in result.output
    assert "hunter2" not in result.output + caplog.text


@pytest.mark.parametrize(
    "config",
    [
        {"ACCOUNTFLOW_RATELIMIT_ENABLED": False, "ACCOUNTFLOW_RATELIMIT_STORAGE_URI": "redis://127.0.0.1:1/0"},
        {"ACCOUNTFLOW_RATELIMIT_ENABLED": True, "ACCOUNTFLOW_RATELIMIT_STORAGE_URI": "redis://127.0.0.1:1/0", "own": 1},
    ],
    ids=["off", "own"],
)
def test_a_store_of_limits_that_nobody_uses_is_not_tried(make_site: MakeSite, config: dict[str, Any]) -> None:
    """Where limits are off, or the app counts by itself, the store of the settings is not asked."""
    parts = {"throttle": NoThrottle()} if config.pop("own", None) else {}

    assert run(make_site(config, **parts), "check").exit_code == 0


TLS = {"MAIL_USERNAME": "shop", "MAIL_PASSWORD": "hunter2", "MAIL_SERVER": "mail.example.com"}


@pytest.mark.parametrize(
    ("config", "hints"),
    [
        (TLS, 1),
        ({**TLS, "MAIL_USE_TLS": True}, 0),
        ({**TLS, "MAIL_USE_SSL": True}, 0),
        ({**TLS, "MAIL_SERVER": "127.0.0.1"}, 0),
        ({**TLS, "MAIL_USERNAME": ABSENT}, 0),
        ({**TLS, "MAIL_PASSWORD": ABSENT}, 0),
        ({**TLS, "ACCOUNTFLOW_MAIL_TRANSPORT": "console"}, 0),
    ],
)
def test_a_mail_password_without_encryption_is_a_hint(make_site: MakeSite, config: dict[str, Any], hints: int) -> None:
    """A password for a mail server elsewhere, without encryption, is mentioned and not shown."""
    site = make_site(config, transport=None)

    result = run(site, "check")

    assert result.output.count("hint: MAIL_PASSWORD is told in clear in your network") == hints
    assert result.exit_code == 0
    assert "hunter2" not in result.output


def test_F26_a_mail_that_cannot_be_rendered_is_a_fault(site: Site) -> None:
    """The app's own template of a mail is tried, and told when it fails, before anybody waits for that mail."""
    site.app.jinja_loader = DictLoader({"accountflow/mail/reset.txt": "{{ 1 / 0 }}"})

    result = run(site, "check")

    assert result.exit_code == 1
    assert [line for line in result.output.splitlines() if line.startswith("fault: The mail reset in en: ")]
    assert result.output.count("fault:") == 1
    assert site.letters == []


def test_every_database_is_looked_at(make_site: MakeSite, database_uri: str) -> None:
    """The doctor finds the tables, and what they lack, on every database that we support."""
    site = make_site(uri=database_uri)
    fit = run(site, "check")
    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE accountflow_mail DROP COLUMN locale"))

    unfit = run(site, "check")

    assert [fit.exit_code, unfit.exit_code] == [0, 1]
    assert ("in WAL mode" in fit.output) is database_uri.startswith("sqlite")
    assert "fault: The table accountflow_mail lacks locale." in unfit.output


def test_the_database_of_the_accounts_is_looked_at(tmp_path: Path) -> None:
    """Accounts with a ``__bind_key__`` are looked for in their own database."""
    app = Flask(__name__)
    app.config.update(TESTING=True, SECRET_KEY="k" * 32, ACCOUNTFLOW_MAIL_KICK="inline")
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / 'main.db'}"
    app.config["SQLALCHEMY_BINDS"] = {"people": f"sqlite:///{tmp_path / 'people.db'}"}
    db = SQLAlchemy(app)

    class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "users"
        __bind_key__ = "people"

    AccountFlow(app, db, User)
    runner = app.test_cli_runner()

    before = runner.invoke(args=["accountflow", "check"])
    runner.invoke(args=["accountflow", "init-db"])
    after = runner.invoke(args=["accountflow", "check"])

    assert [before.exit_code, after.exit_code] == [1, 0], after.output
    with app.app_context():
        assert sa.inspect(db.engines["people"]).has_table("accountflow_mail")
        for engine in db.engines.values():
            engine.dispose()


# Settings.


def test_settings_lists_every_key(make_site: MakeSite) -> None:
    """Each setting is there with its value, and a star marks those that are not the default."""
    site = make_site({"ACCOUNTFLOW_RESET_MAX_AGE": 1800})

    lines = run(site, "settings").output.splitlines()

    assert "* ACCOUNTFLOW_RESET_MAX_AGE = 1800" in lines
    assert "  ACCOUNTFLOW_VERIFY_MAX_AGE = 86400" in lines
    assert "  ACCOUNTFLOW_MAIL_PER_ADDRESS = '3/hour;10/day'" in lines
    assert "* ACCOUNTFLOW_BASE_URL = 'https://www.example.com'" in lines
    assert len(lines) == len(set(lines)) > 40


def test_settings_hides_what_is_secret(make_site: MakeSite) -> None:
    """Peppers, the password of the limits' store and the signing keys are not shown."""
    secrets = {
        "ACCOUNTFLOW_PASSWORD_PEPPERS": [("one", "pepper-" * 5)],
        "ACCOUNTFLOW_RATELIMIT_STORAGE_URI": "redis://:hunter2@127.0.0.1:1/0",
    }
    site = make_site(secrets)

    output = run(site, "settings").output

    assert "* ACCOUNTFLOW_PASSWORD_PEPPERS = (hidden)" in output
    assert "* ACCOUNTFLOW_RATELIMIT_STORAGE_URI = " in output
    assert not [word for word in ("pepper-", "hunter2", site.app.config["SECRET_KEY"]) if word in output]


def test_settings_shows_that_there_is_no_secret(site: Site) -> None:
    """Without peppers there is nothing to hide, and that can be seen."""
    assert "  ACCOUNTFLOW_PASSWORD_PEPPERS = ()\n" in run(site, "settings").output


# Accounts.


def test_create_user_with_a_password(site: Site) -> None:
    """An account with a password that is taken as verified can log in at once, and no mail goes out."""
    result = run(site, "create-user", "Vic@Example.com", "--password", PASSWORD, "--verified")

    assert result.exit_code == 0
    assert result.output == f"Created Vic@example.com ({site.account(EMAIL).id}).\n"
    assert site.letters == []
    assert site.program().login(EMAIL).status_code == 200


def test_create_user_without_a_password(site: Site) -> None:
    """Without a password a link to set one is mailed."""
    result = run(site, "create-user", EMAIL)

    assert result.exit_code == 0
    assert result.output.splitlines()[1:] == ["A link to set a password is on its way."]
    assert [letter.template for letter in site.letters] == ["set_password"]
    assert site.program().reset(site.last_link).status_code == 200


def test_create_user_asks_for_a_password(site: Site) -> None:
    """``--password -`` asks twice and does not show what is typed."""
    result = run(site, "create-user", EMAIL, "--password", "-", "--verified", typed=f"{PASSWORD}\n{PASSWORD}\n")

    assert result.exit_code == 0
    assert PASSWORD not in result.output
    assert site.program().login(EMAIL).status_code == 200


def test_create_user_gives_up_when_nothing_is_typed(site: Site) -> None:
    """Who is asked for a password and types none creates nothing."""
    result = run(site, "create-user", EMAIL, "--password", "-", typed="")

    assert result.exit_code == 1
    assert site.account(EMAIL) is None


@pytest.mark.parametrize("flags", [[], ["--admin"], ["--verified"], ["--verified", "--admin"]])
def test_create_user_has_its_flags(site: Site, flags: list[str]) -> None:
    """Each flag does its one thing."""
    run(site, "create-user", EMAIL, "--password", PASSWORD, *flags)

    account = site.account(EMAIL)
    assert (account.email_verified_at is not None, account.is_admin) == ("--verified" in flags, "--admin" in flags)
    assert [letter.template for letter in site.letters] == ([] if "--verified" in flags else ["verify"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-address"], "email: Enter an email like name@example.com."),
        ([""], "email: Enter your email."),
        (["una@example.com", "--password", "short"], "password: Use at least 12 characters."),
        ([EMAIL, "--password", PASSWORD], "This email already has an account"),
        ([EMAIL, "--verified"], "This email already has an account"),
    ],
)
def test_create_user_says_what_is_wrong(site: Site, words: list[str], said: str) -> None:
    """A bad address, a bad password and a taken address end with 1 and a sentence."""
    site.member(EMAIL)

    result = run(site, "create-user", *words)

    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert said in result.output
    assert len(site.rows("user")) == 1


def test_verify_user_takes_an_address_as_proved(site: Site) -> None:
    """A sign-up that never gets its mail can be verified by hand; a reset gives it a password."""
    site.program().signup(EMAIL)

    result = run(site, "verify-user", "VIC@example.com")

    assert (result.exit_code, result.output) == (0, f"{EMAIL} is verified.\n")
    assert site.account(EMAIL).email_verified_at is not None


def test_disable_user_ends_everything_and_can_be_undone(site: Site) -> None:
    """A disabled account is out at once; undone, its password works again and its old login does not."""
    site.member(EMAIL)
    program = site.program()
    login = program.login(EMAIL)

    disabled = run(site, "disable-user", EMAIL)
    while_disabled = [program.me(login).status_code, program.code(program.login(EMAIL))]
    enabled = run(site, "disable-user", EMAIL, "--undo")

    assert (disabled.output, enabled.output) == (f"{EMAIL} is disabled.\n", f"{EMAIL} is enabled.\n")
    assert while_disabled == [401, "account_disabled"]
    assert [program.me(login).status_code, program.login(EMAIL).status_code] == [401, 200]


def test_SES_18_revoke_ends_every_login_and_link_of_an_account(site: Site) -> None:
    """``revoke`` ends what an account has open, links too; the password still works, and others stay logged in."""
    site.member(EMAIL)
    site.member("bob@example.com")
    program, other, person = site.program(), site.program(), site.person()
    login, others = program.login(EMAIL), other.login("bob@example.com")
    person.login(EMAIL)
    program.request_reset(email=EMAIL)

    said = run(site, "revoke", EMAIL).output

    assert said == f"{EMAIL} is logged out everywhere.\n"
    assert [program.me(login).status_code, person.get("/secret").status_code] == [401, 303]
    assert program.post("/auth/refresh", {"refresh_token": login.json["refresh_token"]}).status_code == 401
    assert program.reset(site.last_link).status_code == 410
    assert [other.me(others).status_code, program.login(EMAIL).status_code] == [200, 200]


def test_SES_18_revoke_all_ends_every_login(site: Site) -> None:
    """``revoke --all`` ends every login of the site, says how many there were, and tells the application."""
    site.member(EMAIL)
    program, person = site.program(), site.person()
    login = program.login(EMAIL)
    person.login(EMAIL)
    seen: list[Any] = []

    def note(sender: Any, **payload: Any) -> None:
        seen.append(payload["user_id"])

    with events.sessions_revoked.connected_to(note, sender=site.app):
        said = [run(site, "revoke", "--all").output for _ in range(2)]

    assert said == ["2 logins ended.\n", "0 logins ended.\n"]
    assert [program.me(login).status_code, person.get("/secret").status_code] == [401, 303]
    assert program.post("/auth/refresh", {"refresh_token": login.json["refresh_token"]}).status_code == 401
    assert seen == [None, None]


@pytest.mark.parametrize("words", [[], [EMAIL, "--all"]])
def test_revoke_wants_one_of_both(site: Site, words: list[str]) -> None:
    """``revoke`` does nothing unless it is told of whom, and it is never everybody by accident."""
    site.member(EMAIL)
    program = site.program()
    login = program.login(EMAIL)

    result = run(site, "revoke", *words)

    assert (result.exit_code, program.me(login).status_code) == (2, 200)
    assert "Name an address, or give --all." in result.output


# The first administrator.

FIRST = {"ACCOUNTFLOW_FIRST_ADMIN_EMAIL": EMAIL, "ACCOUNTFLOW_FIRST_ADMIN_PASSWORD": PASSWORD}


def test_create_admin_makes_the_one_of_the_settings(make_site: MakeSite) -> None:
    """``create-admin --if-none`` creates whom the settings name, verified; started again it does nothing."""
    site = make_site({**FIRST, "ACCOUNTFLOW_FIRST_ADMIN_EMAIL": "Vic@EXAMPLE.com"})

    results = [run(site, "create-admin", "--if-none") for _ in range(2)]

    assert [(result.exit_code, result.output) for result in results] == [
        (0, "Vic@example.com is an administrator.\n"),
        (0, "There is an administrator.\n"),
    ]
    assert site.letters == []
    assert site.program().login(EMAIL).json["user"]["is_admin"] is True


def test_create_admin_without_a_password_mails_a_link(make_site: MakeSite) -> None:
    """Without a password in the settings a link to set one is mailed and said; starting again does not end it."""
    site = make_site({**FIRST, "ACCOUNTFLOW_FIRST_ADMIN_PASSWORD": ABSENT})

    result = run(site, "create-admin", "--if-none")
    site.clock.tick(3600)
    run(site, "create-admin", "--if-none")

    assert result.exit_code == 0
    assert result.output.splitlines()[1:] == ["A link to set a password is on its way."]
    assert [letter.template for letter in site.letters] == ["set_password"]
    assert site.program().reset(site.last_link).json["user"]["is_admin"] is True


def test_create_admin_says_which_setting_is_missing(site: Site) -> None:
    """Without an address in the settings the command ends with 1 and names the key."""
    result = run(site, "create-admin", "--if-none")

    assert result.exit_code == 1
    assert result.output.startswith("Error: ACCOUNTFLOW_FIRST_ADMIN_EMAIL is missing. ")
    assert site.rows("user") == []


def test_create_admin_is_not_called_by_mistake(make_site: MakeSite) -> None:
    """Without ``--if-none`` the command explains itself and creates nobody."""
    site = make_site(FIRST)

    result = run(site, "create-admin")

    assert result.exit_code == 2
    assert "--if-none" in result.output
    assert site.rows("user") == []


@pytest.mark.parametrize(
    ("email", "password", "said"),
    [
        ("root@localhost", PASSWORD, "ACCOUNTFLOW_FIRST_ADMIN_EMAIL: Enter an email like name@example.com."),
        (EMAIL, "short-one", "ACCOUNTFLOW_FIRST_ADMIN_PASSWORD: Use at least 12 characters."),
    ],
)
def test_create_admin_names_the_setting_that_is_wrong(
    make_site: MakeSite, email: str, password: str, said: str
) -> None:
    """A setting that breaks a rule ends the command with 1 and its key, and no password is shown."""
    values = {"ACCOUNTFLOW_FIRST_ADMIN_EMAIL": email, "ACCOUNTFLOW_FIRST_ADMIN_PASSWORD": password}
    site = make_site(values)

    result = run(site, "create-admin", "--if-none")

    assert result.exit_code == 1
    assert said in result.output.splitlines()
    assert password not in result.output
    assert site.rows("user") == []


def test_create_admin_stops_no_deployment_that_has_one(make_site: MakeSite) -> None:
    """Once there is an administrator, settings that today's rules refuse are no reason to fail."""
    site = make_site({**FIRST, "ACCOUNTFLOW_FIRST_ADMIN_PASSWORD": "short-one"})
    site.member("root@example.com", admin=True)

    result = run(site, "create-admin", "--if-none")

    assert (result.exit_code, result.output) == (0, "There is an administrator.\n")
    assert site.account(EMAIL) is None


def test_create_admin_promotes_a_member(make_site: MakeSite) -> None:
    """An account of that address gets the rights and keeps its own password; no link is spoken of."""
    site = make_site({**FIRST, "ACCOUNTFLOW_FIRST_ADMIN_PASSWORD": OTHER_PASSWORD})
    site.member(EMAIL)

    result = run(site, "create-admin", "--if-none")

    assert (result.exit_code, result.output) == (0, f"{EMAIL} is an administrator.\n")
    assert [site.program().login(EMAIL, word).status_code for word in (PASSWORD, OTHER_PASSWORD)] == [200, 401]
    assert site.account(EMAIL).is_admin


def test_create_admin_enables_nobody(make_site: MakeSite) -> None:
    """Where the account of that address is disabled, the command ends with 1 and says so."""
    site = make_site(FIRST)
    site.member(EMAIL)
    run(site, "disable-user", EMAIL)

    result = run(site, "create-admin", "--if-none")

    assert (result.exit_code, result.output) == (1, "Error: This account is disabled\n")
    assert (site.account(EMAIL).is_active, site.account(EMAIL).is_admin) == (False, False)


@pytest.mark.parametrize("words", [["create-user", EMAIL], ["create-admin", "--if-none"]], ids=" ".join)
def test_a_link_is_shown_where_none_is_mailed(make_site: MakeSite, words: list[str]) -> None:
    """With RETURN_TOKEN_IN_RESPONSE the link to set a password is printed, and no mail is promised."""
    mode = {"ACCOUNTFLOW_RETURN_TOKEN_IN_RESPONSE": True, "ACCOUNTFLOW_FIRST_ADMIN_EMAIL": EMAIL}
    site = make_site(mode)

    result = run(site, *words)

    link = result.output.splitlines()[1]
    assert "on its way" not in result.output
    assert site.letters == []
    assert site.program().reset(link.removeprefix("https://www.example.com")).status_code == 200


def test_a_link_to_confirm_is_shown_where_none_is_mailed(make_site: MakeSite) -> None:
    """With RETURN_TOKEN_IN_RESPONSE the link that confirms a new account is printed, too."""
    site = make_site({"ACCOUNTFLOW_RETURN_TOKEN_IN_RESPONSE": True})

    link = run(site, "create-user", EMAIL, "--password", PASSWORD).output.splitlines()[1]

    assert site.program().verify(link.removeprefix("https://www.example.com")).json["status"] == "verified"


# Users for development.


def test_seed_users_creates_four(site: Site) -> None:
    """``seed-users`` creates an administrator and three users who can log in at once, and says how."""
    result = run(site, "seed-users")

    emails = [f"{name}@example.com" for name in ("admin", "user1", "user2", "user3")]
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "Created admin@example.com, an administrator, with the password 'users of development'.",
        *(f"Created {email}, with the password 'users of development'." for email in emails[1:]),
    ]
    logins = [site.program().login(email, "users of development") for email in emails]
    assert [login.json["user"]["is_admin"] for login in logins] == [True, False, False, False]
    assert all(login.json["user"]["email_verified"] for login in logins)
    assert site.letters == []


def test_seed_users_leaves_who_is_there(site: Site) -> None:
    """Seeding again changes nobody, whatever became of them meanwhile."""
    run(site, "seed-users")
    site.change("user1@example.com", is_active=False)
    before = site.rows("user")

    result = run(site, "seed-users", "--password", OTHER_PASSWORD)

    emails = [f"{name}@example.com" for name in ("admin", "user1", "user2", "user3")]
    assert (result.exit_code, result.output.splitlines()) == (0, [f"{email} is there." for email in emails])
    assert site.rows("user") == before


def test_seed_users_takes_addresses_and_a_password(site: Site) -> None:
    """Addresses and a password may be given; ``admin@`` is an administrator, however it is written."""
    run(site, "seed-users", "Admin@shop.example.com", "ada@example.com", "--password", PASSWORD)

    accounts = {row.email_key: row.is_admin for row in site.rows("user")}
    assert accounts == {"admin@shop.example.com": True, "ada@example.com": False}
    assert site.program().login("ada@example.com", PASSWORD).status_code == 200


def test_seed_users_takes_over_what_was_never_confirmed(site: Site) -> None:
    """Somebody's unconfirmed sign-up with a seeded address gives way."""
    site.program().signup("user1@example.com", PASSWORD)

    run(site, "seed-users", "user1@example.com", "--password", OTHER_PASSWORD)

    logins = [site.program().login("user1@example.com", word).status_code for word in (PASSWORD, OTHER_PASSWORD)]
    assert logins == [401, 200]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--password", "short"], "password: Use at least 12 characters."),
        (["no-address"], "email: Enter an email like name@example.com."),
    ],
)
def test_seed_users_says_what_is_wrong(site: Site, words: list[str], said: str) -> None:
    """A password or an address that breaks a rule ends the command with 1 and a sentence."""
    result = run(site, "seed-users", *words)

    assert result.exit_code == 1
    assert said in result.output
    assert site.rows("user") == []


def test_seed_users_is_for_development(make_site: MakeSite) -> None:
    """Outside debug and testing no user gets a password that everybody can read."""
    site = make_site(FIT)

    results = [run(site, "seed-users"), run(site, "seed-users", EMAIL, "--password", PASSWORD)]

    sentence = "Error: Users with a known password are for debug and testing only.\n"
    assert [(result.exit_code, result.output) for result in results] == [(1, sentence)] * 2
    assert site.rows("user") == []


# Commands on accounts that are not there.


@pytest.mark.parametrize("words", [["verify-user"], ["disable-user"], ["disable-user", "--undo"]])
def test_an_account_that_is_not_there_is_said(site: Site, words: list[str]) -> None:
    """A command on an address without account ends with 1 and says that there is none."""
    result = run(site, *words, "una@example.com")

    assert (result.exit_code, result.output) == (1, "Error: No account has this address\n")


@pytest.mark.parametrize("words", [["verify-user"], ["disable-user"], ["create-user"], ["no-such-command"]])
def test_a_wrong_call_is_explained(site: Site, words: list[str]) -> None:
    """A command without its argument, or one that there is not, ends with 2 and the usage."""
    result = run(site, *words)

    assert result.exit_code == 2
    assert result.output.startswith("Usage: ")


# Clearing up.


PURGED = """accountflow_mail: 1 (sent, given up or left out, and over for 30 days)
accountflow_token: 1 (links, over for 30 days)
accountflow_session: 0 (logins, over for 30 days)
users: 1 (accounts, not confirmed for 7 days)
"""


def test_SUP_19_purge_removes_what_is_dead(make_site: MakeSite) -> None:
    """``purge`` says how many rows of each table went, and why; an unconfirmed address is free again."""
    site = make_site()
    site.member("ada@example.com")
    site.program().signup(EMAIL)
    site.clock.tick(60 * 86400)

    result = run(site, "purge")

    assert (result.exit_code, result.output) == (0, f"Deleted:\n{PURGED}")
    assert [row.email for row in site.rows("user")] == ["ada@example.com"]
    assert site.program().signup(EMAIL).status_code == 202


def test_purge_can_be_tried(make_site: MakeSite) -> None:
    """``purge --dry-run`` says the same and deletes nothing."""
    site = make_site()
    site.program().signup(EMAIL)
    site.clock.tick(60 * 86400)

    result = run(site, "purge", "--dry-run")

    assert (result.exit_code, result.output) == (0, f"To be deleted:\n{PURGED}")
    assert [len(site.rows(name)) for name in ("user", "token", "mail")] == [1, 1, 1]


# What no command may do.


COMMANDS: list[list[str]] = [
    ["check"],
    ["create-user", EMAIL, "--password", OTHER_PASSWORD],
    ["verify-user", EMAIL],
    ["disable-user", EMAIL],
    ["create-admin", "--if-none"],
    ["seed-users"],
    ["deliver", "--once"],
    ["deliver", "--forever"],
    ["mails"],
    ["retry", "1"],
    ["retry", "--failed"],
    ["purge"],
    ["purge", "--dry-run"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_database_without_tables_is_explained(make_site: MakeSite, words: list[str]) -> None:
    """Where the tables are missing, each command ends with 1 and says how to get them."""
    site = make_site(FIRST)
    with site.app.app_context():
        site.db.drop_all()

    result = run(site, *words)

    assert result.exit_code == 1
    assert "flask db upgrade" in result.output


@pytest.mark.parametrize("words", [["init-db"], *COMMANDS], ids=" ".join)
def test_a_database_that_is_away_is_explained(make_site: MakeSite, tmp_path: Path, words: list[str]) -> None:
    """Where the database does not open, each command ends with 1 and a sentence."""
    site = make_site(FIRST)
    site.close()
    away = sa.create_engine(f"sqlite:///{tmp_path}/no/such/folder/site.db")
    with site.app.app_context():
        site.db.engines[None] = away

    result = run(site, *words)

    assert result.exit_code == 1
    assert "unable to open database file" in result.output


def test_a_database_that_is_locked_is_explained(make_site: MakeSite, tmp_path: Path) -> None:
    """Where another process holds the database, a command gives up in the end, with 1 and a sentence."""
    site = make_site(uri=f"sqlite:///{tmp_path / 'locked.db'}?timeout=0.05")
    site.program().signup(EMAIL)
    site.clock.tick(60 * 86400)

    with site.app.app_context(), site.db.engine.connect() as connection:
        connection.execute(sa.text("DELETE FROM users WHERE 0"))
        results = [run(site, "purge"), run(site, "create-user", "una@example.com", "--verified")]

    assert [(result.exit_code, result.output) for result in results] == [(1, "Error: We are busy\n")] * 2


def test_the_time_of_a_command_is_the_sites(make_site: MakeSite) -> None:
    """A command goes by the clock that the app has given."""
    site = make_site()
    site.clock.now = datetime(2030, 1, 1, tzinfo=timezone.utc)

    run(site, "create-user", EMAIL, "--verified")

    assert site.account(EMAIL).email_verified_at.year == 2030


def test_the_doctor_judges_for_production_while_debug_is_on(make_site: MakeSite) -> None:
    """What debug puts in the place of a mail server hides no fault of production."""
    site = make_site({"DEBUG": True, "TESTING": False, "MAIL_DEFAULT_SENDER": None})

    found = run(site, "check", "--production")

    assert found.exit_code == 1
    assert "fault: MAIL_DEFAULT_SENDER is missing." in found.output
    assert run(site, "check").exit_code == 0
