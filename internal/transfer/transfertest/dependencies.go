package transfertest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"example.com/holdfast/internal/outbound"
	"example.com/holdfast/internal/outbound/notify"
	"example.com/holdfast/internal/outbound/risk"
)

// Fault is how one call to a scripted dependency goes wrong. The zero Fault is a call that goes well.
type Fault struct {
	// Kind is how the caller sees it.
	Kind outbound.Kind
	// Status is that of the reply; 429 where a 4xx says nothing else.
	Status int
	// Acts says that the dependency did it all the same.
	Acts bool
	// RetryAfter is what the dependency asks for.
	RetryAfter time.Duration
	// Panics breaks the caller's own code instead.
	Panics bool
}

// Calls is what a dependency was asked under one effect key.
type Calls struct {
	// Sends is how many requests to act arrived, Finds how many questions.
	Sends, Finds int
	// Effects is how often the dependency acted. It acts once per key, whatever it is sent.
	Effects int
	// Blind is how many sends followed a send without a question between them.
	Blind int
}

type record struct {
	Calls
	unasked bool
}

// dependency is what both scripts share: faults that wait for their call, a gate, and a journal.
type dependency struct {
	name string

	mu      sync.Mutex
	faults  []Fault
	always  Fault
	gate    chan struct{}
	entered chan string
	calls   map[string]*record
	repeats []bool
}

func newDependency(name string) dependency {
	return dependency{name: name, calls: map[string]*record{}, entered: make(chan string, 10_000)}
}

// Next scripts the coming sends and questions, in their order; after them Always holds again.
func (d *dependency) Next(faults ...Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, faults...)
}

// Always scripts every send and question for which Next says nothing.
func (d *dependency) Always(f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.always = f
}

// Hold lets every call that comes from now on wait until release is called.
func (d *dependency) Hold() (release func()) { //nolint:nonamedreturns // says what the function is
	gate := make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gate = gate
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.gate = nil
		close(gate)
	})
}

// Entered tells the effect key of every call when it arrives, before it waits.
func (d *dependency) Entered() <-chan string { return d.entered }

// Calls is what was asked under an effect key.
func (d *dependency) Calls(key string) Calls {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.calls[key]; c != nil {
		return c.Calls
	}
	return Calls{}
}

// Repeats says of each call, in their order, whether its caller called it a repeat.
func (d *dependency) Repeats() []bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.repeats)
}

// Journal is what was asked under every effect key.
func (d *dependency) Journal() map[string]Calls {
	d.mu.Lock()
	defer d.mu.Unlock()
	journal := make(map[string]Calls, len(d.calls))
	for key, c := range d.calls {
		journal[key] = c.Calls
	}
	return journal
}

// arrive takes the fault of a call and lets it wait at the gate.
func (d *dependency) arrive(ctx context.Context, key string) (Fault, error) {
	d.mu.Lock()
	d.repeats = append(d.repeats, outbound.IsRepeat(ctx))
	f, gate := d.always, d.gate
	if len(d.faults) > 0 {
		f, d.faults = d.faults[0], d.faults[1:]
	}
	d.mu.Unlock()
	select {
	case d.entered <- key:
	default:
	}
	if gate != nil && f.arrives() {
		select {
		case <-gate:
		case <-ctx.Done():
			return f, d.failure("wait", Fault{Kind: outbound.KindTimeout}, ctx.Err())
		}
	}
	if f.Panics {
		panic(d.name + " panics")
	}
	return f, nil
}

// acts says whether the dependency does what it is asked.
func (f Fault) acts() bool { return f.Kind == "" || f.Acts }

// arrives says whether the call comes to the dependency at all.
func (f Fault) arrives() bool {
	return !slices.Contains([]outbound.Kind{
		outbound.KindOpen, outbound.KindRetryBudget, outbound.KindFull, outbound.KindNoBudget,
		outbound.KindUnreachable,
	}, f.Kind)
}

// sent writes a send down that arrives.
func (d *dependency) sent(key string, f Fault) {
	if !f.arrives() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.of(key)
	c.Sends++
	if c.unasked {
		c.Blind++
	}
	c.unasked = true
}

// found writes a question down and says whether the effect is there.
func (d *dependency) found(key string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.of(key)
	c.Finds++
	c.unasked = false
	return c.Effects > 0
}

func (d *dependency) of(key string) *record {
	c := d.calls[key]
	if c == nil {
		c = &record{}
		d.calls[key] = c
	}
	return c
}

func (d *dependency) failure(operation string, f Fault, cause error) error {
	if f.Kind == "" {
		return nil
	}
	if cause == nil {
		cause = fmt.Errorf("scripted %s", f.Kind)
	}
	if f.Kind == outbound.KindStatus4xx && f.Status == 0 {
		f.Status = http.StatusTooManyRequests
	}
	return &outbound.Error{
		Dependency: d.name, Operation: operation, Kind: f.Kind, RetryAfter: f.RetryAfter,
		Sent: f.arrives(), Status: f.Status, Err: cause,
	}
}

// Risk is a scripted risk service. It approves unless Decide says otherwise.
type Risk struct {
	dependency
	decide func(risk.Request) risk.Decision
	made   map[string]risk.Decision
}

func newRisk() *Risk {
	r := &Risk{dependency: newDependency("risk_api"), made: map[string]risk.Decision{}}
	r.Answer(risk.OutcomeApprove, "")
	return r
}

// Answer lets every screening from now on end in an outcome.
func (r *Risk) Answer(outcome risk.Outcome, reason string) {
	r.Decide(func(q risk.Request) risk.Decision {
		return risk.Decision{Outcome: outcome, Reason: reason, Reference: "ref-" + q.TransferID}
	})
}

// Decide lets every screening from now on be decided by a function.
func (r *Risk) Decide(decide func(risk.Request) risk.Decision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.decide = decide
}

// Screen decides, once per effect key.
func (r *Risk) Screen(ctx context.Context, q risk.Request) (risk.Decision, error) {
	f, err := r.arrive(ctx, q.EffectKey)
	if err != nil {
		return risk.Decision{}, err
	}
	r.sent(q.EffectKey, f)
	var d risk.Decision
	if f.acts() {
		d = r.decision(q)
	}
	if err := r.failure("screen", f, nil); err != nil {
		return risk.Decision{}, err
	}
	return d, nil
}

func (r *Risk) decision(q risk.Request) risk.Decision {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.made[q.EffectKey]
	if !ok {
		d = r.decide(q)
		r.made[q.EffectKey] = d
		r.of(q.EffectKey).Effects++
	}
	return d
}

// Find says what was decided under an effect key.
func (r *Risk) Find(ctx context.Context, effectKey string) (risk.Decision, bool, error) {
	f, err := r.arrive(ctx, effectKey)
	if err != nil {
		return risk.Decision{}, false, err
	}
	if err := r.failure("find", f, nil); err != nil {
		return risk.Decision{}, false, err
	}
	found := r.found(effectKey)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.made[effectKey], found, nil
}

// Notify is a scripted notification service. It takes every message.
type Notify struct {
	dependency
	messages map[string]notify.Message
}

func newNotify() *Notify {
	return &Notify{dependency: newDependency("notification_api"), messages: map[string]notify.Message{}}
}

// Send takes a message, once per effect key.
func (n *Notify) Send(ctx context.Context, m notify.Message) error {
	f, err := n.arrive(ctx, m.EffectKey)
	if err != nil {
		return err
	}
	n.sent(m.EffectKey, f)
	if f.acts() {
		n.take(m)
	}
	return n.failure("send", f, nil)
}

func (n *Notify) take(m notify.Message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, known := n.messages[m.EffectKey]; !known {
		n.messages[m.EffectKey] = m
		n.of(m.EffectKey).Effects++
	}
}

// Sent says whether a message was taken under an effect key.
func (n *Notify) Sent(ctx context.Context, effectKey string) (bool, error) {
	f, err := n.arrive(ctx, effectKey)
	if err != nil {
		return false, err
	}
	if err := n.failure("find", f, nil); err != nil {
		return false, err
	}
	return n.found(effectKey), nil
}

// Message is what was taken under an effect key.
func (n *Notify) Message(effectKey string) notify.Message {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.messages[effectKey]
}
