package webhook

import (
	"context"
	"fmt"
	"time"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/webhook/internal/webhookdb"
)

const (
	// resendEvents is how many events of a resend a round has at most, tasksAtOnce how many tasks.
	resendEvents = 16
	tasksAtOnce  = 4
	// resendTries is how often an event of a resend is tried before it is passed over.
	resendTries = 5
)

// task is a part of what a tenant asked for.
type task struct {
	webhookdb.DueTasksRow
	read  int64 // of a resend: up to where this part goes
	items []*item
}

func (h *hand) loadTasks(ctx context.Context, r *round) error {
	rows, err := webhookdb.New().DueTasks(ctx, h.d.Pool, webhookdb.DueTasksParams{
		EndpointID: h.e.ID, TenantID: h.e.TenantID, PageSize: tasksAtOnce,
	})
	if err != nil {
		return wrap("read tasks", err)
	}
	for _, row := range rows {
		t := &task{DueTasksRow: row}
		switch {
		case row.Kind == KindPing:
			ping, err := h.d.EncodePing(cloudevent.Ping{
				ID: fmt.Sprintf("ping-%d", row.ID), TenantID: h.e.TenantID, EndpointID: h.e.ID,
				At: row.CreatedAt,
			})
			if err != nil {
				return err
			}
			t.items = []*item{{kind: KindPing, event: outbox.Logged{Event: outbox.Event{
				Type: ping.Type, AggregateID: h.e.ID, At: ping.At,
			}}, message: ping}}
		case r.probe:
			continue // what goes again waits until the endpoint is well
		default:
			if err := h.loadResend(ctx, t); err != nil {
				return err
			}
		}
		r.tasks = append(r.tasks, t)
	}
	return nil
}

// loadResend reads the next events of a resend. What is in the backlog is left to it.
func (h *hand) loadResend(ctx context.Context, t *task) error {
	events, err := outbox.ReadLog(ctx, h.d.Pool, h.e.TenantID, t.Done, resendEvents)
	if err != nil {
		return err
	}
	t.read = t.Last
	p := webhookdb.HeldBackParams{EndpointID: h.e.ID, TenantID: h.e.TenantID}
	for _, e := range events {
		if e.Place <= t.Last && wants(h.e.Types, e.Type) {
			t.items = append(t.items, &item{kind: KindResend, event: e})
			p.Aggregates, p.Seqs = append(p.Aggregates, e.AggregateID), append(p.Seqs, e.Seq)
		}
	}
	if n := len(events); n == resendEvents {
		t.read = min(t.Last, events[n-1].Place)
	}
	held, err := webhookdb.New().HeldBack(ctx, h.d.Pool, p)
	if err != nil {
		return wrap("read backlog", err)
	}
	back := map[outbox.Ref]bool{}
	for _, row := range held {
		back[outbox.Ref{AggregateID: row.AggregateID, Seq: row.Seq}] = true
	}
	kept := t.items[:0]
	for _, i := range t.items {
		if !back[i.ref()] {
			kept = append(kept, i)
		}
	}
	t.items = kept
	if len(kept) > 0 {
		kept[0].attempts = t.Attempts
	}
	return nil
}

// settleTasks ends pings that were sent, and moves resends on.
func (p *plan) settleTasks(r *round, now time.Time, random func() float64) {
	for _, t := range r.tasks {
		if t.Kind == KindPing {
			if t.items[0].result.tried {
				p.done = append(p.done, t.ID)
			}
			continue
		}
		moved := webhookdb.AdvanceTaskParams{
			Done: t.read, DueAt: now, ID: t.ID, EndpointID: p.row.ID, TenantID: p.row.TenantID,
		}
		t.stopAt(&moved, random)
		if moved.Done >= t.Last {
			p.done = append(p.done, t.ID)
			continue
		}
		p.moved = append(p.moved, moved)
		p.more = p.more || !moved.DueAt.After(now)
	}
}

// stopAt lets a resend go on at its first event that was not delivered. Only the first one of a part counts
// its tries: another one is the first of the next part.
func (t *task) stopAt(moved *webhookdb.AdvanceTaskParams, random func() float64) {
	for n, i := range t.items {
		if i.result.delivered {
			continue
		}
		moved.Done = i.event.Place - 1
		if n == 0 && i.result.tried {
			moved.Attempts, moved.DueAt = i.attempts+1, moved.DueAt.Add(i.pause(random))
			if moved.Attempts >= resendTries {
				moved.Done, moved.Attempts = i.event.Place, 0
			}
		}
		return
	}
}
