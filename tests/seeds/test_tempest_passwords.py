"""Coming from the tempest SDK: its password floor, and when a login is noted. Each docstring is a row of the table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from support import OTHER_PASSWORD, START, NameForm, Site
from tempest_replay import token_in
from tempest_sites import AT_ONCE, FRONT_END, MakeSite, sdk_site

from flask_accountflow.errors import Refusal
from flask_accountflow.flows import reset, signup
from flask_accountflow.forms import ResetForm, from_json
from flask_accountflow.web.visits import form_meta

EMAIL = "ana@example.com"


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    """A site for clients of the SDK, with a front end of its own."""
    return sdk_site(make_site, FRONT_END)


def last_login(site: Site, email: str = EMAIL) -> Any:
    """Return when an account was last logged in."""
    moment = site.account(email).last_login_at
    return None if moment is None else moment.replace(tzinfo=START.tzinfo)


def reset_token(site: Site, email: str = EMAIL) -> str:
    """Ask for a reset, and return the token that was mailed."""
    site.program().request_reset(email=email)
    return token_in(str(site.letters[-1].link))


def logging_in(site: Site) -> None:
    """Log in with the password."""
    site.member(EMAIL)
    site.clock.tick(60)
    site.program().login(EMAIL)


def activating(site: Site) -> None:
    """Confirm the address, which also logs in."""
    site.program().signup(EMAIL)
    site.clock.tick(60)
    site.program().post(f"/auth/activate/{token_in(str(site.letters[-1].link))}")


def resetting(site: Site) -> None:
    """Set a new password, which also logs in."""
    site.member(EMAIL)
    token = reset_token(site)
    site.clock.tick(60)
    site.program().post("/auth/password-reset/confirm", {"token": token, "new_password": OTHER_PASSWORD})


@pytest.mark.parametrize("way", [logging_in, activating, resetting])
def test_every_login_is_noted(site: Site, way: Callable[[Site], None]) -> None:
    """`last_login_at` of your user model is set by every way in: login, activation and reset, while the SDK sets it by
    login only.
    """
    way(site)

    assert last_login(site) == START + timedelta(seconds=60)


def test_no_login_is_noted_for_who_did_not_get_in(site: Site) -> None:
    """`last_login_at` stays as it is when a login is refused, and when a sign-up waits for its confirmation."""
    site.program().signup(EMAIL)
    site.member("vic@example.com")

    site.program().login("vic@example.com", OTHER_PASSWORD)

    assert last_login(site) is None
    assert last_login(site, "vic@example.com") is None


def test_an_automatic_activation_is_noted_as_a_login(make_site: MakeSite) -> None:
    """`last_login_at` is set by a sign-up that is activated at once."""
    site = sdk_site(make_site, AT_ONCE)

    site.program().signup(EMAIL)

    assert last_login(site) == START


@pytest.mark.parametrize(("password", "is_long_enough"), [("vivid-orbits-15", False), ("vivid-orbits-016", True)])
def test_the_password_floor_is_in_the_form(make_site: MakeSite, password: str, is_long_enough: bool) -> None:
    """`ACCOUNTFLOW_PASSWORD_MIN_LENGTH` holds for sign-up and reset, and a shorter password is 422 `too_short`."""
    site = sdk_site(make_site, {"ACCOUNTFLOW_PASSWORD_MIN_LENGTH": 16})
    site.member("vic@example.com", "vivid-orbits-of-old")
    program, token = site.program(), reset_token(site, "vic@example.com")

    answers = [
        program.signup(EMAIL, password),
        program.post("/auth/password-reset/confirm", {"token": token, "new_password": password}),
    ]

    assert [answer.status_code for answer in answers] == ([202, 200] if is_long_enough else [422, 422])
    if not is_long_enough:
        faults = [(fault["code"], fault["params"]) for answer in answers for fault in answer.json["errors"]]
        assert faults == [("too_short", {"min": 16})] * 2


def test_the_form_is_looked_at_first(make_site: MakeSite) -> None:
    """A password that is too short is 422 before anybody looks at the token that is sent with it."""
    site = sdk_site(make_site)

    answer = site.program().post("/auth/password-reset/confirm", {"token": "abc", "new_password": "quiet-orbit"})

    assert (answer.status_code, [fault["code"] for fault in answer.json["errors"]]) == (422, ["too_short"])


def test_the_password_floor_is_in_the_page(make_site: MakeSite) -> None:
    """The pages refuse a password below the floor, and say how long it must be."""
    site = sdk_site(make_site, {"ACCOUNTFLOW_PASSWORD_MIN_LENGTH": 16})
    site.member("vic@example.com", "vivid-orbits-of-old")
    token, person = reset_token(site, "vic@example.com"), site.person()

    pages = [person.signup(EMAIL, "vivid-orbits-15"), person.reset(f"/auth/password-reset/{token}", "vivid-orbits-15")]

    assert [page.status_code for page in pages] == [422, 422]
    assert all("Use at least 16 characters." in page.text for page in pages)


def test_the_password_floor_is_in_the_service_again(make_site: MakeSite) -> None:
    """The service refuses a password below the floor even where nobody checked the form, and the link stays good."""
    site = sdk_site(make_site, {"ACCOUNTFLOW_PASSWORD_MIN_LENGTH": 16})
    site.member("vic@example.com", "vivid-orbits-of-old")
    token = reset_token(site, "vic@example.com")
    with site.app.app_context():
        services = site.app.extensions["accountflow"]
        meta = form_meta(services)
        unchecked = from_json(NameForm, {"email": EMAIL, "password": "vivid-orbits-15"}, meta)
        unchecked.email.pre_validate(unchecked)
        with pytest.raises(Refusal, match="attention") as at_signup:
            signup.run(services, unchecked)
        with pytest.raises(Refusal, match="attention") as at_reset:
            reset.run(services, from_json(ResetForm, {"token": token, "password": "vivid-orbits-15"}, meta))

    assert [refusal.value.fields[0].code for refusal in (at_signup, at_reset)] == ["too_short"] * 2
    assert site.account(EMAIL) is None
    assert (
        site.program()
        .post("/auth/password-reset/confirm", {"token": token, "new_password": "vivid-orbits-016"})
        .json["access_token"]
    )
