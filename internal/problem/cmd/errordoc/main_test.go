package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/problem"
)

func TestThePageIsCurrent(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../../docs/errors.md")
	require.NoError(t, err)
	require.Equal(t, page(), string(text), "run: go run ./internal/problem/cmd/errordoc > docs/errors.md")
}

func TestThePageHasAHeadingForEveryCodeInTheOrderOfTheTable(t *testing.T) {
	t.Parallel()
	rest := page()
	for _, m := range problem.Table() {
		_, after, found := strings.Cut(rest, "\n## "+string(m.Code)+"\n")
		require.True(t, found, m.Code)
		require.Contains(t, after, m.Advice)
		rest = after
	}
}
