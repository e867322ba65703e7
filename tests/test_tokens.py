"""Links, refresh tokens and access tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import string
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import permutations
from typing import Any
from uuid import UUID

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer, URLSafeTimedSerializer

from flask_accountflow.errors import InvalidToken
from flask_accountflow.tokens import AccessClaims, AccessTokens, Links, RefreshTokens, derive, random_id

KEY = "k" * 32
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
ROW = UUID("0123456789abcdef0123456789abcdef")
ALPHABET = string.ascii_letters + string.digits + "-_"

LINKS = Links([KEY])
REFRESH = RefreshTokens([KEY])
ACCESS = AccessTokens([KEY], issuer="https://example.com", audience="https://example.com", max_age=900)

LINK = LINKS.make("verify", ROW, NOW)
REFRESH_TOKEN = REFRESH.make(ROW, 7)
ACCESS_TOKEN = ACCESS.make("42", ROW, NOW)

READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "verify": (LINK, lambda token: LINKS.read("verify", token)),
    "reset": (LINKS.make("reset", ROW, NOW), lambda token: LINKS.read("reset", token)),
    "refresh link": (LINKS.make("refresh", ROW, NOW), lambda token: LINKS.read("refresh", token)),
    "refresh": (REFRESH_TOKEN, REFRESH.read),
    "access": (ACCESS_TOKEN, lambda token: ACCESS.read(token, NOW)),
}
KINDS = ["verify", "refresh", "access"]


def refused(kind: str, token: str) -> bool:
    try:
        READERS[kind][1](token)
    except InvalidToken:
        return True
    return False


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(claims: dict[str, Any], header: dict[str, Any] | None = None, key: bytes = derive(KEY, "jwt")) -> str:
    """Return a JWT with a good signature, made without any library's checks."""
    head = {"alg": "HS256", "typ": "at+jwt"} if header is None else header
    start = f"{encoded(json.dumps(head).encode())}.{encoded(json.dumps(claims).encode())}"
    return f"{start}.{encoded(hmac.digest(key, start.encode(), 'sha256'))}"


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


class TestKeys:
    def test_derived_keys_differ_by_use(self) -> None:
        """A key for one use says nothing about that for another, and is the same for text and bytes."""
        assert derive(KEY, "jwt") == derive(KEY.encode(), "jwt")
        assert derive(KEY, "jwt") == hmac.new(KEY.encode(), b"flask-accountflow/jwt", hashlib.sha256).digest()
        assert derive(KEY, "jwt") != derive(KEY, "throttle")

    def test_VER_13_ids_are_random(self) -> None:
        """10 000 ids have no repeats, and each of their 128 bits is set in about half of them."""
        ids = [random_id().int for _ in range(10_000)]

        assert len(set(ids)) == 10_000
        assert all(4_500 < sum(one >> bit & 1 for one in ids) < 5_500 for bit in range(128))

    @pytest.mark.parametrize("keys", ["k" * 32, b"k" * 32, [], [""], [KEY, b""]])
    def test_keys_are_a_list_of_secrets(self, keys: Any) -> None:
        """A string, whose letters would each be a key, and empty keys are refused."""
        for make in (Links, RefreshTokens, lambda keys: AccessTokens(keys, issuer="i", audience="a", max_age=1)):
            with pytest.raises(ValueError, match="newest last"):
                make(keys)

    def test_every_token_outlives_a_change_of_the_key(self) -> None:
        """The newest key signs, each listed one reads, and one that is taken away reads nothing more."""
        both: list[str | bytes] = [KEY, b"n" * 32]
        new: list[str | bytes] = [b"n" * 32]
        issuer = {"issuer": "https://example.com", "audience": "https://example.com"}
        access_both, access_new = (AccessTokens(keys, max_age=900, **issuer) for keys in (both, new))

        assert Links(both).read("verify", LINK) == ROW
        assert RefreshTokens(both).read(REFRESH_TOKEN) == (ROW, 7)
        assert access_both.read(ACCESS_TOKEN, NOW).session_id == ROW
        assert Links(new).read("verify", Links(both).make("verify", ROW, NOW)) == ROW
        assert RefreshTokens(new).read(RefreshTokens(both).make(ROW, 7)) == (ROW, 7)
        assert access_new.read(access_both.make("42", ROW, NOW), NOW).session_id == ROW
        for read, token in (
            (lambda token: Links(new).read("verify", token), LINK),
            (RefreshTokens(new).read, REFRESH_TOKEN),
            (lambda token: access_new.read(token, NOW), ACCESS_TOKEN),
        ):
            with pytest.raises(InvalidToken):
                read(token)


class TestEveryKind:
    @pytest.mark.parametrize(("made", "read"), list(permutations(READERS, 2)))
    def test_VER_06_no_kind_is_taken_for_another(self, made: str, read: str) -> None:
        """A token of one kind or purpose is refused as any other."""
        token = READERS[made][0]

        assert not refused(made, token)
        assert refused(read, token)

    @pytest.mark.parametrize("kind", KINDS)
    def test_VER_05_respelled_link_is_refused(self, kind: str) -> None:
        """A token has one spelling: no other last sign of a part, no padding, no blanks."""
        token = READERS[kind][0]
        parts = token.split(".")
        respelled = [token + tail for tail in ("=", "==", "!!", " ", "\n", ".", "%3D", "\0")]
        respelled += [
            " " + token,
            "." + token,
            token.replace(".", "%2E"),
            token.replace(".", ".."),
            token + "." + parts[-1],
        ]
        for index, part in enumerate(parts):
            for tail in (
                *(part[:-1] + sign for sign in ALPHABET),
                part + "=",
                part + "=" * (-len(part) % 4 or 4),
                part + "!",
            ):
                respelled.append(".".join([*parts[:index], tail, *parts[index + 1 :]]))

        accepted = [one for one in respelled if one != token and not refused(kind, one)]

        assert accepted == []

    @pytest.mark.parametrize("kind", KINDS)
    def test_VER_08_tampering_is_refused(self, kind: str) -> None:
        """A token with any sign changed, taken away or doubled, or cut anywhere, is refused."""
        token = READERS[kind][0]
        tampered = {token[:index] + sign + token[index + 1 :] for index in range(len(token)) for sign in "A.z_"}
        tampered |= {token[:index] + token[index + 1 :] for index in range(len(token))}
        tampered |= {token[:index] + token[index] + token[index:] for index in range(len(token))}
        tampered |= {token[:index] for index in range(len(token))} | {token[index:] for index in range(1, len(token))}

        accepted = [one for one in tampered - {token} if not refused(kind, one)]

        assert accepted == []

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        "junk",
        [
            "",
            ".",
            "..",
            "...",
            "a.b.c",
            "A" * 1_000_000,
            "." * 1_000_000,
            "é.é.é",
            "\0.\0.\0",
            "\ud800.\ud800.a",
            "a.a",
        ],
    )
    def test_VER_08_junk_is_refused_at_once(self, kind: str, junk: str) -> None:
        """Text of any size and signs is refused in less than 50 ms."""
        start = time.thread_time()

        assert refused(kind, junk)
        assert time.thread_time() - start < 0.05

    @pytest.mark.parametrize("kind", KINDS)
    @given(
        text=st.text(max_size=300)
        | st.lists(st.binary(max_size=60), max_size=4).map(lambda parts: ".".join(map(encoded, parts)))
    )
    def test_VER_08_any_text_is_refused(self, kind: str, text: str) -> None:
        """Nothing but InvalidToken is raised, for any text and for parts that are well spelled."""
        assert refused(kind, text)


class TestLinks:
    def test_a_link_names_its_row(self) -> None:
        """What is made for a purpose is read for it, and is short and fit for an address."""
        assert LINKS.read("verify", LINK) == ROW
        assert len(LINK) < 100
        assert set(LINK) <= {*ALPHABET, "."}

    def test_each_retry_makes_the_same_link(self) -> None:
        """The row and its time decide the link, wherever and however the time is kept."""
        same = {
            LINKS.make("verify", ROW, NOW),
            Links([b"old", KEY]).make("verify", ROW, NOW),
            LINKS.make("verify", ROW, NOW.replace(tzinfo=None)),
            LINKS.make("verify", ROW, NOW.astimezone(timezone(timedelta(hours=5)))),
        }

        assert same == {LINK}
        assert LINKS.make("verify", ROW, NOW + timedelta(seconds=1)) != LINK

    @pytest.mark.parametrize("year", [1971, 2026, 9999])
    def test_the_age_of_a_link_is_not_looked_at(self, year: int) -> None:
        """The row decides expiry: a link from any time, and from a clock ahead, is read."""
        token = LINKS.make("verify", ROW, NOW.replace(year=year))

        assert LINKS.read("verify", token) == ROW

    @pytest.mark.parametrize("payload", [None, 7, [], {}, "", "short", "A" * 21 + "B", "A" * 23, "é" * 22, "A" * 43])
    def test_a_signed_payload_of_another_form_is_refused(self, payload: Any) -> None:
        """Even with our signature only the bytes of a row's id are read."""
        signer = URLSafeTimedSerializer(
            KEY,
            salt="flask-accountflow.link.verify",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )

        with pytest.raises(InvalidToken):
            LINKS.read("verify", str(signer.dumps(payload)))


class TestRefreshTokens:
    @pytest.mark.parametrize("generation", [0, 1, 2**63])
    def test_a_refresh_token_names_session_and_generation(self, generation: int) -> None:
        """What is made is read."""
        assert REFRESH.read(REFRESH.make(ROW, generation)) == (ROW, generation)

    @pytest.mark.parametrize(
        "payload",
        [
            *(None, 7, "AA", [], {"a": 1}, [7, 1], ["AA", 1], [encoded(ROW.bytes)], [encoded(ROW.bytes), 1, 1]),
            *([encoded(ROW.bytes), generation] for generation in (True, -1, 1.0, "1", None)),
        ],
    )
    def test_a_signed_payload_of_another_form_is_refused(self, payload: Any) -> None:
        """Even with our signature only a session's id and a generation are read."""
        signer = URLSafeSerializer(
            KEY,
            salt="flask-accountflow.refresh",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )

        with pytest.raises(InvalidToken):
            REFRESH.read(str(signer.dumps(payload)))


class TestAccessTokens:
    def test_an_access_token_says_whose_it_is(self) -> None:
        """What is made is read, and no two are the same."""
        assert ACCESS.read(ACCESS_TOKEN, NOW) == AccessClaims(user_id="42", session_id=ROW)
        assert ACCESS.make("42", ROW, NOW) != ACCESS_TOKEN

    def test_an_access_token_is_an_rfc_9068_jwt(self) -> None:
        """Header and claims are the registered ones, and any JWT library reads them."""
        found = jwt.decode_complete(ACCESS_TOKEN, options={"verify_signature": False})

        assert found["header"] == {"alg": "HS256", "typ": "at+jwt"}
        assert {**found["payload"], "jti": "j"} == claims()
        assert len(found["payload"]["jti"]) == 32

    def test_TOK_05_it_expires_by_the_given_time(self) -> None:
        """It works until the last second of its age, by the time that is given and not by the machine's."""
        for year in (2000, 2026, 2100):
            then = NOW.replace(year=year)
            token = ACCESS.make("42", ROW, then)

            assert ACCESS.read(token, then + timedelta(seconds=899.9)).user_id == "42"
            assert ACCESS.read(token, then - timedelta(days=1)).user_id == "42"
            for late in (900, 901, 10**6):
                with pytest.raises(InvalidToken):
                    ACCESS.read(token, then + timedelta(seconds=late))

    @pytest.mark.parametrize(
        "header",
        [
            {"alg": "none", "typ": "at+jwt"},
            {"alg": "None", "typ": "at+jwt"},
            {"alg": "HS512", "typ": "at+jwt"},
            {"alg": "RS256", "typ": "at+jwt"},
            {"alg": "HS256", "typ": "JWT"},
            {"alg": "HS256"},
            {"typ": "at+jwt"},
            {},
            {"alg": "HS256", "typ": "at+jwt", "kid": "../../dev/null"},
            {"alg": "HS256", "typ": "at+jwt", "jwk": {}},
            {"alg": "HS256", "typ": "at+jwt", "crit": ["b64"], "b64": False},
            {"alg": ["HS256"], "typ": "at+jwt"},
        ],
    )
    def test_TOK_03_the_sender_chooses_no_algorithm(self, header: dict[str, Any]) -> None:
        """A header that is not ours is refused, even with a good signature."""
        assert not refused("access", signed(claims()))
        assert refused("access", signed(claims(), header))

    def test_TOK_03_unsigned_tokens_are_refused(self) -> None:
        """alg=none, an empty signature and a missing one are refused."""
        head, payload, _ = ACCESS_TOKEN.split(".")
        none = encoded(b'{"alg":"none","typ":"at+jwt"}')

        for token in (
            f"{none}.{payload}.",
            f"{head}.{payload}.",
            f"{head}.{payload}",
            jwt.encode(claims(), None, "none"),
        ):
            assert refused("access", token)

    @pytest.mark.parametrize("key", [KEY.encode(), derive(KEY, "throttle"), b""])
    def test_TOK_03_only_the_derived_key_signs(self, key: bytes) -> None:
        """A token signed with the application's secret itself, or with a key for another use, is refused."""
        assert refused("access", signed(claims(), key=key))

    @pytest.mark.parametrize(
        "header", [b"[" * 2_900, b"{", b"\xff\xfe", b"null", b"7", b"", b'{"alg":' + b"9" * 2_900 + b"}", b"[]"]
    )
    def test_TOK_03_a_header_of_any_form_is_survived(self, header: bytes) -> None:
        """Deep, broken and huge JSON in the header is refused like all else."""
        assert refused("access", f"{encoded(header)}.e30.e30")

    @pytest.mark.parametrize("change", ["iss", "aud", "sub", "sid", "iat", "exp", "jti", "typ"])
    def test_TOK_04_every_claim_is_required(self, change: str) -> None:
        """A signed token without one of the claims is refused."""
        assert refused("access", signed(claims(**{change: None})))

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
    def test_TOK_04_every_claim_is_checked(self, changes: dict[str, Any]) -> None:
        """A signed token with another issuer, audience, type or form of a claim is refused."""
        assert refused("access", signed(claims(**changes)))

    def test_TOK_04_a_payload_that_is_no_object_is_refused(self) -> None:
        """A signed list or text is refused."""
        payloads: list[Any] = [[], "text", 7, None]

        assert all(refused("access", signed(payload)) for payload in payloads)
