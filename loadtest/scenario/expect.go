package scenario

import (
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
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

// stream is the stream that is measured, if it is one.
func (w *What) stream() []string {
	if name := w.Request + w.Refusal; name != AllStreams {
		return nonEmpty(name)
	}
	return nil
}

// kind is what each expectation with members can say of itself.
type kind interface {
	// check says what is wrong with its bounds.
	check() error
	// speaksOf are the phases and the streams that have to be there.
	speaksOf() mention
}

type mention struct{ phases, streams []string }

// kinds are the members of an entry that are set, of which there should be one.
func (e *Expectation) kinds() []any {
	var all []any
	for _, v := range reflect.ValueOf(*e).Fields() {
		if !v.IsZero() {
			all = append(all, v.Interface())
		}
	}
	return all
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
