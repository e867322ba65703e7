"""Logging in with a password."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flow_bench import (
    CLASSES,
    DEVICE,
    EMAIL,
    OTHER_PASSWORD,
    OWNER,
    PASSWORD,
    PROGRAM,
    STRANGER,
    Bench,
    CountingHasher,
    answer,
    populate,
    told,
)

from flask_accountflow.errors import Refusal
from flask_accountflow.flow import Visit
from flask_accountflow.flows import admin
from flask_accountflow.rules import Rate
from flask_accountflow.throttle import Budget, LimitsThrottle

WRONG_PASSWORD = "not the right horse"
#: More addresses of the same length: an account without a password, and one whose hash is older and cheaper.
MORE = {"no hash": "nan@example.com", "old cost": "old@example.com"}


def _populate_all(bench: Bench) -> dict[str, str]:
    """Return an address of every class that the timing of a login must not tell apart."""
    populate(bench)
    bench.member(MORE["no hash"], None)
    bench.member(MORE["old cost"])
    bench.alter(MORE["old cost"], password_hash=CountingHasher(rounds=4).hash(PASSWORD))
    return {**CLASSES, **MORE}


def test_the_right_password_logs_in(bench: Bench) -> None:
    """A login of a verified account opens a session under the account's stamp, and notes when."""
    bench.member()

    outcome = bench.login(next="/cart")

    assert (outcome.code, outcome.status, outcome.go, outcome.next) == ("logged_in", 200, "after_login", "/cart")
    assert outcome.sign_in is not None
    assert outcome.sign_in.account.email == EMAIL
    account, session = bench.account(), bench.rows("session")[0]
    assert (session.id, session.user_id, session.stamp) == (outcome.sign_in.login.id, account.id, account.stamp)
    assert (session.ip, session.user_agent, session.kind) == ("192.0.2.1", "Owner/1.0", "browser")
    assert account.last_login_at.replace(tzinfo=bench.clock.now.tzinfo) == bench.clock.now


@pytest.mark.parametrize(
    ("visit", "remember", "days"),
    [(OWNER, True, 14), (OWNER, False, 1), (PROGRAM, True, 30), (PROGRAM, False, 30)],
    ids=["remembered", "not remembered", "program", "program, not remembered"],
)
def test_a_login_lasts_as_long_as_its_kind(bench: Bench, visit: Visit, remember: bool, days: int) -> None:
    """A remembered login lives for SESSION_MAX_AGE, another one a day, a refresh family REFRESH_TOKEN_MAX_AGE."""
    bench.member()

    sign_in = bench.login(visit=visit, remember=remember).sign_in

    assert sign_in is not None
    assert (sign_in.login.expires_at - bench.clock.now).total_seconds() == days * 86400
    assert (sign_in.login.kind, sign_in.login.remember) == (visit.kind, remember)


def test_no_login_outlives_session_max_age(make_bench: Callable[..., Bench]) -> None:
    """A SESSION_MAX_AGE of less than a day bounds a login that is not remembered, too."""
    bench = make_bench(session_max_age=3600)
    bench.member()

    sign_in = bench.login(remember=False).sign_in

    assert sign_in is not None
    assert (sign_in.login.expires_at - bench.clock.now).total_seconds() == 3600


def test_a_login_rotates_nothing(bench: Bench) -> None:
    """Logging in a second time leaves the first login and the account's stamp as they are."""
    bench.member()
    bench.login()
    before = bench.account().stamp

    bench.login()

    assert bench.account().stamp == before
    assert [row.stamp for row in bench.rows("session")] == [before] * 2


def test_a_login_runs_three_statements(bench: Bench) -> None:
    """A login reads the account with its newest sign-up, notes itself there, and opens a session."""
    bench.member()

    with bench.statements() as ran:
        bench.login()

    assert [text.split()[0] for text in ran] == ["SELECT", "UPDATE", "INSERT"]


def test_LOG_01_every_failure_is_answered_alike(bench: Bench) -> None:
    """A wrong password is refused in the same words for every address, whatever account it has."""
    addresses = _populate_all(bench)

    answers = {told(email, bench.login, email, WRONG_PASSWORD) for email in addresses.values()}

    assert len(answers) == 1
    assert answers.pop().startswith("('invalid_credentials', 401, ")


def test_LOG_01_every_failure_runs_one_statement(bench: Bench) -> None:
    """A wrong password costs the same single statement for every address."""
    addresses = _populate_all(bench)
    ran = set()

    for email in addresses.values():
        with bench.statements() as statements:
            answer(bench.login, email, WRONG_PASSWORD)
        ran.add(tuple(statements))

    assert len(ran) == 1
    assert len(ran.pop()) == 1


@pytest.mark.parametrize("touched_by", ["nobody", "a sign-up", "a resend", "a reset request"])
def test_LOG_02_every_failure_costs_the_same_work(make_bench: Callable[..., Bench], touched_by: str) -> None:
    """A wrong password costs as many hashes for every address, also after a stranger asked for mail to it."""
    bench = make_bench(parts={"hasher": CountingHasher(rounds=5)})
    hasher: Any = bench.services.hasher
    work = {}

    for name, email in _populate_all(bench).items():
        if touched_by == "a sign-up":
            bench.signup(email, OTHER_PASSWORD, STRANGER)
        elif touched_by == "a resend":
            bench.resend(STRANGER, email=email)
        elif touched_by == "a reset request":
            bench.request_reset(STRANGER, email=email)
        before = hasher.work
        answer(bench.login, email, WRONG_PASSWORD)
        work[name] = hasher.work - before

    assert len(set(work.values())) == 1, work


def test_LOG_02_a_right_password_costs_one_hash(bench: Bench) -> None:
    """Who gives the account's own password pays for one hash, with a stranger's sign-up pending or without."""
    bench.member()
    work = []

    for _ in range(2):
        before = bench.hasher.work
        assert answer(bench.login) == "logged_in"
        work.append(bench.hasher.work - before)
        bench.signup(password=OTHER_PASSWORD, visit=STRANGER)

    assert work == [1, 1]


@pytest.mark.parametrize("length", [1, 72, 73, 1000, 65536])
def test_LOG_08_a_password_of_any_length_is_merely_wrong(bench: Bench, length: int) -> None:
    """A password that no rule would allow is answered as any wrong one, for a known and an unknown address."""
    populate(bench)

    answers = {told(email, bench.login, email, "x" * length) for email in (CLASSES["V"], CLASSES["U"])}

    assert len(answers) == 1
    assert "invalid_credentials" in answers.pop()


@pytest.mark.parametrize("password", ["a\0b\0c\0d\0e\0f\0g", "\ud800" * 12, "\ud800\0"])
def test_a_password_of_odd_characters_is_merely_wrong(bench: Bench, password: str) -> None:
    """NUL and lone surrogates in a password are no fault of ours, only of the password."""
    populate(bench)

    answers = {told(email, bench.login, email, password) for email in CLASSES.values()}

    assert len(answers) == 1
    assert "invalid_credentials" in answers.pop()


# What stands in the way of a right password.


def test_a_disabled_account_is_named_after_the_right_password(bench: Bench) -> None:
    """Only who knows the password of a disabled account is told that it is disabled; no login opens."""
    bench.member()
    bench.change(admin.disable_user)

    answers = [answer(bench.login, password=WRONG_PASSWORD), answer(bench.login)]

    assert answers == ["invalid_credentials", "account_disabled"]
    assert bench.rows("session") == []


def test_SUP_03_an_unverified_account_is_named_after_the_right_password(bench: Bench) -> None:
    """Who signed up and did not confirm gets 403 for the right password only, and a new link."""
    bench.signup()
    bench.clock.tick(61)
    wrong, before = answer(bench.login, password=WRONG_PASSWORD), len(bench.mails)

    with pytest.raises(Refusal) as refused:
        bench.login()

    assert wrong == "invalid_credentials"
    assert (refused.value.code, refused.value.status) == ("email_unverified", 403)
    assert (refused.value.go, refused.value.data["email"]) == ("signup_sent", EMAIL)
    assert (before, len(bench.mails), bench.sent) == (1, 2, ["verify", "verify"])
    assert bench.rows("session") == []


def test_SUP_03_an_unverified_account_with_a_password_of_its_own_is_named_too(bench: Bench) -> None:
    """An account that an operator made without proof of the address is answered as any unverified one."""
    bench.create_user()
    bench.clock.tick(61)

    answers = [answer(bench.login, password=WRONG_PASSWORD), answer(bench.login)]

    assert answers == ["invalid_credentials", "email_unverified"]
    assert bench.sent == ["verify", "verify"]
    assert bench.rows("session") == []


def test_the_new_links_of_logins_are_capped(bench: Bench) -> None:
    """A program that logs in again and again as an unverified account causes three mails an hour."""
    bench.signup()

    answers = set()
    for _ in range(50):
        bench.clock.tick(61)
        answers.add(answer(bench.login))

    assert answers == {"email_unverified"}
    assert len(bench.sent) == 3


def test_SUP_21_a_strangers_own_sign_up_ends_where_an_unverified_login_does(bench: Bench) -> None:
    """Who signed up for somebody's address and logs in with that password learns nothing, and the owner gets mail."""
    bench.member()
    bench.signup(password=OTHER_PASSWORD, visit=STRANGER)

    assert answer(bench.login, password=OTHER_PASSWORD, visit=STRANGER) == "email_unverified"
    assert bench.sent == ["already_registered"]
    assert bench.rows("session") == []


def test_an_old_sign_up_is_forgotten(bench: Bench) -> None:
    """A sign-up that is older than UNVERIFIED_MAX_AGE is no password any more."""
    bench.signup()

    bench.clock.tick(7 * 86400 - 1)
    before = answer(bench.login)
    bench.clock.tick(1)
    bench.alter(created_at=bench.clock.now)

    # The login a second ago has copied the sign-up, and that copy counts.
    assert (before, answer(bench.login)) == ("email_unverified", "email_unverified")
    bench.clock.tick(7 * 86400)
    assert answer(bench.login) == "invalid_credentials"


# Hashes that are out of date.


@pytest.mark.parametrize(
    "old",
    [CountingHasher(rounds=5), CountingHasher(rounds=4, peppers=[("old", "k" * 32)])],
    ids=["another cost", "an older pepper"],
)
def test_LOG_16_a_login_renews_an_old_hash_once(make_bench: Callable[..., Bench], old: CountingHasher) -> None:
    """A hash of another cost or pepper is made anew at the next login, under the same stamp, and only then."""
    bench = make_bench(parts={"hasher": CountingHasher(4, [("new", "n" * 32), ("old", "k" * 32)])})
    bench.member()
    bench.alter(password_hash=old.hash(PASSWORD))
    before, hashes = bench.account(), []

    for _ in range(2):
        assert answer(bench.login) == "logged_in"
        hashes.append(bench.account().password_hash)

    assert hashes[0] != before.password_hash
    assert hashes[0] == hashes[1]
    assert hashes[0].startswith("af1$new$$2b$04$")
    assert bench.account().stamp == before.stamp


@pytest.mark.parametrize("password", [PASSWORD, WRONG_PASSWORD])
def test_an_unknown_scheme_is_a_wrong_password(bench: Bench, password: str) -> None:
    """A stored hash that we did not make lets nobody in and is not replaced."""
    bench.member()
    bench.alter(password_hash="pbkdf2:sha256:600000$x$00")

    assert answer(bench.login, password=password) == "invalid_credentials"
    assert bench.account().password_hash == "pbkdf2:sha256:600000$x$00"


# What happens between reading and writing.


@pytest.mark.parametrize("old_hash", [False, True], ids=["present hash", "old hash"])
def test_RST_19_a_password_that_is_changed_meanwhile_opens_nothing(bench: Bench, old_hash: bool) -> None:
    """When the password was reset while the old one was being checked, no session opens and no hash comes back."""
    bench.member()
    if old_hash:
        bench.alter(password_hash=CountingHasher(rounds=5).hash(PASSWORD))
    bench.request_reset(email=EMAIL)
    token = bench.token
    bench.hasher.then = lambda: bench.reset(token, OTHER_PASSWORD, DEVICE)

    assert answer(bench.login) == "invalid_credentials"
    assert bench.rows("session") == []
    assert answer(bench.login, password=OTHER_PASSWORD) == "logged_in"


def test_LOG_17_an_account_that_is_disabled_meanwhile_opens_nothing(bench: Bench) -> None:
    """When the account was disabled while the password was being checked, no session opens."""
    bench.member()
    bench.hasher.then = lambda: bench.change(admin.disable_user)

    assert answer(bench.login) == "invalid_credentials"
    assert bench.rows("session") == []


# Limits.


def _throttle(login: int = 3, network: int = 50) -> LimitsThrottle:
    return LimitsThrottle(
        [
            Budget("login", (Rate(login, 3600),), "clear"),
            Budget("login_ip", (Rate(network, 3600),), "return"),
            Budget("mail_ip", (Rate(99, 3600),), "keep"),
            Budget("token_ip", (Rate(99, 3600),), "return"),
        ],
        clock=lambda: 0.0,
    )


@pytest.fixture
def limited(make_bench: Callable[..., Bench]) -> Bench:
    """Services that allow three failed logins per address."""
    bench = make_bench(parts={"throttle": _throttle()})
    populate(bench)
    return bench


def test_RAT_01_failures_are_counted_per_address(limited: Bench) -> None:
    """After its budget of failures an address is refused before any hashing, also with the right password."""
    answers = [answer(limited.login, password=WRONG_PASSWORD) for _ in range(3)]
    before = limited.hasher.work

    refused = answer(limited.login)

    assert answers == ["invalid_credentials"] * 3
    assert refused == "rate_limited"
    assert limited.hasher.work == before


def test_RAT_01_a_success_clears_the_failures(limited: Bench) -> None:
    """A login with the right password begins the count anew."""
    answers = []
    for _ in range(3):
        answers += [answer(limited.login, password=WRONG_PASSWORD) for _ in range(2)]
        answers.append(answer(limited.login))

    assert answers == ["invalid_credentials", "invalid_credentials", "logged_in"] * 3


def test_RAT_01_a_stranger_cannot_clear_the_failures(limited: Bench) -> None:
    """A login with a stranger's own sign-up is no success, so that the guesses before it stay counted."""
    email = CLASSES["V"]
    limited.signup(email, OTHER_PASSWORD, STRANGER)

    answers = []
    for _ in range(4):
        answers.append(answer(limited.login, email, WRONG_PASSWORD, STRANGER))
        answers.append(answer(limited.login, email, OTHER_PASSWORD, STRANGER))

    assert answers == ["invalid_credentials", "email_unverified"] * 2 + ["invalid_credentials"] + ["rate_limited"] * 3


def test_RAT_02_a_reset_by_mail_always_lets_the_owner_back(limited: Bench) -> None:
    """While an address is refused, a reset works at once and clears its failures."""
    for _ in range(4):
        answer(limited.login, password=WRONG_PASSWORD)
    limited.request_reset(email=EMAIL)

    limited.reset(limited.token)

    assert answer(limited.login, password=OTHER_PASSWORD) == "logged_in"


@pytest.mark.parametrize(("limit", "failures", "is_told"), [(3, 2, False), (3, 3, True), (3, 4, True), (0, 4, False)])
def test_LOG_15_a_login_after_failures_is_told(
    make_bench: Callable[..., Bench], limit: int, failures: int, is_told: bool
) -> None:
    """A login that follows so many wrong passwords is mailed to its owner, once, and says how many there were."""
    bench = make_bench(parts={"throttle": _throttle(login=9)}, notice_after_failures=limit)
    bench.member()
    for _ in range(failures):
        answer(bench.login, password=WRONG_PASSWORD)
    before = len(bench.mails)

    answers = [answer(bench.login) for _ in range(2)]

    told_of = [row for row in bench.rows("mail") if row.template == "login_after_failures"]
    assert answers == ["logged_in"] * 2
    assert [(row.to_addr, row.context["failures"], row.token_id) for row in told_of] == (
        [(EMAIL, failures, None)] if is_told else []
    )
    assert len(bench.mails) - before == len(told_of)


def test_LOG_15_failures_of_other_addresses_do_not_count(limited: Bench) -> None:
    """A network's failures over other addresses are nothing to tell the owner of this one."""
    for number in range(20):
        answer(limited.login, f"u{number}@example.com", WRONG_PASSWORD)

    limited.login()

    assert not [row for row in limited.rows("mail") if row.template == "login_after_failures"]


def _known(bench: Bench, email: str = EMAIL) -> Visit:
    """Return a visit of a browser that has logged in before."""
    return replace(STRANGER, device=bench.services.devices.make(email, bench.clock.now))


def test_RAT_02_a_known_browser_has_a_count_of_its_own(limited: Bench) -> None:
    """Whatever strangers use up, a browser that has logged in before has all its tries, and then those of everybody."""
    for _ in range(4):
        answer(limited.login, password=WRONG_PASSWORD)
    known = _known(limited)

    answers = [answer(limited.login, password=WRONG_PASSWORD, visit=known) for _ in range(4)]
    other = answer(limited.login, visit=_known(limited))

    assert answers == ["invalid_credentials"] * 3 + ["rate_limited"]
    assert (answer(limited.login), other) == ("rate_limited", "logged_in")


def test_RAT_02_a_known_browser_that_has_used_up_its_tries_is_like_any_other(limited: Bench) -> None:
    """Beyond its own tries it has everybody's, so that a reset by mail lets it in, too."""
    known = _known(limited)
    tries = [answer(limited.login, password=WRONG_PASSWORD, visit=known) for _ in range(7)]
    limited.request_reset(email=EMAIL)
    limited.reset(limited.token)

    assert tries == ["invalid_credentials"] * 6 + ["rate_limited"]
    assert answer(limited.login, password=OTHER_PASSWORD, visit=known) == "logged_in"


def test_RAT_02_a_known_browser_is_known_to_its_address_alone(limited: Bench) -> None:
    """Who has an account of his own gains no tries at another's; a forged or stale cookie gains nothing."""
    own = _known(limited, CLASSES["L"])
    forged = replace(STRANGER, device="WyJh.forged")
    stale = _known(limited)
    limited.clock.tick(181 * 86400)
    for _ in range(3):
        answer(limited.login, password=WRONG_PASSWORD)

    assert {answer(limited.login, visit=visit) for visit in (own, forged, stale)} == {"rate_limited"}


def test_RAT_05_a_known_browser_leaves_the_failures_of_strangers_counted(limited: Bench) -> None:
    """The owner's login from a known browser gives those who guess no new tries."""
    for _ in range(3):
        answer(limited.login, password=WRONG_PASSWORD)

    first = answer(limited.login, visit=_known(limited))

    assert (first, answer(limited.login)) == ("logged_in", "rate_limited")


def test_RAT_03_the_limit_tells_nothing(limited: Bench) -> None:
    """The tries that are left and the refusal are the same for every address."""
    answers = {tuple(told(email, limited.login, email, WRONG_PASSWORD) for _ in range(5)) for email in CLASSES.values()}

    assert len(answers) == 1
    assert [text.split("'")[1] for text in answers.pop()] == ["invalid_credentials"] * 3 + ["rate_limited"] * 2


def test_RAT_07_failures_are_counted_per_network(make_bench: Callable[..., Bench]) -> None:
    """One network's failures over many addresses are bounded; its successes and other networks are not."""
    bench = make_bench(parts={"throttle": _throttle(network=3)})
    bench.member()
    for _ in range(5):
        bench.login(visit=STRANGER)

    answers = [answer(bench.login, f"u{number}@example.com", visit=STRANGER) for number in range(5)]

    assert answers == ["invalid_credentials"] * 3 + ["rate_limited"] * 2
    assert answer(bench.login, visit=OWNER) == "logged_in"


class FaultyHasher(CountingHasher):
    """A process that cannot hash now."""

    fault: Exception | None = None

    def check(self, password: str, *stored: str | None) -> tuple[bool, ...]:
        if self.fault is not None:
            raise self.fault
        return super().check(password, *stored)


def test_a_login_that_is_not_checked_is_not_counted(make_bench: Callable[..., Bench]) -> None:
    """When too many passwords are being hashed the answer is ``busy``, and no failure is counted."""
    hasher = FaultyHasher()
    bench = make_bench(parts={"hasher": hasher, "throttle": _throttle()})
    bench.member()
    hasher.fault = Refusal("busy", extra={"retry_after": 1})
    answers = {answer(bench.login) for _ in range(9)}

    hasher.fault = None

    assert answers == {"busy"}
    assert answer(bench.login) == "logged_in"


def test_a_fault_of_ours_is_not_counted(make_bench: Callable[..., Bench]) -> None:
    """When a check breaks off, as when the database is away, no failure is counted against the visitor."""
    hasher = FaultyHasher()
    bench = make_bench(parts={"hasher": hasher, "throttle": _throttle()})
    bench.member()
    hasher.fault = RuntimeError("out of order")
    for _ in range(9):
        with pytest.raises(RuntimeError, match="out of order"):
            bench.login()

    hasher.fault = None

    assert answer(bench.login) == "logged_in"


# Signals.


def test_AUD_01_logins_are_announced(bench: Bench) -> None:
    """A login, a wrong password and an unknown address each send their signal, with the address only as a hash."""
    bench.member()
    bench.events.clear()

    bench.login()
    answer(bench.login, password=WRONG_PASSWORD)
    answer(bench.login, "una@example.com")

    user_id = str(bench.account().id)
    visit = {"at": bench.clock.now, "ip": "192.0.2.1", "user_agent": "Owner/1.0"}
    key = bench.services.store.outbox.address_key
    failed = {"user_id": user_id, "reason": "password", "address_hash": key(EMAIL)}
    unknown = {"user_id": None, "reason": "unknown", "address_hash": key("una@example.com")}
    assert bench.events == [
        ("logged_in", {**visit, "user_id": user_id}),
        ("login_failed", {**visit, **failed}),
        ("login_failed", {**visit, **unknown}),
    ]


def test_a_verb_without_a_visit_says_so(bench: Bench) -> None:
    """A flow that nobody called by HTTP has no address and no program in its signals."""
    bench.member()
    bench.events.clear()

    bench.login(visit=replace(OWNER, ip=None, user_agent=None))

    assert [(payload["ip"], payload["user_agent"]) for _, payload in bench.events] == [(None, None)]
