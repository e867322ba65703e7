"""Sites that are set up as the SDK's document says, mode by mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from support import BASE_URL, Site

MakeSite = Callable[..., Site]

#: What makes a client of the SDK feel at home.
AT_HOME: Mapping[str, Any] = {
    "ACCOUNTFLOW_SEED_ALIASES": True,
    "ACCOUNTFLOW_LOGIN_ON_VERIFY": "always",
    "ACCOUNTFLOW_LOGIN_ON_RESET": "always",
    "ACCOUNTFLOW_VERIFY_ON_GET": True,
}
FRONT_END: Mapping[str, Any] = {
    "ACCOUNTFLOW_VERIFY_URL": "https://app.example.com/activate?token={token}",
    "ACCOUNTFLOW_RESET_URL": "https://app.example.com/reset?token={token}",
}
LOCAL_FRONT_END: Mapping[str, Any] = {
    "ACCOUNTFLOW_VERIFY_URL": "http://localhost:5173/activate?token={token}",
    "ACCOUNTFLOW_RESET_URL": "http://localhost:5173/reset?token={token}",
}
BACK_END: Mapping[str, Any] = {
    "ACCOUNTFLOW_VERIFY_URL": BASE_URL + "/auth/activate/{token}",
    "ACCOUNTFLOW_RESET_URL": BASE_URL + "/auth/password-reset/{token}",
}
LINK_IN_BODY: Mapping[str, Any] = {"ACCOUNTFLOW_RETURN_TOKEN_IN_RESPONSE": True, **LOCAL_FRONT_END}
AT_ONCE: Mapping[str, Any] = {"ACCOUNTFLOW_AUTO_ACTIVATE": True}
DEV_LOCAL: Mapping[str, Any] = {"DEBUG": True, "ACCOUNTFLOW_EMAIL_ALLOW_SPECIAL": True}

#: The five modes of the document, by what is added to :data:`AT_HOME`. B is A with another mail server.
MODES: Mapping[str, Mapping[str, Any]] = {
    "A": FRONT_END,
    "C": {**LINK_IN_BODY, **DEV_LOCAL},
    "D": AT_ONCE,
    "E": {**BACK_END, "ACCOUNTFLOW_LOGIN_URL": "https://app.example.com/login"},
}
#: A configuration as in production. Of what is refused there, only the cheap hash is one of our tests' own.
PRODUCTION: Mapping[str, Any] = {"TESTING": False, "DEBUG": False, "ACCOUNTFLOW_BCRYPT_ROUNDS": 10}


def sdk_site(make_site: MakeSite, *settings: Mapping[str, Any], **parts: Any) -> Site:
    """Return a site for clients of the SDK, with these settings."""
    config = dict(AT_HOME)
    for one in settings:
        config |= one
    return make_site(config, **parts)
