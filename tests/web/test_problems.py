"""Answers that say no: each in the format of its caller, whatever the host does with its own errors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from answers import PRODUCTION, heading, links, tags, words
from databases import database
from flask import got_request_exception
from jinja2 import DictLoader
from sqlalchemy.exc import OperationalError
from support import PASSWORD, Person, Program, Site

from flask_accountflow.errors import PROBLEMS, Refusal
from flask_accountflow.passwords import BcryptHasher

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS")


def with_host_handlers(site: Site) -> Site:
    """Give the host error handlers of its own for everything."""

    @site.app.errorhandler(Exception)
    def on_exception(error: Exception) -> tuple[str, int]:
        return "<h1>the host's page for everything</h1>", 418

    for number in (400, 401, 403, 404, 405, 406, 410, 413, 415, 422, 429, 500, 503):

        def on_status(error: Any, number: int = number) -> tuple[str, int]:
            return f"<h1>the host's {number}</h1>", number

        site.app.register_error_handler(number, on_status)
    return site


@pytest.mark.usefixtures("own_site")
@pytest.mark.parametrize("own_handlers", [False, True])
def test_what_does_not_exist(site: Site, visitor: Program | Person, own_handlers: bool) -> None:
    """An address below the prefix that does not exist is 404 in the caller's format, never a redirect."""
    if own_handlers:
        with_host_handlers(site)

    for path in ("", "/", "/no", "/login/", "/LOGIN", "//login", "/verify/", "/a%0ab", "/_dev/mail", "/static/no.css"):
        response = visitor.get(f"/auth{path}")
        assert response.status_code == 404, path
        _is_ours(visitor, response, "not_found")


def _is_ours(visitor: Program | Person, response: Any, code: str) -> None:
    problem = PROBLEMS[code]
    if isinstance(visitor, Program):
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.json["code"] == code
        assert response.json["type"] == f"about:blank#{code}"
        assert response.json["status"] == response.status_code
        assert response.json["title"] == problem.title
        assert response.json["instance"] == response.request.path
    else:
        assert heading(response) == problem.title
        assert links(response) == ["/auth/login"]


ALLOWED = {
    "/login": "GET, HEAD, POST, OPTIONS",
    "/me": "GET, HEAD, OPTIONS",
    "/refresh": "POST, OPTIONS",
    "/verify": "POST, OPTIONS",
    "/verify/a.b.c": "GET, HEAD, POST, OPTIONS",
    "/signup/sent": "GET, HEAD, OPTIONS",
    "/csrf": "GET, HEAD, OPTIONS",
    "/static/accountflow.css": "GET, HEAD, OPTIONS",
}


@pytest.mark.usefixtures("own_site")
@pytest.mark.parametrize("own_handlers", [False, True])
def test_WEB_08_a_method_that_is_not_served(site: Site, visitor: Program | Person, own_handlers: bool) -> None:
    """Another method is 405 in the caller's format and names the methods that would do; OPTIONS names the same."""
    if own_handlers:
        with_host_handlers(site)

    for path, allowed in ALLOWED.items():
        for method in set(METHODS) - set(allowed.split(", ")):
            response = visitor.client.open(f"/auth{path}", method=method, headers=visitor.headers)
            assert (response.status_code, response.headers["Allow"]) == (405, allowed), (path, method)
            if method != "HEAD":
                _is_ours(visitor, response, "method_not_allowed")
        assert visitor.client.options(f"/auth{path}").headers["Allow"] == allowed, path


@pytest.mark.usefixtures("own_site")
@pytest.mark.parametrize("own_handlers", [False, True])
def test_INP_01_a_body_that_is_too_large(site: Site, visitor: Program | Person, own_handlers: bool) -> None:
    """A body above 64 KiB is refused with 413 in the caller's format, on every route that takes one."""
    if own_handlers:
        with_host_handlers(site)
    fields = {"email": "x" * 70_000}

    for path in (
        "/login",
        "/signup",
        "/verify/resend",
        "/password-reset/request",
        "/verify/a.b.c",
        "/password-reset/a",
    ):
        post = visitor.post if isinstance(visitor, Program) else visitor.send
        response = post(f"/auth{path}", fields)
        assert response.status_code == 413
        _is_ours(visitor, response, "payload_too_large")


@pytest.mark.usefixtures("own_site")
def test_a_body_of_unknown_length_is_read_no_further_than_allowed(site: Site, visitor: Program | Person) -> None:
    """A body whose length nobody has told is refused when it is too large, and nothing of it is used."""
    app = site.app.wsgi_app

    def without_length(environ: dict[str, Any], start_response: Any) -> Any:
        environ.pop("CONTENT_LENGTH", None)
        return app({**environ, "wsgi.input_terminated": True}, start_response)

    site.app.wsgi_app = without_length  # type: ignore[method-assign]
    kind = {"json": "application/json", "html": "application/x-www-form-urlencoded"}[visitor.kind]

    response = visitor.client.post(
        "/auth/login", data=b"email=" + b"x" * 70_000, content_type=kind, headers=visitor.headers
    )

    assert response.status_code == {"json": 413, "html": 403}[visitor.kind]


def test_the_host_may_allow_less(make_site: Callable[..., Site], site: Site) -> None:
    """A host whose own limit is smaller than ours keeps it."""
    strict = make_site({"MAX_CONTENT_LENGTH": 1000})
    fields = {"email": "x" * 2000}

    found = [one.program().post("/auth/login", fields).status_code for one in (site, strict)]

    assert found == [422, 413]


@pytest.mark.usefixtures("own_site")
@pytest.mark.parametrize("own_handlers", [False, True])
def test_a_kind_of_body_that_is_not_read(site: Site, visitor: Program | Person, own_handlers: bool) -> None:
    """A body of another kind is 415 in the caller's format."""
    if own_handlers:
        with_host_handlers(site)

    response = visitor.client.post("/auth/login", data=b"<a/>", content_type="text/xml", headers=visitor.headers)

    assert response.status_code == 415
    _is_ours(visitor, response, "unsupported_media_type")


@pytest.mark.usefixtures("own_site")
@pytest.mark.parametrize("own_handlers", [False, True])
def test_a_format_that_there_is_not(site: Site, own_handlers: bool) -> None:
    """What exists in one format only is 406 in the other, said in the other."""
    if own_handlers:
        with_host_handlers(site)
    person, program = site.person(), site.program()

    page, problem = person.send("/auth/refresh", {}), program.get("/auth/signup/sent")

    assert (page.status_code, problem.status_code) == (406, 406)
    _is_ours(person, page, "not_acceptable")
    _is_ours(program, problem, "not_acceptable")


class _Broken(BcryptHasher):
    """A hasher that has something to hide."""

    fault: Exception = RuntimeError("the canary of the hasher")

    def check(self, password: str, *stored: str | None) -> tuple[bool, ...]:
        raise self.fault

    def hash(self, password: str) -> str:
        raise self.fault


@pytest.mark.parametrize("own_handlers", [False, True])
def test_CFG_04_a_fault_of_ours(
    make_site: Callable[..., Site], caplog: pytest.LogCaptureFixture, own_handlers: bool
) -> None:
    """In production a fault is 500 in the caller's format, without a trace; it is logged, and Flask's signal sent."""
    site = make_site(PRODUCTION, hasher=_Broken(4))
    if own_handlers:
        with_host_handlers(site)
    seen: list[Exception] = []

    def note(sender: Any, exception: Exception, **extra: Any) -> None:
        seen.append(exception)

    got_request_exception.connect(note, site.app)
    person, program = site.person(), site.program()
    with caplog.at_level(logging.ERROR):
        found = [person.login("vic@example.com"), program.login("vic@example.com")]

    assert [answer.status_code for answer in found] == [500, 500]
    _is_ours(person, found[0], "internal_error")
    _is_ours(program, found[1], "internal_error")
    assert seen == [_Broken.fault, _Broken.fault]
    assert caplog.text.count("the canary of the hasher") >= 2
    for answer in found:
        assert "canary" not in answer.text
        assert "Traceback" not in answer.text
        assert PASSWORD not in answer.text
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("mode", ["TESTING", "DEBUG"])
def test_a_developer_sees_the_fault(make_site: Callable[..., Site], mode: str) -> None:
    """In debug and testing a fault of ours is raised like any other, to be seen."""
    site = make_site({**PRODUCTION, mode: True}, hasher=_Broken(4))

    with pytest.raises(RuntimeError, match="the canary"):
        site.program().login("vic@example.com")


def test_a_database_that_does_not_answer(make_site: Callable[..., Site], visitor: Program | Person) -> None:
    """A database that is away is answered with 503 and when to try again, for every address alike."""
    hasher = _Broken(4)
    hasher.fault = OperationalError("SELECT 1", {}, Exception("gone"))
    site = make_site(PRODUCTION, hasher=hasher)
    caller: Any = type(visitor)(site)

    found = [caller.login(email) for email in ("vic@example.com", "una@example.com")]

    for answer in found:
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
        if isinstance(visitor, Program):
            assert caller.code(answer) == "busy"
            assert answer.json["retry_after"] == 2
        else:
            assert "Nothing was changed. Try again in 2 seconds." in words(answer)


@pytest.mark.parametrize(("table", "column"), [("mail", "template"), ("user", "stamp")])
def test_AUD_03_a_fault_of_the_database_tells_the_log_no_address(
    make_site: Callable[..., Site], visitor: Program | Person, table: str, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is logged of a statement that failed is the statement, and not the address, hash or link in it."""
    site = make_site(PRODUCTION)
    caller: Any = type(visitor)(site)
    name = getattr(site.tables, table).name
    with site.app.app_context():
        for moment in ("INSERT", "UPDATE"):
            site.db.session.execute(
                sa.text(
                    f"CREATE TRIGGER no_{moment.lower()} BEFORE {moment} ON {name} "
                    f"BEGIN SELECT RAISE(ABORT, 'the canary of {column}'); END"
                )
            )
        site.db.session.commit()

    answer = caller.signup("vic@example.com")

    assert answer.status_code == 500
    assert "the canary" in caplog.text
    assert "INSERT INTO" in caplog.text
    assert not [secret for secret in ("vic@example.com", "af1$", "$2b$") if secret in caplog.text]


@pytest.mark.parametrize(("name", "status"), [("postgresql", 500), ("mariadb", 503)])
def test_AUD_03_a_database_that_repeats_the_row_tells_the_log_no_address(
    make_site: Callable[..., Site], name: str, status: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What a database says of the row that it refuses stays out of the log."""
    with database(name, tmp_path) as engine:
        uri = engine.url.render_as_string(hide_password=False)
        site = make_site({**PRODUCTION, "SQLALCHEMY_DATABASE_URI": uri})
        with site.app.app_context():
            quoted = site.db.engine.dialect.identifier_preparer.quote(site.tables.user.name)
            site.db.session.execute(sa.text(f"ALTER TABLE {quoted} ADD CHECK (email_verified_at IS NOT NULL)"))
            site.db.session.commit()

        answer = site.program().signup("vic@example.com")
        site.close()

    assert answer.status_code == status
    assert "INSERT INTO" in caplog.text
    assert "vic@example.com" not in caplog.text


def test_AUD_03_a_fault_at_a_link_tells_the_log_no_token(
    make_site: Callable[..., Site], visitor: Program | Person, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault is logged with the route, and not with the address, which holds the token of a link."""
    site = make_site(PRODUCTION, hasher=_Broken(4))
    caller: Any = type(visitor)(site)
    site.member("vic@example.com", None)
    caller.request_reset(email="vic@example.com")

    answer = caller.reset(site.last_link)

    assert answer.status_code == 500
    assert "/auth/password-reset" in caplog.text
    assert not [part for part in site.last_link.rpartition("/")[2].split(".") if len(part) > 8 and part in caplog.text]


class _Full(BcryptHasher):
    """A hasher with no room."""

    def check(self, password: str, *stored: str | None) -> tuple[bool, ...]:
        raise Refusal("busy", extra={"retry_after": 3})

    hash = check  # type: ignore[assignment]


def test_PWD_14_too_many_passwords_at_once(make_site: Callable[..., Site], visitor: Program | Person) -> None:
    """When no more passwords can be hashed now, a person keeps his form and is told when to send it again."""
    site = make_site(hasher=_Full(4))
    caller: Any = type(visitor)(site)

    found = [caller.login("vic@example.com"), caller.signup("ada@example.com")]

    assert [answer.status_code for answer in found] == [503, 503]
    assert {answer.headers["Retry-After"] for answer in found} == {"3"}
    assert site.rows("user") == []
    if isinstance(visitor, Program):
        assert [caller.code(answer) for answer in found] == ["busy", "busy"]
    else:
        assert [heading(answer) for answer in found] == ["Log in", "Create your account"]
        assert "Nothing was changed. Try again in 3 seconds." in words(found[0])
        assert 'value="vic@example.com"' in found[0].text


def test_a_link_is_good_after_a_busy_moment(make_site: Callable[..., Site], visitor: Program | Person) -> None:
    """When the password for a link cannot be hashed now, a page says when to try again, and the link stays good."""
    site = make_site()
    site.member()
    site.program().request_reset(email="vic@example.com")
    link = site.last_link
    busy = make_site(uri=str(site.app.config["SQLALCHEMY_DATABASE_URI"]), hasher=_Full(4))
    caller: Any = type(visitor)(busy)

    answer = caller.reset(link)

    assert answer.status_code == 503
    if isinstance(visitor, Person):
        assert heading(answer) == "We're busy right now"
        assert "3 seconds" in words(answer)
        assert links(answer) == ["/auth/login"]
    assert site.program().reset(link).status_code == 200


def test_every_problem_has_all_members(site: Site) -> None:
    """A problem document has the members of RFC 9457, a code for programs, and its faults with pointers."""
    response = site.program().signup("x", "short")

    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json == {
        "type": "about:blank#validation_failed",
        "title": "Some fields need attention",
        "status": 422,
        "code": "validation_failed",
        "detail": "Check the highlighted fields.",
        "instance": "/auth/signup",
        "errors": [
            {
                "pointer": "#/email",
                "field": "email",
                "code": "invalid_email",
                "detail": "Enter an email like name@example.com.",
                "params": {},
            },
            {
                "pointer": "#/password",
                "field": "password",
                "code": "too_short",
                "detail": "Use at least 12 characters.",
                "params": {"min": 12},
            },
        ],
    }


def test_RS_1_no_page_is_a_dead_end(site: Site) -> None:
    """Every page that says no leads on by a link or a form."""
    person = site.person()
    found = [
        person.get("/auth/nothing"),
        person.client.put("/auth/login", headers=person.headers),
        person.send("/auth/refresh", {}),
        person.send("/auth/login", {}, sec_fetch_site="cross-site"),
        person.get("/auth/verify/a.b.c"),
        person.get("/auth/password-reset/a.b.c"),
    ]

    for page in found:
        assert page.status_code >= 400
        assert links(page) or tags(page, "form")


def test_without_a_prefix_the_hosts_404_stands(make_site: Callable[..., Site]) -> None:
    """Mounted at the root of the site, what does not exist is the host's to say."""
    site = with_host_handlers(make_site({"ACCOUNTFLOW_URL_PREFIX": ""}))
    site.member()
    person, program = site.person(), site.program()

    missing = person.get("/nothing")
    page = person.get("/login")
    response = program.post("/login", {"email": "vic@example.com", "password": PASSWORD})
    style = person.get(str(tags(page, "link")[1]["href"]))
    options = person.client.options("/login")

    assert missing.status_code == 404
    assert "the host's 404" in missing.text
    assert (page.status_code, response.status_code, style.mimetype) == (200, 200, "text/css")
    assert options.headers["Allow"] == "GET, HEAD, POST, OPTIONS"
    style.close()


def test_another_prefix(make_site: Callable[..., Site]) -> None:
    """The prefix is the site's to choose, in pages and in mails."""
    site = make_site({"ACCOUNTFLOW_URL_PREFIX": "/my/account"})
    person = site.person()

    page = person.fill("/my/account/signup", email="ada@example.com", password=PASSWORD)

    assert page.headers["Location"] == "/my/account/signup/sent"
    assert site.last_link.startswith("/my/account/verify/")
    assert person.get("/my/account/nothing").status_code == 404
    assert person.get("/auth/login").status_code == 404


def test_a_page_that_cannot_be_rendered(make_site: Callable[..., Site], caplog: pytest.LogCaptureFixture) -> None:
    """A page that a host has broken is a fault like any other, and what was done before it stays done."""
    site = make_site(PRODUCTION)
    site.app.jinja_loader = DictLoader({"accountflow/signup_sent.html": "{{ 1 / 0 }}"})
    person = site.person()

    sent = person.signup("ada@example.com")
    page = person.follow(sent)

    assert (page.status_code, heading(page)) == (500, "Something went wrong")
    assert "division by zero" not in page.text
    assert len(site.letters) == 1
