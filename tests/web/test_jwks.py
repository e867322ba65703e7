"""Access tokens that other services check, with nothing of us but the address of our keys."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import jwt
import pytest
from answers import heading
from jwt_tools import ALGORITHMS, by_key, by_secret, encoded, pem, private_key, public_spellings, signed
from support import BASE_URL, Person, Program, Site, services
from werkzeug.serving import make_server

from flask_accountflow.access_tokens import AccessTokens, paired_keys
from flask_accountflow.jwt_keys import load

EMAIL = "vic@example.com"
DOCS = Path(__file__).resolve().parents[2] / "docs" / "http.md"

MakeSite = Callable[..., Site]
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def keys(algorithm: str, *numbers: int) -> dict[str, Any]:
    """Return the configuration with the keys of these numbers; the first signs."""
    pems = [pem(algorithm, number) for number in numbers or (1,)]
    return {"ACCOUNTFLOW_JWT_ALGORITHM": algorithm, "ACCOUNTFLOW_JWT_PRIVATE_KEYS": pems}


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def make_site(make_site: MakeSite) -> MakeSite:
    """Return a function that makes sites with the machine's time, because other services use that."""

    def make(*given: Any, **parts: Any) -> Site:
        site = make_site(*given, **parts)
        site.clock.now = datetime.now(timezone.utc).replace(microsecond=0)
        return site

    return make


@contextmanager
def serving(site: Site) -> Iterator[str]:
    """Serve a site on the loopback, and yield the address of its keys."""
    server = make_server("127.0.0.1", 0, site.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/auth/jwks.json"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Service:
    """Another service, as its author would write it. It knows an address, an issuer, an audience and an algorithm."""

    def __init__(self, url: str, algorithm: str) -> None:
        self._keys = jwt.PyJWKClient(url)
        self._algorithm = algorithm

    def claims(self, token: str) -> dict[str, Any]:
        """Return what a token says, or raise PyJWTError."""
        found = jwt.decode_complete(
            token,
            self._keys.get_signing_key_from_jwt(token).key,
            algorithms=[self._algorithm],
            issuer=BASE_URL,
            audience=BASE_URL,
            options={"require": ["iss", "aud", "sub", "sid", "iat", "exp", "jti"]},
        )
        if found["header"]["typ"] != "at+jwt" or found["payload"]["typ"] != "access":
            raise jwt.InvalidTokenError("not an access token")
        return dict(found["payload"])

    def takes(self, token: str) -> bool:
        """Tell whether a token is good."""
        try:
            return bool(self.claims(token))
        except jwt.PyJWTError:
            return False


def log_in(site: Site) -> Any:
    """Return the answer to a login."""
    response = site.program().login(EMAIL)
    assert response.status_code == 200, response.text
    return response


def is_ours(site: Site, token: str) -> bool:
    """Tell whether our own app takes a token."""
    return bool(site.program().get("/auth/me", authorization=f"Bearer {token}").status_code == 200)


@every_algorithm
def test_TOK_03_another_service_takes_our_tokens(make_site: MakeSite, algorithm: str) -> None:
    """A service with the address of our keys takes the tokens of login and refresh, and learns whose they are."""
    site = make_site(keys(algorithm))
    site.member(EMAIL)
    pair = log_in(site)
    fresh = site.program().post("/auth/refresh", {"refresh_token": pair.json["refresh_token"]})

    with serving(site) as url:
        service = Service(url, algorithm)
        found = [service.claims(answer.json["access_token"]) for answer in (pair, fresh)]

    [login] = site.rows("session")
    for claims in found:
        assert (claims["sub"], claims["sid"]) == (pair.json["user"]["id"], login.id.hex)
        assert claims["exp"] - claims["iat"] == pair.json["expires_in"] == 900
    assert found[0]["jti"] != found[1]["jti"]
    assert all(is_ours(site, answer.json["access_token"]) for answer in (pair, fresh))


def bad_tokens(site: Site, algorithm: str) -> Mapping[str, str]:
    """Return what nobody may take for an access token of ours, by what is wrong with it."""
    pair = log_in(site)
    good = pair.json["access_token"]
    head, claims = jwt.get_unverified_header(good), jwt.decode(good, options={"verify_signature": False})
    start, payload, signature = good.split(".")
    sign, stranger = by_key(algorithm, private_key(algorithm)), by_key(algorithm, private_key(algorithm, 2))
    confused = {**head, "alg": "HS256"}
    site.program().signup("ada@example.com")
    found = {
        "alg=none": ".".join([encoded(b'{"alg":"none"}'), payload, ""]),
        "alg=none with our kid": jwt.encode(claims, None, "none", headers={**head, "alg": "none"}),
        "no signature": f"{start}.{payload}.",
        "tampered": ".".join([start, encoded(b'{"sub":"1"}'), signature]),
        "a changed signature": f"{start}.{payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}",
        "a foreign key with our kid": signed(head, claims, stranger),
        "a foreign key with its own kid": signed({**head, "kid": "foreign"}, claims, stranger),
        "no kid": signed({"alg": algorithm, "typ": "at+jwt"}, claims, sign),
        "another type": signed({**head, "typ": "JWT"}, claims, sign),
        "a refresh token": pair.json["refresh_token"],
        "the token of a link": site.last_token,
        "nothing": "",
    }
    for number, secret in enumerate(public_spellings(private_key(algorithm))):
        found[f"HS256 with the public key {number}"] = signed(confused, claims, by_secret(secret))
    now, ours = site.clock.now, paired_keys(load(algorithm, [pem(algorithm)]))
    names = {"issuer": BASE_URL, "audience": BASE_URL}
    for what, changes in {
        "expired": {"max_age": -1},
        "a foreign audience": {"audience": "https://other.example.com"},
        "a foreign issuer": {"issuer": "https://other.example.com"},
    }.items():
        other: Any = {**names, "max_age": 900, **changes}
        found[what] = AccessTokens(ours, **other).make(claims["sub"], site.rows("session")[0].id, now)
    return found


@every_algorithm
def test_TOK_03_TOK_04_nobody_takes_anything_else(make_site: MakeSite, algorithm: str) -> None:
    """Expired, foreign, unsigned, forged and other tokens are refused by another service as they are by us."""
    site = make_site(keys(algorithm))
    site.member(EMAIL)
    bad = bad_tokens(site, algorithm)
    good = log_in(site).json["access_token"]

    with serving(site) as url:
        service = Service(url, algorithm)
        taken = [what for what, token in bad.items() if service.takes(token)]
        assert service.takes(good)

    assert is_ours(site, good)
    assert taken == []
    assert [what for what, token in bad.items() if is_ours(site, token)] == []


@every_algorithm
def test_keys_change_without_a_gap(make_site: MakeSite, tmp_path: Path, algorithm: str) -> None:
    """A new key is published before it signs, and an old one works until it is taken away."""
    old, ahead, switched, new = (
        make_site(keys(algorithm, *numbers), uri=f"sqlite:///{tmp_path / 'one.db'}")
        for numbers in ((1,), (1, 2), (2, 1), (2,))
    )
    old.member(EMAIL)
    by_old = [log_in(old).json["access_token"], log_in(ahead).json["access_token"]]
    with serving(ahead) as url:
        service = Service(url, algorithm)
        assert all(service.takes(token) for token in by_old)
    by_new = log_in(switched).json["access_token"]

    # It fetched the keys before the switch, and there is nothing to fetch any more.
    assert service.takes(by_new)
    assert all(is_ours(site, token) for site in (ahead, switched) for token in (*by_old, by_new))
    assert not is_ours(old, by_new)
    with serving(new) as url:
        service = Service(url, algorithm)
        assert service.takes(by_new)
        assert not any(service.takes(token) for token in by_old)
    assert is_ours(new, by_new)
    assert not any(is_ours(new, token) for token in by_old)


def test_a_change_of_the_algorithm_keeps_logins(make_site: MakeSite, tmp_path: Path) -> None:
    """Access tokens of the former algorithm are dead, and refresh tokens get new ones."""
    uri = f"sqlite:///{tmp_path / 'one.db'}"
    before, after = make_site(uri=uri), make_site(keys("ES256"), uri=uri)
    before.member(EMAIL)
    pair = log_in(before)

    assert not is_ours(after, pair.json["access_token"])
    fresh = after.program().post("/auth/refresh", {"refresh_token": pair.json["refresh_token"]})
    assert is_ours(after, fresh.json["access_token"])
    assert not is_ours(before, fresh.json["access_token"])


def test_the_example_in_the_documentation(make_site: MakeSite) -> None:
    """The service that docs/http.md shows takes our token, and refuses a refresh token and an expired one."""
    section = DOCS.read_text(encoding="utf-8").partition("\n## Access tokens for other services\n")[2]
    [example] = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    site = make_site(keys("ES256"))
    site.member(EMAIL)
    pair = log_in(site)
    bad = bad_tokens(site, "ES256")
    site.clock.tick(-911)
    bad = {**bad, "expired": log_in(site).json["access_token"]}

    with serving(site) as url:
        assert example.count(f"{BASE_URL}/auth/jwks.json") == 1
        written: dict[str, Any] = {}
        exec(example.replace(f"{BASE_URL}/auth/jwks.json", url), written)
        assert written["user_id"](pair.json["access_token"]) == pair.json["user"]["id"]
        for token in bad.values():
            with pytest.raises(jwt.PyJWTError):
                written["user_id"](token)


@every_algorithm
def test_what_is_published(make_site: MakeSite, algorithm: str) -> None:
    """The answer is a JWK set of every public key, the one that signs first, and holds nothing private."""
    site = make_site(keys(algorithm, 2, 1))

    response = site.program().get("/auth/jwks.json")

    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.json.keys() == {"keys"}
    pairs = load(algorithm, [pem(algorithm, 2), pem(algorithm, 1)])
    assert response.json["keys"] == [pair.jwk() for pair in pairs]
    private = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
    assert not any(private & set(one) for one in response.json["keys"])


def test_the_keys_may_be_kept_by_caches(make_site: MakeSite) -> None:
    """What is published is the same for everybody, so that caches may keep it; it sets no cookie."""
    site = make_site(keys("ES256"))

    for method in ("get", "head"):
        response = getattr(site.app.test_client(), method)("/auth/jwks.json")
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == "public, max-age=300"
        assert set(response.vary) == {"Accept"}
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in response.headers
        assert bool(response.data) is (method == "get")


def test_SES_13_an_answer_with_a_cookie_is_kept_by_nobody(make_site: MakeSite) -> None:
    """Flask renews the cookie of a remembered login with any answer: no cache may hand that to others."""
    site = make_site(keys("ES256"))
    site.member(EMAIL)
    person = site.person()
    person.login(EMAIL, remember="y")

    response = person.client.get("/auth/jwks.json")

    assert response.status_code == 200
    assert "Set-Cookie" in response.headers
    assert response.headers["Cache-Control"] == "no-store"
    assert "Cookie" in response.vary


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (None, 200),
        ("*/*", 200),
        ("application/json", 200),
        ("application/jwk-set+json", 200),
        ("text/html,application/xhtml+xml,*/*;q=0.8", 200),
        ("text/html", 406),
        ("text/plain", 406),
        ("text/html, application/json;q=0", 406),
    ],
)
def test_it_is_for_programs(make_site: MakeSite, accept: str | None, status: int) -> None:
    """The keys are answered in JSON unless the caller rules that out; a refusal is kept by no cache."""
    site = make_site(keys("ES256"))

    response = site.app.test_client().get("/auth/jwks.json", headers={} if accept is None else {"Accept": accept})

    assert response.status_code == status
    assert response.headers["Cache-Control"] == ("public, max-age=300" if status == 200 else "no-store")


def test_other_methods(make_site: MakeSite) -> None:
    """The keys are only read, and no other method's answer is kept."""
    site = make_site(keys("ES256"))
    program = site.program()

    post, options = program.post("/auth/jwks.json"), program.client.options("/auth/jwks.json")

    assert (post.status_code, program.code(post)) == (405, "method_not_allowed")
    assert post.headers["Allow"] == options.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert post.headers["Cache-Control"] == options.headers["Cache-Control"] == "no-store"


def test_without_a_prefix(make_site: MakeSite) -> None:
    """An app that mounts us at its root publishes its keys there."""
    site = make_site({**keys("EdDSA"), "ACCOUNTFLOW_URL_PREFIX": ""})

    response = site.program().get("/jwks.json")

    assert [one["kty"] for one in response.json["keys"]] == ["OKP"]
    assert response.headers["Cache-Control"] == "public, max-age=300"


def test_by_default_there_are_no_keys(visitor: Program | Person) -> None:
    """With HS256 nothing is published: the address is as unknown as any other, in both formats."""
    response = visitor.get("/auth/jwks.json")

    other = visitor.get("/auth/nothing.json")
    assert response.status_code == other.status_code == 404
    if isinstance(visitor, Program):
        assert visitor.code(response) == "not_found"
    else:
        assert heading(response) == heading(other) != ""
    assert response.headers["Cache-Control"] == "no-store"


@every_algorithm
def test_CFG_01_no_command_shows_a_key(make_site: MakeSite, algorithm: str) -> None:
    """The list of settings says that there are keys, and nothing of them; the settings' own text neither."""
    site = make_site(keys(algorithm))

    shown = site.app.test_cli_runner().invoke(args=["accountflow", "settings"]).output

    [line] = [line for line in shown.splitlines() if "JWT_PRIVATE_KEYS" in line]
    assert "(hidden)" in line
    content = pem(algorithm).splitlines()[1]
    assert content not in shown.replace("\\n", "\n")
    assert "PRIVATE KEY-----" not in shown + repr(services(site).settings) + repr(services(site).access_tokens)


def test_another_service_needs_no_header(make_site: MakeSite) -> None:
    """The keys are served to a client that says nothing about itself."""
    site = make_site(keys("RS256"))

    with serving(site) as url, build_opener(ProxyHandler({})).open(url, timeout=10) as response:
        assert response.headers["Content-Type"] == "application/json"
        assert b'"RS256"' in response.read()
