package condition_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/condition"
)

func TestEveryConditionIsListedUnderANameOfItsOwn(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, c := range condition.All() {
		require.Regexp(t, `^[a-z]+(_[a-z]+)*$`, c.Name)
		require.False(t, names[c.Name], "%s is listed twice", c.Name)
		names[c.Name] = true
		require.NotEmpty(t, c.Title)
		require.NotEmpty(t, c.Text)
		require.Contains(t, []condition.Severity{condition.Warning, condition.Critical}, c.Severity)
		require.Regexp(t, `^[A-Z][^.]*[^.]$`, c.Title, "a title is one clause")
		require.Regexp(t, `^[A-Z].*\.$`, c.Text, "a text is sentences")
	}
	require.Len(t, names, declared(t))
}

// declared counts the variables of the catalogue: all of them are conditions.
func declared(t *testing.T) int {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "catalogue.go", nil, 0)
	require.NoError(t, err)
	count := 0
	for _, d := range file.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
			count += len(g.Specs)
		}
	}
	return count
}

func TestARunbookIsNamedAfterItsCondition(t *testing.T) {
	t.Parallel()
	require.Equal(t, "docs/runbooks/breaker-open.md", condition.BreakerOpen.Runbook())
	pages := map[string]bool{}
	for _, c := range condition.All() {
		require.False(t, pages[c.Runbook()], "%s has the page of another", c.Name)
		pages[c.Runbook()] = true
	}
}

// TestNothingPretendsToJudge keeps the texts of what has no source yet honest.
func TestNothingPretendsToJudge(t *testing.T) {
	t.Parallel()
	for _, c := range condition.All() {
		later := c == condition.Drift || c == condition.Quarantine
		require.Equal(t, later, strings.HasPrefix(c.Text, "Not judged yet."), c.Name)
	}
}
