"""Accounts by fastapi-users, as the full example of its documentation has them: SQLAlchemy and bearer tokens.

Tokens are rows (``DatabaseStrategy``), so that a logout ends a login, as in the other systems. The first example of the
documentation has JWTs, which nothing ends before their time: ``BENCH_FASTAPI_USERS_STRATEGY=jwt`` shows what that
spares.

What the example leaves to the app is filled in as the guides do it. A sign-up asks for the mail to verify the address
in ``on_after_register``, and a login before that is refused (``requires_verification``). The hooks send their mails
with aiosmtplib and wait, so a request is answered when the mail server has the mail; as in the other apps a mail has a
text and an HTML part, by templates of Jinja, and a new password is told to its owner. Passwords are hashed by bcrypt
of the given cost, in place of argon2, with a ``PasswordHelper`` as the documentation describes.

The link to reset a password carries a hash of the old hash, of the same cost: a reset request computes one hash, and
a reset two. All of them are computed in the event loop, where nothing else runs meanwhile. This is the system, not
this app; so is that a token outlives a new password.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from email.message import EmailMessage
from typing import Annotated

import aiosmtplib
import sqlalchemy as sa
from fastapi import Depends, FastAPI, Request
from fastapi_users import BaseUserManager, FastAPIUsers, InvalidPasswordException, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.authentication.strategy.db import AccessTokenDatabase, DatabaseStrategy
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from fastapi_users.password import PasswordHelper
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyAccessTokenDatabase, SQLAlchemyBaseAccessTokenTableUUID
from jinja2 import Template
from pwdlib import PasswordHash
from pwdlib.hashers.bcrypt import BcryptHasher
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from benchmarks.adapters.base import conditions
from benchmarks.apps.sqlite_engine import tune

GIVEN = conditions()
SECRET = "0123456789abcdef0123456789abcdef"


class Base(DeclarativeBase):
    """The tables of this app."""


class User(SQLAlchemyBaseUserTableUUID, Base):
    """An account."""


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
    """A login. The mixin expects the users in a table of the name "user"."""


class UserRead(schemas.BaseUser[uuid.UUID]):
    """What is shown of an account."""


class UserCreate(schemas.BaseUserCreate):
    """What is needed to sign up."""


class UserUpdate(schemas.BaseUserUpdate):
    """What people may change."""


def make_engine() -> AsyncEngine:
    """Return an engine with a pool; SQLite gets a write-ahead log, and waits for other writers."""
    url = sa.make_url(GIVEN.database)
    driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}[url.get_backend_name()]
    engine = create_async_engine(url.set(drivername=driver), pool_size=10, max_overflow=20)
    tune(engine.sync_engine)
    return engine


engine = make_engine()
new_session = async_sessionmaker(engine, expire_on_commit=False)
passwords = PasswordHelper(PasswordHash((BcryptHasher(rounds=GIVEN.rounds),)))


TEXT = Template("Hello,\n\n{{ sentence }}\n{% if link %}\n{{ link }}\n{% endif %}\nYour team\n")
HTML = Template(
    """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{{ subject }}</title></head>
<body style="margin:0;background:#f4f4f5;font-family:sans-serif"><table role="presentation" width="100%"><tr><td
align="center"><table role="presentation" width="560" style="background:#fff"><tr><td style="padding:24px"><p>Hello,</p>
<p>{{ sentence }}</p>{% if link %}<p><a href="{{ link }}" style="padding:12px 20px;background:#1d4ed8;color:#fff">{{
subject }}</a></p>{% endif %}<p>Your team</p></td></tr></table></td></tr></table></body></html>
""",
    autoescape=True,
)


async def send(to: str, subject: str, sentence: str, link: str | None = None) -> None:
    """Send a mail as text and as HTML, and wait until the mail server has it."""
    message = EmailMessage()
    message["From"] = "accounts@example.com"
    message["To"] = to
    message["Subject"] = subject
    words = {"subject": subject, "sentence": sentence, "link": link}
    message.set_content(TEXT.render(words))
    message.add_alternative(HTML.render(words), subtype="html")
    await aiosmtplib.send(message, hostname="127.0.0.1", port=GIVEN.smtp_port, start_tls=False)


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """What happens to accounts."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET

    async def validate_password(self, password: str, user: UserCreate | User) -> None:
        """Refuse what is too short, or longer than bcrypt takes."""
        if not 8 <= len(password.encode()) <= 72:
            raise InvalidPasswordException("A password has between 8 and 72 bytes.")

    async def on_after_register(self, user: User, request: Request | None = None) -> None:
        """Ask for the mail to verify the address."""
        await self.request_verify(user, request)

    async def on_after_request_verify(self, user: User, token: str, request: Request | None = None) -> None:
        """Send the mail to verify the address."""
        link = f"{GIVEN.base_url}/verify?token={token}"
        await send(user.email, "Confirm your address", "Please open this link to confirm your address.", link)

    async def on_after_forgot_password(self, user: User, token: str, request: Request | None = None) -> None:
        """Send the mail to reset the password."""
        link = f"{GIVEN.base_url}/reset?token={token}"
        await send(user.email, "Reset your password", "Please open this link to choose a new password.", link)

    async def on_after_reset_password(self, user: User, request: Request | None = None) -> None:
        """Tell the owner by mail."""
        await send(user.email, "Your password has changed", "The password of your account has been set anew.")


async def get_session() -> AsyncIterator[AsyncSession]:
    """Yield the session of a request."""
    async with new_session() as session:
        yield session


async def get_user_db(session: Annotated[AsyncSession, Depends(get_session)]) -> AsyncIterator[SQLAlchemyUserDatabase]:
    """Yield the accounts as a request sees them."""
    yield SQLAlchemyUserDatabase(session, User)


async def get_user_manager(
    users: Annotated[SQLAlchemyUserDatabase, Depends(get_user_db)],
) -> AsyncIterator[UserManager]:
    """Yield what a request manages accounts with."""
    yield UserManager(users, passwords)


async def get_tokens(session: Annotated[AsyncSession, Depends(get_session)]) -> AsyncIterator[AccessTokenDatabase]:
    """Yield the logins as a request sees them."""
    yield SQLAlchemyAccessTokenDatabase(session, AccessToken)


def get_rows(tokens: Annotated[AccessTokenDatabase, Depends(get_tokens)]) -> DatabaseStrategy:
    """Return how tokens are kept."""
    return DatabaseStrategy(tokens, lifetime_seconds=3600)


def get_signatures() -> JWTStrategy:
    """Return how tokens are signed."""
    return JWTStrategy(secret=SECRET, lifetime_seconds=3600)


strategy = get_signatures if os.environ.get("BENCH_FASTAPI_USERS_STRATEGY") == "jwt" else get_rows
backend = AuthenticationBackend("bearer", BearerTransport(tokenUrl="auth/login"), strategy)
accounts = FastAPIUsers[User, uuid.UUID](get_user_manager, [backend])

app = FastAPI()
app.include_router(accounts.get_auth_router(backend, requires_verification=True), prefix="/auth")
app.include_router(accounts.get_register_router(UserRead, UserCreate), prefix="/auth")
app.include_router(accounts.get_reset_password_router(), prefix="/auth")
app.include_router(accounts.get_verify_router(UserRead), prefix="/auth")
app.include_router(accounts.get_users_router(UserRead, UserUpdate, requires_verification=True), prefix="/users")


async def main() -> None:
    """Make the tables."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
