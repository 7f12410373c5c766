package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/cloudevent"
)

func TestTypesOfEventsAreListed(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, (&eventTypesCmd{}).do(&out))
	rows := fields(&out)
	require.Equal(t, []string{"TYPE", "MEANING"}, rows[0])
	types := cloudevent.Types()
	require.Len(t, rows, len(types)+1)
	require.NoError(t, (&eventTypesCmd{output{JSON: true}}).do(&out))
	lines := decoded[eventTypeLine](t, &out)
	for i, of := range types {
		require.Equal(t, append([]string{of.Name}, strings.Fields(of.Description)...), rows[i+1])
		require.Equal(t, eventTypeLine{of.Name, of.Description}, lines[i])
	}
}

func TestAllSchemasAreOneDocument(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, (&eventSchemasCmd{}).do(&out))
	require.NotContains(t, out.String(), `\u003c`, "it is for people too")
	var schemas map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(out.Bytes(), &schemas))
	require.Len(t, schemas, len(cloudevent.Types())+1)
	for name, schema := range schemas {
		want, ok := cloudevent.SchemaOf(name)
		require.True(t, ok, name)
		require.JSONEq(t, string(want), string(schema))
	}
	require.Contains(t, schemas, cloudevent.EnvelopeName)
}

func TestSchemasAreWrittenAsFiles(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "schemas")
	var out bytes.Buffer
	for range 2 { // the second time over the files of the first
		require.NoError(t, (&eventSchemasCmd{Out: dir}).do(&out))
	}
	require.Empty(t, out.String())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, len(cloudevent.Types())+1)
	for _, entry := range entries {
		name, isJSON := strings.CutSuffix(entry.Name(), ".json")
		require.True(t, isJSON)
		want, ok := cloudevent.SchemaOf(name)
		require.True(t, ok, name)
		body, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		require.NoError(t, err)
		require.Equal(t, want, body)
	}
	file := filepath.Join(dir, entries[0].Name())
	require.ErrorContains(t, (&eventSchemasCmd{Out: file}).do(&out), "make folder for schemas: ")
}

func TestCommandsOfEventsNeedNoDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, args := range [][]string{{"events", "types", "--json"}, {"events", "schemas", "--out", dir}} {
		var c cli
		k, err := kong.New(&c, kong.Vars{"version": "test", "data": t.TempDir()})
		require.NoError(t, err)
		parsed, err := k.Parse(args)
		require.NoError(t, err, args)
		require.Equal(t, strings.Join(args[:2], " "), parsed.Command())
		if args[1] == "schemas" {
			require.NoError(t, parsed.Run(), "without a context, or settings")
			require.FileExists(t, filepath.Join(dir, "transfer.settled.json"))
		}
	}
}

func TestHowFarEventsAreBehindIsPrinted(t *testing.T) {
	t.Parallel()
	d, out := setup(t)
	_, err := d.pool.Exec(t.Context(), `
WITH tenant AS (INSERT INTO tenants (id, name) VALUES (gen_random_uuid(), 'lagging') RETURNING id), event AS (
    INSERT INTO events (tenant_id, aggregate_id, seq, type, to_state, actor, at)
    SELECT id, id, 1, 'thing.moved', 'x', 'test', now() - interval '1 hour' FROM tenant)
INSERT INTO event_sinks (name, last, holder, claims, held_until) VALUES ('broker', 0, 'nobody', 1, now())`)
	require.NoError(t, err)
	require.NoError(t, (&eventLagCmd{}).do(t.Context(), d))
	require.Regexp(t, `(?m)^outbox +- +- +36\d\d\.\d$`, out.String())
	require.Regexp(t, `(?m)^sink +broker +0 +0\.0$`, out.String())
	require.Regexp(t, `(?m)^consumer +\S+ +- +0\.0$`, out.String())
	out.Reset()
	require.NoError(t, (&eventLagCmd{output{JSON: true}}).do(t.Context(), d))
	lines := decoded[lagLine](t, out)
	require.Equal(t, "outbox", lines[0].Where)
	require.Greater(t, lines[0].AgeSeconds, 3599.0)
	require.Zero(t, *lines[1].Events)
}
