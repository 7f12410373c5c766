// Package inventory keeps stock: SKUs, what is on hand of them at each location, what is reserved of
// that, and delivery slots with their capacity.
//
// It refuses negative stock, overbooked slots, and any change of history: a correction is a new entry.
// It knows nothing of orders but their ids; their owner locks stock and slots with Open, decides on the
// Book, and Writes it in its own transaction.
//
// Invariants: reserved is the sum of the active reservations and never more than what is on hand; on
// hand is the sum of the entries, and version is their number, without gaps; booked is the number of
// active and consumed bookings and never more than the capacity. A reservation counts until its expiry,
// which is judged when it is looked at: what lapsed is not consumed.
package inventory

import (
	"bytes"
	"cmp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/problem"
)

// The limits of a request.
const (
	// QuantityMax bounds the quantity of one change or reservation, in units.
	QuantityMax int64 = 1_000_000_000
	// CapacityMax bounds the capacity of a slot, in orders.
	CapacityMax int64 = 1_000_000
	// PageMaxRows is how many SKUs, slots or locations a page may hold.
	PageMaxRows = 200
	// onHandMax bounds what is on hand, in units.
	onHandMax int64 = 1_000_000_000_000_000

	codeMaxBytes     = 64
	nameMaxBytes     = 200
	locationMaxBytes = 64
	reasonMaxBytes   = 500
)

// The statuses of a reservation and of a booking.
const (
	StatusActive   = "active"
	StatusConsumed = "consumed"
	StatusReleased = "released"
	StatusExpired  = "expired"
)

// The statuses of a slot. A closed one takes nobody any more; who is in it stays.
const (
	SlotOpen   = "open"
	SlotClosed = "closed"
)

// Kind says what changed the stock on hand.
type Kind string

// The kinds of an entry. Consume is what a confirmed order takes; the others are asked for.
const (
	Restock Kind = "restock"
	Adjust  Kind = "adjust"
	Consume Kind = "consume"
)

// Ref names a SKU or a slot.
type Ref struct {
	TenantID uuid.UUID
	ID       uuid.UUID
}

func compareRefs(a, b Ref) int {
	return cmp.Or(bytes.Compare(a.TenantID[:], b.TenantID[:]), bytes.Compare(a.ID[:], b.ID[:]))
}

// SKU is something that is sold.
type SKU struct {
	TenantID uuid.UUID
	ID       uuid.UUID
	Code     string
	Name     string
	// Price is that of one unit, in minor units.
	Price     int64
	Currency  string
	CreatedAt time.Time
}

// Stock is what there is of a SKU at a location.
type Stock struct {
	SKU      uuid.UUID
	Location string
	// OnHand is how many units there are, Reserved how many of them are promised.
	OnHand, Reserved int64
	// Version is the number of entries.
	Version int64
}

// Available is how many units may still be reserved.
func (s Stock) Available() int64 { return s.OnHand - s.Reserved }

// Slot is a time in which a location delivers.
type Slot struct {
	ID               uuid.UUID
	Location         string
	StartsAt, EndsAt time.Time
	// Capacity is how many orders the slot can take, Booked how many it has.
	Capacity, Booked int64
	Status           string
}

// Check says why nobody may book the slot at a location any more, or nil.
func (s Slot) Check(location string, now time.Time) error {
	switch {
	case s.Location != location:
		return problem.New(problem.SlotElsewhere, "Slot %s is at %q, not at %q.", s.ID, s.Location, location)
	case s.Status != SlotOpen || !now.Before(s.EndsAt):
		return problem.New(problem.SlotClosed, "Slot %s is closed.", s.ID)
	}
	return nil
}

// NewSKU is what a client says of what it sells.
type NewSKU struct {
	Code     string
	Name     string
	Price    int64
	Currency string
}

func (n NewSKU) validate() error {
	if why := invalidText(n.Code, codeMaxBytes); why != "" {
		return problem.Invalid("/code", "%s", why)
	}
	if why := invalidText(n.Name, nameMaxBytes); why != "" {
		return problem.Invalid("/name", "%s", why)
	}
	if err := (money.Amount{Value: n.Price, Currency: n.Currency}).Validate(); err != nil {
		return problem.Invalid("/price", "%s", err.Error())
	}
	return nil
}

// Change asks for more or less of a SKU on hand. A restock adds; an adjustment adds or, if Quantity is
// negative, takes away.
type Change struct {
	SKU      uuid.UUID
	Location string
	Kind     Kind
	Quantity int64
	Reason   string
}

func (c Change) validate() error {
	if why := InvalidLocation(c.Location); why != "" {
		return problem.Invalid("/location", "%s", why)
	}
	if why := invalidText(c.Reason, reasonMaxBytes); why != "" {
		return problem.Invalid("/reason", "%s", why)
	}
	switch {
	case c.Kind != Restock && c.Kind != Adjust:
		return problem.Invalid("/kind", "has to be restock or adjust")
	case c.Quantity == 0 || c.Quantity > QuantityMax || c.Quantity < -QuantityMax:
		return problem.Invalid("/quantity", "has to be 1 to %d, or its negative for an adjustment",
			QuantityMax)
	case c.Kind == Restock && c.Quantity < 0:
		return problem.Invalid("/quantity", "of a restock has to be positive")
	}
	return nil
}

// NewSlot is what a client says of a slot that it opens.
type NewSlot struct {
	Location         string
	StartsAt, EndsAt time.Time
	Capacity         int64
}

func (n NewSlot) validate() error {
	if why := InvalidLocation(n.Location); why != "" {
		return problem.Invalid("/location", "%s", why)
	}
	switch {
	case n.StartsAt.IsZero() || !n.StartsAt.Before(n.EndsAt):
		return problem.Invalid("/ends_at", "has to be later than starts_at")
	case n.Capacity < 1 || n.Capacity > CapacityMax:
		return problem.Invalid("/capacity", "has to be 1 to %d", CapacityMax)
	}
	return nil
}

// InvalidLocation says what is wrong with the name of a location, or "".
func InvalidLocation(name string) string { return invalidText(name, locationMaxBytes) }

// invalidText says what is wrong with a text that has to be there and goes into a row, or "".
func invalidText(s string, maxBytes int) string {
	switch {
	case s == "":
		return "has to be there"
	case len(s) > maxBytes:
		return "is too long"
	case !utf8.ValidString(s):
		return "is not valid UTF-8"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "has a control character"
	}
	return ""
}
