"""The caps of mails in a real server of three processes: exact when many ask at once, and silent."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from live_server import AppServer, wait_until
from live_visitors import LivePerson, LiveProgram, Shot, join, posting, sign_up, volley
from support import PASSWORD

from example_app.models import accounts

pytestmark = pytest.mark.slow

MAIL = accounts.tables.mail
#: What may be asked for without being logged in: the address, and the kind of mail that comes of it.
ASKED = {"/auth/signup": "verify", "/auth/verify/resend": "verify", "/auth/password-reset/request": "reset"}


@pytest.fixture
def email() -> str:
    """An address that nobody has."""
    return f"{uuid.uuid4().hex}@example.com"


def filling_in(live: AppServer, path: str, data: dict[str, Any]) -> Shot[Any]:
    """Return a shot of a person who has opened the page already, and sends the form."""
    person = LivePerson(live)
    page = person.get(path)

    def shoot(go: Callable[[], Any]) -> Any:
        go()
        return person.submit(page, **data)

    return shoot


def later(engine: sa.Engine, seconds: int) -> None:
    """Let time pass for the mails: all of them are so much older now."""
    with engine.begin() as connection:
        for row in connection.execute(sa.select(MAIL.c.id, MAIL.c.created_at)).all():
            older = row.created_at - timedelta(seconds=seconds)
            connection.execute(sa.update(MAIL).where(MAIL.c.id == row.id).values(created_at=older))


def rows_of(engine: sa.Engine, email: str, kind: str) -> Counter[str | None]:
    """Count the mails of a kind to an address by why they were not sent; those that were have None."""
    with engine.connect() as connection:
        sent = sa.select(MAIL.c.to_key).where(MAIL.c.to_addr == email).limit(1)
        key = connection.execute(sent).scalar_one()
        statement = sa.select(MAIL.c.last_error).where(MAIL.c.to_key == key, MAIL.c.template == kind)
        return Counter(connection.execute(statement).scalars())


@pytest.mark.parametrize("path", ASKED)
def test_F19_thirty_requests_at_once_are_one_mail(
    live: AppServer, live_engine: sa.Engine, email: str, path: str
) -> None:
    """Of thirty people and programs that ask for the same at once, all get their one answer, and one mail is sent."""
    kind, data = ASKED[path], {"email": email}
    before = 0
    if path == "/auth/signup":
        data["password"] = PASSWORD
    elif kind == "reset":
        join(live, email)
    else:
        sign_up(live, email)
        later(live_engine, 61)
        before = 1

    programs = [posting(live, path, data) for _ in range(15)]
    people = [filling_in(live, path, data) for _ in range(15)]
    answers = volley([*programs, *people])

    assert Counter(answer.status_code for answer in answers) == {202: 15, 303: 15}
    assert len({answer.data for answer in answers[:15]}) == 1
    link = f"/auth/{'password-reset' if kind == 'reset' else 'verify'}/"
    wait_until(lambda: len(live.mail.mails(email, link)) > before, "the mail arrives")
    assert rows_of(live_engine, email, kind) == {None: before + 1, "duplicate": 29}
    assert len(live.mail.mails(email, link)) == before + 1


def test_SUP_15_the_fourth_in_an_hour_is_silent(live: AppServer, live_engine: sa.Engine, email: str) -> None:
    """The fourth request in an hour is answered like the first and mails nothing, until the owner holds no link."""
    join(live, email)
    program, answers = LiveProgram(live), []
    for _ in range(5):
        answers.append(program.request_reset(email=email))
        later(live_engine, 61)
    capped = rows_of(live_engine, email, "reset")
    wait_until(lambda: len(_reset_links(live, email)) == 3, "three mails arrive")

    assert program.reset(live.mail.link(email, "password-reset").removeprefix(live.base_url)).status_code == 200
    program.request_reset(email=email)

    assert len({(answer.status_code, answer.data) for answer in answers}) == 1
    assert capped == {None: 3, "capped": 2}
    assert rows_of(live_engine, email, "reset") == {None: 4, "capped": 2}
    wait_until(lambda: len(_reset_links(live, email)) == 4, "one more mail arrives")


def _reset_links(live: AppServer, email: str) -> set[str]:
    """Return the links that set a password; the notice of a new one leads to the page that asks for another."""
    found = {link for mail in live.mail.mails(email) for link in mail.links if "/auth/password-reset/" in link}
    return {link for link in found if not link.endswith("/request")}
