"""Opening a mailed link."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flow_bench import EMAIL, STRANGER, Bench

from flask_accountflow.errors import Refusal
from flask_accountflow.flows import admin
from flask_accountflow.identity import Address
from flask_accountflow.redeem import address_of, dead, link_to_renew, open_link
from flask_accountflow.store.links import Link
from flask_accountflow.tokens import Links, random_id


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Services with one sign-up whose link was mailed."""
    bench = Bench(sa.create_engine(f"sqlite:///{tmp_path / 'bench.db'}"))
    bench.signup()
    yield bench
    bench.close()


def _open(bench: Bench) -> Link:
    return open_link(bench.services, "signup", bench.token)


def _forgeries(bench: Bench) -> dict[str, str]:
    good, now = bench.token, bench.clock.now
    payload, moment, signature = good.split(".")
    return {
        "empty": "",
        "junk": "junk",
        "cut at a dot": f"{payload}.{moment}",
        "respelled": good + "=",
        "another last letter": good[:-1] + ("B" if good[-1] == "A" else "A"),
        "quoted by a mail program": good + ">",
        "a space at the end": good + " ",
        "not ASCII": good[:-1] + "é",
        "NUL": good + "\0",
        "a megabyte": "x" * 1_000_000,
        "another key": Links(["y" * 32]).make("signup", random_id(), now),
        "another purpose": bench.services.links.make("reset", bench.rows("token")[0].id, now),
        "another moment": f"{payload}.AAAAAA.{signature}",
    }


def test_VER_08_a_text_that_is_no_link_of_ours_costs_no_statement(bench: Bench) -> None:
    """A forged, mangled or foreign link is refused as invalid before the database is asked."""
    forgeries = _forgeries(bench)
    found = {}

    with bench.statements() as ran:
        for name, token in forgeries.items():
            with pytest.raises(Refusal) as refused:
                open_link(bench.services, "signup", token)
            found[name] = (refused.value.code, refused.value.status, dict(refused.value.data))

    assert found == dict.fromkeys(forgeries, ("token_invalid", 400, {"purpose": "signup"}))
    assert ran == []


def test_a_link_whose_row_was_purged_has_expired(bench: Bench) -> None:
    """A genuine link without a row is refused as expired, by a page that knows no address."""
    token = bench.token
    with bench.engine.begin() as connection:
        connection.execute(bench.tables.token.delete())

    with pytest.raises(Refusal) as refused:
        open_link(bench.services, "signup", token)

    assert (refused.value.code, refused.value.status) == ("token_expired", 410)
    assert dict(refused.value.data) == {"purpose": "signup", "email_masked": None}


def test_VER_06_the_purpose_of_the_row_counts_too(bench: Bench) -> None:
    """A link whose row is of another purpose than its signature opens nothing."""
    token = bench.token
    with bench.engine.begin() as connection:
        connection.execute(bench.tables.token.update().values(purpose="reset"))

    with pytest.raises(Refusal) as refused:
        open_link(bench.services, "signup", token)

    assert refused.value.code == "token_expired"


def test_a_link_opens_in_whatever_state(bench: Bench) -> None:
    """A live, an expired, a used and a superseded link all open; who uses them decides."""
    states = [_open(bench).state(bench.clock.now)]
    token = bench.token
    bench.clock.tick(86400)
    states.append(open_link(bench.services, "signup", token).state(bench.clock.now))
    bench.signup()
    newer = bench.token
    bench.verify(newer)

    states.append(open_link(bench.services, "signup", newer).state(bench.clock.now))
    bench.signup("una@example.com")
    token = bench.token
    bench.change(admin.disable_user, "una@example.com")
    states.append(open_link(bench.services, "signup", token).state(bench.clock.now))

    assert states == ["live", "expired", "used", "superseded"]


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("expired", "token_expired"),
        ("used", "token_used"),
        ("discarded", "token_superseded"),
        ("decoy", "token_superseded"),
        ("stamp", "token_superseded"),
        ("disabled", "token_superseded"),
        ("live", "token_used"),
    ],
)
def test_a_dead_link_answers_by_its_state(bench: Bench, state: str, code: str) -> None:
    """Each way to die has its code; a link that only looks alive has lost against another request."""
    link, now = _open(bench), bench.clock.now
    assert link.account is not None
    dead_links: dict[str, Link] = {
        "expired": replace(link, expires_at=now),
        "used": replace(link, used_at=now, outcome="redeemed"),
        "discarded": replace(link, used_at=now, outcome="discarded"),
        "decoy": replace(link, used_at=now, outcome="decoy"),
        "stamp": replace(link, stamp=random_id()),
        "disabled": replace(link, account=replace(link.account, is_active=False)),
        "live": link,
    }

    refusal = dead(bench.services, dead_links[state])

    assert (refusal.code, refusal.status) == (code, 400 if code == "token_invalid" else 410)


def test_a_dead_link_without_an_account_names_nobody(bench: Bench) -> None:
    """The link of an account that is gone is superseded, and there is no address to show."""
    refusal = dead(bench.services, replace(_open(bench), account=None, sent_to=None))

    assert refusal.code == "token_superseded"
    assert (refusal.data["email_masked"], refusal.data["verified"]) == (None, False)


@pytest.mark.parametrize(("purpose", "verified"), [("signup", True), ("reset", False)])
def test_only_a_confirmation_link_says_that_the_address_is_confirmed(
    bench: Bench, purpose: str, verified: bool
) -> None:
    """A superseded confirmation link knows that the account is verified; a reset link does not say it."""
    link = _open(bench)
    assert link.account is not None
    proved = replace(link.account, email_verified_at=bench.clock.now)

    refusal = dead(bench.services, replace(link, purpose=purpose, account=proved))

    assert refusal.data["verified"] is verified


@pytest.mark.parametrize("state", ["live", "expired", "used", "superseded"])
def test_a_link_in_any_state_can_be_renewed(bench: Bench, state: str) -> None:
    """A link names its account, dead or alive, as long as the account has the address it was sent to."""
    token: Any = bench.token
    if state == "expired":
        bench.clock.tick(86400)
    elif state == "used":
        bench.verify(token)
    elif state == "superseded":
        bench.change(admin.revoke_sessions)

    link = link_to_renew(bench.services, "signup", token)

    assert link is not None
    assert link.sent_to == EMAIL


@pytest.mark.parametrize("kind", ["junk", "another purpose", "purged", "account gone", "address changed"])
def test_a_link_that_names_no_account_renews_nothing(bench: Bench, kind: str) -> None:
    """Nothing is to be mailed for a link that is none, or whose account is gone or has another address."""
    token = "junk" if kind == "junk" else bench.token
    with bench.engine.begin() as connection:
        if kind == "purged":
            connection.execute(bench.tables.token.delete())
        elif kind == "account gone":
            connection.execute(bench.tables.token.update().values(user_id=None))
        elif kind == "address changed":
            connection.execute(bench.tables.user.update().values(email="una@example.com"))

    found = link_to_renew(bench.services, "reset" if kind == "another purpose" else "signup", token)

    assert found is None


def test_mail_goes_to_the_stored_address(bench: Bench) -> None:
    """The address of an account is the one it has stored; without a key it is counted under its lower case."""
    link = _open(bench)
    assert link.account is not None
    account = replace(link.account, email="Vic@example.com")

    assert address_of(account) == Address("Vic@example.com", EMAIL)
    assert address_of(replace(account, email_key=None)) == Address("Vic@example.com", EMAIL)


def test_other_sign_ups_are_counted_with_the_link(bench: Bench) -> None:
    """A link knows how many other sign-ups of its address are open, of whatever fate their mails were."""
    alone = _open(bench).rivals
    bench.signup(visit=STRANGER)
    token = bench.tokens[0]

    beside_one = open_link(bench.services, "signup", token).rivals
    bench.clock.tick(61)
    bench.signup(visit=STRANGER)
    bench.verify(bench.tokens[1], discard=True)

    assert (alone, beside_one) == (0, 1)
    assert open_link(bench.services, "signup", token).rivals == 1
