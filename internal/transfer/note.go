package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/fault"
	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/transfer/internal/transferdb"
)

// The steps that call a dependency, as the ledger of attempts names them.
const (
	stepScreen = "screen"
	stepPayout = "payout"
	stepNotify = "notify"
)

// What the ledger of attempts calls a step whose end was not that of a call: it broke in our own code, or it
// was held up by others.
const (
	kindBroken = "broken"
	kindHeldUp = "held_up"
)

// note is what a step came to that moved nothing.
type note struct {
	seen Transfer
	// after is the transfer with what changes by the note; its wake-up is set when it is written.
	after Transfer
	// retryIn is how long to wait with what is still to do. A claim waits for nothing: the job that makes it
	// goes on.
	retryIn time.Duration
	claim   bool
	// attempt is a call without an answer, for the ledger; one that was not made is not in it.
	attempt *attempt
}

// attempt is a call that gave no answer.
type attempt struct {
	id                 uuid.UUID
	step, kind, detail string
}

// again notes that a step gave no answer. A call that was never sent leaves the next one free to be sent; any
// other has to be asked about first.
func again(t Transfer, step string, wait time.Duration, cause error) note {
	n := waiting(t, wait)
	kind := kindBroken
	if passing(cause) {
		kind = kindHeldUp
	}
	if failure, ok := errors.AsType[*outbound.Error](cause); ok {
		kind = string(failure.Kind)
		if failure.Deferred() {
			return n
		}
		if failure.Kind != outbound.KindUnreachable {
			n.after.Sent++
		}
	} else {
		n.after.Sent++
	}
	n.attempt = &attempt{step: step, kind: kind, detail: clean(cause.Error())}
	return n
}

// waiting notes that there is nothing to do for a transfer for a while.
func waiting(t Transfer, wait time.Duration) note {
	n := note{seen: t, after: t, retryIn: wait}
	n.after.Attempts++
	return n
}

// told notes how the notification of a transfer ended.
func told(t Transfer, result string) note {
	n := note{seen: t, after: t}
	n.after.Notification = result
	return n
}

// note hands what a step came to to the group commit. Who comes too late reports success: it is done.
func (s *Service) note(ctx context.Context, n note) error {
	_, err := s.noted(ctx, n)
	if err != nil {
		return err
	}
	return fault.At(ctx, faultAfterNote)
}

// noted says whether the transfer still was what the step saw.
func (s *Service) noted(ctx context.Context, n note) (bool, error) {
	ctx, cancel := recording(ctx)
	defer cancel()
	if n.attempt != nil {
		id, err := uuid.NewV7()
		if err != nil {
			return false, fmt.Errorf("make attempt id: %w", err)
		}
		n.attempt.id = id
	}
	reached, err := s.notes.Do(ctx, n)
	if err != nil {
		return false, fmt.Errorf("note step of transfer %s: %w", n.seen.ID, err)
	}
	if !reached {
		s.cfg.Metrics.StaleMove()
		jobqueue.Count(ctx, jobqueue.OutcomeStale, 1)
		return false, nil
	}
	s.countUntold(n)
	if !n.claim { // else it goes on
		jobqueue.Count(ctx, n.outcome(), 1)
	}
	return true, nil
}

// outcome says in a word what the step came to, for the line of its job.
func (n note) outcome() string {
	switch n.after.Notification {
	case NotificationSent:
		return "told"
	case NotificationFailed:
		return "not_told"
	}
	return jobqueue.OutcomeAgain
}

// flushNotes writes a batch of notes in one transaction of two round trips, and says which reached their
// row. No state changes, so no balance is locked.
func (s *Service) flushNotes(ctx context.Context, notes []note) ([]bool, error) {
	var now time.Time
	reached := make([]bool, len(notes))
	err := pgtx.Pipeline(ctx, s.pool, "note steps",
		func(read *pgx.Batch) {
			pgtx.Read(read, func(r struct{ Now time.Time }) { now = r.Now }, "SELECT clock_timestamp()")
		},
		func(write *pgx.Batch) error {
			clear(reached)
			return writeNotes(ctx, write, notes, now, func(place int32) { reached[place] = true })
		})
	return reached, err
}

func writeNotes(
	ctx context.Context, write *pgx.Batch, notes []note, now time.Time, reached func(int32),
) error {
	p, again := decideNotes(notes, now)
	pgtx.Read(write, func(r struct{ Place int32 }) { reached(r.Place) },
		transferdb.NoteSteps, p.Places, p.Tenants, p.Ids, p.Versions, p.FromAttempts, p.ToAttempts,
		p.Notifications, p.Sents, p.Failures, p.PayoutTries, p.RailReferences, p.WakesAt)
	ledger := transferdb.InsertAttemptsParams{Now: now}
	for _, n := range notes {
		if n.attempt == nil {
			continue
		}
		ledger.Tenants = append(ledger.Tenants, n.seen.TenantID)
		ledger.Transfers = append(ledger.Transfers, n.seen.ID)
		ledger.Ids, ledger.Steps = append(ledger.Ids, n.attempt.id), append(ledger.Steps, n.attempt.step)
		ledger.Kinds = append(ledger.Kinds, n.attempt.kind)
		ledger.Details = append(ledger.Details, n.attempt.detail)
	}
	if ledger.Ids != nil {
		if err := transferdb.New().InsertAttempts(ctx, pgtx.Into(write), ledger); err != nil {
			return err
		}
	}
	return enqueue(write, again)
}

// decideNotes says what to write, in the order of ids so that two batches lock rows in one order, and
// which transfers need another wake-up. One that is open is looked at again when its promise ends, at the
// latest.
func decideNotes(notes []note, now time.Time) (transferdb.NoteStepsParams, []Transfer) {
	var p transferdb.NoteStepsParams
	var again []Transfer
	places := make([]int32, len(notes))
	for i := range notes {
		places[i] = int32(i)
	}
	slices.SortStableFunc(places, func(a, b int32) int {
		return compareRefs(notes[a].seen.Ref, notes[b].seen.Ref)
	})
	p.Places = places
	for _, place := range places {
		n := notes[place]
		t := n.after
		if !n.claim {
			t.WakeAt = time.Time{}
		}
		if kind, _ := nextStep(t); kind != "" && !n.claim {
			t.WakeAt = wakeIn(now, n.retryIn)
			if !t.State.Terminal() && t.PromiseAt.After(now) && t.PromiseAt.Before(t.WakeAt) {
				t.WakeAt = t.PromiseAt
			}
			again = append(again, t)
		}
		p.Tenants, p.Ids = append(p.Tenants, t.TenantID), append(p.Ids, t.ID)
		p.Versions = append(p.Versions, n.seen.Version)
		p.FromAttempts = append(p.FromAttempts, n.seen.Attempts)
		p.ToAttempts = append(p.ToAttempts, t.Attempts)
		p.Notifications = append(p.Notifications, t.Notification)
		p.Sents, p.Failures = append(p.Sents, t.Sent), append(p.Failures, t.Failures)
		p.PayoutTries = append(p.PayoutTries, t.PayoutTry)
		p.RailReferences = append(p.RailReferences, t.RailReference)
		p.WakesAt = append(p.WakesAt, t.WakeAt)
	}
	return p, again
}
