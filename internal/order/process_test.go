package order_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/order/ordertest"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

func TestAnOrderGoesStepByStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.reserved(t, "k1", w.Item(3))
	w.requireStock(t, 10, 3)
	o := w.Order(t, id)
	require.Equal(t, o.ReservationExpiresAt, o.PromiseAt, "a reserved order ends when its reservation does")
	require.WithinDuration(t, o.UpdatedAt.Add(order.ReservationTTL), o.PromiseAt, time.Second)

	release := w.hold(t)
	require.Equal(t, "pay", w.run(t))
	release()
	w.paid(t, id)
	w.requireStock(t, 10, 3)
	require.Equal(t, "payment", w.run(t))
	w.requireState(t, id, order.Confirmed, "", order.PaymentSettled)
	w.requireStock(t, 7, 0)
	w.requirePaid(t, 3*ordertest.Price)
	w.CheckInvariants(t)
}

func TestWithoutStockAnOrderIsCanceledAndTakesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.NewSKU(t, "second", 50, 1)
	nowhere := w.NewSKU(t, "third", 50, 0)
	for name, lines := range map[string][]order.Line{
		"too many of one":       {{SKU: w.SKU, Quantity: 1}, {SKU: other, Quantity: 2}},
		"two lines of one":      {{SKU: w.SKU, Quantity: 6}, {SKU: w.SKU, Quantity: 5}},
		"never there":           {{SKU: w.SKU, Quantity: 1}, {SKU: nowhere, Quantity: 1}},
		"the last line of many": {{SKU: other, Quantity: 1}, {SKU: w.SKU, Quantity: 11}},
	} {
		item := w.Item(1)
		item.Lines, item.Slot = lines, w.Slot
		id := w.Place(t, name, item)
		require.Equal(t, "reserve", w.run(t))
		w.requireState(t, id, order.Canceled, order.ReasonStock, order.PaymentNone)
		w.requireStock(t, 10, 0)
		require.Zero(t, w.Booked(t, w.Slot))
	}
	elsewhere := w.Item(1)
	elsewhere.Location = "elsewhere"
	id := w.Place(t, "elsewhere", elsewhere)
	w.run(t)
	w.requireState(t, id, order.Canceled, order.ReasonStock, order.PaymentNone)
	w.CheckInvariants(t)
}

func TestAFullOrClosedSlotCancels(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	item := w.Item(1)
	item.Slot = w.NewSlot(t, ordertest.Location, 1)
	first, second := w.Place(t, "k1", item), w.Place(t, "k2", item)
	w.run(t)
	require.NotEqual(t, order.Canceled, w.Order(t, first).State, "it may be paid and confirmed already")
	w.requireState(t, second, order.Canceled, order.ReasonSlot, order.PaymentNone)

	item.Slot = w.Slot
	third := w.Place(t, "k3", item)
	w.CloseSlot(t, w.Slot)
	w.run(t)
	w.requireState(t, third, order.Canceled, order.ReasonSlot, order.PaymentNone)
	w.finish(t)
	w.requireState(t, first, order.Confirmed, "", order.PaymentSettled)
	w.requireStock(t, 9, 0)
	require.Zero(t, w.Booked(t, w.Slot))
	w.CheckInvariants(t)
}

func TestARefusedPaymentCancels(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	poor := w.Account(t, ordertest.Price-1)
	item := w.Item(1)
	item.CustomerAccount, item.Slot = poor, w.Slot
	id := w.Place(t, "k1", item)
	require.Equal(t, "reserve pay", w.run(t))
	w.requireState(t, id, order.Canceled, order.ReasonPayment, order.PaymentFailed)
	w.requireStock(t, 10, 0)
	require.Zero(t, w.Booked(t, w.Slot))
	w.CheckInvariants(t)
}

func TestABlockedPaymentCancels(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Risk.Answer(risk.OutcomeBlock, "stolen")
	id := w.Place(t, "k1", w.Item(1))
	w.run(t)
	require.Equal(t, transfer.Blocked, w.paid(t, id).State)
	w.run(t)
	w.requireState(t, id, order.Canceled, order.ReasonPayment, order.PaymentFailed)
	w.requireStock(t, 10, 0)
	w.requirePaid(t, 0)
	w.CheckInvariants(t)
}

func TestACanceledOrderGivesEverythingBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	item := w.Item(2)
	item.Slot = w.Slot

	pending := w.Place(t, "pending", item)
	require.Equal(t, order.Canceled, w.cancel(t, "c1", pending).State)
	w.requireState(t, pending, order.Canceled, order.ReasonClient, order.PaymentNone)
	require.Equal(t, "reserve", w.run(t), "the job finds nothing to do")

	id, release := w.paying(t, "paying", item)
	require.Equal(t, order.Canceled, w.cancel(t, "c2", id).State)
	w.requireState(t, id, order.Canceled, order.ReasonClient, order.PaymentReversing)
	w.requireStock(t, 10, 0)
	require.Zero(t, w.Booked(t, w.Slot))
	require.Equal(t, "reverse payment", w.run(t), "the payment is canceled, and that is told")
	w.requireState(t, id, order.Canceled, order.ReasonClient, order.PaymentReversed)
	release()
	require.Equal(t, transfer.Canceled, w.paid(t, id).State)
	w.requirePaid(t, 0)

	again := w.cancel(t, "c2", id)
	require.Equal(t, order.Canceled, again.State, "the same key gets the same answer")
	require.Equal(t, problem.IllegalTransition, w.cancel(t, "c3", id).Code)
	events, err := w.Orders.Events(t.Context(), w.Ref(id), 0)
	require.NoError(t, err)
	require.Contains(t, string(events[2].Data), "changed my mind")
	w.CheckInvariants(t)
}

func TestAnOperatorCancelsInTheirOwnName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.Place(t, "k1", w.Item(1))
	a := w.Cancel("c1", id)
	a.Actor = "operator:anna"
	_, err := w.Orders.Act(t.Context(), a)
	require.NoError(t, err)
	w.requireState(t, id, order.Canceled, order.ReasonOperator, order.PaymentNone)
}

func TestAConfirmedOrderStaysConfirmed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.unheard(t, w.Item(1))
	w.run(t)
	require.Equal(t, problem.IllegalTransition, w.cancel(t, "c1", id).Code)
	w.requireState(t, id, order.Confirmed, "", order.PaymentSettled)
	w.requireStock(t, 9, 0)

	confirm := w.Cancel("c2", id)
	confirm.Event = order.Confirm
	_, err := w.Orders.Act(t.Context(), confirm)
	require.ErrorContains(t, err, "no action", "nobody confirms by hand")
	_, err = w.Orders.Act(t.Context(), w.Cancel("c3", uuid.New()))
	require.True(t, problem.Is(err, problem.NotFound))
	w.CheckInvariants(t)
}

func TestAPaymentThatSettlesAfterTheCancelGoesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.unheard(t, w.Item(2))
	require.Equal(t, transfer.Settled, w.paid(t, id).State)
	w.requirePaid(t, 2*ordertest.Price)
	require.Equal(t, order.Canceled, w.cancel(t, "c1", id).State, "the event was not heard yet")
	w.finish(t)
	w.requireState(t, id, order.Canceled, order.ReasonClient, order.PaymentReversed)
	w.Bundle.Bundle.WaitQuiet(t)
	w.requirePaid(t, 0)
	w.requireStock(t, 10, 0)
	require.EqualValues(t, 2, w.Count(t, "SELECT count(*) FROM transfers"), "it goes back once")
	w.CheckInvariants(t)
}

func TestAPaymentThatIsAcceptedAfterTheCancelGoesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slow := &slowPayments{world: w}
	s := w.Service(t, "slow", slow)
	id := w.reserved(t, "k1", w.Item(1))
	slow.between = func() { // the order is canceled, and its payment looked for, while the call is under way
		require.Equal(t, order.Canceled, w.cancel(t, "c1", id).State)
		for w.Order(t, id).PaymentState != order.PaymentReversed {
			j, found := w.next(t)
			require.True(t, found)
			w.work(t, j)
		}
	}
	j, found := w.next(t)
	require.True(t, found)
	require.NoError(t, s.RunJob(t.Context(), j.Kind, j.ID, j.Attempt, j.Args))
	transfertest.Eventually(t, "the payment settled all the same", func() bool {
		return w.Count(t, "SELECT count(*) FROM transfers WHERE state = 'settled'") == 1
	})
	w.finish(t)
	w.Bundle.Bundle.WaitQuiet(t)
	w.requireState(t, id, order.Canceled, order.ReasonClient, order.PaymentReversed)
	w.requirePaid(t, 0)
	w.CheckInvariants(t)
}

func TestAnOrderThatIsNotPaidInTimeExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	item := w.Item(1)
	item.Slot = w.Slot
	id, release := w.paying(t, "k1", item)
	w.endPromise(t)
	w.finish(t)
	release()
	w.requireState(t, id, order.Canceled, order.ReasonExpired, order.PaymentReversed)
	require.EqualValues(t, 1, w.Count(t, "SELECT count(*) FROM reservations WHERE status = 'expired'"))
	w.requireStock(t, 10, 0)
	w.requirePaid(t, 0)

	late := w.Place(t, "k2", item)
	w.endPromise(t)
	w.run(t)
	w.requireState(t, late, order.Canceled, order.ReasonExpired, order.PaymentNone)
	w.CheckInvariants(t)
}

func TestAPaymentAfterTheReservationLapsedReservesAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	item := w.Item(4)
	item.Slot = w.Slot
	id := w.unheard(t, item)
	w.lapse(t)
	require.Equal(t, "payment", w.run(t))
	w.requireState(t, id, order.Confirmed, "", order.PaymentSettled)
	w.requireStock(t, 6, 0)
	require.EqualValues(t, 1, w.Booked(t, w.Slot))
	w.CheckInvariants(t)
}

func TestAPaymentAfterTheReservationLapsedGoesBackIfNothingIsLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reason order.Reason
		take   func(*testing.T, world)
	}{
		"slot closed": {order.ReasonSlot, func(t *testing.T, w world) {
			t.Helper()
			w.CloseSlot(t, w.Slot)
		}},
		"stock lost": {order.ReasonStock, func(t *testing.T, w world) {
			t.Helper() // what was reserved was given away behind the order's back
			w.Exec(t, "UPDATE reservations SET status = 'expired'")
			w.Exec(t, "UPDATE stock SET reserved = 0")
			w.Adjust(t, w.SKU, -8)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			item := w.Item(4)
			item.Slot = w.Slot
			id := w.unheard(t, item)
			w.lapse(t)
			c.take(t, w)
			w.finish(t)
			w.Bundle.Bundle.WaitQuiet(t)
			w.requireState(t, id, order.Canceled, c.reason, order.PaymentReversed)
			w.requirePaid(t, 0)
			require.Zero(t, w.Stock(t, w.SKU).Reserved)
			require.Zero(t, w.Booked(t, w.Slot))
			w.CheckInvariants(t)
		})
	}
}

func TestARedeliveredEventChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.unheard(t, w.Item(2))
	paid := w.paid(t, id)
	redeliver := func() {
		w.Exec(t, `INSERT INTO deliveries SELECT 'order', tenant_id, aggregate_id, seq, type, $2, now(), now()
		            FROM events WHERE aggregate_id = $1 AND type = 'transfer.settled' ON CONFLICT DO NOTHING`,
			paid.ID, "order:"+id.String())
	}
	j, found := w.next(t)
	require.True(t, found)
	for range 3 {
		redeliver()
		w.work(t, j)
	}
	w.requireState(t, id, order.Confirmed, "", order.PaymentSettled)
	w.requireStock(t, 8, 0)
	require.Zero(t, w.Count(t, "SELECT count(*) FROM deliveries"))
	require.EqualValues(t, 1, w.Count(t, "SELECT count(*) FROM inbox"))
	require.EqualValues(t, 3, w.Order(t, id).Version)
	w.CheckInvariants(t)
}

func TestATransferThatOnlyNamesAnOrderDoesNotPayIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := w.hold(t)
	id := w.Place(t, "k1", w.Item(5))
	forged := w.Bundle.Bundle.Item(1)
	forged.ClientReference = "order:" + id.String()
	_, err := w.Transfers.Create(t.Context(), w.Bundle.Bundle.Request("forged", forged))
	require.NoError(t, err)
	strange := w.Bundle.Bundle.Item(1)
	for _, reference := range []string{
		"order:", "order:x", "order:" + uuid.NewString(), "order:" + id.String() + "/reverse/0",
	} {
		strange.ClientReference = reference
		_, err := w.Transfers.Create(t.Context(), w.Bundle.Bundle.Request(reference, strange))
		require.NoError(t, err)
	}
	release()
	w.Bundle.Bundle.WaitQuiet(t)
	w.finish(t)
	w.requireState(t, id, order.Canceled, order.ReasonPayment, order.PaymentReversed)
	w.requireStock(t, 10, 0)
	require.Zero(t, w.Count(t, "SELECT count(*) FROM transfers WHERE reverses IS NOT NULL"),
		"it is not the order's money")
}

func TestLinesAreMergedAndPricedWhenPlaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	item := w.Item(2)
	item.Lines = append(item.Lines, order.Line{SKU: w.SKU, Quantity: 3, UnitPrice: 1})
	id := w.Place(t, "k1", item)
	w.Exec(t, "UPDATE skus SET price = 7")
	o := w.Order(t, id)
	require.Equal(t, []order.Line{{SKU: w.SKU, Quantity: 5, UnitPrice: ordertest.Price}}, o.Lines)
	require.Equal(t, 5*ordertest.Price, o.Total.Value)
	w.run(t)
	require.EqualValues(t, 1, w.Count(t, "SELECT count(*) FROM reservations WHERE quantity = 5"))
	require.Equal(t, inventory.Stock{
		SKU: w.SKU, Location: ordertest.Location, OnHand: 10, Reserved: 5, Version: 1,
	}, w.Stock(t, w.SKU))
}
