// Package problem is the closed set of answers that say no: what a client sees when a request is
// refused, and what it may do next.
//
// It refuses to know HTTP bodies, logs or databases: domains return an *Error, transport turns the
// code into a response in one place, and what is only for operators stays in the wrapped error.
//
// Invariant: every code has exactly one row in the table of this package, and that row tells the
// status, whether the same request may be sent again, and whether a new key makes sense.
package problem

import (
	"errors"
	"fmt"
	"time"
)

// Code names a problem for programs; it is stable and also the last part of the problem's type URI.
type Code string

// The codes, in the order in which a request is checked: the first that applies is the answer.
const (
	BodyTooLarge         Code = "body_too_large"
	RequestTimeout       Code = "request_timeout"
	RouteNotFound        Code = "route_not_found"
	MethodNotAllowed     Code = "method_not_allowed"
	Unauthenticated      Code = "unauthenticated"
	Forbidden            Code = "forbidden"
	RateLimited          Code = "rate_limited"
	Overloaded           Code = "overloaded"
	RefusedByMode        Code = "refused_by_mode"
	UnsupportedMediaType Code = "unsupported_media_type"
	MalformedRequest     Code = "malformed_request"
	KeyMissing           Code = "idempotency_key_missing"
	KeyInvalid           Code = "idempotency_key_invalid"
	ValidationFailed     Code = "validation_failed"
	WebhooksUnavailable  Code = "webhooks_unavailable"
	KeyReused            Code = "idempotency_key_reused"
	KeyInProgress        Code = "idempotency_in_progress"
	NotFound             Code = "not_found"
	CursorExpired        Code = "cursor_expired"
	ReferenceUsed        Code = "client_reference_used"
	SKUCodeUsed          Code = "sku_code_used"
	SKUNotFound          Code = "sku_unknown"
	TotalOverflow        Code = "total_overflow"
	AccountNotFound      Code = "account_not_found"
	CurrencyMismatch     Code = "currency_mismatch"
	AccountFrozen        Code = "account_frozen"
	AccountClosed        Code = "account_closed"
	AccountExternal      Code = "account_external"
	AccountNotEmpty      Code = "account_not_empty"
	SlotNotFound         Code = "slot_unknown"
	SlotElsewhere        Code = "slot_elsewhere"
	SlotClosed           Code = "slot_closed"
	SlotFull             Code = "slot_full"
	InsufficientStock    Code = "insufficient_stock"
	NotReversible        Code = "not_reversible"
	ReversalTooLarge     Code = "reversal_too_large"
	BalanceOverflow      Code = "balance_overflow"
	InsufficientFunds    Code = "insufficient_funds"
	IllegalTransition    Code = "illegal_transition"
	DeadlineExceeded     Code = "deadline_exceeded"
	Unavailable          Code = "unavailable"
	Internal             Code = "internal"
)

// Meaning is what a code tells a client.
type Meaning struct {
	Code Code
	// Status is the HTTP status of the answer.
	Status int
	// Title says the code in words; it never changes from case to case.
	Title string
	// Retryable says that the same request with the same key may succeed later.
	Retryable bool
	// SafeNewKey says that nothing happened under this key and nothing will, so that a changed
	// request may be sent under a new key. What is refused unseen and may be sent again never is: it
	// may repeat a request that was done and whose answer was lost.
	SafeNewKey bool
	// Stored says that a keyed request which was refused so gets the same refusal again: it was
	// decided on the state of things, in the transaction that stores the key.
	Stored bool
	// Advice says what a client should do.
	Advice string
}

// Field points at one part of the request that is wrong.
type Field struct {
	// Pointer is a JSON pointer into the body, or the name of a parameter or header.
	Pointer string
	// Detail says what is wrong with it.
	Detail string
}

// Error is a refusal on its way to the client.
type Error struct {
	Code   Code
	Detail string
	Fields []Field
	// RetryAfter is how long a client should wait; zero leaves it to the client.
	RetryAfter time.Duration
	// Err is the cause, for logs only: no client sees it.
	Err error
}

// New is a problem with a detail for the client.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Invalid is a validation problem with one field.
func Invalid(pointer, format string, args ...any) *Error {
	return &Error{
		Code: ValidationFailed, Detail: "The request is not valid.",
		Fields: []Field{{Pointer: pointer, Detail: fmt.Sprintf(format, args...)}},
	}
}

// Wrap is a problem whose cause is kept for the logs.
func Wrap(code Code, err error, detail string) *Error {
	return &Error{Code: code, Detail: detail, Err: err}
}

// Error says the code, the detail and the cause.
func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Detail, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Detail)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Of finds the problem in an error's chain; an error without one is Internal, its text kept from
// the client.
func Of(err error) *Error {
	if p, ok := errors.AsType[*Error](err); ok {
		return p
	}
	return Wrap(Internal, err, "Something went wrong on our side.")
}

// Is says whether err carries the code.
func Is(err error, code Code) bool {
	p, ok := errors.AsType[*Error](err)
	return ok && p.Code == code
}
