"""Links and refresh tokens, and what every kind of token has in common."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import string
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import Signer, TimestampSigner
from jwt_tools import ALGORITHMS, encoded, pem

from flask_accountflow.access_tokens import AccessTokens, derived_keys, paired_keys
from flask_accountflow.errors import InvalidToken
from flask_accountflow.jwt_keys import load
from flask_accountflow.tokens import Devices, Links, RefreshTokens, derive, random_id

KEY = "k" * 32
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
ROW = UUID("0123456789abcdef0123456789abcdef")
ALPHABET = string.ascii_letters + string.digits + "-_"

LINKS = Links([KEY])
REFRESH = RefreshTokens([KEY])
DEVICES = Devices([KEY])

LINK = LINKS.make("verify", ROW, NOW)
REFRESH_TOKEN = REFRESH.make(ROW, 7)

READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "verify": (LINK, lambda token: LINKS.read("verify", token)),
    "reset": (LINKS.make("reset", ROW, NOW), lambda token: LINKS.read("reset", token)),
    "refresh link": (LINKS.make("refresh", ROW, NOW), lambda token: LINKS.read("refresh", token)),
    "refresh": (REFRESH_TOKEN, REFRESH.read),
    "device": (DEVICES.make("vic@example.com", NOW), lambda token: DEVICES.read(token, "vic@example.com", NOW)),
}
SIGNING: dict[str, Any] = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
KINDS = ["verify", "refresh", "device", "HS256", *ALGORITHMS]


def _add_access_tokens() -> None:
    keys = {"HS256": derived_keys([KEY]), **{name: paired_keys(load(name, [pem(name)])) for name in ALGORITHMS}}
    for name, some in keys.items():
        access = AccessTokens(some, issuer="https://example.com", audience="https://example.com", max_age=900)
        READERS[name] = (access.make("42", ROW, NOW), functools.partial(access.read, now=NOW))


_add_access_tokens()


def _said(token: str) -> bytes:
    return base64.urlsafe_b64decode(token.partition(".")[0] + "==")


def refused(kind: str, token: str) -> bool:
    try:
        READERS[kind][1](token)
    except InvalidToken:
        return True
    return False


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
        for make in (Links, RefreshTokens, Devices, derived_keys):
            with pytest.raises(ValueError, match="newest last"):
                make(keys)

    def test_tokens_outlive_a_change_of_the_key(self) -> None:
        """The newest key signs, each listed one reads, and one that is taken away reads nothing more."""
        both: list[str | bytes] = [KEY, b"n" * 32]
        new: list[str | bytes] = [b"n" * 32]

        assert Links(both).read("verify", LINK) == ROW
        assert RefreshTokens(both).read(REFRESH_TOKEN) == (ROW, 7)
        assert Links(new).read("verify", Links(both).make("verify", ROW, NOW)) == ROW
        assert RefreshTokens(new).read(RefreshTokens(both).make(ROW, 7)) == (ROW, 7)
        for read, token in (
            (lambda token: Links(new).read("verify", token), LINK),
            (RefreshTokens(new).read, REFRESH_TOKEN),
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

    @pytest.mark.parametrize("payload", ["", "short", "A" * 21 + "B", "A" * 23, "é" * 22, "A" * 43, "null", "ID.ID"])
    def test_a_signed_payload_of_another_form_is_refused(self, payload: str) -> None:
        """Even with our signature only the bytes of a row's id are read."""
        signer = TimestampSigner(KEY, "flask-accountflow.link.verify", **SIGNING)

        with pytest.raises(InvalidToken):
            LINKS.read("verify", signer.sign(payload.replace("ID", encoded(ROW.bytes))).decode())

        assert LINKS.read("verify", signer.sign(encoded(ROW.bytes)).decode()) == ROW

    def test_a_link_without_a_time_is_refused(self) -> None:
        """What the same key has signed without a time is no link."""
        signer = Signer(KEY, "flask-accountflow.link.verify", **SIGNING)

        for text in (encoded(ROW.bytes), f"{encoded(ROW.bytes)}.{encoded(b'x' * 40)}"):
            with pytest.raises(InvalidToken):
                LINKS.read("verify", signer.sign(text).decode())


class TestRefreshTokens:
    @pytest.mark.parametrize("generation", [0, 1, 2**63])
    def test_a_refresh_token_names_session_and_generation(self, generation: int) -> None:
        """What is made is read."""
        assert REFRESH.read(REFRESH.make(ROW, generation)) == (ROW, generation)

    @pytest.mark.parametrize(
        "payload", [b"", b"7", b'["AA",1]', ROW.bytes, ROW.bytes + bytes(7), ROW.bytes + bytes(9), ROW.bytes * 2]
    )
    def test_a_signed_payload_of_another_form_is_refused(self, payload: bytes) -> None:
        """Even with our signature only a session's id and a generation are read."""
        signer = Signer(KEY, "flask-accountflow.refresh", **SIGNING)
        signed = [signer.sign(encoded(raw)).decode() for raw in (payload, ROW.bytes + bytes(8))]

        with pytest.raises(InvalidToken):
            REFRESH.read(signed[0])

        assert REFRESH.read(signed[1]) == (ROW, 0)


class TestDevices:
    def test_a_browser_is_known_for_the_address_it_logged_in_to(self) -> None:
        """The token is read for its own address, and names this browser and no other."""
        one, other = (DEVICES.make("vic@example.com", NOW) for _ in range(2))

        found = {DEVICES.read(token, "vic@example.com", NOW) for token in (one, other)}

        assert len(found) == 2
        with pytest.raises(InvalidToken):
            DEVICES.read(one, "bob@example.com", NOW)

    @pytest.mark.parametrize(("days", "is_known"), [(0, True), (179, True), (180, False), (-1, False)])
    def test_a_browser_is_known_for_half_a_year(self, days: int, is_known: bool) -> None:
        """After 180 days a browser is forgotten; one from the future is not known, either."""
        token = DEVICES.make("vic@example.com", NOW)

        try:
            DEVICES.read(token, "vic@example.com", NOW + timedelta(days=days))
        except InvalidToken:
            assert not is_known
        else:
            assert is_known

    def test_SES_02_the_token_holds_no_address(self) -> None:
        """Whoever reads the cookie learns no address, and without the key cannot try addresses against it."""
        token = DEVICES.make("vic@example.com", NOW)

        payload = _said(token)
        plain = [hashlib.sha256(b"vic@example.com").digest()[:16], hashlib.md5(b"vic@example.com").digest()]

        assert b"vic" not in payload
        assert not [digest for digest in plain if digest in payload]
        assert Devices(["o" * 32])._digest("vic@example.com") not in payload

    def test_a_new_key_forgets_every_browser(self) -> None:
        """After SECRET_KEY has changed nobody is known, and nothing fails."""
        token = DEVICES.make("vic@example.com", NOW)

        with pytest.raises(InvalidToken):
            Devices([KEY, "n" * 32]).read(token, "vic@example.com", NOW)

    @pytest.mark.parametrize("length", [0, 1, 16, 32, 35, 37, 72])
    def test_a_signed_payload_of_another_form_is_refused(self, length: int) -> None:
        """Even with our signature only a digest, a number of the browser and a day are read."""
        signer = Signer(KEY, "flask-accountflow.device", **SIGNING)
        said = _said(DEVICES.make("vic@example.com", NOW))

        with pytest.raises(InvalidToken):
            DEVICES.read(signer.sign(encoded((said * 2)[:length])).decode(), "vic@example.com", NOW)

        assert DEVICES.read(signer.sign(encoded(said)).decode(), "vic@example.com", NOW)

    @pytest.mark.parametrize("junk", ["", ".", "a.b", "x" * 5000, "WyJ.é", "\0.\0"])
    def test_junk_is_refused(self, junk: str) -> None:
        """Whatever a cookie holds, nothing else is raised."""
        with pytest.raises(InvalidToken):
            DEVICES.read(junk, "vic@example.com", NOW)
