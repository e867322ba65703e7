"""Key pairs for access tokens that other services check."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from jwt_tools import ALGORITHMS, encoded, in_pem, pem, private_key

from flask_accountflow.jwt_keys import faults, load

MEMBERS = {"RS256": {"kty", "n", "e"}, "ES256": {"kty", "crv", "x", "y"}, "EdDSA": {"kty", "crv", "x"}}
KINDS = {
    "RS256": "must be RSA keys of 2048 bits or more, for 'RS256' (key 1 is not)",
    "ES256": "must be EC keys on the curve P-256, for 'ES256' (key 1 is not)",
    "EdDSA": "must be Ed25519 keys, for 'EdDSA' (key 1 is not)",
}
UNSUITED: dict[str, Callable[[], Any]] = {
    "RSA-2047": lambda: rsa.generate_private_key(65537, 2047),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "Ed448": ed448.Ed448PrivateKey.generate,
    "X25519": x25519.X25519PrivateKey.generate,
}
UNREADABLE = "must be private keys that can be read (key 1 is not)"
#: The private key of RFC 8037 appendix A.1.
RFC_8037 = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")


def on_an_unknown_curve(text: str) -> str:
    """Return a PEM whose key says that it is on prime239v1 (RFC 3279 section 2.3.5)."""
    first, *lines, last = text.splitlines()
    raw = base64.b64decode("".join(lines)).replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030104"))
    return "\n".join([first, base64.b64encode(raw).decode(), last])


def broken(text: str) -> str:
    """Return a PEM that has lost the middle of its content."""
    lines = text.splitlines()
    return "\n".join([lines[0], lines[1][:20], lines[-1]])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_jwk_is_the_public_half_alone(algorithm: str) -> None:
    """A JWK names use, algorithm and kid beside the members of the public key, and no other."""
    [pair] = load(algorithm, [pem(algorithm)])

    found = pair.jwk()

    assert set(found) == MEMBERS[algorithm] | {"use", "alg", "kid"}
    assert (found["use"], found["alg"], found["kid"]) == ("sig", algorithm, pair.kid)
    read: Any = jwt.PyJWK(found)
    assert read.key == private_key(algorithm).public_key() == pair.public_key


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_kid_is_the_thumbprint(algorithm: str) -> None:
    """The kid is the SHA-256 of the needed members in the order of their names (RFC 7638 section 3)."""
    [pair] = load(algorithm, [pem(algorithm)])
    members = pair.jwk()
    needed = ",".join(f'"{name}":"{members[name]}"' for name in sorted(MEMBERS[algorithm]))

    assert pair.kid == encoded(hashlib.sha256(f"{{{needed}}}".encode()).digest())


def test_the_example_of_the_standard() -> None:
    """Key and thumbprint of RFC 8037 appendix A come out as they stand there."""
    [pair] = load("EdDSA", [in_pem(ed25519.Ed25519PrivateKey.from_private_bytes(RFC_8037))])

    assert pair.jwk()["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert pair.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize("coordinate", ["x", "y"])
def test_a_coordinate_keeps_its_zeros(coordinate: str) -> None:
    """A coordinate that begins with a zero has 32 bytes all the same (RFC 7518 section 6.2.1.2)."""
    keys = (ec.derive_private_key(number, ec.SECP256R1()) for number in range(1, 10_000))
    key = next(key for key in keys if getattr(key.public_key().public_numbers(), coordinate) < 1 << 248)

    [pair] = load("ES256", [in_pem(key)])

    assert len(base64.urlsafe_b64decode(pair.jwk()[coordinate] + "=")) == 32
    read: Any = jwt.PyJWK(pair.jwk())
    assert read.key == key.public_key()


def test_the_order_is_kept() -> None:
    """Pairs are loaded in the order of their PEMs, since the first one signs."""
    pems = [pem("ES256", number) for number in (3, 1, 2)]

    pairs = load("ES256", pems)

    assert [pair.public_key for pair in pairs] == [private_key("ES256", number).public_key() for number in (3, 1, 2)]
    assert list(faults("ES256", pems)) == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_key_is_printed(algorithm: str) -> None:
    """The text of a pair shows its kid, and nothing of its private half."""
    [pair] = load(algorithm, [pem(algorithm)])

    assert pair.kid in repr(pair)
    assert "rivate" not in repr(pair)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kind", UNSUITED)
def test_TOK_03_a_key_that_suits_no_algorithm(algorithm: str, kind: str) -> None:
    """Weak RSA keys, other curves and keys that do not sign are refused for every algorithm."""
    assert list(faults(algorithm, [in_pem(UNSUITED[kind]())])) == [KINDS[algorithm]]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_TOK_03_a_key_for_another_algorithm(algorithm: str) -> None:
    """A key serves one algorithm, and is refused for the others."""
    accepted = [made for made in ALGORITHMS if not list(faults(algorithm, [pem(made)]))]

    assert accepted == [algorithm]


@pytest.mark.parametrize(
    ("algorithm", "traditional"),
    [("RS256", False), ("RS256", True), ("ES256", False), ("ES256", True), ("EdDSA", False)],
)
def test_an_encrypted_key(algorithm: str, traditional: bool) -> None:
    """A key with a passphrase is refused, in each form of PEM that has one."""
    locked = in_pem(private_key(algorithm), passphrase=b"open sesame", traditional=traditional)

    assert list(faults(algorithm, [locked])) == ["must be keys without a passphrase (key 1 is not)"]


@pytest.mark.parametrize(
    "spoil",
    [
        broken,
        on_an_unknown_curve,
        lambda text: text[:80],
        lambda text: text.replace("PRIVATE", "PUBLIC"),
        lambda text: text.replace("-----BEGIN PRIVATE", "-----BEGIN NO PRIVATE"),
        lambda text: text + "\ud800",
        lambda text: "-----BEGIN PRIVATE KEY-----",
        lambda text: "-----BEGIN PRIVATE KEY-----\nMEEC\n-----END PRIVATE KEY-----\n",
        lambda text: "",
    ],
)
def test_a_key_that_cannot_be_read(spoil: Callable[[str], str]) -> None:
    """A PEM that is cut off, empty or of something else is a fault, and not an exception of a library."""
    assert list(faults("ES256", [spoil(pem("ES256"))])) == [UNREADABLE]


def test_one_key_twice() -> None:
    """The same key, be it in another form of PEM, is refused: dropping it once would not drop it."""
    again = in_pem(private_key("RS256"), traditional=True)

    found = list(faults("RS256", [pem("RS256"), pem("RS256", 2), again, again]))

    assert found == ["must be keys that differ (key 3 is key 1)", "must be keys that differ (key 4 is key 1)"]


def test_every_fault_is_named() -> None:
    """Each key that is no good has its sentence, with its number."""
    locked = in_pem(private_key("ES256", 2), passphrase=b"open sesame")

    found = list(faults("ES256", [pem("RS256"), pem("ES256"), "-----BEGIN", locked, pem("ES256")]))

    assert found == [
        KINDS["ES256"],
        UNREADABLE.replace("1", "3"),
        "must be keys without a passphrase (key 4 is not)",
        "must be keys that differ (key 5 is key 2)",
    ]


@pytest.mark.parametrize(
    "spoil", [broken, lambda text: pem("RS256"), lambda text: in_pem(private_key("ES256"), passphrase=b"open sesame")]
)
def test_a_fault_quotes_no_key(spoil: Callable[[str], str]) -> None:
    """Whoever loads a bad key gets a ValueError that carries nothing of it, not even in its causes."""
    text = spoil(pem("ES256"))

    with pytest.raises(ValueError, match="must be ") as caught:
        load("ES256", [pem("ES256"), text])

    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert not any(line in str(caught.value) for line in text.splitlines())


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where cryptography is missing the one fault says how to get it, whatever the keys are."""
    monkeypatch.setitem(sys.modules, "cryptography", None)

    found = [list(faults("RS256", pems)) for pems in ([], ["no key"], [pem("RS256")])]

    assert found == [["needs the package cryptography: install flask-accountflow[jwt]"]] * 3


PAYS = """
import sys
from flask_accountflow import access_tokens, configuration, services
settings, _ = configuration.read({
    "SECRET_KEY": "k" * 32, "TESTING": True, "ACCOUNTFLOW_BASE_URL": "https://example.com", **eval(sys.argv[1])
})
services._access_keys(settings)
print(sorted({"jwt", "cryptography"} & set(sys.modules)))
"""


@pytest.mark.parametrize(("algorithm", "imported"), [("HS256", []), ("ES256", ["cryptography"])])
def test_only_who_has_key_pairs_pays_for_them(algorithm: str, imported: list[str]) -> None:
    """An app with HS256 starts without importing PyJWT or cryptography."""
    keys = [] if algorithm == "HS256" else [pem(algorithm)]
    config = {"ACCOUNTFLOW_JWT_ALGORITHM": algorithm, "ACCOUNTFLOW_JWT_PRIVATE_KEYS": keys}

    done = subprocess.run([sys.executable, "-c", PAYS, repr(config)], capture_output=True, text=True, check=False)

    assert (done.stdout.strip(), done.stderr) == (repr(imported), "")
