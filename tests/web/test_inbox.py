"""The developer's inbox: there in debug, on this computer, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Callable
from email import message_from_bytes
from email.policy import default
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from answers import heading, links, tags, words
from support import Person, Program, Site, forms_of

from flask_accountflow.errors import MailDeferred, MailRejected
from flask_accountflow.mail.letter import message_bytes
from flask_accountflow.web.inbox import in_scheme

FORMATS = ["html", "text", "headers", "eml"]
PATHS = ["/auth/_dev/mail", "/auth/_dev/mail/1", *(f"/auth/_dev/mail/1?format={form}" for form in FORMATS)]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox"


@pytest.fixture
def debug(make_site: Callable[..., Site]) -> Site:
    """A site in debug that has mailed one link."""
    site = make_site({"DEBUG": True})
    site.person().signup("ada@example.com")
    return site


SHOWN = "/auth/_dev/mail/1"


def switches(page: Any) -> list[str]:
    """Return the texts of what is chosen on the page of a mail."""
    return re.findall(r'aria-current="true">([^<]*)</a>', page.text)


def test_every_mail_is_listed(debug: Site) -> None:
    """The inbox lists the newest mail first, with how long ago it was caused, and leads to each."""
    debug.clock.tick(3 * 60 + 59)
    debug.program().request_reset(email="ada@example.com")
    page = debug.person().get("/auth/_dev/mail")

    assert heading(page) == "Inbox of this computer"
    assert links(page) == ["/auth/_dev/mail/2", SHOWN, "/auth/_dev/preview/", "/auth/signup"]
    assert "To ada@example.com · verify · en · 3 minutes ago" in words(page)
    assert [time["title"] for time in tags(page, "time")] == ["21 Nov 2026, 08:33 UTC", "21 Nov 2026, 08:30 UTC"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "a moment ago"),
        (119, "1 minute ago"),
        (2 * 3600 - 1, "1 hour ago"),
        (2 * 86400 - 1, "47 hours ago"),
        (3 * 86400 - 1, "2 days ago"),
        (-5, "a moment ago"),
    ],
)
def test_how_long_ago(debug: Site, seconds: int, text: str) -> None:
    """How long ago a mail was caused is said in whole units that have passed, also when the clock went back."""
    debug.clock.tick(seconds)

    assert f"verify · en · {text}" in words(debug.person().get("/auth/_dev/mail"))


def test_a_mail_is_shown_with_its_link(debug: Site) -> None:
    """A mail's page has its link as a button, says what it is, and shows its HTML."""
    page = debug.person().get(SHOWN)

    assert heading(page) == "Confirm your email for Shop"
    assert links(page)[0] == debug.letters[0].link
    assert links(page)[-1] == "/auth/_dev/mail"
    size = len(message_bytes(debug.letters[0]))
    expected = f"To ada@example.com · verify · en · a moment ago, 21 Nov 2026, 08:30 UTC · {size} bytes"
    assert expected in words(page)
    assert switches(page) == ["HTML", "Light and dark", "Desk"]
    assert f"{SHOWN}?format=html" in links(page)


VIEWS: dict[str, tuple[str, str]] = {
    "text": ("Confirm that this is your address to finish.", "text"),
    "headers": ("From Shop <accounts@example.com> To ada@example.com Subject Confirm your email for Shop", "headers"),
    "source": ("Content-Type: multipart/alternative; boundary=", "eml"),
}


@pytest.mark.parametrize("view", VIEWS)
def test_each_part_of_a_mail_has_its_page(debug: Site, view: str) -> None:
    """The text, the headers and the source of a mail are shown one at a time, each with the file that it is."""
    said, form = VIEWS[view]

    page = debug.person().get(f"{SHOWN}?view={view}")

    assert said in words(page)
    assert len(tags(page, "pre") + tags(page, "dl")) == 1
    assert switches(page) == [view.title()]
    assert tags(page, "iframe") == []
    assert f"{SHOWN}?format={form}" in links(page)


FRAMES = {
    "": ["light", "dark"],
    "?scheme=both": ["light", "dark"],
    "?scheme=light": ["light"],
    "?scheme=dark&width=phone": ["dark"],
}


@pytest.mark.parametrize("asked", FRAMES)
def test_a_mail_is_framed_in_the_schemes_that_are_wanted(debug: Site, asked: str) -> None:
    """The HTML part is shown by day, by night or both, in frames that let nothing run."""
    page = debug.person().get(SHOWN + asked)

    frames = tags(page, "iframe")
    assert [frame["title"] for frame in frames] == [f"In {scheme}" for scheme in FRAMES[asked]]
    assert [frame["src"] for frame in frames] == [f"{SHOWN}?format=html&scheme={scheme}" for scheme in FRAMES[asked]]
    assert [frame["sandbox"] for frame in frames] == [None] * len(frames)
    assert ("af-frames-phone" in page.text) is ("phone" in asked)
    (policy,) = page.headers.getlist("Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    assert policy.endswith("; frame-src 'self'")
    assert not re.search(r"<style|\sstyle=|\son\w+=", page.text)


def test_what_was_chosen_stays(debug: Site) -> None:
    """Every choice keeps the others, and so does the way to the mails before and after."""
    debug.program().signup("bob@example.com")
    debug.program().signup("eve@example.com")

    page = debug.person().get("/auth/_dev/mail/2?scheme=dark&width=phone")

    assert switches(page) == ["HTML", "Dark", "Phone"]
    assert "/auth/_dev/mail/2?view=text&scheme=dark&width=phone" in links(page)
    assert "/auth/_dev/mail/2?scheme=dark" in links(page)
    assert [link for link in links(page) if "/2" not in link and "/_dev/" in link] == [
        "/auth/_dev/mail/3?scheme=dark&width=phone",
        "/auth/_dev/mail/1?scheme=dark&width=phone",
        "/auth/_dev/mail",
    ]


def test_the_newest_mail_has_none_after_it(debug: Site) -> None:
    """At an end of the inbox there is one way less."""
    debug.program().signup("bob@example.com")

    newest, oldest = (words(debug.person().get(f"/auth/_dev/mail/{number}")) for number in (2, 1))

    assert ("Newer" in newest, "Older" in newest) == (False, True)
    assert ("Newer" in oldest, "Older" in oldest) == (True, False)


@pytest.mark.parametrize("asked", ["view=pdf", "scheme=sepia", "width=watch", "format=html&scheme=sepia"])
def test_a_choice_that_there_is_not(debug: Site, asked: str) -> None:
    """What cannot be chosen is an address of nothing."""
    page = debug.person().get(f"{SHOWN}?{asked}")

    assert (page.status_code, heading(page)) == (404, "There is no such page")


SCHEMED = """<meta name="color-scheme" content="light dark"><style>
:root { color-scheme: light dark; }
@media (prefers-color-scheme: dark) { p { color: red } }
@media screen and ( PREFERS-color-scheme:LIGHT ) { p { color: blue } }
</style>prefers-color-scheme: dark"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_scheme_is_shown_whatever_the_readers_is(scheme: str) -> None:
    """In a scheme the rules of that one always hold and those of the other never do; the words stay."""
    dark, light = ("(min-width: 0)", "(max-width: 0)") if scheme == "dark" else ("(max-width: 0)", "(min-width: 0)")

    assert in_scheme(SCHEMED, scheme) == (
        f"""<meta name="color-scheme" content="{scheme}"><style>
:root {{ color-scheme: {scheme}; }}
@media {dark} {{ p {{ color: red }} }}
@media screen and {light} {{ p {{ color: blue }} }}
</style>prefers-color-scheme: dark"""
    )


def test_a_mail_in_a_scheme_is_the_mail(debug: Site) -> None:
    """What is framed is the HTML that was sent, but for its scheme."""
    person, sent = debug.person(), debug.letters[0].html

    found = {scheme: person.get(f"{SHOWN}?format=html&scheme={scheme}") for scheme in ("light", "dark")}

    assert {scheme: page.text for scheme, page in found.items()} == {
        scheme: in_scheme(sent, scheme) for scheme in found
    }
    assert len({sent, *(page.text for page in found.values())}) == 3
    assert [page.headers.getlist("Content-Security-Policy") for page in found.values()] == [[POLICY]] * 2


# What became of a mail.


@pytest.mark.parametrize(
    ("fault", "listed", "shown"),
    [
        (MailRejected("550 no <such> user"), "Refused: 550 no <such> user", "Refused, and not tried again: 550 no"),
        (MailDeferred("421 later"), "Not sent yet: 421 later", "Not sent yet: 421 later"),
        (OSError("the wire is cut"), "Not sent yet: the wire is cut", "Not sent yet: the wire is cut"),
    ],
)
def test_a_mail_that_was_not_sent_says_why(debug: Site, fault: Exception, listed: str, shown: str) -> None:
    """A mail that was refused, or waits for another try, is in the inbox with the reason."""
    debug.transport.fault = fault
    debug.program().signup("bob@example.com")
    person = debug.person()

    assert listed in unescape(words(person.get("/auth/_dev/mail")))
    assert shown in words(person.get("/auth/_dev/mail/2"))
    assert "sent yet" not in words(person.get(SHOWN))


def test_a_mail_that_was_sent_after_all(debug: Site) -> None:
    """The next try of a mail is the same mail in the inbox, and when it is sent the fault is gone."""
    debug.transport.fault = MailDeferred("421 later")
    debug.program().signup("bob@example.com")
    debug.transport.fault = None
    debug.clock.tick(6)
    debug.app.extensions["accountflow_delivery"].deliver_due()

    page = debug.person().get("/auth/_dev/mail")

    assert links(page)[:2] == ["/auth/_dev/mail/2", SHOWN]
    assert "421" not in words(page)


# Emptying it.


def test_the_inbox_can_be_emptied(debug: Site) -> None:
    """One button empties the inbox, and what comes later has a number of its own."""
    person = debug.person()

    page = person.follow(person.submit(person.get("/auth/_dev/mail")))
    debug.program().signup("bob@example.com")

    assert "Nothing here yet." in words(page)
    assert person.get(SHOWN).status_code == 404
    assert links(person.get("/auth/_dev/mail"))[0] == "/auth/_dev/mail/2"


FORGED: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "no token": ({"csrf_token": ""}, {}),
    "another page": ({}, {"origin": "https://evil.example"}),
    "another site": ({}, {"sec_fetch_site": "cross-site"}),
}


@pytest.mark.parametrize("how", FORGED)
def test_nobody_else_empties_it(debug: Site, how: str) -> None:
    """A page of somebody else cannot empty the inbox."""
    fields, headers = FORGED[how]
    person = debug.person()
    (form,) = forms_of(person.get("/auth/_dev/mail"))

    answer = person.send("/auth/_dev/mail", {**form.values, **fields}, **headers)

    assert answer.status_code == 403
    assert person.get(SHOWN).status_code == 200


def test_only_this_computer_empties_it(debug: Site) -> None:
    """Whoever is not at this computer cannot empty the inbox, and a program is told that there is no such answer."""
    person = debug.person()
    (form,) = forms_of(person.get("/auth/_dev/mail"))

    found = [
        person.send("/auth/_dev/mail", form.values, host="evil.example").status_code,
        debug.program().post("/auth/_dev/mail").status_code,
        person.get(SHOWN).status_code,
    ]

    assert found == [404, 406, 200]


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

    assert debug.letters[1].link is None
    assert "Open the link" not in words(page)
    assert "Open the link" in words(debug.person().get(SHOWN))


def test_an_empty_inbox_says_so(make_site: Callable[..., Site]) -> None:
    """An inbox without mails says what fills it, and has nothing to empty."""
    page = make_site({"DEBUG": True}).person().get("/auth/_dev/mail")

    assert "Nothing here yet. Sign up or reset a password, then look again." in words(page)
    assert "worker" not in words(page)
    assert links(page) == ["/auth/signup", "/auth/_dev/preview/"]
    assert forms_of(page) == []


def test_an_empty_inbox_names_a_worker(make_site: Callable[..., Site]) -> None:
    """Where a worker sends the mails, an empty inbox says that they are not in it."""
    page = make_site({"DEBUG": True, "ACCOUNTFLOW_MAIL_KICK": "worker"}).person().get("/auth/_dev/mail")

    assert '(ACCOUNTFLOW_MAIL_KICK is "worker"). What another process sends is not in this inbox.' in words(page)


def test_the_pages_after_a_post_lead_to_it(debug: Site) -> None:
    """In debug the pages that say to check the mail lead to the inbox."""
    person = debug.person()

    sent = person.follow(person.signup("bob@example.com"))
    reset = person.follow(person.request_reset(email="bob@example.com"))

    assert "/auth/_dev/mail" in links(sent)
    assert "/auth/_dev/mail" in links(reset)


@pytest.mark.parametrize(
    ("transport", "box", "inbox"),
    [
        ("console", "Development: mail stays on this computer.", "They stay on this computer."),
        ("file", "Development: mail stays on this computer.", "They stay on this computer."),
        ("smtp", "is sent for real, and a copy is kept here.", "They are sent for real; these are copies."),
    ],
)
def test_it_is_said_whether_mail_leaves(
    make_site: Callable[..., Site], tmp_path: Path, transport: str, box: str, inbox: str
) -> None:
    """In debug the pages say whether mails are sent for real, by the transport that there is."""
    site = make_site(
        {
            "DEBUG": True,
            "MAIL_SUPPRESS_SEND": True,
            "ACCOUNTFLOW_MAIL_TRANSPORT": transport,
            "ACCOUNTFLOW_MAIL_FILE": str(tmp_path / "mail.log"),
        },
        transport=None,
    )
    person = site.person()

    assert box in words(person.follow(person.signup("ada@example.com")))
    assert inbox in words(person.get("/auth/_dev/mail"))


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
