package transfer

import (
	"context"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer/internal/transferdb"
)

// Reversal asks for the way back of a settled transfer, or of a part of it.
type Reversal struct {
	Key idempotency.Keyed
	ID  uuid.UUID
	// Amount is how much to reverse, in minor units; zero is all that is left.
	Amount          int64
	ClientReference string
	Metadata        []byte
	Actor, Cause    string
	Render          func([]Result) idempotency.Response
}

// Reverse accepts a transfer that takes an earlier one back.
func (s *Service) Reverse(ctx context.Context, r Reversal) (idempotency.Response, error) {
	original, err := s.Get(ctx, Ref{r.Key.TenantID, r.ID})
	if err != nil {
		return idempotency.Response{}, err
	}
	amount := original.Amount
	if r.Amount != 0 {
		amount.Value = r.Amount
	}
	return s.Create(ctx, Create{
		Key: r.Key, Actor: r.Actor, Cause: r.Cause, Render: r.Render,
		Items: []New{{
			FromAccount: original.ToAccount, ToAccount: original.FromAccount, Amount: amount,
			ClientReference: r.ClientReference, Metadata: r.Metadata,
			reverses: original.ID, allLeft: r.Amount == 0,
		}},
	})
}

// checkReversal bounds the sum of the reversals of a settled transfer by its amount, and says how much
// this one takes back.
func (b *acceptBatch) checkReversal(t Transfer, allLeft bool) (int64, error) {
	if t.Reverses == uuid.Nil {
		return t.Amount.Value, nil
	}
	original := b.originals[Ref{t.TenantID, t.Reverses}]
	switch {
	case original == nil:
		return 0, notFound(t.Reverses)
	case original.State != Settled || original.Reverses != uuid.Nil:
		return 0, problem.New(problem.NotReversible,
			"Only a settled transfer that is no reversal can be reversed.")
	case original.Payout:
		return 0, problem.New(problem.NotReversible,
			"Transfer %s was paid out: what comes back is a transfer of its own.", original.ID)
	}
	left, amount := original.Amount.Value-original.Reversed, t.Amount.Value
	if allLeft && left > 0 {
		amount = left
	}
	if amount > left {
		return 0, problem.New(problem.ReversalTooLarge,
			"%d of transfer %s is left to reverse.", left, original.ID)
	}
	return amount, nil
}

// addReversed queues what reversals add to the reversed amount of their originals, or give back.
func addReversed(ctx context.Context, write *pgx.Batch, reversed map[Ref]int64) error {
	if len(reversed) == 0 {
		return nil
	}
	var p transferdb.AddReversedParams
	for _, ref := range slices.SortedFunc(maps.Keys(reversed), compareRefs) {
		p.Tenants, p.Ids = append(p.Tenants, ref.TenantID), append(p.Ids, ref.ID)
		p.Amounts = append(p.Amounts, reversed[ref])
	}
	return transferdb.New().AddReversed(ctx, pgtx.Into(write), p)
}
