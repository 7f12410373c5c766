package drill

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// failing are the names of claims that do not hold.
func failing(claims []Claim) []string {
	var names []string
	for _, c := range claims {
		if !c.Holds {
			names = append(names, c.Name)
		}
	}
	return names
}

func TestEveryClaimAboutWhatArrivesCanFail(t *testing.T) {
	t.Parallel()
	one, other := uuid.New(), uuid.New()
	id := func(aggregate uuid.UUID, seq int) string { return fmt.Sprintf("%s-%d", aggregate, seq) }
	event := func(aggregate uuid.UUID, seq int) []byte {
		return fmt.Appendf(nil, `{"id":%q,"subject":%q,"time":"2026-01-01T00:00:00Z","data":{"seq":%d}}`,
			id(aggregate, seq), aggregate, seq)
	}
	happened := []string{id(one, 1), id(one, 2), id(other, 1)}
	at := time.Date(2026, 1, 1, 0, 0, 1, 0, time.UTC)
	took := func(events ...[]byte) *arrivals {
		a := newArrivals("reader")
		for _, e := range events {
			a.take(e, at)
		}
		return a
	}
	well := took(event(one, 1), event(other, 1), event(one, 1), event(one, 2), event(one, 1))
	require.Empty(t, failing(well.claims(happened)), "repeats are allowed, late ones too")
	require.Equal(t, 2, well.repeats())
	require.Equal(t, []time.Duration{time.Second}, well.since(2))

	for name, c := range map[string]struct {
		got   *arrivals
		fails []string
	}{
		"one is lost": {
			took(event(one, 1), event(one, 2)), []string{"reader: events that are lost", "reader: events"},
		},
		"two are turned round": {
			took(event(one, 2), event(other, 1), event(one, 1)),
			[]string{"reader: aggregates whose order is turned round"},
		},
		"one never happened": {
			took(event(one, 1), event(one, 2), event(one, 3), event(other, 1)), []string{"reader: events"},
		},
		"one makes no sense": {
			took(event(one, 1), event(one, 2), event(other, 1), []byte("nonsense")),
			[]string{"reader: what makes no sense"},
		},
		"one has the id of another": {
			took(event(one, 1), event(one, 2), event(other, 1),
				fmt.Appendf(nil, `{"id":"x-1","subject":%q}`, one)),
			[]string{"reader: what makes no sense"},
		},
	} {
		require.Equal(t, c.fails, failing(c.got.claims(happened)), name)
	}
}
