"""The addresses of the blueprint, each with its flow. A new flow is one file beside this one and one line here."""

from __future__ import annotations

from ..flow import Action
from ..forms import AskForm, BearerLoginForm, LoginForm, LogoutForm, RefreshForm, ResetForm, SignupForm, VerifyForm
from . import login, logout, me, refresh, reset, signup, verify

ACTIONS: tuple[Action, ...] = (
    Action("signup", "/signup", SignupForm, show=signup.show, run=signup.run, page="signup", for_strangers=True),
    Action("signup_sent", "/signup/sent", AskForm, page="signup_sent", formats=("html",)),
    Action("resend", "/verify/resend", AskForm, run=verify.resend, page="verify_resend"),
    Action("verify_done", "/verify/done", page="verify_done", formats=("html",)),
    Action("verify_token", "/verify", VerifyForm, run=verify.run, guard="link", formats=("json",)),
    Action("verify", "/verify/<path:token>", VerifyForm, show=verify.show, run=verify.run, page="verify", guard="link"),
    Action("login", "/login", LoginForm, json_form=BearerLoginForm, run=login.run, page="login", for_strangers=True),
    Action("refresh", "/refresh", RefreshForm, run=refresh.run, formats=("json",)),
    Action("logout", "/logout", LogoutForm, run=logout.run, page="logout", uses_cookie=True),
    Action("me", "/me", show=me.show, page="account", needs_login=True),
    Action("reset_request", "/password-reset/request", AskForm, run=reset.request, page="reset_request"),
    Action("reset_sent", "/password-reset/sent", page="reset_sent", formats=("html",)),
    Action("reset_done", "/password-reset/done", page="reset_done", formats=("html",)),
    Action("reset_confirm", "/password-reset/confirm", ResetForm, run=reset.run, guard="link", formats=("json",)),
    Action(
        "reset",
        "/password-reset/<path:token>",
        ResetForm,
        show=reset.show,
        run=reset.run,
        page="reset_form",
        guard="link",
    ),
)
