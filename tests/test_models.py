"""The user mixin on every kind of model, and the three tables beside it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import orm
from sqlalchemy.orm import DeclarativeBase, DeclarativeBaseNoMeta, Mapped, declared_attr, mapped_column, relationship
from support import BASE_URL, CONFIG, OTHER_PASSWORD, PASSWORD, Clock, MemoryTransport, Program, Site

from flask_accountflow import AccountFlow, ConfigError, UserMixin
from flask_accountflow.models import aware, build

if TYPE_CHECKING:
    from decimal import Decimal as Price

IntKey = Annotated[int, mapped_column(primary_key=True)]
#: The columns of the mixin, in the order of their declaration.
COLUMNS = (
    "email",
    "email_key",
    "password_hash",
    "email_verified_at",
    "is_active",
    "is_admin",
    "stamp",
    "locale",
    "last_login_at",
    "password_changed_at",
    "created_at",
)


class Host:
    """An app with accounts around a model of its own. Looks like a site to a :class:`.Program`."""

    def __init__(self, db: SQLAlchemy, user_model: type, config: dict[str, Any], **parts: Any) -> None:
        self.clock = Clock()
        self.transport = MemoryTransport()
        self.db = db
        self.app = Flask(__name__)
        self.app.config.update(CONFIG, **config)
        self.accounts = AccountFlow(
            self.app, db, user_model, **{"clock": self.clock, "transport": self.transport, **parts}
        )
        db.init_app(self.app)
        with self.app.app_context():
            db.create_all()

    @property
    def last_link(self) -> str:
        """The path of the link in the newest mail that has one."""
        link = next(letter.link for letter in reversed(self.transport.letters) if letter.link is not None)
        return link.removeprefix(BASE_URL)

    def close(self) -> None:
        """Give the connections back."""
        with self.app.app_context():
            for engine in self.db.engines.values():
                engine.dispose()


MakeHost = Callable[..., Host]


@pytest.fixture
def make_host(tmp_path: Path) -> Iterator[MakeHost]:
    """Return a function that makes apps around a db and a model, on one SQLite file."""
    made: list[Host] = []

    def make(db: SQLAlchemy, user_model: type, config: dict[str, Any] | None = None, **parts: Any) -> Host:
        uri = f"sqlite:///{tmp_path / 'host.db'}"
        made.append(Host(db, user_model, {"SQLALCHEMY_DATABASE_URI": uri, **(config or {})}, **parts))
        return made[-1]

    yield make
    for host in made:
        host.close()


def live(host: Any, email: str = "ada@example.com") -> str:
    """Sign up, confirm, log in, refresh, reset and log in again; return the account's id."""
    visitor = Program(host)
    assert visitor.signup(email).status_code == 202
    assert visitor.verify(host.last_link).json["status"] == "verified"
    pair = visitor.login(email)
    assert pair.status_code == 200, pair.text
    renewed = visitor.post("/auth/refresh", {"refresh_token": pair.json["refresh_token"]})
    assert visitor.me(renewed).json["email"] == email
    assert visitor.request_reset(email=email).status_code == 202
    assert visitor.reset(host.last_link).status_code == 200
    assert visitor.me(renewed).status_code == 401
    assert visitor.login(email, PASSWORD).status_code == 401
    return str(visitor.login(email, OTHER_PASSWORD).json["user"]["id"])


def new_base() -> Any:
    """Return a declarative base with a metadata of its own."""
    return type("Base", (DeclarativeBase,), {})


def key_of(model: Any) -> list[tuple[str, type]]:
    """Return name and type of the columns of a model's primary key."""
    return [(column.name, type(column.type)) for column in model.__table__.primary_key]


def refused(model: type, prefix: str = "accountflow_") -> tuple[str, ...]:
    """Return why a model cannot carry accounts."""
    with pytest.raises(ConfigError) as caught:
        build(model, prefix)
    return caught.value.problems


# The key


def test_model_without_key() -> None:
    """A model without a primary key gets a random id of 128 bits, and the columns of the mixin."""
    db = SQLAlchemy()

    class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "users"

    assert key_of(User) == [("id", sa.Uuid)]
    assert set(User.__table__.columns.keys()) == {"id", *COLUMNS}
    assert User.id.default.arg(None) != User.id.default.arg(None)


def test_mixin_sets_no_table_name() -> None:
    """The table's name is what the app or Flask-SQLAlchemy says."""
    db = SQLAlchemy()

    class ShopUser(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        pass

    assert (ShopUser.__table__.name, key_of(ShopUser)) == ("shop_user", [("id", sa.Uuid)])


def test_mixin_after_the_model() -> None:
    """The order of the bases does not matter."""
    db = SQLAlchemy()

    class User(db.Model, UserMixin):  # type: ignore[name-defined, misc]
        __tablename__ = "users"

    class Keyed(db.Model, UserMixin):  # type: ignore[name-defined, misc]
        __tablename__ = "keyed"
        number: Mapped[int] = mapped_column(primary_key=True)

    assert key_of(User) == [("id", sa.Uuid)]
    assert key_of(Keyed) == [("number", sa.Integer)]


@pytest.mark.parametrize("base", [DeclarativeBase, DeclarativeBaseNoMeta])
def test_base_of_the_host(base: Any) -> None:
    """A base that the app gave to Flask-SQLAlchemy works like the default one, with and without a key."""
    db = SQLAlchemy(model_class=type("Base", (base,), {}))

    class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "users"

    class Customer(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    assert key_of(User) == [("id", sa.Uuid)]
    assert (key_of(Customer), Customer.__table__.name) == ([("id", sa.Integer)], "customer")


class _AbstractKey:
    """What some hosts put on an abstract base."""

    id: Mapped[int] = mapped_column(primary_key=True)


class _DeclaredKey:
    """A mixin whose key is made for each model."""

    @declared_attr
    def number(cls) -> Mapped[int]:
        """The key, named after the table of the model, which only the model has."""
        return mapped_column(sa.BigInteger, name=f"{cls.__tablename__}_number", primary_key=True)  # type: ignore[attr-defined]


def _int_key(base: Any) -> Any:
    class User(UserMixin, base):  # type: ignore[misc]
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)

    return User


def _uid(base: Any) -> Any:
    class User(UserMixin, base):  # type: ignore[misc]
        __tablename__ = "users"
        uid: Mapped[str] = mapped_column(sa.String(20), primary_key=True)

    return User


def _renamed(base: Any) -> Any:
    class User(UserMixin, base):  # type: ignore[misc]
        __tablename__ = "users"
        number: Mapped[int] = mapped_column("user_number", primary_key=True)

    return User


def _legacy(base: Any) -> Any:
    class User(UserMixin, base):  # type: ignore[misc]
        __tablename__ = "users"
        id = sa.Column(sa.Integer, primary_key=True)

    return User


def _annotated(base: Any) -> Any:
    class User(UserMixin, base):  # type: ignore[misc]
        __tablename__ = "users"
        id: Mapped[IntKey]

    return User


def _annotated_among_others(base: Any) -> Any:
    class User(UserMixin, base):  # type: ignore[misc]
        __tablename__ = "users"
        id: Mapped[IntKey]
        # As in an app whose other model comes later in its file.
        orders: Mapped[list[Order]] = relationship()  # type: ignore[name-defined]  # noqa: F821

    return User


def _abstract(base: Any) -> Any:
    class Entity(_AbstractKey, base):  # type: ignore[misc]
        __abstract__ = True

    class User(UserMixin, Entity):
        __tablename__ = "users"

    return User


def _declared(base: Any) -> Any:
    class User(UserMixin, _DeclaredKey, base):  # type: ignore[misc]
        __tablename__ = "users"

    return User


def _abstract_with_mixin(base: Any) -> Any:
    class Account(UserMixin, base):  # type: ignore[misc]
        __abstract__ = True

    class User(Account):
        __tablename__ = "users"
        id: Mapped[IntKey]

    return User


def _ready_table(base: Any) -> Any:
    class User(UserMixin, base):  # type: ignore[misc]
        __table__ = _int_key(new_base()).__table__.to_metadata(base.metadata)

    return User


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (_int_key, ("id", sa.Integer)),
        (_uid, ("uid", sa.String)),
        (_renamed, ("user_number", sa.Integer)),
        (_legacy, ("id", sa.Integer)),
        (_annotated, ("id", sa.Integer)),
        (_annotated_among_others, ("id", sa.Integer)),
        (_abstract, ("id", sa.Integer)),
        (_declared, ("users_number", sa.BigInteger)),
        (_abstract_with_mixin, ("id", sa.Integer)),
        (_ready_table, ("id", sa.Integer)),
    ],
)
def test_key_of_the_host(make: Callable[[Any], Any], key: tuple[str, type]) -> None:
    """A key that the model has, however it is declared, is the only one, and our tables refer to it."""
    base: Any = new_base()

    model = make(base)

    assert key_of(model) == [key]
    for name in ("token", "session", "mail"):
        column = getattr(build(model), name).c.user_id
        assert isinstance(column.type, key[1])
        [foreign] = column.foreign_keys
        assert (foreign.target_fullname, foreign.ondelete) == (f"users.{key[0]}", "CASCADE")


def test_abstract_class_gets_no_key() -> None:
    """An abstract class, and a mixin of the app's own, wait for the model that is made of them."""
    base: Any = new_base()

    class Account(UserMixin):
        nick: Mapped[str | None]

    class Entity(Account, base):  # type: ignore[misc]
        __abstract__ = True

    class User(Entity):
        __tablename__ = "users"

    assert not hasattr(Account, "id")
    assert "id" not in vars(Entity)
    assert key_of(User) == [("id", sa.Uuid)]


def test_annotation_that_cannot_be_read() -> None:
    """An annotation that only a type checker can read does not keep a model from its id."""
    base: Any = new_base()

    class User(UserMixin, base):  # type: ignore[misc]
        __tablename__ = "users"
        __allow_unmapped__ = True
        price: Price

    assert key_of(User) == [("id", sa.Uuid)]


#: A model as a notebook or a template of code makes it.
_BY_EXEC = """
class User(UserMixin, base):
    __tablename__ = "users"
    number: Mapped[IntKey]
    name: Mapped[str]
"""


def test_model_of_no_module() -> None:
    """A model that exec() makes, in a module that nobody can import, keeps the key that it declares."""
    names = {"__name__": "nowhere", "UserMixin": UserMixin, "Mapped": Mapped, "IntKey": IntKey, "base": new_base()}

    # Without the annotations of this file, which are text: SQLAlchemy reads no text without a module.
    exec(compile(_BY_EXEC, "nowhere.py", "exec", dont_inherit=True), names)

    assert key_of(names["User"]) == [("number", sa.Integer)]


def test_subclasses_of_a_model() -> None:
    """Subclasses of a model, in its table or in one of their own, have its key and get no second one."""
    base: Any = new_base()

    class User(UserMixin, base):  # type: ignore[misc]
        __tablename__ = "users"
        kind: Mapped[str] = mapped_column(sa.String(20))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "user"}  # noqa: RUF012

    class Guest(User):
        __mapper_args__ = {"polymorphic_identity": "guest"}  # noqa: RUF012

    class Seller(User):
        __tablename__ = "sellers"
        id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("users.id"), primary_key=True)
        shop: Mapped[str | None]
        __mapper_args__ = {"polymorphic_identity": "seller"}  # noqa: RUF012

    assert Guest.__table__ is User.__table__
    assert key_of(User) == [("id", sa.Uuid)]
    assert list(Seller.__table__.columns.keys()) == ["id", "shop"]
    assert build(User).user is User.__table__
    assert build(Guest) is build(User)


# What is refused


def test_not_a_model() -> None:
    """What is no model, or lacks the mixin, is refused with the line to write."""

    class Plain(UserMixin):
        pass

    class Other(new_base()):  # type: ignore[misc]
        __tablename__ = "others"
        id: Mapped[IntKey]

    assert refused(Plain) == ("Plain must be a model with the mixin: class Plain(UserMixin, db.Model).",)
    assert refused(Other) == ("Other must be a model with the mixin: class Other(UserMixin, db.Model).",)


def test_key_of_several_columns() -> None:
    """A key of several columns is refused."""

    class User(UserMixin, new_base()):  # type: ignore[misc]
        __tablename__ = "users"
        tenant: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True)

    assert refused(User) == ("User has a primary key of several columns; accounts need one of a single column.",)


def test_dataclass_model() -> None:
    """A dataclass is refused."""

    @dataclass
    class User(UserMixin, new_base()):  # type: ignore[misc]
        __tablename__ = "users"
        id: Mapped[IntKey]

    assert refused(User) == ("User is a dataclass, which SQLAlchemy 2.1 refuses to mix; use a plain model.",)


def test_all_faults_of_a_model() -> None:
    """The faults of a model are told together."""
    base: Any = new_base()

    class User(UserMixin, base):  # type: ignore[misc]
        __tablename__ = "users"
        tenant: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True)
        locale = None

    assert len(refused(User)) == 2


def test_missing_columns() -> None:
    """Columns that a model took away are named."""
    base: Any = new_base()

    class User(UserMixin, base):  # type: ignore[misc]
        __tablename__ = "users"
        locale = None
        is_admin = False

    assert refused(User) == ("User lacks the columns is_admin, locale of UserMixin.",)


def test_subclass_with_a_table_of_its_own() -> None:
    """A class whose columns lie in two tables is refused: the accounts belong to its parent."""
    base: Any = new_base()

    class User(UserMixin, base):  # type: ignore[misc]
        __tablename__ = "users"

    class Seller(User):
        __tablename__ = "sellers"
        id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("users.id"), primary_key=True)

    assert refused(Seller) == (
        "Seller is spread over two tables; give the class whose table has the columns of UserMixin.",
    )


def test_model_over_a_query() -> None:
    """A model over a query has no table that could be written."""
    base: Any = new_base()
    users = _int_key(base).__table__

    class View(UserMixin, base):  # type: ignore[misc]
        __table__ = sa.select(users).subquery()
        __mapper_args__ = {"primary_key": [__table__.c.id]}  # noqa: RUF012

    assert refused(View) == ("View is not mapped to a table.",)


def test_faults_reach_the_app() -> None:
    """AccountFlow refuses a model as soon as it is given one."""
    with pytest.raises(ConfigError, match="must be a model with the mixin"):
        AccountFlow(user_model=UserMixin)


# The tables


def test_tables_are_core_tables() -> None:
    """The three tables are Core tables in the model's metadata, and no classes."""
    base: Any = new_base()

    tables = build(_int_key(base))

    assert [type(table) for table in (tables.token, tables.session, tables.mail)] == [sa.Table] * 3
    assert set(base.metadata.tables) == {"users", "accountflow_token", "accountflow_session", "accountflow_mail"}
    assert {mapper.class_.__name__ for mapper in base.registry.mappers} == {"User"}
    assert (tables.user, tables.user_key) == (base.metadata.tables["users"], base.metadata.tables["users"].c.id)


def test_foreign_keys_have_no_index_of_their_own() -> None:
    """A foreign key is served by a unique constraint: an index would break the generated downgrade on MariaDB."""
    tables = build(_int_key(new_base()))

    for table in (tables.token, tables.session, tables.mail):
        assert all("user_id" not in index.columns for index in table.indexes)
        uniques = [c for c in table.constraints if isinstance(c, sa.UniqueConstraint) and "user_id" in c.columns]
        assert [list(one.columns.keys()) for one in uniques] == [["user_id", "id"]]


def test_VER_14_no_column_for_a_secret() -> None:
    """No table has a column that a link or a token could be kept in."""
    tables = build(_int_key(new_base()))

    names = {column.name for table in (tables.token, tables.session, tables.mail) for column in table.columns}

    assert not names & {"token", "link", "url", "body", "refresh_token", "secret", "hash"}


def test_built_once() -> None:
    """Building again, whatever for, gives the same tables."""
    model = _int_key(new_base())

    first = build(model)

    assert build(model) is first
    assert AccountFlow(user_model=model, db=SQLAlchemy()).tables is first


def test_two_user_models() -> None:
    """A second user model on one metadata needs a prefix of its own."""
    base: Any = new_base()

    class User(UserMixin, base):  # type: ignore[misc]
        __tablename__ = "users"

    class Clerk(UserMixin, base):  # type: ignore[misc]
        __tablename__ = "clerks"

    build(User)
    [fault] = refused(Clerk)
    clerks = build(Clerk, "clerk_")

    assert fault == "Another user model has the accountflow_… tables. Give Clerk a table_prefix of its own."
    assert (clerks.token.name, clerks.user.name) == ("clerk_token", "clerks")
    assert refused(type("Third", (UserMixin, base), {"__tablename__": "thirds"}), "clerk_")
    names = [one.name for table in base.metadata.tables.values() for one in (*table.indexes, *table.constraints)]
    named = [name for name in names if name is not None]
    assert len(named) == len(set(named))


def test_extra_column_on_the_base_of_the_host() -> None:
    """What the app puts on its base stays out of our tables."""
    base: Any = new_base()
    base.tenant = mapped_column(sa.Integer)
    model = _int_key(base)

    tables = build(model)

    assert "tenant" in tables.user.columns
    assert not any("tenant" in table.columns for table in (tables.token, tables.session, tables.mail))


def test_schema() -> None:
    """Our tables stand in the schema of the user table."""
    base: Any = new_base()

    class User(UserMixin, base):  # type: ignore[misc]
        __tablename__ = "users"
        __table_args__ = {"schema": "shop"}  # noqa: RUF012

    tables = build(User)

    assert {table.schema for table in (tables.token, tables.session, tables.mail)} == {"shop"}
    assert {foreign.target_fullname for foreign in tables.token.foreign_keys} == {"shop.users.id"}


def test_migrations_see_no_difference(site: Site) -> None:
    """What create_all() makes is what the metadata says, so that a migration has nothing to do."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with site.app.app_context(), site.db.engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), site.db.metadata)

    assert found == []


# Whole flows


@pytest.mark.parametrize("make", [_int_key, _uid, _renamed, _legacy, _declared, _abstract, _ready_table])
def test_flows_with_a_key_of_the_host(make_host: MakeHost, make: Callable[[Any], Any]) -> None:
    """Every flow works whatever the key is."""
    db = SQLAlchemy()
    model = make(db.Model)
    if make is _uid:
        sa.event.listen(model, "before_insert", _give_uid)
    if make is _declared:
        model.__table__.c.users_number.type = sa.Integer()  # SQLite counts only this type

    host = make_host(db, model)

    assert live(host) == ("u-ada@example.com" if make is _uid else "1")


def _give_uid(mapper: Any, connection: Any, user: Any) -> None:
    user.uid = f"u-{user.email}"


def test_flows_with_other_column_names(make_host: MakeHost) -> None:
    """Columns that an existing table has under other names work through every flow."""
    db = SQLAlchemy()

    class Customer(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "customers"
        number: Mapped[int] = mapped_column("customer_no", primary_key=True)
        email: Mapped[str] = mapped_column("mail", sa.String(200))
        email_key: Mapped[str | None] = mapped_column("mail_canonical", sa.String(200), unique=True)
        password_hash: Mapped[str | None] = mapped_column("pw", sa.String(255))
        stamp: Mapped[uuid.UUID] = mapped_column("epoch", sa.Uuid, insert_default=uuid.uuid4)
        is_active: Mapped[bool] = mapped_column("enabled", insert_default=True)
        email_verified_at: Mapped[datetime | None] = mapped_column("proved", sa.DateTime(timezone=True))
        created_at: Mapped[datetime] = mapped_column("since", sa.DateTime(timezone=True))

    host = make_host(db, Customer)

    live(host)

    with host.app.app_context():
        customer = db.session.scalars(sa.select(Customer)).one()
        assert (customer.email, customer.email_verified) == ("ada@example.com", True)
        assert str(customer.password_hash).startswith("af1$")
        assert {"mail", "mail_canonical", "pw", "epoch"} <= set(Customer.__table__.columns.keys())


def test_flows_with_a_bind_key(make_host: MakeHost, tmp_path: Path) -> None:
    """Accounts may live in another database than the app's own tables."""
    db = SQLAlchemy()

    class Order(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[IntKey]

    class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "users"
        __bind_key__ = "people"

    host = make_host(db, User, {"SQLALCHEMY_BINDS": {"people": f"sqlite:///{tmp_path / 'people.db'}"}})

    live(host)

    with host.app.app_context():
        assert host.app.extensions["accountflow"].store.units.connection().engine is db.engines["people"]
        names = {key: set(sa.inspect(engine).get_table_names()) for key, engine in db.engines.items()}
    assert names == {
        None: {"order"},
        "people": {"users", "accountflow_token", "accountflow_session", "accountflow_mail"},
    }


def test_flows_with_a_schema(make_host: MakeHost) -> None:
    """Accounts may live in a schema."""
    db = SQLAlchemy()

    class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "users"
        __table_args__ = {"schema": "main"}  # noqa: RUF012

    host = make_host(db, User)

    live(host)

    assert host.accounts.tables.mail.fullname == "main.accountflow_mail"


def test_flows_with_a_polymorphic_model(make_host: MakeHost) -> None:
    """A model with subclasses in the same table works, and the app may sign people up as one of them."""
    db = SQLAlchemy()

    class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "users"
        kind: Mapped[str] = mapped_column(sa.String(20))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "user"}  # noqa: RUF012

    class Guest(User):
        __mapper_args__ = {"polymorphic_identity": "guest"}  # noqa: RUF012

    host = make_host(db, Guest)

    live(host)

    with host.app.app_context():
        assert [type(one) for one in db.session.scalars(sa.select(User))] == [Guest]


def test_two_apps_on_one_database(make_host: MakeHost) -> None:
    """Two apps of one process may share db, model and database; each has its own configuration."""
    db = SQLAlchemy()

    class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "users"

    first, second = make_host(db, User), make_host(db, User, {"ACCOUNTFLOW_URL_PREFIX": "/accounts"})
    live(first)

    assert second.accounts.tables is first.accounts.tables
    answer = second.app.test_client().post(
        "/accounts/login", json={"email": "ada@example.com", "password": OTHER_PASSWORD}
    )
    assert answer.status_code == 200
    assert second.app.test_client().get("/auth/login").status_code == 404


def test_set_up_twice(make_host: MakeHost) -> None:
    """One app is set up once; the second time is refused with a sentence."""
    db = SQLAlchemy()

    class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "users"

    host = make_host(db, User)

    with pytest.raises(ConfigError, match="set up for this app already"):
        host.accounts.init_app(host.app)


def test_two_kinds_of_accounts(tmp_path: Path, make_host: MakeHost) -> None:
    """Two user models on one db serve two apps, each with tables of its own prefix."""
    db = SQLAlchemy()

    class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "users"

    class Clerk(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "clerks"

    shop, office = make_host(db, User), make_host(db, Clerk, table_prefix="clerk_")

    live(shop)
    live(office)

    with shop.app.app_context():
        assert [db.session.scalar(sa.select(sa.func.count(model.id))) for model in (User, Clerk)] == [1, 1]


def test_classes_over_our_tables(make_host: MakeHost) -> None:
    """An app that wants a class over one of our tables writes one."""
    db = SQLAlchemy()

    class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "users"

    accounts = AccountFlow(user_model=User, db=db)

    class Link(db.Model):  # type: ignore[name-defined, misc]
        __table__ = accounts.tables.token
        user: Mapped[User] = relationship()

    host = make_host(db, User)
    live(host)

    with host.app.app_context():
        links = db.session.scalars(sa.select(Link).order_by(Link.created_at)).all()
        assert [link.purpose for link in links] == ["signup", "reset"]
        assert {link.user.email for link in links} == {"ada@example.com"}


def test_model_given_late(make_host: MakeHost, tmp_path: Path) -> None:
    """db and model may be given to init_app; then the tables are there from then on."""
    db = SQLAlchemy()

    class User(UserMixin, db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = "users"

    accounts = AccountFlow()
    with pytest.raises(ConfigError, match="needs the app's db and user model"):
        _ = accounts.tables
    app = Flask(__name__)
    app.config.update(CONFIG, SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path / 'late.db'}")
    assert "accountflow_token" not in db.metadata.tables

    accounts.init_app(app, db, User)

    assert "accountflow_token" in db.metadata.tables


# The words of an account


def test_words_of_an_account() -> None:
    """A user knows whether the address was proved, is always somebody, and names its key as text."""
    model = _int_key(new_base())
    engine = sa.create_engine("sqlite://")
    model.metadata.create_all(engine)
    user = model(email="ada@example.com", created_at=datetime.now(timezone.utc))

    with orm.Session(engine) as session:
        session.add(user)
        session.flush()

        assert (user.get_id(), user.is_active, user.is_admin) == ("1", True, False)
        assert (user.is_authenticated, user.is_anonymous, user.email_verified) == (True, False, False)
        assert isinstance(user.stamp, uuid.UUID)
        user.email_verified_at = datetime.now(timezone.utc)
        assert user.email_verified
    engine.dispose()


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(2026, 3, 29, 1, 30), datetime(2026, 3, 29, 1, 30, tzinfo=timezone.utc)),
        (datetime(2026, 3, 29, 1, 30, tzinfo=timezone.utc), datetime(2026, 3, 29, 1, 30, tzinfo=timezone.utc)),
        (
            datetime(2026, 3, 29, 1, 30, tzinfo=timezone(timedelta(hours=2))),
            datetime(2026, 3, 28, 23, 30, tzinfo=timezone.utc),
        ),
    ],
)
def test_aware(moment: datetime, expected: datetime) -> None:
    """Times come out in UTC: without a zone they are taken as UTC, with another zone they are converted."""
    assert aware(moment) == expected
    assert aware(moment).tzinfo is timezone.utc
