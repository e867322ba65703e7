"""A real Chromium: people with and without JavaScript, by day and by night, on phones and on desks.

With ``ACCOUNTFLOW_TEST_SCREENSHOTS`` set, a picture of every page is saved in that folder.
"""

from __future__ import annotations

import importlib
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from live_server import AppServer
from live_visitors import LiveProgram, join
from support import OTHER_PASSWORD, PASSWORD

playwright: Any = None
with suppress(ImportError):  # there are no wheels for some systems
    playwright = importlib.import_module("playwright.sync_api")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.parametrize("live_engine", ["sqlite"], indirect=True),
]

_ARGUMENTS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)


class Look(NamedTuple):
    """How somebody reads pages."""

    scripts: bool
    scheme: str
    width: int

    def __str__(self) -> str:
        return f"{'scripts' if self.scripts else 'plain'}-{self.scheme}-{self.width}"


#: Each value of each kind, with each value of each other kind.
LOOKS = (
    Look(scripts=True, scheme="light", width=1280),
    Look(scripts=True, scheme="dark", width=320),
    Look(scripts=False, scheme="light", width=320),
    Look(scripts=False, scheme="dark", width=1280),
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A Chromium of the system. Playwright's own is not looked for: it would have to be downloaded."""
    path = os.environ.get("ACCOUNTFLOW_TEST_CHROMIUM", "/usr/bin/chromium")
    if playwright is None or not Path(path).exists():
        lacking = f"no Chromium at {path}; ACCOUNTFLOW_TEST_CHROMIUM names another" if playwright else "no playwright"
        if "chromium" in os.environ.get("ACCOUNTFLOW_TEST_REQUIRE", ""):
            pytest.fail(f"chromium is required, and there is {lacking}")
        pytest.skip(f"there is {lacking}")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=path,
            args=list(_ARGUMENTS),
            # People have this cache, and it is what "Back" shows after a logout.
            ignore_default_args=["--disable-back-forward-cache"],
        )
        yield browser
        browser.close()


class Window:
    """A browser window of somebody who looks at every page, and at the console."""

    def __init__(self, chromium: Any, server: AppServer, look: Look, story: str) -> None:
        self._server = server
        self._story = story
        self._look = look
        self.context = chromium.new_context(
            java_script_enabled=look.scripts,
            color_scheme=look.scheme,
            viewport={"width": look.width, "height": 800},
        )
        self.context.set_default_timeout(10_000)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url}"))
        self._pictures = 0

    def _note(self, message: Any) -> None:
        # Chromium mentions every page with a status of 4xx; these are meant.
        if "Failed to load resource" not in message.text or message.location["url"] != self.page.url:
            self.complaints.append(message.text)

    def go(self, address: str) -> None:
        """Open an address of the server."""
        self.page.goto(f"{self._server.base_url}{address}" if address.startswith("/") else address)

    def sees(self, heading: str) -> None:
        """Check that this is the page with that heading, that it fits into the window, and take a picture."""
        playwright.expect(self.page.get_by_role("heading", level=1)).to_have_text(heading)
        self.page.wait_for_load_state("load")  # with its style sheet, which says how wide it is
        assert self.page.evaluate("document.documentElement.scrollWidth") <= self._look.width
        folder = os.environ.get("ACCOUNTFLOW_TEST_SCREENSHOTS")
        if folder:
            self._pictures += 1
            name = "".join(sign for sign in heading.lower().replace(" ", "-") if sign.isalnum() or sign == "-")
            file = f"{self._story}-{self._look}-{self._pictures:02d}-{name}.png"
            self.page.screenshot(path=Path(folder) / file, full_page=True)

    def types(self, **values: str) -> None:
        """Fill in fields by their labels."""
        for label, value in values.items():
            self.page.get_by_label(label.replace("_", " "), exact=True).fill(value)

    def presses(self, button: str) -> None:
        """Press a button."""
        self.page.get_by_role("button", name=button, exact=True).click()

    def follows(self, link: str) -> None:
        """Follow a link."""
        self.page.get_by_role("link", name=link, exact=True).click()

    def is_told(self, *messages: str) -> None:
        """Check that what was wrong is named in a summary, which has the focus."""
        summary = self.page.get_by_role("alert")
        for message in messages:
            playwright.expect(summary).to_contain_text(message)
        playwright.expect(summary).to_be_focused()
        assert self.page.title().startswith("Error: ")

    @property
    def text(self) -> str:
        """The text of the page, and what its fields hold."""
        return str(self.page.content())


OpenWindow = Callable[[Look], Window]


@pytest.fixture
def open_window(chromium: Any, live: AppServer, request: pytest.FixtureRequest) -> Iterator[OpenWindow]:
    """Return a function that opens windows. None of them may have had anything to complain about."""
    opened: list[Window] = []

    def open_one(look: Look) -> Window:
        story = str(request.node.originalname).removeprefix("test_")
        opened.append(Window(chromium, live, look, f"{story}-{len(opened) + 1}"))
        return opened[-1]

    yield open_one
    for window in opened:
        window.context.close()
    assert [window.complaints for window in opened if window.complaints] == []


@pytest.fixture
def email() -> str:
    """An address that nobody has."""
    return f"ada-{uuid.uuid4().hex[:12]}@example.com"


def _sign_up(window: Window, email: str) -> None:
    window.go("/auth/signup")
    window.sees("Create your account")
    window.types(Email=email, Password=PASSWORD)
    window.presses("Create account")
    window.sees("Check your email")


def _log_in(window: Window, email: str, password: str) -> None:
    window.types(Email=email, Password=password)
    window.presses("Log in")


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_a_person_clicks_the_whole_way(live: AppServer, open_window: OpenWindow, email: str, look: Look) -> None:
    """Everybody can sign up, confirm, log in, log out, and come back after forgetting the password."""
    window = open_window(look)

    _joins(window, live, email)
    _looks_around(window, email)
    _comes_back(window, live, email)


def _joins(window: Window, live: AppServer, email: str) -> None:
    window.go("/")
    window.sees("Home")
    window.follows("Create an account")
    window.sees("Create your account")
    window.presses("Create account")
    window.is_told("Enter your email.", "Enter a password.")
    window.sees("Create your account")
    window.types(Email=email, Password=PASSWORD)
    window.presses("Create account")
    window.sees("Check your email")
    assert email in window.text
    window.go(live.mail.link(email, "verify"))
    window.sees("Confirm your email")
    window.presses("Confirm email")


def _looks_around(window: Window, email: str) -> None:
    window.sees("Home")
    assert f"Hello {email}" in window.text
    window.follows("The members' page")
    window.sees("For members")
    window.go("/auth/me")
    window.sees("Your account")
    window.presses("Log out")
    window.sees("Log in")


def _comes_back(window: Window, live: AppServer, email: str) -> None:
    _log_in(window, email, OTHER_PASSWORD)
    window.is_told("Email or password isn't right.")
    window.sees("Log in")
    window.follows("Forgot your password?")
    window.sees("Reset your password")
    window.types(Email=email)
    window.presses("Email me a link")
    window.sees("Check your email")
    window.go(live.mail.link(email, "password-reset"))
    window.sees("Set a new password")
    window.types(New_password="short")
    window.presses("Set new password")
    window.is_told("Use at least 12 characters.")
    window.sees("Set a new password")
    assert "This link works once, until" in window.text
    window.types(New_password=OTHER_PASSWORD)
    window.presses("Set new password")
    window.sees("Password changed")
    window.follows("Log in")
    window.sees("Log in")
    _log_in(window, email, OTHER_PASSWORD)
    window.sees("Home")
    window.follows("Log out")
    window.sees("Log out")
    window.presses("Log out")
    window.sees("Log in")


@pytest.mark.parametrize("look", LOOKS[1:2], ids=str)
def test_every_dead_link_leads_on(live: AppServer, open_window: OpenWindow, email: str, look: Look) -> None:
    """A link that is no longer needed, was used, or was cut off says so, and offers what to do next."""
    window = open_window(look)
    _sign_up(window, email)
    verify = live.mail.link(email, "verify")
    window.go(verify)
    window.presses("Confirm email")
    window.sees("Home")
    window.go("/auth/password-reset/request")
    window.types(Email=email)
    window.presses("Email me a link")
    reset = live.mail.link(email, "password-reset")
    window.go(reset)
    window.types(New_password=OTHER_PASSWORD)
    window.presses("Set new password")
    window.sees("Password changed")

    window.go(verify)
    window.sees("Your email is already confirmed")
    window.go(reset)
    window.sees("This link has been used")
    window.go(reset[:-10])
    window.sees("This link doesn't work")
    window.presses("Email me a new link")
    window.is_told("Enter your email.")
    window.sees("Reset your password")
    window.types(Email=email)
    window.presses("Email me a link")
    window.sees("Check your email")
    window.go("/auth/nowhere")
    window.sees("There is no such page")


@pytest.mark.parametrize("look", LOOKS[1:2], ids=str)
def test_competing_signups_ask_for_a_password(live: AppServer, open_window: OpenWindow, email: str, look: Look) -> None:
    """Where two sign-ups compete, a third browser chooses the password; refused, it still reads for whom."""
    _sign_up(open_window(look), email)
    _sign_up(open_window(look), email)
    window = open_window(look)
    window.go(live.mail.link(email, "verify"))
    window.sees("Confirm your email")
    before = window.page.locator(".af-text").all_text_contents()

    window.presses("Confirm email")

    window.is_told("Choose your password.")
    window.sees("Confirm your email")
    assert window.page.locator(".af-text").all_text_contents() == before
    window.types(Choose_your_password=OTHER_PASSWORD)
    window.presses("Confirm email")
    window.sees("Email confirmed")
    window.follows("Log in")
    _log_in(window, email, OTHER_PASSWORD)
    window.sees("Home")


@pytest.mark.parametrize("look", LOOKS[:2], ids=str)
def test_a_password_can_be_shown(open_window: OpenWindow, look: Look) -> None:
    """A button shows the password and hides it again; what is sent is a password field."""
    window = open_window(look)
    window.go("/auth/signup")
    window.types(Password=PASSWORD)
    field = window.page.get_by_label("Password", exact=True)

    window.presses("Show password")
    playwright.expect(field).to_have_attribute("type", "text")
    window.sees("Create your account")
    window.presses("Hide password")

    playwright.expect(field).to_have_attribute("type", "password")
    playwright.expect(field).to_have_value(PASSWORD)


def test_without_scripts_no_button_does_nothing(open_window: OpenWindow) -> None:
    """Without JavaScript there is no button for showing the password."""
    window = open_window(LOOKS[2])

    window.go("/auth/signup")

    playwright.expect(window.page.locator(".af-reveal")).to_have_count(1)
    playwright.expect(window.page.locator(".af-reveal")).to_be_hidden()


@pytest.mark.parametrize("look", LOOKS[:1], ids=str)
def test_a_double_click_is_one(live: AppServer, open_window: OpenWindow, email: str, look: Look) -> None:
    """Who clicks twice is not logged out by the second click, which would show the login that the first one ended."""
    join(live, email)
    window = open_window(look)
    window.go("/auth/login")
    _log_in(window, email, PASSWORD)
    window.sees("Home")
    window.go("/auth/login/fresh?next=/secret")
    window.types(Password=PASSWORD)
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)  # the server hashes; here it would be done before the second click

    window.page.route("**/auth/login/fresh", hold)
    box = window.page.get_by_role("button", name="Continue").bounding_box()

    for _ in range(2):
        window.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        window.page.wait_for_timeout(150)

    assert len(held) == 1
    held[0].continue_()
    window.sees("For members")
    window.go("/auth/me")
    window.sees("Your account")


IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1.1 "
    "Mobile/15E148 Safari/604.1"
)


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_SES_14_a_person_ends_other_logins(live: AppServer, open_window: OpenWindow, email: str, look: Look) -> None:
    """Everybody sees where he is logged in, ends one login and all others, and can log out on all devices."""
    join(live, email)
    for agent in ("curl/8.5.0", IPHONE, f"{'LongNamedProgramOfSomebody' * 9}/1"):
        answer = LiveProgram(live).post("/auth/login", {"email": email, "password": PASSWORD}, user_agent=agent)
        assert answer.status_code == 200
    window = open_window(look)
    window.go("/auth/login?next=/auth/me")
    _log_in(window, email, PASSWORD)
    window.sees("Your account")
    devices = window.page.get_by_role("listitem")
    playwright.expect(devices).to_have_count(4)
    playwright.expect(devices.first).to_contain_text("Chrome on Linux (this one)")
    for button in window.page.get_by_role("button", name=re.compile("^End the login on")).all():
        # One line of text, and wide enough for a thumb, beside the longest name.
        box = button.bounding_box()
        assert (box["height"] < 50, box["width"] >= 44) == (True, True)

    window.presses("End the login on Safari on iPhone")
    window.sees("Your account")
    playwright.expect(devices).to_have_count(3)
    assert "iPhone" not in window.text
    window.presses("Log out everywhere else")
    window.sees("Your account")
    playwright.expect(devices).to_have_count(1)
    window.go("/auth/logout")
    window.sees("Log out")
    window.presses("Log out on all devices")
    window.sees("Log in")


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_a_person_types_the_password_again(live: AppServer, open_window: OpenWindow, email: str, look: Look) -> None:
    """Everybody can show again who he is, after a wrong password, too, and comes where he wanted to go."""
    join(live, email)
    window = open_window(look)
    window.go("/auth/login")
    _log_in(window, email, PASSWORD)
    window.sees("Home")
    window.go("/auth/login/fresh?next=/secret")
    window.sees("Enter your password again")
    assert email in window.text

    window.presses("Continue")
    window.is_told("Enter your password.")
    window.types(Password=OTHER_PASSWORD)
    window.presses("Continue")
    window.is_told("This password isn't right.")
    window.sees("Enter your password again")
    window.types(Password=PASSWORD)
    window.presses("Continue")

    window.sees("For members")


@pytest.mark.parametrize("look", LOOKS[:1], ids=str)
def test_SES_13_back_after_logout(live: AppServer, open_window: OpenWindow, email: str, look: Look) -> None:
    """After a logout the "Back" button shows nothing private."""
    window = open_window(look)
    _sign_up(window, email)
    window.go(live.mail.link(email, "verify"))
    window.presses("Confirm email")
    window.sees("Home")
    window.follows("The members' page")
    window.sees("For members")
    window.go("/auth/me")
    window.sees("Your account")
    window.presses("Log out")
    window.sees("Log in")

    shown = []
    for _ in range(4):
        # A page from the cache of "Back" is there at once and is not loaded.
        window.page.go_back(wait_until="commit")
        playwright.expect(window.page.get_by_role("heading", level=1)).to_be_visible()
        shown += [window.page.url] if email in window.text else []

    assert shown == []


def test_VER_10_confirming_elsewhere_logs_nobody_in(live: AppServer, open_window: OpenWindow, email: str) -> None:
    """A link that is opened in another browser confirms the address, logs nobody in there and offers to log in."""
    desk, phone = open_window(LOOKS[0]), open_window(LOOKS[1])
    _sign_up(desk, email)

    phone.go(live.mail.link(email, "verify"))
    phone.sees("Confirm your email")
    phone.presses("Confirm email")

    phone.sees("Email confirmed")
    assert email in phone.text
    phone.go("/secret")
    phone.sees("Log in")
    phone.go("/auth/verify/done?status=verified")
    phone.follows("Log in")
    phone.sees("Log in")
    _log_in(phone, email, PASSWORD)
    phone.sees("Home")
    desk.follows("I've confirmed it – continue")
    desk.sees("Log in")
    _log_in(desk, email, PASSWORD)
    desk.sees("Home")
