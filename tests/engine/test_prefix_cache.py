"""What is made once and kept: voices and prompt beginnings. Kept or not, the codes are the same."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import Demo, Figure
from tests.engine.conftest import LoadEngine
from tests.engine.fakes import PATIENCE_S, Listener
from tests.engine.sounds import TimedListener, hum
from tts_engine import Engine, EngineConfig, Speak
from tts_engine.checkpoint import Checkpoint, load_networks
from tts_engine.kv_cache import KeyValueCache
from tts_engine.manifests import Reference
from tts_engine.networks.layers import Rotary
from tts_engine.networks.talker import Talker
from tts_engine.prefix_cache import Prefix, PrefixCache
from tts_engine.runner import Runner
from tts_engine.voice_encoder import VoiceEncoder
from tts_engine.voice_library import VoiceLibrary
from tts_engine.voices import VoiceBook

CPU = torch.device("cpu")
KEPT = EngineConfig(slots=2, max_waiting=8, max_frames=60)
NOT_KEPT = replace(KEPT, prefix_cache_mb=0, voice_cache_mb=0)
WORDS = "Two voices, the same words."


@dataclass(frozen=True)
class CountingTalker(Talker):
    """Notes how many positions each prompt reading takes."""

    read: list[int] = field(default_factory=list)

    def prefill(self, x: Tensor, rotary: Rotary, cache: KeyValueCache, start: int) -> Tensor:
        self.read.append(x.shape[0])
        return super().prefill(x, rotary, cache, start)


@dataclass(frozen=True)
class Watched:
    """An engine on a Base checkpoint, with what it is made of in sight."""

    engine: Engine
    runner: Runner
    talker: CountingTalker


def watched(folder: Path, config: EngineConfig) -> Watched:
    files = Checkpoint.read(folder)
    networks = load_networks(files, CPU, torch.float32)
    parts = {part.name: getattr(networks.talker, part.name) for part in fields(networks.talker)}
    talker = CountingTalker(**parts)
    runner = Runner(replace(networks, talker=talker), files.model, config, CPU, torch.float32)
    book = VoiceBook(files.model, VoiceLibrary(None), config.default_voice)
    assert networks.voices is not None
    encoder = VoiceEncoder(networks.voices, CPU, capacity=config.voice_cache_bytes, max_waiting=8)
    return Watched(Engine(files, config, book, runner, encoder), runner, talker)


@pytest.fixture
def scene(demo: Demo) -> Iterator[Watched]:
    """The defaults, with two slots."""
    made = watched(demo(model_type="base"), KEPT)
    made.engine.start()
    yield made
    made.engine.shutdown()


def say(engine: Engine, speak: Speak) -> Listener:
    listener = Listener()
    engine.submit(speak, listener)
    assert listener.outcome.error is None
    return listener


def in_context(seed: int = 0, seconds: float = 2.0, **changes: object) -> Speak:
    speak = Speak(
        text="Hello there",
        language="english",
        seed=5,
        max_frames=8,
        reference_audio=hum(seconds, seed),
        reference_sample_rate=24_000,
        reference_text=WORDS,
    )
    return replace(speak, **changes)  # type: ignore[arg-type]


def test_the_second_utterance_of_a_voice_reads_its_own_text_only_and_is_heard_sooner(
    scene: Watched, figure: Figure
) -> None:
    speak = in_context(seconds=20.0, reference_text="Some words were said. " * 12, text_placement="stream")
    heard, read, known = [], [], []
    for text in ("Hello there", "Something else", "Hello there"):
        before = len(scene.talker.read)
        heard.append(say(scene.engine, replace(speak, text=text)))
        read.append(scene.talker.read[before:])
        known.append((scene.runner.prefixes.hits, scene.runner.prefixes.misses))
    assert [len(parts) for parts in read] == [2, 1, 1], "a beginning and a rest, then only rests"
    assert read[1] == read[0][1:]
    assert read[1][0] < read[0][0] / 20
    assert known == [(0, 1), (1, 1), (2, 1)]
    assert np.array_equal(heard[0].codes, heard[2].codes)
    first, second = (listener.timings["first_audio_s"] for listener in (heard[0], heard[2]))
    figure(
        "time to first audio with a kept voice over the first time (20 s recording, tiny networks)",
        f"{second / first:.3f} = {1000 * second:.1f} ms / {1000 * first:.1f} ms; "
        f"positions read: {read[2]} instead of {read[0]}",
    )
    assert second < 0.6 * first


@pytest.mark.parametrize("size", ["0b6", "1b7"])
@pytest.mark.parametrize("placement", ["prefill", "stream"])
@pytest.mark.parametrize("words", [WORDS, None, "z" * 60])
def test_a_clone_says_the_same_whether_its_voice_was_kept_or_not(
    load_engine: LoadEngine, size: str, placement: str, words: str | None
) -> None:
    kept, fresh = (load_engine(config, model_type="base", size=size) for config in (KEPT, NOT_KEPT))
    speak = in_context(reference_text=words, text_placement=placement)
    said = [say(engine, speak).codes for engine in (kept, kept, fresh, fresh)]
    assert all(np.array_equal(codes, said[0]) for codes in said[1:])


def test_styles_speakers_and_languages_share_no_beginning(load_engine: LoadEngine) -> None:
    kept, fresh = (load_engine(config, size="1b7") for config in (KEPT, NOT_KEPT))
    common = Speak(text="Hello there", seed=4, max_frames=8)
    speaks = [
        replace(common, voice=voice, language=language, instruct=instruct)
        for voice in ("ryan", "serena")
        for language in ("english", "auto")
        for instruct in (None, "Whisper.", "Shout.")
    ]
    expected = [say(fresh, speak).codes for speak in speaks]
    for _ in range(2):
        for speak, codes in zip(speaks, expected, strict=True):
            assert np.array_equal(say(kept, speak).codes, codes)
    assert len({codes.tobytes() for codes in expected}) == len(speaks)


@pytest.mark.parametrize("placement", ["prefill", "stream"])
def test_two_voices_with_the_same_words_never_mix(load_engine: LoadEngine, placement: str) -> None:
    speaks = [in_context(seed, text_placement=placement) for seed in (0, 1)]
    alone = [say(load_engine(KEPT, model_type="base"), speak) for speak in speaks]
    engine = load_engine(KEPT, model_type="base")
    for turn in (0, 1, 0, 1, 1, 0):
        said = say(engine, speaks[turn])
        assert np.array_equal(said.codes, alone[turn].codes)
        assert np.array_equal(np.concatenate(said.pcm), np.concatenate(alone[turn].pcm))
    assert not np.array_equal(alone[0].codes, alone[1].codes)


def test_one_recording_with_other_words_is_another_voice(load_engine: LoadEngine) -> None:
    speaks = [in_context(reference_text=words) for words in (WORDS, "Quite different words.", None)]
    alone = [say(load_engine(KEPT, model_type="base"), speak).codes for speak in speaks]
    engine = load_engine(KEPT, model_type="base")
    for turn in (0, 1, 2, 0, 2, 1):
        assert np.array_equal(say(engine, speaks[turn]).codes, alone[turn])
    assert len({codes.tobytes() for codes in alone}) == 3


def test_when_the_kept_beginnings_are_full_the_oldest_go_and_all_is_still_right(demo: Demo) -> None:
    """A beginning of about 400 positions takes 600 kB, so that a megabyte holds one."""
    made = watched(demo(model_type="base"), replace(KEPT, prefix_cache_mb=1, voice_cache_mb=1))
    made.engine.start()
    speaks = [in_context(seed, 1.0, reference_text="z" * 400, text_placement="prefill") for seed in range(3)]
    try:
        rounds = [[say(made.engine, speak).codes for speak in speaks] for _ in range(2)]
        assert (made.runner.prefixes.hits, made.runner.prefixes.misses) == (0, 6)
        say(made.engine, speaks[-1])
        assert made.runner.prefixes.hits == 1
    finally:
        made.engine.shutdown()
    assert all(np.array_equal(one, other) for one, other in zip(*rounds, strict=True))
    assert len({codes.tobytes() for codes in rounds[0]}) == 3


def prefix(size: int) -> Prefix:
    """A prefix of `size` bytes."""
    half = torch.zeros(size // 2, dtype=torch.uint8)
    return Prefix(half, half)


def test_the_least_recently_used_beginning_goes_first() -> None:
    cache = PrefixCache(100)
    for key in "abc":
        cache.put(key, prefix(30))
    assert cache.get("a") is not None
    cache.put("d", prefix(30))
    assert [key for key in "abcd" if cache.get(key) is not None] == ["a", "c", "d"]
    cache.put("e", prefix(80))
    assert [key for key in "abcde" if cache.get(key) is not None] == ["e"]


def test_a_beginning_larger_than_the_whole_cache_is_not_kept_and_displaces_nothing() -> None:
    cache = PrefixCache(100)
    cache.put("a", prefix(60))
    cache.put("b", prefix(102))
    assert cache.get("a") is not None
    assert cache.get("b") is None


def test_the_least_recently_used_voice_is_encoded_anew(demo: Demo) -> None:
    voices = load_networks(Checkpoint.read(demo(model_type="base")), CPU, torch.float32).voices
    assert voices is not None
    references = [Reference.of(hum(1.0, seed), 24_000, WORDS) for seed in range(3)]
    size = VoiceEncoder(voices, CPU, capacity=0, max_waiting=8).encode(references[0]).result().nbytes
    encoder = VoiceEncoder(voices, CPU, capacity=2 * size, max_waiting=8)
    try:
        first, second = (encoder.encode(reference) for reference in references[:2])
        assert first.result() is encoder.encode(references[0]).result()
        encoder.encode(references[2]).result()
        assert encoder.encode(references[0]) is first, "it was used last"
        again = encoder.encode(references[1])
        assert again is not second
        assert torch.equal(again.result().vector, second.result().vector)
    finally:
        encoder.close()


def test_those_who_wait_for_the_same_new_voice_wait_for_one_encoding(demo: Demo) -> None:
    voices = load_networks(Checkpoint.read(demo(model_type="base")), CPU, torch.float32).voices
    assert voices is not None
    encoder = VoiceEncoder(voices, CPU, capacity=1 << 20, max_waiting=8)
    try:
        futures = [encoder.encode(Reference.of(hum(2.0), 24_000, WORDS)) for _ in range(4)]
        assert len(set(futures)) == 1
    finally:
        encoder.close()


def test_encoding_a_new_voice_does_not_hold_up_those_who_speak(demo: Demo, figure: Figure) -> None:
    made = watched(demo(model_type="base"), replace(KEPT, slots=8, max_frames=400))
    made.engine.start()
    try:
        say(made.engine, in_context(seconds=1.0))
        speakers, ids = _seven(made.engine)
        newcomer = TimedListener()
        asked = [len(speaker.times) for speaker in speakers]
        made.engine.submit(in_context(seed=7, seconds=30.0, max_frames=2), newcomer)
        assert newcomer.outcome.error is None
        for utterance_id in ids:
            made.engine.cancel(utterance_id)
        assert all(speaker.outcome for speaker in speakers)
    finally:
        made.engine.shutdown()
    waited = newcomer.timings["queue_s"]
    meanwhile, worked = zip(*(_while_encoding(speaker, newcomer, waited) for speaker in speakers), strict=True)
    usual = float(np.median(np.concatenate([one.gaps[:count] for one, count in zip(speakers, asked, strict=True)])))
    assert min(len(gaps) for gaps in meanwhile) >= 3
    largest, work = (max(float(one.max()) for one in each) for each in (meanwhile, worked))
    figure(
        "largest gap between frames of seven speakers while a 30 s recording is encoded",
        f"{1000 * largest:.1f} ms, {1000 * work:.1f} ms of them work; their usual step {1000 * usual:.1f} ms, "
        f"the encoding took {1000 * waited:.0f} ms: each made {min(len(gaps) for gaps in meanwhile)} frames or more",
    )
    assert work < 0.5 * waited, "whatever else the machine does, their thread does not encode"


def _seven(engine: Engine) -> tuple[list[TimedListener], list[int]]:
    """Seven who speak, the last of them well under way, and their ids."""
    under_way = threading.Event()
    last = TimedListener(on_frame=lambda count: under_way.set() if count == 30 else None)
    speakers = [*(TimedListener() for _ in range(6)), last]
    speak = in_context(seconds=1.0, reference_text=None, text="long " * 30, text_placement="stream", max_frames=400)
    ids = [engine.submit(replace(speak, seed=number), speaker) for number, speaker in enumerate(speakers)]
    assert under_way.wait(PATIENCE_S)
    return speakers, ids


def _while_encoding(speaker: TimedListener, newcomer: TimedListener, waited: float) -> tuple[np.ndarray, np.ndarray]:
    """Gaps between a speaker's frames from the newcomer's coming to its first frame, and the work in each."""
    heard = newcomer.times[0]
    times = np.array(speaker.times)
    meanwhile = (times >= heard - waited) & (times <= heard)
    return np.diff(times[meanwhile]), np.diff(np.array(speaker.worked)[meanwhile])
