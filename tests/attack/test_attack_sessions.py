"""Attacks on logins in browsers: cookies that were copied, tossed or kept."""

from __future__ import annotations

import time
from typing import Any

import pytest
from attack.attacker import (
    JSON,
    OTHER_PASSWORD,
    PASSWORD,
    Browser,
    Program,
    Site,
    ask_reset,
    decoded,
    forms_of,
    join,
    sign_up,
    some_email,
    some_network,
    volley,
)

pytestmark = pytest.mark.slow


def _logged_in(site: Site, email: str, **fields: Any) -> Browser:
    browser = Browser(site)
    assert browser.login(email, **fields).status == 303
    return browser


def _copy(browser: Browser) -> Browser:
    thief = Browser(browser.site)
    thief.cookies = dict(browser.cookies)
    return thief


def test_SES_01_the_cookies_are_for_this_site_alone(site: Site) -> None:
    """Every cookie of a login is out of reach of scripts and of other sites' posts, and of no wider domain."""
    browser = Browser(site)

    answer = browser.login(join(site))

    lines = answer.headers.get_all("Set-Cookie")
    assert len(lines) == 2
    for line in lines:
        assert "HttpOnly" in line
        assert "SameSite=Lax" in line
        assert "Domain" not in line
        assert len(line) < 4096


def test_SES_02_a_cookie_tells_nothing_of_its_owner(site: Site) -> None:
    """After a login the cookies hold neither the address nor the account's number, however they are decoded."""
    email = join(site)
    user_id = Program(site).login(email).json["user"]["id"]
    browser = _logged_in(site, email)

    read = " ".join(decoded(value).decode() for value in browser.cookies.values())

    assert email not in read
    assert email.partition("@")[0] not in read
    assert f'"{user_id}"' not in read


def test_SES_04_a_copied_cookie_dies_with_the_logout(site: Site) -> None:
    """When the owner logs out, a copy of the cookie opens nothing any more."""
    browser = _logged_in(site, join(site))
    thief = _copy(browser)
    assert thief.is_in

    assert browser.logout().status == 303

    assert not thief.is_in
    assert thief.ask("GET", "/auth/me", headers={"Accept": JSON}).status == 401


def test_SES_05_a_copied_pair_dies_with_the_logout(site: Site) -> None:
    """When a program logs out, neither of its tokens works any more."""
    pair = Program(site).login(join(site)).json

    assert Program(site).post("/auth/logout", {"refresh_token": pair["refresh_token"]}).status == 204

    assert Program(site).me(pair["access_token"]).status == 401
    assert Program(site).refresh(pair["refresh_token"]).status == 401


def test_SES_06_nobody_is_logged_out_by_another_site(site: Site) -> None:
    """Neither a picture's address nor a foreign form logs anybody out."""
    browser = _logged_in(site, join(site))

    browser.ask("GET", "/auth/logout", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"})
    refused = [
        browser.send("/auth/logout", {}),
        browser.send("/auth/logout", {"csrf_token": "0" * 32}),
        browser.send("/auth/logout", {}, origin="https://evil.example"),
        browser.ask("POST", "/auth/logout", b"{}", {"Accept": JSON, "Content-Type": JSON}),
    ]

    assert {answer.status for answer in refused} == {403}
    assert browser.is_in


def test_SES_07_logging_out_twice_is_no_fault(site: Site) -> None:
    """Whoever logs out without a login, or with a dead token, is answered like everybody."""
    pair = Program(site).login(join(site)).json

    for body in (
        {},
        {"refresh_token": "x"},
        {"refresh_token": pair["refresh_token"]},
        {"refresh_token": pair["refresh_token"]},
    ):
        assert Program(site).post("/auth/logout", body).status == 204
    assert Browser(site).logout().status == 303


def test_SES_11_a_reset_ends_everything(site: Site) -> None:
    """When a password is reset, every cookie, token and link of the account from before is dead."""
    email = join(site)
    browsers, pairs = [_logged_in(site, email) for _ in range(2)], [Program(site).login(email).json for _ in range(2)]
    other = ask_reset(site, email)
    time.sleep(2.1)  # the pause between two mails
    link = ask_reset(site, email)

    assert Program(site).reset(link).status == 200

    assert [browser.is_in for browser in browsers] == [False, False]
    for pair in pairs:
        assert Program(site).me(pair["access_token"]).status == 401
        assert Program(site).refresh(pair["refresh_token"]).status == 401
    assert Program(site).reset(other, "the attacker's own horse").status == 410
    assert Program(site).login(email, PASSWORD).status == 401


def test_F22_whatever_meets_a_reset_is_over_after_it(site: Site) -> None:
    """Logins and refreshes that happen at the moment of a reset leave nothing open that knew the old password."""
    email = join(site)
    pairs = [Program(site).login(email).json for _ in range(6)]
    link = ask_reset(site, email)
    shots: list[tuple[Any, str, Any]] = [(Program(site), link, {"password": OTHER_PASSWORD})]
    shots += [(Program(site), "/auth/refresh", {"refresh_token": pair["refresh_token"]}) for pair in pairs]
    shots += [(Program(site), "/auth/login", {"email": email, "password": PASSWORD}) for _ in range(8)]

    reset, *others = volley(shots)

    assert reset.status == 200
    assert {answer.status for answer in others} <= {200, 401}
    for answer in others:
        if answer.status == 200:
            assert Program(site).me(answer.json["access_token"]).status == 401
            assert Program(site).refresh(answer.json["refresh_token"]).status == 401


def test_SES_14_nobody_ends_anothers_login(site: Site) -> None:
    """A login is neither seen nor ended by another account."""
    email = join(site)
    browser = _logged_in(site, email)
    owner, stranger = (Program(site).login(one).json["access_token"] for one in (email, join(site)))
    [listed] = [one for one in Program(site).get("/auth/sessions", owner).json["sessions"] if one["kind"] == "browser"]

    answer = Program(site).ask(
        "DELETE", f"/auth/sessions/{listed['id']}", headers={"Accept": JSON, "Authorization": f"Bearer {stranger}"}
    )

    assert answer.status == 404
    assert browser.is_in
    seen = Program(site).get("/auth/sessions", stranger).json["sessions"]
    assert listed["id"] not in {one["id"] for one in seen}


@pytest.mark.parametrize(
    "line", ["=session={other}", "session={own}; =session={other}", "session ={other}x", "Session={other}"]
)
def test_SES_15_a_cookie_without_its_name_is_none(site: Site, line: str) -> None:
    """A cookie under another name, or none, is not taken for the session's."""
    own, other = join(site), join(site)
    first, second = _logged_in(site, own), _logged_in(site, other)
    cookie = line.format(own=first.cookies["session"], other=second.cookies["session"])

    page = Browser(site).ask("GET", "/auth/me", headers={"Cookie": cookie, "Accept": "text/html"})

    assert other not in page.text


def test_SES_17_two_cookies_are_never_a_mix(site: Site) -> None:
    """When a neighbour has set a second cookie, the page is one account's, and always the same one's."""
    own, other = join(site), join(site)
    cookies = [_logged_in(site, email).cookies["session"] for email in (own, other)]
    line = f"session={cookies[0]}; session={cookies[1]}"

    pages = [
        Browser(site).ask("GET", "/auth/me", headers={"Cookie": line, "Accept": "text/html"}).text for _ in range(8)
    ]

    seen = {(own in page, other in page) for page in pages}
    assert seen in ({(True, False)}, {(False, True)})


def test_LOG_17_who_is_disabled_loses_everything_at_once(site: Site) -> None:
    """When an operator disables an account, its cookies, tokens and password stop working, and the links are dead."""
    email = join(site)
    browser, pair, link = _logged_in(site, email), Program(site).login(email).json, ask_reset(site, email)

    site.flask("accountflow", "disable-user", email)

    assert not browser.is_in
    assert Program(site).me(pair["access_token"]).status == 401
    assert Program(site).refresh(pair["refresh_token"]).status in {401, 403}
    assert Program(site).login(email).status == 403
    assert Program(site).reset(link).status == 410


def test_SES_11_a_device_cookie_opens_nothing(site: Site) -> None:
    """The cookie by which a browser is known again opens nothing by itself, also beside a stranger's session."""
    browser = _logged_in(site, join(site))
    device = browser.cookies["accountflow_device"]

    for cookies in ({"accountflow_device": device}, {"session": device, "accountflow_device": device}):
        thief = Browser(site, some_network())
        thief.cookies = cookies
        assert not thief.is_in


def test_SES_12_confirming_in_a_browser_takes_over_no_other_login(site: Site) -> None:
    """Who is logged in and opens a link of another account stays who he is."""
    mine, theirs = join(site), some_email()
    browser = _logged_in(site, mine)
    link = sign_up(site, theirs)

    browser.verify(link)

    page = browser.get("/auth/me").text
    assert mine in page
    assert theirs not in page


def test_LOG_03_fresh_logins_end_the_old_one(site: Site) -> None:
    """When a login is renewed by the password, a copy of the old cookie does not become fresh with it, but dies."""
    browser = _logged_in(site, join(site))
    thief = _copy(browser)

    assert forms_of(browser.get("/auth/login/fresh"))
    assert browser.fill("/auth/login/fresh", password=PASSWORD).status == 303

    assert browser.is_in
    assert not thief.is_in
