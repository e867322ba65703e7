"""Attacks on mailed links: used twice, respelled, swapped, stolen, and led elsewhere."""

from __future__ import annotations

import base64
import json
import re
import string
import time
from collections import Counter
from typing import Any

import pytest
from attack.attacker import (
    ATTACKERS_PASSWORD,
    JSON,
    OTHER_PASSWORD,
    PASSWORD,
    Browser,
    Program,
    Site,
    ask_reset,
    forms_of,
    join,
    mails_to,
    raw,
    settle,
    shape,
    sign_up,
    some_email,
    token_of,
    volley,
)

pytestmark = pytest.mark.slow

SCANNERS: dict[str, dict[str, str]] = {
    "plain": {},
    "prefetch": {"Sec-Purpose": "prefetch"},
    "prerender": {"Sec-Purpose": "prefetch;prerender"},
    "purpose": {"Purpose": "prefetch"},
    "cross-site": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    "frame": {"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "cross-site"},
    "json": {"Accept": JSON},
}


def _new_link(site: Site, purpose: str) -> tuple[str, str]:
    """Return an address and the path of a fresh link of it."""
    if purpose == "verify":
        email = some_email()
        return email, sign_up(site, email)
    email = join(site)
    return email, ask_reset(site, email)


def _redeem(site: Site, link: str) -> Any:
    data = {"password": OTHER_PASSWORD} if "password-reset" in link else {}
    return Program(site).post(link, data)


def _can_log_in(site: Site, email: str, password: str) -> bool:
    return Program(site).login(email, password).status == 200


@pytest.mark.parametrize("purpose", ["verify", "reset"])
@pytest.mark.parametrize("headers", SCANNERS.values(), ids=SCANNERS)
def test_VER_01_RST_06_looking_at_a_link_uses_nothing_up(site: Site, purpose: str, headers: dict[str, str]) -> None:
    """However a link is looked at, nothing has happened then, and its button still works."""
    email, link = _new_link(site, purpose)

    for method in ("HEAD", "GET", "OPTIONS", "GET", "GET"):
        Browser(site).ask(method, link, headers=headers)

    before = Program(site).login(email, OTHER_PASSWORD if purpose == "reset" else PASSWORD)
    assert before.code == ("invalid_credentials" if purpose == "reset" else "email_unverified")
    assert _redeem(site, link).status == 200


@pytest.mark.parametrize("purpose", ["verify", "reset"])
def test_VER_02_no_page_presses_its_own_button(site: Site, purpose: str) -> None:
    """The page of a link waits for somebody: it has a button, and nothing that would press it."""
    _, link = _new_link(site, purpose)

    page = Browser(site).get(link)

    assert forms_of(page)[0].has_button
    assert not re.search(
        r"onload|autosubmit|http-equiv=.?refresh|\.submit\(|<script(?![^>]*\bsrc=)", page.text, re.IGNORECASE
    )


def test_VER_03_a_link_works_once(site: Site) -> None:
    """The second use of a link says that it is over, gives nobody a token, and changes nothing."""
    _, verify = _new_link(site, "verify")
    email, reset = _new_link(site, "reset")
    first = [_redeem(site, verify), _redeem(site, reset)]

    again = Program(site).verify(verify)
    stolen = Program(site).reset(reset, ATTACKERS_PASSWORD)

    assert [answer.status for answer in first] == [200, 200]
    assert (again.code, again.json["access_token"]) == ("already_verified", None)
    assert (stolen.status, stolen.code) == (410, "token_used")
    assert not _can_log_in(site, email, ATTACKERS_PASSWORD)


def test_VER_04_fifty_confirmations_at_once(site: Site) -> None:
    """Of fifty confirmations by one link at once, one confirms."""
    _, link = _new_link(site, "verify")

    answers = volley((Program(site), link, {}) for _ in range(50))

    assert Counter(answer.code for answer in answers) == {"verified": 1, "already_verified": 49}


def test_RST_07_fifty_resets_at_once(site: Site) -> None:
    """Of fifty resets by one link at once, with different passwords, one wins, and its password alone works."""
    email, link = _new_link(site, "reset")
    words = [f"battery number {number} of the horse" for number in range(50)]

    answers = volley((Program(site), link, {"password": word}) for word in words)

    assert Counter(answer.status for answer in answers) == {200: 1, 410: 49}
    assert [_can_log_in(site, email, word) for word in words] == [answer.status == 200 for answer in answers]


_SIGNS = string.ascii_letters + string.digits + "-_"


def respellings(token: str) -> list[str]:
    """Return other texts that sloppy decoders read as the same token."""
    last = _SIGNS.index(token[-1]) if token[-1] in _SIGNS else 0
    near = [token[:-1] + _SIGNS[(last + step) % 64] for step in (1, 2, 3, 61, 62, 63)]
    head, _, tail = token.partition(".")
    return [
        *near,
        *(
            token + tail
            for tail in ("=", "==", "!!", "%20", "%0a", "%00", ".", "..", "/", "%3D", "\u00a0".encode().hex())
        ),
        f"%20{token}",
        f"{head}=.{tail}",
        f".{token}",
        token.upper(),
        token.swapcase(),
        token.replace("-", "+").replace("_", "/") if set("-_") & set(token) else f"{token}+",
    ]


@pytest.mark.parametrize("purpose", ["verify", "reset"])
def test_VER_05_no_other_spelling_of_a_used_token_works(site: Site, purpose: str) -> None:
    """After a token was used no other spelling of it does anything."""
    email, link = _new_link(site, purpose)
    assert _redeem(site, link).status == 200
    base, token = link.rpartition("/")[0], token_of(link)

    for spelling in respellings(token):
        answer = Program(site).post(f"{base}/{spelling}", {"password": ATTACKERS_PASSWORD})
        assert answer.status >= 400, spelling

    assert not _can_log_in(site, email, ATTACKERS_PASSWORD)


@pytest.mark.parametrize("purpose", ["verify", "reset"])
def test_VER_05_no_other_spelling_of_a_fresh_token_works(site: Site, purpose: str) -> None:
    """A token is good in one spelling only, also while it was not used."""
    email, link = _new_link(site, purpose)
    base, token = link.rpartition("/")[0], token_of(link)

    for spelling in respellings(token):
        assert Program(site).post(f"{base}/{spelling}", {"password": ATTACKERS_PASSWORD}).status >= 400, spelling
        if "%" not in spelling:
            body = {"token": spelling, "password": ATTACKERS_PASSWORD}
            name = "/auth/verify" if purpose == "verify" else "/auth/password-reset/confirm"
            assert Program(site).post(name, body).status >= 400, spelling

    assert not _can_log_in(site, email, ATTACKERS_PASSWORD)
    assert _redeem(site, link).status == 200


def test_VER_06_a_token_is_good_for_one_thing(site: Site) -> None:
    """No token does what another kind of token is for, and whoever tries has used nothing up."""
    verify_email, verify = _new_link(site, "verify")
    email, reset = _new_link(site, "reset")
    pair = Program(site).login(email).json
    browser = Browser(site)
    browser.login(email)
    csrf = forms_of(browser.get("/auth/logout"))[0].values["csrf_token"]
    tokens = {
        "verify": token_of(verify),
        "reset": token_of(reset),
        "access": pair["access_token"],
        "refresh": pair["refresh_token"],
        "csrf": csrf,
        "session": browser.cookies["session"],
        "device": browser.cookies["accountflow_device"],
    }

    for name, token in tokens.items():
        if name != "verify":
            assert Program(site).post("/auth/verify", {"token": token}).status == 400, name
        if name != "reset":
            changed = Program(site).post(
                "/auth/password-reset/confirm", {"token": token, "password": ATTACKERS_PASSWORD}
            )
            assert changed.status == 400, name
        if name != "refresh":
            assert Program(site).refresh(token).status == 401, name
        if name != "access":
            assert Program(site).me(token).status == 401, name

    assert not _can_log_in(site, email, ATTACKERS_PASSWORD)
    assert not _can_log_in(site, verify_email, PASSWORD)
    assert _redeem(site, verify).status == _redeem(site, reset).status == 200


def test_VER_08_a_changed_token_is_no_token(site: Site) -> None:
    """Whatever is changed in a token, it is refused without a fault, and nothing happens."""
    email, link = _new_link(site, "reset")
    base, token = link.rpartition("/")[0], token_of(link)
    changed = [
        token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :] for place in range(len(token))
    ]
    changed += [
        token[:-1],
        token[1:],
        token[: len(token) // 2],
        token * 2,
        "a" * 2000,
        "é",
        "%00",
        "%ff",
        ".",
        "..",
        "a.b.c",
    ]

    for one in changed:
        assert 400 <= Program(site).post(f"{base}/{_ascii(one)}", {"password": ATTACKERS_PASSWORD}).status < 500, one
    for one in ([token], {"a": token}, 1, True, "\x00", "\ud800", "x" * 60_000):
        body = {"token": one, "password": ATTACKERS_PASSWORD}
        assert 400 <= Program(site).post("/auth/password-reset/confirm", body).status < 500, one

    assert not _can_log_in(site, email, ATTACKERS_PASSWORD)
    assert _redeem(site, link).status == 200


def _ascii(text: str) -> str:
    return "".join(sign if sign.isascii() else "".join(f"%{byte:02x}" for byte in sign.encode()) for sign in text)


def test_VER_09_a_change_of_the_account_ends_the_links_from_before(site: Site) -> None:
    """A link that was out when the account was confirmed by a reset is dead."""
    email, verify = _new_link(site, "verify")

    assert Program(site).reset(ask_reset(site, email)).status == 200

    again = Program(site).verify(verify)
    assert (again.status, again.code) == (410, "token_superseded")


def test_VER_10_confirming_logs_no_foreign_browser_in(site: Site) -> None:
    """Whoever opens a link in another browser than the one that signed up confirms, and is not logged in by it."""
    email, own = some_email(), Browser(site)
    link = sign_up(site, email, visitor=own)
    other = Browser(site)

    other.verify(link)

    assert _can_log_in(site, email, PASSWORD)
    assert not other.is_in
    assert not own.is_in


def test_VER_10_a_program_gets_no_token_by_a_link_alone(site: Site) -> None:
    """Confirming without a password hands a program no tokens."""
    _, link = _new_link(site, "verify")

    answer = Program(site).verify(link)

    assert (answer.json["access_token"], answer.json["refresh_token"]) == (None, None)
    assert not answer.cookies


@pytest.mark.parametrize("purpose", ["verify", "reset"])
def test_VER_11_RST_14_a_page_gives_its_token_to_nobody(site: Site, purpose: str) -> None:
    """The page of a link loads nothing from elsewhere, names no address to others, and is kept in no cache."""
    _, link = _new_link(site, purpose)
    browser = Browser(site)

    page = browser.get(link)
    done = browser.fill(link, password=OTHER_PASSWORD)

    assert page.headers["Referrer-Policy"] == "strict-origin"
    assert "no-store" in page.headers["Cache-Control"]
    assert not re.findall(r"(?:src|href)=[\"'](?:https?:)?//(?!127\.0\.0\.1)[^\"']*", page.text)
    assert done.status == 303
    assert token_of(link) not in done.location
    assert token_of(link) not in json.dumps(browser.cookies)


def test_VER_12_asking_for_another_link_says_nothing(site: Site) -> None:
    """Who asks for another link is answered alike for every address; only an unproved one gets a link."""
    known, pending, unknown = join(site), some_email(), some_email()
    sign_up(site, pending)
    links = len(site.mail.mails(known, "/auth/verify/"))

    shapes = [
        shape(Program(site).post("/auth/verify/resend", {"email": email}), email) for email in (known, pending, unknown)
    ]

    assert shapes[0] == shapes[1] == shapes[2]
    settle(site)
    assert len(site.mail.mails(known, "/auth/verify/")) == links
    assert site.mail.mails(unknown) == []


def test_VER_14_REF_09_a_stolen_database_opens_nothing(site: Site) -> None:
    """No value in the database confirms, resets, refreshes or opens anything, alone or in the place of a token."""
    _, verify = _new_link(site, "verify")
    email, reset = _new_link(site, "reset")
    pair = Program(site).login(email).json
    browser = Browser(site)
    browser.login(email)
    values = set(site.dump())

    secrets = {
        token_of(verify),
        token_of(reset),
        pair["access_token"],
        pair["refresh_token"],
        *browser.cookies.values(),
    }
    text = "\n".join(values)
    assert [secret for secret in secrets if secret in text] == []
    ids = {value for value in values if re.fullmatch(r"[0-9a-f-]{32,36}", value)}
    for value in list(ids)[:40]:
        short = base64.urlsafe_b64encode(bytes.fromhex(value.replace("-", ""))).rstrip(b"=").decode()
        for token in (value, short):
            assert Program(site).post("/auth/verify", {"token": token}).status == 400
            assert Program(site).refresh(token).status == 401
            assert Program(site).me(token).status == 401


def _asking(line: str, *headers: str) -> bytes:
    return "\r\n".join([line, *headers]).encode()


POISON = {
    "host": _asking("POST {path} HTTP/1.1", "Host: evil.example"),
    "host-port": _asking("POST {path} HTTP/1.1", "Host: {host}:evil.example"),
    "forwarded-host": _asking("POST {path} HTTP/1.1", "Host: {host}", "X-Forwarded-Host: evil.example"),
    "forwarded-rest": _asking(
        "POST {path} HTTP/1.1",
        "Host: {host}",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 1",
        "X-Forwarded-Prefix: /evil",
    ),
    "forwarded": _asking(
        "POST {path} HTTP/1.1", "Host: {host}", "Forwarded: for=1.2.3.4;host=evil.example;proto=https"
    ),
    "other-names": _asking(
        "POST {path} HTTP/1.1",
        "Host: {host}",
        "X-Host: evil.example",
        "X-Forwarded-Server: evil.example",
        "X-HTTP-Host-Override: evil.example",
    ),
    "original-url": _asking(
        "POST {path} HTTP/1.1", "Host: {host}", "X-Original-URL: //evil.example/", "X-Rewrite-URL: //evil.example/"
    ),
    "two-hosts": _asking("POST {path} HTTP/1.1", "Host: {host}", "Host: evil.example"),
    "two-hosts-folded": _asking("POST {path} HTTP/1.1", "Host: evil.example", " Host: {host}"),
    "absolute": _asking("POST http://evil.example{path} HTTP/1.1", "Host: {host}"),
    "absolute-both": _asking("POST http://evil.example{path} HTTP/1.1", "Host: evil.example"),
    "user": _asking("POST {path} HTTP/1.1", "Host: {host}@evil.example"),
    "markup": _asking("POST {path} HTTP/1.1", "Host: {host}:'<a href=//evil.example/?"),
    "no-host": _asking("POST {path} HTTP/1.0", "X-Forwarded-Host: evil.example"),
}


@pytest.mark.parametrize("head", POISON.values(), ids=POISON)
def test_RST_04_no_request_says_where_a_link_leads(site: Site, head: bytes) -> None:
    """Whatever a request says of its host, the links of its mail lead to the configured address."""
    email = join(site)
    body = json.dumps({"email": email}).encode()
    host = site.base_url.removeprefix("http://").encode()
    rest = f"\r\nContent-Type: {JSON}\r\nAccept: {JSON}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    filled = head.replace(b"{path}", b"/auth/password-reset/request").replace(b"{host}", host)

    status = raw(site, filled + rest.encode() + body).status

    arrived = [mail for mail in mails_to(site, email) if any("/password-reset/" in link for link in mail.links)]
    assert status == 202 or not arrived
    for mail in arrived:
        assert all(link.startswith(f"{site.base_url}/") for link in [*mail.links, *mail.html_links])
        assert b"evil" not in mail.message.as_bytes()


def test_RST_08_a_reset_ends_every_other_link(site: Site) -> None:
    """When one of three reset links is used, the others are dead."""
    email = join(site)
    links = [ask_reset(site, email)]
    for _ in range(2):
        _pause()
        links.append(ask_reset(site, email))
    assert len(set(links)) == 3

    assert Program(site).reset(links[1]).status == 200

    for link in (links[0], links[2]):
        assert Program(site).reset(link, ATTACKERS_PASSWORD).status == 410
    assert _can_log_in(site, email, OTHER_PASSWORD)


def _pause() -> None:
    # A second mail of one kind waits a second on these sites; the database keeps whole ones.
    time.sleep(2.1)


def test_RST_09_RST_15_strangers_requests_end_nothing(site: Site) -> None:
    """Whatever strangers ask for, the owner's link, password and login go on."""
    email, link = _new_link(site, "reset")
    owner = Browser(site)
    owner.login(email)

    for _ in range(20):
        Program(site).ask_reset(email)
        Program(site).signup(email, ATTACKERS_PASSWORD)

    assert owner.is_in
    assert _can_log_in(site, email, PASSWORD)
    assert Program(site).reset(link).status == 200


def test_RST_11_a_reset_logs_no_browser_in(site: Site) -> None:
    """Who sets a password on the page is not logged in by that."""
    _, link = _new_link(site, "reset")
    browser = Browser(site)

    assert browser.reset(link).status == 303

    assert not browser.is_in


def test_RST_13_a_refused_password_leaves_the_link_good(site: Site) -> None:
    """A new password that breaks a rule is refused with its reason; neither the link nor the old password is lost."""
    email, link = _new_link(site, "reset")

    for password in ("short", "passwordpassword", "123456789012", email, "x" * 300):
        answer = Program(site).reset(link, password)
        assert (answer.status, answer.code) == (422, "validation_failed")

    assert _can_log_in(site, email, PASSWORD)
    assert Program(site).reset(link).status == 200


def test_RST_16_a_reset_lets_nobody_back_in_who_was_disabled(site: Site) -> None:
    """The links of a disabled account are dead, new ones are not mailed, and its answers are like all others."""
    email, link = _new_link(site, "reset")
    nobody = some_email()
    site.flask("accountflow", "disable-user", email)
    before = len(mails_to(site, email))

    assert Program(site).reset(link).status == 410
    assert shape(Program(site).ask_reset(email), email) == shape(Program(site).ask_reset(nobody), nobody)

    assert len(mails_to(site, email)) == before
    assert not _can_log_in(site, email, PASSWORD)
    assert not _can_log_in(site, email, OTHER_PASSWORD)


def test_RST_17_a_link_is_of_one_account(site: Site) -> None:
    """Whatever else is sent with a link, it sets the password of the account that it was mailed to."""
    victim = join(site)
    user = Program(site).login(victim).json["user"]
    email, link = _new_link(site, "reset")

    answer = Program(site).reset(
        link, ATTACKERS_PASSWORD, email=victim, user_id=user["id"], id=user["id"], sub=user["id"]
    )

    assert answer.status == 200
    assert answer.json["user"]["email"] == email
    assert _can_log_in(site, victim, PASSWORD)
    assert not _can_log_in(site, victim, ATTACKERS_PASSWORD)


def test_RST_12_a_notice_tells_the_owner_and_nobody_else(site: Site) -> None:
    """After a reset its owner gets a notice, which has neither the password nor a link that sets one."""
    email, link = _new_link(site, "reset")
    before = len(mails_to(site, email))

    Program(site).reset(link, OTHER_PASSWORD)

    [notice] = mails_to(site, email)[before:]
    text = notice.part("plain") + notice.part("html")
    assert OTHER_PASSWORD not in text
    assert token_of(link) not in text
    assert not any(re.search(r"/(verify|password-reset)/[^/]{30}", one) for one in [*notice.links, *notice.html_links])
