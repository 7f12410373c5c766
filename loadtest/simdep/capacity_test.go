package simdep_test

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/notify"
	"example.com/holdfast/internal/outbound/payout"
	"example.com/holdfast/loadtest/simdep"
)

func TestNoMoreThanTheCapacityAreServedAtOnce(t *testing.T) {
	t.Parallel()
	server := start(t, simdep.Options{Knobs: simdep.Knobs{Capacity: 2, HangRate: 1}})
	client := notify.New(door(t, server, nil, aWhile))
	ctx, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() { _ = client.Send(ctx, notify.Message{EffectKey: strconv.Itoa(i)}) })
	}
	eventually(t, server, func(j simdep.Journal) bool { return j.Queued == 3 && j.Hangs == 2 })
	require.Equal(t, 5, server.Journal().Concurrent, "who queues is inside")
	require.Equal(t, 5, server.Journal().MaxConcurrent)

	require.NoError(t, server.SetKnobs(simdep.Knobs{Capacity: 3}))
	eventually(t, server, func(j simdep.Journal) bool { return j.Queued == 2 && j.Hangs == 3 })
	require.NoError(t, server.SetKnobs(simdep.Knobs{}))
	eventually(t, server, func(j simdep.Journal) bool { return j.Queued == 0 && j.Hangs == 5 })
	leave()
	all.Wait()
}

// oneHangingPlace is turned off once a call is in the place.
var oneHangingPlace = simdep.Knobs{Capacity: 1, HangRate: 1}

// queued lets a hanging call hold the only place, until what it returns is called.
func queued(t *testing.T, s setting) func() {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = notify.New(s.client).Send(ctx, notify.Message{EffectKey: "holder"})
	}()
	eventually(t, s.server, hangs(1))
	free := sync.OnceFunc(func() { leave(); <-gone })
	t.Cleanup(free)
	return free
}

func TestTheQueueIsServedInItsOrder(t *testing.T) {
	t.Parallel()
	both(t, oneHangingPlace, aWhile, func(s setting) {
		t, server, client := s.t, s.server, payout.New(s.client)
		free := queued(t, s)
		require.NoError(t, server.SetKnobs(simdep.Knobs{Capacity: 1}))

		// All want the same reference for other amounts: who is served first gets it.
		submit := func(ctx context.Context, value int64) <-chan error {
			queued := server.Journal().Queued
			ended := make(chan error, 1)
			go func() {
				_, err := client.Submit(ctx, pay("t1/1", "t1", value))
				ended <- err
			}()
			eventually(t, server, func(j simdep.Journal) bool { return j.Queued == queued+1 })
			return ended
		}
		ctx, leave := context.WithCancel(t.Context())
		first := submit(ctx, 1)
		second := submit(t.Context(), 2)
		third := submit(t.Context(), 3)
		leave()
		require.Equal(t, outbound.KindCanceled, kindOf(t, <-first))
		eventually(t, server, func(j simdep.Journal) bool { return j.Queued == 2 })
		free()
		require.NoError(t, <-second, "who leaves frees its turn")
		require.Equal(t, outbound.KindStatus4xx, kindOf(t, <-third))
		require.EqualValues(t, 1, server.Journal().Payments)
	})
}

func TestAQuestionQueuesAsWell(t *testing.T) {
	t.Parallel()
	both(t, oneHangingPlace, aWhile, func(s setting) {
		t, server, client := s.t, s.server, payout.New(s.client)
		free := queued(t, s)
		require.NoError(t, server.SetKnobs(simdep.Knobs{Capacity: 1}))
		ended := make(chan error, 1)
		go func() {
			_, _, err := client.Find(t.Context(), "t1/1")
			ended <- err
		}()
		eventually(t, server, func(j simdep.Journal) bool { return j.Queued == 1 })
		require.Empty(t, ended)
		free()
		require.NoError(t, <-ended)
	})
}

func TestWhoLeavesTheQueueIsHeardLateOrNotAtAll(t *testing.T) {
	t.Parallel()
	both(t, oneHangingPlace, aWhile, func(s setting) {
		t, server := s.t, s.server
		free := queued(t, s)
		inQueue := func(j simdep.Journal) bool { return j.Queued == 1 }

		require.NoError(t, server.SetKnobs(simdep.Knobs{Capacity: 1, ArriveLate: 1}))
		left(s, inQueue, submitting(s, "late/1", "late"))
		eventually(t, server, func(j simdep.Journal) bool { return j.Payments == 1 })

		require.NoError(t, server.SetKnobs(simdep.Knobs{Capacity: 1}))
		left(s, inQueue, submitting(s, "never/1", "never"))
		eventually(t, server, func(j simdep.Journal) bool { return j.Concurrent == 1 })
		free()
		require.Empty(t, find(t, s.client, "never/1"))
	})
}
