"""Names of live utterances that have ended: text for them comes too late and is nobody's fault, as long as they are
remembered; the memory for that is bounded.
"""

from collections.abc import Callable

import pytest

from tests.engine.prompt_kit import Kit
from tts_engine.live_text import LiveText
from tts_engine.live_utterances import LiveUtterances

A_THOUSAND = 1_024


@pytest.fixture
def live(kit: Callable[..., Kit]) -> LiveUtterances:
    return LiveUtterances(lambda: LiveText(kit().tokenizer, limit=20), lambda appended: None)


def known(live: LiveUtterances, names: list[str]) -> list[str]:
    return [name for name in names if live.append(name, "late", complete=False)]


def test_the_last_thousand_names_are_remembered_and_no_more(live: LiveUtterances) -> None:
    names = [f"u{number}" for number in range(A_THOUSAND + 2)]
    for number, name in enumerate(names):
        if number % 2:
            live.refused(name)
        else:
            live.open(name, number, "", lambda: None)
            live.ended(number)
    assert known(live, names) == names[2:]


@pytest.mark.parametrize("spoken", [False, True])
def test_a_name_that_is_used_again_is_remembered_from_its_last_end(live: LiveUtterances, spoken: bool) -> None:
    live.refused("again")
    live.refused("once")
    if spoken:
        live.open("again", 1, "", lambda: None)
        live.ended(1)
    else:
        live.refused("again")
    for number in range(A_THOUSAND - 1):
        live.refused(f"u{number}")
    assert known(live, ["again", "once"]) == ["again"]


def test_a_refused_second_use_of_a_name_takes_nothing_from_the_first(live: LiveUtterances) -> None:
    live.open("u", 1, "", lambda: None)
    live.refused("u")
    assert live.is_open("u")
    live.ended(1)
    assert not live.is_open("u")
    assert known(live, ["u"]) == ["u"]
