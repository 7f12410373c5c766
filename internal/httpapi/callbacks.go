package httpapi

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/outbound/payout"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
)

// ReceivePayoutCallback lets a transfer be looked at that the payout rail has called back about. Whoever
// cannot sign learns nothing, and who can learns no more than that it was heard.
func (s *publicServer) ReceivePayoutCallback(
	ctx context.Context, _ publicapi.ReceivePayoutCallbackRequestObject,
) (publicapi.ReceivePayoutCallbackResponseObject, error) {
	c := callOf(ctx)
	if s.cfg.PayoutCallbackSecret == "" {
		return nil, problem.New(problem.NotFound, "This installation takes no callbacks.")
	}
	callback, err := payout.ReadCallback(s.cfg.PayoutCallbackSecret, c.header, c.body)
	switch {
	case errors.Is(err, payout.ErrBadSignature):
		return nil, problem.Wrap(problem.Unauthenticated, err, "The callback is not signed by the rail.")
	case errors.Is(err, payout.ErrBadCallback):
		return nil, badCallback(c, err)
	case err != nil:
		return nil, err
	}
	if err := c.late(); err != nil {
		return nil, err
	}
	c.tenantID, c.actor = callback.TenantID, "rail"
	ref := transfer.Ref{TenantID: callback.TenantID, ID: callback.TransferID}
	if err := s.cfg.Transfers.Wake(ctx, ref, callback.Reference); err != nil {
		return nil, err
	}
	return publicapi.ReceivePayoutCallback204Response{}, nil
}

// badCallback says what is wrong with a signed body as the other routes do, where its form shows it.
func badCallback(c *call, err error) error {
	if _, err := decode(c, uuid.Nil, new(publicapi.PayoutCallback)); err != nil {
		return err
	}
	return problem.Wrap(problem.ValidationFailed, err, "The callback is not valid.")
}
