"""The cookies that we set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support import PASSWORD, Person, Site, forms_of

EMAIL = "vic@example.com"
HTTPS = "https://www.example.com"
NAMES = {"__Host-session", "__Host-accountflow_device"}


class Secure:
    """A browser that comes by https."""

    def __init__(self, site: Site, home: str = HTTPS) -> None:
        self.client = site.app.test_client()
        self._home = home

    def get(self, path: str, **how: Any) -> Any:
        return self.client.get(path, headers=Person.headers, base_url=self._home, **how)

    def fill(self, path: str, **fields: str) -> Any:
        values = {**forms_of(self.get(path))[0].values, **fields}
        return self.client.post(path, data=values, headers=Person.headers, base_url=self._home)

    def login(self) -> Any:
        return self.fill("/auth/login", email=EMAIL, password=PASSWORD)


@pytest.fixture
def secure(make_site: Callable[..., Site]) -> Site:
    """A site that people reach by https, with a member."""
    site = make_site({"ACCOUNTFLOW_COOKIE_DEFAULTS": True})
    site.member()
    return site


def name(cookie: str) -> str:
    """Return the name in a Set-Cookie header."""
    return cookie.partition("=")[0]


def attributes(cookie: str) -> set[str]:
    """Return what stands after the value of a cookie, without how long it lasts."""
    parts = {part.strip() for part in cookie.split(";")[1:]}
    return {part for part in parts if not part.startswith(("Expires", "Max-Age"))}


def test_SES_01_every_cookie_is_for_https_and_for_this_site(secure: Site) -> None:
    """With an https address each cookie of a login is Secure, HttpOnly and SameSite=Lax, and by its name too for this
    host alone."""
    cookies = Secure(secure).login().headers.getlist("Set-Cookie")

    assert {name(cookie) for cookie in cookies} == NAMES
    assert [attributes(cookie) for cookie in cookies] == [{"Secure", "HttpOnly", "SameSite=Lax", "Path=/"}] * 2


@pytest.mark.parametrize(
    ("config", "session", "device"),
    [
        ({"APPLICATION_ROOT": "/shop"}, "__Secure-session", "__Secure-accountflow_device"),
        ({"SESSION_COOKIE_PATH": "/auth"}, "__Secure-session", "__Secure-accountflow_device"),
        ({"SESSION_COOKIE_DOMAIN": "example.com"}, "__Secure-session", "__Secure-accountflow_device"),
        ({"SESSION_COOKIE_PATH": "/", "APPLICATION_ROOT": "/shop"}, "__Host-session", "__Host-accountflow_device"),
        ({"SESSION_COOKIE_NAME": "shop"}, "shop", "__Host-accountflow_device"),
        ({"ACCOUNTFLOW_BASE_URL": "http://localhost:5000"}, "session", "accountflow_device"),
        ({"ACCOUNTFLOW_COOKIE_DEFAULTS": False}, "session", "accountflow_device"),
    ],
    ids=["root", "path", "domain", "path-of-all", "named", "http", "switched-off"],
)
def test_SES_01_a_cookie_has_the_prefix_that_browsers_let_it_have(
    make_site: Callable[..., Site], config: dict[str, Any], session: str, device: str
) -> None:
    """The names of the cookies fit their attributes, or browsers would drop them; a name that the app chose stays."""
    site = make_site({"ACCOUNTFLOW_COOKIE_DEFAULTS": True, **config})
    site.member()
    browser = Secure(site, f"{HTTPS}{config.get('APPLICATION_ROOT', '')}")

    cookies = browser.login().headers.getlist("Set-Cookie")

    assert {name(cookie) for cookie in cookies} == {session, device}


@pytest.mark.parametrize("chosen", ["__Host-session", "__Secure-session"])
def test_SES_01_the_session_cookie_may_have_a_prefix(make_site: Callable[..., Site], chosen: str) -> None:
    """An app may give its session cookie such a name itself."""
    site = make_site({"ACCOUNTFLOW_COOKIE_DEFAULTS": True, "SESSION_COOKIE_NAME": chosen})
    site.member()
    browser = Secure(site)

    [cookie] = [one for one in browser.login().headers.getlist("Set-Cookie") if name(one) == chosen]

    assert attributes(cookie) == {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"}
    assert browser.get("/auth/me").status_code == 200


def test_SES_08_a_cookie_with_a_prefix_is_cleared(secure: Site) -> None:
    """A logout empties the cookie under its name, with the attributes without which browsers would ignore that."""
    browser = Secure(secure)
    browser.login()

    [cookie] = [one for one in browser.fill("/auth/logout").headers.getlist("Set-Cookie") if "Max-Age=0" in one]

    assert name(cookie) == "__Host-session"
    assert {"Secure", "Path=/"} <= attributes(cookie)
    assert browser.get("/secret").status_code == 303


def test_SES_17_a_cookie_of_a_sister_domain_is_no_session(secure: Site) -> None:
    """A login under the name that a sister domain could set counts for nothing, alone or beside the true one."""
    secure.member("evil@example.com")
    thief, victim = Secure(secure), Secure(secure)
    thief.fill("/auth/login", email="evil@example.com", password=PASSWORD)
    planted = thief.client.get_cookie("__Host-session", domain="www.example.com").value  # type: ignore[union-attr]
    for cookie in ("session", "__Secure-session", "\u2000__Host-session"):
        header = f"{cookie}={planted}".encode().decode("latin-1")
        assert victim.get("/auth/me", environ_overrides={"HTTP_COOKIE": header}).status_code == 303

    victim.login()
    victim.client.set_cookie("session", planted, domain="example.com", origin_only=False)

    assert EMAIL in victim.get("/auth/me").text


def test_RAT_02_a_browser_is_known_by_the_cookie_with_the_prefix(make_site: Callable[..., Site]) -> None:
    """Over https a browser that has logged in before has tries of its own; its cookie under another name gives none."""
    limited = {"ACCOUNTFLOW_RATELIMIT_ENABLED": True, "ACCOUNTFLOW_RATELIMIT_LOGIN": "3/30 day"}
    site = make_site({"ACCOUNTFLOW_COOKIE_DEFAULTS": True, **limited})
    site.member()
    owner, other = Secure(site), Secure(site)
    owner.login()
    device = owner.client.get_cookie("__Host-accountflow_device", domain="www.example.com").value  # type: ignore[union-attr]
    owner.fill("/auth/logout")
    for _ in range(4):
        site.program().login(EMAIL, "the wrong horse battery")
    other.client.set_cookie("accountflow_device", device, domain="www.example.com")

    assert (other.login().status_code, owner.login().status_code) == (429, 303)
