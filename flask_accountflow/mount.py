"""Setting accounts up for one app: everything is built, and hung on the app."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from flask import Flask
from flask_mail import Mail
from flask_sqlalchemy import SQLAlchemy

from . import cli, flows, models, services
from .contrib import celery, flask_login
from .engines import Engines
from .flow import Action
from .forms import SignupForm
from .languages import Languages
from .mail.delivery import Deliverer
from .mail.kicks import InlineKick, Kick, ThreadKick, WorkerKick
from .mail.letter import Letter, Renderer
from .mail.transports import ConsoleTransport, FileTransport, RecordingTransport, Transport
from .mail_smtp import SmtpTransport
from .services import Parts
from .sessions import cookie_prefix
from .settings import Settings
from .store.queue import Waiting
from .web import blueprint, templates
from .web.letters import LetterRenderer
from .web.openapi import Description
from .web.pages import Pages
from .web.previews import Previews
from .web.programs import Programs
from .web.site import Site
from .web.view import Web
from .web.words import add_words


def mount(
    app: Flask, db: SQLAlchemy, user_model: type, tables: models.Tables, settings: Settings, parts: Parts
) -> None:
    """Build everything for ``app``, and hang it on the app."""
    if settings.flask_login:
        flask_login.bridge(app)
    engines = Engines(app, db, tables.user.metadata.info.get("bind_key"))
    built = services.build(app, db, user_model, tables, settings, parts, engines)
    transport, recorded = _transport(app, settings, parts)
    _set_cookie_defaults(app, settings)
    templates.install(app.jinja_env)
    add_words(app.jinja_env)
    own_words = Path(app.root_path) / "translations"
    spoken = app.extensions["accountflow_languages"] = Languages(settings.languages, own=own_words)
    render = _in_context(app, LetterRenderer(app.jinja_env, settings, built.addresses, spoken))
    deliverer = Deliverer(built.store.queue, transport, render, built.clock, built.emit)
    kick = _kick(app, settings, parts, deliverer, engines)
    built = replace(built, kick=kick)
    site = Site.build(has_inbox=recorded is not None, mail_leaves=recorded is not None and recorded.leaves)
    web = Web(built, Pages(site), Programs())
    app.extensions["accountflow"] = built
    app.extensions["accountflow_web"] = web
    app.extensions["accountflow_delivery"] = deliverer
    actions = tuple(_actions(settings, parts))
    description = app.extensions["accountflow_openapi"] = Description(built, actions)
    previews = app.extensions["accountflow_previews"] = Previews(
        app.jinja_env, settings, built.addresses, user_model, own_words
    )
    blueprint.mount(app, blueprint.build(web, actions, description, recorded, previews), settings.base_url)
    app.cli.add_command(cli.accountflow)
    if settings.debug:
        app.logger.info(
            "accountflow: pages at %s, mail by %s, links to %s",
            settings.url_prefix or "/",
            settings.transport,
            settings.base_url or "wherever this computer is asked",
        )
    if hasattr(kick, "start"):
        app.before_request_funcs.setdefault(None, []).append(_once(kick.start))


def _in_context(app: Flask, render: Renderer) -> Renderer:
    """Return what renders where there is no request: the app's own functions for templates ask for the app."""

    def rendered(waiting: Waiting) -> Letter:
        with app.app_context():
            return render(waiting)

    return rendered


def _actions(settings: Settings, parts: Parts) -> Iterator[Action]:
    chosen = tuple(parts.actions if parts.actions is not None else flows.ACTIONS)
    for action in (*chosen, *(flows.SEED_ALIASES if settings.seed_aliases else ())):
        yield replace(action, form=parts.signup_form) if action.form is SignupForm else action


def _transport(app: Flask, settings: Settings, parts: Parts) -> tuple[Transport, RecordingTransport | None]:
    """Return the transport, and in debug what records its letters for the developer's inbox."""
    transport = parts.transport if parts.transport is not None else _named_transport(app, settings)
    if not settings.debug:
        return transport, None
    recorded = RecordingTransport(transport)
    return recorded, recorded


def _named_transport(app: Flask, settings: Settings) -> Transport:
    if settings.transport == "file":
        return FileTransport(settings.mail_file)
    if settings.transport == "console":
        return ConsoleTransport()
    if "mail" not in app.extensions:
        Mail(app)
    return SmtpTransport(app, settings.mail_timeout, settings.mail_ca_file, settings.mail_ehlo_name)


def _kick(app: Flask, settings: Settings, parts: Parts, deliverer: Deliverer, engines: Engines) -> Callable[[], None]:
    wanted: Any = parts.kick if parts.kick is not None else settings.mail_kick
    if callable(wanted):
        return cast(Callable[[], None], wanted)
    if wanted == "thread":
        return _ThreadOrInline(ThreadKick(deliverer), InlineKick(deliverer), engines)
    if wanted == "celery":
        return celery.connect(app, deliverer, engines.current)
    return InlineKick(deliverer) if wanted == "inline" else WorkerKick()


class _ThreadOrInline:
    """Delivers by threads, except where the database is one connection that a request may hold."""

    def __init__(self, threads: ThreadKick, inline: InlineKick, engines: Engines) -> None:
        self._threads = threads
        self._inline = inline
        self._engines = engines

    def _chosen(self) -> Kick:
        return self._inline if self._engines.is_shared() else self._threads

    def __call__(self) -> None:
        self._chosen()()

    def start(self) -> None:
        self._chosen().start()


def _once(start: Callable[[], None]) -> Callable[[], None]:
    """Return a hook that calls ``start`` at the first request of the process."""
    done: list[bool] = []

    def hook() -> None:
        if not done:
            done.append(True)
            start()

    return hook


def _set_cookie_defaults(app: Flask, settings: Settings) -> None:
    """Give the app's session cookie what Flask leaves open. What the app has chosen stays."""
    if not settings.cookie_defaults:
        return
    if app.config["SESSION_COOKIE_SAMESITE"] is None:
        app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    if not settings.secure:
        return
    app.config["SESSION_COOKIE_SECURE"] = True
    if app.config["SESSION_COOKIE_NAME"] == Flask.default_config["SESSION_COOKIE_NAME"]:
        app.config["SESSION_COOKIE_NAME"] = f"{cookie_prefix(app)}session"
