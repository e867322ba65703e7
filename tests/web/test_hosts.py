"""Hosts that are not as simple as most: other extensions, other mounts, templates of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from answers import FORM, field, heading, links, tags, words
from flask import Flask, Response, request
from flask_mail import Mail
from flask_sqlalchemy import SQLAlchemy
from flask_wtf.csrf import CSRFProtect
from jinja2 import DictLoader, FileSystemLoader
from support import CONFIG, OTHER_PASSWORD, PASSWORD, MemoryTransport, Person, Program, Site, forms_of
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client
from werkzeug.wrappers import Response as PlainResponse

from flask_accountflow import AccountFlow, UserMixin
from flask_accountflow.flow import Action, Outcome
from flask_accountflow.flows import ACTIONS

EMAIL = "vic@example.com"


class Protected:
    """A host with Flask-WTF's CSRFProtect, initialised before or after us, or twice."""

    def __init__(self, uri: str, order: str) -> None:
        self.app = Flask(__name__)
        self.app.config.update(CONFIG, SQLALCHEMY_DATABASE_URI=uri)
        self.db = db = SQLAlchemy(self.app)
        self.transport = MemoryTransport()

        class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
            __tablename__ = "users"

        if order == "before":
            CSRFProtect(self.app)
        AccountFlow(self.app, db, User, transport=self.transport)
        if order == "after":
            CSRFProtect(self.app)

        @self.app.post("/order")
        def order_() -> str:
            return "ordered"

        with self.app.app_context():
            db.create_all()


@pytest.fixture(params=["before", "after"])
def protected(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Protected]:
    """A host with CSRFProtect, in either order of initialisation."""
    host = Protected(f"sqlite:///{tmp_path / 'host.db'}", request.param)
    yield host
    with host.app.app_context():
        host.db.engine.dispose()


class Secure:
    """A browser that comes by https and obeys our Referrer-Policy."""

    def __init__(self, app: Flask) -> None:
        self.client = app.test_client()

    def get(self, path: str) -> Any:
        """Open a page."""
        return self.client.get(path, headers=Person.headers, base_url="https://www.example.com")

    def post(self, path: str, data: dict[str, str], **how: Any) -> Any:
        """Send a form."""
        headers = {**Person.headers, "Origin": "https://www.example.com", "Sec-Fetch-Site": "same-origin"}
        return self.client.post(path, data=data, headers=headers, base_url="https://www.example.com", **how)

    def fill(self, path: str, **fields: str) -> Any:
        """Fill in the first form of a page."""
        form = forms_of(self.get(path))[0]
        return self.post(form.action, {**form.values, **fields})


def test_a_host_with_CSRFProtect_over_https(protected: Protected) -> None:
    """Beside CSRFProtect over https the whole story works: sign-up, link, login, logout, reset."""
    browser = Secure(protected.app)

    sent = browser.fill("/auth/signup", email=EMAIL, password=PASSWORD)
    confirmed = browser.fill(_path(protected), **{})
    out = browser.fill("/auth/logout")
    asked = browser.fill("/auth/password-reset/request", email=EMAIL)
    done = browser.fill(_path(protected), password=OTHER_PASSWORD)
    back = browser.fill("/auth/login", email=EMAIL, password=OTHER_PASSWORD)

    assert [answer.status_code for answer in (sent, confirmed, out, asked, done, back)] == [303] * 6
    assert browser.get("/auth/me").status_code == 200


def _path(host: Protected) -> str:
    return str(host.transport.letters[-1].link).removeprefix("https://www.example.com")


def test_a_program_beside_CSRFProtect(protected: Protected) -> None:
    """Beside CSRFProtect a program needs no token of the host's."""
    client = protected.app.test_client(use_cookies=False)
    how: dict[str, Any] = {"headers": Program.headers, "base_url": "https://www.example.com"}

    signup = client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD}, **how)
    verify = client.post(_path(protected), json={}, **how)
    login = client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD}, **how)

    assert [answer.status_code for answer in (signup, verify, login)] == [202, 200, 200]


def test_CSRFProtect_still_protects_the_host(protected: Protected) -> None:
    """What is not ours is still the host's to protect, and ours is still protected by us."""
    browser = Secure(protected.app)
    browser.get("/auth/login")

    theirs = browser.post("/order", {})
    ours = browser.post("/auth/login", {"email": EMAIL, "password": PASSWORD})

    assert (theirs.status_code, ours.status_code) == (400, 403)
    assert heading(ours) == "Log in"


@pytest.mark.usefixtures("own_site")
def test_another_extension_called_csrf_is_left_alone(site: Site) -> None:
    """Something else that calls itself csrf is not asked for anything."""
    site.app.extensions["csrf"] = object()

    assert site.person().get("/auth/login").status_code == 200


@pytest.fixture
def mounted(site: Site) -> Any:
    """A browser at a site that is mounted below /shop."""
    site.app.config["APPLICATION_ROOT"] = "/shop"
    below: Any = DispatcherMiddleware(PlainResponse("nothing here", 404), {"/shop": site.app.wsgi_app})
    person: Any = site.person()
    person.client = Client(below, Response)
    return person


@pytest.mark.usefixtures("own_site")
def test_a_site_below_a_path(site: Site, mounted: Person) -> None:
    """A site that is mounted below a path has it in its redirects, forms, links, files and in ``next``."""
    site.member()

    away = mounted.get("/shop/secret?page=2")
    login = mounted.follow(away)
    done = mounted.submit(login, email=EMAIL, password=PASSWORD)
    back = mounted.follow(done)
    account = mounted.get("/shop/auth/me")
    out = mounted.submit(account)

    assert away.headers["Location"] == "/shop/auth/login?next=/shop/secret?page%3D2"
    assert forms_of(login)[0].action == "/shop/auth/login"
    assert str(tags(login, "script")[0]["src"]).startswith("/shop/auth/static/")
    assert done.headers["Location"] == "/shop/secret?page=2"
    assert back.text == f"secret of {EMAIL}"
    assert links(account)[0] == "/shop/"
    assert all(link.startswith("/shop/") for link in links(account))
    assert out.headers["Location"] == "/shop/auth/login"


@pytest.mark.usefixtures("own_site")
def test_the_whole_story_below_a_path(site: Site, mounted: Person) -> None:
    """Below a path every page leads to the next one."""
    sent = mounted.fill("/shop/auth/signup", email="ada@example.com", password=PASSWORD)
    again = mounted.submit(mounted.follow(sent))
    confirmed = mounted.fill("/shop" + site.last_link)
    page = mounted.get("/shop/auth/verify/a.b.c")
    asked = mounted.submit(page, email="ada@example.com")
    missing = mounted.get("/shop/auth/nothing")

    places = [answer.headers["Location"] for answer in (sent, again, confirmed, asked)]
    assert places == ["/shop/auth/signup/sent", "/shop/auth/signup/sent", "/shop/", "/shop/auth/signup/sent"]
    assert links(missing) == ["/shop/auth/login"]


@pytest.mark.usefixtures("own_site")
def test_a_template_of_the_host_takes_the_place_of_ours(site: Site) -> None:
    """A page of the same name in the app's templates is shown instead of ours, with the same variables."""
    site.app.jinja_loader = DictLoader(
        {"accountflow/login.html": "<h1>Enter {{ site_name }}</h1>{{ form.email.label.text }} {{ links.signup }}"}
    )

    page = site.person().get("/auth/login")

    assert page.text == "<h1>Enter Shop</h1>Email /auth/signup"
    assert heading(site.person().get("/auth/signup")) == "Create your account"


def test_one_block_of_all_pages_is_changed(make_site: Callable[..., Site], tmp_path: Path) -> None:
    """A page of the host's that extends ours changes one block and keeps the rest."""
    site = make_site()
    folder = tmp_path / "templates" / "accountflow"
    folder.mkdir(parents=True)
    (folder / "signup.html").write_text(
        '{% extends "accountflow/default/signup.html" %}'
        "{% block intro %}<p>Welcome to {{ site_name }}!</p>{% endblock %}"
    )
    site.app.jinja_loader = FileSystemLoader(tmp_path / "templates")
    person = site.person()

    page = person.get("/auth/signup")

    assert "Welcome to Shop!" in words(page)
    assert field(page, "email")["type"] == "email"
    assert person.submit(page, email="ada@example.com", password=PASSWORD).status_code == 303


@pytest.mark.usefixtures("own_site")
def test_the_frame_of_all_pages_is_the_hosts(site: Site) -> None:
    """A base template of the host's frames every page."""
    site.app.jinja_loader = DictLoader(
        {"accountflow/base.html": "<main>{% block heading %}{% endblock %}|{% block form %}{% endblock %}</main>"}
    )
    person = site.person()

    page = person.get("/auth/login")

    assert page.text.startswith("<main>Log in|")
    assert person.submit(page, email="x", password="y").status_code == 422


def test_style_sheets_of_the_host_come_after_ours(make_site: Callable[..., Site]) -> None:
    """STYLESHEETS are linked after our own, in their order."""
    site = make_site({"ACCOUNTFLOW_STYLESHEETS": ["/static/brand.css", "/static/more.css"]})

    page = site.person().get("/auth/login")

    sheets = [str(one["href"]).partition("?")[0] for one in tags(page, "link") if one["rel"] == "stylesheet"]
    assert sheets == ["/auth/static/accountflow.css", "/static/brand.css", "/static/more.css"]


def test_flask_mail_of_the_host(tmp_path: Path) -> None:
    """Where the host has set Flask-Mail up, its object is the one that records and sends."""
    app = Flask(__name__)
    app.config.update(CONFIG, SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path / 'host.db'}", MAIL_SUPPRESS_SEND=True)
    db, mail = SQLAlchemy(app), Mail(app)
    state = app.extensions["mail"]

    class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "users"

    AccountFlow(app, db, User)
    with app.app_context():
        db.create_all()
        with mail.record_messages() as outbox:
            app.test_client().post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
        db.engine.dispose()

    assert app.extensions["mail"] is state
    assert [message.recipients for message in outbox] == [[EMAIL]]


@pytest.mark.usefixtures("own_site")
def test_a_host_that_replaces_its_sessions_again_and_again(site: Site) -> None:
    """Mails go out although the host gives ``db.session`` another factory for each of its tests."""
    for number in range(30):
        site.db.session = site.db._make_scoped_session({})
        site.program().signup(f"user{number}@example.com")

    assert len(site.letters) == 30


@pytest.mark.usefixtures("own_site")
def test_a_hook_of_the_host_before_ours(site: Site) -> None:
    """A hook of the host answers in our place, and its answer has our headers."""

    @site.app.before_request
    def closed() -> tuple[str, int]:
        return "closed on Sundays", 503

    response = site.person().get("/auth/login")

    assert (response.status_code, response.text) == (503, "closed on Sundays")
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.usefixtures("own_site")
def test_a_body_that_a_hook_of_the_host_has_read(site: Site) -> None:
    """What a hook of the host has read of a request can still be read."""

    @site.app.before_request
    def read() -> None:
        request.get_data(cache=True, parse_form_data=False)

    site.member()

    assert site.program().login(EMAIL).status_code == 200
    assert site.person().login(EMAIL).status_code == 303


def test_two_apps_in_one_process(make_site: Callable[..., Site]) -> None:
    """Two apps have accounts, keys and mails of their own."""
    one, two = make_site(), make_site({"SECRET_KEY": "f" * 32, "ACCOUNTFLOW_SITE_NAME": "Other"})
    one.member()
    one.program().request_reset(email=EMAIL)
    pair = one.program().login(EMAIL)

    assert two.program().login(EMAIL).status_code == 401
    assert two.program().me(pair).status_code == 401
    assert two.program().get(one.last_link).status_code == 400
    assert two.letters == []
    assert "Other" in two.person().get("/auth/login").text


def test_a_host_whose_own_page_is_the_root(site: Site) -> None:
    """Below the prefix everything is ours, and nothing else."""
    found = {path: site.person().get(path).status_code for path in ("/", "/authentic", "/auth/nothing", "/nothing")}

    assert found == {"/": 200, "/authentic": 404, "/auth/nothing": 404, "/nothing": 404}
    assert "Shop" not in site.person().get("/authentic").text


def test_a_login_form_of_the_hosts_own(site: Site) -> None:
    """A page of the host may hold a login form: with the token of /csrf it posts to our address."""
    site.member()
    person = site.person()
    token = person.get("/auth/csrf").json["csrf_token"]

    body = f"email={EMAIL}&password={PASSWORD}&csrf_token={token}&next=/secret"
    response = person.client.post("/auth/login", data=body, content_type=FORM, headers=person.headers)

    assert response.headers["Location"] == "/secret"


def _count(services: Any, form: Any) -> Outcome:
    """Do something without a form."""
    return Outcome("counted", {"at": services.clock()})


def test_an_action_of_the_hosts_own(make_site: Callable[..., Site]) -> None:
    """A host's own action is served in both formats by the same rules, also without a form and a page."""
    site = make_site(actions=(*ACTIONS, Action("counter", "/counter", run=_count)))
    site.member()
    person, program = site.person(), site.program()
    token = person.get("/auth/csrf").json["csrf_token"]

    found = [visitor.get("/auth/counter") for visitor in (person, program)]
    sent = person.send("/auth/counter", {"csrf_token": token})
    unsafe = person.send("/auth/counter", {})
    counted = program.post("/auth/counter")

    assert [(answer.status_code, answer.headers["Allow"]) for answer in found] == [(405, "POST, OPTIONS")] * 2
    assert (sent.status_code, sent.headers["Location"]) == (303, "/auth/me")
    assert unsafe.status_code == 403
    assert counted.json == {"at": "2026-11-21T08:30:00Z"}
