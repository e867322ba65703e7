"""The example app for a worker of Celery whose first process has used the database before it forks the others."""

from __future__ import annotations

import sqlalchemy as sa

from example_app import create_app
from example_app.models import db

_app = create_app()
with _app.app_context():
    # The connection goes back into the pool, and stays open.
    db.session.execute(sa.text("SELECT 1"))

celery = _app.extensions["celery"]
