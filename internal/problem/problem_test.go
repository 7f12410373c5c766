package problem_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/problem"
)

// declared reads the codes from the source, in their order.
func declared(t *testing.T) []problem.Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "problem.go", nil, 0)
	require.NoError(t, err)
	var codes []problem.Code
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Code" {
			value, ok := spec.Values[0].(*ast.BasicLit)
			require.True(t, ok)
			text, err := strconv.Unquote(value.Value)
			require.NoError(t, err)
			codes = append(codes, problem.Code(text))
		}
		return true
	})
	return codes
}

func TestEveryCodeHasOneRowInOrder(t *testing.T) {
	t.Parallel()
	codes := declared(t)
	require.NotEmpty(t, codes)
	var rows []problem.Code
	for _, m := range problem.Table() {
		rows = append(rows, m.Code)
		require.Equal(t, m, problem.MeaningOf(m.Code))
	}
	require.Equal(t, codes, rows)
}

func TestRowsAreSound(t *testing.T) {
	t.Parallel()
	titles := map[string]bool{}
	for _, m := range problem.Table() {
		assert.Regexp(t, `^[a-z]+(_[a-z]+)*$`, string(m.Code))
		assert.True(t, m.Status >= 400 && m.Status < 600 && http.StatusText(m.Status) != "", m.Code)
		assert.NotEmpty(t, m.Title, m.Code)
		assert.False(t, titles[m.Title], "%s: title is used twice", m.Code)
		titles[m.Title] = true
		assert.True(t, strings.HasSuffix(m.Advice, "."), m.Code)
		assert.NotEqual(t, m.Retryable, m.SafeNewKey,
			"%s: the client goes on with the same key or with a new one, and cannot choose", m.Code)
		if m.Stored {
			assert.False(t, m.Retryable, "%s: a stored refusal stays the answer", m.Code)
			assert.Less(t, m.Status, 500, "%s: our own failure says nothing about the request", m.Code)
		}
		if m.Status >= 500 {
			assert.True(t, m.Retryable, "%s: not the client's mistake", m.Code)
		}
	}
}

func TestAnUnknownCodeIsInternal(t *testing.T) {
	t.Parallel()
	require.Equal(t, problem.Internal, problem.MeaningOf("no_such_code").Code)
}

func TestOfFindsTheProblemOrHidesTheError(t *testing.T) {
	t.Parallel()
	refused := problem.New(problem.InsufficientFunds, "Account %d is empty.", 7)
	secret := errors.New("password is 1234")
	wrapped := fmt.Errorf("accept transfer: %w", errors.Join(secret, refused))
	require.Same(t, refused, problem.Of(wrapped))
	require.True(t, problem.Is(wrapped, problem.InsufficientFunds))
	require.False(t, problem.Is(wrapped, problem.Internal))
	require.False(t, problem.Is(nil, problem.Internal))
	require.False(t, problem.Is(secret, problem.Internal), "Is asks for what is there, Of for what is shown")

	p := problem.Of(secret)
	require.Equal(t, problem.Internal, p.Code)
	require.NotContains(t, p.Detail, "1234")
	require.ErrorIs(t, p, secret, "the logs keep it")
	require.ErrorContains(t, p, "1234")
}

func TestConstructors(t *testing.T) {
	t.Parallel()
	require.EqualError(t, problem.New(problem.NotFound, "Nothing at %s.", "/x"), "not_found: Nothing at /x.")
	p := problem.Invalid("/amount", "has to be at least %d", 1)
	require.Equal(t, problem.ValidationFailed, p.Code)
	require.Equal(t, []problem.Field{{Pointer: "/amount", Detail: "has to be at least 1"}}, p.Fields)
	cause := errors.New("lock timeout")
	wrapped := problem.Wrap(problem.KeyInProgress, cause, "Later.")
	require.ErrorIs(t, wrapped, cause)
	require.EqualError(t, wrapped, "idempotency_in_progress: Later.: lock timeout")
	require.Equal(t, "Later.", wrapped.Detail)
}
