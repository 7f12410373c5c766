package outbound

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// Kind says how a call ended. The set is closed.
type Kind string

// The kinds, in the order in which a call can meet them.
const (
	KindOK            Kind = "ok"             // in observations only
	KindInTransaction Kind = "in_transaction" // refused: a transaction is open
	KindOpen          Kind = "open"           // refused: the dependency fails, its breaker is open
	KindRetryBudget   Kind = "retry_budget"   // refused: too many repeats for the number of first tries
	KindFull          Kind = "full"           // refused: no place at the bulkhead within the wait
	KindNoBudget      Kind = "no_budget"      // refused: the time of the caller, or of its place, is used up
	KindWithheld      Kind = "withheld"       // the caller kept it back when it had its place
	KindCanceled      Kind = "canceled"       // the caller left
	KindTimeout       Kind = "timeout"        // no complete reply in time
	KindUnreachable   Kind = "unreachable"    // no connection, so nothing was sent
	KindAmbiguous     Kind = "ambiguous"      // the connection failed before a complete reply
	KindStatus5xx     Kind = "status_5xx"     // the dependency failed
	KindStatus4xx     Kind = "status_4xx"     // the dependency refused
	KindBadReply      Kind = "bad_reply"      // a complete reply that makes no sense
)

// Error is the only error type that Do returns.
type Error struct {
	Dependency string
	Operation  string
	Kind       Kind
	Status     int           // of the reply, 0 without one
	RetryAfter time.Duration // asked for by the dependency, or by the door that refused; 0 for neither
	P95        time.Duration // 95 % of recent successful attempts were faster; 0 if there were none
	Sent       bool          // false only if certainly nothing reached the dependency
	Err        error         // the cause
}

// Error names the dependency and the operation first.
func (e *Error) Error() string {
	return fmt.Sprintf("%s.%s %v", e.Dependency, e.Operation, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Retryable reports whether a later attempt with a fresh budget may end differently. If the effect
// may have happened as well, ask the dependency by the effect key first.
func (e *Error) Retryable() bool {
	switch e.Kind {
	case KindOpen, KindRetryBudget, KindFull, KindNoBudget, KindCanceled, KindTimeout, KindUnreachable,
		KindAmbiguous, KindStatus5xx:
		return true
	case KindStatus4xx:
		return e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout
	case KindOK, KindInTransaction, KindWithheld, KindBadReply:
		return false
	}
	return false
}

// MayHaveHappened reports whether the dependency may have acted.
func (e *Error) MayHaveHappened() bool {
	switch e.Kind {
	case KindCanceled, KindTimeout, KindAmbiguous, KindStatus5xx, KindBadReply:
		return e.Sent
	case KindOK, KindInTransaction, KindOpen, KindRetryBudget, KindFull, KindNoBudget, KindWithheld,
		KindUnreachable, KindStatus4xx:
		return false
	}
	return true
}

// Deferred reports whether the door refused the call for want of room, before any attempt: it counts as
// not tried yet, and is made later.
func (e *Error) Deferred() bool {
	switch e.Kind {
	case KindOpen, KindRetryBudget, KindFull, KindNoBudget:
		return true
	case KindOK, KindInTransaction, KindWithheld, KindCanceled, KindTimeout, KindUnreachable,
		KindAmbiguous, KindStatus5xx, KindStatus4xx, KindBadReply:
		return false
	}
	return false
}

// Refused reports whether the dependency has not done it and never will, however often it is asked. A
// conflict is no such word: it knows the effect key.
func (e *Error) Refused() bool {
	return e.Kind == KindStatus4xx && !e.Retryable() && e.Status != http.StatusConflict
}

// timeoutError names the timeout that ended an attempt and what it left of the caller's time.
type timeoutError struct {
	timeout time.Duration
	budget  time.Duration // the caller's time at the start; 0 without a deadline
	left    time.Duration
}

// Error rounds to whole milliseconds, the unit of budgets.
func (e *timeoutError) Error() string {
	round := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	if e.budget == 0 {
		return fmt.Sprintf("timed out after %v (no deadline)", round(e.timeout))
	}
	return fmt.Sprintf("timed out after %v (budget %v, left %v)",
		round(e.timeout), round(e.budget), round(e.left))
}

// Unwrap lets callers match context.DeadlineExceeded.
func (e *timeoutError) Unwrap() error { return context.DeadlineExceeded }
