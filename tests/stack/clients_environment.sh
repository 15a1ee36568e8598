# Sourced by scripts/test, after scripts/environment.sh. ensure_clients_environment makes .venv-clients, the voice-agent
# frameworks that speak to the server as its users would, and exports FOREIGN_CLIENTS_PYTHON, unless it is set already.

ensure_clients_environment() {
    # Apart from the others, since they bring hundreds of megabytes and pin what we do not.
    given_python FOREIGN_CLIENTS_PYTHON || ensure_pinned_environment .venv-clients "LiveKit and Pipecat" \
        livekit-plugins-openai==1.8.9 "pipecat-ai[openai]==1.14.0"
    export FOREIGN_CLIENTS_PYTHON=${FOREIGN_CLIENTS_PYTHON:-$REPOSITORY/.venv-clients/bin/python}
}
