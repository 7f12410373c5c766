package drill

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func options(t *testing.T, scale float64) Options {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	return Options{
		Command: []string{program}, Environ: []string{childVariable + "=1"}, Progress: t.Output(),
		Logs: t.Output(), Scale: scale, Volatile: true,
		Now: time.Now, Env: os.Getenv, //nolint:forbidigo // what main does
	}
}

// TestARollingRestartIsPlayedToItsEnd runs the fastest scenario with all its processes.
func TestARollingRestartIsPlayedToItsEnd(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a PostgreSQL and seven processes")
	}
	r, err := Run(t.Context(), options(t, 0.05), Choice{Names: []string{"drain"}})
	require.NoError(t, err)
	require.Len(t, r.Outcomes, 1)
	require.Empty(t, r.Outcomes[0].Error)
	require.True(t, r.Holds(), "%+v", r.Outcomes[0].Claims)
	require.NotEmpty(t, r.Postgres)
}

func TestScenariosAreChosenByTheirNames(t *testing.T) {
	t.Parallel()
	all, err := pieces(false)
	require.NoError(t, err)
	names := map[string]bool{}
	var list strings.Builder
	require.NoError(t, List(&list))
	for _, s := range all {
		require.False(t, names[s.name], "%s is there twice", s.name)
		names[s.name] = true
		require.Positive(t, s.most)
		require.NotEmpty(t, s.variants)
		require.Contains(t, list.String(), s.name+" ")
		require.Contains(t, list.String(), s.about)
	}
	for _, name := range []string{
		"kills", "global-limit", "lost-replies", "clock-skew", "drain", "overload", "slow-dependency",
	} {
		require.True(t, names[name], name)
	}
	count := func(c Choice, broken bool) int {
		chosen, err := c.choose(broken)
		require.NoError(t, err)
		return len(chosen)
	}
	files := len(all) - len(long())
	require.Equal(t, files, count(Choice{}, false))
	require.Equal(t, files, count(Choice{Long: true}, true), "what is long has no broken variant")
	require.Equal(t, len(all), count(Choice{Long: true}, false))
	require.Less(t, count(Choice{Fast: true}, false), files)
	require.Positive(t, count(Choice{Fast: true}, false))
	some, err := Choice{Names: []string{"drain", "kills"}}.choose(false)
	require.NoError(t, err)
	require.Equal(t, []string{"drain", "kills"}, []string{some[0].name, some[1].name})
	_, err = Run(t.Context(), options(t, 1), Choice{Names: []string{"earthquake"}})
	require.ErrorContains(t, err, "earthquake")
	_, err = Run(t.Context(), options(t, 1), Choice{Files: []string{"earthquake.yaml"}})
	require.ErrorContains(t, err, "earthquake")
	_, err = Run(t.Context(), options(t, 0), Choice{Names: []string{"drain"}})
	require.ErrorContains(t, err, "scale")
}

func TestTheScaleShortensAndThins(t *testing.T) {
	t.Parallel()
	s := &stage{run: &run{o: Options{Scale: 0.1}}}
	require.Equal(t, 2*time.Second, s.long(20*time.Second))
	require.Equal(t, 20, s.times(200))
	require.Equal(t, 1, s.times(3), "nothing is done never")
}

// TestAfterAFailureNothingElseIsDone is what lets a scenario read like its description.
func TestAfterAFailureNothingElseIsDone(t *testing.T) {
	t.Parallel()
	s := &stage{run: &run{o: options(t, 1)}, outcome: &Outcome{Scenario: "test"}, err: io.ErrUnexpectedEOF}
	s.do(func() error { t.Error("done all the same"); return nil })
	s.wait(t.Context(), time.Hour)
	s.startWorkers(t.Context(), 2)
	s.kill(s.oldest())
	s.during(t.Context(), "calm", time.Hour)
	s.claim(atMost("claimed", 1, 2))
	s.figure("measured", "%d", 1)
	s.settle(t.Context())
	require.False(t, s.going(t.Context()))
	require.ErrorIs(t, s.err, io.ErrUnexpectedEOF)
	require.Empty(t, s.outcome.Claims)
	require.Empty(t, s.outcome.Figures)
	require.Empty(t, s.all)
}

func TestAWaitForAConditionIsBounded(t *testing.T) {
	t.Parallel()
	s := &stage{run: &run{o: options(t, 1)}}
	looks := 0
	s.until(t.Context(), "three looks", time.Minute, func() (bool, error) { looks++; return looks == 3, nil })
	require.NoError(t, s.err)
	s.until(t.Context(), "rain", time.Millisecond, func() (bool, error) { return false, nil })
	require.ErrorContains(t, s.err, "in vain for rain")
}

func TestAClockIsSetOffOnlyWhereThatIsPossible(t *testing.T) {
	t.Parallel()
	require.Empty(t, cannotFake(""))
	require.Nil(t, faketime(""))
	if faker() == "" {
		require.Contains(t, cannotFake("-2h"), "libfaketime")
	} else {
		require.Contains(t, faketime("-2h"), "FAKETIME=-2h")
	}
}
