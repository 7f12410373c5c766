package drill

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// captureEvery is how often metrics are captured, as Prometheus would scrape them.
	captureEvery = 5 * time.Second
	// promtoolMax bounds one run of promtool.
	promtoolMax = 30 * time.Second
	// rulesFolder has the rules, seen from the root of the repository.
	rulesFolder = "deploy/prometheus"
)

// capture is what the metrics of some processes were, look by look.
type capture struct {
	mu sync.Mutex
	// series are the values of each series, by its name and labels; NaN-free, with gaps as empty texts.
	series map[string][]string
	looks  int
	at     []time.Time
	cancel context.CancelFunc
	group  sync.WaitGroup
}

// captures looks at the metrics of the api and the workers again and again.
func (s *stage) captures(ctx context.Context) *capture {
	c := &capture{series: map[string][]string{}}
	if s.err != nil {
		return c
	}
	type target struct{ job, addr string }
	targets := []target{{"holdfast-api", s.api.ready.Admin}}
	for _, w := range s.workers {
		targets = append(targets, target{"holdfast-worker", w.ready.Admin})
	}
	ctx, c.cancel = context.WithCancel(ctx)
	client := newHTTPClient()
	c.group.Go(func() {
		tick := time.NewTicker(captureEvery)
		defer tick.Stop()
		for {
			c.begin(s.run.o.Now())
			for _, t := range targets {
				text, err := fetchMetrics(ctx, client, t.addr)
				if err != nil {
					continue // a gap, as for Prometheus
				}
				c.note(text, fmt.Sprintf("instance=%q,job=%q", t.addr, t.job))
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return c
}

// begin begins a look.
func (c *capture) begin(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looks++
	c.at = append(c.at, at)
}

// note adds the samples of one process to the look. target are labels that tell it from others.
func (c *capture) note(text []byte, target string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		end := strings.LastIndexByte(lines.Text(), ' ')
		if end < 0 || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		series, value := withLabels(lines.Text()[:end], target), lines.Text()[end+1:]
		values := c.series[series]
		for len(values) < c.looks-1 {
			values = append(values, "_")
		}
		c.series[series] = append(values, value)
	}
}

// withLabels adds labels to a series.
func withLabels(series, labels string) string {
	if name, rest, has := strings.Cut(series, "{"); has {
		return name + "{" + labels + "," + rest
	}
	return series + "{" + labels + "}"
}

// end stops to look.
func (s *stage) endCapture(c *capture) {
	if c.cancel != nil {
		c.cancel()
		c.group.Wait()
	}
}

// sum adds up the last values that series with a name and labels had until a time. A look may have a gap, or
// still be under way.
func (c *capture) sum(before time.Time, name string, labels ...string) float64 {
	look := len(c.at) - 1
	for look > 0 && c.at[look].After(before) {
		look--
	}
	total := 0.0
	for series, values := range c.series {
		if !strings.HasPrefix(series, name+"{") {
			continue
		}
		if slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(series, l) }) {
			continue
		}
		for i := min(look, len(values)-1); i >= 0; i-- {
			if v, err := strconv.ParseFloat(values[i], 64); err == nil {
				total += v
				break
			}
		}
	}
	return total
}

// lookAt is which look came first at or after a time.
func (c *capture) lookAt(at time.Time) int {
	look, _ := slices.BinarySearchFunc(c.at, at, time.Time.Compare)
	return look
}

// errNoPromtool says that rules cannot be evaluated here.
var errNoPromtool = errors.New("promtool is not there (Debian: apt install prometheus)")

// fires says whether an alert fires in the captured metrics at a look, as promtool evaluates the rules of a
// folder.
func (c *capture) fires(ctx context.Context, folder, alert string, look int) (bool, error) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		return false, errNoPromtool
	}
	rules, err := filepath.Glob(filepath.Join(folder, "*.rules.yaml"))
	if err != nil || len(rules) == 0 {
		return false, fmt.Errorf("no rules in %s: run the drill in the root of the repository", folder)
	}
	dir, err := os.MkdirTemp("", "holdfast-drill-rules-")
	if err != nil {
		return false, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // nothing is left that anybody needs
	file := filepath.Join(dir, "test.yaml")
	if err := os.WriteFile(file, c.promtoolTest(rules, alert, look), 0o600); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, promtoolMax)
	defer cancel()
	//nolint:gosec // the tool of the machine, on a file of ours
	out, err := exec.CommandContext(ctx, tool, "test", "rules", file).CombinedOutput()
	_, failed := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return true, nil
	case failed && bytes.Contains(out, []byte("FAILED")) && bytes.Contains(out, []byte("expr:")):
		return false, nil
	}
	return false, fmt.Errorf("promtool: %w: %.500s", err, out)
}

// promtoolTest is a unit test of rules that the capture passes if the alert fires at a look.
func (c *capture) promtoolTest(rules []string, alert string, look int) []byte {
	var b bytes.Buffer
	b.WriteString("rule_files:\n")
	for _, r := range rules {
		path, err := filepath.Abs(r)
		if err != nil {
			path = r
		}
		fmt.Fprintf(&b, "  - %s\n", path)
	}
	fmt.Fprintf(&b, "evaluation_interval: %s\ntests:\n  - interval: %s\n    input_series:\n",
		captureEvery, captureEvery)
	for _, series := range slices.Sorted(maps.Keys(c.series)) {
		if strings.HasPrefix(series, "holdfast_") {
			fmt.Fprintf(&b, "      - series: '%s'\n        values: '%s'\n", series,
				strings.Join(c.series[series], " "))
		}
	}
	fmt.Fprintf(&b, "    promql_expr_test:\n"+
		"      - expr: 'count(ALERTS{alertname=\"%s\",alertstate=\"firing\"}) > bool 0'\n"+
		"        eval_time: %s\n        exp_samples:\n          - labels: '{}'\n            value: 1\n",
		alert, time.Duration(look)*captureEvery)
	return b.Bytes()
}
