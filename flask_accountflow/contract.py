"""What this extension promises, and which settings of an app take a promise back.

Each promise names the settings that can weaken it, with the values that do. ``docs/security.md`` states the
promises in detail; what an app replaces (hasher, limits, forms, templates) is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import not_
from typing import Any
from urllib.parse import urlsplit

from .rules import Rate
from .settings import PREFIX, Settings, is_loopback

#: Tells whether a value of a setting weakens a promise.
Weakness = Callable[[Any], bool]

_DEFAULTS = Settings()


@dataclass(frozen=True)
class Promise:
    """A promise, and the keys of the configuration that weaken it."""

    sentence: str
    weakened_by: tuple[str, ...]

    @property
    def kept(self) -> bool:
        """Whether the configuration takes nothing of it back."""
        return not self.weakened_by

    def __str__(self) -> str:
        standing = "kept" if self.kept else f"weakened by {', '.join(self.weakened_by)}"
        return f"{standing}: {self.sentence}"


def promises(settings: Settings) -> Iterator[Promise]:
    """Yield every promise, with what these settings make of it."""
    for sentence, weaknesses in _PROMISES.items():
        weak = (name for name, weakens in weaknesses.items() if weakens(getattr(settings, name)))
        yield Promise(sentence, tuple(map(_key, weak)))


def weakening_keys() -> set[str]:
    """Return the keys that can weaken a promise."""
    return {_key(name) for weaknesses in _PROMISES.values() for name in weaknesses}


def _key(name: str) -> str:
    return name.upper() if name in {"debug", "testing"} else PREFIX + name.upper()


_on: Weakness = bool
_off: Weakness = not_
_given: Weakness = bool


def _is(*weak: Any) -> Weakness:
    return lambda value: value in weak


def _above(limit: int) -> Weakness:
    return lambda value: value > limit


def _below(limit: int) -> Weakness:
    return lambda value: value < limit


def _looser_than(limits: tuple[Rate, ...]) -> Weakness:
    """Weak is what lets more through in the time of one of these limits."""

    def weakens(given: tuple[Rate, ...]) -> bool:
        return any(all(rate.count > limit.count or rate.seconds < limit.seconds for rate in given) for limit in limits)

    return weakens


def _open_to_readers(address: str | None) -> bool:
    """Tell whether an address is read by whoever carries it: plain http beyond this computer."""
    parts = urlsplit(address or "")
    return parts.scheme == "http" and not is_loopback(parts.hostname)


def _not_https(address: str | None) -> bool:
    return not (address or "").startswith("https://")


#: Each promise, and what weakens it. The numbers are the defaults, whose sources stand in settings.py.
_PROMISES: Mapping[str, Mapping[str, Weakness]] = {
    "a configuration that is unfit for production does not start": {
        "allow_insecure": _on,
        "debug": _on,
        "testing": _on,
    },
    "no answer tells a stranger who has an account": {"auto_activate": _on, "return_token_in_response": _on},
    "no answer waits for the mail server, or takes longer because there is a mail to send": {
        "mail_kick": _is("inline")
    },
    "an address is proved before its account opens anything": {"auto_activate": _on, "return_token_in_response": _on},
    "a link is known to nobody but the reader of its mail": {
        "return_token_in_response": _on,
        "mail_transport": _is("file", "console"),
        "verify_url": _open_to_readers,
        "reset_url": _open_to_readers,
        "change_email_url": _open_to_readers,
        "base_url": _not_https,
    },
    "opening a link changes nothing, so that a mail scanner confirms nothing": {"verify_on_get": _on},
    "a link alone logs nobody in, except the browser that signed up": {
        "login_on_verify": _is("always"),
        "login_on_reset": _is("always"),
    },
    "a confirmation link works for a day at most": {"verify_max_age": _above(_DEFAULTS.verify_max_age)},
    "a reset link works for an hour at most": {"reset_max_age": _above(_DEFAULTS.reset_max_age)},
    "a link to a new address works for a day at most": {"change_email_max_age": _above(_DEFAULTS.change_email_max_age)},
    "who loses an account by a change of its address can undo that for three days": {
        "revert_max_age": _below(_DEFAULTS.revert_max_age)
    },
    "nobody floods a mailbox through this site": {
        "mail_per_address": _looser_than(_DEFAULTS.mail_per_address),
        "resend_after": _below(_DEFAULTS.resend_after),
        "ratelimit_enabled": _off,
        "ratelimit_mail_ip": _looser_than(_DEFAULTS.ratelimit_mail_ip),
    },
    "a reset request mails nobody who has no account": {"mail_unknown": _on},
    "an address is a mailbox on the Internet": {"email_allow_special": _on},
    "guessing passwords and links is bounded, per address and per network": {
        "ratelimit_enabled": _off,
        "ratelimit_login": _looser_than(_DEFAULTS.ratelimit_login),
        "ratelimit_login_ip": _looser_than(_DEFAULTS.ratelimit_login_ip),
        "ratelimit_token_ip": _looser_than(_DEFAULTS.ratelimit_token_ip),
    },
    "all processes count tries together": {"ratelimit_storage_uri": lambda uri: uri.startswith("memory:")},
    "an owner is told of a login after five wrong passwords": {
        "notice_after_failures": lambda tries: tries == 0 or tries > _DEFAULTS.notice_after_failures,
        "ratelimit_enabled": _off,
    },
    "a new password has twelve characters or more": {"password_min_length": _below(_DEFAULTS.password_min_length)},
    "a stolen table of passwords is slow to guess": {"bcrypt_rounds": _below(10)},
    "a flood of logins leaves room for everything else": {
        "hash_concurrency": _above(_DEFAULTS.hash_concurrency),
        "hash_queue": _above(_DEFAULTS.hash_queue),
        "hash_wait": _above(_DEFAULTS.hash_wait),
    },
    "a login ends by itself: after a day without use, or 14 days when it is remembered; a program's after 30 days": {
        "session_max_age": _above(_DEFAULTS.session_max_age),
        "session_idle_max_age": _above(_DEFAULTS.session_idle_max_age),
        "refresh_token_max_age": _above(_DEFAULTS.refresh_token_max_age),
    },
    "an access token works for a quarter of an hour at most": {
        "access_token_max_age": _above(_DEFAULTS.access_token_max_age)
    },
    "a refresh token works once": {"refresh_reuse_grace": _above(0)},
    "what needs a fresh login asks for the password every quarter of an hour": {
        "fresh_max_age": _above(_DEFAULTS.fresh_max_age)
    },
    "the session cookie travels by https only, and not with other sites' requests": {
        "base_url": _not_https,
        "cookie_defaults": _off,
    },
    "purge deletes what was never confirmed after a week, and what is over after a month": {
        "unverified_max_age": _above(_DEFAULTS.unverified_max_age),
        "link_keep_age": _above(_DEFAULTS.link_keep_age),
    },
    "our pages run no foreign script, and are framed nowhere": {"security_headers": _off},
    "no other site posts to us, or is where we lead": {"trusted_origins": _given},
}
