package webhook

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/internal/cloudevent"
)

// ping is the message that tries an endpoint out: it tells of nothing.
type ping struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject"`
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	Data            pingData  `json:"data"`
}

type pingData struct {
	EndpointID uuid.UUID `json:"endpoint_id"`
}

// newPing makes the message of a task. Its id names the task, so it is the same if the ping is sent twice.
func newPing(endpoint, tenant uuid.UUID, task int64, at time.Time) (cloudevent.Message, error) {
	m := cloudevent.Message{
		ID: fmt.Sprintf("ping-%d", task), Type: PingType, TenantID: tenant, AggregateID: endpoint, At: at,
	}
	var err error
	m.Body, err = json.Marshal(ping{
		SpecVersion: "1.0", ID: m.ID, Source: "/webhooks", Type: PingType, Subject: endpoint.String(),
		Time: at.UTC(), DataContentType: "application/json", Data: pingData{EndpointID: endpoint},
	})
	if err != nil {
		return cloudevent.Message{}, fmt.Errorf("write ping %d: %w", task, err)
	}
	return m, nil
}
