//nolint:bodyclose // read closes what the generated calls return
package client

import "context"

// CreateOrder places an order. When it returns without an error the order is stored and will end;
// AwaitOrder says how.
func (c *Client) CreateOrder(ctx context.Context, o NewOrder, edit ...RequestEditorFn) (Order, error) {
	return read[Order](c.api.CreateOrder(ctx, o, edit...))
}

// PreviewOrders says what would become of up to 20 orders now, and does nothing.
func (c *Client) PreviewOrders(ctx context.Context, orders []NewOrder) ([]OrderResult, error) {
	out, err := read[OrderResults](c.api.PreviewOrders(ctx, OrderBatch{Orders: orders}))
	return out.Results, err
}

// Order reads an order.
func (c *Client) Order(ctx context.Context, id OrderID) (Order, error) {
	return read[Order](c.api.GetOrder(ctx, id))
}

// AwaitOrder reads an order when it has ended. When the context ends first, it returns what it read
// last, if anything, with the context's error.
func (c *Client) AwaitOrder(ctx context.Context, id OrderID) (Order, error) {
	return await(ctx, c.doer.sleep, func(wait RequestEditorFn) (Order, bool, error) {
		o, err := read[Order](c.api.GetOrder(ctx, id, wait))
		return o, o.Status.Terminal(), err
	})
}

// ListOrders reads a page of orders, newest first; nil lists all.
func (c *Client) ListOrders(ctx context.Context, params *ListOrdersParams) (OrderPage, error) {
	return read[OrderPage](c.api.ListOrders(ctx, params))
}

// OrderEvents reads what happened to an order after a sequence number.
func (c *Client) OrderEvents(ctx context.Context, id OrderID, after int32) ([]Event, error) {
	out, err := read[EventList](c.api.ListOrderEvents(ctx, id, &ListOrderEventsParams{After: &after}))
	return out.Events, err
}

// CancelOrder takes an open order back.
func (c *Client) CancelOrder(
	ctx context.Context, id OrderID, reason string, edit ...RequestEditorFn,
) (Order, error) {
	return read[Order](c.api.CancelOrder(ctx, id, CancelRequest{Reason: reason}, edit...))
}
