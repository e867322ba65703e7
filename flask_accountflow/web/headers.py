"""The headers of every answer under the prefix."""

from __future__ import annotations

from flask import Response, current_app, g, request

from ..settings import Settings

#: Everything that our pages load comes from here, as files; nothing stands inline.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "form-action 'self'{origins}; base-uri 'none'; frame-ancestors 'none'"
)
#: A year, in seconds: what hstspreload.org asks for at least.
_HSTS = "max-age=31536000"
#: What is public is kept for this long, in seconds; PyJWT's client keeps keys as long by itself.
_PUBLIC_AGE = 300


def nonce() -> str | None:
    """Return the nonce of the app's own policy: what Flask-Talisman gives templates, or ``g.csp_nonce``.

    Our policy has none. One of the app's may let nothing else run, be it from here.
    """
    given = current_app.jinja_env.globals.get("csp_nonce")
    return (given() if callable(given) else g.get("csp_nonce")) or None


def publish(response: Response) -> Response:
    """Let caches keep an answer that is the same for everybody.

    Not for a caller with cookies: Flask may renew the session cookie with any answer, and a cache would hand
    it to others.
    """
    if not request.cookies:
        response.headers["Cache-Control"] = f"public, max-age={_PUBLIC_AGE}"
    return response


def protect(response: Response, settings: Settings) -> Response:
    """Add what keeps an answer private, unless it was published, and a page safe; what the host has set stays."""
    headers = response.headers
    is_public = "Cache-Control" in headers and response.cache_control.public
    varies = ("Accept",) if is_public else ("Accept", "Cookie")
    if "Vary" in headers:
        response.vary.update(varies)
    else:
        headers["Vary"] = ", ".join(varies)
    if not is_public:
        headers["Cache-Control"] = "no-store"
    headers.setdefault("X-Content-Type-Options", "nosniff")
    if settings.hsts and request.is_secure:
        headers.setdefault("Strict-Transport-Security", _HSTS)
    if settings.security_headers and response.mimetype == "text/html":
        # form-action also governs the redirect after the post, so that ?next= needs its origin here.
        origins = "".join(f" {origin}" for origin in settings.trusted_origins)
        headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY.format(origins=origins))
        headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
        # Not no-referrer: browsers would send "Origin: null" with the form, which a host's own check refuses.
        has_token = "token" in (request.view_args or {})
        headers.setdefault("Referrer-Policy", "strict-origin" if has_token else "same-origin")
    return response
