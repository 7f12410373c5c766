package telemetry

import "github.com/prometheus/client_golang/prometheus"

// jobMetrics count how work gets done in batches, and what was forgotten.
type jobMetrics struct {
	batches *prometheus.HistogramVec
	swept   prometheus.Counter
	reaped  prometheus.Counter
}

func newJobMetrics(c *catalogue) jobMetrics {
	return jobMetrics{
		batches: c.histograms("group_commit_batch_items", "Items per committed batch, by combiner.",
			prometheus.ExponentialBuckets(1, 2, 9),
			of("combiner", "accept", "accept_bulk", "move", "move_order", "note", "place", "place_bulk")),
		swept: c.counter("sweeper_woken_total",
			"Rows without a live job that the sweeper woke; zero in health."),
		reaped: c.counter("reaper_jobs_total", "Jobs of dead workers that were woken again."),
	}
}

// BatchSize counts a committed batch.
func (m *jobMetrics) BatchSize(combiner string, size int) {
	m.batches.WithLabelValues(combiner).Observe(float64(size))
}

// Swept counts rows that the sweeper woke.
func (m *jobMetrics) Swept(rows int) { m.swept.Add(float64(rows)) }

// Reaped counts jobs of dead workers.
func (m *jobMetrics) Reaped(jobs int64) { m.reaped.Add(float64(jobs)) }
