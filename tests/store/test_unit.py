"""One unit of work: who commits, what is undone, and what is tried again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from databases import database
from flask import Response
from flask_sqlalchemy.session import Session as FlaskSession
from shop import Shop, at_once
from sqlalchemy import orm
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.pool import QueuePool
from support import OTHER_PASSWORD, PASSWORD, Person, Program, forms_of, services

from flask_accountflow.errors import HookCommitted, Refusal
from flask_accountflow.passwords import Hasher
from flask_accountflow.store.unit import Units, is_transient, watch

MakeShop = Callable[..., Shop]
ADA = "ada@example.com"

NOTHING: tuple[int, int, int, list[str]] = (0, 0, 0, [])
SIGNED_UP = (1, 1, 1, ["mail_queued", "user_signed_up"])


def _add(shop: Shop) -> None:
    shop.db.session.add(shop.Note(text="mine"))


def _flush(shop: Shop) -> None:
    _add(shop)
    shop.db.session.flush()


def _execute(shop: Shop) -> None:
    shop.db.session.execute(sa.insert(shop.Note).values(text="mine"))


def _execute_text(shop: Shop) -> None:
    shop.db.session.execute(sa.text("INSERT INTO note (text) VALUES ('mine')"))


#: How a host may have begun to write when it calls a verb.
BEGINNINGS = {"added": _add, "flushed": _flush, "executed": _execute, "text": _execute_text}


@pytest.fixture(params=BEGINNINGS)
def begin(request: pytest.FixtureRequest) -> Callable[[Shop], None]:
    """A way in which the host has begun to write."""
    return BEGINNINGS[request.param]


def units(shop: Shop) -> Units:
    """Return the units of a host app."""
    found: Units = services(shop).store.units
    return found


def sign_up(shop: Shop, email: str = ADA) -> None:
    """Call the verb."""
    shop.accounts.signup(email, PASSWORD)


def before_each_request(shop: Shop, call: Callable[[], Any]) -> None:
    """Let the host do something before each request, even where it has answered some."""

    def hook() -> None:
        call()

    shop.app.before_request_funcs.setdefault(None, []).append(hook)


# Called by the host


def test_verb_alone_is_durable(shop: Shop) -> None:
    """A verb that the host calls outside any work of its own is durable, mailed and announced when it returns."""
    with shop.app.app_context():
        sign_up(shop)

        assert shop.state() == SIGNED_UP
        shop.db.session.rollback()

    assert shop.state() == SIGNED_UP


def test_verb_joins_what_the_host_began(shop: Shop, begin: Callable[[Shop], None]) -> None:
    """While the host has uncommitted writes, a verb is durable, mailed and announced only by the host's commit."""
    with shop.app.app_context():
        begin(shop)

        sign_up(shop)

        assert (shop.state(), shop.notes()) == (NOTHING, [])
        shop.db.session.commit()
        assert (shop.state(), shop.notes()) == (SIGNED_UP, ["mine"])


def test_hosts_rollback_undoes_a_verb(shop: Shop, begin: Callable[[Shop], None]) -> None:
    """The host's rollback undoes a verb with the host's own writes, and nothing is mailed or announced, ever."""
    with shop.app.app_context():
        begin(shop)
        sign_up(shop)

        shop.db.session.rollback()
        shop.db.session.add(shop.Note(text="later"))
        shop.db.session.commit()

    assert (shop.state(), shop.notes()) == (NOTHING, ["later"])


def test_closed_session_undoes_a_verb(shop: Shop) -> None:
    """A session that the host gives up without a commit leaves nothing of a verb."""
    with shop.app.app_context():
        shop.db.session.add(shop.Note(text="mine"))
        sign_up(shop)

        shop.db.session.remove()
        shop.db.session.commit()

    assert (shop.state(), shop.notes()) == (NOTHING, [])


@pytest.mark.parametrize("change", ["delete", "modify"])
def test_verb_joins_deletions_and_changes(shop: Shop, change: str) -> None:
    """An object that the host has deleted or changed counts as a write that has begun."""
    with shop.app.app_context():
        shop.db.session.add(shop.Note(text="old"))
        shop.db.session.commit()
        note = shop.db.session.scalars(sa.select(shop.Note)).one()
        if change == "delete":
            shop.db.session.delete(note)
        else:
            note.text = "new"

        sign_up(shop)

        assert (shop.state(), shop.notes()) == (NOTHING, ["old"])
        shop.db.session.commit()
    assert (shop.state(), shop.notes()) == (SIGNED_UP, [] if change == "delete" else ["new"])


def test_changes_that_change_nothing_are_no_write(shop: Shop) -> None:
    """An object that was set to what it is already does not make a verb wait."""
    with shop.app.app_context():
        shop.db.session.add(shop.Note(text="old"))
        shop.db.session.commit()
        note = shop.db.session.scalars(sa.select(shop.Note)).one()
        note.text = str(note.text)

        sign_up(shop)

        assert shop.state() == SIGNED_UP


def test_text_counts_as_a_write(shop: Shop) -> None:
    """SQL that the host gave as text may be a write, so a verb joins it; on SQLite too its rollback is one."""
    with shop.app.app_context():
        shop.db.session.execute(sa.text("SELECT 1"))

        sign_up(shop)

        assert shop.state() == NOTHING
        shop.db.session.rollback()
    assert shop.state() == NOTHING


def test_verbs_in_one_transaction(shop: Shop) -> None:
    """Several verbs of one transaction of the host are durable together, and each is mailed once."""
    with shop.app.app_context():
        shop.db.session.add(shop.Note(text="mine"))
        sign_up(shop)
        shop.accounts.create_user("bob@example.com", PASSWORD, verified=True)
        shop.accounts.request_reset("bob@example.com")

        shop.db.session.commit()

    assert [letter.to for letter in shop.letters] == [ADA, "bob@example.com"]
    assert shop.count(shop.tables.user) == 2


def test_begin_block_of_the_host(shop: Shop) -> None:
    """A verb inside ``with db.session.begin()`` belongs to that block, even when it writes first."""
    with shop.app.app_context():
        with shop.db.session.begin():
            sign_up(shop)
            shop.accounts.request_reset(ADA)
            inside = shop.state()

        assert inside == NOTHING
        assert shop.count(shop.tables.token) == len(shop.letters) == 2


def test_begin_block_that_fails(shop: Shop) -> None:
    """A verb inside a block of the host that fails is undone with it."""

    def block() -> None:
        with shop.db.session.begin():
            sign_up(shop)
            raise LookupError

    with shop.app.app_context(), pytest.raises(LookupError):
        block()

    assert shop.state() == NOTHING


def test_verb_that_reads_first_in_a_begin_block(shop: Shop) -> None:
    """A verb that looks its link up before it writes does not end the block of the host."""
    shop.member()
    with shop.app.app_context():
        shop.accounts.request_reset("vic@example.com")
        token = shop.last_token

        with shop.db.session.begin():
            shop.accounts.reset(token, OTHER_PASSWORD)
            inside = shop.account("vic@example.com").stamp

        assert shop.account("vic@example.com").stamp != inside


def test_savepoint_of_the_host_that_is_rolled_back(shop: Shop) -> None:
    """A savepoint of the host takes a verb inside it along, and leaves what was before it."""
    with shop.app.app_context():
        shop.db.session.add(shop.Note(text="mine"))
        sign_up(shop)
        savepoint = shop.db.session.begin_nested()
        sign_up(shop, "bob@example.com")

        savepoint.rollback()
        shop.db.session.commit()

    assert shop.notes() == ["mine"]
    assert [row.email for row in shop.rows("user")] == [ADA]
    assert [letter.to for letter in shop.letters] == [ADA]
    assert shop.told.count("user_signed_up") == 1


def test_savepoint_of_the_host_that_is_released(shop: Shop) -> None:
    """A savepoint of the host that is released leaves the verb inside it to the host's commit."""
    with shop.app.app_context():
        shop.db.session.add(shop.Note(text="mine"))
        with shop.db.session.begin_nested():
            sign_up(shop)

        assert shop.state() == NOTHING
        shop.db.session.commit()

    assert shop.state() == SIGNED_UP


@pytest.mark.parametrize("shop_of_session", ["postgresql", "mariadb"], indirect=True)
def test_savepoint_of_the_host_without_writes(shop: Shop) -> None:
    """A verb inside a savepoint of the host belongs to it, even when it writes first.

    Not on SQLite, whose driver commits such a savepoint of the host by itself.
    """
    with shop.app.app_context():
        with shop.db.session.begin_nested():
            sign_up(shop)
        shop.db.session.rollback()

    assert shop.state() == NOTHING


@pytest.mark.parametrize("joined", [False, True], ids=["alone", "joined"])
def test_host_sees_what_a_verb_changed(shop: Shop, joined: bool) -> None:
    """An entity that the host had loaded shows what a verb changed, and keeps what the host changed."""
    shop.member(verified=False)
    with shop.app.app_context():
        user = shop.db.session.scalars(sa.select(shop.User)).one()
        seen = [user.email_verified]
        if joined:
            user.name = "Vic"

        shop.accounts.verify_user("vic@example.com")

        seen.append(user.email_verified)
        assert (seen, user.name) == ([False, True], "Vic" if joined else None)


def test_verb_sees_an_account_of_the_host(shop: Shop) -> None:
    """A verb works on an account that the host has only just added."""
    with shop.app.app_context():
        shop.db.session.add(shop.User(email=ADA, email_key=ADA, created_at=shop.clock.now))

        shop.accounts.verify_user(ADA)
        shop.accounts.request_reset(ADA)

        shop.db.session.commit()
    assert shop.account(ADA).email_verified_at is not None
    assert [letter.template for letter in shop.letters] == ["reset"]


def test_verb_sees_what_others_committed(shop: Shop) -> None:
    """What the host has read does not freeze what a verb sees: it starts with a fresh snapshot."""
    shop.member()
    with shop.app.app_context():
        shop.db.session.scalars(sa.select(shop.User)).one()
        shop.change("vic@example.com", is_active=False)

        shop.accounts.request_reset("vic@example.com")

    assert [(row.state, row.last_error) for row in shop.rows("mail")] == [("dropped", "disabled")]


def test_refused_verb_leaves_the_host_alone(shop: Shop) -> None:
    """A verb that is refused undoes nothing of the host, and the host may go on."""
    shop.member()
    with shop.app.app_context():
        shop.db.session.add(shop.Note(text="mine"))

        with pytest.raises(Refusal) as refused:
            shop.accounts.create_user("vic@example.com", PASSWORD, verified=True)

        assert refused.value.code == "email_taken"
        assert shop.notes() == []
        shop.db.session.commit()
    assert shop.notes() == ["mine"]


def test_failed_verb_leaves_the_host_alone(shop: Shop) -> None:
    """A verb that fails after it has written undoes its own writes and none of the host's."""
    shop.hook = _fail
    with shop.app.app_context():
        shop.db.session.add(shop.Note(text="mine"))

        with pytest.raises(ZeroDivisionError):
            sign_up(shop)

        shop.db.session.add(shop.Note(text="more"))
        shop.db.session.commit()
    assert (shop.state(), shop.notes()) == (NOTHING, ["mine", "more"])


def test_hosts_own_fault_stays_the_hosts(shop: Shop) -> None:
    """An invalid object of the host raises the host's IntegrityError, and is not taken for a taken address."""
    with shop.app.app_context():
        shop.db.session.add_all([shop.Note(text="twice"), shop.Note(text="twice")])

        with pytest.raises(IntegrityError, match=r"(?s)note.*twice"):
            sign_up(shop)

        shop.db.session.rollback()
        sign_up(shop)
    assert (shop.state(), shop.notes()) == (SIGNED_UP, [])


def test_session_that_routes_by_statement(make_shop: MakeShop) -> None:
    """A session that chooses a database by what it is to run, as for replicas, is told each statement and the model."""
    shop = make_shop()
    shop.member()
    shop.letters.clear()
    routed: list[tuple[Any, str]] = []

    class Routing(FlaskSession):
        def get_bind(self, mapper: Any = None, clause: Any = None, bind: Any = None, **given: Any) -> Any:
            if clause is not None:
                routed.append((mapper, type(clause).__name__))
            return super().get_bind(mapper=mapper, clause=clause, bind=bind, **given)

    shop.db.session = orm.scoped_session(orm.sessionmaker(class_=Routing, db=shop.db))
    with shop.app.app_context():
        shop.accounts.request_reset("vic@example.com")
        shop.db.session.remove()

    assert [letter.template for letter in shop.letters] == ["reset"]
    assert {mapper for mapper, _ in routed} == {sa.inspect(shop.User)}
    assert [kind for _, kind in routed] == ["Delete", "Select", "Select", "Insert", "Insert"]


def test_session_that_the_host_replaced(make_shop: MakeShop) -> None:
    """A ``db.session`` that the host has put in place later is followed like the first one."""
    shop = make_shop()
    factory = shop.db.session.session_factory
    shop.db.session = orm.scoped_session(orm.sessionmaker(class_=factory.class_.__mro__[1], db=shop.db))
    assert shop.db.session.session_factory is not factory
    with shop.app.app_context():
        shop.db.session.add(shop.Note(text="mine"))
        sign_up(shop)
        assert shop.state() == NOTHING

        shop.db.session.commit()
        assert shop.state() == SIGNED_UP
        shop.db.session.remove()


def test_watching_twice(make_shop: MakeShop) -> None:
    """A session that is watched by several apps runs what waits for its commit once."""
    shop = make_shop()
    watch(shop.db.session.session_factory)
    calls: list[str] = []
    with shop.app.app_context():
        shop.db.session.add(shop.Note(text="mine"))
        units(shop).after_commit(lambda: calls.append("called"))

        shop.db.session.commit()
        shop.db.session.commit()

    assert calls == ["called"]


# After the commit


def test_connection_is_free_after_the_commit(make_shop: MakeShop) -> None:
    """What waits for the commit runs when the connection was given back, so that it may use one itself."""
    shop = make_shop()
    seen: list[int] = []

    def look() -> None:
        seen.append(shop.engine.pool.checkedout())  # type: ignore[attr-defined]
        seen.append(len(shop.db.session.scalars(sa.select(shop.User)).all()))
        shop.db.session.commit()

    with shop.app.app_context():
        units(shop).run(lambda: units(shop).after_commit(look), own=True)

    assert seen == [0, 0]


def test_failure_after_the_commit(make_shop: MakeShop, caplog: pytest.LogCaptureFixture) -> None:
    """What fails after the commit is logged, and the rest still runs."""
    shop = make_shop()
    calls: list[str] = []

    def work() -> None:
        units(shop).after_commit(lambda: calls.append("first"))
        units(shop).after_commit(lambda: _fail(None, None))
        units(shop).after_commit(lambda: calls.append("last"))

    with shop.app.app_context(), caplog.at_level(logging.ERROR, "accountflow.store"):
        units(shop).run(work, own=True)

    assert calls == ["first", "last"]
    assert "A call after the commit failed." in caplog.text


def test_commit_that_fails(make_shop: MakeShop) -> None:
    """A commit of the host that fails mails and announces nothing."""
    shop = make_shop()
    with shop.app.app_context():
        shop.db.session.add(shop.Note(text="mine"))
        sign_up(shop)
        sa.event.listen(shop.db.session(), "before_commit", lambda session: _fail(None, None), once=True)

        with pytest.raises(ZeroDivisionError):
            shop.db.session.commit()
        shop.db.session.rollback()

    assert (shop.state(), shop.notes()) == (NOTHING, [])


@pytest.mark.parametrize("shop_of_session", ["postgresql"], indirect=True)
def test_constraint_that_is_checked_at_the_commit(shop: Shop) -> None:
    """A constraint that only the commit checks undoes a unit of ours, and nothing is mailed."""
    with shop.engine.begin() as connection:
        connection.execute(
            sa.text("ALTER TABLE profile ALTER CONSTRAINT profile_user_id_fkey DEFERRABLE INITIALLY DEFERRED")
        )
    shop.hook = lambda user, form: shop.db.session.add(shop.Profile(user_id="00000000-0000-0000-0000-000000000000"))

    with shop.app.app_context():
        with pytest.raises(IntegrityError):
            sign_up(shop)
        shop.hook = lambda user, form: None
        before = shop.state()
        sign_up(shop)

    assert before == NOTHING
    assert shop.state() == SIGNED_UP


# The hook at sign-up


def test_hook_adds_rows(shop: Shop) -> None:
    """``on_signup`` may add a row that refers to the new account; both are durable together."""
    shop.hook = lambda user, form: shop.db.session.add(shop.Profile(user_id=user.id))

    with shop.app.app_context():
        sign_up(shop)

    assert (shop.state(), shop.count(shop.Profile)) == (SIGNED_UP, 1)


def test_hook_reads_the_form(shop: Shop) -> None:
    """``on_signup`` gets the entity and the form, and may flush and use savepoints."""
    seen = []

    def hook(user: Any, form: Any) -> None:
        with shop.db.session.begin_nested():
            shop.db.session.add(shop.Note(text=f"{form.name.data} is {user.email}"))
            shop.db.session.flush()
        seen.append(user.id)

    shop.hook = hook
    with shop.app.app_context():
        shop.accounts.signup(ADA, PASSWORD, name="Ada")

    assert (shop.state(), shop.notes()) == (SIGNED_UP, [f"Ada is {ADA}"])
    assert seen == [shop.account(ADA).id]


def test_hook_of_a_known_address(shop: Shop) -> None:
    """``on_signup`` is for new accounts: a second sign-up of an address does not call it."""
    calls: list[str] = []
    shop.hook = lambda user, form: calls.append(user.email)
    with shop.app.app_context():
        sign_up(shop)
        shop.clock.tick(61)

        sign_up(shop)

    assert calls == [ADA]


def test_hook_that_raises(shop: Shop) -> None:
    """A hook that raises undoes the sign-up and what it added itself, and its exception comes through."""

    def hook(user: Any, form: Any) -> None:
        shop.db.session.add(shop.Note(text="mine"))
        shop.db.session.flush()
        _fail(user, form)

    shop.hook = hook
    with shop.app.app_context():
        with pytest.raises(ZeroDivisionError):
            sign_up(shop)
        shop.db.session.commit()

    assert (shop.state(), shop.notes()) == (NOTHING, [])


@pytest.mark.parametrize("joined", [False, True], ids=["alone", "joined"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_hook_that_ends_the_unit(shop: Shop, end: str, joined: bool) -> None:
    """A hook that commits or rolls back gets one clear error, no mail goes out, and the session works afterwards."""
    shop.hook = lambda user, form: getattr(shop.db.session, end)()
    with shop.app.app_context():
        if joined:
            shop.db.session.add(shop.Note(text="mine"))

        with pytest.raises(HookCommitted):
            sign_up(shop)

        shop.hook = lambda user, form: None
        mailed = list(shop.letters)
        sign_up(shop, "bob@example.com")
    assert mailed == []
    assert [letter.to for letter in shop.letters] == ["bob@example.com"]


def test_hook_with_a_fault_of_its_own(shop: Shop) -> None:
    """A row of the hook that breaks a constraint of the host is the host's IntegrityError."""
    shop.hook = lambda user, form: shop.db.session.add_all([shop.Note(text="twice"), shop.Note(text="twice")])

    with shop.app.app_context(), pytest.raises(IntegrityError, match=r"(?s)note.*twice"):
        sign_up(shop)

    assert (shop.state(), shop.notes()) == (NOTHING, [])


# In our own routes


@pytest.fixture(params=["json", "html"])
def guest(request: pytest.FixtureRequest, make_shop: MakeShop) -> Program | Person:
    """A visitor of an app that adds a note before, and commits after, each POST."""
    shop = make_shop()

    def add() -> None:
        shop.db.session.add(shop.Note(text=f"note {next(numbers)}"))

    def commit(response: Response) -> Response:
        shop.db.session.commit()
        return response

    numbers = iter(range(100))
    visitor = Program(shop) if request.param == "json" else Person(shop)
    visitor.get("/auth/signup")
    before_each_request(shop, add)
    shop.app.after_request_funcs.setdefault(None, []).append(commit)
    return visitor


def test_route_commits_what_the_host_left(guest: Program | Person) -> None:
    """What a host left pending is committed with a flow that succeeds, as by any view of the host."""
    shop: Any = guest.site
    shop.app.after_request_funcs.clear()

    guest.signup(ADA)

    assert shop.state() == SIGNED_UP
    assert shop.notes()[-1] == ("note 0" if guest.kind == "json" else "note 1")


def test_route_that_refuses_leaves_it_pending(guest: Program | Person) -> None:
    """What a host left pending stays so when a flow is refused: the host may commit it, and we do not."""
    shop: Any = guest.site
    shop.hook = _refuse

    answer = guest.signup(ADA)
    with_commit = shop.notes()
    shop.app.after_request_funcs.clear()
    guest.signup(ADA)

    assert answer.status_code == 403
    assert len(with_commit) == (1 if guest.kind == "json" else 2)
    assert shop.notes() == with_commit
    assert shop.state() == NOTHING


def test_page_does_not_flush_what_the_host_left(make_shop: MakeShop) -> None:
    """Looking up ``current_user`` flushes nothing: an invalid object of the host is not our visitor's error."""
    shop = make_shop()
    shop.member()
    person = shop.person()
    person.login("vic@example.com")
    before_each_request(shop, lambda: shop.db.session.add(shop.Note(text=None)))

    page = person.get("/secret")

    assert (page.status_code, page.text) == (200, "secret of vic@example.com")
    assert shop.notes() == []


def test_route_with_a_fault_of_the_host(make_shop: MakeShop) -> None:
    """An invalid object that a host left pending is the host's IntegrityError in our route too."""
    shop = make_shop()
    before_each_request(shop, lambda: shop.db.session.add(shop.Note(text=None)))

    with pytest.raises(IntegrityError, match="note"):
        shop.program().signup(ADA)

    assert (shop.state(), shop.notes()) == (NOTHING, [])


def test_text_of_the_host_before_our_route(make_shop: MakeShop) -> None:
    """A statement that a host runs before each request does not keep a flow from being committed."""
    shop = make_shop()
    before_each_request(shop, lambda: shop.db.session.execute(sa.text("SELECT 1")))

    shop.program().signup(ADA)

    assert shop.state() == SIGNED_UP


# Tests of the host


def test_fixture_of_the_host(shop: Shop) -> None:
    """Whole flows work inside the one transaction of a host's test, and its rollback leaves nothing behind."""
    with shop.outer_transaction() as connection:
        program, person = shop.program(), shop.person()
        program.signup(ADA, name="Ada")
        program.verify(shop.last_link)
        pair = program.login(ADA)
        program.post("/auth/refresh", {"refresh_token": pair.json["refresh_token"]})
        shop.clock.tick(61)
        program.request_reset(email=ADA)
        program.reset(shop.last_link)
        person.login(ADA, OTHER_PASSWORD)
        secret = person.get("/secret").text
        with shop.app.app_context():
            shop.db.session.add(shop.Note(text="mine"))
            shop.accounts.disable_user(ADA)
            shop.db.session.commit()
        inside = connection.execute(sa.select(shop.tables.user.c.is_active)).scalar_one()
        outside = shop.state()

    assert secret == f"secret of {ADA}"
    assert inside in (False, 0)
    assert outside[:2] == (0, 0)
    assert [letter.template for letter in shop.letters] == ["verify", "reset", "password_changed"]
    assert shop.state()[:2] == (0, 0)
    assert (shop.notes(), shop.count(shop.tables.mail), shop.count(shop.tables.session)) == ([], 0, 0)


def test_fixture_survives_refusals_and_faults(shop: Shop) -> None:
    """A refusal or a fault inside a host's test leaves what the test made before."""
    with shop.outer_transaction() as connection:
        with shop.app.app_context():
            shop.accounts.create_user(ADA, PASSWORD, verified=True)
            with pytest.raises(Refusal):
                shop.accounts.create_user(ADA, PASSWORD, verified=True)
            shop.hook = _fail
            with pytest.raises(ZeroDivisionError):
                sign_up(shop, "bob@example.com")
            shop.hook = lambda user, form: shop.db.session.add_all([shop.Note(text="x"), shop.Note(text="x")])
            with pytest.raises(IntegrityError):
                sign_up(shop, "bob@example.com")
        found = connection.execute(sa.select(shop.tables.user.c.email)).scalars().all()

    assert found == [ADA]


def test_fixture_around_older_rows(shop: Shop) -> None:
    """Inside a host's test even a request that only notes its time writes nothing that outlives the test."""
    shop.member()
    person = shop.person()
    person.login("vic@example.com")
    before = shop.rows("session")
    shop.clock.tick(3600)

    with shop.outer_transaction() as connection:
        person.get("/secret").close()
        inside = connection.execute(sa.select(shop.tables.session.c.last_seen_at)).scalar_one()

    assert inside.replace(tzinfo=None) == shop.clock.now.replace(tzinfo=None)
    assert shop.rows("session") == before


# One connection for everything: sqlite://


@pytest.mark.parametrize("kick", ["inline", "thread"])
def test_sqlite_in_memory(make_shop: MakeShop, kick: str) -> None:
    """Everything works on ``sqlite://``, delivery included."""
    shop = make_shop({"ACCOUNTFLOW_MAIL_KICK": kick}, uri="sqlite://")
    program, person = shop.program(), shop.person()

    program.signup(ADA)
    assert program.verify(shop.last_link).json["status"] == "verified"
    person.login(ADA)
    shop.clock.tick(3600)

    assert person.get("/secret").text == f"secret of {ADA}"
    assert program.login(ADA).status_code == 200


def test_sqlite_in_memory_and_the_host(make_shop: MakeShop) -> None:
    """On ``sqlite://`` too a verb joins the host's writes, and a refusal undoes none of them."""
    shop = make_shop(uri="sqlite://")
    shop.member()
    with shop.app.app_context():
        shop.db.session.add(shop.Note(text="undone"))
        sign_up(shop)
        shop.db.session.rollback()
        undone = (shop.account(ADA), shop.notes(), list(shop.letters))

        shop.db.session.add(shop.Note(text="kept"))
        with pytest.raises(Refusal):
            shop.accounts.create_user("vic@example.com", PASSWORD, verified=True)
        shop.db.session.commit()

    assert undone == (None, [], [])
    assert shop.notes() == ["kept"]


# Reading


def test_reading_flushes_nothing(shop: Shop) -> None:
    """A read of ours does not flush what the host has added."""
    with shop.app.app_context():
        shop.db.session.add(shop.Note(text="mine"))

        with shop.statements() as seen:
            units(shop).read(lambda: services(shop).store.accounts.find(ADA))

        assert [statement.split()[0] for statement in seen] == ["SELECT"]
        assert len(shop.db.session.new) == 1


def test_reading_gives_the_connection_back(shop: Shop) -> None:
    """A read before a slow step gives the connection back, unless the host has begun to write on it."""
    pool: Any = shop.engine.pool
    with shop.app.app_context():
        store = services(shop).store
        units(shop).read(lambda: store.accounts.find(ADA))
        kept = pool.checkedout()
        units(shop).read(lambda: store.accounts.find(ADA), release=True)
        released = pool.checkedout()
        shop.db.session.execute(sa.insert(shop.Note).values(text="mine"))
        units(shop).read(lambda: store.accounts.find(ADA), release=True)
        begun = pool.checkedout()
        shop.db.session.rollback()

    assert (kept, released, begun) == (1, 0, 1)
    assert shop.notes() == []


def test_nothing_is_held_while_passwords_are_hashed(shop: Shop) -> None:
    """Whatever a flow has read, it holds no connection while it hashes, checks or asks about a password."""
    pool: Any = shop.engine.pool
    held: list[int] = []

    class Watching:
        def hash(self, password: str) -> str:
            held.append(pool.checkedout())
            return "hashed"

        def check(self, password: str, *stored: str | None) -> tuple[bool, ...]:
            held.append(pool.checkedout())
            return (True,)

    def is_breached(password: str) -> bool:
        held.append(pool.checkedout())
        return False

    with shop.app.app_context():
        tools = replace(services(shop), hasher=cast(Hasher, Watching()), is_breached=is_breached)
        steps: list[Callable[[], Any]] = [
            lambda: tools.hash(PASSWORD),
            lambda: tools.check(PASSWORD, None),
            lambda: tools.password_fault(PASSWORD, email=None),
        ]
        found = []
        for step in steps:
            units(shop).read(lambda: tools.store.accounts.find(ADA))
            found.append(step())

    assert found == ["hashed", True, None]
    assert held == [0, 0, 0]


def _read_and_run(shop: Shop) -> tuple[list[str], bool]:
    """Let a unit follow a read, between which somebody else writes; return what ended, and what the unit saw."""
    ended: list[str] = []
    vic = "vic@example.com"
    store, session = services(shop).store, shop.db.session

    def note(connection: sa.Connection) -> None:
        ended.append("commit")

    def look() -> Any:
        return session.scalars(sa.select(shop.User).where(shop.User.email_key == vic)).one()

    with shop.app.app_context():
        units(shop).read(look)
        shop.change(vic, is_active=False)
        sa.event.listen(shop.engine, "commit", note)
        try:
            seen = units(shop).run(lambda: (look().is_active, store.accounts.find(vic)), own=True)
        finally:
            sa.event.remove(shop.engine, "commit", note)
    assert seen[0] is seen[1].is_active
    return ended, not seen[0]


def test_unit_goes_on_where_its_read_began(shop: Shop) -> None:
    """After a read of ours that left neither snapshot nor lock, a unit saves a transaction, and sees what is new."""
    shop.member()

    ended, is_fresh = _read_and_run(shop)

    assert is_fresh
    assert len(ended) == (2 if shop.engine.dialect.name == "mysql" else 1)


@pytest.mark.parametrize(
    "options",
    [
        {"isolation_level": "REPEATABLE READ"},
        {"execution_options": {"isolation_level": "SERIALIZABLE"}},
        {"connect_args": {"options": "-c default_transaction_isolation=serializable"}},
    ],
    ids=["engine", "execution", "server"],
)
def test_unit_does_not_go_on_in_an_old_snapshot(options: dict[str, Any], tmp_path: Path, make_shop: MakeShop) -> None:
    """Where a transaction keeps to one snapshot, a unit begins a new one after a read."""
    with database("postgresql", tmp_path) as engine:
        uri = engine.url.render_as_string(hide_password=False)
        shop = make_shop({"SQLALCHEMY_ENGINE_OPTIONS": options}, uri=uri)
        shop.member()

        ended, is_fresh = _read_and_run(shop)

        assert (len(ended), is_fresh) == (2, True)
        shop.close()


def test_unit_does_not_go_on_where_sqlite_has_begun(make_shop: MakeShop) -> None:
    """Where the host lets SQLite begin with the first read, as SQLAlchemy's documentation shows, a unit begins anew."""
    shop = make_shop()
    shop.member()
    with shop.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")  # in which somebody else can write meanwhile
    shop.engine.dispose()  # the connections that are open already
    sa.event.listen(shop.engine, "connect", lambda connection, record: setattr(connection, "isolation_level", None))
    sa.event.listen(shop.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))

    ended, is_fresh = _read_and_run(shop)

    assert (len(ended), is_fresh) == (2, True)


def test_unit_does_not_go_on_in_a_read_of_the_host(shop: Shop) -> None:
    """What the host began to read ends before a unit, whatever we have read after it."""
    shop.member()
    ended: list[str] = []

    def note(connection: sa.Connection) -> None:
        ended.append("commit")

    with shop.app.app_context():
        shop.db.session.scalars(sa.select(shop.User)).one()
        units(shop).read(lambda: services(shop).store.accounts.find(ADA))
        sa.event.listen(shop.engine, "commit", note)
        try:
            units(shop).run(lambda: services(shop).store.accounts.find(ADA), own=True)
        finally:
            sa.event.remove(shop.engine, "commit", note)

    assert len(ended) == 2


@pytest.mark.parametrize("shop_of_session", ["sqlite"], indirect=True)
def test_sqlite_takes_the_write_lock_first(shop: Shop) -> None:
    """On SQLite the first statement of a unit takes the write lock, and changes nothing."""
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    sa.event.listen(shop.engine, "before_cursor_execute", note)
    try:
        with shop.app.app_context():
            units(shop).run(lambda: services(shop).store.accounts.find(ADA), own=True)
    finally:
        sa.event.remove(shop.engine, "before_cursor_execute", note)

    assert seen[0].split() == ["DELETE", "FROM", "accountflow_mail", "WHERE", "0", "=", "1"]
    assert seen[1].startswith("SELECT")


# Trying again

#: What each database is told in order to fail by itself, by the number or state of the fault.
FAULTS = {
    "postgresql": {
        "40001": "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END $$",
        "40P01": "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40P01'; END $$",
    },
    "mariadb": {
        number: f"SIGNAL SQLSTATE '{state}' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = 'no'"
        for number, state in (("1020", "HY000"), ("1205", "HY000"), ("1213", "40001"), ("1305", "42000"))
    },
}
SERVERS = [(name, number) for name, faults in FAULTS.items() for number in faults]


@pytest.mark.parametrize(("shop_of_session", "number"), SERVERS, indirect=["shop_of_session"])
def test_F15_transient_fault_that_passes(shop: Shop, number: str) -> None:
    """A unit that met a transient fault is run again as a whole, and then leaves its writes once."""
    statement = _fault(shop, number)
    tries: list[int] = []

    def work() -> str:
        tries.append(len(tries))
        shop.db.session.add(shop.Note(text="mine"))
        if len(tries) < 3:
            shop.db.session.execute(sa.text(statement))
        return "done"

    with shop.app.app_context():
        result = units(shop).run(work, own=True)

    assert (result, len(tries), shop.notes()) == ("done", 3, ["mine"])


@pytest.mark.parametrize(("shop_of_session", "number"), SERVERS, indirect=["shop_of_session"])
def test_F15_transient_fault_that_stays(shop: Shop, number: str) -> None:
    """A unit is run again three times at most; then it is refused as busy, with nothing left behind."""
    statement = _fault(shop, number)
    tries: list[int] = []

    def work() -> None:
        tries.append(len(tries))
        shop.db.session.add(shop.Note(text="mine"))
        shop.db.session.execute(sa.text(statement))

    with shop.app.app_context():
        with pytest.raises(Refusal) as refused:
            units(shop).run(work, own=True)
        sign_up(shop)

    assert (refused.value.code, refused.value.status) == ("busy", 503)
    assert refused.value.extra["retry_after"] in {1, 2, 3}
    assert isinstance(refused.value.__cause__, DBAPIError)
    assert (len(tries), shop.notes(), shop.state()) == (4, [], SIGNED_UP)


@pytest.mark.parametrize(("shop_of_session", "number"), [SERVERS[0], SERVERS[-1]], indirect=["shop_of_session"])
def test_joined_unit_is_not_run_again(shop: Shop, number: str) -> None:
    """A fault in a unit that has joined the host's transaction is the host's: part of it is not run again."""
    statement = _fault(shop, number)
    tries: list[int] = []

    def work() -> None:
        tries.append(len(tries))
        shop.db.session.execute(sa.text(statement))

    with shop.app.app_context():
        shop.db.session.add(shop.Note(text="mine"))
        with pytest.raises(DBAPIError):
            units(shop).run(work, own=True)
        shop.db.session.rollback()

    assert (len(tries), shop.notes()) == (1, [])


def test_other_fault_is_not_run_again(shop: Shop) -> None:
    """A fault that would come again is raised at once, and the session works afterwards."""
    tries: list[int] = []

    def work() -> None:
        tries.append(len(tries))
        shop.db.session.add(shop.Note(text="mine"))
        shop.db.session.execute(sa.text("SELECT * FROM no_such_table"))

    with shop.app.app_context():
        with pytest.raises(DBAPIError):
            units(shop).run(work, own=True)
        sign_up(shop)

    assert (len(tries), shop.notes(), shop.state()) == (1, [], SIGNED_UP)


@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_F15_deadlock(name: str, tmp_path: Path, make_shop: MakeShop) -> None:
    """Two units that lock each other out both come through: the one that the database ends is run again."""
    with database(name, tmp_path) as engine:
        options = {"connect_args": {"options": "-c deadlock_timeout=50ms"}} if name == "postgresql" else {}
        uri = engine.url.render_as_string(hide_password=False)
        shop = make_shop({"SQLALCHEMY_ENGINE_OPTIONS": options}, uri=uri)
        with shop.engine.begin() as connection:
            connection.execute(sa.insert(shop.Note), [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}])
        both_hold_one = threading.Barrier(2)
        tries: list[int] = []

        def touch(first: int, second: int) -> None:
            def work() -> None:
                tries.append(first)
                text = f"{first} was first, {len(tries)}"
                shop.db.session.execute(sa.update(shop.Note).where(shop.Note.id == first).values(text=text))
                if tries.count(first) == 1:
                    both_hold_one.wait(10)
                shop.db.session.execute(sa.update(shop.Note).where(shop.Note.id == second).values(text=f"{text}, too"))

            with shop.app.app_context():
                units(shop).run(work, own=True)

        results = at_once([lambda: touch(1, 2), lambda: touch(2, 1)])

        assert results == [None, None]
        assert len(tries) == 3
        shop.close()


@pytest.fixture
def locked(tmp_path: Path, make_shop: MakeShop) -> tuple[Shop, sa.Connection]:
    """An app on a SQLite file that waits 50 ms for a lock, and a connection of somebody else."""
    uri = f"sqlite:///{tmp_path / 'locked.db'}"
    shop = make_shop({"SQLALCHEMY_ENGINE_OPTIONS": {"connect_args": {"timeout": 0.05}}}, uri=uri)
    return shop, sa.create_engine(uri, poolclass=sa.NullPool).connect()


def test_F13_sqlite_locked(locked: tuple[Shop, sa.Connection]) -> None:
    """A database that stays locked is tried four times; then the visitor is told to come back, and nothing is left."""
    shop, other = locked
    tries: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        tries.append(statement)

    with other, other.begin():
        other.execute(sa.insert(shop.Note).values(text="somebody else's"))
        sa.event.listen(shop.engine, "before_cursor_execute", note)
        answer = shop.program().signup(ADA)
        sa.event.remove(shop.engine, "before_cursor_execute", note)

    assert answer.status_code == 503
    assert (answer.json["code"], answer.mimetype) == ("busy", "application/problem+json")
    assert int(answer.headers["Retry-After"]) in {1, 2, 3}
    assert len([statement for statement in tries if statement.startswith("DELETE FROM accountflow_mail")]) == 4
    assert (shop.state(), shop.notes()) == (NOTHING, ["somebody else's"])


def test_F13_sqlite_locked_for_a_while(locked: tuple[Shop, sa.Connection]) -> None:
    """A database that is locked for a moment is waited for."""
    shop, other = locked
    other.execute(sa.insert(shop.Note).values(text="somebody else's"))
    tries: list[str] = []

    def release(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        tries.append(statement)
        if len(tries) == 2:
            other.commit()

    sa.event.listen(shop.engine, "before_cursor_execute", release)
    with other, shop.app.app_context():
        sign_up(shop)
    sa.event.remove(shop.engine, "before_cursor_execute", release)

    assert (shop.state(), shop.notes()) == (SIGNED_UP, ["somebody else's"])


def test_F13_busy_timeout_is_waited_once(tmp_path: Path, make_shop: MakeShop) -> None:
    """A lock that has used up the host's busy timeout is not waited for again."""
    uri = f"sqlite:///{tmp_path / 'locked.db'}"
    shop = make_shop({"SQLALCHEMY_ENGINE_OPTIONS": {"connect_args": {"timeout": 1.1}}}, uri=uri)
    started = time.monotonic()

    with sa.create_engine(uri, poolclass=sa.NullPool).connect() as other, other.begin():
        other.execute(sa.insert(shop.Note).values(text="somebody else's"))
        answer = shop.program().signup(ADA)

    assert answer.json["code"] == "busy"
    assert time.monotonic() - started < 2.1


@pytest.mark.parametrize("shop_of_session", ["postgresql"], indirect=True)
def test_F14_connection_that_was_lost(shop: Shop) -> None:
    """A connection that the server ends in the middle of a unit is that unit's fault, and the next one works."""

    def work() -> None:
        shop.db.session.add(shop.Note(text="mine"))
        pid = shop.db.session.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        with shop.engine.connect() as other:
            other.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        shop.db.session.execute(sa.text("SELECT 1"))

    with shop.app.app_context():
        with pytest.raises(OperationalError):
            units(shop).run(work, own=True)
        sign_up(shop)

    assert (shop.state(), shop.notes()) == (SIGNED_UP, [])


@pytest.mark.parametrize(
    ("original", "transient"),
    [
        (psycopg.errors.SerializationFailure("could not serialize access"), True),
        (psycopg.errors.DeadlockDetected("deadlock detected"), True),
        (psycopg.errors.UniqueViolation("duplicate key"), False),
        (pymysql.err.OperationalError(1020, "Record has changed since last read"), True),
        (pymysql.err.OperationalError(1205, "Lock wait timeout exceeded"), True),
        (pymysql.err.OperationalError(1213, "Deadlock found"), True),
        (pymysql.err.OperationalError(1305, "SAVEPOINT sa_savepoint_1 does not exist"), True),
        (pymysql.err.IntegrityError(1062, "Duplicate entry '40001'"), False),
        (pymysql.err.OperationalError(), False),
    ],
)
def test_what_is_transient(original: Exception, transient: bool) -> None:
    """A fault is transient by the state or number that its driver gives, not by its words."""
    assert is_transient(DBAPIError("SELECT 1", None, original)) is transient


@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
def test_threads_on_a_small_pool(name: str, tmp_path: Path, make_shop: MakeShop) -> None:
    """Thirty-two logins and reset requests at once all come through on a pool of five connections."""
    with database(name, tmp_path) as engine:
        options: dict[str, Any] = {"pool_size": 5, "max_overflow": 0, "pool_timeout": 20, "poolclass": QueuePool}
        config = {
            "SQLALCHEMY_ENGINE_OPTIONS": options,
            "ACCOUNTFLOW_HASH_CONCURRENCY": 32,
            "ACCOUNTFLOW_MAIL_KICK": "worker",
        }
        shop = make_shop(config, uri=engine.url.render_as_string(hide_password=False))
        emails = [f"user{number}@example.com" for number in range(32)]
        with shop.app.app_context():
            for email in emails:
                shop.accounts.create_user(email, PASSWORD, verified=True)

        def visit(email: str) -> list[int]:
            program = shop.program()
            return [program.login(email).status_code, program.request_reset(email=email).status_code]

        results = at_once([lambda email=email: visit(email) for email in emails])  # type: ignore[misc]

        assert results == [[200, 202]] * 32
        assert shop.count(shop.tables.mail) == shop.count(shop.tables.session) == 32
        shop.close()


def test_pages_of_a_person_do_not_hold_connections(make_shop: MakeShop) -> None:
    """When a page is answered, the connection is back in the pool."""
    shop = make_shop()
    shop.member()
    person = shop.person()
    person.login("vic@example.com")
    shop.clock.tick(3600)

    assert forms_of(person.get("/auth/me"))

    assert shop.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def _fault(shop: Shop, number: str) -> str:
    return FAULTS["postgresql" if shop.engine.dialect.name == "postgresql" else "mariadb"][number]


def _fail(user: Any, form: Any) -> None:
    raise ZeroDivisionError


def _refuse(user: Any, form: Any) -> None:
    raise Refusal("signup_closed")
