package problem_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/problem"
)

func TestATextFitsARowOrSaysWhyNot(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":          "",
		"invoice7":  "",
		"größe":     "",
		"12345678":  "",
		"123456789": "is too long",
		"a\xffb":    "is not valid UTF-8",
		"a\x00b":    "has a control character",
		"a\nb":      "has a control character",
		"a\x7fb":    "has a control character",
	} {
		require.Equal(t, want, problem.InvalidText(text, 8), "%q", text)
	}
}

func TestANoteHasToSaySomething(t *testing.T) {
	t.Parallel()
	require.NoError(t, problem.CheckNote("/reason", "a drill", 8))
	for text, want := range map[string]string{
		"": "has to be there", "  ": "has to be there", "123456789": "is too long",
		"a\x00b": "has a control character",
	} {
		fields := problem.Of(problem.CheckNote("/reason", text, 8)).Fields
		require.Equal(t, []problem.Field{{Pointer: "/reason", Detail: want}}, fields, "%q", text)
	}
}
