// Command invariants prints a psql script that names every break of an invariant of the stored rows, and last
// says how many there are. So a database that only psql reaches can be checked as well:
//
//	go run ./loadtest/cmd/invariants | docker compose exec -T postgres psql -U holdfast -d holdfast
package main

import (
	"fmt"
	"io"
	"os"
	"slices"

	"example.com/holdfast/internal/invariant"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/webhook"
)

func main() {
	if err := write(os.Stdout, all()); err != nil {
		fmt.Fprintln(os.Stderr, "invariants:", err)
		os.Exit(1) //nolint:forbidigo // a command
	}
}

func all() []invariant.Invariant {
	return slices.Concat(ledger.Invariants(), inventory.Invariants(), outbox.Invariants(),
		transfer.Invariants(), order.Invariants(), webhook.Invariants())
}

// The script reads one snapshot. Tables that grew since they were last analyzed look small, and joining all
// of them row by row takes minutes.
const begin = `\set ON_ERROR_STOP on
\set breaks 0
\set QUIET on
\pset tuples_only on
\pset format unaligned
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL enable_nestloop = off;
SET LOCAL statement_timeout = '120s';
`

// check prints the breaks of one invariant, and counts them for the end.
const check = `SELECT '%[1]s: ' || b.what FROM (%[2]s) b;
SELECT :breaks + :ROW_COUNT AS breaks \gset
`

// end counts.
const end = `SELECT '%d invariants checked, breaks: ' || :breaks;
COMMIT;
`

func write(to io.Writer, checks []invariant.Invariant) error {
	if _, err := io.WriteString(to, begin); err != nil {
		return fmt.Errorf("write script: %w", err)
	}
	for _, i := range checks {
		if _, err := fmt.Fprintf(to, check, i.Name, i.SQL); err != nil {
			return fmt.Errorf("write script: %w", err)
		}
	}
	if _, err := fmt.Fprintf(to, end, len(checks)); err != nil {
		return fmt.Errorf("write script: %w", err)
	}
	return nil
}
