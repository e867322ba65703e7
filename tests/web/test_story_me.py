"""The account of who is logged in, as a program and as a person."""

from __future__ import annotations

import pytest
from answers import Script, bearer, heading, links, words
from support import PASSWORD, Person, Program, Site, forms_of

EMAIL = "vic@example.com"


def test_me_in_json(site: Site) -> None:
    """A program learns the id, the address and the rights of its user, and nothing else."""
    site.member(admin=True)
    program = site.program()

    response = program.me(program.login(EMAIL))

    assert response.status_code == 200
    assert response.json == {
        "id": str(site.account(EMAIL).id),
        "email": EMAIL,
        "email_verified": True,
        "is_admin": True,
        "created_at": "2026-11-21T08:30:00Z",
    }


def test_the_account_page(site: Site) -> None:
    """The account page says whose account it is and when it was last used, and logs out by a button."""
    site.member()
    person = site.person()
    site.clock.tick(3600)
    person.login(EMAIL)

    page = person.me()

    assert heading(page) == "Your account"
    for part in (EMAIL, "Confirmed Yes", "Account since 21 Nov 2026, 08:30 UTC", "Last login 21 Nov 2026, 09:30 UTC"):
        assert part in words(page)
    assert links(page) == ["/", "/auth/password/change", "/auth/email/change", "/auth/password-reset/request"]
    assert person.submit(page).headers["Location"] == "/auth/login"
    assert person.me().status_code == 303


def test_an_unproved_account_is_led_to_its_link(site: Site) -> None:
    """The page of an account that is not confirmed mails a link by one button."""
    site.member()
    person = site.person()
    person.login(EMAIL)
    site.change(EMAIL, email_verified_at=None)

    page = person.me()
    response = person.submit(page)

    assert "Confirmed Not yet" in words(page)
    assert forms_of(page)[0].action == "/auth/verify/resend"
    assert response.headers["Location"] == "/auth/signup/sent"
    assert site.letters[-1].template == "verify"


def test_strangers(site: Site, visitor: Program | Person) -> None:
    """A stranger is asked to log in, and led back: a program by 401, a person by the login page."""
    site.member()

    response = visitor.get("/auth/me")

    if isinstance(visitor, Program):
        assert (response.status_code, visitor.code(response)) == (401, "authentication_required")
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="Shop"'
    else:
        assert response.headers["Location"] == "/auth/login?next=/auth/me"
        page = visitor.follow(response)
        assert visitor.submit(page, email=EMAIL, password=PASSWORD).headers["Location"] == "/auth/me"


def test_the_account_of_a_cookie_and_of_a_token_are_one(site: Site) -> None:
    """A program sees the same account by cookie and by token."""
    site.member()
    script, program = Script(site), site.program()
    script.log_in()

    assert script.get("/auth/me").json == program.me(program.login(EMAIL)).json


@pytest.mark.parametrize("kind", ["cookie", "bearer"])
def test_an_authenticated_request_takes_one_statement(site: Site, kind: str) -> None:
    """Whose request it is takes one statement, however often it is asked."""
    site.member()
    script = Script(site)
    headers = {}
    if kind == "cookie":
        script.log_in()
    else:
        headers = bearer(script.login(EMAIL))

    with site.statements() as statements:
        response = script.get("/auth/me", **headers)

    assert response.status_code == 200
    assert len(statements) == 1


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_the_account_is_only_shown(site: Site, visitor: Program | Person, method: str) -> None:
    """The account page takes no other method."""
    response = getattr(visitor.client, method)("/auth/me", headers=visitor.headers)

    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"
