package inventory_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
)

func TestAReservationIsConsumedByEntries(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two, slot := b.sku(t, "one", 5), b.sku(t, "two", 5), b.slot(t, "slot", soon(1))
	c := b.claim(slot, 2, one, two)
	require.NoError(t, b.reserve(t, c))
	b.requireStock(t, one, 5, 2, 1)
	require.EqualValues(t, 1, b.booked(t, slot))
	require.NoError(t, b.do(t.Context(), func(book *inventory.Book) error { return book.Consume(c) }, c))
	b.requireStock(t, one, 3, 0, 2)
	b.requireStock(t, two, 3, 0, 2)
	require.EqualValues(t, 1, b.booked(t, slot), "the delivery takes place")
	err := b.do(t.Context(), func(book *inventory.Book) error { return book.Consume(c) }, c)
	require.ErrorIs(t, err, inventory.ErrLapsed, "once")
	require.NoError(t, b.do(t.Context(), func(book *inventory.Book) error {
		return book.Release(c, inventory.StatusReleased)
	}, c), "nothing is left to give back")
	b.requireStock(t, one, 3, 0, 2)
	b.requireInvariants(t)
}

func TestReserveTakesAllOrNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two, slot := b.sku(t, "one", 5), b.sku(t, "two", 1), b.slot(t, "slot", soon(1))
	closed := b.slot(t, "closed", soon(1))
	past := soon(1)
	past.StartsAt, past.EndsAt = time.Unix(0, 0), time.Unix(60, 0)
	over, elsewhere := b.slot(t, "past", past), soon(1)
	elsewhere.Location = "elsewhere"
	away := b.slot(t, "elsewhere", elsewhere)
	_, err := b.inventory.CloseSlot(t.Context(), b.keyed("close"), closed, renderSlot)
	require.NoError(t, err)
	require.NoError(t, b.reserve(t, b.claim(slot, 1, one)))
	for name, c := range map[string]struct {
		claim inventory.Claim
		code  problem.Code
	}{
		"second line": {b.claim(uuid.Nil, 2, one, two), problem.InsufficientStock},
		"no stock":    {b.claim(uuid.Nil, 1, one, uuid.New()), problem.InsufficientStock},
		"full slot":   {b.claim(slot, 1, one), problem.SlotFull},
		"closed slot": {b.claim(closed, 1, one), problem.SlotClosed},
		"past slot":   {b.claim(over, 1, one), problem.SlotClosed},
		"other place": {b.claim(away, 1, one), problem.SlotElsewhere},
		"no slot":     {b.claim(uuid.New(), 1, one), problem.SlotNotFound},
	} {
		var after error
		err := b.do(t.Context(), func(book *inventory.Book) error {
			after = book.Reserve(c.claim, book.Now().Add(time.Minute))
			return nil // what the refusal left in the book is written
		}, c.claim)
		require.NoError(t, err, name)
		require.True(t, problem.Is(after, c.code), "%s: %v", name, after)
	}
	b.requireStock(t, one, 5, 1, 1)
	b.requireStock(t, two, 1, 0, 1)
	b.requireInvariants(t)
}

func TestExpiryIsJudgedWhenItIsLookedAt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, slot := b.sku(t, "one", 5), b.slot(t, "slot", soon(1))
	c := b.claim(slot, 2, one)
	require.NoError(t, b.do(t.Context(), func(book *inventory.Book) error {
		return book.Reserve(c, book.Now().Add(time.Microsecond))
	}, c))
	err := b.do(t.Context(), func(book *inventory.Book) error {
		require.False(t, book.Active(c))
		return book.Consume(c)
	}, c)
	require.ErrorIs(t, err, inventory.ErrLapsed)
	b.requireStock(t, one, 5, 2, 1)

	require.NoError(t, b.do(t.Context(), func(book *inventory.Book) error { // again, in one transaction
		return errors.Join(book.Release(c, inventory.StatusExpired),
			book.Reserve(c, book.Now().Add(time.Minute)), book.Consume(c))
	}, c))
	b.requireStock(t, one, 3, 0, 2)
	require.EqualValues(t, 1, b.booked(t, slot))
	b.requireInvariants(t)
}

func TestAReleasedClaimIsFreeForOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, slot := b.sku(t, "one", 2), b.slot(t, "slot", soon(1))
	first, second := b.claim(slot, 2, one), b.claim(slot, 2, one)
	require.NoError(t, b.do(t.Context(), func(book *inventory.Book) error {
		if err := book.Reserve(first, book.Now().Add(time.Minute)); err != nil {
			return err
		}
		require.True(t, problem.Is(book.Reserve(second, book.Now()), problem.SlotFull))
		return errors.Join(book.Release(first, inventory.StatusReleased),
			book.Reserve(second, book.Now().Add(time.Minute)))
	}, first, second))
	b.requireStock(t, one, 2, 2, 1)
	b.requireInvariants(t)
}

func TestMistakesOfTheProgramAreErrors(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := b.sku(t, "one", 5)
	c, other := b.claim(uuid.Nil, 1, one), b.claim(uuid.Nil, 1, one)
	require.NoError(t, b.reserve(t, c))
	require.ErrorContains(t, b.reserve(t, c), "already")
	require.ErrorContains(t, b.reserve(t, b.claim(uuid.Nil, 0, one)), "quantity 0")
	require.ErrorContains(t, b.reserve(t, b.claim(uuid.Nil, -1, one)), "quantity -1")
	larger := c
	larger.Lines = []inventory.Line{{SKU: one, Quantity: 2}}
	err := b.do(t.Context(), func(book *inventory.Book) error { return book.Consume(larger) }, larger)
	require.ErrorIs(t, err, inventory.ErrLapsed)
	err = b.do(t.Context(), func(book *inventory.Book) error { return book.Reserve(c, book.Now()) }, other)
	require.Error(t, err, "another owner's book")
	b.requireStock(t, one, 5, 1, 1)
	b.requireInvariants(t)
}

func TestTheLastUnitIsReservedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := b.sku(t, "one", 10), b.sku(t, "two", 100)
	var got, short atomic.Int64
	var group errgroup.Group
	group.SetLimit(8)
	for i := range 60 {
		group.Go(func() error {
			c := b.claim(uuid.Nil, 1, one, two)
			if i%2 == 0 { // named the other way round
				c = b.claim(uuid.Nil, 1, two, one)
			}
			err := b.reserve(t, c)
			switch {
			case problem.Is(err, problem.InsufficientStock):
				short.Add(1)
			case err == nil:
				got.Add(1)
			case pgtx.Raced(err):
				return errors.New("locks in key order never race: " + err.Error())
			default:
				return err
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	require.Equal(t, []int64{10, 50}, []int64{got.Load(), short.Load()})
	b.requireStock(t, one, 10, 10, 1)
	b.requireInvariants(t)
}
