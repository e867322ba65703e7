"""Logging out, as a program and as a person."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from answers import Script, bearer, cookies, heading, links, logged_in, session_cookie, with_cookie
from support import Person, Program, Site, forms_of

EMAIL = "vic@example.com"


def test_logging_out(site: Site, visitor: Program | Person) -> None:
    """A login that was ended opens nothing any more."""
    site.member()
    response = visitor.login(EMAIL)

    answer = visitor.logout(response)

    assert answer.status_code == {"json": 204, "html": 303}[visitor.kind]
    assert visitor.me(response).status_code == {"json": 401, "html": 303}[visitor.kind]
    assert site.rows("session")[0].revoked_at is not None
    if isinstance(visitor, Person):
        assert answer.headers["Location"] == "/auth/login"


def test_SES_04_a_copied_cookie_is_dead(site: Site) -> None:
    """A session cookie that was copied before the logout opens nothing after it."""
    site.member()
    person = site.person()
    person.login(EMAIL)
    thief = with_cookie(site, session_cookie(person))
    was_in = logged_in(thief)

    person.logout()

    assert was_in
    assert not logged_in(thief)


def test_SES_05_the_pair_is_dead(site: Site) -> None:
    """After a logout with the refresh token neither token works."""
    site.member()
    program = site.program()
    pair = program.login(EMAIL)

    program.logout(pair)

    assert program.me(pair).status_code == 401
    assert program.post("/auth/refresh", {"refresh_token": pair.json["refresh_token"]}).status_code == 401


def test_a_program_may_show_its_access_token_instead(site: Site) -> None:
    """A logout by bearer token ends the family of that token, and no other login."""
    site.member()
    program = site.program()
    pair, other = program.login(EMAIL), program.login(EMAIL)

    answer = program.post("/auth/logout", **bearer(pair))

    assert (answer.status_code, answer.data, "Content-Type" in answer.headers) == (204, b"", False)
    assert program.me(pair).status_code == 401
    assert program.me(other).status_code == 200


def test_SES_06_looking_at_the_page_logs_nobody_out(site: Site) -> None:
    """The logout page has one button, and does nothing until it is pressed."""
    site.member()
    person = site.person()
    person.login(EMAIL)

    page = person.get("/auth/logout")

    assert heading(page) == "Log out"
    assert [form.action for form in forms_of(page)] == ["/auth/logout"]
    assert links(page) == ["/"]
    assert logged_in(person)
    assert site.program().get("/auth/logout").json["fields"][0]["name"] == "refresh_token"


def test_SES_06_a_logout_needs_the_token(site: Site) -> None:
    """A logout that another page sent is refused, shows the button again, and changes nothing; the button works."""
    site.member()
    person = site.person()
    person.login(EMAIL)

    page = person.send("/auth/logout", {})

    assert (page.status_code, heading(page)) == (403, "Log out")
    assert logged_in(person)
    assert person.submit(page).status_code == 303
    assert not logged_in(person)


def test_a_program_with_a_cookie_needs_the_token(site: Site) -> None:
    """A program that is logged in by cookie cannot log out without the token, and can with it."""
    site.member()
    script = Script(site)
    script.log_in()

    refused = script.post("/auth/logout")
    was_in = logged_in(script)
    done = script.post("/auth/logout", x_csrf_token=script.token())

    assert (refused.status_code, script.code(refused), was_in) == (403, "csrf_failed", True)
    assert done.status_code == 204
    assert not logged_in(script)
    assert site.rows("session")[0].revoked_at is not None


def test_TOK_08_a_bearer_logout_leaves_the_cookie_beside_it_alone(site: Site) -> None:
    """A logout by bearer token ends that login only; the browser that it came from stays logged in."""
    site.member()
    person = site.person()
    person.login(EMAIL, remember=None)
    script = Script(site, person.client)
    pair = script.login(EMAIL)

    answer = script.post("/auth/logout", **bearer(pair))

    assert answer.status_code == 204
    assert cookies(answer) == []
    assert logged_in(person)
    assert script.me(pair).status_code == 401


def test_SES_07_logging_out_twice(site: Site, visitor: Program | Person) -> None:
    """Logging out again, or without a login, is no error."""
    site.member()
    response = visitor.login(EMAIL)

    found = [visitor.logout(response).status_code for _ in range(2)]
    strange = visitor.post("/auth/logout") if isinstance(visitor, Program) else site.person().logout()

    assert {*found, strange.status_code} == {{"json": 204, "html": 303}[visitor.kind]}


@pytest.mark.parametrize("token", ["made-up", "a.b", "", "\0", "x" * 60_000])
def test_a_refresh_token_that_is_none_is_no_error(site: Site, token: str) -> None:
    """A logout that names no login of ours ends nothing and says so like any other."""
    response = site.program().post("/auth/logout", {"refresh_token": token})

    assert response.status_code == 204


def test_SES_08_the_cookie_is_cleared(site: Site) -> None:
    """A logout empties the browser's session, the host's keys too, by the attributes that it was set with."""
    site.member()
    person = site.person()
    answer = person.login(EMAIL, remember=None)
    with person.client.session_transaction() as session:
        session["cart"] = ["hat"]

    out = person.logout()

    attributes = [header.partition("; ")[2] for header in (answer.headers["Set-Cookie"], out.headers["Set-Cookie"])]
    assert attributes[0] in attributes[1]
    assert person.client.get_cookie("session") is None


def test_the_token_of_a_form_from_before_the_logout_is_dead(site: Site) -> None:
    """A form that was opened before a logout cannot be sent after it."""
    site.member()
    person = site.person()
    person.login(EMAIL)
    page = person.get("/auth/me")

    person.logout()

    assert person.submit(page, 0).status_code == 403


def test_the_site_chooses_where_a_logout_leads(make_site: Callable[..., Site]) -> None:
    """AFTER_LOGOUT is where a browser is sent."""
    site = make_site({"ACCOUNTFLOW_AFTER_LOGOUT": "/bye?from=here"})
    site.member()
    person = site.person()
    person.login(EMAIL)

    assert person.logout().headers["Location"] == "/bye?from=here"
