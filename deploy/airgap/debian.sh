# shellcheck shell=bash
# Sourced: makes small Debians of this machine's packages, for the stand-ins of images and for the environment in
# which scripts/check-readme.sh reads. Who sources it has say, and in $work a folder for what is in between.

# need_mmdebstrap makes sure that mmdebstrap is here: installs it as root, and otherwise says so and fails.
need_mmdebstrap() {
    if command -v mmdebstrap >/dev/null 2>&1; then return 0; fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        say "install mmdebstrap, then try again"
        return 1
    fi
    say "installing mmdebstrap"
    DEBIAN_FRONTEND=noninteractive apt-get -q update >&2 </dev/null &&
        DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends mmdebstrap >&2 </dev/null
}

# debian puts a small Debian with some packages into a folder, from the sources and the release of this machine.
debian() {
    local to=$1 packages=$2 sources=()
    need_mmdebstrap || return 1
    for list in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list.d/ubuntu.sources; do
        if [ -s "$list" ]; then sources+=("$list"); fi
    done
    # The settings of this machine, such as a proxy, are those of the packages' download.
    apt-config dump | grep -E '^Acquire::' >"${work:?}/apt.conf" || true
    # shellcheck disable=SC1091,SC2016 # a file of the machine; the hook's own argument
    mmdebstrap --quiet --mode=root --variant=essential --include="$packages" --aptopt="$work/apt.conf" \
        --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*' \
        "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$to" "${sources[@]}" >&2
}
