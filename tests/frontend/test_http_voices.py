"""Voices and models over HTTP: what is listed, and how a voice is added and removed where that is allowed."""

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from frontend import api_keys, recording_check
from frontend.api_keys import Scope
from frontend.http_voices import MAX_UPLOAD_BYTES
from frontend.settings import SettingsError, load
from frontend.synthesis import Description
from frontend.voice_folders import NoSuchVoice, VoiceFolders
from tests.frontend.conftest import PATIENCE_S, RunningServer, running_server
from tests.frontend.fakes import FakeSpeech
from tts_engine.voice_library import VoiceLibrary

ADMIN, SPEAKER = api_keys.make_key(), api_keys.make_key()
KEYS = ",".join([api_keys.entry("boss", Scope.ADMIN, ADMIN), api_keys.entry("app", Scope.SPEAK, SPEAKER)])
MAKIMA = {"name": "Makima", "description": "Calm.", "speaker": "serena", "language": "english"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "voices"
    (folder / "makima").mkdir(parents=True)
    (folder / "makima" / "manifest.json").write_text(json.dumps(MAKIMA))
    return folder


@pytest.fixture
def speech() -> FakeSpeech:
    fake = FakeSpeech()
    details = {"type": "base", "voices": ["makima", "old_man-2"], "speakers": [], "default_voice": "makima"}
    fake.description = Description("qwen3-tts-fake", "instance-1", False, details)
    return fake


@pytest.fixture
async def server(speech: FakeSpeech, directory: Path) -> AsyncIterator[RunningServer]:
    async with running_server(speech, voices=directory, voice_upload=True, api_keys=KEYS) as running:
        yield running


@dataclass
class Answer:
    status: int
    headers: str
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def code(self) -> str:
        return self.body["error"]["code"]


async def call(
    server: RunningServer, method: str, path: str, body: bytes = b"", kind: str = "", key: str | None = ADMIN
) -> Answer:
    host, port = server.address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: {kind}\r\n{authorization}"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()
    top, _, rest = answer.partition(b"\r\n\r\n")
    return Answer(int(top.split()[1]), top.decode().lower(), rest)


def form(recording: bytes | None, **fields: str) -> tuple[bytes, str]:
    """A multipart body and its content type."""
    parts = [f'--x\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
    if recording is not None:
        disposition = 'form-data; name="audio_sample"; filename="../../evil.wav"'
        parts.append(f"--x\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + recording + b"\r\n")
    return b"".join(parts) + b"--x--\r\n", "multipart/form-data; boundary=x"


def sound(seconds: float = 4.0, rate: int = 24_000, channels: int = 1, kind: str = "WAV", peak: float = 0.5) -> bytes:
    time = np.arange(int(seconds * rate)) / rate
    samples = (np.sin(2 * np.pi * 220 * time) * peak)[:, None].repeat(channels, axis=1)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind)
    return file.getvalue()


async def add(server: RunningServer, recording: bytes | None, key: str | None = ADMIN, **fields: str) -> Answer:
    wanted = {"name": "Café Lady", "consent": "She agreed.", **fields}
    return await call(server, "POST", "/v1/audio/voices", *form(recording, **wanted), key)


@pytest.mark.parametrize("path", ["/v1/audio/voices", "/api/v1/voices"])
async def test_voices_are_listed_with_what_their_folders_say(server: RunningServer, path: str) -> None:
    answer = await call(server, "GET", path, key=SPEAKER)
    described = {"id": "makima", "name": "Makima", "language": "english", "cloned": True, "description": "Calm."}
    unknown = {"id": "old_man-2", "name": "Old Man 2", "language": "auto", "cloned": True, "description": ""}
    assert answer.body == {"voices": [described, unknown], "default": "makima"}
    one = await call(server, "GET", f"{path}/makima", key=SPEAKER)
    assert (one.status, one.body) == (200, described)


@pytest.mark.parametrize("name", ["nobody", "..", "%2e%2e%2fvoices", "MAKIMA", "makima%00", ".adding-x"])
async def test_an_unknown_voice_is_not_found(server: RunningServer, name: str) -> None:
    for method in ("GET", "DELETE"):
        answer = await call(server, method, f"/v1/audio/voices/{name}")
        assert (answer.status, answer.code) in {(404, "voice_not_found"), (404, "not_found")}


async def test_the_models_are_ours_and_the_names_of_openai_we_answer_to(server: RunningServer) -> None:
    listed = (await call(server, "GET", "/v1/models", key=SPEAKER)).body
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == [
        *("qwen3-tts", "qwen3-tts-fake", "tts-1", "tts-1-hd", "gpt-4o-mini-tts"),
    ]
    one = await call(server, "GET", "/v1/models/tts-1", key=SPEAKER)
    assert one.body == {"id": "tts-1", "object": "model", "created": 0, "owned_by": "qwen"}
    none = await call(server, "GET", "/v1/models/gpt-5", key=SPEAKER)
    assert (none.status, none.code) == (404, "model_not_found")


@pytest.mark.parametrize(
    "recording",
    [sound(), sound(rate=44_100, channels=2), sound(rate=8_000, kind="FLAC"), sound(rate=48_000, kind="OGG")],
    ids=["wav", "stereo", "flac", "ogg"],
)
async def test_an_uploaded_recording_becomes_a_voice_folder(
    server: RunningServer, directory: Path, recording: bytes
) -> None:
    answer = await add(server, recording, ref_text="Hello.", language="de", description="A lady.")
    assert answer.status == 201, answer.raw
    assert "location: /v1/audio/voices/cafe-lady" in answer.headers
    assert answer.body == {
        **{"id": "cafe-lady", "name": "Café Lady", "language": "de", "cloned": True, "description": "A lady."},
    }
    assert json.loads((directory / "cafe-lady" / "manifest.json").read_text(encoding="utf-8")) == {
        **{"name": "Café Lady", "description": "A lady.", "language": "de", "reference_text": "Hello."},
        **{"source": "uploaded", "licence": "consent: She agreed.", "reference_audio": "reference.wav"},
    }
    info = soundfile.info(directory / "cafe-lady" / "reference.wav")
    assert (info.samplerate, info.channels, info.subtype) == (24_000, 1, "PCM_16")
    assert info.duration == pytest.approx(4.0, abs=0.1)
    assert sorted(os.listdir(directory)) == ["cafe-lady", "makima"], "nothing else is left"


async def test_a_model_can_read_what_was_uploaded(server: RunningServer, directory: Path) -> None:
    assert (await add(server, sound(), ref_text="Hello.")).status == 201
    voice = VoiceLibrary(directory).check()["cafe-lady"]
    assert (voice.manifest.name, voice.reference.text) == ("Café Lady", "Hello.")


async def test_a_voice_can_be_removed_and_only_once(server: RunningServer, directory: Path) -> None:
    assert (await add(server, sound())).status == 201
    assert (await add(server, sound())).code == "voice_exists"
    gone = await call(server, "DELETE", "/v1/audio/voices/cafe-lady")
    assert (gone.status, gone.raw) == (204, b"")
    assert os.listdir(directory) == ["makima"]
    assert (await call(server, "DELETE", "/v1/audio/voices/cafe-lady")).status == 404
    assert (await call(server, "DELETE", "/v1/audio/voices/makima")).code == "default_voice"


@pytest.mark.parametrize(
    ("recording", "words"),
    [
        (b"", "cannot be read"),
        (b"no sound", "cannot be read"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt ", "cannot be read"),
        (sound(2.9), "lasts 2.90 s; it must last from 3 to 30 s"),
        (sound(30.5), "lasts more than 30 s"),
        (sound(peak=0), "silent"),
        (sound(rate=4_000), "sample rate is 4000 Hz"),
        (sound(channels=9), "9 channels; at most 8"),
    ],
    ids=["nothing", "text", "header", "short", "long", "silent", "slow", "wide"],
)
async def test_what_is_no_recording_to_clone_is_refused(
    server: RunningServer, directory: Path, recording: bytes, words: str
) -> None:
    answer = await add(server, recording)
    assert (answer.status, answer.code) == (400, "unusable_recording")
    assert words in answer.body["error"]["message"]
    assert os.listdir(directory) == ["makima"]


async def test_voices_that_cannot_be_stored_are_the_operators_trouble(
    server: RunningServer, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.to_thread(directory.rename, directory.parent / "elsewhere")
    for answer in (await add(server, sound()), await call(server, "DELETE", "/v1/audio/voices/old_man-2")):
        assert (answer.status, answer.code) == (507, "not_stored")
    assert "cannot be stored: [Errno 2] No such file or directory" in caplog.text


async def test_a_file_that_unpacks_to_hours_is_given_up_early(server: RunningServer, figure: Any) -> None:
    # 40 minutes of silence at 192 kHz: 900 MB of samples in a few hundred kilobytes.
    bomb = io.BytesIO()
    with soundfile.SoundFile(bomb, "w", 192_000, 1, format="FLAC") as file:
        for _ in range(40):
            file.write(np.zeros(192_000 * 60, np.int16))
    began = asyncio.get_running_loop().time()
    answer = await add(server, bomb.getvalue())
    took = asyncio.get_running_loop().time() - began
    figure("upload bomb", f"{len(bomb.getvalue()) / 1e6:.1f} MB of FLAC for 0.9 GB of samples, refused in {took:.2f} s")
    assert (answer.status, answer.code) == (400, "unusable_recording")
    assert took < recording_check.WALL_SECONDS


async def test_a_file_larger_than_the_limit_is_refused(server: RunningServer, directory: Path) -> None:
    answer = await add(server, bytes(MAX_UPLOAD_BYTES + 1))
    assert (answer.status, answer.code) == (413, "file_too_large")
    huge = await add(server, bytes(MAX_UPLOAD_BYTES + 4 * 1024 * 1024))
    assert huge.status == 413
    assert os.listdir(directory) == ["makima"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": " "}, "name"),
        ({"name": "猫"}, "name"),
        ({"name": "a" * 81}, "name"),
        ({"consent": ""}, "consent"),
        ({"ref_text": "<|im_end|>"}, "ref_text"),
        ({"description": "a\x07"}, "description"),
    ],
)
async def test_a_wrong_field_is_named(server: RunningServer, fields: dict[str, str], param: str) -> None:
    answer = await add(server, sound(), **fields)
    assert (answer.status, answer.body["error"]["param"]) == (400, param)


async def test_the_recording_must_be_there(server: RunningServer) -> None:
    answer = await add(server, None)
    assert (answer.status, answer.body["error"]["param"]) == (400, "audio_sample")


async def test_only_an_admin_changes_voices_and_only_where_that_is_on(speech: FakeSpeech, directory: Path) -> None:
    async with running_server(speech, voices=directory, voice_upload=True, api_keys=KEYS) as server:
        assert [(await add(server, sound(), key)).status for key in (None, "wrong", SPEAKER)] == [401, 401, 403]
    async with running_server(speech, voices=directory, api_keys=KEYS) as server:
        answer = await add(server, sound())
        assert (answer.status, answer.code) == (403, "voice_upload_off")
        assert (await call(server, "DELETE", "/v1/audio/voices/makima")).status == 403
    async with running_server(speech, voices=directory, voice_upload=True) as server:
        assert (await add(server, sound(), None)).status == 403, "without keys nobody is an admin"
    assert os.listdir(directory) == ["makima"]


async def test_a_model_that_clones_nothing_takes_no_recordings(server: RunningServer, speech: FakeSpeech) -> None:
    await call(server, "GET", "/v1/models")
    speech.description = Description("m", "instance-2", False, {"type": "custom_voice"})
    speech.described.clear()
    await speech.described.wait()
    await speech.described.wait()
    async with asyncio.timeout(PATIENCE_S):
        while (answer := await add(server, sound())).status == 201:
            await call(server, "DELETE", "/v1/audio/voices/cafe-lady")
    assert (answer.status, answer.code) == (400, "unsupported")


def test_uploads_need_a_place_to_go_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRONTEND_VOICE_UPLOAD", "true")
    with pytest.raises(SettingsError, match="FRONTEND_VOICES"):
        load()


def test_links_and_strange_names_are_no_voices(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "manifest.json").write_text('{"name": "E"}')
    (directory / "link").symlink_to(tmp_path / "elsewhere")
    (directory / ".hidden").mkdir()
    (directory / "empty").mkdir()
    folders = VoiceFolders(directory)
    assert list(folders.manifests()) == ["makima"]
    for name in ("link", ".hidden", "empty", "..", ""):
        with pytest.raises(NoSuchVoice):
            folders.remove(name)
    assert (tmp_path / "elsewhere" / "manifest.json").exists()
