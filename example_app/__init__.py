"""The example app: a public page, a page for members, and accounts for everybody.

    $ flask --app example_app --debug db upgrade
    $ flask --app example_app --debug run

Every setting can be given by the environment, with ``FLASK_`` before its name: ``FLASK_SECRET_KEY``,
``FLASK_SQLALCHEMY_DATABASE_URI``, ``FLASK_MAIL_SERVER``, ``FLASK_ACCOUNTFLOW_BASE_URL`` and so on.
Values are read as JSON where they are JSON (``false``, ``10``, ``["a"]``), else as text.

``FLASK_TRUSTED_PROXIES`` is how many proxies stand before it; none is by default. Mails go out by Celery once
``FLASK_CELERY`` is set, such as to ``{"broker_url": "redis://localhost"}``; see worker.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from . import views
from .models import accounts, db, migrate

# Known to everybody, so used in debug only: it keeps you logged in while the server reloads.
_DEBUG_SECRET_KEY = "only-for-debugging-the-example-app"


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Return a new app, configured by defaults, then the environment, then ``config``.

    Raises :exc:`flask_accountflow.ConfigError` when the configuration is not fit for use; outside
    debug that includes a missing ``SECRET_KEY``, ``ACCOUNTFLOW_BASE_URL`` or ``MAIL_DEFAULT_SENDER``.
    """
    app = Flask(__name__)
    debug = app.debug
    app.config.update(SQLALCHEMY_DATABASE_URI="sqlite:///example.db", ACCOUNTFLOW_SITE_NAME="Example")
    app.config.from_prefixed_env()
    # Flask has its own reading of FLASK_DEBUG, in which "no" is off; the line above took it for a text.
    app.debug = debug
    app.config.update(config if config is not None else {})
    if app.debug and not app.config["SECRET_KEY"]:
        app.config["SECRET_KEY"] = _DEBUG_SECRET_KEY

    # Without them each visitor would have the address of the nearest proxy, and share its limits with all others.
    proxies = app.config.get("TRUSTED_PROXIES", 0)
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies)  # type: ignore[method-assign]
    if "CELERY" in app.config:
        _set_up_celery(app)
    db.init_app(app)
    migrate.init_app(app, db, directory=str(Path(__file__).with_name("migrations")), render_as_batch=True)
    accounts.init_app(app)
    app.register_blueprint(views.pages)
    return app


def _set_up_celery(app: Flask) -> None:
    """Make the Celery of ``app``, and let it deliver the mails.

    Tasks of your own want an app context: https://flask.palletsprojects.com/en/stable/patterns/celery/
    """
    from celery import Celery  # noqa: PLC0415 - optional

    # Where a worker cannot fork (macOS, Windows), its processes find the tasks there.
    celery = Celery(app.name, include=["example_app.worker"])
    celery.config_from_object(app.config["CELERY"])
    app.extensions["celery"] = celery
    app.config.setdefault("ACCOUNTFLOW_MAIL_KICK", "celery")
