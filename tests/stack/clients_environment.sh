# Sourced by scripts/test. ensure_clients_environment makes .venv-clients, the voice-agent frameworks that speak to the
# server as its users would, and exports FOREIGN_CLIENTS_PYTHON. A value set beforehand is used as it is.

CLIENTS_REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Apart from the others, since they bring hundreds of megabytes and pin what we do not.
CLIENTS_PACKAGES=(livekit-plugins-openai==1.8.9 "pipecat-ai[openai]==1.14.0")

clients_install() {
    local environment=$1 interpreter
    if [ "$(type -t find_python)" != function ]; then
        source "$CLIENTS_REPOSITORY/scripts/environment.sh"
    fi
    interpreter=$(find_python)
    echo "${0##*/}: making $environment with $interpreter (LiveKit and Pipecat; takes a minute or two)" >&2
    rm -rf "$environment"
    "$interpreter" -m venv "$environment"
    if ! "$environment/bin/python" -m pip install --quiet "${CLIENTS_PACKAGES[@]}" >"$environment/install.log" 2>&1; then
        tail -n 20 "$environment/install.log" >&2
        echo "${0##*/}: the installation failed; all of its output: $environment/install.log" >&2
        return 1
    fi
}

ensure_clients_environment() {
    if [ -n "${FOREIGN_CLIENTS_PYTHON:-}" ]; then
        if [ ! -x "$FOREIGN_CLIENTS_PYTHON" ]; then
            echo "${0##*/}: FOREIGN_CLIENTS_PYTHON is $FOREIGN_CLIENTS_PYTHON, which cannot be run" >&2
            return 1
        fi
        export FOREIGN_CLIENTS_PYTHON
        return
    fi
    local environment="$CLIENTS_REPOSITORY/.venv-clients" pins stamp lock
    pins=$(echo "${CLIENTS_PACKAGES[@]}" | cksum | cut -d ' ' -f 1)
    stamp="$environment/installed-$pins"
    exec {lock}<"${BASH_SOURCE[0]}"
    flock "$lock"
    if [ ! -e "$stamp" ]; then
        clients_install "$environment" || return 1
        touch "$stamp"
    fi
    exec {lock}<&-
    export FOREIGN_CLIENTS_PYTHON="$environment/bin/python"
}
