package scenario

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/holdfast/internal/condition"
	"example.com/holdfast/internal/mode"
)

// median is the other percentile that can be asked for.
const median = 50

// NotSlower is that a 99th percentile is at most a factor of that in another phase, or at most Or, below
// which nothing is slow. Tenants narrow what is measured between events.
type NotSlower struct {
	What    What          `yaml:"what"`
	In      string        `yaml:"in"`
	Than    string        `yaml:"than"`
	Factor  float64       `yaml:"factor"`
	Or      time.Duration `yaml:"or"`
	Tenants []int         `yaml:"tenants"`
}

func (k *NotSlower) check() error {
	if k.Factor < 1 {
		return errors.New("not_slower has a factor of 1 or more")
	}
	return nil
}

func (k *NotSlower) speaksOf() mention { return mention{[]string{k.In, k.Than}, k.What.stream()} }

// Within is that a percentile in a phase is within a bound. Percentile is 99 unless it is 50.
type Within struct {
	What       What          `yaml:"what"`
	In         string        `yaml:"in"`
	Percentile int           `yaml:"percentile"`
	Bound      time.Duration `yaml:"bound"`
	Tenants    []int         `yaml:"tenants"`
}

func (k *Within) check() error {
	if k.Bound <= 0 || k.Percentile != 0 && k.Percentile != median {
		return errors.New("within has a bound, and a percentile of 50 or none")
	}
	return nil
}

func (k *Within) speaksOf() mention { return mention{[]string{k.In}, k.What.stream()} }

// Goodput is how many transfers settle within their promise a second, of those of another phase.
type Goodput struct {
	In      string  `yaml:"in"`
	Than    string  `yaml:"than"`
	AtLeast float64 `yaml:"at_least"`
}

func (k *Goodput) check() error {
	return share(k.AtLeast)
}

func (k *Goodput) speaksOf() mention { return mention{[]string{k.In, k.Than}, nil} }

// LetIn is which part of the requests of streams is not refused for a moment.
type LetIn struct {
	Streams []string `yaml:"streams"`
	In      string   `yaml:"in"`
	AtLeast float64  `yaml:"at_least"`
}

func (k *LetIn) check() error {
	if len(k.Streams) == 0 {
		return errors.New("let_in names streams")
	}
	return share(k.AtLeast)
}

func (k *LetIn) speaksOf() mention { return mention{[]string{k.In}, k.Streams} }

// RefusedFirst is that of these streams the last one is refused most, and the first one least.
type RefusedFirst struct {
	Streams []string `yaml:"streams"`
	In      string   `yaml:"in"`
}

func (k *RefusedFirst) check() error {
	if len(k.Streams) < 2 { //nolint:mnd // an order has two at least
		return errors.New("refused_first names two streams or more")
	}
	return nil
}

func (k *RefusedFirst) speaksOf() mention { return mention{[]string{k.In}, k.Streams} }

// Unavailable is that every request in a phase without a database gets a 503 that says when to come back.
type Unavailable struct {
	Within time.Duration `yaml:"within"`
}

func (k *Unavailable) check() error {
	return positive(k.Within)
}

func (k *Unavailable) speaksOf() mention { return mention{} }

// Modes are those that the service is in, from the first request to the end of the load.
type Modes struct {
	Reach []mode.Mode `yaml:"reach"`
	Never []mode.Mode `yaml:"never"`
}

func (k *Modes) check() error {
	if len(k.Reach)+len(k.Never) == 0 {
		return errors.New("modes has reach or never")
	}
	for _, m := range slices.Concat(k.Reach, k.Never) {
		if !isMode(m) {
			return fmt.Errorf("there is no mode %q", m)
		}
	}
	return nil
}

func (k *Modes) speaksOf() mention { return mention{} }

// Condition is one that holds at some moment of a phase, or at none.
type Condition struct {
	Name    string `yaml:"name"`
	Subject string `yaml:"subject"`
	In      string `yaml:"in"`
	NotIn   string `yaml:"not_in"`
}

func (k *Condition) check() error {
	known := func(c condition.Condition) bool { return c.Name == k.Name }
	if k.In+k.NotIn == "" || !slices.ContainsFunc(condition.All(), known) {
		return fmt.Errorf("condition has a name of the catalogue, not %q, and in or not_in", k.Name)
	}
	return nil
}

func (k *Condition) speaksOf() mention { return mention{nonEmpty(k.In, k.NotIn), nil} }

// Metric is the largest value in a phase that any process shows of a metric. Labels are as they are written:
// name="value".
type Metric struct {
	Name    string   `yaml:"name"`
	Labels  string   `yaml:"labels"`
	In      string   `yaml:"in"`
	AtLeast *float64 `yaml:"at_least"`
	AtMost  *float64 `yaml:"at_most"`
}

func (k *Metric) check() error {
	if k.Name == "" || (k.AtLeast == nil) == (k.AtMost == nil) {
		return errors.New("metric has a name, and either at_least or at_most")
	}
	return nil
}

func (k *Metric) speaksOf() mention { return mention{[]string{k.In}, nil} }

// AtMost is a bound at a dependency.
type AtMost struct {
	At     Dependency `yaml:"at"`
	AtMost float64    `yaml:"at_most"`
}

func (k *AtMost) check() error {
	if k.AtMost < 1 || !k.At.is() {
		return errors.New("it has at, which is risk, notify or rail, and at_most, which is 1 or more")
	}
	return nil
}

func (k *AtMost) speaksOf() mention { return mention{} }

// TakenUp is how soon.
type TakenUp struct {
	Within time.Duration `yaml:"within"`
}

func (k *TakenUp) check() error {
	return positive(k.Within)
}

func (k *TakenUp) speaksOf() mention { return mention{} }

func share(f float64) error {
	if f <= 0 || f > 1 {
		return errors.New("at_least is above 0 and at most 1")
	}
	return nil
}

func positive(d time.Duration) error {
	if d <= 0 {
		return errors.New("within is a time")
	}
	return nil
}

func (d Dependency) is() bool { return d == Risk || d == Notify || d == Rail }
