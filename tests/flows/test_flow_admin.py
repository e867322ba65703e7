"""What an operator does to accounts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from flow_bench import DEVICE, EMAIL, OTHER_PASSWORD, PASSWORD, PROGRAM, STRANGER, Bench, answer
from support import Site, services

from flask_accountflow import forms
from flask_accountflow.errors import Refusal
from flask_accountflow.flow import Outcome, Visit
from flask_accountflow.flows import admin
from flask_accountflow.forms import AccountForm, CreateUserForm, check, from_json
from flask_accountflow.passwords import BcryptHasher
from flask_accountflow.rules import Rate
from flask_accountflow.throttle import Budget, LimitsThrottle
from flask_accountflow.tokens import random_id
from flask_accountflow.web.visits import form_meta


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


# The first administrator.


def test_an_administrator_without_an_address_is_none(bench: Bench) -> None:
    """An unproved administrator who gives way to a proved account is one no more, and another can be made."""
    bench.create_user(is_admin=True)
    bench.create_user(email_verified=True)

    outcome = _first_admin(bench, "root@example.com")

    assert outcome is not None
    assert [row.is_admin for row in bench.rows("user")] == [False, False, True]


class BusyHasher(BcryptHasher):
    """A hasher that always has too much to do."""

    def hash(self, password: str) -> str:
        raise Refusal("busy", extra={"retry_after": 1})


def _first_admin(bench: Bench, email: str = EMAIL, password: str | None = PASSWORD) -> Outcome | None:
    """Run what the start of a deployment runs; nobody has looked at the settings before."""
    form = bench.form(CreateUserForm, email=email, password=password)
    return admin.first_admin(bench.services, form)


def test_the_first_administrator_is_created(bench: Bench) -> None:
    """Where there is no administrator one is created, with a proved address, and logs in at once."""
    outcome = _first_admin(bench, "Vic@EXAMPLE.com")

    assert outcome is not None
    assert (outcome.code, outcome.data["email"], outcome.data["is_admin"]) == ("user_created", "Vic@example.com", True)
    assert outcome.data["email_verified"] is True
    assert bench.mails == []
    assert answer(bench.login) == "logged_in"


def test_the_first_administrator_is_refused_like_anybody(make_bench: Callable[..., Bench]) -> None:
    """What refuses an account refuses the first administrator, and leaves nothing behind."""
    bench = make_bench(parts={"hasher": BusyHasher(4)})

    with pytest.raises(Refusal) as caught:
        _first_admin(bench)

    assert caught.value.code == "busy"
    assert bench.rows("user") == []


def test_the_first_administrator_may_be_mailed_a_link(bench: Bench) -> None:
    """Without a password the first administrator is mailed a link to set one, and later starts leave it good."""
    _first_admin(bench, password=None)
    bench.clock.tick(3600)

    again = _first_admin(bench, password=None)

    assert again is None
    assert bench.sent == ["set_password"]
    assert answer(bench.reset, bench.token, PASSWORD) == "password_changed"
    assert answer(bench.login) == "logged_in"
    assert bench.account().is_admin


@pytest.mark.parametrize("values", [{"is_active": True}, {"email_verified_at": None}, {"is_active": False}])
def test_where_there_is_an_administrator_nothing_happens(bench: Bench, values: dict[str, Any]) -> None:
    """Any administrator is enough, be he of another address, not confirmed yet, or disabled."""
    bench.create_user("root@example.com", email_verified=True, is_admin=True)
    bench.alter("root@example.com", **values)
    bench.signup()
    before = bench.rows("user")

    assert _first_admin(bench) is None
    assert bench.rows("user") == before


@pytest.mark.parametrize(("email", "password"), [("root@localhost", PASSWORD), (EMAIL, "short"), ("", "")])
def test_settings_that_are_needed_no_more_are_not_looked_at(bench: Bench, email: str, password: str) -> None:
    """Where there is an administrator, an old setting that breaks a rule of today stops no deployment."""
    bench.create_user("root@example.com", email_verified=True, is_admin=True)

    assert _first_admin(bench, email, password) is None


def test_settings_that_break_a_rule_are_refused(bench: Bench) -> None:
    """A first administrator gets no address and no password that nobody else could have."""
    with pytest.raises(Refusal) as refused:
        _first_admin(bench, "root@localhost", "short")

    faults = [(fault.field, fault.code) for fault in refused.value.fields]
    assert faults == [("email", "invalid_email"), ("password", "too_short")]
    assert bench.rows("user") == []


@pytest.mark.parametrize("disabled", [False, True])
def test_a_squatter_on_the_administrators_address_gives_way(bench: Bench, disabled: bool) -> None:
    """Who has signed up with the first administrator's address, and never proved it, has no part in his account."""
    bench.signup(password=OTHER_PASSWORD, visit=STRANGER)
    foreign = bench.token
    if disabled:
        bench.change(admin.disable_user)

    outcome = _first_admin(bench)

    assert outcome is not None
    assert outcome.code == "user_created"
    assert [(row.email_key, row.is_admin) for row in bench.rows("user")] == [(None, False), (EMAIL, True)]
    assert answer(bench.verify, foreign, STRANGER, password=OTHER_PASSWORD) == "token_superseded"
    assert answer(bench.login, password=OTHER_PASSWORD, visit=STRANGER) != "logged_in"
    assert answer(bench.login) == "logged_in"


def test_a_proved_account_is_made_an_administrator(bench: Bench) -> None:
    """An account that holds the address by proof gets the rights and keeps its password; its logins and links end."""
    bench.member()
    token = bench.refresh_token(bench.login(visit=PROGRAM))
    bench.request_reset(email=EMAIL)
    link = bench.token

    outcome = _first_admin(bench, EMAIL.upper(), OTHER_PASSWORD)

    assert outcome is not None
    assert (outcome.code, outcome.data["is_admin"]) == ("changed", True)
    assert [row.is_admin for row in bench.rows("user")] == [True]
    assert [answer(bench.refresh, token), answer(bench.reset, link)] == ["token_invalid", "token_superseded"]
    assert answer(bench.login, password=OTHER_PASSWORD) == "invalid_credentials"
    assert answer(bench.login) == "logged_in"


def test_a_disabled_account_is_made_no_administrator(bench: Bench) -> None:
    """An account that was disabled is neither enabled nor given rights by a setting; the deployment is told."""
    bench.member()
    bench.change(admin.disable_user)
    before = bench.account()

    assert answer(lambda: _first_admin(bench)) == "account_disabled"
    assert bench.account() == before


def test_an_administrator_that_another_start_has_created_is_left_alone(bench: Bench) -> None:
    """When another process creates him between reading and writing, nothing ends that was mailed to him."""
    rival = {"email": EMAIL, "email_key": EMAIL, "stamp": random_id(), "created_at": bench.clock.now}
    rival |= {"email_verified_at": bench.clock.now, "is_active": True, "is_admin": True, "newsletter": True}
    insert = bench.tables.user.insert().values(**rival)
    bench.once("SELECT EXISTS", lambda connection: connection.execute(insert))

    outcome = _first_admin(bench, password=None)

    assert outcome is None
    assert [row.stamp for row in bench.rows("user")] == [rival["stamp"]]
    assert bench.mails == []


def test_a_member_that_is_created_meanwhile_is_made_an_administrator(bench: Bench) -> None:
    """When the address gets an ordinary account between reading and writing, that account gets the rights."""
    rival = {"email": EMAIL, "email_key": EMAIL, "stamp": random_id(), "created_at": bench.clock.now}
    rival |= {"email_verified_at": bench.clock.now, "is_active": True, "is_admin": False, "newsletter": True}
    insert = bench.tables.user.insert().values(**rival)
    bench.once("SELECT EXISTS", lambda connection: connection.execute(insert))

    assert answer(lambda: _first_admin(bench, password=None)) == "changed"
    assert [row.is_admin for row in bench.rows("user")] == [True]


@pytest.mark.parametrize("squatted", [False, True], ids=["free", "squatted"])
def test_two_deployments_that_start_at_once_make_one_administrator(
    make_site: Callable[..., Site], database_uri: str, squatted: bool
) -> None:
    """Whichever of several processes is first, there is one administrator, and the link that he was mailed works."""
    site = make_site({"ACCOUNTFLOW_MAIL_KICK": "worker"}, uri=database_uri)
    if squatted:
        site.program().signup(EMAIL)
    start = threading.Barrier(4)

    def deploy() -> str:
        with site.app.app_context():
            tools = replace(services(site), own=True)
            form = from_json(CreateUserForm, {"email": EMAIL}, form_meta(tools))
            start.wait(10)
            outcome = admin.first_admin(tools, form)
            return "" if outcome is None else outcome.code

    with ThreadPoolExecutor(4) as pool:
        codes = [made.result(60) for made in [pool.submit(deploy) for _ in range(4)]]
    with site.app.app_context():
        site.app.extensions["accountflow_delivery"].deliver_due()

    assert sorted(codes) == ["", "", "", "user_created"]
    assert [row.email_key for row in site.rows("user") if row.is_admin] == [EMAIL]
    assert [letter.template for letter in site.letters].count("set_password") == 1
    assert site.program().reset(site.last_link).status_code == 200


# Test mails.


def _send_test_mail(bench: Bench, to: str = EMAIL, visit: Visit = PROGRAM) -> Outcome:
    return bench.run(admin.send_test_mail, forms.TestMailForm, visit, to=to)


def test_a_test_mail_is_written_for_anybody(bench: Bench) -> None:
    """A test mail is queued for the address that was named, with no account and no link."""
    outcome = _send_test_mail(bench, "Una@EXAMPLE.com")

    [row] = bench.rows("mail")
    assert (outcome.code, outcome.status) == ("accepted", 202)
    assert outcome.data == {"status": "accepted", "to": "Una@example.com"}
    assert (row.template, row.to_addr, row.user_id, row.token_id) == ("test", "Una@example.com", None, None)
    assert (row.state, row.context) == ("pending", {})
    assert bench.rows("token") == bench.rows("user") == []
    assert bench.kicks == 1
    assert [(name, payload["user_id"]) for name, payload in bench.events] == [("mail_queued", None)]


def test_a_test_mail_is_counted_before_it_is_written(make_bench: Callable[..., Bench]) -> None:
    """Too many test mails from one network are refused, and nothing of them is written."""
    throttle = LimitsThrottle([Budget("mail_ip", (Rate(2, 3600),), "keep")])
    bench = make_bench(parts={"throttle": throttle})

    answers = [answer(_send_test_mail, bench) for _ in range(3)]
    other = answer(_send_test_mail, bench, visit=DEVICE)

    assert [*answers, other] == ["accepted", "accepted", "rate_limited", "accepted"]
    assert len(bench.rows("mail")) == 3


def test_a_test_mail_remembers_where_it_was_asked_for(make_bench: Callable[..., Bench]) -> None:
    """Without a BASE_URL a test mail keeps the origin of the request, as every mail does."""
    bench = make_bench(base_url=None, debug=True)

    _send_test_mail(bench, visit=replace(PROGRAM, origin="http://127.0.0.1:5000"))

    assert [row.context for row in bench.rows("mail")] == [{"origin": "http://127.0.0.1:5000"}]
