#!/bin/bash
# Brings compose.yaml up under a name of its own, sends transfers, payouts and orders, meanwhile kills, pauses,
# cuts off and scales containers, and then holds what is stored to what was promised:
#
#   test/compose/check.sh <version>    # of images that are there: holdfast/api:<version> and the others
#
# After each fault, and while it lasts, a new transfer has to settle. Then the load generator of the profile `load`
# runs for a short time, and its verdict has to be good. At the end nothing is open, each key that was sent has the
# answer that it had, no payout was paid twice, and no invariant is broken. It removes what it made.
# docs/containers.md says what it has shown so far.
set -euo pipefail
cd "$(dirname "$0")/../.."

SETTLE_MAX=30   # seconds until a transfer has to be settled, whatever is broken
HELD_UP_MAX=90  # the same where a worker takes jobs that it cannot do: some may wait until their promise ends
DRAIN_MAX=90    # seconds until nothing may be open any more after the last request
HEALTH_MAX=60   # seconds until a container that came back has to be healthy
UP_MAX=90       # seconds from `up` until the first transfer is settled
REQUEST_MAX=5   # seconds for one request
REQUESTS_MAX=4000
FAULT=6         # seconds for which a fault lasts at least
LOAD_RATE=20    # requests/s of the load generator
LOAD_TIME=10    # seconds for which it sends
LOAD_MAX=150    # seconds until it has to have its verdict

export HOLDFAST_VERSION=$1 COMPOSE_PROJECT_NAME=holdfast-check-$$
work=$(mktemp -d)
log=$work/log
shown=0 # whether all claims were held

if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi

say() { printf 'check-compose: %s\n' "$*"; }
die() {
    say "FAILED: $*" >&2
    exit 1
}

finish() {
    touch "$work/stop"
    wait || true
    if [ "$shown" = 0 ]; then
        tail -n 40 "$log" >&2
        "${compose[@]}" ps >&2 || true
        "${compose[@]}" logs --tail=40 >&2 || true
    fi
    # With the profile, else Compose v2 leaves the volume of its reports.
    "${compose[@]}" --profile load down -v --remove-orphans >>"$log" 2>&1 || say "could not remove $COMPOSE_PROJECT_NAME" >&2
    rm -rf "$work"
}
trap finish EXIT

# free_port finds a port on which nobody listens, below those that the system hands out.
free_port() {
    local port
    while port=$((20000 + RANDOM % 10000)) && (: </dev/tcp/127.0.0.1/$port) 2>/dev/null; do :; done
    echo "$port"
}

field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p"; }
# nth prints an element of an array of the seed's line.
nth() { sed -n "s/.*\"$1\":\[\([^]]*\)\].*/\1/p" <<<"$demo" | tr -d '"' | cut -d, -f "$2"; }

container() { "${compose[@]}" ps -q "$1" 2>/dev/null | sed -n "${2:-1}p"; }
seconds_since() { awk -v a="$1" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }'; }

# body prints the request of a kind; the same kind is always the same request.
body() {
    case $1 in
    transfer) printf '{"from_account":"%s","to_account":"%s","amount":{"value":125,"currency":"EUR"}}' "$alice" "$bob" ;;
    payout) printf '{"from_account":"%s","to_account":"%s","amount":{"value":250,"currency":"EUR"}}' "$alice" "$world" ;;
    order)
        printf '{"customer_account":"%s","merchant_account":"%s","location":"%s","slot":"%s","lines":[{"sku":"%s","quantity":1}]}' \
            "$alice" "$bob" "$location" "$slot" "$sku"
        ;;
    esac
}

# send posts the request of a kind under a key and prints status and id, as far as there is an answer.
send() {
    local kind=$1 key=$2 path=transfers
    if [ "$kind" = order ]; then path=orders; fi
    curl -s -m "$REQUEST_MAX" -w '\n%{http_code}' "$api/v1/$path" -H "Authorization: Bearer $token" \
        -H "Idempotency-Key: $key" -H 'Content-Type: application/json' -d "$(body "$kind")" |
        awk '{ last = line; line = $0 } END { match(last, /"id":"[^"]*"/); print line, substr(last, RSTART + 6, RLENGTH - 7) }' ||
        true
}

# settles posts one transfer until it is accepted, and waits until it is settled.
settles() {
    local from id='' status='' key=''
    from=$(date +%s.%N)
    until [ "$status" = settled ]; do
        [ "$(seconds_since "$from" | cut -d. -f1)" -lt "$1" ] || die "$2: no transfer settled within $1 s (${status:-not accepted})"
        if [ "$status" = expired ]; then id=''; fi # its promise was kept; the next one
        if [ -z "$id" ]; then
            key=${key:-settles-$RANDOM-$(date +%s.%N)}
            read -r status id <<<"$(send transfer "$key")"
            if [ "$status" = 202 ]; then key=''; else id='' && sleep 0.2; fi
            continue
        fi
        status=$(curl -s -m "$REQUEST_MAX" "$api/v1/transfers/$id" -H "Authorization: Bearer $token" -H 'Prefer: wait=1' | field status)
    done
    say "$2: a new transfer settled within $(seconds_since "$from") s"
}

# healthy waits until a container says that it is well.
healthy() {
    local from=$SECONDS
    until [ "$(docker inspect -f '{{.State.Health.Status}}' "$1")" = healthy ]; do
        [ $((SECONDS - from)) -lt "$HEALTH_MAX" ] || die "$2 is not healthy after $HEALTH_MAX s"
        sleep 0.5
    done
}

# traffic sends until it is stopped, and notes each key with its kind, then what was answered.
traffic() {
    local n=0 kind status id
    while [ ! -e "$work/stop" ] && [ "$n" -lt "$REQUESTS_MAX" ]; do
        n=$((n + 1))
        case $((n % 10)) in 3 | 7) kind=payout ;; 5) kind=order ;; *) kind=transfer ;; esac
        read -r status id <<<"$(send "$kind" "traffic-$n")"
        echo "$kind traffic-$n ${status:-000} ${id:-}" >>"$work/sent"
        sleep 0.02
    done
}

sql() { docker exec -i "$postgres" psql -X -q -A -t -v ON_ERROR_STOP=1 -U holdfast -d holdfast; }

up() {
    HOLDFAST_API_PORT=$(free_port) HOLDFAST_ADMIN_PORT=$(free_port) HOLDFAST_RISK_PORT=$(free_port)
    HOLDFAST_NOTIFY_PORT=$(free_port) HOLDFAST_PAYOUT_PORT=$(free_port)
    export HOLDFAST_API_PORT HOLDFAST_ADMIN_PORT HOLDFAST_RISK_PORT HOLDFAST_NOTIFY_PORT HOLDFAST_PAYOUT_PORT
    unset HOLDFAST_NATS_URL HOLDFAST_REPORTS COMPOSE_PROFILES COMPOSE_FILE OTEL_EXPORTER_OTLP_ENDPOINT
    local from
    from=$(date +%s.%N)
    "${compose[@]}" up -d --no-build >>"$log" 2>&1 || die "compose up"
    demo=''
    until [ -n "$demo" ]; do
        [ "$(seconds_since "$from" | cut -d. -f1)" -lt "$UP_MAX" ] || die "no key from seed after $UP_MAX s"
        demo=$(docker logs "$("${compose[@]}" ps -a -q seed 2>/dev/null || "${compose[@]}" ps -q seed)" 2>/dev/null | grep '"key"' | tail -n 1 || true)
    done
    api=http://127.0.0.1:$HOLDFAST_API_PORT
    token=$(field key <<<"$demo")
    alice=$(nth accounts 1) bob=$(nth accounts 2) world=$(field world <<<"$demo")
    location=$(field location <<<"$demo") sku=$(nth skus 1) slot=$(nth slots 1)
    settles "$UP_MAX" up
    say "compose up to the first settled transfer: $(seconds_since "$from") s"
    postgres=$(container postgres)
}

# breaks_things plays the faults one after another while traffic goes on.
breaks_things() {
    local first second victim
    first=$(container worker 1) second=$(container worker 2) victim=$(container api)

    docker kill "$first" >>"$log"
    settles "$SETTLE_MAX" 'one of two workers killed'
    docker start "$first" >>"$log"
    healthy "$first" worker

    docker pause "$second" >>"$log"
    settles "$SETTLE_MAX" 'one of two workers paused'
    sleep "$FAULT" # longer than its leases
    docker unpause "$second" >>"$log"
    settles "$SETTLE_MAX" 'it goes on'

    "${compose[@]}" up -d --no-build --no-recreate --scale worker=3 >>"$log" 2>&1 || die "scale worker=3"
    [ "$("${compose[@]}" ps -q worker | wc -l)" = 3 ] || die "there are not 3 workers"
    healthy "$(container worker 3)" 'worker 3'
    settles "$SETTLE_MAX" 'three workers'

    docker network disconnect "${COMPOSE_PROJECT_NAME}_inside" "$first"
    settles "$SETTLE_MAX" 'a worker cut off from Postgres'
    sleep "$FAULT"
    docker network connect --alias worker "${COMPOSE_PROJECT_NAME}_inside" "$first"
    healthy "$first" 'the worker that was cut off'

    docker network disconnect "${COMPOSE_PROJECT_NAME}_outside" "$second"
    settles "$HELD_UP_MAX" 'a worker cut off from the dependencies'
    sleep "$FAULT"
    docker network connect --alias worker "${COMPOSE_PROJECT_NAME}_outside" "$second"
    healthy "$second" 'the worker that was cut off'

    docker kill "$victim" >>"$log"
    docker start "$victim" >>"$log"
    settles "$SETTLE_MAX" 'the API killed and started'

    docker kill "$postgres" >>"$log"
    docker start "$postgres" >>"$log"
    settles "$SETTLE_MAX" 'Postgres killed and started'

    "${compose[@]}" up -d --no-build --no-recreate --scale worker=1 >>"$log" 2>&1 || die "scale worker=1"
    [ "$("${compose[@]}" ps -q worker | wc -l)" = 1 ] || die "there is not one worker"
    settles "$SETTLE_MAX" 'one worker'
}

# drains waits until nothing is open: a transfer in review would wait for a person.
drains() {
    local from=$SECONDS open=''
    until [ "$open" = 0 ]; do
        [ $((SECONDS - from)) -lt "$DRAIN_MAX" ] || die "$open transfers and orders are open after $DRAIN_MAX s"
        open=$(sql <<<"SELECT (SELECT count(*) FROM transfers WHERE wake_at IS NOT NULL AND state <> 'in_review')
                            + (SELECT count(*) FROM orders WHERE wake_at IS NOT NULL)")
        sleep 0.5
    done
}

# answers_again sends every key once more: what was accepted is so again, under the same id.
answers_again() {
    local kind key status id again now sent=0 unanswered=0
    while read -r kind key status id; do
        read -r again now <<<"$(send "$kind" "$key")"
        sent=$((sent + 1))
        case $status in
        202) [ "$again $now" = "202 $id" ] || die "$key was accepted as $id, and is answered $again $now now" ;;
        000 | 5* | 429) unanswered=$((unanswered + 1)) ;;
        *) die "$key: status $status is no answer to expect" ;;
        esac
    done <"$work/sent"
    [ "$unanswered" -lt "$sent" ] || die "nothing was accepted"
    say "$sent keys sent again, $unanswered of them without an acceptance before: every answer is the one before"
}

# loads runs the load generator, which ends with an error if a claim of its report does not hold. That its last
# claim, about the database, was checked at all is seen in the report.
loads() {
    local from report=$work/report
    from=$(date +%s.%N)
    timeout "$LOAD_MAX" "${compose[@]}" --profile load run -T --rm load run --rate="$LOAD_RATE" \
        --duration="${LOAD_TIME}s" --accounts=10 --drain=60s </dev/null >"$report" 2>>"$log" || {
        grep -F '**' "$report" >&2 || true # the verdict, and the claims that do not hold
        die "the load generator has no good verdict"
    }
    grep -q '^| the SQL invariants of all packages hold | [1-9][0-9]* | 0 |' "$report" ||
        die "the load generator did not check the database"
    say "the load generator: $(sed -n 's/^| whole | [^|]* | \([0-9]*\) |.*/\1/p' "$report" | head -n 1) requests," \
        "every claim holds, after $(seconds_since "$from") s"
}

holds() {
    local rail paid invariants
    drains
    answers_again
    drains
    say "states: $(sql <<<"SELECT string_agg(what, ', ' ORDER BY what) FROM (
        SELECT 'transfers ' || state || ' ' || count(*) AS what FROM transfers GROUP BY state
        UNION ALL SELECT 'orders ' || state || ' ' || count(*) FROM orders GROUP BY state) s")"
    local lost
    lost=$(awk '$3 == 202 { print $4 }' "$work/sent" |
        { echo 'CREATE TEMP TABLE accepted (id uuid); COPY accepted FROM stdin;' && cat && echo '\.' && echo "
          SELECT count(*) FROM accepted a WHERE NOT EXISTS (SELECT FROM transfers t WHERE t.id = a.id)
                                            AND NOT EXISTS (SELECT FROM orders o WHERE o.id = a.id)"; } | sql)
    [ "$lost" = 0 ] || die "$lost of what was accepted are not stored"
    rail=$(curl -s -m "$REQUEST_MAX" "http://127.0.0.1:$HOLDFAST_PAYOUT_PORT/journal")
    paid=$(sql <<<"SELECT count(*) FROM transfers WHERE to_account = '$world' AND state = 'settled'")
    [ "$(field transfers_paid_twice <<<"$rail")" = 0 ] || die "the payout rail paid twice: $rail"
    [ "$(field paid_transfers <<<"$rail")" = "$paid" ] || die "$paid payouts are settled, but the rail says $rail"
    say "$paid payouts settled, each paid once"
    invariants=$(go run ./loadtest/cmd/invariants | sql)
    say "$invariants"
    [[ $invariants == *'breaks: 0' ]] || die "invariants are broken"
}

up
# Work stays in hand for a while, and the rail loses every fifth answer.
curl -sS -m "$REQUEST_MAX" -X PUT "http://127.0.0.1:$HOLDFAST_RISK_PORT/knobs" \
    -d '{"latency":{"distribution":"fixed","p50_ms":50}}' >>"$log"
curl -sS -m "$REQUEST_MAX" -X PUT "http://127.0.0.1:$HOLDFAST_PAYOUT_PORT/knobs" \
    -d '{"timeout_after_success_rate":0.2}' >>"$log"
traffic &
breaks_things
touch "$work/stop"
wait
loads
holds
shown=1
say "passed"
