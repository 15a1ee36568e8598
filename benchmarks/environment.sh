# Sourced by scripts/benchmark, after scripts/environment.sh. ensure_faster_environment makes .venv-faster, which holds
# faster-qwen3-tts, where there is a GPU, without which that package does nothing.

ensure_faster_environment() {
    command -v nvidia-smi >/dev/null || return 0
    # Like the official package, whose networks it brings along, it comes without what only the 25 Hz models use.
    given_python FASTER_QWEN3_TTS_PYTHON || ensure_pinned_environment .venv-faster "faster-qwen3-tts" \
        torch==2.13.0 transformers==5.23.0 accelerate==1.12.0 librosa==0.11.0 soundfile einops \
        -- faster-qwen3-tts==0.5.4 qwen-tts-hf==0.1.1.post1
    export FASTER_QWEN3_TTS_PYTHON=${FASTER_QWEN3_TTS_PYTHON:-$REPOSITORY/.venv-faster/bin/python}
}
