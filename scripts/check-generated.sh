#!/bin/sh
# Generates everything again in a copy of the working tree, and shows what differs.
set -eu
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
scripts/copy-tree.sh "$copy/before"
cp -R "$copy/before" "$copy/after"
make -s -C "$copy/after" generate
if ! diff -ru "$copy/before" "$copy/after"; then
    echo "check-generated: generated files are not current; run: make generate" >&2
    exit 1
fi
