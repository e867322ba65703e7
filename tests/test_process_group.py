"""The processes that tests end."""

from __future__ import annotations

import sys
from pathlib import Path

from live_server import wait_until
from process_group import ProcessGroup

# Its child goes on for half a second after the signal, as one does that the kernel is still writing for.
_PARENT = """
import os, sys, time
from pathlib import Path
if os.fork():
    time.sleep(60)
os.setsid()
Path(sys.argv[1]).touch()
time.sleep(0.5)
Path(sys.argv[2]).touch()
"""


def test_nothing_of_a_group_is_left_when_it_was_killed(tmp_path: Path) -> None:
    began, ended = tmp_path / "began", tmp_path / "ended"
    group = ProcessGroup([sys.executable, "-c", _PARENT, str(began), str(ended)])
    wait_until(began.exists, "the child runs")

    group.kill_all()

    assert ended.exists()


def test_a_group_that_has_ended_by_itself_can_be_killed() -> None:
    group = ProcessGroup([sys.executable, "-c", ""])
    assert group.wait(30) == 0

    group.kill_all()
