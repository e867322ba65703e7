"""Logging out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from flow_bench import OWNER, PROGRAM, Bench, answer

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
