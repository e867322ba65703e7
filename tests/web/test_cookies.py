"""The cookies that we set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support import PASSWORD, Person, Site, forms_of

EMAIL = "vic@example.com"
HTTPS = "https://localhost"


def logged_in(site: Site) -> tuple[Any, Any]:
    """Log a browser in that comes by https. Return it, and the answer to the login."""
    site.member()
    client = site.app.test_client()
    page = client.get("/auth/login", headers=Person.headers, base_url=HTTPS)
    values = {**forms_of(page)[0].values, "email": EMAIL, "password": PASSWORD}
    return client, client.post("/auth/login", data=values, headers=Person.headers, base_url=HTTPS)


def attributes(cookie: str) -> set[str]:
    """Return what stands after the value of a cookie, without how long it lasts."""
    parts = {part.strip() for part in cookie.split(";")[1:]}
    return {part for part in parts if not part.startswith(("Expires", "Max-Age"))}


def test_SES_01_every_cookie_is_for_https_and_for_this_site(make_site: Callable[..., Site]) -> None:
    """With an https address each cookie of a login is Secure, HttpOnly and SameSite=Lax, and for this host alone."""
    site = make_site({"ACCOUNTFLOW_COOKIE_DEFAULTS": True})

    cookies = logged_in(site)[1].headers.getlist("Set-Cookie")

    assert {cookie.partition("=")[0] for cookie in cookies} == {"session", "accountflow_device"}
    assert [attributes(cookie) for cookie in cookies] == [{"Secure", "HttpOnly", "SameSite=Lax", "Path=/"}] * 2


@pytest.mark.parametrize("name", ["__Host-session", "__Secure-session"])
def test_SES_01_the_session_cookie_may_have_a_prefix(make_site: Callable[..., Site], name: str) -> None:
    """An app may give its session cookie a name by which browsers hold it to https and to this host."""
    site = make_site({"ACCOUNTFLOW_COOKIE_DEFAULTS": True, "SESSION_COOKIE_NAME": name})

    client, answer = logged_in(site)

    [cookie] = [one for one in answer.headers.getlist("Set-Cookie") if one.startswith(name)]
    assert attributes(cookie) == {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"}
    assert client.get("/auth/me", headers=Person.headers, base_url=HTTPS).status_code == 200
