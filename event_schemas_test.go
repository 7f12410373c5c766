package holdfast_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/fsm"
	"example.com/holdfast/internal/order"
	"example.com/holdfast/internal/transfer"
)

// The schemas of what leaves the program are made from the tables of moves and from what is written here.
const (
	schemasDir = "internal/cloudevent/schemas"
	// firstSchemasDir holds each schema as it was when its type first left the program. Nothing writes there
	// over a file that is there: receivers have been built for it.
	firstSchemasDir = "internal/cloudevent/testdata/v1"
)

// schema is a JSON Schema or a part of one, with the keywords that we use.
type schema struct {
	Dialect     string   `json:"$schema,omitempty"`
	ID          string   `json:"$id,omitempty"`
	Title       string   `json:"title,omitempty"`
	Description string   `json:"description,omitempty"`
	Type        string   `json:"type"`
	Format      string   `json:"format,omitempty"`
	Pattern     string   `json:"pattern,omitempty"`
	Minimum     int      `json:"minimum,omitempty"`
	Enum        []string `json:"enum,omitempty"`
	Items       *schema  `json:"items,omitempty"`
	Required    []string `json:"required,omitempty"`
	Properties  members  `json:"properties,omitempty"`
}

// members are written in the order of their names, so the files are stable.
type members = map[string]schema

// kind is a kind of aggregate that has events.
type kind struct {
	noun string
	// says is what each of its events tells, by the state after it.
	says map[string]string
	// from has the states before each state.
	from map[string][]string
	// unexplained are the states that need no reason.
	unexplained []string
	reason      string
	// facts is what never changes of the aggregate, data what an event has beside its states.
	facts, data schema
}

var transferKind = kind{
	noun: "transfer",
	says: map[string]string{
		"accepted":  "A transfer was accepted: its amount is held.",
		"in_review": "A person has to decide about a transfer.",
		"approved":  "A transfer was approved and is about to be settled or paid out.",
		"settling":  "The payout rail has a transfer: its money may have left, and the rail's word ends it.",
		"settled":   "A transfer was settled: its money has moved. This is final.",
		"blocked":   "The risk service or a person blocked a transfer: its amount is free. This is final.",
		"canceled":  "A transfer was taken back: its amount is free. This is final.",
		"expired":   "A transfer did not end in its time: its amount is free. This is final.",
		"failed":    "A transfer cannot be made: its amount is free. This is final.",
	},
	from:        sources(transfer.Transitions),
	unexplained: []string{"accepted", "in_review", "approved", "settling", "settled"},
	reason:      "Why: a word of ours like `deadline_exhausted`, or what a person or the risk service said.",
	facts: object("What never changes of the transfer.", members{
		"from_account":     id("The account that pays."),
		"to_account":       id("The account that is paid."),
		"amount":           amount("What is moved."),
		"client_reference": text("Your own reference."),
		"metadata":         anyObject("An object of your own, as you sent it."),
		"reverses":         id("The transfer that this one reverses."),
		"created_at":       instant("When it was accepted."),
	}, "from_account", "to_account", "amount", "created_at"),
	data: anyObject("More that belongs to the event."),
}

var line = object("", members{
	"sku":        id("What."),
	"quantity":   positive("How many units."),
	"unit_price": positive("The price of one unit, in minor units of the total's currency."),
}, "sku", "quantity", "unit_price")

var orderKind = kind{
	noun: "order",
	says: map[string]string{
		"pending":   "An order was placed: what it asks for is about to be reserved.",
		"reserved":  "What an order asks for is kept for it, and its payment is on its way.",
		"confirmed": "An order was confirmed: it is paid, and its units are taken. This is final.",
		"canceled":  "An order was canceled: nothing is kept for it, what was paid goes back. This is final.",
	},
	from:        sources(order.Transitions),
	unexplained: []string{"pending", "reserved", "confirmed"},
	reason: "Why: `client`, `stock`, `slot`, `payment`, `expired`, `operator`, or `poison` if a step of " +
		"ours broke again and again.",
	facts: object("What never changes of the order.", members{
		"customer_account": id("The account that pays."),
		"merchant_account": id("The account that is paid."),
		"location":         text("Where the units are taken from."),
		"slot":             id("The delivery slot. Missing if there is none."),
		"lines":            schema{Type: "array", Description: "What was ordered, by SKU.", Items: &line},
		"total":            amount("What it costs."),
		"client_reference": text("Your own reference."),
		"metadata":         anyObject("An object of your own, as you sent it."),
		"created_at":       instant("When it was placed."),
	}, "customer_account", "merchant_account", "location", "lines", "total", "created_at"),
	data: object("More that belongs to the event.", members{
		"payment_transfer": id("The transfer that pays for the order, once there is one."),
		"note":             text("What the person said who canceled it."),
	}),
}

// sources maps each state to those from which a move leads to it.
func sources[S, E ~string](table fsm.Table[S, E]) map[string][]string {
	from := map[string][]string{}
	for _, state := range table.States() {
		from[string(state)] = nil
	}
	for _, e := range table.Edges() {
		from[string(e.To)] = append(from[string(e.To)], string(e.From))
	}
	for state := range from {
		slices.Sort(from[state])
		from[state] = slices.Compact(from[state])
	}
	return from
}

func text(description string) schema { return schema{Type: "string", Description: description} }

func formatted(format, description string) schema {
	return schema{Type: "string", Format: format, Description: description}
}

func id(description string) schema { return formatted("uuid", description) }

func instant(description string) schema { return formatted("date-time", description) }

func pattern(pattern, description string) schema {
	return schema{Type: "string", Pattern: pattern, Description: description}
}

func oneOf(description string, values ...string) schema {
	return schema{Type: "string", Enum: values, Description: description}
}

func positive(description string) schema {
	return schema{Type: "integer", Minimum: 1, Description: description}
}

func anyObject(description string) schema { return schema{Type: "object", Description: description} }

// object leaves room for members that come later: receivers overlook what they do not know.
func object(description string, properties members, required ...string) schema {
	return schema{Type: "object", Description: description, Properties: properties, Required: required}
}

func amount(description string) schema {
	return object(description, members{
		"value":    positive("How many minor units, for example cents."),
		"currency": pattern("^[A-Z]{3}$", "An ISO 4217 code."),
	}, "value", "currency")
}

// dataOf is what the event tells that brings an aggregate into a state.
func (k kind) dataOf(state string) schema {
	properties := members{
		"seq":    positive("Counts the events of the " + k.noun + ", from 1."),
		"to":     oneOf("The status after the event.", state),
		"actor":  text("Who: `api:<key id>`, `worker:<instance>`, `operator:<name>`; others may come."),
		"cause":  text("Through what: `request:<id>`, `job:<id>`, `order:<id>`; others may come."),
		"reason": text(k.reason),
		"data":   k.data,
		k.noun:   k.facts,
	}
	required := []string{"seq", "to", "actor"}
	if before := k.from[state]; len(before) > 0 {
		properties["from"] = oneOf("The status before the event.", before...)
		required = append(required, "from")
	}
	if !slices.Contains(k.unexplained, state) {
		required = append(required, "reason")
	}
	return object(k.says[state], properties, required...)
}

// envelope is what all messages have in common.
func envelope() schema {
	s := object("A message: CloudEvents 1.0 in JSON. `dataschema` leads to the schema of its `data`. "+
		"Members and values may be added: overlook what you do not know.", members{
		"specversion":     oneOf("", "1.0"),
		"id":              text("Names the message. One that comes again has the same."),
		"source":          formatted("uri-reference", "The tenant: `/tenants/<id>`."),
		"type":            text("What happened, for example `transfer.settled`."),
		"subject":         id("The aggregate that it happened to."),
		"time":            instant("When it happened."),
		"datacontenttype": oneOf("", "application/json"),
		"dataschema":      formatted("uri-reference", "Where the schema of `data` is."),
		"sequence": pattern("^[0-9]{10}$",
			"Counts the messages of one subject, from 1 and without gaps. Missing in a ping."),
		"partitionkey": id("Messages with the same one are in order. Missing in a ping."),
		"traceparent": pattern("^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
			"Where it happened in a trace (W3C Trace Context). Missing where nothing is traced."),
		"tenantid": id("The tenant."),
		"data":     anyObject("What happened."),
	}, "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "tenantid",
		"data")
	s.Title = "Message"
	return s
}

// eventSchemas are the files of all schemas, by the name of the type.
func eventSchemas(t *testing.T) map[string]string {
	t.Helper()
	schemas := map[string]schema{cloudevent.EnvelopeName: envelope()}
	for _, k := range []kind{transferKind, orderKind} {
		for state := range k.from {
			require.NotEmpty(t, k.says[state], "say what %s.%s tells", k.noun, state)
			s := k.dataOf(state)
			s.Title = strings.ToUpper(k.noun[:1]) + k.noun[1:] + " " + strings.ReplaceAll(state, "_", " ")
			schemas[k.noun+"."+state] = s
		}
		require.Len(t, k.says, len(k.from), "something is said of a state that no %s has", k.noun)
	}
	ping := object("Somebody tries an endpoint out: nothing has happened.",
		members{"endpoint": id("The endpoint that is tried out.")}, "endpoint")
	ping.Title = "Webhook ping"
	schemas[cloudevent.PingType] = ping

	written := map[string]string{}
	for name, s := range schemas {
		s.Dialect = "https://json-schema.org/draft/2020-12/schema"
		s.ID = "/v1/event-types/" + name + "/schema"
		body, err := cloudevent.Marshal(s)
		require.NoError(t, err)
		var indented bytes.Buffer
		require.NoError(t, json.Indent(&indented, body, "", "  "))
		written[name] = indented.String() + "\n"
	}
	return written
}

// TestGeneratedSchemasOfEventsAreCurrent gives every state of transfers and orders the schema of its event,
// and nothing else a schema.
func TestGeneratedSchemasOfEventsAreCurrent(t *testing.T) {
	t.Parallel()
	schemas := eventSchemas(t)
	for name, body := range schemas {
		compareOrWrite(t, path.Join(schemasDir, name+".json"), body)
	}
	entries, err := os.ReadDir(schemasDir)
	require.NoError(t, err)
	for _, entry := range entries {
		name := strings.TrimSuffix(entry.Name(), ".json")
		require.Contains(t, schemas, name, "%s has no event", entry.Name())
	}
}

// TestGeneratedFirstSchemasAreComplete keeps the first form of every schema. It writes those of new types
// only.
func TestGeneratedFirstSchemasAreComplete(t *testing.T) {
	t.Parallel()
	for name, body := range eventSchemas(t) {
		file := path.Join(firstSchemasDir, name+".json")
		if _, err := os.Stat(file); err == nil {
			continue
		}
		require.True(t, *update, "%s is missing; run: make generate", file)
		require.NoError(t, os.WriteFile(file, []byte(body), 0o644))
	}
}

// TestNoQueryChangesWhatEventsTell compares the columns that ReadFacts reads with those that any query sets.
func TestNoQueryChangesWhatEventsTell(t *testing.T) {
	t.Parallel()
	facts := regexp.MustCompile(`(?s)-- name: ReadFacts :many\nSELECT (.*?)\n  FROM `)
	set := regexp.MustCompile(`(?s)UPDATE (\w+) \w+\s+SET (.*?)\n +(?:FROM|WHERE) `)
	assigned := regexp.MustCompile(`(?:^|,\s+)(\w+) = `)
	for domain, table := range map[string]string{"transfer": "transfers", "order": "orders"} {
		queries := read(t, "db/queries/"+domain+"/"+table+".sql")
		selected := facts.FindStringSubmatch(queries)
		require.NotNil(t, selected)
		var columns []string
		for _, m := range regexp.MustCompile(`\b[to]\.(\w+)`).FindAllStringSubmatch(selected[1], -1) {
			columns = append(columns, m[1])
		}
		require.Contains(t, columns, "created_at")
		var changed []string
		for _, m := range set.FindAllStringSubmatch(sqlComment.ReplaceAllString(queries, ""), -1) {
			if m[1] == table {
				for _, a := range assigned.FindAllStringSubmatch(m[2], -1) {
					changed = append(changed, a[1])
				}
			}
		}
		require.Contains(t, changed, "state")
		require.Contains(t, changed, "wake_at")
		for _, column := range columns {
			require.NotContains(t, changed, column, "%s tells %s, which a query changes", domain, column)
		}
	}
}
