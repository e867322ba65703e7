"""What a stranger's tool finds who knows nothing of us but the description of the API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from answers import PRODUCTION
from hypothesis import HealthCheck
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.config import SchemathesisConfig
from support import Program, Site

pytestmark = pytest.mark.slow

load_all_checks()
#: Left out are those that judge which requests are taken: no schema says which links are good.
FITTING = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "unsupported_method",
    ]
)

EMAIL, ADMIN = "vic@example.com", "root@example.com"
#: Who sends the requests. The first names no format, and is shown pages where there are some.
CALLERS = ["anybody", "a member", "an administrator", "too many"]

LIMITED = {"ACCOUNTFLOW_RATELIMIT_ENABLED": True} | {
    f"ACCOUNTFLOW_RATELIMIT_{name}": "1/hour" for name in ("LOGIN", "LOGIN_IP", "MAIL_IP", "TOKEN_IP")
}


def description() -> Any:
    """Return the description of the site that the requests are sent to."""
    site = Site("sqlite://", PRODUCTION)
    document = site.program().get("/auth/openapi.json").json
    site.close()
    return schemathesis.openapi.from_dict(document, config=SchemathesisConfig(seed=1))


class Caller:
    """Somebody who sends requests. A login that ends is opened again."""

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self._program = Program(site)
        self._email = {"a member": EMAIL, "an administrator": ADMIN}.get(name)
        self._plain = {} if name == "anybody" else {"Accept": "application/json"}
        self._token = ""

    def headers(self) -> dict[str, str]:
        """Return the headers of the next request."""
        if self._email is None:
            return dict(self._plain)
        if self._program.get("/auth/me", authorization=f"Bearer {self._token}").status_code != 200:
            self._token = self._program.login(self._email).json["access_token"]
        return {**self._plain, "Authorization": f"Bearer {self._token}"}


@pytest.fixture(scope="module", params=CALLERS)
def caller(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, _fast_sqlite: None
) -> Iterator[Caller]:
    """Somebody on a site as in production, where faults are answered and not raised."""
    config = {**PRODUCTION, **(LIMITED if request.param == "too many" else {})}
    site = Site(f"sqlite:///{tmp_path_factory.mktemp('schemathesis') / 'site.db'}", config)
    site.member(EMAIL)
    site.member(ADMIN, admin=True)
    yield Caller(site, request.param)
    site.close()


@description().parametrize()
@hypothesis.settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described(case: Any, caller: Caller) -> None:
    """Whatever is sent, and by whomever, the answer has a described status, type, headers and body, and is no fault."""
    case.call_and_validate(headers=caller.headers(), checks=FITTING, app=caller.site.app)
