"""The timing test itself: its short run, which is for every commit, and its parts.

Nothing here looks at a clock: a run compares times with others of the same run, and says so when it knows nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from live_server import wait_until
from timing import run as timing
from timing.client import Line
from timing.run import KINDS, MARGINS, Plan, decide, report, run, smoke
from timing.target import PASSWORD, ROOT, Conditions, Target
from timing.verdicts import FAIL, INCONCLUSIVE, PASS, UNKNOWN, VOID, Margin

from example_app.models import db

pytestmark = pytest.mark.slow

COMMAND = Path(timing.__file__)
PATHS = Conditions(rounds=4, leak="pause")
PLAN = Plan("A", "login", "json", 8, 1, MARGINS["A"], PATHS, (UNKNOWN, "verified"), discarded=0, doublings=0)


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command. It bounds itself; this is for when that is broken."""
    line = [sys.executable, str(COMMAND), *arguments]
    return subprocess.run(line, check=False, capture_output=True, text=True, timeout=500)


def test_LOG_02_no_login_does_without_a_hash() -> None:
    """A login takes as long for an unknown address as for an account, and for one whose hash is older."""
    done = _command("--smoke")

    if done.returncode in {3, 4}:
        pytest.skip(f"the short timing run says nothing: {done.stdout.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_hash_that_is_missing_is_found() -> None:
    """Where accounts are answered without a hash, the run fails, and a fresh one with the kinds swapped confirms it."""
    plan = replace(smoke(1), blocks=20, discarded=1, kinds=(UNKNOWN, "verified"), leaking="verified")

    verdict, results = decide(plan)

    if verdict in {VOID, INCONCLUSIVE}:
        pytest.skip(f"the run says nothing: {results[-1].reason}")
    assert verdict == FAIL
    assert [(result.plan.seed, result.plan.kinds) for result in results] == [
        (1, (UNKNOWN, "verified")),
        (2, ("verified", UNKNOWN)),
    ]


WHERE = {
    "login": replace(PLAN, format="html", kinds=KINDS["login"][:-1]),
    "reset": replace(PLAN, endpoint="reset", kinds=KINDS["reset"], format="html"),
    "signup": replace(PLAN, endpoint="signup", kinds=KINDS["signup"]),
    "resend": replace(PLAN, endpoint="resend", kinds=KINDS["resend"], format="html"),
    "limit": replace(PLAN, conditions=replace(PATHS, limited=True)),
}


@pytest.mark.parametrize("plan", WHERE.values(), ids=WHERE)
def test_everything_can_be_asked(plan: Plan) -> None:
    """Every page answers every kind as it should, and the report has a row for each pair and for both controls."""
    result = run(plan)

    rows = [line for line in report(result) if line.startswith("| ")]
    pairs = len(plan.kinds) * (len(plan.kinds) - 1) // 2
    assert result.answers.blocks == 8
    assert len(rows) == 1 + pairs + 2
    assert ["must" in row for row in rows] == [False] * (1 + pairs) + [True] * 2


def test_mails_are_sent_meanwhile() -> None:
    """Where mails are sent meanwhile, the next request is timed, too, and has a table of its own, without a leak."""
    plan = replace(PLAN, endpoint="signup", conditions=replace(PATHS, mails=True))

    result = run(plan)

    assert result.afterwards is not None
    assert (result.afterwards.blocks, result.afterwards.planted) == (8, None)
    assert [line[:20] for line in report(result) if line.startswith("| pair")] == [
        "| pair | medians, ms",
        "| pair (the next req",
    ]


def test_what_stays_open_is_asked_twice_as_much() -> None:
    """A run that knows too little after 8 blocks, as for a nanosecond it always does, goes on with 16 and 32."""
    result = run(replace(PLAN, doublings=2, margin=Margin(shift=1)))

    assert result.verdict == VOID
    assert result.answers.blocks == 32


def test_a_run_that_is_too_slow_ends() -> None:
    """A run whose time is over before it has two thirds of its blocks ends, and says how far it came."""
    with pytest.raises(TimeoutError, match=r"\d+ of 10000 blocks took 3 s"):
        run(replace(PLAN, blocks=10**4, patience=3))


def test_a_machine_that_is_too_slow_makes_a_run_void(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says so, and ends with 4, when nothing can be known in the time."""
    monkeypatch.setattr(timing, "smoke", lambda seed: replace(PLAN, blocks=10**4, patience=0))

    assert timing.main(["--smoke"]) == 4
    assert capsys.readouterr().out == "**VOID**: the machine is too slow: 0 of 10000 blocks took 0 s.\n"


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """A server with limits and an account of each kind."""
    with Target(Conditions(rounds=5, leak="hash", older=4, limited=True)) as made:
        made.add({kind: [f"{kind.split()[0]}@example.com"] for kind in KINDS["login"][1:]})
        yield made


def test_the_accounts_are_what_they_are_called(target: Target) -> None:
    """With the right password each kind of account is answered as such, and an older hash is renewed."""
    client = target.app.test_client()

    def log_in(email: str) -> str:
        answer = client.post("/auth/login", json={"email": email, "password": PASSWORD})
        return str(answer.json.get("code", answer.status_code))

    with target.app.app_context():
        older = db.session.execute(db.text("SELECT password_hash FROM users WHERE email LIKE 'older%'")).scalar_one()
    assert older.startswith("af1$-$2b$04$") or older.startswith("af1$-$$2b$04$")
    assert log_in("verified@example.com") == log_in("older@example.com") == "200"
    assert log_in("unverified@example.com") == "email_unverified"
    assert log_in("without@example.com") == log_in("nobody@example.com") == "invalid_credentials"
    assert log_in("disabled@example.com") == "account_disabled"


def test_another_answer_ends_the_run(target: Target) -> None:
    """An answer that is not the usual one is not timed: the run ends with it."""
    with closing(Line(target.port, "login", "json")) as line:
        line.ask("somebody@example.com", leaks=False)

        with pytest.raises(RuntimeError, match=r"(?s)429 instead of 401: .*rate_limited"):
            line.ask("somebody@example.com", leaks=False)


KILLED = """
import os, signal
from timing.target import Conditions, Target

target = Target(Conditions(rounds=4, leak="pause")).__enter__()
print(target.port, target.app.config["SQLALCHEMY_DATABASE_URI"], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_server_ends_with_whoever_has_started_it() -> None:
    """A server does not go on when the process that has started it is killed."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path}
    line = [sys.executable, "-c", KILLED]
    done = subprocess.run(line, check=False, capture_output=True, text=True, timeout=120, env=environment)
    port, uri = done.stdout.split()

    wait_until(lambda: not _answers(int(port)), "the server has ended")

    assert done.returncode == -signal.SIGKILL
    shutil.rmtree(Path(uri.removeprefix("sqlite:///")).parent)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--layer", "B", "--endpoint", "reset"], "only login and signup hash a password"),
        (["--limited", "--endpoint", "reset"], "--limited is for logins"),
        (["--blocks", "7"], "--blocks must be 8 or more"),
    ],
)
def test_what_means_nothing_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str) -> None:
    """Arguments that do not go together are refused with the reason."""
    with pytest.raises(SystemExit, match="2"):
        timing.main(arguments)

    assert reason in capsys.readouterr().err


def test_the_command_makes_the_runs_that_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each endpoint is asked in each format, with its kinds and costs, and the worst verdict is the status."""
    plans: list[Plan] = []
    verdicts = iter([PASS, INCONCLUSIVE, VOID, FAIL])
    monkeypatch.setattr(timing, "decide", lambda plan, tell: (plans.append(plan), (next(verdicts), []))[1])

    layer_b = timing.main(["--layer", "B", "--endpoint", "login", "signup", "--seed", "5"])
    layer_a = timing.main(["--endpoint", "reset", "signup", "--format", "html", "--blocks", "9", "--mails"])

    assert (layer_b, layer_a) == (3, 1)
    assert [(plan.endpoint, plan.format, plan.blocks, plan.margin.share) for plan in plans] == [
        ("login", "json", 200, 0.03),
        ("signup", "json", 200, 0.03),
        ("reset", "html", 9, None),
        ("signup", "html", 9, None),
    ]
    assert [plan.margin.once for plan in plans] == [None, None, None, 500_000]
    assert [(plan.conditions.rounds, plan.conditions.older, plan.conditions.mails) for plan in plans] == [
        *[(12, 10, False)] * 2,
        *[(4, None, True)] * 2,
    ]
    assert ["older hash" in plan.kinds for plan in plans] == [True, False, False, False]
