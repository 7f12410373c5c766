package holdfast_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/loadtest/load"
)

// TestGeneratedShapesAreCurrent keeps the mixes and profiles of the k6 scripts those of `load run`.
func TestGeneratedShapesAreCurrent(t *testing.T) {
	t.Parallel()
	text, err := json.MarshalIndent(load.Shapes(), "", "  ")
	require.NoError(t, err)
	compareOrWrite(t, "loadtest/k6/shapes.json", string(text)+"\n")
}
