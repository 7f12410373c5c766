package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/client"
)

const (
	// feedWait is how long an empty page waits, in seconds, and feedTriesMax how often in a row a page may
	// fail.
	feedWait     = 5
	feedTriesMax = 20
	feedPause    = 200 * time.Millisecond
	// drainPoll is how often it is looked whether all has ended.
	drainPoll = 50 * time.Millisecond
)

// ending is how a transfer or an order ended, as its event tells. Both times are Postgres's.
type ending struct {
	id          string
	status      string
	created, at time.Time
}

// feed is what the events of a tenant told.
type feed struct {
	mu   sync.Mutex
	ends map[uuid.UUID]ending
	// twice are things that ended and then ended again.
	twice []string
	// moved is what settled transfers add to each account.
	moved map[uuid.UUID]int64
}

func newFeed() *feed { return &feed{ends: map[uuid.UUID]ending{}, moved: map[uuid.UUID]int64{}} }

// final are the types of the events that end something, and what it then is.
func final(kind string) (string, bool) {
	switch kind {
	case "transfer.settled", "transfer.blocked", "transfer.canceled", "transfer.expired", "transfer.failed",
		"order.confirmed", "order.canceled":
		_, status, _ := strings.Cut(kind, ".")
		return status, true
	}
	return "", false
}

// fact is what a transfer or an order says of itself in each of its events.
type fact struct {
	From   uuid.UUID `json:"from_account"`
	To     uuid.UUID `json:"to_account"`
	Amount struct {
		Value int64 `json:"value"`
	} `json:"amount"`
	CreatedAt time.Time `json:"created_at"`
}

// take notes an event. One that comes twice has the same id and says nothing new.
func (f *feed) take(e client.CloudEvent) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	status, ended := final(e.Type)
	if !ended {
		return nil
	}
	var data struct {
		Transfer *fact `json:"transfer"`
		Order    *fact `json:"order"`
	}
	err := json.Unmarshal(e.Data, &data)
	about := data.Transfer
	if about == nil {
		about = data.Order
	}
	subject, idErr := uuid.Parse(e.Subject)
	if err = errors.Join(err, idErr); err != nil || about == nil {
		return fmt.Errorf("event %s makes no sense: %w", e.ID, err)
	}
	if before, known := f.ends[subject]; known {
		if before.id != e.ID {
			f.twice = append(f.twice, fmt.Sprintf("%s: %s and then %s", subject, before.status, status))
		}
		return nil
	}
	f.ends[subject] = ending{e.ID, status, about.CreatedAt, e.Time}
	if e.Type == "transfer.settled" {
		f.moved[about.From] -= about.Amount.Value
		f.moved[about.To] += about.Amount.Value
	}
	return nil
}

// end is how something ended; false if it has not yet.
func (f *feed) end(id uuid.UUID) (ending, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.ends[id]
	return e, ok
}

// count is how much has ended.
func (f *feed) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.ends)
}

// begin finds out from where on events are the load's.
func (t *tenant) begin(ctx context.Context) error {
	now := client.ListEventsParams{From: new(client.ListEventsParamsFrom("now"))}
	page, err := t.api.ListEvents(ctx, &now)
	if err != nil {
		return fmt.Errorf("follow: %w", explain(err))
	}
	t.cursor = page.NextCursor
	return nil
}

// pass reads on until the feed has told how some transfers ended. A transfer is settled a moment before its
// event has its place in the feed: who begins in between would count it among what the load moved.
func (t *tenant) pass(ctx context.Context, transfers []uuid.UUID) error {
	ctx, cancel := context.WithTimeout(ctx, fundMax)
	defer cancel()
	t.feed = newFeed()
	for _, id := range transfers {
		for _, told := t.feed.end(id); !told; _, told = t.feed.end(id) {
			page, err := t.page(ctx, &t.cursor)
			if err != nil {
				return fmt.Errorf("wait until the feed tells of transfer %s: %w", id, err)
			}
			t.cursor = page.NextCursor
			if len(page.Events) == 0 {
				pause(ctx, feedPause)
			}
		}
	}
	return nil
}

// follow reads the feeds of all tenants on. The function that it returns ends that, and says what went wrong.
func (r *run) follow(ctx context.Context) func() error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	errs := make([]error, len(r.tenants))
	var group sync.WaitGroup
	for i, t := range r.tenants {
		t.feed = newFeed()
		group.Go(func() { errs[i] = t.read(ctx, t.cursor) })
	}
	return func() error {
		cancel()
		group.Wait()
		return errors.Join(errs...)
	}
}

// read reads page after page until the context ends. A page that is refused is asked for again.
func (t *tenant) read(ctx context.Context, cursor string) error {
	failed := 0
	for ctx.Err() == nil {
		page, err := t.page(ctx, &cursor)
		if err != nil && ctx.Err() == nil {
			if failed++; failed > feedTriesMax {
				return fmt.Errorf("%w of %s: %w", errFeed, t.name, err)
			}
			pause(ctx, feedPause)
		}
		if err != nil {
			continue // or the load has ended
		}
		failed, cursor = 0, page.NextCursor
		if len(page.Events) == 0 {
			pause(ctx, feedPause) // a busy server answers an empty page at once
		}
	}
	return nil
}

// page reads a page of the feed and notes its events.
func (t *tenant) page(ctx context.Context, cursor *string) (client.CloudEventPage, error) {
	page, err := t.api.ListEvents(ctx, &client.ListEventsParams{
		Cursor: cursor, Limit: new(client.Limit(pageSize)), Wait: new(client.Wait(feedWait)),
	})
	if err != nil {
		return page, err
	}
	for _, e := range page.Events {
		if err := t.feed.take(e); err != nil {
			return page, err
		}
	}
	return page, nil
}

// pause lets a while pass, or the context end.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// open are the entries that were accepted and have not ended.
func (r *run) open() []*entry {
	var found []*entry
	for _, t := range r.tenants {
		t.book.mu.Lock()
		for _, e := range t.book.taken {
			if _, ended := t.feed.end(e.id); !ended {
				found = append(found, e)
			}
		}
		t.book.mu.Unlock()
	}
	return found
}

// drain waits until all that was accepted has ended, for a while at most.
func (r *run) drain(ctx context.Context) {
	begin := r.o.Now()
	for left := r.open(); len(left) > 0 && r.o.Now().Sub(begin) < r.o.Drain; left = r.open() {
		pause(ctx, drainPoll)
	}
	r.counts.drained = r.o.Now().Sub(begin)
	r.say("drained for %.1f s, %d have not ended", r.counts.drained.Seconds(), len(r.open()))
}
