package load

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/loadtest/rig"
)

var update = flag.Bool("update", false, "write the golden files of testdata")

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// sample is a report with something in each place.
func sample() Report {
	answer := Latency{Count: 900, P50: 2.4, P90: 5, P99: 22.41, P999: 40.2, P9999: 61, Max: 61.3}
	whole := Share{
		Name: "whole", Sent: 1000, Good: 900, Refused: 90, Wrong: 8, Failed: 2,
		Codes:  map[string]uint64{"overloaded": 80, "rate_limited": 10},
		Others: map[string]uint64{"500 internal": 8},
		Told:   90, RetryAfterMin: 1, RetryAfterMean: 1.4, RetryAfterMax: 2, Answer: answer,
		Refusal:   Latency{Count: 90, P50: 1, P99: 3.2},
		Completed: Latency{Count: 600, P50: 11.2, P99: 140}, Accepted: 600, Succeeded: 590,
		Ends: map[string]int{"settled": 590, "failed": 9, "open": 1}, Seconds: 10, OfferedPerSecond: 100,
		GoodputPerSecond: 59,
	}
	named := func(name string) Share {
		s := whole
		s.Name = name
		return s
	}
	r := Report{
		At: "2026-01-02 03:04", Target: "http://127.0.0.1:8080", Machine: "2 cores", Mix: "mixed",
		Profile: "spike", Arrivals: "poisson", Rate: 100, Seconds: 10, Seed: 1, Callers: 64, Accounts: 50,
		Tenants: 2, Whole: whole, Stages: []Share{named("before"), named("spike"), named("after")},
		Kinds: []Share{named("transfer")}, Classes: []Share{named("critical"), named("sheddable")},
		Late:         answer,
		DrainSeconds: 0.14, FeedSeconds: 0.2,
		Claims: []Claim{
			none("it ended once", 600, nil), none("it ended", 600, []string{"a | b", "c", "d", "e"}),
		},
	}
	for i := range 10 {
		at := float64(i)
		r.Points = append(r.Points, Point{
			At: at, Seconds: 1, Offered: 100, Good: 90, Refused: 9, Completed: 60, AnswerP50: 2 + at,
			AnswerP99: 20 * (1 + at), CompletedP50: 10, CompletedP99: 100 + 50*at,
		})
	}
	return r
}

func TestAReportReadsAsItDid(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	r := sample()
	require.NoError(t, r.Markdown(&b))
	golden(t, "report.md", b.String())
	for name, picture := range r.Plots() {
		golden(t, name, picture)
		for d := xml.NewDecoder(strings.NewReader(picture)); ; {
			if _, err := d.Token(); err != nil {
				require.ErrorIs(t, err, io.EOF, name)
				break
			}
		}
	}
}

func TestAReportIsSavedAndReadAgain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	r := sample()
	require.NoError(t, r.Save(dir))
	back, err := Load(dir)
	require.NoError(t, err)
	require.Equal(t, r, back)
	for _, name := range []string{MarkdownFile, JSONFile, "rates.svg", "latency.svg", "percentiles.svg"} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Positive(t, info.Size())
	}
	_, err = Load(filepath.Join(dir, MarkdownFile))
	require.ErrorContains(t, err, "is none")
	_, err = Load(filepath.Join(dir, "nowhere"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Error(t, r.Save(filepath.Join(dir, MarkdownFile)), "a file is no folder")
}

func TestOnlyClaimsDecideTheVerdict(t *testing.T) {
	t.Parallel()
	r := sample()
	require.False(t, r.Holds())
	r.Claims = r.Claims[:1]
	require.True(t, r.Holds(), "though requests failed and were slow")
	r.Claims = nil
	require.False(t, r.Holds(), "nothing was checked")
}

func TestTwoReportsAreCompared(t *testing.T) {
	t.Parallel()
	a, b := sample(), sample()
	a.Claims, b.Claims = a.Claims[:1], b.Claims[:1]
	same := Compare(&a, &b, 0.2)
	require.False(t, same.Worse())
	require.True(t, same.Holds)
	require.Empty(t, same.Unlike)

	b.Rate, b.Whole.GoodputPerSecond = 200, 30
	b.Whole.Answer.P50 = 4.9 // twice as long, and nothing that one could tell from noise
	b.Kinds[0].Answer.P99 = 30
	c := Compare(&a, &b, 0.2)
	var worse []string
	for _, d := range c.Differences {
		if d.Worse {
			worse = append(worse, d.Part+" "+d.Figure)
		}
	}
	require.Equal(t, []string{"whole goodput/s", "transfer answer p99 ms"}, worse)
	require.Equal(t, []string{"rate: 100 and 200"}, c.Unlike)
	loose := Compare(&a, &b, 0.6)
	require.False(t, loose.Worse(), "what is worse is for the one who compares to say")

	b.Claims = sample().Claims
	c = Compare(&a, &b, 0.2)
	require.False(t, c.Holds)
	var text strings.Builder
	require.NoError(t, c.Markdown(&text))
	require.Contains(t, text.String(), "Not the same load: rate: 100 and 200.")
	require.Contains(t, text.String(), "In B a claim does not hold")
	require.Contains(t, text.String(), "| whole | goodput/s | 59.0 | 30.0 | -49 % | **worse** |")
	require.ErrorIs(t, c.Markdown(broke{}), errBroke)
}

var errBroke = errors.New("broke")

type broke struct{}

func (broke) Write([]byte) (int, error) { return 0, errBroke }

func TestLatenciesAreThoseOfTheHistogram(t *testing.T) {
	t.Parallel()
	var h rig.Histogram
	for i := range 10_000 {
		h.Add(time.Duration(i+1) * time.Millisecond / 10)
	}
	l := latencyOf(&h)
	require.EqualValues(t, 10_000, l.Count)
	for want, got := range map[float64]float64{500: l.P50, 900: l.P90, 990: l.P99, 999: l.P999, 1000: l.Max} {
		require.InEpsilon(t, want, got, 0.008)
		require.GreaterOrEqual(t, got, want)
	}
}
