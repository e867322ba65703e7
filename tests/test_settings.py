"""The rules of every setting, and what is refused, warned of and hidden."""

from __future__ import annotations

import ast
import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt_tools import ALGORITHMS, in_pem, pem, private_key

from flask_accountflow.configuration import production_faults, read
from flask_accountflow.errors import ConfigError
from flask_accountflow.rules import DAY, HOUR, MINUTE, Rate, parse_rates
from flask_accountflow.settings import (
    PREFIX,
    declarations,
    is_loopback,
    shown,
)

KEY = "0123456789abcdef0123456789abcdef"
PEPPER = "fedcba9876543210fedcba9876543210"

#: The least that production needs.
PRODUCTION: Mapping[str, Any] = {
    "SECRET_KEY": KEY,
    "MAIL_DEFAULT_SENDER": "accounts@example.com",
    "ACCOUNTFLOW_BASE_URL": "https://www.example.com",
}


def kick() -> None:
    """A kick of the app."""


#: What each key accepts, and what it comes to.
GOOD: Mapping[str, tuple[tuple[Any, Any], ...]] = {
    "BASE_URL": (
        ("https://www.example.com", "https://www.example.com"),
        ("https://www.example.com/", "https://www.example.com"),
        ("https://example.com:8443/shop/", "https://example.com:8443/shop"),
        ("http://[::1]:5000", "http://[::1]:5000"),
    ),
    "URL_PREFIX": (("/auth", "/auth"), ("/a/b", "/a/b"), ("", ""), (None, "")),
    "SITE_NAME": (("Shop", "Shop"), ("Ünïque Bücher", "Ünïque Bücher")),
    "SUPPORT_EMAIL": (("help@example.com", "help@example.com"), (None, None)),
    "SUPPORT_URL": (("https://help.example.com/contact", "https://help.example.com/contact"), (None, None)),
    "STYLESHEETS": (([], ()), (["/static/a.css", "/static/b.css"], ("/static/a.css", "/static/b.css"))),
    "LANGUAGES": ((["de"], ("de",)), (("en", "PT_br", "fr", "en"), ("en", "pt-BR", "fr"))),
    "SIGNUP_ENABLED": ((True, True), (False, False)),
    "AUTO_ACTIVATE": ((False, False),),
    "RETURN_TOKEN_IN_RESPONSE": ((False, False),),
    "VERIFY_ON_GET": ((True, True), (False, False)),
    "SEED_ALIASES": ((True, True), (False, False)),
    "LOGIN_ON_VERIFY": (("same-browser", "same-browser"), ("always", "always"), ("never", "never")),
    "LOGIN_ON_RESET": (("json", "json"), ("always", "always"), ("never", "never")),
    "VERIFY_URL": (
        ("https://app.example.com/verify?token={token}", "https://app.example.com/verify?token={token}"),
        ("myapp://verify/{token}", "myapp://verify/{token}"),
        (None, None),
    ),
    "RESET_URL": (("https://app.example.com/#/reset/{token}", "https://app.example.com/#/reset/{token}"), (None, None)),
    "CHANGE_EMAIL_URL": (
        ("https://app.example.com/email/{token}", "https://app.example.com/email/{token}"),
        (None, None),
    ),
    "LOGIN_URL": (
        ("/login", "/login"),
        ("https://app.example.com/login", "https://app.example.com/login"),
        ("", ""),
        (None, None),
    ),
    "AFTER_LOGIN": (("/", "/"), ("/home?tab=1", "/home?tab=1"), ("https://app.example.com", "https://app.example.com")),
    "AFTER_LOGOUT": (("/bye", "/bye"), (None, None)),
    "TRUSTED_ORIGINS": (
        ((), ()),
        (["https://App.Example.com", "http://localhost:3000/"], ("https://app.example.com", "http://localhost:3000")),
        ({"https://app.example.com"}, ("https://app.example.com",)),
    ),
    "VERIFY_MAX_AGE": ((60, 60), (30 * DAY, 30 * DAY)),
    "RESET_MAX_AGE": ((60, 60), (DAY, DAY)),
    "CHANGE_EMAIL_MAX_AGE": ((60, 60), (30 * DAY, 30 * DAY)),
    "REVERT_MAX_AGE": ((HOUR, HOUR), (30 * DAY, 30 * DAY)),
    "UNVERIFIED_MAX_AGE": ((HOUR, HOUR), (365 * DAY, 365 * DAY)),
    "LINK_KEEP_AGE": ((0, 0), (3650 * DAY, 3650 * DAY)),
    "RESEND_AFTER": ((1, 1), (HOUR, HOUR)),
    "PASSWORD_MIN_LENGTH": ((8, 8), (128, 128)),
    "PASSWORD_MAX_LENGTH": ((64, 64), (4096, 4096)),
    "BCRYPT_ROUNDS": ((10, 10), (18, 18)),
    "PASSWORD_PEPPERS": (
        ((), ()),
        ([("2026-11", PEPPER)], (("2026-11", PEPPER),)),
        ([["b", PEPPER], ["a" * 16, PEPPER[1:] + "x"]], (("b", PEPPER), ("a" * 16, PEPPER[1:] + "x"))),
    ),
    "HASH_CONCURRENCY": ((1, 1), (1024, 1024)),
    "HASH_QUEUE": ((0, 0), (100_000, 100_000)),
    "HASH_WAIT": ((0, 0), (600, 600)),
    "ACCESS_TOKEN_MAX_AGE": ((1, 1), (DAY, DAY)),
    "REFRESH_TOKEN_MAX_AGE": ((1, 1), (365 * DAY, 365 * DAY)),
    "REFRESH_REUSE_GRACE": ((0, 0), (60, 60)),
    "JWT_ALGORITHM": (("HS256", "HS256"),),
    "JWT_PRIVATE_KEYS": (([], ()),),
    "JWT_ISSUER": (("https://auth.example.com", "https://auth.example.com"), (None, None)),
    "JWT_AUDIENCE": (("shop", "shop"), (None, None)),
    "SESSION_MAX_AGE": ((1, 1), (30 * DAY, 30 * DAY)),
    "SESSION_IDLE_MAX_AGE": ((1, 1), (30 * DAY, 30 * DAY)),
    "FRESH_MAX_AGE": ((1, 1), (DAY, DAY)),
    "REMEMBER_DEFAULT": ((True, True), (False, False)),
    "MAIL_TRANSPORT": (("auto", "auto"), ("smtp", "smtp"), ("file", "file"), ("console", "console")),
    "MAIL_FILE": (("/var/log/mail.txt", "/var/log/mail.txt"),),
    "MAIL_KICK": (
        ("thread", "thread"),
        ("inline", "inline"),
        ("worker", "worker"),
        ("celery", "celery"),
        (kick, kick),
    ),
    "MAIL_TIMEOUT": ((1, 1), (30, 30)),
    "MAIL_CA_FILE": (("/etc/ssl/own.pem", "/etc/ssl/own.pem"), (None, None)),
    "MAIL_EHLO_NAME": (("app.example.com", "app.example.com"), (None, None)),
    "MAIL_PER_ADDRESS": (("3/hour;10/day", (Rate(3, HOUR), Rate(10, DAY))),),
    "MAIL_UNKNOWN": ((True, True), (False, False)),
    "NOTICE_AFTER_FAILURES": ((0, 0), (5, 5), (1000, 1000)),
    "RATELIMIT_ENABLED": ((True, True), (False, False)),
    "RATELIMIT_STORAGE_URI": (("redis://:secret@cache:6379/1", "redis://:secret@cache:6379/1"),),
    "RATELIMIT_LOGIN": (("5/minute", (Rate(5, MINUTE),)), (" 5 / 2 hours ; 6/day ", (Rate(5, 2 * HOUR), Rate(6, DAY)))),
    "RATELIMIT_LOGIN_IP": (("1/second", (Rate(1, 1),)),),
    "RATELIMIT_MAIL_IP": (("60/3600 seconds", (Rate(60, HOUR),)),),
    "RATELIMIT_TOKEN_IP": (("20/minutes", (Rate(20, MINUTE),)),),
    "FIRST_ADMIN_EMAIL": (("boss@example.com", "boss@example.com"), (None, None)),
    "FIRST_ADMIN_PASSWORD": ((None, None),),
    "EMAIL_ALLOW_SPECIAL": ((False, False),),
    "COOKIE_DEFAULTS": ((True, True), (False, False)),
    "SECURITY_HEADERS": ((True, True), (False, False)),
    "HSTS": ((True, True), (False, False)),
    "FLASK_LOGIN": ((True, True), (False, False)),
    "ALLOW_INSECURE": ((True, True), (False, False)),
}

_NO_FLAG: tuple[Any, ...] = ("yes", 1, 0, None, "true")
_NO_RATES: tuple[Any, ...] = (
    "",
    "10",
    "10/",
    "/hour",
    "0/hour",
    "00/hour",
    "10/0 hour",
    "10/00 hour",
    "10/hour;",
    "10/week",
    "ten/hour",
)
_NO_RATES += (10, None, "-1/hour", "10/hour 5/day")
_NO_LINE: tuple[Any, ...] = ("", "   ", "two\nlines", "bell\a", 5, b"bytes")
_NO_ADDRESS: tuple[Any, ...] = (
    "www.example.com",
    "//www.example.com",
    "ftp://www.example.com",
    "https://",
    "https:///path",
    "mailto:a@b.c",
)
_NO_ADDRESS += ("https://www.example.com/?a=1", "https://www.example.com/#top", "https://www.example.com?")
_NO_ADDRESS += ("https://www.example.com#", "https://me@www.example.com", "https://:pw@www.example.com")
_NO_ADDRESS += (
    "https://www.exa mple.com",
    "https://www.example.com:port",
    "https://www.example.com:99999",
    "https://[::1",
)
_NO_TEMPLATE: tuple[Any, ...] = (
    "https://app.example.com/verify",
    "{token}",
    "/verify/{token}",
    "//app.example.com/{token}",
)
_NO_TEMPLATE += ("https://app.example.com/{token}/{token}", "https://[/{token}", "https:/{token}", "", 5)
_NO_DESTINATION: tuple[Any, ...] = (
    "home",
    "//evil.example",
    "javascript:alert(1)",
    "",
    5,
    "mailto:a@b.c",
    "https:",
    "https://[::1",
)


def _outside(least: int, most: int) -> tuple[Any, ...]:
    return (least - 1, most + 1, str(least), float(least), True, None)


#: What each key refuses.
BAD: Mapping[str, tuple[Any, ...]] = {
    "BASE_URL": (*_NO_LINE, *_NO_ADDRESS),
    "URL_PREFIX": ("auth", "/", "/auth/", "/<name>", 5, "/two\nlines"),
    "SITE_NAME": _NO_LINE,
    "SUPPORT_EMAIL": (*_NO_LINE, "Support", "help@", "@example.com", "a b@example.com", "Help <help@example.com>"),
    "SUPPORT_URL": (*_NO_LINE, *_NO_ADDRESS),
    "STYLESHEETS": ("/static/a.css", {"/static/a.css"}, None, {"a": 1}, [""], [5]),
    "LANGUAGES": ("en", {"en"}, None, [], ["en", "pt"], ["german"], ["de\n"], [""], [None]),
    "SIGNUP_ENABLED": _NO_FLAG,
    "AUTO_ACTIVATE": _NO_FLAG,
    "RETURN_TOKEN_IN_RESPONSE": _NO_FLAG,
    "VERIFY_ON_GET": _NO_FLAG,
    "SEED_ALIASES": _NO_FLAG,
    "LOGIN_ON_VERIFY": ("Always", True, None, ""),
    "LOGIN_ON_RESET": ("same-browser", False, None, []),
    "VERIFY_URL": _NO_TEMPLATE,
    "RESET_URL": _NO_TEMPLATE,
    "CHANGE_EMAIL_URL": _NO_TEMPLATE,
    "LOGIN_URL": tuple(value for value in _NO_DESTINATION if value != ""),
    "AFTER_LOGIN": (*_NO_DESTINATION, None),
    "AFTER_LOGOUT": _NO_DESTINATION,
    "TRUSTED_ORIGINS": ("https://app.example.com", None, ["https://app.example.com/path"], ["app.example.com"], [5]),
    "VERIFY_MAX_AGE": _outside(60, 30 * DAY),
    "RESET_MAX_AGE": _outside(60, DAY),
    "CHANGE_EMAIL_MAX_AGE": _outside(60, 30 * DAY),
    "REVERT_MAX_AGE": _outside(HOUR, 30 * DAY),
    "UNVERIFIED_MAX_AGE": _outside(HOUR, 365 * DAY),
    "LINK_KEEP_AGE": _outside(0, 3650 * DAY),
    "RESEND_AFTER": _outside(1, HOUR),
    "PASSWORD_MIN_LENGTH": _outside(8, 128),
    "PASSWORD_MAX_LENGTH": _outside(64, 4096),
    "BCRYPT_ROUNDS": _outside(4, 18),
    "PASSWORD_PEPPERS": (
        PEPPER,
        PEPPER.encode(),
        None,
        {"a": PEPPER},
        [PEPPER],
        [("a", PEPPER, "more")],
        [("a", "short")],
        [("", PEPPER)],
        [("-", PEPPER)],
        [("with space", PEPPER)],
        [("a" * 17, PEPPER)],
        [("a", PEPPER.encode())],
        [(1, PEPPER)],
        [("a", PEPPER), ("a", PEPPER[::-1])],
    ),
    "HASH_CONCURRENCY": _outside(1, 1024),
    "HASH_QUEUE": _outside(0, 100_000),
    "HASH_WAIT": _outside(0, 600),
    "ACCESS_TOKEN_MAX_AGE": _outside(1, DAY),
    "REFRESH_TOKEN_MAX_AGE": _outside(1, 365 * DAY),
    "REFRESH_REUSE_GRACE": _outside(0, 60),
    "JWT_ALGORITHM": ("none", "HS512", "rs256", "PS256", "Ed25519", "", None, 5, ["RS256"]),
    "JWT_PRIVATE_KEYS": (
        "-----BEGIN PRIVATE KEY-----",
        None,
        ["key"],
        [5],
        [b"-----BEGIN PRIVATE KEY-----"],
        ["-----BEGIN PUBLIC KEY-----"],
        {"a": "-----BEGIN PRIVATE KEY-----"},
    ),
    "JWT_ISSUER": _NO_LINE,
    "JWT_AUDIENCE": _NO_LINE,
    "SESSION_MAX_AGE": _outside(1, 30 * DAY),
    "SESSION_IDLE_MAX_AGE": _outside(1, 30 * DAY),
    "FRESH_MAX_AGE": _outside(1, DAY),
    "REMEMBER_DEFAULT": _NO_FLAG,
    "MAIL_TRANSPORT": ("SMTP", None, "sendmail"),
    "MAIL_FILE": (*_NO_LINE, None),
    "MAIL_KICK": ("rq", None, 5),
    "MAIL_TIMEOUT": _outside(1, 30),
    "MAIL_CA_FILE": _NO_LINE,
    "MAIL_EHLO_NAME": _NO_LINE,
    "MAIL_PER_ADDRESS": _NO_RATES,
    "MAIL_UNKNOWN": _NO_FLAG,
    "NOTICE_AFTER_FAILURES": _outside(0, 1000),
    "RATELIMIT_ENABLED": _NO_FLAG,
    "RATELIMIT_STORAGE_URI": (*_NO_LINE, None),
    "RATELIMIT_LOGIN": _NO_RATES,
    "RATELIMIT_LOGIN_IP": _NO_RATES,
    "RATELIMIT_MAIL_IP": _NO_RATES,
    "RATELIMIT_TOKEN_IP": _NO_RATES,
    "FIRST_ADMIN_EMAIL": (*_NO_LINE, "boss", "Boss <boss@example.com>"),
    "FIRST_ADMIN_PASSWORD": _NO_LINE,
    "EMAIL_ALLOW_SPECIAL": _NO_FLAG,
    "COOKIE_DEFAULTS": _NO_FLAG,
    "SECURITY_HEADERS": _NO_FLAG,
    "HSTS": _NO_FLAG,
    "FLASK_LOGIN": _NO_FLAG,
    "ALLOW_INSECURE": _NO_FLAG,
}


def refused(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the faults for which a configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        read(config)
    return caught.value.problems


def with_key(name: str, value: Any) -> dict[str, Any]:
    """Return a configuration that is fit for production, but for one key."""
    return {**PRODUCTION, PREFIX + name: value}


def test_tables_are_complete() -> None:
    """Every declared setting has good and bad values in these tables."""
    names = {one.key.removeprefix(PREFIX) for one in declarations()}

    assert names == set(GOOD) == set(BAD)


@pytest.mark.parametrize(("name", "given", "value"), [(name, *pair) for name, pairs in GOOD.items() for pair in pairs])
def test_good_value(name: str, given: Any, value: Any) -> None:
    """A value within the rule of its key is used, in its plain form."""
    settings, _ = read(with_key(name, given))

    assert getattr(settings, name.lower()) == value


@pytest.mark.parametrize(("name", "given"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_value(name: str, given: Any) -> None:
    """A value outside the rule of its key is one fault, a sentence that begins with the key."""
    [fault] = refused(with_key(name, given))

    assert fault.startswith(f"{PREFIX}{name} must ") or fault.startswith(f"{PREFIX}{name} names ")
    assert fault.endswith(".")
    assert "\n" not in fault


@pytest.mark.parametrize("name", sorted(set(GOOD) - {"SITE_NAME"}))  # whose default is the app's name
def test_defaults_keep_their_own_rules(name: str) -> None:
    """The default of every setting, written as it is shown, is a value that its rule accepts."""
    default = next(one.default for one in declarations() if one.key == PREFIX + name)

    settings, _ = read({**with_key(name, ast.literal_eval(shown(default))), "DEBUG": True})

    assert getattr(settings, name.lower()) == default


def test_least_configuration() -> None:
    """Key, sender and base address are all that production needs; the app's name is the site's."""
    settings, warnings = read(PRODUCTION, app_name="shop")

    assert warnings == ()
    assert (settings.site_name, settings.base_url, settings.mail_sender) == (
        "shop",
        "https://www.example.com",
        "accounts@example.com",
    )
    assert settings.secret_keys == (KEY,)
    assert settings.hash_concurrency == min(2, os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTO_ACTIVATE", True),
        ("RETURN_TOKEN_IN_RESPONSE", True),
        ("VERIFY_URL", "http://app.example.com/verify?token={token}"),
        ("RESET_URL", "http://app.example.com/reset?token={token}"),
        ("CHANGE_EMAIL_URL", "http://app.example.com/email?token={token}"),
        ("BCRYPT_ROUNDS", 9),
    ],
)
def test_CFG_02_dangerous_values_must_be_permitted(name: str, value: Any) -> None:
    """What lets strangers in is refused in production, unless ALLOW_INSECURE permits it, and used in debug."""
    config = with_key(name, value)

    [fault] = refused(config)

    assert fault.startswith(f"{PREFIX}{name} ")
    for permission in ({"ACCOUNTFLOW_ALLOW_INSECURE": True}, {"DEBUG": True}, {"TESTING": True}):
        assert getattr(read({**config, **permission})[0], name.lower()) == value


@pytest.mark.parametrize("template", ["http://localhost:5173/verify?token={token}", "myapp://verify/{token}"])
def test_links_to_this_machine_or_an_app_need_no_permission(template: str) -> None:
    """A link template may be plain http on the loopback, and have the scheme of an app."""
    settings, _ = read(with_key("VERIFY_URL", template))

    assert settings.verify_url == template


def test_a_first_password_needs_an_administrator() -> None:
    """A first password without an address is refused; with one it is used."""
    alone = with_key("FIRST_ADMIN_PASSWORD", "correct horse battery")

    assert refused(alone) == ("ACCOUNTFLOW_FIRST_ADMIN_PASSWORD is set without ACCOUNTFLOW_FIRST_ADMIN_EMAIL.",)
    settings, _ = read({**alone, "ACCOUNTFLOW_FIRST_ADMIN_EMAIL": "boss@example.com"})
    assert settings.first_admin_password == "correct horse battery"


_SOME_KEY = "-----BEGIN PRIVATE KEY-----"


def with_pairs(algorithm: str, *pems: str) -> dict[str, Any]:
    """Return a configuration that is fit for production, but for its keys of access tokens."""
    return {**with_key("JWT_ALGORITHM", algorithm), "ACCOUNTFLOW_JWT_PRIVATE_KEYS": pems}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_key_pairs(algorithm: str) -> None:
    """Key pairs of the algorithm's kind are used in their order, of whichever length the list is."""
    pems = tuple(pem(algorithm, number) for number in (2, 1))

    for some in (pems, pems[:1]):
        settings, warnings = read(with_pairs(algorithm, *some))

        assert (settings.jwt_algorithm, settings.jwt_private_keys, warnings) == (algorithm, some, ())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("relaxed", [{}, {"DEBUG": True}, {"TESTING": True}])
def test_CFG_01_an_algorithm_needs_keys(algorithm: str, relaxed: dict[str, Any]) -> None:
    """An algorithm with key pairs is refused without any, in debug and testing too."""
    assert refused({**with_pairs(algorithm), **relaxed}) == (
        f"ACCOUNTFLOW_JWT_PRIVATE_KEYS is missing. ACCOUNTFLOW_JWT_ALGORITHM {algorithm!r} signs with them.",
    )


def test_CFG_01_keys_need_an_algorithm() -> None:
    """Keys that would sign nothing are refused: whoever set them believes that other services can check."""
    sentence = "ACCOUNTFLOW_JWT_PRIVATE_KEYS is set, but ACCOUNTFLOW_JWT_ALGORITHM is 'HS256', which uses none."

    assert refused(with_pairs("HS256", pem("RS256"))) == (sentence,)
    assert refused(with_key("JWT_PRIVATE_KEYS", [pem("RS256")])) == (sentence,)


@pytest.mark.parametrize(
    ("algorithm", "made", "fault"),
    [
        ("RS256", lambda: pem("ES256"), "must be RSA keys of 2048 bits or more, for 'RS256' (key 2 is not)."),
        ("RS256", lambda: pem("EdDSA"), "must be RSA keys of 2048 bits or more, for 'RS256' (key 2 is not)."),
        (
            "RS256",
            lambda: in_pem(rsa.generate_private_key(65537, 1024)),
            "must be RSA keys of 2048 bits or more, for 'RS256' (key 2 is not).",
        ),
        ("ES256", lambda: pem("RS256"), "must be EC keys on the curve P-256, for 'ES256' (key 2 is not)."),
        (
            "ES256",
            lambda: in_pem(ec.generate_private_key(ec.SECP384R1())),
            "must be EC keys on the curve P-256, for 'ES256' (key 2 is not).",
        ),
        ("EdDSA", lambda: pem("ES256"), "must be Ed25519 keys, for 'EdDSA' (key 2 is not)."),
        (
            "ES256",
            lambda: in_pem(private_key("ES256", 2), passphrase=b"open sesame"),
            "must be keys without a passphrase (key 2 is not).",
        ),
        ("ES256", lambda: pem("ES256", 2)[:60], "must be private keys that can be read (key 2 is not)."),
        ("ES256", lambda: pem("ES256"), "must be keys that differ (key 2 is key 1)."),
    ],
)
def test_CFG_01_keys_must_suit_the_algorithm(algorithm: str, made: Callable[[], str], fault: str) -> None:
    """A key of another kind, a weak, locked or broken one, and one that stands twice are refused with the reason."""
    assert refused(with_pairs(algorithm, pem(algorithm), made())) == (f"{PREFIX}JWT_PRIVATE_KEYS {fault}",)


def test_CFG_01_every_fault_of_keys_at_once() -> None:
    """One ConfigError names every key that is no good, beside the other faults, and quotes none."""
    locked = in_pem(private_key("ES256", 2), passphrase=b"open sesame")
    pems = [pem("RS256"), pem("ES256"), pem("ES256"), locked, "-----BEGIN PRIVATE KEY-----"]

    faults = refused({**with_pairs("ES256", *pems), "ACCOUNTFLOW_HSTS": "on"})

    assert faults == (
        "ACCOUNTFLOW_HSTS must be True or False (found 'on').",
        "ACCOUNTFLOW_JWT_PRIVATE_KEYS must be EC keys on the curve P-256, for 'ES256' (key 1 is not).",
        "ACCOUNTFLOW_JWT_PRIVATE_KEYS must be keys that differ (key 3 is key 2).",
        "ACCOUNTFLOW_JWT_PRIVATE_KEYS must be keys without a passphrase (key 4 is not).",
        "ACCOUNTFLOW_JWT_PRIVATE_KEYS must be private keys that can be read (key 5 is not).",
    )


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (with_key("JWT_ALGORITHM", "none") | {"ACCOUNTFLOW_JWT_PRIVATE_KEYS": [_SOME_KEY]}, "ALGORITHM"),
        (with_key("JWT_ALGORITHM", "RS256") | {"ACCOUNTFLOW_JWT_PRIVATE_KEYS": "key"}, "PRIVATE_KEYS"),
    ],
)
def test_what_is_refused_breaks_nothing_else(config: dict[str, Any], name: str) -> None:
    """A refused algorithm is not taken for HS256, and refused keys are not missing as well: that is one fault."""
    [fault] = refused(config)

    assert fault.startswith(f"ACCOUNTFLOW_JWT_{name} must be ")


def test_key_pairs_need_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cryptography the message says what to install, be there keys or not; HS256 does not ask for it."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    sentence = "ACCOUNTFLOW_JWT_PRIVATE_KEYS needs the package cryptography: install flask-accountflow[jwt]."

    assert refused(with_pairs("ES256", pem("ES256"))) == (sentence,)
    assert refused(with_pairs("ES256"))[1:] == (sentence,)
    assert read(PRODUCTION)[0].jwt_algorithm == "HS256"


def test_CFG_01_every_fault_at_once() -> None:
    """One ConfigError names every fault: values, unknown keys, clashes, keys and deployment together."""
    config = {
        "SECRET_KEY_FALLBACKS": "one key",
        "ACCOUNTFLOW_RESET_MAX_AGE": 2 * DAY,
        "ACCOUNTFLOW_HSTS": "on",
        "ACCOUNTFLOW_BASE_ULR": "https://www.example.com",
        "ACCOUNTFLOW_PASSWORD_MIN_LENGTH": 128,
        "ACCOUNTFLOW_PASSWORD_MAX_LENGTH": 64,
        "ACCOUNTFLOW_BCRYPT_ROUNDS": 5,
        "ACCOUNTFLOW_EMAIL_ALLOW_SPECIAL": True,
    }

    faults = refused(config)

    assert [fault.split()[0] for fault in faults] == [
        "ACCOUNTFLOW_BASE_ULR",
        "ACCOUNTFLOW_HSTS",
        "ACCOUNTFLOW_RESET_MAX_AGE",
        "SECRET_KEY",
        "SECRET_KEY_FALLBACKS",
        "ACCOUNTFLOW_PASSWORD_MIN_LENGTH",
        "ACCOUNTFLOW_BASE_URL",
        "MAIL_DEFAULT_SENDER",
        "ACCOUNTFLOW_EMAIL_ALLOW_SPECIAL",
        "ACCOUNTFLOW_BCRYPT_ROUNDS",
    ]


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("ACCOUNTFLOW_BASE_ULR", " Did you mean ACCOUNTFLOW_BASE_URL?"),
        ("ACCOUNTFLOW_base_url", ""),
        ("ACCOUNTFLOW_RESET_MAXAGE", " Did you mean ACCOUNTFLOW_RESET_MAX_AGE?"),
        ("ACCOUNTFLOW_Q", ""),
        ("ACCOUNTFLOW_SECRET_KEYS", ""),
    ],
)
def test_unknown_key(key: str, hint: str) -> None:
    """A key that is no setting is a fault, with the nearest name if one is near."""
    [fault] = refused({**PRODUCTION, key: 1})

    assert fault.startswith(f"{key} is not a setting.")
    assert hint in fault


def test_other_keys_are_nobodys_business() -> None:
    """Keys without our prefix are left alone."""
    settings, warnings = read({**PRODUCTION, "ACCOUNT_FLOW": 1, "accountflow_hsts": 1, "SESSION_COOKIE_NAME": "s"})

    assert (settings.hsts, warnings) == (False, ())


@pytest.mark.parametrize("relaxed", ["DEBUG", "TESTING"])
def test_CFG_01_deployment_faults_are_warnings(relaxed: str) -> None:
    """In debug and testing, what only matters in production is a warning, in the same words."""
    config = {
        "SECRET_KEY": "short",
        "MAIL_SERVER": "mail.example.com",
        "ACCOUNTFLOW_BCRYPT_ROUNDS": 4,
        "ACCOUNTFLOW_EMAIL_ALLOW_SPECIAL": True,
    }

    settings, warnings = read({**config, relaxed: True})

    assert settings.relaxed
    assert warnings == refused(config)
    assert len(warnings) == 5


@pytest.mark.parametrize("relaxed", ["DEBUG", "TESTING"])
@pytest.mark.parametrize(
    "config",
    [
        {"SECRET_KEY": None},
        {"SECRET_KEY_FALLBACKS": KEY},
        {"ACCOUNTFLOW_RESET_MAX_AGE": 2 * DAY},
        {"ACCOUNTFLOW_PASSWORD_PEPPERS": [("a", KEY)]},
        {"ACCOUNTFLOW_PASSWORD_MIN_LENGTH": 65, "ACCOUNTFLOW_PASSWORD_MAX_LENGTH": 64},
        {"ACCOUNTFLOW_TYPO": 1},
    ],
)
def test_other_faults_are_refused_everywhere(relaxed: str, config: dict[str, Any]) -> None:
    """What cannot work is refused in debug and testing too."""
    assert len(refused({**PRODUCTION, **config, relaxed: True})) == 1


@pytest.mark.parametrize("secret", [None, "", b"", 5])
def test_CFG_01_secret_key_missing(secret: Any) -> None:
    """Without a SECRET_KEY nothing starts, and the message says how to make one."""
    [fault] = refused({**PRODUCTION, "SECRET_KEY": secret})

    assert fault.startswith("SECRET_KEY is missing.")
    assert "secrets.token_hex()" in fault


@pytest.mark.parametrize(
    "config",
    [
        {"SECRET_KEY": "fifteen letters"},
        {"SECRET_KEY": b"fifteen letters"},
        {"SECRET_KEY": "dev"},
        {"SECRET_KEY": "Hard to guess string"},
        {"SECRET_KEY": "you-will-never-guess"},
        {"SECRET_KEY": b'_5#y2L"F4Q8z\n\xec]/'},
        {"SECRET_KEY": "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf"},
        {"SECRET_KEY_FALLBACKS": [KEY[::-1], "changeme"]},
        {"SECRET_KEY_FALLBACKS": [b"changeme"]},
    ],
)
def test_CFG_01_secret_key_short_or_known(config: dict[str, Any]) -> None:
    """A key that is short, or printed in a tutorial, is refused once and never repeated."""
    [fault] = refused({**PRODUCTION, **config})

    assert fault.startswith("SECRET_KEY (or one of its fallbacks) is short or well known")
    assert not any(str(value) in fault for value in config.values())


@pytest.mark.parametrize("secret", ["sixteen letters.", b"sixteen letters.", "äöüßäöüß"])
def test_secret_key_of_128_bits(secret: str | bytes) -> None:
    """Sixteen bytes are enough for a key."""
    settings, warnings = read({**PRODUCTION, "SECRET_KEY": secret})

    assert (settings.secret_keys, warnings) == ((secret,), ())


@pytest.mark.parametrize("fallbacks", [KEY, KEY.encode(), {KEY}, [KEY, ""], [KEY, None], 5])
def test_CFG_01_fallbacks_must_be_a_list(fallbacks: Any) -> None:
    """SECRET_KEY_FALLBACKS given as a string would be a list of one-letter keys, so it is refused."""
    assert refused({**PRODUCTION, "SECRET_KEY_FALLBACKS": fallbacks}) == (
        "SECRET_KEY_FALLBACKS must be a list of keys.",
    )


@pytest.mark.parametrize("fallbacks", [None, [], ()])
def test_no_fallbacks(fallbacks: Any) -> None:
    """There need not be any fallback."""
    assert read({**PRODUCTION, "SECRET_KEY_FALLBACKS": fallbacks})[0].secret_keys == (KEY,)


def test_CFG_02_newest_key_comes_last() -> None:
    """The keys are in the order that itsdangerous wants: SECRET_KEY, which signs, comes last."""
    old, older = KEY[::-1], PEPPER[::-1]

    settings, _ = read({**PRODUCTION, "SECRET_KEY_FALLBACKS": [old, older]})

    assert settings.secret_keys[-1] == KEY
    assert set(settings.secret_keys) == {KEY, old, older}


@pytest.mark.parametrize(
    "config",
    [
        {"ACCOUNTFLOW_PASSWORD_PEPPERS": [("a", KEY)]},
        {"ACCOUNTFLOW_PASSWORD_PEPPERS": [("b", PEPPER), ("a", KEY)]},
        {"ACCOUNTFLOW_PASSWORD_PEPPERS": [("a", KEY)], "SECRET_KEY": KEY.encode()},
        {"ACCOUNTFLOW_PASSWORD_PEPPERS": [("a", PEPPER)], "SECRET_KEY_FALLBACKS": [PEPPER]},
    ],
)
def test_CFG_03_pepper_is_no_secret_key(config: dict[str, Any]) -> None:
    """A pepper that is a SECRET_KEY, or a fallback, is refused."""
    assert refused({**PRODUCTION, **config}) == (
        "ACCOUNTFLOW_PASSWORD_PEPPERS holds a SECRET_KEY. Passwords need a key of their own.",
    )


def test_PWD_01_shortest_password_above_the_longest() -> None:
    """The shortest password cannot be longer than the longest; both may be the same."""
    both = {"ACCOUNTFLOW_PASSWORD_MIN_LENGTH": 65, "ACCOUNTFLOW_PASSWORD_MAX_LENGTH": 65}

    assert read({**PRODUCTION, **both})[0].password_min_length == 65
    assert refused({**PRODUCTION, **both, "ACCOUNTFLOW_PASSWORD_MAX_LENGTH": 64}) == (
        "ACCOUNTFLOW_PASSWORD_MIN_LENGTH is above ACCOUNTFLOW_PASSWORD_MAX_LENGTH.",
    )


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost",
        "http://localhost:5000",
        "http://shop.localhost",
        "http://127.0.0.1:8000",
        "http://127.9.9.9",
        "http://[::1]:5000",
    ],
)
def test_CFG_01_http_on_this_machine(address: str) -> None:
    """http is fine where nobody else can listen."""
    settings, warnings = read(with_key("BASE_URL", address))

    assert (settings.base_url, settings.secure, warnings) == (address, False, ())


@pytest.mark.parametrize(
    "address",
    [
        "http://www.example.com",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://[::2]",
        "http://mylocalhost",
    ],
)
def test_CFG_01_http_elsewhere(address: str) -> None:
    """http is refused where mailed links would cross a network, unless that is asked for by name."""
    [fault] = refused(with_key("BASE_URL", address))
    settings, _ = read({**with_key("BASE_URL", address), "ACCOUNTFLOW_ALLOW_INSECURE": True})

    assert fault == f"ACCOUNTFLOW_BASE_URL must start with https:// (found {address!r})."
    assert not settings.secure


@pytest.mark.parametrize(("host", "expected"), [(None, False), ("localhost", True), ("[::1]", True), ("x", False)])
def test_loopback(host: str | None, expected: bool) -> None:
    """A host is this machine by its name or by its number; no host is none."""
    assert is_loopback(host) is expected


def test_cheap_hashes_need_a_word() -> None:
    """A bcrypt cost below 10 is refused outside debug and testing, unless that is asked for by name."""
    config = with_key("BCRYPT_ROUNDS", 9)

    assert refused(config) == ("ACCOUNTFLOW_BCRYPT_ROUNDS must be 10 or more (found 9).",)
    assert read({**config, "ACCOUNTFLOW_ALLOW_INSECURE": True})[0].bcrypt_rounds == 9


def test_special_addresses_need_debug() -> None:
    """Addresses that do not exist are for debug and testing, whatever else is permitted."""
    config = {**with_key("EMAIL_ALLOW_SPECIAL", True), "ACCOUNTFLOW_ALLOW_INSECURE": True}

    assert refused(config) == ("ACCOUNTFLOW_EMAIL_ALLOW_SPECIAL is for debug and testing only.",)
    assert read({**config, "TESTING": True})[0].email_allow_special


def test_production_faults_of_relaxed_settings() -> None:
    """What production would refuse can be asked for in debug."""
    settings, warnings = read({"SECRET_KEY": KEY, "DEBUG": True})

    assert list(production_faults(settings)) == list(warnings)
    assert warnings[0].startswith("ACCOUNTFLOW_BASE_URL is missing.")


def test_advice() -> None:
    """What is allowed and yet dangerous is a warning, in production too."""
    _, warnings = read(with_key("LOGIN_ON_VERIFY", "always"))

    assert warnings == ("ACCOUNTFLOW_LOGIN_ON_VERIFY='always' logs in whoever opens a confirmation link.",)


@pytest.mark.parametrize(
    ("value", "sender", "name"),
    [
        ("accounts@example.com", "accounts@example.com", ""),
        (("Shop", "accounts@example.com"), "accounts@example.com", "Shop"),
        (["Shop", "accounts@example.com"], "accounts@example.com", "Shop"),
        ((None, "accounts@example.com"), "accounts@example.com", ""),
        ("Shop <accounts@example.com>", "accounts@example.com", "Shop"),
        ('"Shop, Inc." <accounts@example.com>', "accounts@example.com", "Shop, Inc."),
    ],
)
def test_sender(value: Any, sender: str, name: str) -> None:
    """The sender is what Flask-Mail takes: an address, with a name before it or in a pair."""
    settings, _ = read({**PRODUCTION, "MAIL_DEFAULT_SENDER": value})

    assert (settings.mail_sender, settings.mail_sender_name) == (sender, name)


@pytest.mark.parametrize("value", [None, "", 5, ("Shop", None), ("Shop", ""), ("a", "b", "c"), "accounts", "Shop <>"])
def test_CFG_01_sender_missing(value: Any) -> None:
    """Mails by SMTP need the address that they come from."""
    [fault] = refused({**PRODUCTION, "MAIL_DEFAULT_SENDER": value})

    assert fault.startswith("MAIL_DEFAULT_SENDER is missing")


@pytest.mark.parametrize(
    ("config", "transport"),
    [
        ({}, "smtp"),
        ({"MAIL_SERVER": "mail.example.com"}, "smtp"),
        ({"DEBUG": True}, "console"),
        ({"DEBUG": True, "MAIL_SERVER": "mail.example.com"}, "smtp"),
        ({"TESTING": True}, "smtp"),
        ({"ACCOUNTFLOW_MAIL_TRANSPORT": "file"}, "file"),
        ({"ACCOUNTFLOW_MAIL_TRANSPORT": "console"}, "console"),
        ({"DEBUG": True, "ACCOUNTFLOW_MAIL_TRANSPORT": "smtp"}, "smtp"),
    ],
)
def test_transport(config: dict[str, Any], transport: str) -> None:
    """Mails go by SMTP, except on a developer's machine without a mail server, or where it says otherwise."""
    assert read({**PRODUCTION, **config})[0].transport == transport


@pytest.mark.parametrize("transport", ["file", "console"])
def test_sender_is_for_smtp(transport: str) -> None:
    """A transport that hands nothing to a server needs no sender."""
    settings, _ = read({**with_key("MAIL_TRANSPORT", transport), "MAIL_DEFAULT_SENDER": None})

    assert settings.mail_sender == ""


def test_CFG_01_no_secret_is_printed() -> None:
    """Neither a fault nor the settings' own text holds a key, a pepper or a password."""
    secrets = ["canary-of-a-secret-key", "canary-of-a-fallback-key", "canary-of-a-pepper-that-is-long-enough"]
    uri = "redis://:canary-of-a-password@cache"
    config = {
        **PRODUCTION,
        "SECRET_KEY": secrets[0],
        "SECRET_KEY_FALLBACKS": [secrets[1]],
        "ACCOUNTFLOW_PASSWORD_PEPPERS": [("a", secrets[2])],
        "ACCOUNTFLOW_RATELIMIT_STORAGE_URI": uri,
        "ACCOUNTFLOW_JWT_ALGORITHM": "ES256",
        "ACCOUNTFLOW_JWT_PRIVATE_KEYS": [pem("ES256")],
    }

    settings, _ = read(config)
    faults = refused(
        {
            **config,
            "ACCOUNTFLOW_PASSWORD_PEPPERS": [("a b", secrets[2])],
            "ACCOUNTFLOW_RATELIMIT_STORAGE_URI": uri + "\n",
            "ACCOUNTFLOW_SECRET_KEY": secrets[0],
        }
    )
    known = refused({**config, "SECRET_KEY": "canary", "ACCOUNTFLOW_PASSWORD_PEPPERS": [("a", secrets[1])]})

    assert len(faults) == 3
    assert len(known) == 2
    assert "canary" not in repr(settings) + "".join(faults + known)
    assert "PRIVATE KEY-----" not in repr(settings)


def test_secrets_are_declared() -> None:
    """The settings that hold secrets say so, for whoever lists them."""
    assert {one.key for one in declarations() if one.secret} == {
        "ACCOUNTFLOW_FIRST_ADMIN_PASSWORD",
        "ACCOUNTFLOW_JWT_PRIVATE_KEYS",
        "ACCOUNTFLOW_PASSWORD_PEPPERS",
        "ACCOUNTFLOW_RATELIMIT_STORAGE_URI",
    }


def test_settings_do_not_change() -> None:
    """Settings cannot be changed once they are read."""
    settings, _ = read(PRODUCTION)

    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.hsts = True  # type: ignore[misc]


def test_declarations() -> None:
    """Every setting is declared with its default, a sentence, and a unit where it is a number of something."""
    found = list(declarations())

    assert [one.key for one in found][:2] == ["ACCOUNTFLOW_BASE_URL", "ACCOUNTFLOW_URL_PREFIX"]
    assert all(one.sentence.endswith(".") for one in found)
    assert {one.key: one.unit for one in found if one.unit not in {"", "seconds"}} == {
        "ACCOUNTFLOW_PASSWORD_MIN_LENGTH": "code points",
        "ACCOUNTFLOW_PASSWORD_MAX_LENGTH": "code points",
        "ACCOUNTFLOW_NOTICE_AFTER_FAILURES": "tries",
    }
    assert all(one.unit == "seconds" for one in found if one.key.endswith(("_MAX_AGE", "_AFTER", "_WAIT", "_TIMEOUT")))
    assert {one.key: one.default for one in found}["ACCOUNTFLOW_RESET_MAX_AGE"] == HOUR


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((Rate(10, 5 * MINUTE), Rate(30, HOUR), Rate(100, 30 * DAY)), "'10/5 minute;30/hour;100/30 day'"),
        ((), "()"),
        (("a", "b"), "('a', 'b')"),
        ("thread", "'thread'"),
        (None, "None"),
        (True, "True"),
        (900, "900"),
    ],
)
def test_shown(value: Any, text: str) -> None:
    """A value is shown as one would write it in a configuration."""
    assert shown(value) == text


@pytest.mark.parametrize(
    "rate",
    [
        Rate(1, 1),
        Rate(7, 59),
        Rate(10, 60),
        Rate(10, 90),
        Rate(3, 3600),
        Rate(3, 7200),
        Rate(100, 30 * DAY),
        Rate(2, 61),
    ],
)
def test_rate_round_trip(rate: Rate) -> None:
    """The text of a limit names the same limit."""
    assert parse_rates(str(rate)) == (rate,)
