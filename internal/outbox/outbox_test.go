package outbox_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/outbox"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/pgtx"
)

// pageRows is how many events List returns at most.
const pageRows = 200

func TestMain(m *testing.M) { pgtest.Main(m) }

type bundle struct {
	pool              *pgxpool.Pool
	tenant, aggregate uuid.UUID
	at                time.Time
}

func setup(t *testing.T) bundle {
	t.Helper()
	return bundle{pgtest.New(t), uuid.New(), uuid.New(), time.UnixMicro(1_700_000_000_123_456)}
}

func (b bundle) append(t *testing.T, events ...outbox.Event) error {
	t.Helper()
	return pgtx.Pipeline(t.Context(), b.pool, "append", func(*pgx.Batch) {}, func(write *pgx.Batch) error {
		return outbox.Append(t.Context(), write, b.at, events)
	})
}

func (b bundle) list(t *testing.T, tenant, aggregate uuid.UUID, after int32) []outbox.Event {
	t.Helper()
	events, err := outbox.List(t.Context(), b.pool, tenant, aggregate, after)
	require.NoError(t, err)
	for i := range events {
		require.True(t, events[i].At.Equal(b.at))
		events[i].At = time.Time{}
	}
	return events
}

// event is the least that an event says.
func (b bundle) event(seq int32) outbox.Event {
	return outbox.Event{
		TenantID: b.tenant, AggregateID: b.aggregate, Seq: seq,
		Type: "thing.moved", To: "somewhere", Actor: "test",
	}
}

func TestEventsComeBackInTheirOrderAsTheyWere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	full := b.event(2)
	full.From, full.Reason, full.Cause = "somewhere", "because ✓", "request:7"
	full.Data = json.RawMessage(`{"b": 1, "a": [null, "\u00e9"],  "b": 2}`)
	late := b.event(3)
	require.NoError(t, b.append(t, late, b.event(1)))
	require.NoError(t, b.append(t, full))
	require.Equal(t, []outbox.Event{b.event(1), full, late}, b.list(t, b.tenant, b.aggregate, 0),
		"empty texts stay empty, no data stays none, JSON keeps its bytes")
	require.Equal(t, []outbox.Event{late}, b.list(t, b.tenant, b.aggregate, 2))
	require.Empty(t, b.list(t, b.tenant, b.aggregate, 3))
}

func TestAnEventKeepsTheTraceOfItsTransition(t *testing.T) {
	t.Parallel()
	b := setup(t)
	traced, plain := b.event(1), b.event(2)
	traced.Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	require.NoError(t, b.append(t, plain, traced))
	require.NoError(t, b.append(t, b.event(3)))
	require.Equal(t, []outbox.Event{traced, plain, b.event(3)}, b.list(t, b.tenant, b.aggregate, 0))
	require.Equal(t, 2, count(t, b.pool, "SELECT count(*) FROM events WHERE trace IS NULL"))
	relaying(t, b.pool)
	for i, e := range logged(t, b.pool, b.tenant, 3) {
		want := []string{traced.Trace, "", ""}[i]
		require.Equal(t, want, e.Trace)
		ref := outbox.Ref{AggregateID: e.AggregateID, Seq: e.Seq}
		read, err := outbox.Read(t.Context(), b.pool, b.tenant, []outbox.Ref{ref})
		require.NoError(t, err)
		require.Equal(t, want, read[ref].Trace)
	}
}

func TestNobodySeesAnothersEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := b.event(1)
	other.TenantID = uuid.New()
	sibling := b.event(1)
	sibling.AggregateID = uuid.New()
	require.NoError(t, b.append(t, b.event(1), other, sibling), "one seq for each tenant and aggregate")
	require.Equal(t, []outbox.Event{other}, b.list(t, other.TenantID, b.aggregate, 0))
	require.Equal(t, []outbox.Event{sibling}, b.list(t, b.tenant, sibling.AggregateID, 0))
	require.Empty(t, b.list(t, uuid.New(), b.aggregate, 0))
}

func TestADoubledOrBrokenEventStopsItsTransaction(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.append(t, b.event(1)))
	err := b.append(t, b.event(2), b.event(1))
	require.True(t, pgtx.Raced(err), "%v", err)
	for name, spoil := range map[string]func(*outbox.Event){
		"not JSON":         func(e *outbox.Event) { e.Data = json.RawMessage(`{`) },
		"NUL in a reason":  func(e *outbox.Event) { e.Reason = "a\x00b" },
		"before the first": func(e *outbox.Event) { e.Seq = 0 },
	} {
		bad := b.event(3)
		spoil(&bad)
		err := b.append(t, b.event(2), bad)
		require.True(t, pgtx.Broken(err), "%s: %v", name, err)
	}
	require.Equal(t, []outbox.Event{b.event(1)}, b.list(t, b.tenant, b.aggregate, 0))
}

func TestListIsPaged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var events []outbox.Event
	for seq := range int32(pageRows + 5) {
		e := b.event(seq + 1)
		e.Data = json.RawMessage(fmt.Sprintf(`{"n": %d}`, seq))
		events = append(events, e)
	}
	require.NoError(t, b.append(t, events...))
	require.Equal(t, events[:pageRows], b.list(t, b.tenant, b.aggregate, 0))
	require.Equal(t, events[pageRows:], b.list(t, b.tenant, b.aggregate, pageRows))
}

func TestNoEventsQueueNothing(t *testing.T) {
	t.Parallel()
	var write pgx.Batch
	require.NoError(t, outbox.Append(t.Context(), &write, time.Time{}, nil))
	require.Zero(t, write.Len())
}
