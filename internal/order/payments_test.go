package order_test

import (
	"context"

	"github.com/google/uuid"

	"example.com/holdfast/internal/app"
	"example.com/holdfast/internal/order"
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
