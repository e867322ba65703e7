"""What administrators do over HTTP: create users, and send test mails. Programs only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from answers import ADDRESSES, FORM, Script, bearer, cookies, heading, rows, session_cookie, with_cookie
from support import OTHER_PASSWORD, PASSWORD, Person, Program, Site

from flask_accountflow.errors import MailRejected
from flask_accountflow.mail.transports import Unreachable

ADMIN = ADDRESSES["verified"]
EMAIL = "una@example.com"
USERS, TEST_MAIL = "/auth/admin/users", "/auth/admin/test-mail"
BOTH = [(USERS, {"email": EMAIL}), (TEST_MAIL, {"to": EMAIL})]

MakeSite = Callable[..., Site]
Post = Callable[[str, Any], Any]


def by_bearer(site: Site, email: str = ADMIN) -> Post:
    """Log somebody in for tokens, and return how he sends something then."""
    program = site.program()
    login = program.login(email)
    return lambda path, data: program.post(path, data, **bearer(login))


def by_cookie(site: Site, email: str = ADMIN) -> Post:
    """Log somebody in for a cookie, and return how he sends something then."""
    script = Script(site)
    script.log_in(email)
    token = script.token()
    return lambda path, data: script.post(path, data, x_csrf_token=token)


@pytest.fixture(params=[by_bearer, by_cookie], ids=["bearer", "cookie"])
def operate(request: pytest.FixtureRequest, site: Site) -> Post:
    """Send something as an administrator: with a bearer token, then with a cookie."""
    site.member(ADMIN, admin=True)
    way: Post = request.param(site)
    return way


def codes(response: Any) -> dict[str, str]:
    """Return the faulty fields of an answer with their codes."""
    return {fault["field"]: fault["code"] for fault in response.json["errors"]}


# Creating users.


def test_a_verified_user_logs_in_at_once(site: Site, operate: Post) -> None:
    """A user who is created verified with a password needs no mail, and the answer is the user."""
    response = operate(USERS, {"email": "Una@Example.com", "password": OTHER_PASSWORD, "email_verified": True})

    assert response.status_code == 201
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json == {
        "id": str(site.account(EMAIL).id),
        "email": "Una@example.com",
        "email_verified": True,
        "is_admin": False,
        "created_at": "2026-11-21T08:30:00Z",
    }
    assert site.letters == []
    assert site.program().login(EMAIL, OTHER_PASSWORD).status_code == 200


def test_an_unverified_user_has_to_confirm(site: Site, operate: Post) -> None:
    """A user who is created unverified is mailed a link, and gets in with the given password after opening it."""
    response = operate(USERS, {"email": EMAIL, "password": OTHER_PASSWORD})

    program = site.program()
    before = program.login(EMAIL, OTHER_PASSWORD)
    site.person().verify(site.last_link)
    after = program.login(EMAIL, OTHER_PASSWORD)
    assert (response.status_code, response.json["email_verified"]) == (201, False)
    assert [(letter.template, letter.to) for letter in site.letters] == [("verify", EMAIL)]
    assert (program.code(before), after.status_code) == ("email_unverified", 200)


@pytest.mark.parametrize("verified", [True, False])
@pytest.mark.parametrize("way", [Program, Person], ids=["json", "html"])
def test_a_user_without_a_password_sets_one(site: Site, operate: Post, verified: bool, way: type[Any]) -> None:
    """A user who is created without a password is mailed a link to set one, and logs in with that."""
    response = operate(USERS, {"email": EMAIL, "email_verified": verified})

    assert (response.status_code, response.json["email_verified"]) == (201, verified)
    assert set(response.json) == {"id", "email", "email_verified", "is_admin", "created_at"}
    assert [(letter.template, letter.to) for letter in site.letters] == [("set_password", EMAIL)]
    visitor = way(site)
    visitor.reset(site.last_link)
    login = visitor.login(EMAIL, OTHER_PASSWORD)
    assert visitor.me(login).status_code == 200
    assert site.account(EMAIL).email_verified_at is not None


@pytest.mark.parametrize("is_admin", [True, False])
def test_an_administrator_makes_administrators(site: Site, operate: Post, is_admin: bool) -> None:
    """Only who is created with ``is_admin`` may create users himself."""
    response = operate(USERS, {"email": EMAIL, "password": PASSWORD, "email_verified": True, "is_admin": is_admin})

    third = by_bearer(site, EMAIL)(USERS, {"email": "eve@example.com"})
    assert response.json["is_admin"] is is_admin
    assert third.status_code == (201 if is_admin else 403)


def test_unknown_members_are_ignored(site: Site, operate: Post) -> None:
    """No column of an account can be set beside those that the route names; ``null`` is absent."""
    wanted = {"id": 77, "is_active": False, "email_verified_at": "2020-01-01", "stamp": "x", "password_hash": "x"}

    response = operate(USERS, {**wanted, "email": EMAIL, "password": None, "is_admin": None, "email_verified": None})

    account = site.account(EMAIL)
    assert response.status_code == 201
    assert account.is_active
    assert (account.is_admin, account.email_verified_at, account.password_hash) == (False, None, None)


@pytest.mark.parametrize("verified", [True, False])
@pytest.mark.parametrize("email", [ADMIN, "VIC@EXAMPLE.COM", " Vic@example.com "])
def test_a_taken_address_is_said(site: Site, operate: Post, email: str, verified: bool) -> None:
    """An address that has an account is answered 409 with its field, however it is spelled; nothing is changed."""
    before = rows(site)["user"]

    response = operate(USERS, {"email": email, "password": OTHER_PASSWORD, "email_verified": verified})

    assert (response.status_code, response.json["code"]) == (409, "email_taken")
    assert response.headers["Content-Type"] == "application/problem+json"
    assert list(codes(response)) == ["email"]
    assert rows(site)["user"] == before
    assert site.letters == []


def test_SUP_22_a_squatter_gives_way(site: Site, operate: Post) -> None:
    """A stranger's unconfirmed sign-up keeps its address from no verified user, and its link is dead."""
    stranger = site.program()
    stranger.signup(EMAIL, PASSWORD)
    link = site.last_link

    kept = operate(USERS, {"email": EMAIL, "password": OTHER_PASSWORD})
    taken = operate(USERS, {"email": EMAIL, "password": OTHER_PASSWORD, "email_verified": True})

    assert (kept.status_code, taken.status_code) == (409, 201)
    assert stranger.code(stranger.verify(link, password=PASSWORD)) == "token_superseded"
    assert stranger.login(EMAIL, PASSWORD).status_code != 200
    assert stranger.login(EMAIL, OTHER_PASSWORD).status_code == 200


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({}, {"email": "required"}),
        ({"email": None}, {"email": "required"}),
        ({"email": "una"}, {"email": "invalid_email"}),
        ({"email": ["una@example.com"]}, {"email": "invalid_type"}),
        ({"email": "una@example.com\r\nBcc: eve@example.com"}, {"email": "invalid_email"}),
        ({"email": EMAIL, "password": "short"}, {"password": "too_short"}),
        ({"email": EMAIL, "password": EMAIL}, {"password": "contains_email"}),
        ({"email": EMAIL, "password": 123456789012}, {"password": "invalid_type"}),
        ({"email": EMAIL, "is_admin": "true"}, {"is_admin": "invalid_type"}),
        ({"email": EMAIL, "is_admin": 1}, {"is_admin": "invalid_type"}),
        ({"email": EMAIL, "is_admin": "false"}, {"is_admin": "invalid_type"}),
        ({"email": EMAIL, "email_verified": "yes"}, {"email_verified": "invalid_type"}),
        (
            {"email": EMAIL, "email_verified": [], "is_admin": {}},
            dict.fromkeys(("email_verified", "is_admin"), "invalid_type"),
        ),
    ],
)
def test_what_is_wrong_is_said(site: Site, body: dict[str, Any], faults: dict[str, str]) -> None:
    """A body with a missing, bad or mistyped member is answered 422 with every fault, and creates nobody."""
    site.member(ADMIN, admin=True)

    response = by_bearer(site)(USERS, body)

    assert (response.status_code, response.json["code"]) == (422, "validation_failed")
    assert codes(response) == faults
    assert len(site.rows("user")) == 1
    assert site.letters == []


@pytest.mark.parametrize("verified", [True, False])
def test_links_stand_in_the_answer_where_nothing_is_mailed(make_site: MakeSite, verified: bool) -> None:
    """With RETURN_TOKEN_IN_RESPONSE the link to set a password, or to confirm, is in the answer, and works."""
    site = make_site({"ACCOUNTFLOW_RETURN_TOKEN_IN_RESPONSE": True})
    site.member(ADMIN, admin=True)
    operate, program = by_bearer(site), site.program()

    invited = operate(USERS, {"email": EMAIL, "email_verified": verified}).json
    given = operate(USERS, {"email": "eve@example.com", "password": PASSWORD, "email_verified": verified}).json

    assert site.letters == []
    assert program.reset(_path(invited["reset_url"])).status_code == 200
    assert "activation_url" not in invited
    assert ("activation_url" in given, "reset_url" in given) == (not verified, False)
    if not verified:
        assert program.verify(_path(given["activation_url"])).json["status"] == "verified"
    assert program.login("eve@example.com").status_code == 200


def _path(link: str) -> str:
    return link.removeprefix("https://www.example.com")


# Who may.


@pytest.mark.parametrize(("path", "body"), BOTH, ids=["users", "test-mail"])
@pytest.mark.parametrize(
    ("raw", "kind"),
    [(None, None), (b'{"email": ', "application/json"), (b"[]", "application/json"), (b"email=x", "text/plain")],
)
def test_a_stranger_is_refused_before_the_body_is_read(
    site: Site, path: str, body: dict[str, str], raw: bytes | None, kind: str | None
) -> None:
    """A stranger gets 401 with a challenge, whatever he sends, and learns nothing of what the route takes."""
    client: Any = site.app.test_client()
    headers = {"Accept": "application/json"}

    if raw is None:
        response = client.post(path, json=body, headers=headers)
    else:
        response = client.post(path, data=raw, content_type=kind, headers=headers)

    assert (response.status_code, response.json["code"]) == (401, "authentication_required")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="Shop"'
    assert cookies(response) == []
    assert not any(rows(site).values())


@pytest.mark.parametrize(("path", "body"), BOTH, ids=["users", "test-mail"])
@pytest.mark.parametrize("way", [by_bearer, by_cookie], ids=["bearer", "cookie"])
def test_a_member_is_refused(site: Site, path: str, body: dict[str, str], way: Callable[[Site], Post]) -> None:
    """Who is logged in and no administrator gets 403, and nothing happens."""
    site.member(ADMIN)
    post = way(site)
    before = rows(site)

    response = post(path, {**body, "is_admin": True})

    assert (response.status_code, response.json["code"]) == (403, "forbidden")
    assert rows(site) == before
    assert site.letters == []


@pytest.mark.parametrize(("path", "body"), BOTH, ids=["users", "test-mail"])
def test_a_member_is_refused_before_the_body_is_read(site: Site, path: str, body: dict[str, str]) -> None:
    """A member's broken body is refused as any other of his."""
    site.member(ADMIN)
    headers = {"Accept": "application/json", "Authorization": bearer(site.program().login(ADMIN))["authorization"]}
    client: Any = site.app.test_client()

    response = client.post(path, data=b'{"email": ', content_type="application/json", headers=headers)

    assert (response.status_code, response.json["code"]) == (403, "forbidden")


@pytest.mark.parametrize(("path", "body"), BOTH, ids=["users", "test-mail"])
def test_a_cookie_needs_the_token(site: Site, path: str, body: dict[str, str]) -> None:
    """An administrator's cookie does nothing without the token that goes with it: another site's page has none."""
    site.member(ADMIN, admin=True)
    script = Script(site)
    script.log_in(ADMIN)

    answers = [script.post(path, body), script.post(path, body, x_csrf_token=Script(site).token())]
    right = script.post(path, body, x_csrf_token=script.token())

    assert [(answer.status_code, answer.json["code"]) for answer in answers] == [(403, "csrf_failed")] * 2
    assert right.status_code in {201, 202}
    assert len(site.letters) == 1


@pytest.mark.parametrize(("path", "body"), BOTH, ids=["users", "test-mail"])
def test_another_sites_page_is_refused(site: Site, path: str, body: dict[str, str]) -> None:
    """What another site's page sends is refused, whatever it has found out."""
    site.member(ADMIN, admin=True)
    script = Script(site)
    script.log_in(ADMIN)

    response = script.post(path, body, x_csrf_token=script.token(), origin="https://evil.example")

    assert (response.status_code, response.json["code"]) == (403, "cross_origin_blocked")
    assert site.letters == []


@pytest.mark.parametrize(("path", "body"), BOTH, ids=["users", "test-mail"])
def test_a_cookie_does_not_help_a_bad_bearer_token(site: Site, path: str, body: dict[str, str]) -> None:
    """Beside a bearer token, here a member's and a made-up one, an administrator's cookie does not count."""
    site.member(ADMIN, admin=True)
    site.member(EMAIL)
    script = Script(site)
    script.log_in(ADMIN)
    token = script.token()

    made_up = script.post(path, body, x_csrf_token=token, authorization="Bearer made.up.token")
    members = script.post(path, body, x_csrf_token=token, **bearer(site.program().login(EMAIL)))

    assert (made_up.status_code, members.status_code) == (401, 403)
    assert 'error="invalid_token"' in made_up.headers["WWW-Authenticate"]


@pytest.mark.parametrize(("path", "body"), BOTH, ids=["users", "test-mail"])
def test_rights_end_at_once(site: Site, operate: Post, path: str, body: dict[str, str]) -> None:
    """An administrator who is disabled, and one who is none any more, are refused from the next request on."""
    site.change(ADMIN, is_admin=False)
    demoted = operate(path, body)
    site.change(ADMIN, is_admin=True)
    with site.app.app_context():
        site.accounts.disable_user(ADMIN)
    disabled = operate(path, body)

    assert (demoted.status_code, disabled.status_code) == (403, 401)
    assert len(site.rows("user")) == 1
    assert site.letters == []


@pytest.mark.parametrize(("path", "body"), BOTH, ids=["users", "test-mail"])
@pytest.mark.parametrize("logged_in", [True, False])
def test_there_is_no_page(site: Site, path: str, body: dict[str, str], logged_in: bool) -> None:
    """A browser gets 406, be it an administrator's or a stranger's, and nothing happens."""
    site.member(ADMIN, admin=True)
    person = site.person()
    if logged_in:
        person.login(ADMIN)
    before = rows(site)

    page = person.send(path, body, content_type=FORM)

    assert (page.status_code, heading(page)) == (406, "Not available in this format")
    assert rows(site) == before


@pytest.mark.parametrize("path", [USERS, TEST_MAIL])
def test_there_is_nothing_to_read(site: Site, path: str) -> None:
    """The routes take POST alone."""
    response = site.program().get(path)

    assert (response.status_code, response.json["code"]) == (405, "method_not_allowed")
    assert not {"GET", "HEAD"} & set(response.headers["Allow"].split(", "))


def test_an_access_token_from_before_a_promotion(site: Site) -> None:
    """Rights are looked up and never taken from a token: a promotion counts at once, a copied cookie is dead."""
    site.member(ADMIN)
    post = by_bearer(site)
    before = post(TEST_MAIL, {"to": EMAIL})
    site.change(ADMIN, is_admin=True)
    person = site.person()
    person.login(ADMIN)
    copied = session_cookie(person)
    person.logout()

    after = post(TEST_MAIL, {"to": EMAIL})
    stolen = Script(site, with_cookie(site, copied).client).post(TEST_MAIL, {"to": EMAIL})

    assert (before.status_code, after.status_code, stolen.status_code) == (403, 202, 401)


# Test mails.


def test_a_test_mail_goes_to_whom_it_names(site: Site, operate: Post) -> None:
    """A test mail goes to the address that was named, whether or not it has an account, and holds no link."""
    response = operate(TEST_MAIL, {"to": "Una@Example.com"})

    assert response.status_code == 202
    assert response.json == {"status": "accepted", "to": "Una@example.com"}
    [letter] = site.letters
    assert (letter.template, letter.to, letter.link) == ("test", "Una@example.com", None)
    assert "://" not in letter.text
    assert "href" not in letter.html
    assert site.rows("token") == []


@pytest.mark.parametrize(
    ("to", "code"),
    [
        (None, "required"),
        ("", "required"),
        ("una", "invalid_email"),
        ("una@example.com, eve@example.com", "invalid_email"),
        ("una@example.com\r\nBcc: eve@example.com", "invalid_email"),
        (["una@example.com"], "invalid_type"),
    ],
)
def test_a_test_mail_needs_one_address(site: Site, to: object, code: str) -> None:
    """What is not one address is refused, and nothing is mailed."""
    site.member(ADMIN, admin=True)

    response = by_bearer(site)(TEST_MAIL, {"to": to})

    assert (response.status_code, codes(response)) == (422, {"to": code})
    assert site.rows("mail") == []


def test_test_mails_are_limited(make_site: MakeSite) -> None:
    """Test mails count as requests that cause a mail: a stolen administrator's token sends no flood of them."""
    site = make_site({"ACCOUNTFLOW_RATELIMIT_ENABLED": True, "ACCOUNTFLOW_RATELIMIT_MAIL_IP": "3/day"})
    site.member(ADMIN, admin=True)
    post = by_bearer(site)

    site.program().request_reset(email="nobody@example.com")
    answers = [post(TEST_MAIL, {"to": EMAIL}) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert answers[2].json["code"] == "rate_limited"
    assert int(answers[2].headers["Retry-After"]) == answers[2].json["retry_after"] > 0
    assert len(site.letters) == 2


def test_a_test_mail_does_not_wait_for_the_server(site: Site) -> None:
    """While the mail server is away the answer is the same, and the mail goes out later."""
    site.member(ADMIN, admin=True)
    site.transport.fault = Unreachable("nobody at home")
    response = by_bearer(site)(TEST_MAIL, {"to": EMAIL})
    site.transport.fault = None

    before = len(site.letters)
    site.clock.tick(5)
    _deliver(site)

    assert (response.status_code, before) == (202, 0)
    assert [letter.to for letter in site.letters] == [EMAIL]


@pytest.mark.parametrize(("fault", "state"), [(None, "sent"), (MailRejected("550 no"), "failed")])
def test_a_test_mails_address_is_not_kept(make_site: MakeSite, fault: Exception | None, state: str) -> None:
    """The outbox holds the address of a test mail until it was sent or given up, and then only its keyed hash."""
    site = make_site({"ACCOUNTFLOW_MAIL_KICK": "worker"})
    site.member(ADMIN, admin=True)
    by_bearer(site)(TEST_MAIL, {"to": EMAIL})
    [waiting] = site.rows("mail")

    site.transport.fault = fault
    _deliver(site)

    [row] = site.rows("mail")
    assert (waiting.state, waiting.to_addr, waiting.user_id) == ("pending", EMAIL, None)
    assert (row.state, row.to_addr) == (state, None)
    assert EMAIL not in str(row)


def test_other_mails_keep_their_address(site: Site) -> None:
    """A mail to an account keeps the address that it went to; it is deleted with the account."""
    site.member(ADMIN)

    site.program().request_reset(email=ADMIN)

    assert [(row.state, row.to_addr) for row in site.rows("mail")] == [("sent", ADMIN)]


def test_a_test_mail_is_mailed_even_where_links_are_returned(make_site: MakeSite) -> None:
    """With RETURN_TOKEN_IN_RESPONSE a test mail still goes out: it is there to see whether mails do."""
    site = make_site({"ACCOUNTFLOW_RETURN_TOKEN_IN_RESPONSE": True})
    site.member(ADMIN, admin=True)

    by_bearer(site)(TEST_MAIL, {"to": EMAIL})

    assert [letter.template for letter in site.letters] == ["test"]


def test_test_mails_cost_an_owner_nothing(site: Site) -> None:
    """However many test mails went to an address, its owner still gets his reset link."""
    site.member(ADMIN, admin=True)
    site.member(EMAIL)
    post = by_bearer(site)

    for _ in range(12):
        post(TEST_MAIL, {"to": EMAIL})
    site.program().request_reset(email=EMAIL)

    assert [letter.template for letter in site.letters] == ["test"] * 12 + ["reset"]


def _deliver(site: Site) -> None:
    with site.app.app_context():
        site.app.extensions["accountflow_delivery"].deliver_due()
