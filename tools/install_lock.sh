#!/bin/sh
# Installs locks with every package, those that build source distributions included, checked by hash.
#   tools/install_lock.sh PYTHON LOCK...
# A few packages exist as source only. pip would fetch what builds them unchecked: so setuptools comes first, from the
# first lock, and nothing is built in isolation.
set -eu

python=$1
shift
build=$(mktemp)
trap 'rm -f "$build"' EXIT
sed -n '/^setuptools==/,/[^\\]$/p' "$1" > "$build"
"$python" -m pip install --disable-pip-version-check --quiet --require-hashes --only-binary :all: -r "$build"
# shellcheck disable=SC2046
"$python" -m pip install --disable-pip-version-check --require-hashes --no-build-isolation $(printf ' -r %s' "$@")
