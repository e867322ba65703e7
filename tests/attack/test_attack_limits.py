"""Attacks by trying often: guessing, spraying, flooding, and locking others out."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from attack.attacker import (
    OTHER_PASSWORD,
    PASSWORD,
    Browser,
    Program,
    Site,
    ask_reset,
    join,
    settle,
    shape,
    sign_up,
    some_email,
    some_network,
    volley,
)

pytestmark = pytest.mark.slow

#: A database of its own, so that no other test empties it.
REDIS = os.environ.get("ACCOUNTFLOW_TEST_REDIS_URL", "redis://127.0.0.1:6379/14")

# By the day, so that no window ends in the middle of a test.
LIMITS = {
    "ACCOUNTFLOW_RATELIMIT_ENABLED": True,
    "ACCOUNTFLOW_RATELIMIT_LOGIN": "10/day",
    "ACCOUNTFLOW_RATELIMIT_LOGIN_IP": "20/day",
    "ACCOUNTFLOW_RATELIMIT_TOKEN_IP": "20/day",
    "ACCOUNTFLOW_RATELIMIT_MAIL_IP": "60/day",
    "ACCOUNTFLOW_RESEND_AFTER": 1,
}


@pytest.fixture(scope="module")
def guarded(make_attacked: Callable[..., Site]) -> Site:
    """A site that counts tries, in all of its processes together."""
    parts = urlsplit(REDIS)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 6379), timeout=1).close()
    except OSError as error:
        if "redis" in os.environ.get("ACCOUNTFLOW_TEST_REQUIRE", ""):
            pytest.fail(f"Redis is required and does not answer at {REDIS}: {error}")
        pytest.skip(f"no Redis answers at {REDIS}: {error}")
    return make_attacked(SECRET_KEY=os.urandom(16).hex(), ACCOUNTFLOW_RATELIMIT_STORAGE_URI=REDIS, **LIMITS)


def _guess(site: Site, email: str, number: int, password: str = "a wrong guess") -> list[int]:
    """Log in so often, each time from another network, and return what was answered."""
    return [Program(site).login(email, password).status for _ in range(number)]


def test_RAT_01_an_address_can_be_guessed_ten_times(guarded: Site) -> None:
    """After ten wrong passwords the right one is refused, from wherever it comes; logins that are open go on."""
    email = join(guarded)
    owner = Browser(guarded)
    owner.login(email)

    assert _guess(guarded, email, 10) == [401] * 10
    assert _guess(guarded, email, 3, PASSWORD) == [429] * 3

    assert owner.is_in


def test_RAT_02_a_reset_by_mail_lets_the_owner_in(guarded: Site) -> None:
    """Who is locked out by strangers' guesses gets a reset link, and is let in by its new password."""
    email = join(guarded)
    _guess(guarded, email, 12)

    assert Program(guarded).reset(ask_reset(guarded, email)).status == 200

    assert Program(guarded).login(email, OTHER_PASSWORD).status == 200


def test_RAT_02_a_known_browser_has_its_own_tries(guarded: Site) -> None:
    """A browser that has logged in before is let in while strangers have used up the address's tries."""
    email = join(guarded)
    owner = Browser(guarded)
    owner.login(email)
    owner.logout()
    _guess(guarded, email, 12)

    assert Browser(guarded).login(email).status == 429
    assert owner.login(email).status == 303


def test_RAT_02_a_strangers_browser_is_not_known(guarded: Site) -> None:
    """The cookie of a browser that has logged in to one's own account gives no further tries at another's."""
    victim, own = join(guarded), join(guarded)
    thief = Browser(guarded)
    thief.login(own)
    device = thief.cookies["accountflow_device"]

    for _ in range(12):
        guess = Browser(guarded)
        guess.cookies = {"accountflow_device": device}
        guess.login(victim, "a wrong guess")

    last = Browser(guarded)
    last.cookies = {"accountflow_device": device}
    assert last.login(victim).status == 429


def test_RAT_03_RAT_09_the_limit_says_nothing_of_an_account(guarded: Site) -> None:
    """An address without an account is limited after as many tries, and in the same words."""
    known, unknown, pending = join(guarded), some_email(), some_email()
    sign_up(guarded, pending)

    assert _guess(guarded, known, 12) == _guess(guarded, unknown, 12) == _guess(guarded, pending, 12)

    answers = [Program(guarded).login(email) for email in (known, unknown, pending)]
    assert {answer.status for answer in answers} == {429}
    assert {int(answer.headers["Retry-After"]) > 0 for answer in answers} == {True}
    texts = [
        shape(answer, email, answer.headers["Retry-After"])[4]
        for answer, email in zip(answers, (known, unknown, pending), strict=True)
    ]
    assert texts[0] == texts[1] == texts[2]


@pytest.mark.parametrize("round_number", range(2))
def test_RAT_04_no_volley_passes_the_limit(guarded: Site, round_number: int) -> None:
    """In a volley on a limited address the right password is as good as refused, wherever it stands."""
    email = join(guarded)
    _guess(guarded, email, 10)
    words = [PASSWORD if number % 10 == 3 else f"a wrong guess {number}" for number in range(40)]
    random.shuffle(words)

    answers = volley((Program(guarded), "/auth/login", {"email": email, "password": word}) for word in words)

    assert {answer.status for answer in answers} == {429}


def test_RAT_04_RAT_13_a_volley_is_counted(guarded: Site) -> None:
    """Of forty guesses at once, in four processes, no more than the limit are looked at."""
    email = join(guarded)

    answers = volley(
        (Program(guarded), "/auth/login", {"email": email, "password": f"a wrong guess {number}"})
        for number in range(40)
    )

    assert {answer.status for answer in answers} <= {401, 429}
    assert [answer.status for answer in answers].count(401) <= 10


def test_RAT_05_ones_own_login_gives_no_new_tries(guarded: Site) -> None:
    """Whoever logs in to his own account between guesses at others' is still stopped."""
    own, network = join(guarded), some_network()
    answered = []

    for _ in range(12):
        Program(guarded, network).login(own)
        answered += [Program(guarded, network).login(some_email(), "a wrong guess").status for _ in range(2)]

    assert answered[:20] == [401] * 20
    assert set(answered[20:]) == {429}


SPOOFED = [
    "X-Forwarded-For",
    "Forwarded",
    "X-Real-IP",
    "CF-Connecting-IP",
    "True-Client-IP",
    "X-Client-IP",
    "X-Originating-IP",
    "X-Remote-Addr",
    "Via",
]


@pytest.mark.parametrize("header", SPOOFED)
def test_RAT_06_nobody_chooses_his_network(guarded: Site, header: str) -> None:
    """A header that names another address each time gives no further tries."""
    guesser = Program(guarded)

    answered = [
        guesser.post(
            "/auth/login", {"email": some_email(), "password": "a wrong guess"}, **{header: _claim(header, number)}
        ).status
        for number in range(22)
    ]

    assert answered[:20] == [401] * 20
    assert set(answered[20:]) == {429}


def _claim(header: str, number: int) -> str:
    return f"for=10.0.0.{number}" if header == "Forwarded" else f"10.0.0.{number}"


def test_RAT_06_behind_a_proxy_only_its_word_counts(make_attacked: Callable[..., Site]) -> None:
    """Behind one trusted proxy the address that this proxy has seen is counted, and what stood before it is not."""
    site = make_attacked(
        TRUSTED_PROXIES=1, ACCOUNTFLOW_RATELIMIT_STORAGE_URI=REDIS, SECRET_KEY=os.urandom(16).hex(), **LIMITS
    )

    def guess(claimed: str) -> int:
        body = {"email": some_email(), "password": "a wrong guess"}
        return Program(site).post("/auth/login", body, x_forwarded_for=claimed).status

    assert [guess(f"10.0.0.{number}, 192.0.2.9") for number in range(22)][20:] == [429, 429]
    assert guess("192.0.2.9, 192.0.2.10") == 401
    # A customer has a whole /64 of IPv6.
    assert [guess(f"2001:db8::{number:x}") for number in range(1, 23)][20:] == [429, 429]
    assert guess("2001:db8:0:1::1") == 401


def test_RAT_07_spraying_is_stopped(guarded: Site) -> None:
    """One password tried at many addresses from one network is stopped, and other networks go on."""
    email, network = join(guarded), some_network()

    answered = [Program(guarded, network).login(some_email(), "Summer2026 password").status for _ in range(25)]

    assert answered.count(401) == 20
    assert Program(guarded, network).login(email).status == 429
    assert Program(guarded).login(email).status == 200


def test_RAT_08_every_door_counts_together(guarded: Site) -> None:
    """Tries by the page, by JSON, and at other spellings of the address or the route are counted together."""
    email = join(guarded)
    doors: list[Callable[[], Any]] = [
        lambda: Program(guarded).login(email, "a wrong guess"),
        lambda: Browser(guarded).login(email, "a wrong guess"),
        lambda: Program(guarded).login(email.upper(), "a wrong guess"),
        lambda: Program(guarded).login(f" {email} ", "a wrong guess"),
        lambda: Program(guarded).post("//auth/login", {"email": email, "password": "a wrong guess"}),
        lambda: Program(guarded).post("/auth/login/", {"email": email, "password": "a wrong guess"}),
    ]

    for number in range(24):
        doors[number % len(doors)]()

    assert Program(guarded).login(email).status == 429
    assert Browser(guarded).login(email).status == 429


def test_RAT_08_a_fresh_login_is_counted_too(guarded: Site) -> None:
    """Who holds a copied cookie cannot guess the password where it is asked for again."""
    email = join(guarded)
    token = Program(guarded).login(email).json["access_token"]

    answered = [
        Program(guarded).post("/auth/login/fresh", {"password": "a wrong guess"}, token).status for _ in range(12)
    ]

    assert answered[:10] == [422] * 10
    assert set(answered[10:]) == {429}
    assert Program(guarded).post("/auth/login/fresh", {"password": PASSWORD}, token).status == 429


@pytest.mark.parametrize("path", ["/auth/password/change", "/auth/email/change"])
def test_RAT_08_SES_19_the_password_of_a_change_is_counted_too(guarded: Site, path: str) -> None:
    """Nor where it is asked for before a change; and who has used up the tries there has none left at the login."""
    email = join(guarded)
    token = Program(guarded).login(email).json["access_token"]
    wanted = {"new_password": OTHER_PASSWORD, "new_email": some_email()}

    answered = [
        Program(guarded).post(path, {**wanted, "current_password": "a wrong guess"}, token).status for _ in range(12)
    ]

    assert answered == [422] * 10 + [429] * 2
    assert Program(guarded).post(path, {**wanted, "current_password": PASSWORD}, token).status == 429
    assert Program(guarded).login(email).status == 429


def test_RST_20_links_cannot_be_guessed(guarded: Site) -> None:
    """After twenty tokens that are none a network is stopped, and another one opens its link."""
    email = join(guarded)
    link, guesser = ask_reset(guarded, email), Program(guarded)

    answered = [guesser.reset(f"/auth/password-reset/{number}.x.y").status for number in range(22)]

    assert answered == [400] * 20 + [429] * 2
    assert guesser.reset(link).status == 429
    assert Program(guarded).reset(link).status == 200


def test_RST_20_refresh_tokens_cannot_be_guessed(guarded: Site) -> None:
    """After twenty refresh tokens that are none a network is stopped."""
    guesser = Program(guarded)

    assert [guesser.refresh(f"{number}.x").status for number in range(22)] == [401] * 20 + [429] * 2


def test_SUP_15_nobody_is_mailed_to_death(guarded: Site) -> None:
    """However many networks ask for mails to one address, few are sent, and all are answered alike; a reset goes on."""
    email = join(guarded)
    before = len(guarded.mail.mails(email))

    answers = [Program(guarded).signup(email, f"a horse number {number}") for number in range(40)]
    answers += [Program(guarded).post("/auth/verify/resend", {"email": email}) for _ in range(40)]

    assert {answer.status for answer in answers} == {202}
    settle(guarded)
    # Three of each kind in an hour.
    assert len(guarded.mail.mails(email)) - before <= 6
    assert Program(guarded).reset(ask_reset(guarded, email)).status == 200


def test_SUP_15_a_network_causes_so_many_mails(guarded: Site) -> None:
    """One network can cause mails to sixty addresses, and then none; another network is served."""
    network = some_network()

    answered = [Program(guarded, network).ask_reset(some_email()).status for _ in range(62)]

    assert answered == [202] * 60 + [429] * 2
    assert Program(guarded).ask_reset(some_email()).status == 202


def test_RAT_10_a_dead_store_opens_no_door(make_attacked: Callable[..., Site]) -> None:
    """While the store of the counts is down each process counts alone, to half: guessing ends, and nothing fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        dead = f"redis://127.0.0.1:{probe.getsockname()[1]}/0"
    site = make_attacked(ACCOUNTFLOW_RATELIMIT_STORAGE_URI=dead, **LIMITS)
    email = join(site)

    answered = _guess(site, email, 60)

    assert set(answered) == {401, 429}
    # Four processes, half of ten each.
    assert answered.count(401) <= 20
    assert "Traceback" not in site.log()


def test_PWD_14_a_flood_of_logins_stops_nobody_else(make_attacked: Callable[..., Site]) -> None:
    """While sixty log in at once, most are told to come back, and who is logged in is served at once."""
    site = make_attacked(ACCOUNTFLOW_BCRYPT_ROUNDS=10, ACCOUNTFLOW_HASH_QUEUE=1, ACCOUNTFLOW_HASH_WAIT=5)
    member = Browser(site)
    member.login(join(site))

    answers = volley((Program(site), "/auth/login", {"email": some_email(), "password": PASSWORD}) for _ in range(60))

    assert {answer.status for answer in answers} <= {401, 503}
    assert all("Retry-After" in answer.headers for answer in answers if answer.status == 503)
    assert [answer.status for answer in answers].count(503) > 20
    assert member.is_in
