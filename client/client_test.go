package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/api"
	"example.com/holdfast/client"
	"example.com/holdfast/internal/problem"
)

var (
	cash     = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000a1")
	bank     = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000a2")
	transfer = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000f1")
)

func order() client.NewTransfer {
	return client.NewTransfer{
		FromAccount: cash, ToAccount: bank, Amount: client.Amount{Value: 125, Currency: "EUR"},
		ClientReference: "invoice-7", Metadata: json.RawMessage(`{"order":"7"}`),
	}
}

// exampleServer answers every request that the contract allows with the example of the contract, and
// says 400 with the reason to any other.
func exampleServer() http.Handler {
	doc, err := openapi3.NewLoader().LoadFromData(api.Public())
	if err != nil {
		panic(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		panic(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		route, params, err := router.FindRoute(r)
		if err == nil {
			err = openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
				Request: r, PathParams: params, Route: route,
				Options: &openapi3filter.Options{AuthenticationFunc: signedIn},
			})
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for _, status := range []int{200, 201, 202} {
			if response := route.Operation.Responses.Status(status); response != nil {
				w.WriteHeader(status)
				_ = json.NewEncoder(w).Encode(response.Value.Content["application/json"].Example)
				return
			}
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

func signedIn(_ context.Context, in *openapi3filter.AuthenticationInput) error {
	if in.RequestValidationInput.Request.Header.Get("Authorization") != "Bearer hf_key" {
		return errors.New("not signed in")
	}
	return nil
}

// seen is a request as a server saw it.
type seen struct {
	key, timeout, prefer, body, url string
}

// script is a server that answers one after the other, the last one again and again.
type script struct {
	mu      sync.Mutex
	answers []http.HandlerFunc
	seen    []seen
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	h := r.Header
	s.seen = append(s.seen, seen{
		h.Get("Idempotency-Key"), h.Get("Request-Timeout"), h.Get("Prefer"), string(body), r.URL.String(),
	})
	answer := s.answers[min(len(s.seen), len(s.answers))-1]
	s.mu.Unlock()
	answer(w, r)
}

func (s *script) urls() []string {
	var urls []string
	for _, request := range s.seen {
		urls = append(urls, request.url)
	}
	return urls
}

// refuse answers with a problem.
func refuse(code problem.Code, retryAfter string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		m := problem.MeaningOf(code)
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(m.Status)
		_ = json.NewEncoder(w).Encode(client.Problem{
			Type: "/problems/" + string(code), Code: string(code), Status: int32(m.Status), Title: m.Title,
			Detail: "No.", Retryable: m.Retryable, SafeNewKey: m.SafeNewKey, RequestID: "r1",
		})
	}
}

func text(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// bundle is a client of a script; its clock stands still, and sleeping only remembers for how long.
type bundle struct {
	*client.Client
	*script

	now   time.Time
	slept *[]time.Duration
}

func setup(t *testing.T, answers ...http.HandlerFunc) bundle {
	t.Helper()
	s := &script{answers: answers}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	var slept []time.Duration
	now := time.Now() //nolint:forbidigo // contexts go by this clock
	c, err := client.New(server.URL, "hf_key", client.WithClock(
		func() time.Time { return now },
		func(ctx context.Context, d time.Duration) error {
			slept = append(slept, d)
			return ctx.Err()
		},
	))
	require.NoError(t, err)
	return bundle{c, s, now, &slept}
}

const accepted = `{"id":"018f2b6e-0000-7000-8000-0000000000f1","status":"accepted"}`

func TestEveryCallIsAsTheContractSays(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(exampleServer())
	t.Cleanup(server.Close)
	c, err := client.New(server.URL, "hf_key")
	require.NoError(t, err)
	ctx := t.Context()

	made, err := c.CreateTransfer(ctx, order())
	require.NoError(t, err)
	require.Equal(t, transfer, made.ID)
	require.Equal(t, client.TransferStatusAccepted, made.Status)
	require.JSONEq(t, `{"order":"7"}`, string(made.Metadata))
	results, err := c.CreateTransfers(ctx, []client.NewTransfer{order()})
	require.NoError(t, err)
	require.Equal(t, "insufficient_funds", results[1].Problem.Code)
	results, err = c.PreviewTransfers(ctx, []client.NewTransfer{order()})
	require.NoError(t, err)
	require.Len(t, results, 1)
	read, err := c.Transfer(ctx, transfer)
	require.NoError(t, err)
	require.True(t, read.Status.Terminal())
	read, err = c.AwaitTransfer(ctx, transfer)
	require.NoError(t, err)
	require.Equal(t, client.TransferStatusSettled, read.Status)
	for _, params := range []*client.ListTransfersParams{nil, {
		Status: new(client.TransferStatusSettled), Account: &cash, Limit: new(int32(7)), Cursor: new("x"),
		ClientReference: new("a b&c"), CreatedFrom: &time.Time{}, CreatedTo: &time.Time{},
	}} {
		page, err := c.ListTransfers(ctx, params)
		require.NoError(t, err)
		require.NotEmpty(t, page.NextCursor)
	}
	events, err := c.TransferEvents(ctx, transfer, 0)
	require.NoError(t, err)
	require.Equal(t, "transfer.accepted", events[0].Type)
	canceled, err := c.CancelTransfer(ctx, transfer, "ordered twice")
	require.NoError(t, err)
	require.Equal(t, "ordered twice", canceled.Reason)
	reversal, err := c.ReverseTransfer(ctx, transfer, client.ReversalRequest{Value: new(int64(25))})
	require.NoError(t, err)
	require.NotEqual(t, uuid.Nil, reversal.Reverses)
	_, err = c.ReverseTransfer(ctx, transfer, client.ReversalRequest{})
	require.NoError(t, err)
}

func TestEveryCallAboutAccountsIsAsTheContractSays(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(exampleServer())
	t.Cleanup(server.Close)
	c, err := client.New(server.URL+"/", "hf_key")
	require.NoError(t, err)
	ctx := t.Context()

	account, err := c.CreateAccount(ctx, client.NewAccount{
		Name: "Cash", Kind: client.AccountKindUser, Currency: "EUR",
	})
	require.NoError(t, err)
	require.Equal(t, int64(9875), *account.Balance.Available)
	account, err = c.Account(ctx, cash)
	require.NoError(t, err)
	require.Equal(t, cash, account.ID)
	account, err = c.SetAccountStatus(ctx, cash, client.AccountStatusFrozen)
	require.NoError(t, err)
	require.Equal(t, client.AccountStatusFrozen, account.Status)
	accounts, err := c.ListAccounts(ctx, &client.ListAccountsParams{Limit: new(int32(1))})
	require.NoError(t, err)
	require.Len(t, accounts.Accounts, 1)
	balance, err := c.Balance(ctx, cash)
	require.NoError(t, err)
	require.Equal(t, int64(4), balance.Version)
	_, err = c.BalanceAt(ctx, cash, time.Date(2026, 11, 22, 12, 0, 0, 0, time.FixedZone("", 3600)))
	require.NoError(t, err)
	postings, err := c.Postings(ctx, cash, nil)
	require.NoError(t, err)
	require.Equal(t, int64(-125), postings.Postings[0].Amount)
	meaning, err := c.Explain(ctx, "insufficient_funds")
	require.NoError(t, err)
	require.True(t, meaning.Stored)
}

func TestARefusalIsAProblem(t *testing.T) {
	t.Parallel()
	b := setup(t, refuse(problem.InsufficientFunds, ""))
	_, err := b.CreateTransfer(t.Context(), order())
	var p *client.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, "insufficient_funds", p.Code)
	require.EqualError(t, err, "422 insufficient_funds: No. (request r1)")
	require.Len(t, b.seen, 1)
}

func TestOnlyWhatTheServerCallsRetryableIsTriedAgainWithTheSameKey(t *testing.T) {
	t.Parallel()
	for _, m := range problem.Table() {
		t.Run(string(m.Code), func(t *testing.T) {
			t.Parallel()
			b := setup(t, refuse(m.Code, "2"), text(http.StatusAccepted, accepted))
			_, err := b.CreateTransfer(t.Context(), order())
			if !m.Retryable {
				require.Error(t, err)
				require.Len(t, b.seen, 1)
				return
			}
			require.NoError(t, err)
			require.Len(t, b.seen, 2)
			require.Equal(t, b.seen[0].key, b.seen[1].key)
			require.Equal(t, b.seen[0].body, b.seen[1].body)
			require.NotEmpty(t, b.seen[1].body)
			require.GreaterOrEqual(t, (*b.slept)[0], 2*time.Second)
			require.Less(t, (*b.slept)[0], 2200*time.Millisecond)
		})
	}
}

func TestALostAnswerIsAskedForAgainWithTheSameKey(t *testing.T) {
	t.Parallel()
	b := setup(t, hangUp, hangUp, text(http.StatusAccepted, accepted))
	made, err := b.CreateTransfer(t.Context(), order())
	require.NoError(t, err)
	require.Equal(t, transfer, made.ID)
	for _, s := range b.seen {
		require.Equal(t, b.seen[0].key, s.key)
	}
}

func TestTriesAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t, refuse(problem.Overloaded, ""))
	_, err := b.CreateTransfer(t.Context(), order())
	var p *client.Problem
	require.ErrorAs(t, err, &p)
	require.Len(t, b.seen, 4)
	require.Len(t, *b.slept, 3)
}

func TestNoTryIsBegunThatCannotEndInTime(t *testing.T) {
	t.Parallel()
	b := setup(t, refuse(problem.Overloaded, "5"))
	ctx, cancel := context.WithDeadline(t.Context(), b.now.Add(4*time.Second))
	defer cancel()
	_, err := b.CreateTransfer(ctx, order())
	var p *client.Problem
	require.ErrorAs(t, err, &p)
	require.Len(t, b.seen, 1)

	over, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	_, err = b.CreateTransfer(over, order())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Len(t, b.seen, 1)
}

func TestEveryCallHasAKeyOfItsOwnUnlessTheCallerNamesOne(t *testing.T) {
	t.Parallel()
	b := setup(t, text(http.StatusAccepted, accepted))
	for range 2 {
		_, err := b.CreateTransfer(t.Context(), order())
		require.NoError(t, err)
	}
	_, err := b.CreateTransfer(t.Context(), order(), client.WithKey("mine"))
	require.NoError(t, err)
	_, err = b.Transfer(t.Context(), transfer)
	require.NoError(t, err)
	first, err := uuid.Parse(b.seen[0].key)
	require.NoError(t, err)
	require.Equal(t, uuid.Version(7), first.Version())
	require.NotEqual(t, b.seen[0].key, b.seen[1].key)
	require.Equal(t, "mine", b.seen[2].key)
	require.Empty(t, b.seen[3].key)
}

func TestTheServerIsToldHowLongTheCallerWaits(t *testing.T) {
	t.Parallel()
	b := setup(t, text(http.StatusAccepted, accepted))
	_, err := b.CreateTransfer(t.Context(), order())
	require.NoError(t, err)
	require.Empty(t, b.seen[0].timeout)
	ctx, cancel := context.WithDeadline(t.Context(), b.now.Add(time.Hour))
	defer cancel()
	_, err = b.CreateTransfer(ctx, order())
	require.NoError(t, err)
	require.Equal(t, "3599980", b.seen[1].timeout, "what is left, less a margin for the way back")
}

func TestAnAnswerOfSomethingInBetweenIsNamedAsSuch(t *testing.T) {
	t.Parallel()
	for status, tries := range map[int]int{502: 4, 503: 4, 504: 4, 404: 1, 500: 1} {
		b := setup(t, text(status, "<html>no</html>"))
		_, err := b.Transfer(t.Context(), transfer)
		var p *client.Problem
		require.ErrorAs(t, err, &p)
		require.Equal(t, "unknown", p.Code)
		require.Equal(t, status, int(p.Status))
		require.Len(t, b.seen, tries)
	}
	b := setup(t, text(200, "<html>welcome</html>"))
	_, err := b.Transfer(t.Context(), transfer)
	require.ErrorContains(t, err, "decode answer")
}

func TestAwaitAsksUntilTheTransferHasEnded(t *testing.T) {
	t.Parallel()
	settled := strings.Replace(accepted, "accepted", "settled", 1)
	b := setup(t, text(200, accepted), text(200, accepted), text(200, settled))
	got, err := b.AwaitTransfer(t.Context(), transfer)
	require.NoError(t, err)
	require.Equal(t, client.TransferStatusSettled, got.Status)
	require.Len(t, b.seen, 3)
	require.Equal(t, "wait=30", b.seen[0].prefer)
	require.Len(t, *b.slept, 2, "it never asks without a pause")

	ctx, cancel := context.WithCancel(t.Context())
	b = setup(t, text(200, accepted), func(http.ResponseWriter, *http.Request) { cancel(); hangUp(nil, nil) })
	got, err = b.AwaitTransfer(ctx, transfer)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, client.TransferStatusAccepted, got.Status)

	b = setup(t, refuse(problem.NotFound, ""))
	_, err = b.AwaitTransfer(t.Context(), transfer)
	require.ErrorContains(t, err, "not_found")
}

func TestTheTerminalStatusesAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromData(api.Public())
	require.NoError(t, err)
	schema := doc.Components.Schemas["TransferStatus"].Value
	_, final, found := strings.Cut(schema.Description, "Final:")
	require.True(t, found)
	for _, status := range schema.Enum {
		s := client.TransferStatus(status.(string))
		require.Equal(t, strings.Contains(final, "`"+string(s)+"`"), s.Terminal(), s)
	}
	require.True(t, slices.Contains(schema.Enum, any("in_review")))
}

func TestABaseURLThatIsNoneIsAnErrorOfTheCall(t *testing.T) {
	t.Parallel()
	c, err := client.New("http://[::1", "hf_key", client.WithAttempts(1))
	require.NoError(t, err)
	_, err = c.Transfer(t.Context(), transfer)
	require.Error(t, err)
}
