package app_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"golang.org/x/sync/errgroup"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/config"
	"example.com/holdfast/internal/tracing"
)

// The traceparent of a client that has sampled its request.
const (
	clientTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	clientSpan   = "00f067aa0ba902b7"
	clientParent = "00-" + clientTrace + "-" + clientSpan + "-01"
)

// traced is an API and a worker whose spans a test sees, with what they send.
type traced struct {
	halves
	*spans

	dependency, hook *listener
}

// spans are those that have ended.
type spans struct{ exporter *tracetest.InMemoryExporter }

// listener remembers the traceparents of requests, and what came with them.
type listener struct {
	mu       sync.Mutex
	requests []heard
	// answer, if any, answers in place of the server, and says that it has.
	answer func(http.ResponseWriter, *http.Request) bool
}

type heard struct{ path, traceparent, body string }

func (l *listener) hear(r *http.Request, body string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = append(l.requests, heard{r.URL.Path, r.Header.Get("Traceparent"), body})
}

func (l *listener) heard() []heard {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.requests)
}

// serve answers what is not proxied with nothing.
func (l *listener) serve(t *testing.T, next http.Handler) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if next == nil {
			body, _ := io.ReadAll(r.Body)
			l.hear(r, string(body))
			return
		}
		l.hear(r, "")
		if l.answer == nil || !l.answer(w, r) {
			next.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// startTraced starts both halves; without a sampler tracing is off.
func startTraced(
	t *testing.T, sampler sdk.Sampler, answer func(http.ResponseWriter, *http.Request) bool,
) traced {
	t.Helper()
	s := traced{spans: &spans{tracetest.NewInMemoryExporter()}, dependency: &listener{answer: answer}}
	s.hook = &listener{}
	s.halves = newHalves(t, func(cfg *config.Config) {
		simulated, err := url.Parse(cfg.Risk.URL)
		require.NoError(t, err)
		cfg.Risk.URL = s.dependency.serve(t, httputil.NewSingleHostReverseProxy(simulated))
		cfg.Notify.URL = cfg.Risk.URL
		cfg.WebhookKey = base64.StdEncoding.EncodeToString(make([]byte, 32))
		cfg.WebhookDevelopment = true
	})
	ctx := t.Context()
	if sampler != nil {
		provider := sdk.NewTracerProvider(sdk.WithSyncer(s.exporter), sdk.WithSampler(sampler))
		ctx = tracing.With(ctx, provider)
	}
	worker := s.worker(t)
	for _, service := range []app.Service{worker, s.api} {
		require.NoError(t, service.Start(ctx))
		t.Cleanup(func() { require.NoError(t, service.Stop(context.WithoutCancel(ctx))) })
	}
	hook := s.hook.serve(t, nil)
	status, text := s.call(t, http.MethodPost, "/v1/webhook-endpoints", fmt.Sprintf(`{"url":%q}`, hook),
		"Idempotency-Key", "hook", "Traceparent", "00-"+strings.Repeat("9", 32)+"-00f067aa0ba902b7-00")
	require.Equal(t, http.StatusCreated, status, text)
	return s
}

// pay makes a transfer and waits until all of its messages have arrived.
func (s traced) pay(t *testing.T, header ...string) {
	t.Helper()
	body := fmt.Sprintf(`{"from_account":%q,"to_account":%q,"amount":{"value":1,"currency":"EUR"}}`,
		s.demo.Accounts[0], s.demo.Accounts[1])
	status, text := s.call(t, http.MethodPost, "/v1/transfers", body,
		append([]string{"Idempotency-Key", "one"}, header...)...)
	require.Equal(t, http.StatusAccepted, status, text)
	eventually(t, "all is told", func() bool {
		return len(s.hook.heard()) == 3 &&
			s.count(t, `SELECT count(*) FROM transfers WHERE notification = 'sent'`) == 1
	})
}

// of are the spans of a name, in the order of their ends.
func (s *spans) of(name string) tracetest.SpanStubs {
	return slices.DeleteFunc(s.exporter.GetSpans(), func(span tracetest.SpanStub) bool {
		return span.Name != name
	})
}

// the waits for the one span of a name.
func (s *spans) the(t *testing.T, name string) tracetest.SpanStub {
	t.Helper()
	eventually(t, name+" has ended", func() bool { return len(s.of(name)) > 0 })
	require.Len(t, s.of(name), 1, name)
	return s.of(name)[0]
}

func parentOf(span tracetest.SpanStub) string { return span.Parent.SpanID().String() }

func idOf(span tracetest.SpanStub) string { return span.SpanContext.SpanID().String() }

// asParent is the traceparent that names a span.
func asParent(span tracetest.SpanStub) string {
	c := span.SpanContext
	return fmt.Sprintf("00-%s-%s-%s", c.TraceID(), c.SpanID(), c.TraceFlags())
}

func linksOf(span tracetest.SpanStub) []string {
	var ids []string
	for _, link := range span.Links {
		ids = append(ids, link.SpanContext.SpanID().String())
	}
	return ids
}

func attributeOf(span tracetest.SpanStub, key string) string {
	for _, a := range span.Attributes {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return ""
}

// following is a span that goes on with another one.
func (s *spans) following(t *testing.T, name string, parent tracetest.SpanStub) tracetest.SpanStub {
	t.Helper()
	span := s.the(t, name)
	require.Equal(t, idOf(parent), parentOf(span), "%s follows %s", name, parent.Name)
	return span
}

func TestOneTraceGoesFromTheRequestToItsMessages(t *testing.T) {
	t.Parallel()
	s := startTraced(t, sdk.ParentBased(sdk.NeverSample()), nil)
	s.pay(t, "Traceparent", clientParent)

	request := s.the(t, "POST /v1/transfers")
	require.Equal(t, clientSpan, parentOf(request))
	require.Equal(t, "/v1/transfers", attributeOf(request, "http.route"))
	require.Equal(t, "202", attributeOf(request, "http.response.status_code"))
	require.NotEmpty(t, attributeOf(request, "holdfast.request_id"))

	// The request waits for the batch, and each of the two names the other.
	wait := s.following(t, "wait for accept", request)
	batch := s.following(t, "commit accept", wait)
	require.Equal(t, []string{idOf(wait)}, linksOf(batch))
	require.Equal(t, []string{idOf(batch)}, linksOf(wait))
	s.following(t, "accept transfers", batch)

	job := s.following(t, "job transfer_screen", request)
	require.Equal(t, []string{idOf(request)}, linksOf(job))
	screen := s.following(t, "transfer_screen", job)
	call := s.following(t, "risk_api screen", screen)
	s.following(t, "move transfers", s.following(t, "commit move", s.following(t, "wait for move", screen)))

	tell := s.following(t, "transfer_notify", s.following(t, "job transfer_notify", screen))
	told := s.following(t, "notification_api send", tell)
	s.following(t, "note steps", s.following(t, "commit note", s.following(t, "wait for note", tell)))
	calls := s.dependency.heard()
	require.Len(t, calls, 2)
	require.Equal(t, []string{asParent(call), asParent(told)},
		[]string{calls[0].traceparent, calls[1].traceparent}, "dependencies are told who calls")

	s.requireMessages(t, request, screen)
	for _, span := range s.exporter.GetSpans() {
		require.Equal(t, clientTrace, span.SpanContext.TraceID().String(), span.Name)
	}
}

// requireMessages shows that the first message tells of what accepted did, the others of what settled did.
func (s traced) requireMessages(t *testing.T, accepted, settled tracetest.SpanStub) {
	t.Helper()
	eventually(t, "attempts have ended", func() bool { return len(s.of("deliver webhook")) == 3 })
	byCall := map[string]tracetest.SpanStub{}
	for _, call := range s.of("webhook deliver") {
		byCall[asParent(call)] = call
	}
	for _, message := range s.hook.heard() {
		var m struct {
			Type  string `json:"type"`
			Trace string `json:"traceparent"`
		}
		require.NoError(t, json.Unmarshal([]byte(message.body), &m))
		teller := settled
		if m.Type == "transfer.accepted" {
			teller = accepted
		}
		require.Equal(t, asParent(teller), m.Trace, "a message names who did what it tells")
		call, ok := byCall[message.traceparent]
		require.True(t, ok, "a request names the attempt that it is")
		attempt := s.of("deliver webhook")[slices.IndexFunc(s.of("deliver webhook"),
			func(span tracetest.SpanStub) bool { return idOf(span) == parentOf(call) })]
		require.Equal(t, idOf(teller), parentOf(attempt))
		require.Equal(t, m.Type, attributeOf(attempt, "holdfast.event_type"))
	}
}

func TestWhatIsNotTracedLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, sampler := range map[string]sdk.Sampler{
		"off": nil, "sampled by nobody": sdk.ParentBased(sdk.NeverSample()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startTraced(t, sampler, nil)
			header := []string{"Traceparent", clientParent}
			if sampler != nil {
				header[1] = strings.TrimSuffix(clientParent, "01") + "00"
			}
			s.pay(t, header...)
			for _, request := range append(s.dependency.heard(), s.hook.heard()...) {
				require.Empty(t, request.traceparent)
				require.NotContains(t, request.body, "traceparent")
			}
			require.Empty(t, s.exporter.GetSpans())
			require.Zero(t, s.count(t, `SELECT count(*) FROM river_job WHERE metadata <> '{}'`))
			require.Zero(t, s.count(t, `SELECT count(*) FROM events WHERE trace IS NOT NULL`))
		})
	}
}

func TestTheTriesOfAStepStandSideBySide(t *testing.T) {
	t.Parallel()
	var tried atomic.Bool
	failOnce := func(w http.ResponseWriter, _ *http.Request) bool {
		if tried.Swap(true) {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	s := startTraced(t, sdk.ParentBased(sdk.NeverSample()), failOnce)
	s.pay(t, "Traceparent", clientParent)
	request := s.the(t, "POST /v1/transfers")
	eventually(t, "both have ended", func() bool { return len(s.of("job transfer_screen")) == 2 })
	for _, job := range s.of("job transfer_screen") {
		require.Equal(t, idOf(request), parentOf(job), "a retry keeps the trace, and its place in it")
	}
	calls := s.of("risk_api screen")
	require.Len(t, calls, 2)
	require.Equal(t, "status_5xx", attributeOf(calls[0], "holdfast.kind"))
	require.Equal(t, codes.Error, calls[0].Status.Code)
	require.Equal(t, codes.Unset, calls[1].Status.Code)
}

// Neighbours share batches and jobs, and their traces stay apart.
func TestNeighboursKeepTheirTracesApart(t *testing.T) {
	t.Parallel()
	s := startTraced(t, sdk.ParentBased(sdk.NeverSample()), nil)
	const neighbours = 12
	body := fmt.Sprintf(`{"from_account":%q,"to_account":%q,"amount":{"value":1,"currency":"EUR"}}`,
		s.demo.Accounts[0], s.demo.Accounts[1])
	requests := make([]*http.Request, neighbours)
	for i := range requests { // every second one is sampled
		requests[i] = s.request(t, http.MethodPost, "/v1/transfers", body,
			"Idempotency-Key", strconv.Itoa(i),
			"Traceparent", fmt.Sprintf("00-%032x-%s-%02x", i+1, clientSpan, i%2))
	}
	var group errgroup.Group
	for _, r := range requests {
		group.Go(func() error {
			reply, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				return err
			}
			return reply.Body.Close()
		})
	}
	require.NoError(t, group.Wait())
	eventually(t, "all are told", func() bool {
		return s.count(t, `SELECT count(*) FROM transfers WHERE notification = 'sent'`) == neighbours &&
			len(s.of("transfer_notify")) == neighbours/2
	})
	var want []string
	for i := 1; i < neighbours; i += 2 {
		want = append(want, fmt.Sprintf("%032x", i+1))
	}
	for _, name := range []string{
		"POST /v1/transfers", "wait for accept", "transfer_screen", "risk_api screen", "wait for move",
		"transfer_notify", "notification_api send",
	} {
		var traces []string
		for _, span := range s.of(name) {
			traces = append(traces, span.SpanContext.TraceID().String())
		}
		slices.Sort(traces)
		require.Equal(t, want, traces, "%s: one for each that is sampled, in its own trace", name)
	}
	require.Equal(t, 2*neighbours/2+neighbours/2,
		s.count(t, `SELECT count(*) FROM events WHERE trace IS NOT NULL`), "three events of every second one")
}

func TestOfTheManyRowsOfAJobAFewAreTraced(t *testing.T) {
	t.Parallel()
	s := startTraced(t, sdk.ParentBased(sdk.NeverSample()), nil)
	item := fmt.Sprintf(`{"from_account":%q,"to_account":%q,"amount":{"value":1,"currency":"EUR"}}`,
		s.demo.Accounts[0], s.demo.Accounts[1])
	const items = 20
	body := `{"transfers":[` + strings.Repeat(item+",", items-1) + item + `]}`
	status, text := s.call(t, http.MethodPost, "/v1/transfers/bulk", body, "Idempotency-Key", "many",
		"Traceparent", clientParent)
	require.Equal(t, http.StatusOK, status, text)
	eventually(t, "all are told", func() bool {
		return s.count(t, `SELECT count(*) FROM transfers WHERE notification = 'sent'`) == items
	})
	eventually(t, "the traced have ended", func() bool { return len(s.of("transfer_notify")) == 8 })
	require.Len(t, s.of("transfer_screen"), 8)
	require.Len(t, s.of("risk_api screen"), 8)
	require.Equal(t, items+2*8, s.count(t, `SELECT count(*) FROM events WHERE trace IS NOT NULL`),
		"a request traces all that it does itself")
}

func TestAnOrderAndWhatPaysItAreOneTrace(t *testing.T) {
	t.Parallel()
	s := startTraced(t, sdk.ParentBased(sdk.NeverSample()), nil)
	body := fmt.Sprintf(`{"customer_account":%q,"merchant_account":%q,"location":%q,`+
		`"lines":[{"sku":%q,"quantity":2}]}`,
		s.demo.Accounts[0], s.demo.Accounts[1], s.demo.Location, s.demo.SKUs[0])
	status, text := s.call(t, http.MethodPost, "/v1/orders", body, "Idempotency-Key", "one",
		"Traceparent", clientParent)
	require.Equal(t, http.StatusAccepted, status, text)
	eventually(t, "it is confirmed", func() bool {
		return s.count(t, `SELECT count(*) FROM orders WHERE state = 'confirmed'`) == 1
	})
	request := s.the(t, "POST /v1/orders")
	reserve := s.following(t, "order_reserve", s.following(t, "job order_reserve", request))
	pay := s.following(t, "order_pay", s.following(t, "job order_pay", reserve))
	screen := s.following(t, "transfer_screen", s.following(t, "job transfer_screen", pay))
	heard := s.following(t, "order_payment", s.following(t, "job order_payment", screen))
	require.Equal(t, clientTrace, heard.SpanContext.TraceID().String())
	require.Zero(t, s.count(t, `SELECT count(*) FROM events WHERE trace NOT LIKE '00-`+clientTrace+`-%'`))
	require.Zero(t, s.count(t, `SELECT count(*) FROM events WHERE trace IS NULL`))
}

func TestARefusalNamesItsTrace(t *testing.T) {
	t.Parallel()
	s := startTraced(t, sdk.ParentBased(sdk.NeverSample()), nil)
	for traceparent, want := range map[string]string{
		clientParent: clientTrace, strings.TrimSuffix(clientParent, "1") + "0": "",
	} {
		status, text := s.call(t, http.MethodGet, "/v1/transfers/none", "", "Traceparent", traceparent)
		require.Equal(t, http.StatusNotFound, status)
		var p struct {
			Trace string `json:"trace_id"`
		}
		require.NoError(t, json.Unmarshal([]byte(text), &p))
		require.Equal(t, want, p.Trace)
	}
	require.Equal(t, "not_found", attributeOf(s.the(t, "GET /v1/transfers/{id}"), "holdfast.problem"))
}

// A process that ends sends its last spans, and one whose collector hangs ends all the same.
func TestACollectorThatHangsKeepsNobody(t *testing.T) {
	t.Parallel()
	hanging := make(chan struct{})
	asked := make(chan struct{}, 100)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-hanging:
		case <-r.Context().Done():
		}
	}))
	defer collector.Close()
	defer close(hanging)
	h := newHalves(t, func(*config.Config) {})
	traces, err := h.env(t).OpenTraces(t.Context(), "holdfast-api", []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "OTEL_TRACES_SAMPLER=always_on",
	})
	require.NoError(t, err)
	require.NoError(t, h.api.Start(traces.Into(t.Context())))
	h.transfer(t, "one")
	require.NoError(t, h.api.Stop(t.Context()))
	began := time.Now()
	require.NoError(t, traces.Stop(t.Context()))
	require.Less(t, time.Since(began), 8*time.Second)
	require.NotEmpty(t, asked, "the last spans were tried")
}
