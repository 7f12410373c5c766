package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
)

//nolint:lll // a table reads by lines
func TestReadsAnswerAsTheContractSays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	account := "/v1/accounts/" + cash.String()
	tests := map[string]string{
		"/v1/transfers/" + known.String():             `"status":"settled"`,
		"/v1/transfers/" + known.String() + "/events": `"type":"transfer.accepted"`,
		account:              `"balance":{"available":9875,"currency":"EUR","floor":0,"held":125,"posted":10000,"version":4}`,
		account + "/balance": `"available":9875`,
		account + "/balance?at=2026-11-22T12:00:00Z": `{"at":"2026-11-22T12:00:00Z","currency":"EUR","posted":9000,"version":3}`,
		account + "/balance?at=2020-01-01T00:00:00Z": `{"currency":"EUR","posted":0,"version":0}`,
		"/livez": `{"status":"ok"}`,
	}
	for path, want := range tests {
		a := b.do(t, exchange{method: get, path: path})
		require.Equal(t, http.StatusOK, a.Code, path)
		require.Contains(t, a.text, want)
	}
}

func TestAnEmptyListIsAnEmptyArray(t *testing.T) {
	t.Parallel()
	b := setup(t)
	page := b.do(t, exchange{method: get, path: "/v1/transfers?cursor=" + cursor(ofTransfers, known[:])})
	require.JSONEq(t, `{"transfers":[]}`, page.text)
	events := b.do(t, exchange{method: get, path: "/v1/transfers/" + known.String() + "/events?after=9"})
	require.JSONEq(t, `{"events":[]}`, events.text)
}

var nextLink = regexp.MustCompile(`^<([^>]+)>; rel="next"$`)

func TestListsAreFollowedByTheirLinksToTheEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	between := "status=settled&created_from=2026-01-01T00%3A00%3A00%2B02:00"
	pages := map[string]int{
		"/v1/transfers?limit=1&" + between:                    2,
		"/v1/accounts?limit=1":                                2,
		"/v1/accounts/" + cash.String() + "/postings?limit=3": 2,
		"/v1/orders?limit=1":                                  2,
		"/v1/skus?limit=1":                                    3, // its last one is empty
		"/v1/skus?limit=3":                                    1,
		"/v1/slots?location=main&limit=2":                     2,
		hooks + "?limit=1":                                    3, // its last one is empty
		hookPath + "/attempts?limit=2":                        2,
		hookPath + "/dead-letters?limit=3":                    2, // as well
	}
	for first, want := range pages {
		path, n := first, 0
		for path != "" {
			a := b.do(t, exchange{method: get, path: path})
			require.Equal(t, http.StatusOK, a.Code, a.text)
			var page struct {
				NextCursor string `json:"next_cursor"`
			}
			require.NoError(t, json.Unmarshal([]byte(a.text), &page))
			link := nextLink.FindStringSubmatch(a.Header().Get("Link"))
			require.Equal(t, page.NextCursor != "", link != nil)
			path = ""
			if link != nil {
				path = link[1]
				next, err := url.Parse(path)
				require.NoError(t, err)
				require.Equal(t, page.NextCursor, next.Query().Get("cursor"))
			}
			n++
		}
		require.Equal(t, want, n, first)
	}
	q := b.fake.filters[1]
	require.Equal(t, transfer.Settled, q.State)
	require.Equal(t, known, q.Before)
	require.Equal(t, 1, q.Limit)
	require.True(t, q.CreatedFrom.Equal(time.Date(2025, 12, 31, 22, 0, 0, 0, time.UTC)))
}

func TestFiltersReachTheDomain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.do(t, exchange{method: get, path: "/v1/transfers?account=" + cash.String() +
		"&client_reference=a%20b&created_to=2026-11-22T12:00:00Z"})
	require.Equal(t, http.StatusOK, a.Code, a.text)
	require.Equal(t, transfer.Filter{
		Account: cash, ClientReference: "a b", CreatedTo: noon, Limit: pageDefault,
	}, b.fake.filters[0])
}

var assetOf = regexp.MustCompile(`(?:src|href)="([^"]+)"`)

func TestTheContractAndItsPageAreServedFromThisProgramAlone(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]bundle{"public": setup(t), "admin": setupAdmin(t)} {
		text := b.do(t, exchange{method: get, path: "/openapi.yaml", key: "-"})
		require.Contains(t, text.text, "openapi: 3.0.3", name)
		asJSON := b.do(t, exchange{method: get, path: "/openapi.json", key: "-"})
		doc, err := openapi3.NewLoader().LoadFromData([]byte(asJSON.text))
		require.NoError(t, err)
		require.NoError(t, doc.Validate(t.Context()))
		require.Equal(t, b.spec.doc.Paths.Len(), doc.Paths.Len())

		page := b.do(t, exchange{method: get, path: "/docs/", key: "-"})
		require.Equal(t, http.StatusOK, page.Code)
		require.Contains(t, page.text, "/openapi.json")
		for _, asset := range assetOf.FindAllStringSubmatch(page.text, -1) {
			require.True(t, strings.HasPrefix(asset[1], "/docs/"), asset[1])
			file := b.do(t, exchange{method: get, path: asset[1], key: "-"})
			require.Equal(t, http.StatusOK, file.Code, asset[1])
		}
		bare := b.do(t, exchange{method: get, path: "/docs", key: "-"})
		require.Equal(t, "/docs/", bare.Header().Get("Location"))
	}
	root := setup(t).do(t, exchange{method: get, path: "/", key: "-"})
	require.Equal(t, "/docs/", root.Header().Get("Location"))
}

func TestReadinessNamesThePartThatIsNotReady(t *testing.T) {
	t.Parallel()
	fine := Check{"workers", func(context.Context) error { return nil }}
	broken := Check{"postgres", func(context.Context) error { return errors.New("connection refused") }}
	slow := Check{"risk_api", func(ctx context.Context) error {
		deadline, ok := ctx.Deadline()
		if !ok || time.Until(deadline) > checkMax {
			return errors.New("no deadline")
		}
		return fmt.Errorf("call: %w", context.DeadlineExceeded)
	}}
	ready := setupAdmin(t, func(c *Config) { c.Checks = []Check{fine} })
	a := ready.do(t, exchange{method: get, path: "/readyz", key: "-"})
	require.Equal(t, http.StatusOK, a.Code)
	require.JSONEq(t, `{"ready":true,"checks":[{"name":"workers","ok":true}]}`, a.text)

	not := setupAdmin(t, func(c *Config) { c.Checks = []Check{broken, fine, slow} })
	a = not.do(t, exchange{method: get, path: "/readyz", key: "-"})
	require.Equal(t, http.StatusServiceUnavailable, a.Code)
	require.JSONEq(t, `{"ready":false,"checks":[{"name":"postgres","ok":false,"error":"connection refused"},
		{"name":"workers","ok":true},{"name":"risk_api","ok":false,"error":"no answer within 1s"}]}`, a.text)
	require.Equal(t, http.StatusOK, not.do(t, exchange{method: get, path: "/livez", key: "-"}).Code)
}

func TestOperatorsDecideReviewsAsTheirRolesAllow(t *testing.T) {
	t.Parallel()
	b := setupAdmin(t)
	path := "/admin/v1/tenants/" + acme.String() + "/transfers/" + known.String() + "/review"
	decide := func(key, body string) exchange {
		return exchange{method: post, path: path, key: key, body: body}
	}
	const approve = `{"decision":"approve","reason":"called the customer"}`

	list := exchange{method: get, path: "/admin/v1/reviews", key: "viewer"}
	require.Contains(t, b.do(t, list).text, `"tenant_id":"`+acme.String())
	list.path += "?limit=0"
	b.requireProblem(t, list, problem.ValidationFailed)
	b.requireProblem(t, decide("acme", approve), problem.Unauthenticated)
	b.requireProblem(t, decide("viewer", approve), problem.Forbidden)

	const block = `{"decision":"block","reason":"fraud"}`
	for key, body := range map[string]string{"operator": approve, "approver": block} {
		e := decide(key, body)
		e.name = key
		require.Equal(t, http.StatusOK, b.do(t, e).Code)
		require.Equal(t, "true", b.do(t, e).Header().Get("Idempotent-Replayed"))
	}
	require.Len(t, b.fake.acted, 2)
	events := []transfer.Event{b.fake.acted[0].Event, b.fake.acted[1].Event}
	require.ElementsMatch(t, []transfer.Event{transfer.Approve, transfer.Block}, events)
	require.Equal(t, "operator:kim", b.fake.acted[0].Actor)
	require.Equal(t, acme, b.fake.acted[0].Key.TenantID)

	for body, pointer := range map[string]string{
		`{"decision":"settle","reason":"x"}`:                                        "/decision",
		`{"reason":"x"}`:                                                            "/decision",
		`{"decision":"approve"}`:                                                    "/reason",
		`{"decision":"approve","reason":" "}`:                                       "/reason",
		`{"decision":"approve","reason":""}`:                                        "/reason",
		`{"decision":"approve","reason":"a\nb"}`:                                    "/reason",
		`{"decision":"approve","reason":"` + strings.Repeat("a", 501) + `"}`:        "/reason",
		`{"decision":"approve","reason":"x","tenant_id":"` + globex.String() + `"}`: "/tenant_id",
	} {
		e := decide("operator", body)
		p := b.requireProblem(t, e, problem.ValidationFailed)
		require.Equal(t, pointer, p.Errors[0].Pointer)
		require.Error(t, b.spec.request(t, e.request()))
	}
	e := decide("operator", approve)
	for _, bad := range []string{"x", strings.Repeat("x", 36)} {
		e.path = strings.Replace(path, acme.String(), bad, 1)
		b.requireProblem(t, e, problem.NotFound)
	}
}

func TestAServerRefusesASlowBodyAndServesTheNextRequest(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) {
		clock := c.Now
		// Seen from the server, the body's time is nearly up when its reading begins.
		c.Now = func() time.Time { return clock().Add(50*time.Millisecond - bodyReadMax) }
	})
	addr := serve(t, b.handler)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	_, err = io.WriteString(conn, "POST /v1/transfers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer acme\r\n"+
		"Content-Type: application/json\r\nIdempotency-Key: one\r\nContent-Length: 1000\r\n\r\n{")
	require.NoError(t, err)
	answered, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Contains(t, string(answered), "408 Request Timeout")
	require.Contains(t, string(answered), `"code":"request_timeout"`)
	require.Contains(t, string(answered), "Connection: close")
	require.Empty(t, b.fake.created)

	response, err := http.Get("http://" + addr + "/livez") //nolint:forbidigo // the program's own server
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.NoError(t, response.Body.Close())
}

func TestTheBodysDeadlineDoesNotOutliveItsReading(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) {
		clock := c.Now
		c.Now = func() time.Time { return clock().Add(200*time.Millisecond - bodyReadMax) }
	})
	b.fake.block = make(chan struct{})
	addr := serve(t, b.handler)
	text := strings.NewReader(goodTransfer)
	r, err := http.NewRequestWithContext(t.Context(), post, "http://"+addr+"/v1/transfers", text)
	require.NoError(t, err)
	r.Header = creating(goodTransfer).request().Header
	timer := time.AfterFunc(400*time.Millisecond, func() { close(b.fake.block) })
	defer timer.Stop()
	response, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, response.StatusCode)
	require.NoError(t, response.Body.Close())
}

func serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := NewServer(handler, slog.New(slog.DiscardHandler))
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
	return listener.Addr().String()
}

func TestAServerHasATimeoutForEverythingAClientCanDrawOut(t *testing.T) {
	t.Parallel()
	s := NewServer(http.NotFoundHandler(), slog.Default())
	for _, d := range []time.Duration{s.ReadHeaderTimeout, s.ReadTimeout, s.WriteTimeout, s.IdleTimeout} {
		require.Positive(t, d)
	}
	require.Positive(t, s.MaxHeaderBytes)
}

// BenchmarkCreateTransfer is the whole HTTP layer of a POST: all steps, decoding, hashing, rendering
// and the log line, over a domain that costs next to nothing.
func BenchmarkCreateTransfer(b *testing.B) {
	handler := New(benchConfig())
	r := creating(goodTransfer).request()
	w := &discard{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		r.Body = io.NopCloser(strings.NewReader(goodTransfer))
		handler.ServeHTTP(w, r)
	}
	require.Equal(b, http.StatusAccepted, w.status)
}

// BenchmarkContractCheck is what kin-openapi would add to it.
func BenchmarkContractCheck(b *testing.B) {
	spec := publicContract()
	r := creating(goodTransfer).request()
	b.ReportAllocs()
	for b.Loop() {
		r.Body = io.NopCloser(strings.NewReader(goodTransfer))
		require.NoError(b, spec.request(b, r))
	}
}

type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

// quick is a domain that accepts everything at once.
type quick struct{ *fakeService }

func (quick) Create(_ context.Context, c transfer.Create) (idempotency.Response, error) {
	return c.Render([]transfer.Result{{Transfer: someTransfer(c.Items[0])}}), nil
}

func benchConfig() Config {
	cfg := config(newFake(), io.Discard, nil)
	cfg.Transfers, cfg.RatePerSecond = quick{newFake()}, 1_000_000_000
	return cfg
}
