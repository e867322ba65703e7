"""What tests look at: the parts of a page, what two answers have in common, and the rows behind them."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

from support import PASSWORD, Person, Program, Site, forms_of

#: A configuration as in production: faults are answered, not raised.
PRODUCTION = {"TESTING": False, "DEBUG": False, "ACCOUNTFLOW_ALLOW_INSECURE": True}

ADDRESSES = {"verified": "vic@example.com", "unknown": "una@example.com", "pending": "pia@example.com"}
TABLES = ("user", "token", "session", "mail")
FORM = "application/x-www-form-urlencoded"


class Script(Program):
    """A program in a browser's page: JSON, with the cookie jar of the browser."""

    def __init__(self, site: Site, client: Any = None) -> None:
        super().__init__(site)
        self.client = client if client is not None else site.app.test_client()

    def token(self) -> str:
        """Fetch the token that goes with the session cookie."""
        return str(self.get("/auth/csrf").json["csrf_token"])

    def log_in(self, email: str = "vic@example.com", **fields: Any) -> Any:
        """Log in by cookie."""
        body = {"email": email, "password": PASSWORD, "transport": "cookie", **fields}
        return self.post("/auth/login", body, x_csrf_token=self.token())


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.heading = self.title = ""
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._path: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag in {"h1", "title", "main"}:
            self._path.append(tag)
        if tag == "a" and "main" in self._path:
            self.links.append(given.get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._path:
            self._path.remove(tag)

    def handle_data(self, data: str) -> None:
        if "h1" in self._path:
            self.heading += data
        if "title" in self._path:
            self.title += data


def heading(page: Any) -> str:
    """Return the text of the page's heading."""
    return " ".join(_Page(page.text).heading.split())


def title(page: Any) -> str:
    """Return the page's title."""
    return " ".join(_Page(page.text).title.split())


def links(page: Any) -> list[str]:
    """Return where the links in the main part of a page lead."""
    return _Page(page.text).links


def tags(page: Any, name: str) -> list[dict[str, str | None]]:
    """Return the attributes of every element of this name."""
    return [attributes for tag, attributes in _Page(page.text).tags if tag == name]


def field(page: Any, name: str) -> dict[str, str | None]:
    """Return the attributes of the input of this name."""
    return next(one for one in tags(page, "input") if one.get("name") == name)


def words(page: Any) -> str:
    """Return what a page says, without its markup."""
    inline = re.sub(r"</?(?:a|b|span|strong)\b[^>]*>", "", page.text)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", inline)).split())


def has_way_on(page: Any) -> bool:
    """Tell whether a page has a link or a form to go on with."""
    return bool(links(page) or forms_of(page))


def rows(site: Site) -> dict[str, list[Any]]:
    """Return every row of every table."""
    return {name: site.rows(name) for name in TABLES}


def cookies(response: Any) -> list[str]:
    """Return the cookies that an answer sets: names and attributes, without the values."""
    return [re.sub(r"=[^;]*", "=…", cookie, count=1) for cookie in response.headers.getlist("Set-Cookie")]


def signature(response: Any, email: str) -> tuple[Any, ...]:
    """Return what anybody sees of an answer, without the address that he typed and without random values."""
    hidden = {"Date", "Set-Cookie"}
    headers = sorted((name, value) for name, value in response.headers if name not in hidden)
    body = re.sub(r'(name="csrf_token" value=")\w+', r"\1…", response.text).replace(email, "…")
    return response.status_code, headers, cookies(response), body


def session_cookie(person: Any) -> str:
    """Return the value of a browser's session cookie."""
    return str(person.client.get_cookie("session").value)


def with_cookie(site: Site, value: str) -> Person:
    """Return another browser that holds a session cookie of this value."""
    person = site.person()
    person.client.set_cookie("session", value)
    return person


def logged_in(person: Person | Script) -> bool:
    """Tell whether a browser is logged in."""
    return bool(person.get("/auth/me").status_code == 200)


def bearer(response: Any) -> dict[str, str]:
    """Return the header that shows the access token of a pair."""
    return {"authorization": f"Bearer {response.json['access_token']}"}


def code(visitor: Program | Person, response: Any) -> str:
    """Return the code of a program's answer, or the heading of a person's page."""
    return visitor.code(response) if isinstance(visitor, Program) else heading(response)
