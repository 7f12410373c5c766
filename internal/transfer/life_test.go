package transfer_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

func TestAnAcceptedTransferSettlesAndIsTold(t *testing.T) {
	t.Parallel()
	b := transfertest.New(t)
	b.StartWorker(t, "worker")
	id := b.Create(t, "k1", 250)

	got := b.WaitTerminal(t, id)
	b.WaitQuiet(t)

	require.Equal(t, transfer.Settled, got.State)
	require.Empty(t, got.Reason)
	posted, held := b.Balance(t, b.From)
	require.Equal(t, transfertest.Funds-250, posted)
	require.Zero(t, held)
	require.Equal(t, transfertest.Calls{Sends: 1, Effects: 1}, b.Risk.Calls(id.String()+"/screen"))
	require.Equal(t, "transfer.settled", b.Notify.Message(id.String()+"/notify").Event)
	require.Equal(t, transfer.NotificationSent, b.Get(t, id).Notification)
	b.CheckInvariants(t)
}
