# syntax=docker/dockerfile:1
# Three images: `triton` serves the model, `frontend` speaks to people, supervises and fetches, `bench` puts load on
# both. compose.yaml runs them together. Checkpoints are mounted; so are voices, over those that come with the project.
# In each image what changes most stands last, so that a changed line of Python builds in a second.

FROM nvcr.io/nvidia/tritonserver:26.03-py3 AS triton
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV MALLOC_ARENA_MAX=2 \
    PIP_BREAK_SYSTEM_PACKAGES=1 \
    PYTHONUNBUFFERED=1 \
    QWEN3_TTS_MODEL=/checkpoints/Qwen/Qwen3-TTS-12Hz-0.6B-Base \
    QWEN3_TTS_VOICES=/voices \
    TRITON_CACHE_DIR=/tmp/kernels
# The engine's kernels are compiled for the card at start-up, which takes a C compiler and Python's headers.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/*
# Only the packages: the engine itself lies in the model repository, and a second copy would be imported instead.
RUN --mount=type=bind,source=pyproject.toml,target=/tmp/pyproject.toml \
    --mount=type=cache,target=/root/.cache/pip \
    python3 -c "import tomllib; e = tomllib.load(open('/tmp/pyproject.toml', 'rb'))['project']['optional-dependencies']; print(*e['engine'], sep='\n')" > /tmp/packages.txt \
    && python3 -m pip install -r /tmp/packages.txt \
    && rm /tmp/packages.txt \
    # A volume that is mounted here for the first time takes the mode over, so that any user can fill it.
    && install --directory --mode=1777 /checkpoints
COPY voices /voices
COPY model_repository /model_repository
# triton-server in NVIDIA's image; a number, so that Kubernetes can tell that it is not root.
USER 1000
EXPOSE 8000 8001 8002
# A real request to the model: Triton calls a model ready whose process has died.
HEALTHCHECK --interval=5s --timeout=5s --start-period=15m --retries=3 \
    CMD ["curl", "--fail", "--silent", "--show-error", "--output", "/dev/null", "--data", "{\"describe\":true}", "http://localhost:8000/v2/models/qwen3_tts/generate"]
# Explicit control, so that the supervisor can bring back a model whose process has died. A model that cannot be
# loaded leaves the server running, and the frontend can tell why. The forwarded headers are for the engine's log.
CMD ["tritonserver", \
     "--model-repository=/model_repository", \
     "--model-control-mode=explicit", \
     "--load-model=qwen3_tts", \
     "--exit-on-error=false", \
     "--exit-timeout-secs=20", \
     "--disable-auto-complete-config", \
     "--grpc-header-forward-pattern=(?i)(traceparent|tracestate)", \
     "--http-port=8000", \
     "--grpc-port=8001", \
     "--metrics-port=8002"]

FROM python:3.12-slim AS frontend
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV MALLOC_ARENA_MAX=2 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app:/app/scripts \
    FRONTEND_HOST=0.0.0.0 \
    FRONTEND_PORT=8080 \
    FRONTEND_METRICS_PORT=9464
RUN --mount=type=bind,source=pyproject.toml,target=/tmp/pyproject.toml \
    --mount=type=cache,target=/root/.cache/pip \
    python3 -c "import tomllib; e = tomllib.load(open('/tmp/pyproject.toml', 'rb'))['project']['optional-dependencies']; print(*e['frontend'], *e['fetch'], sep='\n')" > /tmp/packages.txt \
    && python3 -m pip install -r /tmp/packages.txt \
    && rm /tmp/packages.txt \
    && useradd --system --uid 10001 frontend \
    && install --directory --mode=1777 /checkpoints
WORKDIR /app
COPY frontend frontend
COPY scripts/commands scripts/commands
USER 10001
EXPOSE 8080 9464
# 200 only when the model has answered a real request within two seconds.
HEALTHCHECK --interval=5s --timeout=5s --start-period=15m --retries=3 \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8080/readyz', timeout=4)"]
CMD ["python3", "-m", "frontend"]

FROM frontend AS bench
USER 0
RUN --mount=type=bind,source=pyproject.toml,target=/tmp/pyproject.toml \
    --mount=type=cache,target=/root/.cache/pip \
    python3 -c "import tomllib; e = tomllib.load(open('/tmp/pyproject.toml', 'rb'))['project']['optional-dependencies']; print(*e['client'], *e['bench'], sep='\n')" > /tmp/packages.txt \
    && python3 -m pip install -r /tmp/packages.txt \
    && rm /tmp/packages.txt \
    && install --directory --mode=1777 /results
COPY benchmarks benchmarks
USER 10001
HEALTHCHECK NONE
CMD ["python3", "-m", "benchmarks.serving", "--help"]
