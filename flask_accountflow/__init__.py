"""Accounts for Flask: sign-up, email confirmation, login and password reset, as pages and as a JSON API."""

from .errors import AccountFlowError as AccountFlowError
from .errors import ConfigError as ConfigError
from .extension import AccountFlow as AccountFlow
from .models import UserMixin as UserMixin
from .sessions import current_user as current_user
from .web.guards import admin_required as admin_required
from .web.guards import fresh_login_required as fresh_login_required
from .web.guards import login_required as login_required
from .web.guards import verified_required as verified_required
