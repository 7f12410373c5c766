package transfer

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/outbound/risk"
	"example.com/holdfast/internal/problem"
)

func allStates() []State {
	return []State{Accepted, InReview, Approved, Settled, Blocked, Canceled, Expired, Failed}
}

func allEvents() []Event { return []Event{Approve, Review, Block, Settle, Cancel, Expire, Fail} }

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
	}[[2]string{string(from), string(e)}]
	return to, ok
}

func TestEveryPairOfStateAndEventIsLegalOrRefused(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	require.ElementsMatch(t, allStates(), Transitions.States())
	for _, from := range allStates() {
		open := from == Accepted || from == InReview || from == Approved
		require.Equal(t, open, !from.Terminal(), from)
		for _, e := range allEvents() {
			was := Transfer{State: from, Version: 7, Attempts: 3, PromiseAt: now.Add(time.Second)}
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
			require.Zero(t, got.Attempts, "a new step counts its own attempts")
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
		events  []Event
		reason  string
	}{
		{risk.OutcomeApprove, []Event{Approve, Settle}, ""},
		{risk.OutcomeReview, []Event{Review}, "why"},
		{risk.OutcomeBlock, []Event{Block}, "why"},
		{"perhaps", nil, ""},
		{"", nil, ""},
	} {
		events, reason, err := judge(risk.Decision{Outcome: c.outcome, Reason: "why"})
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
		name     string
		events   []Event
		attempts int32
		promise  time.Time
		want     []Event
		reason   string
	}{
		{"approval in time", []Event{Approve, Settle}, 0, early, []Event{Approve, Settle}, "r"},
		{"late approval", []Event{Approve, Settle}, 0, late, []Event{Expire}, ReasonDeadline},
		{"late review", []Event{Review}, 0, late, []Event{Expire}, ReasonDeadline},
		{"late settlement", []Event{Settle}, 0, late, []Event{Expire}, ReasonDeadline},
		{"late block still blocks", []Event{Block}, 0, late, []Event{Block}, "r"},
		{"late cancel still cancels", []Event{Cancel}, 0, late, []Event{Cancel}, "r"},
		{"another attempt", nil, 3, early, nil, "r"},
		{"late attempt", nil, 3, late, []Event{Expire}, ReasonDeadline},
		{"last attempt", nil, attemptsMax - 2, early, nil, "r"},
		{"one attempt too many", nil, attemptsMax - 1, early, []Event{Fail}, ReasonAttempts},
		{"too many and late", nil, attemptsMax - 1, late, []Event{Expire}, ReasonDeadline},
	} {
		seen := Transfer{PromiseAt: c.promise, Attempts: c.attempts}
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
		got := b.decideOne(move{seen: seen, retryIn: time.Second})
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
	got := b.decide([]move{{seen: row, retryIn: time.Second}, {seen: row, retryIn: time.Minute}})
	require.False(t, got[0].stale)
	require.Equal(t, int32(1), got[0].transfer.Attempts)
	require.Equal(t, row.WakeAt.Add(time.Second+retryGrain), got[0].transfer.WakeAt)
	require.True(t, got[1].stale)
	require.Len(t, b.after, 1)
	require.Empty(t, b.events, "an attempt is no move")
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
		Settled: ended, Blocked: ended, Canceled: ended, Expired: ended, Failed: ended,
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
		return note{
			seen:   Transfer{Ref: Ref{tenant, uuid.UUID{id}}, Attempts: 4, Notification: NotificationPending},
			result: result, retryIn: time.Second,
		}
	}
	p, again := decideNotes([]note{
		made(3, NotificationSent), made(1, NotificationPending), made(2, NotificationFailed),
	}, now)
	require.Equal(t, []uuid.UUID{{1}, {2}, {3}}, p.Ids)
	require.Equal(t, []string{NotificationPending, NotificationFailed, NotificationSent}, p.Notifications)
	require.Equal(t, []int32{4, 4, 4}, p.FromAttempts)
	require.Equal(t, []int32{5, 4, 4}, p.ToAttempts)
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
	require.True(t, work{}.asked(Transfer{Attempts: 1}))
	require.True(t, work{again: true}.asked(Transfer{}))
}

func TestReversalsAreBoundedByWhatIsLeft(t *testing.T) {
	t.Parallel()
	tenant, id := uuid.New(), uuid.New()
	hundred := money.Amount{Value: 100}
	settled := Transfer{State: Settled, Amount: hundred, Reversed: 30}
	spent := Transfer{State: Settled, Amount: hundred, Reversed: 100}
	reversal := Transfer{State: Settled, Amount: hundred, Reverses: id}
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
	require.Equal(t, 100*time.Millisecond, s.retryIn(0, nil))
	require.Equal(t, 200*time.Millisecond, s.retryIn(1, nil))
	require.Equal(t, 5*time.Second, s.retryIn(30, nil))
}
