"""Transports for development."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from flask_accountflow.errors import MailRejected
from flask_accountflow.mail.letter import Letter
from flask_accountflow.mail.transports import (
    Connection,
    ConsoleTransport,
    FileTransport,
    Recorded,
    RecordingTransport,
    Transport,
    steps,
)

LINK = "https://shop.example/auth/verify/abc.def"

LETTER = Letter(
    to="ada@example.com",
    subject="Confirm your email for Shop",
    text=f"Hello – Grüße,\n\n{LINK}\n\nIt works once.\n",
    html="<p>Hello</p>",
    message_id="0123@shop.example",
    sender="hello@shop.example",
    sender_name="Shop",
    date=datetime(2026, 3, 29, 0, 59, 30, tzinfo=timezone.utc),
    language="en",
    template="verify",
    link=LINK,
)

BLOCK = f"""\
--- START EMAIL ada@example.com ---
From: Shop <hello@shop.example>
To: ada@example.com
Subject: Confirm your email for Shop
Date: 2026-03-29T00:59:30+00:00
Message-ID: <0123@shop.example>
Auto-Submitted: auto-generated
X-Auto-Response-Suppress: All
X-Entity-Ref-ID: 0123@shop.example
Content-Language: en

Hello – Grüße,

{LINK}

It works once.
--- END EMAIL ada@example.com ---

"""


def send(transport: Transport, *letters: Letter) -> None:
    with transport.connect() as connection:
        for letter in letters:
            connection.send(letter)
        connection.abort()


def test_file(tmp_path: Path) -> None:
    """The file gets one block for each mail, after what it held before."""
    path = tmp_path / "mail.log"
    path.write_text("before\n")

    send(FileTransport(path), LETTER, LETTER)

    assert path.read_text("utf-8") == "before\n" + BLOCK + BLOCK


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_file_is_private(tmp_path: Path) -> None:
    """A file with working links can be read by its owner only."""
    path = tmp_path / "mail.log"

    send(FileTransport(path), LETTER)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_file_shared_by_processes(tmp_path: Path) -> None:
    """Blocks of several processes do not mix."""
    path = tmp_path / "mail.log"
    script = (
        "import sys\n"
        "from datetime import datetime, timezone\n"
        "from flask_accountflow.mail.letter import Letter\n"
        "from flask_accountflow.mail.transports import FileTransport\n"
        "text = sys.argv[2] * 9000\n"
        "letter = Letter('a@x', 's', text, 'h', 'm@x', 's@x', 'n', datetime.now(timezone.utc), 'en', 't')\n"
        "with FileTransport(sys.argv[1]).connect() as connection:\n"
        "    for _ in range(50):\n"
        "        connection.send(letter)\n"
    )

    workers = [subprocess.Popen([sys.executable, "-c", script, str(path), sign]) for sign in "ab"]
    codes = [worker.wait() for worker in workers]

    texts = [line for line in path.read_text().splitlines() if len(line) > 1000]
    assert codes == [0, 0]
    assert sorted(texts) == sorted(sign * 9000 for sign in "ab" for _ in range(50))


def test_console(capsys: pytest.CaptureFixture[str]) -> None:
    """The console shows the mail, with the link alone on a line to click on."""
    transport = ConsoleTransport()

    send(transport, LETTER)

    out = capsys.readouterr().out
    assert out == BLOCK
    assert LINK in out.splitlines()


def test_console_adds_the_link() -> None:
    """A link that the text only holds within a line is shown on a line of its own, too."""
    stream = io.StringIO()

    send(ConsoleTransport(stream), replace(LETTER, text=f"Open <{LINK}>."))

    assert stream.getvalue().endswith(f"Open <{LINK}>.\n\n{LINK}\n--- END EMAIL ada@example.com ---\n\n")


def test_console_without_link() -> None:
    """A notice has no link to show."""
    stream = io.StringIO()

    send(ConsoleTransport(stream), replace(LETTER, text="Bye.", link=None))

    assert stream.getvalue().endswith("\n\nBye.\n--- END EMAIL ada@example.com ---\n\n")


def test_console_of_few_signs() -> None:
    """A terminal that lacks a sign shows the rest."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")

    send(ConsoleTransport(stream), LETTER)

    assert b"Hello \\u2013 Gr\\xfc\\xdfe," in raw.getvalue()
    assert LINK.encode() in raw.getvalue().splitlines()


def told(transport: Transport, letter: Letter = LETTER) -> tuple[str, ...]:
    """Return how a letter fared, step by step."""
    with transport.connect() as connection, suppress(MailRejected, OSError):
        connection.send(letter)
    return steps(connection)


def test_steps_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a letter in a file it is told where that file is, and whether the letter is in it."""
    monkeypatch.chdir(tmp_path)

    assert told(FileTransport("mail.log")) == (f"append to {tmp_path / 'mail.log'}: done",)
    assert told(FileTransport(tmp_path)) == (f"append to {tmp_path}: failed",)


def test_steps_of_the_console() -> None:
    """Of a letter that was printed it is told that it was; and the same while it is recorded."""
    console = ConsoleTransport(io.StringIO())

    assert told(console) == told(RecordingTransport(console)) == ("print: done",)


def test_no_steps() -> None:
    """A transport of the app need not tell anything."""
    assert told(Picky()) == told(RecordingTransport(Picky())) == ()


class Picky:
    """Refuses letters to eve."""

    def __init__(self) -> None:
        self.aborted = 0

    def connect(self) -> AbstractContextManager[Connection]:
        return nullcontext(self)

    def send(self, letter: Letter) -> None:
        if letter.to.startswith("eve"):
            raise MailRejected("no")

    def abort(self) -> None:
        self.aborted += 1


def numbered(*names: str) -> list[Letter]:
    """Return letters of these subjects, each with a Message-ID of its own."""
    return [replace(LETTER, subject=name, message_id=f"{name}@shop.example") for name in names]


def test_recording() -> None:
    """The last letters are kept, newest first and numbered, while another transport sends them."""
    stream = io.StringIO()
    transport = RecordingTransport(ConsoleTransport(stream), keep=2)
    first, second, third = numbered("1", "2", "3")

    send(transport, first, second, third)

    assert transport.letters == [Recorded(3, third), Recorded(2, second)]
    assert stream.getvalue().count("START EMAIL") == 3


def test_recording_of_a_refused_letter() -> None:
    """A letter that the other transport refuses is kept with the reason, which whoever sends it hears as well."""
    transport = RecordingTransport(Picky())
    refused = replace(LETTER, to="eve@example.com")

    with pytest.raises(MailRejected) as caught:
        send(transport, refused)

    assert transport.letters == [Recorded(1, refused, caught.value)]


def test_recording_of_another_try() -> None:
    """Each try of a mail is the same letter, in the place of the first, with what the last one has come to."""
    transport = RecordingTransport(Picky())
    first, second = numbered("1", "2")
    with pytest.raises(MailRejected):
        send(transport, replace(first, to="eve@example.com"))

    send(transport, second, first)

    assert transport.letters == [Recorded(2, second), Recorded(1, first)]


def test_recording_forgets() -> None:
    """What was kept can be forgotten; the numbers go on."""
    transport = RecordingTransport(Picky())
    first, second = numbered("1", "2")
    send(transport, first)

    transport.clear()
    send(transport, second)

    assert transport.letters == [Recorded(2, second)]


def test_where_recorded_letters_go(tmp_path: Path) -> None:
    """Letters that are printed or appended to a file stay here; those of any other transport may leave."""
    inner = (ConsoleTransport(), FileTransport(tmp_path / "mail.log"), Picky())

    assert [RecordingTransport(one).leaves for one in inner] == [False, False, True]


def test_recording_aborts() -> None:
    """An abort reaches the other transport."""
    picky = Picky()

    send(RecordingTransport(picky), LETTER)

    assert picky.aborted == 1
