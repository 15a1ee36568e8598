"""Which web pages may use the server."""

import pytest

from frontend.doors import Doors, Knock, Refusal
from frontend.origins import Origins, is_loopback_name
from frontend.settings import Settings, SettingsError


def doors(**settings: object) -> Doors:
    return Doors.of(Settings(**{"auth": "none", **settings}))


def lets_in(rules: Doors, origin: str | None, host: str) -> bool:
    try:
        rules.admit(Knock("127.0.0.1", host, origin), 0.0)
    except Refusal:
        return False
    return True


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://example.org:8080", "example.org:8080"),
        ("https://example.org", "example.org"),
        ("https://example.org", "example.org:443"),
        ("https://EXAMPLE.org", "example.ORG"),
        ("http://[::1]:8080", "[::1]:8080"),
        (None, "example.org"),
    ],
)
def test_its_own_page_and_programs_may(origin: str | None, host: str) -> None:
    assert lets_in(doors(), origin, host)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://example.org.evil.example",
        "https://example.org:8443",
        "http://example.org:443x",
        "null",
        "",
        "file://",
        "http://example.org@evil.example",
        "javascript://example.org",
    ],
)
def test_foreign_pages_may_not(origin: str) -> None:
    assert not lets_in(doors(), origin, "example.org")


def test_a_refusal_is_403_and_names_the_page() -> None:
    with pytest.raises(Refusal, match=r"https://evil\.example") as refusal:
        doors().admit(Knock("127.0.0.1", "example.org", "https://evil.example"), 0.0)
    assert (refusal.value.status, refusal.value.code) == (403, "FORBIDDEN_ORIGIN")


def test_a_listed_page_may() -> None:
    rules = doors(origins="https://app.example, http://localhost:3000")
    assert lets_in(rules, "https://app.example", "tts.example")
    assert lets_in(rules, "http://localhost:3000", "tts.example")
    assert not lets_in(rules, "http://app.example", "tts.example")


def test_a_star_lists_every_page() -> None:
    assert lets_in(doors(origins="*"), "https://evil.example", "tts.example")


@pytest.mark.parametrize(
    "entry", ["example.org", "https://example.org/", "https://example.org/app", "ftp://a", "http://a:x"]
)
def test_what_is_no_origin_is_a_wrong_setting(entry: str) -> None:
    with pytest.raises(SettingsError, match=r"FRONTEND_ORIGINS: .* is not an origin"):
        doors(origins=entry)


def test_without_keys_on_loopback_only_names_of_this_machine_are_answered() -> None:
    rules = doors(auth="")
    assert lets_in(rules, "http://localhost:8080", "localhost:8080")
    assert lets_in(rules, None, "127.0.0.1:8080")
    assert not lets_in(rules, "http://rebound.example:8080", "rebound.example:8080")
    assert not lets_in(rules, None, "rebound.example:8080")
    assert lets_in(
        doors(auth="", origins="http://rebound.example:8080"), "http://rebound.example:8080", "rebound.example:8080"
    )


def test_names_of_this_machine() -> None:
    mine = ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]", "[::1]:8080", "app.localhost"]
    assert [name for name in mine if not is_loopback_name(name)] == []
    others = ["", "localhost.example.org", "127.0.0.1.example.org", "10.0.0.1", "localhost:x", "x@example.org"]
    assert [name for name in others if is_loopback_name(name)] == []


def test_no_list_lists_nothing() -> None:
    assert not Origins.parse("").lists("https://example.org")
