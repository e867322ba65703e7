"""Coming from the tempest SDK: the templates of its pages. Each docstring is a row of the table for its users."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import OTHER_PASSWORD, Person, Site, forms_of
from tempest_sites import MakeSite, sdk_site
from tempest_templates import ALL, MAIL, NOBODY_IN, Templates, shown

EMAIL, KNOWN = "ana@example.com", "vic@example.com"


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    """A site for clients of the SDK whose links log nobody in."""
    return sdk_site(make_site, NOBODY_IN)


@pytest.fixture
def templates(site: Site, tmp_path: Path) -> Templates:
    """The templates of that site's app; there are none yet."""
    return Templates(site, tmp_path / "templates")


# Pages: each by itself, in the place where the SDK shows it.


def activation(site: Site, path: str | None = None) -> str:
    """Return the path of the newest link, or this one, as the SDK has it where its names are known."""
    ours = path if path is not None else site.last_link
    return ours.replace("/verify/", "/activate/") if site.app.config["ACCOUNTFLOW_SEED_ALIASES"] else ours


def confirmed(site: Site, person: Person) -> Any:
    """Open a confirmation link that works."""
    site.program().signup(EMAIL, name="Ana")
    return person.get(activation(site))


def used(site: Site, person: Person) -> Any:
    """Open a confirmation link that was used."""
    confirmed(site, person)
    return person.get(activation(site))


def made_up(site: Site, person: Person) -> Any:
    """Open a confirmation link that is not ours."""
    return person.get(activation(site, "/auth/verify/abc"))


def expired(site: Site, person: Person) -> Any:
    """Open a confirmation link that has expired."""
    site.program().signup(EMAIL)
    site.clock.tick(86400)
    return person.get(activation(site))


def reset_form(site: Site, person: Person) -> Any:
    """Open a reset link that works."""
    site.member(EMAIL)
    site.change(EMAIL, name="Ana")
    site.program().request_reset(email=EMAIL)
    return person.get(site.last_link)


def short_password(site: Site, person: Person) -> Any:
    """Send the reset form with a password that is too short."""
    reset_form(site, person)
    return person.send(site.last_link, {"new_password": "quiet-orbit"})


def reset_done(site: Site, person: Person) -> Any:
    """Set a new password."""
    reset_form(site, person)
    return person.follow(person.send(site.last_link, {"new_password": OTHER_PASSWORD, "password": OTHER_PASSWORD}))


def reset_used(site: Site, person: Person) -> Any:
    """Open a reset link that was used."""
    reset_done(site, person)
    return person.get(site.last_link)


def reset_made_up(site: Site, person: Person) -> Any:
    """Open a reset link that is not ours."""
    return person.get("/auth/password-reset/abc")


Way = Callable[[Site, Person], Any]
#: The SDK's name of the page, how one gets there, and the status.
PAGES: list[tuple[str, Way, int]] = [
    ("activation_success", confirmed, 200),
    ("activation_error", used, 410),
    ("activation_error", made_up, 400),
    ("activation_error", expired, 410),
    ("password_reset_form", reset_form, 200),
    ("password_reset_form", short_password, 422),
    ("password_reset_success", reset_done, 200),
    ("password_reset_error", reset_used, 410),
    ("password_reset_error", reset_made_up, 400),
]
each_page = pytest.mark.parametrize(("name", "way", "status"), PAGES)


@each_page
def test_a_page_of_ones_own_by_the_sdks_name(
    site: Site, templates: Templates, name: str, way: Way, status: int
) -> None:
    """`activation_success.html`, `activation_error.html`, `password_reset_form.html`, `password_reset_success.html` and
    `password_reset_error.html` of your app, in `templates/accountflow`, are shown where the SDK shows them, each by
    itself.
    """
    templates.add(f"{name}.html", "<h1>Ours</h1>" + ALL)

    page = way(site, site.person())

    assert page.status_code == status
    assert page.text.startswith("<h1>Ours</h1>")
    assert shown(page.text, "login_url") == "/auth/login"
    assert shown(page.text, "min_length") == "12"


@each_page
def test_pages_that_are_not_replaced_stay(site: Site, templates: Templates, name: str, way: Way, status: int) -> None:
    """A page that your app does not replace stays ours."""
    for other in {page for page, _, _ in PAGES} - {name}:
        templates.add(f"{other}.html", "<h1>Ours</h1>")

    page = way(site, site.person())

    assert page.status_code == status
    assert "<h1>Ours</h1>" not in page.text
    assert 'class="af-page' in page.text


@each_page
def test_without_the_switch_the_sdks_names_are_nothing(
    make_site: MakeSite, tmp_path: Path, name: str, way: Way, status: int
) -> None:
    """The SDK's names are looked for with `ACCOUNTFLOW_SEED_ALIASES=True` only."""
    site = sdk_site(make_site, NOBODY_IN, {"ACCOUNTFLOW_SEED_ALIASES": False})
    templates = Templates(site, tmp_path / "templates")
    for one in ("mail/activation", "mail/password_reset", *(page for page, _, _ in PAGES)):
        templates.add(f"{one}.html", "<h1>Ours</h1>")

    page = way(site, site.person())

    assert "<h1>Ours</h1>" not in page.text
    assert all("<h1>Ours</h1>" not in letter.html for letter in site.letters)


@pytest.mark.parametrize(
    ("name", "ours", "way"),
    [
        ("activation_success", "verify_done", confirmed),
        ("activation_error", "link_invalid", made_up),
        ("password_reset_form", "reset_form", reset_form),
        ("password_reset_success", "reset_done", reset_done),
        ("password_reset_error", "link_used", reset_used),
        ("activation_error", "link_expired", expired),
    ],
)
def test_our_own_names_have_the_same_variables(
    make_site: MakeSite, tmp_path: Path, name: str, ours: str, way: Way
) -> None:
    """Under our own names the pages have the same variables, with or without the switch; beside each other the SDK's
    name is the one that is shown.
    """
    told = []
    for aliases in (True, False):
        site = sdk_site(make_site, NOBODY_IN, {"ACCOUNTFLOW_SEED_ALIASES": aliases})
        templates = Templates(site, tmp_path / str(aliases))
        for file in (name, ours):
            templates.add(f"{file}.html", f"{file}: {ALL}")
        told.append(way(site, site.person()).text)

    assert [text.partition(":")[0] for text in told] == [name, ours]
    for variable in ("user", "login_url", "min_length", "reason", "error"):
        assert len({shown(text, variable) for text in told}) == 1


def test_what_the_page_of_success_knows(site: Site, templates: Templates) -> None:
    """The context of `activation_success.html` and `password_reset_success.html` is `user`, whose link it was, and
    `login_url`.
    """
    templates.add("activation_success.html", ALL)
    templates.add("password_reset_success.html", ALL)

    assert shown(confirmed(site, site.person()).text, "user") == f"{EMAIL}/Ana"
    site.program().request_reset(email=EMAIL)
    person = site.person()
    assert shown(person.follow(person.reset(site.last_link)).text, "user") == f"{EMAIL}/Ana"


def test_the_page_after_the_button_knows_whose_link_it_was(make_site: MakeSite, tmp_path: Path) -> None:
    """After the button, too, `user` is whose link it was, be somebody else logged in here; later it is who is logged
    in, or nobody, who is false.
    """
    site = sdk_site(make_site, NOBODY_IN, {"ACCOUNTFLOW_VERIFY_ON_GET": False})
    templates = Templates(site, tmp_path / "templates")
    for name in ("activation_success", "password_reset_success"):
        templates.add(f"{name}.html", ALL + " {% if user %}somebody{% else %}nobody{% endif %}")
    site.member(KNOWN)
    site.program().signup(EMAIL, name="Ana")
    stranger, other = site.person(), site.person()
    other.login(KNOWN)

    sent = stranger.verify(site.last_link)
    site.program().request_reset(email=EMAIL)
    changed = other.reset(site.last_link)

    assert shown(stranger.follow(sent).text, "user") == f"{EMAIL}/Ana"
    assert "nobody" in stranger.follow(sent).text
    assert shown(other.follow(changed).text, "user") == f"{EMAIL}/Ana"
    assert shown(other.follow(changed).text, "user") == f"{KNOWN}/None"


def test_a_page_of_success_is_shown_for_nothing_else(make_site: MakeSite, tmp_path: Path) -> None:
    """`activation_success.html` is also shown for a link under `/auth/verify/` that was used before, with nobody as
    `user`, and never to somebody who says that he did not sign up.
    """
    site = sdk_site(make_site, NOBODY_IN, {"ACCOUNTFLOW_VERIFY_ON_GET": False})
    templates = Templates(site, tmp_path / "templates")
    templates.add("activation_success.html", "Welcome" + ALL)
    site.program().signup("bea@example.com")
    disowned = site.last_link
    site.program().signup(EMAIL)
    site.program().verify(site.last_link)

    again = site.person().get(site.last_link)
    person = site.person()
    done = person.follow(person.submit(person.get(disowned), 1, discard="1"))

    assert again.status_code == 200
    assert again.text.startswith("Welcomeuser=None/")
    assert "Thanks for telling us" in done.text


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        (made_up, "This link doesn&#39;t work"),
        (used, "This link has been used"),
        (expired, "This link has expired"),
    ],
)
def test_what_the_page_of_failure_knows(site: Site, templates: Templates, way: Way, reason: str) -> None:
    """The context of `activation_error.html` and `password_reset_error.html` is `reason` (words) and `login_url`."""
    templates.add("activation_error.html", ALL)

    assert shown(way(site, site.person()).text, "reason") == reason


def test_what_the_form_knows(site: Site, templates: Templates) -> None:
    """The context of `password_reset_form.html` is `user`, `form_action`, `min_length`, `error` (none at first) and
    `login_url`; a form that posts `new_password` to `form_action` sets the password.
    """
    templates.add(
        "password_reset_form.html",
        ALL + '<form method="post" action="{{ form_action }}"><input name="new_password" type="password">'
        '<input name="confirm_password" type="password"><button type="submit">Go</button></form>',
    )
    person = site.person()

    first = reset_form(site, person)
    short = person.submit(first, new_password="quiet-orbit", confirm_password="quiet-orbit")
    differing = person.submit(short, new_password=OTHER_PASSWORD, confirm_password="quiet-orbit-lantern")
    done = person.submit(differing, new_password=OTHER_PASSWORD, confirm_password=OTHER_PASSWORD)

    pages = (first, short, differing)
    assert [shown(page.text, "user") for page in pages] == [f"{EMAIL}/Ana"] * 3
    assert [shown(page.text, "form_action") for page in pages] == [site.last_link] * 3
    assert [forms_of(page)[0].action for page in pages] == [site.last_link] * 3
    assert shown(first.text.partition("<form")[0], "error") == "None"
    assert shown(short.text.partition("<form")[0], "error") == "Use at least 12 characters."
    assert shown(differing.text.partition("<form")[0], "error") == "The two passwords differ."
    assert done.headers["Location"] == "/auth/password-reset/done"
    assert site.program().login(EMAIL, OTHER_PASSWORD).status_code == 200


def test_form_action_is_below_where_the_app_is_mounted(site: Site, templates: Templates) -> None:
    """`form_action` is right below a mount point, too."""
    templates.add("password_reset_form.html", ALL)
    site.member(EMAIL)
    site.program().request_reset(email=EMAIL)

    page = site.person().client.get(site.last_link, headers={"Accept": "text/html"}, base_url="http://localhost/shop")

    assert shown(page.get_data(as_text=True), "form_action") == "/shop" + site.last_link


@pytest.mark.parametrize("way", [confirmed, used, made_up, reset_form, reset_done, reset_used])
def test_login_url_is_none_when_none_is_known(make_site: MakeSite, tmp_path: Path, way: Way) -> None:
    """With `ACCOUNTFLOW_LOGIN_URL=""` `login_url` is none in every page: `{% if login_url %}` hides the button."""
    site = sdk_site(make_site, NOBODY_IN, {"ACCOUNTFLOW_LOGIN_URL": ""})
    templates = Templates(site, tmp_path / "templates")
    for name in {page for page, _, _ in PAGES}:
        templates.add(f"{name}.html", ALL + "{% if login_url %} button{% endif %}")
    templates.add("mail/activation.html", MAIL)
    templates.add("mail/password_reset.html", MAIL)

    page = way(site, site.person())

    assert shown(page.text, "login_url") == "None"
    assert "button" not in page.text
    assert all(shown(letter.html, "login_url") == "None" for letter in site.letters if letter.link is not None)


@pytest.mark.parametrize(("headers", "policy"), [(True, "style-src 'self'"), (False, None)])
def test_inline_styles_need_a_policy_of_ones_own(
    make_site: MakeSite, tmp_path: Path, headers: bool, policy: str | None
) -> None:
    """Pages are sent with a `Content-Security-Policy` in which inline styles, as in the SDK's templates, do nothing:
    move them to a file in `ACCOUNTFLOW_STYLESHEETS`, or set `ACCOUNTFLOW_SECURITY_HEADERS=False` and your own policy.
    """
    site = sdk_site(make_site, {"ACCOUNTFLOW_SECURITY_HEADERS": headers})
    Templates(site, tmp_path / "templates").add("activation_error.html", '<body style="color: red">')

    said = made_up(site, site.person()).headers.get("Content-Security-Policy")

    assert (said is None) if policy is None else (policy in said)
