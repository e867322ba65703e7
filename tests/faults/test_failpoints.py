"""Kills at chosen points: what a process leaves behind when it dies there, and what the next one makes of it."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import threading
from collections.abc import Iterator

import pytest
from databases import NAMES, database
from faults import mortal_app, sink
from faults.cases import (
    ACTED,
    FLOWS,
    NOWHERE,
    POINTS,
    RECOVERED,
    Flow,
    Point,
    Stage,
    kill_at,
    staging,
    strike,
)

from flask_accountflow.store.queue import LEASE, SENT

pytestmark = pytest.mark.slow

SIGNUP = FLOWS[0]
each_flow = pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
#: Where a sender may fall asleep: before the mail server has the mail in hand, and when it has it.
BEFORE, HANDED_OVER = (mortal_app.AFTER_CLAIM, sink.AFTER_RCPT), (sink.AFTER_DOT, mortal_app.AFTER_250)


@pytest.fixture(scope="module", params=NAMES)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The app on SQLite, PostgreSQL, MariaDB in turn."""
    folder = tmp_path_factory.mktemp(request.param)
    with database(request.param, folder) as engine, staging(engine, folder) as made:
        yield made
        # Whatever was killed, no process has met an error that it did not expect, and nobody holds a mail.
        assert "Traceback" not in made.zygote.log.read_text()
        assert [row for row in made.site.rows("mail") if row.lease_id is not None] == []


@each_flow
@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_F09_F10_F11_a_process_is_killed(stage: Stage, flow: Flow, point: Point) -> None:
    """What was committed is mailed in spite of a kill, twice only where its sender cannot know; nothing else is."""
    strike(stage, flow, point)


@each_flow
def test_nobody_is_killed(stage: Stage, flow: Flow) -> None:
    """By the same measure, each flow sends one mail when no process is killed."""
    strike(stage, flow, NOWHERE)


on_sqlite = pytest.mark.parametrize("stage", ["sqlite"], indirect=True)


@on_sqlite
def test_a_lost_mail_would_be_found(stage: Stage) -> None:
    """Senders that mark a mail before they send it are found to lose it."""
    [point] = [point for point in POINTS if point.name == sink.AFTER_CONNECT]
    with pytest.raises(AssertionError, match="lost: 0 copies instead of 1"):
        strike(stage, SIGNUP, point, bug="mark_then_send")


@on_sqlite
def test_a_needless_copy_would_be_found(stage: Stage) -> None:
    """Senders that never mark what they have sent are found to send it twice."""
    with pytest.raises(AssertionError, match="sent without need: 2 copies instead of 1"):
        strike(stage, SIGNUP, NOWHERE, bug="never_mark")


@on_sqlite
def test_a_kill_that_did_not_happen_would_be_found(stage: Stage) -> None:
    """A point that no process comes to is found not to have killed any."""
    with pytest.raises(AssertionError, match="nobody was killed there"):
        strike(stage, SIGNUP, Point("on_the_moon", answered=True, committed=True))


def test_the_rest_of_a_claim_is_sent_once(stage: Stage) -> None:
    """Of the mails that a killed sender had claimed, only the one in hand is sent twice."""
    emails = _sign_up(stage, 5)
    child = stage.zygote.fork(("deliver", {}), at=ACTED)
    reached: list[str] = []
    stage.mails.hook = kill_at(sink.AFTER_DOT, child.pid, reached)

    assert [*child.messages()] == [{"exit": -signal.SIGKILL}]
    assert reached == [sink.AFTER_DOT]
    stage.zygote.do(("deliver", {}), at=RECOVERED)

    assert sorted(len(stage.mails.to(email)) for email in emails) == [1, 1, 1, 1, 2]
    assert all(len({copy.message_id for copy in stage.mails.to(email)}) == 1 for email in emails)


@pytest.mark.parametrize("point", [*BEFORE, *HANDED_OVER])
def test_F29_a_sender_that_sleeps_through_its_lease(stage: Stage, point: str) -> None:
    """Of the mails that a stopped sender had claimed, it sends at most the one in hand again, and marks none."""
    emails = _sign_up(stage, 4)
    sleeper = _Sleeper(stage, point)
    stage.zygote.do(("deliver", {}), at=RECOVERED)
    marks = _marks(stage, emails)

    sleeper.wake()
    stage.zygote.do(("deliver", {}), at=RECOVERED + 2 * LEASE.total_seconds())

    copies = [len(stage.mails.to(email)) for email in emails]
    assert min(copies) == 1
    assert (point in HANDED_OVER) <= sum(copies) - len(emails) <= 1
    assert _marks(stage, emails) == marks


def _sign_up(stage: Stage, number: int) -> list[str]:
    emails = [f"sleeper-{secrets.token_hex(8)}@example.com" for _ in range(number)]
    stage.zygote.do(*[("signup", {"email": email}) for email in emails], at=ACTED)
    return emails


def _marks(stage: Stage, emails: list[str]) -> list[tuple[object, ...]]:
    """Return what each mail's row says of who has sent it, which must be one who was not asleep."""
    rows = [row for email in emails for row in stage.mail_rows(email)]
    assert {(row.state, row.lease_id) for row in rows} == {(SENT, None)}
    return [(row.sent_at, row.attempts) for row in rows]


class _Sleeper:
    """A sender that is stopped at a point."""

    def __init__(self, stage: Stage, point: str) -> None:
        self._stage = stage
        self._awake = threading.Event()
        self._child = stage.zygote.fork(("deliver", {}), at=ACTED, point=point, number=signal.SIGSTOP)
        self._point = point
        self._is_asleep = False
        stage.mails.hook = self._stop
        self._messages = self._child.messages()
        assert {"stopped": True} in self._messages
        self._is_asleep = True

    async def _stop(self, step: str) -> None:
        """Stop the sender when the mail server is at the point, and answer it when it is awake."""
        if step == self._point and not self._is_asleep:
            os.kill(self._child.pid, signal.SIGSTOP)
            await asyncio.get_running_loop().run_in_executor(None, self._awake.wait, 30)

    def wake(self) -> None:
        """Let it go on, and wait until it has ended as if nothing had been."""
        self._stage.mails.hook = None
        self._awake.set()
        os.kill(self._child.pid, signal.SIGCONT)
        *_, end = self._messages
        assert end == {"exit": 0}
