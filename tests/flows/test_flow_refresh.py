"""Exchanging a refresh token for a new pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flow_bench import EMAIL, OWNER, PROGRAM, Bench, answer, told

from flask_accountflow.errors import Refusal
from flask_accountflow.flows import admin
from flask_accountflow.rules import Rate
from flask_accountflow.throttle import Budget, LimitsThrottle
from flask_accountflow.tokens import RefreshTokens, random_id


@pytest.fixture
def first(bench: Bench) -> str:
    """The first refresh token of a program that has logged in."""
    return _log_in(bench)


def _log_in(bench: Bench) -> str:
    if bench.account() is None:
        bench.member()
    return bench.refresh_token(bench.login(visit=PROGRAM))


def test_REF_01_a_refresh_rotates_the_pair(bench: Bench, first: str) -> None:
    """A refresh answers with the same family one generation on, under a new token."""
    outcome = bench.refresh(first)

    assert (outcome.code, outcome.status) == ("refreshed", 200)
    assert outcome.sign_in is not None
    assert (outcome.sign_in.login.generation, outcome.sign_in.account.email) == (1, EMAIL)
    assert bench.refresh_token(outcome) != first
    assert len(bench.rows("session")) == 1


def test_a_refresh_runs_two_statements(bench: Bench, first: str) -> None:
    """A refresh reads its family with the account, and rotates it by a guarded update."""
    with bench.statements() as ran:
        bench.refresh(first)

    assert [text.split()[0] for text in ran] == ["SELECT", "UPDATE"]


def test_a_chain_of_refreshes_goes_on(bench: Bench, first: str) -> None:
    """Each new token works once, for as long as the family lives."""
    token = first
    for _ in range(20):
        bench.clock.tick(900)
        token = bench.refresh_token(bench.refresh(token))

    assert bench.rows("session")[0].generation == 20


def test_REF_02_a_replaced_token_ends_its_family_alone(bench: Bench, first: str) -> None:
    """The second use of a token is refused and ends its family; another login of the account goes on."""
    other = _log_in(bench)
    second = bench.refresh_token(bench.refresh(first))

    answers = [answer(bench.refresh, first), answer(bench.refresh, second), answer(bench.refresh, other)]

    assert answers == ["token_invalid", "token_invalid", "refreshed"]
    assert [row.revoked_at is not None for row in bench.rows("session")] == [True, False]


@pytest.mark.parametrize(("wait", "mails"), [(0, []), (60, []), (61, ["refresh_reuse"])])
def test_a_theft_is_told_and_a_race_is_not(bench: Bench, first: str, wait: int, mails: list[str]) -> None:
    """The owner is mailed a notice without link when a token comes again more than a minute after its rotation."""
    bench.refresh(first)
    bench.clock.tick(wait)
    bench.events.clear()

    answer(bench.refresh, first)
    answer(bench.refresh, first)

    assert bench.sent == mails
    assert [mail.to for mail in bench.mails] == [EMAIL] * len(mails)
    assert [name for name, _ in bench.events] == ["refresh_reused", *["mail_queued"] * len(mails)]
    assert bench.events[0][1]["user_id"] == str(bench.account().id)


def test_REF_03_two_uses_at_once_never_both_succeed(bench: Bench, first: str) -> None:
    """When the same token rotates the family between reading and writing, this use ends the family."""
    inner: list[str] = []
    bench.clock.interrupt(0, lambda: inner.append(answer(bench.refresh, first)))

    outer = answer(bench.refresh, first)

    assert (inner, outer) == (["refreshed"], "token_invalid")
    assert bench.rows("session")[0].revoked_at is not None


def test_REF_04_within_the_grace_a_race_gets_the_same_pair(make_bench: Callable[..., Bench]) -> None:
    """With a grace, the loser of a race is answered with the winner's pair."""
    bench = make_bench(refresh_reuse_grace=5)
    first = _log_in(bench)
    inner: list[Any] = []
    bench.clock.interrupt(0, lambda: inner.append(bench.refresh(first)))

    outer = bench.refresh(first)

    assert bench.refresh_token(outer) == bench.refresh_token(inner[0])
    assert bench.rows("session")[0].revoked_at is None


@pytest.mark.parametrize(("wait", "code"), [(0, "refreshed"), (5, "refreshed"), (6, "token_invalid")])
def test_REF_04_the_grace_is_short(make_bench: Callable[..., Bench], wait: int, code: str) -> None:
    """The immediate predecessor gets the present pair for REFRESH_REUSE_GRACE seconds; then it ends the family."""
    bench = make_bench(refresh_reuse_grace=5)
    first = _log_in(bench)
    second = bench.refresh_token(bench.refresh(first))
    bench.clock.tick(wait)

    assert answer(bench.refresh, first) == code
    assert answer(bench.refresh, second) == code


def test_REF_04_the_grace_ends_when_the_successor_is_used(make_bench: Callable[..., Bench]) -> None:
    """A grandparent is no predecessor: it ends the family, however soon it comes."""
    bench = make_bench(refresh_reuse_grace=5)
    first = _log_in(bench)
    third = bench.refresh_token(bench.refresh(bench.refresh_token(bench.refresh(first))))

    answers = [answer(bench.refresh, first), answer(bench.refresh, third)]

    assert answers == ["token_invalid", "token_invalid"]


def test_REF_04_the_grace_moves_nothing(make_bench: Callable[..., Bench]) -> None:
    """An answer within the grace writes nothing, so that it cannot be prolonged."""
    bench = make_bench(refresh_reuse_grace=5)
    first = _log_in(bench)
    bench.refresh(first)
    before = bench.rows("session")
    bench.clock.tick(3)

    bench.refresh(first)

    assert bench.rows("session") == before


def test_REF_05_the_life_of_a_family_does_not_slide(make_bench: Callable[..., Bench]) -> None:
    """A family ends REFRESH_TOKEN_MAX_AGE after the login, however often it is refreshed."""
    bench = make_bench(refresh_token_max_age=100)
    token = _log_in(bench)
    lives = []
    for _ in range(3):
        bench.clock.tick(33)
        outcome = bench.refresh(token)
        assert outcome.sign_in is not None
        lives.append((outcome.sign_in.login.expires_at - bench.clock.now).total_seconds())
        token = bench.refresh_token(outcome)

    bench.clock.tick(1)

    assert lives == [67, 34, 1]
    assert answer(bench.refresh, token) == "token_invalid"


def test_a_family_that_ends_meanwhile_ends_once(bench: Bench, first: str) -> None:
    """When the family of a replaced token was ended between reading and writing, nobody is told a second time."""
    bench.refresh(first)
    bench.clock.tick(61)
    bench.events.clear()
    ended = bench.tables.session.update().values(revoked_at=bench.clock.now)
    bench.once("SELECT accountflow_session", lambda connection: connection.execute(ended))

    assert answer(bench.refresh, first) == "token_invalid"
    assert (bench.events, bench.sent) == ([], [])


def _kinds_of_bad_tokens(bench: Bench) -> dict[str, str]:
    good = _log_in(bench)
    login, generation = bench.services.refresh_tokens.read(good)
    revoked = _log_in(bench)
    bench.logout(refresh_token=revoked)
    browser = bench.login(visit=OWNER)
    return {
        "junk": "junk",
        "respelled": good + "=",
        "foreign": RefreshTokens(["x" * 32]).make(login, generation),
        "unknown": bench.services.refresh_tokens.make(random_id(), 0),
        "revoked": revoked,
        "of a browser": bench.refresh_token(browser),
        "future": bench.services.refresh_tokens.make(login, 7),
        "a link": bench.services.links.make("signup", login, bench.clock.now),
    }


def test_REF_07_every_bad_token_is_answered_alike(bench: Bench) -> None:
    """Whatever is wrong with a refresh token, the answer is the same 401."""
    tokens = _kinds_of_bad_tokens(bench)

    answers = {told(EMAIL, bench.refresh, token) for token in tokens.values()}

    assert len(answers) == 1
    assert answers.pop().startswith("('token_invalid', 401, ")


@pytest.mark.parametrize(
    ("flow", "code"), [(admin.disable_user, "account_disabled"), (admin.revoke_sessions, "token_invalid")]
)
def test_LOG_17_a_refresh_sees_the_account_as_it_is(bench: Bench, first: str, flow: Any, code: str) -> None:
    """A genuine token of a disabled account is told so; one whose stamp is gone is merely invalid."""
    bench.change(flow)

    assert answer(bench.refresh, first) == code
    assert bench.rows("session")[0].generation == 0


def test_an_account_that_lost_its_proof_is_named(bench: Bench, first: str) -> None:
    """A genuine token of an account whose address is not proved (any more) is refused as unverified."""
    bench.alter(email_verified_at=None)

    with pytest.raises(Refusal) as refused:
        bench.refresh(first)

    assert (refused.value.code, refused.value.status) == ("email_unverified", 403)


def test_RST_11_a_reset_ends_every_family(bench: Bench, first: str) -> None:
    """After a reset no token of before works."""
    bench.request_reset(email=EMAIL)

    bench.reset(bench.token)

    assert answer(bench.refresh, first) == "token_invalid"


def test_only_tokens_that_failed_count_against_the_network(make_bench: Callable[..., Bench]) -> None:
    """A refresh that works, also within the grace, gives its try back; a bad token is counted."""
    budgets = [
        Budget("token_ip", (Rate(2, 60),), "return"),
        Budget("login", (Rate(99, 60),), "clear"),
        Budget("login_ip", (Rate(99, 60),), "return"),
    ]
    throttle = LimitsThrottle(budgets, clock=lambda: 0.0)
    bench = make_bench(parts={"throttle": throttle}, refresh_reuse_grace=5)
    token = _log_in(bench)
    for _ in range(3):
        used, token = token, bench.refresh_token(bench.refresh(token))
        bench.refresh(used)

    answers = [answer(bench.refresh, "junk"), answer(bench.refresh, "junk"), answer(bench.refresh, token)]

    assert answers == ["token_invalid", "token_invalid", "rate_limited"]
