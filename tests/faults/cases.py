"""What a process was doing when it was killed, where, and what must be true afterwards."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from faults import mortal_app, sink
from faults.sink import Copy, Sink
from faults.zygote import Zygote
from support import OTHER_PASSWORD, PASSWORD, Site

from flask_accountflow.store.queue import LEASE, PENDING, SENT

# Seconds after the start, by the clock of the app. A second mail of a kind must wait for a minute.
PREPARED, ACTED = 0, 61
RECOVERED = ACTED + LEASE.total_seconds() + 1
SETTLED = RECOVERED + 1


@dataclass(frozen=True)
class Point:
    """A moment in the life of a request and its mail, and what is true when its process has died there."""

    name: str
    #: Whether the client has seen a success, and whether there is one.
    answered: bool
    committed: bool
    #: What the mail's row says, where there is one, and whether somebody holds its lease.
    state: str = PENDING
    leased: bool = False
    #: How many copies there are in the end.
    copies: int = 1


POINTS = (
    Point(mortal_app.AFTER_WRITE, answered=False, committed=False, copies=0),
    Point(mortal_app.BEFORE_COMMIT, answered=False, committed=False, copies=0),
    Point(mortal_app.AFTER_COMMIT, answered=False, committed=True),
    Point(mortal_app.AFTER_CLAIM, answered=True, committed=True, leased=True),
    Point(sink.AFTER_CONNECT, answered=True, committed=True, leased=True),
    Point(sink.AFTER_RCPT, answered=True, committed=True, leased=True),
    Point(sink.AFTER_DOT, answered=True, committed=True, leased=True, copies=2),
    Point(mortal_app.AFTER_250, answered=True, committed=True, leased=True, copies=2),
    Point(mortal_app.AFTER_MARK, answered=True, committed=True, state=SENT),
)
#: Nobody is killed.
NOWHERE = Point("nowhere", answered=True, committed=True, state=SENT)

_IN_SINK = frozenset({sink.AFTER_CONNECT, sink.AFTER_RCPT, sink.AFTER_DOT})


class Stage:
    """The app on a database, its mail server, and a view of its tables from outside."""

    def __init__(self, zygote: Zygote, mails: Sink, site: Site) -> None:
        self.zygote = zygote
        self.mails = mails
        self.site = site

    def ask(self, at: float, *steps: tuple[str, dict[str, Any]], ahead: float = 0) -> list[str]:
        """Make requests, one after another, and return the word that says what came of each."""
        answers = [outcome["json"] for outcome in self.zygote.do(*steps, at=at, ahead=ahead)]
        return [str(answer.get("code", answer.get("status", "session"))) for answer in answers]

    def mail_rows(self, email: str) -> list[Any]:
        """Return the outbox's rows for an address, in order."""
        return sorted(self.site.rows("mail", to_addr=email), key=lambda row: row.id)

    def snapshot(self, email: str) -> list[Any]:
        """Return every row that has to do with an address."""
        account = self.site.account(email)
        if account is None:
            return []
        owned = [self.site.rows(table, user_id=account.id) for table in ("token", "session", "mail")]
        return [account, *(sorted(map(repr, rows)) for rows in owned)]


@contextmanager
def staging(engine: sa.Engine, folder: Path) -> Iterator[Stage]:
    """Yield the app on an empty database, ready to be killed."""
    uri = engine.url.render_as_string(hide_password=False)
    with Sink() as mails, Zygote(uri, mails.port, folder / "app.log") as zygote:
        site = Site(uri)
        try:
            yield Stage(zygote, mails, site)
        finally:
            site.close()


@dataclass(frozen=True)
class Flow:
    """Something that causes a mail. ``prepare`` returns the request that does; ``settle`` looks at what it came to."""

    name: str
    prepare: Callable[[Stage, str], tuple[str, dict[str, Any]]]
    settle: Callable[[Stage, str, str | None, Any], None]


def _path(link: str | None) -> str:
    assert link is not None, "the mail has no link"
    return urlsplit(link).path


def _prepare_signup(stage: Stage, email: str) -> tuple[str, dict[str, Any]]:
    return "signup", {"email": email}


def _settle_signup(stage: Stage, email: str, link: str | None, request: Any) -> None:
    if link is None:
        assert stage.site.account(email) is None
        assert stage.ask(SETTLED, request) == ["verification_required"]
        return
    verify = ("verify", {"link": _path(link)})
    assert stage.ask(SETTLED, verify, verify, _login(email)) == ["verified", "already_verified", "session"]


def _prepare_resend(stage: Stage, email: str) -> tuple[str, dict[str, Any]]:
    stage.zygote.do(("signup", {"email": email}), ("deliver", {}), at=PREPARED)
    return "resend", {"email": email}


def _settle_resend(stage: Stage, email: str, link: str | None, request: Any) -> None:
    # When there is no new link, the old one must still work.
    _settle_signup(stage, email, link or stage.mails.to(email)[0].link, request)


def _prepare_forgotten(stage: Stage, email: str) -> tuple[str, dict[str, Any]]:
    stage.zygote.do(("member", {"email": email}), at=PREPARED)
    return "request_reset", {"email": email}


def _settle_forgotten(stage: Stage, email: str, link: str | None, request: Any) -> None:
    assert stage.ask(SETTLED, _login(email)) == ["session"]
    if link is not None:
        _reset_once(stage, email, _path(link))


def _prepare_reset(stage: Stage, email: str) -> tuple[str, dict[str, Any]]:
    steps = (("member", {"email": email}), ("request_reset", {"email": email}), ("deliver", {}))
    stage.zygote.do(*steps, at=PREPARED)
    return "reset", {"link": _path(stage.mails.wait_for(email).link)}


def _settle_reset(stage: Stage, email: str, link: str | None, request: Any) -> None:
    assert link is None, "a notice has no link that could be used"
    [token] = stage.site.rows("token", user_id=stage.site.account(email).id, purpose="reset")
    old, new = stage.ask(SETTLED, _login(email), _login(email, OTHER_PASSWORD))
    if token.used_at is None:
        assert (old, new) == ("session", "invalid_credentials")
        _reset_once(stage, email, request[1]["link"])
    else:
        assert (old, new) == ("invalid_credentials", "session")
        assert stage.ask(SETTLED, request) == ["token_used"]


def _reset_once(stage: Stage, email: str, link: str) -> None:
    reset = ("reset", {"link": link})
    logins = _login(email), _login(email, OTHER_PASSWORD)
    expected = ["session", "token_used", "invalid_credentials", "session"]
    assert stage.ask(SETTLED, reset, reset, *logins) == expected


def _login(email: str, password: str = PASSWORD) -> tuple[str, dict[str, Any]]:
    return "login", {"email": email, "password": password}


FLOWS = (
    Flow("signup", _prepare_signup, _settle_signup),
    Flow("resend", _prepare_resend, _settle_resend),
    Flow("forgotten", _prepare_forgotten, _settle_forgotten),
    Flow("reset_notice", _prepare_reset, _settle_reset),
)


@dataclass(frozen=True)
class Found:
    """What was found after a process was killed, and after another one has delivered what was due."""

    #: How the process ended, and the points that it said to have reached.
    exit: int
    reached: tuple[str, ...]
    #: What the client saw; None when it saw nothing.
    status: int | None
    #: Whether the database was as if nothing had been asked; and if not, the mail's row.
    untouched: bool
    row: Any
    copies: tuple[Copy, ...]
    #: The mail's row in the end.
    last_row: Any


def strike(stage: Stage, flow: Flow, point: Point, bug: str | None = None) -> Found:
    """Kill a process at a point, check everything, and return what was found.

    Raises :exc:`AssertionError` with what does not hold.
    """
    email = f"{flow.name}-{secrets.token_hex(8)}@example.com"
    request = flow.prepare(stage, email)
    found = _strike(stage, request, point, email, bug)
    judge(found, point)
    assert_consistent(stage.site, email)
    flow.settle(stage, email, found.copies[0].link if found.copies else None, request)
    assert_consistent(stage.site, email)
    return found


def _strike(stage: Stage, request: Any, point: Point, email: str, bug: str | None) -> Found:
    before, rows, copies = stage.snapshot(email), stage.mail_rows(email), stage.mails.to(email)
    child = stage.zygote.fork(request, ("deliver_in_threads", {}), at=ACTED, point=point.name, bug=bug)
    reached: list[str] = []
    if point.name in _IN_SINK:
        stage.mails.hook = kill_at(point.name, child.pid, reached)
    *messages, end = child.messages()
    stage.mails.hook = None
    reached += [message["reached"] for message in messages if "reached" in message]
    after = stage.snapshot(email)
    new_rows = stage.mail_rows(email)[len(rows) :]
    assert len(new_rows) <= 1
    stage.zygote.do(("deliver", {}), at=RECOVERED)
    return Found(
        exit=end["exit"],
        reached=tuple(reached),
        status=next((message["status"] for message in messages if "status" in message), None),
        untouched=after == before,
        row=new_rows[0] if new_rows else None,
        copies=tuple(stage.mails.to(email)[len(copies) :]),
        last_row=next(iter(stage.mail_rows(email)[len(rows) :]), None),
    )


def kill_at(point: str, pid: int, reached: list[str]) -> Callable[[str], Awaitable[None]]:
    """Return a hook by which the mail server kills a process at a step of the dialogue, and notes it."""

    async def hook(step: str) -> None:
        if step == point and not reached:
            reached.append(step)
            os.kill(pid, signal.SIGKILL)

    return hook


def judge(found: Found, point: Point) -> None:
    """Check what was found against what must be true of the point."""
    if point is NOWHERE:
        assert (found.exit, found.reached) == (0, ())
    else:
        assert (found.exit, found.reached) == (-signal.SIGKILL, (point.name,)), "nobody was killed there"
    number = len(found.copies)
    assert number >= point.copies, f"lost: {number} copies instead of {point.copies}"
    assert number <= point.copies, f"sent without need: {number} copies instead of {point.copies}"
    assert {copy.message_id for copy in found.copies} == ({f"<{found.row.message_id}>"} if number else set())
    assert len({copy.link for copy in found.copies}) == min(number, 1)
    assert (found.status in {200, 202}) == point.answered, f"the client saw {found.status}"
    assert found.untouched != point.committed
    if point.committed:
        assert (found.row.state, found.row.lease_id is not None) == (point.state, point.leased)
        assert (found.last_row.state, found.last_row.lease_id) == (SENT, None)
    else:
        assert found.row is None


def assert_consistent(site: Site, email: str) -> None:
    """Check that each link of an address is unused, or used with its effect; and that no effect came without use."""
    account = site.account(email)
    if account is None:
        return
    tokens = site.rows("token", user_id=account.id)
    assert all((token.used_at is None) == (token.outcome is None) for token in tokens)
    redeemed = [token for token in tokens if token.outcome == "redeemed"]
    signs_up = any(token.purpose == "signup" for token in tokens)
    proofs = [token.used_at for token in redeemed] if signs_up else [account.created_at]
    assert account.email_verified_at == min(proofs, default=None)
    assert account.password_changed_at == max((token.used_at for token in redeemed), default=None)
