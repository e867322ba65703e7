"""Two groups of servers behind nginx, as on two machines: PostgreSQL, limits on Redis, and mail by Celery."""

from __future__ import annotations

import os
import socket
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from databases import database
from live_celery import Running, celery_process
from live_server import AppServer, MailServer, free_port, wait_until
from live_visitors import posting, volley
from support import PASSWORD
from test_deployment import Web, fronted, installed

pytestmark = pytest.mark.slow

LIMIT = 10


class Groups:
    """Two servers with two processes each, what they share, and the front that hands requests to both."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.mail = stack.enter_context(MailServer())
        self.folder = folder
        engine = stack.enter_context(database("postgresql", folder))
        redis = f"redis://127.0.0.1:{_start_redis(stack, folder)}"
        self.servers = []
        for name in ("first", "second"):
            (folder / name).mkdir()
            server = AppServer(
                engine.url.render_as_string(hide_password=False),
                self.mail,
                folder / name,
                CELERY={"broker_url": f"{redis}/0", "broker_connection_retry_on_startup": True},
                TRUSTED_PROXIES=1,
                ACCOUNTFLOW_BASE_URL="http://127.0.0.1:8080",
                ACCOUNTFLOW_RATELIMIT_ENABLED=True,
                # By the day, so that no window ends in the middle of a test.
                ACCOUNTFLOW_RATELIMIT_LOGIN=f"{LIMIT}/day",
                ACCOUNTFLOW_RATELIMIT_LOGIN_IP="10000/day",
                ACCOUNTFLOW_RATELIMIT_MAIL_IP="10000/day",
                ACCOUNTFLOW_RATELIMIT_STORAGE_URI=f"{redis}/1",
            )
            if not self.servers:
                server.flask("db", "upgrade")
            self.servers.append(server)
            server.start("--workers", "2", "--access-logfile", "-")
            stack.callback(server.stop)
        self.front = stack.enter_context(fronted([Web(server.port) for server in self.servers], folder))

    def served(self, request: str) -> list[int]:
        """Return how many of these requests each group has served."""
        return [server.log.read_text().count(request) for server in self.servers]


def _start_redis(stack: ExitStack, folder: Path) -> int:
    port = free_port()
    line = [installed("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    stack.callback(Running("redis", line, os.environ, folder).kill)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(answers, "Redis answers")
    return port


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Groups]:
    """Both groups, which have served nothing yet."""
    with ExitStack() as stack:
        yield Groups(stack, tmp_path_factory.mktemp("groups"))


def test_a_limit_holds_over_two_groups(groups: Groups) -> None:
    """Of a hundred guesses at once, the first requests that any process gets, as many are tried as the limit says."""
    body = {"email": f"{uuid.uuid4().hex}@example.com", "password": "a wrong password"}

    answers = volley([posting(groups.front, "/auth/login", body) for _ in range(100)])  # type: ignore[arg-type]

    assert Counter(answer.status_code for answer in answers) == {401: LIMIT, 429: 100 - LIMIT}
    assert all(groups.served("POST /auth/login "))


def test_mails_of_two_groups_go_out_once(groups: Groups) -> None:
    """Each sign-up at either group is mailed once by one of two workers, and by no server."""
    emails = [f"{uuid.uuid4().hex}@example.com" for _ in range(30)]
    environment = groups.servers[0].environment
    workers = [celery_process("worker", environment, groups.folder, "-c", "1") for _ in range(2)]
    beat = celery_process("beat", environment, groups.folder)
    try:
        for worker in workers:
            worker.wait_for(" ready.")
        bodies = [{"email": email, "password": PASSWORD} for email in emails]
        answers = volley([posting(groups.front, "/auth/signup", body) for body in bodies])  # type: ignore[arg-type]
        assert {answer.status_code for answer in answers} == {202}
        wait_until(lambda: all(map(groups.mail.mails, emails)), "every mail has arrived")
        for worker in workers:
            worker.end()
    finally:
        for running in [beat, *workers]:
            running.kill()

    assert {len(groups.mail.mails(email)) for email in emails} == {1}
    assert all(groups.served("POST /auth/signup "))
    assert not any("event=mail_sent" in server.log.read_text() for server in groups.servers)
