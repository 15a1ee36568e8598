"""Which voice a request gets: a voice folder, a speaker of the checkpoint, or a recording the request brings.

One identity may hold several recipes (a recording, a speaker's name, a description); the loaded checkpoint decides
which is used. Nothing here encodes: a voice to be cloned carries its recording.
"""

from __future__ import annotations

from dataclasses import dataclass

from .audio import Samples
from .errors import InvalidRequest, UnknownVoice, Unsupported, VoiceError
from .manifests import Manifest, Reference
from .model_config import ModelConfig
from .voice_library import VoiceFolder, VoiceLibrary

REQUEST_VOICE = "(reference)"
"""The id under which a recording that came with a request is reported."""


@dataclass(frozen=True)
class Voice:
    """A voice as the loaded checkpoint makes it.

    speaker_id: its row of the codec vocabulary, or None where the checkpoint has no speakers.
    dialect: the language its speaker overrides Chinese with. instruct: used when a request brings none.
    reference: what to clone, for a Base checkpoint.
    """

    id: str
    language: str | None = None
    speaker_id: int | None = None
    dialect: str | None = None
    instruct: str | None = None
    reference: Reference | None = None


class VoiceBook:
    """Every voice a request may name, resolved for one checkpoint. May be used by any thread."""

    def __init__(self, config: ModelConfig, library: VoiceLibrary, default: str) -> None:
        self._config, self._library, self.default = config, library, default

    @property
    def ids(self) -> list[str]:
        """Ids of the voice folders this checkpoint can make."""
        return [manifest.id for manifest in self._library.manifests() if self._can_make(manifest)]

    def resolve(self, name: str | None) -> Voice:
        """The voice a request named, or the default one.

        Raises UnknownVoice, listing what there is, and InvalidRequest for a folder that cannot be used.
        """
        if name is None:
            return self._default_voice()
        try:
            folder = self._library.get(name)
        except VoiceError as error:
            raise InvalidRequest(f"voice {name[:80]!r} cannot be used: {error}") from error
        if folder is not None and self._can_make(folder.manifest):
            return self._make(folder)
        speaker = name.lower()
        if speaker in self._config.speakers:
            return self._speaker_voice(speaker, speaker, None)
        raise self._unknown(name)

    def cloned(self, samples: Samples, sample_rate: int, text: str | None) -> Voice:
        """The voice of a recording that came with a request. Raises InvalidRequest and Unsupported."""
        if self._config.type != "base":
            raise Unsupported(f"reference_audio needs a Base checkpoint; this one is {self._config.type}")
        return Voice(id=REQUEST_VOICE, reference=Reference.of(samples, sample_rate, text))

    def _can_make(self, manifest: Manifest) -> bool:
        if self._config.type == "base":
            return manifest.reference_audio is not None
        if self._config.type == "voice_design":
            return bool(manifest.instruct)
        return self._speaker_of(manifest) is not None

    def _make(self, folder: VoiceFolder) -> Voice:
        manifest = folder.manifest
        if self._config.type == "base":
            return Voice(id=manifest.id, language=manifest.language, reference=folder.reference)
        if self._config.type == "voice_design":
            return Voice(id=manifest.id, language=manifest.language, instruct=manifest.instruct)
        speaker = self._speaker_of(manifest)
        assert speaker is not None, "only voices that can be made are made"
        return self._speaker_voice(manifest.id, speaker, manifest)

    def _default_voice(self) -> Voice:
        """The configured default; where the checkpoint cannot make it, the first voice it can, or none at all."""
        names = [self.default, *(name for name in self._library.names() if name != self.default)]
        if self._config.type == "custom_voice":
            names = [self.default, *self._config.speakers]
        for name in names:
            try:
                return self.resolve(name)
            except UnknownVoice:
                continue
            except InvalidRequest:
                if name == self.default:
                    raise
        if self._config.type == "voice_design":
            return Voice(id="undescribed")
        raise UnknownVoice("no voice was named, and this server has none to speak in by default")

    def _speaker_of(self, manifest: Manifest) -> str | None:
        speaker = (manifest.speaker or "").lower()
        return speaker if speaker in self._config.speakers else None

    def _speaker_voice(self, name: str, speaker: str, manifest: Manifest | None) -> Voice:
        return Voice(
            id=name,
            language=manifest.language if manifest else None,
            speaker_id=self._config.speakers[speaker],
            dialect=self._config.dialects.get(speaker),
            instruct=manifest.instruct if manifest else None,
        )

    def _unknown(self, name: str) -> UnknownVoice:
        known = ", ".join(sorted({*self.ids, *self._config.speakers})) or "none"
        return UnknownVoice(f"voice {name[:80]!r} is not known; this server has: {known}")
