"""How the HTTP API says that something went wrong: OpenAI's JSON shape, and a status for every error of the tree.

Pure values; it knows neither routes nor the web framework.
"""

import math
from dataclasses import dataclass
from typing import Any

from frontend import errors
from frontend.encodings import UnsupportedFormat


@dataclass(frozen=True)
class _Row:
    status: int
    code: str
    param: str | None = None
    retry_after_s: float | None = None


# One row per class of the error tree; a class without a row has its parent's.
_ROWS: dict[type[errors.SpeechError], _Row] = {
    errors.InvalidRequest: _Row(400, "invalid_value"),
    UnsupportedFormat: _Row(400, "unsupported_format", "response_format"),
    errors.Unsupported: _Row(400, "unsupported"),
    errors.UnknownVoice: _Row(404, "voice_not_found", "voice"),
    errors.TooManyRequests: _Row(429, "too_many_requests", retry_after_s=1),
    errors.Overloaded: _Row(503, "overloaded", retry_after_s=1),
    errors.NotReady: _Row(503, "tts_not_ready", retry_after_s=5),
    errors.LoadFailed: _Row(503, "tts_load_failed"),
    errors.Stalled: _Row(504, "tts_timeout"),
    errors.SpeechError: _Row(500, "tts_inference_failed"),
}


class ApiError(Exception):
    """An answer other than success. str() is the message for the caller."""

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    @classmethod
    def of(cls, failure: errors.SpeechError) -> "ApiError":
        """The answer to a request that failed with an error of the tree."""
        row = next(_ROWS[kind] for kind in type(failure).__mro__ if kind in _ROWS)
        known_ms = getattr(failure, "retry_after_ms", None)
        retry_after_s = row.retry_after_s if known_ms is None else known_ms / 1000
        return cls(row.status, row.code, str(failure), param=row.param, retry_after_s=retry_after_s)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body."""
        kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to it: when to try again, in whole seconds."""
        return {} if self.retry_after_s is None else {"Retry-After": str(max(1, math.ceil(self.retry_after_s)))}
