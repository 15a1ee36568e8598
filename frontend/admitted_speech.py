"""Speech as one caller may have it: every utterance takes its place and its characters from the admission.

It implements frontend.synthesis.Speech over another, so whoever speaks needs to know nothing of limits.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from frontend.admission import Admission
from frontend.synthesis import Chunk, Description, ModelStatus, Speech, SpeechRequest


class AdmittedSpeech:
    """Implements frontend.synthesis.Speech for one account."""

    def __init__(self, speech: Speech, admission: Admission, account: str) -> None:
        self._speech = speech
        self._admission = admission
        self._account = account

    async def speak(
        self, request: SpeechRequest, more: AsyncIterator[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """As Speech.speak. Raises also TooManyRequests and Overloaded, before anything is asked of the model.

        Text that comes live is slowed down to the caller's rate instead of being refused.
        """
        with self._admission.utterance(self._account):
            self._admission.spend(self._account, len(request.text))
            slowed = None if more is None else self._slowed(more)
            async with aclosing(self._speech.speak(request, slowed)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def describe(self) -> Description:
        """As Speech.describe."""
        return await self._speech.describe()

    async def model_status(self) -> ModelStatus:
        """As Speech.model_status."""
        return await self._speech.model_status()

    async def _slowed(self, more: AsyncIterator[str]) -> AsyncIterator[str]:
        async for text in more:
            await self._admission.spend_slowly(self._account, len(text))
            yield text
