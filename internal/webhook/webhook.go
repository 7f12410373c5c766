// Package webhook sends a tenant's events to the addresses that the tenant names: signed, at least once, and
// each aggregate's in the order of seq.
//
// An endpoint has a place in its tenant's log and a backlog. Everything of the log up to the place was
// delivered, was not wanted, or is in the backlog: what failed while other events passed, and what waits
// behind it. A Deliverer takes the endpoints that have work in hand for a few seconds each, sends side by
// side what is of different aggregates, and writes down in one commit what came of it. Any number may run.
//
// An endpoint that takes nothing is left alone as a whole, ever longer, and probed with a few events; its
// events stay in the log, so it costs next to nothing, and everything is sent when it is well again. An event
// that is refused while others pass is retried by itself, is dead after a day, and parks its aggregate for
// this endpoint until somebody sends it again. What takes nothing for five days is disabled.
//
// The package refuses to store secrets, to follow redirects, to call an address that is not public, to read
// what a receiver replies, and to know what an event means.
//
// Invariants: every write of progress compares claims, so a process that lost an endpoint changes nothing of
// it. An event has one message id, however often it is sent. Of one aggregate no event is delivered before
// the one before it was, not even by a process that lost its hold (a zombie): whoever sends an event has
// delivered the one before it or read from a commit that it was, and a zombie sends on only behind what it
// has delivered itself. What a zombie sends late repeats what was delivered; receivers know it by its id.
package webhook

import (
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/webhook/internal/webhookdb"
)

const (
	// EndpointsMax is how many endpoints a tenant may have.
	EndpointsMax = 20
	// PageMaxRows bounds every page.
	PageMaxRows = 200
	// OverlapMax is the longest time for which the secret before the present one signs as well.
	OverlapMax = 7 * 24 * time.Hour
)

// Ref names an endpoint.
type Ref struct{ TenantID, ID uuid.UUID }

// Status says whether an endpoint is sent to. The set is closed.
type Status string

// The statuses.
const (
	Active   Status = "active"
	Paused   Status = "paused"   // by the tenant; its events wait in the log
	Disabled Status = "disabled" // by us: StatusReason says why
)

// Endpoint is where a tenant wants events to be sent, and how that goes.
type Endpoint struct {
	Ref
	URL         string
	Description string
	// Types are the event types that are wanted; none stands for all. One that ends in ".*" stands for all
	// that begin like it.
	Types  []string
	Status Status
	// StatusReason says why it is disabled, or that events were lost while nothing was sent.
	StatusReason string
	// Failures is how many attempts in a row have failed.
	Failures int32
	// FailingSince is since when nothing has got through; zero when it is well.
	FailingSince time.Time
	LastError    string
	// Place is how far the endpoint is in the log: everything up to here was delivered, was not wanted, or is
	// in the backlog.
	Place         int64
	SecretVersion int32
	CreatedAt     time.Time
	UpdatedAt     time.Time
}

// New is what a tenant says about an endpoint.
type New struct {
	URL         string
	Description string
	Types       []string
}

// Change replaces what a tenant said about an endpoint.
type Change = New

// The kinds of what is sent.
const (
	KindEvent  = "event"
	KindResend = "resend"
	KindPing   = "ping"
)

// Attempt is one request to an endpoint, and what came of it.
type Attempt struct {
	ID                 int64
	EventID, EventType string
	// Kind is one of the kinds of what is sent.
	Kind string
	At   time.Time
	// Outcome is one of the outcomes.
	Outcome string
	// Status is the reply's, 0 without one.
	Status   int
	Duration time.Duration
	Error    string
	// Attempt counts the tries of this message, from 1.
	Attempt int
}

// Dead is an event that an endpoint has refused for too long while others passed.
type Dead struct {
	Place                 int64
	EventID, EventType    string
	Attempts, LastStatus  int
	LastError             string
	FirstFailedAt, DeadAt time.Time
	// Behind is how many later events of its aggregate wait behind it.
	Behind int
}

// DeadOf is a dead event of an endpoint.
type DeadOf struct {
	Endpoint Ref
	URL      string
	Dead
}

// Secrets are what an endpoint's messages are signed with: by both, until PreviousUntil.
type Secrets struct {
	Current       string
	Previous      string
	PreviousUntil time.Time
}

// Span is what goes again: one event by its message id, or what got into the log from a time until another.
type Span struct {
	EventID  string
	From, To time.Time
}

func endpointOf(r webhookdb.WebhookEndpoints) Endpoint {
	return Endpoint{
		Ref: Ref{r.TenantID, r.ID}, URL: r.Url, Description: r.Description, Types: r.Types,
		Status: Status(r.Status), StatusReason: r.StatusReason, Failures: r.Failures,
		FailingSince: pgtx.OrZero(r.FailingSince), LastError: r.LastError, Place: r.Place,
		SecretVersion: r.SecretVersion, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
}
