package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/groupcommit"
	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/problem"
)

func creating(body string) exchange {
	return exchange{method: post, path: "/v1/transfers", body: body}
}

// refusing makes the domain refuse with a code that it stores.
//
//nolint:lll // a table reads by lines
func refusing(code problem.Code) func(*testing.T, bundle) publicapi.Problem {
	return func(t *testing.T, b bundle) publicapi.Problem {
		t.Helper()
		b.fake.refuse = problem.New(code, "The domain says no.")
		switch code { //nolint:exhaustive // the others come from creating a transfer
		case problem.AccountNotEmpty, problem.AccountClosed:
			return b.requireProblem(t, exchange{
				method: put, path: "/v1/accounts/" + cash.String() + "/status", body: `{"status":"closed"}`,
			}, code)
		case problem.IllegalTransition:
			return b.requireProblem(t, exchange{method: post, path: "/v1/transfers/" + known.String() + "/cancel"}, code)
		case problem.SKUCodeUsed:
			return b.requireProblem(t, exchange{method: post, path: "/v1/skus", body: goodSKU}, code)
		case problem.InsufficientStock:
			return b.requireProblem(t, exchange{method: post, path: "/v1/skus/" + tea.String() + "/stock", body: goodStock}, code)
		case problem.SKUNotFound, problem.SlotNotFound, problem.SlotClosed, problem.SlotElsewhere, problem.TotalOverflow,
			problem.AccountExternal:
			return b.requireProblem(t, exchange{method: post, path: "/v1/orders", body: goodOrder}, code)
		case problem.NotReversible, problem.ReversalTooLarge:
			return b.requireProblem(t, exchange{method: post, path: "/v1/transfers/" + known.String() + "/reversals"}, code)
		}
		return b.requireProblem(t, creating(goodTransfer), code)
	}
}

// previewing makes the domain refuse an order of a preview, which is the only place for the code: an
// order that was accepted is canceled instead.
func previewing(code problem.Code) func(*testing.T, bundle) publicapi.Problem {
	return func(t *testing.T, b bundle) publicapi.Problem {
		t.Helper()
		b.fake.refuse = problem.New(code, "The domain says no.")
		a := b.do(t, previewingOrders(goodOrder))
		var out publicapi.OrderResults
		require.NoError(t, json.Unmarshal([]byte(a.text), &out))
		require.Equal(t, string(code), out.Results[0].Problem.Code)
		return out.Results[0].Problem
	}
}

func failing(err error, code problem.Code) func(*testing.T, bundle) publicapi.Problem {
	return func(t *testing.T, b bundle) publicapi.Problem {
		t.Helper()
		b.fake.err = err
		return b.requireProblem(t, creating(goodTransfer), code)
	}
}

func asking(e exchange, code problem.Code) func(*testing.T, bundle) publicapi.Problem {
	return func(t *testing.T, b bundle) publicapi.Problem {
		t.Helper()
		return b.requireProblem(t, e, code)
	}
}

// everyCode makes the API answer each code of the table. What a person at a keyboard can do is done;
// the rest is what a service returns.
//
//nolint:lll,exhaustive // a table reads by lines; neverAnswered has what is missing
func everyCode() map[problem.Code]func(*testing.T, bundle) publicapi.Problem {
	withHeader := func(e exchange, name, value string) exchange {
		e.header = http.Header{name: {value}}
		return e
	}
	withName := func(e exchange, name string) exchange {
		e.name = name
		return e
	}
	return map[problem.Code]func(*testing.T, bundle) publicapi.Problem{
		problem.BodyTooLarge:         asking(creating(strings.Repeat(" ", bodyMaxBytes+1)), problem.BodyTooLarge),
		problem.RequestTimeout:       failing(problem.New(problem.RequestTimeout, "Slow."), problem.RequestTimeout),
		problem.RouteNotFound:        asking(exchange{method: get, path: "/v2/transfers"}, problem.RouteNotFound),
		problem.MethodNotAllowed:     asking(exchange{method: http.MethodDelete, path: "/v1/transfers"}, problem.MethodNotAllowed),
		problem.Unauthenticated:      asking(exchange{method: get, path: "/v1/transfers", key: "-"}, problem.Unauthenticated),
		problem.Forbidden:            asking(exchange{method: post, path: "/v1/transfers", key: "reader", body: goodTransfer}, problem.Forbidden),
		problem.RateLimited:          failing(problem.New(problem.RateLimited, "Slower."), problem.RateLimited),
		problem.Overloaded:           failing(fmt.Errorf("accept: %w", groupcommit.ErrFull), problem.Overloaded),
		problem.RefusedByMode:        failing(problem.New(problem.RefusedByMode, "Not now."), problem.RefusedByMode),
		problem.UnsupportedMediaType: asking(withHeader(creating(goodTransfer), "Content-Type", "text/plain"), problem.UnsupportedMediaType),
		problem.MalformedRequest:     asking(creating("{"), problem.MalformedRequest),
		problem.KeyMissing:           asking(withName(creating(goodTransfer), "-"), problem.KeyMissing),
		problem.KeyInvalid:           asking(withName(creating(goodTransfer), "a b"), problem.KeyInvalid),
		problem.WebhooksUnavailable: func(t *testing.T, b bundle) publicapi.Problem {
			t.Helper()
			b.fake.err = problem.New(problem.WebhooksUnavailable, "There is no key.")
			return b.requireProblem(t, exchange{method: get, path: hookPath + "/secret"}, problem.WebhooksUnavailable)
		},
		problem.ValidationFailed: asking(creating("{}"), problem.ValidationFailed),
		problem.KeyReused: func(t *testing.T, b bundle) publicapi.Problem {
			t.Helper()
			require.Equal(t, http.StatusAccepted, b.do(t, withName(creating(goodTransfer), "one")).Code)
			other := strings.Replace(goodTransfer, "125", "126", 1)
			return b.requireProblem(t, withName(creating(other), "one"), problem.KeyReused)
		},
		problem.KeyInProgress: failing(&problem.Error{Code: problem.KeyInProgress, RetryAfter: time.Second}, problem.KeyInProgress),
		problem.NotFound:      asking(exchange{method: get, path: "/v1/transfers/" + absent.String()}, problem.NotFound),

		problem.CursorExpired: func(t *testing.T, b bundle) publicapi.Problem {
			t.Helper()
			b.fake.feed.grow(acme, "transfer.settled")
			b.fake.feed.forget(1)
			return b.requireProblem(t, exchange{method: get, path: "/v1/events?cursor=" + numberCursor(ofEvents, 0)}, problem.CursorExpired)
		},

		problem.AccountNotFound:   refusing(problem.AccountNotFound),
		problem.SKUNotFound:       refusing(problem.SKUNotFound),
		problem.SlotNotFound:      refusing(problem.SlotNotFound),
		problem.SKUCodeUsed:       refusing(problem.SKUCodeUsed),
		problem.SlotClosed:        refusing(problem.SlotClosed),
		problem.SlotElsewhere:     refusing(problem.SlotElsewhere),
		problem.SlotFull:          previewing(problem.SlotFull),
		problem.TotalOverflow:     refusing(problem.TotalOverflow),
		problem.InsufficientStock: refusing(problem.InsufficientStock),
		problem.ReferenceUsed:     refusing(problem.ReferenceUsed),
		problem.CurrencyMismatch:  refusing(problem.CurrencyMismatch),
		problem.AccountFrozen:     refusing(problem.AccountFrozen),
		problem.AccountClosed:     refusing(problem.AccountClosed),
		problem.AccountExternal:   refusing(problem.AccountExternal),
		problem.AccountNotEmpty:   refusing(problem.AccountNotEmpty),
		problem.InsufficientFunds: refusing(problem.InsufficientFunds),
		problem.NotReversible:     refusing(problem.NotReversible),
		problem.ReversalTooLarge:  refusing(problem.ReversalTooLarge),
		problem.IllegalTransition: refusing(problem.IllegalTransition),

		problem.DeadlineExceeded: failing(context.DeadlineExceeded, problem.DeadlineExceeded),
		problem.Unavailable:      failing(&net.OpError{Op: "dial", Err: errors.New("refused")}, problem.Unavailable),
		problem.Internal:         failing(errors.New("secret"), problem.Internal),
	}
}

// neverAnswered are codes that no operation answers: settling meets them, and they become the reason
// of a transfer that failed. Their pages are served all the same.
func neverAnswered() []problem.Code { return []problem.Code{problem.BalanceOverflow} }

func TestEveryProblemCodeIsAnsweredAndExplained(t *testing.T) {
	t.Parallel()
	cases := everyCode()
	for _, m := range problem.Table() {
		t.Run(string(m.Code), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			if ask, ok := cases[m.Code]; ok {
				ask(t, b)
			} else {
				require.Contains(t, neverAnswered(), m.Code)
			}
			page := b.do(t, exchange{method: get, path: "/problems/" + string(m.Code), key: "-"})
			require.Equal(t, http.StatusOK, page.Code)
			var out publicapi.ProblemMeaning
			require.NoError(t, json.Unmarshal([]byte(page.text), &out))
			require.Equal(t, publicapi.ProblemMeaning{
				Code: string(m.Code), Type: "/problems/" + string(m.Code), Status: int32(m.Status),
				Title: m.Title, Advice: m.Advice,
				Retryable: m.Retryable, SafeNewKey: m.SafeNewKey, Stored: m.Stored,
			}, out)
		})
	}
	require.Len(t, problem.Table(), len(cases)+len(neverAnswered()))
}

func TestTheProblemsAreListedInTheOrderOfTheTable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var out publicapi.ProblemMeanings
	list := b.do(t, exchange{method: get, path: "/problems"})
	require.NoError(t, json.Unmarshal([]byte(list.text), &out))
	for i, m := range problem.Table() {
		require.Equal(t, string(m.Code), out.Problems[i].Code)
	}
	b.requireProblem(t, exchange{method: get, path: "/problems/no_such_code"}, problem.NotFound)
}

//nolint:lll // a table reads by lines
func TestErrorsOfServicesBecomeProblemsWithoutTheirText(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		err        error
		want       problem.Code
		retryAfter string
	}{
		{"deadline", fmt.Errorf("accept: %w", context.DeadlineExceeded), problem.DeadlineExceeded, ""},
		{"gone client", context.Canceled, problem.DeadlineExceeded, ""},
		{"statement timeout", &pgconn.PgError{Code: "57014", Message: "secret"}, problem.DeadlineExceeded, ""},
		{"full queue", groupcommit.ErrFull, problem.Overloaded, "1|2"},
		{"long queue", groupcommit.ErrLate, problem.Overloaded, "1|2"},
		{"stopping", groupcommit.ErrStopped, problem.Unavailable, "1"},
		{"connection refused", &net.OpError{Op: "dial", Err: errors.New("secret")}, problem.Unavailable, "1"},
		{"connection failure", &pgconn.PgError{Code: "08006", Message: "secret"}, problem.Unavailable, "1"},
		{"too many connections", &pgconn.PgError{Code: "53300", Message: "secret"}, problem.Unavailable, "1"},
		{"shutdown", &pgconn.PgError{Code: "57P01", Message: "secret"}, problem.Unavailable, "1"},
		{"lock timeout", &pgconn.PgError{Code: "55P03", Message: "secret"}, problem.Unavailable, "1"},
		{"bad query", &pgconn.PgError{Code: "42601", Message: "secret"}, problem.Internal, ""},
		{"anything", errors.New("secret"), problem.Internal, ""},
		{"wrapped problem", fmt.Errorf("x: %w", problem.Wrap(problem.NotFound, errors.New("secret"), "No.")), problem.NotFound, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.fake.err = tt.err
			a := b.do(t, exchange{method: get, path: "/v1/transfers/" + known.String()})
			require.Equal(t, string(tt.want), a.problem(t).Code)
			require.Contains(t, strings.Split(tt.retryAfter, "|"), a.Header().Get("Retry-After"))
			require.NotContains(t, a.text, "secret")
			if tt.want == problem.Internal {
				require.Contains(t, b.log.String(), `"level":"ERROR"`)
				require.Contains(t, b.log.String(), "secret")
			}
		})
	}
}

func TestAPanicIsAnInternalProblemAndIsLoggedWithItsStack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fake.panic = "secret"
	a := b.do(t, creating(goodTransfer))
	require.Equal(t, string(problem.Internal), a.problem(t).Code)
	require.NotContains(t, a.text, "secret")
	require.Contains(t, b.log.String(), "setup_test.go")
	require.Contains(t, b.log.String(), "panic: secret")
	b.fake.panic = http.ErrAbortHandler
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { b.do(t, creating(goodTransfer)) })
}

func TestTheStatusOfAReusedKeyIsASetting(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.KeyReusedStatus = http.StatusUnprocessableEntity })
	b.fake.err = problem.New(problem.KeyReused, "The key belongs to another request.")
	require.Equal(t, http.StatusUnprocessableEntity, b.do(t, creating(goodTransfer)).Code)
	page := b.do(t, exchange{method: get, path: "/problems/idempotency_key_reused"})
	require.Contains(t, page.text, `"status":422`)
}

func TestUnknownPathsAndMethodsSayWhatIsThere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.do(t, exchange{method: http.MethodPatch, path: "/v1/transfers"})
	require.Equal(t, string(problem.MethodNotAllowed), a.problem(t).Code)
	require.Equal(t, "GET, POST", a.Header().Get("Allow"))
	a = b.do(t, exchange{method: get, path: "/v1/accounts", key: "-"})
	require.Equal(t, "Bearer", a.Header().Get("WWW-Authenticate"))
}
