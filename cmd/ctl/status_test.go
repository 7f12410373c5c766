package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/condition"
)

func TestStatusSaysWhatTheDatabaseShowsToBeWrong(t *testing.T) {
	t.Parallel()
	d, out := setup(t)
	table, asJSON := &statusCmd{}, &statusCmd{output{JSON: true}}
	require.NoError(t, table.do(t.Context(), d))
	rows := fields(out)
	require.Len(t, rows, 2)
	require.Equal(t, []string{"ok", "-", "-"}, rows[1][:3])
	require.NoError(t, asJSON.do(t.Context(), d))
	require.Empty(t, decoded[statusLine](t, out))

	_, err := d.pool.Exec(t.Context(), `
INSERT INTO river_job (args, kind, max_attempts, queue, state, scheduled_at, priority)
VALUES ('{}', 'ping', 3, 'risk_api', 'available', now() - interval '1 minute', 1),
       ('{}', 'ping', 3, 'db', 'scheduled', now() + interval '1 hour', 1)`)
	require.NoError(t, err)
	require.NoError(t, table.do(t.Context(), d))
	rows = fields(out)
	require.Len(t, rows, 2, "what is delayed is not late")
	require.Equal(t, []string{"warning", "queue_old", "risk_api"}, rows[1][:3])
	require.NoError(t, asJSON.do(t.Context(), d))
	require.Equal(t, []statusLine{lineOfActive(condition.Active{
		Condition: condition.QueueOld, Subject: "risk_api",
	})}, decoded[statusLine](t, out))
}
