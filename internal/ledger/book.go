package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/ledger/internal/ledgerdb"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
)

// Ref names an account.
type Ref struct {
	TenantID uuid.UUID
	ID       uuid.UUID
}

func compareRefs(a, b Ref) int {
	if c := bytes.Compare(a.TenantID[:], b.TenantID[:]); c != 0 {
		return c
	}
	return bytes.Compare(a.ID[:], b.ID[:])
}

// Book is the unit of work of one batch: the balances that it locked, and what it decided about
// them. Decisions change the book in memory; Write queues all of them. The book is filled when the
// batch that Open queued into was sent.
//
// Invariant: a book changes only accounts that it locked, and a refused change leaves it as it was.
type Book struct {
	locked   map[Ref]*balance
	readOnly map[Ref]balance
	now      time.Time
	holds    []newHold
	ended    []endedHold
	entries  []entry
	postings []posting
}

type balance struct {
	kind, currency, status       string
	floor, posted, held, version int64
	dirty                        bool
}

func (l *balance) available() int64 { return l.posted - l.held }

// covers says whether amount may leave the available funds. It subtracts the amount, which is bounded,
// and not the floor: what an external account has above its floor may not fit into an int64.
func (l *balance) covers(amount int64) bool { return l.available()-amount >= l.floor }

// overflows says whether amount may not come in.
func (l *balance) overflows(amount int64) bool { return l.posted > math.MaxInt64-amount }

type newHold struct {
	ref     Ref
	id      uuid.UUID
	amount  int64
	expires time.Time
}

type endedHold struct {
	ref              Ref
	id               uuid.UUID
	amount, captured int64
	status           string
}

type entry struct {
	tenantID, id      uuid.UUID
	kind, description string
}

type posting struct {
	ref         Ref
	version     int64
	entryID     uuid.UUID
	amount      int64
	postedAfter int64
	currency    string
}

// Open queues the lock of some balances, in id order, and the plain read of others. Accounts that
// do not exist are missing from the book.
func Open(read *pgx.Batch, lock, look []Ref) *Book {
	b := &Book{locked: make(map[Ref]*balance, len(lock)), readOnly: make(map[Ref]balance, len(look))}
	lock = sortedSet(lock)
	look = slices.DeleteFunc(sortedSet(look), func(r Ref) bool {
		_, found := slices.BinarySearchFunc(lock, r, compareRefs)
		return found
	})
	if len(lock) > 0 {
		tenants, ids := split(lock)
		pgtx.Read(read, func(r ledgerdb.LockBalancesRow) {
			b.locked[Ref{r.TenantID, r.AccountID}] = fromRow(ledgerdb.ReadBalancesRow(r))
		}, ledgerdb.LockBalances, tenants, ids)
	}
	if len(look) > 0 {
		tenants, ids := split(look)
		pgtx.Read(read, func(r ledgerdb.ReadBalancesRow) {
			b.readOnly[Ref{r.TenantID, r.AccountID}] = *fromRow(r)
		}, ledgerdb.ReadBalances, tenants, ids)
	}
	pgtx.Read(read, func(now struct{ Now time.Time }) { b.now = now.Now }, ledgerdb.SystemNow)
	return b
}

func fromRow(r ledgerdb.ReadBalancesRow) *balance {
	return &balance{
		kind: r.Kind, currency: r.Currency, status: r.Status, floor: r.Floor, posted: r.Posted,
		held: r.Held, version: r.Version,
	}
}

func sortedSet(refs []Ref) []Ref {
	refs = slices.Clone(refs)
	slices.SortFunc(refs, compareRefs)
	return slices.Compact(refs)
}

func split(refs []Ref) ([]uuid.UUID, []uuid.UUID) {
	tenants, ids := make([]uuid.UUID, len(refs)), make([]uuid.UUID, len(refs))
	for i, r := range refs {
		tenants[i], ids[i] = r.TenantID, r.ID
	}
	return tenants, ids
}

// Now is Postgres's time after the locks were taken: the time of everything that the batch writes.
func (b *Book) Now() time.Time { return b.now }

// Check says why money may not move from one account to the other, or nil. The first reason in the
// order of the problem table is the answer.
func (b *Book) Check(from, to Ref, currency string) error {
	if _, ok := b.locked[from]; !ok {
		return missing(from)
	}
	return b.CheckEarly(from, to, currency)
}

// CheckEarly says the same of accounts that were only read: enough to refuse what a later payment would
// be refused for, without a lock.
func (b *Book) CheckEarly(from, to Ref, currency string) error {
	debit, ok := b.look(from)
	if !ok {
		return missing(from)
	}
	credit, ok := b.look(to)
	if !ok {
		return missing(to)
	}
	sides := []struct {
		id uuid.UUID
		balance
	}{{from.ID, debit}, {to.ID, credit}}
	for _, s := range sides {
		if s.currency != currency {
			return problem.New(problem.CurrencyMismatch,
				"Account %s is in %s, not in %s.", s.id, s.currency, currency)
		}
	}
	for _, s := range sides {
		if s.status == StatusFrozen {
			return problem.New(problem.AccountFrozen, "Account %s is frozen.", s.id)
		}
	}
	for _, s := range sides {
		if s.status == StatusClosed {
			return closed(s.id)
		}
	}
	return nil
}

func missing(ref Ref) error {
	return problem.New(problem.AccountNotFound, "Account %s does not exist.", ref.ID)
}

func closed(id uuid.UUID) error {
	return problem.New(problem.AccountClosed, "Account %s is closed.", id)
}

func (b *Book) look(ref Ref) (balance, bool) {
	if l, ok := b.locked[ref]; ok {
		return *l, true
	}
	r, ok := b.readOnly[ref]
	return r, ok
}

// Hold reserves amount on a locked account under id, or refuses with InsufficientFunds.
func (b *Book) Hold(ref Ref, id uuid.UUID, amount int64, expires time.Time) error {
	account, ok := b.locked[ref]
	if !ok {
		return missing(ref)
	}
	if err := bounded(amount, money.MaxValue); err != nil {
		return fmt.Errorf("hold %s: %w", id, err)
	}
	if !account.covers(amount) {
		return insufficient(ref)
	}
	account.held += amount
	account.dirty = true
	b.holds = append(b.holds, newHold{ref, id, amount, expires})
	return nil
}

func insufficient(ref Ref) error {
	return problem.New(problem.InsufficientFunds, "Account %s has not enough available funds.", ref.ID)
}

// bounded refuses an amount that no caller may ask for: that is a mistake of the program, not of a
// client, whose amounts were validated.
func bounded(amount, most int64) error {
	if amount <= 0 || amount > most {
		return fmt.Errorf("amount %d is not between 1 and %d", amount, most)
	}
	return nil
}

// Release gives a hold's amount back; status says whether it was released or expired.
func (b *Book) Release(ref Ref, id uuid.UUID, amount int64, status string) error {
	account, ok := b.locked[ref]
	if !ok {
		return missing(ref)
	}
	if err := bounded(amount, account.held); err != nil {
		return fmt.Errorf("release hold %s: %w", id, err)
	}
	account.held -= amount
	account.dirty = true
	b.ended = append(b.ended, endedHold{ref: ref, id: id, amount: amount, status: status})
	return nil
}

// External says that an account is the world outside; false if the book does not know it.
func (b *Book) External(ref Ref) bool {
	account, _ := b.look(ref)
	return account.kind == KindExternal
}

// Drain settles a whole hold whose amount was paid outside: it is posted whatever has become of the account
// that it went to, since refusing would not bring the money back.
func (b *Book) Drain(from, to Ref, id uuid.UUID, amount int64) error {
	return b.capture(from, to, id, amount, amount)
}

// Settle captures amount of a hold of held and pays it to the other account by an entry with the
// hold's id; what is not captured is released. A closed account or one that would overflow refuses;
// a frozen one does not, since what was accepted before the freeze is drained.
func (b *Book) Settle(from, to Ref, id uuid.UUID, held, amount int64) error {
	if credit, ok := b.locked[to]; ok && credit.status == StatusClosed {
		return closed(to.ID)
	}
	return b.capture(from, to, id, held, amount)
}

// capture posts amount of a hold and ends it.
func (b *Book) capture(from, to Ref, id uuid.UUID, held, amount int64) error {
	debit, credit, err := b.sides(from, to, amount)
	if err != nil {
		return err
	}
	if err := errors.Join(bounded(held, debit.held), bounded(amount, held)); err != nil {
		return fmt.Errorf("settle hold %s: %w", id, err)
	}
	debit.held -= held
	b.ended = append(b.ended, endedHold{from, id, held, amount, HoldCaptured})
	b.entries = append(b.entries, entry{from.TenantID, id, EntryTransfer, ""})
	b.post(from, debit, id, -amount)
	b.post(to, credit, id, amount)
	return nil
}

// sides finds the two locked accounts of a payment, or says why the amount does not fit.
func (b *Book) sides(from, to Ref, amount int64) (*balance, *balance, error) {
	debit, ok := b.locked[from]
	if !ok {
		return nil, nil, missing(from)
	}
	credit, ok := b.locked[to]
	if !ok {
		return nil, nil, missing(to)
	}
	if err := bounded(amount, money.MaxValue); err != nil {
		return nil, nil, fmt.Errorf("pay account %s: %w", to.ID, err)
	}
	switch {
	case debit.currency != credit.currency:
		return nil, nil, problem.New(problem.CurrencyMismatch, "Account %s is in %s, account %s in %s.",
			from.ID, debit.currency, to.ID, credit.currency)
	case credit.overflows(amount):
		return nil, nil, problem.New(problem.BalanceOverflow, "Account %s would overflow.", to.ID)
	}
	return debit, credit, nil
}

// payOpening pays a first balance into a locked account from another, without a hold. It is how demo
// and test accounts get funds from an external account.
func (b *Book) payOpening(from, to Ref, id uuid.UUID, amount int64) error {
	debit, credit, err := b.sides(from, to, amount)
	if err != nil {
		return err
	}
	if err := b.Check(from, to, debit.currency); err != nil {
		return err
	}
	if !debit.covers(amount) {
		return insufficient(from)
	}
	b.entries = append(b.entries, entry{from.TenantID, id, EntryOpening, "opening balance"})
	b.post(from, debit, id, -amount)
	b.post(to, credit, id, amount)
	return nil
}

func (b *Book) post(ref Ref, account *balance, entryID uuid.UUID, amount int64) {
	account.posted += amount
	account.version++
	account.dirty = true
	b.postings = append(b.postings, posting{
		ref, account.version, entryID, amount, account.posted, account.currency,
	})
}
