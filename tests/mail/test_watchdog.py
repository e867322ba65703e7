"""The bound on how long one mail may take."""

from __future__ import annotations

import threading

import pytest

from flask_accountflow.mail.watchdog import Watchdog


def watchers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "accountflow-watchdog"}


def test_a_block_that_takes_too_long() -> None:
    """What takes too long is told to end; what was done in time is not, nor what began later."""
    watchdog, ended = Watchdog(0.5), threading.Event()
    spared = threading.Event()
    with watchdog.over(spared.set):
        pass
    with watchdog.over(ended.set):
        assert ended.wait(5)
        with watchdog.over(spared.set):
            pass

    assert not spared.is_set()


def test_one_thread_for_all() -> None:
    """One thread watches all blocks, and ends when there are none; another one watches the next."""
    watchdog, others = Watchdog(0.3), watchers()
    for _ in range(2):
        with watchdog.over(lambda: None), watchdog.over(lambda: None):
            [thread] = watchers() - others
        thread.join(5)
        assert not thread.is_alive()


def test_an_end_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """A connection that cannot be shut is logged, and the next one is shut all the same."""
    watchdog, ended = Watchdog(0.2), threading.Event()

    def fail() -> None:
        raise OSError("no such socket")

    with watchdog.over(fail), watchdog.over(ended.set):
        assert ended.wait(5)

    assert "could not be shut" in caplog.text
