package ledger

import (
	"context"

	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/ledger/internal/ledgerdb"
	"example.com/holdfast/internal/pgtx"
)

// Write queues everything that the book decided.
func (b *Book) Write(ctx context.Context, write *pgx.Batch) error {
	db, q := pgtx.Into(write), ledgerdb.New()
	for _, queue := range []func() error{
		func() error { return b.writeBalances(ctx, q, db) },
		func() error { return b.writeHolds(ctx, q, db) },
		func() error { return b.writeEnded(ctx, q, db) },
		func() error { return b.writePostings(ctx, q, db) },
	} {
		if err := queue(); err != nil {
			return err
		}
	}
	return nil
}

func (b *Book) writeBalances(ctx context.Context, q *ledgerdb.Queries, db pgtx.Writer) error {
	var p ledgerdb.WriteBalancesParams
	for ref, l := range b.locked {
		if l.dirty {
			p.Tenants, p.Accounts = append(p.Tenants, ref.TenantID), append(p.Accounts, ref.ID)
			p.Posted, p.Held = append(p.Posted, l.posted), append(p.Held, l.held)
			p.Versions = append(p.Versions, l.version)
		}
	}
	if len(p.Tenants) == 0 {
		return nil
	}
	return q.WriteBalances(ctx, db, p)
}

func (b *Book) writeHolds(ctx context.Context, q *ledgerdb.Queries, db pgtx.Writer) error {
	if len(b.holds) == 0 {
		return nil
	}
	p := ledgerdb.InsertHoldsParams{Now: b.now}
	for _, h := range b.holds {
		p.Tenants, p.Ids = append(p.Tenants, h.ref.TenantID), append(p.Ids, h.id)
		p.Accounts, p.Amounts = append(p.Accounts, h.ref.ID), append(p.Amounts, h.amount)
		p.ExpiresAt = append(p.ExpiresAt, h.expires)
	}
	return q.InsertHolds(ctx, db, p)
}

func (b *Book) writeEnded(ctx context.Context, q *ledgerdb.Queries, db pgtx.Writer) error {
	if len(b.ended) == 0 {
		return nil
	}
	p := ledgerdb.EndHoldsParams{Now: b.now}
	for _, h := range b.ended {
		p.Tenants, p.Ids = append(p.Tenants, h.ref.TenantID), append(p.Ids, h.id)
		p.Accounts, p.Amounts = append(p.Accounts, h.ref.ID), append(p.Amounts, h.amount)
		p.Statuses, p.Captured = append(p.Statuses, h.status), append(p.Captured, h.captured)
	}
	return q.EndHolds(ctx, db, p)
}

func (b *Book) writePostings(ctx context.Context, q *ledgerdb.Queries, db pgtx.Writer) error {
	if len(b.entries) == 0 {
		return nil
	}
	e := ledgerdb.InsertEntriesParams{Now: b.now}
	for _, n := range b.entries {
		e.Tenants, e.Ids = append(e.Tenants, n.tenantID), append(e.Ids, n.id)
		e.Kinds, e.Descriptions = append(e.Kinds, n.kind), append(e.Descriptions, n.description)
	}
	if err := q.InsertEntries(ctx, db, e); err != nil {
		return err
	}
	p := ledgerdb.InsertPostingsParams{Now: b.now}
	for _, n := range b.postings {
		p.Tenants, p.Accounts = append(p.Tenants, n.ref.TenantID), append(p.Accounts, n.ref.ID)
		p.Versions, p.Entries = append(p.Versions, n.version), append(p.Entries, n.entryID)
		p.Amounts, p.PostedAfter = append(p.Amounts, n.amount), append(p.PostedAfter, n.postedAfter)
		p.Currencies = append(p.Currencies, n.currency)
	}
	return q.InsertPostings(ctx, db, p)
}
