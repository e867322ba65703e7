"""The benchmarks run: an environment is made once, and this project goes through all its flows."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import pytest

from benchmarks import run
from benchmarks.adapters.accountflow import AccountFlow
from benchmarks.adapters.base import Answer, Call, Conditions, Mail, System
from benchmarks.environments import environment, versions
from benchmarks.rounds import FLOWS, Load
from benchmarks.servers import ROOT, Server, free_port

linux = pytest.mark.skipif(sys.platform != "linux", reason="other processes are watched by what only Linux has")


class Here(AccountFlow):
    """This project in the environment of the tests."""

    requirements = ()


class Refusing(Here):
    """The same, asked for what it refuses."""

    name = "refusing"

    def login(self, email: str, password: str) -> Call:
        return Call("POST", "/auth/login", json={"email": email, "password": "not this password"})


def a_wheel(folder: Path, version: str) -> str:
    """Write a wheel that pip installs without a network, and return its path."""
    info = folder / f"benched-{version}.dist-info"
    wheel = folder / f"benched-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("benched.py", "")
        archive.writestr(f"{info.name}/METADATA", f"Metadata-Version: 2.1\nName: benched\nVersion: {version}\n")
        archive.writestr(f"{info.name}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info.name}/RECORD", "")
    return str(wheel)


@pytest.mark.slow
def test_an_environment_is_made_once_and_anew_when_its_requirements_change(tmp_path: Path) -> None:
    """The same requirements find the same environment; others make it anew, and one that is unfinished is not used."""
    system = System()
    system.name, system.requirements = "benched", ("--no-index", a_wheel(tmp_path, "1.0"))
    python = environment(system, tmp_path / "cache")
    assert versions(python)["benched"] == "1.0"
    mark = python.parent / "kept"
    mark.touch()
    assert environment(system, tmp_path / "cache") == python
    assert mark.exists()
    system.requirements = ("--no-index", str(tmp_path / "no-such-file.whl"))
    with pytest.raises(RuntimeError, match="no-such-file"):
        environment(system, tmp_path / "cache")
    assert not mark.exists()
    assert not (tmp_path / "cache" / "benched" / "made-for.json").exists()


@linux
@pytest.mark.slow
def test_two_addresses_go_through_every_flow_on_a_real_server() -> None:
    """Every flow answers as expected, takes some CPU, and has its mails; who is refused has failed, with the reason."""
    plan = run.Plan(rounds=1, users=2, load=Load(connections=2, asks=2))
    here = Path(sys.executable)
    chosen = {system.name: (run.Entry(system), here) for system in (Here(), Refusing())}
    results, failed = run.compare("sqlite", "", chosen, plan)
    flows = results["flask-accountflow"]["flows"]
    assert tuple(flows) == FLOWS
    assert {flow: one["requests"] for flow, one in flows.items()} == {**dict.fromkeys(FLOWS, 2), "me": 4}
    assert not any(one["unexpected"] for one in flows.values())
    assert all(one["cpu_ms"]["median"] > 0.1 for one in flows.values())
    assert len(results["flask-accountflow"]["memory"]) == 2
    assert min(results["flask-accountflow"]["memory"]) > 10_000_000
    assert list(results) == ["flask-accountflow"]
    assert failed["refusing"].startswith("RoundError: login: {401: 2} and nothing else")


@linux
@pytest.mark.slow
def test_a_server_ends_with_the_harness_however_that_ends(tmp_path: Path) -> None:
    """After the harness was killed, the processes of its server end, too."""
    script = textwrap.dedent(
        f"""
        import sys, time
        from pathlib import Path
        from benchmarks.adapters.accountflow import SYSTEM
        from benchmarks.adapters.base import Conditions
        from benchmarks.servers import Server
        given = Conditions("sqlite:///{tmp_path}/app.db", 1, "http://127.0.0.1:{free_port()}")
        with Server(SYSTEM, given, sys.executable, Path({str(tmp_path)!r}), workers=1) as server:
            print(*server.processes(), flush=True)
            time.sleep(60)
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout is not None
        processes = [int(word) for word in harness.stdout.readline().split()]
        harness.send_signal(signal.SIGKILL)
    assert len(processes) == 3
    end = time.monotonic() + 15
    while any(Path(f"/proc/{process}").exists() for process in processes):
        assert time.monotonic() < end, processes
        time.sleep(0.05)


@linux
def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """The end of its log is in the error."""
    system = Here()
    system.application = "benchmarks.apps.accountflow:no_such_function()"
    given = Conditions(f"sqlite:///{tmp_path}/app.db", 1, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(RuntimeError, match="no_such_function"), Server(system, given, sys.executable, tmp_path):
        pass


def test_an_adapter_may_be_any_file(tmp_path: Path) -> None:
    """It is found by its path, its app beside it; a file without a system is refused."""
    path = tmp_path / "my_site.py"
    path.write_text(
        "from benchmarks.adapters.base import System\nclass Mine(System):\n    name = 'mine'\nSYSTEM = Mine()\n"
    )
    entry = run.load(path)
    assert (entry.system.name, list(entry.paths)) == ("mine", [tmp_path])
    path.write_text("SYSTEM = 3\n")
    with pytest.raises(ValueError, match="has no SYSTEM"):
        run.load(path)
    with pytest.raises(ValueError, match="is no file of Python"):
        run.load(tmp_path / "nothing.py")


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that no system has is an error that lists those there are."""
    with pytest.raises(SystemExit):
        run.main(["--only", "nobody"])
    assert "no system is called nobody; there are flask-accountflow" in capsys.readouterr().err


def test_results_are_written_as_json_with_table_and_pictures(tmp_path: Path) -> None:
    """The folder has what the documentation includes."""
    results = {
        "machine": run.machine(),
        "plan": {"rounds": 1, "users": 4, "connections": 3, "asks": 5, "bcrypt": 4, "workers": 2, "threads": 8},
        **{"systems": {}, "databases": {"sqlite": {}}, "skipped": {}, "failed": {}},
    }
    run.write(results, tmp_path / "deep" / "bench")
    assert json.loads((tmp_path / "deep" / "bench" / "results.json").read_text()) == results
    assert "## SQLite" in (tmp_path / "deep" / "bench" / "table.inc").read_text()


def test_the_example_of_the_readme_is_an_adapter(tmp_path: Path) -> None:
    """It can be loaded as it stands there, and says its requests."""
    text = (ROOT / "benchmarks" / "README.md").read_text()
    path = tmp_path / "bench.py"
    path.write_text(text.partition("```python\n")[2].partition("```")[0])
    system = run.load(path).system
    assert system.verify(Mail("ada@example.com", "https://example.com/?code=abc")).json == {"code": "abc"}
    assert system.refresh(system.logged_in(Answer(200, {}, {"session": "x"}, b""))) is None


def test_every_option_stands_in_the_readme() -> None:
    """An option that is added has its row."""
    text = (ROOT / "benchmarks" / "README.md").read_text()
    options = {word.rstrip(",]") for word in run.parser().format_usage().split() if word.startswith(("--", "[--"))}
    missing = {option for option in options if f"`{option.lstrip('[')}" not in text and option != "[--help"}
    assert len(options) > 10
    assert not missing
