"""The engine's life and its inbox, on a runner with a script: who runs, who waits, who ends how."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.engine.conftest import SMALL, VOICES
from tests.engine.fakes import PATIENCE_S, Listener, ScriptedRunner
from tts_engine import Engine, EngineConfig, EngineFailed, InvalidRequest, Overloaded, Speak
from tts_engine.checkpoint import Checkpoint
from tts_engine.voice_library import VoiceLibrary
from tts_engine.voices import VoiceBook

EngineWith = Callable[..., Engine]
# Below the fewest frames after which a generation counts as endless.
LONG = 100


def lasting(frames: int, **values: Any) -> Speak:
    """The scripted runner makes as many frames as the seed says."""
    return Speak(text="Hello", seed=frames, **values)


def submitted(engine: Engine, *requests: Speak) -> tuple[list[int], list[Listener]]:
    listeners = [Listener() for _ in requests]
    return [engine.submit(*pair) for pair in zip(requests, listeners, strict=True)], listeners


def test_every_utterance_gets_its_own_frames_in_order_whatever_slots_they_move_through(
    engine_with: EngineWith,
) -> None:
    runner = ScriptedRunner(stepwise=True)
    engine = engine_with(runner)
    lengths = (5, 2, 9, 1, 7, 3)
    _, listeners = submitted(engine, *map(lasting, lengths))
    runner.run_freely()
    for frames, listener in zip(lengths, listeners, strict=True):
        assert listener.outcome.reason == "complete"
        assert listener.codes[:, :2].tolist() == [[frames, number] for number in range(frames)]
        assert listener.outcome.info["frames"] == frames
        assert listener.outcome.info["samples"] == frames * 1920
    assert runner.moves


def test_the_outcome_tells_what_was_used(engine_with: EngineWith) -> None:
    engine = engine_with(ScriptedRunner())
    _, (listener,) = submitted(engine, lasting(3, language="en"))
    info = listener.outcome.info
    assert (info["seed"], info["voice"], info["language"]) == (3, "makima", "english")
    timings = listener.timings
    assert 0 <= timings["queue_s"] <= timings["first_audio_s"] <= timings["total_s"]


def test_the_statistics_and_the_description_tell_how_busy_it_is(engine_with: EngineWith) -> None:
    runner = ScriptedRunner(stepwise=True)
    engine = engine_with(runner)
    _, (first,) = submitted(engine, lasting(LONG))
    runner.wait_for_engine()
    assert (engine.describe()["active"], engine.describe()["waiting"]) == (1, 0)
    ids, listeners = submitted(engine, *[lasting(LONG)] * 5)
    runner.step()
    assert (engine.describe()["active"], engine.describe()["waiting"]) == (3, 3)
    engine.cancel(ids[0])
    engine.cancel(ids[4])
    runner.step()
    assert (engine.describe()["active"], engine.describe()["waiting"]) == (3, 1)
    runner.run_freely()
    reasons = [listener.outcome.reason for listener in (first, *listeners)]
    assert reasons == ["complete", "cancelled", "complete", "complete", "complete", "cancelled"]
    statistics = engine.statistics
    assert (statistics.utterances, statistics.cancelled, statistics.failed) == (6, 2, 0)
    assert (statistics.frames, statistics.active, statistics.waiting) == (4 * LONG + 1, 0, 0)


def test_the_description_names_what_is_loaded(engine_with: EngineWith) -> None:
    first, second = engine_with(ScriptedRunner()).describe(), engine_with(ScriptedRunner()).describe()
    assert first["model"] == "untrained demo (qwen3-tts-12hz-0b6-custom_voice)"
    assert (first["type"], first["size"], first["untrained_demo"]) == ("custom_voice", "0b6", True)
    assert first["instance"] != second["instance"]
    assert first["voices"] == VoiceLibrary(VOICES).names()
    assert first["default_voice"] == "makima"
    assert first["sample_rate"] == 24_000
    assert "beijing_dialect" not in str(first["languages"])
    assert first["limits"] == {
        "max_text_tokens": 64,
        "segment_tokens": 200,
        "max_instruct_tokens": 100,
        "max_reference_text_tokens": 512,
        "max_total_frames": 11_250,
        "text_idle_seconds": 10.0,
        "slots": 3,
        "max_waiting": 4,
        "max_wait_seconds": 30.0,
    }


def test_a_cancelled_waiting_utterance_never_runs(engine_with: EngineWith) -> None:
    runner = ScriptedRunner(stepwise=True)
    engine = engine_with(runner)
    ids, listeners = submitted(engine, *map(lasting, (20, 21, 22, 23, 24)))
    engine.cancel(ids[3])
    runner.run_freely()
    assert [listener.outcome.reason for listener in listeners] == ["complete"] * 3 + ["cancelled", "complete"]
    assert listeners[3].outcome.info["frames"] == 0
    assert listeners[3].timings["queue_s"] is None
    assert listeners[3].timings["first_audio_s"] is None
    assert 23 not in [seed for listener in listeners for seed in listener.codes[:, 0]]


def test_unknown_ids_and_second_cancels_are_ignored(engine_with: EngineWith) -> None:
    runner = ScriptedRunner(stepwise=True)
    engine = engine_with(runner)
    ids, listeners = submitted(engine, lasting(LONG), lasting(4))
    for utterance_id in (ids[0], 12_345, ids[0], -1, ids[0]):
        engine.cancel(utterance_id)
    runner.run_freely()
    assert [listener.outcome.reason for listener in listeners] == ["cancelled", "complete"]
    engine.cancel(ids[1])
    _, (later,) = submitted(engine, lasting(2))
    assert later.outcome.reason == "complete"
    assert engine.statistics.cancelled == 1


def test_an_utterance_may_be_cancelled_and_others_submitted_from_its_own_sink(engine_with: EngineWith) -> None:
    engine = engine_with(ScriptedRunner())
    ids: list[int] = []
    last = Listener()

    def stop_and_go_on(count: int) -> None:
        if count == 3:
            engine.cancel(ids[0])
            engine.submit(lasting(2), last)

    first = Listener(on_frame=stop_and_go_on)
    opener = Listener(on_frame=lambda count: ids.append(engine.submit(lasting(LONG), first)))
    engine.submit(lasting(1), opener)
    assert first.outcome.reason == "cancelled"
    assert len(first.frames) == 3
    assert last.outcome.reason == "complete"


def test_shutdown_ends_everybody_as_cancelled(engine_with: EngineWith) -> None:
    engine = engine_with(
        ScriptedRunner(),
        EngineConfig(slots=3, max_waiting=4, segment_tokens=4_096, max_frames=10**6, max_total_frames=10**6),
    )
    heard = threading.Event()
    endless = Speak(text="x" * 2000, seed=10**6)
    listeners = [Listener(on_frame=lambda count: heard.set()) for _ in range(6)]
    for listener in listeners:
        engine.submit(endless, listener)
    assert heard.wait(PATIENCE_S)
    engine.shutdown()
    assert [(listener.outcome.reason, listener.outcome.error) for listener in listeners] == [("cancelled", None)] * 6
    assert listeners[-1].outcome.info["frames"] == 0


def test_after_a_shutdown_nothing_is_served(engine_with: EngineWith) -> None:
    engine = engine_with(ScriptedRunner())
    engine.shutdown()
    engine.shutdown()
    with pytest.raises(EngineFailed, match="shut down"):
        engine.submit(lasting(1), Listener())
    with pytest.raises(EngineFailed, match="shut down"):
        engine.describe()
    engine.cancel(1)


def test_before_its_start_nothing_is_served(checkpoint: Checkpoint) -> None:
    engine = Engine(
        checkpoint, SMALL, VoiceBook(checkpoint.model, VoiceLibrary(None), "makima"), ScriptedRunner(), None
    )
    with pytest.raises(EngineFailed, match="not started"):
        engine.submit(lasting(1), Listener())
    with pytest.raises(EngineFailed, match="not started"):
        engine.describe()
    engine.shutdown()


@pytest.mark.parametrize("failure", [{"fail_at_frame": 4}, {"fail_to_move": True}])
def test_a_failing_device_ends_every_utterance_as_failed(engine_with: EngineWith, failure: dict[str, Any]) -> None:
    engine = engine_with(ScriptedRunner(**failure))
    listeners = [Listener() for _ in range(6)]

    def crowd(count: int) -> None:
        if count == 1:
            for listener in listeners:
                engine.submit(lasting(LONG), listener)

    first = Listener(on_frame=crowd)
    engine.submit(lasting(2), first)
    for listener in listeners:
        assert listener.outcome.reason == "failed"
        assert isinstance(listener.outcome.error, EngineFailed)
        assert "RuntimeError" in str(listener.outcome.error)
    assert first.outcome.reason == "complete"
    assert engine.statistics.failed == 6
    for call in (engine.describe, lambda: engine.submit(lasting(1), Listener())):
        with pytest.raises(EngineFailed, match="RuntimeError"):
            call()


def test_a_full_line_is_refused_naming_the_numbers(engine_with: EngineWith) -> None:
    runner = ScriptedRunner(stepwise=True)
    engine = engine_with(runner)
    _, listeners = submitted(engine, *[lasting(3)] * 7)
    with pytest.raises(Overloaded, match=r"7 utterances .* limit is 7 \(3 slots and 4 waiting\)"):
        engine.submit(lasting(1), Listener())
    runner.run_freely()
    assert all(listener.outcome.reason == "complete" for listener in listeners)
    _, (later,) = submitted(engine, lasting(1))
    assert later.outcome.reason == "complete"


def test_a_refused_request_takes_no_place_and_its_sink_hears_nothing(engine_with: EngineWith) -> None:
    engine = engine_with(ScriptedRunner(), replace(SMALL, slots=1, max_waiting=0))
    refused = Listener()
    for _ in range(3):
        with pytest.raises(InvalidRequest):
            engine.submit(Speak(text=" "), refused)
    _, (listener,) = submitted(engine, lasting(1))
    assert listener.outcome.reason == "complete"
    assert not refused.outcomes


def test_a_sink_that_raises_at_its_end_does_not_keep_others_from_theirs(engine_with: EngineWith) -> None:
    runner = ScriptedRunner(stepwise=True)
    engine = engine_with(runner)

    def refuse() -> None:
        raise ValueError("this sink breaks its promise")

    others = [Listener() for _ in range(5)]
    engine.submit(lasting(1), Listener(on_end=refuse))
    for listener in others:
        engine.submit(lasting(LONG), listener)
    runner.run_freely()
    for listener in others:
        assert listener.outcome.reason in ("complete", "failed")


def test_sinks_that_raise_when_the_engine_fails_do_not_keep_others_from_their_ends(engine_with: EngineWith) -> None:
    runner = ScriptedRunner(stepwise=True, fail_at_frame=3)
    engine = engine_with(runner)

    def refuse() -> None:
        raise ValueError("this sink breaks its promise")

    broken, whole = [Listener(on_end=refuse) for _ in range(2)], [Listener() for _ in range(4)]
    for listener in (broken[0], whole[0], broken[1], *whole[1:]):
        engine.submit(lasting(LONG), listener)
    runner.run_freely()
    for listener in whole:
        assert listener.outcome.reason == "failed"


def test_an_engine_starts_once(engine_with: EngineWith) -> None:
    engine = engine_with(ScriptedRunner())
    with pytest.raises(AssertionError, match="starts once"):
        engine.start()
    engine.shutdown()
    with pytest.raises(AssertionError, match="starts once"):
        engine.start()
    with pytest.raises(EngineFailed, match="shut down"):
        engine.describe()


def test_when_nothing_can_be_delivered_any_more_nothing_is_served(engine_with: EngineWith) -> None:
    runner = ScriptedRunner(stepwise=True)
    engine = engine_with(runner)
    _, listeners = submitted(engine, *[lasting(LONG)] * 4)
    engine.fail("delivery: the pipe is broken")
    runner.run_freely()
    for listener in listeners:
        assert listener.outcome.reason == "failed"
        assert "the pipe is broken" in str(listener.outcome.error)
    with pytest.raises(EngineFailed, match="the pipe is broken"):
        engine.describe()
