"""Confirming an address by the mailed link, as a program and as a person."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from answers import Script, cookies, field, has_way_on, heading, links, logged_in, rows, session_cookie, tags, words
from support import ABSENT, OTHER_PASSWORD, PASSWORD, Person, Program, Site, forms_of

EMAIL = "ada@example.com"
#: How mail scanners and browsers that look ahead ask.
LOOKS = [
    {},
    {"purpose": "prefetch"},
    {"sec_purpose": "prefetch;prerender"},
    {"x_moz": "prefetch"},
    {"user_agent": "Mozilla/5.0 HeadlessChrome/140.0"},
]
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def invited(site: Site) -> str:
    """Sign an address up and return its link."""
    site.program().signup(EMAIL)
    return site.last_link


def is_proved(site: Site) -> bool:
    """Tell whether the address is confirmed."""
    return site.account(EMAIL).email_verified_at is not None


def test_opening_a_link_shows_what_it_would_do(site: Site, visitor: Program | Person) -> None:
    """Opening a link names the address masked, and asks a person to press one button."""
    link = invited(site)

    response = visitor.open(link)

    assert response.status_code == 200
    if isinstance(visitor, Program):
        assert response.json["status"] == "pending"
        assert response.json["email_masked"] == "a•••@e•••.com"
        assert response.json["expires_at"] == "2026-11-22T08:30:00Z"
    else:
        confirm, disown = forms_of(response)
        assert heading(response) == "Confirm your email"
        assert "a•••@e•••.com" in words(response)
        assert EMAIL not in response.text
        assert (confirm.action, confirm.values) == (link, {})
        assert disown.buttons == ["1"]
        assert cookies(response) == []


@pytest.mark.parametrize("headers", LOOKS, ids=str)
def test_VER_01_looking_at_a_link_changes_nothing(
    site: Site, visitor: Program | Person, headers: dict[str, str]
) -> None:
    """However often a link is opened by GET, HEAD or OPTIONS, every row stays as it was, and the link works."""
    link = invited(site)
    before = rows(site)

    for method in ("GET", "HEAD", "OPTIONS", "GET", "HEAD"):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = visitor.client.open(link, method=method, headers={**visitor.headers, **named})
        assert answer.status_code == 200

    assert rows(site) == before
    visitor.verify(link)
    assert is_proved(site)


def test_VER_02_the_page_does_not_press_its_own_button(site: Site) -> None:
    """The page of a link loads one script file of ours, and nothing on it acts without a click."""
    page = site.person().open(invited(site))

    assert [one["src"] for one in tags(page, "script")] == [field_url(page)]
    assert not any("http-equiv" in one for one in tags(page, "meta"))
    assert not any(
        name.startswith("on") for tag in ("body", "form", "button") for one in tags(page, tag) for name in one
    )


def field_url(page: object) -> str:
    """Return the address of our script as the page names it."""
    return next(str(one["src"]) for one in tags(page, "script") if str(one["src"]).startswith("/auth/static/"))


def test_confirming_in_the_browser_that_signed_up_logs_in(site: Site) -> None:
    """Whoever confirms in the browser that he signed up in is logged in there."""
    person = site.person()
    person.signup(EMAIL)

    response = person.verify(site.last_link)

    assert (response.status_code, response.headers["Location"]) == (303, "/")
    assert is_proved(site)
    assert logged_in(person)


def test_VER_10_confirming_elsewhere_logs_nobody_in(site: Site, visitor: Program | Person) -> None:
    """Whoever has only the link confirms the address, and is logged in nowhere."""
    link = invited(site)

    response = visitor.verify(link)

    assert is_proved(site)
    assert site.rows("session") == []
    if isinstance(visitor, Program):
        assert response.status_code == 200
        assert response.json == {
            "status": "verified",
            "user": None,
            "next": None,
            "access_token": None,
            "refresh_token": None,
        }
    else:
        page = visitor.follow(response)
        assert heading(page) == "Email confirmed"
        assert f"You can log in as {EMAIL} now." in words(page)
        assert field(visitor.get(links(page)[0]), "email")["value"] == EMAIL


def test_a_program_that_also_has_the_password_gets_the_pair(site: Site) -> None:
    """A program that sends the password with the link is logged in."""
    link, program = invited(site), site.program()

    response = program.verify(link, password=OTHER_PASSWORD)

    assert response.json["status"] == "verified"
    assert response.json["user"]["email"] == EMAIL
    assert program.me(response).json["email"] == EMAIL


def test_a_program_may_send_the_token_in_the_body(site: Site) -> None:
    """A link's token may be sent in the body, so that it is in no log of addresses."""
    invited(site)

    response = site.program().post("/auth/verify", {"token": site.last_token})

    assert response.json["status"] == "verified"


def test_VER_03_confirming_twice_is_no_error(site: Site, visitor: Program | Person) -> None:
    """Using or opening a link again says that the address is confirmed, and changes nothing."""
    link = invited(site)
    page = visitor.open(link)
    visitor.verify(link)
    before = rows(site)

    opened = visitor.open(link)
    again = visitor.verify(link)

    assert opened.status_code == again.status_code == 200
    if isinstance(visitor, Program):
        assert opened.json["status"] == again.json["status"] == "already_verified"
        assert again.json["user"] is None
        assert again.json["access_token"] is None
    else:
        late_click = visitor.follow(visitor.submit(page))
        assert {heading(shown) for shown in (opened, again, late_click)} == {"Your email is already confirmed"}
        assert "/auth/login" in links(opened)
    assert rows(site) == before


def test_VER_07_an_expired_link_offers_one_button_for_a_new_one(site: Site, visitor: Program | Person) -> None:
    """An expired link says when it ended, and asking for a new one takes no typing."""
    link = invited(site)
    site.clock.tick(86400)

    opened = visitor.open(link)
    posted = visitor.verify(link)

    assert opened.status_code == posted.status_code == 410
    assert not is_proved(site)
    if isinstance(visitor, Program):
        assert visitor.code(opened) == visitor.code(posted) == "token_expired"
        visitor.resend(token=link.rpartition("/")[2])
    else:
        assert heading(opened) == heading(posted) == "This link has expired"
        assert "This one ended on 22 Nov 2026, 08:30 UTC." in words(opened)
        assert "a•••@e•••.com" in words(opened)
        assert forms_of(opened)[0].values.keys() == {"csrf_token", "token"}
        sent = visitor.follow(visitor.submit(opened))
        assert heading(sent) == "Check your email"
    assert len(site.letters) == 2
    visitor.verify(site.last_link)
    assert is_proved(site)


def test_an_expired_link_is_renewed_from_the_page_of_a_late_click(site: Site) -> None:
    """A page that was opened in time and sent too late leads to a new link, too."""
    person = site.person()
    page = person.open(invited(site))
    site.clock.tick(90000)

    late = person.submit(page)
    person.submit(late)

    assert late.status_code == 410
    assert len(site.letters) == 2


@pytest.mark.parametrize("verified", [False, True])
def test_VER_09_a_superseded_link_says_so(site: Site, visitor: Program | Person, verified: bool) -> None:
    """A link that another event has overtaken is gone, and says what to do now."""
    link = invited(site)
    with site.app.app_context():
        (site.accounts.verify_user if verified else site.accounts.revoke_sessions)(EMAIL)

    opened = visitor.open(link)
    posted = visitor.verify(link)

    assert opened.status_code == posted.status_code == 410
    if isinstance(visitor, Program):
        assert visitor.code(opened) == visitor.code(posted) == "token_superseded"
    elif verified:
        assert heading(opened) == heading(posted) == "Your email is already confirmed"
        assert links(opened) == ["/auth/login"]
        assert forms_of(opened) == []
    else:
        assert heading(opened) == "This link no longer works"
        site.clock.tick(61)
        visitor.submit(opened)
        visitor.verify(site.last_link)
        assert is_proved(site)


def test_a_link_whose_row_is_gone_asks_for_the_address(site: Site, visitor: Program | Person) -> None:
    """A genuine link whose row was removed counts as expired, and a new one takes the address."""
    link = invited(site)
    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.execute(sa.delete(site.tables.token))
    site.clock.tick(61)

    response = visitor.open(link)

    assert response.status_code == 410
    if isinstance(visitor, Program):
        assert visitor.code(response) == "token_expired"
    else:
        assert heading(response) == "This link has expired"
        assert visitor.submit(response, email=EMAIL).status_code == 303
        assert len(site.letters) == 2


def _bent(token: str) -> list[str]:
    payload, moment, signature = token.split(".")
    return [
        "x",
        payload,
        f"{payload}.{moment}",
        f"{payload}.{moment}.",
        f".{moment}.{signature}",
        f"{payload}.{signature}.{moment}",
        token[:-1],
        token + "%3E",
        token + "%3e%20",
        token + "/",
        token + "/more",
        token + ".",
        token + "=",
        token + "==",
        token + "!!",
        token + "%20",
        token + "%00",
        token + "%FF",
        token + "%C3%A9",
        token.swapcase(),
        "x" * 70_000,
        "a.b.c",
        "....",
    ]


@pytest.mark.parametrize("number", range(23))
def test_VER_08_a_link_that_is_not_ours_gets_a_page_with_a_form(
    site: Site, visitor: Program | Person, number: int
) -> None:
    """A cut, mangled or made-up link is answered with 400, without a word of SQL, and a form for a new one."""
    invited(site)
    link = "/auth/verify/" + _bent(site.last_token)[number]

    with site.statements() as statements:
        opened = visitor.open(link)
        posted = visitor.client.post(link, headers=visitor.headers)

    assert (opened.status_code, posted.status_code) == (400, 400)
    assert statements == []
    assert not is_proved(site)
    if isinstance(visitor, Program):
        assert visitor.code(opened) == visitor.code(posted) == "token_invalid"
    else:
        assert heading(opened) == heading(posted) == "This link doesn't work"
        site.clock.tick(61)
        assert visitor.submit(opened, email=EMAIL).status_code == 303
        assert site.last_link != link


def test_VER_08_every_bent_byte_is_refused(site: Site) -> None:
    """No byte of a link can be changed."""
    invited(site)
    token, program = site.last_token, site.program()

    found = set()
    for place, sign in enumerate(token):
        other = "A" if sign != "A" else "B"
        found.add(program.get(f"/auth/verify/{token[:place]}{other}{token[place + 1 :]}").status_code)

    assert found == {400}


def test_VER_05_a_link_has_one_spelling(site: Site) -> None:
    """A used link cannot be used under another spelling, and another spelling does not use it."""
    invited(site)
    token, program = site.last_token, site.program()
    spellings = [
        *(token[:-1] + sign for sign in ALPHABET if sign != token[-1]),
        token + "=",
        token + "==",
        token + "!!",
    ]

    before = {program.post("/auth/verify", {"token": one}).status_code for one in spellings}
    used = program.post("/auth/verify", {"token": token})
    after = {program.post("/auth/verify", {"token": one}).status_code for one in spellings}

    assert (before, used.status_code, after) == ({400}, 200, {400})


def test_VER_06_a_link_serves_one_purpose(site: Site, visitor: Program | Person) -> None:
    """A reset link, a refresh token, an access token or a session cookie confirm nothing, and the reverse."""
    site.member()
    login, browser = site.program().login("vic@example.com"), site.person()
    browser.login("vic@example.com")
    site.program().request_reset(email="vic@example.com")
    reset = site.last_token
    verify = invited(site).rpartition("/")[2]
    others = [reset, login.json["access_token"], login.json["refresh_token"], session_cookie(browser)]

    found = {visitor.open(f"/auth/verify/{token}").status_code for token in others}
    mixed = visitor.open(f"/auth/password-reset/{verify}")
    refreshed = site.program().post("/auth/refresh", {"refresh_token": verify})
    shown = site.program().get("/auth/me", authorization=f"Bearer {verify}")

    assert (found, mixed.status_code, refreshed.status_code, shown.status_code) == ({400}, 400, 401, 401)


@pytest.mark.parametrize("path", ["/auth/verify/made.up.link", "/auth/password-reset/made.up.link"])
def test_a_forged_link_costs_no_sql_beside_a_login(site: Site, path: str) -> None:
    """A made-up link costs no statement, also when the browser is logged in."""
    site.member()
    person, script = site.person(), Script(site)
    person.login("vic@example.com")
    script.log_in()

    with site.statements() as statements:
        found = [visitor.get(path).status_code for visitor in (person, script)]
        found += [person.send(path, {}).status_code, script.post(path, {"password": OTHER_PASSWORD}).status_code]

    assert found == [400, 400, 400, 400]
    assert statements == []


def test_I_did_not_sign_up(site: Site, visitor: Program | Person) -> None:
    """Whoever did not sign up can have the link put out of use; nothing else changes."""
    link = invited(site)

    if isinstance(visitor, Program):
        assert visitor.verify(link, discard=True).json["status"] == "discarded"
    else:
        done = visitor.follow(visitor.submit(visitor.open(link), 1, discard="1"))
        assert heading(done) == "Thanks for telling us"
        assert has_way_on(done)

    assert visitor.open(link).status_code == 410
    assert site.account(EMAIL).email_verified_at is None
    assert len(site.rows("user")) == 1


def test_competing_sign_ups_are_settled_by_a_password(site: Site, visitor: Program | Person) -> None:
    """Where two browsers signed an address up, a third one must choose the password to confirm it."""
    site.person().signup(EMAIL, "the stranger's horse")
    site.clock.tick(61)
    site.person().signup(EMAIL, PASSWORD)
    link = site.last_link

    page = visitor.open(link)
    if isinstance(visitor, Program):
        bare, weak = visitor.verify(link), visitor.verify(link, password="short")
        visitor.verify(link, password=OTHER_PASSWORD)
        assert page.json["password_required"] is True
        assert [fault["code"] for answer in (bare, weak) for fault in answer.json["errors"]] == [
            "required",
            "too_short",
        ]
    else:
        bare, weak = visitor.submit(page, password=""), visitor.submit(page, password="short")
        done = visitor.submit(weak, password=OTHER_PASSWORD)
        assert [heading(shown) for shown in (page, bare, weak)] == ["Confirm your email"] * 3
        assert "choose the password" in words(page)
        assert field(page, "password")["autocomplete"] == "new-password"
        assert tags(page, "input")[0]["value"] == EMAIL
        assert "Choose your password." in words(bare)
        assert done.status_code == 303

    assert (bare.status_code, weak.status_code) == (422, 422)
    assert site.program().login(EMAIL, OTHER_PASSWORD).status_code == 200


def test_confirming_beside_another_login_does_not_switch(site: Site) -> None:
    """Whoever is logged in as somebody else is told so, and stays logged in as that."""
    site.member()
    person = site.person()
    person.login("vic@example.com")
    link = invited(site)

    page = person.open(link)
    response = person.submit(page)

    assert "You're logged in here as vic@example.com." in words(page)
    assert is_proved(site)
    assert response.headers["Location"].startswith("/auth/verify/done")
    assert "vic@example.com" in person.me().text


def test_a_person_asks_for_another_link(site: Site) -> None:
    """The page for another link mails one to an address that waits for it, and the new link is another one."""
    first = invited(site)
    site.clock.tick(61)
    person = site.person()

    response = person.resend(email=EMAIL)

    assert heading(person.follow(response)) == "Check your email"
    assert site.last_link != first
    assert person.verify(first).status_code == 303


def test_a_second_request_within_a_minute_mails_nothing(site: Site, visitor: Program | Person) -> None:
    """Asking for another link twice in a minute is answered the same, and mails once."""
    invited(site)
    site.clock.tick(61)

    first, second = visitor.resend(email=EMAIL), visitor.resend(email=EMAIL)

    assert first.status_code == second.status_code == {"json": 202, "html": 303}[visitor.kind]
    assert len(site.letters) == 2
    if isinstance(visitor, Program):
        assert first.json == {
            "status": "accepted",
            "resend_after": 60,
            "detail": "If an account matches, an email is on its way.",
            "activation_url": None,
            "reset_url": None,
        }


def test_VER_12_a_confirmed_address_is_told_so(site: Site, visitor: Program | Person) -> None:
    """Whoever asks for a link to confirm a confirmed address is mailed that there is nothing left to do."""
    site.member()

    visitor.resend(email="vic@example.com")

    assert [(letter.template, letter.link) for letter in site.letters] == [("already_verified", None)]


def test_RED_02_what_was_kept_is_checked_again(site: Site, visitor: Program | Person) -> None:
    """Where a confirmed visitor is sent is checked when the link is used, in both formats."""
    browser = site.person()
    browser.signup(EMAIL, next="//evil.example")
    with site.app.app_context(), site.db.engine.connect() as connection:
        payload = connection.execute(sa.select(site.tables.token.c.payload)).scalar_one()
    assert payload["next"] == "//evil.example"

    if isinstance(visitor, Program):
        assert visitor.verify(site.last_link).json["next"] is None
    else:
        assert browser.verify(site.last_link).headers["Location"] == "/"


def test_a_program_learns_where_the_visitor_wanted_to_go(site: Site) -> None:
    """The JSON answer to a confirmation says where the visitor wanted to go."""
    site.program().signup(EMAIL, next="/secret?page=2")

    response = site.program().verify(site.last_link)

    assert response.json["next"] == "/secret?page=2"


def test_opening_a_link_that_competes_asks_for_a_password(make_site: Callable[..., Site]) -> None:
    """Where opening a link confirms, one of two competing sign-ups shows the page and asks for a password first."""
    site = make_site({"ACCOUNTFLOW_VERIFY_ON_GET": True})
    site.program().signup(EMAIL, OTHER_PASSWORD)
    site.clock.tick(61)
    site.program().signup(EMAIL)
    person = site.person()

    page = person.get(site.last_link)

    assert page.status_code == 200
    assert not is_proved(site)
    done = person.submit(page, password=PASSWORD)
    assert done.status_code == 303
    assert is_proved(site)
    assert site.program().login(EMAIL).status_code == 200


@pytest.mark.parametrize("by_opening", [True, False])
def test_the_last_page_names_whose_link_it_was(make_site: Callable[..., Site], by_opening: bool) -> None:
    """However a link is used, and used again, no page names an address that was typed here for another account."""
    site = make_site({"ACCOUNTFLOW_VERIFY_ON_GET": by_opening})
    site.program().signup(EMAIL)
    person = site.person()
    person.login("bob@example.com", OTHER_PASSWORD)

    first = person.get(site.last_link) if by_opening else person.follow(person.verify(site.last_link))
    again = person.get(site.last_link)

    assert f"You can log in as {EMAIL} now." in words(first)
    assert "bob@example.com" not in first.text + again.text


def test_a_link_while_there_is_no_base_url_leads_to_where_the_app_is_mounted(make_site: Callable[..., Site]) -> None:
    """In debug a mailed link leads below the path that the app is mounted at."""
    site = make_site({"ACCOUNTFLOW_BASE_URL": ABSENT, "DEBUG": True})

    site.program().client.post(
        "/auth/signup", json={"email": EMAIL, "password": PASSWORD}, environ_overrides={"SCRIPT_NAME": "/app"}
    )

    assert str(site.letters[0].link).startswith("http://localhost/app/auth/verify/")


@pytest.mark.parametrize("path", ["/auth/verify/done", "/auth/signup/sent", "/auth/password-reset/sent"])
def test_pages_that_only_follow_a_post_are_for_people(site: Site, path: str) -> None:
    """A page that a redirect leads to exists as HTML only."""
    program = site.program()

    response = program.get(path)

    assert (response.status_code, program.code(response)) == (406, "not_acceptable")
    assert site.person().get(path).status_code == 200
