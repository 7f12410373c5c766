package ledger

import (
	"bytes"
	"context"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/ledger/internal/ledgerdb"
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
	kind, currency, status        string
	floor, posted, held, version  int64
	dirty                         bool
}

func (b *balance) available() int64 { return b.posted - b.held }

type newHold struct {
	ref     Ref
	id      uuid.UUID
	amount  int64
	expires time.Time
}

type endedHold struct {
	tenantID, id uuid.UUID
	status       string
	captured     int64
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
	tenants, ids := split(lock)
	pgtx.Read(read, func(r ledgerdb.LockBalancesRow) {
		b.locked[Ref{r.TenantID, r.AccountID}] = fromRow(ledgerdb.ReadBalancesRow(r))
	}, ledgerdb.LockBalances, tenants, ids)
	if len(look) > 0 {
		tenants, ids = split(look)
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

// Check says why money may not move from one account to the other, or nil.
func (b *Book) Check(from, to Ref, currency string) error {
	debit, ok := b.locked[from]
	if !ok {
		return problem.New(problem.AccountNotFound, "Account %s does not exist.", from.ID)
	}
	credit, ok := b.look(to)
	if !ok {
		return problem.New(problem.AccountNotFound, "Account %s does not exist.", to.ID)
	}
	for _, side := range []struct {
		balance
		id uuid.UUID
	}{{*debit, from.ID}, {credit, to.ID}} {
		switch {
		case side.currency != currency:
			return problem.New(problem.CurrencyMismatch, "Account %s is in %s, not in %s.", side.id, side.currency, currency)
		case side.status == StatusFrozen:
			return problem.New(problem.AccountFrozen, "Account %s is frozen.", side.id)
		case side.status == StatusClosed:
			return problem.New(problem.AccountClosed, "Account %s is closed.", side.id)
		}
	}
	return nil
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
		return problem.New(problem.AccountNotFound, "Account %s does not exist.", ref.ID)
	}
	if room := account.available() - account.floor; room < amount {
		return problem.New(problem.InsufficientFunds, "Account %s has not enough available funds.", ref.ID)
	}
	account.held += amount
	account.dirty = true
	b.holds = append(b.holds, newHold{ref, id, amount, expires})
	return nil
}

// Release gives a hold's amount back; status says whether it was released or expired.
func (b *Book) Release(ref Ref, id uuid.UUID, amount int64, status string) error {
	account, ok := b.locked[ref]
	if !ok {
		return problem.New(problem.AccountNotFound, "Account %s does not exist.", ref.ID)
	}
	account.held -= amount
	account.dirty = true
	b.ended = append(b.ended, endedHold{ref.TenantID, id, status, 0})
	return nil
}

// Settle captures amount of a hold of held and pays it to the other account by an entry with the
// hold's id; what is not captured is released. A closed account or one that would overflow refuses;
// a frozen one does not, since what was accepted before the freeze is drained.
func (b *Book) Settle(from, to Ref, id uuid.UUID, held, amount int64) error {
	debit, credit := b.locked[from], b.locked[to]
	if debit == nil || credit == nil {
		return problem.New(problem.AccountNotFound, "An account of the transfer does not exist.")
	}
	if credit.status == StatusClosed {
		return problem.New(problem.AccountClosed, "Account %s is closed.", to.ID)
	}
	if credit.posted > math.MaxInt64-amount {
		return problem.New(problem.BalanceOverflow, "Account %s would overflow.", to.ID)
	}
	debit.held -= held
	b.ended = append(b.ended, endedHold{from.TenantID, id, HoldCaptured, amount})
	b.entries = append(b.entries, entry{from.TenantID, id, EntryTransfer, ""})
	b.post(from, debit, id, -amount)
	b.post(to, credit, id, amount)
	return nil
}

// Open pays a first balance into a locked account from another, without a hold. It is how demo and
// test accounts get funds from an external account.
func (b *Book) open(from, to Ref, id uuid.UUID, amount int64) error {
	debit, credit := b.locked[from], b.locked[to]
	if debit == nil || credit == nil {
		return problem.New(problem.AccountNotFound, "An account of the entry does not exist.")
	}
	if debit.available()-debit.floor < amount {
		return problem.New(problem.InsufficientFunds, "Account %s has not enough available funds.", from.ID)
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

// Write queues everything that the book decided.
func (b *Book) Write(ctx context.Context, write *pgx.Batch) error {
	db, q := pgtx.Into(write), ledgerdb.New()
	for _, queue := range []func() error{
		func() error { return b.writeBalances(ctx, q, db) },
		func() error { return b.writeHolds(ctx, q, db) },
		func() error { return b.writeEnded(ctx, q, db) },
		func() error { return b.writePostings(ctx, q, db) },
	} {
		if err := queue(); err != nil {
			return err
		}
	}
	return nil
}

func (b *Book) writeBalances(ctx context.Context, q *ledgerdb.Queries, db pgtx.Writer) error {
	var p ledgerdb.WriteBalancesParams
	for ref, l := range b.locked {
		if l.dirty {
			p.Tenants, p.Accounts = append(p.Tenants, ref.TenantID), append(p.Accounts, ref.ID)
			p.Posted, p.Held = append(p.Posted, l.posted), append(p.Held, l.held)
			p.Versions = append(p.Versions, l.version)
		}
	}
	if len(p.Tenants) == 0 {
		return nil
	}
	return q.WriteBalances(ctx, db, p)
}

func (b *Book) writeHolds(ctx context.Context, q *ledgerdb.Queries, db pgtx.Writer) error {
	if len(b.holds) == 0 {
		return nil
	}
	p := ledgerdb.InsertHoldsParams{Now: b.now}
	for _, h := range b.holds {
		p.Tenants, p.Ids = append(p.Tenants, h.ref.TenantID), append(p.Ids, h.id)
		p.Accounts, p.Amounts = append(p.Accounts, h.ref.ID), append(p.Amounts, h.amount)
		p.ExpiresAt = append(p.ExpiresAt, h.expires)
	}
	return q.InsertHolds(ctx, db, p)
}

func (b *Book) writeEnded(ctx context.Context, q *ledgerdb.Queries, db pgtx.Writer) error {
	if len(b.ended) == 0 {
		return nil
	}
	p := ledgerdb.EndHoldsParams{Now: b.now}
	for _, h := range b.ended {
		p.Tenants, p.Ids = append(p.Tenants, h.tenantID), append(p.Ids, h.id)
		p.Statuses, p.Captured = append(p.Statuses, h.status), append(p.Captured, h.captured)
	}
	return q.EndHolds(ctx, db, p)
}

func (b *Book) writePostings(ctx context.Context, q *ledgerdb.Queries, db pgtx.Writer) error {
	if len(b.entries) == 0 {
		return nil
	}
	e := ledgerdb.InsertEntriesParams{Now: b.now}
	for _, n := range b.entries {
		e.Tenants, e.Ids = append(e.Tenants, n.tenantID), append(e.Ids, n.id)
		e.Kinds, e.Descriptions = append(e.Kinds, n.kind), append(e.Descriptions, n.description)
	}
	if err := q.InsertEntries(ctx, db, e); err != nil {
		return err
	}
	p := ledgerdb.InsertPostingsParams{Now: b.now}
	for _, n := range b.postings {
		p.Tenants, p.Accounts = append(p.Tenants, n.ref.TenantID), append(p.Accounts, n.ref.ID)
		p.Versions, p.Entries = append(p.Versions, n.version), append(p.Entries, n.entryID)
		p.Amounts, p.PostedAfter = append(p.Amounts, n.amount), append(p.PostedAfter, n.postedAfter)
		p.Currencies = append(p.Currencies, n.currency)
	}
	return q.InsertPostings(ctx, db, p)
}
