#!/bin/sh
# Gives the module another path, in every file of the working tree: rename.sh example.org/you/name
set -eu
cd "$(dirname "$0")/.."
new=${1:-}
case $new in
'' | *[!a-zA-Z0-9./_~-]* | /* | */)
    echo "rename: MODULE has to be a module path, like example.org/you/name" >&2
    exit 2
    ;;
esac
old=$(awk '$1 == "module" { print $2; exit }' go.mod)
pattern=$(printf '%s' "$old" | sed 's/[.]/[.]/g')
find . \( -name .git -o -path ./bin -o -path ./.holdfast \) -prune -o -type f -print |
    while IFS= read -r file; do
        if ! grep -Iq "$pattern" "$file"; then continue; fi
        sed "s|$pattern|$new|g" "$file" >"$file.renamed"
        cat "$file.renamed" >"$file" # keeps the file's mode
        rm "$file.renamed"
    done
echo "renamed $old to $new" >&2
