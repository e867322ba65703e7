"""Asking a service whether a password is known from a breach, without ever depending on it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger("accountflow.passwords")

#: An answer that takes longer than this, in seconds, is none: a person is waiting.
PATIENCE = 2.0

# Questions that hang keep their thread; beyond so many nobody is asked any more.
_AT_ONCE = 8


class BreachCheck:
    """Asks ``ask``, which returns True for a password that was in a breach. It may be slow, fail or hang.

    No answer within ``patience`` seconds, or an exception, counts as a no and is logged: whoever signs up
    is not to blame for it (OWASP ASVS 5.0, 6.2.12 asks for the check, not for its success).
    """

    def __init__(self, ask: Callable[[str], bool], patience: float = PATIENCE) -> None:
        self._ask = ask
        self._patience = patience
        self._room = threading.BoundedSemaphore(_AT_ONCE)

    def __call__(self, password: str) -> bool:
        """Tell whether the password was in a breach, as far as that is known."""
        if not self._room.acquire(blocking=False):
            _log.warning("The breach check was left out: %s earlier ones have not come back.", _AT_ONCE)
            return False
        answers: list[bool] = []
        thread = threading.Thread(target=self._work, args=(password, answers), name="accountflow-breaches", daemon=True)
        thread.start()
        thread.join(self._patience)
        if thread.is_alive():
            _log.warning("The breach check has not answered within %s s; the password was accepted.", self._patience)
        return answers == [True]

    def _work(self, password: str, answers: list[bool]) -> None:
        try:
            answers.append(bool(self._ask(password)))
        except Exception as error:  # whatever an app's check raises; its text may hold the password
            _log.warning("The breach check failed (%s); the password was accepted.", type(error).__name__)
        finally:
            self._room.release()


def unchecked(password: str) -> bool:
    """Say no: the app has no breach check."""
    return False
