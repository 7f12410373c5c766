package tracing_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"example.com/holdfast/internal/tracing"
)

// log is what a process says, from any goroutine.
type log struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.String()
}

func open(t *testing.T, l *log, environ ...string) (*tracing.Traces, error) {
	t.Helper()
	return tracing.Open(t.Context(), tracing.Process{
		Service: "holdfast-api", Version: "v1", Instance: "host-1",
		Log: slog.New(slog.NewTextHandler(l, nil)),
	}, environ)
}

// isOn says whether what a client has sampled is traced.
func isOn(ctx context.Context, traces *tracing.Traces) bool {
	_, span := tracing.Serve(traces.Into(ctx), "GET /", parentA)
	defer span.End(nil)
	return span.On()
}

func TestTheStandardVariablesSwitchTracesOnAndOff(t *testing.T) {
	t.Parallel()
	const at = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9"
	for _, c := range []struct {
		environ string
		on      bool
	}{
		{"", false},
		{"OTEL_SERVICE_NAME=x", false},
		{"OTEL_TRACES_SAMPLER=always_on", false},
		{at, true},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:9/t", true},
		{"OTEL_TRACES_EXPORTER=otlp", true},
		{at + " OTEL_TRACES_EXPORTER=none", false},
		{at + " OTEL_SDK_DISABLED=true", false},
		{at + " OTEL_SDK_DISABLED=false", true},
		{at + " OTEL_TRACES_SAMPLER=always_off", false},
		{at + " OTEL_TRACES_SAMPLER=parentbased_always_off", true},
		{at + " OTEL_TRACES_SAMPLER=parentbased_always_on", true},
		{at + " OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=0", false},
		{at + " OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=1", true},
		{at + " OTEL_TRACES_SAMPLER=parentbased_traceidratio OTEL_TRACES_SAMPLER_ARG=0", true},
	} {
		var l log
		traces, err := open(t, &l, strings.Fields(c.environ)...)
		require.NoError(t, err, c.environ)
		require.Equal(t, c.on, isOn(t.Context(), traces), c.environ)
		ended, cancel := context.WithCancel(t.Context())
		cancel() // nobody is there to send to
		require.NoError(t, traces.Start(ended))
		require.NoError(t, traces.Stop(ended))
	}
}

func TestAllMistakesAreNamedAtOnce(t *testing.T) {
	t.Parallel()
	var l log
	_, err := open(t, &l, "OTEL_TRACES_EXPORTER=zipkin", "OTEL_EXPORTER_OTLP_ENDPOINT=collector:4317",
		"OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_TRACES_SAMPLER=often")
	for _, text := range []string{
		`OTEL_TRACES_EXPORTER: "zipkin"`, "OTEL_EXPORTER_OTLP_ENDPOINT is not an http(s) URL",
		`OTEL_EXPORTER_OTLP_PROTOCOL: "grpc"`, `OTEL_TRACES_SAMPLER: "often"`,
	} {
		require.ErrorContains(t, err, text)
	}
	for _, share := range []string{"-0.1", "1.1", "much", "NaN"} {
		_, err = open(t, &l, "OTEL_TRACES_EXPORTER=otlp", "OTEL_TRACES_SAMPLER_ARG="+share)
		require.ErrorContains(t, err, "OTEL_TRACES_SAMPLER_ARG", share)
	}
	_, err = open(t, &l, "OTEL_TRACES_EXPORTER=none", "OTEL_TRACES_SAMPLER=often")
	require.NoError(t, err, "what is off may be wrong")
}

// received is a collector that keeps what it is sent.
type received struct {
	mu       sync.Mutex
	requests []*collector.ExportTraceServiceRequest
	paths    []string
}

func (r *received) ServeHTTP(_ http.ResponseWriter, request *http.Request) {
	body := io.Reader(request.Body)
	if request.Header.Get("Content-Encoding") == "gzip" {
		body, _ = gzip.NewReader(body)
	}
	text, _ := io.ReadAll(body)
	var m collector.ExportTraceServiceRequest
	_ = proto.Unmarshal(text, &m)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests, r.paths = append(r.requests, &m), append(r.paths, request.URL.Path)
}

func TestAProcessThatEndsSendsItsLastSpans(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ variable, path, name, want string }{
		{"OTEL_EXPORTER_OTLP_ENDPOINT=%s/base", "/base/v1/traces", "", "holdfast-api"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=%s/own", "/own", "OTEL_SERVICE_NAME=shop", "shop"},
	} {
		var r received
		server := httptest.NewServer(&r)
		t.Cleanup(server.Close)
		var l log
		traces, err := open(t, &l, strings.Replace(c.variable, "%s", server.URL, 1), c.name)
		require.NoError(t, err)
		require.True(t, isOn(t.Context(), traces))
		require.NoError(t, traces.Stop(t.Context()))
		require.Equal(t, []string{c.path}, r.paths)
		sent := r.requests[0].GetResourceSpans()[0]
		about := map[string]string{}
		for _, a := range sent.GetResource().GetAttributes() {
			about[a.GetKey()] = a.GetValue().GetStringValue()
		}
		require.Equal(t, c.want, about["service.name"])
		require.Equal(t, "v1", about["service.version"])
		require.Equal(t, "host-1", about["service.instance.id"])
		require.Equal(t, "GET /", sent.GetScopeSpans()[0].GetSpans()[0].GetName())
		require.Empty(t, l.String())
	}
}

// A collector that refuses is told of once, however much is lost.
func TestALossIsToldOnce(t *testing.T) {
	t.Parallel()
	var refusals atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refusals.Add(1)
		w.WriteHeader(http.StatusBadRequest) // which is not worth a repeat
	}))
	t.Cleanup(server.Close)
	var l log
	traces, err := open(t, &l, "OTEL_EXPORTER_OTLP_ENDPOINT="+server.URL)
	require.NoError(t, err)
	for range 1_500 { // two exports of 512, and the rest at the end
		require.True(t, isOn(t.Context(), traces))
	}
	require.NoError(t, traces.Stop(t.Context()))
	require.Greater(t, refusals.Load(), int64(1))
	require.Equal(t, 1, strings.Count(l.String(), "spans not sent"), l.String())
}
