"""From a cookie or a bearer token to ``current_user``, and from a login to the cookie."""

from __future__ import annotations

import logging
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from flask import Flask, Response, after_this_request, current_app, has_request_context, request, session
from werkzeug.local import LocalProxy

from .access_tokens import AccessClaims
from .errors import InvalidToken
from .flow import Services, SignIn
from .redeem import address_of
from .rules import DAY
from .store.accounts import Account
from .store.sessions import API, BROWSER, Login
from .tokens import Devices

T = TypeVar("T")

_log = logging.getLogger("accountflow.sessions")

#: Our keys in Flask's session. Before a login it may hold what the visitor typed himself.
SID, CSRF, NONCE, EMAIL = "_accountflow_sid", "_accountflow_csrf", "_accountflow_nonce", "_accountflow_email"
#: The link that stands on the next page where nothing is mailed (ACCOUNTFLOW_RETURN_TOKEN_IN_RESPONSE).
LINK = "_accountflow_link"
#: Whose link was used, for the next page; it may be another account than the one that is logged in here.
OWNER = "_accountflow_owner"

#: Whether that address was only asked about: nobody may then be told that a mail has gone to it.
ASKED = "_accountflow_asked"
#: What was just done, for the account page.
DONE = "_accountflow_done"

_CACHE, _MEMBER = "accountflow.current", "accountflow.member"
_CLAIMS = "accountflow.claims"

#: ``last_seen_at`` is written when it is older than this, in seconds, or than a tenth of the idle limit.
_TOUCH_AFTER = 300


class Anonymous:
    """Nobody: what ``current_user`` is without a login. It is falsy."""

    id = None
    email = None
    is_authenticated = False
    is_anonymous = True
    is_active = False
    is_admin = False
    email_verified = False

    def __bool__(self) -> bool:
        return False

    def get_id(self) -> None:
        """Return None: nobody has no key."""


@dataclass(frozen=True)
class Current:
    """Who this request is from, by which login."""

    user: Any
    login: Login
    #: The user's language. The entity may have to ask the database again for its own.
    locale: str | None


@dataclass(frozen=True)
class Member:
    """Who this request is from, without the app's entity."""

    account: Account
    login: Login

    @property
    def locale(self) -> str | None:
        """The member's language."""
        return self.account.locale


def services() -> Services:
    """Return the services of the current app."""
    return cast(Services, current_app.extensions["accountflow"])


def current() -> Current | None:
    """Return who this request is from, looked up once. One statement, and none for a stranger."""
    if not has_request_context():
        return None
    # Not on flask.g: an app context pushed around several requests of a test would share it.
    environ = request.environ
    if _CACHE not in environ:
        is_nobody = environ.get(_MEMBER, ...) is None
        environ[_CACHE] = None if is_nobody else _current()
    return cast("Current | None", environ[_CACHE])


def member() -> Member | None:
    """Return who this request is from, for routes that need no entity: to load one takes a third of the look-up."""
    environ = request.environ
    if _MEMBER not in environ:
        environ[_MEMBER] = _member_of(current()) if _CACHE in environ else _member()
    return cast("Member | None", environ[_MEMBER])


def known() -> Current | Member | None:
    """Return who this request is from if that has been looked up already; nothing is looked up."""
    environ = request.environ
    return cast("Current | Member | None", environ.get(_CACHE) or environ.get(_MEMBER))


def _be_nobody() -> None:
    request.environ[_CACHE] = request.environ[_MEMBER] = None


def _current_user() -> Any:
    found = current()
    return Anonymous() if found is None else found.user


#: The app's user who is logged in, or a falsy :class:`Anonymous`.
current_user: Any = LocalProxy(_current_user)


def shown_login() -> tuple[str, uuid.UUID, str | None] | None:
    """Return kind, id and user id of the login that the request shows; nothing is looked up.

    An ``Authorization`` header with a bearer token counts alone; the cookie is ignored beside it.
    """
    token = bearer_token()
    if token is not None:
        claims = _claims(token)
        return None if claims is None else (API, claims.session_id, claims.user_id)
    login_id = _cookie_login()
    return None if login_id is None else (BROWSER, login_id, None)


def _claims(token: str) -> AccessClaims | None:
    """Return what a bearer token says, read once: to check a signature is a tenth of a small request."""
    environ = request.environ
    if _CLAIMS not in environ:
        tools = services()
        try:
            environ[_CLAIMS] = tools.access_tokens.read(token, tools.clock())
        except InvalidToken:
            environ[_CLAIMS] = None
    return cast("AccessClaims | None", environ[_CLAIMS])


def _cookie_login() -> uuid.UUID | None:
    try:
        return uuid.UUID(hex=session[SID])
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def bearer_token() -> str | None:
    """Return the token in the ``Authorization`` header (RFC 6750 section 2.1); "" for a header without one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _current() -> Current | None:
    found = _find(services().store.sessions.load)
    return None if found is None else Current(*found, locale=getattr(found[0], "locale", None))


def _member() -> Member | None:
    found = _find(services().store.sessions.member)
    return None if found is None else Member(*found)


def _member_of(found: Current | None) -> Member | None:
    return None if found is None else Member(services().store.accounts.from_entity(found.user), found.login)


def _find(look_up: Callable[[uuid.UUID], tuple[T, Login] | None]) -> tuple[T, Login] | None:
    """Return what ``look_up`` finds by the login that the request shows, while it lives."""
    shown = shown_login()
    if shown is None:
        return None
    kind, login_id, user_id = shown
    tools = services()
    found = tools.store.units.read(lambda: look_up(login_id))
    if found is None:
        return None
    login, now = found[1], tools.clock()
    if login.kind != kind or not login.is_alive(now) or (user_id is not None and user_id != str(login.user_id)):
        return None
    if login.is_idle(now, timedelta(seconds=tools.settings.session_idle_max_age)):
        return None
    _touch_later(tools, login, now)
    return found


def _touch_later(tools: Services, login: Login, now: datetime) -> None:
    """Note the use of the login after the response, when the host's transaction is over."""
    before = now - timedelta(seconds=min(_TOUCH_AFTER, tools.settings.session_idle_max_age // 10))
    if login.last_seen_at >= before:
        return

    def touch() -> None:
        try:
            tools.store.sessions.touch(login.id, now, before)
        except Exception:
            _log.warning("last_seen_at was not written", exc_info=True)

    @after_this_request
    def arrange(response: Response) -> Response:
        response.call_on_close(touch)
        return response


def begin(sign_in: SignIn) -> None:
    """Log this browser in. The host's own keys (a cart) stay, unless they are another account's."""
    if not _is_own(sign_in):
        session.clear()
    for key in (SID, CSRF, NONCE, EMAIL, ASKED, LINK, OWNER):
        session.pop(key, None)
    session[SID] = sign_in.login.id.hex
    session.permanent = sign_in.login.remember
    csrf_seed()
    _renumber()
    for name in (_CACHE, _MEMBER):
        request.environ.pop(name, None)
    _know_again(sign_in)


def _renumber() -> None:
    """Give a session that the app keeps on the server another number: somebody may have planted the present one."""
    renumber = getattr(current_app.session_interface, "regenerate", None)  # Flask-Session 0.6 and later
    if renumber is not None:
        renumber(session)


def cookie_prefix(app: Flask) -> str:
    """Return how the name of a cookie may begin that is sent as the session cookie of ``app`` is.

    Browsers take ``__Host-`` from this host alone and ``__Secure-`` over https alone, and drop a cookie that has
    such a name and the wrong attributes (RFC 6265bis section 4.1.3).
    """
    cookies = app.session_interface
    if not cookies.get_cookie_secure(app):
        return ""
    is_for_host = cookies.get_cookie_path(app) == "/" and not cookies.get_cookie_domain(app)
    return "__Host-" if is_for_host else "__Secure-"


def _device_cookie(app: Flask) -> str:
    return f"{cookie_prefix(app)}accountflow_device"


def device() -> str | None:
    """Return what the cookie says by which a browser is known that has logged in before."""
    return request.cookies.get(_device_cookie(current_app))


def _know_again(sign_in: SignIn) -> None:
    """Let this browser be known by its next login, so that it need not share its tries with strangers."""
    tools = services()
    token = tools.devices.make(address_of(sign_in.account).key, tools.clock())

    @after_this_request
    def keep(response: Response) -> Response:
        # As the app's session cookie is: where it is sent, and over what.
        app = current_app._get_current_object()  # type: ignore[attr-defined]  # the interface wants the app itself
        cookies = app.session_interface
        response.set_cookie(
            _device_cookie(app),
            token,
            max_age=Devices.MAX_AGE_DAYS * DAY,
            path=cookies.get_cookie_path(app),
            domain=cookies.get_cookie_domain(app),
            secure=cookies.get_cookie_secure(app),
            httponly=True,
            samesite="Lax",
        )
        return response


def _is_own(sign_in: SignIn) -> bool:
    """Tell whether nobody else was logged in here, be it that their login is over."""
    login_id = _cookie_login()  # whatever bearer token is sent beside it
    if login_id is None:
        return True
    tools = services()
    found = tools.store.units.read(lambda: tools.store.sessions.find(login_id))
    return found is not None and found[0].user_id == sign_in.login.user_id


def end() -> None:
    """Log this browser out: whatever its cookie held is gone, the host's keys too."""
    session.clear()
    _be_nobody()


def forget() -> None:
    """Let the rest of this request be nobody's."""
    _be_nobody()


def csrf_seed() -> str:
    """Return the secret that this browser's forms carry; a new one after login and logout."""
    if not isinstance(session.get(CSRF), str):
        session[CSRF] = secrets.token_hex(16)
    return str(session[CSRF])


def nonce() -> str:
    """Return the secret by which a link knows the browser that asked for it."""
    if not isinstance(session.get(NONCE), str):
        session[NONCE] = secrets.token_hex(16)
    return str(session[NONCE])
