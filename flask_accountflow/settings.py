"""Every ``ACCOUNTFLOW_*`` key, declared once: rule, default and sentence.

:func:`read` turns an app's configuration into one frozen :class:`Settings`, or raises one
:exc:`.ConfigError` that lists every fault. Nothing else in the package reads ``app.config``.
All durations are whole seconds.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from email.utils import parseaddr
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from . import rules
from .errors import ConfigError
from .rules import DAY, HOUR, MINUTE, Rate

PREFIX = "ACCOUNTFLOW_"

# Values that tutorials print; whoever has read one can sign our links.
_KNOWN_SECRETS = frozenset(
    {
        "hard to guess string",
        "you-will-never-guess",
        "this-is-a-secret-key",
        "your-secret-key-here",
        # Of Flask's own documentation, by their age.
        '_5#y2l"f4q8z\n\ufffd]/',
        "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
    }
)
# 128 bits, the least that NIST SP 800-57 part 1 accepts for a symmetric key.
_SECRET_MIN_BYTES = 16


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

    signup_enabled: bool = declare(True, rules.flag, "Whether strangers may create accounts.")
    login_on_verify: str = declare(
        "same-browser",
        rules.choice("same-browser", "always", "never"),
        "When confirming an address also logs in. 'always' lets whoever holds the link in.",
    )
    login_on_reset: str = declare(
        "json", rules.choice("json", "always", "never"), "When setting a new password by link also logs in."
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
    login_url: str | None = declare(None, rules.destination, "Your own login page. Default: ours.", optional=True)
    after_login: str = declare("/", rules.destination, "Where a login leads when no next page was asked for.")
    after_logout: str | None = declare(
        None, rules.destination, "Where a logout leads. Default: the login page.", optional=True
    )
    trusted_origins: tuple[str, ...] = declare(
        (), rules.several(rules.origin), "Other origins that ?next= may lead to and that may post to us."
    )

    # OWASP Forgot Password Cheat Sheet and NIST SP 800-63B-4 section 4.2: at most a day for a reset by mail.
    verify_max_age: int = declare(
        DAY, rules.whole(MINUTE, 30 * DAY), "How long a confirmation link works.", unit="seconds"
    )
    reset_max_age: int = declare(HOUR, rules.whole(MINUTE, DAY), "How long a reset link works.", unit="seconds")
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
        rules.choice_or_callable("thread", "inline", "worker"),
        "What starts delivery after a commit: a thread of this process, the request itself, "
        "only 'flask accountflow deliver', or a callable of yours.",
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
    mail_per_address: tuple[Rate, ...] = declare(
        (Rate(3, HOUR), Rate(10, DAY)), rules.rates, "Mails of one kind to one address. More are dropped, silently."
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

    email_allow_special: bool = declare(
        False, rules.flag, "Accept addresses such as dev@local. For debug and testing only."
    )
    cookie_defaults: bool = declare(
        True, rules.flag, "Give the app's session cookie SameSite=Lax, and Secure when BASE_URL is https."
    )
    security_headers: bool = declare(True, rules.flag, "Send Content-Security-Policy and its like with our own pages.")
    hsts: bool = declare(False, rules.flag, "Send Strict-Transport-Security with our own pages, over https.")
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


def read(config: Mapping[str, Any], *, app_name: str = "app") -> tuple[Settings, tuple[str, ...]]:
    """Return the settings in ``config`` and the warnings about them.

    ``DEBUG`` and ``TESTING`` are taken from ``config`` once, here. While one of them is set, what
    only matters in production is a warning instead of a fault.
    Raises :exc:`.ConfigError` with every fault of the configuration.
    """
    values, faults = _own_values(config)
    refused = {fault.partition(" ")[0] for fault in faults}
    values.setdefault("site_name", app_name)
    sender, sender_name = _sender(config.get("MAIL_DEFAULT_SENDER"))
    keys, key_faults = _secret_keys(config)
    settings = Settings(
        **values,
        secret_keys=keys,
        mail_sender=sender,
        mail_sender_name=sender_name,
        mail_server=bool(config.get("MAIL_SERVER")),
        debug=bool(config.get("DEBUG")),
        testing=bool(config.get("TESTING")),
    )
    faults += key_faults
    faults += _clashes(settings)
    # A key that was given and refused is not missing as well.
    deployment = tuple(fault for fault in production_faults(settings) if fault.partition(" ")[0] not in refused)
    if not settings.relaxed:
        faults += deployment
        deployment = ()
    if faults:
        raise ConfigError(faults)
    return settings, (*deployment, *_advice(settings))


def _own_values(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    known = {PREFIX + one.name.upper(): one for one in fields(Settings) if one.metadata}
    values: dict[str, Any] = {}
    faults = []
    for key in sorted(key for key in config if key.startswith(PREFIX)):
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            faults.append(f"{key} is not a setting.{hint}")
            continue
        one = known[key]
        try:
            values[one.name] = one.metadata["rule"](config[key])
        except ValueError as error:
            found = "" if one.metadata["secret"] else f" (found {config[key]!r})"
            faults.append(f"{key} {error}{found}.")
    return values, faults


def _sender(value: Any) -> tuple[str, str]:
    """Return address and name of Flask-Mail's ``MAIL_DEFAULT_SENDER``: a string or a (name, address) pair."""
    if isinstance(value, (list, tuple)) and len(value) == 2:
        name, address = value
    else:
        name, address = parseaddr(value) if isinstance(value, str) else ("", "")
    return (str(address), str(name or "")) if "@" in str(address) else ("", "")


def _secret_keys(config: Mapping[str, Any]) -> tuple[tuple[str | bytes, ...], list[str]]:
    """Return the signing keys, newest last as itsdangerous wants them, and what is wrong with them."""
    faults = []
    secret = config.get("SECRET_KEY")
    if not isinstance(secret, (str, bytes)) or not secret:
        faults.append(
            "SECRET_KEY is missing. Set it to the output of: python -c 'import secrets; print(secrets.token_hex())'"
        )
        secret = b""
    fallbacks = config.get("SECRET_KEY_FALLBACKS")
    if fallbacks is None:
        fallbacks = []
    # Flask would iterate over a string and accept each of its letters as a key.
    if not isinstance(fallbacks, (list, tuple)) or not all(isinstance(key, (str, bytes)) and key for key in fallbacks):
        faults.append("SECRET_KEY_FALLBACKS must be a list of keys.")
        fallbacks = []
    return (*fallbacks, secret), faults


def _clashes(settings: Settings) -> Iterator[str]:
    secrets = {key.decode("utf-8", "replace") if isinstance(key, bytes) else key for key in settings.secret_keys}
    if any(key in secrets for _, key in settings.password_peppers):
        yield "ACCOUNTFLOW_PASSWORD_PEPPERS holds a SECRET_KEY. Passwords need a key of their own."
    if settings.password_min_length > settings.password_max_length:
        yield "ACCOUNTFLOW_PASSWORD_MIN_LENGTH is above ACCOUNTFLOW_PASSWORD_MAX_LENGTH."


def production_faults(settings: Settings) -> Iterator[str]:
    """Yield what makes these settings unfit for production."""
    yield from _weak_keys(settings)
    if settings.base_url is None:
        yield "ACCOUNTFLOW_BASE_URL is missing. Set it to the address people use, such as 'https://www.example.com'."
    elif not settings.secure and not settings.allow_insecure and not is_loopback(urlsplit(settings.base_url).hostname):
        yield f"ACCOUNTFLOW_BASE_URL must start with https:// (found {settings.base_url!r})."
    if settings.transport == "smtp" and not settings.mail_sender:
        yield "MAIL_DEFAULT_SENDER is missing. Set it to the address that mails come from."
    if settings.bcrypt_rounds < 10 and not settings.allow_insecure:
        yield f"ACCOUNTFLOW_BCRYPT_ROUNDS must be 10 or more (found {settings.bcrypt_rounds})."
    if settings.email_allow_special:
        yield "ACCOUNTFLOW_EMAIL_ALLOW_SPECIAL is for debug and testing only."


def is_loopback(host: str | None) -> bool:
    """Tell whether ``host`` can only be reached from the same machine (RFC 6761 section 6.3, RFC 5735)."""
    if host is None or host == "localhost" or host.endswith(".localhost"):
        return host is not None
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _weak_keys(settings: Settings) -> Iterator[str]:
    for key in settings.secret_keys:
        text = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
        if text and (len(text.encode()) < _SECRET_MIN_BYTES or text.lower() in _KNOWN_SECRETS):
            yield (
                "SECRET_KEY (or one of its fallbacks) is short or well known; anybody could sign links. "
                "Set it to the output of: python -c 'import secrets; print(secrets.token_hex())'"
            )
            return


def _advice(settings: Settings) -> Iterator[str]:
    """Yield what is allowed and yet worth a line at start-up."""
    if settings.login_on_verify == "always":
        yield "ACCOUNTFLOW_LOGIN_ON_VERIFY='always' logs in whoever opens a confirmation link."
