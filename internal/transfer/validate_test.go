package transfer

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/money"
	"example.com/holdfast/internal/problem"
)

func TestEveryBadFieldIsNamed(t *testing.T) {
	t.Parallel()
	good := New{
		FromAccount: uuid.UUID{1}, ToAccount: uuid.UUID{2}, Amount: money.Amount{Value: 1, Currency: "EUR"},
		ClientReference: "order 1 – ünïcode", Metadata: json.RawMessage(`{"a":"\u0000"}`),
	}
	require.NoError(t, good.validate())
	for _, c := range []struct {
		name, pointer string
		change        func(*New)
	}{
		{"no from", "/from_account", func(n *New) { n.FromAccount = uuid.Nil }},
		{"no to", "/to_account", func(n *New) { n.ToAccount = uuid.Nil }},
		{"to itself", "/to_account", func(n *New) { n.ToAccount = n.FromAccount }},
		{"zero", "/amount", func(n *New) { n.Amount.Value = 0 }},
		{"negative", "/amount", func(n *New) { n.Amount.Value = -1 }},
		{"smallest int64", "/amount", func(n *New) { n.Amount.Value = math.MinInt64 }},
		{"too large", "/amount", func(n *New) { n.Amount.Value = money.MaxValue + 1 }},
		{"largest int64", "/amount", func(n *New) { n.Amount.Value = math.MaxInt64 }},
		{"no currency", "/amount", func(n *New) { n.Amount.Currency = "" }},
		{"unknown currency", "/amount", func(n *New) { n.Amount.Currency = "XXQ" }},
		{"lower case currency", "/amount", func(n *New) { n.Amount.Currency = "eur" }},
		{"long reference", "/client_reference", func(n *New) {
			n.ClientReference = strings.Repeat("a", referenceMaxBytes+1)
		}},
		{"NUL in reference", "/client_reference", func(n *New) { n.ClientReference = "a\x00" }},
		{"line end in reference", "/client_reference", func(n *New) { n.ClientReference = "a\n" }},
		{"reference no UTF-8", "/client_reference", func(n *New) { n.ClientReference = "\xff" }},
		{"long metadata", "/metadata", func(n *New) {
			n.Metadata = json.RawMessage(`{"a":"` + strings.Repeat("x", metadataMaxBytes) + `"}`)
		}},
		{"broken metadata", "/metadata", func(n *New) { n.Metadata = json.RawMessage(`{"a":`) }},
		{"metadata no UTF-8", "/metadata", func(n *New) { n.Metadata = json.RawMessage("{\"\xff\":1}") }},
		{"raw NUL in metadata", "/metadata", func(n *New) { n.Metadata = json.RawMessage("{\"\x00\":1}") }},
		{"metadata is no object", "/metadata", func(n *New) { n.Metadata = json.RawMessage(` [1]`) }},
		{"metadata is blank", "/metadata", func(n *New) { n.Metadata = json.RawMessage(` `) }},
	} {
		n := good
		c.change(&n)
		err := n.validate()
		require.True(t, problem.Is(err, problem.ValidationFailed), c.name)
		fields := problem.Of(err).Fields
		require.Equal(t, c.pointer, fields[0].Pointer, c.name)
		require.Len(t, fields, 1, c.name)
	}
	require.Len(t, problem.Of(New{}.validate()).Fields, 3, "all problems at once")
}

func TestAnInvalidItemIsRefusedAloneAmongSeveral(t *testing.T) {
	t.Parallel()
	good := New{
		FromAccount: uuid.UUID{1}, ToAccount: uuid.UUID{2}, Amount: money.Amount{Value: 1, Currency: "EUR"},
	}
	for name, c := range map[string]struct {
		items []New
		fails bool
	}{
		"one good":  {[]New{good}, false},
		"one bad":   {[]New{{}}, true},
		"mixed":     {[]New{good, {}}, false},
		"none":      {nil, true},
		"too many":  {slices.Repeat([]New{good}, BulkMaxItems+1), true},
		"the limit": {slices.Repeat([]New{good}, BulkMaxItems), false},
	} {
		request := Create{Items: c.items}
		err := request.prepare()
		require.Equal(t, c.fails, problem.Is(err, problem.ValidationFailed), name)
		if !c.fails {
			require.Len(t, request.ids, len(c.items), name)
			require.Equal(t, name == "mixed",
				slices.ContainsFunc(request.invalid, func(e error) bool { return e != nil }), name)
		}
	}
}
