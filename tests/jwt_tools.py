"""Key pairs for tests, and JWTs that were not made by us."""

from __future__ import annotations

import base64
import functools
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import get_default_algorithms

#: The signatures that other services can check.
ALGORITHMS = ("RS256", "ES256", "EdDSA")
#: The order of P-256: with (r, s) an ECDSA signature (r, order - s) is good, too.
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

#: Turns what is to be signed into a signature.
Signer = Callable[[bytes], bytes]


def private_key(algorithm: str, number: int = 1) -> Any:
    """Return one of the keys for an algorithm: the same one for the same number."""
    return _generated(algorithm, number)


@functools.cache
def _generated(algorithm: str, number: int) -> Any:
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else ed25519.Ed25519PrivateKey.generate()


def in_pem(key: Any, *, passphrase: bytes | None = None, traditional: bool = False) -> str:
    """Return a private key in PEM form."""
    kind = PrivateFormat.TraditionalOpenSSL if traditional else PrivateFormat.PKCS8
    lock = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    return str(key.private_bytes(Encoding.PEM, kind, lock).decode())


def pem(algorithm: str, number: int = 1) -> str:
    """Return :func:`private_key` in PEM form."""
    return in_pem(private_key(algorithm, number))


def public_spellings(key: Any) -> list[bytes]:
    """Return the public half in the forms that somebody might take for a secret."""
    public = key.public_key()
    forms = [(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)]
    found = [public.public_bytes(*form) for form in forms]
    return [*found, found[0].strip()]


def encoded(raw: bytes) -> str:
    """Return bytes as a part of a JWT."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def by_secret(key: bytes) -> Signer:
    """Sign as HS256 does, with any secret."""
    return lambda start: hmac.digest(key, start, "sha256")


def by_key(algorithm: str, key: Any) -> Signer:
    """Sign with a private key, as our own tokens are signed."""

    def sign(start: bytes) -> bytes:
        signature: bytes = get_default_algorithms()[algorithm].sign(start, key)
        if algorithm != "ES256":
            return signature
        s = int.from_bytes(signature[32:], "big")
        return signature[:32] + min(s, P256_ORDER - s).to_bytes(32, "big")

    return sign


def signed(header: Mapping[str, Any], claims: Any, sign: Signer) -> str:
    """Return a JWT, made without any library's checks."""
    start = f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(claims).encode())}"
    return f"{start}.{encoded(sign(start.encode()))}"
