#!/bin/sh
# Copies the working tree, without what git ignores, into an empty folder: copy-tree.sh <folder>
set -eu
cd "$(dirname "$0")/.."
mkdir -p "$1"
# A tracked file may be deleted in the working tree. The checkout may belong to another user.
git -c safe.directory='*' ls-files --cached --others --exclude-standard | while IFS= read -r file; do
    if [ -e "$file" ]; then printf '%s\n' "$file"; fi
done | tar -cf - -T - | tar -xf - -C "$1"
