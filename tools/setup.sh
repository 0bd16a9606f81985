#!/usr/bin/env bash
# Creates the virtual environment if there is none, installs one lock into it, and crossprop itself.
#   tools/setup.sh LOCK          e.g. requirements.lock; called by `make setup`
# Environment: VENV (default .venv), PYTHON (default: the first suitable one on the PATH).
# Plain bash 3.2 and POSIX tools, so that it runs on Linux and macOS alike.
set -euo pipefail

lock=${1:?usage: tools/setup.sh LOCK}
venv=${VENV:-.venv}
supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'

fail() {
    printf 'crossprop set-up: %s\n' "$@" >&2
    exit 1
}

version_of() {
    "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null || echo "no working Python"
}

find_python() {
    local candidate seen=""
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if "$candidate" -c "$supported" >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
        if command -v "$candidate" >/dev/null 2>&1; then
            seen="$seen $candidate ($(version_of "$candidate"))"
        fi
    done
    fail "needs Python 3.11, 3.12 or 3.13 and found${seen:- none}." \
        "Install one and run make again, or name it: make setup PYTHON=/path/to/python3.12"
}

create_venv() {
    local python
    python=$(find_python) || exit 1
    echo "Creating $venv with $python ($(version_of "$python"))"
    if ! "$python" -m venv "$venv"; then
        rm -rf "$venv"
        fail "$python could not create a virtual environment." \
            "Its venv module is missing or incomplete; on Debian and Ubuntu: sudo apt install python3-venv"
    fi
}

# Scripts name the place where the environment was made; write this one instead.
repair_moved_venv() {
    "$venv/bin/python" - "$(cd "$venv" && pwd -P)" <<'EOF'
import re
import sys
from pathlib import Path

place = Path(sys.argv[1])
script = place / "bin" / "dvc"
named = re.search(r"(/[^\"\n]*)/bin/python", script.read_text()) if script.is_file() else None
if named and named[1] != str(place):
    print(f"Repairing {place}, which was made at {named[1]}")
    for path in (place / "bin").iterdir():
        content = b"" if path.is_symlink() or path.is_dir() else path.read_bytes()
        if named[1].encode() in content and b"\0" not in content:  # a script, no program
            path.write_bytes(content.replace(named[1].encode(), str(place).encode()))
EOF
}

if [ ! -f "$lock" ]; then
    fail "$lock does not exist. The locks here: $(echo requirements*.lock)"
fi
if [ ! -e "$venv" ]; then
    create_venv
elif ! "$venv/bin/python" -c "$supported" >/dev/null 2>&1; then
    fail "$venv holds $(version_of "$venv/bin/python"), not Python 3.11 to 3.13." \
        "Remove it (rm -rf $venv) and run make again."
fi
repair_moved_venv

# An environment made by uv has no pip; ensurepip brings it without the network.
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    "$venv/bin/python" -m ensurepip >/dev/null 2>&1 ||
        fail "$venv has no pip and cannot get one. Remove it (rm -rf $venv) and run make again."
fi

echo "Installing the $(grep -c '^[A-Za-z0-9]' "$lock") packages of $lock (about 2 GB; minutes on the first run)"
"$(dirname "$0")/install_lock.sh" "$venv/bin/python" "$lock"
"$venv/bin/python" -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
