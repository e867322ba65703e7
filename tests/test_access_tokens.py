"""Access tokens, for this application alone and for other services."""

from __future__ import annotations

import functools
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import jwt
import pytest
from jwt_tools import (
    ALGORITHMS,
    P256_ORDER,
    Signer,
    by_key,
    by_secret,
    encoded,
    pem,
    private_key,
    public_spellings,
    signed,
)

from flask_accountflow.access_tokens import AccessClaims, AccessTokens, derived_keys, paired_keys
from flask_accountflow.errors import InvalidToken
from flask_accountflow.jwt_keys import load
from flask_accountflow.tokens import derive

KEY = "k" * 32
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
ROW = UUID("0123456789abcdef0123456789abcdef")
ALL = ["HS256", *ALGORITHMS]
#: The order of the group of Ed25519 (RFC 8032 section 5.1).
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493

every_algorithm = pytest.mark.parametrize("algorithm", ALL)


def tokens(algorithm: str, *numbers: int) -> AccessTokens:
    """Return the tokens of the keys with these numbers; the first signs."""
    chosen = numbers or (1,)
    if algorithm == "HS256":
        keys = derived_keys([str(number) + KEY for number in reversed(chosen)])
    else:
        keys = paired_keys(load(algorithm, [pem(algorithm, number) for number in chosen]))
    return AccessTokens(keys, issuer="https://example.com", audience="https://example.com", max_age=900)


@functools.cache
def token(algorithm: str, number: int = 1) -> str:
    """Return a good token."""
    return tokens(algorithm, number).make("42", ROW, NOW)


@functools.cache
def kid(algorithm: str, number: int = 1) -> str:
    """Return the name of a key."""
    return tokens(algorithm, number).public_keys[0]["kid"]


def refused(algorithm: str, text: str) -> bool:
    try:
        tokens(algorithm).read(text, NOW)
    except InvalidToken:
        return True
    return False


def header(algorithm: str) -> dict[str, str]:
    """Return the one header that tokens of the first key have."""
    named = {} if algorithm == "HS256" else {"kid": kid(algorithm)}
    return {"alg": algorithm, "typ": "at+jwt", **named}


def signer(algorithm: str, number: int = 1) -> Signer:
    """Return what signs as we do."""
    if algorithm == "HS256":
        return by_secret(derive(str(number) + KEY, "jwt"))
    return by_key(algorithm, private_key(algorithm, number))


def forged(algorithm: str, head: dict[str, Any] | None = None, **changes: Any) -> str:
    """Return a token with our signature, whatever it says; None takes a claim away."""
    return signed(header(algorithm) if head is None else head, claims(**changes), signer(algorithm))


def claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of an access token; None takes one away."""
    good = {
        "iss": "https://example.com",
        "aud": "https://example.com",
        "sub": "42",
        "sid": ROW.hex,
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 900,
        "jti": "j",
        "typ": "access",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


@every_algorithm
class TestEveryAlgorithm:
    def test_an_access_token_says_whose_it_is(self, algorithm: str) -> None:
        """What is made is read, and no two are the same."""
        assert tokens(algorithm).read(token(algorithm), NOW) == AccessClaims(user_id="42", session_id=ROW)
        assert tokens(algorithm).make("42", ROW, NOW) != token(algorithm)

    def test_an_access_token_is_an_rfc_9068_jwt(self, algorithm: str) -> None:
        """Header and claims are the registered ones, and any JWT library reads them."""
        found = jwt.decode_complete(token(algorithm), options={"verify_signature": False})

        assert found["header"] == header(algorithm)
        assert {**found["payload"], "jti": "j"} == claims()
        assert len(found["payload"]["jti"]) == 32

    def test_TOK_05_it_expires_by_the_given_time(self, algorithm: str) -> None:
        """It works until the last second of its age, by the time that is given and not by the machine's."""
        access = tokens(algorithm)
        for year in (2000, 2026, 2100):
            then = NOW.replace(year=year)
            made = access.make("42", ROW, then)

            assert access.read(made, then + timedelta(seconds=899.9)).user_id == "42"
            assert access.read(made, then - timedelta(days=1)).user_id == "42"
            for late in (900, 901, 10**6):
                with pytest.raises(InvalidToken):
                    access.read(made, then + timedelta(seconds=late))

    def test_what_the_tests_forge_would_be_good(self, algorithm: str) -> None:
        """A forgery with our header, claims and signature is read, so that what is refused below has one reason."""
        assert not refused(algorithm, forged(algorithm))

    @pytest.mark.parametrize(
        "changes",
        [
            *({"alg": alg} for alg in ("none", "None", "HS512", "RS512", "PS256", "ES384", "", None, ["HS256"])),
            *({"typ": typ} for typ in ("JWT", "AT+JWT", "application/at+jwt", "", None)),
            *({"kid": name} for name in ("../../dev/null", "' OR 1=1", "", 7, ["a"])),
            {"jwk": {}},
            {"jku": "https://evil.example/jwks.json"},
            {"x5u": "https://evil.example/cert.pem"},
            {"x5c": ["MIIB"]},
            {"cty": "JWT"},
            {"crit": ["b64"], "b64": False},
            {"crit": []},
            {"zip": "DEF"},
        ],
    )
    def test_TOK_03_the_sender_chooses_no_algorithm_and_no_key(self, algorithm: str, changes: dict[str, Any]) -> None:
        """A header that is not ours, sign for sign, is refused even with a good signature."""
        head = {name: value for name, value in {**header(algorithm), **changes}.items() if value is not None}

        assert refused(algorithm, forged(algorithm, head))

    @pytest.mark.parametrize("other", ALL)
    def test_TOK_03_a_token_of_another_algorithm_is_refused(self, algorithm: str, other: str) -> None:
        """Good tokens of one algorithm say nothing where another is configured."""
        assert refused(algorithm, token(other)) is (algorithm != other)

    def test_TOK_03_unsigned_tokens_are_refused(self, algorithm: str) -> None:
        """alg=none, an empty signature and a missing one are refused."""
        head, payload, _ = token(algorithm).split(".")
        none = encoded(b'{"alg":"none","typ":"at+jwt"}')

        for text in (
            f"{none}.{payload}.",
            f"{head}.{payload}.",
            f"{head}.{payload}",
            jwt.encode(claims(), None, "none"),
            jwt.encode(claims(), None, "none", headers=header(algorithm) | {"alg": "none"}),
        ):
            assert refused(algorithm, text)

    def test_TOK_03_a_foreign_key_with_our_header_is_refused(self, algorithm: str) -> None:
        """The header alone makes no token: another key signs nothing that is ours."""
        assert refused(algorithm, signed(header(algorithm), claims(), signer(algorithm, 2)))

    @pytest.mark.parametrize(
        "head", [b"[" * 2_900, b"{", b"\xff\xfe", b"null", b"7", b"", b'{"alg":' + b"9" * 2_900 + b"}", b"[]"]
    )
    def test_TOK_03_a_header_of_any_form_is_survived(self, algorithm: str, head: bytes) -> None:
        """Deep, broken and huge JSON in the header is refused like all else."""
        assert refused(algorithm, f"{encoded(head)}.e30.e30")

    @pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 63, 65, 128, 2_000])
    def test_TOK_03_a_signature_of_any_length_is_survived(self, algorithm: str, length: int) -> None:
        """A signature that is too short or too long is refused like all else."""
        start = token(algorithm).rpartition(".")[0]

        for sign in (b"\0", b"\x01", b"\xff"):
            assert refused(algorithm, f"{start}.{encoded(sign * length)}")

    @pytest.mark.parametrize("change", ["iss", "aud", "sub", "sid", "iat", "exp", "jti", "typ"])
    def test_TOK_04_every_claim_is_required(self, algorithm: str, change: str) -> None:
        """A signed token without one of the claims is refused."""
        assert refused(algorithm, forged(algorithm, **{change: None}))

    @pytest.mark.parametrize(
        "changes",
        [
            {"iss": "https://example.org"},
            {"iss": "https://example.co"},
            {"iss": ["https://example.com"]},
            {"aud": "https://example.org"},
            {"aud": ["https://example.com"]},
            {"aud": ["https://example.com", "https://example.org"]},
            {"typ": "refresh"},
            {"typ": ["access"]},
            {"sub": 42},
            {"sub": ""},
            {"sub": ["42"]},
            {"sid": 7},
            {"sid": "x" * 32},
            {"sid": ROW.hex.upper()},
            {"sid": str(ROW)},
            {"sid": "{" + ROW.hex + "}"},
            {"sid": ROW.hex[:-1]},
            {"sid": [ROW.hex]},
            {"exp": str(int(NOW.timestamp()) + 900)},
            {"exp": NOW.timestamp() + 900.5},
            {"exp": True},
            {"exp": [1]},
            {"jti": 7},
        ],
    )
    def test_TOK_04_every_claim_is_checked(self, algorithm: str, changes: dict[str, Any]) -> None:
        """A signed token with another issuer, audience, type or form of a claim is refused."""
        assert refused(algorithm, forged(algorithm, **changes))

    def test_TOK_04_a_payload_that_is_no_object_is_refused(self, algorithm: str) -> None:
        """A signed list or text is refused."""
        payloads: list[Any] = [[], "text", 7, None]

        assert all(refused(algorithm, signed(header(algorithm), one, signer(algorithm))) for one in payloads)

    def test_keys_change_without_a_gap(self, algorithm: str) -> None:
        """The first key signs, each listed one reads, and one that is taken away reads nothing more."""
        old, ahead, switched, new = (tokens(algorithm, *some) for some in ((1,), (1, 2), (2, 1), (2,)))
        by_old = [one.make("42", ROW, NOW) for one in (old, ahead)]
        by_new = [one.make("42", ROW, NOW) for one in (switched, new)]

        assert all(one.read(text, NOW).user_id == "42" for one in (ahead, switched) for text in by_old + by_new)
        assert all(new.read(text, NOW).user_id == "42" for text in by_new)
        for stranger, texts in ((old, by_new), (new, by_old)):
            for text in texts:
                with pytest.raises(InvalidToken):
                    stranger.read(text, NOW)

    def test_no_key_is_printed(self, algorithm: str) -> None:
        """The text of a key shows the header that it signs under, and nothing that signs."""
        [key] = derived_keys([KEY]) if algorithm == "HS256" else paired_keys(load(algorithm, [pem(algorithm)]))

        assert f"'alg': '{algorithm}'" in repr(key)
        assert "private" not in repr(key)
        assert str(key.private) not in repr(key)


class TestOfThisApplicationAlone:
    @pytest.mark.parametrize("key", [b"1" + KEY.encode(), derive("1" + KEY, "throttle"), b""])
    def test_TOK_03_only_the_derived_key_signs(self, key: bytes) -> None:
        """A token signed with the application's secret itself, or with a key for another use, is refused."""
        assert refused("HS256", signed(header("HS256"), claims(), by_secret(key)))

    def test_there_is_nothing_to_publish(self) -> None:
        """Derived keys have no public half."""
        assert tokens("HS256", 1, 2).public_keys == ()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
class TestForOtherServices:
    def test_every_public_key_is_published(self, algorithm: str) -> None:
        """Each key is published, the one that signs first, and none of its private half."""
        found = tokens(algorithm, 1, 2).public_keys

        assert [one["kid"] for one in found] == [kid(algorithm, 1), kid(algorithm, 2)]
        assert {name for one in found for name in one} <= {"kty", "use", "alg", "kid", "n", "e", "crv", "x", "y"}

    def test_a_published_key_checks_our_tokens(self, algorithm: str) -> None:
        """Whoever has the JWK, and nothing else of us, can check a token."""
        key = jwt.PyJWK(dict(tokens(algorithm).public_keys[0]))
        options: Any = {"verify_exp": False, "verify_iat": False}

        found = jwt.decode(
            token(algorithm), key.key, [algorithm], options, audience=claims()["aud"], issuer=claims()["iss"]
        )

        assert found["sub"] == "42"

    def test_TOK_03_a_public_key_is_no_secret(self, algorithm: str) -> None:
        """A token signed by HS256 with what is published is refused, under every header."""
        heads = [{**header(algorithm), "alg": "HS256"}, header("HS256"), header(algorithm)]

        for secret in public_spellings(private_key(algorithm)):
            for head in heads:
                assert refused(algorithm, signed(head, claims(), by_secret(secret)))

    def test_TOK_03_a_key_is_chosen_by_its_name(self, algorithm: str) -> None:
        """A signature of one of our keys under the name of another is refused."""
        both = tokens(algorithm, 1, 2)
        text = signed({**header(algorithm), "kid": kid(algorithm, 2)}, claims(), signer(algorithm, 1))

        with pytest.raises(InvalidToken):
            both.read(text, NOW)

    def test_VER_05_a_signature_has_one_spelling(self, algorithm: str) -> None:
        """Adding the order of the group, or negating what may be negated, makes no second token."""
        start, _, text = token(algorithm).rpartition(".")
        raw = jwt.utils.base64url_decode(text)
        twins = {"RS256": _rsa_twin, "ES256": _ecdsa_twin, "EdDSA": _eddsa_twin}

        twin = twins[algorithm](raw)

        assert twin != raw
        assert refused(algorithm, f"{start}.{encoded(twin)}")


def _rsa_twin(signature: bytes) -> bytes:
    modulus = private_key("RS256").public_key().public_numbers().n
    raised = int.from_bytes(signature, "big") + modulus
    return raised.to_bytes((raised.bit_length() + 7) // 8, "big")


def _ecdsa_twin(signature: bytes) -> bytes:
    return signature[:32] + (P256_ORDER - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")


def _eddsa_twin(signature: bytes) -> bytes:
    return signature[:32] + (int.from_bytes(signature[32:], "little") + ED25519_ORDER).to_bytes(32, "little")


def test_VER_05_the_twin_of_a_signature_would_be_good() -> None:
    """Elsewhere both forms of an ECDSA signature are taken, and it is always the smaller one that we make."""
    start, _, text = token("ES256").rpartition(".")
    twin = f"{start}.{encoded(_ecdsa_twin(jwt.utils.base64url_decode(text)))}"

    found = jwt.decode(
        twin,
        private_key("ES256").public_key(),
        ["ES256"],
        {"verify_exp": False, "verify_iat": False, "verify_aud": False},
    )
    made = [tokens("ES256").make("42", ROW, NOW) for _ in range(30)]

    assert found["sub"] == "42"
    assert all(not refused("ES256", one) for one in made)
