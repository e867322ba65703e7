"""What people have complained about in account systems and only a browser or a worker can show, under its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import test_browser
from databases import database
from live_server import AppServer
from live_visitors import LivePerson, LiveProgram, ask_for_reset, join, sign_up, volley
from support import PASSWORD
from test_browser import LOOKS, OpenWindow, Window, playwright

from example_app import create_app
from example_app.models import db

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("live_engine", ["sqlite"], indirect=True)]

chromium = test_browser.chromium
email = test_browser.email
open_window = test_browser.open_window

SCRIPTS, PHONE = LOOKS[:2]


def _signs_up(window: Window, email: str, password: str = PASSWORD) -> None:
    window.go("/auth/signup")
    window.types(Email=email, Password=password)
    window.presses("Create account")
    window.sees("Check your email")


def _logs_in(window: Window, email: str, password: str = PASSWORD) -> None:
    window.sees("Log in")
    window.types(Email=email, Password=password)
    window.presses("Log in")


@pytest.mark.browser
def test_link_opens_on_other_device(live: AppServer, open_window: OpenWindow, email: str) -> None:
    """A link that is opened on a telephone confirms what was signed up on a desk, and tells how to go on."""
    desk, phone = open_window(SCRIPTS), open_window(PHONE)
    _signs_up(desk, email)

    phone.go(live.mail.link(email, "verify"))
    phone.sees("Confirm your email")
    phone.presses("Confirm email")

    phone.sees("Email confirmed")
    phone.follows("Log in")
    _logs_in(phone, email)
    phone.sees("Home")


@pytest.mark.browser
def test_original_tab_not_stuck(live: AppServer, open_window: OpenWindow, email: str) -> None:
    """The tab that says "check your email" leads on after a confirmation elsewhere, with the address filled in."""
    desk, phone = open_window(SCRIPTS), open_window(PHONE)
    desk.go("/secret")
    desk.follows("Create an account")
    desk.types(Email=email, Password=PASSWORD)
    desk.presses("Create account")
    desk.sees("Check your email")
    phone.go(live.mail.link(email, "verify"))
    phone.presses("Confirm email")
    phone.sees("Email confirmed")

    desk.follows("I've confirmed it – continue")

    desk.sees("Log in")
    playwright.expect(desk.page.get_by_label("Email", exact=True)).to_have_value(email)
    _logs_in(desk, email)
    desk.sees("For members")


@pytest.mark.browser
def test_password_manager_sees_username_on_reset(live: AppServer, open_window: OpenWindow, email: str) -> None:
    """The form for a new password names the account before it, for password managers, and shows that to nobody."""
    join(live, email)
    window = open_window(SCRIPTS)
    window.go(ask_for_reset(live, email))
    window.sees("Set a new password")

    fields = window.page.locator("form input").evaluate_all("all => all.map(one => [one.autocomplete, one.value])")

    assert fields == [["username", email], ["new-password", ""]]
    box = window.page.locator("[autocomplete=username]").evaluate("one => one.parentElement.getBoundingClientRect()")
    assert max(box["width"], box["height"]) <= 1


@pytest.mark.browser
def test_long_password_not_truncated(live: AppServer, open_window: OpenWindow, email: str) -> None:
    """A password of 200 signs that is pasted is taken as a whole: it logs in, and its beginning does not."""
    password = f"{'horses ' * 28}cart"
    window = open_window(SCRIPTS)
    window.go("/auth/signup")
    window.types(Email=password)
    window.page.get_by_label("Email", exact=True).press("Control+a")
    window.page.keyboard.press("Control+x")
    window.types(Email=email)
    window.page.get_by_label("Password", exact=True).press("Control+v")
    window.presses("Create account")
    window.sees("Check your email")
    window.go(live.mail.link(email, "verify"))
    window.presses("Confirm email")
    window.sees("Home")

    found = [LiveProgram(live).login(email, password[:length]).status_code for length in (20, 72, 128, 199, 200)]

    assert found == [401, 401, 401, 401, 200]


@pytest.mark.browser
def test_back_button_not_json(live: AppServer, open_window: OpenWindow, email: str) -> None:
    """After a script has fetched a page's address as JSON "Back" still shows the page."""
    join(live, email)
    window = open_window(SCRIPTS)
    window.go("/auth/login?next=/auth/me")
    _logs_in(window, email)
    window.sees("Your account")
    # Else Chromium would keep the whole page, and "Back" would not ask the cache.
    window.page.evaluate("addEventListener('unload', () => {})")
    window.go("/")
    window.sees("Home")

    fetched = window.page.evaluate(
        "async () => (await (await fetch('/auth/me', {headers: {Accept: 'application/json'}})).json()).email"
    )
    window.page.go_back(wait_until="commit")

    assert fetched == email
    window.sees("Your account")


@pytest.mark.browser
def test_double_click_signup_one_mail(live: AppServer, open_window: OpenWindow, email: str) -> None:
    """Who clicks twice to sign up sends one form, and gets one mail."""
    window = open_window(SCRIPTS)
    window.go("/auth/signup")
    window.types(Email=email, Password=PASSWORD)
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)  # else it would be answered before the second click

    window.page.route("**/auth/signup", hold)
    box = window.page.get_by_role("button", name="Create account").bounding_box()

    for _ in range(2):
        window.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        window.page.wait_for_timeout(150)
    for route in held:
        route.continue_()

    window.sees("Check your email")
    assert len(held) == 1
    _has_one_mail(live, email)


def test_double_click_signup_one_mail_without_scripts(live: AppServer, email: str) -> None:
    """A form that arrives twice at once signs up once: both answers lead on, and there is one account and one mail."""
    person = LivePerson(live)
    page = person.get("/auth/signup")

    def click(go: Callable[[], Any]) -> Any:
        go()
        return person.submit(page, email=email, password=PASSWORD)

    answers = volley([click, click])

    assert [(one.status_code, one.headers["Location"]) for one in answers] == [(303, "/auth/signup/sent")] * 2
    _has_one_mail(live, email)


def _has_one_mail(live: AppServer, email: str) -> None:
    live.mail.wait_for(email, "/auth/verify/")
    sign_up(live, f"later-{email}")  # whose mail comes after any other
    assert len(live.mail.mails(email)) == 1


@pytest.fixture
def own_engine(live_engine: sa.Engine, tmp_path: Path) -> Iterator[sa.Engine]:
    """A database of the same kind that no server delivers from."""
    with database(live_engine.dialect.name, tmp_path) as engine:
        yield engine


def test_mail_in_recipient_locale_from_worker(
    live: AppServer, own_engine: sa.Engine, email: str, tmp_path: Path
) -> None:
    """A worker writes to its recipient in the language that he signed up in, whoever asked in which language."""
    uri = own_engine.url.render_as_string(hide_password=False)
    languages = ["en", "de", "fr"]
    site = AppServer(uri, live.mail, tmp_path, ACCOUNTFLOW_LANGUAGES=languages, ACCOUNTFLOW_MAIL_KICK="worker")
    site.flask("db", "upgrade")
    app = create_app(site.settings)
    asks = [("/auth/signup", "de-CH, en;q=0.5", "verify"), ("/auth/password-reset/request", "fr", "password-reset")]
    found = []

    for path, language, kind in asks:
        body = {"email": email, "password": PASSWORD}
        answer = app.test_client().post(path, json=body, headers={**LiveProgram.headers, "Accept-Language": language})
        assert answer.status_code == 202
        site.flask("accountflow", "deliver")
        mail = live.mail.wait_for(email, f"/auth/{kind}/").message
        found.append((mail["Content-Language"], "Passwort" in mail["Subject"], "Bestätigen" in mail["Subject"]))
    with app.app_context():
        db.engine.dispose()

    assert found == [("de", False, True), ("de", True, False)]
