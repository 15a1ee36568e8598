"""GET /v1/models and /v1/models/{id}: what is loaded, and the names of OpenAI it answers to."""

from typing import Any

from quart import Blueprint

from frontend.http_speech import model_ids
from frontend.openai_errors import ApiError
from frontend.readiness import Readiness


def add_models(api: Blueprint, readiness: Readiness) -> None:
    """Adds the routes."""

    @api.get("/v1/models")
    async def models() -> dict[str, Any]:
        ids = model_ids(await readiness.require())
        return {"object": "list", "data": [_model(name) for name in ids]}

    @api.get("/v1/models/<name>")
    async def model(name: str) -> dict[str, Any]:
        ids = model_ids(await readiness.require())
        if name not in ids:
            message = f"there is no model {name[:80]!r}; there are {', '.join(ids)}"
            raise ApiError(404, "model_not_found", message, param="model")
        return _model(name)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "qwen"}
