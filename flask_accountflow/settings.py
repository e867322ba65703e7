"""Every ``ACCOUNTFLOW_*`` key, declared once: rule, default and sentence.

:func:`.configuration.read` turns an app's configuration into one frozen :class:`Settings`.
All durations are whole seconds.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, NamedTuple

from . import jwt_keys, languages, rules
from .rules import DAY, HOUR, MINUTE, Rate

PREFIX = "ACCOUNTFLOW_"


def declare(
    default: Any, rule: rules.Rule, sentence: str, *, unit: str = "", optional: bool = False, secret: bool = False
) -> Any:
    """Return the dataclass field of one setting. The value of a ``secret`` one is never printed."""
    checked = rules.optional(rule) if optional else rule
    metadata = {"rule": checked, "sentence": sentence, "unit": unit, "secret": secret}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """The configuration of one app, checked. The names are those of the keys, in lower case."""

    base_url: str | None = declare(
        None,
        rules.web_address,
        "Scheme, host and perhaps path of every mailed link. Never taken from a request. "
        "Required outside debug and testing, where the loopback address of the request stands in.",
        optional=True,
    )
    url_prefix: str = declare("/auth", rules.prefix, "Where the pages and the JSON API are mounted.")
    site_name: str = declare("", rules.line, "The name of the site in pages and mails. Default: the app's name.")
    support_email: str | None = declare(None, rules.mailbox, "Shown on every page and in every mail.", optional=True)
    support_url: str | None = declare(None, rules.web_address, "Shown on every page and in every mail.", optional=True)
    stylesheets: tuple[str, ...] = declare(
        (), rules.several(rules.line), "Style sheets added after ours, in this order."
    )
    languages: tuple[str, ...] = declare(
        ("en",),
        languages.chosen,
        f"The languages that pages and mails may be in, among {', '.join(map(repr, languages.LANGUAGES))}. "
        "Who asks for none of yours gets the first.",
    )

    signup_enabled: bool = declare(True, rules.flag, "Whether strangers may create accounts.")
    auto_activate: bool = declare(
        False,
        rules.flag,
        "A sign-up is confirmed and logged in at once; no mail is sent. It tells who has an account. "
        "For development and tests; elsewhere it needs ACCOUNTFLOW_ALLOW_INSECURE.",
    )
    return_token_in_response: bool = declare(
        False,
        rules.flag,
        "The links of sign-up, resend and reset request stand in the answer instead of a mail: whoever asks may "
        "take any account. For development and tests; elsewhere it needs ACCOUNTFLOW_ALLOW_INSECURE.",
    )
    login_on_verify: str = declare(
        "same-browser",
        rules.choice("same-browser", "always", "never"),
        "When confirming an address also logs in. 'always' lets whoever holds the link in.",
    )
    login_on_reset: str = declare(
        "json", rules.choice("json", "always", "never"), "When setting a new password by link also logs in."
    )

    verify_on_get: bool = declare(
        False,
        rules.flag,
        "Opening a confirmation link in a browser confirms, without a button. Mail scanners open links, too.",
    )
    seed_aliases: bool = declare(
        False,
        rules.flag,
        "Also serve the paths, field names and template names of the tempest SDK's bundled flow.",
    )

    verify_url: str | None = declare(
        None,
        rules.link_template,
        "Your own page for confirming an address, with {token}. Default: ours.",
        optional=True,
    )
    reset_url: str | None = declare(
        None, rules.link_template, "Your own page for setting a password, with {token}. Default: ours.", optional=True
    )
    change_email_url: str | None = declare(
        None,
        rules.link_template,
        "Your own page for confirming a new address, with {token}. Default: ours.",
        optional=True,
    )
    login_url: str | None = declare(
        None,
        rules.empty_or(rules.destination),
        "Your own login page. Default: ours. '' leaves the login buttons out of pages and mails.",
        optional=True,
    )
    after_login: str = declare("/", rules.destination, "Where a login leads when no next page was asked for.")
    after_logout: str | None = declare(
        None, rules.destination, "Where a logout leads. Default: the login page.", optional=True
    )
    trusted_origins: tuple[str, ...] = declare(
        (), rules.several(rules.origin, ordered=False), "Other origins that ?next= may lead to and that may post to us."
    )

    # OWASP Forgot Password Cheat Sheet and NIST SP 800-63B-4 section 4.2: at most a day for a reset by mail.
    verify_max_age: int = declare(
        DAY, rules.whole(MINUTE, 30 * DAY), "How long a confirmation link works.", unit="seconds"
    )
    reset_max_age: int = declare(HOUR, rules.whole(MINUTE, DAY), "How long a reset link works.", unit="seconds")
    change_email_max_age: int = declare(
        DAY, rules.whole(MINUTE, 30 * DAY), "How long the link that confirms a new address works.", unit="seconds"
    )
    revert_max_age: int = declare(
        3 * DAY,
        rules.whole(HOUR, 30 * DAY),
        "How long the link works by which a change of address is undone from the old one.",
        unit="seconds",
    )
    unverified_max_age: int = declare(
        7 * DAY, rules.whole(HOUR, 365 * DAY), "When purge removes an account that was never confirmed.", unit="seconds"
    )
    link_keep_age: int = declare(
        30 * DAY,
        rules.whole(0, 3650 * DAY),
        "How long a dead link's row is kept after its expiry, to tell its owner why it is dead.",
        unit="seconds",
    )
    resend_after: int = declare(
        MINUTE, rules.whole(1, HOUR), "A second mail of one kind to one address waits this long.", unit="seconds"
    )

    # NIST SP 800-63B-4 section 3.1.1.2: 8 at the very least, 15 where the password is the only factor,
    # and 64 must be allowed.
    password_min_length: int = declare(12, rules.whole(8, 128), "Shortest new password.", unit="code points")
    password_max_length: int = declare(256, rules.whole(64, 4096), "Longest new password.", unit="code points")
    # OWASP Password Storage Cheat Sheet: bcrypt with a work factor of 10 or more.
    bcrypt_rounds: int = declare(12, rules.whole(4, 18), "bcrypt's cost. A login rehashes when it changes.")
    password_peppers: tuple[tuple[str, str], ...] = declare(
        (),
        rules.peppers,
        "Keys mixed into every password hash, as (id, key), newest first. Never SECRET_KEY.",
        secret=True,
    )
    hash_concurrency: int = declare(
        min(2, os.cpu_count() or 1), rules.whole(1, 1024), "Passwords hashed at once by one process. Default: up to 2."
    )
    hash_queue: int = declare(1, rules.whole(0, 100_000), "Requests that may wait for a hash; the next one gets 503.")
    hash_wait: int = declare(5, rules.whole(0, 600), "How long such a request waits.", unit="seconds")

    access_token_max_age: int = declare(15 * MINUTE, rules.whole(1, DAY), "Life of an access token.", unit="seconds")
    refresh_token_max_age: int = declare(
        30 * DAY, rules.whole(1, 365 * DAY), "Life of a refresh family, from login. It does not slide.", unit="seconds"
    )
    refresh_reuse_grace: int = declare(
        0,
        rules.whole(0, 60),
        "A refresh token used again within this time gets the present pair; later use ends the family. "
        "10 helps phones on bad networks.",
        unit="seconds",
    )
    jwt_algorithm: str = declare(
        "HS256",
        rules.choice("HS256", *jwt_keys.ALGORITHMS),
        "How access tokens are signed. HS256: with a key derived from SECRET_KEY, for this app alone. "
        "The others: with JWT_PRIVATE_KEYS, so that other services can check them by /jwks.json.",
    )
    jwt_private_keys: tuple[str, ...] = declare(
        (),
        rules.several(rules.pem),
        "Private keys in PEM form. The first signs; the others are still accepted, and published beside it.",
        secret=True,
    )
    jwt_issuer: str | None = declare(
        None, rules.line, "The iss of access tokens. Default: the base address.", optional=True
    )
    jwt_audience: str | None = declare(
        None, rules.line, "The aud of access tokens. Default: the issuer.", optional=True
    )

    # NIST SP 800-63B-4 section 2.1.3: 30 days at most at AAL1.
    session_max_age: int = declare(
        14 * DAY, rules.whole(1, 30 * DAY), "Life of a login that is remembered.", unit="seconds"
    )
    session_idle_max_age: int = declare(
        DAY, rules.whole(1, 30 * DAY), "An unremembered login ends after this long without a request.", unit="seconds"
    )
    fresh_max_age: int = declare(
        15 * MINUTE,
        rules.whole(1, DAY),
        "How long after a password was typed @fresh_login_required lets in.",
        unit="seconds",
    )
    remember_default: bool = declare(True, rules.flag, "Whether 'Keep me logged in' is ticked at first.")

    mail_transport: str = declare(
        "auto",
        rules.choice("auto", "smtp", "file", "console"),
        "'smtp' sends by Flask-Mail, 'file' appends to MAIL_FILE, 'console' prints. "
        "'auto' is 'console' in debug without MAIL_SERVER, else 'smtp'.",
    )
    mail_file: str = declare("mail.log", rules.line, "The file of the 'file' transport.")
    mail_kick: Any = declare(
        "thread",
        rules.choice_or_callable("thread", "inline", "worker", "celery"),
        "What starts delivery after a commit: a thread of this process, the request itself, "
        "only 'flask accountflow deliver', a worker of Celery, or a callable of yours.",
    )
    mail_timeout: int = declare(
        10, rules.whole(1, 30), "How long one step of an SMTP dialogue may take.", unit="seconds"
    )
    mail_ca_file: str | None = declare(
        None,
        rules.line,
        "CA certificates that the mail server is checked against. Default: the system's.",
        optional=True,
    )
    mail_ehlo_name: str | None = declare(
        None,
        rules.line,
        "The name that the mail server is greeted by. Some refuse a computer that has none, as containers do. "
        "Default: the full name of this computer, else its address.",
        optional=True,
    )
    mail_per_address: tuple[Rate, ...] = declare(
        (Rate(3, HOUR), Rate(10, DAY)), rules.rates, "Mails of one kind to one address. More are dropped, silently."
    )
    mail_unknown: bool = declare(
        False,
        rules.flag,
        "Whether a reset request for an address without an account is answered by a mail that says so. "
        "It helps people with several addresses; but then anybody can have your site write to strangers.",
    )

    ratelimit_enabled: bool = declare(True, rules.flag, "Whether guessing is limited.")
    ratelimit_storage_uri: str = declare(
        "memory://",
        rules.line,
        "Where the limits are counted. 'redis://…' when there is more than one process.",
        secret=True,  # it may hold the password of the store
    )
    ratelimit_login: tuple[Rate, ...] = declare(
        (Rate(10, 5 * MINUTE), Rate(30, HOUR), Rate(100, 30 * DAY)), rules.rates, "Failed logins per submitted address."
    )
    ratelimit_login_ip: tuple[Rate, ...] = declare((Rate(20, MINUTE),), rules.rates, "Failed logins per network.")
    ratelimit_mail_ip: tuple[Rate, ...] = declare(
        (Rate(60, HOUR),), rules.rates, "Requests that may cause a mail, per network."
    )
    ratelimit_token_ip: tuple[Rate, ...] = declare(
        (Rate(20, MINUTE),), rules.rates, "Links and refresh tokens that did not work, per network."
    )

    notice_after_failures: int = declare(
        5,
        rules.whole(0, 1000),
        "A login after so many wrong passwords is told to its owner by mail. 0: never.",
        unit="tries",
    )

    first_admin_email: str | None = declare(
        None, rules.mailbox, "Whom 'flask accountflow create-admin --if-none' makes an administrator.", optional=True
    )
    first_admin_password: str | None = declare(
        None,
        rules.line,
        "Their first password. Without one, a link to set it is mailed.",
        optional=True,
        secret=True,
    )

    email_allow_special: bool = declare(
        False, rules.flag, "Accept addresses such as dev@local. For debug and testing only."
    )
    cookie_defaults: bool = declare(
        True,
        rules.flag,
        "Give the app's session cookie SameSite=Lax; with an https BASE_URL also Secure, and where its name is Flask's "
        "own, ``__Host-`` or ``__Secure-`` before that.",
    )
    security_headers: bool = declare(True, rules.flag, "Send Content-Security-Policy and its like with our own pages.")
    hsts: bool = declare(False, rules.flag, "Send Strict-Transport-Security with our own pages, over https.")
    flask_login: bool = declare(
        False, rules.flag, "Make flask_login.current_user and its login_required know our logins."
    )
    allow_insecure: bool = declare(False, rules.flag, "Permit the values that are refused as dangerous.")

    # What we need of the host's own configuration; not ACCOUNTFLOW_ keys.
    secret_keys: tuple[str | bytes, ...] = field(default=(), repr=False)
    mail_sender: str = ""
    mail_sender_name: str = ""
    mail_server: bool = False
    debug: bool = False
    testing: bool = False

    @property
    def relaxed(self) -> bool:
        """Whether faults that only matter in production are warnings."""
        return self.debug or self.testing

    @property
    def secure(self) -> bool:
        """Whether people reach the site by https."""
        return self.base_url is not None and self.base_url.startswith("https://")

    @property
    def transport(self) -> str:
        """``smtp``, ``file`` or ``console``: what ``mail_transport`` comes to."""
        if self.mail_transport != "auto":
            return self.mail_transport
        return "console" if self.debug and not self.mail_server else "smtp"


class Declaration(NamedTuple):
    """One setting, as the reference page and ``flask accountflow settings`` show it."""

    key: str
    default: Any
    unit: str
    sentence: str
    secret: bool


def declarations() -> Iterator[Declaration]:
    """Yield every setting in the order of its declaration."""
    for one in fields(Settings):
        if one.metadata:
            default = None if one.default is MISSING else one.default
            data = one.metadata
            yield Declaration(PREFIX + one.name.upper(), default, data["unit"], data["sentence"], data["secret"])


def shown(value: Any) -> str:
    """Return ``value`` as one would write it in a configuration."""
    if isinstance(value, tuple) and value and isinstance(value[0], Rate):
        return repr(";".join(str(rate) for rate in value))
    return repr(value)


def is_loopback(host: str | None) -> bool:
    """Tell whether ``host`` can only be reached from the same machine (RFC 6761 section 6.3, RFC 5735)."""
    if host is None or host == "localhost" or host.endswith(".localhost"):
        return host is not None
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
