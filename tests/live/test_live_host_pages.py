"""A site's own layout, style sheet and policy around our pages, as a real Chromium shows them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import test_browser
from flask import Response, g
from jinja2 import DictLoader
from support import OTHER_PASSWORD, PASSWORD, Site
from werkzeug.serving import make_server

pytestmark = [pytest.mark.browser, pytest.mark.slow]

chromium = test_browser.chromium

EMAIL = "ada@example.com"
DOCS = Path(__file__).parents[2] / "docs/pages.md"

#: As of a framework: a reset, rules for bare elements, and components.
SITE_CSS = """
*, *::before, *::after { box-sizing: border-box; }
body { margin: 0; font-family: serif; font-size: 1rem; line-height: 1.5; color: #212529; background: #fff; }
h1 { font-size: 2.5rem; font-weight: 500; margin: 0 0 .5rem; }
p { margin: 0 0 1rem; }
a { color: #0d6efd; }
button { border-radius: 0; }
.navbar { display: flex; gap: 1rem; padding: .5rem 1rem; background: #e9ecef; }
.nav-link { padding: .5rem; text-decoration: none; }
.container { max-width: 60rem; margin: 0 auto; padding: 3rem 1rem; }
.mt-auto { padding: 1rem; color: #6c757d; }
"""
LAYOUT = """<!doctype html>
<html lang="{{ lang }}">
<head>
<title>{% block title %}Shop{% endblock %}</title>
{% block head %}<link rel="icon" href="data:,"><link rel="stylesheet" href="/site.css">{% endblock %}
</head>
<body>
<header class="navbar"><a class="nav-link" href="/">Shop</a>
<form action="/search"><label>Search <input name="q"></label><button class="go">Go</button></form></header>
<main class="container">{% block content %}{% endblock %}</main>
<footer class="mt-auto">Made in <a href="/kiel">Kiel</a></footer>
{% block scripts %}{% endblock %}
</body>
</html>
"""
INTRO = '{% extends "accountflow/default/signup.html" %}{% block intro %}<p class="af-text">Welcome.</p>{% endblock %}'

Serve = Callable[[Site], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that serves a site on a loopback port, and returns its address."""
    servers: list[Any] = []

    def start(site: Site) -> str:
        server = make_server("127.0.0.1", 0, site.app, threaded=True)
        servers.append(server)
        Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def style(site: Site, sheet: str) -> None:
    """Let a site serve a style sheet."""
    site.app.add_url_rule("/site.css", "site_css", lambda: Response(sheet, mimetype="text/css"))


@pytest.fixture
def shop(make_site: Callable[..., Site]) -> Site:
    """A site with a layout of its own, framed as documented, and one block of one page changed."""
    site = make_site()
    style(site, SITE_CSS)
    (frame,) = re.findall(r"```jinja\n(\{# \S+ #\}\n\{% extends \"layout.html\".*?)```", DOCS.read_text(), re.S)
    site.app.jinja_loader = DictLoader(
        {"layout.html": LAYOUT, "accountflow/base.html": frame, "accountflow/signup.html": INTRO}
    )
    return site


class Tab:
    """A tab of somebody who looks at the console."""

    def __init__(self, chromium: Any, address: str, **look: Any) -> None:
        self.context = chromium.new_context(**look)
        self.context.set_default_timeout(10_000)
        self.page = self.context.new_page()
        self.address = address
        self.complaints: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, message: Any) -> None:
        # Chromium mentions every page with a status of 4xx; these are meant.
        if "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def go(self, path: str) -> None:
        """Open a page of the site."""
        self.page.goto(self.address + path)

    def fill(self, button: str, **values: str) -> None:
        """Fill in fields by their names, and press a button."""
        for name, value in values.items():
            self.page.locator(f"form[method=post] [name={name}]").fill(value)
        self.page.get_by_role("button", name=button, exact=True).click()

    def sees(self, heading: str) -> None:
        """Check which page this is."""
        test_browser.playwright.expect(self.page.get_by_role("heading", level=1)).to_have_text(heading)

    def style(self, selector: str, name: str) -> str:
        """Return how Chromium draws an element."""
        script = "([selector, name]) => getComputedStyle(document.querySelector(selector))[name]"
        return str(self.page.evaluate(script, [selector, name]))


OpenTab = Callable[..., Tab]


@pytest.fixture
def open_tab(chromium: Any) -> Iterator[OpenTab]:
    """Return a function that opens tabs. None of them may have had anything to complain about."""
    opened: list[Tab] = []

    def open_one(address: str, **look: Any) -> Tab:
        opened.append(Tab(chromium, address, **look))
        return opened[-1]

    yield open_one
    for tab in opened:
        tab.context.close()
    assert [tab.complaints for tab in opened if tab.complaints] == []


def drawn(tab: Tab) -> dict[str, str]:
    """Return how all around our page is drawn: each property, but custom ones and how large the page makes it."""
    found: dict[str, str] = tab.page.evaluate(
        """() => Object.fromEntries(
            [...document.querySelectorAll("body, header, header *, footer, footer *")].flatMap((one, number) =>
                [...getComputedStyle(one)].map((name) => [`${number} ${name}`, getComputedStyle(one)[name]])))"""
    )
    left_out = re.compile(r"\d+ --|0 (block-size|height|perspective-origin|transform-origin)")
    return {name: value for name, value in found.items() if not left_out.match(name)}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_person_clicks_the_whole_way_in_a_layout(shop: Site, serve: Serve, open_tab: OpenTab, scheme: str) -> None:
    """In a site's own layout a person can sign up, confirm, log out, log in and come back without the password."""
    tab = open_tab(serve(shop), color_scheme=scheme)

    tab.go("/auth/signup")
    test_browser.playwright.expect(tab.page.get_by_text("Welcome.")).to_be_visible()
    tab.fill("Create account", email=EMAIL, password="short")
    test_browser.playwright.expect(tab.page.get_by_role("alert")).to_be_focused()
    tab.fill("Create account", email=EMAIL, password=PASSWORD)
    tab.sees("Check your email")
    tab.go(shop.last_link)
    tab.fill("Confirm email")
    tab.go("/auth/me")
    tab.sees("Your account")
    tab.fill("Log out")
    tab.sees("Log in")
    tab.page.get_by_role("link", name="Forgot your password?").click()
    tab.fill("Email me a link", email=EMAIL)
    tab.go(shop.last_link)
    tab.fill("Set new password", password=OTHER_PASSWORD)
    tab.go("/auth/login")
    tab.fill("Log in", email=EMAIL, password=OTHER_PASSWORD)
    tab.go("/auth/me")
    tab.sees("Your account")
    test_browser.playwright.expect(tab.page.get_by_role("contentinfo")).to_have_text("Made in Kiel")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_of_ours_reaches_the_layout(shop: Site, serve: Serve, open_tab: OpenTab, scheme: str) -> None:
    """The header, menu and footer of a site are drawn the same to the last property without our style sheet."""
    tab = open_tab(serve(shop), color_scheme=scheme)
    tab.go("/auth/login")
    with_ours = drawn(tab)

    tab.page.evaluate("document.querySelector('link[href*=accountflow]').remove()")

    assert len(with_ours) > 1000
    assert set(drawn(tab).items()) ^ set(with_ours.items()) == set()


def test_our_script_leaves_the_forms_of_a_site_alone(shop: Site, serve: Serve, open_tab: OpenTab) -> None:
    """A form in a site's layout may be sent twice at once; one of ours is sent once."""
    tab = open_tab(serve(shop))
    tab.go("/auth/login")

    sent = tab.page.evaluate(
        """() => [...document.forms].map((form) => [1, 2].map(() => {
            let prevented = null;
            const note = (event) => { prevented = event.defaultPrevented; event.preventDefault(); };
            addEventListener("submit", note, {once: true});
            form.requestSubmit();
            return prevented;
        }))"""
    )

    assert sent == [[False, False], [False, True]]


#: What a site sets, and how Chromium then draws it.
BRAND = """
:root { --af-accent: rgb(1, 2, 3); --af-surface: rgb(4, 5, 6); --af-radius: 7px; }
h1 { letter-spacing: 3px; }
.af-input { border-color: rgb(8, 9, 10); }
"""
BRANDED = [
    (".af-primary", "backgroundColor", "rgb(1, 2, 3)"),
    (".af-main", "backgroundColor", "rgb(4, 5, 6)"),
    (".af-main", "borderTopLeftRadius", "7px"),
    (".af-heading", "letterSpacing", "3px"),
    ("#email", "borderTopColor", "rgb(8, 9, 10)"),
]


@pytest.mark.parametrize("forced", ["", "light", "dark"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_any_rule_of_a_site_wins(
    make_site: Callable[..., Site], serve: Serve, open_tab: OpenTab, scheme: str, forced: str
) -> None:
    """Custom properties and plain rules of a site win by day and by night; what it leaves is of the scheme."""
    site = make_site({"ACCOUNTFLOW_STYLESHEETS": ["/site.css"]})
    style(site, BRAND)
    theme = f'data-af-theme="{forced}"' if forced else ""
    site.app.jinja_loader = DictLoader(
        {
            "accountflow/base.html": '{% extends "accountflow/default/base.html" %}'
            f"{{% block html_attributes %}}{theme}{{% endblock %}}"
        }
    )
    tab = open_tab(serve(site), color_scheme=scheme)

    tab.go("/auth/login")

    assert [tab.style(selector, name) for selector, name, _ in BRANDED] == [value for _, _, value in BRANDED]
    is_dark = (forced or scheme) == "dark"
    assert tab.style("body", "backgroundColor") == ("rgb(15, 18, 22)" if is_dark else "rgb(246, 247, 249)")
    assert tab.style("html", "colorScheme") == ("dark" if is_dark else "light")


def test_a_policy_of_a_site_with_a_nonce(make_site: Callable[..., Site], serve: Serve, open_tab: OpenTab) -> None:
    """Under a policy that asks for a nonce a site's inline script runs in our page, and so does ours."""
    site = make_site()
    site.app.jinja_loader = DictLoader(
        {
            "accountflow/base.html": '{% extends "accountflow/default/base.html" %}{% block scripts %}{{ super() }}'
            '<script nonce="{{ nonce }}">document.title = "Inline"</script>{% endblock %}'
        }
    )

    @site.app.before_request
    def draw() -> None:
        g.csp_nonce = f"n{id(g._get_current_object())}"

    @site.app.after_request
    def send(response: Response) -> Response:
        policy = f"default-src 'none'; img-src data:; style-src 'nonce-{g.csp_nonce}'; "
        policy += f"script-src 'nonce-{g.csp_nonce}' 'strict-dynamic'; form-action 'self'; base-uri 'none'"
        response.headers["Content-Security-Policy"] = policy
        return response

    tab = open_tab(serve(site))

    tab.go("/auth/login")

    assert tab.page.title() == "Inline"
    test_browser.playwright.expect(tab.page.get_by_role("button", name="Show password")).to_be_visible()
    assert tab.style(".af-main", "borderTopWidth") == "1px"


def test_back_button_not_json(make_site: Callable[..., Site], serve: Serve, open_tab: OpenTab) -> None:
    """After a script has fetched the same address as JSON, "Back" shows the page, and a reload does, too."""
    site = make_site()
    tab = open_tab(serve(site), bypass_csp=True)  # our own policy lets a script fetch nothing
    tab.go("/auth/login")
    # Such a page is not kept as it is, so that "Back" has to look in the cache.
    tab.page.evaluate("addEventListener('unload', () => {})")

    fetched = tab.page.evaluate(
        """async () => {
            const answer = await fetch(location.href, {headers: {Accept: "application/json"}});
            return [answer.headers.get("Content-Type"), (await answer.json()).fields.length];
        }"""
    )
    tab.go("/auth/signup")
    tab.page.go_back()

    assert fetched[0] == "application/json"
    assert fetched[1] > 1
    tab.sees("Log in")
    tab.page.reload()
    tab.sees("Log in")
