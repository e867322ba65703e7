"""Actions that a host adds to ours, and what holds for each of them by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from answers import Script, bearer
from support import PASSWORD, Person, Program, Site
from wtforms import Form, StringField

from flask_accountflow.flow import Action, Outcome, Services
from flask_accountflow.flows import ACTIONS

EMAIL = "vic@example.com"


class NumberForm(Form):
    """What an address of the host holds."""

    number = StringField()


def tell(services: Services, form: Any) -> Outcome:
    """Tell who has called, and what the form held."""
    account = services.visit.account
    return Outcome("told", {"email": account.email if account is not None else None, **(form.data if form else {})})


OWN = (
    Action("reign", "/reign", run=tell, formats=("json",), needs_admin=True),
    Action("mine", "/mine", run=tell, formats=("json",), needs_login=True),
    Action("count", "/count/<int:number>", NumberForm, run=tell, guard="link"),
)


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """A site whose host has actions of its own."""
    site = make_site(actions=(*ACTIONS, *OWN))
    site.member()
    return site


def test_an_administrators_action_is_nobody_elses(site: Site) -> None:
    """Who says that an action is for administrators need not say that they are logged in."""
    pair = site.program().login(EMAIL)

    found = [site.program().post("/auth/reign"), site.program().post("/auth/reign", **bearer(pair))]

    assert [(one.status_code, one.json["code"]) for one in found] == [
        (401, "authentication_required"),
        (403, "forbidden"),
    ]


def test_a_members_action_takes_the_token_of_the_cookie(site: Site) -> None:
    """Where a login is needed the cookie counts, so that it takes the CSRF token without the host saying so."""
    script = Script(site)
    script.log_in()

    without = script.client.post("/auth/mine", headers={**script.headers, "Origin": "null"})
    refused = script.client.post("/auth/mine", json={}, headers=script.headers)

    assert [one.json["code"] for one in (without, refused)] == ["csrf_failed"] * 2
    assert script.post("/auth/mine", x_csrf_token=script.token()).json["email"] == EMAIL


def test_a_number_in_the_address(site: Site, visitor: Program | Person) -> None:
    """What a converter makes of a part of the address reaches the form, in both formats."""
    if isinstance(visitor, Program):
        assert visitor.post("/auth/count/5").json["number"] == "5"
    else:
        assert visitor.send("/auth/count/5", {}).status_code == 303


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/auth/me"),
        ("GET", "/auth/sessions"),
        ("DELETE", "/auth/sessions"),
        ("POST", "/auth/login/fresh"),
        ("POST", "/auth/admin/users"),
    ],
)
def test_a_database_that_is_away(site: Site, visitor: Program | Person, method: str, path: str) -> None:
    """A member's request is answered with 503 in his format while the database cannot say who he is."""
    if isinstance(visitor, Person) and path not in {"/auth/me", "/auth/login/fresh"}:
        return  # which have no pages
    login = visitor.login(EMAIL)
    headers = bearer(login) if isinstance(visitor, Program) else {}
    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE accountflow_session RENAME TO gone"))

    answer = visitor.client.open(
        path, method=method, headers={**visitor.headers, **{name.title(): value for name, value in headers.items()}}
    )

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert answer.mimetype == {"json": "application/problem+json", "html": "text/html"}[visitor.kind]


def test_a_cookie_is_not_to_be_had_by_a_made_up_token(site: Site) -> None:
    """A login that asks for a cookie takes the CSRF token, whatever stands in the Authorization header."""
    for made_up in ("Bearer", "Bearer x"):
        answer = site.program().post(
            "/auth/login",
            {"email": EMAIL, "password": PASSWORD, "transport": "cookie"},
            authorization=made_up,
            origin="https://evil.example",
            sec_fetch_site="cross-site",
        )

        assert (answer.status_code, answer.json["code"]) == (403, "cross_origin_blocked")
        assert "Set-Cookie" not in answer.headers
