"""Attacks on the pages by which people change their password and their address."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from attack.attacker import (
    ATTACKERS_PASSWORD,
    HTML,
    JSON,
    OTHER_PASSWORD,
    PASSWORD,
    Browser,
    Program,
    Site,
    ask_reset,
    bearer,
    forms_of,
    join,
    mails_to,
    new_link,
    path_of,
    raw,
    settle,
    shape,
    sign_up,
    some_email,
    token_of,
    volley,
)
from attack.test_attack_links import POISON, SCANNERS
from attack.test_attack_web import ORIGINS

pytestmark = pytest.mark.slow

FORMS: dict[str, dict[str, str]] = {
    "/auth/password/change": {"current_password": PASSWORD, "new_password": OTHER_PASSWORD},
    "/auth/email/change": {"new_email": "new@example.com", "current_password": PASSWORD},
}
each_form = pytest.mark.parametrize("path", FORMS)


def _token(site: Site, email: str, password: str = PASSWORD) -> str:
    return str(Program(site).login(email, password).json["access_token"])


def _ask(site: Site, token: str, new_email: Any) -> Any:
    return Program(site).post("/auth/email/change", {"new_email": new_email, "current_password": PASSWORD}, token)


def _confirm_link(site: Site, email: str, new_email: str) -> str:
    """Ask for another address, and return the path of the link that was mailed there."""
    assert _ask(site, _token(site, email), new_email).status == 202
    return new_link(site, new_email, "email/confirm", 0)


def _revert_link(site: Site, email: str, new_email: str) -> str:
    """Change the address, and return the path of the link that was mailed to the old one."""
    assert Program(site).post(_confirm_link(site, email, new_email)).status == 200
    return new_link(site, email, "email/revert", 0)


def _links(site: Site) -> dict[str, str]:
    """Return a living link of each kind, by the route that it is for."""
    verify, reset_email, email, old = some_email(), join(site), join(site), join(site)
    return {
        "/auth/verify/": sign_up(site, verify),
        "/auth/password-reset/": ask_reset(site, reset_email),
        "/auth/email/confirm/": _confirm_link(site, email, some_email()),
        "/auth/email/revert/": _revert_link(site, old, some_email()),
    }


@each_form
def test_TOK_08_a_change_needs_a_login(site: Site, path: str) -> None:
    """Without a login, with one's cookie alone, or with a dead token nothing is changed, whoever knows the password."""
    email = join(site)
    browser, ended = Browser(site), Program(site).login(email).json
    browser.login(email)
    Program(site).post("/auth/logout", {"refresh_token": ended["refresh_token"]})
    body = json.dumps(FORMS[path]).encode()

    answers = [
        Program(site).post(path, {**FORMS[path], "email": email}),
        Program(site).post(path, FORMS[path], ended["access_token"]),
        browser.ask("POST", path, body, {"Accept": JSON, "Content-Type": JSON}),
    ]

    assert [answer.status for answer in answers] == [401, 401, 403]
    assert Program(site).login(email).status == 200


@pytest.mark.parametrize("kind", ["missing", "made-up", "other-browsers", *ORIGINS])
@each_form
def test_CSR_01_CSR_02_no_other_page_changes_anything(site: Site, path: str, kind: str) -> None:
    """Without the token of this very login, or from another site's page, nothing is changed, nor is anybody mailed."""
    email, wanted, browser, other = join(site), some_email(), Browser(site), Browser(site)
    for one in (browser, other):
        one.login(email)
    own, foreign = (forms_of(one.get(path))[0].values["csrf_token"] for one in (browser, other))
    token = {"missing": None, "made-up": "0" * 32, "other-browsers": foreign}.get(kind, own)
    headers = {name: value.replace("{own}", site.base_url) for name, value in ORIGINS.get(kind, {}).items()}
    fields = {**FORMS[path], "new_email": wanted, **({} if token is None else {"csrf_token": token})}

    assert browser.send(path, fields, **headers).status == 403

    assert Program(site).login(email).status == 200
    assert mails_to(site, wanted) == []


@pytest.mark.parametrize("visitor", [Program, Browser])
def test_SES_11_RST_19_a_new_password_ends_everything_else(site: Site, visitor: type[Program | Browser]) -> None:
    """Who changes the password goes on; every other login, a copy of one's own, and every link from before are dead."""
    email = join(site)
    thief, pair = Browser(site), Program(site).login(email).json
    thief.login(email)
    reset, change = ask_reset(site, email), _confirm_link(site, email, some_email())
    own = Browser(site)
    own.login(email)
    copy = Browser(site)
    copy.cookies = dict(own.cookies)
    fields = FORMS["/auth/password/change"]

    if visitor is Browser:
        assert own.fill("/auth/password/change", **fields).status == 303
        assert own.is_in
    else:
        answer = Program(site).post("/auth/password/change", fields, _token(site, email))
        assert Program(site).me(answer.json["access_token"]).status == 200

    assert not thief.is_in
    assert not copy.is_in
    assert Program(site).me(pair["access_token"]).status == 401
    assert Program(site).refresh(pair["refresh_token"]).status == 401
    assert Program(site).reset(reset, ATTACKERS_PASSWORD).status == 410
    assert Program(site).post(change).status == 410
    assert [Program(site).login(email, one).status for one in (PASSWORD, OTHER_PASSWORD)] == [401, 200]


def test_SES_19_a_copied_login_is_not_enough(site: Site) -> None:
    """Whoever holds a copied login and not the password changes neither password nor address."""
    email = join(site)
    token, wanted = _token(site, email), some_email()

    for guess in ("", "a wrong guess", PASSWORD.upper(), f"{PASSWORD} ", PASSWORD[:-1]):
        changed = Program(site).post(
            "/auth/password/change", {"current_password": guess, "new_password": ATTACKERS_PASSWORD}, token
        )
        moved = Program(site).post("/auth/email/change", {"new_email": wanted, "current_password": guess}, token)
        assert [changed.status, moved.status] == [422, 422], guess

    assert Program(site).login(email).status == 200
    assert mails_to(site, wanted) == []


@pytest.mark.parametrize("visitor", [Program, Browser])
def test_SUP_01_asking_for_an_address_says_nothing_of_who_has_it(site: Site, visitor: type[Program | Browser]) -> None:
    """Who asks for another address is answered alike, be it free, taken, disabled or waiting; no taken one is told."""
    taken, waiting, free, disabled = join(site), some_email(), some_email(), join(site)
    sign_up(site, waiting)
    site.flask("accountflow", "disable-user", disabled)
    known, shapes = len(mails_to(site, taken, disabled)), []

    for wanted in (free, taken, waiting, disabled):
        email = join(site)
        if visitor is Browser:
            browser = Browser(site)
            browser.login(email)
            answer = browser.fill("/auth/email/change", new_email=wanted, current_password=PASSWORD)
            shapes.append((shape(answer, wanted, email), shape(browser.get(answer.location), wanted, email)))
        else:
            shapes.append((shape(_ask(site, _token(site, email), wanted), wanted, email),))

    assert shapes.count(shapes[0]) == len(shapes)
    assert shapes[0][0][0] in {202, 303}
    assert len(mails_to(site, taken, disabled)) == known


@pytest.mark.parametrize("headers", SCANNERS.values(), ids=SCANNERS)
def test_VER_01_RST_06_looking_at_a_change_uses_nothing_up(site: Site, headers: dict[str, str]) -> None:
    """However the links of a change are looked at, nothing has happened then, and their buttons still work."""
    email, wanted = join(site), some_email()
    confirm = _confirm_link(site, email, wanted)

    for method in ("HEAD", "GET", "OPTIONS", "GET"):
        Browser(site).ask(method, confirm, headers=headers)

    assert [Program(site).login(one).status for one in (email, wanted)] == [200, 401]
    assert Program(site).post(confirm).status == 200
    revert = new_link(site, email, "email/revert", 0)
    for method in ("HEAD", "GET", "OPTIONS", "GET"):
        Browser(site).ask(method, revert, headers=headers)
    assert [Program(site).login(one).status for one in (email, wanted)] == [401, 200]
    assert Program(site).post(revert).status == 200


@pytest.mark.parametrize("kind", ["confirm", "revert"])
def test_VER_04_thirty_changes_at_once(site: Site, kind: str) -> None:
    """Of thirty uses of a link at once one counts, and the account has one address."""
    email, wanted = join(site), some_email()
    link = (_confirm_link if kind == "confirm" else _revert_link)(site, email, wanted)
    known = len(site.mail.mails(email, "/password-reset/"))

    answers = volley((Program(site), link, {}) for _ in range(30))

    assert Counter(answer.status for answer in answers) == {200: 1, 410: 29}
    settle(site)
    if kind == "confirm":
        assert len(site.mail.mails(email, "/email/revert/")) == 1
        assert [Program(site).login(one).status for one in (email, wanted)] == [401, 200]
    else:
        assert len(site.mail.mails(email, "/password-reset/")) == known + 1
        assert [Program(site).login(one).status for one in (email, wanted)] == [401, 401]


def test_VER_06_no_link_does_what_another_is_for(site: Site) -> None:
    """The token of each link is good at its own route alone, and whoever tries it elsewhere has used nothing up."""
    links = _links(site)

    for route, link in links.items():
        for other in links:
            if other != route:
                answer = Program(site).post(other + token_of(link), {"password": ATTACKERS_PASSWORD})
                assert (answer.status, answer.code) == (400, "token_invalid"), (route, other)
        body = {"token": token_of(link), "password": ATTACKERS_PASSWORD}
        if route != "/auth/verify/":
            assert Program(site).post("/auth/verify", body).status == 400
        if route != "/auth/password-reset/":
            assert Program(site).post("/auth/password-reset/confirm", body).status == 400

    for link in links.values():
        assert Program(site).post(link, {"password": OTHER_PASSWORD}).status == 200, link


def test_SES_11_VER_09_a_new_address_ends_everything(site: Site) -> None:
    """When the address changes, every login, token and link from before is dead, and the old address finds nobody."""
    email, wanted, browser = join(site), some_email(), Browser(site)
    browser.login(email)
    pair = Program(site).login(email).json
    reset, confirm = ask_reset(site, email), _confirm_link(site, email, wanted)

    assert Program(site).post(confirm).status == 200

    assert not browser.is_in
    assert Program(site).me(pair["access_token"]).status == 401
    assert Program(site).refresh(pair["refresh_token"]).status == 401
    assert Program(site).reset(reset, ATTACKERS_PASSWORD).status == 410
    assert [Program(site).login(one).status for one in (email, wanted)] == [401, 200]


def test_RST_22_the_owner_takes_the_account_back(site: Site) -> None:
    """Who was robbed by somebody with his password gets his address back by the old mailbox, and is alone then."""
    email, evil = join(site), some_email()
    revert = _revert_link(site, email, evil)
    thief, pair = Browser(site), Program(site).login(evil).json
    thief.login(evil)
    reset = ask_reset(site, evil)

    assert Program(site).post(revert).status == 200

    assert not thief.is_in
    assert Program(site).me(pair["access_token"]).status == 401
    assert Program(site).refresh(pair["refresh_token"]).status == 401
    assert Program(site).reset(reset, ATTACKERS_PASSWORD).status == 410
    assert [Program(site).login(one).status for one in (email, evil)] == [401, 401]
    own = new_link(site, email, "password-reset", 0)
    assert Program(site).reset(own).status == 200
    assert Program(site).login(email, OTHER_PASSWORD).status == 200


def test_SUP_22_a_squatter_keeps_nobody_from_an_address(site: Site) -> None:
    """Somebody's unproved sign-up for an address does not keep its owner from moving there, and is dead then."""
    email, wanted = join(site), some_email()
    squatter = sign_up(site, wanted, ATTACKERS_PASSWORD)

    assert Program(site).post(_confirm_link(site, email, wanted)).status == 200

    assert Program(site).verify(squatter, password=ATTACKERS_PASSWORD).status != 200
    assert Program(site).login(wanted, ATTACKERS_PASSWORD).status == 401
    assert Program(site).login(wanted).status == 200


@pytest.mark.parametrize("head", POISON.values(), ids=POISON)
def test_RST_04_no_request_says_where_the_links_of_a_change_lead(site: Site, head: bytes) -> None:
    """Whatever a request says of its host, both mails of a change lead to the configured address."""
    email, wanted = join(site), some_email()
    body = json.dumps({"new_email": wanted, "current_password": PASSWORD}).encode()
    host, access = site.base_url.removeprefix("http://").encode(), bearer(_token(site, email))["Authorization"]
    rest = f"\r\nAuthorization: {access}\r\nContent-Type: {JSON}\r\nAccept: {JSON}\r\nContent-Length: {len(body)}"
    filled = head.replace(b"{path}", b"/auth/email/change").replace(b"{host}", host)

    status = raw(site, filled + rest.encode() + b"\r\nConnection: close\r\n\r\n" + body).status

    arrived = mails_to(site, wanted)
    assert (status == 202) == bool(arrived)
    for mail in [*arrived, *mails_to(site, email)]:
        assert all(link.startswith(f"{site.base_url}/") for link in [*mail.links, *mail.html_links])
        assert b"evil" not in mail.message.as_bytes()


@pytest.mark.parametrize("value", [["a@example.com", "b@example.com"], {"a": 1}, 1, True, None, "a@b@example.com", ""])
def test_SUP_07_a_new_address_is_one_address(site: Site, value: Any) -> None:
    """What is not one address is refused as a new one, and nobody is mailed."""
    total = _settled(site)

    assert _ask(site, _token(site, join(site)), value).status == 422

    assert _settled(site) == total + 1  # the mail of the sign-up


def _settled(site: Site) -> int:
    settle(site)
    return int(site.mail.total)


@pytest.mark.parametrize("kind", ["confirm", "revert"])
def test_VER_02_VER_11_the_pages_of_a_change_wait(site: Site, kind: str) -> None:
    """The page of such a link waits for its button, tells its token to nobody, and is in no cache."""
    link = (_confirm_link if kind == "confirm" else _revert_link)(site, join(site), some_email())
    browser = Browser(site)

    page = browser.ask("GET", link, headers={"Accept": HTML})
    done = browser.fill(link)

    assert forms_of(page)[0].has_button
    assert page.headers["Referrer-Policy"] == "strict-origin"
    assert "no-store" in page.headers["Cache-Control"]
    assert (done.status, token_of(link) in done.location) == (303, False)
    assert not browser.is_in
    assert path_of(link) == link
