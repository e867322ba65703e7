"""Building what flows use, from the settings and from what the app replaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from wtforms import Form

from . import events, jwt_keys, models, store
from .access_tokens import AccessTokens, SigningKey, derived_keys, paired_keys
from .breaches import BreachCheck, unchecked
from .engines import Engines
from .flow import Action, Services
from .forms import SignupForm
from .link_addresses import LinkAddresses
from .mail.transports import Transport
from .passwords import BcryptHasher, Hasher, PasswordPolicy
from .settings import Settings
from .throttle import Budget, LimitsThrottle, NoThrottle, Throttle
from .tokens import Devices, Links, RefreshTokens, derive

Clock = Callable[[], datetime]


def now() -> datetime:
    """Return the time in UTC, in whole seconds: MariaDB keeps no fraction."""
    return datetime.now(timezone.utc).replace(microsecond=0)


@dataclass(frozen=True)
class Parts:
    """What an app may replace. None stands for ours."""

    hasher: Hasher | None = None
    transport: Transport | None = None
    kick: Callable[[], None] | None = None
    throttle: Throttle | None = None
    actions: Iterable[Action] | None = None
    signup_form: type[SignupForm] = SignupForm
    password_policy: PasswordPolicy | None = None
    breach_check: Callable[[str], bool] | None = None
    on_signup: Callable[[Any, Form], None] | None = None
    clock: Clock = now


def build(
    app: Flask,
    db: SQLAlchemy,
    user_model: type,
    tables: models.Tables,
    settings: Settings,
    parts: Parts,
    engines: Engines,
) -> Services:
    """Return the services of one app; its kick does nothing yet."""
    secret = settings.secret_keys[-1]
    links = Links(settings.secret_keys)
    return Services(
        settings=settings,
        store=store.build(
            user_model,
            tables,
            settings,
            registry=lambda: db.session,
            begin=engines.begin,
            outbox_key=derive(secret, "outbox"),
        ),
        hasher=parts.hasher if parts.hasher is not None else _hasher(settings),
        policy=parts.password_policy if parts.password_policy is not None else _policy(settings),
        links=links,
        addresses=LinkAddresses(links, settings),
        access_tokens=_access_tokens(settings),
        refresh_tokens=RefreshTokens(settings.secret_keys),
        devices=Devices(settings.secret_keys),
        throttle=parts.throttle if parts.throttle is not None else _throttle(settings, derive(secret, "throttle")),
        clock=parts.clock,
        emit=lambda name, **payload: events.send(name, app, **payload),
        kick=lambda: None,
        on_signup=parts.on_signup if parts.on_signup is not None else lambda user, form: None,
        is_breached=BreachCheck(parts.breach_check) if parts.breach_check is not None else unchecked,
        host_fields=tuple(_host_fields(user_model, parts.signup_form)),
    )


def _host_fields(user_model: type, signup_form: type[SignupForm]) -> Iterator[str]:
    """Yield the names of the sign-up fields that are the app's own and fill a column."""
    columns: Any = sa.inspect(user_model).columns
    ours = {field.name for field in SignupForm()} | set(models.UserMixin.__annotations__)
    for field in signup_form():
        if field.name in columns and field.name not in ours:
            yield field.name


def _access_tokens(settings: Settings) -> AccessTokens:
    issuer = settings.jwt_issuer or settings.base_url or settings.site_name
    return AccessTokens(
        _access_keys(settings),
        issuer=issuer,
        audience=settings.jwt_audience or issuer,
        max_age=settings.access_token_max_age,
    )


def _access_keys(settings: Settings) -> tuple[SigningKey, ...]:
    if settings.jwt_algorithm == "HS256":
        return derived_keys(settings.secret_keys)
    return paired_keys(jwt_keys.load(settings.jwt_algorithm, settings.jwt_private_keys))


def _hasher(settings: Settings) -> Hasher:
    return BcryptHasher(
        settings.bcrypt_rounds,
        settings.password_peppers,
        concurrency=settings.hash_concurrency,
        queue=settings.hash_queue,
        wait=settings.hash_wait,
    )


def _policy(settings: Settings) -> PasswordPolicy:
    return PasswordPolicy(
        settings.password_min_length,
        settings.password_max_length,
        words=[settings.site_name],
        # The documented request of the tempest SDK signs up with "abcdefghijkl".
        allow_runs=settings.seed_aliases and settings.relaxed,
    )


def _throttle(settings: Settings, key: bytes) -> Throttle:
    if not settings.ratelimit_enabled:
        return NoThrottle()
    budgets = (
        Budget("login", settings.ratelimit_login, "clear"),
        Budget("login_ip", settings.ratelimit_login_ip, "return"),
        Budget("mail_ip", settings.ratelimit_mail_ip, "keep"),
        Budget("token_ip", settings.ratelimit_token_ip, "return"),
    )
    return LimitsThrottle(budgets, settings.ratelimit_storage_uri, key)
