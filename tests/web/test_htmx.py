"""Pages that are driven by htmx or by Turbo: where they are sent, and with which status."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from answers import heading, tags
from support import BASE_URL, OTHER_PASSWORD, PASSWORD, Person, Program, Site, forms_of

from flask_accountflow import login_required
from flask_accountflow.flows import ACTIONS

EMAIL = "vic@example.com"
HERE = "http://localhost/orders?page=2"
HTMX: Mapping[str, str] = {"Accept": "*/*", "HX-Request": "true", "HX-Current-URL": HERE}
TURBO: Mapping[str, str] = {"Accept": "text/vnd.turbo-stream.html, text/html, application/xhtml+xml"}


class Htmx(Person):
    """A page whose parts are fetched by htmx."""

    headers = HTMX


class Turbo(Person):
    """A page that is driven by Turbo."""

    headers = TURBO


def is_sent_to(response: Any, address: str) -> bool:
    """Tell whether htmx opens that address in the place of the whole page."""
    return (response.status_code, response.text, response.headers.get("HX-Redirect")) == (204, "", address)


@pytest.fixture
def orders(own_site: Site) -> Site:
    """A site with a view for each kind of request that htmx sends."""

    @own_site.app.route("/orders/3", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    @login_required
    def order() -> str:
        return "order 3"

    return own_site


# Where a login is needed.


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_htmx_session_expiry_full_redirect(orders: Site, method: str) -> None:
    """When a login has ended, htmx opens the login page as a whole, which leads back to the page that was open."""
    response = orders.app.test_client().open("/orders/3", method=method, headers=HTMX)

    assert is_sent_to(response, "/auth/login?next=/orders?page%3D2")
    assert "Location" not in response.headers
    assert response.headers["Cache-Control"] == "no-store"
    assert "HX-Request" in response.vary


def test_htmx_comes_back_to_the_page(site: Site) -> None:
    """Who logs in on that page is back on the page that was open, and not on the fragment."""
    site.member()
    person = site.person()

    away = site.app.test_client().get("/secret", headers={**HTMX, "HX-Current-URL": "http://localhost/proved"})
    done = person.fill(away.headers["HX-Redirect"], email=EMAIL, password=PASSWORD)

    assert person.follow(done).text == "proved"


@pytest.mark.parametrize(
    "path", ["/auth/me", "/secret", "/proved", "/admin", "/vault", "/auth/login/fresh"], ids=lambda path: path[1:]
)
def test_every_page_of_a_member_sends_htmx_to_the_login(site: Site, path: str) -> None:
    """Our own pages for members and every decorator of the host's views do the same."""
    assert is_sent_to(Htmx(site).get(path), "/auth/login?next=/orders?page%3D2")


def test_htmx_is_asked_for_the_password_again(site: Site) -> None:
    """Where a login has to be fresh, htmx opens the page that asks for the password."""
    site.member()
    person = Htmx(site)
    person.login(EMAIL)
    site.clock.tick(10_000)

    assert is_sent_to(person.send("/vault", {}), "/auth/login/fresh?next=/orders?page%3D2")


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        ("http://localhost/a/b?c=d&e=%20#f", "?next=/a/b?c%3Dd%26e%3D%2520"),
        ("http://localhost", "?next=/"),
        ("https://www.example.com/a", "?next=/a"),
        ("https://WWW.example.com/a", "?next=/a"),
        ("https://evil.example/a", ""),
        ("https://spa.example.com/a", ""),
        ("http://localhost.evil.example/a", ""),
        ("http://localhost@evil.example/a", ""),
        ("http://localhost//evil.example/a", ""),
        ("http://localhost/\\evil.example", ""),
        ("http://localhost/%5Cevil.example", ""),
        ("http://localhost/../a", ""),
        ("http://localhost:99/a", ""),
        ("javascript:alert(1)", ""),
        ("//localhost/a", ""),
        ("/a", ""),
        ("http://[localhost/a", ""),
        ("", ""),
    ],
)
def test_only_a_page_of_this_site_is_come_back_to(make_site: Callable[..., Site], current: str, expected: str) -> None:
    """Of the page that htmx names only the path is used, and only when it is a page of this very site."""
    site = make_site({"ACCOUNTFLOW_TRUSTED_ORIGINS": ["https://spa.example.com"]})

    response = site.app.test_client().get("/secret", headers={**HTMX, "HX-Current-URL": current})

    assert is_sent_to(response, f"/auth/login{expected}")


def test_htmx_that_names_no_page(site: Site) -> None:
    """Without the page's address there is nothing to come back to: the fragment would be shown alone."""
    response = site.app.test_client().get("/secret", headers={"HX-Request": "true"})

    assert is_sent_to(response, "/auth/login")


@pytest.mark.parametrize("header", ["HX-Boosted", "HX-History-Restore-Request"])
def test_a_whole_page_is_answered_as_a_browsers(site: Site, header: str) -> None:
    """A link that htmx boosts, or "Back", is answered with a redirect, back to the page that was asked for."""
    response = site.app.test_client().get("/secret", headers={**HTMX, header: "true"})

    assert (response.status_code, response.headers["Location"]) == (303, "/auth/login?next=/secret")
    assert "HX-Redirect" not in response.headers
    assert "HX-Request" not in response.vary


@pytest.mark.parametrize("headers", [{}, {"HX-Request": "false"}, {"HX-Current-URL": HERE}, {"HX-Redirect": "/x"}])
def test_nobody_else_is_answered_as_htmx(site: Site, headers: dict[str, str]) -> None:
    """A browser gets its redirect, with nothing in it for htmx."""
    response = site.app.test_client().get("/secret", headers={**Person.headers, **headers})

    assert (response.status_code, response.headers["Location"]) == (303, "/auth/login?next=/secret")
    assert "HX-Redirect" not in response.headers
    assert "HX-Request" not in response.vary


def test_htmx_that_wants_json(site: Site) -> None:
    """A caller that asks for JSON gets its problem, also by htmx."""
    response = Program(site).get("/secret", hx_request="true", hx_current_url=HERE)

    assert (response.status_code, response.json["code"]) == (401, "authentication_required")


def test_a_login_page_of_the_hosts_own_by_htmx(make_site: Callable[..., Site]) -> None:
    """htmx opens the host's own login page, in letters that a header can hold."""
    site = make_site({"ACCOUNTFLOW_LOGIN_URL": "/anmelden-ü"})

    response = site.app.test_client().get("/secret", headers=HTMX)

    assert is_sent_to(response, "/anmelden-%C3%BC?next=%2Forders%3Fpage%3D2")


# Our forms: each takes a browser from a page to an answer that is refused, and then to one that is not.


def _signup(person: Person) -> tuple[Any, Any]:
    refused = person.fill("/auth/signup", email=EMAIL, password="short")
    return refused, person.submit(refused, email=EMAIL, password=PASSWORD)


def _login(person: Person) -> tuple[Any, Any]:
    person.site.member()
    refused = person.fill("/auth/login", email=EMAIL, password=OTHER_PASSWORD)
    return refused, person.submit(refused, email=EMAIL, password=PASSWORD)


def _fresh(person: Person) -> tuple[Any, Any]:
    _login(person)
    refused = person.fill("/auth/login/fresh", password=OTHER_PASSWORD)
    return refused, person.submit(refused, password=PASSWORD)


def _resend(person: Person) -> tuple[Any, Any]:
    refused = person.fill("/auth/verify/resend", email="nobody")
    return refused, person.submit(refused, email=EMAIL)


def _request_reset(person: Person) -> tuple[Any, Any]:
    refused = person.fill("/auth/password-reset/request", email="nobody")
    return refused, person.submit(refused, email=EMAIL)


def _reset(person: Person) -> tuple[Any, Any]:
    person.site.member()
    person.request_reset(email=EMAIL)
    refused = person.fill(person.site.last_link, password="short")
    return refused, person.submit(refused, password=OTHER_PASSWORD)


def _verify(person: Person) -> tuple[Any, Any]:
    """Confirm a sign-up that competes with another, which takes a password."""
    person.site.person().signup(EMAIL)
    person.site.clock.tick(3600)
    person.site.person().signup(EMAIL, OTHER_PASSWORD)
    refused = person.fill(person.site.last_link, password="short")
    return refused, person.submit(refused, password=PASSWORD)


def _password_change(person: Person) -> tuple[Any, Any]:
    _login(person)
    refused = person.fill("/auth/password/change", current_password=OTHER_PASSWORD, new_password=OTHER_PASSWORD)
    return refused, person.submit(refused, current_password=PASSWORD, new_password=OTHER_PASSWORD)


def _email_change(person: Person) -> tuple[Any, Any]:
    _login(person)
    refused = person.fill("/auth/email/change", new_email="nobody", current_password=PASSWORD)
    return refused, person.submit(refused, new_email="new@example.com", current_password=PASSWORD)


FORMS: dict[str, tuple[Callable[[Person], tuple[Any, Any]], str]] = {
    "signup": (_signup, "/auth/signup/sent"),
    "login": (_login, "/"),
    "login_fresh": (_fresh, "/"),
    "resend": (_resend, "/auth/signup/sent"),
    "verify": (_verify, "/auth/verify/done?status=verified"),
    "reset_request": (_request_reset, "/auth/password-reset/sent"),
    "reset": (_reset, "/auth/password-reset/done"),
    "password_change": (_password_change, "/auth/me"),
    "email_change": (_email_change, "/auth/email/change/sent"),
}


# Our buttons: nothing is typed, so that only another site's post, or one without a token, is refused.


def _logout(person: Person) -> tuple[Any, Any]:
    _login(person)
    return person.send("/auth/logout", {}), person.logout()


def _end_session(person: Person) -> tuple[Any, Any]:
    _login(person)
    other = person.site.person()
    other.login(EMAIL)
    page = person.get("/auth/me")
    number = next(number for number, form in enumerate(forms_of(page)) if form.action.endswith("/end"))
    return person.send(forms_of(page)[number].action, {}), person.submit(page, number)


def _end_others(person: Person) -> tuple[Any, Any]:
    _login(person)
    token = forms_of(person.get("/auth/me"))[0].values["csrf_token"]
    path = "/auth/sessions/end-others"
    return person.send(path, {}), person.send(path, {"csrf_token": token})


def _email_confirm(person: Person) -> tuple[Any, Any]:
    _email_change(person)
    link = next(letter.link for letter in person.site.letters if letter.template == "email_change")
    path = str(link).removeprefix(BASE_URL)
    refused = person.send(path, {}, origin="https://evil.example", sec_fetch_site="cross-site")
    return refused, person.fill(path)


def _email_revert(person: Person) -> tuple[Any, Any]:
    _email_confirm(person)
    link = next(letter.link for letter in person.site.letters if letter.template == "email_changed")
    path = str(link).removeprefix(BASE_URL)
    refused = person.send(path, {}, origin="https://evil.example", sec_fetch_site="cross-site")
    return refused, person.fill(path)


def _email_cancel(person: Person) -> tuple[Any, Any]:
    _email_change(person)
    page = person.get("/auth/me")
    number = next(number for number, form in enumerate(forms_of(page)) if form.action.endswith("/email/change/cancel"))
    return person.send("/auth/email/change/cancel", {}), person.submit(page, number)


BUTTONS: dict[str, tuple[Callable[[Person], tuple[Any, Any]], str]] = {
    "logout": (_logout, "/auth/login"),
    "end_session": (_end_session, "/auth/me"),
    "end_other_sessions": (_end_others, "/auth/me"),
    "email_confirm": (_email_confirm, "/auth/email/done?status=email_changed"),
    "email_revert": (_email_revert, "/auth/email/done?status=email_reverted"),
    "email_change_cancel": (_email_cancel, "/auth/me"),
}


def test_every_form_and_button_is_tried() -> None:
    """Every action that a page posts to is one of those that are tried here."""
    posted = {action.name for action in ACTIONS if action.run is not None and "html" in action.formats}

    assert {*FORMS, *BUTTONS} == posted


@pytest.mark.parametrize("name", BUTTONS)
def test_turbo_and_htmx_follow_a_button(make_site: Callable[..., Site], name: str) -> None:
    """A button is 303 to Turbo and a page of its own to htmx, and without its token a page with 403."""
    press, place = BUTTONS[name]

    turbo, htmx = press(Turbo(make_site())), press(Htmx(make_site()))

    assert [refused.status_code for refused, _ in (turbo, htmx)] == [403, 403]
    assert all(heading(refused) for refused, _ in (turbo, htmx))
    assert (turbo[1].status_code, turbo[1].headers["Location"]) == (303, place)
    assert is_sent_to(htmx[1], place)


@pytest.mark.parametrize("name", FORMS)
def test_turbo_shows_a_refused_form_and_follows_after_success(site: Site, name: str) -> None:
    """A refused form is 422, which Turbo shows, and a success 303, which it follows with GET."""
    fill, place = FORMS[name]

    refused, done = fill(Turbo(site))

    assert refused.status_code == 422
    assert forms_of(refused)
    assert tags(refused, "title")
    assert (done.status_code, done.headers["Location"]) == (303, place)


@pytest.mark.parametrize("name", FORMS)
def test_htmx_shows_a_refused_form_and_follows_after_success(site: Site, name: str) -> None:
    """A refused form is 422, and after a success htmx opens the next page as a whole."""
    fill, place = FORMS[name]

    refused, done = fill(Htmx(site))

    assert refused.status_code == 422
    assert forms_of(refused)
    assert is_sent_to(done, place)
    assert "HX-Request" in done.vary
    assert "HX-Request" not in refused.vary


def test_htmx_logs_out(site: Site) -> None:
    """A logout by htmx ends the login, and opens the next page as a whole."""
    site.member()
    person = Htmx(site)
    person.login(EMAIL)

    out = person.logout()

    assert is_sent_to(out, "/auth/login")
    assert is_sent_to(person.get("/auth/me"), "/auth/login?next=/orders?page%3D2")


def test_the_cookie_comes_with_the_answer_to_htmx(site: Site) -> None:
    """The answer to htmx sets the cookie of the login, so that the page which it opens is a member's."""
    site.member()
    person = Htmx(site)

    done = person.login(EMAIL)

    assert is_sent_to(done, "/")
    assert person.get("/").text == f"home of {EMAIL}"


def test_who_is_logged_in_is_sent_on_by_htmx(site: Site) -> None:
    """Who is logged in and asks for the login form by htmx is taken where a login leads."""
    site.member()
    person = Htmx(site)
    person.login(EMAIL)

    assert is_sent_to(person.get("/auth/login?next=/secret"), "/secret")


def test_an_unconfirmed_address_by_htmx(site: Site) -> None:
    """Who has not confirmed his address is taken to the page that says so, by htmx as well."""
    site.person().signup(EMAIL)

    response = Htmx(site).login(EMAIL)

    assert is_sent_to(response, "/auth/signup/sent?unverified=1")


def test_htmx_needs_the_token_of_the_form(site: Site) -> None:
    """What htmx says about itself opens nothing: a form without its token is refused as from any browser."""
    site.member()

    response = Htmx(site).send("/auth/login", {"email": EMAIL, "password": PASSWORD})

    assert response.status_code == 403
    assert "HX-Redirect" not in response.headers


def test_htmx_from_another_site(site: Site) -> None:
    """A post from another site's page is refused, whatever it says about htmx."""
    site.member()

    response = Htmx(site).send("/auth/login", {}, origin="https://evil.example", sec_fetch_site="cross-site")

    assert response.status_code == 403
