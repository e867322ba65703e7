"""How passwords are hashed, and which new ones are refused.

Stored: ``af1$<pepper id or ->$<bcrypt string>``, bcrypt being over base64(HMAC-SHA384(key, NFC(password))).
So a password has any length and any character, and a leaked table of plain digests does not fit ours.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
import string
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from threading import BoundedSemaphore
from typing import NamedTuple, Protocol

import bcrypt

from .errors import FieldFault, Refusal
from .messages import Filled, noted

# Without a pepper this constant still keeps digests of other sites from fitting ours ("shucking").
_NO_PEPPER = "-", "flask-accountflow/password"
_PEPPER_ID = re.compile(r"[A-Za-z0-9_-]{1,16}")
_STORED = re.compile(r"af1\$([A-Za-z0-9_-]{1,16})\$(\$2b\$([0-9]{2})\$[./A-Za-z0-9]{53})")
# Any 16 bytes do: what is hashed with it is thrown away.
_DUMMY_SALT = "." * 22
# The longest that can be allowed. CPython normalises long runs of combining marks in quadratic time:
# 4 KB take 13 ms, 100 KB take 8 s. What is longer is hashed as it was typed.
_NFC_MAX_LENGTH = 4096

# NIST SP 800-63B-4 section 3.1.1.2 asks to permit 64 characters; nobody guesses repeats and rows as long as that.
_PATTERN_MAX_LENGTH = 63
_ROWS = (string.digits, string.ascii_lowercase, "qwertyuiopasdfghjklzxcvbnm")
_PIECES = re.compile(r"[^\W_]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BETWEEN_WORDS = frozenset(string.punctuation + string.whitespace)


class Hasher(Protocol):
    """Turns passwords into what is stored, and checks them against it."""

    def hash(self, password: str) -> str:
        """Return what to store. Raises a ``busy`` :exc:`.Refusal` when too many passwords are being hashed."""

    def check(self, password: str, *stored: str | None) -> tuple[bool, ...]:
        """Return for each stored hash whether it is of ``password``, in a time that does not depend on it.

        None and an unknown format are answered False, after as much work. Raises like :meth:`hash`.
        """

    def needs_rehash(self, stored: str) -> bool:
        """Tell whether ``stored`` is not what :meth:`hash` would make today."""


class HashGate:
    """Bounds how many passwords this process hashes at once.

    ``concurrency`` run, ``queue`` more wait up to ``wait`` seconds, and what exceeds that is refused as
    ``busy``, so that requests which hash nothing keep a thread. Use it as a context manager.
    """

    def __init__(self, concurrency: int, queue: int, wait: float) -> None:
        self._room = BoundedSemaphore(concurrency + queue)
        self._run = BoundedSemaphore(concurrency)
        self._wait = wait

    def __enter__(self) -> None:
        if not self._room.acquire(blocking=False):
            raise _busy()
        running = False
        try:
            running = self._run.acquire(timeout=self._wait)
        finally:
            if not running:
                self._room.release()
        if not running:
            raise _busy()

    def __exit__(self, *_: object) -> None:
        self._run.release()
        self._room.release()


class BcryptHasher:
    """bcrypt at a cost of ``rounds``, keyed by the newest of ``peppers`` (pairs of id and key, newest first).

    ``concurrency``, ``queue`` and ``wait`` (in seconds) are those of its :class:`HashGate`.
    """

    def __init__(
        self,
        rounds: int = 12,
        peppers: Sequence[tuple[str, str]] = (),
        concurrency: int = 2,
        queue: int = 1,
        wait: float = 5,
    ) -> None:
        if any(not _PEPPER_ID.fullmatch(name) or name == "-" or not key for name, key in peppers):
            raise ValueError("peppers must be (id, key) pairs; an id has up to 16 letters or digits and is not '-'")
        self._rounds = rounds
        self._pepper_id = peppers[0][0] if peppers else _NO_PEPPER[0]
        self._keys = {name: key.encode() for name, key in (*peppers, _NO_PEPPER)}
        self._gate = HashGate(concurrency, queue, wait)

    def hash(self, password: str) -> str:
        """Return what to store."""
        with self._gate:
            digest = _digest(self._keys[self._pepper_id], password)
            made = bcrypt.hashpw(digest, bcrypt.gensalt(self._rounds))
        return f"af1${self._pepper_id}${made.decode('ascii')}"

    def check(self, password: str, *stored: str | None) -> tuple[bool, ...]:
        """Return for each stored hash whether it is of ``password``; all of them pass the gate once."""
        with self._gate:
            return tuple(self._check(password, one) for one in stored)

    def needs_rehash(self, stored: str) -> bool:
        """Tell whether the cost, the pepper or the scheme of ``stored`` is not today's."""
        parts = _parse(stored)
        return parts is None or parts.rounds != self._rounds or parts.pepper_id != self._pepper_id

    def _check(self, password: str, stored: str | None) -> bool:
        parts = _parse(stored)
        key = None if parts is None else self._keys.get(parts.pepper_id)
        if parts is None or key is None:
            return self._dummy(self._rounds)
        try:
            right = bcrypt.checkpw(_digest(key, password), parts.bcrypt)
        except ValueError:  # a malformed salt or cost, found before any work
            return self._dummy(self._rounds)
        # 2**c + 2**c + 2**(c+1) + … + 2**(rounds-1) = 2**rounds: as much work as for a hash of today.
        for rounds in range(parts.rounds, self._rounds):
            self._dummy(rounds)
        return right

    def _dummy(self, rounds: int) -> bool:
        bcrypt.hashpw(b"", f"$2b${rounds:02d}${_DUMMY_SALT}".encode())
        return False


class PasswordPolicy:
    """What a new password must be: long enough, and not what everybody tries first.

    It is compared as a whole with 16,000 passwords that many people have used (``data/common_passwords.txt``).
    Lengths are in code points after NFC. ``words`` are those that are known to be near, such as the
    site's name. There are no rules about kinds of characters (NIST SP 800-63B-4 section 3.1.1.2).
    ``allow_runs`` accepts rows of the alphabet and the keyboard, for development with the examples of others.
    """

    def __init__(
        self, min_length: int = 12, max_length: int = 256, words: Iterable[str] = (), *, allow_runs: bool = False
    ) -> None:
        self.min_length = min_length
        self.max_length = max_length
        self._allow_runs = allow_runs
        self._words = _foldings(words)

    def fault(self, password: str, *, email: str | None = None, field: str = "password") -> FieldFault | None:
        """Return why ``password`` cannot be the password of the account of ``email``, or None if it can."""
        text = _normal(password)
        if _SURROGATE.search(text):
            return FieldFault(field, "invalid", noted("This holds a character that can't be used."))
        if len(text) < self.min_length:
            sentence = Filled(noted("Use at least %(min)s characters."), min=self.min_length)
            return FieldFault(field, "too_short", sentence, {"min": self.min_length})
        if len(text) > self.max_length:
            sentence = Filled(noted("Use at most %(max)s characters."), max=self.max_length)
            return FieldFault(field, "too_long", sentence, {"max": self.max_length})
        folded = text.casefold()
        own_words = _foldings(_email_words(email))
        if _made_of(folded, own_words):
            return FieldFault(field, "contains_email", noted("Use something that isn't your email."))
        if self._common(folded) or _made_of(folded, own_words | self._words):
            return FieldFault(field, "too_common", noted("This password is easy to guess. Use a few unrelated words."))
        return None

    def _common(self, folded: str) -> bool:
        if f"\n{folded}\n" in _listed():
            return True
        is_run = not self._allow_runs and _runs(folded)
        return len(folded) <= _PATTERN_MAX_LENGTH and (is_run or _repeats(folded, self.min_length))


@cache
def _listed() -> str:
    """Return the common passwords, each between line breaks: to search 160 KB takes 37 µs, and no set of strings."""
    return (Path(__file__).parent / "data" / "common_passwords.txt").read_text(encoding="utf-8")


class _Stored(NamedTuple):
    pepper_id: str
    bcrypt: bytes
    rounds: int


def _parse(stored: str | None) -> _Stored | None:
    found = _STORED.fullmatch(stored) if stored is not None else None
    return None if found is None else _Stored(found[1], found[2].encode("ascii"), int(found[3]))


def _busy() -> Refusal:
    # Not the same for everyone, or those who were refused together return together.
    return Refusal("busy", extra={"retry_after": 1 + secrets.randbelow(3)})


def _normal(password: str) -> str:
    return unicodedata.normalize("NFC", password) if len(password) <= _NFC_MAX_LENGTH else password


def _digest(key: bytes, password: str) -> bytes:
    # 48 bytes are 64 in base64: no NUL, and below the 72 bytes that bcrypt reads. Since 5.0 it raises for more.
    return base64.b64encode(hmac.digest(key, _normal(password).encode("utf-8", "surrogatepass"), "sha384"))


def _email_words(email: str | None) -> Iterable[str]:
    if email is None:
        return ()
    local_part, _, domain = email.rpartition("@")
    return email, local_part, domain


def _foldings(words: Iterable[str]) -> frozenset[str]:
    """Return the words in lower case, and what they are made of: ``my-shop`` is also ``my`` and ``shop``."""
    folded = {_normal(word).casefold() for word in words}
    return frozenset(folded.union(*map(_PIECES.findall, folded))) - {""}


def _made_of(text: str, words: frozenset[str]) -> bool:
    """Tell whether ``text`` is only ``words``, with blanks and signs between them.

    Not by a regular expression: with words that overlap it takes exponential time, and visitors choose theirs.
    """
    reached = {0}
    for start, sign in enumerate(text):
        if start in reached:
            reached.update(start + len(word) for word in words if text.startswith(word, start))
            if sign in _BETWEEN_WORDS:
                reached.add(start + 1)
    return len(text) in reached and not _BETWEEN_WORDS.issuperset(text)


def _repeats(text: str, min_length: int) -> bool:
    """Tell whether ``text`` is something too short to be a password, over and over."""
    longest = min(min_length - 1, len(text) // 2)
    return any(text[size:] == text[:-size] for size in range(1, longest + 1))


def _runs(text: str) -> bool:
    """Tell whether ``text`` goes up or down the digits, the alphabet or a keyboard, beginning anywhere."""
    return any(text in row * (2 + len(text) // len(row)) for one in _ROWS for row in (one, one[::-1]))
