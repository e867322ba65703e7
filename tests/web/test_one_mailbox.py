"""One mailbox, one account: however an address is written, on every database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support import BASE_URL, OTHER_PASSWORD, PASSWORD, Person, Program, Site

EMAIL = "vic@example.com"


@pytest.mark.parametrize("spelling", ["VIC@EXAMPLE.COM", "Vic@example.com", "ViC@eXample.com", "vic@EXAMPLE.com."])
@pytest.mark.parametrize("who", [Program, Person], ids=["json", "html"])
def test_SUP_08_SUP_13_one_mailbox_is_one_account(
    make_site: Callable[..., Site], database_uri: str, who: Callable[[Site], Any], spelling: str
) -> None:
    """On every database a sign-up with another spelling of an address makes no second account, whatever is opened."""
    site = make_site(uri=database_uri)
    site.member(EMAIL)

    who(site).signup(spelling, OTHER_PASSWORD)
    who(site).signup("vic+x@example.com", OTHER_PASSWORD)
    for letter in list(site.letters):
        if letter.link is not None:
            who(site).verify(letter.link.removeprefix(BASE_URL))

    assert sorted(row.email_key for row in site.rows("user")) == ["vic+x@example.com", EMAIL]
    assert site.program().login(EMAIL, PASSWORD).status_code == 200
    assert site.program().login(EMAIL, OTHER_PASSWORD).status_code != 200
