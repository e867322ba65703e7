"""A disk that is full."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support import PASSWORD, Person, Program, Site

pytestmark = pytest.mark.slow

OWNER, NOBODY = "vic@example.com", "una@example.com"


class Disk:
    """A small file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave no byte."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (65_536, 512, 1):
                with suppress(OSError):
                    while True:
                        file.write(b"x" * size)
        assert os.statvfs(self.folder).f_bavail == 0

    def empty(self) -> None:
        """Give the space back."""
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of half a megabyte."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root mounts a disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(tmp_path)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted: {done.stderr.strip()}")
    yield Disk(tmp_path)
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.fixture
def site(disk: Disk) -> Iterator[Site]:
    """A site on that disk, that delivers when it is told to."""
    config = {"TESTING": False, "ACCOUNTFLOW_ALLOW_INSECURE": True, "ACCOUNTFLOW_MAIL_KICK": "worker"}
    made = Site(f"sqlite:///{disk.folder / 'site.db'}", config)
    made.member(OWNER)
    yield made
    made.close()


def deliver(site: Site) -> Any:
    """Deliver what is due."""
    return site.app.test_cli_runner().invoke(args=["accountflow", "deliver", "--once"])


@pytest.mark.parametrize("kind", [Program, Person])
def test_F16_a_full_disk_is_503(disk: Disk, site: Site, kind: type[Program | Person]) -> None:
    """On a full disk what has to be written is 503, whoever asks, and changes nothing; who is logged in is served."""
    visitor, member = kind(site), site.person()
    member.login(OWNER)
    site.clock.tick(3600)  # so that the use of the login would be noted
    before = [site.rows(table) for table in ("user", "token", "session", "mail")]
    disk.fill()

    answers = [
        visitor.signup(NOBODY),
        visitor.login(OWNER),
        visitor.request_reset(email=OWNER),
        visitor.request_reset(email=NOBODY),
    ]

    assert [answer.status_code for answer in answers] == [503] * 4
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
    assert member.get("/secret").text == f"secret of {OWNER}"
    assert [site.rows(table) for table in ("user", "token", "session", "mail")] == before

    disk.empty()
    assert visitor.signup(NOBODY).status_code in {202, 303}
    assert visitor.login(OWNER).status_code in {200, 303}


def test_F16_a_full_disk_loses_no_mail(disk: Disk, site: Site) -> None:
    """A mail that was accepted waits while the disk is full, and is sent once when there is space again."""
    site.program().request_reset(email=OWNER)
    disk.fill()

    full = deliver(site)
    sent = len(site.letters)
    disk.empty()
    done = deliver(site)

    assert (full.exit_code, sent) == (1, 0)
    assert (done.exit_code, [letter.to for letter in site.letters]) == (0, [OWNER])
    assert site.program().reset(site.last_link).status_code == 200
    assert site.program().login(OWNER, PASSWORD).status_code == 401
