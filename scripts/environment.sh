# Sourced by the commands of this folder. ensure_environment EXTRA... makes the virtual environment of this
# repository hold those extras of pyproject.toml and sets PYTHON to its interpreter. A folder of stamps, one per
# extra and state of pyproject.toml, tells what is there already; a lock lets several commands start at once.
set -euo pipefail

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VIRTUAL_ENVIRONMENT="$REPOSITORY/.venv"
PYTHON="$VIRTUAL_ENVIRONMENT/bin/python"

# The versions for which every pinned dependency has a wheel: numpy 1.26, which the packaged Triton needs, ends at 3.12.
python_fits() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

find_python() {
    local candidates=(python3.11 python3.12 python3 python) candidate
    if command -v pyenv >/dev/null; then
        candidates+=("$(pyenv root)"/versions/3.1[12].*/bin/python)
    fi
    for candidate in "${candidates[@]}"; do
        if command -v "$candidate" >/dev/null && python_fits "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    echo "${0##*/}: no Python 3.11 or 3.12 with the venv module was found (on Debian: apt install python3 python3-venv)" >&2
    return 1
}

missing_extras() {
    local state extra
    state=$(cksum <"$REPOSITORY/pyproject.toml" | cut -d ' ' -f 1)
    for extra in "$@"; do
        local stamp="$VIRTUAL_ENVIRONMENT/installed/$extra-$state"
        [ -x "$PYTHON" ] && [ -e "$stamp" ] || echo "$stamp"
    done
}

install_extras() {
    local stamps=("$@") names
    names=$(basename -a "${stamps[@]}" | sed 's/-[0-9]*$//' | paste -sd ,)
    if ! python_fits "$PYTHON"; then
        local interpreter
        interpreter=$(find_python)
        echo "${0##*/}: making $VIRTUAL_ENVIRONMENT with $interpreter" >&2
        rm -rf "$VIRTUAL_ENVIRONMENT"
        "$interpreter" -m venv "$VIRTUAL_ENVIRONMENT"
    fi
    echo "${0##*/}: installing $names (the first time takes minutes)" >&2
    if ! "$PYTHON" -m pip install --quiet --editable "$REPOSITORY[$names]" \
        >"$VIRTUAL_ENVIRONMENT/install.log" 2>&1; then
        tail -n 20 "$VIRTUAL_ENVIRONMENT/install.log" >&2
        echo "${0##*/}: the installation failed; all of its output: $VIRTUAL_ENVIRONMENT/install.log" >&2
        return 1
    fi
    mkdir -p "$VIRTUAL_ENVIRONMENT/installed"
    touch "${stamps[@]}"
}

ensure_environment() {
    local missing lock
    mapfile -t missing < <(missing_extras "$@")
    if [ "${#missing[@]}" -gt 0 ]; then
        exec {lock}<"$REPOSITORY/pyproject.toml"
        flock "$lock"
        mapfile -t missing < <(missing_extras "$@")
        if [ "${#missing[@]}" -gt 0 ]; then
            install_extras "${missing[@]}"
        fi
        exec {lock}<&-
    fi
}

# given_python VARIABLE: whether the user has named an interpreter of their own in it; one that cannot be run is an error.
given_python() {
    local value=${!1:-}
    [ -n "$value" ] || return 1
    if [ ! -x "$value" ]; then
        echo "${0##*/}: $1 is $value, which cannot be run" >&2
        exit 1
    fi
}

# ensure_pinned_environment FOLDER WHAT PACKAGE...: makes FOLDER, in the repository, a virtual environment that holds just
# these packages, those behind a -- without what they depend on. It is made anew when they change.
ensure_pinned_environment() {
    local environment="$REPOSITORY/$1" what=$2 stamp lock
    shift 2
    stamp="$environment/installed-$(echo "$@" | cksum | cut -d ' ' -f 1)"
    exec {lock}<"$REPOSITORY/pyproject.toml"
    flock "$lock"
    if [ ! -e "$stamp" ]; then
        make_pinned_environment "$environment" "$what" "$@"
        touch "$stamp"
    fi
    exec {lock}<&-
}

make_pinned_environment() {
    local environment=$1 what=$2 whole=() interpreter
    shift 2
    while [ "$#" -gt 0 ] && [ "$1" != -- ]; do
        whole+=("$1")
        shift
    done
    interpreter=$(find_python)
    echo "${0##*/}: making $environment with $interpreter ($what; takes minutes)" >&2
    rm -rf "$environment"
    "$interpreter" -m venv "$environment"
    if ! {
        "$environment/bin/python" -m pip install --quiet "${whole[@]}" &&
            { [ "$#" -lt 2 ] || "$environment/bin/python" -m pip install --quiet --no-deps "${@:2}"; }
    } >"$environment/install.log" 2>&1; then
        tail -n 20 "$environment/install.log" >&2
        echo "${0##*/}: the installation failed; all of its output: $environment/install.log" >&2
        exit 1
    fi
}
