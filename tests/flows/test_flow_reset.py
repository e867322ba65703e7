"""Setting a new password by a mailed link."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal

import pytest
import sqlalchemy as sa
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

THIRD_PASSWORD = "a third horse's battery"


@pytest.fixture
def member(bench: Bench) -> Bench:
    """Services with one verified account."""
    bench.member()
    return bench


def _link(bench: Bench, visit: Visit = OWNER, email: str = EMAIL) -> str:
    """Ask for a link, a minute after the last one, and return its token."""
    bench.clock.tick(61)
    bench.request_reset(visit, email=email)
    return bench.token


# Asking for a link.


def test_a_request_is_accepted(member: Bench) -> None:
    """The answer to a request is 202 with the members of Accepted, and the mail holds a link."""
    outcome = member.request_reset(email="VIC@example.com")

    assert (outcome.code, outcome.status, outcome.go, outcome.email) == (
        "accepted",
        202,
        "reset_sent",
        "VIC@example.com",
    )
    assert outcome.data == {
        "status": "accepted",
        "resend_after": 60,
        "detail": "If an account matches, an email is on its way.",
        "activation_url": None,
        "reset_url": None,
    }
    assert [(mail.template, mail.to) for mail in member.mails] == [("reset", EMAIL)]


def test_RST_01_every_address_gets_the_same_answer(bench: Bench) -> None:
    """A request is answered alike for a verified, an unknown, a pending and a disabled address."""
    populate(bench)

    answers = {told(email, bench.request_reset, email=email) for email in CLASSES.values()}

    assert len(answers) == 1


def test_RST_03_every_address_runs_the_same_four_statements(bench: Bench) -> None:
    """A request reads the account, counts its mails, and writes a mail and a link, for every address."""
    populate(bench)
    ran = set()

    for email in CLASSES.values():
        with bench.statements() as statements:
            bench.request_reset(email=email)
        ran.add(tuple(statements))

    assert len(ran) == 1
    assert [text.split()[0] for text in ran.pop()] == ["SELECT", "SELECT", "INSERT", "INSERT"]


def test_each_address_gets_the_mail_that_fits_it(bench: Bench) -> None:
    """A verified and a pending account are mailed a link; an unknown and a disabled one nothing."""
    populate(bench)
    before = len(bench.mails)

    for email in CLASSES.values():
        bench.request_reset(email=email)

    assert [(mail.template, mail.to, mail.reason) for mail in bench.mails[before:]] == [
        ("reset", CLASSES["V"], None),
        ("reset", None, "unknown"),
        ("reset", CLASSES["P"], None),
        ("reset", None, "disabled"),
    ]


@pytest.fixture
def telling(make_bench: Callable[..., Bench]) -> Bench:
    """Services that answer a request for an unknown address by mail."""
    return make_bench(mail_unknown=True)


def test_a_stranger_is_told_that_there_is_no_account(telling: Bench) -> None:
    """Where the site wants it, an address without an account is mailed that it has none, and no link."""
    populate(telling)
    before = len(telling.mails)

    for email in CLASSES.values():
        telling.request_reset(email=email)

    assert [(mail.template, mail.to, mail.reason) for mail in telling.mails[before:]] == [
        ("reset", CLASSES["V"], None),
        ("no_account", CLASSES["U"], None),
        ("reset", CLASSES["P"], None),
        ("reset", None, "disabled"),
    ]
    [told_of] = [mail for mail in telling.rows("mail") if mail.template == "no_account"]
    assert (told_of.token_id, told_of.user_id) == (None, None)


def test_RST_03_telling_strangers_runs_the_same_statements(telling: Bench) -> None:
    """Also where strangers are told, every address gets the same answer by the same statements."""
    populate(telling)
    ran = set()
    answers = set()

    for email in CLASSES.values():
        with telling.statements() as statements:
            answers.add(told(email, telling.request_reset, email=email))
        ran.add(tuple(statements))

    assert (len(ran), len(answers)) == (1, 1)


def test_a_stranger_is_told_three_times_an_hour(telling: Bench) -> None:
    """Nobody can fill a stranger's mailbox: the caps hold, although the address has no link."""
    for _ in range(4):
        telling.request_reset(email="una@example.com")
        telling.clock.tick(61)

    assert [mail.reason for mail in telling.mails] == [None, None, None, "capped"]


def test_MAI_06_the_mail_goes_to_the_stored_address(member: Bench) -> None:
    """Whatever spelling a request uses, the mail goes to the address as its owner typed it."""
    member.alter(email="Vic@example.com")

    member.request_reset(email="vIC@EXAMPLE.com")

    assert member.mails[0].to == "Vic@example.com"


def test_RST_15_a_request_changes_nothing(member: Bench) -> None:
    """After a hundred requests the account is as it was, and its owner still logs in."""
    before = member.account()

    for _ in range(100):
        member.request_reset(STRANGER, email=EMAIL)

    assert member.account() == before
    assert answer(member.login) == "logged_in"


def test_RST_09_a_strangers_requests_do_not_kill_the_owners_link(member: Bench) -> None:
    """A link goes on working however often somebody else asks for another one."""
    own = _link(member)
    for _ in range(20):
        member.clock.tick(61)
        member.request_reset(STRANGER, email=EMAIL)

    assert answer(member.reset, own) == "password_changed"


def test_a_capped_address_can_still_be_reset(member: Bench) -> None:
    """Whoever uses up an address's mails cannot lock its owner out: without a live link it is mailed another."""
    for _ in range(20):
        member.clock.tick(600)
        member.request_reset(STRANGER, email=EMAIL)
    capped = member.mails[-1].reason
    member.change(admin.revoke_sessions)

    member.clock.tick(61)
    member.request_reset(email=EMAIL)

    assert capped == "capped"
    assert answer(member.reset, member.token) == "password_changed"


def test_RST_09_links_that_never_arrived_lock_nobody_out(member: Bench) -> None:
    """An address whose links the mail server has refused is mailed another one, in spite of the cap."""
    for _ in range(3):
        member.request_reset(email=EMAIL)
        member.clock.tick(61)
    with member.engine.begin() as connection:
        connection.execute(sa.update(member.tables.mail).values(state="failed"))
    member.request_reset(email=EMAIL)
    member.clock.tick(61)
    capped = [mail.reason for mail in member.mails]

    member.request_reset(email=EMAIL)

    assert (capped, member.mails[-1].reason) == ([None] * 4, "capped")


@pytest.mark.parametrize("state", ["expired", "used", "superseded"])
def test_a_dead_link_asks_for_another(member: Bench, state: str) -> None:
    """A dead link that is sent in is renewed to the account's present address, whatever killed it."""
    token = _link(member)
    if state == "used":
        member.reset(token)
    elif state == "superseded":
        member.change(admin.revoke_sessions)
    member.clock.tick(3600)

    outcome = member.request_reset(DEVICE, token=token)

    assert (outcome.code, outcome.email) == ("accepted", None)
    assert answer(member.reset, member.token, THIRD_PASSWORD) == "password_changed"


@pytest.mark.parametrize("kind", ["junk", "a confirmation link", "moved", "disabled"])
def test_a_link_that_names_nobody_mails_nothing(member: Bench, kind: str) -> None:
    """A request by token answers alike and mails nothing when its link is none, or its account is not there."""
    token = _link(member)
    member.clock.tick(61)
    expected = told(EMAIL, member.request_reset, token=token)
    member.clock.tick(61)
    if kind == "a confirmation link":
        member.signup("una@example.com")
        token = member.token
    elif kind == "moved":
        member.alter(email="una@example.com")
    elif kind == "disabled":
        member.change(admin.disable_user)
    before = len(member.sent)

    found = told(EMAIL, member.request_reset, token="junk" if kind == "junk" else token)

    assert found == expected
    assert len(member.sent) == before


# Opening and using a link.


def test_RST_06_opening_a_link_changes_nothing(member: Bench) -> None:
    """A link is shown as valid ten times with one read each, and still works."""
    token = _link(member)

    with member.statements() as ran:
        outcomes = [member.open_reset(token) for _ in range(10)]

    assert [text.split()[0] for text in ran] == ["SELECT"] * 10
    assert {outcome.code for outcome in outcomes} == {"valid"}
    assert outcomes[0].data["password"] == {"min_length": 12}
    assert (outcomes[0].data["expires_at"] - member.clock.now).total_seconds() == 3600
    assert outcomes[0].page["email"] == outcomes[0].page["user"].email == EMAIL
    assert answer(member.reset, token) == "password_changed"


def test_a_reset_changes_the_password(member: Bench) -> None:
    """After a reset the new password logs in, and the old one does not."""
    outcome = member.reset(_link(member))

    assert (outcome.code, outcome.status, outcome.go, outcome.email) == ("password_changed", 200, "reset_done", EMAIL)
    assert (outcome.data, outcome.sign_in) == ({"status": "password_changed"}, None)
    assert answer(member.login, password=OTHER_PASSWORD) == "logged_in"
    assert answer(member.login, password=PASSWORD) == "invalid_credentials"


def test_a_reset_runs_four_statements_and_one_more_to_log_in(member: Bench) -> None:
    """A reset reads the link, uses it, changes the account and writes a notice; a login is a fifth statement."""
    kinds = []
    for visit in (OWNER, PROGRAM):
        token = _link(member)
        with member.statements() as ran:
            member.reset(token, visit=visit)
        kinds.append([text.split()[0] for text in ran])

    assert kinds == [["SELECT", "UPDATE", "UPDATE", "INSERT"], ["SELECT", "UPDATE", "UPDATE", "INSERT", "INSERT"]]


@pytest.mark.parametrize(
    ("rule", "visit", "logs_in"),
    [
        ("json", OWNER, False),
        ("json", PROGRAM, True),
        ("always", OWNER, True),
        ("always", PROGRAM, True),
        ("never", OWNER, False),
        ("never", PROGRAM, False),
    ],
)
def test_RST_11_a_reset_logs_in_where_the_setting_says(
    make_bench: Callable[..., Bench], rule: str, visit: Visit, logs_in: bool
) -> None:
    """LOGIN_ON_RESET decides whether a reset opens a login; by default only for programs."""
    bench = make_bench(login_on_reset=rule)
    bench.member()

    outcome = bench.reset(_link(bench), visit=visit)

    assert (outcome.sign_in is not None, len(bench.rows("session"))) == (logs_in, int(logs_in))
    assert outcome.data == ({} if logs_in else {"status": "password_changed"})


def test_RST_12_the_owner_is_told(member: Bench) -> None:
    """A reset mails its owner a notice without any link."""
    member.reset(_link(member))

    notice = member.mails[-1]
    assert (notice.template, notice.to, notice.token) == ("password_changed", EMAIL, None)


def test_a_reset_is_announced(member: Bench) -> None:
    """The signals of a reset name the account, after the commit."""
    token = _link(member)
    member.events.clear()

    member.reset(token)

    assert [name for name, _ in member.events] == ["password_reset", "mail_queued"]
    assert {payload["user_id"] for _, payload in member.events} == {str(member.account().id)}


def test_VER_03_a_link_works_once(member: Bench) -> None:
    """The second use of a link is refused as used, and changes nothing."""
    token = _link(member)
    member.reset(token)

    answers = [answer(member.reset, token, THIRD_PASSWORD), answer(member.open_reset, token)]

    assert answers == ["token_used"] * 2
    assert answer(member.login, password=OTHER_PASSWORD) == "logged_in"


def test_RST_07_of_two_uses_at_once_one_counts(member: Bench) -> None:
    """When the link is used while this one's password is being hashed, only the first password works."""
    token = _link(member)
    member.hasher.then = lambda: member.reset(token, OTHER_PASSWORD)

    outer = answer(member.reset, token, THIRD_PASSWORD)

    assert outer == "token_used"
    assert answer(member.login, password=THIRD_PASSWORD) == "invalid_credentials"
    assert answer(member.login, password=OTHER_PASSWORD) == "logged_in"


def test_RST_07_of_two_links_at_once_one_counts(member: Bench) -> None:
    """When another link is used while this one's password is being hashed, this one is superseded."""
    first, second = _link(member), _link(member)
    member.hasher.then = lambda: member.reset(second, OTHER_PASSWORD)

    outer = answer(member.reset, first, THIRD_PASSWORD)

    assert outer == "token_superseded"
    assert answer(member.login, password=OTHER_PASSWORD) == "logged_in"


def test_RST_08_a_reset_kills_every_other_link(member: Bench) -> None:
    """Of three links the middle one is used; the others are superseded."""
    tokens = [_link(member) for _ in range(3)]
    member.reset(tokens[1])

    answers = [answer(member.reset, token, THIRD_PASSWORD) for token in tokens]

    assert answers == ["token_superseded", "token_used", "token_superseded"]


def test_RST_08_a_reset_kills_the_links_of_a_sign_up_too(bench: Bench) -> None:
    """A confirmation link is superseded by a reset, and its page can say that the address is confirmed."""
    bench.signup(visit=STRANGER)
    confirm = bench.token
    bench.reset(_link(bench))

    with pytest.raises(Refusal) as refused:
        bench.verify(confirm, password=THIRD_PASSWORD)

    assert refused.value.code == "token_superseded"
    assert refused.value.data["verified"] is True


def test_RST_19_a_link_dies_when_the_password_changes_otherwise(member: Bench) -> None:
    """Whatever changes the account after the link was mailed supersedes it."""
    token = _link(member)
    member.change(admin.revoke_sessions)

    assert [answer(member.open_reset, token), answer(member.reset, token)] == ["token_superseded"] * 2
    assert answer(member.login) == "logged_in"


def test_RST_10_a_link_expires(member: Bench) -> None:
    """A link that is as old as RESET_MAX_AGE is refused as expired."""
    token = _link(member)
    member.clock.tick(3599)
    before = answer(member.open_reset, token)

    member.clock.tick(1)

    assert before == "valid"
    assert [answer(member.open_reset, token), answer(member.reset, token)] == ["token_expired"] * 2


def test_RST_11_a_reset_ends_every_login(member: Bench) -> None:
    """No login of before carries the stamp of the account after a reset."""
    for visit in (OWNER, DEVICE, PROGRAM):
        member.login(visit=visit)

    member.reset(_link(member))

    assert member.account().stamp not in {row.stamp for row in member.rows("session")}


@pytest.mark.parametrize(
    ("password", "code"),
    [("short", "too_short"), ("x" * 257, "too_long"), ("aaaaaaaaaaaaaa", "too_common"), (EMAIL, "contains_email")],
)
def test_RST_13_a_refused_password_leaves_the_link_good(member: Bench, password: str, code: str) -> None:
    """A new password obeys the rules of a sign-up, and the link can be used again."""
    token = _link(member)

    with pytest.raises(Refusal) as refused:
        member.reset(token, password)

    assert [(fault.field, fault.code) for fault in refused.value.fields] == [("password", code)]
    assert answer(member.reset, token) == "password_changed"


def test_RST_21_the_old_password_is_no_secret_of_the_link(member: Bench) -> None:
    """Setting the same password again works, and a dead link answers the same for it as for any other."""
    token = _link(member)
    live = answer(member.reset, token, PASSWORD)

    dead = {told(EMAIL, member.reset, token, password) for password in (PASSWORD, OTHER_PASSWORD)}

    assert live == "password_changed"
    assert len(dead) == 1


def test_RST_16_a_disabled_account_stays_disabled(member: Bench) -> None:
    """The links of a disabled account are superseded, it is mailed no others, and nothing enables it."""
    token = _link(member)
    member.change(admin.disable_user)
    member.clock.tick(61)
    member.request_reset(email=EMAIL)

    assert [answer(member.open_reset, token), answer(member.reset, token)] == ["token_superseded"] * 2
    assert member.mails[-1].reason == "disabled"
    assert not member.account().is_active


def test_RST_16_disabling_wins_against_a_reset(member: Bench) -> None:
    """When the account is disabled while the new password is being hashed, the reset is refused."""
    token = _link(member)
    member.hasher.then = lambda: member.change(admin.disable_user)

    assert answer(member.reset, token) == "token_superseded"
    assert not member.account().is_active
    assert answer(member.login, password=OTHER_PASSWORD) == "invalid_credentials"


# A reset of an account that was never confirmed.


def test_RST_18_a_reset_verifies_and_kills_what_was_before(bench: Bench) -> None:
    """A reset of an unconfirmed account confirms it, and a stranger's sign-up, links and password are dead."""
    bench.signup(password=PASSWORD, visit=STRANGER)
    foreign = bench.token

    bench.reset(_link(bench), OTHER_PASSWORD)

    assert bench.account().email_verified_at is not None
    assert answer(bench.login, password=OTHER_PASSWORD) == "logged_in"
    assert answer(bench.login, password=PASSWORD, visit=STRANGER) != "logged_in"
    assert answer(bench.verify, foreign, STRANGER) == "token_superseded"


def test_RST_18_the_proof_of_the_mailbox_is_announced(bench: Bench) -> None:
    """A reset that confirms an account says so by the signal of a confirmation, too."""
    bench.signup()
    token = _link(bench)
    bench.events.clear()

    bench.reset(token)

    assert [name for name, _ in bench.events] == ["email_verified", "password_reset", "mail_queued"]


@pytest.mark.filterwarnings("ignore:Dialect sqlite.pysqlite does .not. support Decimal")
def test_RST_18_the_fields_of_a_strangers_sign_up_fall_back(bench: Bench) -> None:
    """What a stranger's sign-up said about the owner is undone by a reset that confirms the account."""
    evil = {"name": "Eve", "age": 33, "born": "1999-12-31", "funds": 12.5, "newsletter": False}
    bench.signup(visit=STRANGER, **evil)
    before = bench.rows("user")[0]

    bench.reset(_link(bench))

    after = bench.rows("user")[0]
    assert (before.name, before.age, before.born, before.newsletter) == ("Eve", 33, datetime.date(1999, 12, 31), False)
    assert (after.name, after.age, after.born, after.funds, after.newsletter) == (None, None, None, None, True)


@pytest.mark.filterwarnings("ignore:Dialect sqlite.pysqlite does .not. support Decimal")
def test_a_reset_of_a_confirmed_account_keeps_its_fields(bench: Bench) -> None:
    """What the owner of a confirmed account has said of himself outlives a reset."""
    bench.signup(name="Vic", age=44, funds=12.5)
    bench.verify(bench.token)

    bench.reset(_link(bench))

    assert (bench.account().name, bench.account().age, bench.account().funds) == ("Vic", 44, Decimal("12.50"))


def test_an_account_without_a_password_gets_one_by_reset(bench: Bench) -> None:
    """An account that an operator made without a password is confirmed by the link that sets one."""
    bench.create_user(password=None)

    outcome = bench.reset(bench.token)

    assert outcome.code == "password_changed"
    assert answer(bench.login, password=OTHER_PASSWORD) == "logged_in"


# Limits.


class FullHasher(CountingHasher):
    """A process that hashes as many passwords as it may."""

    is_full = False

    def hash(self, password: str) -> str:
        if self.is_full:
            raise Refusal("busy", extra={"retry_after": 1})
        return super().hash(password)


def test_only_links_that_failed_count_against_the_network(make_bench: Callable[..., Bench]) -> None:
    """A success, a refused password and a busy server give the try back; a link that does not work is counted."""
    budgets = [
        Budget("token_ip", (Rate(2, 60),), "return"),
        Budget("mail_ip", (Rate(99, 60),), "keep"),
        Budget("login", (Rate(99, 60),), "clear"),
    ]
    hasher = FullHasher()
    bench = make_bench(parts={"throttle": LimitsThrottle(budgets, clock=lambda: 0.0), "hasher": hasher})
    bench.member()
    token = _link(bench)
    hasher.is_full = True
    answers = [answer(bench.reset, token) for _ in range(3)]
    hasher.is_full = False

    answers += [answer(bench.reset, token, EMAIL) for _ in range(3)]
    answers += [answer(bench.reset, token), answer(bench.reset, token), answer(bench.reset, "junk")]
    answers += [answer(bench.reset, "junk"), answer(bench.reset, "junk", visit=STRANGER)]

    assert answers == [
        *["busy"] * 3,
        *["validation_failed"] * 3,
        "password_changed",
        "token_used",
        "token_invalid",
        "rate_limited",
        "token_invalid",
    ]
