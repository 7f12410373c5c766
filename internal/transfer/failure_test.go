package transfer_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/fault"
	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

func TestACallWithoutAnAnswerIsCountedAndAskedAboutBeforeItIsSentAgain(t *testing.T) {
	t.Parallel()
	again := transfertest.Calls{Sends: 2, Finds: 1, Effects: 1}
	asked := transfertest.Calls{Sends: 1, Finds: 1, Effects: 1}
	for _, c := range []struct {
		name  string
		fault transfertest.Fault
		want  transfertest.Calls
	}{
		{"500", transfertest.Fault{Kind: outbound.KindStatus5xx}, again},
		{"429", transfertest.Fault{Kind: outbound.KindStatus4xx}, again},
		{"timeout", transfertest.Fault{Kind: outbound.KindTimeout}, again},
		{"timeout after it acted", transfertest.Fault{Kind: outbound.KindTimeout, Acts: true}, asked},
		{"lost reply", transfertest.Fault{Kind: outbound.KindAmbiguous, Acts: true}, asked},
	} {
		w := newWorld(t)
		w.Risk.Next(c.fault)
		w.Notify.Next(c.fault)
		id := w.Create(t, "k1", 250)
		w.run(t.Context(), t)
		got := w.Get(t, id)
		require.Equal(t, transfer.Accepted, got.State, c.name)
		require.Equal(t, int32(1), got.Attempts, c.name)
		require.True(t, got.WakeAt.After(got.UpdatedAt), c.name)
		w.runAll(t.Context(), t)
		got = w.Get(t, id)
		require.Equal(t, transfer.Settled, got.State, c.name)
		require.Equal(t, transfer.NotificationSent, got.Notification, c.name)
		require.Equal(t, c.want, w.Risk.Calls(w.screenKey(id)), c.name)
		require.Equal(t, c.want, w.Notify.Calls(w.notifyKey(id)), c.name)
		w.CheckInvariants(t)
	}
}

func TestAQuestionThatFailsIsAskedAgainAndNothingIsSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Risk.Next(
		transfertest.Fault{Kind: outbound.KindTimeout, Acts: true},
		transfertest.Fault{Kind: outbound.KindStatus5xx}, // the question
		transfertest.Fault{Kind: outbound.KindUnreachable},
	)
	id := w.settled(t, 250)
	require.Equal(t, transfertest.Calls{Sends: 1, Finds: 1, Effects: 1}, w.Risk.Calls(w.screenKey(id)))
	w.CheckInvariants(t)
}

// TestAQuestionThatIsPutOffIsStillAskedBeforeAnythingIsSent lets the job of a worker that died come again,
// and the door refuse its question: that a call may have been made must not be forgotten with the job.
func TestAQuestionThatIsPutOffIsStillAskedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	for _, kind := range []outbound.Kind{
		outbound.KindOpen, outbound.KindRetryBudget, outbound.KindNoBudget, outbound.KindUnreachable,
	} {
		w := newWorld(t)
		w.Risk.Next(transfertest.Fault{Kind: kind})
		w.Notify.Next(transfertest.Fault{Kind: kind})
		id := w.Create(t, "k1", 250)
		for _, step := range []string{"transfer_screen", "transfer_notify"} {
			args := w.jobArgs(t, step)
			w.Exec(t, "UPDATE river_job SET state = 'cancelled', finalized_at = now() WHERE kind = $1", step)
			require.NoError(t, w.Transfers.RunJob(t.Context(), step, 1, 2, args))
			w.wakeNow(t)
			require.True(t, w.runOne(t.Context(), t))
		}
		want := transfertest.Calls{Sends: 1, Finds: 1, Effects: 1}
		require.Equal(t, want, w.Risk.Calls(w.screenKey(id)), kind)
		require.Equal(t, want, w.Notify.Calls(w.notifyKey(id)), kind)
		w.CheckInvariants(t)
	}
}

func TestBackoffGrowsAndRetryAfterIsObeyed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Transfers.SetRandom(func() float64 { return 0.999 })
	w.Risk.Always(transfertest.Fault{Kind: outbound.KindStatus5xx})
	id := w.Create(t, "k1", 250)
	// How long after it was enqueued the job of the retry is due, in milliseconds.
	wait := func() int64 {
		return w.Count(t, `
SELECT (1000 * extract(epoch FROM t.wake_at - j.created_at))::bigint
  FROM river_job j JOIN transfers t ON j.scheduled_at = t.wake_at WHERE t.id = $1`, id)
	}
	for _, milliseconds := range []int64{199, 399, 799, 1598} {
		w.wakeNow(t)
		w.run(t.Context(), t)
		require.GreaterOrEqual(t, wait(), milliseconds)
		require.Less(t, wait(), milliseconds+110)
	}
	w.Risk.Always(transfertest.Fault{Kind: outbound.KindStatus4xx, RetryAfter: 7 * time.Second})
	w.wakeNow(t)
	w.run(t.Context(), t)
	require.GreaterOrEqual(t, wait(), (7 * time.Second).Milliseconds())
	got := w.Get(t, id)
	require.EqualValues(t, 1, w.Count(t,
		"SELECT count(*) FROM river_job WHERE state = 'available' AND scheduled_at = $1", got.WakeAt))
	w.CheckInvariants(t)
}

func TestAJobThatComesBeforeTheTimeOfARetryCallsNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Risk.Next(transfertest.Fault{Kind: outbound.KindStatus5xx, RetryAfter: time.Second})
	id := w.Create(t, "k1", 250)
	args := w.jobArgs(t, "transfer_screen")
	w.run(t.Context(), t)
	before, calls := w.Get(t, id), w.Risk.Calls(w.screenKey(id))
	require.NoError(t, w.Transfers.RunJob(t.Context(), "transfer_screen", 1, 2, args))
	require.Equal(t, before, w.Get(t, id))
	require.Equal(t, calls, w.Risk.Calls(w.screenKey(id)))
}

func TestADeadDependencyExpiresTheTransferAndFreesTheFunds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		end  func(w world)
	}{
		{"the promise has passed", func(w world) { w.endPromise(t) }},
		{"no attempt fits any more", func(w world) {
			w.Exec(t, "UPDATE transfers SET promise_at = clock_timestamp() + interval '5 seconds'")
			w.Risk.Always(transfertest.Fault{Kind: outbound.KindStatus5xx, RetryAfter: time.Minute})
		}},
	} {
		w := newWorld(t)
		w.Risk.Always(transfertest.Fault{Kind: outbound.KindUnreachable})
		id := w.Create(t, "k1", 250)
		w.run(t.Context(), t)
		c.end(w)
		w.wakeNow(t)
		w.run(t.Context(), t)
		got := w.Get(t, id)
		require.Equal(t, transfer.Expired, got.State, c.name)
		require.Equal(t, transfer.ReasonDeadline, got.Reason, c.name)
		posted, held := w.Balance(t, w.From)
		require.Equal(t, []int64{transfertest.Funds, 0}, []int64{posted, held}, c.name)
		w.runAll(t.Context(), t)
		require.Equal(t, transfer.ReasonDeadline, w.Notify.Message(w.notifyKey(id)).Reason, c.name)
		w.CheckInvariants(t)
	}
}

func TestWhatFailsAtOnceAgainAndAgainEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Risk.Always(transfertest.Fault{Kind: outbound.KindRetryBudget})
	id := w.Create(t, "k1", 250)
	w.runAll(t.Context(), t)
	got := w.Get(t, id)
	require.Equal(t, transfer.Failed, got.State)
	require.Equal(t, transfer.ReasonAttempts, got.Reason)
	w.CheckInvariants(t)
}

func TestADecisionThatMakesNoSenseIsNoDecision(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Risk.Decide(func(risk.Request) risk.Decision { return risk.Decision{Outcome: "perhaps"} })
	id := w.Create(t, "k1", 250)
	w.run(t.Context(), t)
	got := w.Get(t, id)
	require.Equal(t, transfer.Accepted, got.State)
	require.Equal(t, int32(1), got.Attempts)
	w.CheckInvariants(t)
}

func TestHostileTextsOfTheRiskServiceAreKeptReadable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Risk.Decide(func(risk.Request) risk.Decision {
		return risk.Decision{Outcome: risk.OutcomeBlock, Reason: "a\x00b\xff", Reference: "r\x00"}
	})
	id := w.Create(t, "k1", 250)
	w.runAll(t.Context(), t)
	got := w.Get(t, id)
	require.Equal(t, transfer.Blocked, got.State)
	require.Equal(t, "a b?", got.Reason)
	require.Equal(t, "r ", got.RiskReference)
	w.CheckInvariants(t)
}

func TestAPanicOfOneStepLeavesItsNeighboursAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var broken uuid.UUID
	w.Risk.Decide(func(q risk.Request) risk.Decision {
		if q.TransferID == broken.String() {
			panic("cannot decide")
		}
		return risk.Decision{Outcome: risk.OutcomeApprove}
	})
	answers := transfertest.ReadAll(t, w.create(t, "k1", w.Item(1), w.Item(2), w.Item(3)))
	broken = answers[1].ID
	w.run(t.Context(), t)
	require.Equal(t, transfer.Accepted, w.Get(t, broken).State)
	for _, i := range []int{0, 2} {
		require.Equal(t, transfer.Settled, w.Get(t, answers[i].ID).State)
	}

	broken = uuid.Nil
	require.Equal(t, 1, w.sweep(t), "the sweeper finds what the panic left")
	w.runAll(t.Context(), t)
	got := w.Get(t, answers[1].ID)
	require.Equal(t, transfer.Settled, got.State)
	require.Zero(t, w.Risk.Calls(w.screenKey(got.ID)).Blind)
	w.CheckInvariants(t)
}

func TestANotificationThatNobodyTakesFailsAfterItsWindow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault transfertest.Fault
		age   string
	}{
		{"its time is over", transfertest.Fault{Panics: true}, "24 hours"}, // not even sent
		{
			"no attempt fits",
			transfertest.Fault{Kind: outbound.KindStatus5xx, RetryAfter: time.Hour},
			"23 hours 30 minutes",
		},
	} {
		w := newWorld(t)
		w.Notify.Always(transfertest.Fault{Kind: outbound.KindUnreachable})
		id := w.Create(t, "k1", 250)
		w.run(t.Context(), t)
		got := w.Get(t, id)
		require.Equal(t, transfer.Settled, got.State, c.name)
		require.Equal(t, transfer.NotificationPending, got.Notification, c.name)
		require.Equal(t, int32(1), got.Attempts, c.name)

		w.Notify.Always(c.fault)
		w.Exec(t, "UPDATE transfers SET updated_at = now() - $1::interval", c.age)
		w.wakeNow(t)
		w.run(t.Context(), t)
		got = w.Get(t, id)
		require.Equal(t, transfer.NotificationFailed, got.Notification, c.name)
		require.Zero(t, got.WakeAt, c.name)
		require.Equal(t, transfer.Settled, got.State, "a lost notification changes no money")
		require.Zero(t, w.Notify.Calls(w.notifyKey(id)).Effects, c.name)
		w.CheckInvariants(t)
	}
}

func TestANotificationThatNobodyHasTriedIsTriedHoweverLate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault outbound.Kind
		want  string
	}{{"", transfer.NotificationSent}, {outbound.KindStatus4xx, transfer.NotificationFailed}} {
		w := newWorld(t)
		id := w.Create(t, "k1", 250)
		for w.Get(t, id).State != transfer.Settled {
			require.True(t, w.runOne(t.Context(), t))
		}
		w.Notify.Always(transfertest.Fault{Kind: c.fault})
		w.Exec(t, "UPDATE transfers SET updated_at = now() - interval '30 hours'")
		w.runAll(t.Context(), t)
		require.Equal(t, c.want, w.Get(t, id).Notification)
	}
}

func TestAnAttemptThatFailedLateDoesNotUndoWhatAnotherToldMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.Create(t, "k1", 250)
	require.True(t, w.runOne(t.Context(), t))
	args := w.jobArgs(t, "transfer_notify")
	w.Notify.Next(transfertest.Fault{Kind: outbound.KindStatus5xx})
	failed, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	late := fault.With(t.Context(), func(name string) error {
		if name == transfer.FaultAfterNotify {
			close(failed)
			<-goOn
		}
		return nil
	})
	go func() { ended <- w.Transfers.RunJob(late, "transfer_notify", 1, 1, args) }()
	<-failed
	w.run(t.Context(), t)
	told := w.Get(t, id)
	require.Equal(t, transfer.NotificationSent, told.Notification)
	close(goOn)
	require.NoError(t, <-ended)
	require.Equal(t, told, w.Get(t, id))
}

func TestADatabaseErrorOfOneTransferFailsItAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	answers := transfertest.ReadAll(t, w.create(t, "k1", w.Item(1), w.Item(2), w.Item(3)))
	// Somebody broke it by hand.
	w.Exec(t, "UPDATE holds SET status = 'released' WHERE id = $1", answers[1].ID)
	w.run(t.Context(), t)
	for i, want := range []transfer.State{transfer.Settled, transfer.Accepted, transfer.Settled} {
		require.Equal(t, want, w.Get(t, answers[i].ID).State)
	}
	w.Exec(t, "UPDATE holds SET status = 'active' WHERE id = $1", answers[1].ID)
	w.sweep(t)
	w.runAll(t.Context(), t)
	w.CheckInvariants(t)
}
