"""Refreshing a pair of tokens. Only programs do that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from answers import cookies, heading, signature
from support import Site

EMAIL = "vic@example.com"


def refresh(site: Site, token: object, **headers: str) -> Any:
    """Exchange a refresh token."""
    return site.program().post("/auth/refresh", {"refresh_token": token}, **headers)


def test_REF_01_refreshing_rotates_the_pair(site: Site) -> None:
    """A refresh is answered with a new pair of the same family, and the old refresh token is dead."""
    site.member()
    pair = site.program().login(EMAIL)
    site.clock.tick(1)

    fresh = refresh(site, pair.json["refresh_token"])

    assert fresh.status_code == 200
    assert fresh.json.keys() == pair.json.keys()
    assert fresh.json["refresh_token"] != pair.json["refresh_token"]
    assert fresh.json["access_token"] != pair.json["access_token"]
    assert fresh.json["refresh_expires_in"] == 2592000 - 1
    assert site.program().me(fresh).json["email"] == EMAIL
    assert cookies(fresh) == []


def test_REF_02_reuse_ends_the_family(site: Site) -> None:
    """A refresh token that is used again ends its family, and leaves other logins alone."""
    site.member()
    program = site.program()
    pair, other = program.login(EMAIL), program.login(EMAIL)
    fresh = refresh(site, pair.json["refresh_token"])
    site.clock.tick(61)

    again = refresh(site, pair.json["refresh_token"])

    assert again.status_code == 401
    assert refresh(site, fresh.json["refresh_token"]).status_code == 401
    assert program.me(fresh).status_code == 401
    assert program.me(other).status_code == 200
    assert [letter.template for letter in site.letters] == ["refresh_reuse"]


def test_REF_04_grace_gives_the_present_pair_again(make_site: Callable[..., Site]) -> None:
    """Within the grace that a site allows, the token before the present one gets the present one again."""
    site = make_site({"ACCOUNTFLOW_REFRESH_REUSE_GRACE": 5})
    site.member()
    pair = site.program().login(EMAIL)
    first = refresh(site, pair.json["refresh_token"])

    again = refresh(site, pair.json["refresh_token"])
    site.clock.tick(6)
    late = refresh(site, pair.json["refresh_token"])

    assert again.json["refresh_token"] == first.json["refresh_token"]
    assert late.status_code == 401
    assert refresh(site, first.json["refresh_token"]).status_code == 401


@pytest.mark.parametrize(("wait", "letters"), [(0, []), (60, []), (61, ["refresh_reuse"]), (3600, ["refresh_reuse"])])
def test_REF_02_a_theft_is_told_and_a_race_of_tabs_is_not(site: Site, wait: int, letters: list[str]) -> None:
    """A token that comes again within a minute ends its family without a mail, and later with one notice."""
    site.member()
    pair = site.program().login(EMAIL)
    fresh = refresh(site, pair.json["refresh_token"])
    site.clock.tick(wait)
    again = [refresh(site, pair.json["refresh_token"]).status_code for _ in range(2)]

    assert again == [401, 401]
    assert refresh(site, fresh.json["refresh_token"]).status_code == 401
    assert [letter.template for letter in site.letters] == letters
    assert [(letter.to, letter.link) for letter in site.letters] == [(EMAIL, None)] * len(letters)


def test_REF_02_reuse_ends_every_access_token_of_the_family(site: Site) -> None:
    """At the reuse all access tokens that the family ever handed out are dead, though none has expired."""
    site.member()
    program = site.program()
    pairs = [program.login(EMAIL)]
    for _ in range(3):
        site.clock.tick(1)
        pairs.append(refresh(site, pairs[-1].json["refresh_token"]))
    before = [program.me(pair).status_code for pair in pairs]

    refresh(site, pairs[0].json["refresh_token"])

    assert (before, [program.me(pair).status_code for pair in pairs]) == ([200] * 4, [401] * 4)


@pytest.mark.parametrize(("grace", "recovers"), [(0, False), (10, True)])
def test_REF_10_an_answer_that_got_lost(make_site: Callable[..., Site], grace: int, recovers: bool) -> None:
    """Who never saw the answer to a refresh and asks again goes on where a grace allows it, and logs in elsewhere."""
    site = make_site({"ACCOUNTFLOW_REFRESH_REUSE_GRACE": grace})
    site.member()
    program = site.program()
    pair = program.login(EMAIL)
    refresh(site, pair.json["refresh_token"])
    site.clock.tick(5)

    again = refresh(site, pair.json["refresh_token"])

    assert again.status_code == (200 if recovers else 401)
    if recovers:
        assert program.me(again).status_code == 200
        assert refresh(site, again.json["refresh_token"]).status_code == 200
        assert refresh(site, pair.json["refresh_token"]).status_code == 401


def test_REF_04_the_grace_prolongs_nothing(make_site: Callable[..., Site]) -> None:
    """Within the grace the same successor comes each time, with what is left of the family's life."""
    site = make_site({"ACCOUNTFLOW_REFRESH_REUSE_GRACE": 60, "ACCOUNTFLOW_REFRESH_TOKEN_MAX_AGE": 100})
    site.member()
    pair = site.program().login(EMAIL)
    site.clock.tick(50)
    found = []

    for _ in range(3):
        found.append(refresh(site, pair.json["refresh_token"]))
        site.clock.tick(20)

    assert [answer.status_code for answer in found] == [200, 200, 200]
    assert len({answer.json["refresh_token"] for answer in found}) == 1
    assert [answer.json["refresh_expires_in"] for answer in found] == [50, 30, 10]
    assert refresh(site, found[0].json["refresh_token"]).status_code == 401


def test_REF_05_a_family_does_not_outlive_its_time(make_site: Callable[..., Site]) -> None:
    """However often a family is refreshed, it ends when its time is over."""
    site = make_site({"ACCOUNTFLOW_REFRESH_TOKEN_MAX_AGE": 100, "ACCOUNTFLOW_ACCESS_TOKEN_MAX_AGE": 1000})
    site.member()
    pair = site.program().login(EMAIL)

    for _ in range(3):
        site.clock.tick(30)
        pair = refresh(site, pair.json["refresh_token"])
        assert pair.status_code == 200
    site.clock.tick(10)

    assert refresh(site, pair.json["refresh_token"]).status_code == 401
    assert site.program().me(pair).status_code == 401


@pytest.mark.parametrize("state", ["unknown", "expired", "used", "revoked", "malformed", "cut", "of a browser"])
def test_REF_07_every_dead_token_is_answered_alike(site: Site, state: str) -> None:
    """Whatever is wrong with a refresh token, the answer is the same."""
    site.member()
    program = site.program()
    pair = program.login(EMAIL)
    token = pair.json["refresh_token"]
    if state == "unknown":
        with site.app.app_context(), site.db.engine.begin() as connection:
            connection.execute(site.tables.session.delete())
    elif state == "expired":
        site.clock.tick(31 * 86400)
    elif state == "used":
        refresh(site, token)
    elif state == "revoked":
        program.logout(pair)
    elif state == "of a browser":
        with site.app.app_context(), site.db.engine.begin() as connection:
            connection.execute(site.tables.session.update().values(kind="browser"))
    else:
        token = {"malformed": "x", "cut": token[:-1]}[state]

    response = refresh(site, token)

    assert signature(response, EMAIL) == signature(refresh(site, "\0\ud800"), EMAIL)
    assert (response.status_code, response.json["code"]) == (401, "token_invalid")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="Shop", error="invalid_token"'


@pytest.mark.parametrize("token", [None, "", 1, ["x"], {"a": 1}, True])
def test_what_is_no_text_is_a_fault_of_the_body(site: Site, token: object) -> None:
    """A body without a refresh token is faulty."""
    response = refresh(site, token)

    assert response.status_code == 422
    assert response.json["errors"][0]["field"] == "refresh_token"


def test_REF_06_a_refresh_token_has_one_spelling(site: Site) -> None:
    """Another spelling of a refresh token is refused, and ends nothing."""
    site.member()
    token = site.program().login(EMAIL).json["refresh_token"]
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".replace(token[-1], "")

    found = {
        refresh(site, one).status_code for one in (*(token[:-1] + sign for sign in last), token + "=", token + "!!")
    }

    assert found == {401}
    assert refresh(site, token).status_code == 200


def test_REF_08_the_token_counts_in_a_json_body_only(site: Site) -> None:
    """A refresh token in the query, in a header, in a cookie or in a form is not looked at."""
    site.member()
    token = site.program().login(EMAIL).json["refresh_token"]
    client, program = site.app.test_client(), site.program()
    client.set_cookie("refresh_token", token)

    found = [
        program.post(f"/auth/refresh?refresh_token={token}").status_code,
        program.post("/auth/refresh", authorization=f"Bearer {token}").status_code,
        program.post("/auth/refresh", refresh_token=token).status_code,
        client.post("/auth/refresh", json={}).status_code,
        client.post("/auth/refresh", data={"refresh_token": token}, headers={"Accept": "application/json"}).status_code,
    ]

    assert found == [422, 422, 422, 422, 415]
    assert refresh(site, token).status_code == 200


def test_pages_do_not_refresh(site: Site) -> None:
    """There is no page to refresh tokens."""
    person = site.person()

    page = person.send("/auth/refresh", {"refresh_token": "x"})

    assert (page.status_code, heading(page)) == (406, "Not available in this format")


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"is_active": False}, "account_disabled"), ({"email_verified_at": None}, "email_unverified")],
)
def test_a_genuine_token_learns_what_stands_in_the_way(site: Site, change: dict[str, Any], expected: str) -> None:
    """The holder of a genuine token of a disabled or unproved account is told so."""
    site.member()
    token = site.program().login(EMAIL).json["refresh_token"]
    site.change(EMAIL, **change)

    response = refresh(site, token)

    assert (response.status_code, response.json["code"]) == (403, expected)


def test_the_rotated_token_outlives_the_clock_of_the_access_token(site: Site) -> None:
    """An access token ends after its quarter of an hour, and the refresh token gets the next."""
    site.member()
    program = site.program()
    pair = program.login(EMAIL)
    site.clock.tick(900)

    stale, fresh = program.me(pair), refresh(site, pair.json["refresh_token"])

    assert stale.status_code == 401
    assert stale.headers["WWW-Authenticate"].endswith('error="invalid_token"')
    assert program.me(fresh).status_code == 200
