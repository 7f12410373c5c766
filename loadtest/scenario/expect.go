package scenario

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"example.com/holdfast/internal/mode"
)

// Expectation is one of these: the others are nil. Besides, every scenario claims that what was accepted ends
// once, in time and with a reason, that no effect is doubled, and that no invariant is broken.
type Expectation struct {
	NotSlower     *NotSlower    `yaml:"not_slower"`
	Within        *Within       `yaml:"within"`
	Goodput       *Goodput      `yaml:"goodput"`
	LetIn         *LetIn        `yaml:"let_in"`
	RefusedFirst  *RefusedFirst `yaml:"refused_first"`
	Unavailable   *Unavailable  `yaml:"unavailable"`
	Modes         *Modes        `yaml:"modes"`
	Condition     *Condition    `yaml:"condition"`
	Metric        *Metric       `yaml:"metric"`
	CallsAtOnce   *AtMost       `yaml:"calls_at_once"`
	Amplification *AtMost       `yaml:"amplification"`
	// EveryEffect: each key that a dependency was asked under has its effect.
	EveryEffect []Dependency `yaml:"every_effect"`
	// PaidOnce: the rail made one payment for each settled payout, and no other.
	PaidOnce *Nothing `yaml:"paid_once"`
	// SameAnswers: each key of insistent clients got an answer, the same when it is asked for again, and one
	// transfer.
	SameAnswers *Nothing `yaml:"same_answers"`
	// DoneOnce: what copying clients sent three times was done once, and another body was refused.
	DoneOnce *Nothing `yaml:"done_once"`
	// SoldOnce: each unit was sold to one buyer, and the others keep their money.
	SoldOnce *Nothing `yaml:"sold_once"`
	// TakenUp: what the jobs of a killed worker named is taken up by others.
	TakenUp *TakenUp `yaml:"taken_up"`
}

// Nothing is an expectation without members: `paid_once: {}`.
type Nothing struct{}

// What is measured: the latency of a stream's requests or refusals, or the time between two events.
type What struct {
	// Request and Refusal name a stream, or "all".
	Request, Refusal string
	// First and Second are types of events of one aggregate.
	First, Second string
}

// UnmarshalYAML reads "request of S", "refusal of S" or "E to E".
func (w *What) UnmarshalYAML(node *yaml.Node) error {
	text := node.Value
	if stream, ok := strings.CutPrefix(text, "request of "); ok {
		w.Request = stream
		return nil
	}
	if stream, ok := strings.CutPrefix(text, "refusal of "); ok {
		w.Refusal = stream
		return nil
	}
	first, second, ok := strings.Cut(text, " to ")
	if !ok {
		return fmt.Errorf("line %d: what is measured is 'request of S', 'refusal of S' or 'E to E', not %q",
			node.Line, text)
	}
	w.First, w.Second = first, second
	return nil
}

// String is what was read.
func (w *What) String() string {
	switch {
	case w.Request != "":
		return "request of " + w.Request
	case w.Refusal != "":
		return "refusal of " + w.Refusal
	}
	return w.First + " to " + w.Second
}

// AllStreams in place of a stream means all of them.
const AllStreams = "all"

// NotSlower is that a 99th percentile is at most a factor of that in another phase, or at most Or, below which
// nothing is slow. Tenants narrow what is measured between events.
type NotSlower struct {
	What    What          `yaml:"what"`
	In      string        `yaml:"in"`
	Than    string        `yaml:"than"`
	Factor  float64       `yaml:"factor"`
	Or      time.Duration `yaml:"or"`
	Tenants []int         `yaml:"tenants"`
}

// Within is that a percentile in a phase is within a bound. Percentile is 99 unless it is 50.
type Within struct {
	What       What          `yaml:"what"`
	In         string        `yaml:"in"`
	Percentile int           `yaml:"percentile"`
	Bound      time.Duration `yaml:"bound"`
	Tenants    []int         `yaml:"tenants"`
}

// Goodput is how many transfers settle within their promise a second, of those of another phase.
type Goodput struct {
	In      string  `yaml:"in"`
	Than    string  `yaml:"than"`
	AtLeast float64 `yaml:"at_least"`
}

// LetIn is which part of the requests of streams is not refused for a moment.
type LetIn struct {
	Streams []string `yaml:"streams"`
	In      string   `yaml:"in"`
	AtLeast float64  `yaml:"at_least"`
}

// RefusedFirst is that of these streams the last one is refused most, and the first one least.
type RefusedFirst struct {
	Streams []string `yaml:"streams"`
	In      string   `yaml:"in"`
}

// Unavailable is that every request in a phase without a database gets a 503 that says when to come back.
type Unavailable struct {
	Within time.Duration `yaml:"within"`
}

// Modes are those that the service is in, from the first request to the end of the load.
type Modes struct {
	Reach []mode.Mode `yaml:"reach"`
	Never []mode.Mode `yaml:"never"`
}

// Condition is one that holds at some moment of a phase, or at none.
type Condition struct {
	Name    string `yaml:"name"`
	Subject string `yaml:"subject"`
	In      string `yaml:"in"`
	NotIn   string `yaml:"not_in"`
}

// Metric is the largest value in a phase that any process shows of a metric. Labels are as they are written:
// name="value".
type Metric struct {
	Name    string   `yaml:"name"`
	Labels  string   `yaml:"labels"`
	In      string   `yaml:"in"`
	AtLeast *float64 `yaml:"at_least"`
	AtMost  *float64 `yaml:"at_most"`
}

// AtMost is a bound at a dependency.
type AtMost struct {
	At     Dependency `yaml:"at"`
	AtMost float64    `yaml:"at_most"`
}

// TakenUp is how soon.
type TakenUp struct {
	Within time.Duration `yaml:"within"`
}

// kinds counts which expectations an entry has.
func (e *Expectation) kinds() int {
	n := 0
	for _, v := range reflect.ValueOf(*e).Fields() {
		if !v.IsZero() {
			n++
		}
	}
	return n
}

// spokenOf are the phases and the streams that an expectation speaks of.
func (e *Expectation) spokenOf() (phases, streams []string) {
	of := func(w What) []string {
		if name := w.Request + w.Refusal; name != "" && name != AllStreams {
			return []string{name}
		}
		return nil
	}
	switch {
	case e.NotSlower != nil:
		return []string{e.NotSlower.In, e.NotSlower.Than}, of(e.NotSlower.What)
	case e.Within != nil:
		return []string{e.Within.In}, of(e.Within.What)
	case e.Goodput != nil:
		return []string{e.Goodput.In, e.Goodput.Than}, nil
	case e.LetIn != nil:
		return []string{e.LetIn.In}, e.LetIn.Streams
	case e.RefusedFirst != nil:
		return []string{e.RefusedFirst.In}, e.RefusedFirst.Streams
	case e.Condition != nil:
		return nonEmpty(e.Condition.In, e.Condition.NotIn), nil
	case e.Metric != nil:
		return []string{e.Metric.In}, nil
	}
	return nil, nil
}

func nonEmpty(texts ...string) []string {
	var all []string
	for _, t := range texts {
		if t != "" {
			all = append(all, t)
		}
	}
	return all
}

// bounds says what is wrong with the bounds of an expectation.
func (e *Expectation) bounds() error {
	switch {
	case e.NotSlower != nil && e.NotSlower.Factor < 1:
		return errors.New("not_slower has a factor of 1 or more")
	case e.Within != nil && (e.Within.Bound <= 0 || e.Within.Percentile != 0 && e.Within.Percentile != 50):
		return errors.New("within has a bound, and a percentile of 50 or none")
	case e.Goodput != nil && !share(e.Goodput.AtLeast), e.LetIn != nil && !share(e.LetIn.AtLeast):
		return errors.New("at_least is above 0 and at most 1")
	case e.LetIn != nil && len(e.LetIn.Streams) == 0, e.RefusedFirst != nil && len(e.RefusedFirst.Streams) < 2:
		return errors.New("it names streams, and refused_first two of them at least")
	case e.Condition != nil && (e.Condition.Name == "" || e.Condition.In+e.Condition.NotIn == ""):
		return errors.New("condition has a name, and in or not_in")
	case e.Metric != nil && (e.Metric.Name == "" || (e.Metric.AtLeast == nil) == (e.Metric.AtMost == nil)):
		return errors.New("metric has a name, and either at_least or at_most")
	case e.Modes != nil && len(e.Modes.Reach)+len(e.Modes.Never) == 0:
		return errors.New("modes has reach or never")
	case e.Unavailable != nil && e.Unavailable.Within <= 0, e.TakenUp != nil && e.TakenUp.Within <= 0:
		return errors.New("within is a time")
	}
	for _, bound := range []*AtMost{e.CallsAtOnce, e.Amplification} {
		if bound != nil && (bound.AtMost < 1 || !bound.At.is()) {
			return errors.New("it has at, which is risk, notify or rail, and at_most, which is 1 or more")
		}
	}
	return nil
}

func share(f float64) bool { return f > 0 && f <= 1 }

func (d Dependency) is() bool { return d == Risk || d == Notify || d == Rail }
