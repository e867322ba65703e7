"""The broken builds are of the present package; one of them is found out here, all of them by ``make broken``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from broken import run

BUILDS = run.builds()


@pytest.mark.parametrize("build", BUILDS, ids=[build.name for build in BUILDS])
def test_a_build_breaks_the_present_package(build: run.Build) -> None:
    """Every patch applies to the package as it is, and changes it."""
    with run.copy_of_the_package(["flask_accountflow"]) as root:
        before = {file: file.read_bytes() for file in root.glob("flask_accountflow/**/*.py")}

        run.apply(build, root)

        changed = [file for file, content in before.items() if file.read_bytes() != content]
        assert changed
        for file in changed:
            compile(file.read_bytes(), file, "exec")


@pytest.mark.parametrize("build", BUILDS, ids=[build.name for build in BUILDS])
def test_a_build_names_a_test_that_is_there(build: run.Build) -> None:
    """Every build says in a sentence what is broken, and names a test of this suite."""
    file, *names = re.sub(r"\[.*", "", build.test).split("::")

    assert build.broken.endswith(".")
    assert f"def {names[-1]}(" in (run.ROOT / file).read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_build_is_found_out(capsys: pytest.CaptureFixture[str]) -> None:
    """The command applies a patch, sees its test turn red against the copy, and says so."""
    assert run.main(["next-unchecked"]) == 0

    [row] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| next-unchecked")]
    assert row.endswith(f"| {run.FOUND} |")


def test_a_build_that_no_test_finds_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A patch that breaks nothing which its test looks at fails the command."""
    harmless = "--- a/flask_accountflow/py.typed\n+++ b/flask_accountflow/py.typed\n@@ -0,0 +1 @@\n+# harmless\n"
    test = "tests/test_passwords.py::TestStored::test_SUP_02_every_check_costs_as_much"
    (tmp_path / "harmless.patch").write_text(f"Broken: Nothing.\nFound by: {test}\n\n{harmless}")
    monkeypatch.setattr(run, "HERE", tmp_path)

    assert run.main([]) == 1

    assert run.MISSED in capsys.readouterr().out


def test_a_patch_that_no_longer_applies_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A patch for lines that are not there fails the command, which says what to do."""
    stale = "--- a/setup.cfg\n+++ b/setup.cfg\n@@ -1 +1 @@\n-no such line\n+another\n"
    test = "tests/test_passwords.py::TestStored::test_SUP_02_every_check_costs_as_much"
    (tmp_path / "stale.patch").write_text(f"Broken: Nothing.\nFound by: {test}\n\n{stale}")
    monkeypatch.setattr(run, "HERE", tmp_path)

    assert run.main(["stale"]) == 1

    assert "does not apply to the package any more. Rebase it" in capsys.readouterr().err


def test_a_test_that_is_not_green_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A named test that does not pass on the sound package fails the command."""
    test = "tests/test_passwords.py::TestStored::test_there_is_no_such_test"
    (tmp_path / "unproved.patch").write_text(f"Broken: Nothing.\nFound by: {test}\n\n")
    monkeypatch.setattr(run, "HERE", tmp_path)

    assert run.main(["unproved"]) == 1

    assert test in capsys.readouterr().err


def test_a_build_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Another name fails the command, which lists the builds."""
    assert run.main(["no-such-build"]) == 1

    assert "next-unchecked" in capsys.readouterr().err
