# syntax=docker/dockerfile:1
# Two images: `triton` serves the model, `frontend` speaks WebSocket to people. compose.yaml runs them together.
# Checkpoints and voices are mounted, never built in.

FROM nvcr.io/nvidia/tritonserver:26.03-py3 AS triton
ENV PIP_BREAK_SYSTEM_PACKAGES=1 \
    PYTHONUNBUFFERED=1 \
    QWEN3_TTS_MODEL=/checkpoint \
    QWEN3_TTS_VOICES=/voices
# Only the packages: the engine itself lies in the model repository, and a second copy would be imported instead.
RUN --mount=type=bind,source=pyproject.toml,target=/tmp/pyproject.toml \
    python3 -c "import tomllib; print(*tomllib.load(open('/tmp/pyproject.toml', 'rb'))['project']['optional-dependencies']['engine'], sep='\n')" > /tmp/packages.txt \
    && python3 -m pip install --no-cache-dir -r /tmp/packages.txt \
    && rm /tmp/packages.txt
COPY model_repository /model_repository
USER triton-server
EXPOSE 8000 8001 8002
# Explicit control, so that the supervisor can bring back a model whose process has died. A model that cannot be
# loaded leaves the server running, and the frontend can tell why.
CMD ["tritonserver", \
     "--model-repository=/model_repository", \
     "--model-control-mode=explicit", \
     "--load-model=qwen3_tts", \
     "--exit-on-error=false", \
     "--exit-timeout-secs=20", \
     "--disable-auto-complete-config", \
     "--http-port=8000", \
     "--grpc-port=8001", \
     "--metrics-port=8002"]

FROM python:3.12-slim AS frontend
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app:/app/scripts \
    FRONTEND_HOST=0.0.0.0 \
    FRONTEND_PORT=8080
RUN --mount=type=bind,source=pyproject.toml,target=/tmp/pyproject.toml \
    python3 -c "import tomllib; print(*tomllib.load(open('/tmp/pyproject.toml', 'rb'))['project']['optional-dependencies']['frontend'], sep='\n')" > /tmp/packages.txt \
    && python3 -m pip install --no-cache-dir -r /tmp/packages.txt \
    && rm /tmp/packages.txt
WORKDIR /app
COPY frontend frontend
COPY scripts/commands scripts/commands
RUN useradd --system --uid 10001 frontend
USER frontend
EXPOSE 8080
CMD ["python3", "-m", "frontend"]
