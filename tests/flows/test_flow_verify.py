"""Confirming an address, and asking for another link."""

from __future__ import annotations

import itertools
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
    answer,
    populate,
    told,
)

from flask_accountflow.errors import Refusal
from flask_accountflow.flow import Visit
from flask_accountflow.flows import admin
from flask_accountflow.rules import Rate
from flask_accountflow.throttle import Budget, LimitsThrottle

#: What the stranger of these stories wants to get in with, and what the owner chooses last.
EVIL_PASSWORD = "a stranger's own password"
CHOSEN_PASSWORD = "chosen in the mailbox"
#: A stranger's and an owner's program: neither keeps a cookie.
STRANGE_PROGRAM = replace(PROGRAM, ip=STRANGER.ip, network=STRANGER.network)


def test_a_link_confirms_the_address(bench: Bench) -> None:
    """Redeeming a link takes the address as proved and the password of its sign-up as the account's."""
    bench.signup()

    outcome = bench.verify(bench.token, DEVICE)

    assert (outcome.code, outcome.status, outcome.go) == ("verified", 200, "verify_done")
    assert outcome.data == {
        "status": "verified",
        "user": None,
        "next": None,
        "access_token": None,
        "refresh_token": None,
    }
    assert bench.account().email_verified_at is not None
    assert answer(bench.login) == "logged_in"


def test_opening_a_link_says_what_it_would_do(bench: Bench) -> None:
    """A link that was not used yet is pending, and shows the address only masked."""
    bench.signup()

    outcome = bench.open(bench.token)

    assert (outcome.code, outcome.status) == ("pending", 200)
    assert outcome.data["status"] == "pending"
    assert outcome.data["email_masked"] == "v•••@e•••.com"
    assert (outcome.data["expires_at"] - bench.clock.now).total_seconds() == 86400


def test_SUP_05_opening_a_link_changes_nothing(bench: Bench) -> None:
    """A scanner that opens a stranger's link ten times runs only reads, and the stranger is still not let in."""
    bench.signup(password=EVIL_PASSWORD, visit=STRANGER)
    before = bench.rows("user"), bench.rows("token")

    with bench.statements() as ran:
        for _ in range(10):
            bench.open(bench.tokens[0])

    assert {text.split()[0] for text in ran} == {"SELECT"}
    assert (bench.rows("user"), bench.rows("token")) == before
    assert answer(bench.login, password=EVIL_PASSWORD, visit=STRANGER) == "email_unverified"


def test_VER_03_a_link_confirms_once(bench: Bench) -> None:
    """The second use of a link has no effect and answers that the address is confirmed already."""
    bench.signup()
    bench.verify(bench.token)
    before = bench.account(), len(bench.rows("session"))

    opened, again = bench.open(bench.tokens[0]), bench.verify(bench.tokens[0])

    assert (bench.account(), len(bench.rows("session"))) == before
    assert (again.code, again.go, again.sign_in) == ("already_verified", "verify_done", None)
    assert (opened.code, opened.template) == ("already_verified", "verify_done")
    assert opened.data["email_masked"] == "v•••@e•••.com"
    assert {key: again.data[key] for key in ("user", "next", "access_token", "refresh_token")} == dict.fromkeys(
        ["user", "next", "access_token", "refresh_token"]
    )


def test_VER_03_a_link_that_loses_a_race_answers_already_verified(bench: Bench) -> None:
    """When the same link was used between reading and writing, this use changes nothing."""
    bench.signup()
    token = bench.token
    # The first look at the clock is before the link is read, the second one after.
    bench.clock.interrupt(1, lambda: bench.verify(token))

    outcome = bench.verify(token)

    assert (outcome.code, outcome.sign_in) == ("already_verified", None)
    assert len(bench.rows("session")) == 1


def test_a_link_that_is_discarded_meanwhile_is_superseded(bench: Bench) -> None:
    """When the link was discarded between reading and writing, the account stays unconfirmed."""
    bench.signup()
    token = bench.token
    bench.clock.interrupt(1, lambda: bench.verify(token, discard=True))

    assert answer(bench.verify, token) == "token_superseded"
    assert bench.account().email_verified_at is None


def test_an_account_that_changes_meanwhile_supersedes_its_links(bench: Bench) -> None:
    """When the account was changed between reading and writing, the link is refused and not used up."""
    bench.signup()
    token = bench.token
    bench.clock.interrupt(1, lambda: bench.change(admin.disable_user))

    assert answer(bench.verify, token) == "token_superseded"
    assert bench.account().email_verified_at is None
    assert bench.rows("token")[0].used_at is None


def test_VER_07_a_link_expires(bench: Bench) -> None:
    """A link that is as old as VERIFY_MAX_AGE is refused as expired, by its row."""
    bench.signup()
    token = bench.token

    bench.clock.tick(86399)
    before = answer(bench.open, token)
    bench.clock.tick(1)

    assert before == "pending"
    assert [answer(bench.open, token), answer(bench.verify, token)] == ["token_expired"] * 2
    assert bench.account().email_verified_at is None


def test_a_dead_link_says_how_to_go_on(bench: Bench) -> None:
    """The refusal of a dead link holds what its page needs: whose it was, masked, until when, and for what."""
    bench.signup()
    token = bench.token
    expires_at = bench.clock.now
    bench.clock.tick(86400)

    with pytest.raises(Refusal) as refused:
        bench.verify(token)

    assert dict(refused.value.data) == {
        "purpose": "signup",
        "email_masked": "v•••@e•••.com",
        "expires_at": bench.clock.now,
        "used_at": None,
        "verified": False,
    }
    assert bench.clock.now > expires_at


def test_VER_09_a_link_dies_when_another_one_is_redeemed(bench: Bench) -> None:
    """Of two sign-ups from different browsers only one is redeemed; the other's link is superseded."""
    bench.signup(visit=STRANGER)
    bench.clock.tick(61)
    bench.signup()
    foreign, own = bench.tokens
    bench.verify(own)

    with pytest.raises(Refusal) as refused:
        bench.verify(foreign, password=CHOSEN_PASSWORD)

    assert refused.value.code == "token_superseded"
    assert refused.value.data["verified"] is True
    assert answer(bench.login, password=CHOSEN_PASSWORD) != "logged_in"


def test_VER_06_a_link_of_another_purpose_is_none(bench: Bench) -> None:
    """A reset link confirms nothing, and a confirmation link resets nothing."""
    bench.signup()
    bench.request_reset(email=EMAIL)
    confirm, reset = bench.tokens

    answers = [answer(bench.verify, reset), answer(bench.reset, confirm), answer(bench.open_reset, confirm)]

    assert answers == ["token_invalid"] * 3
    assert bench.account().email_verified_at is None


def test_a_disabled_account_is_not_confirmed(bench: Bench) -> None:
    """The links of an account that was disabled are superseded."""
    bench.signup()
    token = bench.token
    bench.change(admin.disable_user)

    assert [answer(bench.open, token), answer(bench.verify, token)] == ["token_superseded"] * 2


def test_redeeming_runs_four_statements(bench: Bench) -> None:
    """A confirmation that logs in reads the link, uses it, changes the account and opens a login."""
    bench.signup()
    token = bench.token

    with bench.statements() as ran:
        bench.verify(token)

    assert [text.split()[0] for text in ran] == ["SELECT", "UPDATE", "UPDATE", "INSERT"]


def test_opening_a_link_runs_one_statement(bench: Bench) -> None:
    """Showing what a link would do reads its row and no more."""
    bench.signup()
    token = bench.token

    with bench.statements() as ran:
        bench.open(token)

    assert len(ran) == 1


# Who is logged in by a link.


@pytest.mark.parametrize(
    ("rule", "visit", "logs_in"),
    [
        ("same-browser", OWNER, True),
        ("same-browser", DEVICE, False),
        ("same-browser", STRANGER, False),
        ("same-browser", PROGRAM, False),
        ("always", OWNER, True),
        ("always", DEVICE, True),
        ("always", PROGRAM, True),
        ("never", OWNER, False),
        ("never", DEVICE, False),
    ],
)
def test_VER_10_a_link_logs_in_where_the_setting_says(
    make_bench: Callable[..., Bench], rule: str, visit: Visit, logs_in: bool
) -> None:
    """LOGIN_ON_VERIFY decides whether confirming opens a login; by default only in the browser that signed up."""
    bench = make_bench(login_on_verify=rule)
    bench.signup()

    outcome = bench.verify(bench.token, visit)

    assert outcome.code == "verified"
    assert (outcome.sign_in is not None, len(bench.rows("session"))) == (logs_in, int(logs_in))
    assert outcome.go == ("after_login" if logs_in else "verify_done")


@pytest.mark.parametrize(("visit", "logs_in"), [(PROGRAM, True), (DEVICE, False)], ids=["program", "browser"])
def test_a_program_that_sends_the_password_is_logged_in(bench: Bench, visit: Visit, logs_in: bool) -> None:
    """A password beside the token becomes the account's, and logs a program in but no foreign browser."""
    bench.signup()

    outcome = bench.verify(bench.token, visit, password=CHOSEN_PASSWORD)

    assert (outcome.sign_in is not None) is logs_in
    assert answer(bench.login, password=CHOSEN_PASSWORD) == "logged_in"
    assert answer(bench.login, password=PASSWORD) == "invalid_credentials"


@pytest.mark.parametrize("rule", ["always", "same-browser"])
def test_VER_10_confirming_switches_no_login(make_bench: Callable[..., Bench], rule: str) -> None:
    """A browser in which somebody is logged in stays with that login, whoever's link it opens."""
    bench = make_bench(login_on_verify=rule)
    bench.member("una@example.com")
    login = bench.login("una@example.com").sign_in
    assert login is not None
    bench.signup()

    outcome = bench.verify(bench.token, replace(OWNER, login_id=login.login.id))

    assert (outcome.code, outcome.sign_in) == ("verified", None)
    assert len(bench.rows("session")) == 1


def test_the_wanted_page_comes_back_with_the_link(bench: Bench) -> None:
    """The ``next`` that was kept with the sign-up is where its confirmation leads."""
    bench.signup(next="/cart")

    outcome = bench.verify(bench.token, DEVICE)

    assert (outcome.next, outcome.data["next"], outcome.email) == ("/cart", "/cart", EMAIL)


def test_a_confirmation_is_announced(bench: Bench) -> None:
    """The signals of a confirmation name the account: the address was proved, and who was logged in."""
    bench.signup()
    bench.events.clear()

    bench.verify(bench.token)

    user_id = str(bench.account().id)
    assert [(name, payload["user_id"]) for name, payload in bench.events] == [
        ("email_verified", user_id),
        ("logged_in", user_id),
    ]


# A password beside the link.


@pytest.mark.parametrize(
    ("password", "code"),
    [("short", "too_short"), ("x" * 257, "too_long"), ("aaaaaaaaaaaaaa", "too_common"), (EMAIL, "contains_email")],
)
def test_a_password_beside_the_link_obeys_the_rules(bench: Bench, password: str, code: str) -> None:
    """A refused password is told why, and leaves the link as good as it was."""
    bench.signup()
    token = bench.token

    with pytest.raises(Refusal) as refused:
        bench.verify(token, DEVICE, password=password)

    assert [(fault.field, fault.code) for fault in refused.value.fields] == [("password", code)]
    assert answer(bench.verify, token) == "verified"


def test_only_tries_that_failed_count_against_the_network(make_bench: Callable[..., Bench]) -> None:
    """A success and a refused password give their try back; a link that does not work is counted."""
    budgets = [Budget("token_ip", (Rate(2, 60),), "return"), Budget("mail_ip", (Rate(9, 60),), "keep")]
    bench = make_bench(parts={"throttle": LimitsThrottle(budgets, clock=lambda: 0.0)})
    bench.signup()
    token = bench.token

    answers = [
        answer(bench.verify, token, password="short"),
        answer(bench.verify, token, password=EMAIL),
        answer(bench.verify, token, discard=False, password=EMAIL),
        answer(bench.verify, "no-link"),
        answer(bench.verify, token),
        answer(bench.verify, token),
        answer(bench.verify, "no-link"),
        answer(bench.verify, token),
    ]

    assert answers == [
        *["validation_failed"] * 3,
        "token_invalid",
        "verified",
        "already_verified",
        "token_invalid",
        "rate_limited",
    ]


# Account pre-hijacking.


def _sign_up_both(bench: Bench, stranger: Visit, owner: Visit, wait: int, email: str = EMAIL) -> None:
    bench.signup(email, EVIL_PASSWORD, stranger)
    bench.clock.tick(wait)
    bench.signup(email, PASSWORD, owner)


def _redeem(bench: Bench, token: str, visit: Visit) -> str:
    """Open a link as its owner does: with one button, or with a new password where the page asks for one."""
    try:
        return bench.verify(token, visit).code
    except Refusal as refusal:
        if [(fault.field, fault.code) for fault in refusal.fields] != [("password", "required")]:
            return refusal.code
    return bench.verify(token, visit, password=CHOSEN_PASSWORD).code


#: What may happen between the two sign-ups and the owner's click.
_RESENDS: dict[str, Callable[[Bench, str], Any]] = {
    "nothing": lambda bench, email: None,
    "the owner resends": lambda bench, email: bench.resend(OWNER, email=email),
    "the owner's other device resends": lambda bench, email: bench.resend(DEVICE, email=email),
    "the stranger resends": lambda bench, email: bench.resend(STRANGER, email=email),
    "the stranger logs in": lambda bench, email: answer(bench.login, email, EVIL_PASSWORD, STRANGER),
    "the first link is renewed": lambda bench, email: bench.resend(DEVICE, token=bench.tokens_for(email)[0]),
}
_BROWSERS = {
    "both have cookies": (STRANGER, OWNER),
    "only the owner has": (STRANGE_PROGRAM, OWNER),
    "only the stranger has": (STRANGER, PROGRAM),
    "nobody has": (STRANGE_PROGRAM, PROGRAM),
}


@pytest.mark.parametrize("resend", _RESENDS)
@pytest.mark.parametrize("opened_by", [OWNER, DEVICE], ids=["own browser", "other device"])
def test_SUP_04_the_password_of_who_signed_up_first_never_works(bench: Bench, resend: str, opened_by: Visit) -> None:
    """Whichever of the mailed links the owner redeems, wherever, a stranger's earlier password lets nobody in."""
    stories = list(itertools.product(_BROWSERS, [1, 61], range(3)))
    redeemed = 0
    for number, (browsers, wait, chosen) in enumerate(stories):
        email, story = f"vic{number}@example.com", f"{browsers}, {wait} s between, link {chosen}"
        _sign_up_both(bench, *_BROWSERS[browsers], wait, email)
        bench.clock.tick(61)
        _RESENDS[resend](bench, email)
        links = bench.tokens_for(email)
        if chosen >= len(links):
            continue

        first, others = _redeem(bench, links[chosen], opened_by), {_redeem(bench, link, opened_by) for link in links}

        assert first == "verified", story
        assert others <= {"already_verified", "token_superseded"}, story
        assert answer(bench.login, email, EVIL_PASSWORD, STRANGER) != "logged_in", story
        assert "logged_in" in {answer(bench.login, email, one) for one in (PASSWORD, CHOSEN_PASSWORD)}, story
        redeemed += 1
    assert redeemed >= len(_BROWSERS) * 2


def test_SUP_04_a_single_sign_up_of_a_stranger_can_be_discarded(bench: Bench) -> None:
    """Who gets a link he never asked for discards it: the link is dead, and the account stays unconfirmed."""
    bench.signup(password=EVIL_PASSWORD, visit=STRANGER)
    token = bench.token

    outcome = bench.verify(token, DEVICE, discard=True)

    assert (outcome.code, outcome.data["status"], outcome.go) == ("discarded", "discarded", "verify_done")
    assert [answer(bench.open, token), answer(bench.verify, token)] == ["token_superseded"] * 2
    assert bench.account().email_verified_at is None
    assert answer(bench.login, password=EVIL_PASSWORD, visit=STRANGER) == "invalid_credentials"


def test_after_a_discard_the_own_link_asks_for_nothing(bench: Bench) -> None:
    """A discarded sign-up competes no more: the owner's own link is one button on any device."""
    _sign_up_both(bench, STRANGER, OWNER, 61)
    foreign, own = bench.tokens
    before = bench.open(own).data["password_required"]

    bench.verify(foreign, DEVICE, discard=True)

    assert (before, bench.open(own).data["password_required"]) == (True, False)
    assert answer(bench.verify, own, DEVICE) == "verified"
    assert answer(bench.login) == "logged_in"


@pytest.mark.parametrize(("visit", "asks"), [(OWNER, False), (DEVICE, True), (STRANGER, True), (PROGRAM, True)])
def test_SUP_04_competing_sign_ups_ask_for_a_password_elsewhere(bench: Bench, visit: Visit, asks: bool) -> None:
    """When different browsers signed up, a link asks for a password unless it comes back to its own browser."""
    _sign_up_both(bench, STRANGER, OWNER, 61)
    own = bench.tokens[1]

    assert bench.open(own, visit).data["password_required"] is asks
    assert answer(bench.verify, own, visit) == ("validation_failed" if asks else "verified")


@pytest.mark.parametrize("wait", [0, 61])
def test_one_browser_that_signs_up_twice_is_asked_for_nothing(bench: Bench, wait: int) -> None:
    """Two sign-ups of one browser do not compete, and either link confirms what it was made with."""
    bench.signup(password=PASSWORD)
    bench.clock.tick(wait)
    bench.signup(password=OTHER_PASSWORD)

    outcome = bench.verify(bench.token, DEVICE)

    assert outcome.code == "verified"
    assert answer(bench.login, password=OTHER_PASSWORD if wait else PASSWORD) == "logged_in"


def test_the_other_links_of_a_sign_up_say_already_verified(bench: Bench) -> None:
    """After one link of a sign-up was redeemed, its other mails say that the address is confirmed."""
    bench.signup()
    bench.clock.tick(61)
    bench.resend(email=EMAIL)
    first, second = bench.tokens
    bench.verify(second)

    assert [answer(bench.open, first), answer(bench.verify, first)] == ["already_verified"] * 2
    assert answer(bench.login, password=PASSWORD) == "logged_in"
    assert answer(bench.login, password=OTHER_PASSWORD) == "invalid_credentials"


def test_an_attempt_competes_as_long_as_its_account_may_live(bench: Bench) -> None:
    """A stranger's sign-up competes, expired or not, until UNVERIFIED_MAX_AGE has passed."""
    bench.signup(password=EVIL_PASSWORD, visit=STRANGER)
    bench.clock.tick(6 * 86400)
    bench.signup()
    own = bench.token
    asked_on_day_six = bench.open(own).data["password_required"]

    bench.clock.tick(86400 - 1)
    asked_before = bench.open(own).data["password_required"]
    bench.clock.tick(1)
    bench.signup()

    assert (asked_on_day_six, asked_before) == (True, True)
    assert bench.open(bench.token).data["password_required"] is False


# Asking for another link.


def test_VER_12_every_address_gets_the_same_answer_for_a_resend(bench: Bench) -> None:
    """A resend answers alike for every address, and runs the same statements."""
    populate(bench)
    answers, ran = set(), set()

    for email in CLASSES.values():
        with bench.statements() as statements:
            answers.add(told(email, bench.resend, DEVICE, email=email))
        ran.add(tuple(statements))

    assert len(answers) == 1
    assert len(ran) == 1


def test_VER_12_a_resend_mails_what_fits_the_address(bench: Bench) -> None:
    """A verified address is told that it is confirmed, a pending one gets a link, others get nothing."""
    populate(bench)
    before = len(bench.mails)

    for email in CLASSES.values():
        bench.resend(DEVICE, email=email)

    assert [(mail.template, mail.to, mail.reason) for mail in bench.mails[before:]] == [
        ("already_verified", CLASSES["V"], None),
        ("verify", None, "unknown"),
        ("verify", CLASSES["P"], None),
        ("already_verified", None, "disabled"),
    ]


def test_a_resend_is_accepted(bench: Bench) -> None:
    """The answer to a resend is 202 with the members of Accepted."""
    outcome = bench.resend(email=EMAIL)

    assert (outcome.code, outcome.status, outcome.go, outcome.email) == ("accepted", 202, "signup_sent", EMAIL)
    assert outcome.data == {
        "status": "accepted",
        "resend_after": 60,
        "detail": "If an account matches, an email is on its way.",
        "activation_url": None,
        "reset_url": None,
    }


def test_a_resend_kills_no_link(bench: Bench) -> None:
    """A link that was mailed earlier goes on working after others were asked for."""
    bench.signup()
    first = bench.token
    for _ in range(5):
        bench.clock.tick(61)
        bench.resend(STRANGER, email=EMAIL)

    assert answer(bench.verify, first) == "verified"


@pytest.mark.parametrize(("wait", "mails"), [(59, 0), (60, 1)])
def test_a_resend_within_resend_after_mails_nothing(bench: Bench, wait: int, mails: int) -> None:
    """A second mail of a kind waits for RESEND_AFTER seconds, whatever minute it falls into."""
    bench.clock.tick(30)
    bench.signup()
    bench.clock.tick(wait)

    bench.resend(email=EMAIL)

    assert len(bench.sent) == 1 + mails


def test_a_resend_prefers_the_sign_up_of_its_own_browser(bench: Bench) -> None:
    """A resend copies the sign-up of the browser that asks, although a stranger's is newer."""
    bench.signup()
    bench.clock.tick(61)
    bench.signup(password=EVIL_PASSWORD, visit=STRANGER)
    bench.clock.tick(61)

    bench.resend(OWNER, email=EMAIL)

    assert answer(bench.verify, bench.token, OWNER) == "verified"
    assert answer(bench.login) == "logged_in"


def test_an_expired_link_is_renewed_as_the_sign_up_that_it_was(bench: Bench) -> None:
    """An expired link that is sent in for a new one copies its own sign-up, and not a stranger's newer one."""
    bench.signup(name="Vic")
    own = bench.token
    bench.clock.tick(86400)
    bench.signup(password=EVIL_PASSWORD, visit=STRANGER, name="Eve")
    bench.clock.tick(61)

    outcome = bench.resend(DEVICE, token=own)

    assert (outcome.code, outcome.email) == ("accepted", None)
    assert answer(bench.verify, bench.token, OWNER) == "verified"
    assert answer(bench.login) == "logged_in"
    assert bench.account().name == "Vic"


@pytest.mark.parametrize("token", ["no-link", "reset", "gone", "moved"])
def test_a_token_that_names_nothing_mails_nothing(bench: Bench, token: str) -> None:
    """A resend by token answers alike when the token is no link, or its account has another address by now."""
    bench.signup()
    good = bench.token
    bench.clock.tick(61)
    expected = told(EMAIL, bench.resend, token=good)
    bench.clock.tick(61)
    if token == "reset":
        bench.request_reset(email=EMAIL)
        good = bench.token
    elif token == "gone":
        with bench.engine.begin() as connection:
            connection.execute(bench.tables.token.delete())
    elif token == "moved":
        bench.alter(email="una@example.com")
    before = len(bench.mails)

    found = told(EMAIL, bench.resend, token=token if token == "no-link" else good)

    assert found == expected
    assert len(bench.mails) == before


def test_a_resend_for_an_account_without_sign_up_confirms_without_a_password(bench: Bench) -> None:
    """An unverified account that an operator made keeps its own password when its address is confirmed."""
    bench.create_user()
    bench.clock.tick(61)
    bench.resend(email=EMAIL)

    outcome = bench.verify(bench.token, DEVICE)

    assert outcome.code == "verified"
    assert answer(bench.login) == "logged_in"
