package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/client"
	"example.com/holdfast/loadtest/rig"
)

// examplesMax is how many breaks of a claim a report shows.
const examplesMax = 3

// Claim is something that has to be true after a load, however fast it was.
type Claim struct {
	Name     string   `json:"name"`
	Checked  int      `json:"checked"`
	Broken   int      `json:"broken"`
	Examples []string `json:"examples,omitempty"`
}

// Holds says that there is no break.
func (c Claim) Holds() bool { return c.Broken == 0 }

// none claims that none of some checked things is broken.
func none(name string, checked int, broken []string) Claim {
	return Claim{
		Name: name, Checked: checked, Broken: len(broken),
		Examples: broken[:min(len(broken), examplesMax)],
	}
}

// judge holds against each other what was answered, what the feed told, and what is there now.
func (r *run) judge(ctx context.Context) ([]Claim, error) {
	claims := []Claim{r.answers(), r.sameAnswer(), r.cleared()}
	ends, err := r.ends(ctx)
	if err != nil {
		return nil, err
	}
	claims = append(claims, ends...)
	var poor, missing []string
	accounts, skus := 0, 0
	for _, t := range r.tenants {
		balances, err := t.money(ctx)
		poor, accounts = append(poor, balances...), accounts+len(t.own())
		var levels []string
		if err == nil {
			levels, err = t.goods(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("load: check %s: %w", t.name, err)
		}
		missing, skus = append(missing, levels...), skus+len(t.skus)
	}
	claims = append(claims, none("every balance is what settled transfers make of it", accounts, poor))
	if skus > 0 {
		claims = append(claims, none("stock is what confirmed orders left", skus, missing))
	}
	stored, err := r.stored(ctx)
	return append(claims, stored...), err
}

// answers claims that nobody got an answer that no load should get. No answer at all is not one: what became
// of those is asked afterwards.
func (r *run) answers() Claim {
	all := r.counts.sum(everything)
	var broken []string
	for what, n := range all.others {
		for range n {
			broken = append(broken, what)
		}
	}
	slices.Sort(broken)
	sent := int(all.sent) //nolint:gosec // bounded
	c := none("every answer is a success, or a refusal for a moment", sent, broken)
	c.Examples = slices.Compact(slices.Clone(broken))
	c.Examples = c.Examples[:min(len(c.Examples), examplesMax)]
	return c
}

// sameAnswer claims that whoever asked again with a key got what was answered first.
func (r *run) sameAnswer() Claim {
	var broken []string
	for _, t := range r.tenants {
		broken = append(broken, t.book.changed...)
	}
	repeats := r.counts.sum(func(g group) bool { return g.kind == Repeat })
	return none("the same key gets the same answer", int(repeats.good), broken) //nolint:gosec // bounded
}

// cleared claims that of every request it is known what became of it, at the latest when it was asked again.
func (r *run) cleared() Claim {
	var broken []string
	sent := 0
	for _, t := range r.tenants {
		sent += len(t.book.entries)
		for _, e := range t.book.entries {
			if e.isUnclear() {
				broken = append(broken, "key "+e.key(r.name()))
			}
		}
	}
	return none("what got no answer is answered under its key", sent, broken)
}

// ends claims that everything that was accepted has ended, once, and by when it was promised.
func (r *run) ends(ctx context.Context) ([]Claim, error) {
	var lost, twice, late []string
	taken, once := 0, map[uuid.UUID]string{}
	for _, t := range r.tenants {
		taken += len(t.book.taken)
		twice = append(twice, t.feed.twice...)
		for _, e := range t.book.taken {
			key := e.key(r.name())
			if other, known := once[e.id]; known {
				twice = append(twice, fmt.Sprintf("%s %s answers keys %s and %s", e.kind, e.id, other, key))
			}
			once[e.id] = key
			end, ended := t.feed.end(e.id)
			if ended && !end.at.After(e.promise) {
				continue
			}
			why, broken, err := t.ask(ctx, e, end)
			switch {
			case err != nil:
				return nil, fmt.Errorf("load: look at %s %s: %w", e.kind, e.id, err)
			case !ended:
				lost = append(lost, why)
			case broken:
				late = append(late, why)
			}
		}
	}
	return []Claim{
		none("everything that was accepted has ended", taken, lost),
		none("it ended once", taken, twice),
		none("it ended within its promise", taken, late),
	}, nil
}

// ask reads what is said now of something that has not ended, or ended after the time that it was promised
// first: the promise of an order moves once.
func (t *tenant) ask(ctx context.Context, e *entry, end ending) (string, bool, error) {
	var status string
	var promise time.Time
	var err error
	if e.kind == Order {
		var o client.Order
		o, err = t.api.Order(ctx, e.id)
		status, promise = string(o.Status), o.PromiseAt
	} else {
		var one client.Transfer
		one, err = t.api.Transfer(ctx, e.id)
		status, promise = string(one.Status), one.PromiseAt
	}
	var p *client.Problem
	if errors.As(err, &p) && p.Status == 404 {
		return fmt.Sprintf("%s %s is not there any more", e.kind, e.id), true, nil
	}
	if end.status == "" {
		return fmt.Sprintf("%s %s is %s, and no event says that it ended; promised by %s", e.kind, e.id,
			status, promise.Format(time.RFC3339)), true, err
	}
	return fmt.Sprintf("%s %s was %s %s after its promise", e.kind, e.id, end.status,
		short(end.at.Sub(promise))), end.at.After(promise), err
}

// money lists the accounts of the load that do not have what they had and what settled transfers moved.
func (t *tenant) money(ctx context.Context) ([]string, error) {
	var broken []string
	for _, id := range t.own() {
		b, err := t.api.Balance(ctx, id)
		if err != nil {
			return nil, err
		}
		t.feed.mu.Lock()
		want := t.posted[id] + t.feed.moved[id]
		t.feed.mu.Unlock()
		if b.Posted != want {
			broken = append(broken, fmt.Sprintf("account %s has %d and should have %d", id, b.Posted, want))
		}
		if b.Held != nil && *b.Held != 0 {
			broken = append(broken, fmt.Sprintf("account %s has %d held and nothing open", id, *b.Held))
		}
	}
	sum := func(of map[uuid.UUID]int64) int64 {
		all := int64(0)
		for _, id := range t.own() {
			all += of[id]
		}
		return all
	}
	if moved := sum(t.feed.moved); moved != 0 {
		broken = append(broken, fmt.Sprintf("%d came from elsewhere, or went there", moved))
	}
	return broken, nil
}

// goods lists the SKUs of the load that did not leave by confirmed orders alone.
func (t *tenant) goods(ctx context.Context) ([]string, error) {
	var broken []string
	sold := map[uuid.UUID]int64{}
	for _, e := range t.book.taken {
		if end, _ := t.feed.end(e.id); e.kind == Order && end.status == string(client.OrderStatusConfirmed) {
			sold[t.skus[e.skus[0]]]++
			sold[t.skus[e.skus[1]]]++
		}
	}
	for _, id := range t.skus {
		level, err := t.level(ctx, id)
		if err != nil {
			return nil, err
		}
		if want := t.onHand[id] - sold[id]; level.OnHand != want || level.Reserved != 0 {
			broken = append(broken, fmt.Sprintf("of SKU %s %d are there, %d reserved; it should be %d and 0",
				id, level.OnHand, level.Reserved, want))
		}
	}
	return broken, nil
}

// stored checks the SQL invariants of the database, if there is one to look into.
func (r *run) stored(ctx context.Context) ([]Claim, error) {
	if r.o.Database == "" {
		return nil, nil
	}
	referee, err := rig.NewReferee(ctx, r.o.Database, r.o.Now)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	defer referee.Close(ctx)
	broken, err := referee.Breaks(ctx, rig.Invariants())
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return []Claim{none("the SQL invariants of all packages hold", len(rig.Invariants()), broken)}, nil
}

// describe names an answer that no load should get.
func describe(a answer) string {
	if a.code != "" {
		return fmt.Sprintf("%d %s", a.status, a.code)
	}
	return strings.TrimSpace(fmt.Sprintf("%d %.80s", a.status, a.body))
}
