"""The voices over HTTP: which there are, and, where the operator allows it, a new one from a recording, or one less.

What is said about a voice comes from its folder where the frontend can see it. It knows no speech.
"""

import asyncio
import contextlib
import logging
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from quart import Blueprint, Response, jsonify, request
from werkzeug.datastructures import FileStorage, MultiDict

from frontend.http_speech import known_voices
from frontend.messages import unspeakable
from frontend.openai_errors import ApiError
from frontend.readiness import Readiness
from frontend.recording_check import UnusableRecording, check_recording
from frontend.settings import Settings
from frontend.synthesis import Description
from frontend.voice_folders import RECORDING, VOICE_ID, NoSuchVoice, VoiceExists, VoiceFolders

log = logging.getLogger(__name__)

MAX_UPLOAD_BYTES = 10 * 1024 * 1024
PATHS = ("/v1/audio/voices", "/api/v1/voices")
FIELD_CHARS = {"name": 80, "ref_text": 2_000, "language": 40, "consent": 2_000, "description": 500}
_COPY_BYTES = 64 * 1024


def add_voices(api: Blueprint, settings: Settings, require_admin: Callable[[], None], readiness: Readiness) -> None:
    """Adds the routes; `require_admin` raises ApiError unless the caller of the request may change voices."""
    folders = None if settings.voices is None else VoiceFolders(settings.voices)
    _add_reading(api, folders, readiness)

    def writable() -> VoiceFolders:
        if not settings.voice_upload or folders is None:
            raise ApiError(403, "voice_upload_off", "this server does not let its voices be changed")
        require_admin()
        return folders

    _add_writing(api, writable, readiness)


def _add_reading(api: Blueprint, folders: VoiceFolders | None, readiness: Readiness) -> None:
    async def listed(description: Description) -> dict[str, dict[str, Any]]:
        manifests = {} if folders is None else await asyncio.to_thread(folders.manifests)
        return {name: _voice(name, description, manifests.get(name, {})) for name in sorted(known_voices(description))}

    async def voices() -> dict[str, Any]:
        description = await readiness.require()
        found = await listed(description)
        return {"voices": list(found.values()), "default": description.details.get("default_voice")}

    async def voice(name: str) -> dict[str, Any]:
        found = await listed(await readiness.require())
        if name not in found:
            raise ApiError(404, "voice_not_found", f"there is no voice {name[:80]!r}", param="voice")
        return found[name]

    for path in PATHS:
        api.add_url_rule(path, f"voices {path}", voices, methods=["GET"])
        api.add_url_rule(f"{path}/<name>", f"voice {path}", voice, methods=["GET"])


def _add_writing(api: Blueprint, writable: Callable[[], VoiceFolders], readiness: Readiness) -> None:
    async def add() -> tuple[Response, int, dict[str, str]]:
        folders = writable()
        description = await readiness.require()
        if description.details.get("type") != "base":
            message = f"a voice is cloned by a Base checkpoint; this one is {description.details.get('type')}"
            raise ApiError(400, "unsupported", message)
        name, manifest = _manifest(await request.form)
        with _storage():
            await _add(folders, name, manifest, await _recording())
        return jsonify(_voice(name, description, manifest)), 201, {"Location": f"{PATHS[0]}/{name}"}

    async def remove(name: str) -> tuple[str, int]:
        folders = writable()
        if name == (await readiness.require()).details.get("default_voice"):
            raise ApiError(409, "default_voice", f"{name!r} is the default voice, which cannot be removed")
        try:
            with _storage():
                await asyncio.to_thread(folders.remove, name)
        except NoSuchVoice as problem:
            raise ApiError(404, "voice_not_found", str(problem), param="voice") from None
        return "", 204

    for path in PATHS:
        api.add_url_rule(path, f"add {path}", add, methods=["POST"])
        api.add_url_rule(f"{path}/<name>", f"remove {path}", remove, methods=["DELETE"])


@contextlib.contextmanager
def _storage() -> Iterator[None]:
    """Makes a disk that is full or may not be written the operator's trouble: 507, and a line in the log."""
    try:
        yield
    except OSError as problem:
        log.error("voices cannot be stored: %s", problem)
        reason = problem.strerror or str(problem)
        raise ApiError(507, "not_stored", f"the server cannot store its voices: {reason}") from None


def _voice(name: str, description: Description, manifest: Any) -> dict[str, Any]:
    return {
        "id": name,
        "name": manifest.get("name") or name.replace("_", " ").replace("-", " ").title(),
        "language": manifest.get("language") or "auto",
        "cloned": description.details.get("type") == "base",
        "description": manifest.get("description") or "",
    }


def _manifest(form: MultiDict[str, str]) -> tuple[str, dict[str, str]]:
    """The voice's id and its manifest, less the recording. Raises ApiError."""
    values = {field: _value(form, field, limit) for field, limit in FIELD_CHARS.items()}
    for field in ("name", "consent"):
        if not values[field]:
            raise ApiError(400, "missing_field", f"field `{field}` is missing or blank", param=field)
    plain = unicodedata.normalize("NFKD", values["name"]).encode("ascii", "ignore").decode().lower()
    voice_id = re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")[:64]
    if not VOICE_ID.fullmatch(voice_id):
        message = f"field `name`: no id can be made of {values['name']!a}; it needs a letter a-z or a digit"
        raise ApiError(400, "invalid_value", message, param="name")
    manifest = {key: values[field] for field, key in (("name", "name"), ("description", "description"))}
    manifest |= {"language": values["language"], "reference_text": values["ref_text"]}
    manifest |= {"source": "uploaded", "licence": f"consent: {values['consent']}"}
    return voice_id, {key: value for key, value in manifest.items() if value}


def _value(form: MultiDict[str, str], field: str, limit: int) -> str:
    value = unicodedata.normalize("NFC", form.get(field, "")).strip()
    if len(value) > limit:
        message = f"field `{field}` has {len(value)} characters, the limit is {limit}"
        raise ApiError(400, "text_too_long", message, param=field)
    problem = unspeakable(value)
    if problem is not None:
        raise ApiError(400, "invalid_value", f"field `{field}`: {problem}", param=field)
    return value


async def _recording() -> FileStorage:
    recording = (await request.files).get("audio_sample")
    if recording is None:
        raise ApiError(400, "missing_field", "the file `audio_sample` is missing", param="audio_sample")
    return recording


async def _add(folders: VoiceFolders, name: str, manifest: dict[str, str], recording: FileStorage) -> None:
    workspace = await asyncio.to_thread(folders.workspace)
    try:
        place = Path(workspace.name)
        await asyncio.to_thread(_save, recording, place / "upload")
        await check_recording(place / "upload", place / RECORDING)
        await asyncio.to_thread(folders.add, name, manifest, place)
    except UnusableRecording as problem:
        raise ApiError(400, "unusable_recording", str(problem), param="audio_sample") from None
    except VoiceExists as problem:
        raise ApiError(409, "voice_exists", str(problem), param="name") from None
    finally:
        await asyncio.to_thread(workspace.cleanup)


def _save(recording: FileStorage, target: Path) -> None:
    left = MAX_UPLOAD_BYTES
    with target.open("wb") as file:
        while block := recording.stream.read(_COPY_BYTES):
            left -= len(block)
            if left < 0:
                message = f"the file is larger than {MAX_UPLOAD_BYTES} bytes"
                raise ApiError(413, "file_too_large", message, param="audio_sample")
            file.write(block)
