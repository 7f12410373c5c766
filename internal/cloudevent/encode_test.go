package cloudevent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/outbox"
)

var (
	tenant   = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000e0")
	first    = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000f1")
	second   = uuid.MustParse("018f2b6e-0000-7000-8000-0000000000f2")
	happened = time.UnixMicro(1_795_348_800_123_456).UTC()
)

const facts = `{"amount":{"value":125,"currency":"EUR"}}`

// settled is an event that says all that an event can say.
func settled(id uuid.UUID, seq int32) outbox.Logged {
	return outbox.Logged{Place: 700 + int64(seq), Event: outbox.Event{
		TenantID: tenant, AggregateID: id, Seq: seq, Type: "transfer.settled", From: "approved",
		To: "settled", Reason: "risk_unavailable", Actor: "worker:w1", Cause: "job:9",
		Reference: "invoice-7", Lane: 2, Data: json.RawMessage(`{"note":"late"}`), At: happened,
	}}
}

// described answers every aggregate with the same facts.
func described(_ context.Context, events []outbox.Logged) (map[uuid.UUID]json.RawMessage, error) {
	found := map[uuid.UUID]json.RawMessage{}
	for _, e := range events {
		found[e.AggregateID] = json.RawMessage(facts)
	}
	return found, nil
}

func transfers(d cloudevent.Describer) *cloudevent.Encoder {
	return &cloudevent.Encoder{Describe: map[string]cloudevent.Describer{"transfer": d}}
}

func encode(tb testing.TB, e *cloudevent.Encoder, events ...outbox.Logged) []cloudevent.Message {
	tb.Helper()
	messages, err := e.Encode(tb.Context(), events)
	require.NoError(tb, err)
	require.Len(tb, messages, len(events))
	return messages
}

// body is what tests read of a message.
type body struct {
	ID       string                     `json:"id"`
	Sequence string                     `json:"sequence"`
	Data     map[string]json.RawMessage `json:"data"`
}

func read(t require.TestingT, m cloudevent.Message) body {
	var b body
	require.NoError(t, json.Unmarshal(m.Body, &b))
	return b
}

func ExampleEncoder_Encode() {
	encoder := &cloudevent.Encoder{Describe: map[string]cloudevent.Describer{"transfer": described}}
	messages, err := encoder.Encode(context.Background(), []outbox.Logged{settled(first, 3)})
	if err != nil {
		fmt.Println(err)
		return
	}
	var body bytes.Buffer
	if err := json.Indent(&body, messages[0].Body, "", "  "); err != nil {
		fmt.Println(err)
	}
	fmt.Println(body.String())
	// Output:
	// {
	//   "specversion": "1.0",
	//   "id": "018f2b6e-0000-7000-8000-0000000000f1-3",
	//   "source": "/tenants/018f2b6e-0000-7000-8000-0000000000e0",
	//   "type": "transfer.settled",
	//   "subject": "018f2b6e-0000-7000-8000-0000000000f1",
	//   "time": "2026-11-22T12:00:00.123456Z",
	//   "datacontenttype": "application/json",
	//   "dataschema": "/v1/event-types/transfer.settled/schema",
	//   "tenantid": "018f2b6e-0000-7000-8000-0000000000e0",
	//   "sequence": "0000000003",
	//   "partitionkey": "018f2b6e-0000-7000-8000-0000000000f1",
	//   "data": {
	//     "seq": 3,
	//     "from": "approved",
	//     "to": "settled",
	//     "reason": "risk_unavailable",
	//     "actor": "worker:w1",
	//     "cause": "job:9",
	//     "data": {
	//       "note": "late"
	//     },
	//     "transfer": {
	//       "amount": {
	//         "value": 125,
	//         "currency": "EUR"
	//       }
	//     }
	//   }
	// }
}

// The trace is a part of the event, so the message stays the same whenever it is written.
func TestAMessageTellsTheTraceOfItsEventIfThereIsOne(t *testing.T) {
	t.Parallel()
	plain, traced := settled(first, 3), settled(first, 3)
	traced.Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	messages := encode(t, transfers(nil), plain, traced)
	requireFits(t, messages[1])
	require.Equal(t, traced.Trace, messages[1].Trace)
	member := `"traceparent":"` + traced.Trace + `",`
	require.Contains(t, string(messages[1].Body), member)
	require.Equal(t, string(messages[0].Body), strings.Replace(string(messages[1].Body), member, "", 1),
		"without one, it is the message that it always was")
	require.Equal(t, messages[1], encode(t, transfers(nil), traced)[0])
}

func TestAMessageNamesItsEvent(t *testing.T) {
	t.Parallel()
	m := encode(t, transfers(described), settled(first, 3))[0]
	require.NotEmpty(t, m.Body)
	m.Body = nil
	require.Equal(t, cloudevent.Message{
		ID: first.String() + "-3", Type: "transfer.settled", TenantID: tenant, AggregateID: first, Seq: 3,
		Place: 703, At: happened,
	}, m)
	require.NotContains(t, m.ID, ".", "signatures of webhooks need ids without dots")
}

func TestWhatAnEventDoesNotSayIsMissing(t *testing.T) {
	t.Parallel()
	m := encode(t, &cloudevent.Encoder{}, outbox.Logged{Event: outbox.Event{
		TenantID: tenant, AggregateID: first, Seq: 1, Type: "transfer.accepted", To: "accepted",
		Actor: "api:k",
	}})[0]
	require.Contains(t, string(m.Body), `"data":{"seq":1,"to":"accepted","actor":"api:k"}}`)
}

func TestAnEventIsTheSameMessageWheneverItIsWritten(t *testing.T) {
	t.Parallel()
	page := []outbox.Logged{settled(first, 1), settled(second, 1), settled(first, 2)}
	together := encode(t, transfers(described), page...)
	slices.Reverse(page)
	for i, again := range encode(t, transfers(described), page...) {
		require.Equal(t, string(together[2-i].Body), string(again.Body))
	}
	slices.Reverse(page)
	for i, event := range page {
		event.At = event.At.In(time.FixedZone("elsewhere", 3600))
		event.Place, event.Reference, event.Lane = 0, "", 0
		require.Equal(t, string(together[i].Body), string(encode(t, transfers(described), event)[0].Body),
			"neither the reader's clock nor the place in the log shows")
	}
}

func TestADescriberIsAskedOnceAboutAllEventsOfItsKind(t *testing.T) {
	t.Parallel()
	type asked struct {
		kind   string
		events []outbox.Logged
	}
	var calls []asked
	listen := func(kind string) cloudevent.Describer {
		return func(_ context.Context, events []outbox.Logged) (map[uuid.UUID]json.RawMessage, error) {
			calls = append(calls, asked{kind, events})
			return map[uuid.UUID]json.RawMessage{second: json.RawMessage(`{"of":"` + kind + `"}`)}, nil
		}
	}
	placed := settled(second, 1)
	placed.Type = "order.pending"
	parcel := settled(second, 1)
	parcel.Type = "parcel"
	page := []outbox.Logged{settled(first, 1), placed, settled(second, 1), parcel, settled(first, 2)}
	messages := encode(t, &cloudevent.Encoder{Describe: map[string]cloudevent.Describer{
		"transfer": listen("transfer"), "order": listen("order"), "payment": listen("payment"), "void": nil,
	}}, page...)
	require.Equal(t, []asked{
		{"order", []outbox.Logged{placed}},
		{"transfer", []outbox.Logged{page[0], page[2], page[4]}},
	}, calls)
	for i, want := range []string{"", `{"of":"order"}`, `{"of":"transfer"}`, "", ""} {
		data := read(t, messages[i]).Data
		got := string(data["transfer"]) + string(data["order"]) + string(data["parcel"])
		require.Equal(t, want, got, page[i].Type)
	}
}

func TestWhatNobodyDescribesIsLeftOut(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]cloudevent.Describer{
		"nobody": nil,
		"nothing": func(context.Context, []outbox.Logged) (map[uuid.UUID]json.RawMessage, error) {
			return nil, nil
		},
		"empty": func(context.Context, []outbox.Logged) (map[uuid.UUID]json.RawMessage, error) {
			return map[uuid.UUID]json.RawMessage{first: {}}, nil
		},
		"another": func(context.Context, []outbox.Logged) (map[uuid.UUID]json.RawMessage, error) {
			return map[uuid.UUID]json.RawMessage{second: json.RawMessage(facts)}, nil
		},
	} {
		data := read(t, encode(t, transfers(d), settled(first, 3))[0]).Data
		require.NotContains(t, data, "transfer", name)
		require.JSONEq(t, `"settled"`, string(data["to"]), name)
	}
}

func TestJSONInsideAMessageKeepsItsForm(t *testing.T) {
	t.Parallel()
	const kept = `{"z":1.50,"a":12345678901234567890123,"z":"<&>\u00e9` + "\u2028" +
		`","e":1E400,"s":"\ud800"}`
	event := settled(first, 3)
	event.Data = json.RawMessage(strings.ReplaceAll(kept, `,"`, ",\n\t \""))
	event.Reason = `"<b>" & ` + "\n"
	m := encode(t, transfers(func(context.Context, []outbox.Logged) (map[uuid.UUID]json.RawMessage, error) {
		return map[uuid.UUID]json.RawMessage{first: event.Data}, nil
	}), event)[0]
	require.Contains(t, string(m.Body), `"data":`+kept+`,"transfer":`+kept, "all but the space in it")
	require.Contains(t, string(m.Body), `"reason":"\"<b>\" & \n"`)
	require.NotContains(t, string(m.Body), "\n", "a message is one line")
}

func TestWhatIsNoJSONIsNoMessage(t *testing.T) {
	t.Parallel()
	broken := settled(first, 3)
	broken.Data = json.RawMessage(`{"note":`)
	messages, err := transfers(described).Encode(t.Context(), []outbox.Logged{settled(second, 1), broken})
	require.ErrorContains(t, err, "encode event "+first.String()+"-3: ")
	require.Nil(t, messages)

	for _, text := range []string{`{"a":`, `{},"b":2`, `{}}`, "x"} {
		_, err = transfers(func(context.Context, []outbox.Logged) (map[uuid.UUID]json.RawMessage, error) {
			return map[uuid.UUID]json.RawMessage{first: json.RawMessage(text)}, nil
		}).Encode(t.Context(), []outbox.Logged{settled(first, 3)})
		require.ErrorContains(t, err, "encode event "+first.String()+"-3: ", text)
	}
}

func TestWithoutItsFactsAnEventIsNoMessage(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	messages, err := transfers(func(context.Context, []outbox.Logged) (map[uuid.UUID]json.RawMessage, error) {
		return nil, away
	}).Encode(t.Context(), []outbox.Logged{settled(first, 3), settled(second, 1)})
	require.ErrorIs(t, err, away)
	require.EqualError(t, err, "describe 2 events of kind transfer: away")
	require.Nil(t, messages)
}

func TestNoEventsAreNoMessages(t *testing.T) {
	t.Parallel()
	require.Empty(t, encode(t, transfers(func(context.Context, []outbox.Logged) (
		map[uuid.UUID]json.RawMessage, error,
	) {
		return nil, errors.New("asked about nothing")
	})))
}

func TestSequencesSortAsTheirEvents(t *testing.T) {
	t.Parallel()
	var sequences []string
	for _, seq := range []int32{1, 2, 9, 10, 11, 99, 100, 1 << 30, 1<<31 - 1} {
		sequences = append(sequences, read(t, encode(t, transfers(nil), settled(first, seq))[0]).Sequence)
	}
	require.True(t, slices.IsSorted(sequences), "CloudEvents compares them as texts: %v", sequences)
	require.Len(t, slices.Compact(sequences), 9)
}

func TestTheAddressOfASchemaBeginsWithTheBase(t *testing.T) {
	t.Parallel()
	e := transfers(described)
	e.Base = "https://api.example.com"
	m := encode(t, e, settled(first, 3))[0]
	require.Contains(t, string(m.Body),
		`"dataschema":"https://api.example.com/v1/event-types/transfer.settled/schema"`)
	ping, err := e.EncodePing(cloudevent.Ping{})
	require.NoError(t, err)
	require.Contains(t, string(ping.Body),
		`"dataschema":"https://api.example.com/v1/event-types/webhook.ping/schema"`)
}

func TestAPingTellsOfNoEvent(t *testing.T) {
	t.Parallel()
	const id = "ping-17"
	endpoint := uuid.New()
	p := cloudevent.Ping{ID: id, TenantID: tenant, EndpointID: endpoint, At: happened}
	m, err := (&cloudevent.Encoder{}).EncodePing(p)
	require.NoError(t, err)
	require.JSONEq(t, `{"specversion":"1.0","id":"`+id+`","source":"/tenants/`+tenant.String()+`",
		"type":"webhook.ping","subject":"`+endpoint.String()+`","time":"2026-11-22T12:00:00.123456Z",
		"datacontenttype":"application/json","dataschema":"/v1/event-types/webhook.ping/schema",
		"tenantid":"`+tenant.String()+`","data":{"endpoint":"`+endpoint.String()+`"}}`, string(m.Body))
	again, err := (&cloudevent.Encoder{}).EncodePing(p)
	require.NoError(t, err)
	require.Equal(t, m, again)
	require.NotContains(t, m.ID, ".")
	m.Body = nil
	require.Equal(t, cloudevent.Message{
		ID: id, Type: cloudevent.PingType, TenantID: tenant, AggregateID: endpoint, At: happened,
	}, m)
}

func TestAggregatesAreNamedOnce(t *testing.T) {
	t.Parallel()
	elsewhere := settled(first, 1)
	elsewhere.TenantID = uuid.New()
	tenants, ids := cloudevent.Aggregates([]outbox.Logged{
		settled(second, 1), settled(first, 1), elsewhere, settled(second, 2), settled(first, 7),
	})
	require.Equal(t, []uuid.UUID{second, first, first}, ids)
	require.Equal(t, []uuid.UUID{tenant, tenant, elsewhere.TenantID}, tenants)
}

// TestAnyTextOfAnEventArrives writes what people and dependencies may have said.
func TestAnyTextOfAnEventArrives(t *testing.T) {
	t.Parallel()
	e := transfers(described)
	rapid.Check(t, func(rt *rapid.T) {
		event := settled(first, rapid.Int32Min(1).Draw(rt, "seq"))
		event.Reason = rapid.String().Draw(rt, "reason")
		event.Actor = rapid.String().Draw(rt, "actor")
		messages, err := e.Encode(t.Context(), []outbox.Logged{event})
		require.NoError(rt, err)
		b := read(rt, messages[0])
		require.Equal(rt, cloudevent.ID(first, event.Seq), b.ID)
		var reason, actor string
		require.NoError(rt, json.Unmarshal(b.Data["actor"], &actor))
		require.Equal(rt, event.Actor, actor)
		if event.Reason != "" {
			require.NoError(rt, json.Unmarshal(b.Data["reason"], &reason))
		}
		require.Equal(rt, event.Reason, reason)
		require.NotContains(rt, string(messages[0].Body), "\n")
	})
}

// TestWhatIsNoTextHoldsNoEventUp writes bytes that Postgres would not have stored.
func TestWhatIsNoTextHoldsNoEventUp(t *testing.T) {
	t.Parallel()
	event := settled(first, 3)
	event.Reason = "a\xffb"
	require.JSONEq(t, `"a\ufffdb"`, string(read(t, encode(t, transfers(nil), event)[0]).Data["reason"]))
}

func BenchmarkEncode(b *testing.B) {
	page := make([]outbox.Logged, outbox.LogPageMax)
	for i := range page {
		page[i] = settled(uuid.New(), int32(i%5+1))
	}
	e := transfers(func(_ context.Context, events []outbox.Logged) (map[uuid.UUID]json.RawMessage, error) {
		found := make(map[uuid.UUID]json.RawMessage, len(events))
		for _, event := range events {
			found[event.AggregateID] = json.RawMessage(
				`{"from_account":"018f2b6e-0000-7000-8000-0000000000a1",` +
					`"to_account":"018f2b6e-0000-7000-8000-0000000000a2",` +
					`"amount":{"value":125,"currency":"EUR"},"client_reference":"invoice-7",` +
					`"metadata":{"order":"7"},"created_at":"2026-11-22T12:00:00.123456Z"}`)
		}
		return found, nil
	})
	b.ReportAllocs()
	for b.Loop() {
		encode(b, e, page...)
	}
}
