package cloudevent_test

import (
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/order/ordertest"
	"example.com/holdfast/internal/outbound/payout"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// world lives transfers and orders, one after the other, and reads the log of their events.
type world struct {
	*ordertest.Bundle
	encoder *cloudevent.Encoder
}

func newWorld(t *testing.T) world {
	t.Helper()
	w := world{Bundle: ordertest.New(t)}
	w.encoder = &cloudevent.Encoder{Describe: map[string]cloudevent.Describer{
		"transfer": w.Transfers.Facts, "order": w.Orders.Facts,
	}}
	relay := &outbox.Relay{Pool: w.Pool, Log: slog.New(slog.DiscardHandler)}
	relay.Start(t.Context())
	t.Cleanup(relay.Stop)
	return w
}

// log is the whole log, once all events are in it.
func (w world) log(t *testing.T) []outbox.Logged {
	t.Helper()
	var events []outbox.Logged
	transfertest.Eventually(t, "every event is in the log", func() bool {
		var err error
		events, err = outbox.ReadWholeLog(t.Context(), w.Pool, 0, outbox.LogPageMax)
		require.NoError(t, err)
		return int64(len(events)) == w.Count(t, "SELECT count(*) FROM events")
	})
	require.Less(t, len(events), outbox.LogPageMax, "one page")
	return events
}

func (w world) item(key string, to uuid.UUID) transfer.New {
	item := w.Bundle.Bundle.Item(250)
	item.ToAccount, item.ClientReference = to, "transfer "+key
	item.Metadata = json.RawMessage(`{"deep":{"er":[1,null,"<é>"]}}`)
	return item
}

// accept accepts a transfer that has all that a client can give it.
func (w world) accept(t *testing.T, key string, to uuid.UUID) uuid.UUID {
	t.Helper()
	response, err := w.Transfers.Create(t.Context(), w.Bundle.Bundle.Request(key, w.item(key, to)))
	require.NoError(t, err)
	return transfertest.Read(t, response).ID
}

func (w world) act(t *testing.T, id uuid.UUID, e transfer.Event) {
	t.Helper()
	_, err := w.Transfers.Act(t.Context(), w.Action("act "+string(e), id, e, "looked at it"))
	require.NoError(t, err)
}

// transfers live through all states that a transfer can have.
func (w world) transfers(t *testing.T) {
	t.Helper()
	late := w.accept(t, "late", w.To)
	w.Exec(t, "UPDATE transfers SET promise_at = clock_timestamp() - interval '1 second'")
	worker := w.Bundle.Bundle.StartWorker(t, "transfers")
	require.Equal(t, transfer.Expired, w.WaitTerminal(t, late).State)

	w.Risk.Answer(risk.OutcomeReview, "large")
	var reviewed []uuid.UUID
	decisions := []transfer.Event{transfer.Approve, transfer.Block, transfer.Cancel}
	for _, e := range decisions {
		reviewed = append(reviewed, w.accept(t, string(e), w.To))
	}
	transfertest.Eventually(t, "an operator is waited for", func() bool {
		return w.Count(t, "SELECT count(*) FROM transfers WHERE state = 'in_review'") == 3
	})
	for i, e := range decisions {
		w.act(t, reviewed[i], e)
		w.WaitTerminal(t, reviewed[i])
	}
	w.Risk.Answer(risk.OutcomeApprove, "")
	_, err := w.Transfers.Reverse(t.Context(), w.Reversal("reverse", reviewed[0], 100))
	require.NoError(t, err)
	require.Equal(t, transfer.Settled, w.WaitTerminal(t, w.accept(t, "paid out", w.External)).State)
	w.Rail.Answer(payout.Receipt{Status: payout.StatusRefused, Reason: "closed"})
	require.Equal(t, transfer.Failed, w.WaitTerminal(t, w.accept(t, "refused", w.External)).State)
	w.Bundle.Bundle.WaitQuiet(t)
	require.NoError(t, worker.Stop(t.Context())) // it knows no orders
}

// orders live through all states that an order can have.
func (w world) orders(t *testing.T) {
	t.Helper()
	item := w.Item(1)
	item.Slot, item.ClientReference = w.Slot, "basket"
	item.Metadata = json.RawMessage(`{"gift":true}`)
	canceled := w.Place(t, "canceled", item)
	_, err := w.Orders.Act(t.Context(), w.Cancel("cancel order", canceled))
	require.NoError(t, err)

	w.StartWorker(t, "orders")
	w.Risk.Answer(risk.OutcomeApprove, "")
	require.Equal(t, order.Confirmed, w.WaitEnd(t, w.Place(t, "confirmed", w.Item(1))).State)
	require.Equal(t, order.ReasonStock, w.WaitEnd(t, w.Place(t, "no stock", w.Item(ordertest.OnHand))).Reason)
	w.Risk.Answer(risk.OutcomeBlock, "stolen")
	require.Equal(t, order.ReasonPayment, w.WaitEnd(t, w.Place(t, "no payment", w.Item(1))).Reason)
}

// TestEveryEventOfALifeFitsItsSchema lives all lives, and holds what comes of them to the schemas. They are
// closed for this: a member that a schema does not name fails too.
func TestEveryEventOfALifeFitsItsSchema(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.transfers(t)
	w.orders(t)
	w.WaitQuiet(t)

	seen := map[string]bool{cloudevent.PingType: true} // it is no event
	events := w.log(t)
	for i, m := range encode(t, w.encoder, events...) {
		requireFits(t, m)
		noun, _, _ := strings.Cut(events[i].Type, ".")
		require.Contains(t, read(t, m).Data, noun, "what never changes is told")
		seen[m.Type] = true
	}
	require.Equal(t, names(), slices.Sorted(maps.Keys(seen)), "every type is seen, and no other one")
}

// TestAMessageIsTheSameAfterItsAggregateHasMovedOn encodes at every step what there is until then.
func TestAMessageIsTheSameAfterItsAggregateHasMovedOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bodies := map[string]string{}
	look := func() int {
		for _, m := range encode(t, w.encoder, w.log(t)...) {
			if before, known := bodies[m.ID]; known {
				require.Equal(t, before, string(m.Body))
			}
			bodies[m.ID] = string(m.Body)
		}
		return len(bodies)
	}
	w.Risk.Answer(risk.OutcomeReview, "large")
	id := w.accept(t, "k1", w.To)
	require.Equal(t, 1, look())
	w.Bundle.Bundle.StartWorker(t, "worker")
	transfertest.Eventually(t, "an operator is waited for", func() bool {
		return w.Get(t, id).State == transfer.InReview
	})
	require.Equal(t, 2, look())
	w.Risk.Answer(risk.OutcomeApprove, "")
	w.act(t, id, transfer.Approve)
	w.WaitTerminal(t, id)
	_, err := w.Transfers.Reverse(t.Context(), w.Reversal("reverse", id, 0))
	require.NoError(t, err)
	w.Bundle.Bundle.WaitQuiet(t)
	require.Equal(t, 4+3, look())
}
