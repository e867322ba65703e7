"""What is over after its time, however it is kept in use."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import pytest
from attack.attacker import OTHER_PASSWORD, PASSWORD, Browser, Program, Site, ask_reset, join, sign_up, some_email

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hasty(make_attacked: Callable[..., Site]) -> Site:
    """A site where everything lasts as short as the settings allow."""
    return make_attacked(
        ACCOUNTFLOW_ACCESS_TOKEN_MAX_AGE=2,
        ACCOUNTFLOW_REFRESH_TOKEN_MAX_AGE=5,
        ACCOUNTFLOW_SESSION_MAX_AGE=4,
        ACCOUNTFLOW_SESSION_IDLE_MAX_AGE=2,
        # A minute is the least that a link may have.
        ACCOUNTFLOW_VERIFY_MAX_AGE=60,
        ACCOUNTFLOW_RESET_MAX_AGE=60,
    )


class Aging(NamedTuple):
    """Links that were never opened."""

    pending: str
    verify: str
    email: str
    reset: str
    made_at: float


@pytest.fixture(scope="module", autouse=True)
def aging(hasty: Site) -> Aging:
    """Links that age while the other tests of this file run."""
    pending, email = some_email(), join(hasty)
    return Aging(pending, sign_up(hasty, pending), email, ask_reset(hasty, email), time.monotonic())


def test_TOK_05_an_access_token_ends(hasty: Site) -> None:
    """An access token is dead after its time, also when it is used all the while."""
    token = Program(hasty).login(join(hasty)).json["access_token"]
    end = time.monotonic() + 3.2

    while time.monotonic() < end:
        Program(hasty).me(token)
        time.sleep(0.3)

    answer = Program(hasty).me(token)
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_REF_05_a_family_ends(hasty: Site) -> None:
    """Refreshing again and again does not make a login last longer than it may."""
    pair = Program(hasty).login(join(hasty)).json
    end = time.monotonic() + 6.2

    while time.monotonic() < end:
        answer = Program(hasty).refresh(pair["refresh_token"])
        pair = answer.json if answer.status == 200 else pair
        time.sleep(0.7)

    assert Program(hasty).refresh(pair["refresh_token"]).status == 401
    assert Program(hasty).me(pair["access_token"]).status == 401


def test_SES_09_a_remembered_login_ends(hasty: Site) -> None:
    """A remembered login is over after its time, however often it was used."""
    browser = Browser(hasty)
    browser.login(join(hasty), remember="on")
    kept = dict(browser.cookies)
    end = time.monotonic() + 5.2

    while time.monotonic() < end:
        browser.get("/secret")
        time.sleep(0.3)

    browser.cookies = kept
    assert not browser.is_in


def test_SES_10_an_unused_login_ends(hasty: Site) -> None:
    """A login that is not to be remembered ends when it is not used."""
    browser = Browser(hasty)
    browser.login(join(hasty), remember=None)
    assert browser.is_in

    time.sleep(3.2)

    assert not browser.is_in


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
