"""Access tokens: JWTs for this application alone, or for every service that knows its public keys.

As with every token of ours, there is exactly one accepted spelling, no function reads the clock, and a
time without time zone is taken as UTC.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from .errors import InvalidToken
from .jwt_keys import KeyPair, base64url
from .tokens import Key, check_spelling, checked_keys, derive, random_id, unix_seconds

# Roughly half of the 8 KB that web servers accept for one header.
_MAX_LENGTH = 4096
# The type of access tokens (RFC 9068 section 2.1).
_TYPE = "at+jwt"
# The order of P-256 (NIST SP 800-186 section 3.2.1.3).
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True)
class SigningKey:
    """A key of ours, and the header of the tokens that it signs. ``jwk`` is what other services may know of it."""

    header: Mapping[str, str]
    private: Any = field(repr=False)
    public: Any = field(repr=False)
    jwk: Mapping[str, str] | None = None


def derived_keys(secrets: Sequence[Key]) -> tuple[SigningKey, ...]:
    """Return the HS256 keys of the application's secrets, which are given newest last."""
    keys = reversed([derive(secret, "jwt") for secret in checked_keys(secrets)])
    return tuple(SigningKey({"alg": "HS256", "typ": _TYPE}, key, key) for key in keys)


def paired_keys(pairs: Sequence[KeyPair]) -> tuple[SigningKey, ...]:
    """Return the keys of these pairs, in their order."""
    return tuple(
        SigningKey(
            {"alg": pair.algorithm, "kid": pair.kid, "typ": _TYPE}, pair.private_key, pair.public_key, pair.jwk()
        )
        for pair in pairs
    )


@dataclass(frozen=True)
class AccessClaims:
    """What an access token says: whose it is, and of which session."""

    user_id: str
    session_id: UUID


class AccessTokens:
    """Makes and reads access tokens. The first of ``keys`` signs, all read. ``max_age`` is in seconds."""

    def __init__(self, keys: Sequence[SigningKey], *, issuer: str, audience: str, max_age: int) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._max_age = max_age

    @property
    def public_keys(self) -> tuple[Mapping[str, str], ...]:
        """What other services check tokens with, as JWKs; empty when nobody else can."""
        return tuple(key.jwk for key in self._keys if key.jwk is not None)

    def make(self, user_id: str, session_id: UUID, now: datetime) -> str:
        """Return a token that works until ``max_age`` seconds after ``now``."""
        import jwt  # noqa: PLC0415 - 65 ms that an application without API clients need not pay

        issued = unix_seconds(now)
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": user_id,
            "sid": session_id.hex,
            "iat": issued,
            "exp": issued + self._max_age,
            "jti": random_id().hex,
            "typ": "access",
        }
        key = self._keys[0]
        token = jwt.encode(claims, key.private, algorithm=key.header["alg"], headers=dict(key.header))
        return _with_low_s(token) if key.header["alg"] == "ES256" else token

    def read(self, token: str, now: datetime) -> AccessClaims:
        """Return what ``token`` says, or raise :exc:`.InvalidToken`, also when it has expired by ``now``."""
        head, _, signature = check_spelling(token, parts=3, max_length=_MAX_LENGTH)
        header = _json(head)
        # The header is ours or nobody's: the sender of a token chooses no algorithm and no key (RFC 8725 section 3.1).
        keys = [key for key in self._keys if key.header == header]
        if not keys or (header["alg"] == "ES256" and not _has_low_s(signature)):
            raise InvalidToken
        claims = self._verified(token, keys)
        if claims["typ"] != "access" or not claims["sub"]:
            raise InvalidToken
        if type(claims["exp"]) is not int or claims["exp"] <= unix_seconds(now):
            raise InvalidToken
        return AccessClaims(claims["sub"], _session(claims["sid"]))

    def _verified(self, token: str, keys: Sequence[SigningKey]) -> dict[str, Any]:
        import jwt  # noqa: PLC0415

        # PyJWT compares times with the machine's clock; ours is compared by the caller.
        options: Any = {"require": ["iss", "aud", "sub", "sid", "iat", "exp", "jti", "typ"], "strict_aud": True}
        options |= dict.fromkeys(("verify_exp", "verify_iat", "verify_nbf"), False)
        expected: Any = {"options": options, "audience": self._audience, "issuer": self._issuer}
        for key in keys:
            try:
                return jwt.decode(token, key.public, algorithms=[key.header["alg"]], **expected)
            except jwt.InvalidSignatureError:
                continue
            except jwt.PyJWTError:
                break
        raise InvalidToken


# With every ECDSA signature (r, s) its twin (r, n - s) is good, too. Ours is the one with the smaller s, so that
# nobody can respell a token. Other services take both.


def _has_low_s(signature: bytes) -> bool:
    return int.from_bytes(signature[32:], "big") <= _P256_ORDER // 2


def _with_low_s(token: str) -> str:
    start, _, encoded = token.rpartition(".")
    signature = base64.urlsafe_b64decode(encoded + "==")
    if not _has_low_s(signature):
        twin = _P256_ORDER - int.from_bytes(signature[32:], "big")
        signature = signature[:32] + twin.to_bytes(32, "big")
    return f"{start}.{base64url(signature)}"


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise InvalidToken from None


def _session(text: Any) -> UUID:
    try:
        found = UUID(hex=text)
    except (ValueError, TypeError, AttributeError):
        raise InvalidToken from None
    if found.hex != text:
        raise InvalidToken
    return found
