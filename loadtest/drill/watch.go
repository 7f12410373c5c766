package drill

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"example.com/holdfast/loadtest/simdep"
)

const (
	// gaugeEvery is how often the calls in flight at a dependency are looked at.
	gaugeEvery = 2 * time.Millisecond
	// seriesEvery is how often what is expected of metrics is looked at.
	seriesEvery = 250 * time.Millisecond
	// scrapeMax bounds one look at metrics.
	scrapeMax = 2 * time.Second
)

// sample is a value at a time of ours.
type sample struct {
	at    time.Time
	value float64
}

// watch collects samples until it is ended.
type watch struct {
	samples []sample
	err     error
	cancel  context.CancelFunc
	close   func()
	group   sync.WaitGroup
}

// watching calls look every so often; a look that has nothing to say returns false.
func (s *stage) watching(
	ctx context.Context, every time.Duration, look func(context.Context) (float64, bool, error),
) *watch {
	w := &watch{close: func() {}}
	ctx, w.cancel = context.WithCancel(ctx)
	w.group.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			value, ok, err := look(ctx)
			if err != nil && ctx.Err() == nil {
				w.err = err
				return
			}
			if ok {
				w.samples = append(w.samples, sample{s.run.o.Now(), value})
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return w
}

// end stops to look and returns what was seen.
func (s *stage) end(w *watch) []sample {
	w.cancel()
	w.group.Wait()
	w.close()
	s.do(func() error { return w.err })
	return w.samples
}

// inFlight watches the calls that a dependency has in hand.
func (s *stage) inFlight(ctx context.Context, d *simdep.Server) *watch {
	return s.watching(ctx, gaugeEvery, func(context.Context) (float64, bool, error) {
		return float64(d.Journal().Concurrent), true, nil
	})
}

// largest is the largest value in a phase, and how many samples there were.
func largest(samples []sample, p *phase) (float64, int) {
	most, n := 0.0, 0
	for _, one := range samples {
		if !one.at.Before(p.from) && one.at.Before(p.to) {
			most, n = max(most, one.value), n+1
		}
	}
	return most, n
}

// watched are the admin listeners of the api and of the workers that live.
func (s *stage) watched() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	addrs := []string{s.api.ready.Admin}
	for _, p := range s.workers {
		addrs = append(addrs, p.ready.Admin)
	}
	return addrs
}

// total is the sum of a metric over all workers that live.
func (s *stage) total(ctx context.Context, name, label string) float64 {
	sum := 0.0
	client := newHTTPClient()
	for _, p := range s.workers {
		value, ok := scrape(ctx, client, p.ready.Admin, name, label)
		if !ok {
			s.do(func() error { return fmt.Errorf("metric %s of %s is not there", name, p.ready.Instance) })
		}
		sum += value
	}
	return sum
}

// scrape reads a metric of one process; false if it does not answer or has no such metric.
func scrape(ctx context.Context, client *http.Client, addr, name, label string) (float64, bool) {
	text, err := fetchMetrics(ctx, client, addr)
	if err != nil {
		return 0, false
	}
	return readMetric(bytes.NewReader(text), name, label)
}

// fetchMetrics reads all metrics of one process.
func fetchMetrics(ctx context.Context, client *http.Client, addr string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, scrapeMax)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }() // it has been read
	return io.ReadAll(answer.Body)
}

// readMetric adds up the samples of a metric in the text format that have all labels.
func readMetric(text io.Reader, name string, label ...string) (float64, bool) {
	sum, found := 0.0, false
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		series, value, ok := strings.Cut(lines.Text(), " ")
		named, labels, _ := strings.Cut(series, "{")
		missing := func(l string) bool { return !strings.Contains(labels, l) }
		if !ok || named != name || slices.ContainsFunc(label, missing) {
			continue
		}
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			sum, found = sum+n, true
		}
	}
	return sum, found
}
