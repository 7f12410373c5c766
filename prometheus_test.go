package holdfast_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/telemetry"
)

// What an expression names: metrics, the labels that it selects by with what they have to be, and the labels
// that it groups by.
var (
	metricName = regexp.MustCompile(`\bholdfast[_:][a-zA-Z0-9_:]+`)
	selector   = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}`)
	matcher    = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	grouping   = regexp.MustCompile(`\b(?:by|on|without)\s*\(([^)]*)\)`)
	inAPage    = regexp.MustCompile("`(holdfast_[a-z_]+)")
)

// known are the declared metrics by the names under which they are asked for.
func known(t *testing.T) map[string]telemetry.Metric {
	t.Helper()
	all := map[string]telemetry.Metric{}
	for _, m := range telemetry.New().Catalogue() {
		all[m.Name] = m
		if m.Type == telemetry.Histogram {
			buckets := m
			buckets.Labels = append(slices.Clone(m.Labels), telemetry.Label{Name: "le"})
			all[m.Name+"_bucket"], all[m.Name+"_sum"], all[m.Name+"_count"] = buckets, m, m
		}
	}
	return all
}

// recorded are the labels of recorded series.
func recorded(t *testing.T) map[string]telemetry.Metric {
	t.Helper()
	all := map[string]telemetry.Metric{}
	for _, r := range rulesOf(t) {
		m := telemetry.Metric{Name: r.Record}
		for _, g := range grouping.FindAllStringSubmatch(r.Expr, -1) {
			m.Labels = append(m.Labels, telemetry.Label{Name: strings.TrimSpace(g[1])})
		}
		all[r.Record] = m
	}
	return all
}

// fault says what is wrong with an expression, or nothing.
func fault(expr string, metrics map[string]telemetry.Metric) string {
	var labels []string
	names := metricName.FindAllString(expr, -1)
	for _, name := range names {
		m, ok := metrics[name]
		if !ok {
			return "there is no metric " + name
		}
		for _, l := range m.Labels {
			labels = append(labels, l.Name)
		}
	}
	for _, s := range selector.FindAllStringSubmatch(expr, -1) {
		if s[1] == "up" {
			continue
		}
		for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
			if wrong := unmatched(metrics[s[1]], m[1], m[2], m[3]); wrong != "" {
				return wrong
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(g[1], ",") {
			if label = strings.TrimSpace(label); !slices.Contains(append(labels, "instance", "job"), label) {
				return fmt.Sprintf("no metric of %v has the label %s", names, label)
			}
		}
	}
	return ""
}

// unmatched says why a matcher finds nothing ever, or nothing if it can.
func unmatched(m telemetry.Metric, label, operator, value string) string {
	at := slices.IndexFunc(m.Labels, func(l telemetry.Label) bool { return l.Name == label })
	if at < 0 {
		return fmt.Sprintf("%s has no label %s", m.Name, label)
	}
	values := m.Labels[at].Values
	if values == nil {
		return ""
	}
	for one := range strings.SplitSeq(value, "|") {
		if strings.HasSuffix(operator, "~") && strings.ContainsAny(one, ".*[(") {
			continue
		}
		if !slices.Contains(values, one) {
			return fmt.Sprintf("%s of %s is never %s", label, m.Name, one)
		}
	}
	return ""
}

func TestExpressionsNameMetricsLabelsAndValuesThatExist(t *testing.T) {
	t.Parallel()
	metrics := known(t)
	maps.Copy(metrics, recorded(t))
	for where, expr := range expressionsOf(t) {
		require.Empty(t, fault(expr, metrics), where)
	}
	for _, c := range []struct{ expr, fault string }{
		{"max(holdfast_outbox_age_second)", "there is no metric holdfast_outbox_age_second"},
		{"holdfast:promises_bad:ratio2m", "there is no metric holdfast:promises_bad:ratio2m"},
		{`holdfast_outbox_age_seconds{lane="1"}`, "holdfast_outbox_age_seconds has no label lane"},
		{`holdfast_promise_overdue{kind="refund"}`, "kind of holdfast_promise_overdue is never refund"},
		{
			"sum by (kind, lane) (holdfast_promise_overdue)",
			"no metric of [holdfast_promise_overdue] has the label lane",
		},
		{
			`holdfast_requests_shed_total{reason=~"admission|full"}`,
			"reason of holdfast_requests_shed_total is never full",
		},
	} {
		require.Equal(t, c.fault, fault(c.expr, metrics))
	}
}

func TestPagesNameMetricsAndRoutesThatExist(t *testing.T) {
	t.Parallel()
	metrics := known(t)
	contract := read(t, "api/admin.yaml") + read(t, "api/openapi.yaml")
	settings := read(t, "internal/config/config.go")
	route := regexp.MustCompile(`/admin/v1/[a-z{}_/-]+`)
	setting := regexp.MustCompile(`HOLDFAST_[A-Z_]+`)
	pages, err := filepath.Glob("docs/runbooks/*.md")
	require.NoError(t, err)
	for _, page := range append(pages, "docs/slo.md") {
		text := strings.Join(strings.Fields(read(t, page)), " ")
		for _, m := range inAPage.FindAllStringSubmatch(text, -1) {
			require.Contains(t, metrics, m[1], page)
		}
		for _, path := range route.FindAllString(text, -1) {
			require.Contains(t, contract, "\n  "+path+":\n", page)
		}
		for _, name := range setting.FindAllString(text, -1) {
			require.Contains(t, settings, `"`+name+`"`, page)
		}
	}
}

// TestARealPrometheusEvaluatesEveryExpression lets one scrape this program's metrics, load the rules, and
// answer what the dashboards ask.
func TestARealPrometheusEvaluatesEveryExpression(t *testing.T) {
	t.Parallel()
	binary, err := exec.LookPath("prometheus")
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("no prometheus in PATH; make check-rules says how to get it")
	}
	require.NoError(t, err)
	scraped := httptest.NewServer(promhttp.HandlerFor(telemetry.New().Registry(), promhttp.HandlerOpts{}))
	t.Cleanup(scraped.Close)
	server := prometheusOn(t, binary, strings.TrimPrefix(scraped.URL, "http://"))
	require.Eventually(t, func() bool {
		return strings.Contains(server.ask(t, "query", "query", "up == 1"), `"holdfast-api"`)
	}, 30*time.Second, 50*time.Millisecond, "it scrapes")
	for where, expr := range expressionsOf(t) {
		require.Contains(t, server.ask(t, "query", "query", expr), `"status":"success"`, where)
	}
	require.Eventually(t, func() bool {
		rules := server.ask(t, "rules")
		require.NotContains(t, rules, `"health":"err"`)
		return !strings.Contains(rules, `"health":"unknown"`)
	}, 30*time.Second, 50*time.Millisecond, "every rule is evaluated")
	require.Contains(t, server.ask(t, "query", "query", "max(holdfast_build_info) or vector(0)"), "success")
	require.NotContains(t, server.ask(t, "query", "query", "no_function(1)"), `"status":"success"`)
}

// promServer is a Prometheus of a test.
type promServer struct{ url string }

// prometheusOn runs one with the rules of this repository, in a folder of its own, that scrapes a target.
func prometheusOn(t *testing.T, binary, target string) promServer {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, rulesAlone{os.DirFS(rulesDir)}))
	settings := strings.NewReplacer("127.0.0.1:8081", target, "_interval: 5s", "_interval: 200ms").
		Replace(read(t, rulesDir+"/prometheus.yaml"))
	for _, file := range []string{"recording", "objectives"} { // the groups have intervals of their own
		path := filepath.Join(dir, file+".rules.yaml")
		text := regexp.MustCompile(`(?m)^ +interval: .*$`).ReplaceAllString(read(t, path), "")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	config := filepath.Join(dir, "prometheus.yaml")
	require.NoError(t, os.WriteFile(config, []byte(settings), 0o600))
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := socket.Addr().String()
	require.NoError(t, socket.Close())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	command := exec.CommandContext(ctx, binary, "--config.file="+config, "--storage.tsdb.path="+dir+"/data",
		"--web.listen-address="+address, "--log.level=error")
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.Stderr = os.Stderr
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		cancel()
		_ = command.Wait() // it ends by the signal
	})
	return promServer{"http://" + address}
}

// rulesAlone hides what is no file of rules.
type rulesAlone struct{ fs.FS }

// ReadDir lists the files of rules.
func (f rulesAlone) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(f.FS, name)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return !strings.HasSuffix(e.Name(), ".rules.yaml")
	}), err
}

// ask asks the API, and returns "" while nobody listens.
func (s promServer) ask(t *testing.T, what string, args ...string) string {
	t.Helper()
	values := url.Values{}
	for i := 0; i < len(args); i += 2 {
		values.Set(args[i], args[i+1])
	}
	address := s.url + "/api/v1/" + what + "?" + values.Encode()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	require.NoError(t, err)
	reply, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return ""
	}
	defer func() { _ = reply.Body.Close() }()
	var body json.RawMessage
	if json.NewDecoder(reply.Body).Decode(&body) != nil {
		return ""
	}
	return string(body)
}
