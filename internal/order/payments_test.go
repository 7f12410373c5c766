package order_test

import (
	"context"

	"github.com/google/uuid"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/outbound/risk"
)

// slowPayments does something after a payment was asked for and before it is accepted.
type slowPayments struct {
	world   world
	between func()
}

// Pay waits for what happens between.
func (p *slowPayments) Pay(ctx context.Context, pay order.Payment) (uuid.UUID, error) {
	p.between()
	return app.NewPayments(p.world.Transfers).Pay(ctx, pay)
}

// Reverse is that of the world.
func (p *slowPayments) Reverse(ctx context.Context, pay order.Payment) error {
	return app.NewPayments(p.world.Transfers).Reverse(ctx, pay)
}

// blockFirst blocks the first transfer that it is asked about and approves the others.
func blockFirst() func(risk.Request) risk.Decision {
	asked := 0
	return func(q risk.Request) risk.Decision {
		asked++ // the script calls one at a time
		if asked == 1 {
			return risk.Decision{Outcome: risk.OutcomeBlock, Reason: "odd", Reference: q.TransferID}
		}
		return risk.Decision{Outcome: risk.OutcomeApprove, Reference: q.TransferID}
	}
}
