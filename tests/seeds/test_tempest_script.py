"""A client that was written by the tempest SDK's document runs unchanged: its requests, recorded and replayed."""

from __future__ import annotations

from typing import Any

import pytest
from support import Site
from tempest_replay import SCRIPT, Answer, Replay, Request
from tempest_sites import MODES, MakeSite, sdk_site

#: What curl and requests send, what axios sends, and what says it all.
ACCEPTS = ["*/*", "application/json, text/plain, */*", "application/json"]


class Client:
    """A client of the SDK, and the browser of a person who opens links."""

    def __init__(self, site: Site, accept: str) -> None:
        self._site = site
        self._accept = accept
        self._program = site.app.test_client(use_cookies=False)
        self._browser = site.app.test_client()

    def send(self, request: Request) -> Answer:
        """Send a request of the script. Only browsers follow redirects."""
        client, accept = (self._browser, "text/html") if request.page else (self._program, self._accept)
        body: dict[str, Any] = {} if request.json is None else {"json": request.json}
        response = client.open(
            request.path,
            method=request.method,
            data=request.form,
            headers={"Accept": accept},
            follow_redirects=request.page,
            **body,
        )
        return Answer(response.status_code, response.get_json(silent=True))

    def mailed_link(self) -> str:
        """Return the link in the newest mail that has one, as its text says it."""
        letter = next(letter for letter in reversed(self._site.letters) if letter.link is not None)
        return next(word for word in letter.text.split() if word.startswith(("https://", "http://")))


@pytest.mark.parametrize("accept", ACCEPTS)
@pytest.mark.parametrize("mode", SCRIPT)
def test_a_client_of_the_sdk_runs_unchanged(make_site: MakeSite, mode: str, accept: str) -> None:
    """Paths, bodies, names of answers and status classes are those of the SDK's document, in each of its modes."""
    client = Client(sdk_site(make_site, MODES[mode]), accept)

    faults = Replay(client.send, client.mailed_link).run(mode)

    assert not faults, "\n".join(faults)
