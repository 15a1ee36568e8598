"""The load on the server: it runs at all three doors, and its figures are what they are called. Never its speed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import serving, serving_report, streams
from benchmarks.serving_engine import CONTRACT, VOICES, EnginePlan, contract_parameters, run_engine
from benchmarks.serving_listener import SAMPLE_RATE, Hearing
from benchmarks.serving_load import poisson
from benchmarks.serving_servers import with_parameters
from benchmarks.serving_texts import long_text, sentences
from tests.conftest import Demo
from tts_engine import EngineConfig, LoadError

FRAME = b"\x00\x10" * 1920
SILENCE = b"\x20\x00" * 1920  # 32 of 32,768 is a little below -60 dBFS
FRAME_S = 0.08


def heard(*arrivals: float, due: float = 0.0) -> Hearing:
    """A frame at each of these times."""
    hearing = Hearing(due)
    for at in arrivals:
        hearing.heard(FRAME, at)
    return hearing


@pytest.mark.stack
def test_a_smoke_run_measures_every_door(tmp_path: Path) -> None:
    assert serving.main(["--smoke", "--instant", "--out", str(tmp_path)]) == 0
    kept = json.loads((tmp_path / "serving-instant.json").read_text())
    doors = {row["door"]: row for row in kept["rows"]}
    assert list(doors) == ["engine", "triton", "websocket", "tax: triton − engine", "tax: websocket − triton"]
    asked = {doors[door]["requests"] for door in serving.DOORS[:3]}
    assert len(asked) == 1, "every door is asked the same"
    for door in serving.DOORS[:3]:
        row = doors[door]
        assert (row["refused"], row["errors"]) == (0, 0), row["error_reasons"]
        assert 0 < row["first_p50_ms"] <= row["first_p95_ms"] <= row["first_p99_ms"]
        assert all(row[f"first_p{each}_ms"] <= row[f"whole_p{each}_ms"] for each in (50, 95))
        assert row["audible_p50_ms"] == row["first_p50_ms"], "the tone is heard from its first sample on"
        assert row["audio_s_per_s"] > 0
    assert doors["tax: triton − engine"]["first_p50_ms"] == pytest.approx(
        doors["triton"]["first_p50_ms"] - doors["engine"]["first_p50_ms"]
    )
    assert set(kept["columns"]) <= {key for row in kept["rows"] for key in row}


def test_what_was_measured_at_one_rate_outlives_a_stop_at_the_next(
    tmp_path: Path, demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> Iterator[list[Hearing]]:
        hearing = heard(0.5)
        hearing.ended = 0.6
        yield [hearing]
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, "run_engine", stopped)
    with pytest.raises(KeyboardInterrupt):
        serving.main(["--model", str(demo()), "--doors", "engine", "--rates", "1,2", "--out", str(tmp_path)])
    kept = json.loads((tmp_path / "serving.json").read_text())
    assert [row["rate_per_s"] for row in kept["rows"]] == [1.0]


def test_an_engine_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"the checkpoint directory .*nowhere does not exist"):
        next(run_engine(EnginePlan(tmp_path / "nowhere", VOICES, False, "cpu", "float32"), [[]]))


@pytest.mark.stack
def test_listeners_at_once_are_measured_and_their_cancels_reach_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LISTEN_S", (0.5, 1.0))
    assert streams.main(["--smoke", "--out", str(tmp_path)]) == 0
    [row] = json.loads((tmp_path / "streams.json").read_text())["rows"]
    assert row["streams"] == 4
    assert row["errors"] == 0, row["error_reasons"]
    assert row["cancels"] >= 4
    assert row["cancels_unseen"] == 0
    assert row["cancel_p50_ms"] > 0
    assert row["messages"] >= 4 * 10
    assert {"late_p99_ms", "late_max_ms", "frontend_cpu_pct"} <= set(row)


def test_the_texts_are_many_and_of_the_lengths_of_speech() -> None:
    texts = sentences()
    assert len(set(texts)) == len(texts) >= 100
    assert all(2 <= len(text.split()) <= 25 for text in texts)
    assert 500 < len(long_text(600, 7)) <= 600


def test_a_seed_gives_one_schedule_whose_rate_is_what_was_asked_for() -> None:
    requests = poisson(20.0, 200.0, 1, sentences())
    assert requests == poisson(20.0, 200.0, 1, sentences())
    assert requests != poisson(20.0, 200.0, 2, sentences())
    assert len(requests) == pytest.approx(4_000, rel=0.1)
    assert all(0 < request.at < 200 for request in requests)
    assert len({request.text for request in requests}) > 100


def test_the_first_audible_sound_is_the_first_that_is_louder_than_the_threshold() -> None:
    hearing = Hearing(due=10.0)
    hearing.heard(SILENCE, 10.1)
    hearing.heard(FRAME, 10.3)
    assert (hearing.first_s, hearing.audible_s) == (pytest.approx(0.1), pytest.approx(0.3))
    assert hearing.samples == 2 * 1920


def test_underruns_are_the_gaps_of_a_player_that_goes_on_after_each() -> None:
    steady = heard(0.0, 0.08, 0.16, 0.24)
    assert steady.underruns(0.0).count == 0
    late = heard(0.0, 0.13, 0.16, 0.35)  # 50 ms too late, which moves all that follows, and then 30 ms more
    assert late.underruns(0.0).count == 2
    assert late.underruns(0.0).seconds == pytest.approx(0.05 + 0.35 - 0.29)
    assert late.underruns(0.1).count == 1
    assert heard().underruns(0.0).count == 0


def test_lateness_is_against_a_player_that_never_stops() -> None:
    assert heard(1.0, 1.05, 1.30).lateness() == pytest.approx([-0.03, 0.14])


def test_a_row_counts_how_each_utterance_ended() -> None:
    good, refused, failed = heard(0.1, 0.15), heard(), heard(0.2)
    good.end("complete")
    refused.end("refused", "full")
    failed.end("error", "gone")
    for hearing in (good, refused, failed):
        hearing.ended = 0.5
    row = serving_report.row("websocket", 2.0, [good, refused, failed], {"frontend": 0.2, "generator": 9.0})
    assert (row["requests"], row["refused"], row["errors"]) == (3, 1, 1)
    assert row["first_p95_ms"] == pytest.approx(100.0)
    assert row["audio_s_per_s"] == pytest.approx(3 * 1920 / SAMPLE_RATE / 0.5)
    assert row["cpu_ms_per_audio_s"] == pytest.approx(0.2 * 1000 / (3 * FRAME_S))
    assert row["error_reasons"] == ["gone"]


def test_the_engine_alone_has_the_sizes_it_has_behind_triton() -> None:
    lines = CONTRACT.read_text().splitlines()
    written = [line for line in lines if line.startswith("parameters {")]
    assert len(contract_parameters()) == len(written) > 10
    assert EngineConfig.from_parameters(contract_parameters())


def test_parameters_of_the_contract_are_replaced_and_unknown_ones_refused() -> None:
    contract = CONTRACT.read_text()
    assert 'key: "slots"           value: { string_value: "99" }' in with_parameters(contract, {"slots": "99"})
    with pytest.raises(ValueError, match="no parameter 'slot'"):
        with_parameters(contract, {"slot": "1"})
