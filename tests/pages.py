"""Every page of the package in every state that somebody may meet, and how to get there.

A state is a function that brings a visitor to a page; its docstring says in a few words what he sees. What looks at
pages (browsers, checkers, the contact sheet) goes through ``STATES``, so a new page is added here, and is then looked
at by all of them. The sites and the visitors are in ``places.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import sqlalchemy as sa
from support import OTHER_PASSWORD, PASSWORD, Site
from wtforms import BooleanField, IntegerField, RadioField, SelectField, StringField, TextAreaField
from wtforms.validators import Optional, ValidationError

from flask_accountflow.forms import SignupForm

EMAIL = "ada@example.com"
OWNER = "vic@example.com"
CUT_OFF = "/auth/verify/cut.off"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1.1 "
    "Mobile/15E148 Safari/604.1"
)


class Visitor(Protocol):
    """Somebody with a browser."""

    def open(self, path: str) -> None:
        """Open an address of the site, and go where it sends on."""

    def send(self, number: int = 0, **fields: str) -> None:
        """Fill in one of the forms of the page, send it, and go where the answer sends on.

        A field with the name of a button presses that button instead of the first.
        """

    def forget(self) -> None:
        """Lose all cookies."""


Bring = Callable[[Site, Visitor], None]


@dataclass(frozen=True)
class State:
    """A page as somebody meets it: its template, whether it lists faults, and the site that it is met on."""

    name: str
    template: str
    sentence: str
    bring: Bring
    refuses: bool
    form: type[SignupForm]
    config: Mapping[str, Any]


STATES: list[State] = []


def _state(
    template: str, *, refuses: bool = False, form: type[SignupForm] = SignupForm, **config: Any
) -> Callable[[Bring], Bring]:
    """Add a state, which ``refuses`` when it lists what was wrong; a form or a setting gives it a site of its own."""

    def add(bring: Bring) -> Bring:
        assert bring.__doc__ is not None
        STATES.append(State(bring.__name__, template, bring.__doc__.rstrip("."), bring, refuses, form, config))
        return bring

    return add


# Signing up


def _never(form: Any, field: Any) -> None:
    raise ValidationError("This will not do.")


class _LongForm(SignupForm):
    """A sign-up form with every kind of field."""

    name = StringField("Name", [Optional()], description="As it shall stand on a parcel.")
    seats = IntegerField("Seats")
    country = SelectField("Country", [_never], choices=["Germany", "France"])
    plan = RadioField("Plan", choices=["Small", "Large"], description="Can be changed at any time.")
    about = TextAreaField("About you", [_never])
    terms = BooleanField("I accept the terms", [_never])


@_state("signup")
def signup(site: Site, visitor: Visitor) -> None:
    """Create an account."""
    visitor.open("/auth/signup")


@_state("signup", refuses=True)
def signup_refused(site: Site, visitor: Visitor) -> None:
    """An address and a password that will not do."""
    visitor.open("/auth/signup")
    visitor.send(email="ada", password="short")


@_state("signup", refuses=True)
def signup_after_losing_cookies(site: Site, visitor: Visitor) -> None:
    """A form that was open until its cookie had gone."""
    visitor.open("/auth/signup")
    visitor.forget()
    visitor.send(email=EMAIL, password=PASSWORD)


@_state("signup", form=_LongForm)
def signup_with_more_fields(site: Site, visitor: Visitor) -> None:
    """Every kind of field that an app may add."""
    visitor.open("/auth/signup")


@_state("signup", refuses=True, form=_LongForm)
def signup_with_more_fields_refused(site: Site, visitor: Visitor) -> None:
    """Every kind of field that an app may add, refused."""
    visitor.open("/auth/signup")
    visitor.send(email=EMAIL, password=PASSWORD, seats="many")


@_state("signup_sent")
def signup_sent(site: Site, visitor: Visitor) -> None:
    """Signed up, and a link was mailed."""
    visitor.open("/auth/signup")
    visitor.send(email=EMAIL, password=PASSWORD)


@_state("signup_sent")
def signup_sent_without_cookies(site: Site, visitor: Visitor) -> None:
    """Signed up, and the browser does not know any more with which address."""
    signup_sent(site, visitor)
    visitor.forget()
    visitor.open("/auth/signup/sent")


@_state("signup_sent", DEBUG=True)
def signup_sent_in_debug(site: Site, visitor: Visitor) -> None:
    """Signed up in debug, where the mail is shown."""
    signup_sent(site, visitor)


@_state("signup_sent", ACCOUNTFLOW_RETURN_TOKEN_IN_RESPONSE=True)
def signup_sent_without_mail(site: Site, visitor: Visitor) -> None:
    """Signed up in development without mail."""
    signup_sent(site, visitor)


@_state("signup_sent")
def resent(site: Site, visitor: Visitor) -> None:
    """Another link was mailed, if there is an account."""
    visitor.open("/auth/verify/resend")
    visitor.send(email=EMAIL)


@_state("signup_sent")
def login_unverified(site: Site, visitor: Visitor) -> None:
    """Logged in before the address is confirmed."""
    site.program().signup(EMAIL)
    visitor.open("/auth/login")
    visitor.send(email=EMAIL, password=PASSWORD)


# Confirming


def _newest_link(site: Site) -> str:
    return urlsplit(site.last_link).path


def _sign_up(site: Site) -> str:
    """Sign up elsewhere and return the link."""
    site.program().signup(EMAIL)
    return _newest_link(site)


@_state("verify")
def verify(site: Site, visitor: Visitor) -> None:
    """What the link in the mail opens."""
    visitor.open(_sign_up(site))


@_state("verify")
def verify_beside_another_login(site: Site, visitor: Visitor) -> None:
    """The link, opened by somebody who is logged in as somebody else."""
    _log_in(site, visitor)
    visitor.open(_sign_up(site))


@_state("verify")
def verify_with_password(site: Site, visitor: Visitor) -> None:
    """The link, after two sign-ups with one address."""
    _sign_up(site)
    site.clock.tick(61)
    visitor.open(_sign_up(site))


@_state("verify", refuses=True)
def verify_with_password_refused(site: Site, visitor: Visitor) -> None:
    """The link, after two sign-ups, without choosing a password."""
    verify_with_password(site, visitor)
    visitor.send()


@_state("verify_done")
def verify_done(site: Site, visitor: Visitor) -> None:
    """Confirmed in another browser."""
    verify(site, visitor)
    visitor.send()


@_state("verify_done")
def verify_done_already(site: Site, visitor: Visitor) -> None:
    """The link, opened again."""
    link = _sign_up(site)
    site.program().verify(link)
    visitor.open(link)


@_state("verify_done")
def verify_disowned(site: Site, visitor: Visitor) -> None:
    """Told that it was somebody else who signed up."""
    verify(site, visitor)
    visitor.send(1, discard="1")


@_state("link_expired")
def verify_expired(site: Site, visitor: Visitor) -> None:
    """The link, a day too late."""
    link = _sign_up(site)
    site.clock.tick(86400)
    visitor.open(link)


@_state("link_expired")
def verify_forgotten(site: Site, visitor: Visitor) -> None:
    """The link, so late that nobody knows whose it was."""
    link = _sign_up(site)
    with site.app.app_context(), site.db.engine.begin() as connection:
        connection.execute(sa.delete(site.tables.token))
    visitor.open(link)


@_state("link_superseded")
def verify_after_disowning(site: Site, visitor: Visitor) -> None:
    """The link, after saying that it was somebody else."""
    link = _sign_up(site)
    site.program().verify(link, discard=True)
    visitor.open(link)


@_state("link_superseded")
def verify_superseded(site: Site, visitor: Visitor) -> None:
    """The link, after something newer."""
    link = _sign_up(site)
    with site.app.app_context():
        site.accounts.revoke_sessions(EMAIL)
    visitor.open(link)


@_state("link_superseded")
def verify_not_needed(site: Site, visitor: Visitor) -> None:
    """The link, after the address was confirmed otherwise."""
    link = _sign_up(site)
    with site.app.app_context():
        site.accounts.verify_user(EMAIL)
    visitor.open(link)


@_state("link_invalid")
def verify_cut_off(site: Site, visitor: Visitor) -> None:
    """A part of a link."""
    visitor.open(CUT_OFF)


@_state("verify_resend")
def resend(site: Site, visitor: Visitor) -> None:
    """Ask for a new link."""
    visitor.open("/auth/verify/resend")


@_state("verify_resend", refuses=True)
def resend_refused(site: Site, visitor: Visitor) -> None:
    """Ask for a new link without an address."""
    visitor.open("/auth/verify/resend")
    visitor.send()


# Logging in and out


def _log_in(site: Site, visitor: Visitor) -> None:
    """Log in as the owner of an account."""
    site.member(OWNER)
    visitor.open("/auth/login?next=/auth/me")
    visitor.send(email=OWNER, password=PASSWORD)


@_state("login")
def login(site: Site, visitor: Visitor) -> None:
    """Log in."""
    visitor.open("/auth/login")


@_state("login", refuses=True)
def login_empty(site: Site, visitor: Visitor) -> None:
    """Log in without an address and a password."""
    visitor.open("/auth/login")
    visitor.send()


@_state("login", refuses=True)
def login_refused(site: Site, visitor: Visitor) -> None:
    """A wrong password."""
    visitor.open("/auth/login")
    visitor.send(email=EMAIL, password=PASSWORD)


@_state("login", refuses=True)
def login_after_losing_cookies(site: Site, visitor: Visitor) -> None:
    """Log in with a browser that keeps no cookies."""
    visitor.open("/auth/login")
    visitor.forget()
    visitor.send(email=EMAIL, password=PASSWORD)


@_state("login", refuses=True, ACCOUNTFLOW_RATELIMIT_ENABLED=True, ACCOUNTFLOW_RATELIMIT_LOGIN="1/day")
def login_too_often(site: Site, visitor: Visitor) -> None:
    """One wrong password too many."""
    site.program().login(EMAIL)
    visitor.open("/auth/login")
    visitor.send(email=EMAIL, password=PASSWORD)


def _fill_hasher(site: Site) -> None:
    """Let the site be busy; the hasher of places can be."""
    site.app.extensions["accountflow"].hasher.is_full = True


@_state("login", refuses=True)
def login_while_busy(site: Site, visitor: Visitor) -> None:
    """Log in while others do."""
    visitor.open("/auth/login")
    _fill_hasher(site)
    visitor.send(email=EMAIL, password=PASSWORD)


@_state("login_fresh")
def login_fresh(site: Site, visitor: Visitor) -> None:
    """Type the password again."""
    _log_in(site, visitor)
    visitor.open("/auth/login/fresh")


@_state("login_fresh", refuses=True)
def login_fresh_refused(site: Site, visitor: Visitor) -> None:
    """Type the password again, wrongly."""
    login_fresh(site, visitor)
    visitor.send(password=OTHER_PASSWORD)


@_state("account")
def account(site: Site, visitor: Visitor) -> None:
    """The account, logged in here only."""
    _log_in(site, visitor)


@_state("account")
def account_with_logins(site: Site, visitor: Visitor) -> None:
    """The account, logged in here and elsewhere."""
    _log_in(site, visitor)
    for agent in ("curl/8.5.0", IPHONE, f"{'LongNamedProgramOfSomebody' * 9}/1"):
        site.clock.tick(60)
        site.program().post("/auth/login", {"email": OWNER, "password": PASSWORD}, user_agent=agent)
    visitor.open("/auth/me")


@_state("account")
def account_unverified(site: Site, visitor: Visitor) -> None:
    """The account of an address that is not confirmed."""
    _log_in(site, visitor)
    site.change(OWNER, email_verified_at=None)
    visitor.open("/auth/me")


@_state("logout")
def logout(site: Site, visitor: Visitor) -> None:
    """Log out."""
    _log_in(site, visitor)
    visitor.open("/auth/logout")


@_state("login")
def logged_out(site: Site, visitor: Visitor) -> None:
    """Logged out."""
    logout(site, visitor)
    visitor.send()


# A forgotten password


def _ask_for_reset(site: Site) -> str:
    """Ask for a reset elsewhere and return the link."""
    site.member(OWNER)
    site.program().request_reset(email=OWNER)
    return _newest_link(site)


@_state("reset_request")
def reset_request(site: Site, visitor: Visitor) -> None:
    """The password is forgotten."""
    visitor.open("/auth/password-reset/request")


@_state("reset_request", refuses=True)
def reset_request_refused(site: Site, visitor: Visitor) -> None:
    """The password is forgotten, and the address is not one."""
    visitor.open("/auth/password-reset/request")
    visitor.send(email="vic")


@_state("reset_sent")
def reset_sent(site: Site, visitor: Visitor) -> None:
    """A link was mailed, if there is an account."""
    visitor.open("/auth/password-reset/request")
    visitor.send(email=OWNER)


@_state("reset_sent")
def reset_sent_without_cookies(site: Site, visitor: Visitor) -> None:
    """A link was mailed, and the browser does not know any more to whom."""
    visitor.open("/auth/password-reset/sent")


@_state("reset_sent", ACCOUNTFLOW_MAIL_UNKNOWN=True)
def reset_sent_in_any_case(site: Site, visitor: Visitor) -> None:
    """A mail was sent, where strangers get one, too."""
    reset_sent(site, visitor)


@_state("reset_sent", DEBUG=True)
def reset_sent_in_debug(site: Site, visitor: Visitor) -> None:
    """A link was mailed in debug, where it is shown."""
    site.member(OWNER)
    reset_sent(site, visitor)


@_state("reset_sent", ACCOUNTFLOW_RETURN_TOKEN_IN_RESPONSE=True)
def reset_sent_without_mail(site: Site, visitor: Visitor) -> None:
    """A link in development without mail."""
    site.member(OWNER)
    reset_sent(site, visitor)


@_state("reset_form")
def reset_form(site: Site, visitor: Visitor) -> None:
    """What the link in the mail opens."""
    visitor.open(_ask_for_reset(site))


@_state("reset_form", refuses=True)
def reset_form_refused(site: Site, visitor: Visitor) -> None:
    """A new password that will not do."""
    reset_form(site, visitor)
    visitor.send(password="short")


@_state("reset_done")
def reset_done(site: Site, visitor: Visitor) -> None:
    """The new password is set."""
    reset_form(site, visitor)
    visitor.send(password=OTHER_PASSWORD)


@_state("busy")
def reset_while_busy(site: Site, visitor: Visitor) -> None:
    """Set a new password while others do."""
    reset_form(site, visitor)
    _fill_hasher(site)
    visitor.send(password=OTHER_PASSWORD)


@_state("link_used")
def reset_used(site: Site, visitor: Visitor) -> None:
    """The link, opened again."""
    link = _ask_for_reset(site)
    site.program().reset(link)
    visitor.open(link)


@_state("link_expired")
def reset_expired(site: Site, visitor: Visitor) -> None:
    """The link, an hour too late."""
    link = _ask_for_reset(site)
    site.clock.tick(3600)
    visitor.open(link)


@_state("link_superseded")
def reset_superseded(site: Site, visitor: Visitor) -> None:
    """The link, after something newer."""
    link = _ask_for_reset(site)
    with site.app.app_context():
        site.accounts.revoke_sessions(OWNER)
    visitor.open(link)


@_state("link_invalid")
def reset_cut_off(site: Site, visitor: Visitor) -> None:
    """A part of a link."""
    visitor.open("/auth/password-reset/cut.off")


@_state("reset_request", refuses=True)
def reset_cut_off_refused(site: Site, visitor: Visitor) -> None:
    """A part of a link, and no address for a new one."""
    reset_cut_off(site, visitor)
    visitor.send()


# Another password, another address


@_state("password_change")
def password_change(site: Site, visitor: Visitor) -> None:
    """Change the password."""
    _log_in(site, visitor)
    visitor.open("/auth/password/change")


@_state("password_change", refuses=True)
def password_change_refused(site: Site, visitor: Visitor) -> None:
    """Change the password, with a wrong one and one that will not do."""
    password_change(site, visitor)
    visitor.send(current_password=OTHER_PASSWORD, new_password="short")


@_state("account")
def password_changed(site: Site, visitor: Visitor) -> None:
    """The password is changed."""
    password_change(site, visitor)
    visitor.send(current_password=PASSWORD, new_password=OTHER_PASSWORD)


@_state("email_change")
def email_change(site: Site, visitor: Visitor) -> None:
    """Change the address."""
    _log_in(site, visitor)
    visitor.open("/auth/email/change")


@_state("email_change", refuses=True)
def email_change_refused(site: Site, visitor: Visitor) -> None:
    """Change the address to none, with a wrong password."""
    email_change(site, visitor)
    visitor.send(new_email="ada", current_password=OTHER_PASSWORD)


@_state("email_change_sent")
def email_change_sent(site: Site, visitor: Visitor) -> None:
    """A link was mailed to the new address."""
    email_change(site, visitor)
    visitor.send(new_email=EMAIL, current_password=PASSWORD)


@_state("email_change_sent", DEBUG=True)
def email_change_sent_in_debug(site: Site, visitor: Visitor) -> None:
    """A link was mailed to the new address in debug, where it is shown."""
    email_change_sent(site, visitor)


@_state("email_change_sent", ACCOUNTFLOW_RETURN_TOKEN_IN_RESPONSE=True)
def email_change_sent_without_mail(site: Site, visitor: Visitor) -> None:
    """A link to the new address in development without mail."""
    email_change_sent(site, visitor)


@_state("email_change_sent")
def email_change_not_waiting(site: Site, visitor: Visitor) -> None:
    """No new address waits to be confirmed."""
    _log_in(site, visitor)
    visitor.open("/auth/email/change/sent")


@_state("account")
def account_with_new_email(site: Site, visitor: Visitor) -> None:
    """The account, while a new address waits to be confirmed."""
    email_change_sent(site, visitor)
    visitor.open("/auth/me")


@_state("account")
def email_change_canceled(site: Site, visitor: Visitor) -> None:
    """The address stays as it is."""
    email_change_sent(site, visitor)
    visitor.send()


def _change_email(site: Site) -> str:
    """Ask elsewhere for another address, and return the link."""
    site.member(OWNER)
    person = site.person()
    person.login(OWNER)
    person.fill("/auth/email/change", new_email=EMAIL, current_password=PASSWORD)
    return _newest_link(site)


def _changed_email(site: Site) -> str:
    """Change the address elsewhere, and return the link that undoes it."""
    site.program().verify(_change_email(site))
    return _newest_link(site)


@_state("email_confirm")
def email_confirm(site: Site, visitor: Visitor) -> None:
    """What the link to the new address opens."""
    visitor.open(_change_email(site))


@_state("email_done")
def email_done(site: Site, visitor: Visitor) -> None:
    """The address is changed."""
    email_confirm(site, visitor)
    visitor.send()


@_state("link_expired")
def email_confirm_expired(site: Site, visitor: Visitor) -> None:
    """The link to the new address, too late."""
    link = _change_email(site)
    site.clock.tick(4 * 86400)
    visitor.open(link)


@_state("link_used")
def email_confirm_used(site: Site, visitor: Visitor) -> None:
    """The link to the new address, opened again."""
    link = _change_email(site)
    site.program().verify(link)
    visitor.open(link)


@_state("link_superseded")
def email_confirm_superseded(site: Site, visitor: Visitor) -> None:
    """The link to the new address, after something newer."""
    link = _change_email(site)
    with site.app.app_context():
        site.accounts.revoke_sessions(OWNER)
    visitor.open(link)


@_state("link_invalid")
def email_confirm_cut_off(site: Site, visitor: Visitor) -> None:
    """A part of the link to the new address."""
    visitor.open("/auth/email/confirm/cut.off")


@_state("email_revert")
def email_revert(site: Site, visitor: Visitor) -> None:
    """What the link in the notice to the old address opens."""
    visitor.open(_changed_email(site))


@_state("email_done")
def email_reverted(site: Site, visitor: Visitor) -> None:
    """The old address is back."""
    email_revert(site, visitor)
    visitor.send()


@_state("email_done", DEBUG=True)
def email_reverted_in_debug(site: Site, visitor: Visitor) -> None:
    """The old address is back in debug, where the mail is shown."""
    email_reverted(site, visitor)


@_state("link_expired")
def email_revert_expired(site: Site, visitor: Visitor) -> None:
    """The link to the old address, too late."""
    link = _changed_email(site)
    site.clock.tick(4 * 86400)
    visitor.open(link)


@_state("link_used")
def email_revert_used(site: Site, visitor: Visitor) -> None:
    """The link to the old address, opened again."""
    link = _changed_email(site)
    site.program().verify(link)
    visitor.open(link)


@_state("link_invalid")
def email_revert_cut_off(site: Site, visitor: Visitor) -> None:
    """A part of the link to the old address."""
    visitor.open("/auth/email/revert/cut.off")


# Anything else


@_state("too_many", ACCOUNTFLOW_RATELIMIT_ENABLED=True, ACCOUNTFLOW_RATELIMIT_TOKEN_IP="1/day")
def too_many_links(site: Site, visitor: Visitor) -> None:
    """Links that are not ours, tried again and again."""
    link = _sign_up(site)
    visitor.open(link)
    for _ in range(2):
        site.program().verify(CUT_OFF)
    visitor.send()


@_state("error", ACCOUNTFLOW_SUPPORT_URL="https://help.example.com/")
def no_such_page(site: Site, visitor: Visitor) -> None:
    """An address of no page."""
    visitor.open("/auth/nowhere")


@_state("error")
def not_an_administrator(site: Site, visitor: Visitor) -> None:
    """A page of the app that is for administrators."""
    _log_in(site, visitor)
    visitor.open("/admin")


@_state("error")
def not_confirmed(site: Site, visitor: Visitor) -> None:
    """A page of the app that is for confirmed addresses."""
    _log_in(site, visitor)
    site.change(OWNER, email_verified_at=None)
    visitor.open("/proved")
