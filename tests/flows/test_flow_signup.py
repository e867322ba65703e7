"""Signing up."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
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
    HostForm,
    answer,
    populate,
    told,
)
from wtforms.validators import Optional

from flask_accountflow.errors import HookCommitted, Refusal
from flask_accountflow.flow import Visit
from flask_accountflow.flows import signup
from flask_accountflow.forms import NewPasswordField, Voluntary, check
from flask_accountflow.identity import canonical
from flask_accountflow.rules import Rate
from flask_accountflow.throttle import Budget, LimitsThrottle

TESTS = Path(__file__).parents[1]


def test_the_flows_run_where_flask_is_not_even_imported(tmp_path: Path) -> None:
    """Nobody can sign up, confirm, log in and reset by a flow that needs Flask, Flask-Mail or Flask-SQLAlchemy."""
    script = f"""
        import sys, types

        # In place of the package's __init__, which imports the extension.
        package = types.ModuleType("flask_accountflow")
        package.__path__ = [{str(TESTS.parent / "flask_accountflow")!r}]
        sys.modules["flask_accountflow"] = package
        sys.path.insert(0, {str(TESTS)!r})

        import sqlalchemy as sa
        from flow_bench import Bench, answer
        import flask_accountflow.events
        import flask_accountflow.flows
        import flask_accountflow.mail.delivery
        import flask_accountflow.mail.kicks
        import flask_accountflow.mail.transports

        bench = Bench(sa.create_engine("sqlite:///{tmp_path / "bench.db"}"))
        found = [answer(bench.signup), answer(bench.verify, bench.token), answer(bench.login)]
        bench.request_reset(email="vic@example.com")
        found += [answer(bench.reset, bench.token)]
        bench.close()
        print(*found, *({{"flask", "flask_mail", "flask_sqlalchemy"}} & set(sys.modules)))
    """

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )

    assert done.stdout.split() == ["verification_required", "verified", "logged_in", "password_changed"], done.stderr


def test_a_sign_up_is_answered_with_what_to_do_next(bench: Bench) -> None:
    """The answer to a sign-up is 202 with the members of Signup, and names no account."""
    outcome = bench.signup()

    assert (outcome.code, outcome.status, outcome.go) == ("verification_required", 202, "signup_sent")
    assert outcome.sign_in is None
    assert outcome.data == {
        "status": "verification_required",
        "activation_required": True,
        "email": EMAIL,
        "expires_in": 86400,
        "resend_after": 60,
        "user_id": None,
        "activation_url": None,
        "access_token": None,
        "refresh_token": None,
    }


def test_a_sign_up_mails_a_link(bench: Bench) -> None:
    """The address is mailed one link, at the spelling that was typed."""
    bench.signup("Vic@Example.COM")

    assert [(mail.template, mail.to) for mail in bench.mails] == [("verify", "Vic@example.com")]
    assert bench.open(bench.token).code == "pending"


def test_an_unverified_account_has_no_password_of_its_own(bench: Bench) -> None:
    """The password of a sign-up stands in its attempt, hashed, and not in the account."""
    bench.signup()

    attempt = bench.rows("token")[0].payload
    assert bench.account().password_hash is None
    assert bench.hasher.check(PASSWORD, attempt["password_hash"]) == (True,)


@pytest.mark.parametrize("visit", [OWNER, DEVICE, PROGRAM], ids=["browser", "no cookie", "program"])
def test_SUP_01_every_address_gets_the_same_answer(bench: Bench, visit: Visit) -> None:
    """A sign-up is answered alike for a verified, an unknown, a pending and a disabled address."""
    populate(bench)

    answers = {told(email, bench.signup, email, OTHER_PASSWORD, visit) for email in CLASSES.values()}

    assert len(answers) == 1


def test_SUP_01_every_address_runs_the_same_statements(bench: Bench) -> None:
    """A sign-up runs four statements for a known address, always the same, and one more to make a new account."""
    populate(bench)
    ran = {}

    for name, email in CLASSES.items():
        with bench.statements() as ran[name]:
            bench.signup(email, OTHER_PASSWORD)

    assert ran["V"] == ran["P"] == ran["L"]
    assert len(ran["V"]) == 4
    assert [text for text in ran["U"] if not text.startswith("INSERT INTO users")] == ran["V"]
    assert len(ran["U"]) == 5


def test_SUP_01_every_address_costs_one_hash(bench: Bench) -> None:
    """A sign-up hashes once, whoever owns the address."""
    populate(bench)
    work = set()

    for email in CLASSES.values():
        before = bench.hasher.work
        bench.signup(email, OTHER_PASSWORD)
        work.add(bench.hasher.work - before)

    assert work == {1}


def test_each_address_gets_the_mail_that_fits_it(bench: Bench) -> None:
    """A new and a pending address are mailed a link, a verified one that it has an account, a disabled one nothing."""
    populate(bench)
    before = len(bench.mails)

    for email in CLASSES.values():
        bench.signup(email, OTHER_PASSWORD)

    found = [(mail.template, mail.to, mail.state, mail.reason) for mail in bench.mails[before:]]
    assert found == [
        ("already_registered", CLASSES["V"], "pending", None),
        ("verify", CLASSES["U"], "pending", None),
        ("verify", CLASSES["P"], "pending", None),
        ("already_registered", None, "dropped", "disabled"),
    ]


def test_SUP_18_a_sign_up_changes_nothing_of_an_account(bench: Bench) -> None:
    """A sign-up for a verified address mails a notice without a link, and only the old password goes on working."""
    bench.member()
    before = bench.account()

    bench.signup(password=OTHER_PASSWORD, visit=STRANGER)

    assert [(mail.template, mail.token) for mail in bench.mails] == [("already_registered", None)]
    assert bench.account() == before
    assert answer(bench.login, password=OTHER_PASSWORD) == "email_unverified"
    assert answer(bench.login) == "logged_in"


@pytest.mark.parametrize("visit", [OWNER, PROGRAM], ids=["browser", "program"])
@pytest.mark.parametrize("wait", [0, 61])
def test_SUP_21_signing_up_and_logging_in_tells_nothing(bench: Bench, visit: Visit, wait: int) -> None:
    """Signing up and logging in with the same password ends alike for every address, with equal work."""
    populate(bench)
    answers, work, ran = set(), set(), set()

    for email in CLASSES.values():
        bench.signup(email, OTHER_PASSWORD, visit)
        bench.clock.tick(wait)
        before = bench.hasher.work
        with bench.statements() as statements:
            answers.add(told(email, bench.login, email, OTHER_PASSWORD, visit))
        work.add(bench.hasher.work - before)
        ran.add(tuple(statements))

    assert {text.split("'")[1] for text in answers} == {"email_unverified"}
    assert len(answers) == 1
    assert len(work) == 1
    assert len(ran) == 1


def test_a_closed_sign_up_creates_nothing(make_bench: Callable[..., Bench]) -> None:
    """While sign-up is closed, both its form and its post are refused, before any hashing."""
    bench = make_bench(signup_enabled=False)

    assert answer(bench.signup) == "signup_closed"
    assert answer(signup.show, bench.services, bench.form(HostForm)) == "signup_closed"
    assert bench.rows("user") == []
    assert bench.hasher.work == 0


def test_an_open_sign_up_shows_its_form(bench: Bench) -> None:
    """The form of an open sign-up needs no database."""
    with bench.statements() as ran:
        outcome = signup.show(bench.services, bench.form(HostForm))

    assert outcome.code == "form"
    assert ran == []


def test_a_form_of_the_app_cannot_drop_the_rules_for_passwords(bench: Bench) -> None:
    """A password is checked by the flow, too, so that a host form without the rules creates nothing."""

    class LaxForm(HostForm):
        password = NewPasswordField(validators=[Voluntary(), Optional()])

    form = bench.form(LaxForm, email=EMAIL)
    check(form)

    with pytest.raises(Refusal) as refused:
        signup.run(bench.services, form)

    assert [(fault.field, fault.code) for fault in refused.value.fields] == [("password", "too_short")]
    assert bench.rows("user") == []


def test_a_second_sign_up_within_a_minute_mails_nothing(bench: Bench) -> None:
    """Of two sign-ups in one minute the second is kept and not mailed; a minute later it would be."""
    bench.signup()
    bench.signup()
    bench.clock.tick(61)
    bench.signup()

    assert [mail.reason for mail in bench.mails] == [None, "duplicate", None]
    assert len(bench.rows("token")) == 3


def test_SUP_15_an_address_cannot_be_bombed(bench: Bench) -> None:
    """A hundred sign-ups for an address in an hour mail it three times, and its owner can still reset."""
    bench.member()

    answers = set()
    for number in range(100):
        stranger = replace(STRANGER, network=f"198.51.100.{number % 10}")
        answers.add(told(EMAIL, bench.signup, EMAIL, OTHER_PASSWORD, stranger))
        bench.clock.tick(30)
    bench.request_reset(email=EMAIL)

    assert bench.sent == ["already_registered"] * 3 + ["reset"]
    assert len(answers) == 1
    assert answer(bench.reset, bench.token) == "password_changed"


def test_a_capped_address_without_a_link_is_still_mailed_one(bench: Bench) -> None:
    """The caps never keep the only link from an address: whoever's earlier ones have died gets another."""
    for _ in range(3):
        bench.signup(visit=STRANGER)
        bench.clock.tick(61)
    bench.verify(bench.token, password=PASSWORD)
    bench.alter(email_verified_at=None)

    bench.signup(visit=STRANGER)

    assert bench.mails[-1].reason is None
    assert answer(bench.open, bench.token) == "pending"


def test_the_hook_gets_the_account_and_the_form(make_bench: Callable[..., Bench]) -> None:
    """on_signup is called once per new account, with an entity that has its key, inside the unit."""
    seen: list[Any] = []
    bench = make_bench(parts={"on_signup": lambda user, form: seen.append((user.id, user.email, form.name.data))})

    bench.signup(name="Vic")
    bench.signup(name="Nobody")

    assert seen == [(bench.account().id, EMAIL, "Vic")]


def test_a_failing_hook_undoes_the_sign_up(make_bench: Callable[..., Bench]) -> None:
    """What on_signup raises goes on to the app, and neither account nor mail nor signal is left."""

    def hook(user: Any, form: Any) -> None:
        raise LookupError("no seat left")

    bench = make_bench(parts={"on_signup": hook})

    with pytest.raises(LookupError, match="no seat left"):
        bench.signup()

    assert bench.rows("user") + bench.rows("token") + bench.rows("mail") == []
    assert (bench.events, bench.kicks) == ([], 0)


@pytest.mark.parametrize("verb", ["commit", "rollback"])
def test_a_hook_that_ends_the_unit_is_told_so(make_bench: Callable[..., Bench], verb: str) -> None:
    """A hook that commits or rolls back gets one clear error, and nothing is mailed."""
    bench = make_bench(parts={"on_signup": lambda user, form: getattr(bench.sessions, verb)()})

    with pytest.raises(HookCommitted, match="Remove the commit"):
        bench.signup()

    assert bench.rows("mail") == []
    assert bench.kicks == 0


def test_SUP_14_a_sign_up_that_comes_second_goes_on_as_for_a_known_address(bench: Bench) -> None:
    """When another sign-up creates the account in between, there is one account, and a link to it."""
    accounts = bench.services.store.accounts
    # The flow's first look at the clock is before it reads, its second one before it creates.
    bench.clock.interrupt(1, lambda: accounts.create(canonical(EMAIL), bench.clock.now, values={"name": "first"}))

    outcome = bench.signup(name="second")

    assert outcome.code == "verification_required"
    assert [row.name for row in bench.rows("user")] == ["first"]
    assert [mail.template for mail in bench.mails] == ["verify"]


def test_the_page_that_was_asked_for_is_kept_on_the_server(bench: Bench) -> None:
    """``next`` stands in the attempt; one that is too long to be an address is dropped."""
    bench.signup(next="/cart")
    bench.signup(next="/" + "x" * 2048)

    assert [row.payload["next"] for row in bench.rows("token")] == ["/cart", None]


def test_every_sign_up_without_a_cookie_is_another_browser(bench: Bench) -> None:
    """A visitor without a nonce is given one that nobody else has."""
    for _ in range(3):
        bench.signup(visit=PROGRAM)

    assert len({row.payload["nonce"] for row in bench.rows("token")}) == 3


def test_the_language_of_the_visitor_is_kept(bench: Bench) -> None:
    """The account and its mail have the language of whoever signed up; later mails have the account's."""
    bench.signup(visit=replace(OWNER, locale="de"))
    bench.clock.tick(61)
    bench.resend(replace(OWNER, locale="fr"), email=EMAIL)

    assert bench.account().locale == "de"
    assert [mail.locale for mail in bench.mails] == ["de", "de"]


def test_an_unknown_address_is_answered_in_the_language_of_the_visitor(bench: Bench) -> None:
    """Where there is no account, the row of the outbox has the visitor's language."""
    bench.request_reset(replace(OWNER, locale="fr"), email=EMAIL)

    assert bench.mails[0].locale == "fr"


def test_without_a_base_url_the_mail_remembers_where_it_was_asked_for(make_bench: Callable[..., Bench]) -> None:
    """The origin of the request is kept with the mail only while no BASE_URL is set."""
    visit = replace(OWNER, origin="http://localhost:5000")
    debug, production = make_bench(base_url=None), make_bench()

    debug.signup(visit=visit)
    debug.signup("eve@example.com", visit=OWNER)
    production.signup(visit=visit)

    assert [mail.context for mail in debug.mails] == [{"origin": "http://localhost:5000"}, {}]
    assert production.mails[0].context == {}


def test_a_sign_up_is_announced_after_its_commit(bench: Bench) -> None:
    """The signals of a sign-up say when, from where and for whom, and delivery is kicked once."""
    bench.signup()

    user_id = str(bench.account().id)
    visit = {"at": bench.clock.now, "ip": "192.0.2.1", "user_agent": "Owner/1.0"}
    mail_id = bench.rows("mail")[0].id
    assert bench.events == [
        ("user_signed_up", {**visit, "user_id": user_id}),
        ("mail_queued", {**visit, "user_id": user_id, "mail_id": mail_id, "template": "verify"}),
    ]
    assert bench.kicks == 1


def test_a_mail_that_is_dropped_is_not_announced(bench: Bench) -> None:
    """Where nothing is mailed, nothing is announced and nothing is kicked."""
    bench.request_reset(email="una@example.com")

    assert (bench.events, bench.kicks) == ([], 0)


def test_requests_for_mail_are_counted_per_network(make_bench: Callable[..., Bench]) -> None:
    """Sign-up, resend and reset request share one budget of their network, which successes use up as well."""
    budget = Budget("mail_ip", (Rate(3, 3600),), "keep")
    bench = make_bench(parts={"throttle": LimitsThrottle([budget])})

    answers = [
        answer(bench.signup),
        answer(bench.resend, email=EMAIL),
        answer(bench.request_reset, email=EMAIL),
        answer(bench.signup, "una@example.com"),
        answer(bench.resend, email=EMAIL),
        answer(bench.request_reset, email=EMAIL),
        answer(bench.signup, "una@example.com", visit=STRANGER),
    ]

    assert answers == ["verification_required", "accepted", "accepted", *["rate_limited"] * 3, "verification_required"]
    assert bench.account("una@example.com") is not None
