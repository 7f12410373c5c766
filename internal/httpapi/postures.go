package httpapi

import (
	"context"
	"net/http"

	"example.com/holdfast/internal/httpapi/internal/adminapi"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
)

// ListTransferAttempts reads what was tried for a transfer in vain.
func (s *adminServer) ListTransferAttempts(
	ctx context.Context, in adminapi.ListTransferAttemptsRequestObject,
) (adminapi.ListTransferAttemptsResponseObject, error) {
	callOf(ctx).tenantID = in.TenantID
	found, err := s.cfg.Transfers.Attempts(ctx, transfer.Ref{TenantID: in.TenantID, ID: in.ID})
	if err != nil {
		return nil, err
	}
	out := adminapi.ListTransferAttempts200JSONResponse{Attempts: make([]adminapi.Attempt, len(found))}
	for i, a := range found {
		out.Attempts[i] = adminapi.Attempt{Step: a.Step, Kind: a.Kind, Detail: a.Detail, At: a.At.UTC()}
	}
	return out, nil
}

// ListRiskPostures reads the versions of a tenant's postures.
func (s *adminServer) ListRiskPostures(
	ctx context.Context, in adminapi.ListRiskPosturesRequestObject,
) (adminapi.ListRiskPosturesResponseObject, error) {
	callOf(ctx).tenantID = in.TenantID
	limit, err := pageSize(in.Params.Limit)
	if err != nil {
		return nil, err
	}
	found, err := s.cfg.Transfers.Postures(ctx, in.TenantID, limit)
	if err != nil {
		return nil, err
	}
	out := adminapi.ListRiskPostures200JSONResponse{Postures: make([]adminapi.RiskPosture, len(found))}
	for i, p := range found {
		out.Postures[i] = renderPosture(p)
	}
	return out, nil
}

func renderPosture(p transfer.Posture) adminapi.RiskPosture {
	return adminapi.RiskPosture{
		Currency: p.Currency, Version: p.Version, OpenUpTo: p.OpenUpTo, Actor: p.Actor, Reason: p.Reason,
		SetAt: p.SetAt.UTC(),
	}
}

// SetRiskPosture says what happens to a tenant's transfers when the risk service cannot be asked.
func (s *adminServer) SetRiskPosture(
	ctx context.Context, in adminapi.SetRiskPostureRequestObject,
) (adminapi.SetRiskPostureResponseObject, error) {
	c := callOf(ctx)
	c.tenantID = in.TenantID
	var request adminapi.NewRiskPosture
	hash, err := decodeNamed(c, in.Currency, &request)
	if err != nil {
		return nil, err
	}
	fields := checkReason(request.Reason)
	if _, ok := money.Exponent(in.Currency); !ok {
		const why = "has to be an active ISO 4217 code"
		fields = append(fields, problem.Field{Pointer: "currency", Detail: why})
	}
	if request.OpenUpTo == nil {
		fields = append(fields, problem.Field{Pointer: "/open_up_to", Detail: "has to be there"})
	}
	if err := invalid(fields); err != nil {
		return nil, err
	}
	response, err := s.cfg.Transfers.ChangePosture(ctx, s.keyed(c, hash), transfer.Posture{
		TenantID: in.TenantID, Currency: in.Currency, OpenUpTo: *request.OpenUpTo, Actor: c.actor,
		Reason: request.Reason,
	}, func(p transfer.Posture) idempotency.Response {
		return idempotency.Response{Status: http.StatusOK, Body: marshal(renderPosture(p))}
	})
	return stored{response, c}, err
}
