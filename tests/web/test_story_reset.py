"""Setting a new password by mail, as a program and as a person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from answers import ADDRESSES, Script, bearer, code, cookies, field, heading, links, logged_in, rows, tags, words
from support import OTHER_PASSWORD, PASSWORD, Person, Program, Site, forms_of

EMAIL = ADDRESSES["verified"]


def asked(site: Site) -> str:
    """Ask for a link for the member and return it."""
    site.program().request_reset(email=EMAIL)
    return site.last_link


def test_asking_for_a_link(site: Site, visitor: Program | Person) -> None:
    """Whoever asks for a new password is mailed a link, and told nothing about the address."""
    site.member()

    response = visitor.request_reset(email=EMAIL)

    assert [(letter.to, letter.template) for letter in site.letters] == [(EMAIL, "reset")]
    if isinstance(visitor, Program):
        assert (response.status_code, response.json) == (
            202,
            {
                "status": "accepted",
                "resend_after": 60,
                "detail": "If an account matches, an email is on its way.",
                "activation_url": None,
                "reset_url": None,
            },
        )
    else:
        page = visitor.follow(response)
        assert heading(page) == "Check your email"
        assert f"If an account exists for {EMAIL}, we've sent a link." in words(page)
        assert "Nothing arrives if the address isn't registered" in words(page)
        assert "/auth/signup" in links(page)


def test_a_page_without_an_address_still_has_a_way_on(site: Site) -> None:
    """Whoever comes to the page after a request without his cookie finds the way back."""
    page = site.person().get("/auth/password-reset/sent")

    assert forms_of(page) == []
    assert "/auth/password-reset/request" in links(page)


def test_opening_a_link_shows_the_form(site: Site, visitor: Program | Person) -> None:
    """Opening a reset link shows the form, with the rule and with the address for password managers."""
    site.member()
    link = asked(site)

    response = visitor.open(link)

    assert response.status_code == 200
    if isinstance(visitor, Program):
        assert response.json == {
            "status": "valid",
            "expires_at": "2026-11-21T09:30:00Z",
            "password": {"min_length": 12},
        }
    else:
        username, password = tags(response, "input")
        assert heading(response) == "Set a new password"
        assert (username["autocomplete"], username["value"]) == ("username", EMAIL)
        assert (password["name"], password["autocomplete"]) == ("password", "new-password")
        assert "At least 12 characters." in words(response)
        assert forms_of(response)[0].action == link
        assert cookies(response) == []


@pytest.mark.parametrize("headers", [{}, {"Purpose": "prefetch"}, {"Sec-Purpose": "prefetch"}], ids=str)
def test_RST_06_looking_at_a_link_changes_nothing(
    site: Site, visitor: Program | Person, headers: dict[str, str]
) -> None:
    """However often a reset link is opened, every row stays as it was, and the link works."""
    site.member()
    link = asked(site)
    before = rows(site)

    for method in ("GET", "HEAD", "OPTIONS", "GET"):
        visitor.client.open(link, method=method, headers={**visitor.headers, **headers})

    assert rows(site) == before
    visitor.reset(link)
    assert site.program().login(EMAIL, OTHER_PASSWORD).status_code == 200


def test_setting_the_password(site: Site, visitor: Program | Person) -> None:
    """A new password works at once, and the old one no more."""
    site.member()

    response = visitor.reset(asked(site))

    assert response.status_code == {"json": 200, "html": 303}[visitor.kind]
    assert site.program().login(EMAIL, PASSWORD).status_code == 401
    assert site.program().login(EMAIL, OTHER_PASSWORD).status_code == 200


def test_a_program_is_logged_in_by_the_reset(site: Site) -> None:
    """A program that sets a password by link gets a pair."""
    site.member()

    response = site.program().reset(asked(site))

    assert response.json["user"]["email"] == EMAIL
    assert site.program().me(response).status_code == 200


def test_RST_11_a_person_logs_in_himself(site: Site) -> None:
    """After a reset in a browser nobody is logged in; the login page is filled in with the address."""
    site.member()
    person = site.person()

    page = person.follow(person.reset(asked(site)))
    login = person.get(links(page)[0])

    assert heading(page) == "Password changed"
    assert "You've been logged out on other devices." in words(page)
    assert not logged_in(person)
    assert field(login, "email")["value"] == EMAIL
    assert person.submit(login, password=OTHER_PASSWORD).status_code == 303


@pytest.mark.parametrize(
    ("rule", "program_in", "person_in"), [("always", True, True), ("json", True, False), ("never", False, False)]
)
def test_the_site_chooses_whether_a_reset_logs_in(
    make_site: Callable[..., Site], rule: str, program_in: bool, person_in: bool
) -> None:
    """LOGIN_ON_RESET says whether a reset also logs in."""
    site = make_site({"ACCOUNTFLOW_LOGIN_ON_RESET": rule})
    site.member()
    person = site.person()

    answer = site.program().reset(asked(site))
    site.clock.tick(61)
    person.reset(asked(site), "a third horse battery")

    assert ("access_token" in answer.json) is program_in
    assert logged_in(person) is person_in
    if not program_in:
        assert answer.json == {"status": "password_changed"}


def test_a_program_may_send_the_token_in_the_body(site: Site) -> None:
    """The token of a reset link may be sent in the body."""
    site.member()
    asked(site)

    response = site.program().post(
        "/auth/password-reset/confirm", {"token": site.last_token, "password": OTHER_PASSWORD}
    )

    assert response.status_code == 200
    assert site.program().login(EMAIL, OTHER_PASSWORD).status_code == 200


def test_SES_11_a_reset_ends_everything(site: Site, visitor: Program | Person) -> None:
    """After a reset the sessions of two browsers, the access token and the refresh token are dead at once."""
    site.member()
    first, second, program = site.person(), Script(site), site.program()
    first.login(EMAIL)
    second.log_in()
    pair = program.login(EMAIL)
    before = [logged_in(first), logged_in(second), program.me(pair).status_code]

    visitor.reset(asked(site))

    assert before == [True, True, 200]
    assert not logged_in(first)
    assert not logged_in(second)
    assert program.get("/auth/me", **bearer(pair)).status_code == 401
    assert program.post("/auth/refresh", {"refresh_token": pair.json["refresh_token"]}).status_code == 401


def test_RST_12_the_owner_is_told(site: Site, visitor: Program | Person) -> None:
    """A reset mails a notice to the owner, without a link that works or a password."""
    site.member()

    visitor.reset(asked(site))

    notice = site.letters[-1]
    assert (notice.to, notice.template, notice.link) == (EMAIL, "password_changed", None)
    assert OTHER_PASSWORD not in notice.text + notice.html
    assert "/auth/password-reset/request" in notice.text


@pytest.mark.parametrize(
    ("password", "error"),
    [("", "required"), ("short", "too_short"), ("x" * 300, "too_long"), (EMAIL, "contains_email")],
)
def test_RST_13_a_refused_password_does_not_use_the_link_up(
    site: Site, visitor: Program | Person, password: str, error: str
) -> None:
    """A password that is refused leaves the link good, and the form is shown again."""
    site.member()
    link = asked(site)

    refused = visitor.reset(link, password)

    assert refused.status_code == 422
    if isinstance(visitor, Program):
        assert [fault["code"] for fault in refused.json["errors"]] == [error]
    else:
        assert heading(refused) == "Set a new password"
        assert "value" not in field(refused, "password")
        assert tags(refused, "input")[0]["value"] == EMAIL
    assert visitor.reset(link).status_code == {"json": 200, "html": 303}[visitor.kind]


def test_RST_07_a_link_works_once(site: Site, visitor: Program | Person) -> None:
    """A used reset link is gone, says when it was used, and leads to a new one by one button."""
    site.member()
    link = asked(site)
    page = visitor.open(link)
    visitor.reset(link)
    site.clock.tick(61)

    opened = visitor.open(link)

    assert opened.status_code == 410
    if isinstance(visitor, Program):
        again = visitor.reset(link, "a third horse battery")
        assert visitor.code(opened) == visitor.code(again) == "token_used"
        visitor.request_reset(token=link.rpartition("/")[2])
    else:
        again = visitor.submit(page, password="a third horse battery")
        assert heading(opened) == heading(again) == "This link has been used"
        assert "This one was used on 21 Nov 2026, 08:30 UTC." in words(opened)
        visitor.submit(opened)
    assert again.status_code == 410
    assert site.program().login(EMAIL, OTHER_PASSWORD).status_code == 200
    assert (
        visitor.reset(site.last_link, "a fourth horse battery").status_code == {"json": 200, "html": 303}[visitor.kind]
    )


def test_RST_10_an_expired_link_offers_a_new_one(site: Site, visitor: Program | Person) -> None:
    """A reset link ends after an hour, and its page mails another by one button."""
    site.member()
    link = asked(site)
    site.clock.tick(3600)

    opened, posted = visitor.open(link), visitor.client.post(link, json={"password": OTHER_PASSWORD})

    assert (opened.status_code, posted.status_code) == (410, 410)
    assert code(visitor, opened) == {"json": "token_expired", "html": "This link has expired"}[visitor.kind]
    if isinstance(visitor, Program):
        visitor.request_reset(token=link.rpartition("/")[2])
    else:
        assert "a•••" not in words(opened)
        assert "v•••@e•••.com" in words(opened)
        visitor.submit(opened)
    assert visitor.reset(site.last_link).status_code == {"json": 200, "html": 303}[visitor.kind]


def test_RST_08_a_success_ends_every_other_link(site: Site, visitor: Program | Person) -> None:
    """When one of several links was used, the others are dead, and say so."""
    site.member()
    found = []
    for _ in range(3):
        found.append(asked(site))
        site.clock.tick(61)

    visitor.reset(found[1])

    states = [code(visitor, visitor.open(link)) for link in found]
    used, dead = {
        "json": ("token_used", "token_superseded"),
        "html": ("This link has been used", "This link no longer works"),
    }[visitor.kind]
    assert states == [dead, used, dead]


def test_RST_09_a_strangers_requests_do_not_kill_the_owners_link(site: Site, visitor: Program | Person) -> None:
    """Twenty requests for new links leave the first one good."""
    site.member()
    link = asked(site)

    for _ in range(20):
        site.clock.tick(61)
        site.program().request_reset(email=EMAIL)

    assert visitor.reset(link).status_code == {"json": 200, "html": 303}[visitor.kind]


def test_RST_15_asking_changes_nothing(site: Site, visitor: Program | Person) -> None:
    """Asking for a link leaves the password, the logins and the account as they were."""
    site.member()
    person = site.person()
    person.login(EMAIL)
    before = site.rows("user"), site.rows("session")

    for _ in range(3):
        visitor.request_reset(email=EMAIL)

    assert (site.rows("user"), site.rows("session")) == before
    assert logged_in(person)


def test_RST_16_a_reset_does_not_enable(site: Site, visitor: Program | Person) -> None:
    """A disabled account gets no link, and the links that it had are dead."""
    site.member()
    link = asked(site)
    with site.app.app_context():
        site.accounts.disable_user(EMAIL)
    site.clock.tick(61)

    visitor.request_reset(email=EMAIL)

    assert len(site.letters) == 1
    assert visitor.reset(link).status_code == 410
    assert not site.account(EMAIL).is_active


def test_RST_17_a_link_belongs_to_its_account(site: Site, visitor: Program | Person) -> None:
    """Fields that name somebody else beside the new password are ignored."""
    site.member()
    site.member("eve@example.com")
    link = asked(site)
    fields = {"password": OTHER_PASSWORD, "email": "eve@example.com", "user_id": "1", "token": "x"}

    if isinstance(visitor, Program):
        visitor.post(link, fields)
    else:
        visitor.send(link, fields)

    assert site.program().login("eve@example.com").status_code == 200
    assert site.program().login(EMAIL, OTHER_PASSWORD).status_code == 200


def test_RST_18_a_reset_proves_the_mailbox(site: Site, visitor: Program | Person) -> None:
    """A reset on an unproved account proves the address, and nothing of the earlier sign-up survives."""
    site.program().signup(EMAIL, "the stranger's horse", name="Stranger")
    verify = site.last_link

    visitor.reset(asked(site))

    account = site.account(EMAIL)
    assert account.email_verified_at is not None
    assert account.name is None
    assert visitor.open(verify).status_code == 410
    assert site.program().login(EMAIL, "the stranger's horse").status_code != 200
    assert site.program().login(EMAIL, OTHER_PASSWORD).status_code == 200


def test_RST_21_a_dead_link_says_nothing_about_the_password(site: Site, visitor: Program | Person) -> None:
    """A dead link answers alike, whatever password comes with it."""
    site.member()
    link = asked(site)
    with site.app.app_context():
        site.accounts.revoke_sessions(EMAIL)

    found = [visitor.client.post(link, **body(visitor, password)) for password in (PASSWORD, OTHER_PASSWORD)]

    assert [answer.status_code for answer in found] == [410, 410]
    assert code(visitor, found[0]) == code(visitor, found[1])


def body(visitor: Program | Person, password: str) -> dict[str, object]:
    """Return the arguments that post a password in the visitor's format."""
    how = {"json": {"password": password}} if isinstance(visitor, Program) else {"data": {"password": password}}
    return {**how, "headers": visitor.headers}


@pytest.mark.parametrize("token", ["x", "a.b.c", "{cut}", "{whole}%3E", "{whole}/", "{whole}=", "%00", "x" * 70_000])
def test_a_link_that_is_not_ours_gets_a_page_with_a_form(site: Site, visitor: Program | Person, token: str) -> None:
    """A cut, mangled or made-up reset link is answered with 400, without SQL, whatever password comes with it."""
    site.member()
    asked(site)
    whole = site.last_token
    link = "/auth/password-reset/" + token.format(cut=whole.rpartition(".")[0], whole=whole)

    with site.statements() as statements:
        found = [
            visitor.open(link),
            visitor.client.post(link, **body(visitor, OTHER_PASSWORD)),
            visitor.client.post(link, **body(visitor, "")),
        ]

    assert [answer.status_code for answer in found][:2] == [400, 400]
    assert found[2].status_code in {400, 422}
    assert statements == []
    assert code(visitor, found[0]) == {"json": "token_invalid", "html": "This link doesn't work"}[visitor.kind]
    if isinstance(visitor, Person):
        site.clock.tick(61)
        assert visitor.submit(found[0], email=EMAIL).status_code == 303
        assert len(site.letters) == 2


def test_a_dead_link_of_a_changed_address_mails_nobody(site: Site, visitor: Program | Person) -> None:
    """A dead link renews a link only while the account has the address that it was sent to."""
    site.member()
    token = asked(site).rpartition("/")[2]
    user = site.tables.user
    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.execute(sa.update(user).values(email="new@example.com", email_key="new@example.com"))
    site.clock.tick(4000)

    if isinstance(visitor, Program):
        response = visitor.request_reset(token=token)
    else:
        response = visitor.fill("/auth/password-reset/request", token=token)

    assert response.status_code == {"json": 202, "html": 303}[visitor.kind]
    assert len(site.letters) == 1


@pytest.mark.parametrize("token", ["made-up", "\0", "x" * 60_000])
def test_a_made_up_token_asks_for_nothing(site: Site, visitor: Program | Person, token: str) -> None:
    """Asking for a link by a token that is not ours is answered as any other, and mails nobody."""
    site.member()

    for path in ("/auth/password-reset/request", "/auth/verify/resend"):
        if isinstance(visitor, Program):
            response = visitor.post(path, {"token": token})
        else:
            response = visitor.fill(path, token=token)
        assert response.status_code == {"json": 202, "html": 303}[visitor.kind]

    assert site.letters == []


def test_a_link_does_not_tell_whose_it_was_after_its_row_is_gone(site: Site, visitor: Program | Person) -> None:
    """A genuine link whose row was removed counts as expired, and asks for the address."""
    site.member()
    link = asked(site)
    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.execute(sa.delete(site.tables.token))

    response = visitor.open(link)

    assert response.status_code == 410
    assert code(visitor, response) == {"json": "token_expired", "html": "This link has expired"}[visitor.kind]
    if isinstance(visitor, Person):
        assert "•" not in response.text
        assert field(response, "email")["type"] == "email"


def test_next_is_kept_on_the_pages_around_a_reset(site: Site) -> None:
    """Where somebody wanted to go is kept on the page that asks, the page that follows and the way back."""
    site.member()
    person = site.person()

    sent = person.follow(person.fill("/auth/password-reset/request?next=/secret", email=EMAIL))

    assert "/auth/login?next=/secret" in links(sent)
    assert field(sent, "next")["value"] == "/secret"


# Addresses without an account.


@pytest.mark.parametrize("kind", ["program", "person"])
@pytest.mark.parametrize("is_open", [True, False])
def test_a_stranger_is_told_by_mail(make_site: Callable[..., Site], kind: str, is_open: bool) -> None:
    """Where the site wants it, an address without an account is told so by mail, and where to sign up if it can."""
    site = make_site({"ACCOUNTFLOW_MAIL_UNKNOWN": True, "ACCOUNTFLOW_SIGNUP_ENABLED": is_open})
    visitor: Any = getattr(site, kind)()

    answer = visitor.request_reset(email="Una@example.com")

    [letter] = site.letters
    assert answer.status_code == (202 if kind == "program" else 303)
    assert (letter.template, letter.to, letter.subject) == (
        "no_account",
        "Una@example.com",
        "No Shop account for this address",
    )
    assert letter.link is None
    assert ("https://www.example.com/auth/signup" in letter.text) is is_open
    # Its row forgets the address of somebody who has no account.
    assert [(row.state, row.to_addr) for row in site.rows("mail")] == [("sent", None)]
    if kind == "person":
        page = words(visitor.follow(answer))
        assert "It holds a link, or says that this address has no account." in page
        assert "Nothing arrives" not in page


@pytest.mark.parametrize("kind", ["program", "person"])
def test_a_stranger_is_not_written_to(site: Site, kind: str) -> None:
    """Unless the site wants it, nothing is sent to an address without an account."""
    getattr(site, kind)().request_reset(email="una@example.com")

    assert site.letters == []
