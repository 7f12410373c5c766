#!/bin/sh
# Makes sure that this machine can run a PostgreSQL server of its own: looks for the server's binaries,
# and installs Debian's package where that needs nobody's answer (root, or sudo without a password).
# Everywhere else it says what to do and fails. It starts nothing and never waits for input.
set -eu

say() { printf '%s\n' "need-postgres: $*" >&2; }

has_server() { [ -n "$1" ] && [ -x "$1/initdb" ] && [ -x "$1/postgres" ]; }

# found looks where internal/privatepg looks: the environment, PATH, pg_config, the usual packages.
found() {
    if has_server "${PG_BIN_DIR:-}"; then return 0; fi
    if command -v initdb >/dev/null 2>&1 && command -v postgres >/dev/null 2>&1; then return 0; fi
    if command -v pg_config >/dev/null 2>&1 && has_server "$(pg_config --bindir)"; then return 0; fi
    for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/lib/postgresql*/bin /usr/libexec/postgresql* \
        /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin \
        /Applications/Postgres.app/Contents/Versions/*/bin /opt/local/lib/postgresql*/bin \
        /usr/local/pgsql/bin; do
        if has_server "$dir"; then return 0; fi
    done
    return 1
}

# root_prefix prints what makes a command run as root without a question, or fails.
root_prefix() {
    if [ "$(id -u)" = 0 ]; then return 0; fi
    if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        echo "sudo -n "
        return 0
    fi
    return 1
}

if [ -n "${DATABASE_URL:-}" ] || [ -n "${HOLDFAST_TEST_DATABASE_URL:-}" ] || found; then exit 0; fi

if command -v apt-get >/dev/null 2>&1 && prefix=$(root_prefix); then
    quiet="env DEBIAN_FRONTEND=noninteractive apt-get -q"
    say "no PostgreSQL server found; installing one: ${prefix}apt-get install -y postgresql"
    # shellcheck disable=SC2086 # the prefix and the command are words
    if $prefix $quiet update >&2 </dev/null && $prefix $quiet install -y postgresql >&2 </dev/null; then
        if found; then exit 0; fi
        say "the package is installed, but initdb and postgres are not where they were looked for"
    fi
fi

say "no PostgreSQL server found. Do one of these, then try again:"
say "  Debian, Ubuntu:  sudo apt-get update && sudo apt-get install -y postgresql"
say "  Fedora:          sudo dnf install -y postgresql-server"
say "  macOS:           brew install postgresql@17"
say "  or set PG_BIN_DIR to the folder that holds initdb and postgres (15 to 18)"
say "  or set DATABASE_URL to a PostgreSQL of yours (15 to 18)"
exit 1
