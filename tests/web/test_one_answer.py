"""What a stranger learns about an address: nothing, whatever he asks for and however often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from answers import cookies, heading, signature, words
from support import OTHER_PASSWORD, PASSWORD, Person, Program, Site

#: One address of each kind, all of the same length.
KINDS = {
    "verified": "vic@example.com",
    "unknown": "una@example.com",
    "pending": "pia@example.com",
    "disabled": "dan@example.com",
    "passwordless": "pat@example.com",
}
LIMITED = {
    "ACCOUNTFLOW_RATELIMIT_ENABLED": True,
    # Windows so long that no test meets the end of one.
    "ACCOUNTFLOW_RATELIMIT_LOGIN": "3/30 day",
    "ACCOUNTFLOW_RATELIMIT_LOGIN_IP": "100/30 day",
    "ACCOUNTFLOW_RATELIMIT_MAIL_IP": "100/30 day",
    "ACCOUNTFLOW_RATELIMIT_TOKEN_IP": "3/30 day",
}


def populate(site: Site) -> None:
    """Make an account of each kind."""
    site.member(KINDS["verified"])
    site.member(KINDS["disabled"])
    site.member(KINDS["passwordless"], None)
    with site.app.app_context():
        site.accounts.disable_user(KINDS["disabled"])
    site.program().signup(KINDS["pending"])
    site.clock.tick(61)
    site.letters.clear()


ASKING = {
    "signup": lambda visitor, email: visitor.signup(email, OTHER_PASSWORD),
    "wrong login": lambda visitor, email: visitor.login(email, "the wrong horse battery"),
    "resend": lambda visitor, email: visitor.resend(email=email),
    "reset": lambda visitor, email: visitor.request_reset(email=email),
}


@pytest.mark.parametrize("asker", [Program, Person], ids=["json", "html"])
@pytest.mark.parametrize("what", ASKING)
def test_SUP_01_LOG_01_RST_01_VER_12_one_answer(
    make_site: Callable[..., Site], asker: Callable[[Site], Any], what: str
) -> None:
    """Sign-up, a wrong login, a resend and a reset request are answered alike for every address.

    Alike are status, headers, cookies, body, the page that follows, and the statements; only a sign-up of
    a new address also adds its account.
    """
    site = make_site(kick=lambda: None)  # mails are sent by somebody else
    populate(site)
    found = {}

    for kind, email in KINDS.items():
        visitor = asker(site)
        visitor.get("/auth/login")
        with site.statements() as statements:
            response = ASKING[what](visitor, email)
        follow = signature(visitor.follow(response), email) if response.status_code == 303 else None
        shared = [statement for statement in statements if not statement.startswith("INSERT INTO users")]
        found[kind] = signature(response, email), follow, shared
        assert len(statements) - len(shared) == (1 if (what, kind) == ("signup", "unknown") else 0)

    assert {kind for kind, answer in found.items() if answer != found["unknown"]} == set()


@pytest.mark.parametrize("asker", [Program, Person], ids=["json", "html"])
@pytest.mark.parametrize("what", ASKING)
def test_one_answer_in_every_language(make_site: Callable[..., Site], asker: Callable[[Site], Any], what: str) -> None:
    """A German is answered alike in German for every address, whatever language its owner speaks."""
    site = make_site({"ACCOUNTFLOW_LANGUAGES": ["en", "de", "fr"]}, kick=lambda: None)
    populate(site)
    site.change(KINDS["verified"], locale="fr")
    found = {}

    for kind, email in KINDS.items():
        visitor = asker(site)
        visitor.headers = {**visitor.headers, "Accept-Language": "de"}
        response = ASKING[what](visitor, email)
        page = visitor.follow(response) if response.status_code == 303 else response
        found[kind] = signature(response, email), signature(page, email)
        assert page.headers.get("Content-Language") == (None if (what, asker) == ("signup", Program) else "de")

    assert {kind for kind, answer in found.items() if answer != found["unknown"]} == set()


@pytest.mark.parametrize("what", ["signup", "resend", "reset"])
def test_SUP_15_asking_again_and_again_is_answered_alike(site: Site, visitor: Program | Person, what: str) -> None:
    """Also the answers beyond the cap of mails are alike, and no more mails go out than it allows."""
    populate(site)
    found: dict[str, list[Any]] = {}

    for kind in ("verified", "unknown", "pending"):
        asker: Any = type(visitor)(site)
        found[kind] = [signature(ASKING[what](asker, KINDS[kind]), KINDS[kind]) for _ in range(6)]
        site.clock.tick(61)
        found[kind] += [signature(ASKING[what](asker, KINDS[kind]), KINDS[kind]) for _ in range(2)]

    assert found["verified"] == found["unknown"] == found["pending"]
    sent = [letter.to for letter in site.letters]
    assert sent.count(KINDS["unknown"]) == (2 if what == "signup" else 0)
    assert sent.count(KINDS["verified"]) == sent.count(KINDS["pending"]) == 2


def test_SUP_21_signing_up_and_logging_in_reveals_nothing(site: Site, visitor: Program | Person) -> None:
    """Who signs an address up and logs in with the same password is answered alike for every address."""
    populate(site)
    found = {}

    for kind, email in KINDS.items():
        asker: Any = type(visitor)(site)
        asker.signup(email, OTHER_PASSWORD)
        found[kind] = signature(asker.login(email, OTHER_PASSWORD), email)

    assert {kind for kind, answer in found.items() if answer != found["unknown"]} == set()
    assert found["unknown"][0] == {"json": 403, "html": 303}[visitor.kind]


def test_RST_02_a_mail_server_that_is_away_reveals_nothing(site: Site, visitor: Program | Person) -> None:
    """While no mail can be sent, a known and an unknown address are answered as always."""
    populate(site)
    site.transport.fault = ConnectionError("no mail today")

    known, unknown = (
        signature(visitor.request_reset(email=KINDS[kind]), KINDS[kind]) for kind in ("verified", "unknown")
    )

    assert known == unknown
    assert known[0] == {"json": 202, "html": 303}[visitor.kind]
    assert site.letters == []
    assert site.rows("mail", state="pending") != []


@pytest.mark.parametrize("kind", ["verified", "unknown"])
def test_RAT_03_over_the_limit(make_site: Callable[..., Site], kind: str) -> None:
    """Too many wrong logins are answered with 429, for an unknown address as for a known one."""
    site = make_site(LIMITED)
    populate(site)
    site.program().login(KINDS["pending"], OTHER_PASSWORD)
    program = site.program()

    found = [program.login(KINDS[kind], "the wrong horse battery") for _ in range(5)]
    right = program.login(KINDS[kind])

    assert [answer.status_code for answer in found] == [401, 401, 401, 429, 429]
    assert (right.status_code, program.code(right)) == (429, "rate_limited")
    assert int(right.headers["Retry-After"]) == right.json["retry_after"] > 0
    assert right.json["title"] == "Too many tries"


def test_RAT_09_over_the_limit_the_answers_are_the_same(make_site: Callable[..., Site]) -> None:
    """Beyond the limit nothing tells a known address from an unknown one, in either format."""
    site = make_site(LIMITED)
    populate(site)
    found = {}

    for kind in ("verified", "unknown"):
        for _ in range(3):
            site.program().login(KINDS[kind], "the wrong horse battery")
        person = site.person()
        person.get("/auth/login")
        answers = [site.program().login(KINDS[kind]), person.login(KINDS[kind])]
        found[kind] = [_without_seconds(signature(answer, KINDS[kind])) for answer in answers]

    assert found["verified"] == found["unknown"]


def _without_seconds(answer: tuple[Any, ...]) -> tuple[Any, ...]:
    """Leave out how many seconds are left, which the next second changes."""
    status, headers, set_cookies, body = answer
    waits = next(value for name, value in headers if name == "Retry-After")
    others = [(name, value) for name, value in headers if name not in {"Retry-After", "Content-Length"}]
    return status, others, set_cookies, body.replace(waits, "…")


def test_P_20_a_person_over_the_limit_keeps_the_form(make_site: Callable[..., Site]) -> None:
    """A person over the limit gets the form again with his address, and is told in words when to try again."""
    site = make_site(LIMITED)
    site.member(KINDS["verified"])
    person = site.person()
    for _ in range(3):
        person.login(KINDS["verified"], "the wrong horse battery")

    page = person.login(KINDS["verified"])

    assert (page.status_code, heading(page)) == (429, "Log in")
    assert f'value="{KINDS["verified"]}"' in page.text
    assert PASSWORD not in page.text
    assert "Try again in" in words(page)
    assert " days." in words(page) or " hours." in words(page)
    assert int(page.headers["Retry-After"]) > 0


def test_RAT_08_both_formats_share_one_budget(make_site: Callable[..., Site]) -> None:
    """Tries as a program and as a person count together."""
    site = make_site(LIMITED)
    site.member(KINDS["verified"])
    program, person = site.program(), site.person()

    found = [
        program.login(KINDS["verified"], "the wrong horse battery").status_code,
        person.login(KINDS["verified"], "the wrong horse battery").status_code,
        program.login("VIC@example.com", "the wrong horse battery").status_code,
        person.login(KINDS["verified"]).status_code,
        program.login(KINDS["verified"]).status_code,
    ]

    assert found == [401, 422, 401, 429, 429]


def test_RAT_05_a_success_clears_the_address(make_site: Callable[..., Site]) -> None:
    """A login clears the failures of its own address, and of no other."""
    site = make_site(LIMITED)
    site.member(KINDS["verified"])
    site.member("eve@example.com")
    program = site.program()
    for _ in range(2):
        program.login(KINDS["verified"], "the wrong horse battery")
        program.login("eve@example.com", "the wrong horse battery")

    program.login("eve@example.com")
    eve = [program.login("eve@example.com", "the wrong horse battery").status_code for _ in range(3)]
    vic = [program.login(KINDS["verified"], "the wrong horse battery").status_code for _ in range(2)]

    assert eve == [401, 401, 401]
    assert vic == [401, 429]


def test_RAT_02_a_reset_by_mail_is_the_way_back(make_site: Callable[..., Site]) -> None:
    """While an address is throttled, its owner sets a new password by mail, and is in at once."""
    site = make_site(LIMITED)
    site.member(KINDS["verified"])
    stays = site.program()
    pair = stays.login(KINDS["verified"])
    for _ in range(4):
        site.program().login(KINDS["verified"], "the wrong horse battery")
    still_in = stays.me(pair).status_code
    locked = site.program().login(KINDS["verified"]).status_code

    site.person().request_reset(email=KINDS["verified"])
    site.person().reset(site.last_link)

    assert (still_in, locked) == (200, 429)
    assert site.program().login(KINDS["verified"], OTHER_PASSWORD).status_code == 200


def test_RAT_02_a_browser_that_logged_in_before_is_let_in(make_site: Callable[..., Site]) -> None:
    """While an address is throttled, its owner's browser still logs in, also after it was logged out and closed."""
    site = make_site(LIMITED)
    site.member(KINDS["verified"])
    person = site.person()
    person.login(KINDS["verified"])
    person.logout()
    person.client.delete_cookie("session")
    for _ in range(4):
        site.program().login(KINDS["verified"], "the wrong horse battery")

    stranger = site.person().login(KINDS["verified"])
    owner = person.login(KINDS["verified"])

    assert (stranger.status_code, owner.status_code) == (429, 303)
    assert person.get("/secret").status_code == 200


def test_RAT_02_the_cookie_of_a_known_browser_opens_nothing(make_site: Callable[..., Site]) -> None:
    """What makes a browser known is a cookie that no script reads, and that is no login."""
    site = make_site(LIMITED)
    site.member(KINDS["verified"])
    person, thief = site.person(), site.person()
    page = person.get("/auth/login")
    # As the app's session cookie is. Only now: over http the browser would not send it back.
    site.app.config.update(SESSION_COOKIE_SECURE=True, SESSION_COOKIE_PATH="/shop")
    answer = person.submit(page, email=KINDS["verified"], password=PASSWORD)
    site.app.config.update(SESSION_COOKIE_SECURE=False, SESSION_COOKIE_PATH=None)
    [cookie] = [one for one in answer.headers.getlist("Set-Cookie") if one.startswith("__Secure-accountflow_device=")]
    value, *attributes = cookie.split("; ")

    thief.client.set_cookie("accountflow_device", value.partition("=")[2])

    wanted = {"Secure", "HttpOnly", "SameSite=Lax", "Path=/shop", "Max-Age=15552000"}
    assert {one for one in attributes if not one.startswith("Expires=")} == wanted
    assert thief.get("/secret").status_code == 303
    assert thief.login(KINDS["verified"], "the wrong horse battery").status_code == 422


@pytest.mark.parametrize("kind", ["person", "program"])
def test_RAT_02_only_a_login_by_cookie_makes_a_browser_known(site: Site, kind: str) -> None:
    """A refused login, a link and a program's pair leave no cookie of a known browser behind."""
    site.member(KINDS["verified"])
    visitor = getattr(site, kind)()

    answers = [
        visitor.login(KINDS["verified"], "the wrong horse battery"),
        visitor.request_reset(email=KINDS["verified"]),
        *([visitor.login(KINDS["verified"])] if kind == "program" else []),
    ]

    assert not [one for answer in answers for one in answer.headers.getlist("Set-Cookie") if "device" in one]


def test_RAT_07_one_network_cannot_spray(make_site: Callable[..., Site]) -> None:
    """One network may fail so often over all addresses, and others are not in its way."""
    site = make_site({**LIMITED, "ACCOUNTFLOW_RATELIMIT_LOGIN_IP": "3/30 day"})
    client = site.app.test_client()

    found = [_login_from(client, f"user{number}@example.com", "192.0.2.1") for number in range(5)]
    other = _login_from(client, "user9@example.com", "192.0.2.2")

    assert (found, other) == ([401, 401, 401, 429, 429], 401)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "CF-Connecting-IP", "Client-IP"])
def test_RAT_06_the_network_is_not_what_a_header_says(make_site: Callable[..., Site], header: str) -> None:
    """A header does not make another network of one."""
    site = make_site({**LIMITED, "ACCOUNTFLOW_RATELIMIT_LOGIN_IP": "3/30 day"})
    client = site.app.test_client()

    found = [
        _login_from(client, f"user{number}@example.com", "192.0.2.1", **{header: f"198.51.100.{number}"})
        for number in range(4)
    ]

    assert found == [401, 401, 401, 429]


def test_RAT_06_a_network_of_IPv6_is_a_64(make_site: Callable[..., Site]) -> None:
    """All addresses of one /64 count as one."""
    site = make_site({**LIMITED, "ACCOUNTFLOW_RATELIMIT_LOGIN_IP": "3/30 day"})
    client = site.app.test_client()

    found = [_login_from(client, f"user{number}@example.com", f"2001:db8:0:1::{number:x}") for number in range(5)]
    other = _login_from(client, "user9@example.com", "2001:db8:0:2::1")

    assert (found, other) == ([401, 401, 401, 429, 429], 401)


def _login_from(client: Any, email: str, ip: str, **headers: str) -> int:
    response = client.post(
        "/auth/login",
        json={"email": email, "password": PASSWORD},
        headers=headers,
        environ_overrides={"REMOTE_ADDR": ip},
    )
    return int(response.status_code)


def test_mails_of_one_network_are_limited(make_site: Callable[..., Site]) -> None:
    """One network can cause so many mails; then people get their form again and programs 429."""
    site = make_site({**LIMITED, "ACCOUNTFLOW_RATELIMIT_MAIL_IP": "3/30 day"})
    program, person = site.program(), site.person()

    program.signup("a@example.com")
    program.request_reset(email="b@example.com")
    program.resend(email="c@example.com")
    found = [program.signup("d@example.com"), program.request_reset(email="e@example.com")]
    pages = [
        person.signup("f@example.com"),
        person.request_reset(email="g@example.com"),
        person.resend(email="h@x.org"),
    ]

    assert [program.code(answer) for answer in found] == ["rate_limited", "rate_limited"]
    assert [page.status_code for page in pages] == [429, 429, 429]
    assert [heading(page) for page in pages] == ["Create your account", "Reset your password", "Get a new link"]
    assert [letter.to for letter in site.letters] == ["a@example.com"]


def test_RST_20_guessing_links_is_limited(make_site: Callable[..., Site]) -> None:
    """One network may try so many links that do not work; another network's good link works on."""
    site = make_site(LIMITED)
    site.member(KINDS["verified"])
    site.program().request_reset(email=KINDS["verified"])
    person, program = site.person(), site.program()

    found = [program.reset("/auth/password-reset/a.b.c").status_code for _ in range(4)]
    page = person.send("/auth/verify/a.b.c", {})
    refreshed = program.post("/auth/refresh", {"refresh_token": "a.b"})
    good = site.app.test_client().post(
        site.last_link, json={"password": OTHER_PASSWORD}, environ_overrides={"REMOTE_ADDR": "192.0.2.2"}
    )

    assert found == [400, 400, 400, 429]
    assert (page.status_code, heading(page)) == (429, "Too many tries")
    assert "Please wait" in words(page)
    assert refreshed.status_code == 429
    assert good.status_code == 200


def test_what_works_does_not_count(make_site: Callable[..., Site]) -> None:
    """Logins, refreshes and links that work can be had as often as one likes."""
    site = make_site({**LIMITED, "ACCOUNTFLOW_RATELIMIT_LOGIN_IP": "3/30 day"})
    site.member(KINDS["verified"])
    program = site.program()

    pairs = [program.login(KINDS["verified"]) for _ in range(5)]
    for _ in range(5):
        pairs.append(program.post("/auth/refresh", {"refresh_token": pairs[-1].json["refresh_token"]}))

    assert {pair.status_code for pair in pairs} == {200}


def test_a_weak_password_does_not_count_as_a_guessed_link(make_site: Callable[..., Site]) -> None:
    """Who needs some tries for a password that is allowed is not throttled for his link."""
    site = make_site(LIMITED)
    site.member(KINDS["verified"])
    site.program().request_reset(email=KINDS["verified"])
    program = site.program()

    weak = {program.reset(site.last_link, "passwordpassword").status_code for _ in range(5)}

    assert weak == {422}
    assert program.reset(site.last_link).status_code == 200


def test_no_answer_sets_a_cookie_for_a_program(site: Site) -> None:
    """A program without a cookie gets none, whatever it asks."""
    populate(site)
    program = site.program()

    found = [ASKING[what](program, email) for what in ASKING for email in KINDS.values()]

    assert [cookies(answer) for answer in found if cookies(answer)] == []
