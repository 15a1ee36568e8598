"""Keys, tokens and addresses: who is let in, as whom, and that nothing tells more than it should."""

import hashlib

import pytest

from commands import make_api_key
from frontend.addresses import client_address, is_loopback
from frontend.api_keys import ApiKeys, Scope, WrongEntry, entry, make_key
from frontend.browser_tokens import BrowserTokens, TooManyTokens
from frontend.doors import Caller, Doors, Knock, Refusal
from frontend.settings import Settings, SettingsError

SPEAKER, ADMIN = make_key(), make_key()
ENTRIES = f"{entry('alice', Scope.SPEAK, SPEAKER)}, {entry('root', Scope.ADMIN, ADMIN)}"
ADDRESS = "203.0.113.9"


def doors(**settings: object) -> Doors:
    return Doors.of(Settings(**{"host": "0.0.0.0", "api_keys": ENTRIES, **settings}))


def refused(rules: Doors, knock: Knock, now: float = 0.0) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        rules.admit(knock, now)
    return refusal.value


def bearer(key: str) -> Knock:
    return Knock(ADDRESS, "example.org", authorization=f"Bearer {key}")


def test_a_key_in_the_header_is_its_label() -> None:
    assert doors().admit(bearer(SPEAKER), 0.0) == Caller("alice", Scope.SPEAK, ADDRESS)


def test_a_key_in_the_subprotocol_is_its_label() -> None:
    knock = Knock(ADDRESS, "example.org", protocols=("speak.v2", f"bearer.{ADMIN}"))
    assert doors().admit(knock, 0.0) == Caller("root", Scope.ADMIN, ADDRESS)


@pytest.mark.parametrize(
    "knock",
    [
        Knock(ADDRESS),
        bearer(""),
        bearer(SPEAKER + "x"),
        bearer("tts_\udcff"),
        Knock(ADDRESS, authorization=f"Basic {SPEAKER}"),
        Knock(ADDRESS, authorization=SPEAKER),
        Knock(ADDRESS, protocols=("speak.v2", SPEAKER)),
        Knock(ADDRESS, authorization="Basic x", protocols=(f"bearer.{SPEAKER}",)),
    ],
    ids=["nothing", "empty", "wrong", "no text", "basic", "no scheme", "no prefix", "header goes first"],
)
def test_anything_else_is_unauthorized(knock: Knock) -> None:
    refusal = refused(doors(), knock)
    assert (refusal.status, refusal.code) == (401, "UNAUTHORIZED")
    assert SPEAKER not in str(refusal)


def test_the_admins_scope_includes_speaking_and_not_the_other_way_round() -> None:
    speaker, admin = Caller("a", Scope.SPEAK, ADDRESS), Caller("b", Scope.ADMIN, ADDRESS)
    assert [speaker.may(scope) for scope in Scope] == [True, False]
    assert [admin.may(scope) for scope in Scope] == [True, True]


def test_two_keys_of_one_label_share_its_account() -> None:
    old, new = make_key(), make_key()
    rules = doors(api_keys=f"{entry('alice', Scope.SPEAK, old)}\n{entry('alice', Scope.SPEAK, new)}")
    assert rules.admit(bearer(old), 0.0).account == rules.admit(bearer(new), 0.0).account == "alice"


def test_a_token_opens_one_socket_within_its_lifetime_and_never_administers() -> None:
    rules = doors()
    caller = rules.admit(bearer(ADMIN), 0.0)
    (token, lifetime_s), (late, _) = rules.issue_token(caller, 0.0), rules.issue_token(caller, 0.0)
    knock = Knock(ADDRESS, "example.org", protocols=("speak.v2", f"bearer.{token}"))
    assert rules.admit(knock, lifetime_s - 1) == Caller("root", Scope.SPEAK, ADDRESS)
    assert refused(rules, knock, lifetime_s - 1).status == 401
    assert refused(rules, Knock(ADDRESS, "example.org", protocols=(f"bearer.{late}",)), lifetime_s).status == 401


def test_a_token_is_no_key() -> None:
    rules = doors()
    token, _ = rules.issue_token(rules.admit(bearer(SPEAKER), 0.0), 0.0)
    assert refused(rules, bearer(token)).status == 401


def test_one_caller_has_a_share_of_the_unused_tokens_and_used_and_expired_ones_make_room() -> None:
    tokens = BrowserTokens(60.0, 5, 2)
    first, _ = tokens.issue("a", "a", 0.0), tokens.issue("a", "a", 1.0)
    with pytest.raises(TooManyTokens, match="2 tokens of this caller are unused, the limit is 2") as refusal:
        tokens.issue("a", "a", 50.0)
    assert refusal.value.retry_after_s == 10.0
    tokens.issue("b", "b", 50.0)
    assert tokens.redeem(first, 51.0) == (True, "a")
    assert tokens.redeem(first, 51.0) == (False, None)
    tokens.issue("a", "a", 51.0)
    with pytest.raises(TooManyTokens, match="2 tokens of this caller"):
        tokens.issue("a", "a", 60.0)
    tokens.issue("a", "a", 61.0)


def test_all_callers_together_are_given_no_more_tokens_than_there_is_memory_for() -> None:
    tokens = BrowserTokens(60.0, 3, 2)
    for second, account in enumerate(("a", "a", "b")):
        tokens.issue(account, account, float(second))
    with pytest.raises(TooManyTokens, match="3 tokens of all callers are unused, the limit is 3") as refusal:
        tokens.issue("c", "c", 10.0)
    assert refusal.value.retry_after_s == 50.0
    tokens.issue("c", "c", 60.0)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "", "example.org"])
def test_a_server_that_can_be_reached_from_outside_does_not_start_without_keys(host: str) -> None:
    with pytest.raises(SettingsError, match=r"FRONTEND_API_KEYS .* or say FRONTEND_AUTH=none") as error:
        doors(host=host, api_keys="")
    assert "\n" not in str(error.value)


def test_said_aloud_it_serves_anyone() -> None:
    rules = doors(api_keys="", auth="none")
    assert rules.admit(Knock(ADDRESS, "example.org"), 0.0) == Caller(None, Scope.SPEAK, ADDRESS)
    assert not rules.ask_for_keys


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_loopback_nobody_is_asked(host: str) -> None:
    assert doors(host=host, api_keys="").admit(Knock("127.0.0.1", "localhost:8080"), 0.0).account == "127.0.0.1"


def test_keys_are_asked_for_on_loopback_too_when_there_are_any() -> None:
    assert refused(doors(host="127.0.0.1"), Knock("127.0.0.1", "localhost")).status == 401


def test_keys_and_no_authentication_contradict_each_other() -> None:
    with pytest.raises(SettingsError, match="contradicts"):
        doors(auth="none")


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ("alice", "entry 1 has 1 parts"),
        (f"{ENTRIES},Alice:speak:{'0' * 64}", "entry 3: the label"),
        (f"alice:all:{'0' * 64}", "the scope is not one of speak, admin"),
        ("alice:speak:" + "0" * 63, "the hash is not 64 digits"),
        ("alice:speak:" + "A" * 64, "the hash is not 64 digits"),
        (f"a:speak:{'0' * 64} b:speak:{'0' * 64}", "the same hash"),
    ],
)
def test_a_wrong_entry_is_a_setting_that_says_what_is_wrong(entries: str, why: str) -> None:
    with pytest.raises(SettingsError, match=f"FRONTEND_API_KEYS: .*{why}"):
        doors(api_keys=entries)


def test_neither_keys_nor_settings_show_hashes() -> None:
    digest = hashlib.sha256(SPEAKER.encode()).hexdigest()
    assert digest in ENTRIES
    assert digest not in repr(Settings(api_keys=ENTRIES))
    found = ApiKeys.parse(ENTRIES).find(SPEAKER)
    assert "digest" not in repr(found)


def test_the_command_prints_a_key_and_the_entry_that_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_api_key.main(["alice", "--scope", "admin"]) == 0
    key, line = (text.strip() for text in capsys.readouterr().out.splitlines()[1::2])
    found = ApiKeys.parse(line).find(key)
    assert found is not None
    assert (found.label, found.scope) == ("alice", Scope.ADMIN)


def test_the_command_refuses_a_label_that_cannot_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_api_key.main(["Alice:speak"])
    assert "label 'Alice:speak'" in capsys.readouterr().err


def test_an_empty_list_has_no_keys() -> None:
    assert len(ApiKeys.parse(" \n,")) == 0
    with pytest.raises(WrongEntry):
        ApiKeys.parse("x:y")


@pytest.mark.parametrize(
    ("forwarded_for", "proxies", "address"),
    [
        (None, 0, "10.0.0.1"),
        ("198.51.100.7", 0, "10.0.0.1"),
        ("198.51.100.7", 1, "198.51.100.7"),
        ("6.6.6.6, 198.51.100.7", 1, "198.51.100.7"),
        ("198.51.100.7, 10.0.0.2", 2, "198.51.100.7"),
        (None, 1, "10.0.0.1"),
        ("2001:db8:1:2:3::4", 1, "2001:db8:1:2::/64"),
        ("unknown", 1, "unknown"),
        # As a socket that listens on IPv6 calls whoever comes over IPv4: all of them would share one /64.
        ("::ffff:198.51.100.7", 1, "198.51.100.7"),
        # Some proxies append the port, which is new for every connection.
        ("198.51.100.7:51234", 1, "198.51.100.7"),
        ("[2001:db8:1:2:3::4]:51234", 1, "2001:db8:1:2::/64"),
    ],
)
def test_the_address_is_what_the_outermost_trusted_proxy_saw(
    forwarded_for: str | None, proxies: int, address: str
) -> None:
    assert client_address("10.0.0.1", forwarded_for, proxies) == address


def test_loopback_is_an_address_or_its_name() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "", "localhost.example.org")] == [False] * 4
