//go:build !faults

package fault_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/fault"
)

func TestAnOrdinaryBuildCannotBeArmedFromOutside(t *testing.T) {
	t.Setenv("HOLDFAST_FAULT", "off.armed@1=kill")
	require.False(t, fault.Enabled)
	require.NoError(t, fault.At(t.Context(), "off.armed"))
}
