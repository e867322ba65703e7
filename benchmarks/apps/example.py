"""The example app as it is deployed: every setting comes from the environment, with ``FLASK_`` before its name."""

from __future__ import annotations

from example_app import create_app
from example_app.models import db

__all__ = ["create_app"]

if __name__ == "__main__":
    with create_app().app_context():
        db.create_all()
