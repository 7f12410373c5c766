package order

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/order/internal/orderdb"
	"example.com/holdfast/internal/telemetry"
)

// The bounds of a look at the open promises, whatever there is.
const (
	// OverdueMax is up to where promises are counted that have passed.
	OverdueMax = 1_000
	// openLookRows is how many orders are looked at for their tenants, and openTenantsMax how many tenants
	// are told.
	openLookRows   = 1_000
	openTenantsMax = 100
)

// Promises is how the open promises stand, by Postgres's clock.
type Promises struct {
	// Age is how long ago the order with the most urgent promise was placed, or zero.
	Age time.Duration
	// Overdue is how many open orders are past their promise; at most OverdueMax.
	Overdue int
	// Open counts for the busiest tenants the open orders, of the most urgent ones.
	Open map[uuid.UUID]int
}

// ReadPromises looks at the open promises of all tenants.
func ReadPromises(ctx context.Context, db orderdb.DBTX) (Promises, error) {
	q := orderdb.New()
	row, err := q.SystemPromises(ctx, db, OverdueMax)
	if err != nil {
		return Promises{}, fmt.Errorf("read promises of orders: %w", err)
	}
	open, err := q.SystemOpenByTenant(ctx, db, orderdb.SystemOpenByTenantParams{
		LookMax: openLookRows, PageSize: openTenantsMax,
	})
	if err != nil {
		return Promises{}, fmt.Errorf("count open orders: %w", err)
	}
	p := Promises{
		Age:     time.Duration(row.AgeSeconds * float64(time.Second)),
		Overdue: int(row.Overdue), Open: make(map[uuid.UUID]int, len(open)),
	}
	for _, o := range open {
		p.Open[o.TenantID] = int(o.Orders)
	}
	return p, nil
}

// kept says whether the promise of an order that has ended was kept: it ended in time, and not since we gave
// it up. One that is canceled for its stock or its payment got its answer.
func (o Order) kept() bool {
	switch o.Reason {
	case ReasonExpired, ReasonPoison:
		return false
	case ReasonClient, ReasonOperator, ReasonStock, ReasonSlot, ReasonPayment, "":
	}
	return !o.UpdatedAt.After(o.PromiseAt)
}

// fault is the reason, as transfers say it, of an end that we ourselves are to blame for, or "".
func (o Order) fault() string {
	switch o.Reason {
	case ReasonExpired:
		return telemetry.ReasonDeadline
	case ReasonPoison:
		return telemetry.ReasonPoison
	case ReasonClient, ReasonOperator, ReasonStock, ReasonSlot, ReasonPayment, "":
	}
	return ""
}

// countEnds tells the metrics what a committed batch ended, and which promises were kept. All steps of an
// order are work on our own database.
func (s *Service) countEnds(ended []Order) {
	s.count(ended)
	for _, o := range ended {
		s.cfg.Metrics.PromiseEnded(telemetry.KindOrder, o.kept())
		if reason := o.fault(); reason != "" {
			s.cfg.Metrics.TerminalFailure(queue, reason)
		}
	}
}
