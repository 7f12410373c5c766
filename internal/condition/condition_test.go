package condition_test

import (
	"go/ast"
	"go/parser"
	"go/token"
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
	}
	require.Len(t, names, declared(t))
}

// declared counts the variables of the package: all of them are conditions.
func declared(t *testing.T) int {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "condition.go", nil, 0)
	require.NoError(t, err)
	count := 0
	for _, d := range file.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
			count += len(g.Specs)
		}
	}
	return count
}
