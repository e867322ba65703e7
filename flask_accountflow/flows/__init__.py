"""The addresses of the blueprint, each with its flow. A new flow is one file beside this one and one line here."""

from __future__ import annotations

from dataclasses import replace

from ..flow import Action
from ..forms import (
    AskForm,
    BearerLoginForm,
    CreateUserForm,
    DeviceForm,
    FreshForm,
    LoginForm,
    LogoutForm,
    RefreshForm,
    ResetForm,
    SignupForm,
    TestMailForm,
    VerifyForm,
)
from . import admin, fresh, login, logout, me, refresh, reset, sessions, signup, verify

_JSON, _HTML = ("json",), ("html",)

_VERIFY = Action(
    "verify",
    "/verify/<path:token>",
    VerifyForm,
    show=verify.show,
    run=verify.run,
    page="verify",
    guard="link",
    opening_runs="verify_on_get",
)
_RESEND = Action("resend", "/verify/resend", AskForm, run=verify.resend, page="verify_resend")

ACTIONS: tuple[Action, ...] = (
    Action("signup", "/signup", SignupForm, show=signup.show, run=signup.run, page="signup", for_strangers=True),
    Action("signup_sent", "/signup/sent", AskForm, page="signup_sent", formats=_HTML),
    _RESEND,
    Action("verify_done", "/verify/done", page="verify_done", formats=_HTML),
    Action("verify_token", "/verify", VerifyForm, run=verify.run, guard="link", formats=_JSON),
    _VERIFY,
    Action("login", "/login", LoginForm, json_form=BearerLoginForm, run=login.run, page="login", for_strangers=True),
    Action(
        "login_fresh", "/login/fresh", FreshForm, run=fresh.run, page="login_fresh", needs_login=True, uses_cookie=True
    ),
    Action("refresh", "/refresh", RefreshForm, run=refresh.run, formats=_JSON),
    Action("logout", "/logout", LogoutForm, run=logout.run, page="logout", uses_cookie=True),
    Action("me", "/me", show=me.show, page="account", needs_login=True),
    Action(
        "sessions",
        "/sessions",
        show=sessions.show,
        run=sessions.end_others,
        method="DELETE",
        formats=_JSON,
        needs_login=True,
        uses_cookie=True,
    ),
    Action(
        "session",
        "/sessions/<id>",
        DeviceForm,
        run=sessions.end,
        method="DELETE",
        formats=_JSON,
        needs_login=True,
        uses_cookie=True,
    ),
    Action("end_session", "/sessions/<id>/end", DeviceForm, run=sessions.end, formats=_HTML, needs_login=True),
    Action("end_other_sessions", "/sessions/end-others", run=sessions.end_others, formats=_HTML, needs_login=True),
    Action("reset_request", "/password-reset/request", AskForm, run=reset.request, page="reset_request"),
    Action("reset_sent", "/password-reset/sent", page="reset_sent", formats=_HTML),
    Action("reset_done", "/password-reset/done", page="reset_done", formats=_HTML),
    Action("reset_confirm", "/password-reset/confirm", ResetForm, run=reset.run, guard="link", formats=_JSON),
    Action(
        "reset",
        "/password-reset/<path:token>",
        ResetForm,
        show=reset.show,
        run=reset.run,
        page="reset_form",
        guard="link",
    ),
    Action(
        "admin_users",
        "/admin/users",
        CreateUserForm,
        run=admin.create_user,
        formats=_JSON,
        needs_login=True,
        needs_admin=True,
        uses_cookie=True,
    ),
    Action(
        "admin_test_mail",
        "/admin/test-mail",
        TestMailForm,
        run=admin.send_test_mail,
        formats=_JSON,
        needs_login=True,
        needs_admin=True,
        uses_cookie=True,
    ),
)

#: The paths of the tempest SDK's bundled flow that are not ours, served when ACCOUNTFLOW_SEED_ALIASES is on.
SEED_ALIASES: tuple[Action, ...] = (
    replace(_VERIFY, name="activate", rule="/activate/<path:token>"),
    replace(_RESEND, name="activation_request", rule="/activation/request"),
)
