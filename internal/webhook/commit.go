package webhook

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/webhook/internal/webhookdb"
)

// commit writes down what came of a round, in one transaction, if the endpoint is still in this hand. It says
// whether to go on; otherwise the endpoint is given back by the same transaction.
func (h *hand) commit(stopping context.Context, r *round) (bool, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(stopping), statementMax)
	defer cancel()
	asked := h.d.Now()
	var rows []webhookdb.WebhookEndpoints
	var now time.Time
	var p *plan
	err := pgtx.Pipeline(ctx, h.d.Pool, "advance webhook endpoint",
		func(read *pgx.Batch) {
			pgtx.Read(read, func(e webhookdb.WebhookEndpoints) { rows = append(rows, e) }, webhookdb.LockHeld,
				h.e.TenantID, h.e.ID, h.e.Claims)
			pgtx.Read(read, func(r struct{ Now time.Time }) { now = r.Now }, "SELECT clock_timestamp()")
		},
		func(write *pgx.Batch) error {
			if len(rows) == 0 {
				return errLost
			}
			p = settle(rows[0], r, h.from, now, h.d.Random)
			p.more = p.more && stopping.Err() == nil && asked.Before(h.turn)
			p.row.HeldUntil = now
			if p.more {
				p.row.HeldUntil = now.Add(lease)
			}
			if err := h.write(ctx, write, p, now); err != nil {
				return err
			}
			return h.writeAttempts(ctx, write, r, now)
		})
	if err != nil {
		return false, fmt.Errorf("advance endpoint %s: %w", h.e.ID, err)
	}
	h.observe(r, p, rows[0])
	p.row.Backlog += int32(len(p.kept) - len(p.delivered)) //nolint:gosec // the items of a round
	h.e, h.from, h.asked = p.row, p.row.Place, asked
	return p.more, nil
}

// write queues a plan: the endpoint, its backlog, its tasks, and the log of attempts.
func (h *hand) write(ctx context.Context, batch *pgx.Batch, p *plan, now time.Time) error {
	e := p.row
	err := webhookdb.New().AdvanceEndpoint(ctx, pgtx.Into(batch), webhookdb.AdvanceEndpointParams{
		Place: e.Place, More: int32(len(p.kept) - len(p.delivered)), //nolint:gosec // the items of a round
		Failures: e.Failures, FailingSince: e.FailingSince, Probes: e.Probes, LastError: e.LastError,
		Status: e.Status, StatusReason: e.StatusReason, NextAt: e.NextAt, HeldUntil: e.HeldUntil,
		UpdatedAt: e.UpdatedAt, TenantID: e.TenantID, ID: e.ID, Claims: e.Claims,
	})
	if err != nil {
		return err
	}
	for _, queue := range []func(context.Context, *pgx.Batch, time.Time) error{
		p.writeKept, p.writeMissed, p.writeDelivered, p.writeTasks,
	} {
		if err := queue(ctx, batch, now); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) writeKept(ctx context.Context, batch *pgx.Batch, now time.Time) error {
	if len(p.kept) == 0 {
		return nil
	}
	k := webhookdb.InsertBacklogParams{EndpointID: p.row.ID, TenantID: p.row.TenantID, Now: now}
	for _, i := range p.kept {
		k.Aggregates, k.Seqs = append(k.Aggregates, i.event.AggregateID), append(k.Seqs, i.event.Seq)
		k.Types, k.Places = append(k.Types, i.event.Type), append(k.Places, i.event.Place)
		k.Failed, k.Due = append(k.Failed, i.failed), append(k.Due, i.due)
		k.Statuses = append(k.Statuses, int32(i.result.status)) //nolint:gosec // an HTTP status
		k.Errors = append(k.Errors, i.result.text)
	}
	return webhookdb.New().InsertBacklog(ctx, pgtx.Into(batch), k)
}

func (p *plan) writeMissed(ctx context.Context, batch *pgx.Batch, now time.Time) error {
	if len(p.missed) == 0 {
		return nil
	}
	m := webhookdb.FailBacklogParams{EndpointID: p.row.ID, TenantID: p.row.TenantID, Now: now}
	for _, i := range p.missed {
		m.Aggregates, m.Seqs = append(m.Aggregates, i.event.AggregateID), append(m.Seqs, i.event.Seq)
		m.Dead, m.Due = append(m.Dead, i.dead), append(m.Due, i.due)
		m.Statuses = append(m.Statuses, int32(i.result.status)) //nolint:gosec // an HTTP status
		m.Errors = append(m.Errors, i.result.text)
	}
	return webhookdb.New().FailBacklog(ctx, pgtx.Into(batch), m)
}

// writeDelivered comes after the backlog has what is new: then the first event of each aggregate is known.
func (p *plan) writeDelivered(ctx context.Context, batch *pgx.Batch, now time.Time) error {
	q, write, endpoint, tenant := webhookdb.New(), pgtx.Into(batch), p.row.ID, p.row.TenantID
	if len(p.delivered) > 0 {
		d := webhookdb.DeleteBacklogParams{EndpointID: endpoint, TenantID: tenant}
		for _, ref := range p.delivered {
			d.Aggregates, d.Seqs = append(d.Aggregates, ref.AggregateID), append(d.Seqs, ref.Seq)
		}
		if err := q.DeleteBacklog(ctx, write, d); err != nil {
			return err
		}
	}
	if len(p.promote) > 0 {
		err := q.PromoteBacklog(ctx, write, webhookdb.PromoteBacklogParams{
			Now: now, EndpointID: endpoint, TenantID: tenant, Aggregates: p.promote,
		})
		if err != nil {
			return err
		}
	}
	if !p.recovered {
		return nil
	}
	return q.RecallBacklog(ctx, write, recall(p.row, now))
}

func recall(e webhookdb.WebhookEndpoints, now time.Time) webhookdb.RecallBacklogParams {
	return webhookdb.RecallBacklogParams{
		Now: now, NotBefore: now.Add(deadGrace - deadAfter), EndpointID: e.ID, TenantID: e.TenantID,
	}
}

func (p *plan) writeTasks(ctx context.Context, batch *pgx.Batch, _ time.Time) error {
	for _, id := range p.done {
		err := webhookdb.New().DeleteTask(ctx, pgtx.Into(batch), webhookdb.DeleteTaskParams{
			ID: id, EndpointID: p.row.ID, TenantID: p.row.TenantID,
		})
		if err != nil {
			return err
		}
	}
	for _, moved := range p.moved {
		if err := webhookdb.New().AdvanceTask(ctx, pgtx.Into(batch), moved); err != nil {
			return err
		}
	}
	return nil
}

// writeAttempts queues the log of what was tried. When it began is told by Postgres's clock: as long before
// now as by the process's.
func (h *hand) writeAttempts(ctx context.Context, batch *pgx.Batch, r *round, now time.Time) error {
	ours := h.d.Now()
	a := webhookdb.InsertAttemptsParams{TenantID: h.e.TenantID, EndpointID: h.e.ID}
	for _, i := range r.all() {
		if !i.result.tried {
			continue
		}
		a.EventIds, a.EventTypes = append(a.EventIds, i.message.ID), append(a.EventTypes, i.event.Type)
		a.Kinds, a.Attempts = append(a.Kinds, i.kind), append(a.Attempts, i.attempts+1)
		a.At = append(a.At, now.Add(i.result.at.Sub(ours)))
		a.Outcomes = append(a.Outcomes, i.result.outcome)
		a.Statuses = append(a.Statuses, int32(i.result.status)) //nolint:gosec // an HTTP status
		a.TookUs, a.Errors = append(a.TookUs, i.result.took.Microseconds()), append(a.Errors, i.result.text)
	}
	if len(a.EventIds) == 0 {
		return nil
	}
	return webhookdb.New().InsertAttempts(ctx, pgtx.Into(batch), a)
}

// observe tells what has been written down.
func (h *hand) observe(r *round, p *plan, before webhookdb.WebhookEndpoints) {
	o := h.d.Observer
	dead := 0
	for _, m := range p.missed {
		if m.dead {
			dead++
		}
	}
	if dead > 0 && o.Died != nil {
		o.Died(dead)
	}
	if before.Status != p.row.Status && o.Disabled != nil {
		o.Disabled()
	}
	if o.Delivered == nil {
		return
	}
	for _, i := range r.all() {
		if i.kind == KindEvent && i.result.delivered {
			o.Delivered(i.result.at.Add(i.result.took).Sub(i.event.At))
		}
	}
}
