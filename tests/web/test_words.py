"""Times and devices as people say them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from flask_accountflow.web.words import device_in_words, in_words, when


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


CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"
IOS = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
DEVICES = {
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0": "Firefox on Windows",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0": "Firefox on Linux",
    "Mozilla/5.0 (Android 14; Mobile; rv:133.0) Gecko/133.0 Firefox/133.0": "Firefox on Android",
    f"{IOS} FxiOS/133.0 Mobile/15E148 Safari/605.1.15": "Firefox on iPhone",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36": "Chrome on Windows",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {CHROME} Safari/537.36": "Chrome on Mac",
    f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {CHROME} Safari/537.36": "Chrome on ChromeOS",
    f"Mozilla/5.0 (Linux; Android 10; K) {CHROME} Mobile Safari/537.36": "Chrome on Android",
    f"{IOS} CriOS/131.0.6778.103 Mobile/15E148 Safari/604.1": "Chrome on iPhone",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36 Edg/131.0.2903.86": "Edge on Windows",
    f"Mozilla/5.0 (Linux; Android 10; HD1913) {CHROME} Mobile Safari/537.36 EdgA/131.0.2903.87": "Edge on Android",
    f"{IOS} Version/18.0 EdgiOS/131.0.2903.92 Mobile/15E148 Safari/604.1": "Edge on iPhone",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36 OPR/115.0.0.0": "Opera on Windows",
    "Mozilla/5.0 (Linux; Android 14; SM-S928B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/27.0 "
    "Chrome/125.0.0.0 Mobile Safari/537.36": "Samsung Internet on Android",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 "
    "Safari/605.1.15": "Safari on Mac",
    f"{IOS} Version/18.1.1 Mobile/15E148 Safari/604.1": "Safari on iPhone",
    "Mozilla/5.0 (iPad; CPU OS 16_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 "
    "Mobile/15E148 Safari/604.1": "Safari on iPad",
    # The browser inside another app, on which no browser's name stands.
    f"{IOS} Mobile/15E148": "iPhone",
    "Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/UD1A)": "Android",
    "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko": "Windows",
    # Programs are called as they call themselves.
    "curl/8.5.0": "curl",
    "python-requests/2.32.3": "python-requests",
    "okhttp/4.12.0": "okhttp",
    "MyApp/3 CFNetwork/1568.200.51 Darwin/24.1.0": "MyApp",
    "Go-http-client/2.0": "Go-http-client",
    "node": "node",
}


@pytest.mark.parametrize(("agent", "device"), DEVICES.items(), ids=DEVICES.values())
def test_a_device_is_called_what_people_call_it(agent: str, device: str) -> None:
    """A browser is named with its system, a program by its own name, and neither with numbers."""
    assert device_in_words(agent) == device


@pytest.mark.parametrize("agent", [None, "", " ", "/", "/1.0", " Firefox", "  x"], ids=repr)
def test_a_device_without_a_name_is_unknown(agent: str | None) -> None:
    """Where nothing is said, or nothing before the first blank or slash, the device is unknown."""
    assert device_in_words(agent) == "Unknown device"


@pytest.mark.parametrize(
    ("agent", "device"),
    [
        ("x" * 255, "x" * 40),
        ("x" * 100_000, "x" * 40),
        ("<script>alert(1)</script>", "<script>alert(1)<"),
        ("'\"><b> x", "'\"><b>"),
        ("?" * 60, "?" * 40),
        ("\u202eevil/1", "\u202eevil"),
        ("\0\r\n", "\0\r\n"),
        ("Mozilla/5.0", "Mozilla"),
        ("é" * 41, "é" * 40),
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_a_hostile_name_stays_short(agent: str, device: str) -> None:
    """Whatever a program calls itself, forty signs of it are said at most; the page escapes them."""
    assert device_in_words(agent) == device


def test_a_hostile_name_cannot_say_more_than_a_browser() -> None:
    """A long name that holds the sign of a browser says the name of that browser, and nothing of the rest."""
    assert device_in_words("evil " * 10_000 + "Firefox/1 (Windows)") == "Firefox on Windows"
