"""Kills at random, in short: what the long runs do for some minutes each, and what they count by."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from databases import database
from faults.kills import Plan, Report, run
from faults.load import FORGOTTEN, SIGNUP, Ledger, Tally
from faults.sink import Copy


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
def test_F09_F10_servers_and_workers_are_killed(name: str, tmp_path: Path) -> None:
    """When servers and workers are killed again and again under load, no mail is lost and none is made up."""
    plan = Plan("both", name, kills=8, rate=40, waits=False, links=50)

    with database(name, tmp_path) as engine:
        report = run(plan, engine, tmp_path)

    assert report.kills == 16
    assert report.accepted >= 10
    assert report.opened >= 10
    assert list(report.faults()) == []


def _copy(email: str, number: int = 1, link: str = "https://www.example.com/auth/verify/a.b.c") -> Copy:
    return Copy(email, f"Message-ID: <{number}@example.com>\r\n\r\n{link}\r\n".encode())


def _report(ledger: Ledger, *copies: Copy, doubtful: int = 0, broken: tuple[str, ...] = ()) -> Report:
    return Report(
        plan=Plan("web", "sqlite", kills=3),
        tally=Tally.of(ledger, copies),
        accepted=len(ledger.accepted),
        refused=len(ledger.refused),
        unanswered=len(ledger.unanswered),
        kills=3,
        doubtful=doubtful,
        opened=1,
        broken=list(broken),
        seconds=1,
        rate=1,
    )


LEDGER = Ledger(accepted={"a@x.org": SIGNUP, "b@x.org": FORGOTTEN}, refused={"c@x.org": 503}, unanswered={"d@x.org"})


@pytest.mark.parametrize(
    ("copies", "fault"),
    [
        ([_copy("a@x.org")], "lost: ['b@x.org']"),
        ([_copy("a@x.org"), _copy("b@x.org"), _copy("c@x.org")], "mailed after an error: ['c@x.org']"),
        ([_copy("a@x.org"), _copy("b@x.org"), _copy("b@x.org", 2)], "copies differ: ['b@x.org']"),
        (
            [_copy("a@x.org"), _copy("b@x.org"), _copy("b@x.org", link="https://x.org/a.b")],
            "copies differ: ['b@x.org']",
        ),
        ([*[_copy("a@x.org")] * 3, _copy("b@x.org")], "2 copies too many, for 1 conversations in doubt"),
    ],
    ids=["lost", "unfounded", "another-mail", "another-link", "too-many"],
)
def test_what_does_not_hold_is_counted(copies: list[Copy], fault: str) -> None:
    """A mail that is missing, made up, changed or sent too often is found in what was answered and what arrived."""
    random.shuffle(copies)
    assert fault in list(_report(LEDGER, *copies, doubtful=1).faults())


def test_a_link_that_does_not_work_once_is_counted() -> None:
    """A link that fails, or works twice, is a fault."""
    report = _report(LEDGER, _copy("a@x.org"), _copy("b@x.org"), broken=("a@x.org",))
    assert list(report.faults()) == ["links: ['a@x.org']"]


def test_what_may_happen_is_no_fault() -> None:
    """A mail to somebody who was not answered, and a copy for a conversation in doubt, are as they should be."""
    copies = [_copy("a@x.org"), _copy("a@x.org"), _copy("b@x.org"), _copy("d@x.org")]
    assert list(_report(LEDGER, *copies, doubtful=1).faults()) == []
