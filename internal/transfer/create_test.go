package transfer_test

import (
	"encoding/json"
	"math"
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/fault"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

func TestAcceptedMeansHeldStoredAndWoken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	item := w.Item(250)
	item.ClientReference, item.Metadata = "order 1", json.RawMessage(`{ "a" : "\u0000" }`)
	response := w.create(t, "k1", item)
	require.Equal(t, http.StatusAccepted, response.Status)
	got := w.Get(t, transfertest.Read(t, response).ID)

	require.Equal(t, transfer.Accepted, got.State)
	require.Equal(t, int32(1), got.Version)
	require.Equal(t, "order 1", got.ClientReference)
	require.JSONEq(t, string(item.Metadata), string(got.Metadata), "also what jsonb would refuse is kept")
	require.Equal(t, got.CreatedAt.Add(60e9), got.PromiseAt)
	posted, held := w.Balance(t, w.From)
	require.Equal(t, []int64{transfertest.Funds, 250}, []int64{posted, held})
	events, err := w.Transfers.Events(t.Context(), got.Ref, 0)
	require.NoError(t, err)
	require.Len(t, events, 1)
	require.Equal(t, "transfer.accepted", events[0].Type)
	require.Equal(t, "api:test", events[0].Actor)
	require.Equal(t, "request:k1", events[0].Cause)
	require.EqualValues(t, 1, w.Count(t, "SELECT count(*) FROM river_job WHERE kind = 'transfer_screen'"))
	w.CheckInvariants(t)
}

func TestBadInputChangesNothingAndKeepsTheKeyFree(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.tables(t)
	for name, change := range map[string]func(*transfer.New){
		"zero":            func(n *transfer.New) { n.Amount.Value = 0 },
		"negative":        func(n *transfer.New) { n.Amount.Value = -5 },
		"overflow":        func(n *transfer.New) { n.Amount.Value = math.MaxInt64 },
		"currency":        func(n *transfer.New) { n.Amount.Currency = "ZZZ" },
		"itself":          func(n *transfer.New) { n.ToAccount = n.FromAccount },
		"no account":      func(n *transfer.New) { n.FromAccount = uuid.Nil },
		"NUL":             func(n *transfer.New) { n.ClientReference = "a\x00b" },
		"no UTF-8":        func(n *transfer.New) { n.ClientReference = "a\xff" },
		"broken metadata": func(n *transfer.New) { n.Metadata = json.RawMessage(`{`) },
		"bad metadata":    func(n *transfer.New) { n.Metadata = json.RawMessage("{\"\xc3\":1}") },
	} {
		item := w.Item(1)
		change(&item)
		_, err := w.Transfers.Create(t.Context(), w.Request("k1", item))
		require.True(t, problem.Is(err, problem.ValidationFailed), "%s: %v", name, err)
	}
	_, err := w.Transfers.Create(t.Context(), w.Request("k1"))
	require.True(t, problem.Is(err, problem.ValidationFailed), "no items")
	require.Equal(t, before, w.tables(t))
	w.Create(t, "k1", 1)
}

func TestARefusalIsAStoredOutcome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	poor := w.Account(t, 10)
	item := w.Item(11)
	item.FromAccount = poor
	first := w.create(t, "k1", item)
	require.Equal(t, http.StatusUnprocessableEntity, first.Status)
	require.Equal(t, problem.InsufficientFunds, transfertest.Read(t, first).Code)

	fund := w.Item(500)
	fund.ToAccount = poor
	w.create(t, "fund", fund)
	w.runAll(t.Context(), t)

	again := w.create(t, "k1", item)
	require.True(t, again.Replayed, "money that came later does not turn a refusal into a success")
	require.Equal(t, first.Body, again.Body)
	require.Equal(t, first.Status, again.Status)
	require.Equal(t, http.StatusAccepted, w.create(t, "k2", item).Status, "a new key is a new request")
	w.CheckInvariants(t)
}

func TestAccountsAreCheckedInTheOrderOfTheirRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	foreign := w.foreignAccount(t)
	frozen, closed := w.Account(t, 100), w.Account(t, 0)
	w.Exec(t, "UPDATE balances SET status = 'frozen' WHERE account_id = $1", frozen)
	w.Exec(t, "UPDATE balances SET status = 'closed' WHERE account_id = $1", closed)
	dollars, err := w.Ledger.Seed(t.Context(), w.Tenant, uuid.Nil,
		ledger.NewAccount{Name: "usd", Kind: ledger.KindUser, Currency: "USD"}, 0)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		from, to uuid.UUID
		code     problem.Code
	}{
		"unknown from":  {uuid.New(), w.To, problem.AccountNotFound},
		"unknown to":    {w.From, uuid.New(), problem.AccountNotFound},
		"foreign from":  {foreign, w.To, problem.AccountNotFound},
		"foreign to":    {w.From, foreign, problem.AccountNotFound},
		"from currency": {dollars.ID, w.To, problem.CurrencyMismatch},
		"to currency":   {w.From, dollars.ID, problem.CurrencyMismatch},
		"from frozen":   {frozen, w.To, problem.AccountFrozen},
		"to frozen":     {w.From, frozen, problem.AccountFrozen},
		"from closed":   {closed, w.To, problem.AccountClosed},
		"to closed":     {w.From, closed, problem.AccountClosed},
		"both":          {frozen, closed, problem.AccountFrozen},
	} {
		item := w.Item(1)
		item.FromAccount, item.ToAccount = c.from, c.to
		require.Equal(t, c.code, w.refused(t, name, item), name)
	}
	require.Zero(t, w.Count(t, "SELECT count(*) FROM transfers"))
	require.Zero(t, w.Count(t, "SELECT sum(held) FROM balances"))
	w.CheckInvariants(t)
}

// foreignAccount is a funded account of another tenant.
func (w world) foreignAccount(t *testing.T) uuid.UUID {
	t.Helper()
	other := w.NewTenant(t, "other")
	world, err := w.Ledger.Seed(t.Context(), other, uuid.Nil,
		ledger.NewAccount{Name: "world", Kind: ledger.KindExternal, Currency: transfertest.Currency}, 0)
	require.NoError(t, err)
	a, err := w.Ledger.Seed(t.Context(), other, world.ID,
		ledger.NewAccount{Name: "theirs", Kind: ledger.KindUser, Currency: transfertest.Currency}, 1_000)
	require.NoError(t, err)
	return a.ID
}

func TestAReplayIsTheFirstAnswerByteForByte(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.create(t, "k1", w.Item(250))
	require.False(t, first.Replayed)
	w.runAll(t.Context(), t)
	before := w.tables(t)
	again := w.create(t, "k1", w.Item(250))
	require.True(t, again.Replayed)
	again.Replayed = false
	require.Equal(t, first, again, "also after the transfer moved on")
	require.Equal(t, before, w.tables(t))
}

func TestAKeyBelongsToOneRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Create(t, "k1", 250)
	_, err := w.Transfers.Create(t.Context(), w.Request("k1", w.Item(251)))
	require.True(t, problem.Is(err, problem.KeyReused), "%v", err)
	_, err = w.Transfers.Create(t.Context(), w.Request("k1", w.Item(250), w.Item(250)))
	require.True(t, problem.Is(err, problem.KeyReused), "%v", err)
	require.EqualValues(t, 1, w.Count(t, "SELECT count(*) FROM transfers"))
}

func TestAFailedCreateIsNoPhantomSuccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Exec(t, "ALTER TABLE events ADD CONSTRAINT broken CHECK (actor <> 'api:test')")
	for range 2 {
		_, err := w.Transfers.Create(t.Context(), w.Request("k1", w.Item(250)))
		require.Error(t, err)
	}
	require.Zero(t, w.Count(t, "SELECT count(*) FROM idempotency_keys"))
	w.Exec(t, "ALTER TABLE events DROP CONSTRAINT broken")
	require.False(t, w.create(t, "k1", w.Item(250)).Replayed)
	w.CheckInvariants(t)
}

func TestACrashBetweenCommitAndReplyIsReplayed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	broken := fault.With(t.Context(), func(name string) error {
		if name == transfer.FaultAfterAccept {
			return fault.ErrInjected
		}
		return nil
	})
	_, err := w.Transfers.Create(broken, w.Request("k1", w.Item(250)))
	require.ErrorIs(t, err, fault.ErrInjected)
	response := w.create(t, "k1", w.Item(250))
	require.True(t, response.Replayed)
	require.EqualValues(t, 1, w.Count(t, "SELECT count(*) FROM transfers"))
	w.runAll(t.Context(), t)
	require.Equal(t, transfer.Settled, w.Get(t, transfertest.Read(t, response).ID).State)
	w.CheckInvariants(t)
}

func TestAClientReferenceIsUsedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	item := w.Item(250)
	item.ClientReference = "order 1"
	w.create(t, "k1", item)
	require.Equal(t, problem.ReferenceUsed, w.refused(t, "k2", item))
	item.Amount.Value = 1
	item.ToAccount = uuid.New()
	require.Equal(t, problem.ReferenceUsed, w.refused(t, "k3", item), "a repetition, whatever else is wrong")
	require.EqualValues(t, 1, w.Count(t, "SELECT count(*) FROM transfers"))
	w.CheckInvariants(t)
}

func TestBulkAnswersItemByItemAndReplaysAsOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dear, bad, strange, named := w.Item(transfertest.Funds), w.Item(0), w.Item(1), w.Item(2)
	strange.ToAccount = uuid.New()
	named.ClientReference = "order 1"
	items := []transfer.New{w.Item(1), dear, bad, strange, named, named, w.Item(3)}
	first := w.create(t, "k1", items...)
	var codes []problem.Code
	for _, a := range transfertest.ReadAll(t, first) {
		codes = append(codes, a.Code)
		require.Equal(t, a.Code == "", a.ID != uuid.Nil)
	}
	require.Equal(t, []problem.Code{
		"", problem.InsufficientFunds, problem.ValidationFailed, problem.AccountNotFound, "",
		problem.ReferenceUsed, "",
	}, codes)
	again := w.create(t, "k1", items...)
	require.True(t, again.Replayed)
	require.Equal(t, first.Body, again.Body)
	require.EqualValues(t, 3, w.Count(t, "SELECT count(*) FROM transfers"))
	_, held := w.Balance(t, w.From)
	require.EqualValues(t, 6, held)
	w.runAll(t.Context(), t)
	w.CheckInvariants(t)
}

func TestTheLargestBulkIsAcceptedInBoundedCohorts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := make([]transfer.New, transfer.BulkMaxItems)
	for i := range items {
		items[i] = w.Item(int64(i) + 1)
	}
	w.create(t, "k1", items...)
	const cohorts = (transfer.BulkMaxItems + transfer.CohortMaxItems - 1) / transfer.CohortMaxItems
	require.EqualValues(t, cohorts, w.Count(t, "SELECT count(*) FROM river_job"))
	w.runAll(t.Context(), t)
	settled := w.Count(t, "SELECT count(*) FROM transfers WHERE state = 'settled'")
	require.EqualValues(t, transfer.BulkMaxItems, settled)
	w.CheckInvariants(t)
}

func TestWhatDoesNotFitTheReceiverFailsWithItsReasonAndFreesTheFunds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, change, reason string }{
		{"overflow", "posted = 9223372036854775807", "balance_overflow"},
		{"closed since", "status = 'closed'", "account_closed"},
	} {
		w := newWorld(t)
		id := w.Create(t, "k1", 250)
		w.Exec(t, "UPDATE balances SET "+c.change+" WHERE account_id = $1", w.To)
		w.runAll(t.Context(), t)
		got := w.Get(t, id)
		require.Equal(t, transfer.Failed, got.State, c.name)
		require.Equal(t, c.reason, got.Reason, c.name)
		posted, held := w.Balance(t, w.From)
		require.Equal(t, []int64{transfertest.Funds, 0}, []int64{posted, held}, c.name)
		require.Equal(t, c.reason, w.Notify.Message(w.notifyKey(id)).Reason, c.name)
	}
}

func TestWhatWasAcceptedBeforeAFreezeIsDrained(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.Create(t, "k1", 250)
	w.Exec(t, "UPDATE balances SET status = 'frozen' WHERE account_id IN ($1, $2)", w.From, w.To)
	w.runAll(t.Context(), t)
	require.Equal(t, transfer.Settled, w.Get(t, id).State)
	w.CheckInvariants(t)
}

func TestAPreviewChangesNothingAndSaysWhatWouldHappen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	used := w.Item(1)
	used.ClientReference = "order 1"
	w.create(t, "before", used)
	dear, bad := w.Item(transfertest.Funds), w.Item(-1)
	items := []transfer.New{w.Item(1), dear, used, bad, w.Item(2)}
	before := w.tables(t)
	results, err := w.Transfers.Preview(t.Context(), w.Tenant, items)
	require.NoError(t, err)
	require.Equal(t, before, w.tables(t))

	actual := transfertest.ReadAll(t, w.create(t, "k1", items...))
	for i, predicted := range transfertest.ReadAll(t, transfertest.Render(results)) {
		require.Equal(t, actual[i].Code, predicted.Code)
		require.Equal(t, actual[i].State, predicted.State)
	}

	_, err = w.Transfers.Preview(t.Context(), w.Tenant, []transfer.New{bad})
	require.True(t, problem.Is(err, problem.ValidationFailed))
	refusal, err := w.Transfers.Preview(t.Context(), w.Tenant, []transfer.New{dear})
	require.NoError(t, err)
	require.Equal(t, problem.InsufficientFunds, refusal[0].Refused.Code)
}

func TestWhatCannotReachTheDatabaseIsAnErrorAndNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.Config(t, "lost")
	cfg.Pool = transfertest.OpenPool(t, w.DB.URL)
	cfg.Pool.Close()
	lost := transfer.NewService(cfg)
	lost.Start(t.Context())
	t.Cleanup(lost.Stop)
	_, err := lost.Create(t.Context(), w.Request("k1", w.Item(1)))
	require.Error(t, err)
	w.create(t, "k1", w.Item(1))
	job := `{"transfers":{}}`
	require.Error(t, lost.RunJob(t.Context(), "transfer_screen", 1, 1, []byte(job)))
	_, err = lost.Preview(t.Context(), w.Tenant, []transfer.New{w.Item(1)})
	require.Error(t, err)
	_, err = lost.Act(t.Context(), w.Action("k2", uuid.New(), transfer.Cancel, ""))
	require.Error(t, err)
	w.CheckInvariants(t)
}

func TestALockedAccountIsUnavailableForAWhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hasty := w.hasty(t)
	id := w.Create(t, "before", 1)

	tx, err := w.DB.Pool.Begin(t.Context()) //nolint:forbidigo // somebody else's transaction
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT FROM balances WHERE account_id = $1 FOR UPDATE", w.From)
	require.NoError(t, err)
	_, err = hasty.Create(t.Context(), w.Request("k1", w.Item(1)))
	require.True(t, problem.Is(err, problem.Unavailable), "%v", err)
	require.Positive(t, problem.Of(err).RetryAfter)
	_, err = hasty.Act(t.Context(), w.Action("k2", id, transfer.Cancel, ""))
	require.True(t, problem.Is(err, problem.Unavailable), "%v", err)
	_, err = hasty.Preview(t.Context(), w.Tenant, []transfer.New{w.Item(1)})
	require.True(t, problem.Is(err, problem.Unavailable), "%v", err)
	require.NoError(t, tx.Rollback(t.Context()))

	response, err := hasty.Create(t.Context(), w.Request("k1", w.Item(1)))
	require.NoError(t, err)
	require.False(t, response.Replayed, "the key was free again")
}

func TestAKeyThatAnotherProcessIsStoringIsInProgress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hasty := w.hasty(t)
	request := w.Request("k1", w.Item(1))

	tx, err := w.DB.Pool.Begin(t.Context()) //nolint:forbidigo // the other process
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `INSERT INTO idempotency_keys VALUES ($1, $2, $3, 202, NULL, '{}', now())`,
		w.Tenant, "k1", request.Key.Hash[:])
	require.NoError(t, err)
	_, err = hasty.Create(t.Context(), request)
	require.True(t, problem.Is(err, problem.KeyInProgress), "%v", err)
	require.NoError(t, tx.Commit(t.Context()))
	response, err := hasty.Create(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, idempotency.Response{Status: 202, Body: []byte("{}"), Replayed: true}, response)
	require.Zero(t, w.Count(t, "SELECT count(*) FROM transfers"))
}

func TestTheLargestAmountIsAccepted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rich := w.Account(t, money.MaxValue)
	item := w.Item(money.MaxValue)
	item.FromAccount = rich
	w.create(t, "k1", item)
	w.runAll(t.Context(), t)
	posted, _ := w.Balance(t, w.To)
	require.Equal(t, transfertest.Funds+money.MaxValue, posted)
	w.CheckInvariants(t)
}

func TestHostileTextInOneOfSeveralIsRefusedAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hostile := w.Item(5)
	hostile.ClientReference = "a\x00b"
	answers := transfertest.ReadAll(t, w.create(t, "k1", w.Item(1), hostile))
	require.Empty(t, answers[0].Code)
	require.Equal(t, problem.ValidationFailed, answers[1].Code)
}
