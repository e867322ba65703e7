"""Somebody who guesses a password for weeks, with the limits as they are by default."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support import OTHER_PASSWORD, Clock, Person, Program, Site

from flask_accountflow.rules import DAY, Rate
from flask_accountflow.settings import Settings
from flask_accountflow.throttle import Budget, LimitsThrottle

EMAIL = "vic@example.com"


@pytest.fixture
def guarded(make_site: Callable[..., Site]) -> Site:
    """A site that counts by its own clock, each try from another network."""
    clock = Clock()
    many = (Rate(1_000_000, 1),)
    budgets = [Budget("login", Settings.ratelimit_login, "clear")]
    budgets += [Budget(name, many, "return") for name in ("login_ip", "mail_ip", "token_ip")]
    site = make_site(throttle=LimitsThrottle(budgets, clock=lambda: clock().timestamp()), clock=clock)
    site.clock = clock
    site.member()
    return site


@pytest.mark.parametrize("kind", [Program, Person])
def test_RAT_01_RAT_02_a_patient_guesser_has_a_hundred_tries(guarded: Site, kind: type[Program | Person]) -> None:
    """Who comes back whenever he may has a hundred tries in thirty days; the owner stays in, and gets in by mail."""
    owner, guesser = guarded.person(), kind(guarded)
    owner.login(EMAIL)
    tries = wait = 0
    while wait < DAY and tries < 200:
        guarded.clock.tick(wait)
        answer = guesser.login(EMAIL, "a wrong guess of mine")
        wait = int(answer.headers.get("Retry-After", 0))
        tries += answer.status_code != 429

    assert tries == 100
    assert guesser.login(EMAIL).status_code == 429  # with the right one
    assert owner.get("/secret").text == f"secret of {EMAIL}"
    owner.request_reset(email=EMAIL)
    owner.reset(guarded.last_link)
    assert kind(guarded).login(EMAIL, OTHER_PASSWORD).status_code in {200, 303}
