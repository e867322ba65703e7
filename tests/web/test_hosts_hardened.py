"""Hosts that are hardened, or mounted in another way than most: people and programs get through the whole of it."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from answers import tags
from flask import Flask, Response
from flask.sessions import SessionInterface, SessionMixin
from flask_sqlalchemy import SQLAlchemy
from flask_talisman import Talisman
from flask_wtf.csrf import CSRFProtect
from sqlalchemy.exc import OperationalError
from support import (
    CONFIG,
    OTHER_PASSWORD,
    PASSWORD,
    MemoryTransport,
    Person,
    Program,
    Site,
    forms_of,
    services,
)
from werkzeug.datastructures import CallbackDict
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client
from werkzeug.wrappers import Response as PlainResponse

from flask_accountflow import AccountFlow, UserMixin, current_user, login_required

EMAIL = "vic@example.com"
HTTPS = "https://www.example.com"
HARDENED = {"ACCOUNTFLOW_COOKIE_DEFAULTS": True, "TESTING": False, "ACCOUNTFLOW_ALLOW_INSECURE": True}

MakeSite = Callable[..., Site]


class Caller:
    """Somebody who comes to a host by its public address."""

    def __init__(self, site: Site, *, app: Any = None, home: str = HTTPS, inside: str = "") -> None:
        parts = urlsplit(home)
        self.site = site
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self._root = parts.path
        self._client = Client(app if app is not None else site.app.wsgi_app, Response)
        #: Where a proxy reaches the app, and what it says then.
        self._server = inside or self.origin
        self._proxied = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": parts.netloc} if inside else {}

    def ask(self, method: str, address: str, headers: Mapping[str, str], **body: Any) -> Any:
        """Send a request to one of the site's addresses; a path may begin at the root of the host or of the app."""
        path = address.removeprefix(self.origin)
        full = path if path.startswith(self._root) else self._root + path
        sent = {**self._proxied, **headers}
        return self._client.open(full, method=method, base_url=self._server, headers=sent, buffered=True, **body)


class Surfer(Caller):
    """A browser that tells where it comes from, as browsers do."""

    def get(self, address: str) -> Any:
        return self.ask("GET", address, Person.headers)

    def fill(self, address: str, **fields: str) -> Any:
        """Open a page, fill in its first form, and send it."""
        form = forms_of(self.get(address))[0]
        told = {"Origin": self.origin, "Referer": f"{self.origin}/", "Sec-Fetch-Site": "same-origin"}
        return self.ask("POST", form.action, {**Person.headers, **told}, data={**form.values, **fields})


class Caster(Caller):
    """A program."""

    def get(self, address: str, token: str = "") -> Any:
        shown = {"Authorization": f"Bearer {token}"} if token else {}
        return self.ask("GET", address, {**Program.headers, **shown})

    def post(self, address: str, **data: Any) -> Any:
        return self.ask("POST", address, Program.headers, json=data)


def link(site: Site) -> str:
    """Return the link in the newest mail that has one."""
    return str(next(letter.link for letter in reversed(site.letters) if letter.link is not None))


def surf(surfer: Surfer) -> None:
    """Go the whole way of a person, from sign-up to logout."""
    site = surfer.site
    sent = surfer.fill("/auth/signup", email=EMAIL, password=PASSWORD)
    assert surfer.get(sent.headers["Location"]).status_code == 200
    answers = [sent, surfer.fill(link(site))]
    assert EMAIL in surfer.get("/auth/me").text
    answers += [surfer.fill("/auth/login/fresh", password=PASSWORD), surfer.fill("/auth/logout")]
    answers.append(surfer.fill("/auth/login", email=EMAIL, password=PASSWORD, next="/secret"))
    assert surfer.get(answers[-1].headers["Location"]).text == f"secret of {EMAIL}"
    answers.append(surfer.fill("/auth/password-reset/request", email=EMAIL))
    answers.append(surfer.fill(link(site), password=OTHER_PASSWORD))
    assert surfer.get("/auth/me").status_code == 303
    answers.append(surfer.fill("/auth/login", email=EMAIL, password=OTHER_PASSWORD))
    assert EMAIL in surfer.get("/auth/me").text
    answers.append(surfer.fill("/auth/logout"))
    assert [answer.status_code for answer in answers] == [303] * len(answers)
    assert surfer.get("/auth/me").status_code == 303


def call(caster: Caster) -> None:
    """Go the whole way of a program."""
    site = caster.site
    answers = [caster.post("/auth/signup", email=EMAIL, password=PASSWORD), caster.post(link(site))]
    answers.append(caster.post("/auth/login", email=EMAIL, password=PASSWORD))
    answers.append(caster.post("/auth/refresh", refresh_token=answers[-1].json["refresh_token"]))
    pair = answers[-1].json
    answers.append(caster.get("/auth/me", pair["access_token"]))
    answers.append(caster.post("/auth/password-reset/request", email=EMAIL))
    answers.append(caster.post(link(site), password=OTHER_PASSWORD))
    answers.append(caster.post("/auth/refresh", refresh_token=pair["refresh_token"]))
    answers.append(caster.post("/auth/login", email=EMAIL, password=OTHER_PASSWORD))
    pair = answers[-1].json
    answers.append(caster.post("/auth/logout", refresh_token=pair["refresh_token"]))
    answers.append(caster.get("/auth/me", pair["access_token"]))
    assert [answer.status_code for answer in answers] == [202, 200, 200, 200, 200, 202, 200, 401, 200, 204, 401]


def both(site: Site, **how: Any) -> None:
    """Go the whole way twice: as a person, and on an empty site as a program."""
    surf(Surfer(site, **how))
    with site.app.app_context():
        for table in reversed(site.db.metadata.sorted_tables):
            site.db.session.execute(table.delete())
        site.db.session.commit()
    call(Caster(site, **how))


# Behind a proxy, with CSRFProtect.


def test_RST_14_a_host_with_CSRFProtect_behind_a_proxy(make_site: MakeSite) -> None:
    """Behind a proxy that speaks https, and beside CSRFProtect, everything works, and links are those of the public."""
    site = make_site(HARDENED)
    CSRFProtect(site.app)
    app = ProxyFix(site.app.wsgi_app, x_for=1, x_proto=1, x_host=1)

    both(site, app=app, inside="http://10.0.0.5:8000")

    assert link(site).startswith(f"{HTTPS}/auth/")


# Flask-Talisman.


def test_a_host_with_Talisman(make_site: MakeSite) -> None:
    """Beside Talisman with its own defaults everything works."""
    site = make_site(HARDENED)
    Talisman(site.app)

    both(site)


def test_WEB_01_WEB_05_whose_headers_count_beside_Talisman(make_site: MakeSite) -> None:
    """What the host sends for all of its pages is sent once, with ours, too; what it does not speak of is ours."""
    site = make_site({**HARDENED, "ACCOUNTFLOW_HSTS": True})
    Talisman(site.app, content_security_policy={"default-src": "'self'", "img-src": "'self' data:"})
    site.member()
    surfer = Surfer(site)

    page, login = surfer.get("/auth/login"), surfer.fill("/auth/login", email=EMAIL, password=PASSWORD)

    theirs = {
        "Content-Security-Policy": ["default-src 'self'; img-src 'self' data:"],
        "Referrer-Policy": ["strict-origin-when-cross-origin"],
        "Strict-Transport-Security": ["max-age=31556926; includeSubDomains"],
        "X-Frame-Options": ["SAMEORIGIN"],
    }
    ours = {
        "Cache-Control": ["no-store"],
        "Cross-Origin-Opener-Policy": ["same-origin"],
        "X-Content-Type-Options": ["nosniff"],
    }
    assert {name: page.headers.getlist(name) for name in theirs | ours} == theirs | ours
    for cookie in login.headers.getlist("Set-Cookie"):
        assert cookie.startswith("__Host-")
        assert {"Secure", "HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))


def test_WEB_01_our_pages_ask_for_nothing_that_a_strict_policy_forbids(make_site: MakeSite) -> None:
    """Our pages run and style nothing inline, and load everything from their own origin."""
    site = make_site(HARDENED)
    site.member()
    surfer = Surfer(site)
    surfer.fill("/auth/password-reset/request", email=EMAIL)
    pages = [surfer.get(path) for path in ("/auth/signup", "/auth/login", "/auth/nothing", link(site))]
    surfer.fill("/auth/login", email=EMAIL, password=PASSWORD)

    for page in [*pages, surfer.get("/auth/me"), surfer.get("/auth/logout")]:
        loaded = [one.get("src") or "inline" for one in tags(page, "script")]
        loaded += [one["href"] for one in tags(page, "link") if one["rel"] == "stylesheet"]
        assert loaded
        assert all(str(one).startswith("/auth/static/") for one in loaded)
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page.text)


@pytest.mark.parametrize("visitor", [Surfer, Caster])
def test_Talisman_asks_for_https_first(make_site: MakeSite, visitor: type[Surfer | Caster]) -> None:
    """Who comes by http is sent to https by the host, whatever the format, and no cache keeps that."""
    site = make_site(HARDENED)
    Talisman(site.app)

    answer = visitor(site, home="http://www.example.com").get("/auth/login")

    assert (answer.status_code, answer.headers["Location"]) == (302, f"{HTTPS}/auth/login")
    assert answer.headers["Cache-Control"] == "no-store"


# Error handlers and hooks of the host's own.


def _handled(site: Site) -> None:
    """Give the host a handler for everything."""

    def theirs(error: Exception) -> tuple[str, int]:
        return "the host's own page", error.code or 500 if isinstance(error, HTTPException) else 500

    for code in (400, 401, 403, 404, 405, 406, 413, 415, 422, 429, 500, 503):
        site.app.register_error_handler(code, theirs)
    site.app.register_error_handler(Exception, theirs)


def _provoked(site: Site, visitor: Surfer | Caster, monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """Return an answer of ours for each status that we refuse with."""
    is_page = isinstance(visitor, Surfer)
    head = dict(Person.headers if is_page else Program.headers)
    kind = "application/x-www-form-urlencoded" if is_page else "application/json"
    login = {"email": EMAIL, "password": "a wrong guess"}
    body: dict[str, Any] = {"data": login} if is_page else {"json": login}
    found = {
        403: visitor.ask("POST", "/auth/login", {**head, "Origin": "https://evil.example"}, **body),
        404: visitor.ask("GET", "/auth/nothing", head),
        405: visitor.ask("PUT", "/auth/login", head),
        413: visitor.ask("POST", "/auth/login", head, data=b"x" * 70_000, content_type=kind),
        415: visitor.ask("POST", "/auth/login", head, data=b"x", content_type="text/csv"),
        422: visitor.fill("/auth/signup", email="x", password="y") if is_page else visitor.post("/auth/signup"),
        400: visitor.ask("GET", "/auth/verify/a.b.c", head),
    }
    sent = [visitor.fill("/auth/login", **login) if is_page else visitor.post("/auth/login", **login) for _ in range(4)]
    found[429] = sent[-1]
    links = services(site).store.links
    with monkeypatch.context() as broken:
        broken.setattr(links, "find", _raise(RuntimeError("broken")))
        found[500] = visitor.ask("GET", link(site), head)
        broken.setattr(links, "find", _raise(OperationalError("SELECT", {}, Exception("database is locked"))))
        found[503] = visitor.ask("GET", link(site), head)
    return found


def _raise(error: Exception) -> Callable[..., Any]:
    def fail(*given: Any, **named: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize("visitor", [Surfer, Caster])
def test_CFG_05_error_handlers_of_the_host_stand_back(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, visitor: type[Surfer | Caster]
) -> None:
    """Below the prefix every refusal is ours in the format that was asked for, whatever handlers the host has."""
    site = make_site({**HARDENED, "ACCOUNTFLOW_RATELIMIT_ENABLED": True, "ACCOUNTFLOW_RATELIMIT_LOGIN": "3/day"})
    _handled(site)
    site.member()
    site.program().request_reset(email=EMAIL)

    found = _provoked(site, visitor(site), monkeypatch)

    assert {wanted: answer.status_code for wanted, answer in found.items()} == {one: one for one in found}
    for answer in found.values():
        assert "the host's own page" not in answer.text
        if visitor is Caster:
            assert answer.mimetype == "application/problem+json"
            assert answer.json["status"] == answer.status_code
        else:
            assert answer.mimetype == "text/html"
            assert "Shop" in answer.text


def test_CFG_05_elsewhere_the_hosts_handlers_count(make_site: MakeSite) -> None:
    """Outside the prefix errors are the host's to answer; who may not enter a view of the host's is told so by us."""
    site = make_site(HARDENED)
    _handled(site)

    missing, secret = Surfer(site).get("/nothing"), Caster(site).get("/secret")

    assert (missing.status_code, missing.text) == (404, "the host's own page")
    assert (secret.status_code, secret.json["code"]) == (401, "authentication_required")


def test_a_hook_of_the_host_has_the_last_word(make_site: MakeSite) -> None:
    """An after_request of the host runs after ours: what it sets counts, and what it only proposes does not."""
    site = make_site(HARDENED)

    @site.app.after_request
    def decorate(response: Response) -> Response:
        response.headers["X-Served-By"] = "shop"
        response.headers["Content-Security-Policy"] = "default-src 'self'"
        response.headers.setdefault("Cache-Control", "public, max-age=60")
        response.headers.setdefault("Referrer-Policy", "unsafe-url")
        return response

    page, problem = Surfer(site).get("/auth/verify/a.b.c"), Caster(site).get("/auth/verify/a.b.c")

    assert page.headers.getlist("Content-Security-Policy") == ["default-src 'self'"]
    assert page.headers["Referrer-Policy"] == "strict-origin"
    for answer in (page, problem):
        assert (answer.status_code, answer.headers["X-Served-By"]) == (400, "shop")
        assert answer.headers["Cache-Control"] == "no-store"
    assert problem.mimetype == "application/problem+json"


# Hosts by name.


class Placed:
    """A host that tells requests apart by their host."""

    def __init__(self, uri: str, base_url: str, named: str, **how: Any) -> None:
        self.app = Flask(__name__, static_folder=None, **how)
        self.app.config.update({**CONFIG, **HARDENED}, SQLALCHEMY_DATABASE_URI=uri, ACCOUNTFLOW_BASE_URL=base_url)
        if named:
            self.app.config["SERVER_NAME"] = named
        self.db = db = SQLAlchemy(self.app)
        self.transport = MemoryTransport()
        self.letters = self.transport.letters

        class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
            __tablename__ = "users"

        AccountFlow(self.app, db, User, transport=self.transport)
        place = {"host": "accounts.example.com"} if self.app.url_map.host_matching else {"subdomain": "accounts"}

        @self.app.get("/secret", **place)
        @login_required
        def secret() -> str:
            return f"secret of {current_user.email}"

        with self.app.app_context():
            db.create_all()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[..., Placed]]:
    """Return a function that makes such a host."""
    made: list[Placed] = []

    def make(base_url: str, named: str = "", **how: Any) -> Placed:
        made.append(Placed(f"sqlite:///{tmp_path / 'placed.db'}", base_url, named, **how))
        return made[-1]

    yield make
    for host in made:
        with host.app.app_context():
            host.db.session.remove()
            host.db.engine.dispose()


KINDS: dict[str, dict[str, Any]] = {
    "subdomain": {"named": "example.com", "subdomain_matching": True},
    "host": {"host_matching": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_host_that_tells_names_apart(place: Callable[..., Placed], kind: str) -> None:
    """Where an app serves several names, ours are served at that of BASE_URL, where the mailed links lead."""
    site: Any = place("https://accounts.example.com", **KINDS[kind])

    both(site, home="https://accounts.example.com")

    other = Surfer(site, home=HTTPS)
    assert [other.get(path).status_code for path in ("/auth/login", "/auth/nothing")] == [404, 404]
    here = Surfer(site, home="https://accounts.example.com")
    assert here.get(str(tags(here.get("/auth/login"), "script")[0]["src"])).status_code == 200
    assert here.get("/.well-known/change-password").status_code == 302


@pytest.mark.parametrize("base_url", ["https://example.com", "https://www.example.org"])
def test_a_host_with_subdomains_that_is_not_one(place: Callable[..., Placed], base_url: str) -> None:
    """Where BASE_URL is no subdomain of SERVER_NAME, ours are served at SERVER_NAME itself."""
    site: Any = place(base_url, "example.com", subdomain_matching=True)

    assert Surfer(site, home="https://example.com").get("/auth/login").status_code == 200
    assert Surfer(site, home="https://accounts.example.com").get("/auth/login").status_code == 404


# Below a path.


def test_SES_01_a_host_below_a_path(make_site: MakeSite) -> None:
    """Below a path links, redirects and ``next`` have it, and so has the Path of each cookie, whose name allows it."""
    below = {"APPLICATION_ROOT": "/shop", "ACCOUNTFLOW_BASE_URL": f"{HTTPS}/shop"}
    site = make_site({**HARDENED, **below})
    app = DispatcherMiddleware(PlainResponse("nothing here", 404), {"/shop": site.app.wsgi_app})

    both(site, app=app, home=f"{HTTPS}/shop")

    assert link(site).startswith(f"{HTTPS}/shop/auth/")
    login = Surfer(site, app=app, home=f"{HTTPS}/shop").fill("/auth/login", email=EMAIL, password=OTHER_PASSWORD)
    cookies = login.headers.getlist("Set-Cookie")
    assert len(cookies) == 2
    assert all(re.search("^__Secure-.*; Path=/shop(;|$)", cookie) for cookie in cookies)


def test_two_hosts_side_by_side(make_site: MakeSite) -> None:
    """Two apps below two paths of one host share a browser, and neither logs it in to or out of the other."""
    sites = {}
    for root in ("/shop", "/desk"):
        sites[root] = make_site({**HARDENED, "APPLICATION_ROOT": root, "ACCOUNTFLOW_BASE_URL": f"{HTTPS}{root}"})
        sites[root].member()
    app = DispatcherMiddleware(
        PlainResponse("nothing here", 404), {root: site.app.wsgi_app for root, site in sites.items()}
    )
    shop, desk = (Surfer(site, app=app, home=f"{HTTPS}{root}") for root, site in sites.items())
    desk._client = shop._client  # one browser

    shop.fill("/auth/login", email=EMAIL, password=PASSWORD)
    before = desk.get("/auth/me").status_code
    desk.fill("/auth/login", email=EMAIL, password=PASSWORD)
    desk.fill("/auth/logout")

    assert (before, desk.get("/auth/me").status_code, shop.get("/auth/me").status_code) == (303, 303, 200)


# Two apps.


def test_VER_06_LOG_04_nothing_of_one_app_opens_anything_in_another(make_site: MakeSite) -> None:
    """Two apps in one process, on one database even: no link, token or cookie of one does anything in the other."""
    one = make_site(HARDENED)
    two = make_site({**HARDENED, "SECRET_KEY": secrets.token_hex(16)}, uri=one.app.config["SQLALCHEMY_DATABASE_URI"])
    one.member()
    caster, other, surfer, stranger = Caster(one), Caster(two), Surfer(one), Surfer(two)
    pair = caster.post("/auth/login", email=EMAIL, password=PASSWORD).json
    surfer.fill("/auth/login", email=EMAIL, password=PASSWORD)
    caster.post("/auth/password-reset/request", email=EMAIL)
    reset = link(one)
    caster.post("/auth/signup", email="ada@example.com", password=PASSWORD)
    verify = link(one)
    cookie = surfer._client.get_cookie("__Host-session", domain="www.example.com")
    assert cookie is not None
    stranger._client.set_cookie(cookie.key, cookie.value, domain="www.example.com")

    assert other.get("/auth/me", pair["access_token"]).status_code == 401
    assert other.post("/auth/refresh", refresh_token=pair["refresh_token"]).status_code == 401
    assert other.post(reset, password=OTHER_PASSWORD).status_code == 400
    assert other.post(verify).status_code == 400
    assert stranger.get("/auth/me").status_code == 303
    # And nothing was used up by that.
    assert caster.get("/auth/me", pair["access_token"]).status_code == 200
    assert caster.post(verify).status_code == 200
    assert caster.post(reset, password=OTHER_PASSWORD).status_code == 200


# Sessions that the host keeps on the server.


class Kept(CallbackDict[str, Any], SessionMixin):
    """A session whose content stays on the server."""

    def __init__(self, values: dict[str, Any], sid: str) -> None:
        super().__init__(values, lambda kept: setattr(kept, "modified", True))
        self.modified = False
        self.sid = sid


class OnServer(SessionInterface):
    """Keeps sessions in a dict, as JSON, and gives the browser their number alone."""

    def __init__(self) -> None:
        self.store: dict[str, str] = {}

    def open_session(self, app: Flask, request: Any) -> Kept:
        sid = request.cookies.get(self.get_cookie_name(app)) or secrets.token_hex(16)
        return Kept(json.loads(self.store.get(sid, "{}")), sid)

    def save_session(self, app: Flask, session: Any, response: Response) -> None:
        if not session.modified:
            return
        self.store[session.sid] = json.dumps(dict(session))
        response.set_cookie(self.get_cookie_name(app), session.sid, secure=True, httponly=True, samesite="Lax")


class Regenerating(OnServer):
    """Can also give a session another number, as Flask-Session does."""

    def regenerate(self, session: Any) -> None:
        self.store.pop(session.sid, None)
        session.sid = secrets.token_hex(16)
        session.modified = True


@pytest.mark.parametrize("interface", [OnServer, Regenerating])
def test_a_host_with_sessions_on_the_server(make_site: MakeSite, interface: type[OnServer]) -> None:
    """With a session interface of the host's own, which keeps sessions on the server, everything works."""
    site = make_site(HARDENED)
    site.app.session_interface = interface()

    both(site)


def test_LOG_03_a_session_on_the_server_gets_another_number(make_site: MakeSite) -> None:
    """A login gives a session on the server another number, so that one which an attacker planted opens nothing."""
    site = make_site(HARDENED)
    site.app.session_interface = Regenerating()
    site.member()
    attacker, victim = Surfer(site), Surfer(site)
    attacker.get("/auth/login")
    planted = attacker._client.get_cookie("__Host-session", domain="www.example.com")
    assert planted is not None
    victim._client.set_cookie("__Host-session", planted.value, domain="www.example.com")

    for _ in range(2):
        victim.fill("/auth/login", email=EMAIL, password=PASSWORD)
        assert EMAIL in victim.get("/auth/me").text
        assert attacker.get("/auth/me").status_code == 303
        victim.fill("/auth/logout")
