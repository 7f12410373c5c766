#!/bin/bash
# Runs the commands of README.md one by one and in their order, as a reader who copies them out of its sh blocks,
# and prints a line for each: ok, FAILED or skipped, the user, seconds, the command. It ends with 1 if one failed.
#
#   scripts/follow-readme.sh               # in a clone that is there to be tried, with Go, make, git and curl
#   scripts/follow-readme.sh --quick       # without `make test`
#   scripts/follow-readme.sh --advice      # only: without PostgreSQL `make up` fails and says what to install
#   scripts/follow-readme.sh --containers  # only what needs a container engine; otherwise that is skipped
#   scripts/follow-readme.sh --list        # only print the commands
#
# What stays in the foreground (make up, cmd/api, cmd/worker) gets a terminal of its own, as it were: it is started,
# waited for, and stopped at the end as by Ctrl-C. scripts/check-readme.sh calls this in a clean environment. Called
# by itself it uses the ports and the data of `make up` of who calls it.
set -euo pipefail
cd "$(dirname "$0")/.."

# Limits for a machine that has much else to do; elsewhere these take a tenth.
COMMAND_MAX=600 # seconds for a command
TESTS_MAX=2400  # seconds for `make test`
UP_MAX=900      # seconds until `make up` is ready; it may have to compile everything and to get Postgres
PART_MAX=240    # seconds until an API or a worker is ready
STOP_MAX=40     # seconds from Ctrl-C until it has ended
STREAM_MAX=1    # seconds for which a stream of events is read
SHOWN=15        # lines of the output of a command that failed
NAME_MAX=120    # characters of a command in its line

# What stands in README for what only its reader knows. The commands before it say what that is.
declare -A value=(
    ['postgres://…']='' # what `make up` prints in its line `database`
    [ID]=''             # a webhook endpoint, which this script makes for the tenant acme
)
# What a command has to say where its end alone shows nothing.
declare -A says=(
    ['docker compose logs --no-log-prefix seed | tail -n 1']='"accounts":'
)
OWN='PUT|POST|GET|DELETE|EUR' # words in capitals that mean themselves

quick=0 only=all
for arg in "$@"; do
    case $arg in
    --quick) quick=1 ;;
    --advice | --containers | --list) only=${arg#--} ;;
    *)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
        [ "$arg" = --help ] && exit 0
        exit 2
        ;;
    esac
done

user=$(id -un 2>/dev/null || id -u)
work=$(mktemp -d)
failures=0
declare -a running=() named=() said=() # process groups that stay, their commands, and files of what they say
# curl ends well with an answer of 500 otherwise.
printf 'fail-with-body\nmax-time = %d\n' "$COMMAND_MAX" >"$work/.curlrc"
export CURL_HOME=$work

report() {
    local name
    name=$(sed -E 's/(hfa?_[a-z]+_)[A-Za-z0-9_-]+/\1…/g' <<<"$3") # nothing is learned from a key
    if [ ${#name} -gt "$NAME_MAX" ]; then name=${name:0:NAME_MAX}…; fi
    printf '%-7s  %-6s  %4d s  %s\n' "$1" "$user" "$2" "$name"
}

# failed reports a failure and shows the end of what the command said.
failed() {
    failures=$((failures + 1))
    report FAILED "$1" "$2"
    printf '         %s\n' "$3"
    tail -n "$SHOWN" "${4:-/dev/null}" | awk '{ print "         | " $0 }'
}

# commands reads lines and prints each command on a line of its own, as one word of the shell: a command may go on
# over several lines, until no quote is open.
commands() {
    local line command=''
    while IFS= read -r line; do
        command+=${command:+$'\n'}$line
        if [ "${line%\\}" != "$line" ] || ! bash -n -c "$command" 2>/dev/null; then continue; fi
        if [ -n "$(bare "$command")" ]; then printf '%q\n' "$command"; fi
        command=''
    done
    if [ -n "$command" ]; then printf '%q\n' "$command"; fi # what is wrong with it is said when it is run
}

of_readme() { awk '/^```sh$/ { in_sh = 1; next } /^```/ { in_sh = 0 } in_sh' README.md | commands; }

# printed are the commands that `make up` prints, which README sends its reader to.
printed() {
    awk '/^  curl / { in_curl = 1 } /^$/ { in_curl = 0 } in_curl { sub(/^  /, ""); print }' "$1" | commands
}

# bare is a command on one line without its comment.
bare() {
    local line=${1//\\$'\n'/ }
    tr -s '\n ' ' ' <<<"$line" | sed -E "s/(^|[[:space:]]+)#[[:space:]][^'\"]*\$//; s/[[:space:]]+\$//"
}

# filled puts what the reader knows in, and fails where it would have to guess: at anything with an ellipsis, and at
# a word in capitals, that is not in the table.
filled() {
    local command=$1 word left
    left=$(bare "$command")
    for word in "${!value[@]}"; do
        if ! grep -qE "(^|[[:space:]'\"=])$word(\$|[[:space:]'\"])" <<<"$left"; then continue; fi
        if [ -z "${value[$word]}" ]; then
            echo "no command before this one says what $word is"
            return 1
        fi
        left=${left//"$word"/}
        command=${command//"$word"/"${value[$word]}"}
    done
    if word=$(tr -s '[:space:]' '\n' <<<"$left" | grep -E '…|^[A-Z][A-Z_]+$' | grep -vxE "$OWN"); then
        echo "a placeholder that the table of this script does not have: $word"
        return 1
    fi
    printf '%s\n' "$command"
}

# run runs a command that ends.
run() {
    local command=$1 name max=$COMMAND_MAX from=$SECONDS out status=0
    name=$(bare "$command")
    out=$(mktemp "$work/out.XXXXXX")
    case $name in
    'make test'*) max=$TESTS_MAX ;;
    'curl -sSN '*) max=$STREAM_MAX ;;
    'export '* | 'cd '*)
        # Their effect is what they are for, and they must not set what this script has.
        # shellcheck disable=SC1090 # what another shell exports
        if (eval "$command" && declare -px >"$out.env" && pwd >"$out.pwd") >"$out" 2>&1; then
            sed -i 's/^declare -/declare -g/' "$out.env"
            . "$out.env"
            cd "$(cat "$out.pwd")"
            report ok 0 "$name"
        else
            failed 0 "$name" 'it failed' "$out"
        fi
        return 0
        ;;
    esac
    timeout --kill-after=10 "$max" bash -o pipefail -c "$command" >"$out" 2>&1 </dev/null || status=$?
    if [ "$max" = "$STREAM_MAX" ] && [ -s "$out" ] && [ "$status" = 124 ]; then status=0; fi # it never ends by itself
    if [ "$status" = 0 ] && [[ $(<"$out") != *"${says[$name]:-}"* ]]; then
        failed "$((SECONDS - from))" "$name" "it did not say ${says[$name]}" "$out"
        return 0
    fi
    case $status in
    0) report ok "$((SECONDS - from))" "$name" ;;
    124 | 137) failed "$((SECONDS - from))" "$name" "it had not ended after $max s" "$out" ;;
    *) failed "$((SECONDS - from))" "$name" "it ended with $status" "$out" ;;
    esac
    case $name in *'ctl key create --tenant acme') if [ "$status" = 0 ]; then endpoint; fi ;; esac
}

# endpoint makes the webhook endpoint whose id README calls ID. Its tenant has to be there already.
endpoint() {
    local key
    key=$(timeout "$COMMAND_MAX" go run ./cmd/ctl key create --tenant acme --scopes webhooks:read,webhooks:write \
        2>"$work/endpoint" | grep -oE 'hf_[A-Za-z0-9_-]+' | head -n 1) || true
    value[ID]=$(curl -sS "${api:-}/v1/webhook-endpoints" -H "Authorization: Bearer $key" \
        -H "Idempotency-Key: readme-$$-$SECONDS" -H 'Content-Type: application/json' \
        -d '{"url":"http://127.0.0.1:9/"}' 2>&1 | tee -a "$work/endpoint" |
        sed -n 's/.*"id":"\([^"]*\)".*/\1/p') || true
    if [ -z "${value[ID]}" ]; then failed 0 "(a webhook endpoint for ID)" 'none could be made' "$work/endpoint"; fi
}

# ready says whether what was started at last is up.
ready() {
    case $1 in
    'make up'*) grep -q '^{' "$2" ;;
    *) curl -sS -o /dev/null "http://$(sed -E 's/.*HOLDFAST_ADMIN_ADDR=([^ ]+).*/\1/' <<<"$1")/readyz" 2>/dev/null ;;
    esac
}

# start starts a command that stays, in a process group of its own: Ctrl-C reaches all of it.
start() {
    local command=$1 name max=$PART_MAX from=$SECONDS out pid
    name=$(bare "$command")
    out=$(mktemp "$work/out.XXXXXX")
    case $name in 'make up'*) max=$UP_MAX ;; esac
    if ready "$name" "$out"; then
        failed 0 "$name" 'another one answers at its address already'
        return 0
    fi
    set -m
    bash -c "$command" >"$out" 2>"$out.err" </dev/null &
    pid=$!
    set +m
    until ready "$name" "$out"; do
        if ! kill -0 "$pid" 2>/dev/null; then
            wait "$pid" || true
            failed "$((SECONDS - from))" "$name" 'it ended before it was ready' "$out.err"
            return 0
        fi
        if [ $((SECONDS - from)) -gt "$max" ]; then
            failed "$((SECONDS - from))" "$name" "it was not ready after $max s" "$out.err"
            kill -KILL -- "-$pid" 2>/dev/null || true
            return 0
        fi
        sleep 0.2
    done
    running=("$pid" "${running[@]}") named=("$name" "${named[@]}") said=("$out.err" "${said[@]}")
    report ok "$((SECONDS - from))" "$name"
    case $name in 'make up'*) use "$out" ;; esac
}

# use takes from what `make up` printed what its reader takes, and runs the commands in it.
use() {
    local field curl
    for field in api admin key admin_key accounts; do
        if ! grep -q "\"$field\":" "$1"; then failed 0 '(the JSON line of make up)' "it has no $field" "$1"; fi
    done
    api=$(sed -n 's/.*"api":"\([^"]*\)".*/\1/p' "$1")
    value['postgres://…']=$(sed -n "s/^ *database  *psql '\(.*\)'\$/\1/p" "$1.err")
    printed "$1.err" >"$work/printed"
    if [ ! -s "$work/printed" ]; then failed 0 '(the commands that make up prints)' 'there are none' "$1.err"; fi
    while IFS= read -r curl; do
        eval "curl=$curl"
        run "$curl"
    done <"$work/printed"
}

# stop ends what stays as Ctrl-C does, the last one first. `go run` ends with 1 whenever it is interrupted; if its
# program ended with anything but 0, it says so.
stop() {
    local i pid err from status
    for i in "${!running[@]}"; do
        pid=${running[$i]} err=${said[$i]} from=$SECONDS status=0
        kill -INT -- "-$pid" 2>/dev/null || true
        while kill -0 -- "-$pid" 2>/dev/null && [ $((SECONDS - from)) -lt "$STOP_MAX" ]; do sleep 0.1; done
        if kill -0 -- "-$pid" 2>/dev/null; then
            kill -KILL -- "-$pid" 2>/dev/null || true
            failed "$((SECONDS - from))" "Ctrl-C: ${named[$i]}" "it had not ended after $STOP_MAX s" "$err"
            continue
        fi
        wait "$pid" || status=$?
        case ${named[$i]}:$status in *'go run '*:1) grep -q '^exit status' "$err" || status=0 ;; esac
        if [ "$status" = 0 ]; then
            report ok "$((SECONDS - from))" "Ctrl-C: ${named[$i]}"
        else
            failed "$((SECONDS - from))" "Ctrl-C: ${named[$i]}" "it ended with $status" "$err"
        fi
    done
    running=() named=() said=()
    nothing_left
}

# left lists the processes of this pid namespace, but for this script.
left() {
    local p
    for p in /proc/[0-9]*; do
        if [ "$p" = /proc/1 ]; then continue; fi
        tr '\0' ' ' 2>/dev/null <"$p/cmdline" || true # it may be gone by now
    done
}

# nothing_left shows that no process stays behind. It can tell only where this script is the first process: in the
# environment of check-readme.sh.
nothing_left() {
    if [ $$ != 1 ]; then return 0; fi
    local from=$SECONDS
    until left >"$work/left"; [ ! -s "$work/left" ]; do
        if [ $((SECONDS - from)) -gt 10 ]; then
            failed 10 '(what stays behind)' 'these processes still run:' "$work/left"
            return 0
        fi
        sleep 0.2
    done
    report ok "$((SECONDS - from))" '(no process stays behind)'
}

# advice shows that `make up` without a Postgres, and without the right to install one, says what to install.
advice() {
    local from=$SECONDS status=0
    timeout --kill-after=10 "$UP_MAX" make up >"$work/advice" 2>&1 </dev/null || status=$?
    if [ "$status" != 0 ] && grep -q 'apt-get install -y postgresql' "$work/advice"; then
        report ok "$((SECONDS - from))" "make up   (without PostgreSQL: fails, and says what to install)"
    else
        failed "$((SECONDS - from))" 'make up   (without PostgreSQL)' "ended with $status, no advice" "$work/advice"
    fi
}

# shellcheck disable=SC2317 # it is called by the trap
finish() {
    local pid
    for pid in "${running[@]}"; do kill -KILL -- "-$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT

# each runs one command of README, or says why not.
each() {
    local command=$1 name
    name=$(bare "$command")
    case $name in
    *'docker compose '*)
        if [ "$only" != containers ]; then
            report skipped 0 "$name   (--containers runs it)"
            return 0
        fi
        ;;
    *) if [ "$only" = containers ]; then return 0; fi ;;
    esac
    case $name in 'make test'*) if [ "$quick" = 1 ]; then report skipped 0 "$name   (--quick)" && return 0; fi ;; esac
    if ! command=$(filled "$command"); then
        failed 0 "$name" "$command"
        return 0
    fi
    case $name in
    'make up'* | *'go run ./cmd/api' | *'go run ./cmd/worker') start "$command" ;;
    *) run "$command" ;;
    esac
}

if [ "$only" = advice ]; then
    advice
    exit "$((failures > 0))"
fi
of_readme >"$work/commands"
if [ ! -s "$work/commands" ]; then failed 0 README.md 'it has no sh block'; fi
while IFS= read -r line <&3; do
    eval "command=$line"
    # shellcheck disable=SC2154 # eval sets it
    if [ "$only" = list ]; then printf '%s\n' "$(bare "$command")"; else each "$command"; fi
done 3<"$work/commands"
if [ "$only" = all ]; then stop; fi
exit "$((failures > 0))"
