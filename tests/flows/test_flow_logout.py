"""Logging out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flow_bench import EMAIL, OTHER_PASSWORD, OWNER, PROGRAM, Bench, answer

from flask_accountflow.flow import Visit
from flask_accountflow.flows import admin
from flask_accountflow.tokens import random_id


@pytest.fixture
def member(bench: Bench) -> Bench:
    """Services with one verified account."""
    bench.member()
    return bench


def test_SES_04_logging_out_ends_the_login_on_the_server(member: Bench) -> None:
    """The login that the visit shows is revoked, and no other one."""
    shown, other = member.login().sign_in, member.login().sign_in
    assert shown is not None
    assert other is not None

    outcome = member.logout(replace(OWNER, login_id=shown.login.id))

    assert (outcome.code, outcome.status, outcome.go, outcome.signed_out) == ("logged_out", 204, "after_logout", True)
    revoked = {row.id: row.revoked_at is not None for row in member.rows("session")}
    assert revoked == {shown.login.id: True, other.login.id: False}


def test_a_program_logs_out_with_its_refresh_token(member: Bench) -> None:
    """The family of a refresh token ends, also when the token is an older one of it."""
    first = member.refresh_token(member.login(visit=PROGRAM))
    second = member.refresh_token(member.refresh(first))

    member.logout(refresh_token=first)

    assert answer(member.refresh, second) == "token_invalid"


def test_a_program_may_show_one_login_and_name_another(member: Bench) -> None:
    """A bearer token and a refresh token of two logins end both."""
    shown, named = member.login(visit=PROGRAM).sign_in, member.login(visit=PROGRAM)
    assert shown is not None

    member.logout(replace(PROGRAM, login_id=shown.login.id), refresh_token=member.refresh_token(named))

    assert all(row.revoked_at is not None for row in member.rows("session"))


@pytest.mark.parametrize("given", ["nothing", "junk", "an unknown login", "an ended login"])
def test_nothing_to_end_is_no_error(member: Bench, given: str) -> None:
    """Logging out twice, with junk or with nothing at all is answered as any logout, and announced to nobody."""
    token = member.refresh_token(member.login(visit=PROGRAM))
    member.logout(refresh_token=token)
    member.events.clear()
    fields = {"junk": {"refresh_token": "junk"}, "an ended login": {"refresh_token": token}}.get(given, {})
    visit = replace(PROGRAM, login_id=random_id()) if given == "an unknown login" else PROGRAM

    outcome = member.logout(visit, **fields)

    assert (outcome.code, outcome.status, outcome.signed_out) == ("logged_out", 204, True)
    assert member.events == []


def test_logging_out_of_nothing_asks_no_database(member: Bench) -> None:
    """Where no login is shown and no genuine token is named, no statement runs."""
    with member.statements() as ran:
        member.logout()
        member.logout(refresh_token="junk")

    assert ran == []


def test_AUD_01_a_logout_is_announced_once(member: Bench) -> None:
    """The signal of a logout says whose login ended."""
    outcome = member.login(visit=PROGRAM)
    assert outcome.sign_in is not None
    member.events.clear()

    visit = replace(PROGRAM, login_id=outcome.sign_in.login.id)
    member.logout(visit, refresh_token=member.refresh_token(outcome))

    assert [(name, payload["user_id"]) for name, payload in member.events] == [("logged_out", str(member.account().id))]


# On all devices.

OTHER_EMAIL = "eve@example.com"


@pytest.mark.parametrize("by", ["cookie", "bearer token", "refresh token"])
def test_logging_out_on_all_devices(member: Bench, by: str) -> None:
    """Who asks for it ends every login of the account, by whatever living credential, and nobody else's."""
    member.member(OTHER_EMAIL)
    theirs = member.opened(member.login(OTHER_EMAIL)).id
    browser, program = member.login(), member.login(visit=PROGRAM)
    member.login()
    fields = {"refresh_token": member.refresh_token(program)} if by == "refresh token" else {}
    visit = {"cookie": member.shown(browser), "bearer token": member.shown(program)}.get(by, PROGRAM)

    outcome = member.logout(visit, all=True, **fields)

    assert (outcome.code, outcome.status, outcome.go, outcome.signed_out) == ("logged_out", 204, "after_logout", True)
    assert member.alive == {theirs}


def test_a_login_after_it_is_good(member: Bench) -> None:
    """A logout on all devices ends what there was and rotates nothing: the next login works, and so do mailed links."""
    here = member.shown(member.login())
    member.request_reset(email=EMAIL)
    before = member.account()

    member.logout(here, all=True)

    assert answer(member.login) == "logged_in"
    assert member.account().stamp == before.stamp
    assert answer(member.open_reset, member.token) == "valid"


def _revoked(bench: Bench) -> tuple[Visit, dict[str, str]]:
    visit = bench.shown(bench.login())
    bench.logout(visit)
    return visit, {}


def _expired(bench: Bench) -> tuple[Visit, dict[str, str]]:
    visit = bench.shown(bench.login())
    bench.clock.tick(14 * 86400)
    return visit, {}


def _idle(bench: Bench) -> tuple[Visit, dict[str, str]]:
    visit = bench.shown(bench.login(remember=False))
    bench.clock.tick(3600)
    return visit, {}


def _from_before(bench: Bench) -> tuple[Visit, dict[str, str]]:
    visit = bench.shown(bench.login())
    bench.change(admin.revoke_sessions)
    return visit, {}


def _replaced(bench: Bench) -> tuple[Visit, dict[str, str]]:
    first = bench.refresh_token(bench.login(visit=PROGRAM))
    bench.refresh(first)
    return PROGRAM, {"refresh_token": first}


def _revoked_family(bench: Bench) -> tuple[Visit, dict[str, str]]:
    token = bench.refresh_token(bench.login(visit=PROGRAM))
    bench.logout(refresh_token=token)
    return PROGRAM, {"refresh_token": token}


def _expired_family(bench: Bench) -> tuple[Visit, dict[str, str]]:
    token = bench.refresh_token(bench.login(visit=PROGRAM))
    bench.clock.tick(30 * 86400)
    return PROGRAM, {"refresh_token": token}


@pytest.mark.parametrize("over", [_revoked, _expired, _idle, _from_before, _replaced, _revoked_family, _expired_family])
def test_what_is_over_ends_nothing_else(
    make_bench: Callable[..., Bench], over: Callable[[Bench], tuple[Visit, dict[str, str]]]
) -> None:
    """A copied cookie or token of a login that is over cannot log its owner out everywhere."""
    bench = make_bench(session_idle_max_age=3600)
    bench.member()
    visit, fields = over(bench)
    present = bench.opened(bench.login()).id
    bench.events.clear()

    outcome = bench.logout(visit, all=True, **fields)

    assert (outcome.code, outcome.status) == ("logged_out", 204)
    assert bench.alive == {present}
    assert "sessions_revoked" not in [name for name, _ in bench.events]


def test_an_unremembered_login_that_is_used_is_a_living_one(make_bench: Callable[..., Bench]) -> None:
    """Before it lies idle, an unremembered login can log out on all devices."""
    bench = make_bench(session_idle_max_age=3600)
    bench.member()
    visit = bench.shown(bench.login(remember=False))
    bench.login()
    bench.clock.tick(3599)

    bench.logout(visit, all=True)

    assert bench.alive == set()


def test_each_named_login_ends_its_own_account(member: Bench) -> None:
    """A cookie of one account and a refresh token of another end the logins of both."""
    member.member(OTHER_EMAIL, OTHER_PASSWORD)
    other = member.login(OTHER_EMAIL, OTHER_PASSWORD, PROGRAM)
    member.login(OTHER_EMAIL, OTHER_PASSWORD)
    here = member.login()
    member.login()

    member.logout(member.shown(here), all=True, refresh_token=member.refresh_token(other))

    assert member.alive == set()


def test_one_of_two_that_is_over_does_not_stand_in_the_way(member: Bench) -> None:
    """A replaced refresh token beside a living login ends its own family, and the login ends all."""
    first = member.login(visit=PROGRAM)
    member.refresh(member.refresh_token(first))
    here = member.login()
    member.login()

    member.logout(member.shown(here), all=True, refresh_token=member.refresh_token(first))

    assert member.alive == set()


def test_AUD_01_it_is_announced_once(member: Bench) -> None:
    """A logout on all devices is announced as that, and once, however the account was named."""
    outcome = member.login(visit=PROGRAM)
    member.login()
    member.events.clear()

    member.logout(member.shown(outcome), all=True, refresh_token=member.refresh_token(outcome))

    user_id = str(member.account().id)
    assert [(name, payload["user_id"]) for name, payload in member.events] == [("sessions_revoked", user_id)]


def test_it_takes_two_statements(member: Bench) -> None:
    """The present login is read with its account, and all logins are ended by one update."""
    shown: Any = [member.shown(member.login()) for _ in range(6)][-1]

    with member.statements() as ran:
        member.logout(shown, all=True)

    assert [text.split()[0] for text in ran] == ["SELECT", "UPDATE"]
