"""Coming from the tempest SDK: its links. Each docstring is a row of the table for its users."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from support import BASE_URL, OTHER_PASSWORD, PASSWORD, Person, Program, Site
from tempest_replay import token_in
from tempest_sites import FRONT_END, LINK_IN_BODY, PRODUCTION, MakeSite, sdk_site

from flask_accountflow import ConfigError
from flask_accountflow.errors import Refusal
from flask_accountflow.redeem import open_link
from flask_accountflow.tokens import Links

EMAIL = "ana@example.com"


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    """A site for clients of the SDK."""
    return sdk_site(make_site)


def activation_token(site: Site, email: str = EMAIL) -> str:
    """Sign an address up, and return the token that was mailed."""
    site.program().signup(email)
    return token_in(str(site.letters[-1].link))


def reset_token(site: Site, email: str = "vic@example.com") -> str:
    """Ask for a reset of a member's password, and return the token that was mailed."""
    if site.account(email) is None:
        site.member(email)
    site.program().request_reset(email=email)
    return token_in(str(site.letters[-1].link))


def is_proved(site: Site, email: str = EMAIL) -> bool:
    """Tell whether an address is confirmed."""
    return site.account(email).email_verified_at is not None


TEMPLATES = [
    "https://app.example.com/activate?token={token}",
    "https://app.example.com/activate/{token}",
    "https://app.example.com/#/activate/{token}/now",
    "https://app.example.com/activate?lang=en&token={token}&from=mail",
    "http://localhost:5173/activate?token={token}",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_link_is_made_by_a_template_with_its_token(make_site: MakeSite, template: str) -> None:
    """`ACCOUNTFLOW_VERIFY_URL` and `ACCOUNTFLOW_RESET_URL` are addresses with `{token}` anywhere after the host, and
    are what the mails link to.
    """
    site = sdk_site(make_site, {"ACCOUNTFLOW_VERIFY_URL": template, "ACCOUNTFLOW_RESET_URL": template})
    before, after = template.split("{token}")

    site.program().signup(EMAIL)
    site.member("vic@example.com")
    site.program().request_reset(email="vic@example.com")

    for letter, path in zip(site.letters, ("/auth/activate/", "/auth/password-reset/"), strict=True):
        link = str(letter.link)
        assert link.startswith(before)
        assert link.endswith(after)
        assert link in letter.text
        assert link.replace("&", "&amp;") in letter.html
        token = link.removeprefix(before)[: len(link) - len(before) - len(after)]
        assert site.program().get(path + token).status_code == 200


@pytest.mark.parametrize(
    "template",
    [
        "https://app.example.com/activate",
        "https://app.example.com/{token}/{token}",
        "https://app.example.com/activate?token={Token}",
        "/activate/{token}",
        "activate?token={token}",
    ],
)
def test_a_template_without_a_place_for_the_token_is_refused(make_site: MakeSite, template: str) -> None:
    """A template without `{token}`, with two of them, or without a host is refused when the app starts."""
    with pytest.raises(ConfigError, match=r"ACCOUNTFLOW_VERIFY_URL must be an address with \{token\} once"):
        make_site({"ACCOUNTFLOW_VERIFY_URL": template})


def test_a_template_without_tls_is_refused_in_production(make_site: MakeSite) -> None:
    """In production a template must be `https`, or on the loopback: the link is a secret."""
    plain = {name: address.replace("https", "http") for name, address in FRONT_END.items()}

    with pytest.raises(ConfigError, match="must not be plain http") as caught:
        make_site({**PRODUCTION, **plain})

    assert len(caught.value.problems) == 2


def test_without_templates_links_lead_to_our_pages(make_site: MakeSite) -> None:
    """Without templates links lead to `/auth/verify/…` and `/auth/password-reset/…` below `ACCOUNTFLOW_BASE_URL`, which
    is `AUTH_BACKEND_LINKS=true` of the SDK; its own `/auth/activate/…` opens the same links.
    """
    site = sdk_site(make_site, {"ACCOUNTFLOW_VERIFY_ON_GET": False})
    token = activation_token(site)
    assert site.letters[-1].link == f"{BASE_URL}/auth/verify/{token}"
    reset_token(site)
    assert str(site.letters[-1].link).startswith(f"{BASE_URL}/auth/password-reset/")

    assert site.person().get(f"/auth/activate/{token}").text.count(f"/auth/activate/{token}") == 2
    assert site.program().post(f"/auth/activate/{token}").status_code == 200


def test_an_activation_link_works_once(site: Site, visitor: Program | Person) -> None:
    """An activation link works once; the second time is refused and logs nobody in."""
    token = activation_token(site)

    first, second = (visitor.open(f"/auth/activate/{token}") for _ in range(2))
    if isinstance(visitor, Program):
        first, second = (visitor.post(f"/auth/activate/{token}") for _ in range(2))

    assert (first.status_code, second.status_code) == (200, 410)
    assert "access_token" not in (second.get_json(silent=True) or {})


def test_a_reset_link_works_once(site: Site, visitor: Program | Person) -> None:
    """A reset link works once, and the password of the first time stays."""
    path = f"/auth/password-reset/{reset_token(site)}"

    first, second = visitor.reset(path, OTHER_PASSWORD), visitor.reset(path, PASSWORD + " again")

    assert (first.status_code, second.status_code) == ({"json": 200, "html": 303}[visitor.kind], 410)
    assert site.program().login("vic@example.com", OTHER_PASSWORD).status_code == 200


DOORS = {
    "signup": ("/auth/activate/{}", "/auth/verify/{}"),
    "reset": ("/auth/password-reset/{}",),
}


@pytest.mark.parametrize(("own", "other"), list(itertools.permutations(DOORS, 2)))
def test_a_link_is_bound_to_its_purpose(site: Site, visitor: Program | Person, own: str, other: str) -> None:
    """An activation link sets no password, and a reset link activates nobody: each is 400 `token_invalid` at the
    other's address, and stays good at its own.
    """
    site.program().signup(EMAIL)
    site.clock.tick(61)
    token = {"signup": activation_token, "reset": reset_token}[own](site, EMAIL)
    before = site.account(EMAIL)

    for door in DOORS[other]:
        answers = [visitor.open(door.format(token))]
        if isinstance(visitor, Program):
            body = {"new_password": OTHER_PASSWORD}
            answers += [visitor.post(door.format(token), body)]
            answers += [visitor.post(where, {"token": token, **body}) for where in JSON_DOORS[other]]
            assert {answer.json["code"] for answer in answers} == {"token_invalid"}
        else:
            answers += [visitor.send(door.format(token), {"new_password": OTHER_PASSWORD})]
        assert {answer.status_code for answer in answers} == {400}

    assert site.account(EMAIL) == before
    assert site.program().get(DOORS[own][0].format(token)).status_code == 200


JSON_DOORS = {"signup": ("/auth/verify",), "reset": ("/auth/password-reset/confirm",)}


@pytest.mark.parametrize(("seconds", "status"), [(604800 - 1, 200), (604800, 410)])
def test_an_activation_link_lives_as_long_as_it_is_told(
    make_site: MakeSite, visitor: Program | Person, seconds: int, status: int
) -> None:
    """`ACCOUNTFLOW_VERIFY_MAX_AGE` is the life of an activation link: a day, where the SDK has seven."""
    site = sdk_site(make_site, {"ACCOUNTFLOW_VERIFY_MAX_AGE": 604800})
    own = type(visitor)(site)
    token = activation_token(site)
    site.clock.tick(seconds)

    answers = [own.open(f"/auth/activate/{token}")]
    if isinstance(own, Program):
        answers.append(own.post(f"/auth/activate/{token}"))

    assert [answer.status_code for answer in answers] == [status] * len(answers)
    assert is_proved(site) == (status == 200)


@pytest.mark.parametrize(("seconds", "works"), [(3600 - 1, True), (3600, False)])
def test_a_reset_link_lives_as_long_as_it_is_told(
    site: Site, visitor: Program | Person, seconds: int, works: bool
) -> None:
    """`ACCOUNTFLOW_RESET_MAX_AGE` is the life of a reset link: an hour, as with the SDK, and a day at most."""
    path = f"/auth/password-reset/{reset_token(site)}"
    site.clock.tick(seconds)

    opened, sent = visitor.open(path), visitor.reset(path, OTHER_PASSWORD)

    assert (opened.status_code, sent.status_code) == (
        (200, {"json": 200, "html": 303}[visitor.kind]) if works else (410, 410)
    )
    assert (site.program().login("vic@example.com", OTHER_PASSWORD).status_code == 200) is works


# What somebody who has a dump of the database would try.


def values_in(site: Site) -> set[Any]:
    """Return every value of every row of every table, with what is inside JSON."""
    found: set[Any] = set()
    with site.app.app_context(), site.db.engine.connect() as connection:
        for table in site.db.metadata.sorted_tables:
            typed = list(connection.execute(sa.select(table)))
            # As the database itself shows them, too: what a UUID is to Python may be 16 bytes or a text.
            raw = list(connection.execute(sa.text(f"SELECT * FROM {table.name}")))
            assert len(typed) == len(raw) > 0, table.name
            found.update(part for row in [*typed, *raw] for value in row for part in _parts(value))
    return found - {None, "", b""}


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for one in itertools.chain(value, value.values()):
            yield from _parts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _parts(one)
    else:
        yield value


def raw_forms(value: Any) -> set[bytes]:
    """Return the bytes that a value may stand for."""
    raws = {value} if isinstance(value, bytes) else {str(value).encode()}
    if isinstance(value, UUID):
        raws |= {value.bytes, value.hex.encode()}
    if isinstance(value, str):
        raws |= {part.encode() for part in value.replace("@", ":").split(":") if part}
    return raws


def spellings(values: Iterable[Any]) -> set[str]:
    """Return what one would send for these values: each in every usual encoding."""
    return {text for value in values for raw in raw_forms(value) for text in _texts(raw)}


def hashed(values: Iterable[Any]) -> set[str]:
    """Return the same for the hashes of these values."""
    raws = {raw for value in values for raw in raw_forms(value)}
    digests = {hashlib.new(name, raw).digest() for raw in raws for name in ("md5", "sha1", "sha256", "sha512")}
    return {text for digest in digests for text in _texts(digest)}


def _texts(raw: bytes) -> Iterator[str]:
    yield raw.hex()
    for encode in (base64.b64encode, base64.urlsafe_b64encode, base64.b32encode):
        yield encode(raw).decode()
        yield encode(raw).decode().rstrip("=")
    yield raw.decode("latin-1")


def forgeries(values: Iterable[Any], rows: Iterable[Any]) -> Iterator[str]:
    """Yield tokens in our own form for the rows of links, signed with whatever else the dump holds."""
    keys = [str(value) if not isinstance(value, bytes) else value for value in values if value]
    for row, key in itertools.product(rows, keys):
        for purpose in ("signup", "reset"):
            yield Links([key]).make(purpose, row.id, row.created_at)


class Leak:
    """A site with a sign-up and a reset on their way, and a login, whose database has leaked."""

    def __init__(self, make_site: MakeSite, mode: Mapping[str, Any]) -> None:
        self.site = site = sdk_site(make_site, mode, {"ACCOUNTFLOW_LOGIN_ON_VERIFY": "never"})
        program = site.program()
        site.member("vic@example.com")
        program.login("vic@example.com")
        signed_up = program.signup(EMAIL).json["activation_url"]
        requested = program.request_reset(email="vic@example.com").json["reset_url"]
        self.links = {
            "signup": token_in(str(signed_up or site.letters[0].link)),
            "reset": token_in(str(requested or site.letters[1].link)),
        }
        self.values = values_in(site)
        assert {row.id for row in site.rows("token")} < self.values

    def still_works(self) -> bool:
        """Tell whether both links are as good as ever."""
        program = self.site.program()
        body = {"token": self.links["reset"], "new_password": OTHER_PASSWORD}
        answers = [
            program.post("/auth/activate/" + self.links["signup"]),
            program.post("/auth/password-reset/confirm", body),
        ]
        return all(answer.status_code == 200 for answer in answers)


@pytest.fixture(params=[{}, LINK_IN_BODY], ids=["mailed", "in the answer"])
def leak(request: pytest.FixtureRequest, make_site: MakeSite) -> Leak:
    """A leak of a site that mails its links, and of one that answers with them."""
    return Leak(make_site, request.param)


@pytest.mark.slow
def test_a_dump_of_the_database_holds_no_token(leak: Leak) -> None:
    """A dump of the database redeems nothing: no value of any row, in any encoding, activates an account or sets a
    password.
    """
    program, tried = leak.site.program(), spellings(leak.values)
    ids = [row.id for row in leak.site.rows("token")]

    assert tried >= {base64.urlsafe_b64encode(one.bytes).decode().rstrip("=") for one in ids}
    for text in tried:
        answers = [
            program.post("/auth/verify", {"token": text}),
            program.post("/auth/password-reset/confirm", {"token": text, "new_password": OTHER_PASSWORD}),
        ]
        assert {answer.json["code"] for answer in answers} <= {"token_invalid", "validation_failed"}, text
    assert leak.still_works()


def test_a_dump_of_the_database_makes_no_token(leak: Leak) -> None:
    """Nothing that can be computed from a dump opens a link either: no hash of a value, and no token in our own form
    that is signed with a value. The SDK keeps a SHA-256 of each token; here a row has nothing of the token but its id.
    """
    services = leak.site.app.extensions["accountflow"]
    tried = hashed(leak.values) | set(forgeries(leak.values, leak.site.rows("token")))

    with leak.site.app.app_context():
        for purpose, text in itertools.product(leak.links, tried):
            with pytest.raises(Refusal) as caught:
                open_link(services, purpose, text)
            assert caught.value.code == "token_invalid", text
        opened = [open_link(services, purpose, token).purpose for purpose, token in leak.links.items()]

    assert opened == ["signup", "reset"]
    assert not {hashlib.sha256(token.encode()).hexdigest() for token in leak.links.values()} & spellings(leak.values)
    assert leak.still_works()
