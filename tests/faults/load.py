"""Clients that ask for mails at a steady rate, and what there is to show for it afterwards."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from itertools import count

from faults.sink import Copy
from support import PASSWORD

# So many clients can wait for an answer at once.
_CLIENTS = 12
# Seconds. An answer takes hundredths of one; a client whose server is killed is told at once.
_PATIENCE = 30

SIGNUP, FORGOTTEN = "signup", "forgotten"
_PATHS = {SIGNUP: "/auth/signup", FORGOTTEN: "/auth/password-reset/request"}


@dataclass
class Ledger:
    """What clients saw. Each address asks once."""

    #: What was asked, by the address that was answered with a success.
    accepted: dict[str, str] = field(default_factory=dict)
    #: The status, by the address that was answered with anything else.
    refused: dict[str, int] = field(default_factory=dict)
    #: Addresses that were not answered: the connection broke. Their mail may come or not.
    unanswered: set[str] = field(default_factory=set)


class Load:
    """Signs up at an app, and forgets passwords there, so many times a second, until it is stopped.

    ``members`` have an account, and each of them can forget the password once.
    """

    def __init__(self, port: int, rate: float, members: Sequence[str]) -> None:
        self.ledger = Ledger()
        self._port = port
        self._rate = rate
        self._members = iter(members)
        self._numbers = count()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._visit, daemon=True) for _ in range(_CLIENTS)]

    def __enter__(self) -> Load:
        self._begun = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(_PATIENCE)

    def _visit(self) -> None:
        for number in self._numbers:
            due = self._begun + number / self._rate
            if self._over.wait(max(0.0, due - time.monotonic())):
                return
            member = next(self._members, None) if number % 2 else None
            if member is not None:
                self._ask(FORGOTTEN, member)
            else:
                self._ask(SIGNUP, f"{uuid.uuid4().hex}@example.com")

    def _ask(self, kind: str, email: str) -> None:
        values = {"email": email, "password": PASSWORD} if kind == SIGNUP else {"email": email}
        headers = {"Accept": "application/json", "Content-Type": "application/json", "Connection": "close"}
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_PATIENCE)
        try:
            connection.request("POST", _PATHS[kind], json.dumps(values), headers)
            response = connection.getresponse()
            # An answer whose body is cut short is no answer.
            response.read()
        except (OSError, HTTPException):
            self.ledger.unanswered.add(email)
        else:
            if response.status < 300:
                self.ledger.accepted[email] = kind
            else:
                self.ledger.refused[email] = response.status
        finally:
            connection.close()


@dataclass(frozen=True)
class Tally:
    """What clients were answered, against what has arrived."""

    lost: list[str]
    #: Addresses that have a mail although they were answered with an error.
    unfounded: list[str]
    #: Addresses whose copies are not one and the same mail, with one and the same link.
    different: list[str]
    extra: int
    most: int

    @classmethod
    def of(cls, ledger: Ledger, copies: Iterable[Copy]) -> Tally:
        """Count."""
        arrived: dict[str, list[Copy]] = defaultdict(list)
        for copy in copies:
            arrived[copy.recipient].append(copy)
        kinds = {email: {(copy.message_id, copy.link) for copy in found} for email, found in arrived.items()}
        return cls(
            lost=sorted(set(ledger.accepted) - set(arrived)),
            unfounded=sorted(set(ledger.refused) & set(arrived)),
            different=[email for email, found in kinds.items() if len(found) > 1],
            extra=sum(len(found) - 1 for found in arrived.values()),
            most=max(map(len, arrived.values()), default=0),
        )
