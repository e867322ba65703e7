"""A site with a layout of its own: our pages stand in it, and every one of them still works."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from answers import field, heading, links, tags, title, words
from flask import Response, g, request
from jinja2 import DictLoader
from support import BASE_URL, CONFIG, OTHER_PASSWORD, PASSWORD, Person, Program, Site, forms_of
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client
from werkzeug.wrappers import Response as PlainResponse

from flask_accountflow.flows import ACTIONS

EMAIL = "ada@example.com"
DOCS = Path(__file__).parents[2] / "docs/pages.md"

HEADER = '<header class="navbar"><nav aria-label="Main"><a class="nav-link" href="/orders">Orders</a></nav></header>'
FOOTER = '<footer class="mt-auto">Made in Kiel</footer>'
LAYOUT = f"""<!doctype html>
<html lang="{{{{ lang }}}}">
<head>
<title>{{% block title %}}Shop{{% endblock %}}</title>
{{% block head %}}<link rel="stylesheet" href="/static/site.css">{{% endblock %}}
</head>
<body class="d-flex flex-column">
{HEADER}
<main class="container py-5">{{% block content %}}{{% endblock %}}</main>
{FOOTER}
</body>
</html>
"""
SIGNUP = """\
{% extends "accountflow/default/signup.html" %}
{% block intro %}<p>Welcome to the club.</p>{% endblock %}
"""


def frame_of_the_docs() -> str:
    """Return the frame that the documentation shows for a site's layout."""
    (found,) = re.findall(
        r"```jinja\n(\{# templates/accountflow/base.html #\}\n\{% extends \"layout.html\".*?)```",
        DOCS.read_text(),
        re.S,
    )
    return str(found)


@pytest.fixture
def shop(own_site: Site) -> Site:
    """A site with its own layout around our pages, and one block of one page changed."""
    own_site.app.jinja_loader = DictLoader(
        {"layout.html": LAYOUT, "accountflow/base.html": frame_of_the_docs(), "accountflow/signup.html": SIGNUP}
    )
    return own_site


def in_layout(page: Any) -> bool:
    """Tell whether a page stands in the site's layout, which is as the site wrote it."""
    parts = ('<html lang="en">', '<link rel="stylesheet" href="/static/site.css">', HEADER, FOOTER)
    return all(part in page.text for part in parts)


def test_the_whole_journey_in_the_layout_of_a_site(shop: Site) -> None:
    """Sign-up, confirmation, login, account, reset and logout work in a site's own layout, framed as documented."""
    person = shop.person()
    pages = [person.get("/auth/signup")]

    pages.append(person.follow(person.submit(pages[-1], email=EMAIL, password=PASSWORD)))
    pages.append(person.get(shop.last_link))
    assert person.submit(pages[-1]).headers["Location"] == "/"
    pages.append(person.get("/auth/me"))
    pages.append(person.get("/auth/logout"))
    pages.append(person.follow(person.submit(pages[-1])))
    pages.append(person.submit(pages[-1], email=EMAIL, password=OTHER_PASSWORD))
    pages.append(person.get("/auth/password-reset/request"))
    pages.append(person.follow(person.submit(pages[-1], email=EMAIL)))
    pages.append(person.get(shop.last_link))
    pages.append(person.follow(person.submit(pages[-1], password=OTHER_PASSWORD)))
    back = person.login(EMAIL, OTHER_PASSWORD)

    assert [heading(page) for page in pages] == [
        "Create your account",
        "Check your email",
        "Confirm your email",
        "Your account",
        "Log out",
        "Log in",
        "Log in",
        "Reset your password",
        "Check your email",
        "Set a new password",
        "Password changed",
    ]
    assert all(in_layout(page) for page in pages)
    assert "Welcome to the club." in words(pages[0])
    assert title(pages[6]) == "Error: Log in – Shop"
    assert back.headers["Location"] == "/"


def test_refusals_stand_in_the_layout(shop: Site) -> None:
    """What is wrong is said in the site's layout, too: a faulty form, a dead link, and a page that there is not."""
    person = shop.person()

    faulty = person.signup("nobody", "short")
    dead, missing = person.get("/auth/verify/a.b.c"), person.get("/auth/nothing")

    assert [page.status_code for page in (faulty, dead, missing)] == [422, 400, 404]
    assert all(in_layout(page) for page in (faulty, dead, missing))
    assert field(faulty, "email")["aria-invalid"] == "true"
    assert "alert" in {one.get("role") for one in tags(faulty, "div")}
    assert links(dead)


def test_our_page_brings_only_what_is_ours(shop: Site) -> None:
    """Into a site's layout come our style sheet, our script and elements with classes of ours, nothing else."""
    page = shop.person().get("/auth/login")

    before, after = page.text.split(LAYOUT.partition("{% block content %}{% endblock %}")[2].rstrip("\n"))
    inside = before.partition('<main class="container py-5">')[2]
    classes = {one for value in re.findall(r'class="([^"]*)"', inside) for one in value.split()}
    assert after == ""
    assert classes
    assert all(one.startswith("af-") for one in classes)
    assert [str(one["src"]).partition("?")[0] for one in tags(page, "script")] == ["/auth/static/accountflow.js"]
    assert "style=" not in page.text
    assert not re.findall(r" on\w+=", page.text)


# A policy of the site's own.


def nonces(page: Any) -> list[str | None]:
    """Return the nonces of what a page loads."""
    return [one.get("nonce") for one in [*tags(page, "script"), *tags(page, "link")] if one.get("rel") != "icon"]


@pytest.mark.usefixtures("own_site")
def test_pages_need_no_nonce(site: Site) -> None:
    """Without a policy of the site's no nonce stands in a page, and ours lets it load what it needs."""
    page = site.person().get("/auth/login")

    assert nonces(page) == [None, None]
    assert "nonce" not in page.headers["Content-Security-Policy"]


def _by_talisman(site: Site) -> None:
    """Give templates a function and send the policy, as Flask-Talisman does."""
    site.app.before_request(lambda: setattr(request, "csp_nonce", f"n{id(request._get_current_object())}"))  # type: ignore[attr-defined]
    site.app.jinja_env.globals["csp_nonce"] = lambda: getattr(request, "csp_nonce", "")

    @site.app.after_request
    def send(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = f"script-src 'nonce-{request.csp_nonce}' 'strict-dynamic'"  # type: ignore[attr-defined]
        return response


def _by_hand(site: Site) -> None:
    @site.app.before_request
    def draw() -> None:
        g.csp_nonce = f"n{id(g._get_current_object())}"

    @site.app.after_request
    def send(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = f"script-src 'nonce-{g.csp_nonce}' 'strict-dynamic'"
        return response


@pytest.mark.parametrize("give", [_by_talisman, _by_hand])
def test_what_our_pages_load_carries_the_nonce_of_the_site(make_site: Callable[..., Site], give: Any) -> None:
    """Where a policy of the site's lets run only what carries its nonce, our script and both style sheets carry it."""
    site = make_site({"ACCOUNTFLOW_STYLESHEETS": ["/static/brand.css"]})
    give(site)
    site.app.jinja_loader = DictLoader(
        {
            "accountflow/login.html": '{% extends "accountflow/default/login.html" %}'
            '{% block extra_head %}<script nonce="{{ nonce }}">let menu</script>{% endblock %}'
        }
    )

    page = site.person().get("/auth/login")

    (policy,) = page.headers.getlist("Content-Security-Policy")
    nonce = policy.partition("nonce-")[2].partition("'")[0]
    assert nonces(page) == [nonce] * 4
    assert len(nonce) > 5


@pytest.mark.parametrize("nonce", ["", None])
def test_a_request_without_a_nonce(own_site: Site, nonce: str | None) -> None:
    """A site that draws no nonce for a request has none in its page."""
    own_site.app.jinja_env.globals["csp_nonce"] = lambda: nonce

    assert nonces(own_site.person().get("/auth/login")) == [None, None]


# Password managers.

WELL_KNOWN = "/.well-known/change-password"


def test_password_managers_find_the_page(site: Site) -> None:
    """The address that password managers know leads to the page that changes a password, by way of the login."""
    site.member(EMAIL)
    person = site.person()

    response = person.get(WELL_KNOWN)
    login = person.follow(person.get(response.headers["Location"]))
    done = person.submit(login, email=EMAIL, password=PASSWORD)

    assert (response.status_code, response.headers["Location"]) == (302, "/auth/password/change")
    assert done.headers["Location"] == "/auth/password/change"
    assert person.follow(done).status_code == 200


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_program_is_led_there_too(site: Site, method: str) -> None:
    """Whoever asks for that address is led on, whatever format he takes."""
    response = site.app.test_client().open(WELL_KNOWN, method=method, headers=Program.headers)

    assert (response.status_code, response.headers["Location"]) == (302, "/auth/password/change")


@pytest.mark.parametrize("rule", [WELL_KNOWN, "/.well-known/<name>", "/.well-known/<path:name>"])
def test_a_route_of_the_apps_own_comes_first(own_site: Site, rule: str) -> None:
    """A route of the app for that address is the app's, though it was added after us."""
    own_site.app.add_url_rule(rule, endpoint="theirs", view_func=lambda name="": "theirs")

    assert own_site.person().get(WELL_KNOWN).text == "theirs"


def test_a_route_for_everything_does_not_hide_it(own_site: Site) -> None:
    """A route of the app that takes every path leaves this one to us, and answers its neighbours."""
    own_site.app.add_url_rule("/<path:name>", endpoint="theirs", view_func=lambda name: "theirs")

    assert own_site.person().get(WELL_KNOWN).status_code == 302
    assert own_site.person().get("/.well-known/security.txt").text == "theirs"


def test_without_a_page_to_change_a_password(make_site: Callable[..., Site]) -> None:
    """An app that leaves the page out has no address for it either."""
    site = make_site(actions=[action for action in ACTIONS if action.name != "password_change"])

    assert site.person().get(WELL_KNOWN).status_code == 404


def test_only_that_address_is_well_known(site: Site) -> None:
    """The address by which password managers find out whether to trust a status is 404, as are its neighbours."""
    probe = "/.well-known/resource-that-should-not-exist-whose-status-code-should-not-be-200"

    for path in (probe, f"{WELL_KNOWN}/", f"{WELL_KNOWN}s", "/.well-known/", f"/auth{WELL_KNOWN}"):
        assert site.person().get(path).status_code == 404, path


@pytest.mark.parametrize("prefix", ["", "/auth", "/a/b"])
def test_it_stands_at_the_root_whatever_the_prefix(make_site: Callable[..., Site], prefix: str) -> None:
    """The address stands at the root of the app, whatever the prefix of our pages."""
    site = make_site({"ACCOUNTFLOW_URL_PREFIX": prefix})

    assert site.person().get(WELL_KNOWN).headers["Location"] == f"{prefix}/password/change"


def test_below_a_path_it_leads_below_it(make_site: Callable[..., Site]) -> None:
    """In an app below a path the address leads there, and check says what the web server has to do."""
    site = make_site({"ACCOUNTFLOW_BASE_URL": f"{BASE_URL}/shop"})
    site.app.config["APPLICATION_ROOT"] = "/shop"
    below: Any = DispatcherMiddleware(PlainResponse("nothing here", 404), {"/shop": site.app.wsgi_app})

    response = Client(below, Response).get(f"/shop{WELL_KNOWN}", headers=Person.headers)
    said = site.app.test_cli_runner().invoke(args=["accountflow", "check"]).output

    assert response.headers["Location"] == "/shop/auth/password/change"
    assert f"hint: Password managers look for {WELL_KNOWN} of the host" in said
    assert f"send it to /shop{WELL_KNOWN}." in said


def test_at_the_root_there_is_nothing_to_do(make_site: Callable[..., Site]) -> None:
    """At the root of a host, or without the page, check says nothing about it."""
    left = [action for action in ACTIONS if action.name != "password_change"]

    for site in (make_site(), make_site({"ACCOUNTFLOW_BASE_URL": f"{BASE_URL}/shop"}, actions=left)):
        assert "well-known" not in site.app.test_cli_runner().invoke(args=["accountflow", "check"]).output


def test_the_example_app_passes_the_probe(tmp_path: Path) -> None:
    """The example app leads password managers on, and answers 404 to what does not exist."""
    from example_app import create_app
    from example_app.models import db

    config = {**CONFIG, "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'example.db'}"}
    app = create_app(config)
    client = app.test_client()

    probe = client.get("/.well-known/resource-that-should-not-exist-whose-status-code-should-not-be-200")
    found = client.get(WELL_KNOWN)
    with app.app_context():
        db.engine.dispose()

    assert (probe.status_code, found.status_code) == (404, 302)


def test_forms_in_a_layout_are_complete(shop: Site) -> None:
    """Each form in a site's layout has its address and its token, as ours have."""
    form = forms_of(shop.person().get("/auth/login?next=/secret"))[0]

    assert form.action == "/auth/login"
    assert form.values["next"] == "/secret"
    assert form.values["csrf_token"]
