"""The HTML format: how a browser's request is read and answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, make_response, render_template, request, session, url_for
from wtforms import Form

from .. import sessions
from ..errors import Refusal
from ..flow import Action, Outcome, Services, Visit
from ..forms import check, from_browser
from ..languages import ENGLISH, Language
from ..models import EMAIL_LENGTH
from ..sessions import Member
from ..store.sessions import BROWSER
from . import origin
from .extras import EXTRAS
from .negotiation import FORM_TYPES
from .programs import add_headers
from .redirects import destination, login_address, place, safe_next, send_on
from .seed_names import page_names
from .shown import asked_next, links, plain_names, shown_problem, way_on
from .site import Site
from .spoken import signed, spoken
from .visits import plain_visit, spoken_meta

#: Pages of links that cannot be used. Each has a way on.
_LINK_PAGES = {
    "token_invalid": "link_invalid",
    "token_expired": "link_expired",
    "token_used": "link_used",
    "token_superseded": "link_superseded",
}
#: What another site's page may have sent.
_FOREIGN = {"csrf_failed", "cross_origin_blocked"}
#: Pages whose forms carry no token, since links work in a browser without cookies; and the one that has no form:
#: a cookie that it set would replace the one which a browser keeps back from another site's post.
_WITHOUT_TOKEN = frozenset({"verify", "reset_form", "email_confirm", "email_revert", "error"})
#: Pages that say in their address what was done, so that they still do when they are loaded again.
_TOLD_STATUS = {"verify_done", "email_done"}


class Pages:
    """Requests and answers of browsers, in HTML."""

    name = "html"

    def __init__(self, site: Site) -> None:
        self._site = site

    def member(self) -> Member | None:
        """Return who calls, looked up with the app's entity, which pages show."""
        sessions.current()
        return sessions.member()

    def show(self, services: Services, action: Action, form: Form) -> Outcome:
        """Run what GET shows."""
        return action.show(services, form) if action.show is not None else Outcome("form")

    def read(self, services: Services, action: Action, fixed: Mapping[str, str]) -> Form | None:
        """Return the form that the browser posted."""
        if request.content_length and request.mimetype not in FORM_TYPES:
            raise Refusal("unsupported_media_type")
        form_class = action.form if action.form is not None else Form
        return from_browser(form_class, request.form, spoken_meta(services), **fixed)

    def protect(self, services: Services, action: Action, form: Form | None) -> None:
        """Refuse a post from elsewhere. A link's page needs no token: whoever can forge the post has the link."""
        origin.check_origin(services.settings)
        if action.guard == "form":
            origin.check_token(request.form.get(origin.FIELD))

    def check(self, form: Form) -> None:
        """Validate the form."""
        check(form)

    def visit(self, services: Services, form: Form | None) -> Visit:
        """Return who calls, with the secret that this browser was given beside its first form."""
        return plain_visit(services, kind=BROWSER, nonce=session.get(sessions.NONCE))

    def answer(self, services: Services, action: Action, outcome: Outcome, form: Form | None) -> Response:
        """Return a page, or send the browser on after a change."""
        if request.method not in {"GET", "HEAD"}:
            return self._go(services, outcome, form)
        if outcome.sign_in is not None:
            sessions.begin(outcome.sign_in)
        page = outcome.template if outcome.template is not None else action.page
        return self._page(services, action, str(page), outcome=outcome, form=form)

    def _go(self, services: Services, outcome: Outcome, form: Form | None) -> Response:
        if outcome.signed_out:
            sessions.end()
        if outcome.sign_in is not None:
            sessions.begin(outcome.sign_in)
        elif outcome.email is not None:
            session[sessions.EMAIL] = outcome.email
            session[sessions.ASKED] = outcome.code == "accepted"
            if "user" in outcome.page:
                session[sessions.OWNER] = outcome.page["user"].email_key
        if outcome.page.get("link") is not None:
            session[sessions.LINK] = outcome.page["link"]
        elif sessions.LINK in session:
            del session[sessions.LINK]  # of another address, whose page was never opened
        name = outcome.go if outcome.go is not None else "me"
        if name == "me":
            session[sessions.DONE] = outcome.code  # the account page says so, once
        wanted = safe_next(outcome.next or asked_next(form), services.settings)
        address = destination(name, services.settings, wanted)
        if name in _TOLD_STATUS:
            address = url_for(f"accountflow.{name}", status=outcome.code, next=wanted)
        return send_on(address)

    def refuse(self, services: Services, action: Action | None, refusal: Refusal, form: Form | None) -> Response:
        """Return the page that says no and how to go on; a form comes back with its input."""
        if refusal.code == "authentication_required":
            return self.to_login(services)
        if refusal.code == "fresh_login_required":
            return send_on(url_for("accountflow.login_fresh", next=place(services.settings)))
        email = refusal.data.get("email") or (form["email"].data if form is not None and "email" in form else None)
        is_ours = action is not None and action.guard == "form" and refusal.code not in _FOREIGN
        if is_ours and isinstance(email, str) and len(email) <= EMAIL_LENGTH:
            session[sessions.EMAIL] = email  # the next form is filled in with it
        if refusal.go is not None:
            wanted = safe_next(asked_next(form), services.settings)
            return send_on(url_for(f"accountflow.{refusal.go}", unverified=1, next=wanted))
        status = 422 if refusal.code == "invalid_credentials" else refusal.status
        return self._refusal_page(services, action, refusal, form, status)

    def _refusal_page(
        self, services: Services, action: Action | None, refusal: Refusal, form: Form | None, status: int
    ) -> Response:
        page, keeps_form = _page_of(action, refusal)
        outcome = None
        if keeps_form and action is not None and action.guard == "link" and action.show is not None:
            try:
                outcome = action.show(services, form)  # a link's page names its owner again
            except Refusal as dead:
                return self.refuse(services, action, dead, form)
        response = self._page(services, action, page, outcome=outcome, form=form, refusal=refusal, status=status)
        return add_headers(services, response, refusal)

    def to_login(self, services: Services) -> Response:
        """Send a stranger to the login page, and afterwards back to here."""
        return send_on(login_address(services.settings, place(services.settings)))

    def _page(
        self,
        services: Services,
        action: Action | None,
        page: str,
        *,
        outcome: Outcome | None = None,
        form: Form | None = None,
        refusal: Refusal | None = None,
        status: int = 200,
    ) -> Response:
        language = spoken()
        data: dict[str, Any] = {"password_min_length": services.settings.password_min_length}
        if refusal is not None:
            data |= way_on(refusal, language)
        if outcome is not None:
            data |= {**outcome.data, **outcome.page}
        wanted = safe_next(asked_next(form), services.settings)
        if form is not None and "email" in form and not form["email"].data:
            form["email"].data = session.get(sessions.EMAIL)
        if page in EXTRAS:
            data |= EXTRAS[page](services, data)
        found = links(services, wanted)
        context = {
            **self.frame(services, language),
            **plain_names(data, found, refusal, services, language),
            "links": found,
            "form": form,
            "csrf_token": self._token(page),
            "next": wanted,
            "action": request.script_root + request.path,
            "problem": (
                None if refusal is None or page in _LINK_PAGES.values() else shown_problem(refusal, form, language)
            ),
            "data": data,
        }
        names = page_names(page, data) if services.settings.seed_aliases else [page]
        text = render_template([f"accountflow/{name}.html" for name in names], **context)
        return signed(make_response(text, status))

    def _token(self, page: str) -> str:
        """Return the token of the page's forms."""
        return "" if page in _WITHOUT_TOKEN else self.form_token()

    def form_token(self) -> str:
        """Return the token for forms of this browser, which gets its other secret beside it."""
        sessions.nonce()
        return sessions.csrf_seed()

    def frame(self, services: Services, language: Language = ENGLISH) -> dict[str, Any]:
        """Return what a page without a form has around it."""
        return {**self._site.frame(services, language), "links": links(services, None), "problem": None, "notice": None}


def _page_of(action: Action | None, refusal: Refusal) -> tuple[str, bool]:
    """Return the page of a refusal, and whether it is the action's own form."""
    if action is not None and action.guard == "link" and refusal.code in _LINK_PAGES:
        return _LINK_PAGES[refusal.code], False
    if action is not None and action.page is not None and action.form is not None and action.run is not None:
        if refusal.code in {"validation_failed", "invalid_credentials", "csrf_failed"}:
            return action.page, True
        if refusal.code in {"rate_limited", "busy"} and action.guard == "form":
            return action.page, True
    return {"rate_limited": "too_many", "busy": "busy"}.get(refusal.code, "error"), False
