// Package transfer moves money between two accounts of a tenant: accepted with its funds held,
// screened by the risk service, paid out by the payout rail if it leaves Holdfast, settled by postings, and
// told about.
//
// A transfer's whole life reads top to bottom: create.go accepts, jobs.go wakes, process.go decides
// each step, move.go commits what was decided, state.go says which moves are legal. Steps with a file of
// their own are payout.go and notify.go. Aside from the path, note.go writes down what was tried in vain,
// posture.go says what passes unscreened, broken.go counts what breaks in our own code and deadletters.go
// shows what was given up, promises.go says how the open promises stand and counts which were kept,
// reverse.go takes a settled one back, read.go reads and lets people act, facts.go reads what never changes,
// and invariants.go says what always holds. The package refuses to know HTTP and orders, to call a dependency
// inside a transaction, and to move a transfer that is not what the decision saw.
//
// Invariants: an accepted transfer has an active hold until it ends; it reaches exactly one terminal
// state, with a reason unless it is settled; one that is settled without screening has a reason too; every
// move has its event, and version counts them; wake_at is set exactly while somebody has to do something.
package transfer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/problem"
)

// The limits of a request.
const (
	// BulkMaxItems is how many transfers one bulk request may hold.
	BulkMaxItems = 100
	// PageMaxRows is how many transfers a page may hold.
	PageMaxRows = 200
	// listScanRows is how many rows one page of a list looks at, so that a filter that matches
	// nothing costs no more than one that matches all.
	listScanRows = 5_000
	// referenceMaxBytes bounds client_reference.
	referenceMaxBytes = 255
	// metadataMaxBytes bounds metadata as JSON text.
	metadataMaxBytes = 4_096
	// reasonMaxBytes bounds the reason of an operator or a client.
	reasonMaxBytes = 500
)

// The promises, by Postgres's clock.
const (
	// promiseWindow is how long an accepted transfer may take to end.
	promiseWindow = time.Minute
	// reviewWindow is how long an operator has for a decision.
	reviewWindow = 24 * time.Hour
	// notifyWindow is how long a notification is tried after the end of its transfer.
	notifyWindow = 24 * time.Hour
	// notifyLate is what a notification gets for its first try when that is over.
	notifyLate = 10 * time.Second
	// holdMargin is how long a hold stays good after the first promise: a review and the settlement
	// after it may still come.
	holdMargin = reviewWindow + promiseWindow
)

// The notification of a transfer's end.
const (
	NotificationNone    = "none"
	NotificationPending = "pending"
	NotificationSent    = "sent"
	NotificationFailed  = "failed"
)

// Ref names a transfer.
type Ref struct {
	TenantID uuid.UUID
	ID       uuid.UUID
}

// Transfer is a transfer as its row says.
type Transfer struct {
	Ref
	FromAccount     uuid.UUID
	ToAccount       uuid.UUID
	Amount          money.Amount
	State           State
	Version         int32
	Reason          string
	ClientReference string
	Metadata        json.RawMessage
	// Reverses is the transfer that this one reverses, or uuid.Nil.
	Reverses uuid.UUID
	// Reversed is the sum of the reversals of this one that are open or settled, in minor units.
	Reversed int64
	// RiskReference is the risk service's name for its decision, RailReference the rail's for the payout.
	RiskReference string
	RailReference string
	// Payout says that the money leaves by the payout rail, and PayoutTry which reference of it is in use.
	Payout    bool
	PayoutTry int16
	// Lane says whose work goes first where work waits (internal/fairshare).
	Lane int16
	// Attempts counts what the present step came to without an answer. Sent counts those after which the
	// dependency may have acted, Failures those that broke in our own code.
	Attempts int32
	Sent     int32
	Failures int32

	Notification string
	// WakeAt is when somebody has to look at the transfer, or zero.
	WakeAt time.Time
	// PromiseAt is the time by which the transfer has ended.
	PromiseAt time.Time
	CreatedAt time.Time
	UpdatedAt time.Time

	// trace is the traceparent of what is done with the transfer, as long as that is known: its row does not
	// have it.
	trace string
}

func compareRefs(a, b Ref) int {
	if c := bytes.Compare(a.TenantID[:], b.TenantID[:]); c != 0 {
		return c
	}
	return bytes.Compare(a.ID[:], b.ID[:])
}

func notFound(id uuid.UUID) error {
	return problem.New(problem.NotFound, "Transfer %s does not exist.", id)
}

func (t Transfer) debit() ledger.Ref  { return ledger.Ref{TenantID: t.TenantID, ID: t.FromAccount} }
func (t Transfer) credit() ledger.Ref { return ledger.Ref{TenantID: t.TenantID, ID: t.ToAccount} }

// New is what a client asks for.
type New struct {
	FromAccount     uuid.UUID
	ToAccount       uuid.UUID
	Amount          money.Amount
	ClientReference string
	Metadata        json.RawMessage
	// reverses is the transfer to reverse, and allLeft asks for all that is left of it: how much that
	// is, is only known under the lock. Amount is then that of the original.
	reverses uuid.UUID
	allLeft  bool
}

// validate finds every problem that shows without looking at the accounts.
func (n New) validate() error {
	var fields []problem.Field
	add := func(pointer, detail string) {
		fields = append(fields, problem.Field{Pointer: pointer, Detail: detail})
	}
	if n.FromAccount == uuid.Nil {
		add("/from_account", "has to be an account id")
	}
	if n.ToAccount == uuid.Nil {
		add("/to_account", "has to be an account id")
	}
	if n.FromAccount == n.ToAccount && n.FromAccount != uuid.Nil {
		add("/to_account", "has to differ from from_account")
	}
	if err := n.Amount.Validate(); err != nil {
		add("/amount", err.Error())
	}
	if why := problem.InvalidText(n.ClientReference, referenceMaxBytes); why != "" {
		add("/client_reference", why)
	}
	if why := invalidMetadata(n.Metadata); why != "" {
		add("/metadata", why)
	}
	if fields == nil {
		return nil
	}
	return &problem.Error{
		Code: problem.ValidationFailed, Detail: "The transfer is not valid.", Fields: fields,
	}
}

// invalidMetadata says what is wrong with metadata, or "". One bad text in a batch would spoil the
// transaction of all its neighbours, so what Postgres refuses is refused here.
func invalidMetadata(metadata json.RawMessage) string {
	switch {
	case len(metadata) > metadataMaxBytes:
		return fmt.Sprintf("is longer than %d bytes", metadataMaxBytes)
	case len(metadata) > 0 && (!utf8.Valid(metadata) || !json.Valid(metadata)):
		return "is not valid JSON"
	case len(metadata) > 0 && bytes.TrimLeft(metadata, " \t\r\n")[0] != '{':
		return "is not a JSON object"
	}
	return ""
}
