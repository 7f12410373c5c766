package cloudevent_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/outbox"
)

func names() []string {
	var found []string
	for _, of := range cloudevent.Types() {
		found = append(found, of.Name)
	}
	return found
}

func TestTypesAreExplained(t *testing.T) {
	t.Parallel()
	types := cloudevent.Types()
	require.True(t, slices.IsSorted(names()))
	require.Subset(t, names(), []string{"transfer.settled", "order.confirmed", cloudevent.PingType})
	require.NotContains(t, names(), cloudevent.EnvelopeName)
	for _, of := range types {
		require.NotEmpty(t, of.Title, of.Name)
		require.NotEmpty(t, of.Description, of.Name)
		body, ok := cloudevent.SchemaOf(of.Name)
		require.True(t, ok)
		require.Equal(t, of.Schema, body)
	}
}

func TestWhatIsNoTypeHasNoSchema(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "transfer", "transfer.settled.json", "../schemas/transfer.settled"} {
		_, ok := cloudevent.SchemaOf(name)
		require.False(t, ok, name)
	}
	body, ok := cloudevent.SchemaOf(cloudevent.EnvelopeName)
	require.True(t, ok, "the schema of the message is found like those of its data")
	require.Contains(t, string(body), "specversion")
}

func parsed(t require.TestingT, text []byte) map[string]any {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	object, ok := value.(map[string]any)
	require.True(t, ok)
	return object
}

// closed is a schema that refuses members that it does not name. Ours leave room for members to come; a
// test lets none of ours come unnoticed.
func closed(s map[string]any) map[string]any {
	properties, named := s["properties"].(map[string]any)
	if named {
		s["additionalProperties"] = false
	}
	for _, of := range properties {
		closed(of.(map[string]any))
	}
	if items, ok := s["items"].(map[string]any); ok {
		closed(items)
	}
	return s
}

// compiled checks a schema and makes it ready to check others, formats and all.
func compiled(t *testing.T, name string, s map[string]any) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	at := "https://api.example.com/v1/event-types/" + name + "/schema"
	require.NoError(t, c.AddResource(at, s))
	found, err := c.Compile(at)
	require.NoError(t, err, name)
	return found
}

func schemaOf(t *testing.T, name string) map[string]any {
	t.Helper()
	body, ok := cloudevent.SchemaOf(name)
	require.True(t, ok, "%s has no schema", name)
	return parsed(t, body)
}

// requireFits holds a message to the schema of its envelope, and its data to that of its type.
func requireFits(t *testing.T, m cloudevent.Message) {
	t.Helper()
	whole := parsed(t, m.Body)
	require.NoError(t, compiled(t, cloudevent.EnvelopeName, closed(schemaOf(t, cloudevent.EnvelopeName))).
		Validate(whole), "%s", m.Body)
	require.NoError(t, compiled(t, m.Type, closed(schemaOf(t, m.Type))).Validate(whole["data"]), "%s", m.Body)
}

func TestSchemasAreOfTheNewestDialectAndNameThemselves(t *testing.T) {
	t.Parallel()
	for _, name := range append(names(), cloudevent.EnvelopeName) {
		s := schemaOf(t, name)
		compiled(t, name, s)
		require.Equal(t, "https://json-schema.org/draft/2020-12/schema", s["$schema"])
		require.Equal(t, "/v1/event-types/"+name+"/schema", s["$id"])
		text, err := json.Marshal(s)
		require.NoError(t, err)
		require.NotContains(t, string(text), "additionalProperties", "members may be added to %s", name)
		require.NotContains(t, string(text), `"$ref"`, "%s stands alone", name)
	}
}

func TestAPingFitsItsSchema(t *testing.T) {
	t.Parallel()
	m, err := (&cloudevent.Encoder{Base: "https://api.example.com"}).EncodePing(cloudevent.Ping{
		ID: "ping-1", TenantID: tenant, EndpointID: uuid.New(), At: happened,
	})
	require.NoError(t, err)
	requireFits(t, m)
}

// TestASchemaRefusesWhatIsNotSo breaks a message that fits, member by member.
func TestASchemaRefusesWhatIsNotSo(t *testing.T) {
	t.Parallel()
	event := settled(first, 3)
	event.Data = nil
	m := encode(t, transfers(nil), event)[0]
	requireFits(t, m)
	data := compiled(t, m.Type, schemaOf(t, m.Type))
	for _, change := range []string{
		`"seq":3 -> "seq":0`, `"seq":3 -> "seq":"3"`, `"from":"approved", -> `,
		`"from":"approved" -> "from":"accepted"`, `"to":"settled" -> "to":"failed"`,
		`"actor":"worker:w1", -> `, `"actor":"worker:w1" -> "actor":null`,
		`"cause":"job:9" -> "transfer":{"amount":1}`, `"cause":"job:9" -> "data":[]`,
	} {
		old, other, _ := strings.Cut(change, " -> ")
		broken := strings.Replace(string(m.Body), old, other, 1)
		require.NotEqual(t, string(m.Body), broken, change)
		require.Error(t, data.Validate(parsed(t, []byte(broken))["data"]), change)
	}
	whole := compiled(t, cloudevent.EnvelopeName, schemaOf(t, cloudevent.EnvelopeName))
	for _, change := range []string{
		`"1.0" -> "0.3"`, `"subject":" -> "subject":"x`, `T12:00 -> T25:00`, `"sequence":"0 -> "sequence":"`,
		`"data":{ -> "date":{`,
	} {
		old, other, _ := strings.Cut(change, " -> ")
		broken := strings.Replace(string(m.Body), old, other, 1)
		require.NotEqual(t, string(m.Body), broken, change)
		require.Error(t, whole.Validate(parsed(t, []byte(broken))), change)
	}
}

// TestACloseSchemaRefusesMembersThatNobodyNamed shows that the tests of lives notice them.
func TestACloseSchemaRefusesMembersThatNobodyNamed(t *testing.T) {
	t.Parallel()
	event := settled(first, 3)
	event.Type = "order.canceled"
	event.From, event.To = "reserved", "canceled"
	data := func(text string) any {
		e := event
		e.Data = json.RawMessage(text)
		return parsed(t, encode(t, &cloudevent.Encoder{}, []outbox.Logged{e}...)[0].Body)["data"]
	}
	open := compiled(t, event.Type, schemaOf(t, event.Type))
	require.NoError(t, open.Validate(data(`{"note":"late","mood":"bad"}`)))
	strict := compiled(t, event.Type, closed(schemaOf(t, event.Type)))
	require.NoError(t, strict.Validate(data(`{"note":"late"}`)))
	require.Error(t, strict.Validate(data(`{"note":"late","mood":"bad"}`)))
}
