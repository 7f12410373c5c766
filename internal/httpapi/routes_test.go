package httpapi

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"
)

// facts are what the table and the contract both say of a route.
type facts struct {
	operation, access   string
	body, optional, key bool
	query               string
}

func factsOfTable[W any](routes []served[W]) map[string]facts {
	out := map[string]facts{}
	for _, r := range routes {
		query := slices.Clone(r.query)
		slices.Sort(query)
		out[r.label()] = facts{
			r.operation, string(r.access), r.has(body), r.has(optional), r.has(key), strings.Join(query, ","),
		}
	}
	return out
}

func factsOfContract(doc *openapi3.T) map[string]facts {
	out := map[string]facts{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			f := facts{operation: op.OperationID, body: op.RequestBody != nil}
			f.optional = f.body && !op.RequestBody.Value.Required
			f.key = op.Parameters.GetByInAndName("header", "Idempotency-Key") != nil
			if scope, ok := op.Extensions["x-scope"].(string); ok {
				f.access = scope
			}
			if role, ok := op.Extensions["x-role"].(string); ok {
				f.access = role
			}
			var query []string
			for _, p := range op.Parameters {
				if p.Value.In == "query" {
					query = append(query, p.Value.Name)
				}
			}
			slices.Sort(query)
			f.query = strings.Join(query, ",")
			out[method+" "+path] = f
		}
	}
	return out
}

func TestTheTablesOfRoutesAreTheContracts(t *testing.T) {
	t.Parallel()
	require.Equal(t, factsOfContract(publicContract().doc), factsOfTable(publicRoutes()))
	require.Equal(t, factsOfContract(adminContract().doc), factsOfTable(adminRoutes()))
}

func TestOnlyTheTablesAndTheDocumentsAreServed(t *testing.T) {
	t.Parallel()
	documents := []string{"/", "/openapi.yaml", "/openapi.json", "/docs", "/docs/*"}
	for handler, table := range map[http.Handler]map[string]facts{
		New(config(newFake(), nil, nil)):      factsOfTable(publicRoutes()),
		NewAdmin(config(newFake(), nil, nil)): factsOfTable(adminRoutes()),
	} {
		err := chi.Walk(handler.(*front).router, func(
			method, pattern string, _ http.Handler, _ ...func(http.Handler) http.Handler,
		) error {
			if !slices.Contains(documents, pattern) {
				require.Contains(t, table, method+" "+pattern)
				delete(table, method+" "+pattern)
			}
			return nil
		})
		require.NoError(t, err)
		require.Empty(t, table)
	}
}

func TestARouteThatCreatesSaysWhat(t *testing.T) {
	t.Parallel()
	created := map[Creation][]string{CreatesTransfer: nil, CreatesOrder: nil, CreatesOther: nil}
	for _, r := range publicRoutes() {
		if what := r.class.creation(); what != "" {
			created[what] = append(created[what], r.operation)
		}
	}
	require.Equal(t, map[Creation][]string{
		CreatesTransfer: {"createTransfer", "createTransfers", "reverseTransfer"},
		CreatesOrder:    {"createOrder"},
		CreatesOther:    {"createAccount", "createSku", "createSlot", "createWebhookEndpoint"},
	}, created)
}

func TestEveryRouteHasABudgetBelowTheTimeoutsOfTheServer(t *testing.T) {
	t.Parallel()
	var all []route
	for _, r := range publicRoutes() {
		all = append(all, r.route)
	}
	for _, r := range adminRoutes() {
		all = append(all, r.route)
	}
	for _, r := range all {
		require.Positive(t, r.budget, r.pattern)
		require.Less(t, r.budget, readTimeout, r.pattern)
		require.Less(t, r.budget, writeTimeout, r.pattern)
		if r.has(streamable) {
			require.Greater(t, r.asStream().budget, writeTimeout, "a stream sets the timeouts by itself")
		}
		free := r.class == reads || r.class == lists || r.class == wakes
		require.Equal(t, free, !r.has(key), "%s: what changes something is keyed", r.pattern)
	}
	require.Less(t, bodyReadMax, writeBudget)
	require.Less(t, waitMax, waitBudget)
}
