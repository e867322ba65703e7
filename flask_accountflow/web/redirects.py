"""Where a visitor may be sent: our own pages, and the origins that the configuration names."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urlsplit

from flask import Response, make_response, redirect, request, url_for
from werkzeug.urls import iri_to_uri

from ..forms import TEXT_LIMIT
from ..settings import Settings
from .negotiation import is_fragment

# What browsers strip or read as a slash (WHATWG URL, basic parser), and what ends a header line.
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\x9f\\\u2028\u2029\ud800-\udfff]")

# What stands for itself in a path (RFC 3986 section 3.3), and in a query, which is not decoded before.
_IN_PATH = "/:@!$&'()*+,;=~"
_IN_QUERY = _IN_PATH + "?%"


def safe_next(value: str | None, settings: Settings) -> str | None:
    """Return the part of ``value`` that one may be sent to: a path here, or an address in TRUSTED_ORIGINS."""
    if not value or len(value) > TEXT_LIMIT or _UNSAFE.search(value):
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    if parts.scheme or parts.netloc:
        if _origin(value) not in own_origins(settings) or _UNSAFE.search(unquote(parts.netloc)):
            return None
    elif not _is_local_path(value):
        return None
    return quote(value, safe="/?#[]@!$&'()*+,;=:%-._~")


def _is_local_path(value: str) -> bool:
    """Tell whether a browser reads ``value`` as a path: one slash first, and no way back above it."""
    path = unquote(urlsplit(value).path)
    # Three slashes are an empty host to urlsplit, and the begin of a host to a browser.
    starts = value.startswith("/") and not value.startswith("//") and not path.startswith(("//", "/\\"))
    return starts and ".." not in path.split("/")


def own_origins(settings: Settings) -> set[str]:
    """Return the origins that count as ours: the configured ones, never one that the request names."""
    return {*settings.trusted_origins, *_base_origin(settings)}


def _base_origin(settings: Settings) -> set[str]:
    return set() if settings.base_url is None else {_origin(settings.base_url)}


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}".lower()


def destination(name: str, settings: Settings, next_page: str | None = None) -> str:
    """Return the address of an endpoint of ours, of ``after_login``, or of ``after_logout``."""
    if name == "after_login":
        return safe_next(next_page, settings) or rooted(settings.after_login)
    if name == "after_logout":
        return rooted(settings.after_logout) if settings.after_logout is not None else login_address(settings)
    return url_for(f"accountflow.{name}", next=safe_next(next_page, settings))


def send_on(address: str) -> Response:
    """Return an answer that takes the browser to another page.

    htmx would follow a redirect by itself and put the page into the fragment, so it gets an answer of its own.
    """
    if not is_fragment(request):
        return make_response(redirect(address, code=303))
    response = Response(status=204, headers={"HX-Redirect": iri_to_uri(address)})
    del response.headers["Content-Type"]  # of nothing
    response.vary.add("HX-Request")
    return response


def place(settings: Settings) -> str | None:
    """Return where to come back to after a login: the page that asks, as it can be opened again."""
    if is_fragment(request):
        return _page_around(settings)
    # What was posted is not posted again.
    return here() if request.method in {"GET", "HEAD"} else None


def _page_around(settings: Settings) -> str | None:
    """Return the path of the page that htmx asks from, if that is a page of this site."""
    value = request.headers.get("HX-Current-URL", "")
    try:
        parts, origin = urlsplit(value), _origin(value)
    except ValueError:
        return None
    if origin not in {_origin(request.host_url), *_base_origin(settings)}:
        return None
    return safe_next((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), settings)


def here() -> str:
    """Return the address of this request below its origin, as a browser writes it."""
    # Not full_path: that one is decoded, and raises for a query that is not UTF-8.
    path, query = request.script_root + request.path, request.query_string
    return quote(path, safe=_IN_PATH) + ("?" + quote(query, safe=_IN_QUERY) if query else "")


def asked(name: str) -> str | None:
    """Return a parameter of the address; None in a query that is not UTF-8, for which werkzeug raises."""
    try:
        return request.args.get(name)
    except UnicodeDecodeError:
        return None


def login_address(settings: Settings, next_page: str | None = None) -> str:
    """Return the address of the login page."""
    if not settings.login_url:
        return url_for("accountflow.login", next=next_page)
    address = rooted(settings.login_url)
    if next_page is None:
        return address
    return f"{address}{'&' if '?' in address else '?'}next={quote(next_page, safe='')}"


def rooted(address: str) -> str:
    """Return a configured path below the app's mount point, and a whole address as it is."""
    return request.script_root + address if address.startswith("/") else address
