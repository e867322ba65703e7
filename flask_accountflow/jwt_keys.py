"""The key pairs that access tokens are signed with, when other services are to check them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

#: The signatures that JWT_ALGORITHM may name beside HS256.
ALGORITHMS = ("RS256", "ES256", "EdDSA")


def faults(algorithm: str, pems: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with these keys, as the end of a sentence that begins with the setting's name."""
    yield from ()
