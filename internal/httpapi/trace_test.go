package httpapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tracing"
)

const (
	clientTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	clientParent = "00-" + clientTrace + "-00f067aa0ba902b7-01"
)

// watched is a bundle whose spans are seen, and a request that its client has sampled.
func watched(t *testing.T, b bundle, e exchange) (answer, tracetest.SpanStubs) {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter),
		sdk.WithSampler(sdk.ParentBased(sdk.NeverSample())))
	within := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.handler.ServeHTTP(w, r.WithContext(tracing.With(r.Context(), provider)))
	})
	if e.header == nil {
		e.header = http.Header{"Traceparent": {clientParent}}
	}
	w, r := httptest.NewRecorder(), e.request()
	within.ServeHTTP(w, r)
	b.spec.response(t, r, w.Code, w.Header(), w.Body.Bytes())
	return answer{w, w.Body.String()}, exporter.GetSpans()
}

func said(span tracetest.SpanStub) map[string]string {
	all := map[string]string{}
	for _, a := range span.Attributes {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}

// lineOf is the log line of a request.
func (b bundle) lineOf(t *testing.T) map[string]any {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(b.log.String()), "\n")
	var line map[string]any
	require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &line))
	return line
}

func TestARequestIsASpanOfItsRoute(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := "/v1/transfers/" + known.String()
	a, spans := watched(t, b, exchange{method: get, path: path})
	require.Equal(t, http.StatusOK, a.Code, a.text)
	require.Len(t, spans, 1)
	require.Equal(t, "GET /v1/transfers/{id}", spans[0].Name, "identifiers are no names")
	require.Equal(t, tracing.Server, spans[0].SpanKind)
	require.Equal(t, "00f067aa0ba902b7", spans[0].Parent.SpanID().String())
	require.Equal(t, codes.Unset, spans[0].Status.Code)
	line := b.lineOf(t)
	require.Equal(t, map[string]string{
		"http.request.method": "GET", "http.route": "/v1/transfers/{id}", "url.path": path,
		"http.response.status_code": "200", "holdfast.tenant_id": acme.String(),
		"holdfast.request_id": a.Header().Get("X-Request-Id"), "holdfast.key_id": line["key_id"].(string),
	}, said(spans[0]))
	require.Equal(t, clientTrace, line["trace_id"])
}

func TestAProblemNamesTheTraceOfItsRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	missing := exchange{method: get, path: "/v1/transfers/" + absent.String()}
	a, spans := watched(t, b, missing)
	require.Equal(t, clientTrace, a.problem(t).TraceID)
	require.Equal(t, "not_found", said(spans[0])["holdfast.problem"])
	require.Equal(t, codes.Unset, spans[0].Status.Code, "a refusal is no failure of ours")

	missing.header = http.Header{"Traceparent": {strings.TrimSuffix(clientParent, "1") + "0"}}
	a, spans = watched(t, b, missing)
	require.NotContains(t, a.text, "trace_id")
	require.NotContains(t, b.lineOf(t), "trace_id")
	require.Empty(t, spans)
	require.NotContains(t, b.do(t, exchange{method: get, path: missing.path}).text, "trace_id")
}

// A stored refusal is told again as it was.
func TestAReplayNamesTheTraceThatWasFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fake.refuse = problem.New(problem.InsufficientFunds, "too little")
	create := exchange{method: post, path: "/v1/transfers", body: goodTransfer, name: "one"}
	first, _ := watched(t, b, create)
	require.Equal(t, clientTrace, first.problem(t).TraceID)
	create.header = http.Header{"Traceparent": {strings.Replace(clientParent, "4bf", "5bf", 1)}}
	again, spans := watched(t, b, create)
	require.Equal(t, first.text, again.text)
	require.NotEqual(t, clientTrace, spans[0].SpanContext.TraceID().String(), "it has one of its own")
}

func TestAFailureOfOursFailsItsSpan(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fake.panic = "it broke"
	a, spans := watched(t, b, exchange{method: get, path: "/v1/transfers/" + known.String()})
	require.Equal(t, http.StatusInternalServerError, a.Code)
	require.Equal(t, clientTrace, a.problem(t).TraceID)
	require.Len(t, spans, 1, "a request that panicked has ended too")
	require.Equal(t, codes.Error, spans[0].Status.Code)
	require.Equal(t, "500", said(spans[0])["http.response.status_code"])
}

func TestWhatMachinesAskAllDayIsNotTraced(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/livez", "/problems", "/v1/event-types", "/nowhere"} {
		_, spans := watched(t, setup(t), exchange{method: get, path: path})
		require.Empty(t, spans, path)
	}
	_, spans := watched(t, setup(t), exchange{
		method: post, path: "/v1/callbacks/payout-rail", body: "{}",
	})
	require.Len(t, spans, 1, "a callback goes on with the trace of the call that it is about")
}
