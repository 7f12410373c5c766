package outbox

import (
	"context"
	"fmt"
	"time"

	"example.com/holdfast/internal/outbox/internal/outboxdb"
	"example.com/holdfast/internal/pgtx"
)

const (
	// unhandledGrace is how long after its event a delivery counts as missing from its consumer's inbox.
	unhandledGrace = 10 * time.Second
	// unhandledMaxRows bounds the look at them: what counts more says that much.
	unhandledMaxRows = 1_000
)

// Lag is how far events are behind on their ways, by Postgres's clock. All of it is zero when they are
// drained.
type Lag struct {
	// Outbox is how long the oldest event waits that has no place in the log yet.
	Outbox time.Duration
	// Last is the last place of the log.
	Last      int64
	Sinks     []SinkLag
	Consumers []ConsumerLag
	// Unhandled are the events that were delivered to a consumer a while ago and are not in its inbox.
	Unhandled []Unhandled
}

// SinkLag is how far one sink is behind.
type SinkLag struct {
	Name string
	// Events is how many places it is behind, and Age since when the oldest of them has been in the log.
	Events int64
	Age    time.Duration
}

// ConsumerLag is for how long the oldest delivery of a consumer has been due.
type ConsumerLag struct {
	Name string
	Age  time.Duration
}

// Unhandled counts the events of one type that one consumer was told of more than unhandledGrace ago and has
// not handled: the outbox has them and the inbox does not. At most unhandledMaxRows are counted over all.
type Unhandled struct {
	Consumer, Type string
	Events         int
}

// ReadLag reads the lags of the log, of its sinks and of the consumers that are named.
func ReadLag(ctx context.Context, db outboxdb.DBTX, consumers ...string) (Lag, error) {
	q := outboxdb.New()
	row, err := q.SystemLag(ctx, db)
	if err != nil {
		return Lag{}, fmt.Errorf("read lag of the log: %w", err)
	}
	lag := Lag{Outbox: seconds(row.OutboxSeconds), Last: row.Last}
	sinks, err := q.SystemSinks(ctx, db)
	if err != nil {
		return Lag{}, fmt.Errorf("read lag of sinks: %w", err)
	}
	for _, s := range sinks {
		lag.Sinks = append(lag.Sinks, SinkLag{Name: s.Name, Events: s.Places, Age: seconds(s.Seconds)})
	}
	due, err := q.SystemConsumers(ctx, db, consumers)
	if err != nil {
		return Lag{}, fmt.Errorf("read lag of consumers: %w", err)
	}
	for _, c := range due {
		lag.Consumers = append(lag.Consumers, ConsumerLag{c.Consumer, seconds(c.Seconds)})
	}
	missing, err := q.SystemUnhandled(ctx, db, outboxdb.SystemUnhandledParams{
		Grace: pgtx.Interval(unhandledGrace), PageSize: unhandledMaxRows,
	})
	if err != nil {
		return Lag{}, fmt.Errorf("count unhandled deliveries: %w", err)
	}
	for _, m := range missing {
		lag.Unhandled = append(lag.Unhandled, Unhandled{m.Consumer, m.Type, int(m.Events)})
	}
	return lag, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
