#!/bin/sh
# Copies the working tree, without what git ignores, into an empty folder: copy-tree.sh <folder>
# Outside of a git checkout it copies everything but bin.
set -eu
cd "$(dirname "$0")/.."
mkdir -p "$1"
list=$(mktemp)
trap 'rm -f "$list"' EXIT
# The checkout may belong to another user.
if git -c safe.directory='*' rev-parse --git-dir >/dev/null 2>&1; then
    git -c safe.directory='*' ls-files --cached --others --exclude-standard >"$list.all"
else
    find . \( -name .git -o -path ./bin \) -prune -o -type f -print >"$list.all"
fi
while IFS= read -r file; do
    if [ -e "$file" ]; then printf '%s\n' "$file"; fi # deleted, but still tracked
done <"$list.all" >"$list"
rm -f "$list.all"
tar -cf - -T "$list" | tar -xf - -C "$1"
