package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
)

const (
	// textMaxBytes bounds names of the client's own.
	textMaxBytes = 255
	// reasonMaxBytes bounds reasons.
	reasonMaxBytes = 500
)

// publicServer does the operations of the public contract.
type publicServer struct{ *shared }

// CreateTransfer accepts a transfer.
func (s *publicServer) CreateTransfer(
	ctx context.Context, _ publicapi.CreateTransferRequestObject,
) (publicapi.CreateTransferResponseObject, error) {
	c := callOf(ctx)
	var in publicapi.NewTransfer
	hash, err := decode(c, uuid.Nil, &in)
	if err != nil {
		return nil, err
	}
	if err := invalid(checkTransfer("", in)); err != nil {
		return nil, err
	}
	response, err := s.cfg.Transfers.Create(ctx, transfer.Create{
		Key: s.keyed(c, hash), Items: []transfer.New{newTransfer(in)}, Actor: c.actor, Cause: c.cause(),
		Render: s.renderOne(c),
	})
	return stored{response, c}, err
}

// CreateTransfers accepts many transfers, each by itself.
func (s *publicServer) CreateTransfers(
	ctx context.Context, _ publicapi.CreateTransfersRequestObject,
) (publicapi.CreateTransfersResponseObject, error) {
	c := callOf(ctx)
	items, hash, err := batch(c)
	if err != nil {
		return nil, err
	}
	from := c.origin()
	render := func(results []transfer.Result) idempotency.Response {
		return idempotency.Response{Status: http.StatusOK, Body: marshal(s.results(results, from))}
	}
	response, err := s.cfg.Transfers.Create(ctx, transfer.Create{
		Key: s.keyed(c, hash), Items: items, Actor: c.actor, Cause: c.cause(), Render: render,
	})
	if p := explainAlone(len(items), err); p != nil {
		response, err = render([]transfer.Result{{Refused: p}}), nil
	}
	return stored{response, c}, err
}

// PreviewTransfers shows what would come of many transfers.
func (s *publicServer) PreviewTransfers(
	ctx context.Context, _ publicapi.PreviewTransfersRequestObject,
) (publicapi.PreviewTransfersResponseObject, error) {
	c := callOf(ctx)
	items, _, err := batch(c)
	if err != nil {
		return nil, err
	}
	results, err := s.cfg.Transfers.Preview(ctx, c.tenantID, items)
	if p := explainAlone(len(items), err); p != nil {
		results, err = []transfer.Result{{Refused: p}}, nil
	}
	if err != nil {
		return nil, err
	}
	return publicapi.PreviewTransfers200JSONResponse(s.results(results, c.origin())), nil
}

// explainAlone is the problem of the only item of a batch, which the service answers as an error; the
// contract has a result for every item.
func explainAlone(items int, err error) *problem.Error {
	if items == 1 && problem.Is(err, problem.ValidationFailed) {
		return explain(err)
	}
	return nil
}

func batch(c *call) ([]transfer.New, hash, error) {
	var in publicapi.TransferBatch
	hash, err := decode(c, uuid.Nil, &in)
	if err != nil {
		return nil, hash, err
	}
	if n := len(in.Transfers); n == 0 || n > transfer.BulkMaxItems {
		return nil, hash, problem.Invalid("/transfers", "has to have 1 to %d items", transfer.BulkMaxItems)
	}
	var fields []problem.Field
	items := make([]transfer.New, len(in.Transfers))
	for i, t := range in.Transfers {
		fields = append(fields, checkTransfer("/transfers/"+strconv.Itoa(i), t)...)
		items[i] = newTransfer(t)
	}
	return items, hash, invalid(fields)
}

// checkTransfer finds what the domain does not look for: the form of metadata.
func checkTransfer(pointer string, in publicapi.NewTransfer) []problem.Field {
	return checkMetadata(pointer+"/metadata", in.Metadata)
}

func newTransfer(in publicapi.NewTransfer) transfer.New {
	return transfer.New{
		FromAccount: in.FromAccount, ToAccount: in.ToAccount,
		Amount:          money.Amount{Value: in.Amount.Value, Currency: in.Amount.Currency},
		ClientReference: in.ClientReference, Metadata: orNil(in.Metadata),
	}
}

// orNil takes null for nothing.
func orNil(metadata []byte) []byte {
	if string(metadata) == "null" {
		return nil
	}
	return metadata
}

// renderOne puts the outcome of one transfer into a response. It may run in another goroutine, so it
// keeps only where it comes from.
func (s *shared) renderOne(c *call) func([]transfer.Result) idempotency.Response {
	from := c.origin()
	return func(results []transfer.Result) idempotency.Response {
		if refused := results[0].Refused; refused != nil {
			return s.refusal(refused, from)
		}
		t := results[0].Transfer
		return idempotency.Response{
			Status: http.StatusAccepted, Location: transfers + "/" + t.ID.String(),
			Body: marshal(renderTransfer(t)),
		}
	}
}

func (s *shared) results(results []transfer.Result, from origin) publicapi.TransferResults {
	out := publicapi.TransferResults{Results: make([]publicapi.TransferResult, len(results))}
	for i, r := range results {
		if r.Refused != nil {
			p := s.render(r.Refused, from)
			out.Results[i] = publicapi.TransferResult{Status: p.Status, Problem: p}
			continue
		}
		t := renderTransfer(r.Transfer)
		out.Results[i] = publicapi.TransferResult{Status: http.StatusAccepted, Transfer: t}
	}
	return out
}

func renderTransfer(t transfer.Transfer) publicapi.Transfer {
	return publicapi.Transfer{
		ID: t.ID, Status: publicapi.TransferStatus(t.State), Version: t.Version, Reason: t.Reason,
		FromAccount: t.FromAccount, ToAccount: t.ToAccount,
		Amount:          publicapi.Amount{Value: t.Amount.Value, Currency: t.Amount.Currency},
		ClientReference: t.ClientReference, Metadata: t.Metadata, Reverses: t.Reverses, Reversed: t.Reversed,
		RailReference: t.RailReference,
		Notification:  publicapi.TransferNotification(t.Notification),
		PromiseAt:     t.PromiseAt.UTC(), CreatedAt: t.CreatedAt.UTC(), UpdatedAt: t.UpdatedAt.UTC(),
	}
}

// GetTransfer reads a transfer, after its end if the client prefers to wait.
func (s *publicServer) GetTransfer(
	ctx context.Context, in publicapi.GetTransferRequestObject,
) (publicapi.GetTransferResponseObject, error) {
	ref := transfer.Ref{TenantID: callOf(ctx).tenantID, ID: in.ID}
	t, applied, err := awaited(ctx, s.shared, ref, s.cfg.Transfers.Get, s.cfg.Transfers.Wait)
	if err != nil {
		return nil, err
	}
	return publicapi.GetTransfer200JSONResponse{
		Body:    renderTransfer(t),
		Headers: publicapi.GetTransfer200ResponseHeaders{PreferenceApplied: applied},
	}, nil
}

// CancelTransfer takes an open transfer back.
func (s *publicServer) CancelTransfer(
	ctx context.Context, in publicapi.CancelTransferRequestObject,
) (publicapi.CancelTransferResponseObject, error) {
	c := callOf(ctx)
	var request publicapi.CancelRequest
	hash, err := decode(c, in.ID, &request)
	if err != nil {
		return nil, err
	}
	if err := invalid(checkText("/reason", request.Reason, 0, reasonMaxBytes)); err != nil {
		return nil, err
	}
	response, err := s.cfg.Transfers.Act(ctx, transfer.Action{
		Key: s.keyed(c, hash), ID: in.ID, Event: transfer.Cancel, Reason: request.Reason,
		Actor: c.actor, Cause: c.cause(), Render: renderMoved,
	})
	return stored{response, c}, err
}

func renderMoved(t transfer.Transfer) idempotency.Response {
	return idempotency.Response{Status: http.StatusOK, Body: marshal(renderTransfer(t))}
}

// ReverseTransfer takes a settled transfer back, or a part of it.
func (s *publicServer) ReverseTransfer(
	ctx context.Context, in publicapi.ReverseTransferRequestObject,
) (publicapi.ReverseTransferResponseObject, error) {
	c := callOf(ctx)
	var request publicapi.ReversalRequest
	hash, err := decode(c, in.ID, &request)
	if err != nil {
		return nil, err
	}
	fields := checkMetadata("/metadata", request.Metadata)
	fields = append(fields, checkText("/client_reference", request.ClientReference, 0, textMaxBytes)...)
	r := transfer.Reversal{
		Key: s.keyed(c, hash), ID: in.ID, ClientReference: request.ClientReference,
		Metadata: orNil(request.Metadata), Actor: c.actor, Cause: c.cause(), Render: s.renderOne(c),
	}
	if request.Value != nil {
		r.Amount = *request.Value
		if r.Amount < 1 || r.Amount > money.MaxValue {
			fields = append(fields, problem.Field{
				Pointer: "/value", Detail: fmt.Sprintf("has to be 1 to %d", money.MaxValue),
			})
		}
	}
	if err := invalid(fields); err != nil {
		return nil, err
	}
	response, err := s.cfg.Transfers.Reverse(ctx, r)
	return stored{response, c}, err
}
