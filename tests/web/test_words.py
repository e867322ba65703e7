"""Times as people say them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from flask_accountflow.web.words import in_words, when


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "a moment"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (61, "2 minutes"),
        (3600, "1 hour"),
        (86400, "24 hours"),
        (172800, "2 days"),
    ],
)
def test_a_duration_is_said_in_its_largest_unit_rounded_up(seconds: int, words: str) -> None:
    """A duration never sounds shorter than it is."""
    found = in_words(seconds)

    assert found == words


def test_a_moment_is_said_in_utc_with_its_zone() -> None:
    """Wherever a moment comes from, it is said in UTC and says so; nothing is said of no moment."""
    berlin = datetime(2026, 11, 21, 9, 12, tzinfo=timezone(timedelta(hours=1)))

    found = [when(berlin), when(datetime(2026, 11, 21, 8, 12)), when(None)]

    assert found == ["21 Nov 2026, 08:12 UTC", "21 Nov 2026, 08:12 UTC", ""]
