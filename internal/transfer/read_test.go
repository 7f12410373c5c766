package transfer_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

func ids(transfers []transfer.Transfer) []uuid.UUID {
	var list []uuid.UUID
	for _, t := range transfers {
		list = append(list, t.ID)
	}
	return list
}

// listAll follows the pages of a filter to their end.
func (w world) listAll(t *testing.T, f transfer.Filter) []uuid.UUID {
	t.Helper()
	var all []uuid.UUID
	for range 100 {
		page, err := w.Transfers.List(t.Context(), w.Tenant, f)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page.Transfers), max(1, f.Limit))
		all = append(all, ids(page.Transfers)...)
		if page.Next == uuid.Nil {
			return all
		}
		f.Before = page.Next
	}
	t.Fatal("the pages have no end")
	return nil
}

func TestPagesTogetherAreTheWholeListNewestFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var made []uuid.UUID
	for i := range 7 {
		made = append([]uuid.UUID{w.Create(t, fmt.Sprint("k", i), 1)}, made...)
	}
	for _, limit := range []int{-1, 0, 1, 2, 6, 7, 8, transfer.PageMaxRows} {
		require.Equal(t, made, w.listAll(t, transfer.Filter{Limit: limit}), "limit %d", limit)
	}
	page, err := w.Transfers.List(t.Context(), w.Tenant, transfer.Filter{Limit: 1_000_000_000_000})
	require.NoError(t, err)
	require.Equal(t, made, ids(page.Transfers))
}

func TestFiltersAreCombined(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.Account(t, 100)
	settled := w.settled(t, 1)
	item := w.Item(1)
	item.FromAccount, item.ToAccount, item.ClientReference = w.To, other, "order 1"
	named := transfertest.Read(t, w.create(t, "k2", item)).ID
	item.FromAccount, item.ToAccount, item.ClientReference = other, w.To, ""
	open := transfertest.Read(t, w.create(t, "k3", item)).ID
	at := w.Get(t, named).CreatedAt
	const one = "order 1"
	for name, c := range map[string]struct {
		filter transfer.Filter
		want   []uuid.UUID
	}{
		"all":                  {transfer.Filter{}, []uuid.UUID{open, named, settled}},
		"state":                {transfer.Filter{State: transfer.Accepted}, []uuid.UUID{open, named}},
		"account":              {transfer.Filter{Account: other}, []uuid.UUID{open, named}},
		"from a time":          {transfer.Filter{CreatedFrom: at}, []uuid.UUID{open, named}},
		"before a time":        {transfer.Filter{CreatedTo: at}, []uuid.UUID{settled}},
		"state and account":    {transfer.Filter{State: transfer.Settled, Account: other}, nil},
		"reference":            {transfer.Filter{ClientReference: one}, []uuid.UUID{named}},
		"reference, account":   {transfer.Filter{ClientReference: one, Account: other}, []uuid.UUID{named}},
		"reference, state":     {transfer.Filter{ClientReference: one, State: transfer.Settled}, nil},
		"reference, stranger":  {transfer.Filter{ClientReference: one, Account: w.From}, nil},
		"reference, too early": {transfer.Filter{ClientReference: one, CreatedTo: at}, nil},
		"unknown reference":    {transfer.Filter{ClientReference: "order 2"}, nil},
	} {
		c.filter.Limit = 2
		require.Equal(t, c.want, w.listAll(t, c.filter), name)
	}
}

func TestAPageLooksAtABoundedNumberOfRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	oldest := w.Create(t, "k1", 1)
	w.Exec(t, `ALTER TABLE transfers DISABLE TRIGGER USER`)
	w.Exec(t, `INSERT INTO transfers (tenant_id, id, from_account, to_account, amount, currency, state,
	             version, reason, promise_at, created_at, updated_at)
	           SELECT tenant_id, ('ffffffff-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, from_account,
	             to_account, 1, 'EUR', 'canceled', 2, 'test', now(), now(), now()
	           FROM transfers, generate_series(1, $1) n`, transfer.ListScanRows)
	page, err := w.Transfers.List(t.Context(), w.Tenant, transfer.Filter{State: transfer.Accepted, Limit: 10})
	require.NoError(t, err)
	require.Empty(t, page.Transfers)
	require.NotEqual(t, uuid.Nil, page.Next, "the page is empty and not the last")
	require.Equal(t, []uuid.UUID{oldest}, w.listAll(t, transfer.Filter{State: transfer.Accepted, Limit: 10}))
}

func TestAnotherTenantsTransfersDoNotExist(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	item := w.Item(1)
	item.ClientReference = "order 1"
	id := transfertest.Read(t, w.create(t, "k1", item)).ID
	other := w.NewTenant(t, "other")
	foreign, missing := transfer.Ref{TenantID: other, ID: id}, transfer.Ref{TenantID: other, ID: uuid.New()}
	for _, ref := range []transfer.Ref{foreign, missing} {
		_, err := w.Transfers.Get(t.Context(), ref)
		require.True(t, problem.Is(err, problem.NotFound))
		_, err = w.Transfers.Events(t.Context(), ref, 0)
		require.True(t, problem.Is(err, problem.NotFound))
		_, err = w.Transfers.Wait(t.Context(), ref, time.Minute)
		require.True(t, problem.Is(err, problem.NotFound))
		action := w.Action("c1", ref.ID, transfer.Cancel, "")
		action.Key.TenantID = other
		_, err = w.Transfers.Act(t.Context(), action)
		require.True(t, problem.Is(err, problem.NotFound))
		reversal := w.Reversal("r1", ref.ID, 0)
		reversal.Key.TenantID = other
		_, err = w.Transfers.Reverse(t.Context(), reversal)
		require.True(t, problem.Is(err, problem.NotFound))
	}
	for _, reference := range []string{"", "order 1"} {
		f := transfer.Filter{ClientReference: reference, Limit: 10}
		page, err := w.Transfers.List(t.Context(), other, f)
		require.NoError(t, err)
		require.Empty(t, page.Transfers)
	}
	require.Equal(t, transfer.Accepted, w.Get(t, id).State)
}

func TestWaitAnswersAtTheEndOrAfterItsTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	open := w.Create(t, "k1", 1)
	got, err := w.Transfers.Wait(t.Context(), w.ref(open), 20*time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, transfer.Accepted, got.State)

	waiting := make(chan transfer.Transfer)
	go func() {
		ended, _ := w.Transfers.Wait(t.Context(), w.ref(open), time.Minute)
		waiting <- ended
	}()
	w.runAll(t.Context(), t)
	require.Equal(t, transfer.Settled, (<-waiting).State)

	left, cancel := context.WithCancel(t.Context())
	cancel()
	open = w.Create(t, "k2", 1)
	_, err = w.Transfers.Wait(left, w.ref(open), time.Minute)
	require.ErrorIs(t, err, context.Canceled)
}

func TestEventsAreReadAfterAVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.settled(t, 1)
	events, err := w.Transfers.Events(t.Context(), w.ref(id), 1)
	require.NoError(t, err)
	require.Len(t, events, 2)
	require.Equal(t, "transfer.approved", events[0].Type)
	require.Equal(t, "transfer.settled", events[1].Type)
	require.Equal(t, "worker:api", events[1].Actor)
	require.Contains(t, events[1].Cause, "job:")
}

func TestReviewsAreListedByUrgencyOverAllTenants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.inReview(t, "k1", 1)
	second := w.inReview(t, "k2", 1)
	w.Create(t, "k3", 1)
	both := []uuid.UUID{first, second}
	for limit, want := range map[int][]uuid.UUID{0: both[:1], 1: both[:1], 2: both, 9: both} {
		reviews, err := w.Transfers.Reviews(t.Context(), limit)
		require.NoError(t, err)
		require.Equal(t, want, ids(reviews))
	}
}
