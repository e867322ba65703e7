"""What is over after its time, however it is kept in use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from attack.attacker import OTHER_PASSWORD, PASSWORD, Aging, Answer, Browser, Program, Site, join, some_email

pytestmark = pytest.mark.slow


def _kept_in_use(use: Callable[[], object], seconds: float, pause: float = 0.3) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        use()
        time.sleep(pause)


def _use_a_token(site: Site) -> list[Answer]:
    token = Program(site).login(join(site)).json["access_token"]
    _kept_in_use(lambda: Program(site).me(token), 3.2)
    return [Program(site).me(token)]


def _refresh_again_and_again(site: Site) -> list[Answer]:
    pair = Program(site).login(join(site)).json

    def refresh() -> None:
        answer = Program(site).refresh(pair["refresh_token"])
        pair.update(answer.json if answer.status == 200 else {})

    _kept_in_use(refresh, 6.2, 0.7)
    return [Program(site).refresh(pair["refresh_token"]), Program(site).me(pair["access_token"])]


def _use_a_remembered_login(site: Site) -> list[Answer]:
    browser = Browser(site)
    browser.login(join(site), remember="on")
    kept = dict(browser.cookies)
    _kept_in_use(lambda: browser.get("/secret"), 5.2)
    browser.cookies = kept
    return [browser.get("/secret")]


def _leave_a_login_alone(site: Site) -> list[Answer]:
    browser = Browser(site)
    browser.login(join(site), remember=None)
    before = browser.get("/secret")
    time.sleep(3.2)
    return [before, browser.get("/secret")]


_LIVES = (_use_a_token, _refresh_again_and_again, _use_a_remembered_login, _leave_a_login_alone)
Lives = dict[Callable[[Site], list[Answer]], "Future[list[Answer]]"]


@pytest.fixture(scope="module")
def lives(hasty: Site) -> Iterator[Lives]:
    """Logins that are used, or not, all at once; each gives its last answers."""
    with ThreadPoolExecutor(len(_LIVES)) as pool:
        yield {live: pool.submit(live, hasty) for live in _LIVES}


def test_TOK_05_an_access_token_ends(lives: Lives) -> None:
    """An access token is dead after its time, also when it is used all the while."""
    [answer] = lives[_use_a_token].result()

    assert answer.status == 401
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_REF_05_a_family_ends(lives: Lives) -> None:
    """Refreshing again and again does not make a login last longer than it may."""
    assert [answer.status for answer in lives[_refresh_again_and_again].result()] == [401, 401]


def test_SES_09_a_remembered_login_ends(lives: Lives) -> None:
    """A remembered login is over after its time, however often it was used."""
    assert [answer.status for answer in lives[_use_a_remembered_login].result()] == [303]


def test_SES_10_an_unused_login_ends(lives: Lives) -> None:
    """A login that is not to be remembered ends when it is not used."""
    assert [answer.status for answer in lives[_leave_a_login_alone].result()] == [200, 303]


def test_VER_07_RST_10_old_links_are_dead(hasty: Site, aging: Aging) -> None:
    """After their time links do nothing, by whichever route, and asking anew mails to the account's address alone."""
    time.sleep(max(0.0, aging.made_at + 61 - time.monotonic()))

    confirmed = Program(hasty).verify(aging.verify)
    changed = Program(hasty).reset(aging.reset)

    assert (confirmed.status, confirmed.code) == (410, "token_expired")
    assert (changed.status, changed.code) == (410, "token_expired")
    assert Program(hasty).login(aging.pending, PASSWORD).status == 403
    assert Program(hasty).login(aging.email, OTHER_PASSWORD).status == 401
    token = aging.reset.rpartition("/")[2]
    known = len(hasty.mail.mails(aging.email, "/password-reset/"))
    stranger = some_email()
    assert Program(hasty).post("/auth/password-reset/request", {"token": token, "email": stranger}).status == 202
    assert len(hasty.mail.mails(stranger)) == 0
    end = time.monotonic() + 20
    while len(hasty.mail.mails(aging.email, "/password-reset/")) == known and time.monotonic() < end:
        time.sleep(0.05)
    assert len(hasty.mail.mails(aging.email, "/password-reset/")) == known + 1
    assert hasty.mail.mails(stranger) == []
