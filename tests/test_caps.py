"""The caps of mails, as people and programs meet them, and across the end of a minute."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from shop import VIC, Desk, Shop
from support import PASSWORD, START, Person, Program, Site

from flask_accountflow.identity import Address
from flask_accountflow.store.outbox import Draft

TESTS = Path(__file__).parent
EMAIL = "vic@example.com"
MINUTE, HOUR = 60, 3600
#: The last second of a minute, and the first of the next one.
LAST, FIRST = START + timedelta(seconds=59), START + timedelta(seconds=60)


def mailed(site: Site) -> Counter[str]:
    """Return how many mails of each kind were sent."""
    return Counter(letter.template for letter in site.letters)


# What people and programs meet.


def test_F19_one_mail_a_minute_wherever_the_minute_begins(site: Site, visitor: Program | Person) -> None:
    """Who asks in the last second of a minute and again in the first of the next gets one mail, and the same answer."""
    site.member(EMAIL)
    site.clock.now = LAST
    first = visitor.request_reset(email=EMAIL)
    site.clock.now = FIRST
    second = visitor.request_reset(email=EMAIL)

    assert mailed(site) == {"reset": 1}
    assert (first.status_code, first.data) == (second.status_code, second.data)


def test_SUP_15_a_link_that_was_used_leaves_room_for_another(site: Site, visitor: Program | Person) -> None:
    """Who has used his link gets another one in spite of the cap, and of each change he is told: notices know none."""
    site.member(EMAIL)

    for number in range(6):
        site.clock.tick(61)
        visitor.request_reset(email=EMAIL)
        assert visitor.reset(site.last_link, f"{PASSWORD} {number}").status_code in {200, 303}

    assert mailed(site) == {"reset": 6, "password_changed": 6}


def test_SUP_15_a_stranger_who_asks_all_day_locks_nobody_out(site: Site, visitor: Program | Person) -> None:
    """However a stranger uses up the caps of an address, its owner always holds a link that works, or gets one."""
    site.member(EMAIL)
    stranger, works = type(visitor)(site), []

    for step in range(6 * 26):  # every ten minutes for more than a day
        stranger.request_reset(email=EMAIL)
        if step % 6 == 5:
            site.clock.tick(61)
            visitor.request_reset(email=EMAIL)
            works.append(visitor.open(site.last_link).status_code)
            site.clock.tick(-61)
        site.clock.tick(10 * MINUTE)

    assert works == [200] * 26
    # Three, and from then on one whenever the last link has ended.
    assert mailed(site)["reset"] <= 10 + 26
    assert visitor.reset(site.last_link).status_code in {200, 303, 410}


# Two processes on either side of the end of a minute.


class Asker:
    """A process that asks for resets by a clock of its own."""

    def __init__(self, uri: str, moment: datetime) -> None:
        command = [sys.executable, str(TESTS / "cap_asker.py"), uri, moment.isoformat(), "4"]
        paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        self._process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": paths}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read(self) -> str:
        """Return the next line that it prints."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def ask(self, address: str) -> None:
        """Have all its threads ask."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{address}\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """End the process."""
        try:
            self._process.communicate(timeout=20)
        finally:
            self._process.kill()
            self._process.wait()


@contextmanager
def askers(uri: str, *moments: datetime) -> Iterator[list[Asker]]:
    """Start a process for each clock, and wait until all are ready."""
    started = [Asker(uri, moment) for moment in moments]
    try:
        assert [one.read() for one in started] == ["ready"] * len(started)
        yield started
    finally:
        for one in started:
            one.end()


@pytest.mark.slow
def test_F19_two_processes_at_the_end_of_a_minute(make_site: Callable[..., Site], database_uri: str) -> None:
    """Of many requests in two processes, whose clocks stand on either side of a minute's end, one is mailed."""
    site = make_site({"ACCOUNTFLOW_MAIL_KICK": "worker"}, uri=database_uri)
    addresses = [f"vic{number}@example.com" for number in range(12)]
    for address in addresses:
        site.member(address)

    with askers(database_uri, LAST, FIRST) as processes:
        for address in addresses:
            for one in processes:
                one.ask(address)
            assert [one.read() for one in processes] == ["202 202 202 202"] * 2

    pending = Counter(row.to_addr for row in site.rows("mail", state="pending"))
    assert pending == dict.fromkeys(addresses, 1)
    assert Counter(row.last_error for row in site.rows("mail", state="dropped")) == {"duplicate": 7 * len(addresses)}


@pytest.mark.parametrize(("ends_well", "second"), [(True, "duplicate"), (False, None)])
def test_F19_transactions_that_meet_at_the_end_of_a_minute(
    make_shop: Callable[..., Shop], database_uri: str, ends_well: bool, second: str | None
) -> None:
    """While a mail of the last second is not committed, one of the next second waits, and is sent only if it fails."""
    early, late = Desk(make_shop(uri=database_uri)), Desk(make_shop(uri=database_uri))
    account = early.create(VIC)
    early.shop.clock.now, late.shop.clock.now = LAST, FIRST
    draft = Draft(Address(VIC.email, VIC.key), account, "reset", "reset", HOUR)
    is_written, has_begun = threading.Event(), threading.Event()

    def write_first() -> str | None:
        posted = early.store.outbox.post(draft, early.now)
        is_written.set()
        has_begun.wait(10)
        # Now the other one waits for our row, or for our lock: there is no way to see that from here.
        threading.Event().wait(0.3)
        if not ends_well:
            raise LookupError
        return posted.dropped

    def write_second() -> str | None:
        is_written.wait(10)
        has_begun.set()
        dropped: str | None = late.run(lambda: late.store.outbox.post(draft, late.now).dropped)
        return dropped

    results = run_both(lambda: early.run(write_first), write_second)

    assert isinstance(results[0], LookupError) is not ends_well
    assert results[1] == second
    assert len(early.shop.rows("mail", state="pending")) == 1


def run_both(*calls: Callable[[], Any]) -> list[Any]:
    """Run calls in threads, and return what each returned or raised."""
    results: list[Any] = [None] * len(calls)

    def run(number: int) -> None:
        try:
            results[number] = calls[number]()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a thread has not finished"
    return results


@pytest.fixture
def make_shop() -> Iterator[Callable[..., Shop]]:
    """Return a function that makes host apps on a database."""
    made: list[Shop] = []

    def make(*, uri: str) -> Shop:
        made.append(Shop(uri, {"ACCOUNTFLOW_MAIL_KICK": "worker"}))
        return made[-1]

    yield make
    for shop in made:
        shop.close()
