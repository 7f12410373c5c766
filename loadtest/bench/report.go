package bench

import (
	"fmt"
	"math"
	"strconv"
)

// The names of phases; closed loops add their number of callers.
const (
	phaseAccepts   = "accept only"
	phaseTransfers = "accept to settled"
	phaseOffered   = "offered rate"
	phaseHalf      = "half of sustained"
	phaseLow       = "low rate"
	// The phases of orders; the half is of what the first one confirmed.
	phaseOrders     = "order, placed to ended"
	phaseOrdersHalf = "order, half of that rate"
)

func closedName(name string, callers int) string {
	return fmt.Sprintf("%s, %d callers", name, callers)
}

// The goals that the figures are held to.
const (
	goalRatio          = 15
	goalSettled        = 5_000
	goalHalfP99MS      = 500
	goalLowP50MS       = 15
	goalLowCPUMicros   = 1_500
	goalClosedP99MS    = 1_000
	goalRefuseP99MS    = 10
	goalGeneratorMicro = 25
	// goalCallers is the closed loop that the goals speak of.
	goalCallers = 64
)

// Commits is how many single-row transactions PostgreSQL commits.
type Commits struct {
	Clients   int     `json:"clients"`
	By        string  `json:"by"`
	PerSecond float64 `json:"per_second"`
}

// CPU is what a transfer cost each group of processes, in microseconds, from the load's begin until all
// was done, over all that was accepted.
type CPU struct {
	Generator     float64 `json:"generator_us"`
	System        float64 `json:"system_us"`
	Postgres      float64 `json:"postgres_us"`
	Sum           float64 `json:"sum_us"`
	PostgresKnown bool    `json:"postgres_known"`
	// GeneratorPerRequest counts refused requests too.
	GeneratorPerRequest float64 `json:"generator_us_per_request"`
}

// Phase is what one phase measured. Counts and rates are of the measured time, without its ramp.
type Phase struct {
	Name   string `json:"name"`
	System string `json:"system"`
	// Of is what was asked for: transfers, or orders. An order is accepted when it is placed, and settled
	// when it is confirmed.
	Of string `json:"of"`
	// Callers is the number of connections; OfferedPerSecond is zero for a closed loop.
	Callers          int     `json:"callers"`
	OfferedPerSecond float64 `json:"offered_per_second"`
	Seconds          float64 `json:"seconds"`

	Accepted uint64 `json:"accepted"`
	Refused  uint64 `json:"refused"`
	// Failed requests got no answer; Unexpected ones another one than 202, 429 or 503. Both count the
	// ramp too.
	Failed     uint64         `json:"failed"`
	Unexpected map[int]uint64 `json:"unexpected"`
	Settled    int64          `json:"settled"`
	// Canceled is how many orders ended that way, until all was done.
	Canceled int64 `json:"canceled"`

	AcceptedPerSecond float64 `json:"accepted_per_second"`
	SettledPerSecond  float64 `json:"settled_per_second"`
	AcceptP50MS       float64 `json:"accept_p50_ms"`
	AcceptP99MS       float64 `json:"accept_p99_ms"`
	RefuseP99MS       float64 `json:"refuse_p99_ms"`
	SettleP50MS       float64 `json:"settle_p50_ms"`
	SettleP99MS       float64 `json:"settle_p99_ms"`

	// LagShare is how much more was accepted than settled, as a part of what was accepted.
	LagShare float64 `json:"lag_share"`
	// BacklogAtEnd is how many transfers were not settled and told about when the load ended, or how many
	// orders had not ended.
	BacklogAtEnd int64   `json:"backlog_at_end"`
	DrainMS      float64 `json:"drain_ms"`
	Drained      bool    `json:"drained"`
	// KeptUp says that the rate was sustained: what was offered was accepted, and what was accepted
	// settled.
	KeptUp bool `json:"kept_up"`

	CPU CPU `json:"cpu"`
	// Others is the part of the machine that other work took while the load ran: noise.
	Others float64 `json:"others_share"`
	// Invariants were checked afterwards; Broken shows the breaks.
	Invariants int      `json:"invariants"`
	Broken     []string `json:"broken"`
}

// Goal is a promise and what was measured of it.
type Goal struct {
	Name     string `json:"name"`
	Wanted   string `json:"wanted"`
	Measured string `json:"measured"`
	Met      bool   `json:"met"`
}

// Report is a whole run.
type Report struct {
	At       string  `json:"at"`
	Machine  string  `json:"machine"`
	Postgres string  `json:"postgres"`
	Seconds  float64 `json:"seconds"`
	// HTTPDependencies says that the dependencies' CPU is in the generator's.
	HTTPDependencies bool      `json:"http_dependencies"`
	Commits          []Commits `json:"commits"`
	Phases           []Phase   `json:"phases"`
	Goals            []Goal    `json:"goals"`

	// HoldfastPerSecond is the best rate of settling that was sustained, NaivePerSecond the best that the
	// naive path reached, sustained or not. RatioSameLoad compares the two under one closed loop.
	HoldfastPerSecond float64 `json:"holdfast_per_second"`
	NaivePerSecond    float64 `json:"naive_per_second"`
	Ratio             float64 `json:"ratio"`
	RatioSameLoad     float64 `json:"ratio_same_load"`

	// The orders' rates are those of the closed loop; TransfersPerOrder is how many transfers settled for
	// each order that was confirmed, under the same closed loop.
	OrdersPlacedPerSecond    float64 `json:"orders_placed_per_second"`
	OrdersConfirmedPerSecond float64 `json:"orders_confirmed_per_second"`
	TransfersPerOrder        float64 `json:"transfers_per_order"`

	// Events are what it costs that events leave: one for each way out, each measured in turns with the rest.
	Events []EventCost `json:"events"`
}

// sustained is the best rate of settling transfers that a system kept up.
func (r *Report) sustained(system string) float64 {
	best := 0.0
	for _, p := range r.Phases {
		if p.System == system && p.Of == transfers && p.KeptUp {
			best = max(best, p.SettledPerSecond)
		}
	}
	return best
}

// settledAtBest is the best rate of settling transfers, kept up or not: in favor of the naive path.
func (r *Report) settledAtBest(system string) float64 {
	best := 0.0
	for _, p := range r.Phases {
		if p.System == system && p.Of == transfers {
			best = max(best, p.SettledPerSecond)
		}
	}
	return best
}

func (r *Report) find(system, name string) (Phase, bool) {
	for _, p := range r.Phases {
		if p.System == system && p.Name == name {
			return p, true
		}
	}
	return Phase{}, false
}

// judge fills in the ratio and holds the figures to the goals. A goal whose phase did not run is not there.
func (r *Report) judge() {
	r.HoldfastPerSecond = r.sustained(kindHoldfast)
	r.NaivePerSecond = r.settledAtBest(kindNaive)
	r.compare()
	if _, ran := r.find(kindHoldfast, closedName(phaseTransfers, goalCallers)); ran {
		r.goal("sustained from accepted to settled", fmt.Sprintf("at least %d/s", goalSettled),
			fmt.Sprintf("%.0f/s", r.HoldfastPerSecond), r.HoldfastPerSecond >= goalSettled)
	}
	if p, ran := r.find(kindHoldfast, phaseHalf); ran {
		r.goal("accepted to settled at half of that, p99", fmt.Sprintf("below %d ms", goalHalfP99MS),
			fmt.Sprintf("%.0f ms", p.SettleP99MS), p.SettleP99MS < goalHalfP99MS)
	}
	r.judgeLow()
	r.judgeClosed()
	r.judgeOrders()
	r.judgeEvents()
	r.judgeAll()
}

// compare holds Holdfast to the naive path twice: under the same closed loop, where the naive path accepts
// more than it settles, and each at its best rate.
func (r *Report) compare() {
	wanted := fmt.Sprintf("at least %d times", goalRatio)
	naive, both := r.find(kindNaive, closedName(phaseTransfers, goalCallers))
	ours, ran := r.find(kindHoldfast, closedName(phaseTransfers, goalCallers))
	if both && ran && naive.SettledPerSecond > 0 {
		r.RatioSameLoad = ours.SettledPerSecond / naive.SettledPerSecond
		r.goal(fmt.Sprintf("settled against the naive path, %d callers each", goalCallers), wanted,
			fmt.Sprintf("%.1f times", r.RatioSameLoad), r.RatioSameLoad >= goalRatio)
	}
	if r.HoldfastPerSecond > 0 && r.NaivePerSecond > 0 {
		r.Ratio = r.HoldfastPerSecond / r.NaivePerSecond
		r.goal("settled against the naive path, each at its best rate", wanted,
			fmt.Sprintf("%.1f times", r.Ratio), r.Ratio >= goalRatio)
	}
}

func (r *Report) goal(name, wanted, measured string, met bool) {
	r.Goals = append(r.Goals, Goal{Name: name, Wanted: wanted, Measured: measured, Met: met})
}

func (r *Report) judgeLow() {
	p, ran := r.find(kindHoldfast, phaseLow)
	if !ran {
		return
	}
	at := fmt.Sprintf("at %.0f/s", p.OfferedPerSecond)
	r.goal("accepted to settled "+at+", p50", fmt.Sprintf("at most %d ms", goalLowP50MS),
		fmt.Sprintf("%.1f ms", p.SettleP50MS), p.SettleP50MS <= goalLowP50MS)
	if p.CPU.PostgresKnown {
		r.goal("CPU per transfer "+at+", all processes", fmt.Sprintf("at most %d us", goalLowCPUMicros),
			fmt.Sprintf("%.0f us", p.CPU.Sum), p.CPU.Sum <= goalLowCPUMicros)
	}
}

func (r *Report) judgeClosed() {
	p, ran := r.find(kindHoldfast, closedName(phaseTransfers, goalCallers))
	if !ran {
		return
	}
	with := fmt.Sprintf("with %d callers: ", goalCallers)
	r.goal(with+"accepted equals settled", fmt.Sprintf("within %.0f %%", lagShareMax*100),
		fmt.Sprintf("%+.2f %%", p.LagShare*100), math.Abs(p.LagShare) <= lagShareMax)
	r.goal(with+"accepted to settled, p99", fmt.Sprintf("below %d ms", goalClosedP99MS),
		fmt.Sprintf("%.0f ms", p.SettleP99MS), p.SettleP99MS < goalClosedP99MS)
	measured := "none was refused"
	if p.Refused > 0 {
		measured = fmt.Sprintf("%.1f ms for %d", p.RefuseP99MS, p.Refused)
	}
	r.goal(with+"refused at once, p99", fmt.Sprintf("at most %d ms", goalRefuseP99MS), measured,
		p.Refused == 0 || p.RefuseP99MS <= goalRefuseP99MS)
}

// judgeOrders holds orders beside transfers under the same closed loop. There is stock for all of them, so
// one that was canceled is one too many.
func (r *Report) judgeOrders() {
	ran, canceled := false, int64(0)
	for _, p := range r.Phases {
		if p.Of != orders {
			continue
		}
		ran = true
		canceled += p.Canceled
		if p.OfferedPerSecond > 0 {
			continue
		}
		r.OrdersPlacedPerSecond, r.OrdersConfirmedPerSecond = p.AcceptedPerSecond, p.SettledPerSecond
		beside, both := r.find(kindHoldfast, closedName(phaseTransfers, p.Callers))
		if both && p.SettledPerSecond > 0 {
			r.TransfersPerOrder = beside.SettledPerSecond / p.SettledPerSecond
		}
	}
	if ran {
		r.goal("orders canceled though there is stock", "none", strconv.FormatInt(canceled, 10),
			canceled == 0)
	}
}

// judgeAll looks at every phase: wrong answers, broken invariants, and the generator's own cost.
func (r *Report) judgeAll() {
	if len(r.Phases) == 0 {
		return
	}
	broken, wrong, worst := 0, uint64(0), 0.0
	for _, p := range r.Phases {
		broken += len(p.Broken)
		wrong += p.Failed
		for _, n := range p.Unexpected {
			wrong += n
		}
		if p.Of == transfers && p.OfferedPerSecond == 0 &&
			(p.System == kindHoldfast || p.System == kindAccepts) {
			worst = max(worst, p.CPU.GeneratorPerRequest)
		}
	}
	r.goal("invariants after every phase", "all hold", fmt.Sprintf("%d breaks", broken), broken == 0)
	r.goal("answers other than 202, 429 and 503", "none", strconv.FormatUint(wrong, 10), wrong == 0)
	if r.HTTPDependencies {
		return // they are in the generator's process
	}
	r.goal("load generator's CPU per request, closed loops", fmt.Sprintf("at most %d us", goalGeneratorMicro),
		fmt.Sprintf("%.0f us", worst), worst <= goalGeneratorMicro)
}
