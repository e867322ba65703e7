"""Who gets JSON and who gets pages: profiles of the clients that people use."""

from __future__ import annotations

from typing import Any

import pytest
from answers import FORM, bearer
from support import PASSWORD, Site

EMAIL = "vic@example.com"

#: What clients send when they ask for a page or for data, and what they should get.
ASKING: dict[str, tuple[dict[str, str], str]] = {
    "chrome": (
        {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"},
        "html",
    ),
    "firefox": ({"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, "html"),
    "safari": ({"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, "html"),
    "curl": ({"Accept": "*/*", "User-Agent": "curl/8.5.0"}, "html"),
    "httpie": ({"Accept": "application/json, */*;q=0.5"}, "json"),
    "axios": ({"Accept": "application/json, text/plain, */*"}, "json"),
    "jquery": ({"Accept": "application/json, text/javascript, */*; q=0.01"}, "json"),
    "fetch": ({"Accept": "*/*", "Sec-Fetch-Mode": "cors"}, "html"),
    "htmx": ({"Accept": "*/*", "HX-Request": "true"}, "html"),
    "turbo": ({"Accept": "text/vnd.turbo-stream.html, text/html, application/xhtml+xml"}, "html"),
    "nothing": ({}, "html"),
    "problem details": ({"Accept": "application/problem+json"}, "json"),
    "any application": ({"Accept": "application/*"}, "json"),
    "json is better": ({"Accept": "text/html;q=0.5, application/json;q=0.9"}, "json"),
    "html is better": ({"Accept": "application/json;q=0.4, text/html;q=0.5"}, "html"),
    "both": ({"Accept": "application/json, text/html"}, "json"),
    "neither": ({"Accept": "image/png"}, "html"),
    "junk": ({"Accept": ";;q=x,,/,a/b;q=9"}, "html"),
    "bearer": ({"Accept": "*/*", "Authorization": "Bearer x"}, "json"),
}

#: What clients send with a body.
SENDING: dict[str, tuple[dict[str, str], str | None, str]] = {
    "chrome": ({"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}, FORM, "html"),
    "curl -d": ({"Accept": "*/*"}, FORM, "html"),
    "curl --json": ({"Accept": "application/json"}, "application/json", "json"),
    "curl with a json body": ({"Accept": "*/*"}, "application/json", "json"),
    "requests": ({"Accept": "*/*"}, "application/json", "json"),
    "fetch": ({"Accept": "*/*", "Sec-Fetch-Mode": "cors"}, "application/json", "json"),
    "axios": ({"Accept": "application/json, text/plain, */*"}, "application/json", "json"),
    "okhttp": ({}, "application/json; charset=utf-8", "json"),
    "htmx": ({"Accept": "text/html, */*", "HX-Request": "true"}, FORM, "html"),
    "turbo": ({"Accept": "text/vnd.turbo-stream.html, text/html, application/xhtml+xml"}, FORM, "html"),
    "another json": ({"Accept": "*/*"}, "application/vnd.api+json", "json"),
    "curl -X POST": ({"Accept": "*/*"}, None, "json"),
    "form for json": ({"Accept": "application/json"}, FORM, "json"),
}

TYPES = {"html": ("text/html",), "json": ("application/json", "application/problem+json")}
PATHS = [
    "/auth/login",
    "/auth/signup",
    "/auth/me",
    "/auth/verify/a.b.c",
    "/auth/signup/sent",
    "/auth/refresh",
    "/auth/nothing",
    "/auth/",
    "/auth",
]


@pytest.mark.parametrize("client", ASKING)
def test_each_client_gets_its_format(site: Site, client: str) -> None:
    """Each client gets the format that it can read, for pages, refusals and what does not exist."""
    headers, wanted = ASKING[client]
    browser = site.app.test_client()

    for path in PATHS:
        response = browser.get(path, headers=headers)
        if not response.is_json and (response.status_code == 303 or "HX-Redirect" in response.headers):
            assert wanted == "html"
            continue
        assert response.mimetype in TYPES[wanted], path


@pytest.mark.parametrize("client", SENDING)
def test_each_client_gets_its_format_for_what_it_sends(site: Site, client: str) -> None:
    """Each client that sends a body gets the format that it can read."""
    headers, content_type, wanted = SENDING[client]
    body = b"{}" if content_type is not None and "json" in content_type else b"a=b"

    for path in ("/auth/login", "/auth/signup", "/auth/verify/a.b.c", "/auth/refresh", "/auth/nothing"):
        response = site.app.test_client().post(path, data=body, headers=headers, content_type=content_type)
        assert response.mimetype in TYPES[wanted], path
        assert response.status_code >= 400


def test_the_same_address_serves_both(site: Site) -> None:
    """One address logs a browser in by a form and a program in by JSON, and caches can tell the two apart."""
    site.member()
    person, program = site.person(), site.program()

    answers: list[Any] = [person.login(EMAIL), program.login(EMAIL)]

    assert [answer.status_code for answer in answers] == [303, 200]
    assert [sorted(answer.vary) for answer in answers] == [["Accept", "Cookie"], ["Accept", "Cookie"]]


def test_a_bearer_token_asks_for_json_without_saying_so(site: Site) -> None:
    """A caller that shows a token and says nothing else gets JSON."""
    site.member()
    pair = site.program().login(EMAIL)

    response: Any = site.app.test_client().get("/auth/me", headers={"Authorization": bearer(pair)["authorization"]})

    assert response.json["email"] == EMAIL


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/html,*/*;q=0.8", "application/*"])
def test_the_csrf_token_is_for_everybody_who_takes_json(site: Site, accept: str | None) -> None:
    """The address of the CSRF token answers whoever does not rule out JSON."""
    headers = {} if accept is None else {"Accept": accept}

    response: Any = site.app.test_client().get("/auth/csrf", headers=headers)

    assert response.status_code == 200
    assert response.json.keys() == {"csrf_token", "header"}
    assert response.json["header"] == "X-CSRF-Token"


def test_the_csrf_token_is_not_a_page(site: Site) -> None:
    """Who takes nothing but HTML is told that there is none."""
    response = site.app.test_client().get("/auth/csrf", headers={"Accept": "text/html"})

    assert (response.status_code, response.mimetype) == (406, "text/html")


def test_a_browser_that_posts_json_is_no_form(site: Site) -> None:
    """A body of JSON for which the sender wants HTML is refused: forms are sent as forms."""
    site.member()
    person = site.person()

    response = person.client.post(
        "/auth/login", json={"email": EMAIL, "password": PASSWORD}, headers={"Accept": "text/html"}
    )

    assert (response.status_code, response.mimetype) == (415, "text/html")
