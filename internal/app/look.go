package app

import (
	"context"
	"errors"
	"slices"
	"time"

	"example.com/holdfast/internal/condition"
	"example.com/holdfast/internal/webhook"
)

// look reads how work fares.
func (o *Operations) look(ctx context.Context) (look, error) {
	seen := look{
		ready: map[string][]time.Duration{}, sinks: map[string]time.Duration{},
		consumers: map[string]time.Duration{},
	}
	queues, queuesErr := o.Queues(ctx)
	for _, q := range queues {
		seen.ready[q.Name] = q.Ages
	}
	lag, lagErr := o.Outbox(ctx)
	seen.outbox = lag.Outbox
	for _, s := range lag.Sinks {
		seen.sinks[s.Name] = s.Age
	}
	for _, c := range lag.Consumers {
		seen.consumers[c.Name] = c.Age
	}
	stats, statsErr := webhook.ReadStats(ctx, o.pool)
	seen.endpoints = map[string]int{"failing": stats.Failing, "disabled": stats.Disabled}
	var lettersErr error
	seen.givenUp, lettersErr = o.lastGivenUp(ctx)
	return seen, errors.Join(queuesErr, lagErr, statsErr, lettersErr)
}

// lastGivenUp reads when something of each kind was given up last.
func (o *Operations) lastGivenUp(ctx context.Context) (map[string]time.Time, error) {
	last := map[string]time.Time{}
	for _, read := range o.graveyards() {
		found, err := read(ctx, 1)
		if err != nil {
			return nil, err
		}
		for _, letter := range found {
			last[letter.Kind] = letter.At
		}
	}
	return last, nil
}

// Wrong says what the database shows to be wrong at this moment. Without earlier looks nothing is known of
// since when, and what only processes see (breakers, saturation, the broker) is not in it.
func (o *Operations) Wrong(ctx context.Context, now time.Time) ([]condition.Active, error) {
	seen, err := o.look(ctx)
	if err != nil {
		return nil, err
	}
	var all []condition.Active
	for _, v := range conditionsOf(seen, now) {
		all = append(all, condition.Active{Condition: v.condition, Subject: v.subject})
	}
	slices.SortStableFunc(all, condition.Active.Compare)
	return all, nil
}
