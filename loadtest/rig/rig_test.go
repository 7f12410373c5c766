package rig

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAChildMeasuresTheDefaultsOfTheProgram(t *testing.T) {
	t.Parallel()
	kept := outside([]string{"HOLDFAST_API_CONNS=1", "DATABASE_URL_FILE=/nowhere", "PATH=/bin"})
	require.Equal(t, []string{"PATH=/bin"}, kept)
}
