package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/idempotency"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/problem"
)

// CreateOrder accepts an order.
func (s *publicServer) CreateOrder(
	ctx context.Context, _ publicapi.CreateOrderRequestObject,
) (publicapi.CreateOrderResponseObject, error) {
	c := callOf(ctx)
	var in publicapi.NewOrder
	hash, err := decode(c, uuid.Nil, &in)
	if err != nil {
		return nil, err
	}
	if err := invalid(checkOrder("", in)); err != nil {
		return nil, err
	}
	response, err := s.cfg.Orders.Create(ctx, order.Create{
		Key: s.keyed(c, hash), Items: []order.New{newOrder(in)}, Actor: c.actor, Cause: c.cause(),
		Render: s.renderPlaced(c),
	})
	return stored{response, c}, err
}

// PreviewOrders shows what would come of many orders.
func (s *publicServer) PreviewOrders(
	ctx context.Context, _ publicapi.PreviewOrdersRequestObject,
) (publicapi.PreviewOrdersResponseObject, error) {
	c := callOf(ctx)
	items, err := orderBatch(c)
	if err != nil {
		return nil, err
	}
	results, err := s.cfg.Orders.Preview(ctx, c.tenantID, items)
	if p := explainAlone(len(items), err); p != nil {
		results, err = []order.Result{{Refused: p}}, nil
	}
	if err != nil {
		return nil, err
	}
	out := publicapi.PreviewOrders200JSONResponse{Results: make([]publicapi.OrderResult, len(results))}
	for i, r := range results {
		if r.Refused != nil {
			p := s.render(r.Refused, c.origin())
			out.Results[i] = publicapi.OrderResult{Status: p.Status, Problem: p}
			continue
		}
		out.Results[i] = publicapi.OrderResult{Status: http.StatusAccepted, Order: renderOrder(r.Order)}
	}
	return out, nil
}

func orderBatch(c *call) ([]order.New, error) {
	var in publicapi.OrderBatch
	if _, err := decode(c, uuid.Nil, &in); err != nil {
		return nil, err
	}
	if n := len(in.Orders); n == 0 || n > order.BulkMaxItems {
		return nil, problem.Invalid("/orders", "has to have 1 to %d items", order.BulkMaxItems)
	}
	var fields []problem.Field
	items := make([]order.New, len(in.Orders))
	for i, o := range in.Orders {
		fields = append(fields, checkOrder("/orders/"+strconv.Itoa(i), o)...)
		items[i] = newOrder(o)
	}
	return items, invalid(fields)
}

// checkOrder finds what the domain does not look for: the form of metadata, and the zero id, which
// the domain takes for no slot.
func checkOrder(pointer string, in publicapi.NewOrder) []problem.Field {
	fields := checkMetadata(pointer+"/metadata", in.Metadata)
	if in.Slot != nil && *in.Slot == uuid.Nil {
		fields = append(fields, problem.Field{Pointer: pointer + "/slot", Detail: "has to be a slot id"})
	}
	return fields
}

func newOrder(in publicapi.NewOrder) order.New {
	out := order.New{
		CustomerAccount: in.CustomerAccount, MerchantAccount: in.MerchantAccount, Location: in.Location,
		Lines: make([]order.Line, len(in.Lines)), ClientReference: in.ClientReference,
		Metadata: orNil(in.Metadata),
	}
	for i, line := range in.Lines {
		out.Lines[i] = order.Line{SKU: line.SKU, Quantity: line.Quantity}
	}
	if in.Slot != nil {
		out.Slot = *in.Slot
	}
	return out
}

// renderPlaced puts the outcome of one order into a response. It may run in another goroutine, so it
// keeps only where it comes from.
func (s *shared) renderPlaced(c *call) func([]order.Result) idempotency.Response {
	from := c.origin()
	return func(results []order.Result) idempotency.Response {
		if refused := results[0].Refused; refused != nil {
			return s.refusal(refused, from)
		}
		o := results[0].Order
		return idempotency.Response{
			Status: http.StatusAccepted, Location: orders + "/" + o.ID.String(),
			Body: marshal(renderOrder(o)),
		}
	}
}

func renderOrder(o order.Order) publicapi.Order {
	out := publicapi.Order{
		ID: o.ID, Status: publicapi.OrderStatus(o.State), Version: o.Version, Reason: string(o.Reason),
		CustomerAccount: o.CustomerAccount, MerchantAccount: o.MerchantAccount,
		Location: o.Location, Slot: o.Slot, Lines: make([]publicapi.OrderLine, len(o.Lines)),
		Total:           publicapi.Amount{Value: o.Total.Value, Currency: o.Total.Currency},
		ClientReference: o.ClientReference, Metadata: o.Metadata,
		Payment: publicapi.OrderPayment(o.PaymentState), PaymentTransfer: o.PaymentTransfer,
		ReservationExpiresAt: inUTC(o.ReservationExpiresAt),
		PromiseAt:            o.PromiseAt.UTC(), CreatedAt: o.CreatedAt.UTC(), UpdatedAt: o.UpdatedAt.UTC(),
	}
	for i, line := range o.Lines {
		out.Lines[i] = publicapi.OrderLine{SKU: line.SKU, Quantity: line.Quantity, UnitPrice: line.UnitPrice}
	}
	return out
}

// GetOrder reads an order, after its end if the client prefers to wait.
func (s *publicServer) GetOrder(
	ctx context.Context, in publicapi.GetOrderRequestObject,
) (publicapi.GetOrderResponseObject, error) {
	ref := order.Ref{TenantID: callOf(ctx).tenantID, ID: in.ID}
	o, applied, err := awaited(ctx, s.shared, ref, s.cfg.Orders.Get, s.cfg.Orders.Wait)
	if err != nil {
		return nil, err
	}
	return publicapi.GetOrder200JSONResponse{
		Body:    renderOrder(o),
		Headers: publicapi.GetOrder200ResponseHeaders{PreferenceApplied: applied},
	}, nil
}

// CancelOrder takes an open order back.
func (s *publicServer) CancelOrder(
	ctx context.Context, in publicapi.CancelOrderRequestObject,
) (publicapi.CancelOrderResponseObject, error) {
	c := callOf(ctx)
	var request publicapi.CancelRequest
	hash, err := decode(c, in.ID, &request)
	if err != nil {
		return nil, err
	}
	if err := invalid(checkText("/reason", request.Reason, 0, reasonMaxBytes)); err != nil {
		return nil, err
	}
	response, err := s.cfg.Orders.Act(ctx, order.Action{
		Key: s.keyed(c, hash), ID: in.ID, Event: order.Cancel, Reason: request.Reason,
		Actor: c.actor, Cause: c.cause(),
		Render: func(o order.Order) idempotency.Response {
			return idempotency.Response{Status: http.StatusOK, Body: marshal(renderOrder(o))}
		},
	})
	return stored{response, c}, err
}
