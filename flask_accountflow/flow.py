"""The words in which flows speak: what they are given and what they return.

A flow is a function ``(services, form) -> Outcome``, or it raises a :exc:`.Refusal`. It holds
policy only: no cryptography, no SQL, no HTTP.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

from wtforms import Form

from .access_tokens import AccessTokens
from .breaches import unchecked
from .errors import PROBLEMS, FieldFault, InvalidToken, Problem, Refusal
from .identity import Address
from .link_addresses import LinkAddresses
from .messages import noted
from .passwords import Hasher, PasswordPolicy
from .rules import DAY
from .settings import Settings
from .store import Store
from .store.accounts import Account
from .store.outbox import RETURNED, Draft, Posted
from .store.sessions import API, BROWSER, Login
from .throttle import Reservation, Throttle
from .tokens import Devices, Links, RefreshTokens

T = TypeVar("T")


@dataclass(frozen=True)
class Visit:
    """Who calls, and from where. The default is nobody: a verb called without a request."""

    #: The client's address as the app sees it, and the network it is counted under.
    ip: str | None = None
    network: str = "none"
    user_agent: str | None = None
    locale: str | None = None
    #: A secret of this browser, by which a link finds out whether it comes back to where it was asked for.
    nonce: str | None = None
    #: What this browser keeps of its last login, not yet read.
    device: str | None = None
    #: The login that this visit shows, not yet looked up.
    login_id: uuid.UUID | None = None
    #: Who it is, where an action needs a login.
    account: Account | None = None
    #: ``browser`` opens a session by cookie, ``api`` a pair of tokens.
    kind: str = BROWSER
    #: The origin of mailed links while there is no BASE_URL (debug and testing only).
    origin: str | None = None


@dataclass(frozen=True)
class Services:
    """Everything that flows use, for one app. Nothing here changes after ``init_app``."""

    settings: Settings
    store: Store
    hasher: Hasher
    policy: PasswordPolicy
    links: Links
    addresses: LinkAddresses
    access_tokens: AccessTokens
    refresh_tokens: RefreshTokens
    devices: Devices
    throttle: Throttle
    clock: Callable[[], datetime]
    emit: Callable[..., None]
    kick: Callable[[], None]
    on_signup: Callable[[Any, Form], None]
    #: Whether a password is known from a breach. It answers in time, whatever it asks.
    is_breached: Callable[[str], bool] = unchecked
    #: Names of the columns that the app's own sign-up form fills.
    host_fields: tuple[str, ...] = ()
    visit: Visit = Visit()
    #: Whether units are committed even when the host had uncommitted writes: routes, command line, worker.
    own: bool = False

    def unit(self, work: Callable[[], T]) -> T:
        """Run ``work`` as one unit of work and return what it returns."""
        return self.store.units.run(work, own=self.own)

    def hash(self, password: str) -> str:
        """Return what to store of a password. It takes long, so others may have the connection meanwhile.

        Raises a ``busy`` :exc:`.Refusal` when too many passwords are being hashed.
        """
        self.store.units.release()
        return self.hasher.hash(password)

    def check(self, password: str, stored: str | None) -> bool:
        """Tell whether ``stored`` is of ``password``. It takes as long as :meth:`hash`, and raises like it."""
        self.store.units.release()
        (right,) = self.hasher.check(password, stored)
        return right

    def announce(self, event: str, **payload: Any) -> None:
        """Send a signal once the unit of work is durable."""
        details = {**self.details(), **payload}
        self.store.units.after_commit(lambda: self.emit(event, **details))

    def tell(self, event: str, **payload: Any) -> None:
        """Send a signal now, about something that wrote nothing."""
        self.emit(event, **{**self.details(), **payload})

    def details(self) -> dict[str, Any]:
        """Return what every signal carries: when, and from where."""
        return {"at": self.clock(), "ip": self.visit.ip, "user_agent": self.visit.user_agent}

    def post(self, draft: Draft) -> str | None:
        """Write a mail with its link in this unit of work; it is sent once the unit is durable.

        Where the answer is to hold the link instead, nothing is mailed and its address is returned.
        """
        now, draft = self.clock(), replace(draft, is_returned=self.settings.return_token_in_response)
        posted = self.store.outbox.post(draft, now)
        self._queued(draft, posted)
        if posted.dropped != RETURNED or posted.link_id is None or not draft.carries_link:
            return None
        return self.addresses.link(str(draft.purpose), posted.link_id, now, self.visit.origin)

    def notify(self, draft: Draft) -> None:
        """Write a notice in this unit of work; no cap holds it back."""
        is_returned = self.settings.return_token_in_response and not draft.by_operator
        self._queued(draft, self.store.outbox.notify(replace(draft, is_returned=is_returned), self.clock()))

    def _queued(self, draft: Draft, posted: Posted) -> None:
        if posted.dropped is None:
            user_id = None if draft.account is None else str(draft.account.id)
            self.announce("mail_queued", user_id=user_id, mail_id=posted.mail_id, template=draft.template)
            self.store.units.after_commit(self.kick)

    def mail_context(self) -> dict[str, str]:
        """Return what a mail must remember of this visit: nothing, once there is a BASE_URL."""
        return {} if self.settings.base_url is not None or self.visit.origin is None else {"origin": self.visit.origin}

    def locale_of(self, account: Account | None) -> str | None:
        """Return the language of a mail: its recipient's, or else the visitor's."""
        return account.locale if account is not None and account.locale else self.visit.locale

    def person(self) -> Account:
        """Return whose login this visit shows. Raises an ``authentication_required`` :exc:`.Refusal`."""
        if self.visit.account is None:
            raise Refusal("authentication_required")
        return self.visit.account

    def password_fault(self, password: str, *, email: str | None, field: str = "password") -> FieldFault | None:
        """Return why a new password is refused, or None. Where it asks another service it does so last, and once."""
        fault = self.policy.fault(password, email=email)
        if fault is None:
            self.store.units.release()  # that service may take its time
            if self.is_breached(password):
                detail = noted("This password was in a data breach. Use another one.")
                fault = FieldFault("password", "breached", detail)
        return None if fault is None else replace(fault, field=field)

    def reserve_login(self, address: Address) -> Reservation:
        """Count a password that is tried for an address.

        A browser that has logged in there before has a count of its own, which strangers cannot use up. When it has
        used that up itself it is counted like any other. Raises a ``rate_limited`` :exc:`.Refusal`.
        """
        network = self.visit.network
        if self.visit.device is not None:
            with suppress(InvalidToken, Refusal):
                device = self.devices.read(self.visit.device, address.key, self.clock())
                return self.throttle.reserve(login=f"{address.key} {device}", login_ip=network)
        return self.throttle.reserve(login=address.key, login_ip=network)

    def open_login(self, account: Account, *, remember: bool) -> SignIn:
        """Open a login for this visit: a session for a browser, a refresh family for a program."""
        now, settings = self.clock(), self.settings
        if self.visit.kind == API:
            life = settings.refresh_token_max_age
        else:
            # NIST SP 800-63B-4 section 2.2.3: a day for what is not remembered.
            life = settings.session_max_age if remember else min(settings.session_max_age, DAY)
        login = self.store.sessions.open(
            account.id,
            account.stamp,
            kind=self.visit.kind,
            remember=remember,
            now=now,
            expires_at=now + timedelta(seconds=life),
            ip=self.visit.ip,
            user_agent=self.visit.user_agent,
        )
        self.announce("logged_in", user_id=str(account.id))
        return SignIn(login, account)

    def since(self, seconds: int) -> datetime:
        """Return the moment so many seconds ago."""
        return self.clock() - timedelta(seconds=seconds)


@dataclass(frozen=True)
class SignIn:
    """A login that was opened; ``web`` turns it into a cookie or a pair of tokens."""

    login: Login
    account: Account


@dataclass(frozen=True)
class Outcome:
    """What a flow did. One value for every format."""

    code: str
    #: Members of the JSON answer, and the page's ``data``.
    data: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    #: The endpoint or address that a browser is sent to.
    go: str | None = None
    #: The page to show instead of the action's own.
    template: str | None = None
    #: Where the visitor wanted to go, when it was kept on the server.
    next: str | None = None
    sign_in: SignIn | None = None
    #: What only pages need, beside ``data``.
    page: Mapping[str, Any] = field(default_factory=dict)
    #: Whether the visitor's own login ended.
    signed_out: bool = False
    #: The address that the visitor typed, to be shown on the next page and put into the next form.
    email: str | None = None


Flow = Callable[[Services, Any], Outcome]
#: How a browser's POST is protected: by the form's token, or by the secret in the link.
Guard = Literal["form", "link"]
#: What an answer looks like: the name of one of ours in ``web/schemas.py``, or a JSON schema.
Schema = str | Mapping[str, Any]


@dataclass(frozen=True)
class Contract:
    """What the flows of an action answer a program; the description of the API is made from it.

    What follows from the form and from the kind of the action is not said again.
    """

    #: What ``show`` answers with 200; None where it only refuses.
    shows: Schema | None = field(default_factory=dict)
    #: What ``run`` answers, by HTTP status; None stands for an answer without a body.
    answers: Mapping[int, Schema | None] = field(default_factory=lambda: {200: {}})
    #: What both of them may refuse.
    refusals: Mapping[str, Problem] = field(default_factory=dict)
    #: Whether ``run`` counts tries.
    throttled: bool = False


def refusals(*codes: str, **others: Problem) -> Mapping[str, Problem]:
    """Return problems by code: those of the closed list, and ``others`` that say the same code in other words."""
    return {**{code: PROBLEMS[code] for code in codes}, **others}


@dataclass(frozen=True)
class Action:
    """One address of the blueprint: what GET shows and what POST does, in both formats."""

    name: str
    rule: str
    #: Builds the form that POST is read with.
    form: type[Form] | None = None
    #: What a program's POST is read with, where it may say more than a person.
    json_form: type[Form] | None = None
    show: Flow | None = None
    run: Flow | None = None
    #: The page of GET, and of a refused POST. GET is served with a page or with ``show``, which fills it.
    page: str | None = None
    guard: Guard = "form"
    formats: tuple[str, ...] = ("html", "json")
    #: The HTTP method that ``run`` serves.
    method: str = "POST"
    #: The name of a switch in the settings by which opening the page in a browser runs the action.
    opening_runs: str | None = None
    #: Whether a stranger is sent to the login page, and refused as a program.
    needs_login: bool = False
    #: Whether only an administrator is let in.
    needs_admin: bool = False
    #: Whether a person who is logged in is sent on.
    for_strangers: bool = False
    #: Whether a JSON caller's session cookie counts, so that it must bring the CSRF token.
    uses_cookie: bool = False
    #: What a program may be answered, where that depends on the settings as a function of them.
    contract: Contract | Callable[[Settings], Contract] = field(default=Contract(), hash=False)

    def __post_init__(self) -> None:
        # An administrator is somebody who is logged in, and what a cookie's owner may do takes the CSRF token.
        if self.needs_admin:
            object.__setattr__(self, "needs_login", True)
        if self.needs_login and self.run is not None and "json" in self.formats:
            object.__setattr__(self, "uses_cookie", True)

    def promises(self, settings: Settings) -> Contract:
        """Return what a program may be answered under these settings."""
        return self.contract(settings) if callable(self.contract) else self.contract
