package drill

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/jobqueue"
	"example.com/holdfast/loadtest/rig"
	"example.com/holdfast/loadtest/scenario"
	"example.com/holdfast/loadtest/simdep"
)

// waitsMax is what a file's scenario may take beside its steps: faults, reviews, repeats and invariants.
const waitsMax = 5 * time.Minute

// ofFile is the piece that a scenario's file describes, or its broken variant.
func ofFile(f scenario.Scenario, broken bool) piece {
	v := variant{
		settings: pairs(f.Settings), postgres: f.Postgres, policy: hasty, tenants: f.Tenants, file: &f,
		play: func(ctx context.Context, s *stage) { (&playing{stage: s, file: &f}).play(ctx) },
	}
	if broken {
		v.name = "broken: " + f.Broken.About
		v.settings = append(v.settings, pairs(f.Broken.Settings)...)
		v.postgres = make(map[string]string)
		maps.Copy(v.postgres, f.Postgres)
		maps.Copy(v.postgres, f.Broken.Postgres)
		v.broken = &f.Broken
	}
	return piece{
		name: f.Name, about: f.About, fast: f.Fast, most: f.Lasts() + waitsMax, variants: []variant{v},
		cannot: func() string {
			if slices.ContainsFunc(f.Steps, func(s scenario.Step) bool {
				return s.Fault == scenario.FreezePostgres
			}) {
				return cannotFreeze()
			}
			return ""
		},
	}
}

// pairs are settings as NAME=value, in a stable order.
func pairs(settings map[string]string) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		all = append(all, name+"="+settings[name])
	}
	return all
}

// playing is a file that is played on a stage.
type playing struct {
	*stage

	file    *scenario.Scenario
	phases  map[string]*phase
	bases   []string         // of the public API, of each process
	mains   map[int]*traffic // who does for a tenant what needs no key of its own
	senders map[int]*traffic // whose transfers are read
	insists []*insistent
	copies  []*copier
	buys    *traffic
	rare    uuid.UUID
	earlier uint64          // what the merchant had before
	away    asked           // while PostgreSQL was away
	taken   []time.Duration // until the work of a killed worker was taken up
	loads   int
	seen    []series // what is expected of metrics and conditions
	ended   time.Time
}

// play plays the steps and claims what the file expects.
func (p *playing) play(ctx context.Context) {
	p.phases, p.mains, p.senders = map[string]*phase{}, map[int]*traffic{}, map[int]*traffic{}
	p.startWorkers(ctx, p.file.Workers)
	p.startAPIs(ctx)
	for d, knobs := range p.file.Calm {
		p.turn(d, knobs)
	}
	p.prepare(ctx)
	watched := p.watchSeries(ctx)
	p.sends(ctx, p.file.Load)
	for _, step := range p.file.Steps {
		p.step(ctx, step)
	}
	p.end(watched)
	p.ended = p.run.o.Now()
	for d := range p.knobs() {
		p.turn(d, scenario.Knobs{Knobs: calm()})
	}
	p.settle(ctx)
	p.claimAll(ctx)
}

// startAPIs starts those beside the first one.
func (p *playing) startAPIs(ctx context.Context) {
	for n := range p.file.APIs {
		api := p.api
		if n > 0 {
			api = p.start(ctx, rig.RoleAPI)
		}
		if p.err == nil {
			p.bases = append(p.bases, "http://"+api.ready.Addr)
		}
	}
}

// step plays a step: what it turns and changes, then its fault for as long as it lasts, then what it waits
// for.
func (p *playing) step(ctx context.Context, step scenario.Step) {
	for d, knobs := range step.Turn {
		p.turn(d, knobs)
	}
	if len(step.Load) > 0 {
		p.sends(ctx, step.Load)
	}
	if step.Pin != "" {
		p.do(func() error { return p.pin(ctx, step.Pin) })
	}
	p.phases[step.Phase] = p.phase(step.Phase)
	p.befall(ctx, step)
	if step.Until.Any() {
		p.until(ctx, "the end of phase "+step.Phase, step.Until.Within,
			func() (bool, error) { return p.come(ctx, step.Until) })
	}
}

// befall lets the fault of a step last.
func (p *playing) befall(ctx context.Context, step scenario.Step) {
	d, times := p.long(step.For), p.times(max(step.Times, 1))
	switch step.Fault {
	case scenario.None:
		p.wait(ctx, d)
	case scenario.KillWorker:
		for n := 0; n < times && p.going(ctx); n++ {
			p.taken = append(p.taken, p.killOne(ctx))
			p.startWorkers(ctx, 1)
		}
		p.wait(ctx, d)
	case scenario.PauseWorker:
		sleeper := p.oldest()
		p.until(ctx, "a worker with work in hand", inHandMax, func() (bool, error) {
			had, err := p.inHand(ctx, sleeper.ready.Instance)
			return len(had.items) > 0, err
		})
		p.pause(ctx, sleeper, d)
		p.mu.Lock()
		p.workers = append(p.workers, sleeper) // it is one of them again
		p.mu.Unlock()
	case scenario.CrashPostgres:
		for n := 0; n < times && p.going(ctx); n++ {
			p.crash(ctx)
			p.wait(ctx, crashEvery)
		}
		p.wait(ctx, d)
	case scenario.KeepPostgresAway:
		p.away = p.keepAway(ctx, p.main(1), d)
	case scenario.FreezePostgres:
		p.freeze(ctx, d)
	}
}

// come says whether what a step waits for has come.
func (p *playing) come(ctx context.Context, u scenario.Until) (bool, error) {
	if u.Accepted > 0 && p.accepted() < p.times(u.Accepted) {
		return false, nil
	}
	if u.Closed != "" && p.total(ctx, breakerOpen, ofDependency(u.Closed)) > 0 {
		return false, p.err
	}
	if u.Mode != "" {
		now, err := p.modeNow(ctx)
		return now.Mode == u.Mode, err
	}
	return true, p.err
}

// The metric of a circuit breaker that is not closed, and its label.
const breakerOpen = "holdfast_dependency_breaker_open"

func ofDependency(d scenario.Dependency) string {
	name := jobqueue.QueueRisk
	switch d {
	case scenario.Risk:
	case scenario.Notify:
		name = jobqueue.QueueNotification
	case scenario.Rail:
		name = jobqueue.QueuePayout
	}
	return fmt.Sprintf("dependency=%q", name)
}

// accepted counts transfers and orders that clients know to be accepted.
func (p *playing) accepted() int {
	n := 0
	for _, t := range p.callers {
		t.mu.Lock()
		n += len(t.transfers) + len(t.orders)
		t.mu.Unlock()
	}
	return n
}

// server is the simulated dependency of a name.
func (p *playing) server(d scenario.Dependency) *simdep.Server {
	switch d {
	case scenario.Risk:
		return p.risk
	case scenario.Notify:
		return p.notify
	case scenario.Rail:
	}
	return p.rail
}

// knobs are all that a file turns.
func (p *playing) knobs() map[scenario.Dependency]scenario.Knobs {
	all := make(map[scenario.Dependency]scenario.Knobs)
	maps.Copy(all, p.file.Calm)
	for _, step := range p.file.Steps {
		maps.Copy(all, step.Turn)
	}
	return all
}

// turn sets the knobs of a dependency. A latency that is not named is that of the calm.
func (p *playing) turn(d scenario.Dependency, knobs scenario.Knobs) {
	p.do(func() error {
		k := knobs.Knobs
		usual := calm()
		if said, ok := p.file.Calm[d]; ok && said.Latency != (simdep.Latency{}) {
			usual.Latency = said.Latency
		}
		if k.Latency == (simdep.Latency{}) {
			k.Latency = usual.Latency
		}
		if k.ReviewOver == 0 {
			k.ReviewOver = usual.ReviewOver
		}
		return p.server(d).SetKnobs(k)
	})
}

// main is who sends for a tenant.
func (p *playing) main(tenant int) *traffic {
	if p.mains[tenant] == nil {
		p.mains[tenant] = p.caller(tenant - 1)
	}
	return p.mains[tenant]
}

// prepare makes what the load needs: reviews to cancel and to approve, and the last units.
func (p *playing) prepare(ctx context.Context) {
	if p.file.Units > 0 {
		p.rare = p.stocks(ctx, p.main(1), p.times(p.file.Units))
		p.earlier = p.earned(ctx, p.main(1))
	}
	cancels, approvals := p.needed(scenario.Cancels), p.needed(scenario.Approvals)
	if cancels+approvals > 0 {
		p.prepareReviews(ctx, p.main(1), cancels, approvals)
	}
}

// needed is how many requests of a kind are sent while the steps last.
func (p *playing) needed(send scenario.Send) int {
	n := 0.0
	for _, one := range p.file.Streams() {
		if one.Send == send {
			n += one.Rate*p.long(p.file.Lasts()).Seconds() + 1
		}
	}
	return int(n)
}

// sends begins a load.
func (p *playing) sends(ctx context.Context, load []scenario.Stream) {
	p.loads++
	var streams []stream
	// Who reads reads what others make: these come first.
	for _, one := range slices.SortedStableFunc(slices.Values(load), func(a, b scenario.Stream) int {
		return cmp.Compare(order(a), order(b))
	}) {
		made := p.stream(one)
		made.name = one.Name
		streams = append(streams, made)
	}
	p.begin(ctx, streams...)
}

// order is 0 for those who make transfers, and 1 for the others.
func order(one scenario.Stream) int {
	if one.Send == scenario.Transfers && one.Clients == scenario.Plain {
		return 0
	}
	return 1
}

// stream makes a stream of a file. Its keys are those of no other one, in this load and in others.
func (p *playing) stream(one scenario.Stream) stream {
	main := p.main(one.Tenant)
	switch one.Send {
	case scenario.Reads:
		if from := p.senders[one.Tenant]; from != nil {
			main = from
		}
		return main.readsTransfers(one.Rate)
	case scenario.Cancels:
		return main.cancelsReviews(one.Rate)
	case scenario.Approvals:
		return main.approvesPayouts(one.Rate)
	case scenario.Transfers, scenario.Payouts, scenario.Orders, scenario.Buyers:
	}
	t := p.caller(one.Tenant - 1)
	t.prefix = fmt.Sprintf("%s-%d-", one.Name, p.loads)
	if one.Class != "" && p.run.o.Mode == "" {
		t.tenant.Key = t.tenant.Keys[one.Class]
	}
	switch {
	case one.Clients == scenario.Insistent:
		c := newInsistent(t, clientPause)
		p.insists = append(p.insists, c)
		return c.insists(one.Rate)
	case one.Clients == scenario.Copying:
		c := newCopier(t, clientPause)
		c.bases = p.bases
		p.copies = append(p.copies, c)
		return c.copies(one.Rate)
	case one.Send == scenario.Payouts:
		return t.sendsPayouts(one.Rate)
	case one.Send == scenario.Orders:
		return t.placesOrders(one.Rate)
	case one.Send == scenario.Buyers:
		p.buys = t
		return t.buysOne(p.rare, one.Rate)
	}
	p.senders[one.Tenant] = t
	return t.sendsTransfers(one.Rate)
}
