"""Changing one's password."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from flow_bench import EMAIL, OTHER_PASSWORD, OWNER, PASSWORD, PROGRAM, Bench, answer

from flask_accountflow.errors import Refusal
from flask_accountflow.flow import Visit
from flask_accountflow.flows import admin
from flask_accountflow.rules import Rate
from flask_accountflow.throttle import Budget, LimitsThrottle


@pytest.fixture
def member(bench: Bench) -> Bench:
    """Services with one verified account."""
    bench.member()
    return bench


def _faults(bench: Bench, visit: Visit, **passwords: str) -> list[tuple[str, str]]:
    with pytest.raises(Refusal) as refused:
        bench.change_password(visit, **passwords)
    assert refused.value.status == 422
    return [(fault.field, fault.code) for fault in refused.value.fields]


@pytest.mark.parametrize(("visit", "remember"), [(OWNER, True), (OWNER, False), (PROGRAM, False)])
def test_the_new_password_is_the_password(member: Bench, visit: Visit, remember: bool) -> None:
    """The new password logs in and the old one does not; the visit goes on by a new login of its kind."""
    old = member.login(visit=visit, remember=remember)
    member.clock.tick(60)

    outcome = member.change_password(member.shown(old))

    new = member.opened(outcome)
    assert (outcome.code, outcome.status, outcome.go) == ("password_changed", 200, "me")
    assert (new.kind, new.remember, new.authenticated_at) == (visit.kind, remember, member.clock.now)
    assert [answer(member.login, password=password) for password in (PASSWORD, OTHER_PASSWORD)] == [
        "invalid_credentials",
        "logged_in",
    ]


def test_RST_19_everything_issued_before_is_dead(member: Bench) -> None:
    """Every login but the new one ends, the one that made the change too, and so does a link that is out."""
    others = [member.login(visit=visit) for visit in (OWNER, PROGRAM)]
    mine = member.login()
    member.request_reset(email=EMAIL)
    stamp = member.account().stamp

    outcome = member.change_password(member.shown(mine))

    assert member.account().stamp != stamp
    assert member.opened(outcome).stamp == member.account().stamp
    assert {member.opened(one).stamp for one in (*others, mine)} == {stamp}
    assert answer(member.refresh, member.refresh_token(others[1])) == "token_invalid"
    assert member.opened(mine).id not in member.alive
    assert answer(member.open_reset, member.tokens[0]) == "token_superseded"


def test_RST_12_the_owner_is_told(member: Bench) -> None:
    """One mail says that the password was changed in the settings, and signals say so without any password."""
    shown = member.shown(member.login())
    member.events.clear()

    member.change_password(shown)

    assert [(mail.template, mail.to, mail.context) for mail in member.mails] == [
        ("password_changed", EMAIL, {"how": "settings"})
    ]
    assert [name for name, _ in member.events] == ["logged_in", "password_changed", "mail_queued"]
    assert PASSWORD not in str(member.events)
    assert OTHER_PASSWORD not in str(member.events)


def test_a_wrong_password_changes_nothing(member: Bench) -> None:
    """A wrong present password is a fault of its field and a failed login, and touches no row."""
    shown = member.shown(member.login())
    before = (member.account(), member.rows("session"), member.rows("mail"))
    member.events.clear()

    assert _faults(member, shown, current="not the right horse") == [("current_password", "incorrect")]

    assert (member.account(), member.rows("session"), member.rows("mail")) == before
    assert [name for name, _ in member.events] == ["login_failed"]


@pytest.mark.parametrize(
    ("password", "code"), [("short", "too_short"), ("vic@example.com", "contains_email"), ("x" * 257, "too_long")]
)
def test_RST_13_the_new_password_obeys_the_rules(member: Bench, password: str, code: str) -> None:
    """A new password that breaks a rule is refused before the present one is looked at, whatever that is."""
    shown = member.shown(member.login())
    work = member.hasher.work

    for current in (PASSWORD, "not the right horse"):
        assert _faults(member, shown, current=current, new=password) == [("new_password", code)]

    assert member.hasher.work == work


def test_a_password_from_a_breach_is_refused(make_bench: Callable[..., Bench]) -> None:
    """A new password that is known from a breach is a fault of its own field."""
    bench = make_bench(parts={"is_breached": lambda password: password == OTHER_PASSWORD})
    bench.member()

    assert _faults(bench, bench.shown(bench.login())) == [("new_password", "breached")]


def test_the_old_password_is_not_new(member: Bench) -> None:
    """The present password is refused as the new one, but only to somebody who knows it."""
    shown = member.shown(member.login())

    assert _faults(member, shown, new=PASSWORD) == [("new_password", "same_as_old")]
    assert _faults(member, shown, current=OTHER_PASSWORD, new=OTHER_PASSWORD) == [("current_password", "incorrect")]


def test_it_takes_five_statements(member: Bench) -> None:
    """The account is changed, the login found, ended and opened anew, and the notice written."""
    shown = member.shown(member.login())

    with member.statements() as ran:
        member.change_password(shown)

    assert [text.split()[0] for text in ran] == ["UPDATE", "SELECT", "UPDATE", "INSERT", "INSERT"]


@pytest.mark.parametrize("what", ["password", "disabled", "login"])
def test_what_changes_meanwhile_wins(member: Bench, what: str) -> None:
    """Where the account changes or the login ends while the passwords are hashed, nothing is changed."""
    shown = member.shown(member.login())
    then = {
        "password": lambda: member.alter(password_hash="other", stamp=member.rows("session")[0].id),
        "disabled": lambda: member.change(admin.disable_user),
        "login": lambda: member.logout(visit=shown),
    }
    member.hasher.then = then[what]
    with pytest.raises(Refusal) as refused:
        member.change_password(shown)

    assert refused.value.code == "authentication_required"
    assert [mail.template for mail in member.mails] == []
    assert answer(member.login, password=OTHER_PASSWORD) == "invalid_credentials"


def test_of_two_at_once_one_counts(member: Bench) -> None:
    """Of two changes by the same login at the same time one is made, and the other is a stranger's."""
    shown = member.shown(member.login())
    member.hasher.then = lambda: member.change_password(shown, new="the first of them")

    assert answer(member.change_password, shown, new="the second of them") == "authentication_required"

    assert answer(member.login, password="the first of them") == "logged_in"


def test_a_stranger_changes_nothing(member: Bench) -> None:
    """Without a login nothing is hashed, and the answer asks for one."""
    assert answer(member.change_password, OWNER) == "authentication_required"

    assert member.hasher.work == 1  # the member's own


def test_RAT_01_guesses_count_as_failed_logins(make_bench: Callable[..., Bench]) -> None:
    """Wrong present passwords use up the tries of the address's logins, and a right one gives them back."""
    budgets = [Budget("login", (Rate(3, 3600),), "clear"), Budget("login_ip", (Rate(99, 3600),), "return")]
    bench = make_bench(parts={"throttle": LimitsThrottle(budgets, clock=lambda: 0.0)})
    bench.member()
    shown = bench.shown(bench.login())

    for _ in range(2):
        _faults(bench, shown, current="not the right horse")
    changed = bench.shown(bench.change_password(shown))
    for _ in range(3):
        _faults(bench, changed, current="not the right horse")

    assert answer(bench.change_password, changed, OTHER_PASSWORD, PASSWORD) == "rate_limited"
    assert answer(bench.login, password=OTHER_PASSWORD) == "rate_limited"


def test_LOG_02_an_account_without_a_password_has_none_to_change(member: Bench) -> None:
    """Where there is no password none is right; the way to one is a reset."""
    shown = member.shown(member.login())
    assert shown.account is not None
    bare = replace(shown, account=replace(shown.account, password_hash=None))

    assert _faults(member, bare) == [("current_password", "incorrect")]
