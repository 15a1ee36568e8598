"""Runs the official qwen-tts package over a list of cases and keeps what it made.

    python official_worker.py CASES.jsonl OUT

Runs in the official package's own environment and knows nothing of our engine. A line is one call of the package:
    checkpoint, method (custom_voice | voice_design | base), non_streaming_mode, max_new_tokens, logits (optional bool)
    and lists of equal length, one entry a row: ids, texts, languages, speakers (custom_voice), instructs, and for base
    recordings (paths) and transcripts (null clones by the voice's vector alone).
Every row leaves OUT/<id>.codes.npy, int64 (T, 16); OUT/<id>.audio.npy, float32 (T*1920,), the whole codec run over
all its codes at once, behind those of a recording cloned in context; and with "logits" OUT/<id>.logits.npy, float32
(steps, V), the talker's own logits. A clone leaves OUT/<id>.vector.npy, float32 (D,), and, in context,
OUT/<id>.recording.npy, int64 (T, 16). The choice is greedy.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import import_shims
import numpy as np

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import_shims.install()

import torch  # noqa: E402
from qwen_tts import Qwen3TTSModel  # noqa: E402


class Recorder:
    """One official checkpoint, with its codes and talker logits kept as they pass."""

    def __init__(self, checkpoint: str) -> None:
        self.tts = Qwen3TTSModel.from_pretrained(checkpoint, device_map="cpu", dtype=torch.float32)
        self.codes: list[torch.Tensor] = []
        self.logits: list[torch.Tensor] = []
        self.clones: list[Any] = []
        self._generate = self.tts.model.generate
        self.tts.model.generate = self._recording_generate
        self.tts.model.talker.codec_head.register_forward_hook(self._record_logits)
        # The package would vocode in chunks; the comparison is with one run over all codes.
        self.tts.model.speech_tokenizer.decode = lambda _: ([], 24_000)

    def _recording_generate(self, *args: Any, **kwargs: Any) -> Any:
        answer = self._generate(*args, **kwargs)
        self.codes = answer[0]
        return answer

    def _record_logits(self, _module: Any, _inputs: Any, output: torch.Tensor) -> None:
        self.logits.append(output[:, -1].float().clone())

    def call(self, case: dict[str, Any]) -> None:
        """Generates the case's rows, all in one batch."""
        self.logits = []
        self.clones = []
        shared = {
            "language": case["languages"],
            "non_streaming_mode": case["non_streaming_mode"],
            "max_new_tokens": case["max_new_tokens"],
            "do_sample": False,
            "subtalker_dosample": False,
        }
        if case["method"] == "custom_voice":
            shared["instruct"] = case["instructs"]
            self.tts.generate_custom_voice(case["texts"], speaker=case["speakers"], **shared)
        elif case["method"] == "voice_design":
            self.tts.generate_voice_design(case["texts"], instruct=case["instructs"], **shared)
        elif case["method"] == "base":
            self.clones = [self._clone(*row) for row in zip(case["recordings"], case["transcripts"], strict=True)]
            self.tts.generate_voice_clone(case["texts"], voice_clone_prompt=self.clones, **shared)
        else:
            raise ValueError(f"method {case['method']!r} is not custom_voice, voice_design or base")

    def _clone(self, recording: str, transcript: str | None) -> Any:
        """A recording's prompt item, made alone: together, the package pads recordings, which changes their codes."""
        alone = transcript is None
        return self.tts.create_voice_clone_prompt(recording, ref_text=transcript, x_vector_only_mode=alone)[0]

    def recording_codes(self, row: int) -> torch.Tensor | None:
        """Codes (T, 16) of the recording that a row of the last call is cloned from in context."""
        return self.clones[row].ref_code if self.clones else None

    @torch.no_grad()
    def audio(self, codes: torch.Tensor, before: torch.Tensor | None) -> np.ndarray:
        """The codec's answer (T*1920,) to codes (T, 16) that follow those `before` them, unchunked."""
        if not len(codes):
            return np.zeros(0, np.float32)
        whole = codes if before is None else torch.cat((before, codes))
        sound = self.tts.model.speech_tokenizer.model.decoder(whole.T[None])[0, 0].numpy()
        return sound[len(sound) - 1920 * len(codes) :]


def run(cases: list[dict[str, Any]], out: Path) -> None:
    """Runs the cases and writes their files; consecutive cases of one checkpoint load it once."""
    recorder, loaded = None, None
    for case in cases:
        if case["checkpoint"] != loaded:
            recorder, loaded = Recorder(case["checkpoint"]), case["checkpoint"]
        assert recorder is not None
        recorder.call(case)
        for row, (name, codes) in enumerate(zip(case["ids"], recorder.codes, strict=True)):
            np.save(out / f"{name}.codes.npy", codes.numpy().astype(np.int64))
            before = recorder.recording_codes(row)
            np.save(out / f"{name}.audio.npy", recorder.audio(codes, before).astype(np.float32))
            if recorder.clones:
                np.save(out / f"{name}.vector.npy", recorder.clones[row].ref_spk_embedding.float().numpy())
            if before is not None:
                np.save(out / f"{name}.recording.npy", before.numpy().astype(np.int64))
            if case.get("logits"):
                np.save(out / f"{name}.logits.npy", torch.stack([step[row] for step in recorder.logits]).numpy())


def main() -> None:
    """The command line: CASES.jsonl OUT."""
    cases_file, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the tensors are too small to share, and our engine runs at the same time
    run([json.loads(line) for line in cases_file.read_text(encoding="utf-8").splitlines()], out)


if __name__ == "__main__":
    main()
