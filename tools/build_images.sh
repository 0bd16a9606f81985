#!/usr/bin/env bash
# Builds the three images, then starts the service's as compose.yaml does and asks it for a prediction.
#   tools/build_images.sh MODEL      a saved model's folder, as `crossprop fit` writes it
# Needs docker, or podman with buildah. Where no registry answers, debootstrap makes a base image under the name in FROM.
# Environment: BUILD_OPTIONS and RUN_OPTIONS of the engine, e.g. "--volume /etc/ssl/certs:/etc/ssl/certs:ro" and
# "--ulimit host"; PORT (default 8010).
set -euo pipefail
model=$(realpath "${1:?usage: tools/build_images.sh MODEL}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
port=${PORT:-8010}

fail() {
    printf 'build_images.sh: %s\n' "$@" >&2
    exit 1
}

engine=""
for candidate in docker podman; do
    if [ -z "$engine" ] && "$candidate" info >/dev/null 2>&1; then engine=$candidate; fi
done
[ -n "$engine" ] || fail "neither docker nor podman answers. Start docker, or install podman and buildah."
format=""
if [ "$engine" = podman ]; then format="--format docker"; fi # that of OCI drops the health check

# Debian's Python stands in for the official image; the locks hold for all of 3.11 to 3.13.
make_base() {
    local root
    command -v debootstrap >/dev/null || fail "no registry has $1, and debootstrap is not installed."
    root=$(mktemp -d)
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip "${1##*-}" "$root" >/dev/null
    ln -s python3 "$root/usr/bin/python"
    rm -rf "$root"/usr/lib/python3*/EXTERNALLY-MANAGED "$root"/var/{cache/apt,lib/apt/lists}/*
    echo 'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";' >"$root/etc/apt/apt.conf.d/docker-clean"
    tar -C "$root" -c . | "$engine" import - "docker.io/library/$1" >/dev/null
    rm -rf "$root"
}

base=$(sed -n 's/^FROM //p' docker/Dockerfile.service)
if ! "$engine" image inspect "docker.io/library/$base" >/dev/null 2>&1 &&
    ! "$engine" pull --quiet "docker.io/library/$base" 2>/dev/null; then
    echo "no registry answers: making $base with debootstrap"
    make_base "$base"
fi

log=$(mktemp)
for name in server service train; do
    began=$SECONDS
    # shellcheck disable=SC2086
    "$engine" build $format --network host ${BUILD_OPTIONS:-} -f "docker/Dockerfile.$name" -t "crossprop-$name" . >"$log" 2>&1 ||
        fail "docker/Dockerfile.$name was not built:" "$(tail -n 20 "$log")"
    size=$("$engine" image inspect --format '{{.Size}}' "crossprop-$name")
    echo "crossprop-$name: $((size / 1000000)) MB, built in $((SECONDS - began)) s"
done

# shellcheck disable=SC2086
"$engine" run --rm --network host ${RUN_OPTIONS:-} --volume "$PWD":"$PWD":ro --workdir "$PWD" crossprop-train crossprop --help >"$log"

serve=(python -m crossprop.cli serve --host 127.0.0.1 --port "$port" --model /model)
locked=(--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --volume /var/cache/crossprop)
began=${EPOCHREALTIME/[.,]/}
# shellcheck disable=SC2086
service=$("$engine" run --detach --network host ${RUN_OPTIONS:-} "${locked[@]}" --volume "$model":/model:ro crossprop-service "${serve[@]}")
trap 'rm -f "$log"; "$engine" rm --force "$service" >/dev/null' EXIT
until curl --fail --silent --output /dev/null "http://127.0.0.1:$port/readyz"; do
    [ $((${EPOCHREALTIME/[.,]/} - began)) -lt 120000000 ] || fail "the service is not ready:" "$("$engine" logs "$service" 2>&1)"
    sleep 0.1
done
echo "the service is ready after $(((${EPOCHREALTIME/[.,]/} - began) / 1000)) ms"
name=$(curl --fail --silent "http://127.0.0.1:$port/v1/properties" | grep --only-matching --max-count 1 '"name":"[^"]*"')
body="{\"formulas\": [\"Al2O3\"], \"properties\": [${name#*:}]}"
curl --fail --silent --json "$body" "http://127.0.0.1:$port/v1/predict"
