package inventory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/inventory/internal/inventorydb"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
)

// Service reads the inventory and changes SKUs, stock and slots. Orders take from it through a Book.
type Service struct {
	pool *pgxpool.Pool
	q    *inventorydb.Queries
}

// NewService makes a service on a pool.
func NewService(pool *pgxpool.Pool) *Service { return &Service{pool: pool, q: inventorydb.New()} }

// CreateSKU stores a SKU and answers what render says, once per key.
func (s *Service) CreateSKU(
	ctx context.Context, key idempotency.Keyed, n NewSKU, render func(SKU) idempotency.Response,
) (idempotency.Response, error) {
	if err := n.validate(); err != nil {
		return idempotency.Response{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return idempotency.Response{}, fmt.Errorf("make SKU id: %w", err)
	}
	k := SKU{TenantID: key.TenantID, ID: id, Code: n.Code, Name: n.Name, Price: n.Price, Currency: n.Currency}
	work := func(ctx context.Context, tx pgx.Tx, now time.Time) (idempotency.Response, error) {
		k.CreatedAt = now
		return render(k), s.insertSKU(ctx, tx, k)
	}
	return idempotency.Run(ctx, s.pool, "create SKU", key, work)
}

// insertSKU refuses a code that is taken. Two at once meet at the unique index: the later one is a race,
// is done again, and finds the code.
func (s *Service) insertSKU(ctx context.Context, tx pgx.Tx, k SKU) error {
	_, err := s.q.FindCode(ctx, tx, inventorydb.FindCodeParams{TenantID: k.TenantID, Code: k.Code})
	switch {
	case err == nil:
		return problem.New(problem.SKUCodeUsed, "The code %q belongs to another SKU.", k.Code)
	case !errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("find code %q: %w", k.Code, err)
	}
	err = s.q.InsertSKU(ctx, tx, inventorydb.InsertSKUParams(k))
	if err != nil {
		return fmt.Errorf("insert SKU %s: %w", k.ID, err)
	}
	return nil
}

// SKU reads a SKU.
func (s *Service) SKU(ctx context.Context, ref Ref) (SKU, error) {
	return s.readSKU(ctx, s.pool, ref)
}

func (s *Service) readSKU(ctx context.Context, db inventorydb.DBTX, ref Ref) (SKU, error) {
	r, err := s.q.GetSKU(ctx, db, inventorydb.GetSKUParams{TenantID: ref.TenantID, ID: ref.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		return SKU{}, problem.New(problem.NotFound, "SKU %s does not exist.", ref.ID)
	}
	if err != nil {
		return SKU{}, fmt.Errorf("read SKU %s: %w", ref.ID, err)
	}
	return SKU(r), nil
}

// SKUs reads up to limit SKUs of a tenant after an id, in id order.
func (s *Service) SKUs(ctx context.Context, tenantID, after uuid.UUID, limit int) ([]SKU, error) {
	rows, err := s.q.ListSKUs(ctx, s.pool, inventorydb.ListSKUsParams{
		TenantID: tenantID, After: after, PageSize: pageSize(limit),
	})
	if err != nil {
		return nil, fmt.Errorf("list SKUs of tenant %s: %w", tenantID, err)
	}
	skus := make([]SKU, len(rows))
	for i, r := range rows {
		skus[i] = SKU(r)
	}
	return skus, nil
}

// ReadSKUs queues the read of SKUs for another owner's batch. Those that do not exist are not handed on.
func ReadSKUs(read *pgx.Batch, refs []Ref, take func(SKU)) {
	tenants, ids := split(sortedSet(refs, compareRefs))
	pgtx.Read(read, func(r inventorydb.Skus) { take(SKU(r)) }, inventorydb.ReadSKUs, tenants, ids)
}

// ReadSlots queues the read of slots for another owner's batch, without a lock.
func ReadSlots(read *pgx.Batch, refs []Ref, take func(Ref, Slot)) {
	tenants, ids := split(sortedSet(refs, compareRefs))
	pgtx.Read(read, func(r inventorydb.DeliverySlots) {
		take(Ref{r.TenantID, r.ID}, slotFromRow(r))
	}, inventorydb.ReadSlots, tenants, ids)
}

// pageSize keeps a caller's limit between one row and PageMaxRows.
func pageSize(limit int) int32 { return int32(min(max(limit, 1), PageMaxRows)) }

// Stock reads what there is of a SKU, by location.
func (s *Service) Stock(ctx context.Context, ref Ref) ([]Stock, error) {
	if _, err := s.SKU(ctx, ref); err != nil {
		return nil, err
	}
	rows, err := s.q.ListStock(ctx, s.pool, inventorydb.ListStockParams{
		TenantID: ref.TenantID, SkuID: ref.ID, PageSize: PageMaxRows,
	})
	if err != nil {
		return nil, fmt.Errorf("list stock of SKU %s: %w", ref.ID, err)
	}
	stock := make([]Stock, len(rows))
	for i, r := range rows {
		stock[i] = Stock{
			SKU: r.SkuID, Location: r.Location, OnHand: r.OnHand, Reserved: r.Reserved,
			Version: r.Version,
		}
	}
	return stock, nil
}

// ChangeStock restocks or adjusts a SKU at a location by an entry, once per key.
func (s *Service) ChangeStock(
	ctx context.Context, key idempotency.Keyed, c Change, render func(Stock) idempotency.Response,
) (idempotency.Response, error) {
	if err := c.validate(); err != nil {
		return idempotency.Response{}, err
	}
	work := func(ctx context.Context, tx pgx.Tx, _ time.Time) (idempotency.Response, error) {
		stock, err := s.postChange(ctx, tx, key.TenantID, c)
		if err != nil {
			return idempotency.Response{}, err
		}
		return render(stock), nil
	}
	return idempotency.Run(ctx, s.pool, "change stock", key, work)
}

func (s *Service) postChange(ctx context.Context, tx pgx.Tx, tenantID uuid.UUID, c Change) (Stock, error) {
	if _, err := s.readSKU(ctx, tx, Ref{tenantID, c.SKU}); err != nil {
		return Stock{}, err
	}
	if err := s.q.EnsureStock(ctx, tx, inventorydb.EnsureStockParams{
		TenantID: tenantID, SkuID: c.SKU, Location: c.Location,
	}); err != nil {
		return Stock{}, fmt.Errorf("insert stock of SKU %s: %w", c.SKU, err)
	}
	at := place{tenantID, c.SKU, c.Location}
	book := newBook()
	err := book.apply(ctx, tx, func(read *pgx.Batch) { book.lockStock(read, []place{at}) },
		func() error { return book.change(at, c.Kind, c.Quantity, c.Reason) })
	if err != nil {
		return Stock{}, err
	}
	l := book.stock[at]
	return Stock{
		SKU: c.SKU, Location: c.Location, OnHand: l.onHand, Reserved: l.reserved,
		Version: l.version,
	}, nil
}

// apply locks, decides and writes in a transaction that is open already.
func (b *Book) apply(ctx context.Context, tx pgx.Tx, lock func(*pgx.Batch), decide func() error) error {
	var read, write pgx.Batch
	lock(&read)
	b.Stamp(&read)
	if err := tx.SendBatch(ctx, &read).Close(); err != nil {
		return fmt.Errorf("lock inventory: %w", err)
	}
	if err := decide(); err != nil {
		return err
	}
	if err := b.Write(ctx, &write); err != nil {
		return err
	}
	if err := tx.SendBatch(ctx, &write).Close(); err != nil {
		return fmt.Errorf("write inventory: %w", err)
	}
	return nil
}
