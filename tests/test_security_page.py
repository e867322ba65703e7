"""The page about security tells the truth: its promises are those that tests keep, and its settings exist."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from flask_accountflow import contract
from flask_accountflow.settings import declarations
from tools import promise_ids

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
PAGE, ASVS = ((DOCS / name).read_text(encoding="utf-8") for name in ("security.md", "asvs.md"))

_PROMISES, _DECISIONS = PAGE.split("## Decided otherwise")
#: The rows that tests keep, and those about what is done in another way.
KEPT, OTHERWISE = promise_ids.rows(_PROMISES), promise_ids.rows(_DECISIONS)
KEPT_BY = promise_ids.tests_by_id(TESTS)
#: Prefixes of ids in the names of tests that are about other things than security.
OTHER_IDS = {"ML", "P", "RS", "DX"}


def test_every_promise_is_kept_by_a_test() -> None:
    """Each promise of the page has a test with its id in its name, and each fault one, or a promise that covers it."""
    unkept = [row for row in KEPT if row.id not in KEPT_BY]

    assert len(KEPT) > 200
    assert [row.id for row in unkept if row.severity] == []
    for row in unkept:
        seen = promise_ids.named_in(row.cells[-1])
        assert seen, row.id
        assert seen <= set(KEPT_BY), row.id


def test_every_id_of_a_test_is_promised() -> None:
    """Each id in the name of a test stands on the page."""
    assert sorted(set(KEPT_BY) - {row.id for row in KEPT}) == []


def test_every_id_is_one() -> None:
    """What looks like an id in the name of a test is written like one."""
    found = {
        (test.name, mark)
        for test in promise_ids.tests_in(TESTS)
        for mark in re.findall(r"(?<=_)([A-Z]{1,4}_?\d{1,3})(?=_|$)", test.name)
    }

    assert found
    for name, mark in found:
        if re.match(r"[A-Z]+", mark)[0] not in OTHER_IDS:  # type: ignore[index]
            assert mark.replace("_", "-") in promise_ids.ids_in(name), name


def test_every_promise_stands_once() -> None:
    """No two rows promise under one id, and every row has a severity or is a fault."""
    twice = [one for one, count in Counter(row.id for row in KEPT).items() if count > 1]

    assert twice == []
    assert {row.severity for row in KEPT if not row.id.startswith("F")} == {"C", "H", "M", "L"}
    assert {len(row.cells) for row in KEPT if row.id.startswith("F")} == {2}


@pytest.mark.parametrize("severity", ["C", "H"])
def test_the_grave_ones_are_there(severity: str) -> None:
    """The promises whose breach costs accounts are many, and each of them has its test."""
    grave = [row.id for row in KEPT if row.severity == severity]

    assert len(grave) >= {"C": 25, "H": 60}[severity]
    assert all(KEPT_BY[one] for one in grave)


def test_every_decision_gives_its_reason() -> None:
    """What is done in another way says what was asked for, and why not."""
    assert len(OTHERWISE) > 10
    for row in OTHERWISE:
        asked, instead = row.cells
        assert asked
        assert len(instead.split()) > 10, row.id


@pytest.mark.parametrize("page", [PAGE, ASVS], ids=["security", "asvs"])
def test_every_setting_that_is_named_exists(page: str) -> None:
    """Each setting that a page names is one."""
    known = {one.key for one in declarations()}

    assert sorted(set(re.findall(r"ACCOUNTFLOW_[A-Z_]+", page)) - known) == []


def test_the_page_and_the_contract_name_the_same_settings() -> None:
    """What weakens a promise on the page weakens one in ``check --contract``, and the reverse."""
    on_page = {key for row in KEPT for key in row.keys}

    assert sorted(on_page - contract.weakening_keys()) == []
    assert sorted(key for key in contract.weakening_keys() if f"`{key}`" not in PAGE) == []
    # It weakens what an app does with a decorator of ours, and no promise about our own pages.
    assert contract.weakening_keys() - on_page == {"ACCOUNTFLOW_FRESH_MAX_AGE"}


#: The clauses of level 1 in OWASP ASVS 5.0.0: 70, by chapter and section.
LEVEL_1 = {
    "1.2": range(1, 6),
    "1.3": range(1, 3),
    "1.5": range(1, 2),
    "2.1": range(1, 2),
    "2.2": range(1, 3),
    "2.3": range(1, 2),
    "3.2": range(1, 3),
    "3.3": range(1, 2),
    "3.4": range(1, 3),
    "3.5": range(1, 4),
    "4.1": range(1, 2),
    "4.4": range(1, 2),
    "5.2": range(1, 3),
    "5.3": range(1, 3),
    "6.1": range(1, 2),
    "6.2": range(1, 9),
    "6.3": range(1, 3),
    "6.4": range(1, 3),
    "7.2": range(1, 5),
    "7.4": range(1, 3),
    "8.1": range(1, 2),
    "8.2": range(1, 3),
    "8.3": range(1, 2),
    "9.1": range(1, 4),
    "9.2": range(1, 2),
    "10.4": range(1, 6),
    "11.3": range(1, 3),
    "11.4": range(1, 2),
    "12.1": range(1, 2),
    "12.2": range(1, 3),
    "13.4": range(1, 2),
    "14.2": range(1, 2),
    "14.3": range(1, 2),
    "15.1": range(1, 2),
    "15.2": range(1, 2),
    "15.3": range(1, 2),
}
CLAUSES = re.findall(r"^\| (\d+\.\d+\.\d+) \| ([123]) \| (.+) \| (.+) \|$", ASVS, re.MULTILINE)


def test_every_clause_of_level_1_is_answered() -> None:
    """The page about ASVS answers all 70 clauses of level 1, each once, and some of the levels above."""
    asked = [f"{section}.{number}" for section, numbers in LEVEL_1.items() for number in numbers]
    answered = [clause for clause, level, _, _ in CLAUSES if level == "1"]

    assert len(asked) == 70
    assert sorted(answered) == sorted(asked)
    assert len({clause for clause, *_ in CLAUSES}) == len(CLAUSES) > 100


def test_every_answer_names_tests_or_a_reason() -> None:
    """Each clause is answered by ids that tests keep, or by who has to see to it, or by why it does not apply."""
    for clause, _, _, answer in CLAUSES:
        ids = promise_ids.named_in(answer)
        # What is done otherwise has its reason in the place of a test.
        assert ids - set(KEPT_BY) <= {row.id for row in OTHERWISE}, clause
        assert ids or answer.startswith(("Your ", "Does not apply", "Partly", "No", "[", "By ")), clause
