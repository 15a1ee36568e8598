# Sourced by scripts/test. ensure_parity_environment makes .venv-parity, the official qwen-tts package with the versions
# the comparison was made for, and exports QWEN_TTS_OFFICIAL_PYTHON. A value set beforehand is used as it is.

PARITY_REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PARITY_PACKAGES=(
    torch==2.13.0 transformers==4.57.3 tokenizers==0.22.2 accelerate==1.12.0
    librosa==0.11.0 soundfile einops
)
# Without its dependencies: it asks for a CUDA build of torchaudio, for sox, onnxruntime and gradio, which only its
# 25 Hz models and its demo use; import_shims.py stands in for them.
PARITY_OFFICIAL=qwen-tts==0.1.1

parity_install() {
    local environment=$1 interpreter
    if [ "$(type -t find_python)" != function ]; then
        source "$PARITY_REPOSITORY/scripts/environment.sh"
    fi
    interpreter=$(find_python)
    echo "${0##*/}: making $environment with $interpreter (the official package; takes minutes)" >&2
    rm -rf "$environment"
    "$interpreter" -m venv "$environment"
    if ! {
        "$environment/bin/python" -m pip install --quiet "${PARITY_PACKAGES[@]}" &&
            "$environment/bin/python" -m pip install --quiet --no-deps "$PARITY_OFFICIAL"
    } >"$environment/install.log" 2>&1; then
        tail -n 20 "$environment/install.log" >&2
        echo "${0##*/}: the installation failed; all of its output: $environment/install.log" >&2
        return 1
    fi
}

ensure_parity_environment() {
    if [ -n "${QWEN_TTS_OFFICIAL_PYTHON:-}" ]; then
        if [ ! -x "$QWEN_TTS_OFFICIAL_PYTHON" ]; then
            echo "${0##*/}: QWEN_TTS_OFFICIAL_PYTHON is $QWEN_TTS_OFFICIAL_PYTHON, which cannot be run" >&2
            return 1
        fi
        export QWEN_TTS_OFFICIAL_PYTHON
        return
    fi
    local environment="$PARITY_REPOSITORY/.venv-parity" pins stamp lock
    pins=$(echo "${PARITY_PACKAGES[@]}" "$PARITY_OFFICIAL" | cksum | cut -d ' ' -f 1)
    stamp="$environment/installed-$pins"
    exec {lock}<"${BASH_SOURCE[0]}"
    flock "$lock"
    if [ ! -e "$stamp" ]; then
        parity_install "$environment" || return 1
        touch "$stamp"
    fi
    exec {lock}<&-
    export QWEN_TTS_OFFICIAL_PYTHON="$environment/bin/python"
}
