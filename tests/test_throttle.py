"""Limits on how often something may be tried."""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flask_accountflow.errors import Refusal
from flask_accountflow.rules import Rate
from flask_accountflow.throttle import Budget, LimitsThrottle, NoThrottle, Throttle, network

REDIS_URL = os.environ.get("ACCOUNTFLOW_TEST_REDIS_URL", "redis://127.0.0.1:6379/15")

# A multiple of every window used here: each of them begins now.
START = 1_800_000_000.0 // 86_400 * 86_400

LOGIN = Budget("login", (Rate(3, 300), Rate(5, 3600)), "clear")
NETWORK = Budget("login_ip", (Rate(10, 60),), "return")
MAIL = Budget("mail_ip", (Rate(2, 60),), "keep")
BUDGETS = (LOGIN, NETWORK, MAIL)


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "redis"])
def throttle(request: pytest.FixtureRequest, clock: Clock) -> LimitsThrottle:
    """A throttle with empty counters, in memory and in Redis."""
    if request.param == "memory":
        return LimitsThrottle(BUDGETS, clock=clock)
    redis_client().close()
    # The key is new, so these counters are nobody else's; they expire by themselves.
    return LimitsThrottle(BUDGETS, REDIS_URL, secrets.token_bytes(16), clock=clock)


def redis_client() -> Any:
    redis = pytest.importorskip("redis", reason="the redis package is not installed")
    client = redis.Redis.from_url(REDIS_URL, socket_connect_timeout=1)
    try:
        client.ping()
    except redis.RedisError as error:
        client.close()
        if "redis" in os.environ.get("ACCOUNTFLOW_TEST_REQUIRE", ""):
            pytest.fail(f"redis is required and does not answer: {error}")
        pytest.skip(f"no Redis answers at {REDIS_URL}: {error}")
    return client


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns every microsecond instead of every 5 ms."""
    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(switch_interval)


@pytest.fixture
def nobody() -> str:
    """The address of a store that is down: a port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"redis://:hunter2@127.0.0.1:{listener.getsockname()[1]}/0"


def refusal(throttle: Throttle, **subjects: str) -> Refusal | None:
    try:
        throttle.reserve(**subjects)
    except Refusal as refused:
        return refused
    return None


def passed(throttle: Throttle, tries: int, **subjects: str) -> int:
    """Return how many of so many tries were allowed."""
    return sum(refusal(throttle, **subjects) is None for _ in range(tries))


@pytest.mark.parametrize(
    ("ip", "name"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, "unknown"),
        ("", "unknown"),
        ("203.0.113.9, 10.0.0.1", "unknown"),
        ("localhost", "unknown"),
        ("\0", "unknown"),
    ],
)
def test_RAT_06_a_network_is_an_address_or_a_64(ip: str | None, name: str) -> None:
    """IPv4 counts by address, IPv6 by /64, and what is no address counts together."""
    assert network(ip) == name


def test_no_throttle_allows_everything() -> None:
    """NoThrottle reserves, settles and clears without an effect."""
    throttle = NoThrottle()

    for _ in range(100):
        reservation = throttle.reserve(login="vic@example.com")
        reservation.succeed()
        reservation.give_back()
    throttle.clear(login="vic@example.com")


class TestBudgets:
    def test_RAT_01_failures_are_bounded_per_subject(self, throttle: LimitsThrottle) -> None:
        """After as many failures as allowed the next is refused, and another subject is not."""
        assert passed(throttle, 5, login="vic@example.com") == 3
        assert passed(throttle, 5, login="ada@example.com") == 3

    def test_RAT_09_the_refusal_says_when_to_come_back(self, throttle: LimitsThrottle, clock: Clock) -> None:
        """retry_after is whole seconds, at least one, until the full window ends."""
        passed(throttle, 3, login="vic@example.com")
        waits = []
        for seconds in (0, 100.4, 299.0, 299.9):
            clock.now = START + seconds
            refused = refusal(throttle, login="vic@example.com")
            assert refused is not None
            assert (refused.code, refused.status) == ("rate_limited", 429)
            waits.append(refused.extra["retry_after"])

        assert waits == [300, 200, 1, 1]

    def test_RAT_01_the_longest_full_window_decides(self, throttle: LimitsThrottle, clock: Clock) -> None:
        """A new window of five minutes does not open that of an hour."""
        passed(throttle, 3, login="vic@example.com")
        clock.now = START + 300

        assert passed(throttle, 5, login="vic@example.com") == 2
        refused = refusal(throttle, login="vic@example.com")
        assert refused is not None
        assert refused.extra["retry_after"] == 3300
        clock.now = START + 3600
        assert passed(throttle, 5, login="vic@example.com") == 3

    def test_RAT_09_of_two_full_windows_the_longer_is_told(self, clock: Clock) -> None:
        """Nobody is told to come back when another window still refuses him."""
        throttle = LimitsThrottle([Budget("login", (Rate(2, 60), Rate(2, 3600)), "clear")], clock=clock)
        passed(throttle, 2, login="vic@example.com")

        refused = refusal(throttle, login="vic@example.com")

        assert refused is not None
        assert refused.extra["retry_after"] == 3600

    def test_a_refused_try_is_not_counted(self, throttle: LimitsThrottle) -> None:
        """When one budget is used up, the others get their count of this try back."""
        for _ in range(20):
            refusal(throttle, login="vic@example.com", login_ip="203.0.113.9")

        assert passed(throttle, 20, login_ip="203.0.113.9") == 7

    def test_RAT_05_a_success_clears_its_own_windows_only(self, throttle: LimitsThrottle) -> None:
        """clear empties the account's windows; return gives the network one try, and its failures stay."""
        for _ in range(2):
            throttle.reserve(login="eve@example.com", login_ip="203.0.113.9")
            throttle.reserve(login="vic@example.com", login_ip="203.0.113.9")

        throttle.reserve(login="eve@example.com", login_ip="203.0.113.9").succeed()

        assert passed(throttle, 5, login="eve@example.com") == 3
        assert passed(throttle, 5, login="vic@example.com") == 1
        assert passed(throttle, 20, login_ip="203.0.113.9") == 6

    def test_keep_counts_successes_too(self, throttle: LimitsThrottle) -> None:
        """A budget of requests is used up by those that succeed."""
        for _ in range(2):
            throttle.reserve(mail_ip="203.0.113.9").succeed()

        assert passed(throttle, 1, mail_ip="203.0.113.9") == 0

    def test_give_back_counts_nothing(self, throttle: LimitsThrottle) -> None:
        """A request that was refused for another reason leaves every budget as it was."""
        for _ in range(20):
            throttle.reserve(login="vic@example.com", login_ip="203.0.113.9", mail_ip="203.0.113.9").give_back()

        assert passed(throttle, 5, login="vic@example.com") == 3

    def test_a_reservation_is_settled_once(self, throttle: LimitsThrottle) -> None:
        """Neither a second call nor the other one does anything more."""
        reservation = throttle.reserve(login_ip="203.0.113.9")
        passed(throttle, 9, login_ip="203.0.113.9")

        for settle in (reservation.succeed, reservation.succeed, reservation.give_back):
            settle()

        assert passed(throttle, 5, login_ip="203.0.113.9") == 1

    def test_what_is_given_back_after_a_success_is_not_counted_twice(self, throttle: LimitsThrottle) -> None:
        """A reservation from before the windows were cleared does not add a try to them."""
        early = [throttle.reserve(login="vic@example.com") for _ in range(2)]
        throttle.reserve(login="vic@example.com").succeed()

        for reservation in early:
            reservation.give_back()

        assert passed(throttle, 9, login="vic@example.com") == 3

    def test_what_is_given_back_late_stays_in_its_window(self, throttle: LimitsThrottle, clock: Clock) -> None:
        """A reservation of an earlier window adds no try to the next one."""
        reservation = throttle.reserve(login_ip="203.0.113.9")
        clock.now = START + 60
        passed(throttle, 10, login_ip="203.0.113.9")

        reservation.succeed()

        assert passed(throttle, 1, login_ip="203.0.113.9") == 0

    def test_RAT_02_a_reset_by_mail_clears_the_account(self, throttle: LimitsThrottle) -> None:
        """clear() opens a budget that is used up."""
        passed(throttle, 5, login="vic@example.com")

        throttle.clear(login="vic@example.com")

        assert passed(throttle, 5, login="vic@example.com") == 3

    @pytest.mark.parametrize("subject", ["", "\0", "\ud800", "é" * 10_000])
    def test_any_text_is_a_subject(self, throttle: LimitsThrottle, subject: str) -> None:
        """Whatever was submitted can be counted."""
        assert passed(throttle, 5, login=subject) == 3

    def test_an_unknown_budget_is_an_error_of_the_programmer(self, throttle: LimitsThrottle) -> None:
        """A budget that was not declared is a KeyError."""
        with pytest.raises(KeyError):
            throttle.reserve(logn="vic@example.com")

    def test_RAT_04_no_volley_passes_the_limit(self, throttle: LimitsThrottle, hasty_threads: None) -> None:
        """Of 200 concurrent tries at most the allowed number pass, and the volley does not refuse itself."""
        barrier = threading.Barrier(50)

        def volley(_: int) -> int:
            barrier.wait()
            return passed(throttle, 4, login="vic@example.com", login_ip="203.0.113.9")

        with ThreadPoolExecutor(50) as pool:
            allowed = sum(pool.map(volley, range(50)))

        assert 1 <= allowed <= 3

    def test_RAT_04_nothing_is_lost_under_threads(self, throttle: LimitsThrottle) -> None:
        """What many threads reserve and give back at once adds up to nothing."""
        barrier = threading.Barrier(16)

        def borrow(_: int) -> None:
            barrier.wait()
            for _ in range(20):
                try:
                    throttle.reserve(login_ip="203.0.113.9").give_back()
                except Refusal:
                    continue

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(borrow, range(16)))

        assert passed(throttle, 20, login_ip="203.0.113.9") == 10


class TestMemory:
    def test_limits_is_not_imported(self) -> None:
        """Counting in memory needs no further library."""
        code = (
            "import sys\n"
            "from flask_accountflow.rules import Rate\n"
            "from flask_accountflow.throttle import Budget, LimitsThrottle\n"
            "LimitsThrottle([Budget('login', (Rate(3, 300),), 'clear')]).reserve(login='vic')\n"
            "print(sorted({'limits', 'redis'} & set(sys.modules)))\n"
        )

        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

        assert done.stdout == "[]\n"

    def test_RAT_04_every_count_of_many_threads_is_kept(self, hasty_threads: None) -> None:
        """When eight threads have used up a limit together, to the last try, the next one is refused."""
        throttle = LimitsThrottle([Budget("login", (Rate(8000, 60),), "keep")], clock=Clock())
        barrier = threading.Barrier(8)

        def use(_: int) -> int:
            barrier.wait()
            return passed(throttle, 1000, login="vic@example.com")

        with ThreadPoolExecutor(8) as pool:
            allowed = sum(pool.map(use, range(8)))

        assert allowed == 8000
        assert passed(throttle, 1, login="vic@example.com") == 0

    def test_RAT_12_counters_that_have_ended_are_dropped(self, clock: Clock) -> None:
        """However many subjects are tried, only those of the present windows take memory."""
        throttle = LimitsThrottle([NETWORK], clock=clock)
        for minute in range(50):
            clock.now = START + 60 * minute
            for number in range(400):
                throttle.reserve(login_ip=f"{minute}.{number}")

        assert len(throttle._counters[0][0]._counts) <= 1024  # type: ignore[union-attr]

    def test_RAT_12_many_subjects_stay_cheap(self, clock: Clock) -> None:
        """A try costs less than 0.2 ms on average, also among 50 000 other subjects."""
        throttle = LimitsThrottle([LOGIN], clock=clock)
        start = time.thread_time()

        for number in range(50_000):
            throttle.reserve(login=str(number))

        assert time.thread_time() - start < 10


class TestRedis:
    def test_RAT_13_processes_share_the_limit(self, clock: Clock) -> None:
        """Two throttles on one store count together."""
        redis_client().close()
        key = secrets.token_bytes(16)
        first, second = (LimitsThrottle(BUDGETS, REDIS_URL, key, clock=clock) for _ in range(2))

        assert passed(first, 2, login="vic@example.com") == 2
        assert passed(second, 2, login="vic@example.com") == 1
        second.clear(login="vic@example.com")
        assert passed(first, 5, login="vic@example.com") == 3

    def test_RAT_03_the_store_sees_no_address(self, clock: Clock) -> None:
        """Names in the store are keyed digests, and each of them expires."""
        client = redis_client()
        key = secrets.token_bytes(16)
        throttle = LimitsThrottle(BUDGETS, REDIS_URL, key, clock=clock)

        throttle.reserve(login="vic@example.com", login_ip="203.0.113.9")

        own = hmac.digest(key, b"login:vic@example.com", "sha256").hex()
        ages = [client.ttl(name) for name in client.keys(f"*{own}*")]
        everything = b" ".join(client.keys("*"))
        client.close()
        assert len(ages) == 2
        assert all(0 < age <= 3600 for age in ages)
        assert b"vic@" not in everything
        assert b"203.0.113.9" not in everything


class TestStoreDown:
    def test_RAT_10_limits_are_halved_and_hold(
        self, nobody: str, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without its store a process counts alone to half of each limit, and says so once."""
        throttle = LimitsThrottle(BUDGETS, nobody, clock=clock)

        assert passed(throttle, 20, login="vic@example.com") == 1
        assert passed(throttle, 20, login_ip="203.0.113.9") == 5
        assert passed(throttle, 20, mail_ip="203.0.113.9") == 1
        clock.now = START + 5
        throttle.clear(login="vic@example.com")
        assert passed(throttle, 20, login="vic@example.com") == 1

        (record,) = caplog.records
        assert (record.name, record.levelno) == ("accountflow.throttle", logging.WARNING)
        assert "ConnectionError" in record.getMessage()
        assert "hunter2" not in record.getMessage()

    def test_RAT_10_settling_works_without_the_store(self, nobody: str, clock: Clock) -> None:
        """Success and giving back count in this process as they do in the store."""
        throttle = LimitsThrottle(BUDGETS, nobody, clock=clock)

        for _ in range(20):
            throttle.reserve(login="vic@example.com").succeed()
            throttle.reserve(login_ip="203.0.113.9").give_back()

        assert passed(throttle, 20, login="vic@example.com") == 1

    @pytest.mark.parametrize("uri", ["nonsense://127.0.0.1", "nonsense"])
    def test_RAT_10_a_store_that_cannot_exist_is_down(
        self, uri: str, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A store that limits does not know is an outage, not an error page."""
        throttle = LimitsThrottle(BUDGETS, uri, clock=clock)

        assert passed(throttle, 20, login="vic@example.com") == 1
        assert "ConfigurationError" in caplog.text

    def test_RAT_11_a_slow_store_costs_a_quarter_of_a_second(self, clock: Clock) -> None:
        """A store that accepts and never answers is waited for once, for 250 ms, and then left for a second."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            throttle = LimitsThrottle(BUDGETS, f"redis://127.0.0.1:{silent.getsockname()[1]}/0", clock=clock)
            throttle.clear()
            start = time.monotonic()

            assert passed(throttle, 20, login="vic@example.com", login_ip="203.0.113.9") == 1

            # The client opens its connection with a dialogue of its own, and imports count in the first call.
            assert 0.2 < time.monotonic() - start < 2

    def test_F27_the_store_is_used_again_when_it_answers(self, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        """The store is asked once a second; what was reserved in it is settled in it, also when it went away."""
        caplog.set_level(logging.INFO)
        store = FakeRedis()
        throttle = LimitsThrottle([NETWORK], f"redis://127.0.0.1:{store.port}/0", clock=clock)
        before = throttle.reserve(login_ip="203.0.113.9")
        assert store.asked()

        store.up = False
        before.succeed()
        assert store.asked()
        clock.now = START + 0.9
        assert passed(throttle, 20, login_ip="203.0.113.9") == 5
        assert not store.asked()

        store.up = True
        clock.now = START + 1
        assert passed(throttle, 5, login_ip="203.0.113.9") == 5
        assert store.asked()

        store.up = False
        clock.now = START - 1000  # a clock that was put right does not stop the asking
        assert passed(throttle, 20, login_ip="203.0.113.9") == 5
        store.up = True
        clock.now = START - 2000
        assert passed(throttle, 1, login_ip="203.0.113.9") == 1
        assert store.asked()
        store.close()

        kinds = [record.levelname for record in caplog.records]
        assert kinds == ["WARNING", "INFO", "WARNING", "INFO"]


class FakeRedis:
    """Speaks as much of Redis as limits needs, answers each script with 1, and fails on request."""

    def __init__(self) -> None:
        self.up = True
        self._asked = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def asked(self) -> int:
        """Return how many scripts were asked for since the last time."""
        count, self._asked = self._asked, 0
        return count

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                words = [stream.read(int(stream.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))]
                connection.sendall(self._answer(words))

    def _answer(self, words: list[bytes]) -> bytes:
        if words[0].upper() == b"HELLO":
            return b"%1\r\n+proto\r\n:3\r\n"
        if words[0].upper() != b"EVALSHA":
            return b"+OK\r\n"
        self._asked += 1
        return b":1\r\n" if self.up else b"-ERR going down\r\n"


#: Imports "redis" in one thread, so slowly that the other one asks the store meanwhile.
_MEANWHILE = """
import sys, threading, time
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

class Slowly(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "redis":
            return None
        spec = PathFinder.find_spec(name, path)
        load = spec.loader.exec_module
        def exec_module(module):
            begun.set()
            time.sleep(0.5)
            load(module)
        spec.loader.exec_module = exec_module
        return spec

begun = threading.Event()
sys.meta_path.insert(0, Slowly())
importer = threading.Thread(target=__import__, args=("redis",))
importer.start()
begun.wait()

from flask_accountflow.counters import Store
print(Store(sys.argv[1], time.time).incr(sys.argv[2], 60))
importer.join()
"""


def test_a_store_is_asked_while_another_thread_imports_its_library() -> None:
    """The first count of a process goes to Redis also while some other thread still imports its library."""
    client, name = redis_client(), f"accountflow-test-{secrets.token_hex(8)}"
    try:
        line = [sys.executable, "-c", _MEANWHILE, REDIS_URL, name]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
    finally:
        client.close()

    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
