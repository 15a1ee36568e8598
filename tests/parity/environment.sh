# Sourced by scripts/test, after scripts/environment.sh. ensure_parity_environment makes .venv-parity, the official qwen-tts
# package with the versions the comparison was made for, and exports QWEN_TTS_OFFICIAL_PYTHON, unless it is set already.

ensure_parity_environment() {
    # The package itself comes without its dependencies: it asks for a CUDA build of torchaudio, for sox, onnxruntime and
    # gradio, which only its 25 Hz models and its demo use; import_shims.py stands in for them.
    given_python QWEN_TTS_OFFICIAL_PYTHON || ensure_pinned_environment .venv-parity "the official package" \
        torch==2.13.0 transformers==4.57.3 tokenizers==0.22.2 accelerate==1.12.0 librosa==0.11.0 soundfile einops \
        -- qwen-tts==0.1.1
    export QWEN_TTS_OFFICIAL_PYTHON=${QWEN_TTS_OFFICIAL_PYTHON:-$REPOSITORY/.venv-parity/bin/python}
}
