"""The pages of the example app."""

from __future__ import annotations

from flask import Blueprint, Response, render_template
from flask.typing import ResponseReturnValue
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from flask_accountflow import current_user, login_required

from .models import db

pages = Blueprint("pages", __name__)


@pages.after_request
def keep_private(response: Response) -> Response:
    """Keep pages that greet somebody out of the cache from which "Back" shows them, also after a logout."""
    response.headers["Cache-Control"] = "no-store"
    return response


@pages.get("/")
def home() -> ResponseReturnValue:
    """Show everybody who they are, and where they can go."""
    return render_template("home.html", user=current_user)


@pages.get("/secret")
@login_required
def secret() -> ResponseReturnValue:
    """Show members what only members see."""
    return render_template("secret.html", user=current_user)


@pages.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Tell a load balancer whether this process can work."""
    try:
        db.session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return {"status": "failing", "database": "unreachable"}, 503
    return {"status": "ok", "database": "ok"}
