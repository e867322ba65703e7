"""Access tokens: JWTs for this application alone, or for every service that knows its public keys.

As with every token of ours, there is exactly one accepted spelling, no function reads the clock, and a
time without time zone is taken as UTC.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from .errors import InvalidToken
from .jwt_keys import KeyPair, base64url
from .tokens import Key, check_spelling, checked_keys, derive, random_id, unix_seconds

# Roughly half of the 8 KB that web servers accept for one header.
_MAX_LENGTH = 4096
# The type of access tokens (RFC 9068 section 2.1).
_TYPE = "at+jwt"
# What an access token says, and by which type (RFC 9068 section 2.2); "sid" and "typ" are ours.
_CLAIMS = dict.fromkeys(("iss", "aud", "sub", "sid", "jti", "typ"), str) | dict.fromkeys(("iat", "exp"), int)
# json.dumps() would make one for each part of a token.
_ENCODER = json.JSONEncoder(separators=(",", ":"))
# The order of P-256 (NIST SP 800-186 section 3.2.1.3).
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True)
class SigningKey:
    """A key of ours, and the header of the tokens that it signs. ``jwk`` is what other services may know of it."""

    header: Mapping[str, str]
    private: Any = field(repr=False)
    public: Any = field(repr=False)
    jwk: Mapping[str, str] | None = None

    def sign(self, message: bytes) -> bytes:
        """Return the signature of ``message`` (RFC 7515 section 5.1)."""
        algorithm, private, _ = self._prepared
        made: bytes = algorithm.sign(message, private)
        return _with_low_s(made) if self.header["alg"] == "ES256" else made

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Tell whether ``signature`` is this key's, of this message."""
        algorithm, _, public = self._prepared
        return bool(algorithm.verify(message, public, signature))

    @cached_property
    def _prepared(self) -> tuple[Any, Any, Any]:
        import jwt  # noqa: PLC0415 - 65 ms that an application without API clients need not pay

        # Once: to look at an HS256 key takes 50 µs, a tenth of a small request.
        algorithm = jwt.get_algorithm_by_name(self.header["alg"])
        return algorithm, algorithm.prepare_key(self.private), algorithm.prepare_key(self.public)


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
        message = f"{_part(key.header)}.{_part(claims)}"
        return f"{message}.{base64url(key.sign(message.encode()))}"

    def read(self, token: str, now: datetime) -> AccessClaims:
        """Return what ``token`` says, or raise :exc:`.InvalidToken`, also when it has expired by ``now``."""
        head, body, signature = check_spelling(token, parts=3, max_length=_MAX_LENGTH)
        header = _json(head)
        # The header is ours or nobody's: the sender of a token chooses no algorithm and no key (RFC 8725 section 3.1).
        keys = [key for key in self._keys if key.header == header]
        if not keys or (header["alg"] == "ES256" and not _has_low_s(signature)):
            raise InvalidToken
        message = token.rpartition(".")[0].encode()
        if not any(key.has_signed(message, signature) for key in keys):
            raise InvalidToken
        claims = _json(body)
        if not self._are_of_access(claims) or claims["exp"] <= unix_seconds(now):
            raise InvalidToken
        return AccessClaims(claims["sub"], _session(claims["sid"]))

    def _are_of_access(self, claims: Any) -> bool:
        """Tell whether these are all the claims of an access token, for us; how old it is remains to be seen.

        Whoever else has the key may sign other things. PyJWT's own reading would take the token apart again, which
        was a fifth of a request, and knows only the machine's clock.
        """
        if not isinstance(claims, dict) or not all(type(claims.get(name)) is kind for name, kind in _CLAIMS.items()):
            return False
        said = (claims["iss"], claims["aud"], claims["typ"])
        return said == (self._issuer, self._audience, "access") and bool(claims["sub"])


# With every ECDSA signature (r, s) its twin (r, n - s) is good, too. Ours is the one with the smaller s, so that
# nobody can respell a token. Other services take both.


def _has_low_s(signature: bytes) -> bool:
    return int.from_bytes(signature[32:], "big") <= _P256_ORDER // 2


def _with_low_s(signature: bytes) -> bytes:
    if _has_low_s(signature):
        return signature
    twin = _P256_ORDER - int.from_bytes(signature[32:], "big")
    return signature[:32] + twin.to_bytes(32, "big")


def _part(members: Mapping[str, Any]) -> str:
    return base64url(_ENCODER.encode(members).encode())


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
