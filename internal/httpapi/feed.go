package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/budget"
	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/problem"
)

const (
	// feedRowsMax bounds how many events one look goes through to find those of a type.
	feedRowsMax = 4 * outbox.LogPageMax
	// feedLookEvery is how often who waits looks without being rung for: a ring may be lost.
	feedLookEvery = 5 * time.Second
	// feedLookMax is kept back of a request's time for the look after its wait.
	feedLookMax = 250 * time.Millisecond
)

// Feed is the log of what happens.
type Feed interface {
	// Read reads a tenant's events behind a place, in the order of their places. A page that is shorter than
	// limit is the last one for now.
	Read(ctx context.Context, tenantID uuid.UUID, after int64, limit int) ([]outbox.Logged, error)
	// Extent says which places the log has.
	Extent(ctx context.Context) (outbox.Extent, error)
	// Next is closed when the tenant may have events that were not there when Next was called. That may be
	// lost, so nobody counts on it alone.
	Next(tenantID uuid.UUID) <-chan struct{}
}

// Encode writes events as the messages that leave, one for each.
type Encode func(ctx context.Context, events []outbox.Logged) ([]cloudevent.Message, error)

// follower reads the events of one tenant from a place on.
type follower struct {
	feed   Feed
	tenant uuid.UUID
	filter typeFilter
	// place is how far it has come: what is up to here and wanted was returned.
	place int64
	// last is the end of the log as it was before the next look begins. A look that reads to the end has seen
	// everything up to there, though most places belong to other tenants.
	last int64
	// anywhere says that it does not matter what the log has forgotten before the first look.
	anywhere bool
}

// follow places a follower: behind a cursor, at the end, or in front of the oldest event.
func (s *shared) follow(
	ctx context.Context, at cursorIn, fromNow bool, filter typeFilter,
) (*follower, error) {
	if s.cfg.Feed == nil {
		return nil, problem.New(problem.Unavailable, "This instance does not serve events.")
	}
	extent, err := s.cfg.Feed.Extent(ctx)
	if err != nil {
		return nil, err
	}
	f := &follower{feed: s.cfg.Feed, tenant: callOf(ctx).tenantID, filter: filter, last: extent.Last}
	switch {
	case at.text != "":
		f.place, err = at.number(ofEvents, 0)
		if err == nil && (f.place < extent.Forgotten || f.place > extent.Last) {
			err = expired()
		}
	case fromNow:
		f.place = extent.Last
	default:
		f.place, f.anywhere = extent.Forgotten, true
	}
	return f, err
}

func expired() error {
	return problem.New(problem.CursorExpired, "The log has no more what came after this cursor.")
}

// look reads the next events that are wanted, at most so many, and says whether that is all for now.
//
// What the log has forgotten is asked after the reading: what was there then, the reading has not missed.
func (f *follower) look(ctx context.Context, limit int) ([]outbox.Logged, bool, error) {
	var found []outbox.Logged
	place, end := f.place, false
	for rows := 0; rows < feedRowsMax && len(found) < limit && !end; {
		size := limit - len(found)
		if f.filter != nil {
			size = outbox.LogPageMax
		}
		page, err := f.feed.Read(ctx, f.tenant, place, size)
		if err != nil {
			return nil, false, err
		}
		rows += len(page)
		taken := f.take(page, &found, limit)
		if taken > 0 {
			place = page[taken-1].Place
		}
		end = len(page) < size && taken == len(page)
	}
	extent, err := f.feed.Extent(ctx)
	if err != nil {
		return nil, false, err
	}
	if !f.anywhere && f.place < extent.Forgotten {
		return nil, false, expired()
	}
	if end {
		place = max(place, f.last)
	}
	f.place, f.last, f.anywhere = place, extent.Last, false
	return found, end, nil
}

// take adds what is wanted of a page to what was found, and says how much of the page it went through.
func (f *follower) take(page []outbox.Logged, found *[]outbox.Logged, limit int) int {
	for i, e := range page {
		if len(*found) == limit {
			return i
		}
		if f.filter.wants(e.Type) {
			*found = append(*found, e)
		}
	}
	return len(page)
}

// await looks until there are events, but no longer than it may wait.
func (s *shared) await(
	ctx context.Context, f *follower, limit int, wait time.Duration,
) ([]outbox.Logged, error) {
	if left, ok := budget.Remaining(ctx, s.cfg.Now()); ok {
		wait = min(wait, budget.HandOn(left)-feedLookMax)
	}
	if wait > 0 && s.waiting.enter(s.cfg.WaitersMax) {
		defer s.waiting.leave()
	} else {
		wait = 0
	}
	until := s.cfg.Now().Add(wait)
	for {
		rung := f.feed.Next(f.tenant)
		found, end, err := f.look(ctx, limit)
		left := until.Sub(s.cfg.Now())
		if err != nil || len(found) > 0 || !end || left <= 0 {
			return found, err
		}
		if !s.pause(ctx, rung, min(left, feedLookEvery)) || !s.cfg.Now().Before(until) {
			return nil, nil
		}
	}
}

// pause waits for a ring, but no longer than that. It says whether there is a reason to go on: there is none
// when the request or this instance ends.
func (s *shared) pause(ctx context.Context, rung <-chan struct{}, most time.Duration) bool {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-rung:
	case <-timer.C:
	case <-ctx.Done():
		return false
	case <-s.cfg.Ending:
		return false
	}
	return true
}

// eventPage is a page of the feed. The messages are written as they are, so that they are the same bytes
// everywhere.
type eventPage struct {
	messages []cloudevent.Message
	next     string
}

// VisitListEventsResponse writes the answer.
func (p eventPage) VisitListEventsResponse(w http.ResponseWriter) error {
	var text bytes.Buffer
	text.WriteString(`{"events":[`)
	for i, m := range p.messages {
		if i > 0 {
			text.WriteByte(',')
		}
		text.Write(m.Body)
	}
	text.WriteString(`],"next_cursor":"` + p.next + `"}`)
	write(w, typeJSON, http.StatusOK, text.Bytes())
	return nil
}

// ListEvents pages through what happens to a tenant, or streams it.
func (s *publicServer) ListEvents(
	ctx context.Context, in publicapi.ListEventsRequestObject,
) (publicapi.ListEventsResponseObject, error) {
	c, q := callOf(ctx), in.Params
	filter, fields := readFilter(q.Type)
	if err := invalid(append(fields, checkStart(q)...)); err != nil {
		return nil, err
	}
	limit, err := pageSize(q.Limit)
	if err != nil {
		return nil, err
	}
	at := cursorIn{"cursor", q.Cursor}
	if last := c.header.Get(lastEventID); c.route.class == streams && last != "" {
		at = cursorIn{lastEventID, last}
	}
	f, err := s.follow(ctx, at, q.From != "", filter)
	if err != nil {
		return nil, err
	}
	if c.route.class == streams {
		return streamed(func(w http.ResponseWriter) { s.stream(ctx, w, f) }), nil
	}
	found, err := s.await(ctx, f, limit, time.Duration(q.Wait)*time.Second)
	if err != nil {
		return nil, err
	}
	messages, err := s.encode(ctx, found)
	return eventPage{messages, numberCursor(ofEvents, f.place)}, err
}

func checkStart(q publicapi.ListEventsParams) []problem.Field {
	var fields []problem.Field
	switch {
	case q.From != "" && !q.From.Valid():
		fields = append(fields, problem.Field{Pointer: "from", Detail: "has to be now"})
	case q.From != "" && q.Cursor != "":
		fields = append(fields, problem.Field{Pointer: "from", Detail: "goes without a cursor"})
	}
	if most := int32(waitMax / time.Second); q.Wait < 0 || q.Wait > most {
		why := fmt.Sprintf("has to be 0 to %d", most)
		fields = append(fields, problem.Field{Pointer: "wait", Detail: why})
	}
	return fields
}

func (s *shared) encode(ctx context.Context, events []outbox.Logged) ([]cloudevent.Message, error) {
	if len(events) == 0 {
		return nil, nil
	}
	return s.cfg.Encode(ctx, events)
}
