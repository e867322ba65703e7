"""From an app's configuration to its :class:`.Settings`: read once, with every fault in one message."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Set
from dataclasses import fields
from email.utils import parseaddr
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from . import jwt_keys
from .errors import ConfigError
from .settings import PREFIX, Settings, is_loopback

# Values that tutorials print; whoever has read one can sign our links.
_KNOWN_SECRETS = frozenset(
    {
        "hard to guess string",
        "you-will-never-guess",
        "this-is-a-secret-key",
        "your-secret-key-here",
        # Of the example app, in debug.
        "only-for-debugging-the-example-app",
        # Of Flask's own documentation, by their age.
        '_5#y2l"f4q8z\n\ufffd]/',
        "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
    }
)
# 128 bits, the least that NIST SP 800-57 part 1 accepts for a symmetric key.
_SECRET_MIN_BYTES = 16


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
    faults += _clashes(settings, refused)
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


def _clashes(settings: Settings, refused: Set[str]) -> Iterator[str]:
    secrets = {key.decode("utf-8", "replace") if isinstance(key, bytes) else key for key in settings.secret_keys}
    if any(key in secrets for _, key in settings.password_peppers):
        yield "ACCOUNTFLOW_PASSWORD_PEPPERS holds a SECRET_KEY. Passwords need a key of their own."
    if settings.password_min_length > settings.password_max_length:
        yield "ACCOUNTFLOW_PASSWORD_MIN_LENGTH is above ACCOUNTFLOW_PASSWORD_MAX_LENGTH."
    if settings.first_admin_password is not None and settings.first_admin_email is None:
        yield "ACCOUNTFLOW_FIRST_ADMIN_PASSWORD is set without ACCOUNTFLOW_FIRST_ADMIN_EMAIL."
    if settings.flask_login and find_spec("flask_login") is None:
        yield (
            "ACCOUNTFLOW_FLASK_LOGIN is True, but Flask-Login is not installed. Install flask-accountflow[flask-login]."
        )
    if settings.mail_kick == "celery" and find_spec("celery") is None:
        yield "ACCOUNTFLOW_MAIL_KICK is 'celery', but Celery is not installed. Install flask-accountflow[celery]."
    # Of a value that was refused, nothing follows about the other.
    if refused.isdisjoint({"ACCOUNTFLOW_JWT_ALGORITHM", "ACCOUNTFLOW_JWT_PRIVATE_KEYS"}):
        yield from _jwt_faults(settings)


def _jwt_faults(settings: Settings) -> Iterator[str]:
    algorithm, keys = settings.jwt_algorithm, settings.jwt_private_keys
    if algorithm == "HS256":
        if keys:
            yield "ACCOUNTFLOW_JWT_PRIVATE_KEYS is set, but ACCOUNTFLOW_JWT_ALGORITHM is 'HS256', which uses none."
        return
    if not keys:
        yield f"ACCOUNTFLOW_JWT_PRIVATE_KEYS is missing. ACCOUNTFLOW_JWT_ALGORITHM {algorithm!r} signs with them."
    for fault in jwt_keys.faults(algorithm, keys):
        yield f"ACCOUNTFLOW_JWT_PRIVATE_KEYS {fault}."


def production_faults(settings: Settings) -> Iterator[str]:
    """Yield what makes these settings unfit for production."""
    yield from _weak_keys(settings)
    if settings.base_url is None:
        yield "ACCOUNTFLOW_BASE_URL is missing. Set it to the address people use, such as 'https://www.example.com'."
    elif not settings.secure and not settings.allow_insecure and not is_loopback(urlsplit(settings.base_url).hostname):
        yield f"ACCOUNTFLOW_BASE_URL must start with https:// (found {settings.base_url!r})."
    if settings.transport == "smtp" and not settings.mail_sender:
        yield "MAIL_DEFAULT_SENDER is missing. Set it to the address that mails come from."
    if settings.email_allow_special:
        yield "ACCOUNTFLOW_EMAIL_ALLOW_SPECIAL is for debug and testing only."
    if not settings.allow_insecure:
        yield from _insecure(settings)


def _insecure(settings: Settings) -> Iterator[str]:
    """Yield what is refused unless ACCOUNTFLOW_ALLOW_INSECURE permits it."""
    if settings.bcrypt_rounds < 10:
        yield f"ACCOUNTFLOW_BCRYPT_ROUNDS must be 10 or more (found {settings.bcrypt_rounds})."
    for name in ("auto_activate", "return_token_in_response"):
        if getattr(settings, name):
            yield f"{PREFIX}{name.upper()} is for development: it tells strangers who has an account, or lets them in."
    for name in ("verify_url", "reset_url", "change_email_url"):
        template = urlsplit(getattr(settings, name) or "")
        if template.scheme == "http" and not is_loopback(template.hostname):
            yield f"{PREFIX}{name.upper()} must not be plain http: the link is a secret."


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
