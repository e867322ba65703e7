"""Typing the password again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flow_bench import EMAIL, OTHER_PASSWORD, OWNER, PROGRAM, Bench, CountingHasher, answer

from flask_accountflow.errors import Refusal
from flask_accountflow.flow import Visit
from flask_accountflow.flows import admin
from flask_accountflow.rules import Rate
from flask_accountflow.throttle import Budget, LimitsThrottle
from flask_accountflow.tokens import random_id

WRONG_PASSWORD = "not the right horse"


@pytest.fixture
def member(bench: Bench) -> Bench:
    """Services with one verified account."""
    bench.member()
    return bench


def _refused(bench: Bench, visit: Visit, password: str = WRONG_PASSWORD) -> Refusal:
    with pytest.raises(Refusal) as refused:
        bench.fresh(visit, password)
    return refused.value


KINDS = pytest.mark.parametrize(
    ("visit", "remember"),
    [(OWNER, True), (OWNER, False), (PROGRAM, False)],
    ids=["remembered", "not remembered", "program"],
)


@KINDS
def test_a_new_login_takes_the_place_of_the_old_one(member: Bench, visit: Visit, remember: bool) -> None:
    """The right password ends the present login and opens one of its kind, which is as old as this moment."""
    old, other = (member.login(visit=visit, remember=remember) for _ in range(2))
    member.clock.tick(3600)

    outcome = member.fresh(member.shown(old), next="/vault")

    new = member.opened(outcome)
    assert (outcome.code, outcome.status, outcome.go, outcome.next) == ("logged_in", 200, "after_login", "/vault")
    assert member.alive == {new.id, member.opened(other).id}
    assert (new.kind, new.remember, new.generation) == (visit.kind, remember, 0)
    assert {new.authenticated_at, new.created_at} == {member.clock.now}
    assert new.expires_at - new.created_at == member.opened(old).expires_at - member.opened(old).created_at


def test_the_refresh_tokens_of_the_old_login_are_dead(member: Bench) -> None:
    """A program's old refresh token ends with the old login, and the new one works."""
    old = member.login(visit=PROGRAM)

    new = member.fresh(member.shown(old))

    answers = [answer(member.refresh, member.refresh_token(outcome)) for outcome in (old, new)]
    assert answers == ["token_invalid", "refreshed"]


def test_a_refresh_makes_nothing_fresh(member: Bench) -> None:
    """A refresh leaves the moment alone at which the password was typed."""
    old = member.login(visit=PROGRAM)
    member.clock.tick(3600)

    refreshed = member.refresh(member.refresh_token(old))

    assert member.opened(refreshed).authenticated_at == member.opened(old).authenticated_at
    assert [row.authenticated_at for row in member.rows("session")] == [
        row.created_at for row in member.rows("session")
    ]


def test_it_is_noted_as_a_login(member: Bench) -> None:
    """The account's last login is the moment of the new one, its stamp stays, and the signal is that of a login."""
    old, before = member.login(), member.account()
    member.clock.tick(60)
    member.events.clear()

    member.fresh(member.shown(old))

    account = member.account()
    assert account.last_login_at.replace(tzinfo=member.clock.now.tzinfo) == member.clock.now
    assert account.stamp == before.stamp
    assert [(name, payload["user_id"]) for name, payload in member.events] == [("logged_in", str(account.id))]


def test_it_takes_four_statements(member: Bench) -> None:
    """The account is noted, the old login is read and ended, and the new login is written."""
    shown = member.shown(member.login())

    with member.statements() as ran:
        member.fresh(shown)

    assert [text.split()[0] for text in ran] == ["UPDATE", "SELECT", "UPDATE", "INSERT"]


def test_a_wrong_password_changes_nothing(member: Bench) -> None:
    """A wrong password is a fault of its field, is announced as a failed login, and touches no row."""
    shown = member.shown(member.login())
    before, account = member.rows("session"), member.account()
    member.events.clear()

    refusal = _refused(member, shown)

    assert (refusal.code, refusal.status) == ("validation_failed", 422)
    assert [(fault.field, fault.code) for fault in refusal.fields] == [("password", "incorrect")]
    assert (member.rows("session"), member.account()) == (before, account)
    key = member.services.store.outbox.address_key(EMAIL)
    visit = {"at": member.clock.now, "ip": "192.0.2.1", "user_agent": "Owner/1.0"}
    failed = {"user_id": str(account.id), "reason": "password", "address_hash": key}
    assert member.events == [("login_failed", {**visit, **failed})]


@pytest.mark.parametrize(
    "password", ["x", "x" * 65536, "a\0b", "\ud800" * 12], ids=["short", "long", "NUL", "surrogates"]
)
def test_LOG_08_a_password_that_no_rule_would_allow_is_merely_wrong(member: Bench, password: str) -> None:
    """A password of any length and of any characters is answered as any wrong one."""
    refusal = _refused(member, member.shown(member.login()), password)

    assert [fault.code for fault in refusal.fields] == ["incorrect"]


def test_LOG_02_an_account_without_a_password_has_no_right_one(member: Bench) -> None:
    """Where there is no password none is right, and finding that out costs one hash, as any wrong one does."""
    shown = member.shown(member.login())
    assert shown.account is not None
    bare = replace(shown, account=replace(shown.account, password_hash=None))
    codes, work = [], []

    for visit in (shown, bare):
        before = member.hasher.work
        codes += [fault.code for fault in _refused(member, visit).fields]
        work.append(member.hasher.work - before)

    assert (codes, work) == (["incorrect"] * 2, [1, 1])


# What happens between reading and writing.


def test_of_two_at_once_one_wins(member: Bench) -> None:
    """When the same login is renewed twice at once, the second finds its login over, and writes nothing."""
    shown = member.shown(member.login())
    inner: list[Any] = []
    member.hasher.then = lambda: inner.append(member.fresh(shown))
    member.events.clear()

    outer = answer(member.fresh, shown)

    assert (inner[0].code, outer) == ("logged_in", "authentication_required")
    assert member.alive == {member.opened(inner[0]).id}
    assert [name for name, _ in member.events] == ["logged_in"]


@pytest.mark.parametrize("what", ["disabled", "revoked", "reset", "logged out", "ended elsewhere", "gone"])
def test_what_ends_meanwhile_is_not_renewed(member: Bench, what: str) -> None:
    """When the account or the login ends while the password is being checked, no login opens and none is noted."""
    old, other = member.login(), member.login()
    shown = member.shown(old)
    member.request_reset(email=EMAIL)
    token = member.token
    happens: dict[str, Callable[[], Any]] = {
        "disabled": lambda: member.change(admin.disable_user),
        "revoked": lambda: member.change(admin.revoke_sessions),
        "reset": lambda: member.reset(token),
        "logged out": lambda: member.logout(shown),
        "ended elsewhere": lambda: member.end_other_logins(member.shown(other)),
        "gone": lambda: _delete_logins(member),
    }
    member.clock.tick(60)
    member.hasher.then = happens[what]

    assert answer(member.fresh, shown) == "authentication_required"
    assert {row.id for row in member.rows("session")} <= {member.opened(old).id, member.opened(other).id}
    assert member.account().last_login_at.replace(tzinfo=member.clock.now.tzinfo) < member.clock.now


def _delete_logins(bench: Bench) -> None:
    with bench.engine.begin() as connection:
        connection.execute(bench.tables.session.delete())


def test_a_stranger_renews_nothing(member: Bench) -> None:
    """Without a login, or with one that no row has, the right password opens nothing."""
    shown = member.shown(member.login())
    visits = [OWNER, replace(shown, login_id=None), replace(shown, login_id=random_id())]

    assert [answer(member.fresh, visit) for visit in visits] == ["authentication_required"] * 3
    assert len(member.rows("session")) == 1


# Limits.


class FaultyHasher(CountingHasher):
    """A process that cannot hash now."""

    fault: Exception | None = None

    def check(self, password: str, *stored: str | None) -> tuple[bool, ...]:
        if self.fault is not None:
            raise self.fault
        return super().check(password, *stored)


def _throttle(login: int = 3, network: int = 50) -> LimitsThrottle:
    budgets = [
        Budget("login", (Rate(login, 3600),), "clear"),
        Budget("login_ip", (Rate(network, 3600),), "return"),
        Budget("mail_ip", (Rate(99, 3600),), "keep"),
        Budget("token_ip", (Rate(99, 3600),), "return"),
    ]
    return LimitsThrottle(budgets, clock=lambda: 0.0)


def test_RAT_01_guesses_count_as_failed_logins(make_bench: Callable[..., Bench]) -> None:
    """Guesses with a stolen login use up the failures of the address, before any hashing and for logins, too."""
    bench = make_bench(parts={"throttle": _throttle()})
    bench.member()
    shown = bench.shown(bench.login())
    wrong = [answer(bench.fresh, shown, WRONG_PASSWORD) for _ in range(3)]
    before = bench.hasher.work

    answers = [answer(bench.fresh, shown), answer(bench.login)]

    assert wrong == ["validation_failed"] * 3
    assert answers == ["rate_limited"] * 2
    assert bench.hasher.work == before


def test_RAT_07_guesses_count_against_the_network(make_bench: Callable[..., Bench]) -> None:
    """Guesses count against the network that they come from, and successes there do not."""
    bench = make_bench(parts={"throttle": _throttle(login=99, network=3)})
    bench.member()
    shown = bench.shown(bench.login())
    for _ in range(5):
        shown = bench.shown(bench.fresh(shown))

    answers = [answer(bench.fresh, shown, WRONG_PASSWORD) for _ in range(4)]

    assert answers == ["validation_failed"] * 3 + ["rate_limited"]
    assert answer(bench.fresh, replace(shown, network="192.0.2.77")) == "logged_in"


def test_RAT_01_a_success_clears_the_failures(make_bench: Callable[..., Bench]) -> None:
    """The right password begins the count anew."""
    bench = make_bench(parts={"throttle": _throttle()})
    bench.member()
    shown = bench.shown(bench.login())
    answers = []

    for _ in range(2):
        answers += [answer(bench.fresh, shown, WRONG_PASSWORD) for _ in range(2)]
        shown = bench.shown(bench.fresh(shown))

    assert answers == ["validation_failed"] * 4


@pytest.mark.parametrize("fault", [Refusal("busy", extra={"retry_after": 1}), RuntimeError("out of order")], ids=repr)
def test_what_is_not_checked_is_not_counted(make_bench: Callable[..., Bench], fault: Exception) -> None:
    """When the password is not checked, for want of room or by a fault of ours, no failure is counted."""
    hasher = FaultyHasher()
    bench = make_bench(parts={"hasher": hasher, "throttle": _throttle()})
    bench.member()
    shown = bench.shown(bench.login())
    hasher.fault = fault
    for _ in range(9):
        with pytest.raises(type(fault)):
            bench.fresh(shown, WRONG_PASSWORD)

    hasher.fault = None

    assert answer(bench.fresh, shown) == "logged_in"


def test_RST_11_the_old_password_is_no_longer_right(member: Bench) -> None:
    """After a reset the new password is asked for, and the old one is wrong."""
    member.request_reset(email=EMAIL)
    member.reset(member.token)
    shown = member.shown(member.login(password=OTHER_PASSWORD))

    assert [answer(member.fresh, shown), answer(member.fresh, shown, OTHER_PASSWORD)] == [
        "validation_failed",
        "logged_in",
    ]
