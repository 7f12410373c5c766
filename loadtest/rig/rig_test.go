package rig

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAChildMeasuresTheDefaultsOfTheProgram(t *testing.T) {
	t.Parallel()
	kept := outside([]string{"HOLDFAST_API_CONNS=1", "DATABASE_URL_FILE=/nowhere", "PATH=/bin"})
	require.Equal(t, []string{"PATH=/bin"}, kept)
}

func TestAProcessHasToHaveARole(t *testing.T) {
	t.Parallel()
	err := Serve(t.Context(), []string{RoleVariable + "=king"}, strings.NewReader(""), io.Discard)
	require.ErrorIs(t, err, errRole)
}
