"""The developer's inbox: there in debug, on this computer, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from answers import heading, links, tags, words
from support import Person, Program, Site

from flask_accountflow.mail.letter import render_message

FORMATS = ["html", "text", "headers", "eml"]
PATHS = ["/auth/_dev/mail", "/auth/_dev/mail/1", *(f"/auth/_dev/mail/1?format={form}" for form in FORMATS)]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox"


@pytest.fixture
def debug(make_site: Callable[..., Site]) -> Site:
    """A site in debug that has mailed one link."""
    site = make_site({"DEBUG": True})
    site.person().signup("ada@example.com")
    return site


def test_every_mail_is_listed(debug: Site) -> None:
    """The inbox lists the newest mail first, and leads to each."""
    debug.program().request_reset(email="ada@example.com")
    page = debug.person().get("/auth/_dev/mail")

    assert heading(page) == "Inbox of this computer"
    assert links(page) == ["/auth/_dev/mail/2", "/auth/_dev/mail/1", "/auth/signup", "/auth/_dev/preview/"]
    assert "To ada@example.com · verify · en · 21 Nov 2026, 08:30 UTC" in words(page)


def test_a_mail_is_shown_with_its_link(debug: Site) -> None:
    """A mail's page has its link as a button, its text, its headers, and a way to each form of it."""
    page = debug.person().get("/auth/_dev/mail/1")

    assert heading(page) == "Confirm your email for Shop"
    assert links(page) == [debug.letters[0].link, *PATHS[2:], "/auth/_dev/mail"]
    assert f"· {len(render_message(debug.letters[0]).as_bytes())} bytes" in words(page)
    assert "From Shop <accounts@example.com> To ada@example.com Subject Confirm your email for Shop" in words(page)
    assert "Auto-Submitted auto-generated" in words(page)
    assert "Confirm that this is your address to finish." in words(page)


def test_a_mail_is_framed_in_both_schemes(debug: Site) -> None:
    """The HTML part is shown twice, by day and by night, in frames that let nothing run."""
    page = debug.person().get("/auth/_dev/mail/1")

    frames = tags(page, "iframe")
    assert [frame["title"] for frame in frames] == ["In light", "In dark"]
    assert [(frame["src"], frame["sandbox"]) for frame in frames] == [("/auth/_dev/mail/1?format=html", None)] * 2
    (policy,) = page.headers.getlist("Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    assert policy.endswith("; frame-src 'self'")


def test_headers_may_be_left_to_the_host(make_site: Callable[..., Site]) -> None:
    """Where the host sends its own policy with our pages, the inbox has none; the HTML of a mail always has."""
    site = make_site({"DEBUG": True, "ACCOUNTFLOW_SECURITY_HEADERS": False})
    site.person().signup("ada@example.com")

    found = {path: site.person().get(path).headers.get("Content-Security-Policy", "") for path in PATHS[:3]}

    assert list(found.values()) == ["", "", POLICY]


def test_the_html_part_is_shown_as_it_is(debug: Site) -> None:
    """The HTML part is shown as it was sent, under a policy that lets its styles apply and nothing run."""
    page = debug.person().get("/auth/_dev/mail/1?format=html")

    assert page.text == debug.letters[0].html
    assert page.headers.getlist("Content-Security-Policy") == [POLICY]


def test_the_text_is_shown_as_it_is(debug: Site) -> None:
    """The text part is shown as it was sent."""
    page = debug.person().get("/auth/_dev/mail/1?format=text")

    assert (page.mimetype, page.text) == ("text/plain", debug.letters[0].text)


def test_the_headers_are_shown_as_lines(debug: Site) -> None:
    """The headers are shown one on a line."""
    page = debug.person().get("/auth/_dev/mail/1?format=headers")

    assert page.mimetype == "text/plain"
    assert "\nTo: ada@example.com\nSubject: Confirm your email for Shop\n" in page.text


def test_the_message_can_be_downloaded(debug: Site) -> None:
    """The whole message comes as a file that mail programs read."""
    page = debug.person().get("/auth/_dev/mail/1?format=eml")

    message = message_from_bytes(page.data, policy=default)
    text, html = message.iter_parts()
    assert (page.mimetype, page.headers["Content-Disposition"]) == ("message/rfc822", "attachment; filename=mail-1.eml")
    assert (message["Subject"], message["To"]) == ("Confirm your email for Shop", "ada@example.com")
    assert text.get_content().splitlines() == debug.letters[0].text.splitlines()
    assert html.get_content().splitlines() == debug.letters[0].html.splitlines()


def test_another_form_of_a_mail_there_is_not(debug: Site) -> None:
    """A form that a mail does not have is an address of nothing."""
    assert debug.person().get("/auth/_dev/mail/1?format=pdf").status_code == 404


def test_a_mail_without_a_link_has_no_button(debug: Site) -> None:
    """A notice's page has no button."""
    debug.member()
    debug.program().signup("vic@example.com")

    page = debug.person().get("/auth/_dev/mail/2")

    assert links(page) == [*(path.replace("/1", "/2") for path in PATHS[2:]), "/auth/_dev/mail"]


def test_an_empty_inbox_says_so(make_site: Callable[..., Site]) -> None:
    """An inbox without mails says what fills it."""
    page = make_site({"DEBUG": True}).person().get("/auth/_dev/mail")

    assert "Nothing here yet." in words(page)
    assert links(page) == ["/auth/signup", "/auth/_dev/preview/"]


def test_the_pages_after_a_post_lead_to_it(debug: Site) -> None:
    """In debug the pages that say to check the mail lead to the inbox."""
    person = debug.person()

    sent = person.follow(person.signup("bob@example.com"))
    reset = person.follow(person.request_reset(email="bob@example.com"))

    assert "/auth/_dev/mail" in links(sent)
    assert "/auth/_dev/mail" in links(reset)
    assert "Development: mail goes to this computer only." in words(sent)


@pytest.mark.parametrize("path", PATHS)
def test_there_is_none_without_debug(site: Site, visitor: Program | Person, path: str) -> None:
    """Outside debug there is no inbox, and no page leads to one."""
    visitor.signup("ada@example.com")

    response = visitor.get(path)

    assert response.status_code == 404
    assert "_dev" not in site.person().get("/auth/signup/sent").text


#: How somebody else than the developer may ask.
ELSEWHERE: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "another address": ({}, {"REMOTE_ADDR": "192.0.2.1"}),
    "another address of IPv6": ({}, {"REMOTE_ADDR": "2001:db8::1"}),
    "no address": ({}, {"REMOTE_ADDR": ""}),
    "a foreign name": ({"Host": "evil.example"}, {}),
    "a foreign name with a port": ({"Host": "evil.example:5000"}, {}),
    "a name that looks like ours": ({"Host": "localhost.evil.example"}, {}),
    "another machine": ({"Host": "192.168.0.10:5000"}, {}),
    "a proxy": ({"X-Forwarded-For": "192.0.2.1"}, {}),
    "a proxy here": ({"X-Forwarded-For": "127.0.0.1"}, {}),
}


@pytest.mark.parametrize("kind", [Person, Program])
def test_it_is_for_this_computer(debug: Site, kind: type[Person] | type[Program]) -> None:
    """Whoever is not at this computer, or came here under another name, finds no inbox."""
    client = debug.app.test_client()

    for how, (headers, environ) in ELSEWHERE.items():
        for path in PATHS:
            response = client.get(path, headers={**kind.headers, **headers}, environ_overrides=environ)
            assert response.status_code == 404, (how, path)
            assert "ada@example.com" not in response.text


def test_names_of_this_computer(debug: Site) -> None:
    """Every name of this computer serves."""
    person = debug.person()
    names = ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]", "[::1]:5000", "shop.localhost"]

    found = {name: person.get("/auth/_dev/mail", host=name).status_code for name in names}

    assert set(found.values()) == {200}, found


@pytest.mark.parametrize("path", ["/auth/_dev/mail/7", "/auth/_dev/mail/7?format=html", "/auth/_dev/mail/x"])
def test_a_mail_that_there_is_not(debug: Site, path: str) -> None:
    """The number of no mail is an address of nothing."""
    page = debug.person().get(path)

    assert (page.status_code, heading(page)) == (404, "There is no such page")


@pytest.mark.parametrize("path", PATHS)
def test_it_is_for_people(debug: Site, path: str) -> None:
    """A program is never answered with HTML: the inbox has no other form."""
    problem = debug.program().get(path)

    assert (problem.status_code, problem.json["code"]) == (406, "not_acceptable")


def test_a_mail_cannot_act_on_the_inbox(debug: Site) -> None:
    """What somebody typed is only text in the inbox."""
    debug.program().signup("'--a&b@example.com")

    page = debug.person().get("/auth/_dev/mail")

    assert page.status_code == 200
    assert "a&amp;b@example.com" in page.text
    assert len(tags(page, "script")) == 1
