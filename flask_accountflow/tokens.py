"""What we sign with the application's secret: links in mails and refresh tokens.

A token proves that we made it for one purpose; whether it still works, its row decides. Each token has
exactly one accepted spelling: itsdangerous and base64 also read others (another last character,
``=`` or ``!!`` appended), and a second spelling would get round anything that remembers the first.

No function reads the clock. A time without time zone, as SQLite returns it, is taken as UTC.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

from itsdangerous import Signer, TimestampSigner

from .errors import InvalidToken
from .rules import DAY

Key = str | bytes

# Characters. The longest, a browser's, has 92; the bound keeps junk away from the parsers.
_MAX_LENGTH = 200

# Bytes of a row's id, of a generation, and of a day since 1970.
_ID_LENGTH = 16
_GENERATION_LENGTH = 8
_DAY_LENGTH = 4

_SIGNING: dict[str, Any] = {"key_derivation": "hmac", "digest_method": hashlib.sha256}


def derive(secret: Key, use: str) -> bytes:
    """Return a key of 32 bytes for one use (``jwt``, ``throttle``, …) of the application's secret."""
    return hmac.digest(_as_bytes(secret), f"flask-accountflow/{use}".encode(), "sha256")


def random_id() -> UUID:
    """Return 128 random bits. ``uuid4`` has 122."""
    return UUID(bytes=secrets.token_bytes(_ID_LENGTH))


def checked_keys(keys: Sequence[Key]) -> list[bytes]:
    """Return the application's secrets as bytes. Raises :exc:`ValueError` for what would be no secret."""
    # A string is a sequence of one-letter keys, and itsdangerous accepts an empty key.
    if isinstance(keys, (str, bytes)) or not keys or not all(keys):
        raise ValueError("keys must be a list of secrets, newest last, none of them empty")
    return [_as_bytes(key) for key in keys]


def unix_seconds(moment: datetime) -> int:
    """Return the seconds since 1970, as tokens hold them."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
    return int(aware.timestamp())


def check_spelling(token: str, *, parts: int, max_length: int) -> list[bytes]:
    """Return what each part stands for. Raises :exc:`.InvalidToken` for a second spelling of a token."""
    if len(token) > max_length or token.count(".") != parts - 1:
        raise InvalidToken
    return [_decode(part) for part in token.split(".")]


class Links:
    """Makes and reads the token in a link. ``keys`` are the application's secrets, newest last."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = checked_keys(keys)
        self._readers: dict[str, TimestampSigner] = {}

    def make(self, purpose: str, row_id: UUID, created_at: datetime) -> str:
        """Return the token of the row ``row_id``: the same one each time, however often a mail is retried."""
        signer = _FixedTimeSigner(self._keys, _salt(purpose), timestamp=unix_seconds(created_at), **_SIGNING)
        return _signed(signer, row_id.bytes)

    def read(self, purpose: str, token: str) -> UUID:
        """Return the row that ``token`` names. Its age is not looked at.

        Raises :exc:`.InvalidToken` unless we made it for ``purpose``, spelled like this.
        """
        reader = self._readers.get(purpose)
        if reader is None:
            reader = self._readers[purpose] = TimestampSigner(self._keys, _salt(purpose), **_SIGNING)
        said, _, _ = check_spelling(token, parts=3, max_length=_MAX_LENGTH)
        return UUID(bytes=_checked(reader, token, said, _ID_LENGTH))


class RefreshTokens:
    """Makes and reads refresh tokens. ``keys`` are the application's secrets, newest last."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._signer = Signer(checked_keys(keys), "flask-accountflow.refresh", **_SIGNING)

    def make(self, session_id: UUID, generation: int) -> str:
        """Return the token of one generation of a session. It carries no time."""
        return _signed(self._signer, session_id.bytes + generation.to_bytes(_GENERATION_LENGTH, "big"))

    def read(self, token: str) -> tuple[UUID, int]:
        """Return the session's id and the generation, or raise :exc:`.InvalidToken`."""
        said, _ = check_spelling(token, parts=2, max_length=_MAX_LENGTH)
        _checked(self._signer, token, said, _ID_LENGTH + _GENERATION_LENGTH)
        return UUID(bytes=said[:_ID_LENGTH]), int.from_bytes(said[_ID_LENGTH:], "big")


class Devices:
    """Makes and reads what a browser keeps of a login: a proof that somebody has logged in there to this address.

    It opens nothing; guesses from there are counted apart. ``keys`` are the application's secrets, newest last.
    """

    #: For how many days a browser is known after a login. With each login they begin anew.
    MAX_AGE_DAYS = 180

    def __init__(self, keys: Sequence[Key]) -> None:
        checked = checked_keys(keys)
        self._digest_key = derive(checked[-1], "device")
        self._signer = Signer(checked, "flask-accountflow.device", **_SIGNING)

    def make(self, address_key: str, now: datetime) -> str:
        """Return the token of a browser that has just logged in. It holds no address, only a keyed digest of it."""
        nonce, day = secrets.token_bytes(_ID_LENGTH), _day(now).to_bytes(_DAY_LENGTH, "big")
        return _signed(self._signer, self._digest(address_key) + nonce + day)

    def read(self, token: str, address_key: str, now: datetime) -> str:
        """Return what the browser is counted under. Raises :exc:`.InvalidToken` unless it knows this address."""
        said, _ = check_spelling(token, parts=2, max_length=_MAX_LENGTH)
        _checked(self._signer, token, said, 2 * _ID_LENGTH + _DAY_LENGTH)
        digest, nonce, day = said[:_ID_LENGTH], said[_ID_LENGTH:-_DAY_LENGTH], said[-_DAY_LENGTH:]
        is_recent = 0 <= _day(now) - int.from_bytes(day, "big") < self.MAX_AGE_DAYS
        if not is_recent or not hmac.compare_digest(digest, self._digest(address_key)):
            raise InvalidToken
        return _encode(nonce)

    def _digest(self, address_key: str) -> bytes:
        return hmac.digest(self._digest_key, address_key.encode(), "sha256")[:_ID_LENGTH]


class _FixedTimeSigner(TimestampSigner):
    def __init__(self, *args: Any, timestamp: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timestamp = timestamp

    def get_timestamp(self) -> int:
        return self._timestamp


def _day(moment: datetime) -> int:
    return unix_seconds(moment) // DAY


def _as_bytes(key: Key) -> bytes:
    return key.encode() if isinstance(key, str) else key


def _salt(purpose: str) -> str:
    return f"flask-accountflow.link.{purpose}"


# Not the serializers of itsdangerous, which would try to compress these few bytes, for half of a token's time.


def _signed(signer: Signer, said: bytes) -> str:
    return signer.sign(_encode(said)).decode("ascii")


def _checked(signer: Signer, token: str, said: bytes, length: int) -> bytes:
    """Return what a token says. Raises :exc:`.InvalidToken` unless it is signed by us, and as long as it has to be."""
    if len(said) != length or not signer.validate(token):
        raise InvalidToken
    return said


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise InvalidToken from None
    if _encode(raw) != text:
        raise InvalidToken
    return raw
