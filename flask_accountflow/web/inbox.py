"""For developers, in debug and on this computer only: the last mails of this process, and previews of every mail."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, Response, abort, make_response, redirect, render_template, request, url_for

from ..errors import MailRejected, Refusal
from ..languages import LANGUAGES
from ..mail.letter import Letter, message_bytes, render_message
from ..mail.transports import Recorded, RecordingTransport
from ..settings import is_loopback
from . import origin
from .headers import CONTENT_SECURITY_POLICY
from .negotiation import wants_json
from .previews import Preview, Previews
from .redirects import asked
from .view import Web
from .words import in_words

#: The mail's own styles stand inline; nothing else may load, run or be framed.
_MAIL_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox"
#: Our pages, which show mails in frames.
_PAGE_POLICY = CONTENT_SECURITY_POLICY.format(origins="") + "; frame-src 'self'"

#: How a mail may be looked at: what can be chosen, by the name in the address; the first is shown unasked.
_CHOICES = {
    "view": {"html": "HTML", "text": "Text", "headers": "Headers", "source": "Source"},
    "scheme": {"both": "Light and dark", "light": "Light", "dark": "Dark"},
    "width": {"desk": "Desk", "phone": "Phone"},
}

_ASKED_SCHEME = re.compile(r"\(\s*prefers-color-scheme\s*:\s*(light|dark)\s*\)", re.IGNORECASE)
_BOTH_SCHEMES = re.compile(r"""(\bcolor-scheme\s*:\s*|\bcontent=["'])light dark\b""")


def mount(blueprint: Blueprint, web: Web, recorded: RecordingTransport, previews: Previews) -> None:
    """Add the developer's pages to the blueprint. Only ever called in debug."""
    _mount_inbox(blueprint, web, recorded)
    _mount_previews(blueprint, web, previews)


def in_scheme(html: str, scheme: str) -> str:
    """Return the HTML of a mail as ``light`` or ``dark`` makes it look, whatever the reader's own scheme is."""
    asked_for = _ASKED_SCHEME.sub(
        lambda found: "(min-width: 0)" if found[1].lower() == scheme else "(max-width: 0)", html
    )
    return _BOTH_SCHEMES.sub(lambda found: found[1] + scheme, asked_for)


def _mount_inbox(blueprint: Blueprint, web: Web, recorded: RecordingTransport) -> None:
    @blueprint.get("/_dev/mail", endpoint="dev_mail")
    def show_all() -> Response:
        _require_loopback()
        services = web.services
        data = {
            "mails": [_row(one, services.clock()) for one in recorded.letters],
            "leaves": recorded.leaves,
            "sender": services.settings.mail_kick,
            "preview_url": url_for("accountflow.dev_preview"),
        }
        return _page(web, "dev_mail", {"data": data, "csrf_token": web.pages.form_token()})

    @blueprint.post("/_dev/mail", endpoint="dev_mail_empty")
    def empty() -> Response:
        _require_loopback()
        try:
            origin.check_origin(web.services.settings)
            origin.check_token(request.form.get(origin.FIELD))
        except Refusal as refusal:
            return web.refuse(refusal)
        recorded.clear()
        return make_response(redirect(url_for("accountflow.dev_mail"), code=303))

    @blueprint.get("/_dev/mail/<int:number>", endpoint="dev_mail_show")
    def show_one(number: int) -> Response:
        _require_loopback()
        kept = {one.number: one for one in recorded.letters}
        one = kept.get(number) or abort(404)
        if asked("format") is not None:
            return _part(one.letter, f"mail-{number}")
        look, newer_first = _look(), list(kept)
        data = {
            **_row(one, web.services.clock()),
            **_shown(one.letter, look, "dev_mail_show", number=number),
            "link": one.letter.link,
            "list_url": url_for("accountflow.dev_mail"),
            "list_name": "the inbox",
        }
        data["around"] = [
            (word, _address("dev_mail_show", look, number=other), False)
            for word, other in zip(("Newer", "Older"), _neighbours(newer_first, number), strict=True)
            if other is not None
        ]
        return _page(web, "dev_mail_show", {"data": data})


def _mount_previews(blueprint: Blueprint, web: Web, previews: Previews) -> None:
    @blueprint.get("/_dev/preview/", endpoint="dev_preview")
    def show_all() -> Response:
        _require_loopback()
        flows = [
            (flow, [_listed(previews.show(name, LANGUAGES[0]), {}) for name in names])
            for flow, names in previews.by_flow().items()
        ]
        return _page(web, "dev_preview", {"data": {"flows": flows}})

    @blueprint.get("/_dev/preview/<name>", endpoint="dev_preview_show")
    def show_one(name: str) -> Response:
        _require_loopback()
        names = [one for group in previews.by_flow().values() for one in group]
        locale = asked("locale") or LANGUAGES[0]
        if name not in names or locale not in LANGUAGES:
            abort(404)
        preview = previews.show(name, locale)
        if preview.letter is not None and asked("format") is not None:
            return _part(preview.letter, f"{name}.{locale}")
        look = _look()
        data = {
            **_listed(preview, look),
            "list_url": url_for("accountflow.dev_preview"),
            "list_name": "all previews",
        }
        data["around"] = [
            (word, _address("dev_preview_show", look, name=other, locale=locale), False)
            for word, other in zip(("Previous", "Next"), _neighbours(names, name), strict=True)
            if other is not None
        ]
        if preview.letter is not None:
            data |= _shown(preview.letter, look, "dev_preview_show", name=name, locale=locale)
        return _page(web, "dev_mail_show", {"data": data})


def _page(web: Web, name: str, context: Mapping[str, Any]) -> Response:
    # Without a version in its address: who changes it wants to see that.
    own = {"dev_stylesheet_url": url_for("accountflow.static", filename="dev.css")}
    frame = web.pages.frame(web.services)
    response = make_response(render_template(f"accountflow/{name}.html", **frame, **own, **context))
    if web.services.settings.security_headers:
        response.headers["Content-Security-Policy"] = _PAGE_POLICY
    return response


def _look() -> dict[str, str]:
    """Return how the mail is to be looked at, by the names of the choices."""
    look = {name: asked(name) or next(iter(options)) for name, options in _CHOICES.items()}
    if any(look[name] not in options for name, options in _CHOICES.items()):
        abort(404)
    return look


def _address(endpoint: str, look: Mapping[str, str], **address: Any) -> str:
    """Return the address of a mail's page. What is shown unasked is not in it."""
    unusual = {name: value for name, value in look.items() if value != next(iter(_CHOICES[name]))}
    return url_for(f"accountflow.{endpoint}", **{**address, **unusual})


def _neighbours(order: list[Any], one: Any) -> tuple[Any, Any]:
    """Return what comes before and after, None at an end."""
    at = order.index(one)
    return (order[at - 1] if at else None), (order[at + 1] if at + 1 < len(order) else None)


def _row(one: Recorded, now: datetime) -> dict[str, Any]:
    """Return what the list and the page of a caught mail have in common."""
    return {
        "number": one.number,
        "url": url_for("accountflow.dev_mail_show", number=one.number),
        "subject": one.letter.subject,
        **_envelope(one.letter),
        "ago": _ago(now - one.letter.date),
        "fault": one.fault and str(one.fault),
        "is_final": isinstance(one.fault, MailRejected),
    }


def _envelope(letter: Letter) -> dict[str, Any]:
    return {
        "to": letter.to,
        "template": letter.template,
        "language": letter.language,
        "caused_at": letter.date,
    }


def _ago(age: timedelta) -> str:
    """Return an age in words, rounded down to its unit."""
    seconds = max(0, int(age.total_seconds()))
    unit = next((size for size, least in ((86400, 2), (3600, 1), (60, 1)) if seconds >= size * least), 1)
    return f"{in_words(seconds - seconds % unit)} ago"


def _listed(preview: Preview, look: Mapping[str, str]) -> dict[str, Any]:
    """Return what the list and the page of a preview have in common."""
    return {
        "name": preview.name,
        "locale": preview.locale,
        "subject": preview.name if preview.letter is None else preview.letter.subject,
        "template_fault": preview.fault,
        "languages": [
            (locale, _address("dev_preview_show", look, name=preview.name, locale=locale), locale == preview.locale)
            for locale in LANGUAGES
        ],
    }


def _shown(letter: Letter, look: Mapping[str, str], endpoint: str, **address: Any) -> dict[str, Any]:
    """Return what the page of a mail shows."""
    message = message_bytes(letter)

    def part(form: str, scheme: str | None = None) -> str:
        return url_for(f"accountflow.{endpoint}", **address, format=form, scheme=scheme)

    return {
        **_envelope(letter),
        **look,
        "choices": {
            name: [
                (text, _address(endpoint, {**look, name: value}, **address), value == look[name])
                for value, text in options.items()
            ]
            for name, options in _CHOICES.items()
        },
        "frames": [
            (scheme, part("html", scheme=scheme)) for scheme in ("light", "dark") if look["scheme"] in {scheme, "both"}
        ],
        "headers": render_message(letter).items(),
        "text": letter.text,
        "source": message.decode("ascii"),
        "size": len(message),
        "parts": {form: part(form) for form in ("html", "text", "headers", "eml")},
    }


def _part(letter: Letter, file: str) -> Response:
    """Return the part of a mail that was asked for."""
    match asked("format"), asked("scheme"):
        case "html", None:
            return _html(letter.html)
        case "html", "light" | "dark" as scheme:
            return _html(in_scheme(letter.html, scheme))
        case "text", _:
            return Response(letter.text, mimetype="text/plain")
        case "headers", _:
            lines = (f"{name}: {value}\n" for name, value in render_message(letter).items())
            return Response("".join(lines), mimetype="text/plain")
        case "eml", _:
            response = Response(message_bytes(letter), mimetype="message/rfc822")
            response.headers.set("Content-Disposition", "attachment", filename=f"{file}.eml")
            return response
    abort(404)


def _html(text: str) -> Response:
    return Response(text, headers={"Content-Security-Policy": _MAIL_POLICY}, mimetype="text/html")


def _require_loopback() -> None:
    """Answer 404 unless both ends are this computer; a name from outside that resolves here does not count."""
    host = request.host.rpartition(":")[0] if request.host.rpartition(":")[2].isdigit() else request.host
    if not is_loopback(request.remote_addr) or not is_loopback(host) or request.headers.get("X-Forwarded-For"):
        abort(404)
    if wants_json(request):
        abort(406)
