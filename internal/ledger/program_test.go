package ledger_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/problem"
)

// op is one step of a random program. What it does not need it ignores.
type op struct {
	kind     string
	from, to int
	amount   int64
	// pick chooses one of the holds that the worker has, part how much of it is captured, in percent.
	pick, part int
}

// ownHold is an active hold of a worker: only its owner ends it, like a transfer's.
type ownHold struct {
	from   int
	id     uuid.UUID
	amount int64
}

// worker runs its batches one after the other, beside other workers.
type worker struct {
	bundle   *bundle
	accounts []ledger.Ref
	batches  [][]op
	holds    []ownHold
	paid     []int64 // by account: what came in minus what went out
}

func (w *worker) run(ctx context.Context) error {
	for _, batch := range w.batches {
		holds, paid := w.holds, w.paid
		err := w.bundle.do(ctx, w.accounts, func(book *ledger.Book) error {
			w.holds, w.paid = append([]ownHold(nil), holds...), append([]int64(nil), paid...)
			for _, o := range batch {
				if err := w.step(book, o); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) step(book *ledger.Book, o op) error {
	from, to := w.accounts[o.from], w.accounts[o.to]
	if o.kind == "hold" {
		id := uuid.New()
		err := book.Hold(from, id, o.amount, book.Now())
		if problem.Is(err, problem.InsufficientFunds) {
			return nil
		}
		w.holds = append(w.holds, ownHold{o.from, id, o.amount})
		return err
	}
	if len(w.holds) == 0 {
		return nil
	}
	i := o.pick % len(w.holds)
	h := w.holds[i]
	w.holds = append(w.holds[:i], w.holds[i+1:]...)
	from = w.accounts[h.from]
	switch {
	case o.kind == "expire":
		return book.Release(from, h.id, h.amount, ledger.HoldExpired)
	case o.kind == "release" || h.from == o.to:
		return book.Release(from, h.id, h.amount, ledger.HoldReleased)
	}
	part := max(1, h.amount*int64(o.part)/100)
	w.paid[h.from] -= part
	w.paid[o.to] += part
	return book.Settle(from, to, h.id, h.amount, part)
}

func drawBatches(t *rapid.T, accounts int) [][]op {
	kinds := []string{"hold", "hold", "settle", "settle", "release", "expire"}
	one := rapid.Custom(func(t *rapid.T) op {
		return op{
			kind:   rapid.SampledFrom(kinds).Draw(t, "kind"),
			from:   rapid.IntRange(0, accounts-1).Draw(t, "from"),
			to:     rapid.IntRange(0, accounts-1).Draw(t, "to"),
			amount: rapid.Int64Range(1, 80).Draw(t, "amount"),
			pick:   rapid.IntRange(0, 99).Draw(t, "pick"),
			part:   rapid.SampledFrom([]int{1, 50, 99, 100, 100, 100}).Draw(t, "part"),
		}
	})
	batch := rapid.SliceOfN(one, 1, 12)
	return rapid.SliceOfN(batch, 1, 5).Draw(t, "batches")
}

// TestRandomProgramsKeepTheInvariants runs random batches of several workers at once on the same
// accounts, and compares what is stored with what the workers know.
func TestRandomProgramsKeepTheInvariants(t *testing.T) {
	t.Parallel()
	b := setup(t)
	rapid.Check(t, func(rt *rapid.T) {
		b := b // each program has a tenant of its own
		b.newTenant(rt)
		opening := rapid.SliceOfN(rapid.Int64Range(0, 200), 2, 4).Draw(rt, "opening")
		accounts := make([]ledger.Ref, len(opening))
		for i, amount := range opening {
			accounts[i] = b.user(rt, amount)
		}
		workers := make([]*worker, rapid.IntRange(1, 3).Draw(rt, "workers"))
		group, ctx := errgroup.WithContext(t.Context())
		for i := range workers {
			workers[i] = &worker{
				bundle: &b, accounts: accounts, paid: make([]int64, len(accounts)),
				batches: drawBatches(rt, len(accounts)),
			}
		}
		for _, w := range workers {
			group.Go(func() error { return w.run(ctx) })
		}
		require.NoError(rt, group.Wait())
		for i, ref := range accounts {
			posted, held := opening[i], int64(0)
			for _, w := range workers {
				posted += w.paid[i]
				for _, h := range w.holds {
					if h.from == i {
						held += h.amount
					}
				}
			}
			a := b.account(rt, ref)
			require.Equal(rt, []int64{posted, held}, []int64{a.Posted, a.Held})
			require.GreaterOrEqual(rt, a.Available(), int64(0))
		}
	})
	b.requireInvariants(t)
}
