"""The kit for the tests of apps: what it gives them, and that it finds what tells who has an account."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import sqlalchemy as sa
from flask import Flask, Response, after_this_request, request
from jinja2 import ChoiceLoader, DictLoader
from sqlalchemy import event
from support import ABSENT, CONFIG, Site
from wtforms import StringField, ValidationError
from wtforms.validators import DataRequired

from example_app import create_app
from example_app.models import db
from flask_accountflow import events
from flask_accountflow.errors import MailRejected, Refusal
from flask_accountflow.forms import SignupForm
from flask_accountflow.mail.kicks import InlineKick, ThreadKick
from flask_accountflow.passwords import BcryptHasher
from flask_accountflow.testing import (
    PASSWORD,
    Clock,
    _Watch,
    assert_indistinguishable,
    link,
    make_user,
    record_letters,
    signed_in_client,
)

pytest_plugins = ["flask_accountflow.testing"]

MakeSite = Callable[..., Site]
ROOT = Path(__file__).resolve().parents[1]
#: Limits, and a cost that an older hash can be below.
EVERYTHING = {"ACCOUNTFLOW_RATELIMIT_ENABLED": True, "ACCOUNTFLOW_BCRYPT_ROUNDS": 5}
JSON = {"Accept": "application/json"}


@pytest.fixture
def app(site: Site) -> Flask:
    """The app that the fixture of the kit looks for."""
    return site.app


def _sign_up(app: Flask, email: str = "ada@example.com") -> Any:
    return app.test_client().post("/auth/signup", json={"email": email, "password": PASSWORD})


# Letters


def test_the_outbox_has_what_was_sent(app: Flask, outbox: list[Any]) -> None:
    """The outbox holds the letters of the test, the newest last."""
    assert outbox == []

    _sign_up(app, "ada@example.com")
    _sign_up(app, "bob@example.com")

    assert [letter.to for letter in outbox] == ["ada@example.com", "bob@example.com"]
    assert outbox[-1].link is not None


def test_the_transport_gets_the_letters_too(site: Site) -> None:
    """What is recorded is handed on, and after the recording nothing is recorded any more."""
    with record_letters(site.app) as letters:
        _sign_up(site.app, "ada@example.com")
    _sign_up(site.app, "bob@example.com")

    assert [letter.to for letter in letters] == ["ada@example.com"]
    assert [letter.to for letter in site.letters] == ["ada@example.com", "bob@example.com"]


def test_what_the_transport_refuses_is_not_in_the_outbox(site: Site) -> None:
    """A letter that could not be handed over is not recorded."""
    site.transport.fault = MailRejected("no")

    with record_letters(site.app) as letters:
        _sign_up(site.app)

    assert letters == []


@pytest.mark.parametrize("config", [{"MAIL_SUPPRESS_SEND": True}, {}, {"ACCOUNTFLOW_MAIL_TRANSPORT": "console"}])
def test_the_outbox_works_whatever_the_transport(make_site: MakeSite, config: dict[str, Any]) -> None:
    """Letters are recorded where Flask-Mail suppresses sending, by itself under TESTING, and with other transports."""
    site = make_site(config, transport=None)

    with record_letters(site.app) as letters:
        _sign_up(site.app)

    assert [letter.to for letter in letters] == ["ada@example.com"]


def test_letters_that_leave_later_are_refused(make_site: MakeSite) -> None:
    """An app whose letters leave by threads is told how to have them at once."""
    site = make_site({"ACCOUNTFLOW_MAIL_KICK": ABSENT})

    with pytest.raises(ValueError, match="ACCOUNTFLOW_MAIL_KICK = 'inline'"), record_letters(site.app):
        pass


def test_a_kick_of_the_app_is_taken_as_it_is(make_site: MakeSite) -> None:
    """An app with a kick of its own decides by it when letters leave."""
    site = make_site({"ACCOUNTFLOW_MAIL_KICK": ABSENT}, kick=lambda: None)

    with record_letters(site.app) as letters:
        _sign_up(site.app)
        InlineKick(site.app.extensions["accountflow_delivery"])()

    assert [letter.to for letter in letters] == ["ada@example.com"]


def test_a_link_is_one_for_the_client(app: Flask, outbox: list[Any]) -> None:
    """The link in a letter, without scheme and host, is where a test client confirms the address."""
    _sign_up(app)

    answer = app.test_client().post(link(outbox[-1]), json={})

    assert link(outbox[-1]).startswith("/auth/verify/")
    assert answer.json["status"] == "verified"


def test_a_link_of_a_front_end_keeps_its_query(make_site: MakeSite) -> None:
    """A link to the app's own front end keeps what follows its path."""
    site = make_site({"ACCOUNTFLOW_VERIFY_URL": "https://app.example.com/verify?token={token}#here"})

    with record_letters(site.app) as letters:
        _sign_up(site.app)

    assert re.fullmatch(r"/verify\?token=[\w.-]+#here", link(letters[-1]))


def test_a_letter_without_a_link_says_so(app: Flask, outbox: list[Any]) -> None:
    """Asking for the link of a letter without one names the letter."""
    make_user(app, "ada@example.com")
    _sign_up(app, "ada@example.com")

    with pytest.raises(AssertionError, match=r"'already_registered' to ada@example\.com has no link"):
        link(outbox[-1])


# Users


def test_a_user_is_made(site: Site) -> None:
    """A user is verified and no administrator, unless the test says otherwise, and can log in."""
    usual = make_user(site.app)
    other = make_user(site.app, "ada@example.com", "another horse battery", verified=False, admin=True)

    assert (usual.email, usual.email_verified, usual.is_admin) == ("user@example.com", True, False)
    assert (other.email, other.email_verified, other.is_admin) == ("ada@example.com", False, True)
    assert site.program().login("user@example.com", PASSWORD).status_code == 200


def test_a_user_without_a_password_is_mailed_a_link(app: Flask, outbox: list[Any]) -> None:
    """A user who is made without a password gets a letter to set one."""
    make_user(app, password=None)

    assert [letter.template for letter in outbox] == ["set_password"]


def test_a_user_belongs_to_the_session_of_the_test(site: Site) -> None:
    """Within an app context the user is in its database session; without one it is loaded and on its own."""
    with site.app.app_context():
        inside = make_user(site.app, "ada@example.com")
        assert inside in site.db.session
    outside = make_user(site.app, "bob@example.com")

    assert outside.created_at is not None
    assert sa.inspect(outside).detached


def test_a_user_of_another_app_needs_no_context_of_it(make_site: MakeSite) -> None:
    """In the app context of one app, a user is made in the other."""
    one, other = make_site(), make_site()

    with one.app.app_context():
        make_user(other.app)

    assert (len(one.rows("user")), len(other.rows("user"))) == (0, 1)


def test_a_user_keeps_to_the_rules(app: Flask) -> None:
    """An address that is taken and a password that is too short are refused as for an operator."""
    make_user(app)

    with pytest.raises(Refusal, match="already has an account"):
        make_user(app)
    with pytest.raises(Refusal) as caught:
        make_user(app, "ada@example.com", "short")
    assert [fault.code for fault in caught.value.fields] == ["too_short"]


def test_a_browser_is_logged_in(site: Site) -> None:
    """The client has the cookie of a login by the page, and is known on the pages of members."""
    client = signed_in_client(site.app, "ada@example.com")

    assert client.get("/secret").text == "secret of ada@example.com"
    assert [row.kind for row in site.rows("session")] == ["browser"]


def test_a_program_is_logged_in(site: Site) -> None:
    """The client sends its access token with every request, and has no cookie."""
    client = signed_in_client(site.app, "ada@example.com", bearer=True)

    assert client.get("/secret").text == "secret of ada@example.com"
    assert client.get("/auth/me").json["email"] == "ada@example.com"
    assert [row.kind for row in site.rows("session")] == ["api"]


def test_an_account_that_is_there_is_logged_in(site: Site) -> None:
    """Who has an account is logged in to it, however the address is spelled."""
    make_user(site.app, "ada@example.com", "another horse battery")

    client = signed_in_client(site.app, "ADA@example.com", "another horse battery")

    assert client.get("/secret").text == "secret of ada@example.com"


@pytest.mark.parametrize("bearer", [False, True], ids=["browser", "bearer"])
@pytest.mark.parametrize(
    "flags", [{"verified": False}, {"password": "another horse battery"}], ids=["unproved", "wrong"]
)
def test_a_login_that_is_refused_says_why(app: Flask, flags: dict[str, Any], bearer: bool) -> None:
    """A login that is refused raises with the answer."""
    make_user(app, "ada@example.com", **flags)

    with pytest.raises(AssertionError, match=r"ada@example\.com was not logged in") as caught:
        signed_in_client(app, "ada@example.com", bearer=bearer)

    said = {(False, "verified"): "signup/sent", (True, "verified"): "Confirm your email first"}
    assert said.get((bearer, next(iter(flags))), "Email or password isn't right.") in str(caught.value).replace(
        "&#39;", "'"
    )


def test_a_login_page_without_its_form_is_named(site: Site) -> None:
    """A login page that has no form with an email is named, with what it shows."""
    _show(
        site, "login", "<head><title>x</title></head><form action='/search'><input name='email'></form> <b>Closed.</b>"
    )

    with pytest.raises(AssertionError, match=r"no form with an email on /auth/login; the page was 200 OK .*Closed\."):
        signed_in_client(site.app)


def test_a_form_is_sent_as_a_browser_sends_it(site: Site) -> None:
    """A field without a value is sent empty, a ticked box as on, and a box that is not ticked not at all."""
    inputs = (
        "<input name='a'><input name='b' type='checkbox' checked><input name='c' type='radio'><input type='submit'>"
    )
    _show(site, "login", "<input name='z'><form><input name='email'>" + inputs + "</form><input name='z'>")
    sent: dict[str, str] = {}
    site.app.before_request(lambda: sent.update(request.form))

    with pytest.raises(AssertionError, match="not logged in"):
        signed_in_client(site.app)

    assert sent == {"a": "", "b": "on", "email": "user@example.com", "password": PASSWORD}


def test_the_clock_goes_when_it_is_told_to(make_site: MakeSite) -> None:
    """A link expires when the app's clock, which the test moves, has gone on for so long."""
    clock = Clock()
    site = make_site(clock=clock)
    _sign_up(site.app)

    clock.tick(86400)

    assert site.program().verify(site.last_link).json["code"] == "token_expired"


def test_the_clock_starts_where_it_is_told_to() -> None:
    """A clock starts at the moment it is given, and else now, in whole seconds of UTC."""
    start = datetime(2026, 11, 21, 8, 30, tzinfo=timezone.utc)
    before = datetime.now(timezone.utc).replace(microsecond=0)

    assert Clock(start)() == start
    assert before <= Clock()() <= datetime.now(timezone.utc)
    assert Clock()().microsecond == 0


# The plugin


CONSUMER = {
    "conftest.py": '''
import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_accountflow import AccountFlow, UserMixin
from flask_accountflow.testing import make_user

pytest_plugins = ["flask_accountflow.testing"]

@pytest.fixture
def app(tmp_path):
    app = Flask("shop")
    app.config.update(
        TESTING=True, SECRET_KEY="0123456789abcdef0123456789abcdef", SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/x.db",
        ACCOUNTFLOW_MAIL_KICK="inline", ACCOUNTFLOW_BCRYPT_ROUNDS=4, MAIL_DEFAULT_SENDER="shop@example.com",
        ACCOUNTFLOW_BASE_URL="https://www.example.com",
    )
    db = SQLAlchemy(app)
    class User(UserMixin, db.Model):
        __tablename__ = "users"
    AccountFlow(app, db, User)
    with app.app_context():
        db.create_all()
        yield app
        db.engine.dispose()
''',
    "test_shop.py": '''
from flask_accountflow.testing import assert_indistinguishable, link, signed_in_client

def test_sign_up(app, outbox):
    app.test_client().post("/auth/signup", json={"email": "ada@example.com", "password": "correct horse battery"})
    assert app.test_client().post(link(outbox[-1]), json={}).status_code == 200

def test_member(app):
    assert signed_in_client(app).get("/auth/me").status_code == 200

def test_nobody_learns_who_has_an_account(app):
    assert_indistinguishable(app, actions=["login"])
''',
}  # fmt: skip


@pytest.mark.slow
def test_an_app_uses_the_kit_as_a_plugin(tmp_path: Path) -> None:
    """A conftest.py that names the plugin, and imports from it as well, has the fixture, without a warning."""
    for name, text in CONSUMER.items():
        (tmp_path / name).write_text(text)

    line = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(tmp_path)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST"))}
    environment = {**inherited, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_the_package_does_without_pytest() -> None:
    """Importing the package does not import pytest."""
    code = "import sys, flask_accountflow; sys.exit('pytest' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, timeout=60).returncode == 0


# The proof: apps that tell nothing


@pytest.mark.slow
def test_SUP_01_LOG_01_RST_01_VER_12_SUP_21_our_own_answers_tell_nothing(
    make_site: MakeSite, database_uri: str
) -> None:
    """On every database our own pages, with all limits, tell nobody who has an account, and nothing is left behind."""
    site = make_site(EVERYTHING, uri=database_uri)
    make_user(site.app)
    site.program().signup("ada@example.com")
    before = {name: site.rows(name) for name in ("user", "token", "session", "mail")}
    site.letters.clear()

    assert_indistinguishable(site.app)

    assert {name: site.rows(name) for name in before} == before
    assert site.letters == []


@pytest.mark.slow
def test_the_example_app_tells_nothing(tmp_path: Path) -> None:
    """The example app, with its templates and its own field, tells nobody who has an account."""
    uri = f"sqlite:///{tmp_path / 'example.db'}"
    own = {name: value for name, value in CONFIG.items() if name != "ACCOUNTFLOW_RATELIMIT_ENABLED"}
    app = create_app({**own, **EVERYTHING, "SQLALCHEMY_DATABASE_URI": uri})
    with app.app_context():
        db.create_all()

    assert_indistinguishable(app, fields={"name": "Ada"})

    with app.app_context():
        db.engine.dispose()


def _show(site: Site, page: str, text: str) -> None:
    """Let the app have a page of its own."""
    own = DictLoader({f"accountflow/{page}.html": text})
    site.app.jinja_loader = ChoiceLoader([own, *([site.app.jinja_loader] if site.app.jinja_loader else [])])


def _holder(site: Site) -> Any:
    """Return the user whose address was posted; one statement for every address."""
    data = request.get_json(silent=True) or request.form
    return site.db.session.scalars(sa.select(site.User).filter_by(email_key=data.get("email"))).first()


def _restless(site: Site) -> None:
    """Plant what differs between any two answers: ids, nonces, times, a picture of the address."""

    @site.app.after_request
    def mark(response: Response) -> Response:
        response.headers["X-Request-Id"] = secrets.token_hex(16)
        response.headers["X-Frame-Policy"] = f"nonce-{secrets.token_hex(8)}"
        response.headers["Expires"] = datetime.now().strftime("%a, %d %b %Y %H:%M:%S GMT")
        response.set_cookie("visit", secrets.token_hex(16))
        return response

    text = "{{ secret() }} {{ now() }} <img src='/pictures/{{ picture(data.email) }}'> {{ data.email }}"
    _show(site, "signup_sent", text)
    site.app.jinja_env.globals.update(
        secret=lambda: secrets.token_hex(20),
        now=lambda: datetime.now().strftime("%H:%M:%S.%f"),
        picture=lambda email: hashlib.sha256(email.encode()).hexdigest(),
    )


def test_what_is_random_does_not_count(make_site: MakeSite) -> None:
    """Request ids, nonces, times of day, random cookies and digests of the typed address are no difference."""
    site = make_site()
    _restless(site)

    assert_indistinguishable(site.app, actions=["signup"])


def test_what_is_said_by_chance_does_not_count(make_site: MakeSite) -> None:
    """A difference that is not there again is none: here the first of all answers has one more header."""
    site = make_site()
    answers: list[int] = []

    @site.app.after_request
    def mark(response: Response) -> Response:
        if request.path == "/auth/password-reset/request" and request.method == "POST":
            answers.append(1)
            if len(answers) == 1:
                response.headers["X-Warm"] = "no"
        return response

    assert_indistinguishable(site.app, actions=["reset"])
    assert len(answers) > 7


def test_what_is_to_be_ignored_does_not_count(make_site: MakeSite) -> None:
    """What differs from answer to answer in its length is named, and left out when the test says so."""
    site = make_site()

    @site.app.after_request
    def mark(response: Response) -> Response:
        response.headers["Server-Timing"] = "total;dur=" + "9" * secrets.choice(range(1, 99))
        return response

    with pytest.raises(
        AssertionError, match="the headers of the reset differs between unknown addresses, too"
    ) as caught:
        assert_indistinguishable(site.app, actions=["reset"])
    assert "ignore=" in str(caught.value)
    assert_indistinguishable(site.app, actions=["reset"], ignore=[r"^Server-Timing: .*"])


def test_a_hook_that_the_test_allows(make_site: MakeSite) -> None:
    """A hook that writes a row for each new account is found; it may be ignored, and what its rows point at stays."""
    site = make_site(on_signup=lambda user, form: site.db.session.add(Profile(user_id=user.id)))
    engine = _engine(site)
    event.listen(engine, "connect", lambda connection, record: connection.execute("PRAGMA foreign_keys=ON"))

    class Profile(site.db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "profiles"
        id = sa.Column(sa.Integer, primary_key=True)
        user_id = sa.Column(sa.ForeignKey(site.tables.user_key))

    Profile.__table__.create(engine)

    with pytest.raises(AssertionError, match="INSERT INTO profiles"):
        assert_indistinguishable(site.app, actions=["signup"])
    assert_indistinguishable(site.app, actions=["signup"], ignore=[r"^INSERT INTO profiles .*"])
    assert len(site.rows("user")) > 0
    assert site.rows("mail") == site.rows("token") == []


def _engine(site: Site) -> sa.Engine:
    with site.app.app_context():
        engine: sa.Engine = site.db.engine
    engine.dispose()
    return engine


def test_what_threads_do_meanwhile_does_not_matter(make_site: MakeSite) -> None:
    """Where mails leave by threads, what those do meanwhile is not taken for a part of the answer."""
    kicks: list[ThreadKick] = []
    site = make_site(kick=lambda: [kick() for kick in kicks])
    kicks.append(ThreadKick(site.app.extensions["accountflow_delivery"]))

    assert_indistinguishable(site.app, actions=["reset"])

    assert kicks[0].stop(30)


def test_the_context_of_the_test_does_not_matter(make_site: MakeSite) -> None:
    """Within an app context with a session in use, as many tests have one, nothing is found that is not there."""
    site = make_site()
    make_user(site.app)

    with site.app.app_context():
        user = site.db.session.scalars(sa.select(site.User)).one()
        assert_indistinguishable(site.app, actions=["login"])
        assert user in site.db.session


def test_a_client_lends_its_environment(make_site: MakeSite) -> None:
    """An app that wants a header with every request is asked by a client that sends it."""
    site = make_site()
    site.app.before_request(lambda: None if request.headers.get("X-Tenant") == "shop" else ("Which shop?", 400))
    client = site.app.test_client()
    client.environ_base["HTTP_X_TENANT"] = "shop"

    assert_indistinguishable(client, actions=["resend"])
    with pytest.raises(AssertionError, match=r"Nobody can sign up \(json\): 400 .*Which shop\?"):
        assert_indistinguishable(site.app, actions=["resend"])


class AskingForm(SignupForm):
    """A sign-up form that asks for more."""

    name = StringField("Name", [DataRequired()])


def test_what_a_form_asks_for_is_given(make_site: MakeSite) -> None:
    """A form of the app's own is filled with what the test gives, and without it the test is told."""
    site = make_site(signup_form=AskingForm)

    assert_indistinguishable(site.app, actions=["signup"], fields={"name": "Ada", "password": "ten mild pears"})
    with pytest.raises(AssertionError, match="Name in fields= what your sign-up form asks for"):
        assert_indistinguishable(site.app, actions=["signup"])


def test_what_is_switched_off_is_not_compared(make_site: MakeSite) -> None:
    """While sign-up is closed the rest is compared, and asking for sign-up says that it is closed."""
    site = make_site({"ACCOUNTFLOW_SIGNUP_ENABLED": False})

    assert_indistinguishable(site.app, actions=["resend", "reset", "login"])
    with pytest.raises(AssertionError, match=r"403 FORBIDDEN .*leave an action that is switched off out of actions="):
        assert_indistinguishable(site.app, actions=["signup"])


@pytest.mark.parametrize("actions", [[], ["signup", "log in"]])
def test_an_action_that_there_is_not_is_refused(site: Site, actions: list[str]) -> None:
    """Something else than the four actions, or none, is a mistake of the test."""
    with pytest.raises(ValueError, match="actions must be some of signup, resend, reset, login"):
        assert_indistinguishable(site.app, actions=actions)


# The proof: apps that tell something


def _found(site: Site, **more: Any) -> str:
    """Return what the proof says of an app that tells something."""
    with pytest.raises(AssertionError) as caught:
        assert_indistinguishable(site.app, **more)
    return str(caught.value)


def test_a_page_that_tells(make_site: MakeSite) -> None:
    """A template that says so to whoever has an account is found, with the line, the page and everybody concerned."""
    site = make_site()
    _show(site, "signup_sent", "<p>Thanks.</p>\n<p>{{ 'user exists' if is_known(data.email) else 'welcome' }}</p>")
    # A sign-up makes an account, so this page tells of proved ones.
    proved = sa.select(site.User).where(site.User.email_verified_at.is_not(None))
    site.app.jinja_env.globals["is_known"] = lambda email: (
        site.db.session.scalars(proved.filter_by(email_key=email)).first() is not None
    )

    said = _found(site, actions=["signup"])

    page = "of the page after the signup"
    assert said.splitlines() == [
        f"signup (html): the body {page} tells that an address is verified.",
        "--- unknown",
        "+++ verified",
        "@@ -1,2 +1,2 @@",
        " <p>Thanks.</p>",
        "-<p>welcome</p>",
        "+<p>user exists</p>",
        "Different from an unknown one:",
        f"  verified: the body {page}, the headers {page}",
        f"  disabled: the body {page}, the headers {page}",
        f"  without a password: the body {page}, the headers {page}",
    ]


def _add_header(site: Site) -> None:
    @site.app.after_request
    def mark(response: Response) -> Response:
        if request.method == "POST" and _holder(site) is not None:
            response.headers["X-Known"] = "yes"
        return response


def _set_cookie(site: Site) -> None:
    @site.app.before_request
    def mark() -> None:
        if request.method == "POST":
            known = str(_holder(site) is not None)
            after_this_request(lambda response: response.set_cookie("seen", known) or response)


def _set_another_cookie(site: Site) -> None:
    @site.app.before_request
    def mark() -> None:
        if request.method == "POST" and _holder(site) is not None:
            after_this_request(lambda response: response.set_cookie("seen", "1") or response)


def _add_header_over_the_limit(site: Site) -> None:
    @site.app.after_request
    def mark(response: Response) -> Response:
        if response.status_code == 429 and _holder(site) is not None:
            response.headers["X-Known"] = "yes"
        return response


def _wait_longer_over_the_limit(site: Site) -> None:
    @site.app.after_request
    def mark(response: Response) -> Response:
        if response.status_code == 429:
            wait = "86400" if _holder(site) is not None else "300"
            response.headers["Retry-After"] = wait
            response.data = f"Come back in {wait} seconds."
        return response


def _add_header_after_a_sign_up(site: Site) -> None:
    @site.app.after_request
    def mark(response: Response) -> Response:
        user = _holder(site) if request.path == "/auth/login" and request.method == "POST" else None
        if response.status_code in {303, 403} and user is not None and user.password_hash is not None:
            response.headers["X-Known"] = "yes"
        return response


def _add_header_while_mails_wait(site: Site) -> None:
    mail = site.tables.mail

    @site.app.after_request
    def mark(response: Response) -> Response:
        tried = sa.select(sa.func.count()).where(mail.c.attempts > 0, mail.c.sent_at.is_(None))
        if request.method == "POST" and site.db.session.execute(tried).scalar_one():
            response.headers["X-Mail"] = "late"
        return response


def _query_when_a_login_fails(site: Site) -> None:
    @events.login_failed.connect_via(site.app)
    def note(app: Flask, **payload: Any) -> None:
        if payload["user_id"] is not None:
            site.db.session.execute(sa.text("SELECT 'a login of a member failed'"))

    site.app.extensions["kept"] = note


def _commit_when_a_login_fails(site: Site) -> None:
    @events.login_failed.connect_via(site.app)
    def note(app: Flask, **payload: Any) -> None:
        site.db.session.execute(sa.text("SELECT 'a login failed'"))
        if payload["user_id"] is not None:
            site.db.session.commit()

    site.app.extensions["kept"] = note


def _query_when_a_mail_waits(site: Site) -> None:
    @events.mail_queued.connect_via(site.app)
    def note(app: Flask, **payload: Any) -> None:
        site.db.session.execute(sa.text("SELECT 'a mail waits'"))

    site.app.extensions["kept"] = note


class Hasty(BcryptHasher):
    """Has nothing to check a password against, and so saves the work."""

    def check(self, password: str, *stored: str | None) -> tuple[bool, ...]:
        return tuple(one is not None and super(Hasty, self).check(password, one)[0] for one in stored)


class Plain(BcryptHasher):
    """Checks a hash at its own cost, be it older or not."""

    def check(self, password: str, *stored: str | None) -> tuple[bool, ...]:
        costs = [int(one.split("$")[4]) if one is not None else 5 for one in stored]
        pairs = zip(costs, stored, strict=True)
        return tuple(BcryptHasher(cost).check(password, one)[0] for cost, one in pairs)


class RefusingForm(SignupForm):
    """A form that wants a new address."""

    def validate_email(self, field: Any) -> None:
        database, user = _FORM_DATABASE["db"], _FORM_DATABASE["User"]
        found = database.session.scalars(sa.select(user).filter_by(email_key=field.data)).first()
        if found is not None and found.email_verified:
            raise ValidationError("This address is taken.")


class CuriousForm(SignupForm):
    """A form that looks on when it finds somebody."""

    def validate_email(self, field: Any) -> None:
        database, user = _FORM_DATABASE["db"], _FORM_DATABASE["User"]
        if database.session.scalars(sa.select(user.id).filter_by(email_key=field.data)).first() is not None:
            database.session.execute(sa.text("SELECT 'how many orders?'"))


#: Forms know their app's database as a module knows it.
_FORM_DATABASE: dict[str, Any] = {}


def _know_database(site: Site) -> None:
    _FORM_DATABASE.update(db=site.db, User=site.User)


#: What is planted, the parts of the app, what is asked, where it is found, and what by.
LEAKS: dict[str, tuple[Callable[[Site], None], dict[str, Any], str, str, str]] = {
    "a header": (_add_header, {}, "reset", r"reset \(json\): the headers of the reset", r"\+X-Known: yes"),
    "a cookie's value": (_set_cookie, {}, "login", r"login \(json\): the cookies of the login", r"\+seen=True"),
    "a cookie": (_set_another_cookie, {}, "resend", r"resend \(json\): the cookies of the resend", r"\+seen=1"),
    "a header of 429": (
        _add_header_over_the_limit, {}, "login", r"login over the limit \(json\): the headers", r"\+X-Known: yes",
    ),
    "a longer wait": (
        _wait_longer_over_the_limit, {}, "login",
        r"login over the limit \(json\): the headers", r"\+Retry-After: 9e\+04",
    ),
    "a receiver of failures": (
        _query_when_a_login_fails, {}, "login", r"login \(json\): the SQL", r"\+SELECT 'a login of a member failed'",
    ),
    "a receiver that commits": (
        _commit_when_a_login_fails, {}, "login", r"login \(json\): the SQL", r"\n\+END",
    ),
    "a receiver of mails": (
        _query_when_a_mail_waits, {}, "reset", r"reset \(json\): the SQL", r"\+SELECT 'a mail waits'",
    ),
    "a hasher without a dummy": (
        lambda site: None, {"hasher": Hasty(5)}, "login",
        r"login \(json\): the hashing", r"-0 rounds of bcrypt\n\+32 rounds",
    ),
    "a hasher that spares old hashes": (
        lambda site: None, {"hasher": Plain(5)}, "login",
        r"login \(json\): the hashing tells that an address is with an older hash", r"\+48 rounds",
    ),
    "a form that refuses": (
        _know_database, {"signup_form": RefusingForm}, "signup",
        r"signup \(json\): the status of the signup tells that an address is verified", r"\+422",
    ),
    "a form that looks on": (
        _know_database, {"signup_form": CuriousForm}, "signup",
        r"signup \(json\): the SQL", r"\+SELECT 'how many orders\?'",
    ),
    "mails that wait": (
        _add_header_while_mails_wait, {}, "reset",
        r"reset without a mail server \(json\): the headers", r"\+X-Mail: late",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("plant", "parts", "action", "where", "what"), LEAKS.values(), ids=LEAKS)
def test_what_tells_is_found(
    make_site: MakeSite, plant: Callable[[Site], None], parts: dict[str, Any], action: str, where: str, what: str
) -> None:
    """Whatever tells a known address from an unknown one is found, and it is said where and by what."""
    site = make_site(EVERYTHING, **parts)
    plant(site)

    said = _found(site, actions=[action])

    assert re.match(where, said), said
    assert re.search(what, said), said


def test_a_hook_for_new_accounts_is_found(make_site: MakeSite) -> None:
    """A statement in the hook of new accounts, which nobody runs for a known address, is found."""
    site = make_site(on_signup=lambda user, form: site.db.session.execute(sa.text("SELECT 'welcome'")))

    said = _found(site, actions=["signup"])

    assert said.startswith("signup (json): the SQL tells that an address is verified.")
    assert "-SELECT 'welcome'" in said
    assert {line.split(":")[0].strip() for line in said.splitlines()[-4:]} == {
        "verified", "unverified", "disabled", "without a password",
    }  # fmt: skip


def test_what_tells_only_one_after_the_other_is_found(make_site: MakeSite) -> None:
    """What only a login after a sign-up tells is found where both are asked, and cannot be where one is."""
    site = make_site()
    _add_header_after_a_sign_up(site)

    said = _found(site, actions=["signup", "login"])

    assert said.startswith("signup, then login (json): the headers of the login tells that an address is verified.")
    assert_indistinguishable(site.app, actions=["signup"])


def test_what_only_a_page_tells_is_found(make_site: MakeSite) -> None:
    """What a browser alone is shown is found where a browser asks."""
    site = make_site()
    _show(
        site, "login", "{% extends 'accountflow/default/login.html' %}{% block heading %}{{ greeting() }}{% endblock %}"
    )
    site.app.jinja_env.globals["greeting"] = lambda: (
        "Log in" if request.method == "GET" or _holder(site) is None else "Hello"
    )

    said = _found(site, actions=["login"])

    assert said.startswith("login (html): the body of the login tells that an address is verified.")
    assert "verified: the body of the login, the headers of the login" in said


def test_links_in_answers_are_found(make_site: MakeSite) -> None:
    """The switch of development that puts links into answers tells who has an account, and that is found."""
    site = make_site({"ACCOUNTFLOW_RETURN_TOKEN_IN_RESPONSE": True})

    assert _found(site, actions=["reset"]).startswith("reset (json): the body of the reset tells")


def test_what_was_watched_is_as_before(make_site: MakeSite) -> None:
    """After the proof, as after one that found something, bcrypt, the transport and the engines are as before."""
    site = make_site()
    deliverer = site.app.extensions["accountflow_delivery"]
    before = bcrypt.hashpw, bcrypt.checkpw, deliverer._transport

    assert_indistinguishable(site.app, actions=["login"])
    _add_header(leaking := make_site())
    _found(leaking, actions=["login"])

    assert (bcrypt.hashpw, bcrypt.checkpw, deliverer._transport) == before
    assert "deliver_due" not in vars(deliverer)
    with site.statements() as statements:
        _sign_up(site.app)
    assert len(statements) > 3
    assert len(site.letters) == 1


def test_deliveries_of_other_threads_do_not_count(make_site: MakeSite) -> None:
    """What a thread that delivers does meanwhile is no part of an answer, and is not held up."""
    site = make_site({"ACCOUNTFLOW_MAIL_KICK": "worker"})
    _sign_up(site.app)
    with _Watch(site.app) as watch:
        thread = threading.Thread(target=site.app.extensions["accountflow_delivery"].deliver_due)
        thread.start()
        thread.join(10)

    assert len(site.letters) == 1
    assert watch.statements == []
