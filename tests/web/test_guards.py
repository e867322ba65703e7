"""The decorators of the host's views."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
import sqlalchemy as sa
from answers import Script, bearer, heading, links
from flask import Blueprint, Response
from support import PASSWORD, START, Person, Program, Site

from flask_accountflow import admin_required, current_user, fresh_login_required, login_required, verified_required

EMAIL = "vic@example.com"
GUARDED = ["/secret", "/proved", "/admin", "/vault"]


def enter(visitor: Any) -> dict[str, str]:
    """Log in, and return the headers that show it."""
    response = visitor.login(EMAIL)
    return bearer(response) if isinstance(visitor, Program) else {}


@pytest.mark.parametrize("path", GUARDED)
def test_a_stranger_is_asked_to_log_in(site: Site, visitor: Program | Person, path: str) -> None:
    """A stranger is sent to the login page and back, or told so as a program."""
    site.member(admin=True)

    response = visitor.get(path)

    if isinstance(visitor, Program):
        assert (response.status_code, visitor.code(response)) == (401, "authentication_required")
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.json["instance"] == path
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="Shop"'
    else:
        assert response.headers["Location"] == f"/auth/login?next={path}"
        back = visitor.submit(visitor.follow(response), email=EMAIL, password=PASSWORD)
        assert visitor.follow(back).status_code == 200


@pytest.mark.parametrize("path", GUARDED)
def test_who_may_enters(site: Site, visitor: Program | Person, path: str) -> None:
    """Who has what a view asks for gets the view's own answer."""
    site.member(admin=True)
    headers = enter(visitor)

    response = visitor.get(path, **headers)

    assert response.status_code == 200
    assert response.text == {"/secret": f"secret of {EMAIL}"}.get(path, path[1:])


@pytest.mark.parametrize(
    ("path", "change", "code", "sentence"),
    [
        ("/admin", {}, "forbidden", "You may not do this"),
        ("/proved", {"email_verified_at": None}, "email_unverified", "Confirm your email first"),
    ],
)
def test_who_may_not_is_told(
    site: Site, visitor: Program | Person, path: str, change: dict[str, Any], code: str, sentence: str
) -> None:
    """Who is logged in and may not enter gets 403 in his format, with a way on."""
    site.member()
    headers = enter(visitor)
    if change:
        site.change(EMAIL, **change)

    response = visitor.get(path, **headers)

    assert response.status_code == 403
    if isinstance(visitor, Program):
        assert visitor.code(response) == code
        assert response.json.get("resend_url") == ("/auth/verify/resend" if code == "email_unverified" else None)
    else:
        assert heading(response) == sentence
        assert links(response)


def test_a_cookie_of_a_program_is_a_login_too(site: Site) -> None:
    """A program in a browser enters by the browser's cookie."""
    site.member()
    script = Script(site)
    script.log_in()

    assert script.get("/secret").text == f"secret of {EMAIL}"


@pytest.mark.usefixtures("own_site")
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_what_was_sent_is_not_asked_for_again(site: Site, visitor: Program | Person, method: str) -> None:
    """A stranger's post leads to the login page without a way back to it."""

    @site.app.route("/order", methods=["POST", "PUT", "DELETE"])
    @login_required
    def order() -> str:
        return "ordered"

    response = visitor.client.open("/order", method=method, headers=visitor.headers)

    if isinstance(visitor, Program):
        assert response.status_code == 401
    else:
        assert (response.status_code, response.headers["Location"]) == (303, "/auth/login")


@pytest.mark.usefixtures("own_site")
@pytest.mark.parametrize("where", ["app", "blueprint"])
def test_a_host_that_catches_everything_does_not_catch_ours(site: Site, visitor: Program | Person, where: str) -> None:
    """Handlers of the host for every exception and every status leave our answers alone."""
    part = Blueprint("part", __name__)

    def handle(error: Exception) -> tuple[str, int]:
        return "the host's own", 418

    (site.app if where == "app" else part).register_error_handler(Exception, handle)
    for status in (401, 403):
        (site.app if where == "app" else part).register_error_handler(status, handle)

    @part.get("/inner")
    @login_required
    def inner() -> str:
        return "inner"

    @part.get("/inner/admin")
    @admin_required
    def inner_admin() -> str:
        return "admin"

    @part.get("/inner/fault")
    @login_required
    def fault() -> str:
        raise ValueError("of the host")

    site.app.register_blueprint(part)
    site.member()

    stranger = visitor.get("/inner")
    headers = enter(visitor)
    found = [visitor.get(f"/inner{path}", **headers) for path in ("", "/admin", "/fault")]

    assert stranger.status_code == {"json": 401, "html": 303}[visitor.kind]
    assert [answer.status_code for answer in found] == [200, 403, 418]
    assert "the host's own" not in stranger.text + found[1].text


@pytest.mark.usefixtures("own_site")
def test_a_view_keeps_its_name_and_its_arguments(site: Site) -> None:
    """A decorated view is called as it is written, and keeps its name for url_for."""

    @site.app.get("/order/<int:number>")
    @verified_required
    def show_order(number: int, *, more: str = "more") -> tuple[str, int]:
        """Show an order."""
        return f"{number} {more}", 201

    site.member()
    person = site.person()
    person.login(EMAIL)

    response = person.get("/order/7")

    assert (response.status_code, response.text) == (201, "7 more")
    assert (show_order.__name__, show_order.__doc__) == ("show_order", "Show an order.")


@pytest.mark.usefixtures("own_site")
def test_a_guarded_page_takes_one_statement(site: Site, visitor: Program | Person) -> None:
    """Who asks is found by one statement, however many guards and pages look at it."""

    @site.app.get("/thrice")
    @login_required
    @verified_required
    def thrice() -> str:
        return f"{current_user.email} {current_user.is_admin} {bool(current_user)}"

    site.member()
    headers = enter(visitor)

    with site.statements() as statements:
        response = visitor.get("/thrice", **headers)

    assert response.text == f"{EMAIL} False True"
    assert len(statements) == 1


def test_a_page_that_does_not_ask_takes_none(site: Site, visitor: Program | Person) -> None:
    """A page that does not ask who is there runs no statement, for whoever is logged in."""
    site.member()
    headers = enter(visitor)

    with site.statements() as statements:
        response = visitor.get("/untouched", **headers)

    assert response.text == "untouched"
    assert statements == []


def test_a_stranger_costs_no_statement(site: Site, visitor: Program | Person) -> None:
    """Asking who a stranger is runs no statement."""
    with site.statements() as statements:
        response = visitor.get("/")

    assert response.text == "home of None"
    assert statements == []


@pytest.mark.usefixtures("own_site")
def test_a_refusal_of_the_host_under_its_own_headers(site: Site) -> None:
    """An answer of ours on a page of the host can be changed by the host's hooks like any other."""

    @site.app.after_request
    def mark(response: Any) -> Any:
        response.headers["X-Host"] = "here"
        return response

    found = [site.program().get("/secret"), site.person().get("/secret")]

    assert [answer.headers["X-Host"] for answer in found] == ["here", "here"]


def test_SES_13_a_page_for_members_is_not_kept_by_the_browser(site: Site) -> None:
    """A page behind a guard is sent with no-store, and one for everybody is left alone."""
    site.member()
    person = site.person()
    person.login("vic@example.com")

    member_page, public_page = person.get("/secret"), person.get("/")

    assert member_page.headers["Cache-Control"] == "no-store"
    assert "Cache-Control" not in public_page.headers


def test_a_view_may_say_how_long_its_page_is_kept(own_site: Site) -> None:
    """Cache-Control that a guarded view sets stays as it is."""

    @own_site.app.get("/report")
    @login_required
    def report() -> Response:
        return Response("report", headers={"Cache-Control": "private, max-age=60"})

    own_site.member()
    person = own_site.person()
    person.login("vic@example.com")

    found = person.get("/report")

    assert found.headers["Cache-Control"] == "private, max-age=60"


# Everybody at every door

IN, OUT = "in", "authentication_required"
STALE, UNPROVED, NO_ADMIN = "fresh_login_required", "email_unverified", "forbidden"
#: Who comes, and what each of GUARDED answers.
VISITORS = {
    "stranger": (OUT, OUT, OUT, OUT),
    "member": (IN, IN, NO_ADMIN, IN),
    "unproved member": (IN, UNPROVED, NO_ADMIN, IN),
    "stale member": (IN, IN, NO_ADMIN, STALE),
    "admin": (IN, IN, IN, IN),
    "stale admin": (IN, IN, IN, STALE),
    "disabled member": (OUT, OUT, OUT, OUT),
    "disabled admin": (OUT, OUT, OUT, OUT),
    "member who logged out": (OUT, OUT, OUT, OUT),
}


def coming(site: Site, who: str, credential: str) -> Callable[[str, str], Any]:
    """Return how somebody asks for a path and a type."""
    site.member(admin="admin" in who)
    script = Script(site)
    headers: dict[str, str] = {}
    if who != "stranger" and credential == "cookie":
        script.log_in()
    elif who != "stranger":
        headers = {"Authorization": bearer(script.login(EMAIL))["authorization"]}
    with site.app.app_context():
        if "unproved" in who:
            site.change(EMAIL, email_verified_at=None)
        if "disabled" in who:
            site.accounts.disable_user(EMAIL)
        if "logged out" in who:
            site.accounts.revoke_sessions(EMAIL)
        if "stale" in who:
            then = START - timedelta(seconds=900)
            site.db.session.execute(sa.update(site.tables.session).values(authenticated_at=then))
            site.db.session.commit()
    return lambda path, accept: script.client.get(path, headers={"Accept": accept, **headers})


@pytest.mark.parametrize("who", VISITORS)
@pytest.mark.parametrize("credential", ["cookie", "bearer"])
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_everybody_at_every_door(site: Site, who: str, credential: str, accept: str) -> None:
    """Each guard lets in and refuses the same people by cookie and by token, and answers each in his own format."""
    ask = coming(site, who, credential)

    found = {path: ask(path, accept) for path in GUARDED}

    told = _told_in_json if accept == "application/json" else _told_in_html
    assert tuple(told(path, answer) for path, answer in found.items()) == VISITORS[who]


def _told_in_json(path: str, answer: Any) -> str:
    if answer.status_code == 200:
        return IN
    assert answer.mimetype == "application/problem+json"
    assert answer.json["instance"] == path
    assert answer.status_code == answer.json["status"] == (401 if answer.json["code"] in {OUT, STALE} else 403)
    assert ("WWW-Authenticate" in answer.headers) is (answer.status_code == 401)
    return str(answer.json["code"])


def _told_in_html(path: str, answer: Any) -> str:
    if answer.status_code == 200:
        return IN
    if answer.status_code == 303:
        ways = {f"/auth/login?next={path}": OUT, f"/auth/login/fresh?next={path}": STALE}
        return ways[answer.headers["Location"]]
    assert (answer.status_code, answer.mimetype) == (403, "text/html")
    return {"Confirm your email first": UNPROVED, "You may not do this": NO_ADMIN}[heading(answer)]


GUARDS = (login_required, verified_required, admin_required, fresh_login_required)


@pytest.mark.usefixtures("own_site")
@pytest.mark.parametrize("who", VISITORS)
def test_guards_are_stacked_in_any_order(site: Site, who: str) -> None:
    """With two guards one after the other only those come in whom both let in, and the first that refuses answers."""
    paths: dict[str, tuple[str, str]] = {}
    answers = dict(zip(GUARDS, VISITORS[who], strict=True))
    for outer, inner in permutations(GUARDS, 2):
        path = f"/{outer.__name__}/{inner.__name__}"
        site.app.add_url_rule(path, path, outer(inner(lambda: IN)))
        refusals = [answers[guard] for guard in (outer, inner) if answers[guard] != IN]
        paths[path] = (refusals or [IN])[0]
    ask = coming(site, who, "bearer")

    with site.statements() as statements:
        found = {path: _told_in_json(path, ask(path, "application/json")) for path in paths}

    assert found == paths
    assert len(statements) == (0 if who == "stranger" else len(paths))


@pytest.mark.usefixtures("own_site")
def test_asynchronous_views(site: Site) -> None:
    """An asynchronous view is guarded like any other, with its arguments, under one guard or several."""

    def run(view: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: asyncio.run(view(*args, **kwargs))

    # The way that Flask documents for hosts without asgiref.
    site.app.async_to_sync = run  # type: ignore[method-assign]

    async def look(number: int) -> str:
        await asyncio.sleep(0)
        return f"{number} of {current_user.email}"

    guarded: dict[str, Any] = {guard.__name__: guard(look) for guard in GUARDS}
    guarded["all"] = login_required(verified_required(admin_required(fresh_login_required(look))))
    for name, view in guarded.items():
        site.app.add_url_rule(f"/{name}/<int:number>", name, view)
    ask = coming(site, "admin", "cookie")

    found = [ask(f"/{name}/7", "text/html").text for name in guarded]
    strangers = [site.program().get(f"/{name}/7").status_code for name in guarded]

    assert found == [f"7 of {EMAIL}"] * 5
    assert strangers == [401] * 5


@pytest.mark.parametrize("path", GUARDED)
def test_SES_13_every_guard_keeps_its_page_private(site: Site, path: str) -> None:
    """What a guard lets in to, and what it answers to others, is kept by no cache."""
    ask = coming(site, "admin", "cookie")

    assert ask(path, "text/html").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/secret", "/vault"])
def test_who_is_sent_away_is_sent_away_by_himself(site: Site, visitor: Program | Person, path: str) -> None:
    """The answer to a stranger depends on what he takes and who he is, so no cache keeps it for another."""
    answer = visitor.get(path)

    assert answer.headers["Cache-Control"] == "no-store"
    assert {"Accept", "Cookie"} <= set(answer.vary)


@pytest.mark.parametrize(
    ("path", "change", "way_on"),
    [
        ("/proved", {"email_verified_at": None}, ("Email me a link", "/auth/verify/resend")),
        ("/admin", {"is_admin": False}, ("Continue to Shop", "/")),
    ],
)
def test_who_may_not_is_led_on(site: Site, path: str, change: dict[str, Any], way_on: tuple[str, str]) -> None:
    """The page that keeps a member out leads to what helps, and not to a login that he has."""
    site.member()
    person = site.person()
    person.login("vic@example.com")
    site.change("vic@example.com", **change)

    page = person.get(path)

    assert page.status_code == 403
    assert way_on[0] in page.text
    assert way_on[1] in links(page)
    assert "/auth/login" not in links(page)
