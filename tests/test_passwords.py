"""Hashing and the rules for new passwords."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flask_accountflow
from flask_accountflow.errors import FieldFault, Refusal
from flask_accountflow.passwords import BcryptHasher, HashGate, PasswordPolicy

OLD = ("2025", "o" * 32)
NEW = ("2026", "n" * 32)

DATA = Path(flask_accountflow.__file__).parent / "data"
LISTED = [line for line in (DATA / "common_passwords.txt").read_text("utf-8").splitlines() if not line.startswith("# ")]


@pytest.fixture
def hasher() -> BcryptHasher:
    return BcryptHasher(rounds=4)


def code(fault: FieldFault | None) -> str | None:
    return fault.code if fault is not None else None


def work_of(call: Callable[[], object]) -> float:
    """Return the least CPU time of five calls, in seconds, of this thread alone."""
    times = []
    for _ in range(5):
        start = time.thread_time()
        call()
        times.append(time.thread_time() - start)
    return min(times)


class TestHash:
    def test_PWD_09_the_stored_form_names_scheme_pepper_and_cost(self, hasher: BcryptHasher) -> None:
        """A stored hash says how it was made, and two of one password differ."""
        stored = {hasher.hash("correct horse"), hasher.hash("correct horse")}

        assert len(stored) == 2
        assert all(one.startswith("af1$-$$2b$04$") and len(one) == 66 for one in stored)

    def test_PWD_09_the_stored_form_is_the_documented_one(self) -> None:
        """What is stored is bcrypt over base64(HMAC-SHA384(pepper, NFC(password))), so it can be read elsewhere."""
        stored = BcryptHasher(rounds=4, peppers=[NEW]).hash("cafe\u0301")
        digest = hmac.digest(NEW[1].encode(), "caf\u00e9".encode(), "sha384")

        assert bcrypt.checkpw(base64.b64encode(digest), stored.removeprefix("af1$2026$").encode())

    def test_the_default_cost_is_twelve(self) -> None:
        """A hasher made without arguments uses cost 12."""
        stored = BcryptHasher().hash("correct horse")

        assert stored.startswith("af1$-$$2b$12$")

    def test_each_stored_hash_gets_its_answer(self, hasher: BcryptHasher) -> None:
        """check() answers for every hash, in their order, and for None and junk with False."""
        right, wrong = hasher.hash("correct horse"), hasher.hash("battery staple")

        assert hasher.check("correct horse", right, None, wrong, "junk", right) == (True, False, False, False, True)
        assert hasher.check("correct horse") == ()

    def test_PWD_10_plain_digests_do_not_fit(self, hasher: BcryptHasher) -> None:
        """A bcrypt of a digest from another site's leak verifies nothing here."""
        for digest in (
            hashlib.sha512(b"pw").digest(),
            hashlib.sha384(b"pw").digest(),
            hashlib.sha384(b"pw").hexdigest(),
        ):
            raw = digest.encode() if isinstance(digest, str) else base64.b64encode(digest)
            shucked = bcrypt.hashpw(raw[:72], bcrypt.gensalt(4)).decode()

            assert hasher.check("pw", f"af1$-${shucked}", shucked) == (False, False)

    def test_PWD_11_nul_is_a_character_like_others(self, hasher: BcryptHasher) -> None:
        """What follows a NUL counts."""
        stored = hasher.hash("abc\0defghijklmA")

        assert hasher.check("abc\0defghijklmA", stored) == (True,)
        assert hasher.check("abc\0defghijklmB", stored) == (False,)

    @pytest.mark.parametrize("other", ["x" * 72, "x" * 72 + "y" + "x" * 7, "X" + "x" * 79, "x" * 80 + " "])
    def test_LOG_09_the_whole_password_counts(self, hasher: BcryptHasher, other: str) -> None:
        """The first 72 bytes, another case or a blank more are another password."""
        stored = hasher.hash("x" * 80)

        assert hasher.check("x" * 80, stored) == (True,)
        assert hasher.check(other, stored) == (False,)

    def test_LOG_10_composed_and_decomposed_are_one_password(self, hasher: BcryptHasher) -> None:
        """Passwords are compared after NFC, not after NFKC."""
        stored = hasher.hash("caf\u00e9 \ufb01n")

        assert hasher.check("cafe\u0301 \ufb01n", stored) == (True,)
        assert hasher.check("caf\u00e9 fin", stored) == (False,)

    @pytest.mark.parametrize("password", ["", "\ud800", "a\udfff", "😀" * 64, "x" * 1_000_000])
    def test_any_password_can_be_hashed(self, hasher: BcryptHasher, password: str) -> None:
        """Lone surrogates, emptiness and any length hash and verify."""
        stored = hasher.hash(password)

        assert hasher.check(password, stored) == (True,)
        assert hasher.check(password + "?", stored) == (False,)

    def test_combining_marks_do_not_keep_the_interpreter_busy(self, hasher: BcryptHasher) -> None:
        """400 KB that take minutes to normalise are hashed at once."""
        password = "e" + "\u0301\u0323" * 200_000
        start = time.thread_time()

        stored = hasher.hash(password)

        assert time.thread_time() - start < 1
        assert hasher.check(password, stored) == (True,)

    @settings(max_examples=30, deadline=None)
    @given(st.text(), st.text())
    def test_only_the_same_text_matches(self, password: str, other: str) -> None:
        """A hash matches its password, and no other text up to NFC."""
        import unicodedata

        hasher = BcryptHasher(rounds=4)
        stored = hasher.hash(password)

        same = unicodedata.normalize("NFC", password) == unicodedata.normalize("NFC", other)
        assert hasher.check(password, stored) == (True,)
        assert hasher.check(other, stored) == (same,)


class TestStored:
    @pytest.mark.parametrize(
        "stored",
        [
            "",
            "x",
            "af1$-$",
            "af1$-$$2b$04$",
            "af1$-$$2b$04$" + "." * 52,
            "af1$-$$2b$04$" + "." * 54,
            "af1$-$$2b$04$" + "." * 53 + "\n",
            "af1$-$$2b$04$" + "!" * 53,
            "af1$-$$2b$00$" + "." * 53,
            "af1$-$$2b$03$" + "." * 53,
            "af1$-$$2b$32$" + "." * 53,
            "af1$-$$2b$99$" + "." * 53,
            "af1$-$$2b$04$" + "z" * 53,
            "af1$-$$2b$\u0664\u0664$" + "." * 53,
            "af1$-$$2y$04$" + "." * 53,
            "af2$-$$2b$04$" + "." * 53,
            "af1$unknown$$2b$04$" + "." * 53,
            "$2b$04$" + "." * 53,
            "scrypt:32768:8:1$abc$def",
            "af1$-$$2b$04$\ud800" + "." * 52,
        ],
    )
    def test_what_we_did_not_store_matches_nothing(self, hasher: BcryptHasher, stored: str) -> None:
        """A malformed or foreign hash is a wrong password, never an error."""
        assert hasher.check("correct horse", stored) == (False,)

    @settings(max_examples=50, deadline=None)
    @given(st.text("./Az09$", min_size=53, max_size=53), st.integers(0, 8))
    def test_any_salt_is_survived(self, tail: str, rounds: int) -> None:
        """No text of bcrypt's own form makes check() raise."""
        assert BcryptHasher(rounds=4).check("correct horse", f"af1$-$$2b${rounds:02d}${tail}") == (False,)

    def test_a_pepper_keys_the_hash(self) -> None:
        """A hash made with a pepper is worth nothing without it."""
        stored = BcryptHasher(rounds=4, peppers=[NEW]).hash("correct horse")

        assert stored.startswith("af1$2026$$2b$04$")
        assert BcryptHasher(rounds=4, peppers=[NEW]).check("correct horse", stored) == (True,)
        assert BcryptHasher(rounds=4, peppers=[("2026", "x" * 32)]).check("correct horse", stored) == (False,)
        assert BcryptHasher(rounds=4).check("correct horse", stored) == (False,)

    def test_older_peppers_still_check(self) -> None:
        """Hashes from before a pepper, and of an older one, match and ask for a rehash."""
        plain = BcryptHasher(rounds=4).hash("correct horse")
        older = BcryptHasher(rounds=4, peppers=[OLD]).hash("correct horse")
        hasher = BcryptHasher(rounds=4, peppers=[NEW, OLD])
        newest = hasher.hash("correct horse")

        assert hasher.check("correct horse", plain, older, newest) == (True, True, True)
        assert [hasher.needs_rehash(one) for one in (plain, older, newest)] == [True, True, False]

    @pytest.mark.parametrize("peppers", [[("-", "k" * 32)], [("a$b", "k" * 32)], [("", "k" * 32)], [("a", "")]])
    def test_a_pepper_that_cannot_be_named_is_refused(self, peppers: list[tuple[str, str]]) -> None:
        """An id that would break the stored form, or an empty key, is a ValueError."""
        with pytest.raises(ValueError, match="peppers must be"):
            BcryptHasher(rounds=4, peppers=peppers)

    def test_LOG_16_another_cost_or_scheme_asks_for_a_rehash(self, hasher: BcryptHasher) -> None:
        """needs_rehash() is False only for what hash() would make today."""
        stored = hasher.hash("correct horse")

        assert not hasher.needs_rehash(stored)
        assert BcryptHasher(rounds=5).needs_rehash(stored)
        assert hasher.needs_rehash(BcryptHasher(rounds=5).hash("correct horse"))
        assert hasher.needs_rehash("md5$abc")

    def test_a_costlier_hash_still_matches(self, hasher: BcryptHasher) -> None:
        """Lowering the cost locks nobody out."""
        stored = BcryptHasher(rounds=6).hash("correct horse")

        assert hasher.check("correct horse", stored) == (True,)

    def test_SUP_02_every_check_costs_as_much(self) -> None:
        """No account, a foreign hash, a lost pepper and an old cost take the time of a hash of today."""
        hasher = BcryptHasher(rounds=9)
        cheap = BcryptHasher(rounds=4).hash("correct horse")
        lost = BcryptHasher(rounds=4, peppers=[OLD]).hash("correct horse")
        today = hasher.hash("correct horse")
        one = work_of(lambda: hasher.check("wrong", today))

        for stored in (None, "junk", lost, cheap, "af1$-$$2b$04$" + "z" * 53, "af1$-$$2b$99$" + "." * 53):
            assert 0.6 * one < work_of(lambda stored=stored: hasher.check("wrong", stored)) < 1.6 * one  # type: ignore[misc]
        assert 0.6 * one < work_of(lambda: hasher.check("correct horse", cheap)) < 1.6 * one


class TestGate:
    def test_PWD_14_surplus_is_refused_at_once(self) -> None:
        """One runs, one waits, and the third is told to come back in one to three seconds."""
        gate = HashGate(concurrency=1, queue=1, wait=30)
        waiting = threading.Event()
        done = []

        def wait_in_line() -> None:
            waiting.set()
            with gate:
                done.append("second")

        with gate:
            thread = threading.Thread(target=wait_in_line)
            thread.start()
            waiting.wait()
            refusal = None
            while refusal is None and not done:
                refusal = self.refused(gate)
        thread.join()

        assert done == ["second"]
        assert refusal is not None
        assert refusal.code == "busy"
        assert refusal.extra["retry_after"] in (1, 2, 3)

    @staticmethod
    def refused(gate: HashGate) -> Refusal | None:
        """Return the refusal of a gate that is full, or None if it had room (then the wait is over at once)."""
        if gate._room.acquire(blocking=False):
            gate._room.release()
            return None
        with pytest.raises(Refusal) as caught, gate:
            pass
        return caught.value

    def test_waiting_ends(self) -> None:
        """Who has waited long enough is refused, and leaves the line."""
        gate = HashGate(concurrency=1, queue=1, wait=0)

        for _ in range(3):
            with gate, pytest.raises(Refusal) as caught, gate:
                pass
            assert caught.value.code == "busy"

        assert [gate._room.acquire(blocking=False) for _ in range(3)] == [True, True, False]

    def test_a_fault_inside_leaves_the_gate_open(self) -> None:
        """An exception gives the place back."""
        gate = HashGate(concurrency=1, queue=0, wait=0)

        for _ in range(3):
            with pytest.raises(ZeroDivisionError), gate:
                raise ZeroDivisionError

        with gate:
            pass

    def test_PWD_14_a_flood_is_bounded(self) -> None:
        """Of many at once each is answered or refused as busy, and never more run than may."""
        hasher = BcryptHasher(rounds=8, concurrency=2, queue=2, wait=30)
        stored = hasher.hash("correct horse")
        barrier = threading.Barrier(32)

        def login(_: int) -> str:
            barrier.wait()
            try:
                return str(hasher.check("correct horse", stored, None))
            except Refusal as refusal:
                return refusal.code

        with ThreadPoolExecutor(32) as pool:
            answers = set(pool.map(login, range(32)))

        assert answers == {"(True, False)", "busy"}
        assert hasher.check("correct horse", stored) == (True,)

    def test_hashing_passes_the_gate_too(self) -> None:
        """hash() is refused like check() when there is no room."""
        hasher = BcryptHasher(rounds=4, concurrency=1, queue=0, wait=0)

        with hasher._gate:
            for call in (lambda: hasher.hash("x"), lambda: hasher.check("x", None)):
                with pytest.raises(Refusal) as caught:
                    call()
                assert caught.value.code == "busy"


class TestPolicy:
    policy = PasswordPolicy(words=["My Shop", "shopify.example"])

    def test_PWD_01_twelve_characters_are_enough(self) -> None:
        """Eleven are refused with the number that is needed, twelve are not."""
        assert self.policy.fault("xkq vzj wpf") == FieldFault(
            "password", "too_short", "Use at least 12 characters.", {"min": 12}
        )
        assert self.policy.fault("xkq vzj wpfm") is None

    def test_PWD_02_long_passwords_are_allowed(self) -> None:
        """256 characters pass and 257 do not."""
        longest = "correct horse battery staple " * 9

        assert self.policy.fault(longest[:256]) is None
        assert self.policy.fault(longest[:257]) == FieldFault(
            "password", "too_long", "Use at most 256 characters.", {"max": 256}
        )
        assert code(self.policy.fault("x" * 1_000_000)) == "too_long"

    @pytest.mark.parametrize("sign", ["a", "é", "e\u0301", "😀"])
    def test_PWD_02_lengths_are_code_points_after_nfc(self, sign: str) -> None:
        """64 characters are 64, however many bytes or code points they were typed as."""
        policy = PasswordPolicy(min_length=64, max_length=64)

        assert policy.fault(sign * 64) is None
        assert code(policy.fault(sign * 63)) == "too_short"
        assert code(policy.fault(sign * 65)) == "too_long"

    @pytest.mark.parametrize(
        "password",
        [
            "these are only lower case words",
            "294857201934",
            "😀🐎🔋📎🌋🧦🎷🥑🛶🧭🪁🦉",
            "xpasswordx correct horse",
            "my shop has four horses",
            "vic likes example.com",
            "abc\0def\0ghi\0jk",
            "!!!! ???? ....;;",
            "correct horse battery correct horse battery ",
        ],
    )
    def test_PWD_03_there_are_no_rules_of_composition(self, password: str) -> None:
        """Any kind of characters will do, also around a word that is known."""
        assert self.policy.fault(password, email="vic@example.com") is None

    @pytest.mark.parametrize(
        "password",
        [
            "passwordpassword",
            "PasswordpassworD",
            "aaaaaaaaaaaa",
            "😀" * 12,
            "abcabcabcabc",
            "abcabcabcabca",
            "123456789012",
            "012345678901",
            "210987654321",
            "abcdefghijkl",
            "zyxwvutsrqpo",
            "QWERTYuiopas",
            "poiuytrewqmn",
            "    " * 4,
        ],
    )
    def test_PWD_04_patterns_are_refused(self, password: str) -> None:
        """Repeats and rows that fill the password are too common, whatever their case."""
        assert self.policy.fault(password) == FieldFault(
            "password", "too_common", "This password is easy to guess. Use a few unrelated words."
        )

    @pytest.mark.parametrize("password", ["1q2w3e4r5t6y", "1Q2W3E4R5T6Y", "ManchesterUnited", "administrator"])
    def test_PWD_04_common_passwords_are_refused(self, password: str) -> None:
        """What many people have used is too common, whatever its case; as a part of something longer it is not."""
        assert code(self.policy.fault(password)) == "too_common"
        assert self.policy.fault(f"{password} and more") is None
        assert self.policy.fault(f"more of {password}") is None

    def test_PWD_04_every_common_password_is_refused(self) -> None:
        """Nothing of the list is accepted, from the shortest that a site may allow to the longest."""
        policy = PasswordPolicy(min_length=8)

        accepted = [password for password in LISTED if policy.fault(password.upper()) is None]

        assert accepted == []

    def test_the_list_is_in_order(self) -> None:
        """The list is long, sorted, without repeats, in lower case, and of passwords that could be allowed at all."""
        assert len(LISTED) > 10_000
        assert sorted(set(LISTED)) == LISTED
        assert {password for password in LISTED if password != password.casefold() or len(password) < 8} == set()
        assert {"password1", "liverpool", "iloveyou", "q1w2e3r4t5y6"} <= set(LISTED)

    @pytest.mark.parametrize(
        "password",
        [
            "example.com example.com",
            "vic@example.com",
            "VIC@Example.com",
            "vic-vic-vic-vic",
            "vicvicvicvic",
            "vic example.com",
        ],
    )
    def test_PWD_05_the_own_address_is_refused(self, password: str) -> None:
        """A password that is only the address or its parts is refused as such."""
        assert self.policy.fault(password, email="Vic@example.com") == FieldFault(
            "password", "contains_email", "Use something that isn't your email."
        )

    @pytest.mark.parametrize(
        "password", ["my shop my shop", "MyShopMyShop", "my_shop!!!my_shop", "shopify.example", "vic my shop vic"]
    )
    def test_PWD_05_the_site_is_refused(self, password: str) -> None:
        """A password that is only the site's words, also with the owner's, is too common."""
        assert code(self.policy.fault(password, email="vic@example.com")) == "too_common"

    def test_SUP_17_the_field_can_be_named(self) -> None:
        """The fault is of the field that the form has."""
        fault = self.policy.fault("short", field="new_password")

        assert fault is not None
        assert fault.field == "new_password"

    def test_a_lone_surrogate_is_invalid(self) -> None:
        """Text that is not Unicode is refused before anything else."""
        assert code(self.policy.fault("\ud800")) == "invalid"

    @pytest.mark.parametrize("email", ["a@a.aa", "", "@", "nobody", "a.a@a.a.a.aa"])
    def test_words_that_overlap_take_no_time(self, email: str) -> None:
        """An address that was made to be ambiguous costs no more than another."""
        start = time.thread_time()

        fault = self.policy.fault("a.aa" * 63 + "a.b", email=email)

        assert time.thread_time() - start < 0.1
        assert fault is None

    @given(st.text(max_size=300), st.none() | st.text(max_size=40))
    def test_any_text_gets_an_answer(self, password: str, email: str | None) -> None:
        """The policy answers with one of its codes for any text and any address."""
        assert code(self.policy.fault(password, email=email)) in (
            None,
            "invalid",
            "too_short",
            "too_long",
            "too_common",
            "contains_email",
        )
