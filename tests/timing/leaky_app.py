"""The example app with a leak for the timing test to find: who sends ``X-Leak: 1`` is answered sooner or later.

``FLASK_TIMING_LEAK`` says how: ``pause`` waits for a millisecond, ``hash`` leaves out whatever would be hashed.
"""

from __future__ import annotations

import time
from typing import Any

from flask import Flask, request

from example_app import create_app as create_example_app

#: In seconds.
PAUSE = 0.001


def create_app() -> Flask:
    """Return the example app with its leak."""
    app = create_example_app()
    if app.config["TIMING_LEAK"] == "pause":
        app.before_request(_pause)
    else:
        _leave_out_hashes(app.extensions["accountflow"].hasher)
    return app


def _is_asked_for() -> bool:
    return request.headers.get("X-Leak") == "1"


def _pause() -> None:
    if _is_asked_for():
        time.sleep(PAUSE)


def _leave_out_hashes(hasher: Any) -> None:
    hash_, check = hasher.hash, hasher.check
    made = hash_("what a stranger gets who signs up")
    hasher.hash = lambda password: made if _is_asked_for() else hash_(password)
    hasher.check = lambda password, *stored: (False,) * len(stored) if _is_asked_for() else check(password, *stored)
