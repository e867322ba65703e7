"""Coming from the tempest SDK: its endpoints. Each docstring is a row of the table for its users."""

from __future__ import annotations

from typing import Any

import pytest
from support import OTHER_PASSWORD, PASSWORD, Person, Program, Site, forms_of
from tempest_replay import token_in
from tempest_sites import FRONT_END, MakeSite, sdk_site

EMAIL = "ana@example.com"
SIGNUP_NAMES = {"user_id", "activation_required", "activation_url", "access_token", "refresh_token"}


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    """A site for clients of the SDK, with a front end of its own."""
    return sdk_site(make_site, FRONT_END)


def activate(site: Site, email: str = EMAIL) -> Any:
    """Sign an address up and confirm it, as the front end does."""
    site.program().signup(email)
    return site.program().post(f"/auth/activate/{token_in(str(site.letters[-1].link))}")


def reset_token(site: Site, email: str = EMAIL) -> str:
    """Ask for a reset, and return the token that was mailed."""
    site.program().request_reset(email=email)
    return token_in(str(site.letters[-1].link))


def test_sign_up_takes_the_same_body_and_answers_with_the_same_names(site: Site, visitor: Program | Person) -> None:
    """`POST /auth/signup` takes `email`, `password` and your own fields such as `name`, and answers `user_id`,
    `activation_required`, `activation_url`, `access_token` and `refresh_token`; in HTML it is a form.
    """
    answer = visitor.signup(EMAIL, name="Ana")

    assert site.account(EMAIL).name == "Ana"
    assert [letter.to for letter in site.letters] == [EMAIL]
    if isinstance(visitor, Program):
        assert answer.json.keys() >= SIGNUP_NAMES
        assert answer.json["activation_required"] is True
    else:
        assert answer.headers["Location"] == "/auth/signup/sent"


def test_sign_up_by_mail_is_202_and_says_nothing_of_the_account(site: Site, visitor: Program | Person) -> None:
    """A sign-up that is mailed is 202 instead of 201, with `null` for `user_id`, and the same for an address that has
    an account, which was 409.
    """
    site.member("vic@example.com")
    program = site.program()

    known, unknown = (program.signup(email) for email in ("vic@example.com", EMAIL))

    assert known.status_code == unknown.status_code == 202
    assert {**known.json, "email": EMAIL} == unknown.json
    assert [known.json[name] for name in sorted(SIGNUP_NAMES)] == [None, True, None, None, None]


def test_sign_up_by_mail_says_to_look_into_the_mail(site: Site) -> None:
    """The answer to a sign-up that is mailed has a `message` for people."""
    assert site.program().signup(EMAIL).json["message"] == "Check your email."


def test_activation_answers_with_the_pair(site: Site) -> None:
    """`POST /auth/activate/{token}` confirms the address and answers `user_id`, `access_token` and `refresh_token` with
    `ACCOUNTFLOW_LOGIN_ON_VERIFY="always"`.
    """
    answer = activate(site)

    assert answer.status_code == 200
    assert answer.json["user_id"] == str(site.account(EMAIL).id)
    assert site.program().me(answer).json["email"] == EMAIL
    assert site.program().post("/auth/refresh", {"refresh_token": answer.json["refresh_token"]}).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"data": b""},
        {"json": {}},
        {"data": b"", "content_type": "application/json"},
        {"headers": {"Accept": "application/json, text/plain, */*"}},
    ],
    ids=["nothing", "empty", "object", "empty JSON", "as axios does"],
)
def test_activation_needs_no_body(site: Site, sent: dict[str, Any]) -> None:
    """`POST /auth/activate/{token}` needs neither a body nor a `Content-Type` nor an `Accept`."""
    site.program().signup(EMAIL)
    client = site.app.test_client(use_cookies=False)

    answer = client.post(f"/auth/activate/{token_in(str(site.letters[-1].link))}", **sent)

    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert answer.get_json()["access_token"]


def test_a_used_activation_is_refused(site: Site, visitor: Program | Person) -> None:
    """An activation link that was used is refused under `/auth/activate/`, by GET and POST; under our own
    `/auth/verify/` it says that the address is confirmed already.
    """
    activate(site)
    token = token_in(str(site.letters[-1].link))

    opened, sent = visitor.open(f"/auth/activate/{token}"), visitor.verify(f"/auth/activate/{token}")

    assert opened.status_code == sent.status_code == 410
    assert visitor.open(f"/auth/verify/{token}").status_code == 200
    if isinstance(visitor, Program):
        assert opened.json["code"] == sent.json["code"] == "token_used"


def test_login_answers_with_the_pair(site: Site, visitor: Program | Person) -> None:
    """`POST /auth/login` takes `email` and `password`, and answers `user_id`, `access_token` and `refresh_token`; in
    HTML it is a form, and the session cookie is set.
    """
    site.member(EMAIL)

    answer = visitor.login(EMAIL)

    assert visitor.me(answer).status_code == 200
    if isinstance(visitor, Program):
        assert answer.json["user_id"] == str(site.account(EMAIL).id)
        assert answer.json["access_token"].count(".") == 2
        assert answer.json["refresh_token"]


def test_login_says_the_same_for_a_wrong_password_and_an_unknown_address(site: Site, visitor: Program | Person) -> None:
    """A wrong password and an unknown address are refused in the same words."""
    site.member(EMAIL)

    wrong, unknown = visitor.login(EMAIL, OTHER_PASSWORD), visitor.login("una@example.com", OTHER_PASSWORD)

    assert wrong.status_code == unknown.status_code == {"json": 401, "html": 422}[visitor.kind]
    if isinstance(visitor, Program):
        assert wrong.json == unknown.json
    else:
        assert wrong.text.replace(EMAIL, "…") == unknown.text.replace("una@example.com", "…")


def test_login_before_the_activation_is_403_to_whoever_has_the_password(site: Site, visitor: Program | Person) -> None:
    """Before the activation the right password is answered 403 `email_unverified`, and a new link is mailed; that was
    the generic 401. A wrong password is told nothing.
    """
    visitor.signup(EMAIL)
    site.clock.tick(61)

    right, wrong = visitor.login(EMAIL), visitor.login(EMAIL, OTHER_PASSWORD)

    assert len(site.letters) == 2
    if isinstance(visitor, Program):
        assert (right.status_code, right.json["code"]) == (403, "email_unverified")
        assert (wrong.status_code, wrong.json["code"]) == (401, "invalid_credentials")
    else:
        assert right.headers["Location"].startswith("/auth/signup/sent")
        assert wrong.status_code == 422


def test_a_reset_request_says_the_same_for_every_address(site: Site, visitor: Program | Person) -> None:
    """`POST /auth/password-reset/request` takes `email` and is always 202, with the same `message` and `reset_url`."""
    site.member(EMAIL)

    known, unknown = (visitor.request_reset(email=email) for email in (EMAIL, "una@example.com"))

    assert [letter.to for letter in site.letters] == [EMAIL]
    assert known.status_code == unknown.status_code == {"json": 202, "html": 303}[visitor.kind]
    if isinstance(visitor, Program):
        assert known.json == unknown.json
        assert known.json["reset_url"] is None
        assert known.json["message"] == "If an account matches, an email is on its way."
    else:
        assert known.headers["Location"] == unknown.headers["Location"] == "/auth/password-reset/sent"


def test_a_reset_is_confirmed_with_token_and_new_password(site: Site) -> None:
    """`POST /auth/password-reset/confirm` takes `token` and `new_password`, and answers `user_id`, `access_token` and
    `refresh_token`. Every older login ends, which the SDK left alive.
    """
    site.member(EMAIL)
    older = site.program().login(EMAIL)

    answer = site.program().post(
        "/auth/password-reset/confirm", {"token": reset_token(site), "new_password": OTHER_PASSWORD}
    )

    assert answer.status_code == 200
    assert answer.json["user_id"] == str(site.account(EMAIL).id)
    assert site.program().me(answer).status_code == 200
    assert site.program().me(older).status_code == 401
    assert site.program().login(EMAIL, OTHER_PASSWORD).status_code == 200


def test_our_own_name_of_the_new_password_is_accepted_too(site: Site) -> None:
    """`password` may be sent for `new_password`."""
    site.member(EMAIL)

    answer = site.program().post(
        "/auth/password-reset/confirm", {"token": reset_token(site), "password": OTHER_PASSWORD}
    )

    assert answer.status_code == 200


@pytest.mark.parametrize("wrong", ["too short", 12345678901234, ["correct horse battery"], {}, True])
def test_a_new_password_of_a_wrong_kind_is_named_by_our_name(site: Site, wrong: Any) -> None:
    """A refused `new_password` is named `password` in the problem's `errors`."""
    site.member(EMAIL)

    answer = site.program().post("/auth/password-reset/confirm", {"token": reset_token(site), "new_password": wrong})

    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json["errors"]] == ["password"]


def test_the_reset_form_takes_the_names_of_the_sdks_page(site: Site) -> None:
    """`POST /auth/password-reset/{token}` takes the form fields `new_password` and, where your page asks for it,
    `confirm_password`; two that differ are refused, and the link stays good.
    """
    site.member(EMAIL)
    path, person = f"/auth/password-reset/{reset_token(site)}", site.person()

    differing = person.send(path, {"new_password": OTHER_PASSWORD, "confirm_password": PASSWORD})
    missing = person.send(path, {"new_password": OTHER_PASSWORD, "confirm_password": ""})
    alike = person.send(path, {"new_password": OTHER_PASSWORD, "confirm_password": OTHER_PASSWORD})

    assert (differing.status_code, missing.status_code, alike.status_code) == (422, 422, 303)
    assert "The two passwords differ." in differing.text
    assert forms_of(differing)
    assert site.program().login(EMAIL, OTHER_PASSWORD).status_code == 200


def test_a_differing_repeat_does_not_revive_a_dead_link(site: Site) -> None:
    """A used reset link is refused as such, whatever is sent with it."""
    site.member(EMAIL)
    path, person = f"/auth/password-reset/{reset_token(site)}", site.person()
    person.send(path, {"new_password": OTHER_PASSWORD})

    answer = person.send(path, {"new_password": OTHER_PASSWORD, "confirm_password": PASSWORD})

    assert answer.status_code == 410


@pytest.mark.parametrize("rule", ["json", "always"])
def test_the_reset_page_leads_to_a_page_that_says_so(make_site: MakeSite, rule: str) -> None:
    """After the reset form a browser is sent on by 303 to the page of success, which the SDK answered at once."""
    site = sdk_site(make_site, {"ACCOUNTFLOW_LOGIN_ON_RESET": rule})
    site.member(EMAIL)
    person = site.person()

    sent = person.send(f"/auth/password-reset/{reset_token(site)}", {"new_password": OTHER_PASSWORD})

    assert sent.headers["Location"] == "/auth/password-reset/done"
    assert person.follow(sent).status_code == 200
    assert person.me().status_code == {"json": 303, "always": 200}[rule]


ALIASES: list[tuple[str, dict[str, Any]]] = [
    ("/auth/activate/abc", {}),
    ("/auth/activation/request", {"email": EMAIL}),
]


@pytest.mark.parametrize(("path", "body"), ALIASES)
def test_the_sdks_own_paths_are_there_when_asked_for(make_site: MakeSite, path: str, body: dict[str, Any]) -> None:
    """`/auth/activate/{token}` and `/auth/activation/request` are there with `ACCOUNTFLOW_SEED_ALIASES=True` only;
    without it the same is done by `/auth/verify/{token}` and `/auth/verify/resend`.
    """
    with_aliases, without = sdk_site(make_site), make_site()

    assert with_aliases.program().post(path, body).status_code != 404
    assert without.program().post(path, body).status_code == 404


def test_the_sdks_own_names_are_there_when_asked_for(make_site: MakeSite) -> None:
    """`new_password`, `user_id` and `message` are names with `ACCOUNTFLOW_SEED_ALIASES=True` only."""
    site = make_site()
    site.member(EMAIL)

    requested = site.program().request_reset(email=EMAIL)
    confirmed = site.program().post(
        "/auth/password-reset/confirm", {"token": site.last_token, "new_password": OTHER_PASSWORD}
    )

    assert "message" not in requested.json
    assert confirmed.status_code == 422
    assert "user_id" not in site.program().login(EMAIL).json


def test_another_activation_is_asked_for_by_address(site: Site, visitor: Program | Person) -> None:
    """`POST /auth/activation/request` takes `email`, mails another link, and is 202 for every address."""
    site.program().signup(EMAIL)
    site.clock.tick(61)

    if isinstance(visitor, Program):
        known, unknown = (
            visitor.post("/auth/activation/request", {"email": email}) for email in (EMAIL, "una@example.com")
        )
        assert (known.status_code, known.json) == (202, unknown.json)
    else:
        assert visitor.fill("/auth/activation/request", email=EMAIL).headers["Location"] == "/auth/signup/sent"
    assert [letter.template for letter in site.letters] == ["verify", "verify"]


def test_json_and_html_are_side_by_side(make_site: MakeSite) -> None:
    """Each route speaks HTML to browsers and JSON to programs at the same time; the SDK mounted its pages by
    `AUTH_BACKEND_LINKS`.
    """
    site = sdk_site(make_site, {"ACCOUNTFLOW_VERIFY_ON_GET": False})
    person, program = site.person(), site.program()

    person.signup(EMAIL)
    activation = token_in(str(site.letters[-1].link))
    assert program.get(f"/auth/activate/{activation}").json["status"] == "pending"
    assert person.get(f"/auth/activate/{activation}").mimetype == "text/html"
    assert program.post(f"/auth/activate/{activation}").json["access_token"]
    path = f"/auth/password-reset/{reset_token(site)}"
    assert program.get(path).json["status"] == "valid"
    assert forms_of(person.get(path))
    assert program.post(path, {"new_password": OTHER_PASSWORD}).json["access_token"]


def test_a_second_sign_up_before_the_first_is_confirmed_competes(site: Site) -> None:
    """When an address is signed up twice before it is confirmed, its activation takes the password in the body (422
    without it), so that nobody activates a stranger's password; the SDK refused the second sign-up.
    """
    site.program().signup(EMAIL)
    site.program().signup(EMAIL, OTHER_PASSWORD)
    path = f"/auth/activate/{token_in(str(site.letters[0].link))}"

    without, with_it = site.program().post(path), site.program().post(path, {"password": PASSWORD})

    assert (without.status_code, [fault["field"] for fault in without.json["errors"]]) == (422, ["password"])
    assert with_it.status_code == 200
    assert site.program().login(EMAIL).status_code == 200
