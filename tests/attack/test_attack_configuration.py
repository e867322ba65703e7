"""What a careless operator may do, and what a change of keys ends."""

from __future__ import annotations

import base64
import hmac
import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from attack.attacker import (
    OTHER_PASSWORD,
    PASSWORD,
    Answer,
    Browser,
    Program,
    Site,
    ask_reset,
    join,
    sign_up,
    some_email,
)

pytestmark = pytest.mark.slow

STRICT = {"ACCOUNTFLOW_ALLOW_INSECURE": None, "ACCOUNTFLOW_BCRYPT_ROUNDS": None}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no-key": ({"SECRET_KEY": None}, "SECRET_KEY"),
    "short-key": ({"SECRET_KEY": "hunter2"}, "SECRET_KEY"),
    "known-key": ({"SECRET_KEY": "change-me-change-me-change-me-change-me"[:9]}, "SECRET_KEY"),
    "letters-as-keys": ({"SECRET_KEY_FALLBACKS": "an-old-key-of-thirty-two-letters"}, "SECRET_KEY_FALLBACKS"),
    "short-fallback": ({"SECRET_KEY_FALLBACKS": ["a"]}, "SECRET_KEY"),
    "no-address": ({"ACCOUNTFLOW_BASE_URL": None}, "ACCOUNTFLOW_BASE_URL"),
    "plain-http": ({"ACCOUNTFLOW_BASE_URL": "http://www.example.com"}, "ACCOUNTFLOW_BASE_URL"),
    "script-as-address": ({"ACCOUNTFLOW_BASE_URL": "javascript:alert(1)"}, "ACCOUNTFLOW_BASE_URL"),
    "no-sender": ({"MAIL_DEFAULT_SENDER": None}, "MAIL_DEFAULT_SENDER"),
    "short-passwords": ({"ACCOUNTFLOW_PASSWORD_MIN_LENGTH": 7}, "ACCOUNTFLOW_PASSWORD_MIN_LENGTH"),
    "long-resets": ({"ACCOUNTFLOW_RESET_MAX_AGE": 2 * 86400}, "ACCOUNTFLOW_RESET_MAX_AGE"),
    "cheap-hashes": ({"ACCOUNTFLOW_BCRYPT_ROUNDS": 8}, "ACCOUNTFLOW_BCRYPT_ROUNDS"),
    "links-in-answers": ({"ACCOUNTFLOW_RETURN_TOKEN_IN_RESPONSE": True}, "ACCOUNTFLOW_RETURN_TOKEN_IN_RESPONSE"),
    "no-confirmation": ({"ACCOUNTFLOW_AUTO_ACTIVATE": True}, "ACCOUNTFLOW_AUTO_ACTIVATE"),
    "special-addresses": ({"ACCOUNTFLOW_EMAIL_ALLOW_SPECIAL": True}, "ACCOUNTFLOW_EMAIL_ALLOW_SPECIAL"),
    "unknown": ({"ACCOUNTFLOW_RATE_LIMIT_ENABLED": False}, "ACCOUNTFLOW_RATE_LIMIT_ENABLED"),
    "pepper-is-key": (
        {"ACCOUNTFLOW_PASSWORD_PEPPERS": [["a", "0123456789abcdef0123456789abcdef"]]},
        "ACCOUNTFLOW_PASSWORD_PEPPERS",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_CFG_01_a_dangerous_site_does_not_start(site: Site, kind: str) -> None:
    """A configuration that would let strangers in is refused at the start, by the name of its setting."""
    settings, name = REFUSED[kind]

    assert name in site.refusal(**{**STRICT, **settings})


def test_CFG_01_all_faults_are_named_and_no_secret(site: Site) -> None:
    """Every fault is named at once, and no secret is printed."""
    secret = "a-pepper-that-nobody-may-see"

    printed = site.refusal(
        **STRICT, SECRET_KEY="hunter2", MAIL_DEFAULT_SENDER=None, ACCOUNTFLOW_PASSWORD_PEPPERS=[["a", secret]]
    )

    for name in ("SECRET_KEY", "MAIL_DEFAULT_SENDER", "ACCOUNTFLOW_PASSWORD_PEPPERS"):
        assert name in printed
    assert "hunter2" not in printed
    assert secret not in printed


@pytest.fixture(scope="module")
def rotated(make_attacked: Callable[..., Site]) -> Site:
    """A site whose keys a test may change."""
    return make_attacked()


def test_CFG_02_CFG_03_a_new_key_ends_what_the_old_one_signed(rotated: Site) -> None:
    """With the old key among the fallbacks everything goes on; without it links, tokens and cookies are dead.

    Passwords work with either.
    """
    email, pending = join(rotated), some_email()
    browser, pair = Browser(rotated), Program(rotated).login(email).json
    browser.login(email)
    verify, reset = sign_up(rotated, pending), ask_reset(rotated, email)
    old = rotated.setting("SECRET_KEY")

    rotated.configure(SECRET_KEY=os.urandom(16).hex(), SECRET_KEY_FALLBACKS=[old])

    assert browser.is_in
    assert Program(rotated).me(pair["access_token"]).status == 200
    pair = Program(rotated).refresh(pair["refresh_token"]).json
    assert Program(rotated).verify(verify).status == 200
    assert Program(rotated).get(reset).status == 200

    fresh = Program(rotated).login(email).json
    stale = Browser(rotated)
    stale.cookies = {"session": browser.cookies["session"]}
    rotated.configure(SECRET_KEY=os.urandom(16).hex(), SECRET_KEY_FALLBACKS=None)

    assert not stale.is_in
    for one in (pair, fresh):
        assert Program(rotated).me(one["access_token"]).status == 401
        assert Program(rotated).refresh(one["refresh_token"]).status == 401
    assert Program(rotated).reset(reset, OTHER_PASSWORD).status == 400
    assert Program(rotated).login(email, PASSWORD).status == 200


@pytest.fixture(scope="module")
def secured(make_attacked: Callable[..., Site]) -> Site:
    """A site that people reach by https. The proxy that ends TLS before it is not here."""
    return make_attacked(ACCOUNTFLOW_BASE_URL="https://www.example.com")


def _log_in(site: Site, email: str) -> tuple[Program, Answer]:
    """Log a browser in that speaks JSON; return it and the answer."""
    browser = Program(site)
    token = browser.get("/auth/csrf").json["csrf_token"]
    body = {"email": email, "password": PASSWORD, "transport": "cookie"}
    return browser, browser.post("/auth/login", body, x_csrf_token=token)


def test_SES_01_cookies_of_a_site_on_https_are_secure(secured: Site) -> None:
    """Where people come by https, every cookie of a login is for https and this host alone, and its name says so."""
    _, answer = _log_in(secured, join(secured))

    assert answer.status == 200
    lines = answer.headers.get_all("Set-Cookie")
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("__Host-")
        assert "Domain" not in line
        assert {"Secure", "HttpOnly", "Path=/"} <= set(line.split("; "))


TOSSED = [
    "session={evil}",
    "session={evil}; __Host-session={own}",
    "__Secure-session={evil}; __Host-session={own}",
    "__host-session={evil}; __Host-session={own}",
    "=__Host-session={evil}; __Host-session={own}",
    "\u2000__Host-session={evil}; __Host-session={own}",
    "\xa0__Host-session={evil}; __Host-session={own}",
    "__Host-session\u3000={evil}; __Host-session={own}",
    "$Version=1; session={evil}; __Host-session={own}",
]


@pytest.mark.parametrize("line", TOSSED, ids=range(len(TOSSED)))
def test_SES_17_no_cookie_of_a_sister_domain_is_a_session(secured: Site, line: str) -> None:
    """No name that a browser lets a sister domain set stands for the session's, alone or before the true one."""
    evil, own = join(secured), join(secured)
    values = [_log_in(secured, email)[0].cookies["__Host-session"] for email in (evil, own)]
    header = line.replace("{evil}", values[0]).replace("{own}", values[1]).encode().decode("latin-1")

    answer = Program(secured).get("/auth/me", cookie=header)

    assert evil not in answer.text
    assert answer.status == (200 if "{own}" in line else 401)


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_TOK_03_a_public_key_signs_nothing(make_attacked: Callable[..., Site]) -> None:
    """Where tokens are signed by a key pair, the public half in whatever form makes no token."""
    rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")
    from cryptography.hazmat.primitives import serialization as forms

    private = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    pem = private.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption()).decode()
    public = private.public_key()
    site = make_attacked(ACCOUNTFLOW_JWT_ALGORITHM="RS256", ACCOUNTFLOW_JWT_PRIVATE_KEYS=[pem])
    token = Program(site).login(join(site)).json["access_token"]
    assert Program(site).me(token).status == 200
    head, claims, signature = token.split(".")
    header = json.loads(base64.urlsafe_b64decode(head + "=="))
    [key] = Program(site).get("/auth/jwks.json").json["keys"]
    guesses = [
        public.public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(forms.Encoding.PEM, forms.PublicFormat.PKCS1),
        public.public_bytes(forms.Encoding.DER, forms.PublicFormat.SubjectPublicKeyInfo),
        json.dumps(key).encode(),
        key["n"].encode(),
        base64.urlsafe_b64decode(key["n"] + "=="),
        b"",
        site.setting("SECRET_KEY").encode(),
    ]

    forged = [f"{_b64(json.dumps({**header, 'alg': 'none'}).encode())}.{claims}.{end}" for end in ("", signature)]
    for guess in guesses:
        for changed in (
            {**header, "alg": "HS256"},
            {"alg": "HS256", "typ": "at+jwt"},
            {**header, "alg": "HS256", "jwk": key},
        ):
            text = f"{_b64(json.dumps(changed).encode())}.{claims}"
            forged.append(f"{text}.{_b64(hmac.digest(guess, text.encode(), 'sha256'))}")

    assert "d" not in key
    assert {Program(site).me(one).status for one in forged} == {401}


def test_PWD_01_weak_passwords_are_refused_alike(site: Site) -> None:
    """Short, common and repeated passwords are refused with the reason, and in the same words for every address."""
    known, unknown = join(site), some_email()

    for password in (
        "elevenchars",
        "123456789012",
        "passwordpassword",
        "qwertyuiopasdf",
        "aaaaaaaaaaaaaaaa",
        "x" * 257,
    ):
        answers = [Program(site).signup(email, password) for email in (known, unknown)]
        assert {answer.status for answer in answers} == {422}
        assert answers[0].body == answers[1].body
    for password in ("twelve chars", "\U0001f600" * 3 + "correct horse", "a" * 30 + " horse " + "é" * 60):
        assert Program(site).signup(some_email(), password).status == 202
