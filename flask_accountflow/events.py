"""What has happened to accounts: a signal for the application, and one line in the audit log.

Signals are sent after the commit. Besides its own members each carries ``at`` (a datetime), and ``ip`` and
``user_agent`` where there is a visit. ``user_id`` is a string, or None where there is no account.

Nothing is told of a mail that was only written for the look of it, such as that of a reset for an address
without an account. Receivers run before the answer is sent, so one that takes its time shows by the time of
an answer who has an account: have it hand its work to a thread or a queue.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from datetime import datetime
from typing import Any

from blinker import Namespace

_log = logging.getLogger("accountflow.events")
_audit = logging.getLogger("accountflow.audit")

_signals = Namespace()

user_signed_up = _signals.signal("user_signed_up", "An account was made. Payload: ``user_id``.")
email_verified = _signals.signal("email_verified", "An address was proved to be its owner's. Payload: ``user_id``.")
logged_in = _signals.signal("logged_in", "A session or a token family was opened. Payload: ``user_id``.")
login_failed = _signals.signal(
    "login_failed",
    "A login was refused. Payload: ``user_id``, ``reason``, ``address_hash`` (a keyed digest of the address).",
)
logged_out = _signals.signal("logged_out", "A session was ended by its user. Payload: ``user_id``.")
password_reset = _signals.signal("password_reset", "A password was set by a mailed link. Payload: ``user_id``.")
password_changed = _signals.signal(
    "password_changed", "A password was set by its owner, who knew the one before. Payload: ``user_id``."
)
email_change_requested = _signals.signal(
    "email_change_requested", "Another address was asked for, and nothing has changed yet. Payload: ``user_id``."
)
email_changed = _signals.signal(
    "email_changed", "An account got another address, which was proved. Payload: ``user_id``."
)
email_reverted = _signals.signal(
    "email_reverted",
    "An account got an old address back, by the link in the notice; it has no password now. Payload: ``user_id``.",
)
sessions_revoked = _signals.signal(
    "sessions_revoked",
    "Sessions were ended, and not by logging out. Payload: ``user_id``, None when it was everybody's.",
)
refresh_reused = _signals.signal(
    "refresh_reused", "An old refresh token was used again, so its family was ended. Payload: ``user_id``."
)
mail_queued = _signals.signal(
    "mail_queued",
    "A mail waits for delivery; again when an operator retries it. Payload: ``user_id``, ``mail_id``, ``template``.",
)
mail_sent = _signals.signal(
    "mail_sent", "The mail server took a mail. Payload: ``user_id``, ``mail_id``, ``template``."
)
mail_failed = _signals.signal(
    "mail_failed",
    "A mail was given up, or dropped on purpose. Payload: ``user_id``, ``mail_id``, ``template``, ``reason``.",
)

# Only these are written, whatever else is sent: an account or a token that somebody adds stays out of the log.
_WRITTEN = ("at", "user_id", "reason", "address_hash", "mail_id", "template", "retry_in", "ip", "user_agent")
_PLAIN = re.compile(r"[A-Za-z0-9_.:/+-]{1,64}")
_VALUE_MAX_LENGTH = 256

_ADDRESS = re.compile(r"<?[^\s<>]+@[^\s<>]+>?")
_LINK = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
# Whatever looks like one of our tokens, also in a link that is quoted without its scheme.
_TOKEN = re.compile(r"[\w-]{16,}\.[\w.-]{16,}")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+")
_REASON_LENGTH = 255
# Code points that are looked at: the patterns take quadratic time (3 s for 16 KB without a blank), and hold up
# every thread meanwhile.
_SCRUBBED_LENGTH = 1000


def send(name: str, sender: object, **payload: Any) -> None:
    """Log the event and send its signal. A receiver's exception is logged, and the others still run."""
    signal = _signals[name]
    if _audit.isEnabledFor(logging.INFO):  # a line takes as long to make as a small part of a request
        _audit.info("%s", line(name, **payload))
    if signal.is_muted:
        return
    for receiver in signal.receivers_for(sender):
        try:
            if inspect.iscoroutinefunction(receiver):
                raise TypeError("receivers of accountflow's signals cannot be coroutine functions")
            receiver(sender, **payload)
        except Exception:
            _log.exception("A receiver of %s failed.", name)


def line(name: str, **payload: Any) -> str:
    """Return an event as a line of a log: ``key=value``, printable, without addresses and tokens."""
    written = (f"{key}={_escaped(payload[key])}" for key in _WRITTEN if key in payload)
    return " ".join((f"event={name}", *written))


def _escaped(value: Any) -> str:
    """Return ``value`` on one line of printable ASCII, so that no visitor can forge lines."""
    if value is None:
        return "-"
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    text = _redacted(text[:_VALUE_MAX_LENGTH])
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def scrub(reason: str, address: str = "") -> str:
    """Return ``reason`` on one line, without addresses, links and tokens. Mail servers repeat the recipient."""
    if len(reason) > _SCRUBBED_LENGTH:
        # Up to a blank: half an address or token is known for neither.
        reason = reason[:_SCRUBBED_LENGTH].rpartition(" ")[0] or "(an answer without end)"
    if address:
        reason = re.sub(f"<?{re.escape(address)}>?", "<address>", reason, flags=re.IGNORECASE)
    reason = _redacted(_LINK.sub("<link>", reason))
    return _UNPRINTABLE.sub(" ", reason).lstrip()[:_REASON_LENGTH].rstrip()


def _redacted(text: str) -> str:
    """Return ``text`` without addresses and tokens: a mail server's reason or a visitor's header may hold them."""
    return _ADDRESS.sub("<address>", _TOKEN.sub("<token>", text))
