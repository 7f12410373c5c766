package httpapi

import (
	"context"
	"math"

	"github.com/google/uuid"

	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/inventory"
	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/transfer"
)

// ListTransfers pages through a tenant's transfers, newest first.
func (s *publicServer) ListTransfers(
	ctx context.Context, in publicapi.ListTransfersRequestObject,
) (publicapi.ListTransfersResponseObject, error) {
	c, q := callOf(ctx), in.Params
	if q.Status != "" && !q.Status.Valid() {
		return nil, problem.Invalid("status", "is not a status")
	}
	if err := invalid(checkText("client_reference", q.ClientReference, 0, textMaxBytes)); err != nil {
		return nil, err
	}
	limit, err := pageSize(q.Limit)
	if err != nil {
		return nil, err
	}
	before, err := idPosition(ofTransfers, q.Cursor)
	if err != nil {
		return nil, err
	}
	page, err := s.cfg.Transfers.List(ctx, c.tenantID, transfer.Filter{
		State: transfer.State(q.Status), Account: q.Account, ClientReference: q.ClientReference,
		CreatedFrom: q.CreatedFrom, CreatedTo: q.CreatedTo, Before: before, Limit: limit,
	})
	if err != nil {
		return nil, err
	}
	out := publicapi.TransferPage{Transfers: make([]publicapi.Transfer, len(page.Transfers))}
	for i, t := range page.Transfers {
		out.Transfers[i] = renderTransfer(t)
	}
	if page.Next != [16]byte{} {
		out.NextCursor = cursor(ofTransfers, page.Next[:])
	}
	return publicapi.ListTransfers200JSONResponse{
		Body: out, Headers: publicapi.ListTransfers200ResponseHeaders{Link: c.link(out.NextCursor)},
	}, nil
}

// ListTransferEvents reads what happened to a transfer.
func (s *publicServer) ListTransferEvents(
	ctx context.Context, in publicapi.ListTransferEventsRequestObject,
) (publicapi.ListTransferEventsResponseObject, error) {
	if in.Params.After < 0 {
		return nil, problem.Invalid("after", "has to be 0 or more")
	}
	ref := transfer.Ref{TenantID: callOf(ctx).tenantID, ID: in.ID}
	events, err := s.cfg.Transfers.Events(ctx, ref, in.Params.After)
	if err != nil {
		return nil, err
	}
	return publicapi.ListTransferEvents200JSONResponse(renderEvents(events)), nil
}

func renderEvents(events []outbox.Event) publicapi.EventList {
	out := publicapi.EventList{Events: make([]publicapi.Event, len(events))}
	for i, e := range events {
		out.Events[i] = publicapi.Event{
			Seq: e.Seq, Type: e.Type, From: e.From, To: e.To, Reason: e.Reason, Actor: e.Actor,
			Cause: e.Cause, Data: e.Data, At: e.At.UTC(),
		}
	}
	return out
}

// ListOrders pages through a tenant's orders, newest first.
func (s *publicServer) ListOrders(
	ctx context.Context, in publicapi.ListOrdersRequestObject,
) (publicapi.ListOrdersResponseObject, error) {
	c, q := callOf(ctx), in.Params
	if q.Status != "" && !q.Status.Valid() {
		return nil, problem.Invalid("status", "is not a status")
	}
	if err := invalid(checkText("client_reference", q.ClientReference, 0, textMaxBytes)); err != nil {
		return nil, err
	}
	limit, err := pageSize(q.Limit)
	if err != nil {
		return nil, err
	}
	before, err := idPosition(ofOrders, q.Cursor)
	if err != nil {
		return nil, err
	}
	page, err := s.cfg.Orders.List(ctx, c.tenantID, order.Filter{
		State: order.State(q.Status), Account: q.Account, SKU: q.SKU, ClientReference: q.ClientReference,
		CreatedFrom: q.CreatedFrom, CreatedTo: q.CreatedTo, Before: before, Limit: limit,
	})
	if err != nil {
		return nil, err
	}
	out := publicapi.OrderPage{Orders: make([]publicapi.Order, len(page.Orders))}
	for i, o := range page.Orders {
		out.Orders[i] = renderOrder(o)
	}
	if page.Next != uuid.Nil {
		out.NextCursor = cursor(ofOrders, page.Next[:])
	}
	return publicapi.ListOrders200JSONResponse{
		Body: out, Headers: publicapi.ListOrders200ResponseHeaders{Link: c.link(out.NextCursor)},
	}, nil
}

// ListOrderEvents reads what happened to an order.
func (s *publicServer) ListOrderEvents(
	ctx context.Context, in publicapi.ListOrderEventsRequestObject,
) (publicapi.ListOrderEventsResponseObject, error) {
	if in.Params.After < 0 {
		return nil, problem.Invalid("after", "has to be 0 or more")
	}
	ref := order.Ref{TenantID: callOf(ctx).tenantID, ID: in.ID}
	events, err := s.cfg.Orders.Events(ctx, ref, in.Params.After)
	if err != nil {
		return nil, err
	}
	return publicapi.ListOrderEvents200JSONResponse(renderEvents(events)), nil
}

// ListAccounts pages through a tenant's accounts, oldest first.
func (s *publicServer) ListAccounts(
	ctx context.Context, in publicapi.ListAccountsRequestObject,
) (publicapi.ListAccountsResponseObject, error) {
	c := callOf(ctx)
	limit, err := pageSize(in.Params.Limit)
	if err != nil {
		return nil, err
	}
	after, err := idPosition(ofAccounts, in.Params.Cursor)
	if err != nil {
		return nil, err
	}
	found, err := s.cfg.Accounts.Accounts(ctx, c.tenantID, after, limit+1)
	if err != nil {
		return nil, err
	}
	var out publicapi.AccountPage
	if len(found) > limit {
		found = found[:limit]
		last := found[limit-1].ID
		out.NextCursor = cursor(ofAccounts, last[:])
	}
	out.Accounts = make([]publicapi.Account, len(found))
	for i, a := range found {
		out.Accounts[i] = renderAccount(a)
	}
	return publicapi.ListAccounts200JSONResponse{
		Body: out, Headers: publicapi.ListAccounts200ResponseHeaders{Link: c.link(out.NextCursor)},
	}, nil
}

// ListPostings pages through an account's history, newest first.
func (s *publicServer) ListPostings(
	ctx context.Context, in publicapi.ListPostingsRequestObject,
) (publicapi.ListPostingsResponseObject, error) {
	c := callOf(ctx)
	limit, err := pageSize(in.Params.Limit)
	if err != nil {
		return nil, err
	}
	before, err := numberPosition(ofPostings, in.Params.Cursor, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	found, err := s.cfg.Accounts.Postings(ctx, ledger.Ref{TenantID: c.tenantID, ID: in.ID}, before, limit+1)
	if err != nil {
		return nil, err
	}
	var out publicapi.PostingPage
	if len(found) > limit {
		found = found[:limit]
		out.NextCursor = numberCursor(ofPostings, found[limit-1].AccountVersion)
	}
	out.Postings = make([]publicapi.Posting, len(found))
	for i, p := range found {
		out.Postings[i] = publicapi.Posting{
			Version: p.AccountVersion, EntryID: p.EntryID, Amount: p.Amount, PostedAfter: p.PostedAfter,
			Currency: p.Currency, At: p.At.UTC(),
		}
	}
	return publicapi.ListPostings200JSONResponse{
		Body: out, Headers: publicapi.ListPostings200ResponseHeaders{Link: c.link(out.NextCursor)},
	}, nil
}

// ListSkus pages through a tenant's SKUs, oldest first.
func (s *publicServer) ListSkus(
	ctx context.Context, in publicapi.ListSkusRequestObject,
) (publicapi.ListSkusResponseObject, error) {
	c := callOf(ctx)
	limit, err := pageSize(in.Params.Limit)
	if err != nil {
		return nil, err
	}
	from, err := idPosition(ofSKUs, in.Params.Cursor)
	if err != nil {
		return nil, err
	}
	found, err := s.cfg.Inventory.SKUs(ctx, c.tenantID, from, limit)
	if err != nil {
		return nil, err
	}
	out := publicapi.SKUPage{
		Skus:       make([]publicapi.SKU, len(found)),
		NextCursor: after(found, limit, ofSKUs, func(k inventory.SKU) uuid.UUID { return k.ID }),
	}
	for i, k := range found {
		out.Skus[i] = renderSKU(k)
	}
	return publicapi.ListSkus200JSONResponse{
		Body: out, Headers: publicapi.ListSkus200ResponseHeaders{Link: c.link(out.NextCursor)},
	}, nil
}

// ListSlots pages through a tenant's delivery slots, oldest first.
func (s *publicServer) ListSlots(
	ctx context.Context, in publicapi.ListSlotsRequestObject,
) (publicapi.ListSlotsResponseObject, error) {
	c, q := callOf(ctx), in.Params
	if err := invalid(checkText("location", q.Location, 0, locationMaxBytes)); err != nil {
		return nil, err
	}
	limit, err := pageSize(q.Limit)
	if err != nil {
		return nil, err
	}
	from, err := idPosition(ofSlots, q.Cursor)
	if err != nil {
		return nil, err
	}
	found, err := s.cfg.Inventory.Slots(ctx, c.tenantID, q.Location, from, limit)
	if err != nil {
		return nil, err
	}
	out := publicapi.SlotPage{
		Slots:      make([]publicapi.Slot, len(found)),
		NextCursor: after(found, limit, ofSlots, func(d inventory.Slot) uuid.UUID { return d.ID }),
	}
	for i, d := range found {
		out.Slots[i] = renderSlot(d)
	}
	return publicapi.ListSlots200JSONResponse{
		Body: out, Headers: publicapi.ListSlots200ResponseHeaders{Link: c.link(out.NextCursor)},
	}, nil
}
