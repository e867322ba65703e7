"""Processes whose clocks differ by ten minutes, and what that does to mails, links and logins."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from databases import database
from faults import mortal_app
from faults.cases import ACTED, Stage, staging
from support import PASSWORD

from flask_accountflow.store.queue import LEASE

pytestmark = pytest.mark.slow

TEN_MINUTES = 600
DAY = 86_400
MONTH = 30 * DAY
each_way = pytest.mark.parametrize("ahead", [TEN_MINUTES, -TEN_MINUTES], ids=["ahead", "behind"])


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The app on SQLite, PostgreSQL in turn."""
    folder = tmp_path_factory.mktemp(request.param)
    with database(request.param, folder) as engine, staging(engine, folder) as made:
        yield made
        assert "Traceback" not in made.zygote.log.read_text()


@pytest.fixture
def email() -> str:
    """An address that nobody has."""
    return f"{secrets.token_hex(8)}@example.com"


def link_to(stage: Stage, email: str) -> str:
    """Return the path of the link in the one mail to an address; copies have the same."""
    [link] = {copy.link for copy in stage.mails.to(email)}
    return urlsplit(link or "").path


def refresh(token: str) -> tuple[str, dict[str, Any]]:
    """Return the step that refreshes a token."""
    return "post", {"path": "/auth/refresh", "data": {"refresh_token": token}}


@each_way
def test_F17_a_mail_waits_as_long_as_clocks_differ_at_most(stage: Stage, email: str, ahead: float) -> None:
    """A mail that a process with a wrong clock wrote is sent once: at once, or when the worker's clock is there."""
    stage.zygote.do(("signup", {"email": email}), at=ACTED, ahead=ahead)

    stage.zygote.do(("deliver", {}), at=ACTED + 1)
    early = len(stage.mails.to(email))
    stage.zygote.do(("deliver", {}), at=ACTED + TEN_MINUTES + 1)

    assert (early, len(stage.mails.to(email))) == (0 if ahead > 0 else 1, 1)
    assert stage.ask(ACTED, ("verify", {"link": link_to(stage, email)}), ahead=-ahead) == ["verified"]


@each_way
@pytest.mark.parametrize(("purpose", "life"), [("signup", DAY), ("request_reset", 3600)])
def test_F17_a_link_lives_no_longer_than_clocks_differ(
    stage: Stage, email: str, ahead: float, purpose: str, life: int
) -> None:
    """A link that a process with a wrong clock made ends by that clock: ten minutes early or late, and no more."""
    if purpose == "request_reset":
        stage.zygote.do(("member", {"email": email}), at=0)
    stage.zygote.do((purpose, {"email": email}), ("deliver", {}), at=ACTED, ahead=ahead)
    link, end = link_to(stage, email), ACTED + ahead + life

    late = stage.ask(end + 1, ("open", {"link": link}))
    in_time = stage.ask(end - 1, ("open", {"link": link}))

    assert (late, in_time) == (["token_expired"], ["valid" if purpose == "request_reset" else "pending"])


@pytest.mark.parametrize("point", [mortal_app.AFTER_CLAIM, mortal_app.AFTER_250])
@each_way
def test_F17_two_senders_whose_clocks_differ(stage: Stage, email: str, ahead: float, point: str) -> None:
    """A sender whose clock is ahead is left alone; of one whose clock is behind the mail in hand is sent once more."""
    stage.zygote.do(("signup", {"email": email}), at=ACTED, ahead=-TEN_MINUTES)
    slow = stage.zygote.fork(("deliver", {}), at=ACTED, ahead=ahead, point=point, number=signal.SIGSTOP)
    messages = slow.messages()
    assert {"stopped": True} in messages

    stage.zygote.do(("deliver", {}), at=ACTED)
    os.kill(slow.pid, signal.SIGCONT)
    assert list(messages)[-1] == {"exit": 0}

    copies = stage.mails.to(email)
    assert len(copies) == (1 if ahead > 0 else 2)
    assert len({copy.message_id for copy in copies}) == 1
    verify = ("verify", {"link": link_to(stage, email)})
    assert stage.ask(ACTED, verify, verify) == ["verified", "already_verified"]


@each_way
def test_F17_a_dead_senders_mail_is_sent_when_its_lease_is_over(stage: Stage, email: str, ahead: float) -> None:
    """A sender that dies with a wrong clock holds its mail for no longer than the lease and what the clocks differ."""
    stage.zygote.do(("signup", {"email": email}), at=ACTED, ahead=-TEN_MINUTES)
    *_, last = stage.zygote.fork(("deliver", {}), at=ACTED, ahead=ahead, point=mortal_app.AFTER_CLAIM).messages()
    assert last == {"exit": -signal.SIGKILL}

    stage.zygote.do(("deliver", {}), at=ACTED + max(ahead, 0) + LEASE.total_seconds() + 1)

    assert len(stage.mails.to(email)) == 1


def test_F17_a_clock_that_goes_back_brings_nothing_back(stage: Stage, email: str) -> None:
    """For a process whose clock is behind, what was used is used, what has ended is over, and a family ends in time."""
    login = ("login", {"email": email, "password": PASSWORD})
    stage.zygote.do(("signup", {"email": email}), ("deliver", {}), at=ACTED)
    verify = ("verify", {"link": link_to(stage, email)})
    _, *pairs = [outcome["json"] for outcome in stage.zygote.do(verify, login, login, at=ACTED)]
    used, other = (pair["refresh_token"] for pair in pairs)
    [successor] = stage.zygote.do(refresh(used), at=ACTED, ahead=TEN_MINUTES)
    stale = [verify, refresh(used), refresh(successor["json"]["refresh_token"])]

    answers = stage.ask(ACTED, *stale, ahead=-TEN_MINUTES)
    [newer] = stage.zygote.do(refresh(other), at=ACTED + 20 * DAY, ahead=-TEN_MINUTES)
    late = stage.ask(ACTED + MONTH + TEN_MINUTES, refresh(newer["json"]["refresh_token"]), ahead=-TEN_MINUTES)

    assert (answers, late) == (["already_verified", "token_invalid", "token_invalid"], ["token_invalid"])
