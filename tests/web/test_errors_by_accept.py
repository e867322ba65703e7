"""Every kind of no, to every kind of caller: the format that was asked for, and nothing of our insides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from answers import FORM, PRODUCTION, heading, links
from support import PASSWORD, Site

from flask_accountflow.flow import Action, Outcome, Services
from flask_accountflow.flows import ACTIONS

HTML, PROBLEM = "text/html; charset=utf-8", "application/problem+json"

#: What callers ask for, and what they get.
ACCEPTS = {
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": HTML,
    "text/html": HTML,
    "text/html, application/json;q=0.5": HTML,
    "application/json": PROBLEM,
    "application/problem+json": PROBLEM,
    "application/json, text/plain, */*": PROBLEM,
    "application/json;q=0.9, text/html;q=0.5": PROBLEM,
}


def fail(services: Services, form: Any) -> Outcome:
    """Fail as no code should."""
    raise RuntimeError("the canary of an action")


def bad_link(client: Any, headers: dict[str, str]) -> Any:
    """Open a link that is not ours."""
    return client.get("/auth/verify/a.b.c", headers=headers)


def too_many(client: Any, headers: dict[str, str]) -> Any:
    """Press the button of such links again and again."""
    body: dict[str, Any] = {"data": {"discard": ""}} if ACCEPTS[headers["Accept"]] == HTML else {"json": {}}
    return [client.post("/auth/verify/a.b.c", headers=headers, **body) for _ in range(5)][-1]


#: Each kind of error that both may get, and how.
ERRORS: dict[int, Callable[[Any, dict[str, str]], Any]] = {
    400: bad_link,
    404: lambda client, headers: client.get("/auth/nothing", headers=headers),
    405: lambda client, headers: client.patch("/auth/login", headers=headers),
    413: lambda client, headers: client.post(
        "/auth/login", data=b"email=" + b"x" * 70_000, content_type=FORM, headers=headers
    ),
    415: lambda client, headers: client.post("/auth/login", data=b"<a/>", content_type="text/xml", headers=headers),
    429: too_many,
    500: lambda client, headers: client.get("/auth/broken", headers=headers),
}


@pytest.mark.parametrize("accept", ACCEPTS)
@pytest.mark.parametrize("status", ERRORS)
def test_CFG_05_an_error_has_the_format_that_was_asked_for(
    make_site: Callable[..., Site], status: int, accept: str
) -> None:
    """Each error is a problem document for a program and a page with a way on for a person, and the app goes on."""
    limits = {"ACCOUNTFLOW_RATELIMIT_ENABLED": status == 429, "ACCOUNTFLOW_RATELIMIT_TOKEN_IP": "3/hour"}
    broken = Action("broken", "/broken", show=fail, page="account")
    site = make_site({**PRODUCTION, **limits}, actions=(*ACTIONS, broken))
    site.member()

    answer = ERRORS[status](site.app.test_client(), {"Accept": accept})

    assert (answer.status_code, answer.headers["Content-Type"]) == (status, ACCEPTS[accept])
    if ACCEPTS[accept] == HTML:
        assert heading(answer)
        assert links(answer)
    else:
        assert answer.json["status"] == status
        assert answer.json["code"]
    assert not [word for word in ("Traceback", "canary", "RuntimeError", "flask", ".py") if word in answer.text]
    assert site.program().login("vic@example.com", PASSWORD).status_code == 200
