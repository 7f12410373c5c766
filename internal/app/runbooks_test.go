package app_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/pgtest"
)

// TestTheQueriesOfTheRunbooksRun runs them on the schema of this program.
func TestTheQueriesOfTheRunbooksRun(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	pages, err := filepath.Glob("../../docs/runbooks/*.md")
	require.NoError(t, err)
	query := regexp.MustCompile("`(SELECT [^`]+)`")
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range query.FindAllStringSubmatch(string(text), -1) {
			found++
			_, err := pool.Exec(t.Context(), m[1])
			require.NoError(t, err, "%s: %s", page, m[1])
		}
	}
	require.Greater(t, found, 5)
}
