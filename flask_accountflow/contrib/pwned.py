"""Pwned Passwords, or a mirror of it: is a password known from a breach?

    accounts = AccountFlow(db=db, user_model=User, breach_check=PwnedPasswords())

The service sees the first five of forty digits of the password's SHA-1 and answers with all that begin like
this, several hundred: it does not learn which one was meant (k-anonymity).
"""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

# An answer has 800 to 1,000 lines of about 40 bytes.
_LONGEST_ANSWER = 1_000_000


class PwnedPasswords:
    """Asks the service at ``url``. ``least`` is how often a password must have been seen to be refused.

    ``timeout`` is for each step of the connection, in seconds. Raises what ``urllib`` raises, and
    :exc:`ValueError` for an answer that is none; :class:`.BreachCheck` takes that for a no.
    """

    def __init__(
        self, url: str = "https://api.pwnedpasswords.com/range/", *, least: int = 1, timeout: float = 2.0
    ) -> None:
        if urlsplit(url).scheme not in {"https", "http"}:
            raise ValueError("url must start with https:// (or http://, for a mirror on this machine)")
        self._url = url
        self._least = least
        self._timeout = timeout

    def __call__(self, password: str) -> bool:
        """Tell whether the password has been seen ``least`` times in breaches."""
        digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
        # Padding hides from whoever counts bytes on the line how many passwords begin like this one.
        request = Request(self._url + digest[:5], headers={"Add-Padding": "true", "User-Agent": "flask-accountflow"})
        with urlopen(request, timeout=self._timeout) as answer:
            text = answer.read(_LONGEST_ANSWER).decode("ascii")
        seen = dict(line.split(":") for line in text.split())
        return int(seen.get(digest[5:], 0)) >= self._least
