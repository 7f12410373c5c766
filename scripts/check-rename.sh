#!/bin/sh
# Renames the module in a copy of the working tree, and shows that the copy builds.
set -eu
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
old=$(awk '$1 == "module" { print $2; exit }' go.mod)
scripts/copy-tree.sh "$copy"
cd "$copy"
scripts/rename.sh example.org/fork/settlement
if grep -rIlF "$old" .; then
    echo "check-rename: the files above still say $old" >&2
    exit 1
fi
go vet ./...
