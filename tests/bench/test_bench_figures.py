"""What rounds come to, in which order they are run, and how that is shown."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import plots, report
from benchmarks.rounds import Measured, quantile, rotated, summary


def measured(cpu_ms: float, *, statuses: dict[int, int] | None = None, **more: Any) -> Measured:
    """Return what one flow took in one round."""
    figures = {"requests": 4, "rate": 100.0, "p50_ms": 2.0, "p99_ms": 5.0, "unexpected": {}}
    return Measured(**{**figures, "cpu_ms": cpu_ms, "statuses": statuses or {200: 4}, **more})


def test_each_system_is_first_once_in_as_many_rounds() -> None:
    """The order is rotated, so that none always runs after the same one of a busy moment."""
    orders = [rotated(["a", "b", "c"], number) for number in range(3)]
    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]
    assert rotated(["a", "b", "c"], 3) == orders[0]


def test_figures_are_medians_with_the_least_and_the_most() -> None:
    """One round that was disturbed moves the spread, and not the figure."""
    rounds = [{"login": measured(value)} for value in (3.0, 90.0, 2.0, 4.0, 3.5)]
    assert summary(rounds)["login"]["cpu_ms"] == {"median": 3.5, "low": 2.0, "high": 90.0}


def test_statuses_of_all_rounds_are_added_up() -> None:
    """A refusal of one round is seen in the sum, as unexpected as it was."""
    rounds = [
        {"login": measured(1.0)},
        {"login": measured(1.0, statuses={200: 1, 503: 3}, unexpected={503: 3})},
    ]
    found = summary(rounds)["login"]
    assert found["statuses"] == {"200": 5, "503": 3}
    assert found["unexpected"] == {"503": 3}
    assert found["requests"] == 8


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)])
def test_quantiles_are_values_that_occurred(share: float, expected: int) -> None:
    """Of the numbers from 1 to 100 each share is the number of that name."""
    assert quantile(list(range(100, 0, -1)), share) == expected


@pytest.fixture
def results() -> dict[str, Any]:
    """What a run of two systems on one database has found; the other database did not answer."""
    quick, slow = measured(1.5), measured(300.0, unexpected={503: 2}, statuses={200: 2, 503: 2}, rate=3.0)
    flows = {
        "quick": summary([{"login": quick, "refresh": quick}]),
        "slow & <old>": summary([{"login": slow}]),
    }
    return {
        "machine": {
            **{"date": "2026-03-29T00:59:30+00:00", "python": "3.13.0", "system": "Linux 6", "cpu": "A Processor"},
            **{"cores": 2, "load_average": 0.1},
        },
        "plan": {"rounds": 1, "users": 4, "connections": 3, "asks": 5, "bcrypt": 4, "workers": 2, "threads": 8},
        "systems": {name: {"kind": "wsgi", "version": "1.2", "versions": {}} for name in flows},
        "databases": {"sqlite": {name: {"flows": one, "memory": [2**25, 2**26]} for name, one in flows.items()}},
        "skipped": {"postgresql": "it does not answer"},
        "failed": {"sqlite": {"broken": "RoundError: no\nmail"}},
    }


def test_a_table_has_the_best_in_bold_and_a_dash_where_there_is_no_flow(results: dict[str, Any]) -> None:
    """The rows are flows and the columns systems; less CPU and more requests are better."""
    page = report.page(results)
    assert "| log in | **1.50** (1.50–1.50) | 300.00 (300.00–300.00) |" in page
    assert "| refresh tokens | **1.50** (1.50–1.50) | - |" in page
    assert "| log in | **100/s** 2.0 / 5.0; 200 | 3/s 2.0 / 5.0; 200 **not expected: 503, 2×** |" in page
    assert "sign-up" not in page
    assert "quick 32 and 64" in page


def test_what_was_skipped_or_failed_is_said(results: dict[str, Any]) -> None:
    """Neither a database that did not answer nor a system that failed is missing without a word."""
    page = report.page(results)
    assert "**PostgreSQL was skipped**: it does not answer" in page
    assert "**broken has failed** (SQLite): RoundError: no mail" in page


def test_pictures_are_well_formed_and_say_in_words_what_they_show(results: dict[str, Any]) -> None:
    """Each scheme has one, with title, description and every number; a bar far too long is cut, and says so."""
    made = plots.pictures(results)
    assert sorted(made) == ["sqlite-dark.svg", "sqlite-light.svg"]
    for picture in made.values():
        root = ElementTree.fromstring(picture)
        names = {"s": "http://www.w3.org/2000/svg"}
        assert "SQLite" in (root.findtext("s:title", "", names))
        assert "log in: quick 1.5, slow & <old> 300.0." in root.findtext("s:desc", "", names)
        assert [text.text for text in root.iterfind("s:text", names)].count("300.0") == 1
        bars = [float(bar.attrib["width"]) for bar in root.iterfind("s:rect", names)]
        assert max(bars) <= 820
    assert made["sqlite-dark.svg"] != made["sqlite-light.svg"]
