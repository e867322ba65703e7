"""A client that was written by the tempest SDK's document runs unchanged: its requests, recorded and replayed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from live_server import AppServer, MailServer
from support import ABSENT, Site
from tempest_replay import SCRIPT, Answer, Replay, Request, parse_curl, token_in
from tempest_sites import AT_HOME, DEV_LOCAL, LINK_IN_BODY, MODES, PRODUCTION, MakeSite, sdk_site

from flask_accountflow import ConfigError

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


def example() -> str:
    """Return the document's example, word for word."""
    return str(SCRIPT["C"][0]["curl"])


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """The example app in debug, set up for the document's example."""
    folder = tmp_path_factory.mktemp("tempest")
    settings: Mapping[str, Any] = {**AT_HOME, **LINK_IN_BODY, **DEV_LOCAL, "ACCOUNTFLOW_ALLOW_INSECURE": False}
    with MailServer() as mail:
        server = AppServer(f"sqlite:///{folder / 'example.db'}", mail, folder, **settings)
        server.flask("db", "upgrade")
        server.start("--workers", "1")
        yield server
        server.stop()


def run_in_shell(command: str, server: AppServer, folder: Path) -> Any:
    """Run a command of the document as it stands, with a curl that finds localhost:8000 at the server's port."""
    (folder / ".curlrc").write_text(f'silent\nconnect-to = "localhost:8000:127.0.0.1:{server.port}"\n')
    environment = {**os.environ, "CURL_HOME": str(folder), "no_proxy": "*"}
    done = subprocess.run(
        ["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def require_curl() -> None:
    """Skip where there is no curl, unless it is required."""
    if shutil.which("curl") is None:
        stop = pytest.fail if "curl" in os.environ.get("ACCOUNTFLOW_TEST_REQUIRE", "") else pytest.skip
        stop("the document's example is a command of curl, which is not installed")


@pytest.mark.slow
def test_the_documents_example_runs_word_for_word(live: AppServer, tmp_path: Path) -> None:
    """The document's curl example and the activation of what it answers run as they stand, by curl and over HTTP."""
    require_curl()
    answer = run_in_shell(example(), live, tmp_path)
    activation = f"curl -X POST localhost:8000/auth/activate/{token_in(answer['activation_url'])}"
    pair = run_in_shell(activation, live, tmp_path)
    me = f"curl localhost:8000/auth/me -H 'authorization: Bearer {pair['access_token']}'"

    assert answer.keys() >= {"user_id", "activation_required", "activation_url", "access_token", "refresh_token"}
    assert answer["activation_url"].startswith("http://localhost:5173/activate?token=")
    assert (answer["activation_required"], answer["access_token"], answer["refresh_token"]) == (True, None, None)
    assert run_in_shell(me, live, tmp_path)["id"] == answer["user_id"] == pair["user_id"]
    assert run_in_shell(me, live, tmp_path)["email"] == "dev@local"


def post_example(site: Site) -> Any:
    """Send the document's example."""
    request = parse_curl(example())
    assert request.json == {"email": "dev@local", "password": "abcdefghijkl", "name": "Dev"}
    return site.program().post(request.path, request.json)


def test_an_address_of_this_computer_alone_is_allowed_in_debug(make_site: MakeSite) -> None:
    """`dev@local`, and the password `abcdefghijkl`, are accepted in debug with `ACCOUNTFLOW_EMAIL_ALLOW_SPECIAL=True`
    and `ACCOUNTFLOW_SEED_ALIASES=True`; the SDK refuses the address of its own example.
    """
    site = sdk_site(make_site, LINK_IN_BODY, DEV_LOCAL, {"TESTING": False})

    assert post_example(site).status_code == 201
    assert site.account("dev@local").name == "Dev"


@pytest.mark.parametrize(
    ("without", "field", "code"),
    [
        ({"ACCOUNTFLOW_EMAIL_ALLOW_SPECIAL": False}, "email", "invalid_email"),
        ({"ACCOUNTFLOW_EMAIL_ALLOW_SPECIAL": ABSENT}, "email", "invalid_email"),
        ({"ACCOUNTFLOW_SEED_ALIASES": False}, "password", "too_common"),
    ],
)
def test_the_example_is_refused_without_its_settings(
    make_site: MakeSite, without: Mapping[str, Any], field: str, code: str
) -> None:
    """Without `ACCOUNTFLOW_EMAIL_ALLOW_SPECIAL` the address `dev@local` is refused in debug, too, and without
    `ACCOUNTFLOW_SEED_ALIASES` the password `abcdefghijkl`.
    """
    site = sdk_site(make_site, LINK_IN_BODY, DEV_LOCAL, {"TESTING": False}, without)

    answer = post_example(site)

    assert answer.status_code == 422
    assert [(fault["field"], fault["code"]) for fault in answer.json["errors"]] == [(field, code)]
    assert site.account("dev@local") is None


def test_the_example_is_refused_in_production(make_site: MakeSite) -> None:
    """In production `ACCOUNTFLOW_EMAIL_ALLOW_SPECIAL` is refused whatever else is allowed, and so are both the address
    and the password.
    """
    allowed = {"ACCOUNTFLOW_ALLOW_INSECURE": True}
    with pytest.raises(ConfigError, match="EMAIL_ALLOW_SPECIAL is for debug and testing only"):
        sdk_site(make_site, LINK_IN_BODY, PRODUCTION, allowed, {"ACCOUNTFLOW_EMAIL_ALLOW_SPECIAL": True})
    site = sdk_site(make_site, LINK_IN_BODY, PRODUCTION, allowed)

    answer = post_example(site)

    faults = {(fault["field"], fault["code"]) for fault in answer.json["errors"]}
    assert faults == {("email", "invalid_email"), ("password", "too_common")}
