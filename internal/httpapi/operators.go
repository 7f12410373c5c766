package httpapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/holdfast/internal/httpapi/internal/adminapi"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
)

// checkMax is how long one check of readiness may take.
const checkMax = time.Second

// adminServer does the operations of the admin contract.
type adminServer struct{ *shared }

// GetLivez says that the process runs.
func (s *adminServer) GetLivez(
	context.Context, adminapi.GetLivezRequestObject,
) (adminapi.GetLivezResponseObject, error) {
	return adminapi.GetLivez200JSONResponse{Status: adminapi.LivenessStatusOk}, nil
}

func run(ctx context.Context, check Check) adminapi.ReadinessCheck {
	ctx, cancel := context.WithTimeout(ctx, checkMax)
	defer cancel()
	out := adminapi.ReadinessCheck{Name: check.Name}
	switch err := check.Run(ctx); {
	case err == nil:
		out.Ok = true
	case errors.Is(err, context.DeadlineExceeded):
		out.Error = fmt.Sprintf("no answer within %s", checkMax)
	default:
		out.Error = err.Error()
	}
	return out
}

// ListReviews lists the transfers that wait for a decision.
func (s *adminServer) ListReviews(
	ctx context.Context, in adminapi.ListReviewsRequestObject,
) (adminapi.ListReviewsResponseObject, error) {
	limit, err := pageSize(in.Params.Limit)
	if err != nil {
		return nil, err
	}
	waiting, err := s.cfg.Transfers.Reviews(ctx, limit)
	if err != nil {
		return nil, err
	}
	out := adminapi.ListReviews200JSONResponse{Reviews: make([]adminapi.Review, len(waiting))}
	for i, t := range waiting {
		out.Reviews[i] = adminapi.Review{TenantID: t.TenantID, Transfer: renderTransfer(t)}
	}
	return out, nil
}

// DecideReview approves or blocks a transfer in review.
func (s *adminServer) DecideReview(
	ctx context.Context, in adminapi.DecideReviewRequestObject,
) (adminapi.DecideReviewResponseObject, error) {
	c := callOf(ctx)
	c.tenantID = in.TenantID
	var request adminapi.ReviewDecision
	hash, err := decode(c, in.ID, &request)
	if err != nil {
		return nil, err
	}
	fields := checkReason(request.Reason)
	event := transfer.Approve
	switch request.Decision {
	case adminapi.ReviewDecisionDecisionApprove:
	case adminapi.ReviewDecisionDecisionBlock:
		event = transfer.Block
	default:
		fields = append(fields, problem.Field{Pointer: "/decision", Detail: "has to be approve or block"})
	}
	if err := invalid(fields); err != nil {
		return nil, err
	}
	response, err := s.cfg.Transfers.Act(ctx, transfer.Action{
		Key: s.keyed(c, hash), ID: in.ID, Event: event, Reason: request.Reason,
		Actor: c.actor, Cause: c.cause(), Render: renderMoved,
	})
	return stored{response, c}, err
}
