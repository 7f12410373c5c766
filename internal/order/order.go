// Package order sells stock: an order is placed, its lines and its delivery slot are reserved, it is paid
// by a transfer, and it is confirmed or canceled.
//
// An order's whole life reads top to bottom, in files that are named like those of package transfer:
// create.go places, jobs.go wakes, process.go decides each step, move.go commits what was decided,
// state.go says which moves are legal. Aside from it, reverse.go takes payments of canceled orders back,
// broken.go notes what breaks in our own code and deadletters.go shows what was given up, promises.go says
// how the open promises stand and counts which were kept, read.go reads and lets people cancel, facts.go
// reads what never changes, and invariants.go says what always holds. The package refuses to know HTTP and
// transfers (it pays through Payments, and hears of the outcome by events), to call anybody inside a
// transaction, to confirm by any other way than a settled payment, and to pay a merchant outside, from whom
// nothing could be taken back.
//
// Invariants: an order is confirmed exactly if its payment has settled and all that it asks for is
// consumed, in the one transaction that says so; a canceled order has nothing reserved, and its payment
// goes back; every order reaches exactly one terminal state; every move has its event, and version
// counts them; wake_at is set exactly while somebody has to do something. A step that breaks again and again
// ends its order, or is looked at each hour if the payment has to go back first.
package order

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/problem"
)

// The limits of a request.
const (
	// BulkMaxItems is how many orders one request may place.
	BulkMaxItems = 20
	// LinesMax is how many lines an order may have.
	LinesMax = 100
	// PageMaxRows is how many orders a page may hold.
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
	// promiseWindow is how long an order may wait for its reservation.
	promiseWindow = 5 * time.Minute
	// reservationTTL is how long a reservation keeps stock for a payment. The order's promise moves along:
	// a reserved order ends when its reservation does.
	reservationTTL = 15 * time.Minute
)

// Reason says why an order was canceled.
type Reason string

// The reasons. A client or an operator asked for it; stock or slot were not there; the payment was
// refused; the promise has passed; or a step breaks whenever it is tried.
const (
	ReasonClient   Reason = "client"
	ReasonOperator Reason = "operator"
	ReasonStock    Reason = "stock"
	ReasonSlot     Reason = "slot"
	ReasonPayment  Reason = "payment"
	ReasonExpired  Reason = "expired"
	ReasonPoison   Reason = "poison"
)

// PaymentState says how far the payment of an order is.
type PaymentState string

// The payment states. A pending order has none. A reserved one has a payment that is pending: asked for,
// or about to be. A confirmed one has a settled payment. That of a canceled order was never asked for,
// has failed, or is taken back: reversing until the way back is accepted, then reversed.
const (
	PaymentNone      PaymentState = "none"
	PaymentPending   PaymentState = "pending"
	PaymentSettled   PaymentState = "settled"
	PaymentFailed    PaymentState = "failed"
	PaymentReversing PaymentState = "reversing"
	PaymentReversed  PaymentState = "reversed"
)

// Ref names an order.
type Ref struct {
	TenantID uuid.UUID
	ID       uuid.UUID
}

func compareRefs(a, b Ref) int {
	return cmp.Or(bytes.Compare(a.TenantID[:], b.TenantID[:]), bytes.Compare(a.ID[:], b.ID[:]))
}

func notFound(id uuid.UUID) error {
	return problem.New(problem.NotFound, "Order %s does not exist.", id)
}

// Line is a quantity of one SKU. The price of a unit is fixed when the order is placed.
type Line struct {
	SKU       uuid.UUID
	Quantity  int64
	UnitPrice int64
}

// Order is an order as its rows say.
type Order struct {
	Ref
	CustomerAccount uuid.UUID
	MerchantAccount uuid.UUID
	// Location is where the stock is taken from.
	Location string
	// Slot is the delivery slot, or uuid.Nil.
	Slot uuid.UUID
	// Lines has one line per SKU, in the order of their ids.
	Lines           []Line
	Total           money.Amount
	State           State
	Version         int32
	Reason          Reason
	ClientReference string
	Metadata        json.RawMessage
	PaymentState    PaymentState
	// PaymentTransfer is the transfer that pays, or uuid.Nil.
	PaymentTransfer uuid.UUID
	// ReservationExpiresAt is when the reservation lapses, or zero before there is one.
	ReservationExpiresAt time.Time
	// Attempts counts the tries of the present step that did not succeed.
	Attempts int32
	// Failures counts how often the present step broke in our own code.
	Failures int32
	// Lane is where the order's jobs go in their queues.
	Lane int16
	// WakeAt is when somebody has to look at the order, or zero.
	WakeAt time.Time
	// PromiseAt is the time by which the order has ended.
	PromiseAt time.Time
	CreatedAt time.Time
	UpdatedAt time.Time

	// trace is the traceparent of what is done with the order, as long as that is known: its row does not
	// have it.
	trace string
}

// claim is what the order takes from the inventory.
func (o Order) claim() inventory.Claim {
	c := inventory.Claim{Owner: inventory.Ref(o.Ref), Location: o.Location, Slot: o.Slot}
	for _, l := range o.Lines {
		c.Lines = append(c.Lines, inventory.Line{SKU: l.SKU, Quantity: l.Quantity})
	}
	return c
}

// New is what a client asks for. The unit prices of its lines are not looked at.
type New struct {
	CustomerAccount uuid.UUID
	MerchantAccount uuid.UUID
	Location        string
	// Slot is the delivery slot, or uuid.Nil for none.
	Slot            uuid.UUID
	Lines           []Line
	ClientReference string
	Metadata        json.RawMessage
}

// validate finds every problem that shows without looking at anything else.
func (n New) validate() error {
	var fields []problem.Field
	add := func(pointer, detail string) {
		fields = append(fields, problem.Field{Pointer: pointer, Detail: detail})
	}
	if n.CustomerAccount == uuid.Nil {
		add("/customer_account", "has to be an account id")
	}
	if n.MerchantAccount == uuid.Nil {
		add("/merchant_account", "has to be an account id")
	}
	if n.CustomerAccount == n.MerchantAccount && n.CustomerAccount != uuid.Nil {
		add("/merchant_account", "has to differ from customer_account")
	}
	if why := inventory.InvalidLocation(n.Location); why != "" {
		add("/location", why)
	}
	if why := problem.InvalidText(n.ClientReference, referenceMaxBytes); why != "" {
		add("/client_reference", why)
	}
	if why := invalidMetadata(n.Metadata); why != "" {
		add("/metadata", why)
	}
	fields = append(fields, n.invalidLines()...)
	if fields == nil {
		return nil
	}
	return &problem.Error{
		Code: problem.ValidationFailed, Detail: "The order is not valid.", Fields: fields,
	}
}

func (n New) invalidLines() []problem.Field {
	if len(n.Lines) == 0 || len(n.Lines) > LinesMax {
		return []problem.Field{{Pointer: "/lines", Detail: fmt.Sprintf("has to have 1 to %d items",
			LinesMax)}}
	}
	var fields []problem.Field
	for i, l := range n.Lines {
		at := fmt.Sprintf("/lines/%d", i)
		if l.SKU == uuid.Nil {
			fields = append(fields, problem.Field{Pointer: at + "/sku", Detail: "has to be a SKU id"})
		}
		if l.Quantity < 1 || l.Quantity > inventory.QuantityMax {
			fields = append(fields, problem.Field{
				Pointer: at + "/quantity", Detail: fmt.Sprintf("has to be 1 to %d", inventory.QuantityMax),
			})
		}
	}
	if fields != nil {
		return fields
	}
	for _, l := range merge(n.Lines) {
		if l.Quantity > inventory.QuantityMax {
			fields = append(fields, problem.Field{Pointer: "/lines", Detail: fmt.Sprintf(
				"asks for more than %d of SKU %s", inventory.QuantityMax, l.SKU)})
		}
	}
	return fields
}

// merge adds up the lines of each SKU, so that no two lines of an order take from the same stock.
// Quantities are bounded, as is their number, so sums do not overflow.
func merge(lines []Line) []Line {
	sorted := slices.SortedStableFunc(slices.Values(lines), func(a, b Line) int {
		return bytes.Compare(a.SKU[:], b.SKU[:])
	})
	merged := sorted[:0]
	for _, l := range sorted {
		if last := len(merged) - 1; last >= 0 && merged[last].SKU == l.SKU {
			merged[last].Quantity += l.Quantity
			continue
		}
		merged = append(merged, Line{SKU: l.SKU, Quantity: l.Quantity})
	}
	return merged
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
