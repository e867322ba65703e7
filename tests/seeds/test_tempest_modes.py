"""Coming from the tempest SDK: its five operating modes. Each docstring is a row of the table for its users."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jinja2 import DictLoader
from live_server import MailServer
from support import OTHER_PASSWORD, PASSWORD, Person, Program, Site
from tempest_replay import token_in
from tempest_sites import (
    AT_ONCE,
    DEV_LOCAL,
    FRONT_END,
    LINK_IN_BODY,
    LOCAL_FRONT_END,
    PRODUCTION,
    MakeSite,
    sdk_site,
)

import flask_accountflow
from flask_accountflow import ConfigError

EMAIL, KNOWN = "ana@example.com", "vic@example.com"
MAILS = Path(flask_accountflow.__file__).parent / "templates" / "accountflow" / "mail"


def mail_states(site: Site) -> set[tuple[str, str | None]]:
    """Return what became of all mails: their states, and why."""
    return {(row.state, row.last_error) for row in site.rows("mail")}


# A: the front end has the links.


def test_A_production_with_a_front_end(make_site: MakeSite) -> None:
    """Mode A: `ACCOUNTFLOW_VERIFY_URL` and `ACCOUNTFLOW_RESET_URL` lead to your front end, which posts the token; mails
    go by `MAIL_SERVER`. It runs as in production.
    """
    site = sdk_site(make_site, PRODUCTION, FRONT_END, {"MAIL_SERVER": "smtp.mailgun.org"})
    front_end = site.program()

    front_end.signup(EMAIL)
    assert str(site.letters[0].link).startswith("https://app.example.com/activate?token=")
    activated = front_end.post(f"/auth/activate/{token_in(str(site.letters[0].link))}")
    front_end.request_reset(email=EMAIL)
    assert str(site.letters[1].link).startswith("https://app.example.com/reset?token=")
    body = {"token": token_in(str(site.letters[1].link)), "new_password": OTHER_PASSWORD}
    reset = front_end.post("/auth/password-reset/confirm", body)

    assert [front_end.me(answer).status_code for answer in (activated, reset)] == [401, 200]


@pytest.mark.parametrize(("trusted", "status"), [([], 403), (["https://app.example.com"], 200)])
def test_A_a_front_end_on_another_origin(make_site: MakeSite, trusted: list[str], status: int) -> None:
    """Mode A: a front end on another origin posts when that is in `ACCOUNTFLOW_TRUSTED_ORIGINS`; for CORS headers use
    Flask-CORS, as with FastAPI's middleware.
    """
    site = sdk_site(make_site, FRONT_END, {"ACCOUNTFLOW_TRUSTED_ORIGINS": trusted})
    site.program().signup(EMAIL)
    token = token_in(str(site.letters[-1].link))

    answer = site.program().post(
        f"/auth/activate/{token}", origin="https://app.example.com", sec_fetch_site="cross-site"
    )

    assert answer.status_code == status


# B: a mail catcher on this computer.


@pytest.fixture
def catcher() -> Iterator[MailServer]:
    """A mail catcher: an SMTP server without a login."""
    with MailServer() as server:
        yield server


def test_B_a_local_mail_catcher(make_site: MakeSite, catcher: MailServer) -> None:
    """Mode B: as mode A, with `MAIL_SERVER="localhost"` and the `MAIL_PORT` of the catcher, without a login and without
    TLS; `MAIL_DEFAULT_SENDER` may be `dev@local`.
    """
    config = {
        **DEV_LOCAL,
        "MAIL_SERVER": "localhost",
        "MAIL_PORT": catcher.port,
        "MAIL_USERNAME": "",
        "MAIL_PASSWORD": "",
        "MAIL_DEFAULT_SENDER": "dev@local",
        "MAIL_SUPPRESS_SEND": False,
    }
    site = sdk_site(make_site, LOCAL_FRONT_END, config, transport=None)
    program = site.program()

    program.signup("dev@local")
    mail = catcher.wait_for("dev@local")
    assert mail.message["From"].addresses[0].addr_spec == "dev@local"
    assert set(mail.links) == {link for link in mail.html_links if "token=" in link}
    assert mail.links[0].startswith("http://localhost:5173/activate?token=")
    assert program.post(f"/auth/activate/{token_in(mail.links[0])}").status_code == 200

    program.request_reset(email="dev@local")
    link = catcher.wait_for("dev@local", "/reset?token=").links[0]
    body = {"token": token_in(link), "new_password": OTHER_PASSWORD}
    assert program.post("/auth/password-reset/confirm", body).status_code == 200
    assert mail_states(site) == {("sent", None)}


def test_B_a_catcher_that_is_down_changes_no_answer(make_site: MakeSite, catcher: MailServer) -> None:
    """Mode B: while the catcher is down sign-up answers as ever, and the mail arrives once it is up."""
    config = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": catcher.port, "MAIL_SUPPRESS_SEND": False}
    site = sdk_site(make_site, LOCAL_FRONT_END, config, transport=None)
    catcher.down()

    assert site.program().signup(EMAIL).status_code == 202
    catcher.up()
    site.clock.tick(600)
    site.app.extensions["accountflow_delivery"].deliver_due()

    assert catcher.wait_for(EMAIL).links


# C: the links stand in the answers.


def test_C_the_link_of_a_sign_up_is_in_its_answer(make_site: MakeSite) -> None:
    """Mode C: with `ACCOUNTFLOW_RETURN_TOKEN_IN_RESPONSE=True` sign-up is 201 with `user_id` and `activation_url`, made
    by `ACCOUNTFLOW_VERIFY_URL`.
    """
    site = sdk_site(make_site, LINK_IN_BODY)

    answer = site.program().signup(EMAIL)

    assert answer.status_code == 201
    assert answer.json["user_id"] == str(site.account(EMAIL).id)
    assert answer.json["activation_required"] is True
    assert (answer.json["access_token"], answer.json["refresh_token"]) == (None, None)
    assert answer.json["activation_url"].startswith("http://localhost:5173/activate?token=")
    assert site.program().post(f"/auth/activate/{token_in(answer.json['activation_url'])}").status_code == 200


def test_C_the_link_of_a_reset_is_in_its_answer(make_site: MakeSite) -> None:
    """Mode C: a reset request is 202 with `reset_url`, which is `null` for an address that nobody has."""
    site = sdk_site(make_site, LINK_IN_BODY)
    site.member(KNOWN)

    known, unknown = (site.program().request_reset(email=email) for email in (KNOWN, EMAIL))

    assert (known.status_code, unknown.status_code, unknown.json["reset_url"]) == (202, 202, None)
    body = {"token": token_in(known.json["reset_url"]), "new_password": OTHER_PASSWORD}
    assert site.program().post("/auth/password-reset/confirm", body).status_code == 200


@pytest.mark.parametrize("path", ["/auth/verify/resend", "/auth/activation/request"])
def test_C_the_link_of_another_activation_is_in_its_answer(make_site: MakeSite, path: str) -> None:
    """Mode C: asking for another activation link answers 202 with `activation_url`, which is `null` for an address that
    is confirmed or that nobody has.
    """
    site = sdk_site(make_site, LINK_IN_BODY)
    site.member(KNOWN)
    site.program().signup(EMAIL)

    waiting, *others = (site.program().post(path, {"email": email}) for email in (EMAIL, KNOWN, "una@example.com"))

    assert [answer.json["activation_url"] for answer in others] == [None, None]
    assert waiting.status_code == 202
    assert (
        site.program()
        .post(f"/auth/activate/{token_in(waiting.json['activation_url'])}", {"password": PASSWORD})
        .json["access_token"]
    )


@pytest.mark.parametrize("state", ["confirmed", "waiting"])
def test_C_a_known_address_gets_no_link(make_site: MakeSite, state: str) -> None:
    """Mode C: sign-up with an address that has an account, confirmed or not, is 202 with `null` for `user_id` and
    `activation_url`; its page shows no link.
    """
    site = sdk_site(make_site, LINK_IN_BODY)
    site.member(KNOWN, verified=state == "confirmed")
    person = site.person()

    answer, page = site.program().signup(KNOWN), person.follow(person.signup(KNOWN))

    assert answer.status_code == 202
    assert [answer.json[name] for name in ("user_id", "activation_url", "access_token")] == [None, None, None]
    assert link_on(page, "http://localhost:5173/") == []


def link_on(page: Any, start: str) -> list[str]:
    """Return the addresses on a page that begin like this."""
    return [word for word in page.text.replace("&amp;", "&").split('"') if word.startswith(start)]


def test_C_a_page_shows_the_link_once(make_site: MakeSite) -> None:
    """Mode C: in HTML the page after sign-up, resend and reset request shows the link, and no more when it is loaded
    again.
    """
    site = sdk_site(make_site, LINK_IN_BODY)
    site.member(KNOWN)
    person = site.person()

    for ask, start in [
        (lambda: person.signup(EMAIL), "http://localhost:5173/activate?token="),
        (lambda: person.resend(email=EMAIL), "http://localhost:5173/activate?token="),
        (lambda: person.request_reset(email=KNOWN), "http://localhost:5173/reset?token="),
    ]:
        sent = ask()
        page = person.follow(sent)
        assert len(link_on(page, start)) == 1
        assert "Development" in page.text
        assert link_on(person.follow(sent), "http://localhost:5173/") == []


def test_C_a_page_shows_no_link_of_another_address(make_site: MakeSite) -> None:
    """Mode C: the page for an address that gets no link shows none, also when an earlier page was never opened."""
    site = sdk_site(make_site, LINK_IN_BODY)
    site.member(KNOWN)
    person = site.person()

    person.signup(EMAIL)
    page = person.follow(person.signup(KNOWN))

    assert link_on(page, "http://localhost:5173/") == []


def broken_mails() -> DictLoader:
    """Return templates of an app that cannot be rendered, for every mail, by our names and the SDK's."""
    names = [path.name for path in MAILS.iterdir() if path.suffix in {".html", ".txt"}]
    return DictLoader(
        {f"accountflow/mail/{name}": "{{ 1 // 0 }}" for name in [*names, "activation.html", "password_reset.html"]}
    )


def use_everything(site: Site, kind: type[Program] | type[Person]) -> None:
    """Do all that causes mails otherwise."""
    site.member(KNOWN)
    for email in (EMAIL, KNOWN):
        kind(site).signup(email)
        kind(site).login(email, OTHER_PASSWORD)
        kind(site).resend(email=email)
        kind(site).request_reset(email=email)
    site.clock.tick(3600)
    site.app.extensions["accountflow_delivery"].deliver_due()


@pytest.mark.parametrize("kind", [Program, Person])
@pytest.mark.parametrize("mode", [LINK_IN_BODY, {**LINK_IN_BODY, **AT_ONCE}], ids=["C", "C and D"])
def test_C_no_mail_is_rendered_or_sent(
    make_site: MakeSite, mode: Mapping[str, Any], kind: type[Program] | type[Person]
) -> None:
    """Mode C: no mail is rendered and none is sent, whatever is asked for; templates that cannot be rendered disturb
    nobody.
    """
    site = sdk_site(make_site, mode)
    site.app.jinja_loader = broken_mails()

    use_everything(site, kind)

    assert site.letters == []
    assert {state for state, _ in mail_states(site)} == {"dropped"}
    assert all(row.to_addr is None and row.attempts == 0 for row in site.rows("mail"))


def test_C_the_notice_of_a_new_password_is_not_mailed(make_site: MakeSite) -> None:
    """Mode C: the notice about a changed password is not mailed either."""
    site = sdk_site(make_site, LINK_IN_BODY)
    site.app.jinja_loader = broken_mails()
    site.member(KNOWN)
    token = token_in(site.program().request_reset(email=KNOWN).json["reset_url"])

    site.program().post("/auth/password-reset/confirm", {"token": token, "new_password": OTHER_PASSWORD})

    assert site.letters == []
    assert mail_states(site) == {("dropped", "returned")}


def test_A_a_mail_that_cannot_be_rendered_is_noticed(make_site: MakeSite) -> None:
    """Mode A: a template that cannot be rendered changes no answer, and its mail waits to be tried again."""
    site = sdk_site(make_site, FRONT_END)
    site.app.jinja_loader = broken_mails()

    assert site.program().signup(EMAIL).status_code == 202

    assert site.letters == []
    assert [(row.state, row.attempts) for row in site.rows("mail")] == [("pending", 1)]


# D: there is no activation.


def test_D_a_sign_up_is_logged_in_at_once(make_site: MakeSite) -> None:
    """Mode D: with `ACCOUNTFLOW_AUTO_ACTIVATE=True` sign-up is 201 with the pair; in HTML the browser is logged in and
    sent to its home page.
    """
    site = sdk_site(make_site, AT_ONCE)
    program, person = site.program(), site.person()

    answer, sent = program.signup(EMAIL, name="Ana"), person.signup("bea@example.com")

    assert answer.status_code == 201
    assert answer.json["user_id"] == str(site.account(EMAIL).id)
    assert (answer.json["activation_required"], answer.json["activation_url"]) == (False, None)
    assert program.me(answer).json["email_verified"] is True
    assert program.post("/auth/refresh", {"refresh_token": answer.json["refresh_token"]}).status_code == 200
    assert person.follow(sent).text == "home of bea@example.com"
    assert site.account(EMAIL).name == "Ana"
    assert program.login(EMAIL).status_code == 200


def test_D_a_known_address_is_not_logged_in(make_site: MakeSite) -> None:
    """Mode D: sign-up with an address that has an account is 202 without a pair, and its password stays."""
    site = sdk_site(make_site, AT_ONCE)
    site.member(KNOWN)
    person = site.person()

    answer, sent = site.program().signup(KNOWN, OTHER_PASSWORD), person.signup(KNOWN, OTHER_PASSWORD)

    assert (answer.status_code, answer.json["access_token"], answer.json["user_id"]) == (202, None, None)
    assert sent.headers["Location"] == "/auth/signup/sent"
    assert person.me().status_code == 303
    assert site.program().login(KNOWN, OTHER_PASSWORD).status_code == 401
    assert site.program().login(KNOWN).status_code == 200


@pytest.mark.parametrize("kind", [Program, Person])
def test_D_a_sign_up_renders_no_mail(make_site: MakeSite, kind: type[Program] | type[Person]) -> None:
    """Mode D: sign-up renders and sends no mail, for a new address and for a known one."""
    site = sdk_site(make_site, AT_ONCE)
    site.app.jinja_loader = broken_mails()
    site.member(KNOWN)

    for email in (EMAIL, KNOWN):
        kind(site).signup(email)

    assert site.letters == []
    assert site.rows("mail") == []


def test_D_the_password_floor_holds(make_site: MakeSite) -> None:
    """Mode D: a password below the floor is refused as ever."""
    site = sdk_site(make_site, AT_ONCE)

    assert site.program().signup(EMAIL, "quiet-orbit").status_code == 422
    assert site.account(EMAIL) is None


@pytest.mark.parametrize("mode", [LINK_IN_BODY, AT_ONCE], ids=["C", "D"])
def test_C_and_D_are_refused_in_production(make_site: MakeSite, mode: Mapping[str, Any]) -> None:
    """Modes C and D are refused outside debug and testing, because they tell who has an account or let strangers in."""
    with pytest.raises(ConfigError, match="is for development") as caught:
        sdk_site(make_site, PRODUCTION, mode)

    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("mode", [LINK_IN_BODY, AT_ONCE], ids=["C", "D"])
def test_C_and_D_are_allowed_by_a_switch(make_site: MakeSite, mode: Mapping[str, Any]) -> None:
    """Modes C and D run anywhere with `ACCOUNTFLOW_ALLOW_INSECURE=True`."""
    site = sdk_site(make_site, PRODUCTION, mode, {"ACCOUNTFLOW_ALLOW_INSECURE": True})

    assert site.program().signup(EMAIL).status_code == 201
