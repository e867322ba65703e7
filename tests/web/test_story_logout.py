"""Logging out, as a program and as a person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from answers import Script, bearer, cookies, heading, links, logged_in, rows, session_cookie, tags, with_cookie
from support import Person, Program, Site, forms_of

from flask_accountflow import events

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
    """The logout page has a button for this device and one for all, and does nothing until one is pressed."""
    site.member()
    person = site.person()
    person.login(EMAIL)

    page = person.get("/auth/logout")

    assert heading(page) == "Log out"
    assert [(form.action, form.buttons) for form in forms_of(page)] == [("/auth/logout", ["", "y"])]
    assert [one.get("name") for one in tags(page, "button")] == [None, "all"]
    assert links(page) == ["/"]
    assert logged_in(person)
    fields = site.program().get("/auth/logout").json["fields"]
    assert [(one["name"], one["type"]) for one in fields] == [("refresh_token", "string"), ("all", "boolean")]


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

    sent = [*answer.headers.getlist("Set-Cookie"), *out.headers.getlist("Set-Cookie")]
    attributes = [header.partition("; ")[2] for header in sent if header.startswith("session=")]
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


# On all devices

OTHER_EMAIL = "eve@example.com"
WAYS = pytest.mark.parametrize("way", ["page", "cookie", "bearer", "refresh token"])


def leave(site: Site, way: str) -> Callable[..., Any]:
    """Log in, and return how this login is sent away on all devices; ``sent`` are other fields."""
    if way == "page":
        person = site.person()
        person.login(EMAIL)
        page = person.get("/auth/logout")
        return lambda **sent: person.submit(page, **{"all": "y", **sent})
    if way == "cookie":
        script = Script(site)
        script.log_in()
        token = script.token()
        return lambda **sent: script.post("/auth/logout", {"all": True, **sent}, x_csrf_token=token)
    program = site.program()
    pair = program.login(EMAIL)
    if way == "bearer":
        return lambda **sent: program.post("/auth/logout", {"all": True, **sent}, **bearer(pair))
    return lambda **sent: program.post(
        "/auth/logout", {"all": True, "refresh_token": pair.json["refresh_token"], **sent}
    )


@WAYS
def test_logging_out_on_all_devices(site: Site, way: str) -> None:
    """Who asks for it is logged out everywhere from the next request on; other people stay where they are."""
    site.member()
    site.member(OTHER_EMAIL)
    theirs, stranger = site.program().login(OTHER_EMAIL), site.program()
    person, pair = site.person(), site.program().login(EMAIL)
    person.login(EMAIL)
    send = leave(site, way)

    answer = send()

    assert answer.status_code == (303 if way == "page" else 204)
    assert not logged_in(person)
    assert stranger.me(pair).status_code == 401
    assert stranger.post("/auth/refresh", {"refresh_token": pair.json["refresh_token"]}).status_code == 401
    assert stranger.me(theirs).status_code == 200
    assert [row.revoked_at is None for row in site.rows("session")].count(True) == 1
    if way == "page":
        assert answer.headers["Location"] == "/auth/login"


@WAYS
def test_the_other_button_ends_one_login(site: Site, way: str) -> None:
    """Without the wish for all devices the others go on."""
    site.member()
    person = site.person()
    person.login(EMAIL)
    send = leave(site, way)

    send(all=None if way == "page" else False)

    assert logged_in(person)
    assert [row.revoked_at is None for row in site.rows("session")].count(True) == 1


def test_null_is_no_wish(site: Site) -> None:
    """A member that is null is absent, and so ends one login only."""
    site.member()
    program = site.program()
    pair, other = program.login(EMAIL), program.login(EMAIL)

    program.post("/auth/logout", {"all": None}, **bearer(pair))

    assert [program.me(one).status_code for one in (pair, other)] == [401, 200]


@pytest.mark.parametrize("value", ["yes", "true", 1, 0, [], {}])
def test_what_is_no_truth_is_a_fault_of_the_body(site: Site, value: object) -> None:
    """Whether all devices are meant is said by true or false, and a logout that says something else ends nothing."""
    site.member()
    program = site.program()
    pair = program.login(EMAIL)

    answer = program.post("/auth/logout", {"all": value}, **bearer(pair))

    assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, "all")
    assert program.me(pair).status_code == 200


def test_CSR_01_a_cookie_alone_logs_nobody_out_everywhere(site: Site) -> None:
    """Without the token nothing ends, in either format."""
    site.member()
    person = site.person()
    person.login(EMAIL)
    before = rows(site)

    page = person.send("/auth/logout", {"all": "y"})
    answer = Script(site, person.client).post("/auth/logout", {"all": True})

    assert (page.status_code, answer.status_code) == (403, 403)
    assert rows(site) == before


@pytest.mark.parametrize("over", ["logged out", "expired", "idle", "from before a reset"])
@pytest.mark.parametrize("format", ["page", "cookie"])
def test_a_copied_cookie_that_is_over_ends_nothing_else(make_site: Callable[..., Site], over: str, format: str) -> None:
    """Who holds a copy of a cookie that opens nothing any more cannot log its owner out."""
    site = make_site({"ACCOUNTFLOW_SESSION_IDLE_MAX_AGE": 3600})
    site.member()
    person = site.person()
    person.login(EMAIL, remember=None if over == "idle" else "y")
    copy = with_cookie(site, session_cookie(person))
    copied_page, token = copy.get("/auth/logout"), Script(site, copy.client).token()
    if over == "logged out":
        person.logout()
    elif over == "from before a reset":
        with site.app.app_context():
            site.accounts.revoke_sessions(EMAIL)
    else:
        site.clock.tick({"expired": 14 * 86400, "idle": 3600}[over])
    owner, pair = site.person(), site.program().login(EMAIL)
    owner.login(EMAIL)

    if format == "page":
        answer = copy.submit(copied_page, all="y")
    else:
        answer = Script(site, copy.client).post("/auth/logout", {"all": True}, x_csrf_token=token)

    assert answer.status_code == {"page": 303, "cookie": 204}[format]
    assert logged_in(owner)
    assert site.program().me(pair).status_code == 200


def test_a_replaced_refresh_token_ends_its_family_only(site: Site) -> None:
    """A refresh token that was replaced may be a thief's: with it all devices cannot be logged out."""
    site.member()
    program = site.program()
    pair, other = program.login(EMAIL), program.login(EMAIL)
    fresh = program.post("/auth/refresh", {"refresh_token": pair.json["refresh_token"]})

    answer = program.post("/auth/logout", {"refresh_token": pair.json["refresh_token"], "all": True})

    assert answer.status_code == 204
    assert [program.me(one).status_code for one in (fresh, other)] == [401, 200]


@pytest.mark.parametrize("all_devices", [True, False])
def test_AUD_01_what_a_logout_tells(own_site: Site, all_devices: bool) -> None:
    """A logout is told as that, one on all devices as the end of sessions, and each once."""
    told: list[tuple[str, str]] = []

    def ears(name: str) -> Callable[..., None]:
        return lambda sender, **payload: told.append((name, payload["user_id"]))

    listening = {name: ears(name) for name in ("logged_out", "sessions_revoked")}
    for name, ear in listening.items():
        getattr(events, name).connect(ear, sender=own_site.app)
    own_site.member()
    own_site.program().login(EMAIL)
    program = own_site.program()
    pair = program.login(EMAIL)
    body = {"all": all_devices, "refresh_token": pair.json["refresh_token"]}

    for _ in range(2):
        program.post("/auth/logout", body, **bearer(pair))

    user_id = str(own_site.account(EMAIL).id)
    assert told == [("sessions_revoked" if all_devices else "logged_out", user_id)]
