"""scripts/serve as a user meets it: it starts from nothing, says in one line what is wrong, and leaves nothing."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import wave
from collections.abc import Sequence
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from commands.serve import parse
from tests.conftest import REPOSITORY, Demo, Figure
from tests.stack.conftest import StartServe
from tests.stack.serving import STOP_TIMEOUT, Ports, is_alive, seconds_until

pytestmark = pytest.mark.stack


def refusal(*options: str | Path, ports: Sequence[str] | None = None) -> str:
    """The one line with which scripts/serve refuses to start."""
    command = [sys.executable, "-P", "-m", "commands.serve", *(ports or Ports.free().options()), *map(str, options)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 1, finished.stdout + finished.stderr
    [line] = finished.stderr.splitlines()
    return line


@pytest.fixture
def broken(demo: Demo, tmp_path: Path) -> Path:
    """A checkpoint of its own, for a test to break."""
    return Path(shutil.copytree(demo(), tmp_path / "broken"))


def test_serve_and_speak_make_a_wav_file(start_serve: StartServe, tmp_path: Path, figure: Figure) -> None:
    serve = start_serve("--model", "demo")
    assert "untrained demo" in serve.wait_for_line("serve: ready")
    assert "UNTRAINED DEMO" in serve.output
    out = tmp_path / "spoken.wav"
    command = [REPOSITORY / "scripts" / "speak", "Hello from the whole stack.", "--url", serve.url, "--out", out]
    spoken = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert spoken.returncode == 0, spoken.stderr
    figure("stack: scripts/speak", spoken.stdout.strip().rpartition(": ")[2])
    with wave.open(str(out)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (24_000, 1, 2)
        assert sound.getnframes() > 0
        assert sound.getnframes() % 1920 == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ending_serve_leaves_no_process_and_no_shared_memory(
    start_serve: StartServe, greedy_checkpoint: Path, number: signal.Signals
) -> None:
    serve = start_serve("--model", greedy_checkpoint)
    serve.wait_for_line("serve: ready")
    children, shared_memory = serve.children(), serve.shared_memory
    assert len(children) >= 3
    assert shared_memory
    assert serve.interrupt(number) == 0, serve.output
    assert [command for pid, command in children.items() if is_alive(pid)] == []
    assert [file for file in shared_memory if file.exists()] == []


async def test_a_serve_that_is_killed_leaves_no_process_and_no_shared_memory(
    start_serve: StartServe, greedy_checkpoint: Path
) -> None:
    serve = start_serve("--model", greedy_checkpoint)
    serve.wait_for_line("serve: ready")
    children, shared_memory = serve.children(), serve.shared_memory
    assert serve.interrupt(signal.SIGKILL) == -signal.SIGKILL
    await seconds_until(lambda: not any(map(is_alive, children)), STOP_TIMEOUT)
    assert [file for file in shared_memory if file.exists()] == []


@pytest.mark.parametrize("victim", ["bin/tritonserver ", "-m frontend"])
def test_serve_ends_with_either_of_its_processes(start_serve: StartServe, greedy_checkpoint: Path, victim: str) -> None:
    serve = start_serve("--model", greedy_checkpoint)
    serve.wait_for_line("serve: ready")
    children, shared_memory = serve.children(), serve.shared_memory
    os.kill(serve.process(victim), signal.SIGKILL)
    serve.wait_for_line("serve: .*has ended by itself with status -9")
    assert serve.ended_with() == 1
    assert [command for pid, command in children.items() if is_alive(pid)] == []
    assert [file for file in shared_memory if file.exists()] == []


def test_a_taken_port_is_named_with_its_option() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = [*Ports.free().options(), f"--triton-grpc-port={port}"]
        line = refusal("--model", "demo", ports=options)
    assert f"port {port} " in line
    assert "--triton-grpc-port" in line


def test_an_open_door_without_a_key_is_refused_before_anything_is_loaded() -> None:
    line = refusal("--model", "demo", "--host", "0.0.0.0")
    assert "FRONTEND_API_KEYS" in line
    assert "FRONTEND_AUTH" in line


def test_its_voices_are_those_that_an_admin_may_add_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRONTEND_VOICE_UPLOAD", "true")
    line = refusal("--model", tmp_path / "nowhere", "--voices", tmp_path)
    assert "FRONTEND_VOICES" not in line
    assert "nowhere: no such directory" in line


def test_host_and_port_may_be_settings_of_the_frontend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRONTEND_HOST", "::1")
    monkeypatch.setenv("FRONTEND_PORT", "9001")
    assert (parse([]).host, parse([]).port) == ("::1", 9001)
    assert parse(["--port", "9002"]).port == 9002


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path / 'nowhere'}: no such directory" in refusal("--model", tmp_path / "nowhere")


def test_a_missing_file_of_a_checkpoint_is_named(broken: Path) -> None:
    (broken / "vocab.json").unlink()
    assert "vocab.json is missing" in refusal("--model", broken)


def test_an_unreadable_config_is_named(broken: Path) -> None:
    (broken / "config.json").write_text('{"tts_model_type": ')
    assert f"{broken / 'config.json'} is not JSON" in refusal("--model", broken)


def test_broken_off_weights_are_named(broken: Path) -> None:
    weights = broken / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 1)
    assert f"{weights} is damaged" in refusal("--model", broken)


def test_the_reason_of_a_failed_load_is_one_line(broken: Path) -> None:
    weights = broken / "speech_tokenizer" / "model.safetensors"
    tensors = load_file(weights)
    lost = sorted(name for name in tensors if name.startswith("decoder."))[0]
    save_file({name: tensor for name, tensor in tensors.items() if name != lost}, weights)
    line = refusal("--model", broken)
    assert "the model could not be loaded" in line
    assert lost in line


def test_an_unknown_config_value_is_refused_by_name(broken: Path) -> None:
    config = broken / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "tts_model_type": "singing"}))
    assert "singing" in refusal("--model", broken)
