"""What a configuration makes of the promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from support import Site

from flask_accountflow.configuration import read
from flask_accountflow.contract import Promise, promises, weakening_keys
from flask_accountflow.settings import Settings, declarations

#: What production needs, several processes included.
PRODUCTION: Mapping[str, Any] = {
    "SECRET_KEY": "0123456789abcdef0123456789abcdef",
    "MAIL_DEFAULT_SENDER": "accounts@example.com",
    "ACCOUNTFLOW_BASE_URL": "https://www.example.com",
    "ACCOUNTFLOW_RATELIMIT_STORAGE_URI": "redis://127.0.0.1:6379/0",
}

#: For each key a value that weakens a promise, and one that is as strong as the default or stronger. In production
#: some are refused, so all are read in debug.
VALUES: Mapping[str, tuple[Any, Any]] = {
    "DEBUG": (True, False),
    "TESTING": (True, False),
    "ACCOUNTFLOW_ALLOW_INSECURE": (True, False),
    "ACCOUNTFLOW_AUTO_ACTIVATE": (True, False),
    "ACCOUNTFLOW_RETURN_TOKEN_IN_RESPONSE": (True, False),
    "ACCOUNTFLOW_MAIL_KICK": ("inline", "worker"),
    "ACCOUNTFLOW_MAIL_TRANSPORT": ("file", "smtp"),
    "ACCOUNTFLOW_VERIFY_URL": ("http://app.example.org/{token}", "https://app.example.org/{token}"),
    "ACCOUNTFLOW_RESET_URL": ("http://app.example.org/{token}", "http://localhost:3000/{token}"),
    "ACCOUNTFLOW_CHANGE_EMAIL_URL": ("http://app.example.org/{token}", "myapp://email/{token}"),
    "ACCOUNTFLOW_BASE_URL": ("http://www.example.com", "https://example.com/shop"),
    "ACCOUNTFLOW_VERIFY_ON_GET": (True, False),
    "ACCOUNTFLOW_LOGIN_ON_VERIFY": ("always", "never"),
    "ACCOUNTFLOW_LOGIN_ON_RESET": ("always", "never"),
    "ACCOUNTFLOW_VERIFY_MAX_AGE": (86_401, 3600),
    "ACCOUNTFLOW_RESET_MAX_AGE": (3601, 3600),
    "ACCOUNTFLOW_CHANGE_EMAIL_MAX_AGE": (86_401, 3600),
    "ACCOUNTFLOW_REVERT_MAX_AGE": (259_199, 7 * 86_400),
    "ACCOUNTFLOW_MAIL_PER_ADDRESS": ("4/hour;10/day", "3/hour;5/day"),
    "ACCOUNTFLOW_RESEND_AFTER": (59, 120),
    "ACCOUNTFLOW_MAIL_UNKNOWN": (True, False),
    "ACCOUNTFLOW_EMAIL_ALLOW_SPECIAL": (True, False),
    "ACCOUNTFLOW_RATELIMIT_ENABLED": (False, True),
    "ACCOUNTFLOW_RATELIMIT_MAIL_IP": ("61/hour", "60/2 hour"),
    "ACCOUNTFLOW_RATELIMIT_LOGIN": ("10/5 minute;30/hour", "5/5 minute;30/hour;100/30 day"),
    "ACCOUNTFLOW_RATELIMIT_LOGIN_IP": ("20/second", "20/minute;100/day"),
    "ACCOUNTFLOW_RATELIMIT_TOKEN_IP": ("100/minute", "5/hour"),
    "ACCOUNTFLOW_RATELIMIT_STORAGE_URI": ("memory://", "redis://127.0.0.1:6379/1"),
    "ACCOUNTFLOW_NOTICE_AFTER_FAILURES": (0, 1),
    "ACCOUNTFLOW_PASSWORD_MIN_LENGTH": (11, 15),
    "ACCOUNTFLOW_BCRYPT_ROUNDS": (9, 10),
    "ACCOUNTFLOW_HASH_CONCURRENCY": (1000, 1),
    "ACCOUNTFLOW_HASH_QUEUE": (2, 0),
    "ACCOUNTFLOW_HASH_WAIT": (6, 0),
    "ACCOUNTFLOW_SESSION_MAX_AGE": (15 * 86_400, 3600),
    "ACCOUNTFLOW_SESSION_IDLE_MAX_AGE": (86_401, 900),
    "ACCOUNTFLOW_REFRESH_TOKEN_MAX_AGE": (31 * 86_400, 86_400),
    "ACCOUNTFLOW_ACCESS_TOKEN_MAX_AGE": (901, 60),
    "ACCOUNTFLOW_REFRESH_REUSE_GRACE": (1, 0),
    "ACCOUNTFLOW_FRESH_MAX_AGE": (901, 60),
    "ACCOUNTFLOW_COOKIE_DEFAULTS": (False, True),
    "ACCOUNTFLOW_UNVERIFIED_MAX_AGE": (8 * 86_400, 86_400),
    "ACCOUNTFLOW_LINK_KEEP_AGE": (31 * 86_400, 0),
    "ACCOUNTFLOW_SECURITY_HEADERS": (False, True),
    "ACCOUNTFLOW_TRUSTED_ORIGINS": (["https://app.example.org"], []),
}


def contract(**config: Any) -> list[Promise]:
    """Return the promises as a configuration in debug keeps them."""
    return list(promises(read({**PRODUCTION, "DEBUG": True, **config})[0]))


def weak(found: list[Promise]) -> dict[str, tuple[str, ...]]:
    """Return what weakens the promises that are weakened."""
    return {promise.sentence: promise.weakened_by for promise in found if not promise.kept}


def test_production_keeps_everything() -> None:
    """With what production needs, and a store for the limits of all processes, every promise is kept."""
    found = list(promises(read(PRODUCTION)[0]))

    assert len(found) > 20
    assert weak(found) == {}


def test_without_a_store_limits_are_not_shared() -> None:
    """By the defaults one promise is not kept, because it takes a store."""
    settings, _ = read({**PRODUCTION, "ACCOUNTFLOW_RATELIMIT_STORAGE_URI": "memory://"})

    assert weak(list(promises(settings))) == {
        "all processes count tries together": ("ACCOUNTFLOW_RATELIMIT_STORAGE_URI",)
    }


@pytest.mark.parametrize("key", VALUES)
def test_each_key_weakens_what_it_is_named_for(key: str) -> None:
    """A dangerous value of a key weakens promises in the name of that key alone, and a safe one weakens none."""
    dangerous, safe = VALUES[key]
    debug = set() if key == "DEBUG" else {"DEBUG"}

    by_dangerous = {one for keys in weak(contract(**{key: dangerous})).values() for one in keys} - debug
    by_safe = {one for keys in weak(contract(**{key: safe})).values() for one in keys} - debug

    assert (by_dangerous, by_safe) == ({key}, set())


def test_every_key_is_tried() -> None:
    """Each key that can weaken a promise is tried above, and is a setting of ours, or one of Flask's two modes."""
    known = {one.key for one in declarations()} | {"DEBUG", "TESTING"}

    assert weakening_keys() == set(VALUES)
    assert weakening_keys() <= known


def test_several_keys_weaken_one_promise() -> None:
    """A promise that several settings weaken names all of them."""
    found = contract(ACCOUNTFLOW_LOGIN_ON_VERIFY="always", ACCOUNTFLOW_LOGIN_ON_RESET="always")

    assert weak(found)["a link alone logs nobody in, except the browser that signed up"] == (
        "ACCOUNTFLOW_LOGIN_ON_VERIFY",
        "ACCOUNTFLOW_LOGIN_ON_RESET",
    )


def test_one_key_weakens_several_promises() -> None:
    """A setting that several promises need is named by each of them."""
    found = weak(contract(DEBUG=False, ACCOUNTFLOW_RATELIMIT_ENABLED=False))

    assert set(found.values()) == {("ACCOUNTFLOW_RATELIMIT_ENABLED",)}
    assert len(found) == 3


def test_a_promise_is_one_line() -> None:
    """A promise says on one line whether it is kept, and by which keys it is not."""
    lines = [str(promise) for promise in contract(ACCOUNTFLOW_VERIFY_ON_GET=True)]

    assert "kept: a refresh token works once" in lines
    assert (
        "weakened by ACCOUNTFLOW_VERIFY_ON_GET: opening a link changes nothing, so that a mail scanner confirms nothing"
    ) in lines
    assert all(line.count("\n") == 0 and len(line) < 160 for line in lines)


def test_check_contract_tells_every_promise(site: Site) -> None:
    """``check --contract`` prints each promise on a line and nothing else, and that some are weakened is no failure."""
    result = site.app.test_cli_runner().invoke(args=["accountflow", "check", "--contract"])

    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert "kept: a refresh token works once" in lines
    assert "weakened by TESTING: a configuration that is unfit for production does not start" in lines
    assert [line.partition(": ")[2] for line in lines] == [promise.sentence for promise in promises(Settings())]


def test_check_contract_may_judge_as_in_production(site: Site) -> None:
    """With ``--production`` it judges as if debug and testing were off."""
    words = ["accountflow", "check", "--contract", "--production"]

    result = site.app.test_cli_runner().invoke(args=words)

    assert "kept: a configuration that is unfit for production does not start" in result.output.splitlines()
