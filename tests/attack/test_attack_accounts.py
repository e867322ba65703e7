"""Attacks on sign-up: who may have an account, and whose it becomes."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from attack.attacker import (
    ATTACKERS_PASSWORD,
    FORM,
    JSON,
    OTHER_PASSWORD,
    PASSWORD,
    Browser,
    Program,
    Site,
    ask_reset,
    join,
    mails_to,
    path_of,
    settle,
    shape,
    sign_up,
    some_email,
    volley,
)

pytestmark = pytest.mark.slow

PREFETCH = {"Purpose": "prefetch", "Sec-Purpose": "prefetch;prerender", "X-Moz": "prefetch"}


@pytest.mark.parametrize("visitor", [Program, Browser])
def test_SUP_01_signing_up_says_nothing_of_who_has_an_account(site: Site, visitor: Any) -> None:
    """A sign-up is answered alike for an address with an account, a pending one, and none."""
    known, pending, unknown = join(site), some_email(), some_email()
    sign_up(site, pending)

    shapes = [shape(visitor(site).signup(email), email) for email in (known, pending, unknown)]

    assert shapes[0] == shapes[1] == shapes[2]


def test_SUP_03_an_unproved_address_opens_nothing(site: Site) -> None:
    """Before an address is proved, its right password gets no token and no cookie, and a wrong one no other answer."""
    pending, nobody = some_email(), some_email()
    sign_up(site, pending)
    program, browser = Program(site), Browser(site)

    refused = program.login(pending)
    browser.login(pending)

    assert (refused.status, refused.code) == (403, "email_unverified")
    assert "access_token" not in refused.text
    assert not refused.cookies
    assert not browser.is_in
    wrong = [shape(program.login(email, OTHER_PASSWORD), email) for email in (pending, nobody)]
    assert wrong[0] == wrong[1]


@pytest.mark.parametrize("which", ["attackers", "own"])
@pytest.mark.parametrize("device", ["same", "other"])
def test_SUP_04_a_stranger_who_signs_up_first_gains_nothing(site: Site, which: str, device: str) -> None:
    """Whichever link the owner opens, on whichever device, the password of who signed up before never works."""
    email, owner = some_email(), Browser(site)
    links = {"attackers": sign_up(site, email, ATTACKERS_PASSWORD, Browser(site))}
    links["own"] = _second_link(site, email, owner)

    visitor = owner if device == "same" else Browser(site)
    visitor.fill(links[which], password=PASSWORD)

    assert Program(site).login(email, ATTACKERS_PASSWORD).status in {401, 403}
    assert Program(site).login(email, PASSWORD).status == 200


def _second_link(site: Site, email: str, owner: Browser) -> str:
    """Sign up as the owner, a moment after the stranger: the first link is out, so a second waits for the pause."""
    time.sleep(1.1)
    return sign_up(site, email, PASSWORD, owner)


def test_SUP_04_the_owners_mail_scanner_confirms_no_stranger(site: Site) -> None:
    """A button that is pressed without a password, while sign-ups compete, makes nobody's password work."""
    email = some_email()
    stranger = sign_up(site, email, ATTACKERS_PASSWORD)
    own = _second_link(site, email, Browser(site))

    for link in (stranger, own):
        assert Program(site).verify(link).status == 422
        assert Browser(site).fill(link).status == 422

    assert {Program(site).login(email, word).status for word in (ATTACKERS_PASSWORD, PASSWORD)} <= {401, 403}


def test_SUP_05_a_scanner_makes_no_account_live(site: Site) -> None:
    """However often a link is looked at, the sign-up behind it stays unproved."""
    email = some_email()
    link = sign_up(site, email, ATTACKERS_PASSWORD)

    for _ in range(5):
        Browser(site).get(link)
        Browser(site).ask("GET", link, headers=PREFETCH)
        Browser(site).ask("HEAD", link)

    assert Program(site).login(email, ATTACKERS_PASSWORD).code == "email_unverified"


def test_SUP_06_a_sign_up_chooses_no_rights(site: Site) -> None:
    """Members that no form has are ignored: who sends them is nobody special."""
    email, program = some_email(), Program(site)
    wanted = {
        "id": 1,
        "is_admin": True,
        "is_active": True,
        "email_verified": True,
        "email_verified_at": "2020-01-01T00:00:00Z",
        "role": "admin",
        "stamp": "0" * 32,
        "password_hash": "x",
        "created_at": "2000-01-01T00:00:00Z",
    }

    assert program.signup(email, **wanted).status == 202
    assert program.login(email).code == "email_unverified"
    link = sign_up(site, other := some_email())
    program.verify(link, **wanted)

    user = program.login(other).json["user"]
    assert user["is_admin"] is False
    assert not user["created_at"].startswith("2000")
    assert (
        program.post("/auth/admin/users", {"email": some_email()}, program.login(other).json["access_token"]).status
        == 403
    )


LISTS = ["list", "object", "number", "flag", "twice", "form-twice", "form-array", "comma", "semicolon", "display-name"]


@pytest.mark.parametrize("kind", LISTS)
def test_SUP_07_one_address_is_one_address(site: Site, kind: str) -> None:
    """Where one address is asked for, several are refused, and none of them is written to."""
    victim, attacker = join(site), some_email()
    before = len(mails_to(site, victim))

    for path in ("/auth/password-reset/request", "/auth/signup", "/auth/verify/resend"):
        answer = _post_addresses(site, path, kind, victim, attacker)
        assert answer in {400, 415, 422}, (path, kind)

    assert len(mails_to(site, victim)) == before
    assert mails_to(site, attacker) == []


def _post_addresses(site: Site, path: str, kind: str, victim: str, attacker: str) -> int:
    bodies: dict[str, Any] = {
        "list": [victim, attacker],
        "object": {"0": victim, "1": attacker},
        "number": 1,
        "flag": True,
        "comma": f"{victim},{attacker}",
        "semicolon": f"{victim}; {attacker}",
        "display-name": f"V <{victim}>, A <{attacker}>",
    }
    if kind in bodies:
        return Program(site).post(path, {"email": bodies[kind], "password": PASSWORD}).status
    if kind == "twice":
        pairs = f'"email": {json.dumps(victim)}, "email": {json.dumps(attacker)}, "password": {json.dumps(PASSWORD)}'
        return Program(site).post(path, f"{{{pairs}}}".encode()).status
    browser = Browser(site)
    token = browser.fill(path, email="no").text.partition('name="csrf_token" value="')[2].partition('"')[0]
    names = ("email", "email") if kind == "form-twice" else ("email[]", "email[]")
    fields = [("csrf_token", token), (names[0], victim), (names[1], attacker), ("password", PASSWORD)]
    answer = browser.send(path, fields)
    assert "csrf" not in answer.text.lower() or answer.status != 403
    return answer.status


def test_SUP_08_one_mailbox_is_one_account(site: Site) -> None:
    """Another case of a known address opens no second account, and changes nothing of the first."""
    email = join(site)
    name = email.partition("@")[0]
    others = [email.upper(), email.title(), f"{name}@EXAMPLE.com", f"{name.upper()}@example.COM"]

    for other in others:
        assert Program(site).signup(other, ATTACKERS_PASSWORD).status == 202

    assert all("/verify/" not in link for mail in mails_to(site, *others) for link in mail.links)
    ids = {Program(site).login(one).json["user"]["id"] for one in (email, *others)}
    assert len(ids) == 1
    assert {Program(site).login(one, ATTACKERS_PASSWORD).status for one in others} <= {401, 403}


ALIKE = ["vıctım", "ſictim", "\u212aictim", "ｖictim", "vi\u0301ctim", "victim\u200d", "victim\u202e", "vi\xadctim"]


@pytest.mark.parametrize("spelling", ALIKE, ids=range(len(ALIKE)))
def test_SUP_09_no_other_letter_is_this_letter(site: Site, spelling: str) -> None:
    """A local part in letters that only look alike, or fold to the same, is refused and finds nobody."""
    tail = some_email()
    victim = join(site, f"victim{tail}")
    before = len(mails_to(site, victim))
    alike = spelling + tail

    answers = [Program(site).ask_reset(alike), Program(site).signup(alike), Program(site).login(alike)]

    assert {answer.status for answer in answers} <= {401, 422}
    assert len(mails_to(site, victim)) == before
    assert mails_to(site, alike) == []


@pytest.mark.parametrize("pattern", ["{head}_{tail}", "{head}%", "%@example.com", "{head}*{tail}", "{head}?{tail}"])
def test_SUP_11_no_address_is_a_pattern(site: Site, pattern: str) -> None:
    """Signs that databases read as "any letter" find nobody's account."""
    email = join(site)
    before = len(mails_to(site, email))
    like = pattern.format(head=email[:4], tail=email[5:])

    asked = Program(site).ask_reset(like)
    login = Program(site).login(like)

    assert asked.status in {202, 422}
    assert login.status in {401, 422}
    assert len(mails_to(site, email)) == before


ADDRESSES = [
    "",
    "a",
    "@example.com",
    "a@localhost",
    "a@[127.0.0.1]",
    '"a b"@example.com',
    "a@example.com\r\nBcc: b@example.com",
    "a@example.com%0aBcc:b@example.com",
    "a\x00@example.com",
    f"{'a' * 65}@example.com",
    f"{'a' * 60}@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 60}.com",
    f"{'a' * 10_000}@example.com",
    "a@example.com, b@example.com",
    "a@exa\u202emple.com",
    "a..b@example.com",
    "a@example..com",
]


@pytest.mark.parametrize("address", ADDRESSES, ids=range(len(ADDRESSES)))
def test_SUP_12_what_is_no_address_is_refused(site: Site, address: str) -> None:
    """What is no address is refused at sign-up and at a reset request, and nothing is mailed."""
    settle(site)
    sent = site.mail.total

    answers = [Program(site).signup(address), Program(site).ask_reset(address)]

    assert {answer.status for answer in answers} <= {400, 422}
    settle(site)
    assert site.mail.total == sent


def test_SUP_13_tags_and_dots_are_kept(site: Site) -> None:
    """An address with a tag is an account of its own."""
    email = join(site)
    tagged = email.replace("@", "+tag@")

    join(site, tagged, OTHER_PASSWORD)

    assert Program(site).login(email, OTHER_PASSWORD).status == 401
    assert Program(site).login(tagged, PASSWORD).status == 401


def test_SUP_14_thirty_sign_ups_at_once_are_one_account(site: Site) -> None:
    """Thirty sign-ups of one address at once are answered alike, and every link that they bring is of one account."""
    email = some_email()
    name = email.partition("@")[0]
    spelled = [email, f"{name.upper()}@example.com", f"{name.title()}@example.com"]

    answers = volley(
        (Program(site), "/auth/signup", {"email": spelled[number % 3], "password": PASSWORD}) for number in range(30)
    )

    assert {answer.status for answer in answers} == {202}
    arrived = mails_to(site, *spelled)
    assert 1 <= len(arrived) <= 3
    links = {link for mail in arrived for link in mail.links if "/auth/verify/" in link}
    redeemed = volley((Program(site), path_of(link), {"password": PASSWORD}) for link in links)
    assert {answer.status for answer in redeemed} <= {200, 410}
    assert [answer.code for answer in redeemed].count("verified") == 1
    assert len({Program(site).login(one).json["user"]["id"] for one in spelled}) == 1


def test_SUP_18_signing_up_again_takes_no_account_over(site: Site) -> None:
    """A sign-up for an address with an account mails its owner no link to confirm, and changes nothing."""
    email = join(site)

    Program(site).signup(email, ATTACKERS_PASSWORD, name="Mallory")

    notice = mails_to(site, email)[-1]
    assert not any("/verify/" in link or "/password-reset/ey" in link for link in notice.links)
    assert Program(site).login(email, ATTACKERS_PASSWORD).status != 200
    assert Program(site).login(email).status == 200


@pytest.mark.parametrize("name", ["admin", "root", "test", "user", "administrator"])
def test_SUP_20_nobody_is_there_from_the_start(site: Site, name: str) -> None:
    """No account of a usual name has a usual password."""
    for email in (f"{name}@example.com", f"{name}@localhost", name):
        for password in (name, "admin", "password", "changeme", "x"):
            assert Program(site).login(email, password).status in {401, 422}


def test_SUP_21_a_sign_up_and_a_login_together_say_nothing(site: Site) -> None:
    """A stranger who signs an address up and logs in with the same password learns not whether it had an account."""
    known, unknown, pending = join(site), some_email(), some_email()
    sign_up(site, pending)
    # Of two sign-ups within one second none is the newest.
    time.sleep(1.1)

    shapes = []
    for email in (known, unknown, pending):
        signed, login = (
            shape(call(email, ATTACKERS_PASSWORD), email) for call in (Program(site).signup, Program(site).login)
        )
        shapes.append((signed, login))

    assert shapes[0] == shapes[1] == shapes[2]


def test_SUP_22_a_squatter_stands_in_nobodys_way(site: Site) -> None:
    """Somebody's unproved sign-up keeps neither the operator from making the account nor lets its password work."""
    email = some_email()
    sign_up(site, email, ATTACKERS_PASSWORD)

    site.flask("accountflow", "create-user", email, "--verified", "--password", PASSWORD)

    assert Program(site).login(email, PASSWORD).status == 200
    assert Program(site).login(email, ATTACKERS_PASSWORD).status != 200


def test_RST_18_a_reset_ends_what_a_squatter_left(site: Site) -> None:
    """Who resets the password of an unproved account owns it: the earlier password, links and name are gone."""
    email = some_email()
    squatted = Program(site).signup(email, ATTACKERS_PASSWORD, name="Mallory")
    assert squatted.status == 202
    link = site.mail.link(email, "verify").removeprefix(site.base_url)

    assert Program(site).reset(ask_reset(site, email), PASSWORD).status == 200

    assert Program(site).login(email, ATTACKERS_PASSWORD).status in {401, 403}
    assert Program(site).verify(link).status == 410
    owner = Browser(site)
    owner.login(email, PASSWORD)
    assert owner.is_in
    assert "Mallory" not in owner.get("/secret").text


def test_SES_12_a_cookie_from_before_the_proof_opens_nothing(site: Site) -> None:
    """The cookies of who signed up are worthless when the owner confirms and logs in elsewhere."""
    email, stranger = some_email(), Browser(site)
    link = sign_up(site, email, ATTACKERS_PASSWORD, stranger)
    stranger.login(email, ATTACKERS_PASSWORD)
    kept = dict(stranger.cookies)

    Program(site).reset(ask_reset(site, email), PASSWORD)
    Browser(site).login(email, PASSWORD)

    stranger.cookies = kept
    assert not stranger.is_in
    assert stranger.ask("GET", link, headers={"Accept": JSON}).status == 410
    assert stranger.ask("POST", "/auth/refresh", b"{}", {"Content-Type": FORM}).status >= 400
