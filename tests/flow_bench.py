"""Flows without Flask: services on a SQLite file, with a clock that is told the time and a cheap hash."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker
from wtforms import BooleanField, DateField, DecimalField, IntegerField, StringField
from wtforms.validators import Optional

from flask_accountflow import models, store
from flask_accountflow.access_tokens import AccessTokens, derived_keys
from flask_accountflow.errors import Refusal
from flask_accountflow.flow import Outcome, Services, Visit
from flask_accountflow.flows import (
    admin,
    change_email,
    change_password,
    fresh,
    login,
    logout,
    refresh,
    reset,
    sessions,
    signup,
    verify,
)
from flask_accountflow.forms import (
    AccountForm,
    AskForm,
    CreateUserForm,
    DeviceForm,
    EmailChangeForm,
    FreshForm,
    LinkForm,
    LoginForm,
    LogoutForm,
    PasswordChangeForm,
    RefreshForm,
    ResetForm,
    SignupForm,
    VerifyForm,
    check,
    from_json,
)
from flask_accountflow.link_addresses import LinkAddresses
from flask_accountflow.models import UserMixin
from flask_accountflow.passwords import BcryptHasher, PasswordPolicy
from flask_accountflow.settings import Settings
from flask_accountflow.store.sessions import API, Login
from flask_accountflow.throttle import NoThrottle
from flask_accountflow.tokens import Devices, Links, RefreshTokens, derive

START = datetime.datetime(2026, 11, 21, 8, 30, 0, tzinfo=datetime.timezone.utc)
SECRET = "0123456789abcdef0123456789abcdef"

EMAIL = "vic@example.com"
PASSWORD = "correct horse battery"
OTHER_PASSWORD = "another horse battery"

#: The browser of the mailbox's owner, another one that he opens a mail in, a stranger's, and a program.
OWNER = Visit(ip="192.0.2.1", network="192.0.2.1", user_agent="Owner/1.0", nonce="nonce-of-the-owner")
DEVICE = Visit(ip="192.0.2.2", network="192.0.2.2")
STRANGER = Visit(ip="198.51.100.9", network="198.51.100.9", nonce="nonce-of-the-stranger")
PROGRAM = Visit(ip="192.0.2.3", network="192.0.2.3", kind=API)


class Base(DeclarativeBase):
    """The app's models."""


class User(UserMixin, Base):
    """An account of an app that asks for more at sign-up."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(sa.String(64))
    age: Mapped[int | None]
    born: Mapped[datetime.date | None]
    funds: Mapped[Decimal | None] = mapped_column(sa.Numeric(10, 2))
    newsletter: Mapped[bool] = mapped_column(insert_default=True)


class HostForm(SignupForm):
    """The app's sign-up form."""

    name = StringField()
    age = IntegerField(validators=[Optional()])
    born = DateField(validators=[Optional()])
    funds = DecimalField(validators=[Optional()])
    newsletter = BooleanField(default=True)


HOST_FIELDS = ("name", "age", "born", "funds", "newsletter")


class Clock:
    """A clock that goes when it is told to. ``then`` is called once, by the call after the next ``skip`` ones."""

    def __init__(self) -> None:
        self.now = START
        self._skip = 0
        self._then: Callable[[], Any] | None = None

    def __call__(self) -> datetime.datetime:
        then = self._then
        if then is not None and self._skip == 0:
            self._then = None
            then()
        self._skip -= 1
        return self.now

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.now += datetime.timedelta(seconds=seconds)

    def interrupt(self, skip: int, then: Callable[[], Any]) -> None:
        """Let something else happen in the middle of a flow, when it looks at the clock."""
        self._skip, self._then = skip, then


class CountingHasher(BcryptHasher):
    """bcrypt that counts how many hashes it computes. ``then`` is called once, after the next check."""

    def __init__(self, rounds: int = 4, peppers: Any = ()) -> None:
        super().__init__(rounds, peppers)
        self.work = 0
        self.then: Callable[[], Any] | None = None

    def hash(self, password: str) -> str:
        self.work += 1
        made = super().hash(password)
        self._interrupt()
        return made

    def check(self, password: str, *stored: str | None) -> tuple[bool, ...]:
        self.work += len(stored)
        found = super().check(password, *stored)
        self._interrupt()
        return found

    def _interrupt(self) -> None:
        then, self.then = self.then, None
        if then is not None:
            then()


@dataclass(frozen=True)
class Mail:
    """A row of the outbox, with its link's token where it carries one."""

    template: str
    to: str | None
    token: str | None
    state: str
    reason: str | None
    context: Any
    locale: str | None


class Bench:
    """Services on a database of their own, and the flows as functions of what a visitor types."""

    def __init__(self, engine: sa.Engine, parts: dict[str, Any] | None = None, **settings: Any) -> None:
        self.engine = engine
        self._awaited: tuple[str, Callable[[sa.Connection], Any]] | None = None
        event.listen(engine, "after_cursor_execute", self._interrupt)
        self.tables = models.build(User)
        Base.metadata.create_all(engine)
        self.clock = Clock()
        self.hasher = CountingHasher()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.kicks = 0
        self.sessions: Any = scoped_session(sessionmaker(engine))
        chosen = {"base_url": "https://www.example.com", "mail_sender": "accounts@example.com", "bcrypt_rounds": 4}
        self.settings = Settings(**{**chosen, **settings})
        self.services = self._build(**(parts if parts is not None else {}))

    def _build(self, **parts: Any) -> Services:
        links = Links([SECRET])
        usual: dict[str, Any] = {
            "hasher": self.hasher,
            "policy": PasswordPolicy(),
            "throttle": NoThrottle(),
            "clock": self.clock,
            "on_signup": lambda user, form: None,
            "host_fields": HOST_FIELDS,
        }
        return Services(
            settings=self.settings,
            store=store.build(
                User,
                self.tables,
                self.settings,
                registry=lambda: self.sessions,
                begin=self.engine.begin,
                outbox_key=derive(SECRET, "outbox"),
            ),
            links=links,
            addresses=LinkAddresses(links, self.settings),
            access_tokens=AccessTokens(derived_keys([SECRET]), issuer="bench", audience="bench", max_age=900),
            refresh_tokens=RefreshTokens([SECRET]),
            devices=Devices([SECRET]),
            emit=lambda name, **payload: self.events.append((name, payload)),
            kick=self._count_kick,
            own=True,
            **{**usual, **parts},
        )

    def _count_kick(self) -> None:
        self.kicks += 1

    def close(self) -> None:
        """Give the connections back."""
        self.sessions.remove()
        self.engine.dispose()

    def form(self, form_class: Any, **data: Any) -> Any:
        """Return a form that was filled and not yet checked."""
        meta = {"policy": self.services.policy, "allow_special": False, "defaults": {"remember": True}}
        return from_json(form_class, data, meta)

    def run(self, flow: Any, form_class: Any, visit: Visit, **data: Any) -> Outcome:
        """Run a flow for a visitor, as the blueprint does."""
        form = self.form(form_class, **data)
        check(form)
        outcome: Outcome = flow(replace(self.services, visit=visit), form)
        return outcome

    def signup(self, email: str = EMAIL, password: str = PASSWORD, visit: Visit = OWNER, **fields: Any) -> Outcome:
        return self.run(signup.run, HostForm, visit, email=email, password=password, **fields)

    def open(self, token: str, visit: Visit = DEVICE) -> Outcome:
        return verify.show(replace(self.services, visit=visit), self.form(VerifyForm, token=token))

    def verify(self, token: str, visit: Visit = OWNER, **fields: Any) -> Outcome:
        return self.run(verify.run, VerifyForm, visit, token=token, **fields)

    def resend(self, visit: Visit = OWNER, **fields: Any) -> Outcome:
        return self.run(verify.resend, AskForm, visit, **fields)

    def login(self, email: str = EMAIL, password: str = PASSWORD, visit: Visit = OWNER, **fields: Any) -> Outcome:
        return self.run(login.run, LoginForm, visit, email=email, password=password, **fields)

    def refresh(self, token: str) -> Outcome:
        return self.run(refresh.run, RefreshForm, PROGRAM, refresh_token=token)

    def logout(self, visit: Visit = PROGRAM, **fields: Any) -> Outcome:
        return self.run(logout.run, LogoutForm, visit, **fields)

    def shown(self, outcome: Outcome) -> Visit:
        """Return the next visit of whoever has the login that an outcome opened, as the blueprint finds it."""
        opened = self.opened(outcome)
        account = self.services.store.units.read(lambda: self.services.store.accounts.get(opened.user_id), release=True)
        visit = PROGRAM if opened.kind == API else OWNER
        return replace(visit, login_id=opened.id, account=account)

    def opened(self, outcome: Outcome) -> Login:
        """Return the login that an outcome opened."""
        assert outcome.sign_in is not None
        return outcome.sign_in.login

    def fresh(self, visit: Visit, password: str = PASSWORD, **fields: Any) -> Outcome:
        return self.run(fresh.run, FreshForm, visit, password=password, **fields)

    def change_password(self, visit: Visit, current: str = PASSWORD, new: str = OTHER_PASSWORD) -> Outcome:
        return self.run(change_password.run, PasswordChangeForm, visit, current_password=current, new_password=new)

    def change_email(self, visit: Visit, email: str, password: str = PASSWORD) -> Outcome:
        return self.run(change_email.request, EmailChangeForm, visit, new_email=email, current_password=password)

    def show_email_link(self, flow: Any, token: str) -> Outcome:
        return self.run(flow, LinkForm, DEVICE, token=token)

    def confirm_email(self, token: str, visit: Visit = DEVICE) -> Outcome:
        return self.run(change_email.confirm, LinkForm, visit, token=token)

    def revert_email(self, token: str, visit: Visit = DEVICE) -> Outcome:
        return self.run(change_email.revert, LinkForm, visit, token=token)

    def list_logins(self, visit: Visit) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = sessions.show(replace(self.services, visit=visit), None).data["sessions"]
        return listed

    def end_login(self, visit: Visit, login_id: Any) -> Outcome:
        return self.run(sessions.end, DeviceForm, visit, id=str(login_id))

    def press_end(self, visit: Visit, login_id: Any) -> Outcome:
        """End a login as its button does."""
        return self.run(sessions.end_listed, DeviceForm, visit, id=str(login_id))

    def end_other_logins(self, visit: Visit) -> Outcome:
        return sessions.end_others(replace(self.services, visit=visit), None)

    @property
    def alive(self) -> set[Any]:
        """The ids of the logins that nobody has ended."""
        return {row.id for row in self.rows("session") if row.revoked_at is None}

    def request_reset(self, visit: Visit = OWNER, **fields: Any) -> Outcome:
        return self.run(reset.request, AskForm, visit, **fields)

    def open_reset(self, token: str) -> Outcome:
        return reset.show(self.services, self.form(ResetForm, token=token))

    def reset(self, token: str, password: str = OTHER_PASSWORD, visit: Visit = OWNER) -> Outcome:
        return self.run(reset.run, ResetForm, visit, token=token, password=password)

    def create_user(self, email: str = EMAIL, password: str | None = PASSWORD, **flags: bool) -> Outcome:
        return self.run(admin.create_user, CreateUserForm, Visit(), email=email, password=password, **flags)

    def change(self, flow: Any, email: str = EMAIL) -> Outcome:
        """Run one of the operator's flows on an account."""
        return self.run(flow, AccountForm, Visit(), email=email)

    def member(self, email: str = EMAIL, password: str | None = PASSWORD) -> None:
        """Create a verified account."""
        self.create_user(email, password, email_verified=True)

    def refresh_token(self, outcome: Outcome) -> str:
        """Return the refresh token of the pair that an outcome hands out."""
        assert outcome.sign_in is not None
        return self.services.refresh_tokens.make(outcome.sign_in.login.id, outcome.sign_in.login.generation)

    @property
    def mails(self) -> list[Mail]:
        """The outbox, oldest first."""
        mail, token = self.tables.mail, self.tables.token
        statement = sa.select(mail, token.c.purpose, token.c.created_at.label("made_at"))
        statement = statement.select_from(mail.outerjoin(token, mail.c.token_id == token.c.id)).order_by(mail.c.id)
        with self.engine.connect() as connection:
            return [self._mail(row) for row in connection.execute(statement)]

    def _mail(self, row: Any) -> Mail:
        token = None
        if row.purpose is not None and row.state == "pending":
            token = self.services.links.make(row.purpose, row.token_id, row.made_at)
        return Mail(row.template, row.to_addr, token, row.state, row.last_error, row.context, row.locale)

    @property
    def sent(self) -> list[str]:
        """The templates of the mails that are on their way, oldest first."""
        return [mail.template for mail in self.mails if mail.state == "pending"]

    @property
    def tokens(self) -> list[str]:
        """The tokens of the mailed links, oldest first."""
        return self.tokens_for(None)

    def tokens_for(self, email: str | None) -> list[str]:
        """Return the tokens of the links that were mailed to an address, oldest first."""
        return [mail.token for mail in self.mails if mail.token is not None and email in {None, mail.to}]

    @property
    def token(self) -> str:
        """The token of the newest mailed link."""
        return self.tokens[-1]

    def rows(self, table: str) -> list[Any]:
        """Return the rows of ``user``, ``token``, ``session`` or ``mail``."""
        with self.engine.connect() as connection:
            return list(connection.execute(sa.select(getattr(self.tables, table))))

    def account(self, email: str = EMAIL) -> Any:
        """Return the row of the account that holds an address."""
        with self.engine.connect() as connection:
            user = self.tables.user
            return connection.execute(sa.select(user).where(user.c.email_key == email)).first()

    def alter(self, key: str = EMAIL, /, **values: Any) -> None:
        """Change an account behind the back of the flows."""
        with self.engine.begin() as connection:
            user = self.tables.user
            connection.execute(sa.update(user).where(user.c.email_key == key).values(values))

    def once(self, beginning: str, then: Callable[[sa.Connection], Any]) -> None:
        """Let something else happen in the database right after the next statement that begins like this."""
        self._awaited = beginning, then

    def _interrupt(self, connection: sa.Connection, cursor: Any, statement: str, *rest: Any) -> None:
        if self._awaited is not None and statement.startswith(self._awaited[0]):
            then, self._awaited = self._awaited[1], None
            then(connection)

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """Collect the SQL that runs inside, without what begins and ends transactions and takes SQLite's lock."""
        seen: list[str] = []

        def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
            is_frame = statement.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "COMMIT"))
            if not is_frame and not re.search(r"WHERE (0 = 1|false)$", statement.strip()):
                seen.append(statement)

        event.listen(self.engine, "before_cursor_execute", note)
        try:
            yield seen
        finally:
            event.remove(self.engine, "before_cursor_execute", note)


def answer(flow: Callable[..., Outcome], *args: Any, **kwargs: Any) -> str:
    """Return the code that a flow ends with, be it an outcome or a refusal."""
    try:
        return flow(*args, **kwargs).code
    except Refusal as refusal:
        return refusal.code


def told(shown: str, /, flow: Callable[..., Outcome], *args: Any, **kwargs: Any) -> str:
    """Return all that a visitor could learn from how a flow ends, with the address that is ``shown`` masked."""
    try:
        outcome = flow(*args, **kwargs)
    except Refusal as refusal:
        parts: tuple[Any, ...] = (refusal.code, refusal.status, refusal.title, refusal.detail, refusal.fields)
        parts += (dict(refusal.extra), dict(refusal.data), refusal.go)
    else:
        parts = (outcome.code, outcome.status, dict(outcome.data), outcome.go, outcome.template, outcome.next)
        parts += (outcome.sign_in is None, dict(outcome.page), outcome.signed_out, outcome.email)
    return repr(parts).replace(shown, "<email>")


#: One address of each class, of equal length: verified, unknown, pending, disabled.
CLASSES = {"V": "vic@example.com", "U": "una@example.com", "P": "pat@example.com", "L": "lee@example.com"}


def populate(bench: Bench) -> None:
    """Give every address in ``CLASSES`` the account that it stands for, a day ago."""
    bench.member(CLASSES["V"])
    bench.signup(CLASSES["P"], visit=STRANGER)
    bench.member(CLASSES["L"])
    bench.change(admin.disable_user, CLASSES["L"])
    bench.clock.tick(86400)
