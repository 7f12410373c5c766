#!/bin/bash
# Makes sure that the base images which Dockerfile and compose.yaml name are on this machine, also where no
# registry can be reached: an image that is neither here nor can be pulled is put together from Debian's
# packages, the Go toolchain of this machine and the modules of go.mod, and gets the name that is missing.
#
#   deploy/airgap/stand-ins.sh [name...]     # without names: what `docker compose up` needs, no profiles
#   PULL=never deploy/airgap/stand-ins.sh    # does not try to pull
#
# A stand-in is not the image that it is called after: it holds Debian's version of the program. Its label
# com.example.holdfast.stand-in says so; `docker rmi` the name before you pull the real one. There is none for
# Grafana, which Debian does not have. Needed: root, Debian or Ubuntu, mmdebstrap (it is installed if missing).
set -euo pipefail
cd "$(dirname "$0")/../.."

PULL_MAX=120 # seconds that one pull may take
STAND_IN=com.example.holdfast.stand-in
SUM=com.example.holdfast.go-sum # which modules are in a stand-in
sum=$(cat go.mod go.sum | sha256sum | cut -c 1-16)

say() { printf '%s\n' "stand-ins: $*" >&2; }
die() {
    say "$*"
    exit 1
}
. deploy/airgap/debian.sh

# names prints the base images that the files name; what they build themselves has a name below holdfast/.
names() {
    sed -n 's/^ARG GO_IMAGE=//p' Dockerfile
    sed -n 's/^ *image: *\([^ $]*\)$/\1/p' compose.yaml | grep -v '^holdfast/' | sort -u
}

# wanted are those that come up without a profile.
wanted() { names | grep -E '^(golang|postgres):'; }

label() { docker image inspect -f "{{index .Config.Labels \"$2\"}}" "$1" 2>/dev/null; }

# have says whether an image is here. A stand-in that lacks modules which go.mod names by now does not count.
have() {
    docker image inspect "$1" >/dev/null 2>&1 || return 1
    [ "$(label "$1" "$SUM")" = "$sum" ] || [ "$(label "$1" "$SUM")" = "" ]
}

pulled() {
    [ "${PULL:-}" != never ] && timeout "$PULL_MAX" docker pull -q "$1" >/dev/null 2>"$work/pull.err"
}

# import makes a folder an image; further arguments are instructions of a Dockerfile.
import() {
    local name=$1 root=$2 changes=()
    shift 2
    for c in "$@" "LABEL $STAND_IN=true"; do changes+=(--change "$c"); done
    docker rmi "$name" >/dev/null 2>&1 || true # the one before
    tar -C "$root" -c . | docker import "${changes[@]}" - "$name" >/dev/null
}

# The postgres image: its user has the number that the real one's has, and its entrypoint is ours.
postgres() {
    local root=$work/postgres
    debian "$root" postgresql,postgresql-contrib
    local home
    home=$(cd "$root" && echo usr/lib/postgresql/*)
    local has=${home##*/} asked=${1#postgres:}
    [ "$has" = "${asked%%[.-]*}" ] || die "$1 is PostgreSQL ${asked%%[.-]*}, and this Debian has $has"
    sed -i '/^postgres:/d' "$root/etc/passwd" "$root/etc/group"
    echo 'postgres:x:999:999::/var/lib/postgresql:/bin/sh' >>"$root/etc/passwd"
    echo 'postgres:x:999:' >>"$root/etc/group"
    rm -rf "$root/var/lib/postgresql" "$root/var/run/postgresql"
    install -d -o 999 -g 999 -m 1777 "$root/var/lib/postgresql/data" "$root/run/postgresql"
    chown 999:999 "$root/var/lib/postgresql"
    install -m 755 deploy/airgap/postgres-entrypoint.sh "$root/usr/local/bin/docker-entrypoint.sh"
    import "$1" "$root" "ENV PATH=/$home/bin:/usr/local/bin:/usr/bin:/bin" \
        'ENV PGDATA=/var/lib/postgresql/data' 'VOLUME /var/lib/postgresql/data' \
        'ENTRYPOINT ["docker-entrypoint.sh"]' 'CMD ["postgres"]' 'EXPOSE 5432'
}

# The golang image: this machine's toolchain, and the modules of go.mod, so that `go mod download` has
# everything and a build needs no network. What they compile to is cached, as a cache mount does it elsewhere.
golang() {
    local root=$work/golang
    debian "$root" ca-certificates
    say "copying $(go version) and the modules of go.mod"
    mkdir -p "$root/usr/local/go" "$root/go" "$work/modules"
    tar -C "$(go env GOROOT)" --exclude=./test --exclude=./api --exclude=./doc -c . | tar -C "$root/usr/local/go" -x
    local proxy
    proxy="file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)"
    GOPROXY=$proxy GOMODCACHE=$work/modules GOFLAGS=-modcacherw go mod download
    mkdir -p "$root/go/pkg"
    mv "$work/modules" "$root/go/pkg/mod"
    GOMODCACHE=$root/go/pkg/mod GOCACHE=$root/root/.cache/go-build CGO_ENABLED=0 \
        go build -trimpath -buildvcs=false -o "$work/discarded/" ./cmd/... ./loadtest/simdep/cmd/simdep ./loadtest/cmd/load
    import "$1" "$root" 'ENV PATH=/go/bin:/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin' 'ENV GOPATH=/go' \
        'ENV GOTOOLCHAIN=local' 'WORKDIR /go' "LABEL $SUM=$sum" 'CMD ["bash"]'
}

# Prometheus and its Alertmanager, from one Debian.
monitoring() {
    local root=$work/monitoring
    if [ ! -d "$root" ]; then
        debian "$root" prometheus,prometheus-alertmanager
        install -d -o 65534 -g 65534 "$root/prometheus" "$root/alertmanager"
        ln -s /usr/bin/prometheus-alertmanager "$root/usr/bin/alertmanager"
    fi
    import "$1" "$root" 'USER 65534:65534' "WORKDIR /$2" "VOLUME /$2" "ENTRYPOINT [\"/bin/$2\"]"
}

# The server of the module that go.mod names, which tests embed.
nats() {
    local root=$work/nats
    mkdir -p "$root"
    CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$root/nats-server" github.com/nats-io/nats-server/v2
    import "$1" "$root" 'ENTRYPOINT ["/nats-server"]' 'EXPOSE 4222 8222'
}

build() {
    case $1 in
    postgres:*) postgres "$1" ;;
    golang:*) golang "$1" ;;
    prom/prometheus:*) monitoring "$1" prometheus ;;
    prom/alertmanager:*) monitoring "$1" alertmanager ;;
    nats:*) nats "$1" ;;
    *) die "no stand-in for $1: Debian has no package of it" ;;
    esac
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ $# = 0 ]; then mapfile -t images < <(wanted); else images=("$@"); fi
for image in "${images[@]}"; do
    if have "$image"; then continue; fi
    say "$image is not here, or is a stand-in without a module"
    if pulled "$image"; then continue; fi
    say "it cannot be pulled; building a stand-in"
    [ "$(id -u)" = 0 ] || die "a stand-in is built as root"
    build "$image"
    say "$image: stand-in of $(docker image inspect -f '{{.Size}}' "$image" | awk '{ printf "%d MB", $1 / 1e6 }')"
done
