"""The example app for Celery's own command: a worker that delivers the mails, and beat, which finds those that wait.

    $ export FLASK_CELERY='{"broker_url": "redis://localhost"}'
    $ celery --app example_app.worker worker
    $ celery --app example_app.worker beat

The web server gets the same environment.
"""

from __future__ import annotations

from . import create_app

celery = create_app().extensions["celery"]
