"""What people have complained about in account systems, one test for each complaint, under its name."""

from __future__ import annotations

from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from answers import field, heading, links, logged_in, words
from support import BASE_URL, OTHER_PASSWORD, PASSWORD, Person, Program, Site, forms_of

from flask_accountflow.mail.letter import Letter, render_message

EMAIL, OWNER, STRANGER = "ada@example.com", "vic@example.com", "una@example.com"
#: How mail scanners have been seen to open links.
SCANNER = {"user_agent": "Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/140.0", "purpose": "prefetch"}


def invited(site: Site) -> str:
    """Sign up elsewhere, and return the link."""
    site.program().signup(EMAIL)
    return site.last_link


def asked(site: Site) -> str:
    """Ask elsewhere for a reset, and return the link."""
    site.member()
    site.program().request_reset(email=OWNER)
    return site.last_link


def received(letter: Letter) -> EmailMessage:
    """Return a mail as the program of its reader reads it."""
    message = message_from_bytes(render_message(letter).as_bytes(), policy=default)
    assert isinstance(message, EmailMessage)
    return message


def test_scanner_prefetch_does_not_consume(site: Site, visitor: Program | Person) -> None:
    """A link that a mail scanner has opened again and again, by GET and by HEAD, still works for its owner."""
    verify, reset = invited(site), asked(site)
    scanner = type(visitor)(site)
    for link in (verify, reset) * 3:
        assert scanner.get(link, **SCANNER).status_code == 200
        assert scanner.client.head(link, headers=scanner.headers).status_code == 200
    assert site.account(EMAIL).email_verified_at is None

    visitor.verify(verify)
    visitor.reset(reset, OTHER_PASSWORD)

    assert site.account(EMAIL).email_verified_at is not None
    assert site.program().login(OWNER, OTHER_PASSWORD).status_code == 200


def test_second_click_is_success(site: Site, visitor: Program | Person) -> None:
    """Whoever opens the link of a confirmation again, or presses its button again, reads that all is well."""
    link = invited(site)
    page = visitor.open(link)
    visitor.verify(link)

    opened = visitor.open(link)

    assert opened.status_code == 200
    if isinstance(visitor, Program):
        again = visitor.verify(link)
        assert (again.status_code, visitor.code(opened), visitor.code(again)) == (200, *["already_verified"] * 2)
    else:
        again = visitor.follow(visitor.submit(page))
        assert {heading(opened), heading(again)} == {"Your email is already confirmed"}


def test_expired_has_one_button(site: Site, visitor: Program | Person) -> None:
    """A link that came too late is renewed without typing: by one button, or by sending its token back."""
    found = []
    for link, renew in ((invited(site), visitor.resend), (asked(site), visitor.request_reset)):
        site.clock.tick(86_400)
        expired, before = visitor.open(link), len(site.letters)
        assert expired.status_code == 410
        if isinstance(visitor, Program):
            renew(token=link.rpartition("/")[2])
        else:
            [form] = forms_of(expired)
            assert set(form.values) == {"csrf_token", "token"}
            visitor.submit(expired)
        found.append([letter.to for letter in site.letters[before:]])

    assert found == [[EMAIL], [OWNER]]


def test_unverified_can_sign_up_again(site: Site, visitor: Program | Person) -> None:
    """An address that was signed up and never confirmed is not taken: it gets a link again, which works."""
    first = visitor.signup(EMAIL, PASSWORD)
    site.clock.tick(3 * 86_400)

    again = visitor.signup(EMAIL, OTHER_PASSWORD)
    visitor.verify(site.last_link, password=OTHER_PASSWORD)

    assert again.status_code == first.status_code
    assert len(site.rows("user")) == 1
    assert site.program().login(EMAIL, OTHER_PASSWORD).status_code == 200


def test_next_survives_failed_login_and_verification(site: Site) -> None:
    """Who was sent to log in comes where he wanted, after a wrong password, and after signing up and confirming."""
    site.member()
    member, newcomer = site.person(), site.person()

    wrong = member.submit(member.follow(member.get("/secret")), email=OWNER, password=OTHER_PASSWORD)
    right = member.submit(wrong, password=PASSWORD)
    login = newcomer.follow(newcomer.get("/secret"))
    newcomer.submit(newcomer.get(_link(login, "/auth/signup")), email=EMAIL, password=PASSWORD)
    confirmed = newcomer.verify(site.last_link)

    assert wrong.status_code == 422
    assert [answer.headers["Location"] for answer in (right, confirmed)] == ["/secret", "/secret"]


def _link(page: Any, to: str) -> str:
    return next(link for link in links(page) if link.startswith(to))


@pytest.mark.parametrize("path", ["/auth/signup", "/auth/login", "/auth/verify/resend", "/auth/password-reset/request"])
def test_csrf_expiry_keeps_input(site: Site, path: str) -> None:
    """A form whose session is over comes back with what was typed, but for the password, and then works."""
    person = site.person()
    page = person.get(path)
    person.client.delete_cookie("session")

    refused = person.submit(page, email=EMAIL, password=PASSWORD)

    assert refused.status_code == 403
    assert "Nothing was changed – please send it again." in words(refused)
    assert field(refused, "email")["value"] == EMAIL
    assert PASSWORD not in refused.text
    assert person.submit(refused, password=PASSWORD).status_code != 403


def test_resend_regenerates(site: Site, visitor: Program | Person) -> None:
    """Asking again brings a new link, which lives as long as a first one, and not the old one once more."""
    first = invited(site)
    site.clock.tick(86_000)

    visitor.resend(email=EMAIL)

    second = site.last_link
    site.clock.tick(86_000)
    assert second != first
    assert (visitor.open(first).status_code, visitor.open(second).status_code) == (410, 200)


@pytest.fixture
def letters(site: Site) -> list[Letter]:
    """A mail of each kind that strangers can cause."""
    asked(site)
    invited(site)
    site.clock.tick(61)
    site.program().signup(OWNER)
    site.program().reset(next(str(one.link) for one in site.letters if one.template == "reset").removeprefix(BASE_URL))
    assert {one.template for one in site.letters} == {"reset", "verify", "already_registered", "password_changed"}
    return site.letters


def test_multipart_has_text(letters: list[Letter]) -> None:
    """Every mail has a text before its HTML, which is no HTML and holds the link."""
    for letter in letters:
        text, html = received(letter).iter_parts()
        content = text.get_content()
        assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
        assert "<" not in content
        assert letter.link is None or letter.link in content.splitlines()


def test_message_id_not_localhost(letters: list[Letter]) -> None:
    """Every mail has a Message-ID of its own, in the domain of its sender."""
    found = [str(received(letter)["Message-ID"]) for letter in letters]

    assert len(set(found)) == len(letters)
    assert {name.rpartition("@")[2] for name in found} == {"example.com>"}


def test_link_uses_base_url_not_host(site: Site, visitor: Program | Person) -> None:
    """A mailed link leads to the configured address, whatever host the request was sent to."""
    site.member()
    evil = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    body = {"email": OWNER}
    if isinstance(visitor, Program):
        visitor.client.post("/auth/password-reset/request", json=body, headers={**visitor.headers, **evil})
    else:
        page = visitor.client.get("/auth/password-reset/request", headers={**visitor.headers, **evil})
        body |= forms_of(page)[0].values | {"email": OWNER}
        visitor.client.post(page.request.path, data=body, headers={**visitor.headers, **evil})

    [letter] = site.letters
    assert letter.link is not None
    assert letter.link.startswith(f"{BASE_URL}/auth/password-reset/")
    assert "evil" not in letter.text + letter.html


def test_neutral_text_makes_no_false_claim(site: Site, visitor: Program | Person) -> None:
    """Who asks for a mail to an address without an account is not told that one was sent."""
    for ask in (visitor.request_reset, visitor.resend):
        answer = ask(email=STRANGER)
        if isinstance(visitor, Program):
            assert answer.json["detail"] == "If an account matches, an email is on its way."
        else:
            said = words(visitor.follow(answer))
            assert f"If an account exists for {STRANGER}, we've sent a link." in said
            assert "We sent a link" not in said

    assert site.letters == []


def test_no_auto_login_in_other_browser(site: Site, visitor: Program | Person) -> None:
    """Whoever holds only the link of somebody else's sign-up confirms the address and is logged in nowhere."""
    signed_up = site.person()
    signed_up.signup(EMAIL)

    answer = visitor.verify(site.last_link)

    assert site.account(EMAIL).email_verified_at is not None
    assert site.rows("session") == []
    if isinstance(visitor, Program):
        assert (answer.json["access_token"], answer.json["user"]) == (None, None)
    else:
        assert heading(visitor.follow(answer)) == "Email confirmed"
        assert not logged_in(visitor)


@pytest.mark.parametrize("path", ["/secret", "/auth/me"])
def test_htmx_session_expiry_full_redirect(site: Site, path: str) -> None:
    """Where a login has ended, htmx opens the login page as a whole, instead of putting it into a part of the page."""
    site.member()
    person = site.person()
    person.login(OWNER)
    with site.app.app_context():
        site.accounts.revoke_sessions(OWNER)

    answer = person.get(path, hx_request="true", hx_current_url="http://localhost/orders")

    assert not 300 <= answer.status_code < 400
    assert answer.headers["HX-Redirect"] == "/auth/login?next=/orders"
    assert answer.text == ""
