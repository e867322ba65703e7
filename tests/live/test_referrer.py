"""What a real Chromium tells of the page of a link, over https, and that this is enough for Flask-WTF's CSRFProtect."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import test_browser
from flask import request
from flask_wtf.csrf import CSRFProtect
from live_server import free_port
from smtp_servers import Authority
from support import OTHER_PASSWORD, Site
from werkzeug.serving import make_server

pytestmark = [pytest.mark.browser, pytest.mark.slow]

chromium = test_browser.chromium

OWNER, NEW = "vic@example.com", "ada@example.com"


class Secure:
    """A site with CSRFProtect that is served over https, and what it was told by ``Referer``."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.base_url = f"https://127.0.0.1:{port}"
        config = {
            "TESTING": False,
            "ACCOUNTFLOW_ALLOW_INSECURE": True,
            "ACCOUNTFLOW_BASE_URL": self.base_url,
            "ACCOUNTFLOW_COOKIE_DEFAULTS": True,
        }
        self.site = Site(f"sqlite:///{folder / 'site.db'}", config)
        CSRFProtect(self.site.app)
        self.told: list[tuple[str, str, str | None]] = []
        self.site.app.before_request(self._note)
        context = Authority(folder).context()
        self._server = make_server("127.0.0.1", port, self.site.app, threaded=True, ssl_context=context)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _note(self) -> None:
        self.told.append((request.method, request.path, request.headers.get("Referer")))

    def link(self) -> str:
        """Return the link of the newest mail."""
        return str(next(letter.link for letter in reversed(self.site.letters) if letter.link))

    def stop(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.site.close()


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Secure]:
    """A site over https."""
    made = Secure(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def page(chromium: Any, secure: Secure) -> Iterator[Any]:
    """A window of somebody who trusts the site's certificate."""
    context = chromium.new_context(ignore_https_errors=True)
    context.set_default_timeout(10_000)
    yield context.new_page()
    context.close()


def test_RST_14_a_reset_works_in_a_browser_that_obeys(secure: Secure, page: Any) -> None:
    """Over https and beside CSRFProtect a browser completes a reset, and tells no request where its token was."""
    secure.site.member(OWNER)
    secure.site.program().request_reset(email=OWNER)
    link = secure.link()

    page.goto(link)
    page.locator("input[name=password]").fill(OTHER_PASSWORD)
    page.get_by_role("button", name="Set new password", exact=True).click()
    page.wait_for_url("**/password-reset/done*")

    assert secure.site.program().login(OWNER, OTHER_PASSWORD).status_code == 200
    _nothing_leaked(secure, link)


def test_VER_11_a_confirmation_works_in_a_browser_that_obeys(secure: Secure, page: Any) -> None:
    """Over https and beside CSRFProtect a browser confirms an address, and tells no request where its token was."""
    secure.site.program().signup(NEW)
    link = secure.link()

    page.goto(link)
    page.get_by_role("button", name="Confirm email", exact=True).click()
    page.wait_for_url("**/verify/done*")

    assert secure.site.account(NEW).email_verified_at is not None
    _nothing_leaked(secure, link)


def _nothing_leaked(secure: Secure, link: str) -> None:
    """Check that what followed the opening of a link named the site and no path as its referrer."""
    path = link.removeprefix(secure.base_url)
    from_browser = [told for told in secure.told if told[2] is not None]
    [posted] = [referrer for method, at, referrer in from_browser if (method, at) == ("POST", path)]

    assert posted == f"{secure.base_url}/"
    assert len(from_browser) >= 3
    assert not [told for told in from_browser if path.rpartition("/")[2] in str(told[2])]
