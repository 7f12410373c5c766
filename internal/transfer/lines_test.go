package transfer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

// book is a log that a test reads.
type book struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write adds lines.
func (b *book) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(text)
}

// sums adds up the rows and outcomes of all jobs of a kind.
func (b *book) sums(t *testing.T, kind string) (int, map[string]int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	rows, outcomes := 0, map[string]int{}
	for text := range strings.Lines(b.text.String()) {
		var l struct {
			Message  string         `json:"msg"`
			Kind     string         `json:"kind"`
			Rows     int            `json:"rows"`
			Outcomes map[string]int `json:"outcomes"`
		}
		require.NoError(t, json.Unmarshal([]byte(text), &l), text)
		if l.Message != "job done" || l.Kind != kind {
			continue
		}
		rows += l.Rows
		for outcome, n := range l.Outcomes {
			outcomes[outcome] += n
		}
	}
	return rows, outcomes
}

func TestTheLineOfAJobCountsWhatBecameOfEachOfItsTransfers(t *testing.T) {
	t.Parallel()
	b, log := transfertest.New(t), &book{}
	b.Risk.Decide(func(r risk.Request) risk.Decision {
		outcomes := map[int64]risk.Outcome{1: risk.OutcomeReview, 2: risk.OutcomeBlock}
		d := risk.Decision{Outcome: risk.OutcomeApprove, Reason: "so", Reference: "ref"}
		if o, other := outcomes[r.AmountValue]; other {
			d.Outcome = o
		}
		return d
	})
	b.Risk.Next(transfertest.Fault{Kind: outbound.KindTimeout}) // one of them has no answer at first
	items := []transfer.New{b.Item(1), b.Item(2), b.Item(3), b.Item(4)}
	_, err := b.Transfers.Create(t.Context(), b.Request("k1", items...))
	require.NoError(t, err)
	canceled := b.Create(t, "k2", 5)
	_, err = b.Transfers.Act(t.Context(), b.Action("c1", canceled, transfer.Cancel, "not wanted"))
	require.NoError(t, err)

	cfg := b.Config(t, "worker")
	cfg.Log = slog.New(slog.NewJSONHandler(log, nil))
	w := transfertest.NewWorker(t, b.DB.URL, cfg)
	require.NoError(t, w.Start(t.Context()))
	t.Cleanup(func() { _ = w.Stop(context.WithoutCancel(t.Context())) })
	b.WaitQuiet(t)
	require.NoError(t, w.Stop(context.WithoutCancel(t.Context())))
	rows, outcomes := log.sums(t, "transfer_screen")
	require.Equal(t, map[string]int{
		"settled": 2, "blocked": 1, "in_review": 1, "again": 1, "not_due": 1,
	}, outcomes)
	require.Equal(t, 6, rows, "the one that is tried again is in two jobs")
	_, outcomes = log.sums(t, "transfer_notify")
	require.Equal(t, map[string]int{"told": 4}, outcomes)
}

func TestTheLineOfAJobSaysWhatItGaveBack(t *testing.T) {
	t.Parallel()
	b, log := transfertest.New(t), &book{}
	b.Risk.Next(transfertest.Fault{Kind: outbound.KindFull})
	id := b.Create(t, "k1", 1)
	cfg := b.Config(t, "worker")
	cfg.Log = slog.New(slog.NewJSONHandler(log, nil))
	w := transfertest.NewWorker(t, b.DB.URL, cfg)
	require.NoError(t, w.Start(t.Context()))
	t.Cleanup(func() { _ = w.Stop(context.WithoutCancel(t.Context())) })
	b.WaitTerminal(t, id)
	require.NoError(t, w.Stop(context.WithoutCancel(t.Context())))
	_, outcomes := log.sums(t, "transfer_screen")
	require.Equal(t, map[string]int{"handed_back": 1, "settled": 1}, outcomes)
}
