#!/bin/sh
# Checks Prometheus's settings and rules, those of compose.yaml as well, and plays the tests of the alerts.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "check-rules: $*"; }

scripts/need-promtool.sh || {
    [ $? = 3 ] && exit 0
    exit 1
}

container=$(mktemp -d)
trap 'rm -rf "$container"' EXIT

# compose_settings checks what Prometheus reads in its container: the folder is laid out as compose.yaml mounts it.
# A pattern that finds no file is no error for promtool, so the files of rules are counted.
compose_settings() {
    sed -n 's|^ *- \./\([^:]*\):/etc/prometheus/\([^:]*\):ro$|\1 \2|p' compose.yaml |
        while read -r from to; do ln -s "$PWD/$from" "$container/$to"; done
    settings=$container/$(sed -n 's|^ *- --config.file=/etc/prometheus/||p' compose.yaml)
    if ! promtool check config "$settings" >"$container/said" 2>&1; then
        cat "$container/said" >&2
        say "FAILED: the settings of Prometheus in compose.yaml" >&2
        exit 1
    fi
    set -- deploy/prometheus/*.rules.yaml
    if ! grep -q "SUCCESS: $# rule files found" "$container/said"; then
        cat "$container/said" >&2
        say "FAILED: of $# files of rules, Prometheus in compose.yaml does not find all" >&2
        exit 1
    fi
    say "compose.yaml: the settings of Prometheus are valid, and find $# files of rules"
}

(cd deploy/prometheus && promtool check config prometheus.yaml)
compose_settings
if command -v amtool >/dev/null 2>&1; then
    amtool check-config deploy/compose/alertmanager.yaml
else
    say "skipped deploy/compose/alertmanager.yaml: no amtool (Debian: apt-get install prometheus-alertmanager)"
fi
(cd deploy/prometheus && promtool test rules tests/*.yaml)
