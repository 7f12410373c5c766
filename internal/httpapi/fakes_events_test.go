package httpapi

import (
	"context"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/outbox"
)

// fakeFeed is a log in memory.
type fakeFeed struct {
	mu        sync.Mutex
	log       []outbox.Logged
	forgotten int64
	next      map[uuid.UUID]chan struct{}
	// read counts the rows that were read, and encoded the events that were.
	read, encoded int
	// looked, if there is one, is told of every reading, which goes on when it is heard.
	looked chan struct{}
	// during runs between the reading of events and that of the extent.
	during func()
	err    error
	// padding makes messages larger.
	padding string
}

// grow adds an event of a tenant, and rings for it.
func (f *fakeFeed) grow(tenant uuid.UUID, types ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range types {
		place := int64(len(f.log)) + 1
		f.log = append(f.log, outbox.Logged{Place: place, Event: outbox.Event{
			TenantID: tenant, AggregateID: known, Seq: int32(place), Type: name, At: noon,
		}})
	}
	if rung := f.next[tenant]; rung != nil {
		close(rung)
		delete(f.next, tenant)
	}
}

// ring wakes everybody who waits for a tenant's events.
func (f *fakeFeed) ring(tenant uuid.UUID) { f.grow(tenant) }

// forget drops the log up to a place.
func (f *fakeFeed) forget(place int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgotten = place
}

func (f *fakeFeed) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fakeFeed) Read(
	ctx context.Context, tenantID uuid.UUID, after int64, limit int,
) ([]outbox.Logged, error) {
	if f.looked != nil {
		select {
		case f.looked <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var page []outbox.Logged
	for _, e := range f.log[max(after, f.forgotten):] {
		if e.TenantID == tenantID && len(page) < limit {
			page = append(page, e)
		}
	}
	f.read += len(page)
	if f.during != nil {
		f.during()
	}
	return page, f.err
}

func (f *fakeFeed) Extent(context.Context) (outbox.Extent, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return outbox.Extent{Forgotten: f.forgotten, Last: int64(len(f.log))}, f.err
}

func (f *fakeFeed) Next(tenantID uuid.UUID) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next == nil {
		f.next = map[uuid.UUID]chan struct{}{}
	}
	if f.next[tenantID] == nil {
		f.next[tenantID] = make(chan struct{})
	}
	return f.next[tenantID]
}

func (f *fakeFeed) encode(_ context.Context, events []outbox.Logged) ([]cloudevent.Message, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.encoded += len(events)
	messages := make([]cloudevent.Message, len(events))
	for i, e := range events {
		messages[i] = cloudevent.Message{
			ID: cloudevent.ID(e.AggregateID, e.Seq), Type: e.Type, TenantID: e.TenantID,
			AggregateID: e.AggregateID, Seq: e.Seq, Place: e.Place, At: e.At, Body: bodyOf(e, f.padding),
		}
	}
	return messages, nil
}

// bodyOf is an event as a CloudEvent, with a line end in it.
func bodyOf(e outbox.Logged, padding string) []byte {
	return fmt.Appendf(nil, "{\"specversion\":\"1.0\",\n\"id\":%q,\"source\":\"/tenants/%s\",\"type\":%q,"+
		"\"subject\":%[4]q,\"time\":\"2026-11-22T12:00:00Z\",\"datacontenttype\":\"application/json\","+
		"\"dataschema\":\"/v1/event-types/%[3]s/schema\",\"sequence\":\"%010[5]d\",\"partitionkey\":%[4]q,"+
		"\"tenantid\":\"%[2]s\",\"data\":{\"note\":\"<%[6]s>\"}}",
		cloudevent.ID(e.AggregateID, e.Seq), e.TenantID, e.Type, e.AggregateID.String(), e.Seq, padding)
}
