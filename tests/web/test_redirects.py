"""Where visitors are sent: to our own pages, and to the origins that the site names."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from answers import field, links
from support import PASSWORD, Person, Program, Site

from flask_accountflow import login_required

EMAIL = "vic@example.com"

HOSTILE = [
    "//evil.example",
    "///evil.example",
    "////evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "\\\\\\evil.example",
    "\\/evil.example",
    "/%2f/evil.example",
    "/%2F%2Fevil.example",
    "/%5cevil.example",
    "/%5C%5Cevil.example",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "https://evil.example",
    "HTTP://EVIL.EXAMPLE",
    "http:///evil.example",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\nscript:alert(1)",
    "data:text/html,x",
    "vbscript:x",
    "\t//evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r\n/evil.example",
    " //evil.example",
    "\x00//evil.example",
    "/\x00/evil.example",
    "\u2028//evil.example",
    "%0d%0aLocation:https://evil.example",
    "/x\r\nLocation: https://evil.example",
    "/x\r\nSet-Cookie: a=b",
    "//good@evil.example",
    "//evil%23.www.example.com",
    "//www.example.com.evil.example",
    "https://www.example.com@evil.example",
    "https://www.example.com\\@evil.example",
    "https://www.example.com%2eevil.example",
    "https://www.example.com:443@evil.example",
    "http://www.example.com",
    "https://www.example.com:8443/",
    ".evil.example",
    "evil.example",
    "@evil.example",
    "/../..//evil.example",
    "/a/../..//evil.example",
    "/%2e%2e//evil.example",
    "//evil\u3002example",
    "//[evil",
    "https://[evil",
    "/" + "x" * 10_000,
    "?next=/secret",
    "#/secret",
    "",
]

OURS = {
    "/": "/",
    "/secret": "/secret",
    "/secret?page=2&q=a%20b": "/secret?page=2&q=a%20b",
    "/secret#part": "/secret#part",
    "/?to=//evil.example": "/?to=//evil.example",
    "/#//evil.example": "/#//evil.example",
    "/x%0d%0aLocation:evil": "/x%0d%0aLocation:evil",
    "/caf\u00e9": "/caf%C3%A9",
    "/\u3002/evil": "/%E3%80%82/evil",
    "/%252f/evil": "/%252f/evil",
    "https://www.example.com/ok?a=b": "https://www.example.com/ok?a=b",
}


def leaves(address: str) -> bool:
    """Tell whether a browser that is sent to ``address`` leaves our origin (WHATWG URL, basic parser)."""
    seen = re.sub(r"[\t\r\n]", "", address).strip("".join(map(chr, range(33)))).replace("\\", "/")
    return bool(re.match(r"[a-z][a-z0-9+.-]*:|//", seen, re.IGNORECASE))


@pytest.mark.parametrize("wanted", HOSTILE, ids=lambda text: ascii(text[:30]))
def test_LOG_14_RED_01_a_hostile_next_leads_home(site: Site, wanted: str) -> None:
    """A login leads home, whatever a foreign link put into ``next``, in the address or in the form."""
    site.member()
    by_address, by_form = site.person(), site.person()

    page = by_address.get(f"/auth/login?next={quote(wanted)}")
    found = [
        by_address.submit(page, email=EMAIL, password=PASSWORD),
        by_form.login(EMAIL, next=wanted),
        by_address.get(f"/auth/login?next={quote(wanted)}"),
    ]

    if "\0" in wanted:  # the form does not take it
        assert found.pop(1).status_code == 422
    assert {answer.headers["Location"] for answer in found} == {"/"}
    assert not any(name == "Set-Cookie" and "a=b" in value for answer in found for name, value in answer.headers)
    assert [link for link in links(page) if "evil" in link or leaves(link)] == []


@pytest.mark.parametrize("wanted", OURS)
def test_a_page_of_ours_is_led_to(site: Site, wanted: str) -> None:
    """A path here, or an address of the configured origin, is where a login leads."""
    site.member()
    person = site.person()

    found = [person.login(EMAIL, next=wanted), person.get(f"/auth/login?next={quote(wanted)}")]

    assert [answer.headers["Location"] for answer in found] == [OURS[wanted]] * 2
    assert not leaves(OURS[wanted].removeprefix("https://www.example.com"))


def test_a_trusted_origin_is_led_to(make_site: Callable[..., Site]) -> None:
    """An origin in TRUSTED_ORIGINS may be led to, and our pages' policy lets the form go there."""
    site = make_site({"ACCOUNTFLOW_TRUSTED_ORIGINS": ["https://App.example.org"]})
    site.member()
    person = site.person()

    page = person.get("/auth/login?next=https://app.example.org/inbox")
    response = person.submit(page, email=EMAIL, password=PASSWORD)
    other = site.person().login(EMAIL, next="https://app.example.org.evil.example/")

    assert response.headers["Location"] == "https://app.example.org/inbox"
    assert "form-action 'self' https://app.example.org;" in page.headers["Content-Security-Policy"]
    assert other.headers["Location"] == "/"


@pytest.mark.parametrize("path", ["/auth/signup", "/auth/verify/resend", "/auth/password-reset/request"])
@pytest.mark.parametrize("wanted", ["//evil.example", "///evil.example", "/\\evil.example", "https://evil.example"])
def test_no_page_passes_a_hostile_next_on(site: Site, path: str, wanted: str) -> None:
    """No page puts a hostile ``next`` into its links or forms, nor into where it leads."""
    person = site.person()

    page = person.get(f"{path}?next={quote(wanted)}")
    response = person.submit(page, email="ada@example.com", password=PASSWORD, next=wanted)

    assert "evil" not in page.text
    assert "evil" not in response.headers["Location"]
    assert "evil" not in person.follow(response).text


def test_RED_01_several_values_are_refused(site: Site) -> None:
    """Two values for ``next`` in a form are one too many; in the address the first counts."""
    site.member()
    person = site.person()
    page = person.get("/auth/login?next=/secret&next=//evil.example")
    token = field(page, "csrf_token")["value"]

    response = person.client.post(
        "/auth/login",
        data={"email": EMAIL, "password": PASSWORD, "csrf_token": token, "next": ["/secret", "//evil.example"]},
        headers=person.headers,
    )

    assert field(page, "next")["value"] == "/secret"
    assert response.status_code == 422


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/secret", "/auth/login?next=/secret"),
        ("/secret?", "/auth/login?next=/secret"),
        ("/secret?page=2&q=%20", "/auth/login?next=/secret?page%3D2%26q%3D%2520"),
    ],
)
def test_a_stranger_is_led_back(site: Site, path: str, location: str) -> None:
    """A stranger is sent to the login page, and afterwards back to where he was."""
    assert site.person().get(path).headers["Location"] == location


@pytest.mark.usefixtures("own_site")
def test_a_stranger_is_led_back_to_a_page_with_an_odd_name(site: Site) -> None:
    """Signs that are written in percent in an address are written like that on the way back."""

    @site.app.get("/files/<name>")
    @login_required
    def files(name: str) -> str:
        return name

    site.member()

    for path in ("/files/a%20b", "/files/a%3Fb", "/files/a%23b", "/files/caf%C3%A9", "/files/50%25"):
        person = site.person()
        response = person.submit(person.follow(person.get(f"{path}?x=%26")), email=EMAIL, password=PASSWORD)
        assert response.headers["Location"] == f"{path}?x=%26"
        assert person.follow(response).status_code == 200


@pytest.mark.usefixtures("own_site")
def test_only_what_was_looked_at_is_led_back_to(site: Site) -> None:
    """What was sent is not sent again after the login; what was looked at is looked at again."""

    @site.app.route("/order", methods=["GET", "POST"])
    @login_required
    def order() -> str:
        return "order"

    client = site.app.test_client()
    found = {
        method: client.open("/order?x=1", method=method, headers=Person.headers).headers["Location"]
        for method in ("GET", "HEAD", "POST")
    }

    back = "/auth/login?next=/order?x%3D1"
    assert found == {"GET": back, "HEAD": back, "POST": "/auth/login"}


@pytest.mark.parametrize("query", ["x=\xff\xfe", "x=%ff", "%", "&&=", "x=\x80&next=//evil.example"])
def test_a_query_of_junk_is_led_back_to_as_it_was(site: Site, query: str) -> None:
    """A query that is not UTF-8 breaks neither the way to the login page nor a page that says no."""
    person = site.person()

    away = person.client.get("/secret", headers=person.headers, environ_overrides={"QUERY_STRING": query})
    missing = person.client.get("/auth/nothing", headers=person.headers, environ_overrides={"QUERY_STRING": query})
    page = person.follow(away)

    assert (away.status_code, missing.status_code, page.status_code) == (303, 404, 200)
    assert (field(page, "next")["value"] or "").startswith("/secret?")


def test_a_login_of_a_program_leads_nowhere(site: Site, visitor: Program | Person) -> None:
    """Only a browser is redirected, and always by 303."""
    site.member()

    response = visitor.login(EMAIL, next="/secret")

    if isinstance(visitor, Program):
        assert "Location" not in response.headers
    else:
        assert (response.status_code, response.headers["Location"]) == (303, "/secret")
