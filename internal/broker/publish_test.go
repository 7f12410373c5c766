package broker_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/broker"
	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/outbox"
)

func TestAMessageIsStoredWithItsSubjectHeadersAndBody(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	b := connect(t, s.url())
	m := message(aggregates(1)[0], 7)
	require.NoError(t, b.Publish(t.Context(), []cloudevent.Message{m}))
	stored := s.stored(t)
	require.Len(t, stored, 1)
	require.Equal(t, "holdfast.events."+tenant.String()+".thing.moved", stored[0].Subject)
	require.Equal(t, nats.Header{
		"Nats-Msg-Id": {m.ID}, "Content-Type": {"application/cloudevents+json; charset=utf-8"},
	}, stored[0].Header)
	require.Equal(t, m.Body, stored[0].Data)
}

func TestAMessageSaysInAHeaderToWhichTraceItBelongs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	b := connect(t, s.url())
	m := message(aggregates(1)[0], 7)
	m.Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	require.NoError(t, b.Publish(t.Context(), []cloudevent.Message{m}))
	require.Equal(t, []string{m.Trace}, s.stored(t)[0].Header["traceparent"])
}

func TestAMessageThatComesAgainIsStoredOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	b := connect(t, s.url())
	messages := history(aggregates(1)[0], 4)
	require.NoError(t, b.Publish(t.Context(), messages[:3]))
	require.NoError(t, b.Publish(t.Context(), messages))
	require.NoError(t, connect(t, s.url()).Publish(t.Context(), messages), "another process")
	var want []string
	for _, m := range messages {
		want = append(want, m.ID)
	}
	require.Equal(t, want, s.storedIDs(t))
	require.Equal(t, []broker.Observation{
		{Messages: 3, Stored: 3}, {Messages: 4, Stored: 1, Duplicates: 3},
	}, b.observed())
}

func TestAMessageWaitsForTheOneBeforeIt(t *testing.T) {
	t.Parallel()
	s := newStub(t)
	b := connect(t, s.url())
	of := aggregates(3)
	messages := slices.Concat(history(of[0], 3), history(of[1], 2), history(of[2], 1))
	done := make(chan error, 1)
	go func() { done <- b.Publish(t.Context(), messages) }()
	for _, wave := range [][]cloudevent.Message{
		{messages[0], messages[3], messages[5]}, {messages[1], messages[4]}, {messages[2]},
	} {
		// Nothing is acknowledged before all of the wave is there: whatever does not wait comes in between.
		var arrived []*nats.Msg
		for _, want := range wave {
			m := s.next(t)
			require.Equal(t, want.ID, id(m))
			arrived = append(arrived, m)
		}
		s.nothingMore(t)
		slices.Reverse(arrived)
		acknowledge(t, arrived...)
	}
	require.NoError(t, <-done)
	require.Equal(t, []broker.Observation{{Messages: 6, Stored: 6}}, b.observed())
}

func TestAFailureEndsTheCallAfterItsWave(t *testing.T) {
	t.Parallel()
	s := newStub(t)
	b := connect(t, s.url())
	of := aggregates(3)
	messages := slices.Concat(history(of[0], 2), history(of[1], 2), history(of[2], 2))
	done := make(chan error, 1)
	go func() { done <- b.Publish(t.Context(), messages) }()
	first, second, third := s.next(t), s.next(t), s.next(t)
	refuse(t, second)
	acknowledge(t, third)
	require.Eventually(t, func() bool { return b.Pending() == 1 }, waitMax, look)
	require.Empty(t, done, "the outcome of the first is not known yet")
	acknowledge(t, first)
	err := <-done
	require.ErrorContains(t, err, cloudevent.ID(of[1], 1))
	require.ErrorContains(t, err, "it is full")
	s.nothingMore(t)
	observed := b.observed()
	require.Len(t, observed, 1)
	require.Equal(t, err, observed[0].Err)
	require.Equal(t, 2, observed[0].Stored)
	require.Equal(t, 4, observed[0].Failed())
}

func TestWhatIsNotAcknowledgedEndsWithTheTimeOfTheCaller(t *testing.T) {
	t.Parallel()
	s := newStub(t)
	b := connect(t, s.url())
	b.becomesHealthy(t)
	messages := history(aggregates(1)[0], 2)
	left, leave := context.WithCancel(t.Context())
	leave()
	require.ErrorIs(t, b.Publish(left, messages), context.Canceled)
	require.True(t, b.Healthy(), "who left says nothing about the broker")
	s.nothingMore(t)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := b.Publish(ctx, messages)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, messages[0].ID)
	require.False(t, b.Healthy(), "it took nothing")
	require.Equal(t, messages[0].ID, id(s.next(t)))
	s.nothingMore(t)
}

func TestWhatIsNotAcknowledgedEndsByItself(t *testing.T) {
	t.Parallel()
	s := newStub(t)
	b := connect(t, s.url())
	require.ErrorContains(t, b.Publish(t.Context(), history(aggregates(1)[0], 2)), "timeout")
	require.Equal(t, 0, b.Pending())
	s.next(t)
	s.nothingMore(t)
}

func TestNobodyThereIsAFailureAtOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	b := connect(t, s.url())
	messages := history(aggregates(1)[0], 2)
	require.NoError(t, b.Publish(t.Context(), messages[:1]))
	require.NoError(t, s.jetStream(t).DeleteStream(t.Context(), streamName))
	before := b.Sent()
	require.ErrorContains(t, b.Publish(t.Context(), messages), "no response from stream")
	require.Equal(t, uint64(1), b.Sent()-before, "nothing was sent again")
	require.NoError(t, b.Publish(t.Context(), messages), "the stream is made again")
	require.Equal(t, []string{messages[0].ID, messages[1].ID}, s.storedIDs(t))
}

func TestTheNumberOfMessagesInFlightIsBounded(t *testing.T) {
	t.Parallel()
	s := newStub(t)
	b := connect(t, s.url())
	var messages []cloudevent.Message
	for _, a := range aggregates(outbox.LogPageMax) {
		messages = append(messages, message(a, 1))
	}
	done := make(chan error, 1)
	go func() { done <- b.Publish(t.Context(), messages) }()
	arrived := make([]*nats.Msg, 0, len(messages))
	for range broker.InFlightMax {
		arrived = append(arrived, s.next(t))
	}
	s.nothingMore(t)
	require.Equal(t, broker.InFlightMax, b.Pending())
	for i := range messages {
		acknowledge(t, arrived[i])
		if len(arrived) < len(messages) {
			arrived = append(arrived, s.next(t))
		}
		require.LessOrEqual(t, b.Pending(), broker.InFlightMax)
	}
	require.NoError(t, <-done)
}

func TestACallInsideATransactionIsRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	b := connect(t, s.url(), func(c *broker.Config) { c.InTx = func(context.Context) bool { return true } })
	require.ErrorContains(t, b.Publish(t.Context(), history(aggregates(1)[0], 1)), "inside a transaction")
	require.Empty(t, s.stored(t))
	require.Empty(t, b.observed())
	b.becomesHealthy(t)
}

func TestWhatMakesNoSenseIsNotSent(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	b := connect(t, s.url())
	of := aggregates(2)
	with := func(change func(*cloudevent.Message)) []cloudevent.Message {
		m := message(of[0], 1)
		change(&m)
		return []cloudevent.Message{message(of[1], 1), m}
	}
	for name, messages := range map[string][]cloudevent.Message{
		"more than a page": slices.Repeat(history(of[0], 1), outbox.LogPageMax+1),
		"seq 2":            {message(of[0], 2), message(of[1], 1), message(of[0], 1)},
		"seq 1":            {message(of[0], 1), message(of[0], 1)},
		"no id":            with(func(m *cloudevent.Message) { m.ID = "" }),
		"no type":          with(func(m *cloudevent.Message) { m.Type = "" }),
		"a wildcard":       with(func(m *cloudevent.Message) { m.Type = "thing.*" }),
		"a space":          with(func(m *cloudevent.Message) { m.Type = "thing moved" }),
		"an empty word":    with(func(m *cloudevent.Message) { m.Type = "thing..moved" }),
	} {
		require.Error(t, b.Publish(t.Context(), messages), name)
	}
	require.NoError(t, b.Publish(t.Context(), nil))
	require.Empty(t, s.stored(t))
	require.Empty(t, b.observed())
}

func TestTheSameSeqOfAnotherTenantIsAnotherMessage(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	b := connect(t, s.url())
	of := aggregates(2)
	mine, theirs := message(of[0], 1), message(of[0], 1)
	theirs.TenantID, theirs.ID = of[1], "theirs"
	require.NoError(t, b.Publish(t.Context(), []cloudevent.Message{mine, theirs}))
	require.Equal(t, []string{mine.ID, "theirs"}, s.storedIDs(t))
}

func TestAServerThatReadsNothingHoldsNobody(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	w := newWire(t, s)
	b := connect(t, w.url())
	var messages []cloudevent.Message
	for _, a := range aggregates(100) {
		m := message(a, 1)
		m.Body = make([]byte, 256<<10) // more than the sockets on the way hold
		messages = append(messages, m)
	}
	w.freeze(true)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	returned := make(chan error, 1)
	go func() { returned <- b.Publish(ctx, messages) }()
	select {
	case err := <-returned:
		require.Error(t, err)
	case <-time.After(4 * time.Second):
		require.FailNow(t, "a sink would lose its lease")
	}
	w.freeze(false)
	require.Eventually(t, func() bool { return b.Publish(t.Context(), messages) == nil }, waitMax, look)
	require.Len(t, s.storedIDs(t), len(messages))
}

func TestAClosedBrokerPublishesNothing(t *testing.T) {
	t.Parallel()
	s := newStub(t)
	b := connect(t, s.url())
	done := make(chan error, 1)
	go func() { done <- b.Publish(t.Context(), history(aggregates(1)[0], 2)) }()
	s.next(t)
	b.Close()
	require.ErrorContains(t, <-done, "ended")
	require.ErrorContains(t, b.Publish(t.Context(), history(aggregates(1)[0], 1)), "closed")
	b.Close()
	s.nothingMore(t)
}
