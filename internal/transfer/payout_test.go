package transfer_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/payout"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

// settling is a payout that waits for its first call to the rail.
func (w world) settling(t *testing.T) uuid.UUID {
	t.Helper()
	id := w.createPayout(t, "k1", 250)
	require.True(t, w.runOne(t.Context(), t))
	require.Equal(t, transfer.Settling, w.Get(t, id).State)
	return id
}

func TestAPayoutThatManyWorkersHaveInHandIsSubmittedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.settling(t)
	args := w.jobArgs(t, "transfer_payout")
	services := w.processes(t)
	for _, err := range together(8, func(i int) error {
		return services[i%2].RunJob(t.Context(), "transfer_payout", int64(i), 1, args)
	}) {
		require.NoError(t, err)
	}
	require.Equal(t, 1, w.Rail.Calls(id.String()+"/payout/1").Sends)
	// Who comes between the claim and the call finds the reference unknown and withdraws it: then the call is
	// refused, and the next reference is paid.
	w.runAll(t.Context(), t)
	w.requireOneEffect(t, id)
	w.requireNothingBlind(t)
}

// TestASleeperCannotPayWhatOthersPaid lets a worker sleep between its claim and its call, while another one
// finds the reference unknown, withdraws it and pays under the next.
func TestASleeperCannotPayWhatOthersPaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.settling(t)
	args := w.jobArgs(t, "transfer_payout")
	w.Rail.Next(transfertest.Fault{Kind: outbound.KindTimeout}) // sent, and lost for now
	require.NoError(t, w.Transfers.RunJob(t.Context(), "transfer_payout", 1, 1, args))
	require.EqualValues(t, 1, w.Get(t, id).Sent)

	w.runAll(t.Context(), t)
	require.Equal(t, transfer.Settled, w.Get(t, id).State)
	require.EqualValues(t, 2, w.Get(t, id).PayoutTry)
	w.Rail.Arrive()
	w.requireOneEffect(t, id)
}

// TestAStaleClaimDoesNotTakeItsNeighboursWordForItsOwn lets a worker that saw the payout before claim it in
// the batch in which another one, that sees it as it is, puts it off: the row counts as not sent.
func TestAStaleClaimDoesNotTakeItsNeighboursWordForItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Rail.Next(transfertest.Fault{Kind: outbound.KindOpen})
	was := w.Get(t, w.settling(t))
	w.run(t.Context(), t)
	is := w.Get(t, was.ID)
	require.Equal(t, []int32{0, 1}, []int32{was.Attempts, is.Attempts})

	reached, err := w.Transfers.ClaimLate(t.Context(), was, is)
	require.NoError(t, err)
	require.Equal(t, []bool{false, true}, reached, "who was told yes would send what others send again")
	require.Zero(t, w.Get(t, was.ID).Sent)

	now := w.Get(t, was.ID)
	reached, err = w.Transfers.ClaimLate(t.Context(), now, now)
	require.NoError(t, err)
	sent := w.Get(t, was.ID).Sent == 1
	require.Equal(t, []bool{sent, !sent}, reached, "of two that see the same the one that is written")
	w.CheckInvariants(t)
}

func TestANoteWhoseCommitIsNotKnownIsWrittenOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.Create(t, "k1", 250)
	reached, err := w.Transfers.NoteTwice(t.Context(), w.Get(t, id))
	require.NoError(t, err)
	require.Equal(t, []bool{false}, reached)
	require.EqualValues(t, 1, w.Count(t, "SELECT count(*) FROM transfer_attempts"))
	require.EqualValues(t, 1, w.Get(t, id).Attempts)
}

// TestWorkersThatDieBeforeTheirClaimUseNoReferenceUp lets the payout's job be taken over, or forgotten and
// swept, before anything is sent: there is nothing to ask about, and nothing to withdraw.
func TestWorkersThatDieBeforeTheirClaimUseNoReferenceUp(t *testing.T) {
	t.Parallel()
	for name, die := range map[string]func(world, []byte){
		"taken over": func(w world, args []byte) {
			w.wakeNow(t)
			require.NoError(t, w.Transfers.RunJob(t.Context(), "transfer_payout", 1, 2, args))
		},
		"swept": func(w world, _ []byte) {
			w.Exec(t, "DELETE FROM river_job WHERE kind = 'transfer_payout'")
			require.Equal(t, 1, w.sweep(t))
		},
	} {
		w := newWorld(t)
		id := w.settling(t)
		args := w.jobArgs(t, "transfer_payout")
		for range transfer.PayoutTriesMax {
			if w.Get(t, id).State == transfer.Settling {
				die(w, args)
			}
		}
		w.runAll(t.Context(), t)
		got := w.Get(t, id)
		require.Equal(t, transfer.Settled, got.State, "%s: %s", name, got.Reason)
		require.EqualValues(t, 1, got.PayoutTry, name)
		once := transfertest.Calls{Sends: 1, Effects: 1}
		require.Equal(t, once, w.Rail.Calls(id.String()+"/payout/1"), name)
		w.requireOneEffect(t, id)
	}
}

func TestEachKindOfSilenceOfTheRailEndsInOnePayment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		faults []transfertest.Fault
		try    int16
	}{
		{"paid, reply lost", []transfertest.Fault{{Kind: outbound.KindTimeout, Acts: true}}, 1},
		{"paid, answered 500", []transfertest.Fault{{Kind: outbound.KindStatus5xx, Acts: true}}, 1},
		{"never arrived", []transfertest.Fault{{Kind: outbound.KindAmbiguous}}, 2},
		{"no connection", []transfertest.Fault{{Kind: outbound.KindUnreachable}}, 1},
		{"breaker open", []transfertest.Fault{{Kind: outbound.KindOpen}}, 1},
		{"no room", []transfertest.Fault{{Kind: outbound.KindFull}}, 1},
		{"answered 429", []transfertest.Fault{{Kind: outbound.KindStatus4xx}}, 2},
		{
			"paid, answered 409",
			[]transfertest.Fault{{Kind: outbound.KindStatus4xx, Status: 409, Acts: true}},
			1,
		},
		{
			"the question fails too",
			[]transfertest.Fault{{Kind: outbound.KindTimeout, Acts: true}, {Kind: outbound.KindStatus5xx}},
			1,
		},
		{
			"the withdrawal's reply is lost",
			[]transfertest.Fault{
				{Kind: outbound.KindTimeout}, {}, {Kind: outbound.KindTimeout, Acts: true},
			},
			2,
		},
		{
			"two references are lost",
			[]transfertest.Fault{{Kind: outbound.KindTimeout}, {}, {}, {Kind: outbound.KindTimeout}},
			3,
		},
	} {
		w := newWorld(t)
		w.Rail.Next(c.faults...)
		id := w.createPayout(t, "k1", 250)
		w.runAll(t.Context(), t)
		got := w.Get(t, id)
		require.Equal(t, transfer.Settled, got.State, c.name)
		require.Equal(t, c.try, got.PayoutTry, c.name)
		w.Rail.Arrive()
		w.requireOneEffect(t, id)
		w.requireNothingBlind(t)
	}
}

func TestAPayoutWhoseReferencesAreAllLostFailsAndFreesTheFunds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range transfer.PayoutTriesMax { // each is lost, asked about, and withdrawn
		lost := transfertest.Fault{Kind: outbound.KindTimeout}
		w.Rail.Next(lost, transfertest.Fault{}, transfertest.Fault{})
	}
	id := w.createPayout(t, "k1", 250)
	w.runAll(t.Context(), t)
	got := w.Get(t, id)
	require.Equal(t, transfer.Failed, got.State)
	require.Equal(t, transfer.ReasonAttempts, got.Reason)
	w.Rail.Arrive()
	require.Zero(t, w.Rail.Paid(id.String()))
	posted, held := w.Balance(t, w.From)
	require.Equal(t, []int64{transfertest.Funds, 0}, []int64{posted, held})
	w.CheckInvariants(t)
}

func TestARefusedRequestEndsThePayout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Rail.Next(transfertest.Fault{Kind: outbound.KindStatus4xx, Status: 422})
	id := w.createPayout(t, "k1", 250)
	w.runAll(t.Context(), t)
	got := w.Get(t, id)
	require.Equal(t, transfer.Failed, got.State)
	require.Equal(t, transfer.ReasonPayoutRefused, got.Reason)
	w.CheckInvariants(t)
}

func TestAPayoutThatWasNeverSentEndsWithItsPromise(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Rail.Always(transfertest.Fault{Kind: outbound.KindOpen})
	id := w.createPayout(t, "k1", 250)
	w.run(t.Context(), t)
	w.endPromise(t)
	w.runAll(t.Context(), t)
	got := w.Get(t, id)
	require.Equal(t, transfer.Failed, got.State)
	require.Equal(t, transfer.ReasonDeadline, got.Reason)
	require.Empty(t, w.Rail.Journal(), "nobody was asked")
	w.CheckInvariants(t)
}

func TestAFrozenOrClosedAccountStopsAPayoutOnlyBeforeItIsSent(t *testing.T) {
	t.Parallel()
	closeWorld := func(w world) {
		w.Exec(t, "UPDATE balances SET status = 'closed' WHERE account_id = $1", w.External)
	}
	w := newWorld(t)
	id := w.createPayout(t, "k1", 250)
	closeWorld(w)
	w.runAll(t.Context(), t)
	require.Equal(t, transfer.Failed, w.Get(t, id).State)
	require.Equal(t, string(problem.AccountClosed), w.Get(t, id).Reason)
	require.Zero(t, w.Rail.Paid(id.String()))
	w.CheckInvariants(t)

	w = newWorld(t)
	id = w.settling(t)
	closeWorld(w)
	w.runAll(t.Context(), t)
	require.Equal(t, transfer.Settled, w.Get(t, id).State, "the money has left")
	w.CheckInvariants(t)
}

func TestACallbackWakesOnlyWhatWaitsForTheRail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Rail.Answer(payout.Receipt{Status: payout.StatusPending})
	id := w.createPayout(t, "k1", 250)
	w.run(t.Context(), t)
	first := fmt.Sprint(id, "/payout/1")
	waiting := w.Get(t, id)
	require.True(t, waiting.WakeAt.After(waiting.UpdatedAt))

	jobs := func() int64 {
		return w.Count(t, `SELECT count(*) FROM river_job
		                    WHERE state = 'available' AND scheduled_at <= clock_timestamp()`)
	}
	require.Zero(t, jobs())
	require.NoError(t, w.Transfers.Wake(t.Context(), w.ref(uuid.New()), first), "a stranger changes nothing")
	require.NoError(t, w.Transfers.Wake(t.Context(), transfer.Ref{TenantID: uuid.New(), ID: id}, first))
	require.Zero(t, jobs())
	for range 3 {
		require.NoError(t, w.Transfers.Wake(t.Context(), w.ref(id), first))
		require.EqualValues(t, 1, jobs(), "who is called twice looks once")
	}
	w.Rail.Finish(first, payout.Receipt{Status: payout.StatusPaid})
	w.runAll(t.Context(), t)
	w.requireOneEffect(t, id)
	require.NoError(t, w.Transfers.Wake(t.Context(), w.ref(id), first))
	require.Zero(t, jobs(), "it has ended")
}

func TestAskingOnAboutWhatTheRailHasIsNoRetry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Rail.Answer(payout.Receipt{Status: payout.StatusPending})
	id := w.createPayout(t, "k1", 250)
	w.run(t.Context(), t)
	require.NotEmpty(t, w.Get(t, id).RailReference, "it is known by the rail's own name from then on")
	for range 3 {
		w.wakeNow(t)
		w.run(t.Context(), t)
	}
	require.Equal(t, []bool{false, false, false, false}, w.Rail.Repeats())

	w.Rail.Next(transfertest.Fault{Kind: outbound.KindTimeout})
	lost := w.createPayout(t, "k2", 250)
	for range 2 {
		w.run(t.Context(), t)
		w.wakeNow(t)
	}
	require.Contains(t, w.Rail.Repeats(), true, "a question after silence is one")
	require.Equal(t, transfer.Settling, w.Get(t, lost).State)
}

func TestACallbackThatIsFasterThanTheReplyLetsTheRailBeAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.settling(t)
	w.Exec(t, "UPDATE transfers SET wake_at = clock_timestamp() + interval '1 minute' WHERE id = $1", id)
	first := fmt.Sprint(id, "/payout/1")
	require.NoError(t, w.Transfers.Wake(t.Context(), w.ref(id), first))
	require.EqualValues(t, 1, w.Get(t, id).Sent)
}

// TestACallbackAboutAWithdrawnReferenceSaysNothingOfTheNext lets a rail call back about what it withdrew,
// while the next reference waits for its turn: it was never sent, so there is nothing to ask about.
func TestACallbackAboutAWithdrawnReferenceSaysNothingOfTheNext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.settling(t)
	w.Rail.Next(transfertest.Fault{Kind: outbound.KindTimeout}) // sent, and lost
	for range 2 {
		w.wakeNow(t)
		w.run(t.Context(), t)
	}
	for _, about := range []string{"1", "3", "4", "x", ""} {
		reference := fmt.Sprint(id, "/payout/", about)
		require.NoError(t, w.Transfers.Wake(t.Context(), w.ref(id), reference))
	}
	got := w.Get(t, id)
	require.Equal(t, []int32{2, 0}, []int32{int32(got.PayoutTry), got.Sent})
	w.runAll(t.Context(), t)
	require.EqualValues(t, 2, w.Get(t, id).PayoutTry)
	w.requireOneEffect(t, id)
}

func TestAPayoutOfAReversalGoesByTheRail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	deposit := w.Item(250)
	deposit.FromAccount, deposit.ToAccount = w.External, w.From
	in := transfertest.Read(t, w.create(t, "k1", deposit)).ID
	w.runAll(t.Context(), t)
	require.False(t, w.Get(t, in).Payout, "what comes in is paid by nobody")
	back := transfertest.Read(t, w.reverse(t, "r1", in, 0)).ID
	w.runAll(t.Context(), t)
	require.True(t, w.Get(t, back).Payout)
	require.Equal(t, transfer.Settled, w.Get(t, back).State)
	require.Equal(t, 1, w.Rail.Paid(back.String()))
	w.CheckInvariants(t)
}

func TestTheDatabaseRefusesASettledPayoutWithoutTheRailsWord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.settling(t)
	_, err := w.Pool.Exec(t.Context(), `UPDATE transfers SET state = 'settled', version = version + 1,
	  notification = 'pending' WHERE id = $1`, id)
	require.ErrorContains(t, err, "transfers_payout_has_reference")
	other := w.Create(t, "k2", 1)
	_, err = w.Pool.Exec(t.Context(), `UPDATE transfers SET state = 'settling', version = version + 2
	  WHERE id = $1`, other)
	require.ErrorContains(t, err, "transfers_only_payouts_settle_outside")
}
