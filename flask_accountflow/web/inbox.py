"""The developer's inbox: the last mails of this process, in debug and on this computer only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, abort, make_response, render_template, request, url_for

from ..mail.transports import RecordingTransport
from ..settings import is_loopback
from .negotiation import wants_json
from .view import Web

#: The mail's own styles stand inline; nothing else may load, run or be framed.
_MAIL_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox"


def mount(blueprint: Blueprint, web: Web, recorded: RecordingTransport) -> None:
    """Add the inbox's pages to the blueprint. Only ever called in debug."""

    def page(name: str, data: Mapping[str, Any]) -> Response:
        context = {**web.pages.frame(web.services), "data": data}
        return make_response(render_template(f"accountflow/{name}.html", **context))

    @blueprint.get("/_dev/mail", endpoint="dev_mail")
    def show_all() -> Response:
        _require_loopback()
        return page("dev_mail", {"mails": [_row(number, letter) for number, letter in recorded.letters]})

    @blueprint.get("/_dev/mail/<int:number>", endpoint="dev_mail_show")
    def show_one(number: int) -> Response:
        _require_loopback()
        letter = dict(recorded.letters).get(number) or abort(404)
        shown = {
            **_row(number, letter),
            "headers": letter.headers(),
            "text": letter.text,
            "link": letter.link,
            "html_url": url_for("accountflow.dev_mail_html", number=number),
            "list_url": url_for("accountflow.dev_mail"),
        }
        return page("dev_mail_show", shown)

    @blueprint.get("/_dev/mail/<int:number>/html", endpoint="dev_mail_html")
    def show_html(number: int) -> Response:
        _require_loopback()
        letter = dict(recorded.letters).get(number) or abort(404)
        return Response(letter.html, headers={"Content-Security-Policy": _MAIL_POLICY}, mimetype="text/html")


def _row(number: int, letter: Any) -> dict[str, Any]:
    return {
        "number": number,
        "to": letter.to,
        "subject": letter.subject,
        "template": letter.template,
        "sent_at": letter.date,
    }


def _require_loopback() -> None:
    """Answer 404 unless both ends are this computer; a name from outside that resolves here does not count."""
    host = request.host.rpartition(":")[0] if request.host.rpartition(":")[2].isdigit() else request.host
    if not is_loopback(request.remote_addr) or not is_loopback(host) or request.headers.get("X-Forwarded-For"):
        abort(404)
    if wants_json(request):
        abort(406)
