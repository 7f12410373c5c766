#!/bin/sh
# Makes sure that this machine has Prometheus's promtool: looks for it, and installs Debian's package where that
# needs nobody's answer (root, or sudo without a password). The package's daemon is not started. Elsewhere it says
# what to do: in continuous integration it fails, and otherwise it ends with 3, so that the caller may skip.
set -eu

say() { printf '%s\n' "need-promtool: $*" >&2; }

found() { command -v promtool >/dev/null 2>&1 && command -v prometheus >/dev/null 2>&1; }

# root_prefix prints what makes a command run as root without a question, or fails.
root_prefix() {
    if [ "$(id -u)" = 0 ]; then return 0; fi
    if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        echo "sudo -n "
        return 0
    fi
    return 1
}

# install_package forbids the package to start its daemon, by the policy that Debian's packages ask, unless the
# machine has a policy of its own.
install_package() {
    as_root=$1
    policy=/usr/sbin/policy-rc.d
    quiet="env DEBIAN_FRONTEND=noninteractive apt-get -q"
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
        trap '$as_root rm -f "$policy"' EXIT
        $as_root chmod 755 "$policy"
    fi
    # shellcheck disable=SC2086 # the prefix and the command are words
    $as_root $quiet update >&2 </dev/null &&
        $as_root $quiet install -y --no-install-recommends prometheus >&2 </dev/null
}

if found; then exit 0; fi

if command -v apt-get >/dev/null 2>&1 && prefix=$(root_prefix); then
    say "no promtool found; installing it: ${prefix}apt-get install -y --no-install-recommends prometheus"
    if (install_package "$prefix") && found; then exit 0; fi
    say "the package could not be installed, or has no promtool"
fi

if [ -n "${CI:-}" ]; then
    say "no promtool found. Debian, Ubuntu: sudo apt-get install -y --no-install-recommends prometheus"
    exit 1
fi
say "skipped: no promtool (Debian: apt-get install prometheus; macOS: brew install prometheus)"
exit 3
