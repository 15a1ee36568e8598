"""benchmarks/peers.py in its shortest form: both packages at work on the same texts, never how fast."""

from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.peer_process import PeerFailed, interpreter
from benchmarks.peer_worker import Job, Spoken
from tests.benchmarks.conftest import Left
from tests.conftest import Demo


@pytest.mark.parity
def test_all_peers_speak_the_same_texts_for_as_many_frames(demo: Demo, tmp_path: Path, left: Left) -> None:
    arguments = ["--smoke", "--device", "cpu", "--model", str(demo()), "--batches", "1,2", "--out", str(tmp_path)]
    assert peers.main(arguments) == 0
    rows = {(row["peer"], row["batch"]): row for row in left(tmp_path)["rows"]}
    official, ours = peers.NAMES["official"], peers.NAMES["ours"]
    for batch in (1, 2):
        for name in (official, ours):
            row = rows[name, batch]
            assert row["remark"] is None
            assert row["frames"] == 4
            assert row["audio_s_per_s"] == pytest.approx(batch * 4 * 0.08 / row["utterance_s"])
        assert rows[ours, batch]["first_audio_s"] < rows[ours, batch]["utterance_s"]
        assert rows[official, batch]["times_official"] == 1
        assert rows[peers.NAMES["faster"], batch]["remark"] == "needs a GPU"


def test_utterances_of_other_lengths_are_not_compared() -> None:
    with pytest.raises(PeerFailed, match=r"made \[4, 3\] frames where 4 were asked for"):
        peers._check("official", Job(["a", "b"], 4, 0), Spoken(1.0, [1.0, 1.0], [4, 3]))


def test_a_peer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FASTER_QWEN3_TTS_PYTHON", str(tmp_path / "python"))
    with pytest.raises(PeerFailed, match="faster is not installed"):
        interpreter("faster")


def test_a_batch_there_are_no_texts_for_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert peers.main(["--device", "cpu", "--batches", "9"]) == 2
    assert "a batch must be from 1 to 8, got 9" in capsys.readouterr().err
