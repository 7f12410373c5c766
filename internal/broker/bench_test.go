package broker_test

import (
	"slices"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/cloudevent"
	"example.com/holdfast/internal/outbox"
)

const (
	// benchMessages is how many messages one round publishes.
	benchMessages = 10_000
	// benchBodyBytes is about what an event of a transfer has.
	benchBodyBytes = 700
)

// BenchmarkPublish sends pages to a server in the same process, which writes them to files. How many messages
// of a page belong to one aggregate decides how many waves it takes.
func BenchmarkPublish(b *testing.B) {
	b.Run("1_event_each", func(b *testing.B) { benchPublish(b, 1, outbox.LogPageMax) })
	b.Run("2_events_each", func(b *testing.B) { benchPublish(b, 2, outbox.LogPageMax) })
	b.Run("5_events_each", func(b *testing.B) { benchPublish(b, 5, outbox.LogPageMax) })
	b.Run("20_events_each", func(b *testing.B) { benchPublish(b, 20, outbox.LogPageMax) })
	b.Run("one_after_the_other", func(b *testing.B) { benchPublish(b, 1, 1) })
	b.Run("5_events_each_synced", func(b *testing.B) {
		benchPublish(b, 5, outbox.LogPageMax, func(o *server.Options) { o.SyncAlways = true })
	})
}

func benchPublish(b *testing.B, each, page int, change ...func(*server.Options)) {
	b.Helper()
	publishing := connect(b, newServer(b, change...).url())
	for b.Loop() {
		b.StopTimer()
		var messages []cloudevent.Message
		for _, a := range aggregates(benchMessages / each) {
			messages = append(messages, history(a, int32(each))...)
		}
		for i := range messages {
			messages[i].Body = make([]byte, benchBodyBytes)
		}
		b.StartTimer()
		for p := range slices.Chunk(messages, page) {
			require.NoError(b, publishing.Publish(b.Context(), p))
		}
	}
	b.ReportMetric(float64(benchMessages*b.N)/b.Elapsed().Seconds(), "msgs/s")
}
