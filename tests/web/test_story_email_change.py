"""Changing one's address, in both formats."""

from __future__ import annotations

from typing import Any

import pytest
from answers import (
    Script,
    bearer,
    code,
    field,
    has_way_on,
    heading,
    links,
    logged_in,
    rows,
    signature,
    tags,
    title,
    words,
)
from support import BASE_URL, OTHER_PASSWORD, PASSWORD, Person, Program, Site, forms_of

from flask_accountflow.flows import ACTIONS

EMAIL, NEW = "vic@example.com", "vic@new.example"
PATH = "/auth/email/change"
CHANGE = {"new_email": NEW, "current_password": PASSWORD}


@pytest.fixture
def person(site: Site) -> Person:
    """A browser that has logged in."""
    site.member()
    found = site.person()
    found.login(EMAIL)
    return found


def mailed(site: Site, email: str) -> str:
    """Return the path of the newest link that was mailed to an address."""
    found = [letter.link for letter in site.letters if letter.to == email and letter.link is not None]
    return found[-1].removeprefix(BASE_URL)


def moved(site: Site) -> str:
    """Give a member another address, and return the path of the link that undoes it."""
    program = site.program()
    program.post(PATH, CHANGE, **bearer(program.login(EMAIL)))
    program.post(mailed(site, NEW))
    return mailed(site, EMAIL)


def can_log_in(site: Site, email: str, password: str = PASSWORD) -> bool:
    """Tell whether somebody can log in."""
    return bool(site.program().login(email, password).status_code == 200)


def test_a_person_changes_the_address(site: Site, person: Person) -> None:
    """The whole way: account page, form, mail, button, and a login with the new address, filled in already."""
    assert PATH in links(person.me())

    sent = person.follow(person.fill(PATH, **CHANGE))
    assert heading(sent) == "Check your email"
    assert f"If {NEW} can be used, a link is on its way there." in words(sent)
    assert can_log_in(site, EMAIL)

    page = person.open(mailed(site, NEW))
    assert heading(page) == "Confirm your new email"
    assert NEW in words(page)
    done = person.submit(page)
    assert done.headers["Location"] == "/auth/email/done?status=email_changed"
    told = person.follow(done)
    assert (heading(told), links(told)) == ("Email changed", ["/auth/login"])
    assert f"Log in as {NEW} from now on; your password is the same." in words(told)
    assert not logged_in(person)
    login = person.get("/auth/login")
    assert field(login, "email")["value"] == NEW
    assert person.submit(login, password=PASSWORD).status_code == 303
    assert NEW in words(person.me())
    assert not can_log_in(site, EMAIL)


def test_a_program_changes_the_address(site: Site) -> None:
    """A program asks, shows the link, uses it without a login, and is told who the account is now."""
    site.member()
    program = site.program()
    pair = program.login(EMAIL)

    asked = program.post(PATH, CHANGE, **bearer(pair))
    shown = program.get(mailed(site, NEW))
    done = program.post(mailed(site, NEW))

    assert (asked.status_code, asked.json) == (
        202,
        {"status": "accepted", "email": NEW, "expires_in": 86400, "resend_after": 60, "confirm_url": None},
    )
    assert (shown.json["status"], shown.json["email_masked"]) == ("valid", "v•••@n•••.example")
    assert (done.status_code, done.json["email"], done.json["email_verified"]) == (200, NEW, True)
    assert "access_token" not in done.json
    assert program.me(pair).status_code == 401
    assert can_log_in(site, NEW)


def test_the_old_address_undoes_it(site: Site) -> None:
    """The notice to the old address leads to a page; its button brings the address back, and a new password is set."""
    site.member()
    thief = site.person()
    undo = moved(site)
    thief.login(NEW)
    owner = site.person()

    page = owner.open(undo)
    assert heading(page) == "Undo the change of your email"
    assert logged_in(thief)
    told = owner.follow(owner.submit(page))

    assert heading(told) == "Your old email is back"
    assert has_way_on(told)
    assert not logged_in(thief)
    assert not can_log_in(site, EMAIL)
    owner.reset(mailed(site, EMAIL))
    assert can_log_in(site, EMAIL, OTHER_PASSWORD)


def test_a_program_undoes_it(site: Site) -> None:
    """A program is told that the address is back, and a second time that the link was used."""
    site.member()
    undo = moved(site)
    program = site.program()

    shown, answers = program.get(undo), [program.post(undo) for _ in range(2)]

    assert (shown.json["status"], shown.json["email_masked"]) == ("valid", "v•••@e•••.com")
    assert (answers[0].status_code, answers[0].json) == (200, {"status": "reverted"})
    assert (answers[1].status_code, program.code(answers[1])) == (410, "token_used")


@pytest.mark.parametrize("kind", ["confirm", "revert"])
def test_VER_01_looking_changes_nothing(site: Site, kind: str) -> None:
    """However often a scanner opens the link, by GET or HEAD, in either format, no row changes and the link works."""
    site.member()
    link = moved(site) if kind == "revert" else None
    if link is None:
        program = site.program()
        program.post(PATH, CHANGE, **bearer(program.login(EMAIL)))
        link = mailed(site, NEW)
    before = rows(site)

    for visitor in (site.person(), site.program()):
        for _ in range(3):
            assert visitor.get(link).status_code == 200
            assert visitor.client.head(link, headers=visitor.headers).status_code == 200

    assert rows(site) == before
    assert site.program().post(link).status_code == 200


@pytest.mark.parametrize("kind", ["confirm", "revert"])
def test_a_link_works_in_a_browser_without_cookies(site: Site, kind: str) -> None:
    """A mail program's own browser keeps no cookie and sends no token: the button works."""
    site.member()
    link = moved(site)
    if kind == "confirm":
        program = site.program()
        program.post(PATH, {**CHANGE, "new_email": "vic@third.example"}, **bearer(program.login(NEW)))
        link = mailed(site, "vic@third.example")
    client = site.app.test_client(use_cookies=False)

    answer = client.post(link, headers=Person.headers)

    assert (answer.status_code, answer.headers["Location"].partition("?")[0]) == (303, "/auth/email/done")
    assert client.post(link, headers={**Person.headers, "Sec-Fetch-Site": "cross-site"}).status_code == 403


STATES = ["expired", "used", "superseded", "invalid"]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", ["confirm", "revert"])
@pytest.mark.parametrize("visitor", [Person, Program])
def test_a_dead_link_says_why_and_leads_on(site: Site, visitor: Any, kind: str, state: str) -> None:
    """Each state of a link has its answer, for showing and for using it, and each page leads on."""
    site.member()
    program = site.program()
    undo = moved(site)
    link = undo
    if kind == "confirm":
        program.post(PATH, {**CHANGE, "new_email": "vic@third.example"}, **bearer(program.login(NEW)))
        link = mailed(site, "vic@third.example")
    if state == "expired":
        site.clock.tick(300_000)
    elif state == "used":
        program.post(link)
    elif state == "superseded":
        site.change(NEW, is_active=False)
    else:
        link = link[:-1] + ("A" if link[-1] != "A" else "B")
    someone = visitor(site)
    status = 400 if state == "invalid" else 410

    shown = someone.open(link)
    used = someone.send(link, {}) if isinstance(someone, Person) else someone.post(link)

    assert (shown.status_code, used.status_code) == (status, status)
    assert code(someone, shown) == code(someone, used)
    if isinstance(someone, Program):
        assert program.code(used) == f"token_{state}"
    else:
        assert has_way_on(used)
        assert ("/auth/email/change" if kind == "confirm" else "/auth/password-reset/request") in links(used)


def test_one_answer_for_every_address(site: Site) -> None:
    """Nobody learns who has an account: taken, unconfirmed, disabled and free addresses get the same answer and the
    same page, byte for byte."""
    site.member()
    person = site.person()
    person.login(EMAIL, remember=None)
    site.member("bea@example.com")
    site.member("dan@example.com")
    site.change("dan@example.com", is_active=False)
    site.program().signup("pia@example.com")
    program = site.program()
    pair = bearer(program.login(EMAIL))
    answers, pages = set(), set()

    for email in ("una@example.com", "bea@example.com", "pia@example.com", "dan@example.com"):
        form = {"new_email": email, "current_password": PASSWORD}
        answers.add(str(signature(program.post(PATH, form, **pair), email)))
        sent = person.fill(PATH, **form)
        pages.add(str(signature(sent, email)))
        pages.add(str(signature(person.follow(sent), email)))
        pages.add(str(signature(person.me(), email)))
        site.clock.tick(1)

    assert (len(answers), len(pages)) == (1, 3)


def test_what_waits_can_be_canceled(site: Site, person: Person) -> None:
    """The account page shows the address that waits and a button that keeps the present one; then the link is dead."""
    person.fill(PATH, **CHANGE)
    account = person.me()
    assert f"Waiting for {NEW}" in words(account)
    number = next(n for n, form in enumerate(forms_of(account)) if form.action == "/auth/email/change/cancel")

    back = person.follow(person.submit(account, number))

    assert "Your email stays as it is." in words(back)
    assert NEW not in words(back)
    assert site.program().post(mailed(site, NEW)).status_code == 410
    assert heading(person.get("/auth/email/change/sent")) == "No change is waiting"


def test_a_program_cancels(site: Site) -> None:
    """A program cancels with 204, also where nothing waits."""
    site.member()
    program = site.program()
    pair = bearer(program.login(EMAIL))
    program.post(PATH, CHANGE, **pair)

    answers = [program.post("/auth/email/change/cancel", **pair) for _ in range(2)]

    assert [(answer.status_code, answer.data) for answer in answers] == [(204, b"")] * 2
    assert program.code(program.post(mailed(site, NEW))) == "token_superseded"


def test_the_page(site: Site, person: Person) -> None:
    """The form names the present address to password managers, and asks for the new one once."""
    page = person.get(PATH)

    new, current = field(page, "new_email"), field(page, "current_password")
    assert (new["id"], new["type"], new["autocomplete"]) == ("new-email", "email", "email")
    assert (current["id"], current["autocomplete"]) == ("current-password", "current-password")
    assert next(one for one in tags(page, "input") if one.get("id") == "username")["value"] == EMAIL
    assert f"Your email is {EMAIL}." in words(page)
    assert links(page) == ["/auth/password-reset/request", "/auth/me"]


@pytest.mark.parametrize(
    ("fields", "where", "sentence"),
    [
        ({"new_email": "nobody"}, "new_email", "Enter an email like name@example.com."),
        ({"new_email": EMAIL.upper()}, "new_email", "This is the email you have."),
        ({"current_password": OTHER_PASSWORD}, "current_password", "This password isn't right."),
    ],
)
def test_P_04_a_fault_is_named_at_its_field(
    site: Site, person: Person, fields: dict[str, str], where: str, sentence: str
) -> None:
    """Each fault is said at its field in both formats; the address stays in the form, and nothing is mailed."""
    page = person.fill(PATH, **{**CHANGE, **fields})
    answer = site.program().post(PATH, {**CHANGE, **fields}, **bearer(site.program().login(EMAIL)))

    assert (page.status_code, title(page)) == (422, "Error: Change your email – Shop")
    assert sentence in words(page)
    assert field(page, where)["aria-invalid"] == "true"
    assert field(page, "new_email")["value"] == {**CHANGE, **fields}["new_email"]
    assert [(fault["field"], fault["detail"]) for fault in answer.json["errors"]] == [(where, sentence)]
    assert site.letters == []


@pytest.mark.parametrize("path", [PATH, "/auth/email/change/sent"])
def test_a_stranger_is_asked_to_log_in(site: Site, path: str) -> None:
    """A stranger's browser is led to the login page."""
    assert site.person().get(path).headers["Location"] == f"/auth/login?next={path}"


def test_a_stranger_program_is_refused(site: Site) -> None:
    """A program without a login gets 401, and nothing is mailed or canceled."""
    site.member()

    for path, body in ((PATH, CHANGE), ("/auth/email/change/cancel", {})):
        answer = site.program().post(path, body)
        assert (answer.status_code, site.program().code(answer)) == (401, "authentication_required")

    assert site.letters == []


def test_CSR_01_another_sites_form_changes_nothing(site: Site, person: Person) -> None:
    """A form without the token of this browser, or from another site, is refused, and so is a script's without it."""
    script = Script(site)
    script.log_in()

    assert person.send(PATH, CHANGE).status_code == 403
    assert person.send(PATH, CHANGE, sec_fetch_site="cross-site").status_code == 403
    assert script.post(PATH, CHANGE).status_code == 403
    assert script.post("/auth/email/change/cancel").status_code == 403
    assert site.letters == []


def test_RST_04_no_request_says_where_the_links_lead(site: Site) -> None:
    """Both links lead to BASE_URL, whatever host the requests name."""
    site.member()
    program = site.program()
    pair = bearer(program.login(EMAIL))
    elsewhere = {"host": "evil.example", "x_forwarded_host": "evil.example"}

    program.post(PATH, CHANGE, **pair, **elsewhere)
    program.post(mailed(site, NEW), **elsewhere)

    asked, undo = (letter.link for letter in site.letters if letter.link is not None)
    assert asked is not None
    assert asked.startswith(f"{BASE_URL}/auth/email/confirm/")
    assert undo is not None
    assert undo.startswith(f"{BASE_URL}/auth/email/revert/")


def test_a_front_end_of_ones_own(make_site: Any) -> None:
    """CHANGE_EMAIL_URL is where the link to the new address leads, with its token; the one that undoes leads to us."""
    site = make_site({"ACCOUNTFLOW_CHANGE_EMAIL_URL": "https://app.example.com/#/email/{token}"})
    site.member()
    program = site.program()
    program.post(PATH, CHANGE, **bearer(program.login(EMAIL)))
    link = next(letter.link for letter in site.letters if letter.link is not None)

    assert link.startswith("https://app.example.com/#/email/")
    assert program.post(f"/auth/email/confirm/{link.rpartition('/')[2]}").status_code == 200
    assert mailed(site, EMAIL).startswith("/auth/email/revert/")


def test_actions_that_the_app_leaves_out_are_not_linked(make_site: Any) -> None:
    """The account page of an app without these actions works, and leads to none of them."""
    left = [action for action in ACTIONS if not action.name.startswith(("email_", "password_"))]
    site = make_site(actions=left)
    site.member()
    person = site.person()
    person.login(EMAIL)

    assert [link for link in links(person.me()) if "change" in link] == []
