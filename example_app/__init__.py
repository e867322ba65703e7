"""The example app: a public page, a page for members, and accounts for everybody.

    $ flask --app example_app --debug db upgrade
    $ flask --app example_app --debug run

Every setting can be given by the environment, with ``FLASK_`` before its name: ``FLASK_SECRET_KEY``,
``FLASK_SQLALCHEMY_DATABASE_URI``, ``FLASK_MAIL_SERVER``, ``FLASK_ACCOUNTFLOW_BASE_URL`` and so on.
Values are read as JSON where they are JSON (``false``, ``10``, ``["a"]``), else as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask

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

    db.init_app(app)
    migrate.init_app(app, db, directory=str(Path(__file__).with_name("migrations")), render_as_batch=True)
    accounts.init_app(app)
    app.register_blueprint(views.pages)
    return app
