"""The addresses of the blueprint, each with its flow. A new flow is one file beside this one and one line here."""

from __future__ import annotations

from dataclasses import replace

from ..errors import BAD_TOKEN
from ..flow import Action, Contract, refusals
from ..forms import (
    AskForm,
    BearerLoginForm,
    CreateUserForm,
    DeviceForm,
    EmailChangeForm,
    FreshForm,
    LinkForm,
    LoginForm,
    LogoutForm,
    PasswordChangeForm,
    RefreshForm,
    ResetForm,
    SignupForm,
    TestMailForm,
    VerifyForm,
)
from . import admin, change_email, change_password, fresh, login, logout, me, refresh, reset, sessions, signup, verify

_JSON, _HTML = ("json",), ("html",)
_NOTHING = Contract(answers={204: None})
_DEAD_LINKS = refusals("token_invalid", "token_expired", "token_used", "token_superseded")

_VERIFY = Action(
    "verify",
    "/verify/<accountflow_token:token>",
    VerifyForm,
    show=verify.show,
    run=verify.run,
    page="verify",
    guard="link",
    opening_runs="verify_on_get",
    contract=Contract(
        shows="LinkState",
        answers={200: "Verified"},
        refusals=refusals("token_invalid", "token_expired", "token_superseded"),
        throttled=True,
    ),
)
_RESEND = Action(
    "resend",
    "/verify/resend",
    AskForm,
    run=verify.resend,
    page="verify_resend",
    contract=Contract(answers={202: "Accepted"}, throttled=True),
)

ACTIONS: tuple[Action, ...] = (
    Action(
        "signup",
        "/signup",
        SignupForm,
        show=signup.show,
        run=signup.run,
        page="signup",
        for_strangers=True,
        contract=signup.contract,
    ),
    Action("signup_sent", "/signup/sent", AskForm, page="signup_sent", formats=_HTML),
    _RESEND,
    Action("verify_done", "/verify/done", page="verify_done", formats=_HTML),
    Action(
        "verify_token", "/verify", VerifyForm, run=verify.run, guard="link", formats=_JSON, contract=_VERIFY.contract
    ),
    _VERIFY,
    Action(
        "login",
        "/login",
        LoginForm,
        json_form=BearerLoginForm,
        run=login.run,
        page="login",
        for_strangers=True,
        contract=Contract(
            answers={200: "Session"},
            refusals=refusals("invalid_credentials", "email_unverified", "account_disabled"),
            throttled=True,
        ),
    ),
    Action(
        "login_fresh",
        "/login/fresh",
        FreshForm,
        run=fresh.run,
        page="login_fresh",
        needs_login=True,
        uses_cookie=True,
        contract=Contract(answers={200: "Session"}, throttled=True),
    ),
    Action(
        "refresh",
        "/refresh",
        RefreshForm,
        run=refresh.run,
        formats=_JSON,
        contract=Contract(
            answers={200: "Session"},
            refusals=refusals("email_unverified", "account_disabled", token_invalid=BAD_TOKEN),
            throttled=True,
        ),
    ),
    Action("logout", "/logout", LogoutForm, run=logout.run, page="logout", uses_cookie=True, contract=_NOTHING),
    Action("me", "/me", show=me.show, page="account", needs_login=True, contract=Contract(shows="User")),
    Action(
        "sessions",
        "/sessions",
        show=sessions.show,
        run=sessions.end_others,
        method="DELETE",
        formats=_JSON,
        needs_login=True,
        uses_cookie=True,
        contract=Contract(shows="Sessions", answers={204: None}),
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
        contract=Contract(answers={204: None}, refusals=refusals(not_found=sessions.NO_LOGIN)),
    ),
    Action("end_session", "/sessions/<id>/end", DeviceForm, run=sessions.end_listed, formats=_HTML, needs_login=True),
    Action("end_other_sessions", "/sessions/end-others", run=sessions.end_others, formats=_HTML, needs_login=True),
    Action(
        "reset_request",
        "/password-reset/request",
        AskForm,
        run=reset.request,
        page="reset_request",
        contract=Contract(answers={202: "Accepted"}, throttled=True),
    ),
    Action("reset_sent", "/password-reset/sent", page="reset_sent", formats=_HTML),
    Action("reset_done", "/password-reset/done", page="reset_done", formats=_HTML),
    Action(
        "reset_confirm",
        "/password-reset/confirm",
        ResetForm,
        run=reset.run,
        guard="link",
        formats=_JSON,
        contract=reset.contract,
    ),
    Action(
        "reset",
        "/password-reset/<accountflow_token:token>",
        ResetForm,
        show=reset.show,
        run=reset.run,
        page="reset_form",
        guard="link",
        contract=reset.contract,
    ),
    Action(
        "password_change",
        "/password/change",
        PasswordChangeForm,
        run=change_password.run,
        page="password_change",
        needs_login=True,
        contract=Contract(answers={200: "Session"}, throttled=True),
    ),
    Action(
        "email_change",
        "/email/change",
        EmailChangeForm,
        run=change_email.request,
        page="email_change",
        needs_login=True,
        contract=Contract(answers={202: "EmailChange"}, throttled=True),
    ),
    Action(
        "email_change_sent",
        "/email/change/sent",
        show=change_email.show_pending,
        page="email_change_sent",
        formats=_HTML,
        needs_login=True,
    ),
    Action("email_change_cancel", "/email/change/cancel", run=change_email.cancel, needs_login=True, contract=_NOTHING),
    Action(
        "email_confirm",
        "/email/confirm/<accountflow_token:token>",
        LinkForm,
        show=change_email.show_confirm,
        run=change_email.confirm,
        page="email_confirm",
        guard="link",
        contract=Contract(shows="EmailLinkState", answers={200: "User"}, refusals=_DEAD_LINKS, throttled=True),
    ),
    Action(
        "email_revert",
        "/email/revert/<accountflow_token:token>",
        LinkForm,
        show=change_email.show_revert,
        run=change_email.revert,
        page="email_revert",
        guard="link",
        contract=Contract(shows="EmailLinkState", answers={200: "Reverted"}, refusals=_DEAD_LINKS, throttled=True),
    ),
    Action("email_done", "/email/done", page="email_done", formats=_HTML),
    Action(
        "admin_users",
        "/admin/users",
        CreateUserForm,
        run=admin.create_user,
        formats=_JSON,
        needs_login=True,
        needs_admin=True,
        uses_cookie=True,
        contract=Contract(answers={201: "NewUser"}, refusals=refusals("email_taken")),
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
        contract=Contract(answers={202: "TestMail"}, throttled=True),
    ),
)

#: The paths of the tempest SDK's bundled flow that are not ours, served when ACCOUNTFLOW_SEED_ALIASES is on.
SEED_ALIASES: tuple[Action, ...] = (
    replace(
        _VERIFY,
        name="activate",
        rule="/activate/<accountflow_token:token>",
        show=verify.show_once,
        run=verify.run_once,
        contract=Contract(
            shows="LinkState",
            answers={200: "Verified"},
            refusals=_DEAD_LINKS,
            throttled=True,
        ),
    ),
    replace(_RESEND, name="activation_request", rule="/activation/request"),
)
