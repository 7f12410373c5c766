//nolint:bodyclose // read closes what the generated calls return
package client

import "context"

// CreateSKU adds something that can be ordered.
func (c *Client) CreateSKU(ctx context.Context, n NewSKU, edit ...RequestEditorFn) (SKU, error) {
	return read[SKU](c.api.CreateSKU(ctx, n, edit...))
}

// SKU reads an SKU.
func (c *Client) SKU(ctx context.Context, id SKUID) (SKU, error) {
	return read[SKU](c.api.GetSKU(ctx, id))
}

// ListSKUs reads a page of SKUs, oldest first; nil begins with the first.
func (c *Client) ListSKUs(ctx context.Context, params *ListSkusParams) (SKUPage, error) {
	return read[SKUPage](c.api.ListSkus(ctx, params))
}

// Stock reads how much of an SKU is where.
func (c *Client) Stock(ctx context.Context, id SKUID) ([]Stock, error) {
	out, err := read[StockLevels](c.api.GetStock(ctx, id))
	return out.Stock, err
}

// ChangeStock restocks or adjusts and returns the level after it.
func (c *Client) ChangeStock(
	ctx context.Context, id SKUID, change StockChange, edit ...RequestEditorFn,
) (Stock, error) {
	return read[Stock](c.api.ChangeStock(ctx, id, change, edit...))
}

// CreateSlot opens a delivery slot.
func (c *Client) CreateSlot(ctx context.Context, n NewSlot, edit ...RequestEditorFn) (Slot, error) {
	return read[Slot](c.api.CreateSlot(ctx, n, edit...))
}

// ListSlots reads a page of delivery slots, oldest first; nil begins with the first.
func (c *Client) ListSlots(ctx context.Context, params *ListSlotsParams) (SlotPage, error) {
	return read[SlotPage](c.api.ListSlots(ctx, params))
}

// CloseSlot closes a delivery slot for new orders.
func (c *Client) CloseSlot(ctx context.Context, id SlotID, edit ...RequestEditorFn) (Slot, error) {
	return read[Slot](c.api.CloseSlot(ctx, id, Nothing{}, edit...))
}
