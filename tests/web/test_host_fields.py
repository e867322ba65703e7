"""What a host's own sign-up fields hold, and cannot hold."""

from __future__ import annotations

from collections.abc import Callable

from support import Site


def test_value_that_the_column_cannot_hold_is_refused_before_anything_is_written(
    make_site: Callable[..., Site], database_uri: str
) -> None:
    """A field longer than its column is the visitor's fault on every database, in both formats."""
    site = make_site(uri=database_uri)
    long_name = "x" * 65

    in_json = site.program().signup("ada@example.com", name=long_name)
    in_html = site.person().signup("ada@example.com", name=long_name)

    assert in_json.status_code == 422
    assert in_json.json["errors"][0] | {"detail": ""} == {
        "pointer": "#/name",
        "field": "name",
        "code": "too_long",
        "detail": "",
        "params": {"max": 64},
    }
    assert in_html.status_code == 422
    assert "Use at most 64 characters." in in_html.text
    assert long_name in in_html.text
    assert not site.rows("user")
    assert not site.letters


def test_value_that_fits_exactly_is_kept(make_site: Callable[..., Site], database_uri: str) -> None:
    """A field as long as its column reaches the account."""
    site = make_site(uri=database_uri)
    person = site.person()

    person.signup("ada@example.com", name="é" * 64)
    person.verify(site.last_link)

    assert site.account("ada@example.com").name == "é" * 64
