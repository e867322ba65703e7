"""The key pairs that access tokens are signed with, when other services are to check them.

Only who configures such keys needs the package ``cryptography``, and only he waits for its import.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

#: The signatures that JWT_ALGORITHM may name beside HS256, and the keys that each needs (RFC 7518 section 3, RFC 8037).
_KINDS = {
    "RS256": "RSA keys of 2048 bits or more",
    "ES256": "EC keys on the curve P-256",
    "EdDSA": "Ed25519 keys",
}
ALGORITHMS = tuple(_KINDS)
# RFC 7518 section 3.3, and the least that NIST SP 800-131A revision 2 section 3 accepts.
_RSA_MIN_BITS = 2048


@dataclass(frozen=True)
class KeyPair:
    """A key pair for one algorithm. ``kid`` is the thumbprint of its public half (RFC 7638), so it needs no setting."""

    kid: str
    algorithm: str
    private_key: Any = field(repr=False)
    public_key: Any = field(repr=False)
    members: Mapping[str, str] = field(repr=False)

    def jwk(self) -> dict[str, str]:
        """Return the public half as a JSON Web Key (RFC 7517 section 4)."""
        return {**self.members, "use": "sig", "alg": self.algorithm, "kid": self.kid}


def faults(algorithm: str, pems: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with these keys, as the end of a sentence that begins with the setting's name."""
    if find_spec("cryptography") is None:
        yield "needs the package cryptography: install flask-accountflow[jwt]"
        return
    numbers: dict[str, int] = {}
    for number, pem in enumerate(pems, 1):
        try:
            kid = _pair(algorithm, pem).kid
        except ValueError as error:
            yield f"{error} (key {number} is not)"
            continue
        if kid in numbers:
            yield f"must be keys that differ (key {number} is key {numbers[kid]})"
        numbers.setdefault(kid, number)


def load(algorithm: str, pems: Sequence[str]) -> tuple[KeyPair, ...]:
    """Return the pairs of these private keys, in their order. Raises :exc:`ValueError` for one that is no good."""
    return tuple(_pair(algorithm, pem) for pem in pems)


def base64url(raw: bytes) -> str:
    """Return ``raw`` as JWTs and JWKs spell it (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _pair(algorithm: str, pem: str) -> KeyPair:
    private = _private_key(pem)
    public = private.public_key()
    members = _members(algorithm, public)
    return KeyPair(_thumbprint(members), algorithm, private, public, members)


def _private_key(pem: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    # Without causes: they may quote the key.
    try:
        return load_pem_private_key(pem.encode(), None)
    except TypeError:
        raise ValueError("must be keys without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("must be private keys that can be read") from None


def _members(algorithm: str, public: Any) -> dict[str, str]:
    """Return the members of a JWK that make the key, or raise :exc:`ValueError` if it does not suit the algorithm."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415 - see above

    match public:
        case rsa.RSAPublicKey() if algorithm == "RS256" and public.key_size >= _RSA_MIN_BITS:
            of_rsa = public.public_numbers()
            return {"kty": "RSA", "n": _number(of_rsa.n), "e": _number(of_rsa.e)}
        case ec.EllipticCurvePublicKey() if algorithm == "ES256" and isinstance(public.curve, ec.SECP256R1):
            point = public.public_numbers()
            # A coordinate keeps the zeros that it begins with (RFC 7518 section 6.2.1.2).
            return {"kty": "EC", "crv": "P-256", "x": _number(point.x, 32), "y": _number(point.y, 32)}
        case ed25519.Ed25519PublicKey() if algorithm == "EdDSA":
            return {"kty": "OKP", "crv": "Ed25519", "x": base64url(public.public_bytes_raw())}
    raise ValueError(f"must be {_KINDS[algorithm]}, for {algorithm!r}")


def _number(value: int, length: int = 0) -> str:
    return base64url(value.to_bytes(max(length, (value.bit_length() + 7) // 8), "big"))


def _thumbprint(members: Mapping[str, str]) -> str:
    # RFC 7638 section 3: the members in the order of their names, without blanks.
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return base64url(hashlib.sha256(canonical.encode()).digest())
