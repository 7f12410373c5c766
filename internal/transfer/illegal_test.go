package transfer_test

import (
	"net/http"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/transfer"
	"example.com/holdfast/internal/transfer/transfertest"
)

func TestAnIllegalMoveIsRefusedAndCounted(t *testing.T) {
	t.Parallel()
	b := transfertest.New(t)
	b.StartWorker(t, "w1")
	id := b.Create(t, "k1", 100)
	require.Equal(t, transfer.Settled, b.WaitTerminal(t, id).State)
	cfg := b.Config(t, "counted")
	s := transfer.NewService(cfg)
	for i, event := range []transfer.Event{transfer.Cancel, transfer.Block} {
		response, err := s.Act(t.Context(), b.Action(string(event), id, event, "late"))
		require.NoError(t, err)
		require.Equal(t, http.StatusConflict, response.Status)
		families, err := cfg.Metrics.Registry().Gather()
		require.NoError(t, err)
		require.Equal(t, i+1, rejections(families))
	}
}

func rejections(families []*dto.MetricFamily) int {
	for _, f := range families {
		if f.GetName() == "holdfast_transition_rejections_total" {
			return len(f.GetMetric())
		}
	}
	return 0
}
