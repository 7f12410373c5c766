package transfertest

import (
	"context"
	"strings"

	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/payout"
)

// Rail is a scripted payout rail. It pays every submission at once, also a second one under the same
// reference, since it ignores keys; only a withdrawal stops it. What it did is in its journal by reference,
// and by transfer in Paid.
type Rail struct {
	dependency
	receipts map[string]payout.Receipt
	paid     map[string]int
	answer   payout.Receipt
	late     map[string]payout.Request
}

func newRail() *Rail {
	return &Rail{
		dependency: newDependency("payout_rail"), receipts: map[string]payout.Receipt{},
		paid: map[string]int{}, answer: payout.Receipt{Status: payout.StatusPaid},
		late: map[string]payout.Request{},
	}
}

// Answer lets every submission from now on end in a receipt.
func (r *Rail) Answer(a payout.Receipt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = a
}

// Finish lets a pending payout end.
func (r *Rail) Finish(reference string, a payout.Receipt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.receipts[reference] = a
	if a.Status == payout.StatusPaid {
		r.paid[reference]++
	}
}

// Arrive lets every submission arrive that was lost on its way, as late as it is.
func (r *Rail) Arrive() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for reference, q := range r.late {
		r.take(q)
		delete(r.late, reference)
	}
}

// Paid is how often a transfer was paid, under whichever references.
func (r *Rail) Paid(transferID string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for reference, times := range r.paid {
		if strings.HasPrefix(reference, transferID+"/") {
			n += times
		}
	}
	return n
}

// Submit takes a payout. A fault that does not act loses it on its way: see Arrive.
func (r *Rail) Submit(ctx context.Context, q payout.Request) (payout.Receipt, error) {
	f, err := r.arrive(ctx, q.Reference)
	if err != nil {
		return payout.Receipt{}, err
	}
	if refused := (&outbound.Error{Kind: f.Kind}); !refused.Deferred() {
		if err := outbound.Begin(ctx); err != nil {
			return payout.Receipt{}, err
		}
		r.sent(q.Reference, f)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var receipt payout.Receipt
	switch {
	case f.acts():
		receipt = r.take(q)
	case f.Kind == outbound.KindTimeout || f.Kind == outbound.KindAmbiguous:
		r.late[q.Reference] = q
	}
	return receipt, r.failure("submit", f, nil)
}

// take does a submission; mu is held.
func (r *Rail) take(q payout.Request) payout.Receipt {
	if known, ok := r.receipts[q.Reference]; ok && known.Status == payout.StatusWithdrawn {
		return known
	}
	receipt := r.answer
	receipt.RailReference = "rail-" + q.Reference
	r.receipts[q.Reference] = receipt
	r.of(q.Reference).Effects++
	if receipt.Status == payout.StatusPaid {
		r.paid[q.Reference]++
	}
	return receipt
}

// Find says how a payout stands.
func (r *Rail) Find(ctx context.Context, reference string) (payout.Receipt, bool, error) {
	f, err := r.arrive(ctx, reference)
	if err == nil {
		err = r.failure("find", f, nil)
	}
	if err != nil {
		return payout.Receipt{}, false, err
	}
	r.found(reference)
	r.mu.Lock()
	defer r.mu.Unlock()
	receipt, known := r.receipts[reference]
	return receipt, known, nil
}

// Withdraw makes sure that a payout that is not paid never will be.
func (r *Rail) Withdraw(ctx context.Context, reference string) (payout.Receipt, error) {
	f, err := r.arrive(ctx, reference)
	if err != nil {
		return payout.Receipt{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.acts() {
		if known, ok := r.receipts[reference]; !ok || known.Status == payout.StatusPending {
			r.receipts[reference] = payout.Receipt{Status: payout.StatusWithdrawn}
		}
	}
	return r.receipts[reference], r.failure("withdraw", f, nil)
}
