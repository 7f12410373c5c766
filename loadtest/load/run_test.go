package load

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/loadtest/rig"
)

// childVariable makes the test program a process of a private system.
const childVariable = "LOAD_TEST_CHILD"

func TestMain(m *testing.M) {
	if _, is := os.LookupEnv(childVariable); is {
		//nolint:forbidigo // a program of its own
		if err := rig.Serve(context.Background(), os.Environ(), os.Stdin, os.Stdout); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:forbidigo // a program of its own
		}
		return
	}
	pgtest.Main(m)
}

func TestAPrivateSystemKeepsItsPromisesUnderAllKindsOfRequests(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a PostgreSQL and three processes")
	}
	program, err := os.Executable()
	require.NoError(t, err)
	p, err := StartPrivate(t.Context(), PrivateOptions{
		Command: []string{program}, Environ: []string{childVariable + "=1"}, Workers: 2, Tenants: 2,
		Logs: t.Output(), Volatile: true,
		Now: time.Now, Env: os.Getenv, //nolint:forbidigo // what main does
	})
	t.Cleanup(func() { require.NoError(t, p.Stop()) })
	require.NoError(t, err)
	o := Options{
		URL: p.URL, Keys: p.Keys, Database: p.Database, Mix: "mixed", Profile: "spike", Rate: 100,
		Duration: 2 * time.Second, RequestsMax: 1_000, Seed: 1, Poisson: true, Callers: 64, Accounts: 5,
		Fund: 20_000, Currency: "EUR", Drain: time.Minute, Progress: t.Output(),
		Now: time.Now, //nolint:forbidigo // a load runs by the wall clock
	}
	r := loaded(t, o)
	require.True(t, r.Holds(), "%+v", r.Claims)
	require.Len(t, r.Claims, 9, "all claims were checked")
	require.Equal(t, 2, r.Tenants)
	require.Len(t, r.Classes, 3)
	require.Positive(t, r.Whole.Ends["settled"])
	require.Positive(t, r.Whole.Ends["confirmed"])
	require.Positive(t, r.Whole.Completed.P50)

	o.Mix = "duplicates"
	again := loaded(t, o)
	require.True(t, again.Holds(), "accounts of before are found and used again: %+v", again.Claims)

	made, err := MakeTenantKeys(t.Context(), TenantKeysOptions{
		Database: p.Database, Tenant: "a newcomer", Accounts: o.Accounts, Fund: o.Fund, Currency: o.Currency,
		Now: o.Now,
	})
	t.Cleanup(func() { require.NoError(t, made.Revoke(t.Context())) })
	require.NoError(t, err)
	o.Keys = made.Keys
	own := loaded(t, o)
	require.True(t, own.Holds(), "a tenant that was not there can do it as well: %+v", own.Claims)
	require.Equal(t, 1, own.Tenants)
	require.Len(t, own.Classes, 3)
}
