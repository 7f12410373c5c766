package webhook_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/webhook"
)

// TestInvariantsFindWhatBreaksThem breaks each in every way that it names.
func TestInvariantsFindWhatBreaksThem(t *testing.T) {
	t.Parallel()
	const insert = `
INSERT INTO webhook_backlog (endpoint_id, tenant_id, aggregate_id, seq, type, place, attempts, due_at,
                             first_failed_at, last_status, last_error, dead_at)
SELECT w.id, w.tenant_id, e.aggregate_id, e.seq, e.type, e.seq, 1, $1, now(), 0, '', $2
  FROM webhook_endpoints w JOIN events e USING (tenant_id) WHERE e.seq = $3`
	const behindPlace, inOrder, counted = "webhook_backlog_behind_place", "webhook_backlog_in_order",
		"webhook_backlog_counted"
	for name, tt := range map[string]struct{ breaks, found string }{
		"nothing":           {"SELECT 1", ""},
		"beyond the place":  {"UPDATE webhook_endpoints SET place = 0", behindPlace},
		"another tenant's":  {"UPDATE webhook_backlog SET tenant_id = gen_random_uuid()", behindPlace},
		"no such event":     {"UPDATE webhook_backlog SET seq = 9 WHERE seq = 2", behindPlace},
		"beyond the log":    {"UPDATE webhook_endpoints SET place = 99", behindPlace},
		"a head is not due": {"UPDATE webhook_backlog SET due_at = NULL", inOrder},
		"not a head":        {"UPDATE webhook_backlog SET due_at = now()", inOrder},
		"not a head, dead":  {"UPDATE webhook_backlog SET dead_at = now() WHERE seq = 2", inOrder},
		"miscounted":        {"UPDATE webhook_endpoints SET backlog = 1", counted},
	} {
		b := setup(t)
		b.create(t, good)
		b.happen(t, b.series(3)...)
		at := now()
		b.exec(t, insert, at, nil, 1)
		b.exec(t, insert, nil, nil, 2)
		b.exec(t, "UPDATE webhook_endpoints SET backlog = 2, place = 2")
		b.exec(t, tt.breaks)
		var found []string
		for _, i := range webhook.Invariants() {
			require.NotEmpty(t, i.Doc)
			if n := b.count(t, "SELECT count(*) FROM ("+i.SQL+") x WHERE what IS NOT NULL"); n > 0 {
				found = append(found, i.Name)
			}
		}
		require.Equal(t, tt.found, strings.Join(found, " "), name)
	}
}
