package simdep

import (
	"context"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func taken(t *testing.T, j *journal, in submission) *pendingPayout {
	t.Helper()
	_, pending := j.submit(in)
	require.NotNil(t, pending)
	return pending
}

func pendingOf(key, transfer string) submission {
	return submission{
		key: key, payout: payoutRequest{TransferID: transfer, AmountValue: 5}, course: course{pending: true},
	}
}

func TestAWithdrawnPayoutDoesNotSettle(t *testing.T) {
	t.Parallel()
	j := newJournal(0)
	pending := taken(t, j, pendingOf("t1/1", "t1"))
	j.withdraw("t1/1")
	_, final := j.settle(pending)
	require.False(t, final, "so nobody is called back")
	require.Zero(t, j.snapshot(0).Payments)
	require.EqualValues(t, 1, j.snapshot(0).Withdrawn)
}

func TestAWithdrawalStopsEverySubmissionOfARailThatIgnoresKeys(t *testing.T) {
	t.Parallel()
	j := newJournal(0)
	in := pendingOf("t1/1", "t1")
	in.knobs.IgnoreKeys = true
	first, second := taken(t, j, in), taken(t, j, in)
	j.withdraw("t1/1")
	for _, pending := range []*pendingPayout{first, second} {
		_, final := j.settle(pending)
		require.False(t, final)
	}
	require.Zero(t, j.snapshot(0).Payments)
}

func TestWhatWasPaidStaysPaid(t *testing.T) {
	t.Parallel()
	j := newJournal(0)
	in := pendingOf("t1/1", "t1")
	in.knobs.IgnoreKeys = true
	paid := taken(t, j, in)
	in.course.refused = true
	refused := taken(t, j, in)
	_, _ = j.settle(paid)
	status, final := j.settle(refused)
	require.True(t, final)
	require.Equal(t, Refused, status)
	entry, _ := j.entry("t1/1")
	require.Equal(t, Paid, entry.Status)
}

func TestTransfersAreRememberedAsLongAsTheirReferences(t *testing.T) {
	t.Parallel()
	j := newJournal(2)
	pay := func(key, transfer string) {
		_, _ = j.submit(submission{key: key, payout: payoutRequest{TransferID: transfer, AmountValue: 5}})
	}
	pay("t1/1", "t1")
	pay("t1/2", "t1")
	pay("t2/1", "t2") // forgets t1/1
	pay("t1/3", "t1") // forgets t1/2, and with it the transfer
	require.EqualValues(t, 1, j.snapshot(0).TransfersPaidTwice)
	for i := range 10 {
		pay("other/"+strconv.Itoa(i), "t"+strconv.Itoa(10+i))
	}
	require.Len(t, j.payees, 2)
	require.EqualValues(t, 12, j.snapshot(0).KeysDropped)
}

func TestChoresAreBounded(t *testing.T) {
	t.Parallel()
	c := chores{ctx: t.Context(), running: maxChores}
	require.False(t, c.start(func(context.Context) { t.Error("started") }))
	c.running = 0
	done := make(chan struct{})
	require.True(t, c.start(func(context.Context) { <-done }))
	close(done)
	c.close()
	require.Zero(t, c.running)
	require.False(t, c.start(func(context.Context) { t.Error("started") }))
}

func TestCloseWaitsForChores(t *testing.T) {
	t.Parallel()
	server, err := Start(t.Context(), Options{})
	require.NoError(t, err)
	ended := false
	require.True(t, server.chores.start(func(ctx context.Context) {
		<-ctx.Done()
		server.served <- <-server.served // nothing is served any more
		for range 1000 {
			runtime.Gosched()
		}
		ended = true
	}))
	require.NoError(t, server.Close())
	require.True(t, ended)
}

func TestAPayoutTooManyIsFinalAtOnce(t *testing.T) {
	t.Parallel()
	server, err := Start(t.Context(), Options{})
	require.NoError(t, err)
	server.chores.mu.Lock()
	server.chores.running = maxChores
	server.chores.mu.Unlock()
	server.take(pendingOf("t1/1", "t1"))
	require.EqualValues(t, 1, server.Journal().Payments)
	require.NoError(t, server.Close())
	server.take(pendingOf("t2/1", "t2"))
	require.EqualValues(t, 1, server.Journal().Payments, "after the end nothing settles")
}
