package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/loadtest/load"
)

func parsed(t *testing.T, args ...string) (cli, string, error) {
	t.Helper()
	var c cli
	k, err := kong.New(&c, kong.Vars{"requests": "1000"})
	require.NoError(t, err)
	p, err := k.Parse(args)
	if err != nil {
		return c, "", err
	}
	return c, p.Command(), nil
}

func TestATargetHasToBeNamed(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"run"},
		{"run", "--url=http://localhost:1"},
		{"run", "--private", "--url=http://localhost:1", "--key=k"},
		{"run", "--private", "--key=k"},
		{"run", "--key=k"},
		{"run", "--keys-of=t", "--database=d"},
		{"run", "--url=http://localhost:1", "--keys-of=t", "--database=d", "--key=k"},
		{"run", "--private", "--keys-of=t", "--database=d"},
	} {
		c, _, err := parsed(t, args...)
		require.NoError(t, err)
		_, err = c.Run.options()
		require.ErrorIs(t, err, errTarget, args)
	}
	c, command, err := parsed(t, "run", "--private")
	require.NoError(t, err)
	require.Equal(t, "run", command)
	o, err := c.Run.options()
	require.NoError(t, err)
	require.Equal(t, "mixed", o.Mix)
	require.Equal(t, "steady", o.Profile)
	require.Zero(t, o.Duration, "the profile says how long")
	require.False(t, o.Anywhere)
}

func TestKeysAreMadeInADatabaseThatIsNamed(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "url")
	require.NoError(t, os.WriteFile(file, []byte("postgres://in/file\n"), 0o600))
	of := []string{"run", "--url=http://localhost:1", "--keys-of=t"}
	for flag, want := range map[string]string{
		"--database=postgres://named":                         "postgres://named",
		"--database-file=" + file:                             "postgres://in/file",
		"--database=postgres://named --database-file=" + file: "postgres://named",
	} {
		c, _, err := parsed(t, slices.Concat(of, strings.Fields(flag))...)
		require.NoError(t, err)
		o, err := c.Run.options()
		require.NoError(t, err)
		require.Equal(t, want, o.Database)
	}
	c, _, err := parsed(t, of...)
	require.NoError(t, err)
	_, err = c.Run.options()
	require.ErrorIs(t, err, errKeysOf)
	_, _, err = parsed(t, append(of, "--database-file="+file+"x")...)
	require.ErrorContains(t, err, file, "a file that is not there")
}

func TestFlagsSayWhatToSend(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	c, _, err := parsed(t, "run", "--url=http://10.0.0.1", "--key=hf_a", "--key=critical=hf_b=", "--mix=hot",
		"--profile=spike", "--rate=12.5", "--duration=3s", "--requests=9", "--arrivals=poisson", "--seed=4",
		"--callers=3", "--accounts=7", "--fund=2000", "--funder="+id.String(), "--anywhere", "--drain=5s")
	require.NoError(t, err)
	o, err := c.Run.options()
	require.NoError(t, err)
	require.Equal(t, []load.Key{{Class: "standard", Secret: "hf_a"}, {Class: "critical", Secret: "hf_b="}},
		o.Keys)
	require.Equal(t, []uuid.UUID{id}, o.Funders)
	require.Equal(t, 3*time.Second, o.Duration)
	require.InDelta(t, 12.5, o.Rate, 0)
	require.True(t, o.Poisson && o.Anywhere)
	require.Equal(t, []any{"hot", "spike", 9, uint64(4), 3, 7, int64(2000), 5 * time.Second},
		[]any{o.Mix, o.Profile, o.RequestsMax, o.Seed, o.Callers, o.Accounts, o.Fund, o.Drain})

	for _, bad := range []string{"--key=royal=hf_a", "--funder=me"} {
		c, _, err := parsed(t, "run", "--url=http://10.0.0.1", "--key=k", bad)
		require.NoError(t, err)
		_, err = c.Run.options()
		require.Error(t, err, bad)
	}
	_, _, err = parsed(t, "run", "--private", "--arrivals=sometimes")
	require.ErrorContains(t, err, "even")
}

func TestTheListNamesAll(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	require.NoError(t, list(&b))
	for _, m := range load.Mixes() {
		require.Contains(t, b.String(), m.Name+" ")
	}
	for _, p := range load.Profiles() {
		require.Contains(t, b.String(), p.Name+" ")
	}
}

func TestAWorseReportIsAnError(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	save := func(name string, goodput float64, broken int) string {
		r := load.Report{
			Mix: "mixed", Whole: load.Share{Name: "whole", GoodputPerSecond: goodput, Seconds: 1},
			Claims: []load.Claim{{Name: "it ended", Checked: 1, Broken: broken}},
		}
		require.NoError(t, r.Save(filepath.Join(dir, name)))
		return filepath.Join(dir, name)
	}
	a, same, slow, wrong := save("a", 100, 0), save("b", 90, 0), save("c", 70, 0), save("d", 100, 1)
	for path, want := range map[string]error{same: nil, slow: errWorse, wrong: errWorse} {
		c, command, err := parsed(t, "compare", a, path)
		require.NoError(t, err)
		require.Equal(t, "compare <a> <b>", command)
		var out strings.Builder
		require.ErrorIs(t, c.Compare.run(&out), want)
		require.Contains(t, out.String(), "| whole | goodput/s |")
	}
	require.Error(t, (&compareCmd{A: filepath.Join(dir, "nowhere"), B: a}).run(&strings.Builder{}))
}
