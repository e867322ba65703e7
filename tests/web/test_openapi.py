"""The description of the API: what it names exists, what exists it names, and every answer is as it says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wtforms
from answers import FORM, PRODUCTION, Script, bearer
from described import Described
from jwt_tools import pem
from openapi_spec_validator import OpenAPIV31SpecValidator
from sqlalchemy.exc import OperationalError
from support import ABSENT, BASE_URL, OTHER_PASSWORD, PASSWORD, Site, token_in
from wtforms import (
    BooleanField,
    DateField,
    DateTimeLocalField,
    DecimalField,
    IntegerField,
    RadioField,
    SelectField,
    SelectMultipleField,
    StringField,
    ValidationError,
)
from wtforms.validators import AnyOf, DataRequired, Email, InputRequired, Length, NumberRange, Optional

from flask_accountflow.errors import PROBLEMS
from flask_accountflow.flow import Action, Contract, Outcome, Services, refusals
from flask_accountflow.flows import ACTIONS, SEED_ALIASES
from flask_accountflow.forms import RefreshForm, SignupForm
from flask_accountflow.passwords import PasswordPolicy

EMAIL, ADMIN, PENDING = "vic@example.com", "root@example.com", "pia@example.com"
#: Where a member moves to.
MOVED = "vic@new.example"
DOCS = Path(__file__).resolve().parents[2] / "docs" / "http.md"

MakeSite = Callable[..., Site]

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "usual": {},
    "aliases": {"ACCOUNTFLOW_SEED_ALIASES": True},
    "prefix": {"ACCOUNTFLOW_URL_PREFIX": "/my/account"},
    "keys": {"ACCOUNTFLOW_JWT_ALGORITHM": "ES256", "ACCOUNTFLOW_JWT_PRIVATE_KEYS": [pem("ES256")]},
    "closed": {"ACCOUNTFLOW_SIGNUP_ENABLED": False},
    "links in answers": {"ACCOUNTFLOW_RETURN_TOKEN_IN_RESPONSE": True},
    "at once": {"ACCOUNTFLOW_AUTO_ACTIVATE": True},
    "no login by reset": {"ACCOUNTFLOW_LOGIN_ON_RESET": "never"},
    "opening confirms": {"ACCOUNTFLOW_VERIFY_ON_GET": True},
}
every_configuration = pytest.mark.parametrize("config", CONFIGURATIONS.values(), ids=CONFIGURATIONS)


@every_configuration
def test_the_description_is_valid(make_site: MakeSite, config: dict[str, Any]) -> None:
    """The description is OpenAPI 3.1, its schemas are those of JSON Schema 2020-12, and its examples keep to them."""
    described = Described(make_site(config))

    OpenAPIV31SpecValidator(described.document).validate()

    assert described.document["openapi"].startswith("3.1.")
    seen = list(_examples(described))
    assert len(seen) > 100
    assert [(name, described.faults(schema, example)) for name, schema, example in seen] == [
        (name, []) for name, _, _ in seen
    ]


def _examples(described: Described) -> Iterator[tuple[str, Any, Any]]:
    """Yield each example with its schema."""
    for _, _, operation in described.operations():
        parts = [described.response(operation, int(status)) or {} for status in operation["responses"]]
        for part in [*parts, operation.get("requestBody", {})]:
            for kind, media in part.get("content", {}).items():
                values = [one["value"] for one in media.get("examples", {}).values()]
                values += [media["example"]] if "example" in media else []
                assert values or kind == "text/html" or operation["operationId"] == "openapi_show", (part, kind)
                yield from ((operation["operationId"], media["schema"], value) for value in values)


@every_configuration
def test_everything_that_speaks_json_is_described(make_site: MakeSite, config: dict[str, Any]) -> None:
    """Every method of every address that answers programs is described, and nothing else."""
    site = make_site(config)
    prefix = config.get("ACCOUNTFLOW_URL_PREFIX", "/auth")
    program = site.program()

    found = set()
    for rule in site.app.url_map.iter_rules():
        if not rule.endpoint.startswith("accountflow.") or rule.endpoint.endswith((".static", ".rest", ".rest_root")):
            continue
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            path = re.sub("<[^>]+>", "x", rule.rule)
            answer = program.client.open(path, method=method, headers=program.headers)
            if answer.status_code != 406:
                found.add((method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule.removeprefix(prefix))))

    described = Described(site)
    assert found == {(method, path) for method, path, _ in described.operations()}
    assert [server["url"] for server in described.document["servers"]] == [BASE_URL + prefix]


@pytest.mark.parametrize("aliases", [False, True])
def test_operations_have_the_names_of_their_actions(make_site: MakeSite, aliases: bool) -> None:
    """An operation is called like its action, and what shows something like its action with "_show"."""
    described = Described(make_site({"ACCOUNTFLOW_SEED_ALIASES": aliases}))

    names = [operation["operationId"] for _, _, operation in described.operations()]

    assert len(names) == len(set(names))
    spoken = [action for action in (*ACTIONS, *(SEED_ALIASES if aliases else ())) if "json" in action.formats]
    assert set(names) - {"csrf_show", "openapi_show"} == {
        *(action.name for action in spoken if action.run is not None),
        *(f"{action.name}_show" for action in spoken if action.page is not None or action.show is not None),
    }
    assert all(operation["summary"].endswith(".") for _, _, operation in described.operations())


def test_the_codes_are_the_closed_list(make_site: MakeSite) -> None:
    """The description knows the codes of the closed list and no others, each with its HTTP status."""
    for config in ({}, CONFIGURATIONS["closed"]):
        described = Described(make_site(config))

        said = [described.codes(operation) for _, _, operation in described.operations()]

        assert described.general_codes() == set(PROBLEMS)
        assert described.document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] == list(PROBLEMS)
        spoken = {(code, status) for codes in said for code, status in codes.items()}
        assert spoken - {(code, problem.status) for code, problem in PROBLEMS.items()} == {("token_invalid", 401)}
        nowhere = set(PROBLEMS) - {code for code, _ in spoken}
        assert nowhere - {"signup_closed"} == {"fresh_login_required", "method_not_allowed"}
        assert ("signup_closed" in nowhere) is (config == {})


# Examples.


class Stage:
    """A site on which the examples of the description can be sent, with what only this site can know put in."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.described = Described(site)
        self.program = site.program()
        self._tokens: dict[str, str] = {}

    def secrets(self, name: str) -> dict[str, Any]:
        """Prepare the site for an operation, and return the members and arguments that no example can know."""
        site, program = self.site, self.program
        if name.startswith("verify") or name == "activate":
            program.signup(PENDING)
            return {"token": site.last_token}
        if name in {"reset", "reset_show", "reset_confirm"}:
            program.request_reset(email=EMAIL)
            return {"token": site.last_token}
        if name.startswith(("email_confirm", "email_revert")):
            return {"token": self._moved() if name.startswith("email_revert") else self._asked_to_move()}
        if name == "refresh":
            return {"refresh_token": program.login(EMAIL).json["refresh_token"]}
        if name == "session":
            token = bearer(program.login(ADMIN))
            return {"id": program.get("/auth/sessions", **token).json["sessions"][0]["id"]}
        return {
            "login": {"email": EMAIL, "password": PASSWORD},
            "login_fresh": {"password": PASSWORD},
            "password_change": {"current_password": PASSWORD},
            "email_change": {"current_password": PASSWORD},
        }.get(name, {})

    def _asked_to_move(self) -> str:
        """Ask for another address, and return the token of the link that confirms it."""
        login = bearer(self.program.login(EMAIL))
        self.program.post("/auth/email/change", {"new_email": MOVED, "current_password": PASSWORD}, **login)
        return self._mailed(MOVED)

    def _moved(self) -> str:
        """Change an address, and return the token of the link that undoes it."""
        self.program.post(f"/auth/email/confirm/{self._asked_to_move()}")
        return self._mailed(EMAIL)

    def _mailed(self, email: str) -> str:
        links = [letter.link for letter in self.site.letters if letter.to == email and letter.link is not None]
        return token_in(links[-1])

    def send(
        self,
        name: str,
        body: Any = None,
        *,
        login: str | None = ADMIN,
        client: Any = None,
        raw: Any = None,
        **arguments: str,
    ) -> Any:
        """Send a request of this operation, with the login of somebody where it takes one. The answer is checked."""
        method, path, operation = self.described.by_id(name)
        headers = {**self.program.headers, **(raw or {}).pop("headers", {})}
        if login is not None and {"bearer": []} in operation.get("security", []):
            headers["Authorization"] = f"Bearer {self.token(login)}"
        places = {one["name"]: "x" for one in operation.get("parameters", [])}
        path = f"/auth{path.format(**{**places, **arguments})}"
        sent = raw if raw is not None else {} if body is None else {"json": body}
        client = self.program.client if client is None else client
        return self.described.check(client.open(path, method=method, headers=headers, **sent))

    def token(self, email: str, *, again: bool = False) -> str:
        """Return an access token of somebody; that of another login if asked ``again``."""
        if email not in self._tokens or again:
            self._tokens[email] = self.program.login(email).json["access_token"]
        return self._tokens[email]

    def example(self, name: str) -> Any:
        """Return the example of a request."""
        content = self.described.by_id(name)[2].get("requestBody", {}).get("content", {})
        return content.get("application/json", {}).get("example")


def set_up(site: Site) -> Stage:
    """Return a site with a member and an administrator."""
    site.member(EMAIL)
    site.member(ADMIN, admin=True)
    return Stage(site)


@pytest.fixture
def stage(site: Site) -> Stage:
    """A site with a member and an administrator."""
    return set_up(site)


EXAMPLES = [
    *(f"{action.name}_show" for action in ACTIONS if "json" in action.formats and (action.page or action.show)),
    *(action.name for action in ACTIONS if "json" in action.formats and action.run),
    "csrf_show",
    "openapi_show",
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of_a_request_works(stage: Stage, name: str) -> None:
    """The example of every request, sent as it is but for secrets, succeeds and is answered like its example."""
    _, _, operation = stage.described.by_id(name)
    arguments = {one["name"] for one in operation.get("parameters", [])}
    known = stage.secrets(name)
    body = stage.example(name)
    if body is not None:
        body |= {key: value for key, value in known.items() if key in body}

    answer = stage.send(name, body, **{key: value for key, value in known.items() if key in arguments})

    successes = [status for status in operation["responses"] if status < "300"]
    assert [str(answer.status_code)] == successes, answer.text
    media = (
        (stage.described.response(operation, answer.status_code) or {}).get("content", {}).get("application/json", {})
    )
    examples = [one["value"] for one in media.get("examples", {}).values()] or [media.get("example")]
    if name != "openapi_show":
        assert _shape(answer.json if answer.data else None) in [_shape(example) for example in examples]


def _shape(value: Any) -> Any:
    """Return which members a value has, without what they hold."""
    if isinstance(value, dict):
        return {name: _shape(member) for name, member in value.items()}
    return [_shape(value[0])] if isinstance(value, list) else None


def test_the_example_of_a_refusal_looks_like_one(stage: Stage) -> None:
    """The example of a problem has the members of a real one, whatever it adds to those of every problem."""
    examples = {
        code: example["value"]
        for response in stage.described.document["components"]["responses"].values()
        for code, example in response.get("content", {}).get("application/problem+json", {}).get("examples", {}).items()
    }
    stage.site.member(PENDING, verified=False)
    stage.program.signup(PENDING)
    real = [
        stage.program.signup("ada@example.com", "short"),
        stage.program.login(PENDING),
        stage.program.login(EMAIL, "a wrong password"),
        stage.program.get("/auth/nothing"),
    ]

    for answer in real:
        example = examples[answer.json["code"]]
        assert set(answer.json) == set(example)
        assert [set(one) for one in answer.json.get("errors", [])] == [set(one) for one in example.get("errors", [])]


def test_what_a_problem_always_has_is_required(stage: Stage) -> None:
    """What a code adds to the members of every problem is required where no other code has its status."""
    _, _, operation = stage.described.by_id("signup")

    for status, member in (("422", "errors"), ("429", "retry_after"), ("503", "retry_after")):
        media = (stage.described.response(operation, int(status)) or {})["content"]["application/problem+json"]
        [example] = [one["value"] for one in media["examples"].values()]
        for name in example:
            less = {key: value for key, value in example.items() if key != name}
            assert stage.described.faults(media["schema"], less) == [f"$: {name!r} is a required property"]
        assert member in example


def test_the_documented_bodies_are_as_described(site: Site) -> None:
    """The bodies in the documentation of the routes keep to the schemas of the same names."""
    described = Described(site)
    text = DOCS.read_text().partition("## Bodies")[2]

    found = dict(re.findall(r"\n### (\w+)\n.*?```json\n(.*?)```", text, re.DOTALL))

    assert set(found) == {"Signup", "Accepted", "Verified", "Session", "Sessions", "EmailChange", "Problem"}
    for name, body in found.items():
        value = json.loads(body.replace('"id": "…"', '"id": "2f1c3c1e-8a64-4c55-9b0e-5d7a3e9c1b42"'))
        assert described.faults({"$ref": f"#/components/schemas/{name}"}, value) == []


# Refusals.

CLOSED = CONFIGURATIONS["closed"]
LIMITED = {"ACCOUNTFLOW_RATELIMIT_ENABLED": True} | {
    f"ACCOUNTFLOW_RATELIMIT_{name}": "1/hour" for name in ("LOGIN", "LOGIN_IP", "MAIL_IP", "TOKEN_IP")
}
#: The client whose flows fail.
UNLUCKY = "Unlucky/1.0"


def failing(flow: Any, error: Exception) -> Any:
    """Return a flow that fails for one kind of client."""

    def failing_flow(services: Services, form: Any) -> Outcome:
        if services.visit.user_agent == UNLUCKY:
            raise error
        return flow(services, form) if flow is not None else Outcome("form")

    return failing_flow


def breaking(error: Exception) -> dict[str, Any]:
    """Return the parts of a site as in production whose flows fail for one kind of client."""
    actions = [
        replace(
            action,
            run=failing(action.run, error) if action.run is not None else None,
            show=failing(action.show, error) if action.show is not None or action.page is not None else None,
        )
        for action in ACTIONS
    ]
    return {"config": PRODUCTION, "actions": actions}


#: The sites on which these codes are said.
SITES: dict[str, dict[str, Any]] = {
    "signup_closed": {"config": CLOSED},
    "rate_limited": {"config": LIMITED},
    "busy": breaking(OperationalError("SELECT 1", {}, Exception("gone"))),
    "internal_error": breaking(RuntimeError("a fault of ours")),
}


def send_raw(stage: Stage, name: str, **raw: Any) -> Any:
    return stage.send(name, raw={"data": b"{}", "content_type": "application/json", **raw})


def browser_of_an_administrator(stage: Stage) -> Any:
    """Return a client with the cookie of an administrator."""
    script = Script(stage.site)
    script.log_in(ADMIN)
    return script.client


def send_without_token(stage: Stage, name: str) -> Any:
    """Send a request with a session cookie, and without the token that goes with it."""
    body = {**(stage.example(name) or {}), "transport": "cookie"}
    return stage.send(name, body, login=None, client=browser_of_an_administrator(stage))


def send_from_elsewhere(stage: Stage, name: str) -> Any:
    """Send a request with a session cookie from another site's page."""
    raw = {"json": {}, "headers": {"Origin": "https://evil.example"}}
    return stage.send(name, raw=raw, login=None, client=browser_of_an_administrator(stage))


def send_wrong_types(stage: Stage, name: str) -> Any:
    """Send what no member may be."""
    return stage.send(name, {member: [{}] for member in stage.example(name) or {}})


def send_unluckily(stage: Stage, name: str) -> Any:
    """Send the example as the client for which flows fail."""
    raw = {"headers": {"User-Agent": UNLUCKY}, **({"json": stage.example(name)} if stage.example(name) else {})}
    return stage.send(name, raw=raw)


def send_twice(stage: Stage, name: str) -> Any:
    """Send the example twice, in which nothing is the secret of this site."""
    stage.token(ADMIN)
    stage.send(name, stage.example(name))
    return stage.send(name, stage.example(name))


def send_link(stage: Stage, name: str, *, change: Callable[[str], object] = lambda token: None, token: str = "") -> Any:
    """Send the token of a link after something has happened to it."""
    token = token or stage.secrets(name)["token"]
    change(token)
    body = stage.example(name)
    return stage.send(
        name, None if body is None else {**body, **({"token": token} if "token" in body else {})}, token=token
    )


def send_login(stage: Stage, name: str, **values: Any) -> Any:
    """Log in, or refresh a login, after something has happened to the account."""
    body = {"email": EMAIL, "password": PASSWORD} if name == "login" else stage.secrets(name)
    stage.site.change(EMAIL, **values)
    return stage.send(name, body)


def use(stage: Stage, name: str, token: str) -> None:
    """Use a link that works."""
    place = {"email_confirm": "email/confirm", "email_revert": "email/revert"}
    path = place.get(name.removesuffix("_show"), "password-reset")
    assert stage.program.reset(f"/auth/{path}/{token}").status_code == 200


def disable(stage: Stage) -> None:
    for email in (EMAIL, PENDING, MOVED):
        stage.site.change(email, is_active=False)


#: How each code is provoked.
PROVOKED: dict[str, Callable[[Stage, str], Any]] = {
    "malformed_body": lambda stage, name: send_raw(stage, name, data=b"{"),
    "unsupported_media_type": lambda stage, name: send_raw(stage, name, content_type="text/plain"),
    "payload_too_large": lambda stage, name: send_raw(stage, name, data=b" " * 70_000),
    "cross_origin_blocked": send_from_elsewhere,
    "csrf_failed": send_without_token,
    "validation_failed": send_wrong_types,
    "authentication_required": lambda stage, name: stage.send(name, login=None),
    "forbidden": lambda stage, name: stage.send(name, login=EMAIL),
    "not_acceptable": lambda stage, name: stage.send(name, raw={"headers": {"Accept": "application/problem+json"}}),
    "not_found": lambda stage, name: stage.send(name, id="0123"),
    "rate_limited": send_twice,
    "busy": send_unluckily,
    "internal_error": send_unluckily,
    "signup_closed": lambda stage, name: stage.send(name, stage.example(name)),
    "email_taken": lambda stage, name: stage.send(name, {"email": EMAIL}),
    "invalid_credentials": lambda stage, name: stage.send(name, {"email": EMAIL, "password": OTHER_PASSWORD}),
    "email_unverified": lambda stage, name: send_login(stage, name, email_verified_at=None),
    "account_disabled": lambda stage, name: send_login(stage, name, is_active=False),
    "token_expired": lambda stage, name: send_link(stage, name, change=lambda token: stage.site.clock.tick(300_000)),
    "token_superseded": lambda stage, name: send_link(stage, name, change=lambda token: disable(stage)),
    "token_used": lambda stage, name: send_link(stage, name, change=lambda token: use(stage, name, token)),
    "token_invalid": lambda stage, name: (
        stage.send(name, stage.example(name)) if name == "refresh" else send_link(stage, name, token="a.b.c")
    ),
}


#: What leaves the site as it was, so that it may serve for every operation.
HARMLESS = {
    "malformed_body",
    "unsupported_media_type",
    "payload_too_large",
    "cross_origin_blocked",
    "csrf_failed",
    "validation_failed",
    "authentication_required",
    "forbidden",
    "busy",
    "internal_error",
}


@pytest.mark.parametrize("code", PROVOKED)
def test_every_code_of_an_operation_is_said_by_it(make_site: MakeSite, code: str) -> None:
    """Whatever refusal the description promises of an operation can be had, with its status and the body described."""
    parts = SITES.get(code, {})
    described = Described(make_site(parts.get("config", {})))

    promised = {op["operationId"]: described.codes(op).get(code) for _, _, op in described.operations()}
    promised = {name: status for name, status in promised.items() if status is not None}
    assert promised
    stage = None
    for name, status in promised.items():
        if stage is None or code not in HARMLESS:
            stage = set_up(make_site(**parts))
        answer = PROVOKED[code](stage, name)
        assert (answer.status_code, answer.json["code"]) == (status, code), name


def test_every_promised_code_is_provoked() -> None:
    """The test above knows every code of the closed list but those that no operation says by itself."""
    assert set(PROBLEMS) - set(PROVOKED) == {"fresh_login_required", "method_not_allowed"}


@pytest.mark.parametrize("code", [*sorted(HARMLESS - {"busy", "internal_error"}), "rate_limited"])
def test_what_may_be_done_wrong_anywhere(make_site: MakeSite, code: str) -> None:
    """Each mistake that can be made at any operation is answered as described by every one of them."""
    stage = set_up(make_site(**SITES.get(code, {})))

    for method, _, operation in list(stage.described.operations()):
        if method != "GET":
            PROVOKED[code](stage, operation["operationId"])  # which checks the answer
            if code != "rate_limited":  # where logins are counted; none of its requests ends one
                stage.token(ADMIN, again=True)


LINKS = ["verify_show", "verify", "verify_token", "reset_show", "reset", "reset_confirm"]
LINKS += ["email_confirm_show", "email_confirm", "email_revert_show", "email_revert"]


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("code", ["token_expired", "token_superseded", "token_used", "token_invalid"])
def test_whatever_became_of_a_link(stage: Stage, name: str, code: str) -> None:
    """In whatever state a link is, the answer to showing and to using it is described."""
    if code == "token_used" and name.startswith("verify"):
        answer = send_link(stage, name, change=lambda token: stage.program.verify(f"/auth/verify/{token}"))
        assert (answer.status_code, answer.json["status"]) == (200, "already_verified")
    else:
        assert PROVOKED[code](stage, name).json["code"] == code


ACCOUNTS = [
    *(("login", code) for code in ("invalid_credentials", "email_unverified", "account_disabled")),
    *(("refresh", code) for code in ("token_invalid", "email_unverified", "account_disabled")),
    ("session", "not_found"),
    ("admin_users", "email_taken"),
]


@pytest.mark.parametrize(("name", "code"), ACCOUNTS)
def test_whatever_became_of_an_account(stage: Stage, name: str, code: str) -> None:
    """Whatever stands in the way of a login or of a new account, the answer is described."""
    assert PROVOKED[code](stage, name).json["code"] == code


# Answers.


def test_a_whole_journey_is_as_described(site: Site) -> None:
    """Every answer on the way from sign-up to logout is as described, in both kinds of login."""
    site.member(ADMIN, admin=True)
    described, program, script = Described(site), site.program(), Script(site)
    check = described.check

    check(program.get("/auth/signup"))
    check(program.signup(EMAIL))
    link = site.last_link
    check(program.open(link))
    check(program.verify(link, password=PASSWORD))
    check(program.open(link))
    check(program.verify(link))
    pair = check(program.login(EMAIL))
    check(program.me(pair))
    check(program.post("/auth/login/fresh", {"password": PASSWORD}, **bearer(pair)))
    pair = check(program.login(EMAIL))
    pair = check(program.post("/auth/refresh", {"refresh_token": pair.json["refresh_token"]}))
    check(program.get("/auth/sessions", **bearer(pair)))
    check(program.client.delete("/auth/sessions", headers={**program.headers, **bearer(pair)}))
    check(program.request_reset(email=EMAIL))
    check(program.open(site.last_link))
    check(program.reset(site.last_link))
    check(script.get("/auth/csrf"))
    check(script.log_in(EMAIL, password=OTHER_PASSWORD))
    check(script.get("/auth/me"))
    check(script.get("/auth/sessions"))
    check(script.post("/auth/logout", x_csrf_token=script.token()))
    admin = bearer(check(program.login(ADMIN)))
    check(program.post("/auth/admin/users", {"email": "new@example.com"}, **admin))
    check(program.post("/auth/admin/test-mail", {"to": "new@example.com"}, **admin))
    check(program.signup("una@example.com"))
    check(program.verify(site.last_link, discard=True))


@pytest.mark.parametrize("config", [CONFIGURATIONS["links in answers"], CONFIGURATIONS["at once"]])
def test_answers_without_mail_are_as_described(make_site: MakeSite, config: dict[str, Any]) -> None:
    """Where links or logins stand in answers, the description says so."""
    site = make_site(config)
    site.member(ADMIN, admin=True)
    described, program = Described(site), site.program()

    signed_up = described.check(program.signup(EMAIL))
    again = described.check(program.signup(EMAIL))
    created = described.check(
        program.post("/auth/admin/users", {"email": "new@example.com"}, **bearer(program.login(ADMIN)))
    )

    assert (signed_up.status_code, again.status_code) == (201, 202)
    assert ("reset_url" in created.json) is ("ACCOUNTFLOW_RETURN_TOKEN_IN_RESPONSE" in config)
    usual = described.document["paths"]["/signup"]["post"]["responses"]
    assert set(usual) >= {"201", "202"}


def test_a_reset_may_leave_one_logged_out(make_site: MakeSite) -> None:
    """The answer to a new password is a login or one word, as the settings say, and the description follows them."""
    for config, name in ((CONFIGURATIONS["no login by reset"], "PasswordChanged"), ({}, "Session")):
        stage = set_up(make_site(config))
        stage.program.request_reset(email=EMAIL)
        stage.described.check(stage.program.reset(stage.site.last_link))
        schema = stage.described.by_id("reset")[2]["responses"]["200"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{name}"}


def test_a_closed_sign_up_only_refuses(make_site: MakeSite) -> None:
    """While sign-up is closed the description promises no success, and while it is open no "closed"."""
    for config, statuses in ((CLOSED, [set(), set()]), ({}, [{"200", "303"}, {"202"}])):
        described = Described(make_site(config))
        found = [described.by_id(name)[2] for name in ("signup_show", "signup")]
        good = [
            {status for status in operation["responses"] if status < "400"} - ({"303"} if config else set())
            for operation in found
        ]
        assert good == statuses
        assert ["signup_closed" in described.codes(operation) for operation in found] == [bool(config)] * 2


ACCEPTED = [
    None,
    "*/*",
    "application/json",
    "application/problem+json",
    "text/html",
    "text/html,application/xhtml+xml,*/*;q=0.8",
    "application/json;q=0.1, text/html;q=0.2",
    "image/png",
    "application/*",
    "nonsense",
    "",
]


@pytest.mark.parametrize("accept", ACCEPTED)
def test_whatever_format_is_wanted(stage: Stage, accept: str | None) -> None:
    """Whatever ``Accept`` says, the answer to GET has a described status and type, by a stranger as by a member."""
    headers = {} if accept is None else {"Accept": accept}

    for method, path, _ in stage.described.operations():
        for login in ({}, {"Authorization": f"Bearer {stage.token(EMAIL)}"}):
            if method == "GET":
                address = f"/auth{path.format(token='a.b.c', id='x')}"
                stage.described.check(stage.program.client.get(address, headers={**headers, **login}))
                stage.described.check(stage.program.client.head(address, headers={**headers, **login}))


def test_pages_of_people_are_described(make_site: MakeSite) -> None:
    """Where a browser is sent on, or may confirm by opening a link, the description says so."""
    site = make_site({**CONFIGURATIONS["opening confirms"], **LIMITED})
    site.member(EMAIL)
    described, person = Described(site), site.person()

    assert described.check(person.get("/auth/me")).status_code == 303
    refused = described.response(described.by_id("me_show")[2], 401) or {}
    assert list(refused["content"]) == ["application/problem+json"]
    person.login(EMAIL)
    assert described.check(person.get("/auth/login")).status_code == 303
    assert [described.check(site.person().get("/auth/verify/a.b.c")).status_code for _ in range(2)] == [400, 429]


def test_what_only_programs_are_told(stage: Stage) -> None:
    """What is for programs alone is refused to a browser, as described."""
    found = set()
    for method, path, operation in stage.described.operations():
        address = f"/auth{path.format(token='a.b.c', id='x')}"
        answer = stage.program.client.open(address, method=method, headers={"Accept": "text/html"})
        if answer.status_code == 406:
            stage.described.check(answer)
            found.add(operation["operationId"])

    spoken = {action.name for action in ACTIONS if action.formats == ("json",)}
    assert found == spoken | {"sessions_show", "csrf_show", "openapi_show"}


@pytest.mark.parametrize(
    "path", ["%00", "%0a", "%ff", "a%2fb", "%2f", "a%00b", "x" * 5000, "%ed%a0%80", "a%0d%0ab", "..%2f..", "%252e", "☃"]
)
def test_what_is_no_token_is_still_an_address_of_ours(stage: Stage, path: str) -> None:
    """Whatever stands in the place of a token or an id, the answer is the described one to what is not ours."""
    for name in ("verify_show", "verify", "reset_show", "reset"):
        method, template, _ = stage.described.by_id(name)
        address = f"/auth{template.format(token=path)}"
        body = {} if method == "GET" else {"json": {"password": PASSWORD}}
        answer = stage.program.client.open(address, method=method, headers=stage.program.headers, **body)
        assert stage.described.check(answer).json["code"] == "token_invalid", (name, path)


HOSTILE = [
    b"\0",
    b'{"email": "a\\u0000b"}',
    b'{"email": "\\ud800"}',
    b'{"password": "\\ud800\\u0000"}',
    b'{"a":' * 10_000,
    b" " * 65_536,
    b"x" * 1_000_000,
    b"9" * 5000,
    b"\xff\xfe",
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=latin-1", FORM, "multipart/form-data", "junk", None]
)
def test_whatever_body_is_sent(stage: Stage, body: bytes, kind: str | None) -> None:
    """Whatever the body is, the answer to it is a described refusal, or success where no member matters."""
    for method, path, operation in stage.described.operations():
        if method != "GET":
            raw: dict[str, Any] = {"data": body, "content_type": kind}
            answer = stage.send(operation["operationId"], raw=raw)
            stage.token(ADMIN, again=answer.status_code == 204)
            assert 400 <= answer.status_code < 500 or "204" in operation["responses"], (method, path)


# Forms.


def never(form: Any, field: Any) -> None:
    """Stand for a validator of the host that asks the database."""
    raise ValidationError("asked")


class Careful(StringField):
    """A field of the host that asks the database."""

    def pre_validate(self, form: Any) -> None:
        raise ValidationError("asked")


def _choices(*values: Any) -> list[Any]:
    """Return choices with labels, as this version of WTForms wants them."""
    made = getattr(wtforms.fields.choices, "SelectChoice", lambda value, label: (value, label))
    return [made(value, f"No. {value}") for value in values]


class EverythingForm(SignupForm):
    """A sign-up form with a field of every kind."""

    name = StringField("Name", validators=[Length(min=2, max=80)], description="What we call you.")
    nick = StringField(validators=[Optional(), Length(max=5)])
    motto = StringField(validators=[DataRequired(), Length(min=3)])
    second = StringField(validators=[Optional(), Email()])
    size = SelectField(choices=["s", "l"])
    colour = RadioField(choices=["red", "blue"], default="red", validators=[Optional()])
    floor = SelectField(choices=_choices(1, 2), coerce=int, validators=[Optional()])
    mixed = SelectField(choices=_choices("a", 2), validators=[Optional()])
    free = SelectField(choices=["a"], validate_choice=False)
    tags = SelectMultipleField(choices=["new", "old"])
    topics = SelectMultipleField(choices=["a", "b"], validators=[InputRequired()])
    age = IntegerField(validators=[Optional(), NumberRange(min=18, max=150)])
    count = IntegerField(validators=[NumberRange(min=3)])
    height = DecimalField(validators=[Optional(), NumberRange(max=3)])
    born = DateField(validators=[Optional()])
    begins = DateField(validators=[InputRequired()])
    meets = DateTimeLocalField(validators=[Optional()])
    terms = BooleanField(validators=[DataRequired()])
    news = BooleanField(default=True)
    plan = StringField(default="free", validators=[AnyOf(["free", "paid"])])
    invited = StringField(validators=[never])
    careful = Careful()


FIELDS: dict[str, dict[str, Any]] = {
    "email": {"type": "string", "format": "email", "maxLength": 254},
    "password": {"type": "string", "format": "password", "minLength": 12, "maxLength": 256},
    "next": {"type": ["string", "null"]},
    "name": {"type": "string", "minLength": 2, "maxLength": 64, "description": "What we call you."},
    "nick": {"type": ["string", "null"], "maxLength": 5},
    "motto": {"type": "string", "minLength": 3},
    "second": {"type": ["string", "null"], "format": "email"},
    "size": {"type": "string", "enum": ["s", "l"]},
    "colour": {"type": ["string", "null"], "enum": ["red", "blue", None], "default": "red"},
    "floor": {"type": ["integer", "null"], "enum": [1, 2, None]},
    "mixed": {"type": ["integer", "string", "null"], "enum": ["a", 2, None]},
    "free": {"type": ["string", "null"]},
    "tags": {"type": ["array", "null"], "items": {"type": "string", "enum": ["new", "old"]}},
    "topics": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
    "age": {"type": ["integer", "null"], "minimum": 18, "maximum": 150},
    "count": {"type": "integer", "minimum": 3},
    "height": {"type": ["number", "null"], "maximum": 3},
    "born": {"type": ["string", "null"], "format": "date"},
    "begins": {"type": "string", "format": "date"},
    "meets": {"type": ["string", "null"]},
    "terms": {"type": "boolean", "const": True},
    "news": {"type": ["boolean", "null"], "default": True},
    "plan": {"type": ["string", "null"], "enum": ["free", "paid", None], "default": "free"},
    "invited": {"type": ["string", "null"]},
    "careful": {"type": ["string", "null"]},
}


@pytest.fixture
def everything(make_site: MakeSite) -> Described:
    """The description of a site that asks for everything at sign-up."""
    return Described(make_site(signup_form=EverythingForm))


def test_fields_of_the_host_are_described(everything: Described) -> None:
    """Each field of the host is a member with its type, limits, choices and default; what is asked for is required."""
    body = everything.by_id("signup")[2]["requestBody"]
    schema = body["content"]["application/json"]["schema"]

    assert schema["properties"] == FIELDS
    assert schema["required"] == [name for name, one in FIELDS.items() if "null" not in one["type"]]
    assert "additionalProperties" not in schema
    assert body["required"] is True
    assert body["content"]["application/json"]["example"] == {
        "email": "ada@example.com",
        "password": "correct horse battery staple",
        "name": "Ada",
        "motto": "Ada",
        "size": "s",
        "colour": "red",
        "topics": ["a"],
        "count": 3,
        "begins": "2026-11-21",
        "terms": True,
        "news": True,
        "plan": "free",
    }


def refused(answer: Any) -> set[str]:
    """Return the names of the fields that are at fault."""
    return {fault["field"] for fault in (answer.json or {}).get("errors", [])}


#: Members as they may be, and as they may not, of the form with everything.
TRIED: dict[str, tuple[list[Any], list[Any]]] = {
    "email": (["x" * 50 + "@example.com"], ["x", "x" * 260, 1, None]),
    "password": (
        ["zq" * 2 + "xkvw" * 2, "".join(map(chr, range(0x100, 0x200)))],
        ["elevenchars", "".join(map(chr, range(0x100, 0x201))), None],
    ),
    "name": (["ab", "é" * 64], ["a", "é" * 65, 7, None]),
    "nick": (["", "abcde", None], ["abcdef", ["a"]]),
    "motto": (["abc"], ["ab", "", None]),
    "second": (["a@example.com", None], ["a"]),
    "size": (["s", "l"], ["m", None]),
    "colour": (["blue", None], ["green"]),
    "floor": ([1, None], [3]),
    "mixed": (["a", 2, None], ["b"]),
    "free": (["z", None], [[]]),
    "tags": ([["new"], [], None], [["x"], "new"]),
    "topics": ([["a", "b"]], [["x"], None]),
    "age": ([18, 150, None], [17, 151, "18", 1.5]),
    "count": ([3], [2, None]),
    "height": ([3, 1.5, None], [4, "3"]),
    "born": (["2000-02-29", None], ["2001-02-29", "1.2.2000", 5]),
    "begins": (["2000-01-01"], [None, "soon"]),
    "terms": ([True], [False, None, "yes"]),
    "news": ([True, False, None], ["yes", 1]),
    "plan": (["paid", None], ["gold"]),
}


@pytest.mark.parametrize("name", TRIED)
def test_the_app_takes_what_the_description_allows(make_site: MakeSite, everything: Described, name: str) -> None:
    """At its limits a member is taken and refused by the app as by the schema."""
    operation = everything.by_id("signup")[2]["requestBody"]["content"]["application/json"]
    schema, example = operation["schema"], {**operation["example"], "invited": None}
    site = make_site(signup_form=_without_asking())

    for good, values in zip((True, False), TRIED[name], strict=True):
        for value in values:
            body = {**example, name: value}
            at_fault = refused(site.program().post("/auth/signup", body))
            assert at_fault == (set() if good else {name}), value
            assert (everything.faults(schema, body) == []) is good, value


def _without_asking() -> type[SignupForm]:
    class WithoutAsking(EverythingForm):
        """The form with everything, without what the host's own code refuses."""

        invited = StringField()
        careful = StringField()

    return WithoutAsking


def test_what_is_not_there_is_null_and_what_is_unknown_is_ignored(stage: Stage) -> None:
    """A member that is not required may be null, and a body may have members that no form knows."""
    for name in ("admin_users", "signup", "login", "logout", "resend", "reset_request", "verify_token"):
        schema = stage.described.by_id(name)[2]["requestBody"]["content"]["application/json"]["schema"]
        body = stage.example(name)
        body |= {key: value for key, value in stage.secrets(name).items() if key in body}
        needed = {*schema.get("required", []), *(["email"] if "email" in body else [])}
        body |= {key: None for key in schema["properties"] if key not in needed} | {"unknown": [{}]}

        assert stage.described.faults(schema, body) == []
        stage.token(ADMIN, again=True)
        assert stage.send(name, body).status_code < 300, name


def test_a_token_stands_in_for_an_address(stage: Stage) -> None:
    """Another link is asked for by address or by token: one of the two is needed, for the app as for the schema."""
    for name in ("resend", "reset_request"):
        schema = stage.described.by_id(name)[2]["requestBody"]["content"]["application/json"]["schema"]
        by_address, by_token = {"email": EMAIL, "token": None}, {"email": None, "token": "a.b.c"}
        for body in (
            by_address,
            by_token,
            {"email": EMAIL},
            {"token": "a.b.c"},
            {**by_address, **by_token},
            {},
            {"next": "/"},
        ):
            is_good = stage.send(name, body).status_code == 202
            assert (stage.described.faults(schema, body) == []) is is_good is bool({"email", "token"} & set(body))


def test_other_names_are_described_where_they_are_taken(make_site: MakeSite) -> None:
    """With the names of the tempest SDK a new password may have either name, and one of them is needed."""
    for aliases in (True, False):
        stage = set_up(make_site({"ACCOUNTFLOW_SEED_ALIASES": aliases}))
        schema = stage.described.by_id("reset_confirm")[2]["requestBody"]["content"]["application/json"]["schema"]
        for name in ("password", "new_password"):
            body = {**stage.secrets("reset_confirm"), name: PASSWORD}
            is_good = aliases or name == "password"
            assert (stage.described.faults(schema, body) == []) is is_good
            assert (stage.send("reset_confirm", body).status_code == 200) is is_good
            stage.site.clock.tick(7200)


@pytest.mark.parametrize("length", [8, 64, 128])
def test_the_length_of_a_password_is_the_sites(make_site: MakeSite, length: int) -> None:
    """The description says how long a password must be on this site, and its example is long enough."""
    site = make_site({"ACCOUNTFLOW_PASSWORD_MIN_LENGTH": length, "ACCOUNTFLOW_PASSWORD_MAX_LENGTH": 500})
    media = Described(site).by_id("signup")[2]["requestBody"]["content"]["application/json"]

    found = media["schema"]["properties"]["password"]
    assert (found["minLength"], found["maxLength"]) == (length, 500)
    assert site.program().post("/auth/signup", media["example"]).status_code == 202


def test_the_length_of_a_password_is_the_policys(make_site: MakeSite) -> None:
    """Where the host has a policy of its own, its lengths are described."""
    described = Described(make_site(password_policy=PasswordPolicy(20, 40)))

    found = described.by_id("reset")[2]["requestBody"]["content"]["application/json"]["schema"]["properties"][
        "password"
    ]

    assert (found["minLength"], found["maxLength"]) == (20, 40)


def test_the_default_of_remember_is_the_sites(make_site: MakeSite) -> None:
    """Whether a login is remembered by default is described as the site has it."""
    for remember in (True, False):
        described = Described(make_site({"ACCOUNTFLOW_REMEMBER_DEFAULT": remember}))
        media = described.by_id("login")[2]["requestBody"]["content"]["application/json"]
        assert media["schema"]["properties"]["remember"]["default"] is remember
        assert media["example"]["remember"] is remember


# Actions of the host.

TOKEN = {"type": "object", "properties": {"token": {"type": "string"}}, "required": ["token"]}


def make_token(services: Services, form: Any) -> Outcome:
    """Make a token for a machine.

    It is not kept.
    """
    return Outcome("made", {"token": "t"}, status=201)


def test_a_body_that_there_is_not(make_site: MakeSite) -> None:
    """A contract that names a body which we do not have is a mistake of the host's, and said to be one."""
    site = make_site(actions=[*ACTIONS, Action("odd", "/odd", run=make_token, contract=Contract(answers={200: "Odd"}))])

    with pytest.raises(ValueError, match=r"no body called 'Odd'. Take one of Accepted, .*, or a JSON schema"):
        site.program().get("/auth/openapi.json")


def test_an_action_of_the_host_is_described(make_site: MakeSite) -> None:
    """What the host adds is described by its form, its kind and its contract, and without a contract as anything."""
    contract = Contract(answers={201: TOKEN}, refusals=refusals("email_taken"), throttled=True)
    machine = Action(
        "machine", "/machines/<int:number>/tokens", RefreshForm, run=make_token, formats=("json",), contract=contract
    )
    plain = Action(
        "plain", "/plain", run=lambda services, form: Outcome("x", {"x": 1}), show=make_token, page="account"
    )
    bare = Action("bare", "/bare", page="account", needs_login=True)
    site = make_site(actions=[*ACTIONS, machine, plain, bare])
    site.member(EMAIL)
    described, program = Described(site), site.program()

    made, shown, run = (described.by_id(name)[2] for name in ("machine", "plain_show", "plain"))
    assert made["summary"] == "Make a token for a machine."
    assert made["tags"] == ["machines"]
    assert made["parameters"] == [{"name": "number", "in": "path", "required": True, "schema": {"type": "integer"}}]
    assert {"201", "409", "422", "429"} <= set(made["responses"])
    assert made["responses"]["201"]["content"]["application/json"] == {"schema": TOKEN}
    assert shown["responses"]["200"]["content"]["application/json"] == {"schema": {}}
    assert run["responses"]["200"]["content"]["application/json"] == {"schema": {}}
    assert run["summary"] == "plain"
    assert "requestBody" not in run
    assert "422" not in run["responses"]
    described.check(program.post("/auth/machines/7/tokens", {"refresh_token": "x"}))
    described.check(program.post("/auth/plain", {}))
    described.check(program.get("/auth/bare", **bearer(program.login(EMAIL))))


def test_who_may_call_is_described(site: Site) -> None:
    """Each operation says by which credentials it is called, and which of them needs the token of the session."""
    described = Described(site)
    by_cookie = [{"bearer": []}, {"cookie": [], "csrf": []}]

    found = {operation["operationId"]: operation.get("security") for _, _, operation in described.operations()}

    assert found["me_show"] == found["sessions_show"] == [{"bearer": []}, {"cookie": []}]
    assert found["sessions"] == found["session"] == found["admin_users"] == found["login_fresh"] == by_cookie
    assert found["logout"] == [{}, *by_cookie]
    assert found["login"] == [{}, {"cookie": [], "csrf": []}]
    assert {name for name, ways in found.items() if ways is None} >= {
        "signup",
        "verify",
        "refresh",
        "reset",
        "login_show",
    }
    assert (
        described.document["components"]["securitySchemes"]["csrf"]["name"]
        == site.program().get("/auth/csrf").json["header"]
    )


def test_a_login_is_needed_where_it_is_said(stage: Stage) -> None:
    """Whoever shows nothing is refused by what is described to take a login, and by nothing else."""
    for _, _, operation in stage.described.operations():
        name = operation["operationId"]
        wants_login = {} not in operation.get("security", [{}])
        answer = stage.send(name, stage.example(name), login=None)
        is_refused = answer.status_code == 401 and answer.json["code"] == "authentication_required"
        assert is_refused is wants_login, name


# The document itself.


def test_the_cookie_is_the_sites(make_site: MakeSite) -> None:
    """The session cookie is described under the name that the app gives it."""
    described = Described(make_site({"SESSION_COOKIE_NAME": "shop"}))

    assert described.document["components"]["securitySchemes"]["cookie"] == {
        "type": "apiKey",
        "in": "cookie",
        "name": "shop",
    }


@pytest.mark.parametrize(("prefix", "mount_point"), [("/auth", ""), ("/auth", "/shop"), ("", ""), ("", "/shop")])
def test_where_the_api_is(make_site: MakeSite, prefix: str, mount_point: str) -> None:
    """The server is BASE_URL and the prefix; without a BASE_URL it is where the app is mounted."""
    placed = make_site({"ACCOUNTFLOW_URL_PREFIX": prefix, "ACCOUNTFLOW_BASE_URL": f"{BASE_URL}{mount_point}"})
    roaming = make_site({"ACCOUNTFLOW_URL_PREFIX": prefix, "ACCOUNTFLOW_BASE_URL": ABSENT})

    found = [
        site.app.test_client().get(f"{prefix}/openapi.json", base_url=f"http://localhost{mount_point}").json["servers"]
        for site in (placed, roaming)
    ]

    assert found == [[{"url": f"{BASE_URL}{mount_point}{prefix}"}], [{"url": f"{mount_point}{prefix}" or "/"}]]


def test_it_is_made_once_and_without_the_database(own_site: Site) -> None:
    """The description costs no SQL and no login, is made once, and may not be kept by a cache that others share."""
    program = own_site.program()
    with own_site.statements() as statements:
        answers = [program.get("/auth/openapi.json") for _ in range(2)]
        with own_site.app.app_context():
            made = own_site.app.extensions["accountflow_openapi"]
            parts = [made.document()["paths"] for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].data == answers[1].data
    assert parts[0] is parts[1]
    assert statements == []
    assert answers[0].headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answers[0].headers


def test_two_apps_have_two_descriptions(make_site: MakeSite) -> None:
    """Each app of a process has a description of its own."""
    titles = [
        Described(make_site({"ACCOUNTFLOW_SITE_NAME": name})).document["info"]["title"] for name in ("Shop", "Library")
    ]

    assert titles == ["Shop: accounts", "Library: accounts"]


def test_the_description_is_json_to_everybody(site: Site) -> None:
    """A browser gets the description as JSON, too; only who rules JSON out is refused."""
    person, program = site.person(), site.program()

    assert person.get("/auth/openapi.json").mimetype == "application/json"
    assert program.client.head("/auth/openapi.json").status_code == 200
    refused = program.client.get("/auth/openapi.json", headers={"Accept": "text/html"})
    assert (refused.status_code, refused.mimetype) == (406, "text/html")
    assert program.post("/auth/openapi.json").headers["Allow"] == "GET, HEAD, OPTIONS"


def test_the_command_prints_the_description(site: Site) -> None:
    """``flask accountflow openapi`` prints what the address answers."""
    result = site.app.test_cli_runner().invoke(args=["accountflow", "openapi"])

    assert result.exit_code == 0
    assert json.loads(result.output) == Described(site).document
