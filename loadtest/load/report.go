package load

import (
	"slices"
	"time"

	"example.com/holdfast/loadtest/rig"
)

// quantiles are those that a report has of every latency, apart from the largest.
func quantiles() []float64 { return []float64{0.5, 0.9, 0.99, 0.999, 0.9999} }

// Latency is a distribution, in milliseconds.
type Latency struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p999_ms"`
	P9999 float64 `json:"p9999_ms"`
	Max   float64 `json:"max_ms"`
}

func latencyOf(h *rig.Histogram) Latency {
	var q [5]float64
	for i, part := range quantiles() {
		q[i] = ms(h.Quantile(part))
	}
	return Latency{h.Count(), q[0], q[1], q[2], q[3], q[4], ms(h.Quantile(1))}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// Share is what came of a part of the load: of a class, of a kind, or of a stage.
type Share struct {
	Name string `json:"name"`
	Sent uint64 `json:"sent"`
	// Good got what was asked for; Refused was told to come again later.
	Good    uint64 `json:"good"`
	Refused uint64 `json:"refused"`
	Wrong   uint64 `json:"wrong"`
	Failed  uint64 `json:"failed"`
	// Codes are the problem codes of refusals, Others what else came.
	Codes  map[string]uint64 `json:"codes,omitempty"`
	Others map[string]uint64 `json:"others,omitempty"`
	// RetryAfter* is what refusals told to wait, in seconds; Told is how many did.
	Told           uint64  `json:"retry_after_told"`
	RetryAfterMin  float64 `json:"retry_after_min_s"`
	RetryAfterMean float64 `json:"retry_after_mean_s"`
	RetryAfterMax  float64 `json:"retry_after_max_s"`
	// Answer is the latency of good answers, from when they were due; Refusal that of refusals.
	Answer  Latency `json:"answer"`
	Refusal Latency `json:"refusal"`
	// Completed is the time from acceptance to the end, by Postgres's clock.
	Completed Latency `json:"completed"`
	// Accepted, Succeeded and Ends are of transfers and orders: how many were accepted, settled or confirmed
	// within their promise, and how they ended.
	Accepted  int            `json:"accepted"`
	Succeeded int            `json:"succeeded"`
	Ends      map[string]int `json:"ends,omitempty"`
	// Seconds is how long the part was sent, GoodputPerSecond what succeeded of it in a second.
	Seconds          float64 `json:"seconds"`
	OfferedPerSecond float64 `json:"offered_per_second"`
	GoodputPerSecond float64 `json:"goodput_per_second"`
}

// Point is a short time of the load.
type Point struct {
	At        float64 `json:"at_s"`
	Seconds   float64 `json:"seconds"`
	Offered   uint64  `json:"offered"`
	Good      uint64  `json:"good"`
	Refused   uint64  `json:"refused"`
	Completed uint64  `json:"completed"`
	// Latencies in milliseconds, of what was due in that time.
	AnswerP50    float64 `json:"answer_p50_ms"`
	AnswerP99    float64 `json:"answer_p99_ms"`
	CompletedP50 float64 `json:"completed_p50_ms"`
	CompletedP99 float64 `json:"completed_p99_ms"`
}

// Report is a whole load.
type Report struct {
	At       string  `json:"at"`
	Target   string  `json:"target"`
	Machine  string  `json:"machine"`
	Mix      string  `json:"mix"`
	Profile  string  `json:"profile"`
	Arrivals string  `json:"arrivals"`
	Rate     float64 `json:"rate_per_second"`
	Seconds  float64 `json:"seconds"`
	Seed     uint64  `json:"seed"`
	Callers  int     `json:"callers"`
	Accounts int     `json:"accounts"`
	Tenants  int     `json:"tenants"`
	// Interrupted says that it was ended before its time.
	Interrupted bool `json:"interrupted"`

	Whole   Share   `json:"whole"`
	Stages  []Share `json:"stages"`
	Kinds   []Share `json:"kinds"`
	Classes []Share `json:"classes"`
	Points  []Point `json:"points"`
	// Late is how long after their time requests were sent: what the load generator itself added, or that all
	// callers waited for answers. It is part of all latencies.
	Late Latency `json:"late"`
	// DrainSeconds is how long after the last acceptance the last end came, by Postgres's clock, FeedSeconds
	// how long after the last answer the feed had told of all.
	DrainSeconds float64 `json:"drain_seconds"`
	FeedSeconds  float64 `json:"feed_seconds"`

	Claims []Claim `json:"claims"`
}

// Holds says that every claim holds. Rates and latencies have no say in it.
func (r *Report) Holds() bool {
	return len(r.Claims) > 0 && !slices.ContainsFunc(r.Claims, func(c Claim) bool { return !c.Holds() })
}

// report puts together what was found.
func (r *run) report(claims []Claim) Report {
	out := Report{
		At: r.began.UTC().Format("2006-01-02 15:04"), Target: r.base, Machine: machine(), Mix: r.mix.Name,
		Profile: r.profile.Name, Arrivals: "even", Rate: r.o.Rate, Seconds: r.o.Duration.Seconds(),
		Seed: r.o.Seed, Callers: r.o.Callers, Accounts: r.o.Accounts, Tenants: len(r.tenants),
		DrainSeconds: r.tail().Seconds(), FeedSeconds: r.counts.drained.Seconds(), Claims: claims,
	}
	if r.o.Poisson {
		out.Arrivals = "poisson"
	}
	out.Whole = r.share("whole", r.o.Duration, everything)
	for i, s := range r.stages {
		out.Stages = append(out.Stages, r.share(s.name, s.long, func(g group) bool { return g.stage == i }))
	}
	for _, k := range kinds() {
		if s := r.share(string(k), r.o.Duration, func(g group) bool { return g.kind == k }); s.Sent > 0 {
			out.Kinds = append(out.Kinds, s)
		}
	}
	for _, class := range r.classes() {
		in := func(g group) bool { return g.class == class }
		out.Classes = append(out.Classes, r.share(class, r.o.Duration, in))
	}
	out.Points = r.points()
	out.Late = latencyOf(&r.counts.late)
	return out
}

// classes are those of the keys, each once, in their order.
func (r *run) classes() []string {
	var found []string
	for _, c := range r.callers {
		if !slices.Contains(found, c.class) {
			found = append(found, c.class)
		}
	}
	return found
}

// share is what came of the requests in some groups.
func (r *run) share(name string, d time.Duration, of func(group) bool) Share {
	t := r.counts.sum(of)
	s := Share{
		Name: name, Sent: t.sent, Good: t.good, Refused: t.refused, Wrong: t.wrong, Failed: t.failed,
		Codes: t.codes, Others: t.others, Told: t.told, RetryAfterMin: t.toldMin.Seconds(),
		RetryAfterMax: t.toldMax.Seconds(), Answer: latencyOf(&t.took), Refusal: latencyOf(&t.refusal),
		Ends: map[string]int{}, Seconds: d.Seconds(), OfferedPerSecond: float64(t.sent) / d.Seconds(),
	}
	if t.told > 0 {
		s.RetryAfterMean = t.toldSum.Seconds() / float64(t.told)
	}
	var completed rig.Histogram
	r.eachEnd(func(c *caller, e *entry, end ending, ended bool) {
		if !of(group{c.class, e.kind, e.stage}) {
			return
		}
		s.Accepted++
		if !ended {
			s.Ends["open"]++
			return
		}
		completed.Add(end.at.Sub(end.created))
		s.Ends[end.status]++
		if (end.status == "settled" || end.status == "confirmed") && !end.at.After(e.promise) {
			s.Succeeded++
		}
	})
	s.Completed = latencyOf(&completed)
	s.GoodputPerSecond = float64(s.Succeeded) / d.Seconds()
	return s
}

// eachEnd visits everything that was accepted, with how it ended.
func (r *run) eachEnd(visit func(*caller, *entry, ending, bool)) {
	for _, t := range r.tenants {
		for _, e := range t.book.taken {
			end, ended := t.feed.end(e.id)
			visit(r.callers[e.caller], e, end, ended)
		}
	}
}

// tail is how long after the last acceptance the last end came.
func (r *run) tail() time.Duration {
	var accepted, end time.Time
	r.eachEnd(func(_ *caller, _ *entry, e ending, ended bool) {
		if ended && e.created.After(accepted) {
			accepted = e.created
		}
		if ended && e.at.After(end) {
			end = e.at
		}
	})
	return max(0, end.Sub(accepted))
}

// points cuts the load into short times. What completed counts when it did: by Postgres's clock, begun with
// the first acceptance.
func (r *run) points() []Point {
	begin := time.Time{}
	r.eachEnd(func(_ *caller, e *entry, end ending, ended bool) {
		if start := end.created.Add(-e.due); ended && (begin.IsZero() || start.Before(begin)) {
			begin = start
		}
	})
	c := r.counts
	r.eachEnd(func(_ *caller, e *entry, end ending, ended bool) {
		if !ended {
			return
		}
		c.slice(e.due).ended.Add(end.at.Sub(end.created))
		if at := end.at.Sub(begin); at >= 0 && at < time.Duration(len(c.slices))*c.width {
			c.slice(at).completed++
		}
	})
	points := make([]Point, 0, len(c.slices))
	for i := range c.slices {
		s := &c.slices[i]
		points = append(points, Point{
			At: (time.Duration(i) * c.width).Seconds(), Seconds: c.width.Seconds(), Offered: s.offered,
			Good: s.good, Refused: s.refused, Completed: s.completed,
			AnswerP50: ms(s.took.Quantile(0.5)), AnswerP99: ms(s.took.Quantile(0.99)),
			CompletedP50: ms(s.ended.Quantile(0.5)), CompletedP99: ms(s.ended.Quantile(0.99)),
		})
	}
	return points
}

// short says a duration to people.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}
