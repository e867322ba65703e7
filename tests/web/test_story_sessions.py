"""Looking at one's logins and ending them, as a program, as a program in a browser, and as a person."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from answers import Script, bearer, cookies, heading, links, logged_in, rows, session_cookie, tags, with_cookie, words
from support import PASSWORD, Person, Program, Site, forms_of, some_id

from flask_accountflow import events

EMAIL = "vic@example.com"
OTHER_EMAIL = "eve@example.com"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:131.0) Gecko/20100101 Firefox/131.0"
SAFARI = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Version/18.1 Mobile Safari/604.1"


class Caller:
    """A JSON client that is logged in, and shows it with every request."""

    def __init__(self, site: Site, email: str = EMAIL) -> None:
        self.site = site
        self.login(email)

    def login(self, email: str) -> None:
        raise NotImplementedError

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        raise NotImplementedError

    def list(self) -> list[dict[str, Any]]:
        """Return the logins that are listed."""
        response = self.send("get", "/auth/sessions")
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json["sessions"]
        return found

    @property
    def id(self) -> str:
        """The id of this caller's login."""
        return next(str(one["id"]) for one in self.list() if one["current"])

    @property
    def is_in(self) -> bool:
        """Whether this caller is still logged in."""
        return bool(self.send("get", "/auth/me").status_code == 200)


class ByToken(Caller):
    """A program with a pair of tokens."""

    kind = "api"

    def login(self, email: str) -> None:
        self.visitor = Program(self.site)
        self.pair = self.visitor.login(email)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        shown = {**self.visitor.headers, "Authorization": f"Bearer {self.pair.json['access_token']}"}
        return self.visitor.client.open(path, method=method.upper(), json=body, headers={**shown, **headers})


class ByCookie(Caller):
    """A program in a browser, with the cookie and the token that goes with it."""

    kind = "browser"

    def login(self, email: str) -> None:
        self.visitor = Script(self.site)
        self.visitor.log_in(email, remember=False)  # or Flask renews the cookie with every answer
        self.token = self.visitor.token()

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        shown = {**self.visitor.headers, "X-CSRF-Token": self.token}
        return self.visitor.client.open(path, method=method.upper(), json=body, headers={**shown, **headers})


@pytest.fixture(params=[ByToken, ByCookie], ids=["bearer", "cookie"])
def caller(request: pytest.FixtureRequest, site: Site) -> Caller:
    """A member who is logged in, by a pair of tokens, then by cookie."""
    site.member()
    made: Caller = request.param(site)
    return made


def refresh(site: Site, pair: Any) -> Any:
    """Exchange the refresh token of a pair."""
    return site.program().post("/auth/refresh", {"refresh_token": pair.json["refresh_token"]})


def person_in(site: Site, email: str = EMAIL, **headers: str) -> Person:
    """Return a browser that is logged in, and tells who it is."""
    person = site.person()
    person.headers = {**person.headers, **headers}
    person.login(email)
    return person


# The list


def test_SES_14_the_list(site: Site, caller: Caller) -> None:
    """A program sees every login of its user with kind, device and times in UTC, and which one is its own."""
    site.clock.tick(90)
    person_in(site, **{"User-Agent": FIREFOX})

    response = caller.send("get", "/auth/sessions")

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert [set(one) for one in response.json["sessions"]] == [
        {"id", "kind", "user_agent", "ip", "created_at", "last_seen_at", "current"}
    ] * 2
    theirs, own = response.json["sessions"]
    assert {name: theirs[name] for name in theirs if name != "id"} == {
        "kind": "browser",
        "user_agent": FIREFOX,
        "ip": "127.0.0.1",
        "created_at": "2026-11-21T08:31:30Z",
        "last_seen_at": "2026-11-21T08:31:30Z",
        "current": False,
    }
    assert (own["kind"], own["current"]) == (caller.kind, True)
    assert own["created_at"] == own["last_seen_at"] == "2026-11-21T08:30:00Z"
    assert {theirs["id"], own["id"]} == {str(row.id) for row in site.rows("session")}


def test_both_kinds_of_callers_see_the_same(site: Site) -> None:
    """What is listed does not depend on who asks, but for the mark."""
    site.member()
    callers = [ByToken(site), ByCookie(site)]

    found = [caller.list() for caller in callers]

    assert [[one["kind"] for one in listed if one["current"]] for listed in found] == [["api"], ["browser"]]
    for listed in found:
        for one in listed:
            del one["current"]
    assert found[0] == found[1]
    assert len(found[0]) == 2


def test_what_opens_nothing_is_not_listed(make_site: Callable[..., Site]) -> None:
    """A login that was ended, ran out, lay idle, is somebody else's or from before a reset is not listed."""
    site = make_site({"ACCOUNTFLOW_SESSION_IDLE_MAX_AGE": 3000, "ACCOUNTFLOW_SESSION_MAX_AGE": 3500})
    site.member()
    site.member(OTHER_EMAIL)
    ByToken(site)
    with site.app.app_context():
        site.accounts.revoke_sessions(EMAIL)
    person_in(site)
    site.clock.tick(600)
    site.person().login(EMAIL, remember=None)
    kept = site.person()
    kept.login(EMAIL)
    program = site.program()
    program.logout(program.login(EMAIL))
    ByToken(site, OTHER_EMAIL)
    site.clock.tick(3000)

    found = ByToken(site).list()

    assert len(site.rows("session")) == 7
    assert [one["kind"] for one in found] == ["api", "browser"]
    assert logged_in(kept)


def test_a_login_that_is_used_comes_first(site: Site) -> None:
    """The login used last is listed first, with the time of that use."""
    site.member()
    program, script = ByToken(site), ByCookie(site)
    site.clock.tick(301)
    with program.send("get", "/"):
        pass

    found = script.list()

    assert [(one["kind"], one["last_seen_at"]) for one in found] == [
        ("api", "2026-11-21T08:35:01Z"),
        ("browser", "2026-11-21T08:30:00Z"),
    ]


@pytest.mark.parametrize("others", [0, 20])
def test_the_list_takes_two_statements(site: Site, caller: Caller, others: int) -> None:
    """Who asks is one statement and the list another, however many logins there are."""
    for _ in range(others):
        site.program().login(EMAIL)

    with site.statements() as statements:
        found = caller.list()

    assert len(found) == others + 1
    assert len(statements) == 2


def test_a_device_is_listed_as_it_called_itself(site: Site) -> None:
    """The name of a program is listed as it was sent, cut at 255 signs and without what does not print."""
    site.member()
    for agent in ("x" * 300, "a\tb\x7f<script>", ""):
        site.program().post("/auth/login", {"email": EMAIL, "password": PASSWORD}, user_agent=agent)
        site.clock.tick(1)

    found = [one["user_agent"] for one in ByToken(site).list()]

    assert found[1:] == ["", "a?b?<script>", "x" * 255]


def test_HEAD_of_the_list(caller: Caller) -> None:
    """HEAD answers as GET does, without the body."""
    response = caller.send("head", "/auth/sessions")

    assert (response.status_code, response.data) == (200, b"")
    assert response.headers["Content-Type"] == "application/json"


# Ending one


def test_SES_14_ending_another_login(site: Site, caller: Caller) -> None:
    """A login that is ended is out at the next request, whatever its kind; all others go on."""
    pair, person, other = site.program().login(EMAIL), person_in(site), ByToken(site)
    ids = [one["id"] for one in caller.list() if not one["current"] and one["id"] != other.id]

    answers = [caller.send("delete", f"/auth/sessions/{one}") for one in ids]

    assert [(answer.status_code, answer.data, cookies(answer)) for answer in answers] == [(204, b"", [])] * 2
    assert "Content-Type" not in answers[0].headers
    assert site.program().me(pair).status_code == 401
    assert refresh(site, pair).status_code == 401
    assert not logged_in(person)
    assert (caller.is_in, other.is_in) == (True, True)


def test_ending_the_present_login(site: Site, caller: Caller) -> None:
    """Who ends his own login is logged out, and his cookie is cleared."""
    other = ByToken(site)

    answer = caller.send("delete", f"/auth/sessions/{caller.id}")

    assert answer.status_code == 204
    assert not caller.is_in
    assert other.is_in
    if isinstance(caller, ByCookie):
        assert "Expires=Thu, 01 Jan 1970" in answer.headers["Set-Cookie"]
        assert caller.visitor.client.get_cookie("session") is None
    else:
        assert cookies(answer) == []


def test_TOK_08_a_bearer_call_leaves_the_cookie_beside_it_alone(site: Site) -> None:
    """A program that shows a token ends what it names, and the browser that it runs in stays logged in."""
    site.member()
    browser = ByCookie(site)
    pair = browser.visitor.login(EMAIL)
    own = next(one for one in browser.list() if one["kind"] == "api")

    answer = browser.visitor.client.delete(
        f"/auth/sessions/{own['id']}",
        headers={**browser.visitor.headers, "Authorization": bearer(pair)["authorization"]},
    )

    assert answer.status_code == 204
    assert cookies(answer) == []
    assert browser.is_in
    assert browser.visitor.me(pair).status_code == 401


def test_a_login_ends_once(site: Site, caller: Caller) -> None:
    """A login that is ended twice is not there the second time."""
    other = ByToken(site).id

    found = [caller.send("delete", f"/auth/sessions/{other}") for _ in range(2)]

    assert [answer.status_code for answer in found] == [204, 404]
    assert found[1].headers["Content-Type"] == "application/problem+json"
    assert (found[1].json["code"], found[1].json["title"]) == ("not_found", "There is no such login")


def test_somebody_elses_login_is_not_there(site: Site, caller: Caller) -> None:
    """Somebody else's login cannot be ended, and is answered like one that does not exist."""
    site.member(OTHER_EMAIL)
    other = ByToken(site, OTHER_EMAIL)

    theirs, none = (caller.send("delete", f"/auth/sessions/{one}") for one in (other.id, str(some_id())))

    assert theirs.status_code == none.status_code == 404
    assert {**theirs.json, "instance": ""} == {**none.json, "instance": ""}
    assert other.is_in


@pytest.mark.parametrize(
    "name",
    ["junk", "0", "%00", "-1", "me", "end-others", "f" * 33, "z" * 32, "x" * 10_000, "%ff", "'--", "1e3", "{}", "urn:"],
    ids=lambda name: name[:12],
)
def test_junk_is_no_login(site: Site, caller: Caller, name: str) -> None:
    """What is no id is not found, and ends nothing."""
    before = site.rows("session")

    answer = caller.send("delete", f"/auth/sessions/{name}")

    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert site.rows("session") == before


@pytest.mark.parametrize("spell", [str.upper, lambda text: text.replace("-", "")], ids=["upper case", "no hyphens"])
def test_an_id_may_be_spelled_as_any_uuid(site: Site, caller: Caller, spell: Callable[[str], str]) -> None:
    """Programs that keep ids as UUIDs and spell them in their own way name the same login."""
    other = ByToken(site)

    assert caller.send("delete", f"/auth/sessions/{spell(other.id)}").status_code == 204
    assert not other.is_in


def test_the_address_wins_over_the_body(site: Site, caller: Caller) -> None:
    """Which login ends is said by the address alone."""
    named, sent = ByToken(site), ByToken(site)

    answer = caller.send("delete", f"/auth/sessions/{named.id}", {"id": sent.id})

    assert answer.status_code == 204
    assert (named.is_in, sent.is_in) == (False, True)


# Ending all others


def test_SES_14_ending_all_others(site: Site, caller: Caller) -> None:
    """Every other login of the account is out at the next request; the present one and other people's go on."""
    site.member(OTHER_EMAIL)
    theirs = ByToken(site, OTHER_EMAIL)
    pair, person = site.program().login(EMAIL), person_in(site)

    answer = caller.send("delete", "/auth/sessions")

    assert (answer.status_code, answer.data, cookies(answer)) == (204, b"", [])
    assert site.program().me(pair).status_code == 401
    assert refresh(site, pair).status_code == 401
    assert not logged_in(person)
    assert (caller.is_in, theirs.is_in) == (True, True)
    assert len(caller.list()) == 1
    if isinstance(caller, ByToken):
        assert refresh(site, caller.pair).status_code == 200


def test_ending_all_others_where_there_is_none(site: Site, caller: Caller) -> None:
    """Nothing to end is no error, and a second call is answered as the first."""
    assert [caller.send("delete", "/auth/sessions").status_code for _ in range(2)] == [204, 204]
    assert caller.is_in


def test_a_copied_cookie_is_out(site: Site) -> None:
    """Ending all others ends a copy of another login's cookie; a copy of the present one is the present login."""
    site.member()
    here, other = person_in(site), person_in(site)
    copies = [with_cookie(site, session_cookie(person)) for person in (here, other)]

    ending = Script(site, here.client)
    ending.client.delete("/auth/sessions", headers={**ending.headers, "X-CSRF-Token": ending.token()})

    assert [logged_in(copy) for copy in copies] == [True, False]


# Who may


@pytest.mark.parametrize(
    ("method", "path"), [("get", "/auth/sessions"), ("delete", "/auth/sessions"), ("delete", "/auth/sessions/x")]
)
def test_a_strangers_program_is_refused(site: Site, method: str, path: str) -> None:
    """A program that is not logged in, or not any more, hears 401, whatever it names."""
    site.member()
    program = site.program()
    pair = program.login(EMAIL)
    program.logout(pair)

    bare = program.client.open(path, method=method, headers=program.headers)
    late = program.client.open(
        path, method=method, headers={**program.headers, "Authorization": bearer(pair)["authorization"]}
    )

    assert [answer.status_code for answer in (bare, late)] == [401, 401]
    assert [answer.json["code"] for answer in (bare, late)] == ["authentication_required"] * 2
    assert bare.headers["WWW-Authenticate"] == 'Bearer realm="Shop"'
    assert late.headers["WWW-Authenticate"] == 'Bearer realm="Shop", error="invalid_token"'


@pytest.mark.parametrize("path", ["/auth/sessions/x/end", "/auth/sessions/end-others"])
def test_a_person_who_is_not_logged_in_is_asked_to(site: Site, path: str) -> None:
    """A stranger's button leads to the login page, and not back to the button."""
    answer = site.person().send(path, {})

    assert (answer.status_code, answer.headers["Location"]) == (303, "/auth/login")


@pytest.mark.parametrize("what", ["disabled", "reset", "disabled by hand"])
def test_LOG_17_a_changed_account_lists_and_ends_nothing(site: Site, caller: Caller, what: str) -> None:
    """After the account was disabled or its password reset, its old logins see and end nothing."""
    other = ByToken(site)
    with site.app.app_context():
        if what == "disabled":
            site.accounts.disable_user(EMAIL)
        elif what == "reset":
            site.accounts.request_reset(EMAIL)
            site.accounts.reset(site.last_token, "another horse battery")
        else:
            site.change(EMAIL, is_active=False)

    found = [
        caller.send("get", "/auth/sessions"),
        caller.send("delete", "/auth/sessions"),
        caller.send("delete", f"/auth/sessions/{some_id()}"),
    ]

    assert [answer.status_code for answer in found] == [401] * 3
    assert not other.is_in
    assert {row.revoked_at for row in site.rows("session")} == {None}


@pytest.mark.parametrize("path", ["/auth/sessions", "/auth/sessions/{id}"])
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"X-CSRF-Token": ""}, "csrf_failed"),
        ({"X-CSRF-Token": "x"}, "csrf_failed"),
        ({"X-CSRF-Token": "foreign"}, "csrf_failed"),
        ({"Sec-Fetch-Site": "cross-site"}, "cross_origin_blocked"),
        ({"Origin": "https://evil.example"}, "cross_origin_blocked"),
        ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, "cross_origin_blocked"),
    ],
    ids=str,
)
def test_CSR_02_a_cookie_alone_ends_nothing(site: Site, path: str, headers: dict[str, str], code: str) -> None:
    """Without its token, with another browser's or from another site, a cookie ends no login."""
    site.member()
    browser, other = ByCookie(site), ByToken(site)
    before = rows(site)
    if headers.get("X-CSRF-Token") == "foreign":
        headers = {"X-CSRF-Token": Script(site).token()}

    answer = browser.send("delete", path.format(id=other.id), **headers)

    assert (answer.status_code, answer.json["code"], cookies(answer)) == (403, code, [])
    assert rows(site) == before
    assert browser.is_in


def test_CSR_01_a_cookie_without_any_token_ends_nothing(site: Site) -> None:
    """A cookie caller that sends no token at all is refused, and a bearer caller needs none."""
    site.member()
    browser, program = ByCookie(site), ByToken(site)

    bare = browser.visitor.client.delete("/auth/sessions", headers=browser.visitor.headers)
    was_in = program.is_in
    done = program.send("delete", "/auth/sessions")

    assert (bare.status_code, bare.json["code"], was_in) == (403, "csrf_failed", True)
    assert done.status_code == 204
    assert not browser.is_in


# Methods and formats


@pytest.mark.parametrize(
    ("path", "allowed", "others"),
    [
        ("/auth/sessions", "GET, HEAD, DELETE, OPTIONS", ["POST", "PUT", "PATCH"]),
        ("/auth/sessions/x", "DELETE, OPTIONS", ["GET", "HEAD", "POST", "PUT", "PATCH"]),
        ("/auth/sessions/x/end", "POST, OPTIONS", ["GET", "PUT", "PATCH", "DELETE"]),
    ],
)
def test_other_methods_are_named(
    site: Site, visitor: Program | Person, path: str, allowed: str, others: list[str]
) -> None:
    """Another method is answered with those that there are, in the caller's format."""
    for method in others:
        response = visitor.client.open(path, method=method, headers=visitor.headers)
        assert (response.status_code, response.headers["Allow"]) == (405, allowed), method
        assert response.mimetype == {"json": "application/problem+json", "html": "text/html"}[visitor.kind]


@pytest.mark.parametrize("method", ["get", "delete"])
def test_the_list_is_no_page(site: Site, method: str) -> None:
    """A browser that opens the list hears that it is for programs; the account page has it for people."""
    site.member()
    person = person_in(site)

    page = person.client.open("/auth/sessions", method=method, headers=person.headers)

    assert (page.status_code, heading(page)) == (406, "Not available in this format")
    assert logged_in(person)


@pytest.mark.parametrize("path", ["/auth/sessions/x/end", "/auth/sessions/end-others"])
def test_the_buttons_are_no_api(site: Site, path: str) -> None:
    """A program that posts to where a page's button leads hears 406 and ends nothing."""
    site.member()
    browser, other = ByCookie(site), ByToken(site)

    answer = browser.send("post", path)

    assert (answer.status_code, answer.json["code"]) == (406, "not_acceptable")
    assert other.is_in


# The account page


def devices(page: Any) -> list[str]:
    """Return what the account page says of each device."""
    found = re.findall(r'<li class="af-device">(.*?)</li>', page.text, re.S)
    return [words(SimpleNamespace(text=part)) for part in found]


def test_the_account_page_lists_the_devices(site: Site) -> None:
    """A person reads in words where he is logged in, since when it was not used, and which device is this one."""
    site.member()
    site.program().post("/auth/login", {"email": EMAIL, "password": PASSWORD}, user_agent="curl/8.5.0")
    site.clock.tick(60)
    person_in(site, **{"User-Agent": SAFARI})
    site.clock.tick(3600)
    person = person_in(site, **{"User-Agent": FIREFOX})

    page = person.me()

    assert "Where you're logged in" in words(page)
    assert devices(page) == [
        "Firefox on Windows (this one) Last used 21 Nov 2026, 09:31 UTC 127.0.0.1",
        "Safari on iPhone Last used 21 Nov 2026, 08:31 UTC 127.0.0.1 End",
        "curl Last used 21 Nov 2026, 08:30 UTC 127.0.0.1 End",
    ]
    labels = [one["aria-label"] for one in tags(page, "button") if one.get("aria-label")]
    assert labels == ["End the login on Safari on iPhone", "End the login on curl"]


def test_this_device_comes_first(site: Site) -> None:
    """The device that one looks from is at the top of the page, also when others were seen later."""
    site.member()
    person = person_in(site, **{"User-Agent": FIREFOX})
    for agent in (SAFARI, "curl/8.5.0"):
        site.clock.tick(60)
        person_in(site, **{"User-Agent": agent})

    shown = devices(person.me())

    assert [text.partition(" Last used")[0] for text in shown] == [
        "Firefox on Windows (this one)",
        "curl",
        "Safari on iPhone",
    ]


def test_one_login_alone_can_only_log_out(site: Site) -> None:
    """Who is logged in here only sees this device, and no button to end others."""
    site.member()
    page = person_in(site).me()

    assert len(devices(page)) == 1
    assert "Log out everywhere else" not in words(page)
    assert [form.action for form in forms_of(page)] == ["/auth/logout"]


def _form(page: Any, ending: str) -> int:
    return next(number for number, form in enumerate(forms_of(page)) if form.action.endswith(ending))


def test_SES_14_a_button_ends_one_login(site: Site) -> None:
    """The button beside a device ends that login, and the page that follows no longer lists it."""
    site.member()
    other, third = person_in(site, **{"User-Agent": SAFARI}), ByToken(site)
    site.clock.tick(1)
    person = person_in(site, **{"User-Agent": FIREFOX})
    page = person.me()
    number = next(n for n, form in enumerate(forms_of(page)) if str(_id_of(site, SAFARI)) in form.action)

    answer = person.submit(page, number)

    assert answer.headers["Location"] == "/auth/me"
    assert "iPhone" not in words(person.follow(answer))
    assert not logged_in(other)
    assert (logged_in(person), third.is_in) == (True, True)


def _id_of(site: Site, agent: str) -> Any:
    return site.rows("session", user_agent=agent)[0].id


def test_SES_14_a_button_ends_all_others(site: Site) -> None:
    """One button ends every other login, and the page that follows lists this device alone."""
    site.member()
    other, program = person_in(site), ByToken(site)
    person = person_in(site)
    page = person.me()

    answer = person.submit(page, _form(page, "/end-others"))

    assert answer.headers["Location"] == "/auth/me"
    assert len(devices(person.follow(answer))) == 1
    assert (logged_in(other), program.is_in, logged_in(person)) == (False, False, True)


def test_ending_the_present_login_leads_to_the_login_page(site: Site) -> None:
    """A person whose own login is ended by its address is logged out, cookie and all."""
    site.member()
    person, other = person_in(site), person_in(site)
    token = forms_of(person.me())[0].values["csrf_token"]
    listed = Script(site, person.client).get("/auth/sessions").json["sessions"]
    own_id = next(one["id"] for one in listed if one["current"])

    answer = person.send(f"/auth/sessions/{own_id}/end", {"csrf_token": token})

    assert answer.headers["Location"] == "/auth/login"
    assert "Expires=Thu, 01 Jan 1970" in answer.headers["Set-Cookie"]
    assert (logged_in(person), logged_in(other)) == (False, True)


def test_a_button_that_comes_too_late(site: Site) -> None:
    """A button for a login that has ended meanwhile, as by a double click, leads to the list as if it had ended it."""
    site.member()
    site.member(OTHER_EMAIL)
    other, theirs = ByToken(site), ByToken(site, OTHER_EMAIL)
    person = person_in(site)
    page = person.me()
    token = forms_of(page)[0].values["csrf_token"]
    other.send("delete", f"/auth/sessions/{other.id}")

    late = person.submit(page, _form(page, "/end"))
    foreign = person.send(f"/auth/sessions/{theirs.id}/end", {"csrf_token": token})
    junk = person.send("/auth/sessions/junk/end", {"csrf_token": token})

    assert [answer.headers["Location"] for answer in (late, foreign, junk)] == ["/auth/me"] * 3
    assert len(devices(person.me())) == 1
    assert (theirs.is_in, logged_in(person)) == (True, True)


@pytest.mark.parametrize("path", ["/auth/sessions/{id}/end", "/auth/sessions/end-others"])
@pytest.mark.parametrize("token", [None, "", "x", "foreign"])
def test_CSR_01_the_buttons_need_their_token(site: Site, path: str, token: str | None) -> None:
    """A post without the token of this browser's session ends nothing."""
    site.member()
    person, other = person_in(site), ByToken(site)
    if token == "foreign":
        token = forms_of(person_in(site).me())[0].values["csrf_token"]
    before = rows(site)

    answer = person.send(path.format(id=other.id), {} if token is None else {"csrf_token": token})

    assert (answer.status_code, heading(answer)) == (403, "Please send it again")
    assert rows(site) == before
    assert links(answer)


@pytest.mark.parametrize("headers", [{"sec_fetch_site": "cross-site"}, {"origin": "https://evil.example"}], ids=str)
def test_CSR_02_the_buttons_are_not_pressed_from_elsewhere(site: Site, headers: dict[str, str]) -> None:
    """A post that another site's page sent ends nothing, not even with the token."""
    site.member()
    person, other = person_in(site), ByToken(site)
    token = forms_of(person.me())[0].values["csrf_token"]

    found = [
        person.send(path, {"csrf_token": token}, **headers)
        for path in (f"/auth/sessions/{other.id}/end", "/auth/sessions/end-others")
    ]

    assert [answer.status_code for answer in found] == [403, 403]
    assert (other.is_in, logged_in(person)) == (True, True)


@pytest.mark.parametrize("others", [0, 20])
def test_the_account_page_takes_three_statements(site: Site, others: int) -> None:
    """The account page reads who asks, where he is logged in, however many devices there are, and what waits."""
    site.member()
    person = person_in(site)
    for _ in range(others):
        site.program().login(EMAIL)

    with site.statements() as statements:
        page = person.me()

    assert len(devices(page)) == others + 1
    assert len(statements) == 3


def test_a_hostile_device_is_shown_as_text(site: Site) -> None:
    """Markup in the name of a program is text on the page, and a long name is cut."""
    site.member()
    for agent in ("<script>alert(1)</script>", '"onload="x', "x" * 255, " "):
        site.program().post("/auth/login", {"email": EMAIL, "password": PASSWORD}, user_agent=agent)
        site.clock.tick(1)

    page = person_in(site).me()

    shown = [text.partition(" Last used")[0] for text in devices(page)[1:]]
    assert shown == ["Unknown device", "x" * 40, '"onload="x', "<script>alert(1)<"]
    assert "<script>alert" not in page.text


def test_an_unproved_member_has_his_list_too(site: Site) -> None:
    """A member whose address is not proved can end his logins."""
    site.member()
    person, other = person_in(site), ByToken(site)
    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.execute(sa.update(site.tables.user).values(email_verified_at=None))
    page = person.me()

    person.submit(page, _form(page, "/end-others"))

    assert not other.is_in


def test_AUD_01_endings_are_told(own_site: Site) -> None:
    """The signal says whose logins were ended, and from where."""
    told: list[tuple[str, Any]] = []
    for name in ("sessions_revoked", "logged_out"):
        getattr(events, name).connect(_teller(told, name), sender=own_site.app, weak=False)
    own_site.member()
    here, other = ByToken(own_site), ByToken(own_site)
    ByToken(own_site)

    here.send("delete", f"/auth/sessions/{other.id}")
    here.send("delete", "/auth/sessions")

    user_id = str(own_site.account(EMAIL).id)
    assert told == [("sessions_revoked", (user_id, "127.0.0.1"))] * 2


def _teller(told: list[tuple[str, Any]], name: str) -> Callable[..., None]:
    def receiver(sender: Any, **payload: Any) -> None:
        told.append((name, (payload["user_id"], payload["ip"])))

    return receiver
