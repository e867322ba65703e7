"""Bare Flask views that run the SQL of our flows through Flask-SQLAlchemy, and nothing else.

The same statements, savepoints and, on SQLite, the write lock; the same hashes; no forms, no addresses, no signatures,
no limits, no mail: what accounts cost at least. Statements are built once, as a careful author would. The app around
them is the example app's: it has a secret, so that Flask opens its session for each request, and the same middleware.
"""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import bcrypt
import sqlalchemy as sa
from flask import Flask, request
from werkzeug.middleware.proxy_fix import ProxyFix

from example_app.models import User, accounts, db

ROUNDS = 4
_T = accounts.tables
user, token, mail, login = _T.user, _T.token, _T.mail, _T.session


def _given(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(name)


_KEY, _NOW, _LINK = _given("key"), _given("now"), _given("link")
_SINCE, _LOGIN = _given("since"), _given("login")
_STAMP, _OWNER = _given("present"), _given("owner")
_PURPOSE, _KIND = _given("purpose"), _given("template")
_other, _rival = token.alias(), token.alias()
_OF_ACCOUNT = (
    "id email email_key password_hash email_verified_at is_active is_admin stamp locale last_login_at created_at"
)
_ACCOUNT = [user.c[name].label(f"account_{name}") for name in _OF_ACCOUNT.split()]
_HOLDS_LINK = sa.exists().where(
    token.c.user_id == user.c.id,
    token.c.purpose == _PURPOSE,
    token.c.stamp == user.c.stamp,
    token.c.used_at.is_(None),
    token.c.expires_at > _NOW,
    ~sa.exists().where(mail.c.token_id == token.c.id, mail.c.state == "failed").correlate(token),
)
_WITH_LINK = sa.select(*_ACCOUNT, _HOLDS_LINK.label("holds_link")).where(user.c.email_key == _KEY)
_CAPS = sa.select(
    sa.select(sa.func.max(mail.c.slot)).where(mail.c.to_key == _KEY, mail.c.template == _KIND).scalar_subquery(),
    *(sa.func.count(sa.case((mail.c.created_at > sa.bindparam(f"after{n}"), 1))) for n in range(3)),
).where(mail.c.to_key == _KEY, mail.c.template == _KIND, mail.c.created_at > _SINCE, mail.c.created_at < _NOW)
_NOTHING = sa.delete(mail).where(sa.false())
_ADD_MAIL, _ADD_TOKEN, _ADD_LOGIN = sa.insert(mail), sa.insert(token), sa.insert(login)
_RIVALS = (
    sa.select(sa.func.count())
    .select_from(_rival)
    .where(_rival.c.email_key == token.c.email_key, _rival.c.id != token.c.id, _rival.c.created_at > _SINCE)
    .where(_rival.c.purpose == "signup", sa.or_(_rival.c.outcome.is_(None), _rival.c.outcome == "spent"))
    .scalar_subquery()
)
_BY_LINK = (
    sa.select(token, *_ACCOUNT, _RIVALS.label("rivals"))
    .select_from(token.outerjoin(user, token.c.user_id == user.c.id))
    .where(token.c.id == _LINK)
)
_USE = (
    sa.update(token)
    .where(token.c.id == _LINK, token.c.used_at.is_(None), token.c.expires_at > _NOW)
    .values(used_at=_NOW, outcome="done")
)
_OF_STAMP = (user.c.id == _OWNER, user.c.stamp == _STAMP)
_CONFIRM = (
    sa.update(user)
    .where(*_OF_STAMP)
    .values(
        name=sa.bindparam("to_name"),
        password_hash=sa.bindparam("to_hash"),
        email_verified_at=_NOW,
        stamp=sa.bindparam("to_stamp"),
        password_changed_at=_NOW,
    )
)
_RESET = (
    sa.update(user)
    .where(*_OF_STAMP)
    .values(
        password_hash=sa.bindparam("to_hash"),
        stamp=sa.bindparam("to_stamp"),
        last_login_at=_NOW,
        password_changed_at=_NOW,
    )
)
_newest = (
    sa.select(_other.c.id)
    .where(_other.c.email_key == _KEY, _other.c.purpose == "signup", _other.c.created_at > _SINCE)
    .where(sa.or_(_other.c.outcome.is_(None), _other.c.outcome == "spent"))
    .order_by(_other.c.created_at.desc(), _other.c.id.desc())
    .limit(1)
    .scalar_subquery()
)
_since = sa.select(_SINCE.label("since")).subquery()
_TO_LOG_IN = sa.select(*_ACCOUNT, token.c.id.label("attempt_id"), token.c.payload.label("attempt_payload")).select_from(
    _since.outerjoin(user, user.c.email_key == _KEY).outerjoin(
        token, sa.and_(token.c.id == _newest, token.c.created_at > _since.c.since)
    )
)
_NOTE = sa.update(user).where(*_OF_STAMP).values(last_login_at=_NOW)
_OF_LOGIN = "id user_id kind stamp generation rotated_at remember created_at last_seen_at authenticated_at expires_at"
_OF_LOGIN += " revoked_at"
_LABELLED = [login.c[name].label(f"login_{name}") for name in _OF_LOGIN.split()]
_ME = sa.select(User, *_LABELLED).join(login, user.c.id == login.c.user_id).where(login.c.id == _LOGIN)
_FIND = (
    sa.select(*_LABELLED, *_ACCOUNT)
    .select_from(login.join(user, user.c.id == login.c.user_id))
    .where(login.c.id == _LOGIN)
)
_ROTATE = (
    sa.update(login)
    .where(login.c.id == _LOGIN, login.c.revoked_at.is_(None), login.c.expires_at > _NOW)
    .where(login.c.generation == sa.bindparam("known"))
    .values(generation=login.c.generation + 1, rotated_at=_NOW, last_seen_at=_NOW)
)


def _hash(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS)).decode()


def _now() -> datetime:
    return datetime.now(timezone.utc).replace(tzinfo=None)


def _lock() -> None:
    if db.engine.dialect.name == "sqlite":
        db.session.execute(_NOTHING)


def _ask(email: str, now: datetime, purpose: str) -> Any:
    return db.session.execute(_WITH_LINK, {"key": email, "now": now, "purpose": purpose}).first()


def _queue(account: Any, link: uuid.UUID, email: str, now: datetime, purpose: str, payload: Any) -> None:
    """Count the mails of this kind, and add one with its link."""
    key = secrets.token_hex(32)
    after = {f"after{n}": now - timedelta(hours=n) for n in range(3)}
    db.session.execute(
        _CAPS, {"key": key, "template": purpose, "since": now - timedelta(days=1), "now": now, **after}
    ).first()
    expires = now + timedelta(days=1)
    with db.session.begin_nested():
        _add_mail(account, link, email, key, now, purpose)
    db.session.execute(
        _ADD_TOKEN,
        {"id": link, "user_id": account.account_id, "email_key": email, "purpose": purpose, "sent_to": email}
        | {"payload": payload, "stamp": account.account_stamp, "created_at": now, "expires_at": expires}
        | {"used_at": None, "outcome": None},
    )


def _add_mail(account: Any, link: uuid.UUID | None, email: str, key: str, now: datetime, template: str) -> None:
    db.session.execute(
        _ADD_MAIL,
        {"user_id": account.account_id, "token_id": link, "template": template, "to_addr": email, "to_key": key}
        | {"slot": None, "locale": None, "context": {}, "state": "pending", "attempts": 0, "last_error": None}
        | {"message_id": f"{secrets.token_hex(16)}@example.com", "created_at": now, "next_attempt_at": now}
        | {"expires_at": now + timedelta(days=1)},
    )


def _open(account: Any, now: datetime) -> uuid.UUID:
    session_id = uuid.UUID(bytes=secrets.token_bytes(16))
    db.session.execute(
        _ADD_LOGIN,
        {"id": session_id, "user_id": account.account_id, "kind": "api", "stamp": account.account_stamp}
        | {"generation": 0, "rotated_at": None, "remember": False, "created_at": now, "last_seen_at": now}
        | {"authenticated_at": now, "expires_at": now + timedelta(days=30), "revoked_at": None}
        | {"ip": request.remote_addr, "user_agent": None},
    )
    return session_id


def _said(account: Any) -> dict[str, Any]:
    return {"id": str(account.account_id), "email": account.account_email}


def signup() -> Any:
    """Hash the password, add an account, its mail and its link."""
    given, now = request.get_json(), _now()
    email, payload = given["email"].lower(), {"password_hash": _hash(given["password"])}
    link = uuid.UUID(bytes=secrets.token_bytes(16))
    _lock()
    account = _ask(email, now, "signup")
    if account is None:
        person = User(email=email, email_key=email, created_at=now)
        with db.session.begin_nested():
            db.session.add(person)
        account = _Known(person.id, person.stamp)
    _queue(account, link, email, now, "signup", payload)
    db.session.commit()
    return {"status": "accepted", "link": link.hex}, 202


class _Known:
    def __init__(self, account_id: Any, account_stamp: Any) -> None:
        self.account_id, self.account_stamp = account_id, account_stamp


def verify() -> Any:
    """Use the link, and confirm the account."""
    link, now = uuid.UUID(request.get_json()["token"]), _now()
    row: Any = db.session.execute(_BY_LINK, {"link": link, "since": now - timedelta(days=7)}).first()
    db.session.commit()
    _lock()
    db.session.execute(_USE, {"link": link, "now": now})
    stamp = uuid.UUID(bytes=secrets.token_bytes(16))
    db.session.execute(
        _CONFIRM,
        {"owner": row.account_id, "present": row.account_stamp, "now": now, "to_stamp": stamp, "to_name": None}
        | {"to_hash": row.payload["password_hash"]},
    )
    db.session.commit()
    return {"status": "verified"}


def log_in() -> Any:
    """Check the password, note the login, and open a session."""
    given, now = request.get_json(), _now()
    asked = {"key": given["email"].lower(), "since": now - timedelta(days=7)}
    account: Any = db.session.execute(_TO_LOG_IN, asked).first()
    db.session.commit()
    is_right = bcrypt.checkpw(given["password"].encode(), account.account_password_hash.encode())
    if not is_right:
        return {"status": "refused"}, 401
    _lock()
    db.session.execute(_NOTE, {"owner": account.account_id, "present": account.account_stamp, "now": now})
    session_id = _open(account, now)
    db.session.commit()
    return {"user": _said(account), "access_token": session_id.hex}


def me() -> Any:
    """Say who is logged in."""
    asked = {"login": uuid.UUID(request.headers["Authorization"].partition(" ")[2])}
    person = db.session.execute(_ME, asked).one()[0]
    return {"id": str(person.id), "email": person.email}


def refresh() -> Any:
    """Step to the next generation of a session."""
    asked, now = {"login": uuid.UUID(request.get_json()["refresh_token"])}, _now()
    row: Any = db.session.execute(_FIND, asked).first()
    db.session.commit()
    _lock()
    db.session.execute(_ROTATE, {**asked, "now": now, "known": row.login_generation})
    db.session.commit()
    return {"user": _said(row), "access_token": row.login_id.hex}


def reset_request() -> Any:
    """Add a mail and its link."""
    email, now = request.get_json()["email"].lower(), _now()
    link = uuid.UUID(bytes=secrets.token_bytes(16))
    _lock()
    _queue(_ask(email, now, "reset"), link, email, now, "reset", None)
    db.session.commit()
    return {"status": "accepted", "link": link.hex}, 202


def reset() -> Any:
    """Use the link, set the password, add the notice, and open a session."""
    given, now = request.get_json(), _now()
    link = uuid.UUID(given["token"])
    row: Any = db.session.execute(_BY_LINK, {"link": link, "since": now - timedelta(days=7)}).first()
    db.session.commit()
    hashed = _hash(given["password"])
    _lock()
    db.session.execute(_USE, {"link": link, "now": now})
    stamp = uuid.UUID(bytes=secrets.token_bytes(16))
    db.session.execute(
        _RESET,
        {"owner": row.account_id, "present": row.account_stamp, "now": now, "to_stamp": stamp, "to_hash": hashed},
    )
    _add_mail(row, None, row.account_email, secrets.token_hex(32), now, "password_changed")
    session_id = _open(row, now)
    db.session.commit()
    return {"user": _said(row), "access_token": session_id.hex}


def empty() -> Any:
    """Answer nothing in JSON."""
    return {"status": "refused"}, 400


def create_app(uri: str) -> Flask:
    """Return the app, on a database that has the tables."""
    app = Flask(__name__)
    app.config.update(SQLALCHEMY_DATABASE_URI=uri, SECRET_KEY="0123456789abcdef0123456789abcdef")
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=0, x_proto=0)  # type: ignore[method-assign]
    db.init_app(app)
    for path, view in {
        "/auth/signup": signup,
        "/auth/verify": verify,
        "/auth/login": log_in,
        "/auth/refresh": refresh,
        "/auth/password-reset/request": reset_request,
        "/auth/password-reset/confirm": reset,
        "/forged": empty,
    }.items():
        app.add_url_rule(path, view_func=view, methods=["POST"])
    app.add_url_rule("/auth/me", view_func=me)
    return app
