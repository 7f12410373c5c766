package inventory

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/inventory/internal/inventorydb"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
)

// ErrLapsed says that a claim is not, or not any more, reserved as a whole.
var ErrLapsed = errors.New("reservation is not active")

// Line is a quantity of one SKU.
type Line struct {
	SKU      uuid.UUID
	Quantity int64
}

// Claim is what one owner, an order, takes: a line per SKU from one location, and a place in a slot.
type Claim struct {
	// Owner is the order, under whose id the reservations stand.
	Owner    Ref
	Location string
	// Slot is the delivery slot, or uuid.Nil for none.
	Slot uuid.UUID
	// Lines has at most one line per SKU.
	Lines []Line
}

// place names stock: a SKU at a location.
type place struct {
	tenantID, sku uuid.UUID
	location      string
}

func comparePlaces(a, b place) int {
	return cmp.Or(bytes.Compare(a.tenantID[:], b.tenantID[:]), bytes.Compare(a.sku[:], b.sku[:]),
		cmp.Compare(a.location, b.location))
}

func (c Claim) place(l Line) place { return place{c.Owner.TenantID, l.SKU, c.Location} }

// Book is the unit of work of one batch: the slots and stock that it locked, what their owners have of
// them, and what it decided. Decisions change the book in memory; Write queues all of them. The book is
// filled when the batch that Open queued into was sent.
//
// Invariant: a book changes only what it locked, and a refused change leaves it as it was.
type Book struct {
	slots        map[Ref]*slot
	stock        map[place]*level
	reservations map[taken]*reservation
	bookings     map[Ref]*booking
	entries      []entry
	now          time.Time
}

type slot struct {
	Slot
	dirty bool
}

type level struct {
	onHand, reserved, version int64
	dirty                     bool
}

// taken names a reservation: what an owner has of a SKU.
type taken struct {
	owner Ref
	sku   uuid.UUID
}

// kept is what a reservation and a booking have in common: what they are now, and what their row says.
// was is empty while there is no row.
type kept struct {
	status  string
	expires time.Time
	was     string
	expired time.Time
}

func keptBefore(status string, expires time.Time) kept { return kept{status, expires, status, expires} }

func (k kept) fresh() bool   { return k.was == "" }
func (k kept) changed() bool { return k.was != k.status || !k.expired.Equal(k.expires) }

func (k kept) lapsed(now time.Time) bool { return k.status != StatusActive || !now.Before(k.expires) }

type reservation struct {
	kept
	location string
	quantity int64
}

type booking struct {
	kept
	slot uuid.UUID
}

type entry struct {
	place     place
	version   int64
	kind      Kind
	quantity  int64
	after     int64
	reference string
}

// Open queues the locks of all slots and then of all stock that the claims name, each in the order of
// their keys, and reads what their owners have. What does not exist is missing from the book. Balances
// are locked before, rows of owners after that; Stamp follows the last lock.
func Open(read *pgx.Batch, claims []Claim) *Book {
	b := newBook()
	var slots, owners []Ref
	var places []place
	for _, c := range claims {
		owners = append(owners, c.Owner)
		if c.Slot != uuid.Nil {
			slots = append(slots, Ref{c.Owner.TenantID, c.Slot})
		}
		for _, l := range c.Lines {
			places = append(places, c.place(l))
		}
	}
	b.lockSlots(read, slots)
	b.lockStock(read, places)
	if len(owners) > 0 {
		tenants, ids := split(sortedSet(owners, compareRefs))
		pgtx.Read(read, b.learnReservation, inventorydb.ReadReservations, tenants, ids)
		pgtx.Read(read, b.learnBooking, inventorydb.ReadBookings, tenants, ids)
	}
	return b
}

func newBook() *Book {
	return &Book{
		slots: map[Ref]*slot{}, stock: map[place]*level{}, reservations: map[taken]*reservation{},
		bookings: map[Ref]*booking{},
	}
}

// Stamp queues the read of Postgres's time, which is the time of everything that the batch decides.
func (b *Book) Stamp(read *pgx.Batch) {
	pgtx.Read(read, func(r struct{ Now time.Time }) { b.now = r.Now }, inventorydb.SystemNow)
}

// Now is Postgres's time after the locks were taken.
func (b *Book) Now() time.Time { return b.now }

func (b *Book) lockSlots(read *pgx.Batch, refs []Ref) {
	if len(refs) == 0 {
		return
	}
	tenants, ids := split(sortedSet(refs, compareRefs))
	pgtx.Read(read, func(r inventorydb.DeliverySlots) {
		b.slots[Ref{r.TenantID, r.ID}] = &slot{Slot: slotFromRow(r)}
	}, inventorydb.LockSlots, tenants, ids)
}

func (b *Book) lockStock(read *pgx.Batch, places []place) {
	if len(places) == 0 {
		return
	}
	var tenants, skus []uuid.UUID
	var locations []string
	for _, p := range sortedSet(places, comparePlaces) {
		tenants, skus, locations = append(tenants, p.tenantID), append(skus, p.sku), append(locations,
			p.location)
	}
	pgtx.Read(read, func(r inventorydb.Stock) {
		b.stock[place{r.TenantID, r.SkuID, r.Location}] = &level{
			onHand: r.OnHand, reserved: r.Reserved, version: r.Version,
		}
	}, inventorydb.LockStock, tenants, skus, locations)
}

func (b *Book) learnReservation(r inventorydb.Reservations) {
	b.reservations[taken{Ref{r.TenantID, r.OrderID}, r.SkuID}] = &reservation{
		kept: keptBefore(r.Status, r.ExpiresAt), location: r.Location, quantity: r.Quantity,
	}
}

func (b *Book) learnBooking(r inventorydb.SlotBookings) {
	b.bookings[Ref{r.TenantID, r.OrderID}] = &booking{
		kept: keptBefore(r.Status, r.ExpiresAt), slot: r.SlotID,
	}
}

func sortedSet[T comparable](values []T, compare func(a, b T) int) []T {
	values = slices.Clone(values)
	slices.SortFunc(values, compare)
	return slices.Compact(values)
}

func split(refs []Ref) ([]uuid.UUID, []uuid.UUID) {
	tenants, ids := make([]uuid.UUID, len(refs)), make([]uuid.UUID, len(refs))
	for i, r := range refs {
		tenants[i], ids[i] = r.TenantID, r.ID
	}
	return tenants, ids
}

// Reserve takes all lines of a claim and its place in the slot until expires, or refuses with
// InsufficientStock or a problem of the slot and takes nothing. What a claim had before has to be given
// back first.
func (b *Book) Reserve(c Claim, expires time.Time) error {
	if err := b.checkFree(c); err != nil {
		return err
	}
	if err := b.checkSlot(c); err != nil {
		return err
	}
	for _, l := range c.Lines {
		if err := b.checkStock(c, l); err != nil {
			return err
		}
	}
	for _, l := range c.Lines {
		b.stock[c.place(l)].take(l.Quantity)
		key := taken{c.Owner, l.SKU}
		r := b.reservations[key]
		if r == nil {
			r = &reservation{location: c.Location, quantity: l.Quantity}
			b.reservations[key] = r
		}
		r.status, r.expires = StatusActive, expires
	}
	if c.Slot != uuid.Nil {
		s := b.slots[Ref{c.Owner.TenantID, c.Slot}]
		s.Booked++
		s.dirty = true
		k := b.bookings[c.Owner]
		if k == nil {
			k = &booking{slot: c.Slot}
			b.bookings[c.Owner] = k
		}
		k.status, k.expires = StatusActive, expires
	}
	return nil
}

// checkFree refuses a second reservation of what an owner has, or had in another way: that is a mistake
// of the program.
func (b *Book) checkFree(c Claim) error {
	for _, l := range c.Lines {
		r := b.reservations[taken{c.Owner, l.SKU}]
		if l.Quantity <= 0 || l.Quantity > QuantityMax {
			return fmt.Errorf("reserve %s: quantity %d is not between 1 and %d", c.Owner.ID, l.Quantity,
				QuantityMax)
		}
		if r != nil && (r.status == StatusActive || r.status == StatusConsumed ||
			r.location != c.Location || r.quantity != l.Quantity) {
			return fmt.Errorf("reserve %s: SKU %s is %s already", c.Owner.ID, l.SKU, r.status)
		}
	}
	if k := b.bookings[c.Owner]; k != nil && (k.status == StatusActive || k.status == StatusConsumed) {
		return fmt.Errorf("reserve %s: slot %s is %s already", c.Owner.ID, k.slot, k.status)
	}
	return nil
}

func (b *Book) checkSlot(c Claim) error {
	if c.Slot == uuid.Nil {
		return nil
	}
	s := b.slots[Ref{c.Owner.TenantID, c.Slot}]
	if s == nil {
		return problem.New(problem.SlotNotFound, "Slot %s does not exist.", c.Slot)
	}
	if err := s.Check(c.Location, b.now); err != nil {
		return err
	}
	if s.Booked >= s.Capacity {
		return problem.New(problem.SlotFull, "All %d places of slot %s are taken.", s.Capacity, s.ID)
	}
	return nil
}

func (b *Book) checkStock(c Claim, l Line) error {
	s := b.stock[c.place(l)]
	if s == nil || s.onHand-s.reserved < l.Quantity {
		return insufficient(c.place(l))
	}
	return nil
}

func insufficient(p place) error {
	return problem.New(problem.InsufficientStock, "There is not enough of SKU %s at %q.", p.sku, p.location)
}

func (l *level) take(quantity int64) {
	l.reserved += quantity
	l.dirty = true
}

// Consume takes what a claim has reserved away for good: from what is on hand, by entries that name the
// owner. If any of it is not reserved, or lapsed, it takes nothing and returns ErrLapsed.
func (b *Book) Consume(c Claim) error {
	if !b.Active(c) {
		return fmt.Errorf("consume %s: %w", c.Owner.ID, ErrLapsed)
	}
	for _, l := range c.Lines {
		s, ok := b.stock[c.place(l)]
		if !ok {
			return fmt.Errorf("consume %s: stock of SKU %s is not locked", c.Owner.ID, l.SKU)
		}
		s.reserved -= l.Quantity
		b.post(c.place(l), Consume, -l.Quantity, c.Owner.ID.String())
		b.reservations[taken{c.Owner, l.SKU}].status = StatusConsumed
	}
	if c.Slot != uuid.Nil {
		b.bookings[c.Owner].status = StatusConsumed
	}
	return nil
}

// Active says whether every line of a claim and its place in the slot are reserved and not lapsed.
func (b *Book) Active(c Claim) bool {
	for _, l := range c.Lines {
		r := b.reservations[taken{c.Owner, l.SKU}]
		if r == nil || r.lapsed(b.now) || r.quantity != l.Quantity || r.location != c.Location {
			return false
		}
	}
	if c.Slot == uuid.Nil {
		return true
	}
	k := b.bookings[c.Owner]
	return k != nil && k.slot == c.Slot && !k.lapsed(b.now)
}

// Release gives back whatever of a claim is reserved; status says whether it was released or expired.
func (b *Book) Release(c Claim, status string) error {
	for _, l := range c.Lines {
		r := b.reservations[taken{c.Owner, l.SKU}]
		if r == nil || r.status != StatusActive {
			continue
		}
		s, ok := b.stock[c.place(l)]
		if !ok {
			return fmt.Errorf("release %s: stock of SKU %s is not locked", c.Owner.ID, l.SKU)
		}
		s.take(-r.quantity)
		r.status = status
	}
	k := b.bookings[c.Owner]
	if k == nil || k.status != StatusActive {
		return nil
	}
	s, ok := b.slots[Ref{c.Owner.TenantID, k.slot}]
	if !ok {
		return fmt.Errorf("release %s: slot %s is not locked", c.Owner.ID, k.slot)
	}
	s.Booked--
	s.dirty = true
	k.status = status
	return nil
}

// change restocks or adjusts locked stock, or refuses with InsufficientStock.
func (b *Book) change(p place, kind Kind, quantity int64, reference string) error {
	s, ok := b.stock[p]
	switch {
	case !ok:
		return fmt.Errorf("change stock of SKU %s: it is not locked", p.sku)
	case s.onHand+quantity < s.reserved:
		return insufficient(p)
	case s.onHand+quantity > onHandMax:
		return problem.Invalid("/quantity", "would bring more than %d on hand", onHandMax)
	}
	b.post(p, kind, quantity, reference)
	return nil
}

func (b *Book) post(p place, kind Kind, quantity int64, reference string) {
	s := b.stock[p]
	s.onHand += quantity
	s.version++
	s.dirty = true
	b.entries = append(b.entries, entry{p, s.version, kind, quantity, s.onHand, reference})
}

// sortedKeys lets a batch write in the same order each time.
func sortedKeys[K comparable, V any](m map[K]V, compare func(a, b K) int) []K {
	return slices.SortedFunc(maps.Keys(m), compare)
}
