"""Requests that meet in a real server: of many that want the same thing at once, the right number gets it."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from flask import Flask
from live_server import AppServer, Mail, wait_until
from live_visitors import Answer, LiveProgram, Shot, ask_for_reset, join, posting, sign_up, volley
from support import OTHER_PASSWORD, PASSWORD

from example_app import create_app
from example_app.models import accounts, db

pytestmark = pytest.mark.slow

ROUNDS = 3

TABLES = accounts.tables


@pytest.fixture
def email() -> str:
    """An address that nobody has."""
    return f"{uuid.uuid4().hex}@example.com"


@pytest.fixture
def operator(live: AppServer) -> Iterator[Flask]:
    """The app as an operator's script has it, on the server's database."""
    app = create_app({**live.settings, "ACCOUNTFLOW_MAIL_KICK": "worker"})
    yield app
    with app.app_context():
        db.engine.dispose()


def _password(number: int) -> str:
    return f"battery number {number} of the horse"


def _codes(answers: list[Answer]) -> Counter[tuple[int, str]]:
    return Counter((answer.status_code, answer.json.get("code") or answer.json.get("status")) for answer in answers)


def _user(engine: sa.Engine, email: str) -> Any:
    with engine.connect() as connection:
        return connection.execute(sa.select(TABLES.user).where(TABLES.user.c.email_key == email)).one()


def _reset_link_is_used(engine: sa.Engine, email: str) -> bool:
    token = TABLES.token
    statement = sa.select(token.c.used_at).where(token.c.email_key == email, token.c.purpose == "reset")
    with engine.connect() as connection:
        return connection.execute(statement).scalar_one() is not None


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_RST_07_fifty_redemptions_of_one_reset_link(live: AppServer, email: str, round_number: int) -> None:
    """Of fifty redemptions of one reset link at once one wins, and its password alone works afterwards."""
    join(live, email)
    link = ask_for_reset(live, email)

    answers = volley([posting(live, link, {"password": _password(number)}) for number in range(50)])

    assert Counter(answer.status_code for answer in answers) == {200: 1, 410: 49}
    assert {answer.json["code"] for answer in answers if answer.status_code == 410} == {"token_used"}
    winner = next(number for number, answer in enumerate(answers) if answer.status_code == 200)
    visitor = LiveProgram(live)
    working = [number for number in range(50) if visitor.login(email, _password(number)).status_code == 200]
    assert working == [winner]
    assert visitor.login(email, PASSWORD).status_code == 401


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_VER_04_fifty_confirmations_by_one_link(live: AppServer, email: str, round_number: int) -> None:
    """Of fifty confirmations by one link at once one confirms; the others hear that it is done, and get no tokens."""
    link = sign_up(live, email)

    answers = volley([posting(live, link, {}) for _ in range(50)])

    assert _codes(answers) == {(200, "verified"): 1, (200, "already_verified"): 49}
    assert all(answer.json["access_token"] is None and answer.json["user"] is None for answer in answers)
    assert LiveProgram(live).login(email).status_code == 200


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_SUP_14_thirty_signups_of_one_address(
    live: AppServer, live_engine: sa.Engine, email: str, round_number: int
) -> None:
    """Thirty sign-ups of one address at once are answered alike, and come to one account and one mail."""
    # One mail in each minute of the clock: a volley across the end of one may come to two.
    wait_until(lambda: time.time() % 60 < 55, "the minute is young")
    shots = [posting(live, "/auth/signup", {"email": email, "password": _password(number)}) for number in range(30)]

    answers = volley(shots)

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.data for answer in answers}) == 1
    assert len({_masked(answer) for answer in answers}) == 1
    assert _user(live_engine, email).email_verified_at is None
    live.mail.wait_for(email)
    mail = TABLES.mail
    states = sa.select(mail.c.state).join(TABLES.user, TABLES.user.c.id == mail.c.user_id)
    with live_engine.connect() as connection:
        found = Counter(connection.execute(states.where(TABLES.user.c.email_key == email)).scalars())
    assert found["dropped"] == 29
    assert found["pending"] + found["sent"] == 1
    assert len(live.mail.mails(email)) == 1


def _masked(answer: Answer) -> tuple[tuple[str, str], ...]:
    """Return the headers but for the time."""
    return tuple((name, value) for name, value in answer.headers.items() if name != "Date")


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_REF_03_twenty_refreshes_of_one_token(live: AppServer, email: str, round_number: int) -> None:
    """Of twenty refreshes of one token at once one wins at most, and then the family is over."""
    join(live, email)
    visitor = LiveProgram(live)
    pair = visitor.login(email)
    shot = posting(live, "/auth/refresh", {"refresh_token": pair.json["refresh_token"]})

    answers = volley([shot] * 20)

    counted = Counter(answer.status_code for answer in answers)
    assert set(counted) <= {200, 401}
    assert counted[200] <= 1
    assert visitor.me(pair).status_code == 401
    for winner in (answer for answer in answers if answer.status_code == 200):
        again = visitor.post("/auth/refresh", {"refresh_token": winner.json["refresh_token"]})
        assert again.status_code == 401


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_SES_14_refreshes_while_all_others_are_ended(live: AppServer, email: str, round_number: int) -> None:
    """When somebody ends all other logins while these are refreshed, none of their tokens works afterwards."""
    join(live, email)
    visitor = LiveProgram(live)
    here, others = visitor.login(email), [visitor.login(email) for _ in range(8)]
    ending = posting(live, "/auth/sessions", {}, method="DELETE", token=here.json["access_token"])
    refreshes = [posting(live, "/auth/refresh", {"refresh_token": pair.json["refresh_token"]}) for pair in others]

    ended, *answers = volley([ending, *refreshes, *refreshes])

    assert ended.status_code == 204
    assert {answer.status_code for answer in answers} <= {200, 401}
    pairs = [*others, *(answer for answer in answers if answer.status_code == 200)]
    assert {visitor.me(pair).status_code for pair in pairs} == {401}
    assert {_refresh(visitor, pair).status_code for pair in pairs} == {401}
    assert visitor.me(here).status_code == 200
    assert _refresh(visitor, here).status_code == 200


def _refresh(visitor: LiveProgram, pair: Any) -> Any:
    return visitor.post("/auth/refresh", {"refresh_token": pair.json["refresh_token"]})


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_SES_14_two_who_end_all_others(live: AppServer, email: str, round_number: int) -> None:
    """When each of several logins ends all others at once, nothing fails, and at most one of them goes on."""
    join(live, email)
    visitor = LiveProgram(live)
    pairs = [visitor.login(email) for _ in range(6)]

    answers = volley(
        [posting(live, "/auth/sessions", {}, method="DELETE", token=pair.json["access_token"]) for pair in pairs]
    )

    assert {answer.status_code for answer in answers} <= {204, 401}
    assert [visitor.me(pair).status_code for pair in pairs].count(200) <= 1


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_a_login_is_renewed_once(live: AppServer, live_engine: sa.Engine, email: str, round_number: int) -> None:
    """Of several renewals of one login at once one wins; its pair is good, the old one dead, and no other opened."""
    join(live, email)
    visitor = LiveProgram(live)
    pair = visitor.login(email)
    shot = posting(live, "/auth/login/fresh", {"password": PASSWORD}, token=pair.json["access_token"])

    answers = volley([shot] * 6)

    assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 5}
    assert {answer.json["code"] for answer in answers if answer.status_code == 401} == {"authentication_required"}
    winner = next(answer for answer in answers if answer.status_code == 200)
    assert visitor.me(winner).status_code == 200
    assert visitor.me(pair).status_code == _refresh(visitor, pair).status_code == 401
    assert _opened(live_engine, email) == 2
    assert _refresh(visitor, winner).status_code == 200


def _opened(engine: sa.Engine, email: str) -> int:
    session, user = TABLES.session, TABLES.user
    statement = sa.select(sa.func.count()).select_from(session.join(user, user.c.id == session.c.user_id))
    with engine.connect() as connection:
        return int(connection.execute(statement.where(user.c.email_key == email)).scalar_one())


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_SES_11_logins_during_a_reset(live: AppServer, email: str, round_number: int) -> None:
    """A login with the old password that meets a reset does not outlive it."""
    join(live, email)
    link = ask_for_reset(live, email)
    login = posting(live, "/auth/login", {"email": email, "password": PASSWORD})

    reset, *logins = volley([posting(live, link, {"password": OTHER_PASSWORD}), *[login] * 20])

    assert reset.status_code == 200
    assert {answer.status_code for answer in logins} <= {200, 401}
    visitor = LiveProgram(live)
    opened = [answer for answer in logins if answer.status_code == 200]
    assert {visitor.me(answer).status_code for answer in opened} <= {401}
    assert visitor.me(reset).status_code == 200
    assert visitor.login(email, PASSWORD).status_code == 401
    assert visitor.login(email, OTHER_PASSWORD).status_code == 200


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_RST_18_a_reset_and_a_confirmation(live: AppServer, email: str, round_number: int) -> None:
    """When a reset and a confirmation of one sign-up meet, one of them is done, and the other not at all."""
    verify, reset = sign_up(live, email), ask_for_reset(live, email)
    shots = [posting(live, verify, {}), posting(live, reset, {"password": OTHER_PASSWORD})]

    confirmed, changed = volley(shots)

    assert sorted((confirmed.status_code, changed.status_code)) == [200, 410]
    visitor = LiveProgram(live)
    works = [visitor.login(email, password).status_code == 200 for password in (PASSWORD, OTHER_PASSWORD)]
    assert works == [confirmed.status_code == 200, changed.status_code == 200]
    loser = confirmed if confirmed.status_code == 410 else changed
    assert loser.json["code"] == "token_superseded"


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_RST_16_a_reset_while_the_account_is_disabled(
    live: AppServer, live_engine: sa.Engine, operator: Flask, email: str, round_number: int
) -> None:
    """A reset that meets an operator's disabling is done whole or not at all, and never undoes that."""
    join(live, email)
    link = ask_for_reset(live, email)
    before = _user(live_engine, email)

    def disable(go: Callable[[], Any]) -> None:
        with operator.app_context():
            go()
            accounts.disable_user(email)

    shots: list[Shot[Any]] = [disable, *[posting(live, link, {"password": OTHER_PASSWORD})] * 5]
    _, *answers = volley(shots)

    counted = Counter(answer.status_code for answer in answers)
    after = _user(live_engine, email)
    assert counted in ({200: 1, 410: 4}, {410: 5})
    assert not after.is_active
    assert (after.password_hash != before.password_hash) == bool(counted[200])
    assert _reset_link_is_used(live_engine, email) == bool(counted[200])


def _ask_to_move(live: AppServer, email: str, to: str) -> str:
    """Ask for another address with a login of one's own, and return the path of the link that was mailed there."""
    visitor = LiveProgram(live)
    token = visitor.login(email).json["access_token"]
    body = {"new_email": to, "current_password": PASSWORD}
    answer = visitor.post("/auth/email/change", body, authorization=f"Bearer {token}")
    assert answer.status_code == 202, answer.text
    return urlsplit(live.mail.link(to, "email/confirm")).path


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_VER_04_thirty_confirmations_of_a_new_address(live: AppServer, email: str, round_number: int) -> None:
    """Of thirty confirmations of one new address at once one moves the account; one link that undoes it is mailed,
    and of thirty uses of that one brings the address back."""
    join(live, email)
    new = f"new-{email}"
    link = _ask_to_move(live, email, new)

    moves = volley([posting(live, link, {})] * 30)
    undo = urlsplit(live.mail.link(email, "email/revert")).path
    returns = volley([posting(live, undo, {})] * 30)

    assert Counter(answer.status_code for answer in moves) == {200: 1, 410: 29}
    assert Counter(answer.status_code for answer in returns) == {200: 1, 410: 29}
    assert {answer.json["code"] for answer in (*moves, *returns) if answer.status_code == 410} == {"token_used"}
    assert LiveProgram(live).reset(ask_for_reset(live, email)).status_code == 200
    assert [LiveProgram(live).login(one, OTHER_PASSWORD).status_code for one in (email, new)] == [200, 401]


def test_SUP_22_many_accounts_want_one_address(live: AppServer, live_engine: sa.Engine, email: str) -> None:
    """Of four accounts that confirm one address at once one gets it, and the others lose nothing."""
    owners = [f"{number}-{email}" for number in range(4)]
    links: list[str] = []
    for owner in owners:
        join(live, owner)
        _ask_to_move(live, owner, email)
        mails = wait_until(partial(_several, live, email, len(links) + 1), "the mail arrives")
        links += {urlsplit(link).path for mail in mails for link in mail.links} - {*links}
        _forget_the_caps(live_engine, email)

    answers = volley([posting(live, link, {}) for link in links])

    assert Counter(answer.status_code for answer in answers) == {200: 1, 410: 3}
    assert {answer.json["code"] for answer in answers if answer.status_code == 410} == {"token_superseded"}
    visitor = LiveProgram(live)
    moved = [answer.status_code == 200 for answer in answers]
    assert [visitor.login(owner).status_code == 401 for owner in owners] == moved
    assert visitor.login(email).status_code == 200


def _several(live: AppServer, email: str, number: int) -> list[Mail] | None:
    found = live.mail.mails(email, "email/confirm")
    return found if len(found) == number else None


def _forget_the_caps(engine: sa.Engine, email: str) -> None:
    """Let the mails of an address be two days old."""
    mail = TABLES.mail
    with engine.begin() as connection:
        past = datetime.now(timezone.utc) - timedelta(days=2)
        connection.execute(sa.update(mail).where(mail.c.to_addr == email).values(created_at=past))


def test_a_password_is_changed_once(live: AppServer, email: str) -> None:
    """Of several changes of a password by one login at once one is made; its password and its pair alone work."""
    join(live, email)
    visitor = LiveProgram(live)
    token = visitor.login(email).json["access_token"]
    bodies = [{"current_password": PASSWORD, "new_password": _password(number)} for number in range(6)]

    answers = volley([posting(live, "/auth/password/change", body, token=token) for body in bodies])

    assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 5}
    winner = next(number for number, answer in enumerate(answers) if answer.status_code == 200)
    assert visitor.me(answers[winner]).status_code == 200
    works = [number for number in range(6) if visitor.login(email, _password(number)).status_code == 200]
    assert works == [winner]
