#!/bin/bash
# Builds the images, and breaks containers of them under Compose (test/compose) and by testcontainers-go
# (test/containers). It removes what it made, but for base images. Where there is no engine it is skipped and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "check-containers: $*"; }

if ! docker version >/dev/null 2>&1; then
    say "skipped: no container engine answers (docker version); nothing was built or broken"
    exit 0
fi

export HOLDFAST_TEST_VERSION=check
targets=(api worker ctl simdep load)
log=$(mktemp)

finish() {
    for target in "${targets[@]}"; do
        docker rmi "holdfast/$target:$HOLDFAST_TEST_VERSION" >/dev/null 2>&1 || true
    done
    # Without BuildKit the stage that compiles stays behind as an image without a name.
    docker image prune -f --filter label=com.example.holdfast.stage=build >/dev/null || true
    rm -f "$log"
}
trap finish EXIT

deploy/airgap/stand-ins.sh
for target in "${targets[@]}"; do
    from=$SECONDS
    if ! docker build --target "$target" -t "holdfast/$target:$HOLDFAST_TEST_VERSION" \
        --build-arg "VERSION=$HOLDFAST_TEST_VERSION" . >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        say "FAILED: docker build --target $target" >&2
        exit 1
    fi
    size=$(docker image inspect -f '{{.Size}}' "holdfast/$target:$HOLDFAST_TEST_VERSION")
    say "holdfast/$target: $((size / 1000000)) MB, built in $((SECONDS - from)) s"
done

if docker compose version >/dev/null 2>&1 || docker-compose version >/dev/null 2>&1; then
    test/compose/check.sh "$HOLDFAST_TEST_VERSION"
else
    say "skipped test/compose: neither docker compose nor docker-compose is here"
fi
(cd test/containers && go vet ./... && go test -count=1 -parallel 2 ./...)
