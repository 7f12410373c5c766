package broker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"example.com/holdfast/internal/condition"
)

const (
	// subject is what the condition holds for.
	subject = "nats"
	// brokerIsAway is what the log says once for each time that it is.
	brokerIsAway = "broker is away"
)

// health is what is known of the broker.
type health struct {
	now func() time.Time
	log *slog.Logger

	mu sync.Mutex
	// awaySince is zero while there is a connection.
	awaySince time.Time
	// failingSince is when messages were refused that no later call has made up for.
	failingSince time.Time
	// complaint is the kind of the last one in the log.
	complaint string
}

// Conditions returns what is wrong with the broker now.
func (b *Broker) Conditions() []condition.Active {
	since := b.health.wrongSince()
	if since.IsZero() {
		return nil
	}
	return []condition.Active{{Condition: condition.BrokerAway, Subject: subject, Since: since}}
}

// Healthy says that there is a connection, and that the broker took what it was given last.
func (b *Broker) Healthy() bool { return b.health.wrongSince().IsZero() }

func (h *health) wrongSince() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.awaySince.IsZero() || !h.failingSince.IsZero() && h.failingSince.Before(h.awaySince) {
		return h.failingSince
	}
	return h.awaySince
}

// back says that there is a connection: the first one, or one again.
func (h *health) back(ctx context.Context) {
	h.mu.Lock()
	h.awaySince = time.Time{}
	h.mu.Unlock()
	h.log.InfoContext(ctx, "broker is there")
}

// gone says that there is no connection. nats.go tells it once for each that is lost, and without an error of
// one that was closed.
func (h *health) gone(ctx context.Context, err error) {
	h.mu.Lock()
	if h.awaySince.IsZero() {
		h.awaySince = h.now()
	}
	h.mu.Unlock()
	if err != nil {
		h.log.WarnContext(ctx, brokerIsAway, slog.Any("error", err))
	}
}

// told logs what a server complains about: of each kind once until it takes messages again, since it may
// complain about each message.
func (h *health) told(ctx context.Context, err error) {
	kind := err
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		kind = inner
	}
	h.mu.Lock()
	known := h.complaint == kind.Error()
	h.complaint = kind.Error()
	h.mu.Unlock()
	if !known {
		h.log.WarnContext(ctx, "broker complains", slog.Any("error", err))
	}
}

// judge takes what a Publish came to. A caller that left says nothing about the broker.
func (h *health) judge(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.failingSince, h.complaint = time.Time{}, ""
	case h.failingSince.IsZero() && !errors.Is(err, context.Canceled):
		h.failingSince = h.now()
	}
}
