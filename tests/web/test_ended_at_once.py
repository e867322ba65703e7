"""What ends at once: an access token with its login, and whatever a key has signed with that key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from answers import Script, bearer
from support import OTHER_PASSWORD, PASSWORD, Site

EMAIL = "vic@example.com"


def logout(site: Site, pair: Any) -> None:
    """Log out with the refresh token."""
    site.program().logout(pair)


def logout_everywhere(site: Site, pair: Any) -> None:
    """Log out everywhere, from another login."""
    other = site.program().login(EMAIL)
    site.program().post("/auth/logout", {"refresh_token": other.json["refresh_token"], "all": True})


def end_of_the_others(site: Site, pair: Any) -> None:
    """End all other logins from a browser."""
    script = Script(site)
    script.log_in()
    script.client.delete("/auth/sessions", headers={**script.headers, "X-CSRF-Token": script.token()})


def reset(site: Site, pair: Any) -> None:
    """Set another password by mail."""
    site.program().request_reset(email=EMAIL)
    site.person().reset(site.last_link)


def block(site: Site, pair: Any) -> None:
    """Have an operator block the account."""
    with site.app.app_context():
        site.accounts.disable_user(EMAIL)


def theft(site: Site, pair: Any) -> None:
    """Use the refresh token twice."""
    for _ in range(2):
        site.program().post("/auth/refresh", {"refresh_token": pair.json["refresh_token"]})


def renewal(site: Site, pair: Any) -> None:
    """Type the password again, which opens another login in its place."""
    site.program().post("/auth/login/fresh", {"password": PASSWORD}, **bearer(pair))


@pytest.mark.parametrize(
    "end", [logout, logout_everywhere, end_of_the_others, reset, block, theft, renewal], ids=lambda one: one.__name__
)
def test_TOK_06_an_access_token_ends_with_its_login(site: Site, end: Callable[[Site, Any], None]) -> None:
    """However a login ends, its access token opens nothing from the next request on, though it has not expired."""
    site.member()
    pair = site.program().login(EMAIL)
    before = site.program().me(pair).status_code

    end(site, pair)

    found = [site.program().me(pair), site.program().get("/secret", **bearer(pair))]
    assert (before, [answer.status_code for answer in found]) == (200, [401, 401])
    assert 'error="invalid_token"' in found[0].headers["WWW-Authenticate"]


def test_CFG_03_another_secret_key_leaves_passwords_alone(make_site: Callable[..., Site]) -> None:
    """With another SECRET_KEY and no fallback every password still logs in, and no old link, token or cookie works."""
    old = make_site()
    old.member()
    pair, person = old.program().login(EMAIL), old.person()
    person.login(EMAIL)
    old.program().request_reset(email=EMAIL)
    link = old.last_link

    new = make_site({"SECRET_KEY": "f" * 32}, uri=str(old.app.config["SQLALCHEMY_DATABASE_URI"]))
    browser = new.person()
    browser.client.set_cookie("session", person.client.get_cookie("session").value)  # type: ignore[union-attr]

    assert new.program().login(EMAIL, PASSWORD).status_code == 200
    assert new.program().reset(link, OTHER_PASSWORD).status_code == 400
    assert new.program().me(pair).status_code == 401
    assert new.program().post("/auth/refresh", {"refresh_token": pair.json["refresh_token"]}).status_code == 401
    assert browser.me().status_code == 303
