"""The smallest Django project with django-allauth whose JSON clients sign up, confirm, log in and reset their password.

Settings are those of ``django-admin startproject``, without its administration, and what the documentation of allauth
says for its headless API. What is not as delivered:

- Passwords are hashed by bcrypt, at the cost of the conditions; as delivered it is PBKDF2.
- An address must be confirmed before a login, and is what people log in with. Users have no other name: for Django's
  own user, each sign-up would look for a free one among all.
- The limits per address of a client are high, because all clients of the benchmark have one. Their span is a second:
  allauth keeps the time of every request in it, and would else read and write a long list for each.
- Database connections are kept, and SQLite takes its write lock at the start of a transaction, as Django recommends.

Sessions, in the database as delivered, are what the tokens of its clients stand for; so there is nothing to refresh.
Limits are counted in the memory of each process, which is Django's cache as delivered.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import django
from django.conf import settings
from django.contrib.auth.hashers import BCryptSHA256PasswordHasher
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.urls import include, path

from benchmarks.adapters.base import conditions
from benchmarks.apps.sqlite_pragmas import PRAGMAS

_given = conditions()


class Bcrypt(BCryptSHA256PasswordHasher):
    """Bcrypt at the cost of the conditions."""

    rounds = _given.rounds


def _database() -> dict:
    found = urlsplit(_given.database)
    if found.scheme == "sqlite":
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": found.path[1:],
            "OPTIONS": {
                "timeout": 30,
                "transaction_mode": "IMMEDIATE",
                "init_command": "; ".join(f"PRAGMA {pragma}" for pragma in PRAGMAS),
            },
        }
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": found.path[1:],
        "USER": found.username,
        "PASSWORD": found.password or "",
        "HOST": found.hostname,
        "PORT": found.port or "",
    }


def _mail() -> dict:
    """Return how mail is sent: one setting from Django 6.1 on, and several in those for Python before 3.12."""
    if django.VERSION < (6, 1):
        return {"EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": _given.smtp_port}
    options = {"host": "127.0.0.1", "port": _given.smtp_port}
    return {"MAILERS": {"default": {"BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": options}}}


_MANY = "1000000/s/ip"
_VALIDATORS = ("UserAttributeSimilarity", "MinimumLength", "CommonPassword", "NumericPassword")

settings.configure(
    SECRET_KEY="0123456789abcdef0123456789abcdef0123456789abcdef01",
    ALLOWED_HOSTS=[urlsplit(_given.base_url).hostname],
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "allauth",
        "allauth.account",
        "allauth.headless",
        "benchmarks.apps.allauth_user",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
        "allauth.account.middleware.AccountMiddleware",
    ],
    ROOT_URLCONF=__name__,
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ],
            },
        },
    ],
    DATABASES={"default": {**_database(), "CONN_MAX_AGE": None}},
    PASSWORD_HASHERS=[f"{__name__}.Bcrypt"],
    AUTH_PASSWORD_VALIDATORS=[
        {"NAME": f"django.contrib.auth.password_validation.{name}Validator"} for name in _VALIDATORS
    ],
    AUTH_USER_MODEL="allauth_user.User",
    AUTHENTICATION_BACKENDS=["allauth.account.auth_backends.AuthenticationBackend"],
    **_mail(),
    DEFAULT_FROM_EMAIL="accounts@example.com",
    SESSION_COOKIE_SECURE=True,
    CSRF_COOKIE_SECURE=True,
    ACCOUNT_USER_MODEL_USERNAME_FIELD=None,
    ACCOUNT_LOGIN_METHODS={"email"},
    ACCOUNT_SIGNUP_FIELDS=["email*", "password1*"],
    ACCOUNT_EMAIL_VERIFICATION="mandatory",
    # The owner is told of a new password, as in the other apps.
    ACCOUNT_EMAIL_NOTIFICATIONS=True,
    ACCOUNT_RATE_LIMITS={
        "signup": _MANY,
        "login": _MANY,
        "login_failed": f"{_MANY},5/300s/key",
        "reset_password": f"{_MANY},5/m/key",
        "reset_password_from_key": _MANY,
    },
    HEADLESS_CLIENTS=("app",),
    HEADLESS_FRONTEND_URLS={
        "account_confirm_email": f"{_given.base_url}/verify-email/{{key}}",
        "account_reset_password": f"{_given.base_url}/password/reset",
        "account_reset_password_from_key": f"{_given.base_url}/password/reset/{{key}}",
        "account_signup": f"{_given.base_url}/signup",
    },
)
application = get_wsgi_application()

urlpatterns = [
    path("accounts/", include("allauth.urls")),
    path("_allauth/", include("allauth.headless.urls")),
]

if __name__ == "__main__":
    call_command("migrate", run_syncdb=True, verbosity=0)
