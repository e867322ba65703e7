"""Coming from the tempest SDK: its mode E, everything on the back end. Each docstring is a row of the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from support import ABSENT, OTHER_PASSWORD, Site, forms_of
from tempest_sites import BACK_END, MakeSite, sdk_site

EMAIL, KNOWN = "ana@example.com", "vic@example.com"


@pytest.mark.parametrize("templates", [BACK_END, {}], ids=["as with the SDK", "by default"])
def test_E_everything_by_pages(make_site: MakeSite, templates: Mapping[str, Any]) -> None:
    """Mode E: without a front end the links lead to our pages, be it by the default or by templates that name them, and
    people sign up, confirm, reset and log in by pages alone, without JavaScript.
    """
    site = sdk_site(
        make_site, templates, {"ACCOUNTFLOW_LOGIN_ON_VERIFY": "never", "ACCOUNTFLOW_LOGIN_ON_RESET": "never"}
    )
    person = site.person()

    assert person.follow(person.signup(EMAIL)).status_code == 200
    opened = person.get(site.last_link)
    assert (opened.status_code, site.account(EMAIL).email_verified_at is None) == (200, False)
    assert 'href="/auth/login"' in opened.text
    assert person.follow(person.login(EMAIL)).text == f"home of {EMAIL}"
    person.logout()
    person.request_reset(email=EMAIL)
    form = person.get(site.last_link)
    assert forms_of(form)[0].action == urlsplit(str(site.letters[-1].link)).path
    done = person.follow(person.submit(form, password=OTHER_PASSWORD))
    assert 'href="/auth/login"' in done.text
    assert person.follow(person.login(EMAIL, OTHER_PASSWORD)).text == f"home of {EMAIL}"


def test_E_the_person_logs_in_himself(make_site: MakeSite) -> None:
    """Mode E: opening a link logs nobody in unless `ACCOUNTFLOW_LOGIN_ON_VERIFY="always"`, not in the browser that
    signed up either, where by default the button does; no token ever stands in a page.
    """
    for rule, by_opening, by_button in [("same-browser", 303, 200), ("never", 303, 303), ("always", 200, 200)]:
        for opens, status in [(True, by_opening), (False, by_button)]:
            site = sdk_site(make_site, {"ACCOUNTFLOW_LOGIN_ON_VERIFY": rule, "ACCOUNTFLOW_VERIFY_ON_GET": opens})
            person = site.person()
            person.signup(EMAIL)

            page = person.get(site.last_link)
            if not opens:
                person.submit(page)

            assert person.me().status_code == status
            assert "eyJ" not in page.text


def test_E_opening_a_link_confirms_when_it_is_told_to(make_site: MakeSite) -> None:
    """Mode E: `ACCOUNTFLOW_VERIFY_ON_GET=True` confirms when the link is opened, as the SDK does; by default the page
    has a button, because mail scanners open links.
    """
    for by_opening in (True, False):
        site = sdk_site(make_site, {"ACCOUNTFLOW_VERIFY_ON_GET": by_opening})
        site.program().signup(EMAIL)

        page = site.person().get(site.last_link)

        assert (site.account(EMAIL).email_verified_at is not None) is by_opening
        assert bool(forms_of(page)) is not by_opening


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_purpose": "prefetch"},
        {"purpose": "prefetch"},
        {"x_purpose": "preview"},
        {"sec_fetch_dest": "image"},
        {"sec_fetch_dest": "iframe"},
    ],
    ids=str,
)
def test_E_looking_ahead_confirms_nothing(make_site: MakeSite, headers: dict[str, str]) -> None:
    """Mode E: a browser that looks ahead, `HEAD` and a `GET` that asks for JSON confirm nothing, with
    `ACCOUNTFLOW_VERIFY_ON_GET` either.
    """
    site = sdk_site(make_site)
    site.program().signup(EMAIL)
    person = site.person()

    person.get(site.last_link, **headers)
    person.client.head(site.last_link, headers={"Accept": "text/html"})
    site.program().get(site.last_link)

    assert site.account(EMAIL).email_verified_at is None


def test_E_a_bad_link_is_a_page_that_says_so(make_site: MakeSite) -> None:
    """Mode E: a link that is not ours is a page with 400, an expired or used one with 410, and each has a way on."""
    site = sdk_site(make_site)
    site.program().signup(EMAIL)
    person, link = site.person(), site.last_link.replace("/verify/", "/activate/")

    made_up, cut_off = person.get("/auth/activate/abc"), person.get(link[:-1])
    site.clock.tick(86400)
    expired = person.get(link)

    assert [page.status_code for page in (made_up, cut_off, expired)] == [400, 400, 410]
    assert all(forms_of(page) and page.mimetype == "text/html" for page in (made_up, cut_off, expired))


def test_E_the_json_endpoints_stay(make_site: MakeSite) -> None:
    """Mode E: the JSON endpoints stay as they are, and a program gets no page under `/auth`."""
    site = sdk_site(make_site, BACK_END)
    program = site.program()
    program.signup(EMAIL)

    answers = [
        program.get("/auth/activate/abc"),
        program.post(site.last_link),
        program.get("/auth/nothing"),
        program.post("/auth/password-reset/abc", {"new_password": OTHER_PASSWORD}),
    ]

    assert [answer.status_code for answer in answers] == [400, 200, 404, 400]
    assert all("json" in answer.mimetype for answer in answers)


LOGIN_URLS: list[tuple[Any, str | None]] = [
    (ABSENT, "/auth/login"),
    ("https://app.example.com/login", "https://app.example.com/login"),
    ("/members/login", "/members/login"),
    ("", None),
]


def pages_after_links(site: Site) -> list[Any]:
    """Return the pages of success and failure that links lead to."""
    person = site.person()
    site.program().signup(EMAIL)
    activation = site.last_link.replace("/verify/", "/activate/")
    confirmed, again = person.get(activation), person.get(activation)
    site.program().request_reset(email=EMAIL)
    reset = site.last_link
    done = person.follow(person.reset(reset))
    return [
        confirmed,
        again,
        person.get("/auth/activate/abc"),
        done,
        person.get(reset),
        person.get("/auth/password-reset/abc"),
    ]


@pytest.mark.parametrize(("login_url", "shown"), LOGIN_URLS)
def test_E_the_login_button_is_there_when_a_login_url_is_known(
    make_site: MakeSite, login_url: Any, shown: str | None
) -> None:
    """Mode E: pages and mails lead to `ACCOUNTFLOW_LOGIN_URL`, by default to our own login page; with `""` no login
    button is shown, which is the SDK's `AUTH_LOGIN_URL=null`.
    """
    rules = {"ACCOUNTFLOW_LOGIN_ON_VERIFY": "never", "ACCOUNTFLOW_LOGIN_ON_RESET": "never"}
    site = sdk_site(make_site, rules, {"ACCOUNTFLOW_LOGIN_URL": login_url})

    for page in pages_after_links(site):
        if shown is None:
            assert "login" not in page.text
        else:
            assert f'href="{shown}"' in page.text


@pytest.mark.parametrize(("login_url", "shown"), LOGIN_URLS)
def test_E_mails_lead_to_the_login_when_a_login_url_is_known(
    make_site: MakeSite, login_url: Any, shown: str | None
) -> None:
    """Mode E: a mail to somebody who has an account leads to the same login URL, and has no button without one."""
    site = sdk_site(make_site, {"ACCOUNTFLOW_LOGIN_URL": login_url})
    site.member(KNOWN)

    site.program().signup(KNOWN)
    site.program().resend(email=KNOWN)

    assert [letter.template for letter in site.letters] == ["already_registered", "already_verified"]
    for letter in site.letters:
        if shown is None:
            assert "None" not in letter.text + letter.html
            assert "/auth/login" not in letter.text + letter.html
            assert "Log in here" not in letter.text
            assert "af-button" not in letter.html.partition("<body")[2]
        else:
            address = shown if shown.startswith("https") else f"https://www.example.com{shown}"
            assert address in letter.text.splitlines()
            assert f'href="{address}"' in letter.html
