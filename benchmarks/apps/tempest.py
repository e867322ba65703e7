"""Accounts by tempest-fastapi-sdk: its own router, service, settings and mail helper.

It is what its documentation calls mode A: an account is activated by a mailed link, nobody logs in before, and
clients carry bearer tokens. Every flow is a route of ``make_auth_router``. Of its two kinds of refresh tokens this
app has those in the database, which rotate, and which a new password ends; those without a model are only signed, and
live on. The budget of failed logins is on, as by default. The login page is that of ``make_auth_pages_router``, which
no version for Python before 3.12 has; the page itself asks the session store for nothing, so that in memory does here,
where an app in two processes takes that on Redis.

PostgreSQL, which it recommends for production, is reached by its database manager. On SQLite that opens every
transaction with a ``BEGIN`` that locks nothing yet; a sign-up then reads before it writes, and SQLite refuses it at
once ("database is locked") when somebody else has written meanwhile: of 100 sign-ups, two at a time, 70 were answered
500. So that SQLite can be compared at all, it gets sessions of SQLAlchemy here, in which a transaction begins with
the first write and waits for its turn.

As delivered it does not tell the owner of an account about a new password; the others here do, so its service sends
that notice by its own mail helper. ``BENCH_NO_NOTICE=1`` in the environment of the run leaves it out.

A mail is rendered and sent within the request, and by a sign-up within its transaction: on SQLite nobody else writes
until the mail server has answered. All hashes are computed in the event loop, and the template of a page is compiled
anew for every request. This is the system, not this app.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Mapped, mapped_column
from tempest_fastapi_sdk import (
    AsyncDatabaseManager,
    AuthSettings,
    BaseAppSettings,
    BaseUserModel,
    BaseUserRefreshTokenModel,
    BaseUserTokenModel,
    EmailSettings,
    EmailUtils,
    JWTSettings,
    MemorySessionStore,
    PasswordUtils,
    SessionAuth,
    SessionSettings,
    UserAuthService,
    make_auth_router,
    register_exception_handlers,
)

from benchmarks.adapters.base import conditions
from benchmarks.apps.sqlite_engine import tune

GIVEN = conditions()


class Settings(EmailSettings, JWTSettings, AuthSettings, SessionSettings, BaseAppSettings):
    """What the app sets; everything else is as by default."""


class User(BaseUserModel):
    """An account."""

    __tablename__ = "users"


class UserToken(BaseUserTokenModel):
    """A mailed link."""

    __tablename__ = "user_tokens"
    user_id: Mapped[UUID] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)


class UserRefreshToken(BaseUserRefreshTokenModel):
    """A refresh token."""

    __tablename__ = "user_refresh_tokens"
    user_id: Mapped[UUID] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)


class Service(UserAuthService):
    """The service, with a notice of a new password."""

    async def confirm_password_reset(
        self, session: AsyncSession, *, token: str, new_password: str, revoke_sessions: bool = True
    ) -> BaseUserModel:
        """Set the password, and tell the owner."""
        user = await super().confirm_password_reset(
            session, token=token, new_password=new_password, revoke_sessions=revoke_sessions
        )
        if self.email is not None and not os.environ.get("BENCH_NO_NOTICE"):
            text = "The password of your account was changed. If it was not you, ask for a new one."
            await self.email.send(user.email, "Your password was changed", text, html=f"<p>{text}</p>")
        return user


Sessions = Callable[[], AsyncIterator[AsyncSession]]


def sqlite_sessions(url: sa.URL) -> Sessions:
    """Return what yields the session of a request; SQLite gets a write-ahead log, and its writers wait in turn."""
    engine = create_async_engine(url.set(drivername="sqlite+aiosqlite"), pool_size=10, max_overflow=20)
    new_session = async_sessionmaker(engine, expire_on_commit=False)

    tune(engine.sync_engine)

    async def sessions() -> AsyncIterator[AsyncSession]:
        async with new_session() as session:
            yield session

    return sessions


settings = Settings(
    JWT_SECRET="0123456789abcdef0123456789abcdef",
    SMTP_HOST="127.0.0.1",
    SMTP_PORT=GIVEN.smtp_port,
    SMTP_USE_TLS=False,
    SMTP_FROM_ADDR="accounts@example.com",
    AUTH_DEFAULT_LOCALE="en-US",
    AUTH_ACTIVATION_URL_TEMPLATE=f"{GIVEN.base_url}/activate?token={{token}}",
    AUTH_PASSWORD_RESET_URL_TEMPLATE=f"{GIVEN.base_url}/reset?token={{token}}",
)
url = sa.make_url(GIVEN.database)
is_sqlite = url.get_backend_name() == "sqlite"
driver = "sqlite+aiosqlite" if is_sqlite else "postgresql+asyncpg"
db = AsyncDatabaseManager(url.set(drivername=driver).render_as_string(hide_password=False))
get_session = sqlite_sessions(url) if is_sqlite else db.session_dependency
passwords = PasswordUtils(rounds=GIVEN.rounds)
service = Service(
    db=db,
    user_model=User,
    token_model=UserToken,
    refresh_token_model=UserRefreshToken,
    auth_settings=settings,
    jwt_settings=settings,
    email=EmailUtils(**settings.email_kwargs()),
    passwords=passwords,
)
sessions = SessionAuth(user_model=User, store=MemorySessionStore(), settings=settings, passwords=passwords)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Keep the pool of connections while the app runs."""
    await db.connect()
    yield
    await db.disconnect()


app = FastAPI(lifespan=lifespan)
register_exception_handlers(app)
app.include_router(make_auth_router(service, session_factory=get_session))
if sys.version_info >= (3, 12):
    from tempest_fastapi_sdk import make_auth_pages_router

    app.include_router(make_auth_pages_router(service, get_session, session_auth=sessions))


async def main() -> None:
    """Make the tables."""
    await db.create_tables()
    await db.disconnect()


if __name__ == "__main__":
    asyncio.run(main())
