"""Showing who is logged in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from flow_bench import EMAIL, OWNER, Bench

from flask_accountflow.errors import Refusal
from flask_accountflow.flows import me


def test_an_account_is_shown_to_itself(bench: Bench) -> None:
    """The account of the visit is answered with the members of User, and no statement runs."""
    bench.member()
    sign_in = bench.login().sign_in
    assert sign_in is not None
    services = replace(bench.services, visit=replace(OWNER, account=sign_in.account))

    with bench.statements() as ran:
        outcome = me.show(services, None)

    assert ran == []
    assert outcome.data == {
        "id": str(bench.account().id),
        "email": EMAIL,
        "email_verified": True,
        "is_admin": False,
        "created_at": bench.clock.now,
    }
    assert outcome.page == {"last_login_at": sign_in.account.last_login_at}


def test_a_stranger_is_asked_to_log_in(bench: Bench) -> None:
    """Without a login the answer is 401."""
    with pytest.raises(Refusal) as refused:
        me.show(bench.services, None)

    assert (refused.value.code, refused.value.status) == ("authentication_required", 401)
