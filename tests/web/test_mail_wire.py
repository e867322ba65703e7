"""What of a request reaches a mail server: one recipient and our headers, and nothing where others could listen."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from smtp_servers import Authority, Script
from support import PASSWORD, Person, Program, Site

NEW, OWNER = "ada@example.com", "vic@example.com"

#: What ends a line for one reader or another.
BREAKS = ("\r", "\n", "\r\n", "\n\n", "\r\n ", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "%0d%0a", "\\r\\n", "\0\n")
INJECTED = "Bcc: eve@example.com"


def with_mail_server(make_site: Callable[..., Site], port: int, **config: Any) -> Site:
    """Return a site that sends to a server on this computer."""
    sending = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": port, "MAIL_SUPPRESS_SEND": False}
    return make_site({**sending, **config}, transport=None)


def test_MAI_01_no_line_break_makes_a_header(make_site: Callable[..., Site]) -> None:
    """Whatever ends a line, in any field: a mail has one recipient, the headers that we gave it, and nothing typed."""
    with Script() as server:
        site = with_mail_server(make_site, server.port)
        site.member(OWNER)
        for sign in BREAKS:
            evil = f"x{sign}{INJECTED}{sign}{sign}evil text"
            for visitor in (site.program(), site.person()):
                _everywhere(visitor, evil)

    assert len(server.mails) > 40
    for mail in server.mails:
        message = mail.message
        assert mail.recipients in {(NEW,), (OWNER,)}
        assert message.get_all("To") == [mail.recipients[0]]
        assert message["Bcc"] is message["Cc"] is None
        assert re.fullmatch(r"[\w ]+", message["Subject"])
        assert len(message.get_all("Subject")) == 1
        assert b"evil" not in mail.content
        assert b"eve@" not in mail.content


def _everywhere(visitor: Any, evil: str) -> None:
    site: Site = visitor.site
    for email in (evil, f"{NEW}{evil}", f"{OWNER}\r\n{evil}"):
        visitor.signup(email)
        visitor.resend(email=email)
        visitor.request_reset(email=email)
        visitor.login(email)
    for email in (NEW, OWNER):
        # Over the caps nothing would be mailed, and nothing seen.
        site.clock.tick(86_401)
        visitor.signup(email, PASSWORD, name=evil, next=f"/{evil}")
        site.clock.tick(61)
        visitor.resend(email=email, next=f"/{evil}")
        site.clock.tick(61)
        visitor.request_reset(email=email, next=f"/{evil}")
        visitor.login(email, evil, next=evil)


@pytest.mark.parametrize("fault", ["untrusted", "expired", "misnamed", "no STARTTLS"])
def test_MAI_02_RST_02_nothing_is_told_to_a_server_that_is_not_ours(
    make_site: Callable[..., Site],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    visitor: Program | Person,
    fault: str,
) -> None:
    """A mail goes to no server whose certificate is not good: it waits, the log says why, and no answer tells."""
    ours = Authority(tmp_path)
    (tmp_path / "theirs").mkdir()
    tls = {
        "untrusted": lambda: Authority(tmp_path / "theirs", "Impostor").context(),
        "expired": lambda: ours.context(days=-1),
        "misnamed": lambda: ours.context("mail.example"),
        "no STARTTLS": lambda: None,
    }[fault]()

    with Script(tls=tls) as server, caplog.at_level(logging.WARNING):
        site = with_mail_server(make_site, server.port, MAIL_USE_TLS=True, ACCOUNTFLOW_MAIL_CA_FILE=str(ours.file))
        site.member(OWNER)
        caller: Any = type(visitor)(site)
        found = [caller.request_reset(email=email) for email in (OWNER, NEW)]

    assert len({(answer.status_code, answer.headers.get("Location")) for answer in found}) == 1
    assert server.mails == []
    assert not {"MAIL", "RCPT", "DATA", "AUTH"} & set(server.heard)
    [waiting] = [mail for mail in site.rows("mail") if mail.to_addr == OWNER]
    assert (waiting.state, waiting.attempts) == ("pending", 1)
    assert "CERTIFICATE_VERIFY_FAILED" in waiting.last_error or "STARTTLS" in waiting.last_error
    assert waiting.last_error.split(":")[0] in caplog.text


def test_MAI_02_a_good_server_gets_it_within_tls(make_site: Callable[..., Site], tmp_path: Path) -> None:
    """By the same configuration a server with a good certificate gets the mail, and not a word of it outside of TLS."""
    ours = Authority(tmp_path)
    with Script(tls=ours.context()) as server:
        site = with_mail_server(make_site, server.port, MAIL_USE_TLS=True, ACCOUNTFLOW_MAIL_CA_FILE=str(ours.file))
        site.member(OWNER)
        site.program().request_reset(email=OWNER)

    assert [mail.recipients for mail in server.mails] == [(OWNER,)]
    assert {"MAIL", "RCPT", "DATA"} <= set(server.heard_in_secret)
    assert server.heard.count("DATA") == server.heard_in_secret.count("DATA") == 1
