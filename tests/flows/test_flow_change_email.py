"""Changing one's address, and undoing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from flow_bench import EMAIL, OTHER_PASSWORD, OWNER, PASSWORD, PROGRAM, STRANGER, Bench, answer, told

from flask_accountflow.errors import Refusal
from flask_accountflow.flow import Visit
from flask_accountflow.flows import admin, change_email
from flask_accountflow.rules import DAY, Rate
from flask_accountflow.throttle import Budget, LimitsThrottle

NEW = "ada@new.example"
THIRD = "ada@third.example"
NEW_MASKED = "a•••@n•••.example"
WRONG_PASSWORD = "not the right horse"


@pytest.fixture
def member(bench: Bench) -> Bench:
    """Services with one verified account."""
    bench.member()
    return bench


@pytest.fixture
def shown(member: Bench) -> Visit:
    """A visit of the account's owner."""
    return member.shown(member.login())


def _faults(flow: Callable[..., Any], *args: Any, **kwargs: Any) -> list[tuple[str, str]]:
    with pytest.raises(Refusal) as refused:
        flow(*args, **kwargs)
    assert refused.value.status == 422
    return [(fault.field, fault.code) for fault in refused.value.fields]


def _mails(bench: Bench, *templates: str) -> list[Any]:
    return [mail for mail in bench.mails if mail.template in templates]


def _changed(bench: Bench, email: str, password: str = PASSWORD) -> str:
    """Move the owner's account to an address, from a login of its own. Return the token of the link that undoes it."""
    present = next(row.email for row in bench.rows("user") if row.email_verified_at is not None)
    bench.clock.tick(61)
    bench.change_email(bench.shown(bench.login(present, password)), email, password)
    bench.confirm_email(bench.tokens_for(email)[-1])
    return bench.tokens_for(present)[-1]


# Asking.


def test_asking_changes_nothing_and_mails_two(member: Bench, shown: Visit) -> None:
    """The new address gets a link and the present one a notice without one; the account stays as it is."""
    before = (member.account(), member.rows("session"))

    outcome = member.change_email(shown, NEW)

    assert (outcome.code, outcome.status, outcome.go) == ("email_change_requested", 202, "email_change_sent")
    assert dict(outcome.data) == {
        "status": "accepted",
        "email": NEW,
        "expires_in": DAY,
        "resend_after": 60,
        "confirm_url": None,
    }
    assert [(mail.template, mail.to, mail.token is None) for mail in member.mails] == [
        ("email_change", NEW, False),
        ("email_change_notice", EMAIL, True),
    ]
    assert (member.account(), member.rows("session")) == before


def test_the_notice_masks_the_new_address(member: Bench, shown: Visit) -> None:
    """Neither the notice nor a signal holds the new address: who reads the old mailbox may be somebody else."""
    member.events.clear()

    member.change_email(shown, NEW)

    notice = _mails(member, "email_change_notice")[0]
    assert notice.context == {"new_email": NEW_MASKED}
    assert [name for name, _ in member.events] == ["mail_queued", "email_change_requested", "mail_queued"]
    assert NEW not in str(member.events)


def _addresses(bench: Bench) -> dict[str, str]:
    """Make accounts of every kind beside the owner's; return their addresses, all as long, by kind."""
    kinds = {kind: f"{kind[:4]}@kinds.example" for kind in ("nobody", "verified", "pending", "disabled", "bare")}
    for kind in ("verified", "disabled", "bare"):
        bench.member(kinds[kind], None if kind == "bare" else PASSWORD)
    bench.change(admin.disable_user, kinds["disabled"])
    bench.signup(kinds["pending"], visit=STRANGER)
    return kinds


def test_every_address_gets_the_same_answer(member: Bench, shown: Visit) -> None:
    """Whether somebody has the address, and what became of that account, does not show: not by the answer, the
    statements, the hashes, nor by what the owner is shown as waiting afterwards."""
    kinds = _addresses(member)
    seen = set()

    for email in kinds.values():
        member.clock.tick(61)
        work = member.hasher.work
        with member.statements() as ran:
            answered = told(email, member.change_email, shown, email)
        page = change_email.show_pending(_at(member, shown), None).page
        waiting = (page["new_email"] == email, page["new_email_expires_at"] - member.clock.now)
        seen.add((answered, waiting, tuple(text.split("?")[0] for text in ran), member.hasher.work - work))

    assert len(seen) == 1


def _at(bench: Bench, visit: Visit) -> Any:
    return replace(bench.services, visit=visit)


def test_only_a_proved_address_is_taken(member: Bench, shown: Visit) -> None:
    """The link goes to an address that nobody has proved; where one has, even a disabled account, no mail goes out."""
    kinds = _addresses(member)

    for email in kinds.values():
        member.change_email(shown, email)

    asked = {mail.to: mail.state for mail in _mails(member, "email_change") if mail.to is not None}
    assert asked == {kinds["nobody"]: "pending", kinds["pending"]: "pending"}
    assert {mail.reason for mail in _mails(member, "email_change") if mail.to is None} == {"taken"}


def test_it_takes_six_statements(member: Bench, shown: Visit) -> None:
    """A request withdraws others, looks the address up, counts its mails, and writes two mails and a link."""
    with member.statements() as ran:
        member.change_email(shown, NEW)

    assert [text.split()[0] for text in ran] == ["UPDATE", "SELECT", "SELECT", "INSERT", "INSERT", "INSERT"]


def test_a_wrong_password_asks_for_nothing(member: Bench, shown: Visit) -> None:
    """Without the right password nothing is written, and the try counts as a failed login."""
    member.events.clear()

    assert _faults(member.change_email, shown, NEW, WRONG_PASSWORD) == [("current_password", "incorrect")]

    assert (member.rows("token"), member.rows("mail")) == ([], [])
    assert [name for name, _ in member.events] == ["login_failed"]


@pytest.mark.parametrize("email", [EMAIL, "VIC@Example.com"])
def test_ones_own_address_is_not_new(member: Bench, shown: Visit, email: str) -> None:
    """The address that one has, however it is spelled, is refused as the new one."""
    assert _faults(member.change_email, shown, email) == [("new_email", "same_as_old")]


@pytest.mark.parametrize("email", ["", "nobody", "a@b@c", "x" * 65 + "@example.com", "v\u0131c@example.com"])
def test_SUP_12_a_new_address_is_one(member: Bench, shown: Visit, email: str) -> None:
    """What is no address is a fault of its field, and nothing is mailed."""
    ((field, _),) = _faults(member.change_email, shown, email)

    assert (field, member.rows("mail")) == ("new_email", [])


def test_MAI_06_strangers_are_not_bombed(member: Bench, shown: Visit) -> None:
    """However often and from wherever it is asked for, an address gets one mail a minute and three an hour."""
    for _ in range(10):
        member.change_email(shown, NEW)
        member.clock.tick(61)

    assert len(member.tokens_for(NEW)) == 3


def test_requests_count_against_the_network(make_bench: Callable[..., Bench]) -> None:
    """Requests for a change use up the mails that a network may cause, and the next is refused unhashed."""
    budgets = [Budget(name, (Rate(99, 3600),), "clear") for name in ("login", "login_ip")]
    throttle = LimitsThrottle([*budgets, Budget("mail_ip", (Rate(2, 3600),), "keep")], clock=lambda: 0.0)
    bench = make_bench(parts={"throttle": throttle})
    bench.member()
    shown = bench.shown(bench.login())
    answers = [answer(bench.change_email, shown, NEW) for _ in range(2)]
    work = bench.hasher.work

    assert [*answers, answer(bench.change_email, shown, NEW)] == ["email_change_requested"] * 2 + ["rate_limited"]
    assert bench.hasher.work == work


def test_a_stranger_asks_for_nothing(member: Bench) -> None:
    """Without a login nothing is asked for."""
    assert answer(member.change_email, OWNER, NEW) == "authentication_required"
    assert member.rows("mail") == []


def test_the_link_stands_in_the_answer_where_nothing_is_mailed(make_bench: Callable[..., Bench]) -> None:
    """Where links stand in answers the one of the new address does, it works, and nothing is mailed."""
    bench = make_bench(return_token_in_response=True)
    bench.member()

    outcome = bench.change_email(bench.shown(bench.login()), NEW)

    link = outcome.data["confirm_url"]
    assert link.startswith("https://www.example.com/auth/email/confirm/")
    assert outcome.page["link"] == link
    assert answer(bench.confirm_email, link.rpartition("/")[2]) == "email_changed"
    assert bench.sent == []


# What waits.


def _waiting(bench: Bench, visit: Visit) -> Any:
    return change_email.show_pending(_at(bench, visit), None).page["new_email"]


def test_what_waits_is_shown_and_canceled(member: Bench, shown: Visit) -> None:
    """The owner sees the address asked for last until it is canceled; then its links are dead."""
    assert _waiting(member, shown) is None
    for email in (THIRD, NEW):
        member.change_email(shown, email)
    assert _waiting(member, shown) == NEW

    outcome = change_email.cancel(_at(member, shown), None)

    assert (outcome.code, outcome.status, outcome.go) == ("email_change_canceled", 204, "me")
    assert _waiting(member, shown) is None
    assert {answer(member.confirm_email, token) for token in member.tokens} == {"token_superseded"}
    assert answer(change_email.cancel, _at(member, shown), None) == "email_change_canceled"


def test_a_mistyped_address_gets_nothing(member: Bench, shown: Visit) -> None:
    """Asking for another address kills the link that went to the one before; asking again for the same one does not."""
    for email in (THIRD, NEW, NEW):
        member.change_email(shown, email)

    assert answer(member.confirm_email, member.tokens_for(THIRD)[0]) == "token_superseded"
    assert answer(member.confirm_email, member.tokens_for(NEW)[0]) == "email_changed"


def test_what_waits_is_over_with_its_link(member: Bench, shown: Visit) -> None:
    """What waits is no longer shown once its link has expired, or the account was changed otherwise."""
    member.change_email(shown, NEW)
    member.clock.tick(DAY)
    assert _waiting(member, shown) is None

    member.change_email(shown, NEW)
    changed = member.shown(member.change_password(shown))
    assert _waiting(member, changed) is None


def test_nobody_sees_or_cancels_what_others_asked_for(member: Bench, shown: Visit) -> None:
    """What waits is the owner's own: another account sees none of it, and cancels none of it."""
    member.member("eve@example.com")
    other = member.shown(member.login("eve@example.com"))
    member.change_email(shown, NEW)

    assert _waiting(member, other) is None
    change_email.cancel(_at(member, other), None)

    assert _waiting(member, shown) == NEW


# Confirming.


def test_VER_01_opening_the_link_changes_nothing(member: Bench, shown: Visit) -> None:
    """Opening the link says whose new address it confirms, and writes nothing, however often."""
    member.change_email(shown, NEW)
    before = (member.account(), member.rows("token"))

    for _ in range(3):
        outcome = member.show_email_link(change_email.show_confirm, member.tokens[-1])

    expires_at = member.clock.now + timedelta(days=1)
    assert dict(outcome.data) == {"status": "valid", "email_masked": NEW_MASKED, "expires_at": expires_at}
    assert outcome.page == {"email": NEW}
    assert (member.account(), member.rows("token")) == before


def test_the_new_address_logs_in(member: Bench, shown: Visit) -> None:
    """Once confirmed, the new address logs in with the same password, and the old one is nobody's."""
    member.change_email(shown, NEW)
    member.clock.tick(5)

    outcome = member.confirm_email(member.tokens[-1])

    assert (outcome.code, outcome.status, outcome.go, outcome.email) == ("email_changed", 200, "email_done", NEW)
    assert (outcome.data["email"], outcome.data["email_verified"]) == (NEW, True)
    account = member.account(NEW)
    assert (account.email, account.email_verified_at.replace(tzinfo=member.clock.now.tzinfo)) == (NEW, member.clock.now)
    assert [answer(member.login, email) for email in (EMAIL, NEW)] == ["invalid_credentials", "logged_in"]


def test_SES_11_confirming_ends_everything(member: Bench, shown: Visit) -> None:
    """No login and no link from before works after it, and whoever confirms is not logged in."""
    pair = member.login(visit=PROGRAM)
    member.request_reset(email=EMAIL)
    member.change_email(shown, NEW)
    before = {row.stamp for row in member.rows("session")}

    outcome = member.confirm_email(member.tokens_for(NEW)[-1], shown)

    assert outcome.sign_in is None
    assert member.account(NEW).stamp not in before
    assert answer(member.refresh, member.refresh_token(pair)) == "token_invalid"
    assert answer(member.open_reset, member.tokens_for(EMAIL)[0]) == "token_superseded"


def test_RST_12_the_old_address_is_told_and_can_undo_it(member: Bench, shown: Visit) -> None:
    """The old address gets a notice with a link that works for three days; no other mail goes out."""
    member.change_email(shown, NEW)
    member.events.clear()

    member.confirm_email(member.tokens[-1])

    notice = member.mails[-1]
    assert (notice.template, notice.to, notice.context) == ("email_changed", EMAIL, {"new_email": NEW_MASKED})
    row = member.rows("token")[-1]
    assert (row.purpose, row.expires_at - row.created_at) == ("revert", timedelta(days=3))
    assert [name for name, _ in member.events] == ["email_changed", "mail_queued"]


@pytest.mark.parametrize("kind", ["change", "revert"])
def test_VER_03_a_link_works_once(member: Bench, kind: str) -> None:
    """A link that did its work is used: it says so, and changes nothing any more."""
    undo = _changed(member, NEW)
    flow, token = (member.confirm_email, member.tokens_for(NEW)[0]) if kind == "change" else (member.revert_email, undo)
    if kind == "revert":
        flow(token)
    before = member.rows("user")

    assert answer(flow, token) == "token_used"

    assert member.rows("user") == before


@pytest.mark.parametrize("kind", ["change", "revert"])
def test_VER_04_of_two_at_once_one_counts(member: Bench, kind: str) -> None:
    """Of two uses of a link at the same time one changes the address, and the other is told that it was used."""
    if kind == "change":
        member.change_email(member.shown(member.login()), NEW)
        flow, token = member.confirm_email, member.tokens_for(NEW)[-1]
    else:
        flow, token = member.revert_email, _changed(member, NEW)
    member.clock.interrupt(1, lambda: flow(token))

    assert answer(flow, token) == "token_used"

    assert len(_mails(member, "email_changed")) == 1


def test_of_two_links_at_once_one_counts(member: Bench, shown: Visit) -> None:
    """Where another link of the account is used in the middle, this one is superseded and changes nothing."""
    member.request_reset(email=EMAIL)
    member.change_email(shown, NEW)
    member.clock.interrupt(1, lambda: member.reset(member.tokens_for(EMAIL)[0]))

    assert answer(member.confirm_email, member.tokens_for(NEW)[-1]) == "token_superseded"

    assert member.account(NEW) is None


@pytest.mark.parametrize("what", ["expired", "password", "disabled", "foreign"])
def test_VER_09_dead_links_confirm_nothing(member: Bench, shown: Visit, what: str) -> None:
    """A link is dead after its time, after another change of the account, and while that is disabled; a link for
    something else was never one. Opening it says the same as using it."""
    member.change_email(shown, NEW)
    token = member.tokens_for(NEW)[-1]
    if what == "expired":
        member.clock.tick(DAY)
    elif what == "password":
        member.change_password(shown)
    elif what == "disabled":
        member.change(admin.disable_user)
    else:
        member.request_reset(email=EMAIL)
        token = member.tokens_for(EMAIL)[-1]
    codes = {"expired": "token_expired", "foreign": "token_invalid"}

    answers = [
        answer(member.show_email_link, change_email.show_confirm, token),
        answer(member.confirm_email, token),
    ]

    assert answers == [codes.get(what, "token_superseded")] * 2
    assert member.account(NEW) is None


def test_an_address_that_was_proved_meanwhile_stays_its_owners(member: Bench, shown: Visit) -> None:
    """Where somebody has proved the address since, the link is superseded: both accounts stay as they are."""
    member.change_email(shown, NEW)
    token = member.tokens_for(NEW)[-1]
    member.member(NEW, OTHER_PASSWORD)
    before = member.rows("user")

    assert answer(member.confirm_email, token) == "token_superseded"

    assert member.rows("user") == before
    assert member.rows("token")[0].used_at is None


def test_an_address_that_is_proved_at_the_same_moment_stays_its_owners(member: Bench, shown: Visit) -> None:
    """Where another transaction proves the address after we have looked, the database says no, and so do we."""
    member.change_email(shown, NEW)
    token = member.tokens_for(NEW)[-1]
    member.member(THIRD)

    def take(connection: Any) -> None:
        user = member.tables.user
        connection.execute(user.update().where(user.c.email_key == THIRD).values(email_key=NEW))

    member.once("UPDATE accountflow_token", take)

    assert answer(member.confirm_email, token) == "token_superseded"


def test_SUP_22_a_squatter_gives_way(member: Bench, shown: Visit) -> None:
    """A sign-up for the new address that was never confirmed loses it, and its link is dead."""
    member.signup(NEW, visit=STRANGER)
    squat = member.tokens_for(NEW)[-1]
    member.change_email(shown, NEW)

    member.confirm_email(member.tokens_for(NEW)[-1])

    assert answer(member.verify, squat, visit=STRANGER) == "token_superseded"
    assert [row.email_key for row in member.rows("user")] == [NEW, None]
    assert answer(member.login, NEW) == "logged_in"


def test_only_links_that_failed_count_against_the_network(make_bench: Callable[..., Bench]) -> None:
    """A link that works gives its try back; junk uses them up, and then a good link has to wait."""
    budgets = [Budget(name, (Rate(99, 3600),), "clear") for name in ("login", "login_ip", "mail_ip")]
    throttle = LimitsThrottle([*budgets, Budget("token_ip", (Rate(2, 3600),), "return")], clock=lambda: 0.0)
    bench = make_bench(parts={"throttle": throttle})
    bench.member()
    undo = _changed(bench, NEW)

    answers = [answer(bench.revert_email, token) for token in ("junk", "junk", undo)]

    assert answers == ["token_invalid", "token_invalid", "rate_limited"]


# Undoing.


def test_undoing_brings_the_address_back(member: Bench) -> None:
    """The old address is the account's again, nobody can log in, and a link to set a password goes there."""
    undo = _changed(member, NEW)
    thief = member.login(NEW, visit=PROGRAM)
    member.events.clear()

    outcome = member.revert_email(undo)

    assert (outcome.code, dict(outcome.data), outcome.go) == ("email_reverted", {"status": "reverted"}, "email_done")
    assert (member.account().email, member.account().password_hash, member.account(NEW)) == (EMAIL, None, None)
    assert answer(member.refresh, member.refresh_token(thief)) == "token_invalid"
    assert [answer(member.login, email) for email in (EMAIL, NEW)] == ["invalid_credentials"] * 2
    assert (member.mails[-1].template, member.mails[-1].to) == ("reset", EMAIL)
    assert [name for name, _ in member.events][:2] == ["email_reverted", "mail_queued"]
    assert answer(member.reset, member.token) == "password_changed"
    assert answer(member.login, password=OTHER_PASSWORD) == "logged_in"


def test_RST_06_opening_the_undoing_link_changes_nothing(member: Bench) -> None:
    """Opening it names the address that would come back, and writes nothing."""
    undo = _changed(member, NEW)
    before = (member.rows("user"), member.rows("token"))

    outcome = member.show_email_link(change_email.show_revert, undo)

    assert (outcome.data["status"], outcome.data["email_masked"]) == ("valid", "v•••@e•••.com")
    assert (member.rows("user"), member.rows("token")) == before


def test_no_later_change_stops_the_undoing(member: Bench) -> None:
    """Whatever is changed later, password and address, the first owner's link still brings everything back."""
    undo = _changed(member, NEW)
    member.change_password(member.shown(member.login(NEW)))
    later = _changed(member, THIRD, OTHER_PASSWORD)

    assert member.revert_email(undo).code == "email_reverted"

    assert member.account() is not None
    assert answer(member.revert_email, later) == "token_superseded"


def test_of_several_addresses_the_oldest_wins(member: Bench) -> None:
    """A link that brings a later address back leaves that of the oldest good, although all are of one second."""
    undo = _changed(member, NEW)
    member.clock.tick(-61)
    later = _changed(member, THIRD)

    assert member.revert_email(later).code == "email_reverted"
    assert member.account(NEW) is not None

    assert member.revert_email(undo).code == "email_reverted"
    assert member.account() is not None


def test_undoing_ends_every_other_link(member: Bench) -> None:
    """A reset and another change that were asked for since are dead afterwards."""
    undo = _changed(member, NEW)
    member.clock.tick(61)
    member.request_reset(email=NEW)
    member.change_email(member.shown(member.login(NEW)), THIRD)
    out = [member.tokens_for(NEW)[-1], member.tokens_for(THIRD)[-1]]

    member.revert_email(undo)

    assert answer(member.reset, out[0]) == answer(member.confirm_email, out[1]) == "token_superseded"


@pytest.mark.parametrize("what", ["expired", "disabled", "taken"])
def test_dead_links_undo_nothing(member: Bench, what: str) -> None:
    """It is dead after its time, while the account is disabled, and where the old address was proved by another."""
    undo = _changed(member, NEW)
    if what == "expired":
        member.clock.tick(3 * DAY)
    elif what == "disabled":
        member.change(admin.disable_user, NEW)
    else:
        member.member(EMAIL, OTHER_PASSWORD)
    before = member.rows("user")

    assert answer(member.revert_email, undo) == ("token_expired" if what == "expired" else "token_superseded")

    assert member.rows("user") == before


def test_SUP_22_a_squatter_on_the_old_address_gives_way(member: Bench) -> None:
    """Who signs up for the old address without confirming does not keep its owner from getting it back."""
    undo = _changed(member, NEW)
    member.signup(EMAIL, visit=STRANGER)

    assert member.revert_email(undo).code == "email_reverted"

    assert {row.email_key for row in member.rows("user")} == {EMAIL, None}


def test_links_of_one_kind_are_not_of_the_other(member: Bench) -> None:
    """A link that undoes confirms nothing, and one that confirms undoes nothing."""
    undo = _changed(member, NEW)

    assert (
        answer(member.confirm_email, undo)
        == answer(member.revert_email, member.tokens_for(NEW)[0])
        == ("token_invalid")
    )
