"""Prompts of utterances, read before they are needed or when they are.

Knows which text of an utterance comes next, and no slots.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .prompt import Prompt, PromptBuilder
from .request import Utterance
from .runner import Prefilled, Runner


@dataclass(frozen=True)
class Reading:
    """A generation that can start. tokens: of its text; span: where that stands in the whole, in characters."""

    prefilled: Prefilled
    tokens: int
    span: tuple[int, int]


class Reader:
    """Reads the next segments of utterances. Used by the engine thread alone."""

    def __init__(self, prompts: PromptBuilder, runner: Runner) -> None:
        self._prompts, self._runner = prompts, runner
        self._ahead: dict[int, Reading] = {}

    def read(self, utterances: Sequence[Utterance]) -> list[Reading]:
        """The next segment of each."""
        texts = [self._next_text(utterance) for utterance in utterances]
        wanted = [(prompt, utterance.voice) for (prompt, _, _), utterance in zip(texts, utterances, strict=True)]
        read = self._runner.prepare_many(wanted)
        return [Reading(prefilled, tokens, span) for prefilled, (_, tokens, span) in zip(read, texts, strict=True)]

    def later(self, running: Iterable[Utterance]) -> Utterance | None:
        """Somebody whose next segment has not been read yet; None when there is nobody."""
        return next((u for u in running if u.script.segments and u.id not in self._ahead), None)

    def read_ahead(self, utterance: Utterance) -> None:
        """Read the segment that its speaker will want, so that he needs no pause."""
        (self._ahead[utterance.id],) = self.read([utterance])

    def following(self, utterance: Utterance) -> Reading | None:
        """The segment after the one that ends now; None after the last."""
        known = self._ahead.pop(utterance.id, None)
        if known is None and utterance.script.segments:
            return self.read([utterance])[0]
        return known

    def forget(self, utterance: Utterance) -> None:
        """An utterance has ended: drop what was read for it."""
        self._ahead.pop(utterance.id, None)

    def _next_text(self, utterance: Utterance) -> tuple[Prompt, int, tuple[int, int]]:
        script, span = utterance.script, (0, 0)
        if script.live is not None:
            tokens: Sequence[int] = script.live
        else:
            segment = script.segments.popleft()
            tokens, span = segment.ids, (segment.start, segment.end)
        return self._prompts.fill(utterance.template, tokens, complete=script.complete), len(tokens), span
