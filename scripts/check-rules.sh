#!/bin/sh
# Checks Prometheus's settings and rules, and plays the tests of the alerts.
set -eu
cd "$(dirname "$0")/.."
scripts/need-promtool.sh || {
    [ $? = 3 ] && exit 0
    exit 1
}
cd deploy/prometheus
promtool check config prometheus.yaml
promtool test rules tests/*.yaml
