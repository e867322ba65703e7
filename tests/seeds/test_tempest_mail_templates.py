"""Coming from the tempest SDK: its mails. Each docstring is a row of the table for its users."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import Site
from tempest_sites import MakeSite, sdk_site
from tempest_templates import MAIL, NOBODY_IN, Templates, shown

EMAIL, KNOWN = "ana@example.com", "vic@example.com"


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    """A site for clients of the SDK whose links log nobody in."""
    return sdk_site(make_site, NOBODY_IN)


@pytest.fixture
def templates(site: Site, tmp_path: Path) -> Templates:
    """The templates of that site's app; there are none yet."""
    return Templates(site, tmp_path / "templates")


def test_a_mail_of_ones_own_by_the_sdks_name(site: Site, templates: Templates) -> None:
    """`activation.html` of your app, in `templates/accountflow/mail`, is the HTML of the confirmation mail; its text
    and its subject, and all other mails, stay ours.
    """
    templates.add("mail/activation.html", "<p>Welcome</p>" + MAIL)
    site.member(KNOWN)

    site.program().signup(EMAIL, name="Ana")
    site.program().request_reset(email=KNOWN)

    activation, reset = site.letters
    assert activation.html.startswith("<p>Welcome</p>")
    assert "Confirm your email" in activation.text
    assert activation.subject == "Confirm your email for Shop"
    assert "Set a new password" in reset.html


def test_the_other_mail_of_ones_own_by_the_sdks_name(site: Site, templates: Templates) -> None:
    """`password_reset.html` of your app is the HTML of the reset mail; the invitation to choose a first password and
    the notice of a new one are other mails.
    """
    templates.add("mail/password_reset.html", "<p>Reset</p>" + MAIL)
    site.member(KNOWN)

    site.program().signup(EMAIL)
    site.program().request_reset(email=KNOWN)
    site.member("ida@example.com", None)
    site.program().reset(str(site.letters[1].link).removeprefix("https://www.example.com"))

    assert {letter.template: letter.html.startswith("<p>Reset</p>") for letter in site.letters} == {
        "verify": False,
        "reset": True,
        "set_password": False,
        "password_changed": False,
    }


def test_what_the_activation_mail_knows(site: Site, templates: Templates) -> None:
    """The context of `activation.html` is `user`, `activation_url`, `expires_at` (with its time zone, UTC),
    `login_url`, `min_length`, and `link`, which is the same address.
    """
    templates.add("mail/activation.html", MAIL)

    site.program().signup(EMAIL, name="Ana")

    html, link = site.letters[0].html, str(site.letters[0].link)
    assert shown(html, "user") == f"{EMAIL}/Ana"
    assert shown(html, "link") == shown(html, "activation_url") == link
    assert shown(html, "reset_url") == "None"
    assert shown(html, "expires_at") == "2026-11-22T08:30:00+00:00"
    assert shown(html, "aware") == "True 2026-11-22 08:30 UTC"
    assert shown(html, "login_url") == "https://www.example.com/auth/login"
    assert shown(html, "min_length") == "12"


def test_what_the_reset_mail_knows(site: Site, templates: Templates) -> None:
    """The context of `password_reset.html` is the same, with `reset_url` for `activation_url`."""
    templates.add("mail/password_reset.html", MAIL)
    site.member(KNOWN)
    site.change(KNOWN, name="Vic")

    site.program().request_reset(email=KNOWN)

    html, link = site.letters[0].html, str(site.letters[0].link)
    assert shown(html, "user") == f"{KNOWN}/Vic"
    assert shown(html, "link") == shown(html, "reset_url") == link
    assert shown(html, "activation_url") == "None"
    assert shown(html, "expires_at") == "2026-11-21T09:30:00+00:00"
    assert shown(html, "min_length") == "12"


def test_times_are_aware_on_every_database(make_site: MakeSite, database_uri: str, tmp_path: Path) -> None:
    """`expires_at` has its time zone on SQLite, PostgreSQL and MariaDB."""
    site = sdk_site(make_site, uri=database_uri)
    Templates(site, tmp_path / "templates").add("mail/activation.html", MAIL)

    site.program().signup(EMAIL)

    assert shown(site.letters[0].html, "expires_at") == "2026-11-22T08:30:00+00:00"


def test_the_documents_example_of_a_mail(site: Site, templates: Templates) -> None:
    """A template in the manner of the document's example is rendered as it is: `user.name`, `activation_url` in a
    button, and `expires_at.strftime`.
    """
    templates.add(
        "mail/activation.html",
        "<h1>Welcome{% if user.name %}, {{ user.name }}{% endif %}!</h1>"
        '<a href="{{ activation_url }}">Activate account</a>'
        '<p>Link valid until {{ expires_at.strftime("%Y-%m-%d %H:%M UTC") }}.</p>',
    )

    site.program().signup(EMAIL, name="Ana <b>")
    site.program().signup("bea@example.com")

    named, nameless = (letter.html for letter in site.letters)
    assert named == (
        f'<h1>Welcome, Ana &lt;b&gt;!</h1><a href="{site.letters[0].link}">Activate account</a>'
        "<p>Link valid until 2026-11-22 08:30 UTC.</p>"
    )
    assert nameless.startswith("<h1>Welcome!</h1>")
