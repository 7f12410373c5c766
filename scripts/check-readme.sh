#!/bin/bash
# Copies the commands of README.md out of it and runs them one by one (scripts/follow-readme.sh), in a Debian that has
# nothing but what README says that one needs: Go, make, git and curl. It holds a clone of HEAD, so what is not
# committed is not tried. Three readers come in turn:
#
#   a user without rights, before there is PostgreSQL: `make up` fails and says what to install
#   root: all commands; `make up` installs PostgreSQL
#   a user without rights, now that PostgreSQL is there: all commands
#
#   scripts/check-readme.sh                  # with `make test`, twice
#   scripts/check-readme.sh --quick          # without; what was compiled stays in ~/.cache/holdfast-readme
#   scripts/check-readme.sh --containers     # also the commands that need a container engine, on this machine
#
# Needed: root, Debian or Ubuntu, mmdebstrap (it is installed if missing), and that the ports which README names are
# free. Elsewhere it is skipped and says so. The toolchain and the modules of this machine are used and not changed.
# It removes what it made, but for base images.
set -euo pipefail
cd "$(dirname "$0")/.."

DEBIAN_MAX=600  # seconds until the small Debian is there
READER=reader   # the user without rights
READER_ID=12345 # that nobody has here, so that no process of this machine counts as the reader's
# What the environment of this machine says of how things are fetched; nothing else of it is passed on.
PASSED='GOPROXY|GOSUMDB|GONOSUMDB|GONOPROXY|GOPRIVATE|GOTOOLCHAIN'
PASSED+='|HTTP_PROXY|HTTPS_PROXY|NO_PROXY|http_proxy|https_proxy|no_proxy'

say() { printf '%s\n' "check-readme: $*"; }
die() {
    say "$*" >&2
    exit 1
}
skip() {
    say "skipped: $*; no command of README was run"
    exit 0
}

flags=() containers=0 quick=0
for arg in "$@"; do
    case $arg in
    --quick) quick=1 flags=(--quick) ;;
    --containers) containers=1 ;;
    *)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
        [ "$arg" = --help ] && exit 0
        exit 2
        ;;
    esac
done

work='' composed='' bad=0
finish() {
    if [ -n "${reader_pid:-}" ]; then kill -KILL "$reader_pid" 2>/dev/null || true; fi # and, by it, all that it started
    if [ -n "$composed" ]; then # README's last command did the most of it, if it was reached
        (cd "$composed" && docker compose down -v --rmi local --remove-orphans) >/dev/null 2>&1 || true
        for target in api worker ctl simdep; do
            docker rmi "holdfast/$target:$HOLDFAST_VERSION" >/dev/null 2>&1 || true
        done
        # Without BuildKit the stage that compiles stays behind as an image without a name.
        docker image prune -f --filter label=com.example.holdfast.stage=build >/dev/null 2>&1 || true
    fi
    if [ -n "$work" ]; then rm -rf "$work"; fi
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

[ "$(id -u)" = 0 ] || skip 'a clean environment (chroot) is made by root'
command -v go >/dev/null 2>&1 || skip 'there is no Go to give to it'
command -v unshare >/dev/null 2>&1 || skip 'there is no unshare (util-linux)'
unshare --mount --pid --fork true 2>/dev/null || skip 'no namespaces of mounts and processes can be made here'
# shellcheck disable=SC2013 # numbers
for port in $(grep -oE '127\.0\.0\.1:[0-9]+' README.md | cut -d : -f 2 | sort -u); do
    if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        die "port $port, which README uses, is taken: stop what listens there"
    fi
done
work=$(mktemp -d)
. deploy/airgap/debian.sh
need_mmdebstrap >"$work/log" 2>&1 || skip 'mmdebstrap is not here and could not be installed'

root=$work/root
from=$SECONDS
work=$work timeout --kill-after=10 "$DEBIAN_MAX" bash -c \
    "$(declare -f say need_mmdebstrap debian); debian '$root' apt,ca-certificates,make,git,curl" >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    die 'FAILED: the small Debian could not be made'
}
mkdir -p "$root/usr/local/go" "$root/mnt/modules"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
cp -L "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$root/etc/ssl/certs/ca-certificates.crt"
# A package that is installed in a chroot must not start its daemon: Debian's packages ask this.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
echo "$READER:x:$READER_ID:$READER_ID::/home/$READER:/bin/bash" >>"$root/etc/passwd"
echo "$READER:x:$READER_ID:" >>"$root/etc/group"
install -d -m 755 -o "$READER_ID" -g "$READER_ID" "$root/home/$READER"

head=$(git -c safe.directory='*' rev-parse HEAD)
for home in root "home/$READER"; do
    git -c safe.directory='*' clone -q --no-hardlinks . "$root/$home/holdfast"
    git -C "$root/$home/holdfast" -c advice.detachedHead=false checkout -q --detach "$head"
done
mkdir -p "$root/root/.cache/go-build" "$root/home/$READER/.cache/go-build"
chown -R "$READER_ID:$READER_ID" "$root/home/$READER"
system=$(. /etc/os-release && echo "$PRETTY_NAME")
say "a clean $system with $(go env GOVERSION) and a clone of ${head:0:12}, made in $((SECONDS - from)) s"

GOROOT_HERE=$(go env GOROOT)
MODULES_HERE=$(go env GOMODCACHE)/cache/download
mkdir -p "$MODULES_HERE"
# What this machine has of the modules comes from there; anything else as this machine would get it.
GOPROXY="file:///mnt/modules|$(go env GOPROXY)"
export GOPROXY GOROOT_HERE MODULES_HERE

# enter becomes a user in the clean environment and follows README there. It is the first process of a pid namespace,
# with which everything ends that it started.
enter() {
    local root=$1 user=$2 home=$3 compiled=$4 passed=$5 name
    shift 5
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -o bind,ro "$GOROOT_HERE" "$root/usr/local/go"
    mount -o bind,ro "$MODULES_HERE" "$root/mnt/modules"
    if [ -n "$compiled" ]; then mount --bind "$compiled" "$root$home/.cache/go-build"; fi
    for name in $(compgen -e); do
        if ! [[ $name =~ ^($passed)$ ]]; then unset "$name"; fi
    done
    export HOME=$home USER=$user LOGNAME=$user SHELL=/bin/bash LANG=C.UTF-8
    export PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    exec chroot --userspec="$user:$user" --groups="" "$root" "$home/holdfast/scripts/follow-readme.sh" "$@"
}

# as lets a user read README: as <user> <home> [its flags].
as() {
    local compiled=''
    # Not where tests are run: Go would print the results of the last time.
    if [ "$quick" = 1 ]; then
        compiled=${XDG_CACHE_HOME:-$HOME/.cache}/holdfast-readme/$1
        mkdir -p "${compiled%/*}"
        install -d -m 700 -o "$(chroot "$root" id -u "$1")" "$compiled"
    fi
    unshare --mount --pid --fork --kill-child bash -euc "$(declare -f enter); enter \"\$@\"" enter \
        "$root" "$1" "$2" "$compiled" "$PASSED" "${@:3}" </dev/null >"$work/pipe" 2>&1 9>&- &
    reader_pid=$!
    wait "$reader_pid" || bad=1 # why was printed
    reader_pid=''
}

# on_engine runs the commands that need a container engine, on this machine and under a name of its own.
on_engine() {
    if ! docker version >/dev/null 2>&1; then
        say 'skipped: the commands of containers: no container engine answers (docker version)'
        return 0
    fi
    local bin=$work/bin
    mkdir "$bin"
    if ! docker compose version >/dev/null 2>&1; then
        command -v docker-compose >/dev/null 2>&1 || {
            say 'skipped: the commands of containers: neither docker compose nor docker-compose is here'
            return 0
        }
        # README says that docker-compose 1.29 does as well.
        # shellcheck disable=SC2016 # the arguments of what is written
        printf '#!/bin/sh\n[ "$1" = compose ] && shift && exec docker-compose "$@"\nexec %s "$@"\n' \
            "$(command -v docker)" >"$bin/docker"
        chmod 755 "$bin/docker"
    fi
    deploy/airgap/stand-ins.sh
    export PATH=$bin:$PATH COMPOSE_PROJECT_NAME=holdfast-readme-$$ HOLDFAST_VERSION=readme-$$
    composed=$root/root/holdfast
    "$composed/scripts/follow-readme.sh" --containers </dev/null >"$work/pipe" 2>&1 9>&- || bad=1
}

mkfifo "$work/pipe"
tee "$work/lines" <"$work/pipe" &
printer=$!
exec 9>"$work/pipe" # the printer reads on until this is closed
as "$READER" "/home/$READER" --advice
as root /root "${flags[@]}"
as "$READER" "/home/$READER" "${flags[@]}"
if [ "$containers" = 1 ]; then on_engine; fi
exec 9>&-
wait "$printer"

count() { grep -c "^$1 " "$work/lines" || true; }
verdict="$(count ok) commands ok, $(count FAILED) failed, $(count skipped) skipped, in $SECONDS s"
if [ "$(count FAILED)" != 0 ]; then die "FAILED: $verdict"; fi
if [ "$bad" != 0 ]; then die "FAILED: a reader did not come to the end; $verdict"; fi
say "$verdict"
