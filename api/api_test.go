package api_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/api"
	"example.com/holdfast/internal/problem"
)

func load(t *testing.T, text []byte) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(text)
	require.NoError(t, err)
	return doc
}

func contracts(t *testing.T) map[string]*openapi3.T {
	t.Helper()
	return map[string]*openapi3.T{"openapi.yaml": load(t, api.Public()), "admin.yaml": load(t, api.Admin())}
}

func TestTheContractsAndTheirExamplesAreValid(t *testing.T) {
	t.Parallel()
	for name, doc := range contracts(t) {
		require.NoError(t, doc.Validate(t.Context(), openapi3.EnableExamplesValidation()), name)
		require.True(t, strings.HasPrefix(doc.OpenAPI, "3.0."), "3.1 makes checks twenty times slower")
	}
}

func TestEveryObjectRefusesUnknownNames(t *testing.T) {
	t.Parallel()
	for _, doc := range contracts(t) {
		for name, schema := range doc.Components.Schemas {
			if !schema.Value.Type.Is("object") {
				continue
			}
			refuses := schema.Value.AdditionalProperties.Has
			require.True(t, refuses != nil && !*refuses, "%s has no additionalProperties: false", name)
		}
	}
}

func TestEveryOperationIsNamedDescribedAndHasAnExample(t *testing.T) {
	t.Parallel()
	for _, doc := range contracts(t) {
		for path, item := range doc.Paths.Map() {
			for method, op := range item.Operations() {
				what := method + " " + path
				require.NotEmpty(t, op.OperationID, what)
				require.NotEmpty(t, op.Summary, what)
				require.NotEmpty(t, op.Description, what)
				requireExamples(t, what, op)
			}
		}
	}
}

func requireExamples(t *testing.T, what string, op *openapi3.Operation) {
	t.Helper()
	if op.RequestBody != nil {
		require.NotNil(t, op.RequestBody.Value.Content["application/json"].Example, what)
	}
	for status, response := range op.Responses.Map() {
		if status != "default" && status != "204" { // which has no body
			require.NotNil(t, response.Value.Content["application/json"].Example, what+" "+status)
		}
	}
}

// The statuses and codes that a description lists, like "- 422 `insufficient_funds`".
var listed = regexp.MustCompile("(?m)^- (\\d{3}) `(\\w+)`$")

func TestEveryOperationListsItsProblemsInTheOrderOfTheTable(t *testing.T) {
	t.Parallel()
	for _, doc := range contracts(t) {
		for path, item := range doc.Paths.Map() {
			for method, op := range item.Operations() {
				requireListedProblems(t, method+" "+path, op.Responses.Default().Value)
			}
		}
	}
}

func requireListedProblems(t *testing.T, what string, response *openapi3.Response) {
	t.Helper()
	require.NotNil(t, response.Content["application/problem+json"], what)
	named, ok := response.Extensions["x-problems"].([]any)
	require.True(t, ok, what)
	described := listed.FindAllStringSubmatch(*response.Description, -1)
	require.Len(t, described, len(named), what)
	i := 0
	for _, m := range problem.Table() {
		if i < len(named) && named[i] == string(m.Code) {
			require.Equal(t, strconv.Itoa(m.Status), described[i][1], what)
			require.Equal(t, string(m.Code), described[i][2], what)
			i++
		}
	}
	require.Equal(t, len(named), i, "%s: unknown code, or out of order: %v", what, named)
}

func TestBothContractsDescribeSharedThingsAlike(t *testing.T) {
	t.Parallel()
	public, admin := load(t, api.Public()).Components, load(t, api.Admin()).Components
	shared := 0
	for name, schema := range admin.Schemas {
		if other, ok := public.Schemas[name]; ok {
			require.Equal(t, marshal(t, other.Value), marshal(t, schema.Value), name)
			shared++
		}
	}
	for name, parameter := range admin.Parameters {
		if other, ok := public.Parameters[name]; ok {
			require.Equal(t, marshal(t, other.Value), marshal(t, parameter.Value), name)
			shared++
		}
	}
	require.Greater(t, shared, 5)
}

func marshal(t *testing.T, v interface{ MarshalJSON() ([]byte, error) }) string {
	t.Helper()
	text, err := v.MarshalJSON()
	require.NoError(t, err)
	return string(text)
}
