package ledger_test

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
)

const callers = 50

func TestAHotAccountIsDrainedToTheLastUnitAndNoFurther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hot := b.user(t, 100)
	var held, refused atomic.Int64
	var group errgroup.Group
	for range callers {
		group.Go(func() error {
			err := b.do(t.Context(), []ledger.Ref{hot}, func(book *ledger.Book) error {
				return book.Hold(hot, uuid.New(), 3, book.Now())
			})
			if problem.Is(err, problem.InsufficientFunds) {
				refused.Add(1)
				return nil
			}
			held.Add(1)
			return err
		})
	}
	require.NoError(t, group.Wait())
	require.EqualValues(t, 33, held.Load())
	require.EqualValues(t, callers-33, refused.Load())
	require.EqualValues(t, 1, b.account(t, hot).Available())
	b.requireInvariants(t)
}

func TestOppositePaymentsDoNotDeadlock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	anna, bob := b.user(t, 1_000), b.user(t, 1_000)
	var group errgroup.Group
	for i := range callers {
		from, to := anna, bob
		if i%2 == 1 {
			from, to = bob, anna
		}
		group.Go(func() error {
			id := uuid.New()
			lock := []ledger.Ref{from, to}
			if err := b.do(t.Context(), lock, func(book *ledger.Book) error {
				return book.Hold(from, id, 10, book.Now())
			}); err != nil {
				return err
			}
			return b.do(t.Context(), lock, func(book *ledger.Book) error {
				return book.Settle(from, to, id, 10, 10)
			})
		})
	}
	require.NoError(t, group.Wait())
	for _, ref := range []ledger.Ref{anna, bob} {
		a := b.account(t, ref)
		require.Equal(t, []int64{1_000, 0, callers + 1}, []int64{a.Posted, a.Held, a.Version})
	}
	b.requireInvariants(t)
}

// A hold ends once, for the account and the amount that it was made for. Whoever comes second, or with
// other numbers, loses the whole batch.
func TestAHoldEndsOnceAndAsItWasMade(t *testing.T) {
	t.Parallel()
	b := setup(t)
	anna, bob := b.user(t, 100), b.user(t, 100)
	end := func(ref ledger.Ref, id uuid.UUID, amount int64) error {
		return b.do(t.Context(), []ledger.Ref{ref}, func(book *ledger.Book) error {
			return book.Release(ref, id, amount, ledger.HoldReleased)
		})
	}
	ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	require.NoError(t, b.do(t.Context(), []ledger.Ref{anna, bob}, func(book *ledger.Book) error {
		for i, ref := range []ledger.Ref{anna, anna, bob} {
			if err := book.Hold(ref, ids[i], 40, book.Now()); err != nil {
				return err
			}
		}
		return nil
	}))
	require.NoError(t, end(anna, ids[0], 40))
	for name, err := range map[string]error{
		"again":                end(anna, ids[0], 40),
		"another amount":       end(anna, ids[1], 39),
		"another account":      end(bob, ids[1], 40),
		"a hold of nobody":     end(anna, uuid.New(), 40),
		"twice in one batch":   b.endTwice(t, anna, ids[1]),
		"an id used once more": b.holdAgain(t, anna, ids[1]),
	} {
		assert.Truef(t, pgtx.Raced(err), "%s: %v", name, err)
		assert.Falsef(t, pgtx.Unknown(err), "%s: %v", name, err)
	}
	require.EqualValues(t, 40, b.account(t, anna).Held)
	b.requireInvariants(t)
}

func (b *bundle) endTwice(t fataler, ref ledger.Ref, id uuid.UUID) error {
	t.Helper()
	return b.do(t.Context(), []ledger.Ref{ref}, func(book *ledger.Book) error {
		if err := book.Release(ref, id, 20, ledger.HoldReleased); err != nil {
			return err
		}
		return book.Release(ref, id, 20, ledger.HoldReleased)
	})
}

func (b *bundle) holdAgain(t fataler, ref ledger.Ref, id uuid.UUID) error {
	t.Helper()
	return b.do(t.Context(), []ledger.Ref{ref}, func(book *ledger.Book) error {
		return book.Hold(ref, id, 1, book.Now())
	})
}

// pay holds and settles amount.
func (b *bundle) pay(t fataler, from, to ledger.Ref, amount int64) {
	t.Helper()
	id := uuid.New()
	require.NoError(t, b.do(t.Context(), []ledger.Ref{from}, func(book *ledger.Book) error {
		return book.Hold(from, id, amount, book.Now())
	}))
	require.NoError(t, b.do(t.Context(), []ledger.Ref{from, to}, func(book *ledger.Book) error {
		return book.Settle(from, to, id, amount, amount)
	}))
}

func TestBalanceAtEqualsAReplayOfTheHistory(t *testing.T) {
	t.Parallel()
	b := setup(t)
	anna, bob := b.user(t, 500), b.user(t, 500)
	random := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		amount := random.Int64N(20) + 1
		if random.IntN(2) == 0 {
			b.pay(t, anna, bob, amount)
		} else {
			b.pay(t, bob, anna, amount)
		}
	}
	history, err := b.ledger.Postings(t.Context(), anna, math.MaxInt64, 100)
	require.NoError(t, err)
	require.Len(t, history, 41)
	first, last := history[40].At, history[0].At
	times := []time.Time{first.Add(-time.Hour), first.Add(-time.Microsecond), last.Add(time.Hour)}
	for _, p := range history {
		times = append(times, p.At, p.At.Add(-time.Microsecond), p.At.Add(time.Microsecond))
	}
	for range 50 {
		times = append(times, first.Add(time.Duration(random.Int64N(int64(last.Sub(first))))))
	}
	for _, at := range times {
		var want ledger.PostedBalance
		for i := len(history) - 1; i >= 0 && !history[i].At.After(at); i-- {
			want.Posted += history[i].Amount
			want.Version, want.At = history[i].AccountVersion, history[i].At
		}
		got, err := b.ledger.BalanceAt(t.Context(), anna, at)
		require.NoError(t, err)
		require.Equal(t, want, got, "at %s", at)
	}
}

func TestPostingsArePagedNewestFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	anna, bob := b.user(t, 100), b.user(t, 0)
	for i := range int64(6) {
		b.pay(t, anna, bob, i+1)
	}
	var amounts []int64
	for before := int64(math.MaxInt64); ; {
		page, err := b.ledger.Postings(t.Context(), anna, before, 3)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		for _, p := range page {
			amounts, before = append(amounts, p.Amount), p.AccountVersion
		}
	}
	require.Equal(t, []int64{-6, -5, -4, -3, -2, -1, 100}, amounts)
	one, err := b.ledger.Postings(t.Context(), anna, math.MaxInt64, -1)
	require.NoError(t, err)
	require.Len(t, one, 1, "a limit below one means one")
}

func TestAccountsArePagedByID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	want := []uuid.UUID{b.world}
	for range 4 {
		want = append(want, b.user(t, 1).ID)
	}
	other := b
	other.newTenant(t)
	var got []uuid.UUID
	for after := uuid.Nil; ; after = got[len(got)-1] {
		page, err := b.ledger.Accounts(t.Context(), b.tenant, after, 2)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		for _, a := range page {
			require.Equal(t, b.tenant, a.TenantID)
			got = append(got, a.ID)
		}
	}
	require.Equal(t, want, got, "oldest first, and nobody else's")
}

func TestCreateOpensOneAccountPerKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := ledger.NewAccount{Name: "Anna ✓", Kind: ledger.KindUser, Currency: "JPY"}
	first, err := b.ledger.Create(t.Context(), keyed(b.tenant, "open-1"), n, render)
	require.NoError(t, err)
	again, err := b.ledger.Create(t.Context(), keyed(b.tenant, "open-1"), n, render)
	require.NoError(t, err)
	require.True(t, again.Replayed)
	again.Replayed = false
	require.Equal(t, first, again)
	accounts, err := b.ledger.Accounts(t.Context(), b.tenant, b.world, 10)
	require.NoError(t, err)
	require.Len(t, accounts, 1)
	a := accounts[0]
	got := ledger.NewAccount{Name: a.Name, Kind: a.Kind, Currency: a.Currency}
	require.Equal(t, n, got)
	require.Equal(t, ledger.StatusActive, a.Status)
	require.Equal(t, []int64{0, 0, 0, 0}, []int64{a.Floor, a.Posted, a.Held, a.Version})
	require.True(t, a.CreatedAt.After(b.account(t, ledger.Ref{TenantID: b.tenant, ID: b.world}).CreatedAt))

	_, err = b.ledger.Create(t.Context(), keyed(b.tenant, "open-2"), ledger.NewAccount{Name: "x"}, render)
	require.True(t, problem.Is(err, problem.ValidationFailed))
	second, err := b.ledger.Create(t.Context(), keyed(b.tenant, "open-2"), n, render)
	require.NoError(t, err)
	require.False(t, second.Replayed, "an invalid request leaves no key")
}

func TestSetStatusOncePerKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	anna := b.user(t, 10)
	set := func(key, status string) idempotency.Response {
		r, err := b.ledger.SetStatus(t.Context(), keyed(b.tenant, key), anna.ID, status, render)
		require.NoError(t, err)
		return r
	}
	frozen := set("freeze", ledger.StatusFrozen)
	require.Contains(t, string(frozen.Body), "Status:frozen")
	require.Equal(t, ledger.StatusFrozen, b.account(t, anna).Status)
	set("thaw", ledger.StatusActive)
	again := set("freeze", ledger.StatusFrozen)
	require.True(t, again.Replayed)
	require.Equal(t, frozen.Body, again.Body)
	require.Equal(t, ledger.StatusActive, b.account(t, anna).Status, "a replay changes nothing")
}

func TestOnlyAnEmptyAccountIsClosedAndItStaysClosed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	anna, bob := b.user(t, 10), b.user(t, 0)
	set := func(key, status string) idempotency.Response {
		r, err := b.ledger.SetStatus(t.Context(), keyed(b.tenant, key), anna.ID, status, render)
		require.NoError(t, err)
		return r
	}
	require.Equal(t, string(problem.AccountNotEmpty), string(set("close-1", ledger.StatusClosed).Body))
	b.pay(t, anna, bob, 10)
	require.True(t, set("close-1", ledger.StatusClosed).Replayed, "a refusal is an outcome")
	require.Equal(t, ledger.StatusActive, b.account(t, anna).Status)
	require.Equal(t, 201, set("close-2", ledger.StatusClosed).Status)
	require.Equal(t, string(problem.AccountClosed), string(set("open", ledger.StatusActive).Body))
	require.Equal(t, ledger.StatusClosed, b.account(t, anna).Status)
	b.requireInvariants(t)
}

// A foreign account answers exactly as a missing one does.
func TestAForeignAccountIsNotFound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	foreign := b.user(t, 10)
	b.newTenant(t)
	foreign.TenantID = b.tenant
	missing := ledger.Ref{TenantID: b.tenant, ID: uuid.New()}
	for name, call := range map[string]func(ledger.Ref) error{
		"read": func(r ledger.Ref) error { _, err := b.ledger.Account(t.Context(), r); return err },
		"postings": func(r ledger.Ref) error {
			_, err := b.ledger.Postings(t.Context(), r, math.MaxInt64, 1)
			return err
		},
		"balance": func(r ledger.Ref) error {
			_, err := b.ledger.BalanceAt(t.Context(), r, time.Unix(0, 0))
			return err
		},
		"close": func(r ledger.Ref) error {
			key := keyed(b.tenant, r.ID.String())
			_, err := b.ledger.SetStatus(t.Context(), key, r.ID, ledger.StatusClosed, render)
			return err
		},
	} {
		for _, ref := range []ledger.Ref{foreign, missing} {
			err := call(ref)
			p := problem.Of(err)
			assert.Equal(t, problem.NotFound, p.Code, name)
			assert.Equal(t, "Account "+ref.ID.String()+" does not exist.", p.Detail, name)
		}
	}
	n := ledger.NewAccount{Name: "x", Kind: ledger.KindUser, Currency: "EUR"}
	_, err := b.ledger.Seed(t.Context(), b.tenant, foreign.ID, n, 1)
	require.True(t, problem.Is(err, problem.AccountNotFound))
	_, err = b.ledger.SetStatus(t.Context(), keyed(b.tenant, "k"), missing.ID, "asleep", render)
	require.True(t, problem.Is(err, problem.ValidationFailed))
}

func TestSeedRefusesWhatWouldNotBalance(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, c := range []struct {
		kind, currency string
		amount         int64
		code           problem.Code
	}{
		{ledger.KindUser, "USD", 5, problem.CurrencyMismatch},
		{ledger.KindExternal, "EUR", -5, problem.ValidationFailed},
		{"bank", "EUR", 5, problem.ValidationFailed},
	} {
		n := ledger.NewAccount{Name: "x", Kind: c.kind, Currency: c.currency}
		_, err := b.ledger.Seed(t.Context(), b.tenant, b.world, n, c.amount)
		require.Truef(t, problem.Is(err, c.code), "%v", err)
	}
	accounts, err := b.ledger.Accounts(t.Context(), b.tenant, uuid.Nil, 10)
	require.NoError(t, err)
	require.Len(t, accounts, 1, "a refused seed leaves no account")
	b.requireInvariants(t)
}
