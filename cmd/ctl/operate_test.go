package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/httpapi"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tenancy"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// setup is a desk on a database of its own, and what it printed.
func setup(t *testing.T) (desk, *bytes.Buffer) {
	t.Helper()
	cfg, err := config.Load([]string{"DATABASE_URL=" + pgtest.DB(t).URL})
	require.NoError(t, err)
	out := &bytes.Buffer{}
	d, err := openDesk(t.Context(), cfg, out)
	require.NoError(t, err)
	t.Cleanup(d.pool.Close)
	return d, out
}

func decoded[T any](t *testing.T, out *bytes.Buffer) []T {
	t.Helper()
	require.Equal(t, 1, strings.Count(out.String(), "\n"), "JSON is one line")
	var lines []T
	require.NoError(t, json.Unmarshal(out.Bytes(), &lines))
	out.Reset()
	return lines
}

// fields are the cells of a table that have no space in them.
func fields(out *bytes.Buffer) [][]string {
	var rows [][]string
	for line := range strings.Lines(out.String()) {
		rows = append(rows, strings.Fields(line))
	}
	out.Reset()
	return rows
}

func TestALimitIsSetAndListed(t *testing.T) {
	t.Parallel()
	d, out := setup(t)
	_, err := d.pool.Exec(t.Context(), `
INSERT INTO dependency_limits (dependency, version, places, actor, reason)
VALUES ('risk_api', 1, 8, 'default', 'first')`)
	require.NoError(t, err)
	set := setLimitCmd{Name: "risk_api", Places: 3, Reason: "moved"}
	require.NoError(t, set.do(t.Context(), d))
	rows := fields(out)
	require.Len(t, rows, 2)
	require.Equal(t, []string{"risk_api", "3", "2", actor()}, rows[1][:4])

	list := listDependenciesCmd{output{JSON: true}}
	require.NoError(t, list.do(t.Context(), d))
	lines := decoded[dependencyLine](t, out)
	require.Len(t, lines, 1)
	require.WithinDuration(t, time.Now(), lines[0].SetAt, time.Minute)
	lines[0].SetAt = time.Time{}
	require.Equal(t, dependencyLine{
		Dependency: "risk_api", Places: 3, Holders: []holderLine{}, Version: 2, Actor: actor(),
		Reason: "moved",
	}, lines[0])

	history := historyCmd{output{JSON: true}, "risk_api"}
	require.NoError(t, history.do(t.Context(), d))
	versions := decoded[limitLine](t, out)
	require.Len(t, versions, 2)
	versions[1].SetAt = time.Time{}
	require.Equal(t, limitLine{
		Dependency: "risk_api", Places: 8, Version: 1, Actor: "default", Reason: "first",
	}, versions[1])
	history.Name = "nobody"
	require.EqualError(t, history.do(t.Context(), d), "not_found: There is no dependency of this name.")

	set.Places = 0
	require.EqualError(t, set.do(t.Context(), d), "places has to be 1 to 1000")
	set.Places, set.Name = 3, "nobody"
	require.EqualError(t, set.do(t.Context(), d), "not_found: There is no dependency of this name.")
	require.Empty(t, out.String())
}

func TestAPostureIsSetForATenantByNameOrId(t *testing.T) {
	t.Parallel()
	d, out := setup(t)
	tenantID, err := tenancy.NewService(d.pool, time.Now).CreateTenant(t.Context(), "acme")
	require.NoError(t, err)
	for i, tenant := range []string{"acme", tenantID.String()} {
		set := setPostureCmd{Tenant: tenant, Currency: "EUR", OpenUpTo: 500, Reason: "it is down"}
		require.NoError(t, set.do(t.Context(), d))
		require.Equal(t, []string{"EUR", "500", []string{"1", "2"}[i], actor()}, fields(out)[1][:4])
	}
	list := listPosturesCmd{output{JSON: true}, "acme"}
	require.NoError(t, list.do(t.Context(), d))
	lines := decoded[postureLine](t, out)
	require.Len(t, lines, 2)
	require.EqualValues(t, 2, lines[0].Version)

	set := setPostureCmd{Tenant: "acme", Currency: "EUR", OpenUpTo: -1, Reason: "it is down"}
	require.ErrorContains(t, set.do(t.Context(), d), "open-up-to has to be 0 to")
	set.Tenant = "initech"
	require.True(t, problem.Is(set.do(t.Context(), d), problem.NotFound))
	set.Tenant, set.OpenUpTo = uuid.NewString(), 1
	require.True(t, problem.Is(set.do(t.Context(), d), problem.NotFound))
	list = listPosturesCmd{output{JSON: true}, uuid.NewString()}
	require.NoError(t, list.do(t.Context(), d))
	require.Equal(t, "[]\n", out.String())
}

func TestQueuesAndDeadLettersArePrinted(t *testing.T) {
	t.Parallel()
	d, out := setup(t)
	_, err := d.pool.Exec(t.Context(), `
INSERT INTO river_job (id, args, kind, max_attempts, queue, state, scheduled_at, priority, attempt, errors,
                       finalized_at)
VALUES (1, '{}', 'ping', 3, 'risk_api', 'available', now() - interval '1 hour', 2, 0, NULL, NULL),
       (2, '{}', 'ping', 3, 'db', 'discarded', now(), 1, 3, ARRAY['{"error":"bad args"}']::jsonb[], now())`)
	require.NoError(t, err)
	require.NoError(t, (&queuesCmd{}).do(t.Context(), d))
	require.Contains(t, out.String(), "LANE 1")
	require.Regexp(t, `(?m)^risk_api +- +36\d\d\.\d s +- +-$`, out.String())
	require.Regexp(t, `(?m)^db +- +- +- +-$`, out.String())
	out.Reset()
	require.NoError(t, (&queuesCmd{output{JSON: true}}).do(t.Context(), d))
	lines := decoded[queueLine](t, out)
	require.Len(t, lines, 4)
	require.Greater(t, lines[0].AgeSeconds[1], 3599.0)

	require.NoError(t, (&deadCmd{Limit: 50}).do(t.Context(), d))
	require.Regexp(t, `(?m)^\S+Z +job +2 +ping on db +attempts_exhausted +3 +bad args$`, out.String())
	out.Reset()
	require.NoError(t, (&deadCmd{output{JSON: true}, 50}).do(t.Context(), d))
	dead := decoded[deadLine](t, out)
	require.Equal(t, "bad args", dead[0].LastError)
	for _, limit := range []int{0, 201} {
		require.ErrorContains(t, (&deadCmd{Limit: limit}).do(t.Context(), d), "1 to 200")
	}
}

func TestATextThatAnybodyWroteDoesNotBreakTheTable(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a b c", cell(" a\tb\n c"))
	require.Equal(t, "-", cell(" \n"))
	require.Equal(t, strings.Repeat("a", 79)+"…", cell(strings.Repeat("a", 79)+"é!"))
	cells := lineOfDead(httpapi.DeadLetter{Kind: httpapi.DeadTransfer, Status: "failed"}).cells()
	require.Len(t, cells, len(strings.Split(deadHeader, "\t")))
	require.Equal(t, "failed", cells[3])
}

func TestTheHelpOfEveryCommandForOperatorsSaysItsUnits(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"dependency limit --help": "all processes", "posture set --help": "minor units",
		"dead-letters --help": "1 to 200", "queues --help": "lane",
	} {
		var out bytes.Buffer
		var c cli
		ended := false
		k, err := kong.New(&c, kong.Writers(&out, &out), kong.Exit(func(int) { ended = true }),
			kong.Vars{"version": "test", "data": t.TempDir()})
		require.NoError(t, err)
		_, _ = k.Parse(strings.Fields(args))
		require.True(t, ended)
		require.Contains(t, strings.Join(strings.Fields(out.String()), " "), want, args)
	}
}
