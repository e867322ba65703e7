"""Attacks on access and refresh tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from attack.attacker import (
    FORM,
    JSON,
    Browser,
    Program,
    Site,
    join,
    shape,
    volley,
)
from attack.test_attack_links import respellings

pytestmark = pytest.mark.slow


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _part(value: Any) -> str:
    return _b64(json.dumps(value, separators=(",", ":")).encode())


def _parts(token: str) -> tuple[Any, Any, str]:
    head, claims, signature = token.split(".")
    return (*(json.loads(base64.urlsafe_b64decode(part + "==")) for part in (head, claims)), signature)


def _forged(head: dict[str, Any], claims: dict[str, Any], key: bytes, digest: str = "sha256") -> str:
    text = f"{_part(head)}.{_part(claims)}"
    return f"{text}.{_b64(hmac.digest(key, text.encode(), digest))}"


def test_TOK_01_a_token_is_read_from_one_place(site: Site) -> None:
    """An access token counts in the Authorization header alone."""
    token = Program(site).login(join(site)).json["access_token"]

    assert Program(site).me(token).status == 200
    assert Program(site).get(f"/auth/me?access_token={token}&token={token}").status == 401
    assert Program(site).get("/auth/me", cookie=f"access_token={token}; session={token}; token={token}").status == 401
    body = f"access_token={token}".encode()
    assert (
        Program(site)
        .ask("GET", "/auth/me", body, {"Accept": JSON, "Content-Type": FORM, "Content-Length": str(len(body))})
        .status
        == 401
    )
    assert Program(site).get("/auth/me", x_access_token=token, x_authorization=f"Bearer {token}").status == 401


JUNK = [
    "Bearer",
    "Bearer ",
    "Bearer  ",
    "bearer x",
    "Bearer a.b.c",
    "Basic YTpi",
    "Bearer ...",
    "Bearer null",
    "Token x",
    "Bearer " + "a" * 5000,
    "Bearer \xff\xfe",
    "Bearer e30.e30.",
    "Bearer x, Bearer y",
    "Digest x",
    "\x01",
]


@pytest.mark.parametrize("value", JUNK, ids=range(len(JUNK)))
def test_TOK_07_junk_is_nobody(site: Site, value: str) -> None:
    """Whatever stands in the Authorization header, it is refused with a challenge and breaks nothing."""
    answer = Program(site).ask("GET", "/auth/me", headers=[("Accept", JSON), ("Authorization", value)])

    assert answer.status in {400, 401}
    assert answer.status == 400 or answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_TOK_07_two_headers_are_not_a_choice(site: Site) -> None:
    """Of two Authorization headers no stranger's is read beside the owner's."""
    first, second = (Program(site).login(join(site)).json["access_token"] for _ in range(2))
    headers = [("Accept", JSON), ("Authorization", f"Bearer {first}"), ("Authorization", f"Bearer {second}")]

    assert Program(site).ask("GET", "/auth/me", headers=headers).status in {400, 401}


def test_TOK_03_no_token_chooses_how_it_is_checked(site: Site) -> None:
    """Tokens without a signature, with an empty key, another algorithm, key or type are refused."""
    token = Program(site).login(join(site)).json["access_token"]
    head, claims, signature = _parts(token)
    keys = [b"", b"secret", site.setting("SECRET_KEY").encode()]
    forged = [
        *(
            f"{_part({'alg': name, 'typ': 'at+jwt'})}.{_part(claims)}.{end}"
            for name in ("none", "None", "NONE", "nOnE", "")
            for end in ("", signature)
        ),
        *(_forged(head, claims, key) for key in keys),
        *(_forged({**head, "alg": "HS512"}, claims, key, "sha512") for key in keys),
        *(_forged({**head, extra: "x"}, claims, b"") for extra in ("kid", "jku", "jwk", "x5u", "crit", "b64")),
        f"{_part({**head, 'kid': '../../../../dev/null'})}.{_part(claims)}.{signature}",
        f"{_part(head)}.{_part({**claims, 'sub': '1', 'exp': claims['exp'] + 9999})}.{signature}",
        f"{token}.{token}",
        f"{token}.",
        f".{token}",
    ]

    for one in forged:
        assert Program(site).me(one).status == 401, one


def test_TOK_03_no_other_spelling_is_a_token(site: Site) -> None:
    """An access token is good in one spelling only."""
    token = Program(site).login(join(site)).json["access_token"]

    for spelling in respellings(token):
        assert Program(site).me(spelling).status == 401, spelling
    assert Program(site).me(token).status == 200


@pytest.fixture(scope="module")
def neighbour(site: Site, make_attacked: Callable[..., Site]) -> Site:
    """Another service with the same secret, issuer and database, for another audience."""
    return make_attacked(
        SQLALCHEMY_DATABASE_URI=site.setting("SQLALCHEMY_DATABASE_URI"),
        # The mails in that database are the other's to send.
        ACCOUNTFLOW_MAIL_KICK="worker",
        ACCOUNTFLOW_JWT_ISSUER=site.base_url,
        ACCOUNTFLOW_JWT_AUDIENCE="https://other.example",
    )


def test_TOK_04_a_token_of_another_service_is_none(site: Site, neighbour: Site) -> None:
    """A token that a neighbour with the same secret has made for itself opens nothing here, and the other way round."""
    email = join(site)
    here, there = (Program(one).login(email).json["access_token"] for one in (site, neighbour))

    assert Program(site).me(here).status == Program(neighbour).me(there).status == 200
    assert Program(site).me(there).status == 401
    assert Program(neighbour).me(here).status == 401


def test_TOK_08_a_cookie_alone_changes_nothing_by_json(site: Site) -> None:
    """A program's route takes no cookie without the token that goes with it."""
    browser = Browser(site)
    browser.login(join(site))
    given = {"Accept": JSON, "Content-Type": JSON}
    answers = [
        browser.ask("DELETE", "/auth/sessions", b"", given),
        browser.ask("DELETE", "/auth/sessions", b"", {**given, "X-CSRF-Token": "0" * 32}),
        browser.ask("POST", "/auth/logout", b'{"all": true}', given),
        browser.ask("POST", "/auth/login/fresh", b'{"password": "correct horse battery"}', given),
    ]

    assert {answer.status for answer in answers} == {403}
    assert browser.is_in


def test_TOK_08_a_bearer_token_makes_no_cookie(site: Site) -> None:
    """A page that is asked for with a bearer token sets no cookie that lets a browser in."""
    token = Program(site).login(join(site)).json["access_token"]
    browser = Browser(site)

    browser.ask("GET", "/secret", headers={"Accept": "text/html", "Authorization": f"Bearer {token}"})

    assert not browser.is_in


def test_REF_01_a_refresh_token_works_once(site: Site) -> None:
    """A refresh gives a new pair, and takes the old token away."""
    first = Program(site).login(join(site)).json

    second = Program(site).refresh(first["refresh_token"]).json

    assert second["refresh_token"] != first["refresh_token"]
    assert Program(site).me(second["access_token"]).status == 200
    assert Program(site).refresh(first["refresh_token"]).status == 401


@pytest.mark.parametrize("age", [1, 2, 3], ids=["parent", "grandparent", "older"])
def test_REF_02_a_token_that_comes_back_ends_its_family(site: Site, age: int) -> None:
    """Whoever uses a replaced token ends all of its family, access tokens too, and no other login."""
    email = join(site)
    other = Program(site).login(email).json
    family = [Program(site).login(email).json]
    for _ in range(age):
        family.append(Program(site).refresh(family[-1]["refresh_token"]).json)

    assert Program(site).refresh(family[0]["refresh_token"]).status == 401

    assert Program(site).refresh(family[-1]["refresh_token"]).status == 401
    assert {Program(site).me(pair["access_token"]).status for pair in family} == {401}
    assert Program(site).me(other["access_token"]).status == 200
    assert Program(site).refresh(other["refresh_token"]).status == 200


def test_REF_03_twenty_refreshes_at_once(site: Site) -> None:
    """Of twenty refreshes of one token at once never two are given a pair, and the family is over."""
    email = join(site)
    for _ in range(5):
        pair = Program(site).login(email).json

        answers = volley([(Program(site), "/auth/refresh", {"refresh_token": pair["refresh_token"]})] * 20)

        won = [answer for answer in answers if answer.status == 200]
        assert {answer.status for answer in answers} <= {200, 401}
        assert len(won) <= 1
        assert {Program(site).refresh(answer.json["refresh_token"]).status for answer in won} <= {401}
        assert Program(site).me(pair["access_token"]).status == 401


def test_REF_06_no_other_spelling_of_a_refresh_token_works(site: Site) -> None:
    """A refresh token is good in one spelling only, used or not, and a wrong one ends nobody's family."""
    pair = Program(site).login(join(site)).json
    token = pair["refresh_token"]

    for spelling in respellings(token):
        assert Program(site).refresh(spelling).status == 401, spelling

    assert Program(site).me(pair["access_token"]).status == 200
    second = Program(site).refresh(token).json
    for spelling in respellings(token):
        assert Program(site).refresh(spelling).status == 401, spelling
    assert Program(site).me(second["access_token"]).status == 200


def test_REF_07_every_dead_refresh_token_is_answered_alike(site: Site) -> None:
    """Unknown, used, revoked and forged refresh tokens get the same answer."""
    email = join(site)
    used = Program(site).login(email).json["refresh_token"]
    Program(site).refresh(used)
    ended = Program(site).login(email).json["refresh_token"]
    Program(site).post("/auth/logout", {"refresh_token": ended})

    shapes = [
        shape(Program(site).refresh(token)) for token in (used, ended, "x", f"{used}x", "a.b", used[:-4] + "AAAA")
    ]

    assert shapes.count(shapes[0]) == len(shapes)
    assert shapes[0][0] == 401


def test_REF_08_a_refresh_token_is_read_from_the_body_alone(site: Site) -> None:
    """A refresh token in the address, a header, a cookie or a form refreshes nothing, and stays good."""
    token = Program(site).login(join(site)).json["refresh_token"]
    form = f"refresh_token={quote(token)}".encode()

    answers = [
        Program(site).post(f"/auth/refresh?refresh_token={token}"),
        Program(site).post("/auth/refresh", None, token),
        Program(site).post("/auth/refresh", cookie=f"refresh_token={token}"),
        Program(site).ask("POST", "/auth/refresh", form, {"Accept": JSON, "Content-Type": FORM}),
        Program(site).get(f"/auth/refresh?refresh_token={token}"),
    ]

    assert {answer.status for answer in answers} <= {400, 401, 405, 415, 422}
    assert Program(site).refresh(token).status == 200


def test_REF_07_a_family_is_of_its_kind(site: Site) -> None:
    """Signed pieces of one token make no other: the halves of two refresh tokens do not fit together."""
    email = join(site)
    first, second = (Program(site).login(email).json["refresh_token"] for _ in range(2))
    (head, _, tail), (other, _, end) = first.partition("."), second.partition(".")

    for mixed in (f"{head}.{end}", f"{other}.{tail}"):
        assert Program(site).refresh(mixed).status == 401
    started = time.time()
    key = hashlib.sha256(str(int(started)).encode()).digest()
    assert Program(site).refresh(f"{head}.{_b64(hmac.digest(key, head.encode(), 'sha256'))}").status == 401
    assert Program(site).refresh(first).status == Program(site).refresh(second).status == 200
