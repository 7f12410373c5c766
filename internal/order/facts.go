package order

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/order/internal/orderdb"
	"example.com/holdfast/internal/outbox"
)

// facts are what never changes of an order, under the names of the API. Nothing else may come in here: an
// event tells them whenever it is sent.
type facts struct {
	CustomerAccount uuid.UUID       `json:"customer_account"`
	MerchantAccount uuid.UUID       `json:"merchant_account"`
	Location        string          `json:"location"`
	Slot            *uuid.UUID      `json:"slot,omitempty"`
	Lines           []factsLine     `json:"lines"`
	Total           factsAmount     `json:"total"`
	ClientReference *string         `json:"client_reference,omitempty"`
	Metadata        json.RawMessage `json:"metadata,omitempty"`
	CreatedAt       time.Time       `json:"created_at"`
}

type factsLine struct {
	SKU       uuid.UUID `json:"sku"`
	Quantity  int64     `json:"quantity"`
	UnitPrice int64     `json:"unit_price"`
}

type factsAmount struct {
	Value    int64  `json:"value"`
	Currency string `json:"currency"`
}

// Facts reads what never changes of the orders that events happened to; see cloudevent.Describer.
func (s *Service) Facts(
	ctx context.Context, events []outbox.Logged,
) (map[uuid.UUID]json.RawMessage, error) {
	tenants, ids := cloudevent.Aggregates(events)
	rows, err := orderdb.New().ReadFacts(ctx, s.pool, orderdb.ReadFactsParams{Tenants: tenants, Ids: ids})
	if err != nil {
		return nil, fmt.Errorf("read facts of %d orders: %w", len(ids), err)
	}
	found := make(map[uuid.UUID]json.RawMessage, len(rows))
	for _, r := range rows {
		f := facts{
			CustomerAccount: r.CustomerAccount, MerchantAccount: r.MerchantAccount, Location: r.Location,
			Slot: r.SlotID, Lines: make([]factsLine, len(r.Skus)), Total: factsAmount{r.Total, r.Currency},
			ClientReference: r.ClientReference, Metadata: r.Metadata, CreatedAt: r.CreatedAt.UTC(),
		}
		for i, sku := range r.Skus {
			f.Lines[i] = factsLine{sku, r.Quantities[i], r.UnitPrices[i]}
		}
		if found[r.ID], err = cloudevent.Marshal(f); err != nil {
			return nil, fmt.Errorf("write facts of order %s: %w", r.ID, err)
		}
	}
	return found, nil
}
