"""Signing up, as a program and as a person."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from answers import ADDRESSES, cookies, field, heading, links, signature, tags, title, words
from support import OTHER_PASSWORD, PASSWORD, Person, Program, Site, forms_of

EMAIL = "ada@example.com"


def test_signing_up_mails_a_link(site: Site, visitor: Program | Person) -> None:
    """Whoever signs up is told to look for a mail, and gets one with a link."""
    response = visitor.signup(EMAIL)

    assert response.status_code == {"json": 202, "html": 303}[visitor.kind]
    assert [(letter.to, letter.template) for letter in site.letters] == [(EMAIL, "verify")]
    assert site.last_link.startswith("/auth/verify/")


def test_an_account_is_unverified_and_has_no_password_until_it_is_confirmed(
    site: Site, visitor: Program | Person
) -> None:
    """Signing up makes an account that is not verified and has no password of its own."""
    visitor.signup(EMAIL)

    account = site.account(EMAIL)
    assert account.email_verified_at is None
    assert account.password_hash is None


def test_the_json_answer_has_every_member(site: Site) -> None:
    """The JSON answer to a sign-up has the same members in every mode."""
    response = site.program().signup(EMAIL)

    assert response.json == {
        "status": "verification_required",
        "activation_required": True,
        "email": EMAIL,
        "expires_in": 86400,
        "resend_after": 60,
        "user_id": None,
        "activation_url": None,
        "access_token": None,
        "refresh_token": None,
    }


def test_a_program_gets_the_fields_of_the_form(site: Site) -> None:
    """A program that asks for the sign-up form gets its fields, the host's too, and no cookie."""
    response = site.program().get("/auth/signup")

    assert response.status_code == 200
    assert response.json == {
        "fields": [
            {"name": "email", "label": "Email", "type": "email"},
            {"name": "password", "label": "Password", "type": "password"},
            {"name": "name", "label": "Name", "type": "string"},
        ],
        "password": {"min_length": 12},
    }
    assert cookies(response) == []


def test_the_check_your_mail_page_says_what_to_do(site: Site) -> None:
    """The page after a sign-up names the address, the life of the link, the sender and the spam folder."""
    person = site.person()

    page = person.follow(person.signup(EMAIL))

    text = words(page)
    assert heading(page) == "Check your email"
    for part in (EMAIL, "24 hours", "Shop", "spam folder"):
        assert part in text
    assert forms_of(page)[0].action == "/auth/verify/resend"
    assert links(page) == ["/auth/login", "/auth/signup"]


def test_the_check_your_mail_page_survives_a_lost_session(site: Site) -> None:
    """Whoever comes to the check-your-mail page without his cookie is asked for the address, and gets a new link."""
    site.person().signup(EMAIL)
    site.clock.tick(61)
    other = site.person()

    page = other.get(f"/auth/signup/sent?email={EMAIL}")
    response = other.submit(page, email=EMAIL)

    assert EMAIL not in page.text
    assert field(page, "email")["type"] == "email"
    assert response.status_code == 303
    assert len(site.letters) == 2


def test_send_it_again_needs_no_typing(site: Site) -> None:
    """The button on the check-your-mail page mails another link to the address that was typed."""
    person = site.person()
    page = person.follow(person.signup(EMAIL))
    first = site.last_link
    site.clock.tick(61)

    response = person.submit(page)

    assert response.headers["Location"] == "/auth/signup/sent"
    assert site.letters[-1].to == EMAIL
    assert site.last_link != first


def test_a_double_click_mails_once(site: Site, visitor: Program | Person) -> None:
    """A second sign-up within a minute is answered as the first one, and mails nothing."""
    first = visitor.signup(EMAIL)

    second = visitor.signup(EMAIL)

    assert second.status_code == first.status_code
    assert len(site.letters) == 1
    assert len(site.rows("user")) == 1


def test_SUP_03_nothing_before_the_address_is_proved(site: Site, visitor: Program | Person) -> None:
    """The right password of an unconfirmed sign-up opens nothing, and mails a fresh link."""
    visitor.signup(EMAIL)
    site.clock.tick(61)

    response = visitor.login(EMAIL)

    if isinstance(visitor, Program):
        assert (response.status_code, visitor.code(response)) == (403, "email_unverified")
        assert response.json["resend_url"] == "/auth/verify/resend"
        assert "access_token" not in response.json
    else:
        page = visitor.follow(response)
        assert heading(page) == "Confirm your email first"
        assert EMAIL in page.text
        assert visitor.me().status_code == 303
    assert [letter.template for letter in site.letters] == ["verify", "verify"]
    assert site.rows("session") == []


def test_SUP_04_the_owner_never_inherits_an_earlier_password(site: Site, visitor: Program | Person) -> None:
    """When an address signs up twice and its owner confirms, the password of the other sign-up does not work."""
    site.person().signup(EMAIL, "the stranger's horse")
    site.clock.tick(61)
    visitor.signup(EMAIL, OTHER_PASSWORD)
    link = site.last_link

    fields = {"password": OTHER_PASSWORD} if isinstance(visitor, Program) else {}
    visitor.verify(link, **fields)

    assert site.program().login(EMAIL, "the stranger's horse").status_code in {401, 403}
    assert site.program().login(EMAIL, OTHER_PASSWORD).status_code == 200


@pytest.mark.parametrize(
    "stolen",
    [
        {"id": "1"},
        {"is_admin": "y"},
        {"is_active": "y"},
        {"email_verified_at": "2026-01-01"},
        {"password_hash": "x"},
        {"stamp": "x"},
        {"created_at": "2000-01-01"},
        {"role": "admin"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_SUP_06_no_mass_assignment(site: Site, visitor: Program | Person, stolen: dict[str, str]) -> None:
    """Fields that are not on the form are ignored."""
    visitor.signup(EMAIL, **stolen)

    account = site.account(EMAIL)
    assert not account.is_admin
    assert account.is_active
    assert account.email_verified_at is None
    assert account.password_hash is None
    assert account.created_at.year == 2026


@pytest.mark.parametrize(
    ("password", "error"),
    [
        ("short", "too_short"),
        ("x" * 257, "too_long"),
        ("passwordpassword", "too_common"),
        ("123456789012", "too_common"),
        ("example.com example.com", "contains_email"),
    ],
)
def test_SUP_17_a_refused_password_gives_its_reason(
    site: Site, visitor: Program | Person, password: str, error: str
) -> None:
    """A password that breaks a rule is refused with the reason, alike for a known and an unknown address."""
    site.member(ADDRESSES["verified"])

    known, unknown = (visitor.signup(ADDRESSES[name], password) for name in ("verified", "unknown"))

    assert signature(known, ADDRESSES["verified"]) == signature(unknown, ADDRESSES["unknown"])
    assert known.status_code == 422
    assert site.letters == []
    if isinstance(visitor, Program):
        assert [(fault["pointer"], fault["code"]) for fault in known.json["errors"]] == [("#/password", error)]
    else:
        assert "Error:" in words(known)


def test_SUP_18_a_taken_address_is_told_by_mail_only(site: Site, visitor: Program | Person) -> None:
    """A sign-up for an address with an account mails a notice without a link, and changes nothing."""
    site.member("vic@example.com")

    visitor.signup("vic@example.com", OTHER_PASSWORD)

    assert [(letter.template, letter.link) for letter in site.letters] == [("already_registered", None)]
    assert "/verify/" not in site.letters[0].text
    assert site.program().login("vic@example.com").status_code == 200
    assert site.program().login("vic@example.com", OTHER_PASSWORD).status_code != 200


def test_the_hosts_own_field_is_kept_until_the_address_is_proved(site: Site, visitor: Program | Person) -> None:
    """What was typed into the host's own field is the account's once the link was used."""
    visitor.signup(EMAIL, name="Ada")

    visitor.verify(site.last_link)

    assert site.account(EMAIL).name == "Ada"


def test_closed(make_site: Callable[..., Site]) -> None:
    """Where sign-up is closed, both formats say so with 403, and no page leads to it."""
    site = make_site({"ACCOUNTFLOW_SIGNUP_ENABLED": False})
    program, person = site.program(), site.person()

    answers = [program.get("/auth/signup"), program.signup(EMAIL)]
    page = person.get("/auth/signup")

    assert [program.code(answer) for answer in answers] == ["signup_closed", "signup_closed"]
    assert [answer.status_code for answer in (*answers, page)] == [403, 403, 403]
    assert heading(page) == "Sign-up is closed"
    assert "/auth/signup" not in person.get("/auth/login").text


def test_the_page_tells_the_password_rule_before_typing(make_site: Callable[..., Site]) -> None:
    """The sign-up page says how long a password must be, to people and to password managers, and cuts none off."""
    site = make_site({"ACCOUNTFLOW_PASSWORD_MIN_LENGTH": 15})

    page = site.person().get("/auth/signup")

    password = field(page, "password")
    assert "At least 15 characters." in words(page)
    assert password["passwordrules"] == "minlength: 15;"
    assert password["autocomplete"] == "new-password"
    assert password["id"] == "new-password"
    assert not {"maxlength", "minlength", "value"} & set(password)
    assert field(page, "email")["autocomplete"] == "username"
    assert len([one for one in tags(page, "input") if one.get("type") == "password"]) == 1


def test_a_faulty_form_comes_back_with_its_input(site: Site) -> None:
    """A faulty sign-up is shown again with what was typed, the errors beside their fields, and no password."""
    person = site.person()

    page = person.signup("not an address", "short", name="Ada", next="/secret")

    assert page.status_code == 422
    assert title(page).startswith("Error: Create your account")
    assert field(page, "email")["value"] == "not an address"
    assert field(page, "name")["value"] == "Ada"
    assert field(page, "next")["value"] == "/secret"
    assert "value" not in field(page, "password")
    for name, id in (("email", "email"), ("password", "new-password")):
        assert field(page, name)["aria-invalid"] == "true"
        assert f"{id}-error" in (field(page, name)["aria-describedby"] or "").split()
        assert f"#{id}" in links(page)
    alert = next(one for one in tags(page, "div") if one.get("role") == "alert")
    assert "autofocus" in alert
    assert words(page).count("Use at least 12 characters.") == 2


def test_blanks_around_an_address_are_dropped_and_those_of_a_password_kept(
    site: Site, visitor: Program | Person
) -> None:
    """Blanks around an address do not count; blanks around a password do."""
    visitor.signup(f"  {EMAIL} ", "  correct horse battery ")
    visitor.verify(site.last_link)

    wrong = site.program().login(EMAIL, "correct horse battery")
    right = site.program().login(f" {EMAIL}", "  correct horse battery ")

    assert (wrong.status_code, right.status_code) == (401, 200)


@pytest.mark.parametrize("text", ['"><svg onload=alert(1)>', "{{7*7}}", "<b>Ada</b>"])
def test_WEB_07_what_was_typed_is_only_text(site: Site, text: str) -> None:
    """Markup and template code that was typed into a form is shown as it was typed."""
    person = site.person()

    page = person.signup(text, "short", name=text)

    assert field(page, "email")["value"] == text.strip()
    assert field(page, "name")["value"] == text
    assert "<svg" not in page.text
    assert "<b>Ada" not in page.text


def test_SUP_20_there_are_no_default_accounts(site: Site) -> None:
    """A fresh site has no account."""
    assert site.rows("user") == []


def test_whoever_is_logged_in_is_sent_on(site: Site) -> None:
    """Somebody who is logged in and opens the sign-up page is sent home, or to where he wanted to go."""
    site.member()
    person = site.person()
    person.login("vic@example.com")

    plain, wanted, foreign = (
        person.get(f"/auth/signup{query}") for query in ("", "?next=/secret", "?next=//evil.example")
    )

    assert [answer.headers["Location"] for answer in (plain, wanted, foreign)] == ["/", "/secret", "/"]
    assert {answer.status_code for answer in (plain, wanted, foreign)} == {303}


def test_next_is_kept_from_the_first_page_to_the_confirmed_address(site: Site) -> None:
    """Where somebody wanted to go is kept through a failed sign-up, the mail and the pages in between."""
    person = site.person()
    login = person.follow(person.get("/secret?page=2"))
    signup = person.get(next(link for link in links(login) if "signup" in link))

    failed = person.submit(signup, email=EMAIL, password="short")
    sent = person.follow(person.submit(failed, email=EMAIL, password=PASSWORD))
    confirmed = person.verify(site.last_link)

    assert [link for link in links(sent) if "next=" not in link] == []
    assert field(sent, "next")["value"] == "/secret?page=2"
    assert "next" not in site.last_link
    assert confirmed.headers["Location"] == "/secret?page=2"
    assert person.follow(confirmed).text == f"secret of {EMAIL}"


def test_next_is_kept_when_another_browser_confirms(site: Site) -> None:
    """Another browser than the one that signed up gets a login page that leads to where it wanted to go."""
    site.person().signup(EMAIL, next="/secret")
    other = site.person()

    done = other.follow(other.verify(site.last_link))
    login = other.get(links(done)[0])

    assert field(login, "email")["value"] == EMAIL
    assert other.submit(login, password=PASSWORD).headers["Location"] == "/secret"
