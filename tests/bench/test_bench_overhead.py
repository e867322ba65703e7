"""What our flows cost beside bare views is measured, and a flow that costs more is found out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import overhead
from benchmarks.overhead import FLOWS, Figures, faults, measure

#: What each flow runs at most. A change that needs more is to say so here.
STATEMENTS = {
    **{"signup": 5, "verify": 3, "login": 3, "me": 1},
    **{"refresh": 2, "reset request": 4, "reset": 5, "forged link": 0},
}


def uris(folder: Path) -> tuple[str, str]:
    """Return the addresses of two databases that are not there yet."""
    return f"sqlite:///{folder / 'ours.db'}", f"sqlite:///{folder / 'bare.db'}"


def test_each_flow_is_measured_with_its_statements(tmp_path: Path) -> None:
    """Every flow succeeds on both sites, takes some CPU, and runs as many statements as it is known to."""
    found = measure(uris(tmp_path), blocks=1, requests=2)
    assert tuple(found) == FLOWS
    assert {flow: one.statements for flow, one in found.items()} == STATEMENTS
    assert all(one.ours > 0 and one.bare > 0 for one in found.values())


@pytest.mark.parametrize(
    ("ours", "statements", "said"),
    [
        (2.0, 3, []),
        (2.6, 3, []),
        (0.5, 2, []),
        (2.0, 4, ["login runs 4 statements; 3 are committed"]),
        (2.7, 3, ["login costs 2.70 times the bare view; 2.00 is committed, and 1.3 times that is too much"]),
    ],
)
def test_a_grown_count_and_a_ratio_beyond_the_tolerance_are_faults(
    ours: float, statements: int, said: list[str]
) -> None:
    """Nothing else is: neither the same, nor up to 1.3 times as much, nor less."""
    committed = {"login": {"ratio": 2.0, "statements": 3}, "me": {"ratio": 2.0, "statements": 1}}
    found = {"login": Figures(ours, 1.0, statements), "me": Figures(20.0, 10.0, 1)}
    assert faults(found, committed) == said


def test_without_committed_figures_a_check_says_how_to_make_them(tmp_path: Path) -> None:
    """Before it measures anything, it names the file and the command."""
    missing = tmp_path / "committed.json"
    with pytest.raises(SystemExit, match=r"committed\.json is missing.*benchmarks\.overhead --write"):
        overhead.main(["--check", "--committed", str(missing)])


def test_a_check_fails_only_when_a_second_run_is_worse_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A count that grew is found twice, and the command ends with 1; what was just written passes."""
    path = tmp_path / "committed.json"
    arguments = ["--blocks", "1", "--requests", "2", "--committed", str(path)]
    assert overhead.main([*arguments, "--write"]) == 0
    figures = {flow: {"ratio": 1000.0, "statements": one["statements"]} for flow, one in _read(path).items()}
    path.write_text(json.dumps(figures))
    assert overhead.main([*arguments, "--check"]) == 0
    assert "Once more" not in capsys.readouterr().out
    figures["login"]["statements"] = 2
    path.write_text(json.dumps(figures))
    assert overhead.main([*arguments, "--check"]) == 1
    assert capsys.readouterr().out.count("login runs 3 statements; 2 are committed") == 2


def _read(path: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads(path.read_text())
    return found
