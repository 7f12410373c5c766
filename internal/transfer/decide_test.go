package transfer

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/internal/problem"
)

func allStates() []State {
	return []State{Accepted, InReview, Approved, Settling, Settled, Blocked, Canceled, Expired, Failed}
}

func allEvents() []Event {
	return []Event{Approve, Review, Block, Submit, Settle, Cancel, Expire, Fail}
}

// legal is the table of the design, written once more by hand: where an event leads from a state.
func legal(from State, e Event) (State, bool) {
	to, ok := map[[2]string]State{
		{"accepted", "approve"}:  Approved,
		{"accepted", "review"}:   InReview,
		{"accepted", "block"}:    Blocked,
		{"accepted", "cancel"}:   Canceled,
		{"accepted", "expire"}:   Expired,
		{"accepted", "fail"}:     Failed,
		{"in_review", "approve"}: Approved,
		{"in_review", "block"}:   Blocked,
		{"in_review", "cancel"}:  Canceled,
		{"in_review", "expire"}:  Expired,
		{"in_review", "fail"}:    Failed,
		{"approved", "settle"}:   Settled,
		{"approved", "cancel"}:   Canceled,
		{"approved", "expire"}:   Expired,
		{"approved", "fail"}:     Failed,
		{"approved", "submit"}:   Settling,
		{"settling", "settle"}:   Settled,
		{"settling", "fail"}:     Failed,
	}[[2]string{string(from), string(e)}]
	return to, ok
}

func TestEveryPairOfStateAndEventIsLegalOrRefused(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	require.ElementsMatch(t, allStates(), Transitions.States())
	for _, from := range allStates() {
		open := from == Accepted || from == InReview || from == Approved || from == Settling
		require.Equal(t, open, !from.Terminal(), from)
		for _, e := range allEvents() {
			was := Transfer{
				State: from, Version: 7, Attempts: 3, Sent: 2, Failures: 1, PromiseAt: now.Add(time.Second),
			}
			got, err := transition(was, e, now)
			want, ok := legal(from, e)
			if !ok {
				require.True(t, problem.Is(err, problem.IllegalTransition), "%s %s", from, e)
				require.Equal(t, was, got, "a refused move changes nothing")
				continue
			}
			require.NoError(t, err)
			require.Equal(t, want, got.State, "%s %s", from, e)
			require.Equal(t, int32(8), got.Version)
			require.Zero(t, got.Attempts+got.Sent+got.Failures, "a new step counts its own attempts")
			require.Equal(t, want.Terminal(), got.Notification == NotificationPending)
		}
	}
	require.False(t, State("lost").Terminal())
}

func TestReviewHasItsOwnPromiseAndApprovalRenewsIt(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	promise := now.Add(time.Second)
	for _, c := range []struct {
		from          State
		event         Event
		wake, promise time.Time
	}{
		{Accepted, Approve, now, promise},
		{Accepted, Review, now.Add(reviewWindow), now.Add(reviewWindow)},
		{InReview, Approve, now, now.Add(promiseWindow)},
		{InReview, Block, now, promise},
		{Approved, Settle, now, promise},
	} {
		got, err := transition(Transfer{State: c.from, PromiseAt: promise}, c.event, now)
		require.NoError(t, err)
		require.Equal(t, c.wake, got.WakeAt, "%s %s", c.from, c.event)
		require.Equal(t, c.promise, got.PromiseAt, "%s %s", c.from, c.event)
	}
}

func TestADecisionBecomesEvents(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		outcome risk.Outcome
		payout  bool
		events  []Event
		reason  string
	}{
		{risk.OutcomeApprove, false, []Event{Approve, Settle}, ""},
		{risk.OutcomeApprove, true, []Event{Approve, Submit}, ""},
		{risk.OutcomeReview, true, []Event{Review}, "why"},
		{risk.OutcomeBlock, false, []Event{Block}, "why"},
		{"perhaps", false, nil, ""},
		{"", false, nil, ""},
	} {
		seen := Transfer{State: Accepted, Payout: c.payout}
		events, reason, err := judge(seen, risk.Decision{Outcome: c.outcome, Reason: "why"})
		require.Equal(t, c.events, events, c.outcome)
		require.Equal(t, c.reason, reason, c.outcome)
		require.Equal(t, c.events == nil, err != nil, c.outcome)
	}
}

func TestCleanTextFitsIntoARow(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", reasonMaxBytes)
	for in, want := range map[string]string{
		"":                 "",
		"large amount":     "large amount",
		"a\x00b\nc\x7fd":   "a b c d",
		"bad \xff\xfe end": "bad ? end",
		long:               long[:reasonMaxBytes],
		"x" + long:         "x" + long[:reasonMaxBytes-2],
	} {
		got := clean(in)
		require.Equal(t, want, got)
		require.Empty(t, problem.InvalidText(got, reasonMaxBytes))
	}
}

func TestWhatComesAfterThePromiseExpires(t *testing.T) {
	t.Parallel()
	b := &moveBatch{book: &ledger.Book{}} // its time is Go's zero time
	early, late := b.book.Now().Add(time.Nanosecond), b.book.Now()
	for _, c := range []struct {
		name    string
		state   State
		events  []Event
		promise time.Time
		want    []Event
		reason  string
	}{
		{"approval in time", Accepted, []Event{Approve, Settle}, early, []Event{Approve, Settle}, "r"},
		{"late approval", Accepted, []Event{Approve, Settle}, late, []Event{Expire}, ReasonDeadline},
		{"late review", Accepted, []Event{Review}, late, []Event{Expire}, ReasonDeadline},
		{"late settlement", Approved, []Event{Settle}, late, []Event{Expire}, ReasonDeadline},
		{"late submission", Approved, []Event{Submit}, late, []Event{Expire}, ReasonDeadline},
		{"what the rail has paid is settled", Settling, []Event{Settle}, late, []Event{Settle}, "r"},
		{"late block still blocks", Accepted, []Event{Block}, late, []Event{Block}, "r"},
		{"late cancel still cancels", Accepted, []Event{Cancel}, late, []Event{Cancel}, "r"},
	} {
		seen := Transfer{State: c.state, PromiseAt: c.promise}
		got := b.inTime(seen, move{events: c.events, reason: "r"})
		require.Equal(t, c.want, got.events, c.name)
		require.Equal(t, c.reason, got.reason, c.name)
	}
}

func TestAMoveIsDoneOnlyToWhatItsDecisionSaw(t *testing.T) {
	t.Parallel()
	row := Transfer{
		Ref:   Ref{uuid.New(), uuid.New()},
		State: Accepted, Version: 2, Attempts: 1, PromiseAt: time.Time{}.Add(time.Hour),
	}
	for name, change := range map[string]func(*Transfer){
		"state":    func(s *Transfer) { s.State = InReview },
		"version":  func(s *Transfer) { s.Version = 1 },
		"attempts": func(s *Transfer) { s.Attempts = 0 },
	} {
		stored, seen := row, row
		change(&seen)
		b := &moveBatch{book: &ledger.Book{}, rows: map[Ref]*Transfer{row.Ref: &stored}}
		got := b.decideOne(move{seen: seen, events: []Event{Review}})
		require.True(t, got.stale, name)
		require.Equal(t, row, got.transfer, name)
		require.Empty(t, b.after, name)
	}
}

func TestTheSecondOfTwoEqualMovesInABatchIsStale(t *testing.T) {
	t.Parallel()
	row := Transfer{Ref: Ref{uuid.New(), uuid.New()}, State: Accepted, PromiseAt: time.Time{}.Add(time.Hour)}
	stored := row
	b := &moveBatch{book: &ledger.Book{}, rows: map[Ref]*Transfer{row.Ref: &stored}}
	got := b.decide([]move{{seen: row, events: []Event{Review}}, {seen: row, events: []Event{Review}}})
	require.False(t, got[0].stale)
	require.Equal(t, InReview, got[0].transfer.State)
	require.True(t, got[1].stale)
	require.Len(t, b.after, 1)
	require.Len(t, b.events, 1)
}

func TestARefusedMoveLeavesNothingInTheBatch(t *testing.T) {
	t.Parallel()
	for _, from := range allStates() {
		for _, e := range allEvents() {
			if _, ok := legal(from, e); ok {
				continue
			}
			stored := Transfer{State: from, PromiseAt: time.Time{}.Add(time.Hour)}
			batch := func() *moveBatch {
				row := stored
				return &moveBatch{
					book: &ledger.Book{}, rows: map[Ref]*Transfer{{}: &row}, reversed: map[Ref]int64{},
				}
			}
			b := batch()
			got := b.decideOne(move{seen: stored, events: []Event{e}})
			require.True(t, problem.Is(got.err, problem.IllegalTransition), "%s %s", from, e)
			require.Equal(t, batch(), b, "%s %s", from, e)
		}
	}
}

func TestAMoveOfAnUnknownTransferIsNotFound(t *testing.T) {
	t.Parallel()
	b := &moveBatch{book: &ledger.Book{}}
	require.True(t, problem.Is(b.decideOne(move{}).err, problem.NotFound))
}

func TestEveryStateHasItsNextStep(t *testing.T) {
	t.Parallel()
	ended := []string{"transfer_notify", "notification_api"}
	for state, want := range map[State][]string{
		Accepted: {"transfer_screen", "risk_api"},
		InReview: {"transfer_settle", "db"}, Approved: {"transfer_settle", "db"},
		Settling: {"transfer_payout", "payout_rail"},
		Settled:  ended, Blocked: ended, Canceled: ended, Expired: ended, Failed: ended,
	} {
		kind, queue := nextStep(Transfer{State: state, Notification: NotificationPending})
		require.Equal(t, want, []string{kind, queue}, state)
	}
	for _, told := range []string{NotificationSent, NotificationFailed} {
		kind, _ := nextStep(Transfer{State: Settled, Notification: told})
		require.Empty(t, kind, told)
	}
}

func TestNotesAreWrittenInOneOrderAndOnlyPendingOnesAreWokenAgain(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	tenant := uuid.New()
	made := func(id byte, result string) note {
		n := told(Transfer{
			Ref: Ref{tenant, uuid.UUID{id}}, State: Settled, Attempts: 4, Notification: NotificationPending,
		}, result)
		n.retryIn = time.Second
		return n
	}
	p, again := decideNotes([]note{
		made(3, NotificationSent), made(1, NotificationPending), made(2, NotificationFailed),
	}, now)
	require.Equal(t, []uuid.UUID{{1}, {2}, {3}}, p.Ids)
	require.Equal(t, []string{NotificationPending, NotificationFailed, NotificationSent}, p.Notifications)
	require.Equal(t, []int32{4, 4, 4}, p.FromAttempts)
	require.Equal(t, []int32{4, 4, 4}, p.ToAttempts, "an answer is no attempt in vain")
	wake := now.Add(time.Second + retryGrain)
	require.Equal(t, []time.Time{wake, {}, {}}, p.WakesAt)
	require.Len(t, again, 1)
	require.Equal(t, wake, again[0].WakeAt)
}

func TestACohortNamesEachTransferOnce(t *testing.T) {
	t.Parallel()
	tenant, other := uuid.UUID{1}, uuid.UUID{2}
	c := cohort{map[uuid.UUID][]uuid.UUID{other: {{5}}, tenant: {{9}, {3}, {9}}}}
	require.Equal(t, []Ref{{tenant, uuid.UUID{3}}, {tenant, uuid.UUID{9}}, {other, uuid.UUID{5}}}, c.refs())
}

func TestTimeLeftIsPostgresTimeLessLocalWaiting(t *testing.T) {
	t.Parallel()
	database, local := time.Unix(5_000, 0), time.Unix(9_000, 0) // the two clocks need not agree
	w := work{now: database, loadedAt: local, clock: func() time.Time { return local.Add(time.Second) }}
	require.Equal(t, 4*time.Second, w.left(database.Add(5*time.Second)))
	require.Equal(t, -time.Second, w.left(database))
}

func TestAStepAsksFirstIfACallMayHaveBeenSent(t *testing.T) {
	t.Parallel()
	require.False(t, work{}.asked(Transfer{}))
	require.False(t, work{}.asked(Transfer{Attempts: 1}), "an attempt that was never sent")
	require.True(t, work{}.asked(Transfer{Attempts: 1, Sent: 1}))
	require.True(t, work{again: true}.asked(Transfer{}))
}

func TestReversalsAreBoundedByWhatIsLeft(t *testing.T) {
	t.Parallel()
	tenant, id := uuid.New(), uuid.New()
	hundred := money.Amount{Value: 100}
	settled := Transfer{State: Settled, Amount: hundred, Reversed: 30}
	spent := Transfer{State: Settled, Amount: hundred, Reversed: 100}
	reversal := Transfer{State: Settled, Amount: hundred, Reverses: id}
	paidOut := Transfer{State: Settled, Amount: hundred, Payout: true}
	for _, c := range []struct {
		name     string
		original *Transfer
		amount   int64
		all      bool
		want     int64
		code     problem.Code
	}{
		{"a part", &settled, 10, false, 10, ""},
		{"all that is left", &settled, 100, true, 70, ""},
		{"exactly what is left", &settled, 70, false, 70, ""},
		{"one too much", &settled, 71, false, 0, problem.ReversalTooLarge},
		{"nothing left", &spent, 100, true, 0, problem.ReversalTooLarge},
		{"not settled yet", &Transfer{State: Approved, Amount: hundred}, 10, false, 0, problem.NotReversible},
		{"blocked", &Transfer{State: Blocked, Amount: hundred}, 10, false, 0, problem.NotReversible},
		{"a reversal", &reversal, 10, false, 0, problem.NotReversible},
		{"a payout", &paidOut, 10, false, 0, problem.NotReversible},
		{"unknown", nil, 10, false, 0, problem.NotFound},
	} {
		b := &acceptBatch{originals: map[Ref]*Transfer{}}
		if c.original != nil {
			b.originals[Ref{tenant, id}] = c.original
		}
		got, err := b.checkReversal(Transfer{
			Ref: Ref{TenantID: tenant}, Reverses: id, Amount: money.Amount{Value: c.amount},
		}, c.all)
		if c.code != "" {
			require.True(t, problem.Is(err, c.code), "%s: %v", c.name, err)
			continue
		}
		require.NoError(t, err, c.name)
		require.Equal(t, c.want, got, c.name)
	}
}

func TestOnlyOutsidersActionsAreActions(t *testing.T) {
	t.Parallel()
	for _, state := range allStates() {
		for _, e := range allEvents() {
			err := Action{Event: e}.validate(Transfer{State: state})
			switch {
			case e == Cancel, state == InReview && (e == Approve || e == Block):
				require.NoError(t, err, "%s %s", state, e)
			case e == Approve, e == Block:
				require.True(t, problem.Is(err, problem.IllegalTransition), "%s %s", state, e)
			default:
				require.True(t, problem.Is(problem.Of(err), problem.Internal), "%s %s", state, e)
			}
		}
	}
	bad := Action{Event: Cancel, Reason: "a\x00"}.validate(Transfer{State: Accepted})
	require.True(t, problem.Is(bad, problem.ValidationFailed))
}

func TestARetryWaitsForWhatTheDependencyAsks(t *testing.T) {
	t.Parallel()
	s := &Service{random: func() float64 { return 0.5 }}
	asks := &outbound.Error{Kind: outbound.KindOpen, RetryAfter: 4 * time.Second, P95: 30 * time.Millisecond}
	for _, c := range []struct {
		attempts   int32
		cause      error
		wait, need time.Duration
	}{
		{0, nil, 100 * time.Millisecond, 0},
		{1, nil, 200 * time.Millisecond, 0},
		{30, nil, 5 * time.Second, 0},
		{0, asks, 5 * time.Second, 30 * time.Millisecond}, // a quarter later, so that not all come at once
		{0, &outbound.Error{P95: time.Second}, 100 * time.Millisecond, time.Second},
	} {
		wait, need := s.retryIn(c.attempts, c.cause)
		require.Equal(t, c.wait, wait, "%d %v", c.attempts, c.cause)
		require.Equal(t, c.need, need, "%d %v", c.attempts, c.cause)
	}
}

func TestACallThatWasNotSentIsNotAskedAboutAndNotInTheLedger(t *testing.T) {
	t.Parallel()
	for _, want := range []struct {
		kind   outbound.Kind
		sent   int32
		ledger bool
	}{
		{outbound.KindOpen, 0, false},
		{outbound.KindRetryBudget, 0, false},
		{outbound.KindNoBudget, 0, false},
		{outbound.KindUnreachable, 0, true},
		{outbound.KindTimeout, 1, true},
		{outbound.KindStatus5xx, 1, true},
		{outbound.KindAmbiguous, 1, true},
		{outbound.KindStatus4xx, 1, true},
	} {
		cause := &outbound.Error{Kind: want.kind, Err: errors.New("x")}
		n := again(Transfer{}, stepScreen, time.Second, cause)
		require.Equal(t, want.sent, n.after.Sent, want.kind)
		require.Equal(t, want.ledger, n.attempt != nil, want.kind)
	}
	n := again(Transfer{}, stepScreen, time.Second, errors.New("broke in our code"))
	require.EqualValues(t, 1, n.after.Sent, "nobody knows how far it came")
	require.Equal(t, kindBroken, n.attempt.kind)
}

func TestAnOpenTransferIsLookedAtWhenItsPromiseEnds(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	promise := now.Add(3 * time.Second)
	for _, c := range []struct {
		state State
		wait  time.Duration
		want  time.Time
	}{
		{Accepted, time.Second, now.Add(time.Second + retryGrain)},
		{Accepted, time.Minute, promise},
		{Settling, time.Minute, promise},
	} {
		t0 := Transfer{State: c.state, PromiseAt: promise, PayoutTry: 1}
		p, again := decideNotes([]note{{seen: t0, after: t0, retryIn: c.wait}}, now)
		require.Equal(t, []time.Time{c.want}, p.WakesAt)
		require.Len(t, again, 1)
	}
	late := Transfer{State: Settling, PromiseAt: now, PayoutTry: 1}
	p, _ := decideNotes([]note{{seen: late, after: late, retryIn: time.Minute}}, now)
	require.Equal(t, []time.Time{now.Add(time.Minute + retryGrain)}, p.WakesAt, "the rail is asked on")
}
