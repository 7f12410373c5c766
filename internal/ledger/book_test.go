package ledger

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/ledger/internal/ledgerdb"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/problem"
)

// The accounts of a book that no database filled.
var (
	anna    = named(1)
	bob     = named(2)
	shop    = named(3) // read without a lock
	icy     = named(4)
	gone    = named(5)
	dollars = named(6)
	full    = named(7)
	world   = named(8)
	nobody  = named(9)
)

func named(n byte) Ref { return Ref{TenantID: uuid.UUID{1}, ID: uuid.UUID{n}} }

func euros(posted, held int64) *balance {
	return &balance{
		kind: KindUser, currency: "EUR", status: StatusActive, posted: posted, held: held, version: 4,
	}
}

func newBook() *Book {
	frozen, closed, usd, most, external := euros(0, 0), euros(0, 0), euros(500, 0), euros(0, 0), euros(-50, 0)
	frozen.status, closed.status, usd.currency = StatusFrozen, StatusClosed, "USD"
	most.posted, external.floor = math.MaxInt64-10, externalFloor
	return &Book{
		now: time.Unix(1_000, 0),
		locked: map[Ref]*balance{
			anna: euros(100, 30), bob: euros(5, 0), icy: frozen, gone: closed, dollars: usd, full: most,
			world: external,
		},
		readOnly: map[Ref]balance{shop: *euros(0, 0)},
	}
}

// requireUntouched holds a refusal to the invariant: the book is as it was.
func requireUntouched(t *testing.T, b *Book) {
	t.Helper()
	options := cmp.AllowUnexported(Book{}, balance{}, newHold{}, endedHold{}, entry{}, posting{})
	require.Empty(t, cmp.Diff(newBook(), b, options))
}

func requireCode(t *testing.T, code problem.Code, err error) {
	t.Helper()
	if code == "" {
		require.NoError(t, err)
		return
	}
	require.Truef(t, problem.Is(err, code), "want %s, got %v", code, err)
}

func TestCheckSaysTheFirstReason(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		from, to Ref
		currency string
		code     problem.Code
	}{
		{"both locked", anna, bob, "EUR", ""},
		{"credit only read", anna, shop, "EUR", ""},
		{"no debit", nobody, bob, "EUR", problem.AccountNotFound},
		{"debit not locked", shop, bob, "EUR", problem.AccountNotFound},
		{"no credit", anna, nobody, "EUR", problem.AccountNotFound},
		{"another tenant's account", anna, Ref{uuid.UUID{2}, bob.ID}, "EUR", problem.AccountNotFound},
		{"wrong currency", anna, bob, "USD", problem.CurrencyMismatch},
		{"accounts in two currencies", anna, dollars, "EUR", problem.CurrencyMismatch},
		{"frozen debit", icy, bob, "EUR", problem.AccountFrozen},
		{"frozen credit", anna, icy, "EUR", problem.AccountFrozen},
		{"closed debit", gone, bob, "EUR", problem.AccountClosed},
		{"closed credit", anna, gone, "EUR", problem.AccountClosed},
		{"currency comes before frozen", icy, dollars, "EUR", problem.CurrencyMismatch},
		{"frozen comes before closed", gone, icy, "EUR", problem.AccountFrozen},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBook()
			requireCode(t, c.code, b.Check(c.from, c.to, c.currency))
			requireUntouched(t, b)
		})
	}
}

func TestHoldTakesNoMoreThanIsAvailable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		ref    Ref
		amount int64
		code   problem.Code
	}{
		{"a part", anna, 1, ""},
		{"all that is available", anna, 70, ""},
		{"one more", anna, 71, problem.InsufficientFunds},
		{"the largest amount", anna, money.MaxValue, problem.InsufficientFunds},
		{"below zero, above the floor", world, money.MaxValue, ""},
		{"from an account that is almost full", full, money.MaxValue, ""},
		{"nobody's", nobody, 1, problem.AccountNotFound},
		{"not locked", shop, 1, problem.AccountNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b, id := newBook(), uuid.New()
			err := b.Hold(c.ref, id, c.amount, b.Now())
			requireCode(t, c.code, err)
			if c.code != "" {
				requireUntouched(t, b)
				return
			}
			require.Equal(t, []newHold{{c.ref, id, c.amount, b.now}}, b.holds)
			require.Equal(t, newBook().locked[c.ref].held+c.amount, b.locked[c.ref].held)
			require.True(t, b.locked[c.ref].dirty)
		})
	}
}

func TestAFloorIsKeptByTheLastUnit(t *testing.T) {
	t.Parallel()
	b := newBook()
	b.locked[anna].floor = -20
	require.NoError(t, b.Hold(anna, uuid.New(), 90, b.now))
	requireCode(t, problem.InsufficientFunds, b.Hold(anna, uuid.New(), 1, b.now))
	b = newBook()
	b.locked[world].posted = externalFloor + 5
	require.NoError(t, b.Hold(world, uuid.New(), 5, b.now))
	requireCode(t, problem.InsufficientFunds, b.Hold(world, uuid.New(), money.MaxValue, b.now))
}

func TestTwoHoldsOfOneBatchSeeEachOther(t *testing.T) {
	t.Parallel()
	b := newBook()
	require.NoError(t, b.Hold(anna, uuid.New(), 50, b.now))
	requireCode(t, problem.InsufficientFunds, b.Hold(anna, uuid.New(), 50, b.now))
	require.NoError(t, b.Hold(anna, uuid.New(), 20, b.now))
	require.Len(t, b.holds, 2)
}

func TestReleaseGivesTheAmountBack(t *testing.T) {
	t.Parallel()
	b, id := newBook(), uuid.New()
	require.NoError(t, b.Release(anna, id, 30, HoldExpired))
	require.Equal(t, []endedHold{{ref: anna, id: id, amount: 30, status: HoldExpired}}, b.ended)
	require.Zero(t, b.locked[anna].held)
	require.NoError(t, b.Hold(anna, uuid.New(), 100, b.now), "what was released can be held again")
	b = newBook()
	requireCode(t, problem.AccountNotFound, b.Release(nobody, id, 1, HoldReleased))
	requireUntouched(t, b)
}

func TestSettlePaysWhatWasHeld(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		held, amount int64
	}{{"all", 30, 30}, {"a part", 30, 1}, {"one of several holds", 20, 20}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b, id := newBook(), uuid.New()
			require.NoError(t, b.Settle(anna, bob, id, c.held, c.amount))
			require.Equal(t, []endedHold{{anna, id, c.held, c.amount, HoldCaptured}}, b.ended)
			require.Equal(t, []entry{{anna.TenantID, id, EntryTransfer, ""}}, b.entries)
			require.Equal(t, []posting{
				{anna, 5, id, -c.amount, 100 - c.amount, "EUR"},
				{bob, 5, id, c.amount, 5 + c.amount, "EUR"},
			}, b.postings)
			require.Equal(t, 30-c.held, b.locked[anna].held)
			require.EqualValues(t, 5, b.locked[bob].version)
		})
	}
}

func TestSettleRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		from, to Ref
		code     problem.Code
	}{
		{"no debit", nobody, bob, problem.AccountNotFound},
		{"no credit", anna, nobody, problem.AccountNotFound},
		{"credit not locked", anna, shop, problem.AccountNotFound},
		{"other currency", anna, dollars, problem.CurrencyMismatch},
		{"closed credit", anna, gone, problem.AccountClosed},
		{"credit that would overflow", anna, full, problem.BalanceOverflow},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBook()
			requireCode(t, c.code, b.Settle(c.from, c.to, uuid.New(), 30, 11))
			requireUntouched(t, b)
		})
	}
}

func TestAFreezeDrainsWhatWasAccepted(t *testing.T) {
	t.Parallel()
	b := newBook()
	b.locked[anna].status, b.locked[bob].status = StatusFrozen, StatusFrozen
	require.NoError(t, b.Settle(anna, bob, uuid.New(), 20, 20))
	require.NoError(t, b.Release(anna, uuid.New(), 10, HoldReleased))
}

func TestAnOverflowIsCountedToTheLastUnit(t *testing.T) {
	t.Parallel()
	b := newBook()
	require.NoError(t, b.Settle(anna, full, uuid.New(), 10, 10))
	require.EqualValues(t, math.MaxInt64, b.locked[full].posted)
	requireCode(t, problem.BalanceOverflow, b.Settle(anna, full, uuid.New(), 1, 1))
}

// A caller whose numbers contradict the book has a bug; its item fails without touching the others.
func TestNumbersThatContradictTheBookAreRefused(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	for name, do := range map[string]func(*Book) error{
		"hold of nothing":  func(b *Book) error { return b.Hold(anna, id, 0, b.now) },
		"hold of less":     func(b *Book) error { return b.Hold(anna, id, -1, b.now) },
		"hold above limit": func(b *Book) error { return b.Hold(bob, id, money.MaxValue+1, b.now) },

		"release of nothing":         func(b *Book) error { return b.Release(anna, id, 0, HoldReleased) },
		"release of more than held":  func(b *Book) error { return b.Release(anna, id, 31, HoldReleased) },
		"settle of nothing":          func(b *Book) error { return b.Settle(anna, bob, id, 30, 0) },
		"settle of less":             func(b *Book) error { return b.Settle(anna, bob, id, 30, -1) },
		"settle of more than a hold": func(b *Book) error { return b.Settle(anna, bob, id, 10, 11) },
		"settle of more than held":   func(b *Book) error { return b.Settle(anna, bob, id, 31, 31) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBook()
			err := do(b)
			require.Error(t, err)
			require.Equal(t, problem.Internal, problem.Of(err).Code, "not the client's mistake")
			requireUntouched(t, b)
		})
	}
}

func TestPayOpening(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		from, to Ref
		amount   int64
		code     problem.Code
	}{
		{"from the world", world, bob, 1_000, ""},
		{"from a customer", anna, bob, 70, ""},
		{"more than there is", anna, bob, 71, problem.InsufficientFunds},
		{"other currency", dollars, bob, 1, problem.CurrencyMismatch},
		{"from a frozen account", icy, bob, 1, problem.AccountFrozen},
		{"to a full account", world, full, 11, problem.BalanceOverflow},
		{"from nobody", nobody, bob, 1, problem.AccountNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBook()
			requireCode(t, c.code, b.payOpening(c.from, c.to, uuid.New(), c.amount))
			if c.code != "" {
				requireUntouched(t, b)
				return
			}
			require.Len(t, b.postings, 2)
			require.Equal(t, EntryOpening, b.entries[0].kind)
		})
	}
}

func TestCheckStatus(t *testing.T) {
	t.Parallel()
	b := newBook()
	b.locked[bob].posted, b.locked[bob].held = 0, 0
	for _, c := range []struct {
		name   string
		ref    Ref
		status string
		code   problem.Code
	}{
		{"freeze", anna, StatusFrozen, ""},
		{"freeze again", icy, StatusFrozen, ""},
		{"thaw", icy, StatusActive, ""},
		{"close an empty one", bob, StatusClosed, ""},
		{"close again", gone, StatusClosed, ""},
		{"close one with money", anna, StatusClosed, problem.AccountNotEmpty},
		{"close one in debt", world, StatusClosed, problem.AccountNotEmpty},
		{"open a closed one", gone, StatusActive, problem.AccountClosed},
		{"freeze a closed one", gone, StatusFrozen, problem.AccountClosed},
		{"nobody's", nobody, StatusFrozen, problem.NotFound},
	} {
		requireCode(t, c.code, b.checkStatus(c.ref, c.status))
	}
	b.locked[bob].held = 1
	requireCode(t, problem.AccountNotEmpty, b.checkStatus(bob, StatusClosed))
}

func TestAnEmptyBookWritesNothing(t *testing.T) {
	t.Parallel()
	var write pgx.Batch
	require.NoError(t, newBook().Write(t.Context(), &write))
	require.Zero(t, write.Len())
}

func TestOpenAsksForEachAccountOnceInOrder(t *testing.T) {
	t.Parallel()
	var read pgx.Batch
	Open(&read, []Ref{bob, anna, bob}, []Ref{shop, anna, shop})
	require.Equal(t, 3, read.Len())
	require.Equal(t, []any{
		[]uuid.UUID{anna.TenantID, anna.TenantID}, []uuid.UUID{anna.ID, bob.ID},
	}, read.QueuedQueries[0].Arguments)
	require.Equal(t, []any{[]uuid.UUID{shop.TenantID}, []uuid.UUID{shop.ID}}, read.QueuedQueries[1].Arguments)
	assert.Negative(t, compareRefs(anna, bob))
	assert.Negative(t, compareRefs(bob, Ref{uuid.UUID{2}, anna.ID}), "the tenant comes first")
}

// The order of the arguments is the order of the locks only for some plans.
func TestBalancesAreSortedBeforeTheyAreLocked(t *testing.T) {
	t.Parallel()
	rows, err := pgtest.New(t).Query(t.Context(), "EXPLAIN (COSTS OFF) "+ledgerdb.LockBalances,
		[]uuid.UUID{anna.TenantID}, []uuid.UUID{anna.ID})
	require.NoError(t, err)
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, "LockRows", plan[0])
	require.Equal(t, "->  Sort", strings.TrimSpace(plan[1]))
	require.Equal(t, "Sort Key: b.tenant_id, b.account_id", strings.TrimSpace(plan[2]))
}

func TestNewAccountValidation(t *testing.T) {
	t.Parallel()
	good := NewAccount{Name: strings.Repeat("a", nameMaxBytes), Kind: KindUser, Currency: "EUR"}
	require.NoError(t, good.validate())
	for pointer, bad := range map[string][]NewAccount{
		"/name": {
			{"", KindUser, "EUR"},
			{strings.Repeat("a", nameMaxBytes+1), KindUser, "EUR"},
			{"a\x00b", KindUser, "EUR"},
			{"a\nb", KindUser, "EUR"},
			{"\xff", KindUser, "EUR"},
		},
		"/kind":     {{"Anna", "", "EUR"}, {"Anna", "USER", "EUR"}},
		"/currency": {{"Anna", KindUser, ""}, {"Anna", KindUser, "eur"}, {"Anna", KindUser, "XYZ"}},
	} {
		for _, n := range bad {
			p := problem.Of(n.validate())
			require.Equal(t, problem.ValidationFailed, p.Code)
			require.Equal(t, pointer, p.Fields[0].Pointer, "%+v", n)
		}
	}
}
