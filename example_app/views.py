"""The pages of the example app."""

from __future__ import annotations

from flask import Blueprint, Response, render_template
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import SQLAlchemyError

from flask_accountflow import current_user, login_required

from .models import accounts

pages = Blueprint("pages", __name__)

# Seconds. A mail that was put off twice has gone by then: after 5 s, and after 30 more.
_MAIL_PATIENCE = 60


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
    """Tell a load balancer whether this process can work, and a monitor whether mails go out.

    Mails that wait degrade the site and do not end it: with 503, every process would be taken out of
    service at once because of a mail server.
    """
    try:
        status = accounts.mail_status()
    except SQLAlchemyError:
        return {"status": "failing", "database": "unusable"}, 503
    mail = {"pending": status.pending, "oldest_seconds": status.oldest, "failed": status.failed}
    is_late = status.oldest is not None and status.oldest > _MAIL_PATIENCE
    return {"status": "degraded" if is_late else "ok", "database": "ok", "mail": mail}
