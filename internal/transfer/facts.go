package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/transfer/internal/transferdb"
)

// facts are what never changes of a transfer, under the names of the API. Nothing else may come in here: an
// event tells them whenever it is sent.
type facts struct {
	FromAccount     uuid.UUID       `json:"from_account"`
	ToAccount       uuid.UUID       `json:"to_account"`
	Amount          factsAmount     `json:"amount"`
	ClientReference *string         `json:"client_reference,omitempty"`
	Metadata        json.RawMessage `json:"metadata,omitempty"`
	Reverses        *uuid.UUID      `json:"reverses,omitempty"`
	CreatedAt       time.Time       `json:"created_at"`
}

type factsAmount struct {
	Value    int64  `json:"value"`
	Currency string `json:"currency"`
}

// Facts reads what never changes of the transfers that events happened to; see cloudevent.Describer.
func (s *Service) Facts(
	ctx context.Context, events []outbox.Logged,
) (map[uuid.UUID]json.RawMessage, error) {
	tenants, ids := cloudevent.Aggregates(events)
	rows, err := transferdb.New().ReadFacts(ctx, s.pool, transferdb.ReadFactsParams{
		Tenants: tenants, Ids: ids,
	})
	if err != nil {
		return nil, fmt.Errorf("read facts of %d transfers: %w", len(ids), err)
	}
	found := make(map[uuid.UUID]json.RawMessage, len(rows))
	for _, r := range rows {
		found[r.ID], err = cloudevent.Marshal(facts{
			FromAccount: r.FromAccount, ToAccount: r.ToAccount,
			Amount:          factsAmount{r.Amount, r.Currency},
			ClientReference: r.ClientReference, Metadata: r.Metadata, Reverses: r.Reverses,
			CreatedAt: r.CreatedAt.UTC(),
		})
		if err != nil {
			return nil, fmt.Errorf("write facts of transfer %s: %w", r.ID, err)
		}
	}
	return found, nil
}
