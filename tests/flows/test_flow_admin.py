"""What an operator does to accounts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from flow_bench import DEVICE, EMAIL, OTHER_PASSWORD, PASSWORD, PROGRAM, STRANGER, Bench, answer

from flask_accountflow.errors import Refusal
from flask_accountflow.flows import admin
from flask_accountflow.forms import AccountForm, CreateUserForm, check
from flask_accountflow.tokens import random_id


def test_a_verified_account_logs_in_at_once(bench: Bench) -> None:
    """An account that is created verified with a password needs no mail."""
    outcome = bench.create_user("Vic@Example.com", email_verified=True)

    account = bench.account()
    assert (outcome.code, outcome.status) == ("user_created", 201)
    assert outcome.data == {
        "id": str(account.id),
        "email": "Vic@example.com",
        "email_verified": True,
        "is_admin": False,
        "created_at": bench.clock.now,
    }
    assert bench.mails == []
    assert answer(bench.login) == "logged_in"


def test_an_administrator_is_made_on_request(bench: Bench) -> None:
    """The flag for administrators reaches the account, and only from an operator."""
    bench.create_user(email_verified=True, is_admin=True)

    assert bench.account().is_admin is True


def test_SUP_06_a_sign_up_makes_no_administrator(bench: Bench) -> None:
    """A sign-up that names the columns of an account beside its fields sets none of them."""
    wanted = {"id": 77, "is_admin": True, "is_active": False, "email_verified_at": "2026-01-01", "stamp": "x"}
    bench.signup(**wanted)
    bench.verify(bench.token, DEVICE)

    account = bench.account()
    assert (account.id, account.is_admin, account.is_active) == (1, False, True)


@pytest.mark.parametrize("verified", [True, False])
def test_an_account_without_a_password_is_mailed_a_link(bench: Bench, verified: bool) -> None:
    """Without a password a link to set one is mailed, which lives as long as a confirmation."""
    bench.create_user(password=None, email_verified=verified)

    assert bench.sent == ["set_password"]
    assert bench.hasher.work == 0
    lives = {(row.expires_at - row.created_at).total_seconds() for row in bench.rows("token")}
    assert lives == {86400}
    assert answer(bench.reset, bench.token) == "password_changed"


def test_an_unverified_account_with_a_password_is_mailed_a_confirmation(bench: Bench) -> None:
    """An unproved address is mailed a link to confirm; the operator's password stays."""
    bench.create_user()

    assert bench.sent == ["verify"]
    assert answer(bench.verify, bench.token, DEVICE) == "verified"
    assert answer(bench.login) == "logged_in"


@pytest.mark.parametrize(("password", "code"), [("short", "too_short"), (EMAIL, "contains_email")])
def test_an_operators_password_obeys_the_rules(bench: Bench, password: str, code: str) -> None:
    """A password that a sign-up could not have is refused for an operator, too."""
    with pytest.raises(Refusal) as refused:
        bench.create_user(password=password)

    assert [(fault.field, fault.code) for fault in refused.value.fields] == [("password", code)]
    assert bench.rows("user") == []


def test_the_rules_hold_for_a_form_that_was_not_checked(bench: Bench) -> None:
    """The flow checks the password itself, whatever form it is handed."""
    form = bench.form(CreateUserForm, email=EMAIL, password="short")

    with pytest.raises(Refusal) as refused:
        admin.create_user(bench.services, form)

    assert [(fault.field, fault.code) for fault in refused.value.fields] == [("password", "too_short")]


@pytest.mark.parametrize("verified", [True, False])
def test_a_proved_address_is_not_given_twice(bench: Bench, verified: bool) -> None:
    """An address whose account is verified is taken, with 409 and the field."""
    bench.member()

    with pytest.raises(Refusal) as refused:
        bench.create_user(password=OTHER_PASSWORD, email_verified=verified)

    assert (refused.value.code, refused.value.status) == ("email_taken", 409)
    assert [fault.field for fault in refused.value.fields] == ["email"]
    assert answer(bench.login) == "logged_in"


def test_an_unproved_account_takes_no_address(bench: Bench) -> None:
    """An address that somebody has signed up with is taken for an account without proof of it."""
    bench.signup()

    assert answer(bench.create_user, password=OTHER_PASSWORD) == "email_taken"
    assert len(bench.rows("user")) == 1


def test_SUP_22_an_unverified_squatter_gives_way(bench: Bench) -> None:
    """A verified account takes the address of one that never proved it; the squatter's links and password die."""
    bench.signup(password=OTHER_PASSWORD, visit=STRANGER)
    foreign = bench.token

    outcome = bench.create_user(email_verified=True)

    assert outcome.code == "user_created"
    assert [row.email_key for row in bench.rows("user")] == [None, EMAIL]
    assert answer(bench.login) == "logged_in"
    assert [answer(bench.open, foreign), answer(bench.verify, foreign, STRANGER)] == ["token_superseded"] * 2
    assert answer(bench.login, password=OTHER_PASSWORD, visit=STRANGER) != "logged_in"


def test_SUP_22_a_renewed_link_of_a_squatter_tells_the_owner(bench: Bench) -> None:
    """The dead link of a displaced account, sent in for another one, mails the present owner that he is confirmed."""
    bench.signup(visit=STRANGER)
    foreign = bench.token
    bench.create_user(email_verified=True)
    bench.clock.tick(61)

    bench.resend(STRANGER, token=foreign)

    assert bench.sent == ["verify", "already_verified"]
    assert bench.mails[-1].token is None


def test_a_squatter_that_changes_meanwhile_stays(bench: Bench) -> None:
    """When the holder changes between reading and displacing, the address is taken and nothing is undone by half."""
    bench.signup()
    user = bench.tables.user
    bench.once(
        "UPDATE accountflow_token", lambda connection: connection.execute(user.update().values(stamp=random_id()))
    )

    assert answer(bench.create_user, email_verified=True) == "email_taken"
    assert [row.outcome for row in bench.rows("token")] == [None]
    assert [row.email_key for row in bench.rows("user")] == [EMAIL]


def test_an_account_that_is_created_meanwhile_takes_the_address(bench: Bench) -> None:
    """When another account takes the address between reading and writing, the answer is 409 as well."""
    rival = {"email": EMAIL, "email_key": EMAIL, "stamp": random_id(), "created_at": bench.clock.now}
    user = bench.tables.user.insert().values(**rival, is_active=True, is_admin=False, newsletter=True)
    bench.once("SELECT users", lambda connection: connection.execute(user))

    assert answer(bench.create_user, email_verified=True) == "email_taken"


# Changing an account.


_CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "verify": (admin.verify_user, {"email_verified": True, "is_active": True}),
    "disable": (admin.disable_user, {"email_verified": False, "is_active": False}),
    "enable": (admin.enable_user, {"email_verified": False, "is_active": True}),
    "revoke": (admin.revoke_sessions, {"email_verified": False, "is_active": True}),
}


@pytest.mark.parametrize("name", _CHANGES)
def test_LOG_17_every_change_ends_what_was_issued_before(bench: Bench, name: str) -> None:
    """Each verb does its one thing, and rotates the stamp, so that every link and login of before is dead."""
    flow, expected = _CHANGES[name]
    bench.signup()
    token, before = bench.token, bench.account()

    outcome = bench.change(flow)

    account = bench.account()
    assert (outcome.code, outcome.status, outcome.data["email"]) == ("changed", 200, EMAIL)
    assert {"email_verified": account.email_verified_at is not None, "is_active": account.is_active} == expected
    assert account.stamp != before.stamp
    assert account.password_hash is None
    assert answer(bench.verify, token) == "token_superseded"


def test_SUP_04_an_operator_who_verifies_takes_over_no_password(bench: Bench) -> None:
    """An account that an operator takes as verified has no password: a stranger's sign-up gives it none."""
    bench.signup(password=OTHER_PASSWORD, visit=STRANGER)

    bench.change(admin.verify_user)

    assert answer(bench.login, password=OTHER_PASSWORD, visit=STRANGER) == "email_unverified"
    bench.request_reset(email=EMAIL)
    assert answer(bench.reset, bench.token, PASSWORD) == "password_changed"
    assert answer(bench.login) == "logged_in"


def test_enabling_brings_nothing_back(bench: Bench) -> None:
    """What ended when an account was disabled stays ended when it is enabled; only the password works again."""
    bench.member()
    token = bench.refresh_token(bench.login(visit=PROGRAM))
    bench.request_reset(email=EMAIL)
    link = bench.token

    bench.change(admin.disable_user)
    bench.change(admin.enable_user)

    assert [answer(bench.refresh, token), answer(bench.reset, link)] == ["token_invalid", "token_superseded"]
    assert answer(bench.login) == "logged_in"


@pytest.mark.parametrize("name", _CHANGES)
def test_an_account_that_is_not_there_is_not_found(bench: Bench, name: str) -> None:
    """A verb on an address without account says so in words an operator understands."""
    with pytest.raises(Refusal) as refused:
        bench.change(_CHANGES[name][0])

    assert (refused.value.code, refused.value.status) == ("not_found", 404)
    assert "account" in refused.value.title


def test_LOG_17_disabling_wins_against_whatever_happens_meanwhile(bench: Bench) -> None:
    """When the account changes between reading and writing, the operator's change is tried again."""
    bench.member()
    user = bench.tables.user
    bench.once("SELECT users", lambda connection: connection.execute(user.update().values(stamp=random_id())))

    outcome = bench.change(admin.disable_user)

    assert outcome.code == "changed"
    assert not bench.account().is_active


def test_a_change_that_never_gets_through_is_busy(bench: Bench) -> None:
    """An account that changes each time between reading and writing is refused as busy in the end."""
    bench.member()

    def change(connection: Any) -> None:
        connection.execute(bench.tables.user.update().values(stamp=random_id()))
        bench.once("SELECT users", change)

    bench.once("SELECT users", change)

    assert answer(bench.change, admin.disable_user) == "busy"


def test_AUD_01_a_change_is_announced_when_it_is_durable(bench: Bench) -> None:
    """The signal of a change is sent after the commit, and names the account."""
    bench.member()
    bench.events.clear()

    bench.change(admin.revoke_sessions)

    assert [(name, payload["user_id"]) for name, payload in bench.events] == [
        ("sessions_revoked", str(bench.account().id))
    ]


def test_a_proof_by_an_operator_is_announced_once(bench: Bench) -> None:
    """Who is verified by hand is announced as confirmed; a second time nothing new is proved."""
    bench.signup()
    bench.events.clear()

    bench.change(admin.verify_user)
    bench.change(admin.verify_user)

    assert [name for name, _ in bench.events] == ["email_verified", "sessions_revoked", "sessions_revoked"]


def test_a_change_that_the_app_takes_back_is_not_announced(bench: Bench) -> None:
    """A verb that joined the app's own transaction is neither done nor announced when the app rolls back."""
    bench.member()
    bench.events.clear()
    form = bench.form(AccountForm, email=EMAIL)
    check(form)
    bench.sessions.execute(bench.tables.user.update().values(name="written by the app"))

    admin.disable_user(replace(bench.services, own=False), form)
    announced = list(bench.events)
    bench.sessions.rollback()

    assert announced == bench.events == []
    assert bench.account().is_active


def test_a_change_that_the_app_keeps_is_announced_then(bench: Bench) -> None:
    """A verb that joined the app's own transaction is announced with the app's commit."""
    bench.member()
    bench.events.clear()
    form = bench.form(AccountForm, email=EMAIL)
    check(form)
    bench.sessions.execute(bench.tables.user.update().values(name="written by the app"))

    admin.disable_user(replace(bench.services, own=False), form)
    bench.sessions.commit()

    assert [name for name, _ in bench.events] == ["sessions_revoked"]
    assert not bench.account().is_active


def test_SUP_04_who_was_invited_is_asked_for_a_password(bench: Bench) -> None:
    """A stranger who signs up for an invited address competes: his link asks the owner for a password."""
    bench.create_user(password=None)
    bench.clock.tick(61)
    bench.signup(password=OTHER_PASSWORD, visit=STRANGER)
    invitation, foreign = bench.tokens

    assert bench.open(foreign).data["password_required"] is True
    assert answer(bench.verify, foreign, DEVICE) == "validation_failed"
    assert answer(bench.reset, invitation, PASSWORD) == "password_changed"
    assert answer(bench.login, password=OTHER_PASSWORD, visit=STRANGER) != "logged_in"
    assert answer(bench.login) == "logged_in"


@pytest.mark.parametrize(("password", "is_admin"), [(PASSWORD, False), (PASSWORD, True), (None, True)])
def test_SUP_04_what_an_operator_gave_is_never_a_strangers(bench: Bench, password: str | None, is_admin: bool) -> None:
    """An operator's password and an administrator's account do not fall to a sign-up, however late it comes."""
    bench.create_user(password=password, is_admin=is_admin)
    bench.clock.tick(8 * 86400)
    for _ in range(2):
        bench.signup(password=OTHER_PASSWORD, visit=STRANGER)
        bench.clock.tick(61)

    answers = [answer(bench.verify, bench.token, DEVICE), answer(bench.verify, bench.token, DEVICE, password=PASSWORD)]

    assert answers == ["validation_failed", "verified"]
    assert answer(bench.login, password=OTHER_PASSWORD, visit=STRANGER) != "logged_in"
    assert answer(bench.login) == "logged_in"
