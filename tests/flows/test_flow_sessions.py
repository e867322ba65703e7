"""Looking at one's logins, and ending them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from flow_bench import EMAIL, OWNER, PROGRAM, Bench, answer

from flask_accountflow.errors import Refusal
from flask_accountflow.flow import Outcome, Visit
from flask_accountflow.flows import admin
from flask_accountflow.tokens import random_id

OTHER_EMAIL = "eve@example.com"


@pytest.fixture
def member(bench: Bench) -> Bench:
    """Services with one verified account."""
    bench.member()
    return bench


def test_SES_14_every_living_login_is_listed(member: Bench) -> None:
    """An owner sees each login with its kind, its device and its times, the one used last first."""
    browser = member.login()
    member.clock.tick(60)
    program = member.login(visit=PROGRAM)

    found = member.list_logins(member.shown(browser))

    start, later = member.clock.now - timedelta(seconds=60), member.clock.now
    assert found == [
        {
            "id": str(member.opened(program).id),
            "kind": "api",
            "user_agent": None,
            "ip": "192.0.2.3",
            "created_at": later,
            "last_seen_at": later,
            "current": False,
        },
        {
            "id": str(member.opened(browser).id),
            "kind": "browser",
            "user_agent": "Owner/1.0",
            "ip": "192.0.2.1",
            "created_at": start,
            "last_seen_at": start,
            "current": True,
        },
    ]


def test_a_use_moves_a_login_to_the_top(member: Bench) -> None:
    """A refresh counts as a use: the family that was refreshed last is listed first."""
    program, browser = member.login(visit=PROGRAM), member.login()
    member.clock.tick(60)

    member.refresh(member.refresh_token(program))

    found = member.list_logins(member.shown(browser))
    assert [one["kind"] for one in found] == ["api", "browser"]
    assert [one["last_seen_at"] - one["created_at"] for one in found] == [timedelta(seconds=60), timedelta(0)]


def test_what_is_over_is_not_listed(member: Bench) -> None:
    """A login that was ended, is of another account, or was opened before a change of this one, is not shown."""
    member.login(visit=PROGRAM)
    member.change(admin.revoke_sessions)
    ended = member.login(visit=PROGRAM)
    member.logout(refresh_token=member.refresh_token(ended))
    member.member(OTHER_EMAIL)
    member.login(OTHER_EMAIL)
    present = member.login()

    found = member.list_logins(member.shown(present))

    assert len(member.rows("session")) == 4
    assert [one["id"] for one in found] == [str(member.opened(present).id)]


@pytest.mark.parametrize(
    ("visit", "remember", "life"),
    [(OWNER, True, 500), (OWNER, False, 300), (PROGRAM, True, 700), (PROGRAM, False, 700)],
    ids=["remembered", "idle", "program", "program, not remembered"],
)
def test_a_login_is_listed_for_as_long_as_it_opens_something(
    make_bench: Callable[..., Bench], visit: Visit, remember: bool, life: int
) -> None:
    """A login leaves the list when its time is over, and an unremembered one of a browser when it lay idle."""
    bench = make_bench(session_max_age=500, session_idle_max_age=300, refresh_token_max_age=700)
    bench.member()
    opened = bench.login(visit=visit, remember=remember)
    found = []

    for seconds in (life - 1, 1):
        bench.clock.tick(seconds)
        listed = bench.list_logins(replace(bench.shown(opened), login_id=None))
        found.append([one["id"] for one in listed])

    assert found == [[str(bench.opened(opened).id)], []]


@pytest.mark.parametrize("count", [1, 20])
def test_a_list_takes_one_statement(member: Bench, count: int) -> None:
    """However many logins there are, they are read by one statement."""
    shown = member.shown([member.login() for _ in range(count)][-1])

    with member.statements() as ran:
        found = member.list_logins(shown)

    assert len(found) == count
    assert len(ran) == 1


def test_SES_14_one_login_is_ended(member: Bench) -> None:
    """An owner ends one of his logins; it is dead at once, and the others go on."""
    here, other, third = member.login(), member.login(visit=PROGRAM), member.login()
    token = member.refresh_token(other)

    outcome = member.end_login(member.shown(here), member.opened(other).id)

    assert (outcome.code, outcome.status, outcome.go, outcome.signed_out) == ("session_ended", 204, "me", False)
    assert answer(member.refresh, token) == "token_invalid"
    assert member.alive == {member.opened(here).id, member.opened(third).id}


def test_the_present_login_is_ended_like_a_logout(member: Bench) -> None:
    """Who ends the login that he uses is logged out."""
    here, other = member.login(), member.login()

    outcome = member.end_login(member.shown(here), member.opened(here).id)

    assert (outcome.status, outcome.go, outcome.signed_out) == (204, "after_logout", True)
    assert member.alive == {member.opened(other).id}


def _ended_already(bench: Bench, here: Outcome) -> str:
    other = bench.opened(bench.login()).id
    bench.end_login(bench.shown(here), other)
    return str(other)


def _of_somebody_else(bench: Bench, here: Outcome) -> str:
    bench.member(OTHER_EMAIL)
    return str(bench.opened(bench.login(OTHER_EMAIL)).id)


@pytest.mark.parametrize(
    "name",
    [
        _ended_already,
        _of_somebody_else,
        lambda bench, here: str(random_id()),
        lambda bench, here: "junk",
        lambda bench, here: "\0",
        lambda bench, here: "\ud800" * 32,
        lambda bench, here: "0" * 31,
        lambda bench, here: "f" * 33,
        lambda bench, here: "z" * 32,
        lambda bench, here: "x" * 10_000,
        lambda bench, here: "-1",
    ],
    ids=["ended", "another's", "unknown", "junk", "NUL", "surrogates", "short", "long", "letters", "huge", "negative"],
)
def test_what_is_no_login_of_ones_own_is_not_found(member: Bench, name: Callable[[Bench, Outcome], str]) -> None:
    """A login that is over, somebody else's, or none at all is not found, in the same words, and nothing ends."""
    here = member.login()
    login_id = name(member, here)
    before = member.alive
    member.events.clear()

    with pytest.raises(Refusal) as refused:
        member.end_login(member.shown(here), login_id)

    assert (refused.value.code, refused.value.status) == ("not_found", 404)
    assert (refused.value.title, refused.value.detail) == ("There is no such login", "It may have ended already.")
    assert member.alive == before
    assert member.events == []


@pytest.mark.parametrize("spell", [str.upper, lambda text: text.replace("-", "")], ids=["upper case", "no hyphens"])
def test_an_id_may_be_spelled_as_any_uuid(member: Bench, spell: Callable[[str], str]) -> None:
    """Programs that keep ids as UUIDs and spell them in their own way name the same login."""
    here, other = member.login(), member.login()

    member.end_login(member.shown(here), spell(str(member.opened(other).id)))

    assert member.alive == {member.opened(here).id}


def test_every_other_login_is_ended(member: Bench) -> None:
    """Every login of the account but the present one ends; other people's go on."""
    member.member(OTHER_EMAIL)
    theirs = member.opened(member.login(OTHER_EMAIL)).id
    here, others = member.login(visit=PROGRAM), [member.login(), member.login(visit=PROGRAM)]

    outcome = member.end_other_logins(member.shown(here))

    assert (outcome.code, outcome.status, outcome.go, outcome.signed_out) == ("sessions_ended", 204, "me", False)
    assert member.alive == {theirs, member.opened(here).id}
    assert answer(member.refresh, member.refresh_token(others[1])) == "token_invalid"
    assert answer(member.refresh, member.refresh_token(here)) == "refreshed"


def test_ending_others_takes_one_statement(member: Bench) -> None:
    """However many logins there are, they are ended by one statement, and so is a single one."""
    here, *others = [member.login() for _ in range(6)]
    shown = member.shown(here)

    with member.statements() as one:
        member.end_login(shown, member.opened(others[0]).id)
    with member.statements() as all_others:
        member.end_other_logins(shown)

    assert [text.split()[0] for text in one + all_others] == ["UPDATE", "UPDATE"]
    assert member.alive == {member.opened(here).id}


def test_AUD_01_endings_are_announced(member: Bench) -> None:
    """Ending one login or all others is announced once; where there was nothing to end, nothing is."""
    here, other = member.login(), member.login()
    member.login()
    shown = member.shown(here)
    member.events.clear()

    member.end_login(shown, member.opened(other).id)
    member.end_other_logins(shown)
    member.end_other_logins(shown)

    user_id = str(member.account().id)
    assert [(name, payload["user_id"]) for name, payload in member.events] == [("sessions_revoked", user_id)] * 2


def test_a_stranger_has_no_logins(member: Bench) -> None:
    """Without a login nothing is listed and nothing ends, whatever id is named."""
    login_id = member.opened(member.login()).id

    answers = [
        answer(lambda: Outcome(str(member.list_logins(OWNER)))),
        answer(member.end_login, OWNER, login_id),
        answer(member.end_login, OWNER, "junk"),
        answer(member.end_other_logins, OWNER),
    ]

    assert answers == ["authentication_required"] * 4
    assert member.alive == {login_id}


def test_LOG_17_a_disabled_account_keeps_no_login(member: Bench) -> None:
    """What was opened before an account was disabled is not listed after it was enabled again."""
    member.login()
    member.change(admin.disable_user, EMAIL)
    member.change(admin.enable_user, EMAIL)
    here = member.login()

    assert [one["id"] for one in member.list_logins(member.shown(here))] == [str(member.opened(here).id)]


def test_a_button_that_comes_too_late_is_no_fault(member: Bench) -> None:
    """The button of a login that has ended, or of none of one's own, leads to the list; a stranger is refused."""
    here = member.login()
    shown = member.shown(here)
    names = [name(member, here) for name in (_ended_already, _of_somebody_else)]
    before = member.alive

    outcomes = [member.press_end(shown, name) for name in (*names, "junk")]

    assert [(outcome.go, outcome.signed_out) for outcome in outcomes] == [("me", False)] * 3
    assert member.alive == before
    assert answer(member.press_end, OWNER, names[0]) == "authentication_required"


def test_a_button_ends_its_login(member: Bench) -> None:
    """A button ends the login that it stands beside, be it the present one."""
    here, other = member.login(), member.login()
    shown = member.shown(here)

    outcomes = [member.press_end(shown, member.opened(one).id) for one in (other, here)]

    assert [(outcome.go, outcome.signed_out) for outcome in outcomes] == [("me", False), ("after_logout", True)]
    assert member.alive == set()
