"""Mail catchers for development: what the compose files say is what the settings in them say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
#: The ports of the catcher on this computer, for SMTP and for its pages, and the image that must stand behind them.
CATCHERS = {
    "mailpit": (1025, 8025, "axllent/mailpit"),
    "mailhog": (1025, 8025, "mailhog/mailhog"),
    "smtp4dev": (2525, 5000, "rnwood/smtp4dev"),
}
#: Where each catcher listens inside of its container.
INSIDE = {"mailpit": (1025, 8025), "mailhog": (1025, 8025), "smtp4dev": (25, 80)}
each_catcher = pytest.mark.parametrize("name", CATCHERS)


def compose(name: str) -> str:
    """Return the compose file of a catcher."""
    return (DEPLOY / f"compose.{name}.yaml").read_text(encoding="utf-8")


def test_there_is_a_test_for_each_file() -> None:
    """Every compose file of a catcher is looked at here."""
    others = {"compose.development.yaml", "compose.production.yaml"}

    assert {path.name for path in DEPLOY.glob("compose.*.yaml")} - others == {
        f"compose.{name}.yaml" for name in CATCHERS
    }


@each_catcher
def test_a_catcher_listens_on_this_computer_alone(name: str) -> None:
    """`docker compose -f deploy/compose.<catcher>.yaml up` runs a mail catcher that only this computer reaches: Mailpit
    and Mailhog take mail on port 1025 and show it on 8025, smtp4dev on 2525 and 5000.
    """
    smtp, pages, image = CATCHERS[name]
    inside = INSIDE[name]

    ports = re.findall(r'^ +- "([^"]+)"', compose(name), re.MULTILINE)

    assert ports == [f"127.0.0.1:{smtp}:{inside[0]}", f"127.0.0.1:{pages}:{inside[1]}"]
    assert re.search(rf"^    image: {image}(:|$)", compose(name), re.MULTILINE)


@each_catcher
def test_a_compose_file_says_the_settings(name: str) -> None:
    """Each file begins with the settings for its catcher, and with the address to read the mails at."""
    smtp, pages, _ = CATCHERS[name]
    comment = "\n".join(line for line in compose(name).splitlines() if line.startswith("#"))

    assert 'MAIL_SERVER = "localhost"' in comment
    assert f"MAIL_PORT = {smtp}\n" in comment
    assert "MAIL_USE_TLS = False" in comment
    assert f"http://localhost:{pages}" in comment
    assert f"docker compose -f deploy/compose.{name}.yaml up" in comment


@each_catcher
def test_a_compose_file_is_plain_yaml(name: str) -> None:
    """A file has one service of the catcher's name, and lines that only compose's own keys begin."""
    lines = [line for line in compose(name).splitlines() if line and not line.startswith("#")]

    assert lines[:2] == ["services:", f"  {name}:"]
    keys = {found[1] for line in lines if (found := re.fullmatch(r"    (\w+):.*", line))}
    assert {"image", "ports"} <= keys <= {"image", "ports", "environment", "restart", "mem_limit"}
    assert not any("\t" in line for line in lines)
