"""For developers, in debug and on this computer only: the last mails of this process, and previews of every mail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, abort, make_response, render_template, request, url_for

from ..languages import LANGUAGES
from ..mail.letter import Letter, render_message
from ..mail.transports import RecordingTransport
from ..settings import is_loopback
from .headers import CONTENT_SECURITY_POLICY
from .negotiation import wants_json
from .previews import Preview, Previews, message_bytes
from .redirects import asked
from .view import Web

#: The mail's own styles stand inline; nothing else may load, run or be framed.
_MAIL_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox"
#: Our pages, which show mails in frames.
_PAGE_POLICY = CONTENT_SECURITY_POLICY.format(origins="") + "; frame-src 'self'"


def mount(blueprint: Blueprint, web: Web, recorded: RecordingTransport, previews: Previews) -> None:
    """Add the developer's pages to the blueprint. Only ever called in debug."""
    _mount_inbox(blueprint, web, recorded)
    _mount_previews(blueprint, web, previews)


def _mount_inbox(blueprint: Blueprint, web: Web, recorded: RecordingTransport) -> None:
    @blueprint.get("/_dev/mail", endpoint="dev_mail")
    def show_all() -> Response:
        _require_loopback()
        mails = [{"number": number, **_row(letter)} for number, letter in recorded.letters]
        return _page(web, "dev_mail", {"mails": mails, "preview_url": url_for("accountflow.dev_preview")})

    @blueprint.get("/_dev/mail/<int:number>", endpoint="dev_mail_show")
    def show_one(number: int) -> Response:
        _require_loopback()
        letter = dict(recorded.letters).get(number) or abort(404)
        if asked("format") is not None:
            return _part(letter, f"mail-{number}")
        list_url = url_for("accountflow.dev_mail")
        data = {"number": number, "link": letter.link, "list_url": list_url, "list_name": "the inbox"}
        return _page(web, "dev_mail_show", {**data, **_shown(letter, "dev_mail_show", number=number)})


def _mount_previews(blueprint: Blueprint, web: Web, previews: Previews) -> None:
    @blueprint.get("/_dev/preview/", endpoint="dev_preview")
    def show_all() -> Response:
        _require_loopback()
        mails = [_listed(previews.show(name, LANGUAGES[0])) for name in previews.names()]
        return _page(web, "dev_preview", {"mails": mails})

    @blueprint.get("/_dev/preview/<name>", endpoint="dev_preview_show")
    def show_one(name: str) -> Response:
        _require_loopback()
        locale = asked("locale") or LANGUAGES[0]
        if name not in previews.names() or locale not in LANGUAGES:
            abort(404)
        preview = previews.show(name, locale)
        if preview.letter is not None and asked("format") is not None:
            return _part(preview.letter, f"{name}.{locale}")
        list_url = url_for("accountflow.dev_preview")
        data = {**_listed(preview), "list_url": list_url, "list_name": "all previews"}
        if preview.letter is not None:
            data |= _shown(preview.letter, "dev_preview_show", name=name, locale=locale)
        return _page(web, "dev_mail_show", data)


def _page(web: Web, name: str, data: Mapping[str, Any]) -> Response:
    context = {**web.pages.frame(web.services), "data": data}
    response = make_response(render_template(f"accountflow/{name}.html", **context))
    if web.services.settings.security_headers:
        response.headers["Content-Security-Policy"] = _PAGE_POLICY
    return response


def _row(letter: Letter) -> dict[str, Any]:
    return {
        "to": letter.to,
        "subject": letter.subject,
        "template": letter.template,
        "language": letter.language,
        "sent_at": letter.date,
    }


def _listed(preview: Preview) -> dict[str, Any]:
    """Return what the list and the page of a preview have in common."""
    return {
        "name": preview.name,
        "locale": preview.locale,
        "subject": preview.name if preview.letter is None else preview.letter.subject,
        "fault": preview.fault,
        "languages": [
            (locale, url_for("accountflow.dev_preview_show", name=preview.name, locale=locale)) for locale in LANGUAGES
        ],
    }


def _shown(letter: Letter, endpoint: str, **address: Any) -> dict[str, Any]:
    """Return what the page of a mail shows."""
    forms = ("html", "text", "headers", "eml")
    return {
        **_row(letter),
        "headers": render_message(letter).items(),
        "text": letter.text,
        "size": len(message_bytes(letter)),
        **{f"{form}_url": url_for(f"accountflow.{endpoint}", **address, format=form) for form in forms},
    }


def _part(letter: Letter, file: str) -> Response:
    """Return the part of a mail that was asked for."""
    match asked("format"):
        case "html":
            return Response(letter.html, headers={"Content-Security-Policy": _MAIL_POLICY}, mimetype="text/html")
        case "text":
            return Response(letter.text, mimetype="text/plain")
        case "headers":
            lines = (f"{name}: {value}\n" for name, value in render_message(letter).items())
            return Response("".join(lines), mimetype="text/plain")
        case "eml":
            response = Response(message_bytes(letter), mimetype="message/rfc822")
            response.headers.set("Content-Disposition", "attachment", filename=f"{file}.eml")
            return response
    abort(404)


def _require_loopback() -> None:
    """Answer 404 unless both ends are this computer; a name from outside that resolves here does not count."""
    host = request.host.rpartition(":")[0] if request.host.rpartition(":")[2].isdigit() else request.host
    if not is_loopback(request.remote_addr) or not is_loopback(host) or request.headers.get("X-Forwarded-For"):
        abort(404)
    if wants_json(request):
        abort(406)
